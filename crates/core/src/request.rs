//! What the operator asks for. Applied to the document by the leader; any member passes it on.

use crate::config::Cluster;
use crate::ids::{GroupId, HostBoot, MemberId, ResourceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Request {
    GroupStart {
        group: GroupId,
        on: Option<MemberId>,
    },
    GroupStop {
        group: GroupId,
    },
    /// Switchover: stop in good order, start on `to` (`None`: the best other fit node).
    GroupSwitch {
        group: GroupId,
        to: Option<MemberId>,
    },
    /// Automatic takeover on, for the group or for it on one node.
    GroupEnable {
        group: GroupId,
        node: Option<MemberId>,
    },
    GroupDisable {
        group: GroupId,
        node: Option<MemberId>,
    },
    /// Forgets failures, so that the group may run there again.
    GroupClear {
        group: GroupId,
        node: Option<MemberId>,
    },
    Maintenance {
        scope: Scope,
        on: bool,
    },
    Disarm,
    Arm,
    /// Hands the node's groups over and gives it no new ones, until `NodeUndrain`.
    NodeDrain {
        node: MemberId,
    },
    NodeUndrain {
        node: MemberId,
    },
    /// Takes a node that is down out of the configuration.
    NodeRemove {
        node: MemberId,
    },
    /// Ends the flapping hold.
    NodeClear {
        node: MemberId,
    },
    /// The operator's word that this node is powered off: its groups may be taken over.
    NodeIsDown {
        node: MemberId,
    },
    /// A new configuration; refused if it was made from another revision than the present one.
    Configure {
        config: Box<Cluster>,
        made_from: u64,
    },
    /// The node's copy of a mirror is made anew: its disk is new, or what is on it may be lost
    /// (`overwrite`).
    MirrorRenew {
        group: GroupId,
        resource: ResourceId,
        node: MemberId,
        overwrite: bool,
    },
    /// The copy on this node is the one to keep, whatever the others have beyond it.
    MirrorKeep {
        group: GroupId,
        resource: ResourceId,
        node: MemberId,
    },
    /// One resource of a group, and what it requires.
    ResourceStart {
        group: GroupId,
        resource: ResourceId,
    },
    /// One resource of a group, and what requires it; it stays stopped until it is started.
    ResourceStop {
        group: GroupId,
        resource: ResourceId,
    },
    /// One resource of a group, and what requires it: stopped, then started.
    ResourceRestart {
        group: GroupId,
        resource: ResourceId,
    },
    /// The daemons of these nodes stop in good order. What they cannot hand over is a refusal; with
    /// `force` it is stopped.
    Leave {
        nodes: BTreeSet<MemberId>,
        force: bool,
    },
    /// The operator's word that every other member is off: `node`, which is asked itself, goes on
    /// alone.
    FormAlone {
        node: MemberId,
    },
    /// The operator wants the node fenced.
    NodeFence {
        node: MemberId,
    },
    /// A node's word about the order to fence another one: it is off, or why not. Made by nodes, not by
    /// operators.
    NodeFenced {
        node: MemberId,
        boot: HostBoot,
        by: MemberId,
        result: Result<(), String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Scope {
    Group(GroupId),
    Resource(GroupId, ResourceId),
    GroupOnNode(GroupId, MemberId),
    Node(MemberId),
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Outcome {
    /// Committed; the text says what will happen now.
    Done(String),
    /// Nothing was changed: what is wrong and what to do.
    Refused(String),
    /// No majority could be asked, or none answered in time: whether it was done is not known, or
    /// it was not.
    Undecided(String),
}
