//! Generic netlink as far as nbd needs it: one request, its answer.
//!
//! For children ([`super::super::job`]): system calls alone, no memory. Source:
//! `include/uapi/linux/nbd-netlink.h`.

use super::super::job::last_errno;
use super::super::raw::close;
use std::os::fd::RawFd;

pub const CONNECT: u8 = 1;
pub const DISCONNECT: u8 = 2;
pub const RECONFIGURE: u8 = 3;

pub const INDEX: u16 = 1;
pub const SIZE_BYTES: u16 = 2;
pub const BLOCK_SIZE_BYTES: u16 = 3;
/// Of a request, in seconds.
pub const TIMEOUT: u16 = 4;
pub const SERVER_FLAGS: u16 = 5;
pub const CLIENT_FLAGS: u16 = 6;
pub const SOCKETS: u16 = 7;
pub const SOCKET_ITEM: u16 = 1;
pub const SOCKET_FD: u16 = 1;
/// Linux 5.14.
pub const BACKEND: u16 = 10;
/// Of [`CLIENT_FLAGS`]: the device goes when the last one closes it.
pub const DISCONNECT_ON_CLOSE: u64 = 2;

const CONTROL_FAMILY: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const REQUEST_AND_ACKNOWLEDGE: u16 = 5;
const ERROR: u16 = 2;
const NESTED: u16 = 0x8000;
const HEADERS: usize = 20;
const PROTOCOL: i32 = 16;
/// The kernel answers at once; never longer than this.
const LIMIT: libc::timeval = libc::timeval {
    tv_sec: 5,
    tv_usec: 0,
};

/// A request, being written.
#[derive(Debug)]
pub struct Message {
    bytes: [u8; 512],
    length: usize,
}

impl Message {
    #[must_use]
    pub fn new(family: u16, command: u8) -> Self {
        let mut message = Self {
            bytes: [0; 512],
            length: HEADERS,
        };
        message.bytes[4..6].copy_from_slice(&family.to_ne_bytes());
        message.bytes[6..8].copy_from_slice(&REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
        message.bytes[16] = command;
        message.bytes[17] = 1;
        message
    }

    /// An attribute. There is room for all that nbd takes, with what its device is called.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let at = self.length;
        let end = at + 4 + value.len();
        if end.next_multiple_of(4) > self.bytes.len() {
            return self;
        }
        self.header(at, kind, 4 + value.len());
        self.bytes[at + 4..end].copy_from_slice(value);
        self.length = end.next_multiple_of(4);
        self
    }

    #[must_use]
    pub fn with_long(self, kind: u16, value: u64) -> Self {
        self.with(kind, &value.to_ne_bytes())
    }

    /// The kernel's end of a connection.
    #[must_use]
    pub fn with_socket(mut self, fd: RawFd) -> Self {
        let at = self.length;
        self.length += 8;
        self = self.with(SOCKET_FD, &fd.to_ne_bytes());
        let length = self.length - at;
        self.header(at, SOCKETS | NESTED, length);
        self.header(at + 4, SOCKET_ITEM | NESTED, length - 4);
        self
    }

    fn header(&mut self, at: usize, kind: u16, length: usize) {
        let length = u16::try_from(length).unwrap_or(4);
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[at + 2..at + 4].copy_from_slice(&kind.to_ne_bytes());
    }

    fn whole(&mut self) -> &[u8] {
        let length = u32::try_from(self.length).unwrap_or(0);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        &self.bytes[..self.length]
    }
}

/// What an answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// 0, or an error. `None`: there is more to come.
    pub errno: Option<i32>,
    /// Of the attribute that was asked for.
    pub value: Option<u32>,
}

