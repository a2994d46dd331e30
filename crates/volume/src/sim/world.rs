//! The simulated world, and the order in which things happen.

mod app;
mod cluster;
mod end;
mod trouble;

use super::disk::{Disk, SECTOR};
use super::leader::{Document, Known, Leader};
use super::ledger::{FIRST, Floors, GARBAGE, Ledger};
use super::node::Node;
use super::plan::{Plan, Trouble};
use super::rng::Rng;
use super::{Options, Stats, Violation};
use crate::engine::{
    BufferId, Command, Effect, Event, Found, IoError, IoId, Part, Session, Ticket, Transfer,
};
use crate::link::{Body, Message};
use crate::store::Superblock;
use hotpair_core::config::MirrorMode;
use hotpair_core::ids::{Epoch, MemberId, Version};
use hotpair_core::mirror::{
    Copy, Data, Disk as DiskReport, Generation, MirrorCommitted, MirrorOrders, MirrorReport,
};
use hotpair_core::time::Moment;
use std::collections::BTreeMap;

/// Lease, and what a takeover waits longer.
const LEASE: u64 = 40_000;
/// An answer given before may still be on the way.
const ON_THE_WAY: u64 = 5000;
/// Healing takes at most so long.
const HEAL: u64 = 30_000_000;
const EVENT_LIMIT: u64 = 6_000_000;

#[derive(Debug)]
enum Ev {
    Finish {
        node: usize,
        power: u64,
        life: u64,
        work: u64,
    },
    Deliver {
        to: usize,
        conn: u64,
        message: Box<Message>,
        payload: Option<Vec<u64>>,
    },
    Lost {
        node: usize,
        conn: u64,
    },
    Connected {
        node: usize,
        conn: u64,
    },
    Timer {
        node: usize,
        life: u64,
    },
    Resume {
        node: usize,
    },
    Connect,
    Lead,
    Keep {
        node: usize,
        document: Box<Document>,
    },
    Learn {
        node: usize,
        document: Box<Document>,
    },
    Commit {
        document: Box<Document>,
    },
    Execute {
        node: usize,
    },
    GateClosed {
        node: usize,
        life: u64,
    },
    App,
    Trouble(Trouble),
    PowerOn {
        node: usize,
    },
    Restart {
        node: usize,
        power: u64,
    },
    Heal(Trouble),
}

#[derive(Debug)]
enum Asked {
    Read {
        floors: Floors,
        buffer: BufferId,
        exempt: bool,
    },
    Write {
        order: u64,
        fua: bool,
    },
    Flush {
        since: u64,
    },
}

#[derive(Debug)]
struct Io {
    node: usize,
    epoch: Epoch,
    asked: Asked,
    begun: u64,
}

#[derive(Debug, Default)]
struct Link {
    conn: u64,
    /// The connection of this number carries messages.
    alive: bool,
    arrived: [u64; 2],
    broken_until: u64,
    stalled_until: [u64; 2],
}

pub struct World {
    seed: u64,
    plan: Plan,
    options: Options,
    rng: Rng,
    now: u64,
    queue: BTreeMap<(u64, u64), Ev>,
    count: u64,
    nodes: [Node; 2],
    link: Link,
    leader: Leader,
    proposed: bool,
    leader_until: u64,
    cut_until: [u64; 2],
    ledger: Ledger,
    ios: BTreeMap<IoId, Io>,
    next_io: u64,
    next_ticket: u64,
    spots: Vec<u64>,
    sectors: u64,
    quiet_until: u64,
    settling: bool,
    stats: Stats,
    broken: Option<(&'static str, String)>,
    opens: Vec<(Epoch, usize)>,
    /// Ticks asked for at the same time.
    at_same: (u64, u64),
    grown: u64,
    told: Option<Version>,
    /// The operator kept a copy that lacks writes.
    given_up: bool,
    at_complete: Option<u64>,
    ends: u64,
    quiet_end: bool,
}

fn member(node: usize) -> MemberId {
    MemberId(if node == 0 { 1 } else { 2 })
}

fn index(member: MemberId) -> usize {
    usize::from(member.0 == 2)
}

impl World {
    pub fn new(seed: u64, plan: Plan, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let sectors = plan.blocks * 8;
        let count = usize::try_from(sectors).unwrap_or(0);
        let first = (0..count)
            .map(|n| if n % 5 == 0 { 0 } else { FIRST | n as u64 })
            .collect();
        let garbage = (0..count)
            .map(|n| if n % 3 == 0 { 0 } else { GARBAGE | n as u64 })
            .collect();
        let size = plan.blocks * 4096;
        let found = || Found {
            size: size + 1024 * 1024,
            beside: plan.beside,
            holds: None,
            earlier: Vec::new(),
        };
        let nodes = [
            Node::new(member(0), Disk::new(first), found()),
            Node::new(member(1), Disk::new(garbage), found()),
        ];
        let spots = (0..plan.spots).map(|_| rng.below(plan.blocks)).collect();
        let document = Document {
            version: Version::new(1, 1),
            data: Data::new(seed | 1, [member(0), member(1)]),
            holder: None,
            epoch: Epoch(1),
            leaving: false,
            pinned: plan.pinned,
            size,
        };
        Self {
            seed,
            options,
            rng,
            now: 1000,
            queue: BTreeMap::new(),
            count: 0,
            nodes,
            link: Link::default(),
            leader: Leader {
                document,
                known: BTreeMap::new(),
                source: member(0),
                gives_up: true,
            },
            proposed: false,
            leader_until: 0,
            cut_until: [0; 2],
            ledger: Ledger::new(count),
            ios: BTreeMap::new(),
            next_io: 0,
            next_ticket: 0,
            spots,
            sectors,
            quiet_until: 0,
            settling: false,
            stats: Stats::default(),
            broken: None,
            opens: Vec::new(),
            at_same: (0, 0),
            grown: 0,
            told: None,
            given_up: false,
            at_complete: None,
            ends: plan.length,
            quiet_end: false,
            plan,
        }
    }

