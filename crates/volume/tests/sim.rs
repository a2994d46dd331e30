//! Seeds of the mirror's simulator, and its planted faults.

use hotpair_volume::sim::{Options, run};

#[test]
fn rules_hold_on_a_fixed_slice_of_seeds() {
    for seed in 0..40 {
        if let Err(violation) = run(seed, Options::default()) {
            panic!("{violation}");
        }
    }
}
