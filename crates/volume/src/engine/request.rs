//! Requests of the block device: rules R2, R8, R9.
//!
//! ```text
//!   Locked --no overlap--> Logging --extents in the log--> Running --both halves--> acknowledged
//!                                                             |  the peer's is missing
//!                                                             +--> held until recorded, or resent
//! ```

mod end;
mod loss;

use super::event::{
    BufferId, Effect, IoError, IoId, Outcome, Part, TRANSFER_LIMIT, Token, Transfer,
};
use super::local::{extents, touched};
use super::locks::Owner;
use super::peer::Awaited;
use super::slab::{Key, Slab};
use super::{Engine, Op, Role, Side};
use crate::fault::{Fault, planted};
use crate::link::Body;
use crate::store::EXTENT;
use hotpair_core::config::MirrorMode;
use hotpair_core::time::Moment;
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write { fua: bool },
    Discard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Locked,
    Logging,
    Running,
}

#[derive(Debug)]
pub(super) struct Request {
    /// `None`: it has been answered.
    io: Option<IoId>,
    pub kind: Kind,
    /// What is done now: all of it, or the piece of a discard within one extent.
    pub at: Transfer,
    /// End of the whole request.
    end: u64,
    buffer: Option<BufferId>,
    stage: Stage,
    local: Side,
    remote: Side,
    /// In the log of activity.
    logged: bool,
    held: bool,
    begun: Moment,
}

/// Of the block device.
#[derive(Debug, Default)]
pub(super) struct Requests {
    table: Slab<Request>,
    /// Wait for the activity log.
    logging: Vec<Key>,
    /// Could not be acknowledged yet though their local half has ended.
    held: Vec<Key>,
    /// These are being tried again: that they are held is no news.
    retrying: bool,
    pub held_since: Option<Moment>,
    pub size: u64,
    pub lag: Lag,
    pub counts: Counts,
    /// When the block device last asked for something.
    pub last: Moment,
}

/// Asynchronous mode: what was acknowledged before the peer had it.
#[derive(Debug, Default)]
pub(super) struct Lag {
    pub bytes: u64,
    /// In the order of sending.
    queue: VecDeque<(Key, Moment)>,
    /// Missing there, since it is away; the agreement does not know it yet.
    pub missed: u64,
    pub missed_since: Option<Moment>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub longest: Duration,
    pub last_write: Option<Moment>,
}

impl Requests {
    pub(super) fn begin(&mut self, size: u64) {
        self.size = size;
        self.counts = Counts::default();
        self.held_since = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Acknowledgement of the oldest write that the peer does not have.
    pub(super) fn lag_since(&self) -> Option<Moment> {
        let oldest = self.lag.queue.iter().find(|(key, _)| {
            let request = self.table.get(*key);
            request.is_some_and(|request| request.io.is_none())
        });
        let since = oldest.map(|(_, at)| *at);
        since.into_iter().chain(self.lag.missed_since).min()
    }

    /// A write waits for more than its two halves.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Of these, one that the peer missed; or one was acknowledged in asynchronous mode.
    pub(super) fn missing_there(&self) -> bool {
        let missing = |key: &Key| {
            let request = self.table.get(*key);
            request.is_some_and(|request| request.remote == Side::Missing)
        };
        self.lag.missed > 0 || self.held.iter().any(missing)
    }
}

impl Engine {
    pub(super) fn on_read(&mut self, io: IoId, at: Transfer, buffer: BufferId) {
        self.submit(io, at, Some(buffer), Kind::Read);
    }

    pub(super) fn on_write(&mut self, io: IoId, at: Transfer, buffer: BufferId, fua: bool) {
        self.submit(io, at, Some(buffer), Kind::Write { fua });
    }

    /// Both copies read as zeros afterwards, whatever was asked for: they stay equal.
    pub(super) fn on_discard(&mut self, io: IoId, at: Transfer, _zero: bool) {
        self.submit(io, at, None, Kind::Discard);
    }

    fn submit(&mut self, io: IoId, at: Transfer, buffer: Option<BufferId>, kind: Kind) {
        let sound = at.offset.is_multiple_of(512)
            && at.length.is_multiple_of(512)
            && at.length > 0
            && (at.length <= TRANSFER_LIMIT || kind == Kind::Discard)
            && at.end() <= self.requests.size;
        if !matches!(self.role, Role::Open { .. }) {
            return self.answer(io, buffer, Err(IoError::Closed));
        }
        if !sound {
            return self.answer(io, buffer, Err(IoError::Invalid));
        }
        self.requests.last = self.now;
        let request = Request {
            io: Some(io),
            kind,
            at,
            end: at.end(),
            buffer,
            stage: Stage::Locked,
            local: Side::Idle,
            remote: Side::Idle,
            logged: false,
            held: false,
            begun: self.now,
        };
        let key = self.requests.table.insert(request);
        let beside = planted(Fault::ReadBesideWrite) && kind == Kind::Read;
        let exclusive = kind != Kind::Read;
        if beside || self.locks.acquire(Owner::Request(key), at, exclusive) {
            self.start(key);
        }
    }

    fn answer(&mut self, io: IoId, buffer: Option<BufferId>, result: Result<(), IoError>) {
        self.out.push(Effect::Complete { io, result });
        if let Some(buffer) = buffer {
            self.out.push(Effect::Release { buffer });
        }
    }

    /// Nothing that overlaps is under way.
    pub(super) fn start(&mut self, key: Key) {
        let local = self.local().is_some();
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        match request.kind {
            Kind::Read => {
                request.stage = Stage::Running;
                self.read(key);
            }
            Kind::Discard => {
                let limit = (request.at.offset / EXTENT + 1) * EXTENT;
                let upto = request.end.min(limit);
                request.at.length = u32::try_from(upto - request.at.offset).unwrap_or(0);
                self.enter(key, local);
            }
            Kind::Write { .. } => self.enter(key, local),
        }
    }

