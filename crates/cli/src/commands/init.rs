//! `hotpair init`: the first node of a new cluster.

use crate::args::Change;
use crate::failure::{Code, Failure};
use crate::session::{Outcome, Session};
use crate::words;
use clap::{Args, ValueEnum};
use hotpair_config::{Checked, show};
use hotpair_daemon::agents::Installed;
use hotpair_daemon::{join, store};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Begin a cluster with this machine as its first node.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Name of the cluster.
    #[arg(long, value_name = "CLUSTER", required_unless_present = "config")]
    name: Option<String>,
    /// Name of this node; the host name by default.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// A heartbeat link and this node's address on it, the most preferred first; give it several
    /// times.
    #[arg(long, value_name = "NAME=IP[:PORT]", value_parser = words::named_address,
        required_unless_present = "config")]
    link: Vec<(String, SocketAddr)>,
    /// How fast failures are noticed: 0.25 s, 1 s, 10 s, or as older products do.
    #[arg(long, value_enum, default_value = "standard")]
    profile: Profile,
    /// Take everything from this configuration, which has exactly this one node.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "node", "link", "profile"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    change: Change,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    Standard,
    Fast,
    Wan,
    Classic,
}

const NO_WITNESS: &str = "\
The cluster has no witness yet. Two nodes without one cannot tell a dead peer from a cut cable: when
a node loses the other, its groups wait until an operator says `hotpair node down NAME`. With a
witness on a third machine the survivor takes over by itself.
";

pub fn run(session: &Session, args: InitArgs) -> Outcome {
    let (file, text) = text(&args)?;
    let checked = super::config::checked(&file, &text, &Installed::asking())?;
    let Checked { cluster, warnings } = checked;
    if cluster.nodes.len() != 1 {
        return Err(Failure::refused(format!(
            "{file} has {} nodes: a cluster begins with one",
            cluster.nodes.len()
        ))
        .hint("the others come by `hotpair join`, then `hotpair config apply` the whole file"));
    }
    if cluster.witness.is_some() {
        return Err(Failure::refused(format!("{file} has a witness: a cluster begins without"))
            .hint("take [witness] out; it comes by `hotpair token --witness` and `hotpair witness join`"));
    }
    if store::enrolled(&session.paths) {
        return Err(Failure::refused(format!(
            "this node belongs to a cluster already ({} has its keys)",
            session.paths.lib.display()
        ))
        .hint("`hotpair wipe` removes it from here"));
    }
    // With one node alone, advice about links is all there is to say.
    eprint!("{}", hotpair_config::render(&warnings, &file, &text, false));
    let name = cluster.name.clone();
    let node = cluster
        .nodes
        .values()
        .next()
        .map(|node| node.name.clone())
        .unwrap_or_default();
    if args.change.dry_run {
        return session.say(
            &format!("cluster {name} with node {node}:\n\n{}", show(&cluster)),
            true,
        );
    }
    join::init(&session.paths, cluster).map_err(|error| Failure::refused(error.to_string()))?;
    if session.json {
        return session.print_json(&serde_json::json!({ "cluster": name, "node": node }));
    }
    let text = format!(
        "Cluster {name} begins with node {node}.\n\n{NO_WITNESS}\nNext:\n  \
         systemctl start hotpair          (or `hotpair daemon`) on this node\n  \
         hotpair token                    here, then on the other node: hotpair join TOKEN\n  \
         hotpair token --witness          here, then on a third machine: hotpair witness join TOKEN\n  \
         hotpair status\n"
    );
    crate::output::print(&text);
    Ok(std::process::ExitCode::SUCCESS)
}

/// The configuration to begin with, and what to call it in findings.
fn text(args: &InitArgs) -> Result<(String, String), Failure> {
    if let Some(path) = &args.config {
        return Ok((path.display().to_string(), super::config::read(path)?));
    }
    let node = args.node.clone().unwrap_or_else(words::host_name);
    let name = args.name.clone().unwrap_or_default();
    let profile = args.profile.to_possible_value();
    let profile = profile
        .as_ref()
        .map_or("standard", |value| value.get_name());
    let quoted = |text: &str| serde_json::to_string(text).map_err(Failure::from);
    let mut text = format!(
        "[cluster]\nname = {}\nprofile = \"{profile}\"\n\n[[node]]\nname = {}\n",
        quoted(&name)?,
        quoted(&node)?
    );
    for (link, address) in &args.link {
        text.push_str(&format!(
            "\n[[link]]\nname = {}\naddresses = {{ {} = \"{address}\" }}\n",
            quoted(link)?,
            quoted(&node)?
        ));
    }
    if node.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "this host has no name: give the node's with `--node NODE`",
        ));
    }
    Ok(("the command line".to_owned(), text))
}
