//! Finding, judging and making the mark of the mirror on the local disk.
//!
//! ```text
//!   Event::Disk -> superblocks read -> judged by the committed data -+-> not ours: Blank, Failed
//!                                                  ^                 +-> to be made: pages, logs, superblocks
//!                                                  | other orders    +-> ours: logs, bitmap read -> Attached
//! ```

use super::activity::Activity;
use super::event::{Effect, Found, IoError, Outcome, Token};
use super::local::Local;
use super::{Engine, Op};
use crate::store::{
    BLOCK, BLOCK_LEN, Bits, Flaw, LOG_EXTENTS, Layout, LogTable, Page, Superblock, decode_page,
    encode_page, layout, newest, newest_log,
};
use hotpair_core::ids::{Epoch, HostBoot, MemberId};
use hotpair_core::mirror::{Copy, Data, Disk, Generation};

/// Bytes of metadata read or written at once.
const PIECE: usize = 1024 * 1024;
/// Earlier sizes of a disk that are tried.
const EARLIER: usize = 16;

/// The local disk.
#[derive(Debug)]
pub(super) enum Place {
    /// Not told of yet.
    Unknown,
    /// Cannot be used: why, and what to do.
    Failed(String),
    Reading(Reading),
    /// The mark was looked for; what is made of it depends on the orders.
    Seen(Seen),
    Making(Making),
    Attached(Box<Local>),
}

impl Place {
    /// As far as the bitmap knows, the other copy has everything.
    pub(super) fn lacks_nothing(&self) -> bool {
        match self {
            Self::Attached(local) => local.bits.is_empty(),
            _ => true,
        }
    }
}

#[derive(Debug)]
pub(super) struct Seen {
    found: Found,
    mark: Result<Superblock, Flaw>,
}

#[derive(Debug)]
pub(super) struct Reading {
    found: Found,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// `back`: at the place by so many sizes earlier.
    Mark {
        back: usize,
    },
    Logs(Superblock),
    Bitmap {
        superblock: Superblock,
        logged: Vec<u32>,
        sequence: u64,
        bits: Bits,
        next: u32,
    },
}

#[derive(Debug)]
pub(super) struct Making {
    found: Found,
    superblock: Superblock,
    next_page: u32,
    logs: bool,
    superblocks: u64,
}

enum Verdict {
    /// Nothing is known to be committed.
    Wait,
    Blank(Option<String>),
    Failed(String),
    Make,
    Read(Superblock),
}

fn judge(seen: &Seen, data: &Data, me: MemberId) -> Verdict {
    let Some(copy) = data.copies.get(&me) else {
        return Verdict::Wait;
    };
    let (new, overwrite) = match copy {
        Copy::New { overwrite } => (true, *overwrite),
        _ => (false, false),
    };
    let blank = |holds: &str| Verdict::Blank(Some(holds.to_owned()));
    match &seen.mark {
        _ if new && overwrite && !just_made(&seen.mark, data, me) => Verdict::Make,
        Err(Flaw::Version(version)) => Verdict::Failed(format!(
            "the disk's metadata has format {version}, which this version of hotpair does not know: \
             update hotpair on this node"
        )),
        Err(Flaw::Damaged) if new => blank("the damaged metadata of a mirror"),
        Err(Flaw::Damaged) => Verdict::Failed(
            "both copies of the mirror's metadata on the disk are damaged: check the disk, then have \
             the copy made anew"
                .into(),
        ),
        Err(Flaw::Foreign) if new && seen.found.holds.is_none() => Verdict::Make,
        Err(Flaw::Foreign) => Verdict::Blank(seen.found.holds.clone()),
        Ok(mark) if mark.mirror != data.id => blank("a copy of another mirror"),
        Ok(mark) if mark.node != me => Verdict::Failed(format!(
            "the disk bears the mark of the copy of node {}: was it moved or cloned?",
            mark.node
        )),
        Ok(mark) if new && !just_made(&seen.mark, data, me) => {
            let _ = mark;
            blank("an earlier copy of this mirror")
        }
        Ok(mark) if !fits(mark, &seen.found) => Verdict::Failed(format!(
            "the disk has {} bytes now, which is less than the copy on it takes: it was made smaller",
            seen.found.size
        )),
        Ok(mark) => Verdict::Read(mark.clone()),
    }
}

