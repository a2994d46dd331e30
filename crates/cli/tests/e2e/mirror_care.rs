//! What an operator does with a mirror: grow it, verify it, look at snapshots, replace what broke, end it.

use crate::cluster::{Cluster, group, pass};
use crate::mirrors::{
    MIRROR, copy, images_are_equal, in_sync, mirror, pair, read, renew, until_copy, with_db, write,
};
use hotpair_lab::{Fault, Target};

#[test]
fn mirror_grows_under_a_running_filesystem() {
    let Some(cluster) = Cluster::up("care-grow") else {
        return;
    };
    // The smallest that xfs takes.
    let text = MIRROR.replace("64MiB", "304MiB").replace("ext4", "xfs");
    let Some(cluster) = with_db(cluster, &text) else {
        return;
    };
    write(&cluster, "node1", "a", "before");
    let size = |host: &str| -> u64 {
        let blocks = cluster.run(host, &["stat", "-f", "-c", "%b", "/var/lib/db"]);
        blocks.parse().expect("a number")
    };
    let before = size("node1");
    let smaller = cluster.refused("node1", &["mirror", "grow", "data", "--size", "32MiB"], 1);
    assert!(smaller.contains("smaller"), "{smaller}");
    cluster.hotpair("node1", &["mirror", "grow", "data", "--size", "400MiB"]);
    cluster.wait_for("the device is larger", || {
        cluster.shell("node1", "blockdev --getsize64 /run/hotpair/devices/db/data") == "419430400"
    });
    cluster.wait_for("the filesystem is larger", || {
        size("node1") > before * 5 / 4
    });
    write(&cluster, "node1", "b", "after");
    in_sync(&cluster);
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", "db", "node2");
    assert_eq!(read(&cluster, "node2", "a"), "before");
    assert_eq!(read(&cluster, "node2", "b"), "after");
    assert!(size("node2") > before * 5 / 4);
}

#[test]
fn verification_finds_what_differs_and_repairs_it() {
    let Some(cluster) = pair("care-verify") else {
        return;
    };
    write(&cluster, "node1", "a", "written");
    cluster.hotpair("node1", &["mirror", "verify", "data"]);
    // A disk that forgot: nobody can see it from outside.
    cluster.shell(
        "node2",
        "dd if=/dev/urandom of=/var/lib/hotpair/data.img bs=4096 seek=5000 count=3 conv=notrunc,fsync status=none",
    );
    let found = cluster.refused("node2", &["mirror", "verify", "data"], 5);
    assert!(found.contains("12 KiB differ"), "{found}");
    cluster.hotpair("node1", &["mirror", "verify", "data", "--repair"]);
    cluster.hotpair("node1", &["mirror", "verify", "data"]);
    in_sync(&cluster);
    cluster.hotpair("node1", &["group", "stop", "db"]);
    images_are_equal(&cluster);
}

#[test]
fn paused_resynchronisation_waits_and_then_goes_on() {
    let Some(cluster) = pair("care-pause") else {
        return;
    };
    cluster.fault("node2", Fault::PowerCut);
    write(&cluster, "node1", "a", "while node2 was away");
    until_copy(&cluster, "node1", "node2", "outdated");
    // What takes both sides says whose absence is in its way.
    let refusal = cluster.refused("node1", &["mirror", "verify", "data"], 1);
    assert!(refusal.contains("node2 is"), "{refusal}");
    assert!(refusal.contains("/var/lib/hotpair/data.img"), "{refusal}");
    assert!(refusal.contains("--wait"), "{refusal}");
    let said = cluster.hotpair("node1", &["mirror", "grow", "data", "--size", "80MiB"]);
    assert!(said.contains("its copy grows when it is back"), "{said}");
    cluster.hotpair("node1", &["mirror", "pause", "data"]);
    cluster.fault("node2", Fault::Boot);
    cluster.until("node1", "node2 back", |s| {
        s.nodes.iter().all(|node| node.state == "online")
    });
    pass(2000);
    let view = mirror(&cluster, "node1").expect("a mirror");
    assert_ne!(copy(&view, "node2").state, "up to date", "{view:#?}");
    let shown = cluster.hotpair("node1", &["mirror", "show", "data"]);
    assert!(shown.contains("paused"), "{shown}");
    cluster.hotpair("node1", &["mirror", "resume", "data"]);
    in_sync(&cluster);
    cluster.hotpair("node1", &["group", "switch", "db", "--to", "node2"]);
    assert_eq!(read(&cluster, "node2", "a"), "while node2 was away");
    let grown = cluster.shell("node2", "blockdev --getsize64 /run/hotpair/devices/db/data");
    assert_eq!(grown, "83886080");
}

