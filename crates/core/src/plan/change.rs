//! One change of the document, and how it is made.

use super::mirror;
use crate::config::{Cluster, ResourceKind};
use crate::document::{Document, Failure, FenceOrder, Goal, Move, Pin, PinReason, Placement};
use crate::ids::{GroupId, HostBoot, Incarnation, MemberId, ResourceId};
use crate::mirror::{Copy, Generation};
use crate::reason::Reason;
use crate::request::Scope;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A change of the document, by the planner or an operator's request. [`Change::apply`] keeps the
/// document's invariants: the epoch rises whenever a holder is set, and what was decided is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Gives the group to `to` at the next epoch; ends a move.
    SetHolder {
        group: GroupId,
        to: MemberId,
        reason: Reason,
        /// The holder before it is not known to have stopped it.
        abrupt: bool,
        /// Mirrors that the holder before is not known to have closed in good order.
        unclean: BTreeSet<ResourceId>,
    },
    /// Nobody is holder any more; ends a move.
    Release {
        group: GroupId,
        reason: Reason,
        /// As for `SetHolder`.
        unclean: BTreeSet<ResourceId>,
    },
    /// The holder is asked to stop it, for `to` to become holder afterwards.
    Move {
        group: GroupId,
        to: Option<MemberId>,
        reason: Reason,
        by_operator: bool,
    },
    SetGoal {
        group: GroupId,
        goal: Goal,
        reason: Reason,
    },
    Pin {
        group: GroupId,
        why: PinReason,
    },
    /// The holder is asked to hold a lease again.
    ReleasePin {
        group: GroupId,
    },
    Unpin {
        group: GroupId,
    },
    RecordFailure {
        group: GroupId,
        node: MemberId,
        failure: Failure,
    },
    /// The node may run it again.
    ClearFailure {
        group: GroupId,
        node: MemberId,
    },
    /// The target of a switchover runs it: there is nothing to go back to.
    FinishSwitch {
        group: GroupId,
    },
    HoldOut {
        node: MemberId,
        times: u32,
    },
    /// Ends the flapping hold; `forgiven` failures within the window do not count any more.
    EndHold {
        node: MemberId,
        forgiven: u32,
    },
    /// It left, or was declared down, and is online again.
    Rejoined {
        node: MemberId,
    },
    StartVoters {
        next: BTreeSet<MemberId>,
    },
    FinishVoters,
    /// Automatic takeover of the group (on one node) on or off.
    SetDisabled {
        group: GroupId,
        node: Option<MemberId>,
        disabled: bool,
    },
    SetMaintenance {
        scope: Scope,
        on: bool,
    },
    SetDisarmed {
        disarmed: bool,
    },
    SetDrained {
        node: MemberId,
        drained: bool,
    },
    Leave {
        node: MemberId,
        run: Option<(HostBoot, Incarnation)>,
    },
    DeclareDown {
        node: MemberId,
        boot: HostBoot,
        /// The node that fenced it; `None`: by the operator's word.
        by: Option<MemberId>,
    },
    OrderFence {
        node: MemberId,
        order: FenceOrder,
    },
    /// It could not be fenced; the order stands.
    FenceFailed {
        node: MemberId,
        detail: String,
    },
    /// There is no reason to fence it any more.
    EndFence {
        node: MemberId,
    },
    /// Takes the node out of the configuration.
    Remove {
        node: MemberId,
    },
    Configure {
        config: Box<Cluster>,
    },
    /// What is agreed about a copy of a mirror.
    SetCopy {
        group: GroupId,
        resource: ResourceId,
        node: MemberId,
        copy: Copy,
        why: Reason,
    },
    /// The holder goes on without `lacking`, copies that miss what it is about to acknowledge.
    GoAlone {
        group: GroupId,
        resource: ResourceId,
        lacking: BTreeSet<MemberId>,
        /// It has gone on alone already, under this generation.
        solo: Option<Generation>,
    },
    /// The copy of `node` is the one to keep; others that have what it lacks are given up.
    Keep {
        group: GroupId,
        resource: ResourceId,
        node: MemberId,
        /// Its disk, as reported.
        generation: Generation,
        solo: Option<Generation>,
    },
    /// The operator stops one resource of the group, or lets it run again.
    StopResource {
        group: GroupId,
        resource: ResourceId,
        stopped: bool,
    },
    RestartResource {
        group: GroupId,
        resource: ResourceId,
    },
    /// What could not be stopped is tried again, wherever that is.
    RetryStop {
        group: GroupId,
    },
    /// Groups that nobody else can run are stopped.
    ForceLeave {
        node: MemberId,
        run: Option<(HostBoot, Incarnation)>,
    },
}

