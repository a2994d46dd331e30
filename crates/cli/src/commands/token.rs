//! `hotpair token`: lets one more member join.

use crate::output::print;
use crate::session::{Outcome, Session, unexpected};
use crate::words;
use clap::Args;
use hotpair_api::{Call, Reply};
use std::process::ExitCode;
use std::time::Duration;

/// Make a one-time token, with which a node (or the witness) may join.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// For the witness host instead of a node.
    #[arg(long)]
    witness: bool,
    /// How long it is good: 90s, 10m, 1h, 2d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = words::time)]
    valid: Duration,
}

pub fn run(session: &Session, args: TokenArgs) -> Outcome {
    let call = Call::Token {
        witness: args.witness,
        valid_for_s: args.valid.as_secs(),
    };
    match session.ask(call)? {
        Reply::Token { text, valid_for_s } if session.json => session.print_json(
            &serde_json::json!({ "token": text, "valid_for_s": valid_for_s, "witness": args.witness }),
        ),
        Reply::Token { text, valid_for_s } => {
            // The token alone on standard output, so that a script can take it.
            print(&format!("{text}\n"));
            let (who, command) = match args.witness {
                true => ("the witness host", "hotpair witness join"),
                false => ("one node", "hotpair join"),
            };
            let valid = words::shown(valid_for_s);
            eprintln!("good for {who}, once, for {valid}: run `{command} TOKEN` there; keep it secret");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(unexpected(&other)),
    }
}
