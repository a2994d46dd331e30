//! The gate stops what is not permitted, and closes by itself.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use hotpair_host::net::announce::Announcer;
use hotpair_host::net::conflict::probe;
use hotpair_host::net::gate::{Gate, GateError, SHORTEST_PERMISSION};
use hotpair_host::net::gateway::{Gateway, reachable};

use crate::namespace::{LINK, Namespace, eventually, pair};

const V4: &str = "10.1.0.100";
const V6: &str = "fd01::100";
const LONG: Duration = Duration::from_secs(600);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A client, and a host with its own and two virtual addresses.
fn client_and_host() -> (Namespace, Namespace) {
    let (client, host) = pair();
    for address in ["10.1.0.1/24", "fd01::1/64"] {
        client.set(address);
    }
    for address in ["10.1.0.2/24", "10.1.0.100/24", "fd01::2/64", "fd01::100/64"] {
        host.set(address);
    }
    for address in ["10.1.0.2", "fd01::2", V4, V6] {
        eventually("the first answer", || answers(&client, address));
    }
    (client, host)
}

/// Whether an address answers within a second the client, which has forgotten
/// its neighbours.
fn passes(client: &Namespace, address: &str) -> bool {
    client.ip(&format!("neigh flush dev {LINK}"));
    asks(client, address, 15)
}

/// Whether an address answers one question of the client, likewise.
fn answers(client: &Namespace, address: &str) -> bool {
    client.ip(&format!("neigh flush dev {LINK}"));
    asks(client, address, 1)
}

fn asks(client: &Namespace, address: &str, tries: u32) -> bool {
    let gateway = Gateway {
        address: ip(address),
        source: None,
        device: None,
    };
    client.run(|| reachable(&gateway, Duration::from_millis(70), tries).unwrap())
}

fn install(host: &Namespace, name: &str) -> Gate {
    host.run(|| Gate::install(name, &[ip(V4), ip(V6)]).unwrap())
}

#[test]
fn passes_managed_addresses_only_while_they_are_permitted() {
    let (client, host) = client_and_host();
    let mut gate = install(&host, "gate_pass");
    assert!(!answers(&client, V4) && !answers(&client, V6));
    assert!(passes(&client, "10.1.0.2") && passes(&client, "fd01::2"));

    gate.permit(&[(ip(V4), LONG)]).unwrap();
    assert!(passes(&client, V4));
    assert!(!answers(&client, V6));

    gate.permit(&[(ip(V6), LONG)]).unwrap();
    assert!(passes(&client, V4) && passes(&client, V6));

    gate.revoke(&[ip(V4)]).unwrap();
    assert!(!answers(&client, V4) && passes(&client, V6));

    host.run(|| gate.remove().unwrap());
    assert!(passes(&client, V4) && passes(&client, V6));
    assert_eq!(host.command("nft", "list ruleset"), "");
}

#[test]
fn answers_no_arp_and_no_neighbour_discovery_when_closed() {
    let (client, host) = client_and_host();
    let mut gate = install(&host, "gate_arp");
    let resolved = |address: &str| {
        let _no_answer = passes(&client, address);
        client
            .ip(&format!("neigh show to {address} dev {LINK}"))
            .contains("lladdr")
    };
    assert!(!resolved(V4) && !resolved(V6));
    gate.permit(&[(ip(V4), LONG), (ip(V6), LONG)]).unwrap();
    assert!(resolved(V4) && resolved(V6));
}

#[test]
fn sends_nothing_from_a_closed_address() {
    let (client, host) = client_and_host();
    let mut gate = install(&host, "gate_out");
    for (target, source) in [("10.1.0.1", V4), ("fd01::1", V6)] {
        let gateway = Gateway {
            address: ip(target),
            source: Some(ip(source)),
            device: None,
        };
        let ask = || host.run(|| reachable(&gateway, Duration::from_millis(60), 1).unwrap());
        assert!(!ask());
        gate.permit(&[(ip(source), LONG)]).unwrap();
        eventually("an answer", ask);
    }
    drop(client);
}

#[test]
fn closes_by_itself_with_nobody_acting() {
    let (client, host) = client_and_host();
    let mut gate = install(&host, "gate_end");
    let short = Duration::from_secs(2);
    gate.permit(&[(ip(V4), short), (ip(V6), short)]).unwrap();
    assert!(asks(&client, V4, 15) && asks(&client, V6, 15));
    drop(gate);
    eventually("the end", || !asks(&client, V4, 1) && !asks(&client, V6, 1));
    let mut gate = install(&host, "gate_end");
    assert_eq!(gate.permitted().unwrap(), []);
}

