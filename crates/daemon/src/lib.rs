//! The daemon, the guard process and the witness: the only owners of the decision state machines.
#![forbid(unsafe_code)]

pub mod agents;
mod calls;
pub mod daemon;
pub mod directory_move;
pub mod events;
pub mod executor;
pub mod fence;
pub mod guard;
pub mod join;
mod looks;
#[cfg(test)]
mod loop_disk;
mod mirror_view;
pub mod mirrors;
mod passing;
pub mod paths;
mod persist;
pub mod quorum_label;
mod recording;
mod server;
pub mod store;
mod tokens;
mod transport;
mod view;
pub mod witness;
