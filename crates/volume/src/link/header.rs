//! The fixed part of a message.

use super::{BODY_LIMIT, DecodeError, HEADER, PAYLOAD_LIMIT, VERSION};

/// First two bytes of every header.
const MAGIC: [u8; 2] = *b"hv";

/// How long the parts of a message are, which the driver must know to read it, and the numbers that most
/// messages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) kind: u8,
    pub(super) flags: u32,
    pub(super) epoch: u64,
    pub(super) serial: u64,
    pub(super) tag: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
    /// Bytes of body after the header.
    pub body: u32,
    /// Bytes of payload after the body.
    pub payload: u32,
}

impl Header {
    /// # Errors
    /// Other magic or version, or lengths beyond [`BODY_LIMIT`] and [`PAYLOAD_LIMIT`].
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self, DecodeError> {
        let mut reader = super::decode::Reader::new(bytes);
        if reader.array::<2>()? != MAGIC {
            return Err(DecodeError::Magic);
        }
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let header = Self {
            kind: reader.u8()?,
            flags: reader.u32()?,
            epoch: reader.u64()?,
            serial: reader.u64()?,
            tag: reader.u64()?,
            offset: reader.u64()?,
            length: reader.u32()?,
            body: reader.u32()?,
            payload: reader.u32()?,
        };
        if header.body > BODY_LIMIT {
            return Err(DecodeError::TooLong("body", header.body));
        }
        if header.payload > PAYLOAD_LIMIT {
            return Err(DecodeError::TooLong("payload", header.payload));
        }
        Ok(header)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, self.kind]);
        out.extend_from_slice(&self.flags.to_le_bytes());
        for number in [self.epoch, self.serial, self.tag, self.offset] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.length, self.body, self.payload, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}
