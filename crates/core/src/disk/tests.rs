//! Two voters and a disk, in every order of their steps.

use super::{DiskAction, DiskInput, DiskTrouble, DiskVoter, Slot};
use crate::config::{Cluster, Flapping, Timing, WithoutWitness};
use crate::document::Document;
use crate::ids::{ClusterId, HostBoot, Incarnation, MemberId, Term, Version};
use crate::message::{Ack, Beat, Message};
use crate::time::Now;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const DISK: MemberId = MemberId(3);
const LEASE_MS: u64 = 10_000;
const BOOT: HostBoot = HostBoot(7 << 32);
const OLD: Version = Version::new(1, 1);
const NEW: Version = Version::new(2, 2);

/// Both nodes' voters, the disk, and what the disk has said to each.
struct Bench {
    now_ms: u64,
    voters: [DiskVoter; 2],
    slots: BTreeMap<MemberId, Slot>,
    todo: [Option<DiskAction>; 2],
    acks: [Option<Ack>; 2],
    said: [Vec<Message>; 2],
    trouble: [Option<DiskTrouble>; 2],
}

fn me(node: usize) -> MemberId {
    [MemberId(1), MemberId(2)][node]
}

fn document(version: Version) -> Arc<Document> {
    let mut document = Document::first(Cluster {
        name: "disk".into(),
        id: ClusterId(1),
        timing: Timing::wan(),
        nodes: BTreeMap::new(),
        witness: None,
        without_witness: WithoutWitness::Wait,
        links: Vec::new(),
        groups: BTreeMap::new(),
        fencing: Default::default(),
        flapping: Flapping::default(),
    });
    document.version = version;
    Arc::new(document)
}

fn beat(node: usize, seq: u64, shown: Version) -> Beat {
    Beat {
        from: me(node),
        boot: BOOT,
        run: Incarnation(1),
        seq,
        idle: false,
        deciding: true,
        shown,
        held: shown,
        committed: shown,
        lease: Duration::from_millis(LEASE_MS),
        term: Term(1),
        leads: false,
    }
}

fn offer(term: u64, version: Version) -> Message {
    Message::Offer {
        term: Term(term),
        document: document(version),
        committed: OLD,
    }
}

fn vote(term: u64, version: Version) -> Message {
    Message::Vote {
        term: Term(term),
        version,
    }
}

impl Bench {
    /// Both have found their slots, and keep document 1.1 there.
    fn new() -> Self {
        let voter = |node| DiskVoter::new(me(node), DISK, BOOT, Now::at(0));
        let mut bench = Self {
            now_ms: 0,
            voters: [voter(0), voter(1)],
            slots: BTreeMap::new(),
            todo: [None, None],
            acks: [None, None],
            said: [Vec::new(), Vec::new()],
            trouble: [None, None],
        };
        for node in [0, 1] {
            let document = document(OLD);
            bench.tell(node, DiskInput::Message(Message::Hand { document }));
            bench.finish(node);
        }
        bench
    }

    fn tell(&mut self, node: usize, input: DiskInput) {
        let now = Now::at(self.now_ms * 1_000);
        for action in self.voters[node].step(now, input) {
            match action {
                DiskAction::Write(_) | DiskAction::Read => {
                    assert!(self.todo[node].is_none(), "one thing at a time");
                    self.todo[node] = Some(action);
                }
                DiskAction::Ack(ack) => self.acks[node] = Some(ack),
                DiskAction::Say(message) => self.said[node].push(message),
                DiskAction::Trouble(trouble) => self.trouble[node] = Some(trouble),
            }
        }
    }

    fn beat(&mut self, node: usize, beat: Beat) {
        self.tell(node, DiskInput::Beat(Box::new(beat)));
    }

    /// What is under way ends.
    fn go(&mut self, node: usize) {
        match self.todo[node].take() {
            Some(DiskAction::Write(slot)) => {
                self.slots.insert(slot.member, *slot);
                self.tell(node, DiskInput::Wrote);
            }
            Some(DiskAction::Read) => {
                let slots = self.slots.values().cloned().collect();
                self.tell(node, DiskInput::Read(slots));
            }
            _ => {}
        }
    }

    fn finish(&mut self, node: usize) {
        while self.todo[node].is_some() {
            self.go(node);
        }
    }

