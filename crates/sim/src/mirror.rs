//! A mirror under one of the groups: the real engine of `hotpair-volume` on both nodes, with that
//! crate's simulated disks and its ledger of what the application may read.
//!
//! ```text
//!   daemon --orders, Connected--> process (Engine) <--wire--> the other node's process
//!      ^ reports                    |  effects
//!      +----------------------------+--> disk     application --reads, writes--> device
//! ```
//!
//! `process`: process, wire and disk; `work`: what the executor asks for; `application`: requests and what
//! may come of them; `check`: what documents may say; `trouble`: what goes wrong.

mod application;
mod check;
mod process;
mod trouble;
mod work;

pub use trouble::{MirrorFault, draw as draw_trouble};

use crate::cluster::{host_of, member};
use crate::host::PartState;
use crate::rng::Rng;
use crate::world::{Event, World};
use application::Io;
use hotpair_core::config::{
    Cluster, CopyPlace, Export, Mirror, MirrorMode, OnDiskFailure, OnSplitBrain, Resource,
    ResourceKind,
};
use hotpair_core::ids::{Epoch, GroupId, MemberId, ResourceId, Version};
use hotpair_core::mirror::{MirrorCommitted, MirrorOrders, MirrorReport};
use hotpair_volume::engine::{Found, IoId};
use hotpair_volume::link::Message;
use hotpair_volume::sim::disk::Disk;
use hotpair_volume::sim::ledger::{FIRST, GARBAGE, Ledger};
use hotpair_volume::sim::node::Node;
use std::collections::BTreeMap;
use std::time::Duration;

/// Name of the mirror in its group.
const NAME: &str = "mirror";
const BLOCK: u64 = 4096;

/// Something that is about to happen to the mirror.
#[derive(Debug)]
pub enum Happening {
    /// Work of the disk ends.
    Finish {
        side: usize,
        power: u64,
        life: u64,
        work: u64,
    },
    Deliver {
        to: usize,
        conn: u64,
        packet: Packet,
    },
    Connected {
        side: usize,
        conn: u64,
    },
    /// This end of the connection is closed.
    Lost {
        side: usize,
        conn: u64,
    },
    Timer {
        side: usize,
        life: u64,
    },
    Orders {
        side: usize,
        life: u64,
        orders: Box<MirrorOrders>,
    },
    /// Of the process, for the daemon of that life.
    News {
        side: usize,
        daemon: u64,
        news: News,
    },
    /// Connecting, starting of processes, looking at gates.
    Look,
    Application,
}

#[derive(Debug)]
pub enum Packet {
    Message(Box<Message>, Option<Vec<u64>>),
    /// The other end closed the connection.
    End,
}

/// What the daemon hears of the process.
#[derive(Clone, Debug)]
pub enum News {
    Connected,
    Report(Box<MirrorReport>),
    Lost,
}

/// One copy, with its host's process.
struct Side {
    host: usize,
    node: Node,
    /// As last told.
    orders: Option<Box<MirrorOrders>>,
    /// Life of the daemon that it is connected to.
    daemon: Option<u64>,
    /// What that daemon believes to be open.
    known_open: Option<Epoch>,
    /// The process may be started again.
    start_at: u64,
    asked: Option<work::Asked>,
    /// The gate was found closed since the device was opened.
    shut: bool,
    /// No request passes any more.
    closing: bool,
    /// The operator said that this host is down, or kept the other copy, at that time.
    given_up_at: Option<u64>,
    broken_until: u64,
    full_until: u64,
}

#[derive(Debug, Default)]
struct Wire {
    conn: u64,
    alive: bool,
    /// Nothing arrives before, so that nothing overtakes.
    arrived: [u64; 2],
    broken_until: u64,
    stalled_until: [u64; 2],
}

/// The mirror of a simulated cluster.
pub struct Mirrored {
    pub group: GroupId,
    pub resource: ResourceId,
    sides: [Side; 2],
    wire: Wire,
    ledger: Ledger,
    ios: BTreeMap<IoId, Io>,
    next_io: u64,
    next_ticket: u64,
    sectors: u64,
    spots: Vec<u64>,
    load: Load,
    opens: Vec<(Epoch, usize)>,
    /// Data was given up, by policy or by the operator's word: at the next opening.
    given_up: bool,
    /// Documents up to this version were looked at.
    checked: Version,
    quiet_until: u64,
    rng: Rng,
    chance: Rng,
    pub counts: Counts,
}

