//! What the neighbours see, and what they answer.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hotpair_host::net::MacAddr;
use hotpair_host::net::announce::Announcer;
use hotpair_host::net::conflict::probe;
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::{Namespace, PATIENCE, eventually, pair};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A socket that sees every frame of a namespace.
fn capture(host: &Namespace) -> Socket {
    let all = Protocol::from(i32::from(0x0003u16.to_be()));
    let socket = host.run(|| Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap());
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    socket
}

/// The first frame that fits.
fn frame(mut socket: &Socket, fits: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0u8; 2048];
    while Instant::now() < end {
        match socket.read(&mut buffer) {
            Ok(count) if fits(&buffer[..count]) => return buffer[..count].to_vec(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no such frame within {PATIENCE:?}");
}

#[test]
fn the_peer_sees_a_gratuitous_arp_request_and_reply() {
    let (host, peer) = pair();
    let seen = capture(&peer);
    let (index, mac) = (host.link().index, host.mac());
    host.run(|| {
        Announcer::open()
            .unwrap()
            .announce(index, mac, ip("10.1.0.100"))
    })
    .unwrap();
    let address = [10, 1, 0, 100];
    for (operation, target) in [(1, MacAddr::ZERO), (2, MacAddr::BROADCAST)] {
        let bytes = frame(&seen, |f| f[12..14] == [8, 6] && f[21] == operation);
        let head = [0, 1, 8, 0, 6, 4, 0, operation];
        let arp = [&head[..], &mac.0, &address, &target.0, &address].concat();
        assert_eq!(bytes[..14], [&[0xff; 6][..], &mac.0, &[8, 6]].concat());
        assert_eq!(bytes[14..42], arp);
    }
}

#[test]
fn the_peer_learns_the_address_of_an_unsolicited_advertisement() {
    let (host, peer) = pair();
    peer.set("fd01::1/64");
    peer.ip("neigh replace fd01::100 lladdr 02:00:00:00:00:99 dev link0 nud stale");
    let (index, mac) = (host.link().index, host.mac());
    let announcer = host.run(|| Announcer::open().unwrap());
    announcer.announce(index, mac, ip("fd01::100")).unwrap();
    let expected = mac.to_string();
    eventually("the new neighbour", || {
        peer.ip("neigh show to fd01::100 dev link0")
            .contains(&expected)
    });
}

#[test]
fn the_probe_finds_another_holder() {
    let (host, peer) = pair();
    peer.set("10.1.0.100/24");
    peer.set("fd01::100/64");
    let index = host.link().index;
    for address in ["10.1.0.100", "fd01::100"] {
        let found = host.run(|| probe(index, ip(address), Duration::from_secs(3)).unwrap());
        assert_eq!(found, Some(peer.mac()), "{address}");
    }
}

#[test]
fn the_probe_finds_nobody_where_nobody_answers() {
    let (host, _peer) = pair();
    host.set("10.1.0.100/24");
    host.set("fd01::100/64");
    let index = host.link().index;
    for address in ["10.1.0.100", "10.1.0.101", "fd01::100", "fd01::101"] {
        let found = host.run(|| probe(index, ip(address), Duration::from_millis(90)).unwrap());
        assert_eq!(found, None, "{address}");
    }
}

#[test]
fn the_probe_finds_the_holder_among_garbage() {
    let (host, peer) = pair();
    peer.set("10.1.0.100/24");
    peer.set("fd01::100/64");
    let (index, mac) = (host.link().index, peer.mac());
    let stop = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| peer.run(|| flood(&stop)));
        let ask = |address| host.run(|| probe(index, ip(address), PATIENCE));
        let found = [ask("10.1.0.100"), ask("fd01::100")];
        stop.store(true, Ordering::Relaxed);
        found.map(Result::unwrap)
    });
    assert_eq!(found, [Some(mac), Some(mac)]);
}

/// Sends broken ARP and IPv6 frames of every length from the peer.
fn flood(stop: &AtomicBool) {
    let all = Protocol::from(i32::from(0x0003u16.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
    socket
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let target = link_address();
    let end = Instant::now() + PATIENCE;
    for round in 0usize.. {
        if stop.load(Ordering::Relaxed) || Instant::now() >= end {
            return;
        }
        let mut bytes = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1]].concat();
        bytes.extend_from_slice(if round.is_multiple_of(2) {
            &[8, 6]
        } else {
            &[0x86, 0xdd]
        });
        let fill = u8::try_from(round % 256).unwrap();
        bytes.resize(14 + round % 90, fill);
        let _full_queue = socket.send_to(&bytes, &target);
    }
}

fn link_address() -> socket2::SockAddr {
    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is plain data that fits into the storage.
    unsafe {
        let address = storage.view_as::<libc::sockaddr_ll>();
        address.sll_family = 17;
        let name = c"link0";
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
        address.sll_halen = 6;
        socket2::SockAddr::new(
            storage,
            u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap(),
        )
    }
}

#[test]
fn the_probe_does_not_take_our_other_interface_for_a_holder() {
    let (host, switch) = pair();
    let peer = switch.path();
    host.ip(&format!(
        "link add link1 type veth peer name link1 netns {peer}"
    ));
    host.ip("link set link1 up");
    host.ip("addr add 10.1.0.100/24 dev link1");
    switch.ip("link add br0 type bridge forward_delay 0");
    for port in ["link0", "link1"] {
        switch.ip(&format!("link set {port} master br0"));
    }
    switch.ip("link set link1 up");
    switch.ip("link set br0 up");
    switch.ip("addr add 10.1.0.200/24 dev br0");
    let index = host.link().index;
    let ask = |address, time| host.run(|| probe(index, ip(address), time).unwrap());
    let short = Duration::from_millis(90);
    eventually("the switch", || ask("10.1.0.200", short).is_some());
    for side in [&host, &switch] {
        eventually("the second carrier", || {
            side.ip("link show link1").contains("state UP")
        });
    }
    eventually("the second port", || {
        switch
            .command("bridge", "link show dev link1")
            .contains("state forwarding")
    });
    assert_eq!(ask("10.1.0.100", short), None);
}
