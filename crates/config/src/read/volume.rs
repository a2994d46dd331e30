//! Reads mirrors and mounts.

use super::{MAX_LINKS, Names};
use crate::section::Section;
use crate::words::{parse_size, plain_path, shown};
use hotpair_core::config::{
    Cluster, CopyPlace, Export, FilesystemCheck, Mirror, MirrorMode, Mount, OnDiskFailure,
    OnSplitBrain, ResourceKind,
};
use hotpair_core::ids::{GroupId, MemberId, ResourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

/// The first mirror's port where none is given; others take the next free ones.
pub(crate) const FIRST_PORT: u16 = 14400;
/// A device's size is a multiple of this, and at least [`SMALLEST`].
const BLOCK: u64 = 4096;
const SMALLEST: u64 = 1 << 20;
/// Mirrors in a cluster, each of which is a process with a port; and mounts, since each has one.
pub(crate) const MAX_MIRRORS: usize = 256;
/// Options of a mount.
const MAX_OPTIONS: usize = 64;
/// Of the asynchronous mode, where it is not given.
const LAG: Duration = Duration::from_secs(5);
const LAG_BYTES: u64 = 64 << 20;
/// Where no filesystem is given.
pub(crate) const FILESYSTEM: &str = "ext4";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Synchronous,
    Memory,
    Asynchronous,
}

const MODE: [(&str, Mode); 3] = [
    ("synchronous", Mode::Synchronous),
    ("memory", Mode::Memory),
    ("asynchronous", Mode::Asynchronous),
];
pub(crate) const ON_DISK_FAILURE: [(&str, OnDiskFailure); 2] = [
    ("fail-over", OnDiskFailure::FailOver),
    ("go-on", OnDiskFailure::GoOn),
];
pub(crate) const ON_SPLIT_BRAIN: [(&str, OnSplitBrain); 4] = [
    ("by-hand", OnSplitBrain::ByHand),
    ("younger", OnSplitBrain::Younger),
    ("older", OnSplitBrain::Older),
    ("with-changes", OnSplitBrain::WithChanges),
];
pub(crate) const EXPORT: [(&str, Export); 3] = [
    ("auto", Export::Auto),
    ("fuse", Export::Fuse),
    ("nbd", Export::Nbd),
];
pub(crate) const CHECK: [(&str, FilesystemCheck); 3] = [
    ("safe", FilesystemCheck::Safe),
    ("never", FilesystemCheck::Never),
    ("full", FilesystemCheck::Full),
];

/// Filesystems on a block device that hotpair can check and make.
const FILESYSTEMS: [&str; 8] = [
    "ext4", "xfs", "btrfs", "ext3", "ext2", "f2fs", "vfat", "exfat",
];
/// Those without a block device of their own.
const NO_DEVICE: [&str; 10] = [
    "nfs", "nfs4", "cifs", "smb3", "tmpfs", "ramfs", "overlay", "proc", "sysfs", "bind",
];

/// Reads a mirror. What is broken has its errors and is replaced by something harmless, so that a
/// mount finds its mirror and everything else is told in the same go.
pub(super) fn mirror(
    section: &Section<'_>,
    names: &Names,
    nodes: &[MemberId],
) -> Option<ResourceKind> {
    let copies = copies(section, names, nodes);
    let mirror = Mirror {
        size: device_size(section).unwrap_or(SMALLEST),
        mode: mode(section),
        source: source(section, names, nodes, &copies),
        copies,
        // 0: to be given in `settle`.
        port: section.number("port", 1..=65_535).unwrap_or_default(),
        links: links(section),
        resync_rate: rate(section),
        on_disk_failure: section
            .choice("on_disk_failure", &ON_DISK_FAILURE)
            .unwrap_or_default(),
        on_split_brain: section
            .choice("on_split_brain", &ON_SPLIT_BRAIN)
            .unwrap_or_default(),
        export: section.choice("export", &EXPORT).unwrap_or_default(),
    };
    Some(ResourceKind::Mirror(mirror))
}

/// A size with its unit.
fn size(section: &Section<'_>, key: &'static str, tail: &str) -> Option<(u64, Range<usize>)> {
    let (text, span) = section.string(key)?;
    match parse_size(text.strip_suffix(tail).unwrap_or(&text)) {
        Ok(bytes) => Some((bytes, span)),
        Err(why) => {
            let message = format!("`{key}` is `{}`, which {why}", shown(&text));
            let help = "write a whole number and a unit: B, KiB, MiB, GiB, TiB, or kB, MB, GB, TB";
            section.error(span, message, help);
            None
        }
    }
}

