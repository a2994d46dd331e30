//! The passive gate of virtual addresses.
//!
//! Packets of a managed address pass only while the address is permitted.
//! A permission is an element of an nftables set that the kernel itself lets
//! time out, so nobody has to act for it to end.
//!
//! ```text
//!            managed? ──no──▶ pass
//!               │ yes
//!            permitted (and not timed out)? ──yes──▶ pass
//!               │ no
//!             drop     in: to the address (IP, ARP requests)
//!                      out: from the address (IP, neighbour discovery, ARP)
//! ```
//! Packets that are only forwarded pass: another node may hold the address.
//! Announcements of another holder pass too. Packet sockets bypass the gate.
//!
//! Where the kernel can (6.9), the tables belong to the socket that installed
//! them: a `flush ruleset` of others passes them over, and they stay when it
//! is closed; see `tables`. Elsewhere [`Gate::is_intact`] notices a flush.
//!
//! The gate works in the network namespace of the thread that installs it.
//! Timeouts count in kernel ticks: traffic ends up to one tick (1–10 ms)
//! early (measured with the example `gate_timing`: 294 to 300 ms of 300).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::netlink::connection::Connection;

mod elements;
mod layout;
mod ruleset;
mod tables;

use elements::{Batch, Lifetime};
use layout::Layout;

/// Shorter permissions are not given: a kernel tick may last as long.
pub const SHORTEST_PERMISSION: Duration = Duration::from_millis(10);

/// An owner that was killed lets go of its tables when its socket is closed, which takes so long at most.
const OWNER_LIMIT: Duration = Duration::from_secs(2);

/// Why the gate could not be installed, changed or read.
#[derive(Debug, Error)]
pub enum GateError {
    #[error(
        "the program nft is missing; install it with: apt-get install nftables (or dnf install nftables)"
    )]
    NftMissing,
    #[error("{0:?} cannot name a gate; use 1 to 31 letters, digits or _, a letter first")]
    BadName(String),
    #[error("cannot run nft: {0}")]
    RunNft(#[source] io::Error),
    #[error("nft did not end within {0:?} and was killed; see whether the host is overloaded")]
    NftHangs(Duration),
    #[error("nft refused the rules of gate {name}: {output}")]
    NftRefused { name: String, output: String },
    #[error("cannot open a netfilter socket: {0}; run as root or grant CAP_NET_ADMIN")]
    Open(#[source] io::Error),
    #[error("the sets of gate {0} are gone, somebody removed them; install the gate again")]
    Gone(String),
    #[error("{0} is not a managed address of the gate; name it in the managed set first")]
    NotManaged(IpAddr),
    #[error("cannot change gate {name}: {source}")]
    Change { name: String, source: io::Error },
    #[error("cannot read gate {name}: {source}")]
    Read { name: String, source: io::Error },
}

/// A permission as the kernel holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    pub address: IpAddr,
    /// Time until it ends; `None` is never.
    pub left: Option<Duration>,
}

/// An installed gate: tables of one name in the families `inet` and `arp`.
///
/// Dropping the value leaves the gate in the kernel; see [`Gate::remove`].
#[derive(Debug)]
pub struct Gate {
    name: String,
    managed: BTreeSet<IpAddr>,
    connection: Connection,
    layout: Layout,
    owned: bool,
}

/// Tries to have orphaned tables; false where that cannot be.
fn make_orphans(connection: &mut Connection, name: &str) -> Result<bool, GateError> {
    let deadline = Instant::now() + OWNER_LIMIT;
    loop {
        match tables::make_orphans(connection, name) {
            Ok(()) => return Ok(true),
            // An older kernel, or the gate of an older hotpair.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(false),
            Err(error)
                if error.raw_os_error() == Some(libc::EPERM) && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(source) => {
                return Err(GateError::Change {
                    name: name.to_owned(),
                    source,
                });
            }
        }
    }
}

