//! Network namespaces and veth pairs between them.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hotpair_host::net::MacAddr;
use hotpair_host::net::netlink::{AddressOptions, Link, Netlink, OperState};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The name of the veth on both hosts of a [`pair`].
pub const LINK: &str = "link0";
/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace; it ends when the value is dropped.
pub struct Namespace(File);

impl Namespace {
    /// Makes an empty namespace with the loopback interface on.
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root: run `sudo -E cargo test -p hotpair-host`"
        );
        for (program, package) in [("nft", "nftables"), ("ip", "iproute2")] {
            assert!(
                Command::new(program).arg("-V").output().is_ok(),
                "these tests need {program}: run `apt-get install {package}`"
            );
        }
        let create = || {
            // SAFETY: only the network namespace of this short-lived thread
            // changes; file descriptors and memory stay shared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
                .expect("cannot make a network namespace");
            File::open("/proc/thread-self/ns/net").expect("cannot open the namespace")
        };
        let file = thread::scope(|scope| scope.spawn(create).join().unwrap());
        let namespace = Self(file);
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs a closure on a thread inside the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&self.0),
                Some(LinkNameSpaceType::Network),
            )
            .expect("cannot enter the namespace");
            work()
        };
        let result = thread::scope(|scope| scope.spawn(enter).join());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a command inside and returns what it printed.
    pub fn command(&self, program: &str, arguments: &str) -> String {
        let output = self.run(|| {
            Command::new(program)
                .args(arguments.split_whitespace())
                .output()
                .expect("cannot run the program")
        });
        assert!(
            output.status.success(),
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn ip(&self, arguments: &str) -> String {
        self.command("ip", arguments)
    }

    /// The interface that leads to the other host.
    pub fn link(&self) -> Link {
        let find = || Netlink::open().unwrap().link_by_name(LINK).unwrap();
        self.run(find).expect("the veth is missing")
    }

    pub fn mac(&self) -> MacAddr {
        self.link().mac.expect("a veth has an Ethernet address")
    }

    /// Sets an address at once, without duplicate address detection.
    pub fn set(&self, address: &str) {
        let (ip, prefix) = address.split_once('/').unwrap();
        let ip: IpAddr = ip.parse().unwrap();
        let options = AddressOptions {
            no_dad: true,
            ..AddressOptions::default()
        };
        let index = self.link().index;
        self.run(|| {
            let mut netlink = Netlink::open().unwrap();
            netlink.set_address(index, ip, prefix.parse().unwrap(), options)
        })
        .unwrap();
    }

    /// The namespace as `ip link … netns` takes it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Two hosts, each with [`LINK`] to the other, ready to carry frames.
pub fn pair() -> (Namespace, Namespace) {
    let (one, two) = (Namespace::new(), Namespace::new());
    let peer = two.path();
    one.ip(&format!(
        "link add {LINK} type veth peer name {LINK} netns {peer}"
    ));
    for host in [&one, &two] {
        host.ip(&format!("link set {LINK} up"));
    }
    for host in [&one, &two] {
        eventually("the carrier", || host.link().oper_state == OperState::Up);
    }
    (one, two)
}

/// Asks until the answer is yes; fails after [`PATIENCE`].
pub fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !ask() {
        assert!(
            Instant::now() < end,
            "{what} did not happen within {PATIENCE:?}"
        );
        thread::sleep(Duration::from_millis(2));
    }
}
