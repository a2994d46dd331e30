//! What is said when something stands in the way.

use super::edit::{growth_waits, left_behind};
use super::{comparing, overwritten};
use hotpair_api::{MirrorView, StatusView};
use serde_json::{Value, json};

fn copy(node: &str, state: &str) -> Value {
    json!({
        "node": node, "number": 1, "state": state, "place": "/dev/vg/db", "disk": "", "connected": true,
        "open": false,
    })
}

fn view(change: impl FnOnce(&mut Value)) -> MirrorView {
    let mut view = json!({
        "group": "db", "name": "data", "size": 64 << 20, "mode": "synchronous", "generation": "1",
        "active_on": "node1", "alone": false, "attention": [], "here": null,
        "copies": [copy("node1", "up to date"), copy("node2", "up to date")],
    });
    change(&mut view);
    serde_json::from_value(view).expect("a view")
}

fn status(node2: &str) -> StatusView {
    let node = |name: &str, state: &str| {
        json!({
            "name": name, "number": 1, "state": state, "boot_id": "", "votes": true, "maintenance": false,
            "drained": false, "held_out": false, "links": [],
        })
    };
    let status = json!({
        "cluster": { "name": "c", "id": "1", "revision": 1, "guarantee": "", "guarantee_reason": "" },
        "node": "node1", "leader": "node1", "term": 1, "version": "1.1", "committed": "1.1", "lease": true,
        "disarmed": false, "nodes": [node("node1", "online"), node("node2", node2)], "witness": null, "groups": [],
    });
    serde_json::from_value(status).expect("a status")
}

/// Why it is not verified, and what to do.
fn refusal(view: &MirrorView, node2: &str) -> String {
    let failure = comparing(view, &status(node2)).expect_err("a refusal");
    format!("{}\n{}", failure.message, failure.hint.unwrap_or_default())
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn verification_says_what_is_missing_where_and_what_to_do() {
    let good = view(|_| {});
    let active = comparing(&good, &status("online")).expect("comparable");
    assert_eq!(active, "node1");
    says(
        &refusal(&good, "down"),
        &[
            "db/data",
            "node2 is down",
            "/dev/vg/db",
            "mirror show db/data --wait",
        ],
    );
    let closed = view(|view| view["active_on"] = Value::Null);
    says(&refusal(&closed, "online"), &["not open", "group start db"]);
    let outdated = view(|view| {
        view["copies"][1]["state"] = "outdated".into();
        view["attention"] = json!(["it is resynchronised"]);
    });
    says(
        &refusal(&outdated, "online"),
        &["copy on node2 is outdated", "it is resynchronised"],
    );
    let apart = view(|view| {
        view["copies"][0]["connected"] = false.into();
        view["copies"][1]["connected"] = false.into();
    });
    says(&refusal(&apart, "online"), &["not connected", "TCP port"]);
    let failed = view(|view| view["copies"][1]["disk"] = "it is gone".into());
    says(
        &refusal(&failed, "online"),
        &["disk of node2", "it is gone", "mend /dev/vg/db on node2"],
    );
}

#[test]
fn growth_says_whom_it_waits_for() {
    let good = view(|_| {});
    assert_eq!(growth_waits(&good, &status("online")), None);
    let text = growth_waits(&good, &status("down")).expect("a note");
    says(
        &text,
        &["node2 is down", "so does the device", "mirror show db/data"],
    );
    let alone = view(|view| view["copies"][1]["state"] = "outdated".into());
    let text = growth_waits(&alone, &status("silent")).expect("a note");
    says(&text, &["node2 is silent", "holds up nobody else"]);
    let closed = view(|view| view["active_on"] = Value::Null);
    let text = growth_waits(&closed, &status("online")).expect("a note");
    says(&text, &["not open on any node", "once db runs"]);
}

#[test]
fn first_copy_is_kept_and_another_is_lost() {
    let views = view(|view| view["copies"][0]["first"] = true.into());
    let first = overwritten(&views, &views.copies[0]);
    says(
        &first,
        &["becomes the data", "64 MiB", "/dev/vg/db on node1"],
    );
    assert!(!first.contains("lost"), "{first}");
    says(&overwritten(&views, &views.copies[1]), &["will be lost"]);
}

#[test]
fn group_without_its_mirror_says_how_it_runs_again() {
    let group = |state: &str, resources: Value| {
        let group = json!({
            "name": "db", "state": state, "active_on": [], "holder": null, "epoch": 1, "pinned": null,
            "maintenance": false, "disabled": false, "stopped_resources": [], "reason": "", "verdict": "",
            "resources": resources, "nodes": [],
        });
        left_behind(&serde_json::from_value(group).expect("a group"))
    };
    let one = json!([{
        "name": "ip", "kind": "address", "state": "stopped", "detail": "", "restarts": 0, "restart_due": false,
    }]);
    let text = group("failed", one.clone()).expect("a note");
    says(&text, &["still failed", "group clear db", "group start db"]);
    let text = group("stopped", one.clone()).expect("a note");
    says(&text, &["is stopped", "group start db"]);
    let text = group("stopped", json!([])).expect("a note");
    says(&text, &["no resources left"]);
    assert_eq!(group("running", one), None);
}
