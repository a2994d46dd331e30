//! Detectors: what each kind finds, hung targets, and results that come too late.

use super::bench::{Bench, detector, program, service, shell, watched, write_script};
use hotpair_core::config::{Check, Environment, Resource, ResourceKind};
use hotpair_core::group::Work;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

fn url(port: u16, statuses: &[u16]) -> Check {
    Check::Url {
        url: format!("http://127.0.0.1:{port}/"),
        statuses: statuses.to_vec(),
        contains: None,
    }
}

/// A web server for the length of the test process; its port.
fn web_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten().take(1000) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    port
}

#[test]
fn each_kind_of_detector_finds_what_runs_and_what_does_not() {
    let port = web_server();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let closed_port = closed.local_addr().unwrap().port();
    drop(closed);
    let tcp = |port| Check::Tcp {
        address: None,
        port,
        program: None,
    };
    let script = |text: &str| Check::Script {
        command: shell(text),
        environment: Environment::default(),
    };
    let process = |name: &str| Check::Process { name: name.into() };
    let elsewhere = Check::Tcp {
        address: Some(Ipv4Addr::new(192, 0, 2, 77).into()),
        port,
        program: None,
    };
    let cases = [
        (tcp(port), ""),
        (tcp(closed_port), "nothing listens"),
        (elsewhere, "192.0.2.77 is not on this node"),
        (url(port, &[]), ""),
        (url(port, &[200, 204]), ""),
        (url(port, &[200]), "status 204"),
        (script("test $HOTPAIR_RESOURCE = app"), ""),
        (script("echo broken; exit 1"), "it said: broken"),
        (
            process("hotpair-no-such-process-here"),
            "there is no process",
        ),
    ];
    for (check, expected) in cases {
        let mut bench = Bench::new(&[("app", watched("sleep 1000", std::slice::from_ref(&check)))]);
        let (running, detail) = bench.next_detected("app");
        assert_eq!(running, expected.is_empty(), "{check:?}: {detail}");
        assert!(detail.contains(expected), "{check:?}: {detail}");
    }
}

#[test]
fn a_status_program_is_a_detector() {
    let mut app = program("true", "true");
    if let ResourceKind::Program(program) = &mut app.kind {
        program.status = Some(shell("echo not there; exit 3"));
    }
    let mut bench = Bench::new(&[("app", app)]);
    let (running, detail) = bench.next_detected("app");
    assert!(!running && detail.contains("not there"), "{detail}");
}

