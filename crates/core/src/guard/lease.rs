//! The holder's half: what the voters have granted, and what they have confirmed.

use crate::document::Voters;
use crate::fault::{Fault, planted};
use crate::ids::{MemberId, Version};
use crate::message::{Ack, Beat};
use crate::time::{Now, usable};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Beats remembered until they are answered; older ones count as lost.
const REMEMBERED: usize = 64;

/// Voters there can be while they change: five nodes at most in each set, and a witness in each.
const MOST_VOTERS: usize = 16;

/// What this node knows of its own lease.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lease {
    sent: VecDeque<Sent>,
    voters: BTreeMap<MemberId, VoterView>,
    /// A lease of voters that have been changed since; it rests on their promises until it ends.
    before_change: Option<Grant>,
    /// When a voter other than this node last answered.
    answered: Option<Now>,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Sent {
    seq: u64,
    at: Now,
    lease: Duration,
}

#[derive(Clone, Copy, Debug, Default, Hash)]
struct VoterView {
    /// Newest answered beat, whatever the answer.
    seq: u64,
    grant: Option<Grant>,
    held: Version,
    clear: Version,
}

/// It may be used for `length` from `from`, by the faster clock.
#[derive(Clone, Copy, Debug, Hash)]
struct Grant {
    from: Now,
    length: Duration,
}

impl Grant {
    fn left(&self, now: Now) -> Duration {
        self.length.saturating_sub(now.elapsed_fast(self.from))
    }
}

impl Lease {
    /// Remembers when `beat` was sent: a lease granted for it counts from there.
    pub fn sending(&mut self, now: Now, beat: &Beat) {
        self.sent.push_back(Sent {
            seq: beat.seq,
            at: now,
            lease: beat.lease,
        });
        while self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
    }

    /// Takes in a voter's answer. Answers to forgotten beats change nothing.
    pub fn answered(&mut self, now: Now, ack: &Ack, by_other: bool) {
        let Some(sent) = self
            .sent
            .iter()
            .find(|sent| sent.seq == ack.beat_seq)
            .copied()
        else {
            return;
        };
        if by_other {
            self.answered = Some(now);
        }
        let view = self.voters.entry(ack.from).or_default();
        if ack.granted {
            let from = if planted(Fault::LeaseFromReceipt) {
                now
            } else {
                sent.at
            };
            let whole = planted(Fault::NoDriftMargin);
            let length = if whole {
                sent.lease
            } else {
                usable(sent.lease)
            };
            let grant = Grant { from, length };
            if view
                .grant
                .is_none_or(|older| older.left(now) < grant.left(now))
            {
                view.grant = Some(grant);
            }
        }
        if ack.beat_seq >= view.seq {
            view.seq = ack.beat_seq;
            view.held = ack.held;
            view.clear = ack.clear;
        }
    }

    /// The voters change: what the old ones granted is used up, not thrown away. The promises it
    /// rests on hold back every start by a document with the new voters.
    pub fn voters_change(&mut self, now: Now, old: &Voters) {
        let left = self.left(now, old);
        self.before_change = (!left.is_zero()).then_some(Grant {
            from: now,
            length: left,
        });
    }

    /// How long the lease runs from now; zero: there is none.
    pub fn left(&self, now: Now, voters: &Voters) -> Duration {
        let before_change = self
            .before_change
            .map_or(Duration::ZERO, |grant| grant.left(now));
        // Asked at every step: counted once for each voter. Who has not answered has granted nothing.
        let mut granted = [(MemberId(0), Duration::ZERO); MOST_VOTERS];
        let mut count = 0;
        for (&voter, view) in &self.voters {
            let left = view.grant.map_or(Duration::ZERO, |grant| grant.left(now));
            if !left.is_zero() && voters.contains(voter) && count < MOST_VOTERS {
                granted[count] = (voter, left);
                count += 1;
            }
        }
        let granted = &granted[..count];
        let at_least = |voter, least| granted.iter().any(|&(v, left)| v == voter && left >= least);
        granted
            .iter()
            .filter(|&&(_, least)| majority(voters, |voter| at_least(voter, least)))
            .map(|&(_, left)| left)
            .fold(before_change, Duration::max)
    }

    /// Has a majority confirmed that nobody else may still run what `version` gives to this node?
    pub fn confirmed(&self, version: Version, voters: &Voters) -> bool {
        majority(voters, |voter| {
            self.voters.get(&voter).is_some_and(|view| {
                (view.held >= version || planted(Fault::CheckIgnoresHeld)) && view.clear >= version
            })
        })
    }

    /// Has another voter answered within `span`?
    pub fn answered_within(&self, now: Now, span: Duration) -> bool {
        self.answered.is_some_and(|at| now.elapsed_slow(at) <= span)
    }
}

fn majority(voters: &Voters, agreed: impl Fn(MemberId) -> bool) -> bool {
    if planted(Fault::HalfIsMajority) {
        let half =
            voters.now.iter().filter(|&&voter| agreed(voter)).count() * 2 >= voters.now.len();
        return half;
    }
    voters.majority(agreed)
}
