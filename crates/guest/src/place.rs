//! Where a guest's QEMU runs, and what its network cards are plugged into.

use crate::error::{GuestError, Result};
use hotpair_lab::{Lab, Netns};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Where QEMU runs; its TAP interfaces are there too.
#[derive(Debug, Clone, Default)]
pub enum Place {
    /// In this process's own namespaces: for guests without network.
    #[default]
    Here,
    /// On a wire.
    Wire(Wire),
    /// On a host of a lab. The guest loses power with that host, and ends with the lab.
    Host {
        /// The lab.
        lab: Lab,
        /// The host's name.
        host: String,
    },
}

/// A network card of a guest: `eth0`, `eth1`, … in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The TAP interface in the guest's place.
    pub tap: String,
    /// The guest's Ethernet address.
    pub mac: String,
}

impl Place {
    /// Starts a program in the place. The kernel kills it when the calling *thread* ends.
    pub(crate) fn spawn(&self, argv: &[OsString], log: std::fs::File) -> Result<Child> {
        let guarded: Vec<OsString> = ["setpriv", "--pdeathsig", "KILL", "--"]
            .into_iter()
            .map(OsString::from)
            .chain(argv.iter().cloned())
            .collect();
        let failed = |e| GuestError::system(format!("start {}", argv[0].to_string_lossy()), e);
        let start = |mut command: Command| {
            let log = log.try_clone().map_err(failed)?;
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .map_err(failed)
        };
        match self {
            Self::Here => start(command(&guarded)),
            Self::Wire(wire) => {
                wire.namespace.enter()?;
                start(command(&guarded))
            }
            Self::Host { lab, host } => {
                // Both the visitor of the host and what it starts there go with their parents.
                let words: Vec<_> = guarded
                    .iter()
                    .map(|w| w.to_string_lossy().into_owned())
                    .collect();
                let inner = lab.command(host, &words)?;
                let mut outer = Command::new("setpriv");
                outer
                    .args(["--pdeathsig", "KILL", "--"])
                    .arg(inner.get_program())
                    .args(inner.get_args());
                start(outer)
            }
        }
    }
}

fn command(argv: &[OsString]) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]);
    command
}

/// A network of its own: a namespace with bridges. It is gone when its last guest and the last
/// copy of this are.
#[derive(Debug, Clone)]
pub struct Wire {
    namespace: Arc<Netns>,
}

impl Wire {
    /// Makes one with these bridges.
    pub fn create(bridges: &[&str]) -> Result<Self> {
        let wire = Self {
            namespace: Arc::new(Netns::create()?),
        };
        wire.ip(&bridges.iter().map(|name| bridge(name)).collect::<String>())?;
        Ok(wire)
    }

    /// A card at a bridge; `tap` names it in the namespace, at most 15 characters.
    pub fn plug(&self, bridge: &str, tap: &str, mac: &str) -> Result<Nic> {
        self.ip(&self::tap(bridge, tap))?;
        Ok(Nic {
            tap: tap.to_owned(),
            mac: mac.to_owned(),
        })
    }

    /// Pulls or plugs a card's cable.
    pub fn set_link(&self, nic: &Nic, up: bool) -> Result<()> {
        self.ip(&format!(
            "link set dev {} {}\n",
            nic.tap,
            if up { "up" } else { "down" }
        ))
    }

    fn ip(&self, batch: &str) -> Result<()> {
        let batch = batch.to_owned();
        Ok(self
            .namespace
            .within(move || hotpair_lab::ip_batch(&batch))?)
    }
}

/// Plugs guests' cards into the networks of a lab's host, whose own interfaces lose their
/// addresses: `(interface, Ethernet address)` each. The host's plan should give it none.
pub fn plug_into_lab(lab: &Lab, host: &str, cards: &[(&str, &str)]) -> Result<Vec<Nic>> {
    let mut batch = String::new();
    let mut nics = Vec::new();
    for (index, (interface, mac)) in cards.iter().enumerate() {
        let (bridge_name, tap_name) = (format!("guests{index}"), format!("tap{index}"));
        batch += &bridge(&bridge_name);
        batch += &format!(
            "address flush dev {interface}\nlink set dev {interface} master {bridge_name}\n"
        );
        batch += &tap(&bridge_name, &tap_name);
        nics.push(Nic {
            tap: tap_name,
            mac: (*mac).to_owned(),
        });
    }
    let argv = ["ip", "-batch", "-"].map(str::to_owned);
    let failed = |e| GuestError::system(format!("plug a guest into {host}"), e);
    let mut child = lab
        .command(host, &argv)?
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes()).map_err(failed)?;
    }
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        errors.read_to_string(&mut said).map_err(failed)?;
    }
    match child.wait().map_err(failed)?.success() {
        true => Ok(nics),
        false => Err(failed(std::io::Error::other(said.trim().to_owned()))),
    }
}

fn bridge(name: &str) -> String {
    format!(
        "link add name {name} type bridge forward_delay 0 mcast_snooping 0\nlink set dev {name} up\n"
    )
}

fn tap(bridge: &str, name: &str) -> String {
    format!("tuntap add dev {name} mode tap vnet_hdr\nlink set dev {name} master {bridge} up\n")
}
