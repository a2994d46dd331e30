//! A disk that several hosts read and write at once: past every cache, whole blocks, durable when a write
//! returns.
//!
//! A block device, or a regular file where the filesystem knows `O_DIRECT` (NFS does). Every call waits for the
//! kernel for as long as that takes: a disk that hangs holds its caller, so that callers have a thread of
//! their own ([`crate::apart`]).

use crate::filesystem::{self, Mounted};
use rustix::fs::{OFlags, open};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

/// Unit of reads and writes, in bytes.
pub const BLOCK: usize = 4096;

/// Why a disk was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "there is no {}: is the disk attached to this host, the share mounted? A file on a share must be made first: `truncate -s 16M FILE`",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("{} cannot be opened: {source}", path.display())]
    System { path: PathBuf, source: io::Error },
    #[error("{} can only be read here: a quorum disk is written by every node", .0.display())]
    ReadOnly(PathBuf),
    #[error("{} is neither a block device nor a regular file", .0.display())]
    Kind(PathBuf),
    #[error(
        "{} has {found} bytes, {wanted} are needed: make it larger (16 MiB are plenty)",
        path.display()
    )]
    Small {
        path: PathBuf,
        found: u64,
        wanted: u64,
    },
    #[error(
        "{} is on a filesystem without O_DIRECT, where one host does not see what another one has written: use a shared block device, or a file on NFS",
        .0.display()
    )]
    Cached(PathBuf),
    #[error(
        "{} is on an NFS share mounted `{option}`: a write that is given up may still arrive later; mount it with `hard`",
        path.display()
    )]
    Soft { path: PathBuf, option: String },
    #[error(
        "{} is on a filesystem of type {kind}, of which it is not known how it keeps two hosts in step: use a shared block device, or a file on NFS",
        path.display()
    )]
    Filesystem { path: PathBuf, kind: String },
    #[error("{} is in use on this host: mounted, or part of a volume or array", .0.display())]
    InUse(PathBuf),
}

/// What it is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Read,
    Write,
    /// For writing, and a block device by nobody else on this host.
    Alone,
}

/// An open disk.
#[derive(Debug)]
pub struct SharedDisk {
    file: File,
    outlived: bool,
}

impl SharedDisk {
    /// Opens the disk at `path`, which must have `size` bytes or more.
    ///
    /// # Errors
    /// It is not there, or not fit; the text says what to do.
    pub fn open(path: &Path, size: u64, purpose: Purpose) -> Result<Self, OpenError> {
        let system = |source: io::Error| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENXIO | libc::ENODEV) => {
                OpenError::Missing(path.to_owned())
            }
            Some(libc::EROFS) => OpenError::ReadOnly(path.to_owned()),
            Some(libc::EBUSY) => OpenError::InUse(path.to_owned()),
            _ => OpenError::System {
                path: path.to_owned(),
                source,
            },
        };
        let kind = std::fs::metadata(path).map_err(system)?.file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err(OpenError::Kind(path.to_owned()));
        }
        let mut outlived = false;
        if kind.is_file() {
            let mounts = filesystem::mounts().map_err(system)?;
            let share = share(&mounts, &filesystem::resolved(path));
            outlived = share.map_err(|problem| match problem {
                Problem::Soft(option) => OpenError::Soft {
                    path: path.to_owned(),
                    option,
                },
                Problem::Unknown(kind) => OpenError::Filesystem {
                    path: path.to_owned(),
                    kind,
                },
            })?;
        }
        let writes = purpose != Purpose::Read;
        let read_only = kind.is_block_device() && is_read_only(path);
        if writes && read_only {
            return Err(OpenError::ReadOnly(path.to_owned()));
        }
        let mut flags = OFlags::CLOEXEC | OFlags::DIRECT | OFlags::NOCTTY;
        flags |= match writes {
            true => OFlags::RDWR | OFlags::DSYNC,
            false => OFlags::RDONLY,
        };
        if purpose == Purpose::Alone && kind.is_block_device() {
            flags |= OFlags::EXCL;
        }
        let opened = open(path, flags, rustix::fs::Mode::empty());
        let mut file = match opened {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::INVAL) => return Err(OpenError::Cached(path.to_owned())),
            Err(error) => return Err(system(error.into())),
        };
        let found = file.seek(SeekFrom::End(0)).map_err(system)?;
        if found < size {
            return Err(OpenError::Small {
                path: path.to_owned(),
                found,
                wanted: size,
            });
        }
        Ok(Self { file, outlived })
    }

    /// A write may go on when the thread that makes it is killed: whoever waits for the end of the thread does not
    /// know that the write has ended. So it is with NFS.
    #[must_use]
    pub fn writes_outlive_their_thread(&self) -> bool {
        self.outlived
    }

    /// Reads `length` bytes, whole blocks, from `offset` on.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::UnexpectedEof`] where the disk ends before.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut buffer = Aligned::new(length);
        self.file.read_exact_at(buffer.bytes(), offset)?;
        Ok(buffer.into_bytes())
    }

    /// Writes whole blocks; durable when it returns. After an error a part may have been written.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = Aligned::new(bytes.len());
        buffer.bytes().copy_from_slice(bytes);
        self.file.write_all_at(buffer.bytes(), offset)
    }
}

/// Memory at a multiple of [`BLOCK`], as `O_DIRECT` asks for.
struct Aligned {
    memory: Vec<u8>,
    begin: usize,
    length: usize,
}

impl Aligned {
    fn new(length: usize) -> Self {
        let memory = vec![0; length + BLOCK];
        let begin = memory.as_ptr().align_offset(BLOCK);
        Self {
            memory,
            begin,
            length,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + self.length]
    }

    fn into_bytes(mut self) -> Vec<u8> {
        self.memory.drain(..self.begin);
        self.memory.truncate(self.length);
        self.memory
    }
}

/// The kernel lets nobody write to this block device (`blockdev --setro`, a write-protected disk).
fn is_read_only(path: &Path) -> bool {
    let Some((major, minor)) = filesystem::block_device(path) else {
        return false;
    };
    let told = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/ro"));
    told.is_ok_and(|told| told.trim() == "1")
}

/// Filesystems of one host: for practice, where several nodes are on one machine. A thread that waits for
/// them is not killed before the write has ended.
const LOCAL: [&str; 7] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay"];

#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// The option by which the kernel gives up requests.
    Soft(String),
    Unknown(String),
}

/// Does a write to the file outlive its thread?
fn share(mounts: &[Mounted], path: &Path) -> Result<bool, Problem> {
    let around = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len());
    let Some(around) = around else {
        return Err(Problem::Unknown("unknown".into()));
    };
    if LOCAL.contains(&around.filesystem.as_str()) {
        return Ok(false);
    }
    if !matches!(around.filesystem.as_str(), "nfs" | "nfs4") {
        return Err(Problem::Unknown(around.filesystem.clone()));
    }
    let mut options = around.super_options.split(',');
    match options.find(|option| matches!(*option, "soft" | "softerr")) {
        Some(option) => Err(Problem::Soft(option.into())),
        None => Ok(true),
    }
}

#[cfg(test)]
mod tests;
