//! Addresses of interfaces.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::connection::{ACK, CREATE, DUMP, REPLACE, REQUEST};
use super::message::{Builder, Message, attributes, u32_at};
use super::{Netlink, NetlinkError};

pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
/// Bytes of `struct ifaddrmsg`.
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const FLAG_SECONDARY: u32 = 0x01;
const FLAG_NO_DAD: u32 = 0x02;
const FLAG_DAD_FAILED: u32 = 0x08;
const FLAG_TENTATIVE: u32 = 0x40;
const FLAG_NO_PREFIX_ROUTE: u32 = 0x200;
/// `INFINITY_LIFE_TIME`: the address never expires.
const FOREVER: u32 = u32::MAX;

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub ifindex: u32,
    pub address: IpAddr,
    /// Bits of the subnet, 0 to 32 or 128.
    pub prefix: u8,
    /// Seconds until the kernel removes the address; `None` is never.
    pub valid_seconds: Option<u32>,
    /// Seconds until the kernel stops choosing it as a source; `None` is never.
    pub preferred_seconds: Option<u32>,
    /// An IPv4 address that is not the first of its subnet on the interface.
    pub secondary: bool,
    /// Duplicate address detection still runs; the address is not usable yet.
    pub tentative: bool,
    /// Duplicate address detection found another holder.
    pub duplicate: bool,
}

/// How an address is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddressOptions {
    /// Seconds until the kernel removes the address, from 1; `None` is never.
    pub valid_seconds: Option<u32>,
    /// Seconds until it is no longer chosen as a source, at most
    /// `valid_seconds`; 0 is at once, `None` is as long as it is valid.
    pub preferred_seconds: Option<u32>,
    /// Skip the kernel's duplicate address detection (IPv6 only).
    pub no_dad: bool,
    /// Add no route to the address's subnet.
    pub no_prefix_route: bool,
}

impl Netlink {
    /// Lists the addresses of all interfaces.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let build = |sequence| {
            let mut builder = Builder::default();
            builder
                .message(RTM_GETADDR, REQUEST | DUMP, sequence)
                .raw(&[0; HEADER]);
            builder.bytes().to_vec()
        };
        self.connection
            .dump(build, read_address)
            .map_err(|source| NetlinkError::List {
                what: "addresses",
                source,
            })
    }

    /// Adds an address, or gives an existing one new lifetimes.
    pub fn set_address(
        &mut self,
        ifindex: u32,
        address: IpAddr,
        prefix: u8,
        options: AddressOptions,
    ) -> Result<(), NetlinkError> {
        let valid = options.valid_seconds.unwrap_or(FOREVER);
        let preferred = options.preferred_seconds.unwrap_or(valid).min(valid);
        let mut flags = 0;
        if options.no_dad && address.is_ipv6() {
            flags |= FLAG_NO_DAD;
        }
        if options.no_prefix_route {
            flags |= FLAG_NO_PREFIX_ROUTE;
        }
        let mut cache = [0u8; 16];
        cache[..4].copy_from_slice(&preferred.to_ne_bytes());
        cache[4..8].copy_from_slice(&valid.to_ne_bytes());

        let sequence = self.connection.next_sequence();
        let kind = (RTM_NEWADDR, REQUEST | ACK | CREATE | REPLACE);
        let mut builder = address_message(kind, sequence, ifindex, address, prefix);
        builder
            .attribute(IFA_CACHEINFO, &cache)
            .attribute(IFA_FLAGS, &u32::to_ne_bytes(flags));
        self.connection
            .exchange(builder.bytes(), sequence..=sequence, |_| {})
            .map_err(|source| NetlinkError::SetAddress {
                address,
                prefix,
                ifindex,
                source,
            })
    }

    /// Removes an address and no other; returns whether it was there.
    ///
    /// With the first IPv4 address of a subnet the kernel removes the others
    /// of that subnet too, unless the interface's `promote_secondaries` is
    /// on. It is switched on where that matters, and stays on.
    pub fn remove_address(
        &mut self,
        ifindex: u32,
        address: IpAddr,
        prefix: u8,
    ) -> Result<bool, NetlinkError> {
        if let IpAddr::V4(wanted) = address {
            self.protect_siblings(ifindex, wanted, prefix)?;
        }
        let sequence = self.connection.next_sequence();
        let kind = (RTM_DELADDR, REQUEST | ACK);
        let builder = address_message(kind, sequence, ifindex, address, prefix);
        let result = self
            .connection
            .exchange(builder.bytes(), sequence..=sequence, |_| {});
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            Err(source) => Err(NetlinkError::RemoveAddress {
                address,
                prefix,
                ifindex,
                source,
            }),
        }
    }

    fn protect_siblings(
        &mut self,
        ifindex: u32,
        wanted: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), NetlinkError> {
        let siblings = self.addresses()?.into_iter().any(|entry| {
            entry.ifindex == ifindex
                && entry.prefix == prefix
                && entry.address != IpAddr::V4(wanted)
                && matches!(entry.address, IpAddr::V4(other) if subnet(other, prefix) == subnet(wanted, prefix))
        });
        if !siblings {
            return Ok(());
        }
        let Some(link) = self.link_by_index(ifindex)? else {
            return Ok(());
        };
        promote_secondaries(&link.name).map_err(|source| NetlinkError::SiblingsAtRisk {
            address: IpAddr::V4(wanted),
            prefix,
            link: link.name,
            source,
        })
    }
}

