//! What the engine is told, and what it has done.

use hotpair_core::ids::{Epoch, MemberId};
use hotpair_core::mirror::{MirrorOrders, MirrorReport};

/// A piece of memory that the driver keeps: until the engine releases it and no effect uses it.
/// Those the driver makes (payloads of writes, of messages, destinations of reads) are even, those
/// the engine asks for are odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub u64);

/// A request of the block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId(pub u64);

/// An effect that is answered with [`Event::Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A connection to the peer; later ones have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// Work asked for by the daemon, answered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Bytes of the volume, in units of 512.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transfer {
    pub offset: u64,
    pub length: u32,
}

/// What a request of the block device, or of the local disk, ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoError {
    /// The gate is closed, or the volume is not open: nothing was done, or it is not known.
    Closed,
    /// The disk failed, and there was no other copy to go on with.
    Failed,
    NoSpace,
    /// Outside the volume, or not in units of 512 bytes.
    Invalid,
}

/// Facts for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What the node's deciding half wants; complete.
    Orders(Box<MirrorOrders>),
    /// Become the active side in this epoch.
    Open {
        ticket: Ticket,
        epoch: Epoch,
    },
    /// End every request, flush, and be standby again.
    Close {
        ticket: Ticket,
    },
    /// The write gate was found closed: everything under way fails, until opened anew.
    GateClosed,
    Read {
        io: IoId,
        at: Transfer,
        buffer: BufferId,
    },
    Write {
        io: IoId,
        at: Transfer,
        buffer: BufferId,
        fua: bool,
    },
    Flush {
        io: IoId,
    },
    /// The bytes are not needed any more; they read as anything, or as zeros if `zero`.
    Discard {
        io: IoId,
        at: Transfer,
        zero: bool,
    },
    /// An effect with this token has ended.
    Done {
        token: Token,
        result: Result<Outcome, IoError>,
    },
    PeerConnected {
        session: Session,
        peer: MemberId,
    },
    PeerLost {
        session: Session,
    },
    Received {
        session: Session,
        message: Box<crate::engine::Message>,
        payload: Option<BufferId>,
    },
    Command(Command),
    /// A deadline has come.
    Tick,
}

/// What an effect brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Of [`Effect::MetaRead`].
    Bytes(Vec<u8>),
    /// Of [`Effect::Hash`]: BLAKE3.
    Hash([u8; 32]),
}

/// What the operator asks of a mirror on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Compare both copies block by block; `repair`: send those that differ.
    Verify {
        repair: bool,
    },
    /// Stop resynchronisation and verification until resumed.
    Pause,
    Resume,
    /// Bytes a second for resynchronisation and verification; `None`: as fast as it goes.
    Rate(Option<u64>),
}

/// What the driver does. Effects are begun in order; disk effects end in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the local copy into `buffer`, made with this length if it is odd and new.
    Read {
        token: Token,
        at: Transfer,
        buffer: BufferId,
    },
    /// `part`: offset and length within the buffer. `durable`: ends when it is on stable storage.
    Write {
        token: Token,
        at: Transfer,
        buffer: BufferId,
        part: (u32, u32),
        durable: bool,
    },
    Flush {
        token: Token,
    },
    Discard {
        token: Token,
        at: Transfer,
        zero: bool,
    },
    /// Of the metadata area, in units of 4096.
    MetaRead {
        token: Token,
        offset: u64,
        length: u32,
    },
    /// Ends when it is on stable storage.
    MetaWrite {
        token: Token,
        offset: u64,
        bytes: Vec<u8>,
    },
    Hash {
        token: Token,
        buffer: BufferId,
        part: (u32, u32),
    },
    Send {
        session: Session,
        message: Box<crate::engine::Message>,
        payload: Option<BufferId>,
    },
    /// Close the connection.
    Drop {
        session: Session,
        why: String,
    },
    Complete {
        io: IoId,
        result: Result<(), IoError>,
    },
    Release {
        buffer: BufferId,
    },
    Opened {
        ticket: Ticket,
        result: Result<(), String>,
    },
    Closed {
        ticket: Ticket,
        result: Result<(), String>,
    },
    /// For the deciding half, when it changed.
    Report(Box<MirrorReport>),
    /// For the event log.
    Note {
        error: bool,
        text: String,
    },
}
