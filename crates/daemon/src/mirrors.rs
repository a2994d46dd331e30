//! Mirror processes: one for each mirror that has a copy on this node. They are started here, outlive
//! the daemon, and are connected to again.
//!
//! ```text
//!   daemon's task --orders, setup--> Mirrors --> a task for each mirror <--frames--> its process
//!        ^ news                        ^ work (waits for its end)
//!        +-----------------------------+-- executor's threads
//! ```

use crate::paths::Paths;
use hotpair_core::document::Document;
use hotpair_core::ids::{Epoch, GroupId, HostBoot, MemberId, ResourceId};
use hotpair_core::mirror::{MirrorId, MirrorOrders, MirrorReport};
use hotpair_volume::protocol::{
    FRAME_LIMIT, FromMirror, KIND, MirrorLink, MirrorStatus, Setup, ToMirror, Work, pid_file,
};
use hotpair_wire::codec;
use hotpair_wire::frame::{self, Decoder};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as threads;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

const START_LIMIT: Duration = Duration::from_secs(3);
/// Between two tries to start a process that does not come up.
const START_GAP: Duration = Duration::from_millis(500);
const LOOK_GAP: Duration = Duration::from_millis(10);
/// How long a process that was just found is listened to for its first report.
const ADOPT_LIMIT: Duration = Duration::from_secs(1);

/// A mirror, by its group and its name.
pub type Key = (GroupId, ResourceId);

/// What is heard of mirror processes.
#[derive(Debug)]
pub enum MirrorNews {
    /// It is connected and knows nothing, or has forgotten what it was told by an earlier daemon.
    Connected(Key),
    Report(Key, Box<MirrorReport>),
    Note {
        key: Key,
        error: bool,
        text: String,
    },
    /// Its connection closed: most likely it has ended.
    Lost(Key),
}

/// Every mirror process of this node. Cheap to clone.
#[derive(Clone)]
pub struct Mirrors {
    shared: Arc<Shared>,
}

struct Shared {
    paths: Paths,
    cgroup_root: PathBuf,
    news: mpsc::UnboundedSender<MirrorNews>,
    entries: Mutex<BTreeMap<Key, Entry>>,
    next_ticket: AtomicU64,
}

#[derive(Default)]
struct Entry {
    setup: Option<Setup>,
    connection: Option<mpsc::UnboundedSender<ToMirror>>,
    task: Option<tokio::task::JoinHandle<()>>,
    /// Who waits for the end of which work.
    waiting: BTreeMap<u64, threads::SyncSender<Result<(), String>>>,
    report: Option<MirrorReport>,
    status: Option<MirrorStatus>,
}

impl std::fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries().keys()).finish()
    }
}

/// What every setup of this node has in common.
pub struct Own<'a> {
    pub me: MemberId,
    pub boot: HostBoot,
    pub cluster: u64,
    pub certificates: &'a str,
    pub key: &'a str,
}

