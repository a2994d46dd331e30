//! The disk voter's state machine: rounds, and what is answered from a read.
//!
//! ```text
//!            first read        question         durable          read
//!  Finding ------------> Idle ---------> Writing ------> Reading ------> answers, Idle
//! ```

use super::{Asked, DiskAction, DiskInput, DiskTrouble, Slot};
use crate::document::Document;
use crate::fault::{Fault, planted};
use crate::guard::Promises;
use crate::ids::{HostBoot, MemberId, Term, Version};
use crate::message::{Ack, Beat, Message};
use crate::time::Now;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A disk has no boots: what it was told it keeps.
const BOOT: HostBoot = HostBoot(1);

/// One node's voice of the disk. See the module.
#[derive(Clone, Debug, Hash)]
pub struct DiskVoter {
    me: MemberId,
    disk: MemberId,
    boot: HostBoot,
    step: Step,
    /// What was last given to be written. `None` until the slot on the disk is known.
    own: Option<Slot>,
    /// When a lease as long as `longest` of the own slot was last asked for.
    longest_at: Now,
    /// Taken up in the next round, and in the one under way.
    waiting: Questions,
    asking: Questions,
    /// Slots of others as last read, and since when their heartbeats are what they are.
    seen: BTreeMap<MemberId, Seen>,
    /// Version in the own slot when they were last read.
    held_before: Version,
    promises: Promises,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    /// The first read: what the own slot holds is not known.
    Finding,
    Writing,
    Reading,
}

#[derive(Clone, Debug, Default, Hash)]
struct Questions {
    beat: Option<Beat>,
    /// A pre-vote, a vote or an offer: the newest replaces what was asked before.
    agree: Option<Message>,
    /// A document to keep that is offered by nobody.
    hand: Option<Arc<Document>>,
}

impl Questions {
    fn none(&self) -> bool {
        self.beat.is_none() && self.agree.is_none() && self.hand.is_none()
    }
}

#[derive(Clone, Debug, Hash)]
struct Seen {
    slot: Slot,
    beat_since: Now,
}

impl DiskVoter {
    /// The voice of `disk` on host `boot` of `me`, which starts now and knows nothing of the disk.
    #[must_use]
    pub fn new(me: MemberId, disk: MemberId, boot: HostBoot, now: Now) -> Self {
        Self {
            me,
            disk,
            boot,
            step: Step::Idle,
            own: None,
            longest_at: now,
            waiting: Questions::default(),
            asking: Questions::default(),
            seen: BTreeMap::new(),
            held_before: Version::ZERO,
            promises: Promises::default(),
        }
    }

    /// The member the disk is.
    #[must_use]
    pub fn disk(&self) -> MemberId {
        self.disk
    }

    /// Takes in a fact and says what to do.
    pub fn step(&mut self, now: Now, input: DiskInput) -> Vec<DiskAction> {
        let mut actions = Vec::new();
        match (input, self.step) {
            (DiskInput::Beat(beat), _) => self.waiting.beat = Some(*beat),
            (DiskInput::Message(message), _) => self.take_up(message),
            (DiskInput::Wrote, Step::Writing) if planted(Fault::DiskReadsFirst) => {
                self.answer(now, &mut actions);
                self.step = Step::Idle;
            }
            (DiskInput::Wrote, Step::Writing) => {
                self.step = Step::Reading;
                actions.push(DiskAction::Read);
            }
            (DiskInput::Read(slots), Step::Finding) => {
                self.step = Step::Idle;
                self.find(now, &slots, &mut actions);
            }
            (DiskInput::Read(slots), Step::Reading) if planted(Fault::DiskReadsFirst) => {
                self.remember(now, slots);
                self.write(now, &mut actions);
            }
            (DiskInput::Read(slots), Step::Reading) => {
                self.step = Step::Idle;
                self.read(now, slots, &mut actions);
            }
            (DiskInput::Failed, _) => {
                self.step = Step::Idle;
                // All is asked again; at once would be without end while the disk fails.
                self.asking = Questions::default();
                self.waiting = Questions::default();
            }
            // Of what is not under way.
            (DiskInput::Wrote | DiskInput::Read(_), _) => {}
        }
        if self.step == Step::Idle && !self.waiting.none() {
            self.begin(now, &mut actions);
        }
        actions
    }

