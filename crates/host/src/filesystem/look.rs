//! Whether a mount is as it should be.

use super::{mounts, resolved, visible, within};
use crate::detect::Detected;
use rustix::fs::{AtFlags, StatxFlags, statx};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Looks whether a filesystem is mounted, visible, answering and writable. Writes nothing: a mirror
/// that nobody uses stays quiet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountCheck {
    /// Full path of the directory.
    pub path: PathBuf,
    /// Major and minor number of the filesystem or its device; any if not given.
    pub device: Option<(u32, u32)>,
    /// It must not have become read-only.
    pub writable: bool,
    /// Limit for the whole check.
    pub timeout: Duration,
}

impl MountCheck {
    /// Does the check.
    #[must_use]
    pub fn check(&self) -> Detected {
        let check = self.clone();
        let path = self.path.display();
        within(self.timeout, move || check.look()).unwrap_or_else(|| {
            Detected::Failed(format!(
                "{path} does not answer within {:.1} s: the device below it hangs",
                self.timeout.as_secs_f64()
            ))
        })
    }

    fn look(&self) -> Detected {
        let shown = self.path.display();
        let mounts = match mounts() {
            Ok(mounts) => mounts,
            Err(error) => return Detected::Failed(format!("cannot read the mount table: {error}")),
        };
        let path = resolved(&self.path);
        let Some(mounted) = visible(&mounts, &path) else {
            return Detected::NotRunning(format!("nothing is mounted at {shown}"));
        };
        if self.device.is_some_and(|device| !mounted.is_of(device)) {
            return Detected::NotRunning(format!(
                "{} is mounted at {shown} instead",
                mounted.source.to_string_lossy()
            ));
        }
        let flags = StatxFlags::MNT_ID | StatxFlags::TYPE;
        let seen = match statx(rustix::fs::CWD, &path, AtFlags::SYMLINK_NOFOLLOW, flags) {
            Ok(seen) => seen,
            Err(error) => {
                let error = std::io::Error::from(error);
                return Detected::Failed(format!(
                    "{shown} answers: {error}; the filesystem was shut down, see `dmesg`"
                ));
            }
        };
        let known = StatxFlags::from_bits_retain(seen.stx_mask).contains(StatxFlags::MNT_ID);
        if known && seen.stx_mnt_id != mounted.id {
            return Detected::Failed(format!(
                "another mount hides {shown}: see `findmnt -T {shown}`"
            ));
        }
        if self.writable && mounted.is_read_only() {
            return Detected::Failed(format!(
                "{shown} has become read-only after an error: see `dmesg`"
            ));
        }
        Detected::Running
    }
}

/// How many entries a directory has, counted up to 100; `None` if it is not there or does not answer.
#[must_use]
pub fn entries(path: &Path, limit: Duration) -> Option<usize> {
    let path = path.to_owned();
    within(limit, move || {
        let entries = std::fs::read_dir(path).ok()?;
        Some(entries.take(100).count())
    })?
}
