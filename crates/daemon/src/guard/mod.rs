//! The guard: a small process of its own that sends heartbeats, keeps promises and feeds the gates.
//! [`process`] is the process, [`link`] the daemon's end of the socket between them.

pub mod gates;
pub mod link;
pub mod paths;
pub mod process;
pub mod protocol;
pub mod quorum;
