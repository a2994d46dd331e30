//! One engine as holder, a disk in memory, and a peer that answers as it is told.

use crate::engine::{
    BlockHash, BufferId, Effect, Engine, Event, Found, IoError, IoId, Outcome, Session, Setup,
    Ticket, Token, Transfer,
};
use crate::link::{Body, DiskState, Hello, Message};
use crate::store::BLOCK;
use hotpair_core::config::MirrorMode;
use hotpair_core::ids::{Epoch, HostBoot, MemberId, Version};
use hotpair_core::mirror::{
    Copy, Data, Disk, Generation, MirrorCommitted, MirrorOrders, MirrorReport,
};
use hotpair_core::time::Moment;
use std::collections::VecDeque;
use std::time::Duration;

pub const MIB: u64 = 1 << 20;
const ME: MemberId = MemberId(1);
pub const PEER: MemberId = MemberId(2);
const EPOCH: Epoch = Epoch(1);
const SIZE: u64 = 4 * MIB;
const ID: u64 = 77;
/// Places of sectors: after the blocks of [`Desk::write`].
const SECTORS: u64 = SIZE / 2;

pub struct Desk {
    pub engine: Engine,
    pub now: Moment,
    orders: MirrorOrders,
    metadata: Vec<u8>,
    events: VecDeque<Event>,
    said: Vec<Effect>,
    /// Blocks of every chunk that the peer finds different.
    pub differ: u64,
    /// What the peer does not answer.
    held: fn(&Body) -> bool,
    at_peer: Vec<Message>,
    /// What the local disk does not end.
    pub hold_disk: fn(&Effect) -> bool,
    on_disk: Vec<Token>,
    session: u64,
    report: Option<MirrorReport>,
    next_buffer: u64,
}

impl Desk {
    /// The disk is made; this node holds the mirror alone.
    pub fn made(mode: MirrorMode) -> Self {
        let setup = Setup {
            me: ME,
            boot: HostBoot(1),
            run: 1,
            through_peer: true,
            log_extents: 8,
        };
        let data = Data::new(ID, [ME, PEER]);
        let mut desk = Self {
            engine: Engine::new(setup),
            now: Moment(1_000_000),
            orders: MirrorOrders {
                version: Version::new(1, 1),
                holder: None,
                epoch: Epoch(0),
                committed: Some(MirrorCommitted {
                    version: Version::new(1, 1),
                    data,
                    holder: None,
                    epoch: Epoch(0),
                    solo_after: None,
                }),
                mode,
                size: SIZE,
                peer_timeout: Duration::from_secs(1),
                leaving: false,
            },
            metadata: Vec::new(),
            events: VecDeque::new(),
            said: Vec::new(),
            differ: 0,
            held: |_| false,
            at_peer: Vec::new(),
            hold_disk: |_| false,
            on_disk: Vec::new(),
            session: 0,
            report: None,
            next_buffer: 0,
        };
        desk.order(|_| ());
        desk.tell(Event::Disk(Found {
            size: 64 * MIB,
            beside: true,
            holds: None,
            earlier: Vec::new(),
        }));
        desk.order(|orders| {
            (orders.holder, orders.epoch) = (Some(ME), EPOCH);
            let Some(committed) = &mut orders.committed else {
                return;
            };
            (committed.holder, committed.epoch) = (Some(ME), EPOCH);
            let data = &mut committed.data;
            data.copies.insert(ME, Copy::UpToDate);
            data.copies.insert(PEER, Copy::Inconsistent);
            data.ancestors.push(data.generation);
            data.generation = Generation(11);
            data.alone = Some(EPOCH);
        });
        desk
    }

    /// Open, with a peer that has everything.
    pub fn in_sync(mode: MirrorMode) -> Self {
        let mut desk = Self::made(mode);
        desk.tell(Event::Open {
            ticket: Ticket(1),
            epoch: EPOCH,
        });
        desk.connect(HostBoot(1), Generation::NONE);
        assert!(desk.report().complete.contains(&PEER), "{:?}", desk.report);
        desk.order(|orders| {
            if let Some(committed) = &mut orders.committed {
                committed.data.copies.insert(PEER, Copy::UpToDate);
                committed.data.alone = None;
            }
        });
        desk
    }

    pub fn epoch(&self) -> Epoch {
        EPOCH
    }