#[test]
fn permitting_again_replaces_the_time() {
    let (_client, host) = client_and_host();
    let mut gate = install(&host, "gate_again");
    let left = |gate: &mut Gate| gate.permitted().unwrap()[0].left;
    for seconds in [100, 1000, 50] {
        gate.permit(&[(ip(V4), Duration::from_secs(seconds))])
            .unwrap();
        let found = left(&mut gate).unwrap().as_secs();
        assert!(
            (seconds - 20..=seconds).contains(&found),
            "{found} of {seconds}"
        );
    }
    gate.permit_forever(&[ip(V4)]).unwrap();
    assert_eq!(left(&mut gate), None);
    gate.permit(&[(ip(V4), LONG)]).unwrap();
    assert!(left(&mut gate).is_some());
}

#[test]
fn a_permission_without_time_left_is_none() {
    let (client, host) = client_and_host();
    let mut gate = install(&host, "gate_zero");
    gate.permit_forever(&[ip(V4), ip(V6)]).unwrap();
    let shortest = SHORTEST_PERMISSION - Duration::from_nanos(1);
    gate.permit(&[(ip(V4), Duration::ZERO), (ip(V6), shortest)])
        .unwrap();
    assert_eq!(gate.permitted().unwrap(), []);
    assert!(!answers(&client, V4) && !answers(&client, V6));
}

#[test]
fn changing_the_managed_addresses_ends_permissions_that_leave() {
    let (client, host) = client_and_host();
    let mut gate = install(&host, "gate_set");
    gate.permit_forever(&[ip(V4), ip(V6)]).unwrap();
    gate.set_managed(&[ip(V6), ip("10.1.0.2")]).unwrap();
    assert!(passes(&client, V4), "not managed any more");
    assert!(passes(&client, V6), "managed and permitted as before");
    assert!(!answers(&client, "10.1.0.2"), "managed and not permitted");
    assert!(matches!(
        gate.permit(&[(ip(V4), LONG)]),
        Err(GateError::NotManaged(_))
    ));
    gate.set_managed(&[ip(V4)]).unwrap();
    assert!(!answers(&client, V4) && passes(&client, "10.1.0.2"));
}

#[test]
fn installing_again_keeps_permissions_of_managed_addresses_only() {
    let (client, host) = client_and_host();
    let mut first = install(&host, "gate_keep");
    first.permit_forever(&[ip(V4), ip(V6)]).unwrap();
    drop(first);
    let mut second = host.run(|| Gate::install("gate_keep", &[ip(V4)]).unwrap());
    assert!(passes(&client, V4));
    let kept: Vec<IpAddr> = second
        .permitted()
        .unwrap()
        .iter()
        .map(|p| p.address)
        .collect();
    assert_eq!(kept, [ip(V4)]);
    assert!(second.is_intact().unwrap());
}

#[test]
fn notices_whatever_others_change() {
    let (_client, host) = client_and_host();
    for change in [
        "flush ruleset",
        "delete table arp gate_mend",
        "flush table inet gate_mend",
        "flush chain arp gate_mend output",
        "flush set inet gate_mend managed4",
        "add table inet gate_mend { flags dormant; }",
    ] {
        let mut gate = host.run(|| Gate::install_unowned("gate_mend", &[ip(V4)]).unwrap());
        gate.permit(&[(ip(V4), LONG)]).unwrap();
        assert!(gate.is_intact().unwrap(), "before {change}");
        host.command("nft", "add table inet somebody_else");
        assert!(gate.is_intact().unwrap(), "after a table of somebody else");
        host.command("nft", change);
        assert!(!gate.is_intact().unwrap(), "after {change}");
        host.run(|| gate.remove().unwrap());
    }
    let mut gate = host.run(|| Gate::install_unowned("gate_mend", &[ip(V4)]).unwrap());
    host.command("nft", "flush ruleset");
    assert!(matches!(
        gate.permit(&[(ip(V4), LONG)]),
        Err(GateError::Gone(_))
    ));
    assert!(install(&host, "gate_mend").is_intact().unwrap());
}

/// Whether a table can be had that others cannot flush.
fn can_own(host: &Namespace) -> bool {
    let gate = install(host, "gate_can");
    let owned = gate.is_owned();
    host.run(|| gate.remove().unwrap());
    if !owned {
        eprintln!("skipped: this kernel is older than 6.9");
    }
    owned
}

