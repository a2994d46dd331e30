//! The daemon: one task owns the deciding [`Node`]; thin tasks bring it facts and carry out actions.

mod requests;

use crate::events::EventLog;
use crate::executor::{ExecEvent, Executor, Settings};
use crate::guard::link::{self, GuardNews};
use crate::guard::process::now;
use crate::guard::protocol::{
    FromGuard, GateSetup, LinkSetup, LinkSight, QuorumSetup, QuorumSight, Setup, ToGuard,
};
use crate::looks::Looks;
use crate::mirrors::{self, MirrorNews, Mirrors};
use crate::passing::Passing;
use crate::paths::Paths;
use crate::persist::{self, Written};
use crate::recording::Recording;
use crate::server::{self, Answer, Asked};
use crate::store::{self, Keys, StoreError};
use crate::tokens::Tokens;
use crate::transport::{Dialer, Listeners, Net, Passed, Target, Transport};
use hotpair_api::{Call, Reply};
use hotpair_core::config::OnDiskFailure;
use hotpair_core::document::Document;
use hotpair_core::group::ResourceFact;
use hotpair_core::ids::{Epoch, GroupId, HostBoot, Incarnation, MemberId, Version};
use hotpair_core::message::Message;
use hotpair_core::mirror::{Disk, MirrorReport};
use hotpair_core::node::{
    Action, Durable, Event, HostAction, Identity, Input, Level, Node, PersistId, What,
};
use hotpair_core::plan::Presence;
use hotpair_core::reason::Reason;
use hotpair_core::time::Moment;
use hotpair_host::cgroup;
use hotpair_wire::pki::PkiError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

use requests::Waiting;

/// Without a guard for so long, nothing is taken to be permitted any more.
const GUARD_LIMIT: Duration = Duration::from_secs(2);
/// Time for the last answers to be written.
const ANSWERS: Duration = Duration::from_millis(50);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("keys of this node: {0}")]
    Keys(#[from] PkiError),
    #[error("cgroups: {0}")]
    Cgroup(#[from] cgroup::CgroupError),
    #[error("the executor cannot start: {0}")]
    Executor(String),
    #[error(
        "another daemon of this node runs already (it answers at {0}): stop it first with `hotpair stop`"
    )]
    Running(PathBuf),
    #[error("the socket {0} cannot be opened: {1}")]
    Socket(PathBuf, std::io::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Runs the daemon of this node until it is told to stop.
///
/// # Errors
/// It cannot start; nothing has been touched then.
pub fn run(paths: Paths) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut daemon = Daemon::start(paths)?;
        daemon.serve().await;
        Ok(())
    })
}

struct Channels {
    guard: mpsc::UnboundedReceiver<GuardNews>,
    net: mpsc::UnboundedReceiver<Net>,
    exec: mpsc::UnboundedReceiver<ExecEvent>,
    written: mpsc::UnboundedReceiver<Written>,
    asked: mpsc::UnboundedReceiver<Asked>,
    mirrors: mpsc::UnboundedReceiver<MirrorNews>,
    fenced: mpsc::UnboundedReceiver<Input>,
}

