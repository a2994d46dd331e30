//! Which program of this node listens on a port.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Detected, bounded};
use crate::cgroup::Cgroup;
use crate::process::{pids, stat};

/// Transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Listening TCP sockets.
    Tcp,
    /// Bound UDP sockets without a peer.
    Udp,
}

/// Who has to be listening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Anybody.
    Any,
    /// A program with this process name, or this executable (path or last part of it).
    Program(String),
    /// A process in this cgroup.
    Cgroup(Cgroup),
}

/// Looks for a listening socket in this thread's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenCheck {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// The address listened on; sockets for all addresses count as well. Any when not given.
    pub address: Option<IpAddr>,
    /// Who has to be listening.
    pub owner: Owner,
    /// Limit for the whole check.
    pub timeout: Duration,
}

impl ListenCheck {
    /// Does the check.
    pub fn check(&self) -> Detected {
        let check = self.clone();
        bounded(self.timeout, move || check.look())
    }

    fn look(&self) -> Detected {
        let inodes = match self.inodes() {
            Ok(inodes) => inodes,
            Err(error) => {
                return Detected::Failed(format!("cannot read /proc/thread-self/net: {error}"));
            }
        };
        let port = format!(
            "{} port {}",
            if self.protocol == Protocol::Tcp {
                "tcp"
            } else {
                "udp"
            },
            self.port
        );
        if inodes.is_empty() {
            return Detected::NotRunning(format!("nothing listens on {port}"));
        }
        let candidates = match &self.owner {
            Owner::Any => return Detected::Running,
            Owner::Program(_) => pids().map_err(|error| error.to_string()),
            Owner::Cgroup(cgroup) => cgroup.procs().map_err(|error| error.to_string()),
        };
        let candidates = match candidates {
            Ok(candidates) => candidates,
            Err(error) => return Detected::Failed(format!("cannot list processes: {error}")),
        };
        let wanted = |pid: &i32| match &self.owner {
            Owner::Program(name) => is_program(*pid, name),
            Owner::Any | Owner::Cgroup(_) => true,
        };
        if candidates
            .into_iter()
            .filter(wanted)
            .any(|pid| holds(pid, &inodes))
        {
            return Detected::Running;
        }
        let holder = pids()
            .unwrap_or_default()
            .into_iter()
            .find(|pid| holds(*pid, &inodes));
        let holder = match holder.map(|pid| (pid, stat(pid))) {
            Some((pid, Ok(stat))) => format!("{} (process {pid})", stat.comm),
            _ => "a process that cannot be seen".to_owned(),
        };
        let wanted = match &self.owner {
            Owner::Program(name) => name.clone(),
            Owner::Cgroup(cgroup) => format!("a process in {}", cgroup.path().display()),
            Owner::Any => String::new(),
        };
        Detected::NotRunning(format!("{port} belongs to {holder}, not to {wanted}"))
    }

    fn inodes(&self) -> std::io::Result<HashSet<u64>> {
        let files = match self.protocol {
            Protocol::Tcp => ["tcp", "tcp6"],
            Protocol::Udp => ["udp", "udp6"],
        };
        let mut inodes = HashSet::new();
        for file in files {
            match std::fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
                Ok(text) => inodes.extend(
                    text.lines()
                        .skip(1)
                        .filter_map(parse)
                        .filter_map(|socket| self.matches(&socket)),
                ),
                // A kernel without IPv6 has no such file.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && file.ends_with('6') => {}
                Err(error) => return Err(error),
            }
        }
        Ok(inodes)
    }

    fn matches(&self, socket: &Socket) -> Option<u64> {
        // include/net/tcp_states.h: 10 is LISTEN, 7 is CLOSE, which unconnected UDP sockets are in.
        let state = if self.protocol == Protocol::Tcp {
            10
        } else {
            7
        };
        let here = self.address.is_none_or(|wanted| {
            socket.address.is_unspecified() || socket.address == wanted.to_canonical()
        });
        (socket.state == state && socket.port == self.port && here).then_some(socket.inode)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Socket {
    address: IpAddr,
    port: u16,
    state: u8,
    inode: u64,
}

/// One line of `/proc/net/{tcp,udp}{,6}`; addresses are 32-bit words in the host's byte order.
fn parse(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let word = |at: usize| {
        u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(Socket {
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Whether the process has this name, or this executable, by path or last part.
pub(super) fn is_program(pid: i32, name: &str) -> bool {
    if stat(pid).is_ok_and(|stat| stat.comm == name) {
        return true;
    }
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| {
        exe.as_os_str() == name || exe.file_name().is_some_and(|last| last == name)
    })
}

fn holds(pid: i32, inodes: &HashSet<u64>) -> bool {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    fds.flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|link| {
            let inode = link.to_str().and_then(|text| {
                text.strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .parse()
                    .ok()
            });
            inode.is_some_and(|inode: u64| inodes.contains(&inode))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_addresses_of_both_families() {
        let line = "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0 100";
        let socket = Socket {
            address: Ipv4Addr::LOCALHOST.into(),
            port: 8080,
            state: 10,
            inode: 4711,
        };
        assert_eq!(parse(line), Some(socket));
        let v6 = line.replace("0100007F", "00000000000000000000000001000000");
        assert_eq!(
            parse(&v6).map(|socket| socket.address),
            Some(Ipv6Addr::LOCALHOST.into())
        );
        let mapped = line.replace("0100007F", "0000000000000000FFFF00000100007F");
        assert_eq!(
            parse(&mapped).map(|socket| socket.address),
            Some(Ipv4Addr::LOCALHOST.into())
        );
    }

    #[test]
    fn malformed_lines_are_skipped() {
        for line in [
            "",
            "0: 01:1F90",
            "0: 0100007F 0 0A",
            "0: éééé:1F90 0:0 0A 0 0 0 0 0 1",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
