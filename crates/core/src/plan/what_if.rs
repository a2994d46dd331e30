//! What would happen if something failed: the planner itself, run to its rest on changed facts.
//!
//! Nodes are taken to do what they are asked, at once and with success. Waiting times (leases, the
//! first-start delay, the silence until a node is taken to be down) are taken to be over.

use super::pins::WITNESS_SILENCE;
use super::{MemberView, Plan, Presence, View, plan};
use crate::config::Cluster;
use crate::document::{Document, Goal, Placement};
use crate::ids::{GroupId, HostBoot, MemberId, ResourceId};
use crate::operate::with_dependents;
use crate::report::{GroupReport, GroupState};
use serde::{Deserialize, Serialize};

/// A failure to try out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The node loses its power.
    Node(MemberId),
    Witness,
    /// One heartbeat link, by name.
    Link(String),
    /// The resource fails beyond the restarts allowed in place, on the node that holds the group.
    Resource(GroupId, ResourceId),
}

/// Bound on the plans made for one fault; each moves every group by one step.
const STEPS: usize = 60;

/// What would happen and why, line by line, until it comes to rest; and how every group is then.
#[must_use]
pub fn what_if(view: &View<'_>, fault: &Fault) -> Vec<String> {
    let mut document = view.document.clone();
    let mut members = view.members.clone();
    let config = document.config.clone();
    let mut lines = Vec::new();
    match fault {
        Fault::Node(node) if config.nodes.contains_key(node) => {
            lines.push(format!("{} loses its power", config.name_of(*node)));
            silence(&mut members, *node, config.timing.down());
        }
        Fault::Node(node) => return vec![format!("there is no node {node}")],
        Fault::Witness => {
            let Some(witness) = &config.witness else {
                return vec!["there is no witness in this cluster".into()];
            };
            lines.push(format!("the witness {} falls silent", witness.name));
            silence(&mut members, witness.id, WITNESS_SILENCE);
        }
        Fault::Link(name) => return link(&config, name),
        Fault::Resource(group, resource) => match fail(&document, &mut members, group, resource) {
            Ok(line) => lines.push(line),
            Err(line) => return vec![line],
        },
    }
    let present = |member| {
        let view = members.get(&member);
        view.is_some_and(|v| matches!(v.presence, Presence::Online { .. }))
    };
    if !document.voters.majority(present) {
        lines.extend(undecided(&document, &present));
        return lines;
    }
    let deciding_for = view.deciding_for.max(config.timing.first_start_delay);
    let mut last = Plan::default();
    for _ in 0..STEPS {
        last = plan(&View {
            document: &document,
            members: members.clone(),
            deciding_for,
        });
        for change in &last.changes {
            lines.push(change.text(&config));
            change.apply(&mut document);
        }
        let decided = !last.changes.is_empty();
        if decided {
            document.version.index += 1;
        }
        if !obey(&document, &mut members) && !decided {
            break;
        }
    }
    if lines.len() == 1 {
        lines.push("nothing is decided".into());
    }
    lines.push("in the end:".into());
    lines.extend(last.groups.iter().map(|(group, plan)| {
        let verdict = plan.verdict.text(&config);
        format!("  {group} {verdict}")
    }));
    lines
}

type Members = std::collections::BTreeMap<MemberId, MemberView>;

fn silence(members: &mut Members, member: MemberId, silent: std::time::Duration) {
    if let Some(view) = members.get_mut(&member) {
        let boot = match view.presence {
            Presence::Online { boot }
            | Presence::Silent { boot, .. }
            | Presence::Down { boot, .. } => boot,
            Presence::NeverHeard => HostBoot::UNHEARD,
        };
        view.presence = Presence::Down { boot, silent };
        view.report = None;
    }
}

fn link(config: &Cluster, name: &str) -> Vec<String> {
    if !config.links.iter().any(|link| link.name == name) {
        let names: Vec<&str> = config.links.iter().map(|link| link.name.as_str()).collect();
        return vec![format!(
            "there is no link `{name}`; the links are: {}",
            names.join(", ")
        )];
    }
    let others: Vec<&str> = config.links.iter().map(|l| l.name.as_str()).collect();
    let others: Vec<&str> = others.into_iter().filter(|other| *other != name).collect();
    let mut lines = vec![format!("the link {name} is cut")];
    if others.is_empty() {
        lines.push("it is the only link, so the nodes do not hear each other any more".into());
        lines.push(match &config.witness {
            Some(witness) => format!(
                "the side that {} gives its vote to goes on; use `--fail NODE` for the other side",
                witness.name
            ),
            None => "nobody has a majority: pinned groups go on, nothing is taken over".into(),
        });
    } else {
        lines.push(format!(
            "nothing is changed: heartbeats go on over {}",
            others.join(", ")
        ));
    }
    lines
}

