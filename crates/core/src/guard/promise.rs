//! The voter's half: promises to other members, kept for as long as the host lives.
//!
//! A promise says: "until it ends I shall not confirm anybody's start of what your document gives
//! you". It is given to a member that shows the voter's own document or a newer one, counts by the
//! slower clock from its granting, and outlives the guard: the shell keeps [`Promises`] in /run
//! under the host's boot id. A host that restarted has forgotten them, so it confirms nothing for
//! the longest lease it may have promised.

use crate::disk::{Asked, Slot};
use crate::fault::{Fault, planted};
use crate::ids::{HostBoot, Incarnation, MemberId, Version};
use crate::message::{Ack, Beat, Seen};
use crate::time::Now;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Promises of one host boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Promises {
    made: BTreeMap<MemberId, Promise>,
    /// Newest beat answered, so that one overtaken on its way is not taken for a new one.
    answered: BTreeMap<MemberId, (HostBoot, Incarnation, u64)>,
    /// Since when nothing is confirmed; `None` once the silence has passed.
    silent_since: Option<Now>,
}

/// `version` was shown when it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
struct Promise {
    version: Version,
    granted: Now,
    length: Duration,
}

impl Promise {
    fn runs(&self, now: Now) -> bool {
        !self.left(now).is_zero()
    }

    fn left(&self, now: Now) -> Duration {
        self.length.saturating_sub(now.elapsed_slow(self.granted))
    }
}

/// What a voter says about itself in an answer.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Voter {
    pub me: MemberId,
    pub boot: HostBoot,
    pub held: Version,
    /// Length of a lease by the document it holds.
    pub lease: Duration,
    pub longest_lease: Duration,
}

impl Promises {
    /// Promises of a host that has just started: whatever was promised before is unknown.
    #[must_use]
    pub fn forgotten(now: Now) -> Self {
        let silent = !planted(Fault::NoSilenceAfterHostRestart);
        Self {
            silent_since: silent.then_some(now),
            ..Self::default()
        }
    }

    /// Is this beat newer than all answered ones of its sender? Remembers it if so.
    pub(super) fn is_news(&mut self, beat: &Beat) -> bool {
        let order = (beat.boot, beat.run, beat.seq);
        let newest = self.answered.entry(beat.from).or_default();
        if order <= *newest {
            return false;
        }
        if planted(Fault::RunTakenForBoot) && (newest.0, newest.1) != (beat.boot, beat.run) {
            self.made.remove(&beat.from);
        } else if newest.0 != beat.boot {
            // The earlier host boot has ended, and its leases with it: the host itself says so.
            self.made.remove(&beat.from);
        }
        *newest = order;
        true
    }

    /// Answers a fresh beat, promising the lease if it is asked for and may be granted.
    pub(super) fn answer(&mut self, now: Now, voter: Voter, beat: &Beat) -> Ack {
        let shows_enough = beat.shown >= voter.held || planted(Fault::GrantToOlderVersion);
        // Longer than this host would be silent after a restart is not promised: the asking member
        // has a newer document, which this voter gets in a moment or which comes to nothing.
        let short_enough = beat.lease <= voter.lease;
        let granted = !beat.idle && shows_enough && short_enough;
        if granted {
            self.promise(now, beat.from, beat.shown, beat.lease);
        }
        let clear = self.clear(now, voter, beat.from);
        let sees = self.sees(now, voter.me, beat.from);
        Ack {
            granted,
            clear,
            sees,
            ..self.answer_without_vote(voter, beat)
        }
    }

    /// A longer promise that still runs is not shortened: the holder may count on it.
    fn promise(&mut self, now: Now, to: MemberId, version: Version, length: Duration) {
        let mut promise = Promise {
            version,
            granted: now,
            length,
        };
        if let Some(longer) = self.made.get(&to)
            && longer.left(now) > length
        {
            promise = Promise { version, ..*longer };
        }
        self.made.insert(to, promise);
    }

    /// Takes in what another node has on a quorum disk: it may have been granted what it asked for,
    /// unless the disk `refused` it.
    pub(crate) fn read(&mut self, now: Now, slot: &Slot, asked: Asked, refused: bool) {
        let order = (asked.boot, asked.run, asked.seq);
        let before = self.answered.insert(slot.member, order);
        if before.is_some_and(|before| before.0 != asked.boot) {
            self.made.remove(&slot.member);
        }
        if !refused {
            self.promise(now, slot.member, asked.shown, slot.longest);
        }
    }

