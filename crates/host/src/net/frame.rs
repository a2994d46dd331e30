//! ARP and IPv6 neighbour discovery frames.
//!
//! ```text
//! ARP (RFC 826), after the 14 bytes of Ethernet:
//!   14 hardware 1 u16 | 16 protocol 0x0800 u16 | 18 lengths 6, 4 | 20 operation u16
//!   22 sender mac | 28 sender ip | 32 target mac | 38 target ip
//! ND (RFC 4861): 14 IPv6 header | 54 ICMPv6 type, code, checksum u16 | 58 flags u32
//!   62 target address | 78 option type, length in 8 bytes, mac
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use super::MacAddr;
use super::socket::mac_at;

pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OPTION_TARGET_MAC: u8 = 2;
/// The "override" flag of an advertisement: replace what was known.
const FLAG_OVERRIDE: u32 = 0x2000_0000;

/// What an ARP packet asks or says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArpOperation {
    Request = 1,
    Reply = 2,
}

/// The fields of an ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arp {
    pub operation: ArpOperation,
    pub sender_mac: MacAddr,
    pub sender: Ipv4Addr,
    pub target_mac: MacAddr,
    pub target: Ipv4Addr,
}

impl Arp {
    /// The packet as a broadcast frame.
    pub fn broadcast_frame(&self) -> Vec<u8> {
        let mut frame = ethernet(MacAddr::BROADCAST, self.sender_mac, ETHERTYPE_ARP);
        frame.extend_from_slice(&[0, 1, 0x08, 0, 6, 4, 0, self.operation as u8]);
        frame.extend_from_slice(&self.sender_mac.0);
        frame.extend_from_slice(&self.sender.octets());
        frame.extend_from_slice(&self.target_mac.0);
        frame.extend_from_slice(&self.target.octets());
        frame
    }

    /// Reads a frame; `None` where it is not ARP for IPv4 over Ethernet.
    pub fn read(frame: &[u8]) -> Option<Self> {
        if frame.get(12..20)? != [0x08, 0x06, 0, 1, 0x08, 0, 6, 4] {
            return None;
        }
        let operation = match frame.get(20..22)? {
            [0, 1] => ArpOperation::Request,
            [0, 2] => ArpOperation::Reply,
            _ => return None,
        };
        Some(Self {
            operation,
            sender_mac: mac_at(frame, 22)?,
            sender: v4_at(frame, 28)?,
            target_mac: mac_at(frame, 32)?,
            target: v4_at(frame, 38)?,
        })
    }
}

/// An unsolicited neighbour advertisement to all nodes of the link.
pub(super) fn unsolicited_advertisement(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut body = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0];
    body.extend_from_slice(&FLAG_OVERRIDE.to_be_bytes());
    body.extend_from_slice(&address.octets());
    body.extend_from_slice(&[OPTION_TARGET_MAC, 1]);
    body.extend_from_slice(&mac.0);
    icmpv6_frame(mac, address, all_nodes, body)
}

/// The question of duplicate address detection, RFC 4862: who holds this?
pub(super) fn duplicate_solicitation(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&address.octets()[13..]);
    let mut body = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&address.octets());
    icmpv6_frame(mac, Ipv6Addr::UNSPECIFIED, group.into(), body)
}

/// Who a neighbour advertisement says holds which address.
///
/// `None` where the frame is no advertisement. Its checksum is not checked:
/// a damaged one costs a needless warning at most.
pub(super) fn read_advertisement(frame: &[u8]) -> Option<(Ipv6Addr, MacAddr)> {
    let ipv6 = frame.get(12..14)? == ETHERTYPE_IPV6.to_be_bytes() && frame.get(14)? >> 4 == 6;
    let advertisement = *frame.get(20)? == ICMPV6 && *frame.get(54)? == NEIGHBOUR_ADVERTISEMENT;
    if !ipv6 || !advertisement {
        return None;
    }
    let octets: [u8; 16] = frame.get(62..78)?.try_into().ok()?;
    let named = match frame.get(78..80) {
        Some([OPTION_TARGET_MAC, 1]) => mac_at(frame, 80),
        _ => None,
    };
    Some((octets.into(), named.or(mac_at(frame, 6))?))
}

fn icmpv6_frame(mac: MacAddr, source: Ipv6Addr, group: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let sum = checksum(source, group, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let [.., a, b, c, d] = group.octets();
    let mut frame = ethernet(MacAddr([0x33, 0x33, a, b, c, d]), mac, ETHERTYPE_IPV6);
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[ICMPV6, 255]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&group.octets());
    frame.extend_from_slice(&body);
    frame
}

fn ethernet(to: MacAddr, from: MacAddr, ethertype: u16) -> Vec<u8> {
    [&to.0[..], &from.0, &ethertype.to_be_bytes()].concat()
}

/// The ICMPv6 checksum with its pseudo-header, RFC 4443 2.3.
fn checksum(source: Ipv6Addr, target: Ipv6Addr, body: &[u8]) -> u16 {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = [source.octets(), target.octets()].concat();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, ICMPV6]);
    bytes.extend_from_slice(body);
    internet_checksum(&bytes)
}

/// The ones' complement sum of RFC 1071.
pub(super) fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u64::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

fn v4_at(bytes: &[u8], offset: usize) -> Option<Ipv4Addr> {
    let slice = bytes.get(offset..offset.checked_add(4)?)?;
    <[u8; 4]>::try_from(slice).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    fn sample_frames() -> [Vec<u8>; 3] {
        let arp = Arp {
            operation: ArpOperation::Reply,
            sender_mac: MAC,
            sender: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: MAC,
            target: Ipv4Addr::new(10, 0, 0, 1),
        };
        let v6 = "fd00::12:3456".parse().unwrap();
        [
            arp.broadcast_frame(),
            unsolicited_advertisement(MAC, v6),
            duplicate_solicitation(MAC, v6),
        ]
    }

    #[test]
    fn reads_back_its_own_frames() {
        let [arp, advertisement, solicitation] = sample_frames();
        let read = Arp::read(&arp).unwrap();
        assert_eq!((arp.len(), read.sender_mac), (42, MAC));
        assert_eq!(read.sender, Ipv4Addr::new(10, 0, 0, 1));
        let v6 = "fd00::12:3456".parse().unwrap();
        assert_eq!(read_advertisement(&advertisement), Some((v6, MAC)));
        assert_eq!(read_advertisement(&solicitation), None);
        assert_eq!(solicitation[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    }

    #[test]
    fn sums_to_zero_over_a_frame_with_its_checksum() {
        let [_, advertisement, _] = sample_frames();
        let body = &advertisement[54..];
        let v6: Ipv6Addr = "fd00::12:3456".parse().unwrap();
        assert_eq!(checksum(v6, "ff02::1".parse().unwrap(), body), 0);
    }

    #[test]
    fn never_panics_on_truncated_or_changed_frames() {
        for frame in sample_frames() {
            for length in 0..frame.len() {
                assert_eq!(Arp::read(&frame[..length.min(41)]), None);
                let _advertisement = read_advertisement(&frame[..length]);
                for value in [0u8, 1, 0x7f, 0xff] {
                    let mut changed = frame.clone();
                    changed[length] = value;
                    let _arp = Arp::read(&changed);
                    let _advertisement = read_advertisement(&changed);
                }
            }
        }
    }
}