#[test]
fn snapshot_keeps_what_was_and_can_be_mounted() {
    let Some(cluster) = pair("care-snapshot") else {
        return;
    };
    write(&cluster, "node1", "a", "old");
    cluster.shell("node1", "sync -f /var/lib/db");
    for host in ["node1", "node2"] {
        cluster.hotpair(host, &["mirror", "snapshot", "create", "data", "evening"]);
    }
    write(&cluster, "node1", "a", "new");
    // A file that is there stays what it is.
    cluster.shell("node1", "echo mine > /srv/mine");
    let file = [
        "mirror",
        "snapshot",
        "expose",
        "data",
        "--name",
        "evening",
        "--at",
        "/srv/mine",
    ];
    cluster.refused("node1", &file, 1);
    cluster.refused(
        "node1",
        &["mirror", "snapshot", "conceal", "data", "--at", "/srv/mine"],
        1,
    );
    assert_eq!(cluster.run("node1", &["cat", "/srv/mine"]), "mine");
    for host in ["node1", "node2"] {
        let at = "/run/hotpair/look";
        cluster.hotpair(
            host,
            &[
                "mirror", "snapshot", "expose", "data", "--name", "evening", "--at", at,
            ],
        );
        cluster.shell(
            host,
            &format!("mkdir -p /mnt/look && mount -o ro,noload {at} /mnt/look"),
        );
        assert_eq!(cluster.run(host, &["cat", "/mnt/look/a"]), "old", "{host}");
        // Nobody may write to it.
        cluster.shell(
            host,
            &format!("! dd if=/dev/zero of={at} bs=4096 count=1 oflag=direct 2>/dev/null"),
        );
        cluster.run(host, &["umount", "/mnt/look"]);
        cluster.hotpair(host, &["mirror", "snapshot", "conceal", "data", "--at", at]);
        cluster.hotpair(host, &["mirror", "snapshot", "remove", "data", "evening"]);
    }
    let left = cluster.hotpair("node1", &["mirror", "snapshot", "list", "data"]);
    assert!(left.contains("no snapshots"), "{left}");
    assert_eq!(read(&cluster, "node1", "a"), "new");
}

#[test]
fn look_at_the_files_of_a_copy_that_a_killed_daemon_left_is_undone_by_the_next() {
    let Some(cluster) = pair("care-look") else {
        return;
    };
    write(&cluster, "node1", "a", "old");
    cluster.shell("node1", "sync -f /var/lib/db");
    // As it is while the daemon lists the files.
    let look = "/run/hotpair/looks/db/data";
    let name = "hotpair-look-1";
    cluster.shell(
        "node2",
        &format!("mkdir -p {look}/files && printf %s {name} > {look}/snapshot"),
    );
    let snapshot = ["mirror", "snapshot"];
    cluster.hotpair(
        "node2",
        &[&snapshot[..], &["create", "data", name]].concat(),
    );
    let at = format!("{look}/device");
    let expose = ["expose", "data", "--name", name, "--at", &at];
    cluster.hotpair("node2", &[&snapshot[..], &expose].concat());
    cluster.shell("node2", &format!("mount -o ro,noload {at} {look}/files"));
    assert_eq!(
        cluster.run("node2", &["cat", &format!("{look}/files/a")]),
        "old"
    );
    cluster.fault("node2", Fault::Kill(Target::Daemon));
    cluster.wait_for("the look is undone", || {
        let script = format!("test ! -e {look} && ! grep -q {look} /proc/self/mountinfo");
        let found = cluster.0.exec("node2", &["sh", "-c", &script]);
        found.is_ok_and(|output| output.status.success())
    });
    in_sync(&cluster);
    let left = cluster.hotpair("node1", &[&snapshot[..], &["list", "data"]].concat());
    assert!(left.contains("no snapshots"), "{left}");
    // And it can be looked again.
    let shown = cluster.hotpair("node1", &["mirror", "split-brain", "show", "data"]);
    assert!(shown.contains("files that differ: 0, of 2"), "{shown}");
}

