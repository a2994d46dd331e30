//! Deterministic cluster simulator with fault injection and safety checkers.
//!
//! ```text
//!  seed -> Plan (cluster, machines, faults) -> World: hosts x (guard, daemon, disk, clocks,
//!                                               resources), network, operator
//!                                                 | every event
//!                                                 v
//!                                               checkers (outside the code under test)
//! ```
//! The guards and nodes are the real ones of `hotpair-core`; everything else is simulated in
//! virtual time. See `docs/internals/simulation.md`.
#![forbid(unsafe_code)]

pub mod check;
pub mod clock;
pub mod cluster;
mod disaster;
pub mod fault;
pub mod host;
pub mod mirror;
pub mod operator;
pub mod planted;
mod programs;
pub mod queue;
pub mod quorum;
pub use hotpair_volume::sim::rng;
pub mod run;
mod shell;
pub mod world;
