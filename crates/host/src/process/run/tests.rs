use super::super::testing::{SOON, TestCgroup};
use super::*;

const KIB: usize = 1 << 10;

#[test]
fn reports_code_and_output_in_order() {
    let group = TestCgroup::new();
    let run = run(&group.script("echo one; echo two >&2; exit 3"), SOON, KIB);
    assert_eq!(
        (run.outcome.clone(), run.text()),
        (Outcome::Exit(3), "one\ntwo\n".into())
    );
    assert!(!run.succeeded());
    assert!(super::run(&group.script("exit 0"), SOON, KIB).succeeded());
}

#[test]
fn reports_the_killing_signal() {
    let group = TestCgroup::new();
    assert_eq!(
        run(&group.script("kill -9 $$"), SOON, KIB).outcome,
        Outcome::Signal(9)
    );
}

#[test]
fn a_hanging_script_is_killed_with_all_it_started() {
    let group = TestCgroup::new();
    let script = group.script("trap '' TERM; echo begun; setsid sleep 600 & sleep 600 & wait");
    let run = run(&script, Duration::from_millis(300), KIB);
    assert_eq!(
        (run.outcome.clone(), run.text()),
        (Outcome::TimedOut, "begun\n".into())
    );
    assert!(run.took < SOON);
    assert!(group.0.wait_empty(SOON).unwrap());
}