    fn take_up(&mut self, message: Message) {
        match message {
            Message::PreVote { .. } | Message::Vote { .. } | Message::Offer { .. } => {
                self.waiting.agree = Some(message);
            }
            Message::Hand { document } => self.waiting.hand = Some(document),
            _ => {}
        }
    }

    fn begin(&mut self, now: Now, actions: &mut Vec<DiskAction>) {
        if self.own.is_none() {
            self.step = Step::Finding;
            actions.push(DiskAction::Read);
            return;
        }
        self.asking = std::mem::take(&mut self.waiting);
        if planted(Fault::DiskReadsFirst) {
            self.step = Step::Reading;
            actions.push(DiskAction::Read);
            return;
        }
        self.write(now, actions);
    }

    /// What an earlier run left in the own slot is never taken back.
    fn find(&mut self, now: Now, slots: &[Slot], actions: &mut Vec<DiskAction>) {
        let own = slots.iter().find(|slot| slot.member == self.me);
        let mut own = own.cloned().unwrap_or_else(|| Slot::blank(self.me));
        if own.beat.as_ref().is_some_and(|beat| beat.boot > self.boot) {
            self.waiting = Questions::default();
            actions.push(DiskAction::Trouble(DiskTrouble::Restored));
            return;
        }
        // The leases of an earlier boot have ended with it.
        own.asked = own.asked.filter(|asked| asked.boot == self.boot);
        self.longest_at = now;
        self.own = Some(own);
    }

    /// The own slot with what this round asks.
    fn write(&mut self, now: Now, actions: &mut Vec<DiskAction>) {
        let Some(own) = &mut self.own else { return };
        own.number += 1;
        if let Some(beat) = &self.asking.beat {
            if !beat.idle {
                let shorter = beat.lease < own.longest;
                let over = now.elapsed_slow(self.longest_at) >= own.longest * 2;
                if !shorter || over {
                    own.longest = beat.lease;
                    self.longest_at = now;
                }
                own.asked = Some(Asked {
                    boot: beat.boot,
                    run: beat.run,
                    seq: beat.seq,
                    shown: beat.shown,
                });
            } else if planted(Fault::DiskIdleHidesLease) {
                own.asked = None;
            }
            own.beat = Some(beat.clone());
        }
        let newer = |document: &Arc<Document>, own: &Slot| document.version > own.version();
        match &self.asking.agree {
            Some(Message::Vote { term, .. }) => own.claim = own.claim.max(*term),
            Some(Message::Offer { term, document, .. }) if *term >= own.claim => {
                own.claim = *term;
                if newer(document, own) {
                    own.document = Some(Arc::clone(document));
                }
            }
            _ => {}
        }
        if let Some(document) = &self.asking.hand
            && newer(document, own)
        {
            own.document = Some(Arc::clone(document));
        }
        self.step = Step::Writing;
        actions.push(DiskAction::Write(Box::new(own.clone())));
    }

    /// All slots, read after the own one was durable.
    fn read(&mut self, now: Now, slots: Vec<Slot>, actions: &mut Vec<DiskAction>) {
        if let Some(trouble) = self.trouble(&slots)
            && !planted(Fault::DiskTrustsOldSectors)
        {
            self.asking = Questions::default();
            actions.push(DiskAction::Trouble(trouble));
            return;
        }
        if planted(Fault::DiskKeepsOldRead) {
            self.answer(now, actions);
            self.remember(now, slots);
        } else {
            self.remember(now, slots);
            self.answer(now, actions);
        }
    }

    fn trouble(&self, slots: &[Slot]) -> Option<DiskTrouble> {
        let own = slots.iter().find(|slot| slot.member == self.me);
        if own != self.own.as_ref() {
            return Some(DiskTrouble::NotAsWritten);
        }
        let found = |member| slots.iter().find(|slot| slot.member == member);
        let went_back = |(&member, seen): (&MemberId, &Seen)| {
            let boot = |slot: &Slot| slot.asked.map(|asked| asked.boot);
            let kept = found(member).is_some_and(|slot| {
                slot.number >= seen.slot.number
                    && (slot.asked.is_none() || boot(slot) >= boot(&seen.slot))
            });
            (!kept).then_some(DiskTrouble::WentBack { member })
        };
        self.seen.iter().find_map(went_back)
    }

