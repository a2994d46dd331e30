//! `hotpair quorum`: the third vote on a small shared disk.

use crate::args::Change;
use crate::confirm::Confirmation;
use crate::failure::Failure;
use crate::session::{Outcome, Session, unexpected};
use clap::{Args, Subcommand};
use hotpair_api::{Call, Reply};
use hotpair_core::config::{Cluster, QuorumDisk, Witness};
use hotpair_core::ids::MemberId;
use hotpair_daemon::quorum_label::{self, Holds};
use hotpair_daemon::store;
use hotpair_host::filesystem;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another node may take to look at the disk.
const LOOK: Duration = Duration::from_secs(10);

/// The quorum disk: a small shared disk, or a file on NFS, gives the third vote.
#[derive(Debug, Subcommand)]
pub enum QuorumCommand {
    Init(InitArgs),
    Add(AddArgs),
    /// Let the cluster do without the quorum disk; the disk itself is left as it is.
    Remove(Change),
}

/// Label a disk that all nodes share, so that this cluster can use it; what is on it is lost.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Block device, best one of /dev/disk/by-id, or a file of 16 MiB on NFS.
    device: PathBuf,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    change: Change,
}

/// Give a labelled disk the third vote. Every node must see it under the same name.
#[derive(Debug, Args)]
pub struct AddArgs {
    device: PathBuf,
    /// Name of the disk in the cluster.
    #[arg(long, value_name = "NAME", default_value = "quorum-disk")]
    name: String,
    #[command(flatten)]
    change: Change,
}

pub fn run(session: &Session, command: QuorumCommand) -> Outcome {
    match command {
        QuorumCommand::Init(args) => init(session, &args),
        QuorumCommand::Add(args) => add(session, &args),
        QuorumCommand::Remove(change) => remove(session, change),
    }
}

fn init(session: &Session, args: &InitArgs) -> Outcome {
    let keys = store::read_keys(&session.paths);
    let keys = keys.map_err(|error| Failure::refused(error.to_string()))?;
    let identity = keys.identity();
    let identity = identity.map_err(|error| Failure::refused(error.to_string()))?;
    let cluster = identity.member().cluster;
    let path = absolute(&args.device)?;
    let shown = path.display().to_string();
    if let Some(line) = filesystem::fstab(&path) {
        return Err(Failure::refused(format!(
            "/etc/fstab mounts {shown} at every start: {}",
            line.trim()
        ))
        .hint("take that line out first, on every node"));
    }
    let holds = quorum_label::holds(&path).map_err(|error| Failure::refused(error.to_string()))?;
    let danger = match &holds {
        Holds::Nothing => None,
        Holds::Label { number, .. } if in_use(session, *number) => {
            return Err(
                Failure::refused(format!("{shown} is this cluster's quorum disk"))
                    .hint("take it out first: `hotpair quorum remove`"),
            );
        }
        Holds::Label { cluster: of, .. } if *of == cluster.0 => {
            Some(format!("{shown} is a quorum disk of this cluster already"))
        }
        Holds::Label { cluster: of, .. } => Some(format!(
            "{shown} is the quorum disk of another cluster ({}): if that one lives, its nodes stop being answered",
            hotpair_wire::ClusterId(*of)
        )),
        Holds::Other(what) => Some(format!("{shown} holds {what}, which would be lost")),
    };
    if let Some(danger) = danger
        && !args.change.dry_run
    {
        args.confirmation.require(&shown, &danger)?;
    } else if args.change.dry_run {
        let text = format!("{shown} becomes a quorum disk of this cluster");
        return session.say(&text, true);
    }
    let number = quorum_label::make(&path, cluster.0);
    let number = number.map_err(|error| Failure::refused(error.to_string()))?;
    let text = format!(
        "{shown} is quorum disk {number:016x} of this cluster; give it the vote with `hotpair quorum add {shown}`"
    );
    session.say(&text, false)
}

/// Does the cluster use the disk with this number now, as far as the daemon here can be asked?
fn in_use(session: &Session, number: u64) -> bool {
    let status = session.status().ok();
    let disk = status.and_then(|status| status.witness?.disk);
    disk.is_some_and(|disk| disk.number == format!("{number:016x}"))
}

fn add(session: &Session, args: &AddArgs) -> Outcome {
    let path = absolute(&args.device)?;
    let shown = path.display().to_string();
    let status = session.status()?;
    let (mut cluster, _) = super::config::present(session)?;
    if let Some(witness) = &cluster.witness {
        return Err(there_is_one(witness));
    }
    let mut found: Option<String> = None;
    let mut problems = Vec::new();
    for node in &status.nodes {
        match look_from(session, &node.name, &shown)? {
            Err(problem) => problems.push(format!("{}: {problem}", node.name)),
            Ok((of, _)) if of != status.cluster.id => problems.push(format!(
                "{}: it is the quorum disk of another cluster ({of})",
                node.name
            )),
            Ok((_, number)) => match &found {
                Some(other) if *other != number => problems.push(format!(
                    "{}: it is another disk there ({number}, not {other})",
                    node.name
                )),
                _ => found = Some(number),
            },
        }
    }
    if !problems.is_empty() {
        return Err(Failure::refused(format!(
            "{shown} cannot give the third vote: {}",
            problems.join("; ")
        ))
        .hint(format!(
            "every node must see the same disk, labelled by `hotpair quorum init {shown}`; nothing was changed"
        )));
    }
    let number = found.and_then(|number| u64::from_str_radix(&number, 16).ok());
    let number = number.ok_or_else(|| Failure::refused("there is no node that could look"))?;
    cluster.witness = Some(Witness {
        // The cluster gives it its number.
        id: MemberId(hotpair_config::FIRST_WITNESS),
        name: args.name.clone(),
        addresses: Vec::new(),
        disk: Some(QuorumDisk {
            path: shown,
            number,
        }),
    });
    apply(session, &cluster, args.change)
}

/// Cluster and number of the disk as a node sees it, or what is wrong there.
fn look_from(
    session: &Session,
    node: &str,
    path: &str,
) -> Result<Result<(String, String), String>, Failure> {
    let call = Call::On {
        node: node.to_owned(),
        call: Box::new(Call::QuorumLook {
            device: path.to_owned(),
        }),
    };
    match session.call(call, LOOK) {
        Ok(Reply::QuorumLook { cluster, number }) => Ok(Ok((cluster, number))),
        Ok(other) => Err(unexpected(&other)),
        Err(failure) => Ok(Err(failure.message)),
    }
}

fn there_is_one(witness: &Witness) -> Failure {
    let failure = Failure::refused(format!(
        "the cluster has a third vote already: {}",
        witness.name
    ));
    match &witness.disk {
        Some(disk) => failure.hint(format!(
            "it is the quorum disk {}; take it out first: `hotpair quorum remove`",
            disk.path
        )),
        None => failure.hint(
            "it is a witness host; take [witness] out of the configuration first, with `hotpair config apply`",
        ),
    }
}

fn remove(session: &Session, change: Change) -> Outcome {
    let (mut cluster, _) = super::config::present(session)?;
    if cluster.quorum_disk().is_none() {
        return Err(Failure::refused("the cluster has no quorum disk"));
    }
    cluster.witness = None;
    apply(session, &cluster, change)
}

fn apply(session: &Session, cluster: &Cluster, change: Change) -> Outcome {
    let text = hotpair_config::show(cluster);
    super::config::apply_text(session, "configuration", &text, change.dry_run)
}

/// Symbolic links are kept: the name that stays with the disk is one.
fn absolute(device: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(device)?)
}
