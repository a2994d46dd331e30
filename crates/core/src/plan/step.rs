//! One step of one group: stay, move, wait or rest.

use super::failure::{Failed, failed};
use super::{Change, Draft, Stay, Verdict, WaitFor};
use crate::config::{Failback, StartMode, Takeover};
use crate::document::{Failure, Goal, Move, Pin, PinReason};
use crate::ids::{GroupId, MemberId};
use crate::reason::Reason;
use crate::report::{GroupState, Report};

pub(super) fn plan(draft: &mut Draft<'_>, group: &GroupId) -> Verdict {
    let placement = draft.placement(group).into_owned();
    match (placement.goal, placement.holder) {
        (Goal::Run, None) => first_start(draft, group),
        (Goal::Run, Some(holder)) => match placement.moving {
            Some(moving) => go_on_moving(draft, group, holder, &moving),
            None => held(draft, group, holder),
        },
        (goal, None) => Verdict::Rests {
            goal,
            reason: placement.reason,
        },
        (_, Some(holder)) => stop(draft, group, holder, placement.moving, placement.reason),
    }
}

/// The goal is not to run, but there is a holder.
fn stop(
    draft: &mut Draft<'_>,
    group: &GroupId,
    holder: MemberId,
    moving: Option<Move>,
    reason: Reason,
) -> Verdict {
    let moving = match moving {
        Some(moving) if moving.to.is_none() => moving,
        _ => {
            let by_operator = draft.placement(group).goal == Goal::Stopped;
            draft.change(Change::Move {
                group: group.clone(),
                to: None,
                reason: reason.clone(),
                by_operator,
            });
            Move {
                to: None,
                reason,
                by_operator,
            }
        }
    };
    go_on_moving(draft, group, holder, &moving)
}

/// Nobody holds it: the best fit node, once no better one may still come.
fn first_start(draft: &mut Draft<'_>, group: &GroupId) -> Verdict {
    let waits = |wait_for| Verdict::Waits { on: None, wait_for };
    if let Some(wait_for) = draft.unstopped(group) {
        return waits(wait_for);
    }
    match bar(draft, group) {
        None | Some(WaitFor::OperatorTakeover) => {}
        Some(wait_for) => return waits(wait_for),
    }
    let best = candidate(draft, group, None);
    let config = draft.group(group);
    let early = draft.view.deciding_for < config_delay(draft);
    // As `best_node` orders them: by preferred relations broken, then by the group's list.
    let rank = |(place, &node): (usize, &MemberId)| ((draft.strain(group, node), place), node);
    let ranked: Vec<_> = config.nodes.iter().enumerate().map(rank).collect();
    let chosen = ranked.iter().find(|(_, node)| Some(*node) == best);
    let bar = chosen.map(|(rank, _)| *rank);
    let preferred: Vec<MemberId> = ranked
        .iter()
        .filter(|(rank, _)| bar.is_none_or(|bar| *rank < bar))
        .map(|&(_, node)| node)
        .filter(|&node| {
            let fitness = draft.fitness(group, node);
            !fitness.is_fit() && (fitness.may_pass() || early && fitness.may_come())
        })
        .collect();
    let better = !preferred.is_empty();
    // One that is there and has not acted on this document yet will say in a moment whether it is fit.
    let about_to_report = |&node: &MemberId| {
        let behind = |report: &Report| report.version < draft.view.document.version;
        draft.online(node) && draft.report(node).is_some_and(behind)
    };
    let patient = early || preferred.iter().any(about_to_report);
    match best {
        Some(to) if !(patient && better) => give(draft, group, None, to, Reason::FirstStart),
        node if patient && better => waits(WaitFor::FirstStartDelay { node }),
        _ => waits(nobody(draft, group, Reason::NotStartedYet)),
    }
}

fn config_delay(draft: &Draft<'_>) -> std::time::Duration {
    draft.view.document.config.timing.first_start_delay
}

