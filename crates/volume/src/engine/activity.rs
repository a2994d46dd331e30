//! The activity log in memory: which extents may be written now (rule R9).
//!
//! ```text
//!   absent --wanted, table written--> logged --users 0, flushed, pages durable, table written--> absent
//! ```

use crate::fault::{Fault, planted};
use crate::store::LOG_EXTENTS;
use std::collections::BTreeMap;

/// Extents that leave together, so that the table is not written for each.
const BATCH: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Requests under way in it.
    users: u32,
    /// When it was last used, by the count of uses.
    used: u64,
    /// The write clock when the last write in it ended.
    written: u64,
    /// The table on the disk has it.
    durable: bool,
}

/// What has been flushed, by the write clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flushed {
    pub local: u64,
    /// `u64::MAX` if the peer has nothing that is not flushed.
    pub peer: u64,
}

#[derive(Debug)]
pub(super) struct Activity {
    slots: BTreeMap<u32, Slot>,
    uses: u64,
    limit: usize,
    /// Extents that requests wait for, in the order of the requests.
    wanted: Vec<u32>,
    /// What the first request that waits needs: it stays, so that there is always progress.
    first: Option<(u32, u32)>,
    /// Extents that are to leave, once nothing rests on them.
    leaving: Vec<u32>,
    writing: bool,
    pub sequence: u64,
}

/// What the log needs next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// A flush of both copies: something in the extents that are to leave is not on stable storage.
    Flush,
    /// The bitmap pages of these extents on the disk.
    Pages(Vec<u32>),
    /// This table on the disk.
    Write(Vec<u32>),
}

impl Activity {
    pub(super) fn new(limit: usize, sequence: u64) -> Self {
        Self {
            slots: BTreeMap::new(),
            uses: 0,
            limit: limit.clamp(4, LOG_EXTENTS),
            wanted: Vec::new(),
            first: None,
            leaving: Vec::new(),
            writing: false,
            sequence,
        }
    }

    /// Takes what the table on the disk has; nothing of it is known to be flushed.
    pub(super) fn load(&mut self, extents: &[u32], clock: u64) {
        for extent in extents {
            let slot = Slot {
                users: 0,
                used: 0,
                written: clock,
                durable: true,
            };
            self.slots.insert(*extent, slot);
        }
    }

    pub(super) fn extents(&self) -> Vec<u32> {
        self.slots.keys().copied().collect()
    }

    /// May all of these be written? If so they are in use until [`Self::leave`]; if not, they are
    /// wanted.
    pub(super) fn enter(&mut self, extents: std::ops::RangeInclusive<u32>) -> bool {
        let unlogged = planted(Fault::BlockBeforeLog);
        let mut all = true;
        for extent in extents.clone() {
            let logged = self.slots.get(&extent).is_some_and(|slot| slot.durable);
            if !logged && !self.slots.contains_key(&extent) && !self.wanted.contains(&extent) {
                self.wanted.push(extent);
            }
            all &= logged;
        }
        if !all {
            self.first.get_or_insert((*extents.start(), *extents.end()));
            return unlogged;
        }
        self.uses += 1;
        for extent in extents {
            if let Some(slot) = self.slots.get_mut(&extent) {
                slot.users += 1;
                slot.used = self.uses;
            }
        }
        true
    }

    /// A write in these has ended.
    pub(super) fn leave(&mut self, extents: std::ops::RangeInclusive<u32>, clock: u64) {
        for extent in extents {
            if let Some(slot) = self.slots.get_mut(&extent) {
                slot.users = slot.users.saturating_sub(1);
                slot.written = clock;
            }
        }
    }

    /// Nobody waits for it and nothing is under way.
    pub(super) fn idle(&self) -> bool {
        self.wanted.is_empty() && !self.writing
    }

    /// Forgets what was wanted: those that wait ask again, in their order.
    pub(super) fn calm(&mut self) {
        self.wanted.clear();
        self.first = None;
    }

    /// Forgets all extents: the table on the disk is written empty, or does not count any more.
    pub(super) fn empty(&mut self) {
        self.slots.clear();
        self.calm();
        self.leaving.clear();
    }

