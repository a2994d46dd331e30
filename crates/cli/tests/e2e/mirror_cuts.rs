//! Mirrors whose link is too slow, and work on them that is cut off in the middle.

use crate::cluster::Cluster;
use crate::mirrors::{in_sync_of, mirror, pair, until_copy, with_db, write};
use hotpair_lab::{Fault, Target};

/// A mirror without a filesystem, which would write by itself.
const BARE: &str = r#"
[group.db]
nodes = ["node1", "node2"]

[group.db.mirror.data]
size = "16MiB"
device = "/var/lib/hotpair/data.img"
"#;

#[test]
fn asynchronous_copy_lags_and_loses_no_more_than_its_bound() {
    const BOUND: u64 = 1 << 20;
    const PIECE: u64 = 64 << 10;
    let Some(cluster) = Cluster::up("mirror-lag") else {
        return;
    };
    let own = "mode = \"asynchronous\"\nlag_s = 600\nlag_bytes = \"1MiB\"\nlinks = [\"hb\"]\n";
    let text = BARE.to_owned() + own;
    let Some(cluster) = with_db(cluster, &text) else {
        return;
    };
    // Heartbeats have the other link.
    cluster.shell(
        "node1",
        "tc qdisc add dev eth1 root tbf rate 16mbit burst 32kb latency 100ms",
    );
    // Each piece begins with its number; the last acknowledged one is known outside.
    cluster.shell(
        "node1",
        "(i=0; while [ $i -lt 4000 ]; do i=$((i+1)); \
         printf '%s ' $i | dd of=/run/hotpair/devices/db/data bs=64k seek=$((i % 256)) \
         conv=sync,notrunc oflag=direct status=none && echo $i > /var/lib/hotpair/new && \
         mv /var/lib/hotpair/new /var/lib/hotpair/acknowledged || exit; done) >/dev/null 2>&1 &",
    );
    let acknowledged = |host: &str| -> u64 {
        let script = "cat /var/lib/hotpair/acknowledged 2>/dev/null || echo 0";
        cluster.shell(host, script).parse().expect("a number")
    };
    let most = std::cell::Cell::new(0);
    cluster.wait_for("much more than the bound is written", || {
        let here = mirror(&cluster, "node1").and_then(|view| view.here);
        most.set(most.get().max(here.map_or(0, |here| here.lag_bytes)));
        acknowledged("node1") * PIECE > 6 * BOUND
    });
    cluster.wait_for("the lag is shown", || {
        let shown = cluster.hotpair("node1", &["mirror", "show", "data"]);
        shown.contains("the other copy lags by")
    });
    let most = most.get();
    assert!(
        (BOUND / 2..=BOUND).contains(&most),
        "the writer is faster than the link, and waits for it: {most}"
    );
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", "db", "node2");
    let kept: u64 = cluster
        .shell(
            "node2",
            "for i in $(seq 0 255); do dd if=/run/hotpair/devices/db/data bs=64k skip=$i count=1 status=none | \
             head -c 12 | tr -d '\\0'; echo; done | cut -d' ' -f1 | sort -n | tail -1",
        )
        .parse()
        .expect("a number");
    cluster.fault("node1", Fault::Boot);
    let acknowledged = acknowledged("node1");
    assert!(
        kept + BOUND / PIECE >= acknowledged,
        "{kept} is kept, {acknowledged} was acknowledged"
    );
}

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
