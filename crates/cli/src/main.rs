//! The `hotpair` command: reads arguments, asks the daemon or does what needs none, and prints.
//!
//! One file for each command in `commands/`; `failure.rs` gives every error its exit code and hint.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod confirm;
mod failure;
mod output;
mod session;
mod watch;
mod words;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    hotpair_host::rt::share_one_heap();
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let session = session::Session::new(cli.root.as_deref(), cli.json);
    match commands::run(&session, cli.command) {
        Ok(code) => code,
        Err(failure) => failure.report(cli.json),
    }
}
