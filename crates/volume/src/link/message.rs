//! The messages.

use crate::engine::{BlockHash, IoError, Transfer};
use hotpair_core::ids::{Epoch, HostBoot, MemberId, Version};
use hotpair_core::mirror::Generation;

/// Blocks of 4096 bytes in one step of resynchronisation or verification.
pub const CHUNK_BLOCKS: usize = 64;
/// Bytes of bits in a page of the bitmap.
pub const PAGE_BYTES: usize = 4080;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// In which the sender holds the mirror or, on the standby side, for which it answers. A receiver
    /// for which another epoch, or another holder, counts takes nothing (rule R3).
    pub epoch: Epoch,
    /// [`hotpair_core::mirror::Data::serial`] that the sender knows to be committed; for people only.
    pub serial: u64,
    /// Chosen by whoever asks, repeated in the answer. 0: no answer is expected.
    pub tag: u64,
    pub body: Body,
}

/// What it says. *A*: sent by the active side; *S*: by the standby side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Both: who I am and what my disk is. First in a session, and again when it changes.
    Hello(Box<Hello>),
    /// Both: the session ends, and why.
    Refused(Refusal),
    /// Both, answered at once, to tell a slow disk from a dead link.
    Ping,
    Pong,

    /// A: write this; the payload follows. Answered by `Ack` when it is on the disk (`durable`: on
    /// stable storage; `early`: when it is in memory).
    Data {
        at: Transfer,
        durable: bool,
        early: bool,
    },
    /// A: as `Data`, of blocks that the target lacks.
    ResyncData {
        at: Transfer,
    },
    /// A: as `Data`, without bytes. `resync`: of blocks that are zeros on the source.
    Discard {
        at: Transfer,
        zero: bool,
        early: bool,
        resync: bool,
    },
    /// A: `Ack` when everything acknowledged before is on stable storage. `all`: what was sent before,
    /// too. `barrier`: what is sent later is not begun before that.
    Flush {
        all: bool,
        barrier: bool,
    },
    /// S: what `tag` asked for is done.
    Ack {
        result: Result<(), IoError>,
    },
    /// A: read this; answered by `Bytes`.
    Read {
        at: Transfer,
    },
    /// S: the payload follows, unless it failed.
    Bytes {
        at: Transfer,
        result: Result<(), IoError>,
    },

    /// A: you are to be resynchronised. Mark your disk inconsistent, then say what you have touched
    /// that I may not know of. `basis` names what the source's bitmap counts from; `snapshot`: your
    /// copy was given up, keep a snapshot of it first.
    ResyncBegin {
        basis: Generation,
        snapshot: bool,
    },
    /// S: extents of 4 MiB of an activity log that was not closed in good order.
    Extents(Vec<u32>),
    /// S: a page of the bitmap, with blocks that I have written alone. Answered by `Ack`.
    Page {
        index: u32,
        bits: Box<[u8]>,
    },
    /// S: that is all; send.
    ResyncReady,
    /// A: which of these blocks differ from yours? Answered by `Differ`.
    Compare {
        at: Transfer,
        hashes: Vec<BlockHash>,
    },
    /// S: bit n: block n differs.
    Differ {
        blocks: u64,
        result: Result<(), IoError>,
    },
    /// A: nothing is missing any more (or was): end and flush what you have taken, then mark your disk
    /// so. Answered by `Stamped`.
    Stamp(Box<Stamp>),
    /// S: it bears that generation, on stable storage.
    Stamped {
        generation: Generation,
    },

    /// S: my disk failed; nothing is taken any more.
    DiskFailed,
}

impl Body {
    /// Bytes of payload that follow the message.
    #[must_use]
    pub fn payload(&self) -> u32 {
        match self {
            Self::Data { at, .. } | Self::ResyncData { at } => at.length,
            Self::Bytes { at, result: Ok(()) } => at.length,
            _ => 0,
        }
    }
}

/// Who speaks, and what its disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`hotpair_core::mirror::Data::id`]; 0: not known yet.
    pub mirror: u64,
    pub member: MemberId,
    pub boot: HostBoot,
    /// Of the process.
    pub run: u64,
    /// How often its disk failed in this run: what was not flushed may be lost each time.
    pub failures: u32,
    /// Newest document kept, and holder and epoch by it.
    pub version: Version,
    pub holder: Option<MemberId>,
    pub epoch: Epoch,
    /// The mirror is open here in this epoch.
    pub active: bool,
    /// `None`: not attached.
    pub disk: Option<DiskState>,
}

/// What the superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskState {
    /// Of the volume, in bytes.
    pub size: u64,
    pub generation: Generation,
    pub solo: Option<Generation>,
    pub consistent: bool,
    /// It was open and not closed in good order: its activity log counts.
    pub unclean: bool,
    /// What its own bitmap counts from, see [`crate::store::Superblock::base`].
    pub base: Generation,
    /// The `basis` of the resynchronisation that was begun and did not end.
    pub resync_base: Generation,
    /// Newest last.
    pub ancestors: Vec<Generation>,
}

/// What a disk shall be marked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub generation: Generation,
    /// Newest last.
    pub ancestors: Vec<Generation>,
    /// The active side has no disk any more: what it writes from here on is on the standby's alone,
    /// and no bitmap knows it.
    pub only_copy: bool,
}

/// Why a side ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The message is of another epoch than the one that counts here, or of somebody who is not holder.
    NotHolder,
    /// The two volumes are not of the same mirror.
    OtherMirror,
    /// The copy has writes of its own and was not given up.
    Diverged,
    /// The disk cannot take it: not attached, or too small.
    NoDisk,
    /// Something that is not said in this state, or more than was asked for.
    Protocol,
    /// Superseded by a newer session, or the peer was silent for too long.
    Stale,
}

impl Refusal {
    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotHolder => "the sender does not hold the mirror in the present epoch",
            Self::OtherMirror => "the peer's volume belongs to another mirror",
            Self::Diverged => "the copy has writes of its own and was not given up",
            Self::NoDisk => "the disk cannot be used or is too small",
            Self::Protocol => "a message that makes no sense in this state",
            Self::Stale => "a newer connection, or silence for too long",
        }
    }
}
