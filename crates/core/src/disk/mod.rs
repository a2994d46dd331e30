//! A quorum disk as a voter: what a node writes into its slot, and what follows from reading all slots.
//!
//! A block grants nothing. Each node answers for it, in rounds: write the own slot, *then* read the others,
//! *then* answer. Of two rounds at least one sees the other's write; all else follows from that. See
//! `docs/internals/quorum-disk.md` for why a [`DiskVoter`] is as good as a voter with a mind of its own.

#[cfg(test)]
mod tests;
mod voter;

use crate::document::Document;
use crate::ids::{HostBoot, Incarnation, MemberId, Term, Version};
use crate::message::{Ack, Beat, Message};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

pub use voter::DiskVoter;

/// What one member has on the disk. Only it writes this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Slot {
    pub member: MemberId,
    /// Rises with every write.
    pub number: u64,
    /// Newest term in which this member asked for the disk's vote, or offered a document, through it.
    pub claim: Term,
    /// Newest heartbeat.
    pub beat: Option<Beat>,
    /// Newest heartbeat that asked for a lease: a later one that asks for none does not hide it.
    pub asked: Option<Asked>,
    /// Longest lease that may still rest on what was asked for.
    pub longest: Duration,
    /// Newest document this member gave to the disk.
    pub document: Option<Arc<Document>>,
}

/// A heartbeat that asked for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Asked {
    pub boot: HostBoot,
    pub run: Incarnation,
    pub seq: u64,
    pub shown: Version,
}

/// Facts for a disk voter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum DiskInput {
    /// The own guard sends the disk a heartbeat.
    Beat(Box<Beat>),
    /// The own daemon sends the disk a message.
    Message(Message),
    /// The slot last given is on the disk and flushed.
    Wrote,
    /// Every slot that was ever written, read after the last [`DiskAction::Read`] was given.
    Read(Vec<Slot>),
    /// What was under way ended otherwise: a write may have been made or not.
    Failed,
}

/// What the shell of a disk voter does. At most one of the first two is under way, and each ends in one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum DiskAction {
    /// Write the slot of this node and flush it.
    Write(Box<Slot>),
    /// Read all slots.
    Read,
    /// The disk's answer to the own guard.
    Ack(Ack),
    /// What the disk says to the own daemon.
    Say(Message),
    Trouble(DiskTrouble),
}

/// Why nothing that was read counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum DiskTrouble {
    /// The own slot is not as it was written: an old sector, or another writer with this member's number.
    NotAsWritten,
    /// A slot is older than it was.
    WentBack { member: MemberId },
    /// The own slot names a later boot of this host: its state is an old copy.
    Restored,
}

impl Slot {
    /// The slot of a member that has never written.
    #[must_use]
    pub const fn blank(member: MemberId) -> Self {
        Self {
            member,
            number: 0,
            claim: Term(0),
            beat: None,
            asked: None,
            longest: Duration::ZERO,
            document: None,
        }
    }

    /// Version of the document in it.
    #[must_use]
    pub fn version(&self) -> Version {
        self.document
            .as_ref()
            .map_or(Version::ZERO, |document| document.version)
    }
}
