//! Links, addresses and their changes.

use std::net::IpAddr;

use hotpair_host::net::netlink::{Address, AddressOptions, Event, Monitor, Netlink};

use crate::namespace::{LINK, Namespace, eventually, pair};

fn addresses(host: &Namespace) -> Vec<Address> {
    let index = host.link().index;
    let mut found = host.run(|| Netlink::open().unwrap().addresses().unwrap());
    found.retain(|entry| entry.ifindex == index);
    found
}

fn texts(host: &Namespace) -> Vec<String> {
    let found = addresses(host).into_iter();
    let mut texts: Vec<String> = found
        .map(|a| format!("{}/{}", a.address, a.prefix))
        .collect();
    texts.retain(|text| !text.starts_with("fe80"));
    texts.sort();
    texts
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn removing_the_first_address_of_a_subnet_keeps_the_others() {
    let (host, _peer) = pair();
    host.command("sysctl", "-qw net.ipv4.conf.all.promote_secondaries=0");
    host.command(
        "sysctl",
        &format!("-qw net.ipv4.conf.{LINK}.promote_secondaries=0"),
    );
    for address in [
        "10.1.0.1/24",
        "10.1.0.2/24",
        "10.1.0.3/24",
        "fd01::1/64",
        "fd01::2/64",
    ] {
        host.set(address);
    }
    let index = host.link().index;
    let removed = host.run(|| {
        let mut netlink = Netlink::open().unwrap();
        let v4 = netlink.remove_address(index, ip("10.1.0.1"), 24).unwrap();
        let v6 = netlink.remove_address(index, ip("fd01::1"), 64).unwrap();
        let again = netlink.remove_address(index, ip("10.1.0.1"), 24).unwrap();
        (v4, v6, again)
    });
    assert_eq!(removed, (true, true, false));
    assert_eq!(texts(&host), ["10.1.0.2/24", "10.1.0.3/24", "fd01::2/64"]);
}

#[test]
fn setting_an_address_again_changes_its_lifetime() {
    let (host, _peer) = pair();
    let index = host.link().index;
    for (address, prefix) in [("10.1.0.9", 32), ("fd01::9", 128)] {
        let lifetime = |seconds| AddressOptions {
            valid_seconds: Some(seconds),
            preferred_seconds: Some(0),
            no_dad: true,
            no_prefix_route: true,
        };
        for seconds in [100, 5000] {
            host.run(|| {
                let mut netlink = Netlink::open().unwrap();
                netlink.set_address(index, ip(address), prefix, lifetime(seconds))
            })
            .unwrap();
        }
        let found = addresses(&host)
            .into_iter()
            .find(|a| a.address == ip(address));
        let found = found.unwrap();
        assert!(
            (101..=5000).contains(&found.valid_seconds.unwrap()),
            "{found:?}"
        );
        assert_eq!(found.preferred_seconds, Some(0));
        assert!(!found.tentative);
    }
}

#[test]
fn the_kernel_removes_an_address_at_the_end_of_its_lifetime() {
    let (host, _peer) = pair();
    let index = host.link().index;
    let options = AddressOptions {
        valid_seconds: Some(1),
        ..AddressOptions::default()
    };
    host.run(|| {
        Netlink::open()
            .unwrap()
            .set_address(index, ip("10.1.0.9"), 32, options)
    })
    .unwrap();
    assert_eq!(texts(&host), ["10.1.0.9/32"]);
    eventually("the end of the address", || texts(&host).is_empty());
}

#[test]
fn refuses_an_address_for_an_interface_that_does_not_exist() {
    let host = Namespace::new();
    let error = host.run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.set_address(999, ip("10.1.0.9"), 32, AddressOptions::default())
    });
    let text = error.unwrap_err().to_string();
    assert!(text.contains("10.1.0.9/32 on interface 999"), "{text}");
}

#[test]
fn hears_a_lost_carrier_and_changed_addresses() {
    let (host, peer) = pair();
    let index = host.link().index;
    let mut monitor = host.run(|| Monitor::open().unwrap());
    assert_eq!(monitor.next_event().unwrap(), None);

    host.set("10.1.0.9/24");
    peer.run(|| {
        let mut netlink = Netlink::open().unwrap();
        let link = netlink.link_by_name(LINK).unwrap().unwrap();
        netlink.set_link_up(link.index, false).unwrap();
    });
    host.run(|| {
        Netlink::open()
            .unwrap()
            .remove_address(index, ip("10.1.0.9"), 24)
    })
    .unwrap();

    let mut seen = Vec::new();
    let mine = |a: &Address| a.address == ip("10.1.0.9") && a.ifindex == index;
    eventually("three events", || {
        seen.extend(std::iter::from_fn(|| monitor.next_event().unwrap()));
        seen.iter()
            .any(|e| matches!(e, Event::Address(a) if mine(a)))
            && seen
                .iter()
                .any(|e| matches!(e, Event::AddressRemoved(a) if mine(a)))
            && seen
                .iter()
                .any(|e| matches!(e, Event::Link(l) if l.index == index && !l.carrier))
    });
    assert!(host.link().up && !host.link().carrier);
}
