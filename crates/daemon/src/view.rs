//! From the node's own words to those of the API: names instead of numbers, sentences instead of
//! variants.

use crate::guard::protocol::{LinkSight, QuorumSight, WITNESS_PATH};
use hotpair_api::status::{
    ClusterView, FitView, GroupView, LinkView, NodeView, QuorumView, ResourceView, StatusView,
    WitnessView,
};
use hotpair_api::{DecisionView, ExplainView};
use hotpair_core::config::{Cluster, QuorumDisk, Relation, ResourceKind, Timing, WithoutWitness};
use hotpair_core::document::{Document, Goal, Pin, Placement};
use hotpair_core::ids::{GroupId, MemberId, ResourceId};
use hotpair_core::node::Status;
use hotpair_core::plan::{Fitness, Presence};
use hotpair_core::reason::Reason;
use hotpair_core::report::{GroupReport, GroupState, ResourceState};
use std::time::Duration;

/// The cluster as this node knows it; `None` before it has a document.
#[must_use]
pub fn status(
    status: &Status,
    sights: &[LinkSight],
    quorum: Option<&QuorumSight>,
) -> Option<StatusView> {
    let document = status.document.as_deref()?;
    let config = &document.config;
    let (guarantee, guarantee_reason) = guarantee(document);
    Some(StatusView {
        cluster: ClusterView {
            name: config.name.clone(),
            id: config.id.to_string(),
            revision: document.revision,
            guarantee: guarantee.into(),
            guarantee_reason,
        },
        node: config.name_of(status.me),
        leader: status.leader.map(|leader| config.name_of(leader)),
        term: status.term.0,
        version: status.version.to_string(),
        committed: status.committed.to_string(),
        lease: status.lease_held,
        disarmed: document.disarmed,
        nodes: config
            .nodes
            .keys()
            .map(|&node| node_view(status, document, node, sights))
            .collect(),
        witness: config.witness.as_ref().map(|witness| WitnessView {
            name: witness.name.clone(),
            state: presence(status, witness.id).into(),
            votes: document.voters.contains(witness.id),
            disk: witness.disk.as_ref().map(|disk| {
                let sight = quorum.filter(|sight| sight.member == witness.id);
                quorum_view(&config.timing, disk, sight)
            }),
        }),
        groups: config
            .groups
            .keys()
            .filter_map(|group| group_view(status, document, group))
            .collect(),
    })
}

/// Why a group is where it is.
#[must_use]
pub fn explain(status: &Status, group: &GroupId) -> Option<ExplainView> {
    let document = status.document.as_deref()?;
    let view = group_view(status, document, group)?;
    let name = |member: Option<MemberId>| member.map(|member| document.config.name_of(member));
    let decisions = document
        .history
        .iter()
        .filter(|decision| decision.group.as_ref() == Some(group));
    let decisions = decisions.map(|decision| DecisionView {
        version: decision.version.to_string(),
        from: name(decision.from),
        to: name(decision.to),
        reason: decision.reason.text(&document.config),
    });
    Some(ExplainView {
        group: view.name,
        state: view.state,
        verdict: view.verdict,
        nodes: view.nodes,
        relations: view.relations,
        decisions: decisions.collect(),
    })
}

/// `single-active` or `best-effort`, and why.
fn guarantee(document: &Document) -> (&'static str, String) {
    let config = &document.config;
    let votes = document
        .voters
        .next
        .as_ref()
        .unwrap_or(&document.voters.now)
        .len();
    let reason = match (&config.witness, config.nodes.len()) {
        (_, 1) => "one node only: there is nobody to take over".to_owned(),
        (Some(witness), _) if document.voters.contains(witness.id) => {
            let what = match witness.disk {
                Some(_) => "quorum disk",
                None => "witness",
            };
            format!("{votes} votes with {} as the {what}: a majority decides", witness.name)
        }
        (None, 2) => match config.without_witness {
            WithoutWitness::Wait => {
                "two votes and no witness: nothing is taken over without the operator's word; add a witness".to_owned()
            }
            WithoutWitness::Fence => {
                "two votes and no witness: a node takes over once the other one was fenced".to_owned()
            }
        },
        _ => format!("{votes} votes: a majority decides"),
    };
    let reason = match &document.voters.next {
        Some(_) => format!("{reason}; {VOTES_CHANGE}"),
        None => reason,
    };
    ("single-active", reason)
}

/// Shortest lease that outlives the stalls of multipath devices, in most arrays.
const DISK_LEASE: Duration = Duration::from_secs(10);

