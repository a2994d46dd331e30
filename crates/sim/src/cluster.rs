//! Which cluster a seed is about: members, timing, groups, clocks, network and disks.

use crate::rng::Rng;
use hotpair_core::config::{
    Address, Check, Cluster, Detector, Environment, Failback, FenceAction, FenceDevice,
    FinalAction, Flapping, Group, Link, Node, Ocf, OnStartFailure, OnStopFailure, OnSwitchFailure,
    Program, Relation, RelationKind, Resource, ResourceKind, Restart, Service, StartMode, Strength,
    Takeover, Timing, WithoutWitness, Witness,
};
use hotpair_core::ids::{ClusterId, GroupId, MemberId, ResourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Everything about the simulated machines that is not the cluster's own configuration.
#[derive(Clone, Debug)]
pub struct Machines {
    /// Hosts, including spare ones that are members of no configuration yet.
    pub hosts: usize,
    /// Parts per million by which the raw clock of each host runs fast.
    pub raw_ppm: Vec<i64>,
    pub network: Network,
    /// Shortest and longest durable write, in microseconds.
    pub disk_us: (u64, u64),
    /// Shortest and longest start or stop of a program, in microseconds.
    pub program_us: (u64, u64),
    /// The witness is a quorum disk; its shortest and longest write or read, in microseconds.
    pub quorum_us: Option<(u64, u64)>,
}

/// The network while nothing is wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Shortest and longest way of a packet, in microseconds.
    pub delay_us: (u64, u64),
    pub loss_ppm: u64,
    pub repeat_ppm: u64,
    /// Packets that take up to ten times as long, and so are overtaken.
    pub late_ppm: u64,
}

/// Member number of host `index`.
#[must_use]
pub fn member(index: usize) -> MemberId {
    MemberId(u8::try_from(index + 1).unwrap_or(u8::MAX))
}

/// Host of `member`.
#[must_use]
pub fn host_of(member: MemberId) -> usize {
    usize::from(member.0).saturating_sub(1)
}

/// Group number `index`.
#[must_use]
pub fn group_id(index: usize) -> GroupId {
    GroupId(format!("g{index}"))
}

/// A plain cluster for scripted scenarios: `nodes` nodes, a witness or none, `groups` groups of
/// one address and one service, the preferred nodes taken in turn.
#[must_use]
pub fn plain(nodes: usize, witness: bool, groups: usize, timing: Timing) -> Cluster {
    let mut cluster = empty(nodes, witness, timing);
    for index in 0..groups {
        let mut group = plain_group(index, nodes);
        group.nodes.rotate_left(index % nodes);
        cluster.groups.insert(group_id(index), group);
    }
    cluster
}

/// Machines with equal clocks and a quiet network.
#[must_use]
pub fn quiet(hosts: usize) -> Machines {
    Machines {
        hosts,
        raw_ppm: vec![0; hosts],
        network: Network {
            delay_us: (150, 400),
            loss_ppm: 0,
            repeat_ppm: 0,
            late_ppm: 0,
        },
        disk_us: (400, 2_000),
        program_us: (5_000, 20_000),
        quorum_us: None,
    }
}

/// Draws a cluster and its machines.
pub fn draw(rng: &mut Rng) -> (Cluster, Machines) {
    let (nodes, witness) = match rng.below(100) {
        0..54 => (2, true),
        54..68 => (3, false),
        68..76 => (2, false),
        76..87 => (4, true),
        87..93 => (5, false),
        93..96 => (7, false),
        96..98 => (6, true),
        _ => (1, true),
    };
    let timing = draw_timing(rng);
    let mut cluster = empty(nodes, witness, timing);
    for index in 0..usize::try_from(rng.range(1, 4)).unwrap_or(1) {
        cluster
            .groups
            .insert(group_id(index), draw_group(rng, index, nodes));
    }
    if rng.percent(30) {
        cluster.flapping.times = 1000;
    }
    let hosts = nodes + usize::from(witness) + 2;
    (cluster, draw_machines(rng, hosts))
}

fn draw_machines(rng: &mut Rng, hosts: usize) -> Machines {
    let exact = rng.percent(20);
    let extreme = rng.percent(30);
    let rates = (0..hosts).map(|_| match (exact, extreme) {
        (true, _) => 0,
        (false, true) if rng.percent(50) => 10_000,
        (false, true) => -10_000,
        (false, false) => rng.around(10_000),
    });
    let raw_ppm = rates.collect();
    let lossy = rng.percent(30);
    let fast = rng.range(50, 300);
    Machines {
        hosts,
        raw_ppm,
        network: Network {
            delay_us: (fast, fast + rng.range(50, 3_000)),
            loss_ppm: if lossy { rng.range(0, 50_000) } else { 0 },
            repeat_ppm: rng.below(2) * rng.range(0, 30_000),
            late_ppm: rng.below(2) * rng.range(0, 50_000),
        },
        disk_us: (300, rng.range(500, 20_000)),
        program_us: (1_000, rng.range(2_000, 300_000)),
        quorum_us: None,
    }
}