impl Change {
    /// Makes the change. A change of a group or member that the document does not have does nothing.
    pub fn apply(&self, document: &mut Document) {
        match self {
            Self::SetHolder {
                group,
                to,
                reason,
                abrupt,
                unclean,
            } => {
                set_holder(document, group, Some(*to), reason);
                if let Some(placement) = document.groups.get_mut(group) {
                    placement.abrupt = *abrupt;
                }
                mirror::pass_on(document, group, *to, unclean);
            }
            Self::Release {
                group,
                reason,
                unclean,
            } => {
                set_holder(document, group, None, reason);
                mirror::release(document, group, unclean);
            }
            Self::SetCopy { .. } | Self::GoAlone { .. } | Self::Keep { .. } => {
                mirror::apply(self, document);
            }
            Self::SetGoal {
                group,
                goal,
                reason,
            } => {
                let Some(placement) = document.groups.get_mut(group) else {
                    return;
                };
                placement.goal = *goal;
                placement.reason = reason.clone();
                let holder = placement.holder;
                document.record(Some(group.clone()), holder, holder, reason.clone());
            }
            Self::Move { .. }
            | Self::RecordFailure { .. }
            | Self::ClearFailure { .. }
            | Self::FinishSwitch { .. }
            | Self::SetDisabled { .. }
            | Self::StopResource { .. }
            | Self::RestartResource { .. }
            | Self::RetryStop { .. } => self.apply_to_placement(document),
            Self::Pin { group, why } => {
                let reason = Reason::Pinned { why: *why };
                set_pin(document, group, Some(Pin::Pinned(*why)), Some(reason));
            }
            Self::ReleasePin { group } => set_pin(document, group, Some(Pin::Releasing), None),
            Self::Unpin { group } => set_pin(document, group, None, Some(Reason::Unpinned)),
            Self::SetMaintenance { scope, on } => set_maintenance(document, scope, *on),
            Self::SetDisarmed { disarmed } => document.disarmed = *disarmed,
            Self::StartVoters { next } => {
                document.voters.next = Some(next.clone());
                document.record(None, None, None, Reason::VotersChanged);
            }
            Self::FinishVoters => {
                if let Some(next) = document.voters.next.take() {
                    document.voters.now = next;
                }
            }
            Self::Remove { node } => remove(document, *node),
            Self::Configure { config } => {
                document.config = (**config).clone();
                configured(document);
            }
            Self::HoldOut { .. }
            | Self::EndHold { .. }
            | Self::Rejoined { .. }
            | Self::SetDrained { .. }
            | Self::Leave { .. }
            | Self::ForceLeave { .. }
            | Self::OrderFence { .. }
            | Self::FenceFailed { .. }
            | Self::EndFence { .. }
            | Self::DeclareDown { .. } => self.apply_to_member(document),
        }
    }

    fn apply_to_placement(&self, document: &mut Document) {
        let (Self::Move { group, .. }
        | Self::RecordFailure { group, .. }
        | Self::ClearFailure { group, .. }
        | Self::FinishSwitch { group }
        | Self::SetDisabled { group, .. }
        | Self::StopResource { group, .. }
        | Self::RestartResource { group, .. }
        | Self::RetryStop { group }) = self
        else {
            return;
        };
        let Some(placement) = document.groups.get_mut(group) else {
            return;
        };
        match self {
            Self::Move {
                to,
                reason,
                by_operator,
                ..
            } => {
                placement.moving = Some(Move {
                    to: *to,
                    reason: reason.clone(),
                    by_operator: *by_operator,
                });
                placement.reason = reason.clone();
            }
            Self::RecordFailure { node, failure, .. } => {
                placement.failed_on.insert(*node, failure.clone());
            }
            Self::ClearFailure { node, .. } => {
                placement.failed_on.remove(node);
            }
            Self::FinishSwitch { .. } => placement.switched_from = None,
            Self::RetryStop { .. } => placement.stop_retries += 1,
            Self::SetDisabled { node, disabled, .. } => match node {
                None => placement.disabled = *disabled,
                Some(node) => set(&mut placement.disabled_on, *node, *disabled),
            },
            Self::StopResource {
                resource, stopped, ..
            } => {
                set(&mut placement.stopped_resources, resource.clone(), *stopped);
                let verb = if *stopped { "stop" } else { "start" };
                record_of_resource(document, group, resource, verb);
            }
            Self::RestartResource { resource, .. } => {
                *placement.restarts.entry(resource.clone()).or_default() += 1;
                record_of_resource(document, group, resource, "restart");
            }
            _ => {}
        }
    }

