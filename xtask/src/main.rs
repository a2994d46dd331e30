//! Project automation: `cargo xtask COMMAND`. One file for each command.

mod bench;
mod fuzz;
mod mirror_sim;
mod model;
mod sim;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "xtask", about = "Project automation")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure failovers in the lab, and what a mirror costs.
    Bench(bench::Bench),
    /// Feed the decoders with inputs that reach new code, for a while.
    Fuzz(fuzz::Fuzz),
    /// Try every schedule of a small cluster within bounds.
    Model(model::Model),
    /// Simulate clusters under faults and check what must hold.
    Sim(sim::Sim),
}

fn main() -> ExitCode {
    bench::serve_if_child();
    let ended = match Arguments::parse().command {
        Command::Bench(bench) => bench.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Model(model) => model.run(),
        Command::Sim(sim) => sim.run(),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
