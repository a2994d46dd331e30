//! Whether this node could run a resource now, looked at all the time, also on the standby.

use super::Shared;
use super::address::nics;
use super::check::nic_problem;
use super::slot::{Key, lock};
use hotpair_core::config::{Address, Environment, HookMoment, Resource, ResourceKind};
use hotpair_core::group::ResourceFact;
use hotpair_core::ids::GroupId;
use hotpair_host::filesystem;
use hotpair_host::net::gateway::{Gateway, reachable};
use hotpair_host::net::netlink::Link;
use hotpair_host::process::{Account, DEFAULT_PATH};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(2);

/// Limits of the question whether a gateway answers.
const GATEWAY_TIMEOUT: Duration = Duration::from_millis(300);
const GATEWAY_TRIES: u32 = 3;

/// What was told last.
#[derive(Default)]
pub(super) struct Verdicts {
    told: Mutex<BTreeMap<Key, Vec<String>>>,
    /// What is wrong with the gateways, as of the last round.
    gateways: Mutex<BTreeMap<Key, String>>,
    /// What is worth knowing and no problem, as it was logged last.
    pub(super) notes: Mutex<BTreeMap<Key, String>>,
    /// Devices under mounts, with the size their filesystems were made to fit.
    pub(super) fitted: Mutex<BTreeMap<Key, (u32, u32, u64)>>,
    /// What detectors said of this node last, by their numbers, where it could not run here.
    pub(super) probed: Mutex<BTreeMap<(Key, usize), String>>,
    wish: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Default)]
struct Wish {
    now: bool,
    closing: bool,
}

impl Verdicts {
    /// A round now; the configuration has changed.
    pub(super) fn wake(&self) {
        lock(&self.wish).now = true;
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        lock(&self.wish).closing = true;
        self.changed.notify_all();
    }

    /// Forgets resources that are not looked at any more, or have changed, in one go with `swap`,
    /// so that no verdict of the old configuration is told after it.
    pub(super) fn change<T>(
        &self,
        swap: impl FnOnce() -> T,
        unless: impl Fn(&Key, &T) -> bool,
    ) -> T {
        let mut told = lock(&self.told);
        let swapped = swap();
        told.retain(|key, _| unless(key, &swapped));
        lock(&self.gateways).retain(|key, _| unless(key, &swapped));
        lock(&self.notes).retain(|key, _| unless(key, &swapped));
        lock(&self.fitted).retain(|key, _| unless(key, &swapped));
        lock(&self.probed).retain(|(key, _), _| unless(key, &swapped));
        swapped
    }

    /// Looks at everything every 2 s, and when woken, until closed.
    pub(super) fn run(shared: &Arc<Shared>) {
        let verdicts = &shared.verdicts;
        let mut last_round: Option<Instant> = None;
        loop {
            let wish = lock(&verdicts.wish);
            let due = last_round.map_or(Duration::ZERO, |at| ROUND.saturating_sub(at.elapsed()));
            let (mut wish, _) = verdicts
                .changed
                .wait_timeout_while(wish, due, |wish| !wish.now && !wish.closing)
                .unwrap_or_else(PoisonError::into_inner);
            if wish.closing {
                return;
            }
            let woken = std::mem::take(&mut wish.now);
            drop(wish);
            if woken {
                // The answers of gateways take longer than the rest.
                shared.take_verdicts(|_| true);
            }
            shared.ask_gateways();
            shared.take_verdicts(|_| true);
            shared.rotate_logs();
            last_round = Some(Instant::now());
        }
    }
}

impl Shared {
    /// Tells the verdicts that have changed, of the resources that are `wanted`.
    pub(super) fn take_verdicts(&self, wanted: impl Fn(&Resource) -> bool) {
        let config = self.config();
        let links = super::address::links();
        let absent = absent_mounts(&config);
        for (key, resource) in &config.resources {
            if !wanted(resource) {
                continue;
            }
            let problems = self.problems(key, resource, (&links, &absent));
            let mut told = lock(&self.verdicts.told);
            if !Arc::ptr_eq(&config, &self.config()) {
                // The change of the configuration has asked for another round.
                return;
            }
            if told.get(key) == Some(&problems) {
                continue;
            }
            told.insert(key.clone(), problems.clone());
            self.out.fact(key, ResourceFact::Verdict { problems });
        }
    }

    fn problems(
        &self,
        key: &Key,
        resource: &Resource,
        (links, absent): (&Result<Vec<Link>, String>, &Absent),
    ) -> Vec<String> {
        let absent = absent.get(&key.0).map_or(&[][..], Vec::as_slice);
        let mut problems = self.problems_of_kind(key, resource, (links, absent));
        // What they look for may lie on a mount that is absent.
        if absent.is_empty() {
            let probed = lock(&self.verdicts.probed);
            let of_this = (key.clone(), 0)..=(key.clone(), usize::MAX);
            problems.extend(probed.range(of_this).map(|(_, problem)| problem.clone()));
        }
        problems
    }

