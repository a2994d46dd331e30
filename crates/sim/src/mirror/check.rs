//! What the documents say of the mirror, held against the disks.

use super::Mirrored;
use crate::check::Rule;
use crate::cluster::host_of;
use crate::world::{World, note};
use hotpair_core::document::{Document, Placement};
use hotpair_core::ids::{MemberId, Version};
use hotpair_core::mirror::{Copy, Data, Generation};
use hotpair_core::request::Request;
use std::sync::Arc;

impl Mirrored {
    fn data<'a>(&self, document: &'a Document) -> Option<(&'a Placement, &'a Data)> {
        let placement = document.groups.get(&self.group)?;
        Some((placement, placement.mirrors.get(&self.resource)?))
    }

    fn side_of_member(&self, member: MemberId) -> Option<usize> {
        self.side_of(host_of(member))
    }
}

impl World {
    /// The newest committed word on the mirror.
    pub(crate) fn mirror_data(&self) -> Option<Data> {
        let mirror = self.mirror.as_ref()?;
        let newest = self.ledger.newest()?;
        Some(mirror.data(newest)?.1.clone())
    }

    /// Has this host acknowledged, or is it to, on a mark of its own?
    #[must_use]
    pub fn writes_alone(&self, host: usize) -> bool {
        self.mirror.as_ref().is_some_and(|mirror| {
            let side = mirror.side_of(host);
            side.is_some_and(|side| mirror.sides[side].node.solo_since.is_some())
        })
    }

