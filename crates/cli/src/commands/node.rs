//! `hotpair node`: draining, leaving, removing, and the operator's word.

use crate::args::Change;
use crate::confirm::Confirmation;
use crate::failure::{Code, Failure};
use crate::output::print;
use crate::session::{self, Outcome, Session};
use crate::words;
use clap::{Args, Subcommand};
use hotpair_api::{Call, Reply};
use hotpair_core::ids::MemberId;
use hotpair_core::request::Request;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The nodes of the cluster.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the nodes and their links.
    List,
    Add(super::remote::AddNode),
    /// Hand the node's groups over and give it no new ones, until `undrain`.
    Drain(NodeArgs),
    /// Let the node run groups again.
    Undrain(NodeArgs),
    /// Stop the node's daemon in good order: its groups are handed over first.
    Leave(LeaveArgs),
    /// Take a node that is down out of the configuration.
    Remove(SureArgs),
    Rebuild(RebuildArgs),
    /// Give your word that the node is powered off, so that its groups may be taken over.
    Down(SureArgs),
    /// End the flapping hold of the node.
    Clear(NodeArgs),
}

/// Put a new or emptied machine in the place of a node that is lost, from the survivor; services run on.
///
/// Says what to run on the new machine, then shows the progress until it has joined and its copies of
/// all mirrors are up to date. Ctrl-C ends the showing only.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    node: String,
    /// How long the new machine may take to join: 90s, 10m, 1h, 2d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = words::time)]
    valid: Duration,
    /// Return when the token is made.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct NodeArgs {
    node: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// This node by default.
    node: Option<String>,
    /// Also where services stop, since no other node can run them.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct SureArgs {
    node: String,
    #[command(flatten)]
    sure: Confirmation,
    #[command(flatten)]
    change: Change,
}

pub fn run(session: &Session, command: NodeCommand) -> Outcome {
    match command {
        NodeCommand::List => list(session),
        NodeCommand::Add(args) => super::remote::add_node(session, &args),
        NodeCommand::Drain(args) => one(session, &args, |node| Request::NodeDrain { node }),
        NodeCommand::Undrain(args) => one(session, &args, |node| Request::NodeUndrain { node }),
        NodeCommand::Clear(args) => one(session, &args, |node| Request::NodeClear { node }),
        NodeCommand::Leave(args) => {
            let status = session.status()?;
            let name = args.node.unwrap_or_else(|| status.node.clone());
            let nodes = BTreeSet::from([session::node(&status, &name)?]);
            let force = args.force;
            session.change(Request::Leave { nodes, force }, args.change.dry_run)
        }
        NodeCommand::Remove(args) => {
            let danger = format!(
                "Node {} is taken out of the configuration for good.",
                args.node
            );
            sure(session, &args, &danger, |node| Request::NodeRemove { node })
        }
        NodeCommand::Rebuild(args) => rebuild(session, &args),
        NodeCommand::Down(args) => {
            let danger = format!(
                "If {} still runs, two nodes will run the same groups and data may be destroyed: \
                 go on only if you have seen that it is powered off.",
                args.node
            );
            sure(session, &args, &danger, |node| Request::NodeIsDown { node })
        }
    }
}

fn one(session: &Session, args: &NodeArgs, request: impl FnOnce(MemberId) -> Request) -> Outcome {
    let node = session::node(&session.status()?, &args.node)?;
    session.change(request(node), args.change.dry_run)
}

fn sure(
    session: &Session,
    args: &SureArgs,
    danger: &str,
    request: impl FnOnce(MemberId) -> Request,
) -> Outcome {
    let node = session::node(&session.status()?, &args.node)?;
    if !args.change.dry_run {
        args.sure.require(&args.node, danger)?;
    }
    session.change(request(node), args.change.dry_run)
}

fn rebuild(session: &Session, args: &RebuildArgs) -> Outcome {
    let status = session.status()?;
    let number = session::node(&status, &args.node)?.0;
    let name = &args.node;
    let online = |node: &&hotpair_api::status::NodeView| node.number == number;
    if let Some(node) = status.nodes.iter().find(online)
        && node.state == "online"
    {
        return Err(
            Failure::refused(format!("{name} is online, so its place is not free")).hint(format!(
                "let it leave first with `hotpair node leave {name}`, or make one copy anew with `hotpair mirror renew`"
            )),
        );
    }
    if args.change.dry_run {
        let text = format!("a token is made, with which another machine takes the place of {name}");
        return session.say(&text, true);
    }
    let call = Call::Token {
        witness: false,
        valid_for_s: args.valid.as_secs(),
    };
    let token = match session.ask(call)? {
        Reply::Token { text, .. } => text,
        other => return Err(session::unexpected(&other)),
    };
    if session.json {
        return session.print_json(&serde_json::json!({ "token": token, "replaces": name }));
    }
    print(&format!(
        "On the new machine, with hotpair and the group's software installed, run:\n\n  hotpair join {token} \
         --replace {name}\n  systemctl enable --now hotpair\n\nThe token is good once, for {}.\n",
        words::shown(args.valid.as_secs())
    ));
    if args.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    await_rebuilt(session, name, number, args.valid)
}

/// Each step as it happens, until the new machine has joined and its copies are up to date.
fn await_rebuilt(session: &Session, name: &str, old: u8, limit: Duration) -> Outcome {
    let begun = Instant::now();
    let mut told = String::new();
    loop {
        let step = rebuilding(session, name, old).unwrap_or_else(|failure| failure.message);
        if step != told {
            print(&format!("{step}\n"));
            told.clone_from(&step);
        }
        if step == REBUILT {
            return Ok(ExitCode::SUCCESS);
        }
        if begun.elapsed() >= limit && step == AWAITED {
            return Err(Failure::new(
                Code::Unfinished,
                "no machine has taken the place within the time of the token",
            ));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

const AWAITED: &str = "waiting for the new machine";
const REBUILT: &str = "rebuilt: the new machine is online and every copy on it is up to date";

fn rebuilding(session: &Session, name: &str, old: u8) -> Result<String, Failure> {
    let status = session.status()?;
    let Some(node) = status
        .nodes
        .iter()
        .find(|node| node.name == name && node.number != old)
    else {
        return Ok(AWAITED.into());
    };
    if node.state != "online" {
        return Ok("it has joined; waiting for its daemon".into());
    }
    let Reply::Mirrors(mirrors) = session.ask(Call::Mirrors)? else {
        return Ok(REBUILT.into());
    };
    let behind: Vec<String> = mirrors
        .iter()
        .flat_map(|mirror| {
            let here = mirror.copies.iter().filter(|copy| copy.node == name);
            let behind = here.filter(|copy| copy.state != "up to date");
            behind.map(|copy| format!("{}/{} is {}", mirror.group, mirror.name, copy.state))
        })
        .collect();
    if behind.is_empty() {
        return Ok(REBUILT.into());
    }
    Ok(format!(
        "online; {} (`hotpair mirror show` has the progress)",
        behind.join(", ")
    ))
}

fn list(session: &Session) -> Outcome {
    let status = session.status()?;
    session.show(&status.nodes, || super::status::nodes(&status, session.ink))
}