#[test]
fn nobody_else_can_flush_or_change_an_owned_gate() {
    let (client, host) = client_and_host();
    if !can_own(&host) {
        return;
    }
    let mut gate = install(&host, "gate_own");
    gate.permit(&[(ip(V6), LONG)]).unwrap();
    host.command("nft", "add table inet somebody_else");
    host.command("nft", "flush ruleset");
    assert!(
        !host
            .command("nft", "list ruleset")
            .contains("somebody_else")
    );
    assert!(!answers(&client, V4) && passes(&client, V6));
    for change in [
        "delete table arp gate_own",
        "flush set inet gate_own managed4",
        "add element inet gate_own permitted4 { 10.1.0.100 }",
        "add table inet gate_own { flags dormant; }",
    ] {
        let tried = host.run(|| {
            std::process::Command::new("nft")
                .arg(change)
                .output()
                .unwrap()
        });
        assert!(!tried.status.success(), "{change}");
        assert!(gate.is_intact().unwrap(), "after {change}");
    }
    gate.permit(&[(ip(V4), LONG)]).unwrap();
    assert!(passes(&client, V4));
    host.run(|| gate.remove().unwrap());
    assert_eq!(host.command("nft", "list ruleset"), "");
}

#[test]
fn gate_of_an_owner_that_ended_stays_shut_and_is_taken_over() {
    let (client, host) = client_and_host();
    if !can_own(&host) {
        return;
    }
    let mut first = install(&host, "gate_heir");
    first.permit(&[(ip(V6), LONG)]).unwrap();
    drop(first);
    assert!(!answers(&client, V4) && passes(&client, V6));
    let mut second = install(&host, "gate_heir");
    assert!(second.is_owned());
    host.command("nft", "flush ruleset");
    assert!(!answers(&client, V4) && passes(&client, V6));
    second.revoke(&[ip(V6)]).unwrap();
    assert!(!answers(&client, V6));
    second.let_go().unwrap();
    let third = install(&host, "gate_heir");
    assert!(third.is_owned());
    assert!(second.permit(&[(ip(V4), LONG)]).is_err());
}

#[test]
fn gate_of_an_older_hotpair_is_put_in_order_as_it_is() {
    let (client, host) = client_and_host();
    let mut older = host.run(|| Gate::install_unowned("gate_old", &[ip(V4), ip(V6)]).unwrap());
    older.permit(&[(ip(V6), LONG)]).unwrap();
    drop(older);
    let mut newer = install(&host, "gate_old");
    assert!(!newer.is_owned() && newer.is_intact().unwrap());
    assert!(!answers(&client, V4) && passes(&client, V6));
}

#[test]
fn two_gates_of_one_host_do_not_disturb_each_other() {
    let (client, host) = client_and_host();
    let mut one = host.run(|| Gate::install("gate_one", &[ip(V4)]).unwrap());
    let mut two = host.run(|| Gate::install("gate_two", &[ip(V6)]).unwrap());
    one.permit_forever(&[ip(V4)]).unwrap();
    two.permit_forever(&[ip(V6)]).unwrap();
    assert!(passes(&client, V4) && passes(&client, V6));
    host.run(|| one.remove().unwrap());
    assert!(two.is_intact().unwrap());
    two.revoke(&[ip(V6)]).unwrap();
    assert!(passes(&client, V4) && !answers(&client, V6));
}

#[test]
fn a_closed_host_hears_the_announcement_of_another_holder() {
    let (client, host) = client_and_host();
    host.ip(&format!("addr del {V4}/24 dev {LINK}"));
    let _gate = install(&host, "gate_hear");
    client.set("10.1.0.100/24");
    host.ip(&format!(
        "neigh replace {V4} lladdr 02:00:00:00:00:99 dev {LINK} nud stale"
    ));
    let (index, mac) = (client.link().index, client.mac());
    let announcer = client.run(|| Announcer::open().unwrap());
    announcer.announce(index, mac, ip(V4)).unwrap();
    let expected = mac.to_string();
    eventually("the new neighbour", || {
        host.ip(&format!("neigh show to {V4} dev {LINK}"))
            .contains(&expected)
    });
}

#[test]
fn takes_a_thousand_addresses_at_once() {
    let host = Namespace::new();
    let many: Vec<IpAddr> = (0..1000u32)
        .map(|n| IpAddr::from((0x0a02_0000 + n).to_be_bytes()))
        .collect();
    let mut gate = host.run(|| Gate::install("gate_many", &[]).unwrap());
    gate.set_managed(&many).unwrap();
    gate.permit_forever(&many).unwrap();
    assert_eq!(gate.permitted().unwrap().len(), 1000);
    assert!(gate.is_intact().unwrap());
}

