//! Agreement on the document: Raft's election and commit rules, with whole documents for entries.
//!
//! ```text
//!            silence            pre-votes of a majority          votes of a majority
//!  Follower ---------> Asking ------------------------> Standing ------------------> Leading
//!     ^                   | a leader is heard               | higher term               |
//!     +-------------------+---------------------------------+---------------------------+
//! ```
//!
//! A new leader first commits the document under its own term (Ongaro's dissertation, 3.6.2, and
//! his correction of single-server changes, 2015). One document at most is under way. Answers that
//! rest on a write wait for it. There is no leader lease: services never depend on who leads.

use super::{Action, Durable, PersistId};
use crate::document::{Document, Voters};
use crate::fault::{Fault, planted};
use crate::ids::{MemberId, Term, Version};
use crate::message::Message;
use crate::time::Moment;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Least number of terms by which the operator's word goes ahead; chance adds as many at most.
const SEIZED: u64 = 1 << 40;

/// One member's part in the agreement.
#[derive(Clone, Debug, Hash)]
pub(super) struct Agreement {
    me: MemberId,
    state: Durable,
    /// The newest document known to be on disk.
    kept: Option<Arc<Document>>,
    /// As on disk: see [`Durable::longest_lease`].
    kept_longest_lease: Duration,
    /// Since when this member keeps a document with a shorter lease than its longest.
    shorter_since: Option<Moment>,
    committed: Version,
    role: Role,
    leader: Option<MemberId>,
    /// When the leader was last heard.
    leader_heard: Moment,
    election_due: Moment,
    last_write: PersistId,
    writes: VecDeque<Write>,
    random: u64,
}

#[derive(Clone, Debug, Hash)]
enum Role {
    Follower,
    Asking {
        granted: BTreeSet<MemberId>,
    },
    Standing {
        granted: BTreeSet<MemberId>,
    },
    Leading {
        accepted: BTreeMap<MemberId, Version>,
    },
}

/// A write under way, and what waits for it.
#[derive(Clone, Debug, Hash)]
struct Write {
    id: PersistId,
    document: Option<Arc<Document>>,
    longest_lease: Duration,
    then: Vec<(MemberId, Message)>,
}

impl Agreement {
    pub fn restore(me: MemberId, state: Durable, seed: u64, now: Moment) -> Self {
        let kept = state.document.clone();
        let mut agreement = Self {
            me,
            kept,
            kept_longest_lease: state.longest_lease,
            shorter_since: None,
            state,
            committed: Version::ZERO,
            role: Role::Follower,
            leader: None,
            leader_heard: now,
            election_due: now,
            last_write: PersistId(0),
            writes: VecDeque::new(),
            random: seed ^ (u64::from(me.0) << 32) | 1,
        };
        agreement.wait_for_leader(now);
        agreement
    }

    pub fn term(&self) -> Term {
        self.state.term
    }

    pub fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    pub fn committed(&self) -> Version {
        self.committed
    }

    /// The newest document, on disk or on its way there.
    pub fn newest(&self) -> Option<&Arc<Document>> {
        self.state.document.as_ref()
    }

    /// The newest document on disk.
    pub fn kept(&self) -> Option<&Arc<Document>> {
        self.kept.as_ref()
    }

    pub fn longest_lease(&self) -> Duration {
        self.kept_longest_lease
    }

    pub fn floors(&self) -> &BTreeMap<MemberId, Version> {
        &self.state.floors
    }

    /// The newest document is on disk and known to be committed: plans may rest on it.
    pub fn settled(&self) -> bool {
        let newest = self.version();
        newest != Version::ZERO && self.committed == newest && self.kept_version() == newest
    }

    pub fn version(&self) -> Version {
        self.state
            .document
            .as_ref()
            .map_or(Version::ZERO, |document| document.version)
    }

    pub fn kept_version(&self) -> Version {
        self.kept
            .as_ref()
            .map_or(Version::ZERO, |document| document.version)
    }

    pub fn deadline(&self) -> Option<Moment> {
        (!self.leads() && self.may_stand()).then_some(self.election_due)
    }

    fn voters(&self) -> Option<&Voters> {
        self.state
            .document
            .as_ref()
            .map(|document| &document.voters)
    }

