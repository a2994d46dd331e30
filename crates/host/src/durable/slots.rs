//! Small state written very often, in a file on a memory file system (`/run`).
//!
//! Two slots are written in turn with one `pwrite` each, so whoever dies in the middle of a write
//! leaves the other slot whole. Nothing is flushed: a power cut takes the file with it, as is meant
//! for what is bound to one boot. A slot, all numbers little-endian:
//!
//! | Bytes | Content |
//! |---|---|
//! | 0..8 | magic |
//! | 8..12 | version of the payload's format |
//! | 12..16 | length of the payload |
//! | 16..24 | sequence number, 0 in the slot a new file begins with |
//! | 24..28 | CRC-32 of bytes 0..24 and the payload |
//! | 28.. | payload, then unused up to the capacity |

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{FileError, Format, crc, file_error, write_atomic};

const HEADER: usize = 28;

/// Why slots were not opened or written.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is of another kind, version or size.
    #[error("{} is not a slots file of this version and size; stop what uses it and delete it", .0.display())]
    Foreign(PathBuf),
    /// No slot is whole.
    #[error("{} is damaged: neither slot is whole; its content counts as lost, delete it", .0.display())]
    Damaged(PathBuf),
    /// The payload does not fit.
    #[error("{length} bytes do not fit a slot of {capacity} in {}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Bytes given.
        length: usize,
        /// Bytes that fit.
        capacity: usize,
    },
}

/// An open slots file. One process may have it open for writing.
#[derive(Debug)]
pub struct Slots {
    file: File,
    path: PathBuf,
    format: Format,
    capacity: usize,
    /// Sequence number of the newest whole slot.
    newest: u64,
    /// Which slot, 0 or 1, holds it.
    at: u8,
}

impl Slots {
    /// Opens or makes the file; also returns the newest payload, `None` when none was ever written.
    pub fn open(
        path: &Path,
        format: Format,
        capacity: usize,
    ) -> Result<(Self, Option<Vec<u8>>), SlotsError> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Self::load(file, path, format, capacity),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok((Self::create(path, format, capacity)?, None))
            }
            Err(error) => Err(file_error("open", path)(error).into()),
        }
    }

    /// Makes the file anew, forgetting what was in it.
    pub fn create(path: &Path, format: Format, capacity: usize) -> Result<Self, SlotsError> {
        let mut bytes = encode(format, 0, &[]);
        bytes.resize(2 * (HEADER + capacity), 0);
        write_atomic(path, &bytes)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(file_error("open", path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            format,
            capacity,
            newest: 0,
            at: 0,
        })
    }

    fn load(
        file: File,
        path: &Path,
        format: Format,
        capacity: usize,
    ) -> Result<(Self, Option<Vec<u8>>), SlotsError> {
        let size = HEADER + capacity;
        let length = file.metadata().map_err(file_error("look at", path))?.len();
        if length != 2 * size as u64 {
            return Err(SlotsError::Foreign(path.to_owned()));
        }
        let mut bytes = vec![0; 2 * size];
        file.read_exact_at(&mut bytes, 0)
            .map_err(file_error("read", path))?;
        let (first, second) = bytes.split_at(size);
        let found = [(0, first), (1, second)]
            .into_iter()
            .filter_map(|(at, slot)| {
                decode(format, slot).map(|(sequence, payload)| (sequence, at, payload))
            })
            .max_by_key(|(sequence, ..)| *sequence);
        let Some((newest, at, payload)) = found else {
            let known = [first, second]
                .iter()
                .any(|slot| slot.starts_with(&kind(format)));
            let error = if known {
                SlotsError::Damaged
            } else {
                SlotsError::Foreign
            };
            return Err(error(path.to_owned()));
        };
        let payload = (newest > 0).then(|| payload.to_vec());
        Ok((
            Self {
                file,
                path: path.to_owned(),
                format,
                capacity,
                newest,
                at,
            },
            payload,
        ))
    }

    /// Writes `payload` over the older slot; the newest one before stays whole.
    pub fn write(&mut self, payload: &[u8]) -> Result<(), SlotsError> {
        if payload.len() > self.capacity {
            let (length, capacity) = (payload.len(), self.capacity);
            return Err(SlotsError::TooLong {
                path: self.path.clone(),
                length,
                capacity,
            });
        }
        let at = 1 - self.at;
        let offset = u64::from(at) * (HEADER + self.capacity) as u64;
        let bytes = encode(self.format, self.newest + 1, payload);
        self.file
            .write_all_at(&bytes, offset)
            .map_err(file_error("write", &self.path))?;
        self.newest += 1;
        self.at = at;
        Ok(())
    }
}

fn kind(format: Format) -> Vec<u8> {
    [&format.magic[..], &format.version.to_le_bytes()].concat()
}

