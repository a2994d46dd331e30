//! `cargo xtask sim`: seeds on every core, replay of one, and the planted faults.

use crate::mirror_sim::{self, MirrorSim};
use anyhow::{Result, bail};
use clap::Args;
use hotpair_sim::planted;
use hotpair_sim::run::{Outcome, Plan};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lines of the trace printed for a failing seed.
const TAIL: usize = 60;

/// Lines of a whole trace; of a longer one the newest are kept.
const MOST_LINES: usize = 300_000;

#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Sim {
    /// Run so many seeds.
    #[arg(long, group = "what")]
    seeds: Option<u64>,
    /// Run seeds for so many minutes.
    #[arg(long, group = "what")]
    minutes: Option<f64>,
    /// Run this seed alone.
    #[arg(long, group = "what")]
    seed: Option<u64>,
    /// Plant each deliberate bug in turn and expect it to be caught.
    #[arg(long, group = "what")]
    faults: bool,
    /// First seed.
    #[arg(long)]
    from: Option<u64>,
    /// With --seed: print the whole trace.
    #[arg(long)]
    trace: bool,
    /// With --seed: leave faults out that are not needed for the violation.
    #[arg(long)]
    shrink: bool,
    /// Go on after a failing seed and print one line for each.
    #[arg(long)]
    keep_going: bool,
    /// Plant this bug (a number of the list that --faults prints).
    #[arg(long)]
    plant: Option<usize>,
    /// Simulate a mirror (its engine, disks, replication) instead of a cluster; seeds begin at 0.
    #[arg(long, conflicts_with_all = ["plant", "shrink", "schedule"])]
    mirror: bool,
    /// With --mirror: plant this bug (a name that --mirror --faults prints).
    #[arg(long, requires = "mirror")]
    fault: Option<String>,
    /// With --seed: play the schedule of this bug instead of random faults, without planting it.
    #[arg(long, requires = "seed")]
    schedule: Option<usize>,
    /// Threads; one for each core by default.
    #[arg(long)]
    jobs: Option<usize>,
}

impl Sim {
    pub fn run(&self) -> Result<ExitCode> {
        if self.mirror {
            return self.mirror();
        }
        if let Some(seed) = self.seed {
            return self.replay(seed);
        }
        if self.faults {
            return Ok(self.faults());
        }
        self.many()
    }

    fn mirror(&self) -> Result<ExitCode> {
        let planted = match &self.fault {
            Some(name) => Some(mirror_sim::fault(name)?),
            None => None,
        };
        if let Some(seed) = self.seed {
            return Ok(mirror_sim::replay(seed, planted, self.trace));
        }
        if self.faults {
            return Ok(mirror_sim::faults(self.jobs()));
        }
        let simulation = MirrorSim {
            from: self.from.unwrap_or(0),
            seeds: self.seeds,
            until: self.until(Instant::now()),
            planted,
            keep_going: self.keep_going,
            jobs: self.jobs(),
        };
        Ok(simulation.run())
    }

    fn from(&self) -> u64 {
        self.from.unwrap_or(1)
    }

    fn until(&self, begun: Instant) -> Option<Instant> {
        self.minutes
            .map(|minutes| begun + Duration::from_secs_f64(minutes * 60.0))
    }

    fn jobs(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or(cores).max(1)
    }

    fn replay(&self, seed: u64) -> Result<ExitCode> {
        planted::plant_number(self.plant)?;
        let lines = if self.trace { MOST_LINES } else { TAIL };
        if let Some(number) = self.schedule {
            return self.play(number, seed, lines);
        }
        let plan = Plan::draw(seed);
        let outcome = plan.run(lines);
        let Some(violation) = &outcome.violation else {
            print_trace(&outcome, if self.trace { lines } else { 0 });
            println!(
                "seed {seed}: {} s simulated, nothing violated",
                outcome.simulated_us / 1_000_000
            );
            return Ok(ExitCode::SUCCESS);
        };
        let (plan, outcome) = if self.shrink {
            let smaller = plan.shrink(violation.rule, 300);
            let outcome = smaller.run(lines);
            (smaller, outcome)
        } else {
            (plan, outcome.clone())
        };
        println!(
            "cluster: {} nodes, witness {}, {:?}",
            plan.cluster.nodes.len(),
            plan.cluster.witness.is_some(),
            plan.cluster.timing
        );
        for (at, fault) in &plan.faults {
            println!("  {:>10.6} s  {fault:?}", to_seconds(*at));
        }
        print_trace(&outcome, lines);
        print_violation(seed, &outcome);
        Ok(ExitCode::FAILURE)
    }

    /// Plays the schedule of planted fault `number`.
    fn play(&self, number: usize, seed: u64, lines: usize) -> Result<ExitCode> {
        let Some(case) = planted::CASES.get(number) else {
            bail!(
                "there is no schedule {number}: give a number below {}",
                planted::CASES.len()
            )
        };
        let play = case.play(seed, lines);
        if self.trace || play.outcome.violation.is_some() {
            print_trace(&play.outcome, lines);
        }
        if !play.complete {
            println!("the schedule did not get to its end");
        }
        if let Some(violation) = &play.outcome.violation {
            println!(
                "\nthe schedule of {:?} with seed {seed} breaks {:?} at {:.6} s: {}",
                case.fault,
                violation.rule,
                to_seconds(violation.at_us),
                violation.text
            );
            return Ok(ExitCode::FAILURE);
        }
        println!("seed {seed}: nothing violated");
        Ok(ExitCode::SUCCESS)
    }

