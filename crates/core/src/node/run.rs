//! The node's state machine: records the input, settles, plans.

use super::agreement::Agreement;
use super::fencing::Fences;
use super::lead::Lead;
use super::mirrors::Mirrors;
use super::peers::{News, Peers};
use super::work::Groups;
use super::{Action, Durable, Event, HostAction, Identity, Input, Level, What};
use crate::config::FinalAction;
use crate::document::{Document, Goal};
use crate::guard::{GuardEvent, Wanted};
use crate::ids::{GroupId, Incarnation, MemberId, ResourceId, Term, Version};
use crate::message::{Beat, Message};
use crate::report::Report;
use crate::time::{Moment, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Reports are repeated this often, whether or not they changed.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// One member's deciding half. See the module.
#[derive(Clone, Debug, Hash)]
pub struct Node {
    pub(super) id: Identity,
    pub(super) agreement: Agreement,
    pub(super) peers: Peers,
    pub(super) groups: Groups,
    pub(super) mirrors: Mirrors,
    pub(super) lead: Lead,
    pub(super) fences: Fences,
    pub(super) started: Moment,
    pub(super) lease_held: bool,
    /// The newest document this node has acted upon that is known to be committed.
    pub(super) acting: Option<Arc<Document>>,
    told_guard: Option<Wanted>,
    reported: Option<Report>,
    report_due: Moment,
    /// Decisions up to this version are in the event log.
    logged: Version,
    led: bool,
    /// Since when this node's own reports say that it could run the group.
    pub(super) fit_since: BTreeMap<GroupId, Moment>,
    /// Something came in that groups, guard or report may rest on.
    touched: bool,
    rested_on: RestsOn,
}

/// What the last look at groups, guard and report rested on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct RestsOn {
    kept: Version,
    acting: Option<Version>,
    committed: Version,
    term: Term,
    leads: bool,
}

impl Node {
    /// A member that starts now with what it kept on disk; `None`: it has not joined yet, and keeps
    /// quiet until a member gives it the document.
    #[must_use]
    pub fn restore(id: Identity, state: Option<Durable>, now: Now) -> Self {
        let at = now.moment();
        let state = state.unwrap_or_default();
        let logged = state
            .document
            .as_ref()
            .map_or(Version::ZERO, |document| document.version);
        Self {
            agreement: Agreement::restore(id.me, state, id.seed, at),
            peers: Peers::default(),
            groups: Groups::default(),
            mirrors: Mirrors::default(),
            lead: Lead::default(),
            fences: Fences::default(),
            started: at,
            lease_held: false,
            acting: None,
            told_guard: None,
            reported: None,
            report_due: at,
            logged,
            led: false,
            fit_since: BTreeMap::new(),
            touched: true,
            rested_on: RestsOn::default(),
            id,
        }
    }

