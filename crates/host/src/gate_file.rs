//! The write gate of a group's mirrors: a deadline in memory that the guard and the mirror processes
//! share. Nobody has to act for it to close.
//!
//! A file of 4096 bytes, mapped by both sides; numbers are in the machine's own byte order, since it
//! lives on one host and dies with its boot.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 8 | magic `hpgate1\0` |
//! | 8 | 8 | instance: rises each time the gate is closed; what was opened under an earlier one stays shut |
//! | 16 | 8 | deadline on CLOCK_BOOTTIME, in microseconds; 0: closed; all ones: until it is closed |
//! | 24 | 8 | the same on CLOCK_MONOTONIC_RAW: the gate is open while both have not come |
//!
//! A reader may see one field of an opening and not yet the other: deadlines only grow between two
//! closings, so it sees the gate shut at worst.

use crate::clock::Reading;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: u64 = u64::from_ne_bytes(*b"hpgate1\0");
const SIZE: usize = 4096;
/// Never comes.
const LASTING: u64 = u64::MAX;

/// The mapped file.
struct Shared {
    map: *mut c_void,
}

// SAFETY: the mapping is only touched through atomics, which any thread may do.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn of(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() < SIZE as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is too short to be a write gate",
            ));
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping chosen by the kernel overlaps nothing of ours; the file has SIZE bytes,
        // and only this module's atomics look at them.
        let map = unsafe {
            mmap(
                std::ptr::null_mut(),
                SIZE,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        Ok(Self { map })
    }

    fn field(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < SIZE / 8);
        // SAFETY: the mapping lives as long as `self`, is aligned to a page, and `index` is one of the
        // four constants below; other processes change it through atomics only.
        unsafe { &*self.map.cast::<AtomicU64>().add(index) }
    }

    fn magic(&self) -> &AtomicU64 {
        self.field(0)
    }

    fn instance(&self) -> &AtomicU64 {
        self.field(1)
    }

    fn boottime(&self) -> &AtomicU64 {
        self.field(2)
    }

    fn raw(&self) -> &AtomicU64 {
        self.field(3)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `of` with this size and nobody else unmaps it.
        let _ = unsafe { munmap(self.map, SIZE) };
    }
}

/// The guard's end.
pub struct GateWriter {
    shared: Shared,
}

impl GateWriter {
    /// Opens the file or makes it, and closes the gate: what an earlier writer allowed is over.
    ///
    /// # Errors
    /// The file cannot be made or mapped.
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        if file.metadata()?.len() < SIZE as u64 {
            file.set_len(SIZE as u64)?;
        }
        let writer = Self {
            shared: Shared::of(&file)?,
        };
        writer.close();
        writer.shared.magic().store(MAGIC, Ordering::SeqCst);
        Ok(writer)
    }

    /// Lets I/O pass until `microseconds` after `now`; `None`: until it is closed.
    pub fn open(&self, now: Reading, microseconds: Option<u64>) {
        let until = |clock: u64| microseconds.map_or(LASTING, |span| clock.saturating_add(span));
        self.shared.raw().store(until(now.raw_us), Ordering::SeqCst);
        self.shared
            .boottime()
            .store(until(now.boottime_us), Ordering::SeqCst);
    }

    /// Shuts it, for good for whoever opened under the present instance.
    pub fn close(&self) {
        self.shared.boottime().store(0, Ordering::SeqCst);
        self.shared.raw().store(0, Ordering::SeqCst);
        self.shared.instance().fetch_add(1, Ordering::SeqCst);
    }
}

/// A mirror process's end, for one opening of its device.
pub struct GateReader {
    shared: Shared,
    instance: u64,
}

impl GateReader {
    /// Looks at the gate under its present instance.
    ///
    /// # Errors
    /// The file is missing or no write gate: the guard makes it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let shared = Shared::of(&file)?;
        if shared.magic().load(Ordering::SeqCst) != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is no write gate",
            ));
        }
        let instance = shared.instance().load(Ordering::SeqCst);
        Ok(Self { shared, instance })
    }

    /// May I/O pass at `now`? Once it said no, whoever asks must not ask again for this opening.
    #[must_use]
    pub fn passes(&self, now: Reading) -> bool {
        self.shared.instance().load(Ordering::Acquire) == self.instance
            && now.boottime_us < self.shared.boottime().load(Ordering::Acquire)
            && now.raw_us < self.shared.raw().load(Ordering::Acquire)
    }

    /// Microseconds until it closes unless it is opened for longer; `None`: until it is closed.
    #[must_use]
    pub fn left(&self, now: Reading) -> Option<u64> {
        let boottime = self.shared.boottime().load(Ordering::Acquire);
        let raw = self.shared.raw().load(Ordering::Acquire);
        if boottime == LASTING && raw == LASTING {
            return None;
        }
        let left = |deadline: u64, now: u64| deadline.saturating_sub(now);
        Some(left(boottime, now.boottime_us).min(left(raw, now.raw_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(microseconds: u64) -> Reading {
        Reading {
            boottime_us: microseconds,
            raw_us: microseconds + 7,
        }
    }

    fn gate() -> (tempfile::TempDir, std::path::PathBuf, GateWriter) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gates/web");
        let writer = GateWriter::create(&path).unwrap();
        (directory, path, writer)
    }

    #[test]
    fn passes_until_the_deadline_of_either_clock() {
        let (_directory, path, writer) = gate();
        let reader = GateReader::open(&path).unwrap();
        assert!(!reader.passes(at(100)));
        writer.open(at(100), Some(50));
        assert!(reader.passes(at(149)));
        assert_eq!(reader.left(at(149)), Some(1));
        assert!(!reader.passes(at(150)));
        let raw_ran_ahead = Reading {
            boottime_us: 120,
            raw_us: 157,
        };
        assert!(!reader.passes(raw_ran_ahead));
    }

    #[test]
    fn lasts_until_it_is_closed() {
        let (_directory, path, writer) = gate();
        let reader = GateReader::open(&path).unwrap();
        writer.open(at(100), None);
        assert!(reader.passes(at(u64::MAX - 10)));
        assert_eq!(reader.left(at(100)), None);
        writer.close();
        assert!(!reader.passes(at(101)));
    }

    #[test]
    fn opening_it_again_lets_nothing_of_an_earlier_instance_pass() {
        let (_directory, path, writer) = gate();
        let earlier = GateReader::open(&path).unwrap();
        writer.open(at(100), Some(50));
        assert!(earlier.passes(at(101)));
        writer.close();
        writer.open(at(100), Some(5_000));
        assert!(!earlier.passes(at(101)));
        assert!(GateReader::open(&path).unwrap().passes(at(101)));
    }

    #[test]
    fn a_new_writer_closes_what_an_earlier_one_allowed() {
        let (_directory, path, writer) = gate();
        let reader = GateReader::open(&path).unwrap();
        writer.open(at(100), None);
        drop(writer);
        assert!(reader.passes(at(101)), "a dead writer changes nothing");
        let _anew = GateWriter::create(&path).unwrap();
        assert!(!reader.passes(at(101)));
    }

    #[test]
    fn refuses_what_is_no_gate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("other");
        assert!(GateReader::open(&path).is_err());
        std::fs::write(&path, b"short").unwrap();
        assert!(GateReader::open(&path).is_err());
        std::fs::write(&path, [0; SIZE]).unwrap();
        assert!(GateReader::open(&path).is_err());
    }
}
