//! `hotpair stop`: ends the daemon of this node.

use crate::args::Change;
use crate::failure::{Code, Failure};
use crate::session::{self, Outcome, Session};
use clap::Args;
use hotpair_api::{Call, Reply};
use hotpair_core::request::Request;
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Stop the daemon of this node; its groups are handed over first.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Leave everything running where it is, without anyone watching it.
    #[arg(long)]
    leave_services: bool,
    /// Do not wait until the daemon has ended.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    change: Change,
}

/// Handing groups over takes as long as they take to stop and start.
const LIMIT: Duration = Duration::from_secs(300);

pub fn run(session: &Session, args: &StopArgs) -> Outcome {
    if args.change.dry_run {
        return would(session, args.leave_services);
    }
    let call = Call::Shutdown {
        leave_services: args.leave_services,
    };
    match session.call(call, LIMIT)? {
        Reply::Done(text) if args.no_wait => session.say(&text, false),
        Reply::Done(text) => {
            if !session.json {
                eprintln!("{} (Ctrl-C ends only the waiting)", text.trim_end());
            }
            wait(session)
        }
        other => Err(session::unexpected(&other)),
    }
}

/// Until the daemon listens no more.
fn wait(session: &Session) -> Outcome {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if UnixStream::connect(session.paths.api_socket()).is_err() {
            return session.say("the daemon of this node has ended", false);
        }
        sleep(Duration::from_millis(100));
    }
    let message = format!("the daemon still runs after {} s", LIMIT.as_secs());
    Err(Failure::new(Code::Unfinished, message).hint("`hotpair events` shows what it waits for"))
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
