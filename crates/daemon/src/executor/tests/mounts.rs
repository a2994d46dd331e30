//! Mounts on loop devices, each test in a mount namespace of its own.

use super::bench::{Bench, resource, service, wait};
use crate::executor::ExecEvent;
use crate::loop_disk::{Disk, sh};
use hotpair_core::config::{Environment, FilesystemCheck, Mount, Resource, ResourceKind, Service};
use hotpair_core::group::Work;
use hotpair_core::ids::Epoch;
use hotpair_host::filesystem::{mounts, resolved, visible};
use rustix::thread::UnshareFlags;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    crate::loop_disk::in_namespace(UnshareFlags::empty(), test);
}

/// A bench with a mount at `mnt`, and the device of its mirror.
struct Stage {
    bench: Bench,
    disk: Disk,
}

fn spec() -> Mount {
    Mount {
        mirror: "data".into(),
        path: String::new(),
        filesystem: "ext4".into(),
        options: vec!["noatime".into()],
        check: FilesystemCheck::Safe,
        make: true,
        kill_users: false,
    }
}

impl Stage {
    fn new(mount: Mount) -> Self {
        Self::with(mount, &[])
    }

    fn with(mount: Mount, others: &[(&str, Resource)]) -> Self {
        let mut bench = Bench::new(others);
        let disk = Disk::new(&bench.path("image"), 16);
        let path = bench.path("mnt").display().to_string();
        let kind = ResourceKind::Mount(Mount { path, ..mount });
        let group = bench.cluster.groups.values_mut().next().unwrap();
        group.resources.insert("files".into(), resource(kind));
        bench.configure();
        let stage = Self { bench, disk };
        stage.open_mirror();
        stage
    }

    /// As the mirror does.
    fn open_mirror(&self) {
        let dir = self.bench.path("run/devices/shop");
        fs::create_dir_all(&dir).unwrap();
        let _ = fs::remove_file(dir.join("data"));
        symlink(&self.disk.device, dir.join("data")).unwrap();
    }

    fn change(&mut self, change: impl Fn(&mut Resource, &mut Mount)) {
        let group = self.bench.cluster.groups.values_mut().next().unwrap();
        let resource = group.resources.get_mut(&"files".into()).unwrap();
        let ResourceKind::Mount(mut mount) = resource.kind.clone() else {
            panic!("{resource:?}");
        };
        change(resource, &mut mount);
        resource.kind = ResourceKind::Mount(mount);
        self.bench.configure();
    }

    fn path(&self) -> PathBuf {
        resolved(&self.bench.path("mnt"))
    }

    fn is_mounted(&self) -> bool {
        visible(&mounts().unwrap(), &self.path()).is_some()
    }

    fn start(&mut self) -> Result<(), String> {
        self.bench.act("files", Work::Start)
    }

    fn stop(&mut self) -> Result<(), String> {
        self.bench.act("files", Work::Stop)
    }

    /// What the built-in detector finds now.
    fn look(&mut self) -> (bool, String) {
        self.bench.look("files")
    }

    fn logged(&mut self, text: &str) {
        self.bench.find(|event| match event {
            ExecEvent::Log(line) => line.contains(text).then_some(()),
            _ => None,
        });
    }
}

/// A process that is ended with the test.
struct User(Child);

impl User {
    fn of(path: &Path, script: &str) -> Self {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .current_dir(path)
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_blank_device_gets_its_filesystem_once_and_is_mounted_and_unmounted() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(
            stage.look(),
            (
                false,
                format!("nothing is mounted at {}", stage.path().display())
            )
        );
        assert_eq!(stage.start(), Ok(()));
        stage.logged("makes ext4 on /dev/loop");
        assert_eq!(stage.look(), (true, String::new()));
        fs::write(stage.path().join("file"), "kept").unwrap();
        assert_eq!(stage.start(), Ok(()), "it runs already");
        assert_eq!(stage.stop(), Ok(()));
        assert!(!stage.is_mounted() && stage.path().is_dir());
        assert!(!stage.bench.path("run/resources/shop/files.json").exists());
        assert_eq!(stage.stop(), Ok(()), "it is stopped already");
        stage.change(|_, mount| mount.check = FilesystemCheck::Full);
        assert_eq!(stage.start(), Ok(()));
        assert_eq!(
            fs::read_to_string(stage.path().join("file")).unwrap(),
            "kept"
        );
        assert_eq!(stage.stop(), Ok(()));
    });
}

