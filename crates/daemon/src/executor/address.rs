//! Virtual addresses: set on the first fit NIC, moved when it fails, removed.
//!
//! The table of placed addresses is the truth: whatever the kernel tells of, the table is compared
//! with what is set now, under one lock with our own changes. So neither the order of the kernel's
//! messages nor a lost one matters.

use super::announce::Announcements;
use super::slot::{Key, Out, lock};
use hotpair_core::config::Address;
use hotpair_core::group::ResourceFact;
use hotpair_core::ids::MemberId;
use hotpair_host::net::announce::Announcer;
use hotpair_host::net::conflict::probe;
use hotpair_host::net::netlink::{self, AddressOptions, Link, Netlink};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Lifetime the kernel gives an address, in seconds; the guard renews it each second.
const LIFETIME_S: u32 = 3;

/// How long others are asked whether they have the address.
const PROBE: Duration = Duration::from_millis(200);

/// An address that is set, or was until somebody else or a failed NIC took it away.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub address: IpAddr,
    pub prefix: u8,
    /// The NIC it is on.
    pub nic: String,
    /// Told as not running; nothing more is told until it is started again.
    lost: bool,
    /// Counts the settings of addresses, so that an old announcement is known as one.
    serial: u64,
    spec: Address,
}

#[derive(Default)]
struct Table {
    placed: BTreeMap<Key, Placement>,
    serial: u64,
}

pub(super) struct Addresses {
    me: MemberId,
    out: Out,
    table: Arc<Mutex<Table>>,
    announcements: Announcements,
}

/// The NICs of an address on a node, in order of preference.
pub(super) fn nics(spec: &Address, me: MemberId) -> &[String] {
    spec.nics_on.get(&me).unwrap_or(&spec.nics)
}

/// The first NIC that may carry an address, or why none may.
pub(super) fn fit<'a>(links: &'a [Link], nics: &[String]) -> Result<&'a Link, String> {
    let mut off = Vec::new();
    let mut missing = Vec::new();
    for nic in nics {
        match links.iter().find(|link| link.name == *nic) {
            Some(link) if link.up && link.carrier => return Ok(link),
            Some(_) => off.push(nic.as_str()),
            None => missing.push(nic.as_str()),
        }
    }
    let mut reasons = Vec::new();
    if !off.is_empty() {
        reasons.push(format!("no carrier on {}", off.join(", ")));
    }
    match missing.as_slice() {
        [] => {}
        [nic] => reasons.push(format!(
            "{nic} does not exist on this node: correct `nics`, or name this node's NICs in `nics_on`"
        )),
        several => reasons.push(format!(
            "{} do not exist on this node: correct `nics`, or name this node's NICs in `nics_on`",
            several.join(", ")
        )),
    }
    if nics.is_empty() {
        reasons.push("no NIC is configured for this node: name one in `nics`".into());
    }
    Err(reasons.join("; "))
}

impl Addresses {
    /// Starts the thread that repeats announcements.
    pub(super) fn start_thread(me: MemberId, out: Out) -> std::io::Result<Self> {
        let table: Arc<Mutex<Table>> = Arc::default();
        let of_thread = Arc::clone(&table);
        let log = out.clone();
        let announcements = Announcements::start(move |key, serial| {
            let table = lock(&of_thread);
            if let Some(placement) = table.placed.get(key)
                && placement.serial == serial
                && !placement.lost
                && let Err(error) = announce(placement)
            {
                log.log(key, error);
            }
        })?;
        Ok(Self {
            me,
            out,
            table,
            announcements,
        })
    }

