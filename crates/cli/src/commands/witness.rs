//! `hotpair witness`: the third vote, on a third machine.

use super::join::{block_on, failure};
use crate::args::Change;
use crate::failure::Failure;
use crate::session::{Outcome, Session};
use crate::words;
use clap::{Args, Subcommand};
use hotpair_wire::token::Token;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;

/// The witness host: gives the third vote to one or many clusters.
#[derive(Debug, Subcommand)]
pub enum WitnessCommand {
    Join(WitnessJoin),
    Add(super::remote::AddWitness),
    /// Run the witness daemon, in the foreground.
    Run,
}

/// Make this machine the witness of one more cluster.
#[derive(Debug, Args)]
pub struct WitnessJoin {
    /// What `hotpair token --witness` printed on a node of the cluster; `-` reads it from standard input.
    #[arg(value_parser = words::token)]
    token: String,
    /// Name of the witness in the cluster.
    #[arg(long, value_name = "NAME", default_value = "witness")]
    name: String,
    /// Where its daemon listens, as the nodes see it; found by itself if not given.
    #[arg(long, value_name = "IP[:PORT]", value_parser = words::address)]
    address: Vec<SocketAddr>,
    #[command(flatten)]
    change: Change,
}

pub fn run(session: &Session, command: WitnessCommand) -> Outcome {
    match command {
        WitnessCommand::Join(args) => join(session, args),
        WitnessCommand::Add(args) => super::remote::add_witness(session, &args),
        WitnessCommand::Run => {
            let ended = hotpair_daemon::witness::run(&session.paths);
            ended.map_err(|error| Failure::refused(error.to_string()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn join(session: &Session, args: WitnessJoin) -> Outcome {
    let mut addresses = args.address;
    if addresses.is_empty() {
        addresses.push(own_address(&args.token)?);
    }
    if args.change.dry_run {
        return super::join::look(session, &args.token, |cluster, _| {
            let listens: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            format!(
                "{} becomes the witness of cluster {cluster}, at {}",
                args.name,
                listens.join(", ")
            )
        });
    }
    let joining =
        hotpair_daemon::witness::join(&session.paths, &args.token, &args.name, &addresses);
    let cluster = block_on(joining)?.map_err(failure)?;
    let text = format!(
        "{} is the witness of cluster {cluster}; start it with `systemctl start hotpair-witness` or `hotpair witness run`",
        args.name
    );
    session.say(&text, false)
}

/// The address from which this machine reaches a node of the token's cluster.
fn own_address(token: &str) -> Result<SocketAddr, Failure> {
    let token = Token::parse(token).map_err(|error| Failure::refused(error.to_string()))?;
    for &node in token.addresses() {
        let any = if node.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        // Connecting a UDP socket sends nothing; it only asks for the route.
        let own = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(node)?;
            socket.local_addr()
        });
        if let Ok(own) = own {
            return Ok(SocketAddr::new(own.ip(), hotpair_config::PORT));
        }
    }
    Err(
        Failure::refused("this machine has no route to a node of the cluster")
            .hint("mend the network, or give this machine's own address with `--address IP`"),
    )
}
