//! Who may touch which bytes of the local copy now, in the order of asking.
//!
//! Reads share; writes, of the block device or of the peer, exclude everything that overlaps them.
//! A few hundred stretches at most are held or waited for, so a scan is the fastest search.

use super::event::Transfer;
use super::slab::Key;

/// Whose stretch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Request(Key),
    Chunk(Key),
    Taken(Key),
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    end: u64,
    exclusive: bool,
    order: u64,
    /// Earlier ones that it waits for.
    behind: u32,
    owner: Owner,
}

#[derive(Debug, Default)]
pub(super) struct Locks {
    spans: Vec<Span>,
    order: u64,
    waiting: usize,
}

impl Span {
    fn conflicts(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end && (self.exclusive || other.exclusive)
    }
}

impl Locks {
    /// Asks for `at`; whether it is granted at once. If not, [`Self::release`] of another tells.
    pub(super) fn acquire(&mut self, owner: Owner, at: Transfer, exclusive: bool) -> bool {
        self.order += 1;
        let mut span = Span {
            start: at.offset,
            end: at.end(),
            exclusive,
            order: self.order,
            behind: 0,
            owner,
        };
        let before = self.spans.iter().filter(|other| other.conflicts(&span));
        span.behind = u32::try_from(before.count()).unwrap_or(u32::MAX);
        self.waiting += usize::from(span.behind > 0);
        self.spans.push(span);
        span.behind == 0
    }

    /// Gives up what `owner` holds or waits for; appends who is granted by that.
    pub(super) fn release(&mut self, owner: Owner, granted: &mut Vec<Owner>) {
        let Some(at) = self.spans.iter().position(|span| span.owner == owner) else {
            return;
        };
        let gone = self.spans.swap_remove(at);
        self.waiting -= usize::from(gone.behind > 0);
        if self.waiting == 0 {
            return;
        }
        let mut freed: Vec<(u64, Owner)> = Vec::new();
        for span in &mut self.spans {
            if span.behind > 0 && span.order > gone.order && span.conflicts(&gone) {
                span.behind -= 1;
                if span.behind == 0 {
                    freed.push((span.order, span.owner));
                }
            }
        }
        self.waiting -= freed.len();
        freed.sort_unstable_by_key(|(order, _)| *order);
        granted.extend(freed.into_iter().map(|(_, owner)| owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64, length: u32) -> Transfer {
        Transfer { offset, length }
    }

    #[test]
    fn overlapping_writes_go_one_after_the_other_and_reads_together() {
        let mut locks = Locks::default();
        let [one, two, three, four] = [1, 2, 3, 4].map(Owner::Request);
        assert!(locks.acquire(one, at(0, 100), true));
        assert!(!locks.acquire(two, at(50, 100), true));
        assert!(
            !locks.acquire(three, at(120, 10), false),
            "behind a waiting write"
        );
        assert!(locks.acquire(four, at(200, 10), false));
        let mut granted = Vec::new();
        locks.release(one, &mut granted);
        assert_eq!(granted, [two]);
        granted.clear();
        locks.release(two, &mut granted);
        assert_eq!(granted, [three]);
        assert!(locks.acquire(one, at(120, 10), false), "reads share");
    }

    #[test]
    fn one_that_gives_up_waiting_lets_those_behind_it_pass() {
        let mut locks = Locks::default();
        let [one, two, three] = [1, 2, 3].map(Owner::Chunk);
        locks.acquire(one, at(0, 10), false);
        locks.acquire(two, at(0, 10), true);
        locks.acquire(three, at(0, 10), false);
        let mut granted = Vec::new();
        locks.release(two, &mut granted);
        assert_eq!(granted, [three]);
    }
}
