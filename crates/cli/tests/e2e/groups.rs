//! What a group does by itself: order and branches, failures of starts and stops, fitness, maintenance.

use crate::cluster::{Cluster, PRACTICE, group, is_on, pass, switchable};
use hotpair_api::StatusView;
use hotpair_lab::{Fault, Target};

fn state(status: &StatusView, name: &str) -> String {
    group(status, name).state.clone()
}

/// The reason why a node could not run the group; empty if it could.
fn unfit(status: &StatusView, name: &str, node: &str) -> String {
    let nodes = &group(status, name).nodes;
    let found = nodes.iter().find(|it| it.name == node);
    found.map(|it| it.reason.clone()).unwrap_or_default()
}

/// A program of the group `tree` that says in `/run/order` when its start and stop begin and end.
fn limb(name: &str, requires: &[&str]) -> String {
    let step = |word: &str| {
        format!(
            "[\"/bin/sh\", \"-c\", \"echo {word} {name} >>/run/order; sleep 0.7; echo {word}-end {name} >>/run/order\"]"
        )
    };
    format!(
        "\n[group.tree.program.{name}]\nstart = {}\nstop = {}\nrequires = {requires:?}\n",
        step("start"),
        step("stop")
    )
}

#[test]
fn branches_are_started_together_in_order_and_stopped_the_other_way() {
    let Some(cluster) = Cluster::up("branches") else {
        return;
    };
    let limbs = [
        limb("root", &[]),
        limb("left", &["root"]),
        limb("right", &["root"]),
        limb("top", &["left", "right"]),
    ];
    let tree = "\n[group.tree]\nnodes = [\"node1\", \"node2\"]\n".to_owned() + &limbs.concat();
    cluster.add("node1", "tree", &tree, "node1");
    let order = || cluster.shell("node1", "cat /run/order");
    let at = |order: &str, line: &str| {
        let found = order.lines().position(|it| it == line);
        found.unwrap_or_else(|| panic!("no `{line}` in:\n{order}"))
    };
    let in_order = |order: &str, lines: &[&str]| {
        let places: Vec<_> = lines.iter().map(|line| at(order, line)).collect();
        assert!(places.is_sorted(), "{lines:?} in:\n{order}");
    };
    let started = order();
    assert_eq!(started.lines().count(), 8, "{started}");
    for branch in ["left", "right"] {
        let [begin, end] = ["start", "start-end"].map(|word| format!("{word} {branch}"));
        in_order(&started, &["start-end root", &begin, &end, "start top"]);
    }
    in_order(&started, &["start left", "start-end right"]);
    in_order(&started, &["start right", "start-end left"]);

    cluster.shell("node1", "rm /run/order");
    cluster.hotpair("node2", &["group", "switch", "tree", "--to", "node2"]);
    cluster.runs("node2", "tree", "node2");
    let stopped = order();
    assert_eq!(stopped.lines().count(), 8, "{stopped}");
    for branch in ["left", "right"] {
        let [begin, end] = ["stop", "stop-end"].map(|word| format!("{word} {branch}"));
        in_order(&stopped, &["stop-end top", &begin, &end, "stop root"]);
    }
    in_order(&stopped, &["stop left", "stop-end right"]);
    in_order(&stopped, &["stop right", "stop-end left"]);
    assert_eq!(cluster.shell("node2", "grep -c start /run/order"), "8");
}

#[test]
fn failed_starts_and_stops_follow_the_policies_of_their_group() {
    let Some(cluster) = Cluster::up("failures") else {
        return;
    };
    let not_here = "test ! -e /run/broken";
    let counted = "echo x >>/run/tries; test ! -e /run/broken";
    cluster.shell("node1", "touch /run/broken");
    let groups = [
        switchable("next", "", not_here, "true"),
        switchable("waits", "on_start_failure = \"wait\"", not_here, "true"),
        switchable(
            "retries",
            "on_start_failure = { retry = 2 }",
            counted,
            "true",
        ),
        switchable("clings", "", "true", "test ! -e /run/broken"),
        switchable(
            "killed",
            "on_stop_failure = \"kill\"",
            "true",
            "rm -f /run/killed; false",
        ),
    ];
    cluster.reconfigure("node1", |text| text + &groups.concat());
    let status = cluster.until("node2", "every start decided", |s| {
        is_on(s, "next", "node2")
            && is_on(s, "retries", "node2")
            && is_on(s, "clings", "node1")
            && is_on(s, "killed", "node1")
            && group(s, "waits").verdict.contains("the operator decides")
    });
    assert!(group(&status, "waits").active_on.is_empty(), "{status:#?}");
    assert!(
        unfit(&status, "next", "node1").contains("failed there"),
        "{status:#?}"
    );
    // Once, and twice more.
    assert_eq!(cluster.shell("node1", "grep -c x /run/tries"), "3");

    // A stop that fails keeps everybody else from starting it.
    let _ = cluster.tried("node1", &["group", "switch", "clings", "--to", "node2"]);
    let status = cluster.until("node2", "the failed stop", |s| {
        group(s, "clings").verdict.contains("could not be stopped")
    });
    pass(1500);
    cluster.shell("node2", "test ! -e /run/clings");
    assert!(
        group(&status, "clings").verdict.contains("operator"),
        "{status:#?}"
    );
    // Where the policy is to kill, what is left is killed, and it moves.
    cluster.hotpair("node1", &["group", "switch", "killed", "--to", "node2"]);
    cluster.runs("node1", "killed", "node2");

    // The operator mends it and has it tried again.
    cluster.shell("node1", "rm /run/broken");
    for name in ["clings", "waits", "next"] {
        cluster.insist("node1", &["group", "clear", name]);
    }
    cluster.until("node1", "the mended groups", |s| {
        state(s, "waits") == "running" && state(s, "clings") == "running"
    });
}

