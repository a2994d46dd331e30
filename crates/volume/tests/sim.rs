//! Seeds of the mirror's simulator. `HOTPAIR_SEEDS=2000` runs more of them.

use hotpair_volume::fault::{Fault, NOT_CAUGHT};
use hotpair_volume::sim::{Options, run, run_caught};

/// Where to begin, so that the test is quick; the table in `docs/internals/mirror.md` says how many seeds
/// from 0 it takes.
const CASES: &[(Fault, u64)] = &[
    (Fault::AckBeforePeer, 0),
    (Fault::AckBeforeLocal, 0),
    (Fault::AloneUnrecorded, 4),
    (Fault::AloneAtSameSerial, 47),
    (Fault::AckBeforeStamp, 4),
    (Fault::TakeEarlierEpoch, 294),
    (Fault::BlockBeforeLog, 34),
    (Fault::EvictBeforePages, 195),
    (Fault::EvictUnflushed, 34),
    (Fault::ForgetUnflushed, 45),
    (Fault::NoInconsistentMark, 0),
    (Fault::ResyncWithoutLog, 19),
    (Fault::ResyncWithoutTargetBits, 2032),
    (Fault::ReadBesideWrite, 47),
    (Fault::OpenUncleanTogether, 280),
    (Fault::SoloBeforeMark, 80),
    (Fault::GateReopens, 7),
    (Fault::FlushLocalOnly, 35),
    (Fault::MemoryForSynchronous, 1),
    (Fault::CompleteBeforeStamp, 0),
    (Fault::ClearBeforeFlush, 47),
    (Fault::ResyncUnlocked, 55),
    (Fault::OverwriteDiverged, 268),
    (Fault::ForgetInFlight, 0),
    (Fault::AloneWhileJoining, 50),
];

#[test]
fn rules_hold_on_a_fixed_slice_of_seeds() {
    let count = std::env::var("HOTPAIR_SEEDS").ok();
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(60);
    for seed in 0..count {
        if let Err(violation) = run(seed, Options::default()) {
            panic!("{violation}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 14, 15] {
        assert_eq!(run(seed, Options::default()), run(seed, Options::default()));
    }
}

#[test]
fn each_planted_fault_is_caught() {
    assert_eq!(CASES.len() + NOT_CAUGHT.len(), Fault::ALL.len());
    for (fault, from) in CASES {
        let options = Options {
            planted: Some(*fault),
            ..Options::default()
        };
        assert!(
            (*from..*from + 3).any(|seed| run_caught(seed, options).is_err()),
            "{fault:?} is not caught"
        );
        // The fault is to blame, not the seed.
        for seed in *from..*from + 3 {
            assert_eq!(run(seed, Options::default()).err(), None, "{fault:?}");
        }
    }
}

/// Every write of metadata in these runs: attaching, opening, activity log, resynchronisation, marks.
#[test]
fn a_power_cut_in_the_middle_of_any_metadata_write_loses_nothing() {
    let mut cuts = 0;
    for seed in SHORT {
        let whole = run(*seed, Options::default()).unwrap();
        for write in 1..=whole.marks {
            // None of its sectors, the first, all but the first, all.
            for sectors in [0, 1, !1, u64::MAX] {
                let options = Options {
                    cut: Some((write, sectors)),
                    ..Options::default()
                };
                if let Err(violation) = run(*seed, options) {
                    panic!("cut in write {write}, sectors {sectors:b}: {violation}");
                }
                cuts += 1;
            }
        }
    }
    assert!(cuts > 500, "{cuts}");
}

/// Seeds of short runs.
const SHORT: &[u64] = &[0, 9, 19];
