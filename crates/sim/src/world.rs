//! The simulated world: hosts, the network between them, and the order in which things happen.

use crate::check::{Ledger, Rule, Violation};
use crate::cluster::{Machines, Network, group_id, host_of, member};
use crate::fault::{Fault, Trigger};
use crate::host::{Gate, Host, PartState, Word};
use crate::mirror::{Happening, Mirrored};
use crate::queue::Queue;
use crate::quorum::Quorum;
use crate::rng::Rng;
use hotpair_core::config::Cluster;
use hotpair_core::disk::DiskInput;
use hotpair_core::document::Document;
use hotpair_core::guard::{Guard, GuardIdentity, GuardInput};
use hotpair_core::ids::{GroupId, HostBoot, Incarnation, MemberId, ResourceId};
use hotpair_core::message::{Datagram, Message};
use hotpair_core::node::{Durable, Identity, Input, Node};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Way of a message between the daemon and the guard of one host, in microseconds.
const LOCAL_US: u64 = 40;

/// Something that is about to happen.
#[derive(Debug)]
pub enum Event {
    Datagram {
        to: usize,
        datagram: Datagram,
    },
    Message {
        to: usize,
        from: MemberId,
        message: Message,
    },
    GuardTimer {
        host: usize,
    },
    NodeTimer {
        host: usize,
    },
    ToNode {
        host: usize,
        life: u64,
        input: Input,
    },
    ToGuard {
        host: usize,
        life: u64,
        input: GuardInput,
    },
    /// The write under way ends.
    Written {
        host: usize,
        power: u64,
    },
    /// The decision loop shows that it is alive.
    Credit {
        host: usize,
        life: u64,
    },
    /// The detectors run.
    Detect {
        host: usize,
        life: u64,
    },
    /// A fence device, used a while ago, takes effect, or fails.
    Fenced {
        by: usize,
        life: u64,
        node: MemberId,
        boot: HostBoot,
        ok: bool,
    },
    /// The cutting of a group, begun a while ago, ends.
    LateCut {
        host: usize,
        power: u64,
        group: GroupId,
    },
    /// Work on a resource ends.
    Worked {
        host: usize,
        power: u64,
        part: (GroupId, ResourceId),
        change: u64,
        ok: bool,
    },
    PowerOn {
        host: usize,
    },
    StartGuard {
        host: usize,
        power: u64,
    },
    StartDaemon {
        host: usize,
        power: u64,
    },
    /// Something frozen or paused may go on.
    Thaw {
        host: usize,
    },
    /// The watchdog of a host with ungated groups looks whether the guard lives.
    Watchdog {
        host: usize,
        power: u64,
    },
    /// CLOCK_BOOTTIME is not slewed any more.
    EndSlew {
        host: usize,
    },
    /// A lying or broken resource is as before.
    EndSpoil {
        host: usize,
    },
    Fault(Fault),
    Mirror(Box<Happening>),
    ToVoter {
        host: usize,
        life: u64,
        input: DiskInput,
    },
    /// What a host began on the quorum disk takes effect, ends, or fails.
    DiskDoes {
        host: usize,
        number: u64,
    },
    DiskEnds {
        host: usize,
        number: u64,
    },
    DiskFails {
        host: usize,
        number: u64,
    },
    /// The operator looks after a request that is not finished.
    Operator(crate::operator::Errand),
}

/// A running simulation. Deterministic: the same plan gives the same run.
pub struct World {
    pub now_us: u64,
    pub hosts: Vec<Host>,
    pub queue: Queue<Event>,
    pub rng: Rng,
    pub first: Cluster,
    pub machines: Machines,
    pub ledger: Ledger,
    pub violation: Option<Violation>,
    /// Fence devices that were asked and have not acted yet.
    pub fences_under_way: usize,
    pub desk: crate::operator::Desk,
    /// Of one of the groups.
    pub mirror: Option<Box<Mirrored>>,
    /// In place of the first witness.
    pub quorum: Option<Box<Quorum>>,
    /// `cut_until[from][to]`
    pub cut_until: Vec<Vec<u64>>,
    /// `lanes[from][to]`: what a schedule does to one direction between two hosts.
    pub lanes: Vec<Vec<Lane>>,
    /// How long the cutting of a group takes on each host, in microseconds.
    pub slow_cut_us: Vec<u64>,
    pub storm: Storm,
    pub waiting: Vec<(Trigger, u64, Fault)>,
    /// The resources that are active may have changed since the last check.
    pub touched: bool,
    pub trace: Option<VecDeque<String>>,
    /// Newest lines kept of the trace.
    trace_lines: usize,
    pub events: u64,
    pub groups: Vec<GroupId>,
}

