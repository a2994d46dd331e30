//! This node's copy while its disk is attached: superblock, bitmap, activity log, and what of them is on
//! the disk.
//!
//! Level-triggered: others change what is `wanted`, [`Local::settle`] writes it, and whoever waits
//! looks at what is `durable`.

use super::activity::{Activity, Flushed, Need};
use super::event::{Effect, Found, Token, Transfer};
use super::slab::Slab;
use super::{MetaOp, Op};
use crate::fault::{Fault, planted};
use crate::store::{BLOCK, Bits, EXTENT, EXTENT_BLOCKS, LogTable, Page, Superblock, encode_page};
use std::collections::BTreeSet;

/// Bitmap pages under way at once.
const PAGE_WRITES: usize = 8;

/// Blocks that may be equal on both sides though their bit is set: they are compared before they are sent.
#[derive(Debug, Default)]
pub(super) struct Doubtful {
    pub all: bool,
    pub extents: BTreeSet<u32>,
}

#[derive(Debug)]
pub(super) struct Local {
    pub wanted: Superblock,
    pub durable: Superblock,
    writing: bool,
    pub found: Found,
    /// It was open and did not end in good order, so that its activity log counts.
    pub unclean: bool,
    /// Every bit was set on the disk and the basis is being renewed, for a whole synchronisation.
    pub filled: bool,
    pub bits: Bits,
    /// Pages that differ from those on the disk.
    stale: BTreeSet<u32>,
    /// Of these, the ones to be written now.
    urgent: BTreeSet<u32>,
    writing_pages: BTreeSet<u32>,
    pub doubtful: Doubtful,
    pub log: Activity,
    /// Rises with each write that ends.
    pub clock: u64,
    /// Everything up to this clock is on stable storage.
    pub flushed: u64,
    log_writing: bool,
    /// A table without extents is to be written.
    log_empty: bool,
}

/// Extents that `at` touches.
pub(super) fn extents(at: Transfer) -> std::ops::RangeInclusive<u32> {
    let number = |byte: u64| u32::try_from(byte / EXTENT).unwrap_or(u32::MAX);
    number(at.offset)..=number(at.end().saturating_sub(1))
}

/// Blocks that `at` touches: first and number.
pub(super) fn touched(at: Transfer) -> (u64, u64) {
    let start = at.offset / BLOCK;
    (start, at.end().div_ceil(BLOCK) - start)
}

/// Blocks that `at` covers wholly: first and number.
pub(super) fn covered(at: Transfer) -> (u64, u64) {
    let start = at.offset.div_ceil(BLOCK);
    (start, (at.end() / BLOCK).saturating_sub(start))
}

impl Local {
    pub(super) fn new(
        superblock: Superblock,
        found: Found,
        bits: Bits,
        log: Activity,
        logged: &[u32],
    ) -> Self {
        let mut local = Self {
            unclean: superblock.open,
            filled: false,
            wanted: superblock.clone(),
            durable: superblock,
            writing: false,
            found,
            bits,
            stale: BTreeSet::new(),
            urgent: BTreeSet::new(),
            writing_pages: BTreeSet::new(),
            doubtful: Doubtful::default(),
            log,
            clock: 1,
            flushed: 0,
            log_writing: false,
            log_empty: false,
        };
        // After a crash every block of the logged extents counts as set.
        local.log.load(logged, local.clock);
        if !planted(Fault::ResyncWithoutLog) {
            for extent in logged {
                local.set_doubtful(*extent);
            }
        }
        local
    }

    pub(super) fn blocks(&self) -> u64 {
        self.bits.blocks()
    }

    pub(super) fn set(&mut self, start: u64, length: u64) {
        if self.bits.set(start, length) {
            self.touch(start, length);
        }
    }

    pub(super) fn clear(&mut self, start: u64, length: u64) {
        if self.bits.clear(start, length) {
            self.touch(start, length);
        }
        if self.bits.is_empty() {
            self.doubtful = Doubtful::default();
        }
    }

    fn touch(&mut self, start: u64, length: u64) {
        let last = (start + length - 1).min(self.blocks() - 1);
        self.stale
            .extend(Bits::page_of(start)..=Bits::page_of(last));
    }

    /// An extent that may differ.
    pub(super) fn set_doubtful(&mut self, extent: u32) {
        self.doubtful.extents.insert(extent);
        self.set(u64::from(extent) * EXTENT_BLOCKS, EXTENT_BLOCKS);
    }

    /// What the target has written alone.
    pub(super) fn merge(&mut self, index: u32, page: &Page) {
        if index < self.bits.pages() && *page != Page::Clear {
            self.bits.merge(index, page);
            self.stale.insert(index);
        }
    }

    /// All blocks, to be compared; their pages are written now.
    pub(super) fn fill(&mut self) {
        self.doubtful.all = true;
        if self.bits.count() < self.blocks() {
            self.bits.set_all();
            self.stale.extend(0..self.bits.pages());
        }
        self.write_pages();
    }

    /// No blocks; their pages are written now.
    pub(super) fn forget_bits(&mut self) {
        if self.bits.is_empty() {
            return;
        }
        for index in 0..self.bits.pages() {
            if *self.bits.page(index) != Page::Clear {
                self.stale.insert(index);
            }
        }
        self.bits.clear_all();
        self.doubtful = Doubtful::default();
        self.write_pages();
    }

