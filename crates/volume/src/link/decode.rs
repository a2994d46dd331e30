//! Bytes to message: total, whatever the bytes are.

use super::header::Header;
use super::message::{Body, CHUNK_BLOCKS, DiskState, Hello, Message, PAGE_BYTES, Refusal, Stamp};
use super::{BODY_LIMIT, PAYLOAD_LIMIT};
use crate::engine::{BlockHash, IoError, Transfer};
use hotpair_core::ids::{Epoch, HostBoot, MemberId, Version};
use hotpair_core::mirror::{ANCESTORS, Generation};
use thiserror::Error;

/// Kinds of message: the fourth byte of the header.
pub(super) mod kind {
    pub const HELLO: u8 = 1;
    pub const REFUSED: u8 = 2;
    pub const PING: u8 = 3;
    pub const PONG: u8 = 4;
    pub const DATA: u8 = 5;
    pub const RESYNC_DATA: u8 = 6;
    pub const DISCARD: u8 = 7;
    pub const FLUSH: u8 = 8;
    pub const ACK: u8 = 9;
    pub const READ: u8 = 10;
    pub const BYTES: u8 = 11;
    pub const RESYNC_BEGIN: u8 = 12;
    pub const EXTENTS: u8 = 13;
    pub const PAGE: u8 = 14;
    pub const RESYNC_READY: u8 = 15;
    pub const COMPARE: u8 = 16;
    pub const DIFFER: u8 = 17;
    pub const STAMP: u8 = 18;
    pub const STAMPED: u8 = 19;
    pub const DISK_FAILED: u8 = 20;
}

/// Why bytes are no message. The connection is closed then: what follows cannot be found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("no replication message: the first bytes are wrong")]
    Magic,
    #[error(
        "the peer speaks version {0} of the replication protocol, this hotpair speaks {version}: \
         update the older one",
        version = super::VERSION
    )]
    Version(u8),
    #[error("a {0} of {1} bytes is longer than allowed")]
    TooLong(&'static str, u32),
    #[error("the message ends too early")]
    Short,
    #[error("the message has {0} bytes too many")]
    Excess(usize),
    #[error("unknown kind of message: {0}")]
    Kind(u8),
    #[error("the value {1} of {0} makes no sense")]
    Value(&'static str, u64),
}

/// Takes numbers from bytes.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            excess => Err(DecodeError::Excess(excess)),
        }
    }
}

/// The message of `header` with `body`, which has [`Header::body`] bytes.
///
/// # Errors
/// Unknown kinds, lengths that do not fit the kind, values that make no sense.
pub fn decode(header: &Header, body: &[u8]) -> Result<Message, DecodeError> {
    let mut reader = Reader::new(body);
    let decoded = read_body(header, body.len(), &mut reader)?;
    reader.end()?;
    if decoded.payload() != header.payload {
        return Err(DecodeError::Value(
            "the payload's length",
            u64::from(header.payload),
        ));
    }
    Ok(Message {
        epoch: Epoch(header.epoch),
        serial: header.serial,
        tag: header.tag,
        body: decoded,
    })
}

fn read_body(header: &Header, length: usize, reader: &mut Reader<'_>) -> Result<Body, DecodeError> {
    let flag = |bit: u32| header.flags >> bit & 1 == 1;
    Ok(match header.kind {
        kind::HELLO => Body::Hello(Box::new(read_hello(reader)?)),
        kind::REFUSED => Body::Refused(refusal_of(header.offset)?),
        kind::PING => Body::Ping,
        kind::PONG => Body::Pong,
        kind::DATA => Body::Data {
            at: transfer(header, PAYLOAD_LIMIT)?,
            durable: flag(0),
            early: flag(1),
        },
        kind::RESYNC_DATA => Body::ResyncData {
            at: blocks(header)?,
        },
        kind::DISCARD => Body::Discard {
            at: transfer(header, u32::MAX)?,
            zero: flag(0),
            early: flag(1),
            resync: flag(2),
        },
        kind::FLUSH => Body::Flush {
            all: flag(0),
            barrier: flag(1),
        },
        kind::ACK => Body::Ack {
            result: result(header)?,
        },
        kind::READ => Body::Read {
            at: transfer(header, PAYLOAD_LIMIT)?,
        },
        kind::BYTES => Body::Bytes {
            at: transfer(header, PAYLOAD_LIMIT)?,
            result: result(header)?,
        },
        kind::RESYNC_BEGIN => Body::ResyncBegin {
            basis: Generation(header.offset),
            snapshot: flag(0),
        },
        kind::EXTENTS => Body::Extents(read_extents(length, reader)?),
        kind::PAGE => Body::Page {
            index: narrow("a page's number", header.offset)?,
            bits: Box::new(reader.array::<PAGE_BYTES>()?),
        },
        kind::RESYNC_READY => Body::ResyncReady,
        kind::COMPARE => {
            let at = blocks(header)?;
            let count = at.length as usize / 4096;
            let hashes = (0..count)
                .map(|_| Ok(BlockHash(reader.array()?)))
                .collect::<Result<_, DecodeError>>()?;
            Body::Compare { at, hashes }
        }
        kind::DIFFER => Body::Differ {
            blocks: header.offset,
            result: result(header)?,
        },
        kind::STAMP => Body::Stamp(Box::new(Stamp {
            generation: Generation(reader.u64()?),
            ancestors: read_generations(reader)?,
            only_copy: flag(0),
        })),
        kind::STAMPED => Body::Stamped {
            generation: Generation(header.offset),
        },
        kind::DISK_FAILED => Body::DiskFailed,
        kind => return Err(DecodeError::Kind(kind)),
    })
}

