//! Does the work on resources that the deciding half asks for, and tells what it sees of them.
//!
//! ```text
//!   ResourceAction --> act --> a thread --> service | program | address | mount | ocf, and hooks --> Done
//!   Cluster -----> configure --> schedule: detectors, each on its own time --> Detected
//!                            --> verdict: every 2 s, and when a NIC changes -> Verdict
//!   pidfds ------> process watch -------------------------------------------> Exited
//!   netlink -----> network --> address: local NIC failover, lost addresses -> Detected
//! ```
//!
//! Everything blocks on threads of its own; results go over one channel. `slot` is the state of one
//! resource, `record` what outlives the daemon, `home` the cgroups.

mod address;
mod announce;
mod check;
mod home;
mod hook;
mod mirror;
mod monitors;
mod mount;
mod network;
mod ocf;
mod program;
mod record;
mod schedule;
mod service;
mod slot;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;

pub use home::group_cgroup;
pub use record::ProgramRun;

use crate::mirrors::Mirrors;
use address::Addresses;
use home::Home;
use hotpair_core::config::{Cluster, Resource, ResourceKind};
use hotpair_core::group::{ActionId, ResourceAction, ResourceFact, Work};
use hotpair_core::ids::{Epoch, GroupId, HostBoot, MemberId, ResourceId};
use hotpair_host::net::netlink::{Monitor, NetlinkError};
use hotpair_host::process::ProcessWatch;
use monitors::Monitors;
use network::Hangup;
use record::{Record, Records};
use schedule::Schedule;
use slot::{Completion, Key, Out, Slot, lock};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use verdict::Verdicts;

/// How long a kill takes at most.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What the executor tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// An action has ended; exactly one for each.
    Done {
        id: ActionId,
        result: Result<(), String>,
    },
    Fact {
        group: GroupId,
        resource: ResourceId,
        fact: ResourceFact,
    },
    /// For the log of the daemon.
    Log(String),
}

/// Where the executor works.
#[derive(Clone, Debug)]
pub struct Settings {
    pub me: MemberId,
    /// Lost at a reboot, e.g. `/run/hotpair`.
    pub run_dir: PathBuf,
    /// Takes the output of services, `<group>.<resource>.log`.
    pub log_dir: PathBuf,
    /// A cgroup v2 directory; made if missing. Resources live in `groups/<group>/<resource>` below.
    pub cgroup_root: PathBuf,
    pub host_boot: HostBoot,
    /// Where the agents of OCF are, `/usr/lib/ocf`.
    pub ocf_root: PathBuf,
    /// The processes of mirrors; `None` where there can be none.
    pub mirrors: Option<Mirrors>,
}

/// Why the executor does not work on this host.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error("cannot make directory {}: {source}; run as root, or name another", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Network(#[from] NetlinkError),
}

/// Runs the resources of this node. Dropping it leaves them running.
pub struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    out: Out,
    records: Records,
    watch: ProcessWatch,
    slots: Mutex<BTreeMap<Key, Arc<Slot>>>,
    config: Mutex<Arc<Configured>>,
    addresses: Addresses,
    schedule: Schedule,
    verdicts: Verdicts,
    monitors: Monitors,
    hangup: Hangup,
}

/// What this node may have to run, by the newest document.
#[derive(Default)]
struct Configured {
    /// Name of this node.
    node: String,
    resources: BTreeMap<Key, Resource>,
}

impl Executor {
    /// Makes the directories and starts the threads that watch.
    ///
    /// # Errors
    /// A directory cannot be made, or the system gives no thread, netlink socket or descriptor.
    pub fn new(settings: Settings, out: UnboundedSender<ExecEvent>) -> Result<Self, ExecutorError> {
        let made = |path: &PathBuf, result: io::Result<()>| {
            let path = path.clone();
            result.map_err(|source| ExecutorError::Directory { path, source })
        };
        made(
            &settings.log_dir,
            std::fs::create_dir_all(&settings.log_dir),
        )?;
        made(
            &settings.cgroup_root,
            std::fs::create_dir_all(&settings.cgroup_root),
        )?;
        let records =
            Records::open(&settings.run_dir).map_err(|source| ExecutorError::Directory {
                path: settings.run_dir.clone(),
                source,
            })?;
        let out = Out(out);
        let monitor = Monitor::open()?;
        let thread = ExecutorError::Thread;
        let shared = Arc::new(Shared {
            addresses: Addresses::start_thread(settings.me, out.clone()).map_err(thread)?,
            watch: ProcessWatch::start().map_err(thread)?,
            hangup: Hangup::new().map_err(thread)?,
            settings,
            out,
            records,
            slots: Mutex::default(),
            config: Mutex::default(),
            schedule: Schedule::default(),
            verdicts: Verdicts::default(),
            monitors: Monitors::default(),
        });
        // From here on dropping it ends the threads that were started.
        let executor = Self {
            shared: Arc::clone(&shared),
        };
        executor.spawn("network", move |shared| network::run(shared, monitor))?;
        executor.spawn("schedule", Schedule::run)?;
        executor.spawn("verdict", Verdicts::run)?;
        Ok(executor)
    }

