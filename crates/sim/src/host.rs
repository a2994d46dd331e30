//! One simulated machine: power, clocks, disk, guard, daemon, and what runs on it.

use crate::clock::Clocks;
use crate::fault::Spoil;
use crate::mirror::News;
use hotpair_core::document::Document;
use hotpair_core::group::{ActionId, Work};
use hotpair_core::guard::{Guard, GuardInput, Promises, Wanted};
use hotpair_core::ids::{Epoch, GroupId, HostBoot, ResourceId, Version};
use hotpair_core::node::{Durable, Input, Node, PersistId};
use hotpair_core::time::{Moment, Now};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Packets a stuck process finds when it goes on; more are dropped, as by a full socket buffer.
const INBOX: usize = 400;

/// A machine that is or may become a member.
pub struct Host {
    pub on: bool,
    /// Counts power cycles: what was begun before a power cut does not end after it.
    pub power: u64,
    pub boots: u64,
    pub boot: HostBoot,
    pub clocks: Clocks,
    pub raw_ppm: i64,
    pub paused_until: u64,
    /// A stopped clock lets a lease last too long: not judged until then.
    pub excused_until: u64,
    pub disk: Disk,
    /// The guard's file in /run.
    pub promises: Option<Promises>,
    pub guard: Process<Guard, GuardInput>,
    pub node: Process<Node, Word>,
    /// What the daemon last wanted of the guard.
    pub wanted: Option<Wanted>,
    /// Document the daemon last wrote.
    pub document: Option<Arc<Document>>,
    pub committed: Version,
    pub gates: BTreeMap<GroupId, Gate>,
    pub parts: BTreeMap<(GroupId, ResourceId), Part>,
    pub spoils: Vec<Spoiled>,
    pub load: Load,
    /// Not powered on while this request of the operator is open.
    pub held_off_by: Option<u64>,
}

/// What the daemon is told.
#[derive(Debug)]
pub enum Word {
    Input(Input),
    /// By its mirror process.
    Mirror(News),
}

/// A process that may be killed or frozen.
pub struct Process<P, I> {
    pub it: Option<P>,
    /// Counts starts and ends: what was sent to an earlier one is not delivered.
    pub life: u64,
    pub frozen_until: u64,
    pub inbox: VecDeque<I>,
    /// True time of the pending timer event; `u64::MAX`: none.
    pub timer_at: u64,
    /// When it last did something.
    pub stepped_at: u64,
}

/// Durable storage of one member.
#[derive(Default)]
pub struct Disk {
    pub kept: Option<Durable>,
    pub writing: Option<(PersistId, Box<Durable>)>,
    pub waiting: Option<(PersistId, Box<Durable>)>,
    pub stuck_until: u64,
    pub slow_until: u64,
    pub slow_times: u64,
}

/// Until when packets of a group's addresses pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Until(Moment),
    UntilCut,
}

/// A resource on this host.
#[derive(Clone, Debug)]
pub struct Part {
    pub state: PartState,
    pub epoch: Epoch,
    /// Has processes (an address has none).
    pub process: bool,
    /// Work under way, and the daemon's life that asked for it.
    pub work: Option<(ActionId, Work, u64)>,
    /// Counts changes: what was to end an earlier state does not end this one.
    pub change: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    Down,
    Starting,
    Up,
    Stopping,
}

/// A resource that misbehaves for a while.
#[derive(Clone, Debug)]
pub struct Spoiled {
    pub group: GroupId,
    pub resource: ResourceId,
    pub how: Spoil,
    pub until: u64,
}

/// Work done in the present second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub second: u64,
    pub datagrams: u64,
    pub messages: u64,
    pub steps: u64,
    pub at_us: u64,
    pub at_once: u64,
    /// Inputs that waited for a process that was stuck.
    pub backlog: u64,
}

impl<P, I> Default for Process<P, I> {
    fn default() -> Self {
        Self {
            it: None,
            life: 0,
            frozen_until: 0,
            inbox: VecDeque::new(),
            timer_at: u64::MAX,
            stepped_at: 0,
        }
    }
}

impl<P, I> Process<P, I> {
    /// It is gone, with everything that waited for it.
    pub fn end(&mut self) {
        self.it = None;
        self.life += 1;
        self.frozen_until = 0;
        self.inbox.clear();
        self.timer_at = u64::MAX;
    }

    /// A new one runs.
    pub fn begin(&mut self, it: P, now_us: u64) {
        self.end();
        self.it = Some(it);
        self.stepped_at = now_us;
    }

    /// Keeps `input` until it goes on; what came over the network is dropped when too much waits.
    pub fn keep(&mut self, input: I, from_network: bool) {
        if !from_network || self.inbox.len() < INBOX {
            self.inbox.push_back(input);
        }
    }
}

impl Host {
    /// A machine that is switched off and has never been a member.
    #[must_use]
    pub fn new(raw_ppm: i64) -> Self {
        Self {
            on: false,
            power: 0,
            boots: 0,
            boot: HostBoot(0),
            clocks: Clocks::new(0, 0, raw_ppm, raw_ppm),
            raw_ppm,
            paused_until: 0,
            excused_until: 0,
            disk: Disk::default(),
            promises: None,
            guard: Process::default(),
            node: Process::default(),
            wanted: None,
            document: None,
            committed: Version::ZERO,
            gates: BTreeMap::new(),
            parts: BTreeMap::new(),
            spoils: Vec::new(),
            load: Load::default(),
            held_off_by: None,
        }
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self, now_us: u64) -> Now {
        self.clocks.read(now_us)
    }

    #[must_use]
    pub fn guard_stuck(&self, now_us: u64) -> bool {
        self.paused_until.max(self.guard.frozen_until) > now_us
    }

    #[must_use]
    pub fn node_stuck(&self, now_us: u64) -> bool {
        self.paused_until.max(self.node.frozen_until) > now_us
    }

    /// Do packets of the group's addresses pass?
    #[must_use]
    pub fn passes(&self, group: &GroupId, now_us: u64) -> bool {
        self.on
            && match self.gates.get(group) {
                Some(Gate::UntilCut) => true,
                Some(Gate::Until(end)) => self.now(now_us).moment() < *end,
                None => false,
            }
    }

    /// Would a client or a shared disk notice that the group is active here?
    #[must_use]
    pub fn active(&self, group: &GroupId, ungated: bool, now_us: u64) -> bool {
        if !self.on || self.excused_until > now_us {
            return false;
        }
        let mut parts = self.parts.iter().filter(|((of, _), part)| {
            of == group && part.state != PartState::Down && (part.process || !ungated)
        });
        if parts.next().is_none() {
            return false;
        }
        if ungated {
            self.paused_until <= now_us
        } else {
            !self.clocks.stopped() && self.passes(group, now_us)
        }
    }

    /// Does everything of the group run and answer?
    #[must_use]
    pub fn serves(&self, group: &GroupId, resources: usize, now_us: u64) -> bool {
        let up = self
            .parts
            .iter()
            .filter(|((of, _), part)| of == group && part.state == PartState::Up)
            .count();
        up >= resources && self.paused_until <= now_us && self.passes(group, now_us)
    }

    /// Does this resource misbehave so?
    #[must_use]
    pub fn spoiled(&self, group: &GroupId, resource: &ResourceId, how: Spoil, now_us: u64) -> bool {
        self.spoils.iter().any(|spoiled| {
            spoiled.how == how
                && spoiled.until > now_us
                && &spoiled.group == group
                && &spoiled.resource == resource
        })
    }
}
