//! The local copy: a device or image file, and the file beside it if its metadata is there.

use crate::engine::{Found, IoError};
use crate::memory::ALIGN;
use crate::place::{self, Kind, Opened, PlaceError};
use hotpair_core::config::CopyPlace;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An open copy.
#[derive(Debug)]
pub struct Disk {
    data: Opened,
    beside: Option<Beside>,
    /// Transfers that have not ended.
    pub under_way: usize,
    /// A transfer failed: it is opened anew once nothing is under way.
    pub failed: bool,
}

#[derive(Debug)]
struct Beside {
    file: File,
    length: u64,
}

impl Disk {
    /// Opens the copy for this process alone. An image file is made with `make` bytes if it is missing.
    ///
    /// # Errors
    /// It cannot be had, or must not be used: see [`PlaceError`].
    pub fn open(wanted: &CopyPlace, make: Option<u64>) -> Result<Self, PlaceError> {
        let data = place::open(Path::new(&wanted.device), make)?;
        let beside = match &wanted.metadata {
            Some(path) => Some(Beside::open(Path::new(path))?),
            None => None,
        };
        Ok(Self {
            data,
            beside,
            under_way: 0,
            failed: false,
        })
    }

    /// What the engine is told of it.
    #[must_use]
    pub fn found(&self, earlier: Vec<u64>) -> Found {
        Found {
            size: self.data.size,
            beside: self.beside.is_some(),
            holds: self.data.holds.clone(),
            earlier,
        }
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.data.size
    }

    /// Smallest thing that can be written.
    #[must_use]
    pub fn block(&self) -> u32 {
        self.data.block
    }

    /// Makes zeros without being sent them.
    #[must_use]
    pub fn zeroing(&self) -> bool {
        self.data.zeroing
    }

    /// Looks at its size again; `true`: it has grown.
    pub fn grown(&mut self) -> bool {
        match self.data.size_now() {
            Ok(size) if size > self.data.size => {
                self.data.size = size;
                true
            }
            _ => false,
        }
    }

    /// An image file that is smaller becomes `wanted` bytes large; a device is left alone.
    ///
    /// # Errors
    /// Its filesystem has no room.
    pub fn enlarge(&self, path: &Path, wanted: u64) -> Result<(), PlaceError> {
        if self.data.kind == Kind::Device || self.data.size >= wanted {
            return Ok(());
        }
        place::enlarge(&self.data.file, path, self.data.size, wanted)
    }

    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.data.file.as_raw_fd()
    }

    #[must_use]
    pub fn metadata_fd(&self) -> RawFd {
        self.beside
            .as_ref()
            .map_or_else(|| self.fd(), |beside| beside.file.as_raw_fd())
    }

    /// Of so many bytes of metadata at `offset`, how many there are: behind them are zeros.
    #[must_use]
    pub fn metadata_there(&self, offset: u64, length: u32) -> u32 {
        match &self.beside {
            Some(beside) => {
                let there = beside.length.saturating_sub(offset);
                u32::try_from(there).map_or(length, |there| there.min(length))
            }
            None => length,
        }
    }

    /// Metadata is being written up to this offset.
    pub fn metadata_grows(&mut self, end: u64) {
        if let Some(beside) = &mut self.beside {
            beside.length = beside.length.max(end);
        }
    }
}

impl Beside {
    fn open(path: &Path) -> Result<Self, PlaceError> {
        let error = |source| PlaceError::Io {
            step: "open the metadata file",
            path: path.to_owned(),
            source,
        };
        let options = |flags| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.mode(0o600).custom_flags(flags);
            options
        };
        let file = match options(libc::O_DIRECT).open(path) {
            // Some filesystems have no direct I/O: what must be durable is said for each write.
            Err(source) if source.raw_os_error() == Some(libc::EINVAL) => {
                options(0).open(path).map_err(error)?
            }
            other => other.map_err(error)?,
        };
        place::lock(&file, path)?;
        let length = file.metadata().map_err(error)?.len();
        let whole = length.next_multiple_of(ALIGN as u64);
        if whole != length {
            file.set_len(whole).map_err(error)?;
        }
        Ok(Self {
            file,
            length: whole,
        })
    }
}

/// What a failed transfer means.
#[must_use]
pub fn error_of(errno: i32) -> IoError {
    match errno {
        libc::ENOSPC | libc::EDQUOT => IoError::NoSpace,
        _ => IoError::Failed,
    }
}
