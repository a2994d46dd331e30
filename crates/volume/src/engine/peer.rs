//! The peer's copy as the active side sees it: session, handshake, whether it may and must be waited for
//! (rules R2, R4, R5).

mod alone;
mod handshake;
mod refusals;

pub(super) use handshake::own_writes;

use super::event::{BufferId, Effect, IoError, Part, Session};
use super::slab::{Key, Slab};
use super::unflushed::Unflushed;
use super::{Engine, Place};
use crate::fault::{Fault, planted};
use crate::link::{Body, DiskState, Hello, Message, Refusal};
use hotpair_core::config::MirrorMode;
use hotpair_core::ids::{HostBoot, MemberId};
use hotpair_core::mirror::Generation;
use hotpair_core::time::Moment;
use std::time::Duration;

/// A request of the peer that is not answered for so long has a disk that hangs: go on without it, and
/// do not try it again for as long. Far above what a healthy disk takes under load.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two signs of life while nothing is under way.
const IDLE_PING: Duration = Duration::from_secs(5);
/// Questions under way: more are a peer that does not answer, or a bug.
const SENT_LIMIT: usize = 8192;
/// Of these, what may lag behind in asynchronous mode, however small its writes are.
pub(super) const MOST_LAGGING: usize = SENT_LIMIT / 2;

/// What the peer is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Awaited {
    Request(Key),
    Flush(u64),
    Chunk(Key),
    Begin,
    Stamp,
}

#[derive(Debug)]
struct Sent {
    what: Awaited,
    at: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is sent to it.
    Apart,
    /// A whole synchronisation is prepared: every bit is set, then the basis is new.
    Filling,
    /// It was asked to get ready for resynchronisation.
    Begin,
    /// It lacks blocks; it gets every write.
    Resync,
    /// It lacks nothing; it is asked to mark its disk.
    Joining,
    /// It gets every write and lacks nothing.
    Joined,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub session: Option<Session>,
    pub id: Option<MemberId>,
    /// When it was last heard, or could first have been.
    pub heard: Moment,
    ping: Option<Moment>,
    pub hello: Option<Box<Hello>>,
    greeted: Option<Box<Hello>>,
    pub phase: Phase,
    /// What its disk bears, by its answer in this session.
    pub stamped: Option<Generation>,
    stamping: bool,
    pub unflushed: Unflushed,
    /// Host boot, run and count of failures under which what is not flushed was acknowledged.
    cache: Option<(HostBoot, u64, u32)>,
    sent: Slab<Sent>,
    /// It is to be recorded though nothing waits for that: it lacks something.
    pub unfit: bool,
    pub refusals: refusals::Refusals,
    /// Its last word was that somebody else holds the mirror.
    pub refused: bool,
    /// Everything that the target has touched is told; it is in the bitmap on the disk before the first
    /// block is sent.
    told: bool,
    /// Tag of the question to get ready.
    begun: u64,
    /// It lacks something that no bitmap here names, since the local disk is lost.
    lost_there: bool,
    /// When to look for questions that were not answered.
    hang_check: Option<Moment>,
    /// Its disk hangs: not before then.
    avoid: Option<Moment>,
    /// Since when it has been apart, while active.
    pub apart_since: Option<Moment>,
    /// Said once for a session.
    complained: bool,
    /// Since when the recording of a missed write is asked for.
    pub lacks_since: Option<Moment>,
    /// Memory mode was in use: what is not flushed is lost with the process, too.
    memory: bool,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            session: None,
            id: None,
            heard: Moment::default(),
            ping: None,
            hello: None,
            greeted: None,
            phase: Phase::Apart,
            stamped: None,
            stamping: false,
            unflushed: Unflushed::default(),
            cache: None,
            sent: Slab::new(),
            unfit: false,
            refusals: refusals::Refusals::default(),
            refused: false,
            told: false,
            begun: 0,
            lost_there: false,
            hang_check: None,
            avoid: None,
            apart_since: None,
            complained: false,
            lacks_since: None,
            memory: false,
        }
    }
}

impl Peer {
    /// Every write goes to it.
    pub(super) fn sends(&self) -> bool {
        matches!(self.phase, Phase::Resync | Phase::Joined)
    }

    /// It is marking its disk.
    pub(super) fn stamping(&self) -> bool {
        self.stamping
    }

    pub(super) fn is_joined(&self) -> bool {
        self.phase == Phase::Joined
    }

