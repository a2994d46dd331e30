//! Requests about one node.

use super::{Accepted, Desk};
use crate::config::WithoutWitness;
use crate::document::FenceOrder;
use crate::ids::{GroupId, HostBoot, MemberId};
use crate::plan::{Change, Presence};
use crate::reason::Reason;
use std::collections::BTreeSet;

impl Desk<'_> {
    fn held(&self, node: MemberId) -> Vec<GroupId> {
        let held = self.document.held_by(node);
        held.map(|(group, _)| group.clone()).collect()
    }

    /// What becomes of the groups `node` holds when it hands them over; and those it cannot hand over.
    fn handed_over(&self, node: MemberId) -> (Vec<String>, Vec<String>) {
        let (mut moved, mut stuck) = (Vec::new(), Vec::new());
        for group in self.held(node) {
            match self.successor(&group, &[node]) {
                Some(to) => moved.push(format!("{group} moves to {}", self.name(to))),
                None => stuck.push(format!(
                    "no other node can run {group} ({})",
                    self.why_stuck(&group, &[node])
                )),
            }
        }
        (moved, stuck)
    }

    /// Who gets the group when these nodes hand all of theirs over: it goes where what it must run with
    /// goes.
    fn successor(&self, group: &GroupId, leaving: &[MemberId]) -> Option<MemberId> {
        let host = self.draft.host(group);
        let leaves = self.draft.placement(&host).holder;
        let to = if leaves.is_some_and(|holder| leaving.contains(&holder)) {
            self.draft.best_with_companions(&host, leaving)?
        } else {
            return self.draft.best_with_companions(group, leaving);
        };
        (host == *group || self.draft.fit_as_companion(group, to)).then_some(to)
    }

    /// Why none but the `leaving` nodes can run it and what must run with it.
    fn why_stuck(&self, group: &GroupId, leaving: &[MemberId]) -> String {
        let nodes = &self.document.config.groups[group].nodes;
        let able = |&&node: &&MemberId| {
            !leaving.contains(&node) && self.draft.fit_as_companion(group, node)
        };
        match nodes.iter().find(able) {
            Some(&node) => format!(
                "{} could, but not together with what must run with it",
                self.name(node)
            ),
            None => self.why_nobody(group),
        }
    }

    pub(super) fn drain(&self, node: MemberId) -> Result<Accepted, String> {
        self.known_node(node)?;
        let name = self.name(node);
        if self.draft.membership(node).drained {
            return Ok(Accepted::already(format!("{name} is already drained")));
        }
        let (moved, stuck) = self.handed_over(node);
        let mut text = format!("{name} will be given no new groups");
        for line in moved.iter().chain(&stuck) {
            text = format!("{text}; {line}");
        }
        let drained = true;
        Ok(Accepted::new(
            vec![Change::SetDrained { node, drained }],
            text,
        ))
    }

    pub(super) fn undrain(&self, node: MemberId) -> Result<Accepted, String> {
        self.known_node(node)?;
        let name = self.name(node);
        if !self.draft.membership(node).drained {
            return Ok(Accepted::already(format!("{name} is not drained")));
        }
        let drained = false;
        Ok(Accepted::new(
            vec![Change::SetDrained { node, drained }],
            format!("{name} may be given groups again"),
        ))
    }

    /// These nodes leave at once: none of them takes over what another hands over.
    pub(super) fn leave(
        &self,
        nodes: &BTreeSet<MemberId>,
        force: bool,
    ) -> Result<Accepted, String> {
        let (mut changes, mut lines, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        let gone = |node: &MemberId| self.draft.membership(*node).left;
        let leaving: Vec<MemberId> = nodes.iter().copied().filter(|node| !gone(node)).collect();
        for &node in nodes {
            self.known_node(node)?;
            let name = self.name(node);
            if gone(&node) {
                lines.push(format!("{name} has already left, or is about to"));
                continue;
            }
            if !self.draft.online(node) && nodes.len() > 1 {
                lines.push(format!("{name} is not online and is left as it is"));
                continue;
            }
            let (moved, stuck) = self.left_behind(node, &leaving);
            if self.draft.online(node) {
                lost.extend(stuck.iter().map(|(_, why)| why.clone()));
            }
            lines.extend(moved);
            if force {
                lines.extend(stuck.iter().map(|(group, _)| format!("{group} stops")));
            }
            lines.push(format!("{name} leaves the cluster"));
            let run = self.draft.report(node).map(|r| (r.boot, r.incarnation));
            changes.push(if force {
                Change::ForceLeave { node, run }
            } else {
                Change::Leave { node, run }
            });
        }
        if !lost.is_empty() && !force {
            return Err(format!(
                "services would stop: {}; stop them first with `hotpair group stop`, or add `--force` \
                 to `hotpair stop`",
                lost.join("; ")
            ));
        }
        Ok(Accepted::new(changes, lines.join("; then ")))
    }

    /// What becomes of the groups of `node` when it leaves with others; and those nobody can run then.
    fn left_behind(
        &self,
        node: MemberId,
        leaving: &[MemberId],
    ) -> (Vec<String>, Vec<(GroupId, String)>) {
        let (mut moved, mut stuck) = (Vec::new(), Vec::new());
        for group in self.held(node) {
            match self.successor(&group, leaving) {
                Some(to) => moved.push(format!("{group} moves to {}", self.name(to))),
                None => {
                    let why = match self.why_stuck(&group, leaving) {
                        why if why.is_empty() => {
                            format!("nobody else is left to run {group}")
                        }
                        why => format!("no other node can run {group} ({why})"),
                    };
                    stuck.push((group, why));
                }
            }
        }
        (moved, stuck)
    }

    /// With a leader there is a majority, and nothing to force.
    pub(super) fn form_alone(&self, node: MemberId) -> Result<Accepted, String> {
        self.known_node(node)?;
        Err(format!(
            "the cluster has a leader and a majority, so {} need not go on alone; `hotpair node down \
             NODE` gives your word about a node that is off",
            self.name(node)
        ))
    }

    pub(super) fn remove(&self, node: MemberId) -> Result<Accepted, String> {
        self.known_node(node)?;
        let name = self.name(node);
        if self.document.config.nodes.len() == 1 {
            return Err(format!("{name} is the last node and cannot be removed"));
        }
        if self.draft.online(node) {
            return Err(format!(
                "{name} is online; let it leave first with `hotpair node leave {name}`"
            ));
        }
        let held = self.held(node);
        if !held.is_empty() {
            let names: Vec<String> = held.iter().map(GroupId::to_string).collect();
            return Err(format!(
                "{name} still holds {}; wait for the takeover, or say `hotpair node down {name}` \
                 if it is powered off",
                names.join(", ")
            ));
        }
        let only: Vec<String> = self
            .document
            .config
            .groups
            .iter()
            .filter(|(_, group)| group.nodes == [node])
            .map(|(id, _)| id.to_string())
            .collect();
        if !only.is_empty() {
            return Err(format!(
                "{name} is the only node of {}; take the groups out of the configuration first",
                only.join(", ")
            ));
        }
        let kept = self.only_good_copies(|other| other == node);
        if !kept.is_empty() {
            return Err(format!(
                "{name} has the only copy that is up to date of {}; let another copy be synchronised first, or \
                 keep another one with `hotpair mirror split-brain resolve`",
                kept.join(", ")
            ));
        }
        Ok(Accepted::new(
            vec![Change::Remove { node }],
            format!("{name} will be taken out of the configuration and have no vote any more"),
        ))
    }

    pub(super) fn clear_node(&self, node: MemberId) -> Result<Accepted, String> {
        self.known_node(node)?;
        let name = self.name(node);
        if !self.draft.membership(node).held_out {
            return Ok(Accepted::already(format!("{name} is not held out")));
        }
        let forgiven = self.draft.view.members.get(&node).map_or(0, |v| v.failures);
        Ok(Accepted::new(
            vec![Change::EndHold { node, forgiven }],
            format!("{name} may take groups over again"),
        ))
    }

    pub(super) fn is_down(&self, node: MemberId) -> Result<Accepted, String> {
        self.known_node(node)?;
        let name = self.name(node);
        let boot = match self.draft.presence(node) {
            Presence::Online { .. } => {
                return Err(format!(
                    "{name} is online, so it is not down; to move its groups use `hotpair node drain {name}`"
                ));
            }
            Presence::Silent { boot, .. } | Presence::Down { boot, .. } => boot,
            Presence::NeverHeard => HostBoot::UNHEARD,
        };
        if self.draft.declared_down(node) {
            return Ok(Accepted::already(format!(
                "{name} is already declared down"
            )));
        }
        let held: Vec<String> = self.held(node).iter().map(GroupId::to_string).collect();
        let text = if held.is_empty() {
            format!("{name} is taken to be powered off; it holds no groups")
        } else {
            format!(
                "{name} is taken to be powered off; its groups may be taken over: {}",
                held.join(", ")
            )
        };
        Ok(Accepted::new(
            vec![Change::DeclareDown {
                node,
                boot,
                by: None,
            }],
            text,
        ))
    }

    pub(super) fn fence(&self, node: MemberId) -> Result<Accepted, String> {
        self.known_node(node)?;
        let name = self.name(node);
        if !self.document.config.fencing.has(node) {
            return Err(format!(
                "{name} has no fence device: describe one under [fence.NAME] in the configuration"
            ));
        }
        let Some(boot) = self.draft.boot(node) else {
            return Err(format!(
                "{name} has not been heard of, so there is nothing to fence; if it is surely powered off, say so with \
                 `hotpair node down {name}`"
            ));
        };
        let Some(by) = self.draft.fencer(node) else {
            return Err(format!("no other node is online that could fence {name}"));
        };
        if self.draft.membership(node).fencing.is_some() {
            return Ok(Accepted::already(format!("{name} is being fenced already")));
        }
        let order = FenceOrder {
            boot,
            by,
            reason: Self::by_operator("fence run"),
            failed: None,
        };
        let held: Vec<String> = self.held(node).iter().map(GroupId::to_string).collect();
        let held = match held.as_slice() {
            [] => "it holds no groups".to_owned(),
            _ => format!("its groups are interrupted: {}", held.join(", ")),
        };
        Ok(Accepted::new(
            vec![Change::OrderFence { node, order }],
            format!("{name} will be fenced by {}; {held}", self.name(by)),
        ))
    }

    /// A node's word about its order. One that is not its order any more changes nothing.
    pub(super) fn fenced(
        &self,
        node: MemberId,
        boot: HostBoot,
        by: MemberId,
        result: &Result<(), String>,
    ) -> Result<Accepted, String> {
        self.known_node(node)?;
        let name = self.name(node);
        let order = self.draft.membership(node).fencing.clone();
        let order = order.filter(|order| order.boot == boot && order.by == by);
        // Alone with a fence device there is nobody to give an order.
        let alone = self.document.config.without_witness == WithoutWitness::Fence;
        if order.is_none() && !(alone && result.is_ok()) {
            return Err(format!("{} was not asked to fence {name}", self.name(by)));
        }
        if result.is_ok() && self.draft.online(node) && self.draft.boot(node) == Some(boot) {
            return Err(format!("{name} is still heard"));
        }
        Ok(match result {
            Ok(()) => Accepted::new(
                vec![Change::DeclareDown {
                    node,
                    boot,
                    by: Some(by),
                }],
                format!("{name} was fenced"),
            ),
            Err(detail) => {
                let detail = detail.clone();
                let mut changes = vec![Change::FenceFailed { node, detail }];
                // The operator asks again.
                if order.is_some_and(|order| matches!(order.reason, Reason::Operator { .. })) {
                    changes.push(Change::EndFence { node });
                }
                Accepted::new(changes, format!("{name} could not be fenced"))
            }
        })
    }
}