/// The resource fails for good where its group runs.
fn fail(
    document: &Document,
    members: &mut Members,
    group: &GroupId,
    resource: &ResourceId,
) -> Result<String, String> {
    let config = document.config.groups.get(group);
    let config = config.ok_or_else(|| format!("there is no group `{group}`"))?;
    if !config.resources.contains_key(resource) {
        return Err(format!("there is no resource `{resource}` in {group}"));
    }
    let idle = || format!("{group} does not run, so nothing happens");
    let placement = document.groups.get(group).ok_or_else(idle)?;
    if with_dependents(config, &placement.stopped_resources).contains(resource) {
        return Err(format!(
            "{resource} of {group} is stopped by the operator, so nothing happens"
        ));
    }
    let holder = placement.holder.ok_or_else(idle)?;
    let view = members.get_mut(&holder).ok_or_else(idle)?;
    let report = view.report.as_mut().ok_or_else(idle)?;
    let state = report.groups.get_mut(group).ok_or_else(idle)?;
    if state.epoch != placement.epoch || state.state.is_down() {
        return Err(idle());
    }
    let restarts = config.restart.max;
    state.state = GroupState::Failed {
        resource: Some(resource.clone()),
        detail: format!("it failed more often than the {restarts} restarts allowed"),
        while_starting: false,
    };
    Ok(format!(
        "{resource} of {group} fails on {} more often than the {restarts} restarts allowed",
        document.config.name_of(holder)
    ))
}

/// Without a majority nothing is decided; leases run out, pinned groups go on.
fn undecided(document: &Document, present: &dyn Fn(MemberId) -> bool) -> Vec<String> {
    let config = &document.config;
    let missing: Vec<String> = document
        .voters
        .all()
        .into_iter()
        .filter(|&voter| !present(voter))
        .map(|voter| config.name_of(voter))
        .collect();
    let missing = missing.join(", ");
    let mut lines = vec![format!(
        "without {missing} there is no majority of the votes, so nothing can be decided"
    )];
    for (group, placement) in &document.groups {
        lines.push(match placement.holder {
            None => format!("  {group} does not run"),
            Some(holder) => {
                let name = config.name_of(holder);
                match (present(holder), placement.pinned()) {
                    (true, true) => format!("  {group} goes on running on {name}: it is pinned"),
                    (true, false) => {
                        format!("  {group} stops on {name}: it holds no lease any more")
                    }
                    (false, _) => format!(
                        "  {group} is down until {name} is back, or the operator says that it is \
                         powered off"
                    ),
                }
            }
        });
    }
    lines
}

/// Nodes do what the document asks. True if that changed any report.
fn obey(document: &Document, members: &mut Members) -> bool {
    let mut changed = false;
    for (&node, view) in members.iter_mut() {
        if !matches!(view.presence, Presence::Online { .. }) {
            continue;
        }
        let Some(report) = view.report.as_mut() else {
            continue;
        };
        let before = report.clone();
        report.version = document.version;
        for (group, placement) in &document.groups {
            let state = report.groups.entry(group.clone());
            let state = state.or_insert_with(|| GroupReport::stopped(placement.epoch));
            act(node, placement, state);
        }
        changed |= *report != before;
    }
    changed
}

fn act(node: MemberId, placement: &Placement, state: &mut GroupReport) {
    let stuck = matches!(
        state.state,
        GroupState::StopFailed { .. } | GroupState::Unmanaged { .. }
    );
    if stuck {
        return;
    }
    let mine = placement.holder == Some(node);
    let runs = mine && placement.goal == Goal::Run && placement.moving.is_none();
    let given_up = matches!(state.state, GroupState::Failed { .. });
    if runs && !(given_up && state.epoch == placement.epoch) {
        if !matches!(state.state, GroupState::Degraded { .. }) || state.epoch != placement.epoch {
            state.state = GroupState::Running;
        }
        state.epoch = placement.epoch;
        state.leased = true;
    } else if !state.state.is_down() {
        state.state = GroupState::Stopped;
        state.leased = false;
    }
    if mine && state.epoch != placement.epoch {
        state.epoch = placement.epoch;
    }
}
