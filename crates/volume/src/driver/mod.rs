//! Carries out what the engine decides: one thread, one loop.
//!
//! ```text
//!        export     control socket    link       jobs    disk, metadata
//!           \             \            |          /        /
//!            +-- io_uring: one wait for readiness, ends, time --+
//!                                      |
//!                  Event -> engine.step -> effects, in order
//! ```
//!
//! Nothing of the engine's state is kept here: only what names mean (buffers, requests, sessions), and
//! the life of the device. Nothing here waits for anything but the ring, the opening of the local disk,
//! and the TLS of a handshake.
//!
//! | File | |
//! |---|---|
//! | `effects` | effects to transfers, and their ends back |
//! | `device` | the block device from opening to closing, the write gate |
//! | `control` | the daemon's connection |
//! | `link`, `tls` | the peer's connection |
//! | `disk` | the local copy |
//! | `snapshot`, `cow` | snapshots: their files; writes that wait until what they overwrite is kept |
//! | `expose` | read-only devices |

mod control;
mod cow;
pub(crate) mod device;
mod disk;
mod effects;
mod expose;
mod link;
mod snapshot;
#[cfg(feature = "pass-through")]
pub mod through;
mod tls;

use crate::engine::{self, BufferId, Effect, Engine, Event, Status, Ticket};
use crate::export::Request;
use crate::memory::{Buffer, Pool};
use crate::protocol::{Setup, ToMirror, Work};
use crate::ring::{Ended, Ring};
use control::Control;
use device::Device;
use disk::Disk;
use hotpair_core::config::OnDiskFailure;
use hotpair_core::mirror::MirrorReport;
use hotpair_core::time::Moment;
use hotpair_host::clock;
use link::Link;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Payloads in memory, beyond which no requests are taken until some end.
const MEMORY: usize = 128 * 1024 * 1024;
/// Requests taken from the device, before ends are looked at.
const REQUESTS: usize = 64;
/// How often a disk that is missing, failed or may have grown is looked at.
const LOOK_EVERY: u64 = 5_000_000;
/// Never longer in one wait, whatever the deadlines say.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Names of what the ring watches; jobs and connections count from [`CONNECTIONS`].
mod watched {
    pub const EXPORT: u64 = 1;
    pub const CONTROL: u64 = 2;
    pub const DAEMON: u64 = 3;
    pub const JOB: u64 = 4;
    /// Sockets of the link, from here on.
    pub const LINK: u64 = 100;
    /// Read-only devices and their jobs, from here on.
    pub const EXPOSED: u64 = 1 << 40;
}

/// What decides: the engine, or a stand-in for it.
pub trait Decide {
    fn step(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>);
    fn deadline(&self) -> Option<Moment>;
    fn status(&self, now: Moment) -> Status;
}

impl Decide for Engine {
    fn step(&mut self, now: Moment, event: Event, effects: &mut Vec<Effect>) {
        Engine::step(self, now, event, effects);
    }

    fn deadline(&self) -> Option<Moment> {
        Engine::deadline(self)
    }

    fn status(&self, now: Moment) -> Status {
        Engine::status(self, now)
    }
}

/// What the process is started with; all else comes over the socket.
#[derive(Clone, Debug)]
pub struct Options {
    pub socket: PathBuf,
    /// `GROUP.RESOURCE`, for people and for marks on devices.
    pub name: String,
}

/// Makes what decides, once it is known for whom.
pub type Make<E> = fn(engine::Setup) -> E;

/// A mirror process.
pub struct Driver<E> {
    make: Make<E>,
    ring: Ring,
    pool: Pool,
    control: Control,
    link: Option<Link>,
    setup: Option<Box<Setup>>,
    engine: Option<E>,
    disk: Option<Disk>,
    /// Why it is not there, as it was told.
    disk_problem: Option<String>,
    disk_looked: u64,
    disk_opened: u64,
    /// Its size in the file of sizes.
    disk_remembered: Option<u64>,
    /// No requests are taken until what is under way on the disk has ended: it has grown.
    settling: bool,
    /// Of the volume, by the orders: for an image file that is to be made.
    ordered_size: Option<u64>,
    device: Device,
    cow: cow::Cow,
    exposed: Vec<expose::Exposed>,
    next_exposed: u64,
    /// A read-only device waits for memory.
    exposed_full: bool,
    buffers: HashMap<BufferId, Buffer>,
    next_buffer: u64,
    requests: HashMap<u64, Held>,
    next_request: u64,
    pending: effects::Table,
    events: VecDeque<Event>,
    report: Option<MirrorReport>,
    status: control::StatusClock,
    ending: Ending,
    /// What cannot change in its life has changed, such as the copy's place: the process ends as soon as its
    /// device is closed.
    outdated: bool,
    tickets: HashMap<Ticket, Asked>,
    next_ticket: u64,
}

