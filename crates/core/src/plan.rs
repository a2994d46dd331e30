//! The planner: document and what every node reports -> changes of the document, and for every
//! group why it stays, moves, waits or is refused.

use crate::document::Document;
use crate::ids::{GroupId, HostBoot, MemberId};
use crate::report::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the leader knows when it plans.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Committed, and nothing newer is under way.
    pub document: &'a Document,
    pub members: BTreeMap<MemberId, MemberView>,
    /// How long this member has been deciding: the first-start delay counts from there.
    pub deciding_for: Duration,
}

#[derive(Clone, Debug)]
pub struct MemberView {
    pub presence: Presence,
    /// Newest report of the present host boot, if one has come.
    pub report: Option<Report>,
    /// How long the node has been online without interruption.
    pub online_for: Duration,
    /// For each group: how long its report has said "fit" without interruption.
    pub fit_for: BTreeMap<GroupId, Duration>,
    /// Times it went down unasked within the flapping window.
    pub failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// Heartbeats with a deciding daemon behind them.
    Online { boot: HostBoot },
    /// Heard since this member started, but silent (or without a deciding daemon) for so long.
    Silent { boot: HostBoot, silent: Duration },
    /// Silent for longer than the timing allows.
    Down { boot: HostBoot, silent: Duration },
    /// Never heard since this member started.
    NeverHeard,
}
