//! One machine: power, clock, disk, guard, daemon, gate and processes of the group.

use crate::setting::member;
use hotpair_core::disk::{DiskVoter, Slot};
use hotpair_core::group::ResourceAction;
use hotpair_core::guard::{Guard, GuardIdentity, Promises};
use hotpair_core::ids::{Epoch, HostBoot, Incarnation, MemberId, Version};
use hotpair_core::message::{Datagram, Message};
use hotpair_core::node::{Durable, Identity, Node, PersistId};
use hotpair_core::time::{Moment, Now};
use std::sync::Arc;

/// A machine and all that is in it.
#[derive(Clone, Debug, Hash)]
pub struct Host {
    pub on: bool,
    /// Is powered on, or its guard or daemon started, at the next tick.
    pub back: bool,
    pub boots: u64,
    /// Starts of guard and daemon, never repeated.
    pub runs: u64,
    pub booted_us: u64,
    pub ppm: i64,
    pub frozen_until_us: u64,
    pub guard: Option<Guard>,
    pub node: Option<Node>,
    /// Beside the guard, if there is a quorum disk.
    pub voter: Option<DiskVoter>,
    pub io: Option<Io>,
    /// The guard's file in /run.
    pub promises: Option<Promises>,
    /// What the disk has, and what is on its way there.
    pub kept: Durable,
    pub writes: Vec<(PersistId, Durable)>,
    pub works: Vec<ResourceAction>,
    pub gate: Option<Gate>,
    /// Processes of the group run, started in this epoch.
    pub runs_in: Option<Epoch>,
    /// Arrived while guard and daemon stood still.
    pub inbox: Vec<(usize, Parcel)>,
}

/// What a host does with the quorum disk.
#[derive(Clone, Debug, Hash)]
pub struct Io {
    pub what: IoKind,
    pub until_us: u64,
}

#[derive(Clone, Debug, Hash)]
pub enum IoKind {
    /// `None`: it is on the disk already.
    Write(Option<Box<Slot>>),
    /// What was read, if that is done.
    Read(Option<Vec<Slot>>),
}

/// Until when packets of the group pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    Until(Moment),
    UntilCut,
}

/// Something between two hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Parcel {
    Datagram(Arc<Datagram>),
    Message(Arc<Message>),
}

impl Host {
    /// A machine that is off and has `kept` on its disk.
    #[must_use]
    pub fn new(kept: Durable, ppm: i64) -> Self {
        Self {
            on: false,
            back: false,
            boots: 0,
            runs: 0,
            booted_us: 0,
            ppm,
            frozen_until_us: 0,
            guard: None,
            node: None,
            promises: None,
            kept,
            writes: Vec::new(),
            voter: None,
            io: None,
            works: Vec::new(),
            gate: None,
            runs_in: None,
            inbox: Vec::new(),
        }
    }

    /// Both clocks of the host: they started when it was powered on.
    #[must_use]
    pub fn now(&self, true_us: u64) -> Now {
        let since = i128::from(true_us - self.booted_us);
        let own = since + since * i128::from(self.ppm) / 1_000_000;
        Now::at(1_000_000 + u64::try_from(own).unwrap_or(0))
    }

    /// Do packets of the group pass?
    #[must_use]
    pub fn passes(&self, true_us: u64) -> bool {
        self.on
            && match self.gate {
                None => false,
                Some(Gate::UntilCut) => true,
                Some(Gate::Until(end)) => self.now(true_us).moment() < end,
            }
    }

    #[must_use]
    pub fn frozen(&self, true_us: u64) -> bool {
        self.frozen_until_us > true_us
    }

    /// Is something under way that ends in the next round?
    #[must_use]
    pub fn busy(&self, true_us: u64) -> bool {
        let idle = self.writes.is_empty() && self.works.is_empty() && !self.ends_io(true_us);
        self.on && !self.frozen(true_us) && !idle
    }

    /// Is something under way on the quorum disk that does not stall?
    #[must_use]
    pub fn ends_io(&self, true_us: u64) -> bool {
        self.io.as_ref().is_some_and(|io| io.until_us <= true_us)
    }

    /// Everything in memory and in /run is gone, and all that was not on disk yet.
    pub fn power_cut(&mut self) {
        *self = Self {
            boots: self.boots,
            runs: self.runs,
            ..Self::new(std::mem::take(&mut self.kept), self.ppm)
        };
    }

    pub fn power_on(&mut self, true_us: u64) {
        self.on = true;
        self.boots += 1;
        self.booted_us = true_us;
    }

    /// The daemon is gone; writes that had not ended are lost.
    pub fn kill_daemon(&mut self) {
        self.node = None;
        self.writes.clear();
        self.works.clear();
        self.back = true;
    }

    /// The guard is gone; the kernel's gate is as it was.
    pub fn kill_guard(&mut self) {
        self.guard = None;
        self.voter = None;
        self.io = None;
        self.back = true;
    }

    /// The guard's shell cuts everything before it starts anew.
    pub fn start_guard(&mut self, index: usize, disk: Option<MemberId>, true_us: u64) {
        self.cut();
        self.runs += 1;
        let id = GuardIdentity {
            me: member(index),
            boot: self.boot(),
            run: Incarnation(self.runs),
        };
        let guard = Guard::restore(id, self.promises.clone(), self.now(true_us));
        self.guard = Some(guard);
        let now = self.now(true_us);
        self.voter = disk.map(|disk| DiskVoter::new(member(index), disk, self.boot(), now));
    }

    pub fn start_node(&mut self, index: usize, true_us: u64) {
        self.runs += 1;
        let identity = Identity {
            me: member(index),
            boot: self.boot(),
            incarnation: Incarnation(self.runs),
            seed: 1,
        };
        let node = Node::restore(identity, Some(self.kept.clone()), self.now(true_us));
        self.node = Some(node);
    }

    /// Gate closed, processes killed.
    pub fn cut(&mut self) {
        self.gate = None;
        self.runs_in = None;
    }

    fn boot(&self) -> HostBoot {
        HostBoot(self.boots << 32)
    }

    /// Version on disk.
    #[must_use]
    pub fn kept_version(&self) -> Version {
        self.kept
            .document
            .as_ref()
            .map_or(Version::ZERO, |document| document.version)
    }
}
