//! Heartbeat sockets, port owners and gateways.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use hotpair_host::net::gateway::{Gateway, reachable};
use hotpair_host::net::port::{Transport, port_owner};
use hotpair_host::net::udp::{self, UdpError};

use crate::namespace::{LINK, Namespace, eventually, pair};

const TRY: Duration = Duration::from_millis(60);

#[test]
fn a_heartbeat_crosses_the_link_of_its_socket() {
    let (one, two) = pair();
    for (from, to) in [("10.1.0.1", "10.1.0.2"), ("fd01::1", "fd01::2")] {
        let prefix = if from.contains(':') { 64 } else { 24 };
        one.set(&format!("{from}/{prefix}"));
        two.set(&format!("{to}/{prefix}"));
        let bind = |address: &str| {
            udp::bind(SocketAddr::new(address.parse().unwrap(), 7000), Some(LINK)).unwrap()
        };
        let sender = one.run(|| bind(from));
        let receiver = two.run(|| bind(to));
        let mut buffer = [0u8; 16];
        assert!(receiver.recv(&mut buffer).is_err(), "it does not block");
        eventually("a heartbeat", || {
            let _lost_or_later = sender.send_to(b"beat", receiver.local_addr().unwrap());
            receiver.recv(&mut buffer).is_ok()
        });
        assert_eq!(&buffer[..4], b"beat");
    }
}

#[test]
fn a_taken_port_names_its_owner() {
    let host = Namespace::new();
    let me = format!("(pid {})", std::process::id());
    host.run(|| {
        for address in ["127.0.0.1:7000", "[::1]:7000"] {
            let address: SocketAddr = address.parse().unwrap();
            let _taken = UdpSocket::bind(address).unwrap();
            match udp::bind(address, None) {
                Err(UdpError::InUse { owner, .. }) => assert!(owner.ends_with(&me), "{owner}"),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn the_second_heartbeat_socket_of_a_port_is_refused() {
    let host = Namespace::new();
    host.run(|| {
        let address = "127.0.0.1:7000".parse().unwrap();
        let _first = udp::bind(address, None).unwrap();
        assert!(matches!(
            udp::bind(address, None),
            Err(UdpError::InUse { .. })
        ));
    });
}

#[test]
fn an_address_of_another_host_is_named_as_such() {
    let host = Namespace::new();
    let result = host.run(|| udp::bind("10.9.9.9:7000".parse().unwrap(), None));
    assert!(matches!(result, Err(UdpError::NoSuchAddress { .. })));
}

#[test]
fn finds_the_owner_of_a_listening_port_only() {
    let host = Namespace::new();
    host.run(|| {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let owner = |transport| {
            let address: IpAddr = "127.0.0.1".parse().unwrap();
            port_owner(transport, address, port)
        };
        assert!(owner(Transport::Tcp).is_some());
        assert_eq!(owner(Transport::Udp), None);
        drop(listener);
        assert_eq!(owner(Transport::Tcp), None);
    });
}

#[test]
fn a_gateway_answers_until_its_link_is_off() {
    let (host, router) = pair();
    host.set("10.1.0.2/24");
    host.set("fd01::2/64");
    router.set("10.1.0.1/24");
    router.set("fd01::1/64");
    let ask = |address: &str, source: Option<&str>| {
        let gateway = Gateway {
            address: address.parse().unwrap(),
            source: source.map(|s| s.parse().unwrap()),
            device: Some(LINK),
        };
        host.run(|| reachable(&gateway, TRY, 1).unwrap())
    };
    eventually("an answer", || ask("10.1.0.1", None));
    eventually("an answer", || ask("10.1.0.1", Some("10.1.0.2")));
    eventually("an answer", || ask("fd01::1", None));
    eventually("an answer", || ask("fd01::1", Some("fd01::2")));
    assert!(!ask("10.1.0.77", None));
    assert!(
        !ask("10.1.0.1", Some("10.1.0.50")),
        "not an address of ours"
    );
    router.ip(&format!("link set {LINK} down"));
    assert!(!ask("10.1.0.1", None) && !ask("fd01::1", None));
}
