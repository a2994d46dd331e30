//! What operators do: moving, stopping, maintenance, disarming, draining, changing.

use crate::cluster::{Cluster, PRACTICE, all_well, group, one_more, pass, runs_on};
use hotpair_lab::{Fault, Target};

#[test]
fn switchover_moves_the_group_there_and_back() {
    let Some(cluster) = Cluster::up("switch") else {
        return;
    };
    let watch = cluster.watch();
    cluster.hotpair(
        "node1",
        &["group", "switch", PRACTICE, "--to", "node2", "--dry-run"],
    );
    assert!(runs_on(group(&cluster.settled("node1"), PRACTICE), "node1"));
    cluster.hotpair("node1", &["group", "switch", PRACTICE, "--to", "node2"]);
    cluster.settled("node2");
    assert_eq!(cluster.app("node1"), "");
    // The client takes a return sooner than this, or for a shorter time, for a double answer.
    pass(1200);
    cluster.hotpair("node1", &["group", "switch", PRACTICE]);
    cluster.settled("node1");
    pass(1000);
    let report = watch.safe();
    assert_eq!(report.node_changes, 2, "{report:#?}");
}

#[test]
fn switchover_to_a_node_that_cannot_start_it_goes_back() {
    let Some(cluster) = Cluster::up("back") else {
        return;
    };
    // It starts on node1 alone.
    let taken = r#"
[group.taken]
nodes = ["node1", "node2"]

[group.taken.program.job]
start = ["/bin/sh", "-c", "test $(cat /proc/sys/kernel/hostname) = node1 && touch /run/job"]
stop = ["/bin/rm", "-f", "/run/job"]
status = ["/bin/sh", "-c", "test -e /run/job"]
"#;
    cluster.reconfigure("node1", |text| text + taken);
    cluster.runs("node1", "taken", "node1");
    let text = cluster.refused("node1", &["group", "switch", "taken", "--to", "node2"], 6);
    assert!(text.contains("node1"), "{text}");
    cluster.runs("node1", "taken", "node1");
    cluster.runs("node1", PRACTICE, "node1");
}

#[test]
fn stopped_group_stays_stopped_over_failover_and_reboot() {
    let Some(cluster) = Cluster::up("stop") else {
        return;
    };
    cluster.hotpair("node2", &["group", "stop", PRACTICE]);
    assert_eq!(cluster.app("node1"), "");
    cluster.fault("node1", Fault::PowerCut);
    pass(1500);
    cluster.fault("node2", Fault::Reboot);
    cluster.fault("node1", Fault::Boot);
    let status = cluster.until("node2", "everybody well", all_well);
    assert_eq!(group(&status, PRACTICE).state, "stopped", "{status:#?}");
    pass(500);
    assert_eq!([cluster.app("node1"), cluster.app("node2")].concat(), "");
    cluster.hotpair("node2", &["group", "start", PRACTICE, "--on", "node2"]);
    cluster.settled("node2");
}

#[test]
fn nothing_is_done_in_maintenance() {
    let Some(cluster) = Cluster::up("maintenance") else {
        return;
    };
    let watch = cluster.watch();
    cluster.hotpair("node2", &["maintenance", "on", "--group", PRACTICE]);
    cluster.until("node1", "maintenance", |s| group(s, PRACTICE).maintenance);
    cluster.fault("node1", Fault::Kill(Target::App));
    pass(2000);
    assert_eq!([cluster.app("node1"), cluster.app("node2")].concat(), "");
    cluster.hotpair("node2", &["maintenance", "off", "--group", PRACTICE]);
    cluster.until("node2", "the group running again", |s| {
        let view = group(s, PRACTICE);
        runs_on(view, "node1") || runs_on(view, "node2")
    });
    watch.safe();
}

#[test]
fn disarmed_cluster_serves_on_and_arming_it_touches_nothing() {
    let Some(cluster) = Cluster::up("disarm") else {
        return;
    };
    let watch = cluster.watch();
    let app = cluster.app("node1");
    cluster.hotpair("node1", &["disarm"]);
    cluster.until("node2", "disarmed", |s| s.disarmed);
    for host in ["node2", "witness"] {
        cluster.fault(host, Fault::PowerCut);
    }
    pass(2000);
    cluster.fault("node1", Fault::Kill(Target::Daemon));
    pass(1500);
    for host in ["node2", "witness"] {
        cluster.fault(host, Fault::Boot);
    }
    cluster.until("node1", "everybody online", |s| {
        s.disarmed && s.leader.is_some() && s.nodes.iter().all(|n| n.state == "online")
    });
    cluster.insist("node1", &["arm"]);
    cluster.settled("node1");
    assert_eq!(cluster.app("node1"), app);
    watch.unnoticed();
}