fn device_size(section: &Section<'_>) -> Option<u64> {
    if !section.has("size") {
        let help =
            "say how large the device is: size = \"10GiB\"; both disks must have room for it";
        section.missing("size", help);
    }
    let (bytes, span) = size(section, "size", "")?;
    if bytes < SMALLEST {
        let message = format!("a mirror of {bytes} bytes is too small");
        section.error(span, message, "give at least 1MiB");
    } else if bytes % BLOCK != 0 {
        let message = format!("{bytes} bytes are not a multiple of {BLOCK}");
        let help = format!(
            "the next smaller size is {}",
            crate::words::size(bytes / BLOCK * BLOCK)
        );
        section.error(span, message, &help);
    } else {
        return Some(bytes);
    }
    None
}

fn rate(section: &Section<'_>) -> Option<u64> {
    let (bytes, span) = size(section, "resync_rate", "/s")?;
    if bytes == 0 {
        let message = "at a rate of 0 nothing is ever resynchronised".to_owned();
        section.error(span, message, "leave it out for no limit");
        return None;
    }
    Some(bytes)
}

fn mode(section: &Section<'_>) -> MirrorMode {
    let mode = section.choice("mode", &MODE).unwrap_or(Mode::Synchronous);
    let lag = section.seconds("lag_s", 100..=86_400_000);
    let bytes = size(section, "lag_bytes", "");
    if mode != Mode::Asynchronous {
        for key in ["lag_s", "lag_bytes"] {
            if section.has(key) {
                let message = format!("`{key}` applies to mode \"asynchronous\" only");
                section.error(section.place(key), message, "remove it, or change `mode`");
            }
        }
    }
    match mode {
        Mode::Synchronous => MirrorMode::Synchronous,
        Mode::Memory => MirrorMode::Memory,
        Mode::Asynchronous => MirrorMode::Asynchronous {
            lag: lag.unwrap_or(LAG),
            bytes: bytes.map_or(LAG_BYTES, |(bytes, _)| bytes),
        },
    }
}

type ByNode = BTreeMap<MemberId, (String, Range<usize>)>;

/// A text for every node of the group, or a table of texts by node.
fn by_node(
    section: &Section<'_>,
    key: &'static str,
    names: &Names,
    nodes: &[MemberId],
) -> Option<ByNode> {
    let value = section.value(key)?;
    if let Some(text) = value.get_ref().as_str() {
        section.string(key);
        let all = nodes.iter();
        return Some(all.map(|&n| (n, (text.to_owned(), value.span()))).collect());
    }
    if !value.get_ref().is_table() {
        let wanted = "a path, or a table of paths by node: { node1 = \"/dev/…\", … }";
        section.wrong_type(key, value, wanted);
        return None;
    }
    let table = section.section(key)?;
    let mut found = ByNode::new();
    for (name, value) in table.entries() {
        let node = names.find(section, name.get_ref(), name.span());
        let Some(path) = value.get_ref().as_str() else {
            section.wrong_type(name.get_ref(), value, "a path, as a string");
            continue;
        };
        let Some(node) = node else { continue };
        if nodes.contains(&node) {
            let place = table.join(name.get_ref());
            section.places.put(place, value.span());
            found.insert(node, (path.to_owned(), value.span()));
        } else {
            let message = format!("node `{}` does not run this group", shown(name.get_ref()));
            let help = "name two nodes that stand in the group's `nodes`";
            section.error(name.span(), message, help);
        }
    }
    Some(found)
}

fn copies(
    section: &Section<'_>,
    names: &Names,
    nodes: &[MemberId],
) -> BTreeMap<MemberId, CopyPlace> {
    if !section.has("device") {
        let help = "say where each copy is: device = \"/dev/vg0/data\", or for each node device = { node1 = \"/dev/sdb1\", node2 = \"/dev/sdc1\" }";
        section.missing("device", help);
    }
    let devices = by_node(section, "device", names, nodes);
    let mut metadata = by_node(section, "metadata", names, nodes).unwrap_or_default();
    if let Some(devices) = &devices
        && !nodes.is_empty()
    {
        count(section, devices.len());
    }
    let devices = devices.unwrap_or_default();
    for (path, span) in devices.values().chain(metadata.values()) {
        check_path(section, path, span.clone());
    }
    for (node, (_, span)) in &metadata {
        if !devices.is_empty() && !devices.contains_key(node) {
            let message = "there is metadata for a node without a device".to_owned();
            section.error(span.clone(), message, "name the nodes of `device` only");
        }
    }
    let copy = |(node, (device, _))| {
        let metadata = metadata.remove(&node).map(|(path, _)| path);
        (node, CopyPlace { device, metadata })
    };
    devices.into_iter().map(copy).collect()
}

