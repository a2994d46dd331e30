//! The third vote on a disk that both nodes share: here a file in a directory that all hosts of a lab have, or a
//! loop device, since they share /dev, too.

use crate::cluster::{Cluster, PRACTICE, group, pass, runs_on};
use hotpair_api::StatusView;
use hotpair_api::status::QuorumView;
use hotpair_daemon::quorum_label;
use hotpair_lab::{Fault, Target};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file as large as is advised, in a directory of the machine that every host sees.
fn shared_file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir_in("/var/log").expect("a directory");
    let path = directory.path().join("disk");
    blank(&path, 16 << 20);
    (directory, path)
}

fn blank(path: &Path, size: u64) {
    let file = std::fs::File::create(path).expect("a file");
    file.set_len(size).expect("room");
}

/// A block device on a file; taken away in any case.
struct Loop(PathBuf);

impl Loop {
    fn on(file: &Path) -> Self {
        let words = ["--find", "--show", text(file)];
        let output = Command::new("losetup").args(words).output();
        let output = output.expect("losetup runs");
        assert!(output.status.success(), "{output:?}");
        Self(String::from_utf8_lossy(&output.stdout).trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
        let _ = detached;
    }
}

/// An ext4 on a file, mounted where every host sees it that is started later: its files are a disk that can be made
/// to hang. Both end with it.
struct Share(tempfile::TempDir);

impl Share {
    fn mounted() -> Self {
        let (directory, file) = shared_file();
        sh(&["mkfs.ext4", "-q", text(&file)]);
        let share = Self(directory);
        std::fs::create_dir(share.point()).expect("a directory");
        sh(&["mount", "-o", "loop", text(&file), text(&share.point())]);
        share
    }

    fn point(&self) -> PathBuf {
        self.0.path().join("share")
    }

    /// Writes hang until what is returned is dropped.
    fn hangs(&self) -> Hanging {
        sh(&["fsfreeze", "--freeze", text(&self.point())]);
        Hanging(self.point())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Lazily: a host of the lab may still be ending.
        let _ = Command::new("umount").arg("-l").arg(self.point()).status();
    }
}

struct Hanging(PathBuf);

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze")
            .arg("--unfreeze")
            .arg(&self.0)
            .status();
    }
}

fn sh(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain text")
}

/// Labels the disk and gives it the vote; the practice group needs a lease from then on.
fn give_vote(cluster: &Cluster, disk: &Path) {
    cluster.hotpair("node1", &["quorum", "init", text(disk)]);
    cluster.hotpair("node1", &["quorum", "add", text(disk)]);
    for node in ["node1", "node2"] {
        cluster.until(node, "the disk's vote", |s| {
            s.witness
                .as_ref()
                .is_some_and(|w| w.votes && w.state == "online")
        });
    }
    cluster.settled("node1");
}

fn disk_of(status: &StatusView) -> Option<&QuorumView> {
    status.witness.as_ref()?.disk.as_ref()
}

/// Waits until a node says that about the disk.
fn problem(cluster: &Cluster, node: &str, words: &str) -> StatusView {
    cluster.until(node, &format!("`{words}` of the disk"), |s| {
        let problem = disk_of(s).and_then(|disk| disk.problem.as_ref());
        problem.is_some_and(|problem| problem.contains(words))
    })
}

#[test]
fn power_cut_is_taken_over_by_the_vote_of_the_disk() {
    let Some(cluster) = Cluster::without_witness("quorum") else {
        return;
    };
    let (_directory, disk) = shared_file();
    give_vote(&cluster, &disk);
    let status = cluster.status("node1").expect("it answers");
    assert_eq!(status.cluster.guarantee, "single-active");
    let warned = &disk_of(&status).expect("a disk").warnings;
    assert!(warned.iter().any(|w| w.contains("multipath")), "{warned:?}");

    let watch = cluster.watch();
    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", PRACTICE, "node2");
    cluster.fault("node1", Fault::Boot);
    cluster.settled("node2");
    let report = watch.safe();
    assert_eq!(report.node_changes, 1, "{report:#?}");
}

#[test]
fn nodes_that_share_nothing_but_the_disk_still_take_over_from_each_other() {
    // The cluster ends before its disk is taken away.
    let (_directory, file) = shared_file();
    let disk = hotpair_lab::require_root().is_ok().then(|| Loop::on(&file));
    let Some((cluster, disk)) = Cluster::without_witness("quorum-only").zip(disk.as_ref()) else {
        return;
    };
    give_vote(&cluster, &disk.0);
    let watch = cluster.watch();
    cluster.fault("node1", Fault::CutPeers);
    cluster.until("node2", "node1 on no link", |s| {
        let node = s.nodes.iter().find(|n| n.name == "node1");
        node.is_some_and(|n| n.links.iter().all(|l| l.state == "down"))
    });
    // For several elections and leases.
    pass(3000);
    assert_eq!(cluster.app("node2"), "");
    assert_ne!(cluster.app("node1"), "");

    cluster.fault("node1", Fault::PowerCut);
    cluster.runs("node2", PRACTICE, "node2");
    cluster.fault("node1", Fault::Boot);
    cluster.heal();
    cluster.settled("node2");
    let report = watch.safe();
    assert_eq!(report.node_changes, 1, "{report:#?}");
}