#[test]
fn disarmed_cluster_does_not_take_over() {
    let Some(cluster) = Cluster::up("disarm-cut") else {
        return;
    };
    cluster.hotpair("node1", &["disarm"]);
    cluster.until("node2", "disarmed", |s| s.disarmed);
    let watch = cluster.watch();
    cluster.fault("node1", Fault::PowerCut);
    pass(2500);
    assert_eq!(cluster.app("node2"), "");
    cluster.fault("node1", Fault::Boot);
    cluster.until("node2", "everybody online", |s| {
        s.leader.is_some() && s.nodes.iter().all(|n| n.state == "online")
    });
    cluster.insist("node2", &["arm"]);
    cluster.until("node2", "the group running", |s| {
        let view = group(s, PRACTICE);
        runs_on(view, "node1") || runs_on(view, "node2")
    });
    watch.safe();
}

#[test]
fn drained_node_gives_its_groups_away_and_leaves_quietly() {
    let Some(cluster) = Cluster::up("drain") else {
        return;
    };
    let watch = cluster.watch();
    cluster.hotpair("node1", &["node", "drain", "node1"]);
    cluster.runs("node2", PRACTICE, "node2");
    cluster.hotpair("node1", &["node", "undrain", "node1"]);
    cluster.settled("node2");
    assert_eq!(cluster.app("node1"), "");
    let report = watch.safe();
    assert_eq!(report.node_changes, 1, "{report:#?}");
}

#[test]
fn changes_of_the_configuration_are_not_noticed() {
    let Some(cluster) = Cluster::up("change") else {
        return;
    };
    let watch = cluster.watch();
    let app = cluster.app("node1");
    cluster.reconfigure("node1", |text| {
        let fast = text.replacen(
            "name = \"lab\"\n",
            "name = \"lab\"\nprofile = \"fast\"\n",
            1,
        );
        assert_ne!(fast, text, "no name in the configuration shown");
        fast
    });
    cluster.settled("node1");
    cluster.hotpair("node2", &["link", "remove", "hb"]);
    cluster.until("node1", "one link", |s| s.nodes[0].links.len() == 1);
    let add = [
        "link",
        "add",
        "direct",
        "node1=10.77.2.11",
        "node2=10.77.2.12",
    ];
    cluster.hotpair("node1", &add);
    cluster.until("node2", "two links, all up", |s| {
        let links = || s.nodes.iter().flat_map(|n| &n.links);
        links().any(|l| l.name == "direct" && l.state == "up") && all_well(s)
    });
    let second = one_more("second", 51, &["node2", "node1"]);
    cluster.add("node2", "second", &second, "node2");
    assert_eq!(cluster.app("node1"), app);
    watch.unnoticed();
    // The new numbers hold, and so does the new link.
    let watch = cluster.watch();
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", PRACTICE, "node2");
    watch.safe();
}

#[test]
fn changed_command_takes_effect_at_once_on_the_same_node() {
    let Some(cluster) = Cluster::up("command") else {
        return;
    };
    let before = cluster.app("node1");
    cluster.reconfigure("node1", |text| {
        let changed = text.replacen("\"--listen\",", "\"--as\", \"renamed\", \"--listen\",", 1);
        assert_ne!(changed, text, "no command in the configuration shown");
        changed
    });
    let find = "pgrep -af '[s]ample-app' || true";
    cluster.wait_for("the application with its new arguments", || {
        cluster.shell("node1", find).contains("--as renamed")
    });
    cluster.runs("node2", PRACTICE, "node1");
    assert_ne!(cluster.app("node1"), before);
}