    /// A node with a vote and a document it understands stands; a witness never does.
    fn may_stand(&self) -> bool {
        self.state.document.as_ref().is_some_and(|document| {
            document.voters.contains(self.me)
                && document.config.nodes.contains_key(&self.me)
                && document.format == crate::document::FORMAT
        })
    }

    /// A beat of the leader of this term, or a message of it, was heard.
    pub fn hear_leader(
        &mut self,
        now: Moment,
        from: MemberId,
        term: Term,
        actions: &mut Vec<Action>,
    ) {
        if term < self.state.term {
            return;
        }
        self.adopt(term, now, actions);
        if self.leads() {
            return;
        }
        self.role = Role::Follower;
        self.leader = Some(from);
        self.wait_for_leader(now);
    }

    /// A term seen with anybody: a newer one ends what is done in an older one.
    pub fn adopt(&mut self, term: Term, now: Moment, actions: &mut Vec<Action>) {
        if term <= self.state.term {
            return;
        }
        self.state.term = term;
        self.state.vote = None;
        self.step_down(now);
        self.write(Vec::new(), actions);
    }

    /// Somebody knows `version` to be committed; that never ceases to be true.
    pub fn learn_committed(&mut self, version: Version) {
        self.committed = self.committed.max(version);
    }

    /// Gives leadership up, because a newer term was seen or no majority is heard.
    pub fn step_down(&mut self, now: Moment) {
        self.role = Role::Follower;
        self.leader = None;
        self.wait_for_leader(now);
    }

    fn wait_for_leader(&mut self, now: Moment) {
        self.leader_heard = now;
        let Some(document) = &self.state.document else {
            return;
        };
        let timing = document.config.timing.clone();
        let rank = document
            .voters
            .now
            .iter()
            .position(|&voter| voter == self.me)
            .unwrap_or(0);
        let stagger = timing.heartbeat / 4 * u32::try_from(rank).unwrap_or(0);
        let jitter = timing.heartbeat / 8;
        self.election_due = now.plus(timing.down() + stagger + self.part_of(jitter));
    }

    /// A random part of `span`.
    fn part_of(&mut self, span: Duration) -> Duration {
        // xorshift64 (Marsaglia 2003); only spreads elections, nothing rests on its quality.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.random % micros)
    }

    pub fn tick(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.forget_longer_lease(now);
        if self.leads() || !self.may_stand() || now < self.election_due {
            return;
        }
        self.leader = None;
        let heartbeat = self
            .newest()
            .map_or(Duration::ZERO, |document| document.config.timing.heartbeat);
        let retry = heartbeat * 2 + self.part_of(heartbeat * 2);
        self.election_due = now.plus(retry);
        self.role = Role::Asking {
            granted: BTreeSet::from([self.me]),
        };
        let question = Message::PreVote {
            term: Term(self.state.term.0 + 1),
            version: self.version(),
        };
        self.send_to_voters(&question, actions);
        self.count_votes(actions);
    }

    fn send_to_voters(&self, message: &Message, actions: &mut Vec<Action>) {
        let voters = self.voters().map(Voters::all).unwrap_or_default();
        for to in voters.into_iter().filter(|&voter| voter != self.me) {
            actions.push(Action::Send {
                to,
                message: message.clone(),
            });
        }
    }

    fn count_votes(&mut self, actions: &mut Vec<Action>) {
        let (standing, granted) = match &self.role {
            Role::Asking { granted } => (false, granted.clone()),
            Role::Standing { granted } => (true, granted.clone()),
            Role::Follower | Role::Leading { .. } => return,
        };
        if !self
            .voters()
            .is_some_and(|voters| voters.majority(|voter| granted.contains(&voter)))
        {
            return;
        }
        // Who leads before that can crash, stand in the same term again, and give out one version twice.
        if standing && !granted.contains(&self.me) {
            return;
        }
        if standing {
            self.lead(actions);
        } else {
            self.stand(actions);
        }
    }

    fn stand(&mut self, actions: &mut Vec<Action>) {
        self.state.term = Term(self.state.term.0 + 1);
        self.state.vote = Some(self.me);
        self.role = Role::Standing {
            granted: BTreeSet::new(),
        };
        let question = Message::Vote {
            term: self.state.term,
            version: self.version(),
        };
        self.send_to_voters(&question, actions);
        // One's own vote counts when it is durable: the answer goes to oneself through the write.
        let own = Message::VoteReply {
            term: self.state.term,
            granted: true,
            held: self.version(),
        };
        self.write(vec![(self.me, own)], actions);
    }