#[test]
fn node_where_it_runs_unasked_or_cannot_run_does_not_take_over() {
    let Some(cluster) = Cluster::up("unasked") else {
        return;
    };
    cluster.add(
        "node1",
        "shop",
        &switchable("shop", "", "true", "true"),
        "node1",
    );
    cluster.shell("node2", "touch /run/shop");
    let status = cluster.until("node1", "it running on node2 too", |s| {
        !unfit(s, "shop", "node2").is_empty()
    });
    assert!(
        unfit(&status, "shop", "node2").contains("runs here although it should not"),
        "{status:#?}"
    );
    assert!(is_on(&status, "shop", "node1"), "{status:#?}");
    cluster.refused("node1", &["group", "switch", "shop", "--to", "node2"], 1);
    cluster.shell("node2", "rm /run/shop");
    cluster.until("node1", "node2 fit again", |s| {
        unfit(s, "shop", "node2").is_empty()
    });

    // A program that is not there any more: on the standby it is unfit; where it runs it is only degraded.
    for node in ["node1", "node2"] {
        cluster.shell(node, "cp /bin/true /run/tool; chmod 755 /run/tool");
    }
    let tool = r#"
[group.tool]
nodes = ["node1", "node2"]

[group.tool.program.tool-p]
start = ["/run/tool"]
stop = ["/bin/true"]
"#;
    cluster.add("node1", "tool", tool, "node1");
    cluster.shell("node2", "rm /run/tool");
    cluster.until("node1", "node2 without the program", |s| {
        unfit(s, "tool", "node2").contains("/run/tool")
    });
    cluster.shell("node1", "rm /run/tool");
    cluster.until("node1", "the degraded group", |s| {
        state(s, "tool") == "degraded" && group(s, "tool").active_on == ["node1"]
    });
    let events = cluster.hotpair("node1", &["events"]);
    assert!(!events.contains("tool-p is restarted"), "{events}");
    for node in ["node1", "node2"] {
        cluster.shell(node, "cp /bin/true /run/tool; chmod 755 /run/tool");
    }
    cluster.runs("node2", "tool", "node1");
    cluster.until("node1", "node2 fit again", |s| {
        unfit(s, "tool", "node2").is_empty()
    });
}

#[test]
fn maintenance_of_a_resource_a_node_and_a_group_on_a_node_is_looked_at_and_not_acted_on() {
    let Some(cluster) = Cluster::up("maintenance") else {
        return;
    };
    let watch = cluster.watch();
    cluster.add(
        "node1",
        "shop",
        &switchable("shop", "", "true", "true"),
        "node1",
    );
    let maintenance = |switch: &str, of: &[&str]| {
        cluster.hotpair("node2", &[&["maintenance", switch], of].concat());
    };

    // The resource: its failure is seen, and nothing done, until it is over.
    let resource = ["--group", "shop", "--resource", "shop-p"];
    maintenance("on", &resource);
    cluster.shell("node1", "rm /run/shop");
    cluster.until("node2", "the failure", |s| {
        let resource = &group(s, "shop").resources[0];
        resource.state == "maintenance" && !resource.detail.is_empty()
    });
    cluster.shell("node1", "test ! -e /run/shop");
    maintenance("off", &resource);
    cluster.wait_for("the restart", || {
        cluster
            .0
            .exec("node1", &["test", "-e", "/run/shop"])
            .is_ok_and(|o| o.status.success())
    });
    cluster.runs("node2", "shop", "node1");

    // The group on the standby: that node is not given it.
    maintenance("on", &["--group", "shop", "--node", "node2"]);
    cluster.until("node2", "node2 out for it", |s| {
        unfit(s, "shop", "node2").contains("maintenance") && unfit(s, PRACTICE, "node2").is_empty()
    });
    cluster.refused("node1", &["group", "switch", "shop", "--to", "node2"], 1);
    maintenance("off", &["--group", "shop", "--node", "node2"]);
    cluster.until("node2", "node2 fit again", |s| {
        unfit(s, "shop", "node2").is_empty()
    });

    // The active node: what is on it goes on, whatever fails there, and nobody takes it.
    maintenance("on", &["--node", "node1"]);
    cluster.until("node2", "its groups pinned", |s| {
        group(s, PRACTICE).pinned.is_some() && group(s, "shop").pinned.is_some()
    });
    let app = cluster.app("node1");
    cluster.shell("node1", "rm /run/shop");
    pass(1500);
    cluster.shell("node1", "test ! -e /run/shop");
    cluster.fault("node1", Fault::Kill(Target::Daemon));
    pass(1000);
    cluster.until("node1", "the daemon back", |s| {
        group(s, PRACTICE).pinned.is_some()
    });
    assert_eq!(cluster.app("node1"), app);
    watch.unnoticed();
    maintenance("off", &["--node", "node1"]);
    cluster.runs("node2", "shop", "node1");
    cluster.settled("node1");
    assert_eq!(cluster.app("node1"), app);
}
