//! A deterministic simulator of one mirror: two engines, their disks, links and hosts, an application, and
//! a leader; faults drawn from a seed; checkers outside the code under test.
//!
//! ```text
//!   seed -> Plan (mode, sizes, faults)          plan.rs
//!            v
//!          World: queue of events in virtual µs world.rs, world/, node.rs
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
    /// Cut the power in the middle of this write of metadata, counted from 1 over both nodes, so that exactly
    /// these of its sectors (a bit for each) are on the disk.
    pub cut: Option<(u64, u64)>,
    /// Write the trace to standard error.
    pub trace: bool,
    /// A sector that the trace tells of.
    pub watch: Option<usize>,
}

/// What happened in a run without violation, in all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Virtual time in microseconds.
    pub us: u64,
    pub events: u64,
    /// Writes of metadata.
    pub marks: u64,
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

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        let Self {
            us,
            events,
            marks,
            writes,
            reads,
            flushes,
            failed,
            opens,
            crashes,
            resyncs,
            verifications,
            documents,
            solos,
            detached,
        } = other;
        self.us += us;
        self.events += events;
        self.marks += marks;
        self.writes += writes;
        self.reads += reads;
        self.flushes += flushes;
        self.failed += failed;
        self.opens += opens;
        self.crashes += crashes;
        self.resyncs += resyncs;
        self.verifications += verifications;
        self.documents += documents;
        self.solos += solos;
        self.detached += detached;
    }
}

/// Runs one seed, and catches what panics: a failed assertion is a broken rule.
///
/// # Errors
/// The first rule that was broken.
pub fn run_caught(seed: u64, options: Options) -> Result<Stats, Violation> {
    let result = std::panic::catch_unwind(|| run(seed, options));
    result.unwrap_or_else(|_| {
        fault::plant(None);
        Err(Violation {
            seed,
            at: 0,
            rule: "Panic",
            what: "an assertion failed, see above".into(),
        })
    })
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
