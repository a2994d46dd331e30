//! Rules about relations between groups: they name others, and can all be kept at once.

use crate::finding::Findings;
use crate::read::group::relation_key;
use crate::section::Places;
use crate::words::{nearest, shown};
use hotpair_core::config::{Cluster, Relation, RelationKind, Strength};
use hotpair_core::ids::{GroupId, MemberId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Cycles reported.
const MAX_CYCLES: usize = 10;

pub(super) fn check(cluster: &Cluster, places: &Places, findings: &Findings) {
    for (id, group) in &cluster.groups {
        for relation in &group.relations {
            named(cluster, id, relation, places, findings);
        }
        once(id, &group.relations, places, findings);
        one_leader(id, &group.relations, places, findings);
    }
    if cycles(cluster, places, findings) {
        return;
    }
    apart(cluster, places, findings);
    common_node(cluster, places, findings);
}

fn place(places: &Places, group: &GroupId, relation: &Relation) -> Option<Range<usize>> {
    places.of(&format!("group/{group}/{}", relation_key(relation)))
}

fn hard(relations: &[Relation], kind: RelationKind) -> impl Iterator<Item = &Relation> {
    let such =
        move |relation: &&Relation| relation.kind == kind && relation.strength == Strength::Hard;
    relations.iter().filter(such)
}

fn named(
    cluster: &Cluster,
    id: &GroupId,
    relation: &Relation,
    places: &Places,
    findings: &Findings,
) {
    let key = relation_key(relation);
    let other = &relation.group;
    if other == id {
        let message = format!("`{key}` of group `{id}` names the group itself");
        findings.error(place(places, id, relation), message, "name another group");
    } else if !cluster.groups.contains_key(other) {
        let message = format!(
            "`{key}` of group `{id}`: there is no group `{}`",
            shown(&other.0)
        );
        let names = cluster.groups.keys().filter(|name| *name != id);
        let help = match nearest(&other.0, names.map(|name| name.0.as_str())) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "name a group of this configuration".to_owned(),
        };
        findings.error(place(places, id, relation), message, &help);
    }
}

/// Of where it runs as seen from one other group, and of when, one thing is said.
fn once(id: &GroupId, relations: &[Relation], places: &Places, findings: &Findings) {
    let mut seen: BTreeMap<(bool, &GroupId), &Relation> = BTreeMap::new();
    for relation in relations {
        let order = relation.kind == RelationKind::After;
        let Some(first) = seen.insert((order, &relation.group), relation) else {
            continue;
        };
        let (one, two) = (relation_key(first), relation_key(relation));
        let other = &relation.group;
        let message = if one == two {
            format!("`{one}` of group `{id}` names `{other}` twice")
        } else {
            format!("group `{id}` names `{other}` both in `{one}` and in `{two}`")
        };
        findings.error(place(places, id, relation), message, "leave one of them");
    }
}

fn one_leader(id: &GroupId, relations: &[Relation], places: &Places, findings: &Findings) {
    if let Some(second) = hard(relations, RelationKind::With).nth(1) {
        let message = format!("group `{id}` must run with more than one group");
        let help = "name one in `with`, and let that one follow the others, or use prefer_with";
        findings.error(place(places, id, second), message, help);
    }
}

/// Whom each group waits for. True if somebody waits for itself.
fn cycles(cluster: &Cluster, places: &Places, findings: &Findings) -> bool {
    let waits = |relation: &&Relation| match relation.kind {
        RelationKind::With => relation.strength == Strength::Hard,
        RelationKind::Apart => false,
        RelationKind::After => true,
    };
    let mut left: BTreeMap<&GroupId, Vec<&Relation>> = cluster
        .groups
        .iter()
        .map(|(id, group)| (id, group.relations.iter().filter(waits).collect()))
        .collect();
    let mut found = false;
    for _ in 0..MAX_CYCLES {
        // What waits for nobody goes, until only cycles and what hangs on them are left.
        loop {
            let free = left.iter().find(|(id, relations)| {
                let mut others = relations.iter().map(|relation| &relation.group);
                !others.any(|other| other != **id && left.contains_key(other))
            });
            let Some(free) = free.map(|(&id, _)| id) else {
                break;
            };
            left.remove(free);
        }
        let Some(cycle) = a_cycle(&left) else { break };
        found = true;
        let mut words = String::new();
        for (id, relation) in &cycle {
            words += &format!("`{id}` {} ", word(relation));
        }
        let (first, relation) = cycle[0];
        let message = format!("groups wait for each other: {words}`{first}`");
        let help = "remove one of these relations";
        findings.error(place(places, first, relation), message, help);
        for (id, _) in cycle {
            left.remove(id);
        }
    }
    found
}

