//! What the leader does: plans, and carries out what operators ask for.

use super::Action;
use super::run::Node;
use crate::document::Document;
use crate::fault::{Fault, planted};
use crate::ids::{MemberId, Version};
use crate::message::Message;
use crate::operate;
use crate::plan::{Change, MemberView, Presence, View, plan};
use crate::request::{Outcome, Request};
use crate::time::{Moment, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A plan is made at least this often, for what depends on time alone.
const PLAN_EVERY: Duration = Duration::from_millis(250);
/// Requests kept while a document is under way; more are refused.
const WAITING: usize = 64;
/// A request passed on is repeated this often: the connection to a new leader may not be there yet.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// Requests of other members remembered, so that none is carried out twice.
const REMEMBERED: usize = 256;
/// A request that has not been decided by then is answered as undecided.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// State of the leader's work, and of requests on their way.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lead {
    dirty: bool,
    plan_due: Moment,
    /// The change of voters under way, as this leader knows it.
    joint: Option<Joint>,
    waiting: VecDeque<Waiting>,
    /// Answered once this version is committed.
    committing: Vec<(Version, Origin, String)>,
    /// Passed on to the leader, by the number it knows them by.
    passed_on: BTreeMap<u64, PassedOn>,
    next_number: u64,
    /// Requests of other members, newest last, with the answers given: they are asked again until
    /// they are answered, and must be carried out once.
    heard: VecDeque<(MemberId, u64, Option<Outcome>)>,
}

/// A joint change of the voters.
#[derive(Clone, Debug, Hash)]
struct Joint {
    next: BTreeSet<MemberId>,
    /// A document with both sets; so are all newer ones until the change is finished.
    since: Version,
    /// When majorities of both sets first confirmed `since` or a newer one: see
    /// [`crate::guard::GuardEvent::Cleared`]. From then on no old voter grants under an older one.
    cleared_at: Option<Moment>,
}

/// A request on its way to the leader.
#[derive(Clone, Debug, Hash)]
struct PassedOn {
    /// Number the asking operator knows it by.
    id: u64,
    leader: MemberId,
    request: Request,
    dry_run: bool,
    until: Moment,
    again: Moment,
}

#[derive(Clone, Debug, Hash)]
struct Waiting {
    origin: Origin,
    request: Request,
    dry_run: bool,
    until: Moment,
}

/// Who asked, and the number they know it by.
#[derive(Clone, Copy, Debug, Hash)]
struct Origin {
    member: Option<MemberId>,
    id: u64,
}

impl Origin {
    fn answer(self, outcome: Outcome) -> Action {
        match self.member {
            Some(to) => Action::Send {
                to,
                message: Message::Answer {
                    id: self.id,
                    outcome,
                },
            },
            None => Action::Answer {
                id: self.id,
                outcome,
            },
        }
    }

    fn undecided(self, text: &str) -> Action {
        self.answer(Outcome::Undecided(text.to_owned()))
    }

    fn refuse(self, text: &str) -> Action {
        self.answer(Outcome::Refused(text.to_owned()))
    }
}

impl Lead {
    pub fn facts_changed(&mut self) {
        self.dirty = true;
    }

    pub fn due(&self) -> Moment {
        self.plan_due
    }

    pub fn begin(&mut self, now: Moment) {
        self.plan_due = now;
        self.dirty = true;
        self.joint = None;
    }

    /// Notes a joint change when its first document is kept, before any voter can confirm that.
    pub fn note_joint(&mut self, now: Moment, document: &Document) {
        match (&document.voters.next, &self.joint) {
            (None, _) => self.joint = None,
            (Some(next), Some(joint)) if joint.next == *next => {}
            (Some(next), _) => {
                self.joint = Some(Joint {
                    next: next.clone(),
                    since: document.version,
                    cleared_at: planted(Fault::ClearedBeforeJoint).then_some(now),
                });
            }
        }
    }

    /// A majority has confirmed `version`, of both sets if it is joint.
    pub fn clear(&mut self, now: Moment, version: Version) {
        if let Some(joint) = &mut self.joint
            && version >= joint.since
        {
            joint.cleared_at.get_or_insert(now);
        }
        self.dirty = true;
    }

    /// When no lease of the voters before the joint change can run any more, the longest being `span`.
    fn clear_from(&self, span: Duration) -> Option<Moment> {
        let at = self.joint.as_ref()?.cleared_at?;
        let margin = if planted(Fault::ClearedBeforeJoint) {
            Duration::ZERO
        } else {
            span
        };
        Some(at.plus(margin))
    }

