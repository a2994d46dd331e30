//! Flushes: of the block device, of a close, and of the engine's own. They go in groups, one at a time;
//! those that come meanwhile are the next group.

use super::event::{Effect, IoError, IoId, Outcome, Token};
use super::peer::{Awaited, Peer};
use super::{Engine, Op, Side};
use crate::fault::{Fault, planted};
use crate::link::Body;
use hotpair_core::config::MirrorMode;
use hotpair_core::time::Moment;

/// Flushes that the peer has not answered, in asynchronous mode.
const TRAILING: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Io(IoId),
    Close,
}

#[derive(Debug)]
struct Group {
    number: u64,
    who: Vec<Who>,
    /// The write clock at its begin.
    mark: u64,
    local: Side,
    remote: Side,
    /// Blocks that the peer got by resynchronisation before it: their bits are cleared when it has ended.
    clearing: Vec<(u64, u64)>,
    begun: Moment,
}

#[derive(Debug, Default)]
pub(super) struct Flushes {
    /// The next group.
    pub waiting: Vec<Who>,
    /// The engine wants one.
    pub want: bool,
    /// Blocks that the peer got by resynchronisation since the last group began.
    pub resynced: Vec<(u64, u64)>,
    group: Option<Group>,
    /// Asynchronous mode: groups that ended but for the peer's half.
    trailing: Vec<Group>,
    groups: u64,
    /// Since when a flush waits for a peer that is away.
    pub held_since: Option<Moment>,
    /// The peer has flushed everything up to this clock.
    peer: u64,
}

impl Flushes {
    /// See [`super::activity::Flushed::peer`].
    pub(super) fn peer_mark(&self, peer: &Peer) -> u64 {
        if peer.unflushed.is_empty() {
            u64::MAX
        } else {
            self.peer
        }
    }

    /// A flush of the block device, or of a close, waits for the peer.
    pub(super) fn holds(&self) -> bool {
        self.group.as_ref().is_some_and(|group| {
            group.remote == Side::Missing && group.local != Side::Going && !group.who.is_empty()
        })
    }

    /// One waits for the record that the local disk, which failed, does not count any more.
    fn lacks_local(&self) -> bool {
        let lacks = |group: &Group| group.local == Side::Missing && !group.who.is_empty();
        self.group.as_ref().is_some_and(lacks)
    }

    /// No bit is cleared by what was sent so far.
    pub(super) fn forget_clearing(&mut self) {
        self.resynced.clear();
        for group in self.group.iter_mut().chain(&mut self.trailing) {
            group.clearing.clear();
        }
    }

    /// Nothing is to be cleared by a flush, now or later.
    pub(super) fn cleared(&self) -> bool {
        self.resynced.is_empty()
            && self
                .group
                .iter()
                .chain(&self.trailing)
                .all(|group| group.clearing.is_empty())
    }
}

impl Engine {
    pub(super) fn on_flush(&mut self, io: IoId) {
        if !matches!(self.role, super::Role::Open { .. }) {
            self.out.push(Effect::Complete {
                io,
                result: Err(IoError::Closed),
            });
            return;
        }
        self.flushes.waiting.push(Who::Io(io));
    }

    /// Begins the next group if there is none.
    pub(super) fn settle_flush(&mut self) {
        let wanted = self.flushes.want || !self.flushes.waiting.is_empty();
        if self.flushes.group.is_some() || !wanted {
            return;
        }
        if !self.is_active() {
            self.flushes.want = false;
            return;
        }
        self.flushes.want = false;
        let who = std::mem::take(&mut self.flushes.waiting);
        self.flushes.groups += 1;
        let number = self.flushes.groups;
        let mut group = Group {
            number,
            who,
            mark: 0,
            local: Side::Missing,
            remote: Side::Missing,
            clearing: Vec::new(),
            begun: self.now,
        };
        if let super::Place::Attached(local) = &self.place {
            group.mark = local.clock;
            group.local = Side::Going;
            let token = Token(self.ops.insert(Op::Flush(number)));
            self.out.push(Effect::Flush { token });
        }
        self.flushes.group = Some(group);
        self.flush_there();
        self.try_end_flush();
    }

    /// The peer's half of the group, if something was written there since it last flushed.
    fn flush_there(&mut self) {
        let asynchronous = matches!(self.mode(), MirrorMode::Asynchronous { .. });
        let early = self.mode() != MirrorMode::Synchronous;
        let blocks = self.requests.size / crate::store::BLOCK;
        let whole = self.place.lacks_nothing();
        let Some(group) = &mut self.flushes.group else {
            return;
        };
        let nothing = self.peer.unflushed.is_empty()
            && (whole || self.peer.sends())
            && self.flushes.resynced.is_empty()
            && !(asynchronous && self.requests.lag.bytes > 0);
        let forgotten = planted(Fault::FlushLocalOnly)
            && self.peer.is_joined()
            && group.who.iter().any(|who| matches!(who, Who::Io(_)));
        if nothing || forgotten {
            group.remote = Side::Idle;
        } else if self.peer.sends() {
            group.remote = Side::Going;
            let number = group.number;
            group.clearing.append(&mut self.flushes.resynced);
            self.peer.unflushed.begin(blocks);
            let body = Body::Flush {
                all: early,
                barrier: asynchronous,
            };
            self.ask(Awaited::Flush(number), body, None);
        } else if self.peer.unflushed.is_empty() && whole {
            group.remote = Side::Idle;
        } else {
            group.remote = Side::Missing;
        }
    }

