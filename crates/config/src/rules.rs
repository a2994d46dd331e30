//! Rules that concern more than one place of the text, or the cluster as a whole.

mod address;
mod fence;
mod mirror;
mod mount;
mod relation;
mod resource;

pub(crate) use resource::kind_name;

use crate::finding::Findings;
use crate::section::Places;
use hotpair_core::config::{Cluster, Timing, WithoutWitness};
use hotpair_core::document::{Document, MAX_BYTES};
use std::time::Duration;

/// Room in the document for placements and history beside the configuration, encoded.
const RESERVED_BYTES: usize = 16 * 1024;

pub(crate) fn check(cluster: &Cluster, places: &Places, findings: &Findings) {
    timing(&cluster.timing, places, findings);
    voters(cluster, places, findings);
    fence::check(cluster, places, findings);
    quorum_disk(cluster, places, findings);
    links(cluster, places, findings);
    address::check(cluster, places, findings);
    resource::check(cluster, places, findings);
    mirror::check(cluster, places, findings);
    mount::check(cluster, places, findings);
    relation::check(cluster, places, findings);
    size(cluster, findings);
    failover(cluster, findings);
}

/// The longest time from the fault of a node until its groups may start elsewhere.
///
/// The silent node's lease must have run out (2 % longer on the voters' clocks), counted from its
/// last heartbeat, and it must count as down; an election and the start check need about one
/// heartbeat and a few round trips more. The groups' own start is not in it, nor is
/// [`Timing::ungated_margin`].
#[must_use]
pub fn expected_failover(timing: &Timing) -> Duration {
    let lease = timing.lease.saturating_add(timing.lease / 50);
    timing.down().max(lease).saturating_add(timing.heartbeat)
}

fn timing(timing: &Timing, places: &Places, findings: &Findings) {
    let Timing {
        heartbeat, lease, ..
    } = *timing;
    if lease < heartbeat * 3 {
        let message =
            format!("a lease of {lease:?} is shorter than three heartbeats of {heartbeat:?}");
        let help = format!(
            "set lease_ms to at least {}: one lost heartbeat must not stop services",
            (heartbeat * 3).as_millis()
        );
        findings.error(places.of("timing/lease_ms"), message, &help);
    }
    if timing.down() >= lease {
        let message = format!(
            "a peer is taken to be down after {:?}, not before its lease of {lease:?} ends",
            timing.down()
        );
        let help = "the takeover then waits for longer than the lease; lower down_after";
        findings.advice(places.of("timing/down_after"), message, help);
    }
    if timing.warn_after > timing.down_after {
        let message = format!(
            "the warning after {} lost heartbeats comes after the peer is down ({})",
            timing.warn_after, timing.down_after
        );
        findings.warning(places.of("timing/warn_after"), message, "lower warn_after");
    }
}

fn voters(cluster: &Cluster, places: &Places, findings: &Findings) {
    let nodes = cluster.nodes.len();
    match &cluster.witness {
        None if nodes == 2 && cluster.without_witness == WithoutWitness::Fence => {}
        None if nodes > 0 && nodes.min(5).is_multiple_of(2) => {
            let message = format!("{nodes} nodes and no witness");
            let help = if nodes == 2 {
                "when a node fails its groups wait for the operator (without_witness = \"wait\"); a [witness] on a third machine, a [quorum] disk that both nodes see, or fence devices and without_witness = \"fence\", let the other node take over by itself"
            } else {
                "when half of the nodes fail, groups wait for the operator; add a [witness] on another machine"
            };
            findings.warning(places.of("cluster/without_witness"), message, help);
        }
        Some(_) if nodes.min(5) % 2 == 1 => {
            let message = format!("the witness has no vote with {nodes} nodes");
            let help = "a witness votes when the number of voting nodes is even; it does no harm";
            let place = places.of("witness").or_else(|| places.of("quorum"));
            findings.advice(place, message, help);
        }
        _ => {}
    }
}

/// Shortest lease that outlives the pause of a multipath device that loses a path, in most arrays.
const DISK_LEASE: Duration = Duration::from_secs(10);
/// Names that the kernel gives in the order in which it finds disks.
const UNSTABLE: [&str; 6] = ["sd", "vd", "xvd", "nvme", "dm-", "hd"];

fn quorum_disk(cluster: &Cluster, places: &Places, findings: &Findings) {
    let Some((_, disk)) = cluster.quorum_disk() else {
        return;
    };
    let name = disk.path.strip_prefix("/dev/");
    if name.is_some_and(|name| UNSTABLE.iter().any(|start| name.starts_with(start))) {
        let message = format!("`{}` may be another disk after a restart", disk.path);
        let help = "use a name that stays with the disk: one of /dev/disk/by-id or /dev/mapper";
        findings.warning(places.of("quorum/disk"), message, help);
    }
    if cluster.timing.lease < DISK_LEASE {
        let message = format!(
            "the lease of {} ms is short for a quorum disk",
            cluster.timing.lease.as_millis()
        );
        let help = "a disk that stalls for longer (multipath: some seconds, often 30) stops the services of a node that does not hear the other one; with lease_ms = 10000 or more it is survived, but a takeover takes as long";
        let place = places
            .of("timing/lease_ms")
            .or_else(|| places.of("quorum/disk"));
        findings.warning(place, message, help);
    }
}

fn links(cluster: &Cluster, places: &Places, findings: &Findings) {
    if let [link] = cluster.links.as_slice()
        && cluster.nodes.len() > 1
    {
        let message = format!("`{}` is the only heartbeat link", link.name);
        let help = "a fault of this one network looks like the fault of a node; add a second [[link]] over another NIC and switch";
        findings.warning(places.of("link/0"), message, help);
    }
    for (number, link) in cluster.links.iter().enumerate() {
        let v4 = link.addresses.values().filter(|a| a.is_ipv4()).count();
        if v4 > 0 && v4 < link.addresses.len() {
            let message = format!("link `{}` mixes IPv4 and IPv6 addresses", link.name);
            let help = "give every node an address of the same family on one link";
            findings.error(
                places.of(&format!("link/{number}/addresses")),
                message,
                help,
            );
        }
    }
}

fn size(cluster: &Cluster, findings: &Findings) {
    let bytes =
        postcard::to_allocvec(&Document::first(cluster.clone())).map_or(usize::MAX, |b| b.len());
    let most = MAX_BYTES - RESERVED_BYTES;
    if bytes > most {
        let message = format!("the configuration is too large: {bytes} bytes encoded");
        let help = format!(
            "at most {most} bytes fit into the cluster document; move long scripts and texts into files"
        );
        findings.error(None, message, &help);
    }
}

fn failover(cluster: &Cluster, findings: &Findings) {
    if cluster.nodes.len() < 2 || findings.refused() {
        return;
    }
    let timing = &cluster.timing;
    let seconds = expected_failover(timing).as_secs_f64();
    let mut help = "the start of the group itself comes on top".to_owned();
    let ungated: Vec<_> = cluster.groups.iter().filter(|(_, g)| g.ungated).collect();
    if let Some((name, _)) = ungated.first() {
        help += &format!(
            "; ungated groups such as `{name}` wait {:?} longer",
            timing.ungated_margin
        );
    }
    let message =
        format!("after the fault of a node its groups may start elsewhere within {seconds:.2} s");
    findings.advice(None, message, &help);
}
