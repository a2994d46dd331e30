//! Reads the parts of a cluster that are not groups: name, timing, nodes, links, witness.

pub(crate) mod detector;
pub(crate) mod fence;
pub(crate) mod group;
pub(crate) mod hook;
pub(crate) mod ocf;
pub(crate) mod resource;
pub(crate) mod volume;

use crate::section::Section;
use crate::words::{NAME_RULE, is_name, shown};
use hotpair_core::config::{
    Cluster, Fencing, Flapping, Link, Node, QuorumDisk, Timing, WithoutWitness, Witness,
};
use hotpair_core::ids::{ClusterId, MemberId};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

/// Port of heartbeats (UDP) and of the document (TCP) where none is given.
pub const PORT: u16 = 14338;

/// Nodes in a cluster: 16 are supported, 64 run in simulation.
pub const MAX_NODES: usize = 64;
/// Links in a cluster.
pub const MAX_LINKS: usize = 8;
/// Number of the first witness; nodes are numbered below it.
pub const FIRST_WITNESS: u8 = 200;

/// Words for what two nodes without a witness do.
pub(crate) const WITHOUT_WITNESS: [(&str, WithoutWitness); 2] = [
    ("wait", WithoutWitness::Wait),
    ("fence", WithoutWitness::Fence),
];

const DISK_HELP: &str =
    "say where every node finds it: disk = \"/dev/disk/by-id/…\", or a file on NFS";
const NUMBER_HELP: &str = "`hotpair quorum init DEVICE` labels a disk and says its number, 16 hexadecimal digits; `hotpair quorum add DEVICE` writes this section";

