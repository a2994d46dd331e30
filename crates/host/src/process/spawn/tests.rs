use super::super::testing::{SOON, TestCgroup};
use super::super::{Exit, poll, reap};
use super::*;
use std::os::fd::AsFd;

/// What a child started in this way writes, and how it ends.
fn outcome(program: &Program, entry: Entry) -> (String, Exit) {
    let (output, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let image = Image::prepare(program).unwrap();
    let Start::Running(child) = start(program, &image, input.as_fd(), entry, SOON).unwrap() else {
        panic!("{entry:?}: killed at birth");
    };
    drop(input);
    let mut text = String::new();
    File::from(output).read_to_string(&mut text).unwrap();
    assert!(poll(&mut [PollFd::new(&child.pidfd, PollFlags::IN)], SOON).unwrap());
    (text, reap(child.pidfd.as_fd()).unwrap())
}

#[test]
fn a_script_is_born_in_its_cgroup_by_either_way() {
    for entry in [Entry::Clone, Entry::Write] {
        let group = TestCgroup::new();
        let (text, exit) = outcome(&group.script("cat /proc/self/cgroup"), entry);
        assert_eq!(exit, Exit::Code(0));
        let name = group.0.path().file_name().unwrap().to_str().unwrap();
        assert!(
            text.lines()
                .any(|line| line.starts_with("0::") && line.ends_with(name)),
            "{entry:?}: {text}"
        );
    }
}

#[test]
fn a_program_starts_in_a_cgroup_that_was_killed_before() {
    let group = TestCgroup::new();
    group.0.kill().unwrap();
    let run = super::super::run(&group.script("echo alive"), SOON, 100);
    assert_eq!(run.text(), "alive\n", "{run:?}");
}

#[test]
fn failures_are_told_by_either_way() {
    for entry in [Entry::Clone, Entry::Write] {
        let program = Program::new(["/no/such/program"]);
        let image = Image::prepare(&program).unwrap();
        let (_output, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let error = start(&program, &image, input.as_fd(), entry, SOON).unwrap_err();
        assert!(
            matches!(
                error,
                SpawnError::Step {
                    step: Step::Exec,
                    ..
                }
            ),
            "{entry:?}: {error}"
        );
    }
}

#[test]
fn a_cgroup_that_is_gone_is_an_error_of_the_cgroup() {
    let group = TestCgroup::new();
    group.0.remove().unwrap();
    let (_output, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let error = spawn(&group.script("true"), input.as_fd(), SOON).unwrap_err();
    assert!(matches!(error, SpawnError::Cgroup(_)), "{error}");
}

#[test]
fn a_frozen_cgroup_is_given_up_on_and_leaves_no_process() {
    let group = TestCgroup::new();
    group.0.freeze().unwrap();
    let (_output, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let error = spawn(
        &group.script("true"),
        input.as_fd(),
        Duration::from_millis(50),
    )
    .unwrap_err();
    assert!(matches!(error, SpawnError::Slow { .. }), "{error}");
    assert!(group.0.wait_empty(SOON).unwrap());
}
