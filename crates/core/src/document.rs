//! The cluster document: the one replicated value. Whole, small, versioned.

mod old;

use crate::config::Cluster;
use crate::ids::{Epoch, GroupId, HostBoot, Incarnation, MemberId, ResourceId, Version};
use crate::mirror::Data;
use crate::reason::Reason;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Format this build writes; it reads the one before too (`old`). A member with an older build cannot
/// read a newer document: it keeps the one it has, and does not lead.
pub const FORMAT: u16 = 4;

/// Largest document that is accepted, encoded: 64 KiB.
pub const MAX_BYTES: usize = 64 * 1024;

/// Decisions kept in the document for `explain`; older ones are in each node's event log.
pub const HISTORY: usize = 24;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
#[serde(remote = "Self")]
pub struct Document {
    pub version: Version,
    pub format: u16,
    /// Counts changes of `config` alone: what the operator calls the configuration's revision.
    pub revision: u64,
    pub config: Cluster,
    pub voters: Voters,
    /// One for each group of `config`.
    pub groups: BTreeMap<GroupId, Placement>,
    /// One for each member of `config`.
    pub members: BTreeMap<MemberId, Membership>,
    /// All automatic action is off: every group is pinned.
    pub disarmed: bool,
    /// Newest last, at most [`HISTORY`].
    pub history: Vec<Decision>,
    /// Every number a member has ever had. None is given twice: others remember boots, promises and
    /// documents of a member by its number, and one that was wiped has forgotten them.
    pub numbers: BTreeSet<MemberId>,
}

/// Who votes. While `next` stands, a majority of both sets is needed for everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Voters {
    pub now: BTreeSet<MemberId>,
    pub next: Option<BTreeSet<MemberId>>,
}

