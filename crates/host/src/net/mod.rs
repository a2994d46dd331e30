//! The host's network: links, addresses, announcements, the gate, sockets.
//!
//! Everything here is synchronous and works in the network namespace of the
//! thread that opened the socket. Waits are bounded by a timeout the caller
//! gives or by [`KERNEL_ANSWER_TIMEOUT`].

use std::fmt;
use std::time::Duration;

pub mod announce;
pub mod conflict;
mod frame;
pub mod gate;
pub mod gateway;
pub mod netlink;
pub mod port;
mod socket;
pub mod udp;

/// How long a netlink request waits for the kernel's answer, 2 s.
///
/// The kernel answers inside the sending call, so only a lost answer waits.
pub const KERNEL_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// An Ethernet hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The Ethernet broadcast address.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// The all-zero address, "not known" in an ARP request.
    pub const ZERO: MacAddr = MacAddr([0; 6]);
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
