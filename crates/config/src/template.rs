//! A commented configuration from what was found on the hosts.

use crate::read::{MAX_LINKS, MAX_NODES};
use crate::section::network;
use crate::show::{bare, string};
use crate::words::{is_name, shown};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

/// What was found on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    pub hostname: String,
    pub nics: Vec<NicFacts>,
    pub listening: Vec<Listening>,
}

/// A network interface card and its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NicFacts {
    pub name: String,
    /// Each with the prefix length of its network.
    pub addresses: Vec<(IpAddr, u8)>,
    pub carrier: bool,
}

/// A port somebody listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    pub program: String,
    pub udp: bool,
    /// `None`: on every address.
    pub address: Option<IpAddr>,
    pub port: u16,
}

/// A configuration for these hosts, this one first. The check accepts it as it is; everything that
/// must be decided is in comments.
#[must_use]
pub fn template(hosts: &[HostFacts]) -> String {
    let unknown = [HostFacts::default()];
    let hosts = if hosts.is_empty() { &unknown } else { hosts };
    let hosts = &hosts[..hosts.len().min(MAX_NODES)];
    let names = names(hosts);
    let links = links(hosts);
    let mut out = String::from(HEAD);
    for (name, host) in names.iter().zip(hosts) {
        line(&mut out, &format!("\n# host {}", shown(&host.hostname)));
        for nic in &host.nics {
            let carrier = if nic.carrier { "" } else { ", no carrier" };
            let addresses: Vec<_> = nic
                .addresses
                .iter()
                .map(|(ip, p)| format!("{ip}/{p}"))
                .collect();
            let addresses = addresses.join(" ");
            line(
                &mut out,
                &format!("#   NIC {}{carrier}: {addresses}", shown(&nic.name)),
            );
        }
        line(&mut out, &format!("[[node]]\nname = {}", string(name)));
    }
    if names.len() < 2 {
        out.push_str("\n# [[node]]\n# name = \"node2\"\n");
    }
    write_links(&mut out, &names, &links);
    out.push_str(WITNESS);
    write_group(&mut out, hosts, &names, &links);
    out
}

const HEAD: &str = "# Configuration of a hotpair cluster, made from what was found on its hosts.
# Check it with `hotpair config check FILE`; every key is in docs/configuration.md.

[cluster]
name = \"cluster\"
profile = \"standard\"     # fast (0.25 s), standard (1 s), wan (10 s), classic
without_witness = \"wait\" # with two nodes and no witness, groups wait for the operator
";

const WITNESS: &str = "
# The third vote, on a third machine: with it a node takes over by itself.
# [witness]
# name = \"witness\"
# addresses = [\"192.0.2.9\"]
";

const MIRROR: &str = "#
# The same data on both nodes: a mirror, and a filesystem on it. `device` is a partition, disk, logical
# volume or image file; a table gives each node its own: { node1 = \"/dev/…\", … }.
# [group.web.mirror.data]
# size = \"10GiB\"
# device = \"/var/lib/hotpair-data.img\"
#
# [group.web.mount.files]
# mirror = \"data\"
# path = \"/srv/data\"
# make = true";

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

/// Node names from host names: without domain, lower case, each only once.
fn names(hosts: &[HostFacts]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        let short = host.hostname.split('.').next().unwrap_or_default();
        let plain = |c: char| match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => c,
            _ => '-',
        };
        let mut name: String = short.chars().map(plain).take(63).collect();
        if !is_name(&name) || names.contains(&name) {
            name = format!("node{}", number + 1);
        }
        names.push(name);
    }
    names
}

/// A network that every host has an address in.
struct Network {
    prefix: u8,
    nic: String,
    /// In the order of the hosts.
    addresses: Vec<IpAddr>,
}

