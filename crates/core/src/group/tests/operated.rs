//! Single resources stopped, started and started again by the operator.

use super::*;

#[test]
fn stopped_resource_takes_what_requires_it_along_and_nothing_else() {
    let mut rig = Rig::web().running();
    assert_eq!(rig.stops(&["db"]), ["stop site"]);
    assert_eq!(rig.ok("stop site"), ["stop db"]);
    assert_eq!(rig.ok("stop db"), NONE);
    assert_eq!(rig.resource("ip"), ResourceState::Running);
    assert_eq!(rig.resource("db"), ResourceState::Stopped);
    assert_eq!(
        rig.report().resources[&"site".into()].detail,
        "stopped by the operator"
    );
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.stops(&[]), ["start db"]);
    assert_eq!(rig.state(), GroupState::Starting);
    assert_eq!(rig.ok("start db"), ["start site"]);
    assert_eq!(rig.ok("start site"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn start_of_the_group_leaves_stopped_resources_alone() {
    let mut rig = Rig::web();
    assert_eq!(rig.stops(&["site"]), ["start db", "start ip"]);
    rig.finish();
    assert_eq!(rig.resource("site"), ResourceState::Stopped);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.asks(Want::Stop), ["stop db", "stop ip"]);
}

#[test]
fn stop_during_the_start_takes_effect_after_it() {
    let mut rig = Rig::chain();
    assert_eq!(rig.settle(), ["start a"]);
    assert_eq!(rig.stops(&["a"]), NONE);
    assert_eq!(rig.ok("start a"), ["stop a"]);
    assert_eq!(rig.ok("stop a"), NONE);
}

#[test]
fn resource_that_fails_while_it_is_stopped_by_the_operator_is_not_started_again() {
    let mut rig = Rig::web().running();
    rig.stops(&["db"]);
    assert_eq!(rig.exits("db"), NONE);
    assert_eq!(rig.ok("stop site"), ["stop db"]);
    assert_eq!(rig.ok("stop db"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.report().resources[&"db".into()].restarts, 0);
}

#[test]
fn failed_stop_of_a_resource_is_the_groups() {
    let mut rig = Rig::web().running();
    assert_eq!(rig.stops(&["site"]), ["stop site"]);
    assert_eq!(rig.fails("stop site"), NONE);
    assert!(matches!(rig.state(), GroupState::StopFailed { .. }));
}

#[test]
fn problems_of_a_stopped_resource_keep_nobody_from_running_the_rest() {
    let mut rig = Rig::web();
    rig.want = Want::Stop;
    rig.stops(&["site"]);
    rig.verdict("site", &["its program is missing"]);
    assert_eq!(rig.report().unfit, NONE);
    rig.stops(&[]);
    assert_eq!(rig.report().unfit, ["site: its program is missing"]);
}

#[test]
fn stopped_resource_that_runs_all_the_same_is_told() {
    let mut rig = Rig::of(&[("ip", address(&[])), ("app", watched(service(&["ip"])))]).running();
    assert_eq!(rig.stops(&["app"]), ["stop app"]);
    rig.ok("stop app");
    rig.found("app", true);
    assert_eq!(rig.resource("app"), ResourceState::RunsUnasked);
    assert_eq!(rig.report().unfit, ["app runs here although it should not"]);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn restart_takes_what_requires_it_along_and_counts_as_no_failure() {
    let mut rig = Rig::chain().running();
    rig.config.restart.max = 0;
    assert_eq!(rig.restarts("b"), ["stop c"]);
    assert_eq!(rig.ok("stop c"), ["stop b"]);
    assert_eq!(rig.ok("stop b"), ["start b"]);
    assert_eq!(rig.ok("start b"), ["start c"]);
    assert_eq!(rig.ok("start c"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.report().resources[&"b".into()].restarts, 0);
    assert_eq!(rig.restarts("c"), ["stop c"]);
}

#[test]
fn adopted_resource_is_not_started_again_for_an_earlier_restart() {
    let mut rig = Rig::web();
    *rig.restarts.entry("db".into()).or_default() += 1;
    for resource in ["db", "ip", "site"] {
        rig.adopts(resource);
    }
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.restarts("db"), ["stop site"]);
}

#[test]
fn resource_in_maintenance_is_not_stopped() {
    let mut rig = Rig::web().running();
    rig.resources.insert("site".into());
    assert_eq!(rig.stops(&["site"]), NONE);
    assert_eq!(rig.restarts("site"), NONE);
}
