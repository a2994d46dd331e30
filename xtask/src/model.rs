//! `cargo xtask model`: every schedule of a small cluster within bounds, and the planted faults.

use anyhow::Result;
use clap::Args;
use hotpair_model::{Bounds, Outcome, Pair, Setting, cases, check};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Model {
    /// Ticks of one heartbeat that schedules last, instead of those of each case.
    #[arg(long)]
    depth: Option<u64>,
    /// Faults in a schedule, instead of those of each case.
    #[arg(long)]
    faults: Option<u8>,
    /// Longest time for all cases together.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Plant deliberate bugs, one after the other, and expect each to be found.
    #[arg(long)]
    planted: bool,
    /// Threads; one for each core by default.
    #[arg(long)]
    jobs: Option<usize>,
}

impl Model {
    pub fn run(&self) -> Result<ExitCode> {
        let end = Instant::now() + Duration::from_secs_f64(self.minutes * 60.0);
        let well = if self.planted {
            self.hunt(end)
        } else {
            self.prove(end)
        };
        Ok(if well {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn check(&self, setting: Setting, bounds: Bounds, pair: Pair, end: Instant) -> Outcome {
        let bounds = Bounds {
            ticks: self.depth.unwrap_or(bounds.ticks),
            faults: self.faults.unwrap_or(bounds.faults),
            ..bounds
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.jobs.unwrap_or(cores);
        let pair = Pair {
            setting,
            bounds,
            ..pair
        };
        check(
            &pair,
            threads,
            end.saturating_duration_since(Instant::now()),
        )
    }

    fn prove(&self, end: Instant) -> bool {
        let mut well = true;
        for case in cases::CASES {
            let pair = Pair {
                setting: case.setting,
                bounds: case.bounds,
                fault: None,
            };
            let outcome = self.check(case.setting, case.bounds, pair, end);
            println!(
                "{:<44} {:>9} states in {:>6.1} s{}",
                case.name,
                outcome.states,
                outcome.took.as_secs_f64(),
                if outcome.complete {
                    ""
                } else {
                    ": NOT COMPLETE"
                }
            );
            for found in &outcome.broken {
                println!(
                    "  BROKEN: {}: {}",
                    found.property,
                    found.schedule.join(", ")
                );
            }
            for never in &outcome.never {
                println!("  NEVER: {never}");
            }
            for found in &outcome.reached {
                println!("  reached: {}", found.property);
            }
            well &= outcome.well();
        }
        well
    }

    fn hunt(&self, end: Instant) -> bool {
        let mut missed = 0;
        for planted in cases::PLANTED {
            let pair = Pair {
                setting: planted.setting,
                bounds: planted.bounds,
                fault: Some(planted.fault),
            };
            let outcome = self.check(planted.setting, planted.bounds, pair, end);
            let name = format!("{:?}", planted.fault);
            let took = outcome.took.as_secs_f64();
            match outcome.broken.first() {
                Some(found) => println!(
                    "{name:<28} found in {took:.1} s: not true that {}: {}",
                    found.property,
                    found.schedule.join(", ")
                ),
                None => {
                    missed += 1;
                    println!(
                        "{name:<28} NOT FOUND in {} states, {took:.1} s",
                        outcome.states
                    );
                }
            }
        }
        println!(
            "{missed} of {} planted faults were not found",
            cases::PLANTED.len()
        );
        missed == 0
    }
}
