//! What `config query` finds on this host.

use hotpair_config::{HostFacts, Listening, NicFacts};
use hotpair_host::net::netlink::Netlink;
use hotpair_host::net::port::{Transport, port_owner};
use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::net::{IpAddr, Ipv4Addr};

/// More listening ports than this are not looked up.
const MAX_PORTS: usize = 64;

/// Everything that could be found; what cannot be read is left out.
pub fn of_this_host() -> HostFacts {
    let hostname = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    HostFacts {
        hostname,
        nics: nics().unwrap_or_default(),
        listening: listening(),
    }
}

fn nics() -> Option<Vec<NicFacts>> {
    let mut netlink = Netlink::open().ok()?;
    let (links, addresses) = (netlink.links().ok()?, netlink.addresses().ok()?);
    let nics = links.into_iter().map(|link| {
        let of_link = addresses
            .iter()
            .filter(|address| address.ifindex == link.index);
        let addresses: Vec<_> = of_link
            .filter(|address| !address.address.is_loopback())
            .map(|address| (address.address, address.prefix))
            .collect();
        NicFacts {
            name: link.name,
            addresses,
            carrier: link.carrier,
        }
    });
    Some(nics.filter(|nic| nic.name != "lo").collect())
}

fn listening() -> Vec<Listening> {
    let mut found = Vec::new();
    for port in ports().into_iter().take(MAX_PORTS) {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        if let Some(owner) = port_owner(Transport::Tcp, any, port) {
            let program = owner.split(" (pid").next().unwrap_or_default().to_owned();
            if program != "hotpair" {
                found.push(Listening {
                    program,
                    udp: false,
                    address: None,
                    port,
                });
            }
        }
    }
    found
}

/// TCP ports somebody listens on, in order.
fn ports() -> BTreeSet<u16> {
    let tables = ["tcp", "tcp6"]
        .map(|table| read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| {
            let columns: Vec<_> = line.split_ascii_whitespace().collect();
            let port = columns.get(1)?.split_once(':')?.1;
            // State 0A is TCP_LISTEN.
            (*columns.get(3)? == "0A")
                .then(|| u16::from_str_radix(port, 16).ok())
                .flatten()
        })
        .collect()
}