    fn lead(&mut self, actions: &mut Vec<Action>) {
        self.role = Role::Leading {
            accepted: BTreeMap::new(),
        };
        self.leader = Some(self.me);
        let Some(document) = self.state.document.clone() else {
            return;
        };
        if planted(Fault::CommitEarlierTerm) {
            self.send_to_voters(&self.offer(&document), actions);
            let own = Message::Accepted {
                term: self.state.term,
                version: document.version,
            };
            self.write(vec![(self.me, own)], actions);
            return;
        }
        self.propose(Document::clone(&document), actions);
    }

    /// Leader: makes `document` the newest one, under the next version of this term.
    pub fn propose(&mut self, mut document: Document, actions: &mut Vec<Action>) {
        document.version = Version {
            term: self.state.term,
            index: self.version().index + 1,
        };
        let document = Arc::new(document);
        let mut members = document.config.members();
        members.extend(
            self.newest()
                .map(|old| old.config.members())
                .unwrap_or_default(),
        );
        self.take(Arc::clone(&document));
        for to in members.into_iter().filter(|&member| member != self.me) {
            actions.push(Action::Send {
                to,
                message: self.offer(&document),
            });
        }
        let own = Message::Accepted {
            term: self.state.term,
            version: document.version,
        };
        self.write(vec![(self.me, own)], actions);
    }

    fn offer(&self, document: &Arc<Document>) -> Message {
        Message::Offer {
            term: self.state.term,
            document: Arc::clone(document),
            committed: self.committed,
        }
    }

    /// The operator's word replaces the majority: this member alone votes from now on.
    ///
    /// No vote of others makes the term its own, and its own is not on disk yet when others are told: a
    /// power cut may have it forgotten. So the term is one that nobody comes to by counting, and far
    /// enough ahead that what others agreed on meanwhile does not win over it when they are back.
    pub fn seize(&mut self, mut document: Document, actions: &mut Vec<Action>) {
        let _ = self.part_of(Duration::from_secs(1));
        let jump = SEIZED + self.random % SEIZED;
        self.state.term = Term(self.state.term.0.saturating_add(jump));
        self.state.vote = Some(self.me);
        document.voters = Voters::new(BTreeSet::from([self.me]));
        self.role = Role::Leading {
            accepted: BTreeMap::new(),
        };
        self.leader = Some(self.me);
        self.propose(document, actions);
    }

    fn take(&mut self, document: Arc<Document>) {
        let lease = document.config.timing.lease;
        self.state.longest_lease = self.state.longest_lease.max(lease);
        let before = self.newest().map(|old| old.config.timing.lease);
        if before != Some(lease) {
            self.shorter_since = None;
        }
        self.state.document = Some(document);
    }

    /// Once a document with a shorter lease has been kept for twice the longest lease (promises are
    /// counted by the slower clock), no promise of that length can run any more.
    fn forget_longer_lease(&mut self, now: Moment) {
        let (Some(kept), Some(newest)) = (&self.kept, &self.state.document) else {
            return;
        };
        let lease = newest.config.timing.lease;
        let longest = self.state.longest_lease;
        if kept.config.timing.lease != lease || longest <= lease {
            return;
        }
        let since = *self.shorter_since.get_or_insert(now);
        if now.since(since) >= longest * 2 {
            self.state.longest_lease = lease;
        }
    }

    fn write(&mut self, then: Vec<(MemberId, Message)>, actions: &mut Vec<Action>) {
        self.last_write = PersistId(self.last_write.0 + 1);
        let mut then = then;
        if planted(Fault::AnswerBeforeDurable) {
            for (to, message) in then.extract_if(.., |(to, _)| *to != self.me) {
                actions.push(Action::Send { to, message });
            }
        }
        self.writes.push_back(Write {
            id: self.last_write,
            document: self.state.document.clone(),
            longest_lease: self.state.longest_lease,
            then,
        });
        actions.push(Action::Persist {
            id: self.last_write,
            state: Box::new(self.state.clone()),
        });
    }

    /// Answers now, or once the writes under way are done.
    fn answer_when_durable(&mut self, to: MemberId, message: Message, actions: &mut Vec<Action>) {
        match self.writes.back_mut() {
            Some(write) if !planted(Fault::AnswerBeforeDurable) => write.then.push((to, message)),
            _ => actions.push(Action::Send { to, message }),
        }
    }

