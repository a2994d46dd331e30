//! Seeds of the mirror's simulator. `HOTPAIR_SEEDS=2000` runs more of them.

use hotpair_volume::sim::{Options, run};

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
