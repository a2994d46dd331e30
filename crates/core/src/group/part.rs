//! One resource of a group on this node: what it is doing, and what completions and facts change.

use super::{ActionId, ResourceFact};
use crate::config::{Detector, Resource, ResourceKind};
use crate::ids::{Epoch, MemberId, ResourceId};
use crate::time::Moment;
use std::collections::BTreeSet;
use std::time::Duration;

/// Shortest time between two checks of a resource that is waited for.
const CHECK_GAP: Duration = Duration::from_millis(200);

/// Time between two tries to kill a resource.
const KILL_GAP: Duration = Duration::from_secs(1);

/// Interval and limit of a status program, which has none of its own.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// What a resource is doing.
///
/// ```text
///            Start               done          found running
///  Stopped --------> Starting --------> Confirming ------> Running
///     ^                  |                   |                |  exited, found not running
///     |                  +----- failed ------+--> Failed <----+
///     |    done                                     |
///     +--------- Stopping <---------- Stop ---------+   (also from Confirming and Running)
///     |             | failed
///     |             v             Kill (from everywhere but Stopped)
///     +---------- Killing <-------- StopFailed
///                   ^ | failed
///                   | v
///                KillFailed (again after a second)
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Stopped,
    Starting {
        id: ActionId,
        /// It ended before its start had.
        exited: Option<String>,
    },
    Confirming {
        since: Moment,
        until: Moment,
        /// It ran before: being found not running is a failure at once.
        strict: bool,
    },
    Running,
    /// Not as it should be and not known to be stopped.
    Failed {
        while_starting: bool,
    },
    Stopping {
        id: ActionId,
    },
    StopFailed,
    Killing {
        id: ActionId,
    },
    KillFailed {
        retry: Moment,
    },
}

/// How a resource is looked at; resources without detectors have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Look {
    /// It must be found running within this after its start.
    within: Duration,
    /// Shortest interval of its detectors.
    interval: Duration,
    /// By then all detectors have come to a result.
    patience: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub phase: Phase,
    /// What it needs, by the last configuration that had it.
    pub requires: BTreeSet<ResourceId>,
    /// It is in the configuration. One that is not any more is stopped and then forgotten.
    pub configured: bool,
    /// In maintenance, by itself or with its group.
    pub maintained: bool,
    pub look: Option<Look>,
    /// What it is by the configuration, and what it was started as.
    pub kind: Option<ResourceKind>,
    pub started_as: Option<ResourceKind>,
    /// Epoch of its start.
    pub epoch: Epoch,
    /// A restart in place stops it first.
    pub cycle: bool,
    /// A restart in place has not brought it back yet.
    pub restarting: bool,
    pub check: Option<ActionId>,
    pub check_at: Option<Moment>,
    /// Found running although hotpair has it stopped.
    pub seen: bool,
    /// Not to run, by the operator's word about it or about what it requires.
    pub held_down: bool,
    /// The operator's restarts it has been through; unknown of what an earlier run of the daemon
    /// started.
    pub restarts_done: Option<u64>,
    /// Last message.
    pub detail: String,
    /// Last verdict.
    pub problems: Vec<String>,
}

impl Look {
    pub(super) fn of(resource: &Resource) -> Option<Self> {
        // What comes with the kind.
        let own = match &resource.kind {
            ResourceKind::Address(_) | ResourceKind::Mirror(_) | ResourceKind::Mount(_) => {
                return None;
            }
            ResourceKind::Program(program) if program.status.is_some() => {
                Some((STATUS_INTERVAL, STATUS_TIMEOUT))
            }
            ResourceKind::Program(_) | ResourceKind::Service(_) => None,
            ResourceKind::Ocf(ocf) => Some((ocf.interval, ocf.monitor_timeout)),
        };
        let mut interval = own.map(|(interval, _)| interval);
        let mut patience = own.map_or(Duration::ZERO, |(interval, timeout)| {
            interval.saturating_add(timeout)
        });
        for detector in &resource.detectors {
            interval = Some(interval.map_or(detector.interval, |i| i.min(detector.interval)));
            patience = patience.max(longest(detector));
        }
        Some(Self {
            within: resource.running_within,
            interval: interval?,
            patience,
        })
    }
}

fn starts_alike(a: &ResourceKind, b: &ResourceKind, me: MemberId) -> bool {
    match (a, b) {
        (ResourceKind::Address(a), ResourceKind::Address(b)) => {
            (a.address, a.prefix, &a.nics, &a.nics_on) == (b.address, b.prefix, &b.nics, &b.nics_on)
        }
        (ResourceKind::Program(a), ResourceKind::Program(b)) => {
            (&a.start, &a.environment) == (&b.start, &b.environment)
        }
        (ResourceKind::Service(a), ResourceKind::Service(b)) => {
            (&a.command, &a.environment) == (&b.command, &b.environment)
        }
        (ResourceKind::Mirror(a), ResourceKind::Mirror(b)) => {
            // Where the other copy is, and whose, may change under the open device.
            (a.copies.get(&me), a.export) == (b.copies.get(&me), b.export)
        }
        (ResourceKind::Mount(a), ResourceKind::Mount(b)) => {
            (&a.mirror, &a.path, &a.filesystem, &a.options)
                == (&b.mirror, &b.path, &b.filesystem, &b.options)
        }
        (ResourceKind::Ocf(a), ResourceKind::Ocf(b)) => {
            (&a.provider, &a.agent, &a.parameters) == (&b.provider, &b.agent, &b.parameters)
        }
        _ => false,
    }
}

