//! Snapshots of the local copy: what it held is kept before it is overwritten.
//!
//! Each snapshot is a directory of its own with three files, and stands by itself:
//!
//! | File | Content |
//! |---|---|
//! | `about` | lines `taken_ms`, `automatic`, `size`; written last, so a directory without it is no snapshot |
//! | `data` | sparse, as long as the volume: kept chunks of 64 KiB, each at its own offset |
//! | `map` | a bit for each chunk, in pages of 4096 bytes: set once the chunk is durable in `data` |
//!
//! Before a chunk of the disk is overwritten for the first time since a snapshot was taken, it is read
//! from the disk, written to `data` on stable storage, then its bit to `map`; only then does the write go
//! on. Bits are only ever set, so a torn page of the map is old or new bit by bit, and both are true. A
//! snapshot shows a chunk from `data` if its bit is set, else from the disk.
//!
//! Snapshots belong to the disk they were taken of: one that is replaced makes them worthless.

use crate::protocol;
use hotpair_host::durable::write_atomic;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes kept at a time.
pub(super) const CHUNK: u64 = 64 * 1024;
/// Bytes of the map written at a time.
pub(super) const PAGE: usize = 4096;
/// Chunks of a page.
const PAGE_CHUNKS: u64 = PAGE as u64 * 8;
/// Snapshots of a copy: each one more makes first overwriting slower.
pub(super) const LIMIT: usize = 8;
const NAME_LIMIT: usize = 64;

/// One snapshot.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub name: String,
    pub automatic: bool,
    taken_ms: u64,
    size: u64,
    directory: PathBuf,
    data: File,
    map: File,
    bits: Vec<u8>,
    /// Of `bits`, those that are on stable storage.
    durable: Vec<u8>,
    /// For each page that is being written: chunks that it makes durable, chunks for the next time.
    writing: std::collections::BTreeMap<u64, (Vec<u64>, Vec<u64>)>,
}

impl Snapshot {
    /// Takes one of a copy of `size` bytes.
    ///
    /// # Errors
    /// The name cannot be used, or the system refuses.
    pub(super) fn take(
        all: &Path,
        name: &str,
        size: u64,
        automatic: bool,
        now_ms: u64,
    ) -> io::Result<Self> {
        check(name)?;
        let directory = all.join(name);
        std::fs::create_dir_all(all)?;
        std::fs::create_dir(&directory)?;
        let taken = Self::fill(all, &directory, size, automatic, now_ms);
        let opened = taken.and_then(|()| Self::open(&directory, name));
        if opened.is_err() {
            // Neither its name nor its room stays taken.
            let _ = std::fs::remove_dir_all(&directory);
        }
        opened
    }

    fn fill(
        all: &Path,
        directory: &Path,
        size: u64,
        automatic: bool,
        now_ms: u64,
    ) -> io::Result<()> {
        let pages = size.div_ceil(CHUNK).div_ceil(PAGE_CHUNKS).max(1);
        for (file, length) in [("data", size), ("map", pages * PAGE as u64)] {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(directory.join(file))?;
            file.set_len(length)?;
            file.sync_all()?;
        }
        let about = format!("taken_ms={now_ms}\nautomatic={automatic}\nsize={size}\n");
        write_atomic(&directory.join("about"), about.as_bytes()).map_err(io::Error::other)?;
        File::open(all)?.sync_all()
    }

