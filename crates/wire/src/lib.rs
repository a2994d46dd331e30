//! Bytes to messages and back: encoding, sealing, replay windows, versions. Pure.
//!
//! | Module | Takes care of |
//! |---|---|
//! | [`seal`] | heartbeat datagrams: encrypted, authenticated, key rotation |
//! | [`replay`] | each heartbeat counts once, none from an earlier start |
//! | [`frame`] | messages cut out of a TCP stream |
//! | [`codec`] | one message to bytes and back |
//! | [`pki`] | the cluster CA, its certificates, TLS settings without a wall clock |
//! | [`token`] | the one-time token of `join` and of a witness |
//! | [`disk`] | label and slots of a quorum disk |
//!
//! Nothing here reads a clock, a file or a socket, and every decoder is total:
//! any bytes give a value or an error, never a panic. The formats are written
//! down byte by byte in `docs/internals/wire.md`.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod codec;
pub mod disk;
pub mod frame;
mod ids;
pub mod pki;
pub mod replay;
pub mod seal;
pub mod token;

pub use ids::{ClusterId, ParseClusterIdError};
