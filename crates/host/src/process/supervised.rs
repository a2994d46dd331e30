//! A program that stays in the foreground and outlives our daemon.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::spawn::{EXEC_WAIT, spawn};
use super::{Exit, Program, SpawnError, kill_all, poll, reap, table};
use crate::cgroup::{Cgroup, CgroupError};

/// How long killed processes are waited for; a large one takes seconds to give back its memory.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// What names a process for good within one boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Process number.
    pub pid: i32,
    /// Start, in clock ticks since boot (`/proc/PID/stat`).
    pub start_time: u64,
}

/// Why a process of a previous daemon was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReattachError {
    /// It has ended.
    #[error("process {0} has ended")]
    Gone(i32),
    /// The number belongs to another process now.
    #[error("process {} started at tick {found}, not {}: the number was given to another process", wanted.pid, wanted.start_time)]
    Recycled {
        /// The process looked for.
        wanted: Identity,
        /// Start of the process that has the number now.
        found: u64,
    },
    /// The system refused.
    #[error("cannot look at process {pid}: {source}")]
    Io {
        /// The process.
        pid: i32,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why a program may still be running after a stop.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Its cgroup could not be killed, or did not empty.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The main process did not end.
    #[error("process {0} is still there {wait} s after being killed; look for a task in state D with `ps -eo pid,stat,wchan,comm`", wait = KILL_WAIT.as_secs())]
    Stuck(i32),
    /// The process could not be waited for.
    #[error("cannot wait for process {pid}: {source}")]
    Wait {
        /// The process.
        pid: i32,
        /// The system's answer.
        source: io::Error,
    },
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// How the main process ended.
    pub exit: Exit,
    /// Whether the main process had to be killed.
    pub forced: bool,
}

/// A running foreground program; dropping it leaves the program running.
#[derive(Debug)]
pub struct Supervised {
    identity: Identity,
    pidfd: OwnedFd,
    cgroup: Option<Cgroup>,
    exit: Option<Exit>,
}

impl Supervised {
    /// Starts `program` with its output appended to `log`; returns once it runs.
    pub fn spawn(program: &Program, log: &LogFile) -> Result<Self, SpawnError> {
        let child = spawn(program, log.file.as_fd(), EXEC_WAIT)?;
        // Not yet reaped, so its entry is there even when it has ended already.
        let start_time = table::stat(child.pid).map_or(0, |stat| stat.start_time);
        Ok(Self {
            identity: Identity {
                pid: child.pid,
                start_time,
            },
            pidfd: child.pidfd,
            cgroup: program.cgroup.clone(),
            exit: None,
        })
    }

    /// Takes over a process which a previous daemon started, unless its number was recycled.
    ///
    /// An `identity` is good for one boot of the host only: keep it together with the boot id.
    pub fn reattach(identity: Identity, cgroup: Option<Cgroup>) -> Result<Self, ReattachError> {
        let Identity { pid, start_time } = identity;
        let io = |source| ReattachError::Io { pid, source };
        let number = Pid::from_raw(pid.max(0)).ok_or(ReattachError::Gone(pid))?;
        // The order matters: if the number still shows the old start now, the descriptor opened
        // before cannot be of a later process.
        let pidfd = match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Err(ReattachError::Gone(pid)),
            other => other.map_err(|error| io(error.into()))?,
        };
        let found = match table::stat(pid) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReattachError::Gone(pid));
            }
            other => other.map_err(io)?,
        };
        if found.start_time != start_time {
            return Err(ReattachError::Recycled {
                wanted: identity,
                found: found.start_time,
            });
        }
        Ok(Self {
            identity,
            pidfd,
            cgroup,
            exit: None,
        })
    }

    /// Number and start time, to be kept for [`Supervised::reattach`].
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Process number of the main process.
    pub fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// The cgroup it runs in.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// How the main process ended, or `None` while it runs. Never waits.
    pub fn exit(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = reap(self.pidfd.as_fd());
        }
        self.exit
    }

    /// Waits for the main process to end; `None` when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<Exit>> {
        self.wait_ended(limit)?;
        Ok(self.exit())
    }

    /// Waits without reaping, so that the process number stays taken.
    fn wait_ended(&self, limit: Duration) -> io::Result<bool> {
        if self.exit.is_some() {
            return Ok(true);
        }
        poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], limit)
    }

    /// Ends the program: SIGTERM to the main process, and after `term_timeout`, or when the main
    /// process has ended, SIGKILL to all that is left in its cgroup and process group.
    ///
    /// `Ok` means that nothing of it runs any more.
    pub fn stop(&mut self, term_timeout: Duration) -> Result<Stopped, StopError> {
        let pid = self.identity.pid;
        let wait = |source| StopError::Wait { pid, source };
        let mut ended = self.wait_ended(Duration::ZERO).map_err(wait)?;
        if !ended {
            // One that has ended meanwhile is what is wanted; a stopped one must run to see it.
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::TERM);
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::CONT);
            ended = self.wait_ended(term_timeout).map_err(wait)?;
        }
        self.kill()?;
        if !self.wait_ended(KILL_WAIT).map_err(wait)? {
            return Err(StopError::Stuck(pid));
        }
        if let Some(cgroup) = &self.cgroup
            && cgroup.path().exists()
            && !cgroup.wait_empty(KILL_WAIT)?
        {
            return Err(CgroupError::Survivors {
                path: cgroup.path().to_owned(),
                left: cgroup.procs()?.len(),
            }
            .into());
        }
        Ok(Stopped {
            exit: self.exit().unwrap_or(Exit::Unknown),
            forced: !ended,
        })
    }

    /// Kills the program with all in its cgroup and process group, without waiting.
    pub fn kill(&self) -> Result<(), StopError> {
        // One that has ended meanwhile is what is wanted.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let cgroup = self.cgroup.as_ref().filter(|cgroup| cgroup.path().exists());
        if self.number_is_ours() {
            kill_all(self.identity.pid, cgroup)?;
        } else if let Some(cgroup) = cgroup {
            cgroup.kill()?;
        }
        Ok(())
    }

    /// Whether the process number cannot have gone to somebody else: not reaped yet.
    fn number_is_ours(&self) -> bool {
        self.exit.is_none()
            && table::stat(self.identity.pid)
                .is_ok_and(|stat| stat.start_time == self.identity.start_time)
    }
}

/// The pidfd: readable once the main process has ended.
impl AsFd for Supervised {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A file that takes a program's output, shared with the program.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    path: PathBuf,
}

impl LogFile {
    /// Opens `path` for appending, made with mode 0640 when missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o640)
            .open(path)
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!(
                        "cannot open log file {}: {error}; check that its directory exists",
                        path.display()
                    ),
                )
            })?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Once the file is larger than `cap` bytes, moves its last `cap` bytes to `NAME.1` and empties
    /// it; `true` when it did.
    ///
    /// The program holds the file open for appending, so the file itself stays. What is written
    /// between the copy and the emptying is lost.
    pub fn rotate(&mut self, cap: u64) -> io::Result<bool> {
        let size = self.file.metadata()?.len();
        if size <= cap {
            return Ok(false);
        }
        let mut name = self.path.clone().into_os_string();
        name.push(".1");
        let mut older = File::create(name)?;
        self.file.seek(SeekFrom::Start(size - cap))?;
        io::copy(&mut Read::by_ref(&mut self.file).take(cap), &mut older)?;
        older.flush()?;
        self.file.set_len(0)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