    /// All that are in this directory and whole, oldest first.
    pub(super) fn all(directory: &Path) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return Vec::new();
        };
        let mut found: Vec<Self> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Self::open(&entry.path(), &name).ok()
            })
            .take(LIMIT)
            .collect();
        found.sort_by_key(|snapshot| snapshot.taken_ms);
        found
    }

    fn open(directory: &Path, name: &str) -> io::Result<Self> {
        let about = std::fs::read_to_string(directory.join("about"))?;
        let value = |key: &str| {
            let found = about
                .lines()
                .filter_map(|line| line.split_once('='))
                .find(|(name, _)| *name == key);
            let text = found.map(|(_, value)| value.to_owned());
            text.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no such line"))
        };
        let number = |key: &str| value(key)?.parse().map_err(io::Error::other);
        let size: u64 = number("size")?;
        let map = open(&directory.join("map"))?;
        let pages = size.div_ceil(CHUNK).div_ceil(PAGE_CHUNKS).max(1);
        let length = usize::try_from(pages).map_err(io::Error::other)? * PAGE;
        let bits = read_aligned(&map, length)?;
        Ok(Self {
            name: name.to_owned(),
            automatic: value("automatic")? == "true",
            taken_ms: number("taken_ms")?,
            size,
            directory: directory.to_owned(),
            data: open(&directory.join("data"))?,
            map,
            durable: bits.clone(),
            bits,
            writing: std::collections::BTreeMap::new(),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn data_fd(&self) -> RawFd {
        self.data.as_raw_fd()
    }

    pub(super) fn map_fd(&self) -> RawFd {
        self.map.as_raw_fd()
    }

    /// Is the chunk kept, durably?
    pub(super) fn has(&self, chunk: u64) -> bool {
        bit(&self.durable, chunk)
    }

    /// Must the chunk be kept before it is overwritten?
    pub(super) fn lacks(&self, chunk: u64) -> bool {
        chunk * CHUNK < self.size && !self.has(chunk)
    }

    /// Bytes of a chunk: the last one may be shorter.
    pub(super) fn length(&self, chunk: u64) -> u64 {
        CHUNK.min(self.size.saturating_sub(chunk * CHUNK))
    }

    /// The chunk is in `data`: the page of the map to be written now, with its bytes; `None`: it is being
    /// written, and will be again.
    pub(super) fn kept(&mut self, chunk: u64) -> Option<(u64, Vec<u8>)> {
        set(&mut self.bits, chunk);
        let page = chunk / PAGE_CHUNKS;
        if let Some((_, next)) = self.writing.get_mut(&page) {
            next.push(chunk);
            return None;
        }
        self.writing.insert(page, (vec![chunk], Vec::new()));
        Some((page, self.page(page)))
    }

    /// A page of the map was written, durably if `good`: the chunks it was for, and whether it is to be written
    /// again.
    pub(super) fn mapped(&mut self, page: u64, good: bool) -> (Vec<u64>, Option<Vec<u8>>) {
        let Some((now, next)) = self.writing.remove(&page) else {
            return (Vec::new(), None);
        };
        for &chunk in now.iter().filter(|_| good) {
            set(&mut self.durable, chunk);
        }
        if next.is_empty() {
            return (now, None);
        }
        self.writing.insert(page, (next, Vec::new()));
        (now, Some(self.page(page)))
    }

    /// Chunks in `data` whose bits are not durable.
    pub(super) fn unmapped(&self) -> Vec<u64> {
        let pages = self.writing.values();
        pages
            .flat_map(|(now, next)| now.iter().chain(next).copied())
            .collect()
    }

    fn page(&self, page: u64) -> Vec<u8> {
        let start = usize::try_from(page).unwrap_or(0) * PAGE;
        self.bits[start..start + PAGE].to_vec()
    }

    /// From here on nobody finds it: first what says that it is one, durably, then the rest.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(self.directory.join("about"))?;
        File::open(&self.directory)?.sync_all()?;
        std::fs::remove_dir_all(&self.directory)
    }

    pub(super) fn words(&self) -> protocol::Snapshot {
        protocol::Snapshot {
            name: self.name.clone(),
            taken_ms: self.taken_ms,
            automatic: self.automatic,
            bytes: self.data.metadata().map_or(0, |found| found.blocks() * 512),
        }
    }
}

/// Removes what an earlier run was looking at.
pub(super) fn forget_looks(all: &Path) {
    let Ok(entries) = std::fs::read_dir(all) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(protocol::LOOK_PREFIX) {
            // Without `about` it is no snapshot; what is left of it is tried again the next time.
            let _ = std::fs::remove_file(entry.path().join("about"));
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn check(name: &str) -> io::Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty()
        || name.len() > NAME_LIMIT
        || name.starts_with('.')
        || !name.bytes().all(plain)
    {
        let text = format!(
            "the name {name:?} is not 1 to {NAME_LIMIT} letters, digits, hyphens, underscores and dots"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let with = |flags| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags);
        options.open(path)
    };
    match with(libc::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => with(0),
        other => other,
    }
}

/// Direct I/O wants its memory at whole pages.
fn read_aligned(file: &File, length: usize) -> io::Result<Vec<u8>> {
    let mut memory = vec![0; length + PAGE];
    let shift = memory.as_ptr().align_offset(PAGE);
    file.read_exact_at(&mut memory[shift..shift + length], 0)?;
    Ok(memory[shift..shift + length].to_vec())
}

fn place(chunk: u64) -> (usize, u8) {
    let byte = usize::try_from(chunk / 8).unwrap_or(usize::MAX);
    (byte, 1 << (chunk % 8))
}

fn bit(bits: &[u8], chunk: u64) -> bool {
    let (byte, mask) = place(chunk);
    bits.get(byte).is_some_and(|bits| bits & mask != 0)
}

fn set(bits: &mut [u8], chunk: u64) {
    let (byte, mask) = place(chunk);
    if let Some(bits) = bits.get_mut(byte) {
        *bits |= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_found_again_with_its_durable_chunks_only() {
        let directory = tempfile::tempdir().unwrap();
        let size = 10 * CHUNK + 4096;
        let mut taken = Snapshot::take(directory.path(), "one", size, true, 5).unwrap();
        let (page, bytes) = taken.kept(3).unwrap();
        assert!(taken.kept(4).is_none(), "the page is being written");
        assert!(!taken.has(3));
        let mut memory = vec![0; 2 * PAGE];
        let shift = memory.as_ptr().align_offset(PAGE);
        memory[shift..shift + PAGE].copy_from_slice(&bytes);
        taken
            .map
            .write_all_at(&memory[shift..shift + PAGE], page * PAGE as u64)
            .unwrap();
        let (chunks, again) = taken.mapped(page, true);
        assert_eq!((chunks, again.is_some()), (vec![3], true));
        assert!(taken.has(3) && !taken.has(4));
        drop(taken);
        let found = Snapshot::all(directory.path());
        assert_eq!(found.len(), 1);
        assert!(found[0].automatic && found[0].has(3) && !found[0].has(4));
        assert_eq!(found[0].length(10), 4096);
        assert!(!found[0].lacks(11), "behind its end");
    }

    #[test]
    fn what_an_earlier_run_looked_at_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let all = directory.path();
        let look = format!("{}7", protocol::LOOK_PREFIX);
        Snapshot::take(all, &look, CHUNK, false, 1).unwrap();
        Snapshot::take(all, "evening", CHUNK, false, 2).unwrap();
        forget_looks(all);
        assert!(!all.join(&look).exists());
        assert_eq!(Snapshot::all(all)[0].name, "evening");
    }

    #[test]
    fn half_made_and_removed_ones_do_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let all = directory.path();
        std::fs::create_dir(all.join("half")).unwrap();
        let removed = Snapshot::take(all, "removed", CHUNK, false, 1).unwrap();
        removed.remove().unwrap();
        assert!(!all.join("removed").exists());
        // One whose size no filesystem takes leaves nothing behind.
        assert!(Snapshot::take(all, "large", u64::MAX - CHUNK, false, 1).is_err());
        assert!(!all.join("large").exists());
        assert_eq!(Snapshot::all(all).len(), 0);
        for name in ["", "a/b", "..", &"x".repeat(65)] {
            assert!(Snapshot::take(all, name, CHUNK, false, 1).is_err());
        }
        assert!(Snapshot::take(all, "half", CHUNK, false, 1).is_err());
    }
}
