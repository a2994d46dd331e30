//! A page of the bitmap: one bit for each block of 4096 bytes of the volume, set if the other copy lacks
//! it.
//!
//! | Bytes | Content |
//! |---|---|
//! | 0..4 | magic `hpbm` |
//! | 4..8 | CRC-32 of bytes 0..4 and 8..4096 |
//! | 8..12 | number of the page |
//! | 12..16 | 0 |
//! | 16..4096 | bits, least significant first |

use super::BLOCK_LEN;
use crate::link::PAGE_BYTES;

const MAGIC: &[u8; 4] = b"hpbm";
const HEAD: usize = BLOCK_LEN - PAGE_BYTES;
/// Bits of a page.
pub const PAGE_BITS: u64 = PAGE_BYTES as u64 * 8;
const WORDS: usize = PAGE_BYTES / 8;

/// Bits of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    Clear,
    Full,
    Mixed(Box<[u64; WORDS]>),
}

impl Page {
    /// Of the bytes that [`crate::link::Body::Page`] carries; `None`: not [`PAGE_BYTES`].
    #[must_use]
    pub fn from_bits(bits: &[u8]) -> Option<Self> {
        if bits.len() != PAGE_BYTES {
            return None;
        }
        if bits.iter().all(|byte| *byte == 0) {
            return Some(Self::Clear);
        }
        if bits.iter().all(|byte| *byte == 0xff) {
            return Some(Self::Full);
        }
        let mut words = Box::new([0; WORDS]);
        for (word, bytes) in words.iter_mut().zip(bits.chunks_exact(8)) {
            let mut number = [0; 8];
            number.copy_from_slice(bytes);
            *word = u64::from_le_bytes(number);
        }
        Some(Self::Mixed(words))
    }

    /// For [`crate::link::Body::Page`].
    #[must_use]
    pub fn bits(&self) -> Box<[u8]> {
        let mut bits = vec![0; PAGE_BYTES];
        self.write(&mut bits);
        bits.into()
    }

    fn write(&self, out: &mut [u8]) {
        match self {
            Self::Clear => out.fill(0),
            Self::Full => out.fill(0xff),
            Self::Mixed(words) => {
                for (bytes, word) in out.chunks_exact_mut(8).zip(words.iter()) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    }

    /// The words, all made if they were not.
    pub(super) fn words(&mut self) -> &mut [u64; WORDS] {
        let fill = match self {
            Self::Clear => 0,
            Self::Full => u64::MAX,
            Self::Mixed(_) => 0,
        };
        if !matches!(self, Self::Mixed(_)) {
            *self = Self::Mixed(Box::new([fill; WORDS]));
        }
        match self {
            Self::Mixed(words) => words,
            Self::Clear | Self::Full => unreachable!("made above"),
        }
    }
}

/// The block of page `index`.
#[must_use]
pub fn encode_page(index: u32, page: &Page) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_LEN];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&index.to_le_bytes());
    page.write(&mut bytes[HEAD..]);
    let sum = checksum(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// `None`: damaged, or another page. All its bits count as set then.
#[must_use]
pub fn decode_page(index: u32, bytes: &[u8]) -> Option<Page> {
    let bytes = bytes.get(..BLOCK_LEN)?;
    let sound = bytes[..4] == *MAGIC
        && bytes[4..8] == checksum(bytes).to_le_bytes()
        && bytes[8..12] == index.to_le_bytes();
    sound.then(|| Page::from_bits(&bytes[HEAD..])).flatten()
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..4]);
    hasher.update(&bytes[8..]);
    hasher.finalize()
}
