//! `hotpair stop`: ends the daemon of this node, or of all.

use crate::args::Change;
use crate::failure::{Code, Failure};
use crate::session::{self, Outcome, Session};
use clap::Args;
use hotpair_api::{Call, Reply, StatusView};
use hotpair_core::ids::MemberId;
use hotpair_core::request::Request;
use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Stop the daemon of this node; its groups are handed over first.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Stop the daemons of all nodes that are online. Services stop, so it wants --force where any runs.
    #[arg(long, conflicts_with = "leave_services")]
    all: bool,
    /// Also where services stop, since no other node can run them.
    #[arg(long, conflicts_with = "leave_services")]
    force: bool,
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
    let request = if args.all || args.change.dry_run {
        let status = session.status()?;
        if args.leave_services {
            return session.say(&unwatched(&status), true);
        }
        let nodes = leaving(&status, args.all)?;
        Some(Request::Leave {
            nodes,
            force: args.force,
        })
    } else {
        None
    };
    let text = match request {
        Some(request) => session.operate(request, args.change.dry_run)?,
        None => {
            let call = Call::Shutdown {
                leave_services: args.leave_services,
                force: args.force,
            };
            match session.call(call, LIMIT)? {
                Reply::Done(text) => text,
                other => return Err(session::unexpected(&other)),
            }
        }
    };
    if args.change.dry_run || args.no_wait {
        return session.say(&text, args.change.dry_run);
    }
    if !session.json {
        eprintln!("{} (Ctrl-C ends only the waiting)", text.trim_end());
    }
    wait(session)
}

fn leaving(status: &StatusView, all: bool) -> Result<BTreeSet<MemberId>, Failure> {
    if all {
        let numbers = status.nodes.iter().map(|node| MemberId(node.number));
        return Ok(numbers.collect());
    }
    Ok(BTreeSet::from([session::node(status, &status.node)?]))
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

fn unwatched(status: &StatusView) -> String {
    let here: Vec<_> = status
        .groups
        .iter()
        .filter(|group| group.active_on.contains(&status.node))
        .map(|group| group.name.as_str())
        .collect();
    match here.is_empty() {
        true => "the daemon stops; no group runs here".to_owned(),
        false => format!(
            "the daemon stops; running on unwatched: {}",
            here.join(", ")
        ),
    }
}
