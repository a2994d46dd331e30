//! The target of a resynchronisation: getting ready, and being marked at its end (rules R4, R5).

use super::super::peer::own_writes;
use super::super::{Engine, Op, Place, Role};
use super::{Begin, PAGES_OUT, Snapshot};
use crate::engine::{Effect, IoError, Outcome, Token};
use crate::fault::{Fault, planted};
use crate::link::{Body, DiskState, Refusal, Stamp};
use crate::store::Page;
use hotpair_core::ids::Epoch;
use hotpair_core::mirror::{Copy, Generation};

impl Engine {
    /// Everything the active side has is here: the disk bears its generation.
    pub(in crate::engine) fn mark(&mut self, tag: u64, epoch: Epoch, stamp: &Stamp) {
        if self.to_be_made() {
            return self.refuse(Refusal::NoDisk);
        }
        let same_epoch = self
            .orders
            .as_ref()
            .is_some_and(|orders| orders.epoch == epoch);
        let Place::Attached(local) = &mut self.place else {
            return;
        };
        if !same_epoch || !matches!(self.role, Role::Standby) {
            return;
        }
        local.forget_bits();
        local.empty_log();
        local.unclean = false;
        let mark = &mut local.wanted;
        mark.written &= mark.generation == stamp.generation;
        mark.generation = stamp.generation;
        mark.ancestors.clone_from(&stamp.ancestors);
        mark.consistent = true;
        mark.solo = None;
        mark.open = false;
        mark.base = if stamp.only_copy {
            Generation::NONE
        } else {
            stamp.generation
        };
        mark.resync_base = Generation::NONE;
        self.standby.stamping = Some((tag, epoch, stamp.generation));
        self.standby.joined = true;
        self.changed = true;
    }

    pub(in crate::engine) fn take_begin(&mut self, tag: u64, basis: Generation, snapshot: bool) {
        let (Some(data), Some(local)) = (self.data(), self.local()) else {
            return self.refuse(Refusal::NoDisk);
        };
        if self.to_be_made() {
            return self.refuse(Refusal::NoDisk);
        }
        let copy = data.copies.get(&self.setup.me);
        let given_up = matches!(copy, Some(Copy::GivenUp { .. }));
        let mark = &local.durable;
        let disk = DiskState {
            size: mark.size,
            generation: mark.generation,
            solo: mark.solo,
            consistent: mark.consistent,
            unclean: local.unclean,
            base: mark.base,
            resync_base: mark.resync_base,
            ancestors: Vec::new(),
        };
        if own_writes(data, &disk) && !given_up && !planted(Fault::OverwriteDiverged) {
            return self.refuse(Refusal::Diverged);
        }
        let keep = (snapshot || given_up) && mark.consistent;
        let kept = self.standby.kept == Some((mark.generation, mark.solo));
        self.standby.begin = Some(Begin {
            tag,
            basis,
            snapshot: if keep && !kept {
                Snapshot::Wanted
            } else {
                Snapshot::Done
            },
            told: false,
            next_page: 0,
            pages_out: 0,
        });
        self.standby.joined = true;
        self.changed = true;
    }

    pub(in crate::engine) fn on_snapshot(&mut self, result: Result<Outcome, IoError>) {
        self.changed = true;
        let state = self
            .local()
            .map(|local| (local.durable.generation, local.durable.solo));
        if result.is_ok() {
            self.standby.kept = state;
            self.standby.not_kept = None;
        }
        let Some(begin) = &mut self.standby.begin else {
            return;
        };
        if result.is_ok() {
            begin.snapshot = Snapshot::Done;
            return;
        }
        self.standby.begin = None;
        if std::mem::replace(&mut self.standby.not_kept, state) != state {
            self.note(
                true,
                "the copy that was given up could not be kept in a snapshot: it is not overwritten",
            );
        }
        self.refuse(Refusal::NoDisk);
    }

    pub(in crate::engine) fn settle_standby(&mut self) {
        if !matches!(self.role, Role::Standby) {
            return;
        }
        self.settle_flushes();
        self.settle_begin();
        let Place::Attached(local) = &self.place else {
            return;
        };
        if let Some((tag, epoch, generation)) = self.standby.stamping
            && local.marked()
            && let Some(session) = self.peer.session
        {
            self.standby.stamping = None;
            self.reply(session, epoch, tag, Body::Stamped { generation }, None);
        }
    }

    pub(in crate::engine) fn settle_begin(&mut self) {
        let Some(begin) = &mut self.standby.begin else {
            return;
        };
        let Place::Attached(local) = &mut self.place else {
            return;
        };
        match begin.snapshot {
            Snapshot::Wanted => {
                begin.snapshot = Snapshot::Going;
                let token = Token(self.ops.insert(Op::Snapshot));
                self.out.push(Effect::Snapshot { token });
                return;
            }
            Snapshot::Going => return,
            Snapshot::Done => {}
        }
        if !planted(Fault::NoInconsistentMark) {
            local.wanted.consistent = false;
        }
        local.wanted.resync_base = begin.basis;
        if !local.marked() {
            return;
        }
        if !begin.told {
            begin.told = true;
            let tag = begin.tag;
            let extents = local.log.extents();
            if local.unclean && !extents.is_empty() {
                self.send(tag, Body::Extents(extents), None);
            }
        }
        self.send_pages();
    }

    pub(in crate::engine) fn send_pages(&mut self) {
        loop {
            let (Some(begin), Place::Attached(local)) = (&mut self.standby.begin, &self.place)
            else {
                return;
            };
            let pages = local.bits.pages();
            let next = (begin.next_page..pages).find(|page| *local.bits.page(*page) != Page::Clear);
            let Some(index) = next else {
                begin.next_page = pages;
                if begin.pages_out == 0 {
                    let tag = begin.tag;
                    self.standby.begin = None;
                    self.send(tag, Body::ResyncReady, None);
                }
                return;
            };
            if begin.pages_out >= PAGES_OUT {
                return;
            }
            begin.pages_out += 1;
            begin.next_page = index + 1;
            let (tag, bits) = (begin.tag, local.bits.page(index).bits());
            self.send(tag, Body::Page { index, bits }, None);
        }
    }

    pub(in crate::engine) fn on_page_answer(&mut self) {
        if let Some(begin) = &mut self.standby.begin {
            begin.pages_out = begin.pages_out.saturating_sub(1);
            self.changed = true;
        }
    }
}
