//! Socket addresses and waits that the standard library does not offer.

use std::io;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::MacAddr;

/// `AF_NETLINK` and `AF_PACKET` as an address holds them.
const NETLINK_FAMILY: libc::sa_family_t = 16;
const PACKET_FAMILY: libc::sa_family_t = 17;

/// Builds a socket address from one of libc's address structures.
fn address_of<T: Copy>(value: T) -> SockAddr {
    const { assert!(size_of::<T>() <= size_of::<SockAddrStorage>()) };
    let mut storage = SockAddrStorage::zeroed();
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: every `T` passed in this module is a `sockaddr_*` structure of
    // libc: plain data, no larger than the storage (checked above) and no
    // more strictly aligned than it; `length` is its exact size.
    unsafe {
        std::ptr::from_mut(&mut storage).cast::<T>().write(value);
        SockAddr::new(storage, length)
    }
}

/// The address of a netlink socket that hears the given multicast groups.
fn netlink_address(groups: u32) -> SockAddr {
    // SAFETY: `sockaddr_nl` is plain integers; all zero is a valid value.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = NETLINK_FAMILY;
    address.nl_groups = groups;
    address_of(address)
}

/// The address of an interface for a packet socket.
fn link_address(ifindex: u32, ethertype: u16) -> SockAddr {
    // SAFETY: `sockaddr_ll` is plain integers; all zero is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = PACKET_FAMILY;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = ifindex.cast_signed();
    address.sll_halen = 6;
    address_of(address)
}

/// Opens a non-blocking netlink socket of the given protocol.
pub(super) fn open_netlink(protocol: libc::c_int, groups: u32) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(protocol)),
    )?;
    socket.set_nonblocking(true)?;
    socket.bind(&netlink_address(groups))?;
    Ok(socket)
}

/// Opens a packet socket that only sends.
///
/// It hears nothing, so opening and closing it costs the host nothing.
pub(super) fn open_packet_sender() -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Opens a packet socket that hears one Ethernet type on one interface.
pub(super) fn open_packet(ifindex: u32, ethertype: u16) -> io::Result<Socket> {
    let socket = open_packet_sender()?;
    socket.bind(&link_address(ifindex, ethertype))?;
    Ok(socket)
}

/// Sends a whole Ethernet frame through an interface.
pub(super) fn send_frame(socket: &Socket, ifindex: u32, frame: &[u8]) -> io::Result<()> {
    let ethertype = frame
        .get(12..14)
        .map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let sent = socket.send_to(frame, &link_address(ifindex, ethertype))?;
    if sent == frame.len() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "the kernel took only part of the frame",
        ))
    }
}

/// Waits until the descriptor can be read or the deadline has passed.
///
/// Returns whether it can be read.
pub(super) fn wait_readable(socket: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut descriptors = [PollFd::new(socket, PollFlags::IN)];
        match poll(&mut descriptors, Some(&timespec(left))) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) if !left.is_zero() => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// The hardware address at a place of a frame, if the frame is long enough.
pub(super) fn mac_at(bytes: &[u8], offset: usize) -> Option<MacAddr> {
    let slice = bytes.get(offset..offset.checked_add(6)?)?;
    slice.try_into().ok().map(MacAddr)
}
