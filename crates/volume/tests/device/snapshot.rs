//! Snapshots: what the copy held stays readable while it is overwritten.

use super::pair::Tmpfs;
use super::{MIB, Mounted, open, read, run, write};
use crate::bed::{self, Bed};
use hotpair_core::ids::{Epoch, MemberId};
use hotpair_core::mirror::{Copy, Generation};
use hotpair_volume::protocol::{Command, FromMirror, Work};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

fn take(name: &str) -> Work {
    Work::Command(Command::SnapshotTake { name: name.into() })
}

fn expose(snapshot: Option<&str>, at: &Path) -> Work {
    Work::Command(Command::Expose {
        snapshot: snapshot.map(str::to_owned),
        at: at.to_owned(),
        scratch: false,
    })
}

fn conceal(at: &Path) -> Work {
    Work::Command(Command::Conceal { at: at.to_owned() })
}

fn read_only(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .unwrap()
}

/// Bytes of `mark` at every MiB of 16.
fn fill(device: &File, mark: u8) {
    for place in 0..16 {
        write(device, place * MIB, 256 * 1024, |_| mark).unwrap();
    }
    device.sync_all().unwrap();
}

fn check(path: &Path, mark: u8) {
    let shown = read_only(path);
    for place in 0..16 {
        let bytes = read(&shown, place * MIB, 512 * 1024).unwrap();
        assert!(bytes[..256 * 1024].iter().all(|byte| *byte == mark));
        assert!(bytes[256 * 1024..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_is_written_to_a_device_with_scratch_is_seen_there_alone() {
    let mut bed = Bed::start("snap-scratch", 32 * MIB);
    let path = bed.open();
    let device = open(&path, libc::O_DIRECT);
    fill(&device, 1);
    bed.work(take("one")).unwrap();
    fill(&device, 2);
    let at = bed.directory.path().join("one");
    let with_scratch = Work::Command(Command::Expose {
        snapshot: Some("one".into()),
        at: at.clone(),
        scratch: true,
    });
    bed.work(with_scratch).unwrap();
    let shown = open(&at, libc::O_DIRECT);
    // Within a chunk, and over the border of two.
    write(&shown, 3 * MIB + 4096, 4096, |_| 9).unwrap();
    write(&shown, 5 * MIB + 60 * 1024, 8192, |_| 9).unwrap();
    shown.sync_all().unwrap();
    let bytes = read(&shown, 3 * MIB, 16 * 1024).unwrap();
    assert!(bytes[4096..8192].iter().all(|byte| *byte == 9));
    assert!(
        bytes[..4096]
            .iter()
            .chain(&bytes[8192..])
            .all(|byte| *byte == 1)
    );
    let bytes = read(&shown, 5 * MIB + 56 * 1024, 16 * 1024).unwrap();
    assert!(bytes[4096..12 * 1024].iter().all(|byte| *byte == 9));
    assert!(bytes[..4096].iter().all(|byte| *byte == 1));
    drop(shown);
    let written = read(&device, 3 * MIB, 16 * 1024).unwrap();
    assert!(
        written.iter().all(|byte| *byte == 2),
        "the copy was written"
    );
    bed.work(conceal(&at)).unwrap();
    bed.work(expose(Some("one"), &at)).unwrap();
    check(&at, 1);
    bed.work(conceal(&at)).unwrap();
}

#[test]
fn snapshots_show_what_was_there_each_its_own_also_after_a_restart() {
    let mut bed = Bed::start("snap", 32 * MIB);
    let path = bed.open();
    let device = open(&path, libc::O_DIRECT);
    fill(&device, 1);
    bed.work(take("one")).unwrap();
    fill(&device, 2);
    bed.work(take("two")).unwrap();
    let shown: [PathBuf; 2] = ["one", "two"].map(|name| bed.directory.path().join(name));
    bed.work(expose(Some("one"), &shown[0])).unwrap();
    // Half of it is overwritten while it is looked at.
    write(&device, 3 * MIB + 4096, 4096, |_| 9).unwrap();
    check(&shown[0], 1);
    fill(&device, 3);
    run(
        "blkdiscard",
        &["--offset", "5242880", "--length", "65536"],
        &path,
    );
    check(&shown[0], 1);
    let writing = OpenOptions::new().read(true).write(true).open(&shown[0]);
    let written =
        writing.and_then(|file| write(&file, 0, 4096, |_| 6).and_then(|()| file.sync_all()));
    assert!(written.is_err());
    check(&shown[0], 1);
    drop(device);
    bed.mirror.kill().unwrap();
    bed.mirror.restart().unwrap();
    bed.open();
    bed.work(expose(Some("one"), &shown[0])).unwrap();
    bed.work(expose(Some("two"), &shown[1])).unwrap();
    check(&shown[0], 1);
    check(&shown[1], 2);
    let removed = bed.work(Work::Command(Command::SnapshotRemove {
        name: "one".into(),
    }));
    assert!(removed.unwrap_err().contains("in use"));
    bed.work(conceal(&shown[0])).unwrap();
    assert!(!shown[0].exists());
    bed.work(Work::Command(Command::SnapshotRemove {
        name: "one".into(),
    }))
    .unwrap();
    check(&shown[1], 2);
    bed.work(conceal(&shown[1])).unwrap();
}

#[test]
fn a_filesystem_on_a_snapshot_can_be_mounted_and_is_as_it_was() {
    let mut bed = Bed::start("snap-fs", 64 * MIB);
    let path = bed.open();
    run("mkfs.ext4", &["-q", "-F"], &path);
    let place = bed.directory.path().join("mnt");
    std::fs::create_dir(&place).unwrap();
    let mount = Mounted::at(&path, &place);
    std::fs::write(place.join("file"), b"before").unwrap();
    File::open(place.join("file")).unwrap().sync_all().unwrap();
    // So that the journal is empty, and need not be replayed on a device that cannot be written to.
    run("fsfreeze", &["--freeze"], &place);
    let taken = bed.work(take("before"));
    run("fsfreeze", &["--unfreeze"], &place);
    taken.unwrap();
    std::fs::write(place.join("file"), vec![7; 4 << 20]).unwrap();
    File::open(place.join("file")).unwrap().sync_all().unwrap();
    let shown = bed.directory.path().join("shown");
    bed.work(expose(Some("before"), &shown)).unwrap();
    let looked = bed.directory.path().join("looked");
    std::fs::create_dir(&looked).unwrap();
    run(
        "mount",
        &["-o", "ro,noload", shown.to_str().unwrap()],
        &looked,
    );
    let found = std::fs::read(looked.join("file"));
    run("umount", &[], &looked);
    assert_eq!(found.unwrap(), b"before");
    drop(mount);
}

#[test]
fn a_snapshot_without_room_is_given_up_and_writes_go_on() {
    let mut bed = Bed::start("snap-full", 64 * MIB);
    let small = Tmpfs::of(4 * MIB);
    let store = bed.directory.path().join("state/snapshots");
    std::fs::create_dir_all(store.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&small.0, &store).unwrap();
    let path = bed.open();
    bed.work(take("doomed")).unwrap();
    let device = open(&path, libc::O_DIRECT);
    write(&device, 0, 32 << 20, |_| 5).unwrap();
    bed.wait_for_note("is given up");
    assert_eq!(read(&device, 31 * MIB, 4096).unwrap(), vec![5; 4096]);
    let at = bed.directory.path().join("shown");
    let error = bed.work(expose(Some("doomed"), &at)).unwrap_err();
    assert!(error.contains("no snapshot"), "{error}");
}

#[test]
fn a_copy_that_was_given_up_is_kept_as_a_snapshot_before_it_is_overwritten() {
    let (mut pair, directory) = bed::pair("given-up", 64 * MIB);
    let path = pair.make().unwrap();
    pair.wait_in_sync().unwrap();
    let device = open(&path, libc::O_DIRECT);
    write(&device, MIB, 1 << 20, |_| 1).unwrap();
    drop(device);
    pair.nodes[0].close().unwrap();
    // Node 2 goes on alone; node 1 is said to have writes of its own.
    let epoch = Epoch(pair.epoch.0 + 1);
    let before = pair.data.generation;
    let generation = Generation::begun(pair.version, MemberId(2), pair.data.id);
    pair.data.go_alone(MemberId(2), epoch, generation);
    pair.data
        .copies
        .insert(MemberId(1), Copy::GivenUp { generation: before });
    pair.hold(1).unwrap();
    let other = pair.open(1).unwrap();
    let device = open(&other, libc::O_DIRECT);
    write(&device, MIB, 1 << 20, |_| 2).unwrap();
    drop(device);
    pair.wait_in_sync().unwrap();
    pair.nodes[0]
        .say(&hotpair_volume::protocol::ToMirror::Query)
        .unwrap();
    let name = pair.nodes[0]
        .wait(|message| match message {
            FromMirror::Status(status) => {
                let found = status.snapshots.iter().find(|one| one.automatic);
                found.map(|one| one.name.clone())
            }
            _ => None,
        })
        .unwrap();
    let at = directory.path().join("lost");
    pair.nodes[0].work(expose(Some(&name), &at)).unwrap();
    let shown = read_only(&at);
    assert_eq!(read(&shown, MIB, 4096).unwrap(), vec![1; 4096]);
    drop(shown);
    pair.nodes[0].work(conceal(&at)).unwrap();
    pair.nodes[1].close().unwrap();
}