/// Who runs a group, and what shall become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Placement {
    /// Rises each time `holder` is set.
    pub epoch: Epoch,
    /// The only node that may run it; it still needs a lease and the start check.
    pub holder: Option<MemberId>,
    pub goal: Goal,
    /// The holder is asked to stop it in good order; once it reports that, `to` becomes holder.
    pub moving: Option<Move>,
    /// The holder before was not known to have stopped it: what no gate stops may last a while.
    pub abrupt: bool,
    /// The holder needs no lease, and nobody takes the group over.
    pub pin: Option<Pin>,
    /// Automatic takeover is switched off for the whole group.
    pub disabled: bool,
    /// … or off for these nodes.
    pub disabled_on: BTreeSet<MemberId>,
    pub maintenance: bool,
    pub maintenance_on: BTreeSet<MemberId>,
    pub maintenance_resources: BTreeSet<ResourceId>,
    /// Nodes that could not run it, until cleared by the operator.
    pub failed_on: BTreeMap<MemberId, Failure>,
    /// Where it came from by a switchover that is not finished yet: where to go back to.
    pub switched_from: Option<MemberId>,
    /// Why `holder`, `goal` or `moving` were last changed.
    pub reason: Reason,
    /// Data of its mirrors: one for each mirror resource of its configuration.
    pub mirrors: BTreeMap<ResourceId, Data>,
    /// Stopped by the operator, while the group may run: they, and what requires them, stay stopped
    /// over failover and reboot.
    pub stopped_resources: BTreeSet<ResourceId>,
    /// How often the operator asked for a restart of each: what runs since before the last one is
    /// stopped and started again, with what requires it.
    pub restarts: BTreeMap<ResourceId, u64>,
    /// How often the operator had what could not be stopped tried again.
    pub stop_retries: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Failure {
    pub epoch: Epoch,
    pub resource: Option<ResourceId>,
    pub detail: String,
    /// Failed starts on this node since it was last cleared.
    pub starts: u32,
    /// A verdict spoke against the node when it failed (no carrier, …): forgotten when it is fit
    /// again. Other failures wait for the operator.
    pub environment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Goal {
    Run,
    /// Stopped by the operator: stays stopped over failures and reboots.
    Stopped,
    /// Could not run anywhere; waits for the operator.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Move {
    /// `None`: only stop.
    pub to: Option<MemberId>,
    pub reason: Reason,
    /// Asked for by the operator: goes back if `to` cannot start it (by policy).
    pub by_operator: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Pin {
    Pinned(PinReason),
    /// The holder is asked to acknowledge that it holds a lease again; then the pin is removed.
    Releasing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub enum PinReason {
    Disarmed,
    Maintenance,
    /// No third vote, and the policy is to wait for the operator.
    Wait,
    /// The group's takeover policy is `never`.
    Never,
    /// The witness has been silent while the nodes see each other.
    WitnessSilent,
    /// No third vote: only a fence device's word frees what a silent node may run.
    Fence,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Membership {
    /// Not a candidate for any group: planned work.
    pub maintenance: bool,
    /// Asked to hand its groups over.
    pub drained: bool,
    /// Left in good order, or about to: hands its groups over and is not waited for.
    pub left: bool,
    /// The run of its daemon that left; another run means that it is back. `None`: any run does.
    pub left_run: Option<(HostBoot, Incarnation)>,
    /// Held out of automatic takeover after it failed too often.
    pub held_out: bool,
    /// Failures within the flapping window that the operator has forgiven.
    pub forgiven: u32,
    /// The host boot that was last fenced or declared down by the operator;
    /// [`HostBoot::UNHEARD`] if no boot of it had been heard of.
    pub down_boot: Option<HostBoot>,
    /// The node that fenced it; `None`: it was the operator's word.
    pub down_by: Option<MemberId>,
    /// Leaves whatever becomes of its groups: those nobody else can run are stopped.
    pub forced: bool,
    /// It is to be fenced.
    pub fencing: Option<FenceOrder>,
}

/// The order to one node to fence another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct FenceOrder {
    /// The host boot to end; a later one is left alone.
    pub boot: HostBoot,
    /// The node that does it.
    pub by: MemberId,
    pub reason: Reason,
    /// Why it did not succeed, the last time it was tried. It is tried again as long as the order stands.
    pub failed: Option<String>,
}

/// One entry of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Decision {
    pub version: Version,
    pub group: Option<GroupId>,
    pub from: Option<MemberId>,
    pub to: Option<MemberId>,
    pub reason: Reason,
}

impl Voters {
    #[must_use]
    pub fn new(now: BTreeSet<MemberId>) -> Self {
        Self { now, next: None }
    }

    /// Is `agreed` a majority — of both sets while a change is under way?
    #[must_use]
    pub fn majority(&self, agreed: impl Fn(MemberId) -> bool) -> bool {
        let most =
            |set: &BTreeSet<MemberId>| set.iter().filter(|&&m| agreed(m)).count() * 2 > set.len();
        most(&self.now) && self.next.as_ref().is_none_or(most)
    }

    /// Every member with a vote in either set.
    #[must_use]
    pub fn all(&self) -> BTreeSet<MemberId> {
        self.iter().collect()
    }

    /// The same; who has a vote in both sets comes twice.
    pub fn iter(&self) -> impl Iterator<Item = MemberId> {
        self.now.iter().chain(self.next.iter().flatten()).copied()
    }

    #[must_use]
    pub fn contains(&self, member: MemberId) -> bool {
        self.now.contains(&member)
            || self
                .next
                .as_ref()
                .is_some_and(|next| next.contains(&member))
    }
}

impl Document {
    /// The first document of a cluster, as `init` writes it: version 1.1.
    #[must_use]
    pub fn first(config: Cluster) -> Self {
        let mut document = Self {
            version: Version::new(1, 1),
            format: FORMAT,
            revision: 1,
            voters: Voters::new(config.voters()),
            groups: BTreeMap::new(),
            members: BTreeMap::new(),
            disarmed: false,
            history: Vec::new(),
            numbers: BTreeSet::new(),
            config,
        };
        document.align();
        document
    }

    /// Gives every group a placement and every member a membership, and drops what belongs to none.
    pub fn align(&mut self) {
        for group in self.config.groups.keys() {
            self.groups.entry(group.clone()).or_default();
        }
        self.groups
            .retain(|group, _| self.config.groups.contains_key(group));
        self.align_mirrors();
        let members = self.config.members();
        for &member in &members {
            self.members.entry(member).or_default();
        }
        self.members.retain(|member, _| members.contains(member));
        self.numbers.extend(members);
    }

    /// Gives every mirror its data, and every copy of the configuration its state.
    fn align_mirrors(&mut self) {
        let next = self.next_version();
        for (group, placement) in &mut self.groups {
            let Some(config) = self.config.groups.get(group) else {
                continue;
            };
            placement
                .mirrors
                .retain(|resource, _| config.mirror(resource).is_some());
            for (resource, mirror) in config.mirrors() {
                let id = || crate::mirror::identity(self.config.id, next, group, resource);
                let data = placement
                    .mirrors
                    .entry(resource.clone())
                    .or_insert_with(|| Data::new(id(), []));
                data.align(mirror.copies.keys().copied());
            }
        }
    }

    /// Version that the document will have once what is being changed is proposed.
    #[must_use]
    pub fn next_version(&self) -> Version {
        Version {
            term: self.version.term,
            index: self.version.index + 1,
        }
    }

    /// Appends to the history, dropping the oldest entries.
    pub fn record(
        &mut self,
        group: Option<GroupId>,
        from: Option<MemberId>,
        to: Option<MemberId>,
        reason: Reason,
    ) {
        let version = self.next_version();
        self.history.push(Decision {
            version,
            group,
            from,
            to,
            reason,
        });
        let excess = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..excess);
    }

    /// Groups `member` is the holder of.
    pub fn held_by(&self, member: MemberId) -> impl Iterator<Item = (&GroupId, &Placement)> {
        self.groups
            .iter()
            .filter(move |(_, placement)| placement.holder == Some(member))
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            epoch: Epoch::default(),
            holder: None,
            goal: Goal::Run,
            moving: None,
            abrupt: false,
            pin: None,
            disabled: false,
            disabled_on: BTreeSet::new(),
            maintenance: false,
            maintenance_on: BTreeSet::new(),
            maintenance_resources: BTreeSet::new(),
            failed_on: BTreeMap::new(),
            switched_from: None,
            reason: Reason::NotStartedYet,
            mirrors: BTreeMap::new(),
            stopped_resources: BTreeSet::new(),
            restarts: BTreeMap::new(),
            stop_retries: 0,
        }
    }
}

impl Placement {
    /// The pin is in force: no lease needed.
    #[must_use]
    pub fn pinned(&self) -> bool {
        matches!(self.pin, Some(Pin::Pinned(_)))
    }
}
