//! `cargo xtask sim --mirror`: the simulator of the mirror engine (`hotpair_volume::sim`).

use crate::sim::on_processor;
use anyhow::{Context, Result};
use hotpair_volume::fault::{Fault, NOT_CAUGHT};
use hotpair_volume::sim::{Options, Stats, Violation, run_caught};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Seeds within which a planted fault must be caught.
const WITHIN: u64 = 3000;

/// What to run.
pub struct MirrorSim {
    pub from: u64,
    /// How many; no end if it is not said.
    pub seeds: Option<u64>,
    pub until: Option<Instant>,
    pub planted: Option<Fault>,
    pub keep_going: bool,
    pub jobs: usize,
}

/// By its name, as `--faults` prints it.
pub fn fault(name: &str) -> Result<Fault> {
    let found = Fault::ALL
        .into_iter()
        .find(|fault| format!("{fault:?}").eq_ignore_ascii_case(name));
    found.with_context(|| {
        format!("there is no fault {name:?}: see `cargo xtask sim --mirror --faults`")
    })
}

/// One seed, with its trace on standard error.
pub fn replay(seed: u64, planted: Option<Fault>, trace: bool) -> ExitCode {
    let options = Options {
        planted,
        trace,
        ..Options::default()
    };
    match run_caught(seed, options) {
        Ok(stats) => {
            println!("seed {seed}: nothing violated; {stats:?}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}

/// Each planted fault: by what and after how many seeds it is caught.
pub fn faults(jobs: usize) -> ExitCode {
    let mut missed = 0;
    for fault in Fault::ALL {
        if NOT_CAUGHT.contains(&fault) {
            println!("{fault:<24?} is known not to be caught: see docs/internals/mirror.md");
            continue;
        }
        let hunt = MirrorSim {
            from: 0,
            seeds: Some(WITHIN),
            until: None,
            planted: Some(fault),
            keep_going: false,
            jobs,
        };
        let name = format!("{fault:?}");
        match hunt.first() {
            Some(caught) => println!(
                "{name:<24} caught at seed {} by {}",
                caught.seed, caught.rule
            ),
            None => {
                missed += 1;
                println!("{name:<24} NOT CAUGHT within {WITHIN} seeds");
            }
        }
    }
    println!("{missed} of {} not caught", Fault::ALL.len());
    ExitCode::from(u8::from(missed > 0))
}

#[derive(Default)]
struct Tally {
    seeds: u64,
    stats: Stats,
    busy: Duration,
    violations: Vec<Violation>,
}

impl MirrorSim {
    pub fn run(&self) -> ExitCode {
        let begun = Instant::now();
        let tally = self.tally();
        let simulated = Duration::from_micros(tally.stats.us).as_secs_f64();
        println!(
            "{} seeds, {simulated:.0} mirror-seconds simulated in {:.1} s: {:.0} per second of processor time; {:?}",
            tally.seeds,
            begun.elapsed().as_secs_f64(),
            simulated / tally.busy.as_secs_f64().max(1e-9),
            tally.stats,
        );
        let Some(first) = tally.violations.iter().min_by_key(|v| v.seed) else {
            println!("nothing violated");
            return ExitCode::SUCCESS;
        };
        println!("{} seeds failed", tally.violations.len());
        println!("{first}");
        let seed = first.seed;
        println!("replay: cargo xtask sim --mirror --seed {seed} --trace");
        ExitCode::FAILURE
    }

    /// The violation of the smallest seed.
    fn first(&self) -> Option<Violation> {
        let violations = self.tally().violations;
        violations.into_iter().min_by_key(|found| found.seed)
    }

    fn tally(&self) -> Tally {
        let next = AtomicU64::new(self.from);
        let tally = Mutex::new(Tally::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| self.work(&next, &tally));
            }
        });
        tally.into_inner().unwrap_or_default()
    }

    fn work(&self, next: &AtomicU64, tally: &Mutex<Tally>) {
        let end = self
            .seeds
            .map_or(u64::MAX, |seeds| self.from.saturating_add(seeds));
        let options = Options {
            planted: self.planted,
            ..Options::default()
        };
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || self.until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            let begun = on_processor();
            let result = run_caught(seed, options);
            let took = on_processor().saturating_sub(begun);
            let Ok(mut tally) = tally.lock() else { return };
            tally.seeds += 1;
            tally.busy += took;
            match result {
                Ok(stats) => tally.stats += stats,
                Err(violation) => {
                    if self.keep_going {
                        println!("{violation}");
                    } else {
                        next.store(end, Ordering::Relaxed);
                    }
                    tally.violations.push(violation);
                }
            }
        }
    }
}
