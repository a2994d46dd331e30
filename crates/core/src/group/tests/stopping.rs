use super::*;

fn stop_failed(resource: &str, detail: &str) -> GroupState {
    GroupState::StopFailed {
        resource: resource.into(),
        detail: detail.into(),
    }
}

#[test]
fn stops_dependents_first_and_independent_branches_at_once() {
    let mut rig = Rig::web().running();
    assert_eq!(rig.asks(Want::Stop), ["stop site"]);
    assert_eq!(rig.state(), GroupState::Stopping);
    assert_eq!(rig.ok("stop site"), ["stop db", "stop ip"]);
    assert_eq!(rig.ok("stop db"), NONE);
    assert!(!rig.run.is_down());
    assert_eq!(rig.ok("stop ip"), NONE);
    assert_eq!(rig.state(), GroupState::Stopped);
    assert!(rig.run.is_down());
}

#[test]
fn start_under_way_ends_before_its_resource_is_stopped() {
    let mut rig = Rig::web();
    rig.settle();
    assert_eq!(rig.asks(Want::Stop), NONE);
    assert_eq!(rig.ok("start db"), ["stop db"]);
    assert_eq!(rig.fails("start ip"), ["stop ip"]);
    rig.finish();
    assert_eq!(rig.state(), GroupState::Stopped);
}

#[test]
fn resource_that_is_waited_for_is_stopped_without_waiting_for_its_check() {
    let mut rig = Rig::watched();
    rig.settle();
    rig.ok("start app");
    assert_eq!(rig.asks(Want::Stop), ["stop app"]);
    assert_eq!(rig.ok("check app"), NONE);
    assert_eq!(rig.ok("stop app"), NONE);
    assert_eq!(rig.state(), GroupState::Stopped);
}

#[test]
fn stop_under_way_ends_before_the_resource_is_started_again() {
    let mut rig = Rig::watched().running();
    rig.asks(Want::Stop);
    assert_eq!(rig.asks(Want::Run), NONE);
    assert_eq!(rig.ok("stop app"), ["start app"]);
}

#[test]
fn facts_during_a_stop_change_nothing() {
    let mut rig = Rig::watched().running();
    rig.asks(Want::Stop);
    assert_eq!(rig.found("app", true), NONE);
    assert_eq!(rig.found("app", false), NONE);
    assert_eq!(rig.exits("app"), NONE);
    assert_eq!(rig.state(), GroupState::Stopping);
}

#[test]
fn lost_permit_kills_everything_at_once_whatever_the_order() {
    let mut rig = Rig::web().running();
    assert_eq!(rig.asks(Want::Gone), ["kill db", "kill ip", "kill site"]);
    rig.ok("kill site");
    rig.ok("kill db");
    assert_eq!(rig.state(), GroupState::Stopping);
    assert_eq!(rig.ok("kill ip"), NONE);
    assert_eq!(rig.state(), GroupState::Stopped);
}

#[test]
fn kill_overtakes_a_start_whose_late_end_is_ignored() {
    let mut rig = Rig::web();
    rig.settle();
    assert_eq!(rig.asks(Want::Gone), ["kill db", "kill ip"]);
    assert_eq!(rig.ok("start db"), NONE);
    assert!(!rig.run.is_down());
    rig.ok("kill db");
    rig.ok("kill ip");
    assert!(rig.run.is_down());
    assert_eq!(rig.ok("start ip"), NONE);
    assert!(rig.run.is_down());
}

#[test]
fn kill_overtakes_a_stop() {
    let mut rig = Rig::watched().running();
    rig.asks(Want::Stop);
    assert_eq!(rig.asks(Want::Gone), ["kill app"]);
    assert_eq!(rig.ok("stop app"), NONE);
    assert_eq!(rig.state(), GroupState::Stopping);
    assert_eq!(rig.ok("kill app"), NONE);
    assert_eq!(rig.state(), GroupState::Stopped);
}