    fn spawn(
        &self,
        name: &str,
        work: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> Result<(), ExecutorError> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name(name.into())
            .stack_size(512 << 10)
            .spawn(move || work(&shared))
            .map(|_detached| ())
            .map_err(ExecutorError::Thread)
    }

    /// Takes a newly kept configuration: starts, stops and changes detectors and verdicts.
    ///
    /// Touches no resource. The verdict of every new or changed resource is told.
    pub fn configure(&self, config: &Cluster) {
        let shared = &self.shared;
        let new = Arc::new(Configured::of(config, shared.settings.me));
        let same = |key: &Key, old: &Arc<Configured>| {
            new.resources
                .get(key)
                .is_some_and(|resource| old.resources.get(key) == Some(resource))
        };
        let old = shared.verdicts.change(
            || std::mem::replace(&mut *lock(&shared.config), Arc::clone(&new)),
            same,
        );
        let mut detectors = BTreeMap::new();
        for (key, resource) in &new.resources {
            let wanted = check::detectors(resource);
            let before = old.resources.get(key).map(check::detectors);
            if before.as_ref() != Some(&wanted) {
                let counts = wanted.iter().map(|d| (d.interval, d.tries)).collect();
                shared.slot(key).reset_tallies(counts);
            }
            detectors.insert(key.clone(), wanted);
        }
        shared.schedule.replace(&detectors);
        shared.monitors.keep(shared, &detectors);
        // Also when nothing has changed: a round may just have given up because of this call.
        shared.verdicts.wake();
    }

    /// At the start of the daemon: what an earlier run of it left running on this host.
    ///
    /// Supervised processes are watched again. What is left of services that have ended meanwhile
    /// is killed. Call [`configure`](Self::configure) first. Takes up to 10 s for each service
    /// whose leftovers do not die.
    #[must_use]
    pub fn adopt(&self, config: &Cluster) -> Vec<(GroupId, ResourceId, Epoch)> {
        let mut adopted = Vec::new();
        for (key, record) in self.shared.records.all() {
            let epoch = record.epoch;
            if self.shared.adopt(&key, record) {
                adopted.push((key.0, key.1, epoch));
            } else {
                self.shared.forget_record(&key);
            }
        }
        for (group, resource) in strays(&self.shared, config) {
            let key = (group, resource);
            self.shared
                .out
                .log(&key, "kills processes in its cgroup that nobody started");
            let home = Home::of(&self.shared.settings.cgroup_root, &key);
            if let Err(left) = home.clear(KILL_LIMIT) {
                self.shared.out.log(&key, left);
            }
        }
        adopted
    }

    /// Does an action; its one [`ExecEvent::Done`] follows.
    ///
    /// `probe`: ask first whether another host has the address (200 ms); only for a first start,
    /// never for a takeover. A kill overtakes a start or stop of the same resource, and both end.
    ///
    /// `reason`: why the group is started or stopped, for hooks.
    pub fn act(&self, action: ResourceAction, probe: bool, reason: String) {
        let shared = Arc::clone(&self.shared);
        let key = (action.group.clone(), action.resource.clone());
        let slot = shared.slot(&key);
        let completion = slot.begin(action.id, action.work, &shared.out);
        // Without a thread the completion is dropped, which ends the action.
        let _ = std::thread::Builder::new()
            .name("action".into())
            .stack_size(512 << 10)
            .spawn(move || {
                let result = shared.perform(&slot, &completion, &action, (probe, &reason));
                completion.send(result);
            });
    }

    /// The last 20 runs of a resource's start and stop programs, oldest first.
    #[must_use]
    pub fn runs(&self, group: &GroupId, resource: &ResourceId) -> Vec<ProgramRun> {
        self.shared.records.runs(&(group.clone(), resource.clone()))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shared.schedule.close();
        self.shared.verdicts.close();
        self.shared.hangup.close();
    }
}