/// One direction between two hosts, for heartbeats and for messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lane {
    pub datagrams: Way,
    pub messages: Way,
}

/// How one kind of packet fares in a lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    pub cut: bool,
    /// Added to the usual delay, in microseconds.
    pub more_us: u64,
}

/// Extra trouble in the whole network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Storm {
    pub until: u64,
    pub loss_ppm: u64,
    pub late_ppm: u64,
}

/// Adds a line to the trace, if one is kept. The line is made only then.
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.trace.is_some() {
            let line = format!($($text)*);
            $world.keep_line(line);
        }
    };
}
pub(crate) use note;

impl World {
    /// A world in which every member of `cluster` has the first document on its disk and is about
    /// to be switched on.
    #[must_use]
    pub fn new(cluster: &Cluster, machines: &Machines, seed: u64) -> Self {
        let document = Arc::new(Document::first(cluster.clone()));
        let hosts = machines.raw_ppm.iter().map(|&ppm| Host::new(ppm));
        let mut world = Self {
            now_us: 0,
            hosts: hosts.collect(),
            queue: Queue::default(),
            rng: Rng::new(seed, 2),
            first: cluster.clone(),
            machines: machines.clone(),
            ledger: Ledger::default(),
            violation: None,
            fences_under_way: 0,
            desk: crate::operator::Desk::default(),
            mirror: Mirrored::of(cluster, seed).map(Box::new),
            quorum: quorum(cluster, machines),
            cut_until: vec![vec![0; machines.hosts]; machines.hosts],
            lanes: vec![vec![Lane::default(); machines.hosts]; machines.hosts],
            slow_cut_us: vec![0; machines.hosts],
            storm: Storm::default(),
            waiting: Vec::new(),
            touched: false,
            trace: None,
            trace_lines: 0,
            events: 0,
            groups: (0..cluster.groups.len()).map(group_id).collect(),
        };
        for id in cluster.members() {
            if world.is_disk(host_of(id)) {
                // Its number is taken.
                world.hosts[host_of(id)].boots = 1;
                continue;
            }
            world.enrol(host_of(id), &document);
            let at = world.rng.range(0, 20_000);
            world.queue.push(at, Event::PowerOn { host: host_of(id) });
        }
        world.saw(0, &document, None);
        world.committed(0, document.version);
        world.begin_mirror();
        world
    }

    /// The host has joined: it has the document and an identity.
    pub fn enrol(&mut self, host: usize, document: &Arc<Document>) {
        self.hosts[host].disk.kept = Some(Durable {
            term: document.version.term,
            document: Some(Arc::clone(document)),
            longest_lease: document.config.timing.lease,
            ..Durable::default()
        });
    }

    /// Keeps a trace from now on, of at most so many lines.
    pub fn keep_trace(&mut self, lines: usize) {
        self.trace_lines = lines;
        self.trace = Some(VecDeque::new());
    }

    pub(crate) fn keep_line(&mut self, line: String) {
        let at = self.now_us;
        if let Some(trace) = &mut self.trace {
            if trace.len() >= self.trace_lines {
                trace.pop_front();
            }
            trace.push_back(format!(
                "{:>4}.{:06} {line}",
                at / 1_000_000,
                at % 1_000_000
            ));
        }
    }

    /// A promise was broken. The first one counts.
    pub fn violated(&mut self, rule: Rule, text: String) {
        note!(self, "VIOLATION {rule:?}: {text}");
        if self.violation.is_none() {
            let at_us = self.now_us;
            self.violation = Some(Violation { rule, at_us, text });
        }
    }

    /// Lets everything happen up to `until_us`, or up to the first violation.
    pub fn run_until(&mut self, until_us: u64) {
        while self.violation.is_none() && self.queue.next_at().is_some_and(|at| at <= until_us) {
            self.next();
        }
        self.now_us = self.now_us.max(until_us);
    }

