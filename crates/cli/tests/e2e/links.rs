//! Cut cables, filtered frames, and datagrams from strangers.

use crate::cluster::{Cluster, PRACTICE, all_well, group, one_more, pass, runs_on};
use hotpair_lab::plan::{Network, Nic};
use hotpair_lab::{Direction, Fault, Plan, Shape, Target};

/// One end of the cluster is cut off, then joined again: one node answers in the end, never two.
fn cut_and_healed(name: &str, fault: Fault) {
    let Some(cluster) = Cluster::up(name) else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", fault);
    cluster.runs("node2", PRACTICE, "node2");
    pass(500);
    cluster.heal();
    cluster.settled("node2");
    pass(1000);
    let report = watch.safe();
    assert_eq!(report.node_changes, 1, "{report:#?}");
    assert_eq!(cluster.app("node1"), "");
}

#[test]
fn all_links_cut_then_healed_moves_the_group_once() {
    cut_and_healed("cut", Fault::CutLinks);
}

#[test]
fn node_that_cannot_send_loses_its_group() {
    cut_and_healed("mute", Fault::OneWayCut(Direction::Out));
}

#[test]
fn node_that_cannot_receive_loses_its_group() {
    cut_and_healed("deaf", Fault::OneWayCut(Direction::In));
}

#[test]
fn nothing_moves_when_nodes_lose_each_other_and_both_see_the_witness() {
    let Some(cluster) = Cluster::up("mutual") else {
        return;
    };
    let second = one_more("second", 51, &["node2", "node1"]);
    cluster.add("node1", "second", &second, "node2");
    let watches = [50, 51].map(|last| cluster.watch_address([10, 77, 1, last].into()));
    cluster.fault("node1", Fault::CutPeers);
    pass(4000);
    cluster.heal();
    cluster.until("node1", "everybody well", all_well);
    for watch in watches {
        watch.unnoticed();
    }
}

#[test]
fn one_link_less_is_not_noticed_outside_and_shown_inside() {
    let Some(cluster) = Cluster::up("link") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node2", Fault::CutLink(Network::Hb));
    cluster.until("node1", "the link down", |s| {
        let links = s.nodes.iter().flat_map(|n| &n.links);
        links
            .into_iter()
            .any(|l| l.name == "hb" && l.state == "down")
    });
    cluster.heal();
    cluster.until("node1", "all links up", |s| {
        all_well(s)
            && s.nodes
                .iter()
                .flat_map(|n| &n.links)
                .all(|l| l.state == "up" || l.state == "own")
    });
    watch.unnoticed();
}

#[test]
fn node_without_its_client_network_hands_the_group_over() {
    let Some(cluster) = Cluster::up("nic") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::CutLink(Network::Lan));
    cluster.runs("node2", PRACTICE, "node2");
    cluster.heal();
    cluster.clear("node2");
    cluster.settled("node2");
    watch.safe();
}

#[test]
fn a_third_of_all_frames_lost_never_gives_a_double_answer() {
    let Some(cluster) = Cluster::up("loss") else {
        return;
    };
    let watch = cluster.watch();
    cluster.fault("node1", Fault::Loss(30));
    pass(5000);
    cluster.heal();
    cluster.until("node1", "one node running the group, all well", |s| {
        let view = group(s, PRACTICE);
        all_well(s) && (runs_on(view, "node1") || runs_on(view, "node2"))
    });
    watch.safe();
}

/// Sends 20,000 datagrams: random bytes of all lengths, and some of a heartbeat's shape.
const SPRAY: &str = r#"
import os, random, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
hosts = ["10.77.1.11", "10.77.1.12", "10.77.1.9"]
for i in range(20000):
    data = os.urandom(random.choice([0, 1, 15, 16, 40, 64, 200, 1400]))
    s.sendto(data, (hosts[i % 3], 14338))
t = []
for h in hosts:
    for _ in range(20):
        c = socket.create_connection((h, 14338), 1)
        c.sendall(os.urandom(300)); t.append(c)
"#;

#[test]
fn garbage_from_strangers_is_not_noticed() {
    let Some(cluster) = Cluster::up("garbage") else {
        return;
    };
    let watch = cluster.watch();
    cluster.run("client", &["python3", "-c", SPRAY]);
    pass(500);
    cluster.settled("node1");
    watch.unnoticed();
}

#[test]
fn flushed_firewall_is_not_noticed_and_lets_nobody_answer_twice() {
    let Some(cluster) = Cluster::up("flush") else {
        return;
    };
    let flush = |host: &str| cluster.run(host, &["nft", "flush", "ruleset"]);
    let tables = |host: &str| cluster.run(host, &["nft", "list", "tables"]);
    let before = tables("node1");
    assert!(!before.is_empty());
    let watch = cluster.watch();
    for _ in 0..20 {
        flush("node1");
        flush("node2");
        pass(50);
    }
    assert_eq!(tables("node1"), before);
    watch.unnoticed();
    // The standby has the address too, by somebody's hand: its gate is shut all the same.
    let watch = cluster.watch();
    cluster.shell("node2", "ip address add 10.77.1.50/24 dev eth0");
    for _ in 0..10 {
        flush("node2");
        pass(50);
    }
    cluster.shell("node2", "ip address del 10.77.1.50/24 dev eth0");
    watch.safe();
    // A guard that comes after another owns the gate again.
    cluster.fault("node1", Fault::Kill(Target::Guard));
    pass(2000);
    let status = cluster.until("node2", "the group running somewhere, all well", |s| {
        let view = group(s, PRACTICE);
        all_well(s) && (runs_on(view, "node1") || runs_on(view, "node2"))
    });
    let active = &group(&status, PRACTICE).active_on[0];
    let watch = cluster.watch();
    flush("node1");
    flush("node2");
    pass(1500);
    watch.unnoticed();
    assert_eq!(tables("node1"), before);
    assert_ne!(cluster.app(active), "");
}

#[test]
fn failed_nic_hands_the_address_to_the_next_one_of_its_node() {
    let mut plan = Plan::cluster(Shape::default()).expect("a plan");
    for (last, host) in (11..).zip(plan.hosts.iter_mut().take(2)) {
        host.nics.push(Nic {
            name: "eth2".into(),
            network: Network::Lan,
            mac: format!("02:77:00:00:21:{last:02x}"),
            addresses: Vec::new(),
        });
    }
    let Some(cluster) = Cluster::planned("nics", &plan) else {
        return;
    };
    cluster.reconfigure("node1", |text| {
        let both = text.replace("nics = [\"eth0\"]", "nics = [\"eth0\", \"eth2\"]");
        assert_ne!(both, text, "no NIC in the configuration shown");
        both
    });
    cluster.settled("node1");
    let nic = "ip -o -4 address show to 10.77.1.50 | cut -d' ' -f2";
    assert_eq!(cluster.shell("node1", nic), "eth0");
    let app = cluster.app("node1");
    let watch = cluster.watch();
    cluster.fault("node1", Fault::NicDown(0));
    cluster.wait_for("the address on the other NIC", || {
        cluster.shell("node1", nic) == "eth2"
    });
    pass(1500);
    cluster.runs("node2", PRACTICE, "node1");
    assert_eq!(cluster.app("node1"), app);
    let report = watch.safe();
    assert_eq!(report.node_changes, 0, "{report:#?}");
    // The last NIC: now another node takes the group.
    let watch = cluster.watch();
    cluster.fault("node1", Fault::NicDown(2));
    cluster.runs("node2", PRACTICE, "node2");
    assert_eq!(cluster.shell("node2", nic), "eth0");
    watch.safe();
}