fn encode(format: Format, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = kind(format);
    // Capacities are a few KiB; `decode` refuses what does not fit a slot.
    bytes.extend(
        u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(crc(&bytes, payload).to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn decode(format: Format, slot: &[u8]) -> Option<(u64, &[u8])> {
    let (header, rest) = slot.split_at_checked(HEADER)?;
    if !header.starts_with(&kind(format)) {
        return None;
    }
    let length = u32::from_le_bytes(header[12..16].try_into().ok()?);
    let payload = rest.get(..usize::try_from(length).ok()?)?;
    let whole = crc(&header[..24], payload).to_le_bytes() == header[24..];
    whole.then_some((u64::from_le_bytes(header[16..24].try_into().ok()?), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format {
        magic: *b"hp-test1",
        version: 1,
    };
    const CAPACITY: usize = 40;

    fn reopen(path: &Path) -> Result<Option<Vec<u8>>, SlotsError> {
        Slots::open(path, FORMAT, CAPACITY).map(|(_, payload)| payload)
    }

    /// A file after two writes, and its bytes after the second and the third.
    fn history(path: &Path) -> (Vec<u8>, Vec<u8>) {
        let (mut slots, nothing) = Slots::open(path, FORMAT, CAPACITY).unwrap();
        assert_eq!(nothing, None);
        slots.write(b"one").unwrap();
        slots.write(b"second").unwrap();
        let before = std::fs::read(path).unwrap();
        slots.write(b"the third one").unwrap();
        (before, std::fs::read(path).unwrap())
    }

    #[test]
    fn newest_write_wins_after_each_of_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        assert_eq!(reopen(&path).unwrap(), None);
        assert_eq!(reopen(&path).unwrap(), None);
        for i in 0..10u8 {
            let payload = vec![i; usize::from(i) * 4];
            Slots::open(&path, FORMAT, CAPACITY)
                .unwrap()
                .0
                .write(&payload)
                .unwrap();
            assert_eq!(reopen(&path).unwrap(), Some(payload));
        }
    }

    #[test]
    fn a_write_cut_at_any_byte_shows_old_or_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let (before, after) = history(&path);
        let mut seen_new = 0;
        for cut in 0..=after.len() {
            let torn = [&after[..cut], &before[cut..]].concat();
            std::fs::write(&path, torn).unwrap();
            let (mut slots, payload) = Slots::open(&path, FORMAT, CAPACITY).unwrap();
            match payload.as_deref() {
                Some(b"second") => {}
                Some(b"the third one") => seen_new += 1,
                other => panic!("cut at {cut}: {other:?}"),
            }
            slots.write(b"next").unwrap();
            assert_eq!(
                reopen(&path).unwrap().as_deref(),
                Some(&b"next"[..]),
                "cut at {cut}"
            );
        }
        assert!(seen_new > 0);
    }

    #[test]
    fn a_first_write_cut_at_any_byte_shows_nothing_or_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let mut slots = Slots::create(&path, FORMAT, CAPACITY).unwrap();
        let before = std::fs::read(&path).unwrap();
        slots.write(b"first").unwrap();
        let after = std::fs::read(&path).unwrap();
        for cut in 0..=after.len() {
            std::fs::write(&path, [&after[..cut], &before[cut..]].concat()).unwrap();
            let payload = reopen(&path).unwrap();
            assert!(
                payload.is_none() || payload.as_deref() == Some(b"first"),
                "cut at {cut}: {payload:?}"
            );
        }
    }

    #[test]
    fn a_bad_byte_anywhere_shows_old_or_new_and_a_short_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let (_, after) = history(&path);
        for at in 0..after.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = after.clone();
                bad[at] ^= flip;
                std::fs::write(&path, bad).unwrap();
                let payload = reopen(&path).unwrap().unwrap();
                assert!(
                    payload == b"second" || payload == b"the third one",
                    "byte {at}: {payload:?}"
                );
            }
            std::fs::write(&path, &after[..at]).unwrap();
            assert!(
                matches!(reopen(&path), Err(SlotsError::Foreign(_))),
                "length {at}"
            );
        }
    }

    #[test]
    fn two_bad_slots_are_an_error_and_not_an_empty_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let (_, mut bytes) = history(&path);
        bytes[HEADER] ^= 1;
        bytes[2 * HEADER + CAPACITY] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(reopen(&path), Err(SlotsError::Damaged(_))));
        let mut slots = Slots::create(&path, FORMAT, CAPACITY).unwrap();
        slots.write(b"again").unwrap();
        assert_eq!(reopen(&path).unwrap().as_deref(), Some(&b"again"[..]));
    }

    #[test]
    fn foreign_files_and_long_payloads_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let (mut slots, _) = Slots::open(&path, FORMAT, CAPACITY).unwrap();
        slots.write(b"kept").unwrap();
        assert!(matches!(
            slots.write(&[0; CAPACITY + 1]),
            Err(SlotsError::TooLong { .. })
        ));
        for other in [
            Format {
                magic: *b"hp-other",
                ..FORMAT
            },
            Format {
                version: 2,
                ..FORMAT
            },
        ] {
            assert!(matches!(
                Slots::open(&path, other, CAPACITY),
                Err(SlotsError::Foreign(_))
            ));
        }
        assert!(matches!(
            Slots::open(&path, FORMAT, CAPACITY + 1),
            Err(SlotsError::Foreign(_))
        ));
        assert_eq!(reopen(&path).unwrap().as_deref(), Some(&b"kept"[..]));
    }
}
