//! Network interfaces.

use std::io;

use super::connection::{ACK, DUMP, REQUEST};
use super::message::{Builder, Message, attributes, text, u16_at, u32_at};
use super::{Netlink, NetlinkError};
use crate::net::MacAddr;
use crate::net::socket::mac_at;

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
/// Bytes of `struct ifinfomsg`.
const HEADER: usize = 16;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
/// Carrier as an administrator's tools show it: `IFF_LOWER_UP`.
const IFF_LOWER_UP: u32 = 1 << 16;
const ARPHRD_ETHER: u16 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_CARRIER: u16 = 33;

/// The operational state of an interface, RFC 2863.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperState {
    Unknown,
    NotPresent,
    Down,
    LowerLayerDown,
    Testing,
    Dormant,
    Up,
}

impl From<u8> for OperState {
    fn from(value: u8) -> Self {
        match value {
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of the interface, from 1.
    pub index: u32,
    pub name: String,
    /// The hardware address; `None` where the interface is not Ethernet.
    pub mac: Option<MacAddr>,
    pub oper_state: OperState,
    /// Whether the cable or its virtual counterpart carries a signal; false
    /// while the interface is switched off.
    pub carrier: bool,
    /// Whether the administrator switched the interface on.
    pub up: bool,
    pub loopback: bool,
}

impl Netlink {
    /// Lists all interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let build = |sequence| {
            let mut builder = Builder::default();
            builder
                .message(RTM_GETLINK, REQUEST | DUMP, sequence)
                .raw(&[0; HEADER]);
            builder.bytes().to_vec()
        };
        self.connection
            .dump(build, read_link)
            .map_err(|source| NetlinkError::List {
                what: "interfaces",
                source,
            })
    }

    /// The interface of a name, if there is one.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// The interface of a number, if there is one.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links()?.into_iter().find(|link| link.index == index))
    }

    /// Switches an interface on or off.
    pub fn set_link_up(&mut self, ifindex: u32, up: bool) -> Result<(), NetlinkError> {
        self.change_link(ifindex, up)
            .map_err(|source| NetlinkError::SetLink {
                ifindex,
                up,
                source,
            })
    }

    fn change_link(&mut self, ifindex: u32, up: bool) -> io::Result<()> {
        let sequence = self.connection.next_sequence();
        let mut header = [0u8; HEADER];
        header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        header[8..12].copy_from_slice(&(if up { IFF_UP } else { 0 }).to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        let mut builder = Builder::default();
        builder
            .message(RTM_SETLINK, REQUEST | ACK, sequence)
            .raw(&header);
        self.connection
            .exchange(builder.bytes(), sequence..=sequence, |_| {})
    }
}

/// Reads an `RTM_NEWLINK` or `RTM_DELLINK` message.
pub(super) fn read_link(message: &Message<'_>) -> Option<Link> {
    if ![RTM_NEWLINK, RTM_DELLINK].contains(&message.kind) {
        return None;
    }
    let flags = u32_at(message.payload, 8)?;
    let ethernet = u16_at(message.payload, 2)? == ARPHRD_ETHER;
    let mut link = Link {
        index: u32_at(message.payload, 4)?,
        name: String::new(),
        mac: None,
        oper_state: OperState::Unknown,
        carrier: flags & IFF_LOWER_UP != 0,
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
    };
    for (kind, payload) in attributes(message.payload.get(HEADER..)?) {
        match (kind, payload) {
            (IFLA_IFNAME, name) => link.name = text(name),
            (IFLA_ADDRESS, mac) if ethernet => link.mac = mac_at(mac, 0),
            (IFLA_OPERSTATE, [state, ..]) => link.oper_state = OperState::from(*state),
            (IFLA_CARRIER, [carrier, ..]) => link.carrier = link.up && *carrier != 0,
            _ => {}
        }
    }
    Some(link)
}
