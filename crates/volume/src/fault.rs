//! Deliberate bugs of the mirror engine, to prove that the simulator would catch them.
//!
//! As `hotpair_core::fault`: compiled in only with the feature `planted-faults`, one at a time, per
//! thread.

/// A bug that was once made, or nearly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A write is acknowledged while the peer's answer is missing.
    AckBeforePeer,
    /// A write is acknowledged while the local disk has not ended it.
    AckBeforeLocal,
    /// A write that the peer missed is acknowledged without recording that.
    AloneUnrecorded,
    /// Alone at the serial at which the peer was reported complete.
    AloneAtSameSerial,
    /// A write is acknowledged before the local disk bears the agreed generation.
    AckBeforeStamp,
    /// The standby takes messages of an earlier epoch.
    TakeEarlierEpoch,
    /// A block is written before its extent is in the activity log.
    BlockBeforeLog,
    /// An extent leaves the log before its bitmap pages are durable.
    EvictBeforePages,
    /// An extent leaves the log before what was written in it is flushed.
    EvictUnflushed,
    /// What the peer had not flushed is forgotten when its host restarts.
    ForgetUnflushed,
    /// The target is overwritten without a mark that it is inconsistent.
    NoInconsistentMark,
    /// The activity logs are left out of the resynchronisation.
    ResyncWithoutLog,
    /// The bitmap of the target is left out of the resynchronisation.
    ResyncWithoutTargetBits,
    /// A read does not wait for a write that overlaps it.
    ReadBesideWrite,
    /// An unclean disk is opened beside a copy that counts as up to date.
    OpenUncleanTogether,
    /// Goes on alone on its own mark before that is durable.
    SoloBeforeMark,
    /// Requests pass again after the gate was found closed.
    GateReopens,
    /// A disk of another generation is opened.
    IgnoreGeneration,
    /// A flush ends without the peer's.
    FlushLocalOnly,
    /// The peer answers from memory in synchronous mode.
    MemoryForSynchronous,
    /// A copy is reported complete before its disk is marked.
    CompleteBeforeStamp,
    /// Bits are cleared when the target has a block, before it has flushed it.
    ClearBeforeFlush,
    /// Resynchronisation does not lock the blocks it sends.
    ResyncUnlocked,
    /// A copy with writes of its own is overwritten without being given up.
    OverwriteDiverged,
    /// Writes under way when the peer is lost are not noted as missing there.
    ForgetInFlight,
    /// A write is acknowledged without the peer while it is being told that it lacks nothing, and it counts
    /// as complete all the same.
    AloneWhileJoining,
}

impl Fault {
    /// Every fault, in order.
    pub const ALL: [Self; 26] = [
        Self::AckBeforePeer,
        Self::AckBeforeLocal,
        Self::AloneUnrecorded,
        Self::AloneAtSameSerial,
        Self::AckBeforeStamp,
        Self::TakeEarlierEpoch,
        Self::BlockBeforeLog,
        Self::EvictBeforePages,
        Self::EvictUnflushed,
        Self::ForgetUnflushed,
        Self::NoInconsistentMark,
        Self::ResyncWithoutLog,
        Self::ResyncWithoutTargetBits,
        Self::ReadBesideWrite,
        Self::OpenUncleanTogether,
        Self::SoloBeforeMark,
        Self::GateReopens,
        Self::IgnoreGeneration,
        Self::FlushLocalOnly,
        Self::MemoryForSynchronous,
        Self::CompleteBeforeStamp,
        Self::ClearBeforeFlush,
        Self::ResyncUnlocked,
        Self::OverwriteDiverged,
        Self::ForgetInFlight,
        Self::AloneWhileJoining,
    ];
}

/// Not caught in 3000 seeds: what it breaks is also refused by the report of the disk, unless a holder's disk is
/// restored to an earlier state within its epoch.
pub const NOT_CAUGHT: [Fault; 1] = [Fault::IgnoreGeneration];

hotpair_core::planting!();
