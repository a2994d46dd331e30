//! Step by step with the peer's copy: joined, resynchronised first, or recorded as behind (rules R4, R5).

use super::super::{Engine, Place, Role};
use super::{Awaited, Phase};
use crate::fault::{Fault, planted};
use crate::link::{Body, DiskState, Message, Stamp};
use hotpair_core::ids::Version;
use hotpair_core::mirror::{Copy, Data, Generation};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// What bitmap and activity logs name.
    Known,
    All,
}

/// Has the disk writes of its own, which the agreement does not know?
pub(in crate::engine) fn own_writes(data: &Data, disk: &DiskState) -> bool {
    disk.solo.is_some()
        || disk.consistent
            && disk.generation != Generation::NONE
            && !data.descends_from(disk.generation)
}

impl Engine {
    /// Takes the next step with the peer.
    pub(in crate::engine) fn settle_peer(&mut self) {
        self.check_peer_time();
        if !matches!(self.role, Role::Open { .. } | Role::Closing { .. }) {
            return;
        }
        if self.peer.phase == Phase::Joined || self.peer.phase == Phase::Resync {
            self.peer.apart_since = None;
        }
        let mode = self.mode();
        self.peer.memory |= mode == hotpair_core::config::MirrorMode::Memory;
        let Some(data) = self.data().cloned() else {
            return;
        };
        if !self.peer_ready() {
            return;
        }
        match self.peer.phase {
            Phase::Apart if self.peer_willing() => self.approach(&data),
            Phase::Apart => {}
            Phase::Filling => self.fill_peer(&data),
            Phase::Begin => self.begin_sent(),
            Phase::Joining => {}
            Phase::Resync => {
                let bits = self.local().is_some_and(|local| !local.bits.is_empty());
                if !bits && self.resync.is_idle() && self.flushes.cleared() {
                    self.stamp_peer(&data);
                }
            }
            Phase::Joined => {
                if self.peer.stamped != Some(data.generation) {
                    self.stamp_peer(&data);
                }
            }
        }
    }

    /// A copy that is apart: join it, resynchronise it, or have it recorded.
    pub(in crate::engine) fn approach(&mut self, data: &Data) {
        let (Some(id), Some(hello)) = (self.peer.id, self.peer.hello.clone()) else {
            return;
        };
        let (Some(copy), Some(disk)) = (data.copies.get(&id), &hello.disk) else {
            return;
        };
        let missing = self.missing(data, disk);
        self.peer.unfit = false;
        if *copy == Copy::UpToDate {
            let fits = disk.consistent
                && disk.solo.is_none()
                && super::super::role::bears(data, disk.generation);
            if fits && missing == Missing::Nothing {
                self.peer.phase = Phase::Joining;
                return self.stamp_peer(data);
            }
            self.peer.unfit = true;
            return;
        }
        if !copy.is_target() || self.local().is_none() {
            return;
        }
        if missing != Missing::Nothing && data.serial <= self.floor {
            // It may be about to count as up to date, by an earlier word of this side: first record that it
            // is not any more.
            self.peer.unfit = true;
            return;
        }
        let given_up = matches!(copy, Copy::GivenUp { .. });
        if own_writes(data, disk) && !given_up && !planted(Fault::OverwriteDiverged) {
            if !std::mem::replace(&mut self.peer.complained, true) {
                self.note(true, "the peer's copy has writes of its own: split-brain");
            }
            return;
        }
        match missing {
            Missing::Nothing if !given_up => {
                self.peer.phase = Phase::Joining;
                self.stamp_peer(data);
            }
            Missing::Nothing | Missing::Known => self.begin_resync(given_up),
            Missing::All => {
                self.peer.phase = Phase::Filling;
                if let Some(local) = self.local_mut() {
                    local.filled = false;
                    local.fill();
                }
                self.fill_peer(data);
            }
        }
    }

    /// What the peer's copy lacks.
    fn missing(&self, data: &Data, disk: &DiskState) -> Missing {
        let Some(local) = self.local() else {
            // The active side's own disk failed: what is known is that nothing was acknowledged without
            // the peer.
            return if self.peer.lost_there {
                Missing::All
            } else {
                Missing::Nothing
            };
        };
        let base = local.durable.base;
        let known = base != Generation::NONE;
        let own = own_writes(data, disk);
        let partial = if !disk.consistent {
            known && disk.resync_base == base
        } else if own {
            known && disk.base == base
        } else {
            let generation = disk.generation;
            generation != Generation::NONE
                && known
                && (generation == base
                    || generation == local.durable.generation && disk.base == base)
        };
        if !partial {
            return Missing::All;
        }
        if local.bits.is_empty() && disk.consistent && !disk.unclean && !own {
            Missing::Nothing
        } else {
            Missing::Known
        }
    }

