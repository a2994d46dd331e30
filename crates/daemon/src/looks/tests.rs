use super::*;
use crate::loop_disk::{Disk, in_namespace, sh};
use hotpair_core::config::FilesystemCheck;
use rustix::thread::UnshareFlags;
use std::cell::RefCell;

/// A mirror process that shows a disk and notes what it is asked for.
struct Fake {
    device: String,
    asked: RefCell<Vec<&'static str>>,
    snapshot: RefCell<Option<String>>,
    there: bool,
}

impl Fake {
    fn of(disk: &Disk) -> Self {
        Self {
            device: disk.device.clone(),
            asked: RefCell::default(),
            snapshot: RefCell::default(),
            there: true,
        }
    }
}

impl Process for Fake {
    fn work(&self, command: Command) -> Result<(), String> {
        let mut asked = self.asked.borrow_mut();
        match command {
            Command::SnapshotTake { name } => {
                asked.push("take");
                *self.snapshot.borrow_mut() = Some(name);
            }
            Command::Expose { at, .. } => {
                asked.push("expose");
                std::os::unix::fs::symlink(&self.device, at).unwrap();
            }
            Command::Conceal { at } => {
                asked.push("conceal");
                std::fs::remove_file(at).map_err(|error| error.to_string())?;
            }
            Command::SnapshotRemove { .. } => {
                asked.push("remove");
                *self.snapshot.borrow_mut() = None;
            }
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }

    fn has_snapshot(&self, name: &str) -> Option<bool> {
        let kept = self.snapshot.borrow();
        self.there.then(|| kept.as_deref() == Some(name))
    }
}

fn mount(filesystem: &str) -> Mount {
    Mount {
        mirror: ResourceId("data".into()),
        path: "/nowhere".into(),
        filesystem: filesystem.into(),
        options: Vec::new(),
        check: FilesystemCheck::default(),
        make: false,
        kill_users: false,
    }
}

/// A disk with an ext4 filesystem, and where a look at it is kept.
fn scene(base: &Path) -> (Disk, PathBuf) {
    let disk = Disk::new(&base.join("disk"), 16);
    sh(&format!("mkfs.ext4 -q {}", disk.device));
    let at = base.join("fill");
    std::fs::create_dir(&at).unwrap();
    let at = at.display();
    sh(&format!(
        "mount {} {at} && echo text > {at}/a && umount {at}",
        disk.device
    ));
    (disk, base.join("looks/db/data"))
}

fn nothing_is_mounted(directory: &Path) -> bool {
    let mounts = filesystem::mounts().unwrap();
    visible(&mounts, &resolved(&directory.join("files"))).is_none()
}

#[test]
fn files_of_a_copy_are_listed_and_nothing_is_left() {
    let base = tempfile::tempdir().unwrap();
    in_namespace(UnshareFlags::empty(), move || {
        let (disk, directory) = scene(base.path());
        let fake = Fake::of(&disk);
        let (source, list) = look_at_copy(&directory, &fake, &mount("ext4")).unwrap();
        assert_eq!(source, "a snapshot of the copy");
        let paths: Vec<_> = list.entries.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["a", "lost+found"]);
        undo(&directory, &fake).unwrap();
        assert!(nothing_is_mounted(&directory) && !directory.exists());
        assert_eq!(
            *fake.asked.borrow(),
            ["take", "expose", "conceal", "remove"]
        );
    });
}

#[test]
fn what_a_killed_daemon_left_is_undone() {
    let base = tempfile::tempdir().unwrap();
    in_namespace(UnshareFlags::empty(), move || {
        let (disk, directory) = scene(base.path());
        let mut fake = Fake::of(&disk);
        // It was killed while it walked.
        look_at_copy(&directory, &fake, &mount("ext4")).unwrap();
        assert!(!nothing_is_mounted(&directory));
        let found = left(&base.path().join("looks"));
        let key = (GroupId("db".into()), ResourceId("data".into()));
        assert_eq!(found, [(key, directory.clone())]);
        // As long as the process is not there the mount at least goes away.
        fake.there = false;
        assert!(undo(&directory, &fake).is_err());
        assert!(nothing_is_mounted(&directory));
        fake.there = true;
        undo(&directory, &fake).unwrap();
        assert!(fake.snapshot.borrow().is_none());
        assert!(left(&base.path().join("looks")).is_empty());
        undo(&directory, &fake).unwrap();
    });
}

#[test]
fn a_copy_without_a_filesystem_leaves_nothing_either() {
    let base = tempfile::tempdir().unwrap();
    in_namespace(UnshareFlags::empty(), move || {
        let disk = Disk::new(&base.path().join("disk"), 16);
        let directory = base.path().join("looks/db/data");
        let fake = Fake::of(&disk);
        assert!(look_at_copy(&directory, &fake, &mount("ext4")).is_err());
        undo(&directory, &fake).unwrap();
        assert!(nothing_is_mounted(&directory) && !directory.exists());
        assert!(fake.snapshot.borrow().is_none());
        // Nothing is begun for what is not looked into.
        fake.asked.borrow_mut().clear();
        assert!(look_at_copy(&directory, &fake, &mount("btrfs")).is_err());
        assert!(fake.asked.borrow().is_empty());
    });
}

#[test]
fn what_is_looked_into_can_be_mounted_with_its_journal_and_without() {
    let base = tempfile::tempdir().unwrap();
    in_namespace(UnshareFlags::empty(), move || {
        let at = base.path().join("at");
        std::fs::create_dir(&at).unwrap();
        for (kind, size) in [("ext2", 16), ("ext3", 16), ("ext4", 16), ("xfs", 304)] {
            let disk = Disk::new(&base.path().join(kind), size);
            sh(&format!("mkfs.{kind} -q {}", disk.device));
            for words in options(kind).unwrap() {
                let words = Options::parse(&words).unwrap();
                let device = Path::new(&disk.device);
                filesystem::mount(device, &at, kind, &words, STEP, &|| false)
                    .unwrap_or_else(|error| panic!("{kind}: {error}"));
                assert!(std::fs::write(at.join("new"), "").is_err(), "{kind}");
                unmount(&resolved(&at)).unwrap();
            }
        }
    });
}

#[test]
fn pages_fit_into_a_frame_and_give_every_entry_once() {
    let entry = |number: usize| hotpair_api::files::FileView {
        path: format!("{number:06}\u{1}{}", "x".repeat(200)),
        kind: hotpair_api::files::FileKind::File,
        size: u64::MAX,
        modified_ns: i64::MIN,
    };
    let kept = Kept {
        number: 7,
        source: "test".into(),
        list: List {
            entries: (0..5000).map(entry).collect(),
            cut: None,
            unreadable: 0,
        },
    };
    let (mut from, mut all) = (0, Vec::new());
    loop {
        let page = page(&kept, from);
        let text = serde_json::to_string(&Reply::MirrorFiles(page.clone())).unwrap();
        assert!(text.len() < crate::transport::FRAME_LIMIT - 1024);
        all.extend(page.entries);
        match page.next {
            Some(next) => from = next.from,
            None => break,
        }
    }
    assert_eq!(all, kept.list.entries);
    assert!(page(&kept, usize::MAX).entries.is_empty());
}
