//! Start and stop programs: their results, limits and leftovers.

use super::bench::{Bench, program};
use crate::executor::ExecEvent;
use hotpair_core::config::Resource;
use hotpair_core::group::Work;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn what_a_start_program_leaves_in_the_background_lives_in_the_cgroup_until_stopped() {
    let start = "sleep 1000 >/dev/null 2>&1 & echo started";
    let mut bench = Bench::new(&[("app", program(start, "echo stopping"))]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    assert_eq!(bench.procs("app").len(), 1);
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    assert_eq!(bench.procs("app"), [0; 0]);
    bench.find(|event| match event {
        ExecEvent::Log(text) => text.contains("its stop program left").then_some(()),
        _ => None,
    });
    let runs = bench.executor().runs(&"shop".into(), &"app".into());
    let told: Vec<_> = runs
        .iter()
        .map(|run| (run.work.as_str(), run.outcome.as_str(), run.output.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("start", "exit code 0", "started\n"),
            ("stop", "exit code 0", "stopping\n")
        ]
    );
}

#[test]
fn a_failing_start_program_tells_code_and_last_line() {
    let mut bench = Bench::new(&[(
        "app",
        program("echo a; echo no licence >&2; exit 7", "true"),
    )]);
    let error = bench.act("app", Work::Start).unwrap_err();
    assert_eq!(
        error,
        "start program /bin/sh ended with exit code 7: no licence"
    );
}

#[test]
fn a_hanging_start_program_is_killed_with_its_children_after_its_timeout() {
    let hanging = Resource {
        start_timeout: SHORT,
        ..program("sleep 1000 & sleep 1000", "true")
    };
    let mut bench = Bench::new(&[("app", hanging)]);
    let error = bench.act("app", Work::Start).unwrap_err();
    assert!(error.contains("did not end within 0.2 s"), "{error}");
    assert_eq!(bench.act("app", Work::Kill), Ok(()));
    assert_eq!(bench.procs("app"), [0; 0]);
}

#[test]
fn a_flood_of_output_is_cut_to_its_end() {
    let start = "i=0; while [ $i -lt 20000 ]; do echo line $i of a very long story; i=$((i+1)); done; echo end; exit 1";
    let mut bench = Bench::new(&[("app", program(start, "true"))]);
    let error = bench.act("app", Work::Start).unwrap_err();
    assert!(error.ends_with(": end"), "{error}");
    let runs = bench.executor().runs(&"shop".into(), &"app".into());
    assert!(runs[0].output.len() <= 16 << 10 && runs[0].dropped > 100_000);
}

#[test]
fn only_the_last_twenty_runs_are_kept() {
    let mut bench = Bench::new(&[("app", program("echo $$", "true"))]);
    for _ in 0..22 {
        assert_eq!(bench.act("app", Work::Start), Ok(()));
    }
    let runs = bench.executor().runs(&"shop".into(), &"app".into());
    assert_eq!(runs.len(), 20);
}

#[test]
fn a_kill_ends_a_hanging_start_at_once_and_both_end() {
    let mut bench = Bench::new(&[("app", program("echo up; sleep 1000", "true"))]);
    let start = bench.begin("app", Work::Start);
    super::bench::wait(|| (!bench.procs("app").is_empty()).then_some(()));
    let kill = bench.begin("app", Work::Kill);
    assert_eq!(bench.end(kill), Ok(()));
    assert_eq!(bench.end(start), Err("killed while it was started".into()));
    assert_eq!(bench.procs("app"), [0; 0]);
    bench.catch_up();
    assert_eq!((bench.dones(start), bench.dones(kill)), (1, 1));
}

#[test]
fn a_failing_or_hanging_stop_program_fails_and_kills_nothing_but_itself() {
    let start = "sleep 1000 >/dev/null 2>&1 &";
    let hanging = Resource {
        stop_timeout: SHORT,
        ..program(start, "sleep 1000")
    };
    let mut bench = Bench::new(&[("bad", program(start, "exit 5")), ("slow", hanging)]);
    for (name, reason) in [("bad", "exit code 5"), ("slow", "did not end within 0.2 s")] {
        assert_eq!(bench.act(name, Work::Start), Ok(()));
        let error = bench.act(name, Work::Stop).unwrap_err();
        assert!(error.contains(reason), "{error}");
        super::bench::wait(|| (bench.procs(name).len() == 1).then_some(()));
        assert_eq!(bench.act(name, Work::Kill), Ok(()));
        assert_eq!(bench.procs(name), [0; 0]);
    }
}

#[test]
fn leftovers_of_an_earlier_run_are_killed_before_a_start() {
    let start = "sleep 1000 >/dev/null 2>&1 &";
    let mut bench = Bench::new(&[("app", program(start, "true"))]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let first = bench.procs("app");
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let second = bench.procs("app");
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
}

#[test]
fn an_unknown_resource_is_not_started_and_counts_as_stopped() {
    let mut bench = Bench::new(&[]);
    assert!(bench.act("ghost", Work::Start).is_err());
    assert_eq!(bench.act("ghost", Work::Stop), Ok(()));
    assert_eq!(bench.act("ghost", Work::Kill), Ok(()));
    assert_eq!(bench.act("ghost", Work::Check), Ok(()));
}

#[test]
fn a_resource_taken_out_of_the_configuration_is_still_stopped_by_its_program() {
    let marker = tempfile::NamedTempFile::new().unwrap();
    let stop = format!("echo stopped > {}", marker.path().display());
    let mut bench = Bench::new(&[("app", program("true", &stop))]);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    bench.cluster.groups.clear();
    bench.configure();
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    assert_eq!(std::fs::read_to_string(marker.path()).unwrap(), "stopped\n");
}
