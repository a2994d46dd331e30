//! Bad input: tokens, configurations, disks.

use crate::cluster::{Cluster, PRACTICE, all_well, group, one_more, pass, runs_on};
use hotpair_lab::plan::Step;
use hotpair_lab::{Fault, Plan, Shape, Target};

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
    let big = |megabytes: usize| format!("{WRONG}# {}\n", "x".repeat(megabytes << 20));
    for text in ["", "[", "\u{0}\u{1}", "cluster = 5", &big(2), &big(10)] {
        let said = cluster.apply("node1", text);
        assert!(matches!(said.code, Some(1 | 5)), "{said:?}");
        assert!(!said.err.contains("panicked"), "{said:?}");
    }
    // 10 MB past the command line: at the daemon's socket, and at its port.
    for target in [
        "socket.AF_UNIX), '/run/hotpair/api.sock'",
        "socket.AF_INET), ('10.77.1.11', 14338)",
    ] {
        let send = format!(
            r#"
import socket
def send(s, to):
    s.settimeout(5)
    s.connect(to)
    try:
        s.sendall(b'{{"version":1,"call":"' + b'x' * 10_000_000 + b'"}}\n')
        s.recv(4096)
    except OSError:
        pass
send(socket.socket({target})
"#
        );
        cluster.run("node1", &["python3", "-c", &send]);
    }
    let logs = cluster.shell("node1", "cat /run/lab/daemon.log");
    assert!(!logs.contains("panicked"), "{logs}");
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
    let first = Step::Run {
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
        let more = one_more(name, if name == "one" { 51 } else { 52 }, &["node1"]);
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

/// Has everything of hotpair on a host see a clock that is so far off.
fn shift_clock(plan: &mut Plan, host: &str, by: &str) {
    let faked = |argv: &[String]| -> Vec<String> {
        let fake = [
            "env",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "faketime",
            "-f",
            by,
        ];
        let fake = fake.map(str::to_owned).into_iter();
        fake.chain(argv.iter().cloned()).collect()
    };
    for service in plan.services.iter_mut().filter(|s| s.host == host) {
        service.argv = faked(&service.argv);
    }
    for step in &mut plan.setup {
        if let Step::Run { host: on, argv, .. } = step
            && on == host
        {
            *argv = faked(argv);
        }
    }
}

#[test]
fn clocks_that_are_years_off_keep_nobody_from_joining_and_taking_over() {
    if std::process::Command::new("faketime").output().is_err() {
        eprintln!("skipped: needs the program faketime");
        return;
    }
    let mut plan = Plan::cluster(Shape::default()).expect("a plan");
    shift_clock(&mut plan, "node2", "-12y");
    shift_clock(&mut plan, "witness", "+25y");
    let Some(cluster) = Cluster::planned("clock", &plan) else {
        return;
    };
    cluster.settled("node1");
    // The clock is off indeed: the log is the one place that shows it.
    let year = |host: &str| cluster.hotpair(host, &["events", "--last", "1"])[..4].to_owned();
    let years = [year("node1"), year("node2")].map(|text| text.parse::<i32>().expect("a year"));
    assert!((11..=13).contains(&(years[0] - years[1])), "{years:?}");
    let watch = cluster.watch();
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", PRACTICE, "node2");
    cluster.fault("node1", Fault::Boot);
    cluster.settled("node2");
    // The client takes a return sooner than this, or for a shorter time, for a double answer.
    pass(1200);
    cluster.hotpair("node2", &["group", "switch", PRACTICE, "--to", "node1"]);
    pass(1000);
    watch.safe();
}

#[test]
fn one_witness_serves_two_clusters() {
    let shape = Shape {
        nodes: 4,
        ..Shape::default()
    };
    let mut plan = Plan::bare(shape).expect("a plan");
    let hosts = ["node1", "node2", "node3", "node4"];
    let service = |host: &str, name: &str, argv: &[&str]| hotpair_lab::plan::Service {
        name: name.into(),
        host: host.into(),
        argv: argv.iter().map(|&word| word.into()).collect(),
        restart_after_ms: Some(50),
    };
    plan.services = hosts
        .map(|h| service(h, "daemon", &["hotpair", "daemon"]))
        .to_vec();
    plan.services.push(service(
        "witness",
        "witness",
        &["hotpair", "witness", "run"],
    ));
    let Some(cluster) = Cluster::planned("two-clusters", &plan) else {
        return;
    };
    let start = |host: &str| {
        let found = plan.services.iter().find(|s| s.host == host);
        cluster
            .0
            .start(found.expect("it has one").clone())
            .expect("it starts");
    };
    for (name, first, second, last) in [("a", "node1", "node2", 11), ("b", "node3", "node4", 13)] {
        let link = format!("lan=10.77.1.{last}");
        cluster.hotpair(
            first,
            &["init", "--name", name, "--node", first, "--link", &link],
        );
        start(first);
        cluster.until(first, "itself leading", |s| s.leader.is_some());
        let token = cluster.hotpair(first, &["token"]);
        cluster.hotpair(second, &["join", &token, "--name", second]);
        start(second);
        cluster.until(first, "both", |s| {
            s.nodes.len() == 2 && s.nodes.iter().all(|n| n.state == "online")
        });
        let token = cluster.hotpair(first, &["token", "--witness"]);
        cluster.hotpair(
            "witness",
            &["witness", "join", &token, "--address", "10.77.1.9"],
        );
        if name == "a" {
            start("witness");
        }
        let group = one_more(name, 50 + last, &[first, second]);
        cluster.reconfigure(first, |text| text + &group);
    }
    for (host, name) in [("node1", "a"), ("node3", "b")] {
        cluster.until(host, "everything well", |s| {
            all_well(s) && s.witness.is_some() && runs_on(group(s, name), host)
        });
    }
    // Each cluster takes over by the witness's vote, at the same time.
    cluster.fault("node1", Fault::PowerCut);
    cluster.fault("node3", Fault::PowerCut);
    cluster.runs("node2", "a", "node2");
    cluster.runs("node4", "b", "node4");
    // And it restarts without anybody noticing.
    cluster.fault("witness", Fault::Kill(Target::Daemon));
    cluster.until("node2", "the witness back", |s| {
        s.witness.as_ref().is_some_and(|w| w.state == "online")
    });
    cluster.runs("node2", "a", "node2");
    cluster.runs("node4", "b", "node4");
}
