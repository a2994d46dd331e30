//! The switch: a namespace with one bridge per network, a port per host and link, and its faults.

use crate::error::{LabError, Result};
use crate::netns::Netns;
use crate::plan::{HostPlan, Network};
use crate::rtnl::Rtnl;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// What the switch does to one host's frames, apart from ports that are down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Frames to the host are dropped.
    pub cut_in: bool,
    /// Frames from the host are dropped.
    pub cut_out: bool,
    /// Frames between the host and the other nodes are dropped.
    pub cut_peers: bool,
    /// So many of a hundred frames from or to the host are dropped.
    pub loss_percent: u8,
}

/// The running switch.
#[derive(Debug)]
pub struct Switch {
    namespace: Netns,
    rtnl: Rtnl,
}

impl Switch {
    /// Makes the namespace and the bridges, and loads the filter once so that it is warm.
    pub fn create() -> Result<Self> {
        let namespace = Netns::create()?;
        let rtnl = namespace.within(Rtnl::open)?;
        let mut batch = String::from("link set dev lo up\n");
        for network in Network::ALL {
            let bridge = network.bridge();
            let _ = writeln!(
                batch,
                "link add name {bridge} type bridge forward_delay 0 mcast_snooping 0"
            );
            let _ = writeln!(batch, "link set dev {bridge} up");
        }
        let switch = Self { namespace, rtnl };
        switch.ip(batch)?;
        switch.apply(&BTreeMap::new(), &[])?;
        Ok(switch)
    }

    /// Plugs a host's interfaces in: one end in the namespace of `init_pid`, the other at a bridge.
    pub fn plug(&self, host: &HostPlan, init_pid: i32) -> Result<()> {
        let mut batch = String::new();
        for (nic, port) in host.nics.iter().zip(host.ports()) {
            let bridge = nic.network.bridge();
            let (name, mac) = (&nic.name, &nic.mac);
            let _ = writeln!(
                batch,
                "link add name {port} type veth peer name {name} address {mac} netns {init_pid}"
            );
            let _ = writeln!(batch, "link set dev {port} master {bridge} up");
        }
        self.ip(batch)
    }

    /// Pulls or plugs the cables of ports: both ends lose or get their carrier.
    pub fn set_ports(&self, ports: &[String], up: bool) -> Result<()> {
        let what = format!(
            "set switch ports {} {}",
            ports.join(", "),
            if up { "up" } else { "down" }
        );
        self.rtnl
            .set_links(ports, up)
            .map_err(|e| LabError::system(what, e))
    }

    /// Takes ports away.
    pub fn remove_ports(&self, ports: &[String]) -> Result<()> {
        self.rtnl
            .remove_links(ports)
            .map_err(|e| LabError::system(format!("remove switch ports {}", ports.join(", ")), e))
    }

    /// Replaces all filter rules by those for `filters`, in one transaction.
    ///
    /// `nodes` are the hosts that `cut_peers` separates from each other.
    pub fn apply(&self, filters: &BTreeMap<String, Filter>, nodes: &[String]) -> Result<()> {
        let rules = render(filters, nodes);
        self.namespace
            .within(move || feed("nft", &["-f", "-"], &rules))
    }

    fn ip(&self, batch: String) -> Result<()> {
        self.namespace.within(move || ip_batch(&batch))
    }
}

/// Runs `ip -batch` in the calling thread's network namespace.
pub fn ip_batch(batch: &str) -> Result<()> {
    feed("ip", &["-batch", "-"], batch)
}

fn feed(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let start = || {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let hint = || format!("run `{program}` (Debian packages iproute2 and nftables)");
    let output = start().map_err(|e| LabError::system(hint(), e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::Program {
        program: format!("{program} {}", arguments.join(" ")),
        output: said,
    })
}

/// The text for `nft -f`: removes the lab's table and makes it anew.
fn render(filters: &BTreeMap<String, Filter>, nodes: &[String]) -> String {
    let mut text = String::from(
        "table bridge lab_faults {}\ndelete table bridge lab_faults\ntable bridge lab_faults {\n chain forward {\n  type filter hook forward priority -300; policy accept;\n",
    );
    for (host, filter) in filters {
        let (from, to) = (
            format!("iifname \"{host}-*\""),
            format!("oifname \"{host}-*\""),
        );
        if filter.cut_in {
            let _ = writeln!(text, "  {to} drop");
        }
        if filter.cut_out {
            let _ = writeln!(text, "  {from} drop");
        }
        let others = nodes
            .iter()
            .filter(|node| filter.cut_peers && *node != host);
        for other in others {
            let _ = writeln!(text, "  {from} oifname \"{other}-*\" drop");
            let _ = writeln!(text, "  iifname \"{other}-*\" {to} drop");
        }
        // nft refuses a comparison with 100, which would always be true.
        let chance = match filter.loss_percent {
            0 => continue,
            100.. => String::new(),
            percent => format!(" numgen random mod 100 < {percent}"),
        };
        let _ = writeln!(text, "  {to}{chance} drop\n  {from}{chance} drop");
    }
    text.push_str(" }\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_peers_names_both_directions_and_no_other_host() {
        let filters = BTreeMap::from([(
            "node1".to_owned(),
            Filter {
                cut_peers: true,
                ..Filter::default()
            },
        )]);
        let text = render(&filters, &["node1".to_owned(), "node2".to_owned()]);
        assert!(text.contains("iifname \"node1-*\" oifname \"node2-*\" drop"));
        assert!(text.contains("iifname \"node2-*\" oifname \"node1-*\" drop"));
        assert_eq!(text.matches("drop").count(), 2);
    }
}
