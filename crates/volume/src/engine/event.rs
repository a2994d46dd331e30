//! What the engine is told, and what it has done.

use crate::link::Message;
use hotpair_core::ids::{Epoch, HostBoot, MemberId};
use hotpair_core::mirror::{MirrorOrders, MirrorReport};

/// Longest [`Event::Read`] and [`Event::Write`]; the driver splits longer ones.
pub const TRANSFER_LIMIT: u32 = 1024 * 1024;

/// What does not change while the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub me: MemberId,
    pub boot: HostBoot,
    /// Of this process; later ones on this host have greater numbers.
    pub run: u64,
    /// The local disk failed while it is open: go on through the peer's copy. Otherwise requests fail.
    pub through_peer: bool,
    /// Extents that the activity log holds at most: [`crate::store::LOG_EXTENTS`], fewer in tests.
    pub log_extents: usize,
}

/// A piece of memory that the driver keeps: until the engine releases it and no effect uses it.
/// Those the driver makes (payloads of writes, of messages, destinations of reads) are even, those
/// the engine asks for are odd.
///
/// The engine releases the buffer of a [`Event::Write`], [`Event::Read`] and [`Event::Received`] once,
/// and each of its own once. A release may come while a read, write, hash or send of the buffer
/// is still under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub u64);

/// A stretch of a buffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    pub buffer: BufferId,
    pub offset: u32,
    pub length: u32,
}

/// A request of the block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId(pub u64);

/// An effect that is answered with [`Event::Done`], once.
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

impl Transfer {
    /// Offset after the last byte.
    #[must_use]
    pub fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.length))
    }
}

/// What a request of the block device, or of the local disk, ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoError {
    /// The gate is closed, or the volume is not open: nothing was done, or it is not known.
    Closed,
    /// The disk failed, and there was no other copy to go on with.
    Failed,
    NoSpace,
    /// Outside the volume, not in units of 512 bytes, or longer than [`TRANSFER_LIMIT`].
    Invalid,
}

/// The local disk, as the driver opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of the device or image file, in bytes.
    pub size: u64,
    /// The metadata is in a file beside it, not at the end of the device.
    pub beside: bool,
    /// Without the mirror's mark: what is on it, in words, such as `an ext4 filesystem`. `None`: nothing
    /// that would be missed. Does not matter on a disk that bears the mark.
    pub holds: Option<String>,
    /// Sizes that it had earlier, newest first, as far as they are known: where to look for the metadata
    /// of a device that has grown. Not needed for metadata beside it.
    pub earlier: Vec<u64>,
}

/// Facts for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What the node's deciding half wants; complete.
    Orders(Box<MirrorOrders>),
    /// The local disk can be used: at the start, after [`Event::NoDisk`] or a failed [`Event::Done`] (all
    /// effects on it that were begun before have ended then); again when it has grown.
    Disk(Found),
    /// It cannot: the text says why and what to do.
    NoDisk(String),
    /// Become the active side in this epoch. Waits until the orders allow it and the disk is
    /// attached, [`crate::engine::OPEN_LIMIT`] at most.
    Open {
        ticket: Ticket,
        epoch: Epoch,
    },
    /// End every request, flush, and be standby again. The driver passes no request on after it. A
    /// pending `Open` ends with an error.
    Close {
        ticket: Ticket,
    },
    /// The write gate was found closed, or the daemon wants an end at once: everything under way fails,
    /// an `Open` and a `Close` too; nothing passes until opened anew.
    GateClosed,
    Read {
        io: IoId,
        at: Transfer,
        /// Takes the bytes; the driver has made it.
        buffer: BufferId,
    },
    Write {
        io: IoId,
        at: Transfer,
        buffer: BufferId,
        fua: bool,
    },
    /// Everything acknowledged before it shall be on stable storage.
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
    /// Ends the session before, if the driver has not reported it lost.
    PeerConnected {
        session: Session,
        peer: MemberId,
    },
    /// Also after [`Effect::Drop`], unless a later session has begun; then it changes nothing.
    PeerLost {
        session: Session,
    },
    /// `payload` has the length that the message says. It is there exactly if that is not 0.
    Received {
        session: Session,
        message: Box<Message>,
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
    /// Of [`Effect::Hash`]: one for each 4096 bytes.
    Hashes(Vec<BlockHash>),
}

/// The first 16 bytes of BLAKE3 of a block of 4096 bytes; [`BlockHash::ZERO`] for a block of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockHash(pub [u8; 16]);

impl BlockHash {
    pub const ZERO: Self = Self([0; 16]);
}

/// What the operator asks of a mirror on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Compare both copies block by block; `repair`: send those that differ. On the active side only:
    /// elsewhere, and while not all is replicated, it ends at once, with a note.
    Verify {
        repair: bool,
    },
    /// Stop resynchronisation and verification until resumed.
    Pause,
    Resume,
    /// Bytes a second for resynchronisation and verification; `None`: as fast as it goes.
    Rate(Option<u64>),
}

/// What the driver does. Effects are begun in order; disk effects end in any order, messages are sent
/// in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the local copy into `to`; its buffer is made with `to.length` if it is odd and new.
    Read {
        token: Token,
        at: Transfer,
        to: Part,
    },
    /// `durable`: ends when it is on stable storage.
    Write {
        token: Token,
        at: Transfer,
        from: Part,
        durable: bool,
    },
    /// Ends when every write that ended before it was begun is on stable storage.
    Flush {
        token: Token,
    },
    /// `zero`: reads as zeros afterwards, whatever the disk can do; otherwise it may be ignored.
    Discard {
        token: Token,
        at: Transfer,
        zero: bool,
    },
    /// As `Discard` with `zero`, of any length, and ends when it is on stable storage.
    Zero {
        token: Token,
        offset: u64,
        length: u64,
    },
    /// Of the disk itself or, if [`Found::beside`], of the file beside it; in units of 4096. What is
    /// behind the end of the file reads as zeros.
    MetaRead {
        token: Token,
        offset: u64,
        length: u32,
    },
    /// Ends when it is on stable storage. A file beside the disk grows as needed.
    MetaWrite {
        token: Token,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// In units of 4096.
    Hash {
        token: Token,
        of: Part,
    },
    /// Copies bytes from one buffer to another, at once: no token.
    Copy {
        from: Part,
        to: BufferId,
    },
    /// Keep what the local copy holds now, before it is overwritten: a snapshot.
    Snapshot {
        token: Token,
    },
    Send {
        session: Session,
        message: Box<Message>,
        payload: Option<Part>,
    },
    /// Close the connection, after what was sent.
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
        /// The size of the volume in bytes.
        result: Result<u64, String>,
    },
    Closed {
        ticket: Ticket,
        result: Result<(), String>,
    },
    /// The volume is not open any more, and not in good order: everything under way has failed, the device
    /// is to be taken away. After [`Event::GateClosed`], and by itself when a newer document took the mirror
    /// away, when the disk failed without another copy to go on with, or when a write may not be held any
    /// longer. A pending close has been answered before.
    Ended {
        why: String,
    },
    /// The volume has grown to so many bytes while it is open.
    Resized {
        size: u64,
    },
    /// For the deciding half, when it changed.
    Report(Box<MirrorReport>),
    /// For the event log.
    Note {
        error: bool,
        text: String,
    },
}
