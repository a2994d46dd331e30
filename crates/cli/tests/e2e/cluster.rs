//! A practice cluster under test: started, asked, watched from outside, ended in any case.

use hotpair_api::StatusView;
use hotpair_api::status::GroupView;
use hotpair_lab::plan::Service;
use hotpair_lab::probe::{ProbeHandle, ProbeOptions, ProbeReport};
use hotpair_lab::{Fault, Lab, Plan, Program, Shape, Witness};
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The group every practice cluster has.
pub const PRACTICE: &str = "practice";

/// Everything a test waits for must be there within this time.
const LIMIT: Duration = Duration::from_secs(20);

/// A cluster in its own lab, which ends with the test.
pub struct Cluster(pub Lab);

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in ["node1", "node2"] {
                let events = self.tried(host, &["events", "--last", "25"]);
                eprintln!("--- {host}: {events:?}");
            }
        }
        let _ = self.0.down();
    }
}

/// How a command of `hotpair` ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A service's process on a host: who answers depends on it alone.
pub type AppPid = String;

impl Cluster {
    /// Two nodes and a witness, the practice group running on node1; nothing without root.
    pub fn up(name: &str) -> Option<Self> {
        Self::shaped(name, Shape::default())
    }

    /// Two nodes that have nobody to ask when they lose each other.
    pub fn without_witness(name: &str) -> Option<Self> {
        let shape = Shape {
            witness: Witness::None,
            ..Shape::default()
        };
        Self::shaped(name, shape)
    }

    pub fn shaped(name: &str, shape: Shape) -> Option<Self> {
        let cluster = Self::planned(name, &Plan::cluster(shape).expect("a plan"))?;
        cluster.settled("node1");
        Some(cluster)
    }

    /// Hosts set up by this plan, not waited for.
    pub fn planned(name: &str, plan: &Plan) -> Option<Self> {
        if hotpair_lab::require_root().is_err() {
            eprintln!("skipped: needs root");
            return None;
        }
        let program = Program(env!("CARGO_BIN_EXE_hotpair").into());
        let lab = Lab::up(&program, &format!("e2e-{name}"), plan);
        Some(Self(lab.unwrap_or_else(|e| panic!("the lab starts: {e}"))))
    }