    /// Leadership is lost: what was not committed may or may not come to be.
    pub fn end(&mut self, actions: &mut Vec<Action>) {
        let undecided = self.committing.drain(..).map(|(_, origin, _)| origin);
        let waiting = self.waiting.drain(..).map(|waiting| waiting.origin);
        for origin in undecided.chain(waiting) {
            actions.push(origin.undecided("another node has become leader meanwhile: look at `hotpair status` and ask again if needed",
            ));
        }
    }

    /// The leader's answer to a request this member passed on.
    pub fn answered(&mut self, number: u64, outcome: Outcome, actions: &mut Vec<Action>) {
        if let Some(passed) = self.passed_on.remove(&number) {
            actions.push(Action::Answer {
                id: passed.id,
                outcome,
            });
        }
    }

    /// Asks again, or gives up: nothing more is known when the leader changes or does not answer.
    pub fn pursue(&mut self, now: Moment, leader: Option<MemberId>, actions: &mut Vec<Action>) {
        let lost = self.passed_on.extract_if(.., |_, passed| {
            now >= passed.until || leader.is_some_and(|leader| leader != passed.leader)
        });
        for (_, passed) in lost {
            let text = "the leader did not answer: look at `hotpair status` before asking again";
            actions.push(Action::Answer {
                id: passed.id,
                outcome: Outcome::Undecided(text.into()),
            });
        }
        for (&number, passed) in &mut self.passed_on {
            if now >= passed.again {
                passed.again = now.plus(ASK_EVERY);
                actions.push(passed.ask(number));
            }
        }
    }

    /// Is it a request that was heard before? An answer that was given is given again.
    fn heard_before(&mut self, from: MemberId, id: u64, actions: &mut Vec<Action>) -> bool {
        let before = self
            .heard
            .iter()
            .find(|(member, number, _)| (*member, *number) == (from, id));
        if let Some((_, _, answer)) = before {
            actions.extend(answer.clone().map(|outcome| Action::Send {
                to: from,
                message: Message::Answer { id, outcome },
            }));
            return true;
        }
        self.heard.push_back((from, id, None));
        if self.heard.len() > REMEMBERED {
            self.heard.pop_front();
        }
        false
    }

    /// Remembers the answers among `actions`.
    pub fn remember_answers(&mut self, actions: &[Action]) {
        for action in actions {
            let Action::Send {
                to,
                message: Message::Answer { id, outcome },
            } = action
            else {
                continue;
            };
            let asked = self
                .heard
                .iter_mut()
                .find(|(member, number, _)| (member, number) == (to, id));
            if let Some((_, _, answer)) = asked {
                *answer = Some(outcome.clone());
            }
        }
    }
}

impl PassedOn {
    fn ask(&self, number: u64) -> Action {
        Action::Send {
            to: self.leader,
            message: Message::Ask {
                id: number,
                request: Box::new(self.request.clone()),
                dry_run: self.dry_run,
            },
        }
    }
}

impl Node {
    pub(super) fn request(
        &mut self,
        now: Moment,
        from: Option<MemberId>,
        id: u64,
        request: Request,
        dry_run: bool,
        actions: &mut Vec<Action>,
    ) {
        let origin = Origin { member: from, id };
        if let Some(from) = from
            && self.lead.heard_before(from, id, actions)
        {
            return;
        }
        if self.agreement.leads() {
            if self.lead.waiting.len() >= WAITING {
                actions.push(origin.refuse("too many requests are waiting: try again in a moment"));
                return;
            }
            let until = now.plus(REQUEST_LIMIT);
            self.lead.waiting.push_back(Waiting {
                origin,
                request,
                dry_run,
                until,
            });
        } else if let (Some(leader), None) = (self.agreement.leader(), from) {
            // Numbers must not be used again by a later run of this daemon.
            let number = self
                .id
                .incarnation
                .0
                .wrapping_mul(1 << 16)
                .wrapping_add(self.lead.next_number);
            self.lead.next_number += 1;
            let passed = PassedOn {
                id,
                leader,
                request,
                dry_run,
                until: now.plus(REQUEST_LIMIT),
                again: now.plus(ASK_EVERY),
            };
            actions.push(passed.ask(number));
            self.lead.passed_on.insert(number, passed);
        } else if let (
            Request::NodeIsDown { node }
            | Request::NodeFenced {
                node,
                result: Ok(()),
                ..
            },
            None,
        ) = (&request, from)
        {
            self.seize(now, origin, *node, &request, dry_run, actions);
        } else if let (Request::FormAlone { node }, None) = (&request, from) {
            self.form_alone(now, origin, *node, dry_run, actions);
        } else {
            actions.push(origin.undecided("there is no leader now, so nothing can be decided: a majority of the voters must see each other. \
                 `hotpair status` shows which are missing; if the other node is surely powered off, say so with \
                 `hotpair node down NODE`",
            ));
        }
    }

