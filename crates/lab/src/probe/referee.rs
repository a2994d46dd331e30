//! The referees: who sends frames in the name of the virtual IP, and who holds it.

use super::LAST_ANSWERS;
use crate::cgroup;
use crate::clock::now_us;
use crate::control::Status;
use crate::error::{LabError, Result};
use crate::netns::Netns;
use crate::paths::Paths;
use crate::plan::Role;
use crate::rtnl::Rtnl;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt::{RcvBuf, ReceiveTimeout},
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A time in which one Ethernet address used the virtual IP as source without a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The Ethernet address.
    pub mac: [u8; 6],
    /// First frame, in microseconds of CLOCK_MONOTONIC.
    pub first_us: u64,
    /// Last frame.
    pub last_us: u64,
    /// Number of frames.
    pub frames: u64,
}

/// Sees every frame that reaches the client.
#[derive(Debug)]
pub struct Frames {
    socket: OwnedFd,
    address: Ipv4Addr,
}

impl Frames {
    /// Opens a packet socket in the calling thread's namespace.
    pub fn open(address: Ipv4Addr) -> Result<Self> {
        let fail = |e| LabError::system("open a packet socket", e);
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            SockProtocol::EthAll,
        )
        .map_err(fail)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(20)).map_err(fail)?;
        // Best effort: the kernel may allow less.
        let _ = setsockopt(&socket, RcvBuf, &(4 << 20));
        Ok(Self { socket, address })
    }

    /// Notes who uses the address until told to stop.
    pub fn watch(self, stop: &AtomicBool) -> Vec<Sighting> {
        let mut sightings: Vec<Sighting> = Vec::new();
        let mut buffer = [0u8; 2048];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, _)) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) else {
                continue;
            };
            let Some(mac) = source_of(&buffer[..length], self.address) else {
                continue;
            };
            let now = now_us();
            match sightings.last_mut() {
                Some(last) if last.mac == mac => {
                    last.last_us = now;
                    last.frames += 1;
                }
                _ => sightings.push(Sighting {
                    mac,
                    first_us: now,
                    last_us: now,
                    frames: 1,
                }),
            }
        }
        sightings
    }
}

/// Who sent the frame, if it speaks for `address`: an ARP sender or an IPv4 source.
fn source_of(frame: &[u8], address: Ipv4Addr) -> Option<[u8; 6]> {
    let mac: [u8; 6] = frame.get(6..12)?.try_into().ok()?;
    let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
    // Sender's protocol address of an ARP packet (RFC 826); source of an IPv4 header (RFC 791).
    let source = match kind {
        0x0806 => frame.get(28..32)?,
        0x0800 => frame.get(26..30)?,
        _ => return None,
    };
    (source == address.octets()).then_some(mac)
}

/// How long the address was held by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Microseconds by host.
    pub by_host: BTreeMap<String, u64>,
    /// Microseconds in which two hosts that were not paused held it.
    pub double_us: u64,
    /// The same, paused hosts included.
    pub double_with_paused_us: u64,
}

#[derive(Debug)]
struct Candidate {
    name: String,
    pid_file: PathBuf,
    cgroup: PathBuf,
    open: Option<(i32, Rtnl)>,
}

/// Asks every host's kernel for its addresses.
#[derive(Debug)]
pub struct Holders {
    candidates: Vec<Candidate>,
    address: IpAddr,
}

impl Holders {
    /// Watches all hosts but the client.
    pub fn new(paths: &Paths, status: &Status, address: Ipv4Addr) -> Self {
        let hosts = status.hosts.iter().filter(|h| h.plan.role != Role::Client);
        let candidate = |name: &str, cgroup: &PathBuf| Candidate {
            name: name.to_owned(),
            pid_file: paths.init_pid(name),
            cgroup: cgroup.clone(),
            open: None,
        };
        Self {
            candidates: hosts.map(|h| candidate(&h.plan.name, &h.cgroup)).collect(),
            address: address.into(),
        }
    }

    /// Looks at each interval until told to stop.
    ///
    /// A state counts from the look that found it to the next one.
    pub fn watch(mut self, interval: Duration, stop: &AtomicBool) -> Held {
        let mut held = Held::default();
        let mut before_us = now_us();
        let mut holding: Vec<(String, bool)> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let now = now_us();
            let passed = now.saturating_sub(before_us);
            before_us = now;
            for (name, _) in &holding {
                *held.by_host.entry(name.clone()).or_default() += passed;
            }
            let awake = holding.iter().filter(|(_, paused)| !paused).count();
            held.double_us += if awake > 1 { passed } else { 0 };
            held.double_with_paused_us += if holding.len() > 1 { passed } else { 0 };
            let address = self.address;
            holding = self
                .candidates
                .iter_mut()
                .filter_map(|c| c.look(address))
                .collect();
            std::thread::sleep(interval.min(LAST_ANSWERS));
        }
        held
    }
}

impl Candidate {
    /// Name and whether it is paused, if the host holds the address.
    fn look(&mut self, address: IpAddr) -> Option<(String, bool)> {
        let pid = fs::read_to_string(&self.pid_file)
            .ok()
            .and_then(|text| text.trim().parse::<i32>().ok());
        let Some(pid) = pid else {
            self.open = None;
            return None;
        };
        if self.open.as_ref().is_none_or(|(open, _)| *open != pid) {
            let rtnl = Netns::of_process(pid)
                .and_then(|n| n.within(Rtnl::open))
                .ok()?;
            self.open = Some((pid, rtnl));
        }
        let (_, rtnl) = self.open.as_ref()?;
        let holds = rtnl.holds(address).unwrap_or(false);
        holds.then(|| (self.name.clone(), cgroup::is_frozen(&self.cgroup)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_who_speaks_for_the_address() {
        let address = Ipv4Addr::new(10, 77, 1, 50);
        let mut frame = vec![0u8; 42];
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        frame[12..14].copy_from_slice(&0x0806u16.to_be_bytes());
        frame[28..32].copy_from_slice(&address.octets());
        assert_eq!(source_of(&frame, address), Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(source_of(&frame, Ipv4Addr::new(10, 77, 1, 51)), None);
        assert_eq!(source_of(&frame[..30], address), None);
    }
}
