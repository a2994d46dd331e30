//! Power cuts in the middle of state writes, on a real file system.
//!
//! ext4 on a loop device is shut down at once at a random moment, without writing its journal or
//! anything else that was not flushed (`EXT4_IOC_SHUTDOWN`, what xfstests' `godown` does): to the disk
//! that is a power cut. Mounted again, the file must be wholly one that was written, and not older than
//! the last one whose write was acknowledged.

use hotpair_host::durable::{Format, read_checked, write_checked};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FORMAT: Format = Format {
    magic: *b"hp-test\0",
    version: 1,
};
const LIMIT: usize = 64 * 1024;
/// A cut takes some 50 ms, on a busy machine a second: as many as fit.
const CUTS: u64 = 100;
const SPAN: Duration = Duration::from_secs(12);

/// `_IOR('X', 125, u32)` of Linux's `ext4.h`.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`
static WITHOUT_JOURNAL: u32 = 2;

/// What write number `number` writes; its length varies over a few blocks.
fn content(number: u64) -> Vec<u8> {
    let length = 8 + usize::try_from(number * 7919 % 40_000).unwrap();
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((8..length).map(|at| (at as u64 * (number | 1) % 251) as u8));
    bytes
}

/// The number of what is there; panics if it is anything that was never written.
fn found(path: &Path) -> u64 {
    let Some(bytes) = read_checked(path, FORMAT, LIMIT).unwrap_or_else(|e| panic!("torn: {e}"))
    else {
        return 0;
    };
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, content(number), "neither old nor new");
    number
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

/// Cuts the power of the file system that `dir` is the root of.
fn cut_power(dir: &File) {
    // SAFETY: the request reads one u32, which outlives the call; the descriptor is open.
    let answer = unsafe { libc::ioctl(dir.as_raw_fd(), SHUTDOWN, &raw const WITHOUT_JOURNAL) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// Writes one after the other until the power is gone.
fn write_on(path: &Path, from: u64, begun: &AtomicU64, acknowledged: &AtomicU64) {
    for number in from.. {
        begun.store(number, Ordering::SeqCst);
        if write_checked(path, FORMAT, &content(number)).is_err() {
            return;
        }
        acknowledged.store(number, Ordering::SeqCst);
    }
}

fn cut_again_and_again(image: &str, dir: &Path) {
    let path = dir.join("state");
    let (begun, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let (mut whole, mut in_flight) = (0, 0);
    let end = Instant::now() + SPAN;
    for cut in 0..CUTS {
        if Instant::now() >= end {
            break;
        }
        run("mount", &["-o", "loop", image, dir.to_str().unwrap()]);
        let there = found(&path);
        let (least, most) = (
            acknowledged.load(Ordering::SeqCst),
            begun.load(Ordering::SeqCst),
        );
        assert!(
            (least..=most).contains(&there),
            "after cut {cut}: write {there} is there; {least} was acknowledged, {most} begun"
        );
        whole += u64::from(there == least);
        in_flight += u64::from(there > least);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let root = File::open(dir).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| write_on(&path, most + 1, &begun, &acknowledged));
            let cut_at = Instant::now() + Duration::from_micros(random % 8_000);
            while Instant::now() < cut_at {
                std::hint::spin_loop();
            }
            cut_power(&root);
        });
        drop(root);
        unmount(dir, UnmountFlags::empty()).unwrap();
    }
    let (begun, acknowledged) = (begun.into_inner(), acknowledged.into_inner());
    eprintln!("{whole} cuts left the old state, {in_flight} the new; {begun} writes");
    assert!(acknowledged > 0, "nothing was written");
}

#[test]
fn power_cuts_leave_the_old_state_or_the_new_and_nothing_acknowledged_is_lost() {
    let scratch = tempfile::tempdir().unwrap();
    let image: PathBuf = scratch.path().join("disk");
    let dir = scratch.path().join("mounted");
    std::fs::create_dir(&dir).unwrap();
    File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let image = image.to_str().unwrap();
    run("mkfs.ext4", &["-q", "-F", image]);
    let in_namespace = || {
        // SAFETY: takes no pointer; concerns only this thread, which ends after the test.
        assert_eq!(
            unsafe { libc::unshare(libc::CLONE_NEWNS) },
            0,
            "this test needs root"
        );
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        cut_again_and_again(image, &dir);
    };
    std::thread::scope(|scope| scope.spawn(in_namespace).join().unwrap());
}
