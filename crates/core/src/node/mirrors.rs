//! The mirrors of this node: what their processes are told, and what they have said.

use super::Action;
use crate::config::Mirror;
use crate::document::{Document, Pin, PinReason, Placement};
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::mirror::{MirrorCommitted, MirrorOrders, MirrorReport};
use crate::report::GroupReport;
use std::collections::BTreeMap;

type Key = (GroupId, ResourceId);

/// Every mirror of the configuration that has a copy on this node.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Mirrors {
    told: BTreeMap<Key, MirrorOrders>,
    said: BTreeMap<Key, MirrorReport>,
}

impl Mirrors {
    pub fn reported(&mut self, group: GroupId, resource: ResourceId, report: MirrorReport) {
        self.said.insert((group, resource), report);
    }

    /// A process that has just connected knows nothing, and what an earlier one said is over.
    pub fn forget(&mut self, group: &GroupId, resource: &ResourceId) {
        let key = (group.clone(), resource.clone());
        self.told.remove(&key);
        self.said.remove(&key);
    }

    /// Tells each process what has changed for it.
    pub fn tell(
        &mut self,
        me: MemberId,
        kept: &Document,
        acting: Option<&Document>,
        given_up: impl Fn(&GroupId) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let mut wanted = BTreeMap::new();
        for (group, config) in &kept.config.groups {
            let mirrors = config.mirrors();
            for (resource, mirror) in mirrors.filter(|(_, mirror)| mirror.copies.contains_key(&me))
            {
                let mut orders = orders(kept, acting, group, resource, mirror);
                orders.leaving |= given_up(group);
                wanted.insert((group.clone(), resource.clone()), orders);
            }
        }
        self.said.retain(|key, _| wanted.contains_key(key));
        for (key, orders) in &wanted {
            if self.told.get(key) != Some(orders) {
                actions.push(Action::Mirror {
                    group: key.0.clone(),
                    resource: key.1.clone(),
                    orders: Box::new(orders.clone()),
                });
            }
        }
        self.told = wanted;
    }

    /// Adds what they have said to the report of their groups.
    pub fn report(&self, groups: &mut BTreeMap<GroupId, GroupReport>) {
        for ((group, resource), said) in &self.said {
            if let Some(report) = groups.get_mut(group) {
                report.mirrors.insert(resource.clone(), said.clone());
            }
        }
    }
}

fn orders(
    kept: &Document,
    acting: Option<&Document>,
    group: &GroupId,
    resource: &ResourceId,
    mirror: &Mirror,
) -> MirrorOrders {
    let placement = kept.groups.get(group);
    let pinned = placement.is_some_and(Placement::pinned);
    let committed = acting.and_then(|document| committed(document, group, resource, pinned));
    MirrorOrders {
        version: kept.version,
        holder: placement.and_then(|placement| placement.holder),
        epoch: placement
            .map(|placement| placement.epoch)
            .unwrap_or_default(),
        committed,
        mode: mirror.mode,
        size: mirror.size,
        peer_timeout: kept.config.timing.down(),
        leaving: placement.is_some_and(|placement| {
            (placement.moving.as_ref()).is_some_and(|moving| moving.to.is_some())
        }),
    }
}

fn committed(
    document: &Document,
    group: &GroupId,
    resource: &ResourceId,
    pinned: bool,
) -> Option<MirrorCommitted> {
    let placement: &Placement = document.groups.get(group)?;
    let data = placement.mirrors.get(resource)?.clone();
    // Whoever fences this node takes over without its agreement: it acknowledges nothing that the other copy lacks
    // until it has fenced the other one itself.
    let taken_by_nobody =
        placement.pinned() && placement.pin != Some(Pin::Pinned(PinReason::Fence));
    Some(MirrorCommitted {
        version: document.version,
        data,
        holder: placement.holder,
        epoch: placement.epoch,
        solo_after: (pinned && taken_by_nobody).then_some(document.config.timing.down()),
    })
}
