//! Mirrored volumes: the same data on the other node, whatever happens to one of them.

use crate::cluster::{Cluster, group, pass, runs_on};
use hotpair_api::MirrorView;
use hotpair_api::mirror::CopyView;
use hotpair_lab::{Fault, Target};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

pub const MIRROR: &str = r#"
[group.db]
nodes = ["node1", "node2"]

[group.db.mirror.data]
size = "64MiB"
device = "/var/lib/hotpair/data.img"

[group.db.mount.fs]
mirror = "data"
path = "/var/lib/db"
filesystem = "ext4"
make = true
"#;

/// The mirror as a node sees it, if it answers.
pub fn mirror(cluster: &Cluster, host: &str) -> Option<MirrorView> {
    let said = cluster.tried(host, &["mirror", "list", "--json"]);
    let views: Vec<MirrorView> = serde_json::from_str(&said.out).ok()?;
    views.into_iter().next()
}

pub fn copy<'a>(view: &'a MirrorView, node: &str) -> &'a CopyView {
    let found = view.copies.iter().find(|copy| copy.node == node);
    found.unwrap_or_else(|| panic!("no copy on {node}: {view:#?}"))
}

/// Waits until a node sees the copy of `node` in this state.
pub fn until_copy(cluster: &Cluster, host: &str, node: &str, state: &str) {
    let what = format!("{host} seeing the copy of {node} {state}");
    cluster.wait_for(&what, || {
        mirror(cluster, host).is_some_and(|view| copy(&view, node).state == state)
    });
}

/// Both copies are up to date, and both nodes know it.
pub fn in_sync(cluster: &Cluster) {
    in_sync_of(cluster, "db");
}

pub fn in_sync_of(cluster: &Cluster, name: &str) {
    for host in ["node1", "node2"] {
        for node in ["node1", "node2"] {
            until_copy(cluster, host, node, "up to date");
        }
    }
    cluster.until("node1", "both nodes fit", |s| {
        group(s, name).nodes.iter().all(|node| node.fit)
    });
}

/// A pair whose group `db` runs on node1, both copies up to date.
pub fn pair(name: &str) -> Option<Cluster> {
    with_db(Cluster::up(name)?, MIRROR)
}

/// The same, with this group.
pub fn with_db(cluster: Cluster, text: &str) -> Option<Cluster> {
    cluster.reconfigure("node1", |all| all + text);
    cluster.runs("node1", "db", "node1");
    in_sync(&cluster);
    Some(cluster)
}

/// Writes a file that is on stable storage when this returns.
pub fn write(cluster: &Cluster, host: &str, name: &str, text: &str) {
    let script = format!("printf %s '{text}' > /var/lib/db/{name} && sync /var/lib/db/{name}");
    cluster.shell(host, &script);
}

pub fn read(cluster: &Cluster, host: &str, name: &str) -> String {
    cluster.run(host, &["cat", &format!("/var/lib/db/{name}")])
}

/// The images of both nodes, compared byte by byte; the filesystem's own metadata lies beyond.
pub fn images_are_equal(cluster: &Cluster) {
    let sum = |host| {
        cluster.shell(
            host,
            "head -c 67108864 /var/lib/hotpair/data.img | sha256sum",
        )
    };
    cluster.wait_for("both images are equal", || sum("node1") == sum("node2"));
}

