//! Rules about mounts: each on a mirror of its group, at a path that nothing else has.

use crate::finding::Findings;
use crate::section::Places;
use crate::words::{is_below, nearest, shown};
use hotpair_core::config::{Check, Cluster, Group, Mount, ResourceKind};
use hotpair_core::ids::{GroupId, ResourceId};
use std::collections::{BTreeMap, BTreeSet};

/// hotpair's own directories.
const OURS: [&str; 4] = [
    "/etc/hotpair",
    "/var/lib/hotpair",
    "/run/hotpair",
    "/var/log/hotpair",
];
/// Nothing is mounted over these, because the system lives there, nor over what they are part of.
const SYSTEM: [&str; 12] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/tmp",
    "/usr",
];
/// Nor anywhere below these.
const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Programs that run the script named after them.
const INTERPRETERS: [&str; 12] = [
    "sh", "bash", "dash", "ksh", "zsh", "perl", "python", "python3", "ruby", "env", "node", "php",
];

/// The mounts of a group.
pub(super) fn mounts(group: &Group) -> impl Iterator<Item = (&ResourceId, &Mount)> {
    group
        .resources
        .iter()
        .filter_map(|(id, resource)| match &resource.kind {
            ResourceKind::Mount(mount) => Some((id, mount)),
            _ => None,
        })
}

/// Place of a key of a mount.
fn place(group: &GroupId, id: &ResourceId, key: &str) -> String {
    format!("group/{group}/mount/{id}/{key}")
}

pub(super) fn check(cluster: &Cluster, places: &Places, findings: &Findings) {
    for (group_id, group) in &cluster.groups {
        mirrors(cluster, group_id, group, places, findings);
        for (id, mount) in mounts(group).filter(|(_, mount)| !mount.path.is_empty()) {
            reserved(&mount.path, &place(group_id, id, "path"), places, findings);
        }
        nested(group_id, group, places, findings);
        scripts(group_id, group, places, findings);
    }
    between_groups(cluster, places, findings);
}

/// A mount is on a mirror of its own group, and alone on it.
fn mirrors(
    cluster: &Cluster,
    group_id: &GroupId,
    group: &Group,
    places: &Places,
    findings: &Findings,
) {
    let mut seen: BTreeMap<&ResourceId, &ResourceId> = BTreeMap::new();
    for (id, mount) in mounts(group).filter(|(_, mount)| !mount.mirror.0.is_empty()) {
        let at = places.of(&place(group_id, id, "mirror"));
        let name = shown(&mount.mirror.0);
        if group.mirror(&mount.mirror).is_none() {
            let (message, help) = no_mirror(cluster, group, &mount.mirror);
            findings.error(at, message, &help);
        } else if let Some(first) = seen.get(&mount.mirror) {
            let message = format!("mirror `{name}` is mounted by `{first}` already");
            let help = "a filesystem is mounted once; give this one a mirror of its own";
            findings.error(at, message, help);
        } else {
            seen.insert(&mount.mirror, id);
        }
    }
}

fn no_mirror(cluster: &Cluster, group: &Group, wanted: &ResourceId) -> (String, String) {
    let name = shown(&wanted.0);
    if group.resources.contains_key(wanted) {
        let message = format!("`{name}` is not a mirror");
        return (message, "name a mirror of this group".to_owned());
    }
    let other = cluster
        .groups
        .iter()
        .find(|(_, group)| group.mirror(wanted).is_some());
    if let Some((other, _)) = other {
        let message = format!("mirror `{name}` belongs to group `{other}`");
        let help = "a mount is in the group of its mirror: move one of them";
        return (message, help.to_owned());
    }
    let known = group.mirrors().map(|(id, _)| id.0.as_str());
    let help = match nearest(&wanted.0, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "describe it with [group.NAME.mirror.NAME]".to_owned(),
    };
    (format!("this group has no mirror `{name}`"), help)
}

fn reserved(path: &str, at: &str, places: &Places, findings: &Findings) {
    let ours = OURS
        .iter()
        .find(|dir| is_below(path, dir) || is_below(dir, path));
    if let Some(ours) = ours {
        let message = format!(
            "a mount at `{}` would hide or use hotpair's own {ours}",
            shown(path)
        );
        let help = "choose a directory of the application's, such as /srv/data";
        findings.error(places.of(at), message, help);
        return;
    }
    let system = SYSTEM
        .iter()
        .find(|dir| is_below(dir, path))
        .or_else(|| KERNEL.iter().find(|dir| is_below(path, dir)));
    if let Some(system) = system {
        let message = format!(
            "a mount at `{}` would hide the system's {system}",
            shown(path)
        );
        let help = "choose a directory of the application's, such as /srv/data";
        findings.error(places.of(at), message, help);
    }
}

