//! Fencing: which node is to be cut off from power, by whom, and which takeovers wait for it.
//!
//! An order stands in the document until the node is off, is back after a restart, or nothing waits for it
//! any more. The node it is given to carries it out (`node::fencing`) and says how it ended.

use super::step::{bar, candidate};
use super::{Change, Draft, Presence, WaitFor};
use crate::config::{Confirm, OnStopFailure};
use crate::document::FenceOrder;
use crate::ids::{GroupId, HostBoot, MemberId};
use crate::reason::Reason;
use crate::report::GroupState;

/// Orders the node fenced, passes the order on, or ends it.
pub(super) fn plan(draft: &mut Draft<'_>, node: MemberId) {
    if !draft.view.document.config.nodes.contains_key(&node) {
        return;
    }
    let order = draft.membership(node).fencing.clone();
    let why = why(draft, node);
    let boot = draft.boot(node);
    let Some(order) = order else {
        if let (Some(reason), Some(boot)) = (why, boot)
            && !draft.declared_down(node)
            && let Some(by) = draft.fencer(node)
        {
            order_fence(draft, node, boot, by, reason);
        }
        return;
    };
    let wanted = why.is_some() || matches!(order.reason, Reason::Operator { .. });
    let restarted = boot.is_some_and(|boot| boot != order.boot);
    if !wanted || restarted || !draft.view.document.config.fencing.has(node) {
        draft.change(Change::EndFence { node });
    } else if !draft.online(order.by)
        && let Some(by) = draft.fencer(node)
    {
        order_fence(draft, node, order.boot, by, order.reason);
    }
}

fn order_fence(
    draft: &mut Draft<'_>,
    node: MemberId,
    boot: HostBoot,
    by: MemberId,
    reason: Reason,
) {
    draft.change(Change::OrderFence {
        node,
        order: FenceOrder {
            boot,
            by,
            reason,
            failed: None,
        },
    });
}

/// What cannot go on before the node is off, if anything.
fn why(draft: &Draft<'_>, node: MemberId) -> Option<Reason> {
    if draft.document.disarmed || draft.membership(node).maintenance {
        return None;
    }
    let groups = draft.view.document.config.groups.keys();
    groups
        .filter(|group| !draft.in_maintenance(group))
        .find_map(|group| stop_failed(draft, group, node).or_else(|| silent(draft, group, node)))
}

fn stop_failed(draft: &Draft<'_>, group: &GroupId, node: MemberId) -> Option<Reason> {
    let GroupState::StopFailed { resource, .. } = &draft.group_report(node, group)?.state else {
        return None;
    };
    (draft.group(group).on_stop_failure == OnStopFailure::Fence).then(|| Reason::StopFailed {
        node,
        group: group.clone(),
        resource: resource.clone(),
    })
}

fn silent(draft: &Draft<'_>, group: &GroupId, node: MemberId) -> Option<Reason> {
    let placement = draft.placement(group);
    if placement.holder != Some(node) || draft.fence_first(group, node).is_none() {
        return None;
    }
    let moving = placement.moving.is_some();
    let wanted = moving
        || bar(draft, group).is_none()
            && draft.unconfirmed(group, node).is_none()
            && candidate(draft, group, Some(node)).is_some();
    draft.gone(node).filter(|_| wanted)
}

impl Draft<'_> {
    /// What a takeover from this silent holder waits for, if its policy is to have it confirmed.
    pub(crate) fn unconfirmed(&self, group: &GroupId, holder: MemberId) -> Option<WaitFor> {
        let Some(Reason::NodeDown { silent, .. }) = self.gone(holder) else {
            return None;
        };
        if self.membership(holder).fencing.is_some() {
            return None;
        }
        let limit = match self.view.document.config.groups.get(group)?.confirm {
            Confirm::Always => None,
            Confirm::Within(limit) if silent < limit => Some(limit),
            Confirm::No | Confirm::Within(_) => return None,
        };
        Some(WaitFor::Confirmation {
            group: group.clone(),
            node: holder,
            fence: self.fence_first(group, holder).is_some(),
            limit,
        })
    }

    /// What a takeover from this silent holder waits for, if its policy is to fence it first.
    pub(crate) fn fence_first(&self, group: &GroupId, holder: MemberId) -> Option<WaitFor> {
        let config = &self.view.document.config;
        let fences =
            config.groups.get(group).is_some_and(|group| group.fence) && config.fencing.has(holder);
        let silent = matches!(self.gone(holder), Some(Reason::NodeDown { .. }));
        (fences && silent && !self.needs_no_lease(group)).then(|| self.wait_for_fence(holder))
    }

    /// What is waited for while something could not be stopped, and may still run.
    pub(crate) fn unstopped(&self, group: &GroupId) -> Option<WaitFor> {
        let (node, resource, detail) = self.stop_failed(group)?;
        Some(match self.membership(node).fencing {
            Some(_) => self.wait_for_fence(node),
            None => WaitFor::StopFailed {
                node,
                resource,
                detail,
            },
        })
    }

    fn wait_for_fence(&self, node: MemberId) -> WaitFor {
        let order = self.membership(node).fencing.clone();
        WaitFor::Fence {
            node,
            failed: order.and_then(|order| order.failed),
        }
    }

    /// The boot of the node that was heard last.
    pub(crate) fn boot(&self, node: MemberId) -> Option<HostBoot> {
        match self.presence(node) {
            Presence::Online { boot }
            | Presence::Silent { boot, .. }
            | Presence::Down { boot, .. } => Some(boot),
            Presence::NeverHeard => None,
        }
    }

    /// The node that can fence `node` now.
    pub(crate) fn fencer(&self, node: MemberId) -> Option<MemberId> {
        let config = &self.view.document.config;
        let mut nodes = config.nodes.keys().copied();
        config
            .fencing
            .has(node)
            .then(|| nodes.find(|&other| other != node && self.online(other)))?
    }
}