#[test]
fn stopped_resource_stays_stopped_over_failover_and_reboot() {
    let Some(cluster) = Cluster::up("resource") else {
        return;
    };
    let app = cluster.app("node1");
    let restart = ["group", "restart", PRACTICE, "--resource", "ip"];
    let preview = cluster.hotpair("node2", &[&restart[..], &["--dry-run"]].concat());
    assert!(
        preview.contains("stop app, ip; then start ip, app"),
        "{preview}"
    );
    assert_eq!(cluster.app("node1"), app);
    cluster.hotpair("node2", &restart);
    assert_ne!(cluster.app("node1"), app);
    assert_ne!(cluster.app("node1"), "");
    cluster.settled("node1");

    let stop = ["group", "stop", PRACTICE, "--resource", "app"];
    cluster.hotpair("node2", &stop);
    assert_eq!(cluster.app("node1"), "");
    let is_up = "ip address show dev eth0 | grep -c 10.77.1.50 || true";
    assert_eq!(cluster.shell("node1", is_up), "1");
    let told = |s: &hotpair_api::StatusView, node: &str| {
        let view = group(s, PRACTICE);
        let app = view.resources.iter().find(|r| r.name == "app");
        runs_on(view, node)
            && view.stopped_resources == ["app"]
            && app.is_some_and(|r| r.state == "stopped" && r.detail == "stopped by the operator")
    };
    cluster.until("node1", "what is stopped", |s| told(s, "node1"));
    let text = cluster.hotpair("node1", &["status"]);
    assert!(text.contains("stopped by the operator: app"), "{text}");

    cluster.fault("node1", Fault::PowerCut);
    cluster.until("node2", "the rest on node2", |s| told(s, "node2"));
    cluster.fault("node2", Fault::Reboot);
    cluster.fault("node1", Fault::Boot);
    let status = cluster.until("node2", "everybody well", all_well);
    let holder = group(&status, PRACTICE).holder.clone().expect("a holder");
    cluster.until(&holder, "it as before", |s| told(s, &holder));
    pass(500);
    assert_eq!([cluster.app("node1"), cluster.app("node2")].concat(), "");
    let refused = ["group", "restart", PRACTICE, "--resource", "app"];
    let text = cluster.refused("node1", &refused, 1);
    assert!(
        text.contains("group start practice --resource app"),
        "{text}"
    );

    cluster.hotpair("node1", &["group", "start", PRACTICE, "--resource", "app"]);
    assert_ne!(cluster.app(&holder), "");
    cluster.settled(&holder);
}

#[test]
fn all_groups_are_stopped_and_started_from_any_node() {
    let Some(cluster) = Cluster::up("all-groups") else {
        return;
    };
    let second = one_more("second", 51, &["node2", "node1"]);
    cluster.add("node1", "second", &second, "node2");
    let preview = cluster.hotpair("node2", &["group", "stop", "--all", "--dry-run"]);
    assert!(
        preview.contains("practice") && preview.contains("second"),
        "{preview}"
    );
    cluster.hotpair("node2", &["group", "stop", "--all"]);
    assert_eq!([cluster.app("node1"), cluster.app("node2")].concat(), "");
    let status = cluster.status("node1").expect("it answers");
    assert!(
        status.groups.iter().all(|g| g.state == "stopped"),
        "{status:#?}"
    );
    cluster.hotpair("node1", &["group", "start", "--all"]);
    let status = cluster.status("node1").expect("it answers");
    assert!(
        status.groups.iter().all(|g| g.state == "running"),
        "{status:#?}"
    );
}