    fn connect(&mut self, boot: HostBoot, generation: Generation) {
        self.session += 1;
        let session = Session(self.session);
        self.tell(Event::PeerConnected {
            session,
            peer: PEER,
        });
        let hello = Hello {
            mirror: ID,
            member: PEER,
            boot,
            run: 1,
            failures: 0,
            version: self.orders.version,
            holder: Some(ME),
            epoch: EPOCH,
            active: false,
            disk: Some(DiskState {
                size: self.orders.size,
                generation,
                solo: None,
                consistent: true,
                unclean: false,
                base: generation,
                resync_base: Generation::NONE,
                ancestors: Vec::new(),
            }),
        };
        self.hear(0, Body::Hello(Box::new(hello)));
    }

    /// The connection is lost; the peer comes back, in this boot of its host.
    pub fn peer_returns(&mut self, boot: HostBoot) {
        let session = Session(self.session);
        self.tell(Event::PeerLost { session });
        self.at_peer.clear();
        self.connect(boot, Generation(11));
    }

    /// A newer document.
    fn order(&mut self, change: impl FnOnce(&mut MirrorOrders)) {
        let version = Version::new(1, self.orders.version.index + 1);
        self.orders.version = version;
        if let Some(committed) = &mut self.orders.committed {
            committed.version = version;
            committed.data.serial += 1;
        }
        change(&mut self.orders);
        self.tell(Event::Orders(Box::new(self.orders.clone())));
    }

    pub fn grow_orders(&mut self, size: u64) {
        self.order(|orders| orders.size = size);
    }

    /// The peer is recorded as outdated.
    pub fn record_alone(&mut self) {
        self.order(|orders| {
            if let Some(committed) = &mut orders.committed {
                let data = &mut committed.data;
                data.copies.insert(PEER, Copy::Outdated);
                data.ancestors.push(data.generation);
                data.generation = Generation(12);
                data.alone = Some(EPOCH);
            }
        });
    }

