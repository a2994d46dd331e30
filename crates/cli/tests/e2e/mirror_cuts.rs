//! Work on mirrors that is cut off in the middle.

use crate::cluster::Cluster;
use crate::mirrors::{in_sync_of, mirror, pair, until_copy, write};
use hotpair_lab::{Fault, Target};

#[test]
fn interrupted_move_of_a_directory_is_undone_or_finished() {
    let Some(cluster) = Cluster::up("mirror-dir-cut") else {
        return;
    };
    cluster.reconfigure("node1", |all| {
        all + "\n[group.app]\nnodes = [\"node1\", \"node2\"]\n"
    });
    cluster.runs("node1", "app", "node1");
    cluster.shell(
        "node1",
        "mkdir -p /var/lib/app && cd /var/lib/app && i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo $i > $i; done",
    );
    // The command and the daemon are killed as soon as the move has a journal.
    let cut = |mirror: &str| {
        let script = format!(
            "hotpair mirror create app/{mirror} --size 64MiB --on node1=/var/lib/hotpair/{mirror}.img \
             --on node2=/var/lib/hotpair/{mirror}.img --directory /var/lib/app >/run/mover.log 2>&1 & \
             mover=$!; i=0; while ! test -e /var/lib/hotpair/mirrors/app.{mirror}/move && [ $i -lt 2000 ]; do \
             i=$((i+1)); sleep 0.01; done; kill -9 $mover; cat /run/mover.log >&2; \
             test -e /var/lib/hotpair/mirrors/app.{mirror}/move"
        );
        cluster.shell("node1", &script);
        cluster.fault("node1", Fault::Kill(Target::Daemon));
        cluster.runs("node1", "app", "node1");
    };
    let whole = |host: &str| {
        let sum = cluster.shell(host, "cat /var/lib/app/* | sort -n | uniq | wc -l");
        assert_eq!(sum, "500", "files on {host}");
    };
    let mounted = |host: &str| {
        let found = cluster.0.exec(host, &["mountpoint", "-q", "/var/lib/app"]);
        found.is_ok_and(|found| found.status.success())
    };
    cut("one");
    let directory = ["mirror", "directory"];
    cluster.insist("node1", &[&directory[..], &["undo", "app/one"]].concat());
    whole("node1");
    assert!(!mounted("node1"), "it is where it was");
    cluster.shell("node1", "test ! -e /var/lib/app.hotpair-old");
    // A new leader may be on its way.
    cluster.insist("node1", &["group", "stop", "app"]);
    cluster.insist(
        "node1",
        &["mirror", "remove", "app/one", "--yes-i-mean", "one"],
    );
    cluster.insist("node1", &["group", "start", "app"]);
    cut("two");
    cluster.insist("node1", &[&directory[..], &["finish", "app/two"]].concat());
    cluster.wait_for("it is mounted", || mounted("node1"));
    cluster.runs("node1", "app", "node1");
    whole("node1");
    in_sync_of(&cluster, "app");
    cluster.insist("node1", &["group", "switch", "app", "--to", "node2"]);
    whole("node2");
}

#[test]
fn verification_that_is_cut_off_has_no_result() {
    let Some(cluster) = pair("cut-verify") else {
        return;
    };
    // The result of an earlier one is not taken for that of the next.
    cluster.hotpair("node1", &["mirror", "verify", "data"]);
    cluster.hotpair("node1", &["mirror", "rate", "data", "1MiB"]);
    cluster.hotpair("node1", &["mirror", "verify", "data", "--no-wait"]);
    let numbers = || mirror(&cluster, "node1").and_then(|view| view.here);
    cluster.wait_for("it is under way", || {
        numbers().is_some_and(|here| here.verify.is_some())
    });
    cluster.fault("node2", Fault::PowerCut);
    write(&cluster, "node1", "a", "while node2 was away");
    until_copy(&cluster, "node1", "node2", "outdated");
    cluster.wait_for("it has ended", || {
        numbers().is_some_and(|here| here.verify.is_none())
    });
    let found = numbers().and_then(|here| here.verify_found);
    assert_eq!(found, None, "no copy was found equal, nor different");
}
