//! The guard's voice of a quorum disk: the pure voter, and the thread that reads and writes for it.
//!
//! ```text
//!  guard -- beats, messages --> Quorum (DiskVoter) -- one job at a time --> thread (SlotFile) --> disk
//!        <-- acks, messages ---                    <-- how it ended, woken by an event --
//! ```
//!
//! The guard never waits for the disk. A read or write that hangs holds the thread alone, and with it the
//! lock that keeps the next guard of this node from writing before the last one's write has ended: the thread
//! has its open files to itself.

mod slots;

use super::protocol::{QuorumSetup, QuorumSight};
use hotpair_core::disk::{DiskAction, DiskInput, DiskTrouble, DiskVoter, Slot};
use hotpair_core::ids::{HostBoot, MemberId};
use hotpair_core::message::{Ack, Beat, Message};
use hotpair_core::time::Now;
use hotpair_host::apart;
use slots::SlotFile;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// A job that takes longer is a disk that does not answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest round of so long is told.
const WINDOW: Duration = Duration::from_secs(10);
/// Thread's priority: below the guard's own.
const PRIORITY: u8 = 49;

/// Who reads and writes here, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub me: MemberId,
    pub boot: HostBoot,
    pub cluster: u64,
    pub setup: QuorumSetup,
    /// Held by whoever of this node writes to this disk.
    pub lock: PathBuf,
}

/// What the disk says.
#[derive(Debug)]
pub enum Said {
    Ack(Ack),
    Message(Message),
}

#[derive(Debug)]
enum Job {
    Write(Box<Slot>),
    Read,
}

/// A disk and this node's voice of it.
pub struct Quorum {
    place: Place,
    voter: DiskVoter,
    jobs: SyncSender<Job>,
    ended: Receiver<Result<DiskInput, String>>,
    /// Since when a job is under way.
    busy: Option<Instant>,
    /// When the slot of the present round was given out to be written.
    round: Option<Instant>,
    problem: Option<String>,
    /// The longest round of this window, and of the one before.
    longest: [Option<Duration>; 2],
    window: Instant,
}

/// Readable when a thread of a disk has ended a job.
///
/// # Errors
/// The system gives no event.
pub fn bell() -> io::Result<&'static OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    static BELL: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(bell) = BELL.get() {
        return Ok(bell);
    }
    let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    Ok(BELL.get_or_init(|| made))
}

