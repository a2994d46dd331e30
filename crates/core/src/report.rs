//! What a node says about itself: sent to every member when it changes and every second.

use crate::ids::{Epoch, GroupId, HostBoot, Incarnation, MemberId, ResourceId, Version};
use crate::mirror::MirrorReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node's own account. Newer ones (by boot, incarnation, `number`) replace older ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Report {
    pub from: MemberId,
    pub boot: HostBoot,
    pub incarnation: Incarnation,
    pub number: u64,
    /// The document it acts on.
    pub version: Version,
    pub groups: BTreeMap<GroupId, GroupReport>,
}

/// One group on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct GroupReport {
    /// The epoch this node last ran it in, or was told to; a report about another epoch moves nothing.
    pub epoch: Epoch,
    pub state: GroupState,
    /// Why this node could not run it (empty: fit). Taken on the standby too.
    pub unfit: Vec<String>,
    /// It runs under a lease, so it may be unpinned.
    pub leased: bool,
    pub resources: BTreeMap<ResourceId, ResourceReport>,
    /// What its mirror processes say; one for each mirror that has a copy here and has spoken.
    pub mirrors: BTreeMap<ResourceId, MirrorReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum GroupState {
    /// Nothing of it runs here, and nothing will be started in this epoch without being asked again.
    Stopped,
    Starting,
    Running,
    /// Runs, but a resource has failed or a verdict is bad.
    Degraded {
        detail: String,
    },
    Stopping,
    /// Stopped here after it failed beyond the restarts allowed, or could not be started.
    Failed {
        resource: Option<ResourceId>,
        detail: String,
        while_starting: bool,
    },
    /// Could not be stopped: it may still run. Nobody else may start it.
    StopFailed {
        resource: ResourceId,
        detail: String,
    },
    /// In maintenance: looked at, not acted on.
    Unmanaged {
        running: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct ResourceReport {
    pub state: ResourceState,
    /// Last message: exit code, output line, verdict. Empty if there is nothing to say.
    pub detail: String,
    /// Restarts in place within the window.
    pub restarts: u32,
    /// The operator's restarts it has been through.
    pub restarts_done: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum ResourceState {
    Stopped,
    Starting,
    Running,
    Stopping,
    Failed,
    /// Found running where it should not be.
    RunsUnasked,
    Maintenance,
    Unknown,
}

impl GroupReport {
    /// A group that nothing is known about but that it does not run here.
    #[must_use]
    pub fn stopped(epoch: Epoch) -> Self {
        Self {
            epoch,
            state: GroupState::Stopped,
            unfit: Vec::new(),
            leased: false,
            resources: BTreeMap::new(),
            mirrors: BTreeMap::new(),
        }
    }
}

impl GroupState {
    /// One word for people and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded { .. } => "degraded",
            Self::Stopping => "stopping",
            Self::Failed { .. } => "failed",
            Self::StopFailed { .. } => "stop failed",
            Self::Unmanaged { .. } => "maintenance",
        }
    }

    /// Is nothing of it running here any more?
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(
            self,
            Self::Stopped | Self::Failed { .. } | Self::Unmanaged { running: false }
        )
    }
}