    /// Rule R9: the extents are in the log first.
    fn enter(&mut self, key: Key, local: bool) {
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        if local {
            request.stage = Stage::Logging;
            let at = request.at;
            let entered = self
                .local_mut()
                .is_some_and(|local| local.log.enter(extents(at)));
            if !entered {
                self.requests.logging.push(key);
                return;
            }
            if let Some(request) = self.requests.table.get_mut(key) {
                request.logged = true;
            }
        }
        self.run(key);
    }

    /// The log has changed.
    pub(super) fn retry_logging(&mut self) {
        let local = self.local().is_some();
        if let Some(local) = self.local_mut() {
            local.log.calm();
        }
        for key in std::mem::take(&mut self.requests.logging) {
            self.enter(key, local);
        }
    }

    /// Begins both halves.
    fn run(&mut self, key: Key) {
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        request.stage = Stage::Running;
        request.remote = Side::Missing;
        let (at, kind, buffer) = (request.at, request.kind, request.buffer);
        if matches!(self.place, super::Place::Attached(_)) {
            let token = Token(self.ops.insert(Op::Request(key)));
            if let Some(request) = self.requests.table.get_mut(key) {
                request.local = Side::Going;
            }
            self.out.push(match (kind, buffer) {
                (Kind::Write { fua }, Some(buffer)) => Effect::Write {
                    token,
                    at,
                    from: Part {
                        buffer,
                        offset: 0,
                        length: at.length,
                    },
                    durable: fua,
                },
                _ => Effect::Discard {
                    token,
                    at,
                    zero: true,
                },
            });
        } else if let Some(request) = self.requests.table.get_mut(key) {
            request.local = Side::Missing;
        }
        if self.peer.sends() && self.may_send() {
            self.replicate(key);
        }
        self.try_end(key);
    }

    /// Without the local disk nothing goes to the peer before it is recorded that its copy is the only one:
    /// no log here says what may differ.
    fn may_send(&self) -> bool {
        self.local().is_some() || self.through
    }

    /// Sends the peer its half.
    fn replicate(&mut self, key: Key) {
        let mode = self.mode();
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        request.remote = Side::Going;
        let at = request.at;
        let memory = mode == MirrorMode::Memory || planted(Fault::MemoryForSynchronous);
        let (body, payload) = match (request.kind, request.buffer) {
            (Kind::Write { fua }, Some(buffer)) => {
                let part = Part {
                    buffer,
                    offset: 0,
                    length: at.length,
                };
                let body = Body::Data {
                    at,
                    durable: fua,
                    early: memory && !fua,
                };
                (body, Some(part))
            }
            _ => {
                let body = Body::Discard {
                    at,
                    zero: true,
                    early: memory,
                    resync: false,
                };
                (body, None)
            }
        };
        self.ask(Awaited::Request(key), body, payload);
    }

    fn read(&mut self, key: Key) {
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        let (at, Some(buffer)) = (request.at, request.buffer) else {
            return;
        };
        if matches!(self.place, super::Place::Attached(_)) {
            request.local = Side::Going;
            let token = Token(self.ops.insert(Op::Request(key)));
            self.out.push(Effect::Read {
                token,
                at,
                to: Part {
                    buffer,
                    offset: 0,
                    length: at.length,
                },
            });
            return;
        }
        request.local = Side::Missing;
        if self.peer.is_joined() && self.through {
            request.remote = Side::Going;
            self.ask(Awaited::Request(key), Body::Read { at }, None);
        } else {
            request.remote = Side::Missing;
            self.hold(key);
        }
    }

    /// The local half has ended.
    pub(super) fn on_request_done(&mut self, key: Key, result: Result<Outcome, IoError>) {
        let joined = self.peer.is_joined();
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        let read = request.kind == Kind::Read;
        match result {
            Ok(_) => request.local = Side::Done,
            Err(error) => {
                request.local = Side::Missing;
                let answered = request.io.is_none();
                if error == IoError::NoSpace && !read && !joined && !answered {
                    return self.give_up(key, error);
                }
                let doing = if read { "reading" } else { "writing" };
                self.fail_local(format!("{doing} failed: {}", super::attach::words(error)));
                let answered = self
                    .requests
                    .table
                    .get(key)
                    .is_none_or(|request| request.io.is_none());
                if read && !answered {
                    return self.read(key);
                }
            }
        }
        if read {
            self.end(key, Ok(()));
        } else {
            self.try_end(key);
        }
    }

    /// The peer has answered.
    pub(super) fn on_request_answer(
        &mut self,
        key: Key,
        result: Result<(), IoError>,
        payload: Option<BufferId>,
    ) {
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        let at = request.at;
        if request.kind == Kind::Read {
            let (Ok(()), Some(from), Some(to)) = (result, payload, request.buffer) else {
                request.remote = Side::Missing;
                return self.hold(key);
            };
            let from = Part {
                buffer: from,
                offset: 0,
                length: at.length,
            };
            self.out.push(Effect::Copy { from, to });
            return self.end(key, Ok(()));
        }
        if result.is_err() {
            // Its disk failed: it says so in a message of its own.
            request.remote = Side::Missing;
        } else {
            request.remote = Side::Done;
            let fua = request.kind == (Kind::Write { fua: true });
            if !fua {
                self.unflushed_there(at);
            }
        }
        self.try_end(key);
    }

    fn unflushed_there(&mut self, at: Transfer) {
        let blocks = self.requests.size / crate::store::BLOCK;
        let (start, length) = touched(at);
        self.peer.unflushed.add(start, length, blocks);
        self.overwritten(at);
    }
}
