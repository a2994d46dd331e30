//! Who owns a lab's name, and removal of what a lab (or a lab that crashed) leaves.

use crate::cgroup;
use crate::error::{LabError, Result};
use crate::paths::{PREFIX, Paths, RUN_ROOT};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Ownership of a lab's name, given up when dropped or when the process ends.
pub type Claim = Flock<File>;

/// Takes the lab's name; an error if a keeper has it.
pub fn claim(paths: &Paths) -> Result<Claim> {
    // Two tries more than needed: a cleaner may hold the lock for a moment.
    for _ in 0..20 {
        if let Some(claim) = try_claim(paths)? {
            return Ok(claim);
        }
        if std::os::unix::net::UnixStream::connect(paths.control()).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Err(LabError::AlreadyRunning(paths.name().to_owned()))
}

fn try_claim(paths: &Paths) -> Result<Option<Claim>> {
    let path = paths.lock();
    fs::create_dir_all(paths.run()).map_err(LabError::file("create", paths.run()))?;
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let Some(file) = opened
        .map(Some)
        .or_else(gone)
        .map_err(LabError::file("open", &path))?
    else {
        return Ok(None);
    };
    let Ok(claim) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        return Ok(None);
    };
    // The file may have been removed between opening and locking it.
    let same = |a: fs::Metadata| claim.metadata().is_ok_and(|b| a.ino() == b.ino());
    Ok(fs::metadata(&path).is_ok_and(same).then_some(claim))
}

fn gone<T>(error: io::Error) -> io::Result<Option<T>> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(None)
    } else {
        Err(error)
    }
}

/// Removes everything that labs without a keeper left, and says which labs those were.
pub fn remove_stale() -> Result<Vec<String>> {
    let on_disk = names(Path::new("/var/tmp")).into_iter();
    let on_disk = on_disk.filter_map(|name| name.strip_prefix(PREFIX).map(str::to_owned));
    let root = cgroup::root()?;
    let in_cgroups = names(&root).into_iter();
    let in_cgroups = in_cgroups.filter_map(|name| name.strip_prefix(PREFIX).map(str::to_owned));
    let mut all: Vec<_> = names(Path::new(RUN_ROOT))
        .into_iter()
        .chain(on_disk)
        .chain(in_cgroups)
        .collect();
    all.sort();
    all.dedup();
    let mut removed = Vec::new();
    for paths in all.iter().filter_map(|name| Paths::new(name).ok()) {
        if let Some(claim) = try_claim(&paths)? {
            remove(&paths)?;
            drop(claim);
            removed.push(paths.name().to_owned());
        }
    }
    Ok(removed)
}

/// Removes all traces of a lab: processes by its cgroup, cgroups, directories.
///
/// The caller holds the claim.
pub fn remove(paths: &Paths) -> Result<()> {
    cgroup::destroy(&cgroup::root()?.join(format!("{PREFIX}{}", paths.name())))?;
    for dir in [paths.disk(), paths.run()] {
        fs::remove_dir_all(&dir)
            .map(Some)
            .or_else(gone)
            .map_err(LabError::file("remove", dir))?;
    }
    // The common parent goes with the last lab; with others in it this fails, as it should.
    let _ = fs::remove_dir(RUN_ROOT);
    Ok(())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
