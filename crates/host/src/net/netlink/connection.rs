//! Requests to the kernel over one netlink socket, answers matched by sequence.

use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::time::Instant;

use socket2::Socket;

use super::super::KERNEL_ANSWER_TIMEOUT;
use super::super::socket::{open_netlink, wait_readable};
use super::message::{Message, messages};

pub(in crate::net) const REQUEST: u16 = 0x1;
pub(in crate::net) const ACK: u16 = 0x4;
pub(in crate::net) const DUMP: u16 = 0x300;
pub(in crate::net) const REPLACE: u16 = 0x100;
pub(in crate::net) const CREATE: u16 = 0x400;
const DUMP_INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The kernel fills at most 32 KiB per datagram of a dump.
const RECEIVE_BYTES: usize = 64 * 1024;
/// A dump that changed under our eyes is taken again this often.
const DUMP_TRIES: usize = 5;

/// A netlink socket with its own sequence numbers.
#[derive(Debug)]
pub(in crate::net) struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a socket of a netlink protocol in the thread's network namespace.
    pub fn open(protocol: libc::c_int) -> io::Result<Self> {
        let socket = open_netlink(protocol, 0)?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; RECEIVE_BYTES],
        })
    }

    /// Unused sequence numbers in a row; `count` from 1.
    pub fn sequences(&mut self, count: u32) -> RangeInclusive<u32> {
        if self.sequence > u32::MAX - count {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence += count;
        first..=self.sequence
    }

    /// The next unused sequence number.
    pub fn next_sequence(&mut self) -> u32 {
        *self.sequences(1).start()
    }

    /// Sends messages and waits for the answer to the last of them.
    ///
    /// `numbers` are the sequence numbers sent; the first and the last end the
    /// wait, as a batch is refused as a whole under its first number. The
    /// first error among them is returned. `each` sees all other messages.
    pub fn exchange(
        &mut self,
        bytes: &[u8],
        numbers: RangeInclusive<u32>,
        mut each: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        self.socket.send(bytes)?;
        let deadline = Instant::now() + KERNEL_ANSWER_TIMEOUT;
        let mut failure = None;
        let mut interrupted = false;
        loop {
            if !wait_readable(&self.socket, deadline)? {
                return Err(failure.unwrap_or_else(|| io::ErrorKind::TimedOut.into()));
            }
            let count = match (&self.socket).read(&mut self.buffer) {
                Ok(count) => count,
                Err(error) if is_momentary(&error) => continue,
                Err(error) => return Err(error),
            };
            for message in messages(&self.buffer[..count]) {
                if !numbers.contains(&message.sequence) {
                    continue;
                }
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                let Some(result) = outcome(&message) else {
                    each(&message);
                    continue;
                };
                if let (Err(error), None) = (result, &failure) {
                    failure = Some(error);
                }
                if [*numbers.start(), *numbers.end()].contains(&message.sequence) {
                    let changed = || io::Error::from(io::ErrorKind::Interrupted);
                    return match failure {
                        Some(error) => Err(error),
                        None if interrupted => Err(changed()),
                        None => Ok(()),
                    };
                }
            }
        }
    }

    /// Takes a dump, again while it changes meanwhile; `read` turns a message
    /// into an entry or skips it.
    pub fn dump<T>(
        &mut self,
        build: impl Fn(u32) -> Vec<u8>,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 1..DUMP_TRIES {
            match self.dump_once(&build, &read) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
        self.dump_once(&build, &read)
    }

    fn dump_once<T>(
        &mut self,
        build: &impl Fn(u32) -> Vec<u8>,
        read: &impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let sequence = self.next_sequence();
        let mut entries = Vec::new();
        self.exchange(&build(sequence), sequence..=sequence, |message| {
            entries.extend(read(message));
        })?;
        Ok(entries)
    }
}

/// Whether the next read may succeed.
fn is_momentary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// What an acknowledgement, error or end-of-dump message says.
fn outcome(message: &Message<'_>) -> Option<io::Result<()>> {
    if message.kind != ERROR && message.kind != DONE {
        return None;
    }
    let code = match message.payload.get(..4).map(<[u8; 4]>::try_from) {
        Some(Ok(bytes)) => i32::from_ne_bytes(bytes),
        _ => 0,
    };
    Some(match code {
        0.. => Ok(()),
        _ => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    })
}