impl Gate {
    /// Installs the gate or puts an existing one of the name in order, and makes it this value's
    /// own where the kernel can: then nobody else can change or flush it.
    ///
    /// Runs `nft` once; takes some 10 ms. Permissions that run already go on
    /// for managed addresses and end at once for others. A name belongs to
    /// one cluster on one node. The gate of an owner that has just ended is waited for.
    pub fn install(name: &str, managed: &[IpAddr]) -> Result<Self, GateError> {
        Self::install_as(name, managed, true)
    }

    /// The same as on kernels before 6.9: everybody with the right to can change it.
    pub fn install_unowned(name: &str, managed: &[IpAddr]) -> Result<Self, GateError> {
        Self::install_as(name, managed, false)
    }

    fn install_as(name: &str, managed: &[IpAddr], owned: bool) -> Result<Self, GateError> {
        ruleset::check_name(name)?;
        let managed: BTreeSet<IpAddr> = managed.iter().copied().collect();
        let mut connection = Connection::open(libc::NETLINK_NETFILTER).map_err(GateError::Open)?;
        let owned = owned && make_orphans(&mut connection, name)?;
        let script = ruleset::install_script(name, &managed);
        if owned {
            ruleset::run_nft(name, &script)?;
            tables::adopt(&mut connection, name).map_err(|source| GateError::Change {
                name: name.to_owned(),
                source,
            })?;
        } else {
            ruleset::run_nft(name, &(ruleset::tables_script(name) + &script))?;
        }
        let layout = Layout::read(&mut connection, name).map_err(|source| GateError::Read {
            name: name.to_owned(),
            source,
        })?;
        let mut gate = Self {
            name: name.to_owned(),
            managed,
            connection,
            layout,
            owned,
        };
        let permitted = gate.permitted()?.into_iter().map(|entry| entry.address);
        let foreign: Vec<IpAddr> = permitted.filter(|a| !gate.managed.contains(a)).collect();
        gate.revoke(&foreign)?;
        Ok(gate)
    }

    /// Gives the tables up, so that they can be installed anew; this value still works, unless others
    /// change them.
    pub fn let_go(&mut self) -> Result<(), GateError> {
        self.connection = Connection::open(libc::NETLINK_NETFILTER).map_err(GateError::Open)?;
        self.owned = false;
        Ok(())
    }

