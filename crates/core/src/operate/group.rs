//! Requests about one group.

use super::{Accepted, Desk, order, with_dependents};
use crate::document::{Failure, Goal};
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::plan::{Change, Fitness, Obstacle};
use crate::report::GroupState;

impl Desk<'_> {
    pub(super) fn start(&self, group: &GroupId, on: Option<MemberId>) -> Result<Accepted, String> {
        self.known_group(group)?;
        if let Some(node) = on {
            self.listed(group, node)?;
        }
        self.not_in_maintenance(group)?;
        let placement = self.draft.placement(group);
        match placement.holder {
            None => self.start_released(group, on),
            Some(holder) if placement.moving.is_some() => Err(format!(
                "{group} is still being stopped on {}; try again when it is stopped",
                self.name(holder)
            )),
            Some(holder) => self.start_held(group, holder, on),
        }
    }

    fn start_released(&self, group: &GroupId, on: Option<MemberId>) -> Result<Accepted, String> {
        let to = match on {
            Some(node) => node,
            None => self.best_to_start(group)?,
        };
        self.may_start(group, to)?;
        if let Some(wait_for) = self.draft.held_back(group, to) {
            return Err(format!(
                "{group} cannot be started yet: {}",
                wait_for.text(&self.document.config)
            ));
        }
        let name = self.name(to);
        let mut changes = self.forget(group, to);
        if self.draft.placement(group).goal != Goal::Run {
            changes.push(Change::SetGoal {
                group: group.clone(),
                goal: Goal::Run,
                reason: Self::by_operator("group start"),
            });
        }
        changes.push(
            self.draft
                .giving(group, to, Self::by_operator("group start")),
        );
        let start = order::list(&self.starts(group));
        Ok(Accepted::new(
            changes,
            format!(
                "{group} will be started on {name}: start {start}{}",
                self.left_stopped(group)
            ),
        ))
    }

    /// What a start of the group starts, in order.
    fn starts(&self, group: &GroupId) -> Vec<ResourceId> {
        let config = &self.document.config.groups[group];
        let stopped = with_dependents(config, &self.draft.placement(group).stopped_resources);
        let mut order = order::start_order(config);
        order.retain(|id| !stopped.contains(id));
        order
    }

    /// What it does not start, and why.
    fn left_stopped(&self, group: &GroupId) -> String {
        let placement = self.draft.placement(group);
        if placement.stopped_resources.is_empty() {
            return String::new();
        }
        let stopped: Vec<ResourceId> = placement.stopped_resources.iter().cloned().collect();
        format!(
            "; stopped by the operator and left so: {}",
            order::list(&stopped)
        )
    }

    /// There is a holder that runs it, or failed to.
    fn start_held(
        &self,
        group: &GroupId,
        holder: MemberId,
        on: Option<MemberId>,
    ) -> Result<Accepted, String> {
        let name = self.name(holder);
        let idle = self.draft.online(holder) && self.failed_at(group, holder)
            || (self.draft.gone(holder).is_some()
                && self.draft.fence_first(group, holder).is_none()
                && (!self.draft.needs_no_lease(group) || self.draft.declared_down(holder)));
        if idle {
            self.not_stop_failed(group)?;
            return self.start_released(group, on);
        }
        if !self.draft.online(holder) {
            return Err(format!(
                "{group} may still run on {name}, which is silent; if {name} is powered off, say \
                 so with `hotpair node down {name}`"
            ));
        }
        match on {
            Some(node) if node != holder => Err(format!(
                "{group} is already on {name}; move it with `hotpair group switch {group} --to {}`",
                self.name(node)
            )),
            _ => Ok(Accepted::already(format!("{group} is already on {name}"))),
        }
    }

    fn failed_at(&self, group: &GroupId, holder: MemberId) -> bool {
        let epoch = self.draft.placement(group).epoch;
        self.draft
            .group_report(holder, group)
            .is_some_and(|r| r.epoch == epoch && matches!(r.state, GroupState::Failed { .. }))
    }

    /// The operator's start overrides earlier failures and a disabled takeover, nothing else.
    fn may_start(&self, group: &GroupId, node: MemberId) -> Result<(), String> {
        self.not_stop_failed(group)?;
        let overridden = |o: &Obstacle| {
            matches!(
                o,
                Obstacle::FailedHere(_) | Obstacle::DisabledHere | Obstacle::HeldOut
            )
        };
        if self.draft.fit_but_for(group, node, overridden) {
            return Ok(());
        }
        let reasons = self.draft.fitness(group, node).reasons().join("; ");
        Err(format!("{} cannot run {group}: {reasons}", self.name(node)))
    }

    fn best_to_start(&self, group: &GroupId) -> Result<MemberId, String> {
        let nodes = &self.document.config.groups[group].nodes;
        self.draft
            .best_node(group, None)
            .or_else(|| {
                let mut nodes = nodes.iter().copied();
                nodes.find(|&node| self.may_start(group, node).is_ok())
            })
            .ok_or_else(|| format!("no node can run {group}: {}", self.why_nobody(group)))
    }

    pub(super) fn why_nobody(&self, group: &GroupId) -> String {
        let all = self.draft.fitness_of_all(group);
        let each: Vec<String> = all
            .iter()
            .filter(|(_, fitness)| !fitness.is_fit())
            .map(|(&node, fitness)| {
                format!("{}: {}", self.name(node), fitness.reasons().join("; "))
            })
            .collect();
        each.join(" | ")
    }

    fn not_stop_failed(&self, group: &GroupId) -> Result<(), String> {
        match self.draft.stop_failed(group) {
            None => Ok(()),
            Some((node, resource, detail)) => {
                let name = self.name(node);
                Err(format!(
                    "{resource} could not be stopped on {name} ({detail}) and may still run; stop \
                     it there by hand, or power {name} off and say so with `hotpair node down \
                     {name}`"
                ))
            }
        }
    }

    pub(super) fn not_in_maintenance(&self, group: &GroupId) -> Result<(), String> {
        if self.draft.in_maintenance(group) {
            return Err(format!(
                "{group} is in maintenance; end it with `hotpair maintenance off` first"
            ));
        }
        Ok(())
    }

    fn forget(&self, group: &GroupId, node: MemberId) -> Vec<Change> {
        let group = group.clone();
        let failed = self.draft.placement(&group).failed_on.contains_key(&node);
        failed
            .then_some(Change::ClearFailure { group, node })
            .into_iter()
            .collect()
    }

    pub(super) fn stop(&self, group: &GroupId) -> Result<Accepted, String> {
        self.known_group(group)?;
        let placement = self.draft.placement(group);
        if placement.goal == Goal::Stopped {
            return Ok(Accepted::already(match placement.holder {
                None => format!("{group} is already stopped"),
                Some(holder) => {
                    format!("{group} is already being stopped on {}", self.name(holder))
                }
            }));
        }
        self.not_in_maintenance(group)?;
        let reason = Self::by_operator("group stop");
        let goal = Change::SetGoal {
            group: group.clone(),
            goal: Goal::Stopped,
            reason: reason.clone(),
        };
        let Some(holder) = placement.holder else {
            return Ok(Accepted::new(
                vec![goal],
                format!("{group} does not run, and will stay stopped until it is started"),
            ));
        };
        let mut stop = self.starts(group);
        stop.reverse();
        let stop = order::list(&stop);
        let along = match self.draft.companions(group).as_slice() {
            [] => String::new(),
            companions => format!(
                "; what must run with it stops until it runs again: {}",
                names(companions)
            ),
        };
        let text = format!(
            "{group} will be stopped on {} and stay stopped until it is started: stop {stop}{along}",
            self.name(holder)
        );
        let asked = Change::Move {
            group: group.clone(),
            to: None,
            reason,
            by_operator: true,
        };
        Ok(Accepted::new(vec![goal, asked], text))
    }

    pub(super) fn switch(&self, group: &GroupId, to: Option<MemberId>) -> Result<Accepted, String> {
        self.known_group(group)?;
        if let Some(node) = to {
            self.listed(group, node)?;
        }
        self.not_in_maintenance(group)?;
        let placement = self.draft.placement(group);
        let Some(holder) = placement.holder else {
            return Err(format!(
                "{group} does not run anywhere; start it with `hotpair group start {group}`"
            ));
        };
        let from = self.name(holder);
        if let Some(moving) = &placement.moving {
            let where_to = moving
                .to
                .map_or(String::new(), |to| format!(" to move to {}", self.name(to)));
            return Err(format!(
                "{group} is already being stopped on {from}{where_to}; wait until that is done"
            ));
        }
        if to == Some(holder) {
            return Ok(Accepted::already(format!("{group} is already on {from}")));
        }
        if !self.draft.online(holder) {
            return Err(format!(
                "{from}, which holds {group}, is not online, so it cannot be asked to stop it; \
                 `hotpair explain {group}` says what is waited for"
            ));
        }
        self.not_stop_failed(group)?;
        let to = self.switch_target(group, holder, to)?;
        let along = self.companions_along(group, to)?;
        let start = self.starts(group);
        let mut stop = start.clone();
        stop.reverse();
        let text = format!(
            "{group} will be stopped on {from} and started on {}; first stop {}; then start {}{}{along}",
            self.name(to),
            order::list(&stop),
            order::list(&start),
            self.left_stopped(group)
        );
        let asked = Change::Move {
            group: group.clone(),
            to: Some(to),
            reason: Self::by_operator("group switch"),
            by_operator: true,
        };
        Ok(Accepted::new(vec![asked], text))
    }

    /// Groups that must run with this one go along; one that cannot run there keeps it from moving.
    fn companions_along(&self, group: &GroupId, to: MemberId) -> Result<String, String> {
        let companions = self.draft.companions(group);
        for companion in &companions {
            self.not_in_maintenance(companion).map_err(|why| {
                format!("{companion} must run with {group} and would have to move along, but {why}")
            })?;
            if self.draft.fit_as_companion(companion, to) {
                continue;
            }
            let reasons: Vec<String> = match self.draft.fitness(companion, to) {
                Fitness::Fit => Vec::new(),
                Fitness::Unfit(obstacles) => obstacles
                    .iter()
                    .filter(|obstacle| !matches!(obstacle, Obstacle::With { .. }))
                    .map(Obstacle::text)
                    .collect(),
            };
            return Err(format!(
                "{companion} must run with {group}, and {} cannot run {companion}: {}; stop it first with \
                 `hotpair group stop {companion}`",
                self.name(to),
                reasons.join("; ")
            ));
        }
        Ok(match companions.as_slice() {
            [] => String::new(),
            companions => format!("; what must run with it goes along: {}", names(companions)),
        })
    }

    fn switch_target(
        &self,
        group: &GroupId,
        holder: MemberId,
        to: Option<MemberId>,
    ) -> Result<MemberId, String> {
        if let Some(other) = self.draft.comes_after(group) {
            return Err(format!(
                "{group} is started only once {other} runs, and {other} does not; stopped now, it could \
                 not be started again"
            ));
        }
        let Some(to) = to else {
            let with_all = self.draft.best_with_companions(group, &[holder]);
            let to = with_all.or_else(|| self.draft.best_node(group, Some(holder)));
            return to.ok_or_else(|| {
                format!(
                    "no other node can run {group}: {}{}",
                    self.why_nobody(group),
                    self.switch_its_host(group)
                )
            });
        };
        let fitness = self.draft.fitness(group, to);
        if fitness.is_fit() {
            return Ok(to);
        }
        let name = self.name(to);
        let hint = if self.draft.placement(group).failed_on.contains_key(&to) {
            format!("; forget failures with `hotpair group clear {group} --node {name}`")
        } else {
            self.switch_its_host(group)
        };
        Err(format!(
            "{name} cannot run {group}: {}{hint}",
            fitness.reasons().join("; ")
        ))
    }

    /// What must run with another group moves with that one.
    fn switch_its_host(&self, group: &GroupId) -> String {
        let host = self.draft.host(group);
        if host == *group {
            return String::new();
        }
        format!("; move {host}, and it goes along: `hotpair group switch {host}`")
    }

    pub(super) fn set_disabled(
        &self,
        group: &GroupId,
        node: Option<MemberId>,
        disabled: bool,
    ) -> Result<Accepted, String> {
        self.known_group(group)?;
        if let Some(node) = node {
            self.listed(group, node)?;
        }
        let placement = self.draft.placement(group);
        let now = node.map_or(placement.disabled, |n| placement.disabled_on.contains(&n));
        let on = node.map_or(String::new(), |n| format!(" on {}", self.name(n)));
        let word = if disabled { "disabled" } else { "enabled" };
        if now == disabled {
            return Ok(Accepted::already(format!(
                "automatic takeover of {group}{on} is already {word}"
            )));
        }
        let change = Change::SetDisabled {
            group: group.clone(),
            node,
            disabled,
        };
        Ok(Accepted::new(
            vec![change],
            format!("automatic takeover of {group}{on} will be {word}; what runs goes on running"),
        ))
    }

    /// Forgets failures; a group that failed everywhere is started again.
    pub(super) fn clear(
        &self,
        group: &GroupId,
        node: Option<MemberId>,
    ) -> Result<Accepted, String> {
        self.known_group(group)?;
        if let Some(node) = node {
            self.listed(group, node)?;
        }
        let placement = self.draft.placement(group);
        let failed: Vec<(&MemberId, &Failure)> = placement
            .failed_on
            .iter()
            .filter(|(n, _)| node.is_none_or(|node| node == **n))
            .collect();
        let mut changes: Vec<Change> = failed
            .iter()
            .map(|&(&node, _)| Change::ClearFailure {
                group: group.clone(),
                node,
            })
            .collect();
        let names: Vec<String> = failed.iter().map(|&(&n, _)| self.name(n)).collect();
        let mut text = format!(
            "failures of {group} on {} will be forgotten",
            names.join(", ")
        );
        let again = self.again(group, &failed);
        if let Some((at, resource, _)) = self.draft.stop_failed(group)
            && node.is_none_or(|node| node == at)
        {
            let group = group.clone();
            text = format!(
                "it is tried again to stop {resource} of {group} on {}",
                self.name(at)
            );
            changes.push(Change::RetryStop { group });
            return Ok(Accepted::new(changes, text));
        }
        match placement.goal {
            Goal::Failed => {
                changes.push(Change::SetGoal {
                    group: group.clone(),
                    goal: Goal::Run,
                    reason: Self::by_operator("group clear"),
                });
                text = format!("{group} will be started again by its start mode");
            }
            Goal::Run if again.is_some() => changes.extend(again),
            Goal::Run | Goal::Stopped if changes.is_empty() => {
                return Ok(Accepted::already(format!(
                    "{group} has no failures to forget"
                )));
            }
            Goal::Run | Goal::Stopped => {}
        }
        Ok(Accepted::new(changes, text))
    }

    /// The holder has given it up and waits: it is told to try again.
    fn again(&self, group: &GroupId, failed: &[(&MemberId, &Failure)]) -> Option<Change> {
        let placement = self.draft.placement(group);
        let holder = placement.holder?;
        let cleared = failed.iter().any(|&(&node, _)| node == holder);
        (cleared
            && placement.moving.is_none()
            && self.failed_at(group, holder)
            && self.may_start(group, holder).is_ok()
            && self.draft.held_back(group, holder).is_none())
        .then(|| {
            self.draft
                .giving(group, holder, Self::by_operator("group clear"))
        })
    }
}

fn names(groups: &[GroupId]) -> String {
    let names: Vec<String> = groups.iter().map(GroupId::to_string).collect();
    names.join(", ")
}
