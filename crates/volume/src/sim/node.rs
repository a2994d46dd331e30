//! One host: its power, its mirror process with the driver around it, its disk.

use super::disk::{Disk, SECTOR, Under};
use super::leader::Document;
use crate::engine::{
    BlockHash, BufferId, Effect, Engine, Event, Found, IoError, Outcome, Part, Setup, Token,
    Transfer,
};
use hotpair_core::ids::{Epoch, HostBoot, MemberId};
use hotpair_core::mirror::MirrorReport;
use std::collections::{BTreeMap, VecDeque};

/// What ends later.
#[derive(Clone, Debug)]
pub enum Work {
    Read {
        at: Transfer,
        to: Part,
    },
    /// Of the disk, by the same number.
    Disk,
    MetaRead {
        offset: u64,
        length: u32,
    },
    Hash {
        of: Part,
    },
    Nothing,
}

#[derive(Debug)]
pub struct Node {
    pub id: MemberId,
    pub on: bool,
    pub boot: u64,
    pub run: u64,
    /// Of the process: work of an earlier one is not answered.
    pub life: u64,
    /// Of the host.
    pub power: u64,
    pub engine: Option<Engine>,
    pub paused_until: u64,
    pub pending: VecDeque<Event>,
    pub disk: Disk,
    pub found: Found,
    /// The engine was told of the disk, and it has not failed since.
    pub attached: bool,
    pub buffers: BTreeMap<BufferId, Vec<u64>>,
    next_buffer: u64,
    next_work: u64,
    pub works: BTreeMap<u64, (Token, Work)>,
    pub session: Option<u64>,
    pub kept: Option<Document>,
    pub committed: Option<Document>,
    pub report: Option<MirrorReport>,
    /// A request to open or close is under way.
    pub ticket: Option<u64>,
    /// Last asked to open.
    pub opening: Epoch,
    /// The device is there, in this epoch.
    pub open: Option<Epoch>,
    pub gate: Option<Epoch>,
    /// The engine will be told that the gate is closed.
    pub gate_told: bool,
    pub lease_until: u64,
    pub crashed_at: Option<u64>,
    pub killed_at: Option<u64>,
    pub solo_since: Option<u64>,
    pub slow_until: u64,
    /// A copy of the disk.
    pub saved: Option<Box<Disk>>,
    /// A snapshot was taken since the copy was last whole.
    pub snapshot: bool,
    pub timer: Option<u64>,
    pub wait_until: u64,
}

impl Node {
    pub fn new(id: MemberId, disk: Disk, found: Found) -> Self {
        Self {
            id,
            on: false,
            boot: 0,
            run: 0,
            life: 0,
            power: 0,
            engine: None,
            paused_until: 0,
            pending: VecDeque::new(),
            disk,
            found,
            attached: false,
            buffers: BTreeMap::new(),
            next_buffer: 0,
            next_work: 0,
            works: BTreeMap::new(),
            session: None,
            kept: None,
            committed: None,
            report: None,
            ticket: None,
            opening: Epoch(0),
            open: None,
            gate: None,
            gate_told: true,
            lease_until: 0,
            crashed_at: None,
            killed_at: None,
            solo_since: None,
            slow_until: 0,
            saved: None,
            snapshot: false,
            timer: None,
            wait_until: 0,
        }
    }

    /// A new process.
    pub fn start(&mut self, through_peer: bool, log_extents: usize) {
        self.life += 1;
        self.run += 1;
        self.engine = Some(Engine::new(Setup {
            me: self.id,
            boot: HostBoot(self.boot),
            run: self.run,
            through_peer,
            log_extents,
        }));
        self.timer = None;
    }

    /// The process ends; what it has begun on the disk goes on.
    pub fn end(&mut self) {
        self.life += 1;
        self.engine = None;
        self.pending.clear();
        self.paused_until = 0;
        self.buffers.clear();
        self.session = None;
        self.ticket = None;
        self.open = None;
        self.attached = false;
        self.timer = None;
        let disk = &mut self.disk;
        self.works.retain(|number, (_, work)| {
            let goes_on = matches!(work, Work::Disk);
            let _ = (number, &disk);
            goes_on
        });
    }

    pub fn new_buffer(&mut self, tags: Vec<u64>) -> BufferId {
        self.next_buffer += 2;
        let buffer = BufferId(self.next_buffer);
        self.buffers.insert(buffer, tags);
        buffer
    }