    /// Takes in the others' slots: who has asked for a lease anew is promised it from now, unless the
    /// disk cannot have granted it.
    fn remember(&mut self, now: Now, slots: Vec<Slot>) {
        let me = self.me;
        let held = if planted(Fault::DiskRefusesTooSoon) {
            self.held()
        } else {
            self.held_before
        };
        for slot in slots.into_iter().filter(|slot| slot.member != me) {
            let before = self.seen.get(&slot.member);
            if let Some(asked) = slot.asked
                && before.is_none_or(|seen| seen.slot.asked != Some(asked))
            {
                let refused = asked.shown < held;
                self.promises.read(now, &slot, asked, refused);
            }
            let same = before.filter(|seen| seen.slot.beat == slot.beat);
            let beat_since = same.map_or(now, |seen| seen.beat_since);
            self.seen.insert(slot.member, Seen { slot, beat_since });
        }
        self.held_before = self.held();
    }

    fn held(&self) -> Version {
        self.own.as_ref().map_or(Version::ZERO, Slot::version)
    }

    fn answer(&mut self, now: Now, actions: &mut Vec<DiskAction>) {
        let asking = std::mem::take(&mut self.asking);
        let Some(own) = self.own.clone() else { return };
        let others = self.seen.values().map(|seen| &seen.slot);
        let newest = others
            .chain([&own])
            .filter_map(|slot| slot.document.as_ref())
            .max_by_key(|document| document.version)
            .cloned();
        let newest_version = newest
            .as_ref()
            .map_or(Version::ZERO, |document| document.version);
        if let Some(beat) = asking.beat {
            let ack = self.ack(now, &beat, newest_version);
            actions.push(DiskAction::Ack(ack));
            if let Some(document) = newest
                && beat.held < document.version
            {
                actions.push(DiskAction::Say(Message::Hand { document }));
            }
        }
        if let Some(question) = asking.agree {
            let reply = self.agree(now, &own, newest_version, &question);
            actions.extend(reply.map(DiskAction::Say));
        }
    }

    fn ack(&mut self, now: Now, beat: &Beat, newest: Version) -> Ack {
        let held = self.held();
        let clear = if planted(Fault::DiskDoesNotWait) {
            held
        } else {
            self.promises.clear_for(now, held, self.me)
        };
        Ack {
            from: self.disk,
            boot: BOOT,
            to: self.me,
            beat_boot: beat.boot,
            beat_run: beat.run,
            beat_seq: beat.seq,
            granted: !beat.idle && (beat.shown >= newest || planted(Fault::GrantToOlderVersion)),
            held,
            clear,
            sees: self.promises.sees(now, self.disk, self.me),
        }
    }

    /// `newest`: the newest version on the disk.
    fn agree(&self, now: Now, own: &Slot, newest: Version, question: &Message) -> Option<Message> {
        let others = self.seen.values().map(|seen| seen.slot.claim);
        let rivals = others.max().unwrap_or(Term(0));
        let known = rivals.max(own.claim);
        match question {
            Message::PreVote { term, version } => Some(Message::PreVoteReply {
                term: known,
                granted: *term > rivals
                    && *term >= own.claim
                    && *version >= newest
                    && !self.led(now, own),
            }),
            Message::Vote { term, version } => Some(Message::VoteReply {
                term: known,
                granted: *term == own.claim && rivals < *term && *version >= newest,
                held: newest,
            }),
            Message::Offer { term, document, .. } => {
                let kept = own.claim == *term && own.version() == document.version;
                Some(if kept && rivals <= *term {
                    Message::Accepted {
                        term: *term,
                        version: document.version,
                    }
                } else {
                    Message::PreVoteReply {
                        term: known,
                        granted: false,
                    }
                })
            }
            _ => None,
        }
    }

    /// Another member shows that it leads, and has done so lately.
    fn led(&self, now: Now, own: &Slot) -> bool {
        let document = own.document.as_ref();
        let down = document.map_or(Duration::ZERO, |document| document.config.timing.down());
        let leads = |seen: &Seen| {
            let beat = seen.slot.beat.as_ref();
            beat.is_some_and(|beat| beat.leads && beat.deciding)
                && now.elapsed_slow(seen.beat_since) < down - down / 8
        };
        self.seen.values().any(leads)
    }
}
