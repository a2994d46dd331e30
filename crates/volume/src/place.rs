//! Where a copy may be: block devices and image files, what must not be taken, and what is on them.
//!
//! A device is opened with O_EXCL: that fails while it is mounted, swapped to or part of something else
//! (LVM, RAID, device mapper), and keeps others from doing so while it is open, on the standby too.
//! What O_EXCL does not tell (a whole disk whose partition is mounted is told by the kernel; a disk that
//! holds hotpair's own state under another layer is not) is looked up in sysfs and in the mount table.

mod holds;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use holds::holds;

/// Where the kernel tells of block devices.
const SYS_BLOCK: &str = "/sys/dev/block";
/// Where hotpair keeps its own state: the disk under it is never a copy's place.
const OWN_STATE: &str = "/var/lib/hotpair";
const BLKGETSIZE64: libc::Ioctl = 0x8008_1272_u32 as libc::Ioctl;
const BLKSSZGET: libc::Ioctl = 0x1268;
/// Free space that stays beside an image file that is made.
const SPARE: u64 = 64 * 1024 * 1024;

/// Why a place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The system refused.
    #[error("cannot {step} {}: {source}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Mounted, swapped to, or part of something else.
    #[error(
        "{} is in use{}: unmount it, switch its swap off, or take it out of what it is part of", path.display(),
        by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default()
    )]
    InUse { path: PathBuf, by: Option<String> },
    /// It carries the system, or hotpair's own state.
    #[error("{} carries {what}: choose another partition, disk, logical volume or image file", path.display())]
    System { path: PathBuf, what: String },
    /// Neither a block device nor a file.
    #[error("{} is neither a block device nor an image file", path.display())]
    Kind { path: PathBuf },
    /// Another process has it.
    #[error("{} is used by another mirror or process on this host", path.display())]
    Locked { path: PathBuf },
    /// There is no image file, and nobody said how large it is to be.
    #[error("{} does not exist: create the mirror with a size, or name a device that exists", path.display())]
    Missing { path: PathBuf },
    /// The device takes no volume of this size.
    #[error(
        "{} has {size} bytes, the mirror and its own records need {wanted}: name a larger device, or make the mirror smaller",
        path.display()
    )]
    Small {
        path: PathBuf,
        wanted: u64,
        size: u64,
    },
    /// The filesystem has no room for the image file.
    #[error(
        "{} needs {wanted} bytes more, its filesystem has {free} free: free some space, or choose a smaller size",
        path.display()
    )]
    Space {
        path: PathBuf,
        wanted: u64,
        free: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Device,
    File,
}

/// A place that is ours while this lives.
#[derive(Debug)]
pub struct Opened {
    pub file: File,
    pub kind: Kind,
    pub size: u64,
    pub block: u32,
    pub zeroing: bool,
    /// What is on it, in words.
    pub holds: Option<String>,
}

/// Opens it for this process alone, after all checks. A missing image file is made with `make` bytes.
///
/// # Errors
/// See [`PlaceError`].
pub fn open(path: &Path, make: Option<u64>) -> Result<Opened, PlaceError> {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => open_device(path, found.rdev()),
        Ok(found) if found.is_file() => open_file(path, false),
        Ok(_) => Err(PlaceError::Kind {
            path: path.to_owned(),
        }),
        Err(source) if source.kind() == io::ErrorKind::NotFound && !path.starts_with("/dev") => {
            let size = make.ok_or_else(|| PlaceError::Missing {
                path: path.to_owned(),
            })?;
            make_file(path, size)?;
            open_file(path, true)
        }
        Err(source) => Err(error("look at", path)(source)),
    }
}

/// Could a copy that takes `size` bytes, metadata included, be here? Changes nothing: a missing image file is
/// not made, one that is too small is not enlarged.
///
/// # Errors
/// See [`PlaceError`].
pub fn check(path: &Path, size: u64) -> Result<(), PlaceError> {
    match std::fs::metadata(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound && !path.starts_with("/dev") => {
            let mut above = path.parent();
            // Directories that are missing are made with it.
            while let Some(parent) = above.filter(|parent| !parent.exists()) {
                above = parent.parent();
            }
            room_for(&above.unwrap_or(Path::new("/")).join("image"), size)
        }
        _ => {
            let opened = open(path, None)?;
            match opened.kind {
                Kind::Device if opened.size < size => Err(PlaceError::Small {
                    path: path.to_owned(),
                    wanted: size,
                    size: opened.size,
                }),
                _ => Ok(()),
            }
        }
    }
}

