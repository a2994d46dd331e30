//! Random facts and requests, line by line; every plan is held against what must always be true.

use super::{World, cluster};
use hotpair_core::config::{RelationKind, StartMode, Strength, Takeover};
use hotpair_core::document::{Document, Goal, Pin, Placement};
use hotpair_core::ids::{GroupId, HostBoot, MemberId};
use hotpair_core::plan::{Change, Fitness, Plan, Presence, plan};
use hotpair_core::report::GroupState;
use proptest::prelude::*;

/// Plans with the same facts after which there must be nothing left to change.
const REST: usize = 12;

fn clusters() -> impl Strategy<Value = Vec<String>> {
    let nodes = prop::sample::select(vec![
        "cluster: nodes node1 node2; witness w",
        "cluster: nodes node1 node2",
        "cluster: nodes node1 node2 node3",
        "cluster: nodes node1 node2 node3 node4; witness w",
    ]);
    let group = || {
        let options = vec![
            "",
            "start manual",
            "takeover never",
            "takeover highest-only",
            "failback 1s",
            "on-start-failure wait",
            "on-start-failure retry 1",
            "on-switch-failure wait",
            "final nothing",
        ];
        prop::collection::vec(prop::sample::select(options), 0..3)
    };
    let related = prop::sample::select(vec![
        "",
        "with db",
        "with db; after db",
        "with db preferred",
        "apart db",
        "apart db; after db",
        "apart db preferred",
        "after db",
        "after db preferred",
    ]);
    (nodes, group(), group(), related).prop_map(|(nodes, a, b, related)| {
        vec![
            nodes.to_owned(),
            format!("group web: {}; {related}", a.join("; ")),
            format!("group db: nodes node2 node1; {}", b.join("; ")),
        ]
    })
}

fn lines() -> impl Strategy<Value = String> {
    let node = || prop::sample::select(vec!["node1", "node2", "node3"]);
    let member = prop::sample::select(vec!["node1", "node2", "node3", "w"]);
    let group = || prop::sample::select(vec!["web", "db"]);
    let presence = prop::sample::select(vec![
        "online",
        "silent 300ms",
        "silent 20s",
        "down 600ms",
        "down 20s",
        "unheard",
        "reboots",
        "restarts",
    ]);
    let state = prop::sample::select(vec![
        "running",
        "stopped",
        "stale stopped",
        "epoch 1 stopped",
        "starting",
        "failed site boom",
        "start-failed site boom",
        "start-failed - boom",
        "stop-failed site busy",
        "degraded slow",
        "leased",
        "stale leased",
    ]);
    let about_group = prop::sample::select(vec![
        "start", "stop", "switch", "enable", "disable", "clear",
    ]);
    let about_node = prop::sample::select(vec![
        "drain",
        "undrain",
        "leave",
        "remove",
        "clear-node",
        "is-down",
        "maintenance on node",
        "maintenance off node",
    ]);
    let other = prop::sample::select(vec![
        "ask disarm",
        "ask arm",
        "ask maintenance on group web",
        "ask maintenance off group web",
        "deciding 0",
        "deciding 60s",
    ]);
    prop_oneof![
        3 => (member, presence).prop_map(|(m, p)| format!("node {m} {p}")),
        4 => (node(), group(), state).prop_map(|(n, g, s)| format!("report {n} {g} {s}")),
        1 => (node(), group()).prop_map(|(n, g)| format!("unfit {n} {g} no carrier")),
        1 => (node(), group()).prop_map(|(n, g)| format!("fit {n} {g}")),
        1 => (node(), 0..5u32).prop_map(|(n, f)| format!("failures {n} {f}")),
        1 => (node(), group()).prop_map(|(n, g)| format!("fit-for {n} {g} 5s")),
        2 => (about_group.clone(), group()).prop_map(|(r, g)| format!("ask {r} {g}")),
        2 => (about_group, group(), node()).prop_map(|(r, g, n)| format!("ask {r} {g} {n}")),
        2 => (about_node, node()).prop_map(|(r, n)| format!("ask {r} {n}")),
        1 => other.prop_map(str::to_owned),
        4 => Just("obey".to_owned()),
    ]
}

