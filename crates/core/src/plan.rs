//! The planner: document and what every node reports -> changes of the document, and for every
//! group why it stays, moves, waits or rests.
//!
//! ```text
//!   View ──> members (rejoined, held out) ──> voters ──> each group, by priority and relations:
//!                                                          pins ──> step ──> Verdict
//! ```
//!
//! Level-triggered: at most one step for each group and call; called again after each commit and each
//! new fact. With the same facts it comes to rest: the last plan has no changes. Nothing here waits
//! for a silent node's lease, the start check does; only a pinned group, which needs no lease, is
//! guarded here.

mod change;
mod failure;
mod fence;
mod fitness;
mod members;
mod mirror;
mod pins;
mod relation;
mod step;
mod verdict;
mod what_if;

pub use change::Change;
pub(crate) use change::scope_text;
pub use fitness::{Fitness, Obstacle};
pub use verdict::{Stay, Verdict, WaitFor};
pub use what_if::{Fault, what_if};

use crate::config::{Cluster, Group};
use crate::document::{Document, Membership, Placement};
use crate::fault::{Fault as Bug, planted};
use crate::ids::{GroupId, HostBoot, MemberId, ResourceId};
use crate::reason::Reason;
use crate::report::{GroupReport, GroupState, Report};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
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

/// What to change in the document now, and the account of every group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order they are to be applied.
    pub changes: Vec<Change>,
    pub groups: BTreeMap<GroupId, GroupPlan>,
}

/// Why a group is where it is, and which nodes could run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlan {
    pub verdict: Verdict,
    /// One for each node of the group's list.
    pub nodes: BTreeMap<MemberId, Fitness>,
}

/// Decides what shall change now.
#[must_use]
pub fn plan(view: &View<'_>) -> Plan {
    let mut draft = Draft::new(view);
    members::plan(&mut draft);
    let mut verdicts = Vec::new();
    for group in draft.order() {
        mirror::plan(&mut draft, &group);
        pins::plan(&mut draft, &group);
        failure::forgive(&mut draft, &group);
        let verdict = step::plan(&mut draft, &group);
        verdicts.push((group, verdict));
    }
    let groups = verdicts
        .into_iter()
        .map(|(group, verdict)| {
            let nodes = draft.fitness_of_all(&group);
            (group, GroupPlan { verdict, nodes })
        })
        .collect();
    Plan {
        changes: draft.changes,
        groups,
    }
}

impl Plan {
    /// The account of every group in words, one line for a group and one for each of its nodes.
    #[must_use]
    pub fn text(&self, config: &Cluster) -> Vec<String> {
        let mut lines = Vec::new();
        for (group, plan) in &self.groups {
            lines.push(format!("{group}: {}", plan.verdict.text(config)));
            for (&node, fitness) in &plan.nodes {
                lines.push(format!(
                    "  {}: {}",
                    config.name_of(node),
                    fitness.text(config)
                ));
            }
        }
        lines
    }
}