/// Time after which a detector has counted all its tries.
fn longest(detector: &Detector) -> Duration {
    detector
        .interval
        .saturating_add(detector.timeout)
        .saturating_mul(detector.tries.max(1))
}

impl Part {
    /// Takes over its present definition. What runs and was started as something else has to be
    /// started anew; detectors, limits and the ways to stop it or to ask for its status change live.
    pub(super) fn define(&mut self, kind: &ResourceKind) {
        if self.kind.as_ref() != Some(kind) {
            self.kind = Some(kind.clone());
        }
        if self.is_up() && self.started_as.is_none() {
            // Adopted: an earlier run of the daemon started it by this definition.
            self.started_as.clone_from(&self.kind);
        }
    }

    /// Runs as something else than its definition says now?
    pub(super) fn outdated(&self, me: MemberId) -> bool {
        match (&self.started_as, &self.kind) {
            (Some(started), Some(kind)) => self.is_up() && !starts_alike(started, kind, me),
            _ => false,
        }
    }

    /// Has the operator asked for a restart since it was started? `asked` counts the requests.
    pub(super) fn shall_restart(&mut self, asked: u64) -> bool {
        if !self.is_up() {
            // The start that comes fulfils them all.
            self.restarts_done = Some(asked);
        }
        *self.restarts_done.get_or_insert(asked) < asked
    }

    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Stopped,
            requires: BTreeSet::new(),
            configured: false,
            maintained: false,
            look: None,
            kind: None,
            started_as: None,
            epoch: Epoch(0),
            cycle: false,
            restarting: false,
            check: None,
            check_at: None,
            seen: false,
            held_down: false,
            restarts_done: None,
            detail: String::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// Is it up, or on its way there?
    pub(super) fn is_up(&self) -> bool {
        matches!(
            self.phase,
            Phase::Starting { .. }
                | Phase::Confirming { .. }
                | Phase::Running
                | Phase::Failed { .. }
        )
    }

    /// What a completion of `id` changes. Returns whether the action was this resource's.
    pub(super) fn done(&mut self, now: Moment, id: ActionId, result: &Result<(), String>) -> bool {
        if self.check == Some(id) {
            self.check = None;
            return true;
        }
        match &mut self.phase {
            Phase::Starting { id: own, exited } if *own == id => {
                let exited = exited.take();
                self.start_ended(now, exited, result);
            }
            Phase::Stopping { id: own } if *own == id => match result {
                Ok(()) => self.stopped(),
                Err(detail) => {
                    self.phase = Phase::StopFailed;
                    self.detail.clone_from(detail);
                }
            },
            Phase::Killing { id: own } if *own == id => match result {
                Ok(()) => self.stopped(),
                Err(detail) => {
                    self.phase = Phase::KillFailed {
                        retry: now.plus(KILL_GAP),
                    };
                    self.detail.clone_from(detail);
                }
            },
            _ => return false,
        }
        true
    }

    fn start_ended(&mut self, now: Moment, exited: Option<String>, result: &Result<(), String>) {
        match (result, exited) {
            (Err(detail), _) => self.fail(detail.clone()),
            (Ok(()), Some(detail)) => self.fail(detail),
            (Ok(()), None) => match self.look {
                Some(look) => self.confirm(now, look.within, false),
                None => self.found_running(),
            },
        }
    }

    fn confirm(&mut self, now: Moment, limit: Duration, strict: bool) {
        self.phase = Phase::Confirming {
            since: now,
            until: now.plus(limit),
            strict,
        };
        self.check_at = Some(now);
    }

    fn stopped(&mut self) {
        self.started_as = None;
        self.restarts_done = None;
        self.phase = Phase::Stopped;
        self.cycle = false;
        self.seen = false;
    }

    fn found_running(&mut self) {
        self.phase = Phase::Running;
        self.restarting = false;
        self.seen = false;
        self.check_at = None;
    }

    fn fail(&mut self, detail: String) {
        let starting = matches!(
            self.phase,
            Phase::Starting { .. } | Phase::Confirming { strict: false, .. }
        );
        self.phase = Phase::Failed {
            while_starting: starting && !self.restarting,
        };
        self.check_at = None;
        self.detail = detail;
    }

    /// Says a fact nothing new? Detectors and verdicts repeat themselves all the time.
    pub(super) fn knows(&self, fact: &ResourceFact) -> bool {
        match fact {
            ResourceFact::Detected {
                running: true,
                detail,
            } => match self.phase {
                Phase::Confirming { .. } | Phase::Failed { .. } => false,
                Phase::Stopped => self.seen && self.detail == *detail,
                _ => true,
            },
            ResourceFact::Detected { running: false, .. } => match self.phase {
                Phase::Running | Phase::Confirming { .. } => false,
                Phase::Stopped => !self.seen,
                _ => true,
            },
            ResourceFact::Verdict { problems } => self.problems == *problems,
            ResourceFact::Exited { .. } | ResourceFact::Adopted { .. } => false,
        }
    }

