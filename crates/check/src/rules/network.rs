//! Links, addresses, interfaces, witness.

use super::{CLUSTER, Given, Out};
use hotpair_api::facts::{Host, Nic, NicAddress};
use hotpair_core::config::{Address, Cluster, ResourceKind};
use hotpair_core::ids::MemberId;
use std::collections::BTreeSet;
use std::net::IpAddr;

pub(super) fn judge(given: &Given<'_>, out: &mut Out) {
    for (name, host) in given.heard() {
        same_subnet(name, host, out);
    }
    let Some(cluster) = given.cluster else { return };
    links(given, cluster, out);
    for (member, node) in &cluster.nodes {
        if let Some(host) = given.host(&node.name) {
            own_addresses(cluster, *member, (&node.name, host), out);
            for (group, address) in virtual_addresses(cluster, *member) {
                virtual_address(*member, (&node.name, host), (&group, address), out);
            }
        }
    }
    risks(given, cluster, out);
    witness(given, cluster, out);
}

fn nics(host: &Host) -> impl Iterator<Item = &Nic> {
    host.nics.iter().filter(|nic| !nic.loopback)
}

/// The interface that has an address.
fn holder(host: &Host, wanted: IpAddr) -> Option<(&Nic, &NicAddress)> {
    nics(host).find_map(|nic| {
        let found = nic.addresses.iter().find(|one| one.address == wanted)?;
        Some((nic, found))
    })
}