/// Configured resources without a record whose cgroup is not empty.
fn strays(shared: &Shared, config: &Cluster) -> Vec<Key> {
    let mut strays = Vec::new();
    for (group, of_group) in &config.groups {
        for resource in of_group.resources.keys() {
            let key = (group.clone(), resource.clone());
            let home = Home::of(&shared.settings.cgroup_root, &key);
            if shared.records.read(&key).is_none() && !home.is_empty() {
                strays.push(key);
            }
        }
    }
    strays
}

impl Configured {
    fn of(config: &Cluster, me: MemberId) -> Self {
        let mut resources = BTreeMap::new();
        for (group, of_group) in &config.groups {
            if of_group.nodes.contains(&me) {
                let named = |(id, resource): (&ResourceId, &Resource)| {
                    ((group.clone(), id.clone()), resource.clone())
                };
                resources.extend(of_group.resources.iter().map(named));
            }
        }
        Self {
            node: config.name_of(me),
            resources,
        }
    }
}

impl Shared {
    fn config(&self) -> Arc<Configured> {
        Arc::clone(&lock(&self.config))
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        let slot = slots
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Slot::new(key.clone())));
        Arc::clone(slot)
    }

    fn known(&self, key: &Key) -> Option<Arc<Slot>> {
        lock(&self.slots).get(key).cloned()
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        lock(&self.slots).values().cloned().collect()
    }

    /// The resource as configured, or as it was when it was started.
    fn resource(&self, key: &Key) -> Option<Resource> {
        let configured = self.config().resources.get(key).cloned();
        configured.or_else(|| self.records.read(key).map(|record| record.resource))
    }

    /// The resource to stop: as configured, unless it was another kind when it was started.
    fn resource_to_stop(&self, key: &Key) -> Option<Resource> {
        let started = self.records.read(key).map(|record| record.resource);
        let configured = self.config().resources.get(key).cloned();
        match (started, configured) {
            (Some(started), Some(configured)) => {
                let same = std::mem::discriminant(&started.kind)
                    == std::mem::discriminant(&configured.kind);
                Some(if same { configured } else { started })
            }
            (started, configured) => started.or(configured),
        }
    }

    fn perform(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (probe, reason): (bool, &str),
    ) -> Result<(), String> {
        if matches!(action.work, Work::Stop | Work::Kill) {
            self.monitors.end_all_of(self, &slot.key);
        }
        match action.work {
            Work::Start => self.start_with_hooks(slot, completion, action, (probe, reason)),
            Work::Stop => self.stop_with_hooks(slot, completion, action, reason),
            Work::Kill => {
                let home = Home::of(&self.settings.cgroup_root, &slot.key);
                if !slot.end_hook(KILL_LIMIT, || home.kill_hook()) {
                    return Err(format!("a hook of it is {}", home.left(KILL_LIMIT)));
                }
                self.kill(slot)
            }
            Work::Check => {
                self.look(slot);
                Ok(())
            }
        }
    }

    fn start(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (resource, probe): (&Resource, bool),
    ) -> Result<(), String> {
        if let ResourceKind::Address(spec) = &resource.kind {
            if probe && self.addresses.look(&slot.key, spec).is_err() {
                self.addresses.probe(spec)?;
            }
            return self.set_address(slot, completion, action, (resource, spec));
        }
        let mut lane = slot
            .enter(resource.start_timeout)
            .ok_or("an earlier stop of it has not ended")?;
        match &resource.kind {
            ResourceKind::Service(service) => {
                self.start_service(&mut lane, slot, completion, action, (resource, service))
            }
            ResourceKind::Program(program) => {
                self.start_program(slot, completion, action, (resource, program))
            }
            ResourceKind::Mount(mount) => {
                self.start_mount(slot, completion, action, (resource, mount))
            }
            ResourceKind::Ocf(ocf) => self.start_ocf(slot, completion, action, (resource, ocf)),
            ResourceKind::Address(_) => Ok(()),
            ResourceKind::Mirror(_) => self.start_mirror(slot, completion, action, resource),
        }
    }

    fn set_address(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (resource, spec): (&Resource, &hotpair_core::config::Address),
    ) -> Result<(), String> {
        let key = &slot.key;
        let mut record = self.record_of(action.epoch, resource);
        if let Some(before) = self.records.read(key)
            && let ResourceKind::Address(old) = &before.resource.kind
            && old.address != spec.address
        {
            self.addresses.remove(key, &[old.address])?;
        }
        self.write_record(key, &record)?;
        let nic = self
            .addresses
            .set(key, spec, || slot.overtaken(completion.ticket))?;
        record.nic = Some(nic);
        self.write_record(key, &record)
    }

    fn stop(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        resource: &Resource,
    ) -> Result<(), String> {
        if let ResourceKind::Address(spec) = &resource.kind {
            return self.remove_address(slot, spec.address);
        }
        let mut lane = slot
            .enter(resource.stop_timeout)
            .ok_or("an earlier start of it has not ended")?;
        match &resource.kind {
            ResourceKind::Service(_) => self.stop_service(&mut lane, slot, resource.stop_timeout),
            ResourceKind::Program(program) => {
                self.stop_program(slot, completion, action, (resource, program))
            }
            ResourceKind::Mount(mount) => self.stop_mount(slot, completion, (resource, mount)),
            ResourceKind::Ocf(ocf) => self.stop_ocf(slot, completion, action, (resource, ocf)),
            ResourceKind::Address(_) => Ok(()),
            ResourceKind::Mirror(_) => self.stop_mirror(slot, resource),
        }
    }

    fn kill(&self, slot: &Slot) -> Result<(), String> {
        let resource = self.resource_to_stop(&slot.key);
        match resource.map(|resource| resource.kind) {
            Some(ResourceKind::Address(spec)) => self.remove_address(slot, spec.address),
            Some(ResourceKind::Mirror(_)) => self.kill_mirror(slot),
            Some(ResourceKind::Mount(mount)) => self.kill_mount(slot, &mount),
            Some(ResourceKind::Ocf(ocf)) => self.kill_ocf(slot, &ocf),
            _ => self.kill_processes(slot),
        }
    }

    /// Removes the address as configured, as recorded and as placed.
    fn remove_address(&self, slot: &Slot, configured: IpAddr) -> Result<(), String> {
        let mut addresses = vec![configured];
        if let Some(record) = self.records.read(&slot.key)
            && let ResourceKind::Address(old) = record.resource.kind
        {
            addresses.push(old.address);
        }
        self.addresses.remove(&slot.key, &addresses)?;
        self.forget_record(&slot.key);
        Ok(())
    }

    fn look(&self, slot: &Slot) {
        let Some(resource) = self.config().resources.get(&slot.key).cloned() else {
            return;
        };
        if let ResourceKind::Address(spec) = &resource.kind {
            self.look_at_address(&slot.key, spec);
        }
        schedule::check_all(self, slot, &check::detectors(&resource));
    }

    fn adopt(&self, key: &Key, record: Record) -> bool {
        if record.host_boot != self.settings.host_boot {
            return false;
        }
        match &record.resource.kind {
            ResourceKind::Address(spec) => {
                let nic = self.addresses.adopt(key, spec);
                nic.is_some()
            }
            ResourceKind::Service(_) => {
                let slot = self.slot(key);
                self.adopt_service(&slot, &record) || {
                    let home = Home::of(&self.settings.cgroup_root, key);
                    if let Err(left) = home.clear(KILL_LIMIT) {
                        self.out.log(key, left);
                    }
                    false
                }
            }
            ResourceKind::Program(_) | ResourceKind::Ocf(_) => true,
            ResourceKind::Mirror(_) => self.adopt_mirror(key, record.epoch),
            ResourceKind::Mount(mount) => self.adopt_mount(key, &record, mount),
        }
    }

    fn record_of(&self, epoch: Epoch, resource: &Resource) -> Record {
        Record {
            host_boot: self.settings.host_boot,
            epoch,
            resource: resource.clone(),
            process: None,
            nic: None,
            device: None,
        }
    }

    fn write_record(&self, key: &Key, record: &Record) -> Result<(), String> {
        let dir = self.settings.run_dir.display();
        (self.records.write(key, record)).map_err(|error| {
            format!("cannot write its record below {dir}: {error}; without it a restarted daemon would not know the resource")
        })
    }

    fn forget_record(&self, key: &Key) {
        if let Err(error) = self.records.remove(key) {
            self.out
                .log(key, format_args!("cannot remove its record: {error}"));
        }
    }

    /// Names for the environment of programs.
    fn names(&self, key: &Key) -> Vec<(String, String)> {
        vec![
            ("HOTPAIR_GROUP".into(), key.0.0.clone()),
            ("HOTPAIR_RESOURCE".into(), key.1.0.clone()),
            ("HOTPAIR_NODE".into(), self.config().node.clone()),
        ]
    }

    fn variables(&self, key: &Key, epoch: Epoch) -> Vec<(String, String)> {
        let mut variables = self.names(key);
        variables.push(("HOTPAIR_EPOCH".into(), epoch.0.to_string()));
        variables
    }
}