    fn after(&mut self, delay: u64, ev: Ev) {
        self.count += 1;
        self.queue.insert((self.now + delay, self.count), ev);
    }

    fn violate(&mut self, rule: &'static str, what: impl Into<String>) {
        if self.broken.is_none() {
            self.broken = Some((rule, what.into()));
        }
    }

    fn trace(&self, text: impl FnOnce() -> String) {
        if self.options.trace {
            eprintln!("{:>9} {}", self.now, text());
        }
    }

    pub fn run(mut self) -> Result<Stats, Violation> {
        for node in 0..2 {
            self.after(0, Ev::PowerOn { node });
            self.after(500, Ev::Execute { node });
        }
        self.after(1000, Ev::Connect);
        self.after(1500, Ev::Lead);
        self.after(2000, Ev::App);
        for (at, trouble) in self.plan.troubles.clone() {
            self.after(at, Ev::Trouble(trouble));
        }
        while self.broken.is_none() {
            let Some(((at, _), ev)) = self.queue.pop_first() else {
                break;
            };
            self.now = at;
            self.stats.events += 1;
            if self.stats.events > EVENT_LIMIT {
                self.violate("Liveness", "too many events");
                break;
            }
            self.handle(ev);
            if self.now >= self.ends && self.finished() {
                break;
            }
        }
        match self.broken.take() {
            None => Ok(self.stats),
            Some((rule, what)) => Err(Violation {
                seed: self.seed,
                at: self.now,
                rule,
                what,
            }),
        }
    }

