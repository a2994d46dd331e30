//! The few messages of the FUSE protocol that one file needs (Linux `include/uapi/linux/fuse.h`, 7.12 or later).
//!
//! Every request begins with 40 bytes (`fuse_in_header`), numbers are in the machine's order:
//!
//! | Bytes | Content |
//! |---|---|
//! | 0..4 | length of all |
//! | 4..8 | operation |
//! | 8..16 | unique number, repeated in the answer |
//! | 16..40 | inode, user, group, process, extensions |
//!
//! Answers begin with 16 bytes (`fuse_out_header`): length of all, error (negative) or 0, unique number.

/// Of `fuse_in_header`, and of the arguments of reads and writes after it.
pub const HEADER: usize = 40;
pub const ARGUMENTS: usize = 40;
pub const ANSWER_HEADER: usize = 16;

/// Protocol version that is answered with: 7.31 has all that is used here.
const MAJOR: u32 = 7;
const MINOR: u32 = 31;
const OLDEST_MINOR: u32 = 23;

const FUSE_ASYNC_READ: u32 = 1;
const FUSE_BIG_WRITES: u32 = 1 << 5;
const FUSE_ASYNC_DIO: u32 = 1 << 15;
const FUSE_MAX_PAGES: u32 = 1 << 22;

const FOPEN_DIRECT_IO: u32 = 1;
const FOPEN_NOFLUSH: u32 = 1 << 5;
const FOPEN_PARALLEL_DIRECT_WRITES: u32 = 1 << 6;

pub const MODE: u32 = libc::S_IFREG | 0o600;
const PAGE: u32 = 4096;
const EVER_S: u64 = 1 << 30;

/// A request, as far as it can be told from its first 80 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub unique: u64,
    pub operation: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `minor`: the kernel's protocol version, 0 if its major one is not ours.
    Init {
        minor: u32,
        flags: u32,
    },
    Attributes,
    Open,
    Read {
        offset: u64,
        size: u32,
    },
    Write {
        offset: u64,
        size: u32,
    },
    Sync,
    Allocate {
        offset: u64,
        length: u64,
        mode: u32,
    },
    Statistics,
    /// Needs no answer.
    Silent,
    /// Answered with nothing.
    Plain,
    Unknown,
}

/// Total: any bytes give a call, or `None` if there are too few of them.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Call> {
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let double = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let argument = HEADER;
    let operation = match word(4)? {
        2 | 36 | 42 => Operation::Silent,
        3 => Operation::Attributes,
        14 => Operation::Open,
        15 => Operation::Read {
            offset: double(argument + 8)?,
            size: word(argument + 16)?,
        },
        16 => Operation::Write {
            offset: double(argument + 8)?,
            size: word(argument + 16)?,
        },
        17 => Operation::Statistics,
        // Release, flush at close.
        18 | 25 => Operation::Plain,
        20 => Operation::Sync,
        26 => Operation::Init {
            minor: match word(argument)? {
                MAJOR => word(argument + 4)?,
                _ => 0,
            },
            flags: word(argument + 12)?,
        },
        43 => Operation::Allocate {
            offset: double(argument + 8)?,
            length: double(argument + 16)?,
            mode: word(argument + 24)?,
        },
        _ => Operation::Unknown,
    };
    Some(Call {
        unique: double(8)?,
        operation,
    })
}

#[must_use]
pub fn answer_header(unique: u64, errno: i32, length: usize) -> [u8; ANSWER_HEADER] {
    let mut bytes = [0; ANSWER_HEADER];
    let all = u32::try_from(ANSWER_HEADER + length).unwrap_or(u32::MAX);
    bytes[0..4].copy_from_slice(&all.to_ne_bytes());
    bytes[4..8].copy_from_slice(&(-errno).to_ne_bytes());
    bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
    bytes
}