    fn apply_to_member(&self, document: &mut Document) {
        let (Self::HoldOut { node, .. }
        | Self::EndHold { node, .. }
        | Self::Rejoined { node }
        | Self::SetDrained { node, .. }
        | Self::Leave { node, .. }
        | Self::ForceLeave { node, .. }
        | Self::OrderFence { node, .. }
        | Self::FenceFailed { node, .. }
        | Self::EndFence { node }
        | Self::DeclareDown { node, .. }) = self
        else {
            return;
        };
        let node = *node;
        let window = document.config.flapping.window;
        let Some(member) = document.members.get_mut(&node) else {
            return;
        };
        let reason = match self {
            Self::HoldOut { times, .. } => {
                member.held_out = true;
                Reason::HeldOut {
                    node,
                    times: *times,
                    window,
                }
            }
            Self::EndHold { forgiven, .. } => {
                member.held_out = false;
                member.forgiven = *forgiven;
                return;
            }
            Self::Rejoined { .. } => {
                member.left = false;
                member.left_run = None;
                member.forced = false;
                member.down_boot = None;
                member.down_by = None;
                Reason::Rejoined { node }
            }
            Self::SetDrained { drained, .. } => {
                member.drained = *drained;
                return;
            }
            Self::Leave { run, .. } | Self::ForceLeave { run, .. } => {
                member.left = true;
                member.left_run = *run;
                member.forced = matches!(self, Self::ForceLeave { .. });
                Reason::NodeLeft { node }
            }
            Self::DeclareDown { boot, by, .. } => {
                member.down_boot = Some(*boot);
                member.down_by = *by;
                member.fencing = None;
                match *by {
                    Some(by) => Reason::NodeFenced { node, by },
                    None => Reason::NodeDeclaredDown { node },
                }
            }
            Self::OrderFence { order, .. } => {
                let reason = Reason::Fencing {
                    node,
                    by: order.by,
                    why: Box::new(order.reason.clone()),
                };
                member.fencing = Some(order.clone());
                reason
            }
            Self::FenceFailed { detail, .. } => {
                let Some(order) = &mut member.fencing else {
                    return;
                };
                // Tried again and again: said once.
                if order.failed.as_ref() == Some(detail) {
                    return;
                }
                order.failed = Some(detail.clone());
                let detail = detail.clone();
                Reason::FenceFailed { node, detail }
            }
            Self::EndFence { .. } => {
                member.fencing = None;
                return;
            }
            _ => return,
        };
        document.record(None, None, None, reason);
    }

    /// What the change does, with the names of `config`; for the log and for people.
    #[must_use]
    pub fn text(&self, config: &Cluster) -> String {
        let name = |node: &MemberId| config.name_of(*node);
        match self {
            Self::SetHolder {
                group, to, reason, ..
            } => {
                format!("{group} is given to {}: {}", name(to), reason.text(config))
            }
            Self::Release { group, reason, .. } => {
                format!("{group} is given to nobody: {}", reason.text(config))
            }
            Self::Move {
                group,
                to: Some(to),
                reason,
                ..
            } => format!(
                "{group} is to stop and move to {}: {}",
                name(to),
                reason.text(config)
            ),
            Self::Move {
                group,
                to: None,
                reason,
                ..
            } => format!("{group} is to stop: {}", reason.text(config)),
            Self::SetGoal {
                group,
                goal,
                reason,
            } => {
                let goal = match goal {
                    Goal::Run => "shall run",
                    Goal::Stopped => "shall be stopped",
                    Goal::Failed => "has failed and waits for the operator",
                };
                format!("{group} {goal}: {}", reason.text(config))
            }
            Self::Pin { group, why } => {
                format!("{group} is {}", Reason::Pinned { why: *why }.text(config))
            }
            Self::ReleasePin { group } => {
                format!("{group} is to be unpinned once its node holds a lease")
            }
            Self::Unpin { group } => format!("{group} is unpinned"),
            Self::RecordFailure {
                group,
                node,
                failure,
            } => {
                let what = failure.resource.as_ref();
                let what = what.map_or(String::new(), |resource| format!("{resource} of "));
                format!("{what}{group} failed on {}: {}", name(node), failure.detail)
            }
            Self::ClearFailure { group, node } => {
                format!("the failure of {group} on {} is forgotten", name(node))
            }
            Self::FinishSwitch { group } => format!("the switchover of {group} is finished"),
            _ => self.text_of_members(config),
        }
    }