    /// `stale`: the bitmap pages of an extent are not on the disk as they are in memory.
    pub(super) fn need(&mut self, flushed: Flushed, stale: impl Fn(u32) -> bool) -> Need {
        if self.writing || self.wanted.is_empty() {
            return Need::Nothing;
        }
        let room = self.limit - self.slots.len().min(self.limit);
        if room >= self.wanted.len() {
            self.leaving.clear();
            return self.table();
        }
        let rests = |slot: &Slot| {
            !planted(Fault::EvictUnflushed)
                && (slot.written > flushed.local || slot.written > flushed.peer)
        };
        self.leaving
            .retain(|extent| self.slots.get(extent).is_some_and(|slot| slot.users == 0));
        if self.leaving.is_empty() {
            let mut idle: Vec<(bool, u64, u32)> = self
                .slots
                .iter()
                .filter(|(extent, slot)| {
                    let needed = self
                        .first
                        .is_some_and(|(from, to)| (from..=to).contains(extent));
                    slot.users == 0 && slot.durable && !needed
                })
                .map(|(extent, slot)| (rests(slot), slot.used, *extent))
                .collect();
            idle.sort_unstable();
            let missing = (self.wanted.len() - room).min(self.limit);
            let count = missing.max(BATCH.min(self.limit / 4));
            self.leaving = idle
                .iter()
                .take(count)
                .map(|(_, _, extent)| *extent)
                .collect();
        }
        if self.leaving.is_empty() {
            return if room > 0 {
                self.table()
            } else {
                Need::Nothing
            };
        }
        if self.leaving.iter().any(|extent| rests(&self.slots[extent])) {
            return Need::Flush;
        }
        let pages: Vec<u32> = self
            .leaving
            .iter()
            .copied()
            .filter(|extent| stale(*extent) && !planted(Fault::EvictBeforePages))
            .collect();
        if !pages.is_empty() {
            return Need::Pages(pages);
        }
        for extent in std::mem::take(&mut self.leaving) {
            self.slots.remove(&extent);
        }
        self.table()
    }

    fn table(&mut self) -> Need {
        let room = self.limit - self.slots.len().min(self.limit);
        let entering = self.wanted.len().min(room);
        // The newest: they are waited for.
        self.uses += 1;
        for extent in self.wanted.drain(..entering) {
            let slot = Slot {
                users: 0,
                used: self.uses,
                written: 0,
                durable: false,
            };
            self.slots.insert(extent, slot);
        }
        self.writing = true;
        Need::Write(self.extents())
    }

    /// The table that [`Need::Write`] asked for is on the disk.
    pub(super) fn written(&mut self) {
        self.writing = false;
        for slot in self.slots.values_mut() {
            slot.durable = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Flushed = Flushed {
        local: u64::MAX,
        peer: u64::MAX,
    };

    #[test]
    fn an_extent_is_written_only_after_the_table_has_it() {
        let mut log = Activity::new(4, 0);
        assert!(!log.enter(7..=8));
        assert_eq!(log.need(ALL, |_| false), Need::Write(vec![7, 8]));
        assert!(!log.enter(7..=8));
        assert_eq!(log.need(ALL, |_| false), Need::Nothing);
        log.written();
        assert!(log.enter(7..=8));
    }

    #[test]
    fn an_extent_leaves_only_when_flushed_and_its_pages_are_durable() {
        let mut log = Activity::new(4, 0);
        for extent in 0..4 {
            log.enter(extent..=extent);
            log.need(ALL, |_| false);
            log.written();
            assert!(log.enter(extent..=extent));
        }
        assert!(!log.enter(9..=9));
        assert_eq!(log.need(ALL, |_| false), Need::Nothing, "all are in use");
        log.leave(2..=2, 5);
        let not_yet = Flushed { local: 5, peer: 4 };
        assert_eq!(log.need(not_yet, |_| true), Need::Flush);
        let flushed = Flushed { local: 5, peer: 5 };
        assert_eq!(log.need(flushed, |_| true), Need::Pages(vec![2]));
        assert_eq!(log.need(flushed, |_| false), Need::Write(vec![0, 1, 3, 9]));
    }
}
