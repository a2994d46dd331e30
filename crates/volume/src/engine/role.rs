//! Opening, closing, and losing the mirror: rules R1, R6, and the marks on this node's own disk.

use super::attach::Place;
use super::event::{Effect, IoError, Ticket};
use super::flush::Who;
use super::{Engine, OPEN_LIMIT};
use crate::fault::{Fault, planted};
use hotpair_core::ids::{Epoch, Version};
use hotpair_core::mirror::{Copy, Data, Generation};
use hotpair_core::time::Moment;

#[derive(Debug)]
pub(super) enum Role {
    Standby,
    Opening {
        ticket: Ticket,
        epoch: Epoch,
        since: Moment,
    },
    Open {
        epoch: Epoch,
    },
    Closing {
        ticket: Ticket,
        epoch: Epoch,
        /// The last flush: asked for, ended.
        flush: (bool, bool),
        marking: bool,
    },
}

/// Whether an open may go on.
enum Open {
    Wait,
    Never(String),
    Go,
}

impl Engine {
    /// In which epoch requests are served or ended.
    pub(super) fn active_epoch(&self) -> Option<Epoch> {
        match self.role {
            Role::Open { epoch } | Role::Closing { epoch, .. } => Some(epoch),
            Role::Standby | Role::Opening { .. } => None,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.active_epoch().is_some()
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.role, Role::Open { .. } | Role::Closing { .. })
    }

    pub(super) fn on_open(&mut self, ticket: Ticket, epoch: Epoch) {
        if !matches!(self.role, Role::Standby) {
            let why = "it is open, or being opened or closed, already".to_owned();
            self.out.push(Effect::Opened {
                ticket,
                result: Err(why),
            });
            return;
        }
        self.opened = Some(epoch);
        self.clean = false;
        self.role = Role::Opening {
            ticket,
            epoch,
            since: self.now,
        };
    }

    pub(super) fn on_close(&mut self, ticket: Ticket) {
        match self.role {
            Role::Open { epoch } => {
                self.role = Role::Closing {
                    ticket,
                    epoch,
                    flush: (false, false),
                    marking: false,
                };
            }
            Role::Opening { .. } => {
                self.end_opening("it was told to close".into());
                self.closed(ticket, Ok(()));
            }
            Role::Standby => self.closed(ticket, Ok(())),
            Role::Closing { .. } => self.closed(ticket, Err("it is being closed already".into())),
        }
    }

    fn closed(&mut self, ticket: Ticket, result: Result<(), String>) {
        self.out.push(Effect::Closed { ticket, result });
    }

    fn end_opening(&mut self, why: String) {
        if let Role::Opening { ticket, .. } = self.role {
            if let Some(local) = self.local_mut() {
                local.wanted.open = local.unclean;
            }
            self.role = Role::Standby;
            self.changed = true;
            self.out.push(Effect::Opened {
                ticket,
                result: Err(why),
            });
        }
    }

    /// Everything under way fails, and the volume is not open any more (rule R6).
    pub(super) fn abort(&mut self, why: &str) {
        if planted(Fault::GateReopens) {
            return;
        }
        self.end_open(why, IoError::Closed);
    }

    fn end_open(&mut self, why: &str, error: IoError) {
        match self.role {
            Role::Standby => return,
            Role::Opening { .. } => return self.end_opening(why.to_owned()),
            Role::Open { .. } | Role::Closing { .. } => {}
        }
        self.fail_requests(error);
        self.stop_resync();
        self.part();
        let before = std::mem::replace(&mut self.role, Role::Standby);
        self.clean = false;
        if let Some(local) = self.local_mut() {
            local.unclean = true;
        }
        self.changed = true;
        self.settle_report();
        if let Role::Closing { ticket, .. } = before {
            self.closed(ticket, Err(why.to_owned()));
        }
        self.note(true, format!("the mirror is not open any more: {why}"));
        let why = why.to_owned();
        self.out.push(Effect::Ended { why });
    }