fn quorum_view(timing: &Timing, disk: &QuorumDisk, sight: Option<&QuorumSight>) -> QuorumView {
    let round_us = sight.and_then(|sight| sight.round_us);
    let mut warnings = Vec::new();
    if let Some(round) = round_us.map(Duration::from_micros)
        && round > timing.heartbeat * 2
    {
        warnings.push(format!(
            "a round of {} ms is longer than two heartbeats of {} ms: elections by the disk may fail; \
             raise heartbeat_ms, or use a quicker disk",
            round.as_millis(),
            timing.heartbeat.as_millis()
        ));
    }
    if timing.lease < DISK_LEASE {
        warnings.push(format!(
            "the lease of {} ms does not outlive the stall of a multipath device: services of a node that does \
             not hear the other one stop then; `lease_ms` of 10000 or more does",
            timing.lease.as_millis()
        ));
    }
    QuorumView {
        path: disk.path.clone(),
        number: format!("{:016x}", disk.number),
        problem: sight.and_then(|sight| sight.problem.clone()),
        round_us,
        warnings,
    }
}

/// Said while a joint change of voters goes on.
const VOTES_CHANGE: &str = "the votes are being changed: until that is done, a majority of the votes before must agree too";

fn presence(status: &Status, member: MemberId) -> &'static str {
    match status.members.get(&member).map(|member| member.presence) {
        Some(Presence::Online { .. }) => "online",
        Some(Presence::Silent { .. }) => "silent",
        Some(Presence::Down { .. }) => "down",
        Some(Presence::NeverHeard) | None => "unknown",
    }
}

fn node_view(
    status: &Status,
    document: &Document,
    node: MemberId,
    sights: &[LinkSight],
) -> NodeView {
    let config = &document.config;
    let boot = match status.members.get(&node).map(|member| member.presence) {
        Some(
            Presence::Online { boot } | Presence::Silent { boot, .. } | Presence::Down { boot, .. },
        ) => boot.to_string(),
        _ => String::new(),
    };
    let membership = document.members.get(&node).cloned().unwrap_or_default();
    NodeView {
        name: config.name_of(node),
        number: node.0,
        state: if membership.left {
            "left"
        } else {
            presence(status, node)
        }
        .into(),
        boot_id: boot,
        votes: document.voters.contains(node),
        maintenance: membership.maintenance,
        drained: membership.drained,
        held_out: membership.held_out,
        fencing: membership
            .fencing
            .as_ref()
            .map(|order| {
                let by = config.name_of(order.by);
                let why = order.reason.text(config);
                match &order.failed {
                    None => format!("being fenced by {by}: {why}"),
                    Some(failed) => format!("could not be fenced by {by}: {failed}"),
                }
            })
            .or_else(|| status.members.get(&node)?.fencing.clone()),
        links: links(status, config, node, sights),
    }
}

fn links(status: &Status, config: &Cluster, node: MemberId, sights: &[LinkSight]) -> Vec<LinkView> {
    let own = node == status.me;
    let view = |(path, link): (u8, &hotpair_core::config::Link)| {
        let sight = sights
            .iter()
            .find(|sight| sight.member == node && sight.path == path && path != WITNESS_PATH);
        Some(LinkView {
            name: link.name.clone(),
            address: link.addresses.get(&node)?.to_string(),
            state: if own {
                "own"
            } else {
                link_state(&config.timing, sight)
            }
            .into(),
            loss_percent: sight.map_or(0.0, |sight| f64::from(sight.lost_of_100)),
            round_trip_us: sight.and_then(|sight| sight.round_trip_us),
        })
    };
    (0u8..).zip(&config.links).filter_map(view).collect()
}

fn link_state(timing: &Timing, sight: Option<&LinkSight>) -> &'static str {
    let Some(silent) = sight
        .and_then(|sight| sight.silent_ms)
        .map(Duration::from_millis)
    else {
        return "unknown";
    };
    if silent >= timing.down() {
        "down"
    } else if silent >= timing.heartbeat * timing.warn_after.max(1) {
        "warning"
    } else {
        "up"
    }
}

fn report_of<'a>(status: &'a Status, node: MemberId, group: &GroupId) -> Option<&'a GroupReport> {
    status
        .members
        .get(&node)?
        .report
        .as_ref()?
        .groups
        .get(group)
}

