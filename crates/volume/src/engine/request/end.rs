//! When a request is acknowledged, held, or fails (rule R2).

use super::super::local::{extents, touched};
use super::super::locks::Owner;
use super::super::peer::{MOST_LAGGING, Phase};
use super::super::slab::Key;
use super::super::{Engine, Role, Side};
use super::{Kind, Request, Stage};
use crate::engine::{IoError, Transfer};
use crate::fault::{Fault, planted};
use hotpair_core::config::MirrorMode;
use hotpair_core::time::Moment;

impl Engine {
    /// Acknowledges the request if rule R2 allows it now.
    pub(in crate::engine) fn try_end(&mut self, key: Key) {
        let Some(request) = self.requests.table.get(key) else {
            return;
        };
        if request.stage != Stage::Running || request.kind == Kind::Read {
            return;
        }
        let (local, remote, answered) = (request.local, request.remote, request.io.is_none());
        if local == Side::Going && !planted(Fault::AckBeforeLocal) {
            return;
        }
        if answered {
            // Failed before, or acknowledged in asynchronous mode: its other half ends it.
            if remote != Side::Going {
                self.end(key, Ok(()));
            }
            return;
        }
        let written = self.local().is_none_or(|local| local.durable.written);
        let here = local != Side::Missing || self.through;
        let there = match remote {
            Side::Done | Side::Idle => true,
            Side::Going => planted(Fault::AckBeforePeer),
            Side::Missing => {
                local != Side::Missing && (self.alone || planted(Fault::AloneUnrecorded))
            }
        };
        if here && there && written {
            if remote == Side::Missing {
                self.lacking_there(key);
            }
            return self.end(key, Ok(()));
        }
        if here && written && local != Side::Missing && self.may_lag(key) {
            return self.end_early(key);
        }
        let lags = matches!(self.mode(), MirrorMode::Asynchronous { .. });
        if remote != Side::Going || !written || !here || lags {
            self.hold(key);
        }
    }

    /// The peer lacks the blocks of a write that is acknowledged.
    pub(in crate::engine) fn lacking_there(&mut self, key: Key) {
        let Some(request) = self.requests.table.get(key) else {
            return;
        };
        let (start, length) = touched(request.at);
        // What was resynchronised of it before does not count any more.
        self.flushes.forget_clearing();
        if let Some(local) = self.local_mut() {
            local.set(start, length);
        }
    }

    /// What is asked of the peer by a request.
    pub(in crate::engine) fn asked_there(&self, key: Key) -> Option<Transfer> {
        Some(self.requests.table.get(key)?.at)
    }

    /// Asynchronous mode: is the lag within its bounds with this one?
    pub(in crate::engine) fn may_lag(&self, key: Key) -> bool {
        let MirrorMode::Asynchronous { lag, bytes } = self.mode() else {
            return false;
        };
        let Some(request) = self.requests.table.get(key) else {
            return false;
        };
        if request.remote == Side::Missing && self.peer.phase == Phase::Joining {
            // It is about to be told that it lacks nothing.
            return false;
        }
        if self.peer.outstanding() >= MOST_LAGGING {
            return false;
        }
        let state = &self.requests.lag;
        let since = self.requests.lag_since();
        state.bytes + state.missed + u64::from(request.at.length) <= bytes
            && since.is_none_or(|since| self.now.since(since) <= lag)
    }

    /// Acknowledges it before the peer has it.
    pub(in crate::engine) fn end_early(&mut self, key: Key) {
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        let length = u64::from(request.at.length);
        if request.kind == Kind::Discard && request.at.end() < request.end {
            // The next piece waits for this one's answer.
            if request.remote == Side::Going {
                return;
            }
        }
        if request.remote == Side::Missing {
            self.requests.lag.missed += length;
            self.requests.lag.missed_since.get_or_insert(self.now);
            self.lacking_there(key);
            self.changed = true;
            return self.end(key, Ok(()));
        }
        let (io, buffer, begun) = (request.io.take(), request.buffer.take(), request.begun);
        request.held = false;
        self.requests.lag.bytes += length;
        self.requests.lag.queue.push_back((key, self.now));
        self.count(key, begun);
        self.release(Owner::Request(key));
        if let Some(io) = io {
            self.answer(io, buffer, Ok(()));
        }
    }

