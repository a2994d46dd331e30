//! What the shells of daemon and guard do with the actions of the core.

use crate::check::Rule;
use crate::cluster::{host_of, member};
use crate::fault::Trigger;
use crate::host::{Gate, Load, PartState};
use crate::world::{Event, World, note};
use hotpair_core::disk::DiskInput;
use hotpair_core::group::ResourceFact;
use hotpair_core::guard::{GuardAction, GuardEvent, GuardInput, Wanted};
use hotpair_core::ids::{Epoch, GroupId, MemberId, ResourceId, Version};
use hotpair_core::message::{Datagram, Message};
use hotpair_core::node::{Action, Durable, HostAction, Input, PersistId, What};
use std::collections::BTreeMap;
use std::time::Duration;

/// Steps a host may make without time passing, and in a second; far above what a healthy member
/// does at the shortest heartbeat with seven members.
const STEPS_AT_ONCE: u64 = 2_000;
const STEPS_PER_SECOND: u64 = 20_000;

/// Messages a member may send in a second: far above repeating every offer at every heartbeat.
const MESSAGES_PER_SECOND: u64 = 4_000;

impl World {
    /// One step of the guard, and all that follows from it.
    pub fn step_guard(&mut self, host: usize, input: GuardInput) {
        let now_us = self.now_us;
        let it = &mut self.hosts[host];
        let now = it.clocks.read(now_us);
        let Some(guard) = &mut it.guard.it else {
            return;
        };
        let actions = guard.step(now, input);
        it.guard.stepped_at = now_us;
        self.count_step(host);
        let mut busy_us = 0;
        for action in actions {
            self.do_for_guard(host, action, &mut busy_us);
        }
        let it = &mut self.hosts[host];
        let Some(guard) = &it.guard.it else { return };
        let due = guard
            .deadline(now)
            .and_then(|moment| it.clocks.when(moment));
        let due = due.map(|at| at.max(now_us + 20));
        if let Some(at) = due
            && at < it.guard.timer_at
        {
            it.guard.timer_at = at;
            self.queue.push(at, Event::GuardTimer { host });
        }
    }

    /// One step of the daemon, and all that follows from it.
    pub fn step_node(&mut self, host: usize, input: Input) {
        let now_us = self.now_us;
        let now = self.hosts[host].clocks.read(now_us);
        if self.trace.is_some() {
            self.note_input(host, &input);
        }
        let Some(node) = &mut self.hosts[host].node.it else {
            return;
        };
        let actions = node.step(now, input);
        self.after_node(host, actions);
    }

    /// Its mirror process has connected, or is gone.
    pub(crate) fn node_hears_of_mirror(
        &mut self,
        host: usize,
        group: &GroupId,
        resource: &ResourceId,
    ) {
        let now = self.hosts[host].clocks.read(self.now_us);
        let Some(node) = &mut self.hosts[host].node.it else {
            return;
        };
        let actions = node.mirror_connected(now, group, resource);
        self.after_node(host, actions);
    }

    pub(crate) fn node_hears_of_new_guard(&mut self, host: usize) {
        let now = self.hosts[host].clocks.read(self.now_us);
        let Some(node) = &mut self.hosts[host].node.it else {
            return;
        };
        let actions = node.guard_restarted(now);
        self.after_node(host, actions);
    }

    fn after_node(&mut self, host: usize, actions: Vec<Action>) {
        let now_us = self.now_us;
        self.count_step(host);
        self.hosts[host].node.stepped_at = now_us;
        let life = self.hosts[host].node.life;
        // Documents are seen before anybody is told of them.
        for action in &actions {
            if let Action::Persist { state, .. } = action {
                self.see_document(host, state);
            }
        }
        for action in actions {
            if self.hosts[host].node.life != life {
                return;
            }
            self.do_for_node(host, action);
        }
        let it = &mut self.hosts[host];
        let Some(node) = &it.node.it else { return };
        let due = node.deadline().and_then(|moment| it.clocks.when(moment));
        if let Some(at) = due.map(|at| at.max(now_us + 20))
            && at < it.node.timer_at
        {
            it.node.timer_at = at;
            self.queue.push(at, Event::NodeTimer { host });
        }
    }

