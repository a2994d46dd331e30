use super::super::testing::{SOON, TestCgroup};
use super::super::{Outcome, ProcessWatch, run};
use super::*;

struct Fixture {
    group: TestCgroup,
    dir: tempfile::TempDir,
    log: LogFile,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::open(&dir.path().join("log")).unwrap();
        Self {
            group: TestCgroup::new(),
            dir,
            log,
        }
    }

    fn start(&self, script: &str) -> Supervised {
        Supervised::spawn(&self.group.script(script), &self.log).unwrap()
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn wait_logged(&self, text: &str) {
        let end = std::time::Instant::now() + SOON;
        while !self.logged().contains(text) {
            assert!(
                std::time::Instant::now() < end,
                "`{text}` never logged: {}",
                self.logged()
            );
            std::thread::yield_now();
        }
    }
}

#[test]
fn exit_is_seen_through_the_pidfd_with_its_code() {
    let fixture = Fixture::new();
    let mut program = fixture.start("echo hello; read line; exit 7");
    assert_eq!(program.wait(SOON).unwrap(), Some(Exit::Code(7)));
    assert_eq!(program.exit(), Some(Exit::Code(7)));
    assert_eq!(fixture.logged(), "hello\n");
}

#[test]
fn the_watch_tells_of_a_killed_program() {
    let fixture = Fixture::new();
    let mut program = fixture.start("exec sleep 600");
    assert_eq!(program.exit(), None);
    let watch = ProcessWatch::start().unwrap();
    let (sender, exits) = std::sync::mpsc::channel();
    watch
        .watch(program.as_fd(), move || sender.send(()).unwrap())
        .unwrap();
    rustix::process::pidfd_send_signal(&program.pidfd, Signal::KILL).unwrap();
    exits.recv_timeout(SOON).unwrap();
    assert_eq!(program.exit(), Some(Exit::Signal(9)));
}

#[test]
fn stop_lets_a_program_end_in_good_order() {
    let fixture = Fixture::new();
    let mut program =
        fixture.start("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done");
    fixture.wait_logged("up");
    assert_eq!(
        program.stop(SOON).unwrap(),
        Stopped {
            exit: Exit::Code(5),
            forced: false
        }
    );
    assert_eq!(fixture.logged(), "up\nbye\n");
}

#[test]
fn stop_kills_a_deaf_program_and_what_it_left_behind() {
    let fixture = Fixture::new();
    let mut program =
        fixture.start("trap '' TERM; setsid sleep 600 & echo up; while :; do sleep 0.05; done");
    fixture.wait_logged("up");
    let stopped = program.stop(Duration::from_millis(100)).unwrap();
    assert_eq!(
        stopped,
        Stopped {
            exit: Exit::Signal(9),
            forced: true
        }
    );
    assert!(fixture.group.0.is_empty().unwrap());
    // Once more is harmless.
    assert_eq!(program.stop(SOON).unwrap().exit, Exit::Signal(9));
}

#[test]
fn stop_ends_a_stopped_program() {
    let fixture = Fixture::new();
    let mut program = fixture.start("exec sleep 600");
    rustix::process::pidfd_send_signal(&program.pidfd, Signal::STOP).unwrap();
    assert_eq!(
        program.stop(SOON).unwrap(),
        Stopped {
            exit: Exit::Signal(15),
            forced: false
        }
    );
}

#[test]
fn stop_ends_children_of_a_main_process_that_is_gone() {
    let fixture = Fixture::new();
    let mut program = fixture.start("setsid sleep 600 & exit 0");
    assert_eq!(program.wait(SOON).unwrap(), Some(Exit::Code(0)));
    assert!(!fixture.group.0.is_empty().unwrap());
    program.stop(SOON).unwrap();
    assert!(fixture.group.0.is_empty().unwrap());
}

/// A process that is not our child: its parent, a shell, has ended.
fn orphan(fixture: &Fixture) -> Identity {
    let run = run(
        &fixture.group.script("sleep 600 > /dev/null 2>&1 & echo $!"),
        SOON,
        100,
    );
    assert_eq!(run.outcome, Outcome::Exit(0));
    let pid: i32 = run.text().trim().parse().unwrap();
    Identity {
        pid,
        start_time: table::stat(pid).unwrap().start_time,
    }
}

#[test]
fn reattaches_to_a_process_of_a_previous_daemon_and_sees_its_end() {
    let fixture = Fixture::new();
    let identity = orphan(&fixture);
    let mut program = Supervised::reattach(identity, Some(fixture.group.0.clone())).unwrap();
    assert_eq!(program.exit(), None);
    let stopped = program.stop(SOON).unwrap();
    assert_eq!(
        stopped,
        Stopped {
            exit: Exit::Unknown,
            forced: false
        }
    );
    assert!(fixture.group.0.is_empty().unwrap());
}

#[test]
fn a_child_taken_over_again_still_yields_its_code() {
    let fixture = Fixture::new();
    let first = fixture.start("sleep 0.1; exit 3");
    let mut again = Supervised::reattach(first.identity(), None).unwrap();
    drop(first);
    assert_eq!(again.wait(SOON).unwrap(), Some(Exit::Code(3)));
}

#[test]
fn reattach_refuses_a_recycled_number() {
    let fixture = Fixture::new();
    let identity = orphan(&fixture);
    for start_time in [identity.start_time - 1, identity.start_time + 1, 0] {
        let error = Supervised::reattach(
            Identity {
                start_time,
                ..identity
            },
            None,
        )
        .unwrap_err();
        assert!(matches!(error, ReattachError::Recycled { .. }), "{error}");
    }
}

#[test]
fn reattach_refuses_a_process_that_is_gone() {
    let fixture = Fixture::new();
    let mut program = fixture.start("exit 0");
    let identity = program.identity();
    program.wait(SOON).unwrap();
    assert!(Supervised::reattach(identity, None).is_err());
    for pid in [0, -1, i32::MAX] {
        let error = Supervised::reattach(Identity { pid, start_time: 1 }, None).unwrap_err();
        assert!(matches!(error, ReattachError::Gone(_)), "{error}");
    }
}

#[test]
fn a_large_log_is_rotated_while_the_program_writes() {
    let mut fixture = Fixture::new();
    let mut program = fixture.start("seq 1 5000; echo full; read x < /dev/tty; exec sleep 600");
    fixture.wait_logged("full");
    assert!(!fixture.log.rotate(1 << 20).unwrap());
    assert!(fixture.log.rotate(1000).unwrap());
    let older = std::fs::read_to_string(fixture.dir.path().join("log.1")).unwrap();
    assert!(
        older.len() == 1000 && older.contains("4999\n5000\n"),
        "{older}"
    );
    program.stop(SOON).unwrap();
    let mut program = fixture.start("echo after");
    assert_eq!(program.wait(SOON).unwrap(), Some(Exit::Code(0)));
    assert!(
        fixture.logged().ends_with("after\n") && fixture.logged().len() < 200,
        "{}",
        fixture.logged()
    );
}

#[test]
fn a_fork_bomb_is_emptied() {
    let fixture = Fixture::new();
    let bomb = "i=0; while [ $i -lt 200 ]; do (setsid sleep 600 &) ; i=$((i+1)); done; echo armed; wait; exec sleep 600";
    let mut program = fixture.start(bomb);
    fixture.wait_logged("armed");
    assert!(fixture.group.0.procs().unwrap().len() >= 200);
    program.stop(Duration::ZERO).unwrap();
    assert!(fixture.group.0.is_empty().unwrap());
    assert_eq!(fixture.group.0.procs().unwrap(), Vec::<i32>::new());
}