    fn problems_of_kind(
        &self,
        key: &Key,
        resource: &Resource,
        (links, absent): (&Result<Vec<Link>, String>, &[PathBuf]),
    ) -> Vec<String> {
        let mut problems = match &resource.kind {
            ResourceKind::Address(address) => {
                let nic = nic_problem(links, nics(address, self.settings.me));
                let gateway = lock(&self.verdicts.gateways).get(key).cloned();
                match nic {
                    Some(nic) => vec![nic],
                    None => gateway.into_iter().collect(),
                }
            }
            ResourceKind::Service(service) => {
                surroundings(&[&service.command], &service.environment, absent)
            }
            ResourceKind::Program(program) => {
                let mut commands = vec![&program.start, &program.stop];
                commands.extend(&program.status);
                surroundings(&commands, &program.environment, absent)
            }
            ResourceKind::Mirror(_) => self.mirror_problems(key),
            ResourceKind::Mount(mount) => self.mount_problems(key, mount),
            ResourceKind::Ocf(ocf) => self.ocf_problems(ocf),
        };
        for hook in &resource.hooks {
            // Others hold up nothing.
            if hook.when == HookMoment::BeforeStart {
                let missing = surroundings(&[&hook.command], &hook.environment, absent);
                let new = missing.into_iter().filter(|it| !problems.contains(it));
                problems.extend(new.collect::<Vec<_>>());
            }
        }
        problems
    }

    /// Asks every gateway, side by side.
    fn ask_gateways(&self) {
        let config = self.config();
        let Ok(links) = super::address::links() else {
            return;
        };
        let mut questions = Vec::new();
        for (key, resource) in &config.resources {
            if let ResourceKind::Address(address) = &resource.kind
                && let Some(gateway) = address.gateway
                && let Some(nic) = self.nic_of(key, address, &links)
            {
                questions.push((key, gateway, nic));
            }
        }
        std::thread::scope(|scope| {
            for (key, gateway, nic) in questions {
                let ask = move || {
                    let problem = gateway_problem(gateway, &nic);
                    let mut gateways = lock(&self.verdicts.gateways);
                    match problem {
                        Some(problem) => gateways.insert(key.clone(), problem),
                        None => gateways.remove(key),
                    };
                };
                // Without a thread the last answer stays.
                let _ = std::thread::Builder::new()
                    .name("gateway".into())
                    .stack_size(256 << 10)
                    .spawn_scoped(scope, ask);
            }
        });
    }

    /// The NIC the address is on, or would be set on.
    fn nic_of(&self, key: &Key, address: &Address, links: &[Link]) -> Option<String> {
        let placed = self.addresses.placed_now().remove(key);
        placed.map(|placement| placement.nic).or_else(|| {
            super::address::fit(links, nics(address, self.settings.me))
                .ok()
                .map(|link| link.name.clone())
        })
    }

    fn rotate_logs(&self) {
        for slot in self.slots() {
            slot.with_running(|running| running.rotate_log(&self.out, &slot.key));
        }
    }
}

fn gateway_problem(address: IpAddr, nic: &str) -> Option<String> {
    let gateway = Gateway {
        address,
        source: None,
        device: Some(nic),
    };
    match reachable(&gateway, GATEWAY_TIMEOUT, GATEWAY_TRIES) {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "gateway {address} does not answer through {nic}: check cable, switch and router, or correct `gateway`"
        )),
        Err(error) => Some(error.to_string()),
    }
}

/// Directories of a group's mounts where nothing is mounted now: what the group will find there is not
/// to be seen yet.
type Absent = BTreeMap<GroupId, Vec<PathBuf>>;

fn absent_mounts(config: &super::Configured) -> Absent {
    let mut paths = Absent::new();
    for ((group, _), resource) in &config.resources {
        if let ResourceKind::Mount(mount) = &resource.kind {
            let of_group = paths.entry(group.clone()).or_default();
            of_group.push(PathBuf::from(&mount.path));
        }
    }
    if paths.is_empty() {
        return paths;
    }
    let mounts = filesystem::mounts().unwrap_or_default();
    for of_group in paths.values_mut() {
        of_group.retain(|path| filesystem::visible(&mounts, &filesystem::resolved(path)).is_none());
    }
    paths
}

/// What is missing for these commands on this node, as far as it can be seen.
fn surroundings(
    commands: &[&Vec<String>],
    environment: &Environment,
    absent: &[PathBuf],
) -> Vec<String> {
    let unseen = |path: &str| {
        absent
            .iter()
            .any(|mount| Path::new(path).starts_with(mount))
    };
    let mut problems = Vec::new();
    if let Some(user) = &environment.user
        && let Err(error) = Account::find(user)
    {
        problems.push(error.to_string());
    }
    if let Some(directory) = &environment.directory
        && !unseen(directory)
        && !Path::new(directory).is_dir()
    {
        problems.push(format!(
            "directory {directory} does not exist on this node: create it, or correct `directory`"
        ));
    }
    for command in commands {
        if let Some(name) = command.first()
            && !unseen(name)
            && let Some(problem) = command_problem(name, environment)
            && !problems.contains(&problem)
        {
            problems.push(problem);
        }
    }
    problems
}

pub(super) fn command_problem(name: &str, environment: &Environment) -> Option<String> {
    if !name.contains('/') {
        let ours = std::env::var("PATH").unwrap_or(DEFAULT_PATH.into());
        let path = environment.variables.get("PATH").unwrap_or(&ours);
        let found = path
            .split(':')
            .filter(|dir| dir.starts_with('/'))
            .any(|dir| is_executable(&Path::new(dir).join(name)));
        return (!found).then(|| {
            format!("program {name} is not in PATH {path}: install it on this node, or give its full path")
        });
    }
    let directory = environment.directory.as_deref().unwrap_or("/");
    let path: PathBuf = Path::new(directory).join(name);
    if !path.exists() {
        return Some(format!(
            "{} does not exist on this node: install it, or correct the command",
            path.display()
        ));
    }
    (!is_executable(&path)).then(|| {
        format!(
            "{} is not an executable file: run chmod +x on it",
            path.display()
        )
    })
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
