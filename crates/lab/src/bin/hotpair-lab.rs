//! The lab on its own, for work on it: `hotpair-lab up` is `hotpair lab up`.

use clap::Parser;
use hotpair_lab::cli::{LabArgs, run};
use std::process::ExitCode;

/// Practice clusters on one machine.
#[derive(Debug, Parser)]
#[command(name = "hotpair-lab")]
struct Arguments {
    #[command(flatten)]
    lab: LabArgs,
}

fn main() -> ExitCode {
    // Processes of the lab start each other with `PROGRAM lab …`, as in `hotpair`.
    let mut words: Vec<_> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "lab") {
        words.remove(1);
    }
    run(Arguments::parse_from(words).lab)
}
