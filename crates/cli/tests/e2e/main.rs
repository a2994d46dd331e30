//! Whole clusters in the lab, broken and looked at from outside: real hosts, packets and processes.
//!
//! Every test starts a lab of its own. The machine has few cores and the figures come from
//! `cargo xtask bench failover`, so these tests assert no times: only who answers in the end, and
//! that never two did. Needs root; says so and passes without it. Run with `--test-threads=1`.

mod agents;
mod cluster;
mod databases;
mod fencing;
mod groups;
mod input;
mod links;
mod mirror_care;
mod mirror_cuts;
mod mirrors;
mod operator;
mod policies;
mod power;
mod processes;
mod programs;
mod quorum;
mod remote;
mod whole;
