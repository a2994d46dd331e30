//! What a group says about itself.

use super::part::{Part, Phase};
use super::run::GroupRun;
use super::{Orders, Want};
use crate::ids::ResourceId;
use crate::report::{GroupReport, GroupState, ResourceReport, ResourceState};

impl GroupRun {
    /// The account of this group, as of the last orders it acted on.
    #[must_use]
    pub fn report(&self, orders: &Orders, leased: bool) -> GroupReport {
        let shown = |id: &ResourceId| orders.config.resources.contains_key(id);
        let resources = self
            .parts
            .iter()
            .filter(|(id, part)| shown(id) || !part.is_stopped())
            .map(|(id, part)| (id.clone(), self.resource(id, part)))
            .collect();
        GroupReport {
            epoch: self.epoch,
            state: self.state(),
            unfit: self.unfit(),
            leased,
            resources,
            mirrors: std::collections::BTreeMap::new(),
        }
    }

    /// Is everything of it known to be stopped?
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.parts.values().all(|part| !self.runs(part))
    }

    fn runs(&self, part: &Part) -> bool {
        !part.is_stopped() || (part.maintained && part.seen && self.want != Want::Gone)
    }

    #[must_use]
    pub fn state(&self) -> GroupState {
        let gone = self.want == Want::Gone;
        if self.maintenance && !gone {
            return GroupState::Unmanaged {
                running: !self.is_down(),
            };
        }
        let stop_failed = |part: &Part| part.phase == Phase::StopFailed && !gone;
        if let Some((id, part)) = self.parts.iter().find(|(_, part)| stop_failed(part)) {
            return GroupState::StopFailed {
                resource: id.clone(),
                detail: part.detail.clone(),
            };
        }
        if self.shall_run() {
            return self.state_while_running();
        }
        let mut left = self
            .parts
            .values()
            .filter(|part| self.runs(part))
            .peekable();
        if left.peek().is_some() {
            return if !gone && left.all(|part| part.maintained) {
                GroupState::Unmanaged { running: true }
            } else {
                GroupState::Stopping
            };
        }
        match &self.given_up {
            Some(failure) => GroupState::Failed {
                resource: Some(failure.resource.clone()),
                detail: failure.detail.clone(),
                while_starting: failure.while_starting,
            },
            None => GroupState::Stopped,
        }
    }

    fn state_while_running(&self) -> GroupState {
        let parts = || {
            let counts = |part: &Part| part.configured && !part.held_down;
            self.parts.iter().filter(move |(_, part)| counts(part))
        };
        if parts().any(|(_, part)| part.restarting)
            && let Some(last) = self.restarts.last()
        {
            return GroupState::Degraded {
                detail: format!("{} is restarted: {}", last.resource, last.detail),
            };
        }
        if let Some((id, part)) = parts().find(|(_, part)| {
            part.phase
                == Phase::Failed {
                    while_starting: false,
                }
        }) {
            return GroupState::Degraded {
                detail: format!("{id}: {}", part.detail),
            };
        }
        let up = |part: &Part| {
            part.maintained
                || matches!(
                    part.phase,
                    Phase::Running | Phase::Confirming { strict: true, .. }
                )
        };
        if !parts().all(|(_, part)| up(part)) {
            return GroupState::Starting;
        }
        let problems = self.problems();
        if problems.is_empty() {
            GroupState::Running
        } else {
            GroupState::Degraded {
                detail: problems.join(", "),
            }
        }
    }

    fn unfit(&self) -> Vec<String> {
        let mut unfit = self.problems();
        for (id, part) in &self.parts {
            if part.configured && self.runs_unasked(part) {
                unfit.push(format!("{id} runs here although it should not"));
            }
        }
        unfit
    }

    fn runs_unasked(&self, part: &Part) -> bool {
        let shall_run = self.shall_run() && !part.held_down;
        part.is_stopped() && part.seen && !part.maintained && !shall_run
    }

    fn resource(&self, id: &ResourceId, part: &Part) -> ResourceReport {
        let failed_here = self.given_up.as_ref().is_some_and(|f| f.resource == *id);
        let state = match part.phase {
            _ if part.maintained && self.want != Want::Gone => ResourceState::Maintenance,
            Phase::Stopped if self.runs_unasked(part) => ResourceState::RunsUnasked,
            Phase::Stopped if failed_here => ResourceState::Failed,
            Phase::Stopped => ResourceState::Stopped,
            Phase::Starting { .. } | Phase::Confirming { strict: false, .. } => {
                ResourceState::Starting
            }
            Phase::Running | Phase::Confirming { strict: true, .. } => ResourceState::Running,
            Phase::Stopping { .. } | Phase::Killing { .. } => ResourceState::Stopping,
            Phase::Failed { .. } | Phase::StopFailed | Phase::KillFailed { .. } => {
                ResourceState::Failed
            }
        };
        let well = matches!(part.phase, Phase::Stopped | Phase::Running);
        let detail = if part.held_down && state == ResourceState::Stopped {
            "stopped by the operator".into()
        } else if well && !part.problems.is_empty() {
            part.problems.join(", ")
        } else {
            part.detail.clone()
        };
        let restarts = self.restarts.iter().filter(|r| r.resource == *id).count();
        ResourceReport {
            state,
            detail,
            restarts: u32::try_from(restarts).unwrap_or(u32::MAX),
            restarts_done: part.restarts_done.unwrap_or_default(),
        }
    }
}
