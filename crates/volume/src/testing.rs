//! The daemon's end of a mirror process, for tests and benchmarks.

use crate::driver::device::full_name;
use crate::protocol::{FRAME_LIMIT, FromMirror, KIND, MirrorLink, Setup, ToMirror, Work};
use hotpair_core::config::{CopyPlace, Export, MirrorMode, OnDiskFailure};
use hotpair_core::ids::{Epoch, GroupId, HostBoot, MemberId, ResourceId, Version};
use hotpair_core::mirror::{
    Copy, Data, Disk, Generation, MirrorCommitted, MirrorId, MirrorOrders, MirrorReport,
};
use hotpair_host::clock;
use hotpair_host::gate_file::GateWriter;
use hotpair_wire::codec;
use hotpair_wire::frame::{self, Decoder};
use hotpair_wire::pki::Identity;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The socket and the name of the volume, for the program that serves it.
pub const SOCKET: &str = "HOTPAIR_TEST_VOLUME_SOCKET";
pub const NAME: &str = "HOTPAIR_TEST_VOLUME_NAME";
/// `nbd`: which export is used, if it is not that of the kernel's own choice.
pub const EXPORT: &str = "HOTPAIR_TEST_EXPORT";
/// For every answer.
const LIMIT: Duration = Duration::from_secs(30);

/// A mirror process with an open gate, and the connection to it.
pub struct Mirror {
    pub child: Child,
    pub gate: GateWriter,
    pub setup: Setup,
    name: String,
    directory: PathBuf,
    program: fn() -> io::Result<Command>,
    stream: UnixStream,
    decoder: Decoder,
    heard: Vec<FromMirror>,
    ticket: u64,
}

