//! The state machine of one group: orders, facts and completions in, actions out.

use super::order::{Parts, may_start, may_stop};
use super::part::{Look, Part, Phase};
use super::restart::{GivenUp, Restarted};
use super::{ActionId, ActionIds, Orders, ResourceAction, ResourceFact, Want, Work};
use crate::config::OnStopFailure;
use crate::ids::{Epoch, GroupId, ResourceId};
use crate::operate::with_dependents;
use crate::time::Moment;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One group on this node.
///
/// Feed it facts and completions as they come, then call [`settle`](Self::settle). After a restart
/// of the daemon, feed [`ResourceFact::Adopted`] for everything that runs before the first
/// `settle`: what was not adopted is taken to be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupRun {
    pub(super) id: GroupId,
    /// Of the last orders acted on.
    pub(super) epoch: Epoch,
    pub(super) want: Want,
    pub(super) maintenance: bool,
    pub(super) parts: Parts,
    pub(super) given_up: Option<GivenUp>,
    /// Oldest first.
    pub(super) restarts: Vec<Restarted>,
    /// Names of the parts: `settle` goes through them while it changes parts.
    names: Arc<[ResourceId]>,
}

impl GroupRun {
    /// A group of which nothing runs here.
    #[must_use]
    pub fn new(id: GroupId) -> Self {
        Self {
            id,
            epoch: Epoch(0),
            want: Want::Stop,
            maintenance: false,
            parts: Parts::new(),
            given_up: None,
            restarts: Vec::new(),
            names: Arc::from([]),
        }
    }

    /// Brings the work under way in line with the orders: emits what is not under way yet. Calling
    /// it again without news emits nothing.
    pub fn settle(
        &mut self,
        now: Moment,
        orders: &Orders,
        ids: &mut ActionIds,
    ) -> Vec<ResourceAction> {
        self.take_orders(orders);
        self.take_config(now, orders);
        for part in self.parts.values_mut() {
            part.expire(now);
        }
        self.decide(now, orders.config.restart);
        if !self.names.iter().eq(self.parts.keys()) {
            self.names = self.parts.keys().cloned().collect();
        }
        let mut actions = Vec::new();
        for resource in self.names.clone().iter() {
            let Some(work) = self.next(now, resource, orders.config.on_stop_failure) else {
                continue;
            };
            let id = ids.take();
            if let Some(part) = self.parts.get_mut(resource) {
                match work {
                    Work::Start => part.starting(id, orders.epoch),
                    Work::Stop => part.stopping(id),
                    Work::Kill => part.killing(id),
                    Work::Check => part.check = Some(id),
                }
            }
            actions.push(ResourceAction {
                id,
                group: self.id.clone(),
                resource: resource.clone(),
                epoch: orders.epoch,
                work,
            });
        }
        actions
    }

    /// An action has ended. Ids that are not under way (overtaken by a kill, or never issued) are
    /// ignored.
    pub fn done(&mut self, now: Moment, id: ActionId, result: Result<(), String>) {
        for part in self.parts.values_mut() {
            if part.done(now, id, &result) {
                return;
            }
        }
    }

    /// Something was seen of a resource. False if it was known already: nothing follows from it then.
    pub fn fact(&mut self, now: Moment, resource: &ResourceId, fact: ResourceFact) -> bool {
        if self
            .parts
            .get(resource)
            .is_some_and(|part| part.knows(&fact))
        {
            return false;
        }
        if let ResourceFact::Adopted { epoch } = fact {
            self.epoch = self.epoch.max(epoch);
        }
        let part = self.parts.entry(resource.clone()).or_insert_with(Part::new);
        part.fact(now, self.epoch, fact);
        true
    }

    /// The operator has seen to it: what could not be stopped is tried again, and a failure is
    /// forgotten unless the group is asked to run (then only a new epoch starts it again).
    pub fn clear(&mut self) {
        for part in self.parts.values_mut() {
            part.retry_stop();
        }
        if self.want != Want::Run {
            self.given_up = None;
        }
    }

    /// It has failed in this epoch, beyond the restarts allowed.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// What happened here that has the resource stopped or started now; nothing if that is the cluster's
    /// decision about the group.
    #[must_use]
    pub fn cause(&self, resource: &ResourceId) -> Option<String> {
        if let Some(given_up) = &self.given_up {
            return Some(format!(
                "{} has failed: {}",
                given_up.resource, given_up.detail
            ));
        }
        let part = self.parts.get(resource)?;
        if !part.restarting {
            return None;
        }
        let failed = self.restarts.last().filter(|last| {
            let part = self.parts.get(&last.resource);
            part.is_some_and(|part| part.restarting)
        });
        Some(match failed {
            Some(last) => format!("{} is restarted: {}", last.resource, last.detail),
            None => part.detail.clone(),
        })
    }