#[test]
fn a_hanging_script_without_cgroup_loses_its_process_group() {
    let mark = tempfile::tempdir().unwrap();
    let pid_file = mark.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
    let run = run(
        &Program::new(["sh", "-c", &script]),
        Duration::from_millis(500),
        KIB,
    );
    assert_eq!(run.outcome, Outcome::TimedOut);
    let pid: i32 = std::fs::read_to_string(pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let end = Instant::now() + SOON;
    while super::super::stat(pid).is_ok_and(|stat| !stat.is_dead()) {
        assert!(Instant::now() < end, "child {pid} survived");
        std::thread::yield_now();
    }
}

#[test]
fn returns_at_the_main_exit_though_a_child_holds_the_output() {
    let group = TestCgroup::new();
    let run = run(&group.script("echo out; sleep 600 & exit 0"), SOON, KIB);
    assert_eq!(
        (run.outcome.clone(), run.text()),
        (Outcome::Exit(0), "out\n".into())
    );
    assert!(run.took < SOON);
    assert!(!group.0.is_empty().unwrap(), "the child lives on");
}

#[test]
fn returns_at_the_main_exit_though_a_child_floods_the_output() {
    let group = TestCgroup::new();
    let run = run(&group.script("yes & exit 4"), SOON, KIB);
    assert_eq!(run.outcome, Outcome::Exit(4));
    assert!(run.output.len() <= KIB);
}

#[test]
fn a_flood_is_taken_and_only_its_end_kept() {
    let group = TestCgroup::new();
    let run = run(
        &group.script("head -c 10000000 /dev/zero; echo; echo last"),
        SOON,
        2 * KIB,
    );
    assert_eq!(run.outcome, Outcome::Exit(0));
    assert_eq!(run.output.len(), 2 * KIB);
    assert_eq!(run.dropped + run.output.len() as u64, 10_000_006);
    assert!(run.output.ends_with(b"\nlast\n"));
}

#[test]
fn an_endless_flood_ends_at_the_timeout() {
    let group = TestCgroup::new();
    let run = run(&group.script("exec yes"), Duration::from_millis(300), KIB);
    assert_eq!((run.outcome, run.output.len()), (Outcome::TimedOut, KIB));
}

#[test]
fn a_script_that_closes_its_output_is_still_waited_for() {
    let group = TestCgroup::new();
    let run = run(&group.script("exec >&- 2>&-; sleep 0.2; exit 9"), SOON, KIB);
    assert_eq!(run.outcome, Outcome::Exit(9));
}

fn failure(program: &Program) -> String {
    match run(program, SOON, KIB).outcome {
        Outcome::Failed(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_start_says_why_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "exit 0\n").unwrap();
    let name = plain.to_str().unwrap();

    let text = failure(&Program::new(["/no/such/program"]));
    assert!(
        text.contains("/no/such/program") && text.contains("No such file"),
        "{text}"
    );
    let text = failure(&Program::new(["no-such-program-here"]));
    assert!(
        text.contains("`no-such-program-here` not found in PATH"),
        "{text}"
    );
    let text = failure(&Program::new([name]));
    assert!(
        text.contains(name) && text.contains("Permission denied") && text.contains("chmod +x"),
        "{text}"
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&plain, mode).unwrap();
    let text = failure(&Program::new([name]));
    assert!(
        text.contains("Exec format error") && text.contains("#!/bin/sh"),
        "{text}"
    );
    let text = failure(&Program {
        user: Some("no-such-user-here".into()),
        ..Program::new(["true"])
    });
    assert!(text.contains("unknown user `no-such-user-here`"), "{text}");
    let text = failure(&Program {
        cwd: Some("/no/such/dir".into()),
        ..Program::new(["true"])
    });
    assert!(
        text.contains("working directory") && text.contains("No such file"),
        "{text}"
    );
    let text = failure(&Program::default());
    assert!(text.contains("no program given"), "{text}");
    assert!(failure(&Program::new(["a\0b"])).contains("NUL byte"));
}

#[test]
fn a_missing_interpreter_is_named_as_a_cause() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("script");
    std::fs::write(&path, "#!/no/such/shell\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let text = failure(&Program::new([path.to_str().unwrap()]));
    assert!(text.contains("interpreter"), "{text}");
}

#[test]
fn the_user_switch_drops_every_privilege() {
    let script = "id -u; id -g; id -G; grep -E '^Cap(Prm|Eff):' /proc/self/status; echo $HOME $USER; \
                  echo x > /proc/sys/kernel/hostname || echo refused";
    let program = Program {
        user: Some("nobody".into()),
        ..Program::new(["sh", "-c", script])
    };
    let in_a_group = || {
        let group = [12_345u32];
        // SAFETY: the pointer is valid for one number; the raw call concerns only this thread.
        let done = unsafe { libc::syscall(libc::SYS_setgroups, group.len(), group.as_ptr()) };
        assert_eq!(done, 0, "this test needs root");
        run(&program, SOON, 4 * KIB)
    };
    let run = std::thread::scope(|scope| scope.spawn(in_a_group).join().unwrap());
    let nobody = super::super::Account::find("nobody").unwrap();
    let groups: Vec<String> = nobody.groups.iter().map(u32::to_string).collect();
    let text = run.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..3],
        [
            nobody.uid.to_string(),
            nobody.gid.to_string(),
            groups.join(" ")
        ],
        "{text}"
    );
    assert!(
        lines[3].ends_with("0000000000000000") && lines[4].ends_with("0000000000000000"),
        "{text}"
    );
    assert_eq!(lines[5], format!("{} nobody", nobody.home));
    assert_eq!(lines.last(), Some(&"refused"));
}

#[test]
fn surroundings_are_clean() {
    let group = TestCgroup::new();
    let script = "ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0; pwd; echo \"[$GIVEN][$CARGO_PKG_NAME]\"; \
                  grep -E '^Sig(Blk|Ign):' /proc/self/status; cat /proc/$$/oom_score_adj; \
                  [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leads";
    let mut program = group.script(script);
    program.env = vec![("GIVEN".into(), "x".into())];
    let leak = std::fs::File::open("/dev/null").unwrap();
    // An inheritable descriptor, as a careless library would leave.
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let text = run(&program, SOON, 4 * KIB).text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "0 1 2 3 /dev/null", "{text}");
    assert_eq!(lines[1..3], ["/", "[x][]"], "{text}");
    assert!(
        lines[3].ends_with("0000000000000000") && lines[4].ends_with("0000000000000000"),
        "{text}"
    );
    assert_eq!(lines[5..], ["0", "leads"], "{text}");
}
