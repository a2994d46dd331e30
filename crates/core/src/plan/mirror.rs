//! Mirrors: what the document shall say about each copy, from what the mirror processes report.
//!
//! At most one step for each mirror and call. The rules, and why they keep every acknowledged write,
//! stand in `docs/internals/mirror.md`.

use super::{Change, Draft, Obstacle};
use crate::config::{Mirror, OnSplitBrain};
use crate::document::{Document, Goal};
use crate::fault::{Fault as Bug, planted};
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::mirror::{Copy, Data, Disk, Generation, MirrorReport};
use crate::reason::Reason;
use crate::report::GroupState;
use std::collections::BTreeSet;

pub(super) fn plan(draft: &mut Draft<'_>, group: &GroupId) {
    for (resource, mirror) in draft.group(group).mirrors() {
        let Some(data) = draft.placement(group).mirrors.get(resource).cloned() else {
            continue;
        };
        let case = Case {
            group,
            resource,
            mirror,
            data: &data,
        };
        let change = adopted(draft, &case)
            .or_else(|| going_alone(draft, &case))
            .or_else(|| completed(draft, &case))
            .or_else(|| copies(draft, &case))
            .or_else(|| split_brain(draft, &case));
        if let Some(change) = change {
            draft.change(change);
        }
    }
}

struct Case<'a> {
    group: &'a GroupId,
    resource: &'a ResourceId,
    mirror: &'a Mirror,
    data: &'a Data,
}

impl Case<'_> {
    /// Is the report about the data as it is now?
    fn knows(&self, report: &MirrorReport) -> bool {
        let now = (report.id, report.serial) == (self.data.id, self.data.serial);
        now || planted(Bug::StaleMirrorReport)
    }

    fn set(&self, node: MemberId, copy: Copy) -> Change {
        Change::SetCopy {
            group: self.group.clone(),
            resource: self.resource.clone(),
            node,
            copy,
            why: Reason::Copy {
                resource: self.resource.clone(),
                node,
                copy,
            },
        }
    }
}

/// What the holder's mirror process says as the active side of the present epoch, knowing the present
/// data.
fn active<'a>(draft: &Draft<'a>, case: &Case<'_>) -> Option<(MemberId, &'a MirrorReport)> {
    let placement = draft.placement(case.group);
    let holder = placement.holder?;
    let report = draft.mirror_report(holder, case.group, case.resource)?;
    (case.knows(report) && report.opened == Some(placement.epoch)).then_some((holder, report))
}

/// An up-to-date copy went on alone on its own mark, and nobody went on elsewhere: its generation is
/// the data's from now on.
fn adopted(draft: &Draft<'_>, case: &Case<'_>) -> Option<Change> {
    let holder = draft.placement(case.group).holder;
    let data = case.data;
    let (node, solo) = data.up_to_date().find_map(|node| {
        let report = draft.mirror_report(node, case.group, case.resource)?;
        let Disk::Attached {
            generation,
            solo: Some(solo),
            consistent: true,
            ..
        } = report.disk
        else {
            return None;
        };
        let alone = data.up_to_date().all(|other| other == node);
        let base =
            generation == data.generation || alone && data.ancestors.last() == Some(&generation);
        let elsewhere = holder.is_some_and(|holder| holder != node);
        (case.knows(report) && base && solo != data.generation && !elsewhere)
            .then_some((node, solo))
    })?;
    let lacking = data.copies.keys().copied().filter(|&other| other != node);
    Some(Change::GoAlone {
        group: case.group.clone(),
        resource: case.resource.clone(),
        lacking: lacking.collect(),
        solo: Some(solo),
    })
}

/// The active side has a write to acknowledge that some copies missed.
fn going_alone(draft: &Draft<'_>, case: &Case<'_>) -> Option<Change> {
    let (holder, report) = active(draft, case)?;
    let copies = case.data.copies.keys().copied();
    let lacking: BTreeSet<MemberId> = copies.filter(|node| report.lacks.contains(node)).collect();
    let left = case.data.up_to_date().any(|node| !lacking.contains(&node));
    if lacking.is_empty() || !left || spared(draft, case, holder, &lacking) {
        return None;
    }
    Some(Change::GoAlone {
        group: case.group.clone(),
        resource: case.resource.clone(),
        lacking,
        solo: None,
    })
}