    /// This run of the daemon.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.id.incarnation
    }

    /// The newest document this node has acted upon that is known to be committed.
    #[must_use]
    pub fn acting(&self) -> Option<&Arc<Document>> {
        self.acting.as_ref()
    }

    /// Is this member itself, or has been heard lately?
    #[must_use]
    pub fn hears(&self, member: MemberId) -> bool {
        member == self.id.me || self.peers.present(member)
    }

    /// Is anything decided now?
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.agreement.leader().is_some()
    }

    /// Takes in a fact and says what to do.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Action> {
        let at = now.moment();
        let mut actions = Vec::new();
        self.touched |= !matches!(
            input,
            Input::Tick
                | Input::Fact { .. }
                | Input::Guard(GuardEvent::Heard(_) | GuardEvent::VoterHeard { .. })
        );
        self.record(at, input, &mut actions);
        self.settle(at, &mut actions);
        self.lead.remember_answers(&actions);
        actions
    }

    /// When `step` must be called again at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let document = self.agreement.newest()?;
        let down = self.peers.next_down(document.config.timing.down());
        let planning = self.agreement.leads().then(|| self.lead.due());
        [
            self.agreement.deadline(),
            down,
            planning,
            self.groups.deadline(),
            self.fence_deadline(),
            Some(self.report_due),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn record(&mut self, now: Moment, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Message { from, message } => self.message(now, from, message, actions),
            Input::Guard(event) => self.guard_event(now, event, actions),
            Input::Persisted(id) => self.agreement.persisted(now, id, actions),
            Input::Done { id, result } => self.groups.done(now, id, result),
            Input::Fact {
                group,
                resource,
                fact,
            } => self.touched |= self.groups.fact(now, &group, &resource, fact),
            Input::Mirror {
                group,
                resource,
                report,
            } => {
                self.touched = true;
                self.mirrors.reported(group, resource, *report);
            }
            Input::Request {
                id,
                request,
                dry_run,
            } => {
                self.request(now, None, id, *request, dry_run, actions);
            }
            Input::Fenced { node, boot, result } => {
                let back = self.peers.boot(node).is_some_and(|heard| heard > boot);
                self.fences.done(now, node, boot, result, back);
            }
            Input::Tick => {}
        }
    }

    fn message(
        &mut self,
        now: Moment,
        from: MemberId,
        message: Message,
        actions: &mut Vec<Action>,
    ) {
        match message {
            Message::Report(report) => {
                if report.from == from && self.peers.reported(now, *report) {
                    self.lead.facts_changed();
                }
            }
            Message::Ask {
                id,
                request,
                dry_run,
            } => {
                self.request(now, Some(from), id, *request, dry_run, actions);
            }
            Message::Answer { id, outcome } => self.lead.answered(id, outcome, actions),
            other => self.agreement.receive(now, from, other, actions),
        }
    }

    fn guard_event(&mut self, now: Moment, event: GuardEvent, actions: &mut Vec<Action>) {
        match event {
            GuardEvent::Heard(beat) => self.heard(now, &beat, actions),
            GuardEvent::VoterHeard {
                voter,
                held,
                boot,
                sees,
            } => {
                self.peers.seen_by_voter(now, &sees);
                let witness = self
                    .agreement
                    .newest()
                    .is_some_and(|d| !d.config.nodes.contains_key(&voter));
                if witness && voter != self.id.me {
                    let news = self.peers.voter_heard(now, voter, boot);
                    self.news(voter, news, actions);
                    let committed = self.agreement.committed();
                    self.agreement.shown(voter, held, committed, actions);
                }
            }
            GuardEvent::Lease { held } => {
                if held != self.lease_held {
                    self.lease_held = held;
                    let (level, what) = if held {
                        (Level::Cleared, What::LeaseHeld)
                    } else {
                        (Level::Warning, What::LeaseLost)
                    };
                    actions.push(Event::of_node(level, self.id.me, what));
                }
            }
            GuardEvent::Permits(permits) => self.groups.permit(permits),
            GuardEvent::Leased { under, groups } => self.groups.lease(under, groups),
            GuardEvent::Cleared(version) => {
                self.lead.clear(now, version);
            }
            GuardEvent::VoterFellBehind { voter, held, floor } => {
                let detail = format!(
                    "it shows document {held} but was seen to keep {floor}: its state was wiped or restored; \
                     remove and enrol it anew"
                );
                actions.push(Event::of_node(
                    Level::Error,
                    voter,
                    What::VoterRefused { detail },
                ));
            }
        }
    }

    fn heard(&mut self, now: Moment, beat: &Beat, actions: &mut Vec<Action>) {
        let news = self.peers.heard(now, beat);
        self.news(beat.from, news, actions);
        if beat.leads && beat.deciding {
            self.agreement
                .hear_leader(now, beat.from, beat.term, actions);
        } else {
            self.agreement.adopt(beat.term, now, actions);
        }
        self.agreement.learn_committed(beat.committed);
        self.agreement
            .shown(beat.from, beat.held, beat.committed, actions);
    }

    fn news(&mut self, member: MemberId, news: News, actions: &mut Vec<Action>) {
        let what = match news {
            News::Nothing => return,
            News::Up => What::MemberUp,
            News::Rebooted => What::MemberRebooted,
        };
        self.lead.facts_changed();
        actions.push(Event::of_node(Level::Cleared, member, what));
    }

    fn settle(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.agreement.tick(now, actions);
        self.expire_requests(now, actions);
        let Some(document) = self.agreement.newest().cloned() else {
            return;
        };
        self.notice_silence(now, &document, actions);
        self.act_on_committed(actions);
        self.note_leadership(now, actions);
        self.fence(now, actions);
        if self.agreement.leads() {
            self.lead(now, actions);
        }
        // Most inputs are heartbeats that change nothing: groups, guard and report are looked at
        // when something they rest on has changed or is due.
        let rests_on = RestsOn {
            kept: self.agreement.kept_version(),
            acting: self.acting.as_ref().map(|acting| acting.version),
            committed: self.agreement.committed(),
            term: self.agreement.term(),
            leads: self.agreement.leads(),
        };
        let due = now >= self.report_due || self.groups.deadline().is_some_and(|due| now >= due);
        if !self.touched && !due && self.rested_on == rests_on {
            return;
        }
        if self.agreement.leads()
            && let Some(document) = self.agreement.kept()
        {
            self.lead.note_joint(now, document);
        }
        self.touched = false;
        let same = self.rested_on == rests_on;
        self.rested_on = rests_on;
        self.run_groups(now, actions);
        if !(same && self.guard_knows()) {
            self.tell_guard(actions);
        }
        self.tell_mirrors(actions);
        self.report(now, actions);
    }

    fn notice_silence(&mut self, now: Moment, document: &Document, actions: &mut Vec<Action>) {
        let timing = &document.config.timing;
        let left = |member| {
            document
                .members
                .get(&member)
                .is_some_and(|state| state.left)
        };
        for (member, silent) in self.peers.newly_down(now, timing.down(), left) {
            self.lead.facts_changed();
            let level = if left(member) {
                Level::Message
            } else {
                Level::Error
            };
            actions.push(Event::of_node(level, member, What::MemberDown { silent }));
        }
        self.peers.calm(now, document.config.flapping.window);
        if self.agreement.leads() && !self.sees_majority(document) {
            self.agreement.step_down(now);
        }
    }

    /// A leader that hears no majority cannot commit anything, and says so instead of waiting.
    fn sees_majority(&self, document: &Document) -> bool {
        let fresh = |member| {
            member == self.id.me || self.peers.present(member) || !self.peers.known(member)
        };
        document.voters.majority(fresh)
    }

    fn act_on_committed(&mut self, actions: &mut Vec<Action>) {
        if !self.agreement.settled() {
            return;
        }
        let Some(document) = self.agreement.kept().cloned() else {
            return;
        };
        if self
            .acting
            .as_ref()
            .is_some_and(|acting| acting.version == document.version)
        {
            return;
        }
        for decision in document
            .history
            .iter()
            .filter(|decision| decision.version > self.logged)
        {
            actions.push(Action::Event(Event {
                level: Level::of(&decision.reason),
                group: decision.group.clone(),
                node: decision.to,
                what: What::Decided {
                    from: decision.from,
                    to: decision.to,
                    reason: decision.reason.clone(),
                },
            }));
        }
        self.logged = self.logged.max(document.version);
        self.final_actions(&document, actions);
        self.retry_stops(&document);
        self.acting = Some(document);
        self.lead.facts_changed();
    }

    /// The operator has seen to what could not be stopped: it is tried again.
    fn retry_stops(&mut self, document: &Document) {
        let Some(before) = self.acting.clone() else {
            return;
        };
        for (group, placement) in &document.groups {
            let known = before.groups.get(group).map(|before| before.stop_retries);
            if known.is_some_and(|known| known < placement.stop_retries) {
                self.groups.clear(group);
                self.touched = true;
            }
        }
    }

    /// What the policy asks of this host once a group could run nowhere and failed here last.
    fn final_actions(&self, document: &Document, actions: &mut Vec<Action>) {
        let failed = |document: &Document, group: &GroupId| {
            document
                .groups
                .get(group)
                .is_some_and(|placement| placement.goal == Goal::Failed)
        };
        let Some(before) = self.acting.as_deref() else {
            return;
        };
        for (group, placement) in &document.groups {
            let last = placement
                .failed_on
                .iter()
                .max_by_key(|(_, failure)| failure.epoch);
            let here = last.is_some_and(|(&node, _)| node == self.id.me);
            if !here || !failed(document, group) || failed(before, group) {
                continue;
            }
            let policy = document
                .config
                .groups
                .get(group)
                .map(|config| config.final_action);
            match policy {
                Some(FinalAction::StopHotpair) => {
                    actions.push(Action::Host(HostAction::StopHotpair))
                }
                Some(FinalAction::Reboot) => actions.push(Action::Host(HostAction::Reboot)),
                Some(FinalAction::Nothing | FinalAction::StopGroup) | None => {}
            }
        }
    }

    fn note_leadership(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let leads = self.agreement.leads();
        if leads && !self.led {
            self.lead.begin(now);
            let term = self.agreement.term();
            actions.push(Event::of_node(
                Level::Message,
                self.id.me,
                What::Leads { term },
            ));
        }
        if !leads && self.led {
            self.lead.end(actions);
        }
        self.led = leads;
    }

    /// Is the rest of what the guard is told, beside what [`RestsOn`] names, as it was told last?
    fn guard_knows(&self) -> bool {
        self.told_guard.as_ref().is_some_and(|told| {
            told.floors == *self.agreement.floors()
                && told.longest_lease == self.agreement.longest_lease()
        })
    }

    fn tell_guard(&mut self, actions: &mut Vec<Action>) {
        let Some(document) = self.agreement.kept() else {
            return;
        };
        let me = self.id.me;
        let voters = document.voters.all();
        let nodes = document.config.nodes.keys().copied();
        // Only voters grant, so only they are asked; voters also hear of each other.
        let peers: BTreeSet<MemberId> = nodes
            .filter(|node| voters.contains(node))
            .chain(voters.iter().copied())
            .collect();
        let wanted = Wanted {
            peers: if document.config.nodes.contains_key(&me) {
                peers
            } else {
                BTreeSet::new()
            },
            holds: document.config.nodes.contains_key(&me),
            voters: document.voters.clone(),
            heartbeat: document.config.timing.heartbeat,
            lease: document.config.timing.lease,
            longest_lease: self.agreement.longest_lease(),
            held: document.version,
            shown: document.version,
            committed: self.agreement.committed(),
            term: self.agreement.term(),
            leads: self.agreement.leads(),
            floors: self.agreement.floors().clone(),
            groups: self.groups.holds(me, document, self.acting.as_deref()),
        };
        if self.told_guard.as_ref() != Some(&wanted) {
            self.told_guard = Some(wanted.clone());
            actions.push(Action::Guard(Box::new(wanted)));
        }
    }

    /// The newest document on disk.
    #[must_use]
    pub fn document(&self) -> Option<&Arc<Document>> {
        self.agreement.kept()
    }

    fn tell_mirrors(&mut self, actions: &mut Vec<Action>) {
        if let Some(document) = self.agreement.kept() {
            let groups = &self.groups;
            let acting = self.acting.as_deref();
            let given_up = |group: &GroupId| groups.has_given_up(group);
            self.mirrors
                .tell(self.id.me, document, acting, given_up, actions);
        }
    }

    /// A mirror process has connected: it is told everything.
    pub fn mirror_connected(
        &mut self,
        now: Now,
        group: &GroupId,
        resource: &ResourceId,
    ) -> Vec<Action> {
        self.mirrors.forget(group, resource);
        self.touched = true;
        self.step(now, Input::Tick)
    }

    /// A guard has connected: it is told everything, and answers with what it has permitted.
    pub fn guard_connected(&mut self, now: Now) -> Vec<Action> {
        self.told_guard = None;
        self.touched = true;
        self.step(now, Input::Tick)
    }

    /// The guard was started anew: it is told everything again, and what it had permitted is gone.
    pub fn guard_restarted(&mut self, now: Now) -> Vec<Action> {
        self.told_guard = None;
        self.touched = true;
        self.groups.permit(BTreeMap::new());
        self.groups.lease(Version::ZERO, BTreeSet::new());
        self.lease_held = false;
        self.step(now, Input::Tick)
    }

    fn run_groups(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(document) = self.agreement.kept().cloned() else {
            return;
        };
        self.groups
            .settle(now, self.id.me, &document, self.acting.as_deref(), actions);
    }

    fn report(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(document) = self.agreement.kept() else {
            return;
        };
        if !document.config.nodes.contains_key(&self.id.me) {
            self.report_due = now.plus(REPORT_EVERY);
            return;
        }
        let mut groups = self.groups.reports(
            self.id.me,
            document,
            self.acting.as_deref(),
            self.lease_held,
        );
        self.mirrors.report(&mut groups);
        let changed = self
            .reported
            .as_ref()
            .is_none_or(|last| last.groups != groups || last.version != document.version);
        if !changed && now < self.report_due {
            return;
        }
        let report = Report {
            from: self.id.me,
            boot: self.id.boot,
            incarnation: self.id.incarnation,
            number: self.reported.as_ref().map_or(1, |last| last.number + 1),
            version: document.version,
            groups,
        };
        let others = document
            .config
            .nodes
            .keys()
            .filter(|&&node| node != self.id.me);
        for &to in others.filter(|&&node| changed || document.voters.contains(node)) {
            actions.push(Action::Send {
                to,
                message: Message::Report(Box::new(report.clone())),
            });
        }
        self.report_events(&report, actions);
        if changed {
            self.lead.facts_changed();
        }
        self.fit_since
            .retain(|group, _| report.groups.get(group).is_some_and(|g| g.unfit.is_empty()));
        for (group, _) in report.groups.iter().filter(|(_, g)| g.unfit.is_empty()) {
            self.fit_since.entry(group.clone()).or_insert(now);
        }
        self.reported = Some(report);
        self.report_due = now.plus(REPORT_EVERY);
    }

    fn report_events(&self, report: &Report, actions: &mut Vec<Action>) {
        for (group, now) in &report.groups {
            let before = self
                .reported
                .as_ref()
                .and_then(|last| last.groups.get(group));
            if before.map(|before| &before.state) != Some(&now.state) {
                actions.push(Action::Event(Event::of_group(
                    group, self.id.me, &now.state,
                )));
            }
        }
    }

    pub(super) fn own_fitness(&self, now: Moment) -> BTreeMap<GroupId, Duration> {
        self.fit_since
            .iter()
            .map(|(group, &at)| (group.clone(), now.since(at)))
            .collect()
    }

    /// This node's own newest report.
    pub(super) fn own_report(&self) -> Option<&Report> {
        self.reported.as_ref()
    }
}
