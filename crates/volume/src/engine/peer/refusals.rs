//! Refusals that repeat: each is said once, and after it the peer is asked again after a pause that grows.

use crate::link::{Hello, Refusal};
use hotpair_core::time::Moment;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
pub(in crate::engine) struct Refusals {
    last: Option<Refusal>,
    pause: Duration,
    until: Option<Moment>,
    /// What the peer said of itself.
    seen: Option<Box<Hello>>,
}

impl Refusals {
    /// One side refused; whether that is to be said: it is another reason than the last one.
    pub(super) fn add(&mut self, refusal: Refusal, now: Moment) -> bool {
        let news = self.last != Some(refusal);
        self.pause = if news {
            FIRST
        } else {
            (self.pause * 2).min(LONGEST)
        };
        self.last = Some(refusal);
        self.until = Some(now.plus(self.pause));
        news
    }

    /// The peer has said this of itself: if it is something new, what was in the way may be gone.
    pub(super) fn heard(&mut self, hello: &Hello) {
        if !self.seen.as_ref().is_some_and(|seen| same(seen, hello)) {
            self.seen = Some(Box::new(hello.clone()));
            self.until = None;
        }
    }

    /// This side has changed.
    pub(in crate::engine) fn retry(&mut self) {
        self.until = None;
    }

    /// Nothing is in the way.
    pub(super) fn clear(&mut self) {
        self.last = None;
        self.until = None;
    }

    /// The peer is not asked now.
    pub(super) fn hold(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Nor greeted: there is nothing to be said to each other.
    pub(super) fn mute(&self, now: Moment) -> bool {
        self.last == Some(Refusal::OtherMirror) && self.hold(now)
    }

    /// The pause is over at this moment.
    pub(super) fn until(&self, now: Moment) -> Option<Moment> {
        self.until.filter(|until| *until > now)
    }
}

/// As far as it matters to what is done.
pub(super) fn same(one: &Hello, other: &Hello) -> bool {
    let mut one = one.clone();
    one.version = other.version;
    one == *other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_said_once_and_the_pause_after_it_grows_up_to_a_few_seconds() {
        let mut refusals = Refusals::default();
        let mut now = Moment(0);
        let (mut said, mut tries, mut pauses) = (0, 0, Vec::new());
        while now < Moment(60_000_000) {
            said += u32::from(refusals.add(Refusal::NoDisk, now));
            tries += 1;
            let until = refusals.until(now).unwrap();
            assert!(refusals.hold(now));
            assert!(!refusals.hold(until));
            pauses.push(until.since(now));
            now = until;
        }
        assert_eq!(said, 1);
        assert!(tries < 25, "{tries}");
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses.last()), (FIRST, Some(&LONGEST)));
    }

    #[test]
    fn another_reason_is_said_again_and_so_is_one_that_comes_back() {
        let mut refusals = Refusals::default();
        assert!(refusals.add(Refusal::NoDisk, Moment(1)));
        assert!(refusals.add(Refusal::Diverged, Moment(2)));
        assert!(!refusals.add(Refusal::Diverged, Moment(3)));
        refusals.clear();
        assert!(!refusals.hold(Moment(3)));
        assert!(refusals.add(Refusal::Diverged, Moment(4)));
        assert!(refusals.hold(Moment(5)));
        refusals.retry();
        assert!(!refusals.hold(Moment(5)));
        assert!(!refusals.add(Refusal::Diverged, Moment(6)));
    }
}