    /// `version` is committed, and all it was made from.
    pub(crate) fn check_mirror_documents(&mut self, version: Version) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let steps = self.ledger.steps(mirror.checked, version);
        mirror.checked = mirror.checked.max(version);
        let last = steps.len();
        for (n, (old, new)) in steps.into_iter().enumerate() {
            if let Err((rule, text)) = self.check_mirror_step(&old, &new, n + 1 == last) {
                let text = format!("{} to {}: {text}", old.version, new.version);
                self.violated(rule, text);
            }
        }
    }

    /// `newest`: the disks are as this document found them, or nearly.
    fn check_mirror_step(
        &mut self,
        old: &Arc<Document>,
        new: &Arc<Document>,
        newest: bool,
    ) -> Result<(), (Rule, String)> {
        let Some(mirror) = &self.mirror else {
            return Ok(());
        };
        let (Some((was, before)), Some((is, after))) = (mirror.data(old), mirror.data(new)) else {
            return Ok(());
        };
        let promoted = |text: String| Err((Rule::MirrorPromoted, text));
        let good_before: Vec<MemberId> = before.up_to_date().collect();
        let good_after: Vec<MemberId> = after.up_to_date().collect();
        if !good_before.is_empty() && good_after.is_empty() {
            return promoted(format!("no copy is up to date any more: {after:?}"));
        }
        let given = is.epoch != was.epoch;
        if given
            && let Some(holder) = is.holder
            && !after.is_up_to_date(holder)
        {
            return promoted(format!(
                "{holder} becomes holder in epoch {}, and its copy is {:?}",
                is.epoch,
                after.copies.get(&holder)
            ));
        }
        let kept = good_after.iter().any(|node| !good_before.contains(node))
            && !good_before.is_empty()
            && !good_before.iter().any(|node| good_after.contains(node));
        if newest && !kept {
            self.check_left(was, before, is, after)?;
            self.check_complete(&good_before, after)?;
        }
        if kept {
            note!(self, "another copy of the mirror is kept: {after:?}");
            if let Some(mirror) = &mut self.mirror {
                mirror.given_up = true;
            }
        }
        Ok(())
    }

    /// The holder before stays up to date only if it has closed the mirror in good order.
    fn check_left(
        &self,
        was: &Placement,
        before: &Data,
        is: &Placement,
        after: &Data,
    ) -> Result<(), (Rule, String)> {
        let Some(mirror) = &self.mirror else {
            return Ok(());
        };
        let text = |node: MemberId| {
            let text = format!(
                "{node} had it open and did not close it in good order; {:?} goes on in epoch {} with {after:?}",
                is.holder, is.epoch
            );
            Err((Rule::MirrorPromoted, text))
        };
        if is.epoch == was.epoch || is.holder.is_none() || is.holder == was.holder {
            return Ok(());
        }
        let others = || after.up_to_date().filter(|&node| Some(node) != is.holder);
        match was.holder {
            None if before.unclean => others().next().map_or(Ok(()), text),
            None => Ok(()),
            Some(node) if others().any(|other| other == node) => {
                let Some(side) = mirror.side_of_member(node) else {
                    return Ok(());
                };
                let it = &mirror.sides[side].node;
                let open = it.disk.mark(&it.found).is_some_and(|mark| mark.open);
                if open { text(node) } else { Ok(()) }
            }
            Some(_) => Ok(()),
        }
    }

    /// A copy that becomes up to date bears the generation, or is the first one.
    fn check_complete(&self, before: &[MemberId], after: &Data) -> Result<(), (Rule, String)> {
        let Some(mirror) = &self.mirror else {
            return Ok(());
        };
        for node in after.up_to_date().filter(|node| !before.contains(node)) {
            let Some(side) = mirror.side_of_member(node) else {
                continue;
            };
            let it = &mirror.sides[side].node;
            let mark = it.disk.mark(&it.found);
            let sound = mark.as_ref().is_some_and(|mark| {
                let first = mark.generation == Generation::NONE && before.is_empty();
                mark.consistent && (mark.generation == after.generation || first)
            });
            if !sound {
                let text = format!(
                    "{node} counts as up to date, its disk does not: {:?}, {after:?}",
                    mark.map(|mark| (mark.generation, mark.consistent))
                );
                return Err((Rule::MirrorPromoted, text));
            }
        }
        Ok(())
    }

    /// The operator says something that may give up what a side wrote alone.
    pub(crate) fn mirror_hears_operator(&mut self, request: &Request) {
        let now = self.now_us;
        let (Request::NodeIsDown { node } | Request::NodeRemove { node }) = request else {
            return;
        };
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        if let Some(side) = mirror.side_of(host_of(*node)) {
            mirror.sides[side].given_up_at = Some(now);
        }
    }

    /// What an operator asks for who wants both copies up to date.
    pub(crate) fn mirror_repairs(&self) -> Vec<Request> {
        let (Some(mirror), Some(newest)) = (&self.mirror, self.ledger.newest()) else {
            return Vec::new();
        };
        let Some((placement, data)) = mirror.data(newest) else {
            return Vec::new();
        };
        let (group, resource) = mirror.part();
        let good = data
            .up_to_date()
            .find(|&node| Some(node) == placement.holder)
            .or_else(|| data.up_to_date().next());
        let mut requests = Vec::new();
        // What policy leaves where it is, with its disk lost or outdated, is moved by hand.
        if let (Some(holder), Some(to)) = (placement.holder, good)
            && !data.is_up_to_date(holder)
        {
            requests.push(Request::GroupClear {
                group: group.clone(),
                node: None,
            });
            requests.push(Request::GroupSwitch {
                group: group.clone(),
                to: Some(to),
            });
        }
        for (&node, copy) in &data.copies {
            match copy {
                Copy::Diverged { .. } => requests.push(Request::MirrorKeep {
                    group: group.clone(),
                    resource: resource.clone(),
                    node: good.unwrap_or(node),
                }),
                Copy::Lost if placement.holder != Some(node) => {
                    requests.push(Request::MirrorRenew {
                        group: group.clone(),
                        resource: resource.clone(),
                        node,
                        overwrite: true,
                    })
                }
                _ => {}
            }
        }
        requests
    }

    /// Why the mirror is not as it should be after healing, if it is not.
    pub(crate) fn mirror_unsettled(&self) -> Option<String> {
        let mirror = self.mirror.as_ref()?;
        let document = self.ledger.newest()?;
        let (_, data) = mirror.data(document)?;
        let good = data.copies.values().all(|copy| *copy == Copy::UpToDate);
        // A group that may run nowhere brings no copy up to date.
        if good || crate::operator::hindered(self, document, &mirror.group) {
            return None;
        }
        let said: Vec<_> = mirror.sides.iter().map(|it| &it.node.report).collect();
        Some(format!("the copies are {data:?}; their sides say {said:?}"))
    }
}
