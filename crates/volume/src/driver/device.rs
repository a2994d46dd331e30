//! The block device from opening to closing, and the write gate before it.
//!
//! ```text
//!             gate passes     engine     Opened Ok          bound
//!   absent -> waiting -----> opening ------------> attaching ----> open
//!     ^          |             | Opened Err           | failed      | Close
//!     |<---------+-------------+                      |         detaching --in use--> open
//!     |<------------------- Closed -- closing <-------+-------------+
//!     |<------------------- Abort, from anywhere
//! ```

use super::{Asked, Decide, Driver, Ending, Held, REQUESTS, disk::Disk, watched};
use crate::engine::{BufferId, Event, IoError, IoId, TRANSFER_LIMIT, Ticket};
use crate::export::job::{Job, Outcome};
use crate::export::{self, Export, Request, Shape, Taken, What};
use crate::memory::Buffer;
use crate::protocol::Setup;
use crate::ring::Ring;
use hotpair_core::config;
use hotpair_core::ids::{Epoch, MemberId};
use hotpair_core::mirror::{self, MirrorReport};
use hotpair_host::clock;
use hotpair_host::durable::write_atomic;
use hotpair_host::gate_file::GateReader;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// How long an opening waits for the gate, in microseconds.
const GATE_LIMIT: u64 = 3_000_000;
const GATE_LOOK: u64 = 5_000;
/// Sizes of a disk that are remembered.
const SIZES: usize = 8;

pub(super) struct Device {
    name: String,
    export: Option<Box<dyn Export>>,
    state: State,
    gate: Option<GateReader>,
    /// The gate was found closed: nothing passes until it is opened anew.
    shut: bool,
    job: Option<(Job, Purpose)>,
    /// Requests may wait in the kernel.
    pub asked: bool,
    /// The symbolic link, while the device is open.
    link: Option<PathBuf>,
    /// The volume has grown while the device was not there to be told.
    resize: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    /// For the gate, and for what was left over to be cleared away.
    Waiting {
        ticket: u64,
        epoch: Epoch,
        until: u64,
    },
    Opening {
        ticket: u64,
    },
    Attaching {
        ticket: u64,
    },
    Open {
        device: u64,
    },
    Detaching {
        device: u64,
        asked: Asked,
    },
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Devices that an earlier process left behind.
    LeftOver,
    Attach,
    Detach,
    Resize,
}

/// What the devices of a mirror are marked with: nodes of different clusters may share a kernel.
pub(crate) fn full_name(cluster: u64, me: MemberId, name: &str) -> String {
    let short = cluster >> 32 ^ cluster & 0xffff_ffff;
    format!("{short:08x}-{me}:{name}")
}

impl Device {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            export: None,
            state: State::Absent,
            gate: None,
            shut: false,
            job: None,
            asked: false,
            resize: None,
            link: None,
        }
    }

    /// Several nodes may share the kernel's loop devices: each knows its own.
    pub(super) fn belongs_to(&mut self, cluster: u64, me: MemberId) {
        self.name = full_name(cluster, me, &self.name);
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_absent(&self) -> bool {
        self.state == State::Absent
    }

    pub(super) fn kind(&self) -> Option<&'static str> {
        self.export.as_ref().map(|export| export.kind())
    }

    pub(super) fn link_path(&self) -> Option<String> {
        Some(self.link.as_ref()?.display().to_string())
    }

    /// Microseconds until the gate is to be looked at.
    pub(super) fn gate_left(&self) -> Option<u64> {
        match self.state {
            State::Waiting { .. } => Some(GATE_LOOK),
            State::Absent | State::Closing => None,
            _ if self.shut => None,
            _ => self.gate.as_ref()?.left(clock::read()),
        }
    }

    pub(super) fn answer(&mut self, tag: u64, result: Result<(), IoError>, data: Option<&Buffer>) {
        if let Some(export) = &mut self.export {
            export.answer(tag, result, data);
        }
    }

    /// Everything the kernel waits for fails, and the device with it.
    pub(super) fn drop_export(&mut self, ring: &mut Ring) -> io::Result<()> {
        ring.forget(watched::EXPORT)?;
        self.export = None;
        self.gate = None;
        if let Some(link) = self.link.take() {
            let _ = std::fs::remove_file(link);
        }
        Ok(())
    }

    fn begin(&mut self, ring: &mut Ring, job: Job, purpose: Purpose) -> io::Result<()> {
        self.end_job(ring)?;
        ring.watch(watched::JOB, job.descriptor().as_raw_fd(), libc::POLLIN)?;
        self.job = Some((job, purpose));
        Ok(())
    }

    fn end_job(&mut self, ring: &mut Ring) -> io::Result<()> {
        ring.forget(watched::JOB)?;
        self.job = None;
        Ok(())
    }

    fn passes(&mut self) -> bool {
        if !self.shut
            && !self
                .gate
                .as_ref()
                .is_some_and(|gate| gate.passes(clock::read()))
        {
            self.shut = true;
        }
        !self.shut
    }
}

