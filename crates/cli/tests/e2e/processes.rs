//! Killed and frozen processes, and whole hosts that stand still.

use crate::cluster::{Cluster, PRACTICE, all_well, group, pass, runs_on};
use hotpair_lab::{Fault, Target};

#[test]
fn frozen_host_is_replaced_and_steps_back_when_it_goes_on() {
    let Some(cluster) = Cluster::up("pause") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::Pause);
    cluster.runs("node2", PRACTICE, "node2");
    pass(500);
    cluster.fault("node1", Fault::Resume);
    cluster.settled("node2");
    let report = watch.safe();
    assert_eq!(report.node_changes, 1, "{report:#?}");
    assert_eq!(cluster.app("node1"), "");
}

#[test]
fn killed_application_is_started_again_on_its_node() {
    let Some(cluster) = Cluster::up("kill-app") else {
        return;
    };
    let watch = cluster.watch();
    let before = cluster.app("node1");
    cluster.fault("node1", Fault::Kill(Target::App));
    cluster.wait_for("a new process", || {
        let now = cluster.app("node1");
        !now.is_empty() && now != before
    });
    let status = cluster.runs("node1", PRACTICE, "node1");
    let restarts: u32 = group(&status, PRACTICE)
        .resources
        .iter()
        .map(|r| r.restarts)
        .sum();
    assert_eq!(restarts, 1, "{status:#?}");
    let report = watch.safe();
    assert_eq!(report.node_changes, 0);
}

#[test]
fn application_that_dies_again_and_again_is_moved() {
    let Some(cluster) = Cluster::up("die") else {
        return;
    };
    let watch = cluster.watch();
    for _ in 0..4 {
        cluster.wait_for("an application or the other node's", || {
            !cluster.app("node1").is_empty() || !cluster.app("node2").is_empty()
        });
        if cluster.app("node1").is_empty() {
            break;
        }
        let _ = cluster.0.fault("node1", Fault::Kill(Target::App));
        pass(400);
    }
    cluster.runs("node2", PRACTICE, "node2");
    watch.safe();
}

#[test]
fn frozen_application_is_found_and_started_again() {
    let Some(cluster) = Cluster::up("freeze-app") else {
        return;
    };
    let watch = cluster.watch();
    let before = cluster.app("node1");
    cluster.fault("node1", Fault::Freeze(Target::App));
    cluster.wait_for("a new process", || {
        let now = [cluster.app("node1"), cluster.app("node2")].concat();
        !now.is_empty() && !now.contains(&before)
    });
    cluster.until("node2", "the group running", |s| {
        let view = group(s, PRACTICE);
        runs_on(view, "node1") || runs_on(view, "node2")
    });
    watch.safe();
}

#[test]
fn killed_daemon_finds_its_application_again() {
    let Some(cluster) = Cluster::up("kill-daemon") else {
        return;
    };
    let watch = cluster.watch();
    let before = cluster.app("node1");
    for host in ["node1", "node2", "node1"] {
        cluster.fault(host, Fault::Kill(Target::Daemon));
        pass(300);
        cluster.until(host, "itself back and all well", |s| {
            all_well(s) && runs_on(group(s, PRACTICE), "node1")
        });
    }
    assert_eq!(cluster.app("node1"), before);
    watch.unnoticed();
}

#[test]
fn frozen_daemon_loses_its_group_and_comes_back_as_standby() {
    let Some(cluster) = Cluster::up("freeze-daemon") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::Freeze(Target::Daemon));
    cluster.runs("node2", PRACTICE, "node2");
    cluster.heal();
    cluster.settled("node2");
    pass(500);
    watch.safe();
    assert_eq!(cluster.app("node1"), "");
}

#[test]
fn killed_guard_ends_with_one_answer() {
    let Some(cluster) = Cluster::up("kill-guard") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::Kill(Target::Guard));
    pass(2000);
    cluster.until("node2", "the group running somewhere, all well", |s| {
        let view = group(s, PRACTICE);
        all_well(s) && (runs_on(view, "node1") || runs_on(view, "node2"))
    });
    watch.safe();
}

#[test]
fn frozen_guard_and_daemon_stop_answering_without_doing_anything() {
    let Some(cluster) = Cluster::up("freeze-both") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::Freeze(Target::Guard));
    cluster.fault("node1", Fault::Freeze(Target::Daemon));
    cluster.runs("node2", PRACTICE, "node2");
    pass(2500);
    cluster.heal();
    cluster.settled("node2");
    watch.safe();
    assert_eq!(cluster.app("node1"), "");
}

#[test]
fn lease_ends_without_the_kernels_network_lock() {
    let Some(cluster) = Cluster::up("rtnl") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::Freeze(Target::Guard));
    cluster.fault("node1", Fault::Freeze(Target::Daemon));
    cluster.fault("node1", Fault::RtnlHold(2000));
    cluster.runs("node2", PRACTICE, "node2");
    cluster.heal();
    cluster.settled("node2");
    watch.safe();
}

#[test]
fn killed_and_restarted_witness_is_not_noticed() {
    let Some(cluster) = Cluster::up("witness") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("witness", Fault::Kill(Target::Daemon));
    pass(1500);
    cluster.settled("node1");
    cluster.fault("witness", Fault::Freeze(Target::Daemon));
    cluster.until("node1", "the witness silent", |s| {
        s.witness.as_ref().is_some_and(|w| w.state != "online")
    });
    cluster.heal();
    cluster.settled("node1");
    watch.unnoticed();
    // The restarted witness gives its vote.
    let watch = cluster.watch();
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", PRACTICE, "node2");
    watch.safe();
}
