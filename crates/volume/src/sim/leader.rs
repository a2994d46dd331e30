//! A simple leader that obeys the table in `docs/internals/mirror.md`; the real planner is in
//! `hotpair_core::plan`, which this model does not replace.

use hotpair_core::ids::{Epoch, MemberId, Version};
use hotpair_core::mirror::{ANCESTORS, Copy, Data, Disk, Generation, MirrorReport};
use std::collections::BTreeMap;

/// What is agreed.
#[derive(Clone, Debug)]
pub struct Document {
    pub version: Version,
    pub data: Data,
    pub holder: Option<MemberId>,
    pub epoch: Epoch,
    /// The holder was asked to close: it is to move.
    pub leaving: bool,
    pub pinned: bool,
    pub size: u64,
}

/// What the leader knows of a node.
#[derive(Clone, Debug)]
pub struct Known {
    pub report: MirrorReport,
}

#[derive(Debug)]
pub struct Leader {
    /// The newest committed one last.
    pub document: Document,
    pub known: BTreeMap<MemberId, Known>,
    pub source: MemberId,
    /// A snapshot is wanted, and so on, by the policy "younger".
    pub gives_up: bool,
}

fn begin(data: &mut Data, generation: Generation) {
    if data.generation == generation {
        return;
    }
    data.ancestors.push(data.generation);
    let excess = data.ancestors.len().saturating_sub(ANCESTORS);
    data.ancestors.drain(..excess);
    data.generation = generation;
}

fn leave_behind(data: &mut Data, behind: impl Fn(MemberId) -> bool, generation: Generation) {
    let mut left = false;
    for (&node, copy) in &mut data.copies {
        if *copy == Copy::UpToDate && behind(node) {
            *copy = Copy::Outdated;
            left = true;
        }
    }
    if left {
        begin(data, generation);
    }
}

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
    let foreign = *generation != Generation::NONE && !data.descends_from(*generation);
    match solo.filter(|_| *written) {
        Some(generation) => Copy::Diverged { generation },
        None if foreign => Copy::Diverged {
            generation: *generation,
        },
        None => Copy::Outdated,
    }
}

fn first_copy(data: &Data) -> bool {
    data.generation == Generation::NONE && data.ancestors.is_empty()
}

impl Leader {
    fn begun(&self, node: MemberId) -> Generation {
        let version = self.document.version;
        let next = Version::new(version.term.0, version.index + 1);
        Generation::begun(next, node, self.document.data.id)
    }

    fn knows(&self, node: MemberId) -> Option<&MirrorReport> {
        let report = &self.known.get(&node)?.report;
        let data = &self.document.data;
        ((report.id, report.serial) == (data.id, data.serial)).then_some(report)
    }

    /// The next document by the reports, if one is needed.
    pub fn plan(&self) -> Option<Document> {
        let mut next = self.document.clone();
        let changed = self.adopted(&mut next)
            || self.going_alone(&mut next)
            || self.completed(&mut next)
            || self.copies(&mut next)
            || self.split_brain(&mut next);
        if !changed {
            return None;
        }
        next.data.serial += 1;
        next.version.index += 1;
        Some(next)
    }

    fn adopted(&self, next: &mut Document) -> bool {
        let data = &self.document.data;
        let found = data.up_to_date().find_map(|node| {
            let report = self.knows(node)?;
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
            let base = generation == data.generation
                || alone && data.ancestors.last() == Some(&generation);
            let elsewhere = self.document.holder.is_some_and(|holder| holder != node);
            (base && solo != data.generation && !elsewhere).then_some((node, solo))
        });
        let Some((node, solo)) = found else {
            return false;
        };
        leave_behind(&mut next.data, |other| other != node, solo);
        begin(&mut next.data, solo);
        next.data.alone = Some(next.epoch);
        next.data.unclean = false;
        true
    }

    fn going_alone(&self, next: &mut Document) -> bool {
        let Some(holder) = self.document.holder else {
            return false;
        };
        let Some(report) = self.knows(holder) else {
            return false;
        };
        if report.opened != Some(self.document.epoch) || report.lacks.is_empty() {
            return false;
        }
        let left = self
            .document
            .data
            .up_to_date()
            .any(|node| !report.lacks.contains(&node));
        if !left || self.document.leaving {
            return false;
        }
        let own = report.lacks.contains(&holder) && self.document.data.is_up_to_date(holder);
        leave_behind(
            &mut next.data,
            |node| report.lacks.contains(&node),
            self.begun(holder),
        );
        if own {
            next.data.copies.insert(holder, Copy::Lost);
        }
        next.data.alone = Some(next.epoch);
        next.data.unclean = false;
        true
    }

    fn completed(&self, next: &mut Document) -> bool {
        let Some(holder) = self.document.holder else {
            return false;
        };
        let Some(report) = self.knows(holder) else {
            return false;
        };
        if report.opened != Some(self.document.epoch) {
            return false;
        }
        let found = self.document.data.copies.iter().find(|(node, copy)| {
            copy.is_target() && report.complete.contains(node) && !report.lacks.contains(node)
        });
        let Some((&node, _)) = found else {
            return false;
        };
        next.data.copies.insert(node, Copy::UpToDate);
        next.data.alone = None;
        true
    }

