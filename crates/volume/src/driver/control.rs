//! The daemon's connection: a Unix socket, the newest one who connects counts.

use super::snapshot::Snapshot;
use super::{Decide, Driver, watched};
use crate::engine;
use crate::protocol::{Command, FRAME_LIMIT, FromMirror, KIND, MirrorStatus, Progress, ToMirror};
use crate::ring::Ring;
use hotpair_core::time::Moment;
use hotpair_host::clock;
use hotpair_wire::codec;
use hotpair_wire::frame::{self, Decoder};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the daemon does not read is kept up to this; then the connection is dropped.
const BACKLOG: usize = 4 * 1024 * 1024;
/// Status is said so often while somebody is connected, if it changed.
const STATUS_EVERY: u64 = 500_000;
/// Notes kept for a daemon that is not there.
const NOTES: usize = 64;

#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    daemon: Option<Connection>,
    notes: Vec<FromMirror>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    unsent: Vec<u8>,
    blocked: bool,
}

/// When status is said next.
#[derive(Debug, Default)]
pub(super) struct StatusClock {
    next: Option<u64>,
    last: Option<MirrorStatus>,
}

impl StatusClock {
    pub(super) fn deadline(&self) -> Option<u64> {
        self.next
    }

    pub(super) fn due(&self, now: u64) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// Something may have changed.
    pub(super) fn wind(&mut self) {
        if self.next.is_none() {
            self.next = Some(clock::raw_us() + STATUS_EVERY);
        }
    }
}

impl Control {
    pub(super) fn listen(path: &Path, ring: &mut Ring) -> io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        ring.watch(watched::CONTROL, listener.as_raw_fd(), libc::POLLIN)?;
        Ok(Self {
            listener,
            daemon: None,
            notes: Vec::new(),
        })
    }

    /// `true`: somebody new is there.
    pub(super) fn accept(&mut self, ring: &mut Ring) -> io::Result<bool> {
        let mut new = false;
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            ring.forget(watched::DAEMON)?;
            ring.watch(watched::DAEMON, stream.as_raw_fd(), libc::POLLIN)?;
            self.daemon = Some(Connection {
                stream,
                decoder: Decoder::new(FRAME_LIMIT),
                unsent: Vec::new(),
                blocked: false,
            });
            new = true;
        }
        Ok(new)
    }

    pub(super) fn hear(&mut self, ring: &mut Ring) -> io::Result<Vec<ToMirror>> {
        let mut messages = Vec::new();
        let Some(daemon) = &mut self.daemon else {
            return Ok(messages);
        };
        if !daemon.read(&mut messages) {
            self.hang_up(ring)?;
        }
        Ok(messages)
    }

    fn hang_up(&mut self, ring: &mut Ring) -> io::Result<()> {
        ring.forget(watched::DAEMON)?;
        self.daemon = None;
        Ok(())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.daemon.is_some()
    }

    pub(super) fn say(&mut self, message: &FromMirror) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        if let Ok(bytes) = frame::encode(KIND, &codec::encode(message), FRAME_LIMIT) {
            daemon.unsent.extend(bytes);
        }
    }

    pub(super) fn done(&mut self, ticket: u64, result: Result<(), String>) {
        self.say(&FromMirror::Done { ticket, result });
    }

    /// For the event log; kept while nobody is connected.
    pub(super) fn note(&mut self, error: bool, text: String) {
        let note = FromMirror::Note { error, text };
        if self.is_connected() {
            self.say(&note);
        } else if self.notes.len() < NOTES {
            self.notes.push(note);
        }
    }

    pub(super) fn flush(&mut self, ring: &mut Ring) -> io::Result<()> {
        let Some(daemon) = &mut self.daemon else {
            return Ok(());
        };
        if daemon.unsent.is_empty() && !daemon.blocked {
            return Ok(());
        }
        daemon.write();
        if daemon.unsent.len() > BACKLOG {
            return self.hang_up(ring);
        }
        let blocked = !daemon.unsent.is_empty();
        if blocked != daemon.blocked {
            daemon.blocked = blocked;
            let events = libc::POLLIN | if blocked { libc::POLLOUT } else { 0 };
            ring.watch(watched::DAEMON, daemon.stream.as_raw_fd(), events)?;
        }
        Ok(())
    }
}

