//! `hotpair witness`: the third vote, on a third machine.

use super::join::{block_on, failure};
use crate::failure::Failure;
use crate::session::{Outcome, Session};
use crate::words;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::process::ExitCode;

/// The witness host: gives the third vote to one or many clusters.
#[derive(Debug, Subcommand)]
pub enum WitnessCommand {
    Join(WitnessJoin),
    /// Run the witness daemon, in the foreground.
    Run,
}

/// Make this machine the witness of one more cluster.
#[derive(Debug, Args)]
pub struct WitnessJoin {
    /// What `hotpair token --witness` printed on a node of the cluster.
    token: String,
    /// Name of the witness in the cluster.
    #[arg(long, value_name = "NAME", default_value = "witness")]
    name: String,
    /// Where its daemon listens, as the nodes see it; found by itself if not given.
    #[arg(long, value_name = "IP[:PORT]", value_parser = words::address)]
    address: Vec<SocketAddr>,
}

pub fn run(session: &Session, command: WitnessCommand) -> Outcome {
    match command {
        WitnessCommand::Join(args) => {
            let joining = hotpair_daemon::witness::join(
                &session.paths,
                &args.token,
                &args.name,
                args.address,
            );
            let cluster = block_on(joining)?.map_err(failure)?;
            let text = format!(
                "{} is the witness of cluster {cluster}; start it with `systemctl start hotpair-witness` or `hotpair witness run`",
                args.name
            );
            session.say(&text, false)
        }
        WitnessCommand::Run => {
            let ended = block_on(hotpair_daemon::witness::run(session.paths.clone()))?;
            ended.map_err(|error| Failure::refused(error.to_string()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