/// The facts, and the document with the changes decided so far.
pub(crate) struct Draft<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) document: Cow<'a, Document>,
    pub(crate) changes: Vec<Change>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(view: &'a View<'a>) -> Self {
        Self {
            view,
            document: Cow::Borrowed(view.document),
            changes: Vec::new(),
        }
    }

    pub(crate) fn change(&mut self, change: Change) {
        change.apply(self.document.to_mut());
        self.changes.push(change);
    }

    /// Configuration of a group of the configuration.
    pub(crate) fn group(&self, group: &GroupId) -> &'a Group {
        &self.view.document.config.groups[group]
    }

    pub(crate) fn placement(&self, group: &GroupId) -> Cow<'_, Placement> {
        match self.document.groups.get(group) {
            Some(placement) => Cow::Borrowed(placement),
            None => Cow::Owned(Placement::default()),
        }
    }

    pub(crate) fn membership(&self, member: MemberId) -> Cow<'_, Membership> {
        match self.document.members.get(&member) {
            Some(membership) => Cow::Borrowed(membership),
            None => Cow::Owned(Membership::default()),
        }
    }

    pub(crate) fn presence(&self, member: MemberId) -> Presence {
        self.view
            .members
            .get(&member)
            .map_or(Presence::NeverHeard, |view| view.presence)
    }

    pub(crate) fn online(&self, member: MemberId) -> bool {
        matches!(self.presence(member), Presence::Online { .. })
    }

    pub(crate) fn report(&self, member: MemberId) -> Option<&'a Report> {
        self.view.members.get(&member)?.report.as_ref()
    }

    pub(crate) fn group_report(
        &self,
        member: MemberId,
        group: &GroupId,
    ) -> Option<&'a GroupReport> {
        self.report(member)?.groups.get(group)
    }

    /// Gives the group to `to`.
    pub(crate) fn giving(&self, group: &GroupId, to: MemberId, reason: Reason) -> Change {
        Change::SetHolder {
            group: group.clone(),
            to,
            reason,
            abrupt: self.abrupt(group, to),
            unclean: self.unclean(group, Some(to)),
        }
    }

    /// Gives the group to nobody.
    pub(crate) fn releasing(&self, group: &GroupId, reason: Reason) -> Change {
        Change::Release {
            group: group.clone(),
            reason,
            unclean: self.unclean(group, None),
        }
    }

    /// Would `to` get the group from a holder that is not known to have stopped it?
    pub(crate) fn abrupt(&self, group: &GroupId, to: MemberId) -> bool {
        let holder = self.placement(group).holder;
        holder.is_some_and(|holder| {
            holder != to && !self.reported_down(group, holder) && !self.declared_down(holder)
        })
    }

    /// Did the operator say that this very boot is down, and has it not been heard since?
    pub(crate) fn declared_down(&self, member: MemberId) -> bool {
        let Some(word) = self.membership(member).down_boot else {
            return false;
        };
        match self.presence(member) {
            Presence::Online { .. } => false,
            Presence::Silent { boot, .. } | Presence::Down { boot, .. } => {
                word == boot || word == HostBoot::UNHEARD
            }
            Presence::NeverHeard => true,
        }
    }

    /// Why `member` is not waited for any more, if so.
    pub(crate) fn gone(&self, member: MemberId) -> Option<Reason> {
        let delay = self.view.document.config.timing.first_start_delay;
        if self.online(member) {
            return None;
        }
        if self.declared_down(member) {
            return Some(match self.membership(member).down_by {
                Some(by) => Reason::NodeFenced { node: member, by },
                None => Reason::NodeDeclaredDown { node: member },
            });
        }
        if self.membership(member).left {
            return Some(Reason::NodeLeft { node: member });
        }
        match self.presence(member) {
            Presence::Down { silent, .. } => Some(Reason::NodeDown {
                node: member,
                silent,
            }),
            Presence::NeverHeard if self.view.deciding_for >= delay => Some(Reason::NodeDown {
                node: member,
                silent: self.view.deciding_for,
            }),
            _ => None,
        }
    }

    /// Pinned, or not yet known to hold a lease again: only the holder itself or the operator's word
    /// takes it from its holder.
    pub(crate) fn needs_no_lease(&self, group: &GroupId) -> bool {
        self.view
            .document
            .groups
            .get(group)
            .is_some_and(|placement| placement.pin.is_some())
            && !planted(Bug::TakeOverPinned)
    }

    /// The holder says that nothing of the group runs there in this epoch. For a pinned group it must
    /// have said so about this very document: no start check would catch an older word.
    pub(crate) fn reported_down(&self, group: &GroupId, holder: MemberId) -> bool {
        let Some(report) = self.report(holder) else {
            return false;
        };
        let Some(state) = report.groups.get(group) else {
            return false;
        };
        if planted(Bug::StaleStopMoves) {
            return state.state.is_down();
        }
        state.state.is_down()
            && state.epoch == self.placement(group).epoch
            && (!self.needs_no_lease(group)
                || report.version >= self.view.document.version
                    && self.mirrors_agree(group, holder))
            && self.mirrors_closed(group, holder)
    }

    /// A node where the group could not be stopped, and may still run.
    pub(crate) fn stop_failed(&self, group: &GroupId) -> Option<(MemberId, ResourceId, String)> {
        self.view
            .members
            .keys()
            .find_map(|&node| match &self.group_report(node, group)?.state {
                GroupState::StopFailed { resource, detail } if !self.declared_down(node) => {
                    Some((node, resource.clone(), detail.clone()))
                }
                _ => None,
            })
    }
}
