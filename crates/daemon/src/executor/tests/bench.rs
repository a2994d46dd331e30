//! An executor with a cluster of one group, real cgroups, and its events.

use crate::executor::{ExecEvent, Executor, Settings};
use hotpair_core::config::{
    Check, Cluster, Detector, Environment, Group, Node, Program, Resource, ResourceKind, Service,
    Timing, WithoutWitness,
};
use hotpair_core::group::{ActionId, ResourceAction, ResourceFact, Work};
use hotpair_core::ids::{ClusterId, Epoch, GroupId, HostBoot, MemberId, ResourceId};
use hotpair_host::cgroup::{Cgroup, find_root};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;

/// Ample time for anything that is expected to happen.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) struct Bench {
    executor: Option<Executor>,
    events: Receiver<ExecEvent>,
    /// Every event so far.
    pub seen: Vec<ExecEvent>,
    pub cluster: Cluster,
    pub dir: tempfile::TempDir,
    cgroup_root: PathBuf,
    next: u64,
}

impl Bench {
    pub(super) fn new(resources: &[(&str, Resource)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = find_root().expect("these tests need root and a cgroup2 mount");
        let name = format!("hotpair-executor-{}-{serial}", std::process::id());
        let (_, events) = channel();
        let mut bench = Self {
            executor: None,
            events,
            seen: Vec::new(),
            cluster: cluster(resources),
            dir: tempfile::tempdir().unwrap(),
            cgroup_root: root.join(name),
            next: 0,
        };
        bench.start_daemon();
        bench.configure();
        bench
    }

    pub(super) fn start_daemon(&mut self) {
        let (sender, mut receiver) = unbounded_channel();
        let (forward, events) = channel();
        std::thread::spawn(move || {
            while let Some(event) = receiver.blocking_recv() {
                if forward.send(event).is_err() {
                    return;
                }
            }
        });
        let settings = Settings {
            me: MemberId(1),
            run_dir: self.dir.path().join("run"),
            log_dir: self.dir.path().join("log"),
            cgroup_root: self.cgroup_root.clone(),
            host_boot: HostBoot(7),
            ocf_root: self.dir.path().join("ocf"),
            mirrors: None,
        };
        self.executor = Some(Executor::new(settings, sender).unwrap());
        self.events = events;
    }

    /// As `kill -9` of the daemon: nothing is stopped.
    pub(super) fn end_daemon(&mut self) {
        self.executor = None;
    }

    pub(super) fn executor(&self) -> &Executor {
        self.executor.as_ref().unwrap()
    }

    pub(super) fn configure(&self) {
        self.executor().configure(&self.cluster);
    }

    /// Configures another resource, or one anew.
    pub(super) fn put(&mut self, name: &str, resource: Resource) {
        for group in self.cluster.groups.values_mut() {
            group.resources.insert(name.into(), resource.clone());
        }
        self.configure();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn begin(&mut self, resource: &str, work: Work) -> ActionId {
        self.begin_probing(resource, work, false)
    }

    pub(super) fn begin_probing(&mut self, resource: &str, work: Work, probe: bool) -> ActionId {
        self.next += 1;
        let id = ActionId(self.next);
        let action = ResourceAction {
            id,
            group: "shop".into(),
            resource: resource.into(),
            epoch: Epoch(4),
            work,
        };
        let reason = "node2 is down".to_owned();
        self.executor().act(action, probe, reason);
        id
    }

    /// The result of an action.
    pub(super) fn end(&mut self, wanted: ActionId) -> Result<(), String> {
        self.find(|event| match event {
            ExecEvent::Done { id, result } if *id == wanted => Some(result.clone()),
            _ => None,
        })
    }

    pub(super) fn act(&mut self, resource: &str, work: Work) -> Result<(), String> {
        let id = self.begin(resource, work);
        self.end(id)
    }

    /// Waits for an event, looking at earlier ones too.
    pub(super) fn find<T>(&mut self, wanted: impl Fn(&ExecEvent) -> Option<T>) -> T {
        if let Some(found) = self.seen.iter().find_map(&wanted) {
            return found;
        }
        self.next(wanted)
    }

    /// Waits for an event that comes from now on.
    pub(super) fn next<T>(&mut self, wanted: impl Fn(&ExecEvent) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                panic!("no such event; seen: {:#?}", self.seen);
            };
            let found = wanted(&event);
            self.seen.push(event);
            if let Some(found) = found {
                return found;
            }
        }
    }

