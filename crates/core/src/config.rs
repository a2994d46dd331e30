//! The checked configuration of a cluster: what the document carries. Made by `hotpair-config` from
//! text; nothing here is half-checked.

use crate::ids::{ClusterId, GroupId, MemberId, ResourceId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Everything the administrator decides about a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Cluster {
    pub name: String,
    pub id: ClusterId,
    pub timing: Timing,
    pub nodes: BTreeMap<MemberId, Node>,
    #[serde(with = "third_vote")]
    pub witness: Option<Witness>,
    /// What a node does when it loses its peer and there is no third vote.
    pub without_witness: WithoutWitness,
    /// Heartbeat links, most preferred first; at least one.
    pub links: Vec<Link>,
    pub groups: BTreeMap<GroupId, Group>,
    /// Hold a node that failed this often within the window out of automatic takeover.
    pub flapping: Flapping,
    /// What can cut a node off from power or network, for each node that has such a thing.
    pub fencing: Fencing,
}

/// The fence devices of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Fencing {
    /// Devices of each node in the order in which they are tried until one succeeds: by level, then by name. At
    /// least one where there is an entry.
    pub devices: BTreeMap<MemberId, Vec<FenceDevice>>,
    /// How much longer the side that shall lose a race waits before it fences, where the nodes have no third
    /// vote: longer than a device takes. Default 10 s.
    pub delay: Duration,
}

/// One device that can fence a node, driven by a program of the `fence-agents` package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct FenceDevice {
    pub name: String,
    /// 1 to 9; lower ones are tried first.
    pub level: u8,
    /// `fence_ipmilan`, …: found in the usual directories; or an absolute path.
    pub agent: String,
    /// Given to the agent on its standard input, as `name=value` lines.
    pub parameters: BTreeMap<String, String>,
    /// File with more such lines, on every node, readable by root alone: what must not be in the document.
    pub secrets: Option<String>,
    pub action: FenceAction,
    /// Limit of one call of the agent. Default 60 s.
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum FenceAction {
    /// Off, and on again.
    #[default]
    Reboot,
    /// Off until somebody switches it on.
    Off,
}

/// A machine that runs groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Node {
    /// Unique in the cluster; not necessarily the host name.
    pub name: String,
    pub description: String,
}

/// The third vote, an ordinary voter that never stands for leader and runs no groups: a host with a
/// daemon of its own, or a disk for which the guard of each node answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Witness {
    pub id: MemberId,
    pub name: String,
    /// Where its daemon listens (UDP heartbeats and TCP on the same port number), at least one; none of a
    /// disk.
    pub addresses: Vec<SocketAddr>,
    pub disk: Option<QuorumDisk>,
}

/// A small shared disk, or a file on NFS, that votes. See `docs/internals/quorum-disk.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct QuorumDisk {
    /// Where every node finds it.
    pub path: String,
    /// Drawn by chance when it was labelled: another disk is another member.
    pub number: u64,
}

/// [`Witness`] as it is encoded: a document without a disk has the bytes it had before there were any.
pub(crate) mod third_vote {
    use super::{QuorumDisk, Witness};
    use crate::ids::MemberId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::net::SocketAddr;

    #[derive(Serialize, Deserialize)]
    enum ThirdVote {
        None,
        Host {
            id: MemberId,
            name: String,
            addresses: Vec<SocketAddr>,
        },
        Disk {
            id: MemberId,
            name: String,
            disk: QuorumDisk,
        },
    }

