//! One seed, one run: faults, then healing, then everything must run again. And shrinking.

use crate::check::{Rule, Violation};
use crate::cluster::{self, Machines};
use crate::fault::{self, Fault};
use crate::mirror;
use crate::operator::{Errand, unsettled};
use crate::rng::Rng;
use crate::world::{Event, World};
use hotpair_core::config::Cluster;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

const SECOND: u64 = 1_000_000;

/// Longest time after healing until everything must run, in simulated microseconds.
pub const HEALING_US: u64 = 120 * SECOND;

/// So many seeds of a hundred have a mirror, if there are two nodes.
const WITH_MIRROR: u64 = 25;

/// So many of a hundred seeds with an even number of nodes and a witness have a quorum disk for it.
const WITH_QUORUM_DISK: u64 = 30;
/// Percent of the seeds whose nodes have fence devices.
const WITH_FENCE_DEVICES: u64 = 25;

/// Seeds of a hundred whose groups have relations to each other, where there are two or more.
const WITH_RELATIONS: u64 = 40;

/// Longest time until the disks are at rest once the application asks for nothing more.
const IDLE_US: u64 = 30 * SECOND;

/// Everything a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub cluster: Cluster,
    pub machines: Machines,
    /// How long faults go on.
    pub phase_us: u64,
    pub faults: Vec<(u64, Fault)>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    pub simulated_us: u64,
    pub events: u64,
    /// Last lines of the trace, if one was kept.
    pub trace: Vec<String>,
}

impl Plan {
    /// What seed `seed` is about.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1);
        let (mut cluster, mut machines) = cluster::draw(&mut rng);
        let phase_us = rng.range(5, 40) * SECOND;
        let members = cluster.members().len();
        let mut faults = fault::draw(&mut rng, members, phase_us);
        // Numbers of its own: the other seeds are what they were.
        let mut rng = Rng::new(seed, 6);
        if rng.percent(WITH_MIRROR) {
            mirror::draw(&mut rng, &mut cluster);
            if !cluster
                .groups
                .values()
                .all(|group| group.mirrors().next().is_none())
            {
                faults.extend(mirror::draw_trouble(&mut rng, phase_us));
                faults.sort_by_key(|(at, _)| *at);
            }
        }
        // Likewise.
        let mut rng = Rng::new(seed, 7);
        if cluster.nodes.len().is_multiple_of(2)
            && cluster.witness.is_some()
            && rng.percent(WITH_QUORUM_DISK)
        {
            let heartbeat = u64::try_from(cluster.timing.heartbeat.as_micros()).unwrap_or(20_000);
            let fast = rng.range(100, heartbeat / 10);
            machines.quorum_us = Some((fast, fast + rng.range(100, heartbeat / 3)));
        }
        // Likewise.
        let mut rng = Rng::new(seed, 8);
        if rng.percent(WITH_FENCE_DEVICES) {
            cluster::draw_fences(&mut rng, &mut cluster);
        }
        // Likewise.
        let mut rng = Rng::new(seed, 9);
        if rng.percent(WITH_RELATIONS) {
            cluster::relate(&mut rng, &mut cluster);
        }
        Self {
            seed,
            cluster,
            machines,
            phase_us,
            faults,
        }
    }

    /// Runs it, keeping at most `trace` lines of trace.
    #[must_use]
    pub fn run(&self, trace: usize) -> Outcome {
        let world = World::new(&self.cluster, &self.machines, self.seed);
        watch(world, trace, |world| self.play(world))
    }

    fn play(&self, world: &mut World) {
        for (at, fault) in &self.faults {
            world.queue.push(*at, Event::Fault(fault.clone()));
        }
        world.run_until(self.phase_us);
        heal(world);
    }

    /// A plan with fewer faults that breaks the same promise; at most `tries` runs are spent.
    #[must_use]
    pub fn shrink(&self, rule: Rule, tries: usize) -> Self {
        let fails = |plan: &Self| {
            plan.run(0)
                .violation
                .is_some_and(|broken| broken.rule == rule)
        };
        let mut best = self.clone();
        let mut left = tries;
        let mut chunk = best.faults.len().div_ceil(2).max(1);
        loop {
            let mut index = 0;
            while index < best.faults.len() && left > 0 {
                let mut fewer = best.clone();
                let end = (index + chunk).min(fewer.faults.len());
                fewer.faults.drain(index..end);
                left -= 1;
                if fails(&fewer) {
                    best = fewer;
                } else {
                    index += chunk;
                }
            }
            if chunk == 1 || left == 0 {
                return best;
            }
            chunk = chunk.div_ceil(2);
        }
    }
}

/// Runs `play` in `world`, keeping at most `trace` lines of trace. A panic of the core is a finding.
pub(crate) fn watch(mut world: World, trace: usize, play: impl FnOnce(&mut World)) -> Outcome {
    quiet_panics();
    if trace > 0 {
        world.keep_trace(trace);
    }
    let run = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    if run.is_err() {
        let text = LAST_PANIC.with_borrow(Clone::clone);
        world.violated(Rule::Panic, text);
    }
    Outcome {
        violation: world.violation.take(),
        simulated_us: world.now_us,
        events: world.events,
        trace: world.trace.take().unwrap_or_default().into(),
    }
}

/// Heals everything and demands that everything runs again.
pub(crate) fn heal(world: &mut World) {
    world.heal();
    world
        .queue
        .push(world.now_us + SECOND, Event::Operator(Errand::Repair));
    demand_liveness(world);
}

fn demand_liveness(world: &mut World) {
    let deadline = world.now_us + HEALING_US;
    let mut good = 0;
    world.run_for(SECOND);
    while world.violation.is_none() {
        world.run_for(SECOND / 4);
        let trouble = unsettled(world);
        good = if trouble.is_none() { good + 1 } else { 0 };
        if good >= 4 {
            break;
        }
        if let Some(trouble) = trouble
            && world.now_us > deadline
        {
            world.violated(Rule::Liveness, trouble);
        }
    }
    if world.violation.is_none() {
        compare_copies(world);
    }
    if world.violation.is_none()
        && let Some(text) = world.unanswered()
    {
        world.violated(Rule::ActionsEnd, text);
    }
}

/// Lets the mirror come to rest, and looks at both disks.
fn compare_copies(world: &mut World) {
    if world.mirror.is_none() {
        return;
    }
    world.quieten_mirror();
    let deadline = world.now_us + IDLE_US;
    world.run_for(SECOND);
    while !world.mirror_is_idle() && world.violation.is_none() {
        if world.now_us > deadline {
            world.violated(Rule::ActionsEnd, "requests to the mirror do not end".into());
        }
        world.run_for(SECOND / 4);
    }
    if world.violation.is_none() {
        world.compare_mirror();
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    static SIMULATING: RefCell<bool> = const { RefCell::new(false) };
}

/// A panic of the core is a finding like any other; it is not printed while simulating.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    SIMULATING.set(true);
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if SIMULATING.with_borrow(|simulating| *simulating) {
                LAST_PANIC.set(panic.to_string());
            } else {
                usual(panic);
            }
        }));
    });
}

/// Runs `body` with a panic in this thread printed as usual again.
pub fn loudly<T>(body: impl FnOnce() -> T) -> T {
    SIMULATING.set(false);
    body()
}
