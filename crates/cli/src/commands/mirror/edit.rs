//! Making, growing and removing mirrors: edits of the configuration.

use super::{find, full, show};
use crate::args::Change;
use crate::commands::config::{apply_text, present};
use crate::confirm::Confirmation;
use crate::failure::Failure;
use crate::session::{Outcome, Session};
use crate::words;
use clap::{Args, ValueEnum};
use hotpair_core::config::{
    Cluster, CopyPlace, Export, FilesystemCheck, Group, Mirror, MirrorMode, Mount, OnDiskFailure,
    OnSplitBrain, Resource, ResourceKind,
};
use hotpair_core::ids::{GroupId, MemberId, ResourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// First TCP port of replication; each mirror has its own.
const FIRST_PORT: u16 = 14_400;
const ASYNCHRONOUS_LAG: Duration = Duration::from_secs(10);
const ASYNCHRONOUS_BYTES: u64 = 256 << 20;

/// Make a mirror in a group, with a filesystem on it if a mount point is given.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// GROUP/MIRROR; the group must exist.
    mirror: String,
    /// Size of the volume, as 20GiB.
    #[arg(long, value_parser = words::bytes)]
    size: u64,
    /// Where each copy is: a partition, disk, logical volume or image file (made if missing); twice.
    #[arg(long = "on", value_name = "NODE=PATH", required = true, value_parser = place)]
    places: Vec<(String, String)>,
    /// File for the mirror's metadata, for a device without room at its end.
    #[arg(long = "metadata", value_name = "NODE=PATH", value_parser = place)]
    metadata: Vec<(String, String)>,
    /// Whose data is kept; the first `--on` by default.
    #[arg(long, value_name = "NODE")]
    source: Option<String>,
    /// When a write is acknowledged.
    #[arg(long, value_enum, default_value_t = ModeWord::Synchronous)]
    mode: ModeWord,
    /// Mount its filesystem here on the active node.
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
    /// Made if the volume is empty.
    #[arg(long, default_value = "ext4", requires = "mount")]
    filesystem: String,
    /// Return at once instead of showing the first synchronisation.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    change: Change,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ModeWord {
    Synchronous,
    Memory,
    Asynchronous,
}

/// Make a mirror larger; the filesystem on it is grown by its own tools afterwards.
#[derive(Debug, Args)]
pub struct GrowArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    /// New size, as 40GiB.
    #[arg(long, value_parser = words::bytes)]
    size: u64,
    #[command(flatten)]
    change: Change,
}

/// Take a mirror out of the configuration; its copies stay on the disks.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    change: Change,
}