    fn note_input(&mut self, host: usize, input: &Input) {
        match input {
            Input::Tick | Input::Guard(hotpair_core::guard::GuardEvent::Heard(_)) => {}
            Input::Guard(hotpair_core::guard::GuardEvent::VoterHeard { .. }) => {}
            Input::Fact {
                fact: ResourceFact::Verdict { problems },
                ..
            } if problems.is_empty() => {}
            Input::Fact {
                group,
                resource,
                fact: ResourceFact::Detected { running, .. },
            } => {
                let part = self.hosts[host]
                    .parts
                    .get(&(group.clone(), resource.clone()));
                let up = part.is_some_and(|part| part.state == PartState::Up);
                if up != *running {
                    note!(
                        self,
                        "m{} <- {group}/{resource} detected running {running}",
                        host + 1
                    );
                }
            }
            Input::Message {
                from,
                message:
                    Message::Offer {
                        term,
                        document,
                        committed,
                    },
            } => {
                let version = document.version;
                note!(
                    self,
                    "m{} <- {from} offer {version} in {term}, committed {committed}",
                    host + 1
                );
            }
            Input::Message {
                from,
                message: Message::Hand { document },
            } => {
                let version = document.version;
                note!(self, "m{} <- {from} hand {version}", host + 1);
            }
            Input::Message {
                from,
                message: Message::Report(report),
            } => {
                let states = report
                    .groups
                    .iter()
                    .map(|(g, r)| format!("{g} {} {:?}", r.epoch, r.state));
                let states = states.collect::<Vec<_>>().join(", ");
                note!(
                    self,
                    "m{} <- {from} report {} at {}: {states}",
                    host + 1,
                    report.number,
                    report.version
                );
            }
            other => note!(self, "m{} <- {other:?}", host + 1),
        }
    }

    /// What stands before it has taken `busy_us`.
    fn do_for_guard(&mut self, host: usize, action: GuardAction, busy_us: &mut u64) {
        match action {
            GuardAction::Send { to, datagram } => {
                self.hosts[host].load.datagrams += 1;
                if let Datagram::Beat(beat) = &datagram
                    && beat.idle
                {
                    note!(self, "m{} idle beat {} to {to}", host + 1, beat.seq);
                }
                match datagram {
                    Datagram::Beat(beat) if self.is_disk(host_of(to)) => {
                        self.step_voter(host, DiskInput::Beat(Box::new(beat)), *busy_us);
                    }
                    datagram => self.send_datagram(host, to, datagram, *busy_us),
                }
            }
            GuardAction::SavePromises => {
                let it = &mut self.hosts[host];
                it.promises = it.guard.it.as_ref().map(|guard| guard.promises().clone());
            }
            GuardAction::Cut { group } if self.slow_cut_us[host] > 0 => {
                *busy_us += self.slow_cut_us[host];
                let power = self.hosts[host].power;
                self.queue.push(
                    self.now_us + *busy_us,
                    Event::LateCut { host, power, group },
                );
            }
            GuardAction::Cut { group } => self.cut(host, &group),
            GuardAction::Open { group, until } => {
                let now = self.hosts[host].clocks.read(self.now_us).moment();
                let gate = until.map_or(Gate::UntilCut, |left| Gate::Until(now.plus(left)));
                self.open(host, &group, gate);
            }
            GuardAction::Event(event) => {
                if let GuardEvent::Permits(permits) = &event {
                    self.check_permits(host, permits);
                }
                self.tell_node(host, Input::Guard(event));
            }
        }
    }

