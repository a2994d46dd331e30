//! What the standby side takes from the active one: rules R3 and R5.

mod target;

use super::event::{BlockHash, BufferId, Effect, IoError, Outcome, Part, Session, Token, Transfer};
use super::locks::Owner;
use super::slab::{Key, Slab};
use super::{Engine, Op, Place, Role};
use crate::fault::{Fault, planted};
use crate::link::{Body, Message, Refusal, Stamp};
use crate::store::BLOCK;
use hotpair_core::ids::Epoch;
use hotpair_core::mirror::Generation;
use std::collections::VecDeque;

/// Messages taken and not ended: the active side keeps far below.
const LIMIT: usize = 16384;
/// Bitmap pages sent and not answered.
const PAGES_OUT: usize = 16;

#[derive(Debug)]
enum Kind {
    Write {
        early: bool,
        durable: bool,
    },
    Discard {
        early: bool,
    },
    Read,
    Compare {
        hashes: Vec<BlockHash>,
        hashing: bool,
    },
}

/// One that is under way on the local disk.
#[derive(Debug)]
struct Taken {
    session: Session,
    epoch: Epoch,
    tag: u64,
    kind: Kind,
    at: Transfer,
    buffer: Option<BufferId>,
    order: u64,
}

#[derive(Debug)]
enum After {
    Answer,
    Stamp(Box<Stamp>),
}

/// A flush that waits for what was taken before it, or is under way.
#[derive(Debug)]
struct Flush {
    session: Session,
    epoch: Epoch,
    tag: u64,
    /// Everything taken before this one is to end first.
    after: u64,
    barrier: bool,
    then: After,
}

/// Getting ready to be resynchronised.
#[derive(Debug)]
struct Begin {
    tag: u64,
    basis: Generation,
    snapshot: Snapshot,
    told: bool,
    next_page: u32,
    pages_out: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Snapshot {
    Wanted,
    Going,
    Done,
}

#[derive(Debug, Default)]
pub(super) struct Standby {
    taken: Slab<Taken>,
    order: u64,
    /// Behind a flush that is a barrier.
    queued: VecDeque<(Message, Option<BufferId>)>,
    flushes: VecDeque<Flush>,
    flushing: bool,
    begin: Option<Begin>,
    /// Marks are being written; then this is answered.
    stamping: Option<(u64, Epoch, Generation)>,
    /// Of which state a snapshot was taken.
    kept: Option<(Generation, Option<Generation>)>,
    /// Of which one could not be taken: said once.
    not_kept: Option<(Generation, Option<Generation>)>,
    /// The active side replicates to this one in this session.
    pub joined: bool,
}

impl Standby {
    /// Something taken has not ended.
    pub(super) fn busy(&self) -> bool {
        !self.taken.is_empty() || self.flushing || !self.queued.is_empty()
    }

    fn barrier(&self) -> bool {
        self.flushes.iter().any(|flush| flush.barrier)
    }

    fn writes_before(&self, order: u64) -> bool {
        self.taken.iter().any(|(_, taken)| {
            let write = matches!(taken.kind, Kind::Write { .. } | Kind::Discard { .. });
            write && taken.order < order
        })
    }
}

impl Engine {
    /// Rule R3: from the holder, at the epoch, of the newest document kept.
    fn takes(&self, message: &Message) -> bool {
        let Some(orders) = &self.orders else {
            return false;
        };
        let right = orders.holder.is_some()
            && orders.holder == self.peer.id
            && orders.epoch == message.epoch;
        right && matches!(self.role, Role::Standby) || planted(Fault::TakeEarlierEpoch)
    }

    pub(super) fn on_taken(&mut self, message: Message, payload: Option<BufferId>) {
        if !self.takes(&message) {
            self.drop_payload(payload);
            return self.refuse(Refusal::NotHolder);
        }
        let Some(size) = self.local().map(|local| local.durable.size) else {
            self.drop_payload(payload);
            return self.send(0, Body::DiskFailed, None);
        };
        let at = match &message.body {
            Body::Data { at, .. }
            | Body::ResyncData { at }
            | Body::Discard { at, .. }
            | Body::Read { at }
            | Body::Compare { at, .. } => Some(*at),
            _ => None,
        };
        let outside = at.is_some_and(|at| at.end() > size);
        let full = self.standby.taken.len() + self.standby.queued.len() >= LIMIT;
        if outside || full {
            self.drop_payload(payload);
            let refusal = if full {
                Refusal::Protocol
            } else {
                Refusal::NoDisk
            };
            return self.refuse(refusal);
        }
        if self.standby.barrier() {
            self.standby.queued.push_back((message, payload));
            return;
        }
        self.take_message(message, payload);
    }

