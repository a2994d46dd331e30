//! The checker: all schedules within the bounds, with what must hold and what must come true.

use crate::choice::Choice;
use crate::setting::{Bounds, Setting, Start};
use crate::world::World;
use hotpair_core::fault::{Fault, plant};
use stateright::{Checker, Model, Property};
use std::time::{Duration, Instant};

/// What is checked.
#[derive(Clone, Debug)]
pub struct Pair {
    pub setting: Setting,
    pub bounds: Bounds,
    /// A deliberate bug of the core.
    pub fault: Option<Fault>,
}

/// How a check ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Distinct states.
    pub states: usize,
    pub took: Duration,
    /// All schedules within the bounds were tried.
    pub complete: bool,
    /// What must hold and did not, with the schedule that shows it.
    pub broken: Vec<Found>,
    /// What must come true in some schedule, with one in which it did.
    pub reached: Vec<Found>,
    /// What must come true and did in none.
    pub never: Vec<&'static str>,
}

impl Outcome {
    /// All that must hold held, and all that must come true did.
    #[must_use]
    pub fn well(&self) -> bool {
        self.broken.is_empty() && self.never.is_empty()
    }
}

/// A property and a schedule.
#[derive(Clone, Debug)]
pub struct Found {
    pub property: &'static str,
    pub schedule: Vec<String>,
}

impl Model for Pair {
    type State = World;
    type Action = Choice;

    fn init_states(&self) -> Vec<World> {
        // The bug comes once the cluster runs.
        plant(None);
        World::begin(self.setting, self.bounds)
            .into_iter()
            .collect()
    }

    fn actions(&self, world: &World, choices: &mut Vec<Choice>) {
        world.choices(choices);
    }

    fn next_state(&self, world: &World, choice: Choice) -> Option<World> {
        plant(self.fault);
        let mut next = world.clone();
        next.take(choice);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(
                "the group is active on one node at most",
                |_, world: &World| world.broken != Some(crate::Rule::SingleActive),
            ),
            Property::always("a term has one leader at most", |_, world: &World| {
                world.broken != Some(crate::Rule::OneLeader)
            }),
            Property::always("committed documents are a chain", |_, world: &World| {
                world.broken != Some(crate::Rule::Chain)
            }),
            Property::always("a version names one document", |_, world: &World| {
                world.broken != Some(crate::Rule::OneDocumentPerVersion)
            }),
            Property::sometimes("the group runs on node 1", |_, world: &World| {
                world.seen.ran_on_1
            }),
        ];
        properties.extend(self.must_happen());
        properties
    }
}

impl Pair {
    fn must_happen(&self) -> Vec<Property<Self>> {
        let mut properties = Vec::new();
        let guaranteed = self.setting.witness || self.setting.nodes > 2;
        let faults = self.bounds.faults > 0;
        if self.setting.start == Start::Running && guaranteed && faults {
            properties.push(Property::sometimes(
                "node 2 takes the group over after a power cut of node 1",
                |_, world: &World| world.seen.took_over,
            ));
            // With the peer and a disk no single fault takes both.
            if !self.setting.disk || self.setting.apart {
                properties.push(Property::sometimes(
                    "a lease is lost and held again",
                    |_, world: &World| world.seen.regained,
                ));
            }
        }
        if self.setting.start == Start::Running && self.bounds.asks > 0 {
            properties.push(Property::sometimes(
                "a switchover is completed",
                |_, world: &World| world.seen.switched,
            ));
            properties.push(Property::sometimes(
                "the group is pinned",
                |_, world: &World| world.seen.pinned,
            ));
        }
        if self.setting.start == Start::Disarmed && self.bounds.asks > 0 {
            properties.push(Property::sometimes(
                "the group is unpinned",
                |_, world: &World| world.seen.unpinned,
            ));
        }
        properties
    }
}

/// Tries the schedules, in `threads` threads, for at most `limit`. Ends with the first violation.
#[must_use]
pub fn check(pair: &Pair, threads: usize, limit: Duration) -> Outcome {
    let begun = Instant::now();
    let checker = pair
        .clone()
        .checker()
        .threads(threads.max(1))
        .timeout(limit)
        .finish_when(stateright::HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    let took = begun.elapsed();
    let discoveries = checker.discoveries();
    let mut outcome = Outcome {
        states: checker.unique_state_count(),
        took,
        complete: took < limit,
        broken: Vec::new(),
        reached: Vec::new(),
        never: Vec::new(),
    };
    for property in pair.properties() {
        let found = discoveries.get(property.name).map(|path| Found {
            property: property.name,
            schedule: schedule(path.clone().into_actions()),
        });
        match (property.expectation, found) {
            (stateright::Expectation::Sometimes, Some(found)) => outcome.reached.push(found),
            (stateright::Expectation::Sometimes, None) => outcome.never.push(property.name),
            (_, Some(found)) => outcome.broken.push(found),
            (_, None) => {}
        }
    }
    outcome
}

/// A schedule in words: rounds without departures are counted.
fn schedule(choices: Vec<Choice>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rounds = 0_u32;
    for choice in choices {
        if choice == Choice::Go {
            rounds += 1;
            continue;
        }
        if rounds > 0 {
            lines.push(format!("{rounds} rounds"));
            rounds = 0;
        }
        lines.push(format!("{choice:?}"));
    }
    if rounds > 0 {
        lines.push(format!("{rounds} rounds"));
    }
    lines
}
