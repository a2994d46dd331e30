//! The gates of this host: packets of the virtual addresses, lifetime of the addresses, writes to
//! mirrors, processes.

use super::process::now;
use super::protocol::{GateSetup, Setup};
use hotpair_core::ids::GroupId;
use hotpair_core::time::Now;
use hotpair_host::cgroup::Cgroup;
use hotpair_host::clock::Reading;
use hotpair_host::gate_file::GateWriter;
use hotpair_host::net::gate::{Gate, GateError};
use hotpair_host::net::netlink::{AddressOptions, Netlink};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seconds an address lives in the kernel without being refreshed. One more than the design's 2 s:
/// the refreshing thread may wait that long for the kernel's network lock.
const ADDRESS_LIFETIME: u32 = 3;
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// A permission that took longer to set may end too late. Setting one takes 17 us, 8 ms at worst
/// were measured on a busy machine; the gate's margin before the end of the lease is 10 ms.
const LATE: Duration = Duration::from_millis(10);

/// Addresses that are permitted now, and until when; read by the refreshing thread.
type Permitted = Arc<Mutex<BTreeMap<IpAddr, (u8, Option<Instant>)>>>;

/// Everything that is cut when a lease ends.
pub struct Gates {
    gate: Option<Gate>,
    table: String,
    groups: BTreeMap<GroupId, GateSetup>,
    /// Of groups with mirrors.
    writes: BTreeMap<GroupId, GateWriter>,
    permitted: Permitted,
}

impl Gates {
    /// Closed gates, and a thread that refreshes the lifetimes of permitted addresses.
    #[must_use]
    pub fn new() -> Self {
        let permitted = Permitted::default();
        let shared = Arc::clone(&permitted);
        // Without the thread the addresses would end after 3 s: that is the safe side.
        let _ = std::thread::Builder::new()
            .name("lifetimes".into())
            .stack_size(128 * 1024)
            .spawn(move || refresh_for_ever(&shared));
        Self {
            gate: None,
            table: String::new(),
            groups: BTreeMap::new(),
            writes: BTreeMap::new(),
            permitted,
        }
    }

    /// Takes over the groups of `setup`. On the first call everything an earlier guard may have
    /// permitted is closed, and every process it may have let run is killed.
    ///
    /// # Errors
    /// nftables cannot be used, or a write gate cannot be made: the text says what to do.
    pub fn set_up(&mut self, setup: &Setup, groups_directory: &Path) -> Result<(), String> {
        self.set_up_packets(setup, groups_directory)
            .map_err(|error| error.to_string())?;
        self.set_up_writes(setup)
    }

    fn set_up_writes(&mut self, setup: &Setup) -> Result<(), String> {
        self.writes.retain(|group, writer| {
            let gates = setup.groups.get(group);
            let keep = gates.is_some_and(|gates| gates.write_gate.is_some());
            if !keep {
                writer.close();
            }
            keep
        });
        for (group, gates) in &setup.groups {
            let Some(path) = &gates.write_gate else {
                continue;
            };
            if !self.writes.contains_key(group) {
                let writer = GateWriter::create(path).map_err(|error| {
                    format!("the write gate {} cannot be made: {error}", path.display())
                })?;
                self.writes.insert(group.clone(), writer);
            }
        }
        Ok(())
    }

    fn set_up_packets(&mut self, setup: &Setup, groups_directory: &Path) -> Result<(), GateError> {
        let managed: Vec<IpAddr> = setup
            .groups
            .values()
            .flat_map(|group| group.addresses.iter().map(|&(address, _)| address))
            .collect();
        self.groups.clone_from(&setup.groups);
        if let Some(gate) = &mut self.gate {
            return gate.set_managed(&managed);
        }
        kill_all(groups_directory);
        self.table.clone_from(&setup.table);
        let mut gate = Gate::install(&setup.table, &managed)?;
        gate.revoke(&managed)?;
        self.gate = Some(gate);
        Ok(())
    }

    /// Lets packets of the group's addresses pass for `until` from `decided` on (`None`: until cut).
    ///
    /// The process may have been held up since it was decided, or be held up in the middle: a whole
    /// host can be frozen at any point. So what is left is counted just before the kernel is told,
    /// and looked at again just after; what came too late is taken back at once.
    ///
    /// # Errors
    /// The kernel refused; the gate closes by itself when its last permission ends.
    pub fn open(
        &mut self,
        group: &GroupId,
        decided: Now,
        until: Option<Duration>,
    ) -> Result<(), GateError> {
        if let Some(writes) = self.writes.get(group) {
            // A moment, not a span: being late does no harm.
            let microseconds = until.map(|span| u64::try_from(span.as_micros()).unwrap_or(0));
            writes.open(reading(decided), microseconds);
        }
        let (Some(gate), Some(setup)) = (&mut self.gate, self.groups.get(group)) else {
            return Ok(());
        };
        let addresses: Vec<IpAddr> = setup
            .addresses
            .iter()
            .map(|&(address, _)| address)
            .collect();
        if addresses.is_empty() {
            return Ok(());
        }
        let end = match until {
            Some(span) => {
                let begun = now();
                let left = span.saturating_sub(begun.elapsed_fast(decided));
                let timed: Vec<_> = addresses.iter().map(|&address| (address, left)).collect();
                gate.permit(&timed)?;
                if now().elapsed_fast(begun) >= LATE {
                    gate.revoke(&addresses)?;
                    return Ok(());
                }
                Some(Instant::now() + left)
            }
            None => {
                gate.permit_forever(&addresses)?;
                None
            }
        };
        let mut permitted = self
            .permitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for &(address, prefix) in &setup.addresses {
            permitted.insert(address, (prefix, end));
        }
        Ok(())
    }

