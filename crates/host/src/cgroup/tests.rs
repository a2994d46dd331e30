use super::*;
use crate::process::testing::{SOON, TestCgroup};
use crate::process::{LogFile, Supervised};

fn start(group: &TestCgroup, script: &str) -> Supervised {
    let log = LogFile::open(Path::new("/dev/null")).unwrap();
    Supervised::spawn(&group.script(script), &log).unwrap()
}

#[test]
fn kill_empties_the_subtree_and_the_event_tells() {
    let group = TestCgroup::new();
    let inner = Cgroup::create(group.0.path(), "inner").unwrap();
    let mut events = group.0.events().unwrap();
    assert!(events.is_empty().unwrap());
    let mut program = group.script("exec sleep 600");
    program.cgroup = Some(inner.clone());
    let log = LogFile::open(Path::new("/dev/null")).unwrap();
    let mut sleeper = Supervised::spawn(&program, &log).unwrap();
    assert!(events.wait_change(SOON).unwrap());
    assert!(!events.is_empty().unwrap());
    assert_eq!(group.0.procs().unwrap(), [sleeper.pid()]);
    assert!(group.0.remove().is_err(), "not while it is in use");
    group.0.kill().unwrap();
    assert!(events.wait_change(SOON).unwrap());
    assert!(group.0.wait_empty(SOON).unwrap());
    assert!(sleeper.wait(SOON).unwrap().is_some());
    group.0.remove().unwrap();
    assert!(!inner.path().exists() && !group.0.path().exists());
    group.0.remove().unwrap();
}

#[test]
fn kill_without_cgroup_kill_empties_it_too() {
    let group = TestCgroup::new();
    let mut program = start(
        &group,
        "for i in 1 2 3 4 5; do (setsid sleep 600 &); done; while :; do sh -c 'sleep 600 & :'; done",
    );
    group.0.kill_by_signal().unwrap();
    assert!(group.0.is_empty().unwrap());
    assert!(program.wait(SOON).unwrap().is_some());
    assert_eq!(group.0.events().unwrap().value("frozen").unwrap(), Some(0));
}

#[test]
fn frozen_processes_stand_still_until_thawed() {
    let group = TestCgroup::new();
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let script = format!(
        "trap 'exit 3' TERM; : > {}; while :; do :; done",
        ready.display()
    );
    let mut program = start(&group, &script);
    let end = Instant::now() + SOON;
    while !ready.exists() {
        assert!(Instant::now() < end, "never ready");
        std::thread::yield_now();
    }
    group.0.freeze().unwrap();
    assert!(group.0.wait_frozen(SOON).unwrap());
    rustix::process::kill_process(Pid::from_raw(program.pid()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(program.wait(Duration::from_millis(50)).unwrap(), None);
    group.0.thaw().unwrap();
    assert_eq!(
        program.wait(SOON).unwrap(),
        Some(crate::process::Exit::Code(3))
    );
}

#[test]
fn waiting_for_an_empty_cgroup_ends_in_time() {
    let group = TestCgroup::new();
    let _sleeper = start(&group, "exec sleep 600");
    assert!(!group.0.wait_empty(Duration::from_millis(20)).unwrap());
}

#[test]
fn refuses_names_and_directories_that_are_no_cgroups() {
    let group = TestCgroup::new();
    for name in [
        "",
        "..",
        "a/b",
        ".hidden",
        "cgroup.procs",
        "a b",
        &"x".repeat(201),
    ] {
        assert!(
            matches!(
                Cgroup::create(group.0.path(), name),
                Err(CgroupError::Name(_))
            ),
            "{name}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Cgroup::create(dir.path(), "x"),
        Err(CgroupError::Foreign(_))
    ));
    assert!(!dir.path().join("x").exists());
    assert!(matches!(
        Cgroup::open(&dir.path().join("none")),
        Err(CgroupError::Io { .. })
    ));
    assert_eq!(Cgroup::open(group.0.path()).unwrap(), group.0);
}

const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
    40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
    41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:9 - cgroup2 cgroup2 rw\n\
    42 31 0:38 / /second rw,relatime - cgroup2 cgroup2 rw\n";

#[test]
fn the_first_writable_cgroup2_mount_is_the_root() {
    assert_eq!(
        root_among(HYBRID, |_| Ok(())).unwrap(),
        Path::new("/sys/fs/cgroup/uni fied")
    );
    let only_second = |path: &Path| {
        if path == Path::new("/second") {
            Ok(())
        } else {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        }
    };
    assert_eq!(
        root_among(HYBRID, only_second).unwrap(),
        Path::new("/second")
    );
}

#[test]
fn without_a_root_the_error_says_what_to_do() {
    let text = root_among("", |_| Ok(())).unwrap_err().to_string();
    assert!(
        text.contains("none is mounted") && text.contains("mount -t cgroup2"),
        "{text}"
    );
    let text = root_among(HYBRID, |_| Err(io::ErrorKind::PermissionDenied.into()))
        .unwrap_err()
        .to_string();
    assert!(text.contains("/second: permission denied"), "{text}");
}
