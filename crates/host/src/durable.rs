//! State that survives a power cut: a file is the old one or the new one, never torn.
//!
//! A checked file, all numbers little-endian:
//!
//! | Bytes | Content |
//! |---|---|
//! | 0..8 | magic, names the kind of file |
//! | 8..12 | version of the payload's format |
//! | 12..20 | length of the payload |
//! | 20..24 | CRC-32 of bytes 0..20 and the payload |
//! | 24.. | payload, to the end of the file |

mod slots;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use slots::{Slots, SlotsError};

const HEADER: usize = 24;

/// A step that failed, on which file, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}: {source}{}", path.display(), advice(source))]
pub struct FileError {
    /// The step, as a verb phrase.
    pub step: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

pub(crate) fn file_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { step, path, source }
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "; free some space there (see df and df -i)",
        Some(libc::EROFS) => {
            "; the file system is read-only: look in dmesg for its error, then remount it"
        }
        Some(libc::EIO) => "; the disk fails: look in dmesg and replace it",
        Some(libc::EACCES | libc::EPERM) => "; run as the owner of that directory, usually root",
        Some(libc::ENOENT | libc::ENOTDIR) => "; make its directory, or name another",
        _ => "",
    }
}

/// Kind and version of a checked file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Names the kind of file.
    pub magic: [u8; 8],
    /// Version of the payload's format.
    pub version: u32,
}

/// Why a checked file was not read. A missing file is no error.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is a file of another kind.
    #[error("{} is not a hotpair {kind} file; move it away, or name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The expected kind.
        kind: String,
    },
    /// It was written by another version.
    #[error("{} has format version {found}, this program reads {wanted}; run the version that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: u32,
        /// Version expected.
        wanted: u32,
    },
    /// Its length or checksum is wrong.
    #[error("{} is damaged: {what}; its disk or file system lost data, restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
}

/// Replaces the content of `path` by `bytes`, durably when it returns `Ok`.
///
/// Writes `.NAME.tmp` beside it, flushes, renames, flushes the directory. After a crash at any
/// moment the file is wholly old or wholly new. Only one writer at a time may use a path. After an
/// error the content is the old one, unless only the last step failed, flushing the directory: then
/// it reads as new but may be old after a power cut.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let temporary = temporary(path, dir)?;
    let written = write_flushed(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(file_error("replace", path)));
    if written.is_err() {
        // The next write overwrites it anyway.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(file_error("flush directory", dir))
}

fn temporary(path: &Path, dir: &Path) -> Result<PathBuf, FileError> {
    let Some(name) = path.file_name() else {
        return Err(file_error("write", path)(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it names no file",
        )));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    Ok(dir.join(hidden))
}

fn write_flushed(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(file_error("create", path))?;
    file.write_all(bytes).map_err(file_error("write", path))?;
    file.sync_all().map_err(file_error("flush", path))
}

/// Writes `payload` atomically in a checked file.
pub fn write_checked(path: &Path, format: Format, payload: &[u8]) -> Result<(), FileError> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(format.magic);
    bytes.extend(format.version.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(crc(&bytes, payload).to_le_bytes());
    bytes.extend(payload);
    write_atomic(path, &bytes)
}

/// Reads a checked file of at most `limit` payload bytes; `None` when there is no file.
pub fn read_checked(
    path: &Path,
    format: Format,
    limit: usize,
) -> Result<Option<Vec<u8>>, ReadError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(file_error("open", path))?,
    };
    let mut bytes = Vec::new();
    let most = (HEADER + limit) as u64 + 1;
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(file_error("read", path))?;
    if bytes.len() > HEADER + limit {
        return Err(damaged(
            path,
            format!("longer than {} bytes", HEADER + limit),
        ));
    }
    check(path, format, &bytes).map(|payload| Some(payload.to_vec()))
}

fn check<'a>(path: &Path, format: Format, bytes: &'a [u8]) -> Result<&'a [u8], ReadError> {
    let head = bytes.get(..8).unwrap_or(bytes);
    if !format.magic.starts_with(head) {
        let kind = String::from_utf8_lossy(&format.magic).into_owned();
        return Err(ReadError::Foreign {
            path: path.to_owned(),
            kind,
        });
    }
    let Some((header, payload)) = bytes.split_at_checked(HEADER) else {
        return Err(damaged(path, format!("only {} bytes", bytes.len())));
    };
    if crc(&header[..20], payload).to_le_bytes() != header[20..] {
        return Err(damaged(path, "wrong checksum".into()));
    }
    let found = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if found != format.version {
        return Err(ReadError::Version {
            path: path.to_owned(),
            found,
            wanted: format.version,
        });
    }
    if (payload.len() as u64).to_le_bytes() != header[12..20] {
        return Err(damaged(path, "wrong length".into()));
    }
    Ok(payload)
}

fn damaged(path: &Path, what: String) -> ReadError {
    ReadError::Damaged {
        path: path.to_owned(),
        what,
    }
}

fn crc(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
