//! Start programs as they come: hanging, failing, forking, flooding. And addresses of IPv6.

use crate::cluster::{Cluster, PRACTICE, group, pass};
use hotpair_lab::Fault;

/// A group of one program, on node1 alone.
fn program(name: &str, start: &str) -> String {
    format!(
        r#"
[group.{name}]
nodes = ["node1"]

[group.{name}.program.{name}-p]
start = ["/bin/sh", "-c", "{start}"]
stop = ["/bin/true"]
start_timeout_s = 1
stop_timeout_s = 2
"#
    )
}

#[test]
fn start_programs_that_hang_fail_fork_or_flood_harm_nobody_else() {
    let Some(cluster) = Cluster::up("programs") else {
        return;
    };
    let watch = cluster.watch();
    let groups = [
        program("hangs", "sleep 1000"),
        program("fails", "exit 3"),
        program("forks", "sleep 1000 & sleep 1000 & exit 0"),
        program("floods", "timeout 0.7 yes flood; exit 0"),
        program("stubborn", "trap '' TERM INT; while :; do sleep 1; done"),
    ];
    cluster.reconfigure("node1", |text| text + &groups.concat());
    let status = cluster.until("node2", "every group decided", |s| {
        let state = |name: &str| group(s, name).state.clone();
        ["hangs", "fails", "stubborn"]
            .iter()
            .all(|g| !["starting", "running"].contains(&state(g).as_str()))
            && ["forks", "floods"].iter().all(|g| state(g) == "running")
    });
    for name in ["hangs", "fails", "stubborn"] {
        let view = group(&status, name);
        assert!(!view.verdict.is_empty(), "{view:#?}");
    }
    // What hung is gone, what forked away is still there.
    pass(500);
    assert_eq!(cluster.shell("node1", "pgrep -fc '^[s]leep 1000'"), "2");
    cluster.runs("node1", PRACTICE, "node1");
    watch.unnoticed();
    cluster.hotpair("node1", &["group", "stop", "forks"]);
    assert_eq!(
        cluster.shell("node1", "pgrep -fc '^[s]leep 1000' || true"),
        "0"
    );
}

#[test]
fn hooks_are_run_on_either_node_and_know_why() {
    let Some(cluster) = Cluster::up("hooks") else {
        return;
    };
    let hook = |when: &str| {
        format!(
            r#"
[[group.practice.address.ip.hook]]
when = "{when}"
command = ["/bin/sh", "-c", "echo \"$HOTPAIR_HOOK $HOTPAIR_GROUP $HOTPAIR_NODE: $HOTPAIR_REASON\" >>/run/hooks"]
timeout_s = 2
"#
        )
    };
    let hooks = ["before_start", "after_start", "before_stop", "after_stop"].map(hook);
    cluster.reconfigure("node1", |text| text + &hooks.concat());
    let told = |node: &str| cluster.shell(node, "cat /run/hooks 2>/dev/null || true");
    assert_eq!(told("node1"), "", "nothing was started or stopped");
    cluster.hotpair("node1", &["group", "switch", PRACTICE, "--to", "node2"]);
    cluster.runs("node1", PRACTICE, "node2");
    cluster.wait_for("the hooks of both nodes", || {
        told("node1").lines().count() == 2 && told("node2").lines().count() == 2
    });
    let (left, taken) = (told("node1"), told("node2"));
    let is = |line: Option<&str>, hook: &str, node: &str| {
        let line = line.unwrap_or_default();
        assert!(
            line.starts_with(&format!("{hook} practice {node}: ")),
            "{line}"
        );
        assert!(line.contains("switch"), "{line}");
    };
    is(left.lines().next(), "before_stop", "node1");
    is(left.lines().last(), "after_stop", "node1");
    is(taken.lines().next(), "before_start", "node2");
    is(taken.lines().last(), "after_start", "node2");
    cluster.fault("node2", Fault::PowerCut);
    cluster.runs("node1", PRACTICE, "node1");
    cluster.wait_for("the hooks after the takeover", || {
        told("node1").lines().count() == 4
    });
    let taken = told("node1");
    let last = taken.lines().last().unwrap_or_default();
    assert!(last.starts_with("after_start practice node1: "), "{last}");
    assert!(last.contains("node2"), "{last}");
}

#[test]
fn virtual_address_of_ipv6_moves_like_one_of_ipv4() {
    let Some(cluster) = Cluster::up("ipv6") else {
        return;
    };
    let sixth = r#"
[group.six]
nodes = ["node1", "node2"]

[group.six.address.six-ip]
address = "fd77:1::50/64"
nics = { node1 = ["eth0"], node2 = ["eth0"] }

[group.six.service.six-app]
command = ["/run/bin/hotpair", "lab", "sample-app", "--listen", "[fd77:1::50]:8077"]
requires = ["six-ip"]
"#;
    cluster.reconfigure("node1", |text| text + sixth);
    cluster.runs("node2", "six", "node1");
    let answers = |from: &str| {
        let curl = [
            "curl",
            "-sg",
            "--max-time",
            "1",
            "http://[fd77:1::50]:8077/",
        ];
        let said = cluster
            .0
            .exec("client", &curl)
            .expect("the client runs programs");
        String::from_utf8_lossy(&said.stdout).starts_with(from)
    };
    cluster.wait_for("an answer of node1", || answers("node1 "));
    cluster.fault("node1", Fault::CutLinks);
    cluster.runs("node2", "six", "node2");
    cluster.wait_for("an answer of node2", || answers("node2 "));
    cluster.heal();
    cluster.settled("node2");
    assert!(answers("node2 "));
}
