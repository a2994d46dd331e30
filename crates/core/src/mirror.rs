//! Mirrors: the same data on two nodes. What the cluster has agreed on about each copy, what a node's
//! mirror process is told, and what it tells.
//!
//! ```text
//!   document (Data) --orders--> mirror process of each node --report--> leader's planner --> Data
//! ```
//!
//! The rules, and why they are enough, stand in `docs/internals/mirror.md`. In short:
//!
//! - A copy is used only if the committed [`Data`] has it up to date.
//! - The active side acknowledges a write that a copy missed only once the committed data has that
//!   copy as not up to date, at its own epoch (`alone`).
//! - The standby side takes writes only from the holder, at the epoch, of the newest document it keeps.

use crate::config::MirrorMode;
use crate::ids::{ClusterId, Epoch, GroupId, HostBoot, MemberId, ResourceId, Version};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Earlier generations kept in the document and on disk, to tell an outdated copy from a foreign one.
pub const ANCESTORS: usize = 16;

/// A mirror: a resource of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MirrorId {
    pub group: GroupId,
    pub resource: ResourceId,
}

/// Names a state of a mirror's data. All up-to-date copies have the same one; a new one begins when a
/// copy stays behind. No order: whether one came from another stands in [`Data::ancestors`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl Generation {
    /// Nothing was ever written under it: a copy that was just made.
    pub const NONE: Self = Self(0);

    /// The generation that begins with the document of `version`, for the copy of node `by`: no two
    /// documents, of whatever lineage, make the same one for different copies.
    #[must_use]
    pub fn begun(version: Version, by: MemberId, mirror: u64) -> Self {
        let mut state = mirror;
        for part in [version.term.0, version.index, u64::from(by.0)] {
            state = mix(state ^ mix(part.wrapping_add(0x9e37_79b9_7f4a_7c15)));
        }
        Self(state.max(1))
    }
}

/// The identity of a mirror that is configured with the document of `version`.
#[must_use]
pub fn identity(
    cluster: ClusterId,
    version: Version,
    group: &GroupId,
    resource: &ResourceId,
) -> u64 {
    let mut state = mix(cluster.0);
    let bytes = group
        .0
        .bytes()
        .chain([0])
        .chain(resource.0.bytes())
        .map(u64::from);
    for part in [version.term.0, version.index].into_iter().chain(bytes) {
        state = mix(state ^ mix(part.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    }
    state.max(1)
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{self}")
    }
}

/// What is agreed about one mirror: part of the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Data {
    /// Stamped on every copy when it is made, so that a foreign disk is told from ours. Not zero.
    pub id: u64,
    /// Rises with each change of this record. A report about another serial changes nothing.
    pub serial: u64,
    /// Of the up-to-date copies.
    pub generation: Generation,
    /// Those it came from, newest last, at most [`ANCESTORS`].
    pub ancestors: Vec<Generation>,
    /// One for each node that keeps a copy by the configuration.
    pub copies: BTreeMap<MemberId, Copy>,
    /// The holder of this epoch goes on without the copies that are not up to date.
    pub alone: Option<Epoch>,
    /// The holder before is not known to have closed it in good order: copies may differ in what
    /// was being written. Whoever becomes holder goes on alone first.
    pub unclean: bool,
}

/// Of one node's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Copy {
    /// To be made: its disk has no mark of this mirror yet. `overwrite`: the operator allowed that
    /// what is found on the disk is lost.
    New { overwrite: bool },
    /// Has every acknowledged write.
    UpToDate,
    /// Consistent, but lacks writes.
    Outdated,
    /// Neither: made anew, or in the middle of being resynchronised.
    Inconsistent,
    /// Its disk failed, or is not the one it was.
    Lost,
    /// Has writes that the others lack: split-brain. What becomes of it is decided by policy or by
    /// the operator.
    Diverged { generation: Generation },
    /// Diverged, and given up: it is snapshotted, then resynchronised.
    GivenUp { generation: Generation },
}

impl Copy {
    /// May it be overwritten by resynchronisation?
    #[must_use]
    pub fn is_target(self) -> bool {
        matches!(
            self,
            Self::Outdated | Self::Inconsistent | Self::GivenUp { .. }
        )
    }

