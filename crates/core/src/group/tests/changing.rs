use super::*;
use crate::config::{Environment, Service};

fn run_as(rig: &mut Rig, resource: &str, command: &str) {
    let resource = rig.config.resources.get_mut(&resource.into());
    resource.expect("it is in the rig").kind = ResourceKind::Service(Service {
        command: vec![command.into()],
        environment: Environment::default(),
    });
}

#[test]
fn changed_command_restarts_the_resource_and_what_requires_it() {
    let mut rig = Rig::chain().running();
    run_as(&mut rig, "b", "/usr/bin/newer");
    assert_eq!(rig.settle(), ["stop c"]);
    assert_eq!(rig.ok("stop c"), ["stop b"]);
    assert_eq!(rig.ok("stop b"), ["start b"]);
    assert_eq!(rig.ok("start b"), ["start c"]);
    assert_eq!(rig.ok("start c"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn changed_command_does_not_count_as_a_restart_after_a_failure() {
    let mut rig = Rig::chain().running();
    rig.config.restart.max = 0;
    run_as(&mut rig, "c", "/usr/bin/newer");
    assert_eq!(rig.settle(), ["stop c"]);
    assert_eq!(rig.ok("stop c"), ["start c"]);
    assert_eq!(rig.ok("start c"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.report().resources[&"c".into()].restarts, 0);
}

#[test]
fn changed_detectors_and_limits_touch_nothing() {
    let mut rig = Rig::chain().running();
    for resource in rig.config.resources.values_mut() {
        resource.stop_timeout *= 2;
    }
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn change_during_the_start_takes_effect_after_it() {
    let mut rig = Rig::chain();
    assert_eq!(rig.settle(), ["start a"]);
    run_as(&mut rig, "a", "/usr/bin/newer");
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.ok("start a"), ["stop a"]);
    assert_eq!(rig.ok("stop a"), ["start a"]);
}