/// There is a holder, it shall run, and it is not being moved.
fn held(draft: &mut Draft<'_>, group: &GroupId, holder: MemberId) -> Verdict {
    let waits = |wait_for| Verdict::Waits {
        on: Some(holder),
        wait_for,
    };
    if let Some(reason) = draft.gone(holder) {
        return take_over(draft, group, holder, reason);
    }
    if !draft.online(holder) {
        return waits(WaitFor::Silence { node: holder });
    }
    let Some(report) = draft.group_report(holder, group) else {
        return waits(WaitFor::Report { node: holder });
    };
    if matches!(report.state, GroupState::StopFailed { .. })
        && let Some(wait_for) = draft.unstopped(group)
    {
        return waits(wait_for);
    }
    if report.epoch != draft.placement(group).epoch {
        return if report.state.is_down() && !draft.needs_no_lease(group) {
            idle(draft, group, holder)
        } else {
            waits(WaitFor::Report { node: holder })
        };
    }
    match &report.state {
        GroupState::Failed {
            resource,
            detail,
            while_starting,
        } => failed(
            draft,
            group,
            holder,
            &Failed {
                resource: resource.clone(),
                detail: detail.clone(),
                while_starting: *while_starting,
            },
        ),
        GroupState::Stopped => idle(draft, group, holder),
        GroupState::Running => {
            settle(draft, group, holder);
            running(draft, group, holder, Stay::Runs)
        }
        GroupState::Degraded { detail } => running(
            draft,
            group,
            holder,
            Stay::Degraded {
                detail: detail.clone(),
            },
        ),
        GroupState::Starting => stays(holder, Stay::Starts),
        GroupState::Stopping => stays(holder, Stay::Stops),
        GroupState::StopFailed { .. } | GroupState::Unmanaged { .. } => {
            stays(holder, Stay::Maintenance)
        }
    }
}

fn stays(on: MemberId, why: Stay) -> Verdict {
    Verdict::Stays { on, why }
}

/// The holder runs nothing of it and has not failed: it will start it by itself, unless it cannot.
fn idle(draft: &mut Draft<'_>, group: &GroupId, holder: MemberId) -> Verdict {
    use super::Obstacle;
    if !draft.document.disarmed
        && !draft.in_maintenance(group)
        && let Some(reason) = draft.misplaced(group, holder)
    {
        return leave(draft, group, holder, reason);
    }
    // Whom it must be apart from gives way, or else it would be misplaced itself.
    let starts = draft.fit_but_for(group, holder, |obstacle| {
        matches!(
            obstacle,
            Obstacle::FailedHere(_)
                | Obstacle::HeldOut
                | Obstacle::DisabledHere
                | Obstacle::DataUnknown { .. }
                | Obstacle::Apart { .. }
        )
    });
    if starts || draft.in_maintenance(group) {
        return stays(holder, Stay::Starts);
    }
    let detail = draft.fitness(group, holder).reasons().join("; ");
    let reason = Reason::Unfit {
        node: holder,
        detail,
    };
    if draft.needs_no_lease(group) && !draft.reported_down(group, holder) {
        let wait_for = match draft.mirror_in_doubt(group, holder) {
            Some((resource, problem)) => WaitFor::MirrorDoubt {
                node: holder,
                resource,
                problem,
            },
            None => WaitFor::Report { node: holder },
        };
        return Verdict::Waits {
            on: Some(holder),
            wait_for,
        };
    }
    let able = draft
        .group_report(holder, group)
        .is_some_and(|report| report.unfit.is_empty());
    match move_on(draft, group, holder, reason) {
        Verdict::Waits { .. } if able => stays(holder, Stay::Starts),
        verdict => verdict,
    }
}

/// The holder is gone.
fn take_over(draft: &mut Draft<'_>, group: &GroupId, holder: MemberId, reason: Reason) -> Verdict {
    if draft.needs_no_lease(group) && !draft.declared_down(holder) {
        return Verdict::Waits {
            on: Some(holder),
            wait_for: WaitFor::Pinned {
                node: holder,
                reason: pinned_because(draft, group),
            },
        };
    }
    if let Some(wait_for) = draft
        .unconfirmed(group, holder)
        .or_else(|| draft.fence_first(group, holder))
        && bar(draft, group).is_none()
        && candidate(draft, group, Some(holder)).is_some()
    {
        return Verdict::Waits {
            on: Some(holder),
            wait_for,
        };
    }
    move_on(draft, group, holder, reason)
}

fn pinned_because(draft: &Draft<'_>, group: &GroupId) -> Reason {
    match draft.placement(group).pin {
        Some(Pin::Pinned(why)) => Reason::Pinned { why },
        _ => Reason::Relation {
            detail: "its pin is being released".into(),
        },
    }
}

