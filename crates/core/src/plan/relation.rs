//! Relations between groups: with another one, apart from another one, after another one.
//!
//! They only restrict where and when the planner *gives* a group; that a group runs on one node only
//! never rests on them. A hard `with` or `apart` is an obstacle: no node that breaks it is fit, and a
//! running group that breaks it leaves. A preferred one only chooses among fit nodes; it moves nothing
//! that runs. `after` delays a start, and stops nothing.
//!
//! `with` has a direction: the *companion* goes where the group it names is, or is going. Groups that
//! hang on each other by hard `with` are one *party*; the one that follows nobody is its *host*, and
//! decides where all of them are. `apart` holds both ways, whichever of the two says it.
//!
//! What is given keeps this, in every document: a companion's holder is its leader's holder too, and
//! no other group that must be apart has that holder. A move of the leader, or a new configuration,
//! may break the first; the next plans mend it.
//!
//! It comes to rest: a running group is moved for its own sake by a hard relation only towards a place
//! where it breaks none, and returns (failback) only where it breaks no more than where it is.

use super::{Change, Draft, Obstacle, WaitFor};
use crate::config::{RelationKind, Strength, Takeover};
use crate::document::Goal;
use crate::ids::{GroupId, MemberId};
use crate::reason::Reason;
use crate::report::GroupState;
use std::cmp::Reverse;
use std::collections::BTreeSet;

