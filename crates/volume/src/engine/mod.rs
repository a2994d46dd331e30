//! The deciding half of one mirror on one node. Pure; see `docs/internals/mirror.md`.
//!
//! ```text
//!   role: Standby --Open--> Opening --R1--> Open --Close--> Closing --> Standby
//!            ^                                |  gate closed, deposed      |
//!            +--------------------------------+----------------------------+
//!   active side's view of the peer: Apart --hello--> (Filling --> Begin --> Resync) --> Joining --> Joined
//! ```
//!
//! [`Engine::step`] takes one event in, then settles: what is wanted and possible now is begun. Files: by
//! what is decided: `attach` the disk, `role` opening and closing, `request` the block device, `flush`,
//! `peer` the session, `resync`, `standby` what is taken from the active side, `grow`, `report`.

mod activity;
mod attach;
mod event;
mod flush;
mod grow;
mod local;
mod locks;
mod peer;
mod report;
mod request;
mod resync;
mod role;
mod slab;
mod standby;
mod status;
#[cfg(test)]
mod tests;
mod unflushed;

pub use event::{
    BlockHash, BufferId, Command, Effect, Event, Found, IoError, IoId, Outcome, Part, Session,
    Setup, TRANSFER_LIMIT, Ticket, Token, Transfer,
};
pub use status::{Progress, Status};

use crate::store::Superblock;
use attach::Place;
use flush::Flushes;
use hotpair_core::config::MirrorMode;
use hotpair_core::ids::{Epoch, MemberId};
use hotpair_core::mirror::{Data, MirrorCommitted, MirrorOrders, MirrorReport};
use hotpair_core::time::Moment;
use local::Local;
use locks::{Locks, Owner};
use peer::Peer;
use request::Requests;
use resync::Resync;
use role::Role;
use slab::{Key, Slab};
use standby::Standby;
use std::time::Duration;

/// How long an [`Event::Open`] waits for orders, disk and agreement.
pub const OPEN_LIMIT: Duration = Duration::from_secs(20);

/// Rounds of settling in one step: each is caused by a change that the one before made.
const ROUNDS: usize = 16;

/// What an effect with a token was for.
#[derive(Debug)]
pub(crate) enum Op {
    /// Of this attempt.
    Attach(u64),
    Meta(MetaOp),
    /// The local half of a request.
    Request(Key),
    /// The local half of a flush, by its number.
    Flush(u64),
    /// Reading or hashing for resynchronisation.
    Chunk(Key),
    /// Of the standby side.
    Taken(Key),
    TakenFlush,
    Snapshot,
    Grow,
}

/// A write of the metadata.
#[derive(Debug)]
pub(crate) enum MetaOp {
    Superblock(Box<Superblock>),
    Log,
    Page(u32),
}

/// Half of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Nothing is to be done there.
    Idle,
    Going,
    Done,
    /// It is not there: the peer is away, or the disk failed.
    Missing,
}

/// One mirror on one node.
#[derive(Debug)]
pub struct Engine {
    setup: Setup,
    now: Moment,
    out: Vec<Effect>,
    /// Something that other rules look at has changed: settle.
    changed: bool,
    orders: Option<Box<MirrorOrders>>,
    /// Greatest serial at which the peer may have been reported complete (rule R2).
    floor: u64,
    place: Place,
    /// The disk can be used again after it failed, from the next opening on.
    returned: Option<Found>,
    /// The disk was let go of, as its copy is to be made anew; looked at once nothing is under way on it.
    shed: Option<Found>,
    failures: u32,
    /// Counts the times the disk was looked at.
    attempt: u64,
    log_limit: usize,
    role: Role,
    opened: Option<Epoch>,
    clean: bool,
    ops: Slab<Op>,
    locks: Locks,
    granted: Vec<Owner>,
    requests: Requests,
    flushes: Flushes,
    peer: Peer,
    resync: Resync,
    standby: Standby,
    grow: grow::Grow,
    next_buffer: u64,
    /// Rule R2 allows to go on without the peer.
    alone: bool,
    /// It allows to go on without the local disk.
    through: bool,
    reported: Option<MirrorReport>,
}

