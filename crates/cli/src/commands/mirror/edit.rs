//! Making, growing and removing mirrors: edits of the configuration.

use super::{away, find, full, show};
use crate::args::Change;
use crate::commands::config::{applied, apply_text, present};
use crate::confirm::Confirmation;
use crate::failure::Failure;
use crate::output::plain;
use crate::session::{self, Outcome, Session};
use crate::words;
use clap::{Args, ValueEnum};
use hotpair_api::status::GroupView;
use hotpair_api::{Call, MirrorView, Reply, StatusView};
use hotpair_core::config::{
    Cluster, CopyPlace, Export, FilesystemCheck, Group, Mirror, MirrorMode, Mount, OnDiskFailure,
    OnSplitBrain, Resource, ResourceKind,
};
use hotpair_core::ids::{GroupId, MemberId, ResourceId};
use hotpair_core::request::Request;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A group that is being stopped may take so long.
const FORGET_LIMIT: Duration = Duration::from_secs(60);
const FORGET_GAP: Duration = Duration::from_millis(200);
/// For a look at a place on another node.
const PLACE_LIMIT: Duration = Duration::from_secs(15);
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
    #[arg(long, value_name = "PATH", group = "use")]
    mount: Option<String>,
    /// Move this directory of this node, with all that is in it, onto the mirror, and mount that in its
    /// place. The old directory is kept beside it until `mirror directory confirm`.
    #[arg(long, value_name = "PATH", group = "use")]
    directory: Option<PathBuf>,
    /// Made if the volume is empty.
    #[arg(long, default_value = "ext4", requires = "use")]
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

/// Make a mirror larger, and the filesystem that is mounted from it. Devices must have room; image files are
/// enlarged.
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

impl CreateArgs {
    /// Group and mirror.
    pub(super) fn parts(&self) -> Result<(&str, &str), Failure> {
        self.mirror.split_once('/').ok_or_else(|| {
            Failure::refused(format!("`{}` names no group", self.mirror))
                .hint("write GROUP/MIRROR, such as db/data")
        })
    }