impl Mirrors {
    pub fn new(
        paths: Paths,
        cgroup_root: PathBuf,
        news: mpsc::UnboundedSender<MirrorNews>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                paths,
                cgroup_root,
                news,
                entries: Mutex::default(),
                // Tickets of an earlier daemon must not be taken for ours.
                next_ticket: AtomicU64::new(hotpair_host::clock::read().boottime_us),
            }),
        }
    }

    /// Starts the processes that the document asks for and ends those it does not have any more.
    /// To be called within the runtime.
    pub fn configure(&self, document: &Document, own: &Own<'_>) {
        let mut wanted = BTreeMap::new();
        for (group, config) in &document.config.groups {
            for (resource, mirror) in config.mirrors() {
                if mirror.copies.contains_key(&own.me) {
                    let key = (group.clone(), resource.clone());
                    let setup = self.setup(document, &key, mirror, own);
                    wanted.extend(setup.map(|setup| (key, setup)));
                }
            }
        }
        let mut entries = self.entries();
        entries.retain(|key, entry| {
            let keep = wanted.contains_key(key);
            if !keep {
                entry.send(ToMirror::End);
                if let Some(task) = entry.task.take() {
                    // It has time to pass the word on.
                    tokio::spawn(async move {
                        tokio::time::sleep(START_GAP).await;
                        task.abort();
                    });
                }
            }
            keep
        });
        for (key, setup) in wanted {
            let entry = entries.entry(key.clone()).or_default();
            if entry.setup.as_ref() != Some(&setup) {
                entry.setup = Some(setup.clone());
                entry.send(ToMirror::Setup(Box::new(setup)));
            }
            if entry.task.is_none() {
                let shared = Arc::clone(&self.shared);
                entry.task = Some(tokio::spawn(keep(shared, key)));
            }
        }
    }

    fn setup(
        &self,
        document: &Document,
        key: &Key,
        mirror: &hotpair_core::config::Mirror,
        own: &Own<'_>,
    ) -> Option<Setup> {
        let place = mirror.copies.get(&own.me)?.clone();
        let names: Vec<&String> = if mirror.links.is_empty() {
            document
                .config
                .links
                .iter()
                .map(|link| &link.name)
                .collect()
        } else {
            mirror.links.iter().collect()
        };
        let mut links = Vec::new();
        for name in names {
            let Some(link) = document.config.links.iter().find(|link| link.name == *name) else {
                continue;
            };
            let Some(local) = link.addresses.get(&own.me) else {
                continue;
            };
            let peers = mirror.copies.keys().filter(|&&peer| peer != own.me);
            for &peer in peers {
                if let Some(remote) = link.addresses.get(&peer) {
                    links.push(MirrorLink {
                        name: name.clone(),
                        local: SocketAddr::new(local.ip(), mirror.port),
                        peer,
                        remote: SocketAddr::new(remote.ip(), mirror.port),
                    });
                }
            }
        }
        Some(Setup {
            mirror: MirrorId {
                group: key.0.clone(),
                resource: key.1.clone(),
            },
            me: own.me,
            boot: own.boot,
            cluster: own.cluster,
            certificates: own.certificates.to_owned(),
            key: own.key.to_owned(),
            links,
            place,
            export: mirror.export,
            on_disk_failure: mirror.on_disk_failure,
            resync_rate: mirror.resync_rate,
            gate: self.shared.paths.gate(&key.0),
            device: device(&self.shared.paths.run, key),
            directory: self.shared.paths.mirror_directory(key),
        })
    }

    /// What the deciding half wants of a mirror.
    pub fn order(&self, key: &Key, orders: MirrorOrders) {
        if let Some(entry) = self.entries().get(key) {
            entry.send(ToMirror::Orders(Box::new(orders)));
        }
    }

    /// Work of the mirror's process, to its end. Blocks; not for the daemon's task.
    ///
    /// # Errors
    /// It failed, the process is not there or ended meanwhile, or `limit` has passed.
    pub fn work(&self, key: &Key, work: Work, limit: Duration) -> Result<(), String> {
        let waiting = self.begin_soon(key, work)?;
        match waiting.recv_timeout(limit) {
            Ok(result) => result,
            Err(threads::RecvTimeoutError::Timeout) => Err(format!(
                "the mirror process has not ended it within {} s",
                limit.as_secs_f32()
            )),
            Err(threads::RecvTimeoutError::Disconnected) => {
                Err("the mirror process has ended meanwhile".into())
            }
        }
    }

    /// A process that has just ended is started anew within moments.
    fn begin_soon(
        &self,
        key: &Key,
        work: Work,
    ) -> Result<threads::Receiver<Result<(), String>>, String> {
        let begun = Instant::now();
        loop {
            match self.begin(key, work.clone()) {
                Err(_) if begun.elapsed() < START_LIMIT => std::thread::sleep(LOOK_GAP),
                begun => return begun,
            }
        }
    }

    /// Takes the device away at once. A process that does not do that within `limit` is killed; with
    /// it its device is gone, too. Blocks.
    ///
    /// # Errors
    /// The process is there, does not answer, and could not be killed.
    pub fn abort(&self, key: &Key, limit: Duration) -> Result<(), String> {
        let aborted = self
            .begin(key, Work::Abort)
            .map(|waiting| waiting.recv_timeout(limit / 2));
        if matches!(aborted, Ok(Ok(Ok(())))) {
            return Ok(());
        }
        kill(&self.shared.paths.mirror_socket(key), limit / 2)
    }

    /// Begins work of the mirror's process; its end comes over the channel.
    ///
    /// # Errors
    /// The process is not there.
    pub fn begin(
        &self,
        key: &Key,
        work: Work,
    ) -> Result<threads::Receiver<Result<(), String>>, String> {
        let ticket = self.shared.next_ticket.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = threads::sync_channel(1);
        let mut entries = self.entries();
        let entry = entries
            .get_mut(key)
            .ok_or("there is no such mirror on this node")?;
        if entry.connection.is_none() {
            return Err(
                "the mirror process is not running: it is being started; see mirror.log".into(),
            );
        }
        entry.waiting.insert(ticket, sender);
        entry.send(ToMirror::Work { ticket, work });
        Ok(receiver)
    }

    pub fn report(&self, key: &Key) -> Option<MirrorReport> {
        self.entries().get(key)?.report.clone()
    }

    pub fn status(&self, key: &Key) -> Option<MirrorStatus> {
        self.entries().get(key)?.status.clone()
    }

    /// The epoch in which a process that an earlier daemon left has the device open, if it does.
    /// Blocks for a second at most; for the start of the daemon.
    pub fn adopt(&self, key: &Key) -> Option<Epoch> {
        let mut stream =
            std::os::unix::net::UnixStream::connect(self.shared.paths.mirror_socket(key)).ok()?;
        stream.set_read_timeout(Some(ADOPT_LIMIT)).ok()?;
        let query = frame::encode(KIND, &codec::encode(&ToMirror::Query), FRAME_LIMIT).ok()?;
        stream.write_all(&query).ok()?;
        let begun = Instant::now();
        let mut decoder = Decoder::new(FRAME_LIMIT);
        let mut buffer = vec![0; 16 * 1024];
        while begun.elapsed() < ADOPT_LIMIT {
            let length = stream.read(&mut buffer).ok().filter(|&length| length > 0)?;
            let mut chunk = &buffer[..length];
            while let Ok(Some(frame)) = decoder.advance(&mut chunk) {
                if let Ok(FromMirror::Report(report)) = codec::decode(&frame.payload) {
                    return report.opened.filter(|_| report.open);
                }
            }
        }
        None
    }

    /// An error for the event log.
    pub fn note(&self, key: &Key, text: String) {
        self.shared.tell(MirrorNews::Note {
            key: key.clone(),
            error: true,
            text,
        });
    }

    /// Ends every process in good order: the daemon ends for good.
    pub fn end(&self) {
        for entry in self.entries().values() {
            entry.send(ToMirror::End);
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.shared.entries()
    }
}

