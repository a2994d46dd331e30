//! The programs that check and make filesystems, and what their exit codes say.

use crate::cgroup::Cgroup;
use crate::process::{Outcome, Program, Run, run};
use std::path::Path;
use std::time::Duration;

/// Output of a checker that is kept, in bytes.
const OUTPUT: usize = 16 << 10;

/// How thoroughly a filesystem is checked before it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// What its own checker does unasked: replay the journal, mend what is safe.
    Safe,
    /// Everything, each time.
    Full,
}

/// A filesystem that may be mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// What was mended, or could not be checked, for the log.
    pub note: Option<String>,
}

/// Why a filesystem was not checked or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesystemError {
    /// It must be mended by hand.
    #[error(
        "the filesystem on {device} has errors that are not mended unasked: run `{by_hand} {device}` and look at what it says ({said})"
    )]
    Damaged {
        device: String,
        by_hand: String,
        said: String,
    },
    #[error("{program} {outcome}: {said}")]
    Program {
        program: String,
        outcome: String,
        said: String,
    },
}

/// A checker and how it is asked.
struct Checker {
    argv: &'static [&'static str],
    /// For the operator.
    by_hand: &'static str,
    codes: Codes,
}

/// How exit codes are meant.
#[derive(Clone, Copy)]
enum Codes {
    /// fsck(8): bits; 1 and 2: mended, 4: left as it is, 8 and above: did not work.
    Fsck,
    /// 0 good, anything else bad.
    Plain,
    /// xfs_repair(8): 2: its log must be replayed first, which a mount does.
    Xfs,
}

fn checker_of(filesystem: &str, policy: Policy) -> Option<Checker> {
    use Policy::{Full, Safe};
    let (argv, by_hand, codes): (&'static [&'static str], _, _) = match (filesystem, policy) {
        ("ext4", Safe) => (&["fsck.ext4", "-p"], "fsck.ext4 -f", Codes::Fsck),
        ("ext4", Full) => (&["fsck.ext4", "-f", "-p"], "fsck.ext4 -f", Codes::Fsck),
        ("ext3", Safe) => (&["fsck.ext3", "-p"], "fsck.ext3 -f", Codes::Fsck),
        ("ext3", Full) => (&["fsck.ext3", "-f", "-p"], "fsck.ext3 -f", Codes::Fsck),
        ("ext2", Safe) => (&["fsck.ext2", "-p"], "fsck.ext2 -f", Codes::Fsck),
        ("ext2", Full) => (&["fsck.ext2", "-f", "-p"], "fsck.ext2 -f", Codes::Fsck),
        // The mount itself replays the log; their checkers do nothing unasked.
        ("xfs" | "btrfs", Safe) => return None,
        ("xfs", Full) => (&["xfs_repair", "-n"], "xfs_repair", Codes::Xfs),
        ("btrfs", Full) => (
            &["btrfs", "check", "--readonly"],
            "btrfs check",
            Codes::Plain,
        ),
        ("f2fs", _) => (&["fsck.f2fs", "-a"], "fsck.f2fs", Codes::Fsck),
        ("vfat", _) => (&["fsck.vfat", "-a"], "fsck.vfat", Codes::Fsck),
        ("exfat", _) => (&["fsck.exfat", "-p"], "fsck.exfat", Codes::Fsck),
        _ => return None,
    };
    Some(Checker {
        argv,
        by_hand,
        codes,
    })
}

/// The program that checks, to be looked for on this node; `None` if nothing is run.
#[must_use]
pub fn checker(filesystem: &str, policy: Policy) -> Option<&'static str> {
    checker_of(filesystem, policy).and_then(|checker| checker.argv.first().copied())
}

/// The program that makes such a filesystem.
#[must_use]
pub fn maker(filesystem: &str) -> String {
    format!("mkfs.{filesystem}")
}

/// Checks an unmounted filesystem, killing the checker after `limit`.
///
/// # Errors
/// See [`FilesystemError`].
pub fn check(
    filesystem: &str,
    policy: Policy,
    device: &Path,
    cgroup: Option<Cgroup>,
    limit: Duration,
) -> Result<Checked, FilesystemError> {
    let Some(checker) = checker_of(filesystem, policy) else {
        return Ok(Checked::default());
    };
    let mut argv: Vec<String> = checker.argv.iter().map(|&word| word.to_owned()).collect();
    argv.push(device.display().to_string());
    let run = run_in(argv, cgroup, limit);
    judge(&checker, device, &run)
}

fn run_in(argv: Vec<String>, cgroup: Option<Cgroup>, limit: Duration) -> Run {
    let mut program = Program::new(argv);
    program.cgroup = cgroup;
    run(&program, limit, OUTPUT)
}

