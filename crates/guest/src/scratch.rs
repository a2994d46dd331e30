//! A directory for sockets and scratch disks while a guest boots.

use crate::error::{GuestError, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// In `/var/tmp`, since a scratch disk may be large and hosts of a lab see it under the same name.
const PARENT: &str = "/var/tmp";
const PREFIX: &str = "hotpair-guest-";

/// The directory; removed when dropped. It is locked as long as its owner lives, so that whoever
/// boots a guest next can remove what a killed process left.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Scratch {
    /// Makes a new one, and removes those without an owner.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_stale();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(PARENT).join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(GuestError::file("create", &path))?;
        let lock = lock(&path).ok_or_else(|| {
            let taken = std::io::Error::other("it is locked by another process");
            GuestError::file("take", &path)(taken)
        })?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn lock(path: &Path) -> Option<Flock<File>> {
    let file = File::open(path).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

fn remove_stale() {
    let entries = fs::read_dir(PARENT).into_iter().flatten().flatten();
    let ours = entries.filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX));
    for path in ours.map(|e| e.path()) {
        // One that is being made at this moment may not be locked yet: it is young.
        let age = fs::metadata(&path).and_then(|m| m.modified()).ok();
        let old = age
            .and_then(|at| at.elapsed().ok())
            .is_some_and(|age| age.as_secs() > 5);
        if old && lock(&path).is_some() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
