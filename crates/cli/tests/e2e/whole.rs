//! The cluster as a whole: stopped, started again, formed by one node alone.

use crate::cluster::{Cluster, PRACTICE, all_well, group, one_more, pass, runs_on};
use hotpair_lab::Fault;

/// The address of the practice group on a host.
fn addresses(cluster: &Cluster, host: &str) -> String {
    cluster.shell(
        host,
        "ip -4 address show dev eth0 | grep -o 10.77.1.5[0-9] || true",
    )
}

fn processes(cluster: &Cluster, host: &str) -> String {
    cluster.shell(host, "pgrep -f '[h]otpair (daemon|guard)' || true")
}

#[test]
fn all_nodes_stop_on_one_word_and_start_again() {
    let Some(cluster) = Cluster::up("whole") else {
        return;
    };
    let second = one_more("second", 51, &["node2", "node1"]);
    cluster.add("node1", "second", &second, "node2");
    let text = cluster.refused("node2", &["stop", "--all"], 1);
    assert!(text.contains("--force"), "{text}");
    cluster.hotpair("node2", &["stop", "--all", "--force", "--dry-run"]);
    assert!(all_well(&cluster.settled("node1")));
    cluster.hotpair("node2", &["stop", "--all", "--force"]);
    for host in ["node1", "node2"] {
        cluster.wait_for("the end of everything", || {
            processes(&cluster, host).is_empty()
        });
        assert_eq!(cluster.app(host), "");
        assert_eq!(addresses(&cluster, host), "");
        cluster.refused(host, &["status"], 3);
    }
    pass(500);
    assert_eq!(processes(&cluster, "node1"), "");
    // The less preferred one first: each group still starts where it belongs.
    cluster.start_daemon("node2");
    cluster.start_daemon("node1");
    cluster.settled("node1");
    cluster.runs("node1", "second", "node2");

    // Told by its peer; what nobody else can run is stopped.
    cluster.hotpair("node1", &["maintenance", "on", "--node", "node2"]);
    let text = cluster.refused("node1", &["node", "leave", "node1"], 1);
    assert!(text.contains("services would stop"), "{text}");
    cluster.hotpair("node1", &["maintenance", "off", "--node", "node2"]);
    cluster.hotpair("node2", &["node", "leave", "node1"]);
    cluster.wait_for("the end of node1's daemon", || {
        processes(&cluster, "node1").is_empty()
    });
    cluster.runs("node2", PRACTICE, "node2");
    cluster.hotpair("node2", &["stop", "--force"]);
    assert_eq!(cluster.app("node2"), "");
}

#[test]
fn one_node_goes_on_alone_by_the_operators_word_after_a_full_outage() {
    let Some(cluster) = Cluster::up("alone") else {
        return;
    };
    let only = ["start", "--only", "node1", "--yes-i-mean", "node1"];
    let text = cluster.refused("node1", &only, 1);
    assert!(text.contains("has a leader"), "{text}");
    for host in ["node1", "node2", "witness"] {
        cluster.fault(host, Fault::PowerCut);
    }
    cluster.fault("node1", Fault::Boot);
    let watch_from = |c: &Cluster| c.until("node1", "no leader", |s| s.leader.is_none());
    watch_from(&cluster);
    pass(2000);
    assert_eq!(cluster.app("node1"), "");
    cluster.refused("node1", &["start", "--only", "node1"], 1);
    cluster.refused(
        "node1",
        &["start", "--only", "node1", "--yes-i-mean", "node2"],
        1,
    );
    cluster.refused(
        "node1",
        &["start", "--only", "node2", "--yes-i-mean", "node2"],
        1,
    );
    cluster.hotpair("node1", &["start", "--only", "node1", "--dry-run"]);
    assert_eq!(cluster.app("node1"), "");
    cluster.hotpair("node1", &only);
    cluster.runs("node1", PRACTICE, "node1");
    let watch = cluster.watch();
    cluster.fault("node2", Fault::Boot);
    cluster.fault("witness", Fault::Boot);
    cluster.settled("node1");
    watch.unnoticed();
    // They have their votes back.
    let watch = cluster.watch();
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", PRACTICE, "node2");
    watch.safe();
}

#[test]
fn services_left_behind_go_on_without_a_daemon() {
    let Some(cluster) = Cluster::up("left") else {
        return;
    };
    let app = cluster.app("node1");
    cluster.refused("node1", &["stop", "--leave-services"], 1);
    cluster.hotpair("node1", &["disarm"]);
    cluster.until("node1", "its group pinned", |s| {
        group(s, PRACTICE).pinned.is_some()
    });
    let watch = cluster.watch();
    cluster.hotpair("node1", &["stop", "--leave-services"]);
    // Longer than an address lives without being refreshed.
    pass(4000);
    cluster.refused("node1", &["status"], 3);
    cluster.start_daemon("node1");
    cluster.until("node1", "it running", |s| {
        runs_on(group(s, PRACTICE), "node1")
    });
    cluster.insist("node1", &["arm"]);
    cluster.settled("node1");
    assert_eq!(cluster.app("node1"), app);
    watch.unnoticed();
}