    fn round(&mut self, node: usize, beat: Beat) -> Ack {
        self.acks[node] = None;
        self.beat(node, beat);
        self.finish(node);
        self.acks[node].clone().expect("an answer")
    }

    /// Plays the steps of a round each in every order.
    fn in_every_order(begin: impl Fn(&mut Self), look: impl Fn(&mut Self)) {
        for order in 0..16_u32 {
            let steps = [0, 1, 2, 3].map(|bit| usize::from(order >> bit & 1 == 1));
            if steps.iter().sum::<usize>() != 2 {
                continue;
            }
            let mut bench = Self::new();
            begin(&mut bench);
            for node in steps {
                bench.go(node);
            }
            assert!(bench.todo.iter().all(Option::is_none));
            look(&mut bench);
        }
    }

    fn granted_votes(&self) -> usize {
        let granted =
            |message: &&Message| matches!(message, Message::VoteReply { granted, .. } if *granted);
        self.said.iter().flatten().filter(granted).count()
    }

    fn accepted(&self, node: usize) -> bool {
        let accepted = |message: &Message| matches!(message, Message::Accepted { .. });
        self.said[node].iter().any(accepted)
    }
}

#[test]
fn candidate_gets_the_vote_and_its_document_is_accepted() {
    let mut bench = Bench::new();
    bench.tell(0, DiskInput::Message(vote(2, OLD)));
    bench.finish(0);
    assert_eq!(bench.granted_votes(), 1);
    bench.tell(0, DiskInput::Message(offer(2, NEW)));
    bench.finish(0);
    assert!(bench.accepted(0));
    assert_eq!(bench.round(0, beat(0, 1, NEW)).held, NEW);
}

#[test]
fn of_two_candidates_in_one_term_one_gets_the_disk_at_most() {
    Bench::in_every_order(
        |bench| {
            bench.tell(0, DiskInput::Message(vote(2, OLD)));
            bench.tell(1, DiskInput::Message(vote(2, OLD)));
        },
        |bench| assert!(bench.granted_votes() <= 1, "{:?}", bench.said),
    );
}

#[test]
fn offer_is_not_accepted_when_a_later_term_is_claimed() {
    Bench::in_every_order(
        |bench| {
            bench.tell(0, DiskInput::Message(offer(2, NEW)));
            bench.tell(1, DiskInput::Message(vote(3, OLD)));
        },
        |bench| {
            let both = bench.accepted(0) && bench.granted_votes() == 1;
            assert!(!both, "{:?}", bench.said);
        },
    );
}

#[test]
fn refusal_names_the_term_that_was_claimed() {
    let mut bench = Bench::new();
    bench.tell(1, DiskInput::Message(vote(9, OLD)));
    bench.finish(1);
    bench.tell(0, DiskInput::Message(offer(2, NEW)));
    bench.finish(0);
    let reply = Message::PreVoteReply {
        term: Term(9),
        granted: false,
    };
    assert_eq!(bench.said[0], [reply]);
}

#[test]
fn candidate_that_lacks_a_document_of_the_disk_is_refused_and_given_it() {
    let mut bench = Bench::new();
    bench.tell(0, DiskInput::Message(offer(2, NEW)));
    bench.finish(0);
    bench.tell(1, DiskInput::Message(vote(3, OLD)));
    bench.finish(1);
    assert_eq!(bench.granted_votes(), 0);
    bench.round(1, beat(1, 1, OLD));
    let document = document(NEW);
    assert!(bench.said[1].contains(&Message::Hand { document }));
}

#[test]
fn pre_vote_is_refused_while_another_member_leads() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, ms| {
        bench.now_ms = ms;
        bench.said[1].clear();
        let (term, version) = (Term(2), OLD);
        bench.tell(1, DiskInput::Message(Message::PreVote { term, version }));
        bench.finish(1);
        matches!(
            bench.said[1][..],
            [Message::PreVoteReply { granted: true, .. }]
        )
    };
    let leading = Beat {
        leads: true,
        ..beat(0, 1, OLD)
    };
    bench.round(0, leading);
    assert!(!ask(&mut bench, 0));
    let down = u64::try_from(Timing::wan().down().as_millis()).unwrap_or(0);
    assert!(!ask(&mut bench, down * 3 / 4));
    assert!(ask(&mut bench, down));
}