    pub fn serialize<S: Serializer>(
        witness: &Option<Witness>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let encoded = match witness.clone() {
            None => ThirdVote::None,
            Some(Witness {
                id,
                name,
                addresses,
                disk: None,
            }) => ThirdVote::Host {
                id,
                name,
                addresses,
            },
            Some(Witness {
                id,
                name,
                disk: Some(disk),
                ..
            }) => ThirdVote::Disk { id, name, disk },
        };
        encoded.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Witness>, D::Error> {
        Ok(match ThirdVote::deserialize(deserializer)? {
            ThirdVote::None => None,
            ThirdVote::Host {
                id,
                name,
                addresses,
            } => Some(Witness {
                id,
                name,
                addresses,
                disk: None,
            }),
            ThirdVote::Disk { id, name, disk } => Some(Witness {
                id,
                name,
                addresses: Vec::new(),
                disk: Some(disk),
            }),
        })
    }
}

/// The rule for a cluster whose votes are its nodes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum WithoutWitness {
    /// Groups stay where they are until the operator says that the peer is down.
    #[default]
    Wait,
    /// … or until its fence device has said that it is.
    Fence,
}

/// One way heartbeats travel: an address for each node, in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Link {
    pub name: String,
    /// Address and port of each node on this link (the same port number for UDP and TCP).
    pub addresses: BTreeMap<MemberId, SocketAddr>,
}

/// Numbers that decide how fast a failure is noticed and acted upon. See `docs/timing.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Timing {
    /// Time between heartbeats, 5 ms to 60 s.
    pub heartbeat: Duration,
    /// Heartbeats lost in a row until a link or peer is warned about.
    pub warn_after: u32,
    /// Heartbeats lost in a row until a peer is taken to be down.
    pub down_after: u32,
    /// Length of a node lease, at least three heartbeats.
    pub lease: Duration,
    /// How long a node that finds no peer at its first start waits before it takes groups over.
    pub first_start_delay: Duration,
    /// Extra wait before the takeover of a group with effects that no gate stops.
    pub ungated_margin: Duration,
}

/// Limits of the flapping hold: 3 times in 10 min by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Flapping {
    pub times: u32,
    pub window: Duration,
}

/// The unit of failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Group {
    pub resources: BTreeMap<ResourceId, Resource>,
    /// Nodes that may run it, highest priority first; at least one.
    pub nodes: Vec<MemberId>,
    pub start: StartMode,
    pub takeover: Takeover,
    pub failback: Failback,
    pub restart: Restart,
    pub on_start_failure: OnStartFailure,
    pub on_stop_failure: OnStopFailure,
    pub final_action: FinalAction,
    /// After a switchover whose target could not start the group.
    pub on_switch_failure: OnSwitchFailure,
    /// Of two groups that compete, the greater goes first. Default 0.
    pub priority: i32,
    /// It has effects that neither an address nor a mirror gate stops.
    pub ungated: bool,
    /// It is taken over from a silent node only when that was fenced. Its nodes have fence devices.
    pub fence: bool,
    /// Is a takeover from a silent node to be confirmed?
    pub confirm: Confirm,
    /// To other groups, each at most once. Checked: the other group is known, there is at most one hard
    /// `With`, and neither cycles nor contradictions of hard ones.
    pub relations: Vec<Relation>,
}

/// Where, or when, a group may run as seen from another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct Relation {
    pub kind: RelationKind,
    pub group: GroupId,
    pub strength: Strength,
}

impl Relation {
    /// What it says about the group that has it, such as `must run with db`.
    #[must_use]
    pub fn text(&self) -> String {
        let what = match (self.kind, self.strength) {
            (RelationKind::With, Strength::Hard) => "must run with",
            (RelationKind::With, Strength::Preferred) => "had better run with",
            (RelationKind::Apart, Strength::Hard) => "must run apart from",
            (RelationKind::Apart, Strength::Preferred) => "had better run apart from",
            (RelationKind::After, Strength::Hard) => "must start after",
            (RelationKind::After, Strength::Preferred) => "had better start after",
        };
        format!("{what} {}", self.group)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub enum RelationKind {
    /// On the node where the other one is. It follows the other one, not the other way round.
    With,
    /// On another node than the other one.
    Apart,
    /// Started once the other one runs, wherever that is.
    After,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash,
)]
pub enum Strength {
    /// It does not run otherwise.
    #[default]
    Hard,
    /// Among nodes that can run it; moves nothing that runs. `After`: while the other one is about to run.
    Preferred,
}

/// Does the cluster start the group by itself?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum StartMode {
    #[default]
    Automatic,
    /// Never started nor taken over by itself.
    Manual,
}

