//! Two processes with the real engine that replicate over TLS on loopback.

use super::{MIB, Mounted, open, read, run, write};
use crate::bed;
use crate::proxy::Proxy;
use hotpair_core::ids::{Epoch, MemberId};
use hotpair_core::mirror::Generation;
use hotpair_volume::protocol::{FromMirror, ToMirror};
use hotpair_volume::testing::Pair;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const SIZE: u64 = 64 * MIB;

fn bytes_of(directory: &Path, node: usize) -> Vec<u8> {
    let image = directory.join(format!("node{node}/image"));
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    File::open(image)
        .unwrap()
        .read_exact_at(&mut bytes, 0)
        .unwrap();
    bytes
}

#[test]
fn what_is_written_is_on_both_and_read_on_the_other_side_after_a_switchover() {
    let (mut pair, directory) = bed::pair("switch", SIZE);
    let path = pair.make().unwrap();
    pair.wait_in_sync().unwrap();
    let device = open(&path, libc::O_DIRECT);
    write(&device, 3 * MIB, 5 << 20, |at| {
        u8::try_from(at % 249).unwrap()
    })
    .unwrap();
    device.sync_all().unwrap();
    let written = read(&device, 3 * MIB, 5 << 20).unwrap();
    drop(device);
    pair.nodes[0].close().unwrap();
    pair.hold(1).unwrap();
    let other = pair.open(1).unwrap();
    let device = open(&other, libc::O_DIRECT);
    assert_eq!(read(&device, 3 * MIB, 5 << 20).unwrap(), written);
    drop(device);
    pair.nodes[1].close().unwrap();
    assert!(bytes_of(directory.path(), 1) == bytes_of(directory.path(), 2));
}

#[test]
fn the_standby_is_killed_and_catches_up_with_what_was_written_meanwhile() {
    let (mut pair, directory) = bed::pair("catch-up", SIZE);
    let path = pair.make().unwrap();
    pair.wait_in_sync().unwrap();
    run("mkfs.ext4", &["-q", "-F"], &path);
    let place = directory.path().join("mnt");
    std::fs::create_dir(&place).unwrap();
    let mount = Mounted::at(&path, &place);
    pair.nodes[1].kill().unwrap();
    let file = place.join("meanwhile");
    let writing = std::thread::spawn(move || {
        std::fs::write(&file, vec![6; 8 << 20])?;
        File::open(&file)?.sync_all()
    });
    pair.wait_alone(0).unwrap();
    writing.join().unwrap().unwrap();
    pair.nodes[1].restart().unwrap();
    pair.wait_in_sync().unwrap();
    drop(mount);
    pair.nodes[0].close().unwrap();
    assert!(bytes_of(directory.path(), 1) == bytes_of(directory.path(), 2));
}

/// The acknowledged writes of an application, and what they were.
struct Writer {
    device: File,
    next: u64,
}

impl Writer {
    fn write(&mut self, count: u64) {
        for _ in 0..count {
            let mark = u8::try_from(self.next % 250 + 1).unwrap();
            write(&self.device, self.next * 4096, 4096, |_| mark).unwrap();
            self.next += 1;
        }
    }

    fn check(&self, device: &File) {
        let wrong: Vec<_> = (0..self.next)
            .filter_map(|block| {
                let mark = u8::try_from(block % 250 + 1).unwrap();
                let found = read(device, block * 4096, 4096).unwrap();
                let right = found.iter().all(|byte| *byte == mark);
                (!right).then(|| (block, found[0], found[4095]))
            })
            .collect();
        assert_eq!(wrong, [], "of {} blocks", self.next);
    }
}

