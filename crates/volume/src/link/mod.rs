//! What the two sides of a mirror say to each other, and its bytes (`docs/internals/mirror-formats.md`).
//!
//! A message is a fixed [`Header`], a small body (numbers, hashes, a bitmap page, a text) and, for
//! block data, a payload that the driver reads from and writes to buffers without looking at it. The
//! connection is mutual TLS: who the peer is and that bytes arrive unchanged is its matter. Decoders
//! are total all the same.

mod decode;
mod encode;
mod header;
mod message;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, decode};
pub use encode::encode;
pub use header::Header;
pub use message::{Body, CHUNK_BLOCKS, DiskState, Hello, Message, PAGE_BYTES, Refusal, Stamp};

/// Length of every header.
pub const HEADER: usize = 56;
/// Version of the protocol: the third byte of every header.
pub const VERSION: u8 = 1;
/// Longest body.
pub const BODY_LIMIT: u32 = 8192;
/// Longest payload: that of the longest write.
pub const PAYLOAD_LIMIT: u32 = crate::engine::TRANSFER_LIMIT;
