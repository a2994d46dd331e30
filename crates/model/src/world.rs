//! The whole cluster in one state, and how it goes on.

use crate::check::{Rule, Seen};
use crate::choice::{Ask, Channel, Choice, Wire};
use crate::host::{Gate, Host, Io, IoKind, Parcel};
use crate::ledger::Ledger;
use crate::setting::{Bounds, LEASE_TICKS, Setting, Start, TICK_US, group_id, member};
use hotpair_core::disk::{DiskAction, DiskInput, Slot};
use hotpair_core::document::{Document, Pin};
use hotpair_core::group::{ResourceFact, Work};
use hotpair_core::guard::{GuardAction, GuardEvent, GuardInput};
use hotpair_core::ids::{MemberId, Version};
use hotpair_core::message::{Datagram, Message};
use hotpair_core::node::{Action, Durable, Input, What};
use hotpair_core::request::Request;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Steps of one host that follow from one event; far above what a healthy one does.
const STEPS_AT_ONCE: u32 = 1_000;
/// Rounds without time passing, likewise.
const ROUNDS_AT_ONCE: u32 = 60;
/// Longest warming up, in rounds.
const WARM_UP: u32 = 2_000;

/// One state.
#[derive(Clone, Debug)]
pub struct World {
    pub(crate) setting: Setting,
    now_us: u64,
    left: Bounds,
    /// Rounds since the last tick.
    rounds: u32,
    hosts: Vec<Arc<Host>>,
    /// Digest of each host, and which are to be made again.
    digests: Vec<u64>,
    touched: [bool; 4],
    /// Arrives in the next round.
    wires: BTreeMap<Wire, Vec<Parcel>>,
    /// Arrives after the next tick.
    late: BTreeMap<Wire, Vec<Parcel>>,
    /// Until when nothing gets through.
    cuts: BTreeMap<(usize, usize), u64>,
    /// The quorum disk.
    slots: Arc<BTreeMap<MemberId, Slot>>,
    ledger: Arc<Ledger>,
    pub(crate) seen: Seen,
    pub(crate) broken: Option<Rule>,
}

/// Hosts by their digests: they are most of a state, and few of them change in a step.
impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.now_us, self.left, self.rounds, &self.digests).hash(hasher);
        (&self.wires, &self.late, &self.cuts, &self.slots).hash(hasher);
        (&self.ledger, self.seen, self.broken).hash(hasher);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        digest(self) == digest(other)
    }
}