pub(crate) struct Daemon {
    pub(crate) paths: Paths,
    keys: Keys,
    boot: HostBoot,
    cluster: u64,
    pub(crate) node: Node,
    executor: Executor,
    pub(crate) mirrors: Mirrors,
    pub(crate) looks: Looks,
    /// Mirrors whose device is open, and the epoch.
    open: BTreeMap<mirrors::Key, Epoch>,
    transport: Transport,
    dialer: Dialer,
    listeners: Listeners,
    guard: Option<mpsc::UnboundedSender<ToGuard>>,
    guard_lost: Option<tokio::time::Instant>,
    guard_kept: tokio::task::JoinHandle<()>,
    setup: Option<Setup>,
    writes: std::sync::mpsc::Sender<(PersistId, Box<Durable>)>,
    pub(crate) events: EventLog,
    waiting: BTreeMap<u64, Waiting>,
    fenced: mpsc::UnboundedSender<Input>,
    passing: Passing,
    next_request: u64,
    pub(crate) sights: Vec<LinkSight>,
    pub(crate) quorum: Option<QuorumSight>,
    pub(crate) tokens: Tokens,
    configured: Version,
    revision: u64,
    cgroup_root: PathBuf,
    leaving: Option<tokio::time::Instant>,
    /// When a leave by force that was not decided is asked for again.
    ask_to_leave: Option<tokio::time::Instant>,
    /// Since when nothing is left to do before it ends.
    free: Option<tokio::time::Instant>,
    ended: bool,
    end_guard: bool,
    pub(crate) recording: Option<Recording>,
    channels: Option<Channels>,
}

impl Daemon {
    fn start(paths: Paths) -> Result<Self, DaemonError> {
        paths.make()?;
        let keys = store::read_keys(&paths)?;
        let state = store::read_state(&paths.state())?;
        let socket = paths.api_socket();
        if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            return Err(DaemonError::Running(socket));
        }
        let listener = server::open(&socket).map_err(|error| DaemonError::Socket(socket, error))?;
        let (boot, _) = store::host_boot(&paths)?;
        let identity = keys.identity()?;
        let cluster = identity.member().cluster.0;
        let cgroup_root = match &paths.cgroup {
            Some(root) => root.clone(),
            None => cgroup::find_root()?.join("hotpair"),
        };
        let name = state
            .as_ref()
            .and_then(|state| state.document.as_ref())
            .map_or_else(
                || keys.member.to_string(),
                |document| document.config.name_of(keys.member),
            );

        let (mirror_sender, mirror_news) = mpsc::unbounded_channel();
        let mirrors = Mirrors::new(paths.clone(), cgroup_root.clone(), mirror_sender);
        let (exec_sender, exec) = mpsc::unbounded_channel();
        let settings = Settings {
            me: keys.member,
            run_dir: paths.run.clone(),
            log_dir: paths.log.clone(),
            cgroup_root: cgroup_root.clone(),
            host_boot: boot,
            ocf_root: hotpair_host::ocf::ROOT.into(),
            mirrors: Some(mirrors.clone()),
        };
        let executor = Executor::new(settings, exec_sender)
            .map_err(|error| DaemonError::Executor(error.to_string()))?;
        let (net_sender, net) = mpsc::unbounded_channel();
        let transport = Transport::new(net_sender);
        let (written_sender, written) = mpsc::unbounded_channel();
        let (fenced_sender, fenced) = mpsc::unbounded_channel();
        let (asked_sender, asked) = mpsc::unbounded_channel();
        tokio::spawn(server::serve(listener, asked_sender));
        let (guard_sender, guard) = mpsc::unbounded_channel();
        let guard_kept = tokio::spawn(link::keep(
            paths.clone(),
            cgroup_root.join("groups"),
            guard_sender,
        ));

