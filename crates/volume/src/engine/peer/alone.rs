//! With whom a write must be before it is acknowledged (rules R2, R4), and the loss of the local disk.

use super::super::{Engine, Place};
use super::Phase;
use crate::fault::{Fault, planted};

impl Engine {
    /// May the peer be reported complete (rule R4)?
    pub(in crate::engine) fn is_complete(&self) -> bool {
        let Some(data) = self.data() else {
            return false;
        };
        let early = planted(Fault::CompleteBeforeStamp) && self.peer.phase == Phase::Resync;
        let ours = self.local().is_some_and(|local| {
            local.durable.generation == data.generation
                && local.durable.base == data.generation
                && (local.bits.is_empty() || planted(Fault::AloneWhileJoining))
        });
        early || self.peer.is_joined() && self.peer.stamped == Some(data.generation) && ours
    }

    /// Rule R2: may writes be acknowledged without the peer, or without the local disk?
    pub(in crate::engine) fn judge_alone(&mut self) {
        let before = (self.alone, self.through);
        self.alone = self.may_be_alone();
        self.through = self.may_go_through();
        if before != (self.alone, self.through) {
            self.changed = true;
            if self.through {
                self.resend();
                self.resend_flush();
            }
        }
    }

    pub(in crate::engine) fn may_be_alone(&self) -> bool {
        let (Some(epoch), Some(committed)) = (self.active_epoch(), self.committed()) else {
            return false;
        };
        let Some(local) = self.local() else {
            return false;
        };
        if self.peer.phase == Phase::Joining && !planted(Fault::AloneWhileJoining) {
            // It is about to be told that it lacks nothing.
            return false;
        }
        let data = &committed.data;
        let named = (committed.holder, committed.epoch) == (Some(self.setup.me), epoch);
        if local.durable.solo.is_some()
            || planted(Fault::SoloBeforeMark) && local.wanted.solo.is_some()
        {
            return named;
        }
        let Some(other) = self.other() else {
            return named && data.is_up_to_date(self.setup.me);
        };
        let later = data.serial > self.floor || planted(Fault::AloneAtSameSerial);
        let stamped = local.durable.generation == data.generation || planted(Fault::AckBeforeStamp);
        named
            && data.alone == Some(epoch)
            && data.is_up_to_date(self.setup.me)
            && !data.is_up_to_date(other)
            && later
            && stamped
    }

    pub(in crate::engine) fn may_go_through(&self) -> bool {
        let (Some(epoch), Some(committed)) = (self.active_epoch(), self.committed()) else {
            return false;
        };
        let data = &committed.data;
        let named = (committed.holder, committed.epoch) == (Some(self.setup.me), epoch);
        let other = self.other();
        self.setup.through_peer
            && self.local().is_none()
            && named
            && data.alone == Some(epoch)
            && !data.is_up_to_date(self.setup.me)
            && other.is_some_and(|other| data.is_up_to_date(other))
            && self.peer.stamped == Some(data.generation)
    }

    /// The local disk failed, and no copy is left to go on with.
    pub(in crate::engine) fn all_lost(&self) -> bool {
        if !self.is_active() || self.local().is_some() {
            return false;
        }
        let late = self.now >= self.peer.heard.plus(self.peer_timeout());
        let there = self
            .other()
            .is_some_and(|other| self.data().is_some_and(|data| data.is_up_to_date(other)));
        let held = self.requests.held_since.or(self.flushes.held_since);
        !self.setup.through_peer
            || !there
            || !self.peer.is_joined() && late
            || held.is_some_and(|since| {
                !self.through && self.now >= since.plus(self.peer_timeout() * 4)
            })
    }

    /// The local disk failed.
    pub(in crate::engine) fn fail_local(&mut self, why: String) {
        let Place::Attached(local) = &self.place else {
            return;
        };
        // The peer lacks what was acknowledged without it: it is no copy to go on with.
        self.peer.lost_there |= !local.bits.is_empty() || local.durable.solo.is_some();
        self.note(true, format!("the local disk of the mirror failed: {why}"));
        self.place = Place::Failed(why);
        self.failures += 1;
        self.changed = true;
        self.stop_resync();
        self.grow.stop();
        if self.is_active() {
            self.peer.stamped = None;
            self.peer.stamping = false;
            if self.peer.phase != Phase::Joined {
                self.part();
            }
            self.lose_local();
        } else {
            self.standby_failed();
        }
    }
}