/// Made for this mirror, and nothing was ever written.
fn just_made(mark: &Result<Superblock, Flaw>, data: &Data, me: MemberId) -> bool {
    mark.as_ref().is_ok_and(|mark| is_just_made(mark, data, me))
}

fn is_just_made(mark: &Superblock, data: &Data, me: MemberId) -> bool {
    mark.mirror == data.id
        && mark.node == me
        && mark.generation == Generation::NONE
        && mark.consistent
        && !mark.open
        && mark.solo.is_none()
}

fn fits(mark: &Superblock, found: &Found) -> bool {
    let end = if mark.layout.beside {
        mark.size
    } else {
        mark.layout.superblock(1) + BLOCK
    };
    mark.layout.beside == found.beside && found.size >= end
}

impl Engine {
    pub(super) fn on_disk(&mut self, found: Found) {
        self.shed = None;
        if let Place::Attached(local) = &mut self.place {
            // It has grown.
            local.found = found;
            return;
        }
        if self.is_active() {
            // It lacks what happened meanwhile: not in this opening.
            self.returned = Some(found);
            return;
        }
        self.attempt += 1;
        self.read_mark(found, 0);
    }

    pub(super) fn on_no_disk(&mut self, why: String) {
        self.shed = None;
        if matches!(self.place, Place::Attached(_)) {
            self.fail_local(why);
        } else {
            self.returned = None;
            self.place = Place::Failed(why);
        }
    }

    fn read_mark(&mut self, found: Found, back: usize) {
        let earlier = back.checked_sub(1).and_then(|at| found.earlier.get(at));
        let size = earlier.copied().unwrap_or(found.size);
        if size > found.size {
            self.place = Place::Failed(format!(
                "the disk has {} bytes now and had {size} when it was used: it was made smaller",
                found.size
            ));
            return;
        }
        match Layout::superblocks_of(size, found.beside) {
            Some(offset) => {
                self.place = Place::Reading(Reading {
                    found,
                    step: Step::Mark { back },
                });
                self.meta_read(offset, 2 * BLOCK_LEN);
            }
            None => {
                self.place = Place::Failed(format!(
                    "the disk has {} bytes: too small for a mirror",
                    found.size
                ));
            }
        }
    }

    fn meta_read(&mut self, offset: u64, length: usize) {
        let token = Token(self.ops.insert(Op::Attach(self.attempt)));
        self.out.push(Effect::MetaRead {
            token,
            offset,
            length: u32::try_from(length).unwrap_or(0),
        });
    }

    fn meta_write(&mut self, offset: u64, bytes: Vec<u8>) {
        let token = Token(self.ops.insert(Op::Attach(self.attempt)));
        self.out.push(Effect::MetaWrite {
            token,
            offset,
            bytes,
        });
    }

    /// This node's copy is to be made anew, by the newest that is known here to be agreed. Until something
    /// newer is known nobody goes on with it: what is done with it later cannot be taken for what was before.
    pub(super) fn to_be_made(&self) -> bool {
        let copy = self.data().and_then(|data| data.copies.get(&self.setup.me));
        matches!(copy, Some(Copy::New { .. }))
    }

    /// Lets go of a copy that is to be made anew although it is in use, and looks at the disk once nothing
    /// is under way on it.
    pub(super) fn settle_shed(&mut self) {
        if let Some(found) = &self.shed
            && self.ops.is_empty()
        {
            let found = found.clone();
            return self.on_disk(found);
        }
        let (Place::Attached(local), Some(data)) = (&self.place, self.data()) else {
            return;
        };
        let me = self.setup.me;
        let anew = matches!(data.copies.get(&me), Some(Copy::New { overwrite: true }));
        if !anew || self.is_active() || is_just_made(&local.durable, data, me) {
            return;
        }
        self.shed = Some(local.found.clone());
        self.place = Place::Unknown;
        self.failures += 1;
        self.changed = true;
        self.stop_resync();
        self.grow.stop();
        self.standby_failed();
    }

    /// Judges what was seen, if the orders allow it now.
    pub(super) fn settle_disk(&mut self) {
        let Place::Seen(seen) = &self.place else {
            return;
        };
        let Some(data) = self.data() else {
            return;
        };
        match judge(seen, data, self.setup.me) {
            Verdict::Make => self.make(),
            Verdict::Read(mark) => {
                let found = seen.found.clone();
                let offset = mark.layout.log(0);
                self.place = Place::Reading(Reading {
                    found,
                    step: Step::Logs(mark),
                });
                self.meta_read(offset, 2 * BLOCK_LEN);
            }
            Verdict::Wait | Verdict::Blank(_) | Verdict::Failed(_) => {}
        }
    }

