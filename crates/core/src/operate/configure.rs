//! A new configuration: what it touches, and what it may not do.

use super::{Accepted, Desk, order};
use crate::config::{Cluster, Group};
use crate::document::Document;
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::plan::Change;
use std::collections::BTreeSet;

impl Desk<'_> {
    pub(super) fn configure(&self, new: &Cluster, made_from: u64) -> Result<Accepted, String> {
        let revision = self.document.revision;
        if made_from != revision {
            return Err(format!(
                "the configuration was made from revision {made_from}, but the present one is \
                 {revision}; look at it with `hotpair config show` and make the change again"
            ));
        }
        let old = &self.document.config;
        if new == old {
            return Ok(Accepted::already(format!(
                "nothing changes: this is the configuration of revision {revision}"
            )));
        }
        let problems = self.problems(new);
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let mut config = Box::new(new.clone());
        number_disk(self.document, &mut config)?;
        Ok(Accepted::new(
            vec![Change::Configure { config }],
            format!(
                "revision {}: {}",
                revision + 1,
                self.effects(new).join("; ")
            ),
        ))
    }

    fn problems(&self, new: &Cluster) -> Vec<String> {
        let old = &self.document.config;
        let mut problems = Vec::new();
        if new.id != old.id {
            problems.push(format!(
                "it is the configuration of another cluster ({} instead of {})",
                new.id, old.id
            ));
        }
        for (&node, config) in &old.nodes {
            if new.nodes.contains_key(&node) {
                continue;
            }
            if self.draft.online(node) {
                problems.push(format!(
                    "{0} is removed, but online; let it leave first with `hotpair node leave {0}`",
                    config.name
                ));
            }
            for (group, _) in self.document.held_by(node) {
                problems.push(format!("{} is removed, but holds {group}", config.name));
            }
        }
        for (group, placement) in &self.document.groups {
            if let Some(holder) = placement.holder
                && !new.groups.contains_key(group)
            {
                problems.push(format!(
                    "{group} is removed, but runs on {}; stop it first with `hotpair group stop {group}`",
                    self.name(holder)
                ));
            }
        }
        self.mirror_problems(new, &mut problems);
        for (group, config) in &new.groups {
            if config
                .nodes
                .iter()
                .all(|node| !new.nodes.contains_key(node))
            {
                problems.push(format!("{group} has no node left to run on"));
            }
        }
        problems
    }

    /// A mirror's data must not be lost by an edit.
    fn mirror_problems(&self, new: &Cluster, problems: &mut Vec<String>) {
        for (group, old) in &self.document.config.groups {
            let held = self.draft.placement(group).holder.is_some();
            let next = new.groups.get(group);
            for (id, mirror) in old.mirrors() {
                let Some(next) = next.and_then(|next| next.mirror(id)) else {
                    if held {
                        problems.push(format!(
                            "the mirror {group}/{id} is removed, but {group} runs; stop it first with \
                             `hotpair group stop {group}`"
                        ));
                    }
                    continue;
                };
                if next.size < mirror.size {
                    problems.push(format!(
                        "the mirror {group}/{id} cannot be made smaller ({} bytes instead of {})",
                        next.size, mirror.size
                    ));
                }
            }
        }
        let gone = |group: &GroupId, id: &ResourceId, node| {
            let next = new.groups.get(group).and_then(|next| next.mirror(id));
            next.is_some_and(|next| !next.copies.contains_key(&node))
        };
        for (group, placement) in &self.document.groups {
            for (id, data) in &placement.mirrors {
                let mut good = data.up_to_date().peekable();
                if good.peek().is_some() && good.all(|node| gone(group, id, node)) {
                    problems.push(format!(
                        "{group}/{id} would be left without a copy that is up to date; let another one be \
                         synchronised first"
                    ));
                }
            }
        }
    }

    fn effects(&self, new: &Cluster) -> Vec<String> {
        let old = &self.document.config;
        let mut effects = Vec::new();
        for (id, node) in &new.nodes {
            if !old.nodes.contains_key(id) {
                effects.push(format!("{} is added", node.name));
            }
        }
        for (id, node) in &old.nodes {
            if !new.nodes.contains_key(id) {
                effects.push(format!("{} is removed", node.name));
            }
        }
        for (id, group) in &new.groups {
            match old.groups.get(id) {
                None => effects.push(format!("{id} is added")),
                Some(before) if before != group => {
                    effects.push(self.group_effect(id, before, group))
                }
                Some(_) => {}
            }
        }
        for id in old.groups.keys() {
            if !new.groups.contains_key(id) {
                effects.push(format!("{id} is removed"));
            }
        }
        if new.voters() != old.voters() {
            effects.push("the members with a vote change".into());
        }
        if new.links != old.links {
            effects.push("the links change, without interruption".into());
        }
        if new.timing != old.timing {
            effects.push("the timing changes, without interruption".into());
        }
        if effects.is_empty() {
            effects.push("no service is touched".into());
        }
        effects
    }

    /// What happens to a group that is in both configurations.
    fn group_effect(&self, id: &GroupId, old: &Group, new: &Group) -> String {
        let holder = self.draft.placement(id).holder;
        let Some(holder) = holder else {
            return format!("{id} changes; it does not run");
        };
        let name = self.name(holder);
        if !new.nodes.contains(&holder) {
            return format!("{id} moves away from {name}, which is no longer in its list of nodes");
        }
        let touched = touched(old, new);
        if touched.is_empty() && old.relations != new.relations {
            return format!(
                "{id} changes; if it breaks a hard relation on {name}, it moves or stops"
            );
        }
        if touched.is_empty() {
            return format!("{id} changes, none of its services is touched");
        }
        let touched: Vec<ResourceId> = touched.into_iter().collect();
        format!(
            "{id} changes on {name}, these services are touched: {}",
            order::list(&touched)
        )
    }
}

