//! What the planner says about a group, as data and in words.

use crate::config::Cluster;
use crate::document::Goal;
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::reason::Reason;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The account of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Stays {
        on: MemberId,
        why: Stay,
    },
    /// A change was decided now. `to` is `None` if it is only stopped.
    Moves {
        from: Option<MemberId>,
        to: Option<MemberId>,
        reason: Reason,
    },
    /// Something must happen before anything else is decided.
    Waits {
        on: Option<MemberId>,
        wait_for: WaitFor,
    },
    /// Nobody holds it, and nobody shall: stopped by the operator, or failed.
    Rests {
        goal: Goal,
        reason: Reason,
    },
}

/// Why a group stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stay {
    Runs,
    Starts,
    Stops,
    Degraded {
        detail: String,
    },
    Maintenance,
    Disarmed,
    /// It should leave its node, but no other one can run it.
    NoOtherNode {
        reason: Reason,
    },
    /// It will return to `to` when that has been fit for `delay`.
    ReturnsLater {
        to: MemberId,
        delay: Duration,
    },
    /// It would return to `to`, but the operator placed it.
    OperatorPlaced {
        to: MemberId,
    },
}

/// What has to happen first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitFor {
    /// Silent, but not for so long that it is taken to be down.
    Silence {
        node: MemberId,
    },
    /// It has not reported, or not yet about this epoch.
    Report {
        node: MemberId,
    },
    /// It is being stopped there.
    Stop {
        node: MemberId,
        to: Option<MemberId>,
    },
    /// The holder needs no lease, so only its own report or the operator's word moves it.
    Pinned {
        node: MemberId,
        reason: Reason,
    },
    /// A better node may still come, until the first-start delay is over.
    FirstStartDelay {
        node: Option<MemberId>,
    },
    /// This node may be able to take it in a moment.
    Node {
        node: MemberId,
    },
    /// No node can run it; it was to be started because of `reason`.
    FitNode {
        reason: Reason,
    },
    /// Its takeover policy allows only this node, which cannot run it.
    HighestNode {
        node: MemberId,
    },
    /// It could not be stopped there and may still run.
    StopFailed {
        node: MemberId,
        resource: ResourceId,
        detail: String,
    },
    /// The holder needed no lease, so it may have written alone, and its disk does not tell.
    MirrorDoubt {
        node: MemberId,
        resource: ResourceId,
        problem: String,
    },
    /// It is to be fenced first; `failed`: why that has not succeeded yet.
    Fence {
        node: MemberId,
        failed: Option<String>,
    },
    /// The operator is to confirm the takeover from this silent node; after `limit` it needs no
    /// confirmation any more.
    Confirmation {
        group: GroupId,
        node: MemberId,
        /// It is fenced first, and that takes the operator's word, too.
        fence: bool,
        limit: Option<Duration>,
    },
    /// The policy after this failure is to wait.
    OperatorAfter {
        reason: Reason,
    },
    /// A relation: that group must be on `node` first; without a node: must run first.
    Group {
        group: GroupId,
        node: Option<MemberId>,
    },
    Arming,
    EndOfMaintenance,
    /// Automatic takeover is disabled.
    Enabling,
    /// Start mode `manual`.
    OperatorStart,
    /// Takeover policy `never`.
    OperatorTakeover,
}

impl Verdict {
    /// The node the group is at now, if any.
    #[must_use]
    pub fn on(&self) -> Option<MemberId> {
        match self {
            Self::Stays { on, .. } => Some(*on),
            Self::Moves { from, .. } => *from,
            Self::Waits { on, .. } => *on,
            Self::Rests { .. } => None,
        }
    }

    #[must_use]
    pub fn text(&self, config: &Cluster) -> String {
        let name = |node: &MemberId| config.name_of(*node);
        match self {
            Self::Stays { on, why } => format!("stays on {}: {}", name(on), why.text(config)),
            Self::Moves { from, to, reason } => {
                let reason = reason.text(config);
                match (from, to) {
                    (Some(from), Some(to)) if from == to => {
                        format!("starts again on {}: {reason}", name(to))
                    }
                    (Some(from), Some(to)) => {
                        format!("moves from {} to {}: {reason}", name(from), name(to))
                    }
                    (None, Some(to)) => format!("starts on {}: {reason}", name(to)),
                    (Some(from), None) => format!("stops on {}: {reason}", name(from)),
                    (None, None) => format!("stops: {reason}"),
                }
            }
            Self::Waits { on: None, wait_for } => format!("waits: {}", wait_for.text(config)),
            Self::Waits {
                on: Some(on),
                wait_for,
            } => format!("waits (held by {}): {}", name(on), wait_for.text(config)),
            Self::Rests { goal, reason } => {
                let word = match goal {
                    Goal::Failed => "failed",
                    Goal::Run | Goal::Stopped => "stopped",
                };
                format!("{word}: {}", reason.text(config))
            }
        }
    }
}

