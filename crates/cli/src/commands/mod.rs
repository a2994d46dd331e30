//! The commands, one file each.

pub mod agents;
pub mod check;
pub mod completion;
pub mod config;
pub mod drill;
pub mod events;
pub mod explain;
pub mod fence;
pub mod group;
pub mod guard;
pub mod init;
pub mod join;
pub mod link;
pub mod maintenance;
pub mod man;
pub mod mirror;
pub mod node;
pub mod probe;
pub mod quorum;
pub mod record;
pub mod remote;
pub mod replay;
pub mod simulate;
pub mod start;
pub mod status;
pub mod stop;
pub mod support;
pub mod template;
pub mod token;
pub mod volume;
pub mod wipe;
pub mod witness;

use crate::args::Command;
use crate::failure::Failure;
use crate::session::{Outcome, Session};
use hotpair_core::request::Request;
use std::process::ExitCode;

/// Runs one command.
pub fn run(session: &Session, command: Command) -> Outcome {
    match command {
        Command::Init(args) => init::run(session, args),
        Command::Join(args) => join::run(session, args),
        Command::Token(args) => token::run(session, args),
        Command::Witness(command) => witness::run(session, command),
        Command::Quorum(command) => quorum::run(session, command),
        Command::Daemon => {
            let ended = hotpair_daemon::daemon::run(session.paths.clone());
            ended.map_err(|error| Failure::refused(error.to_string()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Guard(args) => guard::run(args),
        Command::Volume(args) => volume::run(args),
        Command::Status(args) => status::run(session, &args),
        Command::Events(args) => events::run(session, &args),
        Command::Explain(args) => explain::run(session, args),
        Command::Simulate(args) => simulate::run(session, args),
        Command::Group(command) => group::run(session, command),
        Command::Maintenance(args) => maintenance::run(session, args),
        Command::Disarm(change) => session.change(Request::Disarm, change.dry_run),
        Command::Arm(change) => session.change(Request::Arm, change.dry_run),
        Command::Node(command) => node::run(session, command),
        Command::Fence(command) => fence::run(session, command),
        Command::Link(command) => link::run(session, command),
        Command::Mirror(command) => mirror::run(session, command),
        Command::Config(command) => config::run(session, command),
        Command::Agents(command) => agents::run(session, &command),
        Command::Template(command) => template::run(session, command),
        Command::Drill(args) => drill::run(session, args),
        Command::Probe(args) => probe::run(session, &args),
        Command::Check(args) => check::run(session, &args),
        Command::Record(args) => record::run(session, &args),
        Command::Replay(args) => replay::run(session, &args),
        Command::Support(args) => support::run(session, &args),
        Command::Start(args) => start::run(session, &args),
        Command::Stop(args) => stop::run(session, &args),
        Command::Wipe(args) => wipe::run(session, &args),
        Command::Lab(args) => Ok(hotpair_lab::cli::run(args)),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => man::run(&args),
    }
}