/// Another quorum disk than before, or one that comes back, is a member that nobody has known: it may have
/// forgotten what the one before it promised and accepted.
fn number_disk(document: &Document, new: &mut Cluster) -> Result<(), String> {
    let before = document.config.quorum_disk();
    let before = before.map(|(id, disk)| (id, disk.number));
    let Some(witness) = &mut new.witness else {
        return Ok(());
    };
    let Some(disk) = &witness.disk else {
        return Ok(());
    };
    if before == Some((witness.id, disk.number)) {
        return Ok(());
    }
    let free = (witness.id.0..=u8::MAX)
        .map(MemberId)
        .find(|id| !document.numbers.contains(id));
    witness.id = free.ok_or("the cluster has used up its numbers for a third vote")?;
    Ok(())
}

/// Resources whose definition changes, that are new or go, and all that require those.
fn touched(old: &Group, new: &Group) -> BTreeSet<ResourceId> {
    let all = old.resources.keys().chain(new.resources.keys());
    let mut touched: BTreeSet<ResourceId> = all
        .filter(|id| old.resources.get(id) != new.resources.get(id))
        .cloned()
        .collect();
    for _ in 0..new.resources.len() {
        for (id, resource) in &new.resources {
            if !resource.requires.is_disjoint(&touched) {
                touched.insert(id.clone());
            }
        }
    }
    touched
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flapping, QuorumDisk, Timing, WithoutWitness, Witness};
    use crate::ids::ClusterId;
    use std::collections::BTreeMap;

    fn with_disk(id: u8, number: u64, path: &str) -> Cluster {
        Cluster {
            name: "c".into(),
            id: ClusterId(1),
            timing: Timing::standard(),
            nodes: BTreeMap::new(),
            witness: Some(Witness {
                id: MemberId(id),
                name: "disk".into(),
                addresses: Vec::new(),
                disk: Some(QuorumDisk {
                    path: path.into(),
                    number,
                }),
            }),
            without_witness: WithoutWitness::Wait,
            links: Vec::new(),
            fencing: Default::default(),
            groups: BTreeMap::new(),
            flapping: Flapping::default(),
        }
    }

    fn numbered(document: &Document, mut new: Cluster) -> Option<u8> {
        number_disk(document, &mut new).ok()?;
        Some(new.witness?.id.0)
    }

    #[test]
    fn only_the_very_same_disk_keeps_its_number() {
        let mut document = Document::first(with_disk(200, 7, "/dev/a"));
        assert_eq!(numbered(&document, with_disk(200, 7, "/dev/b")), Some(200));
        assert_eq!(numbered(&document, with_disk(200, 8, "/dev/a")), Some(201));
        // Taken out and brought back, it is another member.
        document.config.witness = None;
        document.align();
        assert_eq!(numbered(&document, with_disk(200, 7, "/dev/a")), Some(201));
        document.numbers.extend((200..=255).map(MemberId));
        assert_eq!(numbered(&document, with_disk(200, 7, "/dev/a")), None);
    }
}