/// Names of profiles and their numbers.
pub(crate) fn profiles() -> [(&'static str, Timing); 4] {
    [
        ("standard", Timing::standard()),
        ("fast", Timing::fast()),
        ("wan", Timing::wan()),
        ("classic", Timing::classic()),
    ]
}

/// Reads the whole text as far as it can be read. What is missing is replaced by something
/// harmless; each such place has an error among the findings.
pub(crate) fn cluster(root: &Section<'_>, base: Option<&Cluster>) -> Cluster {
    let nodes = nodes(root, base);
    let names = Names::new(&nodes);
    let (name, profile, without_witness, fence_delay) = head(root);
    let mut cluster = Cluster {
        name,
        id: base.map_or(ClusterId(0), |base| base.id),
        timing: timing(root, profile),
        witness: third_vote(root, base),
        without_witness,
        links: links(root, &names),
        fencing: fence::fencing(root, &names, fence_delay),
        groups: group::groups(root, &names),
        flapping: flapping(root),
        nodes,
    };
    volume::settle(root, &mut cluster, base);
    root.finish();
    cluster
}

fn head(root: &Section<'_>) -> (String, Timing, WithoutWitness, Duration) {
    let default = (
        String::new(),
        Timing::standard(),
        WithoutWitness::Wait,
        Fencing::DELAY,
    );
    let Some(section) = root.section("cluster") else {
        if !root.has("cluster") {
            let help = "begin with `[cluster]` and `name = \"…\"`";
            root.findings
                .error(None, "section [cluster] is missing".to_owned(), help);
        }
        return default;
    };
    let name = name_of(&section, "cluster").map_or(default.0, |(name, _)| name);
    let profile = section.choice("profile", &profiles()).unwrap_or(default.1);
    let policy = section
        .choice("without_witness", &WITHOUT_WITNESS)
        .unwrap_or_default();
    let delay = section.seconds("fence_delay_s", 0..=600_000);
    section.finish();
    (name, profile, policy, delay.unwrap_or(default.3))
}

/// The `name` of a section, by the rule for names.
fn name_of(section: &Section<'_>, what: &str) -> Option<(String, Range<usize>)> {
    if !section.has("name") {
        section.missing("name", &format!("give the {what} a name: name = \"…\""));
    }
    let (name, span) = section.string("name")?;
    check_name(section, what, &name, span.clone());
    Some((name, span))
}

pub(crate) fn check_name(section: &Section<'_>, what: &str, name: &str, span: Range<usize>) {
    if !is_name(name) {
        let message = format!("`{}` cannot be the name of a {what}", shown(name));
        section.error(span, message, NAME_RULE);
    }
}

fn timing(root: &Section<'_>, mut timing: Timing) -> Timing {
    let Some(section) = root.section("timing") else {
        return timing;
    };
    let hour = 3_600_000;
    if let Some(heartbeat) = section.millis("heartbeat_ms", 5..=60_000) {
        timing.heartbeat = heartbeat;
    }
    if let Some(times) = section.number("warn_after", 1..=1_000) {
        timing.warn_after = times;
    }
    if let Some(times) = section.number("down_after", 1..=1_000) {
        timing.down_after = times;
    }
    if let Some(lease) = section.millis("lease_ms", 15..=600_000) {
        timing.lease = lease;
    }
    if let Some(delay) = section.millis("first_start_delay_ms", 0..=hour) {
        timing.first_start_delay = delay;
    }
    if let Some(margin) = section.millis("ungated_margin_ms", 0..=hour) {
        timing.ungated_margin = margin;
    }
    section.finish();
    timing
}

fn flapping(root: &Section<'_>) -> Flapping {
    let mut flapping = Flapping::default();
    let Some(section) = root.section("flapping") else {
        return flapping;
    };
    if let Some(times) = section.number("times", 1..=1_000) {
        flapping.times = times;
    }
    if let Some(window) = section.seconds("window_s", 1_000..=7 * 86_400_000) {
        flapping.window = window;
    }
    section.finish();
    flapping
}

fn nodes(root: &Section<'_>, base: Option<&Cluster>) -> BTreeMap<MemberId, Node> {
    let sections = root.sections("node");
    if sections.is_empty() && !root.has("node") {
        let help = "add one `[[node]]` with `name = \"…\"` for each machine";
        root.findings
            .error(None, "no node is described".to_owned(), help);
    }
    if let Some(first_too_many) = sections.get(MAX_NODES) {
        let message = format!("{} nodes are too many", sections.len());
        let help = format!("a cluster has 1 to {MAX_NODES} nodes");
        root.error(first_too_many.span.clone(), message, &help);
    }
    let mut read: Vec<Node> = Vec::new();
    for section in sections.iter().take(MAX_NODES) {
        let node = name_of(section, "node");
        let description = section.string("description");
        section.finish();
        let Some((name, span)) = node else { continue };
        if read.iter().any(|node| node.name == name) {
            let message = format!("there are two nodes named `{}`", shown(&name));
            section.error(span, message, "give each node a name of its own");
            continue;
        }
        let description = description.map_or_else(String::new, |(text, _)| text);
        read.push(Node { name, description });
    }
    numbered(root, read, base)
}

/// Numbers the nodes: known names keep their number, others get numbers above all in `base`.
fn numbered(
    root: &Section<'_>,
    nodes: Vec<Node>,
    base: Option<&Cluster>,
) -> BTreeMap<MemberId, Node> {
    let last = base.and_then(|base| base.nodes.keys().next_back());
    let mut next = last.map_or(1, |last| last.0.saturating_add(1));
    let mut numbered = BTreeMap::new();
    for node in nodes {
        let known = base.and_then(|base| base.node_named(&node.name));
        let number = known.unwrap_or_else(|| {
            let number = MemberId(next);
            next = next.saturating_add(1);
            number
        });
        if number.0 >= FIRST_WITNESS && known.is_none() {
            let message = format!("no number is left for node `{}`", shown(&node.name));
            let help = "numbers of removed nodes are never used again; set up a new cluster";
            root.findings.error(root.places.of("node"), message, help);
            continue;
        }
        numbered.insert(number, node);
    }
    numbered
}

/// Numbers of the nodes by name.
pub(crate) struct Names(BTreeMap<String, MemberId>);

impl Names {
    fn new(nodes: &BTreeMap<MemberId, Node>) -> Self {
        Self(
            nodes
                .iter()
                .map(|(&id, node)| (node.name.clone(), id))
                .collect(),
        )
    }

    /// The node named so, or an error at `span`.
    pub(crate) fn find(
        &self,
        section: &Section<'_>,
        name: &str,
        span: Range<usize>,
    ) -> Option<MemberId> {
        let found = self.0.get(name).copied();
        if found.is_none() {
            let known = self.0.keys().map(String::as_str);
            let help = section.meant(name, known, "describe it with [[node]], or remove it here");
            section.error(span, format!("there is no node `{}`", shown(name)), &help);
        }
        found
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, MemberId)> {
        self.0.iter().map(|(name, &id)| (name.as_str(), id))
    }
}

fn links(root: &Section<'_>, names: &Names) -> Vec<Link> {
    let sections = root.sections("link");
    if sections.is_empty() && !root.has("link") {
        let help = "add a `[[link]]` with the address of each node; two links are better";
        root.findings
            .error(None, "no heartbeat link is described".to_owned(), help);
    }
    if let Some(first_too_many) = sections.get(MAX_LINKS) {
        let message = format!("{} links are too many", sections.len());
        let help = format!("a cluster has 1 to {MAX_LINKS} links");
        root.error(first_too_many.span.clone(), message, &help);
    }
    let mut links: Vec<Link> = Vec::new();
    for section in sections.iter().take(MAX_LINKS) {
        let name = name_of(section, "link");
        let addresses = link_addresses(section, names);
        section.finish();
        let twice = |(name, _): &&(String, _)| links.iter().any(|link| link.name == *name);
        if let Some((name, span)) = name.as_ref().filter(twice) {
            let message = format!("there are two links named `{}`", shown(name));
            section.error(span.clone(), message, "give each link a name of its own");
        }
        // One without a name is kept too: places in the text go by position.
        let name = name.map_or_else(String::new, |(name, _)| name);
        links.push(Link { name, addresses });
    }
    links
}

fn link_addresses(section: &Section<'_>, names: &Names) -> BTreeMap<MemberId, SocketAddr> {
    let mut addresses = BTreeMap::new();
    if !section.has("addresses") {
        let help = "give the address of each node: addresses = { node1 = \"10.0.0.1\", … }";
        section.missing("addresses", help);
    }
    let Some(table) = section.section("addresses") else {
        return addresses;
    };
    let mut written = Vec::new();
    for (key, value) in table.entries() {
        written.push(key.get_ref().to_string());
        let node = names.find(section, key.get_ref(), key.span());
        let Some(text) = value.get_ref().as_str() else {
            section.wrong_type(key.get_ref(), value, "an address, as a string");
            continue;
        };
        if let (Some(node), Some(address)) = (node, socket(section, text, value.span())) {
            section.places.put(table.join(key.get_ref()), value.span());
            addresses.insert(node, address);
        }
    }
    for (name, _) in names
        .iter()
        .filter(|(name, _)| !written.iter().any(|w| w == name))
    {
        let message = format!("this link has no address for node `{name}`");
        let help = format!("add `{name} = \"…\"`: every node is on every link");
        section.error(table.span.clone(), message, &help);
    }
    addresses
}

/// `IP`, `IP:PORT` or `[IP]:PORT`.
fn socket(section: &Section<'_>, text: &str, span: Range<usize>) -> Option<SocketAddr> {
    let address = match text.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, PORT)),
        Err(_) => text.parse::<SocketAddr>().ok(),
    };
    let Some(address) = address else {
        let message = format!("`{}` is not an address", shown(text));
        let help = "write 10.0.0.1, 10.0.0.1:14338, fd00::1 or [fd00::1]:14338; host names are not looked up";
        section.error(span, message, help);
        return None;
    };
    let ip = address.ip();
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || link_local {
        let message = format!("`{}` cannot be the address of one machine", shown(text));
        section.error(
            span,
            message,
            "give a unicast address that is not link-local, and a port above 0",
        );
        return None;
    }
    Some(address)
}

