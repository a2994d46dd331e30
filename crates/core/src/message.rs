//! What members say to each other.
//!
//! [`Beat`] and [`Ack`] travel as sealed datagrams over every link at once, sent by the guard.
//! [`Message`] travels over mutual-TLS TCP, also over every link at once: all of them may be lost,
//! repeated or overtaken, and are made again from the state they rest on.

use crate::document::Document;
use crate::ids::{HostBoot, Incarnation, MemberId, Term, Version};
use crate::report::Report;
use crate::request::{Outcome, Request};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A datagram between guards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Datagram {
    Beat(Beat),
    Ack(Ack),
}

/// Heartbeat: "I live", and unless `idle`, "grant me a lease of this length".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Beat {
    pub from: MemberId,
    pub boot: HostBoot,
    /// Run of the guard; with `seq` it orders the beats of one host boot.
    pub run: Incarnation,
    /// Rises with every beat of a run.
    pub seq: u64,
    /// No lease is asked for.
    pub idle: bool,
    /// The daemon behind it is deciding (its credit has not run out).
    pub deciding: bool,
    /// What this version takes from me is stopped.
    pub shown: Version,
    /// Newest document this member keeps durably.
    pub held: Version,
    /// Newest version known to be committed.
    pub committed: Version,
    /// Length of the lease asked for.
    pub lease: Duration,
    pub term: Term,
    /// The sender leads in `term`.
    pub leads: bool,
}

/// A voter's answer to one beat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Ack {
    pub from: MemberId,
    /// Boot of the *voter's* host, so that a silence after a restart is seen.
    pub boot: HostBoot,
    pub to: MemberId,
    /// Which beat is answered.
    pub beat_boot: HostBoot,
    pub beat_run: Incarnation,
    pub beat_seq: u64,
    /// The lease is promised.
    pub granted: bool,
    /// The document the voter holds.
    pub held: Version,
    /// No promise that I gave a member other than `to` under a version older than this still runs.
    /// [`Version::ZERO`] while the voter may have forgotten promises.
    pub clear: Version,
    /// Other members that have asked this voter for a lease lately: who cannot be heard directly may
    /// still be alive.
    pub sees: Vec<Seen>,
}

/// A member, as a voter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Seen {
    pub member: MemberId,
    pub boot: HostBoot,
    /// Since its last beat that asked for a lease.
    pub age: Duration,
}

/// A message between daemons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub enum Message {
    /// Would you vote for me in `term`, if I stood with `version`?
    PreVote {
        term: Term,
        version: Version,
    },
    PreVoteReply {
        term: Term,
        granted: bool,
    },
    Vote {
        term: Term,
        version: Version,
    },
    /// `held`: the document the voter keeps, so that one that forgot is not counted.
    VoteReply {
        term: Term,
        granted: bool,
        held: Version,
    },
    /// The leader of `term` asks to keep this document.
    Offer {
        term: Term,
        document: Arc<Document>,
        committed: Version,
    },
    /// It is kept durably.
    Accepted {
        term: Term,
        version: Version,
    },
    /// `version` is committed, says the leader of `term`.
    Committed {
        term: Term,
        version: Version,
    },
    /// You showed an older document than mine; no acceptance is asked for.
    Hand {
        document: Arc<Document>,
    },
    Report(Box<Report>),
    /// Passed on to the leader; `id` is the asking member's own.
    Ask {
        id: u64,
        request: Box<Request>,
        dry_run: bool,
    },
    Answer {
        id: u64,
        outcome: Outcome,
    },
}
