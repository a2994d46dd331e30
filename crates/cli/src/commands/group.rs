//! `hotpair group`: what is there, and where it shall run.

use crate::args::Change;
use crate::commands::template::{self, AddArgs};
use crate::failure::{Code, Failure};
use crate::output::columns;
use crate::session::{self, Outcome, Session};
use crate::watch::{Goal, wait};
use clap::{Args, Subcommand};
use hotpair_api::StatusView;
use hotpair_core::ids::{GroupId, MemberId, ResourceId};
use hotpair_core::request::Request;
use std::time::{Duration, Instant};

/// Groups: list, add, start, stop, move.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the groups.
    List,
    /// Show one group with its resources and nodes.
    Show {
        group: String,
    },
    Add(AddArgs),
    Start(StartArgs),
    Stop(StopArgs),
    Restart(RestartArgs),
    Switch(SwitchArgs),
    /// Automatic takeover on, for the group or for it on one node.
    Enable(OnNodeArgs),
    /// Automatic takeover off, for the group or for it on one node.
    Disable(OnNodeArgs),
    /// Forget failures, so that the group may run there again.
    Clear(OnNodeArgs),
}

/// Start a group, or one resource of it that was stopped.
#[derive(Debug, Args)]
pub struct StartArgs {
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    group: Option<String>,
    /// Every group that is stopped.
    #[arg(long)]
    all: bool,
    /// On this node; the first fit one by default.
    #[arg(long, value_name = "NODE", conflicts_with = "all")]
    on: Option<String>,
    /// Only this resource, and what it requires.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["all", "on"])]
    resource: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    change: Change,
}

/// Stop a group, or one resource of it; it stays stopped, over failures and reboots, until it is
/// started.
#[derive(Debug, Args)]
pub struct StopArgs {
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    group: Option<String>,
    /// Every group.
    #[arg(long)]
    all: bool,
    /// Only this resource, and what requires it.
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    resource: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    change: Change,
}

/// Start one resource of a group again on its node: it and what requires it are stopped, then started.
#[derive(Debug, Args)]
pub struct RestartArgs {
    group: String,
    #[arg(long, value_name = "NAME")]
    resource: String,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    change: Change,
}

/// Move a group to another node: stopped in good order, then started there.
#[derive(Debug, Args)]
pub struct SwitchArgs {
    group: String,
    /// To this node; the best other fit one by default.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    change: Change,
}

/// Ctrl-C ends the waiting only: what was begun goes on.
#[derive(Clone, Copy, Debug, Args)]
pub struct Waiting {
    /// Do not wait until it is there.
    #[arg(long)]
    no_wait: bool,
    /// Wait at most so long, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
}

#[derive(Debug, Args)]
pub struct OnNodeArgs {
    group: String,
    /// Only on this node.
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    change: Change,
}

pub fn run(session: &Session, command: GroupCommand) -> Outcome {
    match command {
        GroupCommand::List => list(session),
        GroupCommand::Show { group } => show(session, &group),
        GroupCommand::Add(args) => template::add(session, &args),
        GroupCommand::Start(args) => start(session, args),
        GroupCommand::Stop(args) => stop(session, args),
        GroupCommand::Restart(args) => restart(session, args),
        GroupCommand::Switch(args) => switch(session, args),
        GroupCommand::Enable(args) => on_node(session, &args, |group, node| Request::GroupEnable {
            group,
            node,
        }),
        GroupCommand::Disable(args) => on_node(session, &args, |group, node| {
            Request::GroupDisable { group, node }
        }),
        GroupCommand::Clear(args) => on_node(session, &args, |group, node| Request::GroupClear {
            group,
            node,
        }),
    }
}