    /// Every write up to `id` is on disk.
    pub fn persisted(&mut self, now: Moment, id: PersistId, actions: &mut Vec<Action>) {
        while self.writes.front().is_some_and(|write| write.id <= id) {
            let Some(write) = self.writes.pop_front() else {
                break;
            };
            self.kept = write.document;
            self.kept_longest_lease = write.longest_lease;
            for (to, message) in write.then {
                if to == self.me {
                    self.receive(now, self.me, message, actions);
                } else {
                    actions.push(Action::Send { to, message });
                }
            }
        }
    }

    /// Takes in a message of the agreement; others are left alone.
    pub fn receive(
        &mut self,
        now: Moment,
        from: MemberId,
        message: Message,
        actions: &mut Vec<Action>,
    ) {
        match message {
            Message::PreVote { term, version } => self.pre_vote(now, from, term, version, actions),
            Message::Vote { term, version } => self.vote(now, from, term, version, actions),
            Message::PreVoteReply { term, granted } => {
                self.adopt(term, now, actions);
                if let Role::Asking { granted: set } = &mut self.role
                    && granted
                {
                    set.insert(from);
                    self.count_votes(actions);
                }
            }
            Message::VoteReply {
                term,
                granted,
                held,
            } => {
                self.adopt(term, now, actions);
                let forgot = self
                    .state
                    .floors
                    .get(&from)
                    .is_some_and(|&floor| held < floor);
                // A late answer to what was asked before a crash took this node's newest document.
                let newer = held > self.version() && !planted(Fault::VoteForOlderDocument);
                if let Role::Standing { granted: set } = &mut self.role
                    && granted
                    && !forgot
                    && !newer
                    && term == self.state.term
                {
                    set.insert(from);
                    self.count_votes(actions);
                }
            }
            Message::Offer {
                term,
                document,
                committed,
            } => {
                self.offered(now, from, term, document, committed, actions);
            }
            Message::Accepted { term, version } => self.accepted(now, from, term, version, actions),
            Message::Committed { term, version } => {
                self.hear_leader(now, from, term, actions);
                self.committed = self.committed.max(version);
            }
            Message::Hand { document } => self.handed(document, actions),
            _ => {}
        }
    }

    fn pre_vote(
        &mut self,
        now: Moment,
        from: MemberId,
        term: Term,
        version: Version,
        actions: &mut Vec<Action>,
    ) {
        let down = self
            .newest()
            .map_or(Duration::ZERO, |document| document.config.timing.down());
        let leaderless = !self.leads() && now.since(self.leader_heard) >= down - down / 8;
        let recent = version >= self.version() || planted(Fault::VoteForOlderDocument);
        let granted = leaderless && term > self.state.term && recent;
        let reply = Message::PreVoteReply {
            term: self.state.term,
            granted,
        };
        actions.push(Action::Send {
            to: from,
            message: reply,
        });
    }

    fn vote(
        &mut self,
        now: Moment,
        from: MemberId,
        term: Term,
        version: Version,
        actions: &mut Vec<Action>,
    ) {
        self.adopt(term, now, actions);
        let free = self.state.vote.is_none_or(|vote| vote == from) || planted(Fault::VoteTwice);
        let recent = version >= self.version() || planted(Fault::VoteForOlderDocument);
        let granted = term == self.state.term && free && recent;
        if granted && self.state.vote != Some(from) {
            self.state.vote = Some(from);
            self.write(Vec::new(), actions);
        }
        let reply = Message::VoteReply {
            term: self.state.term,
            granted,
            held: self.version(),
        };
        self.answer_when_durable(from, reply, actions);
    }

    fn offered(
        &mut self,
        now: Moment,
        from: MemberId,
        term: Term,
        document: Arc<Document>,
        committed: Version,
        actions: &mut Vec<Action>,
    ) {
        if term < self.state.term && !planted(Fault::AcceptEarlierTerm) {
            return;
        }
        self.hear_leader(now, from, term, actions);
        self.committed = self.committed.max(committed);
        let version = document.version;
        if version > self.version() {
            self.take(document);
            self.write(Vec::new(), actions);
        }
        if version == self.version() {
            let reply = Message::Accepted { term, version };
            self.answer_when_durable(from, reply, actions);
        }
    }