/// The holder is on its way out, and a node whose copy it would leave behind can take over: it must
/// not take its only successor with it. What it could not acknowledge fails.
fn spared(
    draft: &Draft<'_>,
    case: &Case<'_>,
    holder: MemberId,
    lacking: &BTreeSet<MemberId>,
) -> bool {
    let placement = draft.placement(case.group);
    let stays_stopped = placement.goal != Goal::Run
        || (placement.moving.as_ref()).is_some_and(|moving| moving.to.is_none());
    let leaving = match draft.group_report(holder, case.group).map(|r| &r.state) {
        Some(GroupState::Failed { .. } | GroupState::StopFailed { .. }) => true,
        Some(GroupState::Stopping) => !stays_stopped,
        _ => false,
    };
    leaving
        && lacking
            .iter()
            .any(|&node| case.data.is_up_to_date(node) && draft.fitness(case.group, node).is_fit())
}

/// The active side says that a copy has everything again.
fn completed(draft: &Draft<'_>, case: &Case<'_>) -> Option<Change> {
    let (_, report) = active(draft, case)?;
    let (&node, _) = case.data.copies.iter().find(|(node, copy)| {
        copy.is_target() && report.complete.contains(node) && !report.lacks.contains(node)
    })?;
    Some(case.set(node, Copy::UpToDate))
}

/// What the disks say of themselves.
fn copies(draft: &Draft<'_>, case: &Case<'_>) -> Option<Change> {
    let holder = draft.placement(case.group).holder;
    case.data.copies.iter().find_map(|(&node, &copy)| {
        let report = draft.mirror_report(node, case.group, case.resource)?;
        // What it says may be older than what the holder said of it.
        if !case.knows(report) {
            return None;
        }
        // The active side's own copy is its own word's matter.
        if holder == Some(node) && (report.open || copy == Copy::UpToDate) {
            return None;
        }
        let next = next(case, node, copy, &report.disk)?;
        (next != copy).then(|| case.set(node, next))
    })
}

/// What a copy is now, by its disk; `None`: what it was.
fn next(case: &Case<'_>, node: MemberId, copy: Copy, disk: &Disk) -> Option<Copy> {
    let data = case.data;
    let another = data.up_to_date().any(|other| other != node);
    let found = match disk {
        Disk::Unknown => return None,
        Disk::Blank { .. } | Disk::Failed(_) => Copy::Lost,
        Disk::Attached { .. } => attached(data, disk),
    };
    match copy {
        Copy::New { .. } if !fresh(disk) => None,
        Copy::New { .. } if data.is_unborn() && node == case.mirror.source => Some(Copy::UpToDate),
        Copy::New { .. } => Some(Copy::Inconsistent),
        // A disk that cannot be used now may be late; its node is unfit meanwhile.
        Copy::UpToDate if data.fits(disk) || !another || found == Copy::Lost => None,
        Copy::UpToDate | Copy::Outdated | Copy::Lost => Some(found),
        // It becomes consistent again only by a resynchronisation that ends.
        Copy::Inconsistent if found == Copy::Outdated => None,
        Copy::Inconsistent => Some(found),
        Copy::Diverged { .. } | Copy::GivenUp { .. } => None,
    }
}

/// It bears a mark under which nothing was ever written.
fn fresh(disk: &Disk) -> bool {
    matches!(
        disk,
        Disk::Attached {
            generation: Generation::NONE,
            solo: None,
            ..
        }
    )
}

/// The state of a disk with our mark that is not up to date.
fn attached(data: &Data, disk: &Disk) -> Copy {
    let Disk::Attached {
        generation,
        consistent,
        solo,
        written,
        ..
    } = disk
    else {
        return Copy::Lost;
    };
    if !consistent {
        return Copy::Inconsistent;
    }
    // A mark set before a write that then was not acknowledged says nothing.
    let own = solo.filter(|_| *written);
    let foreign = *generation != Generation::NONE && !data.descends_from(*generation);
    match own {
        _ if planted(Bug::IgnoreDivergence) => Copy::Outdated,
        Some(generation) => Copy::Diverged { generation },
        None if foreign => Copy::Diverged {
            generation: *generation,
        },
        None => Copy::Outdated,
    }
}

/// Copies with writes of their own: by policy, else the operator chooses.
fn split_brain(draft: &Draft<'_>, case: &Case<'_>) -> Option<Change> {
    let (node, generation) = case
        .data
        .copies
        .iter()
        .find_map(|(&node, copy)| match copy {
            Copy::Diverged { generation } => Some((node, *generation)),
            _ => None,
        })?;
    let others = || case.data.copies.keys().filter(|&&other| other != node);
    let mut reports = others().map(|&other| draft.mirror_report(other, case.group, case.resource));
    let idle = reports.all(|report| report.is_some_and(|report| !report.open));
    let unwritten = others().all(|&other| {
        let report = draft.mirror_report(other, case.group, case.resource);
        matches!(
            report.map(|report| &report.disk),
            Some(Disk::Attached {
                written: false,
                solo: None,
                ..
            })
        )
    });
    match case.mirror.on_split_brain {
        OnSplitBrain::Younger => Some(case.set(node, Copy::GivenUp { generation })),
        OnSplitBrain::Older if idle && known(draft, case, node) => {
            draft.keeping(case.group, case.resource, node)
        }
        OnSplitBrain::WithChanges if idle && unwritten && known(draft, case, node) => {
            draft.keeping(case.group, case.resource, node)
        }
        _ => None,
    }
}