impl<E: Decide> Driver<E> {
    /// Clears away what an earlier process of this volume left behind.
    pub(super) fn sweep(&mut self, all: bool) -> io::Result<()> {
        let job = export::release_left_over(&self.device.name, all)?;
        self.device.begin(&mut self.ring, job, Purpose::LeftOver)
    }

    pub(super) fn open(&mut self, ticket: u64, epoch: Epoch) -> io::Result<()> {
        if self.device.state != State::Absent {
            let text = "the device is open already, or being opened or closed";
            self.control.done(ticket, Err(text.into()));
            return Ok(());
        }
        self.device.state = State::Waiting {
            ticket,
            epoch,
            until: clock::raw_us() + GATE_LIMIT,
        };
        self.look_at_gate();
        Ok(())
    }

    /// Lets an opening go on once the gate passes; shuts the device when it does not any more.
    pub(super) fn look_at_gate(&mut self) {
        match self.device.state {
            State::Waiting {
                ticket,
                epoch,
                until,
            } => {
                let Some(setup) = &self.setup else { return };
                let reader = GateReader::open(&setup.gate);
                let open = reader
                    .as_ref()
                    .is_ok_and(|reader| reader.passes(clock::read()));
                if open && self.device.job.is_none() {
                    self.device.gate = reader.ok();
                    self.device.shut = false;
                    self.device.state = State::Opening { ticket };
                    let ticket = self.ticket(Asked::Daemon(ticket));
                    self.events.push_back(Event::Open { ticket, epoch });
                } else if clock::raw_us() >= until {
                    self.device.state = State::Absent;
                    let text = match reader {
                        Err(error) => {
                            format!("the write gate {}: {error}", setup.gate.display())
                        }
                        Ok(_) if open => "devices left over cannot be cleared away".into(),
                        Ok(_) => "the write gate is closed: this node has no permission".into(),
                    };
                    self.control.done(ticket, Err(text));
                }
            }
            State::Absent | State::Closing => {}
            _ => {
                let before = self.device.shut;
                if !self.device.passes() && !before {
                    self.events.push_back(Event::GateClosed);
                }
            }
        }
    }

    pub(super) fn opened(&mut self, ticket: Ticket, result: Result<u64, String>) -> io::Result<()> {
        self.tickets.remove(&ticket);
        let State::Opening { ticket } = self.device.state else {
            return Ok(());
        };
        let attached = match result {
            Ok(size) => self.attach(size),
            Err(text) => {
                self.device.state = State::Absent;
                self.control.done(ticket, Err(text));
                return Ok(());
            }
        };
        match attached {
            Ok(()) => {
                self.device.state = State::Attaching { ticket };
                self.device.resize = None;
            }
            Err(error) => {
                let text = format!("the kernel gives no device: {error}");
                self.not_opened(ticket, text)?;
            }
        }
        Ok(())
    }

    fn attach(&mut self, size: u64) -> io::Result<()> {
        let shape = Shape {
            size,
            block: self
                .disk
                .as_ref()
                .map_or(4096, Disk::block)
                .min(if size.is_multiple_of(4096) { 4096 } else { 512 }),
            zeroing: self.disk.as_ref().is_some_and(Disk::zeroing),
            read_only: false,
        };
        let wanted = self.setup.as_ref().map(|setup| setup.export);
        let mut export = export::make(wanted.unwrap_or_default(), &self.device.name, shape)?;
        let fd = export.descriptor().as_raw_fd();
        self.ring.watch(watched::EXPORT, fd, libc::POLLIN)?;
        let job = export.attach()?;
        self.device.export = Some(export);
        self.device.begin(&mut self.ring, job, Purpose::Attach)
    }

    /// There is no device after all: the engine closes again.
    fn not_opened(&mut self, ticket: u64, text: String) -> io::Result<()> {
        self.forget_requests();
        self.device.drop_export(&mut self.ring)?;
        self.control.done(ticket, Err(text));
        self.close_engine(Asked::Nobody);
        Ok(())
    }

