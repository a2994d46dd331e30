//! The lab as its users drive it: real namespaces, real packets. Needs root; says so and passes
//! without it.

use hotpair_lab::plan::{APP_PORT, Service, VIRTUAL_IP, sample_application};
use hotpair_lab::probe::{ProbeOptions, ProbeReport};
use hotpair_lab::{
    Direction, Fault, HostState, Lab, LabError, Plan, Program, Shape, Target, clock,
};
use std::path::Path;
use std::time::Duration;

/// A lab that is ended when the test is, whatever happened.
struct Running(Lab);

impl std::ops::Deref for Running {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.down();
    }
}

fn program() -> Program {
    Program(env!("CARGO_BIN_EXE_hotpair-lab").into())
}

fn is_root() -> bool {
    let root = hotpair_lab::require_root().is_ok();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// A lab without cluster software, with the sample application behind the address on node1.
fn up(name: &str) -> Running {
    let plan = Plan::bare(Shape::default()).expect("a plan of two nodes");
    let lab = Running(Lab::up(&program(), name, &plan).expect("the lab starts"));
    serve_from(&lab, "node1");
    lab
}

fn serve_from(lab: &Lab, host: &str) {
    run(
        lab,
        host,
        &["ip", "address", "replace", "10.77.1.50/24", "dev", "eth0"],
    );
    let argv = sample_application(VIRTUAL_IP, APP_PORT);
    let service = Service {
        name: "app".into(),
        host: host.into(),
        argv,
        restart_after_ms: Some(20),
    };
    lab.start(service).expect("the application starts");
}

fn run(lab: &Lab, host: &str, argv: &[&str]) -> String {
    let output = lab.exec(host, argv).expect("the host runs programs");
    assert!(output.status.success(), "{argv:?} on {host}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether one host can open a connection to another within 0.3 s.
fn reaches(lab: &Lab, host: &str, address: &str) -> bool {
    let script = format!(
        "exec 3<>/dev/udp/{address}/9 && echo x >&3; ip neighbor flush to {address}; exec 3>&- ; exec 3<>/dev/udp/{address}/9; echo x >&3; for i in 1 2 3 4 5 6; do ip neighbor show to {address} | grep -q lladdr && exit 0; sleep 0.05; done; exit 1"
    );
    lab.exec(host, &["bash", "-c", &script])
        .expect("the host runs programs")
        .status
        .success()
}

/// Probes while `action` runs, after answers have begun and until `tail` after it.
fn probed(lab: &Lab, tail: Tail, action: impl FnOnce()) -> ProbeReport {
    let probe = lab
        .probe(&ProbeOptions::default())
        .expect("the probe starts");
    let one_more = || {
        let before = probe.answers();
        for _ in 0..2000 {
            if probe.answers() > before {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("nobody answers within 10 s");
    };
    one_more();
    std::thread::sleep(Duration::from_millis(100));
    action();
    match tail {
        Tail::Silence(time) => std::thread::sleep(time),
        Tail::Answer(time) => {
            std::thread::sleep(time);
            one_more();
        }
    }
    probe.finish().expect("the probe ends")
}

/// How long a probe goes on after the action.
enum Tail {
    /// For this time: what is looked at must not happen.
    Silence(Duration),
    /// For this time, and on until somebody answers.
    Answer(Duration),
}

const SHORT: Duration = Duration::from_millis(150);

#[test]
fn power_cut_ends_everything_on_the_host_and_heal_boots_it() {
    if !is_root() {
        return;
    }
    let lab = up("t-power");
    let before = lab.host("node1").unwrap();
    run(
        &lab,
        "node1",
        &[
            "sh",
            "-c",
            "echo kept >/var/lib/hotpair/f; echo lost >/run/hotpair/f; setsid sleep 99 >/dev/null 2>&1 &",
        ],
    );
    let mut at = 0;
    let report = probed(&lab, Tail::Answer(Duration::from_millis(400)), || {
        at = lab.fault("node1", Fault::PowerCut).unwrap().at_mono_us;
        serve_from(&lab, "node2");
        run(
            &lab,
            "client",
            &["ip", "neighbor", "flush", "to", "10.77.1.50"],
        );
    });
    assert_eq!(report.first_answer_of("node1", at + 1000), None);
    assert!(report.first_answer_of("node2", at).is_some(), "{report:?}");
    let moved = report
        .outages
        .iter()
        .find(|o| o.to_node.as_deref() == Some("node2"));
    assert_eq!(
        moved.and_then(|o| o.from_node.as_deref()),
        Some("node1"),
        "{:?}",
        report.outages
    );
    assert_eq!((report.node_changes, report.double_answer_ms), (1, 0));
    assert!(report.held_ms.contains_key("node1") && report.held_ms.contains_key("node2"));
    let events = std::fs::read_to_string(before.cgroup.join("cgroup.events")).unwrap();
    assert!(events.contains("populated 0"), "{events}");
    assert!(matches!(
        lab.exec("node1", &["true"]),
        Err(LabError::HostState { .. })
    ));
    assert_eq!(lab.host("node1").unwrap().state, HostState::Off);

    lab.heal().unwrap();
    let after = lab.host("node1").unwrap();
    assert_ne!(before.boot.unwrap().boot_id, after.boot.unwrap().boot_id);
    assert_eq!(
        run(&lab, "node1", &["cat", "/var/lib/hotpair/f"]).trim(),
        "kept"
    );
    assert!(
        !lab.exec("node1", &["test", "-e", "/run/hotpair/f"])
            .unwrap()
            .status
            .success()
    );
    assert!(reaches(&lab, "node1", "10.77.2.12"));
}

#[test]
fn network_faults_cut_what_they_say_and_no_more() {
    if !is_root() {
        return;
    }
    let lab = up("t-net");
    let silent = |fault| {
        let mut at = 0;
        let report = probed(&lab, Tail::Silence(SHORT), || {
            at = lab.fault("node1", fault).unwrap().done_mono_us
        });
        lab.heal().unwrap();
        report.first_answer_after(at).is_none()
    };
    assert!(silent(Fault::CutLinks));
    assert!(silent(Fault::CutLink(hotpair_lab::plan::Network::Lan)));
    probed(&lab, Tail::Answer(SHORT), || {
        let heartbeats = Fault::CutLink(hotpair_lab::plan::Network::Hb);
        lab.fault("node1", heartbeats).unwrap();
    });
    lab.heal().unwrap();
    assert!(silent(Fault::OneWayCut(Direction::In)));
    assert!(silent(Fault::OneWayCut(Direction::Out)));
    assert!(silent(Fault::NicDown(0)));
    assert!(silent(Fault::Loss(100)));
    let report = probed(&lab, Tail::Answer(Duration::from_millis(400)), || {
        lab.fault("node1", Fault::Loss(30)).unwrap();
    });
    assert!(
        report.answers > 0 && report.answers < report.requests,
        "{} of {}",
        report.answers,
        report.requests
    );
    lab.heal().unwrap();

    lab.fault("node1", Fault::CutPeers).unwrap();
    assert!(!reaches(&lab, "node1", "10.77.1.12") && !reaches(&lab, "node2", "10.77.2.11"));
    assert!(reaches(&lab, "node1", "10.77.1.9") && reaches(&lab, "node2", "10.77.1.100"));
    assert_eq!(lab.host("node1").unwrap().faults, ["cut-peers"]);
    lab.heal().unwrap();
    assert!(reaches(&lab, "node1", "10.77.1.12") && reaches(&lab, "node2", "10.77.2.11"));
}

#[test]
fn process_faults_hit_the_application_and_the_paused_host_goes_on() {
    if !is_root() {
        return;
    }
    let lab = up("t-proc");
    let mut at = 0;
    let report = probed(&lab, Tail::Answer(Duration::from_millis(400)), || {
        at = lab
            .fault("node1", Fault::Kill(Target::App))
            .unwrap()
            .done_mono_us;
    });
    assert!(
        report.longest_silence_after(at) >= 20.0,
        "it was started again too soon to have ended"
    );
    assert!(
        report.first_answer_of("node1", at + 20_000).is_some(),
        "{:?}",
        report.outages
    );

    for (begin, end) in [
        (Fault::Pause, Some(Fault::Resume)),
        (Fault::Freeze(Target::App), None),
    ] {
        let mut at = 0;
        let report = probed(&lab, Tail::Answer(2 * SHORT), || {
            at = lab.fault("node1", begin).unwrap().done_mono_us;
            std::thread::sleep(SHORT);
            match end {
                Some(fault) => drop(lab.fault("node1", fault).unwrap()),
                None => lab.heal().unwrap(),
            }
        });
        assert!(report.longest_silence_after(at) > 100.0, "{begin:?}");
        assert_eq!(
            report.answers, report.requests,
            "the kernel kept what was sent meanwhile"
        );
    }
    lab.fault("node1", Fault::RtnlHold(500))
        .expect("the rtnl lock can be held");
    let refused = lab
        .fault("node1", Fault::Kill(Target::Daemon))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("hotpair daemon"), "{refused}");
    lab.fault("node1", Fault::Pause).unwrap();
    assert!(lab.exec("node1", &["true"]).is_err());
    lab.fault("node1", Fault::PowerCut)
        .expect("a paused host can lose its power");
}

#[test]
fn two_holders_and_two_voices_are_seen_by_the_referees() {
    if !is_root() {
        return;
    }
    let lab = up("t-double");
    let report = probed(&lab, Tail::Silence(SHORT), || {
        serve_from(&lab, "node2");
        run(
            &lab,
            "client",
            &["ip", "neighbor", "flush", "to", "10.77.1.50"],
        );
        run(
            &lab,
            "client",
            &[
                "ip",
                "neighbor",
                "replace",
                "10.77.1.50",
                "lladdr",
                "02:77:00:00:01:0c",
                "dev",
                "eth0",
            ],
        );
        std::thread::sleep(Duration::from_millis(50));
        run(
            &lab,
            "client",
            &[
                "ip",
                "neighbor",
                "replace",
                "10.77.1.50",
                "lladdr",
                "02:77:00:00:01:0b",
                "dev",
                "eth0",
            ],
        );
    });
    assert!(
        report.double_answer_ms > 0 && report.double_held_ms > 0.0,
        "{:?}",
        report.answers_by_node
    );
    let macs: std::collections::BTreeSet<_> =
        report.source_macs.iter().map(|s| s.mac.as_str()).collect();
    assert!(
        macs.contains("02:77:00:00:01:0b") && macs.contains("02:77:00:00:01:0c"),
        "{macs:?}"
    );
}

fn leftovers(name: &str) -> Vec<String> {
    let cgroup = format!(
        "{}/hotpair-lab-{name}",
        hotpair_lab::cgroup::root().unwrap().display()
    );
    let dirs = [
        cgroup,
        format!("/run/hotpair-lab/{name}"),
        format!("/var/tmp/hotpair-lab-{name}"),
    ];
    let mut left: Vec<String> = dirs
        .into_iter()
        .filter(|dir| Path::new(dir).exists())
        .collect();
    left.extend(processes_of(name));
    left
}

/// Living processes that name the lab's directories on their command line.
fn processes_of(name: &str) -> Vec<String> {
    let marks = [format!("hotpair-lab/{name}"), format!("hotpair-lab-{name}")];
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines
        .filter(|line| marks.iter().any(|mark| line.contains(mark)))
        .collect()
}

#[test]
fn down_leaves_nothing() {
    if !is_root() {
        return;
    }
    let lab = up("t-down");
    assert!(!leftovers("t-down").is_empty());
    run(
        &lab,
        "node1",
        &[
            "mkdir",
            "/etc/hotpair/x",
            "/var/lib/t-down-x",
            "/etc/t-down-x",
        ],
    );
    lab.down().unwrap();
    assert_eq!(leftovers("t-down"), [""; 0]);
    assert!(!Path::new("/etc/t-down-x").exists() && !Path::new("/var/lib/t-down-x").exists());
    assert!(matches!(lab.status(), Err(LabError::NotRunning(_))));
}

#[test]
fn a_killed_keeper_takes_its_hosts_along_and_the_next_command_cleans_up() {
    if !is_root() {
        return;
    }
    let lab = up("t-crash");
    let status = lab.status().unwrap();
    run(
        &lab,
        "node2",
        &["sh", "-c", "setsid sleep 99 >/dev/null 2>&1 &"],
    );
    lab.fault("node2", Fault::Pause).unwrap();
    let keeper = i32::try_from(status.keeper_pid).unwrap();
    let keeper = rustix::process::Pid::from_raw(keeper).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    let empty = |host: &hotpair_lab::HostStatus| !hotpair_lab::cgroup::is_populated(&host.cgroup);
    let gone = clock::wait_until(Duration::from_secs(5), Duration::from_millis(2), || {
        status.hosts.iter().all(empty)
    });
    assert!(gone, "hosts outlived the keeper");
    // Another test's lab may be at the cleaning already, which is as good.
    let clean = clock::wait_until(Duration::from_secs(5), Duration::from_millis(5), || {
        matches!(Lab::attach("t-crash"), Err(LabError::NotRunning(_)))
            && leftovers("t-crash").is_empty()
    });
    assert!(clean, "{:?}", leftovers("t-crash"));
}

#[test]
fn refuses_a_second_lab_of_the_same_name_and_unknown_hosts() {
    if !is_root() {
        return;
    }
    let lab = up("t-same");
    let plan = Plan::bare(Shape::default()).unwrap();
    assert!(matches!(
        Lab::up(&program(), "t-same", &plan),
        Err(LabError::AlreadyRunning(_))
    ));
    let refused = lab.fault("node9", Fault::PowerCut).unwrap_err().to_string();
    assert!(
        refused.contains("node1, node2, witness, client"),
        "{refused}"
    );
    let output = lab.exec("node1", &["sh", "-c", "exit 7"]).unwrap();
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_failing_setup_ends_the_lab_and_says_what_failed() {
    if !is_root() {
        return;
    }
    let mut plan = Plan::bare(Shape {
        nodes: 1,
        ..Shape::default()
    })
    .unwrap();
    let step = |argv: &[&str], save: Option<&str>| hotpair_lab::plan::Step::Run {
        host: "node1".into(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        save: save.map(str::to_owned),
    };
    plan.setup.push(step(&["echo", "tok123"], Some("token")));
    plan.setup.push(step(
        &["sh", "-c", "echo no good: {token} >&2; exit 3"],
        None,
    ));
    let refused = Lab::up(&program(), "t-setup", &plan)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("exit code 3: no good: tok123"),
        "{refused}"
    );
    let gone = clock::wait_until(Duration::from_secs(5), Duration::from_millis(5), || {
        leftovers("t-setup").is_empty()
    });
    assert!(gone, "{:?}", leftovers("t-setup"));
}