    /// Closes the group's gates.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn close(&mut self, group: &GroupId) -> Result<(), String> {
        if let Some(writes) = self.writes.get(group) {
            writes.close();
        }
        let Some(setup) = self.groups.get(group) else {
            return Ok(());
        };
        let addresses: Vec<IpAddr> = setup
            .addresses
            .iter()
            .map(|&(address, _)| address)
            .collect();
        let mut permitted = self
            .permitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        permitted.retain(|address, _| !addresses.contains(address));
        drop(permitted);
        if addresses.is_empty() {
            return Ok(());
        }
        let Some(gate) = &mut self.gate else {
            return Ok(());
        };
        if gate.revoke(&addresses).is_ok() {
            return Ok(());
        }
        // Flushed by somebody, most likely: put back, it is closed.
        self.mend().map_err(|error| error.to_string())?;
        match &mut self.gate {
            Some(gate) => gate.revoke(&addresses).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Closes the group's gates and kills its processes.
    ///
    /// # Errors
    /// Something of it could not be done; the text says what.
    pub fn cut(&mut self, group: &GroupId) -> Result<(), String> {
        let closed = self.close(group);
        let killed = self
            .groups
            .get(group)
            .map_or(Ok(()), |setup| kill(&setup.cgroup));
        closed.and(killed)
    }

    /// Puts the gate back if somebody flushed it. True if that was needed.
    ///
    /// # Errors
    /// It could not be put back.
    pub fn mend(&mut self) -> Result<bool, GateError> {
        let Some(gate) = &mut self.gate else {
            return Ok(false);
        };
        if gate.is_intact()? {
            return Ok(false);
        }
        let managed: Vec<IpAddr> = gate.managed().collect();
        gate.let_go()?;
        self.gate = Some(Gate::install(&self.table, &managed)?);
        Ok(true)
    }

    /// Closes everything and takes the gate out of the kernel.
    pub fn remove(&mut self) {
        let groups: Vec<GroupId> = self.groups.keys().cloned().collect();
        for group in groups {
            let _ = self.cut(&group);
        }
        if let Some(gate) = self.gate.take() {
            let _ = gate.remove();
        }
    }
}

impl Default for Gates {
    fn default() -> Self {
        Self::new()
    }
}

fn reading(now: Now) -> Reading {
    Reading {
        boottime_us: now.boot_us,
        raw_us: now.raw_us,
    }
}

fn kill(cgroup: &Path) -> Result<(), String> {
    if !cgroup.exists() {
        return Ok(());
    }
    Cgroup::open(cgroup)
        .and_then(|cgroup| cgroup.kill())
        .map_err(|error| error.to_string())
}

fn kill_all(groups: &Path) {
    let Ok(entries) = std::fs::read_dir(groups) else {
        return;
    };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        let _ = kill(&entry.path());
    }
}

fn refresh_for_ever(permitted: &Permitted) {
    let mut netlink = None;
    loop {
        std::thread::sleep(REFRESH_EVERY);
        let now = Instant::now();
        let wanted: BTreeMap<IpAddr, u8> = {
            let permitted = permitted.lock().unwrap_or_else(PoisonError::into_inner);
            let runs = |end: &Option<Instant>| end.is_none_or(|end| end > now);
            permitted
                .iter()
                .filter(|(_, (_, end))| runs(end))
                .map(|(&address, &(prefix, _))| (address, prefix))
                .collect()
        };
        if wanted.is_empty() {
            continue;
        }
        if netlink.is_none() {
            netlink = Netlink::open().ok();
        }
        if let Some(socket) = &mut netlink
            && refresh(socket, &wanted).is_err()
        {
            netlink = None;
        }
    }
}

/// Only addresses that are there get a new lifetime: adding and removing is the executor's work.
fn refresh(
    netlink: &mut Netlink,
    wanted: &BTreeMap<IpAddr, u8>,
) -> Result<(), hotpair_host::net::netlink::NetlinkError> {
    for found in netlink.addresses()? {
        if wanted.contains_key(&found.address) {
            let options = AddressOptions {
                valid_seconds: Some(ADDRESS_LIFETIME),
                no_dad: true,
                ..AddressOptions::default()
            };
            netlink.set_address(found.ifindex, found.address, found.prefix, options)?;
        }
    }
    Ok(())
}