fn digest(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// An input within a host, taken at once.
enum Local {
    Guard(GuardInput),
    Node(Input),
    Disk(DiskInput),
}

impl World {
    /// The state that schedules begin with. `None`: it was not reached, so the cluster does not work
    /// at all.
    #[must_use]
    pub fn begin(setting: Setting, bounds: Bounds) -> Option<Self> {
        let mut world = Self::cold(setting);
        if setting.start != Start::Cold {
            world = world.go_until(|world| world.settled_on_first(false))?;
        }
        if setting.start == Start::Disarmed {
            world.ask(0, Ask::Disarm);
            world = world.go_until(|world| world.settled_on_first(true))?;
        }
        if setting.deaf {
            world.cuts.insert((0, 1), u64::MAX);
            let long = world.now_us + (LEASE_TICKS + 2) * TICK_US;
            world = world.go_until(|world| world.now_us >= long && world.active(0))?;
        }
        if setting.apart {
            for (from, to) in [(0, 1), (1, 0)] {
                world.cuts.insert((from, to), u64::MAX);
            }
            let long = world.now_us + (LEASE_TICKS + 2) * TICK_US;
            world = world.go_until(|world| world.now_us >= long && world.active(0))?;
        }
        world.left = bounds;
        world.seen = Seen::default();
        world.note();
        Some(world)
    }

    fn cold(setting: Setting) -> Self {
        let document = Arc::new(Document::first(setting.cluster()));
        let kept = Durable {
            term: document.version.term,
            vote: None,
            longest_lease: document.config.timing.lease,
            document: Some(Arc::clone(&document)),
            floors: BTreeMap::new(),
        };
        let mut ledger = Ledger::default();
        let _ = ledger.saw(&document, Version::ZERO);
        let host = |index| {
            let mut host = Host::new(kept.clone(), setting.ppm(index));
            host.back = true;
            Arc::new(host)
        };
        Self {
            setting,
            now_us: 0,
            left: Bounds {
                ticks: u64::MAX,
                faults: 0,
                asks: 1,
                calm: false,
            },
            rounds: 0,
            hosts: (0..setting.hosts()).map(host).collect(),
            digests: vec![0; setting.hosts()],
            touched: [true; 4],
            wires: BTreeMap::new(),
            late: BTreeMap::new(),
            cuts: BTreeMap::new(),
            slots: Arc::default(),
            ledger: Arc::new(ledger),
            seen: Seen::default(),
            broken: None,
        }
    }

    fn go_until(mut self, there: impl Fn(&Self) -> bool) -> Option<Self> {
        for _ in 0..WARM_UP {
            if self.quiet() && there(&self) {
                return Some(self);
            }
            self.take(Choice::Go);
        }
        None
    }

    /// The group runs on node 1, and everybody knows it.
    fn settled_on_first(&self, pinned: bool) -> bool {
        let newest = self.ledger.newest_committed();
        let told = |host: &Arc<Host>| host.kept_version() == newest && host.on;
        self.active(0) && self.hosts.iter().all(told) && self.pinned() == Some(pinned)
    }

    /// Is the group pinned, by the newest committed document that node 1 keeps?
    fn pinned(&self) -> Option<bool> {
        let document = self.hosts[0].kept.document.as_ref()?;
        let placement = document.groups.get(&group_id())?;
        match placement.pin {
            Some(Pin::Pinned(_)) => Some(true),
            Some(Pin::Releasing) => None,
            None => Some(false),
        }
    }

    /// Nothing happens any more until the next tick.
    #[must_use]
    pub fn quiet(&self) -> bool {
        self.wires.is_empty() && !self.hosts.iter().any(|host| host.busy(self.now_us))
    }

    /// Processes of the group run on the host, and their packets pass.
    #[must_use]
    pub fn active(&self, host: usize) -> bool {
        self.hosts[host].runs_in.is_some() && self.hosts[host].passes(self.now_us)
    }

    /// Everything that may happen next.
    pub fn choices(&self, choices: &mut Vec<Choice>) {
        if self.broken.is_some() || self.left.ticks == 0 && self.quiet() {
            return;
        }
        if self.quiet() {
            self.asks(choices);
            self.returns(choices);
        }
        if self.left.faults > 0 {
            self.faults(choices);
        }
        choices.push(Choice::Go);
    }

    fn asks(&self, choices: &mut Vec<Choice>) {
        let able = |host: &usize| {
            let it = &self.hosts[*host];
            it.node.is_some() && !it.frozen(self.now_us)
        };
        let host = (0..self.setting.nodes).find(able);
        if let (Some(host), true) = (host, self.left.asks > 0) {
            let ask = match self.setting.start {
                Start::Disarmed => Ask::Arm,
                Start::Cold | Start::Running => Ask::Switch,
            };
            choices.push(Choice::Ask { host, ask });
            if ask == Ask::Switch {
                choices.push(Choice::Ask {
                    host,
                    ask: Ask::Disarm,
                });
            }
        }
    }

    fn returns(&self, choices: &mut Vec<Choice>) {
        for (host, it) in self.hosts.iter().enumerate() {
            if !it.on && !it.back {
                choices.push(Choice::PowerOn { host });
            }
        }
    }

    fn faults(&self, choices: &mut Vec<Choice>) {
        let quiet = self.quiet();
        self.faults_of_disk(choices);
        if self.left.calm && !quiet {
            return;
        }
        for (host, it) in self.hosts.iter().enumerate().filter(|(_, it)| it.on) {
            let concerned = quiet || it.busy(self.now_us) || self.awaits(host);
            if concerned {
                choices.push(Choice::Crash { host, back: false });
                choices.push(Choice::Crash { host, back: true });
                if !it.frozen(self.now_us) {
                    choices.push(Choice::Freeze { host });
                }
            }
            if quiet {
                self.faults_between_ticks(host, choices);
            }
        }
        for &wire in self.wires.keys() {
            choices.push(Choice::Lose { wire });
            choices.push(Choice::Hold { wire });
            choices.push(Choice::Repeat { wire });
        }
    }

    fn faults_of_disk(&self, choices: &mut Vec<Choice>) {
        for (host, it) in self.hosts.iter().enumerate() {
            if !it.on || !it.ends_io(self.now_us) {
                continue;
            }
            for ticks in [2, LEASE_TICKS + 1] {
                for early in [false, true] {
                    choices.push(Choice::Stall { host, ticks, early });
                }
            }
            if self.left.calm {
                continue;
            }
            choices.push(Choice::FailIo { host, done: false });
            if matches!(it.io.as_ref().map(|io| &io.what), Some(IoKind::Write(_))) {
                choices.push(Choice::FailIo { host, done: true });
            }
        }
    }

    fn faults_between_ticks(&self, host: usize, choices: &mut Vec<Choice>) {
        let it = &self.hosts[host];
        if it.guard.is_some() {
            choices.push(Choice::KillGuard { host });
        }
        if it.node.is_some() && host < self.setting.nodes {
            choices.push(Choice::KillDaemon { host });
        }
        choices.push(Choice::Isolate { host });
        if self.left.calm {
            return;
        }
        for to in (0..self.hosts.len()).filter(|&to| to != host) {
            choices.push(Choice::Cut { from: host, to });
        }
    }

    fn awaits(&self, host: usize) -> bool {
        self.wires.keys().any(|wire| wire.to == host)
    }

    /// Goes on by one choice.
    pub fn take(&mut self, choice: Choice) {
        match choice {
            Choice::Go if self.quiet() => self.tick(),
            Choice::Go => self.deliver(),
            Choice::Ask { host, ask } => self.ask(host, ask),
            Choice::PowerOn { host } => self.host(host).back = true,
            fault => {
                self.left.faults -= 1;
                self.seen.faulted = true;
                self.strike(fault);
            }
        }
        self.note();
    }

    fn strike(&mut self, fault: Choice) {
        let long = self.now_us + (LEASE_TICKS + 2) * TICK_US;
        match fault {
            Choice::Crash { host, back } => self.crash(host, back),
            Choice::KillDaemon { host } => {
                self.host(host).kill_daemon();
                self.run(host, Local::Guard(GuardInput::DaemonGone));
            }
            Choice::KillGuard { host } => self.host(host).kill_guard(),
            Choice::Freeze { host } => {
                self.host(host).frozen_until_us = self.now_us + (LEASE_TICKS + 1) * TICK_US;
            }
            Choice::Cut { from, to } => {
                self.cuts.insert((from, to), long);
            }
            Choice::Isolate { host } => {
                for other in (0..self.hosts.len()).filter(|&other| other != host) {
                    self.cuts.insert((host, other), long);
                    self.cuts.insert((other, host), long);
                }
            }
            Choice::Stall { host, ticks, early } => {
                if early {
                    self.do_io(host);
                }
                let until_us = self.now_us + ticks * TICK_US;
                if let Some(io) = &mut self.host(host).io {
                    io.until_us = until_us;
                }
            }
            Choice::FailIo { host, done } => {
                if done {
                    self.do_io(host);
                }
                self.host(host).io = None;
                self.run(host, Local::Disk(DiskInput::Failed));
            }
            Choice::Lose { wire } => {
                self.wires.remove(&wire);
            }
            Choice::Hold { wire } => {
                let parcels = self.wires.remove(&wire).unwrap_or_default();
                self.late.entry(wire).or_default().extend(parcels);
            }
            Choice::Repeat { wire } => {
                let parcels = self.wires.get(&wire).cloned().unwrap_or_default();
                self.late.entry(wire).or_default().extend(parcels);
            }
            Choice::Go | Choice::Ask { .. } | Choice::PowerOn { .. } => {}
        }
    }

    fn crash(&mut self, host: usize, back: bool) {
        if host == 0 {
            self.seen.crashed_1 = true;
        }
        self.seen.held[host] = false;
        self.host(host).power_cut();
        self.host(host).back = back;
        self.wires.retain(|wire, _| wire.to != host);
        self.late.retain(|wire, _| wire.to != host);
    }

    fn ask(&mut self, host: usize, ask: Ask) {
        self.left.asks = self.left.asks.saturating_sub(1);
        let group = group_id();
        let holder = self.hosts[host].kept.document.as_ref();
        let holder = holder.and_then(|document| document.groups.get(&group)?.holder);
        let other = (0..self.setting.nodes).find(|&node| Some(member(node)) != holder);
        let request = match ask {
            Ask::Switch => Request::GroupSwitch {
                group,
                to: other.map(member),
            },
            Ask::Disarm => Request::Disarm,
            Ask::Arm => Request::Arm,
        };
        self.seen.asked_to_switch |= ask == Ask::Switch;
        let input = Input::Request {
            id: 1,
            request: Box::new(request),
            dry_run: false,
        };
        self.run(host, Local::Node(input));
    }

    /// What is under way ends: writes, work on resources, then parcels in the order of members.
    fn deliver(&mut self) {
        self.rounds += 1;
        assert!(
            self.rounds < ROUNDS_AT_ONCE,
            "no end of messages without time passing"
        );
        let arriving = std::mem::take(&mut self.wires);
        for index in 0..self.hosts.len() {
            if self.hosts[index].busy(self.now_us) {
                self.finish(index);
            }
        }
        for (wire, parcels) in arriving {
            for parcel in parcels {
                self.arrive(wire.from, wire.to, parcel);
            }
        }
    }

    fn finish(&mut self, index: usize) {
        let host = self.host(index);
        let writes = std::mem::take(&mut host.writes);
        let works = std::mem::take(&mut host.works);
        if let Some((id, state)) = writes.into_iter().next_back() {
            host.kept = state;
            self.run(index, Local::Node(Input::Persisted(id)));
        }
        if self.hosts[index].ends_io(self.now_us) {
            self.do_io(index);
            let ended = match self.host(index).io.take().map(|io| io.what) {
                Some(IoKind::Read(read)) => DiskInput::Read(read.unwrap_or_default()),
                _ => DiskInput::Wrote,
            };
            self.run(index, Local::Disk(ended));
        }
        for work in works {
            let passes = self.hosts[index].passes(self.now_us);
            let host = self.host(index);
            let result = match work.work {
                Work::Start if !passes => Err("the guard has not permitted this group".to_owned()),
                Work::Start => {
                    host.runs_in = Some(work.epoch);
                    Ok(())
                }
                Work::Stop | Work::Kill => {
                    host.runs_in = None;
                    Ok(())
                }
                Work::Check => Ok(()),
            };
            let id = work.id;
            self.run(index, Local::Node(Input::Done { id, result }));
        }
    }

    /// What the host does with the quorum disk takes effect.
    fn do_io(&mut self, host: usize) {
        let Some(Io { what, .. }) = &mut Arc::make_mut(&mut self.hosts[host]).io else {
            return;
        };
        self.touched[host] = true;
        match what {
            IoKind::Write(slot) => {
                if let Some(slot) = slot.take() {
                    Arc::make_mut(&mut self.slots).insert(slot.member, *slot);
                }
            }
            IoKind::Read(read) => {
                read.get_or_insert_with(|| self.slots.values().cloned().collect());
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, parcel: Parcel) {
        if !self.hosts[to].on {
            return;
        }
        if self.hosts[to].frozen(self.now_us) {
            self.host(to).inbox.push((from, parcel));
            return;
        }
        let local = match parcel {
            Parcel::Datagram(datagram) => {
                Local::Guard(GuardInput::Datagram(Box::new(Datagram::clone(&datagram))))
            }
            Parcel::Message(message) => Local::Node(Input::Message {
                from: member(from),
                message: Message::clone(&message),
            }),
        };
        self.run(to, local);
    }

    /// Time passes.
    fn tick(&mut self) {
        self.rounds = 0;
        self.now_us += TICK_US;
        self.left.ticks = self.left.ticks.saturating_sub(1);
        let now_us = self.now_us;
        self.cuts.retain(|_, until| *until > now_us);
        for (wire, parcels) in std::mem::take(&mut self.late) {
            self.wires.entry(wire).or_default().extend(parcels);
        }
        for index in 0..self.hosts.len() {
            self.come_back(index);
        }
        for index in 0..self.hosts.len() {
            let host = &self.hosts[index];
            if !host.on || host.frozen(now_us) {
                continue;
            }
            if host.node.is_some() {
                self.run(index, Local::Guard(GuardInput::Credit));
            }
            self.run(index, Local::Guard(GuardInput::Tick));
            self.run(index, Local::Node(Input::Tick));
        }
    }

    fn come_back(&mut self, index: usize) {
        let now_us = self.now_us;
        let disk = self.setting.disk_member();
        if self.hosts[index].back {
            let host = self.host(index);
            host.back = false;
            if !host.on {
                host.power_on(now_us);
            }
            let new_guard = host.guard.is_none();
            if new_guard {
                host.start_guard(index, disk, now_us);
            }
            if host.node.is_none() {
                host.start_node(index, now_us);
                self.adopt(index);
            } else if new_guard {
                self.greet_guard(index);
            }
        }
        if !self.hosts[index].frozen(now_us) && !self.hosts[index].inbox.is_empty() {
            for (from, parcel) in std::mem::take(&mut self.host(index).inbox) {
                self.arrive(from, index, parcel);
            }
        }
    }

    /// The daemon finds what an earlier run of it left running.
    fn adopt(&mut self, index: usize) {
        let mut facts = vec![ResourceFact::Verdict {
            problems: Vec::new(),
        }];
        if let Some(epoch) = self.hosts[index].runs_in {
            facts.insert(0, ResourceFact::Adopted { epoch });
        }
        if index >= self.setting.nodes {
            return;
        }
        for fact in facts {
            let input = Input::Fact {
                group: group_id(),
                resource: "service".into(),
                fact,
            };
            self.run(index, Local::Node(input));
        }
    }

    fn greet_guard(&mut self, index: usize) {
        let now = self.hosts[index].now(self.now_us);
        let Some(node) = &mut self.host(index).node else {
            return;
        };
        let actions = node.guard_restarted(now);
        let mut queue = VecDeque::new();
        self.do_for_node(index, actions, &mut queue);
        self.drain(index, queue);
    }

    fn run(&mut self, index: usize, local: Local) {
        self.drain(index, VecDeque::from([local]));
    }

    fn drain(&mut self, index: usize, mut queue: VecDeque<Local>) {
        let now = self.hosts[index].now(self.now_us);
        for _ in 0..STEPS_AT_ONCE {
            let Some(local) = queue.pop_front() else {
                return;
            };
            match local {
                Local::Guard(input) => {
                    let Some(guard) = &mut self.host(index).guard else {
                        continue;
                    };
                    let actions = guard.step(now, input);
                    self.do_for_guard(index, actions, &mut queue);
                }
                Local::Node(input) => {
                    let Some(node) = &mut self.host(index).node else {
                        continue;
                    };
                    let actions = node.step(now, input);
                    self.do_for_node(index, actions, &mut queue);
                }
                Local::Disk(input) => {
                    let Some(voter) = &mut self.host(index).voter else {
                        continue;
                    };
                    let (disk, actions) = (voter.disk(), voter.step(now, input));
                    self.do_for_disk(index, disk, actions, &mut queue);
                }
            }
        }
        unreachable!("no end of steps within one host");
    }

    fn do_for_disk(
        &mut self,
        index: usize,
        disk: MemberId,
        actions: Vec<DiskAction>,
        queue: &mut VecDeque<Local>,
    ) {
        let mut begin = |what| {
            let until_us = self.now_us;
            self.host(index).io = Some(Io { what, until_us });
        };
        for action in actions {
            match action {
                DiskAction::Write(slot) => begin(IoKind::Write(Some(slot))),
                DiskAction::Read => begin(IoKind::Read(None)),
                DiskAction::Ack(ack) => {
                    let datagram = Box::new(Datagram::Ack(ack));
                    queue.push_back(Local::Guard(GuardInput::Datagram(datagram)));
                }
                DiskAction::Say(message) => {
                    queue.push_back(Local::Node(Input::Message {
                        from: disk,
                        message,
                    }));
                }
                DiskAction::Trouble(_) => {}
            }
        }
    }

    fn do_for_guard(
        &mut self,
        index: usize,
        actions: Vec<GuardAction>,
        queue: &mut VecDeque<Local>,
    ) {
        let now = self.hosts[index].now(self.now_us).moment();
        for action in actions {
            match action {
                GuardAction::Send { to, datagram } if self.setting.disk_member() == Some(to) => {
                    if let Datagram::Beat(beat) = datagram {
                        queue.push_back(Local::Disk(DiskInput::Beat(Box::new(beat))));
                    }
                }
                GuardAction::Send { to, datagram } => {
                    let parcel = Parcel::Datagram(Arc::new(datagram));
                    self.send(index, to, Channel::Datagrams, parcel);
                }
                GuardAction::SavePromises => {
                    let host = self.host(index);
                    host.promises = host.guard.as_ref().map(|guard| guard.promises().clone());
                }
                GuardAction::Cut { .. } => self.host(index).cut(),
                GuardAction::Open { until, .. } => {
                    let gate = until.map_or(Gate::UntilCut, |left| Gate::Until(now.plus(left)));
                    self.host(index).gate = Some(gate);
                }
                GuardAction::Event(event) => {
                    if let GuardEvent::Lease { held } = event {
                        self.seen.lease(index, held);
                    }
                    queue.push_back(Local::Node(Input::Guard(event)));
                }
            }
        }
    }

    fn do_for_node(&mut self, index: usize, actions: Vec<Action>, queue: &mut VecDeque<Local>) {
        for action in actions {
            match action {
                Action::Send { to, message } if self.setting.disk_member() == Some(to) => {
                    queue.push_back(Local::Disk(DiskInput::Message(message)));
                }
                Action::Send { to, message } => {
                    let parcel = Parcel::Message(Arc::new(message));
                    self.send(index, to, Channel::Messages, parcel);
                }
                Action::Persist { id, state } => self.write(index, id, *state),
                Action::Guard(wanted) => {
                    let verdict = self.ledger().committed(wanted.committed);
                    self.judge(verdict);
                    queue.push_back(Local::Guard(GuardInput::Wanted(wanted)));
                }
                Action::Resource(action) => self.host(index).works.push(action),
                // Its groups have no mirrors.
                Action::Mirror { .. } => {}
                Action::Event(event) => {
                    if let What::Leads { term } = event.what {
                        let verdict = self.ledger().leads(member(index), term);
                        self.judge(verdict);
                    }
                }
                Action::Answer { .. } | Action::Fence { .. } | Action::Host(_) => {}
            }
        }
    }

    fn write(&mut self, index: usize, id: hotpair_core::node::PersistId, state: Durable) {
        let host = &self.hosts[index];
        let before = host.writes.last().map_or(&host.kept, |(_, state)| state);
        let before = before
            .document
            .as_ref()
            .map_or(Version::ZERO, |document| document.version);
        if let Some(document) = state.document.clone() {
            let verdict = self.ledger().saw(&document, before);
            self.judge(verdict);
        }
        self.host(index).writes.push((id, state));
    }

    fn send(&mut self, from: usize, to: MemberId, channel: Channel, parcel: Parcel) {
        let to = usize::from(to.0) - 1;
        if to >= self.hosts.len() || self.cuts.contains_key(&(from, to)) {
            return;
        }
        let wire = Wire { from, to, channel };
        self.wires.entry(wire).or_default().push(parcel);
    }

    fn host(&mut self, index: usize) -> &mut Host {
        self.touched[index] = true;
        Arc::make_mut(&mut self.hosts[index])
    }

    fn ledger(&mut self) -> &mut Ledger {
        Arc::make_mut(&mut self.ledger)
    }

    fn judge(&mut self, verdict: Result<(), Rule>) {
        if let Err(rule) = verdict {
            self.broken.get_or_insert(rule);
        }
    }

    /// Looks at the state that has been reached.
    fn note(&mut self) {
        for (index, host) in self.hosts.iter().enumerate() {
            if std::mem::take(&mut self.touched[index]) {
                self.digests[index] = digest(host);
            }
        }
        let open: BTreeSet<usize> = (0..self.hosts.len())
            .filter(|&host| self.hosts[host].passes(self.now_us))
            .collect();
        if open.len() > 1 {
            self.judge(Err(Rule::SingleActive));
        }
        let pinned = self.pinned();
        self.seen.note_pin(pinned);
        self.seen.ran_on_1 |= self.active(0);
        let on_2 = self.setting.nodes > 1 && self.active(1);
        self.seen.took_over |= on_2 && self.seen.crashed_1;
        self.seen.switched |= on_2 && self.seen.asked_to_switch && !self.seen.faulted;
    }
}
