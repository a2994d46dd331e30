//! The mirror processes: starting, stepping, what comes of effects, the wire between them.

use super::{Happening, News, Packet};
use crate::check::Rule;
use crate::cluster::member;
use crate::host::Word;
use crate::world::{World, note};
use hotpair_core::group::ResourceFact;
use hotpair_core::mirror::{Disk as Found, MirrorOrders, MirrorReport};
use hotpair_core::node::Input;
use hotpair_volume::engine::{Effect, Event, Part, Session};
use hotpair_volume::link::{Body, Message};

/// Way of a message between the daemon and a process of its host, in microseconds.
const LOCAL_US: u64 = 40;
/// Packets that cannot pass now are looked at again at multiples of this, in their order.
const GRID_US: u64 = 5_000;

impl World {
    /// The daemon of `host` has started: it finds the process that an earlier one left.
    pub(crate) fn mirror_daemon_starts(&mut self, host: usize) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let Some(side) = mirror.side_of(host) else {
            return;
        };
        mirror.sides[side].daemon = None;
        // As adopted.
        mirror.sides[side].known_open = mirror.sides[side].node.open;
        if mirror.sides[side].node.engine.is_some() {
            self.mirror_tell_daemon(side, News::Connected);
            if let Some(report) = self.mirror_report(side) {
                self.mirror_tell_daemon(side, News::Report(Box::new(report)));
            }
        }
    }

    fn mirror_report(&self, side: usize) -> Option<MirrorReport> {
        self.mirror.as_ref()?.sides[side].node.report.clone()
    }

    pub(super) fn mirror_tell_daemon(&mut self, side: usize, news: News) {
        let Some(mirror) = &self.mirror else { return };
        let node = &self.hosts[mirror.sides[side].host].node;
        if node.it.is_some() {
            let daemon = node.life;
            self.mirror_in(LOCAL_US, Happening::News { side, daemon, news });
        }
    }

    pub(super) fn mirror_news(&mut self, side: usize, daemon: u64, news: News) {
        let Some(mirror) = &self.mirror else { return };
        let host = mirror.sides[side].host;
        if self.hosts[host].node.life != daemon {
            return;
        }
        if self.hosts[host].node_stuck(self.now_us) {
            self.hosts[host].node.keep(Word::Mirror(news), false);
        } else {
            self.daemon_hears(host, news);
        }
    }

    /// As the daemon's own shell has it.
    pub(crate) fn daemon_hears(&mut self, host: usize, news: News) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let Some(side) = mirror.side_of(host) else {
            return;
        };
        let (group, resource) = mirror.part();
        match news {
            News::Connected => {
                mirror.sides[side].daemon = Some(self.hosts[host].node.life);
                self.node_hears_of_mirror(host, &group, &resource);
            }
            News::Lost => {
                mirror.sides[side].daemon = None;
                self.node_hears_of_mirror(host, &group, &resource);
                self.mirror_closed(side, "its mirror process has ended");
            }
            News::Report(report) => self.daemon_hears_report(side, *report),
        }
    }

    fn daemon_hears_report(&mut self, side: usize, report: MirrorReport) {
        let Some(mirror) = &self.mirror else { return };
        let host = mirror.sides[side].host;
        let (group, resource) = mirror.part();
        let opened = report.opened.filter(|_| report.open);
        let problem = match &report.disk {
            Found::Failed(problem) => Some(problem.clone()),
            _ => None,
        };
        let fails_over = !self.mirror_goes_on();
        self.step_node(
            host,
            Input::Mirror {
                group: group.clone(),
                resource: resource.clone(),
                report: Box::new(report),
            },
        );
        match (opened, problem) {
            (Some(epoch), None) => {
                if let Some(mirror) = &mut self.mirror {
                    mirror.sides[side].known_open = Some(epoch);
                }
            }
            (Some(_), Some(problem)) if fails_over => {
                let fact = ResourceFact::Verdict {
                    problems: vec![problem.clone()],
                };
                self.step_node(
                    host,
                    Input::Fact {
                        group,
                        resource,
                        fact,
                    },
                );
                self.mirror_closed(side, &problem);
            }
            (Some(_), Some(_)) => {}
            (None, _) => self.mirror_closed(side, "its device was closed: the gate was found shut"),
        }
    }

    fn mirror_closed(&mut self, side: usize, why: &str) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let host = mirror.sides[side].host;
        let (group, resource) = mirror.part();
        if let Some(epoch) = mirror.sides[side].known_open.take() {
            let fact = ResourceFact::Exited {
                epoch,
                detail: why.to_owned(),
            };
            self.step_node(
                host,
                Input::Fact {
                    group,
                    resource,
                    fact,
                },
            );
        }
    }

    /// Does it go on through the other copy when the local disk fails?
    fn mirror_goes_on(&self) -> bool {
        super::find(&self.first).is_some_and(|(_, _, mirror)| {
            mirror.on_disk_failure == hotpair_core::config::OnDiskFailure::GoOn
        })
    }

    /// The daemon has orders for its mirror process.
    pub(crate) fn order_mirror(&mut self, host: usize, orders: Box<MirrorOrders>) {
        let Some(mirror) = &self.mirror else { return };
        let Some(side) = mirror.side_of(host) else {
            return;
        };
        let it = &mirror.sides[side];
        if it.daemon == Some(self.hosts[host].node.life) {
            let life = it.node.life;
            self.mirror_in(LOCAL_US, Happening::Orders { side, life, orders });
        }
    }

    pub(super) fn mirror_ordered(&mut self, side: usize, life: u64, orders: Box<MirrorOrders>) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        if mirror.sides[side].node.life == life {
            mirror.sides[side].take_orders(orders.clone());
            self.step_mirror(side, Event::Orders(orders));
        }
    }

    /// Does the newest document of this host give it a copy?
    fn mirror_wanted(&self, side: usize) -> bool {
        let Some(mirror) = &self.mirror else {
            return false;
        };
        let it = &self.hosts[mirror.sides[side].host];
        let copies = it.document.as_ref().and_then(|document| {
            let group = document.config.groups.get(&mirror.group)?;
            Some(&group.mirror(&mirror.resource)?.copies)
        });
        copies.is_some_and(|copies| copies.contains_key(&mirror.sides[side].member()))
    }

    /// Now and then: processes are started, gates looked at, the connection is made.
    pub(super) fn mirror_look(&mut self) {
        for side in 0..2 {
            self.start_mirror_process(side);
            self.look_at_gate(side);
            self.tell_disk(side);
            self.go_on_opening(side);
        }
        self.connect_mirror();
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let gap = mirror.rng.range(2_000, 12_000);
        self.mirror_in(gap, Happening::Look);
    }

    fn start_mirror_process(&mut self, side: usize) {
        let wanted = self.mirror_wanted(side);
        let through = self.mirror_goes_on();
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        let host = &self.hosts[it.host];
        let daemon = host.on && host.node.it.is_some() && !host.node_stuck(now);
        if !daemon || it.start_at > now {
            return;
        }
        if !wanted {
            if it.node.engine.is_some() {
                self.kill_mirror(side, 1_000_000);
            }
            return;
        }
        if it.node.engine.is_some() || !it.node.disk.idle() {
            return;
        }
        it.node.boot = host.boot.0;
        it.node.on = true;
        it.orders = None;
        it.shut = false;
        it.closing = false;
        it.node.report = None;
        it.node.start(through, 5);
        note!(self, "m{} mirror process starts", it.host + 1);
        self.mirror_tell_daemon(side, News::Connected);
        self.tell_disk(side);
    }

    fn tell_disk(&mut self, side: usize) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        let mended = it.node.disk.broken && it.broken_until <= now
            || it.node.disk.full && it.full_until <= now;
        it.node.disk.broken = it.broken_until > now;
        it.node.disk.full = it.full_until > now;
        let failed = it
            .node
            .report
            .as_ref()
            .is_some_and(|report| matches!(report.disk, Found::Failed(_)));
        if mended && failed {
            it.node.attached = false;
        }
        let node = &mut it.node;
        if node.engine.is_some() && !node.attached && node.works.is_empty() && !node.disk.broken {
            node.attached = true;
            let found = node.found.clone();
            self.step_mirror(side, Event::Disk(found));
        }
    }

    pub(super) fn step_mirror(&mut self, side: usize, event: Event) {
        let now_us = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        let host = &self.hosts[it.host];
        let Some(engine) = &mut it.node.engine else {
            return;
        };
        if host.paused_until > now_us {
            it.node.pending.push_back(event);
            return;
        }
        let mut effects = Vec::new();
        engine.step(host.now(now_us).moment(), event, &mut effects);
        for effect in &effects {
            // Whether it goes on under its own mark matters to what it completes.
            if let Effect::Report(report) = effect {
                self.mark_solo(side, &report.disk);
            }
        }
        for effect in effects {
            self.mirror_effect(side, effect);
        }
        self.set_mirror_timer(side);
    }

    fn mark_solo(&mut self, side: usize, disk: &Found) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let node = &mut mirror.sides[side].node;
        match disk {
            Found::Attached { solo: Some(_), .. } => {
                mirror.counts.solos += u64::from(node.solo_since.is_none());
                node.solo_since.get_or_insert(now);
            }
            Found::Attached { .. } => node.solo_since = None,
            _ => {}
        }
    }

    fn set_mirror_timer(&mut self, side: usize) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        let due = it.node.engine.as_ref().and_then(|engine| engine.deadline());
        let Some(at) = due.and_then(|due| self.hosts[it.host].clocks.when(due)) else {
            return;
        };
        let at = at.max(now + 1);
        if it.node.timer.is_some_and(|timer| timer <= at) {
            return;
        }
        it.node.timer = Some(at);
        let life = it.node.life;
        self.mirror_in(at - now, Happening::Timer { side, life });
    }

    pub(super) fn mirror_timer(&mut self, side: usize, life: u64) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        if it.node.life != life || it.node.timer != Some(now) {
            return;
        }
        it.node.timer = None;
        let host = &self.hosts[it.host];
        if host.paused_until > now {
            return;
        }
        let moment = host.now(now).moment();
        let due = it.node.engine.as_ref().and_then(|engine| engine.deadline());
        if due.is_some_and(|due| due <= moment) {
            self.step_mirror(side, Event::Tick);
        } else {
            self.set_mirror_timer(side);
        }
    }

    /// The host goes on after a pause.
    pub(crate) fn mirror_thaws(&mut self, host: usize) {
        let Some(side) = self.mirror.as_ref().and_then(|it| it.side_of(host)) else {
            return;
        };
        if self.hosts[host].paused_until > self.now_us {
            return;
        }
        while let Some(event) = self
            .mirror
            .as_mut()
            .and_then(|it| it.sides[side].node.pending.pop_front())
        {
            self.step_mirror(side, event);
        }
        self.set_mirror_timer(side);
    }

    pub(super) fn mirror_finish(&mut self, side: usize, power: u64, life: u64, work: u64) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let node = &mut mirror.sides[side].node;
        if node.power != power {
            return;
        }
        if let Some(event) = node.finish(work)
            && node.life == life
        {
            self.step_mirror(side, event);
        }
    }

    fn mirror_effect(&mut self, side: usize, effect: Effect) {
        let now = self.now_us;
        if let Effect::MetaWrite { bytes, .. } = &effect {
            self.check_mark(side, bytes);
        }
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        if matches!(effect, Effect::Snapshot { .. }) {
            it.node.snapshot = true;
        }
        if let Some((work, takes)) = it.node.begin(&effect) {
            let slow = if self.hosts[it.host].disk.slow_until > now {
                self.hosts[it.host].disk.slow_times
            } else if mirror.rng.percent(3) {
                10
            } else {
                1
            };
            let takes = mirror.rng.range(takes / 2, takes * 2) * slow;
            let (power, life) = (it.node.power, it.node.life);
            let finish = Happening::Finish {
                side,
                power,
                life,
                work,
            };
            self.mirror_in(takes, finish);
            return;
        }
        match effect {
            Effect::Copy { from, to } => {
                let tags = it.node.part(from);
                if let Some(buffer) = it.node.buffers.get_mut(&to) {
                    let count = tags.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&tags[..count]);
                }
            }
            Effect::Release { buffer } => {
                let there = it.node.buffers.remove(&buffer).is_some();
                self.expect_buffer(there);
            }
            Effect::Send {
                session,
                message,
                payload,
            } => self.send_replication(side, session.0, message, payload),
            Effect::Drop { session, why } => {
                note!(self, "m{} drops replication: {why}", it.host + 1);
                self.close_wire(side, session.0);
            }
            Effect::Complete { io, result } => self.mirror_completed(side, io, result),
            Effect::Opened { ticket, result } => self.mirror_opened(side, ticket, result),
            Effect::Closed { ticket, result } => self.mirror_close_ended(side, ticket, result),
            Effect::Ended { why } => self.mirror_ended(side, &why),
            Effect::Report(report) => {
                it.node.report = Some((*report).clone());
                self.mirror_note(side, || format!("reports {report:?}"));
                self.mirror_tell_daemon(side, News::Report(report));
            }
            Effect::Note { error, text } => {
                mirror.counts.resyncs += u64::from(text.starts_with("resynchronisation begins"));
                self.mirror_note(side, || format!("notes ({error}) {text}"));
            }
            Effect::Resized { size } => mirror.sectors = size / 512,
            _ => {}
        }
    }

    fn expect_buffer(&mut self, there: bool) {
        if !there {
            let text = "a mirror process releases a buffer that is not there";
            self.violated(Rule::BoundedWork, text.into());
        }
    }

    fn send_replication(
        &mut self,
        from: usize,
        conn: u64,
        message: Box<Message>,
        payload: Option<Part>,
    ) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let tags = payload.map(|part| mirror.sides[from].node.part(part));
        if mirror.wire.conn == conn && mirror.wire.alive {
            self.put_on_wire(1 - from, conn, Packet::Message(message, tags));
        }
    }

    fn put_on_wire(&mut self, to: usize, conn: u64, packet: Packet) {
        let (low, high) = self.machines.network.delay_us;
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let delay = mirror.rng.range(low, high);
        let at = (now + delay).max(mirror.wire.arrived[to]);
        mirror.wire.arrived[to] = at;
        self.mirror_in(at - now, Happening::Deliver { to, conn, packet });
    }

    /// Until when nothing passes from one side to the other; a schedule's cuts have no known end.
    fn wire_cut(&self, from: usize, to: usize) -> bool {
        let Some(mirror) = &self.mirror else {
            return true;
        };
        let (one, other) = (mirror.sides[from].host, mirror.sides[to].host);
        self.cut_until[one][other] > self.now_us
            || self.lanes[one][other].messages.cut
            || mirror.wire.stalled_until[from] > self.now_us
    }

    pub(super) fn mirror_deliver(&mut self, to: usize, conn: u64, packet: Packet) {
        let cut = self.wire_cut(1 - to, to);
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        if mirror.sides[to].node.session != Some(conn) {
            return;
        }
        if cut {
            let at = (now / GRID_US + 1) * GRID_US;
            mirror.wire.arrived[to] = mirror.wire.arrived[to].max(at);
            self.mirror_in(at - now, Happening::Deliver { to, conn, packet });
            return;
        }
        let session = Session(conn);
        let (message, tags) = match packet {
            Packet::End => {
                mirror.sides[to].node.session = None;
                self.step_mirror(to, Event::PeerLost { session });
                return;
            }
            Packet::Message(message, tags) => (message, tags),
        };
        if matches!(message.body, Body::ResyncData { .. }) {
            self.check_overwritten(to);
        }
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let payload = tags.map(|tags| mirror.sides[to].node.new_buffer(tags));
        self.step_mirror(
            to,
            Event::Received {
                session,
                message,
                payload,
            },
        );
    }

    /// This side closes the connection; the other hears of it over the wire.
    pub(super) fn close_wire(&mut self, side: usize, conn: u64) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        if mirror.wire.conn == conn && mirror.wire.alive {
            mirror.wire.alive = false;
            self.put_on_wire(1 - side, conn, Packet::End);
        }
        // Its own end is heard of without a wire.
        self.mirror_in(20, Happening::Lost { side, conn });
    }

    pub(super) fn mirror_lost(&mut self, side: usize, conn: u64) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        if mirror.sides[side].node.session == Some(conn) {
            mirror.sides[side].node.session = None;
            let session = Session(conn);
            self.step_mirror(side, Event::PeerLost { session });
        }
    }

    fn connect_mirror(&mut self) {
        let cut = self.wire_cut(0, 1) || self.wire_cut(1, 0);
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let up = mirror
            .sides
            .iter()
            .all(|side| side.node.engine.is_some() && self.hosts[side.host].paused_until <= now);
        if !up || cut || mirror.wire.broken_until > now {
            return;
        }
        let conn = mirror.wire.conn;
        let both = mirror
            .sides
            .iter()
            .all(|side| side.node.session == Some(conn));
        let connecting =
            mirror.wire.alive && mirror.wire.arrived.iter().any(|&at| at + 1_000 > now);
        if mirror.wire.alive && (both || connecting) {
            return;
        }
        mirror.wire.conn += 1;
        mirror.wire.alive = true;
        let conn = mirror.wire.conn;
        for side in 0..2 {
            let Some(mirror) = &mut self.mirror else {
                return;
            };
            let delay = mirror.rng.range(50, 1_000);
            mirror.wire.arrived[side] = now + delay;
            self.mirror_in(delay, Happening::Connected { side, conn });
        }
    }

    pub(super) fn mirror_connected(&mut self, side: usize, conn: u64) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let peer = member(mirror.sides[1 - side].host);
        let node = &mut mirror.sides[side].node;
        if node.engine.is_some() && mirror.wire.conn == conn && mirror.wire.alive {
            node.session = Some(conn);
            let session = Session(conn);
            self.step_mirror(side, Event::PeerConnected { session, peer });
        }
    }
}
