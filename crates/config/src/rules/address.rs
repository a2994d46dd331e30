//! Rules about addresses: each belongs to one thing, and a virtual address to a known network.

use crate::finding::Findings;
use crate::section::{Places, network};
use hotpair_core::config::{Address, Cluster, ResourceKind};
use hotpair_core::ids::{GroupId, MemberId, ResourceId};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

pub(super) fn check(cluster: &Cluster, places: &Places, findings: &Findings) {
    let sockets = sockets(cluster);
    twice(&sockets, places, findings);
    loopback(&sockets, places, findings);
    witness_on_a_node(cluster, places, findings);
    virtual_twice(cluster, places, findings);
    for (group_id, group) in &cluster.groups {
        for (id, resource) in &group.resources {
            if let ResourceKind::Address(address) = &resource.kind {
                let path = format!("group/{group_id}/address/{id}/address");
                not_a_members(&sockets, address, &path, places, findings);
                in_a_subnet(cluster, group_id, id, address, places, findings);
            }
        }
    }
}

/// An address of a member: whose, and where it is written.
struct Socket {
    owner: String,
    address: SocketAddr,
    path: String,
}

fn sockets(cluster: &Cluster) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for (number, link) in cluster.links.iter().enumerate() {
        for (&node, &address) in &link.addresses {
            let name = cluster.name_of(node);
            sockets.push(Socket {
                path: format!("link/{number}/addresses/{name}"),
                owner: format!("node `{name}` on link `{}`", link.name),
                address,
            });
        }
    }
    if let Some(witness) = &cluster.witness {
        sockets.extend(witness.addresses.iter().map(|&address| Socket {
            owner: format!("witness `{}`", witness.name),
            address,
            path: "witness/addresses".to_owned(),
        }));
    }
    sockets
}

fn twice(sockets: &[Socket], places: &Places, findings: &Findings) {
    let mut seen: BTreeMap<SocketAddr, &Socket> = BTreeMap::new();
    for socket in sockets {
        if let Some(first) = seen.get(&socket.address) {
            let message = format!(
                "{} is the address of {} and of {}",
                socket.address, first.owner, socket.owner
            );
            let help = "give each its own address, or another port on the same machine";
            findings.error(places.of(&socket.path), message, help);
        } else {
            seen.insert(socket.address, socket);
        }
    }
}

fn loopback(sockets: &[Socket], places: &Places, findings: &Findings) {
    for socket in sockets.iter().filter(|s| s.address.ip().is_loopback()) {
        let message = format!(
            "{} of {} is a loopback address",
            socket.address, socket.owner
        );
        let help =
            "it reaches this machine only; right for trying things out, never for a real pair";
        findings.warning(places.of(&socket.path), message, help);
    }
}

fn witness_on_a_node(cluster: &Cluster, places: &Places, findings: &Findings) {
    let Some(witness) = &cluster.witness else {
        return;
    };
    for address in witness.addresses.iter().filter(|a| !a.ip().is_loopback()) {
        let mut ends = cluster.links.iter().flat_map(|link| &link.addresses);
        if let Some((&node, _)) = ends.find(|(_, end)| end.ip() == address.ip()) {
            let message = format!(
                "the witness is on the machine of node `{}` ({})",
                cluster.name_of(node),
                address.ip()
            );
            let help = "it fails together with that node; put it on a third machine";
            findings.warning(places.of("witness/addresses"), message, help);
        }
    }
}

/// The same virtual address in two places: two holders of one address.
fn virtual_twice(cluster: &Cluster, places: &Places, findings: &Findings) {
    let mut seen: BTreeMap<IpAddr, (&GroupId, &ResourceId)> = BTreeMap::new();
    for (group_id, group) in &cluster.groups {
        for (id, resource) in &group.resources {
            let ResourceKind::Address(address) = &resource.kind else {
                continue;
            };
            if let Some((first_group, first)) = seen.get(&address.address) {
                let message = format!(
                    "virtual address {} belongs to `{first}` of group `{first_group}` already",
                    address.address
                );
                let help = "a resource belongs to one group; give this one another address, or put what needs it into that group";
                let path = format!("group/{group_id}/address/{id}/address");
                findings.error(places.of(&path), message, help);
            } else {
                seen.insert(address.address, (group_id, id));
            }
        }
    }
}

fn not_a_members(
    sockets: &[Socket],
    address: &Address,
    path: &str,
    places: &Places,
    findings: &Findings,
) {
    if let Some(socket) = sockets.iter().find(|s| s.address.ip() == address.address) {
        let message = format!(
            "virtual address {} is the own address of {}",
            address.address, socket.owner
        );
        let help = "give a free address: a virtual address moves, a node's own stays";
        findings.error(places.of(path), message, help);
    }
}

/// A virtual address lies in the network of every node that may run its group, by the links; where
/// NICs are given node by node, the administrator has another network in mind.
fn in_a_subnet(
    cluster: &Cluster,
    group_id: &GroupId,
    id: &ResourceId,
    address: &Address,
    places: &Places,
    findings: &Findings,
) {
    let wanted = network(address.address, address.prefix);
    let mut ends = cluster
        .links
        .iter()
        .flat_map(|link| link.addresses.values());
    let known = ends.any(|end| {
        end.is_ipv4() == address.address.is_ipv4() && network(end.ip(), address.prefix) == wanted
    });
    let nodes: &[MemberId] = cluster
        .groups
        .get(group_id)
        .map_or(&[], |group| &group.nodes);
    if known || cluster.links.iter().all(|link| link.addresses.is_empty()) {
        return;
    }
    let message = format!(
        "virtual address {}/{} is outside every subnet of the links",
        address.address, address.prefix
    );
    let place = places.of(&format!("group/{group_id}/address/{id}/address"));
    if nodes.iter().all(|node| address.nics_on.contains_key(node)) {
        let help = "make sure that each NIC given for it is in that network";
        findings.warning(place, message, help);
    } else {
        let help = "check address and prefix; for a network without a link give the NICs of each node: nics = { node1 = [\"eth1\"], … }";
        findings.error(place, message, help);
    }
}