impl Connection {
    /// `false`: the connection has ended.
    fn read(&mut self, messages: &mut Vec<ToMirror>) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    let mut chunk = &buffer[..length];
                    loop {
                        match self.decoder.advance(&mut chunk) {
                            Ok(Some(frame)) => {
                                messages.extend(codec::decode::<ToMirror>(&frame.payload).ok());
                            }
                            Ok(None) => break,
                            Err(_) => return false,
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn write(&mut self) {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(0) => break,
                Ok(length) => sent += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A lost connection shows when it is read.
                Err(_) => break,
            }
        }
        self.unsent.drain(..sent);
    }
}

impl<E: Decide> Driver<E> {
    /// Tells a new daemon how things stand.
    pub(super) fn greet(&mut self) {
        for note in std::mem::take(&mut self.control.notes) {
            self.control.say(&note);
        }
        if let Some(report) = &self.report {
            self.control
                .say(&FromMirror::Report(Box::new(report.clone())));
        }
        self.status.last = None;
        self.say_status();
    }

    /// Says it in any case.
    pub(super) fn answer_query(&mut self) {
        self.status.last = None;
        self.say_status();
    }

    pub(super) fn say_status(&mut self) {
        self.status.next = None;
        if !self.control.is_connected() {
            return;
        }
        let Some(engine) = &self.engine else { return };
        let now = super::moment();
        let status = self.words(&engine.status(now), now.0);
        if self.status.last.as_ref() != Some(&status) {
            self.control
                .say(&FromMirror::Status(Box::new(status.clone())));
            self.status.last = Some(status);
            // As long as it changes, it is looked at.
            self.status.wind();
        }
    }

    fn words(&self, status: &engine::Status, now: u64) -> MirrorStatus {
        let millis =
            |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall_ms = since.map_or(0, millis);
        let wall = |at: Moment| wall_ms.saturating_sub(now.saturating_sub(at.0) / 1000);
        MirrorStatus {
            size: status.size,
            device: self.device.link_path(),
            export: self.device.kind().map(str::to_owned),
            link: self.link.as_ref().and_then(|link| link.in_use()),
            out_of_sync: status.out_of_sync,
            resync: status.resync.map(progress),
            verify: status.verify.map(progress),
            verify_found: status.verify_found,
            paused: status.paused,
            lag_bytes: status.lag_bytes,
            lag_ms: millis(status.lag),
            reads: status.reads,
            writes: status.writes,
            read_bytes: status.read_bytes,
            write_bytes: status.write_bytes,
            longest_stall_ms: millis(status.longest_stall),
            last_write_ms: status.last_write.map(wall),
            apart_since_ms: status.apart_since.map(wall),
            snapshots: self.cow.snapshots.iter().map(Snapshot::words).collect(),
        }
    }

    pub(super) fn command(&mut self, ticket: u64, command: Command) -> io::Result<()> {
        let command = match command {
            Command::Verify { repair } => engine::Command::Verify { repair },
            Command::Pause => engine::Command::Pause,
            Command::Resume => engine::Command::Resume,
            Command::Rate(rate) => engine::Command::Rate(rate),
            Command::SnapshotTake { name } => {
                let result = self.take_snapshot(&name, false);
                self.say_status();
                self.control.done(ticket, result);
                return Ok(());
            }
            Command::SnapshotRemove { name } => {
                let result = self.remove_snapshot(&name);
                self.say_status();
                self.control.done(ticket, result);
                return Ok(());
            }
            Command::Expose {
                snapshot,
                at,
                scratch,
            } => {
                self.expose(ticket, snapshot, at, scratch);
                return Ok(());
            }
            Command::Conceal { at } => return self.conceal(ticket, &at),
        };
        self.events.push_back(engine::Event::Command(command));
        self.settle()?;
        // Whoever looks after the answer sees what has begun, not what was before.
        self.say_status();
        self.control.done(ticket, Ok(()));
        Ok(())
    }
}

fn progress(progress: engine::Progress) -> Progress {
    Progress {
        done: progress.done,
        total: progress.total,
        moved: progress.moved,
        rate: progress.rate,
        source: progress.source,
    }
}
