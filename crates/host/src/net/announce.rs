//! Tells the neighbours that an address is here now.
//!
//! Packet sockets bypass the gate: announce only what is permitted.

use std::io;
use std::net::IpAddr;

use socket2::Socket;
use thiserror::Error;

use super::MacAddr;
use super::frame::{Arp, ArpOperation, unsolicited_advertisement};
use super::socket::{open_packet_sender, send_frame};

/// Why an announcement was not sent.
#[derive(Debug, Error)]
pub enum AnnounceError {
    #[error("cannot open a packet socket: {0}; run as root or grant CAP_NET_RAW")]
    Open(#[source] io::Error),
    #[error("cannot announce {address} through interface {ifindex}: {source}")]
    Send {
        address: IpAddr,
        ifindex: u32,
        source: io::Error,
    },
}

/// Sends announcements; one open socket serves all interfaces.
#[derive(Debug)]
pub struct Announcer {
    socket: Socket,
}

impl Announcer {
    /// Opens the socket in the thread's network namespace.
    pub fn open() -> Result<Self, AnnounceError> {
        let socket = open_packet_sender().map_err(AnnounceError::Open)?;
        Ok(Self { socket })
    }

    /// Announces once that `address` is at `mac`, the interface's own address.
    ///
    /// IPv4: a gratuitous ARP request and a reply, as some neighbours heed
    /// only one of the forms (RFC 5944 4.6). IPv6: one unsolicited neighbour
    /// advertisement with the override flag. Repeats are the caller's.
    pub fn announce(
        &self,
        ifindex: u32,
        mac: MacAddr,
        address: IpAddr,
    ) -> Result<(), AnnounceError> {
        for frame in announcement(mac, address) {
            send_frame(&self.socket, ifindex, &frame).map_err(|source| AnnounceError::Send {
                address,
                ifindex,
                source,
            })?;
        }
        Ok(())
    }
}

fn announcement(mac: MacAddr, address: IpAddr) -> Vec<Vec<u8>> {
    let gratuitous = |operation, target_mac, v4| Arp {
        operation,
        sender_mac: mac,
        sender: v4,
        target_mac,
        target: v4,
    };
    match address {
        IpAddr::V4(v4) => vec![
            gratuitous(ArpOperation::Request, MacAddr::ZERO, v4).broadcast_frame(),
            gratuitous(ArpOperation::Reply, MacAddr::BROADCAST, v4).broadcast_frame(),
        ],
        IpAddr::V6(v6) => vec![unsolicited_advertisement(mac, v6)],
    }
}