#[test]
fn filesystems_with_a_device_number_of_their_own_are_known_again() {
    in_namespace(|| {
        for filesystem in ["xfs", "btrfs"] {
            let there =
                format!("command -v mkfs.{filesystem} && grep -w {filesystem} /proc/filesystems");
            if !Command::new("sh")
                .args(["-c", &there])
                .output()
                .unwrap()
                .status
                .success()
            {
                eprintln!(
                    "skipped: {filesystem} is not on this machine (scripts/setup tests installs it)"
                );
                continue;
            }
            let mut stage = Stage::new(Mount {
                filesystem: filesystem.into(),
                ..spec()
            });
            stage.disk = Disk::new(&stage.bench.path("larger"), 320);
            stage.open_mirror();
            assert_eq!(stage.start(), Ok(()));
            assert_eq!(stage.look(), (true, String::new()), "{filesystem}");
            assert_eq!(stage.start(), Ok(()), "it runs already");
            stage.bench.end_daemon();
            stage.bench.start_daemon();
            stage.bench.configure();
            assert_eq!(stage.bench.executor().adopt(&stage.bench.cluster).len(), 1);
            let user = User::of(&stage.path(), "exec sleep 1000");
            let error = stage.stop().unwrap_err();
            assert!(
                error.contains(&format!("(process {}", user.0.id())),
                "{error}"
            );
            drop(user);
            assert_eq!(stage.stop(), Ok(()));
            assert!(!stage.is_mounted());
            assert_eq!(stage.start(), Ok(()));
            let _user = User::of(&stage.path(), "exec sleep 1000");
            assert_eq!(stage.bench.act("files", Work::Kill), Ok(()));
            assert!(!stage.is_mounted());
            let elsewhere = stage.bench.path("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            sh(&format!(
                "mount {} {}",
                stage.disk.device,
                elsewhere.display()
            ));
            let error = stage.start().unwrap_err();
            assert!(
                error.contains("elsewhere already: unmount it there"),
                "{error}"
            );
        }
    });
}

#[test]
fn services_of_the_group_see_what_is_mounted() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(stage.start(), Ok(()));
        fs::write(stage.path().join("hello"), "from the mount\n").unwrap();
        let script = format!(
            "cat '{}'; exec sleep 1000",
            stage.path().join("hello").display()
        );
        let group = stage.bench.cluster.groups.values_mut().next().unwrap();
        group.resources.insert("app".into(), service(&script));
        stage.bench.configure();
        assert_eq!(stage.bench.act("app", Work::Start), Ok(()));
        assert_eq!(
            stage.bench.wait_file("log/shop.app.log"),
            "from the mount\n"
        );
        assert_eq!(stage.bench.act("app", Work::Stop), Ok(()));
        assert_eq!(stage.stop(), Ok(()));
    });
}

#[test]
fn a_device_that_is_not_as_it_should_be_is_not_touched() {
    in_namespace(|| {
        let mut stage = Stage::new(Mount {
            make: false,
            ..spec()
        });
        let error = stage.start().unwrap_err();
        assert!(
            error.contains("holds nothing: run `mkfs.ext4 /dev/loop"),
            "{error}"
        );
        stage.change(|_, mount| mount.make = true);
        let device = stage.disk.device.clone();
        sh(&format!(
            "printf data | dd of={device} bs=1 seek=70000 conv=notrunc,fsync status=none"
        ));
        let error = stage.start().unwrap_err();
        assert!(error.contains("data of an unknown format"), "{error}");
        sh(&format!("mkfs.ext2 -q -F {device}"));
        let error = stage.start().unwrap_err();
        assert!(error.contains("is ext2, not ext4"), "{error}");
        fs::remove_file(stage.bench.path("run/devices/shop/data")).unwrap();
        let error = stage.start().unwrap_err();
        assert!(
            error.contains("mirror data has no device on this node"),
            "{error}"
        );
        assert!(!stage.is_mounted());
        assert_eq!(stage.stop(), Ok(()));
    });
}

