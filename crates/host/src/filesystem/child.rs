//! Mounting and unmounting in a child process, which may get stuck in the kernel.
//!
//! The new way to mount (`fsopen`, Linux 5.2) does all that may hang before anything is attached, so a
//! child that is killed while it hangs leaves nothing behind when the kernel lets go of it.

use super::options::Options;
use crate::process::{SignalsBlocked, poll, reap_later};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it is asked whether somebody else has to be let through.
const ROUND: Duration = Duration::from_millis(20);
/// How long a killed child is waited for; a stuck one is left to a thread.
const KILL_WAIT: Duration = Duration::from_millis(200);
/// What the kernel says about a refused option, at most.
const SAID: usize = 512;

/// Why a filesystem is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error(
        "the kernel does not know the filesystem {0}: install its module, or correct `filesystem`"
    )]
    UnknownFilesystem(String),
    #[error("cannot mount {} at {}: {source}{said}{}", device.display(), path.display(), advice(source))]
    Refused {
        device: PathBuf,
        path: PathBuf,
        source: io::Error,
        /// What the kernel says about it, after a colon.
        said: String,
    },
    #[error("mounting {} has not ended within {:.1} s: its device does not answer", device.display(), limit.as_secs_f64())]
    Stuck { device: PathBuf, limit: Duration },
    #[error("given up for a kill")]
    GivenUp,
    #[error("cannot make a process to mount with: {0}")]
    Child(#[source] io::Error),
}

/// Why a filesystem is still mounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Somebody uses it.
    #[error("{} is busy", .0.display())]
    Busy(PathBuf),
    #[error("cannot unmount {}: {source}", path.display())]
    Refused { path: PathBuf, source: io::Error },
    #[error("unmounting {} has not ended within {:.1} s: its device does not answer", path.display(), limit.as_secs_f64())]
    Stuck { path: PathBuf, limit: Duration },
    #[error("given up for a kill")]
    GivenUp,
    #[error("cannot make a process to unmount with: {0}")]
    Child(#[source] io::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::INVAL) => {
            "; the device holds another filesystem, a damaged one, or an option is wrong; see `dmesg`"
        }
        Some(Errno::BUSY) => "; something else uses the device",
        Some(Errno::NOENT | Errno::NXIO) => "; is the device there?",
        Some(Errno::IO | Errno::UCLEAN) => "; the device or the filesystem is damaged; see `dmesg`",
        Some(Errno::ROFS) => "; the device is read-only",
        Some(Errno::PERM) => "; only root may mount",
        _ => "",
    }
}

/// Mounts `device` at `path`, within `limit` and unless `give_up` says so.
///
/// A child that is stuck or given up attaches nothing once the kernel lets it go (before Linux 5.2 it
/// may); but it may have been about to end: look before you rely on nothing being mounted.
///
/// # Errors
/// See [`MountError`].
pub fn mount(
    device: &Path,
    path: &Path,
    filesystem: &str,
    options: &Options,
    limit: Duration,
    give_up: &dyn Fn() -> bool,
) -> Result<(), MountError> {
    let refused = |source: io::Error, said: String| MountError::Refused {
        device: device.to_owned(),
        path: path.to_owned(),
        source,
        said,
    };
    let text =
        |bytes: &[u8]| CString::new(bytes).map_err(|error| refused(error.into(), String::new()));
    let plan = Plan {
        device: text(device.as_os_str().as_bytes())?,
        path: text(path.as_os_str().as_bytes())?,
        filesystem: text(filesystem.as_bytes())?,
        options,
    };
    match in_child(limit, give_up, |report| plan.mount(report)) {
        Err(error) => Err(MountError::Child(error)),
        Ok(Ended::Done) => Ok(()),
        Ok(Ended::GivenUp) => Err(MountError::GivenUp),
        Ok(Ended::Stuck) => Err(MountError::Stuck {
            device: device.to_owned(),
            limit,
        }),
        Ok(Ended::Failed(errno, _)) if errno == Errno::NODEV => {
            Err(MountError::UnknownFilesystem(filesystem.to_owned()))
        }
        Ok(Ended::Failed(errno, said)) => Err(refused(errno.into(), said)),
    }
}

/// Takes away what is mounted at `path`, the topmost if there are several.
///
/// `lazily`: at once, whoever uses it; the filesystem itself ends when its last user does.
///
/// # Errors
/// See [`UnmountError`]. After `Stuck` it may be unmounted later, and usually is: look.
pub fn unmount(
    path: &Path,
    lazily: bool,
    limit: Duration,
    give_up: &dyn Fn() -> bool,
) -> Result<(), UnmountError> {
    let refused = |source: io::Error| UnmountError::Refused {
        path: path.to_owned(),
        source,
    };
    let c_path =
        CString::new(path.as_os_str().as_bytes()).map_err(|error| refused(error.into()))?;
    let mut flags = UnmountFlags::NOFOLLOW;
    if lazily {
        flags |= UnmountFlags::DETACH;
    }
    let work = |_: BorrowedFd<'_>| rustix::mount::unmount(c_path.as_c_str(), flags);
    match in_child(limit, give_up, work) {
        Err(error) => Err(UnmountError::Child(error)),
        Ok(Ended::Done) => Ok(()),
        Ok(Ended::GivenUp) => Err(UnmountError::GivenUp),
        Ok(Ended::Stuck) => Err(UnmountError::Stuck {
            path: path.to_owned(),
            limit,
        }),
        Ok(Ended::Failed(errno, _)) if errno == Errno::BUSY => {
            Err(UnmountError::Busy(path.to_owned()))
        }
        Ok(Ended::Failed(errno, _)) => Err(refused(errno.into())),
    }
}