    /// What a fact changes; `epoch` is the group's present one.
    pub(super) fn fact(&mut self, now: Moment, epoch: Epoch, fact: ResourceFact) {
        match fact {
            ResourceFact::Detected {
                running: true,
                detail,
            } => self.detected_running(detail),
            ResourceFact::Detected {
                running: false,
                detail,
            } => self.detected_down(detail),
            ResourceFact::Exited { epoch: of, detail } => {
                if self.epoch <= of && of <= epoch.max(self.epoch) {
                    self.exited(detail);
                }
            }
            ResourceFact::Verdict { problems } => self.problems = problems,
            ResourceFact::Adopted { epoch } => {
                if self.is_stopped() {
                    self.found_running();
                    self.epoch = epoch;
                    self.check_at = Some(now);
                }
            }
        }
    }

    fn detected_running(&mut self, detail: String) {
        match self.phase {
            Phase::Confirming { .. } => {
                self.found_running();
                self.detail = detail;
            }
            Phase::Failed { .. } if self.maintained => {
                self.found_running();
                self.detail = detail;
            }
            Phase::Stopped => {
                self.seen = true;
                self.detail = detail;
            }
            _ => {}
        }
    }

    fn detected_down(&mut self, detail: String) {
        match self.phase {
            Phase::Running | Phase::Confirming { strict: true, .. } => self.fail(detail),
            Phase::Stopped => self.seen = false,
            _ => {}
        }
    }

    fn exited(&mut self, detail: String) {
        match &mut self.phase {
            Phase::Starting { exited, .. } => *exited = Some(detail),
            Phase::Confirming { .. } | Phase::Running => self.fail(detail),
            _ => {}
        }
    }

    /// Gives up waiting for a resource that was not found running in time.
    pub(super) fn expire(&mut self, now: Moment) {
        let Phase::Confirming { since, until, .. } = self.phase else {
            return;
        };
        if self.look.is_none() {
            self.found_running();
        } else if now >= until {
            let limit = until.since(since).as_secs_f64();
            self.fail(format!("it was not found running within {limit} s"));
        }
    }

    /// Maintenance ends while the group shall run: what was seen meanwhile is believed if it is
    /// good, and looked at again if it is bad, since the operator may just have mended it.
    pub(super) fn leave_maintenance(&mut self, now: Moment) {
        match (&self.phase, self.look) {
            (Phase::Stopped, _) if self.seen => {
                self.found_running();
                self.check_at = Some(now);
            }
            (Phase::Failed { .. }, Some(look)) => self.confirm(now, look.patience, true),
            (Phase::Failed { .. }, None) => {
                self.phase = Phase::Failed {
                    while_starting: false,
                };
            }
            _ => {}
        }
    }

    /// Is a check due? Marks when the next one will be.
    pub(super) fn takes_check(&mut self, now: Moment) -> bool {
        let Some(look) = self.look else {
            self.check_at = None;
            return false;
        };
        if self.check.is_some() || self.check_at.is_none_or(|at| at > now) {
            return false;
        }
        match self.phase {
            Phase::Confirming { since, .. } => {
                // A quarter of the time waited so far, so that the wait is seldom a quarter longer
                // than it must be, and a slow start is not asked five times a second.
                let gap = now.since(since) / 4;
                self.check_at = Some(now.plus(gap.min(look.interval).max(CHECK_GAP)));
                true
            }
            Phase::Running => {
                self.check_at = None;
                true
            }
            _ => {
                self.check_at = None;
                false
            }
        }
    }

    pub(super) fn starting(&mut self, id: ActionId, epoch: Epoch) {
        self.started_as.clone_from(&self.kind);
        self.forget_check();
        self.phase = Phase::Starting { id, exited: None };
        self.epoch = epoch;
        self.seen = false;
    }

    pub(super) fn stopping(&mut self, id: ActionId) {
        self.forget_check();
        self.phase = Phase::Stopping { id };
    }

    pub(super) fn killing(&mut self, id: ActionId) {
        self.forget_check();
        self.phase = Phase::Killing { id };
    }

    fn forget_check(&mut self) {
        self.check = None;
        self.check_at = None;
    }

    /// The operator wants another try to stop it.
    pub(super) fn retry_stop(&mut self) {
        if self.phase == Phase::StopFailed {
            self.phase = Phase::Failed {
                while_starting: false,
            };
            self.cycle = true;
            self.restarting = true;
        }
    }

    /// When something about it has to be done without any input.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let check = self.check_at.filter(|_| self.check.is_none());
        match self.phase {
            Phase::Confirming { until, .. } => Some(check.map_or(until, |at| at.min(until))),
            Phase::KillFailed { retry } => Some(retry),
            _ => check,
        }
    }
}