#[test]
fn mirror_is_made_by_one_command_and_its_data_moves_with_the_group() {
    let Some(cluster) = Cluster::up("mirror") else {
        return;
    };
    cluster.reconfigure("node1", |all| {
        all + "\n[group.db]\nnodes = [\"node1\", \"node2\"]\n"
    });
    let create = [
        "mirror",
        "create",
        "db/data",
        "--size",
        "64MiB",
        "--on",
        "node1=/var/lib/hotpair/data.img",
        "--on",
        "node2=/var/lib/hotpair/data.img",
        "--mount",
        "/var/lib/db",
    ];
    // A misspelled device on either node is told before anything is changed.
    let wrong =
        create.map(|word| word.replace("node2=/var/lib/hotpair/data.img", "node2=/dev/nothing"));
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    let text = cluster.refused("node1", &wrong, 1);
    assert!(
        text.contains("node2") && text.contains("/dev/nothing"),
        "{text}"
    );
    let preview = cluster.hotpair("node1", &[&create[..], &["--dry-run"]].concat());
    assert!(preview.contains("db"), "{preview}");
    assert!(mirror(&cluster, "node1").is_none());
    cluster.hotpair("node1", &create);
    in_sync(&cluster);
    cluster.runs("node1", "db", "node1");
    write(&cluster, "node1", "a", "written on node1");
    cluster.hotpair("node1", &["group", "switch", "db", "--to", "node2"]);
    assert_eq!(read(&cluster, "node2", "a"), "written on node1");
    write(&cluster, "node2", "a", "written on node2");
    cluster.hotpair("node1", &["group", "switch", "db", "--to", "node1"]);
    assert_eq!(read(&cluster, "node1", "a"), "written on node2");
    let view = mirror(&cluster, "node1").expect("a mirror");
    assert_eq!(view.active_on.as_deref(), Some("node1"), "{view:#?}");
    assert!(
        view.copies.iter().all(|copy| copy.state == "up to date"),
        "{view:#?}"
    );
    cluster.hotpair("node2", &["mirror", "verify", "data"]);
    cluster.hotpair("node1", &["group", "stop", "db"]);
    images_are_equal(&cluster);
}

#[test]
fn acknowledged_writes_survive_the_power_cut_of_either_node_in_turn() {
    let Some(cluster) = pair("mirror-power") else {
        return;
    };
    let (mut active, mut standby) = ("node1", "node2");
    for round in ["one", "two", "three"] {
        write(&cluster, active, round, round);
        cluster.fault(active, Fault::PowerCut);
        cluster.runs(standby, "db", standby);
        for written in ["one", "two", "three"] {
            assert_eq!(read(&cluster, standby, written), written);
            if written == round {
                break;
            }
        }
        write(&cluster, standby, "alone", round);
        until_copy(&cluster, standby, active, "outdated");
        cluster.fault(active, Fault::Boot);
        in_sync(&cluster);
        (active, standby) = (standby, active);
    }
    assert_eq!(read(&cluster, active, "alone"), "three");
    cluster.hotpair(active, &["group", "stop", "db"]);
    images_are_equal(&cluster);
}

#[test]
fn outdated_copy_waits_for_the_newer_one_whatever_is_switched_on_first() {
    let Some(cluster) = pair("mirror-old") else {
        return;
    };
    cluster.fault("node2", Fault::PowerCut);
    write(&cluster, "node1", "news", "only on node1");
    until_copy(&cluster, "node1", "node2", "outdated");
    cluster.fault("node1", Fault::PowerCut);
    cluster.fault("node2", Fault::Boot);
    cluster.until("node2", "why it waits", |s| {
        let fit = group(s, "db")
            .nodes
            .iter()
            .find(|node| node.name == "node2");
        fit.is_some_and(|fit| !fit.fit && fit.reason.contains("waits for node1"))
    });
    pass(2000);
    let status = cluster.status("node2").expect("a status");
    assert!(group(&status, "db").active_on.is_empty(), "{status:#?}");
    cluster.fault("node1", Fault::Boot);
    cluster.runs("node1", "db", "node1");
    assert_eq!(read(&cluster, "node1", "news"), "only on node1");
    in_sync(&cluster);
}

#[test]
fn standby_that_vanished_while_nothing_was_written_may_take_over() {
    let Some(cluster) = pair("mirror-lazy") else {
        return;
    };
    write(&cluster, "node1", "a", "on both");
    cluster.hotpair("node1", &["group", "stop", "db"]);
    cluster.fault("node2", Fault::PowerCut);
    cluster.until("node1", "node2 gone", |s| {
        s.nodes
            .iter()
            .any(|node| node.name == "node2" && node.state == "down")
    });
    cluster.fault("node1", Fault::PowerCut);
    cluster.fault("node2", Fault::Boot);
    cluster.insist("node2", &["group", "start", "db"]);
    cluster.runs("node2", "db", "node2");
    assert_eq!(read(&cluster, "node2", "a"), "on both");
}

