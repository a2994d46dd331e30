//! Rules about fence devices: what relies on them has them.

use crate::finding::Findings;
use crate::section::Places;
use hotpair_core::config::{Cluster, OnStopFailure, WithoutWitness};
use hotpair_core::ids::MemberId;

pub(super) fn check(cluster: &Cluster, places: &Places, findings: &Findings) {
    let lacking = |nodes: &mut dyn Iterator<Item = MemberId>| -> Vec<String> {
        nodes
            .filter(|&node| !cluster.fencing.has(node))
            .map(|node| cluster.name_of(node))
            .collect()
    };
    if cluster.without_witness == WithoutWitness::Fence {
        let place = places.of("cluster/without_witness");
        let without = lacking(&mut cluster.nodes.keys().copied());
        if !without.is_empty() {
            let message = format!("no fence device for {}", without.join(", "));
            let help = "without_witness = \"fence\" needs one for each node: describe it under [fence.NAME]";
            findings.error(place.clone(), message, help);
        }
        if cluster.witness.is_some() || cluster.nodes.len() != 2 {
            let message =
                "without_witness = \"fence\" is for two nodes without a witness".to_owned();
            findings.advice(
                place,
                message,
                "it does no harm; to fence before every takeover set fence = true for the group",
            );
        }
    }
    for (id, group) in &cluster.groups {
        let without = lacking(&mut group.nodes.iter().copied());
        if without.is_empty() {
            continue;
        }
        for (relies, key) in [
            (group.fence, "fence"),
            (
                group.on_stop_failure == OnStopFailure::Fence,
                "on_stop_failure",
            ),
        ] {
            if relies {
                let message = format!(
                    "group `{id}` relies on fencing, but no fence device is described for {}",
                    without.join(", ")
                );
                let help = "describe one for each of its nodes under [fence.NAME]";
                findings.error(places.of(&format!("group/{id}/{key}")), message, help);
            }
        }
    }
}