    fn take_message(&mut self, message: Message, payload: Option<BufferId>) {
        let (tag, epoch) = (message.tag, message.epoch);
        match message.body {
            Body::Data { at, durable, early } => {
                let kind = Kind::Write { early, durable };
                self.take_one(tag, epoch, kind, at, payload);
            }
            Body::ResyncData { .. }
                if self.local().is_some_and(|local| local.durable.consistent)
                    && !planted(Fault::NoInconsistentMark) =>
            {
                self.drop_payload(payload);
                self.refuse(Refusal::Protocol);
            }
            Body::ResyncData { at } => {
                let kind = Kind::Write {
                    early: false,
                    durable: false,
                };
                self.take_one(tag, epoch, kind, at, payload);
            }
            Body::Discard { at, early, .. } => {
                self.take_one(tag, epoch, Kind::Discard { early }, at, None);
            }
            Body::Read { at } => self.take_one(tag, epoch, Kind::Read, at, None),
            Body::Compare { at, hashes } => {
                let kind = Kind::Compare {
                    hashes,
                    hashing: false,
                };
                self.take_one(tag, epoch, kind, at, None);
            }
            Body::Flush { all, barrier } => {
                self.take_flush(tag, epoch, all, barrier, After::Answer)
            }
            Body::Stamp(stamp) => {
                self.take_flush(tag, epoch, true, false, After::Stamp(stamp));
            }
            Body::ResyncBegin { basis, snapshot } => self.take_begin(tag, basis, snapshot),
            _ => {
                self.drop_payload(payload);
                self.refuse(Refusal::Protocol);
            }
        }
    }

    fn take_one(
        &mut self,
        tag: u64,
        epoch: Epoch,
        kind: Kind,
        at: Transfer,
        buffer: Option<BufferId>,
    ) {
        let Some(session) = self.peer.session else {
            return self.drop_payload(buffer);
        };
        let missing = matches!(kind, Kind::Write { .. }) && buffer.is_none();
        if missing {
            return self.refuse(Refusal::Protocol);
        }
        let early = matches!(
            kind,
            Kind::Write { early: true, .. } | Kind::Discard { early: true }
        );
        let exclusive = matches!(kind, Kind::Write { .. } | Kind::Discard { .. });
        self.standby.order += 1;
        let taken = Taken {
            session,
            epoch,
            tag,
            kind,
            at,
            buffer,
            order: self.standby.order,
        };
        if early {
            self.reply(session, epoch, tag, Body::Ack { result: Ok(()) }, None);
        }
        let key = self.standby.taken.insert(taken);
        if self.locks.acquire(Owner::Taken(key), at, exclusive) {
            self.start_taken(key);
        }
    }

    /// Answers, if the session and the epoch are still those of the question.
    fn reply(
        &mut self,
        session: Session,
        epoch: Epoch,
        tag: u64,
        body: Body,
        payload: Option<Part>,
    ) {
        let present = self
            .orders
            .as_ref()
            .is_some_and(|orders| orders.epoch == epoch && orders.holder == self.peer.id);
        if self.peer.session != Some(session) || !present && !planted(Fault::TakeEarlierEpoch) {
            return;
        }
        let serial = self.data().map_or(0, |data| data.serial);
        self.out.push(Effect::Send {
            session,
            message: Box::new(Message {
                epoch,
                serial,
                tag,
                body,
            }),
            payload,
        });
    }

    /// Nothing that overlaps is under way.
    pub(super) fn start_taken(&mut self, key: Key) {
        let attached = matches!(self.place, Place::Attached(_));
        let Some(taken) = self.standby.taken.get_mut(key) else {
            return;
        };
        if !attached {
            return self.end_taken(key);
        }
        let at = taken.at;
        let token = Token(self.ops.insert(Op::Taken(key)));
        let part = |buffer| Part {
            buffer,
            offset: 0,
            length: at.length,
        };
        let effect = match (&taken.kind, taken.buffer) {
            (Kind::Write { durable, .. }, Some(buffer)) => Effect::Write {
                token,
                at,
                from: part(buffer),
                durable: *durable,
            },
            (Kind::Discard { .. } | Kind::Write { .. }, _) => Effect::Discard {
                token,
                at,
                zero: true,
            },
            (Kind::Read | Kind::Compare { .. }, _) => {
                self.next_buffer += 2;
                let buffer = BufferId(self.next_buffer);
                taken.buffer = Some(buffer);
                Effect::Read {
                    token,
                    at,
                    to: part(buffer),
                }
            }
        };
        self.out.push(effect);
    }

