//! A host's share of the unified cgroup hierarchy: kill, freeze, list, remove.

use crate::clock::wait_until;
use crate::error::{LabError, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the cgroup2 file system is mounted, as `/proc/self/mounts` says.
pub fn root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")
        .map_err(LabError::file("read", "/proc/self/mounts"))?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(at))
        })
        .next()
        .ok_or(LabError::NoCgroup2)
}

/// One host's cgroup with its switches held open, so that using them is one write.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    kill: File,
    freeze: File,
}

impl Cgroup {
    /// Makes the cgroup and its parents, or takes one that is there.
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(LabError::file("create", path))?;
        let open = |name: &str| {
            let file = path.join(name);
            OpenOptions::new()
                .write(true)
                .open(&file)
                .map_err(LabError::file("open", file))
        };
        Ok(Self {
            path: path.to_owned(),
            kill: open("cgroup.kill")?,
            freeze: open("cgroup.freeze")?,
        })
    }

    /// The cgroup's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends SIGKILL to every process in it and below, frozen ones too.
    pub fn kill(&self) -> io::Result<()> {
        (&self.kill).write_all(b"1")
    }

    /// Freezes or thaws every process in it and below.
    pub fn freeze(&self, on: bool) -> io::Result<()> {
        (&self.freeze).write_all(if on { b"1" } else { b"0" })
    }

    /// Waits at most one second until the kernel reports the wanted frozen state.
    pub fn wait_frozen(&self, on: bool) -> bool {
        wait_until(Duration::from_secs(1), Duration::from_micros(200), || {
            is_frozen(&self.path) == on
        })
    }

    /// Process ids in it and below, as the reader sees them.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        collect(&self.path, 0, &mut found);
        found
    }
}

/// Whether the kernel says that everything in the cgroup at `path` is frozen.
pub fn is_frozen(path: &Path) -> bool {
    event(path, "frozen")
}

/// Whether any living process is in the cgroup at `path` or below.
pub fn is_populated(path: &Path) -> bool {
    event(path, "populated")
}

fn event(path: &Path, key: &str) -> bool {
    let mut text = String::new();
    let read =
        File::open(path.join("cgroup.events")).and_then(|mut file| file.read_to_string(&mut text));
    read.is_ok()
        && text
            .lines()
            .any(|line| line.strip_prefix(key).is_some_and(|rest| rest == " 1"))
}

/// Cgroups nest; deeper than this is not followed.
const MAX_DEPTH: usize = 8;

fn collect(path: &Path, depth: usize, found: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(path.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    for child in children(path, depth) {
        collect(&child, depth + 1, found);
    }
}

fn children(path: &Path, depth: usize) -> Vec<PathBuf> {
    let entries = if depth < MAX_DEPTH {
        fs::read_dir(path).ok()
    } else {
        None
    };
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

/// Kills everything in the cgroup at `path`, waits for it to end and removes the whole subtree.
///
/// Waits at most two seconds; what still lives then is reported as an error.
pub fn destroy(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let _ = fs::write(path.join("cgroup.kill"), "1");
    wait_until(Duration::from_secs(2), Duration::from_millis(2), || {
        !is_populated(path)
    });
    let mut last = Ok(());
    wait_until(Duration::from_secs(1), Duration::from_millis(5), || {
        last = remove_tree(path, 0);
        last.is_ok()
    });
    last.map_err(LabError::file("remove", path))
}

fn remove_tree(path: &Path, depth: usize) -> io::Result<()> {
    for child in children(path, depth) {
        remove_tree(&child, depth + 1)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