    fn text_of_members(&self, config: &Cluster) -> String {
        let name = |node: &MemberId| config.name_of(*node);
        match self {
            Self::HoldOut { node, times } => format!(
                "{} is held out of automatic takeover: it failed {times} times",
                name(node)
            ),
            Self::EndHold { node, .. } => format!("{} is held out no more", name(node)),
            Self::Rejoined { node } => format!("{} is back", name(node)),
            Self::StartVoters { next } => {
                let names: Vec<String> = next.iter().map(name).collect();
                format!("the votes pass to {}", names.join(", "))
            }
            Self::FinishVoters => "the change of votes is finished".into(),
            Self::SetDisabled {
                group,
                node,
                disabled,
            } => {
                let on = node.map_or(String::new(), |node| format!(" on {}", name(&node)));
                let word = if *disabled { "off" } else { "on" };
                format!("automatic takeover of {group}{on} is {word}")
            }
            Self::SetMaintenance { scope, on } => {
                let word = if *on { "begins" } else { "ends" };
                format!("maintenance of {} {word}", scope_text(scope, config))
            }
            Self::SetDisarmed { disarmed: true } => "the cluster is disarmed".into(),
            Self::SetDisarmed { disarmed: false } => "the cluster is armed".into(),
            Self::SetDrained { node, drained } => {
                let word = if *drained { "is" } else { "is no longer" };
                format!("{} {word} drained", name(node))
            }
            Self::Leave { node, .. } => format!("{} leaves", name(node)),
            Self::ForceLeave { node, .. } => {
                format!("{} leaves, and stops what nobody else can run", name(node))
            }
            Self::DeclareDown { node, by: None, .. } => {
                format!("{} is declared down", name(node))
            }
            Self::DeclareDown {
                node, by: Some(by), ..
            } => format!("{} was fenced by {}", name(node), name(by)),
            Self::OrderFence { node, order } => format!(
                "{} is to be fenced by {}: {}",
                name(node),
                name(&order.by),
                order.reason.text(config)
            ),
            Self::FenceFailed { node, detail } => {
                format!("{} could not be fenced: {detail}", name(node))
            }
            Self::EndFence { node } => {
                format!("{} need not be fenced any more", name(node))
            }
            Self::Remove { node } => format!("{} is removed", name(node)),
            Self::SetCopy {
                group,
                resource,
                node,
                copy,
                ..
            } => format!(
                "the copy of {group}/{resource} on {} is {}",
                name(node),
                copy.name()
            ),
            Self::GoAlone {
                group,
                resource,
                lacking,
                ..
            } => {
                let names: Vec<String> = lacking.iter().map(name).collect();
                format!("{group}/{resource} goes on without {}", names.join(", "))
            }
            Self::Keep {
                group,
                resource,
                node,
                ..
            } => format!(
                "the copy of {group}/{resource} on {} is the one to keep",
                name(node)
            ),
            Self::StopResource {
                group,
                resource,
                stopped,
            } => {
                let shall = if *stopped {
                    "shall be stopped"
                } else {
                    "shall run"
                };
                format!("{resource} of {group} {shall}")
            }
            Self::RetryStop { group } => {
                format!("what of {group} could not be stopped is tried again")
            }
            Self::RestartResource { group, resource } => {
                format!("{resource} of {group} is to be started again")
            }
            _ => "the configuration changes".into(),
        }
    }
}

/// A scope of maintenance in words.
pub(crate) fn scope_text(scope: &Scope, config: &Cluster) -> String {
    match scope {
        Scope::Group(group) => group.to_string(),
        Scope::Resource(group, resource) => format!("{group}/{resource}"),
        Scope::GroupOnNode(group, node) => format!("{group} on {}", config.name_of(*node)),
        Scope::Node(node) => config.name_of(*node),
    }
}