#[test]
fn a_device_or_path_that_somebody_else_mounted_is_refused() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(stage.start(), Ok(()));
        assert_eq!(stage.stop(), Ok(()));
        let other = stage.bench.path("other");
        fs::create_dir(&other).unwrap();
        sh(&format!("mount {} {}", stage.disk.device, other.display()));
        let error = stage.start().unwrap_err();
        assert!(error.contains("other already: unmount it there"), "{error}");
        sh(&format!(
            "umount {0}; mount -t tmpfs theirs {1}",
            other.display(),
            stage.path().display()
        ));
        let error = stage.start().unwrap_err();
        assert!(error.contains("theirs is mounted at"), "{error}");
        assert_eq!(stage.stop(), Ok(()));
        assert!(stage.is_mounted(), "what is not ours stays");
        assert_eq!(stage.bench.act("files", Work::Kill), Ok(()));
        assert!(stage.is_mounted(), "what is not ours stays");
    });
}

#[test]
fn a_busy_mount_names_its_users_and_stays() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(stage.start(), Ok(()));
        let user = User::of(&stage.path(), "exec sleep 1000");
        let error = stage.stop().unwrap_err();
        let named = format!("(process {}: works in it)", user.0.id());
        assert!(
            error.contains(&named) && error.contains("kill_users"),
            "{error}"
        );
        assert!(stage.is_mounted());
        drop(user);
        assert_eq!(stage.stop(), Ok(()));
    });
}

#[test]
fn users_are_ended_when_that_is_wanted_also_those_that_do_not_listen() {
    in_namespace(|| {
        let mut stage = Stage::new(Mount {
            kill_users: true,
            ..spec()
        });
        assert_eq!(stage.start(), Ok(()));
        let listens = User::of(&stage.path(), "exec sleep 1000");
        assert_eq!(stage.stop(), Ok(()));
        stage.logged("ends what keeps");
        drop(listens);
        stage.change(|resource, _| resource.stop_timeout = Duration::from_secs(3));
        assert_eq!(stage.start(), Ok(()));
        let stubborn = User::of(
            &stage.path(),
            "trap '' TERM; touch ready; while :; do sleep 1; done",
        );
        wait(|| stage.path().join("ready").exists().then_some(()));
        assert_eq!(stage.stop(), Ok(()));
        stage.logged("kills what keeps");
        drop(stubborn);
        assert!(!stage.is_mounted());
    });
}

#[test]
fn a_kill_ends_users_and_takes_away_what_lies_over_it() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(stage.start(), Ok(()));
        let _user = User::of(&stage.path(), "trap '' TERM; while :; do sleep 1; done");
        sh(&format!("mount -t tmpfs over {}", stage.path().display()));
        let error = stage.stop().unwrap_err();
        assert!(error.contains("over is mounted over"), "{error}");
        assert_eq!(stage.bench.act("files", Work::Kill), Ok(()));
        assert!(!stage.is_mounted());
        assert!(!stage.bench.path("run/resources/shop/files.json").exists());
        assert_eq!(stage.bench.act("files", Work::Kill), Ok(()));
    });
}

#[test]
fn a_kill_succeeds_while_this_process_itself_keeps_it_busy() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(stage.start(), Ok(()));
        let kept = fs::File::create(stage.path().join("kept")).unwrap();
        assert_eq!(stage.bench.act("files", Work::Kill), Ok(()));
        stage.logged("unmounts it lazily");
        assert!(!stage.is_mounted());
        drop(kept);
    });
}

#[test]
fn a_kill_succeeds_when_the_device_answers_with_errors() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(stage.start(), Ok(()));
        assert_eq!(stage.look(), (true, String::new()));
        let _user = User::of(&stage.path(), "exec sleep 1000 >file");
        // The device loses all but its first 64 KiB: the journal cannot be written any more.
        sh(&format!(
            "truncate -s 64K '{}'; losetup -c {}",
            stage.disk.image.display(),
            stage.disk.device
        ));
        let line = format!("mkdir {0}/new; sync -f {0}", stage.path().display());
        let failed = Command::new("/bin/sh")
            .args(["-c", &line])
            .output()
            .unwrap();
        assert!(!failed.status.success(), "{failed:?}");
        wait(|| {
            let found = mounts().unwrap();
            visible(&found, &stage.path())
                .unwrap()
                .is_read_only()
                .then_some(())
        });
        let (running, detail) = stage.look();
        assert!(!running && detail.contains("read-only"), "{detail}");
        assert_eq!(stage.bench.act("files", Work::Kill), Ok(()));
        assert!(!stage.is_mounted());
    });
}

/// A device that hangs while the filesystem with its image is frozen.
struct Frozen {
    outer: PathBuf,
    _disk: Disk,
}