        let start = now();
        let id = Identity {
            me: keys.member,
            boot,
            incarnation: Incarnation(start.boot_us),
            seed: store::random_u64()?,
        };
        let recording = Recording::wanted(&paths, &id, state.as_ref(), start);
        let mut daemon = Self {
            recording,
            node: Node::restore(id, state.clone(), start),
            dialer: Dialer::new(identity.clone(), transport.clone()),
            listeners: Listeners::new(&[identity], transport.clone())?,
            writes: persist::start(paths.state(), written_sender),
            events: EventLog::open(&paths, &name),
            channels: Some(Channels {
                guard,
                net,
                exec,
                written,
                asked,
                mirrors: mirror_news,
                fenced,
            }),
            fenced: fenced_sender,
            keys,
            boot,
            cluster,
            executor,
            looks: Looks::new(&paths.run, mirrors.clone()),
            mirrors,
            open: BTreeMap::new(),
            paths,
            transport,
            guard: None,
            guard_lost: None,
            guard_kept,
            setup: None,
            waiting: BTreeMap::new(),
            passing: Passing::default(),
            next_request: 0,
            sights: Vec::new(),
            quorum: None,
            tokens: Tokens::default(),
            configured: Version::ZERO,
            revision: 0,
            cgroup_root,
            leaving: None,
            ask_to_leave: None,
            free: None,
            ended: false,
            end_guard: false,
        };
        daemon.adopt(state.as_ref().and_then(|state| state.document.as_deref()));
        daemon
            .events
            .add("message", Some(name), None, "the daemon has started".into());
        daemon.step(Input::Tick);
        daemon.looks.clean();
        Ok(daemon)
    }

    /// What an earlier run of the daemon left running goes on untouched.
    fn adopt(&mut self, document: Option<&Document>) {
        let Some(document) = document else { return };
        self.executor.configure(&document.config);
        for (group, resource, epoch) in self.executor.adopt(&document.config) {
            let config = document.config.groups.get(&group);
            if config.is_some_and(|group| group.mirror(&resource).is_some()) {
                // Whatever its first report says: that it closes is to be noticed.
                self.open.insert((group.clone(), resource.clone()), epoch);
            }
            self.step(Input::Fact {
                group,
                resource,
                fact: ResourceFact::Adopted { epoch },
            });
        }
    }

    async fn serve(&mut self) {
        let Some(mut channels) = self.channels.take() else {
            return;
        };
        let Ok(mut terminate) =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        else {
            return;
        };
        while !self.ended {
            let deadline = self.next_deadline();
            let heartbeat = self.heartbeat();
            tokio::select! {
                biased;
                Some(news) = channels.guard.recv() => self.guard_news(news),
                // What a mirror says before its work ends must be known first.
                Some(news) = channels.mirrors.recv() => self.mirror_news(news),
                Some(event) = channels.exec.recv() => self.exec_event(event),
                Some(net) = channels.net.recv() => self.net(net),
                Some(written) = channels.written.recv() => self.written(written),
                Some(asked) = channels.asked.recv() => self.asked(asked),
                Some(input) = channels.fenced.recv() => self.step(input),
                _ = terminate.recv() => {
                    self.log(Level::Message, "the daemon was told to end; services go on for 2 s without it");
                    self.ended = true;
                }
                () = tokio::time::sleep(deadline.min(heartbeat)) => self.step(Input::Tick),
            }
            self.give_credit();
            self.look_after_guard();
            self.leave();
        }
        // Answers that were given are written by other tasks of this thread.
        tokio::time::sleep(ANSWERS).await;
        if self.end_guard {
            self.mirrors.end();
            self.guard_kept.abort();
            link::end(&self.paths);
        }
        let _ = std::fs::remove_file(self.paths.api_socket());
    }

    fn next_deadline(&self) -> Duration {
        let at = now().moment();
        self.node
            .deadline()
            .map_or(Duration::from_secs(1), |deadline: Moment| {
                deadline.since(at)
            })
    }

    fn heartbeat(&self) -> Duration {
        let document = self.node.document();
        document.map_or(Duration::from_millis(500), |document| {
            document.config.timing.heartbeat.min(Duration::from_secs(1))
        })
    }

    /// The guard sends real heartbeats only while this loop turns.
    fn give_credit(&self) {
        if let Some(guard) = &self.guard {
            let _ = guard.send(ToGuard::Credit);
        }
    }

    pub(crate) fn step(&mut self, input: Input) {
        let at = now();
        let heard = self.recording.as_ref().map(|_| input.clone());
        let actions = self.node.step(at, input);
        if let (Some(recording), Some(input)) = (&mut self.recording, heard) {
            recording.add(at, &input, &actions);
        }
        // What is to be started must be known to those who start it.
        self.take_configuration();
        self.act(actions);
        self.follow_document();
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, message } if self.is_disk(to) => self.ask_disk(to, message),
                Action::Send { to, message } => self.transport.send(self.cluster, to, &message),
                Action::Persist { id, state } => {
                    // The thread ends with the process only.
                    let _ = self.writes.send((id, state));
                }
                Action::Guard(wanted) => {
                    if let Some(guard) = &self.guard {
                        let _ = guard.send(ToGuard::Wanted(wanted));
                    }
                }
                Action::Resource(action) => {
                    let probe = self.probes(&action.group);
                    let cause = self.node.cause(&action.group, &action.resource);
                    self.executor.act(action, probe, cause);
                }
                Action::Mirror {
                    group,
                    resource,
                    orders,
                } => self.mirrors.order(&(group, resource), *orders),
                Action::Answer { id, outcome } => self.answered(id, outcome),
                Action::Event(event) => self.record(&event),
                Action::Fence { node, boot } => self.fence(node, boot),
                Action::Host(action) => self.host_action(action),
            }
        }
    }

    fn is_disk(&self, member: MemberId) -> bool {
        let document = self.node.document();
        let disk = document.and_then(|document| document.config.quorum_disk());
        disk.is_some_and(|(disk, _)| disk == member)
    }

    /// The guard answers for the quorum disk; without a guard the message is lost.
    fn ask_disk(&self, to: MemberId, message: Message) {
        let of_disk = matches!(
            message,
            Message::PreVote { .. }
                | Message::Vote { .. }
                | Message::Offer { .. }
                | Message::Hand { .. }
        );
        if let Some(guard) = self.guard.as_ref().filter(|_| of_disk) {
            let message = Box::new(message);
            let _ = guard.send(ToGuard::Disk { to, message });
        }
    }

    /// Is somebody outside the cluster asked for the group's addresses before they are taken? Where
    /// the node before may not have started, or long ago; not on a takeover or a switchover, which
    /// the guarantee makes safe and the question would only make slow.
    fn probes(&self, group: &GroupId) -> bool {
        let placement = self
            .node
            .document()
            .and_then(|document| document.groups.get(group));
        placement.is_some_and(|placement| match &placement.reason {
            Reason::FirstStart | Reason::StartFailed { .. } => true,
            Reason::Operator { request } => !request.starts_with("group switch"),
            _ => false,
        })
    }

    /// Uses the devices of a node; a thread waits for them, however long they take.
    fn fence(&mut self, node: MemberId, boot: HostBoot) {
        let document = self.node.document();
        let config = document.map(|document| &document.config);
        let name = config.map_or_else(|| node.to_string(), |config| config.name_of(node));
        let devices = config.and_then(|config| config.fencing.devices.get(&node));
        let devices = devices.cloned().unwrap_or_default();
        self.log(Level::Warning, &format!("{name} is being fenced"));
        let fenced = self.fenced.clone();
        let work = move || {
            let result = crate::fence::fence(&devices);
            let _ = fenced.send(Input::Fenced { node, boot, result });
        };
        let started = std::thread::Builder::new().name("fence".into()).spawn(work);
        if let Err(error) = started {
            let result = Err(format!("no thread for it: {error}"));
            let _ = self.fenced.send(Input::Fenced { node, boot, result });
        }
    }

    /// The final action of a group that could run nowhere.
    fn host_action(&mut self, action: HostAction) {
        match action {
            HostAction::StopHotpair => {
                self.log(
                    Level::Error,
                    "a group could run nowhere: hotpair stops here, as its final action says",
                );
                self.shut_down(true, None);
            }
            HostAction::Reboot => {
                self.log(
                    Level::Error,
                    "a group could run nowhere: this host restarts, as its final action says",
                );
                // `systemctl` rather than the system call: a container or practice host has none, and
                // must not take the machine down with it.
                let _ = std::process::Command::new("systemctl")
                    .arg("reboot")
                    .spawn();
            }
        }
    }

    /// Brings what does the work on resources in line with the configuration.
    fn take_configuration(&mut self) {
        let Some(document) = self.node.document().cloned() else {
            return;
        };
        if document.revision != self.revision {
            self.revision = document.revision;
            self.keep_revision(&document);
            self.executor.configure(&document.config);
        }
    }

    /// Brings everything else around the node in line with the document it keeps.
    fn follow_document(&mut self) {
        let Some(document) = self.node.document().cloned() else {
            return;
        };
        if document.version == self.configured {
            return;
        }
        self.configured = document.version;
        self.connect(&document);
        self.set_up_guard(&document);
        self.set_up_mirrors(&document);
    }

    fn set_up_mirrors(&self, document: &Document) {
        let own = mirrors::Own {
            me: self.keys.member,
            boot: self.boot,
            cluster: self.cluster,
            certificates: &self.keys.certificates,
            key: &self.keys.key,
        };
        self.mirrors.configure(document, &own);
    }

    fn mirror_news(&mut self, news: MirrorNews) {
        match news {
            MirrorNews::Connected((group, resource)) => {
                let actions = self.node.mirror_connected(now(), &group, &resource);
                self.act(actions);
            }
            MirrorNews::Report(key, report) => self.mirror_reported(key, *report),
            MirrorNews::Note { key, error, text } => {
                let level = if error { Level::Error } else { Level::Message };
                self.log(level, &format!("{}.{}: {text}", key.0, key.1));
            }
            MirrorNews::Lost(key) => {
                let (group, resource) = key.clone();
                let actions = self.node.mirror_connected(now(), &group, &resource);
                self.act(actions);
                self.mirror_closed(&key, "its mirror process has ended");
            }
        }
    }

    fn mirror_reported(&mut self, key: mirrors::Key, report: MirrorReport) {
        let opened = report.opened.filter(|_| report.open);
        let problem = match &report.disk {
            Disk::Failed(problem) => Some(problem.clone()),
            _ => None,
        };
        self.step(Input::Mirror {
            group: key.0.clone(),
            resource: key.1.clone(),
            report: Box::new(report),
        });
        match (opened, problem) {
            (Some(epoch), None) => {
                self.open.insert(key, epoch);
            }
            (Some(_), Some(problem)) if self.fails_over(&key) => {
                self.mirror_verdict(&key, problem.clone());
                self.mirror_closed(&key, &problem);
            }
            (Some(_), Some(_)) => {}
            (None, _) => self.mirror_closed(&key, "its device was closed: the gate was found shut"),
        }
    }

    /// Shall the group leave when the local disk fails?
    fn fails_over(&self, key: &mirrors::Key) -> bool {
        self.node
            .document()
            .and_then(|document| document.config.groups.get(&key.0)?.mirror(&key.1).cloned())
            .is_some_and(|mirror| mirror.on_disk_failure == OnDiskFailure::FailOver)
    }

    fn mirror_verdict(&mut self, key: &mirrors::Key, problem: String) {
        self.step(Input::Fact {
            group: key.0.clone(),
            resource: key.1.clone(),
            fact: ResourceFact::Verdict {
                problems: vec![problem],
            },
        });
    }

    /// The device is not open any more, or no good; where that was not asked for, it is a failure.
    fn mirror_closed(&mut self, key: &mirrors::Key, why: &str) {
        if let Some(epoch) = self.open.remove(key) {
            self.step(Input::Fact {
                group: key.0.clone(),
                resource: key.1.clone(),
                fact: ResourceFact::Exited {
                    epoch,
                    detail: why.to_owned(),
                },
            });
        }
    }

    fn keep_revision(&self, document: &Document) {
        let directory = self.paths.lib.join("revisions");
        let _ = std::fs::create_dir_all(&directory);
        let path = directory.join(format!("{:08}.toml", document.revision));
        if !path.exists() {
            let _ = store::write_text(&path, &hotpair_config::show(&document.config));
        }
    }

    fn connect(&mut self, document: &Document) {
        let me = self.keys.member;
        let mut targets = BTreeSet::new();
        let mut listen = BTreeSet::new();
        for link in &document.config.links {
            let local = link.addresses.get(&me).copied();
            listen.extend(local);
            for (&member, &address) in link.addresses.iter().filter(|(member, _)| **member > me) {
                targets.insert(Target {
                    member,
                    address,
                    local,
                });
            }
        }
        if let Some(witness) = &document.config.witness {
            let to = |&address| Target {
                member: witness.id,
                address,
                local: None,
            };
            targets.extend(witness.addresses.iter().map(to));
        }
        self.listeners.listen(&listen);
        if let Err(error) = self.dialer.targets(&targets) {
            self.log(
                Level::Error,
                &format!("connections cannot be made with this node's keys: {error}"),
            );
        }
    }

    fn set_up_guard(&mut self, document: &Document) {
        let setup = self.setup_for(document);
        if self.setup.as_ref() != Some(&setup)
            && let Some(guard) = &self.guard
        {
            let _ = guard.send(ToGuard::Setup(Box::new(setup.clone())));
            self.setup = Some(setup);
        }
    }

    fn setup_for(&self, document: &Document) -> Setup {
        let config = &document.config;
        let me = self.keys.member;
        let links = config.links.iter().filter_map(|link| {
            let peers = link.addresses.iter().filter(|(member, _)| **member != me);
            Some(LinkSetup {
                name: link.name.clone(),
                local: *link.addresses.get(&me)?,
                peers: peers.map(|(&member, &address)| (member, address)).collect(),
            })
        });
        let groups = config.groups.iter().map(|(name, group)| {
            let addresses = group
                .addresses()
                .map(|address| (address.address, address.prefix))
                .collect();
            let cgroup = self.cgroup_root.join("groups").join(&name.0);
            let mirrors = group.mirrors().next().is_some();
            let gates = GateSetup {
                addresses,
                cgroup,
                write_gate: mirrors.then(|| self.paths.gate(name)),
            };
            (name.clone(), gates)
        });
        Setup {
            me,
            boot: self.boot,
            cluster: self.cluster,
            key_id: self.keys.heartbeat_key_id,
            key: self.keys.heartbeat_key.clone(),
            links: links.collect(),
            witness: config
                .witness
                .as_ref()
                .filter(|witness| witness.disk.is_none())
                .map(|witness| (witness.id, witness.addresses.clone())),
            quorum: config.quorum_disk().map(|(member, disk)| QuorumSetup {
                member,
                path: PathBuf::from(&disk.path),
                number: disk.number,
            }),
            table: std::env::var("HOTPAIR_TABLE").unwrap_or_else(|_| "hotpair".into()),
            groups: groups.collect(),
        }
    }

    fn guard_news(&mut self, news: GuardNews) {
        match news {
            GuardNews::Connected { sender, anew } => {
                if anew && self.guard_lost.is_some() {
                    self.log(Level::Warning, "the guard had ended and was started anew");
                }
                self.guard = Some(sender);
                self.guard_lost = None;
                self.setup = None;
                if let Some(document) = self.node.document().cloned() {
                    self.set_up_guard(&document);
                }
                let actions = self.node.guard_connected(now());
                self.act(actions);
            }
            GuardNews::Said(FromGuard::Event(event)) => self.step(Input::Guard(event)),
            GuardNews::Said(FromGuard::Links(sights)) => self.sights = sights,
            GuardNews::Said(FromGuard::Disk { from, message }) => {
                if self.is_disk(from) {
                    let message = *message;
                    self.step(Input::Message { from, message });
                }
            }
            GuardNews::Said(FromGuard::Quorum(sight)) => self.disk_seen(sight),
            GuardNews::Said(FromGuard::Alarm(text)) => self.log(Level::Error, &text),
            GuardNews::Lost => {
                self.guard = None;
                self.guard_lost = Some(tokio::time::Instant::now());
                self.log(Level::Error, "the guard has ended: starting it anew");
            }
        }
    }

    fn disk_seen(&mut self, sight: Option<QuorumSight>) {
        let problem =
            |sight: &Option<QuorumSight>| sight.as_ref().and_then(|it| it.problem.clone());
        let (before, now) = (problem(&self.quorum), problem(&sight));
        let known = sight.is_some();
        self.quorum = sight;
        match now {
            Some(now) if before.as_ref() != Some(&now) => {
                self.log(
                    Level::Error,
                    &format!("the quorum disk does not answer this node: {now}"),
                );
            }
            None if before.is_some() && known => {
                self.log(Level::Cleared, "the quorum disk answers this node again");
            }
            _ => {}
        }
    }

    fn look_after_guard(&mut self) {
        if self
            .guard_lost
            .is_some_and(|since| since.elapsed() >= GUARD_LIMIT)
        {
            self.guard_lost = Some(tokio::time::Instant::now());
            self.log(
                Level::Error,
                "there has been no guard for 2 s: nothing is permitted without it",
            );
            let actions = self.node.guard_restarted(now());
            self.act(actions);
        }
    }

    fn exec_event(&mut self, event: ExecEvent) {
        match event {
            ExecEvent::Done { id, result } => self.step(Input::Done { id, result }),
            ExecEvent::Fact {
                group,
                resource,
                fact,
            } => self.step(Input::Fact {
                group,
                resource,
                fact,
            }),
            ExecEvent::Log(text) => self.log(Level::Message, &text),
        }
    }

    fn net(&mut self, net: Net) {
        match net {
            Net::Message {
                cluster,
                from,
                message,
            } => {
                let member = self
                    .node
                    .document()
                    .is_some_and(|d| d.config.members().contains(&from));
                if cluster == self.cluster && member {
                    self.step(Input::Message {
                        from,
                        message: *message,
                    });
                }
            }
            Net::Join {
                from,
                request,
                reply,
            } => self.join(from, *request, reply),
            Net::Passed {
                cluster,
                from,
                answer,
                passed,
            } => {
                let node = self
                    .node
                    .document()
                    .is_some_and(|d| d.config.nodes.contains_key(&from));
                if cluster == self.cluster && node {
                    self.passed(from, answer, passed);
                }
            }
            Net::Problem(text) => self.log(Level::Warning, &text),
        }
    }

    fn written(&mut self, written: Written) {
        match written {
            Written::UpTo(id) => self.step(Input::Persisted(id)),
            Written::Failing(text) => {
                self.log(
                    Level::Error,
                    &format!("this node cannot keep its state, so it agrees to nothing: {text}"),
                );
            }
        }
    }

    fn log(&mut self, level: Level, text: &str) {
        let name = self
            .node
            .document()
            .map(|document| document.config.name_of(self.keys.member));
        self.events
            .add(level_name(level), name, None, text.to_owned());
    }

    fn record(&mut self, event: &Event) {
        let Some(document) = self.node.document().cloned() else {
            return;
        };
        let config = &document.config;
        let node = event.node.map(|node| config.name_of(node));
        let text = event_text(&event.what, config, node.as_deref().unwrap_or(""));
        let group = event.group.as_ref().map(ToString::to_string);
        self.events.add(level_name(event.level), node, group, text);
    }

    fn asked(&mut self, asked: Asked) {
        crate::calls::answer(self, asked);
    }

    /// Where the device of a mirror is while it is open.
    pub(crate) fn device(&self, key: &mirrors::Key) -> PathBuf {
        mirrors::device(&self.paths.run, key)
    }

    pub(crate) fn revisions(&self) -> PathBuf {
        self.paths.lib.join("revisions")
    }

    pub(crate) fn document(&self) -> Option<Arc<Document>> {
        self.node.document().cloned()
    }

    /// Is the member online, or silent for too short a time to be called down?
    fn hears(&self, member: MemberId) -> bool {
        let status = self.node.status(now());
        let seen = status.members.get(&member).map(|seen| seen.presence);
        matches!(
            seen,
            Some(Presence::Online { .. } | Presence::Silent { .. })
        )
    }

    /// Asks another node's daemon on the caller's behalf.
    pub(crate) fn pass_on(&mut self, node: &str, call: Call, reply: oneshot::Sender<Answer>) {
        let Some(document) = self.node.document() else {
            let _ = reply.send(Reply::Refused(crate::calls::NO_DOCUMENT.into()).into());
            return;
        };
        let member = document.config.node_named(node);
        let refusal = match member {
            None => format!("there is no node `{node}`"),
            Some(member) if member == self.keys.member => {
                return crate::calls::answer(self, Asked { call, reply });
            }
            Some(_) if !crate::calls::may_be_passed(&call) => {
                format!("this cannot be asked of {node} from here: run the command there")
            }
            // A connection may outlive its other end for a while.
            Some(member)
                if !self.hears(member) || !self.transport.reaches(self.cluster, member) =>
            {
                format!("{node} cannot be reached now")
            }
            Some(member) => {
                let passed = self.passing.begin(call, reply);
                self.transport.pass(self.cluster, member, false, &passed);
                return;
            }
        };
        let _ = reply.send(Reply::Refused(refusal).into());
    }

    fn passed(&mut self, from: MemberId, answer: bool, passed: Passed) {
        if answer {
            return self.passing.answered(passed);
        }
        let Some(call) = self.passing.hear(from, &passed) else {
            return;
        };
        let (reply, answer) = oneshot::channel();
        if crate::calls::may_be_passed(&call) {
            crate::calls::answer(self, Asked { call, reply });
        } else {
            let refusal = "this may not be asked from another node";
            let _ = reply.send(Reply::Refused(refusal.into()).into());
        }
        let transport = self.transport.clone();
        let cluster = self.cluster;
        let number = passed.number;
        tokio::spawn(async move {
            if let Ok(answer) = answer.await
                && let Ok(text) = serde_json::to_string(&answer.reply)
            {
                transport.pass(cluster, from, true, &Passed { number, text });
            }
        });
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Message => "message",
        Level::Warning => "warning",
        Level::Error => "error",
        Level::Cleared => "cleared",
    }
}