    pub(super) fn filesystem(&self) -> &str {
        &self.filesystem
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn first_node(&self) -> &str {
        self.source.as_deref().unwrap_or(&self.places[0].0)
    }

    pub(super) fn no_wait(&self) -> bool {
        self.no_wait
    }

    pub(super) fn dry_run(&self) -> bool {
        self.change.dry_run
    }
}

pub fn create(session: &Session, args: &CreateArgs) -> Outcome {
    if let Some(directory) = &args.directory {
        return super::directory::create(session, args, directory);
    }
    let mut cluster = present(session)?.0;
    let (group, name) = args.parts()?;
    add_mirror(&mut cluster, args, group, name)?;
    check_places(session, args)?;
    if let Some(path) = &args.mount {
        insert_mount(&mut cluster, group, name, path, &args.filesystem, true)?;
    }
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

/// Asks each node whether the copy could be there: a running group must not fail over a misspelled device.
pub(super) fn check_places(session: &Session, args: &CreateArgs) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for (node, device) in &args.places {
        let call = Call::MirrorPlace {
            device: device.clone(),
            size: args.size,
            beside: args.metadata.iter().any(|(other, _)| other == node),
        };
        let on = Call::On {
            node: node.clone(),
            call: Box::new(call),
        };
        match session.call(on, PLACE_LIMIT) {
            Ok(Reply::MirrorPlace { problem }) => {
                problems.extend(problem.map(|problem| format!("{node}: {problem}")));
            }
            Ok(other) => return Err(session::unexpected(&other)),
            Err(failure) => {
                let text = failure.message;
                eprintln!("warning: {device} on {node} was not checked: {text}");
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(problems.join("; ")).hint("nothing was changed"))
}

/// Changes the configuration in force, without a word.
pub(super) fn apply(
    session: &Session,
    change: impl FnOnce(&mut Cluster) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cluster = present(session)?.0;
    change(&mut cluster)?;
    let text = hotpair_config::show(&cluster);
    applied(session, "configuration", &text, false).map(|_| ())
}

/// The mirror as described, in its group.
pub(super) fn add_mirror(
    cluster: &mut Cluster,
    args: &CreateArgs,
    group: &str,
    name: &str,
) -> Result<(), Failure> {
    let copies = copies(cluster, args)?;
    let source = member(cluster, args.first_node())?;
    let port = free_port(cluster);
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
    let group = group_of(cluster, group)?;
    insert(group, name, ResourceKind::Mirror(mirror), &[])
}

/// The mount of a directory that was moved onto the mirror; there already after a move that was
/// interrupted late.
pub(super) fn add_mount(
    cluster: &mut Cluster,
    group: &str,
    name: &str,
    directory: &Path,
    filesystem: &str,
) -> Result<(), Failure> {
    if mounts(group_of(cluster, group)?, name).next().is_some() {
        return Ok(());
    }
    let path = directory.display().to_string();
    insert_mount(cluster, group, name, &path, filesystem, false)
}

fn insert_mount(
    cluster: &mut Cluster,
    group: &str,
    name: &str,
    path: &str,
    filesystem: &str,
    make: bool,
) -> Result<(), Failure> {
    let mount = Mount {
        mirror: ResourceId::from(name),
        path: path.to_owned(),
        filesystem: filesystem.to_owned(),
        options: Vec::new(),
        check: FilesystemCheck::default(),
        make,
        kill_users: true,
    };
    let group = group_of(cluster, group)?;
    let own = format!("{name}-fs");
    insert(group, &own, ResourceKind::Mount(mount), &[name])
}

fn group_of<'a>(cluster: &'a mut Cluster, group: &str) -> Result<&'a mut Group, Failure> {
    let known: Vec<String> = cluster.groups.keys().map(ToString::to_string).collect();
    cluster
        .groups
        .get_mut(&GroupId::from(group))
        .ok_or_else(|| {
            Failure::refused(format!("there is no group `{group}`")).hint(if known.is_empty() {
                "add one to the configuration first, or use `hotpair template`".to_owned()
            } else {
                format!("groups: {}", known.join(", "))
            })
        })
}

/// Mounts of a mirror.
fn mounts<'a>(group: &'a Group, mirror: &'a str) -> impl Iterator<Item = &'a ResourceId> {
    let of = move |resource: &Resource| matches!(&resource.kind, ResourceKind::Mount(mount) if mount.mirror.0 == mirror);
    (group.resources.iter())
        .filter(move |(_, resource)| of(resource))
        .map(|(id, _)| id)
}

/// Is there a mount of the mirror in the configuration?
pub(super) fn has_mount(session: &Session, group: &str, name: &str) -> Result<bool, Failure> {
    let cluster = present(session)?.0;
    let group = cluster.groups.get(&GroupId::from(group));
    Ok(group.is_some_and(|group| mounts(group, name).next().is_some()))
}

/// Takes a mirror that was just made, in a group that did not run before, out again.
pub(super) fn forget(session: &Session, group: &GroupId, name: &ResourceId) -> Result<(), Failure> {
    let stop = Request::GroupStop {
        group: group.clone(),
    };
    session.operate(stop, false)?;
    let begun = Instant::now();
    loop {
        let removed = apply(session, |cluster| {
            let group = group_of(cluster, &group.0)?;
            group.resources.remove(name);
            Ok(())
        });
        if removed.is_ok() || begun.elapsed() >= FORGET_LIMIT {
            return removed;
        }
        std::thread::sleep(FORGET_GAP);
    }
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
        hooks: Vec::new(),
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
    let said = edit(session, args.change, &view.group, |group| {
        if let Some(resource) = group.resources.get_mut(&ResourceId(view.name.clone()))
            && let ResourceKind::Mirror(mirror) = &mut resource.kind
        {
            mirror.size = args.size;
        }
    })?;
    let note = growth_waits(&view, &session.status()?);
    say_with(session, &said, args.change.dry_run, note)
}

/// What the growth waits for, if it does not happen at once.
pub(super) fn growth_waits(view: &MirrorView, status: &StatusView) -> Option<String> {
    let mut waits: Vec<String> = view
        .copies
        .iter()
        .filter_map(|copy| {
            let node = &copy.node;
            if let Some(state) = away(status, node) {
                let device = match copy.state.as_str() {
                    // Nothing was written yet since it went away.
                    "up to date" => {
                        "; so does the device, unless the next write records that copy as outdated first"
                    }
                    _ => "; it holds up nobody else",
                };
                return Some(format!(
                    "{node} is {state}: its copy grows when it is back{device}"
                ));
            }
            (!copy.disk.is_empty()).then(|| {
                format!("the copy on {node} does not grow before its disk is as it should be: {}", copy.disk)
            })
        })
        .collect();
    if view.active_on.is_none() {
        waits.push(format!(
            "{} is not open on any node: what is mounted from it grows once {} runs",
            full(view),
            view.group
        ));
    }
    if waits.is_empty() {
        return None;
    }
    waits.push(format!(
        "`hotpair mirror show {}` says how far it is",
        full(view)
    ));
    Some(waits.join("\n"))
}

pub fn remove(session: &Session, args: &RemoveArgs) -> Outcome {
    let view = find(session, &args.mirror)?;
    if !args.change.dry_run {
        let danger = format!(
            "{} will no longer be mirrored. Its copies stay on the disks of {}.",
            full(&view),
            view.copies
                .iter()
                .map(|copy| copy.node.clone())
                .collect::<Vec<_>>()
                .join(" and ")
        );
        args.confirmation.require(&view.name, &danger)?;
    }
    let said = edit(session, args.change, &view.group, |group| {
        let name = ResourceId(view.name.clone());
        let mut gone: Vec<ResourceId> = mounts(group, &view.name).cloned().collect();
        gone.push(name);
        group.resources.retain(|id, _| !gone.contains(id));
        for resource in group.resources.values_mut() {
            resource.requires.retain(|id| !gone.contains(id));
        }
    })?;
    let status = session.status()?;
    let group = status.groups.iter().find(|group| group.name == view.group);
    let note = group.and_then(left_behind);
    say_with(session, &said, args.change.dry_run, note)
}

/// A group that its mirror was taken from does not run by itself again.
pub(super) fn left_behind(group: &GroupView) -> Option<String> {
    let name = &group.name;
    match group.state.as_str() {
        _ if group.resources.is_empty() => Some(format!(
            "{name} has no resources left: give it others with `hotpair config apply`, or take it out of the \
             configuration"
        )),
        state @ ("failed" | "cannot run") => Some(format!(
            "{name} is still {state}, as before; once nothing else is wrong (`hotpair explain {name}`): \
             `hotpair group clear {name}`, then `hotpair group start {name}`"
        )),
        "stopped" => Some(format!(
            "{name} is stopped: `hotpair group start {name}` starts what is left of it"
        )),
        _ => None,
    }
}

/// What was done, and what is left to do.
fn say_with(session: &Session, said: &str, dry_run: bool, note: Option<String>) -> Outcome {
    let text = match note {
        Some(note) if !dry_run => format!("{}\n{}", said.trim_end(), plain(&note)),
        _ => said.to_owned(),
    };
    session.say(&text, dry_run)
}

fn edit(
    session: &Session,
    change: Change,
    group: &str,
    edit: impl FnOnce(&mut Group),
) -> Result<String, Failure> {
    let mut cluster = present(session)?.0;
    if let Some(group) = cluster.groups.get_mut(&GroupId::from(group)) {
        edit(group);
    }
    let text = hotpair_config::show(&cluster);
    applied(session, "configuration", &text, change.dry_run)
}