#[test]
fn an_address_named_twice_gets_the_shorter_time() {
    let host = Namespace::new();
    let mut gate = install(&host, "gate_twice");
    let minute = Duration::from_secs(60);
    gate.permit(&[
        (ip(V4), LONG),
        (ip(V4), minute),
        (ip(V6), LONG),
        (ip(V6), Duration::ZERO),
    ])
    .unwrap();
    let permitted = gate.permitted().unwrap();
    assert_eq!(permitted.len(), 1);
    assert_eq!(permitted[0].address, ip(V4));
    assert!(permitted[0].left.unwrap() <= minute);
    gate.permit_forever(&[ip(V4), ip(V4)]).unwrap();
    gate.revoke(&[ip(V4), ip(V4), ip(V6)]).unwrap();
    assert_eq!(gate.permitted().unwrap(), []);
}

#[test]
fn delivers_nothing_to_a_closed_address() {
    let (client, host) = client_and_host();
    let _gate = install(&host, "gate_in");
    let mac = host.mac();
    for (closed, open) in [(V4, "10.1.0.2"), (V6, "fd01::2")] {
        client.ip(&format!(
            "neigh replace {closed} lladdr {mac} dev {LINK} nud permanent"
        ));
        let bind = |address: &str| {
            let socket = UdpSocket::bind((ip(address), 7000)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (silent, marker) = host.run(|| (bind(closed), bind(open)));
        let sender = client.run(|| UdpSocket::bind((ip("::"), 0)).unwrap());
        let v4_sender = client.run(|| UdpSocket::bind((ip("0.0.0.0"), 0)).unwrap());
        let sender = if ip(closed).is_ipv4() {
            v4_sender
        } else {
            sender
        };
        let mut buffer = [0u8; 8];
        eventually("the marker", || {
            sender.send_to(b"closed", (ip(closed), 7000)).unwrap();
            sender.send_to(b"open", (ip(open), 7000)).unwrap();
            marker.recv(&mut buffer).is_ok()
        });
        assert!(silent.recv(&mut buffer).is_err(), "{closed} took a packet");
    }
}

#[test]
fn answers_no_arp_of_a_managed_asker_and_no_probe_when_closed() {
    let (client, host) = client_and_host();
    client.set("10.1.0.50/24");
    let managed = [ip(V4), ip(V6), ip("10.1.0.50")];
    let mut gate = host.run(|| Gate::install("gate_asker", &managed).unwrap());
    let index = client.link().index;
    let short = Duration::from_millis(150);
    let ask = |address: &str| client.run(|| probe(index, ip(address), short).unwrap());
    let resolved = || {
        client.ip(&format!("neigh flush dev {LINK}"));
        let gateway = Gateway {
            address: ip(V4),
            source: Some(ip("10.1.0.50")),
            device: None,
        };
        client.run(|| reachable(&gateway, short, 1).unwrap());
        client
            .ip(&format!("neigh show to {V4} dev {LINK}"))
            .contains("lladdr")
    };
    assert!(!resolved());
    assert_eq!((ask(V4), ask(V6)), (None, None));
    gate.permit(&[(ip(V4), LONG), (ip(V6), LONG)]).unwrap();
    eventually("an answer", resolved);
    eventually("both holders", || ask(V4).is_some() && ask(V6).is_some());
}

#[test]
fn sends_nothing_that_is_translated_to_a_closed_address() {
    let (_client, host) = client_and_host();
    for (family, target, virtual_address) in [("ip", "10.1.0.1", V4), ("ip6", "fd01::1", V6)] {
        host.command("nft", &format!("add table {family} translate"));
        host.command(
            "nft",
            &format!(
                "add chain {family} translate post {{ type nat hook postrouting priority 100; }}"
            ),
        );
        host.command(
            "nft",
            &format!("add rule {family} translate post oifname {LINK} {family} daddr {target} snat to {virtual_address}"),
        );
        let gateway = Gateway {
            address: ip(target),
            source: Some(ip(if family == "ip" {
                "10.1.0.2"
            } else {
                "fd01::2"
            })),
            device: None,
        };
        let ask = || host.run(|| reachable(&gateway, Duration::from_millis(70), 1).unwrap());
        eventually("an answer without a gate", ask);
        let mut gate = install(&host, "gate_nat");
        assert!(!ask(), "{virtual_address}");
        gate.permit(&[(ip(virtual_address), LONG)]).unwrap();
        eventually("an answer", ask);
        host.run(|| gate.remove().unwrap());
    }
}
