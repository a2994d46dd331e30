//! The guard's state machine.

use super::lease::Lease;
use super::promise::{Promises, Voter};
use super::{GuardAction, GuardEvent, GuardIdentity, GuardInput, Hold, Wanted};
use crate::fault::{Fault, planted};
use crate::ids::{Epoch, GroupId, MemberId, Version};
use crate::message::{Ack, Beat, Datagram};
use crate::time::{Moment, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Credit left when the daemon's connection closes: time for it to be started again.
pub const CREDIT_AFTER_EXIT: Duration = Duration::from_secs(2);

/// A daemon that ended more often than this within [`EXITS_WINDOW`] gets no more credit for it.
const EXITS_FORGIVEN: usize = 5;
const EXITS_WINDOW: Duration = Duration::from_secs(60);

/// Gates close so much before the lease ends: kernel timers run late (4 to 16 ms were measured).
pub const GATE_MARGIN: Duration = Duration::from_millis(10);

/// Heartbeats, promises, lease and permits of one member. See the module.
#[derive(Clone, Debug, Hash)]
pub struct Guard {
    id: GuardIdentity,
    wanted: Option<Wanted>,
    promises: Promises,
    lease: Lease,
    seq: u64,
    /// Answers to beats up to this one may be older than the floors.
    floors_seen_at: u64,
    next_beat: Moment,
    credit: Option<Credit>,
    /// When the daemon ended lately.
    exits: Vec<Now>,
    permits: BTreeMap<GroupId, Permit>,
    told: Told,
    /// Gates were opened up to here; opened again when the lease has grown.
    opened_until: Moment,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Credit {
    since: Now,
    length: Duration,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Permit {
    epoch: Epoch,
    /// The start check passed, but effects without a gate may last until then.
    from: Moment,
    gate: Gate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Gate {
    Closed,
    /// Open until the lease ends.
    Timed,
    /// Open until it is cut: the group is pinned.
    Lasting,
}

impl Permit {
    /// Needs no lease: it is pinned; or it was, and the daemon has just started and does not know yet
    /// what is committed (it may never learn that, if no majority is left).
    fn lasts(&self, hold: &Hold) -> bool {
        hold.pinned || hold.committed.is_none() && self.gate == Gate::Lasting
    }

    /// Its gate closes by itself when the lease ends, and is known to have to.
    fn leased(&self, hold: &Hold) -> bool {
        hold.committed.is_some() && !hold.pinned && self.gate == Gate::Timed
    }
}

/// What the daemon was last told, so that it hears of changes only.
#[derive(Clone, Debug, Default, Hash)]
struct Told {
    lease: bool,
    permits: BTreeMap<GroupId, Epoch>,
    leased: (Version, BTreeSet<GroupId>),
    cleared: Version,
    /// Since when a voter has shown an older document than its floor; `None` once it was told.
    fell_behind: BTreeMap<MemberId, Option<Now>>,
}

impl Guard {
    /// A guard that starts now. `saved`: the promises of this host boot; `None` if the host has
    /// just started (or lost them).
    #[must_use]
    pub fn restore(id: GuardIdentity, saved: Option<Promises>, now: Now) -> Self {
        let saved = saved.filter(|_| !planted(Fault::GuardForgetsPromises));
        let forgetful = planted(Fault::GuardForgetsPromises);
        Self {
            id,
            wanted: None,
            promises: match saved {
                Some(promises) => promises,
                None if forgetful => Promises::default(),
                None => Promises::forgotten(now),
            },
            lease: Lease::default(),
            seq: 0,
            floors_seen_at: 0,
            next_beat: now.moment(),
            credit: None,
            exits: Vec::new(),
            permits: BTreeMap::new(),
            told: Told::default(),
            opened_until: Moment(0),
        }
    }

    /// What must be kept under the host boot at [`GuardAction::SavePromises`].
    #[must_use]
    pub fn promises(&self) -> &Promises {
        &self.promises
    }

    /// Takes in a fact and says what to do, in order.
    pub fn step(&mut self, now: Now, input: GuardInput) -> Vec<GuardAction> {
        let mut actions = Vec::new();
        match input {
            GuardInput::Datagram(datagram) => match *datagram {
                Datagram::Beat(beat) => self.heard(now, beat, &mut actions),
                Datagram::Ack(ack) => self.acked(now, &ack, &mut actions),
            },
            GuardInput::Wanted(wanted) => self.want(now, *wanted, &mut actions),
            GuardInput::Credit => self.credit_for(now, self.lease_length()),
            GuardInput::DaemonGone => self.daemon_gone(now),
            GuardInput::Tick => {}
        }
        self.settle(now, &mut actions);
        actions
    }

    /// When `step` must be called again at the latest.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Moment> {
        let wanted = self.wanted.as_ref()?;
        let left = self.lease.left(now, &wanted.voters);
        let lease_end = (!left.is_zero()).then(|| now.moment().plus(left));
        let margins = self
            .permits
            .values()
            .filter(|permit| permit.gate == Gate::Closed)
            .map(|permit| permit.from);
        margins.chain(lease_end).chain([self.next_beat]).min()
    }

    /// The daemon has some time to come back, but one that ends again and again decides nothing.
    fn daemon_gone(&mut self, now: Now) {
        self.exits
            .retain(|&exit| now.elapsed_slow(exit) < EXITS_WINDOW);
        self.exits.push(now);
        if self.exits.len() <= EXITS_FORGIVEN {
            self.credit_for(now, CREDIT_AFTER_EXIT);
        }
    }

    /// How long the lease runs from now; zero: none.
    #[must_use]
    pub fn lease_left(&self, now: Now) -> Duration {
        self.wanted.as_ref().map_or(Duration::ZERO, |wanted| {
            self.lease.left(now, &wanted.voters)
        })
    }

    fn lease_length(&self) -> Duration {
        self.wanted
            .as_ref()
            .map_or(Duration::ZERO, |wanted| wanted.lease)
    }

    fn credit_for(&mut self, now: Now, length: Duration) {
        self.credit = Some(Credit { since: now, length });
    }

    fn deciding(&self, now: Now) -> bool {
        let credit = self
            .credit
            .is_some_and(|credit| now.elapsed_fast(credit.since) < credit.length);
        credit || planted(Fault::BeatWithoutCredit)
    }

    /// Renewals are asked for only by a node that decides and whose lease runs or that is answered:
    /// one that can send but not receive would otherwise keep itself and everybody else down.
    fn asks(&self, now: Now, wanted: &Wanted) -> bool {
        let alone = wanted.voters.iter().all(|voter| voter == self.id.me);
        let heard = alone
            || !self.lease.left(now, &wanted.voters).is_zero()
            || self.lease.answered_within(now, wanted.lease / 2)
            || planted(Fault::AskWithoutAnswers);
        wanted.holds && self.deciding(now) && heard
    }

    fn want(&mut self, now: Now, wanted: Wanted, actions: &mut Vec<GuardAction>) {
        let first = self.wanted.is_none();
        if let Some(old) = self.wanted.take() {
            if old.floors != wanted.floors {
                self.floors_seen_at = self.seq;
            }
            if old.voters != wanted.voters {
                self.lease.voters_change(now, &old.voters);
            }
            let told_by_beat = |w: &Wanted| (w.shown, w.held, w.committed, w.term, w.leads);
            if told_by_beat(&old) != told_by_beat(&wanted) {
                self.next_beat = now.moment();
            }
        }
        if !planted(Fault::ShowBeforeCut) {
            self.cut_what_is_not(&wanted, actions);
        }
        if first {
            self.credit_for(now, wanted.lease);
        }
        self.wanted = Some(wanted);
        // A daemon that has just started knows nothing of these.
        actions.push(GuardAction::Event(GuardEvent::Lease {
            held: self.told.lease,
        }));
        actions.push(GuardAction::Event(GuardEvent::Permits(
            self.told.permits.clone(),
        )));
        let (under, groups) = self.told.leased.clone();
        actions.push(GuardAction::Event(GuardEvent::Leased { under, groups }));
    }

    /// A permit is for one epoch of one group; what is not wanted any more is cut.
    fn cut_what_is_not(&mut self, wanted: &Wanted, actions: &mut Vec<GuardAction>) {
        let carried = planted(Fault::PermitAcrossEpochs);
        self.permits.retain(|group, permit| {
            let keep = wanted
                .groups
                .get(group)
                .is_some_and(|hold| hold.epoch == permit.epoch || carried);
            if !keep {
                actions.push(GuardAction::Cut {
                    group: group.clone(),
                });
            }
            keep
        });
    }

    fn heard(&mut self, now: Now, beat: Beat, actions: &mut Vec<GuardAction>) {
        if beat.from == self.id.me || !self.promises.is_news(&beat) {
            return;
        }
        if let Some(ack) = self.answer(now, &beat) {
            let to = beat.from;
            actions.push(GuardAction::SavePromises);
            actions.push(GuardAction::Send {
                to,
                datagram: Datagram::Ack(ack),
            });
        }
        actions.push(GuardAction::Event(GuardEvent::Heard(Box::new(beat))));
    }

    /// A member without a vote promises and confirms nothing, but says what it holds: a new voter
    /// whose document does not name it yet is brought up to date by that.
    fn answer(&mut self, now: Now, beat: &Beat) -> Option<Ack> {
        let wanted = self.wanted.as_ref()?;
        let voter = Voter {
            me: self.id.me,
            boot: self.id.boot,
            held: wanted.held,
            lease: wanted.lease,
            longest_lease: wanted.longest_lease,
        };
        if wanted.voters.contains(self.id.me) {
            return Some(self.promises.answer(now, voter, beat));
        }
        Some(self.promises.answer_without_vote(voter, beat))
    }

    fn acked(&mut self, now: Now, ack: &Ack, actions: &mut Vec<GuardAction>) {
        let Some(wanted) = &self.wanted else { return };
        let mine = (ack.beat_boot, ack.beat_run) == (self.id.boot, self.id.run);
        if ack.to != self.id.me || !(mine || planted(Fault::AckOfEarlierBoot)) {
            return;
        }
        let floor = wanted
            .floors
            .get(&ack.from)
            .copied()
            .unwrap_or(Version::ZERO);
        if ack.held < floor {
            // An answer that was overtaken by the voter's acceptance of a newer document is no news.
            if ack.beat_seq <= self.floors_seen_at {
                return;
            }
            // An acceptance may come before the heartbeat that shows it: only one that stays behind
            // has been wiped or restored.
            let patience = wanted.lease * 2;
            let since = self.told.fell_behind.entry(ack.from).or_insert(Some(now));
            if since.is_some_and(|since| now.elapsed_slow(since) >= patience) {
                *since = None;
                let event = GuardEvent::VoterFellBehind {
                    voter: ack.from,
                    held: ack.held,
                    floor,
                };
                actions.push(GuardAction::Event(event));
            }
            return;
        }
        self.told.fell_behind.remove(&ack.from);
        self.lease.answered(now, ack, ack.from != self.id.me);
        let event = GuardEvent::VoterHeard {
            voter: ack.from,
            held: ack.held,
            boot: ack.boot,
            sees: ack.sees.clone(),
        };
        actions.push(GuardAction::Event(event));
    }

    fn settle(&mut self, now: Now, actions: &mut Vec<GuardAction>) {
        let Some(wanted) = self.wanted.take() else {
            return;
        };
        if now.moment() >= self.next_beat {
            self.beat(now, &wanted, actions);
        }
        let left = self.lease.left(now, &wanted.voters);
        if left.is_zero() {
            self.end_lease(&wanted, actions);
        }
        self.check_starts(now, &wanted, left);
        self.open_gates(now, &wanted, left, actions);
        if planted(Fault::ShowBeforeCut) {
            self.cut_what_is_not(&wanted, actions);
        }
        self.tell(now, &wanted, left, actions);
        self.wanted = Some(wanted);
    }

    fn beat(&mut self, now: Now, wanted: &Wanted, actions: &mut Vec<GuardAction>) {
        let due = self.next_beat.plus(wanted.heartbeat);
        self.next_beat = due.max(now.moment().plus(wanted.heartbeat / 2));
        self.seq += 1;
        let beat = Beat {
            from: self.id.me,
            boot: self.id.boot,
            run: self.id.run,
            seq: self.seq,
            idle: !self.asks(now, wanted),
            deciding: self.deciding(now),
            shown: wanted.shown,
            held: wanted.held,
            committed: wanted.committed,
            lease: wanted.lease,
            term: wanted.term,
            leads: wanted.leads,
        };
        self.lease.sending(now, &beat);
        if wanted.voters.contains(self.id.me) {
            let voter = Voter {
                me: self.id.me,
                boot: self.id.boot,
                held: wanted.held,
                lease: wanted.lease,
                longest_lease: wanted.longest_lease,
            };
            let ack = self.promises.answer(now, voter, &beat);
            self.lease.answered(now, &ack, false);
            actions.push(GuardAction::SavePromises);
        }
        for &to in wanted.peers.iter().filter(|&&peer| peer != self.id.me) {
            actions.push(GuardAction::Send {
                to,
                datagram: Datagram::Beat(beat.clone()),
            });
        }
    }

    /// Without a lease only pinned groups go on.
    fn end_lease(&mut self, wanted: &Wanted, actions: &mut Vec<GuardAction>) {
        if planted(Fault::PermitOutlivesLease) {
            return;
        }
        self.permits.retain(|group, permit| {
            let hold = wanted.groups.get(group);
            let keep = hold.is_some_and(|hold| permit.lasts(hold));
            if !keep {
                actions.push(GuardAction::Cut {
                    group: group.clone(),
                });
            }
            keep
        });
    }

    fn check_starts(&mut self, now: Now, wanted: &Wanted, left: Duration) {
        for (group, hold) in &wanted.groups {
            if !self.permits.contains_key(group) && !left.is_zero() && self.may_start(hold, wanted)
            {
                let from = now.moment().plus(hold.margin);
                self.permits.insert(
                    group.clone(),
                    Permit {
                        epoch: hold.epoch,
                        from,
                        gate: Gate::Closed,
                    },
                );
                // The new gate is opened with the others below.
                self.opened_until = Moment(0);
            }
        }
    }

    fn may_start(&self, hold: &Hold, wanted: &Wanted) -> bool {
        let version = if planted(Fault::CheckUncommitted) {
            Some(wanted.held)
        } else {
            hold.committed
        };
        let confirmed = |version| self.lease.confirmed(version, &wanted.voters);
        version.is_some_and(|version| confirmed(version) || planted(Fault::StartWithoutCheck))
    }

    fn open_gates(
        &mut self,
        now: Now,
        wanted: &Wanted,
        left: Duration,
        actions: &mut Vec<GuardAction>,
    ) {
        let until = now.moment().plus(left);
        let grown = until.since(self.opened_until) >= Duration::from_millis(1);
        for (group, permit) in &mut self.permits {
            let hold = wanted.groups.get(group);
            let pinned = hold.is_some_and(|hold| permit.lasts(hold));
            let gate = if pinned { Gate::Lasting } else { Gate::Timed };
            let renew = permit.gate != gate || gate == Gate::Timed && grown;
            if now.moment() >= permit.from && renew {
                let until = (!pinned).then(|| left.saturating_sub(GATE_MARGIN));
                actions.push(GuardAction::Open {
                    group: group.clone(),
                    until,
                });
                permit.gate = gate;
            }
        }
        if grown {
            self.opened_until = until;
        }
    }

    fn tell(&mut self, now: Now, wanted: &Wanted, left: Duration, actions: &mut Vec<GuardAction>) {
        let held = !left.is_zero();
        if held != self.told.lease {
            self.told.lease = held;
            actions.push(GuardAction::Event(GuardEvent::Lease { held }));
        }
        let ready = self
            .permits
            .iter()
            .filter(|(_, permit)| now.moment() >= permit.from);
        let permits: BTreeMap<_, _> = ready
            .map(|(group, permit)| (group.clone(), permit.epoch))
            .collect();
        if permits != self.told.permits {
            self.told.permits.clone_from(&permits);
            actions.push(GuardAction::Event(GuardEvent::Permits(permits)));
        }
        self.tell_leased(wanted, actions);
        let cleared =
            wanted.shown > self.told.cleared && self.lease.confirmed(wanted.shown, &wanted.voters);
        if cleared {
            self.told.cleared = wanted.shown;
            actions.push(GuardAction::Event(GuardEvent::Cleared(wanted.shown)));
        }
    }

    fn tell_leased(&mut self, wanted: &Wanted, actions: &mut Vec<GuardAction>) {
        let leased = self.permits.iter().filter(|(group, permit)| {
            let hold = wanted.groups.get(*group);
            hold.is_some_and(|hold| permit.leased(hold))
        });
        let groups: BTreeSet<GroupId> = leased.map(|(group, _)| group.clone()).collect();
        let told = (wanted.committed, groups);
        if told != self.told.leased {
            self.told.leased.clone_from(&told);
            let (under, groups) = told;
            actions.push(GuardAction::Event(GuardEvent::Leased { under, groups }));
        }
    }
}
