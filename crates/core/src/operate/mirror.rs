//! Requests about a mirror's copies.

use super::{Accepted, Desk};
use crate::ids::{GroupId, MemberId, ResourceId};
use crate::mirror::{Copy, Data, Disk};
use crate::plan::Change;
use crate::reason::Reason;

impl Desk<'_> {
    fn known_mirror(&self, group: &GroupId, resource: &ResourceId) -> Result<&Data, String> {
        self.known_group(group)?;
        let mirrors = self.document.groups.get(group).map(|p| &p.mirrors);
        if let Some(data) = mirrors.and_then(|mirrors| mirrors.get(resource)) {
            return Ok(data);
        }
        let names: Vec<String> = mirrors
            .into_iter()
            .flat_map(|mirrors| mirrors.keys().map(ResourceId::to_string))
            .collect();
        Err(if names.is_empty() {
            format!("{group} has no mirror")
        } else {
            format!(
                "there is no mirror `{resource}` in {group}; its mirrors are: {}",
                names.join(", ")
            )
        })
    }

    fn known_copy(&self, data: &Data, node: MemberId) -> Result<Copy, String> {
        self.known_node(node)?;
        data.copies.get(&node).copied().ok_or_else(|| {
            let names: Vec<String> = data.copies.keys().map(|&n| self.name(n)).collect();
            format!(
                "{} keeps no copy of it; copies are on: {}",
                self.name(node),
                names.join(", ")
            )
        })
    }

    /// Mirrors that have no copy up to date but on nodes that `gone` names.
    pub(super) fn only_good_copies(&self, gone: impl Fn(MemberId) -> bool) -> Vec<String> {
        let mut names = Vec::new();
        for (group, placement) in &self.document.groups {
            for (resource, data) in &placement.mirrors {
                let mut good = data.up_to_date().peekable();
                if good.peek().is_some() && good.all(&gone) {
                    names.push(format!("{group}/{resource}"));
                }
            }
        }
        names
    }

    /// The copy is made anew, from nothing, and resynchronised.
    pub(super) fn renew_copy(
        &self,
        group: &GroupId,
        resource: &ResourceId,
        node: MemberId,
        overwrite: bool,
    ) -> Result<Accepted, String> {
        let data = self.known_mirror(group, resource)?;
        let copy = self.known_copy(data, node)?;
        let name = self.name(node);
        let wanted = Copy::New { overwrite };
        if copy == wanted {
            return Ok(Accepted::already(format!(
                "the copy of {resource} on {name} is to be made already"
            )));
        }
        if matches!(copy, Copy::UpToDate) && data.up_to_date().all(|other| other == node) {
            return Err(format!(
                "the copy on {name} is the only one that is up to date: making it anew would lose the data"
            ));
        }
        let another = data.up_to_date().any(|other| {
            let report = self.draft.mirror_report(other, group, resource);
            other != node && report.is_some_and(|report| data.fits(&report.disk) || report.open)
        });
        if copy == Copy::UpToDate && !another {
            return Err(format!(
                "the other copy that is up to date cannot be used now: making the one on {name} anew might lose \
                 the data"
            ));
        }
        if self.document.groups[group].holder == Some(node) {
            return Err(format!(
                "{group} is on {name}; move it first with `hotpair group switch {group}`"
            ));
        }
        let why = Reason::Copy {
            resource: resource.clone(),
            node,
            copy: wanted,
        };
        let change = Change::SetCopy {
            group: group.clone(),
            resource: resource.clone(),
            node,
            copy: wanted,
            why,
        };
        let config = self.document.config.groups.get(group);
        let source = config
            .and_then(|config| config.mirror(resource))
            .is_some_and(|mirror| mirror.source == node);
        let text = if data.is_unborn() && source {
            format!(
                "what the disk on {name} holds becomes the data of {resource}; what lies behind the volume is lost"
            )
        } else if matches!(copy, Copy::New { .. }) {
            format!("the copy of {resource} is made on {name}; what is on its disk now is lost")
        } else {
            format!(
                "the copy of {resource} on {name} is made anew and resynchronised as a whole; services go on"
            )
        };
        Ok(Accepted::new(vec![change], text))
    }

    /// The operator chooses a copy, after a split-brain or because the newer one will not come back.
    pub(super) fn keep_copy(
        &self,
        group: &GroupId,
        resource: &ResourceId,
        node: MemberId,
    ) -> Result<Accepted, String> {
        let data = self.known_mirror(group, resource)?;
        let copy = self.known_copy(data, node)?;
        let name = self.name(node);
        let given_up = |other: &Copy| matches!(other, Copy::Diverged { .. });
        if copy == Copy::UpToDate {
            return self.keep_present(group, resource, data, &name, given_up);
        }
        self.not_in_use(group, resource, data, node)?;
        let Some(change) = self.draft.keeping(group, resource, node) else {
            let why = match self.draft.mirror_report(node, group, resource) {
                None => "it is not online, or its mirror process has not reported".to_owned(),
                Some(report) if (report.id, report.serial) != (data.id, data.serial) => {
                    "its mirror process has not taken in the newest document yet: try again in a moment"
                        .to_owned()
                }
                Some(report) => match &report.disk {
                    Disk::Failed(why) => why.clone(),
                    Disk::Attached {
                        consistent: true, ..
                    } => "it was made, and has never been synchronised".to_owned(),
                    Disk::Attached { .. } => {
                        "a resynchronisation of it has begun and not ended".to_owned()
                    }
                    Disk::Unknown | Disk::Blank { .. } => "there is no copy on its disk".to_owned(),
                },
            };
            return Err(format!("the copy on {name} cannot be used: {why}"));
        };
        let lost: Vec<String> = data
            .copies
            .iter()
            .filter(|&(&other, copy)| {
                other != node && matches!(copy, Copy::UpToDate | Copy::Diverged { .. })
            })
            .map(|(&other, _)| self.name(other))
            .collect();
        let text = format!(
            "the copy of {resource} on {name} becomes the data; what {} has beyond it is given up: it is \
             snapshotted when it comes, then resynchronised",
            if lost.is_empty() {
                "any other".to_owned()
            } else {
                lost.join(" and ")
            }
        );
        Ok(Accepted::new(vec![change], text))
    }

    /// The data stays what it is; diverged copies are given up.
    fn keep_present(
        &self,
        group: &GroupId,
        resource: &ResourceId,
        data: &Data,
        name: &str,
        given_up: impl Fn(&Copy) -> bool,
    ) -> Result<Accepted, String> {
        let losers: Vec<(MemberId, Copy)> = data
            .copies
            .iter()
            .filter(|(_, copy)| given_up(copy))
            .map(|(&node, &copy)| (node, copy))
            .collect();
        if losers.is_empty() {
            return Ok(Accepted::already(format!(
                "the copy of {resource} on {name} is up to date, and no other copy has writes of its own"
            )));
        }
        let names: Vec<String> = losers.iter().map(|(node, _)| self.name(*node)).collect();
        let changes = losers
            .into_iter()
            .filter_map(|(node, copy)| match copy {
                Copy::Diverged { generation } => Some((node, Copy::GivenUp { generation })),
                _ => None,
            })
            .map(|(node, copy)| Change::SetCopy {
                group: group.clone(),
                resource: resource.clone(),
                node,
                copy,
                why: Reason::Copy {
                    resource: resource.clone(),
                    node,
                    copy,
                },
            })
            .collect();
        Ok(Accepted::new(
            changes,
            format!(
                "the copy of {resource} on {name} is kept; that on {} is snapshotted, then resynchronised",
                names.join(" and ")
            ),
        ))
    }

    /// A copy cannot be changed for another under an open device.
    fn not_in_use(
        &self,
        group: &GroupId,
        resource: &ResourceId,
        data: &Data,
        keep: MemberId,
    ) -> Result<(), String> {
        let Some(holder) = self.document.groups[group].holder else {
            return Ok(());
        };
        let closed = self
            .draft
            .mirror_report(holder, group, resource)
            .is_some_and(|report| !report.open);
        let off = self.draft.gone(holder).is_some()
            && (!self.draft.needs_no_lease(group) || self.draft.declared_down(holder));
        if off || closed && self.draft.reported_down(group, holder) || !data.is_up_to_date(holder) {
            return Ok(());
        }
        Err(format!(
            "{group} is on {}, whose copy is in use; stop it first with `hotpair group stop {group}`, then \
             keep the copy on {} and start it there",
            self.name(holder),
            self.name(keep)
        ))
    }
}