fn count(section: &Section<'_>, copies: usize) {
    let place = section.place("device");
    match copies {
        2 => {}
        0 | 1 => {
            let message = "a mirror keeps two copies, here there is one".to_owned();
            let help = "give a device on two nodes of the group: device = { node1 = \"/dev/…\", node2 = \"/dev/…\" }";
            section.error(place, message, help);
        }
        many => {
            let message = format!("a mirror keeps two copies, here there are {many}");
            let help = "name two nodes of the group: device = { node1 = \"/dev/…\", node2 = \"/dev/…\" }; more copies are not supported";
            section.error(place, message, help);
        }
    }
}

fn check_path(section: &Section<'_>, path: &str, span: Range<usize>) {
    if path.contains('\0') {
        section.error(span, "a path with a zero character".to_owned(), "remove it");
    } else if let Err(help) = plain_path(path) {
        let message = format!("`{}` is not a full path", shown(path));
        section.error(span, message, &help);
    } else if path == "/" || path == "/dev" {
        let message = format!("`{path}` is neither a device nor an image file");
        let help = "name a partition, disk, logical volume or image file";
        section.error(span, message, help);
    }
}

/// Names of links; whether there are such links is a rule.
fn links(section: &Section<'_>) -> Vec<String> {
    let mut links: Vec<String> = Vec::new();
    let written = section.strings("links").unwrap_or_default();
    if let Some((_, span)) = written.get(MAX_LINKS) {
        let message = format!("{} links are too many", written.len());
        let help = format!("a cluster has 1 to {MAX_LINKS} links");
        section.error(span.clone(), message, &help);
    }
    for (name, span) in written.into_iter().take(MAX_LINKS) {
        let path = format!("{}/{name}", section.join("links"));
        section.places.put(path, span.clone());
        if links.contains(&name) {
            let message = format!("link `{}` stands in this list twice", shown(&name));
            section.error(span, message, "remove one");
        } else {
            links.push(name);
        }
    }
    links
}

fn source(
    section: &Section<'_>,
    names: &Names,
    nodes: &[MemberId],
    copies: &BTreeMap<MemberId, CopyPlace>,
) -> MemberId {
    let default = default_source(nodes, copies);
    let Some((name, span)) = section.string("source") else {
        return default;
    };
    match names.find(section, &name, span.clone()) {
        Some(node) if copies.contains_key(&node) || copies.is_empty() => node,
        Some(_) => {
            let message = format!("node `{}` keeps no copy of this mirror", shown(&name));
            let help = "name the node whose data is kept when the mirror is made";
            section.error(span, message, help);
            default
        }
        None => default,
    }
}

/// The first of the group's nodes that keeps a copy.
pub(crate) fn default_source(
    nodes: &[MemberId],
    copies: &BTreeMap<MemberId, CopyPlace>,
) -> MemberId {
    let first = nodes.iter().find(|node| copies.contains_key(node));
    first.or(nodes.first()).copied().unwrap_or(MemberId(1))
}

/// Reads a mount. Whether its mirror exists is a rule.
pub(super) fn mount(section: &Section<'_>, _: &Names, _: &[MemberId]) -> Option<ResourceKind> {
    if !section.has("mirror") {
        section.missing("mirror", "name the mirror of this group that it is on");
    }
    if !section.has("path") {
        section.missing("path", "say where it is mounted: path = \"/srv/data\"");
    }
    let mirror = section.string("mirror").map_or_else(String::new, |m| m.0);
    let mount = Mount {
        mirror: ResourceId(mirror),
        path: mount_path(section).unwrap_or_default(),
        filesystem: filesystem(section).unwrap_or_else(|| FILESYSTEM.to_owned()),
        options: options(section),
        check: section.choice("check", &CHECK).unwrap_or_default(),
        make: section.boolean("make").unwrap_or_default(),
        kill_users: section.boolean("kill_users").unwrap_or_default(),
    };
    Some(ResourceKind::Mount(mount))
}

fn mount_path(section: &Section<'_>) -> Option<String> {
    let (path, span) = section.string("path")?;
    if let Err(help) = plain_path(&path) {
        let message = format!("`path` is `{}`, which is not a full path", shown(&path));
        section.error(span, message, &help);
        return None;
    }
    Some(path)
}

fn filesystem(section: &Section<'_>) -> Option<String> {
    let (name, span) = section.string("filesystem")?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if name.is_empty() || name.len() > 32 || !name.chars().all(plain) || name.starts_with('-') {
        let message = format!("`{}` cannot be the name of a filesystem", shown(&name));
        section.error(span, message, "give one such as ext4, xfs or btrfs");
        return None;
    }
    if NO_DEVICE.contains(&name.as_str()) {
        let message = format!("`{name}` is not on a block device");
        section.error(span, message, "give one such as ext4, xfs or btrfs");
        return None;
    }
    if !FILESYSTEMS.contains(&name.as_str()) {
        let message = format!("hotpair does not know the filesystem `{name}`");
        let help = section.meant(
            &name,
            FILESYSTEMS,
            "it is mounted, and checked by fsck.NAME if there is one",
        );
        section.warning(span, message, &help);
    }
    Some(name)
}