    /// Lets everything happen during the next `span_us`.
    pub fn run_for(&mut self, span_us: u64) {
        self.run_until(self.now_us + span_us);
    }

    fn next(&mut self) {
        let Some((at, event)) = self.queue.pop() else {
            return;
        };
        self.now_us = at;
        self.events += 1;
        self.happen(event);
        if self.touched {
            self.touched = false;
            self.check_single_active();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Datagram { to, datagram } => {
                if self.hosts[to].guard.it.is_some() {
                    self.to_guard(to, GuardInput::Datagram(Box::new(datagram)));
                }
            }
            Event::Message { to, from, message } => {
                if self.hosts[to].node.it.is_some() {
                    self.to_node(to, Input::Message { from, message });
                }
            }
            Event::GuardTimer { host } => self.guard_timer(host),
            Event::NodeTimer { host } => self.node_timer(host),
            Event::ToNode { host, life, input } => {
                if self.hosts[host].node.life == life {
                    self.to_node(host, input);
                }
            }
            Event::ToGuard { host, life, input } => {
                if self.hosts[host].guard.life == life && self.hosts[host].guard.it.is_some() {
                    self.to_guard(host, input);
                }
            }
            Event::Written { host, power } => self.written(host, power),
            Event::Credit { host, life } => self.credit(host, life),
            Event::Detect { host, life } => self.detect(host, life),
            Event::Fenced {
                by,
                life,
                node,
                boot,
                ok,
            } => self.fenced(by, life, node, boot, ok),
            Event::LateCut { host, power, group } => {
                if self.hosts[host].power == power {
                    self.cut(host, &group);
                }
            }
            Event::Worked {
                host,
                power,
                part,
                change,
                ok,
            } => {
                self.worked(host, power, part, change, ok);
            }
            Event::PowerOn { host } => self.power_on(host),
            Event::StartGuard { host, power } => self.start_guard(host, power),
            Event::StartDaemon { host, power } => self.start_daemon(host, power),
            Event::Thaw { host } => self.thaw(host),
            Event::Watchdog { host, power } => self.watchdog(host, power),
            Event::EndSlew { host } => self.slew(host, 0),
            Event::EndSpoil { host } => self.tell_verdicts(host),
            Event::Fault(fault) => self.inflict(fault),
            Event::Mirror(happening) => self.mirror_happens(*happening),
            Event::ToVoter { host, life, input } => self.hand_to_voter(host, life, input),
            Event::DiskDoes { host, number } => self.disk_does(host, number),
            Event::DiskEnds { host, number } => self.disk_ends(host, number),
            Event::DiskFails { host, number } => self.disk_fails(host, number),
            Event::Operator(errand) => self.look_after(errand),
        }
    }

    /// `input` reaches the daemon: at once, or when it goes on.
    pub fn to_node(&mut self, host: usize, input: Input) {
        if self.hosts[host].node_stuck(self.now_us) {
            let from_network = matches!(input, Input::Message { .. });
            self.hosts[host].node.keep(Word::Input(input), from_network);
        } else {
            self.step_node(host, input);
        }
    }

    /// `input` reaches the guard: at once, or when it goes on.
    pub fn to_guard(&mut self, host: usize, input: GuardInput) {
        if self.hosts[host].guard_stuck(self.now_us) {
            let from_network = matches!(input, GuardInput::Datagram(_));
            self.hosts[host].guard.keep(input, from_network);
        } else {
            self.step_guard(host, input);
        }
    }

    /// Over the local channel, in order.
    pub fn tell_node(&mut self, host: usize, input: Input) {
        self.tell_node_in(host, LOCAL_US, input);
    }

    /// The daemon hears of it in `delay_us`, unless it ends before.
    pub fn tell_node_in(&mut self, host: usize, delay_us: u64, input: Input) {
        let life = self.hosts[host].node.life;
        if self.hosts[host].node.it.is_some() {
            self.queue
                .push(self.now_us + delay_us, Event::ToNode { host, life, input });
        }
    }

    /// Over the local channel, in order.
    pub fn tell_guard(&mut self, host: usize, input: GuardInput) {
        let life = self.hosts[host].guard.life;
        if self.hosts[host].guard.it.is_some() {
            self.queue
                .push(self.now_us + LOCAL_US, Event::ToGuard { host, life, input });
        }
    }

