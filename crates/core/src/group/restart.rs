//! What the failure of a resource leads to: a restart in place, or the end of the group here.

use super::order::{dependents, requirements};
use super::part::Phase;
use super::run::GroupRun;
use crate::config::Restart;
use crate::ids::ResourceId;
use crate::time::Moment;
use std::collections::BTreeSet;

/// Why the group was given up on this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GivenUp {
    pub resource: ResourceId,
    pub detail: String,
    pub while_starting: bool,
}

/// A restart in place within the window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Restarted {
    pub at: Moment,
    /// When it no longer counts.
    pub until: Moment,
    pub resource: ResourceId,
    pub detail: String,
}

impl GroupRun {
    /// Decides about every failure that has not been decided about.
    pub(super) fn decide(&mut self, now: Moment, limit: Restart) {
        for restart in &mut self.restarts {
            restart.until = restart.at.plus(limit.window);
        }
        self.restarts.retain(|restart| now < restart.until);
        self.spread();
        while self.shall_run()
            && let Some(id) = self.broken()
        {
            self.decide_one(now, limit, id);
        }
    }

    /// A failed resource that nothing has been decided about; one that others require goes first,
    /// as theirs is likely its failure.
    fn broken(&self) -> Option<ResourceId> {
        let is_broken = |id: &ResourceId| {
            self.parts.get(id).is_some_and(|part| {
                matches!(part.phase, Phase::Failed { .. })
                    && part.configured
                    && !part.held_down
                    && !part.maintained
                    && !part.cycle
            })
        };
        let mut broken = self.parts.keys().filter(|id| is_broken(id)).peekable();
        let first = broken.peek().copied();
        broken
            .find(|id| !requirements(&self.parts, id).iter().any(is_broken))
            .or(first)
            .cloned()
    }

    fn decide_one(&mut self, now: Moment, limit: Restart, id: ResourceId) {
        let Some(part) = self.parts.get(&id) else {
            return;
        };
        let while_starting = part.phase
            == Phase::Failed {
                while_starting: true,
            };
        let mut detail = part.detail.clone();
        let verdict = self.problems();
        if !verdict.is_empty() {
            detail = format!("{detail} ({})", verdict.join(", "));
        }
        let tries = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        if while_starting || !verdict.is_empty() || tries >= limit.max {
            self.given_up = Some(GivenUp {
                resource: id,
                detail,
                while_starting,
            });
            return;
        }
        self.restarts.push(Restarted {
            at: now,
            until: now.plus(limit.window),
            resource: id.clone(),
            detail,
        });
        if let Some(part) = self.parts.get_mut(&id) {
            part.cycle = true;
            part.restarting = true;
        }
        self.spread();
    }

    /// Takes down what depends on a resource that is about to be stopped for a restart. Looked at
    /// each time, since a dependent may have been in maintenance when the restart was decided.
    pub(super) fn spread(&mut self) {
        let cycles: Vec<_> = self.parts.iter().filter(|(_, part)| part.cycle).collect();
        let round: BTreeSet<_> = cycles
            .into_iter()
            .flat_map(|(id, _)| dependents(&self.parts, id))
            .collect();
        for id in round {
            if let Some(part) = self.parts.get_mut(&id)
                && part.is_up()
                && !part.maintained
                && !part.held_down
            {
                part.cycle = true;
                part.restarting = true;
            }
        }
    }

    /// The verdicts of all resources that may run, each with the name of its resource.
    pub(super) fn problems(&self) -> Vec<String> {
        self.parts
            .iter()
            .filter(|(_, part)| part.configured && !part.held_down)
            .flat_map(|(id, part)| part.problems.iter().map(move |p| format!("{id}: {p}")))
            .collect()
    }
}
