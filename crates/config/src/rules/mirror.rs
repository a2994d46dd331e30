//! Rules about mirrors: nothing is used by two of them, and what they name exists.

use crate::finding::Findings;
use crate::read::PORT;
use crate::read::volume::MAX_MIRRORS;
use crate::section::Places;
use crate::words::{is_below, nearest, shown};
use hotpair_core::config::{Cluster, Group, Mirror};
use hotpair_core::ids::{GroupId, MemberId, ResourceId};
use std::collections::BTreeMap;

/// A mirror and where it stands.
struct Placed<'a> {
    group_id: &'a GroupId,
    group: &'a Group,
    id: &'a ResourceId,
    mirror: &'a Mirror,
}

impl Placed<'_> {
    fn path(&self, key: &str) -> String {
        format!("group/{}/mirror/{}/{key}", self.group_id, self.id)
    }
}

pub(super) fn check(cluster: &Cluster, places: &Places, findings: &Findings) {
    let mut mirrors = Vec::new();
    for (group_id, group) in &cluster.groups {
        for (id, mirror) in group.mirrors() {
            mirrors.push(Placed {
                group_id,
                group,
                id,
                mirror,
            });
        }
    }
    if let Some(first_too_many) = mirrors.get(MAX_MIRRORS) {
        let message = format!("{} mirrors are too many", mirrors.len());
        let help = format!("a cluster has at most {MAX_MIRRORS}: each is a process with a port");
        findings.error(places.of(&first_too_many.path("size")), message, &help);
        mirrors.truncate(MAX_MIRRORS);
    }
    let mounts = super::mount::Mounts::of(cluster);
    ports(cluster, &mirrors, places, findings);
    disks(cluster, &mirrors, places, findings);
    for placed in &mirrors {
        links(cluster, placed, places, findings);
        bystanders(cluster, placed, places, findings);
        on_a_mount(cluster, placed, &mounts, places, findings);
    }
}

fn ports(cluster: &Cluster, mirrors: &[Placed<'_>], places: &Places, findings: &Findings) {
    let mut seen: BTreeMap<u16, &Placed<'_>> = BTreeMap::new();
    for placed in mirrors.iter().filter(|placed| placed.mirror.port != 0) {
        let port = placed.mirror.port;
        let place = || places.of(&placed.path("port"));
        let help = "leave `port` out for the next free one from 14400";
        let of_link = cluster
            .links
            .iter()
            .any(|link| link.addresses.values().any(|end| end.port() == port));
        if port == PORT || of_link {
            let message = format!("port {port} is that of the heartbeats");
            findings.error(place(), message, help);
        } else if let Some(first) = seen.get(&port) {
            let message = format!(
                "port {port} belongs to mirror `{}` of group `{}` already",
                first.id, first.group_id
            );
            findings.error(place(), message, help);
        } else {
            seen.insert(port, placed);
        }
    }
}

/// One device or file for two purposes: each would destroy the other.
fn disks(cluster: &Cluster, mirrors: &[Placed<'_>], places: &Places, findings: &Findings) {
    let mut seen: BTreeMap<(MemberId, &str), String> = BTreeMap::new();
    for placed in mirrors {
        for (&node, copy) in &placed.mirror.copies {
            let name = cluster.name_of(node);
            let metadata = copy.metadata.iter().map(|path| ("metadata", path));
            for (key, path) in [("device", &copy.device)].into_iter().chain(metadata) {
                let what = match key {
                    "device" => "data",
                    _ => "metadata",
                };
                let owner = format!(
                    "the {what} of mirror `{}` of group `{}`",
                    placed.id, placed.group_id
                );
                let Some(first) = seen.get(&(node, path.as_str())) else {
                    seen.insert((node, path), owner);
                    continue;
                };
                let message = format!("`{}` on node `{name}` takes {first} already", shown(path));
                let help = "give each mirror a device of its own";
                let place = places.of(&placed.path(&format!("{key}/{name}")));
                findings.error(place, message, help);
            }
        }
    }
}

fn links(cluster: &Cluster, placed: &Placed<'_>, places: &Places, findings: &Findings) {
    for name in &placed.mirror.links {
        let mut known = cluster.links.iter().map(|link| link.name.as_str());
        if known.clone().any(|link| link == name) {
            continue;
        }
        let help = match nearest(name, known.by_ref()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "describe it with [[link]], or leave `links` out for all of them".to_owned(),
        };
        let message = format!("there is no link `{}`", shown(name));
        let place = places.of(&placed.path(&format!("links/{name}")));
        findings.error(place, message, &help);
    }
}

/// Nodes of the group that keep no copy.
fn bystanders(cluster: &Cluster, placed: &Placed<'_>, places: &Places, findings: &Findings) {
    if placed.mirror.copies.len() != 2 {
        return;
    }
    let without = placed.group.nodes.iter();
    for &node in without.filter(|node| !placed.mirror.copies.contains_key(node)) {
        let message = format!(
            "node `{}` keeps no copy of `{}`, so it can never run group `{}`",
            cluster.name_of(node),
            placed.id,
            placed.group_id
        );
        let help = "take it from the group's `nodes`";
        findings.warning(places.of(&placed.path("device")), message, help);
    }
}

/// A copy in a file on a mount is there only while the mount's group runs.
fn on_a_mount(
    cluster: &Cluster,
    placed: &Placed<'_>,
    mounts: &super::mount::Mounts<'_>,
    places: &Places,
    findings: &Findings,
) {
    for (&node, copy) in &placed.mirror.copies {
        for path in [&copy.device].into_iter().chain(&copy.metadata) {
            let found = mounts
                .iter()
                .find(|m| m.group.nodes.contains(&node) && is_below(path, &m.mount.path));
            let Some(mount) = found else {
                continue;
            };
            let message = format!(
                "`{}` lies on mount `{}` of group `{}`, which is there only while that group runs",
                shown(path),
                mount.id,
                mount.group_id
            );
            let help = "keep the copies of a mirror on the node's own disks";
            let place = placed.path(&format!("device/{}", cluster.name_of(node)));
            findings.error(places.of(&place), message, help);
        }
    }
}