#[test]
fn a_link_that_stalls_without_closing_is_replaced_by_the_next_one() {
    let (mut pair, _directory) = bed::pair("stall", SIZE);
    let (first, second) = (bed::free_link(), bed::free_link());
    let proxy = Proxy::to(first.1);
    pair.peer_timeout = Duration::from_millis(500);
    pair.link(&[first, second]).unwrap();
    // Node 1 connects, and over the first link by the wire that can be held still.
    pair.nodes[0].setup.links[0].remote = proxy.address;
    pair.nodes[0].say_setup().unwrap();
    let path = pair.make().unwrap();
    pair.wait_in_sync().unwrap();
    // It may have been tried before anybody listened there.
    wait_for_link(&mut pair, "link0");
    let mut writer = Writer {
        device: open(&path, libc::O_DIRECT),
        next: 0,
    };
    writer.write(10);
    proxy.hold_still();
    let writing = std::thread::spawn(move || {
        writer.write(10);
        writer
    });
    // The write that waits is acknowledged: recorded without the standby, or over the other link.
    let mut turns = 0;
    while !writing.is_finished() {
        pair.turn().unwrap();
        turns += 1;
        assert!(turns < 10_000);
    }
    let mut writer = writing.join().unwrap();
    pair.wait_in_sync().unwrap();
    wait_for_link(&mut pair, "link1");
    writer.write(10);
    switch_over_and_check(&mut pair, writer);
}

fn wait_for_link(pair: &mut Pair, wanted: &str) {
    let begin = std::time::Instant::now();
    while link_in_use(pair).as_deref() != Some(wanted) {
        pair.turn().unwrap();
        assert!(begin.elapsed().as_secs() < 30, "{wanted} is not used");
    }
    pair.wait_in_sync().unwrap();
}

fn link_in_use(pair: &mut Pair) -> Option<String> {
    pair.nodes[0].say(&ToMirror::Query).unwrap();
    pair.nodes[0]
        .wait(|message| match message {
            FromMirror::Status(status) => Some(status.link.clone()),
            _ => None,
        })
        .unwrap()
}

fn switch_over_and_check(pair: &mut Pair, writer: Writer) {
    let Writer { device, next } = writer;
    drop(device);
    pair.nodes[0].close().unwrap();
    pair.hold(1).unwrap();
    let other = pair.open(1).unwrap();
    let device = open(&other, libc::O_DIRECT);
    let writer = Writer { device, next };
    writer.check(&writer.device);
    drop(writer);
    pair.nodes[1].close().unwrap();
}

#[test]
fn the_active_side_is_killed_and_the_other_has_every_acknowledged_write() {
    let (mut pair, _directory) = bed::pair("failover", SIZE);
    let path = pair.make().unwrap();
    pair.wait_in_sync().unwrap();
    let mut writer = Writer {
        device: open(&path, libc::O_DIRECT),
        next: 0,
    };
    writer.write(200);
    pair.nodes[0].kill().unwrap();
    assert!(write(&writer.device, 0, 4096, |_| 1).is_err());
    // The next holder goes on alone: what was under way may differ.
    let epoch = Epoch(pair.epoch.0 + 1);
    let generation = Generation::begun(pair.version, MemberId(2), pair.data.id);
    pair.data.go_alone(MemberId(2), epoch, generation);
    pair.hold(1).unwrap();
    let other = pair.open(1).unwrap();
    let device = open(&other, libc::O_DIRECT);
    writer.check(&device);
    write(&device, 32 * MIB, 1 << 20, |_| 9).unwrap();
    // The old one comes back as standby.
    pair.nodes[0].restart().unwrap();
    pair.wait_in_sync().unwrap();
    drop(device);
    pair.nodes[1].close().unwrap();
}

#[test]
fn strangers_and_garbage_on_the_replication_port_disturb_nobody() {
    let (mut pair, _directory) = bed::pair("garbage", SIZE);
    let path = pair.make().unwrap();
    pair.wait_in_sync().unwrap();
    let port = pair.nodes[1].setup.links[0].local;
    let mut held = Vec::new();
    for round in 0..200u32 {
        let Ok(mut stream) = std::net::TcpStream::connect(port) else {
            continue;
        };
        let garbage: Vec<u8> = (0..300u32)
            .map(|at| ((at * 31 + round * 17) % 256).to_le_bytes()[0])
            .collect();
        let _ = stream.write_all(&garbage);
        held.push(stream);
    }
    let device = open(&path, libc::O_DIRECT);
    let mut writer = Writer { device, next: 0 };
    writer.write(50);
    drop(held);
    pair.nodes[1].wait_for_note("who is not the peer").unwrap();
    assert!(pair.data.alone.is_none());
    switch_over_and_check(&mut pair, writer);
}

