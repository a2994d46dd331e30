//! One group on this node: starts and stops its resources in the order of their dependencies,
//! restarts in place, and says what state it is in.
//!
//! ```text
//!   Orders (want, epoch, maintenance) --+
//!   facts (detected, exited, verdict) --+--> GroupRun::settle --> starts, stops, kills, checks
//!   completions of earlier actions -----+           |
//!                                                   +--> GroupRun::report
//! ```
//!
//! [`GroupRun::settle`] looks at what is true now and emits only what is not under way yet, so a
//! repeated or lost call leaves nothing wrong. `part` holds one resource, `order` the dependencies,
//! `restart` what a failure leads to, `state` the report.

mod order;
mod part;
mod restart;
mod run;
mod state;
#[cfg(test)]
mod tests;

pub use run::GroupRun;

use crate::config::Group;
use crate::ids::{Epoch, GroupId, MemberId, ResourceId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Counts the actions of one run of the daemon; one for all its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ActionIds(u64);

impl ActionIds {
    /// A number that no earlier action of this run has.
    pub fn take(&mut self) -> ActionId {
        self.0 += 1;
        ActionId(self.0)
    }
}

/// Names one action of this run of the daemon; its completion carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct ActionId(pub u64);

/// Work on one resource. Ends in exactly one completion, time-outs included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct ResourceAction {
    pub id: ActionId,
    pub group: GroupId,
    pub resource: ResourceId,
    pub epoch: Epoch,
    pub work: Work,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Work {
    /// Start it. Succeeds if it runs already under hotpair's hand.
    Start,
    /// Stop it in good order within its stop time-out. Succeeds if it is stopped.
    Stop,
    /// Kill its processes and clean up what they left (the address, …).
    Kill,
    /// Run its detectors now, whatever their interval. Its completion carries no verdict.
    Check,
}

/// What was seen of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum ResourceFact {
    /// All detectors agreed that it runs (after their tries), or one found that it does not.
    Detected { running: bool, detail: String },
    /// The supervised process ended, unasked or not.
    Exited { epoch: Epoch, detail: String },
    /// Why this node could not run it now (no carrier, program missing, …); empty: it could.
    Verdict { problems: Vec<String> },
    /// Seen running at the start of the daemon, left by an earlier run of it.
    Adopted { epoch: Epoch },
}

/// What this node shall do with the group now.
#[derive(Clone, Debug, Hash)]
pub struct Orders<'a> {
    pub me: MemberId,
    pub config: &'a Group,
    pub epoch: Epoch,
    pub want: Want,
    pub maintenance: bool,
    pub maintenance_resources: &'a BTreeSet<ResourceId>,
    /// Not to run, whatever the group shall do; neither is what requires them.
    pub stopped: BTreeSet<ResourceId>,
    /// How often each was to be started again; what was started before the last time is.
    pub restarts: &'a BTreeMap<ResourceId, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Want {
    /// The permit for the epoch is held: start what does not run, keep it running.
    Run,
    /// Stop in good order.
    Stop,
    /// The permit is lost, the guard has killed the processes: clean up at once.
    Gone,
}
