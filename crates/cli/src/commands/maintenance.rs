//! `hotpair maintenance`: looked at, not acted on.

use crate::args::Change;
use crate::failure::{Code, Failure};
use crate::session::{self, Outcome, Session};
use clap::{Args, ValueEnum};
use hotpair_core::ids::ResourceId;
use hotpair_core::request::{Request, Scope};

/// Maintenance of a resource, a group, a group on one node, or a node: looked at, not acted on.
#[derive(Debug, Args)]
pub struct MaintenanceArgs {
    #[arg(value_enum)]
    switch: Switch,
    /// The group.
    #[arg(long)]
    group: Option<String>,
    /// Only this resource of the group.
    #[arg(long, requires = "group", conflicts_with = "node")]
    resource: Option<String>,
    /// The node; with --group only the group on this node.
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub fn run(session: &Session, args: MaintenanceArgs) -> Outcome {
    let MaintenanceArgs {
        group,
        resource,
        node,
        ..
    } = &args;
    if group.is_none() && node.is_none() {
        return Err(Failure::new(
            Code::Usage,
            "maintenance of what? give --group GROUP or --node NODE",
        ));
    }
    let status = session.status()?;
    let group = group
        .as_deref()
        .map(|name| session::group(&status, name))
        .transpose()?;
    let node = node
        .as_deref()
        .map(|name| session::node(&status, name))
        .transpose()?;
    let scope = match (group, resource, node) {
        (Some(group), Some(name), _) => {
            let view = status.groups.iter().find(|view| view.name == group.0);
            let names: Vec<_> = view
                .iter()
                .flat_map(|view| &view.resources)
                .map(|r| r.name.as_str())
                .collect();
            if !names.contains(&name.as_str()) {
                return Err(session::no_such("resource", name, &names));
            }
            Scope::Resource(group, ResourceId(name.clone()))
        }
        (Some(group), None, Some(node)) => Scope::GroupOnNode(group, node),
        (Some(group), None, None) => Scope::Group(group),
        (None, _, Some(node)) => Scope::Node(node),
        (None, _, None) => return Err(Failure::new(Code::Usage, "maintenance of what?")),
    };
    session.change(
        Request::Maintenance {
            scope,
            on: args.switch == Switch::On,
        },
        args.change.dry_run,
    )
}
