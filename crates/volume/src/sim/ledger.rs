//! What the application may find on the volume: a history for each sector.
//!
//! Each write has a number, which is the tag it leaves. A read may return a value only if no later
//! one was acknowledged, or read, before the read began; what may be lost when a host loses its power is
//! only what was not flushed.

use std::collections::BTreeMap;

/// Tag of what was on the first copy when the mirror was made: bit 62 and the sector.
pub const FIRST: u64 = 1 << 62;
/// Tag of what was on other disks: nobody may read it.
pub const GARBAGE: u64 = 1 << 61;

/// A value that was acknowledged to be there, or read.
#[derive(Clone, Copy, Debug)]
struct Known {
    order: u64,
    /// When the write was submitted: no copy had it before.
    begun: u64,
    /// When it was acknowledged or first read.
    at: u64,
    durable: bool,
}

#[derive(Clone, Debug, Default)]
struct Sector {
    known: Vec<Known>,
    /// Greatest number of a write of zeros.
    zeros: u64,
}

impl Sector {
    fn floor(&self) -> u64 {
        self.known
            .iter()
            .map(|known| known.order)
            .max()
            .unwrap_or(0)
    }

    /// Whether that is new. What was acknowledged and is read later may be lost as before.
    fn learn(&mut self, order: u64, begun: u64, at: u64, durable: bool) -> bool {
        let strong = |known: &Known| {
            known.durable && known.order >= order || known.order == order && !durable
        };
        if self.known.iter().any(strong) {
            return false;
        }
        if durable {
            self.known.retain(|known| known.order > order);
        }
        self.known.push(Known {
            order,
            begun,
            at,
            durable,
        });
        if self.known.len() > 32 {
            // Of those that are not durable the first and the newest bound what may be lost.
            let middle = self.known.len() / 2;
            self.known.remove(middle);
        }
        true
    }
}

#[derive(Debug)]
struct Write {
    begun: u64,
    start: usize,
    sectors: usize,
    zero: bool,
}

#[derive(Clone, Copy, Debug)]
struct Unflushed {
    order: u64,
    begun: u64,
    at: u64,
    start: usize,
    sectors: usize,
}

#[derive(Debug, Default)]
pub struct Ledger {
    sectors: Vec<Sector>,
    writes: BTreeMap<u64, Write>,
    next: u64,
    /// Acknowledged or read, and not flushed.
    unflushed: Vec<Unflushed>,
    pub reads_checked: u64,
}

/// The floors of the sectors of a read when it began.
#[derive(Clone, Debug)]
pub struct Floors {
    start: usize,
    floors: Vec<u64>,
}

impl Ledger {
    pub fn new(sectors: usize) -> Self {
        Self {
            sectors: vec![Sector::default(); sectors],
            next: 1,
            ..Self::default()
        }
    }

    pub fn grow(&mut self, sectors: usize) {
        self.sectors.resize(sectors, Sector::default());
    }

    /// A write is submitted: its number, which is the tag (0 is written if `zero`).
    pub fn submit(&mut self, at: u64, start: usize, sectors: usize, zero: bool) -> u64 {
        let order = self.next;
        self.next += 1;
        if zero {
            for sector in &mut self.sectors[start..start + sectors] {
                sector.zeros = order;
            }
        }
        self.writes.insert(
            order,
            Write {
                begun: at,
                start,
                sectors,
                zero,
            },
        );
        order
    }

    /// Has this copy the write, or later ones?
    pub fn holds(&self, order: u64, tags: &[u64]) -> bool {
        let Some(write) = self.writes.get(&order) else {
            return false;
        };
        (write.start..write.start + write.sectors).all(|place| {
            let tag = tags.get(place).copied().unwrap_or(GARBAGE);
            match tag {
                0 => self.sectors[place].zeros >= order,
                tag => tag >= order && tag & (FIRST | GARBAGE) == 0,
            }
        })
    }

    /// For the trace.
    pub fn describe(&self, order: u64) -> String {
        match self.writes.get(&order) {
            Some(write) => format!(
                "write {order:x} of sectors {}..{}",
                write.start,
                write.start + write.sectors
            ),
            None => format!("write {order:x}"),
        }
    }

