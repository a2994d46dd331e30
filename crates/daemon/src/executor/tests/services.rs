//! Services: started, ended, found again.

use super::bench::{Bench, program, resource, service, wait};
use crate::executor::ExecEvent;
use hotpair_core::config::{Environment, ResourceKind, Service};
use hotpair_core::group::Work;
use hotpair_core::ids::Epoch;
use std::time::Duration;

#[test]
fn a_service_runs_in_its_cgroup_with_its_environment_and_is_stopped() {
    let script = "echo $HOTPAIR_GROUP $HOTPAIR_RESOURCE $HOTPAIR_NODE $HOTPAIR_EPOCH $COLOUR $PWD; \
                  exec sleep 1000";
    let environment = Environment {
        user: Some("nobody".into()),
        directory: Some("/usr".into()),
        variables: [("COLOUR".to_owned(), "red".to_owned())].into(),
    };
    let mut bench = Bench::new(&[(
        "app",
        resource(ResourceKind::Service(Service {
            command: super::bench::shell(script),
            environment,
        })),
    )]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let line = bench.wait_file("log/shop.app.log");
    assert_eq!(line, "shop app north 4 red /usr\n");
    assert_eq!(bench.procs("app").len(), 1);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    assert_eq!(bench.procs("app").len(), 1);
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    assert_eq!(bench.procs("app"), [0; 0]);
    assert!(!bench.path("run/resources/shop/app.json").exists());
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    assert_eq!(bench.exits(), 0, "an end that was asked for is no news");
}

#[test]
fn an_exit_is_told_once_with_code_and_last_line() {
    let mut bench = Bench::new(&[("app", service("sleep 1000 & echo no database; exit 3"))]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let detail = bench.find(|event| match event {
        ExecEvent::Fact {
            fact: hotpair_core::group::ResourceFact::Exited { epoch, detail },
            ..
        } => Some((*epoch, detail.clone())),
        _ => None,
    });
    assert_eq!(
        detail,
        (Epoch(4), "exit code 3; last line: no database".into())
    );
    assert_eq!(bench.procs("app").len(), 1, "its child lives on");
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    assert_eq!(bench.procs("app"), [0; 0]);
    bench.catch_up();
    assert_eq!(bench.exits(), 1);
}

#[test]
fn a_killed_service_is_started_again_in_place() {
    let mut bench = Bench::new(&[("app", service("exec sleep 1000"))]);
    for _ in 0..3 {
        assert_eq!(bench.act("app", Work::Start), Ok(()));
        let pid = bench.procs("app")[0];
        kill(pid);
        assert_eq!(bench.next_exit("app"), "killed by signal 9");
        assert_eq!(bench.act("app", Work::Stop), Ok(()));
        assert_eq!(bench.act("app", Work::Start), Ok(()));
        assert_eq!(bench.act("app", Work::Stop), Ok(()));
    }
    assert_eq!(bench.exits(), 3);
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_service_that_ignores_sigterm_is_killed_after_its_stop_timeout() {
    let mut stubborn = service("trap '' TERM; echo ready; while :; do sleep 1; done");
    stubborn.stop_timeout = Duration::from_millis(100);
    let mut bench = Bench::new(&[("app", stubborn)]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    bench.wait_file("log/shop.app.log");
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    assert_eq!(bench.procs("app"), [0; 0]);
    bench.find(|event| match event {
        ExecEvent::Log(text) => text.contains("did not end within 0.1 s").then_some(()),
        _ => None,
    });
}

#[test]
fn a_kill_overtakes_a_stop_and_both_end() {
    let mut bench = Bench::new(&[(
        "app",
        service("trap '' TERM; echo ready; while :; do sleep 1; done"),
    )]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    bench.wait_file("log/shop.app.log");
    let stop = bench.begin("app", Work::Stop);
    let kill = bench.begin("app", Work::Kill);
    assert_eq!(bench.end(kill), Ok(()));
    let _either = bench.end(stop);
    assert_eq!(bench.procs("app"), [0; 0]);
    bench.catch_up();
    assert_eq!((bench.dones(stop), bench.dones(kill)), (1, 1));
}

#[test]
fn a_missing_program_fails_the_start_and_leaves_nothing() {
    let command = vec!["/no/such/program".to_owned()];
    let environment = Environment::default();
    let kind = ResourceKind::Service(Service {
        command,
        environment,
    });
    let mut bench = Bench::new(&[("app", resource(kind))]);
    let error = bench.act("app", Work::Start).unwrap_err();
    assert!(error.contains("/no/such/program"), "{error}");
    assert!(!bench.path("run/resources/shop/app.json").exists());
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
}

#[test]
fn a_restarted_daemon_takes_over_what_runs_and_hears_of_its_end() {
    let mut bench = Bench::new(&[
        ("app", service("exec sleep 1000")),
        ("short", service("exec sleep 1000")),
        ("job", program("true", "true")),
    ]);
    for resource in ["app", "short", "job"] {
        assert_eq!(bench.act(resource, Work::Start), Ok(()));
    }
    let pids = bench.procs("app");
    bench.end_daemon();
    kill(bench.procs("short")[0]);
    wait(|| bench.procs("short").is_empty().then_some(()));
    bench.start_daemon();
    bench.configure();
    let adopted = bench.executor().adopt(&bench.cluster);
    let names: Vec<_> = adopted
        .iter()
        .map(|(_, name, epoch)| (name.0.as_str(), *epoch))
        .collect();
    assert_eq!(names, [("app", Epoch(4)), ("job", Epoch(4))]);
    assert_eq!(bench.procs("app"), pids, "it was not touched");
    kill(pids[0]);
    assert!(bench.next_exit("app").contains("ended") || bench.exits() == 1);
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    assert_eq!(bench.act("app", Work::Start), Ok(()));
}

#[test]
fn a_recycled_process_number_is_not_taken_over() {
    let mut bench = Bench::new(&[("app", service("exec sleep 1000"))]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    bench.end_daemon();
    let path = bench.path("run/resources/shop/app.json");
    let mut record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["process"] = serde_json::json!([1, 1]);
    std::fs::write(&path, record.to_string()).unwrap();
    bench.start_daemon();
    assert!(bench.executor().adopt(&bench.cluster).is_empty());
    assert_eq!(
        bench.procs("app"),
        [0; 0],
        "what ran in its cgroup was killed"
    );
    assert!(!path.exists());
}

#[test]
fn what_a_record_of_another_boot_names_is_not_taken_over() {
    let mut bench = Bench::new(&[("job", program("true", "true"))]);
    assert_eq!(bench.act("job", Work::Start), Ok(()));
    let path = bench.path("run/resources/shop/job.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let other = text.replace("\"host_boot\":7", "\"host_boot\":8");
    assert_ne!(text, other);
    std::fs::write(&path, other).unwrap();
    bench.end_daemon();
    bench.start_daemon();
    assert!(bench.executor().adopt(&bench.cluster).is_empty());
}

#[test]
fn much_output_is_moved_away_and_the_service_runs_on() {
    let mut bench = Bench::new(&[(
        "app",
        service("head -c 5000000 /dev/zero | tr '\\0' x; exec sleep 1000"),
    )]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let older = bench.path("log/shop.app.log.1");
    wait(|| older.exists().then_some(()));
    assert!(!bench.procs("app").is_empty());
}

#[test]
fn a_resource_that_changed_its_kind_is_stopped_as_what_it_was_started_as() {
    let mut bench = Bench::new(&[("app", service("exec sleep 1000"))]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let group = bench.cluster.groups.values_mut().next().unwrap();
    group
        .resources
        .insert("app".into(), program("true", "exit 1"));
    bench.configure();
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    assert_eq!(bench.procs("app"), [0; 0]);
}
