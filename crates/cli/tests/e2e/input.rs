//! Bad input: tokens, configurations, disks.

use crate::cluster::{Cluster, PRACTICE, all_well, group, pass};
use hotpair_lab::{Fault, Plan, Shape};

#[test]
fn tokens_are_good_once_and_for_their_cluster_only() {
    let shape = Shape {
        nodes: 3,
        ..Shape::default()
    };
    let Some(cluster) = Cluster::planned("token", &Plan::bare(shape).expect("a plan")) else {
        return;
    };
    let init = |host: &str, name: &str, last: u8| {
        let link = format!("lan=10.77.1.{last}");
        cluster.hotpair(
            host,
            &["init", "--name", name, "--node", host, "--link", &link],
        );
        cluster.shell(
            host,
            "setsid hotpair daemon >/run/lab/d.log 2>&1 </dev/null &",
        );
        cluster.until(host, "itself leading", |s| s.leader.is_some());
    };
    init("node1", "first", 11);
    init("node3", "other", 13);
    cluster.refused(
        "node1",
        &["init", "--name", "again", "--link", "lan=10.77.1.11"],
        1,
    );
    for garbage in [
        "x",
        "",
        "hp1-",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "\u{1f600}",
    ] {
        cluster.refused("node2", &["join", garbage], 1);
    }
    let token = cluster.hotpair("node1", &["token"]);
    let mut torn = token.clone();
    torn.truncate(token.len() - 4);
    cluster.refused("node2", &["join", &torn], 1);
    // A node of a cluster joins no other.
    cluster.refused("node3", &["join", &token], 1);
    cluster.hotpair("node2", &["join", &token, "--name", "node2"]);
    cluster.refused("node2", &["join", &token, "--name", "node2"], 1);
    // Used up: nobody joins with it any more, under whatever name.
    cluster.refused("witness", &["join", &token, "--name", "node4"], 1);
    cluster.refused("witness", &["witness", "join", &token], 1);
    // A node's token makes no witness, and the reverse.
    let unused = cluster.hotpair("node1", &["token", "--witness"]);
    cluster.refused("witness", &["join", &unused, "--name", "node4"], 1);
    let text = cluster.refused("client", &["status"], 3);
    assert!(text.contains("does not run"), "{text}");
}

const WRONG: &str = r#"
[cluster]
name = "lab"
colour = "red"

[[node]]
name = "node1"

[[node]]
name = "node2"

[[link]]
name = "lan"
addresses = { node1 = "10.77.1.11", node2 = "10.77.1.12" }

[timing]
heartbeat_ms = 100
lease_ms = 200

[group.a]
nodes = ["node1", "node9"]

[group.a.address.ip]
address = "192.168.7.50/24"
nics = ["eth0"]

[group.a.service.x]
command = ["/bin/x"]
requires = ["y"]

[group.a.service.y]
command = ["/bin/y"]
requires = ["x"]
"#;

#[test]
fn all_findings_of_a_configuration_come_at_once_and_nothing_changes() {
    let Some(cluster) = Cluster::up("config") else {
        return;
    };
    let before = cluster.status("node1").expect("a status").cluster.revision;
    let said = cluster.apply("node1", WRONG);
    assert_eq!(said.code, Some(5), "{said:?}");
    let text = format!("{}{}", said.out, said.err);
    for word in ["colour", "lease", "node9", "192.168.7.50", "requires"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
    let big = format!("{WRONG}# {}\n", "x".repeat(2 << 20));
    for text in ["", "[", "\u{0}\u{1}", "cluster = 5", &big] {
        let said = cluster.apply("node1", text);
        assert!(matches!(said.code, Some(1 | 5)), "{said:?}");
        assert!(!said.err.contains("panicked"), "{said:?}");
    }
    let after = cluster.settled("node1").cluster.revision;
    assert_eq!(before, after);
    cluster.refused("node1", &["group", "switch", "nosuch"], 1);
    cluster.refused("node1", &["config", "rollback", "999"], 1);
    cluster.refused("node1", &["group"], 2);
}

#[test]
fn full_disk_is_survived_and_said() {
    let mut plan = Plan::cluster(Shape::default()).expect("a plan");
    // A small file system of its own on node2, before anything is written there.
    let mount = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=2m",
        "small",
        "/var/lib/hotpair",
    ];
    let first = hotpair_lab::plan::Step::Run {
        host: "node2".into(),
        argv: mount.map(str::to_owned).to_vec(),
        save: None,
    };
    plan.setup.insert(0, first);
    let Some(cluster) = Cluster::planned("disk", &plan) else {
        return;
    };
    cluster.settled("node1");
    let watch = cluster.watch();
    cluster.shell(
        "node2",
        "dd if=/dev/zero of=/var/lib/hotpair/fill bs=4k 2>/dev/null; sync; true",
    );
    for name in ["one", "two"] {
        let more = crate::cluster::one_more(name, if name == "one" { 51 } else { 52 }, &["node1"]);
        cluster.reconfigure("node1", |text| text + &more);
    }
    pass(1500);
    cluster.until("node1", "the group on", |s| {
        !group(s, PRACTICE).active_on.is_empty()
    });
    let events = ["node1", "node2"].map(|host| cluster.tried(host, &["events", "--all"]).out);
    let logs = cluster.shell("node2", "cat /run/lab/daemon.log");
    assert!(!logs.contains("panicked"), "{logs}");
    let said = format!("{}{logs}", events.concat());
    assert!(
        said.contains("space") || said.contains("full"),
        "nobody says it: {said}"
    );
    cluster.shell("node2", "rm /var/lib/hotpair/fill");
    cluster.until("node1", "everybody well", |s| {
        all_well(s) && s.nodes.iter().all(|n| n.state == "online")
    });
    watch.safe();
    // It can take over again.
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", PRACTICE, "node2");
}
