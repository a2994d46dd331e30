//! Which process holds a port.

use crate::process::{pids, stat};
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The two transports that have ports here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// State `TCP_LISTEN` of `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// Names the process that listens on a port, as `name (pid 123)`.
///
/// A socket on the unspecified address of either version counts for every
/// address. `None` when there is none, or when its owner is in another PID
/// namespace or may not be looked at.
pub fn port_owner(transport: Transport, address: IpAddr, port: u16) -> Option<String> {
    let (v4, v6) = match transport {
        Transport::Udp => ("udp", "udp6"),
        Transport::Tcp => ("tcp", "tcp6"),
    };
    [v4, v6]
        .into_iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
        .flat_map(|table| inodes(&table, transport, address, port))
        .find_map(holder_of_inode)
}

/// A socket that waits for callers: TCP listening, or UDP bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub transport: Transport,
    pub address: IpAddr,
    pub port: u16,
    /// Name of a process that has it, if one can be seen.
    pub program: Option<String>,
    inode: u64,
}

/// All sockets of the calling thread's network namespace that wait for callers.
pub fn waiting() -> Vec<Waiting> {
    let tables = [
        ("tcp", Transport::Tcp),
        ("tcp6", Transport::Tcp),
        ("udp", Transport::Udp),
        ("udp6", Transport::Udp),
    ];
    let mut found = Vec::new();
    for (table, transport) in tables {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}"));
        found.extend(sockets(&text.unwrap_or_default(), transport));
    }
    // One walk through all processes, however many sockets there are.
    let mut programs = HashMap::new();
    for pid in pids().unwrap_or_default() {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for target in descriptors
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok())
        {
            if let Some(inode) = inode_of(&target) {
                programs.entry(inode).or_insert(pid);
            }
        }
    }
    for socket in &mut found {
        let pid = programs.get(&socket.inode);
        socket.program = pid.and_then(|pid| Some(stat(*pid).ok()?.comm));
    }
    found
}

/// Reads `socket:[123]`.
fn inode_of(target: &Path) -> Option<u64> {
    let number = target.to_str()?.strip_prefix("socket:[")?;
    number.strip_suffix(']')?.parse().ok()
}

/// The sockets of a table of `/proc/net` that wait for callers.
fn sockets(table: &str, transport: Transport) -> impl Iterator<Item = Waiting> {
    table.lines().skip(1).filter_map(move |line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, port) = read_endpoint(columns.get(1)?)?;
        let open = transport == Transport::Udp || *columns.get(3)? == LISTENING;
        let inode = columns.get(9)?.parse().ok()?;
        (open && inode != 0).then_some(Waiting {
            transport,
            address,
            port,
            program: None,
            inode,
        })
    })
}

/// The inodes of the matching sockets of a table of `/proc/net`.
fn inodes(table: &str, transport: Transport, address: IpAddr, port: u16) -> Vec<u64> {
    sockets(table, transport)
        .filter(|socket| {
            let local = socket.address;
            let fits = local == address || local.is_unspecified() || address.is_unspecified();
            fits && socket.port == port
        })
        .map(|socket| socket.inode)
        .collect()
}

/// Reads `0100007F:1F90`: words of the address in host order, port in hex.
fn read_endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::new();
    for start in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(start..start + 8)?, 16).ok()?;
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    let address = match octets.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_canonical(),
        _ => return None,
    };
    Some((address, port))
}

/// The first process that has the socket of an inode open.
fn holder_of_inode(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if holds(pid, &wanted) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

fn holds(pid: u32, wanted: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.as_os_str() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_endpoints_of_both_versions() {
        let v4 = read_endpoint("0100007F:1F90");
        assert_eq!(v4, Some((Ipv4Addr::LOCALHOST.into(), 8080)));
        let v6 = read_endpoint("00000000000000000000000001000000:0035");
        assert_eq!(v6, Some((Ipv6Addr::LOCALHOST.into(), 53)));
    }

    #[test]
    fn a_socket_that_waits_is_found_with_its_program() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let name = stat(std::process::id().cast_signed()).unwrap().comm;
        let found = waiting();
        let ours = found.iter().find(|one| one.port == port).unwrap();
        assert_eq!(ours.transport, Transport::Tcp);
        assert_eq!(ours.address, IpAddr::from(Ipv4Addr::LOCALHOST));
        assert_eq!(ours.program.as_deref(), Some(name.as_str()));
    }

    #[test]
    fn reads_nothing_from_damaged_tables() {
        for text in [
            "",
            ":",
            "01:02",
            "0100007F:",
            "0100007F:FFFFF",
            "ä00007F:1",
            "0100007",
        ] {
            assert_eq!(read_endpoint(text), None, "{text:?}");
        }
        let table = "head\n 0: 0100007F:1F90\n";
        let any = Ipv4Addr::UNSPECIFIED.into();
        assert!(inodes(table, Transport::Udp, any, 8080).is_empty());
    }
}