/// Reads messages; `wanted`: the attribute whose value is told.
#[must_use]
pub fn parse(mut bytes: &[u8], wanted: u16) -> Answer {
    let mut answer = Answer::default();
    while let Some((length, kind)) = record(bytes, 4) {
        let Some(body) = bytes.get(16..length) else {
            break;
        };
        if kind == ERROR {
            let number = body
                .first_chunk()
                .map_or(-libc::EPROTO, |b| i32::from_ne_bytes(*b));
            answer.errno = Some(number.saturating_neg());
        } else if let Some(value) = body.get(4..).and_then(|rest| attribute(rest, wanted)) {
            answer.value = Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answer
}

/// Length and kind of the record at the front: `wide` bytes of length, then two of kind.
fn record(bytes: &[u8], wide: usize) -> Option<(usize, u16)> {
    let kind = u16::from_ne_bytes(*bytes.get(wide..)?.first_chunk()?);
    let length = match wide {
        4 => usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?,
        _ => usize::from(u16::from_ne_bytes(*bytes.first_chunk()?)),
    };
    (length >= 4 && length <= bytes.len()).then_some((length, kind))
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<u32> {
    while let Some((length, kind)) = record(bytes, 2) {
        if kind == wanted {
            let value = &bytes[4..length];
            return match value.len() {
                2 => Some(u16::from_ne_bytes(*value.first_chunk()?).into()),
                _ => Some(u32::from_ne_bytes(*value.first_chunk()?)),
            };
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// A socket to the kernel's nbd.
#[derive(Debug)]
pub struct Netlink {
    socket: RawFd,
    family: u16,
}

impl Netlink {
    /// # Errors
    /// The number of the system's answer: `ENOENT` if the kernel has no nbd.
    pub fn open() -> Result<Self, i32> {
        // SAFETY: takes numbers only.
        let socket = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                PROTOCOL,
            )
        };
        if socket < 0 {
            return Err(last_errno());
        }
        let limit = LIMIT;
        let length = libc::socklen_t::try_from(size_of_val(&limit)).unwrap_or(0);
        // SAFETY: a time that lives for the call, and its length.
        unsafe {
            let value = (&raw const limit).cast();
            libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, value, length);
        }
        let mut netlink = Self { socket, family: 0 };
        let message = Message::new(CONTROL_FAMILY, GET_FAMILY).with(FAMILY_NAME, b"nbd\0");
        let id = netlink.ask(message, FAMILY_ID)?;
        netlink.family = u16::try_from(id).map_err(|_| libc::EPROTO)?;
        Ok(netlink)
    }

    #[must_use]
    pub fn message(&self, command: u8) -> Message {
        Message::new(self.family, command)
    }

    /// Asks, and waits for the answer: the value of the attribute `wanted`, or 0.
    ///
    /// # Errors
    /// The number of the kernel's answer.
    pub fn ask(&self, mut message: Message, wanted: u16) -> Result<u32, i32> {
        let bytes = message.whole();
        // SAFETY: bytes that live for the call, and their length.
        let sent = unsafe { libc::send(self.socket, bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(last_errno());
        }
        let (mut buffer, mut value) = ([0u8; 4096], 0);
        // An answer and an acknowledgement: never more than a few.
        for _ in 0..8 {
            // SAFETY: a buffer that lives for the call, and its length.
            let got =
                unsafe { libc::recv(self.socket, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let Ok(length) = usize::try_from(got) else {
                return Err(last_errno());
            };
            let answer = parse(&buffer[..length.min(buffer.len())], wanted);
            value = answer.value.unwrap_or(value);
            match answer.errno {
                Some(0) => return Ok(value),
                Some(errno) => return Err(errno),
                None => {}
            }
        }
        Err(libc::EPROTO)
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        close(self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_connection_is_written_as_the_kernel_reads_it() {
        let mut message = Message::new(30, CONNECT)
            .with_long(SIZE_BYTES, 1 << 30)
            .with(BACKEND, b"hot\0")
            .with_socket(9);
        let expected: [&[u8]; 6] = [
            &[64, 0, 0, 0, 30, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 1, 0, 0],
            &[12, 0, 2, 0, 0, 0, 0, 0x40, 0, 0, 0, 0],
            &[8, 0, 10, 0, b'h', b'o', b't', 0],
            &[16, 0, 7, 0x80, 12, 0, 1, 0x80],
            &[8, 0, 1, 0, 9, 0, 0, 0],
        ];
        let mut expected = expected.concat();
        expected[0] = u8::try_from(expected.len()).unwrap();
        assert_eq!(message.whole(), expected);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_number_of_the_device_comes_before_the_acknowledgement() {
        let number = [
            &[28, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0][..],
            &[8, 0, 1, 0, 3, 0, 0, 0],
        ];
        let acknowledged = [
            &[20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[0; 4],
        ];
        let mut bytes = number.concat();
        let early = parse(&bytes, INDEX);
        assert_eq!((early.errno, early.value), (None, Some(3)));
        bytes.extend(acknowledged.concat());
        let whole = parse(&bytes, INDEX);
        assert_eq!((whole.errno, whole.value), (Some(0), Some(3)));
        let refused = bytes.len() - 4;
        bytes[refused..].copy_from_slice(&(-libc::EBUSY).to_ne_bytes());
        assert_eq!(parse(&bytes, INDEX).errno, Some(libc::EBUSY));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut message = Message::new(1, CONNECT).with(BACKEND, &[7; 600]);
        assert_eq!(message.whole().len(), HEADERS);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, INDEX);
        }
    }
}
