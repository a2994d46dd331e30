//! `hotpair stop`: ends the daemon of this node.

use crate::args::Change;
use crate::session::{self, Outcome, Session};
use clap::Args;
use hotpair_api::Call;
use hotpair_core::request::Request;
use std::time::Duration;

/// Stop the daemon of this node; its groups are handed over first.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Leave everything running where it is, without anyone watching it.
    #[arg(long)]
    leave_services: bool,
    #[command(flatten)]
    change: Change,
}

/// Handing groups over takes as long as they take to stop and start.
const LIMIT: Duration = Duration::from_secs(300);

pub fn run(session: &Session, args: &StopArgs) -> Outcome {
    if args.change.dry_run {
        return would(session, args.leave_services);
    }
    match session.call(
        Call::Shutdown {
            leave_services: args.leave_services,
        },
        LIMIT,
    )? {
        hotpair_api::Reply::Done(text) => session.say(&text, false),
        other => Err(session::unexpected(&other)),
    }
}

fn would(session: &Session, leave_services: bool) -> Outcome {
    let status = session.status()?;
    if !leave_services {
        let node = session::node(&status, &status.node)?;
        return session.change(Request::NodeLeave { node }, true);
    }
    let here: Vec<_> = status
        .groups
        .iter()
        .filter(|group| group.active_on.contains(&status.node))
        .map(|group| group.name.as_str())
        .collect();
    let text = match here.is_empty() {
        true => "the daemon stops; no group runs here".to_owned(),
        false => format!(
            "the daemon stops; running on unwatched: {}",
            here.join(", ")
        ),
    };
    session.say(&text, true)
}
