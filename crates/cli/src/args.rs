//! The command line as a whole: global options and the list of commands.

use crate::commands;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// High availability for two servers.
#[derive(Debug, Parser)]
#[command(name = "hotpair", version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// Put every path of this node below DIR, as for several nodes on one machine.
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed, nothing was changed
  2  the command line is wrong
  3  the daemon does not run on this node
  4  no majority, or no answer in time: whether it was done is not known
  5  errors were found (a check, a configuration, a replay)
  6  begun, and did not end as asked";

#[derive(Debug, Subcommand)]
pub enum Command {
    Init(commands::init::InitArgs),
    Join(commands::join::JoinArgs),
    Token(commands::token::TokenArgs),
    #[command(subcommand)]
    Witness(commands::witness::WitnessCommand),
    #[command(subcommand)]
    Quorum(commands::quorum::QuorumCommand),
    /// Run the daemon of this node, in the foreground.
    Daemon,
    #[command(hide = true)]
    Guard(commands::guard::GuardArgs),
    #[command(hide = true)]
    Volume(commands::volume::VolumeArgs),
    Status(commands::status::StatusArgs),
    Events(commands::events::EventsArgs),
    Explain(commands::explain::ExplainArgs),
    Simulate(commands::simulate::SimulateArgs),
    #[command(subcommand)]
    Group(commands::group::GroupCommand),
    Maintenance(commands::maintenance::MaintenanceArgs),
    /// Stop all automatic action in the whole cluster; services go on.
    Disarm(Change),
    /// Act again; healthy services are not touched.
    Arm(Change),
    #[command(subcommand)]
    Node(commands::node::NodeCommand),
    #[command(subcommand)]
    Fence(commands::fence::FenceCommand),
    #[command(subcommand)]
    Link(commands::link::LinkCommand),
    #[command(subcommand)]
    Mirror(commands::mirror::MirrorCommand),
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    #[command(subcommand)]
    Agents(commands::agents::AgentsCommand),
    #[command(subcommand)]
    Template(commands::template::TemplateCommand),
    Drill(commands::drill::DrillArgs),
    Probe(commands::probe::ProbeArgs),
    Check(commands::check::CheckArgs),
    Record(commands::record::RecordArgs),
    Replay(commands::replay::ReplayArgs),
    Support(commands::support::SupportArgs),
    Start(commands::start::StartArgs),
    Stop(commands::stop::StopArgs),
    Wipe(commands::wipe::WipeArgs),
    Lab(hotpair_lab::cli::LabArgs),
    Completion(commands::completion::CompletionArgs),
    Man(commands::man::ManArgs),
}

/// Every command that changes something takes it.
#[derive(Clone, Copy, Debug, Args)]
pub struct Change {
    /// Only say what would happen.
    #[arg(long)]
    pub dry_run: bool,
}