#[test]
fn configuration_has_a_history_to_go_back_in_and_a_wiped_node_has_nothing_left() {
    let Some(cluster) = Cluster::up("history") else {
        return;
    };
    let template = cluster.hotpair("node1", &["config", "query"]);
    assert!(
        template.contains("eth0") && template.contains("10.77.1.11"),
        "{template}"
    );
    let before = cluster
        .status("node1")
        .expect("it answers")
        .cluster
        .revision;
    let shown = cluster.hotpair("node1", &["config", "show"]);
    let changed = shown.replacen("interval_s = 1\n", "interval_s = 2\n", 1)
        + &one_more("second", 51, &["node2", "node1"]);
    assert_ne!(changed, shown);
    let plan = cluster.with_input("node2", &["hotpair", "config", "plan", "-"], &changed);
    assert_eq!(plan.code, Some(0), "{plan:?}");
    assert!(plan.out.contains("second"), "{plan:?}");
    let now = cluster
        .status("node1")
        .expect("it answers")
        .cluster
        .revision;
    assert_eq!(now, before);
    let app = cluster.app("node1");
    assert_eq!(cluster.apply("node2", &changed).code, Some(0));
    cluster.runs("node1", "second", "node2");
    let history = cluster.hotpair("node1", &["config", "history"]);
    assert!(
        history.contains(&(before + 1).to_string()) && history.contains("second"),
        "{history}"
    );
    let old = cluster.hotpair(
        "node1",
        &["config", "show", "--revision", &before.to_string()],
    );
    assert_eq!(old, shown);
    let differ = cluster.hotpair("node2", &["config", "diff", &before.to_string()]);
    assert!(
        differ.contains("interval") && differ.contains("group.second: added"),
        "{differ}"
    );
    let newest = (before + 1).to_string();
    let same = cluster.hotpair("node1", &["config", "diff", &newest, &newest]);
    assert!(same.contains("do not differ"), "{same}");
    cluster.refused("node1", &["config", "diff", "999"], 1);

    // What would happen, by the deciding code, and nothing does.
    let told = cluster.hotpair("node1", &["simulate", "--fail", "node1"]);
    assert!(told.contains("practice is given to node2"), "{told}");
    let told = cluster.hotpair("node2", &["simulate", "--fail", "practice/app"]);
    assert!(told.contains("app"), "{told}");
    cluster.settled("node1");

    // The group that the older revision does not have is stopped first.
    cluster.refused("node1", &["config", "rollback", &before.to_string()], 1);
    cluster.hotpair("node1", &["group", "stop", "second"]);
    cluster.hotpair("node1", &["config", "rollback", &before.to_string()]);
    let status = cluster.settled("node1");
    assert_eq!(status.cluster.revision, before + 2);
    assert_eq!(status.groups.len(), 1);
    assert_eq!(cluster.app("node1"), app);

    // A node leaves for good.
    cluster.hotpair("node2", &["stop"]);
    cluster.until("node1", "node2 gone", |s| s.nodes[1].state == "left");
    cluster.refused("node2", &["wipe"], 1);
    cluster.hotpair("node2", &["wipe", "--yes-i-mean", "node2"]);
    let left =
        "ls -A /var/lib/hotpair /run/hotpair /etc/hotpair /var/log/hotpair 2>/dev/null | grep -v :";
    assert_eq!(cluster.shell("node2", &format!("{left} || true")), "");
    assert_eq!(cluster.shell("node2", "nft list tables"), "");
    cluster.until("node1", "node2 not online", |s| {
        s.nodes[1].state != "online"
    });
    pass(1500);
    cluster.insist(
        "node1",
        &["node", "remove", "node2", "--yes-i-mean", "node2"],
    );
    let token = cluster.hotpair("node1", &["token"]);
    cluster.hotpair("node2", &["join", &token, "--name", "node2"]);
    cluster.start_daemon("node2");
    cluster.until("node1", "node2 back", |s| {
        s.nodes.len() == 2 && s.nodes.iter().all(|n| n.state == "online")
    });
    assert_eq!(cluster.app("node1"), app);
}

