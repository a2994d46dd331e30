//! Fence devices: a power switch outside the hosts, and an agent on each node that asks it.

use crate::cluster::{Cluster, PRACTICE, group, pass, runs_on};
use hotpair_lab::Fault;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The power switch: a directory that every host sees, and a thread that carries out what is put there.
struct Switch {
    dir: PathBuf,
    works: AtomicBool,
    ended: AtomicBool,
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Switch {
    fn new(name: &str) -> Self {
        let dir = PathBuf::from(format!(
            "/var/log/hotpair-e2e-{name}-{}",
            std::process::id()
        ));
        std::fs::create_dir_all(&dir).expect("a directory that all hosts see");
        // As the agents of the fence-agents package: parameters on standard input, the answer is the exit code.
        let script = r#"#!/bin/sh
while IFS='=' read -r name value; do case $name in action|plug|dir) eval "$name=\$value";; esac; done
[ "$action" = monitor ] && exec test -e "$dir/on"
job=$dir/$plug.$$
echo "$action" >"$job.new" && mv "$job.new" "$job.ask" || exit 1
for i in $(seq 100); do
    [ -e "$job.done" ] && exit 0
    [ -e "$job.failed" ] && { echo 'the switch does not answer' >&2; exit 1; }
    sleep 0.1
done
echo 'timed out' >&2; exit 1
"#;
        let agent = dir.join("agent");
        std::fs::write(&agent, script).expect("it is written");
        let mode = std::process::Command::new("chmod")
            .arg("755")
            .arg(&agent)
            .status();
        assert!(mode.expect("chmod runs").success());
        std::fs::write(dir.join("on"), "").expect("it is written");
        Self {
            dir,
            works: AtomicBool::new(true),
            ended: AtomicBool::new(false),
        }
    }

    /// TOML of a device for each node.
    fn devices(&self) -> String {
        let dir = self.dir.display();
        ["node1", "node2"]
            .map(|node| {
                format!(
                    "\n[fence.{node}-switch]\nnode = \"{node}\"\nagent = \"{dir}/agent\"\n\
                     parameters = {{ plug = \"{node}\", dir = \"{dir}\" }}\naction = \"off\"\ntimeout_s = 15\n"
                )
            })
            .concat()
    }

    /// Switches as asked while `work` goes on.
    fn beside(&self, cluster: &Cluster, work: impl FnOnce()) {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !self.ended.load(Ordering::SeqCst) {
                    self.look(cluster);
                    pass(20);
                }
            });
            let _end = End(&self.ended);
            work();
        });
    }

    fn look(&self, cluster: &Cluster) {
        let jobs = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for job in jobs
            .map(|job| job.path())
            .filter(|path| path.extension() == Some("ask".as_ref()))
        {
            let works = self.works.load(Ordering::SeqCst);
            if works {
                cluster.fault(plug(&job), Fault::PowerCut);
            }
            let ended = job.with_extension(if works { "done" } else { "failed" });
            let _ = std::fs::rename(&job, ended);
        }
    }

    /// How often a node was switched off.
    fn switched(&self, node: &str) -> usize {
        let jobs = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let done = |path: &PathBuf| path.extension() == Some("done".as_ref()) && plug(path) == node;
        jobs.map(|job| job.path()).filter(done).count()
    }
}

fn plug(job: &Path) -> &str {
    let name = job
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.split('.').next().unwrap_or_default()
}