/// What the holder's own report, of this document and epoch, says.
fn says_down(world: &World, group: &GroupId, holder: MemberId, placement: &Placement) -> bool {
    let Some(report) = world.members.get(&holder).and_then(|v| v.report.as_ref()) else {
        return false;
    };
    let Some(state) = report.groups.get(group) else {
        return false;
    };
    let pinned = placement.pin.is_some();
    let failed = matches!(state.state, GroupState::Failed { .. });
    let fresh = state.epoch == placement.epoch
        && (failed || report.version >= world.document.version || !pinned);
    state.state.is_down() && (fresh || !pinned)
}

/// The holder, acting on the document that asks for it, holds a lease.
fn acknowledged(world: &World, group: &GroupId, holder: MemberId, placement: &Placement) -> bool {
    let report = world.members.get(&holder).and_then(|v| v.report.as_ref());
    report.is_some_and(|report| {
        let leased = report.groups.get(group).is_some_and(|g| g.leased);
        leased && report.version >= world.document.version && placement.pin == Some(Pin::Releasing)
    })
}

fn declared_down(world: &World, node: MemberId) -> bool {
    let member = world.document.members.get(&node);
    let Some(word) = member.and_then(|m| m.down_boot) else {
        return false;
    };
    match world.members.get(&node).map(|v| v.presence) {
        Some(Presence::Online { .. }) => false,
        Some(Presence::Silent { boot, .. } | Presence::Down { boot, .. }) => {
            boot == word || word == HostBoot::UNHEARD
        }
        _ => true,
    }
}

/// Holds one plan, not yet applied, against the rules.
fn check(world: &World, plan: &Plan, after: &Document) -> Result<(), TestCaseError> {
    for (group, new) in &after.groups {
        let Some(old) = world.document.groups.get(group) else {
            continue;
        };
        let given = plan
            .changes
            .iter()
            .any(|c| matches!(c, Change::SetHolder { group: g, .. } if g == group));
        prop_assert_eq!(
            new.epoch > old.epoch,
            given,
            "the epoch rises with each holder"
        );
        if let (true, Some(to)) = (given, new.holder) {
            let retry = old.holder == Some(to);
            let fit = plan.groups[group].nodes.get(&to) == Some(&Fitness::Fit);
            prop_assert!(fit || retry, "{} is given to an unfit node", group);
            prop_assert!(
                !after.disarmed || old.moving.is_some(),
                "disarmed, but acts"
            );
        }
        if let (true, Some(to)) = (given, new.holder) {
            related(after, group, to)?;
        }
        let Some(holder) = old.holder else { continue };
        if old.pin.is_some() && new.pin.is_none() && !given && new.holder.is_some() {
            let may = acknowledged(world, group, holder, old)
                || says_down(world, group, holder, old)
                || declared_down(world, holder);
            prop_assert!(may, "{} is unpinned, but its holder has no lease", group);
        }
        if new.holder == Some(holder) && !given {
            continue;
        }
        let says = says_down(world, group, holder, old);
        let word = declared_down(world, holder);
        let presence = world.members.get(&holder).map(|v| v.presence);
        prop_assert!(
            old.pin.is_none() || says || word,
            "{} is pinned, but moved without a report or word",
            group
        );
        prop_assert!(
            says || !matches!(presence, Some(Presence::Online { .. })),
            "{} is taken from a node that is online and has not stopped it",
            group
        );
        let left = world.document.members[&holder].left;
        prop_assert!(
            word || left || !matches!(presence, Some(Presence::Silent { .. })) || says,
            "{} is taken from a node that is only silent",
            group
        );
    }
    Ok(())
}

