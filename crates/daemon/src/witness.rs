//! The witness: the third vote, for many clusters, on a machine that runs none of their groups.
//!
//! For each cluster it is an ordinary voter that never stands: the same [`Guard`] and [`Node`] as on
//! a node, in one process, since there are no services here that must outlive it. It answers from
//! where it was asked, so it needs no addresses of the nodes. A vote or an acceptance is on disk
//! before it is sent; promises are kept in /run under the host's boot.

use crate::guard::process::now;
use crate::guard::protocol::WITNESS_PATH;
use crate::join::{self, JoinError, JoinReply, JoinStep, Joining};
use crate::paths::Paths;
use crate::persist::{self, Written};
use crate::store::{self, Keys, StoreError};
use crate::transport::{Listeners, Net, Transport};
use hotpair_core::guard::{Guard, GuardAction, GuardIdentity, GuardInput, Promises};
use hotpair_core::ids::{HostBoot, Incarnation, MemberId};
use hotpair_core::message::Datagram;
use hotpair_core::node::{Action, Durable, Identity, Input, Node, PersistId};
use hotpair_host::durable::{Format, Slots};
use hotpair_host::net::udp;
use hotpair_wire::ClusterId;
use hotpair_wire::codec;
use hotpair_wire::pki;
use hotpair_wire::replay::{ReplayWindow, Verdict};
use hotpair_wire::seal::{MAX_DATAGRAM, Opener, Sealer, StartSalt, peek};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

const PROMISES: Format = Format {
    magic: *b"hpromise",
    version: 1,
};
const PROMISES_SIZE: usize = 16 * 1024;
/// Ways back to a member that are remembered: one for each link it asks over, and then some.
const WAYS: usize = 16;