    pub(super) fn settle_role(&mut self) {
        let me = self.setup.me;
        if let Some(epoch) = self.active_epoch()
            && let Some(orders) = &self.orders
            && (orders.holder != Some(me) || orders.epoch != epoch)
        {
            self.abort("a newer document gave the group to another node or epoch");
        }
        if let Some(epoch) = self.active_epoch()
            && self.local().is_some()
            && let Some(committed) = self.committed()
            && (committed.holder, committed.epoch) == (Some(me), epoch)
            && !committed.data.is_up_to_date(me)
        {
            self.abort("the copy on this node is not up to date any more");
        }
        if let Some(since) = self.requests.held_since.or(self.flushes.held_since)
            && self.may_not_wait()
            && self.now >= since.plus(self.peer_timeout() * 2)
        {
            self.abort("a copy that missed a write was not recorded in time");
        }
        if self.all_lost() {
            self.end_open(
                "the local disk failed, and there is no other copy to go on with",
                IoError::Failed,
            );
        }
        if !self.is_active()
            && let Some(found) = self.returned.take()
        {
            self.on_disk(found);
        }
        match self.role {
            Role::Opening {
                ticket,
                epoch,
                since,
            } => match self.may_open(epoch) {
                Open::Go => self.open(ticket, epoch),
                Open::Never(why) => self.end_opening(why),
                Open::Wait if self.now >= since.plus(OPEN_LIMIT) => {
                    let why = self.waiting_for();
                    self.end_opening(why);
                }
                Open::Wait => {}
            },
            Role::Closing { .. } => self.go_on_closing(),
            Role::Standby | Role::Open { .. } => {}
        }
    }

    /// The group leaves this node, or the mirror is being closed: nothing may be held for long.
    pub(super) fn may_not_wait(&self) -> bool {
        let leaving = self.orders.as_ref().is_some_and(|orders| orders.leaving);
        self.is_active() && (leaving || matches!(self.role, Role::Closing { .. }))
    }

    fn waiting_for(&self) -> String {
        if self.local().is_none() {
            return "the local disk is not attached".into();
        }
        "the agreement that this node may open it did not come in time".into()
    }

    /// Rule R1; the gate is the driver's part.
    fn may_open(&mut self, epoch: Epoch) -> Open {
        let me = self.setup.me;
        let Some(orders) = &self.orders else {
            return Open::Wait;
        };
        if orders.epoch > epoch || orders.epoch == epoch && orders.holder != Some(me) {
            return Open::Never("the group is another node's, or of a later epoch".into());
        }
        let Some(committed) = &orders.committed else {
            return Open::Wait;
        };
        let named = (orders.epoch, orders.holder) == (epoch, Some(me))
            && (committed.epoch, committed.holder) == (epoch, Some(me));
        if !named {
            return Open::Wait;
        }
        let data = committed.data.clone();
        let pinned = committed.solo_after.is_some();
        if matches!(data.copies.get(&me), Some(Copy::New { .. })) {
            // Of a mirror that was added to a running group: it is made in a moment.
            return Open::Wait;
        }
        if !data.is_up_to_date(me) {
            return Open::Never("the copy on this node is not up to date".into());
        }
        let busy = self.standby.busy();
        let floor = self.floor;
        let local = match &mut self.place {
            Place::Attached(local) => local,
            Place::Failed(why) => return Open::Never(why.clone()),
            _ => return Open::Wait,
        };
        let mark = &local.durable;
        let right = match mark.solo {
            Some(solo) => solo == data.generation || pinned && mark.generation == data.generation,
            None => bears(&data, mark.generation),
        };
        let fits = mark.consistent && (right || planted(Fault::IgnoreGeneration));
        if !fits {
            return Open::Never(format!(
                "the disk does not fit what is agreed: its generation is {}, {}",
                mark.generation,
                if mark.consistent {
                    "another"
                } else {
                    "and it is inconsistent"
                },
            ));
        }
        if busy {
            return Open::Wait;
        }
        let alone = data.alone == Some(epoch) && data.serial > floor;
        if local.unclean && !alone && !planted(Fault::OpenUncleanTogether) {
            return Open::Wait;
        }
        local.wanted.open = true;
        local.wanted.epoch = epoch;
        stamp(local, &data, false);
        if local.marked() { Open::Go } else { Open::Wait }
    }

