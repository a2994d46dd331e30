//! What a group's policies say: who starts it, who takes it over, whether it returns.

use crate::cluster::{Cluster, PRACTICE, all_well, group, is_on, pass, switchable};
use hotpair_api::StatusView;
use hotpair_lab::Fault;

/// A group of one program that only leaves a file; `policies` are lines of it.
fn small(name: &str, policies: &str) -> String {
    switchable(name, policies, "true", "true")
}

#[test]
fn takeover_is_confirmed_by_the_operator_or_comes_after_its_limit() {
    let Some(cluster) = Cluster::up("confirm") else {
        return;
    };
    let groups = [
        small("asks", "confirm_takeover = true"),
        small("patient", "confirm_takeover = { within_s = 12 }"),
    ];
    cluster.reconfigure("node1", |text| text + &groups.concat());
    cluster.until("node1", "the groups on node1", |s| {
        is_on(s, "asks", "node1") && is_on(s, "patient", "node1")
    });
    let foreseen = cluster.hotpair("node2", &["simulate", "--fail", "node1"]);
    assert!(foreseen.contains("hotpair group start asks"), "{foreseen}");

    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", PRACTICE, "node2");
    let status = cluster.status("node2").expect("it answers");
    for name in ["asks", "patient"] {
        assert!(!is_on(&status, name, "node2"), "{name}: {status:#?}");
        cluster.shell("node2", &format!("test ! -e /run/{name}"));
        let why = cluster.hotpair("node2", &["explain", name]);
        let word = format!("a takeover needs your word: say `hotpair group start {name}`");
        assert!(why.contains(&word), "{why}");
    }
    cluster.runs("node2", "patient", "node2");
    let status = cluster.status("node2").expect("it answers");
    assert!(!is_on(&status, "asks", "node2"), "{status:#?}");
    cluster.hotpair("node2", &["group", "start", "asks"]);
    cluster.runs("node2", "asks", "node2");

    // What a node says of itself needs no confirmation.
    cluster.fault("node1", Fault::Boot);
    cluster.until("node2", "all well", all_but_pinned);
    cluster.hotpair("node2", &["node", "drain", "node2"]);
    cluster.runs("node1", "asks", "node1");
}

#[test]
fn tests_of_ones_own_veto_a_node_and_never_grant_one() {
    let Some(cluster) = Cluster::up("veto") else {
        return;
    };
    let test = r#"
[[group.judged.program.judged-p.detector]]
script = ["/bin/sh", "-c", "test -e /run/good || { echo no uplink; exit 1; }"]
of = "node"
interval_s = 0.2
"#;
    for node in ["node1", "node2"] {
        cluster.shell(node, "touch /run/good");
    }
    cluster.reconfigure("node1", |text| text + &small("judged", "") + test);
    cluster.runs("node1", "judged", "node1");
    cluster.until("node1", "settled", all_but_pinned);

    // The standby is unfit by its own test, so nobody takes over.
    cluster.shell("node2", "rm /run/good");
    cluster.until("node1", "the veto of node2", |s| {
        let view = group(s, "judged");
        let fit = view.nodes.iter().find(|it| it.name == "node2");
        fit.is_some_and(|it| !it.fit && it.reason.contains("no uplink"))
            && is_on(s, "judged", "node1")
    });
    cluster.shell("node1", "rm /run/good");
    cluster.until("node1", "no node left", |s| !is_on(s, "judged", "node1"));
    pass(1000);
    let status = cluster.status("node1").expect("it answers");
    assert!(
        !is_on(&status, "judged", "node1") && !is_on(&status, "judged", "node2"),
        "{status:#?}"
    );
    let why = cluster.hotpair("node2", &["explain", "judged"]);
    assert!(why.contains("no uplink"), "{why}");

    // Failed everywhere, it waits for the operator, and the test has its say again.
    let said = cluster.tried("node2", &["group", "start", "judged"]);
    assert!(said.code != Some(0), "{said:?}");
    cluster.shell("node2", "touch /run/good");
    cluster.until("node1", "node2 without the veto", |s| {
        let nodes = &group(s, "judged").nodes;
        nodes.iter().any(|it| it.name == "node2" && it.fit)
    });
    cluster.hotpair("node2", &["group", "start", "judged"]);
    cluster.runs("node1", "judged", "node2");
    // At once, not after three restarts in vain.
    cluster.shell("node1", "touch /run/good");
    cluster.until("node2", "node1 without the veto", |s| {
        let nodes = &group(s, "judged").nodes;
        nodes.iter().any(|it| it.name == "node1" && it.fit)
    });
    cluster.shell("node2", "rm /run/good");
    cluster.runs("node1", "judged", "node1");
    let events = cluster.hotpair("node1", &["events"]);
    assert!(!events.contains("is restarted"), "{events}");
}

