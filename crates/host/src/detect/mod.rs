//! Whether an application runs: blocking checks that end within their own time limit.
//!
//! A target that hangs has failed: one that accepts a connection and never answers, answers byte by
//! byte, or stands still on SIGSTOP is never reported as running.

mod listen;
mod node;
mod process;
mod script;
mod sql;
mod tcp;
mod url;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

pub use listen::{ListenCheck, Owner, Protocol};
pub use node::{DiskCheck, load, memory};
pub use process::{ProcessCheck, Target};
pub use script::ScriptCheck;
pub use sql::{Engine, SqlCheck};
pub use tcp::{Question, TcpCheck};
pub use url::{UrlCheck, Verify};

/// Most checks that may be stuck in the kernel at once (a hung process's `/proc` files).
const STUCK_LIMIT: usize = 16;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detected {
    /// The application runs and answers.
    Running,
    /// It is not there; the text says what is missing.
    NotRunning(String),
    /// It is there and does not work, or the check itself could not tell; the text says why.
    Failed(String),
}

/// Any of the checks.
#[derive(Debug, Clone)]
pub enum Check {
    /// A TCP port answers.
    Tcp(TcpCheck),
    /// A program listens on a port of this node.
    Listen(ListenCheck),
    /// A URL answers as expected.
    Url(UrlCheck),
    /// A process exists.
    Process(ProcessCheck),
    /// A script says so.
    Script(ScriptCheck),
}

impl Check {
    /// Does the check; blocks for at most its time limit.
    pub fn check(&self) -> Detected {
        match self {
            Self::Tcp(check) => check.check(),
            Self::Listen(check) => check.check(),
            Self::Url(check) => check.check(),
            Self::Process(check) => check.check(),
            Self::Script(check) => check.check(),
        }
    }
}

/// Does `work` on a thread of its own and gives up on it after `limit`.
///
/// Reading `/proc` can block for as long as the process looked at is stuck in the kernel.
fn bounded(limit: Duration, work: impl FnOnce() -> Detected + Send + 'static) -> Detected {
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    bounded_among(&BUSY, limit, work)
}

/// Counts a thread for as long as it runs.
struct Busy(&'static AtomicUsize);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn bounded_among(
    all: &'static AtomicUsize,
    limit: Duration,
    work: impl FnOnce() -> Detected + Send + 'static,
) -> Detected {
    let before = all.fetch_add(1, Ordering::Relaxed);
    let busy = Busy(all);
    if before >= STUCK_LIMIT {
        return Detected::Failed(format!(
            "{before} earlier checks are still stuck; look for processes in state D"
        ));
    }
    let (sender, result) = mpsc::sync_channel(1);
    let started = std::thread::Builder::new()
        .name("detect".into())
        .stack_size(256 << 10)
        .spawn(move || {
            let _busy = busy;
            // Nobody listens any more after the time limit.
            let _ = sender.send(work());
        });
    if let Err(error) = started {
        return Detected::Failed(format!("cannot start a thread: {error}"));
    }
    result
        .recv_timeout(limit)
        .unwrap_or_else(|_| Detected::Failed(format!("no result within {} ms", limit.as_millis())))
}

/// Whether `bytes` contain `needle`.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || bytes.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests;