#[test]
fn disk_that_is_pulled_or_hangs_stops_nothing_and_is_told() {
    let share = hotpair_lab::require_root().is_ok().then(Share::mounted);
    let Some((cluster, share)) = Cluster::without_witness("quorum-pulled").zip(share.as_ref())
    else {
        return;
    };
    let disk = share.point().join("disk");
    blank(&disk, 10 << 20);
    give_vote(&cluster, &disk);
    let watch = cluster.watch();
    let whole = std::fs::read(&disk).expect("the disk");
    let file = std::fs::File::options().write(true).open(&disk);
    let file = file.expect("the disk");
    file.set_len(4096).expect("it is cut short");
    for node in ["node1", "node2"] {
        problem(&cluster, node, "are needed");
        let status = cluster.until(node, "the disk's silence", |s| {
            s.witness.as_ref().is_some_and(|w| w.state == "down")
        });
        assert!(status.lease && runs_on(group(&status, PRACTICE), "node1"));
        let said = cluster.tried(node, &["status"]).out;
        assert!(said.contains("does not answer this node"), "{said}");
    }
    let removed = cluster.tried("node1", &["quorum", "remove", "--dry-run"]);
    assert_eq!(removed.code, Some(0), "{removed:?}");

    // Its slots are older than they were until both nodes have written anew.
    file.write_all_at(&whole, 0).expect("it is whole again");
    for node in ["node1", "node2"] {
        cluster.until(node, "the disk in order", |s| {
            disk_of(s).is_some_and(|disk| disk.problem.is_none())
        });
    }
    cluster.settled("node1");

    // The guard that is killed leaves a thread behind that hangs; nobody waits for it but the disk.
    let hanging = share.hangs();
    for node in ["node1", "node2"] {
        problem(&cluster, node, "has not ended for more than 2 s");
    }
    cluster.fault("node2", Fault::Kill(Target::Guard));
    let status = problem(&cluster, "node2", "of an earlier guard of this node");
    assert!(runs_on(group(&status, PRACTICE), "node1"));
    cluster.until("node2", "a lease without the disk", |s| s.lease);
    drop(hanging);
    cluster.settled("node1");
    for node in ["node1", "node2"] {
        cluster.until(node, "the disk in order", |s| {
            disk_of(s).is_some_and(|disk| disk.problem.is_none())
        });
    }
    watch.unnoticed();
    cluster.hotpair("node2", &["quorum", "remove"]);
    cluster.until("node1", "no third vote", |s| {
        s.witness.is_none() && !s.cluster.guarantee_reason.contains("being changed")
    });
    cluster.runs("node1", PRACTICE, "node1");
}

#[test]
fn disks_that_are_not_fit_are_refused_with_a_reason() {
    let Some(cluster) = Cluster::without_witness("quorum-bad") else {
        return;
    };
    let (directory, disk) = shared_file();
    let at = |name: &str| directory.path().join(name);
    let refused = |words: &[&str], wanted: &str| {
        let said = cluster.refused("node1", &[&["quorum"], words].concat(), 1);
        assert!(said.contains(wanted), "{words:?}: {said}");
    };
    refused(&["init", text(&at("none"))], "truncate -s 16M");
    blank(&at("small"), 1 << 20);
    refused(&["init", text(&at("small"))], "make it larger");
    let read_only = format!(
        "mkdir /run/ro && mount --bind {0} /run/ro && mount -o remount,bind,ro /run/ro",
        directory.path().display()
    );
    cluster.shell("node1", &read_only);
    refused(&["init", "/run/ro/disk"], "can only be read here");

    cluster.run("node1", &["mkfs.ext4", "-q", text(&disk)]);
    refused(&["init", text(&disk)], "a filesystem (ext4)");
    refused(&["add", text(&disk)], "it has no label of hotpair");
    let other = ["init", text(&disk), "--yes-i-mean", "other"];
    refused(&other, "not confirmed");
    let meant = ["quorum", "init", text(&disk), "--yes-i-mean", text(&disk)];
    cluster.hotpair("node1", &meant);

    let number = quorum_label::make(&disk, 0xabc).expect("it is labelled");
    refused(&["init", text(&disk)], "another cluster (0000000000000abc)");
    refused(&["add", text(&disk)], "another cluster (0000000000000abc)");
    let label = quorum_label::look(&disk).expect("its label");
    assert_eq!((label.cluster.0, label.disk), (0xabc, number));
    refused(&["remove"], "the cluster has no quorum disk");
    let status = cluster.status("node1").expect("it answers");
    assert!(status.witness.is_none(), "{status:#?}");
}