#[test]
fn each_group_follows_its_own_policies() {
    let Some(cluster) = Cluster::up("policies") else {
        return;
    };
    let groups = [
        small("manual", "start = \"manual\""),
        small("returns", "failback = { delay_s = 2 }"),
        small("never", "takeover = \"never\""),
        small("highest", "takeover = \"highest-only\""),
        small("off", ""),
        small("offhere", ""),
    ];
    cluster.reconfigure("node1", |text| text + &groups.concat());
    let others = ["returns", "never", "highest", "off", "offhere"];
    let status = cluster.until("node1", "the automatic groups", |s| {
        others.iter().all(|name| is_on(s, name, "node1"))
    });
    assert_eq!(group(&status, "manual").state, "stopped", "{status:#?}");
    cluster.hotpair("node2", &["group", "start", "manual"]);
    cluster.hotpair("node2", &["group", "disable", "off"]);
    cluster.hotpair("node2", &["group", "disable", "offhere", "--node", "node2"]);
    cluster.until("node2", "all settled", |s| {
        is_on(s, "manual", "node1") && group(s, "off").disabled && all_but_pinned(s)
    });

    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", PRACTICE, "node2");
    cluster.runs("node2", "returns", "node2");
    pass(1500);
    let status = cluster.status("node2").expect("it answers");
    for name in ["manual", "never", "highest", "off", "offhere"] {
        assert!(!is_on(&status, name, "node2"), "{name}: {status:#?}");
        let why = cluster.hotpair("node2", &["explain", name]);
        assert!(!why.is_empty());
        let file = format!("test ! -e /run/{name}");
        cluster.shell("node2", &file);
    }

    cluster.fault("node1", Fault::Boot);
    cluster.until("node2", "its groups back on node1", |s| {
        ["manual", "never", "highest", "off", "offhere", "returns"]
            .iter()
            .all(|name| is_on(s, name, "node1"))
            && is_on(s, PRACTICE, "node2")
    });

    cluster.hotpair("node1", &["group", "enable", "off"]);
    cluster.hotpair("node1", &["group", "enable", "offhere", "--node", "node2"]);
    cluster.until("node2", "all settled", all_but_pinned);
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", "off", "node2");
    cluster.runs("node2", "offhere", "node2");
}

/// A group that must be with, apart from or after others goes where they leave it room, in their order.
#[test]
fn groups_keep_their_relations_through_failover_and_switchover() {
    let Some(cluster) = Cluster::up("relations") else {
        return;
    };
    // `aside` has the preferred node, but is kept from it by `practice`, which is there.
    let groups = [
        small("follower", &format!("with = [\"{PRACTICE}\"]")),
        small("aside", &format!("apart = [\"{PRACTICE}\"]")),
        small(
            "later",
            &format!("after = [\"{PRACTICE}\"]\nprefer_apart = [\"{PRACTICE}\"]"),
        ),
    ];
    cluster.reconfigure("node1", |text| text + &groups.concat());
    let parted = |practice: &'static str, other: &'static str| {
        move |s: &StatusView| {
            is_on(s, PRACTICE, practice)
                && is_on(s, "follower", practice)
                && is_on(s, "aside", other)
        }
    };
    cluster.until("node1", "each where it belongs", |s| {
        parted("node1", "node2")(s) && is_on(s, "later", "node2")
    });
    let shown = cluster.hotpair("node2", &["group", "show", "aside"]);
    assert!(
        shown.contains(&format!("must run apart from {PRACTICE}")),
        "{shown}"
    );

    // Nobody moves alone, and nobody gets in the way of another one.
    for name in ["follower", "aside"] {
        let why = cluster.refused("node1", &["group", "switch", name], 1);
        assert!(why.contains(PRACTICE), "{why}");
    }
    let why = cluster.refused("node1", &["group", "switch", PRACTICE], 1);
    assert!(why.contains("aside"), "{why}");
    let foreseen = cluster.hotpair("node1", &["simulate", "--fail", "node2"]);
    assert!(foreseen.contains("aside waits"), "{foreseen}");

    cluster.hotpair("node1", &["group", "stop", "aside"]);
    cluster.hotpair("node1", &["group", "switch", PRACTICE]);
    cluster.until("node1", "the follower to go along", |s| {
        is_on(s, PRACTICE, "node2") && is_on(s, "follower", "node2")
    });
    cluster.hotpair("node1", &["group", "start", "aside"]);
    cluster.until("node1", "the other one aside", parted("node2", "node1"));

    cluster.until("node1", "all to be fit", |s| {
        group(s, PRACTICE).pinned.is_none() && group(s, "follower").pinned.is_none()
    });
    cluster.fault("node2", Fault::PowerCut);
    // The node that is left has what must be apart: the others wait, and say for what.
    cluster.until("node1", "nobody to take them over", |s| {
        s.nodes
            .iter()
            .any(|node| node.name == "node2" && node.state == "down")
    });
    let why = cluster.hotpair("node1", &["explain", PRACTICE]);
    assert!(why.contains("apart from aside"), "{why}");
    cluster.insist("node1", &["group", "stop", "aside"]);
    cluster.until("node1", "all, one after the other", |s| {
        [PRACTICE, "follower", "later"]
            .iter()
            .all(|name| is_on(s, name, "node1"))
    });
}

/// As [`all_well`], but for the group that is pinned by its policy.
fn all_but_pinned(status: &StatusView) -> bool {
    let mut status = status.clone();
    for view in &mut status.groups {
        if view.name == "never" {
            view.pinned = None;
        }
        view.nodes.retain(|node| !node.reason.contains("disabled"));
    }
    all_well(&status)
}
