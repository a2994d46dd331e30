//! `hotpair start`: starts the daemon of this node; forms the cluster on it alone.

use crate::args::Change;
use crate::confirm::Confirmation;
use crate::failure::{Code, Failure};
use crate::session::{self, Outcome, Session};
use clap::Args;
use hotpair_core::request::Request;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Start the daemon of this node; after a full outage, form the cluster on it alone.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Give your word that all other nodes and the witness are off and cannot come back soon: NODE,
    /// which must be this node, goes on alone, with the document it keeps. The others take that over
    /// when they are back.
    #[arg(long, value_name = "NODE")]
    only: Option<String>,
    #[command(flatten)]
    sure: Confirmation,
    #[command(flatten)]
    change: Change,
}

/// A daemon must answer within this time.
const LIMIT: Duration = Duration::from_secs(30);

pub fn run(session: &Session, args: &StartArgs) -> Outcome {
    let begun = start_daemon(session, args.change.dry_run)?;
    let Some(name) = &args.only else {
        let text = match (begun, args.change.dry_run) {
            (false, _) => "the daemon of this node runs already",
            (true, true) => "the daemon of this node would be started",
            (true, false) => "the daemon of this node runs",
        };
        return session.say(text, args.change.dry_run);
    };
    let status = session.status()?;
    let node = session::node(&status, name)?;
    if *name != status.node {
        return Err(Failure::refused(format!(
            "this node is {}: run the command on {name} itself",
            status.node
        )));
    }
    if let Some(leader) = &status.leader {
        return Err(Failure::refused(format!(
            "the cluster has a leader, {leader}, and a majority: there is nothing to force"
        )));
    }
    if !args.change.dry_run {
        let danger = format!(
            "If another node still runs, or comes back without reaching {name}, two nodes will run the \
             same groups and data may be destroyed; what the others decided while {name} was away is \
             lost. Go on only if you have seen that all others are powered off."
        );
        args.sure.require(name, &danger)?;
    }
    session.change(Request::FormAlone { node }, args.change.dry_run)
}

/// Whether it had to be started.
fn start_daemon(session: &Session, dry_run: bool) -> Result<bool, Failure> {
    let Err(failure) = session.connect() else {
        return Ok(false);
    };
    if failure.code != Code::NotRunning || !Path::new("/run/systemd/system").exists() {
        return Err(failure);
    }
    if dry_run {
        return Ok(true);
    }
    let started = Command::new("systemctl")
        .args(["start", "hotpair"])
        .status()?;
    if !started.success() {
        return Err(Failure::refused("`systemctl start hotpair` failed")
            .hint("`journalctl -u hotpair` shows why"));
    }
    let end = Instant::now() + LIMIT;
    while session.status().is_err() {
        if Instant::now() >= end {
            let text = format!("the daemon does not answer within {} s", LIMIT.as_secs());
            return Err(Failure::new(Code::Unfinished, text));
        }
        sleep(Duration::from_millis(100));
    }
    Ok(true)
}
