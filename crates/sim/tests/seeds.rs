//! A fixed slice of seeds. `cargo xtask sim` runs as many as wanted.

use hotpair_core::fault::plant;
use hotpair_sim::planted::CASES;
use hotpair_sim::run::Plan;

#[test]
fn first_seeds_break_no_promise() {
    for seed in 1..=40 {
        let outcome = Plan::draw(seed).run(0);
        assert_eq!(
            outcome.violation, None,
            "seed {seed}: cargo xtask sim --seed {seed} --trace"
        );
    }
}

#[test]
fn first_seeds_with_a_quorum_disk_break_no_promise() {
    let plans = (1..).map(Plan::draw);
    let with_disk = plans.filter(|plan| plan.machines.quorum_us.is_some());
    for plan in with_disk.take(40) {
        let outcome = plan.run(0);
        assert_eq!(
            outcome.violation, None,
            "seed {0}: cargo xtask sim --seed {0} --trace",
            plan.seed
        );
    }
}

#[test]
fn first_seeds_with_relations_between_groups_break_no_promise() {
    let plans = (1..).map(Plan::draw);
    let related = plans.filter(|plan| {
        let mut groups = plan.cluster.groups.values();
        groups.any(|group| !group.relations.is_empty())
    });
    for plan in related.take(40) {
        let outcome = plan.run(0);
        assert_eq!(
            outcome.violation, None,
            "seed {0}: cargo xtask sim --seed {0} --trace",
            plan.seed
        );
    }
}

#[test]
fn one_seed_runs_the_same_way_twice() {
    for seed in [3, 8] {
        let first = Plan::draw(seed).run(400);
        let second = Plan::draw(seed).run(400);
        assert_eq!(first.events, second.events);
        assert_eq!(first.trace, second.trace);
    }
}

#[test]
fn shrinking_keeps_the_violation_with_fewer_faults() {
    plant(Some(CASES[0].fault));
    let (plan, rule) = (1..=50)
        .find_map(|seed| {
            let plan = Plan::draw(seed);
            let violation = plan.run(0).violation?;
            (plan.faults.len() > 3).then_some((plan, violation.rule))
        })
        .expect("the planted fault is caught");
    let smaller = plan.shrink(rule, 60);
    let broken = smaller.run(0).violation.map(|violation| violation.rule);
    plant(None);
    assert_eq!(broken, Some(rule));
    assert!(smaller.faults.len() < plan.faults.len());
}
