use super::*;

fn maintains(rig: &mut Rig, on: bool) -> Vec<String> {
    rig.maintenance = on;
    rig.settle()
}

#[test]
fn failure_in_maintenance_is_looked_at_and_not_acted_on() {
    let mut rig = Rig::web().running();
    assert_eq!(maintains(&mut rig, true), NONE);
    assert_eq!(rig.exits("site"), NONE);
    assert_eq!(rig.state(), GroupState::Unmanaged { running: true });
    let report = &rig.report().resources[&"site".into()];
    assert_eq!(report.state, ResourceState::Maintenance);
    assert_eq!(report.detail, "exit code 1");
}

#[test]
fn group_in_maintenance_is_neither_started_nor_stopped() {
    let mut rig = Rig::web();
    rig.maintenance = true;
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.state(), GroupState::Unmanaged { running: false });
    let mut rig = Rig::web().running();
    rig.maintenance = true;
    assert_eq!(rig.asks(Want::Stop), NONE);
    assert!(!rig.run.is_down());
}

#[test]
fn work_under_way_ends_in_maintenance() {
    let mut rig = Rig::web();
    rig.settle();
    maintains(&mut rig, true);
    assert_eq!(rig.ok("start db"), NONE);
    assert_eq!(rig.ok("start ip"), NONE);
    assert_eq!(maintains(&mut rig, false), ["start site"]);
}

#[test]
fn leaving_maintenance_leaves_what_runs_alone() {
    let mut rig = Rig::watched().running();
    maintains(&mut rig, true);
    rig.found("app", false);
    rig.found("app", true);
    assert_eq!(maintains(&mut rig, false), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn leaving_maintenance_looks_again_before_it_believes_a_failure() {
    let mut rig = Rig::watched().running();
    maintains(&mut rig, true);
    rig.found("app", false);
    assert_eq!(maintains(&mut rig, false), ["check app"]);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.found("app", true), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn resource_found_not_running_after_maintenance_is_restarted() {
    let mut rig = Rig::watched().running();
    maintains(&mut rig, true);
    rig.found("app", false);
    maintains(&mut rig, false);
    assert_eq!(rig.found("app", false), ["stop app"]);
    assert_eq!(rig.ok("stop app"), ["start app"]);
}

#[test]
fn resource_not_seen_after_maintenance_is_restarted_when_its_detectors_had_their_time() {
    let mut rig = Rig::watched().running();
    maintains(&mut rig, true);
    rig.found("app", false);
    maintains(&mut rig, false);
    assert_eq!(rig.wait(7_999).settle(), NONE);
    assert_eq!(rig.wait(1).settle(), ["stop app"]);
}

#[test]
fn service_that_exited_in_maintenance_is_restarted_after_it() {
    let mut rig = Rig::web().running();
    maintains(&mut rig, true);
    rig.exits("site");
    assert_eq!(maintains(&mut rig, false), ["stop site"]);
    assert_eq!(rig.ok("stop site"), ["start site"]);
}

#[test]
fn resource_the_operator_started_in_maintenance_is_kept_after_it() {
    let mut rig = Rig::watched();
    rig.maintenance = true;
    rig.settle();
    assert_eq!(rig.found("app", true), NONE);
    assert_eq!(rig.state(), GroupState::Unmanaged { running: true });
    assert_eq!(maintains(&mut rig, false), ["check app"]);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn lost_permit_kills_in_maintenance_too() {
    let mut rig = Rig::watched().running();
    maintains(&mut rig, true);
    assert_eq!(rig.asks(Want::Gone), ["kill app"]);
    assert_eq!(rig.state(), GroupState::Stopping);
    rig.ok("kill app");
    assert_eq!(rig.state(), GroupState::Stopped);
}

#[test]
fn dependents_of_a_resource_in_maintenance_are_started_as_if_it_ran() {
    let mut rig = Rig::web();
    rig.resources.insert("db".into());
    assert_eq!(rig.settle(), ["start ip"]);
    assert_eq!(rig.ok("start ip"), ["start site"]);
    assert_eq!(rig.ok("start site"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn failed_resource_in_maintenance_degrades_the_group_and_others_are_restarted() {
    let mut rig = Rig::web().running();
    rig.resources.insert("db".into());
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.exits("db"), NONE);
    assert_eq!(rig.state(), degraded("db: exit code 1"));
    assert_eq!(rig.exits("site"), ["stop site"]);
    assert_eq!(rig.ok("stop site"), ["start site"]);
}

#[test]
fn restart_leaves_a_dependent_in_maintenance_alone() {
    let mut rig = Rig::chain().running();
    rig.resources.insert("c".into());
    rig.settle();
    assert_eq!(rig.exits("b"), ["stop b"]);
    assert_eq!(rig.ok("stop b"), ["start b"]);
    rig.ok("start b");
    rig.resources.clear();
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn dependent_that_leaves_maintenance_during_a_restart_takes_part_in_it() {
    let mut rig = Rig::of(&[
        ("a", service(&[])),
        ("b", service(&["a"])),
        ("c", service(&["a"])),
    ])
    .running();
    rig.resources.insert("b".into());
    rig.settle();
    assert_eq!(rig.exits("a"), ["stop c"]);
    rig.resources.clear();
    assert_eq!(rig.settle(), ["stop b"]);
    assert_eq!(rig.ok("stop c"), NONE);
    assert_eq!(rig.ok("stop b"), ["stop a"]);
    rig.finish();
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn stopped_group_with_a_running_resource_in_maintenance_is_not_down() {
    let mut rig = Rig::web().running();
    rig.resources.insert("db".into());
    assert_eq!(rig.asks(Want::Stop), ["stop site"]);
    assert_eq!(rig.ok("stop site"), ["stop ip"]);
    assert_eq!(rig.ok("stop ip"), NONE);
    assert_eq!(rig.state(), GroupState::Unmanaged { running: true });
    assert!(!rig.run.is_down());
    rig.resources.clear();
    assert_eq!(rig.settle(), ["stop db"]);
}

#[test]
fn failed_kill_is_tried_again_in_maintenance() {
    let mut rig = Rig::watched().running();
    rig.asks(Want::Gone);
    rig.fails("kill app");
    rig.maintenance = true;
    rig.want = Want::Stop;
    assert_eq!(rig.wait(1_000).settle(), ["kill app"]);
}