    /// A document that another member keeps and this one lacks. Keeping it is always safe, since it
    /// only raises what this member asks of candidates; it counts as accepted by nobody.
    fn handed(&mut self, document: Arc<Document>, actions: &mut Vec<Action>) {
        if document.version > self.version() && document.version.term <= self.state.term {
            self.take(document);
            self.write(Vec::new(), actions);
        } else if document.version > self.version() {
            self.state.term = document.version.term;
            self.state.vote = None;
            self.role = Role::Follower;
            self.leader = None;
            self.take(document);
            self.write(Vec::new(), actions);
        }
    }

    fn accepted(
        &mut self,
        now: Moment,
        from: MemberId,
        term: Term,
        version: Version,
        actions: &mut Vec<Action>,
    ) {
        self.adopt(term, now, actions);
        let current = term == self.state.term;
        let Role::Leading { accepted } = &mut self.role else {
            return;
        };
        if !current {
            return;
        }
        let newest = accepted.entry(from).or_default();
        *newest = version.max(*newest);
        let floor = self.state.floors.entry(from).or_default();
        *floor = version.max(*floor);
        self.commit(actions);
    }

    fn commit(&mut self, actions: &mut Vec<Action>) {
        let Role::Leading { accepted } = &self.role else {
            return;
        };
        let Some(document) = self.state.document.clone() else {
            return;
        };
        let version = document.version;
        let own_term = version.term == self.state.term || planted(Fault::CommitEarlierTerm);
        let kept_by = |voter: MemberId| accepted.get(&voter).is_some_and(|&kept| kept >= version);
        if version <= self.committed || !own_term || !document.voters.majority(kept_by) {
            return;
        }
        self.committed = version;
        for to in document
            .config
            .members()
            .into_iter()
            .filter(|&member| member != self.me)
        {
            let message = Message::Committed {
                term: self.state.term,
                version,
            };
            actions.push(Action::Send { to, message });
        }
    }

