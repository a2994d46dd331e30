//! The holder has failed: again there, on the next node, back, or the final action, by policy.

use super::relation;
use super::step::{bar, candidate, give, move_on, nobody};
use super::{Change, Draft, Obstacle, Verdict, WaitFor};
use crate::config::{FinalAction, OnStartFailure, OnSwitchFailure};
use crate::document::{Failure, Goal};
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::reason::Reason;
use std::time::Duration;

/// A node's surroundings count as well again when it has been fit for so long.
const WELL_AGAIN: Duration = Duration::from_secs(5);

/// What the holder reports.
pub(super) struct Failed {
    pub resource: Option<ResourceId>,
    pub detail: String,
    pub while_starting: bool,
}

/// The holder has given it up in this epoch.
pub(super) fn failed(
    draft: &mut Draft<'_>,
    group: &GroupId,
    holder: MemberId,
    failed: &Failed,
) -> Verdict {
    let waits = |wait_for| Verdict::Waits {
        on: Some(holder),
        wait_for,
    };
    let barred = bar(draft, group);
    if let Some(wait_for @ (WaitFor::Arming | WaitFor::EndOfMaintenance)) = barred {
        return waits(wait_for);
    }
    let starts = record_failure(draft, group, holder, failed);
    let reason = failure_reason(holder, failed);
    if failed.while_starting {
        if let Some(verdict) = after_switch(draft, group, holder, failed, &reason) {
            return verdict;
        }
        match draft.group(group).on_start_failure {
            OnStartFailure::Wait => return waits(WaitFor::OperatorAfter { reason }),
            OnStartFailure::Retry(times) if starts <= times && may_retry(draft, group, holder) => {
                return give(draft, group, Some(holder), holder, reason);
            }
            OnStartFailure::Retry(_) | OnStartFailure::NextNode => {}
        }
    }
    if barred.is_some() {
        return match draft.misplaced(group, holder) {
            Some(reason) => release(draft, group, holder, reason),
            None => waits(WaitFor::OperatorAfter { reason }),
        };
    }
    if candidate(draft, group, Some(holder)).is_some() {
        return move_on(draft, group, holder, reason);
    }
    if let Some(node) = relation::move_party(draft, group, holder) {
        return waits(WaitFor::Node { node });
    }
    // Not this failure, but whom it must be with, decides where it can run.
    if let Some(reason) = draft.misplaced(group, holder) {
        return release(draft, group, holder, reason);
    }
    give_up(draft, group, holder, reason)
}

fn failure_reason(node: MemberId, failed: &Failed) -> Reason {
    let detail = failed.detail.clone();
    match (&failed.resource, failed.while_starting) {
        (resource, true) => Reason::StartFailed {
            node,
            resource: resource.clone(),
            detail,
        },
        (Some(resource), false) => Reason::ResourceFailed {
            node,
            resource: resource.clone(),
            detail,
        },
        (None, false) => Reason::Unfit { node, detail },
    }
}

/// Once for each epoch; returns the failed starts on the node so far.
fn record_failure(draft: &mut Draft<'_>, group: &GroupId, node: MemberId, failed: &Failed) -> u32 {
    let placement = draft.placement(group).into_owned();
    let known = placement.failed_on.get(&node);
    if let Some(known) = known
        && known.epoch == placement.epoch
    {
        return known.starts;
    }
    let starts = known.map_or(0, |f| f.starts) + u32::from(failed.while_starting);
    let environment = draft
        .group_report(node, group)
        .is_some_and(|report| !report.unfit.is_empty());
    draft.change(Change::RecordFailure {
        group: group.clone(),
        node,
        failure: Failure {
            epoch: placement.epoch,
            resource: failed.resource.clone(),
            detail: failed.detail.clone(),
            starts,
            environment,
        },
    });
    starts
}

/// A failure that the node's surroundings brought about ends when they are well again: a repaired
/// cable must not leave the cluster without a standby.
pub(super) fn forgive(draft: &mut Draft<'_>, group: &GroupId) {
    let placement = draft.placement(group).into_owned();
    for (&node, failure) in &placement.failed_on {
        let well = draft
            .view
            .members
            .get(&node)
            .and_then(|view| view.fit_for.get(group))
            .is_some_and(|&span| span >= WELL_AGAIN);
        if failure.environment && well && placement.holder != Some(node) && draft.online(node) {
            let group = group.clone();
            draft.change(Change::ClearFailure { group, node });
        }
    }
}

/// The same node may try again if nothing but this failure speaks against it.
fn may_retry(draft: &Draft<'_>, group: &GroupId, node: MemberId) -> bool {
    draft.fit_but_for(group, node, |obstacle| {
        matches!(obstacle, Obstacle::FailedHere(_))
    })
}

/// The target of a switchover could not start it.
fn after_switch(
    draft: &mut Draft<'_>,
    group: &GroupId,
    holder: MemberId,
    failed: &Failed,
    reason: &Reason,
) -> Option<Verdict> {
    let back = draft.placement(group).switched_from?;
    if draft.group(group).on_switch_failure == OnSwitchFailure::Wait {
        return Some(Verdict::Waits {
            on: Some(holder),
            wait_for: WaitFor::OperatorAfter {
                reason: reason.clone(),
            },
        });
    }
    let reason = Reason::WentBack {
        from: holder,
        detail: failed.detail.clone(),
    };
    draft
        .fitness(group, back)
        .is_fit()
        .then(|| give(draft, group, Some(holder), back, reason))
}

/// No node is left. One that may be fit in a moment is waited for; then the final action.
fn give_up(draft: &mut Draft<'_>, group: &GroupId, holder: MemberId, reason: Reason) -> Verdict {
    let config = draft.group(group);
    let soon = config.nodes.iter().copied().find(|&node| {
        node != holder && draft.gone(node).is_none() && draft.fitness(group, node).may_pass()
    });
    if let Some(node) = soon {
        return Verdict::Waits {
            on: Some(holder),
            wait_for: WaitFor::Node { node },
        };
    }
    if config.final_action == FinalAction::Nothing {
        return Verdict::Waits {
            on: Some(holder),
            wait_for: nobody(draft, group, reason),
        };
    }
    let reason = Reason::FailedEverywhere {
        detail: reason.text(&draft.document.config),
    };
    draft.change(Change::SetGoal {
        group: group.clone(),
        goal: Goal::Failed,
        reason: reason.clone(),
    });
    release(draft, group, holder, reason)
}

/// Nothing runs at the holder: nobody holds it any more.
fn release(draft: &mut Draft<'_>, group: &GroupId, holder: MemberId, reason: Reason) -> Verdict {
    let released = draft.releasing(group, reason.clone());
    draft.change(released);
    Verdict::Moves {
        from: Some(holder),
        to: None,
        reason,
    }
}
