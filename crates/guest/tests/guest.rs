//! Guests as other tests use them: real kernels, emulated. Needs root and what `scripts/setup-guests`
//! fetches; says so and passes without it.

use hotpair_guest::flakey::{Behaviour, Flakey};
use hotpair_guest::{
    Disk, Guest, GuestError, Pair, PairSpec, Parts, Place, Spec, Wire, drbd, fio, plug_into_lab,
};
use hotpair_lab::{Fault, Lab, Plan, Program, Shape};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Long for an emulated processor on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn is_set_up() -> bool {
    let problem = hotpair_lab::require_root().err().map(|e| e.to_string());
    let problem = problem.or_else(|| Parts::find().err().map(|e| e.to_string()));
    if let Some(problem) = &problem {
        eprintln!("skipped: {problem}");
    }
    problem.is_none()
}

fn boot(spec: Spec) -> Guest {
    Guest::boot(spec).expect("the guest boots")
}

fn named(name: &str) -> Spec {
    Spec {
        name: name.to_owned(),
        ..Spec::default()
    }
}

/// Whether any process here emulates the guest of this name.
fn runs(name: &str) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|p| std::fs::read_to_string(p.path().join("cmdline")).ok());
    lines
        .into_iter()
        .any(|line| line.contains(&format!("\0-name\0{name}\0")))
}

