//! Mirror processes that obey, and lines that say what they report.
//!
//! `disk NODE GROUP MIRROR STATE…`, `lacks NODE GROUP MIRROR NODE…`, `complete NODE GROUP MIRROR NODE…`;
//! `stale-lacks` and `stale-complete` are about the data before the present one.

use super::World;
use hotpair_core::document::{Goal, Placement};
use hotpair_core::ids::{GroupId, HostBoot, MemberId, ResourceId, Version};
use hotpair_core::mirror::{Copy, Disk, Generation, MirrorReport};
use hotpair_core::report::GroupReport;
use std::collections::BTreeMap;

type Disks = BTreeMap<(MemberId, GroupId, ResourceId), Disk>;

/// What the mirror processes of a group on `node` make of the document.
pub fn obey_mirrors(
    node: MemberId,
    group: &GroupId,
    placement: &Placement,
    state: &mut GroupReport,
    version: Version,
    disks: &mut Disks,
) {
    let runs =
        placement.holder == Some(node) && placement.goal == Goal::Run && placement.moving.is_none();
    for (resource, data) in &placement.mirrors {
        let Some(copy) = data.copies.get(&node) else {
            continue;
        };
        let key = (node, group.clone(), resource.clone());
        let disk = disks
            .entry(key)
            .or_insert_with(|| attached(Generation::NONE));
        let report = state
            .mirrors
            .entry(resource.clone())
            .or_insert_with(MirrorReport::fresh);
        report.under = version;
        report.id = data.id;
        report.serial = data.serial;
        if matches!(copy, Copy::New { overwrite: true }) {
            *disk = attached(Generation::NONE);
        }
        report.lacks.retain(|other| data.is_up_to_date(*other));
        report.complete.retain(|other| !data.is_up_to_date(*other));
        if let Disk::Attached {
            generation,
            unclean,
            solo,
            ..
        } = disk
        {
            if *solo == Some(data.generation) {
                *generation = data.generation;
                *solo = None;
            }
            if runs && *copy == Copy::UpToDate {
                report.opened = Some(placement.epoch);
                report.open = true;
                report.clean = false;
                *unclean = true;
                if solo.is_none() {
                    *generation = data.generation;
                }
            } else if report.open {
                report.open = false;
                report.clean = true;
                *unclean = false;
            } else if *copy == Copy::UpToDate {
                *generation = data.generation;
            }
        }
        report.disk = disk.clone();
    }
}

fn attached(generation: Generation) -> Disk {
    Disk::Attached {
        generation,
        consistent: true,
        solo: None,
        unclean: false,
        written: false,
        boot: HostBoot(1),
    }
}

impl World {
    pub fn mirror_fact(&mut self, what: &str, words: &[&str]) -> Result<(), String> {
        let [name, group, resource, rest @ ..] = words else {
            return Err("give node, group and mirror".into());
        };
        let node = self.member(name)?;
        let key = (self.group(group), ResourceId::from(*resource));
        if what == "disk" {
            return self.disk_fact((node, key.0, key.1), rest);
        }
        let others: Result<Vec<MemberId>, String> =
            rest.iter().map(|name| self.member(name)).collect();
        let others = others?;
        let serial = self.document.groups[&key.0].mirrors[&key.1].serial;
        let report = self
            .members
            .get_mut(&node)
            .and_then(|view| view.report.as_mut())
            .and_then(|report| report.groups.get_mut(&key.0))
            .and_then(|report| report.mirrors.get_mut(&key.1))
            .ok_or("its mirror has not reported")?;
        report.serial = serial - u64::from(what.starts_with("stale"));
        match what {
            "lacks" | "stale-lacks" => report.lacks.extend(others),
            _ => report.complete.extend(others),
        }
        Ok(())
    }

    fn disk_fact(
        &mut self,
        key: (MemberId, GroupId, ResourceId),
        state: &[&str],
    ) -> Result<(), String> {
        let disk = self
            .disks
            .entry(key.clone())
            .or_insert_with(|| attached(Generation::NONE));
        match (state, &mut *disk) {
            (["blank"], disk) => *disk = Disk::Blank { holds: None },
            (["holds", what @ ..], disk) => {
                *disk = Disk::Blank {
                    holds: Some(what.join(" ")),
                };
            }
            (["failed", why @ ..], disk) => *disk = Disk::Failed(why.join(" ")),
            (["attached"], disk) => *disk = attached(Generation::NONE),
            (["restored"], disk) => *disk = attached(Generation(0xbac)),
            (["solo"], Disk::Attached { solo, written, .. }) => {
                *solo = Some(Generation(0x5010));
                *written = true;
            }
            (["solo-unwritten"], Disk::Attached { solo, .. }) => *solo = Some(Generation(0x5010)),
            (["written"], Disk::Attached { written, .. }) => *written = true,
            (["inconsistent"], Disk::Attached { consistent, .. }) => *consistent = false,
            (["resynchronised"], disk) => {
                let data = &self.document.groups[&key.1].mirrors[&key.2];
                *disk = attached(data.generation);
            }
            _ => return Err("unknown state of a disk".into()),
        }
        let disk = disk.clone();
        let report = self
            .members
            .get_mut(&key.0)
            .and_then(|view| view.report.as_mut())
            .and_then(|report| report.groups.get_mut(&key.1))
            .and_then(|report| report.mirrors.get_mut(&key.2));
        if let Some(report) = report {
            report.disk = disk;
        }
        Ok(())
    }
}
