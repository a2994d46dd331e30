//! One-shot scripts with a time limit and a bounded record of their output.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::spawn::{EXEC_WAIT, Spawned, reap_later, spawn};
use super::{Exit, Program, kill_all, poll, reap};

/// How long a killed script is waited for; one stuck in the kernel is left to a thread.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// Most that is still read after the script's end, so that a child flooding the pipe cannot hold
/// us; a pipe holds 64 KiB unless enlarged, at most 1 MiB.
const DRAIN_LIMIT: usize = 1 << 20;

/// How a one-shot script came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with this code.
    Exit(i32),
    /// This signal killed it.
    Signal(i32),
    /// It ran longer than allowed and was killed with all it had started.
    TimedOut,
    /// It did not start, or its end could not be learned; the text says why.
    Failed(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

/// The record of one script run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How it came out.
    pub outcome: Outcome,
    /// The last bytes of standard output and standard error, in the order written.
    pub output: Vec<u8>,
    /// How many earlier bytes of output were not kept.
    pub dropped: u64,
    /// When it was started.
    pub started: SystemTime,
    /// How long it took, the killing included.
    pub took: Duration,
}

impl Run {
    /// Whether it ended with code 0.
    pub fn succeeded(&self) -> bool {
        self.outcome == Outcome::Exit(0)
    }

    /// The kept output as text, bytes that are no UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

/// Runs `program` to its end, for at most `timeout`, keeping the last `output_limit` bytes of output.
///
/// Returns when the main process ends, also when it left children behind that hold its output
/// open; those live on, but writing to it then ends them with SIGPIPE, so a script that starts a
/// service must redirect that service's output. On timeout the program's cgroup, if it has one,
/// and its process group are killed: give a check its own cgroup, not that of the service. Another
/// thread ends a run early by killing the cgroup.
pub fn run(program: &Program, timeout: Duration, output_limit: usize) -> Run {
    let started = SystemTime::now();
    let begin = Instant::now();
    let mut tail = Tail::new(output_limit);
    let outcome = attempt(program, begin, timeout, &mut tail).unwrap_or_else(Outcome::Failed);
    Run {
        outcome,
        dropped: tail.dropped,
        output: tail.kept.into(),
        started,
        took: begin.elapsed(),
    }
}

fn attempt(
    program: &Program,
    begin: Instant,
    timeout: Duration,
    tail: &mut Tail,
) -> Result<Outcome, String> {
    let (output, input) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| format!("cannot make a pipe: {error}"))?;
    rustix::io::ioctl_fionbio(&output, true)
        .map_err(|error| format!("cannot set up a pipe: {error}"))?;
    let child =
        spawn(program, input.as_fd(), timeout.min(EXEC_WAIT)).map_err(|error| error.to_string())?;
    drop(input);
    let in_time = follow(&child, &output, begin, timeout, tail)
        .map_err(|error| format!("cannot wait: {error}"))?;
    if in_time {
        tail.drain(&output, DRAIN_LIMIT);
        return match reap(child.pidfd.as_fd()) {
            Some(Exit::Code(code)) => Ok(Outcome::Exit(code)),
            Some(Exit::Signal(signal)) => Ok(Outcome::Signal(signal)),
            other => Err(format!(
                "exit code of process {} lost ({other:?})",
                child.pid
            )),
        };
    }
    let killed = kill_all(child.pid, program.cgroup.as_ref());
    let _ = follow(&child, &output, Instant::now(), KILL_WAIT, tail);
    tail.drain(&output, DRAIN_LIMIT);
    reap_later(Some(child.pidfd));
    killed.map_err(|error| format!("timed out, and {error}"))?;
    Ok(Outcome::TimedOut)
}

/// Collects output until the main process ends (`true`) or time is up (`false`).
fn follow(
    child: &Spawned,
    output: &OwnedFd,
    begin: Instant,
    limit: Duration,
    tail: &mut Tail,
) -> std::io::Result<bool> {
    let mut open = true;
    loop {
        let left = limit.saturating_sub(begin.elapsed());
        let mut fds = [
            PollFd::new(&child.pidfd, PollFlags::IN),
            PollFd::new(output, PollFlags::IN),
        ];
        let watched = if open { &mut fds[..] } else { &mut fds[..1] };
        let ready = poll(watched, left)?;
        if !fds[0].revents().is_empty() {
            return Ok(true);
        }
        if !ready || left.is_zero() {
            return Ok(false);
        }
        open = tail.drain(output, DRAIN_LIMIT);
    }
}

/// The last bytes of a stream.
struct Tail {
    kept: VecDeque<u8>,
    limit: usize,
    dropped: u64,
}

impl Tail {
    fn new(limit: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            limit,
            dropped: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let excess = self.kept.len().saturating_sub(self.limit);
        self.kept.drain(..excess);
        self.dropped += excess as u64;
    }

    /// Reads what is there, at most `limit` bytes; `false` once the stream has ended.
    fn drain(&mut self, fd: &OwnedFd, limit: usize) -> bool {
        let mut buffer = [0; 16 << 10];
        let mut taken = 0;
        while taken < limit {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.push(&buffer[..count]);
                    taken += count;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