/// Who takes a group over when its node fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Takeover {
    /// The fit node of highest priority.
    #[default]
    ByPriority,
    /// The node of highest priority, or nobody.
    HighestOnly,
    Never,
}

/// Does the operator confirm that a group is taken over from a node that has fallen silent? What a node says
/// itself (it has failed, has left, has restarted), a fence or the operator's word needs no confirmation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Confirm {
    #[default]
    No,
    /// Until then it waits.
    Always,
    /// It is taken over without once the node has been silent for so long.
    Within(Duration),
}

/// Does a group return to a node of higher priority that has become fit again?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Failback {
    #[default]
    Stay,
    Return {
        /// How long the preferred node must have been fit.
        delay: Duration,
    },
}

/// Restarts in place before a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Restart {
    /// Restarts allowed within `window`; 0 fails over at once. Default 3.
    pub max: u32,
    /// Default 60 s.
    pub window: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum OnStartFailure {
    #[default]
    NextNode,
    /// Try again on the same node so often, then the next node.
    Retry(u32),
    Wait,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum OnStopFailure {
    /// Wait for the operator.
    #[default]
    Wait,
    /// Kill what is left of the group.
    Kill,
    /// Fence the node.
    Fence,
}

/// When every node has failed to run the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum FinalAction {
    Nothing,
    #[default]
    StopGroup,
    StopHotpair,
    Reboot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum OnSwitchFailure {
    #[default]
    GoBack,
    Wait,
}

/// A thing that is started and stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Resource {
    pub kind: ResourceKind,
    /// Resources of the same group that must run before it starts. Checked to be free of cycles.
    pub requires: BTreeSet<ResourceId>,
    pub detectors: Vec<Detector>,
    /// Those of one moment are run in this order.
    pub hooks: Vec<Hook>,
    /// Limit of the start program (addresses: of the probe). Default 60 s.
    pub start_timeout: Duration,
    /// Limit of the stop. Default 60 s.
    pub stop_timeout: Duration,
    /// After the start has ended the detectors must find it running within this. Default 120 s.
    pub running_within: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum ResourceKind {
    Address(Address),
    Program(Program),
    Service(Service),
    Mirror(Mirror),
    Mount(Mount),
    Ocf(Ocf),
}

/// A virtual address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Address {
    pub address: IpAddr,
    /// Prefix length: 1 to 32 (IPv4) or 128 (IPv6).
    pub prefix: u8,
    /// NICs in order of preference, for every node that is not in `nics_on`.
    pub nics: Vec<String>,
    pub nics_on: BTreeMap<MemberId, Vec<String>>,
    /// Must answer for the NIC to be fit, if given.
    pub gateway: Option<IpAddr>,
}

/// Programs that start and stop something which runs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Program {
    pub start: Vec<String>,
    pub stop: Vec<String>,
    /// Exit code 0: runs. Run as one more detector if given.
    pub status: Option<Vec<String>>,
    pub environment: Environment,
}

/// A program in the foreground, supervised directly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Service {
    pub command: Vec<String>,
    pub environment: Environment,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Environment {
    pub user: Option<String>,
    pub directory: Option<String>,
    pub variables: BTreeMap<String, String>,
}

/// A volume mirrored on two nodes, used through a local block device on the active one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Mirror {
    /// Of the device, in bytes: a multiple of 4096, at least 1 MiB.
    pub size: u64,
    pub mode: MirrorMode,
    /// Where each copy is; two nodes of the group.
    pub copies: BTreeMap<MemberId, CopyPlace>,
    /// TCP port of replication on every node.
    pub port: u16,
    /// Names of the links to replicate over, most preferred first; empty: all, in their order.
    pub links: Vec<String>,
    /// Resynchronisation and verification take at most so many bytes a second; `None`: as fast as it goes.
    pub resync_rate: Option<u64>,
    pub on_disk_failure: OnDiskFailure,
    pub on_split_brain: OnSplitBrain,
    pub export: Export,
    /// Whose data is kept when the mirror is made.
    pub source: MemberId,
}

