//! What the peer has acknowledged and not flushed since: lost if its host restarts.

use crate::store::Bits;

/// Stretches that are kept one by one before they are put into a set of blocks.
const RECENT: usize = 4096;

#[derive(Debug, Default)]
struct Blocks {
    recent: Vec<(u64, u64)>,
    older: Option<Bits>,
}

impl Blocks {
    fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.older.is_none()
    }

    fn add(&mut self, start: u64, length: u64, blocks: u64) {
        if self.recent.len() >= RECENT {
            let older = self.older.get_or_insert_with(|| Bits::new(blocks));
            older.grow(blocks);
            for (start, length) in self.recent.drain(..) {
                older.set(start, length);
            }
        }
        self.recent.push((start, length));
    }

    fn pour(&mut self, mut into: impl FnMut(u64, u64)) {
        for (start, length) in self.recent.drain(..) {
            into(start, length);
        }
        if let Some(older) = self.older.take() {
            let mut at = 0;
            while let Some(block) = older.next(at) {
                into(block, 1);
                at = block + 1;
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Unflushed {
    since: Blocks,
    /// Acknowledged before the flush that is under way.
    flushing: Blocks,
}

impl Unflushed {
    pub(super) fn is_empty(&self) -> bool {
        self.since.is_empty() && self.flushing.is_empty()
    }

    /// `blocks`: of the volume.
    pub(super) fn add(&mut self, start: u64, length: u64, blocks: u64) {
        self.since.add(start, length, blocks);
    }

    /// A flush begins that covers everything so far.
    pub(super) fn begin(&mut self, blocks: u64) {
        if self.flushing.is_empty() {
            std::mem::swap(&mut self.flushing, &mut self.since);
            return;
        }
        let flushing = &mut self.flushing;
        self.since
            .pour(|start, length| flushing.add(start, length, blocks));
    }

    /// It ended.
    pub(super) fn end(&mut self) {
        self.flushing.recent.clear();
        self.flushing.older = None;
    }

    /// All of it, which is forgotten here.
    pub(super) fn pour(&mut self, mut into: impl FnMut(u64, u64)) {
        self.since.pour(&mut into);
        self.flushing.pour(&mut into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_acknowledged_before_the_flush_is_forgotten() {
        let mut set = Unflushed::default();
        set.add(1, 2, 100_000);
        set.begin(100_000);
        set.add(50, 1, 100_000);
        set.end();
        let mut left = Vec::new();
        set.pour(|start, length| left.push((start, length)));
        assert_eq!(left, [(50, 1)]);
        assert!(set.is_empty());
    }

    #[test]
    fn many_stretches_are_kept_in_bounds() {
        let mut set = Unflushed::default();
        for block in 0..3 * RECENT as u64 {
            set.add(block, 1, 100_000);
        }
        assert!(set.since.recent.len() <= RECENT);
        let mut left = 0;
        set.pour(|_, length| left += length);
        assert_eq!(left, 3 * RECENT as u64);
    }
}
