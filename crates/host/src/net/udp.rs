//! UDP sockets for heartbeats.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::port::{self, Transport};

/// DSCP class selector 6, network control (RFC 4594), as the TOS byte.
const TOS_NETWORK_CONTROL: u32 = 0xc0;
/// The highest queueing priority that needs no capability.
const PRIORITY: u32 = 6;

/// Why a heartbeat socket was not opened.
#[derive(Debug, Error)]
pub enum UdpError {
    #[error("UDP port {address} is taken by {owner}; stop it or choose another port")]
    InUse { address: SocketAddr, owner: String },
    #[error("cannot bind UDP {address}: this host does not have the address {ip}", ip = address.ip())]
    NoSuchAddress { address: SocketAddr },
    #[error("cannot bind UDP {address}{device}: {source}", device = on(device.as_deref()))]
    Bind {
        address: SocketAddr,
        device: Option<String>,
        source: io::Error,
    },
}

fn on(device: Option<&str>) -> String {
    device.map(|name| format!(" on {name}")).unwrap_or_default()
}

/// Opens a non-blocking UDP socket on a local address and, if given, a device.
///
/// Packets leave with DSCP CS6 and priority 6. Without a device the address
/// is not shared: `SO_REUSEADDR` is left off, as with UDP it lets a second
/// process take the packets unnoticed, and no closed socket lingers anyway.
///
/// A send that would block (a neighbour that does not answer fills the queue)
/// is a lost heartbeat, no failure of the socket.
pub fn bind(address: SocketAddr, device: Option<&str>) -> Result<UdpSocket, UdpError> {
    try_bind(address, device).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => UdpError::InUse {
            address,
            owner: port::port_owner(Transport::Udp, address.ip(), address.port())
                .unwrap_or_else(|| "a process that cannot be seen from here".to_owned()),
        },
        io::ErrorKind::AddrNotAvailable => UdpError::NoSuchAddress { address },
        _ => UdpError::Bind {
            address,
            device: device.map(str::to_owned),
            source,
        },
    })
}

fn try_bind(address: SocketAddr, device: Option<&str>) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_tos_v4(TOS_NETWORK_CONTROL)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_tclass_v6(TOS_NETWORK_CONTROL)?;
        }
    }
    socket.set_priority(PRIORITY)?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