/// A partition, disk, logical volume or image file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct CopyPlace {
    /// Path of a block device, or of an image file, which is made if missing.
    pub device: String,
    /// File that takes the mirror's metadata, for a device without room at its end.
    pub metadata: Option<String>,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum MirrorMode {
    /// When it is on both disks.
    #[default]
    Synchronous,
    /// When it is on the local disk and in the memory of the other node.
    Memory,
    /// When it is on the local disk; the other node lags behind by this at most.
    Asynchronous { lag: Duration, bytes: u64 },
}

/// The active node's disk has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum OnDiskFailure {
    #[default]
    FailOver,
    /// Read and write through the other node.
    GoOn,
}

/// Both copies have writes that the other lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum OnSplitBrain {
    /// The operator chooses.
    #[default]
    ByHand,
    /// Keep the copy of the side that took over last: the present holder's.
    Younger,
    /// Keep the copy of the side that was active before.
    Older,
    /// Keep the only side with changes; by hand if both have some.
    WithChanges,
}

/// How the kernel gets at the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Export {
    /// FUSE with a loop device; nbd where the kernel has no FUSE.
    #[default]
    Auto,
    Fuse,
    Nbd,
}

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Mount {
    /// The mirror of the same group that it is on.
    pub mirror: ResourceId,
    pub path: String,
    /// `ext4`, `xfs`, `btrfs`, …
    pub filesystem: String,
    pub options: Vec<String>,
    pub check: FilesystemCheck,
    /// Make the filesystem if the volume holds nothing at all.
    pub make: bool,
    /// At a stop, kill programs that keep it busy when they do not go by themselves.
    pub kill_users: bool,
}

/// Checking before a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum FilesystemCheck {
    Never,
    /// What the filesystem's own checker does unasked: replay the journal, mend what is safe.
    #[default]
    Safe,
    /// A whole check each time.
    Full,
}

/// Something that a resource agent of the Open Cluster Framework starts, stops and monitors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Ocf {
    /// Whose agent: the directory it is in, `heartbeat`.
    pub provider: String,
    /// Its name there, `IPaddr2`.
    pub agent: String,
    /// Given to it as `OCF_RESKEY_<name>`.
    pub parameters: BTreeMap<String, String>,
    /// Time between two monitors. Default 10 s.
    pub interval: Duration,
    /// A monitor that has not ended by then has failed. Default 20 s.
    pub monitor_timeout: Duration,
    /// How thorough a monitor is, `OCF_CHECK_LEVEL`; what the numbers mean is the agent's. Default 0.
    pub check_level: u32,
}

impl Ocf {
    /// `ocf:heartbeat:IPaddr2`
    #[must_use]
    pub fn name(&self) -> String {
        format!("ocf:{}:{}", self.provider, self.agent)
    }
}

/// A program that is run beside the start or stop of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Hook {
    pub when: HookMoment,
    pub command: Vec<String>,
    pub environment: Environment,
    /// Killed after this. Default 10 s.
    pub timeout: Duration,
}

/// When a hook is run. A kill runs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum HookMoment {
    /// If it fails, the resource is not started: the start has failed.
    BeforeStart,
    /// The start has ended well; whether the resource runs is not known yet.
    AfterStart,
    BeforeStop,
    /// It is stopped.
    AfterStop,
    /// The stop has failed.
    StopFailed,
}

impl HookMoment {
    /// As it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeStart => "before_start",
            Self::AfterStart => "after_start",
            Self::BeforeStop => "before_stop",
            Self::AfterStop => "after_stop",
            Self::StopFailed => "stop_failed",
        }
    }
}

/// A thing that looks whether a resource runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Detector {
    pub check: Check,
    /// Default 5 s.
    pub interval: Duration,
    /// Default 3 s. A check that has not ended by then has failed.
    pub timeout: Duration,
    /// Failed checks in a row until the resource counts as failed. Default 1.
    pub tries: u32,
    /// It tells of the node, whatever kind of check it is: where it fails, the node is unfit.
    pub of_node: bool,
}