/// How much has happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub writes: u64,
    pub reads: u64,
    pub opens: u64,
    pub solos: u64,
    pub resyncs: u64,
    pub given_up: u64,
}

/// What the application does, in hundredths.
#[derive(Clone, Copy, Debug)]
struct Load {
    reads: u64,
    flushes: u64,
    discards: u64,
    fua: u64,
    depth: usize,
    /// Longest time between two requests, in microseconds.
    gap_us: u64,
}

/// Puts a mirror under group 0 of some seeds' clusters.
pub fn draw(rng: &mut Rng, cluster: &mut Cluster) {
    if cluster.nodes.len() < 2 {
        return;
    }
    let id = crate::cluster::group_id(0);
    let Some(group) = cluster.groups.get_mut(&id) else {
        return;
    };
    group.nodes.truncate(2);
    // Its writes stop at the gate.
    group.ungated = false;
    add(group, rng);
}

/// Puts a mirror under `group`, on its first two nodes; everything in the group needs it.
pub fn add(group: &mut hotpair_core::config::Group, rng: &mut Rng) {
    let copies: Vec<MemberId> = group.nodes.iter().copied().take(2).collect();
    let Some(&source) = copies.get(rng.index(2)) else {
        return;
    };
    let place = || CopyPlace {
        device: "/dev/sdb".into(),
        metadata: None,
    };
    let mirror = Mirror {
        size: rng.range(256, 2_500) * BLOCK,
        mode: MirrorMode::Synchronous,
        copies: copies.iter().map(|&node| (node, place())).collect(),
        port: 14_340,
        links: Vec::new(),
        resync_rate: None,
        on_disk_failure: if rng.percent(50) {
            OnDiskFailure::FailOver
        } else {
            OnDiskFailure::GoOn
        },
        on_split_brain: match rng.below(4) {
            0 => OnSplitBrain::Younger,
            1 => OnSplitBrain::Older,
            2 => OnSplitBrain::WithChanges,
            _ => OnSplitBrain::ByHand,
        },
        export: Export::default(),
        source,
    };
    let name = ResourceId::from(NAME);
    for resource in group.resources.values_mut() {
        resource.requires.insert(name.clone());
    }
    let resource = Resource {
        kind: ResourceKind::Mirror(mirror),
        requires: std::collections::BTreeSet::new(),
        detectors: Vec::new(),
        hooks: Vec::new(),
        start_timeout: Duration::from_secs(rng.range(3, 10)),
        stop_timeout: Duration::from_secs(rng.range(3, 10)),
        running_within: Duration::from_secs(5),
    };
    group.resources.insert(name, resource);
}

/// The first mirror of the configuration.
fn find(cluster: &Cluster) -> Option<(GroupId, ResourceId, &Mirror)> {
    cluster.groups.iter().find_map(|(id, group)| {
        let (resource, mirror) = group.mirrors().next()?;
        Some((id.clone(), resource.clone(), mirror))
    })
}

impl Mirrored {
    /// The mirror of `cluster`, if it has one.
    #[must_use]
    pub fn of(cluster: &Cluster, seed: u64) -> Option<Self> {
        let (group, resource, mirror) = find(cluster)?;
        let mut rng = Rng::new(seed, 8);
        let blocks = mirror.size / BLOCK;
        let sectors = usize::try_from(blocks * 8).unwrap_or(0);
        let mut side = |id: MemberId| {
            let fill = |n: usize| match (id == mirror.source, n % 5) {
                (_, 0) => 0,
                (true, _) => FIRST | n as u64,
                (false, _) => GARBAGE | n as u64,
            };
            let found = Found {
                size: mirror.size + 1024 * 1024,
                beside: rng.percent(50),
                holds: None,
                earlier: Vec::new(),
            };
            let disk = Disk::new((0..sectors).map(fill).collect());
            Side::new(host_of(id), Node::new(id, disk, found))
        };
        let mut copies = mirror.copies.keys().copied();
        let sides = [side(copies.next()?), side(copies.next()?)];
        let spots = (0..rng.range(2, 40)).map(|_| rng.below(blocks)).collect();
        let load = Load {
            reads: rng.range(10, 60),
            flushes: rng.range(0, 15),
            discards: rng.range(0, 5),
            fua: rng.range(0, 20),
            depth: usize::try_from(rng.range(1, 8)).unwrap_or(1),
            gap_us: [5_000, 30_000, 100_000][rng.index(3)],
        };
        Some(Self {
            group,
            resource,
            sides,
            wire: Wire::default(),
            ledger: Ledger::new(sectors),
            ios: BTreeMap::new(),
            next_io: 0,
            next_ticket: 0,
            sectors: blocks * 8,
            spots,
            load,
            opens: Vec::new(),
            given_up: false,
            checked: Version::ZERO,
            quiet_until: 0,
            chance: Rng::new(rng.bits(), 0),
            rng,
            counts: Counts::default(),
        })
    }