/// A mount inside another one needs the outer one first.
fn nested(group_id: &GroupId, group: &Group, places: &Places, findings: &Findings) {
    for (id, inner) in mounts(group).filter(|(_, mount)| mount.path.len() > 1) {
        for (other, outer) in
            mounts(group).filter(|(other, mount)| *other != id && mount.path.len() > 1)
        {
            let at = || places.of(&place(group_id, id, "path"));
            if inner.path == outer.path {
                if id > other {
                    let message =
                        format!("`{other}` is mounted at `{}` already", shown(&inner.path));
                    findings.error(at(), message, "give each mount a directory of its own");
                }
            } else if is_below(&inner.path, &outer.path) && !requires(group, id, other) {
                let message = format!(
                    "`{id}` is mounted below `{other}` ({}) and does not require it",
                    shown(&outer.path)
                );
                let help = format!(
                    "add `{other}` to the `requires` of `{id}`: the outer one hides what was mounted before it"
                );
                findings.error(at(), message, &help);
            }
        }
    }
}

/// Does `id` require `other`, itself or by what it requires?
fn requires(group: &Group, id: &ResourceId, other: &ResourceId) -> bool {
    let mut seen = BTreeSet::new();
    let mut left = vec![id];
    while let Some(next) = left.pop() {
        if let Some(resource) = group.resources.get(next)
            && seen.insert(next)
        {
            left.extend(&resource.requires);
        }
    }
    seen.contains(other)
}

/// Groups that share a node move apart from each other: their mounts must not touch.
fn between_groups(cluster: &Cluster, places: &Places, findings: &Findings) {
    let mut before: Vec<(&GroupId, &Group)> = Vec::new();
    for (group_id, group) in &cluster.groups {
        for (id, mount) in mounts(group).filter(|(_, mount)| mount.path.len() > 1) {
            let shared = |other: &Group| other.nodes.iter().any(|node| group.nodes.contains(node));
            let clash = before
                .iter()
                .filter(|(_, other)| shared(other))
                .flat_map(|(other_id, other)| mounts(other).map(move |(of, m)| (other_id, of, m)))
                .find(|(_, _, other)| {
                    other.path.len() > 1
                        && (is_below(&mount.path, &other.path)
                            || is_below(&other.path, &mount.path))
                });
            if let Some((other_id, of, other)) = clash {
                let message = format!(
                    "`{}` overlaps `{}`, where `{of}` of group `{other_id}` is mounted",
                    shown(&mount.path),
                    shown(&other.path)
                );
                let help = "groups move apart from each other: give each mount a directory outside the other";
                findings.error(places.of(&place(group_id, id, "path")), message, help);
            }
        }
        before.push((group_id, group));
    }
}

/// A detector runs on the standby too, where the group's mounts are not.
fn scripts(group_id: &GroupId, group: &Group, places: &Places, findings: &Findings) {
    for (id, resource) in &group.resources {
        let of = format!("group/{group_id}/{}/{id}", super::kind_name(resource));
        let mut commands = Vec::new();
        if let ResourceKind::Program(program) = &resource.kind
            && let Some(status) = &program.status
        {
            commands.push((status, format!("{of}/status")));
        }
        for (number, detector) in resource.detectors.iter().enumerate() {
            if let Check::Script { command, .. } = &detector.check {
                commands.push((command, format!("{of}/detector/{number}/script")));
            }
        }
        for (command, at) in commands {
            let Some((script, mount)) = script_on_a_mount(group, command) else {
                continue;
            };
            let message = format!(
                "`{}` is on the group's own mount `{mount}`, so the standby cannot run it",
                shown(script)
            );
            let help = "put it on every node's own disk: detectors run on all nodes";
            findings.error(places.of(&at), message, help);
        }
    }
}

fn script_on_a_mount<'a>(
    group: &'a Group,
    command: &'a [String],
) -> Option<(&'a str, &'a ResourceId)> {
    let program = command.first()?;
    let last = program.rsplit('/').next().unwrap_or_default();
    let script = INTERPRETERS
        .contains(&last)
        .then(|| command.iter().skip(1).find(|word| !word.starts_with('-')))
        .flatten();
    for path in [Some(program), script].into_iter().flatten() {
        let on = mounts(group).find(|(_, m)| m.path.len() > 1 && is_below(path, &m.path));
        if let Some((id, _)) = on {
            return Some((path, id));
        }
    }
    None
}