    pub(super) fn on_taken_done(&mut self, key: Key, result: Result<Outcome, IoError>) {
        let attached = matches!(self.place, Place::Attached(_));
        let Some(taken) = self.standby.taken.get_mut(key) else {
            return;
        };
        let (session, epoch, tag, at) = (taken.session, taken.epoch, taken.tag, taken.at);
        if !attached {
            return self.end_taken(key);
        }
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                let doing = if matches!(taken.kind, Kind::Read | Kind::Compare { .. }) {
                    "reading"
                } else {
                    "writing"
                };
                self.end_taken(key);
                return self.fail_local(format!("{doing} failed: {}", super::attach::words(error)));
            }
        };
        let answer = match &mut taken.kind {
            Kind::Write { early, .. } | Kind::Discard { early } => {
                (!*early).then_some((Body::Ack { result: Ok(()) }, None))
            }
            Kind::Read => {
                let payload = taken.buffer.map(|buffer| Part {
                    buffer,
                    offset: 0,
                    length: at.length,
                });
                let body = Body::Bytes { at, result: Ok(()) };
                Some((body, payload))
            }
            Kind::Compare { hashing, .. } if !*hashing => {
                *hashing = true;
                if let Some(buffer) = taken.buffer {
                    let of = Part {
                        buffer,
                        offset: 0,
                        length: at.length,
                    };
                    let token = Token(self.ops.insert(Op::Taken(key)));
                    self.out.push(Effect::Hash { token, of });
                }
                return;
            }
            Kind::Compare { hashes, .. } => {
                let ours = match outcome {
                    Outcome::Hashes(ours) => ours,
                    _ => Vec::new(),
                };
                let blocks = (0..64).fold(0, |mask, n| {
                    let differ = hashes.get(n).is_some() && hashes.get(n) != ours.get(n);
                    mask | u64::from(differ) << n
                });
                let body = Body::Differ {
                    blocks,
                    result: Ok(()),
                };
                Some((body, None))
            }
        };
        if let Some((body, payload)) = answer {
            self.reply(session, epoch, tag, body, payload);
        }
        self.end_taken(key);
    }

    fn end_taken(&mut self, key: Key) {
        let Some(taken) = self.standby.taken.remove(key) else {
            return;
        };
        self.release(Owner::Taken(key));
        self.drop_payload(taken.buffer);
        if !self.standby.flushes.is_empty() || self.standby.taken.is_empty() {
            self.changed = true;
        }
    }

    fn take_flush(&mut self, tag: u64, epoch: Epoch, all: bool, barrier: bool, then: After) {
        let Some(session) = self.peer.session else {
            return;
        };
        self.standby.flushes.push_back(Flush {
            session,
            epoch,
            tag,
            after: if all { self.standby.order + 1 } else { 0 },
            barrier,
            then,
        });
        self.changed = true;
    }

    /// Begins the first flush that waits, if what it waits for has ended.
    fn settle_flushes(&mut self) {
        let Some(flush) = self.standby.flushes.front() else {
            return;
        };
        if self.standby.flushing || self.standby.writes_before(flush.after) {
            return;
        }
        if !matches!(self.place, Place::Attached(_)) {
            return;
        }
        self.standby.flushing = true;
        let token = Token(self.ops.insert(Op::TakenFlush));
        self.out.push(Effect::Flush { token });
    }

    pub(super) fn on_taken_flush(&mut self, result: Result<Outcome, IoError>) {
        self.standby.flushing = false;
        self.changed = true;
        if let Err(error) = result {
            return self.fail_local(format!("flushing failed: {}", super::attach::words(error)));
        }
        // The session may have ended meanwhile, and this one with it.
        let Some(flush) = self.standby.flushes.pop_front() else {
            return;
        };
        match flush.then {
            After::Answer => {
                let body = Body::Ack { result: Ok(()) };
                self.reply(flush.session, flush.epoch, flush.tag, body, None);
            }
            After::Stamp(stamp) => self.mark(flush.tag, flush.epoch, &stamp),
        }
        if flush.barrier {
            self.take_queued();
        }
    }

    fn take_queued(&mut self) {
        while !self.standby.barrier()
            && let Some((message, payload)) = self.standby.queued.pop_front()
        {
            if self.takes(&message) && self.local().is_some() {
                self.take_message(message, payload);
            } else {
                self.drop_payload(payload);
            }
        }
    }

    /// The session has ended: nothing of it is answered, and what was not begun is not done.
    pub(super) fn forget_taken(&mut self) {
        let standby = &mut self.standby;
        standby.begin = None;
        standby.stamping = None;
        standby.joined = false;
        // One that is under way stays until it ends.
        standby.flushes.truncate(usize::from(standby.flushing));
        if let Some(flush) = standby.flushes.front_mut() {
            flush.barrier = false;
            flush.then = After::Answer;
        }
        for (_, payload) in std::mem::take(&mut standby.queued) {
            self.drop_payload(payload);
        }
        self.changed = true;
    }

    /// The local disk failed.
    pub(super) fn standby_failed(&mut self) {
        self.forget_taken();
        if self.peer.session.is_some() {
            self.send(0, Body::DiskFailed, None);
        }
    }

    /// Blocks of the volume, for the status.
    pub(super) fn volume_blocks(&self) -> u64 {
        self.local().map_or(0, |local| local.durable.size / BLOCK)
    }
}