/// The copy came from this mirror's data by a mark of its own, not from who knows where.
fn known(draft: &Draft<'_>, case: &Case<'_>, node: MemberId) -> bool {
    let report = draft.mirror_report(node, case.group, case.resource);
    matches!(
        report.map(|report| &report.disk),
        Some(Disk::Attached { generation, solo: Some(_), .. }) if case.data.descends_from(*generation)
    )
}

impl<'a> Draft<'a> {
    /// The newest word of `node`'s mirror process, while the node is online.
    pub(crate) fn mirror_report(
        &self,
        node: MemberId,
        group: &GroupId,
        resource: &ResourceId,
    ) -> Option<&'a MirrorReport> {
        if !self.online(node) {
            return None;
        }
        self.group_report(node, group)?.mirrors.get(resource)
    }

    /// The copy of `node` is kept; `None` if its disk cannot be used now.
    pub(crate) fn keeping(
        &self,
        group: &GroupId,
        resource: &ResourceId,
        node: MemberId,
    ) -> Option<Change> {
        let data = self.document.groups.get(group)?.mirrors.get(resource)?;
        let report = self.mirror_report(node, group, resource)?;
        if (report.id, report.serial) != (data.id, data.serial) {
            return None;
        }
        match &report.disk {
            // It was made, and has never been synchronised: there is nothing of this mirror on it.
            disk if fresh(disk) && !data.is_unborn() => None,
            Disk::Attached {
                generation,
                consistent: true,
                solo,
                ..
            } => Some(Change::Keep {
                group: group.clone(),
                resource: resource.clone(),
                node,
                generation: *generation,
                solo: *solo,
            }),
            _ => None,
        }
    }

    /// Mirrors of the group that its holder is not known to have closed in good order, as far as it
    /// matters to `to` (`None`: whoever comes next).
    pub(crate) fn unclean(&self, group: &GroupId, to: Option<MemberId>) -> BTreeSet<ResourceId> {
        let placement = self.placement(group);
        let open_ended = |resource: &ResourceId, data: &Data| match placement.holder {
            None => data.unclean,
            // Its own disk says whether it was closed; it asks to be alone by itself.
            Some(holder) if Some(holder) == to => false,
            Some(holder) => {
                let report = self.mirror_report(holder, group, resource);
                let told = self.told_to_stop(group, holder);
                data.unclean || !(told && report.is_some_and(|r| closed(r, placement.epoch)))
            }
        };
        let mirrors = placement.mirrors.iter();
        mirrors
            .filter(|(resource, data)| open_ended(resource, data) && !planted(Bug::TakenForClean))
            .map(|(resource, _)| resource.clone())
            .collect()
    }

    /// The holder reports about the document that asks it to stop, or a newer one: what it says of
    /// its mirrors is not from before it opened them.
    fn told_to_stop(&self, group: &GroupId, holder: MemberId) -> bool {
        let placement = self.placement(group);
        let stops = placement.moving.is_some() || placement.goal != Goal::Run;
        let newest = self
            .report(holder)
            .is_some_and(|report| report.version >= self.view.document.version);
        // What has been given up in an epoch is not started again in it.
        let failed = self.group_report(holder, group).is_some_and(|report| {
            report.epoch == placement.epoch && matches!(report.state, GroupState::Failed { .. })
        });
        failed || stops && newest
    }

    /// Nothing of the group's mirrors is open on the holder, by a report that can be believed about
    /// that.
    pub(crate) fn mirrors_closed(&self, group: &GroupId, holder: MemberId) -> bool {
        let placement = self.placement(group);
        let open = |resource: &ResourceId| {
            let report = self.mirror_report(holder, group, resource);
            report.is_some_and(|report| report.open)
        };
        placement.mirrors.is_empty()
            || (placement.moving.is_none() || self.told_to_stop(group, holder))
                && !placement.mirrors.keys().any(open)
    }

    pub(super) fn data_obstacles(
        &self,
        group: &GroupId,
        node: MemberId,
        obstacles: &mut Vec<Obstacle>,
    ) {
        for (resource, data) in &self.placement(group).mirrors {
            let resource = resource.clone();
            if !data.is_up_to_date(node) && !planted(Bug::PromoteOutdated) {
                obstacles.push(Obstacle::Data {
                    copy: data.copies.get(&node).copied(),
                    up_to_date_on: data
                        .up_to_date()
                        .map(|other| self.document.config.name_of(other))
                        .collect(),
                    resource,
                });
                continue;
            }
            // Who is silent or has not reported is unfit for that.
            let Some(report) = self.group_report(node, group).filter(|_| self.online(node)) else {
                continue;
            };
            match report.mirrors.get(&resource).map(|report| &report.disk) {
                None | Some(Disk::Unknown) => obstacles.push(Obstacle::DataUnknown { resource }),
                Some(disk) if data.fits(disk) => {}
                Some(disk) => {
                    let problem = disk_problem(disk);
                    // A holder that went on alone on its own mark is not unfit for that.
                    if let Some(problem) = problem {
                        obstacles.push(Obstacle::DataDisk { resource, problem });
                    }
                }
            }
        }
    }

    /// Nothing stands against taking the pin from the holder: its mirror processes act on the
    /// document that asks for it, and acknowledge nothing on their own mark any more.
    pub(super) fn mirrors_agree(&self, group: &GroupId, holder: MemberId) -> bool {
        if planted(Bug::UnpinSolo) {
            return true;
        }
        let placement = self.placement(group);
        placement.mirrors.iter().all(|(resource, data)| {
            self.mirror_report(holder, group, resource)
                .is_some_and(|report| {
                    report.under >= self.view.document.version && says_not_alone(report, data)
                })
        })
    }

    /// A mirror of the pinned holder, whose disk cannot tell whether it went on alone, with what is wrong.
    pub(super) fn mirror_in_doubt(
        &self,
        group: &GroupId,
        holder: MemberId,
    ) -> Option<(ResourceId, String)> {
        let placement = self.placement(group);
        placement.mirrors.iter().find_map(|(resource, data)| {
            let report = self.mirror_report(holder, group, resource)?;
            let problem = disk_problem(&report.disk)?;
            (!says_not_alone(report, data)).then(|| (resource.clone(), problem))
        })
    }
}