/// A request of the device that the engine has.
struct Held {
    request: Request,
    /// Of a read: where its bytes are.
    into: Option<Buffer>,
}

/// Why the engine was asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// By this ticket of the daemon.
    Daemon(u64),
    /// To end the process.
    End,
    /// By nobody who waits.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    Closing,
    Now,
}

impl<E: Decide> Driver<E> {
    /// Listens for the daemon; everything else waits for its word.
    ///
    /// # Errors
    /// No io_uring, no memory, or the socket cannot be made.
    pub fn new(options: Options, make: Make<E>) -> io::Result<Self> {
        let mut ring = Ring::new()?;
        let control = Control::listen(&options.socket, &mut ring)?;
        let device = Device::new(options.name);
        Ok(Self {
            make,
            ring,
            pool: Pool::new(MEMORY)?,
            control,
            link: None,
            setup: None,
            engine: None,
            disk: None,
            disk_problem: None,
            disk_looked: 0,
            disk_opened: 0,
            disk_remembered: None,
            settling: false,
            ordered_size: None,
            device,
            cow: cow::Cow::default(),
            exposed: Vec::new(),
            next_exposed: 0,
            exposed_full: false,
            buffers: HashMap::new(),
            next_buffer: 0,
            requests: HashMap::new(),
            next_request: 0,
            pending: effects::Table::default(),
            events: VecDeque::new(),
            report: None,
            status: control::StatusClock::default(),
            ending: Ending::No,
            outdated: false,
            tickets: HashMap::new(),
            next_ticket: 0,
        })
    }

