//! Numbers for people: they run, and nothing is decided by them.

use hotpair_core::time::Moment;
use std::time::Duration;

/// How things stand with one mirror on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Of the volume, in bytes.
    pub size: u64,
    /// What the other copy lacks, in bytes, as far as this side knows.
    pub out_of_sync: u64,
    /// Since when the peer's copy is not replicated to; `None`: it is, or this side is not active.
    pub apart_since: Option<Moment>,
    pub resync: Option<Progress>,
    pub verify: Option<Progress>,
    /// Bytes of the blocks that the last verification found different.
    pub verify_found: Option<u64>,
    /// Offsets of the first of them.
    pub verify_places: Vec<u64>,
    pub paused: bool,
    /// Asynchronous mode: acknowledged here and not yet by the peer.
    pub lag_bytes: u64,
    pub lag: Duration,
    pub reads: u64,
    pub writes: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    /// Longest time that a write or flush took since the volume was opened, waiting for the agreement or the
    /// peer included.
    pub longest_stall: Duration,
    /// When the last write was acknowledged.
    pub last_write: Option<Moment>,
}

/// Of a resynchronisation or verification, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    /// Payload sent or received: less than `done` where blocks were equal.
    pub moved: u64,
    /// Bytes of `done` a second, over the last seconds.
    pub rate: u64,
    /// This side sends.
    pub source: bool,
}