#[test]
fn check_finds_what_is_wrong_with_the_hosts() {
    let Some(cluster) = Cluster::up("check") else {
        return;
    };
    let text = cluster.hotpair("node2", &["check"]);
    assert!(text.contains("checked node1, node2: 0 errors"), "{text}");

    // Before it is applied: what the new group needs, beside what is wrong with the network.
    let mut shown = cluster.hotpair("node1", &["config", "show"]);
    shown.push_str(
        &one_more("new", 60, &["node1", "node2"]).replace("/run/bin/hotpair", "/no/such"),
    );
    cluster.run(
        "node1",
        &[
            "sh",
            "-c",
            &format!("cat >/run/new.toml <<'end'\n{shown}\nend"),
        ],
    );
    cluster.shell("node2", "ip link set eth1 down");
    cluster.shell("node2", "ip address add 10.77.1.60/24 dev eth0");
    let page = [
        "check",
        "--config",
        "/run/new.toml",
        "--html",
        "/run/check.html",
    ];
    let text = cluster.refused("node1", &page, 5);
    for id in ["address-set-by-hand", "link-no-carrier", "program-missing"] {
        assert!(text.contains(&format!("[{id}]")), "{id} in {text}");
    }
    let page = cluster.run("node1", &["cat", "/run/check.html"]);
    assert!(page.contains("address-set-by-hand"), "{page}");

    cluster.fault("node2", Fault::PowerCut);
    cluster.until("node1", "node2 down", |status| {
        status
            .nodes
            .iter()
            .any(|node| node.name == "node2" && node.state == "down")
    });
    let json = cluster.tried("node1", &["check", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    let ids: Vec<_> = report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter_map(|finding| finding["id"].as_str())
        .collect();
    assert!(ids.contains(&"node-not-reached"), "{ids:?}");
    let alone = cluster.hotpair("client", &["check"]);
    assert!(alone.contains("checked client: 0 errors"), "{alone}");
}

#[test]
fn drill_measures_what_clients_are_without() {
    let Some(cluster) = Cluster::up("drill") else {
        return;
    };
    let text = cluster.refused("node1", &["drill", PRACTICE], 1);
    assert!(text.contains("--yes-i-mean"), "{text}");
    let yes = ["--yes-i-mean", PRACTICE];
    let wrong = [&["drill", PRACTICE, "--target", "10.77.1.50:1"], &yes[..]].concat();
    let text = cluster.refused("node1", &wrong, 1);
    assert!(text.contains("does not answer"), "{text}");
    assert!(runs_on(group(&cluster.settled("node1"), PRACTICE), "node1"));

    // A client's own view of the drill, and of a power cut after it.
    cluster.shell(
        "client",
        "hotpair probe 10.77.1.50:8077 --seconds 14 --json >/run/seen.json 2>/dev/null &",
    );
    let words = ["drill", PRACTICE, "--json", "--html", "/run/drill.html"];
    let said = cluster.hotpair("node2", &[&words[..], &yes].concat());
    let report: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let moves = report["moves"].as_array().expect("moves");
    assert_eq!(moves.len(), 2, "{said}");
    assert_eq!(
        (&moves[0]["to"], &moves[1]["to"]),
        (&"node2".into(), &"node1".into())
    );
    let outage = |one: &serde_json::Value| one["outage_ms"].as_f64().expect("a number");
    assert!(moves.iter().all(|one| outage(one) > 0.0), "{said}");
    let page = cluster.run("node2", &["cat", "/run/drill.html"]);
    assert!(page.contains("<svg") && page.contains("to node2"), "{page}");

    cluster.settled("node1");
    cluster.fault("node1", Fault::PowerCut);
    cluster.wait_for("the client's report", || {
        !cluster.shell("client", "cat /run/seen.json").is_empty()
    });
    let seen = cluster.shell("client", "cat /run/seen.json");
    let seen: serde_json::Value = serde_json::from_str(&seen).expect("JSON");
    let outages = seen["outages"].as_array().expect("outages");
    assert!(!outages.is_empty(), "{seen}");
    assert!(
        outages.iter().all(|one| one["length_ms"].is_f64()),
        "{seen}"
    );

    // Nobody is left to practise with.
    let text = cluster.refused("node2", &[&["drill", PRACTICE], &yes[..]].concat(), 1);
    assert!(text.contains("no other node could run"), "{text}");
}

#[test]
fn support_bundle_has_everything_but_secrets() {
    let Some(cluster) = Cluster::up("support") else {
        return;
    };
    let secret = r#"
[group.secretive]
nodes = ["node1", "node2"]

[group.secretive.program.job]
start = ["/bin/sh", "-c", "echo begun with password=hunter2", "--token", "hunter2"]
stop = ["/bin/true"]
environment = { DB_PASSWORD = "hunter2", PLAIN = "kept-as-it-is" }
"#;
    cluster.reconfigure("node1", |text| text + secret);
    cluster.runs("node1", "secretive", "node1");
    let token = cluster.hotpair("node1", &["token"]);
    cluster.shell(
        "node1",
        &format!("echo {token} >>\"$HOTPAIR_LOG/daemon.log\""),
    );
    let said = cluster.hotpair("node1", &["support", "--output", "/run/s.tgz"]);
    assert!(said.contains("/run/s.tgz"), "{said}");
    let files = cluster.shell("node1", "mkdir /run/s && tar xzf /run/s.tgz -C /run/s --strip-components 1 && cd /run/s && find . -type f | sort");
    for file in [
        "./README",
        "./cluster/configuration.toml",
        "./cluster/events.json",
        "./cluster/explain-secretive.json",
        "./cluster/status.json",
        "./logs/daemon.log",
        "./nodes/node2.json",
        "./system/addresses",
        "./system/nftables",
    ] {
        assert!(files.lines().any(|line| line == file), "{file} in {files}");
    }
    let found = cluster.shell("node1", "cd /run/s; grep -rl hunter2 . || true");
    assert_eq!(found, "", "secrets in these");
    let found = cluster.shell(
        "node1",
        &format!("cd /run/s; grep -rlF -e '{token}' -e 'PRIVATE KEY' . || true"),
    );
    assert_eq!(found, "", "keys or tokens in these");
    assert!(
        cluster
            .shell("node1", "cat /run/s/cluster/configuration.toml")
            .contains("kept-as-it-is")
    );
    let mode = cluster.run("node1", &["stat", "-c", "%a", "/run/s.tgz"]);
    assert_eq!(mode, "600");
    // Without a daemon there is the machine at least.
    cluster.hotpair("client", &["support", "--output", "/run/s.tgz"]);
    cluster.refused(
        "client",
        &["support", "--output", "/no/such/place/s.tgz"],
        1,
    );
}