    /// What is caused by `event`, until nothing moves any more.
    pub fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        for _ in 0..1_000_000 {
            let Some(event) = self.events.pop_front() else {
                return;
            };
            self.now = self.now.plus(Duration::from_micros(1));
            let mut effects = Vec::new();
            self.engine.step(self.now, event, &mut effects);
            for effect in effects {
                self.carry_out(effect);
            }
        }
        panic!("it does not come to rest");
    }

    fn carry_out(&mut self, effect: Effect) {
        let held = (self.hold_disk)(&effect);
        let (token, outcome) = match effect {
            Effect::Write { token, .. } | Effect::Flush { token } if held => {
                return self.on_disk.push(token);
            }
            Effect::Read { token, .. }
            | Effect::Write { token, .. }
            | Effect::Flush { token }
            | Effect::Discard { token, .. }
            | Effect::Zero { token, .. }
            | Effect::Snapshot { token } => (token, Outcome::Done),
            Effect::Hash { token, of } => {
                let blocks = of.length as usize / 4096;
                (token, Outcome::Hashes(vec![BlockHash([1; 16]); blocks]))
            }
            Effect::MetaRead {
                token,
                offset,
                length,
            } => {
                let start = usize::try_from(offset).unwrap();
                let end = start + length as usize;
                self.metadata.resize(self.metadata.len().max(end), 0);
                (token, Outcome::Bytes(self.metadata[start..end].to_vec()))
            }
            Effect::MetaWrite {
                token,
                offset,
                bytes,
            } => {
                let start = usize::try_from(offset).unwrap();
                let end = start + bytes.len();
                self.metadata.resize(self.metadata.len().max(end), 0);
                self.metadata[start..end].copy_from_slice(&bytes);
                (token, Outcome::Done)
            }
            Effect::Send {
                session, message, ..
            } => {
                if session == Session(self.session) {
                    self.at_peer(*message);
                }
                return;
            }
            Effect::Report(report) => {
                self.report = Some(*report);
                return;
            }
            other => return self.said.push(other),
        };
        self.events.push_back(Event::Done {
            token,
            result: Ok(outcome),
        });
    }

    fn at_peer(&mut self, message: Message) {
        if (self.held)(&message.body) {
            return self.at_peer.push(message);
        }
        let body = match message.body {
            Body::ResyncBegin { .. } => Body::ResyncReady,
            Body::Compare { .. } => Body::Differ {
                blocks: self.differ,
                result: Ok(()),
            },
            Body::Stamp(stamp) => Body::Stamped {
                generation: stamp.generation,
            },
            Body::Ping => Body::Pong,
            _ if message.tag != 0 => Body::Ack { result: Ok(()) },
            _ => return,
        };
        self.events
            .push_back(self.message_of_peer(message.tag, body));
    }

    fn message_of_peer(&self, tag: u64, body: Body) -> Event {
        let message = Message {
            epoch: EPOCH,
            serial: 0,
            tag,
            body,
        };
        Event::Received {
            session: Session(self.session),
            message: Box::new(message),
            payload: None,
        }
    }

    fn hear(&mut self, tag: u64, body: Body) {
        let event = self.message_of_peer(tag, body);
        self.tell(event);
    }

    /// Time passes, and nothing happens in it.
    pub fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
    }

    /// The peer does not answer these from here on.
    pub fn hold(&mut self, held: fn(&Body) -> bool) {
        self.held = held;
    }

    pub fn held_at_peer(&self) -> impl Iterator<Item = &Message> {
        self.at_peer.iter()
    }

    pub fn answer(&mut self, tag: u64, body: Body) {
        self.at_peer.retain(|message| message.tag != tag);
        self.hear(tag, body);
    }

    /// Everything held is answered so, and what comes later as usual.
    pub fn answer_held(&mut self, body: Body) {
        self.held = |_| false;
        for message in std::mem::take(&mut self.at_peer) {
            self.hear(message.tag, body.clone());
        }
    }

    /// Writes block `number`, as request of that number.
    pub fn write(&mut self, number: u64) {
        self.submit(number, number * BLOCK, 4096);
    }

    /// Writes a sector, as request `number`.
    pub fn write_sector(&mut self, number: u64) {
        self.submit(number, SECTORS + number * 512 % (SIZE - SECTORS), 512);
    }

    fn submit(&mut self, number: u64, offset: u64, length: u32) {
        self.next_buffer += 2;
        self.tell(Event::Write {
            io: IoId(number),
            at: Transfer { offset, length },
            buffer: BufferId(self.next_buffer),
            fua: false,
        });
    }

    pub fn flush(&mut self, number: u64) {
        self.tell(Event::Flush { io: IoId(number) });
    }

    /// What the local disk holds ends.
    pub fn end_held(&mut self) {
        self.hold_disk = |_| false;
        for token in std::mem::take(&mut self.on_disk) {
            let result = Ok(Outcome::Done);
            self.tell(Event::Done { token, result });
        }
    }

    fn results(&self, number: u64) -> impl Iterator<Item = Result<(), IoError>> + '_ {
        self.said.iter().filter_map(move |effect| match effect {
            Effect::Complete { io, result } if *io == IoId(number) => Some(*result),
            _ => None,
        })
    }

    /// What request `number` ended in.
    pub fn result_of(&self, number: u64) -> Option<Result<(), IoError>> {
        self.results(number).next()
    }

    /// How often it was answered.
    pub fn answers(&self, number: u64) -> usize {
        self.results(number).count()
    }

    pub fn has_ended(&self, number: u64) -> bool {
        self.result_of(number) == Some(Ok(()))
    }

    /// How many requests ended well.
    pub fn ended(&self) -> u64 {
        let good = |effect: &&Effect| matches!(effect, Effect::Complete { result: Ok(()), .. });
        self.said.iter().filter(good).count() as u64
    }

    pub fn has_noted(&self, words: &str) -> bool {
        let found =
            |effect: &Effect| matches!(effect, Effect::Note { text, .. } if text.contains(words));
        self.said.iter().any(found)
    }

    pub fn has_dropped(&self) -> bool {
        self.said
            .iter()
            .any(|effect| matches!(effect, Effect::Drop { .. }))
    }

    /// It is not open any more, and not in good order.
    pub fn has_ended_open(&self) -> bool {
        self.said
            .iter()
            .any(|effect| matches!(effect, Effect::Ended { .. }))
    }

    /// Whether it was closed well, if it was closed.
    pub fn closed(&self) -> Option<bool> {
        self.said.iter().find_map(|effect| match effect {
            Effect::Closed { result, .. } => Some(result.is_ok()),
            _ => None,
        })
    }

    /// As the driver was last told.
    pub fn size_of_device(&self) -> Option<u64> {
        self.said.iter().rev().find_map(|effect| match effect {
            Effect::Opened { result, .. } => result.clone().ok(),
            Effect::Resized { size } => Some(*size),
            _ => None,
        })
    }

    pub fn report(&self) -> &MirrorReport {
        self.report.as_ref().unwrap()
    }

    pub fn disk_has_failed(&self) -> bool {
        matches!(self.report().disk, Disk::Failed(_))
    }
}