impl Mirror {
    /// Starts `program`, which must serve what [`SOCKET`] and [`NAME`] say. Files go to `directory`; the
    /// copy's place is `device`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(
        program: fn() -> io::Result<Command>,
        name: &str,
        directory: &Path,
        device: &Path,
        identity: &Identity,
    ) -> io::Result<Self> {
        let gate = GateWriter::create(&directory.join("gate"))?;
        gate.open(clock::read(), None);
        let (child, stream) = spawn(program, &directory.join("socket"), name)?;
        let mut mirror = Self {
            child,
            gate,
            setup: setup(directory, device, identity),
            name: name.to_owned(),
            directory: directory.to_owned(),
            program,
            stream,
            decoder: Decoder::new(FRAME_LIMIT),
            heard: Vec::new(),
            ticket: 0,
        };
        mirror.say_setup()?;
        Ok(mirror)
    }

    /// Serves the same volume by a new process, the old one having ended.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> io::Result<()> {
        (self.child, self.stream) =
            spawn(self.program, &self.directory.join("socket"), &self.name)?;
        self.decoder = Decoder::new(FRAME_LIMIT);
        self.heard.clear();
        self.say_setup()
    }

    /// As a daemon that was started anew.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&mut self) -> io::Result<()> {
        self.stream = UnixStream::connect(self.directory.join("socket"))?;
        self.decoder = Decoder::new(FRAME_LIMIT);
        self.heard.clear();
        Ok(())
    }

    /// # Errors
    /// The process has gone.
    pub fn say_setup(&mut self) -> io::Result<()> {
        let setup = Box::new(self.setup.clone());
        self.say(&ToMirror::Setup(setup))
    }

    /// # Errors
    /// The process has gone.
    pub fn say(&mut self, message: &ToMirror) -> io::Result<()> {
        let bytes = frame::encode(KIND, &codec::encode(message), FRAME_LIMIT);
        self.stream.write_all(&bytes.map_err(io::Error::other)?)
    }

    /// Asks for work and waits for its end.
    ///
    /// # Errors
    /// The process says why it is not done, or says nothing.
    pub fn work(&mut self, work: Work) -> Result<(), String> {
        self.ticket += 1;
        let ticket = self.ticket;
        self.say(&ToMirror::Work { ticket, work })
            .map_err(|error| error.to_string())?;
        let done = self.wait(|message| match message {
            FromMirror::Done {
                ticket: done,
                result,
            } if *done == ticket => Some(result.clone()),
            _ => None,
        });
        done.map_err(|error| error.to_string())?
    }

    /// Closes; where others on this host have copied a mount with their namespaces, once they are gone.
    ///
    /// # Errors
    /// It is not closed.
    pub fn close(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            match self.work(Work::Close) {
                Err(text) if text.contains("in use") && begin.elapsed() < LIMIT => {}
                ended => return ended,
            }
        }
    }

    /// Waits for a note with this text.
    ///
    /// # Errors
    /// None comes.
    pub fn wait_for_note(&mut self, part: &str) -> io::Result<String> {
        self.wait(|message| match message {
            FromMirror::Note { text, .. } if text.contains(part) => Some(text.clone()),
            _ => None,
        })
    }

    /// Waits until something is said of which `wanted` makes something, and takes it out of what was heard.
    ///
    /// # Errors
    /// It is not said, or the process has gone.
    pub fn wait<T>(&mut self, mut wanted: impl FnMut(&FromMirror) -> Option<T>) -> io::Result<T> {
        let begin = Instant::now();
        loop {
            for place in 0..self.heard.len() {
                if let Some(found) = wanted(&self.heard[place]) {
                    self.heard.remove(place);
                    return Ok(found);
                }
            }
            if begin.elapsed() > LIMIT {
                let text = format!("not said; but {:?}", self.heard);
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            self.hear(Duration::from_millis(200))?;
        }
    }

    /// Hears what is said within this time.
    ///
    /// # Errors
    /// The process has gone.
    pub fn hear(&mut self, limit: Duration) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        self.stream.set_read_timeout(Some(limit))?;
        let length = match self.stream.read(&mut buffer) {
            Ok(0) => {
                let text = format!("the process has hung up, after {:?}", self.heard);
                return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
            }
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut chunk = &buffer[..length];
        while let Some(frame) = self.decoder.advance(&mut chunk).map_err(io::Error::other)? {
            let message = codec::decode(&frame.payload).map_err(io::Error::other)?;
            self.heard.push(message);
        }
        Ok(())
    }

    /// Of what was heard, the last such thing; all of them are taken out.
    pub fn take_last<T>(&mut self, wanted: impl Fn(&FromMirror) -> Option<T>) -> Option<T> {
        let last = self.heard.iter().rev().find_map(&wanted);
        self.heard.retain(|message| wanted(message).is_none());
        last
    }

    /// What was heard and not taken out.
    #[must_use]
    pub fn heard(&self) -> &[FromMirror] {
        &self.heard
    }

    /// Has the process ended?
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Mirror {
    /// Kills the process and lets go of the device that is left over.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let name = full_name(self.setup.cluster, self.setup.me, &self.name);
        if let Ok(mut job) = crate::export::release_left_over(&name, true) {
            let begin = Instant::now();
            while job.outcome().is_none() && begin.elapsed() < LIMIT {
                std::thread::yield_now();
            }
        }
    }
}

