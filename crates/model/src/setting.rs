//! Which cluster is checked, and how far.

use hotpair_core::config::{
    Cluster, Environment, Failback, FinalAction, Flapping, Group, Node, OnStartFailure,
    OnStopFailure, OnSwitchFailure, Resource, ResourceKind, Restart, Service, StartMode, Takeover,
    Timing, WithoutWitness, Witness,
};
use hotpair_core::ids::{ClusterId, GroupId, MemberId, ResourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One tick of true time: a little more than a heartbeat, so that a host whose clock is slow by the
/// drift bound also beats at every tick.
pub const TICK_US: u64 = 1_020_000;

/// Ticks of a lease: so that the end of a lease is a tick, by an exact clock.
pub const LEASE_TICKS: u64 = 4;

/// How far schedules are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Ticks of one heartbeat after the start.
    pub ticks: u64,
    /// Departures from the schedule without faults.
    pub faults: u8,
    /// Requests of the operator.
    pub asks: u8,
    /// Faults of hosts alone, and only between ticks: deeper at the same cost.
    pub calm: bool,
}

/// Which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    pub nodes: usize,
    pub witness: bool,
    pub start: Start,
    /// Node 1 has the slowest clock the drift bound allows, everybody else the fastest.
    pub skewed: bool,
    /// Node 2 hears nothing of node 1, and knows of it by the others alone.
    pub deaf: bool,
    /// The witness is a quorum disk.
    pub disk: bool,
    /// Once the group runs nothing passes between the nodes any more.
    pub apart: bool,
}

/// From which states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// All hosts are powered on at once.
    Cold,
    /// The group runs on node 1.
    Running,
    /// The group runs on node 1, pinned since the cluster was disarmed.
    Disarmed,
}

impl Setting {
    /// Two nodes and a witness.
    #[must_use]
    pub const fn pair(start: Start) -> Self {
        Self {
            nodes: 2,
            witness: true,
            start,
            skewed: false,
            deaf: false,
            disk: false,
            apart: false,
        }
    }

    /// Two nodes and a quorum disk.
    #[must_use]
    pub const fn with_disk(start: Start) -> Self {
        Self {
            disk: true,
            ..Self::pair(start)
        }
    }

    /// Machines in all.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.nodes + usize::from(self.witness && !self.disk)
    }

    /// The member that is a quorum disk.
    #[must_use]
    pub fn disk_member(&self) -> Option<MemberId> {
        self.disk.then(|| member(self.nodes))
    }

    /// Parts per million by which the clock of host `index` runs fast.
    #[must_use]
    pub(crate) fn ppm(&self, index: usize) -> i64 {
        match (self.skewed, index) {
            (false, _) => 0,
            (true, 0) => -10_000,
            (true, _) => 10_000,
        }
    }

    pub(crate) fn cluster(&self) -> Cluster {
        let nodes = (0..self.nodes).map(|index| {
            let node = Node {
                name: format!("node{}", index + 1),
                description: String::new(),
            };
            (member(index), node)
        });
        let witness = self.witness.then(|| Witness {
            id: member(self.nodes),
            name: "witness".into(),
            addresses: Vec::new(),
            disk: None,
        });
        Cluster {
            name: "model".into(),
            id: ClusterId(1),
            timing: timing(),
            nodes: nodes.collect(),
            witness,
            without_witness: WithoutWitness::Wait,
            links: Vec::new(),
            groups: BTreeMap::from([(group_id(), group(self.nodes))]),
            fencing: Default::default(),
            flapping: Flapping {
                times: 0,
                window: Duration::from_secs(600),
            },
        }
    }
}

/// Member number of host `index`.
#[must_use]
pub fn member(index: usize) -> MemberId {
    MemberId(u8::try_from(index + 1).unwrap_or(u8::MAX))
}

/// The only group.
#[must_use]
pub fn group_id() -> GroupId {
    GroupId::from("g")
}

fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_secs(1),
        warn_after: 2,
        down_after: 2,
        lease: Duration::from_micros(TICK_US * LEASE_TICKS),
        first_start_delay: Duration::from_secs(1),
        ungated_margin: Duration::from_secs(3),
    }
}

fn group(nodes: usize) -> Group {
    let service = Resource {
        kind: ResourceKind::Service(Service {
            command: vec!["serve".into()],
            environment: Environment::default(),
        }),
        requires: BTreeSet::new(),
        detectors: Vec::new(),
        hooks: Vec::new(),
        start_timeout: Duration::from_secs(60),
        stop_timeout: Duration::from_secs(60),
        running_within: Duration::from_secs(60),
    };
    Group {
        resources: BTreeMap::from([(ResourceId::from("service"), service)]),
        nodes: (0..nodes).map(member).collect(),
        start: StartMode::Automatic,
        takeover: Takeover::ByPriority,
        failback: Failback::Stay,
        restart: Restart::default(),
        on_start_failure: OnStartFailure::NextNode,
        on_stop_failure: OnStopFailure::Kill,
        final_action: FinalAction::Nothing,
        on_switch_failure: OnSwitchFailure::GoBack,
        priority: 0,
        ungated: false,
        fence: false,
        confirm: hotpair_core::config::Confirm::No,
        relations: Vec::new(),
    }
}