fn set<T: Ord>(set: &mut BTreeSet<T>, value: T, present: bool) {
    if present {
        set.insert(value);
    } else {
        set.remove(&value);
    }
}

pub(super) fn set_holder(
    document: &mut Document,
    group: &GroupId,
    to: Option<MemberId>,
    reason: &Reason,
) {
    let Some(placement) = document.groups.get_mut(group) else {
        return;
    };
    let from = placement.holder;
    let by_operator = placement.moving.as_ref().is_some_and(|m| m.by_operator);
    placement.switched_from = from.filter(|_| by_operator && to.is_some() && from != to);
    placement.moving = None;
    placement.holder = to;
    if to.is_some() {
        placement.epoch = placement.epoch.next();
    }
    if placement.pin == Some(Pin::Releasing) {
        placement.pin = None;
    }
    placement.reason = reason.clone();
    document.record(Some(group.clone()), from, to, reason.clone());
}

/// The group stays where it is.
fn record_of_resource(document: &mut Document, group: &GroupId, resource: &ResourceId, verb: &str) {
    let holder = document
        .groups
        .get(group)
        .and_then(|placement| placement.holder);
    let reason = Reason::Operator {
        request: format!("group {verb} --resource {resource}"),
    };
    document.record(Some(group.clone()), holder, holder, reason);
}

fn set_pin(document: &mut Document, group: &GroupId, pin: Option<Pin>, reason: Option<Reason>) {
    let Some(placement) = document.groups.get_mut(group) else {
        return;
    };
    placement.pin = pin;
    let holder = placement.holder;
    if let Some(reason) = reason {
        document.record(Some(group.clone()), holder, holder, reason);
    }
}

fn set_maintenance(document: &mut Document, scope: &Scope, on: bool) {
    if let Scope::Node(node) = scope {
        if let Some(member) = document.members.get_mut(node) {
            member.maintenance = on;
        }
        return;
    }
    let (Scope::Group(group) | Scope::Resource(group, _) | Scope::GroupOnNode(group, _)) = scope
    else {
        return;
    };
    let Some(placement) = document.groups.get_mut(group) else {
        return;
    };
    match scope {
        Scope::Resource(_, resource) => {
            set(&mut placement.maintenance_resources, resource.clone(), on);
        }
        Scope::GroupOnNode(_, node) => set(&mut placement.maintenance_on, *node, on),
        _ => placement.maintenance = on,
    }
}

fn remove(document: &mut Document, node: MemberId) {
    let config = &mut document.config;
    config.nodes.remove(&node);
    for link in &mut config.links {
        link.addresses.remove(&node);
    }
    for group in config.groups.values_mut() {
        group.nodes.retain(|&n| n != node);
        for resource in group.resources.values_mut() {
            match &mut resource.kind {
                ResourceKind::Address(address) => {
                    address.nics_on.remove(&node);
                }
                ResourceKind::Mirror(mirror) => {
                    mirror.copies.remove(&node);
                }
                ResourceKind::Program(_)
                | ResourceKind::Service(_)
                | ResourceKind::Mount(_)
                | ResourceKind::Ocf(_) => {}
            }
        }
    }
    configured(document);
}

/// After a change of the configuration: a new revision, and nothing about what it no longer names.
fn configured(document: &mut Document) {
    document.revision += 1;
    document.align();
    let Document { config, groups, .. } = document;
    for (id, placement) in groups {
        let Some(group) = config.groups.get(id) else {
            continue;
        };
        let Placement {
            failed_on,
            disabled_on,
            maintenance_on,
            maintenance_resources,
            stopped_resources,
            restarts,
            ..
        } = placement;
        failed_on.retain(|node, _| group.nodes.contains(node));
        disabled_on.retain(|node| group.nodes.contains(node));
        maintenance_on.retain(|node| config.nodes.contains_key(node));
        maintenance_resources.retain(|resource| group.resources.contains_key(resource));
        stopped_resources.retain(|resource| group.resources.contains_key(resource));
        restarts.retain(|resource, _| group.resources.contains_key(resource));
    }
    let revision = document.revision;
    document.record(None, None, None, Reason::ConfigurationChanged { revision });
}
