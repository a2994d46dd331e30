//! Every planted fault is caught by its schedule, and only the fault is to blame.

use hotpair_core::fault::plant;
use hotpair_sim::planted::{CASES, hunt};

#[test]
fn every_planted_fault_is_caught_within_its_seeds() {
    for case in &CASES {
        let caught = hunt(case, 1, 1);
        match case.harmless {
            None => assert!(
                caught.is_some(),
                "{:?} was not caught within {} seeds",
                case.fault,
                case.within
            ),
            Some(_) => assert!(
                caught.is_none(),
                "{:?} is said to be harmless, but broke a promise: {caught:?}",
                case.fault
            ),
        }
    }
}

#[test]
fn schedules_of_the_planted_faults_come_about_and_break_nothing_without_them() {
    plant(None);
    for case in &CASES {
        let mut complete = 0;
        for seed in 1..=case.within {
            let play = case.play(seed, 0);
            complete += u64::from(play.complete);
            assert_eq!(
                play.outcome.violation, None,
                "schedule of {:?}, seed {seed}",
                case.fault
            );
        }
        assert!(
            complete * 2 > case.within,
            "schedule of {:?}: only {complete} of {} seeds got to its end",
            case.fault,
            case.within
        );
    }
}

#[test]
fn at_least_twenty_planted_faults_break_a_promise() {
    let harmful = CASES.iter().filter(|case| case.harmless.is_none()).count();
    assert!(harmful >= 20, "{harmful}");
}
