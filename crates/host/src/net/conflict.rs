//! Asks the link who else holds an address, before it is set here.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use socket2::Socket;
use thiserror::Error;

use super::MacAddr;
use super::frame::{
    Arp, ArpOperation, ETHERTYPE_ARP, ETHERTYPE_IPV6, duplicate_solicitation, read_advertisement,
};
use super::netlink::{Netlink, NetlinkError};
use super::socket::{open_packet, send_frame, wait_readable};

/// Questions per probe, spread over its timeout (RFC 5227 `PROBE_NUM`).
const QUESTIONS: u32 = 3;

/// Why nobody could be asked.
#[derive(Debug, Error)]
pub enum ProbeError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("cannot probe {address}: there is no interface {ifindex} with an Ethernet address")]
    NoInterface { address: IpAddr, ifindex: u32 },
    #[error("cannot probe {address} through interface {ifindex}: {source}")]
    Socket {
        address: IpAddr,
        ifindex: u32,
        source: io::Error,
    },
}

/// Asks three times within `timeout` who holds `address`.
///
/// Returns the hardware address of the first other holder that answers, or
/// `None` when nobody did until the end. Addresses of this host's own
/// interfaces do not count. IPv4 asks as an ARP probe (RFC 5227), IPv6 as
/// duplicate address detection (RFC 4862); neither changes a neighbour's
/// cache. Blocks for at most `timeout`.
pub fn probe(
    ifindex: u32,
    address: IpAddr,
    timeout: Duration,
) -> Result<Option<MacAddr>, ProbeError> {
    let links = Netlink::open()?.links()?;
    let own: Vec<MacAddr> = links.iter().filter_map(|link| link.mac).collect();
    let mac = links
        .iter()
        .find(|link| link.index == ifindex)
        .and_then(|link| link.mac)
        .ok_or(ProbeError::NoInterface { address, ifindex })?;
    ask(ifindex, mac, address, timeout, &own).map_err(|source| ProbeError::Socket {
        address,
        ifindex,
        source,
    })
}

fn ask(
    ifindex: u32,
    mac: MacAddr,
    address: IpAddr,
    timeout: Duration,
    own: &[MacAddr],
) -> io::Result<Option<MacAddr>> {
    let (ethertype, question) = question(mac, address);
    let socket = open_packet(ifindex, ethertype)?;
    let start = Instant::now();
    for round in 1..=QUESTIONS {
        send_frame(&socket, ifindex, &question)?;
        let deadline = start + timeout * round / QUESTIONS;
        if let Some(other) = hear(&socket, address, own, deadline)? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

fn question(mac: MacAddr, address: IpAddr) -> (u16, Vec<u8>) {
    match address {
        IpAddr::V4(target) => {
            let arp = Arp {
                operation: ArpOperation::Request,
                sender_mac: mac,
                sender: Ipv4Addr::UNSPECIFIED,
                target_mac: MacAddr::ZERO,
                target,
            };
            (ETHERTYPE_ARP, arp.broadcast_frame())
        }
        IpAddr::V6(target) => (ETHERTYPE_IPV6, duplicate_solicitation(mac, target)),
    }
}

fn hear(
    socket: &Socket,
    address: IpAddr,
    own: &[MacAddr],
    deadline: Instant,
) -> io::Result<Option<MacAddr>> {
    let mut buffer = [0u8; 2048];
    while wait_readable(socket, deadline)? {
        let mut reader = socket;
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let holder = holder_in(&buffer[..count], address).filter(|mac| !own.contains(mac));
        if holder.is_some() {
            return Ok(holder);
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(None)
}

/// Who a frame shows as the holder of an address.
fn holder_in(frame: &[u8], address: IpAddr) -> Option<MacAddr> {
    match address {
        IpAddr::V4(v4) => Arp::read(frame)
            .filter(|arp| arp.sender == v4)
            .map(|arp| arp.sender_mac),
        IpAddr::V6(v6) => read_advertisement(frame)
            .filter(|(target, _)| *target == v6)
            .map(|(_, mac)| mac),
    }
}