fn soon(mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn guest_loads_the_kernel_drivers_that_namespaces_lack() {
    if !is_set_up() {
        return;
    }
    let modules = [
        "drbd",
        "nbd",
        "softdog",
        "dm-flakey",
        "iscsi_target_mod",
        "target_core_file",
        "ext4",
    ];
    let guest = boot(Spec {
        modules: modules.map(str::to_owned).to_vec(),
        ..named("t-modules")
    });
    let loaded = guest
        .run("cut -d' ' -f1 /proc/modules", LIMIT)
        .expect("it lists them");
    for module in modules.map(|name| name.replace('-', "_")) {
        assert!(
            loaded.lines().any(|line| line == module),
            "{module} is not among {loaded}"
        );
    }
    assert_eq!(
        guest
            .run(
                "ls -d /dev/watchdog /sys/kernel/config/target /sys/fs/cgroup/cgroup.procs | wc -l",
                LIMIT
            )
            .unwrap(),
        "3"
    );
    guest.power_off().expect("it ends");
    assert!(!runs("t-modules"));
}

#[test]
fn commands_report_how_they_ended_and_run_beside_each_other() {
    if !is_set_up() {
        return;
    }
    let guest = boot(named("t-commands"));
    let output = guest
        .try_run("echo out; echo err >&2; exit 3", LIMIT)
        .expect("an answer");
    assert_eq!(
        (output.code, &output.stdout[..], &output.stderr[..]),
        (3, &b"out\n"[..], &b"err\n"[..])
    );
    let error = guest.run("echo why; false", LIMIT).expect_err("it failed");
    assert!(
        matches!(&error, GuestError::Command { code: 1, said, .. } if said == "why"),
        "{error}"
    );
    let late = guest
        .try_run("sleep 1000 & sleep 1000", Duration::from_secs(1))
        .expect("an answer");
    assert_eq!(late.code, 137);
    assert_eq!(
        guest.run("pidof sleep || true", LIMIT).unwrap(),
        "",
        "what it started was killed too"
    );
    std::thread::scope(|threads| {
        let waits = threads.spawn(|| {
            guest.run(
                "while [ ! -e /tmp/go ]; do sleep 0.1; done; echo gone",
                LIMIT,
            )
        });
        guest
            .run("touch /tmp/go", LIMIT)
            .expect("it runs beside the other");
        assert_eq!(waits.join().unwrap().unwrap(), "gone");
    });
    let bytes: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
    guest
        .write_file("/tmp/a/b", &bytes)
        .expect("it takes a file");
    let back = guest
        .try_run("cat /tmp/a/b", LIMIT)
        .expect("it gives it back");
    assert!(back.stdout == bytes);
}

#[test]
fn clock_of_a_paused_guest_stands_still() {
    if !is_set_up() {
        return;
    }
    let guest = boot(named("t-pause"));
    let uptime = || -> f64 {
        let text = guest
            .run("cut -d' ' -f1 /proc/uptime", LIMIT)
            .expect("it tells its uptime");
        text.parse().expect("seconds")
    };
    let (begun, before) = (Instant::now(), uptime());
    guest.pause().expect("it stops");
    std::thread::sleep(Duration::from_secs(2));
    guest.resume().expect("it goes on");
    let (passed, outside) = (uptime() - before, begun.elapsed().as_secs_f64());
    assert!(
        passed < outside - 1.8,
        "{passed} s passed inside, {outside} s outside"
    );
}

#[test]
fn nothing_is_left_when_the_owner_is_killed() {
    if !is_set_up() {
        return;
    }
    let mut owner = Command::new(env!("CARGO_BIN_EXE_hotpair-guest"))
        .args([
            "run",
            "--name",
            "t-orphan",
            "--disk",
            "8",
            "--limit",
            "600",
            "--",
            "sleep 600",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let errors = owner.stderr.take().expect("a pipe");
    BufReader::new(errors)
        .read_line(&mut line)
        .expect("it says that it has booted");
    assert!(line.starts_with("booted"), "{line}");
    assert!(runs("t-orphan"));
    let scratch = format!("/var/tmp/hotpair-guest-{}-0", owner.id());
    assert!(
        !std::path::Path::new(&scratch).exists(),
        "a running guest has no files"
    );
    owner.kill().expect("it can be killed");
    owner.wait().expect("it ends");
    assert!(soon(|| !runs("t-orphan")), "QEMU outlived its owner");
}

#[test]
fn guests_on_a_wire_reach_each_other_until_the_cable_is_pulled() {
    if !is_set_up() {
        return;
    }
    let wire = Wire::create(&["data"]).expect("a wire");
    let guest = |number: u8| {
        let nic = wire.plug(
            "data",
            &format!("tap{number}"),
            &format!("02:79:00:00:00:0{number}"),
        );
        let guest = boot(Spec {
            nics: vec![nic.expect("a card")],
            place: Place::Wire(wire.clone()),
            ..named(&format!("t-wire{number}"))
        });
        let address = format!("ip link set eth0 up && ip address add 10.79.0.{number}/24 dev eth0");
        guest.run(&address, LIMIT).expect("it takes an address");
        guest
    };
    let (first, second) = (guest(1), guest(2));
    first
        .run("ping -c 1 -W 10 10.79.0.2", LIMIT)
        .expect("it reaches the other");
    let card = hotpair_guest::Nic {
        tap: "tap2".into(),
        mac: String::new(),
    };
    wire.set_link(&card, false).expect("the cable comes out");
    first
        .run("ping -c 1 -W 1 10.79.0.2", LIMIT)
        .expect_err("it does not reach the other");
    drop(second);
}

#[test]
fn disk_keeps_what_was_written_over_a_power_cut() {
    if !is_set_up() {
        return;
    }
    let image = std::env::temp_dir().join(format!("hotpair-guest-test-{}", std::process::id()));
    std::fs::File::create(&image)
        .and_then(|f| f.set_len(1 << 20))
        .expect("an image");
    let spec = Spec {
        disks: vec![Disk::Image(image.clone())],
        ..named("t-disk")
    };
    let guest = boot(spec.clone());
    guest
        .run("echo kept | dd of=/dev/vda conv=fsync", LIMIT)
        .expect("it writes");
    guest.power_off().expect("it ends");
    let kept = boot(spec).run("head -n 1 /dev/vda", LIMIT);
    let _ = std::fs::remove_file(image);
    assert_eq!(kept.expect("it reads"), "kept");
}

#[test]
fn guest_on_a_lab_host_is_in_its_network_and_loses_power_with_it() {
    if !is_set_up() {
        return;
    }
    let mut plan = Plan::bare(Shape::default()).expect("a plan of two nodes");
    for nic in &mut plan.hosts[0].nics {
        nic.addresses.clear();
    }
    let program = Program(env!("CARGO_BIN_EXE_hotpair-guest").into());
    let lab = Lab::up(&program, "t-guest", &plan).expect("the lab starts");
    let tried = std::panic::catch_unwind(|| {
        let cards = [("eth0", "02:79:00:00:01:0b"), ("eth1", "02:79:00:00:02:0b")];
        let nics = plug_into_lab(&lab, "node1", &cards).expect("it is plugged in");
        let guest = boot(Spec {
            nics,
            place: Place::Host {
                lab: lab.clone(),
                host: "node1".into(),
            },
            ..named("t-lab")
        });
        guest.run("ip link set eth0 up; ip address add 10.77.1.11/24 dev eth0; ping -c 1 -W 10 10.77.1.12", LIMIT).expect("it reaches node2");
        assert!(runs("t-lab"));
        lab.fault("node1", Fault::PowerCut).expect("the power goes");
        assert!(soon(|| !runs("t-lab")), "the guest outlived its host");
    });
    lab.down().expect("the lab ends");
    assert!(tried.is_ok());
}

#[test]
fn flakey_disk_fails_on_command_and_recovers() {
    if !is_set_up() {
        return;
    }
    let guest = boot(Spec {
        modules: vec!["dm-flakey".into()],
        programs: vec!["dmsetup".into()],
        disks: vec![Disk::Scratch(1 << 20)],
        ..named("t-flakey")
    });
    let disk = Flakey::set_up(&guest, "bad", "/dev/vda").expect("a disk");
    let write = |word: &str| {
        let script = format!(
            "printf '%-512s' {word} | dd of={} bs=512 conv=fsync,notrunc",
            disk.device()
        );
        guest.run(&script, LIMIT)
    };
    let read = || {
        guest.run(
            &format!("dd if={} bs=512 count=1 iflag=direct", disk.device()),
            LIMIT,
        )
    };
    write("first").expect("it works well at first");
    disk.behave(&guest, Behaviour::Error)
        .expect("it fails from now on");
    write("lost").expect_err("no write");
    read().expect_err("no read");
    disk.behave(&guest, Behaviour::ErrorWrites)
        .expect("only writes fail");
    write("lost").expect_err("no write");
    assert_eq!(read().expect("it reads"), "first");
    disk.behave(&guest, Behaviour::DropWrites)
        .expect("writes are forgotten");
    write("lost").expect("it says that it wrote");
    disk.behave(&guest, Behaviour::Well).expect("it recovers");
    guest
        .run("echo 3 >/proc/sys/vm/drop_caches", LIMIT)
        .expect("nothing is remembered");
    assert_eq!(read().expect("it reads"), "first");
    write("second").expect("it writes again");
    assert_eq!(read().expect("it reads"), "second");
    disk.remove(&guest).expect("it goes away");
}

#[test]
fn drbd_mirrors_between_two_guests() {
    if !is_set_up() {
        return;
    }
    let pair = Pair::boot(&PairSpec {
        name: "t-drbd".into(),
        disk_bytes: 32 << 20,
        ..PairSpec::default()
    })
    .expect("both boot");
    drbd::set_up(&pair).expect("the mirror");
    let write = format!("echo kept | dd of={} conv=fsync", drbd::DEVICE);
    pair.guests[0].run(&write, LIMIT).expect("it writes");
    let load = fio::LOADS[0];
    let figures = fio::run(&pair.guests[0], "/dev/drbd0 --offset=1M", load, 1).expect("figures");
    assert!(figures.iops > 0.0);
    drbd::take_down(&pair).expect("it ends");
    let kept = pair.guests[1].run("head -n 1 /dev/vda", LIMIT);
    assert_eq!(kept.expect("the other disk has it"), "kept");
}
