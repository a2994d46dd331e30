//! The simulated world, and the order in which things happen.

mod app;
mod cluster;
mod end;
mod host;
mod trouble;
mod wire;

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
    /// The power is cut in the middle of a write of the metadata.
    Cut {
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
        let mut rng = Rng::new(seed, 0);
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
        self.stats.us = self.now;
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
            Ev::Cut { node, power } => {
                if self.nodes[node].power == power {
                    self.power_off(node);
                    self.after(20_000, Ev::PowerOn { node });
                }
            }
            Ev::Restart { node, power } => {
                if self.nodes[node].power == power && self.nodes[node].engine.is_none() {
                    self.start(node);
                }
            }
        }
    }
}
