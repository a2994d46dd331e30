//! Replays what fuzzing found worth keeping, and simple mutations of it.

use hotpair_fuzz_checks::{TARGETS, is_link_message, is_metadata};
use std::path::{Path, PathBuf};

/// Mutations of each kept input; `cargo xtask fuzz` tries far more.
const MUTATIONS: usize = 60;

fn kept(target: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus.join(target))
        .unwrap_or_else(|e| panic!("the corpus of {target}: {e}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

fn mutate(input: &mut Vec<u8>, random: &mut u64) {
    let mut next = |below: usize| {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        usize::try_from(*random % below.max(1) as u64).unwrap()
    };
    for _ in 0..=next(3) {
        let at = next(input.len());
        match next(5) {
            0 if !input.is_empty() => input[at] ^= 1 << next(8),
            1 if !input.is_empty() => input[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
            2 => input.truncate(at),
            3 => input.insert(at.min(input.len()), u8::try_from(next(256)).unwrap()),
            _ => input.extend_from_within(at.min(input.len())..),
        }
        input.truncate(16 * 1024);
    }
}

#[test]
fn kept_inputs_and_their_mutations_break_nothing() {
    for (name, check) in TARGETS {
        let inputs = kept(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        let mut random = 0x9e37_79b9_7f4a_7c15;
        for input in inputs {
            check(&input);
            let mut changed = input.clone();
            for round in 0..MUTATIONS {
                if round % 8 == 0 {
                    changed.clone_from(&input);
                }
                mutate(&mut changed, &mut random);
                check(&changed);
            }
        }
    }
}

/// Fuzzing begins where the decoders say yes.
#[test]
fn kept_inputs_of_mirrors_are_whole() {
    let whole =
        |target, check: fn(&[u8]) -> bool| kept(target).iter().filter(|one| check(one)).count();
    assert!(whole("mirror_link", is_link_message) >= 20);
    assert!(whole("mirror_metadata", is_metadata) >= 3);
}
