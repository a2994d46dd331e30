//! Filesystems on loop devices, against the real kernel. Needs root, util-linux, e2fsprogs; tests of
//! xfs and btrfs are skipped where their programs are missing.

mod disk;

use disk::{Disk, PATIENCE, Point, in_namespace, sh, wait};
use hotpair_host::detect::Detected;
use hotpair_host::filesystem::{
    Content, MountCheck, MountError, Options, Policy, UnmountError, check, make, mount, mounts,
    probe, resolved, unmount, users, visible,
};
use hotpair_host::process::stat;
use rustix::process::Signal;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const NEVER: &dyn Fn() -> bool = &|| false;

fn options(words: &[&str]) -> Options {
    Options::parse(words).unwrap()
}

fn mount_at(disk: &Disk, path: &Path, filesystem: &str, words: &[&str]) -> Result<(), MountError> {
    mount(
        &disk.device,
        path,
        filesystem,
        &options(words),
        PATIENCE,
        NEVER,
    )
}

fn directory(of: &tempfile::TempDir) -> Point {
    let path = of.path().join("mount point");
    fs::create_dir(&path).unwrap();
    Point(resolved(&path))
}

fn looked(path: &Path, device: Option<(u32, u32)>) -> Detected {
    MountCheck {
        path: path.to_owned(),
        device,
        writable: true,
        timeout: PATIENCE,
    }
    .check()
}

/// The filesystems whose programs are on this machine.
fn filesystems() -> Vec<&'static str> {
    let has = |name: &&str| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v mkfs.{name}")])
            .output();
        let known = sh("cat /proc/filesystems")
            .split_whitespace()
            .any(|word| word == *name);
        found.is_ok_and(|output| output.status.success()) && known
    };
    ["ext4", "xfs", "btrfs"].into_iter().filter(has).collect()
}

#[test]
fn each_filesystem_is_made_checked_mounted_looked_at_and_unmounted() {
    in_namespace(|| {
        for filesystem in filesystems() {
            let dir = tempfile::tempdir().unwrap();
            let (disk, point) = (Disk::new(320), directory(&dir));
            assert_eq!(probe(&disk.device, None, PATIENCE).unwrap(), Content::Blank);
            make(filesystem, &disk.device, None, PATIENCE).unwrap();
            let content = probe(&disk.device, None, PATIENCE).unwrap();
            assert_eq!(content, Content::Filesystem(filesystem.to_owned()));
            for policy in [Policy::Safe, Policy::Full] {
                let checked = check(filesystem, policy, &disk.device, None, PATIENCE);
                assert!(checked.is_ok(), "{filesystem}: {checked:?}");
            }
            assert!(matches!(looked(&point.0, None), Detected::NotRunning(_)));
            mount_at(&disk, &point.0, filesystem, &["noatime", "nodev", "nofail"]).unwrap();
            let all = mounts().unwrap();
            let mounted = visible(&all, &point.0).unwrap();
            assert_eq!(mounted.filesystem, filesystem);
            let shown = sh(&format!(
                "findmnt -no OPTIONS --mountpoint '{}'",
                point.0.display()
            ));
            assert!(
                shown.contains("noatime") && shown.contains("nodev"),
                "{shown}"
            );
            let device = mounted.device;
            assert_eq!(looked(&point.0, Some(device)), Detected::Running);
            let other = looked(&point.0, Some((1, 1)));
            assert!(matches!(other, Detected::NotRunning(_)), "{other:?}");
            fs::write(point.0.join("file"), "kept").unwrap();
            unmount(&point.0, false, PATIENCE, NEVER).unwrap();
            assert!(!point.0.join("file").exists());
            mount_at(&disk, &point.0, filesystem, &["ro"]).unwrap();
            assert_eq!(fs::read_to_string(point.0.join("file")).unwrap(), "kept");
            assert!(
                matches!(looked(&point.0, None), Detected::Failed(_)),
                "read-only"
            );
            unmount(&point.0, false, PATIENCE, NEVER).unwrap();
        }
    });
}

#[test]
fn a_refused_mount_says_why_in_the_kernels_words() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let (disk, point) = (Disk::with("ext4"), directory(&dir));
        let error = mount_at(&disk, &point.0, "ext4", &["no-such-option=3"]).unwrap_err();
        assert!(error.to_string().contains("no-such-option"), "{error}");
        let error = mount_at(&disk, &point.0, "no-such-fs", &[]).unwrap_err();
        assert!(matches!(error, MountError::UnknownFilesystem(_)), "{error}");
        let error = mount_at(&disk, &point.0.join("missing"), "ext4", &[]).unwrap_err();
        assert!(error.to_string().contains("cannot mount"), "{error}");
        let blank = Disk::new(16);
        let error = mount_at(&blank, &point.0, "ext4", &[]).unwrap_err();
        assert!(
            error.to_string().contains("holds another filesystem"),
            "{error}"
        );
        assert!(visible(&mounts().unwrap(), &point.0).is_none());
    });
}

