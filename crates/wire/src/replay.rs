//! Replay window: every heartbeat counts once, none from an earlier start.
//!
//! A heartbeat names its origin by three numbers: the host boot, the daemon
//! incarnation within that boot, and a sequence within the incarnation. The
//! newest (boot, incarnation) wins; within it the last 1024 sequences are
//! remembered in a bitmap, so links may re-order but not repeat.
//!
//! ```text
//!      older            window, 1024 wide          newer
//! ──── Old ────┤ Duplicate or Fresh by its bit ├── Fresh, window moves ──▶
//!                                              ▲ highest
//! ```

/// How many sequences back a late heartbeat is still told from a repeated one.
///
/// At a heartbeat each 20 ms over 4 links that is 5 s of re-ordering.
pub const WINDOW: u64 = 1024;

const WORDS: usize = 16;

/// What a heartbeat is, seen from the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before: use it.
    Fresh,
    /// Seen before, on another link or replayed: drop it.
    Duplicate,
    /// Too far back to tell: drop it.
    Old,
    /// From an earlier start of the sender: drop it.
    EarlierIncarnation,
}

/// One start of a sender; later starts compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Start {
    boot: u64,
    incarnation: u64,
}

/// The sequences seen from one sender.
///
/// Boot ids carry a durable counter in their upper 32 bits, so a later boot
/// compares greater; the lower 32 bits are random. A host that lost its counter
/// (new disk) is heard again after [`forget`](Self::forget), called when it joins.
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    seen: Option<Seen>,
}

#[derive(Debug, Clone)]
struct Seen {
    start: Start,
    highest: u64,
    bits: [u64; WORDS],
}

impl ReplayWindow {
    /// A window that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the sender, as before its first heartbeat.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// The newest (boot, incarnation) heard.
    pub fn newest(&self) -> Option<(u64, u64)> {
        let start = self.seen.as_ref()?.start;
        Some((start.boot, start.incarnation))
    }

    /// Judges a heartbeat and remembers it when it is fresh.
    ///
    /// Call it only with numbers from an intact seal: a forged boot id would
    /// shut the true sender out.
    pub fn accept(&mut self, boot: u64, incarnation: u64, sequence: u64) -> Verdict {
        let start = Start { boot, incarnation };
        match &mut self.seen {
            Some(seen) if start < seen.start => Verdict::EarlierIncarnation,
            Some(seen) if start == seen.start => seen.accept(sequence),
            _ => {
                self.seen = Some(Seen::first(start, sequence));
                Verdict::Fresh
            }
        }
    }
}

impl Seen {
    fn first(start: Start, sequence: u64) -> Self {
        let mut seen = Self {
            start,
            highest: sequence,
            bits: [0; WORDS],
        };
        seen.mark(sequence);
        seen
    }

    fn accept(&mut self, sequence: u64) -> Verdict {
        if sequence > self.highest {
            self.advance(sequence);
        } else if self.highest - sequence >= WINDOW {
            return Verdict::Old;
        } else if self.is_marked(sequence) {
            return Verdict::Duplicate;
        }
        self.mark(sequence);
        Verdict::Fresh
    }

    fn advance(&mut self, sequence: u64) {
        if sequence - self.highest >= WINDOW {
            self.bits = [0; WORDS];
        } else {
            for skipped in self.highest + 1..=sequence {
                let (word, bit) = place(skipped);
                self.bits[word] &= !bit;
            }
        }
        self.highest = sequence;
    }

    fn mark(&mut self, sequence: u64) {
        let (word, bit) = place(sequence);
        self.bits[word] |= bit;
    }

    fn is_marked(&self, sequence: u64) -> bool {
        let (word, bit) = place(sequence);
        self.bits[word] & bit != 0
    }
}