    fn guard_timer(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        if it.guard.timer_at != self.now_us {
            return;
        }
        it.guard.timer_at = u64::MAX;
        if it.guard_stuck(self.now_us) || it.guard.it.is_none() {
            return;
        }
        self.step_guard(host, GuardInput::Tick);
    }

    fn node_timer(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        if it.node.timer_at != self.now_us {
            return;
        }
        it.node.timer_at = u64::MAX;
        if it.node_stuck(self.now_us) || it.node.it.is_none() {
            return;
        }
        self.step_node(host, Input::Tick);
    }

    /// A packet leaves `from` for `to`: how long it is under way, once for each copy that arrives.
    fn ways(&mut self, from: usize, to: usize, message: bool) -> [Option<u64>; 2] {
        let now = self.now_us;
        if to >= self.hosts.len() || self.cut_until[from][to] > now {
            return [None, None];
        }
        let lane = self.lanes[from][to];
        let lane = if message {
            lane.messages
        } else {
            lane.datagrams
        };
        if lane.cut {
            return [None, None];
        }
        let Network {
            delay_us,
            loss_ppm,
            repeat_ppm,
            late_ppm,
        } = self.machines.network;
        let storm = if self.storm.until > now {
            self.storm
        } else {
            Storm::default()
        };
        if self.rng.chance(loss_ppm + storm.loss_ppm) {
            return [None, None];
        }
        let late = late_ppm + storm.late_ppm;
        let first = self.way(delay_us, late) + lane.more_us;
        let second = self
            .rng
            .chance(repeat_ppm)
            .then(|| self.way(delay_us, late * 2) + lane.more_us);
        [Some(first), second]
    }

    fn way(&mut self, (low, high): (u64, u64), late_ppm: u64) -> u64 {
        let usual = self.rng.range(low, high);
        if !self.rng.chance(late_ppm) {
            return usual;
        }
        // Mostly overtaken by the next few, sometimes held up in a queue for long.
        if self.rng.percent(90) {
            usual * self.rng.range(2, 20)
        } else {
            self.rng.range(usual, 2_000_000)
        }
    }

    /// It leaves `after_us` from now.
    pub(crate) fn send_datagram(
        &mut self,
        from: usize,
        to: MemberId,
        datagram: Datagram,
        after_us: u64,
    ) {
        let to = host_of(to);
        let ways = self.ways(from, to, false);
        let [first, second] = ways.map(|way| way.map(|way| way + after_us));
        if let Some(way) = second {
            let copy = datagram.clone();
            self.queue
                .push(self.now_us + way, Event::Datagram { to, datagram: copy });
        }
        if let Some(way) = first {
            self.queue
                .push(self.now_us + way, Event::Datagram { to, datagram });
        }
    }

    pub(crate) fn send_message(&mut self, from: usize, to: MemberId, message: Message) {
        let (to, from_id) = (host_of(to), member(from));
        let [first, second] = self.ways(from, to, true);
        if let Some(way) = second {
            let message = message.clone();
            self.queue.push(
                self.now_us + way,
                Event::Message {
                    to,
                    from: from_id,
                    message,
                },
            );
        }
        if let Some(way) = first {
            self.queue.push(
                self.now_us + way,
                Event::Message {
                    to,
                    from: from_id,
                    message,
                },
            );
        }
    }

    fn power_on(&mut self, host: usize) {
        if self.hosts[host].on || self.is_disk(host) {
            return;
        }
        if self.hosts[host].held_off_by.is_some() {
            self.queue
                .push(self.now_us + 1_000_000, Event::PowerOn { host });
            return;
        }
        let random = self.rng.bits() & 0xffff_ffff;
        let start_us = self.rng.range(1_000, 2_000_000);
        let it = &mut self.hosts[host];
        it.on = true;
        it.boots += 1;
        it.boot = HostBoot(it.boots << 32 | random);
        it.clocks = crate::clock::Clocks::new(self.now_us, start_us, it.raw_ppm, it.raw_ppm);
        let power = it.power;
        note!(self, "m{} POWER ON", host + 1);
        let (guard_in, daemon_in) = (self.rng.range(100, 20_000), self.rng.range(100, 30_000));
        self.queue
            .push(self.now_us + guard_in, Event::StartGuard { host, power });
        self.queue
            .push(self.now_us + daemon_in, Event::StartDaemon { host, power });
    }