    pub fn acknowledge(&mut self, order: u64, at: u64, durable: bool) {
        let Some(write) = self.writes.get(&order) else {
            return;
        };
        let (start, sectors) = (write.start, write.sectors);
        let begun = write.begun;
        for sector in &mut self.sectors[start..start + sectors] {
            sector.learn(order, begun, at, durable);
        }
        if !durable {
            self.unflushed.push(Unflushed {
                order,
                begun,
                at,
                start,
                sectors,
            });
        }
    }

    /// A flush that was submitted at `since` has ended.
    pub fn flushed(&mut self, since: u64) {
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unflushed)
            .into_iter()
            .partition(|one| one.at < since);
        self.unflushed = rest;
        for one in done {
            for sector in &mut self.sectors[one.start..one.start + one.sectors] {
                sector.learn(one.order, one.begun, one.at, true);
            }
        }
    }

    pub fn begin_read(&self, start: usize, sectors: usize) -> Floors {
        Floors {
            start,
            floors: self.sectors[start..start + sectors]
                .iter()
                .map(Sector::floor)
                .collect(),
        }
    }

    /// A read has returned these tags.
    pub fn end_read(&mut self, read: &Floors, tags: &[u64], at: u64) -> Result<(), String> {
        for (n, (tag, floor)) in tags.iter().zip(&read.floors).enumerate() {
            let place = read.start + n;
            self.check(place, *tag, *floor)?;
            if *tag != 0 && *tag & (FIRST | GARBAGE) == 0 {
                let begun = self.writes.get(tag).map_or(at, |write| write.begun);
                if !self.sectors[place].learn(*tag, begun, at, false) {
                    continue;
                }
                self.unflushed.push(Unflushed {
                    order: *tag,
                    begun,
                    at,
                    start: place,
                    sectors: 1,
                });
            }
        }
        self.reads_checked += 1;
        Ok(())
    }

    fn check(&self, place: usize, tag: u64, floor: u64) -> Result<(), String> {
        let wrong = |what: &str| {
            Err(format!(
                "sector {place} reads {tag:x}: {what} (write {floor} was known to be there)"
            ))
        };
        if tag & GARBAGE != 0 {
            return wrong("what was on the disk before the mirror");
        }
        if tag & FIRST != 0 {
            let own = usize::try_from(tag & !FIRST) == Ok(place);
            return match own && floor == 0 {
                true => Ok(()),
                false => wrong("the first content"),
            };
        }
        if tag == 0 {
            return match self.sectors[place].zeros >= floor {
                true => Ok(()),
                false => wrong("zeros"),
            };
        }
        let Some(write) = self.writes.get(&tag) else {
            return wrong("no write");
        };
        if write.zero || !(write.start..write.start + write.sectors).contains(&place) {
            return wrong("a write of another place");
        }
        match tag >= floor {
            true => Ok(()),
            false => wrong("an older write"),
        }
    }

    /// The volume is opened on a copy that lost its unflushed writes at `crash` (`None`: never), as far as
    /// they are not exempt.
    pub fn reopen(&mut self, crash: Option<u64>) {
        let Some(crash) = crash else {
            return;
        };
        for sector in &mut self.sectors {
            sector
                .known
                .retain(|known| known.durable || known.begun > crash);
        }
        self.unflushed.retain(|one| one.begun > crash);
    }

    /// What was acknowledged from `since` on is given up: the operator's choice after a split-brain, or
    /// a mode that does not promise it.
    pub fn forgive(&mut self, since: u64) {
        for sector in &mut self.sectors {
            sector.known.retain(|known| known.at < since);
        }
        self.unflushed.retain(|one| one.at < since);
    }

    /// Checks a whole copy.
    pub fn check_all(&self, tags: &[u64]) -> Result<(), String> {
        for (place, sector) in self.sectors.iter().enumerate() {
            let tag = tags.get(place).copied().unwrap_or(GARBAGE);
            self.check(place, tag, sector.floor())?;
        }
        Ok(())
    }
}