/// The first bits of an address, as a number.
pub(super) fn network(address: IpAddr, prefix: u8) -> (bool, u128) {
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let drop = u32::from(width - prefix.min(width));
    (width == 32, bits.checked_shr(drop).unwrap_or(0))
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn same_subnet(name: &str, host: &Host, out: &mut Out) {
    let mut seen = std::collections::BTreeMap::<_, BTreeSet<&str>>::new();
    for nic in nics(host) {
        for one in nic
            .addresses
            .iter()
            .filter(|one| one.permanent && !link_local(one.address))
        {
            let subnet = (one.prefix, network(one.address, one.prefix));
            seen.entry(subnet).or_default().insert(&nic.name);
        }
    }
    for names in seen.into_values().filter(|names| names.len() > 1) {
        let names: Vec<_> = names.into_iter().collect();
        out.warning(
            "nics-in-one-subnet",
            name,
            format!(
                "{} have addresses of the same subnet: the kernel sends by one of them only",
                names.join(" and ")
            ),
            "give each its own subnet, or make them one bond",
        );
    }
}

fn links(given: &Given<'_>, cluster: &Cluster, out: &mut Out) {
    for seen in given.links.iter().filter(|seen| !seen.up) {
        out.error(
            "link-down",
            &seen.node,
            format!("link `{}` does not reach it", seen.link),
            "look at the cable, the switch and the packet filters of both ends; `hotpair status` shows the loss",
        );
    }
    for link in &cluster.links {
        let mut subnets = BTreeSet::new();
        for (member, address) in &link.addresses {
            let host = cluster
                .nodes
                .get(member)
                .and_then(|node| given.host(&node.name));
            let found = host.and_then(|host| holder(host, address.ip()));
            subnets.extend(found.map(|(_, one)| (one.prefix, network(one.address, one.prefix))));
        }
        if subnets.len() > 1 {
            out.advice(
                "link-routed",
                CLUSTER,
                format!("the addresses of link `{}` are in different subnets: a router is between the nodes", link.name),
                "nothing, if it is meant so; a router that fails takes the link with it",
            );
        }
    }
}

fn own_addresses(cluster: &Cluster, member: MemberId, (name, host): (&str, &Host), out: &mut Out) {
    let mut used = Vec::new();
    for link in &cluster.links {
        let Some(address) = link.addresses.get(&member) else {
            continue;
        };
        match holder(host, address.ip()) {
            None if address.ip().is_loopback() => {}
            None => out.error(
                "link-address-missing",
                name,
                format!("no interface has {}, its address on link `{}`", address.ip(), link.name),
                format!("give it to the interface of that network, or correct `links.{}` (`hotpair link`)", link.name),
            ),
            Some((nic, one)) => {
                used.push((link.name.as_str(), nic.name.as_str(), (one.prefix, network(one.address, one.prefix))));
                if !one.permanent {
                    out.warning(
                        "address-not-static",
                        name,
                        format!("{} on {}, of link `{}`, comes from DHCP and may change", one.address, nic.name, link.name),
                        "configure it as a static address",
                    );
                }
                if !(nic.up && nic.carrier) {
                    out.error(
                        "link-no-carrier",
                        name,
                        format!("{}, the interface of link `{}`, has no signal", nic.name, link.name),
                        format!("plug the cable in, or `ip link set {} up`", nic.name),
                    );
                }
            }
        }
    }
    for (at, (link, nic, subnet)) in used.iter().enumerate() {
        for (other, other_nic, other_subnet) in &used[..at] {
            if subnet == other_subnet {
                out.warning(
                    "links-in-one-subnet",
                    name,
                    format!(
                        "links `{other}` and `{link}` are in the same subnet: they fail together"
                    ),
                    "use networks of their own, on switches of their own",
                );
            } else if nic == other_nic {
                out.warning(
                    "links-on-one-nic",
                    name,
                    format!("links `{other}` and `{link}` both use {nic}: they fail together"),
                    "use another interface for one of them",
                );
            }
        }
    }
}

/// Addresses that the node may get, with the group and resource.
fn virtual_addresses(cluster: &Cluster, member: MemberId) -> Vec<(String, &Address)> {
    let groups = cluster.groups.iter();
    groups
        .filter(|(_, group)| group.nodes.contains(&member))
        .flat_map(|(id, group)| {
            group
                .resources
                .iter()
                .filter_map(move |(name, resource)| match &resource.kind {
                    ResourceKind::Address(address) => Some((format!("{id}/{name}"), address)),
                    _ => None,
                })
        })
        .collect()
}

fn virtual_address(
    member: MemberId,
    (name, host): (&str, &Host),
    (resource, address): (&str, &Address),
    out: &mut Out,
) {
    let virtual_ip = address.address;
    for nic in address.nics_on.get(&member).unwrap_or(&address.nics) {
        let Some(found) = nics(host).find(|known| known.name == *nic) else {
            let known: Vec<_> = nics(host).map(|known| known.name.as_str()).collect();
            out.error(
                "nic-missing",
                name,
                format!("{resource}: there is no interface `{nic}`"),
                format!("name one of {} in `nics` or `nics_on`", known.join(", ")),
            );
            continue;
        };
        if !(found.up && found.carrier) {
            out.warning(
                "nic-no-carrier",
                name,
                format!(
                    "{resource}: {nic} has no signal, the address could not be reached through it"
                ),
                format!("plug the cable in, or `ip link set {nic} up`"),
            );
        }
        let own = found
            .addresses
            .iter()
            .filter(|one| one.address != virtual_ip);
        let inside = own
            .filter(|one| one.permanent)
            .any(|one| network(one.address, one.prefix) == network(virtual_ip, one.prefix));
        if !inside {
            out.warning(
                "address-outside-subnet",
                name,
                format!("{resource}: {virtual_ip} is in no subnet that {nic} has an address of"),
                "correct the address or the interface; clients in that subnet could not reach it",
            );
        }
    }
    if let Some((nic, one)) = holder(host, virtual_ip)
        && one.permanent
    {
        out.error(
            "address-set-by-hand",
            name,
            format!("{resource}: {virtual_ip} is on {} for good, not by hotpair: two nodes would have it", nic.name),
            format!(
                "take it out of the system's network configuration and `ip address del {virtual_ip}/{} dev {}`",
                one.prefix, nic.name
            ),
        );
    }
}

fn risks(given: &Given<'_>, cluster: &Cluster, out: &mut Out) {
    if cluster.nodes.len() < 2 {
        return;
    }
    if cluster.links.len() == 1 {
        out.warning(
            "one-link",
            CLUSTER,
            "there is one link only: one cable or switch takes the nodes apart".to_owned(),
            "add a second one, best a cable from node to node: `hotpair link add`",
        );
    }
    // A link is private when its interface carries no default route on any node.
    let mut private = false;
    let mut all_heard = true;
    for link in &cluster.links {
        let on_default_route = link.addresses.iter().any(|(member, address)| {
            let host = cluster
                .nodes
                .get(member)
                .and_then(|node| given.host(&node.name));
            let Some(host) = host else {
                all_heard = false;
                return false;
            };
            holder(host, address.ip())
                .is_some_and(|(nic, _)| host.default_routes.contains(&nic.name))
        });
        private |= !on_default_route;
    }
    if !private && all_heard {
        out.warning(
            "no-private-link",
            CLUSTER,
            "every link shares its interface with the way to the gateway: a flood from outside hits the heartbeats too".to_owned(),
            "add a link over a network of its own, best a cable from node to node",
        );
    }
}

fn witness(given: &Given<'_>, cluster: &Cluster, out: &mut Out) {
    let even = cluster.nodes.len().is_multiple_of(2);
    let Some(witness) = &cluster.witness else {
        if even {
            out.warning(
                "no-witness",
                CLUSTER,
                format!("{} nodes and no witness: a node that loses the others cannot take over by itself", cluster.nodes.len()),
                "install a witness on a third machine: `hotpair token --witness`, then `hotpair witness join TOKEN` there; or use a disk that both nodes share: `hotpair quorum init DEVICE`, `hotpair quorum add DEVICE`",
            );
        }
        return;
    };
    if given.witness_online == Some(false) {
        out.error(
            "witness-not-reached",
            CLUSTER,
            format!("witness `{}` does not answer: a node that fails now is not taken over", witness.name),
            match &witness.disk {
                None => "start it there: `systemctl start hotpair-witness`; look at the packet filters in between",
                Some(_) => "`hotpair status` on each node says what is wrong with its way to the disk",
            },
        );
    }
    for (member, node) in &cluster.nodes {
        let fixed = cluster
            .links
            .iter()
            .filter_map(|link| link.addresses.get(member));
        let fixed: BTreeSet<_> = fixed.map(|address| address.ip()).collect();
        let found = given.host(&node.name);
        let here = witness
            .addresses
            .iter()
            .map(|address| address.ip())
            .any(|address| {
                fixed.contains(&address) && !address.is_loopback()
                    || found.is_some_and(|host| holder(host, address).is_some())
            });
        if here {
            out.error(
                "witness-on-a-node",
                &node.name,
                "the witness is on this node: both fail together, and nobody takes over".to_owned(),
                "put it on a third machine",
            );
        }
    }
}
