//! The deciding half of a member: keeps the document, elects, runs its groups, plans when it leads.

mod agreement;
mod fencing;
mod lead;
mod mirrors;
mod peers;
mod run;
mod status;
mod work;

pub use fencing::FENCE_REQUEST;
pub use run::Node;
pub use status::{MemberStatus, Status};

use crate::document::Document;
use crate::group::{ActionId, ResourceAction, ResourceFact};
use crate::guard::{GuardEvent, Wanted};
use crate::ids::{GroupId, HostBoot, Incarnation, MemberId, ResourceId, Term, Version};
use crate::message::Message;
use crate::mirror::{Copy, MirrorOrders, MirrorReport};
use crate::reason::Reason;
use crate::report::GroupState;
use crate::request::{Outcome, Request};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Who this member is in this run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Identity {
    pub me: MemberId,
    pub boot: HostBoot,
    pub incarnation: Incarnation,
    /// Seeds the jitter of elections; anything.
    pub seed: u64,
}

/// What a member keeps on disk. Written whole and atomically before it is acted upon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Durable {
    pub term: Term,
    pub vote: Option<MemberId>,
    pub document: Option<Arc<Document>>,
    /// Longest lease this member may have promised and that may still run: how long its host is
    /// silent after a restart.
    pub longest_lease: Duration,
    /// Highest version each voter was seen to keep; one that falls behind it is refused.
    pub floors: BTreeMap<MemberId, Version>,
}

/// A write of [`Durable`]; later writes have greater numbers and replace earlier ones.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash,
)]
pub struct PersistId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Input {
    /// From an authenticated member, over TCP.
    Message {
        from: MemberId,
        message: Message,
    },
    Guard(GuardEvent),
    /// This write, and every earlier one, is on disk.
    Persisted(PersistId),
    /// An action ended.
    Done {
        id: ActionId,
        result: Result<(), String>,
    },
    Fact {
        group: GroupId,
        resource: ResourceId,
        fact: ResourceFact,
    },
    /// A mirror process of this node says what is; the newest counts.
    Mirror {
        group: GroupId,
        resource: ResourceId,
        report: Box<MirrorReport>,
    },
    /// An operator on this member asks; the answer carries the same `id`.
    Request {
        id: u64,
        request: Box<Request>,
        dry_run: bool,
    },
    /// The fence devices of a node were used: it is off, or why not.
    Fenced {
        node: MemberId,
        boot: HostBoot,
        result: Result<(), String>,
    },
    /// A deadline has come.
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Action {
    Send {
        to: MemberId,
        message: Message,
    },
    Persist {
        id: PersistId,
        state: Box<Durable>,
    },
    /// Everything the guard shall do from now on; replaces the earlier one.
    Guard(Box<Wanted>),
    Resource(ResourceAction),
    /// Everything a mirror process of this node shall know from now on.
    Mirror {
        group: GroupId,
        resource: ResourceId,
        orders: Box<MirrorOrders>,
    },
    Answer {
        id: u64,
        outcome: Outcome,
    },
    Event(Event),
    /// The policy's final action for this host.
    Host(HostAction),
    /// Have this boot of another node ended by its fence devices; [`Input::Fenced`] says how it went. One is
    /// under way for a node at a time.
    Fence {
        node: MemberId,
        boot: HostBoot,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum HostAction {
    StopHotpair,
    Reboot,
}

/// Something the operator may want to know, for the log, the alarms and the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Event {
    pub level: Level,
    pub group: Option<GroupId>,
    pub node: Option<MemberId>,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub enum Level {
    Message,
    Warning,
    Error,
    Cleared,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum What {
    Leads {
        term: Term,
    },
    Decided {
        from: Option<MemberId>,
        to: Option<MemberId>,
        reason: Reason,
    },
    GroupState {
        state: String,
        detail: String,
    },
    MemberUp,
    MemberDown {
        silent: Duration,
    },
    MemberRebooted,
    LeaseHeld,
    LeaseLost,
    VoterRefused {
        detail: String,
    },
    Text(String),
}

impl Level {
    /// How much a decision matters to the operator.
    fn of(reason: &Reason) -> Self {
        match reason {
            Reason::Copy { copy, .. } => match copy {
                Copy::Diverged { .. } | Copy::Lost => Self::Error,
                Copy::Outdated | Copy::Inconsistent | Copy::GivenUp { .. } => Self::Warning,
                Copy::UpToDate => Self::Cleared,
                Copy::New { .. } => Self::Message,
            },
            Reason::FenceFailed { .. } => Self::Error,
            Reason::Fencing { .. } | Reason::NodeFenced { .. } => Self::Warning,
            _ => Self::Message,
        }
    }
}

impl Event {
    fn of_node(level: Level, node: MemberId, what: What) -> Action {
        Action::Event(Self {
            level,
            group: None,
            node: Some(node),
            what,
        })
    }

    fn of_group(group: &GroupId, node: MemberId, state: &GroupState) -> Self {
        let (level, detail) = match state {
            GroupState::Failed { detail, .. } | GroupState::StopFailed { detail, .. } => {
                (Level::Error, detail.clone())
            }
            GroupState::Degraded { detail } => (Level::Warning, detail.clone()),
            GroupState::Running => (Level::Cleared, String::new()),
            _ => (Level::Message, String::new()),
        };
        let what = What::GroupState {
            state: state.name().to_owned(),
            detail,
        };
        Self {
            level,
            group: Some(group.clone()),
            node: Some(node),
            what,
        }
    }
}