fn word(relation: &Relation) -> &'static str {
    match relation.kind {
        RelationKind::With => "with",
        RelationKind::Apart => "apart from",
        RelationKind::After => "after",
    }
}

/// Every group that is left has a relation to another one that is left.
fn a_cycle<'a>(
    left: &BTreeMap<&'a GroupId, Vec<&'a Relation>>,
) -> Option<Vec<(&'a GroupId, &'a Relation)>> {
    let mut walk: Vec<(&GroupId, &Relation)> = Vec::new();
    let mut at = *left.keys().next()?;
    loop {
        if let Some(start) = walk.iter().position(|(id, _)| *id == at) {
            return Some(walk.split_off(start));
        }
        let on = left.get(at)?;
        let next = on
            .iter()
            .find(|relation| relation.group != *at && left.contains_key(&relation.group))?;
        walk.push((at, next));
        at = left.get_key_value(&next.group)?.0;
    }
}

/// The group that decides where this one runs: itself, if it must run with nobody.
fn host<'a>(cluster: &'a Cluster, id: &'a GroupId) -> &'a GroupId {
    let mut at = id;
    for _ in 0..cluster.groups.len() {
        let relations = cluster.groups.get(at).map(|group| &group.relations);
        let leader = relations.and_then(|r| hard(r, RelationKind::With).next());
        match leader {
            Some(relation) if cluster.groups.contains_key(&relation.group) => at = &relation.group,
            _ => break,
        }
    }
    at
}

fn apart(cluster: &Cluster, places: &Places, findings: &Findings) {
    for (id, group) in &cluster.groups {
        for relation in hard(&group.relations, RelationKind::Apart) {
            let Some(other) = cluster.groups.get(&relation.group) else {
                continue;
            };
            let name = &relation.group;
            if name != id && host(cluster, id) == host(cluster, name) {
                let message =
                    format!("groups `{id}` and `{name}` must run apart, and together by `with`");
                let help = "remove one of the relations, or make it a preference";
                findings.error(place(places, id, relation), message, help);
            } else if name != id && group.nodes.len() == 1 && group.nodes == other.nodes {
                let message = format!(
                    "groups `{id}` and `{name}` must run apart, and both have one and the same node"
                );
                let help = "only one of them can run; give one of them another node";
                findings.warning(place(places, id, relation), message, help);
            }
        }
    }
}

/// Groups that must run together need a node that all of them list.
fn common_node(cluster: &Cluster, places: &Places, findings: &Findings) {
    let mut parties: BTreeMap<&GroupId, (Vec<&GroupId>, BTreeSet<MemberId>)> = BTreeMap::new();
    for (id, group) in &cluster.groups {
        let nodes: BTreeSet<MemberId> = group.nodes.iter().copied().collect();
        let all = (Vec::new(), nodes.clone());
        let (party, common) = parties.entry(host(cluster, id)).or_insert(all);
        party.push(id);
        common.retain(|node| nodes.contains(node));
    }
    for (host, (party, common)) in parties {
        let listed = party.iter().all(|id| !cluster.groups[*id].nodes.is_empty());
        if party.len() < 2 || !common.is_empty() || !listed {
            continue;
        }
        let names: Vec<String> = party.iter().map(|id| format!("`{id}`")).collect();
        let message = format!("no node is in the lists of all of {}", names.join(", "));
        let help = format!("they must run where `{host}` runs; give them a node in common");
        let place = party.iter().find_map(|id| {
            let relation = hard(&cluster.groups[*id].relations, RelationKind::With).next()?;
            place(places, id, relation)
        });
        findings.error(place, message, &help);
    }
}