    /// What became of the copy of `resource` on `node`.
    pub(crate) fn sentence(self, resource: &ResourceId, node: &str) -> String {
        match self {
            Self::New { .. } => format!("the copy of {resource} on {node} is to be made anew"),
            Self::UpToDate => format!("the copy of {resource} on {node} is up to date"),
            Self::Outdated => {
                format!("the copy of {resource} on {node} is outdated: it lacks newer writes")
            }
            Self::Inconsistent => {
                format!(
                    "the copy of {resource} on {node} is inconsistent until it is resynchronised"
                )
            }
            Self::Lost => {
                format!("the copy of {resource} on {node} is lost: its disk cannot be used")
            }
            Self::Diverged { .. } => format!(
                "split-brain of {resource}: the copy on {node} has writes that the other lacks"
            ),
            Self::GivenUp { .. } => format!(
                "the copy of {resource} on {node} is given up: it is resynchronised, after a snapshot"
            ),
        }
    }

    /// The glossary's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::New { .. } => "new",
            Self::UpToDate => "up to date",
            Self::Outdated => "outdated",
            Self::Inconsistent => "inconsistent",
            Self::Lost => "lost",
            Self::Diverged { .. } => "split-brain",
            Self::GivenUp { .. } => "given up",
        }
    }
}

impl Data {
    /// Of a mirror that was just configured on `nodes`.
    #[must_use]
    pub fn new(id: u64, nodes: impl IntoIterator<Item = MemberId>) -> Self {
        Self {
            id,
            serial: 1,
            generation: Generation::NONE,
            ancestors: Vec::new(),
            copies: nodes
                .into_iter()
                .map(|node| (node, Copy::New { overwrite: false }))
                .collect(),
            alone: None,
            unclean: false,
        }
    }

    /// No copy has ever been up to date: what the first one's disk holds becomes the data.
    #[must_use]
    pub fn is_unborn(&self) -> bool {
        self.generation == Generation::NONE && self.ancestors.is_empty()
    }

    /// One copy for each of `nodes`: new ones are to be made, others are forgotten.
    pub fn align(&mut self, nodes: impl IntoIterator<Item = MemberId>) {
        let wanted: BTreeSet<MemberId> = nodes.into_iter().collect();
        let before = self.copies.clone();
        self.copies.retain(|node, _| wanted.contains(node));
        for node in wanted {
            self.copies
                .entry(node)
                .or_insert(Copy::New { overwrite: false });
        }
        if self.copies != before {
            self.serial += 1;
        }
    }

    /// `node`, the holder at `epoch`, goes on without the others: those that were up to date are
    /// outdated, and a new generation begins if there were any.
    pub fn go_alone(&mut self, node: MemberId, epoch: Epoch, generation: Generation) {
        self.leave_behind(|other| other != node, generation);
        self.alone = Some(epoch);
        self.unclean = false;
        self.serial += 1;
    }

    /// Every up-to-date copy that `behind` names is outdated.
    pub(crate) fn leave_behind(
        &mut self,
        behind: impl Fn(MemberId) -> bool,
        generation: Generation,
    ) {
        let mut left = false;
        for (&node, copy) in &mut self.copies {
            if *copy == Copy::UpToDate && behind(node) {
                *copy = Copy::Outdated;
                left = true;
            }
        }
        if left {
            self.begin(generation);
        }
    }

    /// A new generation begins.
    pub(crate) fn begin(&mut self, generation: Generation) {
        if self.generation == generation {
            return;
        }
        self.ancestors.push(self.generation);
        let excess = self.ancestors.len().saturating_sub(ANCESTORS);
        self.ancestors.drain(..excess);
        self.generation = generation;
    }

    /// Nodes whose copy is up to date.
    pub fn up_to_date(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.copies
            .iter()
            .filter(|(_, copy)| **copy == Copy::UpToDate)
            .map(|(&node, _)| node)
    }

    #[must_use]
    pub fn is_up_to_date(&self, node: MemberId) -> bool {
        self.copies.get(&node) == Some(&Copy::UpToDate)
    }

    /// Is it the generation, or one it came from?
    #[must_use]
    pub fn descends_from(&self, generation: Generation) -> bool {
        generation == self.generation || self.ancestors.contains(&generation)
    }