    fn side_of(&self, host: usize) -> Option<usize> {
        self.sides.iter().position(|side| side.host == host)
    }

    fn part(&self) -> (GroupId, ResourceId) {
        (self.group.clone(), self.resource.clone())
    }
}

impl Side {
    fn new(host: usize, node: Node) -> Self {
        Self {
            host,
            node,
            orders: None,
            daemon: None,
            known_open: None,
            start_at: 0,
            asked: None,
            shut: false,
            closing: false,
            given_up_at: None,
            broken_until: 0,
            full_until: 0,
        }
    }

    /// What is known to be committed is not forgotten by orders without it (rule R0).
    fn take_orders(&mut self, mut orders: Box<MirrorOrders>) {
        let known = self.orders.take().and_then(|orders| orders.committed);
        let version = |it: &Option<MirrorCommitted>| it.as_ref().map(|it| it.version);
        if version(&known) > version(&orders.committed) {
            orders.committed = known;
        }
        self.orders = Some(orders);
    }

    fn member(&self) -> MemberId {
        member(self.host)
    }
}

impl World {
    pub(crate) fn begin_mirror(&mut self) {
        if self.mirror.is_some() {
            self.mirror_in(1_000, Happening::Look);
            self.mirror_in(1_000, Happening::Application);
        }
    }

    fn mirror_in(&mut self, delay_us: u64, happening: Happening) {
        self.queue
            .push(self.now_us + delay_us, Event::Mirror(Box::new(happening)));
    }

    pub(crate) fn mirror_happens(&mut self, happening: Happening) {
        match happening {
            Happening::Finish {
                side,
                power,
                life,
                work,
            } => self.mirror_finish(side, power, life, work),
            Happening::Deliver { to, conn, packet } => self.mirror_deliver(to, conn, packet),
            Happening::Connected { side, conn } => self.mirror_connected(side, conn),
            Happening::Lost { side, conn } => self.mirror_lost(side, conn),
            Happening::Timer { side, life } => self.mirror_timer(side, life),
            Happening::Orders { side, life, orders } => self.mirror_ordered(side, life, orders),
            Happening::News { side, daemon, news } => self.mirror_news(side, daemon, news),
            Happening::Look => self.mirror_look(),
            Happening::Application => self.mirror_application(),
        }
    }

    /// Is the resource the simulated mirror?
    pub(crate) fn is_mirror(&self, name: &(GroupId, ResourceId)) -> bool {
        self.mirror
            .as_ref()
            .is_some_and(|mirror| (&mirror.group, &mirror.resource) == (&name.0, &name.1))
    }

    /// For the trace.
    pub(crate) fn mirror_note(&mut self, side: usize, text: impl FnOnce() -> String) {
        if self.trace.is_some()
            && let Some(mirror) = &self.mirror
        {
            let line = format!("m{} mirror {}", mirror.sides[side].host + 1, text());
            self.keep_line(line);
        }
    }

    fn mirror_part_state(&self, side: usize) -> PartState {
        let Some(mirror) = &self.mirror else {
            return PartState::Down;
        };
        let parts = &self.hosts[mirror.sides[side].host].parts;
        parts
            .get(&mirror.part())
            .map_or(PartState::Down, |part| part.state)
    }
}