impl Engine {
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            now: Moment::default(),
            out: Vec::new(),
            changed: true,
            orders: None,
            floor: 0,
            place: Place::Unknown,
            returned: None,
            shed: None,
            failures: 0,
            attempt: 0,
            log_limit: setup.log_extents,
            role: Role::Standby,
            opened: None,
            clean: false,
            ops: Slab::new(),
            locks: Locks::default(),
            granted: Vec::new(),
            requests: Requests::default(),
            flushes: Flushes::default(),
            peer: Peer::default(),
            resync: Resync::default(),
            standby: Standby::default(),
            grow: grow::Grow::default(),
            next_buffer: 1,
            alone: false,
            through: false,
            reported: None,
        }
    }

    /// Takes `event` in and appends what is to be done to `effects`. `now` never goes back.
    pub fn step(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        self.out = std::mem::take(effects);
        self.take(event);
        self.settle();
        *effects = std::mem::take(&mut self.out);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Read { io, at, buffer } => self.on_read(io, at, buffer),
            Event::Write {
                io,
                at,
                buffer,
                fua,
            } => self.on_write(io, at, buffer, fua),
            Event::Done { token, result } => self.on_done(token, result),
            Event::Received {
                session,
                message,
                payload,
            } => self.on_received(session, *message, payload),
            Event::Flush { io } => self.on_flush(io),
            Event::Discard { io, at, zero } => self.on_discard(io, at, zero),
            other => {
                self.changed = true;
                self.take_rare(other);
            }
        }
    }

    fn take_rare(&mut self, event: Event) {
        match event {
            Event::Orders(orders) => self.on_orders(orders),
            Event::Disk(found) => self.on_disk(found),
            Event::NoDisk(why) => self.on_no_disk(why),
            Event::Open { ticket, epoch } => self.on_open(ticket, epoch),
            Event::Close { ticket } => self.on_close(ticket),
            Event::GateClosed => self.abort("the write gate is closed"),
            Event::PeerConnected { session, peer } => self.on_connected(session, peer),
            Event::PeerLost { session } => self.on_lost(session),
            Event::Command(command) => self.on_command(&command),
            _ => {}
        }
    }

    /// Documents never go back, nor does what is known to be committed (rule R0).
    fn on_orders(&mut self, mut orders: Box<MirrorOrders>) {
        let known = self.orders.take();
        let version = |orders: &MirrorOrders| {
            let committed = orders.committed.as_ref();
            (orders.version, committed.map(|committed| committed.version))
        };
        if known
            .as_ref()
            .is_none_or(|known| version(known) != version(&orders))
        {
            self.peer.refusals.retry();
        }
        let first = known.as_ref().is_none_or(|known| known.committed.is_none());
        if let Some(known) = known {
            if known.version > orders.version {
                self.orders = Some(known);
                return;
            }
            let version = |committed: &Option<MirrorCommitted>| {
                committed.as_ref().map(|committed| committed.version)
            };
            if version(&known.committed) > version(&orders.committed) {
                orders.committed = known.committed;
            }
        }
        if first && let Some(committed) = &orders.committed {
            // An earlier run of this process may have said so.
            self.floor = self.floor.max(committed.data.serial);
        }
        self.orders = Some(orders);
    }

    fn on_done(&mut self, token: Token, result: Result<Outcome, IoError>) {
        let Some(op) = self.ops.remove(token.0) else {
            return;
        };
        match op {
            Op::Request(key) => self.on_request_done(key, result),
            Op::Flush(number) => self.on_flush_done(number, result),
            Op::Meta(op) => self.on_meta(op, result),
            Op::Attach(attempt) if attempt == self.attempt => self.on_attach(result),
            Op::Attach(_) => {}
            Op::Chunk(key) => self.on_chunk_done(key, result),
            Op::Taken(key) => self.on_taken_done(key, result),
            Op::TakenFlush => self.on_taken_flush(result),
            Op::Snapshot => self.on_snapshot(result),
            Op::Grow => self.on_grow_done(result),
        }
    }

    fn on_meta(&mut self, op: MetaOp, result: Result<Outcome, IoError>) {
        let Place::Attached(local) = &mut self.place else {
            return;
        };
        let log = matches!(op, MetaOp::Log);
        // A page matters to what waits for all of them, and to the log.
        self.changed = true;
        match result {
            Ok(_) => {
                local.ended(op);
                if log {
                    self.retry_logging();
                }
            }
            Err(error) => self.fail_local(format!(
                "writing the mirror's metadata failed: {}",
                attach::words(error)
            )),
        }
    }

    fn settle(&mut self) {
        self.settle_shed();
        for _ in 0..ROUNDS {
            self.grant();
            if !std::mem::take(&mut self.changed) {
                break;
            }
            self.settle_disk();
            self.settle_role();
            self.settle_mark();
            self.settle_peer();
            self.settle_standby();
            self.settle_grow();
            self.judge_alone();
            self.retry_held();
            self.greet();
            self.settle_report();
        }
        self.settle_flush();
        self.settle_resync();
        self.grant();
        self.settle_local();
    }

    fn settle_local(&mut self) {
        let peer_flushed = self.flushes.peer_mark(&self.peer);
        let sends = self.peer.sends();
        let active = self.is_active();
        let Place::Attached(local) = &mut self.place else {
            return;
        };
        if self.grow.holds_metadata() {
            return;
        }
        if local.settle(peer_flushed, &mut self.ops, &mut self.out) {
            // Something in extents that are to leave the log is not flushed.
            if active && !sends && !self.peer.unflushed.is_empty() {
                let mut unflushed = std::mem::take(&mut self.peer.unflushed);
                unflushed.pour(|start, length| local.set(start, length));
            }
            self.flushes.want = true;
            self.settle_flush();
        }
    }

    /// Gives locks to those that are granted now.
    fn grant(&mut self) {
        let mut n = 0;
        while n < self.granted.len() {
            match self.granted[n] {
                Owner::Request(key) => self.start(key),
                Owner::Chunk(key) => self.start_chunk(key),
                Owner::Taken(key) => self.start_taken(key),
            }
            n += 1;
        }
        self.granted.clear();
    }

    fn release(&mut self, owner: Owner) {
        self.locks.release(owner, &mut self.granted);
    }

    fn new_buffer(&mut self) -> BufferId {
        self.next_buffer += 2;
        BufferId(self.next_buffer)
    }

    fn note(&mut self, error: bool, text: impl Into<String>) {
        self.out.push(Effect::Note {
            error,
            text: text.into(),
        });
    }

    fn committed(&self) -> Option<&MirrorCommitted> {
        self.orders.as_ref()?.committed.as_ref()
    }

    fn data(&self) -> Option<&Data> {
        Some(&self.committed()?.data)
    }

    fn mode(&self) -> MirrorMode {
        self.orders
            .as_ref()
            .map_or(MirrorMode::Synchronous, |o| o.mode)
    }

    fn peer_timeout(&self) -> Duration {
        self.orders
            .as_ref()
            .map_or(Duration::from_secs(1), |orders| orders.peer_timeout)
    }

    fn local(&self) -> Option<&Local> {
        match &self.place {
            Place::Attached(local) => Some(local),
            _ => None,
        }
    }

    fn local_mut(&mut self) -> Option<&mut Local> {
        match &mut self.place {
            Place::Attached(local) => Some(local),
            _ => None,
        }
    }

    /// The node with the other copy, by the committed data.
    fn other(&self) -> Option<MemberId> {
        let me = self.setup.me;
        self.data()?.copies.keys().copied().find(|node| *node != me)
    }
}
