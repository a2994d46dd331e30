//! A deterministic simulator of one mirror: two engines, their disks, links and hosts, an application, and
//! a leader; faults drawn from a seed; checkers outside the code under test.
//!
//! ```text
//!   seed -> Plan (mode, sizes, faults)          plan.rs
//!            v
//!          World: queue of events in virtual µs world.rs, node.rs
//!            disks                              disk.rs
//!            leader: the table of mirror.md     leader.rs
//!            application, what it may read      ledger.rs
//! ```
//!
//! [`run`] is one seed: [`Stats`] if all rules held, the first [`Violation`] otherwise.

pub mod disk;
mod leader;
pub mod ledger;
pub mod node;
mod plan;
pub mod rng;
mod world;

use crate::fault::{self, Fault};
use std::fmt;

/// What to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A deliberate bug.
    pub planted: Option<Fault>,
    /// Write the trace to standard error.
    pub trace: bool,
    /// A sector that the trace tells of.
    pub watch: Option<usize>,
}

/// What happened in a run without violation, in all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub events: u64,
    pub writes: u64,
    pub reads: u64,
    pub flushes: u64,
    pub failed: u64,
    pub opens: u64,
    pub crashes: u64,
    pub resyncs: u64,
    pub verifications: u64,
    pub documents: u64,
    pub solos: u64,
    pub detached: u64,
}

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub seed: u64,
    /// Virtual time in microseconds.
    pub at: u64,
    pub rule: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {} at {} µs: {}: {}",
            self.seed, self.at, self.rule, self.what
        )
    }
}

/// Runs one seed. The same seed is the same run on every machine.
///
/// # Errors
/// The first rule that was broken.
pub fn run(seed: u64, options: Options) -> Result<Stats, Violation> {
    fault::plant(options.planted);
    let plan = plan::Plan::draw(seed);
    if options.trace {
        eprintln!("{plan:?}");
    }
    let result = world::World::new(seed, plan, options).run();
    fault::plant(None);
    result
}