fn spawn(
    program: fn() -> io::Result<Command>,
    socket: &Path,
    name: &str,
) -> io::Result<(Child, UnixStream)> {
    let _ = std::fs::remove_file(socket);
    let mut child = program()?
        .env(SOCKET, socket)
        .env(NAME, name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let begin = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok((child, stream)),
            Err(error) if begin.elapsed() > LIMIT || child.try_wait()?.is_some() => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn setup(directory: &Path, device: &Path, identity: &Identity) -> Setup {
    let member = identity.member();
    Setup {
        mirror: MirrorId {
            group: GroupId("test".into()),
            resource: ResourceId("data".into()),
        },
        me: MemberId(member.id),
        boot: HostBoot(1),
        cluster: member.cluster.0,
        certificates: identity.certificates_pem(),
        key: identity.key_pem(),
        links: Vec::new(),
        place: CopyPlace {
            device: device.display().to_string(),
            metadata: None,
        },
        export: match std::env::var(EXPORT).as_deref() {
            Ok("nbd") => Export::Nbd,
            _ => Export::Auto,
        },
        on_disk_failure: OnDiskFailure::FailOver,
        resync_rate: None,
        gate: directory.join("gate"),
        device: directory.join("dev/test/data"),
        directory: directory.join("state"),
    }
}

/// Two mirror processes with the real engine, and a leader that does what `docs/internals/mirror.md` says of
/// the document, as far as tests and benchmarks need it.
pub struct Pair {
    pub nodes: [Mirror; 2],
    pub data: Data,
    pub version: Version,
    pub epoch: Epoch,
    pub holder: Option<MemberId>,
    pub mode: MirrorMode,
    pub size: u64,
    pub peer_timeout: Duration,
    reports: [Option<MirrorReport>; 2],
}

impl Pair {
    /// Nothing is agreed yet: see [`make`](Self::make).
    #[must_use]
    pub fn new(nodes: [Mirror; 2], size: u64) -> Self {
        Self {
            nodes,
            data: Data::new(77, [MemberId(1), MemberId(2)]),
            version: Version::new(1, 1),
            epoch: Epoch(0),
            holder: None,
            mode: MirrorMode::Synchronous,
            size,
            peer_timeout: Duration::from_secs(2),
            reports: [None, None],
        }
    }

    /// Links both ways, one for each pair of addresses; the most preferred first.
    ///
    /// # Errors
    /// A process has gone.
    pub fn link(&mut self, links: &[(SocketAddr, SocketAddr)]) -> io::Result<()> {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.setup.links = links
                .iter()
                .enumerate()
                .map(|(number, &(first, second))| {
                    let (local, remote) = match index {
                        0 => (first, second),
                        _ => (second, first),
                    };
                    MirrorLink {
                        name: format!("link{number}"),
                        local,
                        peer: MemberId(if index == 0 { 2 } else { 1 }),
                        remote,
                    }
                })
                .collect();
            node.say_setup()?;
        }
        Ok(())
    }

    /// Node 0 holds the mirror, and opens it; the other copy is made.
    ///
    /// # Errors
    /// It does not come about in time.
    pub fn make(&mut self) -> io::Result<PathBuf> {
        self.turn_until(|pair| pair.data.is_up_to_date(MemberId(1)))?;
        self.hold(0)?;
        self.open(0)
    }

    /// Names the holder.
    ///
    /// # Errors
    /// A process has gone.
    pub fn hold(&mut self, node: usize) -> io::Result<()> {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.holder = Some(member(node));
        self.changed();
        self.tell(&[true, true])
    }

    /// # Errors
    /// It is not opened.
    pub fn open(&mut self, node: usize) -> io::Result<PathBuf> {
        let epoch = self.epoch;
        self.nodes[node]
            .work(Work::Open { epoch })
            .map_err(io::Error::other)?;
        Ok(self.nodes[node].setup.device.clone())
    }

    /// Until both copies have everything.
    ///
    /// # Errors
    /// It takes too long.
    pub fn wait_in_sync(&mut self) -> io::Result<()> {
        self.turn_until(|pair| pair.data.up_to_date().count() == 2 && pair.data.alone.is_none())
    }

    /// Until only this node's copy counts.
    ///
    /// # Errors
    /// It takes too long.
    pub fn wait_alone(&mut self, node: usize) -> io::Result<()> {
        self.turn_until(|pair| pair.data.up_to_date().eq([member(node)]))
    }

    /// Hears reports and changes the document by them until it is as wanted.
    ///
    /// # Errors
    /// It takes too long; or a process that was there has gone.
    pub fn turn_until(&mut self, wanted: impl Fn(&Self) -> bool) -> io::Result<()> {
        let begin = Instant::now();
        self.tell(&[true, true])?;
        while !wanted(self) {
            if begin.elapsed() > LIMIT * 2 {
                let text = format!("{:?} by {:?}", self.data, self.reports);
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Hears what there is to hear, for some milliseconds, and decides.
    ///
    /// # Errors
    /// A process that was there has gone.
    pub fn turn(&mut self) -> io::Result<()> {
        for (node, report) in self.nodes.iter_mut().zip(&mut self.reports) {
            if node.is_gone() {
                *report = None;
                continue;
            }
            let _ = node.hear(Duration::from_millis(5));
            let last = node.take_last(|message| match message {
                FromMirror::Report(report) => Some((**report).clone()),
                _ => None,
            });
            if last.is_some() {
                *report = last;
            }
        }
        if self.decide() {
            self.changed();
            self.tell(&[true, true])?;
        }
        Ok(())
    }

    /// Tells the orders to those nodes.
    ///
    /// # Errors
    /// A process that is there does not take them.
    pub fn tell(&mut self, whom: &[bool; 2]) -> io::Result<()> {
        let committed = MirrorCommitted {
            version: self.version,
            data: self.data.clone(),
            holder: self.holder,
            epoch: self.epoch,
            solo_after: None,
        };
        let orders = MirrorOrders {
            version: self.version,
            holder: self.holder,
            epoch: self.epoch,
            committed: Some(committed),
            mode: self.mode,
            size: self.size,
            peer_timeout: self.peer_timeout,
            leaving: false,
        };
        for (node, _) in self.nodes.iter_mut().zip(whom).filter(|(_, told)| **told) {
            if !node.is_gone() {
                node.say(&ToMirror::Orders(Box::new(orders.clone())))?;
            }
        }
        Ok(())
    }

    /// The data changed, or the holder.
    pub fn changed(&mut self) {
        self.version = Version::new(1, self.version.index + 1);
        self.data.serial += 1;
    }

    fn known(&self, node: usize) -> Option<&MirrorReport> {
        self.reports[node]
            .as_ref()
            .filter(|report| (report.id, report.serial) == (self.data.id, self.data.serial))
    }

    fn decide(&mut self) -> bool {
        self.made() || self.left_behind() || self.completed() || self.attached()
    }

    fn made(&mut self) -> bool {
        for node in 0..2 {
            let new = matches!(self.data.copies[&member(node)], Copy::New { .. });
            let disk = self.known(node).map(|report| &report.disk);
            if !new || !matches!(disk, Some(Disk::Attached { .. })) {
                continue;
            }
            let source = node == 0 && self.data.generation == Generation::NONE;
            let copy = match source {
                true => Copy::UpToDate,
                false => Copy::Inconsistent,
            };
            self.data.copies.insert(member(node), copy);
            if source {
                self.begin();
            }
            return true;
        }
        false
    }

    fn left_behind(&mut self) -> bool {
        let Some(report) = self.holders() else {
            return false;
        };
        let lacks = report.lacks.clone();
        let left = self.data.up_to_date().any(|node| !lacks.contains(&node));
        if lacks.is_empty() || !left {
            return false;
        }
        let mut begun = false;
        for node in lacks {
            if self.data.is_up_to_date(node) {
                let lost = Some(node) == self.holder;
                let copy = if lost { Copy::Lost } else { Copy::Outdated };
                self.data.copies.insert(node, copy);
                begun = true;
            }
        }
        if begun {
            self.begin();
        }
        let alone = Some(self.epoch);
        let changed = begun || self.data.alone != alone;
        self.data.alone = alone;
        changed
    }

    fn completed(&mut self) -> bool {
        let Some(report) = self.holders() else {
            return false;
        };
        let found = report
            .complete
            .iter()
            .find(|node| self.data.copies[node].is_target() && !report.lacks.contains(node));
        let Some(&node) = found else { return false };
        self.data.copies.insert(node, Copy::UpToDate);
        self.data.alone = None;
        true
    }

    /// A copy that was lost, and is there again.
    fn attached(&mut self) -> bool {
        for node in 0..2 {
            let lost = self.data.copies[&member(node)] == Copy::Lost;
            let disk = self.known(node).map(|report| &report.disk);
            if let (true, Some(Disk::Attached { consistent, .. })) = (lost, disk) {
                let copy = match consistent {
                    true => Copy::Outdated,
                    false => Copy::Inconsistent,
                };
                self.data.copies.insert(member(node), copy);
                return true;
            }
        }
        false
    }

    fn holders(&self) -> Option<&MirrorReport> {
        let holder = self.holder?;
        let report = self.known(usize::from(holder.0) - 1)?;
        (report.opened == Some(self.epoch)).then_some(report)
    }

    fn begin(&mut self) {
        let next = Version::new(1, self.version.index + 1);
        self.data.ancestors.push(self.data.generation);
        self.data.generation = Generation::begun(next, MemberId(1), self.data.id);
    }
}

fn member(node: usize) -> MemberId {
    MemberId(if node == 0 { 1 } else { 2 })
}