/// `standard` and `fast` mostly, sometimes others.
pub fn draw_timing(rng: &mut Rng) -> Timing {
    let mut timing = match rng.below(100) {
        0..50 => Timing::standard(),
        50..80 => Timing::fast(),
        80..86 => Timing::wan(),
        _ => {
            let heartbeat = Duration::from_millis(rng.range(20, 250));
            Timing {
                heartbeat,
                lease: heartbeat * u32::try_from(rng.range(4, 12)).unwrap_or(4),
                down_after: u32::try_from(rng.range(2, 8)).unwrap_or(2),
                ..Timing::standard()
            }
        }
    };
    if rng.percent(50) {
        timing.first_start_delay = Duration::from_millis(500);
    }
    if rng.percent(50) {
        timing.ungated_margin = Duration::from_secs(2);
    }
    timing
}

fn empty(nodes: usize, witness: bool, timing: Timing) -> Cluster {
    let witness = witness.then(|| witness_at(nodes));
    let mut cluster = Cluster {
        name: "simulated".into(),
        id: ClusterId(1),
        timing,
        nodes: BTreeMap::new(),
        witness,
        without_witness: WithoutWitness::Wait,
        links: vec![Link {
            name: "lan".into(),
            addresses: BTreeMap::new(),
        }],
        groups: BTreeMap::new(),
        fencing: Default::default(),
        flapping: Flapping::default(),
    };
    for index in 0..nodes {
        add_node(&mut cluster, index);
    }
    cluster
}

/// A witness on host `index`.
#[must_use]
pub fn witness_at(index: usize) -> Witness {
    Witness {
        id: member(index),
        name: format!("witness{}", index + 1),
        addresses: vec![socket(index)],
        disk: None,
    }
}

/// Host `index` becomes a node.
pub fn add_node(cluster: &mut Cluster, index: usize) {
    let node = Node {
        name: format!("node{}", index + 1),
        description: String::new(),
    };
    cluster.nodes.insert(member(index), node);
    for link in &mut cluster.links {
        link.addresses.insert(member(index), socket(index));
    }
}

/// `node` is in the configuration no more.
pub fn remove_node(cluster: &mut Cluster, node: MemberId) {
    cluster.nodes.remove(&node);
    for link in &mut cluster.links {
        link.addresses.remove(&node);
    }
    for group in cluster.groups.values_mut() {
        group.nodes.retain(|&other| other != node);
    }
}

fn socket(index: usize) -> SocketAddr {
    let last = u8::try_from(index + 1).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 14338)
}

fn plain_group(index: usize, nodes: usize) -> Group {
    let address = ResourceId::from("address");
    let resources = BTreeMap::from([
        (address.clone(), resource(address_kind(index), [])),
        (
            ResourceId::from("service"),
            resource(service_kind(), [address]),
        ),
    ]);
    Group {
        resources,
        nodes: (0..nodes).map(member).collect(),
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
        confirm: hotpair_core::config::Confirm::No,
        relations: Vec::new(),
    }
}

fn draw_group(rng: &mut Rng, index: usize, nodes: usize) -> Group {
    let mut group = plain_group(index, nodes);
    rng.shuffle(&mut group.nodes);
    if nodes > 2 && rng.percent(30) {
        group.nodes.truncate(2);
    }
    draw_resources(rng, &mut group);
    group.takeover = match rng.below(20) {
        0 => Takeover::Never,
        1 => Takeover::HighestOnly,
        _ => Takeover::ByPriority,
    };
    if rng.percent(20) {
        let delay = Duration::from_millis(rng.range(0, 5_000));
        group.failback = Failback::Return { delay };
    }
    if rng.percent(5) {
        group.start = StartMode::Manual;
    }
    group.restart.max = u32::try_from(rng.below(4)).unwrap_or(0);
    group.on_start_failure = match rng.below(4) {
        0 => OnStartFailure::Retry(2),
        1 => OnStartFailure::Wait,
        _ => OnStartFailure::NextNode,
    };
    if rng.percent(50) {
        group.on_stop_failure = OnStopFailure::Kill;
    }
    group.final_action = match rng.below(10) {
        0..5 => FinalAction::StopGroup,
        5..7 => FinalAction::Nothing,
        7..8 => FinalAction::StopHotpair,
        _ => FinalAction::Reboot,
    };
    if rng.percent(30) {
        group.on_switch_failure = OnSwitchFailure::Wait;
    }
    group.priority = i32::try_from(rng.below(3)).unwrap_or(0);
    group.ungated = rng.percent(15);
    group
}

