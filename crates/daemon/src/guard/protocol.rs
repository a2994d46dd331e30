//! What daemon and guard say to each other over the guard's Unix socket: frames of `hotpair-wire`
//! with postcard inside. Both are of the same build, so there is no version to negotiate; a guard
//! of another build is replaced by the daemon when it starts.

use hotpair_core::guard::{GuardEvent, Wanted};
use hotpair_core::ids::{GroupId, HostBoot, MemberId};
use hotpair_core::message::Message;
use hotpair_wire::seal::SealKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Frame kind of everything on this socket.
pub const KIND: u8 = 1;

/// Path number of datagrams to and from the witness; links are numbered from 0.
pub const WITNESS_PATH: u8 = 200;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToGuard {
    /// Where and with what keys to talk; repeated when it changes.
    Setup(Box<Setup>),
    Wanted(Box<Wanted>),
    /// The decision loop is alive.
    Credit,
    /// For the quorum disk `to`: a pre-vote, a vote, an offer or a document.
    Disk {
        to: MemberId,
        message: Box<Message>,
    },
    /// Close every gate and end: the daemon stops in good order.
    End,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromGuard {
    Event(GuardEvent),
    Links(Vec<LinkSight>),
    /// What the quorum disk `from` says.
    Disk {
        from: MemberId,
        message: Box<Message>,
    },
    /// How the quorum disk is; `None`: there is none.
    Quorum(Option<QuorumSight>),
    /// For the event log: something is wrong with the guard's surroundings.
    Alarm(String),
}

/// Everything outside the pure guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub me: MemberId,
    pub boot: HostBoot,
    pub cluster: u64,
    pub key_id: u8,
    pub key: SealKey,
    pub links: Vec<LinkSetup>,
    pub witness: Option<(MemberId, Vec<SocketAddr>)>,
    pub quorum: Option<QuorumSetup>,
    /// Name of the nftables tables.
    pub table: String,
    pub groups: BTreeMap<GroupId, GateSetup>,
}

/// The quorum disk, whose voice in this node the guard is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumSetup {
    pub member: MemberId,
    pub path: PathBuf,
    /// On its label.
    pub number: u64,
}

/// How a quorum disk does, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumSight {
    pub member: MemberId,
    /// Why it answers nothing, in words.
    pub problem: Option<String>,
    /// The longest of the last seconds' rounds: own slot written, all slots read.
    pub round_us: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSetup {
    pub name: String,
    pub local: SocketAddr,
    pub peers: BTreeMap<MemberId, SocketAddr>,
}

/// What is cut when a group is: packets of its addresses, writes to its mirrors, and its processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSetup {
    pub addresses: Vec<(IpAddr, u8)>,
    pub cgroup: PathBuf,
    /// Write gate of its mirrors, if it has any.
    pub write_gate: Option<PathBuf>,
}

/// How a member is heard over one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSight {
    pub member: MemberId,
    /// Link number, or [`WITNESS_PATH`].
    pub path: u8,
    /// Since the last beat or answer over this link; `None`: never heard.
    pub silent_ms: Option<u64>,
    /// Of the last hundred beats the member sent, how many did not come over this link.
    pub lost_of_100: u8,
    pub round_trip_us: Option<u64>,
}