    /// A member showed what it keeps: gives it what it lacks.
    pub fn shown(
        &mut self,
        from: MemberId,
        held: Version,
        committed: Version,
        actions: &mut Vec<Action>,
    ) {
        let Some(kept) = self.kept.clone() else {
            return;
        };
        if let Role::Leading { accepted } = &self.role {
            let newest = self.state.document.clone().unwrap_or(kept);
            let lacks =
                held < newest.version || accepted.get(&from).is_none_or(|&v| v < newest.version);
            if lacks {
                actions.push(Action::Send {
                    to: from,
                    message: self.offer(&newest),
                });
            } else if committed < self.committed {
                let message = Message::Committed {
                    term: self.state.term,
                    version: self.committed,
                };
                actions.push(Action::Send { to: from, message });
            }
        } else if held < kept.version {
            actions.push(Action::Send {
                to: from,
                message: Message::Hand { document: kept },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cluster, Timing};
    use std::collections::BTreeMap;

    fn document(index: u64, timing: Timing) -> Arc<Document> {
        let mut document = Document::first(Cluster {
            name: "pair".into(),
            id: crate::ids::ClusterId(1),
            timing,
            nodes: BTreeMap::new(),
            witness: None,
            without_witness: crate::config::WithoutWitness::Wait,
            links: Vec::new(),
            groups: BTreeMap::new(),
            fencing: Default::default(),
            flapping: crate::config::Flapping::default(),
        });
        document.version = Version::new(1, index);
        Arc::new(document)
    }

    /// Keeps `document` durably at `now`.
    fn keep(agreement: &mut Agreement, now: Moment, document: Arc<Document>) {
        let mut actions = Vec::new();
        agreement.handed(document, &mut actions);
        for action in actions {
            if let Action::Persist { id, .. } = action {
                agreement.persisted(now, id, &mut Vec::new());
            }
        }
    }

    #[test]
    fn longer_lease_of_an_earlier_document_is_forgotten_only_once_it_cannot_run() {
        let second = |s: u64| Moment(s * 1_000_000);
        let (wan, fast) = (Timing::wan(), Timing::fast());
        let mut agreement = Agreement::restore(MemberId(3), Durable::default(), 1, second(0));
        keep(&mut agreement, second(0), document(1, wan.clone()));
        keep(&mut agreement, second(1), document(2, fast.clone()));
        keep(&mut agreement, second(1), document(3, fast.clone()));
        agreement.tick(second(1), &mut Vec::new());
        agreement.tick(second(13), &mut Vec::new());
        keep(&mut agreement, second(13), document(4, fast.clone()));
        assert_eq!(agreement.longest_lease(), wan.lease);
        agreement.tick(second(14), &mut Vec::new());
        keep(&mut agreement, second(14), document(5, fast.clone()));
        assert_eq!(agreement.longest_lease(), fast.lease);
    }

    #[test]
    fn longest_lease_of_a_document_counts_once_it_is_durable() {
        let mut agreement =
            Agreement::restore(MemberId(3), Durable::default(), 1, Moment::default());
        let mut actions = Vec::new();
        agreement.handed(document(1, Timing::wan()), &mut actions);
        assert_eq!(agreement.longest_lease(), Duration::ZERO);
        agreement.persisted(Moment::default(), PersistId(1), &mut actions);
        assert_eq!(agreement.longest_lease(), Timing::wan().lease);
    }
}

#[cfg(test)]
mod votes {
    use super::*;
    use crate::config::{Cluster, Flapping, Node, Timing, WithoutWitness};
    use crate::ids::ClusterId;

    const ME: MemberId = MemberId(1);

    fn document() -> Document {
        let node = |number: u8| {
            let name = format!("node{number}");
            (
                MemberId(number),
                Node {
                    name,
                    description: String::new(),
                },
            )
        };
        Document::first(Cluster {
            name: "test".into(),
            id: ClusterId(1),
            timing: Timing::standard(),
            nodes: (1..=3).map(node).collect(),
            witness: None,
            without_witness: WithoutWitness::Wait,
            links: Vec::new(),
            groups: BTreeMap::new(),
            fencing: Default::default(),
            flapping: Flapping::default(),
        })
    }

    /// Stands for term 2, its own vote durable; member 2 was seen to keep version 1.1.
    fn candidate() -> Agreement {
        let mut candidate = standing();
        let written = candidate.last_write;
        candidate.persisted(Moment(10_000_000), written, &mut Vec::new());
        candidate
    }

    /// As [`candidate`], its own vote not durable yet.
    fn standing() -> Agreement {
        let state = Durable {
            term: Term(1),
            document: Some(Arc::new(document())),
            floors: BTreeMap::from([(MemberId(2), Version::new(1, 1))]),
            ..Durable::default()
        };
        let mut candidate = Agreement::restore(ME, state, 7, Moment(0));
        let late = Moment(10_000_000);
        let mut actions = Vec::new();
        candidate.tick(late, &mut actions);
        let yes = Message::PreVoteReply {
            term: Term(1),
            granted: true,
        };
        candidate.receive(late, MemberId(3), yes, &mut actions);
        candidate
    }

    fn vote(held: Version) -> Message {
        Message::VoteReply {
            term: Term(2),
            granted: true,
            held,
        }
    }

    #[test]
    fn vote_of_a_voter_that_forgot_its_document_is_not_counted() {
        let mut candidate = candidate();
        candidate.receive(Moment(0), MemberId(2), vote(Version::ZERO), &mut Vec::new());
        assert!(!candidate.leads());
    }

    #[test]
    fn votes_of_the_others_make_no_leader_before_ones_own_is_durable() {
        let mut candidate = standing();
        let now = Moment(10_000_000);
        for voter in [2, 3] {
            let yes = vote(candidate.version());
            candidate.receive(now, MemberId(voter), yes, &mut Vec::new());
        }
        assert!(!candidate.leads());
        let written = candidate.last_write;
        candidate.persisted(now, written, &mut Vec::new());
        assert!(candidate.leads());
    }

    #[test]
    fn vote_of_a_voter_with_a_newer_document_is_not_counted() {
        let mut candidate = candidate();
        let newer = Version::new(1, candidate.version().index + 1);
        candidate.receive(Moment(0), MemberId(2), vote(newer), &mut Vec::new());
        assert!(!candidate.leads());
    }

    #[test]
    fn votes_of_a_majority_make_a_leader() {
        let mut candidate = candidate();
        candidate.receive(
            Moment(0),
            MemberId(2),
            vote(Version::new(1, 1)),
            &mut Vec::new(),
        );
        assert!(candidate.leads());
    }
}