fn narrow(what: &'static str, number: u64) -> Result<u32, DecodeError> {
    u32::try_from(number).map_err(|_| DecodeError::Value(what, number))
}

/// A stretch of the volume: not empty, in units of 512, within 2^63.
fn transfer(header: &Header, limit: u32) -> Result<Transfer, DecodeError> {
    if !header.offset.is_multiple_of(512) || header.offset > 1 << 62 {
        return Err(DecodeError::Value("an offset", header.offset));
    }
    if header.length == 0 || !header.length.is_multiple_of(512) || header.length > limit {
        return Err(DecodeError::Value("a length", u64::from(header.length)));
    }
    Ok(Transfer {
        offset: header.offset,
        length: header.length,
    })
}

/// Whole blocks, at most a chunk of them.
#[allow(clippy::cast_possible_truncation)]
fn blocks(header: &Header) -> Result<Transfer, DecodeError> {
    let at = transfer(header, CHUNK_BLOCKS as u32 * 4096)?;
    if !at.offset.is_multiple_of(4096) {
        return Err(DecodeError::Value("an offset", at.offset));
    }
    if !at.length.is_multiple_of(4096) {
        return Err(DecodeError::Value("a length", u64::from(at.length)));
    }
    Ok(at)
}

fn result(header: &Header) -> Result<Result<(), IoError>, DecodeError> {
    Ok(match header.flags >> 8 & 0xff {
        0 => Ok(()),
        1 => Err(IoError::Failed),
        2 => Err(IoError::NoSpace),
        3 => Err(IoError::Closed),
        4 => Err(IoError::Invalid),
        other => return Err(DecodeError::Value("a result", u64::from(other))),
    })
}

fn read_extents(length: usize, reader: &mut Reader<'_>) -> Result<Vec<u32>, DecodeError> {
    debug_assert!(length <= BODY_LIMIT as usize);
    (0..length / 4).map(|_| reader.u32()).collect()
}

fn read_generations(reader: &mut Reader<'_>) -> Result<Vec<Generation>, DecodeError> {
    let count = reader.rest.len() / 8;
    if count > ANCESTORS {
        return Err(DecodeError::Value("the ancestors' number", count as u64));
    }
    (0..count).map(|_| Ok(Generation(reader.u64()?))).collect()
}

fn read_hello(reader: &mut Reader<'_>) -> Result<Hello, DecodeError> {
    let mirror = reader.u64()?;
    let boot = HostBoot(reader.u64()?);
    let run = reader.u64()?;
    let version = Version::new(reader.u64()?, reader.u64()?);
    let epoch = Epoch(reader.u64()?);
    let failures = reader.u32()?;
    let [member, holder, flags, _] = reader.array()?;
    Ok(Hello {
        mirror,
        member: MemberId(member),
        boot,
        run,
        failures,
        version,
        holder: (holder != 0).then_some(MemberId(holder)),
        epoch,
        active: flags & 1 != 0,
        disk: if flags & 2 == 0 {
            None
        } else {
            Some(read_disk(reader)?)
        },
    })
}

fn read_disk(reader: &mut Reader<'_>) -> Result<DiskState, DecodeError> {
    let size = reader.u64()?;
    let generation = Generation(reader.u64()?);
    let solo = reader.u64()?;
    let base = Generation(reader.u64()?);
    let resync_base = Generation(reader.u64()?);
    let flags = reader.u64()?;
    Ok(DiskState {
        size,
        generation,
        solo: (solo != 0).then_some(Generation(solo)),
        base,
        resync_base,
        consistent: flags & 1 != 0,
        unclean: flags & 2 != 0,
        ancestors: read_generations(reader)?,
    })
}

const REFUSALS: [Refusal; 6] = [
    Refusal::NotHolder,
    Refusal::OtherMirror,
    Refusal::Diverged,
    Refusal::NoDisk,
    Refusal::Protocol,
    Refusal::Stale,
];

pub(super) fn refusal_number(refusal: Refusal) -> u64 {
    let at = REFUSALS.iter().position(|known| *known == refusal);
    at.map_or(0, |at| at as u64 + 1)
}

fn refusal_of(number: u64) -> Result<Refusal, DecodeError> {
    usize::try_from(number)
        .ok()
        .and_then(|number| REFUSALS.get(number.checked_sub(1)?))
        .copied()
        .ok_or(DecodeError::Value("a refusal", number))
}

/// The whole of one message without its payload, for tests and tools.
#[cfg(test)]
pub(super) fn decode_all(bytes: &[u8]) -> Result<Message, DecodeError> {
    let (head, body) = bytes
        .split_first_chunk::<{ super::HEADER }>()
        .ok_or(DecodeError::Short)?;
    let header = Header::parse(head)?;
    if body.len() != header.body as usize {
        return Err(DecodeError::Short);
    }
    decode(&header, body)
}
