//! Real block devices: FUSE and loop, or nbd in a guest, in a process of its own, with a stand-in for the engine.
//! As root, with /dev/fuse and loop devices.

mod bed;
mod guest;
mod pair;
mod proxy;
mod snapshot;

use bed::Bed;
use hotpair_host::clock;
use hotpair_volume::protocol::{ToMirror, Work};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

const MIB: u64 = 1024 * 1024;

/// Not a test: what [`Bed::start`] runs.
#[test]
fn serve() {
    bed::serve_if_child();
}

fn open(path: &Path, flags: i32) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
        .unwrap()
}

/// Bytes at an address that direct I/O takes.
fn aligned(length: usize, fill: impl Fn(usize) -> u8) -> (Vec<u8>, std::ops::Range<usize>) {
    let mut memory = vec![0; length + 4096];
    let start = memory.as_ptr().align_offset(4096);
    for (index, byte) in memory[start..start + length].iter_mut().enumerate() {
        *byte = fill(index);
    }
    (memory, start..start + length)
}

fn read(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let (mut memory, range) = aligned(length, |_| 0);
    file.read_exact_at(&mut memory[range.clone()], offset)?;
    Ok(memory[range].to_vec())
}

fn write(file: &File, offset: u64, length: usize, fill: impl Fn(usize) -> u8) -> io::Result<()> {
    let (memory, range) = aligned(length, fill);
    file.write_all_at(&memory[range], offset)
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    let output = Command::new(program)
        .args(arguments)
        .arg(path)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_is_written_to_the_device_is_in_the_image_and_comes_back() {
    let mut bed = Bed::start("write", 64 * MIB);
    let path = bed.open();
    let device = open(&path, libc::O_DIRECT);
    let fill = |index: usize| u8::try_from(index / 512 % 251).unwrap();
    // Longer than one request, and at odd places.
    write(&device, 12 * 4096, 3 * 1024 * 1024, fill).unwrap();
    write(&device, 63 * MIB, 4096, |_| 7).unwrap();
    device.sync_all().unwrap();
    let image = File::open(bed.directory.path().join("image")).unwrap();
    let mut bytes = vec![0; 3 * 1024 * 1024];
    image.read_exact_at(&mut bytes, 12 * 4096).unwrap();
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == fill(at)));
    assert_eq!(read(&device, 12 * 4096, bytes.len()).unwrap(), bytes);
    assert_eq!(read(&device, 63 * MIB, 4096).unwrap(), vec![7; 4096]);
    drop(device);
    bed.work(Work::Close).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_device_in_use_is_not_closed_and_goes_on() {
    let mut bed = Bed::start("in-use", 32 * MIB);
    let path = bed.open();
    let held = open(&path, libc::O_EXCL);
    let error = bed.work(Work::Close).unwrap_err();
    assert!(error.contains("in use"), "{error}");
    write(&held, 0, 4096, |_| 1).unwrap();
    held.sync_all().unwrap();
    drop(held);
    bed.work(Work::Close).unwrap();
    let again = bed.open();
    assert_eq!(read(&open(&again, 0), 0, 4096).unwrap(), vec![1; 4096]);
}

#[test]
fn a_filesystem_lives_through_a_restart_of_the_daemon() {
    let mut bed = Bed::start("mounted", 64 * MIB);
    let path = bed.open();
    run("mkfs.ext4", &["-q", "-F"], &path);
    let place = bed.directory.path().join("mnt");
    std::fs::create_dir(&place).unwrap();
    let mount = Mounted::at(&path, &place);
    std::fs::write(place.join("one"), b"one").unwrap();
    bed.mirror.connect().unwrap();
    std::fs::write(place.join("two"), vec![2; 1 << 20]).unwrap();
    File::open(place.join("two")).unwrap().sync_all().unwrap();
    let error = bed.work(Work::Close).unwrap_err();
    assert!(error.contains("in use"), "{error}");
    drop(mount);
    bed.mirror.close().unwrap();
    run("e2fsck", &["-f", "-n"], &bed.directory.path().join("image"));
}

#[test]
fn a_closed_gate_fails_requests_at_once_and_for_ever() {
    let mut bed = Bed::start("gate", 32 * MIB);
    let path = bed.open();
    let device = open(&path, libc::O_DIRECT);
    write(&device, 0, 4096, |_| 1).unwrap();
    bed.mirror.gate.close();
    let failed = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
    };
    failed(write(&device, 0, 4096, |_| 2));
    bed.mirror.gate.open(clock::read(), None);
    failed(write(&device, 4096, 4096, |_| 2));
    failed(read(&device, 0, 4096).map(drop));
    bed.work(Work::Abort).unwrap();
    drop(device);
    let path = bed.open();
    let device = open(&path, libc::O_DIRECT);
    assert_eq!(read(&device, 0, 8192).unwrap()[..4096], [1; 4096]);
    assert_eq!(read(&device, 0, 8192).unwrap()[4096..], [0; 4096]);
}