/// Where the block device of an open mirror is found.
#[must_use]
pub fn device(run: &Path, key: &Key) -> PathBuf {
    run.join("devices").join(&key.0.0).join(&key.1.0)
}

impl Entry {
    fn send(&self, message: ToMirror) {
        if let Some(connection) = &self.connection {
            let _ = connection.send(message);
        }
    }
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False: nobody listens any more.
    fn tell(&self, news: MirrorNews) -> bool {
        self.news.send(news).is_ok()
    }

    fn connected(&self, key: &Key, connection: mpsc::UnboundedSender<ToMirror>) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(key) else {
            return false;
        };
        if let Some(setup) = &entry.setup {
            let _ = connection.send(ToMirror::Setup(Box::new(setup.clone())));
        }
        entry.connection = Some(connection);
        drop(entries);
        self.tell(MirrorNews::Connected(key.clone()))
    }

    fn lost(&self, key: &Key) -> bool {
        if let Some(entry) = self.entries().get_mut(key) {
            entry.connection = None;
            entry.waiting.clear();
            entry.report = None;
            entry.status = None;
        }
        self.tell(MirrorNews::Lost(key.clone()))
    }

    fn heard(&self, key: &Key, message: FromMirror) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(key) else {
            return true;
        };
        match message {
            FromMirror::Report(report) => {
                entry.report = Some((*report).clone());
                drop(entries);
                self.tell(MirrorNews::Report(key.clone(), report))
            }
            FromMirror::Status(status) => {
                entry.status = Some(*status);
                true
            }
            FromMirror::Done { ticket, result } => {
                if let Some(waiting) = entry.waiting.remove(&ticket) {
                    let _ = waiting.try_send(result);
                }
                true
            }
            FromMirror::Note { error, text } => {
                drop(entries);
                self.tell(MirrorNews::Note {
                    key: key.clone(),
                    error,
                    text,
                })
            }
        }
    }
}

/// Kills the process that serves `socket`, if there is one, and waits for its end.
fn kill(socket: &Path, limit: Duration) -> Result<(), String> {
    use rustix::fs::{FlockOperation, flock};
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Ok(mut file) = std::fs::File::open(pid_file(socket)) else {
        return Ok(());
    };
    let ended =
        |file: &std::fs::File| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if ended(&file) {
        return Ok(());
    }
    let mut text = String::new();
    let pid = file
        .read_to_string(&mut text)
        .ok()
        .and_then(|_| text.trim().parse().ok())
        .and_then(Pid::from_raw)
        .ok_or("its mirror process does not answer and has not left its number")?;
    let handle = pidfd_open(pid, PidfdFlags::empty());
    // The lock is looked at again with the handle in hand: the number may have been given anew.
    if ended(&file) {
        return Ok(());
    }
    handle
        .and_then(|handle| pidfd_send_signal(handle, Signal::KILL))
        .map_err(|error| format!("its mirror process {text} cannot be killed: {error}"))?;
    let begun = Instant::now();
    while !ended(&file) {
        if begun.elapsed() >= limit {
            return Err(format!(
                "its mirror process {text} does not end when killed"
            ));
        }
        std::thread::sleep(LOOK_GAP);
    }
    Ok(())
}