#[test]
fn killed_daemon_and_killed_mirror_process_lose_no_write() {
    let Some(cluster) = pair("mirror-kill") else {
        return;
    };
    // A writer that counts what was acknowledged, outside the volume.
    cluster.shell(
        "node1",
        "(i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i > /var/lib/db/count 2>/dev/null && \
         sync /var/lib/db/count 2>/dev/null && echo $i > /run/acknowledged; sleep 0.02; done) >/dev/null 2>&1 &",
    );
    pass(500);
    cluster.fault("node1", Fault::Kill(Target::Daemon));
    pass(1000);
    let before: u32 = cluster
        .run("node1", &["cat", "/run/acknowledged"])
        .parse()
        .expect("a number");
    let now: u32 = read(&cluster, "node1", "count").parse().expect("a number");
    assert!(now >= before, "{now} after {before}");
    cluster.shell("node1", "kill -9 $(pgrep -of 'hotpair volume')");
    cluster.until("node1", "the mirror restarted in place", |s| {
        let db = group(s, "db");
        runs_on(db, "node1")
            && db
                .resources
                .iter()
                .any(|r| r.name == "data" && r.restarts > 0)
    });
    let acknowledged: u32 = cluster
        .run("node1", &["cat", "/run/acknowledged"])
        .parse()
        .expect("a number");
    let kept: u32 = read(&cluster, "node1", "count").parse().expect("a number");
    assert!(
        kept >= acknowledged,
        "{kept} is kept, {acknowledged} was acknowledged"
    );
    in_sync(&cluster);
}

#[test]
fn replication_goes_on_over_the_other_link() {
    let Some(cluster) = pair("mirror-links") else {
        return;
    };
    let link = |host: &str| {
        let view = mirror(&cluster, host)?;
        view.here?.link
    };
    cluster.wait_for("a link is used", || link("node1").is_some());
    let first = link("node1").expect("a link");
    let network = |name: &str| match name {
        "lan" => hotpair_lab::plan::Network::Lan,
        _ => hotpair_lab::plan::Network::Hb,
    };
    cluster.fault("node2", Fault::CutLink(network(&first)));
    write(&cluster, "node1", "a", "while one link was cut");
    cluster.wait_for("the other link is used", || {
        link("node1").is_some_and(|now| now != first)
    });
    in_sync(&cluster);
    cluster.heal();
}

