//! Random facts, completions, orders and configurations against what must always hold.

use super::*;
use crate::group::part::Phase;
use proptest::prelude::*;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Step {
    Ends { which: usize, ok: bool },
    EndsLate { which: usize, ok: bool },
    Found { of: usize, running: bool },
    Exits { of: usize, before: u64 },
    Verdict { of: usize, bad: bool },
    Adopted { of: usize },
    Wants(Want),
    NewEpoch,
    Maintenance,
    MaintenanceOf { of: usize },
    Configures { without: usize },
    Waits { ms: u64 },
    Clears,
}

struct World {
    rig: Rig,
    /// Overtaken by a kill, but not ended on the host.
    late: Vec<ResourceAction>,
    /// Started or found running, and not stopped since.
    up: BTreeSet<ResourceId>,
    left_out: BTreeSet<usize>,
}

fn step() -> impl Strategy<Value = Step> {
    let of = 0..NAMES.len();
    prop_oneof![
        12 => (any::<usize>(), prop::bool::weighted(0.85)).prop_map(|(which, ok)| Step::Ends { which, ok }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, ok)| Step::EndsLate { which, ok }),
        5 => (of.clone(), prop::bool::weighted(0.7)).prop_map(|(of, running)| Step::Found { of, running }),
        2 => (of.clone(), 0..3_u64).prop_map(|(of, before)| Step::Exits { of, before }),
        1 => (of.clone(), prop::bool::weighted(0.3)).prop_map(|(of, bad)| Step::Verdict { of, bad }),
        1 => of.clone().prop_map(|of| Step::Adopted { of }),
        2 => prop_oneof![3 => Just(Want::Run), 1 => Just(Want::Stop), 1 => Just(Want::Gone)].prop_map(Step::Wants),
        1 => Just(Step::NewEpoch),
        1 => Just(Step::Maintenance),
        1 => of.clone().prop_map(|of| Step::MaintenanceOf { of }),
        1 => of.prop_map(|without| Step::Configures { without }),
        3 => prop_oneof![Just(100), Just(1_000), Just(11_000), Just(70_000)].prop_map(|ms| Step::Waits { ms }),
        1 => Just(Step::Clears),
    ]
}

/// `d` requires `b` and `c`, which require `a`; `e` stands alone.
fn diamond() -> Vec<(&'static str, Resource)> {
    vec![
        ("a", address(&[])),
        ("b", watched(service(&["a"]))),
        ("c", service(&["a"])),
        ("d", watched(service(&["b", "c"]))),
        ("e", watched(service(&[]))),
    ]
}

impl World {
    fn new(max: u32, on_stop_failure: OnStopFailure) -> Self {
        let mut rig = Rig::of(&diamond());
        rig.config.restart.max = max;
        rig.config.on_stop_failure = on_stop_failure;
        Self {
            rig,
            late: Vec::new(),
            up: BTreeSet::new(),
            left_out: BTreeSet::new(),
        }
    }

    fn does(&mut self, step: &Step) {
        let now = self.rig.now();
        match *step {
            Step::Ends { which, ok } => self.ends(which, ok),
            Step::EndsLate { which, ok } => {
                if !self.late.is_empty() {
                    let action = self.late.swap_remove(which % self.late.len());
                    self.rig.run.done(now, action.id, outcome(ok));
                }
            }
            Step::Found { of, running } => self.fact(
                of,
                ResourceFact::Detected {
                    running,
                    detail: String::new(),
                },
            ),
            Step::Exits { of, before } => self.fact(
                of,
                ResourceFact::Exited {
                    epoch: Epoch(self.rig.epoch.saturating_sub(before)),
                    detail: "exit code 1".into(),
                },
            ),
            Step::Verdict { of, bad } => {
                let problems = if bad { vec!["bad".into()] } else { Vec::new() };
                self.fact(of, ResourceFact::Verdict { problems });
            }
            Step::Adopted { of } => self.fact(of, ResourceFact::Adopted { epoch: Epoch(1) }),
            Step::Wants(want) => self.rig.want = want,
            Step::NewEpoch => self.rig.epoch += 1,
            Step::Maintenance => self.rig.maintenance = !self.rig.maintenance,
            Step::MaintenanceOf { of } => {
                let id = NAMES[of].into();
                if !self.rig.resources.remove(&id) {
                    self.rig.resources.insert(id);
                }
            }
            Step::Configures { without } => self.configures(without),
            Step::Waits { ms } => self.rig.now_ms += ms,
            Step::Clears => self.rig.run.clear(),
        }
        self.settle();
    }

    fn fact(&mut self, of: usize, fact: ResourceFact) {
        self.rig.run.fact(self.rig.now(), &NAMES[of].into(), fact);
    }

    fn ends(&mut self, which: usize, ok: bool) {
        if self.rig.open.is_empty() {
            return;
        }
        let action = self.rig.open.swap_remove(which % self.rig.open.len());
        self.rig.run.done(self.rig.now(), action.id, outcome(ok));
        if ok && matches!(action.work, Work::Stop | Work::Kill) {
            self.up.remove(&action.resource);
        }
    }

