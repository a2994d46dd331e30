//! Runs seeds of the mirror's simulator.
//!
//! `cargo run --release -p hotpair-volume --features sim --example sim -- [--seed N] [--trace]
//! [--seeds FROM COUNT] [--plant N] [--faults COUNT] [--keep-going]`

use hotpair_volume::fault::Fault;
use hotpair_volume::sim::{Options, Stats, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn number(arguments: &[String], name: &str, nth: usize) -> Option<u64> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + nth)?.parse().ok()
}

fn one(seed: u64, options: Options) -> Result<Stats, String> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, options))) {
        Ok(Ok(stats)) => Ok(stats),
        Ok(Err(violation)) => Err(violation.to_string()),
        Err(_) => Err(format!("seed {seed}: panic")),
    }
}

fn add(total: &mut Stats, stats: Stats) {
    total.events += stats.events;
    total.writes += stats.writes;
    total.reads += stats.reads;
    total.flushes += stats.flushes;
    total.failed += stats.failed;
    total.opens += stats.opens;
    total.crashes += stats.crashes;
    total.resyncs += stats.resyncs;
    total.verifications += stats.verifications;
    total.documents += stats.documents;
    total.solos += stats.solos;
    total.detached += stats.detached;
}

/// Each planted fault: after how many seeds it is caught.
fn faults(limit: u64) -> ExitCode {
    let mut missed = false;
    for (n, fault) in Fault::ALL.into_iter().enumerate() {
        let options = Options {
            planted: Some(fault),
            ..Options::default()
        };
        let caught = (0..limit).find_map(|seed| one(seed, options).err().map(|why| (seed, why)));
        match caught {
            Some((seed, why)) => println!("{n:2} {fault:?}: {} seeds: {why}", seed + 1),
            None => {
                missed = true;
                println!("{n:2} {fault:?}: NOT CAUGHT in {limit} seeds");
            }
        }
    }
    ExitCode::from(u8::from(missed))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let planted = number(&arguments, "--plant", 1)
        .and_then(|n| Fault::ALL.get(usize::try_from(n).ok()?).copied());
    let options = Options {
        planted,
        trace: has("--trace"),
        watch: number(&arguments, "--watch", 1).and_then(|n| usize::try_from(n).ok()),
    };
    if let Some(limit) = number(&arguments, "--faults", 1) {
        return faults(limit);
    }
    let (from, count) = match number(&arguments, "--seed", 1) {
        Some(seed) => (seed, 1),
        None => (
            number(&arguments, "--seeds", 1).unwrap_or(0),
            number(&arguments, "--seeds", 2).unwrap_or(200),
        ),
    };
    let mut total = Stats::default();
    let mut failed = 0;
    for seed in from..from + count {
        match one(seed, options) {
            Ok(stats) => add(&mut total, stats),
            Err(why) => {
                println!("{why}");
                failed += 1;
                if !has("--keep-going") {
                    break;
                }
            }
        }
    }
    println!("{count} seeds, {failed} failed: {total:?}");
    ExitCode::from(u8::from(failed > 0))
}
