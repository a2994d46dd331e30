//! Verdicts: told when a resource is new and when something changes.

use super::bench::{Bench, resource};
use hotpair_core::config::{Environment, ResourceKind, Service};

fn verdict_of(command: &str, environment: Environment) -> Vec<String> {
    let kind = ResourceKind::Service(Service {
        command: vec![command.into()],
        environment,
    });
    Bench::new(&[("app", resource(kind))]).next_verdict("app")
}

#[test]
fn a_resource_with_everything_in_place_has_no_problems() {
    let environment = Environment {
        user: Some("root".into()),
        directory: Some("/tmp".into()),
        ..Environment::default()
    };
    assert_eq!(verdict_of("sleep", environment), [""; 0]);
}

#[test]
fn each_missing_thing_is_named() {
    let environment = Environment {
        user: Some("no-such-user-here".into()),
        directory: Some("/no/such/directory".into()),
        ..Environment::default()
    };
    let problems = verdict_of("no-such-program-here", environment);
    assert_eq!(problems.len(), 3, "{problems:?}");
    for (problem, name) in problems.iter().zip([
        "no-such-user-here",
        "/no/such/directory",
        "no-such-program-here",
    ]) {
        assert!(problem.contains(name), "{problem}");
    }
    let problems = verdict_of("/etc/passwd", Environment::default());
    assert!(problems[0].contains("not an executable"), "{problems:?}");
}

#[test]
fn a_change_is_told_and_an_unchanged_configuration_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app");
    let kind = ResourceKind::Service(Service {
        command: vec![path.display().to_string()],
        environment: Environment::default(),
    });
    let mut bench = Bench::new(&[("app", resource(kind))]);
    let problems = bench.next_verdict("app");
    assert!(problems[0].contains("does not exist"), "{problems:?}");
    bench.configure();
    bench.catch_up();
    super::bench::write_script(&path, "#!/bin/sh\n");
    bench.next_fit("app");
}