    fn do_for_node(&mut self, host: usize, action: Action) {
        match action {
            Action::Send { to, message } => {
                self.hosts[host].load.messages += 1;
                self.note_message(host, to, &message);
                if self.is_disk(host_of(to)) {
                    self.tell_voter(host, DiskInput::Message(message));
                } else {
                    self.send_message(host, to, message);
                }
            }
            Action::Persist { id, state } => self.write(host, id, state),
            Action::Guard(wanted) => self.want(host, *wanted),
            Action::Resource(action) => self.begin_work(host, action),
            Action::Mirror { orders, .. } => self.order_mirror(host, orders),
            Action::Answer { id, outcome } => self.answered(host, id, outcome),
            Action::Event(event) => {
                note!(
                    self,
                    "m{} EVENT {:?} {:?} {:?}",
                    host + 1,
                    event.group,
                    event.node,
                    event.what
                );
                self.check_event(host, &event.what);
            }
            Action::Host(HostAction::Reboot) => {
                note!(self, "m{} reboots itself", host + 1);
                self.power_cut(host, 2_000_000);
            }
            Action::Fence { node, boot } => self.use_fence_device(host, node, boot),
            Action::Host(HostAction::StopHotpair) => self.stop_hotpair(host, 3_000_000),
        }
    }

    /// A permit rests on a document that is known to be committed.
    fn check_permits(&mut self, host: usize, permits: &BTreeMap<GroupId, Epoch>) {
        let unfounded = permits
            .iter()
            .find(|(group, epoch)| !self.ledger.gave(member(host), group, **epoch));
        if let Some((group, epoch)) = unfounded {
            let text = format!(
                "m{} has a permit for {group} in epoch {epoch}, which no document known to be committed gives it",
                host + 1
            );
            self.violated(Rule::StartOnCommitted, text);
        }
    }

    fn check_event(&mut self, host: usize, what: &What) {
        match what {
            What::Leads { term } => {
                self.fire(Trigger::Leader);
                if let Err((rule, text)) = self.ledger.leads(member(host), *term) {
                    self.violated(rule, text);
                }
            }
            What::Decided { reason, .. } if reason.to_string().trim().is_empty() => {
                self.violated(Rule::Reasons, "a decision has no reason".into());
            }
            _ => {}
        }
    }

    fn note_message(&mut self, host: usize, to: MemberId, message: &Message) {
        match message {
            Message::Offer {
                term,
                document,
                committed,
            } => {
                if let Err((rule, text)) = self.ledger.leads(member(host), *term) {
                    self.violated(rule, text);
                }
                note!(
                    self,
                    "m{} -> {to} offer {} in {term}",
                    host + 1,
                    document.version
                );
                self.committed(host, *committed);
            }
            Message::Committed { version, .. } => self.committed(host, *version),
            Message::Report(_) | Message::Hand { .. } => {}
            other => note!(self, "m{} -> {to} {other:?}", host + 1),
        }
    }

    fn see_document(&mut self, host: usize, state: &Durable) {
        let Some(document) = &state.document else {
            return;
        };
        let before = self.hosts[host]
            .document
            .as_ref()
            .map(|document| document.version);
        if before == Some(document.version) {
            self.saw(host, document, None);
            return;
        }
        if self.trace.is_some() {
            let held = document.groups.iter().map(|(group, placement)| {
                let Some(holder) = placement.holder else {
                    return format!("{group} nobody {}", placement.epoch);
                };
                let moving = placement.moving.as_ref().map(|moving| moving.to);
                let mirrors = &placement.mirrors;
                let mirrors = if mirrors.is_empty() {
                    String::new()
                } else {
                    format!(" {mirrors:?}")
                };
                format!(
                    "{group} {holder} {} {:?} {moving:?} {:?}{mirrors}",
                    placement.epoch, placement.goal, placement.pin
                )
            });
            let held = held.collect::<Vec<_>>().join("; ");
            note!(
                self,
                "m{} takes {} ({held}) voters {:?}",
                host + 1,
                document.version,
                document.voters
            );
        }
        self.saw(host, document, before);
        self.hosts[host].document = Some(std::sync::Arc::clone(document));
    }

    fn want(&mut self, host: usize, wanted: Wanted) {
        note!(
            self,
            "m{} wants held {} committed {} leads {} groups {:?}",
            host + 1,
            wanted.held,
            wanted.committed,
            wanted.leads,
            wanted.groups
        );
        self.hosts[host].committed = wanted.committed;
        // Known to be committed means the document of exactly this version, if it is kept.
        if wanted.committed > Version::ZERO {
            self.committed(host, wanted.committed);
        }
        self.hosts[host].wanted = Some(wanted.clone());
        self.tell_guard(host, GuardInput::Wanted(Box::new(wanted)));
    }