    /// All bits are on the disk before the basis says that they count for this target.
    pub(in crate::engine) fn fill_peer(&mut self, data: &Data) {
        let me = self.setup.me;
        let (boot, run) = (self.boot().0, self.setup.run);
        let given_up = self
            .peer
            .id
            .and_then(|id| data.copies.get(&id))
            .is_some_and(|copy| matches!(copy, Copy::GivenUp { .. }));
        let Some(local) = self.local_mut() else {
            return;
        };
        if !local.pages_durable() {
            local.write_pages();
            return;
        }
        let mark = Version::new(boot, local.durable.sequence);
        if !local.filled {
            local.filled = true;
            local.wanted.base = Generation::begun(mark, me, data.id ^ run ^ 0x5eed);
        }
        if local.marked() {
            local.filled = false;
            self.begin_resync(given_up);
        }
    }

    pub(in crate::engine) fn begin_resync(&mut self, snapshot: bool) {
        let Some(local) = self.local() else {
            return;
        };
        let basis = local.durable.base;
        self.peer.phase = Phase::Begin;
        self.peer.told = false;
        self.peer.begun = self.ask(Awaited::Begin, Body::ResyncBegin { basis, snapshot }, None);
    }

    /// The target tells what it has touched.
    pub(in crate::engine) fn on_target_says(&mut self, message: Message) {
        if message.tag != self.peer.begun {
            // Of an earlier begin.
            return;
        }
        let mut answer = None;
        let mut ready = false;
        if let Place::Attached(local) = &mut self.place {
            match message.body {
                Body::Extents(extents) if !planted(Fault::ResyncWithoutLog) => {
                    for extent in extents {
                        local.set_doubtful(extent);
                    }
                }
                Body::Page { index, bits } => {
                    if let Some(page) = crate::store::Page::from_bits(&bits)
                        && !planted(Fault::ResyncWithoutTargetBits)
                    {
                        local.merge(index, &page);
                    }
                    answer = Some(message.tag);
                }
                Body::ResyncReady => ready = true,
                _ => {}
            }
        }
        if let Some(tag) = answer {
            self.send(tag, Body::Ack { result: Ok(()) }, None);
        }
        if ready {
            self.peer.sent.drain();
            self.peer.told = true;
            self.changed = true;
        }
    }

    pub(in crate::engine) fn begin_sent(&mut self) {
        let Place::Attached(local) = &mut self.place else {
            return;
        };
        if !self.peer.told {
            return;
        }
        if !local.pages_durable() {
            local.write_pages();
            return;
        }
        self.peer.phase = Phase::Resync;
        self.peer.refusals.clear();
        self.begin_sending();
        self.resend();
        self.resend_flush();
        self.changed = true;
    }

    /// Asks it to mark its disk with the present generation, which this side's own disk bears (or it has
    /// none any more).
    pub(in crate::engine) fn stamp_peer(&mut self, data: &Data) {
        let ours = self.local().map(|local| local.durable.generation);
        if self.peer.stamping || ours.is_some_and(|ours| ours != data.generation) {
            if self.peer.phase == Phase::Joining && !self.peer.stamping {
                // Not yet: this side's own mark comes first.
                self.peer.phase = Phase::Apart;
            }
            return;
        }
        self.peer.stamping = true;
        let stamp = Stamp {
            generation: data.generation,
            ancestors: data.ancestors.clone(),
            only_copy: ours.is_none(),
        };
        self.ask(Awaited::Stamp, Body::Stamp(Box::new(stamp)), None);
    }

    pub(in crate::engine) fn on_stamped(&mut self, generation: Generation) {
        self.peer.stamping = false;
        self.changed = true;
        if !self.place.lacks_nothing() && !planted(Fault::AloneWhileJoining) {
            // Something has failed meanwhile that the peer lacks now: from the start.
            return self.part();
        }
        self.peer.stamped = Some(generation);
        if matches!(self.peer.phase, Phase::Joining | Phase::Resync) {
            self.peer.phase = Phase::Joined;
            self.peer.refusals.clear();
            self.peer.unfit = false;
            self.peer.apart_since = None;
            self.resend();
            self.resend_flush();
            self.end_resync();
        }
        let whole = self
            .data()
            .is_some_and(|data| data.generation == generation);
        if let Place::Attached(local) = &mut self.place
            && whole
            && local.durable.generation == generation
        {
            // From here on the bitmap counts from this generation.
            local.wanted.base = generation;
        }
    }
}
