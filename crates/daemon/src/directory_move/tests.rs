//! Moves of real directories onto loop devices, each in a mount namespace of its own.

use super::*;
use crate::loop_disk::{Disk, in_namespace, sh};
use rustix::thread::UnshareFlags;
use std::os::unix::net::UnixListener;
use std::process::Command;

struct Stage0 {
    dir: tempfile::TempDir,
    disk: Disk,
    plan: Plan,
}

fn quiet() -> impl FnMut(Progress) -> bool {
    |_| true
}

impl Stage0 {
    fn new() -> Self {
        Self::with(32, "")
    }

    fn with(mib: u64, mkfs: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let disk = Disk::new(&base.join("image"), mib);
        sh(&format!("mkfs.ext4 -q {mkfs} {}", disk.device));
        fs::create_dir(base.join("app")).unwrap();
        fs::write(base.join("app/file"), "some content").unwrap();
        let plan = Plan {
            directory: base.join("app"),
            device: disk.device.clone().into(),
            filesystem: "ext4".into(),
            options: vec!["noatime".into()],
            aside: base.join("aside"),
        };
        Self { dir, disk, plan }
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn begin(&self) -> Result<Move, MoveError> {
        Move::begin(self.plan.clone(), &self.journal(), &mut quiet())
    }

    fn load(&self) -> Option<Move> {
        Move::load(&self.journal()).unwrap()
    }

    fn content(&self) -> String {
        fs::read_to_string(self.plan.directory.join("file")).unwrap()
    }

    /// Nothing of a move is left, and the directory is the one it was.
    fn is_untouched(&self, inode: u64) {
        assert_eq!(fs::metadata(&self.plan.directory).unwrap().ino(), inode);
        assert!(!self.plan.is_mounted_at(&self.plan.directory).unwrap());
        assert_eq!(self.content(), "some content");
        self.nothing_left();
        assert!(!self.plan.old().exists());
    }

    fn nothing_left(&self) {
        for path in [
            self.journal(),
            self.plan.new_empty(),
            self.plan.aside.clone(),
        ] {
            assert!(
                fs::symlink_metadata(&path).is_err(),
                "{} is left",
                path.display()
            );
        }
    }
}

#[test]
fn everything_about_every_file_is_kept() {
    in_namespace(UnshareFlags::empty(), || {
        let stage = Stage0::new();
        let app = stage.plan.directory.display();
        sh(&format!(
            "cd '{app}' && chown 33:44 . && chmod 2751 . && mkdir -p a/b/c empty \
             && printf x > 'a/new\nline ü' && ln a/new* a/b/second && ln file a/third \
             && truncate -s 20M sparse && printf end >> sparse \
             && ln -s /nowhere/at/all link && mkfifo -m 640 pipe && mknod device c 1 3 \
             && chown -h 1:2 link && setfattr -n user.colour -v red file \
             && setfattr -n security.selinux -v system_u:object_r:app_t:s0 file a \
             && setfacl -m u:33:rwx,g:44:r file && setfacl -d -m u:33:rwx a \
             && cp /bin/true program && chmod 4755 program \
             && setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 program \
             && touch -d '2001-02-03 04:05:06.789' file && touch -h -d 1999-01-01 link a/b/c a/b a"
        ));
        let _socket = UnixListener::bind(stage.plan.directory.join("socket")).unwrap();
        drop(_socket);
        let mut told = Vec::new();
        let mut progress = |now: Progress| {
            told.push(now);
            true
        };
        let mut moved = Move::begin(stage.plan.clone(), &stage.journal(), &mut progress).unwrap();
        assert_eq!(moved.stage(), Stage::Copied);
        moved.switch().unwrap();
        assert!(
            told.iter()
                .all(|now| now.done_bytes <= now.all_bytes && now.all_bytes > 0)
        );
        tree::compare(
            &stage.plan.old(),
            &stage.plan.directory,
            tree::Depth::Content,
        )
        .unwrap();
        assert!(stage.plan.is_mounted_at(&stage.plan.directory).unwrap());
        let sparse = fs::metadata(stage.plan.directory.join("sparse")).unwrap();
        assert!(sparse.blocks() < 1000, "{} blocks", sparse.blocks());
        assert!(!stage.plan.directory.join("lost+found").exists());
        let label = sh(&format!(
            "getfattr --only-values -n security.selinux '{app}/a'"
        ));
        assert_eq!(label, "system_u:object_r:app_t:s0");
        assert!(sh(&format!("getfacl -nc '{app}/file'")).contains("user:33:rwx"));
        moved.confirm().unwrap();
        stage.nothing_left();
        assert!(!stage.plan.old().exists());
        assert_eq!(stage.content(), "some content");
    });
}

#[test]
fn each_kind_of_difference_is_found() {
    let base = tempfile::tempdir().unwrap();
    let (one, two) = (base.path().join("one"), base.path().join("two"));
    for spoil in [
        "printf y > file; touch -r ../one/file file",
        "chmod 600 file",
        "chown 7 file",
        "chgrp 7 file",
        "touch -d 2001-01-01 file",
        "printf more >> file; touch -r ../one/file file",
        "rm file",
        "touch extra; touch -r ../one .",
        "cp -p file tmp; mv tmp linked; touch -r ../one .",
        "ln -sfn elsewhere link; touch -h -r ../one/link link; touch -r ../one .",
        "setfattr -n user.x -v 1 file",
        "setfattr -x user.y file",
        "rm device; mknod device c 1 5; touch -r ../one/device device; touch -r ../one .",
    ] {
        sh(&format!(
            "rm -rf '{0}' '{1}'; mkdir '{0}'; cd '{0}'; printf x > file; ln file linked; ln -s there link; \
             mknod device c 1 3; setfattr -n user.y -v 1 file; cp -a . '{1}'",
            one.display(),
            two.display()
        ));
        tree::compare(&one, &two, tree::Depth::Content).unwrap();
        sh(&format!("cd '{}' && {spoil}", two.display()));
        let compared = tree::compare(&one, &two, tree::Depth::Content);
        assert!(
            matches!(compared, Err(TreeError::Different { .. })),
            "{spoil}: {compared:?}"
        );
    }
}

#[test]
fn what_still_uses_the_directory_is_named() {
    in_namespace(UnshareFlags::empty(), || {
        let stage = Stage0::new();
        let open = fs::File::open(stage.plan.directory.join("file")).unwrap();
        let error = stage.begin().unwrap_err();
        let own = format!("(process {}: 1 open file)", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");
        drop(open);
        let moved = stage.begin();
        let mut child = Command::new("sleep")
            .arg("1000")
            .current_dir(&stage.plan.directory)
            .spawn()
            .unwrap();
        let busy = moved.unwrap().switch();
        let _ = child.kill();
        let _ = child.wait();
        let error = busy.unwrap_err().to_string();
        assert!(
            error.contains("sleep (process") && error.contains("works in it"),
            "{error}"
        );
        stage.load().unwrap().finish(&mut quiet()).unwrap();
    });
}

#[test]
fn too_little_room_is_seen_before_anything_is_copied() {
    in_namespace(UnshareFlags::empty(), || {
        let stage = Stage0::new();
        let inode = fs::metadata(&stage.plan.directory).unwrap().ino();
        sh(&format!(
            "head -c 40M /dev/urandom > '{}/large'",
            stage.plan.directory.display()
        ));
        let error = stage.begin().unwrap_err();
        assert!(
            matches!(error, MoveError::Space { what: "bytes", .. }),
            "{error}"
        );
        stage.load().unwrap().undo().unwrap();
        stage.is_untouched(inode);

        let stage = Stage0::with(32, "-N 16");
        sh(&format!(
            "cd '{}'; touch $(seq 600)",
            stage.plan.directory.display()
        ));
        let error = stage.begin().unwrap_err();
        assert!(
            matches!(error, MoveError::Space { what: "inodes", .. }),
            "{error}"
        );
    });
}

#[test]
fn what_was_written_after_the_copy_is_noticed_and_copied_again() {
    in_namespace(UnshareFlags::empty(), || {
        let stage = Stage0::new();
        let mut moved = stage.begin().unwrap();
        fs::write(stage.plan.directory.join("file"), "some Content").unwrap();
        let error = moved.switch().unwrap_err();
        assert!(
            error.to_string().contains("app/file: when it was changed"),
            "{error}"
        );
        assert_eq!(moved.stage(), Stage::Copied);
        let moved = moved.finish(&mut quiet()).unwrap();
        assert_eq!(moved.stage(), Stage::Switched);
        assert_eq!(stage.content(), "some Content");
    });
}

#[test]
fn what_cannot_be_moved_is_refused_and_left_alone() {
    in_namespace(UnshareFlags::empty(), || {
        let stage = Stage0::new();
        let app = stage.plan.directory.clone();
        let refused = |change: &dyn Fn(&mut Plan), words: &str| {
            let mut plan = stage.plan.clone();
            change(&mut plan);
            let error = Move::begin(plan, &stage.journal(), &mut quiet()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(!stage.journal().exists());
        };
        let link = stage.dir.path().join("link");
        std::os::unix::fs::symlink(&app, &link).unwrap();
        refused(&|plan| plan.directory.clone_from(&link), "it leads to");
        refused(&|plan| plan.directory = app.join("file"), "not a directory");
        refused(
            &|plan| plan.directory = "/".into(),
            "the root of everything",
        );
        refused(&|plan| plan.directory = app.join("no"), "cannot look at");
        sh(&format!(
            "mkdir '{0}/in'; mount -t tmpfs none '{0}/in'",
            app.display()
        ));
        refused(&|_| {}, "something is mounted at");
        sh(&format!(
            "umount '{0}/in'; chattr +i '{0}/file'",
            app.display()
        ));
        refused(&|_| {}, "is immutable (chattr +i)");
        sh(&format!(
            "chattr -i '{}/file'; mkdir '{}'",
            app.display(),
            stage.plan.old().display()
        ));
        refused(&|_| {}, "is there from an earlier move");
        fs::remove_dir(stage.plan.old()).unwrap();
        let moved = stage.begin().unwrap();
        let again = stage.begin().unwrap_err();
        assert!(matches!(again, MoveError::Begun(_)), "{again}");
        moved.undo().unwrap();
        fs::write(stage.journal(), "{ nonsense").unwrap();
        assert!(matches!(
            Move::load(&stage.journal()),
            Err(MoveError::Journal { .. })
        ));
    });
}

#[test]
fn a_move_that_is_given_up_can_be_undone() {
    in_namespace(UnshareFlags::empty(), || {
        let stage = Stage0::new();
        let inode = fs::metadata(&stage.plan.directory).unwrap().ino();
        sh(&format!(
            "head -c 15M /dev/urandom > '{}/large'",
            stage.plan.directory.display()
        ));
        let given_up = Move::begin(stage.plan.clone(), &stage.journal(), &mut |_| false);
        assert!(matches!(given_up, Err(MoveError::GivenUp)), "{given_up:?}");
        stage.load().unwrap().undo().unwrap();
        stage.is_untouched(inode);
    });
}

/// What happens after a crash.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Undo,
    Finish,
    /// The same crash in the undoing, or in the finishing, again.
    UndoTwice,
    /// A reboot: nothing is mounted.
    Reboot,
}

/// Begins a move that breaks off after `steps`; whether it did.
fn crashes(stage: &Stage0, steps: u32) -> bool {
    let begun = Move::prepare(stage.plan.clone(), &stage.journal()).unwrap();
    begun.crash_after.set(Some(steps));
    let ended = begun
        .fill(&mut quiet())
        .and_then(|mut filled| filled.switch());
    match ended {
        Ok(()) => false,
        Err(MoveError::Crashed) => true,
        Err(other) => panic!("{steps}: {other}"),
    }
}

#[test]
fn a_crash_at_any_step_is_undone_or_finished() {
    in_namespace(UnshareFlags::empty(), || {
        for after in [After::Undo, After::Finish, After::UndoTwice, After::Reboot] {
            for steps in 0..100 {
                let stage = Stage0::new();
                let inode = fs::metadata(&stage.plan.directory).unwrap().ino();
                if !crashes(&stage, steps) {
                    assert!(steps > 8, "there are steps to crash at: {steps}");
                    break;
                }
                let left = || stage.load().unwrap();
                match after {
                    After::Undo => left().undo().unwrap(),
                    After::UndoTwice => {
                        for again in 0..100 {
                            let moved = left();
                            moved.crash_after.set(Some(again));
                            match moved.undo() {
                                Ok(()) => break,
                                Err(MoveError::Crashed) => {}
                                Err(other) => panic!("{steps}, {again}: {other}"),
                            }
                        }
                    }
                    After::Finish | After::Reboot => {
                        if after == After::Reboot {
                            let _ = Command::new("umount")
                                .arg("-A")
                                .arg(&stage.disk.device)
                                .output();
                        }
                        let moved = left().finish(&mut quiet()).unwrap();
                        assert_eq!(stage.content(), "some content", "{steps}");
                        assert!(stage.plan.is_mounted_at(&stage.plan.directory).unwrap());
                        assert_eq!(fs::metadata(stage.plan.old()).unwrap().ino(), inode);
                        // And even now there is a way back.
                        moved.undo().unwrap();
                    }
                }
                stage.is_untouched(inode);
            }
        }
    });
}
