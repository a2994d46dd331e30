//! Whether a gateway answers, by ICMP echo.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::frame::internet_checksum;
use super::socket::wait_readable;

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// Tells the questions of one process apart.
static NEXT_TOKEN: AtomicU16 = AtomicU16::new(1);

/// Why no question could be asked.
#[derive(Debug, Error)]
#[error("cannot open an ICMP socket for {address}: {source}; run as root or grant CAP_NET_RAW")]
pub struct GatewayError {
    pub address: IpAddr,
    pub source: io::Error,
}

/// Which gateway to ask, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway<'a> {
    pub address: IpAddr,
    /// The address to ask from; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// The interface to ask through; needed for a link-local IPv6 gateway.
    pub device: Option<&'a str>,
}

/// Whether the gateway answers one of `tries` ICMP echoes.
///
/// Each try waits for `timeout`; blocks for at most their product. A question
/// that cannot be sent (no route, no carrier) is one that is not answered. An
/// error means that the host cannot ask at all.
pub fn reachable(
    gateway: &Gateway<'_>,
    timeout: Duration,
    tries: u32,
) -> Result<bool, GatewayError> {
    let address = gateway.address;
    let socket = open(address.is_ipv4()).map_err(|source| GatewayError { address, source })?;
    let Ok(target) = prepare(&socket, gateway) else {
        return Ok(false);
    };
    let identity = u16::try_from(std::process::id() & 0xffff).unwrap_or(0);
    for _ in 0..tries {
        let token = NEXT_TOKEN.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + timeout;
        let question = echo(address.is_ipv4(), identity, token);
        let sent = socket.send_to(&question, &target.into());
        if sent.is_ok() && hear(&socket, &question, address.is_ipv4(), deadline) {
            return Ok(true);
        }
        if sent.is_err() && Instant::now() < deadline {
            let _nothing = wait_readable(&socket, deadline);
        }
    }
    Ok(false)
}

fn open(v4: bool) -> io::Result<Socket> {
    let socket = if v4 {
        Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?
    } else {
        Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds the socket and makes the kernel hand over the gateway's packets only.
fn prepare(socket: &Socket, gateway: &Gateway<'_>) -> io::Result<SocketAddr> {
    let mut scope = 0;
    if let Some(device) = gateway.device {
        socket.bind_device(Some(device.as_bytes()))?;
        scope = rustix::net::netdevice::name_to_index(socket, device)?;
    }
    if let Some(source) = gateway.source {
        socket.bind(&endpoint(source, scope).into())?;
    }
    let target = endpoint(gateway.address, scope);
    socket.connect(&target.into())?;
    Ok(target)
}

fn endpoint(address: IpAddr, scope: u32) -> SocketAddr {
    match address {
        IpAddr::V4(v4) => SocketAddr::from((v4, 0)),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, 0, 0, scope).into(),
    }
}

/// An echo request; for IPv6 the kernel adds the checksum.
fn echo(v4: bool, identity: u16, token: u16) -> [u8; 16] {
    let mut packet = [0u8; 16];
    packet[0] = if v4 { ECHO_REQUEST_V4 } else { ECHO_REQUEST_V6 };
    packet[4..6].copy_from_slice(&identity.to_be_bytes());
    packet[6..8].copy_from_slice(&token.to_be_bytes());
    packet[8..].copy_from_slice(b"hotpair\0");
    if v4 {
        let sum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn hear(socket: &Socket, question: &[u8], v4: bool, deadline: Instant) -> bool {
    let mut buffer = [0u8; 2048];
    while wait_readable(socket, deadline).unwrap_or(false) {
        let mut reader = socket;
        match reader.read(&mut buffer) {
            Ok(count) if answers(&buffer[..count], question, v4) => return true,
            Ok(_) if Instant::now() < deadline => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return false,
        }
    }
    false
}

/// Whether a packet is the reply to a question; IPv4 comes with its IP header.
fn answers(packet: &[u8], question: &[u8], v4: bool) -> bool {
    let header = match packet.first() {
        Some(first) if v4 => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let reply = if v4 { ECHO_REPLY_V4 } else { ECHO_REPLY_V6 };
    let Some(body) = packet.get(header..) else {
        return false;
    };
    body.first() == Some(&reply) && body.len() == question.len() && body[4..] == question[4..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_truncated_or_foreign_packet_for_an_answer() {
        let question = echo(true, 7, 9);
        let mut packet = vec![0x45u8; 20];
        packet.extend_from_slice(&question);
        packet[20] = ECHO_REPLY_V4;
        assert!(answers(&packet, &question, true));
        for length in 0..packet.len() {
            assert!(!answers(&packet[..length], &question, true), "{length}");
            assert!(!answers(&vec![0xff; length], &question, length % 2 == 0));
        }
        assert!(!answers(&packet, &echo(true, 7, 10), true));
    }

    #[test]
    fn sums_a_request_to_zero() {
        assert_eq!(internet_checksum(&echo(true, 1, 2)), 0);
    }
}