    pub fn part(&self, part: Part) -> Vec<u64> {
        let start = (u64::from(part.offset) / SECTOR) as usize;
        let count = (u64::from(part.length) / SECTOR) as usize;
        let buffer = self.buffers.get(&part.buffer);
        buffer
            .and_then(|tags| tags.get(start..start + count))
            .map_or_else(|| vec![u64::MAX; count], <[u64]>::to_vec)
    }

    /// Begins what `effect` asks of the disk; its number, and about how long it takes. `None`: it is
    /// nothing of the disk.
    pub fn begin(&mut self, effect: &Effect) -> Option<(u64, u64)> {
        self.next_work += 1;
        let number = self.next_work;
        let (token, work, takes) = match effect {
            Effect::Read { token, at, to } => {
                if to.buffer.0 % 2 == 1 {
                    let count = (u64::from(to.offset + to.length) / SECTOR) as usize;
                    self.buffers
                        .entry(to.buffer)
                        .or_insert_with(|| vec![u64::MAX; count]);
                }
                (*token, Work::Read { at: *at, to: *to }, 80)
            }
            Effect::Write {
                token,
                at,
                from,
                durable,
            } => {
                let tags = self.part(*from);
                self.disk.begin(number, Disk::write_of(*at, tags, *durable));
                (*token, Work::Disk, if *durable { 250 } else { 80 })
            }
            Effect::Flush { token } => {
                let flush = self.disk.flush_now();
                self.disk.begin(number, flush);
                (*token, Work::Disk, 400)
            }
            Effect::Discard { token, at, .. } => {
                let tags = vec![0; at.length as usize / 512];
                self.disk.begin(number, Disk::write_of(*at, tags, false));
                (*token, Work::Disk, 60)
            }
            Effect::Zero {
                token,
                offset,
                length,
            } => {
                let count = usize::try_from(length / SECTOR).unwrap_or(0);
                let start = usize::try_from(offset / SECTOR).unwrap_or(0);
                let under = Under::Write {
                    start,
                    tags: vec![0; count],
                    durable: true,
                };
                self.disk.begin(number, under);
                (*token, Work::Disk, 2000)
            }
            Effect::MetaRead {
                token,
                offset,
                length,
            } => {
                let work = Work::MetaRead {
                    offset: *offset,
                    length: *length,
                };
                (*token, work, 80)
            }
            Effect::MetaWrite {
                token,
                offset,
                bytes,
            } => {
                let under = Under::Meta {
                    offset: usize::try_from(*offset).unwrap_or(0),
                    bytes: bytes.clone(),
                };
                self.disk.begin(number, under);
                (*token, Work::Disk, 250)
            }
            Effect::Hash { token, of } => (*token, Work::Hash { of: *of }, 40),
            Effect::Snapshot { token } => (*token, Work::Nothing, 3000),
            _ => return None,
        };
        self.works.insert(number, (token, work));
        Some((number, takes))
    }

    /// It ends: the event for the engine.
    pub fn finish(&mut self, number: u64) -> Option<Event> {
        let (token, work) = self.works.remove(&number)?;
        let result = match work {
            Work::Read { at, to } => self.disk.read(at).map(|tags| {
                let start = (u64::from(to.offset) / SECTOR) as usize;
                if let Some(buffer) = self.buffers.get_mut(&to.buffer)
                    && let Some(place) = buffer.get_mut(start..start + tags.len())
                {
                    place.copy_from_slice(&tags);
                }
                Outcome::Done
            }),
            Work::Disk => self.disk.end(number).map(|()| Outcome::Done),
            Work::MetaRead { offset, length } => {
                self.disk.meta_read(offset, length).map(Outcome::Bytes)
            }
            Work::Hash { of } => Ok(Outcome::Hashes(self.part(of).chunks(8).map(hash).collect())),
            Work::Nothing => Ok(Outcome::Done),
        };
        if result.is_err() && !matches!(result, Err(IoError::NoSpace)) {
            self.attached = false;
        }
        Some(Event::Done { token, result })
    }
}

fn hash(tags: &[u64]) -> BlockHash {
    if tags.iter().all(|tag| *tag == 0) {
        return BlockHash::ZERO;
    }
    let mut state: u128 = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;
    for tag in tags {
        state ^= u128::from(*tag).wrapping_add(1);
        state = state.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        state ^= state >> 61;
    }
    BlockHash(state.to_le_bytes())
}