impl Detector {
    /// See [`Check::is_condition`].
    #[must_use]
    pub fn is_condition(&self) -> bool {
        self.of_node || self.check.is_condition()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Check {
    /// A TCP connection to it succeeds; `program`, if given, must own the listening socket.
    Tcp {
        address: Option<IpAddr>,
        port: u16,
        program: Option<String>,
    },
    /// A UDP socket is bound to the port.
    Udp { port: u16, program: Option<String> },
    Url {
        url: String,
        statuses: Vec<u16>,
        contains: Option<String>,
    },
    /// A process whose name or command line contains the text.
    Process { name: String },
    Script {
        command: Vec<String>,
        environment: Environment,
    },
    /// A database answers a query.
    Sql(Sql),
    /// A host answers ICMP echo.
    Ping { address: IpAddr },
    /// The file system of a directory has so many bytes free, and takes a write if `write`.
    Disk {
        path: String,
        free: u64,
        write: bool,
    },
    /// At least so many bytes of memory can be given to programs.
    Memory { available: u64 },
    /// The load of the last minute is at most so many hundredths.
    Load { most_hundredths: u32 },
    /// A program that runs for as long as all is well; it is started with the resource.
    Monitor {
        command: Vec<String>,
        environment: Environment,
    },
}

impl Check {
    /// Does it tell about the node, or about what depends on the resource, and not whether the resource
    /// runs? Such a check counts where the resource was started, and nowhere else.
    #[must_use]
    pub fn is_condition(&self) -> bool {
        match self {
            Self::Tcp { .. }
            | Self::Udp { .. }
            | Self::Url { .. }
            | Self::Process { .. }
            | Self::Script { .. }
            | Self::Sql(_) => false,
            Self::Ping { .. }
            | Self::Disk { .. }
            | Self::Memory { .. }
            | Self::Load { .. }
            | Self::Monitor { .. } => true,
        }
    }
}

/// A query, and how to ask it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Sql {
    pub engine: SqlEngine,
    /// A name or address, or the path of PostgreSQL's directory of sockets or MySQL's socket.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub database: Option<String>,
    /// Name to log in with.
    pub login: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<String>,
    pub query: String,
    /// A line that the answer must have.
    pub answer: Option<String>,
    /// System user to run the client as.
    pub user: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum SqlEngine {
    PostgreSql,
    /// MySQL or MariaDB.
    MySql,
}

impl Cluster {
    /// The voters this configuration asks for: at most five nodes, and the witness when their
    /// number is even; a cluster of one node has one voter.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<MemberId> {
        let mut voters: BTreeSet<_> = self.nodes.keys().copied().take(5).collect();
        if let Some(witness) = &self.witness
            && voters.len() % 2 == 0
        {
            voters.insert(witness.id);
        }
        voters
    }

    /// Another machine takes the place of node `old`, under a new number: its links' addresses are to
    /// be given, everything else that named the old one names the new one.
    pub fn replace_node(&mut self, old: MemberId, new: MemberId, node: Node) {
        self.nodes.remove(&old);
        self.nodes.insert(new, node);
        for link in &mut self.links {
            link.addresses.remove(&old);
        }
        for group in self.groups.values_mut() {
            for member in group.nodes.iter_mut().filter(|member| **member == old) {
                *member = new;
            }
            for resource in group.resources.values_mut() {
                match &mut resource.kind {
                    ResourceKind::Address(address) => {
                        if let Some(nics) = address.nics_on.remove(&old) {
                            address.nics_on.insert(new, nics);
                        }
                    }
                    ResourceKind::Mirror(mirror) => {
                        if let Some(place) = mirror.copies.remove(&old) {
                            mirror.copies.insert(new, place);
                        }
                        if mirror.source == old {
                            mirror.source = new;
                        }
                    }
                    ResourceKind::Program(_)
                    | ResourceKind::Service(_)
                    | ResourceKind::Mount(_)
                    | ResourceKind::Ocf(_) => {}
                }
            }
        }
    }

    /// Name of a member, for people.
    #[must_use]
    pub fn name_of(&self, member: MemberId) -> String {
        if let Some(node) = self.nodes.get(&member) {
            return node.name.clone();
        }
        match &self.witness {
            Some(witness) if witness.id == member => witness.name.clone(),
            _ => member.to_string(),
        }
    }

    /// The node of this name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<MemberId> {
        self.nodes
            .iter()
            .find(|(_, node)| node.name == name)
            .map(|(&id, _)| id)
    }

