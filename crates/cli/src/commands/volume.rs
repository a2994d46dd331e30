//! `hotpair volume`: the process of a mirror, started by the daemon, not by people.

use crate::session::Outcome;
use clap::Args;
use hotpair_volume::driver::Options;
use std::path::PathBuf;
use std::process::ExitCode;

/// The process of one mirror; the daemon starts it.
#[derive(Debug, Args)]
pub struct VolumeArgs {
    #[arg(long)]
    socket: PathBuf,
    /// GROUP.RESOURCE
    #[arg(long)]
    name: String,
}

pub fn run(args: VolumeArgs) -> Outcome {
    let VolumeArgs { socket, name } = args;
    hotpair_volume::process::run(Options { socket, name })?;
    Ok(ExitCode::SUCCESS)
}
