//! Resources of OCF agents: what each exit code does, hangs, leftovers, verdicts.

use super::bench::{Bench, SOON, resource, wait};
use crate::executor::ExecEvent;
use hotpair_core::config::{Ocf, Resource, ResourceKind};
use hotpair_core::group::{ResourceFact, Work};
use std::collections::BTreeMap;
use std::time::Duration;

/// A resource of the agent `ocf:test:<name>`.
fn of_agent(name: &str) -> Resource {
    resource(ResourceKind::Ocf(Ocf {
        provider: "test".into(),
        agent: name.into(),
        parameters: BTreeMap::from([("word".into(), "hello".into())]),
        interval: Duration::from_millis(50),
        monitor_timeout: SOON,
        check_level: 0,
    }))
}

/// Keeps its state in a file, as most agents do: `$state`.
const DUMMY: &str = r#"
case $1 in
start) touch "$state"; exit 0;;
stop) rm -f "$state"; exit 0;;
monitor) [ -e "$state" ] || exit 7;;
esac
"#;

impl Bench {
    /// Installs an agent; its file is whole when it appears.
    fn agent(&self, name: &str, script: &str) {
        let dir = self.path("ocf/resource.d/test");
        std::fs::create_dir_all(&dir).unwrap();
        let state = self.path(&format!("{name}.state"));
        let text = format!("#!/bin/sh\nstate={}\n{script}\n", state.display());
        // Written by another process: a file that is open for writing in a child that another test has
        // just forked cannot be executed.
        let write = "printf %s \"$1\" >\"$0.new\" && chmod +x \"$0.new\" && mv \"$0.new\" \"$0\"";
        let done = std::process::Command::new("/bin/sh")
            .args(["-c", write])
            .args([dir.join(name).as_os_str(), text.as_ref()])
            .status();
        assert!(done.unwrap().success());
    }

    fn with_agent(name: &str, script: &str) -> Self {
        let mut bench = Self::new(&[]);
        bench.agent(name, script);
        bench.add("one", of_agent(name));
        bench
    }

    fn add(&mut self, id: &str, resource: Resource) {
        let group = self.cluster.groups.get_mut(&"shop".into()).unwrap();
        group.resources.insert(id.into(), resource);
        self.configure();
    }

    fn state(&self, name: &str) -> bool {
        self.path(&format!("{name}.state")).exists()
    }
}

#[test]
fn an_agent_starts_is_found_running_and_stops() {
    let script =
        format!("echo \"$1 $OCF_RESKEY_word $OCF_RESOURCE_INSTANCE $HOTPAIR_GROUP\"{DUMMY}");
    let mut bench = Bench::with_agent("dummy", &script);
    assert!(!bench.next_detected("one").0);
    assert_eq!(bench.act("one", Work::Start), Ok(()));
    assert_eq!(bench.next_detected("one"), (true, String::new()));
    assert_eq!(bench.act("one", Work::Stop), Ok(()));
    assert!(!bench.state("dummy"));
    let (running, detail) = bench.next_detected("one");
    assert!(!running);
    assert!(
        detail.contains("finds it not running (exit code 7)"),
        "{detail}"
    );
    let runs = bench.executor().runs(&"shop".into(), &"one".into());
    let outputs: Vec<_> = runs.iter().map(|run| run.output.as_str()).collect();
    assert_eq!(
        outputs,
        ["start hello shop.one shop\n", "stop hello shop.one shop\n"]
    );
}

#[test]
fn every_exit_code_of_a_start_says_what_it_means() {
    for (code, words) in [
        (1, "failed (exit code 1): no space"),
        (2, "parameters on this node (exit code 2)"),
        (3, "does not know this action"),
        (4, "lacks a permission"),
        (5, "must be installed on this node"),
        (6, "is not configured correctly"),
        (7, "finds it not running"),
        (99, "a code that the standard does not know (exit code 99)"),
    ] {
        let script =
            format!("[ $1 = monitor ] && exit 7; echo ocf-exit-reason:no space; exit {code}");
        let mut bench = Bench::with_agent("bad", &script);
        let error = bench.act("one", Work::Start).unwrap_err();
        assert!(error.starts_with("start: ocf:test:bad "), "{error}");
        assert!(error.contains(words), "{error}");
        let error = bench.act("one", Work::Stop);
        assert_eq!(
            error.is_ok(),
            code == 7,
            "what does not run is stopped: {error:?}"
        );
    }
}

#[test]
fn what_a_hung_or_flooding_agent_does_ends_at_its_limit_with_all_it_started() {
    let hang = "[ $1 = monitor ] && exit 7; [ $1 = stop ] && exit 0; yes & sleep 1000";
    let mut bench = Bench::new(&[]);
    bench.agent("hang", hang);
    bench.add(
        "one",
        Resource {
            start_timeout: Duration::from_millis(300),
            ..of_agent("hang")
        },
    );
    let error = bench.act("one", Work::Start).unwrap_err();
    assert!(
        error.contains("did not end within 0.3 s and was killed"),
        "{error}"
    );
    wait(|| bench.procs("one").is_empty().then_some(()));
    let runs = bench.executor().runs(&"shop".into(), &"one".into());
    assert!(runs[0].output.len() <= 16 << 10);
}

#[test]
fn a_monitor_that_hangs_has_failed_and_harms_nothing() {
    let script = format!("[ $1 = monitor ] && [ -e \"$state\" ] && sleep 1000{DUMMY}");
    let mut bench = Bench::new(&[]);
    bench.agent("slow", &script);
    let mut slow = of_agent("slow");
    if let ResourceKind::Ocf(ocf) = &mut slow.kind {
        ocf.monitor_timeout = Duration::from_millis(200);
    }
    bench.add("one", slow);
    assert_eq!(bench.act("one", Work::Start), Ok(()));
    let (running, detail) = bench.next_detected("one");
    assert!(
        !running && detail.contains("monitor: ocf:test:slow did not end"),
        "{detail}"
    );
    assert!(bench.state("slow"));
}

