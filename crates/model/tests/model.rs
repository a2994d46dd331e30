//! The slice of the model that runs with every change.

use hotpair_core::fault::Fault;
use hotpair_model::{Bounds, Outcome, Pair, Setting, Start, check};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

fn run(setting: Setting, ticks: u64, faults: u8, asks: u8, fault: Option<Fault>) -> Outcome {
    let bounds = Bounds {
        ticks,
        faults,
        asks,
    };
    let pair = Pair {
        setting,
        bounds,
        fault,
    };
    let outcome = check(&pair, 2, LIMIT);
    eprintln!(
        "{} states in {:?}; {:?} {:?}",
        outcome.states, outcome.took, outcome.broken, outcome.never
    );
    outcome
}

#[test]
fn a_running_pair_survives_every_single_fault() {
    let outcome = run(Setting::pair(Start::Running), 8, 1, 1, None);
    assert!(outcome.broken.is_empty() && outcome.never.is_empty());
}

#[test]
#[ignore = "looks where deliberate bugs show"]
fn scan() {
    let w = |s: Setting| s;
    let pair = Setting::pair(Start::Running);
    let settings = [
        ("running 1", pair, (10, 1, 0)),
        ("ask 1", pair, (8, 1, 1)),
        (
            "cold 1",
            w(Setting {
                start: Start::Cold,
                ..pair
            }),
            (9, 1, 0),
        ),
        (
            "disarmed 1",
            w(Setting {
                start: Start::Disarmed,
                ..pair
            }),
            (8, 1, 1),
        ),
        (
            "skewed 1",
            w(Setting {
                skewed: true,
                ..pair
            }),
            (9, 1, 0),
        ),
        (
            "three 1",
            w(Setting {
                nodes: 3,
                witness: false,
                ..pair
            }),
            (7, 1, 0),
        ),
        ("running 2", pair, (8, 2, 0)),
    ];
    for fault in Fault::ALL {
        for (name, setting, (ticks, faults, asks)) in settings {
            let pair = Pair {
                setting,
                bounds: Bounds {
                    ticks,
                    faults,
                    asks,
                },
                fault: Some(fault),
            };
            let outcome = check(&pair, 2, Duration::from_secs(9));
            if !outcome.broken.is_empty() {
                eprintln!(
                    "{fault:?}: {name} {:.1}s {} {:?}",
                    outcome.took.as_secs_f64(),
                    outcome.states,
                    outcome.broken
                );
                break;
            }
            eprintln!(
                "{fault:?}: {name} not in {} complete {} {:?}",
                outcome.states, outcome.complete, outcome.never
            );
        }
    }
}