impl Draft<'_> {
    /// Where the group is, or is going; `None` if it runs nowhere or is being stopped.
    fn place(&self, group: &GroupId) -> Option<MemberId> {
        let placement = self.placement(group);
        match &placement.moving {
            Some(moving) => moving.to,
            None if placement.goal == Goal::Run => placement.holder,
            None => None,
        }
    }

    /// It may run on `node` now, or is on its way there.
    fn occupies(&self, group: &GroupId, node: MemberId) -> bool {
        let still_there = || {
            let report = self.group_report(node, group);
            report.is_some_and(|report| !report.state.is_down()) && !self.declared_down(node)
        };
        self.placement(group).holder == Some(node)
            || self.place(group) == Some(node)
            || still_there()
    }

    /// The group that this one must be with.
    pub(crate) fn leader_of(&self, group: &GroupId) -> Option<&GroupId> {
        self.related(group, RelationKind::With, Strength::Hard)
            .next()
    }

    fn related(
        &self,
        group: &GroupId,
        kind: RelationKind,
        strength: Strength,
    ) -> impl Iterator<Item = &GroupId> {
        let config = self.document.config.groups.get(group);
        let relations = config.into_iter().flat_map(|config| &config.relations);
        relations
            .filter(move |relation| relation.kind == kind && relation.strength == strength)
            .map(|relation| &relation.group)
    }

    /// Groups that are to be apart from this one, whichever of the two says so.
    fn apart(&self, group: &GroupId, strength: Strength) -> BTreeSet<&GroupId> {
        let kind = RelationKind::Apart;
        let others = self.document.config.groups.keys().filter(|&other| {
            other != group && self.related(other, kind, strength).any(|it| it == group)
        });
        others.chain(self.related(group, kind, strength)).collect()
    }

    /// Whom the group is with in the end: itself, if it follows nobody.
    pub(crate) fn host(&self, group: &GroupId) -> GroupId {
        let mut host = group;
        // A checked configuration has no cycle; the bound holds for any.
        for _ in 0..self.document.config.groups.len() {
            match self.leader_of(host) {
                Some(next) => host = next,
                None => break,
            }
        }
        host.clone()
    }

    /// Does it go, over any number of others, where `leader` goes?
    fn follows(&self, group: &GroupId, leader: &GroupId) -> bool {
        let mut at = group;
        for _ in 0..self.document.config.groups.len() {
            match self.leader_of(at) {
                Some(next) if next == leader => return true,
                Some(next) => at = next,
                None => return false,
            }
        }
        false
    }

    /// Groups that shall run, are somewhere, and go where this one goes.
    pub(crate) fn companions(&self, group: &GroupId) -> Vec<GroupId> {
        let groups = self.document.config.groups.keys();
        groups
            .filter(|&other| other != group && self.follows(other, group))
            .filter(|&other| {
                let placement = self.placement(other);
                placement.holder.is_some() && placement.goal == Goal::Run
            })
            .cloned()
            .collect()
    }

    /// Could `node` run the group once the group that it follows is there?
    pub(crate) fn fit_as_companion(&self, group: &GroupId, node: MemberId) -> bool {
        self.fit_but_for(group, node, |o| matches!(o, Obstacle::With { .. }))
    }

    /// The fit node, other than `except`, that all its companions can go to as well; none while it
    /// could not be started again there.
    pub(crate) fn best_with_companions(
        &self,
        group: &GroupId,
        except: &[MemberId],
    ) -> Option<MemberId> {
        if self.held_back_for_good(group) {
            return None;
        }
        let companions = self.companions(group);
        let config = self.document.config.groups.get(group)?;
        let nodes = config.nodes.iter().copied();
        nodes
            .filter(|node| !except.contains(node) && self.fitness(group, *node).is_fit())
            .filter(|&node| {
                let mut all = companions.iter();
                all.all(|one| self.fit_as_companion(one, node) && !self.held_back_for_good(one))
            })
            .min_by_key(|&node| self.strain(group, node))
    }

    pub(super) fn relation_obstacles(
        &self,
        group: &GroupId,
        node: MemberId,
        obstacles: &mut Vec<Obstacle>,
    ) {
        for other in self.related(group, RelationKind::With, Strength::Hard) {
            let place = self.place(other);
            if place != Some(node) {
                obstacles.push(Obstacle::With {
                    group: other.clone(),
                    on: place.map(|place| self.document.config.name_of(place)),
                });
            }
        }
        for other in self.apart(group, Strength::Hard) {
            if self.occupies(other, node) {
                let group = other.clone();
                obstacles.push(Obstacle::Apart { group });
            }
        }
    }

    /// Preferred relations that the group would break on `node`, and companions that cannot follow.
    pub(super) fn strain(&self, group: &GroupId, node: MemberId) -> usize {
        let config = self.document.config.groups.get(group);
        if config.is_none_or(|config| config.takeover == Takeover::HighestOnly) {
            return 0;
        }
        let with = self
            .related(group, RelationKind::With, Strength::Preferred)
            .filter(|other| self.place(other).is_some_and(|place| place != node));
        let apart = self.apart(group, Strength::Preferred);
        let apart = apart.iter().filter(|other| self.occupies(other, node));
        let left = self.companions(group);
        let left = left
            .iter()
            .filter(|other| !self.fit_as_companion(other, node));
        with.count() + apart.count() + left.count()
    }

    /// Why a group that is on `holder` must not be there, by a hard relation.
    pub(super) fn misplaced(&self, group: &GroupId, holder: MemberId) -> Option<Reason> {
        if let Some(other) = self.leader_of(group) {
            let detail = match self.place(other) {
                Some(place) if place == holder => None,
                Some(place) => Some(format!(
                    "it must run with {other}, which goes to {}",
                    self.document.config.name_of(place)
                )),
                None => Some(format!("it must run with {other}, which does not run")),
            };
            if let Some(detail) = detail {
                return Some(Reason::Relation { detail });
            }
        }
        let rank = |id: &GroupId| {
            let config = self.document.config.groups.get(id);
            (config.map_or(0, |g| g.priority), Reverse(id.clone()))
        };
        let others = self.apart(group, Strength::Hard);
        let stronger = others
            .into_iter()
            .find(|&other| self.place(other) == Some(holder) && rank(other) > rank(group))?;
        Some(Reason::Relation {
            detail: format!("it must run apart from {stronger}, which is there too"),
        })
    }

    /// What must come about before the group is given to `to`, which is fit.
    pub(crate) fn held_back(&self, group: &GroupId, to: MemberId) -> Option<WaitFor> {
        if let Some(leader) = self.leader_of(group)
            && self.placement(leader).holder != Some(to)
        {
            return Some(WaitFor::Group {
                group: leader.clone(),
                node: Some(to),
            });
        }
        self.comes_after(group).map(|other| WaitFor::Group {
            group: other.clone(),
            node: None,
        })
    }

    /// The group that must run before this one is started, and does not; a preferred one is waited
    /// for only while it is about to run.
    pub(crate) fn comes_after(&self, group: &GroupId) -> Option<&GroupId> {
        let mut hard = self.related(group, RelationKind::After, Strength::Hard);
        let mut preferred = self.related(group, RelationKind::After, Strength::Preferred);
        hard.find(|other| !self.runs(other))
            .or_else(|| preferred.find(|other| !self.runs(other) && self.on_its_way(other)))
    }

    /// Stopped now, it could not be started again for as long as the operator says nothing.
    fn held_back_for_good(&self, group: &GroupId) -> bool {
        self.related(group, RelationKind::After, Strength::Hard)
            .any(|other| !self.runs(other) && !self.on_its_way(other))
    }

    /// Its holder says so, in the present epoch.
    fn runs(&self, group: &GroupId) -> bool {
        let placement = self.placement(group);
        let Some(holder) = placement.holder else {
            return false;
        };
        self.online(holder)
            && placement.moving.is_none()
            && self.group_report(holder, group).is_some_and(|report| {
                report.epoch == placement.epoch
                    && matches!(
                        report.state,
                        GroupState::Running
                            | GroupState::Degraded { .. }
                            | GroupState::Unmanaged { running: true }
                    )
            })
    }

    /// Somebody there is to run it, and has not failed to.
    fn on_its_way(&self, group: &GroupId) -> bool {
        let Some(place) = self.place(group) else {
            return false;
        };
        let epoch = self.placement(group).epoch;
        self.gone(place).is_none()
            && !self.group_report(place, group).is_some_and(|report| {
                report.epoch == epoch
                    && matches!(
                        report.state,
                        GroupState::Failed { .. } | GroupState::StopFailed { .. }
                    )
            })
    }

    /// Groups as they are planned: by priority, but each one after those it is with or after.
    pub(super) fn order(&self) -> Vec<GroupId> {
        let groups = &self.document.config.groups;
        let mut wanted: Vec<&GroupId> = groups.keys().collect();
        wanted.sort_by_key(|&id| Reverse(groups[id].priority));
        let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
        for group in wanted {
            // What is being visited, and whether those before it have been; each at most twice.
            let mut stack = vec![(group, false)];
            while let Some((group, ready)) = stack.pop() {
                if ready {
                    order.push(group.clone());
                } else if seen.insert(group) {
                    stack.push((group, true));
                    let relations = groups.get(group).into_iter().flat_map(|g| &g.relations);
                    let before = relations
                        .filter(|relation| relation.kind != RelationKind::Apart)
                        .filter_map(|relation| groups.get_key_value(&relation.group));
                    stack.extend(before.map(|(id, _)| (id, false)));
                }
            }
        }
        order
    }
}

/// A companion has failed where its party is, and may not go anywhere alone: the whole party moves to a
/// node that can run all of it. `None`: there is no such node, or the host may not be moved.
pub(super) fn move_party(
    draft: &mut Draft<'_>,
    group: &GroupId,
    holder: MemberId,
) -> Option<MemberId> {
    draft.leader_of(group)?;
    let host = draft.host(group);
    let settled = {
        let placement = draft.placement(&host);
        placement.holder == Some(holder)
            && placement.moving.is_none()
            && placement.goal == Goal::Run
    };
    if !settled || super::step::bar(draft, &host).is_some() {
        return None;
    }
    let first_only = draft.group(&host).takeover == Takeover::HighestOnly;
    let first = draft.group(&host).nodes.first().copied();
    let to = draft
        .best_with_companions(&host, &[holder])
        .filter(|&to| !first_only || first == Some(to))?;
    let detail = format!("{group} failed on this node, and both run together");
    draft.change(Change::Move {
        group: host,
        to: Some(to),
        reason: Reason::Relation { detail },
        by_operator: false,
    });
    Some(to)
}
