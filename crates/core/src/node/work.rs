//! The groups of this node: what the document and the guard's permits ask of each.

use super::Action;
use crate::config::{RelationKind, Strength};
use crate::document::{Document, Goal, Placement};
use crate::group::{ActionId, ActionIds, GroupRun, Orders, ResourceFact, Want};
use crate::guard::Hold;
use crate::ids::{Epoch, GroupId, MemberId, ResourceId, Version};
use crate::report::{GroupReport, GroupState};
use crate::time::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Every group of the configuration on this node.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Groups {
    runs: BTreeMap<GroupId, GroupRun>,
    ids: ActionIds,
    /// By the guard's last word; `None` until it has spoken to this run of the daemon, since a
    /// healthy service must not be touched before that.
    permits: Option<BTreeMap<GroupId, Epoch>>,
    /// Groups that the guard holds by the lease alone, and the committed version it has that from.
    leased: (Version, BTreeSet<GroupId>),
}

/// The two documents a node acts on: the newest it keeps, and the newest known to be committed.
/// What the newest takes away is gone at once; what it gives waits until it is committed.
struct Standing<'a> {
    kept: &'a Placement,
    acting: Option<&'a Placement>,
}

impl<'a> Standing<'a> {
    fn of(group: &GroupId, kept: &'a Document, acting: Option<&'a Document>) -> Option<Self> {
        let kept = kept.groups.get(group)?;
        Some(Self {
            kept,
            acting: acting.and_then(|document| document.groups.get(group)),
        })
    }

    fn held_by(&self, me: MemberId) -> bool {
        self.kept.holder == Some(me)
    }

    /// The committed placement, if it gives the same epoch to the same node.
    fn confirmed(&self) -> Option<&'a Placement> {
        self.acting
            .filter(|acting| acting.epoch == self.kept.epoch && acting.holder == self.kept.holder)
    }

    fn pinned(&self) -> bool {
        self.confirmed().is_some_and(Placement::pinned)
    }
}

impl Groups {
    pub fn permit(&mut self, permits: BTreeMap<GroupId, Epoch>) {
        self.permits = Some(permits);
    }

    pub fn lease(&mut self, under: Version, groups: BTreeSet<GroupId>) {
        self.leased = (under, groups);
    }

    /// Does the guard itself say, knowing the committed document this node acts on, that the group's
    /// gate closes with the lease? It may lag behind, be frozen or dead, with a gate that stays open.
    fn leased(&self, group: &GroupId, acting: Option<&Document>) -> bool {
        let (under, groups) = &self.leased;
        groups.contains(group) && acting.is_some_and(|document| document.version <= *under)
    }

    pub fn permits(&self) -> &BTreeMap<GroupId, Epoch> {
        static NONE: BTreeMap<GroupId, Epoch> = BTreeMap::new();
        self.permits.as_ref().unwrap_or(&NONE)
    }

    /// What the guard shall watch over: the groups this node is the holder of.
    pub fn holds(
        &self,
        me: MemberId,
        kept: &Document,
        acting: Option<&Document>,
    ) -> BTreeMap<GroupId, Hold> {
        let mut holds = BTreeMap::new();
        for group in kept.groups.keys() {
            let Some(standing) = Standing::of(group, kept, acting) else {
                continue;
            };
            if !standing.held_by(me) {
                continue;
            }
            let committed = standing
                .confirmed()
                .and(acting)
                .map(|document| document.version);
            let hold = Hold {
                epoch: standing.kept.epoch,
                committed,
                pinned: standing.pinned(),
                margin: margin(kept, group, standing.kept),
            };
            holds.insert(group.clone(), hold);
        }
        holds
    }

    pub fn settle(
        &mut self,
        now: Moment,
        me: MemberId,
        kept: &Document,
        acting: Option<&Document>,
        actions: &mut Vec<Action>,
    ) {
        if self.permits.is_none() {
            return;
        }
        self.runs
            .retain(|group, _| kept.config.groups.contains_key(group));
        for (group, config) in &kept.config.groups {
            let Some(standing) = Standing::of(group, kept, acting) else {
                continue;
            };
            let concerned = config.nodes.contains(&me) || self.runs.contains_key(group);
            if !concerned {
                continue;
            }
            let want = self.want(me, group, kept, &standing);
            let run = self
                .runs
                .entry(group.clone())
                .or_insert_with(|| GroupRun::new(group.clone()));
            let orders = orders(me, kept, config, &standing, want, run);
            let work = run.settle(now, &orders, &mut self.ids);
            actions.extend(work.into_iter().map(Action::Resource));
        }
    }

    fn want(&self, me: MemberId, group: &GroupId, kept: &Document, standing: &Standing) -> Want {
        let permitted =
            standing.held_by(me) && self.permits().get(group) == Some(&standing.kept.epoch);
        let down = self.runs.get(group).is_none_or(GroupRun::is_down);
        if !permitted {
            return if down { Want::Stop } else { Want::Gone };
        }
        // Stopping in good order waits until it is known to be decided; starting does not begin
        // once it may have been decided.
        let runs =
            |placement: &Placement| placement.goal == Goal::Run && placement.moving.is_none();
        let decided = standing.confirmed().unwrap_or(standing.kept);
        if runs(decided) && (!down || runs(standing.kept) && !self.comes_after(me, group, kept)) {
            Want::Run
        } else {
            Want::Stop
        }
    }