    /// Is a conflict probe due, and who answers it? Nothing is changed.
    pub(super) fn probe(&self, spec: &Address) -> Result<(), String> {
        let links = links()?;
        let link = fit(&links, nics(spec, self.me))?;
        match probe(link.index, spec.address, PROBE) {
            Ok(None) => Ok(()),
            Ok(Some(mac)) => Err(format!(
                "{} is in use by {mac} on {}: find that machine (`ip neigh`), or choose another address",
                spec.address, link.name
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sets the address on the first fit NIC, takes it from all others, and announces it.
    ///
    /// `overtaken` is asked once nothing but the setting is left to do. Returns the NIC.
    pub(super) fn set(
        &self,
        key: &Key,
        spec: &Address,
        overtaken: impl Fn() -> bool,
    ) -> Result<String, String> {
        let mut table = lock(&self.table);
        if overtaken() {
            return Err("killed before it was set".into());
        }
        let mut netlink = open()?;
        let links = netlink.links().map_err(|error| error.to_string())?;
        let link = fit(&links, nics(spec, self.me))?;
        place(&mut netlink, spec, link)?;
        self.placed(&mut table, key, spec, &link.name);
        Ok(link.name.clone())
    }

    /// Takes an address that an earlier run of the daemon left; its NIC if it is still there.
    pub(super) fn adopt(&self, key: &Key, spec: &Address) -> Option<String> {
        let mut table = lock(&self.table);
        let mut netlink = open().ok()?;
        let links = netlink.links().ok()?;
        let entries = netlink.addresses().ok()?;
        let entry = entries
            .iter()
            .find(|entry| entry.address == spec.address && entry.prefix == spec.prefix)?;
        let link = links.iter().find(|link| link.index == entry.ifindex)?;
        table.serial += 1;
        let placement = Placement::new(spec, &link.name, table.serial);
        table.placed.insert(key.clone(), placement);
        Some(link.name.clone())
    }

    /// Removes the addresses from wherever they are, and what was placed for the resource.
    pub(super) fn remove(&self, key: &Key, addresses: &[IpAddr]) -> Result<(), String> {
        let mut table = lock(&self.table);
        let mut wanted = addresses.to_vec();
        if let Some(placement) = table.placed.remove(key) {
            wanted.push(placement.address);
        }
        let mut netlink = open()?;
        take_away(&mut netlink, |entry| wanted.contains(&entry.address))
    }

    /// Is the address set where it was placed?
    pub(super) fn look(&self, key: &Key, spec: &Address) -> Result<(), String> {
        let table = lock(&self.table);
        let nic = table.placed.get(key).map(|placement| placement.nic.clone());
        drop(table);
        let mut netlink = open()?;
        let entries = netlink.addresses().map_err(|error| error.to_string())?;
        let set = entries.iter().any(|entry| entry.address == spec.address);
        match (set, nic) {
            (true, _) => Ok(()),
            (false, Some(nic)) => Err(format!("{} is not on {nic}", spec.address)),
            (false, None) => Err(format!("{} is not set", spec.address)),
        }
    }

    /// Is it one of the addresses of this resource?
    pub(super) fn is_placed(&self, address: IpAddr) -> bool {
        lock(&self.table)
            .placed
            .values()
            .any(|placement| placement.address == address)
    }

    /// The placed addresses.
    pub(super) fn placed_now(&self) -> BTreeMap<Key, Placement> {
        lock(&self.table).placed.clone()
    }

    /// Compares the table with the kernel: moves addresses from NICs that failed, tells of those
    /// that are gone. Calls `moved` for each that has another NIC now.
    pub(super) fn compare(&self, moved: impl Fn(&Key, &str)) -> Result<(), String> {
        let mut table = lock(&self.table);
        if table.placed.values().all(|placement| placement.lost) {
            return Ok(());
        }
        let mut netlink = open()?;
        let links = netlink.links().map_err(|error| error.to_string())?;
        let entries = netlink.addresses().map_err(|error| error.to_string())?;
        let keys: Vec<Key> = table.placed.keys().cloned().collect();
        for key in keys {
            self.compare_one(&mut table, &mut netlink, (&links, &entries), &key, &moved);
        }
        Ok(())
    }

    fn compare_one(
        &self,
        table: &mut MutexGuard<'_, Table>,
        netlink: &mut Netlink,
        (links, entries): (&[Link], &[netlink::Address]),
        key: &Key,
        moved: &impl Fn(&Key, &str),
    ) {
        let Some(placement) = table.placed.get_mut(key).filter(|p| !p.lost) else {
            return;
        };
        let link = links.iter().find(|link| link.name == placement.nic);
        if let Some(link) = link.filter(|link| link.up && link.carrier) {
            let there = entries.iter().any(|entry| {
                entry.ifindex == link.index
                    && entry.address == placement.address
                    && entry.prefix == placement.prefix
            });
            if !there {
                placement.lost = true;
                let detail = format!(
                    "{} was removed from {} by somebody else, or expired",
                    placement.address, placement.nic
                );
                self.tell_lost(key, detail);
            }
            return;
        }
        let (from, spec) = (placement.nic.clone(), placement.spec.clone());
        let next = fit(links, nics(&spec, self.me));
        let moved_to = next.and_then(|link| {
            place(netlink, &spec, link)?;
            Ok(link.name.clone())
        });
        match moved_to {
            Ok(nic) => {
                self.placed(table, key, &spec, &nic);
                self.out.log(
                    key,
                    format_args!("{from} has failed: {} moved to {nic}", spec.address),
                );
                moved(key, &nic);
            }
            Err(reason) => {
                placement.lost = true;
                self.tell_lost(key, reason);
            }
        }
    }

    fn tell_lost(&self, key: &Key, detail: String) {
        let running = false;
        self.out
            .fact(key, ResourceFact::Detected { running, detail });
    }

    fn placed(&self, table: &mut Table, key: &Key, spec: &Address, nic: &str) {
        table.serial += 1;
        let placement = Placement::new(spec, nic, table.serial);
        if let Err(error) = announce(&placement) {
            self.out.log(key, error);
        }
        self.announcements.repeat(key, placement.serial);
        table.placed.insert(key.clone(), placement);
    }
}

impl Placement {
    fn new(spec: &Address, nic: &str, serial: u64) -> Self {
        Self {
            address: spec.address,
            prefix: spec.prefix,
            nic: nic.to_owned(),
            lost: false,
            serial,
            spec: spec.clone(),
        }
    }
}

fn open() -> Result<Netlink, String> {
    Netlink::open().map_err(|error| error.to_string())
}

/// All interfaces of this node.
pub(super) fn links() -> Result<Vec<Link>, String> {
    open()?.links().map_err(|error| error.to_string())
}

/// Sets the address on `link` and nowhere else.
fn place(netlink: &mut Netlink, spec: &Address, link: &Link) -> Result<(), String> {
    let (address, prefix) = (spec.address, spec.prefix);
    take_away(netlink, |entry| {
        entry.address == address && (entry.ifindex != link.index || entry.prefix != prefix)
    })?;
    let options = AddressOptions {
        valid_seconds: Some(LIFETIME_S),
        preferred_seconds: None,
        no_dad: true,
        no_prefix_route: false,
    };
    netlink
        .set_address(link.index, address, prefix, options)
        .map_err(|error| format!("{}: {error}", link.name))
}

/// Removes every address that is `unwanted`; tries all and tells of the first failure.
fn take_away(
    netlink: &mut Netlink,
    unwanted: impl Fn(&netlink::Address) -> bool,
) -> Result<(), String> {
    let entries = netlink.addresses().map_err(|error| error.to_string())?;
    let mut result = Ok(());
    for entry in entries.iter().filter(|entry| unwanted(entry)) {
        let removed = netlink.remove_address(entry.ifindex, entry.address, entry.prefix);
        if let Err(error) = removed
            && result.is_ok()
        {
            result = Err(error.to_string());
        }
    }
    result
}

/// Announces an address if it is set where it was placed.
fn announce(placement: &Placement) -> Result<(), String> {
    let mut netlink = open()?;
    let link = netlink
        .link_by_name(&placement.nic)
        .map_err(|error| error.to_string())?;
    let entries = netlink.addresses().map_err(|error| error.to_string())?;
    let Some((index, mac)) = link.and_then(|link| Some((link.index, link.mac?))) else {
        return Ok(());
    };
    let there = entries
        .iter()
        .any(|entry| entry.ifindex == index && entry.address == placement.address);
    if !there {
        return Ok(());
    }
    Announcer::open()
        .and_then(|announcer| announcer.announce(index, mac, placement.address))
        .map_err(|error| error.to_string())
}