/// What keeps the planner from choosing a new holder by itself, if anything.
pub(super) fn bar(draft: &Draft<'_>, group: &GroupId) -> Option<WaitFor> {
    let config = draft.group(group);
    let placement = draft.placement(group);
    if draft.document.disarmed {
        return Some(WaitFor::Arming);
    }
    if draft.in_maintenance(group) {
        return Some(WaitFor::EndOfMaintenance);
    }
    if placement.disabled {
        return Some(WaitFor::Enabling);
    }
    if config.start == StartMode::Manual {
        return Some(WaitFor::OperatorStart);
    }
    (config.takeover == Takeover::Never).then_some(WaitFor::OperatorTakeover)
}

/// The node the takeover policy allows, if it is fit.
pub(super) fn candidate(
    draft: &Draft<'_>,
    group: &GroupId,
    except: Option<MemberId>,
) -> Option<MemberId> {
    let best = draft.best_node(group, except)?;
    let config = draft.group(group);
    (config.takeover != Takeover::HighestOnly || config.nodes.first() == Some(&best))
        .then_some(best)
}

/// Nothing runs at the holder: to the best other node, by policy.
pub(super) fn move_on(
    draft: &mut Draft<'_>,
    group: &GroupId,
    holder: MemberId,
    reason: Reason,
) -> Verdict {
    let waits = |wait_for| Verdict::Waits {
        on: Some(holder),
        wait_for,
    };
    if let Some(wait_for) = draft.unstopped(group) {
        return waits(wait_for);
    }
    if let Some(wait_for) = bar(draft, group) {
        return waits(wait_for);
    }
    match candidate(draft, group, Some(holder)) {
        Some(to) => give(draft, group, Some(holder), to, reason),
        None => waits(nobody(draft, group, reason)),
    }
}

/// No candidate: because none is fit, or because the policy allows only the first.
pub(super) fn nobody(draft: &Draft<'_>, group: &GroupId, reason: Reason) -> WaitFor {
    let config = draft.group(group);
    match config.nodes.first() {
        Some(&node) if config.takeover == Takeover::HighestOnly => WaitFor::HighestNode { node },
        _ => WaitFor::FitNode { reason },
    }
}

/// Gives it to `to`, unless another group must be there, or run, first.
pub(super) fn give(
    draft: &mut Draft<'_>,
    group: &GroupId,
    from: Option<MemberId>,
    to: MemberId,
    reason: Reason,
) -> Verdict {
    if let Some(wait_for) = draft.held_back(group, to) {
        return Verdict::Waits { on: from, wait_for };
    }
    let given = draft.giving(group, to, reason.clone());
    draft.change(given);
    Verdict::Moves {
        from,
        to: Some(to),
        reason,
    }
}

/// It runs: what was left open by the way it came here is finished.
fn settle(draft: &mut Draft<'_>, group: &GroupId, holder: MemberId) {
    let placement = draft.placement(group).into_owned();
    if placement.switched_from.is_some() {
        draft.change(Change::FinishSwitch {
            group: group.clone(),
        });
    }
    let older = |failure: &Failure| failure.epoch < placement.epoch;
    if placement.failed_on.get(&holder).is_some_and(older) {
        draft.change(Change::ClearFailure {
            group: group.clone(),
            node: holder,
        });
    }
}

/// It runs on its holder. Should it leave, and where to?
fn running(draft: &mut Draft<'_>, group: &GroupId, holder: MemberId, why: Stay) -> Verdict {
    if draft.document.disarmed {
        return stays(holder, Stay::Disarmed);
    }
    if draft.in_maintenance(group) {
        return stays(holder, Stay::Maintenance);
    }
    if let Some(reason) = draft.misplaced(group, holder) {
        return leave(draft, group, holder, reason);
    }
    if let Some(reason) = must_leave(draft, group, holder) {
        return match draft.best_with_companions(group, &[holder]) {
            Some(to) => ask_to_move(draft, group, holder, to, reason),
            None if draft.membership(holder).forced => leave(draft, group, holder, reason),
            None => stays(holder, Stay::NoOtherNode { reason }),
        };
    }
    fail_back(draft, group, holder).unwrap_or_else(|| stays(holder, why))
}

fn must_leave(draft: &Draft<'_>, group: &GroupId, holder: MemberId) -> Option<Reason> {
    let member = draft.membership(holder);
    if member.left {
        return Some(Reason::NodeLeft { node: holder });
    }
    if member.drained {
        return Some(Reason::Drained { node: holder });
    }
    let listed = draft.group(group).nodes.contains(&holder);
    (!listed).then_some(Reason::ConfigurationChanged {
        revision: draft.document.revision,
    })
}