impl Quorum {
    /// Begins to answer for the disk at `place`, of which nothing is known yet.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(place: Place, now: Now) -> io::Result<Self> {
        let bell = bell()?;
        // One at a time: the voter asks for the next when one has ended.
        let (jobs, waiting) = sync_channel::<Job>(1);
        let (sender, ended) = sync_channel(1);
        let file = SlotFile::new(place.clone());
        apart::spawn("quorum disk", bell, move |parted| {
            work(file, parted, &waiting, &sender, bell);
        })?;
        Ok(Self {
            voter: DiskVoter::new(place.me, place.setup.member, place.boot, now),
            place,
            jobs,
            ended,
            busy: None,
            round: None,
            problem: None,
            longest: [None; 2],
            window: Instant::now(),
        })
    }

    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The member the disk is.
    #[must_use]
    pub fn disk(&self) -> MemberId {
        self.voter.disk()
    }

    /// The own guard sends the disk a heartbeat.
    pub fn beat(&mut self, now: Now, beat: Beat) -> Vec<Said> {
        self.step(now, DiskInput::Beat(Box::new(beat)))
    }

    /// The own daemon sends the disk a message.
    pub fn message(&mut self, now: Now, message: Message) -> Vec<Said> {
        self.step(now, DiskInput::Message(message))
    }

    /// Takes in what has ended. `now` is a clock that is read after that.
    pub fn hear(&mut self, now: impl Fn() -> Now) -> Vec<Said> {
        let mut said = Vec::new();
        loop {
            let input = match self.ended.try_recv() {
                Ok(Ok(input)) => {
                    // One that can be written but not read has a problem still.
                    if matches!(input, DiskInput::Read(_)) {
                        self.problem = None;
                        self.count_round();
                    }
                    input
                }
                Ok(Err(problem)) => {
                    self.problem = Some(problem);
                    self.round = None;
                    DiskInput::Failed
                }
                Err(TryRecvError::Empty) => return said,
                Err(TryRecvError::Disconnected) => {
                    self.problem
                        .get_or_insert_with(|| "its thread has ended".into());
                    return said;
                }
            };
            self.busy = None;
            said.extend(self.step(now(), input));
        }
    }

    fn count_round(&mut self) {
        if self.window.elapsed() >= WINDOW {
            self.window = Instant::now();
            self.longest = [None, self.longest[0]];
        }
        if let Some(round) = self.round.take() {
            self.longest[0] = self.longest[0].max(Some(round.elapsed()));
        }
    }

    fn step(&mut self, now: Now, input: DiskInput) -> Vec<Said> {
        let mut said = Vec::new();
        for action in self.voter.step(now, input) {
            match action {
                DiskAction::Write(slot) => {
                    self.round = Some(Instant::now());
                    self.begin(Job::Write(slot));
                }
                DiskAction::Read => self.begin(Job::Read),
                DiskAction::Ack(ack) => said.push(Said::Ack(ack)),
                DiskAction::Say(message) => said.push(Said::Message(message)),
                DiskAction::Trouble(trouble) => self.problem = Some(trouble_text(trouble)),
            }
        }
        said
    }

    fn begin(&mut self, job: Job) {
        self.busy = Some(Instant::now());
        // A thread that has ended did so before it began this: the voter waits for ever, which is safe.
        let _ = self.jobs.try_send(job);
    }

    /// Lets the thread end what is under way, and waits for that, at most `limit`.
    pub fn end(self, limit: Duration) {
        let Self { jobs, ended, .. } = self;
        drop(jobs);
        let deadline = Instant::now() + limit;
        while ended
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_ok()
        {}
    }

    /// For the daemon: what is wrong, and how long a round takes.
    #[must_use]
    pub fn sight(&self) -> QuorumSight {
        let stuck = self.busy.is_some_and(|since| since.elapsed() >= PATIENCE);
        let hangs = || "a read or a write of it has not ended for more than 2 s".to_owned();
        QuorumSight {
            member: self.place.setup.member,
            problem: match stuck {
                true => Some(hangs()),
                false => self.problem.clone(),
            },
            round_us: self
                .longest
                .into_iter()
                .flatten()
                .max()
                .map(|round| u64::try_from(round.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

fn trouble_text(trouble: DiskTrouble) -> String {
    match trouble {
        DiskTrouble::NotAsWritten => {
            "this node's slot is not what it has written: the disk gives old data, or another host writes as this node (a cloned machine?)".into()
        }
        DiskTrouble::WentBack { member } => {
            format!("the slot of {member} is older than it was: the disk gives old data, or was restored from a copy")
        }
        DiskTrouble::Restored => {
            "it knows of a later start of this host: this node's state is an old copy; join the node anew".into()
        }
    }
}

/// Until nobody gives jobs any more: each is ended before the next is taken up, and told.
fn work(
    mut file: SlotFile,
    parted: io::Result<()>,
    jobs: &Receiver<Job>,
    ended: &SyncSender<Result<DiskInput, String>>,
    bell: &OwnedFd,
) {
    for warning in hotpair_host::rt::enter(hotpair_host::rt::RealTime {
        priority: Some(PRIORITY),
        lock_memory: false,
        on_fault: false,
        spare_from_oom: false,
    }) {
        eprintln!("guard: quorum disk: {warning}");
    }
    let refused = parted.err().map(|error| {
        format!("the system refuses a thread with files of its own (unshare, close_range: {error})")
    });
    while let Ok(job) = jobs.recv() {
        let result = match (&refused, job) {
            (Some(refused), _) => Err(refused.clone()),
            (None, Job::Write(slot)) => file.write(&slot).map(|()| DiskInput::Wrote),
            (None, Job::Read) => file.read().map(DiskInput::Read),
        };
        if ended.send(result).is_err() {
            return;
        }
        let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests;
