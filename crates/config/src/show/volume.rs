//! Mirrors and mounts as text.

use super::{Out, list, menu, optional, seconds, string, table};
use crate::read::volume::{
    CHECK, EXPORT, FILESYSTEM, ON_DISK_FAILURE, ON_SPLIT_BRAIN, default_source,
};
use crate::words::size;
use hotpair_core::config::{Cluster, CopyPlace, Group, Mirror, MirrorMode, Mount};

pub(super) fn mirror(out: &mut Out, cluster: &Cluster, group: &Group, mirror: &Mirror) {
    out.key("size", string(&size(mirror.size)));
    match mirror.mode {
        MirrorMode::Synchronous => {}
        MirrorMode::Memory => out.key("mode", "\"memory\""),
        MirrorMode::Asynchronous { lag, bytes } => {
            out.key("mode", "\"asynchronous\"");

            out.key("lag_s", seconds(lag));
            out.key("lag_bytes", string(&size(bytes)));
        }
    }
    let devices = |copy: &CopyPlace| Some(copy.device.clone());
    out.key("device", places(cluster, group, mirror, devices));
    let metadata = |copy: &CopyPlace| copy.metadata.clone();
    if mirror.copies.values().any(|copy| copy.metadata.is_some()) {
        out.key("metadata", places(cluster, group, mirror, metadata));
    }
    // Always: the default depends on the other mirrors.
    out.key("port", mirror.port);
    out.unless(mirror.links.is_empty(), "links", list(&mirror.links));
    let rate = mirror.resync_rate.map(size);
    optional(out, "resync_rate", rate.as_ref());
    menu(
        out,
        "on_disk_failure",
        &ON_DISK_FAILURE,
        &mirror.on_disk_failure,
    );
    menu(
        out,
        "on_split_brain",
        &ON_SPLIT_BRAIN,
        &mirror.on_split_brain,
    );
    menu(out, "export", &EXPORT, &mirror.export);
    out.unless(
        mirror.source == default_source(&group.nodes, &mirror.copies),
        "source",
        string(&cluster.name_of(mirror.source)),
    );
}

/// One path where all nodes of the group have the same, else a table by node.
fn places(
    cluster: &Cluster,
    group: &Group,
    mirror: &Mirror,
    path: impl Fn(&CopyPlace) -> Option<String>,
) -> String {
    let paths: Vec<_> = mirror
        .copies
        .iter()
        .filter_map(|(&node, copy)| Some((node, path(copy)?)))
        .collect();
    let everywhere = group.nodes.len() == paths.len()
        && group
            .nodes
            .iter()
            .all(|node| mirror.copies.contains_key(node));
    match paths.first() {
        Some((_, first)) if everywhere && paths.iter().all(|(_, path)| path == first) => {
            string(first)
        }
        _ => table(
            paths
                .iter()
                .map(|(node, path)| (cluster.name_of(*node), string(path))),
        ),
    }
}

pub(super) fn mount(out: &mut Out, mount: &Mount) {
    out.key("mirror", string(&mount.mirror.0));
    out.key("path", string(&mount.path));
    out.unless(
        mount.filesystem == FILESYSTEM,
        "filesystem",
        string(&mount.filesystem),
    );
    out.unless(mount.options.is_empty(), "options", list(&mount.options));
    menu(out, "check", &CHECK, &mount.check);
    out.unless(!mount.make, "make", mount.make);
    out.unless(!mount.kill_users, "kill_users", mount.kill_users);
}