/// The new document takes the group from node 1, whose lease round runs at the same time.
#[test]
fn lease_under_the_old_document_is_waited_for_or_was_not_granted() {
    Bench::in_every_order(
        |bench| {
            bench.beat(0, beat(0, 1, OLD));
            let document = document(NEW);
            bench.tell(1, DiskInput::Message(Message::Hand { document }));
        },
        |bench| {
            let granted = bench.acks[0].as_ref().is_some_and(|ack| ack.granted);
            bench.now_ms = LEASE_MS - 1;
            let early = bench.round(1, beat(1, 1, NEW));
            assert!(!granted || early.clear < NEW);
            bench.now_ms = LEASE_MS;
            assert_eq!(bench.round(1, beat(1, 2, NEW)).clear, NEW);
        },
    );
}

#[test]
fn lease_under_the_new_document_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.tell(1, DiskInput::Message(offer(2, NEW)));
    bench.finish(1);
    assert!(bench.round(0, beat(0, 1, NEW)).granted);
    assert_eq!(bench.round(1, beat(1, 1, NEW)).clear, NEW);
}

#[test]
fn node_that_starts_anew_waits_for_what_stands_on_the_disk() {
    let mut bench = Bench::new();
    bench.round(0, beat(0, 1, OLD));
    bench.now_ms = 5_000;
    let now = Now::at(bench.now_ms * 1_000);
    bench.voters[1] = DiskVoter::new(me(1), DISK, BOOT, now);
    bench.tell(1, DiskInput::Message(offer(2, NEW)));
    bench.finish(1);
    bench.now_ms = LEASE_MS;
    assert!(bench.round(1, beat(1, 1, NEW)).clear < NEW);
    bench.now_ms = 5_000 + LEASE_MS;
    assert_eq!(bench.round(1, beat(1, 2, NEW)).clear, NEW);
}

#[test]
fn idle_beat_does_not_hide_that_a_lease_was_asked_for() {
    let mut bench = Bench::new();
    bench.round(1, beat(1, 1, OLD));
    assert!(bench.round(0, beat(0, 1, OLD)).granted);
    let idle = Beat {
        idle: true,
        ..beat(0, 2, OLD)
    };
    assert!(!bench.round(0, idle).granted);
    bench.tell(1, DiskInput::Message(offer(2, NEW)));
    bench.finish(1);
    assert!(bench.round(1, beat(1, 2, NEW)).clear < NEW);
}

#[test]
fn shorter_lease_does_not_hide_a_longer_one() {
    let mut bench = Bench::new();
    bench.round(0, beat(0, 1, OLD));
    let short = Beat {
        lease: Duration::from_millis(500),
        ..beat(0, 2, OLD)
    };
    bench.now_ms = 100;
    bench.round(0, short);
    bench.tell(1, DiskInput::Message(offer(2, NEW)));
    bench.finish(1);
    bench.now_ms = LEASE_MS;
    assert!(bench.round(1, beat(1, 1, NEW)).clear < NEW);
}

/// Its own disk hangs: it is given the new document and goes on showing the old one.
#[test]
fn lease_refused_by_the_disk_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.round(0, beat(0, 1, OLD));
    bench.tell(1, DiskInput::Message(offer(2, NEW)));
    bench.finish(1);
    for seq in 2..9 {
        bench.now_ms += LEASE_MS / 4;
        assert!(!bench.round(0, beat(0, seq, OLD)).granted);
        let clear = bench.round(1, beat(1, seq, NEW)).clear;
        assert_eq!(clear == NEW, bench.now_ms >= LEASE_MS, "{}", bench.now_ms);
    }
}

#[test]
fn lease_asked_for_while_the_new_document_was_written_is_waited_for() {
    let mut bench = Bench::new();
    bench.round(1, beat(1, 1, OLD));
    bench.now_ms = 3_000;
    bench.tell(1, DiskInput::Message(offer(2, NEW)));
    assert!(bench.round(0, beat(0, 1, OLD)).granted);
    bench.finish(1);
    bench.now_ms = 3_000 + LEASE_MS - 1;
    assert!(bench.round(1, beat(1, 2, NEW)).clear < NEW);
}

#[test]
fn new_boot_of_a_node_ends_what_it_was_promised() {
    let mut bench = Bench::new();
    bench.round(0, beat(0, 1, OLD));
    bench.tell(1, DiskInput::Message(offer(2, NEW)));
    bench.finish(1);
    let later = HostBoot(8 << 32);
    bench.voters[0] = DiskVoter::new(me(0), DISK, later, Now::at(0));
    let again = Beat {
        boot: later,
        ..beat(0, 1, NEW)
    };
    assert!(bench.round(0, again).granted);
    assert_eq!(bench.round(1, beat(1, 1, NEW)).clear, NEW);
}