/// It must not be where it is: elsewhere, or stopped until it can run again.
fn leave(draft: &mut Draft<'_>, group: &GroupId, holder: MemberId, reason: Reason) -> Verdict {
    let to = draft.best_with_companions(group, &[holder]);
    match to.or_else(|| draft.best_node(group, Some(holder))) {
        Some(to) => ask_to_move(draft, group, holder, to, reason),
        None => ask_to_stop(draft, group, holder, reason),
    }
}

fn ask_to_stop(
    draft: &mut Draft<'_>,
    group: &GroupId,
    holder: MemberId,
    reason: Reason,
) -> Verdict {
    draft.change(Change::Move {
        group: group.clone(),
        to: None,
        reason: reason.clone(),
        by_operator: false,
    });
    Verdict::Moves {
        from: Some(holder),
        to: None,
        reason,
    }
}

fn fail_back(draft: &mut Draft<'_>, group: &GroupId, holder: MemberId) -> Option<Verdict> {
    let config = draft.group(group);
    let Failback::Return { delay } = config.failback else {
        return None;
    };
    let placement = draft.placement(group);
    let quiet = matches!(
        placement.pin,
        None | Some(Pin::Pinned(PinReason::Wait | PinReason::Fence))
    );
    if bar(draft, group).is_some() || !quiet {
        return None;
    }
    let better = config.nodes.iter().copied();
    let to = better.take_while(|&node| node != holder).find(|&node| {
        draft.fitness(group, node).is_fit()
            && draft.strain(group, node) <= draft.strain(group, holder)
            && draft.comes_after(group).is_none()
    })?;
    if matches!(placement.reason, Reason::Operator { .. }) {
        return Some(stays(holder, Stay::OperatorPlaced { to }));
    }
    let fit_for = draft.view.members[&to].fit_for.get(group).copied();
    if fit_for.unwrap_or_default() < delay {
        return Some(stays(holder, Stay::ReturnsLater { to, delay }));
    }
    drop(placement);
    Some(ask_to_move(
        draft,
        group,
        holder,
        to,
        Reason::Failback { to },
    ))
}

fn ask_to_move(
    draft: &mut Draft<'_>,
    group: &GroupId,
    holder: MemberId,
    to: MemberId,
    reason: Reason,
) -> Verdict {
    draft.change(Change::Move {
        group: group.clone(),
        to: Some(to),
        reason: reason.clone(),
        by_operator: false,
    });
    Verdict::Moves {
        from: Some(holder),
        to: Some(to),
        reason,
    }
}

/// The holder was asked to stop it.
fn go_on_moving(
    draft: &mut Draft<'_>,
    group: &GroupId,
    holder: MemberId,
    moving: &Move,
) -> Verdict {
    let waits = |wait_for| Verdict::Waits {
        on: Some(holder),
        wait_for,
    };
    if let Some(wait_for) = draft.unstopped(group) {
        return waits(wait_for);
    }
    let gone = draft.gone(holder);
    if gone.is_some() && draft.needs_no_lease(group) && !draft.declared_down(holder) {
        return waits(WaitFor::Pinned {
            node: holder,
            reason: pinned_because(draft, group),
        });
    }
    if gone.is_some()
        && let Some(wait_for) = draft.fence_first(group, holder)
    {
        return waits(wait_for);
    }
    if gone.is_none() && !(draft.online(holder) && draft.reported_down(group, holder)) {
        return waits(WaitFor::Stop {
            node: holder,
            to: moving.to,
        });
    }
    let Some(to) = moving.to else {
        let reason = moving.reason.clone();
        let released = draft.releasing(group, reason.clone());
        draft.change(released);
        return Verdict::Moves {
            from: Some(holder),
            to: None,
            reason,
        };
    };
    arrive(draft, group, holder, to, moving.reason.clone())
}

/// Stopped at the holder. To the target; else back; else wherever it can run.
fn arrive(
    draft: &mut Draft<'_>,
    group: &GroupId,
    holder: MemberId,
    to: MemberId,
    reason: Reason,
) -> Verdict {
    if draft.fitness(group, to).is_fit() {
        return give(draft, group, Some(holder), to, reason);
    }
    let detail = draft.fitness(group, to).reasons().join("; ");
    let reason = Reason::Unfit { node: to, detail };
    let back = draft.fitness(group, holder).is_fit().then_some(holder);
    match back.or_else(|| draft.best_node(group, None)) {
        Some(to) => give(draft, group, Some(holder), to, reason),
        None => Verdict::Waits {
            on: Some(holder),
            wait_for: WaitFor::FitNode { reason },
        },
    }
}