/// Why the witness could not start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error(
        "this witness serves no cluster yet: run `hotpair token --witness` on a node and `hotpair witness join TOKEN` here"
    )]
    NoCluster,
    #[error("{path}: {source}")]
    Store { path: PathBuf, source: StoreError },
    #[error(transparent)]
    Keys(#[from] pki::PkiError),
    #[error(transparent)]
    Udp(#[from] udp::UdpError),
    #[error("{0}")]
    Text(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Directory of one cluster's files on the witness.
fn cluster_paths(paths: &Paths, cluster: u64) -> Paths {
    let name = format!("{cluster:016x}");
    Paths {
        lib: paths.lib.join("witness").join(&name),
        run: paths.run.join("witness").join(&name),
        ..paths.clone()
    }
}

/// Enrols this machine as the witness of the token's cluster. `addresses`: where it is reached.
///
/// # Errors
/// No node answers, the cluster refuses, or the files cannot be written.
pub async fn join(
    paths: &Paths,
    token: &str,
    name: &str,
    addresses: &[SocketAddr],
) -> Result<String, JoinError> {
    paths.make()?;
    let joining = Joining::with(token)?;
    let JoinReply::Cluster { name: cluster, .. } = joining.ask(JoinStep::Look).await? else {
        return Err(JoinError::Refused(
            "the cluster answered something else than was asked".into(),
        ));
    };
    let step = JoinStep::Witness {
        name: name.to_owned(),
        addresses: addresses.to_vec(),
    };
    let reply = joining.ask(step).await?;
    let JoinReply::Welcome { keys, .. } = &reply else {
        return Err(JoinError::Refused(
            "the cluster answered something else than was asked".into(),
        ));
    };
    let id = keys.identity()?.member().cluster;
    let own = cluster_paths(paths, id.0);
    own.make()?;
    store::write_text(&own.lib.join("name"), &cluster)?;
    join::enrol(&own, reply)?;
    Ok(cluster)
}

/// Runs the witness until it is ended.
///
/// # Errors
/// It serves no cluster, or its port cannot be opened.
pub fn run(paths: &Paths) -> Result<(), WitnessError> {
    for warning in hotpair_host::rt::enter(hotpair_host::rt::RealTime::default()) {
        eprintln!("witness: {warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { Witness::start(paths)?.serve().await })
}

struct Witness {
    paths: Paths,
    clusters: BTreeMap<u64, Voter>,
    sockets: Vec<UdpSocket>,
    listeners: Listeners,
    transport: Transport,
    net: mpsc::UnboundedReceiver<Net>,
    written: mpsc::UnboundedReceiver<(u64, Written)>,
    told: mpsc::UnboundedSender<(u64, Written)>,
    looked: tokio::time::Instant,
}

/// This machine's vote in one cluster.
struct Voter {
    cluster: u64,
    name: String,
    keys: Keys,
    guard: Guard,
    node: Node,
    boot: HostBoot,
    promises: Slots,
    opener: Opener,
    sealer: Sealer,
    windows: BTreeMap<MemberId, ReplayWindow>,
    /// Where each member asked from lately: socket and address, newest first.
    ways: BTreeMap<MemberId, VecDeque<(usize, SocketAddr)>>,
    writes: std::sync::mpsc::Sender<(PersistId, Box<Durable>)>,
}

impl Witness {
    fn start(paths: &Paths) -> Result<Self, WitnessError> {
        paths.make()?;
        let (net_sender, net) = mpsc::unbounded_channel();
        let (told, written) = mpsc::unbounded_channel();
        let transport = Transport::new(net_sender);
        let mut clusters = BTreeMap::new();
        for cluster in enrolled(paths) {
            let voter = Voter::start(&cluster_paths(paths, cluster), cluster, &told)?;
            clusters.insert(cluster, voter);
        }
        if clusters.is_empty() {
            return Err(WitnessError::NoCluster);
        }
        let identities = identities(&clusters)?;
        let mut listeners = Listeners::new(&identities, transport.clone())?;
        let addresses = listen_addresses(&clusters);
        listeners.listen(&addresses);
        let mut sockets = Vec::new();
        for address in &addresses {
            sockets.push(UdpSocket::from_std(udp::bind(*address, None)?)?);
        }
        if sockets.is_empty() {
            return Err(WitnessError::Text(
                "no cluster's document says where this witness listens: enrol it anew".into(),
            ));
        }
        let paths = paths.clone();
        Ok(Self {
            paths,
            clusters,
            sockets,
            listeners,
            transport,
            net,
            written,
            told,
            looked: tokio::time::Instant::now(),
        })
    }

    async fn serve(&mut self) -> Result<(), WitnessError> {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        for voter in self.clusters.values_mut() {
            voter.step_node(&self.transport, &self.sockets, Input::Tick);
        }
        loop {
            let due = self.next_deadline();
            tokio::select! {
                biased;
                () = readable(&self.sockets) => self.datagrams(),
                Some(net) = self.net.recv() => self.net(net),
                Some((cluster, written)) = self.written.recv() => self.written(cluster, written),
                _ = terminate.recv() => return Ok(()),
                () = tokio::time::sleep(due) => {}
            }
            for voter in self.clusters.values_mut() {
                voter.step_guard(&self.transport, &self.sockets, GuardInput::Tick);
                voter.step_node(&self.transport, &self.sockets, Input::Tick);
            }
            self.look_for_new_clusters();
        }
    }

    fn next_deadline(&self) -> Duration {
        let at = now();
        let due = self
            .clusters
            .values()
            .flat_map(|voter| [voter.guard.deadline(at), voter.node.deadline()])
            .flatten()
            .min();
        due.map_or(Duration::from_secs(1), |due| due.since(at.moment()))
            .clamp(Duration::from_millis(1), Duration::from_secs(1))
    }

    fn datagrams(&mut self) {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for number in 0..self.sockets.len() {
            // Bounded, so that a flood cannot starve the rest.
            for _ in 0..256 {
                let Ok((length, from)) = self.sockets[number].try_recv_from(&mut buffer) else {
                    break;
                };
                let bytes = &buffer[..length];
                let Ok(seen) = peek(bytes) else { continue };
                if let Some(voter) = self.clusters.get_mut(&seen.cluster.0) {
                    voter.datagram(&self.transport, &self.sockets, number, from, bytes);
                }
            }
        }
    }

    fn net(&mut self, net: Net) {
        match net {
            Net::Message {
                cluster,
                from,
                message,
            } => {
                if let Some(voter) = self.clusters.get_mut(&cluster) {
                    voter.step_node(
                        &self.transport,
                        &self.sockets,
                        Input::Message {
                            from,
                            message: *message,
                        },
                    );
                }
            }
            Net::Join { reply, .. } => {
                let _ = reply.send(JoinReply::Refused(
                    "this is a witness: join at one of the cluster's nodes".into(),
                ));
            }
            // A witness answers no calls.
            Net::Passed { .. } => {}
            Net::Problem(text) => eprintln!("witness: {text}"),
        }
    }

    fn written(&mut self, cluster: u64, written: Written) {
        match written {
            Written::UpTo(id) => {
                if let Some(voter) = self.clusters.get_mut(&cluster) {
                    voter.step_node(&self.transport, &self.sockets, Input::Persisted(id));
                }
            }
            Written::Failing(text) => eprintln!(
                "witness: cannot keep the state of {cluster:016x}, so it agrees to nothing: {text}"
            ),
        }
    }

    /// A cluster enrolled while the witness runs is served within seconds.
    fn look_for_new_clusters(&mut self) {
        if self.looked.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.looked = tokio::time::Instant::now();
        for cluster in enrolled(&self.paths) {
            if self.clusters.contains_key(&cluster) {
                continue;
            }
            match self.add(cluster) {
                Ok(()) => eprintln!("witness: serves cluster {cluster:016x} from now on"),
                Err(error) => {
                    eprintln!("witness: cluster {cluster:016x} cannot be served: {error}")
                }
            }
        }
    }

    fn add(&mut self, cluster: u64) -> Result<(), WitnessError> {
        let voter = Voter::start(&cluster_paths(&self.paths, cluster), cluster, &self.told)?;
        self.clusters.insert(cluster, voter);
        self.listeners.serve_as(&identities(&self.clusters)?)?;
        let addresses = listen_addresses(&self.clusters);
        self.listeners.listen(&addresses);
        for address in addresses {
            if !self
                .sockets
                .iter()
                .any(|socket| socket.local_addr().is_ok_and(|local| local == address))
            {
                self.sockets
                    .push(UdpSocket::from_std(udp::bind(address, None)?)?);
            }
        }
        Ok(())
    }
}

/// Is this machine a witness, and no node?
#[must_use]
pub fn is_only_witness(paths: &Paths) -> bool {
    !store::enrolled(paths) && !enrolled(paths).is_empty()
}

fn enrolled(paths: &Paths) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(paths.lib.join("witness")) else {
        return Vec::new();
    };
    let number = |entry: std::fs::DirEntry| {
        let cluster = u64::from_str_radix(entry.file_name().to_str()?, 16).ok()?;
        store::enrolled(&cluster_paths(paths, cluster)).then_some(cluster)
    };
    entries.flatten().filter_map(number).collect()
}

fn identities(clusters: &BTreeMap<u64, Voter>) -> Result<Vec<pki::Identity>, WitnessError> {
    clusters
        .values()
        .map(|voter| Ok(voter.keys.identity()?))
        .collect()
}

fn listen_addresses(clusters: &BTreeMap<u64, Voter>) -> BTreeSet<SocketAddr> {
    let of = |voter: &Voter| {
        let document = voter.node.document()?;
        document
            .config
            .witness
            .as_ref()
            .map(|witness| witness.addresses.clone())
    };
    clusters.values().filter_map(of).flatten().collect()
}

async fn readable(sockets: &[UdpSocket]) {
    let waits = sockets.iter().map(|socket| Box::pin(socket.readable()));
    let mut waits: Vec<_> = waits.collect();
    std::future::poll_fn(|context| {
        let ready = waits
            .iter_mut()
            .any(|wait| wait.as_mut().poll(context).is_ready());
        if ready {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

impl Voter {
    fn start(
        paths: &Paths,
        cluster: u64,
        told: &mpsc::UnboundedSender<(u64, Written)>,
    ) -> Result<Self, WitnessError> {
        let store = |source| WitnessError::Store {
            path: paths.lib.clone(),
            source,
        };
        paths.make()?;
        let keys = store::read_keys(paths).map_err(store)?;
        let state = store::read_state(&paths.state()).map_err(store)?;
        let (boot, _) = store::host_boot(paths).map_err(store)?;
        let seed = store::random_u64().map_err(store)?;
        let start = now();
        let (promises, saved) = recall(&paths.promises(), boot)?;
        let guard_identity = GuardIdentity {
            me: keys.member,
            boot,
            run: Incarnation(start.boot_us),
        };
        let identity = Identity {
            me: keys.member,
            boot,
            incarnation: Incarnation(start.boot_us),
            seed,
        };
        let keyring = keys.keyring(ClusterId(cluster));
        let salt = StartSalt::generate(&ring::rand::SystemRandom::new())
            .map_err(|_| WitnessError::Text("the kernel has no random numbers".into()))?;
        let name = std::fs::read_to_string(paths.lib.join("name")).unwrap_or_default();
        Ok(Self {
            cluster,
            name,
            guard: Guard::restore(guard_identity, saved, start),
            node: Node::restore(identity, state, start),
            boot,
            promises,
            sealer: Sealer::new(&keyring, keys.member.0, salt),
            opener: Opener::new(keyring),
            windows: BTreeMap::new(),
            ways: BTreeMap::new(),
            writes: persist_tagged(paths.state(), cluster, told.clone()),
            keys,
        })
    }

    fn datagram(
        &mut self,
        transport: &Transport,
        sockets: &[UdpSocket],
        socket: usize,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        let Ok(opened) = self.opener.open(bytes) else {
            return;
        };
        let sender = MemberId(opened.sender);
        let Ok(Datagram::Beat(beat)) = codec::decode::<Datagram>(&opened.plaintext) else {
            return;
        };
        if beat.from != sender {
            return;
        }
        let verdict =
            self.windows
                .entry(sender)
                .or_default()
                .accept(beat.boot.0, beat.run.0, beat.seq);
        if !matches!(verdict, Verdict::Fresh | Verdict::Duplicate) {
            return;
        }
        let ways = self.ways.entry(sender).or_default();
        ways.retain(|way| *way != (socket, from));
        ways.push_front((socket, from));
        ways.truncate(WAYS);
        if verdict == Verdict::Fresh {
            self.step_guard(
                transport,
                sockets,
                GuardInput::Datagram(Box::new(Datagram::Beat(beat))),
            );
        }
    }

    fn step_guard(&mut self, transport: &Transport, sockets: &[UdpSocket], input: GuardInput) {
        for action in self.guard.step(now(), input) {
            match action {
                GuardAction::Send { to, datagram } => self.send(sockets, to, &datagram),
                GuardAction::SavePromises => {
                    if let Err(error) = self
                        .promises
                        .write(&codec::encode(&(self.boot, self.guard.promises())))
                    {
                        // A promise that is not kept must not be given.
                        eprintln!(
                            "witness: promises of {} cannot be kept ({error}): ending",
                            self.name
                        );
                        std::process::exit(3);
                    }
                }
                GuardAction::Event(event) => {
                    self.step_node(transport, sockets, Input::Guard(event))
                }
                // It runs no groups.
                GuardAction::Cut { .. } | GuardAction::Open { .. } => {}
            }
        }
    }

    fn step_node(&mut self, transport: &Transport, sockets: &[UdpSocket], input: Input) {
        for action in self.node.step(now(), input) {
            match action {
                Action::Send { to, message } => transport.send(self.cluster, to, &message),
                Action::Persist { id, state } => {
                    // The thread ends with the process only.
                    let _ = self.writes.send((id, state));
                }
                Action::Guard(wanted) => {
                    self.step_guard(transport, sockets, GuardInput::Wanted(wanted))
                }
                Action::Resource(_)
                | Action::Mirror { .. }
                | Action::Answer { .. }
                | Action::Event(_)
                | Action::Fence { .. }
                | Action::Host(_) => {}
            }
        }
    }

    fn send(&mut self, sockets: &[UdpSocket], to: MemberId, datagram: &Datagram) {
        let plain = codec::encode(datagram);
        let mut sealed = Vec::with_capacity(MAX_DATAGRAM);
        for (socket, address) in self.ways.get(&to).into_iter().flatten() {
            if self.sealer.seal(WITNESS_PATH, &plain, &mut sealed).is_ok()
                && let Some(socket) = sockets.get(*socket)
            {
                let _ = socket.try_send_to(&sealed, *address);
            }
        }
    }
}

fn recall(path: &Path, boot: HostBoot) -> Result<(Slots, Option<Promises>), WitnessError> {
    let fresh = || {
        Slots::create(path, PROMISES, PROMISES_SIZE)
            .map_err(|error| WitnessError::Text(error.to_string()))
    };
    let Ok((slots, Some(bytes))) = Slots::open(path, PROMISES, PROMISES_SIZE) else {
        return Ok((fresh()?, None));
    };
    match codec::decode::<(HostBoot, Promises)>(&bytes) {
        Ok((of, promises)) if of == boot => Ok((slots, Some(promises))),
        _ => Ok((fresh()?, None)),
    }
}

fn persist_tagged(
    path: PathBuf,
    cluster: u64,
    told: mpsc::UnboundedSender<(u64, Written)>,
) -> std::sync::mpsc::Sender<(PersistId, Box<Durable>)> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(written) = receiver.recv().await {
            if told.send((cluster, written)).is_err() {
                return;
            }
        }
    });
    persist::start(path, sender)
}