    pub(super) fn on_flush_done(&mut self, number: u64, result: Result<Outcome, IoError>) {
        if let Err(error) = result {
            self.fail_local(format!("flushing failed: {}", super::attach::words(error)));
        }
        let Some(group) = &mut self.flushes.group else {
            return;
        };
        if group.number != number {
            return;
        }
        match &mut self.place {
            super::Place::Attached(local) if result.is_ok() => {
                group.local = Side::Done;
                local.flushed = local.flushed.max(group.mark);
            }
            _ => group.local = Side::Missing,
        }
        self.try_end_flush();
    }

    pub(super) fn on_flush_answer(&mut self, number: u64, result: Result<(), IoError>) {
        self.changed = true;
        let flushes = &mut self.flushes;
        let trailing = flushes
            .trailing
            .iter()
            .position(|group| group.number == number);
        let mut group = match trailing {
            Some(at) => flushes.trailing.remove(at),
            None => match flushes.group.take() {
                Some(group) if group.number == number => group,
                other => {
                    flushes.group = other;
                    return;
                }
            },
        };
        let clearing = std::mem::take(&mut group.clearing);
        if result.is_ok() {
            group.remote = Side::Done;
            flushes.peer = flushes.peer.max(group.mark);
            // A later flush covers blocks that this one does not.
            let others = flushes
                .trailing
                .iter()
                .chain(&flushes.group)
                .any(|group| group.remote == Side::Going);
            if !others {
                self.peer.unflushed.end();
            }
            if let super::Place::Attached(local) = &mut self.place {
                for (start, length) in clearing {
                    local.clear(start, length);
                }
            }
        } else {
            group.remote = Side::Missing;
        }
        if trailing.is_none() {
            self.flushes.group = Some(group);
            self.try_end_flush();
        }
    }

    /// The peer is away, or back.
    pub(super) fn lose_flush(&mut self) {
        self.flushes.resynced.clear();
        self.flushes.trailing.clear();
        if let Some(group) = &mut self.flushes.group {
            group.clearing.clear();
            if group.remote == Side::Going {
                group.remote = Side::Missing;
            }
        }
    }

    pub(super) fn resend_flush(&mut self) {
        let missing = |group: &Group| group.remote == Side::Missing;
        if self.flushes.group.as_ref().is_some_and(missing) {
            self.flush_there();
        }
    }

    pub(super) fn try_end_flush(&mut self) {
        let there = self.flushes.holds() && !self.alone;
        let here = self.flushes.lacks_local() && !self.through;
        if there || here {
            if self.flushes.held_since.is_none() {
                self.flushes.held_since = Some(self.now);
                self.changed = true;
            }
        } else {
            self.flushes.held_since = None;
        }
        let asynchronous = matches!(self.mode(), MirrorMode::Asynchronous { .. });
        let Some(group) = &mut self.flushes.group else {
            return;
        };
        // A close waits for both whatever the mode.
        let asynchronous = asynchronous && !group.who.contains(&Who::Close);
        let here = match group.local {
            Side::Going => false,
            Side::Missing => self.through,
            Side::Done | Side::Idle => true,
        };
        let there = match group.remote {
            Side::Done | Side::Idle => true,
            Side::Going => false,
            Side::Missing => self.alone && group.local == Side::Done,
        };
        if !here {
            return;
        }
        if there || asynchronous && group.local == Side::Done {
            let took = self.now.since(group.begun);
            let who = std::mem::take(&mut group.who);
            let counts = &mut self.requests.counts;
            if !who.is_empty() {
                counts.longest = counts.longest.max(took);
            }
            self.answer_flushes(who, Ok(()));
        }
        // One of the engine's own does not wait for somebody who is away.
        let away = self
            .flushes
            .group
            .as_ref()
            .is_some_and(|group| group.remote == Side::Missing && group.who.is_empty());
        let trails = asynchronous
            && self.flushes.trailing.len() < TRAILING
            && self.flushes.group.as_ref().is_some_and(|group| {
                group.remote == Side::Going && group.local == Side::Done && group.who.is_empty()
            });
        if trails {
            self.flushes.trailing.extend(self.flushes.group.take());
            self.settle_flush();
        } else if there || away {
            self.flushes.group = None;
            self.changed = true;
            self.settle_flush();
        }
    }

    fn answer_flushes(&mut self, who: Vec<Who>, result: Result<(), IoError>) {
        for who in who {
            match who {
                Who::Io(io) => self.out.push(Effect::Complete { io, result }),
                Who::Close => self.close_flushed(),
            }
        }
    }

    /// All fail.
    pub(super) fn fail_flushes(&mut self, error: IoError) {
        let waiting = std::mem::take(&mut self.flushes.waiting);
        self.flushes.want = false;
        self.flushes.held_since = None;
        self.flushes.resynced.clear();
        self.flushes.trailing.clear();
        let group = self.flushes.group.take();
        let who = group.map(|group| group.who).unwrap_or_default();
        for who in who.into_iter().chain(waiting) {
            if let Who::Io(io) = who {
                self.out.push(Effect::Complete {
                    io,
                    result: Err(error),
                });
            }
        }
    }
}
