//! What a schedule is played on: a cluster in good order with known roles, and the handles to disturb it.

use crate::check::Rule;
use crate::cluster::{self, Machines};
use crate::fault::{Fault, Operator};
use crate::operator::unsettled;
use crate::rng::Rng;
use crate::world::{Lane, Way, World};
use hotpair_core::config::{Cluster, Timing};
use hotpair_core::document::{Document, Placement};
use hotpair_core::ids::{GroupId, Version};
use hotpair_core::request::Request;
use std::sync::Arc;
use std::time::Duration;

pub(super) const MS: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;

/// Step in which a schedule looks whether what it waits for has come, in microseconds.
const LOOK_US: u64 = 500;

/// A schedule ends early with `None` when what it waits for does not come, or a promise is broken.
pub(super) type Played = Option<()>;

/// A cluster of a seed, and its machines, before the schedule begins.
pub(super) struct Setting {
    pub cluster: Cluster,
    pub machines: Machines,
}

/// Heartbeats of 40 to 80 ms and leases of twelve: a node is taken to be down long before its lease ends.
pub(super) fn long_lease(rng: &mut Rng) -> Timing {
    let heartbeat = Duration::from_millis(rng.range(40, 80));
    Timing {
        heartbeat,
        warn_after: 2,
        down_after: 3,
        lease: heartbeat * 12,
        first_start_delay: Duration::from_millis(500),
        ungated_margin: Duration::from_secs(2),
    }
}

/// `nodes` nodes, a witness if `witness`, one group; every clock at one end of what is tolerated.
pub(super) fn setting(rng: &mut Rng, nodes: usize, witness: bool) -> Setting {
    let timing = long_lease(rng);
    let mut cluster = cluster::plain(nodes, witness, 1, timing);
    cluster.flapping.times = 1_000;
    let hosts = nodes + usize::from(witness) + 1;
    let mut machines = cluster::quiet(hosts);
    for ppm in &mut machines.raw_ppm {
        *ppm = if rng.percent(50) { 10_000 } else { -10_000 };
    }
    let fast = rng.range(50, 300);
    machines.network.delay_us = (fast, fast + rng.range(50, 500));
    Setting { cluster, machines }
}

/// A world with its roles: `a` holds the group, `b` leads, `rest` are the other members, the witness
/// last if there is one.
pub(super) struct Stage<'w> {
    pub world: &'w mut World,
    pub rng: Rng,
    pub group: GroupId,
    pub a: usize,
    pub b: usize,
    pub rest: Vec<usize>,
    /// Heartbeat interval, lease and time until a silent member counts as down, in microseconds.
    pub beat_us: u64,
    pub lease_us: u64,
    pub down_us: u64,
}

impl<'w> Stage<'w> {
    /// Waits until everything runs, and sees to it that another node than the leader holds the group.
    pub fn open(world: &'w mut World, rng: Rng) -> Option<Self> {
        let timing = world.first.timing.clone();
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let mut stage = Self {
            beat_us: micros(timing.heartbeat),
            lease_us: micros(timing.lease),
            down_us: micros(timing.down()),
            group: cluster::group_id(0),
            world,
            rng,
            a: 0,
            b: 0,
            rest: Vec::new(),
        };
        stage.settle()?;
        stage.cast()?;
        stage.wait(2 * stage.lease_us);
        Some(stage)
    }

    /// Gives out the roles.
    fn cast(&mut self) -> Played {
        let leader = self.world.leader()?;
        let group = self.group.clone();
        if self.world.serving(&group)? == leader {
            let to = (0..self.nodes()).find(|&node| node != leader)?;
            self.switch(to);
            self.until(10 * SECOND, |world| world.serves(to, &group))?;
            self.settle()?;
        }
        self.a = self.world.serving(&group)?;
        self.b = self.world.leader()?;
        let members = self.world.first.members();
        let others = members.into_iter().map(cluster::host_of);
        self.rest = others
            .filter(|&host| host != self.a && host != self.b)
            .collect();
        (self.a != self.b).then_some(())
    }

    fn nodes(&self) -> usize {
        self.world.first.nodes.len()
    }

    /// The member that is neither holder nor leader; with a witness and two nodes, the witness.
    pub fn third(&self) -> usize {
        self.rest.first().copied().unwrap_or(0)
    }

    pub fn settle(&mut self) -> Played {
        self.until(30 * SECOND, |world| unsettled(world).is_none())
    }

    pub fn wait(&mut self, span_us: u64) {
        self.world.run_for(span_us);
    }

    /// A while of random length up to `most_us`.
    pub fn pause(&mut self, most_us: u64) {
        let span = self.rng.range(0, most_us);
        self.wait(span);
    }