/// Gives every node a fence device, and groups that rely on it.
pub fn draw_fences(rng: &mut Rng, cluster: &mut Cluster) {
    let device = FenceDevice {
        name: "device".into(),
        level: 1,
        agent: "fence_simulated".into(),
        parameters: BTreeMap::new(),
        secrets: None,
        action: FenceAction::Reboot,
        timeout: Duration::from_secs(10),
    };
    let nodes = cluster.nodes.keys();
    cluster.fencing.devices = nodes.map(|&node| (node, vec![device.clone()])).collect();
    cluster.fencing.delay = Duration::from_millis(rng.range(0, 10_000));
    if rng.percent(70) {
        cluster.without_witness = WithoutWitness::Fence;
    }
    for group in cluster.groups.values_mut() {
        group.fence = rng.percent(50);
        if rng.percent(50) {
            group.on_stop_failure = OnStopFailure::Fence;
        }
    }
}

/// Gives each group but the first a relation to the one before it.
pub fn relate(rng: &mut Rng, cluster: &mut Cluster) {
    for index in 1..cluster.groups.len() {
        let before = group_id(index - 1);
        let nodes = cluster.groups.get(&before).map(|group| group.nodes.clone());
        let Some(group) = cluster.groups.get_mut(&group_id(index)) else {
            continue;
        };
        let relation = |kind, strength| Relation {
            kind,
            group: before.clone(),
            strength,
        };
        let strength = if rng.percent(70) {
            Strength::Hard
        } else {
            Strength::Preferred
        };
        let kind = match rng.below(5) {
            0 | 1 => RelationKind::With,
            2 | 3 => RelationKind::Apart,
            _ => RelationKind::After,
        };
        group.relations.push(relation(kind, strength));
        if kind == RelationKind::With {
            if rng.percent(50) {
                group
                    .relations
                    .push(relation(RelationKind::After, strength));
            }
            // It may run wherever that one may; a mirror stays where its copies are.
            if let Some(nodes) = nodes
                && group.mirrors().next().is_none()
            {
                group.nodes = nodes;
            }
        }
    }
}

fn draw_resources(rng: &mut Rng, group: &mut Group) {
    let extra = rng.below(3);
    for number in 0..extra {
        let names: Vec<_> = group.resources.keys().cloned().collect();
        let mut requires = BTreeSet::new();
        if rng.percent(70) {
            requires.insert(names[rng.index(names.len())].clone());
        }
        let kind = if rng.percent(50) {
            service_kind()
        } else if number == 1 {
            agent_kind()
        } else {
            program_kind()
        };
        let mut one = resource(kind, []);
        one.requires = requires;
        group
            .resources
            .insert(ResourceId(format!("program{number}")), one);
    }
    for resource in group.resources.values_mut() {
        resource.start_timeout = Duration::from_millis(rng.range(500, 3_000));
        resource.stop_timeout = Duration::from_millis(rng.range(500, 3_000));
        resource.running_within = Duration::from_secs(3);
        if rng.percent(40) {
            resource.detectors.clear();
        }
    }
}

fn resource<const N: usize>(kind: ResourceKind, requires: [ResourceId; N]) -> Resource {
    let detector = Detector {
        check: Check::Process {
            name: "simulated".into(),
        },
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(3),
        tries: 1,
        of_node: false,
    };
    let address = matches!(kind, ResourceKind::Address(_));
    Resource {
        kind,
        requires: requires.into(),
        detectors: if address { Vec::new() } else { vec![detector] },
        hooks: Vec::new(),
        start_timeout: Duration::from_secs(2),
        stop_timeout: Duration::from_secs(2),
        running_within: Duration::from_secs(5),
    }
}

fn address_kind(group: usize) -> ResourceKind {
    let last = u8::try_from(100 + group).unwrap_or(u8::MAX);
    ResourceKind::Address(Address {
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 1, last)),
        prefix: 24,
        nics: vec!["eth0".into()],
        nics_on: BTreeMap::new(),
        gateway: None,
    })
}

fn service_kind() -> ResourceKind {
    ResourceKind::Service(Service {
        command: vec!["/bin/serve".into()],
        environment: Environment::default(),
    })
}

fn agent_kind() -> ResourceKind {
    ResourceKind::Ocf(Ocf {
        provider: "heartbeat".into(),
        agent: "Dummy".into(),
        parameters: BTreeMap::new(),
        interval: Duration::from_secs(5),
        monitor_timeout: Duration::from_secs(3),
        check_level: 0,
    })
}

fn program_kind() -> ResourceKind {
    ResourceKind::Program(Program {
        start: vec!["/bin/start".into()],
        stop: vec!["/bin/stop".into()],
        status: None,
        environment: Environment::default(),
    })
}
