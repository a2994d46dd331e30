//! Addresses, each test in a network namespace of its own.

use super::bench::{Bench, resource};
use hotpair_core::config::{Address, ResourceKind};
use hotpair_core::group::Work;
use hotpair_core::ids::Epoch;
use std::process::Command;

/// Runs a test with two pairs of joined NICs, `eth0`-`peer0` and `eth1`-`peer1`, all up.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let flags = rustix::thread::UnshareFlags::NEWNET;
        // Only this thread changes, and it has no other use.
        #[allow(deprecated)]
        rustix::thread::unshare(flags).expect("these tests need root");
        for n in ["0", "1"] {
            ip(&format!("link add eth{n} type veth peer name peer{n}"));
            ip(&format!("link set eth{n} up"));
            ip(&format!("link set peer{n} up"));
        }
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn addresses_of(nic: &str) -> String {
    ip(&format!("-o addr show dev {nic}"))
}

fn address(text: &str, prefix: u8) -> hotpair_core::config::Resource {
    resource(ResourceKind::Address(Address {
        address: text.parse().unwrap(),
        prefix,
        nics: vec!["eth0".into(), "eth1".into()],
        nics_on: Default::default(),
        gateway: None,
    }))
}

#[test]
fn an_address_is_set_with_a_lifetime_and_removed_alone() {
    in_namespace(|| {
        ip("addr add 10.9.0.1/24 dev eth0");
        ip("addr add 10.9.0.50/24 dev eth1");
        let mut bench = Bench::new(&[
            ("vip", address("10.9.0.50", 24)),
            ("six", address("fd09::50", 64)),
        ]);
        for (name, text) in [("vip", "10.9.0.50/24"), ("six", "fd09::50/64")] {
            assert_eq!(bench.act(name, Work::Start), Ok(()));
            let shown = addresses_of("eth0");
            let line = shown.lines().find(|line| line.contains(text)).unwrap();
            assert!(line.contains("valid_lft 3sec") || line.contains("valid_lft 2sec"));
            assert!(!line.contains("tentative"), "{line}");
        }
        assert!(!addresses_of("eth1").contains("10.9.0.50"), "a stale one");
        for (name, work) in [("vip", Work::Stop), ("six", Work::Kill)] {
            assert_eq!(bench.act(name, work), Ok(()));
            assert_eq!(bench.act(name, work), Ok(()));
        }
        let shown = addresses_of("eth0");
        assert!(!shown.contains("10.9.0.50") && !shown.contains("fd09::50"));
        assert!(shown.contains("10.9.0.1/24"), "the others stay");
    });
}

#[test]
fn the_first_nic_with_carrier_is_taken() {
    in_namespace(|| {
        ip("link set peer0 down");
        let mut bench = Bench::new(&[("vip", address("10.9.0.50", 24))]);
        assert_eq!(bench.act("vip", Work::Start), Ok(()));
        assert!(addresses_of("eth1").contains("10.9.0.50"));
        ip("link set peer1 down");
        assert_eq!(bench.act("vip", Work::Stop), Ok(()));
        let error = bench.act("vip", Work::Start).unwrap_err();
        assert!(error.contains("no carrier on eth0, eth1"), "{error}");
    });
}

#[test]
fn an_address_moves_to_the_next_nic_and_fails_with_the_last() {
    in_namespace(|| {
        let mut bench = Bench::new(&[
            ("vip", address("10.9.0.50", 24)),
            ("six", address("fd09::50", 64)),
        ]);
        bench.next_fit("vip");
        assert_eq!(bench.act("vip", Work::Start), Ok(()));
        assert_eq!(bench.act("six", Work::Start), Ok(()));
        ip("link set peer0 down");
        for name in ["vip", "six"] {
            let moved = format!("shop.{name}: eth0 has failed");
            bench.find(|event| match event {
                crate::executor::ExecEvent::Log(text) => text.contains(&moved).then_some(()),
                _ => None,
            });
        }
        assert!(addresses_of("eth1").contains("10.9.0.50"));
        assert!(addresses_of("eth1").contains("fd09::50"));
        assert!(!addresses_of("eth0").contains("10.9.0.50"));
        let told = format!("{:?}", bench.seen);
        assert!(!told.contains("running: false"), "{told}");
        ip("link set eth1 down");
        let (running, detail) = bench.next_detected("vip");
        assert!(!running);
        assert!(detail.contains("no carrier on eth0, eth1"), "{detail}");
        let verdict = bench.find(|event| match event {
            crate::executor::ExecEvent::Fact {
                resource,
                fact: hotpair_core::group::ResourceFact::Verdict { problems },
                ..
            } if resource.0 == "vip" => problems.first().cloned(),
            _ => None,
        });
        assert!(verdict.contains("no carrier on eth0, eth1"), "{verdict}");
        assert_eq!(bench.act("vip", Work::Stop), Ok(()));
        ip("link set eth1 up");
        ip("link set peer0 up");
        bench.next_fit("vip");
    });
}

