//! What `config query` finds on this host.

use hotpair_config::{HostFacts, Listening, NicFacts};
use hotpair_host::net::netlink::Netlink;
use hotpair_host::net::port::{self, Transport};
use std::collections::BTreeMap;

/// More listening ports than this are not written down.
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
    let mut programs = BTreeMap::new();
    for socket in port::waiting() {
        if socket.transport == Transport::Tcp
            && let Some(program) = socket.program
            && program != "hotpair"
        {
            programs.insert(socket.port, program);
        }
    }
    let found = programs.into_iter().take(MAX_PORTS);
    found
        .map(|(port, program)| Listening {
            program,
            udp: false,
            address: None,
            port,
        })
        .collect()
}
