//! The few route netlink requests for which starting `ip` would be too slow.
//!
//! Layout of a request: `nlmsghdr` (16 bytes: length u32, type u16, flags u16, sequence u32,
//! port u32), then the family's header, then attributes (length u16, type u16, value, padded to
//! 4 bytes). Numbers are in the byte order of the machine (rtnetlink(7)).

use crate::error::{LabError, Result};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

const HEADER: usize = 16;
const IFF_UP: u32 = 1;

/// A route netlink socket; it belongs to the namespace it was opened in.
#[derive(Debug)]
pub struct Rtnl {
    socket: OwnedFd,
}

impl Rtnl {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        let fail = |e| LabError::system("open a netlink socket", e);
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )
        .map_err(fail)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(fail)?;
        // Far longer than any answer takes; a bound so that nobody waits for ever.
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(10)).map_err(fail)?;
        Ok(Self { socket })
    }

    /// Sets links up or down, all in one call into the kernel.
    pub fn set_links(&self, names: &[String], up: bool) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(64 * names.len());
        for name in names {
            push(&mut buffer, libc::RTM_NEWLINK, libc::NLM_F_ACK, |body| {
                link_header(body, if up { IFF_UP } else { 0 }, IFF_UP);
                attribute(body, libc::IFLA_IFNAME, &zero_ended(name));
            });
        }
        self.send(&buffer)?;
        self.acknowledgements(names.len())
    }

    /// Removes links; those that are gone already are no error.
    pub fn remove_links(&self, names: &[String]) -> io::Result<()> {
        for name in names {
            let mut buffer = Vec::new();
            push(&mut buffer, libc::RTM_DELLINK, libc::NLM_F_ACK, |body| {
                link_header(body, 0, 0);
                attribute(body, libc::IFLA_IFNAME, &zero_ended(name));
            });
            self.send(&buffer)?;
            match self.acknowledgements(1) {
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Makes a veth pair with so many queues at both ends, which takes the kernel about 0.1 ms a
    /// queue under the rtnl lock (measured on Linux 6.18).
    pub fn add_pair(&self, names: [&str; 2], queues: u32) -> io::Result<()> {
        const IFLA_NUM_TX_QUEUES: u16 = 31;
        const IFLA_NUM_RX_QUEUES: u16 = 32;
        const VETH_INFO_PEER: u16 = 1;
        let end = |body: &mut Vec<u8>, name: &str| {
            link_header(body, 0, 0);
            attribute(body, libc::IFLA_IFNAME, &zero_ended(name));
            attribute(body, IFLA_NUM_TX_QUEUES, &queues.to_ne_bytes());
            attribute(body, IFLA_NUM_RX_QUEUES, &queues.to_ne_bytes());
        };
        let (mut peer, mut data, mut kind, mut buffer) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        end(&mut peer, names[1]);
        attribute(&mut data, VETH_INFO_PEER, &peer);
        attribute(&mut kind, libc::IFLA_INFO_KIND, b"veth");
        attribute(&mut kind, libc::IFLA_INFO_DATA, &data);
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        push(&mut buffer, libc::RTM_NEWLINK, flags, |body| {
            end(body, names[0]);
            attribute(body, libc::IFLA_LINKINFO, &kind);
        });
        self.send(&buffer)?;
        self.acknowledgements(1)
    }

    /// Whether any interface of the namespace has this address.
    pub fn holds(&self, address: IpAddr) -> io::Result<bool> {
        let (family, wanted) = match address {
            IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
        };
        let mut buffer = Vec::new();
        push(&mut buffer, libc::RTM_GETADDR, libc::NLM_F_DUMP, |body| {
            body.extend([u8::try_from(family).unwrap_or(0), 0, 0, 0, 0, 0, 0, 0]);
        });
        self.send(&buffer)?;
        let mut held = false;
        self.read_dump(|body| held |= addresses(body).any(|found| found == wanted.as_slice()))?;
        Ok(held)
    }

    fn send(&self, buffer: &[u8]) -> io::Result<()> {
        sendto(
            self.socket.as_raw_fd(),
            buffer,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        Ok(())
    }

    fn acknowledgements(&self, mut expected: usize) -> io::Result<()> {
        let mut result = Ok(());
        let mut buffer = vec![0u8; 16 * 1024];
        while expected > 0 {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for (kind, body) in messages(&buffer[..length]) {
                if i32::from(kind) == libc::NLMSG_ERROR {
                    expected = expected.saturating_sub(1);
                    let code = body
                        .first_chunk::<4>()
                        .map_or(0, |b| i32::from_ne_bytes(*b));
                    if code != 0 && result.is_ok() {
                        result = Err(io::Error::from_raw_os_error(-code));
                    }
                }
            }
        }
        result
    }

    fn read_dump(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for (kind, body) in messages(&buffer[..length]) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return Err(io::Error::other("the kernel refused a netlink dump"));
                    }
                    _ => each(body),
                }
            }
        }
    }
}

fn zero_ended(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn push(buffer: &mut Vec<u8>, kind: u16, flags: i32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or(0);
    buffer.extend(0u32.to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend(flags.to_ne_bytes());
    buffer.extend([0u8; 8]);
    body(buffer);
    let length = u32::try_from(buffer.len() - start).unwrap_or(0);
    buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// `ifinfomsg`: family u8, pad u8, type u16, index i32, flags u32, change u32.
fn link_header(body: &mut Vec<u8>, flags: u32, change: u32) {
    body.extend([0u8; 8]);
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(4);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Splits what the kernel sent into (type, body); stops at the first impossible length.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk::<4>()?) as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let body = &bytes[HEADER..length];
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, body))
    })
}

/// The values of IFA_ADDRESS and IFA_LOCAL in an `ifaddrmsg` (8 bytes) with attributes.
fn addresses(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body.get(8..).unwrap_or(&[]);
    std::iter::from_fn(move || {
        loop {
            let length = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
            let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]);
            let value = rest.get(4..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
            if kind == libc::IFA_ADDRESS || kind == libc::IFA_LOCAL {
                return Some(value);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_answer_ends_the_reading() {
        let mut bytes = Vec::new();
        push(&mut bytes, libc::RTM_NEWADDR, 0, |body| {
            body.extend([0u8; 8])
        });
        assert_eq!(messages(&bytes).count(), 1);
        assert_eq!(messages(&bytes[..bytes.len() - 1]).count(), 0);
    }

    #[test]
    fn finds_the_address_among_other_attributes() {
        let mut body = vec![0u8; 8];
        attribute(&mut body, libc::IFA_LABEL, b"eth0\0");
        attribute(&mut body, libc::IFA_LOCAL, &[10, 77, 1, 50]);
        assert_eq!(
            addresses(&body).collect::<Vec<_>>(),
            [[10u8, 77, 1, 50].as_slice()]
        );
    }
}
