//! What guests are made of, as `scripts/setup-guests` left it.

use crate::error::{GuestError, Result};
use std::path::{Path, PathBuf};

/// Where the script puts things unless `HOTPAIR_GUESTS` says otherwise.
const CACHE: &str = "/var/cache/hotpair-guests";

/// The guests' kernel, its modules, busybox, and programs that are not installed on this machine.
#[derive(Debug, Clone)]
pub struct Parts {
    cache: PathBuf,
}

impl Parts {
    /// Finds them; an error says how to get them.
    pub fn find() -> Result<Self> {
        let cache = std::env::var_os("HOTPAIR_GUESTS").map_or_else(|| CACHE.into(), PathBuf::from);
        let parts = Self { cache };
        for needed in [parts.cache.join("layout"), parts.kernel(), parts.busybox()] {
            if !needed.exists() {
                return Err(GuestError::NotSetUp(needed));
            }
        }
        on_path(crate::guest::QEMU)
            .ok_or_else(|| GuestError::NotSetUp(crate::guest::QEMU.into()))?;
        Ok(parts)
    }

    /// The kernel's image.
    pub fn kernel(&self) -> PathBuf {
        self.cache.join("kernel")
    }

    /// A static busybox.
    pub fn busybox(&self) -> PathBuf {
        self.cache.join("busybox")
    }

    /// The directory with `modules.dep`.
    pub fn modules(&self) -> PathBuf {
        self.cache.join("modules")
    }

    /// Unpacked packages, laid out as a root directory.
    pub fn root(&self) -> PathBuf {
        self.cache.join("root")
    }

    /// A program by path, or by name: as installed here, or from the unpacked packages.
    pub fn program(&self, name: &Path) -> Result<PathBuf> {
        let found = if name.is_absolute() {
            Some(name.to_owned())
        } else {
            let unpacked = ["usr/sbin", "usr/bin", "sbin", "bin", "lib/drbd"]
                .map(|d| self.root().join(d).join(name));
            let unpacked = unpacked.into_iter().find(|path| path.is_file());
            on_path(&name.to_string_lossy()).or(unpacked)
        };
        found
            .filter(|path| path.is_file())
            .ok_or_else(|| GuestError::NoProgram(name.display().to_string()))
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    // What an administrator has, also where the caller's own list is shorter.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    path.split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|file| file.is_file())
}