#[test]
fn slot_that_went_back_is_not_believed() {
    let mut bench = Bench::new();
    bench.round(0, beat(0, 1, OLD));
    let old = bench.slots[&me(0)].clone();
    bench.round(0, beat(0, 2, OLD));
    bench.round(1, beat(1, 1, OLD));
    let newest = bench.slots.insert(me(0), old).expect("a slot");
    bench.acks[1] = None;
    bench.beat(1, beat(1, 2, OLD));
    bench.finish(1);
    let member = me(0);
    assert_eq!(bench.trouble[1], Some(DiskTrouble::WentBack { member }));
    assert_eq!(bench.acks[1], None);
    bench.slots.insert(me(0), newest);
    assert!(bench.round(1, beat(1, 3, OLD)).granted);
}

#[test]
fn own_slot_that_is_not_what_was_written_is_not_believed() {
    let mut bench = Bench::new();
    let old = bench.slots[&me(0)].clone();
    bench.beat(0, beat(0, 1, OLD));
    bench.go(0);
    bench.slots.insert(me(0), old);
    bench.go(0);
    assert_eq!(bench.trouble[0], Some(DiskTrouble::NotAsWritten));
    assert_eq!(bench.acks[0], None);
}

#[test]
fn voter_of_an_earlier_boot_than_its_slot_names_keeps_quiet() {
    let mut bench = Bench::new();
    bench.round(0, beat(0, 1, OLD));
    bench.voters[0] = DiskVoter::new(me(0), DISK, HostBoot(6 << 32), Now::at(0));
    bench.beat(0, beat(0, 1, OLD));
    bench.go(0);
    assert_eq!(bench.trouble[0], Some(DiskTrouble::Restored));
    assert!(bench.todo[0].is_none());
}

#[test]
fn failed_round_answers_nothing_and_the_next_one_goes_on() {
    let mut bench = Bench::new();
    bench.acks[0] = None;
    bench.beat(0, beat(0, 1, OLD));
    bench.beat(0, beat(0, 2, OLD));
    bench.todo[0] = None;
    bench.tell(0, DiskInput::Failed);
    assert!(bench.todo[0].is_none() && bench.acks[0].is_none());
    assert!(bench.round(0, beat(0, 3, OLD)).granted);
}

#[test]
fn claim_outlives_the_voter() {
    let mut bench = Bench::new();
    bench.tell(0, DiskInput::Message(vote(5, OLD)));
    bench.finish(0);
    bench.voters[0] = DiskVoter::new(me(0), DISK, BOOT, Now::at(0));
    bench.round(0, beat(0, 1, OLD));
    bench.tell(1, DiskInput::Message(vote(5, OLD)));
    bench.finish(1);
    assert_eq!(bench.granted_votes(), 1);
}

/// Would these tests notice? Each deliberate bug turns the test named beside it red.
#[cfg(feature = "planted-faults")]
#[test]
fn planted_faults_turn_a_test_red() {
    use crate::fault::{Fault, plant};
    let cases: [(Fault, fn()); 7] = [
        (
            Fault::DiskReadsFirst,
            of_two_candidates_in_one_term_one_gets_the_disk_at_most,
        ),
        (
            Fault::DiskKeepsOldRead,
            offer_is_not_accepted_when_a_later_term_is_claimed,
        ),
        (
            Fault::DiskDoesNotWait,
            lease_under_the_old_document_is_waited_for_or_was_not_granted,
        ),
        (
            Fault::DiskIdleHidesLease,
            idle_beat_does_not_hide_that_a_lease_was_asked_for,
        ),
        (
            Fault::DiskRefusesTooSoon,
            lease_asked_for_while_the_new_document_was_written_is_waited_for,
        ),
        (
            Fault::DiskTrustsOldSectors,
            slot_that_went_back_is_not_believed,
        ),
        (
            Fault::GrantToOlderVersion,
            lease_refused_by_the_disk_is_not_waited_for,
        ),
    ];
    for (fault, test) in cases {
        plant(Some(fault));
        let red = std::panic::catch_unwind(test).is_err();
        plant(None);
        assert!(red, "{fault:?}");
    }
}