    fn handle(&mut self, ev: Ev) {
        match ev {
            Ev::Finish {
                node,
                power,
                life,
                work,
            } => {
                if self.nodes[node].power != power {
                    return;
                }
                let event = self.nodes[node].finish(work);
                if let Some(event) = event
                    && self.nodes[node].life == life
                {
                    self.step(node, event);
                }
            }
            Ev::Deliver {
                to,
                conn,
                message,
                payload,
            } => {
                if self.nodes[to].session != Some(conn) {
                    return;
                }
                if matches!(message.body, Body::ResyncData { .. }) {
                    let host = &self.nodes[to];
                    let mark = host.disk.mark(&host.found);
                    if mark.is_some_and(|mark| mark.consistent) {
                        self.violate(
                            "Inconsistent",
                            format!("{to} is overwritten without a mark"),
                        );
                    }
                }
                let payload = payload.map(|tags| self.nodes[to].new_buffer(tags));
                self.step(
                    to,
                    Event::Received {
                        session: Session(conn),
                        message,
                        payload,
                    },
                );
            }
            Ev::Lost { node, conn } => {
                if self.nodes[node].session == Some(conn) {
                    self.nodes[node].session = None;
                    self.step(
                        node,
                        Event::PeerLost {
                            session: Session(conn),
                        },
                    );
                }
            }
            Ev::Connected { node, conn } => {
                if self.nodes[node].engine.is_some() && self.link.conn == conn && self.link.alive {
                    self.nodes[node].session = Some(conn);
                    self.step(
                        node,
                        Event::PeerConnected {
                            session: Session(conn),
                            peer: member(1 - node),
                        },
                    );
                }
            }
            Ev::Timer { node, life } => {
                if self.nodes[node].life == life {
                    self.nodes[node].timer = None;
                    self.tick(node);
                }
            }
            Ev::Resume { node } => self.resume(node),
            Ev::Connect => {
                self.connect();
                let gap = self.rng.range(1000, 6000);
                self.after(gap, Ev::Connect);
            }
            Ev::Lead => {
                self.lead();
                let gap = self.rng.range(1000, 4000);
                self.after(gap, Ev::Lead);
            }
            Ev::Commit { document } => self.commit(*document),
            Ev::Keep { node, document } => self.keep(node, *document),
            Ev::Learn { node, document } => self.learn(node, *document),
            Ev::Execute { node } => {
                self.execute(node);
                let gap = self.rng.range(1000, 3000);
                self.after(gap, Ev::Execute { node });
            }
            Ev::GateClosed { node, life } => {
                if self.nodes[node].life == life {
                    self.nodes[node].gate_told = true;
                    self.nodes[node].open = None;
                    self.step(node, Event::GateClosed);
                }
            }
            Ev::App => {
                self.app();
                let gap = self.plan.gap;
                let gap = self.rng.range(50, gap);
                self.after(gap, Ev::App);
            }
            Ev::Trouble(trouble) => {
                self.trace(|| format!("trouble {trouble:?}"));
                self.trouble(trouble);
            }
            Ev::Heal(trouble) => self.heal(trouble),
            Ev::PowerOn { node } => self.power_on(node),
            Ev::Restart { node, power } => {
                if self.nodes[node].power == power && self.nodes[node].engine.is_none() {
                    self.start(node);
                }
            }
        }
    }

    // --- the process and the driver around it ---

    fn start(&mut self, node: usize) {
        if !self.nodes[node].disk.idle() {
            // What the earlier process has begun ends first.
            let power = self.nodes[node].power;
            self.after(500, Ev::Restart { node, power });
            return;
        }
        let (through, log) = (self.plan.through_peer, self.plan.log_extents);
        self.nodes[node].start(through, log);
        self.orders(node);
        self.tell_disk(node);
    }

    fn tell_disk(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        if host.engine.is_some() && !host.attached && host.works.is_empty() && !host.disk.broken {
            host.attached = true;
            let found = host.found.clone();
            self.step(node, Event::Disk(found));
        }
    }

    fn step(&mut self, node: usize, event: Event) {
        let now = self.now;
        let host = &mut self.nodes[node];
        let Some(engine) = &mut host.engine else {
            return;
        };
        if host.paused_until > now {
            host.pending.push_back(event);
            return;
        }
        if self.options.trace {
            match &event {
                Event::Done { .. } | Event::Tick => {}
                Event::Received { message, .. } => {
                    eprintln!("{now:>9} {node} <- {:?}", message.body);
                }
                Event::Orders(orders) => eprintln!(
                    "{now:>9} {node} <- orders {} {:?} {} committed {:?}",
                    orders.version,
                    orders.holder,
                    orders.epoch,
                    orders.committed.as_ref().map(|c| (c.epoch, &c.data))
                ),
                other => eprintln!("{now:>9} {node} <- {other:?}"),
            }
        }
        let mut effects = Vec::new();
        engine.step(Moment(now), event, &mut effects);
        for effect in &effects {
            // Whether it goes on under its own mark matters to what it completes.
            if let Effect::Report(report) = effect {
                self.mark_solo(node, &report.disk);
            }
        }
        for effect in effects {
            self.carry_out(node, effect);
        }
        self.set_timer(node);
    }

    fn set_timer(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        let Some(due) = host.engine.as_ref().and_then(|engine| engine.deadline()) else {
            return;
        };
        let at = due.0.max(self.now);
        if host.timer.is_some_and(|timer| timer <= at) {
            return;
        }
        host.timer = Some(at);
        let life = host.life;
        let delay = at - self.now;
        self.after(delay, Ev::Timer { node, life });
    }

    fn tick(&mut self, node: usize) {
        if self.nodes[node].paused_until > self.now {
            let life = self.nodes[node].life;
            let delay = self.nodes[node].paused_until - self.now;
            self.nodes[node].timer = Some(self.now + delay);
            self.after(delay, Ev::Timer { node, life });
            return;
        }
        let due = |host: &Node| host.engine.as_ref().and_then(|engine| engine.deadline());
        if due(&self.nodes[node]).is_some_and(|due| due.0 <= self.now) {
            if self.at_same.0 == self.now {
                self.at_same.1 += 1;
                if self.at_same.1 > 50 {
                    self.violate("Bounded", "the engine asks for a tick without end");
                }
            } else {
                self.at_same = (self.now, 0);
            }
            self.step(node, Event::Tick);
        }
        self.set_timer(node);
    }