    /// All pages that differ are written now.
    pub(super) fn write_pages(&mut self) {
        self.urgent.extend(self.stale.iter().copied());
    }

    /// Every page is on the disk as it is in memory.
    pub(super) fn pages_durable(&self) -> bool {
        self.stale.is_empty() && self.writing_pages.is_empty()
    }

    fn extent_stale(&self, extent: u32) -> bool {
        let start = u64::from(extent) * EXTENT_BLOCKS;
        (Bits::page_of(start)..=Bits::page_of(start + EXTENT_BLOCKS - 1))
            .any(|page| self.stale.contains(&page) || self.writing_pages.contains(&page))
    }

    /// The log on the disk shall be empty; see [`Self::log_durable`].
    pub(super) fn empty_log(&mut self) {
        if !self.log.extents().is_empty() {
            self.log.empty();
            self.log_empty = true;
        }
    }

    pub(super) fn log_durable(&self) -> bool {
        !self.log_empty && !self.log_writing
    }

    /// Nothing is being written.
    pub(super) fn quiet(&self) -> bool {
        !self.log_writing && !self.writing && self.writing_pages.is_empty()
    }

    /// Superblock as wanted.
    pub(super) fn marked(&self) -> bool {
        !self.writing && self.same()
    }

    fn same(&self) -> bool {
        self.wanted.same(&self.durable)
    }

    /// Begins the writes that are needed. `peer_flushed`: see [`Flushed::peer`]. Whether a flush of both
    /// copies is needed.
    pub(super) fn settle(
        &mut self,
        peer_flushed: u64,
        ops: &mut Slab<Op>,
        out: &mut Vec<Effect>,
    ) -> bool {
        if !self.writing && !self.same() {
            self.wanted.sequence = self.durable.sequence + 1;
            self.writing = true;
            let op = MetaOp::Superblock(Box::new(self.wanted.clone()));
            let offset = self.wanted.layout.superblock(self.wanted.sequence);
            write(ops, out, op, offset, self.wanted.encode());
        }
        let flush = self.settle_log(peer_flushed, ops, out);
        self.settle_pages(ops, out);
        flush
    }

    fn settle_log(&mut self, peer_flushed: u64, ops: &mut Slab<Op>, out: &mut Vec<Effect>) -> bool {
        if self.log_writing {
            return false;
        }
        if self.log_empty {
            self.log_empty = false;
            self.write_log(Vec::new(), ops, out);
            return false;
        }
        if self.log.idle() {
            return false;
        }
        let flushed = Flushed {
            local: self.flushed,
            peer: peer_flushed,
        };
        let mut log = std::mem::replace(&mut self.log, Activity::new(0, 0));
        let need = log.need(flushed, |extent| self.extent_stale(extent));
        self.log = log;
        match need {
            Need::Nothing => {}
            Need::Flush => return true,
            Need::Pages(extents) => {
                for extent in extents {
                    let start = u64::from(extent) * EXTENT_BLOCKS;
                    let pages = Bits::page_of(start)..=Bits::page_of(start + EXTENT_BLOCKS - 1);
                    self.urgent
                        .extend(pages.filter(|page| self.stale.contains(page)));
                }
            }
            Need::Write(extents) => self.write_log(extents, ops, out),
        }
        false
    }

    fn write_log(&mut self, extents: Vec<u32>, ops: &mut Slab<Op>, out: &mut Vec<Effect>) {
        self.log.sequence += 1;
        self.log_writing = true;
        let table = LogTable {
            sequence: self.log.sequence,
            mirror: self.durable.mirror,
            extents,
        };
        let offset = self.durable.layout.log(table.sequence);
        write(ops, out, MetaOp::Log, offset, table.encode());
    }

    fn settle_pages(&mut self, ops: &mut Slab<Op>, out: &mut Vec<Effect>) {
        while self.writing_pages.len() < PAGE_WRITES {
            let next = self
                .urgent
                .iter()
                .find(|page| !self.writing_pages.contains(page));
            let Some(&index) = next else {
                return;
            };
            self.urgent.remove(&index);
            if !self.stale.remove(&index) {
                continue;
            }
            self.writing_pages.insert(index);
            let bytes = encode_page(index, self.bits.page(index));
            let offset = self.durable.layout.page(index);
            write(ops, out, MetaOp::Page(index), offset, bytes);
        }
    }

    /// A write of the metadata has ended well.
    pub(super) fn ended(&mut self, op: MetaOp) {
        match op {
            MetaOp::Superblock(written) => {
                self.writing = false;
                self.durable = *written;
            }
            MetaOp::Log => {
                self.log_writing = false;
                self.log.written();
            }
            MetaOp::Page(index) => {
                self.writing_pages.remove(&index);
            }
        }
    }

    /// Adds blocks at the end, none of them set. Their pages are on the disk already.
    pub(super) fn grow(&mut self, blocks: u64) {
        self.bits.grow(blocks);
    }
}

fn write(ops: &mut Slab<Op>, out: &mut Vec<Effect>, op: MetaOp, offset: u64, bytes: Vec<u8>) {
    let token = Token(ops.insert(Op::Meta(op)));
    out.push(Effect::MetaWrite {
        token,
        offset,
        bytes,
    });
}