#[test]
fn pair_without_witness_takes_over_once_the_silent_node_is_fenced() {
    let Some(cluster) = Cluster::without_witness("fence-pair") else {
        return;
    };
    let switch = Switch::new("fence-pair");
    let relies = "without_witness = \"fence\"\nfence_delay_s = 1\n";
    let text = cluster.hotpair("node1", &["config", "show"]);
    let lacking = text.replace("[cluster]\n", &format!("[cluster]\n{relies}"));
    let refused = cluster.apply("node1", &lacking);
    assert!(
        refused.err.contains("no fence device for node1, node2"),
        "{refused:?}"
    );
    let said = cluster.apply("node1", &(lacking + &switch.devices()));
    assert_eq!(said.code, Some(0), "{said:?}");
    cluster.until("node2", "the new rule", |s| {
        s.cluster.guarantee_reason.contains("fenced")
    });
    let devices = cluster.hotpair("node2", &["fence", "test"]);
    assert!(
        devices.contains("node1-switch") && !devices.contains("not answer"),
        "{devices}"
    );

    switch.beside(&cluster, || {
        // It answers nobody and still holds everything: the other one takes over when it is off.
        let watch = cluster.watch();
        cluster.fault("node1", Fault::Pause);
        cluster.runs("node2", PRACTICE, "node2");
        assert_eq!((switch.switched("node1"), switch.switched("node2")), (1, 0));
        let why = cluster.hotpair("node2", &["explain", PRACTICE]);
        assert!(why.contains("node1 was fenced by node2"), "{why}");
        cluster.fault("node1", Fault::Boot);
        cluster.settled("node2");
        watch.safe();

        // The active side wins the race, and nobody outside notices.
        let watch = cluster.watch();
        cluster.fault("node1", Fault::CutLinks);
        cluster.wait_for("the fence", || switch.switched("node1") == 2);
        cluster.until("node2", "a leader", |s| {
            s.leader.as_deref() == Some("node2")
        });
        assert_eq!(switch.switched("node2"), 0);
        watch.unnoticed();
    });
}

#[test]
fn takeover_waits_for_the_fence_and_says_why_it_does_not_come() {
    let Some(cluster) = Cluster::up("fence-first") else {
        return;
    };
    let switch = Switch::new("fence-first");
    cluster.reconfigure("node1", |all| {
        let head = "[group.practice]\n";
        all.replace(head, &format!("{head}fence = true\n")) + &switch.devices()
    });
    switch.works.store(false, Ordering::SeqCst);
    std::fs::remove_file(switch.dir.join("on")).expect("it is removed");
    let silent = cluster.refused("node1", &["fence", "test", "--from", "node2"], 5);
    assert!(silent.contains("does not answer"), "{silent}");

    switch.beside(&cluster, || {
        let watch = cluster.watch();
        cluster.fault("node1", Fault::PowerCut);
        let said = "could not be fenced (node1-switch: the switch does not answer";
        cluster.wait_for("the reason", || {
            cluster
                .tried("node2", &["explain", PRACTICE])
                .out
                .contains(said)
        });
        let status = cluster.status("node2").expect("a status");
        assert!(!runs_on(group(&status, PRACTICE), "node2"), "{status:#?}");
        cluster.hotpair("node2", &["node", "down", "node1", "--yes-i-mean", "node1"]);
        cluster.runs("node2", PRACTICE, "node2");
        cluster.fault("node1", Fault::Boot);
        cluster.settled("node2");
        watch.safe();

        // By the operator's word, where nothing else asks for it.
        switch.works.store(true, Ordering::SeqCst);
        cluster.refused("node2", &["fence", "run", "node1"], 1);
        cluster.hotpair("node2", &["fence", "run", "node1", "--yes-i-mean", "node1"]);
        cluster.until("node2", "node1 off", |s| {
            s.nodes
                .iter()
                .any(|n| n.name == "node1" && n.state == "down")
        });
        assert_eq!(switch.switched("node1"), 1);
        cluster.wait_for("its event", || {
            cluster
                .hotpair("node2", &["events", "--last", "50"])
                .contains("node1 was fenced by node2")
        });
    });
}

#[test]
fn node_where_a_stop_failed_is_fenced_by_policy() {
    let Some(cluster) = Cluster::up("fence-stop") else {
        return;
    };
    let switch = Switch::new("fence-stop");
    let clings = r#"
[group.clings]
nodes = ["node1", "node2"]
on_stop_failure = "fence"

[group.clings.program.clings-p]
start = ["/bin/true"]
stop = ["/bin/false"]
"#;
    cluster.reconfigure("node1", |all| all + clings + &switch.devices());
    cluster.runs("node1", "clings", "node1");
    cluster.settled("node1");
    switch.beside(&cluster, || {
        let watch = cluster.watch();
        let _ = cluster.tried("node2", &["group", "switch", "clings", "--to", "node2"]);
        cluster.runs("node2", "clings", "node2");
        cluster.runs("node2", PRACTICE, "node2");
        assert_eq!((switch.switched("node1"), switch.switched("node2")), (1, 0));
        let events = cluster.hotpair("node2", &["events"]);
        assert!(
            events.contains("clings-p of clings could not be stopped on node1"),
            "{events}"
        );
        watch.safe();
    });
}