    /// The word of the operator or of a fence device that the only other voter is off, when no majority is
    /// left to decide: this node goes on alone. Refused wherever a majority could still exist without this node.
    fn seize(
        &mut self,
        now: Moment,
        origin: Origin,
        node: MemberId,
        word: &Request,
        dry_run: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(document) = self.agreement.kept().cloned() else {
            actions.push(
                origin.refuse("this node has not joined a cluster yet: run `hotpair join` first"),
            );
            return;
        };
        let voters = document.voters.all();
        let pair = voters.len() == 2 && voters.contains(&self.id.me) && voters.contains(&node);
        if !pair || node == self.id.me {
            actions.push(origin.refuse(
                "a majority could exist without this node, so one word is not enough: bring another voter back",
            ));
            return;
        }
        if self.peers.present(node) {
            actions.push(origin.refuse("it is heard of right now, so it is not down"));
            return;
        }
        let name = document.config.name_of(node);
        if dry_run {
            let text = format!("this node would go on alone, and take over what {name} ran");
            actions.push(origin.answer(Outcome::Done(text)));
            return;
        }
        let mut alone = Document::clone(&document);
        let view = self.view(now, &document);
        match operate::apply(&view, word) {
            Ok(operation) => operation.apply(&mut alone),
            Err(refusal) => {
                actions.push(origin.refuse(&refusal));
                return;
            }
        }
        self.agreement.seize(alone, actions);
        let version = self.agreement.version();
        let text = format!("this node goes on alone; what {name} ran is taken over");
        self.lead.committing.push((version, origin, text));
    }

    /// The operator's word that all other members are off, after a full outage from which they
    /// cannot come back soon: this node goes on alone, with the document it keeps. What they agreed on
    /// without it is lost.
    fn form_alone(
        &mut self,
        now: Moment,
        origin: Origin,
        node: MemberId,
        dry_run: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(document) = self.agreement.kept().cloned() else {
            actions.push(
                origin.refuse("this node has not joined a cluster yet: run `hotpair join` first"),
            );
            return;
        };
        if let Err(refusal) = self.may_form_alone(now, &document, node) {
            actions.push(origin.refuse(&refusal));
            return;
        }
        let others: Vec<MemberId> = document.config.members().into_iter().collect();
        let others = others.into_iter().filter(|&other| other != self.id.me);
        let names: Vec<String> = others
            .clone()
            .map(|other| document.config.name_of(other))
            .collect();
        let names = names.join(", ");
        if dry_run {
            let text = format!("this node would go on alone, as if {names} were gone for good");
            actions.push(origin.answer(Outcome::Done(text)));
            return;
        }
        let mut alone = Document::clone(&document);
        let view = self.view(now, &document);
        for node in others {
            if let Ok(operation) = operate::apply(&view, &Request::NodeIsDown { node }) {
                operation.apply(&mut alone);
            }
        }
        self.agreement.seize(alone, actions);
        let version = self.agreement.version();
        let text = format!(
            "this node goes on alone; {names} take over its document when they are back, and vote again"
        );
        self.lead.committing.push((version, origin, text));
    }

    fn may_form_alone(
        &self,
        now: Moment,
        document: &Document,
        node: MemberId,
    ) -> Result<(), String> {
        if node != self.id.me || !document.config.nodes.contains_key(&node) {
            return Err("only a node can go on alone, and only it itself can be asked to".into());
        }
        if document.format != crate::document::FORMAT {
            return Err(
                "the document it keeps has another format: use the version of hotpair that wrote it"
                    .into(),
            );
        }
        let members = document.config.members();
        let heard = members
            .iter()
            .find(|&&other| other != node && self.peers.present(other));
        if let Some(&other) = heard {
            return Err(format!(
                "{} is heard, so it is not off: a majority can come about by itself",
                document.config.name_of(other)
            ));
        }
        if now.since(self.started) < document.config.timing.down() * 2 {
            return Err(
                "this node has just started and may hear others in a moment: try again".into(),
            );
        }
        Ok(())
    }

    pub(super) fn lead(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.answer_committed(actions);
        if !self.agreement.settled() {
            self.lead.plan_due = now.plus(PLAN_EVERY);
            return;
        }
        if now >= self.lead.plan_due {
            self.lead.dirty = true;
        }
        let Some(document) = self.agreement.kept().cloned() else {
            return;
        };
        if self.carry_out(now, &document, actions) {
            return;
        }
        if self.lead.dirty {
            self.lead.dirty = false;
            self.lead.plan_due = now.plus(PLAN_EVERY);
            self.plan(now, &document, actions);
        }
    }