    /// The mirror was just opened here.
    pub(super) fn opened(&mut self, now: Moment) {
        self.heard = now;
        self.apart_since = Some(now);
        self.unfit = false;
        self.lost_there = false;
        self.lacks_since = None;
    }

    /// It lacks something that nothing here names any more.
    pub(super) fn lost_there(&self) -> bool {
        self.lost_there
    }

    pub(super) fn outstanding(&self) -> usize {
        self.sent.len()
    }
}

impl Engine {
    pub(super) fn on_connected(&mut self, session: Session, peer: MemberId) {
        if let Some(old) = self.peer.session
            && old != session
        {
            self.drop_session(old, Refusal::Stale.text());
        }
        self.peer.session = Some(session);
        self.peer.id = Some(peer);
        self.peer.heard = self.now;
        self.peer.ping = None;
        self.peer.complained = false;
    }

    pub(super) fn on_lost(&mut self, session: Session) {
        if self.peer.session != Some(session) {
            return;
        }
        self.peer.session = None;
        self.forget_session();
    }

    fn drop_session(&mut self, session: Session, why: &str) {
        self.out.push(Effect::Drop {
            session,
            why: why.to_owned(),
        });
        if self.peer.session == Some(session) {
            self.peer.session = None;
            self.forget_session();
        }
    }