    /// It is to be started after another group that this node holds and has not started yet. The
    /// planner sees to the order when it gives groups; this is for a node that starts again what it
    /// has held all along.
    fn comes_after(&self, me: MemberId, group: &GroupId, kept: &Document) -> bool {
        let config = kept.config.groups.get(group);
        let relations = config.into_iter().flat_map(|config| &config.relations);
        let mut after = relations.filter(|relation| relation.kind == RelationKind::After);
        after.any(|relation| {
            let other = &relation.group;
            let Some(placement) = kept.groups.get(other) else {
                return false;
            };
            let here = placement.holder == Some(me)
                && placement.goal == Goal::Run
                && placement.moving.is_none();
            let permitted = self.permits().get(other) == Some(&placement.epoch);
            let hard = relation.strength == Strength::Hard;
            here && match self.runs.get(other).map(GroupRun::state) {
                Some(
                    GroupState::Running
                    | GroupState::Degraded { .. }
                    | GroupState::Unmanaged { running: true },
                ) => false,
                Some(
                    GroupState::Failed { .. }
                    | GroupState::StopFailed { .. }
                    | GroupState::Unmanaged { running: false },
                ) => hard,
                None | Some(GroupState::Stopped | GroupState::Starting | GroupState::Stopping) => {
                    hard || permitted
                }
            }
        })
    }

    pub fn reports(
        &self,
        me: MemberId,
        kept: &Document,
        acting: Option<&Document>,
        lease_held: bool,
    ) -> BTreeMap<GroupId, GroupReport> {
        let mut reports = BTreeMap::new();
        for (group, run) in &self.runs {
            let (Some(config), Some(standing)) = (
                kept.config.groups.get(group),
                Standing::of(group, kept, acting),
            ) else {
                continue;
            };
            let want = self.want(me, group, kept, &standing);
            let leased = lease_held && want != Want::Gone && self.leased(group, acting);
            let orders = orders(me, kept, config, &standing, want, run);
            reports.insert(group.clone(), run.report(&orders, leased));
        }
        reports
    }

    pub fn done(&mut self, now: Moment, id: ActionId, result: Result<(), String>) {
        let result = result.map_err(bounded);
        for run in self.runs.values_mut() {
            run.done(now, id, result.clone());
        }
    }

    /// False if it was known already.
    pub fn fact(
        &mut self,
        now: Moment,
        group: &GroupId,
        resource: &ResourceId,
        fact: ResourceFact,
    ) -> bool {
        let run = self
            .runs
            .entry(group.clone())
            .or_insert_with(|| GroupRun::new(group.clone()));
        run.fact(now, resource, bounded_fact(fact))
    }

    /// See [`GroupRun::cause`].
    pub fn cause(&self, group: &GroupId, resource: &ResourceId) -> Option<String> {
        self.runs.get(group)?.cause(resource)
    }

    /// The group has failed here and is being stopped, or was.
    pub fn has_given_up(&self, group: &GroupId) -> bool {
        self.runs.get(group).is_some_and(GroupRun::has_given_up)
    }

    pub fn clear(&mut self, group: &GroupId) {
        if let Some(run) = self.runs.get_mut(group) {
            run.clear();
        }
    }

    /// Nothing is due while the guard's word is waited for: nothing is done before it.
    pub fn deadline(&self) -> Option<Moment> {
        self.permits.as_ref()?;
        self.runs.values().filter_map(GroupRun::deadline).min()
    }
}

/// What programs print goes into reports and the document, which must stay small.
const LONGEST_DETAIL: usize = 400;

fn bounded(mut detail: String) -> String {
    if let Some((cut, _)) = detail.char_indices().nth(LONGEST_DETAIL) {
        detail.truncate(cut);
        detail.push('…');
    }
    detail
}

fn bounded_fact(fact: ResourceFact) -> ResourceFact {
    match fact {
        ResourceFact::Detected { running, detail } => ResourceFact::Detected {
            running,
            detail: bounded(detail),
        },
        ResourceFact::Exited { epoch, detail } => ResourceFact::Exited {
            epoch,
            detail: bounded(detail),
        },
        ResourceFact::Verdict { problems } => ResourceFact::Verdict {
            problems: problems.into_iter().take(8).map(bounded).collect(),
        },
        ResourceFact::Adopted { epoch } => ResourceFact::Adopted { epoch },
    }
}

fn orders<'a>(
    me: MemberId,
    document: &Document,
    config: &'a crate::config::Group,
    standing: &Standing<'a>,
    want: Want,
    run: &GroupRun,
) -> Orders<'a> {
    let placement = standing.kept;
    // As with the group: a stop waits until it is known to be decided, a start does not begin once a
    // stop may have been.
    let decided = standing.confirmed().unwrap_or(placement);
    let mut stopped = decided.stopped_resources.clone();
    let soon = placement.stopped_resources.iter();
    stopped.extend(soon.filter(|&id| run.is_stopped(id)).cloned());
    let node_maintenance = document
        .members
        .get(&me)
        .is_some_and(|member| member.maintenance);
    Orders {
        me,
        config,
        epoch: placement.epoch,
        want,
        maintenance: placement.maintenance
            || placement.maintenance_on.contains(&me)
            || node_maintenance,
        maintenance_resources: &placement.maintenance_resources,
        stopped,
        restarts: &decided.restarts,
    }
}

/// Effects that no gate stops may last a while after a silent holder's lease.
fn margin(document: &Document, group: &GroupId, placement: &Placement) -> Duration {
    let ungated = document
        .config
        .groups
        .get(group)
        .is_some_and(|config| config.ungated);
    if ungated && placement.abrupt {
        document.config.timing.ungated_margin
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_output_is_cut_at_a_character() {
        let cut = bounded("失败".repeat(1000));
        assert_eq!(cut.chars().count(), LONGEST_DETAIL + 1);
        assert_eq!(bounded("exit code 1".into()), "exit code 1");
    }
}