    /// Each heartbeat while the decision loop runs.
    pub(crate) fn credit(&mut self, host: usize, life: u64) {
        let it = &self.hosts[host];
        if it.node.life != life || it.node.it.is_none() {
            return;
        }
        let every = it
            .wanted
            .as_ref()
            .map_or(Duration::from_millis(20), |wanted| wanted.heartbeat);
        if !it.node_stuck(self.now_us) && it.guard.it.is_some() {
            self.to_guard(host, GuardInput::Credit);
        }
        let every = u64::try_from(every.as_micros()).unwrap_or(u64::MAX);
        self.queue
            .push(self.now_us + every, Event::Credit { host, life });
    }

    /// A durable write begins, or waits for the one under way; a later one replaces it.
    fn write(&mut self, host: usize, id: PersistId, state: Box<Durable>) {
        self.fire(Trigger::Write);
        let disk = &mut self.hosts[host].disk;
        if disk.writing.is_some() {
            disk.waiting = Some((id, state));
            return;
        }
        disk.writing = Some((id, state));
        self.time_write(host);
    }

    fn time_write(&mut self, host: usize) {
        let (low, high) = self.machines.disk_us;
        let mut takes = self.rng.range(low, high);
        let it = &self.hosts[host];
        if it.disk.slow_until > self.now_us {
            takes *= it.disk.slow_times;
        }
        let begins = self.now_us.max(it.disk.stuck_until).max(it.paused_until);
        self.queue.push(
            begins + takes,
            Event::Written {
                host,
                power: it.power,
            },
        );
    }

    pub(crate) fn written(&mut self, host: usize, power: u64) {
        let now_us = self.now_us;
        let it = &mut self.hosts[host];
        if it.power != power || it.disk.writing.is_none() {
            return;
        }
        if it.disk.stuck_until.max(it.paused_until) > now_us {
            self.time_write(host);
            return;
        }
        let Some((id, state)) = it.disk.writing.take() else {
            return;
        };
        it.disk.kept = Some(*state);
        it.disk.writing = it.disk.waiting.take();
        if it.disk.writing.is_some() {
            self.time_write(host);
        }
        self.tell_node(host, Input::Persisted(id));
    }

    /// What has come of this second so far.
    fn load(&mut self, host: usize) -> &mut Load {
        let second = self.now_us / 1_000_000;
        let load = &mut self.hosts[host].load;
        if load.second != second {
            *load = Load {
                second,
                ..Load::default()
            };
        }
        load
    }

    /// A process goes on and finds `inputs` waiting: the steps for these are not its own doing.
    pub(crate) fn expect_backlog(&mut self, host: usize, inputs: usize) {
        self.load(host).backlog += inputs as u64;
    }

    fn count_step(&mut self, host: usize) {
        let now_us = self.now_us;
        let load = self.load(host);
        load.steps += 1;
        load.at_once = if load.at_us == now_us {
            load.at_once + 1
        } else {
            0
        };
        load.at_us = now_us;
        let load = *load;
        let too_much = load.at_once > STEPS_AT_ONCE + load.backlog
            || load.steps > STEPS_PER_SECOND + load.backlog
            || load.messages > MESSAGES_PER_SECOND
            || load.datagrams > STEPS_PER_SECOND;
        if too_much {
            let it = &self.hosts[host];
            let now = it.now(now_us);
            let (guard, node) = (it.guard.it.as_ref(), it.node.it.as_ref());
            let due = (
                guard.and_then(|guard| guard.deadline(now)),
                node.and_then(|node| node.deadline()),
            );
            if let Some(node) = node {
                note!(self, "m{} {node:#?}", host + 1);
            }
            let text = format!(
                "m{}: {load:?}, at {now:?} guard and node are due {due:?}",
                host + 1
            );
            self.violated(Rule::BoundedWork, text);
        }
    }
}