    /// No promise to a member other than `to` under an older version than this still runs: at most `held`.
    pub(crate) fn clear_for(&mut self, now: Now, held: Version, to: MemberId) -> Version {
        self.made.retain(|_, promise| promise.runs(now));
        let others = self.made.iter().filter(|(member, _)| **member != to);
        let oldest = others.map(|(_, promise)| promise.version).min();
        if planted(Fault::CheckIgnoresHeld) {
            return oldest.unwrap_or(Version::new(u64::MAX, 0));
        }
        oldest.map_or(held, |oldest| oldest.min(held))
    }

    /// Says what is held, and promises and confirms nothing.
    pub(super) fn answer_without_vote(&self, voter: Voter, beat: &Beat) -> Ack {
        Ack {
            from: voter.me,
            boot: voter.boot,
            to: beat.from,
            beat_boot: beat.boot,
            beat_run: beat.run,
            beat_seq: beat.seq,
            granted: false,
            held: voter.held,
            clear: Version::ZERO,
            sees: Vec::new(),
        }
    }

    /// Members other than the two that talk, to which a promise still runs.
    pub(crate) fn sees(&self, now: Now, me: MemberId, to: MemberId) -> Vec<Seen> {
        let running = self.made.iter().filter(|(_, promise)| promise.runs(now));
        let others = running.filter(|(member, _)| **member != me && **member != to);
        let seen = |(&member, promise): (&MemberId, &Promise)| {
            let boot = self.answered.get(&member)?.0;
            Some(Seen {
                member,
                boot,
                age: now.elapsed_slow(promise.granted),
            })
        };
        others.filter_map(seen).collect()
    }

    /// No promise to a member other than `to` under a version older than this still runs.
    fn clear(&mut self, now: Now, voter: Voter, to: MemberId) -> Version {
        if let Some(since) = self.silent_since {
            if now.elapsed_slow(since) < voter.longest_lease {
                return Version::ZERO;
            }
            self.silent_since = None;
        }
        self.clear_for(now, voter.held, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;

    const VOTER: Voter = Voter {
        me: MemberId(3),
        boot: HostBoot(1),
        held: Version::new(1, 1),
        lease: Duration::from_secs(10),
        longest_lease: Duration::ZERO,
    };

    fn beat(seq: u64, lease_ms: u64) -> Beat {
        Beat {
            from: MemberId(1),
            boot: HostBoot(1),
            run: Incarnation(1),
            seq,
            idle: false,
            deciding: true,
            shown: Version::new(1, seq),
            held: Version::new(1, seq),
            committed: Version::new(1, 1),
            lease: Duration::from_millis(lease_ms),
            term: Term(1),
            leads: false,
        }
    }

    #[test]
    fn longer_promise_outlives_a_shorter_one_given_after_it() {
        let mut promises = Promises::default();
        promises.answer(Now::at(0), VOTER, &beat(1, 6_000));
        promises.answer(Now::at(1_000), VOTER, &beat(2, 180));
        let later = Voter {
            held: Version::new(1, 3),
            ..VOTER
        };
        let clear = |promises: &mut Promises, ms: u64| {
            promises.clear(Now::at(ms * 1_000), later, MemberId(2))
        };
        assert_eq!(clear(&mut promises, 5_999), Version::new(1, 2));
        assert_eq!(clear(&mut promises, 6_000), Version::new(1, 3));
    }

    #[test]
    fn lease_longer_than_the_voters_own_document_says_is_refused() {
        let mut promises = Promises::default();
        let granted = |ms| promises.answer(Now::at(0), VOTER, &beat(ms, ms)).granted;
        assert_eq!([10_000, 10_001].map(granted), [true, false]);
    }

    #[test]
    fn member_without_a_vote_promises_and_confirms_nothing() {
        let promises = Promises::default();
        let ack = promises.answer_without_vote(VOTER, &beat(1, 600));
        assert!(!ack.granted);
        assert_eq!((ack.clear, ack.held), (Version::ZERO, VOTER.held));
    }
}