#[test]
fn a_deadline_that_passes_shuts_the_device() {
    let mut bed = Bed::start("deadline", 32 * MIB);
    bed.mirror.gate.open(clock::read(), Some(500_000));
    let path = bed.open();
    let device = open(&path, libc::O_DIRECT);
    let begin = std::time::Instant::now();
    while write(&device, 0, 4096, |_| 1).is_ok() {
        assert!(begin.elapsed().as_secs() < 10);
    }
}

#[test]
fn without_permission_nothing_is_opened() {
    let mut bed = Bed::start("no-gate", 32 * MIB);
    bed.mirror.gate.close();
    let epoch = hotpair_core::ids::Epoch(1);
    let error = bed.work(Work::Open { epoch }).unwrap_err();
    assert!(error.contains("write gate is closed"), "{error}");
    bed.mirror.gate.open(clock::read(), None);
    bed.open();
}

#[test]
fn nothing_hangs_when_the_process_is_killed_and_the_next_one_clears_up() {
    let mut bed = Bed::start("killed", 64 * MIB);
    let path = bed.open();
    let real = path.canonicalize().unwrap();
    run("mkfs.ext4", &["-q", "-F"], &path);
    let place = bed.directory.path().join("mnt");
    std::fs::create_dir(&place).unwrap();
    let mount = Mounted::at(&path, &place);
    std::fs::write(place.join("kept"), vec![3; 1 << 20]).unwrap();
    File::open(place.join("kept")).unwrap().sync_all().unwrap();
    std::fs::write(place.join("dirty"), vec![4; 4 << 20]).unwrap();
    bed.mirror.child.kill().unwrap();
    bed.mirror.child.wait().unwrap();
    let file = File::open(place.join("dirty")).unwrap();
    assert!(file.sync_all().is_err());
    // Still mounted: the device is let go of when the last user is gone.
    bed.mirror.restart().unwrap();
    bed.wait_for_note("earlier process");
    drop(file);
    drop(mount);
    let again = bed.open();
    // The journal is replayed.
    let mount = Mounted::at(&again, &place);
    assert_eq!(std::fs::read(place.join("kept")).unwrap(), vec![3; 1 << 20]);
    drop(mount);
    bed.mirror.close().unwrap();
    run("e2fsck", &["-f", "-n"], &bed.directory.path().join("image"));
    let number = real.file_name().unwrap().to_str().unwrap();
    assert!(!Path::new("/sys/block").join(number).join("loop").exists());
}

#[test]
fn discards_become_holes_that_read_as_zeros() {
    use std::os::unix::fs::MetadataExt;
    let mut bed = Bed::start("discard", 64 * MIB);
    let path = bed.open();
    let device = open(&path, libc::O_DIRECT);
    write(&device, 0, 8 << 20, |_| 9).unwrap();
    device.sync_all().unwrap();
    let image = bed.directory.path().join("image");
    let before = std::fs::metadata(&image).unwrap().blocks();
    run(
        "blkdiscard",
        &["--offset", "1048576", "--length", "4194304"],
        &path,
    );
    assert!(std::fs::metadata(&image).unwrap().blocks() + 8000 < before);
    assert_eq!(read(&device, MIB, 4 << 20).unwrap(), vec![0; 4 << 20]);
    assert_eq!(read(&device, 0, 4096).unwrap(), vec![9; 4096]);
    run(
        "blkdiscard",
        &["--zeroout", "--offset", "0", "--length", "4096"],
        &path,
    );
    assert_eq!(read(&device, 0, 4096).unwrap(), vec![0; 4096]);
}

#[test]
fn the_process_ends_when_it_is_told_but_not_under_a_mount() {
    let mut bed = Bed::start("end", 32 * MIB);
    let path = bed.open();
    let held = open(&path, libc::O_EXCL);
    bed.say(&ToMirror::End);
    bed.wait_for_note("in use");
    drop(held);
    bed.say(&ToMirror::End);
    assert!(bed.mirror.child.wait().unwrap().success());
    assert!(!path.exists());
}

/// A mounted filesystem, until it is dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn at(device: &Path, place: &'a Path) -> Self {
        run("mount", &[device.to_str().unwrap()], place);
        Self(place)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0).status();
        assert!(unmounted.unwrap().success());
    }
}
