//! `hotpair record`: saves what the deciding core heard and did, for `hotpair replay`.

use crate::failure::Failure;
use crate::output::print;
use crate::session::{Outcome, Session, unexpected};
use clap::Args;
use hotpair_api::{Call, Reply};
use std::path::PathBuf;
use std::process::ExitCode;

/// Save the newest inputs and actions of this node's deciding core, to be replayed elsewhere.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Where to; standard output by default.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(session: &Session, args: &RecordArgs) -> Outcome {
    let recording = match session.ask(Call::Recording)? {
        Reply::Recording(recording) => recording,
        other => return Err(unexpected(&other)),
    };
    let text = format!("{}\n", serde_json::to_string(&recording)?);
    let Some(path) = &args.output else {
        print(&text);
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::write(path, text)
        .map_err(|error| Failure::refused(format!("cannot write {}: {error}", path.display())))?;
    session.say(&format!("recorded to {}", path.display()), false)
}
