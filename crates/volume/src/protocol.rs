//! What the daemon and a mirror process say to each other over the process's Unix socket: frames of
//! `hotpair-wire` of kind [`KIND`] with postcard inside.
//!
//! The process listens; the newest connection counts and ends the one before. It goes on without any:
//! a daemon that was restarted connects again. To each new connection it says its report and status at
//! once, then whenever they change (status at most twice a second). It acts on nothing that needs orders
//! before the first [`ToMirror::Setup`] and [`ToMirror::Orders`] of its life.
//!
//! For its whole life it holds an exclusive `flock` on a file beside the socket, [`pid_file`], that has its
//! number in decimal: so a second one ends at once, and one that does not answer can be killed.

use hotpair_core::config::{CopyPlace, Export, OnDiskFailure};
use hotpair_core::ids::{Epoch, HostBoot, MemberId};
use hotpair_core::mirror::{MirrorId, MirrorOrders, MirrorReport};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The file that says which process serves `socket`.
#[must_use]
pub fn pid_file(socket: &std::path::Path) -> PathBuf {
    socket.with_extension("pid")
}

/// Frame kind of everything on this socket.
pub const KIND: u8 = 2;
/// Largest frame.
pub const FRAME_LIMIT: usize = 1024 * 1024;
/// Snapshots whose names begin so are the daemon's own, for a short look: those that a process finds when
/// it starts are removed.
pub const LOOK_PREFIX: &str = "hotpair-look-";

/// Orders, work and questions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToMirror {
    /// Repeated when something of it changes; links may change at any time, the rest only while the
    /// device is not open.
    Setup(Box<Setup>),
    Orders(Box<MirrorOrders>),
    /// Ends in one [`FromMirror::Done`] with the same ticket, after the report of what it changed.
    Work {
        ticket: u64,
        work: Work,
    },
    /// Say the status now.
    Query,
    /// Close in good order if open, then end the process.
    End,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Become the active side and give the kernel a device at [`Setup::device`].
    Open {
        epoch: Epoch,
    },
    /// Take the device away and be standby again. Fails, changing nothing, while it is in use.
    Close,
    /// At once: fail everything, take the device away as soon as nobody has it open. Never fails.
    Abort,
    Command(Command),
}

/// What the operator asks of the copy on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Compare both copies; `repair`: send the blocks that differ. On the active side only.
    Verify {
        repair: bool,
    },
    /// Stop resynchronisation and verification until resumed.
    Pause,
    Resume,
    /// Bytes a second for both; `None`: as fast as it goes.
    Rate(Option<u64>),
    /// Keep what the copy holds now, to be read later.
    SnapshotTake {
        name: String,
    },
    SnapshotRemove {
        name: String,
    },
    /// Give the kernel a read-only device of a snapshot (`None`: of the copy itself, without
    /// replication, while it is not open), at this path. `scratch`: it takes some MiB of writes, which
    /// are forgotten with it.
    Expose {
        snapshot: Option<String>,
        at: PathBuf,
        scratch: bool,
    },
    /// End what was exposed at this path.
    Conceal {
        at: PathBuf,
    },
}

/// Everything outside the pure engine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub mirror: MirrorId,
    pub me: MemberId,
    pub boot: HostBoot,
    pub cluster: u64,
    /// For TLS, as `hotpair_wire::pki::Identity::from_pem` takes them.
    pub certificates: String,
    pub key: String,
    /// Most preferred first.
    pub links: Vec<MirrorLink>,
    pub place: CopyPlace,
    pub export: Export,
    pub on_disk_failure: OnDiskFailure,
    /// In bytes a second.
    pub resync_rate: Option<u64>,
    /// The write gate: see `hotpair_host::gate_file`.
    pub gate: PathBuf,
    /// Where the symbolic link to the block device shall be while it is open.
    pub device: PathBuf,
    /// Of this process's own: snapshots and the like.
    pub directory: PathBuf,
}

/// One way to the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorLink {
    pub name: String,
    pub local: SocketAddr,
    pub peer: MemberId,
    pub remote: SocketAddr,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("mirror", &self.mirror)
            .field("place", &self.place)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromMirror {
    Report(Box<MirrorReport>),
    Status(Box<MirrorStatus>),
    Done {
        ticket: u64,
        result: Result<(), String>,
    },
    /// For the event log.
    Note {
        error: bool,
        text: String,
    },
}

/// Numbers for people: they run, and nothing is decided by them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorStatus {
    /// Volume, in bytes.
    pub size: u64,
    /// Path of the block device while it is open.
    pub device: Option<String>,
    /// Kind of export in use: `fuse`.
    pub export: Option<String>,
    /// Name of the link in use.
    pub link: Option<String>,
    /// What the other copy lacks, in bytes, as far as this side knows.
    pub out_of_sync: u64,
    pub resync: Option<Progress>,
    pub verify: Option<Progress>,
    /// Blocks that the last verification found different, in bytes.
    pub verify_found: Option<u64>,
    pub paused: bool,
    /// Asynchronous mode: bytes and milliseconds the other side lags behind.
    pub lag_bytes: u64,
    pub lag_ms: u64,
    pub reads: u64,
    pub writes: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    /// Longest time a write waited for the agreement or the peer since it was opened, milliseconds.
    pub longest_stall_ms: u64,
    /// Last acknowledged write, milliseconds since 1970 by this host's clock; for people only.
    pub last_write_ms: Option<u64>,
    /// Since when the active side has been without the other copy, in the same way.
    pub apart_since_ms: Option<u64>,
    pub snapshots: Vec<Snapshot>,
}

/// Of a resynchronisation or verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    /// Bytes sent or received, which is less than `done` where blocks were equal.
    pub moved: u64,
    /// Over the last seconds, bytes a second.
    pub rate: u64,
    /// This side sends.
    pub source: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub name: String,
    /// Milliseconds since 1970.
    pub taken_ms: u64,
    /// Taken by itself before this copy was resynchronised.
    pub automatic: bool,
    /// Disk space it takes, in bytes.
    pub bytes: u64,
}