/// The holder has no acknowledged writes on its own mark that are not agreed upon. A disk that cannot be read, or
/// is another one, says nothing about that.
fn says_not_alone(report: &MirrorReport, data: &Data) -> bool {
    match report.disk {
        Disk::Attached { solo, .. } => solo.is_none_or(|solo| solo == data.generation),
        Disk::Unknown | Disk::Failed(_) | Disk::Blank { .. } => false,
    }
}

/// It was closed in good order, or not even opened, in this epoch.
fn closed(report: &MirrorReport, epoch: crate::ids::Epoch) -> bool {
    if report.open {
        return false;
    }
    match report.opened {
        Some(opened) if opened == epoch => report.clean,
        // The process was started again since, or it was never told to open.
        _ => matches!(report.disk, Disk::Attached { unclean: false, .. }),
    }
}

fn disk_problem(disk: &Disk) -> Option<String> {
    match disk {
        Disk::Unknown => None,
        Disk::Blank { holds: None } => Some("its disk is blank: was it replaced?".into()),
        Disk::Blank { holds: Some(what) } => {
            Some(format!("its disk is not the mirror's: it holds {what}"))
        }
        Disk::Failed(problem) => Some(problem.clone()),
        Disk::Attached {
            consistent: false, ..
        } => Some("its disk is in the middle of a resynchronisation".into()),
        Disk::Attached { solo: Some(_), .. } => None,
        Disk::Attached { generation, .. } => Some(format!(
            "its disk has generation {generation}, which is not the one agreed upon: was it restored?"
        )),
    }
}

/// `to` becomes holder: alone, if the one before may have left something behind.
pub(super) fn pass_on(
    document: &mut Document,
    group: &GroupId,
    to: MemberId,
    unclean: &BTreeSet<ResourceId>,
) {
    let next = document.next_version();
    let Some(placement) = document.groups.get_mut(group) else {
        return;
    };
    let epoch = placement.epoch;
    for (resource, data) in &mut placement.mirrors {
        let others = data.up_to_date().any(|node| node != to);
        if unclean.contains(resource) || !others {
            let generation = Generation::begun(next, to, data.id);
            data.go_alone(to, epoch, generation);
        }
    }
}

