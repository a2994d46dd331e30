//! Why something was decided: data first, English sentence second.
//!
//! Every decision carries one of these. The console translates by variant; [`std::fmt::Display`]
//! gives the English text for logs and the command line. Members are named by number here; use
//! [`Reason::text`] for the names of a configuration.

use crate::config::Cluster;
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::mirror::Copy;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Reason {
    NotStartedYet,
    /// The best fit node at the first start of the group.
    FirstStart,
    /// No heartbeat on any link.
    NodeDown {
        node: MemberId,
        silent: Duration,
    },
    /// Seen with a new boot id: the host was restarted.
    NodeRebooted {
        node: MemberId,
    },
    NodeLeft {
        node: MemberId,
    },
    /// The operator said that the node is down.
    NodeDeclaredDown {
        node: MemberId,
    },
    /// A resource failed beyond the restarts allowed in place.
    ResourceFailed {
        node: MemberId,
        resource: ResourceId,
        detail: String,
    },
    StartFailed {
        node: MemberId,
        resource: Option<ResourceId>,
        detail: String,
    },
    /// The verdict of the active node together with an abnormal stop.
    Unfit {
        node: MemberId,
        detail: String,
    },
    Operator {
        request: String,
    },
    Failback {
        to: MemberId,
    },
    Drained {
        node: MemberId,
    },
    /// A switchover's target could not start it.
    WentBack {
        from: MemberId,
        detail: String,
    },
    /// It could not run on any node.
    FailedEverywhere {
        detail: String,
    },
    /// A group it must run with, apart from or after moved.
    Relation {
        detail: String,
    },
    ConfigurationChanged {
        revision: u64,
    },
    Pinned {
        why: crate::document::PinReason,
    },
    Unpinned,
    HeldOut {
        node: MemberId,
        times: u32,
        window: Duration,
    },
    Rejoined {
        node: MemberId,
    },
    VotersChanged,
    /// What became of a copy of a mirror.
    Copy {
        resource: ResourceId,
        node: MemberId,
        copy: Copy,
    },
    /// It could not be stopped there, and the policy is to fence the node.
    StopFailed {
        node: MemberId,
        group: GroupId,
        resource: ResourceId,
    },
    /// A fence device said that the node is off.
    NodeFenced {
        node: MemberId,
        by: MemberId,
    },
    /// A node is to be fenced.
    Fencing {
        node: MemberId,
        by: MemberId,
        why: Box<Reason>,
    },
    FenceFailed {
        node: MemberId,
        detail: String,
    },
}

impl Reason {
    /// The English sentence with the names of `config`.
    #[must_use]
    pub fn text(&self, config: &Cluster) -> String {
        self.sentence(&|member| config.name_of(member))
    }

    fn sentence(&self, name: &dyn Fn(MemberId) -> String) -> String {
        use crate::document::PinReason as Pin;
        match self {
            Self::NotStartedYet => "it has not been started yet".into(),
            Self::FirstStart => "first start on the fit node of highest priority".into(),
            Self::NodeDown { node, silent } => {
                format!(
                    "{} sent no heartbeat on any link for {} ms",
                    name(*node),
                    silent.as_millis()
                )
            }
            Self::NodeRebooted { node } => format!("{} was restarted (new boot id)", name(*node)),
            Self::NodeLeft { node } => format!("{} left the cluster in good order", name(*node)),
            Self::NodeDeclaredDown { node } => {
                format!("the operator declared {} down", name(*node))
            }
            Self::ResourceFailed {
                node,
                resource,
                detail,
            } => {
                format!("{resource} failed on {}: {detail}", name(*node))
            }
            Self::StartFailed {
                node,
                resource: Some(resource),
                detail,
            } => {
                format!(
                    "{resource} could not be started on {}: {detail}",
                    name(*node)
                )
            }
            Self::StartFailed {
                node,
                resource: None,
                detail,
            } => {
                format!("it could not be started on {}: {detail}", name(*node))
            }
            Self::Unfit { node, detail } => format!("{} cannot run it: {detail}", name(*node)),
            Self::Operator { request } => format!("the operator asked for it: {request}"),
            Self::Failback { to } => {
                format!("returned to {}, the node of higher priority", name(*to))
            }
            Self::Drained { node } => format!("{} is being drained", name(*node)),
            Self::WentBack { from, detail } => {
                format!(
                    "went back because {} could not start it: {detail}",
                    name(*from)
                )
            }
            Self::FailedEverywhere { detail } => format!("no node could run it: {detail}"),
            Self::Relation { detail } => detail.clone(),
            Self::ConfigurationChanged { revision } => format!("configuration revision {revision}"),
            Self::Pinned { why } => match why {
                Pin::Disarmed => "pinned: the cluster is disarmed".into(),
                Pin::Maintenance => "pinned: it is in maintenance".into(),
                Pin::Wait => {
                    "pinned: without a witness the operator decides about takeovers".into()
                }
                Pin::Never => "pinned: its takeover policy is `never`".into(),
                Pin::WitnessSilent => "pinned: the witness has been silent for 10 s".into(),
                Pin::Fence => "pinned: without a witness a takeover needs its node fenced".into(),
            },
            Self::Unpinned => "its node holds a lease again".into(),
            Self::HeldOut {
                node,
                times,
                window,
            } => {
                format!(
                    "{} failed {times} times within {} s",
                    name(*node),
                    window.as_secs()
                )
            }
            Self::Rejoined { node } => format!("{} is back", name(*node)),
            Self::VotersChanged => "the members with a vote changed".into(),
            Self::Copy {
                resource,
                node,
                copy,
            } => copy.sentence(resource, &name(*node)),
            Self::StopFailed {
                node,
                group,
                resource,
            } => format!(
                "{resource} of {group} could not be stopped on {}",
                name(*node)
            ),
            Self::NodeFenced { node, by } => format!("{} was fenced by {}", name(*node), name(*by)),
            Self::Fencing { node, by, why } => {
                let why = why.sentence(name);
                format!("{} is to be fenced by {}: {why}", name(*node), name(*by))
            }
            Self::FenceFailed { node, detail } => {
                format!("{} could not be fenced: {detail}", name(*node))
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence(&|member| member.to_string()))
    }
}