    pub(super) fn job_ended(&mut self) -> io::Result<()> {
        let Some((job, purpose)) = &mut self.device.job else {
            return Ok(());
        };
        let Some(outcome) = job.outcome() else {
            return Ok(());
        };
        let purpose = *purpose;
        self.device.end_job(&mut self.ring)?;
        match (purpose, self.device.state, outcome) {
            (Purpose::Attach, State::Attaching { ticket }, Outcome::Done(device)) => {
                self.device.state = State::Open { device };
                if let Some(size) = self.device.resize.take() {
                    self.resized(size)?;
                }
                let linked = self.link_device(device);
                match linked {
                    Ok(()) => self.control.done(ticket, Ok(())),
                    Err(text) => {
                        self.control.done(ticket, Err(text));
                        self.close(Asked::Nobody)?;
                    }
                }
                self.status.wind();
            }
            (Purpose::Attach, State::Attaching { ticket }, Outcome::Failed { step, errno }) => {
                self.not_opened(ticket, export::describe(step, errno))?;
            }
            (Purpose::Detach, State::Detaching { asked, .. }, Outcome::Done(_)) => {
                self.forget_requests();
                self.device.drop_export(&mut self.ring)?;
                self.close_engine(asked);
            }
            (Purpose::Detach, State::Detaching { device, asked }, failed) => {
                self.device.state = State::Open { device };
                // It may have been taken away all the same.
                self.device.asked = true;
                let Outcome::Failed { step, errno } = failed else {
                    return Ok(());
                };
                self.not_closed(asked, export::describe(step, errno));
            }
            (Purpose::LeftOver, _, Outcome::Done(count)) if count > 0 => {
                let text = format!(
                    "{count} devices of an earlier process are let go of; what still uses them gets errors"
                );
                self.control.note(false, text);
            }
            (Purpose::Resize, _, Outcome::Failed { step, errno }) => {
                let text = export::describe(step, errno);
                self.control
                    .note(true, format!("the device does not grow: {text}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn link_device(&mut self, device: u64) -> Result<(), String> {
        let (Some(setup), Some(export)) = (&self.setup, &self.device.export) else {
            return Err("the device is gone".into());
        };
        let target = export.path(device);
        let place = &setup.device;
        link(&target, place)
            .map_err(|error| format!("cannot link {} to the device: {error}", place.display()))?;
        self.device.link = Some(place.clone());
        Ok(())
    }

    pub(super) fn close(&mut self, asked: Asked) -> io::Result<()> {
        match self.device.state {
            State::Open { device } => {
                let Some(export) = &mut self.device.export else {
                    return Ok(());
                };
                let job = export.detach(device)?;
                self.device.begin(&mut self.ring, job, Purpose::Detach)?;
                self.device.state = State::Detaching { device, asked };
            }
            State::Absent | State::Opening { .. } => self.close_engine(asked),
            State::Waiting { ticket, .. } => {
                self.control
                    .done(ticket, Err("it was closed meanwhile".into()));
                self.close_engine(asked);
            }
            State::Attaching { .. } | State::Detaching { .. } | State::Closing => {
                self.not_closed(asked, "the device is being opened or closed".into());
            }
        }
        Ok(())
    }

    fn not_closed(&mut self, asked: Asked, text: String) {
        match asked {
            Asked::Daemon(ticket) => self.control.done(ticket, Err(text)),
            Asked::End => {
                self.ending = Ending::No;
                self.control.note(true, format!("not ended: {text}"));
            }
            Asked::Nobody => self.control.note(true, text),
        }
    }

    fn close_engine(&mut self, asked: Asked) {
        if self.engine.is_none() {
            self.has_closed(asked, Ok(()));
            return;
        }
        // An opening that waits in the engine is ended by it, with an answer of its own.
        if !matches!(self.device.state, State::Opening { .. }) {
            self.device.state = State::Closing;
        }
        let ticket = self.ticket(asked);
        self.events.push_back(Event::Close { ticket });
    }

    pub(super) fn closed(&mut self, ticket: Ticket, result: Result<(), String>) -> io::Result<()> {
        match self.device.state {
            State::Closing => self.device.state = State::Absent,
            // It was asked for while the engine opened.
            State::Attaching { .. } => self.take_away()?,
            _ => {}
        }
        if let Some(asked) = self.tickets.remove(&ticket) {
            self.has_closed(asked, result);
        }
        Ok(())
    }

    fn has_closed(&mut self, asked: Asked, result: Result<(), String>) {
        match asked {
            Asked::Daemon(ticket) => self.control.done(ticket, result),
            Asked::End => self.ending = Ending::Now,
            Asked::Nobody => {}
        }
    }

    /// Everything fails now; the device goes as soon as nobody has it open.
    pub(super) fn abort(&mut self) -> io::Result<()> {
        self.take_away()?;
        self.events.push_back(Event::GateClosed);
        Ok(())
    }

    /// The kernel's half of it.
    pub(super) fn take_away(&mut self) -> io::Result<()> {
        let state = std::mem::replace(&mut self.device.state, State::Absent);
        self.device.end_job(&mut self.ring)?;
        self.forget_requests();
        self.device.drop_export(&mut self.ring)?;
        self.device.shut = true;
        match state {
            State::Waiting { ticket, .. }
            | State::Opening { ticket }
            | State::Attaching { ticket } => {
                self.control.done(ticket, Err("it was aborted".into()));
            }
            State::Detaching { asked, .. } => self.not_closed(asked, "it was aborted".into()),
            State::Absent | State::Open { .. } | State::Closing => {}
        }
        self.sweep(false)
    }

    pub(super) fn resized(&mut self, size: u64) -> io::Result<()> {
        if let (State::Open { device }, Some(export)) = (self.device.state, &mut self.device.export)
        {
            let job = export.resize(device, size)?;
            self.device.begin(&mut self.ring, job, Purpose::Resize)?;
        } else {
            self.device.resize = Some(size);
        }
        Ok(())
    }

    /// Takes what the kernel asks; `true`: there may be more.
    pub(super) fn take_requests(&mut self) -> io::Result<bool> {
        if self.settling || !self.device.asked {
            return Ok(false);
        }
        for _ in 0..REQUESTS {
            let Some(export) = &mut self.device.export else {
                return Ok(false);
            };
            match export.take(&mut self.pool)? {
                Taken::Request(request) => self.requested(request),
                Taken::Handled => {}
                Taken::Nothing => {
                    self.device.asked = false;
                    return Ok(false);
                }
                // Ends give memory back, and each of them brings another turn.
                Taken::Full => return Ok(self.ring.under_way() == 0 && self.requests.is_empty()),
                Taken::Ended => {
                    self.device.asked = false;
                    // What takes it away says so when it has ended.
                    if !matches!(self.device.state, State::Detaching { .. }) {
                        self.export_lost()?;
                    }
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn requested(&mut self, request: Request) {
        let before = self.device.shut;
        if !self.device.passes() {
            if !before {
                self.events.push_back(Event::GateClosed);
            }
            self.device.answer(request.tag, Err(IoError::Closed), None);
            return;
        }
        self.next_request += 1;
        let io = IoId(self.next_request);
        let at = request.at;
        if !matches!(request.what, What::Discard { .. }) && at.length > TRANSFER_LIMIT {
            // The export says what it takes; a kernel that does not keep to it is told so.
            self.device.answer(request.tag, Err(IoError::Invalid), None);
            return;
        }
        let (event, into) = match &request.what {
            What::Read { into } => {
                let buffer = self.named(into.clone());
                (Event::Read { io, at, buffer }, Some(into.clone()))
            }
            What::Write { from, fua } => {
                let (buffer, fua) = (self.named(from.clone()), *fua);
                let event = Event::Write {
                    io,
                    at,
                    buffer,
                    fua,
                };
                (event, None)
            }
            What::Flush => (Event::Flush { io }, None),
            What::Discard { zero } => {
                let zero = *zero;
                (Event::Discard { io, at, zero }, None)
            }
        };
        self.requests.insert(io.0, Held { request, into });
        self.events.push_back(event);
    }

    /// A buffer of ours, with a name the engine knows it by.
    fn named(&mut self, buffer: Buffer) -> BufferId {
        self.next_buffer += 2;
        let id = BufferId(self.next_buffer);
        self.buffers.insert(id, buffer);
        id
    }

    /// The kernel has ended it, though nobody here asked: an administrator did.
    fn export_lost(&mut self) -> io::Result<()> {
        let text = "the kernel has closed the device: somebody aborted it";
        self.control.note(true, text.into());
        self.abort()
    }

    fn forget_requests(&mut self) {
        self.requests.clear();
    }

    /// Opens the local disk, if it is not; looks whether it has grown.
    pub(super) fn look_at_disk(&mut self, now: u64) -> io::Result<()> {
        let under_way = self.disk.as_ref().map_or(0, |disk| disk.under_way);
        if self.settling && under_way == 0 {
            self.settling = false;
            self.tell_disk();
        }
        if self.disk_looked != 0 && now < self.disk_looked.saturating_add(super::LOOK_EVERY) {
            return Ok(());
        }
        let Some(setup) = &self.setup else {
            return Ok(());
        };
        self.disk_looked = now;
        // It may be mended by now, or have room again.
        let given_up = self
            .report
            .as_ref()
            .is_some_and(|report| matches!(report.disk, mirror::Disk::Failed(_)));
        let rested = now >= self.disk_opened.saturating_add(super::LOOK_EVERY);
        if self
            .disk
            .as_ref()
            .is_some_and(|disk| (disk.failed || given_up) && under_way == 0 && rested)
            && self.cow.is_idle()
        {
            self.disk = None;
        }
        match &mut self.disk {
            Some(disk) => {
                let wanted = self
                    .ordered_size
                    .and_then(|size| image_size(size, &setup.place));
                if let (false, Some(wanted)) = (disk.failed, wanted)
                    && let Err(error) = disk.enlarge(Path::new(&setup.place.device), wanted)
                {
                    let text = error.to_string();
                    if self.disk_problem.as_ref() != Some(&text) {
                        self.control.note(true, text.clone());
                        self.disk_problem = Some(text);
                    }
                }
                if !disk.failed && disk.grown() {
                    self.settling = true;
                }
            }
            None => {
                let make = self
                    .ordered_size
                    .and_then(|size| image_size(size, &setup.place));
                match Disk::open(&setup.place, make) {
                    Ok(disk) => {
                        self.disk = Some(disk);
                        self.disk_opened = now;
                        self.disk_problem = None;
                        self.find_snapshots();
                        self.tell_disk();
                    }
                    Err(error) => {
                        let text = error.to_string();
                        if self.disk_problem.as_ref() != Some(&text) {
                            self.events.push_back(Event::NoDisk(text.clone()));
                            self.disk_problem = Some(text);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn tell_disk(&mut self) {
        let earlier = self.setup.as_ref().map_or(Vec::new(), |setup| sizes(setup));
        if let Some(disk) = &self.disk {
            self.events.push_back(Event::Disk(disk.found(earlier)));
        }
    }

    /// The size with which the disk was attached, for the day it has grown while nobody looked.
    pub(super) fn remember_size(&mut self, report: &MirrorReport) {
        let (mirror::Disk::Attached { .. }, Some(disk), Some(setup)) =
            (&report.disk, &self.disk, &self.setup)
        else {
            return;
        };
        if self.disk_remembered == Some(disk.size()) {
            return;
        }
        self.disk_remembered = Some(disk.size());
        let mut sizes = sizes(setup);
        if sizes.first() == Some(&disk.size()) {
            return;
        }
        sizes.insert(0, disk.size());
        sizes.truncate(SIZES);
        let text: String = sizes.iter().map(|size| format!("{size}\n")).collect();
        let file = size_file(setup);
        let written = std::fs::create_dir_all(&setup.directory)
            .and_then(|()| write_atomic(&file, text.as_bytes()).map_err(io::Error::other));
        if let Err(error) = written {
            let text = format!("cannot write {}: {error}", file.display());
            self.control.note(true, text);
        }
    }
}

/// An image file takes the volume and, unless that is beside it, its metadata.
fn image_size(volume: u64, place: &config::CopyPlace) -> Option<u64> {
    match place.metadata {
        Some(_) => Some(volume),
        None => crate::store::disk_for(volume).ok(),
    }
}

fn size_file(setup: &Setup) -> PathBuf {
    setup.directory.join("sizes")
}

/// Sizes of the disk, newest first: a line each.
fn sizes(setup: &Setup) -> Vec<u64> {
    let text = std::fs::read_to_string(size_file(setup)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().parse().ok())
        .take(SIZES)
        .collect()
}

/// A symbolic link in place of whatever link was there.
pub(super) fn link(target: &Path, place: &Path) -> io::Result<()> {
    if let Some(directory) = place.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::symlink_metadata(place) {
        Ok(found) if found.is_symlink() => std::fs::remove_file(place)?,
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => {}
    }
    std::os::unix::fs::symlink(target, place)
}