#[test]
fn what_is_neither_blank_nor_a_filesystem_is_told_apart() {
    in_namespace(|| {
        let disk = Disk::new(16);
        let device = disk.device.display();
        let content = || probe(&disk.device, None, PATIENCE).unwrap();
        sh(&format!(
            "printf x | dd of={device} bs=1 seek=500000 conv=notrunc,fsync status=none"
        ));
        assert!(matches!(content(), Content::Other(what) if what.contains("unknown format")));
        sh(&format!(
            "dd if=/dev/zero of={device} bs=1M count=1 conv=fsync status=none"
        ));
        assert_eq!(content(), Content::Blank);
        let last = (16 << 20) - 1;
        sh(&format!(
            "printf x | dd of={device} bs=1 seek={last} conv=notrunc,fsync status=none"
        ));
        assert!(matches!(content(), Content::Other(_)));
        sh(&format!("mkswap {device}"));
        assert_eq!(content(), Content::Other("swap".into()));
        assert!(probe(Path::new("/dev/no-such-device"), None, PATIENCE).is_err());
    });
}

#[test]
fn a_damaged_filesystem_is_not_mended_unasked_and_a_slightly_damaged_one_is() {
    in_namespace(|| {
        let disk = Disk::with("ext4");
        let device = disk.device.display();
        sh(&format!(
            "debugfs -w -R 'set_super_value free_blocks_count 1' {device} 2>&1"
        ));
        let mended = check("ext4", Policy::Full, &disk.device, None, PATIENCE).unwrap();
        assert!(mended.note.is_some(), "{mended:?}");
        sh(&format!("debugfs -w -R 'clri /' {device} 2>&1"));
        let error = check("ext4", Policy::Full, &disk.device, None, PATIENCE).unwrap_err();
        assert!(error.to_string().contains("run `fsck.ext4 -f"), "{error}");
    });
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn new(line: &str, directory: &Path) -> Self {
        let child = Command::new("/bin/sh")
            .args(["-c", line])
            .current_dir(directory)
            .spawn()
            .unwrap();
        let running = Self(child);
        let pid = i32::try_from(running.0.id()).unwrap();
        // Until it has become the program that it runs.
        wait(|| (stat(pid).unwrap().comm == "sleep").then_some(()));
        running
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn everything_that_keeps_a_mount_busy_is_named() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let (disk, point) = (Disk::with("ext4"), directory(&dir));
        mount_at(&disk, &point.0, "ext4", &[]).unwrap();
        assert!(users(&point.0, PATIENCE).is_empty());
        let root = Path::new("/");
        fs::copy("/bin/sleep", point.0.join("sleep")).unwrap();
        sh(&format!("chmod +x '{}/sleep'", point.0.display()));
        fs::write(point.0.join("file"), "x").unwrap();
        let cases = [
            ("exec sleep 1000", point.0.as_path(), "works in it"),
            (
                &format!("exec sleep 1000 <'{}/file'", point.0.display()),
                root,
                "1 open file",
            ),
            (
                &format!("exec '{}/sleep' 1000", point.0.display()),
                root,
                "its program is on it",
            ),
        ];
        for (line, directory, how) in cases {
            let running = Running::new(line, directory);
            let found = users(&point.0, PATIENCE);
            assert!(!found.incomplete);
            let user = found
                .processes
                .iter()
                .find(|user| user.pid == running.pid());
            let user = user.unwrap_or_else(|| panic!("{line}: {found}"));
            assert!(user.how.iter().any(|words| words == how), "{user}");
            assert_eq!(
                (user.name.as_str(), found.processes.len()),
                ("sleep", 1),
                "{found}"
            );
            let busy = unmount(&point.0, false, PATIENCE, NEVER);
            assert!(matches!(busy, Err(UnmountError::Busy(_))), "{busy:?}");
        }
        let listener = UnixListener::bind(point.0.join("socket")).unwrap();
        let found = users(&point.0, PATIENCE).to_string();
        assert!(found.contains("1 socket"), "{found}");
        drop(listener);
        let inner = Disk::at(&point.0.join("inner"), 4);
        sh(&format!(
            "mkdir '{}/below'; mount -t tmpfs none '{0}/below'",
            point.0.display()
        ));
        let found = users(&point.0, PATIENCE).to_string();
        assert!(
            found.contains("loop device loop") && found.contains("a mount at"),
            "{found}"
        );
        drop(inner);
        sh(&format!("umount '{}/below'", point.0.display()));
        unmount(&point.0, false, PATIENCE, NEVER).unwrap();
    });
}

#[test]
fn a_mount_kept_by_another_namespace_is_named() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let (disk, point) = (Disk::with("ext4"), directory(&dir));
        mount_at(&disk, &point.0, "ext4", &[]).unwrap();
        let apart = Running::new(
            "exec unshare -m --propagation private sleep 1000",
            Path::new("/"),
        );
        let found = users(&point.0, PATIENCE).to_string();
        assert!(
            found.contains(&format!(
                "the mount namespace of sleep (process {}",
                apart.pid()
            )),
            "{found}"
        );
    });
}

