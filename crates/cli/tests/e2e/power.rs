//! Hosts without power.

use crate::cluster::{Cluster, PRACTICE, group, pass, runs_on};
use hotpair_lab::{Fault, Shape, Witness};

#[test]
fn other_node_answers_after_a_power_cut_and_the_old_one_comes_back_as_standby() {
    let Some(cluster) = Cluster::up("power") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::PowerCut);
    let status = cluster.runs("node2", PRACTICE, "node2");
    assert!(!group(&status, PRACTICE).reason.is_empty());
    cluster.fault("node1", Fault::Boot);
    cluster.settled("node2");
    let report = watch.safe();
    assert_eq!(report.node_changes, 1, "{report:#?}");
}

#[test]
fn power_cuts_of_standby_and_witness_are_not_noticed() {
    let Some(cluster) = Cluster::up("bystander") else {
        return;
    };
    let watch = cluster.watch();
    for host in ["node2", "witness"] {
        cluster.fault(host, Fault::PowerCut);
        pass(1500);
        cluster.fault(host, Fault::Boot);
        cluster.settled("node1");
    }
    watch.unnoticed();
}

#[test]
fn quick_reboot_of_the_active_node_ends_with_one_answer() {
    let Some(cluster) = Cluster::up("reboot") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::Reboot);
    cluster.until("node2", "the group running and node1 back", |s| {
        let view = group(s, PRACTICE);
        (runs_on(view, "node1") || runs_on(view, "node2")) && crate::cluster::all_well(s)
    });
    watch.safe();
}

#[test]
fn two_nodes_without_witness_wait_for_the_operators_word() {
    let Some(cluster) = Cluster::without_witness("word") else {
        return;
    };
    let guarantee = cluster.status("node1").expect("a status").cluster;
    assert!(!guarantee.guarantee_reason.is_empty());
    let watch = cluster.watch();
    cluster.fault("node1", Fault::PowerCut);
    pass(3000);
    let waits = cluster.status("node2").expect("a status");
    assert!(!runs_on(group(&waits, PRACTICE), "node2"), "{waits:#?}");
    cluster.refused("node2", &["node", "down", "node1"], 1);
    cluster.refused(
        "node2",
        &["node", "down", "node1", "--yes-i-mean", "node2"],
        1,
    );
    cluster.hotpair("node2", &["node", "down", "node1", "--yes-i-mean", "node1"]);
    cluster.runs("node2", PRACTICE, "node2");
    cluster.fault("node1", Fault::Boot);
    cluster.settled("node2");
    watch.safe();
}

#[test]
fn three_nodes_need_no_witness() {
    let shape = Shape {
        nodes: 3,
        witness: Witness::None,
        ..Shape::default()
    };
    let Some(cluster) = Cluster::shaped("three", shape) else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node3", PRACTICE, "node2");
    cluster.fault("node1", Fault::Boot);
    cluster.settled("node2");
    watch.safe();
}

#[test]
fn survivor_without_its_peer_serves_on_when_its_daemon_is_killed() {
    let Some(cluster) = Cluster::up("survivor") else {
        return;
    };
    cluster.fault("node2", Fault::PowerCut);
    pass(1500);
    let watch = cluster.watch();
    let app = cluster.app("node1");
    cluster.fault("node1", Fault::Kill(hotpair_lab::Target::Daemon));
    cluster.runs("node1", PRACTICE, "node1");
    pass(1500);
    assert_eq!(cluster.app("node1"), app);
    watch.unnoticed();
}

#[test]
fn node_that_fails_again_and_again_is_held_out_until_it_is_cleared() {
    let Some(cluster) = Cluster::up("flapping") else {
        return;
    };
    cluster.reconfigure("node1", |text| text + "\n[flapping]\ntimes = 2\n");
    cluster.settled("node1");
    let watch = cluster.watch();
    for _ in 0..2 {
        cluster.fault("node2", Fault::PowerCut);
        cluster.until("node1", "node2 down", |s| s.nodes[1].state == "down");
        cluster.fault("node2", Fault::Boot);
        cluster.until("node1", "node2 back", |s| s.nodes[1].state == "online");
    }
    let held_out = |s: &hotpair_api::StatusView| {
        let node2 = &group(s, PRACTICE).nodes[1];
        s.nodes[1].held_out && !node2.fit && node2.reason.contains("failed too often")
    };
    cluster.until("node1", "node2 held out", held_out);
    cluster.refused("node2", &["group", "switch", PRACTICE, "--to", "node2"], 1);
    cluster.hotpair("node1", &["node", "clear", "node2"]);
    cluster.settled("node1");
    watch.unnoticed();
}

#[test]
fn newest_document_wins_over_that_of_a_node_that_was_off() {
    let Some(cluster) = Cluster::up("newest") else {
        return;
    };
    let settled = cluster.settled("node1");
    cluster.fault("node2", Fault::PowerCut);
    cluster.until("node1", "node2 down", |s| s.nodes[1].state == "down");
    let added = crate::cluster::one_more("second", 51, &["node2", "node1"]);
    cluster.reconfigure("node1", |text| text + &added);
    cluster.runs("node1", "second", "node1");
    cluster.fault("node1", Fault::PowerCut);
    // The older one and a witness that holds the newer document.
    cluster.fault("node2", Fault::Boot);
    cluster.until("node2", "the newer document", |s| s.groups.len() == 2);
    cluster.runs("node2", "second", "node2");
    let status = cluster.runs("node2", PRACTICE, "node2");
    assert_eq!(status.cluster.revision, settled.cluster.revision + 1);
    cluster.fault("node1", Fault::Boot);
    cluster.settled("node2");
}
