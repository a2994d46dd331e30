//! The dependencies of a group's resources: what may start, what may stop, who goes down with whom.

use super::part::{Part, Phase};
use crate::ids::ResourceId;
use std::collections::{BTreeMap, BTreeSet};

pub(super) type Parts = BTreeMap<ResourceId, Part>;

/// Does everything `part` requires run, and go on running? What is about to be stopped for a restart
/// does not. What is in maintenance is taken to run.
pub(super) fn may_start(parts: &Parts, part: &Part) -> bool {
    part.requires
        .iter()
        .filter_map(|id| parts.get(id))
        .all(|required| required.maintained || required.phase == Phase::Running && !required.cycle)
}

/// Has everything that requires `id` stopped? What is in maintenance is left alone and not waited
/// for.
pub(super) fn may_stop(parts: &Parts, id: &ResourceId) -> bool {
    parts
        .values()
        .filter(|part| part.requires.contains(id))
        .all(|dependent| dependent.maintained || dependent.is_stopped())
}

/// Everything that requires `id`, directly or through others, without `id` itself.
pub(super) fn dependents(parts: &Parts, id: &ResourceId) -> BTreeSet<ResourceId> {
    closure(id, |found| {
        parts
            .iter()
            .filter(|(_, part)| part.requires.contains(found))
            .map(|(id, _)| id.clone())
            .collect()
    })
}

/// Everything `id` requires, directly or through others, without `id` itself.
pub(super) fn requirements(parts: &Parts, id: &ResourceId) -> BTreeSet<ResourceId> {
    closure(id, |found| {
        parts
            .get(found)
            .map(|part| part.requires.iter().cloned().collect())
            .unwrap_or_default()
    })
}

fn closure(
    from: &ResourceId,
    next: impl Fn(&ResourceId) -> Vec<ResourceId>,
) -> BTreeSet<ResourceId> {
    let mut found = BTreeSet::new();
    let mut open = next(from);
    while let Some(id) = open.pop() {
        if id != *from && found.insert(id.clone()) {
            open.extend(next(&id));
        }
    }
    found
}