/// A witness host or a quorum disk.
fn third_vote(root: &Section<'_>, base: Option<&Cluster>) -> Option<Witness> {
    let host = witness(root, base);
    let disk = quorum(root, base);
    if root.has("witness")
        && let Some(section) = root.section("quorum")
    {
        let message = "[witness] and [quorum] are both given".to_owned();
        let help = "there is one third vote: keep the witness host or the quorum disk";
        section.error(section.span.clone(), message, help);
    }
    host.or(disk)
}

fn quorum(root: &Section<'_>, base: Option<&Cluster>) -> Option<Witness> {
    let section = root.section("quorum")?;
    let name = name_of(&section, "quorum disk").map(|(name, _)| name);
    if !section.has("disk") {
        section.missing("disk", DISK_HELP);
    }
    let disk = section.string("disk").filter(|(path, span)| {
        let good = path.starts_with('/') && path.len() <= 1024 && !path.contains('\0');
        if !good {
            let message = format!("`{}` is not the path of a disk", shown(path));
            section.error(span.clone(), message, DISK_HELP);
        }
        good
    });
    if !section.has("number") {
        section.missing("number", NUMBER_HELP);
    }
    let number = section.string("number").and_then(|(text, span)| {
        let number = u64::from_str_radix(&text, 16).ok();
        let number = number.filter(|&number| number > 0 && text.len() == 16);
        if number.is_none() {
            let message = format!("`{}` is not the number of a quorum disk", shown(&text));
            section.error(span, message, NUMBER_HELP);
        }
        number
    });
    section.finish();
    let (name, (path, _), number) = (name?, disk?, number?);
    let id = match base.and_then(|base| base.witness.as_ref()) {
        Some(before)
            if before
                .disk
                .as_ref()
                .is_some_and(|disk| disk.number == number) =>
        {
            before.id
        }
        // Another disk never gets the number of the one before.
        Some(before) => MemberId(before.id.0.checked_add(1).unwrap_or(FIRST_WITNESS)),
        None => MemberId(FIRST_WITNESS),
    };
    Some(Witness {
        id,
        name,
        addresses: Vec::new(),
        disk: Some(QuorumDisk { path, number }),
    })
}