fn group_view(status: &Status, document: &Document, group: &GroupId) -> Option<GroupView> {
    let config = &document.config;
    let placement = document.groups.get(group)?;
    let plan = status.plan.groups.get(group);
    let active = |node: &&MemberId| {
        report_of(status, **node, group).is_some_and(|report| !report.state.is_down())
            && !matches!(presence(status, **node), "down" | "unknown")
    };
    let nodes = &config.groups.get(group)?.nodes;
    Some(GroupView {
        name: group.to_string(),
        state: state(status, placement, group, plan).into(),
        active_on: nodes
            .iter()
            .filter(active)
            .map(|&node| config.name_of(node))
            .collect(),
        holder: placement.holder.map(|holder| config.name_of(holder)),
        epoch: placement.epoch.0,
        pinned: placement.pin.map(|pin| match pin {
            Pin::Pinned(why) => Reason::Pinned { why }.text(config),
            Pin::Releasing => "the pin is being released".into(),
        }),
        maintenance: placement.maintenance,
        disabled: placement.disabled,
        stopped_resources: placement
            .stopped_resources
            .iter()
            .map(ToString::to_string)
            .collect(),
        relations: config
            .groups
            .get(group)?
            .relations
            .iter()
            .map(Relation::text)
            .collect(),
        reason: placement.reason.text(config),
        verdict: plan
            .map(|plan| plan.verdict.text(config))
            .unwrap_or_default(),
        resources: resources(status, document, placement, group),
        nodes: nodes
            .iter()
            .map(|&node| {
                let fitness = plan.and_then(|plan| plan.nodes.get(&node));
                fit_view(status, config, placement, group, node, fitness)
            })
            .collect(),
    })
}

fn state(
    status: &Status,
    placement: &Placement,
    group: &GroupId,
    plan: Option<&hotpair_core::plan::GroupPlan>,
) -> &'static str {
    let report = placement
        .holder
        .and_then(|holder| report_of(status, holder, group));
    let gone = placement
        .holder
        .is_some_and(|holder| matches!(presence(status, holder), "down" | "unknown"));
    match (placement.goal, report) {
        (Goal::Failed, _) => "failed",
        (Goal::Stopped, None) => "stopped",
        (Goal::Run, Some(report)) if !gone && report.state == GroupState::Stopped => "starting",
        (_, Some(report)) if !gone => report.state.name(),
        (Goal::Stopped, _) => "stopped",
        (Goal::Run, _) if placement.holder.is_some() => "unknown",
        (Goal::Run, _) => {
            let nobody = plan.is_some_and(|plan| !plan.nodes.values().any(Fitness::is_fit));
            if nobody { "cannot run" } else { "stopped" }
        }
    }
}

fn resources(
    status: &Status,
    document: &Document,
    placement: &Placement,
    group: &GroupId,
) -> Vec<ResourceView> {
    let Some(config) = document.config.groups.get(group) else {
        return Vec::new();
    };
    let report = placement
        .holder
        .and_then(|holder| report_of(status, holder, group));
    let view = |(name, resource): (&ResourceId, &hotpair_core::config::Resource)| {
        let report = report.and_then(|report| report.resources.get(name));
        ResourceView {
            name: name.to_string(),
            kind: kind(&resource.kind).into(),
            state: report
                .map_or("unknown", |report| resource_state(report.state))
                .into(),
            detail: report
                .map(|report| report.detail.clone())
                .unwrap_or_default(),
            restarts: report.map_or(0, |report| report.restarts),
            restart_due: report.is_some_and(|report| {
                let asked = placement.restarts.get(name);
                asked.is_some_and(|&asked| asked > report.restarts_done)
            }),
        }
    };
    config.resources.iter().map(view).collect()
}

fn kind(kind: &ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Address(_) => "address",
        ResourceKind::Program(_) => "program",
        ResourceKind::Service(_) => "service",
        ResourceKind::Mirror(_) => "mirror",
        ResourceKind::Mount(_) => "mount",
        ResourceKind::Ocf(_) => "ocf",
    }
}

fn resource_state(state: ResourceState) -> &'static str {
    match state {
        ResourceState::Stopped => "stopped",
        ResourceState::Starting => "starting",
        ResourceState::Running => "running",
        ResourceState::Stopping => "stopping",
        ResourceState::Failed => "failed",
        ResourceState::RunsUnasked => "runs unasked",
        ResourceState::Maintenance => "maintenance",
        ResourceState::Unknown => "unknown",
    }
}

fn fit_view(
    status: &Status,
    config: &Cluster,
    placement: &Placement,
    group: &GroupId,
    node: MemberId,
    fitness: Option<&Fitness>,
) -> FitView {
    let fit = fitness.is_some_and(Fitness::is_fit);
    let known = !matches!(presence(status, node), "unknown");
    let holds = placement.holder == Some(node);
    let runs = report_of(status, node, group).is_some_and(|report| !report.state.is_down());
    let role = match (known, holds && runs, fit) {
        (false, ..) => "unknown",
        (_, true, _) => "active",
        (_, _, true) => "standby",
        _ => "unfit",
    };
    let reason = if fit {
        String::new()
    } else {
        fitness
            .map(|fitness| fitness.text(config))
            .unwrap_or_default()
    };
    FitView {
        name: config.name_of(node),
        role: role.into(),
        fit,
        reason,
    }
}
