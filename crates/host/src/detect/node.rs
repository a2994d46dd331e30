//! Whether this node is in a state to run things: disk, memory, load.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Detected, bounded};

/// What is written to a disk to see that it takes writes, in bytes.
const WRITTEN: usize = 4096;

/// A directory's file system has room and takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCheck {
    /// A directory.
    pub path: PathBuf,
    /// At least so many bytes must be free for programs that are not root's; 0 asks nothing.
    pub free: u64,
    /// Name of the file to write, flush and remove.
    pub write: Option<String>,
    /// Limit for the whole check: a disk that hangs has failed.
    pub timeout: Duration,
}

impl DiskCheck {
    /// Does the check.
    pub fn check(&self) -> Detected {
        let check = self.clone();
        bounded(self.timeout, move || match check.look() {
            Ok(()) => Detected::Running,
            Err(reason) => Detected::Failed(reason),
        })
    }

    fn look(&self) -> Result<(), String> {
        let path = self.path.display();
        let found = rustix::fs::statvfs(&self.path)
            .map_err(|error| format!("cannot look at {path}: {error}"))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < self.free {
            return Err(format!(
                "{path} has {} MiB free, at least {} MiB are wanted",
                free >> 20,
                self.free.div_ceil(1 << 20)
            ));
        }
        if let Some(name) = &self.write {
            let file = self.path.join(name);
            let written = write(&file);
            // Also what was written in part.
            let _ = remove_file(&file);
            written.map_err(|error| format!("cannot write to {path}: {error}"))?;
        }
        Ok(())
    }
}

/// Writes and flushes a new file. What is there by that name is removed and never followed: others may
/// own the directory.
fn write(path: &Path) -> io::Result<()> {
    match remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(&[0; WRITTEN])?;
    file.sync_all()
}

/// At least `available` bytes of memory can be given to programs.
pub fn memory(available: u64) -> Detected {
    match available_memory() {
        Some(now) if now >= available => Detected::Running,
        Some(now) => Detected::Failed(format!(
            "{} MiB of memory are available, at least {} MiB are wanted",
            now >> 20,
            available.div_ceil(1 << 20)
        )),
        None => Detected::Failed("/proc/meminfo does not tell the available memory".into()),
    }
}

fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The load of the last minute is at most so many hundredths.
pub fn load(most_hundredths: u32) -> Detected {
    match load_hundredths() {
        Some(now) if now <= most_hundredths => Detected::Running,
        Some(now) => {
            let shown = |hundredths: u32| format!("{}.{:02}", hundredths / 100, hundredths % 100);
            Detected::Failed(format!(
                "the load is {}, at most {} is wanted",
                shown(now),
                shown(most_hundredths)
            ))
        }
        None => Detected::Failed("/proc/loadavg does not tell the load".into()),
    }
}

/// `0.52 0.58 …` in hundredths.
fn load_hundredths() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let (whole, part) = text.split_whitespace().next()?.split_once('.')?;
    let whole: u32 = whole.parse().ok()?;
    let part: u32 = part.get(..2)?.parse().ok()?;
    whole.checked_mul(100)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn disk(path: &Path, free: u64, write: Option<&str>) -> Result<(), String> {
        let check = DiskCheck {
            path: path.into(),
            free,
            write: write.map(str::to_owned),
            timeout: LIMIT,
        };
        match check.check() {
            Detected::Running => Ok(()),
            Detected::NotRunning(reason) | Detected::Failed(reason) => Err(reason),
        }
    }

    #[test]
    fn a_disk_takes_a_write_and_nothing_is_left_of_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(disk(dir.path(), 1, Some(".probe")), Ok(()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn each_way_a_disk_can_fail_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let says = |result: Result<(), String>, what: &str| {
            let error = result.unwrap_err();
            assert!(error.contains(what), "{error}");
        };
        says(disk(dir.path(), u64::MAX, None), "MiB free, at least");
        says(disk(&dir.path().join("none"), 0, None), "cannot look at");
        // Of /proc everything can be looked at, and nothing written.
        says(
            disk(Path::new("/proc"), 0, Some(".probe")),
            "cannot write to /proc",
        );
    }

    #[test]
    fn a_link_in_the_place_of_the_written_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "kept").unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::os::unix::fs::symlink(&precious, inner.join(".probe")).unwrap();
        assert_eq!(disk(&inner, 0, Some(".probe")), Ok(()));
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "kept");
    }

    #[test]
    fn memory_and_load_are_compared_with_what_is_wanted() {
        assert_eq!(memory(1), Detected::Running);
        assert!(matches!(memory(u64::MAX), Detected::Failed(_)));
        assert_eq!(load(u32::MAX), Detected::Running);
        assert!(available_memory().is_some() && load_hundredths().is_some());
    }
}