fn place(text: &str) -> Result<(String, String), String> {
    let (node, path) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` has no `=`: write NODE=/dev/vg/data"))?;
    if node.is_empty() || !path.starts_with('/') {
        return Err(format!(
            "`{text}` does not name a node and an absolute path: write NODE=/dev/vg/data"
        ));
    }
    Ok((node.to_owned(), path.to_owned()))
}

pub fn create(session: &Session, args: &CreateArgs) -> Outcome {
    let mut cluster = present(session)?.0;
    let (group, name) = args.mirror.split_once('/').ok_or_else(|| {
        Failure::refused(format!("`{}` names no group", args.mirror))
            .hint("write GROUP/MIRROR, such as db/data")
    })?;
    add(&mut cluster, args, group, name)?;
    let applied = apply_text(
        session,
        "configuration",
        &hotpair_config::show(&cluster),
        args.change.dry_run,
    )?;
    if args.change.dry_run || args.no_wait || session.json {
        return Ok(applied);
    }
    show::wait(session, &args.mirror)
}

fn add(cluster: &mut Cluster, args: &CreateArgs, group: &str, name: &str) -> Result<(), Failure> {
    let copies = copies(cluster, args)?;
    let source = match &args.source {
        Some(node) => member(cluster, node)?,
        None => member(cluster, &args.places[0].0)?,
    };
    let port = free_port(cluster);
    let known = cluster.groups.keys().map(ToString::to_string);
    let known = known.collect::<Vec<_>>().join(", ");
    let Some(config) = cluster.groups.get_mut(&GroupId::from(group)) else {
        return Err(
            Failure::refused(format!("there is no group `{group}`")).hint(if known.is_empty() {
                "add one to the configuration first, or use `hotpair template`".to_owned()
            } else {
                format!("groups: {known}")
            }),
        );
    };
    let mirror = Mirror {
        size: args.size,
        mode: match args.mode {
            ModeWord::Synchronous => MirrorMode::Synchronous,
            ModeWord::Memory => MirrorMode::Memory,
            ModeWord::Asynchronous => MirrorMode::Asynchronous {
                lag: ASYNCHRONOUS_LAG,
                bytes: ASYNCHRONOUS_BYTES,
            },
        },
        copies,
        port,
        links: Vec::new(),
        resync_rate: None,
        on_disk_failure: OnDiskFailure::default(),
        on_split_brain: OnSplitBrain::default(),
        export: Export::default(),
        source,
    };
    insert(config, name, ResourceKind::Mirror(mirror), &[])?;
    if let Some(path) = &args.mount {
        let mount = Mount {
            mirror: ResourceId::from(name),
            path: path.clone(),
            filesystem: args.filesystem.clone(),
            options: Vec::new(),
            check: FilesystemCheck::default(),
            make: true,
            kill_users: true,
        };
        insert(
            config,
            &format!("{name}-fs"),
            ResourceKind::Mount(mount),
            &[name],
        )?;
    }
    Ok(())
}

fn copies(cluster: &Cluster, args: &CreateArgs) -> Result<BTreeMap<MemberId, CopyPlace>, Failure> {
    let mut copies = BTreeMap::new();
    for (node, device) in &args.places {
        let place = CopyPlace {
            device: device.clone(),
            metadata: None,
        };
        copies.insert(member(cluster, node)?, place);
    }
    for (node, path) in &args.metadata {
        let copy = copies.get_mut(&member(cluster, node)?);
        let copy = copy.ok_or_else(|| {
            Failure::refused(format!("`{node}` has metadata but no copy"))
                .hint(format!("add --on {node}=PATH"))
        })?;
        copy.metadata = Some(path.clone());
    }
    Ok(copies)
}

fn member(cluster: &Cluster, name: &str) -> Result<MemberId, Failure> {
    cluster.node_named(name).ok_or_else(|| {
        let names: Vec<&str> = cluster.nodes.values().map(|n| n.name.as_str()).collect();
        crate::session::no_such("node", name, &names)
    })
}

fn free_port(cluster: &Cluster) -> u16 {
    let taken: BTreeSet<u16> = cluster
        .groups
        .values()
        .flat_map(Group::mirrors)
        .map(|(_, mirror)| mirror.port)
        .collect();
    (FIRST_PORT..)
        .find(|port| !taken.contains(port))
        .unwrap_or(FIRST_PORT)
}

fn insert(
    group: &mut Group,
    name: &str,
    kind: ResourceKind,
    requires: &[&str],
) -> Result<(), Failure> {
    let id = ResourceId::from(name);
    if group.resources.contains_key(&id) {
        return Err(Failure::refused(format!(
            "the group has a resource `{name}` already"
        )));
    }
    let resource = Resource {
        kind,
        requires: requires
            .iter()
            .map(|name| ResourceId::from(*name))
            .collect(),
        detectors: Vec::new(),
        start_timeout: Duration::from_secs(60),
        stop_timeout: Duration::from_secs(60),
        running_within: Duration::from_secs(120),
    };
    group.resources.insert(id, resource);
    Ok(())
}

pub fn grow(session: &Session, args: &GrowArgs) -> Outcome {
    let view = find(session, &args.mirror)?;
    if args.size < view.size {
        return Err(Failure::refused(format!(
            "{} has {} already: a mirror cannot be made smaller",
            full(&view),
            words::shown_bytes(view.size)
        )));
    }
    edit(session, args.change, &view.group, |group| {
        if let Some(resource) = group.resources.get_mut(&ResourceId(view.name.clone()))
            && let ResourceKind::Mirror(mirror) = &mut resource.kind
        {
            mirror.size = args.size;
        }
    })
}

pub fn remove(session: &Session, args: &RemoveArgs) -> Outcome {
    let view = find(session, &args.mirror)?;
    if !args.change.dry_run {
        let danger = format!(
            "{} is no longer mirrored. Its copies stay on the disks of {}.",
            full(&view),
            view.copies
                .iter()
                .map(|copy| copy.node.clone())
                .collect::<Vec<_>>()
                .join(" and ")
        );
        args.confirmation.require(&view.name, &danger)?;
    }
    edit(session, args.change, &view.group, |group| {
        let name = ResourceId(view.name.clone());
        group.resources.remove(&name);
        let mounts = |resource: &Resource| matches!(&resource.kind, ResourceKind::Mount(mount) if mount.mirror == name);
        let gone: Vec<ResourceId> = group
            .resources
            .iter()
            .filter(|(_, resource)| mounts(resource))
            .map(|(id, _)| id.clone())
            .chain([name.clone()])
            .collect();
        group.resources.retain(|id, _| !gone.contains(id));
        for resource in group.resources.values_mut() {
            resource.requires.retain(|id| !gone.contains(id));
        }
    })
}

fn edit(session: &Session, change: Change, group: &str, edit: impl FnOnce(&mut Group)) -> Outcome {
    let mut cluster = present(session)?.0;
    if let Some(group) = cluster.groups.get_mut(&GroupId::from(group)) {
        edit(group);
    }
    apply_text(
        session,
        "configuration",
        &hotpair_config::show(&cluster),
        change.dry_run,
    )
}