fn links(hosts: &[HostFacts]) -> Vec<Network> {
    let mut found: BTreeMap<(IpAddr, u8), Vec<(&str, IpAddr)>> = BTreeMap::new();
    for (number, host) in hosts.iter().enumerate() {
        for nic in &host.nics {
            for &(ip, prefix) in nic.addresses.iter().filter(|(ip, _)| usable(*ip)) {
                let ends = found.entry((network(ip, prefix), prefix)).or_default();
                // One address for each host, and only while all before it have one.
                if ends.len() == number {
                    ends.push((&nic.name, ip));
                }
            }
        }
    }
    let mut used = BTreeSet::new();
    let mut links = Vec::new();
    for ((_, prefix), ends) in found {
        let addresses: Vec<_> = ends.iter().map(|(_, ip)| *ip).collect();
        let new = addresses.iter().all(|ip| used.insert(*ip));
        if ends.len() == hosts.len() && new && links.len() < MAX_LINKS {
            let nic = ends
                .first()
                .map_or_else(String::new, |(nic, _)| (*nic).to_owned());
            links.push(Network {
                prefix,
                nic,
                addresses,
            });
        }
    }
    links
}

fn usable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

fn write_links(out: &mut String, names: &[String], links: &[Network]) {
    for (number, link) in links.iter().enumerate() {
        let ends = names.iter().zip(&link.addresses);
        let ends: Vec<_> = ends
            .map(|(n, ip)| format!("{} = \"{ip}\"", bare(n)))
            .collect();
        let title = format!(
            "\n# {} (network of {}/{})",
            shown(&link.nic),
            link.addresses[0],
            link.prefix
        );
        line(out, &title);
        line(out, &format!("[[link]]\nname = \"link{}\"", number + 1));
        if names.len() < 2 {
            line(out, "# add the other node: node2 = \"…\"");
        }
        line(out, &format!("addresses = {{ {} }}", ends.join(", ")));
    }
    if links.is_empty() {
        line(
            out,
            "\n# No network was found that all hosts are in: replace these addresses.",
        );
        let ends = names.iter().enumerate();
        let ends: Vec<_> = ends
            .map(|(i, n)| format!("{} = \"192.0.2.{}\"", bare(n), 11 + i))
            .collect();
        line(
            out,
            &format!(
                "[[link]]\nname = \"link1\"\naddresses = {{ {} }}",
                ends.join(", ")
            ),
        );
    }
    if links.len() < 2 {
        line(
            out,
            "\n# A second link over another NIC and switch keeps one cable from looking like a dead node.",
        );
        line(out, "# [[link]]\n# name = \"direct\"\n# addresses = { … }");
    }
}

fn write_group(out: &mut String, hosts: &[HostFacts], names: &[String], links: &[Network]) {
    let nodes: Vec<_> = names.iter().map(|name| string(name)).collect();
    let nic = links.first().map_or("eth0", |link| link.nic.as_str());
    let prefix = links.first().map_or(24, |link| link.prefix);
    line(
        out,
        "\n# A group: an address for the clients and the program behind it.",
    );
    line(
        out,
        &format!("# [group.web]\n# nodes = [{}]\n#", nodes.join(", ")),
    );
    line(
        out,
        &format!(
            "# [group.web.address.ip]\n# address = \"…/{prefix}\"\n# nics = [{}]\n#",
            string(nic)
        ),
    );
    line(
        out,
        "# [group.web.service.site]\n# command = [\"/usr/bin/program\", \"argument\"]\n# requires = [\"ip\"]",
    );
    if names.len() == 2 {
        line(out, MIRROR);
    }
    let mut seen = BTreeSet::new();
    for found in hosts.iter().flat_map(|host| &host.listening) {
        let kind = if found.udp { "udp" } else { "tcp" };
        if !seen.insert((found.udp, found.port)) || seen.len() > 64 {
            continue;
        }
        if seen.len() == 1 {
            line(out, "#\n# Detectors for what listens on the hosts now:");
        }
        let program = string(&shown(&found.program));
        line(
            out,
            &format!(
                "# [[group.web.service.site.detector]]\n# {kind} = {}\n# program = {program}",
                found.port
            ),
        );
    }
}
