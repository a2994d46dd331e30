use super::*;

#[test]
fn adopted_resources_run_without_a_start_and_are_checked() {
    let mut rig = Rig::of(&[("app", watched(service(&["ip"]))), ("ip", address(&[]))]);
    rig.adopts("app");
    rig.adopts("ip");
    assert_eq!(rig.settle(), ["check app"]);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn adopted_resource_found_not_running_is_restarted() {
    let mut rig = Rig::watched();
    rig.adopts("app");
    rig.settle();
    assert_eq!(rig.found("app", false), ["stop app"]);
}

#[test]
fn adopted_part_of_a_group_is_completed() {
    let mut rig = Rig::web();
    rig.adopts("db");
    assert_eq!(rig.settle(), ["start ip"]);
    assert_eq!(rig.ok("start ip"), ["start site"]);
}

#[test]
fn adopted_group_is_not_down_before_the_first_orders() {
    let mut rig = Rig::watched();
    rig.adopts("app");
    assert!(!rig.run.is_down());
    assert_eq!(rig.state(), GroupState::Stopping);
    assert_eq!(rig.report().epoch, Epoch(1));
}

#[test]
fn adopted_group_that_shall_not_run_here_is_stopped() {
    let mut rig = Rig::watched();
    rig.adopts("app");
    rig.epoch = 4;
    assert_eq!(rig.asks(Want::Stop), ["stop app"]);
}

#[test]
fn adopted_resource_without_a_permit_is_killed() {
    let mut rig = Rig::watched();
    rig.adopts("app");
    assert_eq!(rig.asks(Want::Gone), ["kill app"]);
}

#[test]
fn adopted_resource_that_left_the_configuration_is_stopped() {
    let mut rig = Rig::watched();
    rig.adopts("old");
    assert_eq!(rig.settle(), ["start app", "stop old"]);
}

#[test]
fn exit_of_an_adopted_service_is_a_failure() {
    let mut rig = Rig::of(&[("app", service(&[]))]);
    rig.adopts("app");
    rig.epoch = 3;
    rig.settle();
    assert_eq!(rig.exits_of("app", 1), ["stop app"]);
}

#[test]
fn resource_that_runs_unasked_makes_the_node_unfit_until_it_is_gone() {
    let mut rig = Rig::watched();
    rig.asks(Want::Stop);
    assert_eq!(rig.found("app", true), NONE);
    assert_eq!(rig.resource("app"), ResourceState::RunsUnasked);
    assert_eq!(rig.report().unfit, ["app runs here although it should not"]);
    assert_eq!(rig.state(), GroupState::Stopped);
    rig.found("app", false);
    assert_eq!(rig.report().unfit, NONE);
    assert_eq!(rig.resource("app"), ResourceState::Stopped);
}

#[test]
fn standby_shows_its_verdicts() {
    let mut rig = Rig::web();
    rig.asks(Want::Stop);
    rig.verdict("ip", &["eth0 has no carrier", "10.0.0.1 does not answer"]);
    let report = rig.report();
    assert_eq!(
        report.unfit,
        ["ip: eth0 has no carrier", "ip: 10.0.0.1 does not answer"]
    );
    assert_eq!(report.state, GroupState::Stopped);
    assert_eq!(
        report.resources[&"ip".into()].detail,
        "eth0 has no carrier, 10.0.0.1 does not answer"
    );
}

#[test]
fn report_names_every_resource_and_the_lease() {
    let rig = Rig::web().running();
    let report = rig.report();
    let ids: Vec<_> = report.resources.keys().map(|id| id.0.as_str()).collect();
    assert_eq!(ids, ["db", "ip", "site"]);
    assert!(report.leased);
}

#[test]
fn unknown_resources_and_actions_change_nothing() {
    let mut rig = Rig::watched().running();
    rig.run.done(rig.now(), ActionId(999), Ok(()));
    assert_eq!(rig.found("other", true), NONE);
    assert_eq!(rig.exits("other"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.report().resources.len(), 1);
}

#[test]
fn repeated_completion_changes_nothing() {
    let mut rig = Rig::watched();
    rig.settle();
    let id = rig.open[0].id;
    rig.ok("start app");
    rig.found("app", true);
    rig.run.done(rig.now(), id, Err("again".into()));
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn facts_that_are_known_already_are_said_to_be() {
    let mut rig = Rig::watched().running();
    let now = rig.now();
    let detected = |running| ResourceFact::Detected {
        running,
        detail: String::new(),
    };
    let fine = || ResourceFact::Verdict {
        problems: Vec::new(),
    };
    let bad = || ResourceFact::Verdict {
        problems: vec!["no carrier".into()],
    };
    let app = "app".into();
    assert!(!rig.run.fact(now, &app, detected(true)));
    assert!(!rig.run.fact(now, &app, fine()));
    assert!(rig.run.fact(now, &app, bad()));
    assert!(!rig.run.fact(now, &app, bad()));
    assert!(rig.run.fact(now, &app, detected(false)));
    assert!(rig.run.fact(now, &"other".into(), fine()));
}