impl Frozen {
    fn below(stage: &mut Stage) -> Self {
        let disk = Disk::new(&stage.bench.path("outer-image"), 64);
        let outer = stage.bench.path("outer");
        fs::create_dir(&outer).unwrap();
        sh(&format!(
            "mkfs.ext4 -q {0} && mount {0} {1}",
            disk.device,
            outer.display()
        ));
        stage.disk = Disk::new(&outer.join("image"), 16);
        stage.open_mirror();
        Self { outer, _disk: disk }
    }

    fn freeze(&self) {
        sh(&format!("fsfreeze -f {}", self.outer.display()));
    }

    fn thaw(&self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.outer).output();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
    }
}

#[test]
fn a_kill_does_not_wait_for_a_device_that_hangs() {
    in_namespace(|| {
        // Whether a check writes, and hangs before the mount does, is up to chance.
        let mut stage = Stage::new(Mount {
            check: FilesystemCheck::Never,
            ..spec()
        });
        let frozen = Frozen::below(&mut stage);
        assert_eq!(stage.start(), Ok(()));
        fs::write(stage.path().join("file"), "x").unwrap();
        frozen.freeze();
        assert_eq!(stage.bench.act("files", Work::Kill), Ok(()));
        assert!(!stage.is_mounted());
        frozen.thaw();
        // And while the mount itself hangs.
        let ready = || {
            sh(&format!(
                "dumpe2fs -h {} 2>/dev/null | grep -c clean",
                stage.disk.device
            )) == "1"
        };
        wait(|| ready().then_some(()));
        frozen.freeze();
        let start = stage.bench.begin("files", Work::Start);
        let device = stage.disk.device.clone();
        wait(|| {
            sh("ps -eo stat,args")
                .lines()
                .any(|l| l.starts_with('D'))
                .then_some(())
        });
        let kill = stage.bench.begin("files", Work::Kill);
        assert_eq!(stage.bench.end(kill), Ok(()), "{device}");
        assert!(stage.bench.end(start).is_err());
        frozen.thaw();
        wait(|| (!sh("ps -eo stat,args").lines().any(|l| l.starts_with('D'))).then_some(()));
        assert!(!stage.is_mounted(), "nothing is attached later");
    });
}

#[test]
fn a_restarted_daemon_takes_over_what_is_mounted_and_nothing_else() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(stage.start(), Ok(()));
        fs::write(stage.path().join("file"), "x").unwrap();
        let adopt = |stage: &mut Stage| {
            stage.bench.end_daemon();
            stage.bench.start_daemon();
            stage.bench.configure();
            let adopted = stage.bench.executor().adopt(&stage.bench.cluster);
            adopted
                .into_iter()
                .map(|(_, name, epoch)| (name.0, epoch))
                .collect::<Vec<_>>()
        };
        let files = ("files".to_owned(), Epoch(4));
        assert_eq!(adopt(&mut stage), std::slice::from_ref(&files));
        assert!(stage.path().join("file").exists(), "it was not touched");
        // The daemon ended before it noted the device.
        let record = stage.bench.path("run/resources/shop/files.json");
        let text = fs::read_to_string(&record).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["device"] = serde_json::Value::Null;
        // At once, since the executor may be reading it.
        fs::write(stage.bench.path("record"), value.to_string()).unwrap();
        fs::rename(stage.bench.path("record"), &record).unwrap();
        assert_eq!(adopt(&mut stage), [files]);
        assert_eq!(fs::read_to_string(&record).unwrap(), text);
        sh(&format!(
            "umount {0}; mount -t tmpfs none {0}",
            stage.path().display()
        ));
        assert_eq!(adopt(&mut stage), []);
        assert!(stage.is_mounted() && !record.exists());
    });
}

#[test]
fn a_mount_that_is_gone_or_read_only_is_noticed() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(stage.start(), Ok(()));
        sh(&format!("mount -o remount,ro {}", stage.path().display()));
        let (running, detail) = stage.look();
        assert!(
            !running && detail.contains("has become read-only"),
            "{detail}"
        );
        sh(&format!("umount {}", stage.path().display()));
        let (running, detail) = stage.look();
        assert!(
            !running && detail.contains("nothing is mounted"),
            "{detail}"
        );
        stage.change(|_, mount| mount.options = vec!["ro".into()]);
        assert_eq!(stage.start(), Ok(()));
        assert_eq!(stage.look(), (true, String::new()), "read-only on purpose");
        assert_eq!(stage.stop(), Ok(()));
    });
}