    pub(super) fn next_detected(&mut self, of: &str) -> (bool, String) {
        self.next(|event| match fact(event, of)? {
            ResourceFact::Detected { running, detail } => Some((*running, detail.clone())),
            _ => None,
        })
    }

    /// Waits until it is found not running, and why. What is found is told again every interval, so that
    /// the next that is told may still be the old one.
    pub(super) fn next_failure(&mut self, of: &str) -> String {
        self.next(|event| match fact(event, of)? {
            ResourceFact::Detected { running, detail } => (!running).then(|| detail.clone()),
            _ => None,
        })
    }

    /// What a check asked for now finds.
    pub(super) fn look(&mut self, of: &str) -> (bool, String) {
        let before = self.seen.len();
        assert_eq!(self.act(of, Work::Check), Ok(()));
        let found = self.seen[before..]
            .iter()
            .rev()
            .find_map(|event| match fact(event, of)? {
                ResourceFact::Detected { running, detail } => Some((*running, detail.clone())),
                _ => None,
            });
        found.expect("a check asked for is told before it is done")
    }

    pub(super) fn next_exit(&mut self, of: &str) -> String {
        self.next(|event| exit(event, of))
    }

    /// Starts it and waits for its end, which may come before the start has ended.
    pub(super) fn start_and_exit(&mut self, of: &str) -> String {
        let before = self.seen.len();
        assert_eq!(self.act(of, Work::Start), Ok(()));
        let exit = self.seen[before..].iter().find_map(|event| exit(event, of));
        exit.unwrap_or_else(|| self.next_exit(of))
    }

    pub(super) fn next_verdict(&mut self, of: &str) -> Vec<String> {
        self.next(|event| match fact(event, of)? {
            ResourceFact::Verdict { problems } => Some(problems.clone()),
            _ => None,
        })
    }

    /// Waits until it is found running.
    pub(super) fn next_running(&mut self, of: &str) {
        self.next(|event| match fact(event, of)? {
            ResourceFact::Detected { running, .. } => running.then_some(()),
            _ => None,
        });
    }

    /// Waits for a verdict that names a problem, looking at earlier ones too.
    pub(super) fn find_problem(&mut self, of: &str) -> String {
        self.find(|event| match fact(event, of)? {
            ResourceFact::Verdict { problems } => problems.first().cloned(),
            _ => None,
        })
    }

    /// Processes in the cgroup of the resource's first detector.
    pub(super) fn monitors(&self, resource: &str) -> Vec<i32> {
        let path = self
            .cgroup_root
            .join("checks")
            .join(format!("shop.{resource}.0"));
        let cgroup = Cgroup::open(&path);
        cgroup.map_or(Vec::new(), |cgroup| cgroup.procs().unwrap_or_default())
    }

    /// Waits for the verdict that nothing is in the way.
    pub(super) fn next_fit(&mut self, of: &str) {
        self.next(|event| match fact(event, of)? {
            ResourceFact::Verdict { problems } => problems.is_empty().then_some(()),
            _ => None,
        });
    }

    /// Everything that has come until an action without effect has ended.
    pub(super) fn catch_up(&mut self) {
        let id = self.begin("nothing", Work::Check);
        self.next(|event| {
            matches!(event, ExecEvent::Done { id: of, .. } if *of == id).then_some(())
        });
    }

    pub(super) fn exits(&self) -> usize {
        let exited = |event: &&ExecEvent| {
            let ExecEvent::Fact { fact, .. } = event else {
                return false;
            };
            matches!(fact, ResourceFact::Exited { .. })
        };
        self.seen.iter().filter(exited).count()
    }

    pub(super) fn dones(&self, wanted: ActionId) -> usize {
        let done =
            |event: &&ExecEvent| matches!(event, ExecEvent::Done { id, .. } if *id == wanted);
        self.seen.iter().filter(done).count()
    }

    pub(super) fn cgroup(&self, resource: &str) -> PathBuf {
        self.cgroup_root.join("groups/shop").join(resource)
    }