    fn start_guard(&mut self, host: usize, power: u64) {
        let it = &self.hosts[host];
        if !it.on || it.power != power || it.guard.it.is_some() {
            return;
        }
        if it.paused_until > self.now_us {
            let at = it.paused_until + 1_000;
            self.queue.push(at, Event::StartGuard { host, power });
            return;
        }
        let groups: Vec<GroupId> = it.gates.keys().cloned().collect();
        for group in groups {
            self.cut(host, &group);
        }
        let it = &mut self.hosts[host];
        let id = GuardIdentity {
            me: member(host),
            boot: it.boot,
            run: Incarnation(it.guard.life + 1),
        };
        let guard = Guard::restore(id, it.promises.clone(), it.clocks.read(self.now_us));
        it.guard.begin(guard, self.now_us);
        self.begin_voter(host);
        note!(self, "m{} guard starts", host + 1);
        if self.hosts[host].node.it.is_some() {
            self.node_hears_of_new_guard(host);
        }
    }

    fn start_daemon(&mut self, host: usize, power: u64) {
        let seed = self.rng.bits();
        let it = &mut self.hosts[host];
        if !it.on || it.power != power || it.node.it.is_some() {
            return;
        }
        if it.paused_until > self.now_us {
            let at = it.paused_until + 1_000;
            self.queue.push(at, Event::StartDaemon { host, power });
            return;
        }
        let identity = Identity {
            me: member(host),
            boot: it.boot,
            incarnation: Incarnation(it.node.life + 1),
            seed,
        };
        let now = it.clocks.read(self.now_us);
        it.document = it.disk.kept.as_ref().and_then(|kept| kept.document.clone());
        it.node.begin(
            Node::restore(identity, it.disk.kept.clone(), now),
            self.now_us,
        );
        it.wanted = None;
        let life = it.node.life;
        note!(self, "m{} daemon starts", host + 1);
        self.adopt(host);
        self.mirror_daemon_starts(host);
        self.tell_verdicts(host);
        self.to_node(host, Input::Tick);
        let first = self.rng.range(0, 5_000_000);
        self.queue
            .push(self.now_us + first, Event::Detect { host, life });
        self.queue.push(self.now_us, Event::Credit { host, life });
    }

    pub(crate) fn thaw(&mut self, host: usize) {
        let now = self.now_us;
        let it = &mut self.hosts[host];
        if it.on && it.clocks.stopped() && it.paused_until <= now {
            it.clocks.stop(now, false);
            let lease = it
                .disk
                .kept
                .as_ref()
                .map_or(0, |kept| kept.longest_lease.as_micros());
            it.excused_until = now + u64::try_from(lease).unwrap_or(0) * 102 / 100;
        }
        self.touched = true;
        self.mirror_thaws(host);
        let waiting = self.hosts[host].guard.inbox.len() + self.hosts[host].node.inbox.len();
        self.expect_backlog(host, waiting);
        if !self.hosts[host].guard_stuck(now) && self.hosts[host].guard.it.is_some() {
            let tick_first = self.rng.percent(50);
            if tick_first {
                self.step_guard(host, GuardInput::Tick);
            }
            while let Some(input) = self.hosts[host].guard.inbox.pop_front() {
                self.step_guard(host, input);
            }
            if !tick_first {
                self.step_guard(host, GuardInput::Tick);
            }
        }
        if !self.hosts[host].node_stuck(now) && self.hosts[host].node.it.is_some() {
            while let Some(word) = self.hosts[host].node.inbox.pop_front() {
                match word {
                    Word::Input(input) => self.step_node(host, input),
                    Word::Mirror(news) => self.daemon_hears(host, news),
                }
            }
            self.to_node(host, Input::Tick);
        }
    }

    fn check_single_active(&mut self) {
        let now = self.now_us;
        for index in 0..self.groups.len() {
            let group = &self.groups[index];
            let ungated = self
                .first
                .groups
                .get(group)
                .is_some_and(|group| group.ungated);
            let mut active = self.hosts.iter().enumerate();
            let Some((one, _)) = active.find(|(_, host)| host.active(group, ungated, now)) else {
                continue;
            };
            if let Some((other, _)) = active.find(|(_, host)| host.active(group, ungated, now)) {
                let text = format!("group {group} is active on m{} and m{}", one + 1, other + 1);
                self.violated(Rule::SingleActive, text);
            }
        }
    }