fn judge(checker: &Checker, device: &Path, run: &Run) -> Result<Checked, FilesystemError> {
    let said = last_line(&run.text());
    let code = match run.outcome {
        Outcome::Exit(code) => code,
        _ => return Err(failed(checker.argv, run)),
    };
    let damaged = || FilesystemError::Damaged {
        device: device.display().to_string(),
        by_hand: checker.by_hand.to_owned(),
        said: said.clone(),
    };
    match (checker.codes, code) {
        (_, 0) => Ok(Checked::default()),
        (Codes::Fsck, code) if code & !3 == 0 => Ok(Checked {
            note: Some(format!("the filesystem was mended: {said}")),
        }),
        (Codes::Fsck, code) if code & 4 != 0 && code & !7 == 0 => Err(damaged()),
        (Codes::Fsck, _) => Err(failed(checker.argv, run)),
        (Codes::Xfs, 2) => Ok(Checked {
            note: Some(
                "not checked as a whole: its log has to be replayed first, which the mount does"
                    .into(),
            ),
        }),
        (Codes::Xfs | Codes::Plain, 1) => Err(damaged()),
        _ => Err(failed(checker.argv, run)),
    }
}

fn failed<S: AsRef<str>>(argv: &[S], run: &Run) -> FilesystemError {
    let outcome = match &run.outcome {
        Outcome::TimedOut => format!("did not end within {:.0} s", run.took.as_secs_f64()),
        outcome => format!("ended with {outcome}"),
    };
    FilesystemError::Program {
        program: argv.first().map_or("", AsRef::as_ref).to_owned(),
        outcome,
        said: gist(&run.text()),
    }
}

/// Its last words, on one line.
fn gist(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let length = line.chars().count();
    match length {
        0 => "it said nothing".to_owned(),
        _ => line.chars().skip(length.saturating_sub(300)).collect(),
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.map_or("it said nothing".to_owned(), |line| {
        line.trim().chars().take(200).collect()
    })
}

/// Makes a filesystem on a device that holds nothing ([`super::probe`] says so).
///
/// # Errors
/// See [`FilesystemError`].
pub fn make(
    filesystem: &str,
    device: &Path,
    cgroup: Option<Cgroup>,
    limit: Duration,
) -> Result<(), FilesystemError> {
    let mut argv = vec![maker(filesystem)];
    match filesystem {
        // They ask when they are given a whole disk.
        "ext2" | "ext3" | "ext4" => argv.extend(["-q".into(), "-F".into()]),
        "xfs" | "btrfs" | "f2fs" => argv.push("-q".into()),
        _ => {}
    }
    argv.push(device.display().to_string());
    let run = run_in(argv.clone(), cgroup, limit);
    if run.succeeded() {
        return Ok(());
    }
    Err(failed(&argv, &run))
}

/// Makes a mounted filesystem as large as its device; `false`: nobody knows how.
///
/// # Errors
/// See [`FilesystemError`].
pub fn grow(
    filesystem: &str,
    device: &Path,
    point: &Path,
    limit: Duration,
) -> Result<bool, FilesystemError> {
    let (device, point) = (device.display().to_string(), point.display().to_string());
    let argv = match filesystem {
        "ext2" | "ext3" | "ext4" => vec!["resize2fs".to_owned(), device],
        "xfs" => vec!["xfs_growfs".to_owned(), point],
        "btrfs" => ["btrfs", "filesystem", "resize", "max"]
            .into_iter()
            .map(str::to_owned)
            .chain([point])
            .collect(),
        _ => return Ok(false),
    };
    let run = run_in(argv.clone(), None, limit);
    if run.succeeded() {
        return Ok(true);
    }
    Err(failed(&argv, &run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn judged(filesystem: &str, policy: Policy, outcome: Outcome) -> Result<bool, String> {
        let checker = checker_of(filesystem, policy).expect("there is a checker");
        let run = Run {
            outcome,
            output: b"first\nsaid last\n\n".to_vec(),
            dropped: 0,
            started: SystemTime::UNIX_EPOCH,
            took: Duration::from_secs(3),
        };
        judge(&checker, Path::new("/dev/x"), &run)
            .map(|checked| checked.note.is_some())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn exit_codes_of_checkers_are_understood() {
        let ext4 = |code| judged("ext4", Policy::Safe, Outcome::Exit(code));
        assert_eq!(ext4(0), Ok(false));
        assert_eq!([ext4(1), ext4(2), ext4(3)], [Ok(true), Ok(true), Ok(true)]);
        assert!(ext4(4).unwrap_err().contains("run `fsck.ext4 -f /dev/x`"));
        for code in [8, 12, 16, 32, 128] {
            let error = ext4(code).unwrap_err();
            assert!(
                error.contains(&format!("exit code {code}: first said last")),
                "{error}"
            );
        }
        let xfs = |code| judged("xfs", Policy::Full, Outcome::Exit(code));
        assert_eq!((xfs(0), xfs(2)), (Ok(false), Ok(true)));
        assert!(xfs(1).unwrap_err().contains("xfs_repair /dev/x"));
        assert!(judged("btrfs", Policy::Full, Outcome::Exit(1)).is_err());
        let hung = judged("ext4", Policy::Safe, Outcome::TimedOut).unwrap_err();
        assert!(hung.contains("did not end within 3 s"), "{hung}");
    }

    #[test]
    fn nothing_is_run_where_the_mount_does_it() {
        assert_eq!(checker("xfs", Policy::Safe), None);
        assert_eq!(checker("ext4", Policy::Full), Some("fsck.ext4"));
        assert_eq!(checker("unheard-of", Policy::Full), None);
    }
}