#[test]
fn a_kill_ends_the_processes_and_then_has_the_agent_take_back_the_rest() {
    let script = "
case $1 in
start) touch \"$state\"; sleep 1000 >/dev/null 2>&1 & exit 0;;
stop) [ -e \"$state\" ] && pgrep -g $$ >/dev/null; rm -f \"$state\"; exit 0;;
monitor) [ -e \"$state\" ] || exit 7;;
esac";
    let mut bench = Bench::with_agent("both", script);
    assert_eq!(bench.act("one", Work::Start), Ok(()));
    assert_eq!(bench.procs("one").len(), 1);
    assert_eq!(bench.act("one", Work::Kill), Ok(()));
    assert_eq!(bench.procs("one"), [0; 0]);
    assert!(!bench.state("both"), "the agent's stop was called");
    assert!(bench.executor().shared.records.all().is_empty());
}

#[test]
fn a_kill_overtakes_a_start_that_hangs() {
    let script = format!("[ $1 = start ] && touch \"$state\" && sleep 1000{DUMMY}");
    let mut bench = Bench::with_agent("hang", &script);
    let start = bench.begin("one", Work::Start);
    wait(|| bench.state("hang").then_some(()));
    assert_eq!(bench.act("one", Work::Kill), Ok(()));
    assert_eq!(bench.end(start), Err("killed while it was started".into()));
    assert!(!bench.state("hang"));
    assert_eq!(bench.dones(start), 1);
}

#[test]
fn a_kill_that_the_agent_cannot_finish_fails_so_that_it_is_tried_again() {
    let mut bench = Bench::with_agent("stuck", "[ $1 = monitor ] && exit 7; [ $1 = start ]");
    assert_eq!(bench.act("one", Work::Start), Ok(()));
    let error = bench.act("one", Work::Kill).unwrap_err();
    assert!(error.starts_with("stop: ocf:test:stuck failed"), "{error}");
    assert_eq!(bench.executor().shared.records.all().len(), 1);
}

#[test]
fn what_an_agent_left_running_is_killed_after_its_stop() {
    let script = format!("[ $1 = start ] && {{ sleep 1000 >/dev/null 2>&1 & }}{DUMMY}");
    let mut bench = Bench::with_agent("leaves", &script);
    assert_eq!(bench.act("one", Work::Start), Ok(()));
    assert_eq!(bench.procs("one").len(), 1);
    assert_eq!(bench.act("one", Work::Stop), Ok(()));
    assert_eq!(bench.procs("one"), [0; 0]);
    bench.find(|event| match event {
        ExecEvent::Log(text) => text.contains("its agent left running").then_some(()),
        _ => None,
    });
}

#[test]
fn a_resource_survives_a_restart_of_the_daemon() {
    let script = format!("[ $1 = start ] && {{ sleep 1000 >/dev/null 2>&1 & }}{DUMMY}");
    let mut bench = Bench::with_agent("lives", &script);
    assert_eq!(bench.act("one", Work::Start), Ok(()));
    let before = bench.procs("one");
    bench.end_daemon();
    bench.start_daemon();
    bench.configure();
    assert_eq!(bench.executor().adopt(&bench.cluster).len(), 1);
    assert_eq!(bench.procs("one"), before);
    assert_eq!(bench.next_detected("one"), (true, String::new()));
}

#[test]
fn a_node_without_the_agent_could_not_run_it_and_has_nothing_to_stop() {
    let mut bench = Bench::new(&[("one", of_agent("absent"))]);
    let problems = bench.next_verdict("one");
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].contains("test/absent is not on this node: install"),
        "{problems:?}"
    );
    let error = bench.act("one", Work::Start).unwrap_err();
    assert!(error.contains("is not on this node"), "{error}");
    assert_eq!(bench.act("one", Work::Stop), Ok(()));
    assert_eq!(bench.act("one", Work::Kill), Ok(()));
    bench.agent("absent", DUMMY);
    bench.next_fit("one");
}

#[test]
fn a_probe_that_says_not_installed_is_a_verdict_until_it_is() {
    let script =
        format!("[ -e \"$state.tool\" ] || {{ echo ocf-exit-reason:no tool; exit 5; }}{DUMMY}");
    let mut bench = Bench::with_agent("tool", &script);
    let problem = bench.next(|event| match event {
        ExecEvent::Fact {
            fact: ResourceFact::Verdict { problems },
            ..
        } => problems.first().cloned(),
        _ => None,
    });
    assert!(
        problem.contains("must be installed on this node (exit code 5): no tool"),
        "{problem}"
    );
    std::fs::write(bench.path("tool.state.tool"), "").unwrap();
    bench.next_fit("one");
}

#[test]
fn a_monitor_is_a_probe_until_it_was_started_here() {
    let script = "[ $1 = monitor ] && echo $OCF_RESKEY_CRM_meta_interval >>\"$state\"; exit 0";
    let mut bench = Bench::with_agent("probe", script);
    let intervals = |bench: &Bench, wanted: &str| {
        let text = std::fs::read_to_string(bench.path("probe.state")).unwrap_or_default();
        text.lines().any(|line| line == wanted).then_some(())
    };
    wait(|| intervals(&bench, "0"));
    assert_eq!(intervals(&bench, "50"), None);
    assert_eq!(bench.act("one", Work::Start), Ok(()));
    wait(|| intervals(&bench, "50"));
}