/// Keeps the process of one mirror running and connected.
async fn keep(shared: Arc<Shared>, key: Key) {
    // Until the mirror is taken out of the configuration.
    while shared.entries().contains_key(&key) {
        match connect(&shared, &key).await {
            Ok(stream) => {
                if !converse(&shared, &key, stream).await {
                    return;
                }
            }
            Err(error) => {
                let news = MirrorNews::Note {
                    key: key.clone(),
                    error: true,
                    text: format!("its mirror process cannot be started: {error}"),
                };
                if !shared.tell(news) {
                    return;
                }
                tokio::time::sleep(START_GAP * 10).await;
            }
        }
        tokio::time::sleep(START_GAP / 10).await;
    }
}

async fn connect(shared: &Shared, key: &Key) -> io::Result<UnixStream> {
    let socket = shared.paths.mirror_socket(key);
    if let Ok(stream) = UnixStream::connect(&socket).await {
        return Ok(stream);
    }
    start(shared, key)?;
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// In a process group and cgroup of its own, so that it outlives the daemon and the group's kill.
fn start(shared: &Shared, key: &Key) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    let socket = shared.paths.mirror_socket(key);
    if let Some(directory) = socket.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::create_dir_all(shared.paths.mirror_directory(key))?;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(shared.paths.log.join("mirror.log"))?;
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .arg("volume")
        .arg("--socket")
        .arg(&socket)
        .arg("--name")
        .arg(format!("{}.{}", key.0, key.1))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let cgroup = shared.cgroup_root.join("mirrors");
    let placed = std::fs::create_dir_all(&cgroup)
        .and_then(|()| std::fs::write(cgroup.join("cgroup.procs"), child.id().to_string()));
    if let Err(error) = placed {
        shared.tell(MirrorNews::Note {
            key: key.clone(),
            error: true,
            text: format!(
                "its mirror process could not be moved to {}: {error}",
                cgroup.display()
            ),
        });
    }
    // Reaped when it ends while this daemon runs; afterwards init does it.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// False: nobody listens any more.
async fn converse(shared: &Shared, key: &Key, stream: UnixStream) -> bool {
    let (mut reader, mut writer) = stream.into_split();
    let (sender, mut outgoing) = mpsc::unbounded_channel::<ToMirror>();
    if !shared.connected(key, sender) {
        return false;
    }
    let writing = async move {
        while let Some(message) = outgoing.recv().await {
            let Ok(bytes) = frame::encode(KIND, &codec::encode(&message), FRAME_LIMIT) else {
                continue;
            };
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let reading = async {
        let mut decoder = Decoder::new(FRAME_LIMIT);
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(length) = reader.read(&mut buffer).await else {
                break true;
            };
            if length == 0 {
                break true;
            }
            let mut chunk = &buffer[..length];
            while let Ok(Some(frame)) = decoder.advance(&mut chunk) {
                if let Ok(message) = codec::decode(&frame.payload)
                    && !shared.heard(key, message)
                {
                    return false;
                }
            }
        }
    };
    let listened = tokio::select! {
        () = writing => true,
        listened = reading => listened,
    };
    shared.lost(key) && listened
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that holds the lock as a mirror process does.
    fn holder(directory: &Path) -> (PathBuf, std::process::Child) {
        let socket = directory.join("db.data.sock");
        let file = pid_file(&socket);
        std::fs::write(&file, "").unwrap();
        let child = std::process::Command::new("flock")
            .arg("--no-fork")
            .arg(&file)
            .args(["sh", "-c", "echo $$ > \"$1\"; exec sleep 60", "sh"])
            .arg(&file)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while std::fs::read_to_string(&file).unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        (socket, child)
    }

    #[test]
    fn a_process_that_does_not_answer_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let (socket, mut child) = holder(directory.path());
        let reaping = std::thread::spawn(move || child.wait().unwrap());
        kill(&socket, Duration::from_secs(10)).unwrap();
        assert!(!reaping.join().unwrap().success());
    }

    #[test]
    fn where_no_process_holds_the_lock_nobody_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("db.data.sock");
        kill(&socket, Duration::from_secs(1)).unwrap();
        // A number that was left behind and now is somebody else's.
        std::fs::write(pid_file(&socket), std::process::id().to_string()).unwrap();
        kill(&socket, Duration::from_secs(1)).unwrap();
    }
}