    /// An open waits for the agreement that its unclean disk goes first, alone.
    pub(super) fn unclean_opening(&self) -> bool {
        let Role::Opening { epoch, .. } = self.role else {
            return false;
        };
        let (Some(committed), Some(local)) = (self.committed(), self.local()) else {
            return false;
        };
        let alone = committed.data.alone == Some(epoch) && committed.data.serial > self.floor;
        committed.epoch == epoch
            && committed.holder == Some(self.setup.me)
            && local.unclean
            && !alone
    }

    fn open(&mut self, ticket: Ticket, epoch: Epoch) {
        let size = self.local().map_or(0, |local| local.durable.size);
        if let Some(local) = self.local_mut() {
            local.unclean = false;
        }
        self.role = Role::Open { epoch };
        self.requests.begin(size);
        self.peer.opened(self.now);
        self.changed = true;
        self.out.push(Effect::Opened {
            ticket,
            result: Ok(size),
        });
    }

    fn go_on_closing(&mut self) {
        let idle = self.requests.is_empty() && self.resync.is_idle() && !self.grow.is_busy();
        let Role::Closing {
            flush,
            marking,
            ticket,
            ..
        } = &mut self.role
        else {
            return;
        };
        if !idle {
            return;
        }
        if !flush.0 {
            flush.0 = true;
            self.flushes.waiting.push(Who::Close);
            return;
        }
        if !flush.1 {
            return;
        }
        let ticket = *ticket;
        if let Place::Attached(local) = &mut self.place {
            if !*marking {
                *marking = true;
                let mut unflushed = std::mem::take(&mut self.peer.unflushed);
                unflushed.pour(|start, length| local.set(start, length));
                local.empty_log();
            }
            local.write_pages();
            if !local.pages_durable() || !local.log_durable() {
                return;
            }
            local.wanted.open = false;
            if !local.marked() {
                return;
            }
        }
        self.part();
        self.role = Role::Standby;
        // What was acknowledged on a mark of its own is not on every copy that counts as up to date.
        self.clean = match self.local() {
            Some(local) => local.durable.solo.is_none(),
            None => !self.peer.lost_there(),
        };
        self.changed = true;
        // The report first.
        self.settle_report();
        self.closed(ticket, Ok(()));
    }

    /// The last flush of a close has ended.
    pub(super) fn close_flushed(&mut self) {
        if let Role::Closing { flush, .. } = &mut self.role {
            flush.1 = true;
            self.changed = true;
        }
    }

    /// Marks the local disk with what is agreed while it is open, or with a generation of its own if nobody
    /// answers (rule R7).
    pub(super) fn settle_mark(&mut self) {
        let Some(epoch) = self.active_epoch() else {
            return;
        };
        let me = self.setup.me;
        let waiting = self.requests.holds();
        let solo = self.solo_due();
        let Some(committed) = self.committed() else {
            return;
        };
        let data = committed.data.clone();
        if (committed.holder, committed.epoch) != (Some(me), epoch) || !data.is_up_to_date(me) {
            return;
        }
        let boot = self.boot();
        let run = self.setup.run;
        let Some(local) = self.local_mut() else {
            return;
        };
        stamp(local, &data, waiting);
        if solo && local.wanted.solo.is_none() {
            let version = Version::new(boot.0, local.durable.sequence);
            local.wanted.solo = Some(Generation::begun(version, me, data.id ^ run));
            local.wanted.written = true;
            self.note(
                true,
                "no answer from the cluster: going on alone, on this disk's own mark",
            );
        }
    }
}

/// Does an up-to-date copy of `data` bear `generation`? The last ancestor only if there is no other.
pub(super) fn bears(data: &Data, generation: Generation) -> bool {
    generation == data.generation
        || data.ancestors.last() == Some(&generation) && data.up_to_date().count() == 1
}

/// The disk shall bear the generation of `data`, if it is one that it can come from.
fn stamp(local: &mut super::local::Local, data: &Data, waiting: bool) {
    let mark = &mut local.wanted;
    let agreed = mark.solo == Some(data.generation);
    let next = mark.solo.is_none() && data.ancestors.last() == Some(&mark.generation);
    if mark.generation == data.generation && mark.solo.is_none() {
        mark.written |= waiting;
        return;
    }
    if agreed || next {
        mark.written = agreed || waiting;
        mark.generation = data.generation;
        mark.ancestors.clone_from(&data.ancestors);
        mark.solo = None;
    }
}
