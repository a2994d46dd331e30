use super::*;

#[test]
fn exited_service_is_stopped_and_started_again_at_once() {
    let mut rig = Rig::of(&[("app", service(&[]))]).running();
    assert_eq!(rig.exits("app"), ["stop app"]);
    assert_eq!(rig.state(), degraded("app is restarted: exit code 1"));
    assert_eq!(rig.ok("stop app"), ["start app"]);
    assert_eq!(rig.ok("start app"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.report().resources[&"app".into()].restarts, 1);
}

#[test]
fn resource_found_not_running_is_restarted_and_found_running_again() {
    let mut rig = Rig::watched().running();
    assert_eq!(rig.found("app", false), ["stop app"]);
    assert_eq!(rig.ok("stop app"), ["start app"]);
    assert_eq!(rig.ok("start app"), ["check app"]);
    assert_eq!(rig.state(), degraded("app is restarted: port 80 is closed"));
    assert_eq!(rig.found("app", true), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn restart_takes_the_dependents_down_first_and_up_again_last() {
    let mut rig = Rig::chain().running();
    assert_eq!(rig.exits("a"), ["stop c"]);
    assert_eq!(rig.ok("stop c"), ["stop b"]);
    assert_eq!(rig.ok("stop b"), ["stop a"]);
    assert_eq!(rig.ok("stop a"), ["start a"]);
    assert_eq!(rig.ok("start a"), ["start b"]);
    assert_eq!(rig.ok("start b"), ["start c"]);
    assert_eq!(rig.ok("start c"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn stopped_dependent_waits_for_the_restart_whatever_the_names() {
    let mut rig = Rig::of(&[
        ("z", service(&[])),
        ("y", service(&["z"])),
        ("x", service(&["y"])),
    ])
    .running();
    assert_eq!(rig.exits("z"), ["stop x"]);
    assert_eq!(rig.ok("stop x"), ["stop y"]);
    assert_eq!(rig.ok("stop y"), ["stop z"]);
    assert_eq!(rig.ok("stop z"), ["start z"]);
    assert_eq!(rig.ok("start z"), ["start y"]);
    assert_eq!(rig.ok("start y"), ["start x"]);
}

#[test]
fn restart_leaves_what_does_not_depend_on_it_alone() {
    let mut rig = Rig::web().running();
    assert_eq!(rig.exits("site"), ["stop site"]);
    assert_eq!(rig.resource("db"), ResourceState::Running);
    assert_eq!(rig.ok("stop site"), ["start site"]);
}

#[test]
fn dependent_that_fails_during_a_restart_is_no_restart_of_its_own() {
    let mut rig = Rig::chain().running();
    rig.exits("a");
    assert_eq!(rig.exits("b"), NONE);
    assert_eq!(rig.ok("stop c"), ["stop b"]);
    assert_eq!(rig.report().resources[&"b".into()].restarts, 0);
    rig.finish();
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn failures_with_one_cause_count_once() {
    let mut rig = Rig::chain().running();
    for id in ["c", "b", "a"] {
        rig.run.fact(
            rig.now(),
            &id.into(),
            ResourceFact::Exited {
                epoch: Epoch(1),
                detail: "killed".into(),
            },
        );
    }
    assert_eq!(rig.settle(), ["stop c"]);
    let restarts: u32 = rig.report().resources.values().map(|r| r.restarts).sum();
    assert_eq!(restarts, 1);
}

#[test]
fn fourth_failure_within_the_window_gives_the_group_up() {
    let mut rig = Rig::web().running();
    for _ in 0..3 {
        rig.exits("site");
        rig.finish();
        assert_eq!(rig.state(), GroupState::Running);
    }
    assert_eq!(rig.exits("site"), ["stop site"]);
    assert_eq!(rig.state(), GroupState::Stopping);
    assert_eq!(rig.ok("stop site"), ["stop db", "stop ip"]);
    rig.finish();
    assert_eq!(rig.state(), failed("site", "exit code 1", false));
    assert_eq!(rig.resource("site"), ResourceState::Failed);
    assert!(rig.run.is_down());
}

#[test]
fn restarts_of_all_resources_count_together() {
    let mut rig = Rig::web().running();
    rig.config.restart.max = 2;
    for id in ["site", "db"] {
        rig.exits(id);
        rig.finish();
    }
    rig.exits("ip");
    rig.finish();
    assert_eq!(rig.state(), failed("ip", "exit code 1", false));
}

#[test]
fn restart_older_than_the_window_no_longer_counts() {
    let mut rig = Rig::watched().running();
    rig.config.restart.max = 1;
    rig.exits("app");
    rig.finish();
    assert_eq!(rig.deadline_ms(), Some(61_000));
    rig.wait(60_000).settle();
    assert_eq!(rig.report().resources[&"app".into()].restarts, 0);
    assert_eq!(rig.deadline_ms(), None);
    rig.exits("app");
    assert_eq!(rig.ok("stop app"), ["start app"]);
}

#[test]
fn restart_just_within_the_window_counts() {
    let mut rig = Rig::watched().running();
    rig.config.restart.max = 1;
    rig.exits("app");
    rig.finish();
    rig.wait(59_999).exits("app");
    assert_eq!(rig.ok("stop app"), NONE);
    assert_eq!(rig.state(), failed("app", "exit code 1", false));
}

#[test]
fn without_restarts_the_first_failure_gives_the_group_up() {
    let mut rig = Rig::watched().running();
    rig.config.restart.max = 0;
    assert_eq!(rig.exits("app"), ["stop app"]);
    assert_eq!(rig.ok("stop app"), NONE);
    assert_eq!(rig.state(), failed("app", "exit code 1", false));
}

#[test]
fn failed_start_stops_what_was_started_and_is_not_tried_again() {
    let mut rig = Rig::web();
    rig.settle();
    rig.ok("start db");
    rig.ok("start ip");
    assert_eq!(rig.fails("start site"), ["stop site"]);
    assert_eq!(rig.ok("stop site"), ["stop db", "stop ip"]);
    rig.finish();
    assert_eq!(rig.state(), failed("site", "start site failed", true));
    assert_eq!(rig.wait(1_000_000).settle(), NONE);
}

#[test]
fn failed_start_lets_another_start_under_way_end_first() {
    let mut rig = Rig::web();
    rig.settle();
    assert_eq!(rig.fails("start ip"), ["stop ip"]);
    assert_eq!(rig.ok("stop ip"), NONE);
    assert_eq!(rig.state(), GroupState::Stopping);
    assert_eq!(rig.ok("start db"), ["stop db"]);
    rig.finish();
    assert_eq!(rig.state(), failed("ip", "start ip failed", true));
}

#[test]
fn resource_not_found_running_in_time_failed_to_start() {
    let mut rig = Rig::watched();
    rig.settle();
    rig.ok("start app");
    assert_eq!(rig.found("app", false), NONE);
    assert_eq!(rig.wait(9_999).settle(), NONE);
    assert_eq!(rig.wait(1).settle(), ["stop app"]);
    rig.ok("stop app");
    assert_eq!(
        rig.state(),
        failed("app", "it was not found running within 10 s", true)
    );
}

#[test]
fn waiting_checks_again_after_200_ms_and_later_more_seldom() {
    let mut rig = Rig::watched();
    rig.settle();
    rig.ok("start app");
    rig.ok("check app");
    assert_eq!(rig.deadline_ms(), Some(1_200));
    assert_eq!(rig.wait(199).settle(), NONE);
    assert_eq!(rig.wait(1).settle(), ["check app"]);
    rig.wait(3_800);
    assert_eq!(rig.ok("check app"), ["check app"]);
    rig.ok("check app");
    assert_eq!(rig.deadline_ms(), Some(6_000));
}

#[test]
fn check_under_way_is_not_doubled() {
    let mut rig = Rig::watched();
    rig.settle();
    rig.ok("start app");
    assert_eq!(rig.wait(1_000).settle(), NONE);
    assert_eq!(rig.deadline_ms(), Some(11_000));
}

#[test]
fn service_that_exits_while_it_is_waited_for_failed_to_start() {
    let mut rig = Rig::watched();
    rig.settle();
    rig.ok("start app");
    assert_eq!(rig.exits("app"), ["stop app"]);
    rig.ok("stop app");
    assert_eq!(rig.state(), failed("app", "exit code 1", true));
}

#[test]
fn service_that_exits_before_its_start_has_ended_failed_to_start() {
    let mut rig = Rig::of(&[("app", service(&[]))]);
    rig.settle();
    assert_eq!(rig.exits("app"), NONE);
    assert_eq!(rig.ok("start app"), ["stop app"]);
    rig.ok("stop app");
    assert_eq!(rig.state(), failed("app", "exit code 1", true));
}

#[test]
fn start_that_fails_in_a_restart_is_one_more_try() {
    let mut rig = Rig::watched().running();
    rig.config.restart.max = 2;
    rig.exits("app");
    rig.ok("stop app");
    assert_eq!(rig.fails("start app"), ["stop app"]);
    assert_eq!(rig.ok("stop app"), ["start app"]);
    assert_eq!(rig.fails("start app"), ["stop app"]);
    assert_eq!(rig.ok("stop app"), NONE);
    assert_eq!(rig.state(), failed("app", "start app failed", false));
}

#[test]
fn exit_of_an_earlier_epoch_is_ignored() {
    let mut rig = Rig::of(&[("app", service(&[]))]);
    rig.epoch = 5;
    let mut rig = rig.running();
    assert_eq!(rig.exits_of("app", 4), NONE);
    assert_eq!(rig.exits_of("app", 6), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn new_epoch_keeps_what_runs_and_its_exit_still_counts() {
    let mut rig = Rig::of(&[("app", service(&[]))]).running();
    rig.epoch = 2;
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.report().epoch, Epoch(2));
    assert_eq!(rig.exits_of("app", 1), ["stop app"]);
}

#[test]
fn failed_group_is_started_again_only_by_a_new_epoch() {
    let mut rig = Rig::watched().running();
    rig.config.restart.max = 0;
    rig.exits("app");
    rig.finish();
    assert_eq!(rig.asks(Want::Stop), NONE);
    assert_eq!(rig.state(), failed("app", "exit code 1", false));
    assert_eq!(rig.asks(Want::Run), NONE);
    rig.epoch = 2;
    assert_eq!(rig.settle(), ["start app"]);
}

#[test]
fn new_epoch_of_a_failed_group_begins_with_all_its_restarts() {
    let mut rig = Rig::watched().running();
    rig.config.restart.max = 1;
    for _ in 0..2 {
        rig.exits("app");
        rig.finish();
    }
    assert_eq!(rig.state(), failed("app", "exit code 1", false));
    rig.epoch = 2;
    rig.settle();
    rig.finish();
    rig.exits("app");
    assert_eq!(rig.ok("stop app"), ["start app"]);
}

#[test]
fn failed_group_is_started_again_by_an_epoch_that_rose_before_its_permit_came() {
    let mut rig = Rig::watched().running();
    rig.config.restart.max = 0;
    rig.exits("app");
    rig.finish();
    assert_eq!(rig.state(), failed("app", "exit code 1", false));
    rig.epoch = 2;
    rig.want = Want::Gone;
    rig.settle();
    rig.want = Want::Run;
    assert_eq!(rig.settle(), ["start app"]);
}

#[test]
fn new_epoch_of_a_running_group_keeps_the_count_of_restarts() {
    let mut rig = Rig::watched().running();
    rig.config.restart.max = 1;
    rig.exits("app");
    rig.finish();
    rig.epoch = 2;
    rig.settle();
    rig.exits("app");
    rig.finish();
    assert_eq!(rig.state(), failed("app", "exit code 1", false));
}

#[test]
fn clearing_while_asked_to_run_waits_for_a_new_epoch_and_while_stopped_forgets() {
    let mut rig = Rig::watched().running();
    rig.config.restart.max = 0;
    rig.exits("app");
    rig.finish();
    rig.run.clear();
    assert_eq!(rig.settle(), NONE);
    rig.asks(Want::Stop);
    rig.run.clear();
    assert_eq!(rig.state(), GroupState::Stopped);
}

#[test]
fn verdict_alone_degrades_and_stops_nothing() {
    let mut rig = Rig::web().running();
    assert_eq!(rig.verdict("ip", &["eth0 has no carrier"]), NONE);
    assert_eq!(rig.state(), degraded("ip: eth0 has no carrier"));
    assert_eq!(rig.verdict("ip", &[]), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn verdict_with_a_failure_gives_the_group_up_without_a_restart() {
    let mut rig = Rig::web().running();
    rig.verdict("ip", &["eth0 has no carrier"]);
    assert_eq!(rig.exits("site"), ["stop site"]);
    assert_eq!(rig.ok("stop site"), ["stop db", "stop ip"]);
    rig.finish();
    assert_eq!(
        rig.state(),
        failed("site", "exit code 1 (ip: eth0 has no carrier)", false)
    );
}

#[test]
fn verdict_during_a_restart_ends_it_only_if_the_start_fails() {
    let mut rig = Rig::watched().running();
    rig.exits("app");
    assert_eq!(rig.verdict("app", &["/usr/bin/app is missing"]), NONE);
    assert_eq!(rig.ok("stop app"), ["start app"]);
    assert_eq!(rig.fails("start app"), ["stop app"]);
    assert_eq!(rig.ok("stop app"), NONE);
    assert!(matches!(rig.state(), GroupState::Failed { .. }));
}

#[test]
fn failed_stop_in_a_restart_waits_for_the_operator() {
    let mut rig = Rig::watched().running();
    rig.exits("app");
    assert_eq!(rig.fails("stop app"), NONE);
    assert!(matches!(rig.state(), GroupState::StopFailed { .. }));
    rig.run.clear();
    assert_eq!(rig.settle(), ["stop app"]);
    assert_eq!(rig.ok("stop app"), ["start app"]);
}

#[test]
fn stop_during_a_restart_ends_it() {
    let mut rig = Rig::watched().running();
    rig.exits("app");
    rig.ok("stop app");
    assert_eq!(rig.asks(Want::Stop), NONE);
    assert_eq!(rig.ok("start app"), ["stop app"]);
    assert_eq!(rig.ok("stop app"), NONE);
    assert_eq!(rig.state(), GroupState::Stopped);
}

#[test]
fn start_after_a_restart_that_was_stopped_is_a_first_start_again() {
    let mut rig = Rig::watched().running();
    rig.exits("app");
    rig.ok("stop app");
    rig.asks(Want::Stop);
    assert_eq!(rig.fails("start app"), ["stop app"]);
    assert_eq!(rig.ok("stop app"), NONE);
    rig.epoch = 2;
    assert_eq!(rig.asks(Want::Run), ["start app"]);
    rig.fails("start app");
    rig.ok("stop app");
    assert_eq!(rig.state(), failed("app", "start app failed", true));
}