    fn configures(&mut self, without: usize) {
        if !self.left_out.remove(&without) {
            self.left_out.insert(without);
        }
        let out: Vec<ResourceId> = self.left_out.iter().map(|&of| NAMES[of].into()).collect();
        let full = group(&diamond());
        self.rig.config.resources = full.resources;
        for id in &out {
            self.rig.config.resources.remove(id);
        }
        for resource in self.rig.config.resources.values_mut() {
            resource.requires.retain(|id| !out.contains(id));
        }
    }

    fn settle(&mut self) {
        let before = self.rig.open.len();
        self.rig.settle();
        let fresh = self.rig.open.split_off(before);
        for action in fresh {
            self.holds_for(&action);
            self.overtakes(&action);
            match action.work {
                Work::Start => self.up.insert(action.resource.clone()),
                _ => false,
            };
            self.rig.open.push(action);
        }
        for (id, part) in &self.rig.run.parts {
            if part.phase == Phase::Running {
                self.up.insert(id.clone());
            }
        }
        self.holds();
    }

    /// A kill overtakes everything, a stop overtakes a check.
    fn overtakes(&mut self, action: &ResourceAction) {
        let open = std::mem::take(&mut self.rig.open);
        for other in open {
            let overtaken = other.resource == action.resource
                && (action.work == Work::Kill || other.work == Work::Check);
            if overtaken {
                self.late.push(other);
            } else {
                assert_ne!(
                    other.resource, action.resource,
                    "{other:?} before {action:?}"
                );
                self.rig.open.push(other);
            }
        }
    }

    fn holds_for(&self, action: &ResourceAction) {
        let parts = &self.rig.run.parts;
        let part = &parts[&action.resource];
        if action.work != Work::Kill {
            assert_ne!(
                self.rig.want,
                Want::Gone,
                "only kills without a permit: {action:?}"
            );
        }
        if matches!(action.work, Work::Start | Work::Stop) {
            assert!(!part.maintained, "acts in maintenance: {action:?}");
        }
        match action.work {
            Work::Start => {
                assert_eq!(self.rig.want, Want::Run, "starts unasked");
                for id in &part.requires {
                    let required = &parts[id];
                    assert!(
                        required.maintained || required.phase == Phase::Running,
                        "{action:?} before {id}: {required:?}"
                    );
                }
            }
            Work::Stop => {
                for (id, other) in parts {
                    assert!(
                        !other.requires.contains(&action.resource)
                            || other.maintained
                            || !self.up.contains(id),
                        "{action:?} while {id} runs"
                    );
                }
            }
            Work::Kill | Work::Check => {}
        }
    }

    fn holds(&self) {
        let report = self.rig.report();
        if report.state.is_down() || self.rig.run.is_down() {
            assert!(self.up.is_empty(), "down while {:?} run", self.up);
            let acting = |action: &&ResourceAction| action.work != Work::Check;
            assert_eq!(self.rig.open.iter().find(acting), None);
        }
    }

    /// The world turns good: nothing fails any more, everything started is found running.
    fn comes_to_rest(&mut self) {
        for _ in 0..300 {
            let waits = self
                .rig
                .open
                .iter()
                .any(|action| action.work != Work::Check);
            if !self.rig.open.is_empty() {
                let action = self.rig.open[0].clone();
                self.ends(0, true);
                if action.work == Work::Check {
                    self.rig.run.fact(
                        self.rig.now(),
                        &action.resource,
                        ResourceFact::Detected {
                            running: true,
                            detail: String::new(),
                        },
                    );
                }
            } else if let Some(at) = self.rig.run.deadline() {
                assert!(at > self.rig.now() || waits, "a deadline that has passed");
                self.rig.now_ms = at.0.div_ceil(1_000);
            } else {
                return;
            }
            self.settle();
        }
        panic!("it does not come to rest: {:?}", self.rig.run);
    }
}

fn outcome(ok: bool) -> Result<(), String> {
    if ok { Ok(()) } else { Err("failed".into()) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_sequence_keeps_the_order_and_ends_as_asked(
        steps in prop::collection::vec(step(), 1..120),
        max in 0..4_u32,
        kills in any::<bool>(),
        want in prop_oneof![Just(Want::Run), Just(Want::Stop), Just(Want::Gone)],
    ) {
        let policy = if kills { OnStopFailure::Kill } else { OnStopFailure::Wait };
        let mut world = World::new(max, policy);
        for step in &steps {
            world.does(step);
        }
        world.rig.maintenance = false;
        world.rig.resources.clear();
        for of in 0..NAMES.len() {
            world.fact(of, ResourceFact::Verdict { problems: Vec::new() });
        }
        world.rig.run.clear();
        world.rig.want = want;
        world.rig.epoch += 1;
        world.settle();
        world.comes_to_rest();
        let state = world.rig.state();
        if want == Want::Run {
            // Failures the steps left behind may be decided about only now.
            prop_assert!(state == GroupState::Running || matches!(state, GroupState::Failed { .. }), "{state:?}");
            world.rig.epoch += 1;
            world.settle();
            world.comes_to_rest();
            prop_assert_eq!(world.rig.state(), GroupState::Running);
        } else {
            prop_assert!(state.is_down(), "{state:?}");
            prop_assert!(world.rig.run.is_down());
        }
    }
}