    fn make(&mut self) {
        let (Some(data), Some(orders)) = (self.data(), &self.orders) else {
            return;
        };
        let Place::Seen(seen) = &self.place else {
            return;
        };
        let places = match layout(orders.size, seen.found.size, seen.found.beside) {
            Ok(places) => places,
            // Told by the report; made when the orders or the disk are others.
            Err(_) => return,
        };
        let superblock = Superblock {
            sequence: 1,
            mirror: data.id,
            node: self.setup.me,
            size: orders.size,
            generation: Generation::NONE,
            ancestors: Vec::new(),
            consistent: true,
            open: false,
            written: false,
            solo: None,
            base: Generation::NONE,
            resync_base: Generation::NONE,
            boot: self.setup.boot,
            epoch: Epoch(0),
            layout: places,
        };
        // Nobody may go on with what is not there any more.
        self.place = Place::Making(Making {
            found: seen.found.clone(),
            superblock,
            next_page: 0,
            logs: false,
            superblocks: 0,
        });
        self.refuse(crate::link::Refusal::NoDisk);
        self.make_more();
    }

    /// The next write of making: the superblocks last, so that a disk half made is blank.
    fn make_more(&mut self) {
        let Place::Making(making) = &mut self.place else {
            return;
        };
        let places = making.superblock.layout;
        if making.next_page < places.pages {
            let first = making.next_page;
            let count = (PIECE / BLOCK_LEN).min((places.pages - first) as usize);
            let pages = first..first + u32::try_from(count).unwrap_or(1);
            making.next_page = pages.end;
            let bytes = pages
                .flat_map(|page| encode_page(page, &Page::Clear))
                .collect();
            self.meta_write(places.page(first), bytes);
        } else if !making.logs {
            making.logs = true;
            let table = |sequence| LogTable {
                sequence,
                mirror: making.superblock.mirror,
                extents: Vec::new(),
            };
            let bytes = [table(0), table(1)]
                .iter()
                .flat_map(LogTable::encode)
                .collect();
            self.meta_write(places.log(0), bytes);
        } else if making.superblocks < 2 {
            // First the place of the lower sequence number.
            making.superblocks += 1;
            making.superblock.sequence = 1 + making.superblocks;
            let offset = places.superblock(making.superblock.sequence);
            let bytes = making.superblock.encode();
            self.meta_write(offset, bytes);
        } else {
            let blocks = making.superblock.size / BLOCK;
            let log = Activity::new(self.log_limit, 1);
            let local = Local::new(
                making.superblock.clone(),
                making.found.clone(),
                Bits::new(blocks),
                log,
                &[],
            );
            self.place = Place::Attached(Box::new(local));
            self.changed = true;
        }
    }

    /// A read or write of the metadata while attaching has ended.
    pub(super) fn on_attach(&mut self, result: Result<Outcome, IoError>) {
        self.changed = true;
        let bytes = match result {
            Ok(Outcome::Bytes(bytes)) => bytes,
            Ok(_) => Vec::new(),
            Err(error) => {
                let doing = match self.place {
                    Place::Making(_) => "making the mirror's metadata on",
                    Place::Reading(_) => "reading the mirror's metadata from",
                    _ => return,
                };
                self.place = Place::Failed(format!("{doing} the disk failed: {}", words(error)));
                return;
            }
        };
        match std::mem::replace(&mut self.place, Place::Unknown) {
            Place::Making(making) => {
                self.place = Place::Making(making);
                self.make_more();
            }
            Place::Reading(reading) => self.read_more(reading, &bytes),
            other => self.place = other,
        }
    }