    /// Ends the session, and tells the peer why.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let Some(session) = self.peer.session else {
            return;
        };
        let news = self.peer.refusals.add(refusal, self.now);
        if news && refusal == Refusal::OtherMirror {
            self.note(true, refusal.text());
        }
        self.send(0, Body::Refused(refusal), None);
        self.drop_session(session, refusal.text());
    }

    fn forget_session(&mut self) {
        self.peer.hello = None;
        self.peer.greeted = None;
        self.peer.ping = None;
        self.forget_taken();
        self.part();
    }

    /// Nothing more is sent to the peer for now; what it has not answered is missing.
    pub(super) fn part(&mut self) {
        let peer = &mut self.peer;
        peer.sent.drain();
        peer.hang_check = None;
        peer.stamped = None;
        peer.stamping = false;
        peer.phase = Phase::Apart;
        if peer.apart_since.is_none() {
            peer.apart_since = Some(self.now);
        }
        self.changed = true;
        self.lose_flush();
        self.lose_chunks();
        if self.is_active() {
            self.lose_remote();
        }
    }

    pub(super) fn send(&mut self, tag: u64, body: Body, payload: Option<Part>) {
        let Some(session) = self.peer.session else {
            return;
        };
        let epoch = self.epoch_spoken();
        let serial = self.data().map_or(0, |data| data.serial);
        self.out.push(Effect::Send {
            session,
            message: Box::new(Message {
                epoch,
                serial,
                tag,
                body,
            }),
            payload,
        });
    }

    fn epoch_spoken(&self) -> hotpair_core::ids::Epoch {
        let kept = self.orders.as_ref().map(|orders| orders.epoch);
        self.active_epoch().or(kept).unwrap_or_default()
    }

    /// Sends something that is answered.
    pub(super) fn ask(&mut self, what: Awaited, body: Body, payload: Option<Part>) -> u64 {
        let at = self.now;
        let tag = self.peer.sent.insert(Sent { what, at });
        let patience = self.patience();
        self.peer.hang_check.get_or_insert(at.plus(patience));
        self.send(tag, body, payload);
        if self.peer.sent.len() > SENT_LIMIT {
            self.refuse(Refusal::Protocol);
        }
        tag
    }

    pub(super) fn on_received(
        &mut self,
        session: Session,
        message: Message,
        payload: Option<BufferId>,
    ) {
        if self.peer.session != Some(session) {
            return self.drop_payload(payload);
        }
        self.peer.heard = self.now;
        self.peer.ping = None;
        match message.body {
            Body::Hello(hello) => self.on_hello(hello),
            Body::Refused(refusal) => {
                if self.peer.refusals.add(refusal, self.now) {
                    let text = format!("the peer ended the connection: {}", refusal.text());
                    self.note(false, text);
                }
                self.peer.refused = refusal == Refusal::NotHolder;
                self.drop_session(session, refusal.text());
            }
            Body::Ping => self.send(0, Body::Pong, None),
            Body::Pong => {}
            Body::Ack { result } => return self.on_answer(&message, result, payload),
            Body::Bytes { at, result } => {
                let asked = self.peer.sent.get(message.tag).map(|sent| sent.what);
                let fits = matches!(asked, Some(Awaited::Request(key)) if self.asked_there(key) == Some(at));
                // Less than was asked for would leave the rest as it was in memory.
                let result = result.and(if fits { Ok(()) } else { Err(IoError::Failed) });
                return self.on_answer(&message, result, payload);
            }
            Body::Differ { blocks, result } => {
                if self.current(&message)
                    && let Some(Sent {
                        what: Awaited::Chunk(key),
                        ..
                    }) = self.peer.sent.remove(message.tag)
                {
                    self.on_differ(key, blocks, result);
                }
            }
            Body::Stamped { generation } => {
                if self.current(&message) && self.peer.sent.remove(message.tag).is_some() {
                    self.on_stamped(generation);
                }
            }
            Body::Extents(_) | Body::Page { .. } | Body::ResyncReady => {
                if self.current(&message) && self.peer.phase == Phase::Begin {
                    self.on_target_says(message);
                }
            }
            Body::DiskFailed => {
                if let Some(hello) = &mut self.peer.hello {
                    hello.disk = None;
                }
                // What it had not flushed may be lost.
                self.pour_unflushed();
                self.part();
            }
            _ => return self.on_taken(message, payload),
        }
        self.drop_payload(payload);
    }

    pub(super) fn drop_payload(&mut self, payload: Option<BufferId>) {
        if let Some(buffer) = payload {
            self.out.push(Effect::Release { buffer });
        }
    }

    /// It answers for the epoch in which this side is active.
    fn current(&self, message: &Message) -> bool {
        self.active_epoch() == Some(message.epoch)
    }

    fn on_answer(
        &mut self,
        message: &Message,
        result: Result<(), IoError>,
        payload: Option<BufferId>,
    ) {
        if !self.is_active() {
            self.on_page_answer();
            return self.drop_payload(payload);
        }
        let sent = if self.current(message) {
            self.peer.sent.remove(message.tag)
        } else {
            None
        };
        match sent.map(|sent| sent.what) {
            Some(Awaited::Request(key)) => {
                self.on_request_answer(key, result, payload);
                self.retry_lagging();
            }
            Some(Awaited::Flush(number)) => self.on_flush_answer(number, result),
            Some(Awaited::Chunk(key)) => self.on_chunk_answer(key, result),
            Some(Awaited::Begin | Awaited::Stamp) => self.part(),
            None => {}
        }
        self.drop_payload(payload);
    }

    fn on_hello(&mut self, hello: Box<Hello>) {
        self.changed = true;
        let other = self
            .data()
            .is_some_and(|data| hello.mirror != 0 && hello.mirror != data.id);
        if other || self.peer.id != Some(hello.member) {
            return self.refuse(Refusal::OtherMirror);
        }
        let cache = (hello.boot, hello.run, hello.failures);
        if let Some((boot, run, failures)) = self.peer.cache {
            let lost = boot != hello.boot
                || (run == hello.run && failures != hello.failures)
                || (run != hello.run && (self.peer.memory || hello.failures > 0));
            if lost && planted(Fault::ForgetUnflushed) {
                self.peer.unflushed = Unflushed::default();
            } else if lost && !self.peer.unflushed.is_empty() {
                self.pour_unflushed();
                self.part();
            }
        }
        self.peer.cache = Some(cache);
        self.peer.refusals.heard(&hello);
        self.peer.refused &= Some(hello.epoch) != self.active_epoch();
        self.peer.hello = Some(hello);
        let ready = self.peer_ready();
        if !ready && self.peer.phase != Phase::Apart {
            self.part();
        }
    }

    /// What the peer acknowledged and did not flush counts as missing there.
    fn pour_unflushed(&mut self) {
        let mut unflushed = std::mem::take(&mut self.peer.unflushed);
        let mut lost = !unflushed.is_empty();
        if let Place::Attached(local) = &mut self.place {
            unflushed.pour(|start, length| local.set(start, length));
            lost = false;
        }
        // Without a bitmap nothing else remembers it.
        self.peer.lost_there |= lost;
        self.doubt_remote();
        self.changed = true;
    }

    /// The peer follows this side in this epoch, with a disk that can take the volume.
    fn peer_ready(&self) -> bool {
        let (Some(epoch), Some(hello), Some(data)) =
            (self.active_epoch(), &self.peer.hello, self.data())
        else {
            return false;
        };
        let size = hello.disk.as_ref().map_or(0, |disk| disk.size);
        hello.mirror == data.id
            && hello.epoch == epoch
            && hello.holder == Some(self.setup.me)
            && !hello.active
            && size >= self.requests.size
            && self.peer.session.is_some()
            && self.peer.avoid.is_none_or(|until| self.now >= until)
    }

    /// It is asked for something new now.
    fn peer_willing(&self) -> bool {
        self.peer_ready() && !self.peer.refusals.hold(self.now)
    }

    /// Says who this side is when that has changed.
    pub(super) fn greet(&mut self) {
        if self.peer.session.is_none() || self.peer.refusals.mute(self.now) {
            return;
        }
        let Some(orders) = &self.orders else {
            return;
        };
        let local = self.local().filter(|_| !self.to_be_made());
        let disk = local.map(|local| DiskState {
            size: local.durable.size,
            generation: local.durable.generation,
            solo: local.durable.solo,
            consistent: local.durable.consistent,
            unclean: local.unclean,
            base: local.durable.base,
            resync_base: local.durable.resync_base,
            ancestors: local.durable.ancestors.clone(),
        });
        let hello = Box::new(Hello {
            mirror: self.data().map_or(0, |data| data.id),
            member: self.setup.me,
            boot: self.boot(),
            run: self.setup.run,
            failures: self.failures,
            version: orders.version,
            holder: orders.holder,
            epoch: orders.epoch,
            active: self.is_active(),
            disk,
        });
        let greeted = self.peer.greeted.as_ref();
        let known = greeted.is_some_and(|greeted| refusals::same(greeted, &hello));
        if !known {
            self.peer.greeted = Some(hello.clone());
            self.send(0, Body::Hello(hello), None);
        }
    }

    /// Silence and hanging disks.
    fn check_peer_time(&mut self) {
        if self.peer.avoid.is_some_and(|until| self.now >= until) {
            self.peer.avoid = None;
        }
        let Some(session) = self.peer.session else {
            return;
        };
        if let Some(due) = self.ping_due()
            && self.now >= due
        {
            self.peer.ping = Some(self.now);
            self.send(0, Body::Ping, None);
        }
        let silent = self
            .peer
            .ping
            .is_some_and(|ping| self.now >= ping.plus(self.peer_timeout()));
        if silent {
            self.note(true, "the peer does not answer: the connection is given up");
            return self.drop_session(session, Refusal::Stale.text());
        }
        if self.peer.hang_check.is_some_and(|at| self.now >= at) {
            let (oldest, patience) = (self.oldest_sent(), self.patience());
            self.peer.hang_check = oldest.map(|at| at.plus(patience));
            if oldest.is_some_and(|at| self.now >= at.plus(patience)) {
                self.peer.avoid = Some(self.now.plus(PATIENCE));
                let text = format!(
                    "the peer's disk has not answered for {} s: going on without it",
                    patience.as_secs()
                );
                self.note(true, text);
                self.drop_session(session, Refusal::Stale.text());
            }
        }
    }

    /// How long the peer's disk may take: in asynchronous mode as long as it may lag behind, and more.
    fn patience(&self) -> Duration {
        match self.mode() {
            MirrorMode::Asynchronous { lag, .. } => PATIENCE.max(lag.saturating_mul(2)),
            _ => PATIENCE,
        }
    }

    /// Of what a disk must answer; preparations may take longer.
    fn oldest_sent(&self) -> Option<Moment> {
        let sent = self.peer.sent.iter().map(|(_, sent)| sent);
        sent.filter(|sent| !matches!(sent.what, Awaited::Begin | Awaited::Stamp))
            .map(|sent| sent.at)
            .min()
    }

    /// When a sign of life is to be asked for.
    fn ping_due(&self) -> Option<Moment> {
        self.peer.session?;
        if self.peer.ping.is_some() || !self.is_active() {
            return None;
        }
        let busy = self.peer.outstanding() > 0 || self.peer.hello.is_none();
        let gap = if busy {
            self.peer_timeout() / 3
        } else {
            IDLE_PING
        };
        Some(self.peer.heard.plus(gap))
    }

    /// When [`Self::check_peer_time`] has something to do.
    pub(super) fn peer_deadline(&self) -> Option<Moment> {
        let connected = self.peer.session.is_some();
        let silence = self.peer.ping.map(|ping| ping.plus(self.peer_timeout()));
        [
            self.ping_due(),
            silence.filter(|_| connected),
            self.peer.hang_check.filter(|_| connected),
            self.peer.avoid,
            self.peer.refusals.until(self.now).filter(|_| connected),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