#[allow(clippy::cast_possible_truncation)] // below 16 by construction
fn place(sequence: u64) -> (usize, u64) {
    let slot = sequence % WINDOW;
    ((slot / 64) as usize, 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Remembers everything; the window must agree with it.
    #[derive(Default)]
    struct Model {
        start: Option<(u64, u64)>,
        seen: Vec<u64>,
    }

    impl Model {
        fn accept(&mut self, boot: u64, incarnation: u64, sequence: u64) -> Verdict {
            let start = (boot, incarnation);
            if self.start.is_some_and(|newest| start < newest) {
                return Verdict::EarlierIncarnation;
            }
            if self.start != Some(start) {
                self.start = Some(start);
                self.seen.clear();
            }
            let highest = self.seen.iter().copied().max().unwrap_or(sequence);
            if sequence.saturating_add(WINDOW) <= highest {
                return Verdict::Old;
            }
            if self.seen.contains(&sequence) {
                return Verdict::Duplicate;
            }
            self.seen.push(sequence);
            Verdict::Fresh
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_model_that_remembers_everything(
            arrivals in prop::collection::vec((0u64..3, 0u64..3, 0u64..4000), 0..400),
        ) {
            let (mut window, mut model) = (ReplayWindow::new(), Model::default());
            for (boot, incarnation, sequence) in arrivals {
                prop_assert_eq!(
                    window.accept(boot, incarnation, sequence),
                    model.accept(boot, incarnation, sequence)
                );
            }
        }

        #[test]
        fn agrees_with_the_model_for_a_stream_that_jumps_and_reorders(
            steps in prop::collection::vec((-1100i64..1100, any::<bool>()), 0..400),
        ) {
            let (mut window, mut model) = (ReplayWindow::new(), Model::default());
            let mut at = 100_000i64;
            for (step, far) in steps {
                at = (at + if far { step } else { step / 100 }).max(0);
                let sequence = at.unsigned_abs();
                prop_assert_eq!(window.accept(1, 1, sequence), model.accept(1, 1, sequence));
            }
        }

        #[test]
        fn takes_no_heartbeat_twice(
            arrivals in prop::collection::vec((0u64..2, 0u64..2, any::<u64>()), 0..100),
        ) {
            let mut window = ReplayWindow::new();
            for &(boot, incarnation, sequence) in &arrivals {
                window.accept(boot, incarnation, sequence);
                prop_assert_ne!(window.accept(boot, incarnation, sequence), Verdict::Fresh);
            }
        }
    }

    #[test]
    fn tells_late_from_repeated_up_to_the_edge_of_the_window() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.accept(1, 1, 5000), Verdict::Fresh);
        assert_eq!(window.accept(1, 1, 5000 - 1023), Verdict::Fresh);
        assert_eq!(window.accept(1, 1, 5000 - 1023), Verdict::Duplicate);
        assert_eq!(window.accept(1, 1, 5000 - 1024), Verdict::Old);
    }

    #[test]
    fn counts_the_ends_of_the_number_range() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.accept(1, 1, 0), Verdict::Fresh);
        assert_eq!(window.accept(1, 1, u64::MAX), Verdict::Fresh);
        assert_eq!(window.accept(1, 1, u64::MAX), Verdict::Duplicate);
        assert_eq!(window.accept(1, 1, 0), Verdict::Old);
    }

    #[test]
    fn a_later_boot_wins_even_with_a_smaller_incarnation() {
        let mut window = ReplayWindow::new();
        let (first, second) = (1 << 32 | 0xffff_ffff, 2 << 32);
        assert_eq!(window.accept(first, 9, 70), Verdict::Fresh);
        assert_eq!(window.accept(second, 1, 1), Verdict::Fresh);
        assert_eq!(window.accept(first, 9, 71), Verdict::EarlierIncarnation);
        assert_eq!(window.newest(), Some((second, 1)));
    }

    #[test]
    fn hears_a_forgotten_sender_with_a_smaller_boot() {
        let mut window = ReplayWindow::new();
        window.accept(5 << 32, 1, 1);
        window.forget();
        assert_eq!(window.accept(1 << 32, 1, 1), Verdict::Fresh);
    }
}