#[test]
fn removed_mirror_leaves_its_copies_on_the_disks() {
    let Some(cluster) = pair("care-remove") else {
        return;
    };
    write(&cluster, "node1", "a", "kept");
    let remove = ["mirror", "remove", "db/data"];
    cluster.refused("node1", &remove, 1);
    assert_eq!(read(&cluster, "node1", "a"), "kept");
    let remove = [&remove[..], &["--yes-i-mean", "data"]].concat();
    let refusal = cluster.refused("node1", &remove, 1);
    assert!(refusal.contains("stop it first"), "{refusal}");
    cluster.hotpair("node1", &["group", "stop", "db"]);
    let said = cluster.hotpair("node1", &remove);
    assert!(said.contains("db has no resources left"), "{said}");
    cluster.wait_for("the mirror is gone", || {
        cluster
            .hotpair("node1", &["mirror", "list"])
            .contains("no mirrors")
    });
    for host in ["node1", "node2"] {
        cluster.wait_for("its process is gone", || {
            let found = cluster.0.exec(host, &["pgrep", "-f", "hotpair volume"]);
            found.is_ok_and(|found| !found.status.success())
        });
        cluster.shell(
            host,
            "mkdir -p /mnt/look && mount -o ro,loop /var/lib/hotpair/data.img /mnt/look",
        );
        assert_eq!(cluster.run(host, &["cat", "/mnt/look/a"]), "kept");
        cluster.run(host, &["umount", "/mnt/look"]);
    }
}