fn list(session: &Session) -> Outcome {
    let status = session.status()?;
    session.show(&status.groups, || {
        let rows = status.groups.iter().map(|group| {
            vec![
                group.name.clone(),
                group.state.clone(),
                group.active_on.join(", "),
                group.verdict.clone(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            "no groups are configured\n".to_owned()
        } else {
            columns(&rows)
        }
    })
}

fn show(session: &Session, name: &str) -> Outcome {
    let status = session.status()?;
    session::group(&status, name)?;
    let Some(view) = status.groups.iter().find(|group| group.name == name) else {
        return Err(session::no_such("group", name, &[]));
    };
    session.show(view, || super::status::group(view, session.ink))
}

fn start(session: &Session, args: StartArgs) -> Outcome {
    let status = session.status()?;
    let Some(name) = &args.group else {
        return all(session, &status, true, args.waiting, args.change);
    };
    let group = session::group(&status, name)?;
    if let Some(name) = args.resource {
        let resource = resource(&status, &group, &name)?;
        let request = Request::ResourceStart {
            group: group.clone(),
            resource,
        };
        let goal = Goal::Resource { name, runs: true };
        return act(session, &group, request, &goal, args.waiting, args.change);
    }
    let on = named(&status, args.on.as_deref())?;
    let request = Request::GroupStart {
        group: group.clone(),
        on,
    };
    let goal = Goal::Runs { on: args.on };
    act(session, &group, request, &goal, args.waiting, args.change)
}

fn stop(session: &Session, args: StopArgs) -> Outcome {
    let status = session.status()?;
    let Some(name) = &args.group else {
        return all(session, &status, false, args.waiting, args.change);
    };
    let group = session::group(&status, name)?;
    let (request, goal) = match args.resource {
        Some(name) => {
            let resource = resource(&status, &group, &name)?;
            let group = group.clone();
            let goal = Goal::Resource { name, runs: false };
            (Request::ResourceStop { group, resource }, goal)
        }
        None => {
            let group = group.clone();
            (Request::GroupStop { group }, Goal::Stopped)
        }
    };
    act(session, &group, request, &goal, args.waiting, args.change)
}

fn restart(session: &Session, args: RestartArgs) -> Outcome {
    let status = session.status()?;
    let group = session::group(&status, &args.group)?;
    let request = Request::ResourceRestart {
        resource: resource(&status, &group, &args.resource)?,
        group: group.clone(),
    };
    let goal = Goal::Resource {
        name: args.resource,
        runs: true,
    };
    act(session, &group, request, &goal, args.waiting, args.change)
}

/// A resource of the group that exists.
fn resource(status: &StatusView, group: &GroupId, name: &str) -> Result<ResourceId, Failure> {
    let view = status.groups.iter().find(|view| view.name == group.0);
    let names: Vec<_> = view
        .iter()
        .flat_map(|view| &view.resources)
        .map(|resource| resource.name.as_str())
        .collect();
    if names.contains(&name) {
        return Ok(ResourceId(name.to_owned()));
    }
    Err(session::no_such("resource", name, &names))
}

/// Every group is asked to start or stop before any is waited for; what one refuses keeps none of the
/// others from it.
fn all(
    session: &Session,
    status: &StatusView,
    run: bool,
    waiting: Waiting,
    change: Change,
) -> Outcome {
    let mut said = Vec::new();
    let mut begun = Vec::new();
    let mut refused = Vec::new();
    for view in &status.groups {
        let group = GroupId(view.name.clone());
        let request = if run {
            Request::GroupStart { group, on: None }
        } else {
            Request::GroupStop { group }
        };
        match session.operate(request, change.dry_run) {
            Ok(text) => {
                said.push(text.trim_end().to_owned());
                begun.push(view.name.clone());
            }
            Err(failure) if failure.code == Code::Refused => {
                refused.push(format!("{}: {}", view.name, failure.message));
            }
            Err(failure) => return Err(failure),
        }
    }
    if !(change.dry_run || waiting.no_wait) {
        let goal = if run {
            Goal::Runs { on: None }
        } else {
            Goal::Stopped
        };
        let end = Instant::now() + Duration::from_secs(waiting.wait);
        for name in &begun {
            let left = end.saturating_duration_since(Instant::now());
            if let Err(failure) = wait(session, name, &goal, left) {
                refused.push(format!("{name}: {}", failure.message));
            }
        }
    }
    if !refused.is_empty() {
        let verb = if run { "start" } else { "stop" };
        let message = format!(
            "not every group could be asked to {verb}, or did: {}",
            refused.join("; ")
        );
        return Err(
            Failure::new(Code::Unfinished, message).hint("`hotpair status` shows the others")
        );
    }
    if said.is_empty() {
        said.push("no groups are configured".into());
    }
    session.say(&said.join("\n"), change.dry_run)
}

fn switch(session: &Session, args: SwitchArgs) -> Outcome {
    let status = session.status()?;
    let group = session::group(&status, &args.group)?;
    let to = named(&status, args.to.as_deref())?;
    let view = status.groups.iter().find(|view| view.name == group.0);
    let goal = Goal::Moved {
        from: view.and_then(|view| view.holder.clone()),
        to: args.to,
        epoch: view.map_or(0, |view| view.epoch),
    };
    let request = Request::GroupSwitch {
        group: group.clone(),
        to,
    };
    act(session, &group, request, &goal, args.waiting, args.change)
}

fn act(
    session: &Session,
    group: &GroupId,
    request: Request,
    goal: &Goal,
    waiting: Waiting,
    change: Change,
) -> Outcome {
    let text = session.operate(request, change.dry_run)?;
    if change.dry_run || waiting.no_wait {
        return session.say(&text, change.dry_run);
    }
    if !session.json {
        eprintln!("{} (Ctrl-C ends only the waiting)", text.trim_end());
    }
    wait(session, &group.0, goal, Duration::from_secs(waiting.wait))?;
    let end = match goal {
        Goal::Stopped => format!("group {} is stopped", group.0),
        Goal::Resource { name, runs } => {
            let status = session.status()?;
            let view = status.groups.iter().find(|view| view.name == group.0);
            let on = view.map_or_else(String::new, |view| view.active_on.join(", "));
            match (on.is_empty(), runs) {
                (true, _) => format!(
                    "{name} of group {} does not run, nor does the group",
                    group.0
                ),
                (_, true) => format!("{name} of group {} runs on {on}", group.0),
                (_, false) => format!("{name} of group {} is stopped", group.0),
            }
        }
        _ => {
            let status = session.status()?;
            let view = status.groups.iter().find(|view| view.name == group.0);
            let on = view.map_or_else(String::new, |view| view.active_on.join(", "));
            format!("group {} runs on {on}", group.0)
        }
    };
    session.say(&end, false)
}

fn on_node(
    session: &Session,
    args: &OnNodeArgs,
    request: impl FnOnce(GroupId, Option<MemberId>) -> Request,
) -> Outcome {
    let status = session.status()?;
    let group = session::group(&status, &args.group)?;
    let node = named(&status, args.node.as_deref())?;
    session.change(request(group, node), args.change.dry_run)
}

fn named(status: &StatusView, name: Option<&str>) -> Result<Option<MemberId>, Failure> {
    name.map(|name| session::node(status, name)).transpose()
}
