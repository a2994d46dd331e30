//! `hotpair node`: draining, leaving, removing, and the operator's word.

use crate::args::Change;
use crate::confirm::Confirmation;
use crate::session::{self, Outcome, Session};
use clap::{Args, Subcommand};
use hotpair_core::ids::MemberId;
use hotpair_core::request::Request;
use std::collections::BTreeSet;

/// The nodes of the cluster.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the nodes and their links.
    List,
    /// Hand the node's groups over and give it no new ones, until `undrain`.
    Drain(NodeArgs),
    /// Let the node run groups again.
    Undrain(NodeArgs),
    /// Stop the node's daemon in good order: its groups are handed over first.
    Leave(LeaveArgs),
    /// Take a node that is down out of the configuration.
    Remove(SureArgs),
    /// Give your word that the node is powered off, so that its groups may be taken over.
    Down(SureArgs),
    /// End the flapping hold of the node.
    Clear(NodeArgs),
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

fn list(session: &Session) -> Outcome {
    let status = session.status()?;
    session.show(&status.nodes, || super::status::nodes(&status, session.ink))
}