#[test]
fn another_machine_takes_the_place_of_a_lost_one_while_services_run() {
    let Some(cluster) = pair("care-rebuild") else {
        return;
    };
    let refusal = cluster.refused("node1", &["node", "rebuild", "node2"], 1);
    assert!(refusal.contains("online"), "{refusal}");
    write(&cluster, "node1", "a", "before");
    cluster.fault("node2", Fault::PowerCut);
    until_copy(&cluster, "node1", "node2", "outdated");
    let said = cluster.hotpair("node1", &["node", "rebuild", "node2", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let token = said["token"].as_str().expect("a token").to_owned();
    // A machine with nothing on it but the software.
    cluster.fault("node2", Fault::Boot);
    cluster.shell("node2", "pkill -9 -f 'hotpair (daemon|guard|volume)'; rm -rf /etc/hotpair/* /var/lib/hotpair/* /run/hotpair/*");
    // Its daemon may have been heard before it was killed.
    cluster.until("node1", "node2 down", |s| {
        s.nodes
            .iter()
            .any(|n| n.name == "node2" && n.state == "down")
    });
    cluster.hotpair("node2", &["join", &token, "--replace", "node2"]);
    cluster.start_daemon("node2");
    write(&cluster, "node1", "b", "meanwhile");
    in_sync(&cluster);
    cluster.hotpair("node1", &["group", "switch", "db", "--to", "node2"]);
    assert_eq!(read(&cluster, "node2", "a"), "before");
    assert_eq!(read(&cluster, "node2", "b"), "meanwhile");
}

/// The copy of `host` on a disk whose room can be taken away: then writes to new blocks fail.
fn on_a_thin_disk(cluster: &Cluster, host: &str) -> String {
    cluster.shell(
        host,
        "mkdir -p /mnt/thin && mount -t tmpfs -o size=80m none /mnt/thin && \
         truncate -s 70M /mnt/thin/disk && losetup -f --show --direct-io=off /mnt/thin/disk",
    )
}

fn break_disk(cluster: &Cluster, host: &str) {
    cluster.shell(
        host,
        "dd if=/dev/zero of=/mnt/thin/full bs=1M count=100 status=none 2>/dev/null; true",
    );
}

fn with_thin_disk(name: &str, host: &str, policy: &str) -> Option<Cluster> {
    let cluster = Cluster::up(name)?;
    let device = on_a_thin_disk(&cluster, host);
    let (one, two) = match host {
        "node1" => (device.as_str(), "/var/lib/hotpair/data.img"),
        _ => ("/var/lib/hotpair/data.img", device.as_str()),
    };
    let own = format!(
        "device = {{ node1 = \"{one}\", node2 = \"{two}\" }}\non_disk_failure = \"{policy}\""
    );
    let text = MIRROR.replace("device = \"/var/lib/hotpair/data.img\"", &own);
    with_db(cluster, &text)
}

/// The event log of the node has the failure as an error.
fn failure_is_told(cluster: &Cluster, host: &str) {
    let events = cluster.hotpair(host, &["events", "--all"]);
    let told = events.lines().any(|line| {
        line.contains("  error ") && line.contains("the local disk of the mirror failed")
    });
    assert!(told, "{events}");
}

fn detach_disk(cluster: &Cluster, host: &str) {
    cluster.shell(
        host,
        "losetup -j /mnt/thin/disk | cut -d: -f1 | xargs -r losetup -d; umount -l /mnt/thin",
    );
}

/// Writes more than the thin disk has room for; the writer sees no error.
fn write_much(cluster: &Cluster, host: &str) {
    cluster.shell(
        host,
        "for i in 1 2 3 4 5 6 7 8 9 10; do dd if=/dev/urandom of=/var/lib/db/big$i bs=1M count=2 conv=fsync status=none || exit 1; done",
    );
}

#[test]
fn failed_disk_of_the_standby_is_told_and_replaced() {
    let Some(cluster) = with_thin_disk("care-disk2", "node2", "fail-over") else {
        return;
    };
    break_disk(&cluster, "node2");
    write_much(&cluster, "node1");
    until_copy(&cluster, "node1", "node2", "lost");
    failure_is_told(&cluster, "node2");
    cluster.shell(
        "node2",
        "rm /mnt/thin/full && mount -o remount,size=200m /mnt/thin",
    );
    renew(&cluster, "node2");
    in_sync(&cluster);
    detach_disk(&cluster, "node2");
}

#[test]
fn failed_disk_of_the_active_node_moves_the_group() {
    let Some(cluster) = with_thin_disk("care-disk1", "node1", "fail-over") else {
        return;
    };
    write(&cluster, "node1", "a", "kept");
    break_disk(&cluster, "node1");
    // The device fails under its user, and is taken away.
    cluster.shell("node1", "dd if=/dev/urandom of=/var/lib/db/big bs=1M count=20 conv=fsync status=none 2>/dev/null; true");
    cluster.runs("node2", "db", "node2");
    assert_eq!(read(&cluster, "node2", "a"), "kept");
    until_copy(&cluster, "node2", "node1", "lost");
    failure_is_told(&cluster, "node1");
    detach_disk(&cluster, "node1");
}

#[test]
fn active_node_goes_on_through_its_peer_where_that_is_wanted() {
    let Some(cluster) = with_thin_disk("care-disk3", "node1", "go-on") else {
        return;
    };
    write(&cluster, "node1", "a", "kept");
    break_disk(&cluster, "node1");
    write_much(&cluster, "node1");
    until_copy(&cluster, "node1", "node1", "lost");
    failure_is_told(&cluster, "node1");
    let status = cluster.status("node1").expect("a status");
    assert_eq!(group(&status, "db").active_on, ["node1"], "{status:#?}");
    write(&cluster, "node1", "b", "through the peer");
    cluster.hotpair("node1", &["group", "switch", "db", "--to", "node2"]);
    assert_eq!(read(&cluster, "node2", "a"), "kept");
    assert_eq!(read(&cluster, "node2", "b"), "through the peer");
    detach_disk(&cluster, "node1");
}

#[test]
fn copy_in_use_is_made_anew_when_the_operator_says_so() {
    let Some(cluster) = pair("care-renew") else {
        return;
    };
    write(&cluster, "node1", "a", "kept");
    // As after a restore of the standby's disk: the mark is as it was, the data is not.
    cluster.shell(
        "node2",
        "dd if=/dev/urandom of=/var/lib/hotpair/data.img bs=4096 seek=6000 count=7 conv=notrunc,fsync status=none",
    );
    renew(&cluster, "node2");
    cluster.wait_for("a whole synchronisation", || {
        let events = cluster.hotpair("node1", &["events", "--last", "50"]);
        events.matches("has everything again").count() == 2
    });
    in_sync(&cluster);
    cluster.hotpair("node1", &["mirror", "verify", "data"]);
    assert_eq!(read(&cluster, "node1", "a"), "kept");
}
