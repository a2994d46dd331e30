//! `hotpair join`: this machine becomes a node of an existing cluster.

use crate::args::Change;
use crate::failure::Failure;
use crate::session::{Outcome, Session};
use crate::words;
use clap::Args;
use hotpair_daemon::join::{self, JoinError, JoinReply, JoinStep, Joining};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Join this machine to a cluster as a node.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// What `hotpair token` printed on a node of the cluster; `-` reads it from standard input.
    #[arg(value_parser = words::token)]
    token: String,
    /// Take the place of this node, which is down for good: its groups and mirrors are bound to this
    /// machine, its mirrors' copies are made anew here.
    #[arg(long, value_name = "NODE")]
    replace: Option<String>,
    /// Name of this node; the host name (or that of the node it replaces) by default.
    #[arg(long, value_name = "NODE")]
    name: Option<String>,
    /// This node's address on a link; needed only where the machine has none in the link's network.
    #[arg(long, value_name = "LINK=IP[:PORT]", value_parser = words::named_address)]
    address: Vec<(String, SocketAddr)>,
    #[command(flatten)]
    change: Change,
}

pub fn run(session: &Session, args: JoinArgs) -> Outcome {
    let replaced = args.replace.clone();
    let name = (args.name.or(replaced)).unwrap_or_else(words::host_name);
    if args.change.dry_run {
        return look(session, &args.token, |cluster, links| {
            format!("node {name} joins cluster {cluster} on links {links}")
        });
    }
    let given: BTreeMap<_, _> = args.address.into_iter().collect();
    let replaces = args.replace.as_deref();
    let joined = join::join_node(&session.paths, &args.token, &name, &given, replaces);
    let joined = block_on(joined)?;
    let cluster = joined.map_err(failure)?;
    let text = format!(
        "node {name} joined cluster {cluster}; start its daemon with `systemctl start hotpair` or `hotpair daemon`"
    );
    session.say(&text, false)
}

/// Asks the token's cluster what there is to join, and says what would happen.
pub fn look(session: &Session, token: &str, text: impl FnOnce(&str, &str) -> String) -> Outcome {
    let joining = Joining::with(token).map_err(failure)?;
    match block_on(joining.ask(JoinStep::Look))?.map_err(failure)? {
        JoinReply::Cluster {
            name: cluster,
            links,
        } => {
            let links: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
            session.say(&text(&cluster, &links.join(", ")), true)
        }
        _ => Err(Failure::refused(
            "the cluster answered something else than was asked",
        )),
    }
}

pub fn failure(error: JoinError) -> Failure {
    Failure::refused(error.to_string())
}

/// Runs a future to its end on this thread.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}
