//! The order in which the resources of a group are started and stopped, for previews.

use crate::config::Group;
use crate::ids::ResourceId;
use std::collections::BTreeSet;

/// Resources in an order in which each stands after all it requires.
#[must_use]
pub fn start_order(group: &Group) -> Vec<ResourceId> {
    let mut order = Vec::new();
    let mut done = BTreeSet::new();
    for _ in 0..group.resources.len() {
        for (id, resource) in &group.resources {
            if !done.contains(id) && resource.requires.iter().all(|r| done.contains(r)) {
                done.insert(id.clone());
                order.push(id.clone());
            }
        }
    }
    order
}

/// The other way round.
#[must_use]
pub fn stop_order(group: &Group) -> Vec<ResourceId> {
    let mut order = start_order(group);
    order.reverse();
    order
}

/// `site, ip`; `nothing` for a group without resources.
pub(super) fn list(order: &[ResourceId]) -> String {
    if order.is_empty() {
        return "nothing".into();
    }
    let names: Vec<String> = order.iter().map(ResourceId::to_string).collect();
    names.join(", ")
}