fn options(section: &Section<'_>) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    let written = section.strings("options").unwrap_or_default();
    if let Some((_, span)) = written.get(MAX_OPTIONS) {
        let message = format!("{} mount options are too many", written.len());
        section.error(
            span.clone(),
            message,
            &format!("give at most {MAX_OPTIONS}"),
        );
    }
    for (option, span) in written.into_iter().take(MAX_OPTIONS) {
        if option.is_empty() || option.contains([',', ' ', '\t', '\n', '\0']) {
            let message = format!("`{}` is not one mount option", shown(&option));
            let help =
                "write each option as a string of its own: options = [\"noatime\", \"nodev\"]";
            section.error(span, message, help);
        } else if options.contains(&option) {
            let message = format!("option `{}` stands in this list twice", shown(&option));
            section.error(span, message, "remove one");
        } else {
            check_option(section, &option, span);
            options.push(option);
        }
    }
    options
}

fn check_option(section: &Section<'_>, option: &str, span: Range<usize>) {
    let name = option.split('=').next().unwrap_or_default();
    match name {
        "auto" | "noauto" | "nofail" | "_netdev" | "user" | "nouser" | "users" | "owner"
        | "group" | "defaults" => {
            let message = format!("option `{name}` is for /etc/fstab and says nothing here");
            let help = "remove it: hotpair alone mounts this, and it stays out of /etc/fstab";
            section.warning(span, message, help);
        }
        _ if name.starts_with("x-") => {
            let message = format!(
                "option `{}` is for /etc/fstab and says nothing here",
                shown(name)
            );
            section.warning(span, message, "remove it");
        }
        "bind" | "rbind" | "move" | "remount" | "loop" | "offset" | "sizelimit" | "shared"
        | "rshared" | "slave" | "rslave" | "private" | "rprivate" | "unbindable"
        | "runbindable" => {
            let message = format!("option `{name}` would mount something else than the mirror");
            section.error(span, message, "remove it");
        }
        "ro" => {
            let message = "mounted read-only, nothing can be written to the mirror".to_owned();
            section.warning(span, message, "remove `ro` unless that is what you want");
        }
        "nobarrier" | "barrier" if option != "barrier=1" && option != "barrier" => {
            let message = format!(
                "without write barriers (`{option}`) a power cut may lose what was acknowledged"
            );
            section.warning(span, message, "remove it");
        }
        _ => {}
    }
}

/// Gives ports to the mirrors without one, and compares sizes with the present ones.
pub(super) fn settle(root: &Section<'_>, cluster: &mut Cluster, base: Option<&Cluster>) {
    let mut taken: BTreeSet<u16> = BTreeSet::from([super::PORT]);
    for link in &cluster.links {
        taken.extend(link.addresses.values().map(std::net::SocketAddr::port));
    }
    let given = cluster.groups.values().flat_map(|group| group.mirrors());
    taken.extend(given.map(|(_, mirror)| mirror.port));
    let present = |group: &GroupId, id: &ResourceId| base?.groups.get(group)?.mirror(id);
    // Those that are there keep their port before new ones choose.
    each_mirror(cluster, |group, id, mirror| {
        let path = format!("group/{group}/mirror/{id}");
        let Some(present) = present(group, id) else {
            return;
        };
        shrunk(root, &path, present.size, mirror.size);
        if mirror.port == 0 && !port_is_written(root, &path) && taken.insert(present.port) {
            mirror.port = present.port;
        }
    });
    let mut free = (FIRST_PORT..=u16::MAX).filter(|port| !taken.contains(port));
    each_mirror(cluster, |group, id, mirror| {
        let path = format!("group/{group}/mirror/{id}");
        if mirror.port == 0
            && !port_is_written(root, &path)
            && let Some(port) = free.next()
        {
            mirror.port = port;
        }
    });
}

fn each_mirror(cluster: &mut Cluster, mut work: impl FnMut(&GroupId, &ResourceId, &mut Mirror)) {
    for (group_id, group) in &mut cluster.groups {
        for (id, resource) in &mut group.resources {
            if let ResourceKind::Mirror(mirror) = &mut resource.kind {
                work(group_id, id, mirror);
            }
        }
    }
}

fn shrunk(root: &Section<'_>, path: &str, present: u64, wanted: u64) {
    if present > wanted {
        let message = format!(
            "this mirror has {} now and cannot be made smaller",
            crate::words::size(present)
        );
        let help = "a filesystem on it would lose its end; make another mirror and copy the data";
        let place = root.places.of(&format!("{path}/size"));
        root.findings.error(place, message, help);
    }
}

/// A port that is written and wrong has its error already.
fn port_is_written(root: &Section<'_>, path: &str) -> bool {
    root.places.of(&format!("{path}/port")) != root.places.of(path)
}