    fn resume(&mut self, node: usize) {
        if self.nodes[node].paused_until > self.now {
            return;
        }
        while let Some(event) = self.nodes[node].pending.pop_front() {
            self.step(node, event);
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        match &effect {
            Effect::MetaWrite { bytes, .. } => self.check_mark(node, bytes),
            Effect::Snapshot { .. } => self.nodes[node].snapshot = true,
            _ => {}
        }
        if let Some((work, takes)) = self.nodes[node].begin(&effect) {
            if self.options.trace {
                match &effect {
                    Effect::Write { at, .. } | Effect::Discard { at, .. } => {
                        let watched = self.options.watch.is_some_and(|sector| {
                            let byte = sector as u64 * SECTOR;
                            at.offset <= byte && byte < at.end()
                        });
                        let mark = if watched { "WATCHED" } else { "" };
                        eprintln!("{:>9} {node} disk write {at:?} {mark}", self.now);
                    }
                    Effect::MetaWrite { offset, .. } => {
                        eprintln!("{:>9} {node} meta write {offset}", self.now);
                    }
                    _ => {}
                }
            }
            let slow = if self.nodes[node].slow_until > self.now {
                30
            } else if self.rng.percent(3) {
                10
            } else {
                1
            };
            let takes = self.rng.range(takes / 2, takes * 2) * slow;
            let (power, life) = (self.nodes[node].power, self.nodes[node].life);
            self.after(
                takes,
                Ev::Finish {
                    node,
                    power,
                    life,
                    work,
                },
            );
            return;
        }
        match effect {
            Effect::Copy { from, to } => {
                let tags = self.nodes[node].part(from);
                if let Some(buffer) = self.nodes[node].buffers.get_mut(&to) {
                    let count = tags.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&tags[..count]);
                }
            }
            Effect::Send {
                session,
                message,
                payload,
            } => self.send(node, session.0, message, payload),
            Effect::Drop { session, why } => {
                self.trace(|| format!("{node} drops the session: {why}"));
                self.close_conn(session.0);
            }
            Effect::Complete { io, result } => self.completed(node, io, result),
            Effect::Release { buffer } => {
                let there = self.nodes[node].buffers.remove(&buffer).is_some();
                if !there {
                    self.violate("Buffers", format!("{buffer:?} is released, but not there"));
                }
            }
            Effect::Opened { ticket, result } => self.opened(node, ticket, result),
            Effect::Closed { ticket, result } => {
                self.trace(|| format!("{node} closed: {result:?}"));
                if self.nodes[node].ticket != Some(ticket.0) {
                    return self.violate("Tickets", "a close was answered that nobody waits for");
                }
                self.nodes[node].ticket = None;
                self.nodes[node].open = None;
            }
            Effect::Ended { why } => {
                self.trace(|| format!("{node} ended: {why}"));
                self.nodes[node].open = None;
                self.nodes[node].wait_until = self.now + 2000;
            }
            Effect::Resized { size } => {
                self.trace(|| format!("{node} resized to {size}"));
                self.sectors = size / SECTOR;
            }
            Effect::Report(report) => {
                self.trace(|| format!("{node} reports {report:?}"));
                self.cut_at_complete(node, &report);
                self.nodes[node].report = Some(*report);
            }
            Effect::Note { error, text } => {
                self.trace(|| format!("{node} note {error}: {text}"));
                if text.starts_with("resynchronisation begins") {
                    self.stats.resyncs += 1;
                }
                if text.starts_with("the local disk of the mirror failed") {
                    self.stats.detached += 1;
                    // What was in its memory is lost, as with the process.
                    self.nodes[node].killed_at = Some(self.now);
                }
                if text.starts_with("verification has ended") {
                    self.stats.verifications += 1;
                    if error && !matches!(self.plan.mode, MirrorMode::Asynchronous { .. }) {
                        self.violate("Verify", text);
                    }
                }
            }
            _ => {}
        }
    }

    fn mark_solo(&mut self, node: usize, disk: &DiskReport) {
        let solo = matches!(disk, DiskReport::Attached { solo: Some(_), .. });
        let host = &mut self.nodes[node];
        if solo {
            if host.solo_since.is_none() {
                self.stats.solos += 1;
                host.solo_since = Some(self.now);
            }
        } else if matches!(disk, DiskReport::Attached { .. }) {
            host.solo_since = None;
        }
    }