    fn many(&self) -> Result<ExitCode> {
        planted::plant_number(self.plant)?;
        let begun = Instant::now();
        let until = self.until(begun);
        let end = self
            .seeds
            .map_or(u64::MAX, |seeds| self.from().saturating_add(seeds));
        let next = AtomicU64::new(self.from());
        let tally = Mutex::new(Tally::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs() {
                scope.spawn(|| self.work(&next, end, until, &tally));
            }
        });
        let Ok(tally) = tally.into_inner() else {
            bail!("a simulation thread ended unexpectedly")
        };
        self.sum_up(&tally, begun.elapsed())
    }

    fn work(&self, next: &AtomicU64, end: u64, until: Option<Instant>, tally: &Mutex<Tally>) {
        if planted::plant_number(self.plant).is_err() {
            return;
        }
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let stop = seed >= end || until.is_some_and(|until| Instant::now() >= until);
            if stop {
                return;
            }
            let begun = on_processor();
            let outcome = Plan::draw(seed).run(0);
            let took = on_processor().saturating_sub(begun);
            let Ok(mut tally) = tally.lock() else { return };
            tally.seeds += 1;
            tally.simulated_us += outcome.simulated_us;
            tally.events += outcome.events;
            tally.busy += took;
            if let Some(violation) = outcome.violation {
                if self.keep_going {
                    println!(
                        "seed {seed}: {:?} at {:.6} s: {}",
                        violation.rule,
                        to_seconds(violation.at_us),
                        violation.text
                    );
                } else {
                    next.store(end, Ordering::Relaxed);
                }
                tally.failed.push(seed);
            }
            if !self.keep_going && !tally.failed.is_empty() {
                return;
            }
        }
    }

    fn sum_up(&self, tally: &Tally, elapsed: Duration) -> Result<ExitCode> {
        let simulated = to_seconds(tally.simulated_us);
        let busy = tally.busy.as_secs_f64().max(1e-9);
        println!(
            "{} seeds, {simulated:.0} cluster-seconds simulated in {:.1} s: {:.0} per second of processor time, {} events",
            tally.seeds,
            elapsed.as_secs_f64(),
            simulated / busy,
            tally.events,
        );
        let Some(&seed) = tally.failed.iter().min() else {
            println!("nothing violated");
            return Ok(ExitCode::SUCCESS);
        };
        println!("{} seeds failed", tally.failed.len());
        planted::plant_number(self.plant)?;
        let outcome = Plan::draw(seed).run(TAIL);
        print_trace(&outcome, TAIL);
        print_violation(seed, &outcome);
        Ok(ExitCode::FAILURE)
    }

    /// One line for each planted fault; a failure if one is not as its case says.
    fn faults(&self) -> ExitCode {
        let (mut caught, mut wrong) = (0, 0);
        for (number, case) in planted::CASES.iter().enumerate() {
            let catch = planted::hunt(case, self.from(), self.jobs());
            let (good, words) = verdict(case, catch, planted::without(case, self.from()));
            caught += u32::from(catch.is_some());
            wrong += u32::from(!good);
            println!("{number:>2} {:<26} {words}", format!("{:?}", case.fault));
        }
        println!(
            "{caught} of {} planted faults caught, {wrong} not as they should be",
            planted::CASES.len()
        );
        if wrong == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Is it as the case says, and in words.
fn verdict(
    case: &planted::Case,
    catch: Option<planted::Catch>,
    without: Option<planted::Catch>,
) -> (bool, String) {
    let within = case.within;
    if let Some(other) = without {
        let words = format!(
            "NOT TO BLAME: seed {} breaks {:?} without it",
            other.seed, other.rule
        );
        return (false, words);
    }
    match (catch, case.harmless) {
        (Some(catch), None) => {
            let words = format!(
                "caught at seed {} of {within} by {:?}",
                catch.seed, catch.rule
            );
            (true, words)
        }
        (None, Some(why)) => (true, format!("harmless in {within} seeds: {why}")),
        (None, None) => (false, format!("NOT CAUGHT within {within} seeds")),
        (Some(catch), Some(_)) => {
            let words = format!(
                "NOT HARMLESS: breaks {:?} at seed {}",
                catch.rule, catch.seed
            );
            (false, words)
        }
    }
}

/// What all threads have done together.
#[derive(Default)]
struct Tally {
    seeds: u64,
    simulated_us: u64,
    events: u64,
    busy: Duration,
    failed: Vec<u64>,
}

/// Time this thread has spent on a processor: a busy machine does not make the simulator look slower.
pub fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn to_seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

fn print_trace(outcome: &Outcome, lines: usize) {
    let skipped = outcome.trace.len().saturating_sub(lines);
    for line in outcome.trace.iter().skip(skipped) {
        println!("{line}");
    }
}

fn print_violation(seed: u64, outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        println!(
            "\nseed {seed} breaks {:?} at {:.6} s: {}",
            violation.rule,
            to_seconds(violation.at_us),
            violation.text
        );
        println!(
            "replay: cargo xtask sim --seed {seed} --trace   (--shrink leaves out what does not matter)"
        );
    }
}
