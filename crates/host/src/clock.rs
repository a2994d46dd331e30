//! The clocks leases are measured with, and the identity of the running kernel.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Names a file to read instead of the kernel's boot id, for several test hosts on one kernel.
pub const BOOT_ID_FILE_ENV: &str = "HOTPAIR_BOOT_ID_FILE";

const KERNEL_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Both clocks at one moment, in microseconds since some moment of this boot.
///
/// A holder counts its own lease by the faster of the two, a voter its promises by the slower:
/// time daemons slew `CLOCK_BOOTTIME` by up to 10 %, and neither may run in a paused guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// `CLOCK_BOOTTIME`: includes suspend, is slewed.
    pub boottime_us: u64,
    /// `CLOCK_MONOTONIC_RAW`: never slewed, stands still in suspend.
    pub raw_us: u64,
}

/// Reads both clocks, one directly after the other.
pub fn read() -> Reading {
    Reading {
        boottime_us: boottime_us(),
        raw_us: raw_us(),
    }
}

/// `CLOCK_BOOTTIME` in microseconds.
pub fn boottime_us() -> u64 {
    micros(clock_gettime(ClockId::Boottime))
}

/// `CLOCK_MONOTONIC_RAW` in microseconds.
pub fn raw_us() -> u64 {
    micros(clock_gettime(ClockId::MonotonicRaw))
}

/// These clocks count from a start in the past, so neither field is ever negative.
fn micros(time: Timespec) -> u64 {
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1_000
}

/// The random id the kernel drew when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub [u8; 16]);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Why the boot id could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BootIdError {
    /// The file could not be read.
    #[error("cannot read the boot id from {}: {source}; mount /proc, or name another file in {BOOT_ID_FILE_ENV}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file holds no UUID.
    #[error("{} holds `{text}`, not a boot id; it must hold one UUID such as 8c6f0f3e-27dd-4b44-9e3d-1f7f3f3f6a10", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The start of what it holds.
        text: String,
    },
}

/// The boot id of the host: from `file`, else from the file named by [`BOOT_ID_FILE_ENV`], else the
/// kernel's.
pub fn boot_id(file: Option<&Path>) -> Result<BootId, BootIdError> {
    let path = match file {
        Some(file) => file.to_owned(),
        None => {
            std::env::var_os(BOOT_ID_FILE_ENV).map_or_else(|| KERNEL_BOOT_ID.into(), PathBuf::from)
        }
    };
    let text = std::fs::read_to_string(&path).map_err(|source| BootIdError::Io {
        path: path.clone(),
        source,
    })?;
    parse(text.trim()).ok_or_else(|| BootIdError::Malformed {
        path,
        text: text.trim().chars().take(60).collect(),
    })
}

fn parse(text: &str) -> Option<BootId> {
    let hex: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    if hex.len() != 32 || !hex.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(BootId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_go_forward() {
        let first = read();
        let mut later = read();
        while later.raw_us < first.raw_us + 100 {
            later = read();
        }
        assert!(later.boottime_us > first.boottime_us);
    }

    #[test]
    fn reads_the_kernels_boot_id_and_prints_it_as_the_kernel_does() {
        let text = std::fs::read_to_string(KERNEL_BOOT_ID).unwrap();
        let id = boot_id(Some(Path::new(KERNEL_BOOT_ID))).unwrap();
        assert_eq!(id.to_string(), text.trim());
    }

    #[test]
    fn another_file_stands_in_for_the_kernels_boot_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boot_id");
        std::fs::write(&path, "00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!(
            boot_id(Some(&path)).unwrap().to_string(),
            "00112233-4455-6677-8899-aabbccddeeff"
        );
    }

    #[test]
    fn refuses_a_file_without_a_uuid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boot_id");
        for text in ["", "zz112233-4455-6677-8899-aabbccddeeff", "0011", "é"] {
            std::fs::write(&path, text).unwrap();
            assert!(
                matches!(boot_id(Some(&path)), Err(BootIdError::Malformed { .. })),
                "{text}"
            );
        }
        assert!(matches!(
            boot_id(Some(&dir.path().join("none"))),
            Err(BootIdError::Io { .. })
        ));
    }
}