    /// The quorum disk, if the third vote is one.
    #[must_use]
    pub fn quorum_disk(&self) -> Option<(MemberId, &QuorumDisk)> {
        let witness = self.witness.as_ref()?;
        Some((witness.id, witness.disk.as_ref()?))
    }

    /// Every member: nodes and witness.
    #[must_use]
    pub fn members(&self) -> BTreeSet<MemberId> {
        self.nodes
            .keys()
            .copied()
            .chain(self.witness.iter().map(|w| w.id))
            .collect()
    }
}

impl Timing {
    /// Silence after which a peer is taken to be down.
    #[must_use]
    pub fn down(&self) -> Duration {
        self.heartbeat * self.down_after
    }

    /// Profile `standard`: failover within a second.
    #[must_use]
    pub fn standard() -> Self {
        Self::of(100, 2, 5, 600, 3_000)
    }

    /// Profile `fast`: failover within a quarter of a second on quiet hosts.
    #[must_use]
    pub fn fast() -> Self {
        Self::of(20, 3, 7, 180, 3_000)
    }

    /// Profile `wan`: failover within ten seconds over slow links.
    #[must_use]
    pub fn wan() -> Self {
        Self::of(1_000, 2, 5, 6_500, 10_000)
    }

    /// Profile `classic`: the numbers administrators of older products know.
    #[must_use]
    pub fn classic() -> Self {
        Self::of(2_200, 2, 3, 9_600, 15_000)
    }

    fn of(
        heartbeat_ms: u64,
        warn_after: u32,
        down_after: u32,
        lease_ms: u64,
        first_ms: u64,
    ) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat_ms),
            warn_after,
            down_after,
            lease: Duration::from_millis(lease_ms),
            first_start_delay: Duration::from_millis(first_ms),
            ungated_margin: Duration::from_secs(3),
        }
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            max: 3,
            window: Duration::from_secs(60),
        }
    }
}

impl FenceDevice {
    /// [`FenceDevice::timeout`] where none is given.
    pub const TIMEOUT: Duration = Duration::from_secs(60);
}

impl Fencing {
    /// [`Fencing::delay`] where none is given.
    pub const DELAY: Duration = Duration::from_secs(10);

    /// Can the node be fenced at all?
    #[must_use]
    pub fn has(&self, node: MemberId) -> bool {
        self.devices
            .get(&node)
            .is_some_and(|levels| !levels.is_empty())
    }
}

impl Default for Fencing {
    fn default() -> Self {
        Self {
            devices: BTreeMap::new(),
            delay: Self::DELAY,
        }
    }
}

impl Default for Flapping {
    fn default() -> Self {
        Self {
            times: 3,
            window: Duration::from_secs(600),
        }
    }
}

impl Group {
    /// Its mirrors.
    pub fn mirrors(&self) -> impl Iterator<Item = (&ResourceId, &Mirror)> {
        self.resources
            .iter()
            .filter_map(|(id, resource)| match &resource.kind {
                ResourceKind::Mirror(mirror) => Some((id, mirror)),
                _ => None,
            })
    }

    /// The mirror of this name.
    #[must_use]
    pub fn mirror(&self, id: &ResourceId) -> Option<&Mirror> {
        match &self.resources.get(id)?.kind {
            ResourceKind::Mirror(mirror) => Some(mirror),
            _ => None,
        }
    }

    /// Virtual addresses of the group.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.resources
            .values()
            .filter_map(|resource| match &resource.kind {
                ResourceKind::Address(address) => Some(address),
                _ => None,
            })
    }
}
