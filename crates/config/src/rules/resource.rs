//! Rules about resources: dependencies without cycles, nothing in two groups, something looks.

use crate::finding::Findings;
use crate::read::group::has_agent;
use crate::section::Places;
use hotpair_core::config::{Cluster, Detector, Group, Resource, ResourceKind};
use hotpair_core::ids::{GroupId, ResourceId};
use std::collections::{BTreeMap, BTreeSet};

/// Cycles reported for one group.
const MAX_CYCLES: usize = 10;

pub(super) fn check(cluster: &Cluster, places: &Places, findings: &Findings) {
    for (id, group) in &cluster.groups {
        cycles(id, group, places, findings);
        watched(id, group, places, findings);
        gated(id, group, places, findings);
        if group.resources.is_empty() {
            let message = format!("group `{id}` has no resources");
            let help = "add an address, program or service, such as [group.NAME.service.NAME]";
            findings.warning(places.of(&format!("group/{id}")), message, help);
        }
    }
    shared(cluster, places, findings);
}

pub(crate) fn kind_name(resource: &Resource) -> &'static str {
    match resource.kind {
        ResourceKind::Address(_) => "address",
        ResourceKind::Program(_) => "program",
        ResourceKind::Service(_) => "service",
        ResourceKind::Mirror(_) => "mirror",
        ResourceKind::Mount(_) => "mount",
        ResourceKind::Ocf(_) => "ocf",
    }
}

/// Place of a key of a resource, whatever its kind.
fn path(group: &GroupId, id: &ResourceId, resource: &Resource, key: &str) -> String {
    format!("group/{group}/{}/{id}/{key}", kind_name(resource))
}

fn cycles(group_id: &GroupId, group: &Group, places: &Places, findings: &Findings) {
    let mut left: BTreeMap<_, BTreeSet<&ResourceId>> = group
        .resources
        .iter()
        .map(|(id, resource)| (id, resource.requires.iter().collect()))
        .collect();
    for _ in 0..MAX_CYCLES {
        drop_free(&mut left);
        let Some(cycle) = a_cycle(&left) else { return };
        let words: Vec<_> = cycle.iter().map(|id| format!("`{id}`")).collect();
        let message = format!("resources require each other: {}", words.join(" requires "));
        let help = "remove one of these from its `requires`";
        let place = cycle.first().and_then(|&first| {
            let resource = group.resources.get(first)?;
            places.of(&path(group_id, first, resource, "requires"))
        });
        findings.error(place, message, help);
        for id in cycle {
            left.remove(id);
        }
    }
}

/// Removes everything that can be started, until only cycles and what hangs on them are left.
fn drop_free<'a>(left: &mut BTreeMap<&'a ResourceId, BTreeSet<&'a ResourceId>>) {
    let mut needed_by: BTreeMap<&ResourceId, Vec<&ResourceId>> = BTreeMap::new();
    let mut missing: BTreeMap<&ResourceId, usize> = BTreeMap::new();
    for (&id, requires) in left.iter() {
        let there = requires.iter().filter(|id| left.contains_key(*id));
        missing.insert(id, there.clone().count());
        for &required in there {
            needed_by.entry(required).or_default().push(id);
        }
    }
    let mut free: Vec<_> = missing
        .iter()
        .filter(|(_, n)| **n == 0)
        .map(|(&id, _)| id)
        .collect();
    while let Some(id) = free.pop() {
        left.remove(id);
        for &next in needed_by.get(id).into_iter().flatten() {
            if let Some(count) = missing.get_mut(next) {
                *count -= 1;
                if *count == 0 {
                    free.push(next);
                }
            }
        }
    }
}

/// One cycle, its first resource named again at the end.
fn a_cycle<'a>(
    left: &BTreeMap<&'a ResourceId, BTreeSet<&'a ResourceId>>,
) -> Option<Vec<&'a ResourceId>> {
    let mut walk: Vec<&ResourceId> = Vec::new();
    let mut seen: BTreeMap<&ResourceId, usize> = BTreeMap::new();
    let mut at = *left.keys().next()?;
    loop {
        if let Some(&start) = seen.get(at) {
            walk.push(at);
            return Some(walk.split_off(start));
        }
        seen.insert(at, walk.len());
        walk.push(at);
        at = left
            .get(at)?
            .iter()
            .copied()
            .find(|id| left.contains_key(id))?;
    }
}

/// A program that nothing looks at is never found to have failed.
fn watched(group_id: &GroupId, group: &Group, places: &Places, findings: &Findings) {
    for (id, resource) in &group.resources {
        if let ResourceKind::Program(program) = &resource.kind
            && program.status.is_none()
            && resource.detectors.iter().all(Detector::is_condition)
        {
            let message = format!("nothing looks whether `{id}` runs");
            let help = "give `status = [\"/path\"]` or a detector, or its failure goes unnoticed";
            findings.warning(
                places.of(&path(group_id, id, resource, "start")),
                message,
                help,
            );
        }
    }
}

/// What agents do is not known: a group of theirs that is taken over without the margin is worth a word.
fn gated(group_id: &GroupId, group: &Group, places: &Places, findings: &Findings) {
    if !group.ungated && has_agent(&group.resources) {
        let message = format!("group `{group_id}` has resource agents and is not `ungated`");
        let help = "an address or a mount that an agent set up stays while a node without a lease hangs, and is taken over without a margin; leave `ungated` out unless its agents only run processes";
        findings.warning(
            places.of(&format!("group/{group_id}/ungated")),
            message,
            help,
        );
    }
}

/// The same program or service in two groups would run twice on a node that holds both.
fn shared(cluster: &Cluster, places: &Places, findings: &Findings) {
    let mut seen: BTreeMap<Vec<String>, (&GroupId, &ResourceId)> = BTreeMap::new();
    for (group_id, group) in &cluster.groups {
        for (id, resource) in &group.resources {
            let (command, key) = match &resource.kind {
                ResourceKind::Program(program) => (program.start.clone(), "start"),
                ResourceKind::Service(service) => (service.command.clone(), "command"),
                ResourceKind::Ocf(ocf) => {
                    let words = ocf.parameters.iter();
                    let words = words.map(|(name, value)| format!("{name}={value}"));
                    (std::iter::once(ocf.name()).chain(words).collect(), "agent")
                }
                ResourceKind::Address(_) | ResourceKind::Mirror(_) | ResourceKind::Mount(_) => {
                    continue;
                }
            };
            if command.is_empty() {
                continue;
            }
            let Some(&(other_group, other)) = seen.get(&command) else {
                seen.insert(command, (group_id, id));
                continue;
            };
            let place = places.of(&path(group_id, id, resource, key));
            let message = format!("`{other}` of group `{other_group}` runs the same command");
            if other == id {
                let message = format!("{message} under the same name: two groups share a resource");
                let help = "a resource belongs to one group; remove it here, or name it and its command apart";
                findings.error(place, message, help);
            } else {
                findings.warning(
                    place,
                    message,
                    "make sure that both may run on one node at once",
                );
            }
        }
    }
}