#[test]
fn an_address_removed_by_hand_is_told_once_and_our_own_removal_is_not() {
    in_namespace(|| {
        let mut bench = Bench::new(&[("vip", address("10.9.0.50", 24))]);
        assert_eq!(bench.act("vip", Work::Start), Ok(()));
        ip("addr del 10.9.0.50/24 dev eth0");
        let (running, detail) = bench.next_detected("vip");
        assert!(!running && detail.contains("removed from eth0"), "{detail}");
        assert_eq!(bench.act("vip", Work::Stop), Ok(()));
        assert_eq!(bench.act("vip", Work::Start), Ok(()));
        assert_eq!(bench.act("vip", Work::Stop), Ok(()));
        bench.catch_up();
        let told = format!("{:?}", bench.seen);
        assert_eq!(told.matches("running: false").count(), 1, "{told}");
    });
}

#[test]
fn an_address_in_use_elsewhere_is_not_set_when_probed() {
    in_namespace(|| {
        // A bridge of both peers, so that eth1 is a neighbour; it answers from a namespace of its own.
        let name = format!("hotpair-executor-{}", std::process::id());
        ip(&format!("netns add {name}"));
        let removed = scopeguard(move || {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        });
        let name = format!("hotpair-executor-{}", std::process::id());
        ip(&format!("link set peer0 netns {name}"));
        ip(&format!("-n {name} link set peer0 up"));
        ip(&format!("-n {name} addr add 10.9.0.50/24 dev peer0"));
        let mut bench = Bench::new(&[
            ("vip", address("10.9.0.50", 24)),
            ("free", address("10.9.0.51", 24)),
        ]);
        let id = bench.begin_probing("vip", Work::Start, true);
        let error = bench.end(id).unwrap_err();
        let shown = ip(&format!("-n {name} -o link show dev peer0"));
        let mac = shown.split("link/ether ").nth(1).unwrap();
        let mac = mac.split(' ').next().unwrap();
        assert!(error.contains(mac), "{error}");
        assert!(!addresses_of("eth0").contains("10.9.0.50"));
        let id = bench.begin_probing("free", Work::Start, true);
        assert_eq!(bench.end(id), Ok(()));
        drop(removed);
    });
}

/// Calls a function when dropped, also by a panic.
fn scopeguard(end: impl FnMut()) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(end)
}

#[test]
fn a_restarted_daemon_finds_the_address_that_is_still_set() {
    in_namespace(|| {
        let mut bench = Bench::new(&[
            ("vip", address("10.9.0.50", 24)),
            ("gone", address("10.9.0.51", 24)),
        ]);
        assert_eq!(bench.act("vip", Work::Start), Ok(()));
        assert_eq!(bench.act("gone", Work::Start), Ok(()));
        ip("addr change 10.9.0.50/24 dev eth0 valid_lft forever preferred_lft forever");
        bench.end_daemon();
        ip("addr del 10.9.0.51/24 dev eth0");
        bench.start_daemon();
        bench.configure();
        let adopted = bench.executor().adopt(&bench.cluster);
        assert_eq!(adopted, [("shop".into(), "vip".into(), Epoch(4))]);
        ip("link set peer0 down");
        bench.find(|event| match event {
            crate::executor::ExecEvent::Log(text) => text.contains("moved to eth1").then_some(()),
            _ => None,
        });
        assert_eq!(bench.act("vip", Work::Stop), Ok(()));
        assert!(!addresses_of("eth1").contains("10.9.0.50"));
    });
}

#[test]
fn a_nic_that_does_not_exist_is_named_in_the_verdict() {
    in_namespace(|| {
        let mut vip = address("10.9.0.50", 24);
        if let ResourceKind::Address(address) = &mut vip.kind {
            address.nics = vec!["eth7".into()];
        }
        let mut bench = Bench::new(&[("vip", vip)]);
        let problems = bench.next_verdict("vip");
        assert!(problems[0].contains("eth7 does not exist on this node"));
        ip("link add eth7 type veth peer name peer7");
        ip("link set peer7 up");
        ip("link set eth7 up");
        bench.next_fit("vip");
    });
}

#[test]
fn a_silent_gateway_is_named_in_the_verdict_and_does_not_hold_up_a_start() {
    in_namespace(|| {
        ip("addr add 10.9.0.1/24 dev eth0");
        let mut vip = address("10.9.0.50", 24);
        if let ResourceKind::Address(address) = &mut vip.kind {
            address.gateway = Some("10.9.0.254".parse().unwrap());
        }
        let mut bench = Bench::new(&[("vip", vip)]);
        assert_eq!(bench.act("vip", Work::Start), Ok(()));
        let problem = bench.find(|event| match event {
            crate::executor::ExecEvent::Fact {
                fact: hotpair_core::group::ResourceFact::Verdict { problems },
                ..
            } => problems.first().cloned(),
            _ => None,
        });
        assert!(problem.contains("gateway 10.9.0.254 does not answer through eth0"));
    });
}
