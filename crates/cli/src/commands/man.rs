//! `hotpair man`: manual pages, one for each command.

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::print;
use crate::session::Outcome;
use clap::{Args, CommandFactory};
use std::path::PathBuf;
use std::process::ExitCode;

/// Print the manual page, or write one for each command into a directory.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write hotpair.1, hotpair-init.1, … here.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(args: &ManArgs) -> Outcome {
    match &args.output {
        Some(directory) => {
            clap_mangen::generate_to(Cli::command(), directory).map_err(|error| {
                Failure::refused(format!(
                    "cannot write manual pages to {}: {error}",
                    directory.display()
                ))
            })?
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&String::from_utf8_lossy(&page));
        }
    }
    Ok(ExitCode::SUCCESS)
}
