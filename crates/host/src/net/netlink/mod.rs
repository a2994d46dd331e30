//! Interfaces, their addresses and their changes, over rtnetlink.
//!
//! Numbers are those of Linux's `rtnetlink.h`, `if_link.h` and `if_addr.h`.

use std::io;
use std::net::IpAddr;

use thiserror::Error;

pub(in crate::net) mod connection;
pub(in crate::net) mod message;

mod address;
mod link;
mod monitor;

pub use address::{Address, AddressOptions};
pub use link::{Link, OperState};
pub use monitor::{Event, Monitor};

use connection::Connection;

/// Why the kernel did not list or change links or addresses.
#[derive(Debug, Error)]
pub enum NetlinkError {
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    #[error("cannot list {what}: {source}")]
    List {
        what: &'static str,
        source: io::Error,
    },
    #[error("cannot set {address}/{prefix} on interface {ifindex}: {source}")]
    SetAddress {
        address: IpAddr,
        prefix: u8,
        ifindex: u32,
        source: io::Error,
    },
    #[error("cannot remove {address}/{prefix} from interface {ifindex}: {source}")]
    RemoveAddress {
        address: IpAddr,
        prefix: u8,
        ifindex: u32,
        source: io::Error,
    },
    #[error(
        "removing {address}/{prefix} from {link} would take the addresses beside it along, and \
         promote_secondaries cannot be switched on: {source}; give the address the prefix /32 or \
         set net.ipv4.conf.{link}.promote_secondaries=1"
    )]
    SiblingsAtRisk {
        address: IpAddr,
        prefix: u8,
        link: String,
        source: io::Error,
    },
    #[error("cannot switch interface {ifindex} {state}: {source}", state = if *up { "on" } else { "off" })]
    SetLink {
        ifindex: u32,
        up: bool,
        source: io::Error,
    },
    #[error("cannot read network changes: {0}")]
    Monitor(#[source] io::Error),
}

/// A connection to the kernel's tables of links and addresses.
///
/// It belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    connection: Connection,
}

impl Netlink {
    /// Opens the connection; needs no privilege until something is changed.
    pub fn open() -> Result<Self, NetlinkError> {
        let connection = Connection::open(libc::NETLINK_ROUTE).map_err(NetlinkError::Open)?;
        Ok(Self { connection })
    }
}