    /// Waits for `come`, at most so long.
    pub fn until(&mut self, most_us: u64, come: impl Fn(&World) -> bool) -> Played {
        let end = self.world.now_us + most_us;
        while !come(self.world) {
            if self.world.now_us >= end || self.world.violation.is_some() {
                return None;
            }
            self.world.run_for(LOOK_US);
        }
        Some(())
    }

    pub fn fault(&mut self, fault: Fault) {
        self.world.inflict(fault);
    }

    pub fn ask(&mut self, at: usize, what: Operator) {
        self.world.operate(at, what);
    }

    /// A switchover, asked for at the leader.
    pub fn switch(&mut self, to: usize) {
        let request = Request::GroupSwitch {
            group: self.group.clone(),
            to: Some(cluster::member(to)),
        };
        let Some(leader) = self.world.leader() else {
            return;
        };
        self.world.ask(leader, request);
    }

    /// Does something that changes the document and moves nothing, at `host`.
    pub fn touch(&mut self, host: usize) {
        let node = cluster::member(host);
        let off = self.world.hosts[host].document.as_ref().is_some_and(|it| {
            let it = it.groups.get(&self.group);
            it.is_some_and(|it| it.disabled_on.contains(&node))
        });
        let (group, node) = (self.group.clone(), Some(node));
        let request = if off {
            Request::GroupEnable { group, node }
        } else {
            Request::GroupDisable { group, node }
        };
        self.world.ask(host, request);
    }

    pub fn lane(&mut self, from: usize, to: usize) -> &mut Lane {
        &mut self.world.lanes[from][to]
    }

    /// Cuts or mends both directions between two hosts, for every kind of packet.
    pub fn cut(&mut self, one: usize, other: usize, cut: bool) {
        for (from, to) in [(one, other), (other, one)] {
            let way = Way { cut, more_us: 0 };
            *self.lane(from, to) = Lane {
                datagrams: way,
                messages: way,
            };
        }
    }

    /// Cuts or mends the messages in both directions, and leaves the heartbeats.
    pub fn cut_messages(&mut self, one: usize, other: usize, cut: bool) {
        self.lane(one, other).messages.cut = cut;
        self.lane(other, one).messages.cut = cut;
    }

    /// Cuts or mends everything between `host` and all others.
    pub fn isolate(&mut self, host: usize, cut: bool) {
        for other in self.others(host) {
            self.cut(host, other, cut);
        }
    }

    /// Nothing of `from` arrives at `to`.
    pub fn cut_outward(&mut self, from: usize, to: usize) {
        let lane = self.lane(from, to);
        lane.datagrams.cut = true;
        lane.messages.cut = true;
    }

    pub fn others(&self, host: usize) -> Vec<usize> {
        let hosts = 0..self.world.hosts.len();
        hosts.filter(|&other| other != host).collect()
    }

    /// The newest document that `host` has.
    pub fn document(&self, host: usize) -> Option<&Arc<Document>> {
        self.world.hosts[host].document.as_ref()
    }

    pub fn version(&self, host: usize) -> Version {
        self.document(host)
            .map_or(Version::ZERO, |document| document.version)
    }

    pub fn until_leads(&mut self, host: usize, most_us: u64) -> Played {
        self.until(most_us, |world| {
            let wanted = world.hosts[host].wanted.as_ref();
            wanted.is_some_and(|wanted| wanted.leads)
        })
    }

    /// Waits until `host` has a document in which `so` holds of the group.
    pub fn until_placed(
        &mut self,
        host: usize,
        most_us: u64,
        so: impl Fn(&Placement) -> bool,
    ) -> Played {
        let group = self.group.clone();
        self.until(most_us, |world| {
            let document = world.hosts[host].document.as_ref();
            document.is_some_and(|document| document.groups.get(&group).is_some_and(&so))
        })
    }

    /// Waits until `host` knows a document newer than `version` to be committed.
    pub fn until_committed(&mut self, host: usize, version: Version, most_us: u64) -> Played {
        self.until(most_us, |world| world.hosts[host].committed > version)
    }

    /// Demands that some node serves the group without a pause longer than `longest_us`, for `span_us`.
    pub fn demand_service(&mut self, longest_us: u64, span_us: u64) {
        let group = self.group.clone();
        let (end, mut served) = (self.world.now_us + span_us, self.world.now_us);
        while self.world.now_us < end && self.world.violation.is_none() {
            self.wait(5 * MS);
            if self.world.serving(&group).is_some() {
                served = self.world.now_us;
            }
            let out = self.world.now_us - served;
            if out > longest_us {
                let text = format!("nobody has served {group} for {} ms", out / MS);
                self.world.violated(Rule::TakenOver, text);
            }
        }
    }
}