/// A notice (`FUSE_NOTIFY_INVAL_INODE`) that the file's attributes, and no data, have changed.
#[must_use]
pub fn invalidate() -> ([u8; ANSWER_HEADER], [u8; 24]) {
    const INVALIDATE_INODE: i32 = 2;
    let mut fields = Fields::<24>::new();
    fields.double(1);
    // A negative offset: attributes only.
    fields.double(u64::MAX);
    (answer_header(0, -INVALIDATE_INODE, 24), fields.bytes)
}

/// `fuse_init_out`; `None`: the kernel's version is too old, or another one.
#[must_use]
pub fn init(minor: u32, flags: u32, max_write: u32, background: u16) -> Option<[u8; 64]> {
    if minor < OLDEST_MINOR {
        return None;
    }
    let wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES;
    let pages = u16::try_from(max_write / PAGE).unwrap_or(u16::MAX);
    let mut fields = Fields::<64>::new();
    fields.word(MAJOR).word(minor.min(MINOR));
    fields.word(0).word(flags & wanted);
    fields.half(background).half(background);
    fields.word(max_write).word(1);
    fields.half(pages);
    Some(fields.bytes)
}

/// `fuse_attr_out` of the file.
#[must_use]
pub fn attributes(size: u64) -> [u8; 104] {
    let mut fields = Fields::<104>::new();
    fields.double(EVER_S).double(0);
    fields.double(1).double(size).double(size / 512);
    // Three times in seconds and in nanoseconds.
    fields.skip(3 * 8 + 3 * 4);
    fields.word(MODE).word(1);
    fields.skip(3 * 4);
    fields.word(PAGE);
    fields.bytes
}

/// `fuse_open_out`.
#[must_use]
pub fn opened() -> [u8; 16] {
    let mut fields = Fields::<16>::new();
    fields.double(1);
    fields.word(FOPEN_DIRECT_IO | FOPEN_NOFLUSH | FOPEN_PARALLEL_DIRECT_WRITES);
    fields.bytes
}

/// `fuse_write_out`.
#[must_use]
pub fn written(size: u32) -> [u8; 8] {
    let mut fields = Fields::<8>::new();
    fields.word(size);
    fields.bytes
}

/// `fuse_statfs_out`: the block size is what loop discards in.
#[must_use]
pub fn statistics(size: u64) -> [u8; 80] {
    let mut fields = Fields::<80>::new();
    fields.double(size / u64::from(PAGE));
    fields.skip(4 * 8);
    fields.word(PAGE).word(255).word(PAGE);
    fields.bytes
}

/// Writes numbers one after the other.
struct Fields<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Fields<N> {
    fn new() -> Self {
        Self {
            bytes: [0; N],
            at: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn half(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    fn word(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    fn double(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_ne_bytes())
    }

    fn skip(&mut self, length: usize) {
        self.at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_give_a_call_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let call = decode(&bytes);
            prop_assert!(call.is_some() || bytes.len() < HEADER + ARGUMENTS);
        }
    }

    #[test]
    fn a_write_is_told_with_its_place() {
        let mut bytes = [0; HEADER + ARGUMENTS];
        bytes[4..8].copy_from_slice(&16u32.to_ne_bytes());
        bytes[8..16].copy_from_slice(&77u64.to_ne_bytes());
        bytes[48..56].copy_from_slice(&4096u64.to_ne_bytes());
        bytes[56..60].copy_from_slice(&512u32.to_ne_bytes());
        let call = Call {
            unique: 77,
            operation: Operation::Write {
                offset: 4096,
                size: 512,
            },
        };
        assert_eq!(decode(&bytes), Some(call));
    }

    #[test]
    fn a_kernel_that_is_too_old_is_refused() {
        assert!(init(OLDEST_MINOR - 1, 0, 4096, 1).is_none());
        let bytes = init(45, u32::MAX, 1 << 19, 512).unwrap();
        assert_eq!(bytes[4], 31);
        assert_eq!(bytes[20..24], (1u32 << 19).to_ne_bytes());
        assert_eq!(bytes[28..30], 128u16.to_ne_bytes());
    }
}
