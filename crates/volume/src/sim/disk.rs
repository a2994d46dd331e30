//! A simulated disk: bytes of the volume as one tag for each sector of 512, and the metadata as bytes.
//!
//! What was written and not flushed is lost, kept or torn at a power cut, each write for itself; a write of
//! the metadata (which ends on stable storage) that was under way is torn at sectors.

use super::rng::Rng;
use crate::engine::{Found, IoError, Transfer};
use crate::store::{Layout, Superblock, newest};
use std::collections::BTreeMap;

pub const SECTOR: u64 = 512;

/// A write that ended and was not flushed.
#[derive(Clone, Debug)]
struct Cached {
    number: u64,
    start: usize,
    tags: Vec<u64>,
}

#[derive(Clone, Debug)]
pub enum Under {
    Write {
        start: usize,
        tags: Vec<u64>,
        durable: bool,
    },
    Meta {
        offset: usize,
        bytes: Vec<u8>,
    },
    /// Everything that ended before this number.
    Flush {
        upto: u64,
    },
}

#[derive(Clone, Debug)]
pub struct Disk {
    /// What reads give.
    pub visible: Vec<u64>,
    /// What survives for sure: tag, and the number of the write.
    stable: Vec<(u64, u64)>,
    cache: Vec<Cached>,
    number: u64,
    pub meta: Vec<u8>,
    under: BTreeMap<u64, Under>,
    /// What arrives of one that is under way when the power is cut: a bit for each sector.
    torn: Option<(u64, u64)>,
    /// Every request fails.
    pub broken: bool,
    /// Writes find no space.
    pub full: bool,
}

fn sectors(at: Transfer) -> std::ops::Range<usize> {
    let start = usize::try_from(at.offset / SECTOR).unwrap_or(usize::MAX);
    start..start + at.length as usize / 512
}

impl Disk {
    pub fn new(tags: Vec<u64>) -> Self {
        Self {
            stable: tags.iter().map(|tag| (*tag, 0)).collect(),
            visible: tags,
            cache: Vec::new(),
            number: 0,
            meta: Vec::new(),
            under: BTreeMap::new(),
            torn: None,
            broken: false,
            full: false,
        }
    }

    pub fn grow(&mut self, sectors: usize, tag: impl Fn(usize) -> u64) {
        for at in self.visible.len()..sectors {
            self.visible.push(tag(at));
            self.stable.push((tag(at), 0));
        }
    }

    pub fn read(&self, at: Transfer) -> Result<Vec<u64>, IoError> {
        if self.broken {
            return Err(IoError::Failed);
        }
        self.visible
            .get(sectors(at))
            .map(<[u64]>::to_vec)
            .ok_or(IoError::Invalid)
    }

    pub fn meta_read(&self, offset: u64, length: u32) -> Result<Vec<u8>, IoError> {
        if self.broken {
            return Err(IoError::Failed);
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let byte = |at: usize| self.meta.get(at).copied().unwrap_or(0);
        Ok((offset..offset + length as usize).map(byte).collect())
    }

    /// A request begins.
    pub fn begin(&mut self, id: u64, under: Under) {
        self.under.insert(id, under);
    }

    pub fn write_of(at: Transfer, tags: Vec<u64>, durable: bool) -> Under {
        Under::Write {
            start: sectors(at).start,
            tags,
            durable,
        }
    }

    pub fn flush_now(&self) -> Under {
        Under::Flush { upto: self.number }
    }

    /// It ends, well or not.
    pub fn end(&mut self, id: u64) -> Result<(), IoError> {
        let Some(under) = self.under.remove(&id) else {
            return Ok(());
        };
        if self.broken {
            return Err(IoError::Failed);
        }
        match under {
            Under::Write {
                start,
                tags,
                durable,
            } => {
                if self.full {
                    return Err(IoError::NoSpace);
                }
                if start + tags.len() > self.visible.len() {
                    return Err(IoError::Invalid);
                }
                self.number += 1;
                self.visible[start..start + tags.len()].copy_from_slice(&tags);
                let cached = Cached {
                    number: self.number,
                    start,
                    tags,
                };
                if durable {
                    self.settle(&cached, u64::MAX);
                } else {
                    self.cache.push(cached);
                }
            }
            Under::Meta { offset, bytes } => self.put_meta(offset, &bytes, u64::MAX),
            Under::Flush { upto } => {
                let (done, rest) = std::mem::take(&mut self.cache)
                    .into_iter()
                    .partition(|cached| cached.number <= upto);
                self.cache = rest;
                let done: Vec<Cached> = done;
                for cached in done {
                    self.settle(&cached, u64::MAX);
                }
            }
        }
        Ok(())
    }

    /// `which`: a bit for each sector (from the 64th on as the 64th).
    fn settle(&mut self, cached: &Cached, which: u64) {
        for (n, tag) in cached.tags.iter().enumerate() {
            let (_, number) = self.stable[cached.start + n];
            if which >> n.min(63) & 1 == 1 && number < cached.number {
                self.stable[cached.start + n] = (*tag, cached.number);
            }
        }
    }

    fn put_meta(&mut self, offset: usize, bytes: &[u8], which: u64) {
        let end = offset + bytes.len();
        if self.meta.len() < end {
            self.meta.resize(end, 0);
        }
        for (n, part) in bytes.chunks(512).enumerate() {
            if which >> n.min(63) & 1 == 1 {
                let at = offset + n * 512;
                self.meta[at..at + part.len()].copy_from_slice(part);
            }
        }
    }

    /// At the next power cut exactly these sectors of the request arrive.
    pub fn tear(&mut self, id: u64, sectors: u64) {
        self.torn = Some((id, sectors));
    }

    /// The power is cut.
    pub fn crash(&mut self, rng: &mut Rng) {
        let torn = self.torn.take();
        for (id, under) in std::mem::take(&mut self.under) {
            let which = match rng.below(3) {
                _ if torn.is_some_and(|(torn, _)| torn == id) => torn.map_or(0, |(_, which)| which),
                0 => 0,
                1 => u64::MAX,
                _ => rng.bits(),
            };
            match under {
                Under::Write { start, tags, .. } if start + tags.len() <= self.visible.len() => {
                    self.number += 1;
                    let cached = Cached {
                        number: self.number,
                        start,
                        tags,
                    };
                    self.settle(&cached, which);
                }
                Under::Meta { offset, bytes } => self.put_meta(offset, &bytes, which),
                _ => {}
            }
        }
        let all = rng.percent(25);
        for cached in std::mem::take(&mut self.cache) {
            let which = match rng.below(4) {
                _ if all => 0,
                0 | 1 => 0,
                2 => u64::MAX,
                _ => rng.bits(),
            };
            self.settle(&cached, which);
        }
        self.visible = self.stable.iter().map(|(tag, _)| *tag).collect();
        for (_, number) in &mut self.stable {
            *number = 0;
        }
        self.number = 0;
    }

    /// What counts of the superblocks.
    pub fn mark(&self, found: &Found) -> Option<Superblock> {
        let places = |size| {
            let offset = usize::try_from(Layout::superblocks_of(size, found.beside)?).ok()?;
            let first = self.meta.get(offset..offset + 4096)?;
            let second = self.meta.get(offset + 4096..offset + 8192)?;
            newest([first, second]).ok()
        };
        let sizes = [found.size]
            .into_iter()
            .chain(found.earlier.iter().copied());
        sizes.filter_map(places).next()
    }

    /// Nothing is under way.
    pub fn idle(&self) -> bool {
        self.under.is_empty()
    }
}
