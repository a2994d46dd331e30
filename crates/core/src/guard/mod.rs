//! The guard: heartbeats, promises, the node's lease, the start check, and the gates.
//!
//! It runs in a small process of its own, locked in memory and real-time, so that neither a busy
//! nor a dead daemon can fake a dead node, nor keep an address alive. See
//! `docs/internals/arbitration.md` for why the rules are as they are.

mod lease;
mod promise;
mod run;
#[cfg(test)]
mod tests;

use crate::document::Voters;
use crate::ids::{Epoch, GroupId, HostBoot, Incarnation, MemberId, Term, Version};
use crate::message::{Datagram, Seen};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use promise::Promises;
pub use run::Guard;

/// What the deciding half wants of the guard: complete, replaces what it wanted before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Wanted {
    /// Everybody to send beats to.
    pub peers: BTreeSet<MemberId>,
    /// The node asks for a lease (a witness does not).
    pub holds: bool,
    pub voters: Voters,
    pub heartbeat: Duration,
    pub lease: Duration,
    /// Longest lease that may have been promised before this host's boot.
    pub longest_lease: Duration,
    pub held: Version,
    /// What this version takes from the node is no longer in `groups`.
    pub shown: Version,
    pub committed: Version,
    pub term: Term,
    pub leads: bool,
    /// A voter that shows an older document than this is not counted.
    pub floors: BTreeMap<MemberId, Version>,
    /// What the node may run, once the start check allows it.
    pub groups: BTreeMap<GroupId, Hold>,
}

/// A group this node is the holder of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Hold {
    pub epoch: Epoch,
    /// A committed version that names this node as its holder at `epoch`: the start check is against it.
    /// `None` until such a version is known to be committed.
    pub committed: Option<Version>,
    /// Committed as pinned: a permit once given needs no lease.
    pub pinned: bool,
    /// Extra wait after the start check, for effects that no gate stops.
    pub margin: Duration,
}

/// Facts for the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum GuardInput {
    /// A datagram whose seal and sender were checked.
    Datagram(Box<Datagram>),
    Wanted(Box<Wanted>),
    /// The decision loop is alive.
    Credit,
    /// The daemon has ended (its connection closed): it has 2 s to come back.
    DaemonGone,
    Tick,
}

/// What the guard's shell does. In order: a beat is never sent before what stands before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum GuardAction {
    /// Send over every link.
    Send {
        to: MemberId,
        datagram: Datagram,
    },
    /// Keep the promises under the host boot before anything that follows is sent.
    SavePromises,
    /// Close the gates of the group, kill its processes.
    Cut {
        group: GroupId,
    },
    /// Packets of the group's addresses pass for so long from now; `None`: until cut (pinned).
    Open {
        group: GroupId,
        until: Option<Duration>,
    },
    Event(GuardEvent),
}

/// Facts for the deciding half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum GuardEvent {
    /// A fresh beat of a member (the first copy to arrive over any link).
    Heard(Box<crate::message::Beat>),
    /// A voter of this version answered.
    VoterHeard {
        voter: MemberId,
        held: Version,
        boot: HostBoot,
        sees: Vec<Seen>,
    },
    /// The lease runs, or ended.
    Lease { held: bool },
    /// The groups this node has a permit for now; all others were cut.
    Permits(BTreeMap<GroupId, Epoch>),
    /// Under the committed version that the guard was last told, these groups run by the lease alone:
    /// their gates close by themselves with it. What the guard has not said may have a gate that
    /// stays open (pinned), whatever the daemon wants meanwhile.
    Leased {
        under: Version,
        groups: BTreeSet<GroupId>,
    },
    /// A majority holds this version or a newer one, and no promise of theirs under an older one
    /// runs: a joint change of voters of this version may be finished.
    Cleared(Version),
    /// A voter showed an older document than it was seen to keep.
    VoterFellBehind {
        voter: MemberId,
        held: Version,
        floor: Version,
    },
}

/// Who the guard is in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct GuardIdentity {
    pub me: MemberId,
    pub boot: HostBoot,
    pub run: Incarnation,
}