#[test]
fn split_brain_is_found_and_ends_by_the_operators_choice() {
    let Some(cluster) =
        Cluster::without_witness("mirror-split").and_then(|cluster| with_db(cluster, MIRROR))
    else {
        return;
    };
    write(&cluster, "node1", "a", "on both");
    cluster.fault("node1", Fault::CutLinks);
    // Pinned: it goes on alone on its own mark.
    write(&cluster, "node1", "a", "only on node1");
    cluster.fault("node1", Fault::PowerCut);
    cluster.insist("node2", &["node", "down", "node1", "--yes-i-mean", "node1"]);
    cluster.runs("node2", "db", "node2");
    assert_eq!(read(&cluster, "node2", "a"), "on both");
    write(&cluster, "node2", "b", "only on node2");
    let show = ["mirror", "split-brain", "show", "data"];
    let shown = cluster.hotpair("node2", &show);
    let unknown = "files on node1 are not known: node1 cannot be reached now";
    assert!(shown.contains(unknown), "{shown}");
    cluster.heal();
    until_copy(&cluster, "node2", "node1", "split-brain");
    let shown = cluster.hotpair("node2", &show);
    for said in [
        "node1: split-brain",
        "without the other copy since",
        "a  differs: node1 13 B",
        "node2 7 B",
        "newer on node1",
        "b  only on node2: 13 B",
        "files that differ: 2,",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let all = cluster.hotpair(
        "node1",
        &["--json", "mirror", "split-brain", "show", "data"],
    );
    let all: serde_json::Value = serde_json::from_str(&all).expect("JSON");
    let differing = all["files"]["differing"].as_array().expect("files");
    let paths: Vec<_> = differing
        .iter()
        .filter_map(|one| one["path"].as_str())
        .collect();
    assert_eq!(paths, ["a", "b"], "{all:#}");
    let less = ["mirror", "split-brain", "show", "data", "--no-files"];
    assert!(!cluster.hotpair("node1", &less).contains("files"));
    // Nothing is left of the look.
    for host in ["node1", "node2"] {
        cluster.shell(host, "! ls -A /run/hotpair/looks/db 2>/dev/null | grep .");
        cluster.shell(host, "! grep -q /run/hotpair/looks /proc/self/mountinfo");
    }
    let snapshots = cluster.hotpair("node1", &["mirror", "snapshot", "list", "data"]);
    assert!(snapshots.contains("no snapshots"), "{snapshots}");
    let resolve = ["mirror", "split-brain", "resolve", "data", "--keep"];
    cluster.refused("node2", &[&resolve[..], &["node2"]].concat(), 1);
    cluster.hotpair(
        "node2",
        &[&resolve[..], &["node2", "--yes-i-mean", "node2"]].concat(),
    );
    in_sync(&cluster);
    let snapshots = cluster.hotpair("node1", &["mirror", "snapshot", "list", "data"]);
    assert!(
        snapshots.contains("node1"),
        "the loser was not snapshotted: {snapshots}"
    );
    assert_eq!(read(&cluster, "node2", "b"), "only on node2");
}

/// Writes a block of the device itself, on stable storage when this returns.
fn write_block(cluster: &Cluster, host: &str, text: &str) {
    let script = format!(
        "printf %s '{text}' | dd of=/run/hotpair/devices/db/data bs=4096 conv=sync,fsync,notrunc oflag=direct status=none"
    );
    cluster.shell(host, &script);
}

fn read_block(cluster: &Cluster, host: &str) -> String {
    let script =
        "dd if=/run/hotpair/devices/db/data bs=4096 count=1 iflag=direct status=none | tr -d '\\0'";
    cluster.shell(host, script)
}

/// `active` goes on alone and is lost; the other node takes the group over and writes, if it has something to
/// write. Then both see each other again.
fn split(cluster: &Cluster, active: &str, own: &str, other: &str, others: Option<&str>) {
    // Else the write would wait for the other node's vote, and fail.
    for host in [active, other] {
        cluster.until(host, "the group pinned", |s| {
            let reason = &s.cluster.guarantee_reason;
            group(s, "db").pinned.is_some() && !reason.contains("being changed")
        });
    }
    cluster.fault(active, Fault::CutLinks);
    write_block(cluster, active, own);
    cluster.fault(active, Fault::PowerCut);
    cluster.insist(other, &["node", "down", active, "--yes-i-mean", active]);
    cluster.runs(other, "db", other);
    if let Some(text) = others {
        write_block(cluster, other, text);
    }
    cluster.heal();
}

#[test]
fn split_brain_ends_by_the_policy_that_was_chosen() {
    const RAW: &str = "
[group.db]
nodes = [\"node1\", \"node2\"]

[group.db.mirror.data]
size = \"64MiB\"
device = \"/var/lib/hotpair/data.img\"
on_split_brain = \"younger\"
";
    let Some(cluster) =
        Cluster::without_witness("mirror-policy").and_then(|cluster| with_db(cluster, RAW))
    else {
        return;
    };
    let policy = |host: &str, from: &str, to: &str| {
        let line = |policy: &str| format!("on_split_brain = \"{policy}\"");
        cluster.reconfigure(host, |all| all.replace(&line(from), &line(to)));
    };
    let snapshots = |node: &str| {
        let listed = cluster.hotpair("node1", &["mirror", "snapshot", "list", "data"]);
        listed.lines().filter(|line| line.contains(node)).count()
    };
    write_block(&cluster, "node1", "on both");

    // The side that took over last is kept, while it serves.
    split(&cluster, "node1", "old one", "node2", Some("young one"));
    in_sync(&cluster);
    assert_eq!(read_block(&cluster, "node2"), "young one");
    assert_eq!((snapshots("node1"), snapshots("node2")), (1, 0));

    // Both have changes: that policy does not choose, not even once nobody uses either copy.
    policy("node2", "younger", "with-changes");
    split(&cluster, "node2", "old two", "node1", Some("young two"));
    until_copy(&cluster, "node1", "node2", "split-brain");
    let shown = cluster.hotpair("node1", &["mirror", "show", "data"]);
    assert!(shown.contains("kept once db is stopped, if"), "{shown}");
    cluster.hotpair("node1", &["group", "stop", "db"]);
    pass(1000);
    until_copy(&cluster, "node1", "node2", "split-brain");
    // The side that was active before is kept.
    policy("node1", "with-changes", "older");
    until_copy(&cluster, "node1", "node2", "up to date");
    cluster.insist("node1", &["group", "start", "db"]);
    cluster.runs("node1", "db", "node2");
    in_sync(&cluster);
    assert_eq!(read_block(&cluster, "node2"), "old two");
    assert_eq!((snapshots("node1"), snapshots("node2")), (2, 0));

    // Only the side that was lost has changes: the other one acknowledged no write.
    policy("node2", "older", "with-changes");
    split(&cluster, "node2", "old three", "node1", None);
    until_copy(&cluster, "node1", "node2", "split-brain");
    assert_eq!(read_block(&cluster, "node1"), "old two");
    cluster.hotpair("node1", &["group", "stop", "db"]);
    until_copy(&cluster, "node1", "node2", "up to date");
    cluster.insist("node1", &["group", "start", "db"]);
    cluster.runs("node1", "db", "node2");
    in_sync(&cluster);
    assert_eq!(read_block(&cluster, "node2"), "old three");
}

#[test]
fn disk_that_holds_something_is_overwritten_on_the_operators_word_only() {
    let Some(cluster) = Cluster::up("mirror-held") else {
        return;
    };
    // Filesystems that end where the volume does; the one of the first node becomes the data.
    for host in ["node1", "node2"] {
        cluster.shell(
            host,
            &format!(
                "mkdir /srv/{host} && echo {host} > /srv/{host}/whose && truncate -s 70M /var/lib/hotpair/data.img && \
                 mkfs.ext4 -q -d /srv/{host} /var/lib/hotpair/data.img 64M"
            ),
        );
    }
    cluster.reconfigure("node1", |all| all + MIRROR);
    let told = |node: &str, words: &str| {
        cluster.wait_for(words, || {
            mirror(&cluster, "node1").is_some_and(|view| {
                let told = view
                    .attention
                    .iter()
                    .any(|sentence| sentence.contains(words));
                told && copy(&view, node).disk.contains("ext4")
            })
        });
    };
    told(
        "node1",
        "on node1 holds a filesystem (ext4), which becomes the data",
    );
    told(
        "node2",
        "on node2 holds a filesystem (ext4), which the mirror would overwrite",
    );
    let unsure = |node| {
        let renew = ["mirror", "renew", "data", "--on", node, "--overwrite"];
        cluster.refused("node1", &renew, 1)
    };
    let asked = unsure("node1");
    assert!(asked.contains("its first 64 MiB are kept"), "{asked}");
    let asked = unsure("node2");
    assert!(asked.contains("will be lost"), "{asked}");
    renew(&cluster, "node1");
    cluster.runs("node1", "db", "node1");
    assert_eq!(read(&cluster, "node1", "whose"), "node1");
    renew(&cluster, "node2");
    in_sync(&cluster);
    cluster.hotpair("node1", &["group", "switch", "db", "--to", "node2"]);
    assert_eq!(read(&cluster, "node2", "whose"), "node1");
}

#[test]
fn directory_moves_onto_a_mirror_and_from_node_to_node() {
    let Some(cluster) = Cluster::up("mirror-dir") else {
        return;
    };
    cluster.reconfigure("node1", |all| {
        all + "\n[group.app]\nnodes = [\"node1\", \"node2\"]\n"
    });
    cluster.shell(
        "node1",
        "mkdir -p /var/lib/app/sub && echo kept > /var/lib/app/sub/file && chmod 640 /var/lib/app/sub/file && \
         ln -s sub/file /var/lib/app/link && chown 1234:4321 /var/lib/app/sub",
    );
    let create = [
        "mirror",
        "create",
        "app/data",
        "--size",
        "64MiB",
        "--on",
        "node1=/var/lib/hotpair/app.img",
        "--on",
        "node2=/var/lib/hotpair/app.img",
        "--directory",
        "/var/lib/app",
    ];
    // Too small, and in use: nothing is touched.
    let small = create.map(|word| if word == "64MiB" { "4MiB" } else { word });
    let refusal = cluster.refused("node1", &small, 1);
    assert!(refusal.contains("--size"), "{refusal}");
    cluster.shell(
        "node1",
        "(cd /var/lib/app && exec sleep 60) >/dev/null 2>&1 & echo $! > /run/user",
    );
    let refusal = cluster.refused("node1", &create, 1);
    assert!(refusal.contains("sleep"), "{refusal}");
    cluster.shell("node1", "kill $(cat /run/user)");
    let wrong = create.map(|word| match word {
        "node2=/var/lib/hotpair/app.img" => "node2=/dev/nothing",
        word => word,
    });
    let refusal = cluster.refused("node1", &wrong, 1);
    assert!(refusal.contains("/dev/nothing"), "{refusal}");
    // The device would not come.
    cluster.hotpair("node1", &["group", "stop", "app"]);
    let refusal = cluster.refused("node1", &create, 1);
    assert!(refusal.contains("hotpair group start app"), "{refusal}");
    assert!(mirror(&cluster, "node1").is_none());
    cluster.hotpair("node1", &["group", "start", "app"]);

    let said = cluster.hotpair("node1", &[&create[..], &["--json"]].concat());
    let said: serde_json::Value = serde_json::from_str(&said).expect("one JSON document");
    let kept = said["done"].as_str().unwrap_or_default();
    assert!(kept.contains("/var/lib/app.hotpair-old"), "{said}");
    cluster.runs("node1", "app", "node1");
    in_sync_of(&cluster, "app");
    cluster.hotpair("node1", &["group", "switch", "app", "--to", "node2"]);
    assert_eq!(cluster.run("node2", &["cat", "/var/lib/app/link"]), "kept");
    let attributes = cluster.run(
        "node2",
        &[
            "stat",
            "-c",
            "%a %u %g",
            "/var/lib/app/sub/file",
            "/var/lib/app/sub",
        ],
    );
    assert_eq!(attributes, "640 0 0\n755 1234 4321");
    cluster.hotpair("node1", &["group", "switch", "app", "--to", "node1"]);
    assert_eq!(
        cluster.run("node1", &["cat", "/var/lib/app.hotpair-old/link"]),
        "kept"
    );
    let confirm = ["mirror", "directory", "confirm", "app/data"];
    cluster.refused("node1", &confirm, 1);
    cluster.hotpair(
        "node1",
        &[&confirm[..], &["--yes-i-mean", "app.hotpair-old"]].concat(),
    );
    cluster.shell("node1", "test ! -e /var/lib/app.hotpair-old");
    assert_eq!(cluster.run("node1", &["cat", "/var/lib/app/link"]), "kept");
}

/// Has the copy of `node` made anew, whatever its disk holds.
pub fn renew(cluster: &Cluster, node: &str) {
    let renew = ["mirror", "renew", "data", "--on", node, "--overwrite"];
    cluster.hotpair("node1", &[&renew[..], &["--yes-i-mean", node]].concat());
}

/// What the last resynchronisations sent, in KiB, by the events of a node.
fn sent(cluster: &Cluster, host: &str) -> Vec<u64> {
    let events = cluster.hotpair(host, &["events", "--last", "200"]);
    let lines = events
        .lines()
        .filter(|line| line.contains("has everything again"));
    let number = |line: &str| {
        let word = line.rsplit(", ").next()?.split(' ').next()?;
        word.parse().ok()
    };
    lines.filter_map(number).collect()
}

#[test]
fn only_changed_blocks_are_sent_after_an_outage_of_either_side() {
    let Some(cluster) = pair("mirror-sent") else {
        return;
    };
    let mebibyte = "dd if=/dev/urandom of=/var/lib/db/big bs=1M count=1 conv=fsync status=none";
    cluster.shell("node1", &mebibyte.replace("count=1", "count=24"));
    assert_eq!(
        sent(&cluster, "node1").len(),
        1,
        "the first synchronisation"
    );
    cluster.fault("node2", Fault::PowerCut);
    until_copy(&cluster, "node1", "node1", "up to date");
    cluster.shell("node1", &mebibyte.replace("/big", "/more"));
    until_copy(&cluster, "node1", "node2", "outdated");
    cluster.fault("node2", Fault::Boot);
    in_sync(&cluster);
    let all = sent(&cluster, "node1");
    let last = *all.last().expect("a resynchronisation");
    // The file, and what the filesystem writes: for it, and 4 MiB of inode tables when it gets to that.
    // Not the 24 MiB that were there before.
    assert!(
        all.len() == 2 && (1024..12288).contains(&last),
        "{all:?} KiB"
    );
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", "db", "node2");
    cluster.shell("node2", &mebibyte.replace("/big", "/again"));
    cluster.fault("node1", Fault::Boot);
    in_sync(&cluster);
    let all = sent(&cluster, "node2");
    let last = *all.last().expect("a resynchronisation");
    assert!((1024..12288).contains(&last), "{all:?} KiB");
}

#[test]
fn modes_change_while_services_run_and_keep_what_they_promise() {
    let Some(cluster) = pair("mirror-mode") else {
        return;
    };
    let mode = |mode: &str| {
        cluster.reconfigure("node1", |all| {
            let rest: String = all
                .lines()
                .filter(|line| !line.starts_with("mode =") && !line.starts_with("lag_"))
                .map(|line| format!("{line}\n"))
                .collect();
            rest.replace(
                "[group.db.mirror.data]\n",
                &format!("[group.db.mirror.data]\nmode = \"{mode}\"\n"),
            )
        });
        cluster.wait_for("the mode is shown", || {
            mirror(&cluster, "node1").is_some_and(|view| view.mode.starts_with(mode))
        });
    };
    let opened = |host: &str| {
        cluster.shell(
            host,
            "stat -c %Y /run/hotpair/devices/db/data; findmnt -no SOURCE /var/lib/db",
        )
    };
    let before = opened("node1");
    mode("asynchronous");
    write(&cluster, "node1", "a", "asynchronous");
    assert_eq!(opened("node1"), before, "it was not opened anew");
    cluster.hotpair("node1", &["group", "switch", "db", "--to", "node2"]);
    assert_eq!(read(&cluster, "node2", "a"), "asynchronous");
    mode("memory");
    write(&cluster, "node2", "a", "memory");
    cluster.fault("node2", Fault::PowerCut);
    cluster.runs("node1", "db", "node1");
    assert_eq!(read(&cluster, "node1", "a"), "memory");
    cluster.fault("node2", Fault::Boot);
    in_sync(&cluster);
}

/// Bytes of a block of [`Writer`].
const BLOCK: u64 = 64 * 1024;

/// Fills the device from the start, block by block, as fast as it goes; each acknowledged block is told to the
/// outside, where a power cut does not reach it.
struct Writer {
    child: std::process::Child,
    lines: std::thread::JoinHandle<usize>,
}

impl Writer {
    fn start(cluster: &Cluster, host: &str, mark: &str) -> Self {
        let script = format!(
            "i=0; while [ $i -lt 1000 ]; do printf '{mark}%d\\n' $i | dd of=/run/hotpair/devices/db/data bs={BLOCK} \
             seek=$i conv=sync,notrunc oflag=direct status=none || exit 1; echo $i; i=$((i+1)); done"
        );
        let argv = ["sh", "-c", &script].map(str::to_owned);
        let mut command = cluster
            .0
            .command(host, &argv)
            .expect("the host runs programs");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let out = child.stdout.take().expect("a pipe");
        let lines = std::thread::spawn(move || {
            let lines = BufReader::new(out).lines();
            lines.map_while(Result::ok).count()
        });
        Self { child, lines }
    }

    /// Blocks that were acknowledged; the host has no power any more.
    fn end(mut self) -> usize {
        let _ = self.child.wait();
        self.lines.join().expect("it reads")
    }
}

/// Blocks that are on `host`; behind the first one that is missing there is none.
fn blocks(cluster: &Cluster, host: &str, mark: &str) -> usize {
    let script = format!(
        "dd if=/run/hotpair/devices/db/data bs={BLOCK} iflag=direct status=none | tr -d '\\0'"
    );
    let found = cluster.shell(host, &script);
    let wanted = |at: usize| format!("{mark}{at}");
    let lines: Vec<&str> = found.lines().collect();
    let count = (lines.iter().enumerate())
        .take_while(|(at, line)| **line == wanted(*at))
        .count();
    let behind = lines[count..].iter().find(|line| line.starts_with(mark));
    assert_eq!(behind, None, "block {count} is missing: {lines:?}");
    count
}

#[test]
fn asynchronous_copy_lags_within_its_bytes_and_no_more_is_lost() {
    const RAW: &str = "
[group.db]
nodes = [\"node1\", \"node2\"]

[group.db.mirror.data]
size = \"64MiB\"
device = \"/var/lib/hotpair/data.img\"
links = [\"hb\"]
mode = \"asynchronous\"
lag_s = 20
lag_bytes = \"1MiB\"
";
    let Some(cluster) = Cluster::up("mirror-lag").and_then(|cluster| with_db(cluster, RAW)) else {
        return;
    };
    // Slow, but nothing is lost on it: who is silent for too long is taken to be gone.
    let slow = "tc qdisc add dev eth1 root tbf rate 8mbit burst 64kb limit 32mb";
    cluster.shell("node1", slow);
    let writer = Writer::start(&cluster, "node1", "a");
    let mut most = 0;
    cluster.wait_for("the lag is shown", || {
        // Seen from the other node, too.
        let said = cluster.hotpair("node2", &["mirror", "list"]);
        said.contains("the other copy lags by")
    });
    for _ in 0..10 {
        let here = mirror(&cluster, "node1").and_then(|view| view.here);
        most = most.max(here.expect("numbers").lag_bytes);
        pass(100);
    }
    let shown = cluster.hotpair("node1", &["mirror", "show", "data"]);
    assert!(shown.contains("at most 1 MiB or 20 s behind"), "{shown}");
    assert!(shown.contains("the other copy lags by"), "{shown}");
    cluster.fault("node1", Fault::PowerCut);
    let acknowledged = writer.end();
    cluster.runs("node2", "db", "node2");
    let kept = blocks(&cluster, "node2", "a");
    let bound = 1024 * 1024;
    assert!(most > 0 && most <= bound, "{most} bytes");
    assert!(acknowledged < 1000, "the writer was not slowed");
    assert!(
        kept < acknowledged && (acknowledged - kept) as u64 * BLOCK <= bound,
        "{kept} of {acknowledged} blocks are kept"
    );
}

#[test]
fn first_synchronisation_is_shown_limited_and_let_go_beside_services() {
    let Some(cluster) = pair("mirror-rate") else {
        return;
    };
    cluster.shell(
        "node1",
        "dd if=/dev/urandom of=/var/lib/db/big bs=1M count=24 conv=fsync status=none",
    );
    cluster.hotpair("node1", &["mirror", "rate", "data", "2MiB"]);
    renew(&cluster, "node2");
    write(&cluster, "node1", "a", "meanwhile");
    cluster.wait_for("progress is shown", || {
        let shown = cluster.hotpair("node1", &["mirror", "show", "data"]);
        shown.contains("resynchronisation [") && shown.contains("left")
    });
    let view = mirror(&cluster, "node1").expect("a mirror");
    assert_ne!(copy(&view, "node2").state, "up to date", "{view:#?}");
    cluster.hotpair("node1", &["mirror", "rate", "data", "none"]);
    in_sync(&cluster);
    // What is equal on both sides is not sent.
    let all = sent(&cluster, "node1");
    assert!(
        all.last().is_some_and(|sent| *sent < 16 * 1024),
        "{all:?} KiB"
    );
    cluster.hotpair("node1", &["group", "switch", "db", "--to", "node2"]);
    assert_eq!(read(&cluster, "node2", "a"), "meanwhile");
}

#[test]
fn replication_comes_back_after_a_cut_that_only_the_active_node_noticed() {
    let Some(cluster) = Cluster::up("mirror-again") else {
        return;
    };
    // The node with the smaller number connects; it is the standby here, and sends nothing.
    let text = MIRROR.replace("[\"node1\", \"node2\"]", "[\"node2\", \"node1\"]");
    cluster.reconfigure("node1", |all| all + &text);
    cluster.runs("node2", "db", "node2");
    in_sync(&cluster);
    cluster.fault("node1", Fault::CutLinks);
    write(&cluster, "node2", "a", "while node1 was cut off");
    until_copy(&cluster, "node2", "node1", "outdated");
    // The active node gives its end up, and its last word about that is lost, too.
    pass(8000);
    cluster.heal();
    in_sync(&cluster);
    cluster.hotpair("node2", &["group", "switch", "db", "--to", "node1"]);
    assert_eq!(read(&cluster, "node1", "a"), "while node1 was cut off");
}