    fn copies(&self, next: &mut Document) -> bool {
        let data = &self.document.data;
        for (&node, &copy) in &data.copies {
            let Some(report) = self.knows(node) else {
                continue;
            };
            let holds = self.document.holder == Some(node);
            if holds && (report.open || copy == Copy::UpToDate) {
                continue;
            }
            let Some(found) = self.next(node, copy, &report.disk) else {
                continue;
            };
            if found == copy {
                continue;
            }
            let first = first_copy(data);
            next.data.copies.insert(node, found);
            if found == Copy::UpToDate {
                next.data.alone = None;
                if first {
                    begin(&mut next.data, self.begun(node));
                }
            } else if copy == Copy::UpToDate {
                begin(&mut next.data, self.begun(node));
            }
            return true;
        }
        false
    }

    fn next(&self, node: MemberId, copy: Copy, disk: &Disk) -> Option<Copy> {
        let data = &self.document.data;
        let another = data.up_to_date().any(|other| other != node);
        let found = match disk {
            Disk::Unknown => return None,
            Disk::Blank { .. } | Disk::Failed(_) => Copy::Lost,
            Disk::Attached { .. } => attached(data, disk),
        };
        let fresh = matches!(
            disk,
            Disk::Attached {
                generation: Generation::NONE,
                solo: None,
                ..
            }
        );
        match copy {
            Copy::New { .. } if !fresh => None,
            Copy::New { .. } if first_copy(data) && node == self.source => Some(Copy::UpToDate),
            Copy::New { .. } => Some(Copy::Inconsistent),
            Copy::UpToDate if data.fits(disk) || !another || found == Copy::Lost => None,
            Copy::UpToDate | Copy::Outdated | Copy::Lost => Some(found),
            Copy::Inconsistent if found == Copy::Outdated => None,
            Copy::Inconsistent => Some(found),
            Copy::Diverged { .. } | Copy::GivenUp { .. } => None,
        }
    }

    fn split_brain(&self, next: &mut Document) -> bool {
        if !self.gives_up {
            return false;
        }
        for copy in next.data.copies.values_mut() {
            if let Copy::Diverged { generation } = *copy {
                *copy = Copy::GivenUp { generation };
                return true;
            }
        }
        false
    }

    /// The group is closed in good order on its holder, by a report that can be believed.
    pub fn closed(&self, told: Version) -> bool {
        let Some(holder) = self.document.holder else {
            return true;
        };
        let Some(known) = self.known.get(&holder) else {
            return false;
        };
        let report = &known.report;
        let clean = match report.opened {
            Some(opened) if opened == self.document.epoch => report.clean,
            _ => matches!(report.disk, Disk::Attached { unclean: false, .. }),
        };
        !report.open && clean && report.under >= told
    }

    /// May `node` become holder?
    pub fn fit(&self, node: MemberId) -> bool {
        let report = self.known.get(&node).map(|known| &known.report);
        self.document.data.is_up_to_date(node)
            && report.is_some_and(|report| self.document.data.fits(&report.disk))
    }

    /// `to` becomes holder; `clean`: the one before closed in good order.
    pub fn pass_on(&self, to: Option<MemberId>, clean: bool) -> Document {
        let mut next = self.document.clone();
        next.version.index += 1;
        next.epoch = Epoch(next.epoch.0 + 1);
        next.holder = to;
        next.leaving = false;
        let unclean = !clean || next.data.unclean;
        if let Some(to) = to {
            let same = self.document.holder == Some(to);
            let others = next.data.up_to_date().any(|node| node != to);
            if unclean && !same || !others {
                let generation = self.begun(to);
                let epoch = next.epoch;
                next.data.go_alone(to, epoch, generation);
            }
        } else if unclean && !next.data.unclean {
            next.data.unclean = true;
            next.data.serial += 1;
        }
        next
    }

    /// The operator keeps the copy of `node`, whatever the others have.
    pub fn keep(&self, node: MemberId) -> Option<Document> {
        let Disk::Attached {
            generation,
            solo,
            consistent: true,
            ..
        } = self.knows(node)?.disk
        else {
            return None;
        };
        let mut next = self.document.clone();
        let given_up = next.data.generation;
        for (&other, copy) in &mut next.data.copies {
            *copy = match *copy {
                _ if other == node => Copy::UpToDate,
                Copy::UpToDate | Copy::Outdated => Copy::GivenUp {
                    generation: given_up,
                },
                Copy::Diverged { generation } => Copy::GivenUp { generation },
                copy => copy,
            };
        }
        let ancestors = &mut next.data.ancestors;
        match ancestors.iter().position(|known| *known == generation) {
            Some(at) => ancestors.truncate(at + 1),
            None if next.data.generation == generation => ancestors.push(generation),
            None => *ancestors = vec![generation],
        }
        next.data.generation = solo.unwrap_or(self.begun(node));
        next.data.alone = None;
        next.data.unclean = false;
        next.data.serial += 1;
        next.version.index += 1;
        next.holder = None;
        next.epoch = Epoch(next.epoch.0 + 1);
        Some(next)
    }
}