/// What is given breaks no hard relation: not what was agreed before, nor what the same plan gives.
fn related(after: &Document, group: &GroupId, to: MemberId) -> Result<(), TestCaseError> {
    for (id, config) in &after.config.groups {
        for relation in config
            .relations
            .iter()
            .filter(|r| r.strength == Strength::Hard)
        {
            let holder = |group| after.groups[group].holder;
            match relation.kind {
                RelationKind::With if id == group => prop_assert_eq!(
                    holder(&relation.group),
                    Some(to),
                    "{} is given to a node where {} is not",
                    group,
                    relation.group
                ),
                RelationKind::Apart if id == group || relation.group == *group => {
                    let other = if id == group { &relation.group } else { id };
                    prop_assert!(
                        holder(other) != Some(to),
                        "{} is given to a node where {} is",
                        group,
                        other
                    );
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// One checked plan; true if it changed anything.
fn planned(world: &mut World) -> Result<bool, TestCaseError> {
    let plan = plan(&world.view());
    let mut after = world.document.clone();
    for change in &plan.changes {
        change.apply(&mut after);
    }
    check(world, &plan, &after)?;
    let changed = !plan.changes.is_empty();
    world.document = after;
    if changed {
        world.document.version.index += 1;
    }
    Ok(changed)
}

/// With the same facts the planner comes to rest.
fn rests(world: &mut World) -> Result<(), TestCaseError> {
    for _ in 0..REST {
        if !planned(world)? {
            return Ok(());
        }
    }
    prop_assert!(false, "no rest after {} plans with the same facts", REST);
    Ok(())
}

/// All faults mended and all orders of the operator taken back: everything runs that should.
fn heal(world: &mut World) -> Result<(), TestCaseError> {
    let names: Vec<String> = world
        .document
        .config
        .nodes
        .values()
        .map(|n| n.name.clone())
        .collect();
    let mut lines = vec![
        "deciding 60s".to_owned(),
        "ask arm".into(),
        "node w online".into(),
    ];
    lines.push("ask maintenance off group web".into());
    for name in &names {
        for line in [
            "node N reboots",
            "failures N 0",
            "ask undrain N",
            "ask maintenance off node N",
        ] {
            lines.push(line.replace('N', name));
        }
        lines.push(format!("ask enable web {name}"));
        lines.push(format!("ask enable db {name}"));
    }
    lines.extend(["ask enable web".into(), "ask enable db".into()]);
    for line in lines {
        // A line about what this cluster does not have says so.
        let _ = world.step(&line);
    }
    for _ in 0..40 {
        let changed = planned(world)?;
        let obeyed = world.obey();
        if !changed && !obeyed {
            break;
        }
        for group in ["web", "db"] {
            let _ = world.step(&format!("ask clear {group}"));
        }
    }
    let runs = |group: &GroupId, placement: &Placement| {
        placement.holder.is_some_and(|holder| {
            let report = world.members[&holder].report.as_ref();
            report.is_some_and(|r| r.groups[group].state == GroupState::Running)
        })
    };
    for (group, placement) in &world.document.groups {
        let config = &world.document.config.groups[group];
        let mut hard = config
            .relations
            .iter()
            .filter(|r| r.strength == Strength::Hard);
        let hindered = hard.any(|relation| match relation.kind {
            RelationKind::Apart => config.nodes.len() < 2,
            _ => !runs(&relation.group, &world.document.groups[&relation.group]),
        });
        if hindered {
            continue;
        }
        if placement.goal != Goal::Run
            || config.start == StartMode::Manual
            || config.takeover != Takeover::ByPriority
        {
            continue;
        }
        prop_assert!(
            runs(group, placement),
            "{} does not run after all is healed: {:?}",
            group,
            placement
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_breaks_a_rule_and_every_cluster_heals(
        config in clusters(),
        lines in prop::collection::vec((lines(), any::<bool>()), 1..60),
    ) {
        let config: Vec<&str> = config.iter().map(String::as_str).collect();
        let config = cluster::parse(&config).map_err(TestCaseError::fail)?;
        let mut world = World::new(Document::first(config));
        rests(&mut world)?;
        for (line, settle) in lines {
            // A line that does not fit the cluster (no such node) changes nothing.
            let _ = world.step(&line);
            planned(&mut world)?;
            if settle {
                rests(&mut world)?;
            }
        }
        heal(&mut world)?;
    }
}