    fn read_more(&mut self, reading: Reading, bytes: &[u8]) {
        let found = reading.found;
        let part = |n: usize| bytes.get(n * BLOCK_LEN..(n + 1) * BLOCK_LEN).unwrap_or(&[]);
        match reading.step {
            Step::Mark { back } => {
                let mark = newest([part(0), part(1)]);
                let elsewhere = !found.beside && back < found.earlier.len().min(EARLIER);
                if mark == Err(Flaw::Foreign) && elsewhere {
                    self.read_mark(found, back + 1);
                    return;
                }
                self.place = Place::Seen(Seen { found, mark });
            }
            Step::Logs(superblock) => {
                let table = newest_log([part(0), part(1)], superblock.mirror);
                let sequence = table.as_ref().map_or(0, |table| table.sequence);
                let logged = match table {
                    _ if !superblock.open => Vec::new(),
                    Some(table) => table.extents,
                    // Unknown: all extents count.
                    None => all_extents(superblock.size),
                };
                let bits = Bits::new(superblock.size / BLOCK);
                let offset = superblock.layout.page(0);
                let length = piece(0, bits.pages());
                self.place = Place::Reading(Reading {
                    found,
                    step: Step::Bitmap {
                        superblock,
                        logged,
                        sequence,
                        bits,
                        next: 0,
                    },
                });
                self.meta_read(offset, length);
            }
            Step::Bitmap {
                superblock,
                logged,
                sequence,
                mut bits,
                next,
            } => {
                let count = u32::try_from(piece(next, bits.pages()) / BLOCK_LEN).unwrap_or(0);
                for n in 0..count {
                    let page = decode_page(next + n, part(n as usize));
                    bits.load(next + n, page);
                }
                let next = next + count;
                if next < bits.pages() {
                    let offset = superblock.layout.page(next);
                    let length = piece(next, bits.pages());
                    self.place = Place::Reading(Reading {
                        found,
                        step: Step::Bitmap {
                            superblock,
                            logged,
                            sequence,
                            bits,
                            next,
                        },
                    });
                    self.meta_read(offset, length);
                    return;
                }
                self.attached(superblock, found, bits, &logged, sequence);
            }
        }
    }

    fn attached(
        &mut self,
        mut superblock: Superblock,
        found: Found,
        bits: Bits,
        logged: &[u32],
        sequence: u64,
    ) {
        superblock.layout.beside = found.beside;
        let log = Activity::new(self.log_limit, sequence);
        let table = &logged[..logged.len().min(LOG_EXTENTS.min(self.log_limit))];
        let mut local = Local::new(superblock, found, bits, log, table);
        for extent in &logged[table.len()..] {
            local.set_doubtful(*extent);
        }
        local.wanted.boot = self.setup.boot;
        self.place = Place::Attached(Box::new(local));
    }

    /// What the report says of the disk.
    pub(super) fn disk_report(&self) -> Disk {
        match &self.place {
            Place::Unknown | Place::Reading(_) | Place::Making(_) => Disk::Unknown,
            Place::Failed(why) => Disk::Failed(why.clone()),
            Place::Seen(seen) => self.seen_report(seen),
            Place::Attached(local) => Disk::Attached {
                generation: local.durable.generation,
                consistent: local.durable.consistent,
                solo: local.durable.solo,
                unclean: local.unclean,
                written: local.durable.written,
                boot: self.setup.boot,
            },
        }
    }

    fn seen_report(&self, seen: &Seen) -> Disk {
        let (Some(data), Some(orders)) = (self.data(), &self.orders) else {
            return Disk::Unknown;
        };
        match judge(seen, data, self.setup.me) {
            Verdict::Wait | Verdict::Read(_) => Disk::Unknown,
            Verdict::Blank(holds) => Disk::Blank { holds },
            Verdict::Failed(why) => Disk::Failed(why),
            Verdict::Make => match layout(orders.size, seen.found.size, seen.found.beside) {
                Ok(_) => Disk::Unknown,
                Err(why) => Disk::Failed(why.to_string()),
            },
        }
    }

    /// Host boot that the report and hello name.
    pub(super) fn boot(&self) -> HostBoot {
        self.setup.boot
    }
}

pub(super) fn words(error: IoError) -> &'static str {
    match error {
        IoError::Closed => "it was closed",
        IoError::Failed => "an I/O error",
        IoError::NoSpace => "no space left",
        IoError::Invalid => "outside of the disk",
    }
}

/// Bytes of the piece of the bitmap from page `from`.
fn piece(from: u32, pages: u32) -> usize {
    ((pages - from) as usize * BLOCK_LEN).min(PIECE)
}

fn all_extents(size: u64) -> Vec<u32> {
    let count = size.div_ceil(crate::store::EXTENT);
    (0..u32::try_from(count).unwrap_or(u32::MAX)).collect()
}
