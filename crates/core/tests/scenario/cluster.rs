//! `cluster:` and `group` lines -> a configuration.

use super::span;
use hotpair_core::config::*;
use hotpair_core::ids::{ClusterId, GroupId, MemberId, ResourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The configuration of the `cluster:` and `group` lines; the configured nodes are named `nodeN`.
pub fn parse(lines: &[&str]) -> Result<Cluster, String> {
    let mut config = Cluster {
        name: "test".into(),
        id: ClusterId(7),
        timing: Timing::standard(),
        nodes: BTreeMap::new(),
        witness: None,
        without_witness: WithoutWitness::Wait,
        links: Vec::new(),
        groups: BTreeMap::new(),
        fencing: Default::default(),
        flapping: Flapping::default(),
    };
    for line in lines {
        let (head, rest) = line
            .split_once(':')
            .ok_or_else(|| format!("no `:` in {line}"))?;
        match head.strip_prefix("group ") {
            Some(name) => {
                let group = group(&config, rest)?;
                config.groups.insert(GroupId::from(name.trim()), group);
            }
            None => cluster(&mut config, rest)?,
        }
    }
    Ok(config)
}

fn cluster(config: &mut Cluster, rest: &str) -> Result<(), String> {
    for part in rest.split(';') {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words.as_slice() {
            ["nodes", names @ ..] => {
                for (id, name) in (1..).zip(names) {
                    config.nodes.insert(MemberId(id), node(name));
                }
            }
            ["witness", name] => {
                config.witness = Some(Witness {
                    id: MemberId(9),
                    name: (*name).into(),
                    addresses: Vec::new(),
                    disk: None,
                });
            }
            ["links", names @ ..] => {
                config.links = names
                    .iter()
                    .map(|name| Link {
                        name: (*name).into(),
                        addresses: BTreeMap::new(),
                    })
                    .collect();
            }
            ["fences"] => {
                let nodes: Vec<MemberId> = config.nodes.keys().copied().collect();
                config.fencing.devices = nodes.into_iter().map(|id| (id, vec![device()])).collect();
            }
            ["without-witness", "fence"] => config.without_witness = WithoutWitness::Fence,
            _ => return Err(format!("unknown: {part}")),
        }
    }
    Ok(())
}

fn device() -> FenceDevice {
    FenceDevice {
        name: "device".into(),
        level: 1,
        agent: "fence_none".into(),
        parameters: BTreeMap::new(),
        secrets: None,
        action: FenceAction::Reboot,
        timeout: Duration::from_secs(10),
    }
}

pub fn node(name: &str) -> Node {
    Node {
        name: name.into(),
        description: String::new(),
    }
}

fn group(config: &Cluster, rest: &str) -> Result<Group, String> {
    let mut group = Group {
        resources: resources(&["ip", "site>ip"]),
        nodes: config.nodes.keys().copied().collect(),
        start: StartMode::Automatic,
        takeover: Takeover::ByPriority,
        failback: Failback::Stay,
        restart: Restart::default(),
        on_start_failure: OnStartFailure::NextNode,
        on_stop_failure: OnStopFailure::Wait,
        final_action: FinalAction::StopGroup,
        on_switch_failure: OnSwitchFailure::GoBack,
        priority: 0,
        ungated: false,
        fence: false,
        confirm: Confirm::No,
        relations: Vec::new(),
    };
    for part in rest.split(';').filter(|part| !part.trim().is_empty()) {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words.as_slice() {
            ["nodes", names @ ..] => {
                let nodes: Option<_> = names.iter().map(|name| config.node_named(name)).collect();
                group.nodes = nodes.ok_or_else(|| format!("unknown node in {part}"))?;
            }
            ["resources", names @ ..] => group.resources = resources(names),
            ["mirror", name, options @ ..] => {
                let mirror = mirror(&group.nodes, options)?;
                group.resources.insert(ResourceId::from(*name), mirror);
            }
            ["fence"] => group.fence = true,
            ["ungated"] => group.ungated = true,
            ["on-stop-failure", "fence"] => group.on_stop_failure = OnStopFailure::Fence,
            ["start", "manual"] => group.start = StartMode::Manual,
            ["with", other, strength @ ..] => {
                group
                    .relations
                    .push(relation(RelationKind::With, other, strength));
            }
            ["apart", other, strength @ ..] => {
                group
                    .relations
                    .push(relation(RelationKind::Apart, other, strength));
            }
            ["after", other, strength @ ..] => {
                group
                    .relations
                    .push(relation(RelationKind::After, other, strength));
            }
            ["confirm"] => group.confirm = Confirm::Always,
            ["confirm", limit] => group.confirm = Confirm::Within(span(limit)?),
            ["takeover", "never"] => group.takeover = Takeover::Never,
            ["takeover", "highest-only"] => group.takeover = Takeover::HighestOnly,
            ["failback", delay] => {
                group.failback = Failback::Return {
                    delay: span(delay)?,
                }
            }
            ["on-start-failure", "wait"] => group.on_start_failure = OnStartFailure::Wait,
            ["on-start-failure", "retry", times] => {
                let times = times.parse().map_err(|_| format!("no number: {times}"))?;
                group.on_start_failure = OnStartFailure::Retry(times);
            }
            ["on-switch-failure", "wait"] => group.on_switch_failure = OnSwitchFailure::Wait,
            ["final", "nothing"] => group.final_action = FinalAction::Nothing,
            ["final", "reboot"] => group.final_action = FinalAction::Reboot,
            ["priority", number] => {
                group.priority = number.parse().map_err(|_| format!("no number: {number}"))?;
            }
            _ => return Err(format!("unknown: {part}")),
        }
    }
    Ok(group)
}

/// Hard, unless anything is said after the other's name.
fn relation(kind: RelationKind, other: &str, strength: &[&str]) -> Relation {
    Relation {
        kind,
        group: GroupId::from(other),
        strength: match strength {
            [] => Strength::Hard,
            _ => Strength::Preferred,
        },
    }
}

/// A mirror on the first two of `nodes`; the first one's data is kept.
fn mirror(nodes: &[MemberId], options: &[&str]) -> Result<Resource, String> {
    let on_split_brain = match options {
        [] => OnSplitBrain::ByHand,
        ["younger"] => OnSplitBrain::Younger,
        ["older"] => OnSplitBrain::Older,
        ["with-changes"] => OnSplitBrain::WithChanges,
        _ => return Err("unknown policy".into()),
    };
    let place = |node: &MemberId| {
        let place = CopyPlace {
            device: "/dev/vg/data".into(),
            metadata: None,
        };
        (*node, place)
    };
    let mirror = Mirror {
        size: 1 << 30,
        mode: MirrorMode::Synchronous,
        copies: nodes.iter().take(2).map(place).collect(),
        port: 14_400,
        links: Vec::new(),
        resync_rate: None,
        on_disk_failure: OnDiskFailure::FailOver,
        on_split_brain,
        export: Export::Auto,
        source: *nodes.first().ok_or("a mirror needs nodes")?,
    };
    let mut made = resources(&["mirror"]);
    let mut resource = made
        .remove(&ResourceId::from("mirror"))
        .ok_or("no resource")?;
    resource.kind = ResourceKind::Mirror(mirror);
    Ok(resource)
}

/// `site>ip`: `site` requires `ip`.
pub fn resources(names: &[&str]) -> BTreeMap<ResourceId, Resource> {
    let resource = |requires: &str| Resource {
        kind: ResourceKind::Service(Service {
            command: vec!["/usr/bin/true".into()],
            environment: Environment::default(),
        }),
        requires: requires
            .split('>')
            .filter(|r| !r.is_empty())
            .map(ResourceId::from)
            .collect::<BTreeSet<_>>(),
        detectors: Vec::new(),
        hooks: Vec::new(),
        start_timeout: Duration::from_secs(60),
        stop_timeout: Duration::from_secs(60),
        running_within: Duration::from_secs(120),
    };
    names
        .iter()
        .map(|name| {
            let (name, requires) = name.split_once('>').unwrap_or((name, ""));
            (ResourceId::from(name), resource(requires))
        })
        .collect()
}