#[test]
fn failed_kill_is_tried_again_after_a_second() {
    let mut rig = Rig::watched().running();
    rig.asks(Want::Gone);
    assert_eq!(rig.fails("kill app"), NONE);
    assert_eq!(rig.deadline_ms(), Some(2_000));
    assert_eq!(rig.wait(999).settle(), NONE);
    assert_eq!(rig.wait(1).settle(), ["kill app"]);
    assert_eq!(rig.state(), GroupState::Stopping);
}

#[test]
fn permit_that_comes_back_starts_again_only_after_the_kill() {
    let mut rig = Rig::watched().running();
    rig.asks(Want::Gone);
    assert_eq!(rig.asks(Want::Run), NONE);
    assert_eq!(rig.ok("kill app"), ["start app"]);
    assert_eq!(rig.report().resources[&"app".into()].restarts, 0);
}

#[test]
fn failed_stop_waits_for_the_operator_with_what_it_requires() {
    let mut rig = Rig::chain().running();
    rig.asks(Want::Stop);
    rig.ok("stop c");
    assert_eq!(rig.fails("stop b"), NONE);
    assert_eq!(rig.state(), stop_failed("b", "stop b failed"));
    assert_eq!(rig.wait(1_000_000).settle(), NONE);
    assert!(!rig.run.is_down());
}

#[test]
fn failed_stop_does_not_hold_up_an_independent_branch() {
    let mut rig = Rig::of(&[
        ("a", service(&[])),
        ("b", service(&[])),
        ("x", service(&["a"])),
    ]);
    rig.settle();
    rig.finish();
    assert_eq!(rig.asks(Want::Stop), ["stop b", "stop x"]);
    assert_eq!(rig.fails("stop b"), NONE);
    assert_eq!(rig.ok("stop x"), ["stop a"]);
}

#[test]
fn clearing_tries_a_failed_stop_again() {
    let mut rig = Rig::chain().running();
    rig.asks(Want::Stop);
    rig.ok("stop c");
    rig.fails("stop b");
    rig.run.clear();
    assert_eq!(rig.settle(), ["stop b"]);
    assert_eq!(rig.ok("stop b"), ["stop a"]);
}

#[test]
fn failed_stop_is_followed_by_a_kill_if_the_policy_says_so() {
    let mut rig = Rig::chain().running();
    rig.config.on_stop_failure = OnStopFailure::Kill;
    rig.asks(Want::Stop);
    rig.ok("stop c");
    assert_eq!(rig.fails("stop b"), ["kill b"]);
    assert_eq!(rig.state(), GroupState::Stopping);
    assert_eq!(rig.ok("kill b"), ["stop a"]);
}

#[test]
fn failed_stop_is_killed_when_the_permit_is_lost() {
    let mut rig = Rig::watched().running();
    rig.asks(Want::Stop);
    rig.fails("stop app");
    assert_eq!(rig.asks(Want::Gone), ["kill app"]);
    rig.ok("kill app");
    assert_eq!(rig.state(), GroupState::Stopped);
}

#[test]
fn failed_stop_is_not_started_over_by_a_new_epoch() {
    let mut rig = Rig::watched().running();
    rig.asks(Want::Stop);
    rig.fails("stop app");
    rig.epoch = 2;
    assert_eq!(rig.asks(Want::Run), NONE);
    assert_eq!(rig.state(), stop_failed("app", "stop app failed"));
    rig.run.clear();
    assert_eq!(rig.settle(), ["stop app"]);
    assert_eq!(rig.ok("stop app"), ["start app"]);
}

#[test]
fn resource_taken_out_of_the_configuration_is_stopped_and_forgotten() {
    let mut rig = Rig::web().running();
    rig.config = group(&[("db", service(&[])), ("ip", address(&[]))]);
    assert_eq!(rig.settle(), ["stop site"]);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.ok("stop site"), NONE);
    assert!(!rig.report().resources.contains_key(&"site".into()));
}

#[test]
fn resources_taken_out_together_are_stopped_in_their_old_order() {
    let mut rig = Rig::chain().running();
    rig.config = group(&[("a", service(&[]))]);
    assert_eq!(rig.settle(), ["stop c"]);
    assert_eq!(rig.ok("stop c"), ["stop b"]);
    assert_eq!(rig.ok("stop b"), NONE);
}