#[test]
fn users_are_ended_by_signal_and_this_process_is_spared() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let (disk, point) = (Disk::with("ext4"), directory(&dir));
        mount_at(&disk, &point.0, "ext4", &[]).unwrap();
        let own = fs::File::create(point.0.join("own")).unwrap();
        let mut running = Running::new("exec sleep 1000", &point.0);
        let found = users(&point.0, PATIENCE);
        assert_eq!(found.processes.len(), 2, "{found}");
        let ended: Vec<i32> = found
            .signal(Signal::KILL)
            .iter()
            .map(|user| user.pid)
            .collect();
        assert_eq!(ended, [running.pid()]);
        running.0.wait().unwrap();
        drop(own);
        unmount(&point.0, false, PATIENCE, NEVER).unwrap();
    });
}

#[test]
fn a_busy_mount_is_taken_away_lazily() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let (disk, point) = (Disk::with("ext4"), directory(&dir));
        mount_at(&disk, &point.0, "ext4", &[]).unwrap();
        let kept = fs::File::create(point.0.join("file")).unwrap();
        unmount(&point.0, true, PATIENCE, NEVER).unwrap();
        assert!(visible(&mounts().unwrap(), &point.0).is_none());
        drop(kept);
    });
}

#[test]
fn a_mount_hidden_by_another_one_is_not_taken_for_the_right_one() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let (disk, point) = (Disk::with("ext4"), directory(&dir));
        mount_at(&disk, &point.0, "ext4", &[]).unwrap();
        assert_eq!(looked(&point.0, Some(disk.number)), Detected::Running);
        let parent = Point(point.0.parent().unwrap().to_owned());
        sh(&format!(
            "mount -t tmpfs none '{}'; mkdir '{}'",
            parent.0.display(),
            point.0.display()
        ));
        let hidden = looked(&point.0, Some(disk.number));
        assert!(
            matches!(&hidden, Detected::Failed(why) if why.contains("hides")),
            "{hidden:?}"
        );
        drop(parent);
        assert_eq!(looked(&point.0, Some(disk.number)), Detected::Running);
        sh(&format!("mount -t tmpfs over '{}'", point.0.display()));
        let over = looked(&point.0, Some(disk.number));
        assert!(
            matches!(&over, Detected::NotRunning(why) if why.contains("over")),
            "{over:?}"
        );
    });
}

/// An ext4 filesystem whose device hangs while a filesystem below it is frozen.
struct Hanging {
    point: Point,
    disk: Disk,
    outer: Point,
    _outer_disk: Disk,
    _dir: tempfile::TempDir,
}

impl Hanging {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outer_disk = Disk::new(64);
        sh(&format!("mkfs.ext4 -q {}", outer_disk.device.display()));
        let outer = Point(dir.path().join("outer"));
        fs::create_dir(&outer.0).unwrap();
        mount_at(&outer_disk, &outer.0, "ext4", &[]).unwrap();
        let disk = Disk::at(&outer.0.join("image"), 16);
        sh(&format!("mkfs.ext4 -q {}", disk.device.display()));
        let point = Point(dir.path().join("inner"));
        fs::create_dir(&point.0).unwrap();
        Self {
            point,
            disk,
            outer,
            _outer_disk: outer_disk,
            _dir: dir,
        }
    }

    fn freeze(&self) {
        sh(&format!("fsfreeze -f {}", self.outer.0.display()));
    }

    fn thaw(&self) {
        let _ = Command::new("fsfreeze")
            .arg("-u")
            .arg(&self.outer.0)
            .output();
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.thaw();
    }
}

#[test]
fn nothing_waits_for_a_device_that_hangs() {
    in_namespace(|| {
        let hanging = Hanging::new();
        let short = Duration::from_millis(300);
        let begin = Instant::now();
        hanging.freeze();
        let plain = options(&[]);
        // The journal's first write hangs.
        let stuck = mount(
            &hanging.disk.device,
            &hanging.point.0,
            "ext4",
            &plain,
            short,
            NEVER,
        );
        assert!(matches!(stuck, Err(MountError::Stuck { .. })), "{stuck:?}");
        let given_up = mount(
            &hanging.disk.device,
            &hanging.point.0,
            "ext4",
            &plain,
            PATIENCE,
            &|| begin.elapsed() > short * 2,
        );
        assert!(matches!(given_up, Err(MountError::GivenUp)), "{given_up:?}");
        hanging.thaw();
        // The children that were killed attach nothing once the kernel lets them go.
        wait(|| {
            sh("ps -eo stat,comm")
                .lines()
                .all(|l| !l.starts_with('D'))
                .then_some(())
        });
        assert!(visible(&mounts().unwrap(), &hanging.point.0).is_none());

        mount_at(&hanging.disk, &hanging.point.0, "ext4", &[]).unwrap();
        fs::write(hanging.point.0.join("file"), "x").unwrap();
        hanging.freeze();
        let stuck = unmount(&hanging.point.0, false, short, NEVER);
        assert!(
            matches!(stuck, Err(UnmountError::Stuck { .. })),
            "{stuck:?}"
        );
        assert!(
            visible(&mounts().unwrap(), &hanging.point.0).is_none(),
            "it is gone all the same"
        );
        hanging.thaw();
    });
}