    /// May the disk that `report` tells of be opened as the up-to-date copy that `self` says it is?
    /// Its generation is the present one or, if it is the only up-to-date copy and was not stamped yet,
    /// the one before it: nothing is acknowledged under a generation before the disk bears it. A solo generation fits once it was
    /// agreed upon; it is stamped as the generation then.
    #[must_use]
    pub fn fits(&self, disk: &Disk) -> bool {
        match disk {
            Disk::Attached {
                generation,
                consistent: true,
                solo,
                ..
            } => match solo {
                Some(solo) => *solo == self.generation,
                None => {
                    *generation == self.generation
                        || self.up_to_date().count() == 1
                            && self.ancestors.last() == Some(generation)
                }
            },
            _ => false,
        }
    }
}

/// Everything a node's mirror process shall know: complete, replaces what it was told before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct MirrorOrders {
    /// Newest document kept. What it takes away is given up before the next report says `under` it.
    pub version: Version,
    /// Holder of the group and its epoch by that document, committed or not.
    pub holder: Option<MemberId>,
    pub epoch: Epoch,
    /// By the newest document known to be committed; `None`: none is yet.
    pub committed: Option<MirrorCommitted>,
    pub mode: MirrorMode,
    /// In bytes.
    pub size: u64,
    /// A peer that was not heard for so long is taken to be gone.
    pub peer_timeout: Duration,
    /// The group is leaving this node: a write that is held for longer than two `peer_timeout`s, because
    /// a copy that missed it is not recorded, fails, and the device closes.
    pub leaving: bool,
}

/// What is certain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct MirrorCommitted {
    pub version: Version,
    pub data: Data,
    /// Holder and epoch by that document: nothing is opened unless they are those kept, too.
    pub holder: Option<MemberId>,
    pub epoch: Epoch,
    /// The group is pinned, and not until its node is fenced: nobody takes it over, so after this time without an answer the holder
    /// may go on alone, on its own mark on the disk.
    pub solo_after: Option<Duration>,
}

/// What a node's mirror process says about itself. Discrete: no progress, no counters that run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct MirrorReport {
    /// The orders it has taken in.
    pub under: Version,
    /// [`Data::id`] and [`Data::serial`] of the committed data it has taken in; 0: none.
    pub id: u64,
    pub serial: u64,
    /// Epoch in which it was last told to open here since the process started: `lacks` and `complete`
    /// are about it.
    pub opened: Option<Epoch>,
    /// It is open now.
    pub open: bool,
    /// Closed in good order in that epoch: every write was ended on all copies that are up to date.
    pub clean: bool,
    pub disk: Disk,
    /// As holder: these copies (its own among them, if its disk failed) miss a write that waits to be
    /// acknowledged; they must be recorded first.
    pub lacks: BTreeSet<MemberId>,
    /// As holder: these have all, and every write waits for them.
    pub complete: BTreeSet<MemberId>,
    /// Replicates with these now.
    pub connected: BTreeSet<MemberId>,
}

/// A node's disk, as its mirror process found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Disk {
    /// Not looked at yet.
    Unknown,
    /// Without a mark of this mirror: it can be made. `holds`: what is on it, in words; it is asked
    /// before that is overwritten.
    Blank { holds: Option<String> },
    /// Cannot be used: the text says why and what to do.
    Failed(String),
    Attached {
        generation: Generation,
        /// No resynchronisation was begun that did not end.
        consistent: bool,
        /// Went on alone on its own mark, without the cluster's agreement: writes were acknowledged
        /// that no document knows of.
        solo: Option<Generation>,
        /// It was open and was not closed in good order.
        unclean: bool,
        /// A write was acknowledged under `generation`.
        written: bool,
        /// Host boot in which it was attached.
        boot: HostBoot,
    },
}

impl MirrorReport {
    /// Of a process that has just started.
    #[must_use]
    pub fn fresh() -> Self {
        Self {
            under: Version::ZERO,
            id: 0,
            serial: 0,
            opened: None,
            open: false,
            clean: false,
            disk: Disk::Unknown,
            lacks: BTreeSet::new(),
            complete: BTreeSet::new(),
            connected: BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_of_different_documents_leaders_and_mirrors_differ() {
        let mut seen = BTreeSet::new();
        for term in 1..6 {
            for index in 1..6 {
                for by in 1..4 {
                    for mirror in 1..4 {
                        let version = Version::new(term, index);
                        assert!(seen.insert(Generation::begun(version, MemberId(by), mirror)));
                    }
                }
            }
        }
        assert!(!seen.contains(&Generation::NONE));
    }
}
