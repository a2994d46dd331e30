//! Changes of links and addresses, as the kernel announces them.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::Socket;

use super::NetlinkError;
use super::address::{Address, RTM_DELADDR, RTM_NEWADDR, read_address};
use super::link::{Link, RTM_DELLINK, RTM_NEWLINK, read_link};
use super::message::{Message, messages};
use crate::net::socket::open_netlink;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// A change of a link or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or changed, its carrier for instance.
    Link(Link),
    LinkRemoved(Link),
    /// An address was added or its lifetimes or flags changed.
    Address(Address),
    /// An address was removed, by somebody or at the end of its lifetime.
    AddressRemoved(Address),
    /// Events were lost because they came faster than they were read; list
    /// links and addresses again.
    Overrun,
}

/// Hears changes of links and addresses in the network namespace of the
/// thread that opened it. Readable when [`Monitor::next_event`] has something.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    pending: VecDeque<Event>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Starts hearing; list the state after this call so that nothing is missed.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: open_netlink(libc::NETLINK_ROUTE, GROUPS).map_err(NetlinkError::Open)?,
            pending: VecDeque::new(),
            buffer: vec![0; 64 * 1024],
        })
    }

    /// The next change, or `None` when there is none now; never waits.
    pub fn next_event(&mut self) -> Result<Option<Event>, NetlinkError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            match (&self.socket).read(&mut self.buffer) {
                Ok(count) => self
                    .pending
                    .extend(messages(&self.buffer[..count]).filter_map(|m| read_event(&m))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Some(Event::Overrun));
                }
                Err(error) => return Err(NetlinkError::Monitor(error)),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn read_event(message: &Message<'_>) -> Option<Event> {
    match message.kind {
        RTM_NEWLINK => read_link(message).map(Event::Link),
        RTM_DELLINK => read_link(message).map(Event::LinkRemoved),
        RTM_NEWADDR => read_address(message).map(Event::Address),
        RTM_DELADDR => read_address(message).map(Event::AddressRemoved),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_no_event_from_garbage_and_does_not_panic() {
        for kind in [0, RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR, 999] {
            for length in 0..64 {
                for fill in [0u8, 1, 4, 8, 0xff] {
                    let payload = vec![fill; length];
                    let message = Message {
                        kind,
                        flags: 0,
                        sequence: 0,
                        payload: &payload,
                    };
                    if length < 8 {
                        assert_eq!(read_event(&message), None);
                    } else {
                        let _event = read_event(&message);
                    }
                }
            }
        }
    }
}