    /// Runs a program on a host; its standard output, if it ends well.
    pub fn run(&self, host: &str, argv: &[&str]) -> String {
        let output = self.0.exec(host, argv).expect("the host runs programs");
        assert!(output.status.success(), "{argv:?} on {host}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn shell(&self, host: &str, script: &str) -> String {
        self.run(host, &["sh", "-c", script])
    }

    /// Runs `hotpair` on a host for at most 30 s, however it ends; a host without power says so.
    pub fn tried(&self, host: &str, words: &[&str]) -> Said {
        let argv = [&["timeout", "30", "hotpair"], words].concat();
        match self.0.exec(host, &argv) {
            Ok(output) => Said {
                code: output.status.code(),
                out: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
                err: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            },
            Err(error) => Said {
                code: None,
                out: String::new(),
                err: error.to_string(),
            },
        }
    }

    /// Runs `hotpair` on a host, which must end well. What the asked node sees already, the one that
    /// decides may hear a moment later: then it is asked again.
    pub fn hotpair(&self, host: &str, words: &[&str]) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let said = self.tried(host, words);
            let later = said.code == Some(1) && said.err.contains("has not reported");
            if !later || Instant::now() > end {
                assert_eq!(said.code, Some(0), "hotpair {words:?} on {host}: {said:?}");
                return said.out;
            }
            pass(50);
        }
    }

    /// Runs `hotpair` on a host again until it ends well, as where a leader is just coming back.
    pub fn insist(&self, host: &str, words: &[&str]) {
        let what = format!("hotpair {words:?} on {host}");
        self.wait_for(&what, || self.tried(host, words).code == Some(0));
    }

    /// Adds a group and has it run on a node.
    pub fn add(&self, host: &str, name: &str, text: &str, on: &str) {
        self.reconfigure(host, |all| all + text);
        let status = self.until(host, "it running", |s| {
            s.groups
                .iter()
                .any(|g| g.name == name && g.state == "running")
        });
        if !runs_on(group(&status, name), on) {
            self.hotpair(host, &["group", "switch", name, "--to", on]);
        }
        self.runs(on, name, on);
    }

    /// Runs `hotpair` on a host, which must refuse with this exit code; what it says about it.
    pub fn refused(&self, host: &str, words: &[&str], code: i32) -> String {
        let said = self.tried(host, words);
        let text = format!("{}\n{}", said.out, said.err);
        assert_eq!(said.code, Some(code), "hotpair {words:?} on {host}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        text
    }

    pub fn fault(&self, host: &str, fault: Fault) -> u64 {
        let injection = self.0.fault(host, fault);
        injection
            .unwrap_or_else(|e| panic!("{fault:?} at {host}: {e}"))
            .at_mono_us
    }

    /// Starts a daemon that was told to end.
    pub fn start_daemon(&self, host: &str) {
        let service = Service {
            name: "daemon".into(),
            host: host.into(),
            argv: ["hotpair", "daemon"].map(Into::into).to_vec(),
            restart_after_ms: Some(50),
        };
        self.0.start(service).expect("the lab starts it");
    }

    pub fn heal(&self) {
        self.0.heal().expect("the lab heals");
    }

    /// The cluster as a node sees it, if it answers.
    pub fn status(&self, host: &str) -> Option<StatusView> {
        serde_json::from_str(&self.tried(host, &["status", "--json"]).out).ok()
    }

    /// Waits until a node sees the cluster in a certain way.
    pub fn until(&self, host: &str, what: &str, is: impl Fn(&StatusView) -> bool) -> StatusView {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.status(host);
            match status {
                Some(status) if is(&status) => return status,
                _ if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
                other => panic!("{host} does not come to see {what}: {other:#?}"),
            }
        }
    }

    /// Waits until a node sees the group running on `on`.
    pub fn runs(&self, seen_by: &str, name: &str, on: &str) -> StatusView {
        let is = |s: &StatusView| runs_on(group(s, name), on);
        self.until(seen_by, &format!("{name} running on {on}"), is)
    }

    /// Waits until the practice group runs on `on`, and everybody else is there and could take over.
    pub fn settled(&self, on: &str) -> StatusView {
        self.until(on, &format!("everybody well, the group on {on}"), |s| {
            runs_on(group(s, PRACTICE), on) && all_well(s)
        })
    }

    /// Waits until `ready` says yes.
    pub fn wait_for(&self, what: &str, ready: impl Fn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !ready() {
            assert!(Instant::now() < end, "{what} does not happen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Applies a configuration that is the present one changed.
    pub fn reconfigure(&self, host: &str, change: impl FnOnce(String) -> String) {
        let said = self.apply(host, &change(self.hotpair(host, &["config", "show"])));
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    /// Tries to apply a configuration.
    pub fn apply(&self, host: &str, text: &str) -> Said {
        self.with_input(host, &["hotpair", "config", "apply", "-"], text)
    }

    pub fn with_input(&self, host: &str, argv: &[&str], input: &str) -> Said {
        let argv: Vec<_> = argv.iter().map(|word| (*word).to_owned()).collect();
        let mut command = self.0.command(host, &argv).expect("the host runs programs");
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.stderr(Stdio::piped()).spawn().expect("it starts");
        // A program that ends early does not read it all.
        let _ = child
            .stdin
            .take()
            .map(|mut pipe| pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("it ends");
        Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            err: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }
    }

    /// Process ids of the sample application on a host, as the host numbers them.
    pub fn app(&self, host: &str) -> AppPid {
        let found = self.0.exec(host, &["pgrep", "-f", "[s]ample-app"]);
        let found = found.expect("the host runs programs");
        String::from_utf8_lossy(&found.stdout).trim().to_owned()
    }

    /// Forgets what failed, as an operator does who has mended it.
    pub fn clear(&self, host: &str) {
        self.hotpair(host, &["group", "clear", PRACTICE]);
    }

    /// Starts watching the practice group's address.
    pub fn watch(&self) -> Watch {
        self.watch_address(hotpair_lab::plan::VIRTUAL_IP)
    }

    pub fn watch_address(&self, address: Ipv4Addr) -> Watch {
        let options = ProbeOptions {
            address,
            interval: Duration::from_millis(2),
            // A busy machine delays everybody, observers too; a lease is longer than this.
            threshold: Duration::from_millis(500),
            ..ProbeOptions::default()
        };
        let probe = self.0.probe(&options).expect("the probe starts");
        pass(150);
        Watch(probe)
    }
}

/// The client outside at work.
pub struct Watch(ProbeHandle);

impl Watch {
    /// Ends it a little later; never may two nodes have answered.
    pub fn safe(self) -> ProbeReport {
        pass(300);
        let report = self.0.finish().expect("the probe ends");
        assert!(report.answers > 0, "nobody ever answered: {report:#?}");
        assert_eq!(
            report.double_answer_ms, 0,
            "two nodes answered: {report:#?}"
        );
        report
    }

    /// The same, and nobody outside may have noticed anything.
    pub fn unnoticed(self) -> ProbeReport {
        let report = self.safe();
        assert!(report.outages.is_empty(), "an outage: {:?}", report.outages);
        assert_eq!(report.node_changes, 0, "{report:#?}");
        report
    }
}

/// Lets time pass in which something could go wrong.
pub fn pass(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

pub fn group<'a>(status: &'a StatusView, name: &str) -> &'a GroupView {
    let found = status.groups.iter().find(|g| g.name == name);
    found.unwrap_or_else(|| panic!("no group {name}: {status:#?}"))
}

pub fn runs_on(group: &GroupView, node: &str) -> bool {
    group.active_on == [node] && group.state == "running"
}

pub fn is_on(status: &StatusView, name: &str, node: &str) -> bool {
    runs_on(group(status, name), node)
}

/// Everybody is online and has a vote, and every node could run every group. Where there is a third vote no
/// group is pinned, so that it is taken over; two nodes alone have each pinned, so that it goes on.
pub fn all_well(status: &StatusView) -> bool {
    let alone = status.witness.is_none() && status.nodes.len() == 2;
    status.leader.is_some()
        && !status.cluster.guarantee_reason.contains("being changed")
        && status.nodes.iter().all(|n| n.state == "online" && n.votes)
        && status.witness.iter().all(|w| w.state == "online")
        && status.groups.iter().flat_map(|g| &g.nodes).all(|n| n.fit)
        && status.groups.iter().all(|g| g.pinned.is_some() == alone)
}

/// TOML of one more group: a virtual address `10.77.1.LAST` and the sample application on it.
pub fn one_more(name: &str, last: u8, nodes: &[&str]) -> String {
    format!(
        r#"
[group.{name}]
nodes = {nodes:?}

[group.{name}.address.{name}-ip]
address = "10.77.1.{last}/24"
nics = ["eth0"]

[group.{name}.service.{name}-app]
command = ["/run/bin/hotpair", "lab", "sample-app", "--listen", "10.77.1.{last}:8077"]
requires = ["{name}-ip"]
"#
    )
}

/// A group of one program, which runs while `/run/NAME` is there. `start` and `stop` must succeed before that file is
/// made and taken away; `policies` are lines of the group.
pub fn switchable(name: &str, policies: &str, start: &str, stop: &str) -> String {
    format!(
        r#"
[group.{name}]
nodes = ["node1", "node2"]
{policies}

[group.{name}.program.{name}-p]
start = ["/bin/sh", "-c", "{start} && touch /run/{name}"]
stop = ["/bin/sh", "-c", "{stop} && rm -f /run/{name}"]
status = ["/usr/bin/test", "-e", "/run/{name}"]
"#
    )
}