    pub(in crate::engine) fn hold(&mut self, key: Key) {
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        if !request.held {
            request.held = true;
            self.requests.held.push(key);
            self.requests.held_since.get_or_insert(self.now);
            self.changed |= !self.requests.retrying;
        }
    }

    /// Something that held requests may wait for has changed.
    pub(in crate::engine) fn retry_held(&mut self) {
        if self.alone || self.peer.is_joined() {
            self.requests.lag.missed = 0;
            self.requests.lag.missed_since = None;
        }
        self.requests.retrying = true;
        for key in std::mem::take(&mut self.requests.held) {
            self.retry(key);
        }
        self.requests.retrying = false;
        if self.requests.held.is_empty() {
            self.requests.held_since = None;
        }
        self.try_end_flush();
    }

    pub(in crate::engine) fn retry(&mut self, key: Key) {
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        request.held = false;
        if request.kind == Kind::Read {
            self.read(key);
        } else {
            self.try_end(key);
        }
    }

    /// In asynchronous mode an answer makes room for others.
    pub(in crate::engine) fn retry_lagging(&mut self) {
        if self.requests.held.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.requests.held) {
            self.retry(key);
        }
        if self.requests.held.is_empty() {
            self.requests.held_since = None;
        }
    }

    /// The request has failed; what it would have written may be anything.
    pub(in crate::engine) fn give_up(&mut self, key: Key, error: IoError) {
        if let Some(request) = self.requests.table.get(key)
            && request.kind != Kind::Read
        {
            self.lacking_there(key);
        }
        if let Some(request) = self.requests.table.get_mut(key) {
            request.at.length = u32::try_from(request.end - request.at.offset).unwrap_or(0);
        }
        self.end(key, Err(error));
    }

    /// Both halves are settled: the next piece, or the answer.
    pub(in crate::engine) fn end(&mut self, key: Key, result: Result<(), IoError>) {
        let Some(request) = self.requests.table.get_mut(key) else {
            return;
        };
        let at = request.at;
        if std::mem::take(&mut request.logged)
            && let crate::engine::Place::Attached(local) = &mut self.place
        {
            local.clock += 1;
            local.log.leave(extents(at), local.clock);
        }
        if request.kind == Kind::Discard && at.end() < request.end && request.io.is_some() {
            request.at.offset = at.end();
            request.local = Side::Idle;
            request.remote = Side::Idle;
            return self.start(key);
        }
        let begun = request.begun;
        if request.io.is_some() {
            self.count(key, begun);
        }
        let Some(request) = self.requests.table.remove(key) else {
            return;
        };
        self.release(Owner::Request(key));
        match request.io {
            Some(io) => self.answer(io, request.buffer, result),
            None => self.unlag(&request),
        }
        if matches!(self.role, Role::Closing { .. }) && self.requests.table.is_empty() {
            self.changed = true;
        }
    }

    /// One that was acknowledged early has reached the peer, or failed.
    pub(in crate::engine) fn unlag(&mut self, request: &Request) {
        if request.remote == Side::Idle {
            return;
        }
        let lag = &mut self.requests.lag;
        lag.bytes = lag.bytes.saturating_sub(u64::from(request.at.length));
        while let Some((key, _)) = lag.queue.front() {
            if self.requests.table.get(*key).is_some() {
                break;
            }
            lag.queue.pop_front();
        }
    }

    pub(in crate::engine) fn count(&mut self, key: Key, begun: Moment) {
        let Some(request) = self.requests.table.get(key) else {
            return;
        };
        let (kind, length) = (request.kind, u64::from(request.at.length));
        let took = self.now.since(begun);
        let counts = &mut self.requests.counts;
        if kind == Kind::Read {
            counts.reads += 1;
            counts.read_bytes += length;
        } else {
            counts.writes += 1;
            counts.write_bytes += length;
            counts.longest = counts.longest.max(took);
            counts.last_write = Some(self.now);
        }
    }
}
