//! Rules about mounts: each on a mirror of its group, at a path that nothing else has.

use crate::finding::Findings;
use crate::read::volume::MAX_MIRRORS;
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

/// A mount and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    pub group_id: &'a GroupId,
    pub group: &'a Group,
    pub id: &'a ResourceId,
    pub mount: &'a Mount,
}

impl Placed<'_> {
    /// Place of a key.
    fn path(&self, key: &str) -> String {
        format!("group/{}/mount/{}/{key}", self.group_id, self.id)
    }
}

/// The mounts whose path is worth looking at, by group; no more than there may be mirrors.
pub(super) struct Mounts<'a>(BTreeMap<&'a GroupId, Vec<Placed<'a>>>);

impl<'a> Mounts<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let mut by_group: BTreeMap<_, Vec<Placed<'a>>> = BTreeMap::new();
        let good = all(cluster).filter(|placed| placed.mount.path.len() > 1);
        for placed in good.take(MAX_MIRRORS) {
            by_group.entry(placed.group_id).or_default().push(placed);
        }
        Self(by_group)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Placed<'a>> {
        self.0.values().flatten()
    }

    fn in_group(&self, group: &GroupId) -> &[Placed<'a>] {
        self.0.get(group).map_or(&[], Vec::as_slice)
    }
}

/// Every mount of a cluster.
fn all(cluster: &Cluster) -> impl Iterator<Item = Placed<'_>> {
    cluster.groups.iter().flat_map(|(group_id, group)| {
        let of_group = group.resources.iter();
        of_group.filter_map(move |(id, resource)| match &resource.kind {
            ResourceKind::Mount(mount) => Some(Placed {
                group_id,
                group,
                id,
                mount,
            }),
            _ => None,
        })
    })
}

pub(super) fn check(cluster: &Cluster, places: &Places, findings: &Findings) {
    mirrors(cluster, places, findings);
    let mounts = Mounts::of(cluster);
    // The root has more to say than that it is nobody's.
    for placed in all(cluster)
        .filter(|placed| !placed.mount.path.is_empty())
        .take(MAX_MIRRORS)
    {
        reserved(&placed.mount.path, &placed.path("path"), places, findings);
    }
    for (group_id, group) in &cluster.groups {
        let of_group = mounts.in_group(group_id);
        nested(of_group, places, findings);
        scripts(group_id, group, of_group, places, findings);
    }
    between_groups(&mounts, places, findings);
}

/// A mount is on a mirror of its own group, and alone on it. As each mirror is, so are all but so many
/// mounts of a group refused here.
fn mirrors(cluster: &Cluster, places: &Places, findings: &Findings) {
    let mut seen: BTreeMap<(&GroupId, &ResourceId), &ResourceId> = BTreeMap::new();
    for placed in all(cluster).filter(|placed| !placed.mount.mirror.0.is_empty()) {
        if findings.full() {
            return;
        }
        let Placed {
            group_id,
            group,
            id,
            mount,
        } = placed;
        let at = places.of(&placed.path("mirror"));
        let name = shown(&mount.mirror.0);
        if group.mirror(&mount.mirror).is_none() {
            let (message, help) = no_mirror(cluster, group, &mount.mirror);
            findings.error(at, message, &help);
        } else if let Some(first) = seen.get(&(group_id, &mount.mirror)) {
            let message = format!("mirror `{name}` is mounted by `{first}` already");
            let help = "a filesystem is mounted once; give this one a mirror of its own";
            findings.error(at, message, help);
        } else {
            seen.insert((group_id, &mount.mirror), id);
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
    let known = group.mirrors().map(|(id, _)| id.0.as_str()).take(200);
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
fn nested(mounts: &[Placed<'_>], places: &Places, findings: &Findings) {
    for (number, inner) in mounts.iter().enumerate() {
        let path = &inner.mount.path;
        let at = || places.of(&inner.path("path"));
        if let Some(first) = mounts[..number].iter().find(|m| m.mount.path == *path) {
            let message = format!("`{}` is mounted at `{}` already", first.id, shown(path));
            findings.error(at(), message, "give each mount a directory of its own");
            continue;
        }
        // The nearest around it, which in turn requires those around itself.
        let around = mounts
            .iter()
            .filter(|m| m.mount.path != *path && is_below(path, &m.mount.path));
        if let Some(outer) = around.max_by_key(|m| m.mount.path.len())
            && !requires(inner.group, inner.id, outer.id)
        {
            let message = format!(
                "`{}` is mounted below `{}` ({}) and does not require it",
                inner.id,
                outer.id,
                shown(&outer.mount.path)
            );
            let help = format!(
                "add `{}` to the `requires` of `{}`: the outer one hides what was mounted before it",
                outer.id, inner.id
            );
            findings.error(at(), message, &help);
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
fn between_groups(mounts: &Mounts<'_>, places: &Places, findings: &Findings) {
    let mut before: Vec<&Placed<'_>> = Vec::new();
    for of_group in mounts.0.values() {
        for placed in of_group {
            let nodes = &placed.group.nodes;
            let path = &placed.mount.path;
            let clash = before.iter().find(|other| {
                let theirs = &other.mount.path;
                (is_below(path, theirs) || is_below(theirs, path))
                    && other.group.nodes.iter().any(|node| nodes.contains(node))
            });
            if let Some(other) = clash {
                let message = format!(
                    "`{}` overlaps `{}`, where `{}` of group `{}` is mounted",
                    shown(path),
                    shown(&other.mount.path),
                    other.id,
                    other.group_id
                );
                let help = "groups move apart from each other: give each mount a directory outside the other";
                findings.error(places.of(&placed.path("path")), message, help);
            }
        }
        before.extend(of_group);
    }
}

/// A detector runs on the standby too, where the group's mounts are not.
fn scripts(
    group_id: &GroupId,
    group: &Group,
    mounts: &[Placed<'_>],
    places: &Places,
    findings: &Findings,
) {
    if mounts.is_empty() {
        return;
    }
    for (id, resource) in &group.resources {
        let of = format!("group/{group_id}/{}/{id}", super::kind_name(resource));
        let mut commands = Vec::new();
        if let ResourceKind::Program(program) = &resource.kind
            && let Some(status) = &program.status
        {
            commands.push((status, format!("{of}/status")));
        }
        for (number, detector) in resource.detectors.iter().enumerate() {
            // A monitor program runs where the resource does, and finds the mount there.
            if let Check::Script { command, .. } = &detector.check {
                commands.push((command, format!("{of}/detector/{number}/script")));
            }
        }
        for (command, at) in commands {
            let Some((script, mount)) = script_on_a_mount(mounts, command) else {
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
    mounts: &[Placed<'a>],
    command: &'a [String],
) -> Option<(&'a str, &'a ResourceId)> {
    let program = command.first()?;
    let last = program.rsplit('/').next().unwrap_or_default();
    let script = INTERPRETERS
        .contains(&last)
        .then(|| command.iter().skip(1).find(|word| !word.starts_with('-')))
        .flatten();
    [Some(program), script]
        .into_iter()
        .flatten()
        .find_map(|path| {
            let on = mounts.iter().find(|m| is_below(path, &m.mount.path))?;
            Some((path.as_str(), on.id))
        })
}