    fn answer_committed(&mut self, actions: &mut Vec<Action>) {
        let committed = self.agreement.committed();
        for (_, origin, text) in self
            .lead
            .committing
            .extract_if(.., |(version, ..)| *version <= committed)
        {
            actions.push(origin.answer(Outcome::Done(text)));
        }
    }

    /// Carries out waiting requests up to the first that changes the document.
    fn carry_out(
        &mut self,
        now: Moment,
        document: &Arc<Document>,
        actions: &mut Vec<Action>,
    ) -> bool {
        while let Some(waiting) = self.lead.waiting.pop_front() {
            if now >= waiting.until {
                actions.push(
                    waiting
                        .origin
                        .undecided("it could not be decided within 10 s: try again"),
                );
                continue;
            }
            let view = self.view(now, document);
            let operation = match operate::apply(&view, &waiting.request) {
                Ok(operation) => operation,
                Err(refusal) => {
                    actions.push(waiting.origin.refuse(&refusal));
                    continue;
                }
            };
            if let Request::GroupClear { group, .. } = &waiting.request {
                self.groups.clear(group);
            }
            let next = changed(document, &operation.changes);
            if waiting.dry_run || next == **document {
                actions.push(waiting.origin.answer(Outcome::Done(operation.text)));
                continue;
            }
            self.agreement.propose(next, actions);
            let version = self.agreement.version();
            self.lead
                .committing
                .push((version, waiting.origin, operation.text));
            return true;
        }
        false
    }

    fn plan(&mut self, now: Moment, document: &Arc<Document>, actions: &mut Vec<Action>) {
        let view = self.view(now, document);
        let mut changes = plan(&view).changes;
        // A joint change may be finished only when no lease of the voters before it still runs. From
        // the confirmation on they grant none; but one granted just before is used up by a holder
        // that has changed to the joint voters meanwhile, and no voter after the change knows of it.
        let clear_from = self.lead.clear_from(self.agreement.longest_lease());
        let cleared =
            clear_from.is_some_and(|from| now >= from) || planted(Fault::FinishVotersUnchecked);
        if let Some(from) = clear_from.filter(|&from| from > now) {
            self.lead.plan_due = self.lead.plan_due.min(from);
        }
        changes.retain(|change| !matches!(change, Change::FinishVoters) || cleared);
        if planted(Fault::SingleStepVoters) {
            single_step(document, &mut changes);
        }
        if changes.is_empty() {
            return;
        }
        let next = changed(document, &changes);
        if next != **document {
            self.agreement.propose(next, actions);
        }
    }

    /// What this member knows now, for the planner.
    pub(super) fn view<'a>(&self, now: Moment, document: &'a Document) -> View<'a> {
        let others = document
            .config
            .members()
            .into_iter()
            .filter(|&member| member != self.id.me);
        let mut members: BTreeMap<_, _> = others
            .map(|member| (member, self.peers.view(now, member, document)))
            .collect();
        let own = MemberView {
            presence: Presence::Online { boot: self.id.boot },
            report: self.own_report().cloned(),
            online_for: now.since(self.started),
            fit_for: self.own_fitness(now),
            failures: 0,
        };
        members.insert(self.id.me, own);
        View {
            document,
            members,
            deciding_for: now.since(self.started),
        }
    }

    /// What would be decided about every group now; for `status`, `explain` and `simulate`.
    #[must_use]
    pub fn outlook(&self, now: Now) -> Option<crate::plan::Plan> {
        let document = self.agreement.kept()?;
        Some(plan(&self.view(now.moment(), document)))
    }

    /// Calls `look` with the planner's view of this member.
    pub fn with_view<T>(&self, now: Now, look: impl FnOnce(&View<'_>) -> T) -> Option<T> {
        let document = self.agreement.kept()?;
        Some(look(&self.view(now.moment(), document)))
    }

    pub(super) fn expire_requests(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let leader = self.agreement.leader();
        self.lead.pursue(now, leader, actions);
    }
}

fn changed(document: &Document, changes: &[Change]) -> Document {
    let mut next = document.clone();
    for change in changes {
        change.apply(&mut next);
    }
    next
}

fn single_step(document: &Document, changes: &mut Vec<Change>) {
    let wants = document.config.voters();
    if wants != document.voters.now {
        changes.push(Change::StartVoters { next: wants });
        changes.push(Change::FinishVoters);
    }
}