fn witness(root: &Section<'_>, base: Option<&Cluster>) -> Option<Witness> {
    let section = root.section("witness")?;
    let name = name_of(&section, "witness").map(|(name, _)| name);
    if !section.has("addresses") {
        section.missing(
            "addresses",
            "say where its daemon listens: addresses = [\"10.0.0.9\"]",
        );
    }
    let written = section.strings("addresses").unwrap_or_default();
    if written.is_empty() && section.has("addresses") {
        let message = "the witness has no address".to_owned();
        section.error(section.place("addresses"), message, "give at least one");
    }
    if let Some((_, span)) = written.get(MAX_LINKS) {
        let message = format!("{} addresses of the witness are too many", written.len());
        section.error(span.clone(), message, &format!("give 1 to {MAX_LINKS}"));
    }
    let mut addresses = Vec::new();
    for (text, span) in written.into_iter().take(MAX_LINKS) {
        let Some(address) = socket(&section, &text, span.clone()) else {
            continue;
        };
        if addresses.contains(&address) {
            section.error(span, format!("{address} stands here twice"), "remove one");
        } else {
            addresses.push(address);
        }
    }
    section.finish();
    let name = name?;
    let id = match base.and_then(|base| base.witness.as_ref()) {
        Some(before) if before.name == name && before.disk.is_none() => before.id,
        // Another machine never gets the number of the one before.
        Some(before) => MemberId(before.id.0.checked_add(1).unwrap_or(FIRST_WITNESS)),
        None => MemberId(FIRST_WITNESS),
    };
    Some(Witness {
        id,
        name,
        addresses,
        disk: None,
    })
}
