//! NBD as the kernel's client speaks it once it is connected: requests come, simple replies go.
//!
//! | Request, bytes | | Reply, bytes | |
//! |---|---|---|---|
//! | 0..4 | `0x25609513` | 0..4 | `0x67446698` |
//! | 4..6 | flags: 1 FUA | 4..8 | 0, or an error |
//! | 6..8 | command | 8..16 | the request's name |
//! | 8..16 | name | 16.. | what was read |
//! | 16..24 | offset | | |
//! | 24..28 | length | | |
//! | 28.. | what is written | | |
//!
//! All big-endian. Source: `doc/proto.md` of the NBD project, `include/uapi/linux/nbd.h`.

pub const REQUEST: usize = 28;
pub const REPLY: usize = 16;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const FUA: u16 = 1;

/// What the server can do, as the kernel is told at the connection.
pub const HAS_FLAGS: u64 = 1;
pub const READ_ONLY: u64 = 1 << 1;
pub const SEND_FLUSH: u64 = 1 << 2;
pub const SEND_FUA: u64 = 1 << 3;
pub const SEND_TRIM: u64 = 1 << 5;
/// Linux 6.11; others do not look at it.
pub const SEND_WRITE_ZEROES: u64 = 1 << 6;

/// A request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The kernel's name for it, repeated in the reply.
    pub tag: u64,
    pub command: Command,
    pub fua: bool,
    pub offset: u64,
    pub length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Read,
    Write,
    Disconnect,
    Flush,
    Trim,
    WriteZeroes,
    Other(u16),
}

/// `None`: these are no NBD requests.
#[must_use]
pub fn decode(bytes: &[u8; REQUEST]) -> Option<Call> {
    let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| (u32::from(short(at)) << 16) | u32::from(short(at + 2));
    let long = |at: usize| (u64::from(word(at)) << 32) | u64::from(word(at + 4));
    let command = match short(6) {
        0 => Command::Read,
        1 => Command::Write,
        2 => Command::Disconnect,
        3 => Command::Flush,
        4 => Command::Trim,
        6 => Command::WriteZeroes,
        other => Command::Other(other),
    };
    (word(0) == REQUEST_MAGIC).then_some(Call {
        tag: long(8),
        command,
        fua: short(4) & FUA != 0,
        offset: long(16),
        length: word(24),
    })
}

/// Of a request that has ended; what was read follows, if it was a read that went well.
#[must_use]
pub fn reply(tag: u64, errno: i32) -> [u8; REPLY] {
    let mut bytes = [0; REPLY];
    bytes[..4].copy_from_slice(&REPLY_MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&errno.to_be_bytes());
    bytes[8..].copy_from_slice(&tag.to_be_bytes());
    bytes
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the kernel writes it.
    pub fn encode(tag: u64, command: u16, flags: u16, offset: u64, length: u32) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&command.to_be_bytes());
        bytes[8..16].copy_from_slice(&tag.to_be_bytes());
        bytes[16..24].copy_from_slice(&offset.to_be_bytes());
        bytes[24..].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    #[test]
    fn a_write_with_fua_is_what_the_kernel_wrote() {
        let bytes = encode(0x0102_0304_0506_0708, 1, FUA, 1 << 40, 4096);
        let expected = Call {
            tag: 0x0102_0304_0506_0708,
            command: Command::Write,
            fua: true,
            offset: 1 << 40,
            length: 4096,
        };
        assert_eq!(decode(&bytes), Some(expected));
    }

    #[test]
    fn every_command_has_its_number() {
        let commands = [
            Command::Read,
            Command::Write,
            Command::Disconnect,
            Command::Flush,
            Command::Trim,
            Command::Other(5),
            Command::WriteZeroes,
            Command::Other(7),
        ];
        for (number, command) in (0..).zip(commands) {
            let call = decode(&encode(1, number, 0, 0, 0)).unwrap();
            assert_eq!((call.command, call.fua), (command, false));
        }
    }

    #[test]
    fn a_reply_repeats_the_name() {
        let bytes = reply(0x0102_0304_0506_0708, libc::EIO);
        assert_eq!(
            bytes,
            [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_none(bytes in proptest::array::uniform28(any::<u8>())) {
            let known = bytes[..4] == REQUEST_MAGIC.to_be_bytes();
            prop_assert_eq!(decode(&bytes).is_some(), known);
        }
    }
}
