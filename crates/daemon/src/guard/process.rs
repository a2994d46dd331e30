//! The guard process: one real-time thread, one loop, nothing that waits for anybody.

use super::gates::Gates;
use super::paths::Paths;
use super::protocol::{FromGuard, KIND, Setup, ToGuard};
use super::quorum::{self, Place, Quorum, Said};
use hotpair_core::guard::{Guard, GuardAction, GuardIdentity, GuardInput, Promises};
use hotpair_core::ids::{GroupId, Incarnation, MemberId};
use hotpair_core::message::{Datagram, Message};
use hotpair_core::time::Now;
use hotpair_host::clock;
use hotpair_host::durable::{Format, Slots};
use hotpair_host::rt::{RealTime, enter};
use hotpair_wire::codec;
use hotpair_wire::frame::{self, Decoder};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PROMISES: Format = Format {
    magic: *b"hpromise",
    version: 1,
};
const PROMISES_SIZE: usize = 16 * 1024;
/// Frames to the daemon that it does not read are kept up to this; then the connection is dropped.
const BACKLOG: usize = 1024 * 1024;
const FRAME_LIMIT: usize = 512 * 1024;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the end waits for the quorum disk; the daemon waits for 2 s.
const DISK_LIMIT: Duration = Duration::from_secs(1);

/// What the guard is started with; everything else comes from the daemon.
#[derive(Clone, Debug)]
pub struct GuardOptions {
    pub socket: PathBuf,
    /// Kept under the host's boot id, see [`Setup::boot`].
    pub promises: PathBuf,
    /// Cgroups of the groups.
    pub groups: PathBuf,
}

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    let reading = clock::read();
    Now {
        boot_us: reading.boottime_us,
        raw_us: reading.raw_us,
    }
}

/// Runs the guard until the daemon ends it.
///
/// # Errors
/// Its socket cannot be opened.
pub fn run(options: GuardOptions) -> Result<(), std::io::Error> {
    for warning in enter(RealTime::default()) {
        eprintln!("guard: {warning}");
    }
    let _ = std::fs::remove_file(&options.socket);
    let listener = UnixListener::bind(&options.socket)?;
    listener.set_nonblocking(true)?;
    let mut process = Process {
        run: Incarnation(now().boot_us),
        options,
        listener,
        daemon: None,
        core: None,
        gates: Gates::new(),
        looked: Instant::now(),
        gate_broken: false,
        waiting: None,
        ended: false,
    };
    while !process.ended {
        process.turn();
    }
    if let Some(quorum) = process.core.and_then(|core| core.quorum) {
        quorum.end(DISK_LIMIT);
    }
    Ok(())
}

struct Process {
    options: GuardOptions,
    run: Incarnation,
    listener: UnixListener,
    daemon: Option<Daemon>,
    core: Option<Core>,
    gates: Gates,
    looked: Instant,
    gate_broken: bool,
    /// Could not be set up; tried again every second.
    waiting: Option<Setup>,
    ended: bool,
}

/// There once the daemon has said who we are.
struct Core {
    setup: Setup,
    guard: Guard,
    paths: Paths,
    promises: Slots,
    quorum: Option<Quorum>,
}

struct Daemon {
    stream: UnixStream,
    decoder: Decoder,
    unsent: Vec<u8>,
}

