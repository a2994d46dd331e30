//! `hotpair mirror`: what is agreed about a mirror's copies, and the numbers of the answering node.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MirrorView {
    pub group: String,
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// `synchronous`, `memory`, `asynchronous`.
    pub mode: String,
    /// Asynchronous mode: how far the other copy may lag behind before writes wait for it.
    #[serde(default)]
    pub lag_limit: Option<LagLimit>,
    pub generation: String,
    /// The node that has it open.
    pub active_on: Option<String>,
    /// The active node goes on without the copies that are not up to date.
    pub alone: bool,
    pub copies: Vec<CopyView>,
    /// What needs attention, in words; empty: all is well.
    pub attention: Vec<String>,
    /// Numbers of the mirror process of the answering node; `None`: it keeps no copy, or its process
    /// is not running.
    pub here: Option<HereView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagLimit {
    pub bytes: u64,
    pub ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyView {
    pub node: String,
    /// Member number, as requests name it.
    pub number: u8,
    /// `new`, `up to date`, `outdated`, `inconsistent`, `lost`, `split-brain`, `given up`.
    pub state: String,
    pub place: String,
    /// What its node says of the disk; empty if it is as it should be.
    pub disk: String,
    /// It is to be made, and is the first of its mirror: what its disk holds becomes the data.
    #[serde(default)]
    pub first: bool,
    pub connected: bool,
    pub open: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HereView {
    pub device: Option<String>,
    pub export: Option<String>,
    pub link: Option<String>,
    /// What the other copy lacks, in bytes, as far as this node knows.
    pub out_of_sync: u64,
    pub resync: Option<ProgressView>,
    pub verify: Option<ProgressView>,
    /// What the last verification found different, in bytes.
    pub verify_found: Option<u64>,
    pub paused: bool,
    pub lag_bytes: u64,
    pub lag_ms: u64,
    pub reads: u64,
    pub writes: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub longest_stall_ms: u64,
    /// Last acknowledged write, milliseconds since 1970 by the node's clock.
    pub last_write_ms: Option<u64>,
    /// Since when the active side has been without the other copy, in the same way; `None`: it is not, or it
    /// is not known any more.
    #[serde(default)]
    pub apart_since_ms: Option<u64>,
    pub snapshots: Vec<SnapshotView>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ProgressView {
    pub done: u64,
    pub total: u64,
    pub moved: u64,
    /// Bytes a second.
    pub rate: u64,
    /// The answering node sends.
    pub source: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotView {
    pub name: String,
    /// Milliseconds since 1970.
    pub taken_ms: u64,
    /// Taken by itself before the copy was resynchronised.
    pub automatic: bool,
    pub bytes: u64,
}

/// What is asked of the copy on the answering node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MirrorWork {
    Verify {
        repair: bool,
    },
    Pause,
    Resume,
    /// Bytes a second for resynchronisation and verification; `None`: as fast as it goes.
    Rate {
        limit: Option<u64>,
    },
    SnapshotTake {
        name: String,
    },
    SnapshotRemove {
        name: String,
    },
    /// A read-only device of a snapshot, or of the copy itself (`None`), without replication.
    Expose {
        snapshot: Option<String>,
        at: String,
    },
    Conceal {
        at: String,
    },
}
