use super::*;

#[test]
fn starts_independent_branches_at_once_and_a_dependent_when_all_it_requires_run() {
    let mut rig = Rig::web();
    assert_eq!(rig.settle(), ["start db", "start ip"]);
    assert_eq!(rig.ok("start db"), NONE);
    assert_eq!(rig.state(), GroupState::Starting);
    assert_eq!(rig.ok("start ip"), ["start site"]);
    assert_eq!(rig.ok("start site"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn start_carries_the_epoch_of_the_orders() {
    let mut rig = Rig::watched();
    rig.epoch = 7;
    rig.settle();
    assert_eq!(rig.open[0].epoch, Epoch(7));
    assert_eq!(rig.open[0].group, "web".into());
    assert_eq!(rig.report().epoch, Epoch(7));
}

#[test]
fn starts_nothing_unless_asked_to_run() {
    let mut rig = Rig::web();
    assert_eq!(rig.asks(Want::Stop), NONE);
    assert_eq!(rig.asks(Want::Gone), NONE);
    assert_eq!(rig.state(), GroupState::Stopped);
    assert!(rig.run.is_down());
}

#[test]
fn address_runs_as_soon_as_its_start_has_ended() {
    let mut rig = Rig::of(&[("ip", watched(address(&[])))]);
    rig.settle();
    assert_eq!(rig.ok("start ip"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn watched_resource_runs_only_when_found_running() {
    let mut rig = Rig::watched();
    assert_eq!(rig.settle(), ["start app"]);
    assert_eq!(rig.ok("start app"), ["check app"]);
    assert_eq!(rig.state(), GroupState::Starting);
    assert_eq!(rig.found("app", true), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn program_with_a_status_program_is_looked_at_and_one_without_is_not() {
    let mut rig = Rig::of(&[("with", program(true)), ("without", program(false))]);
    rig.settle();
    assert_eq!(rig.ok("start with"), ["check with"]);
    assert_eq!(rig.ok("start without"), NONE);
    assert_eq!(rig.resource("with"), ResourceState::Starting);
    assert_eq!(rig.resource("without"), ResourceState::Running);
}

#[test]
fn dependent_waits_until_what_it_requires_is_found_running() {
    let mut rig = Rig::of(&[("db", watched(service(&[]))), ("site", service(&["db"]))]);
    rig.settle();
    assert_eq!(rig.ok("start db"), ["check db"]);
    assert_eq!(rig.found("db", true), ["start site"]);
}