/// Everything a child needs to mount, ready before it is made.
struct Plan<'a> {
    device: CString,
    path: CString,
    filesystem: CString,
    options: &'a Options,
}

impl Plan<'_> {
    /// Makes system calls only.
    fn mount(&self, report: BorrowedFd<'_>) -> Result<(), Errno> {
        let fs = match fsopen(self.filesystem.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(Errno::NOSYS) => return self.mount_old(),
            other => other?,
        };
        let configured = self.configure(&fs);
        if configured.is_err() {
            pass_on(&fs, report);
        }
        configured?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = fsmount(&fs, flags, self.options.attributes)?;
        move_mount(
            &mount,
            c"",
            rustix::fs::CWD,
            self.path.as_c_str(),
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
    }

    fn configure(&self, fs: &OwnedFd) -> Result<(), Errno> {
        fsconfig_set_string(fs, c"source", self.device.as_c_str())?;
        for (key, value) in &self.options.keys {
            match value {
                Some(value) => fsconfig_set_string(fs, key.as_c_str(), value.as_c_str())?,
                None => fsconfig_set_flag(fs, key.as_c_str())?,
            }
        }
        fsconfig_create(fs)
    }

    fn mount_old(&self) -> Result<(), Errno> {
        rustix::mount::mount(
            self.device.as_c_str(),
            self.path.as_c_str(),
            self.filesystem.as_c_str(),
            self.options.flags,
            self.options.data.as_c_str(),
        )
    }
}

/// Hands what the kernel says about a filesystem (one message a read, `e text`) to the parent.
fn pass_on(fs: &OwnedFd, report: BorrowedFd<'_>) {
    let mut message = [0u8; SAID];
    for _ in 0..8 {
        let Ok(length) = rustix::io::read(fs, &mut message) else {
            return;
        };
        // It is nothing but an explanation.
        let _ = rustix::io::write(report, message.get(..length).unwrap_or_default());
        let _ = rustix::io::write(report, b"\n");
    }
}

/// How a child came out.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Done,
    /// With what the kernel says about it.
    Failed(Errno, String),
    Stuck,
    GivenUp,
}

/// Does `work` in a child process. It must make system calls only: the child is a copy of one thread of
/// many, and no lock of the others is ever released in it.
fn in_child(
    limit: Duration,
    give_up: &dyn Fn() -> bool,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
) -> io::Result<Ended> {
    let end = Instant::now() + limit;
    let (said, report) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let child = fork(|| match work(report.as_fd()) {
        Ok(()) => 0,
        Err(errno) => errno.raw_os_error(),
    })?;
    drop(report);
    let ended = loop {
        if give_up() {
            break false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if poll(&mut [PollFd::new(&child, PollFlags::IN)], left.min(ROUND))? {
            break true;
        }
        if left.is_zero() {
            break false;
        }
    };
    if !ended {
        // What it has done meanwhile counts; a stuck one is never waited for.
        let _ = rustix::process::pidfd_send_signal(&child, Signal::KILL);
        let _ = poll(&mut [PollFd::new(&child, PollFlags::IN)], KILL_WAIT);
    }
    Ok(match crate::process::reap(child.as_fd()) {
        Some(crate::process::Exit::Code(0)) => Ended::Done,
        Some(crate::process::Exit::Code(code)) => {
            Ended::Failed(Errno::from_raw_os_error(code), explained(said))
        }
        _ => {
            reap_later(Some(child));
            if give_up() {
                Ended::GivenUp
            } else {
                Ended::Stuck
            }
        }
    })
}

/// The kernel's errors among its messages, `e text` each.
fn explained(said: OwnedFd) -> String {
    let mut text = Vec::new();
    // Nothing to read is no error.
    let _ = File::from(said)
        .take(8 * SAID as u64)
        .read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let errors: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("e "))
        .collect();
    if errors.is_empty() {
        return String::new();
    }
    format!(": {}", errors.join("; "))
}

/// Makes a child that does `work` and ends with the number it returns.
fn fork(work: impl FnOnce() -> i32) -> io::Result<OwnedFd> {
    let masked = SignalsBlocked::new();
    // SAFETY: the child makes only system calls (`work` promises) and ends by `_exit`, which runs no
    // handler of the parent; it takes no lock and allocates nothing.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = work();
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) }
    }
    let error = io::Error::last_os_error();
    drop(masked);
    // Not yet reaped, so the number is still this child's.
    match Pid::from_raw(pid.max(0)) {
        Some(child) => Ok(rustix::process::pidfd_open(child, PidfdFlags::empty())?),
        None => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_child_tells_how_it_ended() {
        let never = || false;
        assert_eq!(in_child(LONG, &never, |_| Ok(())).unwrap(), Ended::Done);
        let failed = in_child(LONG, &never, |report| {
            let _ = rustix::io::write(report, b"w old\ne no such option\n");
            Err(Errno::INVAL)
        });
        let said = ": no such option".to_owned();
        assert_eq!(failed.unwrap(), Ended::Failed(Errno::INVAL, said));
    }

    #[test]
    fn a_hanging_child_is_given_up_after_its_limit_or_when_asked() {
        let hang = |_: BorrowedFd<'_>| loop {
            let second = rustix::thread::Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            let _ = rustix::thread::nanosleep(&second);
        };
        let short = Duration::from_millis(50);
        assert_eq!(in_child(short, &|| false, hang).unwrap(), Ended::Stuck);
        assert_eq!(in_child(LONG, &|| true, hang).unwrap(), Ended::GivenUp);
    }
}