impl Process {
    fn turn(&mut self) {
        self.wait();
        self.accept();
        self.hear_daemon();
        self.hear_disk();
        let datagrams = self
            .core
            .as_mut()
            .map(|core| core.paths.receive())
            .unwrap_or_default();
        for datagram in datagrams {
            self.step(GuardInput::Datagram(Box::new(datagram)));
        }
        self.step(GuardInput::Tick);
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.look_around();
        }
        self.flush();
    }

    fn wait(&self) {
        let deadline = self
            .core
            .as_ref()
            .and_then(|core| core.guard.deadline(now()));
        let due = deadline.map_or(LOOK_EVERY, |moment| moment.since(now().moment()));
        let millis = due.min(LOOK_EVERY).as_micros().div_ceil(1000);
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(millis.min(999)).unwrap_or(999) * 1_000_000,
        };
        let mut waits = vec![PollFd::new(&self.listener, PollFlags::IN)];
        if let Some(daemon) = &self.daemon {
            let writing = if daemon.unsent.is_empty() {
                PollFlags::empty()
            } else {
                PollFlags::OUT
            };
            waits.push(PollFd::new(&daemon.stream, PollFlags::IN | writing));
        }
        if let Some(core) = &self.core {
            waits.extend(
                core.paths
                    .sockets()
                    .map(|socket| PollFd::new(socket, PollFlags::IN)),
            );
            if core.quorum.is_some()
                && let Ok(bell) = quorum::bell()
            {
                waits.push(PollFd::new(bell, PollFlags::IN));
            }
        }
        let _ = poll(&mut waits, Some(&timeout));
    }

    /// The newest daemon is the one that counts.
    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.daemon = Some(Daemon {
                    stream,
                    decoder: Decoder::new(FRAME_LIMIT),
                    unsent: Vec::new(),
                });
            }
        }
    }

    fn hear_daemon(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let mut messages = Vec::new();
        let mut gone = false;
        let mut buffer = [0; 16 * 1024];
        loop {
            match daemon.stream.read(&mut buffer) {
                Ok(0) => {
                    gone = true;
                    break;
                }
                Ok(length) => {
                    let mut chunk = &buffer[..length];
                    while let Ok(Some(frame)) = daemon.decoder.advance(&mut chunk) {
                        messages.extend(codec::decode::<ToGuard>(&frame.payload).ok());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    gone = true;
                    break;
                }
            }
        }
        for message in messages {
            self.told(message);
        }
        if gone {
            self.daemon = None;
            self.step(GuardInput::DaemonGone);
        }
    }

    fn told(&mut self, message: ToGuard) {
        match message {
            ToGuard::Setup(setup) => self.set_up(*setup),
            ToGuard::Wanted(wanted) => self.step(GuardInput::Wanted(wanted)),
            ToGuard::Credit => self.step(GuardInput::Credit),
            ToGuard::Disk { to, message } => self.ask_disk(to, *message),
            ToGuard::End => {
                self.gates.remove();
                self.ended = true;
            }
        }
    }

    fn set_up(&mut self, setup: Setup) {
        if let Err(error) = self.gates.set_up(&setup, &self.options.groups) {
            // Without a gate nothing may be permitted: no core, no lease.
            if self.waiting.replace(setup).is_none() {
                self.alarm(format!(
                    "the gate cannot be set up, so this node runs no groups: {error}"
                ));
            }
            return;
        }
        self.waiting = None;
        if let Some(core) = &mut self.core
            && core.setup.boot == setup.boot
            && core.setup.me == setup.me
        {
            core.setup = setup.clone();
            for problem in core.paths.change(setup) {
                self.alarm(problem);
            }
            self.set_up_disk();
            return;
        }
        match self.begin(setup) {
            Ok(problems) => problems.into_iter().for_each(|problem| self.alarm(problem)),
            Err(problem) => self.alarm(problem),
        }
        self.set_up_disk();
    }

    /// Another disk, or another place of it, has a voice of its own that knows nothing yet.
    fn set_up_disk(&mut self) {
        let Some(core) = &mut self.core else { return };
        let wanted = core.setup.quorum.clone().map(|setup| Place {
            me: core.setup.me,
            boot: core.setup.boot,
            cluster: core.setup.cluster,
            lock: self
                .options
                .promises
                .with_file_name(format!("quorum-{:016x}.lock", setup.number)),
            setup,
        });
        if core.quorum.as_ref().map(Quorum::place) == wanted.as_ref() {
            return;
        }
        core.quorum = None;
        let Some(place) = wanted else { return };
        match Quorum::start(place, now()) {
            Ok(quorum) => core.quorum = Some(quorum),
            Err(error) => self.alarm(format!("the quorum disk cannot be asked: {error}")),
        }
    }

    fn ask_disk(&mut self, to: MemberId, message: Message) {
        let quorum = self.core.as_mut().and_then(|core| core.quorum.as_mut());
        if let Some(quorum) = quorum.filter(|quorum| quorum.disk() == to) {
            let said = quorum.message(now(), message);
            self.disk_said(to, said);
        }
    }

    fn hear_disk(&mut self) {
        let quorum = self.core.as_mut().and_then(|core| core.quorum.as_mut());
        if let Some(quorum) = quorum {
            if let Ok(bell) = quorum::bell() {
                // What it counts is of no interest.
                let _ = rustix::io::read(bell, &mut [0; 8]);
            }
            let from = quorum.disk();
            let said = quorum.hear(now);
            self.disk_said(from, said);
        }
    }

    fn disk_said(&mut self, from: MemberId, said: Vec<Said>) {
        for said in said {
            match said {
                Said::Ack(ack) => self.step(GuardInput::Datagram(Box::new(Datagram::Ack(ack)))),
                Said::Message(message) => {
                    let message = Box::new(message);
                    self.tell(&FromGuard::Disk { from, message });
                }
            }
        }
    }

    fn begin(&mut self, setup: Setup) -> Result<Vec<String>, String> {
        let (promises, saved) = self.recall(&setup)?;
        let (paths, problems) = Paths::open(setup.clone())?;
        let identity = GuardIdentity {
            me: setup.me,
            boot: setup.boot,
            run: self.run,
        };
        let guard = Guard::restore(identity, saved, now());
        self.core = Some(Core {
            setup,
            guard,
            paths,
            promises,
            quorum: None,
        });
        Ok(problems)
    }

    /// The promises of this host boot, if there are any to be trusted.
    fn recall(&self, setup: &Setup) -> Result<(Slots, Option<Promises>), String> {
        let path = &self.options.promises;
        let fresh =
            || Slots::create(path, PROMISES, PROMISES_SIZE).map_err(|error| error.to_string());
        let Ok((slots, Some(bytes))) = Slots::open(path, PROMISES, PROMISES_SIZE) else {
            return Ok((fresh()?, None));
        };
        match codec::decode::<(hotpair_core::ids::HostBoot, Promises)>(&bytes) {
            Ok((boot, promises)) if boot == setup.boot => Ok((slots, Some(promises))),
            _ => Ok((fresh()?, None)),
        }
    }

    fn step(&mut self, input: GuardInput) {
        let Some(core) = &mut self.core else { return };
        let decided = now();
        let actions = core.guard.step(decided, input);
        for action in actions {
            self.act(decided, action);
        }
    }

    fn act(&mut self, decided: Now, action: GuardAction) {
        let Some(core) = &mut self.core else { return };
        match action {
            GuardAction::Send { to, datagram }
                if core.quorum.as_ref().is_some_and(|disk| disk.disk() == to) =>
            {
                // Only members that hold leases send to a disk, and nothing but heartbeats.
                if let (Some(quorum), Datagram::Beat(beat)) = (&mut core.quorum, datagram) {
                    let said = quorum.beat(now(), beat);
                    self.disk_said(to, said);
                }
            }
            GuardAction::Send { to, datagram } => core.paths.send(to, &datagram),
            GuardAction::SavePromises => {
                let bytes = codec::encode(&(core.setup.boot, core.guard.promises()));
                if let Err(error) = core.promises.write(&bytes) {
                    // A promise that is not kept must not be given.
                    eprintln!("guard: promises cannot be kept ({error}): ending");
                    self.ended = true;
                    std::process::exit(3);
                }
            }
            GuardAction::Cut { group } => {
                if let Err(error) = self.gates.cut(&group) {
                    // What is shown from here on says that the group is cut. If that cannot be done,
                    // this process must not say it: the gate's own deadline does the rest.
                    eprintln!("guard: {group} cannot be cut ({error}): ending");
                    std::process::exit(4);
                }
            }
            GuardAction::Open { group, until } => {
                let opened = self.gates.open(&group, decided, until);
                let broken = opened.is_err();
                if let Err(error) = opened {
                    if !self.gate_broken {
                        self.alarm(format!("the gate of {group} cannot be opened: {error}"));
                    }
                    self.close(&group);
                }
                self.gate_broken = broken;
            }
            GuardAction::Event(event) => self.tell(&FromGuard::Event(event)),
        }
    }

    /// A gate that could not be set to its deadline may have an older one, or none: it must be shut.
    fn close(&mut self, group: &GroupId) {
        if let Err(error) = self.gates.close(group) {
            eprintln!("guard: the gate of {group} cannot be closed ({error}): ending");
            std::process::exit(4);
        }
    }

    fn look_around(&mut self) {
        if let Some(setup) = self.waiting.clone() {
            self.set_up(setup);
        }
        match self.gates.mend() {
            Ok(false) => {}
            Ok(true) => self.alarm(
                "the gate's nftables tables had been removed by somebody (`nft flush ruleset`?): put back".into(),
            ),
            Err(error) => self.alarm(format!("the gate is damaged and cannot be put back: {error}")),
        }
        if let Some(core) = &mut self.core {
            core.paths.retry();
            let sights = core.paths.sights();
            let quorum = core.quorum.as_ref().map(Quorum::sight);
            self.tell(&FromGuard::Links(sights));
            self.tell(&FromGuard::Quorum(quorum));
        }
    }

    fn alarm(&mut self, text: String) {
        self.tell(&FromGuard::Alarm(text));
    }

    fn tell(&mut self, message: &FromGuard) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        if let Ok(bytes) = frame::encode(KIND, &codec::encode(message), FRAME_LIMIT) {
            daemon.unsent.extend(bytes);
        }
        if daemon.unsent.len() > BACKLOG {
            self.daemon = None;
        }
    }

    fn flush(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        while !daemon.unsent.is_empty() {
            match daemon.stream.write(&daemon.unsent) {
                Ok(0) => break,
                Ok(length) => {
                    daemon.unsent.drain(..length);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A lost connection shows when it is read.
                Err(_) => break,
            }
        }
    }
}
