//! What the command line (and later the console) says to the daemon, and what it hears.
//!
//! One request is one line of JSON on the daemon's Unix socket, which only root may open. The
//! answer is one line, but for [`Call::Events`] with `follow`: that one goes on until the caller
//! hangs up.
#![forbid(unsafe_code)]

pub mod client;
pub mod facts;
pub mod files;
pub mod mirror;
pub mod status;

use hotpair_core::request::Request;
use serde::{Deserialize, Serialize};

pub use mirror::{MirrorView, MirrorWork};
pub use status::{FenceView, StatusView};

/// Version of this interface; the daemon refuses calls of another one, naming both.
pub const VERSION: u32 = 1;

/// Longest accepted line, requests and answers: 4 MiB.
pub const MAX_LINE: usize = 4 * 1024 * 1024;

/// A line from the caller.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    pub version: u32,
    pub call: Call,
}

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Status,
    /// Entries of the event log from number `since` on (0: all kept), newest `last` if given.
    Events {
        since: u64,
        last: Option<usize>,
        follow: bool,
    },
    /// Why is this group where it is?
    Explain {
        group: String,
    },
    /// What would happen if this failed: a node's name, `witness`, a link's name, or
    /// `group/resource`.
    Simulate {
        fail: String,
    },
    /// A change. `dry_run`: only say what would happen.
    Operate {
        request: Box<Request>,
        dry_run: bool,
    },
    /// The configuration in force, as TOML, with its revision.
    ConfigShow {
        revision: Option<u64>,
    },
    /// Revisions kept on this node, newest first.
    ConfigHistory,
    /// Checks this text against the configuration in force; with `apply` it becomes the new one.
    ConfigApply {
        file: String,
        text: String,
        apply: bool,
        dry_run: bool,
    },
    /// Back to a kept revision, as a new one.
    ConfigRollback {
        revision: u64,
        dry_run: bool,
    },
    /// A one-time token for a node (or the witness host) that shall join.
    Token {
        witness: bool,
        valid_for_s: u64,
    },
    /// The newest inputs and actions of the deciding core, to be replayed elsewhere.
    Recording,
    /// What is there on this node's host of all that a configuration needs.
    Facts {
        wanted: Box<facts::Wanted>,
    },
    /// The fence devices; with `test` each is asked from this node whether it answers.
    Fences {
        test: bool,
    },
    /// The call on another node (`node`: its name): calls about mirrors, [`Call::Facts`], [`Call::Fences`].
    On {
        node: String,
        call: Box<Call>,
    },
    /// Every mirror of the cluster, as this node knows it.
    Mirrors,
    /// Work of the mirror process of this node, answered when it has ended.
    MirrorWork {
        group: String,
        mirror: String,
        work: MirrorWork,
    },
    /// Could the copy of a volume of `size` bytes be at this place of this node?
    MirrorPlace {
        device: String,
        size: u64,
        /// Its metadata is in a file of its own.
        beside: bool,
    },
    /// Whose quorum disk is it, as this node sees it?
    QuorumLook {
        device: String,
    },
    /// The files on the copy of this node, page by page.
    MirrorFiles {
        group: String,
        mirror: String,
        /// `None`: look anew and answer the first page; else `next` of the page before.
        page: Option<files::Page>,
    },
    /// Stops the daemon of this node. Its groups are handed over first, unless `leave_services`.
    Shutdown {
        leave_services: bool,
        /// What nobody else can run is stopped.
        #[serde(default)]
        force: bool,
    },
}

/// The daemon's line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Status(Box<StatusView>),
    Events(Vec<EventView>),
    Explain(Box<ExplainView>),
    /// Lines of text, one for each step of what would happen.
    Simulate(Vec<String>),
    /// Done, or what would be done.
    Done(String),
    /// What keeps a copy from being there.
    MirrorPlace {
        problem: Option<String>,
    },
    /// Of which cluster, and the number on its label, both 16 hexadecimal digits.
    QuorumLook {
        cluster: String,
        number: String,
    },
    Config {
        revision: u64,
        text: String,
    },
    ConfigHistory(Vec<RevisionView>),
    /// Findings of the check, rendered and as data, and what would change.
    ConfigChecked {
        ok: bool,
        rendered: String,
        changes: Vec<String>,
    },
    Token {
        text: String,
        valid_for_s: u64,
    },
    Recording(serde_json::Value),
    Mirrors(Vec<MirrorView>),
    MirrorFiles(files::FilesView),
    Facts(Box<facts::Host>),
    Fences(Vec<FenceView>),
    /// Nothing was changed: what is wrong and what to do.
    Refused(String),
    /// No majority answered in time: it may still be done, or not.
    Undecided(String),
}

/// One entry of the event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    pub number: u64,
    /// Wall clock of the writing node, RFC 3339, for people only.
    pub time: String,
    /// `message`, `warning`, `error` or `cleared`.
    pub level: String,
    /// The node that wrote it.
    pub by: String,
    pub node: Option<String>,
    pub group: Option<String>,
    pub text: String,
}

/// Why a group is where it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainView {
    pub group: String,
    pub state: String,
    /// One sentence.
    pub verdict: String,
    pub nodes: Vec<status::FitView>,
    /// Each relation to another group in words.
    #[serde(default)]
    pub relations: Vec<String>,
    /// Newest last: what was decided and why.
    pub decisions: Vec<DecisionView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecisionView {
    pub version: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevisionView {
    pub revision: u64,
    pub time: String,
    pub summary: String,
}