impl Stay {
    #[must_use]
    pub fn text(&self, config: &Cluster) -> String {
        match self {
            Self::Runs => "it runs there".into(),
            Self::Starts => "it is started there".into(),
            Self::Stops => "it is being stopped there".into(),
            Self::Degraded { detail } => format!("it runs there, degraded: {detail}"),
            Self::Maintenance => "it is in maintenance".into(),
            Self::Disarmed => "the cluster is disarmed".into(),
            Self::NoOtherNode { reason } => {
                format!("{}, but no other node can run it", reason.text(config))
            }
            Self::ReturnsLater { to, delay } => format!(
                "it returns to {} when that has been fit for {} s",
                config.name_of(*to),
                delay.as_secs()
            ),
            Self::OperatorPlaced { to } => format!(
                "the operator placed it there, so it does not return to {} by itself",
                config.name_of(*to)
            ),
        }
    }
}

impl WaitFor {
    #[must_use]
    pub fn text(&self, config: &Cluster) -> String {
        let name = |node: &MemberId| config.name_of(*node);
        match self {
            Self::Silence { node } => {
                format!("{} is silent, but not yet taken to be down", name(node))
            }
            Self::Report { node } => format!("{} has not reported about it yet", name(node)),
            Self::Stop { node, to: Some(to) } => format!(
                "it is stopped on {}, then started on {}",
                name(node),
                name(to)
            ),
            Self::Stop { node, to: None } => format!("it is stopped on {}", name(node)),
            Self::Pinned { node, reason } => {
                let node = name(node);
                format!(
                    "it may run on {node} without a lease ({}); only a report of {node} or the \
                     operator's word that {node} is down moves it",
                    reason.text(config)
                )
            }
            Self::FirstStartDelay { node: Some(node) } => format!(
                "{} could start it; a node of higher priority may still come",
                name(node)
            ),
            Self::FirstStartDelay { node: None } => {
                "no node can start it yet; others may still come".into()
            }
            Self::Node { node } => format!("{} may be able to run it in a moment", name(node)),
            Self::FitNode {
                reason: Reason::NotStartedYet,
            } => "no node can run it".into(),
            Self::FitNode { reason } => {
                format!("no other node can run it ({})", reason.text(config))
            }
            Self::HighestNode { node } => format!(
                "its takeover policy is `highest only`, and {} cannot run it",
                name(node)
            ),
            Self::StopFailed {
                node,
                resource,
                detail,
            } => format!(
                "{resource} could not be stopped on {} and may still run ({detail}); the operator \
                 must see to it",
                name(node)
            ),
            Self::MirrorDoubt {
                node,
                resource,
                problem,
            } => {
                let node = name(node);
                format!(
                    "{node} may have written to {resource} alone, and its disk does not tell ({problem}): mend the disk; \
                     or, if such writes may be lost, stop hotpair on {node} and say `hotpair node down {node}`"
                )
            }
            Self::Fence { node, failed: None } => format!("{} is fenced first", name(node)),
            Self::Fence {
                node,
                failed: Some(detail),
            } => {
                let node = name(node);
                format!(
                    "{node} could not be fenced ({detail}), which is tried again; if {node} is surely powered off, \
                     say so with `hotpair node down {node}`"
                )
            }
            Self::Confirmation {
                group,
                node,
                fence,
                limit,
            } => {
                let node = name(node);
                let say = match fence {
                    true => format!("hotpair fence run {node}"),
                    false => format!("hotpair group start {group}"),
                };
                let then = limit.map_or(String::new(), |limit| {
                    let seconds = limit.as_secs_f64();
                    format!(
                        "; without it, it is taken over once {node} has been silent for {seconds} s"
                    )
                });
                format!("{node} is silent, and a takeover needs your word: say `{say}`{then}")
            }
            Self::OperatorAfter { reason } => {
                format!("the operator decides after this: {}", reason.text(config))
            }
            Self::Group {
                group,
                node: Some(node),
            } => format!(
                "{group}, which it must run with, must be on {} first",
                name(node)
            ),
            Self::Group { group, node: None } => {
                format!("{group} must run first: it is started after that")
            }
            Self::Arming => "the cluster is disarmed".into(),
            Self::EndOfMaintenance => "it is in maintenance".into(),
            Self::Enabling => "automatic takeover of it is disabled".into(),
            Self::OperatorStart => "its start mode is manual: the operator starts it".into(),
            Self::OperatorTakeover => {
                "its takeover policy is `never`: the operator takes it over".into()
            }
        }
    }
}
