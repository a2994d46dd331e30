//! Project automation: `cargo xtask COMMAND`. One file for each command.

mod sim;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "xtask", about = "Project automation")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Simulate clusters under faults and check what must hold.
    Sim(sim::Sim),
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
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
