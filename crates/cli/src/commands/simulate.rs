//! `hotpair simulate`: what would happen if something failed.

use crate::output::plain;
use crate::session::{Outcome, Session, unexpected};
use clap::Args;
use hotpair_api::{Call, Reply};

/// Say what would happen if something failed; the deciding code itself is asked, nothing is done.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// A node's name, `witness`, a link's name, or GROUP/RESOURCE.
    #[arg(long, value_name = "WHAT")]
    fail: String,
}

pub fn run(session: &Session, args: SimulateArgs) -> Outcome {
    match session.ask(Call::Simulate {
        fail: args.fail.clone(),
    })? {
        Reply::Simulate(steps) => {
            let object = serde_json::json!({ "fail": args.fail, "steps": steps });
            session.show(&object, || {
                let lines: Vec<_> = steps
                    .iter()
                    .map(|step| format!("  {}\n", plain(step)))
                    .collect();
                match lines.is_empty() {
                    true => format!("if {} fails: nothing changes\n", args.fail),
                    false => format!("if {} fails:\n{}", args.fail, lines.concat()),
                }
            })
        }
        other => Err(unexpected(&other)),
    }
}