#[test]
fn a_changed_path_is_stopped_where_it_was_started() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        assert_eq!(stage.start(), Ok(()));
        let old = stage.path();
        let new = stage.bench.path("new").display().to_string();
        stage.change(|_, mount| mount.path.clone_from(&new));
        let error = stage.start().unwrap_err();
        assert!(error.contains("still mounted at"), "{error}");
        assert_eq!(stage.stop(), Ok(()));
        assert!(visible(&mounts().unwrap(), &old).is_none());
        assert_eq!(stage.start(), Ok(()));
        assert!(visible(&mounts().unwrap(), &resolved(Path::new(&new))).is_some());
        assert_eq!(stage.stop(), Ok(()));
    });
}

#[test]
fn each_thing_in_the_way_is_named_before_the_start() {
    in_namespace(|| {
        let mut stage = Stage::new(spec());
        stage.bench.next_fit("files");
        let mut verdict = |change: &dyn Fn(&mut Mount), words: &str| {
            stage.change(|_, mount| {
                *mount = Mount {
                    path: mount.path.clone(),
                    ..spec()
                };
                change(mount);
            });
            let problems = stage.bench.next_verdict("files");
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(words), "{problems:?}");
        };
        verdict(
            &|mount| mount.filesystem = "nosuchfs".into(),
            "program mkfs.nosuchfs is not in PATH",
        );
        verdict(
            &|mount| mount.path = "/no/such/directory".into(),
            "directory /no/such does not exist on this node",
        );
        let mnt = stage.path();
        let path = mnt.display().to_string();
        stage.change(|_, mount| {
            *mount = Mount {
                path: path.clone(),
                ..spec()
            };
        });
        stage.bench.next_fit("files");
        fs::write(&mnt, "").unwrap();
        assert!(stage.bench.next_verdict("files")[0].contains("is not a directory"));
        fs::remove_file(&mnt).unwrap();
        symlink("/tmp", &mnt).unwrap();
        assert!(stage.bench.next_verdict("files")[0].contains("is a symbolic link"));
        fs::remove_file(&mnt).unwrap();
        fs::create_dir(&mnt).unwrap();
        stage.bench.next_fit("files");
        sh(&format!("mount -t tmpfs theirs {}", mnt.display()));
        assert!(stage.bench.next_verdict("files")[0].contains("theirs is mounted at"));
        sh(&format!("umount {}", mnt.display()));
        stage.bench.next_fit("files");
        let fstab = stage.bench.path("fstab");
        fs::write(
            &fstab,
            format!("/dev/sdb {} ext4 defaults 0 0\n", mnt.display()),
        )
        .unwrap();
        sh(&format!(
            "touch /etc/fstab; mount --bind {} /etc/fstab",
            fstab.display()
        ));
        assert!(stage.bench.next_verdict("files")[0].contains("/etc/fstab mounts something at"));
        sh("umount /etc/fstab");
        stage.bench.next_fit("files");
        fs::write(mnt.join("left"), "").unwrap();
        stage.logged("is not empty where nothing is mounted");
        assert_eq!(stage.start(), Ok(()));
        assert_eq!(stage.stop(), Ok(()));
    });
}

#[test]
fn what_lies_on_the_mount_does_not_make_the_standby_unfit() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mnt = dir.path().join("mnt");
        let on_mount = |name: &str| mnt.join(name).display().to_string();
        let kind = ResourceKind::Service(Service {
            command: vec![on_mount("bin/app")],
            environment: Environment {
                directory: Some(on_mount("work")),
                ..Environment::default()
            },
        });
        let mut stage = Stage::with(spec(), &[("app", resource(kind))]);
        let problems = stage.bench.next_verdict("app");
        assert_eq!(problems.len(), 2, "no mount there: {problems:?}");
        let path = mnt.display().to_string();
        stage.change(|_, mount| mount.path.clone_from(&path));
        stage.bench.next_fit("app");
        assert_eq!(stage.start(), Ok(()));
        let problems = stage.bench.next_verdict("app");
        assert_eq!(
            problems.len(),
            2,
            "it is mounted and they are not there: {problems:?}"
        );
        assert_eq!(stage.stop(), Ok(()));
        stage.bench.next_fit("app");
    });
}
