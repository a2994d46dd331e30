//! Hooks: their moments and order, what they are told, and what their failure leads to.

use super::bench::{Bench, program, service, shell};
use crate::executor::ExecEvent;
use hotpair_core::config::{Environment, Hook, HookMoment, Resource};
use hotpair_core::group::Work;
use std::path::Path;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

const MOMENTS: [HookMoment; 5] = [
    HookMoment::BeforeStart,
    HookMoment::AfterStart,
    HookMoment::BeforeStop,
    HookMoment::AfterStop,
    HookMoment::StopFailed,
];

fn hook(when: HookMoment, script: &str) -> Hook {
    Hook {
        when,
        command: shell(script),
        environment: Environment::default(),
        timeout: Duration::from_secs(60),
    }
}

/// A program whose hooks and own work write their names to `trace`.
fn traced(bench: &mut Bench, stop: &str) {
    let trace = bench.path("trace");
    let trace = trace.display();
    let hooks = MOMENTS.map(|when| hook(when, &format!("echo $HOTPAIR_HOOK >>{trace}")));
    let app = Resource {
        hooks: hooks.to_vec(),
        ..program(
            &format!("echo start >>{trace}"),
            &format!("echo stop >>{trace}; {stop}"),
        )
    };
    bench.put("app", app);
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

impl Bench {
    fn logged(&mut self, part: &str) {
        self.find(|event| match event {
            ExecEvent::Log(text) => text.contains(part).then_some(()),
            _ => None,
        });
    }
}

#[test]
fn hooks_are_run_before_and_after_start_and_stop() {
    let mut bench = Bench::new(&[]);
    traced(&mut bench, "true");
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    let expected = [
        "before_start",
        "start",
        "after_start",
        "before_stop",
        "stop",
        "after_stop",
    ];
    assert_eq!(lines(&bench.path("trace")), expected);
    let runs = bench.executor().runs(&"shop".into(), &"app".into());
    let works: Vec<_> = runs.iter().map(|run| run.work.as_str()).collect();
    let kept = [
        "before_start hook",
        "start",
        "after_start hook",
        "before_stop hook",
        "stop",
        "after_stop hook",
    ];
    assert_eq!(works, kept);
}

#[test]
fn a_failed_stop_has_a_hook_of_its_own() {
    let mut bench = Bench::new(&[]);
    traced(&mut bench, "exit 3");
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let error = bench.act("app", Work::Stop).unwrap_err();
    assert!(error.contains("exit code 3"), "{error}");
    let trace = lines(&bench.path("trace"));
    assert_eq!(trace[3..], ["before_stop", "stop", "stop_failed"]);
}

#[test]
fn a_hook_knows_group_resource_node_and_reason() {
    let mut bench = Bench::new(&[]);
    let told = bench.path("told");
    let script = format!(
        "echo $HOTPAIR_HOOK $HOTPAIR_GROUP $HOTPAIR_RESOURCE $HOTPAIR_NODE $HOTPAIR_EPOCH: $HOTPAIR_REASON $MINE >{}",
        told.display()
    );
    let mut told_all = hook(HookMoment::AfterStart, &script);
    let mine = ("MINE".into(), "mine".into());
    told_all.environment.variables.extend([mine]);
    let app = Resource {
        hooks: vec![told_all],
        ..service("exec sleep 1000")
    };
    bench.put("app", app);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let told = lines(&told);
    assert_eq!(told, ["after_start shop app north 4: node2 is down mine"]);
}

#[test]
fn a_failed_hook_before_the_start_keeps_the_resource_stopped() {
    let mut bench = Bench::new(&[]);
    let (ran, second) = (bench.path("ran"), bench.path("second"));
    let app = Resource {
        hooks: vec![
            hook(
                HookMoment::BeforeStart,
                "echo the data is not there; exit 4",
            ),
            hook(
                HookMoment::BeforeStart,
                &format!("touch {}", second.display()),
            ),
        ],
        ..program(&format!("touch {}", ran.display()), "true")
    };
    bench.put("app", app);
    let error = bench.act("app", Work::Start).unwrap_err();
    assert_eq!(
        error,
        "before_start hook /bin/sh ended with exit code 4: the data is not there"
    );
    assert!(!ran.exists() && !second.exists());
}

#[test]
fn other_hooks_that_fail_or_hang_are_told_and_hold_up_nothing() {
    let mut bench = Bench::new(&[]);
    let hanging = Hook {
        timeout: SHORT,
        ..hook(HookMoment::BeforeStop, "sleep 1000 & sleep 1000")
    };
    let app = Resource {
        hooks: vec![
            hook(HookMoment::AfterStart, "exit 5"),
            hanging,
            hook(HookMoment::AfterStop, "/no/such/program"),
        ],
        ..service("exec sleep 1000")
    };
    bench.put("app", app);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    bench.logged("shop.app: after_start hook /bin/sh ended with exit code 5");
    assert_eq!(bench.procs("app").len(), 1);
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    bench.logged("shop.app: before_stop hook /bin/sh did not end within 0.2 s");
    bench.logged("shop.app: after_stop hook /bin/sh ended with exit code 127");
    assert_eq!(bench.procs("app"), [0; 0]);
}

#[test]
fn what_a_hook_leaves_running_ends_with_it_and_the_resource_stays() {
    let mut bench = Bench::new(&[]);
    let pid = bench.path("pid");
    let script = format!("sleep 1000 >/dev/null 2>&1 & echo $! >{}", pid.display());
    let app = Resource {
        hooks: vec![hook(HookMoment::AfterStart, &script)],
        ..service("exec sleep 1000")
    };
    bench.put("app", app);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let pid = lines(&pid).remove(0);
    // A zombie is nobody's concern.
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    assert!(stat.map_or(true, |stat| stat.contains(" Z ")));
    assert_eq!(bench.procs("app").len(), 1);
}

#[test]
fn a_kill_ends_the_hook_and_what_would_have_followed_it() {
    let mut bench = Bench::new(&[]);
    let (begun, ran) = (bench.path("begun"), bench.path("ran"));
    let script = format!("echo x >{}; sleep 1000", begun.display());
    let app = Resource {
        hooks: vec![hook(HookMoment::BeforeStart, &script)],
        ..program(&format!("touch {}", ran.display()), "true")
    };
    bench.put("app", app);
    let start = bench.begin("app", Work::Start);
    bench.wait_file("begun");
    assert_eq!(bench.act("app", Work::Kill), Ok(()));
    let error = bench.end(start).unwrap_err();
    assert!(error.contains("killed"), "{error}");
    assert!(!ran.exists());
    assert!(!bench.cgroup("app").join("hook").exists());
}

#[test]
fn a_missing_program_of_a_hook_before_the_start_makes_the_node_unfit() {
    let missing = Hook {
        command: vec!["/no/such/program".into()],
        ..hook(HookMoment::BeforeStart, "")
    };
    let app = Resource {
        hooks: vec![missing],
        ..service("exec sleep 1000")
    };
    let mut bench = Bench::new(&[("app", app)]);
    let problem = bench.find_problem("app");
    assert!(
        problem.starts_with("/no/such/program does not exist on this node"),
        "{problem}"
    );
}
