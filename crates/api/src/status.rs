//! `hotpair status`: the whole cluster as one node knows it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusView {
    pub cluster: ClusterView,
    /// The node that answers.
    pub node: String,
    pub leader: Option<String>,
    pub term: u64,
    /// Version of the cluster document this node keeps, `TERM.INDEX`, and of the newest known to be
    /// committed.
    pub version: String,
    pub committed: String,
    /// This node holds a lease: it may run groups.
    pub lease: bool,
    pub disarmed: bool,
    pub nodes: Vec<NodeView>,
    pub witness: Option<WitnessView>,
    pub groups: Vec<GroupView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterView {
    pub name: String,
    pub id: String,
    pub revision: u64,
    /// `single-active` or `best-effort`.
    pub guarantee: String,
    pub guarantee_reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    pub name: String,
    /// Member number, as requests name it.
    pub number: u8,
    /// `online`, `silent`, `down`, `unknown`.
    pub state: String,
    pub boot_id: String,
    pub votes: bool,
    pub maintenance: bool,
    pub drained: bool,
    pub held_out: bool,
    /// It is to be fenced: by whom, why, and why that has not succeeded yet.
    #[serde(default)]
    pub fencing: Option<String>,
    pub links: Vec<LinkView>,
}

/// One fence device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceView {
    pub device: String,
    /// The node it fences.
    pub node: String,
    pub level: u8,
    pub agent: String,
    /// `reboot`, `off`.
    pub action: String,
    /// Whether it answers, if it was asked.
    pub answers: Option<bool>,
    /// What it said, or why it does not answer.
    pub said: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkView {
    pub name: String,
    pub address: String,
    /// As this node sees it: `up`, `warning`, `down`, `own`.
    pub state: String,
    /// Heartbeats lost of the last hundred expected, in percent.
    pub loss_percent: f64,
    pub round_trip_us: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WitnessView {
    pub name: String,
    /// `online`, `silent`, `down`, `unknown`.
    pub state: String,
    pub votes: bool,
    /// It is a quorum disk, as the node that answers sees it.
    #[serde(default)]
    pub disk: Option<QuorumView>,
}

/// How a quorum disk does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuorumView {
    pub path: String,
    /// On its label, 16 hexadecimal digits.
    pub number: String,
    /// Why it does not answer, in words.
    pub problem: Option<String>,
    /// The longest of the last seconds' rounds: own slot written, all slots read.
    pub round_us: Option<u64>,
    /// What makes it weaker than it could be, each a sentence with what to do.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupView {
    pub name: String,
    /// `stopped`, `starting`, `running`, `degraded`, `stopping`, `failed`, `cannot run`,
    /// `maintenance`.
    pub state: String,
    pub active_on: Vec<String>,
    pub holder: Option<String>,
    pub epoch: u64,
    pub pinned: Option<String>,
    pub maintenance: bool,
    pub disabled: bool,
    /// Resources that the operator stopped, while the group may run.
    pub stopped_resources: Vec<String>,
    /// Each relation to another group in words: `must run with db`.
    #[serde(default)]
    pub relations: Vec<String>,
    /// Why the holder, or the goal, was last changed.
    pub reason: String,
    /// One sentence: why it stays, moves or waits.
    pub verdict: String,
    pub resources: Vec<ResourceView>,
    pub nodes: Vec<FitView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResourceView {
    pub name: String,
    /// `address`, `program`, `service`, `mirror`, `mount`, `ocf`.
    pub kind: String,
    /// On the active node.
    pub state: String,
    pub detail: String,
    pub restarts: u32,
    /// The operator asked for a restart that has not begun.
    pub restart_due: bool,
}

/// Could this node run the group?
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FitView {
    pub name: String,
    /// `active`, `standby`, `unfit`, `unknown`.
    pub role: String,
    pub fit: bool,
    /// Why not; empty if it is fit.
    pub reason: String,
}