/// Takes the file for this process; it is free again when it is closed.
///
/// # Errors
/// Another process has it.
pub fn lock(file: &File, path: &Path) -> Result<(), PlaceError> {
    use rustix::fs::{FlockOperation, flock};
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|_| PlaceError::Locked {
        path: path.to_owned(),
    })
}

impl Opened {
    /// # Errors
    /// The system refuses.
    pub fn size_now(&self) -> io::Result<u64> {
        match self.kind {
            Kind::Device => device_size(&self.file),
            Kind::File => Ok(self.file.metadata()?.len()),
        }
    }
}

fn open_device(path: &Path, number: u64) -> Result<Opened, PlaceError> {
    refuse_system(path, number)?;
    let options = |flags| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags);
        options
    };
    let file = match options(libc::O_DIRECT | libc::O_EXCL).open(path) {
        Err(source) if source.raw_os_error() == Some(libc::EBUSY) => {
            return Err(PlaceError::InUse {
                path: path.to_owned(),
                by: user_of(number),
            });
        }
        other => other.map_err(error("open", path))?,
    };
    let size = device_size(&file).map_err(error("look at the size of", path))?;
    Ok(Opened {
        block: sector_size(&file).clamp(512, 4096),
        zeroing: queue_value(number, "write_zeroes_max_bytes") > 0,
        holds: holds(&file, size),
        file,
        kind: Kind::Device,
        size,
    })
}

fn open_file(path: &Path, fresh: bool) -> Result<Opened, PlaceError> {
    let options = |flags| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags);
        options
    };
    let file = match options(libc::O_DIRECT).open(path) {
        Err(source) if source.raw_os_error() == Some(libc::EINVAL) => {
            options(0).open(path).map_err(error("open", path))?
        }
        other => other.map_err(error("open", path))?,
    };
    lock(&file, path)?;
    if let Some(device) = loop_over(path) {
        return Err(PlaceError::InUse {
            path: path.to_owned(),
            by: Some(device),
        });
    }
    let found = file.metadata().map_err(error("look at", path))?;
    let block = match queue_value(found.dev(), "logical_block_size") {
        0 => 512,
        size => u32::try_from(size).unwrap_or(4096).clamp(512, 4096),
    };
    Ok(Opened {
        block,
        zeroing: true,
        holds: match fresh {
            true => None,
            false => holds(&file, found.len()),
        },
        file,
        kind: Kind::File,
        size: found.len(),
    })
}

/// Makes an image file larger, sparse, if there is room for all that is added.
///
/// # Errors
/// There is no room, or the system refuses.
pub fn enlarge(file: &File, path: &Path, from: u64, to: u64) -> Result<(), PlaceError> {
    room_for(path, to.saturating_sub(from))?;
    file.set_len(to)
        .and_then(|()| file.sync_all())
        .map_err(error("enlarge", path))
}

/// Is there so much room, and some to spare, in the filesystem of `path`?
fn room_for(path: &Path, size: u64) -> Result<(), PlaceError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let space = rustix::fs::statvfs(directory)
        .map_err(|source| error("look at the filesystem of", path)(source.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < size.saturating_add(SPARE) {
        return Err(PlaceError::Space {
            path: path.to_owned(),
            wanted: size,
            free,
        });
    }
    Ok(())
}

/// A sparse file, if there is room for all of it now.
fn make_file(path: &Path, size: u64) -> Result<(), PlaceError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).map_err(error("make the directory of", path))?;
    room_for(path, size)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(error("make", path))?;
    file.set_len(size)
        .and_then(|()| file.sync_all())
        .map_err(error("make", path))
}

/// Refuses what lies under the root filesystem, `/boot`, swap, or hotpair's own state: the device
/// itself, the disk it is a partition of, or a part of it.
fn refuse_system(path: &Path, number: u64) -> Result<(), PlaceError> {
    for (what, under) in carried() {
        if under.contains(&number) {
            return Err(PlaceError::System {
                path: path.to_owned(),
                what,
            });
        }
    }
    Ok(())
}