    fn opened(&mut self, node: usize, ticket: Ticket, result: Result<u64, String>) {
        self.trace(|| format!("{node} opened: {result:?}"));
        if self.nodes[node].ticket != Some(ticket.0) {
            return self.violate("Tickets", "an open was answered that nobody waits for");
        }
        self.nodes[node].ticket = None;
        if result.is_err() {
            self.nodes[node].wait_until = self.now + 5000;
            return;
        }
        let epoch = self.nodes[node].opening;
        self.stats.opens += 1;
        let newest = self.opens.last().map(|(epoch, _)| *epoch);
        if newest.is_some_and(|newest| newest > epoch) && !self.plan.gate_broken {
            return self.violate(
                "Epoch",
                format!("{node} opened in {epoch} after {newest:?}"),
            );
        }
        self.check_open(node, epoch);
        if self.nodes[node].gate.is_some() {
            self.nodes[node].open = Some(epoch);
        }
        if std::mem::take(&mut self.given_up) {
            self.ledger.forgive(0);
        }
        let other = self.opens.last().is_some_and(|(_, last)| *last != node);
        let host = &self.nodes[node];
        let crash = match self.plan.mode {
            MirrorMode::Memory => host.crashed_at.max(host.killed_at),
            _ => host.crashed_at,
        };
        if other && let Some(since) = self.nodes[1 - node].solo_since {
            self.ledger.forgive(since);
        }
        if other && matches!(self.plan.mode, MirrorMode::Asynchronous { .. }) {
            self.ledger.forgive(0);
        }
        self.ledger.reopen(crash);
        self.opens.push((epoch, node));
        let _ = result.map(|size| self.sectors = size / SECTOR);
    }

    /// Never opened on a copy that is not up to date.
    fn check_open(&mut self, node: usize, epoch: Epoch) {
        let document = &self.leader.document;
        let present = document.epoch == epoch && document.holder == Some(member(node));
        if present && !document.data.is_up_to_date(member(node)) {
            self.violate(
                "UpToDate",
                format!(
                    "{node} opened in {epoch} with {:?}",
                    self.leader.document.data
                ),
            );
        }
    }

    // --- the connection between the two ---

    fn send(&mut self, from: usize, conn: u64, message: Box<Message>, payload: Option<Part>) {
        let tags = payload.map(|part| self.nodes[from].part(part));
        let bytes = tags.as_ref().map_or(0, |tags| tags.len() * 512);
        if usize::try_from(message.body.payload()) != Ok(bytes) {
            return self.violate("Protocol", format!("payload of {message:?}"));
        }
        let mut encoded = Vec::new();
        crate::link::encode(&message, &mut encoded);
        if self.link.conn != conn || !self.link.alive {
            return;
        }
        let to = 1 - from;
        let delay = self.rng.range(20, 200);
        let at = (self.now + delay)
            .max(self.link.arrived[to])
            .max(self.link.stalled_until[from]);
        self.link.arrived[to] = at;
        let wait = at - self.now;
        self.after(
            wait,
            Ev::Deliver {
                to,
                conn,
                message,
                payload: tags,
            },
        );
    }

    fn close_conn(&mut self, conn: u64) {
        if self.link.conn == conn {
            self.link.alive = false;
        }
        for node in 0..2 {
            let delay = self.rng.range(0, 2000);
            self.after(delay, Ev::Lost { node, conn });
        }
    }

    fn reachable(&self) -> bool {
        self.link.broken_until <= self.now
            && self.link.stalled_until.iter().all(|at| *at <= self.now)
    }

    fn connect(&mut self) {
        let up = |host: &Node| host.engine.is_some() && host.paused_until <= self.now;
        if !self.nodes.iter().all(up) || !self.reachable() {
            return;
        }
        let both = self
            .nodes
            .iter()
            .all(|host| host.session == Some(self.link.conn));
        if self.link.alive && both {
            return;
        }
        self.link.conn += 1;
        self.link.alive = true;
        self.link.arrived = [0; 2];
        let conn = self.link.conn;
        for node in 0..2 {
            let delay = self.rng.range(50, 1000);
            self.link.arrived[node] = self.now + delay;
            self.after(delay, Ev::Connected { node, conn });
        }
    }

    // --- the cluster: documents, leases, the executor ---

    // --- the application ---

    // --- disturbances ---

    // --- the end ---
}
