//! Decisions of a hotpair cluster. Pure: facts in, actions out; no I/O, clock, threads or hash order.
//!
//! ```text
//!             beats, acks                     messages, reports, completions, facts, requests
//!                 v                                          v
//!   guard::Guard (heartbeats, promises,  <-- Wanted --  node::Node (document, election,
//!   lease, start check, gates)           -- events -->  groups, planning)
//! ```
//!
//! [`disk::DiskVoter`] answers beats and messages in place of a quorum disk. [`guard::Guard`] lives in the guard process and answers in microseconds; [`node::Node`] lives in
//! the daemon. The simulator, the model checker and `hotpair simulate` run the same two.
#![forbid(unsafe_code)]

pub mod config;
pub mod disk;
pub mod document;
pub mod fault;
pub mod group;
pub mod guard;
pub mod ids;
pub mod message;
pub mod mirror;
pub mod node;
pub mod operate;
pub mod plan;
pub mod reason;
pub mod report;
pub mod request;
pub mod time;
