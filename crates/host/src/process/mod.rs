//! Programs of others: started in their own cgroup and session, watched, and ended with all they
//! started.
//!
//! [`run`] is for scripts that end by themselves, [`Supervised`] for programs that stay in the
//! foreground, [`ProcessWatch`] tells of their exit within a millisecond.

mod run;
mod spawn;
mod supervised;
mod table;
mod user;
mod watch;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

pub use run::{Outcome, Run, run};
pub use spawn::SpawnError;
pub(crate) use spawn::{SignalsBlocked, reap_later};
pub use supervised::{Identity, LogFile, ReattachError, StopError, Stopped, Supervised};
pub use table::{ProcessStat, pids, stat};
pub use user::{Account, UserError};
pub use watch::{ProcessWatch, WatchId};

use crate::cgroup::Cgroup;

/// Where programs are looked for when neither the program's environment nor ours names a `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program and the surroundings it is started in.
///
/// It gets its own session, `input` (nothing, where none is given) as standard input, default signal handling, normal
/// scheduling, no inherited file descriptors, and an environment of just `PATH`, `LANG`, the
/// user's `HOME`, `USER`, `LOGNAME`, `SHELL`, and `env`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments; without a `/` it is looked for in `PATH`.
    pub argv: Vec<String>,
    /// Variables set on top of the basic ones.
    pub env: Vec<(String, String)>,
    /// Working directory; `/` when not given.
    pub cwd: Option<PathBuf>,
    /// User name or number to run as, with that user's groups; ours when not given.
    pub user: Option<String>,
    /// The cgroup it is born in; ours when not given. Killing it kills the cgroup.
    pub cgroup: Option<Cgroup>,
    /// What it reads on its standard input, such as what nobody may see among its arguments.
    pub input: Vec<u8>,
}

impl Program {
    /// A program with these arguments and nothing else set.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself with this code, 0 to 255.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It ended, but somebody else was its parent.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown => f.write_str("ended, exit code unknown"),
        }
    }
}

/// `poll(2)` for at most `limit`; whether any descriptor is ready. A signal does not end the wait.
pub(crate) fn poll(fds: &mut [PollFd<'_>], limit: Duration) -> io::Result<bool> {
    let end = Instant::now().checked_add(limit);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(fds, timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the exit status of the process behind a pidfd; `None` while it lives.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
        Ok(Some(status)) => Some(exit_of(&status)),
        Ok(None) => None,
        // Not our child, so only the pidfd tells of its end.
        Err(_) => {
            let mut fds = [PollFd::from_borrowed_fd(
                pidfd,
                rustix::event::PollFlags::IN,
            )];
            matches!(poll(&mut fds, Duration::ZERO), Ok(true)).then_some(Exit::Unknown)
        }
    }
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// Kills a program with all it started: its cgroup if it has one, and its session's first group.
///
/// Call it only while the main process has not been reaped, so that its number is still its own.
pub(crate) fn kill_all(
    pid: i32,
    cgroup: Option<&Cgroup>,
) -> Result<(), crate::cgroup::CgroupError> {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // Nobody left in the group is what is wanted.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    cgroup.map_or(Ok(()), Cgroup::kill)
}

#[cfg(test)]
pub(crate) mod testing;