/// Nobody is holder any more.
pub(super) fn release(document: &mut Document, group: &GroupId, unclean: &BTreeSet<ResourceId>) {
    let Some(placement) = document.groups.get_mut(group) else {
        return;
    };
    for (resource, data) in &mut placement.mirrors {
        if unclean.contains(resource) && !data.unclean {
            data.unclean = true;
            data.serial += 1;
        }
    }
}

/// Makes a change of one mirror.
pub(super) fn apply(change: &Change, document: &mut Document) {
    let (Change::SetCopy { group, .. }
    | Change::GoAlone { group, .. }
    | Change::Keep { group, .. }) = change
    else {
        return;
    };
    let (Change::SetCopy { resource, .. }
    | Change::GoAlone { resource, .. }
    | Change::Keep { resource, .. }) = change
    else {
        return;
    };
    let next = document.next_version();
    let Some(placement) = document.groups.get_mut(group) else {
        return;
    };
    let holder = placement.holder;
    let epoch = placement.epoch;
    let Some(data) = placement.mirrors.get_mut(resource) else {
        return;
    };
    let before = data.copies.clone();
    let by = holder.unwrap_or(MemberId(0));
    let begun = Generation::begun(next, by, data.id);
    match change {
        Change::SetCopy { node, copy, .. } => set_copy(data, *node, *copy, begun),
        Change::GoAlone { lacking, solo, .. } => {
            go_alone(data, holder, lacking, solo.unwrap_or(begun));
            if let Some(solo) = *solo {
                data.begin(solo);
            }
            data.alone = Some(epoch);
            data.unclean = false;
        }
        Change::Keep {
            node,
            generation,
            solo,
            ..
        } => {
            let begun = Generation::begun(next, *node, data.id);
            keep(data, *node, *generation, solo.unwrap_or(begun));
        }
        _ => return,
    }
    data.serial += 1;
    let changed: Vec<(MemberId, Copy)> = data
        .copies
        .iter()
        .filter(|(node, copy)| before.get(node) != Some(copy))
        .map(|(&node, &copy)| (node, copy))
        .collect();
    record(document, group, resource, holder, changed);
    if let Change::Keep { node, .. } = change
        && holder.is_some()
    {
        // Whoever held it held other data: its epoch ends.
        let reason = Reason::Copy {
            resource: resource.clone(),
            node: *node,
            copy: Copy::UpToDate,
        };
        super::change::set_holder(document, group, None, &reason);
    }
}

fn record(
    document: &mut Document,
    group: &GroupId,
    resource: &ResourceId,
    holder: Option<MemberId>,
    changed: Vec<(MemberId, Copy)>,
) {
    for (node, copy) in changed {
        let reason = Reason::Copy {
            resource: resource.clone(),
            node,
            copy,
        };
        document.record(Some(group.clone()), holder, holder, reason);
    }
}

fn set_copy(data: &mut Data, node: MemberId, copy: Copy, begun: Generation) {
    if !data.copies.contains_key(&node) {
        return;
    }
    let first = data.is_unborn();
    let before = data.copies.insert(node, copy);
    if copy == Copy::UpToDate {
        data.alone = None;
        if first {
            data.begin(begun);
        }
    } else if before == Some(Copy::UpToDate) {
        data.begin(begun);
    }
}

fn go_alone(
    data: &mut Data,
    holder: Option<MemberId>,
    lacking: &BTreeSet<MemberId>,
    generation: Generation,
) {
    let own = holder.filter(|holder| lacking.contains(holder) && data.is_up_to_date(*holder));
    data.leave_behind(|node| lacking.contains(&node), generation);
    if let Some(own) = own {
        data.copies.insert(own, Copy::Lost);
    }
}

/// `node`'s copy, whose disk has `generation`, becomes the data; what others have beyond it is lost.
fn keep(data: &mut Data, node: MemberId, generation: Generation, begun: Generation) {
    let given_up = data.generation;
    for (&other, copy) in &mut data.copies {
        *copy = match *copy {
            _ if other == node => Copy::UpToDate,
            Copy::UpToDate | Copy::Outdated => Copy::GivenUp {
                generation: given_up,
            },
            Copy::Diverged { generation } => Copy::GivenUp { generation },
            copy => copy,
        };
    }
    // Only what the kept copy came from is an ancestor from now on.
    match data.ancestors.iter().position(|known| *known == generation) {
        Some(at) => data.ancestors.truncate(at + 1),
        None if data.generation == generation => data.ancestors.push(generation),
        None => data.ancestors = vec![generation],
    }
    data.generation = begun;
    data.alone = None;
    data.unclean = false;
}
