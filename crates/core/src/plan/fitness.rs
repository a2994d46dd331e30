//! May this node be given that group, and if not, why not.

use super::{Draft, Presence};
use crate::config::Cluster;
use crate::document::Failure;
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::mirror::Copy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of one node for one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fitness {
    Fit,
    /// At least one obstacle.
    Unfit(Vec<Obstacle>),
}

/// Something that keeps a node from being given a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Obstacle {
    NotListed,
    Silent,
    Down,
    NeverHeard,
    NoReport,
    /// A verdict error: what the node itself says.
    Verdict(String),
    HeldOut,
    Drained,
    Left,
    NodeMaintenance,
    GroupMaintenance,
    GroupMaintenanceHere,
    DisabledHere,
    FailedHere(Failure),
    /// Its copy of the mirror's data must not be used. `up_to_date_on`: names of the nodes whose copy may.
    Data {
        resource: ResourceId,
        copy: Option<Copy>,
        up_to_date_on: Vec<String>,
    },
    /// Its copy is up to date by the document, but its disk is not as it should be.
    DataDisk {
        resource: ResourceId,
        problem: String,
    },
    /// Its mirror process has not looked at its disk yet.
    DataUnknown {
        resource: ResourceId,
    },
    /// It must run with that group, which is elsewhere (`on`: name of the node) or runs nowhere.
    With {
        group: GroupId,
        on: Option<String>,
    },
    /// It must run apart from that group, which is there.
    Apart {
        group: GroupId,
    },
}

impl Fitness {
    #[must_use]
    pub fn is_fit(&self) -> bool {
        *self == Self::Fit
    }

    /// The obstacles in words; empty if fit.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Fit => Vec::new(),
            Self::Unfit(obstacles) => obstacles.iter().map(Obstacle::text).collect(),
        }
    }

    #[must_use]
    pub fn text(&self, _config: &Cluster) -> String {
        match self {
            Self::Fit => "fit".into(),
            Self::Unfit(_) => format!("unfit: {}", self.reasons().join("; ")),
        }
    }

    /// Every obstacle may pass by itself within moments: worth waiting for.
    pub(super) fn may_pass(&self) -> bool {
        self.only(Obstacle::may_pass)
    }

    /// The same while a cluster is started: who left in good order may be about to be started too.
    pub(super) fn may_come(&self) -> bool {
        self.only(|obstacle| obstacle.may_pass() || *obstacle == Obstacle::Left)
    }

    fn only(&self, such: impl Fn(&Obstacle) -> bool) -> bool {
        match self {
            Self::Fit => true,
            Self::Unfit(obstacles) => obstacles.iter().all(such),
        }
    }
}

impl Obstacle {
    fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Silent | Self::NoReport | Self::NeverHeard | Self::DataUnknown { .. }
        )
    }

    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::NotListed => "it is not in the group's list of nodes".into(),
            Self::Silent => "it is silent".into(),
            Self::Down => "it is down".into(),
            Self::NeverHeard => "it has not been heard yet".into(),
            Self::NoReport => "it has not reported about this group yet".into(),
            Self::Verdict(problem) => problem.clone(),
            Self::HeldOut => "it failed too often and is held out".into(),
            Self::Drained => "it is drained".into(),
            Self::Left => "it has left the cluster".into(),
            Self::NodeMaintenance => "it is in maintenance".into(),
            Self::GroupMaintenance => "the group is in maintenance".into(),
            Self::GroupMaintenanceHere => "the group is in maintenance there".into(),
            Self::DisabledHere => "automatic takeover is disabled there".into(),
            Self::FailedHere(failure) => match &failure.resource {
                Some(resource) => format!("{resource} failed there: {}", failure.detail),
                None => format!("it failed there: {}", failure.detail),
            },
            Self::Data {
                resource,
                copy,
                up_to_date_on,
            } => data_text(resource, *copy, up_to_date_on),
            Self::DataDisk { resource, problem } => format!("{resource}: {problem}"),
            Self::DataUnknown { resource } => {
                format!("the disk of {resource} has not been looked at yet")
            }
            Self::With {
                group,
                on: Some(node),
            } => format!("it must run with {group}, which is on {node}"),
            Self::With { group, on: None } => {
                format!("it must run with {group}, which does not run")
            }
            Self::Apart { group } => format!("it must run apart from {group}, which is there"),
        }
    }
}

