//! `hotpair fence`: fence devices listed, tried, used.

use crate::args::Change;
use crate::confirm::Confirmation;
use crate::failure::{Code, Failure};
use crate::output::Colour;
use crate::session::{self, Outcome, Session};
use clap::{Args, Subcommand};
use hotpair_api::{Call, FenceView, Reply};
use hotpair_core::request::Request;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Fence devices: what cuts a node off from power, so that another one may take over.
#[derive(Debug, Subcommand)]
pub enum FenceCommand {
    /// List the devices of every node.
    List,
    /// Ask every device whether it answers; nothing is switched. Exit code 5 if one does not.
    Test(TestArgs),
    /// Have a node fenced now, by another node.
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Ask from this node instead of the one where the command is given.
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    node: String,
    #[command(flatten)]
    sure: Confirmation,
    #[command(flatten)]
    change: Change,
}

/// Devices are asked one after the other.
const TEST: Duration = Duration::from_secs(300);

pub fn run(session: &Session, command: FenceCommand) -> Outcome {
    match command {
        FenceCommand::List => {
            let views = fences(session, Call::Fences { test: false })?;
            session.show(&views, || text(session, &views))
        }
        FenceCommand::Test(args) => test(session, args),
        FenceCommand::Run(args) => {
            let node = session::node(&session.status()?, &args.node)?;
            if !args.change.dry_run {
                let danger = format!(
                    "{} is cut off from power at once; what runs there is interrupted.",
                    args.node
                );
                args.sure.require(&args.node, &danger)?;
            }
            session.change(Request::NodeFence { node }, args.change.dry_run)
        }
    }
}

fn test(session: &Session, args: TestArgs) -> Outcome {
    let call = Call::Fences { test: true };
    let call = match args.from {
        None => call,
        Some(node) => Call::On {
            node,
            call: Box::new(call),
        },
    };
    let views = fences(session, call)?;
    session.show(&views, || text(session, &views))?;
    let silent = views.iter().any(|view| view.answers == Some(false));
    Ok(if silent {
        ExitCode::from(Code::Findings as u8)
    } else {
        ExitCode::SUCCESS
    })
}

fn fences(session: &Session, call: Call) -> Result<Vec<FenceView>, Failure> {
    match session.call(call, TEST)? {
        Reply::Fences(views) => Ok(views),
        other => Err(session::unexpected(&other)),
    }
}

fn text(session: &Session, views: &[FenceView]) -> String {
    if views.is_empty() {
        return "no fence devices are configured\n".into();
    }
    let ink = session.ink;
    let mut out = String::new();
    for view in views {
        let answer = match view.answers {
            None => String::new(),
            Some(true) => format!("  {}", ink.paint(Colour::Green, "answers")),
            Some(false) => format!(
                "  {}: {}",
                ink.paint(Colour::Red, "does not answer"),
                view.said
            ),
        };
        let _ = writeln!(
            out,
            "{}: level {}, {} ({}, {}){answer}",
            view.node, view.level, view.device, view.agent, view.action
        );
    }
    out
}