    pub(super) fn procs(&self, resource: &str) -> Vec<i32> {
        let cgroup = Cgroup::open(&self.cgroup(resource));
        cgroup.map_or(Vec::new(), |cgroup| cgroup.procs().unwrap())
    }

    /// Waits until a program has written a file.
    pub(super) fn wait_file(&self, name: &str) -> String {
        let path = self.path(name);
        wait(|| {
            std::fs::read_to_string(&path)
                .ok()
                .filter(|text| text.ends_with('\n'))
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.executor = None;
        if let Ok(root) = Cgroup::open(&self.cgroup_root) {
            let _ = root.kill();
            let _ = root.wait_empty(SOON);
            let _ = root.remove();
        }
    }
}

fn fact<'a>(event: &'a ExecEvent, of: &str) -> Option<&'a ResourceFact> {
    match event {
        ExecEvent::Fact { resource, fact, .. } if resource.0 == of => Some(fact),
        _ => None,
    }
}

/// Looks again and again until there is an answer.
pub(super) fn wait<T>(look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    let (_keep, pause) = channel::<()>();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long");
        let _ = pause.recv_timeout(Duration::from_millis(5));
    }
}

pub(super) fn resource(kind: ResourceKind) -> Resource {
    Resource {
        kind,
        requires: BTreeSet::new(),
        detectors: Vec::new(),
        hooks: Vec::new(),
        start_timeout: SOON,
        stop_timeout: SOON,
        running_within: SOON,
    }
}

pub(super) fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

pub(super) fn service(script: &str) -> Resource {
    resource(ResourceKind::Service(Service {
        command: shell(script),
        environment: Environment::default(),
    }))
}

pub(super) fn program(start: &str, stop: &str) -> Resource {
    resource(ResourceKind::Program(Program {
        start: shell(start),
        stop: shell(stop),
        status: None,
        environment: Environment::default(),
    }))
}

pub(super) fn detector(check: Check) -> Detector {
    Detector {
        check,
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(5),
        tries: 1,
        of_node: false,
    }
}

pub(super) fn watched(script: &str, checks: &[Check]) -> Resource {
    Resource {
        detectors: checks.iter().cloned().map(detector).collect(),
        ..service(script)
    }
}

fn cluster(resources: &[(&str, Resource)]) -> Cluster {
    let resources = resources.iter().cloned();
    let group = Group {
        resources: resources
            .map(|(name, resource)| (ResourceId::from(name), resource))
            .collect(),
        nodes: vec![MemberId(1)],
        start: Default::default(),
        takeover: Default::default(),
        failback: Default::default(),
        restart: Default::default(),
        on_start_failure: Default::default(),
        on_stop_failure: Default::default(),
        final_action: Default::default(),
        on_switch_failure: Default::default(),
        priority: 0,
        ungated: false,
        fence: false,
        confirm: hotpair_core::config::Confirm::No,
        relations: Vec::new(),
    };
    let node = Node {
        name: "north".into(),
        description: String::new(),
    };
    Cluster {
        name: "test".into(),
        id: ClusterId(1),
        timing: Timing::standard(),
        nodes: BTreeMap::from([(MemberId(1), node)]),
        witness: None,
        without_witness: WithoutWitness::Wait,
        links: Vec::new(),
        groups: BTreeMap::from([(GroupId::from("shop"), group)]),
        fencing: Default::default(),
        flapping: Default::default(),
    }
}

fn exit(event: &ExecEvent, of: &str) -> Option<String> {
    match fact(event, of)? {
        ResourceFact::Exited { epoch, detail } if *epoch == Epoch(4) => Some(detail.clone()),
        _ => None,
    }
}

/// Writes an executable script.
///
/// By another process: what is open for writing here is so in a child that another test forks just now too, and
/// cannot be run until that child runs its program (`ETXTBSY`).
pub(super) fn write_script(path: &Path, text: &str) {
    let source = path.with_extension("text");
    std::fs::write(&source, text).unwrap();
    let copied = std::process::Command::new("install")
        .args(["-m", "755"])
        .args([&source, path])
        .status();
    assert!(copied.unwrap().success());
    std::fs::remove_file(source).unwrap();
}
