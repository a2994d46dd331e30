//! `hotpair guard`: started by the daemon, not by people.

use crate::session::Outcome;
use clap::Args;
use hotpair_daemon::guard::process::{GuardOptions, run as guard};
use std::path::PathBuf;
use std::process::ExitCode;

/// The guard process; the daemon starts it.
#[derive(Debug, Args)]
pub struct GuardArgs {
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    promises: PathBuf,
    #[arg(long)]
    groups: PathBuf,
}

pub fn run(args: GuardArgs) -> Outcome {
    let GuardArgs {
        socket,
        promises,
        groups,
    } = args;
    guard(GuardOptions {
        socket,
        promises,
        groups,
    })?;
    Ok(ExitCode::SUCCESS)
}