#[test]
fn a_check_asked_for_is_told_before_it_is_done() {
    let slow = Resource {
        detectors: vec![hotpair_core::config::Detector {
            interval: Duration::from_secs(3600),
            ..detector(url(web_server(), &[]))
        }],
        ..service("exec sleep 1000")
    };
    let mut bench = Bench::new(&[("app", slow)]);
    assert!(bench.next_detected("app").0);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    let before = bench.seen.len();
    assert_eq!(bench.act("app", Work::Check), Ok(()));
    let told = &bench.seen[before..];
    assert!(
        matches!(
            told,
            [
                crate::executor::ExecEvent::Fact { .. },
                crate::executor::ExecEvent::Done { .. }
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn a_hung_target_has_failed_within_interval_and_timeout() {
    // Accepts through the kernel and never answers.
    let hung = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let check = url(hung.local_addr().unwrap().port(), &[]);
    let app = Resource {
        detectors: vec![hotpair_core::config::Detector {
            timeout: Duration::from_millis(300),
            ..detector(check)
        }],
        ..service("exec sleep 1000")
    };
    let begin = Instant::now();
    let mut bench = Bench::new(&[("app", app)]);
    let (running, detail) = bench.next_detected("app");
    assert!(!running && detail.contains("did not answer"), "{detail}");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_hung_script_holds_up_no_other_detector() {
    let hang = Check::Script {
        command: shell("sleep 1000"),
        environment: Environment::default(),
    };
    let mut bench = Bench::new(&[
        ("hung", watched("sleep 1000", &[hang])),
        ("well", watched("sleep 1000", &[url(web_server(), &[])])),
    ]);
    assert!(bench.next_detected("well").0);
    assert_eq!(
        bench
            .seen
            .iter()
            .filter(|e| format!("{e:?}").contains("hung") && format!("{e:?}").contains("Detected"))
            .count(),
        0
    );
}

#[test]
fn a_check_that_began_before_a_start_ended_tells_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (began, go) = (dir.path().join("began"), dir.path().join("go"));
    let path = dir.path().join("check");
    let text = format!(
        "#!/bin/sh\n[ -e {go} ] && exit 0\necho > {began}\nwhile [ ! -e {go} ]; do sleep 0.01; done\necho stale; exit 1\n",
        began = began.display(),
        go = go.display()
    );
    write_script(&path, &text);
    let check = Check::Script {
        command: vec![path.display().to_string()],
        environment: Environment::default(),
    };
    let mut bench = Bench::new(&[("app", watched("exec sleep 1000", &[check]))]);
    super::bench::wait(|| began.exists().then_some(()));
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    std::fs::write(&go, "").unwrap();
    let (running, detail) = bench.next_detected("app");
    assert!(running, "{detail}");
}

#[test]
fn a_changed_detector_replaces_the_old_one() {
    let port = web_server();
    let mut bench = Bench::new(&[("app", watched("sleep 1000", &[url(port, &[200])]))]);
    assert!(!bench.next_detected("app").0);
    let group = bench.cluster.groups.values_mut().next().unwrap();
    let app = group.resources.values_mut().next().unwrap();
    app.detectors = vec![detector(url(port, &[204]))];
    bench.configure();
    bench.next(|event| match event {
        crate::executor::ExecEvent::Fact {
            fact: hotpair_core::group::ResourceFact::Detected { running, .. },
            ..
        } => running.then_some(()),
        _ => None,
    });
}

/// A service with one detector that tells of the node, not of the service.
fn conditioned(check: Check) -> Bench {
    Bench::new(&[("app", watched("sleep 1000", &[check]))])
}

fn disk(path: &str, free: u64) -> Check {
    Check::Disk {
        path: path.into(),
        free,
        write: true,
    }
}

#[test]
fn a_condition_counts_where_the_resource_was_started_and_is_a_verdict_elsewhere() {
    let unroutable = Ipv4Addr::new(240, 0, 0, 1).into();
    let cases = [
        (disk("/tmp", u64::MAX), "MiB free, at least"),
        (
            disk("/no/such/directory", 0),
            "cannot look at /no/such/directory",
        ),
        (
            Check::Memory {
                available: u64::MAX,
            },
            "of memory are available",
        ),
        (
            Check::Ping {
                address: unroutable,
            },
            "answered none of 3",
        ),
    ];
    for (check, reason) in cases {
        let mut bench = conditioned(check.clone());
        let (running, detail) = bench.next_detected("app");
        assert!(
            !running && detail.contains("was not started on this node"),
            "{detail}"
        );
        let problem = bench.find_problem("app");
        assert!(problem.contains(reason), "{check:?}: {problem}");
        assert_eq!(bench.act("app", Work::Start), Ok(()));
        let (running, detail) = bench.next_detected("app");
        assert!(!running && detail.contains(reason), "{check:?}: {detail}");
    }
    for check in [
        disk("/tmp", 1),
        Check::Memory { available: 1 },
        Check::Load {
            most_hundredths: u32::MAX,
        },
        Check::Ping {
            address: Ipv4Addr::LOCALHOST.into(),
        },
    ] {
        let mut bench = conditioned(check.clone());
        assert_eq!(bench.act("app", Work::Start), Ok(()));
        bench.next_running("app");
        assert_eq!(bench.act("app", Work::Stop), Ok(()));
        assert!(!bench.next_detected("app").0, "{check:?}");
    }
}

#[test]
fn beside_a_detector_of_the_resource_a_condition_says_nothing_where_it_was_not_started() {
    let found = Check::Script {
        command: shell("true"),
        environment: Environment::default(),
    };
    let app = watched("sleep 1000", &[found, disk("/tmp", u64::MAX)]);
    let mut bench = Bench::new(&[("app", app)]);
    let (running, detail) = bench.next_detected("app");
    assert!(running, "it runs although nobody has started it: {detail}");
}

#[test]
fn a_monitor_program_lives_with_its_resource_and_its_end_is_a_failure() {
    let mut bench = Bench::new(&[]);
    let flag = bench.path("flag");
    let monitor = format!(
        "echo up; while [ ! -e {} ]; do sleep 0.02; done; echo lost it; exit 3",
        flag.display()
    );
    let check = Check::Monitor {
        command: shell(&monitor),
        environment: Environment::default(),
    };
    let group = bench.cluster.groups.get_mut(&"shop".into()).unwrap();
    group
        .resources
        .insert("app".into(), watched("sleep 1000", &[check]));
    bench.configure();
    assert!(!bench.next_detected("app").0);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    bench.next_running("app");
    assert!(!bench.monitors("app").is_empty());
    std::fs::write(&flag, "").unwrap();
    let detail = bench.next_failure("app");
    assert!(
        detail.contains("has ended: exit code 3; last line: lost it"),
        "{detail}"
    );
    std::fs::remove_file(&flag).unwrap();
    bench.next_running("app");
    assert_eq!(bench.act("app", Work::Stop), Ok(()));
    super::bench::wait(|| bench.monitors("app").is_empty().then_some(()));
}

#[test]
fn a_monitor_program_that_is_configured_no_more_is_ended() {
    let check = Check::Monitor {
        command: shell("sleep 1000"),
        environment: Environment::default(),
    };
    let mut bench = conditioned(check);
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    bench.next_running("app");
    let group = bench.cluster.groups.get_mut(&"shop".into()).unwrap();
    group
        .resources
        .get_mut(&"app".into())
        .unwrap()
        .detectors
        .clear();
    bench.configure();
    super::bench::wait(|| bench.monitors("app").is_empty().then_some(()));
}

#[test]
fn a_test_of_the_node_makes_it_unfit_wherever_the_resource_is() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    let test = Check::Script {
        command: shell(&format!(
            "[ -e {} ] || {{ echo no uplink; exit 1; }}",
            good.display()
        )),
        environment: Environment::default(),
    };
    let app = Resource {
        detectors: vec![
            detector(Check::Process {
                name: "a-name-that-only-this-test-has".into(),
            }),
            hotpair_core::config::Detector {
                of_node: true,
                ..detector(test)
            },
        ],
        ..service("true")
    };
    let app = Resource {
        kind: ResourceKind::Service(hotpair_core::config::Service {
            command: [
                "/bin/bash",
                "-c",
                "exec -a a-name-that-only-this-test-has sleep 1000",
            ]
            .map(str::to_owned)
            .to_vec(),
            environment: Environment::default(),
        }),
        ..app
    };
    // On the standby: the node is unfit, and the resource is not there, which is as it should be.
    let mut bench = Bench::new(&[("app", app)]);
    let problem = bench.find_problem("app");
    assert!(problem.contains("no uplink"), "{problem}");
    let (running, detail) = bench.next_detected("app");
    assert!(!running && detail.contains("no process"), "{detail}");
    std::fs::write(&good, "").unwrap();
    bench.next_fit("app");
    // Where it runs: the verdict comes before the failure.
    assert_eq!(bench.act("app", Work::Start), Ok(()));
    bench.next_running("app");
    std::fs::remove_file(&good).unwrap();
    let before = bench.seen.len();
    let detail = bench.next_failure("app");
    assert!(detail.contains("no uplink"), "{detail}");
    let told = bench.seen[before..].iter().position(|event| {
        matches!(
            event,
            crate::executor::ExecEvent::Fact {
                fact: hotpair_core::group::ResourceFact::Verdict { problems },
                ..
            } if problems.iter().any(|problem| problem.contains("no uplink"))
        )
    });
    assert!(told.is_some(), "{:#?}", &bench.seen[before..]);
}