    /// Serves until the daemon ends it.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn run(mut self) -> io::Result<()> {
        let mut ended = Vec::new();
        let mut more = false;
        while self.ending != Ending::Now {
            let limit = match more || !self.events.is_empty() {
                true => Duration::ZERO,
                false => self.wait_limit(),
            };
            self.ring.wait(limit, &mut ended)?;
            for ended in ended.drain(..) {
                self.ended(ended)?;
            }
            self.tick()?;
            if self.outdated && self.device.is_absent() {
                self.end()?;
            }
            self.exposed_again()?;
            more = self.take_requests()?;
            self.settle()?;
        }
        self.device.drop_export(&mut self.ring)?;
        Ok(())
    }

    /// Feeds the engine until nothing is left to be told, and carries out what it wants.
    fn settle(&mut self) -> io::Result<()> {
        let mut effects = Vec::new();
        while let Some(event) = self.events.pop_front() {
            let Some(engine) = &mut self.engine else {
                continue;
            };
            engine.step(moment(), event, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect)?;
            }
        }
        if let Some(link) = &mut self.link {
            link.flush(&mut self.ring)?;
        }
        self.control.flush(&mut self.ring)
    }

    fn wait_limit(&self) -> Duration {
        let now = clock::raw_us();
        let mut due = now.saturating_add(LOOK_EVERY);
        if let Some(deadline) = self.engine.as_ref().and_then(E::deadline) {
            due = due.min(deadline.0);
        }
        if let Some(left) = self.device.gate_left() {
            due = due.min(now.saturating_add(left));
        }
        if let Some(at) = self.link.as_ref().and_then(Link::deadline) {
            due = due.min(at);
        }
        if let Some(at) = self.status.deadline() {
            due = due.min(at);
        }
        // Zero would not wait at all: a moment that has come is seen in this turn's `tick`.
        Duration::from_micros(due.saturating_sub(now).max(1)).min(LONGEST_WAIT)
    }

    fn ended(&mut self, ended: Ended) -> io::Result<()> {
        match ended {
            Ended::Transfer { who, result } => self.transfer_ended(who, result),
            Ended::Ready { who } => match who {
                watched::EXPORT => {
                    self.device.asked = true;
                    Ok(())
                }
                watched::CONTROL => {
                    if self.control.accept(&mut self.ring)? {
                        self.greet();
                    }
                    Ok(())
                }
                watched::DAEMON => {
                    for message in self.control.hear(&mut self.ring)? {
                        self.told(message)?;
                    }
                    Ok(())
                }
                watched::JOB => self.job_ended(),
                who if who >= watched::EXPOSED => self.exposed_ready(who),
                who => self.link_ready(who),
            },
        }
    }

    fn link_ready(&mut self, who: u64) -> io::Result<()> {
        if let Some(link) = &mut self.link {
            link.ready(who, &mut self.ring, &mut self.pool)?;
        }
        self.hear_link();
        Ok(())
    }

    fn tick(&mut self) -> io::Result<()> {
        let now = clock::raw_us();
        let deadline = self.engine.as_ref().and_then(E::deadline);
        if deadline.is_some_and(|deadline| deadline.0 <= now) {
            self.events.push_back(Event::Tick);
        }
        self.look_at_gate();
        if let Some(link) = &mut self.link {
            link.tick(now, &mut self.ring, &mut self.pool)?;
        }
        self.hear_link();
        self.look_at_disk(now)?;
        if self.status.due(now) {
            self.say_status();
        }
        Ok(())
    }

    /// What the link has brought becomes events.
    fn hear_link(&mut self) {
        let Some(link) = &mut self.link else { return };
        while let Some(news) = link.news.pop_front() {
            match news {
                link::News::Connected { session, peer } => {
                    self.events
                        .push_back(Event::PeerConnected { session, peer });
                }
                link::News::Lost { session } => {
                    self.events.push_back(Event::PeerLost { session });
                }
                link::News::Received {
                    session,
                    message,
                    payload,
                } => {
                    let payload = payload.map(|buffer| {
                        self.next_buffer += 2;
                        let id = BufferId(self.next_buffer);
                        self.buffers.insert(id, buffer);
                        id
                    });
                    self.events.push_back(Event::Received {
                        session,
                        message,
                        payload,
                    });
                }
                link::News::Note { error, text } => self.control.note(error, text),
            }
        }
    }

    fn told(&mut self, message: ToMirror) -> io::Result<()> {
        match message {
            ToMirror::Setup(setup) => self.set_up(setup)?,
            ToMirror::Orders(orders) => {
                self.ordered_size = Some(orders.size);
                if let Some(link) = &mut self.link {
                    link.patience(orders.peer_timeout);
                }
                self.events.push_back(Event::Orders(orders));
                self.disk_looked = 0;
            }
            ToMirror::Work { ticket, work } => self.work(ticket, work)?,
            ToMirror::Query => self.answer_query(),
            ToMirror::End => self.end()?,
        }
        Ok(())
    }

    fn set_up(&mut self, setup: Box<Setup>) -> io::Result<()> {
        if self.engine.is_none() {
            let link = match Link::new(&setup) {
                Ok(link) => link,
                Err(error) => {
                    let text = format!("this node's certificate cannot be used: {error}");
                    self.control.note(true, text);
                    return Ok(());
                }
            };
            self.link = Some(link);
            self.engine = Some((self.make)(engine::Setup {
                me: setup.me,
                boot: setup.boot,
                run: clock::boottime_us(),
                through_peer: setup.on_disk_failure == OnDiskFailure::GoOn,
                log_extents: crate::store::LOG_EXTENTS,
            }));
            self.device.belongs_to(setup.cluster, setup.me);
            self.sweep(true)?;
            snapshot::forget_looks(&setup.directory.join("snapshots"));
        }
        if let Some(link) = &mut self.link {
            link.change(&setup.links, &mut self.ring)?;
        }
        let before = self.setup.replace(setup);
        let setup = self.setup.as_ref();
        let rate = setup.and_then(|setup| setup.resync_rate);
        if before.as_ref().map(|before| before.resync_rate) != setup.map(|setup| setup.resync_rate)
        {
            self.events
                .push_back(Event::Command(engine::Command::Rate(rate)));
        }
        let fixed = |setup: &Setup| Setup {
            links: Vec::new(),
            resync_rate: None,
            ..setup.clone()
        };
        if before.is_some_and(|before| Some(fixed(&before)) != setup.map(|setup| fixed(setup))) {
            // A new process has nothing of what was in mind; the daemon starts it.
            self.outdated = true;
        }
        self.disk_looked = 0;
        Ok(())
    }

    fn work(&mut self, ticket: u64, work: Work) -> io::Result<()> {
        if self.engine.is_none() {
            let text = "the mirror process was not set up yet";
            self.control.done(ticket, Err(text.into()));
            return Ok(());
        }
        match work {
            Work::Open { epoch } => self.open(ticket, epoch),
            Work::Close => self.close(Asked::Daemon(ticket)),
            Work::Abort => {
                self.abort()?;
                self.control.done(ticket, Ok(()));
                Ok(())
            }
            Work::Command(command) => self.command(ticket, command),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.ending == Ending::No {
            self.ending = Ending::Closing;
            self.close(Asked::End)?;
        }
        Ok(())
    }

    /// A ticket for the engine.
    fn ticket(&mut self, asked: Asked) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, asked);
        ticket
    }
}

/// Time as the engine has it.
fn moment() -> Moment {
    Moment(clock::raw_us())
}