fn event_text(what: &What, config: &hotpair_core::config::Cluster, node: &str) -> String {
    match what {
        What::Leads { term } => format!("{node} leads since term {}", term.0),
        What::Decided { from, to, reason } => {
            let name = |member: &Option<MemberId>| member.map(|member| config.name_of(member));
            let reason = reason.text(config);
            match (name(from), name(to)) {
                (Some(from), Some(to)) if from == to => format!("stays on {to}: {reason}"),
                (Some(from), Some(to)) => format!("moves from {from} to {to}: {reason}"),
                (None, Some(to)) => format!("given to {to}: {reason}"),
                (Some(from), None) => format!("taken from {from}: {reason}"),
                (None, None) => reason,
            }
        }
        What::GroupState { state, detail } if detail.is_empty() => format!("{state} on {node}"),
        What::GroupState { state, detail } => format!("{state} on {node}: {detail}"),
        What::MemberUp => format!("{node} is heard"),
        What::MemberDown { silent } => format!(
            "{node} has not been heard on any link for {} ms",
            silent.as_millis()
        ),
        What::MemberRebooted => format!("{node} was restarted"),
        What::LeaseHeld => format!("{node} holds a lease: a majority of the voters answers it"),
        What::LeaseLost => {
            format!("{node} has lost its lease: no majority of the voters answers it")
        }
        What::VoterRefused { detail } => format!("{node} is not counted as a voter: {detail}"),
        What::Text(text) => text.clone(),
    }
}