#[test]
fn the_active_sides_disk_fails_and_the_application_goes_on_through_the_peer() {
    let faulty = bed::Bed::start("faulty", 80 * MIB);
    let (mut pair, faulty, _directory) = bed::pair_on(faulty, "eio", SIZE);
    let path = pair.make().unwrap();
    pair.wait_in_sync().unwrap();
    let device = open(&path, libc::O_DIRECT);
    let mut writer = Writer { device, next: 0 };
    writer.write(20);
    faulty.mirror.gate.close();
    let writing = std::thread::spawn(move || {
        writer.write(20);
        writer.check(&writer.device);
        writer
    });
    let mut turns = 0;
    while !writing.is_finished() {
        pair.turn().unwrap();
        turns += 1;
        assert!(turns < 10_000);
    }
    let writer = writing.join().unwrap();
    assert!(!pair.data.is_up_to_date(MemberId(1)));
    assert!(pair.data.is_up_to_date(MemberId(2)));
    drop(writer);
}

#[test]
fn a_full_filesystem_under_the_standbys_image_leaves_the_active_side_working() {
    let small = Tmpfs::of(24 * MIB);
    let (mut pair, _directory) = bed::pair_with("full", SIZE, |node, place| match node {
        2 => {
            let image = small.0.join("image");
            File::create(&image).unwrap().set_len(SIZE + MIB).unwrap();
            image
        }
        _ => place.join("image"),
    });
    let path = pair.make().unwrap();
    pair.wait_in_sync().unwrap();
    let device = open(&path, libc::O_DIRECT);
    let writing = std::thread::spawn(move || {
        write(&device, 0, 40 << 20, |_| 5).unwrap();
        assert_eq!(read(&device, 39 * MIB, 4096).unwrap(), vec![5; 4096]);
        device
    });
    let mut turns = 0;
    while !writing.is_finished() {
        pair.turn().unwrap();
        turns += 1;
        assert!(turns < 10_000);
    }
    drop(writing.join().unwrap());
    assert!(!pair.data.is_up_to_date(MemberId(2)));
    pair.nodes[0].close().unwrap();
}

/// A filesystem in memory of so many bytes, until it is dropped.
pub struct Tmpfs(
    pub std::path::PathBuf,
    #[allow(dead_code)] tempfile::TempDir,
);

impl Tmpfs {
    pub fn of(bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let size = format!("size={bytes}");
        run("mount", &["-t", "tmpfs", "-o", &size, "none"], &path);
        Self(path, directory)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

fn length_of(device: &Path) -> u64 {
    File::open(device)
        .and_then(|mut device| device.seek(SeekFrom::End(0)))
        .unwrap()
}

#[test]
fn a_device_grows_and_has_every_synced_file_after_its_side_was_killed() {
    let (mut pair, directory) = bed::pair("files", 16 * MIB);
    let path = pair.make().unwrap();
    pair.wait_in_sync().unwrap();
    run("mkfs.ext4", &["-q", "-F"], &path);
    let place = directory.path().join("mnt");
    std::fs::create_dir(&place).unwrap();
    let mount = Mounted::at(&path, &place);
    for number in 0..20u8 {
        let mut file = File::create(place.join(number.to_string())).unwrap();
        file.write_all(&vec![number; 100_000]).unwrap();
        file.sync_all().unwrap();
    }
    pair.size = 24 * MIB;
    pair.changed();
    let grown = |_: &Pair| length_of(&path) == 24 * MIB;
    pair.turn_until(grown).unwrap();
    std::fs::write(place.join("late"), vec![1; 1 << 20]).unwrap();
    pair.nodes[0].kill().unwrap();
    let late = File::open(place.join("late")).unwrap();
    assert!(late.sync_all().is_err(), "nobody serves it");
    drop((late, mount));
    // The next holder goes on alone: what was under way may differ.
    let epoch = Epoch(pair.epoch.0 + 1);
    let generation = Generation::begun(pair.version, MemberId(2), pair.data.id);
    pair.data.go_alone(MemberId(2), epoch, generation);
    pair.hold(1).unwrap();
    let other = pair.open(1).unwrap();
    let mount = Mounted::at(&other, &place);
    for number in 0..20u8 {
        let bytes = std::fs::read(place.join(number.to_string())).unwrap();
        assert!(bytes == vec![number; 100_000]);
    }
    drop(mount);
    run("e2fsck", &["-f", "-n"], &other);
    pair.nodes[1].close().unwrap();
}