    /// When `settle` must be called at the latest, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.parts
            .values()
            .filter_map(Part::deadline)
            .chain(self.restarts.first().map(|restart| restart.until))
            .min()
    }

    /// Is this resource stopped here, or about to be for good?
    #[must_use]
    pub fn is_stopped(&self, resource: &ResourceId) -> bool {
        self.parts.get(resource).is_none_or(|part| !part.is_up())
    }

    /// Shall its resources run, as far as it is up to the group?
    pub(super) fn shall_run(&self) -> bool {
        self.want == Want::Run && self.given_up.is_none()
    }

    fn take_orders(&mut self, orders: &Orders) {
        // The epoch may rise before the permit for it comes.
        if orders.epoch != self.epoch && self.given_up.is_some() {
            self.given_up = None;
            self.restarts.clear();
        }
        self.epoch = orders.epoch;
        self.want = orders.want;
        self.maintenance = orders.maintenance;
    }

    fn take_config(&mut self, now: Moment, orders: &Orders) {
        let known = &orders.config.resources;
        for id in known.keys() {
            if !self.parts.contains_key(id) {
                self.parts.insert(id.clone(), Part::new());
            }
        }
        self.parts
            .retain(|id, part| known.contains_key(id) || !part.is_stopped());
        let shall_run = self.shall_run();
        let stopped = match orders.stopped.is_empty() {
            true => BTreeSet::new(),
            false => with_dependents(orders.config, &orders.stopped),
        };
        for (id, part) in &mut self.parts {
            part.configured = known.contains_key(id);
            if let Some(resource) = known.get(id) {
                let requires = resource.requires.iter();
                let requires = requires.filter(|&id| known.contains_key(id));
                if !part.requires.iter().eq(requires.clone()) {
                    part.requires = requires.cloned().collect();
                }
                part.look = Look::of(resource);
                part.define(&resource.kind);
            }
            part.held_down = stopped.contains(id);
            let restart = part.shall_restart(orders.restarts.get(id).copied().unwrap_or_default());
            let maintained = orders.maintenance || orders.maintenance_resources.contains(id);
            if part.maintained && !maintained && shall_run && part.configured && !part.held_down {
                part.leave_maintenance(now);
            }
            part.maintained = maintained;
            if maintained || !shall_run || !part.configured || part.held_down {
                part.cycle = false;
                part.restarting = false;
            } else if !part.cycle && (part.outdated(orders.me) || restart) {
                part.cycle = true;
                part.restarting = true;
                part.detail = if restart {
                    "the operator has it started again".into()
                } else {
                    "its configuration has changed".into()
                };
            }
        }
    }

    /// The next piece of work for a resource, if any is due.
    fn next(&mut self, now: Moment, id: &ResourceId, policy: OnStopFailure) -> Option<Work> {
        let shall_run = self.shall_run();
        let part = self.parts.get_mut(id)?;
        if self.want == Want::Gone {
            return kills(&part.phase, now).then_some(Work::Kill);
        }
        let up = shall_run && part.configured && !part.cycle && !part.held_down;
        if part.takes_check(now) && (up || part.maintained) {
            return Some(Work::Check);
        }
        if let Phase::KillFailed { retry } = part.phase {
            return (now >= retry).then_some(Work::Kill);
        }
        let part = self.parts.get(id)?;
        if part.maintained {
            return None;
        }
        match &part.phase {
            Phase::Stopped => (up && may_start(&self.parts, part)).then_some(Work::Start),
            Phase::Confirming { .. } | Phase::Running => {
                (!up && may_stop(&self.parts, id)).then_some(Work::Stop)
            }
            Phase::Failed { .. } => may_stop(&self.parts, id).then_some(Work::Stop),
            Phase::StopFailed => (policy == OnStopFailure::Kill).then_some(Work::Kill),
            _ => None,
        }
    }
}

/// Must a resource that may not run any more be killed now?
fn kills(phase: &Phase, now: Moment) -> bool {
    match phase {
        Phase::Stopped | Phase::Killing { .. } => false,
        Phase::KillFailed { retry } => now >= *retry,
        _ => true,
    }
}