fn subnet(address: Ipv4Addr, prefix: u8) -> u32 {
    let host_bits = 32u32.saturating_sub(u32::from(prefix));
    address.to_bits().checked_shr(host_bits).unwrap_or(0)
}

/// Makes the kernel keep an interface's other addresses of a subnet.
fn promote_secondaries(link: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/ipv4/conf/{link}/promote_secondaries");
    if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    fs::write(path, "1")
}

fn address_message(
    (kind, flags): (u16, u16),
    sequence: u32,
    ifindex: u32,
    address: IpAddr,
    prefix: u8,
) -> Builder {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let mut header = [0u8; HEADER];
    header[0] = u8::try_from(family).unwrap_or(0);
    header[1] = prefix;
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    let mut builder = Builder::default();
    builder
        .message(kind, flags, sequence)
        .raw(&header)
        .attribute(IFA_LOCAL, &octets)
        .attribute(IFA_ADDRESS, &octets);
    builder
}

/// Reads an `RTM_NEWADDR` or `RTM_DELADDR` message.
pub(super) fn read_address(message: &Message<'_>) -> Option<Address> {
    if ![RTM_NEWADDR, RTM_DELADDR].contains(&message.kind) {
        return None;
    }
    let &[_, prefix, _, short_flags, ..] = message.payload else {
        return None;
    };
    let mut flags = u32::from(short_flags);
    let (mut local, mut other) = (None, None);
    let (mut preferred, mut valid) = (FOREVER, FOREVER);
    for (kind, payload) in attributes(message.payload.get(HEADER..)?) {
        match kind {
            IFA_LOCAL => local = read_ip(payload),
            IFA_ADDRESS => other = read_ip(payload),
            IFA_FLAGS => flags = u32_at(payload, 0)?,
            IFA_CACHEINFO => (preferred, valid) = (u32_at(payload, 0)?, u32_at(payload, 4)?),
            _ => {}
        }
    }
    Some(Address {
        ifindex: u32_at(message.payload, 4)?,
        address: local.or(other)?,
        prefix,
        valid_seconds: (valid != FOREVER).then_some(valid),
        preferred_seconds: (preferred != FOREVER).then_some(preferred),
        secondary: flags & FLAG_SECONDARY != 0,
        tentative: flags & FLAG_TENTATIVE != 0,
        duplicate: flags & FLAG_DAD_FAILED != 0,
    })
}

fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(v6).into())
}
