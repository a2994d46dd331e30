//! Doing something inside a network namespace, and making new ones.

use crate::error::{LabError, Result};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// An open network namespace; it exists at least as long as this does.
#[derive(Debug)]
pub struct Netns(OwnedFd);

impl Netns {
    /// Makes a new, empty network namespace.
    pub fn create() -> Result<Self> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| LabError::system("make a network namespace", e))?;
            Self::open("/proc/thread-self/ns/net".into())
        });
        join(made)
    }

    /// The network namespace of a process.
    pub fn of_process(pid: i32) -> Result<Self> {
        Self::open(format!("/proc/{pid}/ns/net").into())
    }

    fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).map_err(LabError::file("open", path))?;
        Ok(Self(file.into()))
    }

    /// Moves the calling thread into the namespace, for good: what it starts is born there.
    pub fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET)
            .map_err(|e| LabError::system("enter a network namespace", e))
    }

    /// Runs `action` on a thread of its own inside the namespace; sockets it opens stay there.
    pub fn within<T: Send + 'static>(
        &self,
        action: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let namespace = self
            .0
            .try_clone()
            .map_err(|e| LabError::system("copy a descriptor", e))?;
        let done = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)
                .map_err(|e| LabError::system("enter a network namespace", e))?;
            action()
        });
        join(done)
    }
}

fn join<T>(thread: std::thread::JoinHandle<Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(LabError::Keeper("a thread of the lab panicked".to_owned())))
}