/// Devices under what must never be overwritten, whole disks included.
fn carried() -> Vec<(String, BTreeSet<u64>)> {
    let places = [
        ("/", "the root filesystem"),
        ("/usr", "the system"),
        ("/boot", "the system's boot files"),
        ("/boot/efi", "the system's boot files"),
        ("/var", "the system's state"),
        (OWN_STATE, "hotpair's own state"),
    ];
    let mut carried: Vec<_> = places
        .iter()
        .filter_map(|(place, what)| {
            let number = std::fs::metadata(place).ok()?.dev();
            Some(((*what).to_owned(), below(number)))
        })
        .collect();
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    for line in swaps.lines().skip(1) {
        let name = line.split_whitespace().next().unwrap_or_default();
        if let Ok(found) = std::fs::metadata(name) {
            let number = match found.file_type().is_block_device() {
                true => found.rdev(),
                false => found.dev(),
            };
            carried.push(("swap".to_owned(), below(number)));
        }
    }
    carried
}

/// A device and all that it lies on: its disk if it is a partition, its parts if it is mapped.
fn below(number: u64) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut rest = vec![number];
    while let Some(number) = rest.pop() {
        if found.len() > 256 || !found.insert(number) {
            continue;
        }
        let Ok(directory) = sys_block(number).canonicalize() else {
            continue;
        };
        if directory.join("partition").exists() {
            rest.extend(directory.parent().and_then(number_in));
        }
        if let Ok(slaves) = std::fs::read_dir(directory.join("slaves")) {
            rest.extend(
                slaves
                    .filter_map(Result::ok)
                    .filter_map(|slave| number_in(&slave.path())),
            );
        }
    }
    found
}

/// Who has the device, as far as the system tells.
fn user_of(number: u64) -> Option<String> {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let id = format!("{major}:{minor}");
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        if fields.nth(2) == Some(&id) {
            let place = fields.nth(1).unwrap_or_default();
            return Some(format!("mounted on {place}"));
        }
    }
    let holders = std::fs::read_dir(sys_block(number).join("holders")).ok()?;
    let holder = holders.filter_map(Result::ok).next()?;
    Some(format!("part of {}", holder.file_name().to_string_lossy()))
}

/// A loop device over this file.
fn loop_over(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    for number in crate::export::loop_device::bound() {
        let backing = format!("/sys/block/loop{number}/loop/backing_file");
        let backing = std::fs::read_to_string(backing).unwrap_or_default();
        if Path::new(backing.trim_end_matches('\n')) == real {
            return Some(format!("it is under /dev/loop{number}"));
        }
    }
    None
}

fn sys_block(number: u64) -> PathBuf {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    Path::new(SYS_BLOCK).join(format!("{major}:{minor}"))
}

fn number_in(directory: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(directory.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(rustix::fs::makedev(
        major.parse().ok()?,
        minor.parse().ok()?,
    ))
}

/// A number in the queue directory of a device, or of the disk it is a partition of; 0 if unknown.
fn queue_value(number: u64, name: &str) -> u64 {
    let Ok(directory) = sys_block(number).canonicalize() else {
        return 0;
    };
    let read = |directory: &Path| {
        let text = std::fs::read_to_string(directory.join("queue").join(name)).ok()?;
        text.trim().parse().ok()
    };
    read(&directory)
        .or_else(|| read(directory.parent()?))
        .unwrap_or(0)
}

fn device_size(file: &File) -> io::Result<u64> {
    let mut size = 0u64;
    // SAFETY: writes one u64, which lives for the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut size) } {
        0 => Ok(size),
        _ => Err(io::Error::last_os_error()),
    }
}

fn sector_size(file: &File) -> u32 {
    let mut size = 0i32;
    // SAFETY: writes one int, which lives for the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), BLKSSZGET, &raw mut size) } {
        0 => u32::try_from(size).unwrap_or(512),
        _ => 512,
    }
}

fn error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |source| PlaceError::Io { step, path, source }
}

#[cfg(test)]
mod tests;