fn data_text(resource: &ResourceId, copy: Option<Copy>, up_to_date_on: &[String]) -> String {
    let state = match copy {
        None => format!("it keeps no copy of {resource}"),
        Some(Copy::Diverged { .. }) => {
            format!("split-brain: its copy of {resource} and the other one have different writes")
        }
        Some(copy) => format!("its copy of {resource} is {}", copy.name()),
    };
    match up_to_date_on {
        [] => state,
        names => format!("{state}; waits for {}", names.join(" or ")),
    }
}

impl Draft<'_> {
    /// May `node` be given `group`?
    pub(crate) fn fitness(&self, group: &GroupId, node: MemberId) -> Fitness {
        let mut obstacles = Vec::new();
        let listed = self
            .document
            .config
            .groups
            .get(group)
            .is_some_and(|config| config.nodes.contains(&node));
        if !listed {
            obstacles.push(Obstacle::NotListed);
        }
        self.presence_obstacles(group, node, &mut obstacles);
        let member = self.membership(node);
        let placement = self.placement(group);
        let facts = [
            (member.held_out, Obstacle::HeldOut),
            (member.drained, Obstacle::Drained),
            (member.left, Obstacle::Left),
            (member.maintenance, Obstacle::NodeMaintenance),
            (placement.maintenance, Obstacle::GroupMaintenance),
            (
                placement.maintenance_on.contains(&node),
                Obstacle::GroupMaintenanceHere,
            ),
            (
                placement.disabled_on.contains(&node),
                Obstacle::DisabledHere,
            ),
        ];
        obstacles.extend(facts.into_iter().filter_map(|(is, o)| is.then_some(o)));
        self.data_obstacles(group, node, &mut obstacles);
        self.relation_obstacles(group, node, &mut obstacles);
        if let Some(failure) = placement.failed_on.get(&node) {
            obstacles.push(Obstacle::FailedHere(failure.clone()));
        }
        if obstacles.is_empty() {
            Fitness::Fit
        } else {
            Fitness::Unfit(obstacles)
        }
    }

    fn presence_obstacles(&self, group: &GroupId, node: MemberId, obstacles: &mut Vec<Obstacle>) {
        match self.presence(node) {
            Presence::Online { .. } => match self.group_report(node, group) {
                None => obstacles.push(Obstacle::NoReport),
                Some(report) => {
                    obstacles.extend(report.unfit.iter().cloned().map(Obstacle::Verdict));
                }
            },
            Presence::Silent { .. } => obstacles.push(Obstacle::Silent),
            Presence::Down { .. } => obstacles.push(Obstacle::Down),
            Presence::NeverHeard => obstacles.push(Obstacle::NeverHeard),
        }
    }

    /// Fit but for the obstacles `ignored` says do not count.
    pub(crate) fn fit_but_for(
        &self,
        group: &GroupId,
        node: MemberId,
        ignored: impl Fn(&Obstacle) -> bool,
    ) -> bool {
        match self.fitness(group, node) {
            Fitness::Fit => true,
            Fitness::Unfit(obstacles) => obstacles.iter().all(ignored),
        }
    }

    pub(crate) fn fitness_of_all(&self, group: &GroupId) -> BTreeMap<MemberId, Fitness> {
        let Some(config) = self.document.config.groups.get(group) else {
            return BTreeMap::new();
        };
        let nodes = config.nodes.iter();
        nodes
            .map(|&node| (node, self.fitness(group, node)))
            .collect()
    }

    /// The fit node, other than `except`, that breaks fewest preferred relations; of those the one of
    /// highest priority.
    pub(crate) fn best_node(&self, group: &GroupId, except: Option<MemberId>) -> Option<MemberId> {
        let config = self.document.config.groups.get(group)?;
        let nodes = config.nodes.iter().copied();
        nodes
            .filter(|&node| Some(node) != except && self.fitness(group, node).is_fit())
            .min_by_key(|&node| self.strain(group, node))
    }
}
