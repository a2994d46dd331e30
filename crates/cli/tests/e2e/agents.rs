//! Resources of OCF agents, with those of Debian's `resource-agents`.

use crate::cluster::{Cluster, group};
use hotpair_lab::Fault;
use std::path::Path;

const GROUP: &str = r#"
[group.ocf]
nodes = ["node1", "node2"]

[group.ocf.ocf.vip]
agent = "ocf:heartbeat:IPaddr2"
parameters = { ip = "10.77.1.121", cidr_netmask = 24, nic = "eth0" }

[group.ocf.ocf.work]
agent = "ocf:heartbeat:Dummy"
parameters = { state = "/run/ocf-work.state" }
requires = ["vip"]
interval_s = 1
"#;

#[test]
fn agents_start_are_monitored_move_and_fail_over() {
    if !Path::new("/usr/lib/ocf/resource.d/heartbeat/IPaddr2").exists() {
        eprintln!("skipped: needs the package resource-agents (scripts/setup tests)");
        return;
    }
    let Some(cluster) = Cluster::up("agents") else {
        return;
    };
    // What there is, and what it takes.
    let list = cluster.hotpair("node1", &["agents", "list"]);
    assert!(
        list.lines().any(|line| line == "ocf:heartbeat:IPaddr2"),
        "{list}"
    );
    let form = cluster.hotpair("node1", &["agents", "show", "IPaddr2", "--json"]);
    let form: serde_json::Value = serde_json::from_str(&form).expect("it is JSON");
    let first = &form["parameters"][0];
    assert_eq!(
        (&first["name"], &first["required"]),
        (&"ip".into(), &true.into())
    );
    let shown = cluster.hotpair("node1", &["agents", "show", "ocf:heartbeat:IPaddr2"]);
    assert!(shown.contains("its own limits: start 20 s"), "{shown}");
    cluster.refused("node1", &["agents", "show", "ocf:heartbeat:NoSuch"], 1);
    // What its agents would not take is refused, with its place.
    let present = cluster.hotpair("node1", &["config", "show"]);
    let wrong = cluster.apply("node1", &(present + &GROUP.replace("nic =", "nick =")));
    assert_eq!(wrong.code, Some(5), "{wrong:?}");
    assert!(wrong.err.contains("has no parameter `nick`"), "{wrong:?}");
    assert!(wrong.err.contains("did you mean `nic`"), "{wrong:?}");

    let has = |host: &str| {
        let addresses = cluster.shell(host, "ip -o addr show dev eth0");
        let state = cluster.shell(host, "ls /run/ocf-work.state 2>/dev/null || true");
        (addresses.contains("10.77.1.121/24"), !state.is_empty())
    };
    // A shorter margin than the default 3 s, which a takeover of what no gate stops waits.
    let margin = "\n[timing]\nungated_margin_ms = 500\n";
    cluster.add("node1", "ocf", &format!("{GROUP}{margin}"), "node1");
    assert_eq!((has("node1"), has("node2")), ((true, true), (false, false)));
    let kept = cluster.hotpair("node1", &["config", "show"]);
    let own = kept
        .split("[group.ocf.ocf.work]")
        .nth(1)
        .unwrap_or_default();
    assert!(
        own.contains("start_timeout_s = 20"),
        "the agent's own limits: {kept}"
    );

    // Found not running, it is started again in its place.
    cluster.shell("node1", "rm /run/ocf-work.state");
    cluster.wait_for("a restart in place", || has("node1") == (true, true));
    let status = cluster.runs("node2", "ocf", "node1");
    let work = group(&status, "ocf")
        .resources
        .iter()
        .find(|r| r.name == "work");
    assert_eq!(work.map(|r| r.kind.as_str()), Some("ocf"), "{status:#?}");

    cluster.hotpair("node1", &["group", "switch", "ocf", "--to", "node2"]);
    cluster.runs("node1", "ocf", "node2");
    assert_eq!((has("node1"), has("node2")), ((false, false), (true, true)));

    cluster.fault("node2", Fault::PowerCut);
    cluster.runs("node1", "ocf", "node1");
    assert_eq!(has("node1"), (true, true));
}
