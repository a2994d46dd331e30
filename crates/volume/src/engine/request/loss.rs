//! Requests under way when the peer, the local disk or the gate is lost, or the peer is back.

use super::super::{Engine, Side};
use super::{Kind, Lag, Stage};
use crate::engine::IoError;
use crate::fault::{Fault, planted};

impl Engine {
    /// The peer is reachable again, or takes writes now: what it misses is sent.
    pub(in crate::engine) fn resend(&mut self) {
        if !self.peer.sends() || !self.may_send() {
            return;
        }
        for key in self.requests.table.keys() {
            let Some(request) = self.requests.table.get(key) else {
                continue;
            };
            let missing = request.stage == Stage::Running && request.remote == Side::Missing;
            if !missing || request.io.is_none() {
                continue;
            }
            if request.kind != Kind::Read {
                self.replicate(key);
            }
        }
        self.changed = true;
    }

    /// The peer may have lost what it has answered: it counts only for what is acknowledged already.
    pub(in crate::engine) fn doubt_remote(&mut self) {
        for key in self.requests.table.keys() {
            if let Some(request) = self.requests.table.get_mut(key)
                && request.remote == Side::Done
            {
                request.remote = Side::Missing;
            }
        }
    }

    /// The peer is away: its halves are missing.
    pub(in crate::engine) fn lose_remote(&mut self) {
        // What lagged behind goes on doing so: it has not become younger.
        let since = self.requests.lag_since().unwrap_or(self.now);
        for key in self.requests.table.keys() {
            let Some(request) = self.requests.table.get_mut(key) else {
                continue;
            };
            if request.remote != Side::Going {
                continue;
            }
            request.remote = Side::Missing;
            if request.kind == Kind::Read {
                self.hold(key);
                continue;
            }
            if request.io.is_none() {
                let length = u64::from(request.at.length);
                self.requests.lag.missed += length;
                self.requests.lag.missed_since.get_or_insert(since);
                if !planted(Fault::ForgetInFlight) {
                    self.lacking_there(key);
                }
            }
            self.try_end(key);
        }
        self.changed = true;
    }

    /// Every request fails now. What is still under way on the disk keeps its lock until it ends.
    pub(in crate::engine) fn fail_requests(&mut self, error: IoError) {
        self.requests.held.clear();
        self.requests.held_since = None;
        self.requests.logging.clear();
        if let Some(local) = self.local_mut() {
            local.log.calm();
        }
        for key in self.requests.table.keys() {
            let Some(request) = self.requests.table.get_mut(key) else {
                continue;
            };
            let going = request.local == Side::Going;
            let running = request.stage == Stage::Running;
            let write = request.kind != Kind::Read;
            let (io, buffer) = (request.io.take(), request.buffer.take());
            let apart = request.remote != Side::Done || going;
            if write && running && apart && !planted(Fault::ForgetInFlight) {
                // It may be on one side only.
                self.lacking_there(key);
            }
            if let Some(request) = self.requests.table.get_mut(key) {
                request.remote = Side::Idle;
                request.end = request.at.end();
            }
            if let Some(io) = io {
                self.answer(io, buffer, Err(error));
            }
            if !going {
                self.end(key, Err(error));
            }
        }
        self.requests.lag = Lag::default();
        self.fail_flushes(error);
    }

    /// The local disk failed: halves that wait for the log go on without it.
    pub(in crate::engine) fn lose_local(&mut self) {
        for key in self.requests.table.keys() {
            let Some(request) = self.requests.table.get_mut(key) else {
                continue;
            };
            request.logged = false;
            if request.stage == Stage::Running && request.local == Side::Done {
                // Written to a disk that does not count any more.
                request.local = Side::Missing;
            }
        }
        self.retry_logging();
        self.changed = true;
    }
}
