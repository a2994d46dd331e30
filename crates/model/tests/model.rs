//! The slice of the model that runs with every change; `cargo xtask model` tries more.

use hotpair_model::{Bounds, Outcome, Pair, Setting, Start, cases, check};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

fn bounds(ticks: u64, faults: u8, asks: u8, calm: bool) -> Bounds {
    Bounds {
        ticks,
        faults,
        asks,
        calm,
    }
}

fn run(setting: Setting, bounds: Bounds) -> Outcome {
    let pair = Pair {
        setting,
        bounds,
        fault: None,
    };
    check(&pair, 2, LIMIT)
}

#[test]
fn running_pair_survives_every_single_fault() {
    let outcome = run(Setting::pair(Start::Running), bounds(7, 1, 0, false));
    assert!(outcome.well() && outcome.complete, "{outcome:?}");
}

#[test]
fn pair_with_a_quorum_disk_survives_every_single_fault() {
    let outcome = run(Setting::with_disk(Start::Running), bounds(7, 1, 0, false));
    assert!(outcome.well() && outcome.complete, "{outcome:?}");
}

#[test]
fn quorum_disk_alone_survives_every_single_fault() {
    let apart = Setting {
        apart: true,
        ..Setting::with_disk(Start::Running)
    };
    let outcome = run(apart, bounds(10, 1, 0, false));
    assert!(outcome.well() && outcome.complete, "{outcome:?}");
}

#[test]
fn switchover_and_disarming_come_true_without_faults() {
    let outcome = run(Setting::pair(Start::Running), bounds(6, 0, 1, false));
    assert!(outcome.well() && outcome.complete, "{outcome:?}");
}

#[test]
fn disarmed_pair_is_armed_again_under_every_fault_of_a_host() {
    let outcome = run(Setting::pair(Start::Disarmed), bounds(6, 1, 1, true));
    assert!(outcome.well() && outcome.complete, "{outcome:?}");
}

#[test]
fn model_that_hardly_moves_is_not_well() {
    let outcome = run(Setting::pair(Start::Running), bounds(1, 1, 0, true));
    assert!(!outcome.never.is_empty());
}

#[test]
fn planted_faults_are_found() {
    for planted in &cases::PLANTED {
        let pair = Pair {
            setting: planted.setting,
            bounds: planted.bounds,
            fault: Some(planted.fault),
        };
        let outcome = check(&pair, 2, LIMIT);
        assert!(
            !outcome.broken.is_empty(),
            "{:?} was not found",
            planted.fault
        );
    }
}