    /// Something that a fault may be waiting for has happened.
    pub(crate) fn fire(&mut self, trigger: Trigger) {
        let mut index = 0;
        while index < self.waiting.len() {
            if self.waiting[index].0 == trigger {
                let (_, delay, fault) = self.waiting.swap_remove(index);
                self.queue.push(self.now_us + delay, Event::Fault(fault));
            } else {
                index += 1;
            }
        }
    }

    /// Versions on the members' disks.
    #[must_use]
    pub fn kept(&self) -> BTreeMap<MemberId, hotpair_core::ids::Version> {
        let kept = |host: &Host| {
            host.disk
                .kept
                .as_ref()?
                .document
                .as_ref()
                .map(|d| d.version)
        };
        let hosts = self.hosts.iter().enumerate();
        let on_disk = |quorum: &Quorum| Some((quorum.member, quorum.version()?));
        hosts
            .filter_map(|(index, host)| Some((member(index), kept(host)?)))
            .chain(self.quorum.as_deref().and_then(on_disk))
            .collect()
    }

    pub(crate) fn saw(
        &mut self,
        host: usize,
        document: &Arc<Document>,
        before: Option<hotpair_core::ids::Version>,
    ) {
        if let Err((rule, text)) = self.ledger.saw(document, before) {
            self.violated(rule, format!("m{}: {text}", host + 1));
        }
    }

    pub(crate) fn committed(&mut self, host: usize, version: hotpair_core::ids::Version) {
        if self.ledger.knows_committed(version) {
            return;
        }
        let kept = self.kept();
        note!(
            self,
            "m{} knows {version} to be committed; disks {kept:?}",
            host + 1
        );
        if let Err((rule, text)) = self.ledger.committed(version, &kept) {
            self.violated(rule, format!("m{}: {text}", host + 1));
        }
        if self.mirror.is_some() {
            self.check_mirror_documents(version);
        }
        self.fire(Trigger::Commit);
    }

    /// The group's gate on this host opens, or opens for longer.
    pub(crate) fn open(&mut self, host: usize, group: &GroupId, gate: Gate) {
        let open = self.hosts[host].passes(group, self.now_us);
        if let Some(present) = self.hosts[host].gates.get_mut(group) {
            *present = gate;
        } else {
            self.hosts[host].gates.insert(group.clone(), gate);
        }
        if !open {
            note!(self, "m{} opens the gate of {group}", host + 1);
            self.touched = true;
            self.fire(Trigger::Permit);
        }
    }

    /// Does the group run and answer on this host?
    #[must_use]
    pub fn serves(&self, host: usize, group: &GroupId) -> bool {
        let newest = self
            .ledger
            .newest()
            .map_or(&self.first, |document| &document.config);
        let resources = newest
            .groups
            .get(group)
            .map_or(usize::MAX, |group| group.resources.len());
        self.hosts[host].serves(group, resources, self.now_us)
    }

    /// Where the group runs and answers.
    #[must_use]
    pub fn serving(&self, group: &GroupId) -> Option<usize> {
        (0..self.hosts.len()).find(|&host| self.serves(host, group))
    }

    /// The member that leads in the highest term.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let leads = |host: &Host| {
            let wanted = host.wanted.as_ref()?;
            (host.on && host.node.it.is_some() && wanted.leads).then_some(wanted.term)
        };
        let leaders = self.hosts.iter().enumerate();
        let leaders = leaders.filter_map(|(index, host)| Some((leads(host)?, index)));
        leaders.max().map(|(_, index)| index)
    }

    /// Is anything of the group running on this host?
    #[must_use]
    pub fn runs_anything(&self, host: usize, group: &GroupId) -> bool {
        let mut parts = self.hosts[host].parts.iter();
        parts.any(|((of, _), part)| of == group && part.state != PartState::Down)
    }
}

fn quorum(cluster: &Cluster, machines: &Machines) -> Option<Box<Quorum>> {
    let witness = cluster.witness.as_ref()?;
    let quorum = Quorum::new(witness.id, machines.quorum_us?, machines.hosts);
    Some(Box::new(quorum))
}
