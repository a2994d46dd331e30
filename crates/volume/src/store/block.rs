//! A block of 4096 bytes with a checksum.
//!
//! | Bytes | Content |
//! |---|---|
//! | 0..8 | magic |
//! | 8..12 | CRC-32 of the block with these four bytes zero |
//! | 12.. | content |

use super::BLOCK_LEN;

const CRC: std::ops::Range<usize> = 8..12;

/// Fills a block from byte 12 on.
pub(super) struct Writer {
    bytes: Vec<u8>,
    at: usize,
}

impl Writer {
    pub(super) fn new(magic: &[u8; 8]) -> Self {
        let mut bytes = vec![0; BLOCK_LEN];
        bytes[..8].copy_from_slice(magic);
        Self { bytes, at: CRC.end }
    }

    pub(super) fn put(&mut self, part: &[u8]) {
        let end = self.at + part.len();
        self.bytes[self.at..end].copy_from_slice(part);
        self.at = end;
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    /// The block, checksum set.
    pub(super) fn seal(mut self) -> Vec<u8> {
        let sum = crc32fast::hash(&self.bytes);
        self.bytes[CRC].copy_from_slice(&sum.to_le_bytes());
        self.bytes
    }
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Not one of these at all.
    Magic,
    /// The checksum does not fit, or it is too short.
    Damaged,
}

/// Reads a checked block from byte 12 on. Reading past its end gives zeros.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn open(bytes: &'a [u8], magic: &[u8; 8]) -> Result<Self, Wrong> {
        if bytes.get(..8) != Some(magic.as_slice()) {
            return Err(Wrong::Magic);
        }
        let Some(bytes) = bytes.get(..BLOCK_LEN) else {
            return Err(Wrong::Damaged);
        };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..CRC.start]);
        hasher.update(&[0; 4]);
        hasher.update(&bytes[CRC.end..]);
        if bytes[CRC] != hasher.finalize().to_le_bytes() {
            return Err(Wrong::Damaged);
        }
        Ok(Self {
            rest: &bytes[CRC.end..],
        })
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                *taken
            }
            None => [0; N],
        }
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}
