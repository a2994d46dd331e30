//! `hotpair completion`: a script for the shell.

use crate::args::Cli;
use crate::output::print;
use crate::session::Outcome;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::process::ExitCode;

/// Print a completion script: `hotpair completion bash > /etc/bash_completion.d/hotpair`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &CompletionArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hotpair", &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