    /// Is the gate safe from a `flush ruleset` of others?
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.owned
    }

    /// The addresses that need permission.
    pub fn managed(&self) -> impl Iterator<Item = IpAddr> {
        self.managed.iter().copied()
    }

    /// Replaces the managed addresses in one step.
    ///
    /// A new one is closed until it is permitted; permissions of those that
    /// leave the set end.
    pub fn set_managed(&mut self, managed: &[IpAddr]) -> Result<(), GateError> {
        let managed: BTreeSet<IpAddr> = managed.iter().copied().collect();
        let wanted: Vec<IpAddr> = managed.iter().copied().collect();
        let leaving: Vec<IpAddr> = self.managed.difference(&managed).copied().collect();
        let mut batch = Batch::new(&self.name);
        batch.replace_managed(&wanted);
        batch.revoke(&leaving);
        self.commit(&batch)?;
        self.managed = managed;
        Ok(())
    }

    /// Lets addresses pass for a time from now, whatever they had before.
    ///
    /// One kernel transaction, no process; either all take effect or none. A
    /// time below [`SHORTEST_PERMISSION`] ends the permission instead; of an
    /// address named twice the shorter time counts.
    /// Returns how long the change took: a permission may end by that much
    /// later than a deadline the caller computed before the call.
    pub fn permit(&mut self, addresses: &[(IpAddr, Duration)]) -> Result<Duration, GateError> {
        self.check_managed(addresses.iter().map(|(address, _)| *address))?;
        let mut ending = BTreeSet::new();
        let mut lasting: BTreeMap<IpAddr, Duration> = BTreeMap::new();
        for (address, time) in addresses {
            if *time < SHORTEST_PERMISSION {
                ending.insert(*address);
            } else {
                let shorter = lasting.entry(*address).or_insert(*time);
                *shorter = (*shorter).min(*time);
            }
        }
        lasting.retain(|address, _| !ending.contains(address));
        let lasting = lasting
            .into_iter()
            .map(|(a, time)| (a, Lifetime::For(time)));
        let mut batch = Batch::new(&self.name);
        batch.revoke(&ending.into_iter().collect::<Vec<_>>());
        batch.permit(&lasting.collect::<Vec<_>>());
        let start = Instant::now();
        self.commit(&batch)?;
        Ok(start.elapsed())
    }

    /// Lets addresses pass until they are revoked or permitted for a time.
    ///
    /// Only for pinned groups: this permission does not end by itself.
    pub fn permit_forever(&mut self, addresses: &[IpAddr]) -> Result<(), GateError> {
        self.check_managed(addresses.iter().copied())?;
        let once: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        let lasting: Vec<_> = once.into_iter().map(|a| (a, Lifetime::Forever)).collect();
        let mut batch = Batch::new(&self.name);
        batch.permit(&lasting);
        self.commit(&batch)
    }

    /// Ends permissions at once; those that do not exist are no error.
    pub fn revoke(&mut self, addresses: &[IpAddr]) -> Result<(), GateError> {
        let once: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        let mut batch = Batch::new(&self.name);
        batch.revoke(&once.into_iter().collect::<Vec<_>>());
        self.commit(&batch)
    }

    /// The permissions that run now, as the kernel holds them.
    pub fn permitted(&mut self) -> Result<Vec<Permission>, GateError> {
        elements::permitted(&mut self.connection, &self.name)
            .map_err(|source| self.read_failed(source))
    }

    /// Whether everything is in the kernel as it was installed: tables,
    /// chains, rules, sets and the managed addresses.
    ///
    /// False after a `flush ruleset` of others; [`Gate::install`] mends it.
    /// Costs a few system calls; meant to be asked every second.
    pub fn is_intact(&mut self) -> Result<bool, GateError> {
        match self.find_intact() {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            result => result.map_err(|source| self.read_failed(source)),
        }
    }

    fn find_intact(&mut self) -> io::Result<bool> {
        let layout = Layout::read(&mut self.connection, &self.name)?;
        Ok(layout == self.layout
            && elements::holds_managed(&mut self.connection, &self.name, &self.managed)?)
    }

    /// Removes the gate: everything passes afterwards.
    pub fn remove(mut self) -> Result<(), GateError> {
        match tables::delete(&mut self.connection, &self.name) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(GateError::Change {
                name: self.name,
                source: error,
            }),
            _ => Ok(()),
        }
    }

    fn check_managed(&self, addresses: impl Iterator<Item = IpAddr>) -> Result<(), GateError> {
        for address in addresses {
            if !self.managed.contains(&address) {
                return Err(GateError::NotManaged(address));
            }
        }
        Ok(())
    }

    /// Sends a batch, once more if it names something that is gone: on some
    /// kernels an element that ends between two steps of the batch does that.
    fn commit(&mut self, batch: &Batch) -> Result<(), GateError> {
        let gone = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
        let mut result = batch.send(&mut self.connection);
        if result.as_ref().is_err_and(gone) {
            result = batch.send(&mut self.connection);
        }
        result.map_err(|source| {
            let name = self.name.clone();
            if gone(&source) {
                GateError::Gone(name)
            } else {
                GateError::Change { name, source }
            }
        })
    }

    fn read_failed(&self, source: io::Error) -> GateError {
        let name = self.name.clone();
        if source.raw_os_error() == Some(libc::ENOENT) {
            GateError::Gone(name)
        } else {
            GateError::Read { name, source }
        }
    }
}
