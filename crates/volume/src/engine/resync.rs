//! Sending the peer what it lacks, and comparing: the active side's half of rule R5.
//!
//! ```text
//!   chunk: Locked --> Reading --+--> Sending --all acknowledged--> flushed there, bits cleared
//!                               +--> Hashing --> Comparing --+     (doubtful blocks, verification)
//! ```

use super::event::{BlockHash, BufferId, Command, Effect, IoError, Outcome, Part, Token, Transfer};
use super::local::covered;
use super::locks::Owner;
use super::peer::{Awaited, Phase};
use super::slab::{Key, Slab};
use super::status::Progress;
use super::{Engine, Op, Place};
use crate::fault::{Fault, planted};
use crate::link::{Body, CHUNK_BLOCKS};
use crate::store::{BLOCK, EXTENT_BLOCKS};
use hotpair_core::time::{Moment, micros};
use std::time::Duration;

/// Chunks under way while the application is quiet, and while it is not.
const WINDOW: usize = 16;
const BUSY_WINDOW: usize = 2;
/// The application is quiet when it has asked for nothing for so long.
const QUIET: Duration = Duration::from_millis(100);
/// Stretches sent and not flushed before the engine asks for a flush: bounds what is sent again after a loss.
const FLUSH_AFTER: usize = 512;
/// Places of different blocks that are remembered.
const PLACES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Locked,
    Reading,
    Hashing,
    Comparing,
    Sending,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    count: u32,
    /// Blocks of it that are wanted, from `start` on.
    mask: u64,
    zeros: u64,
    compare: bool,
    verify: bool,
    step: Step,
    buffer: BufferId,
    /// Messages that are not answered.
    left: u32,
    /// The peer is away.
    dead: bool,
    moved: u64,
}

#[derive(Debug)]
struct Verify {
    repair: bool,
    cursor: u64,
}

#[derive(Debug, Default)]
pub(super) struct Resync {
    chunks: Slab<Chunk>,
    running: bool,
    cursor: u64,
    verify: Option<Verify>,
    pub found: Option<u64>,
    pub places: Vec<u64>,
    pub paused: bool,
    rate: Option<u64>,
    /// With a rate: nothing is begun before.
    next: Moment,
    done: u64,
    total: u64,
    moved: u64,
    /// For the speed: when and what was done at the last look.
    look: (Moment, u64),
    speed: u64,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl Resync {
    pub(super) fn is_idle(&self) -> bool {
        self.chunks.is_empty()
    }

    fn works(&self) -> bool {
        self.running || self.verify.is_some()
    }

    pub(super) fn progress(&self) -> (Option<Progress>, Option<Progress>) {
        let progress = Progress {
            done: self.done,
            total: self.total.max(self.done),
            moved: self.moved,
            rate: self.speed,
            source: true,
        };
        (
            self.running.then_some(progress),
            self.verify.is_some().then_some(progress),
        )
    }

    fn restart(&mut self, now: Moment, total: u64) {
        self.cursor = 0;
        self.done = 0;
        self.moved = 0;
        self.total = total;
        self.speed = 0;
        self.look = (now, 0);
    }

    fn measure(&mut self, now: Moment) {
        let span = micros(now.since(self.look.0));
        if span >= 1_000_000 {
            let bytes = u128::from(self.done.saturating_sub(self.look.1));
            self.speed = u64::try_from(bytes * 1_000_000 / u128::from(span)).unwrap_or(u64::MAX);
            self.look = (now, self.done);
        }
    }
}

/// Stretches of set bits: first and number.
fn runs(mut mask: u64) -> impl Iterator<Item = (u32, u32)> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let start = mask.trailing_zeros();
        let length = (mask >> start).trailing_ones();
        let run = u64::MAX >> (64 - length);
        mask &= !(run << start);
        Some((start, length))
    })
}

impl Engine {
    pub(super) fn on_command(&mut self, command: &Command) {
        match command {
            Command::Verify { repair } => self.begin_verify(*repair),
            Command::Pause => self.resync.paused = true,
            Command::Resume => self.resync.paused = false,
            Command::Rate(rate) => {
                self.resync.rate = rate.filter(|rate| *rate > 0);
                self.resync.next = self.now;
            }
        }
    }

    fn begin_verify(&mut self, repair: bool) {
        if !self.peer.is_joined() || !self.is_open() || self.local().is_none() {
            // The result of an earlier one would be taken for that of this one.
            self.resync.found = None;
            self.note(
                true,
                "no verification: it takes the active side, its disk, and a peer that is in sync",
            );
            return;
        }
        let size = self.requests.size;
        self.resync.restart(self.now, size);
        self.resync.found = Some(0);
        self.resync.places.clear();
        self.resync.verify = Some(Verify { repair, cursor: 0 });
    }

    pub(super) fn begin_sending(&mut self) {
        let total = self.local().map_or(0, |local| local.bits.count() * BLOCK);
        self.resync.running = true;
        self.resync.verify = None;
        self.resync.restart(self.now, total);
        self.note(
            false,
            format!(
                "resynchronisation begins: {} MiB may differ",
                total.div_ceil(1 << 20)
            ),
        );
    }

    /// The peer has all.
    pub(super) fn end_resync(&mut self) {
        if std::mem::take(&mut self.resync.running) {
            let (done, moved) = (self.resync.done, self.resync.moved);
            self.note(
                false,
                format!(
                    "the peer's copy has everything again: {} MiB compared, {} KiB sent",
                    done.div_ceil(1 << 20),
                    moved.div_ceil(1 << 10)
                ),
            );
        }
    }

    /// The peer is away, or this side stops.
    pub(super) fn lose_chunks(&mut self) {
        self.resync.running = false;
        if self.resync.verify.take().is_some() {
            // What was compared so far is no result.
            self.resync.found = None;
            self.note(true, "verification was interrupted: the peer is away");
        }
        for key in self.resync.chunks.keys() {
            let Some(chunk) = self.resync.chunks.get_mut(key) else {
                continue;
            };
            match chunk.step {
                Step::Reading | Step::Hashing => chunk.dead = true,
                Step::Locked | Step::Comparing | Step::Sending => self.drop_chunk(key),
            }
        }
    }

    pub(super) fn stop_resync(&mut self) {
        self.lose_chunks();
        self.flushes.resynced.clear();
    }

    fn drop_chunk(&mut self, key: Key) {
        if let Some(chunk) = self.resync.chunks.remove(key) {
            self.release(Owner::Chunk(key));
            if chunk.step != Step::Locked {
                self.out.push(Effect::Release {
                    buffer: chunk.buffer,
                });
            }
        }
        if self.resync.chunks.is_empty() {
            self.changed = true;
        }
    }

    fn window(&self) -> usize {
        if self.now.since(self.requests.last) < QUIET && self.now >= self.requests.last {
            BUSY_WINDOW
        } else {
            WINDOW
        }
    }

    /// Begins as many chunks as are allowed.
    pub(super) fn settle_resync(&mut self) {
        if !self.resync.works() || !matches!(self.role, super::Role::Open { .. }) {
            return;
        }
        while !self.resync.paused
            && self.now >= self.resync.next
            && self.resync.chunks.len() < self.window()
        {
            let Some((start, mask, verify)) = self.next_chunk() else {
                break;
            };
            self.begin_chunk(start, mask, verify);
        }
        if self.resync.running && self.resync.chunks.is_empty() {
            self.end_pass();
        }
    }

    /// All that was set is sent: have it flushed, then look for what is left.
    fn end_pass(&mut self) {
        let cursor = self.resync.cursor;
        let Some(local) = self.local() else {
            return;
        };
        if local.bits.next(cursor).is_some() {
            return;
        }
        if !self.flushes.resynced.is_empty() {
            self.flushes.want = true;
            self.settle_flush();
        } else if self.flushes.cleared() && !local.bits.is_empty() {
            self.resync.cursor = 0;
        }
    }

    /// First block, wanted blocks from it on, whether to verify.
    fn next_chunk(&mut self) -> Option<(u64, u64, bool)> {
        let Place::Attached(local) = &self.place else {
            return None;
        };
        let blocks = local.blocks();
        let chunk = CHUNK_BLOCKS as u64;
        if self.peer.phase == Phase::Resync && self.resync.running {
            if self.peer.stamping() {
                return None;
            }
            let start = local.bits.next(self.resync.cursor)?;
            let end = ((start / chunk + 1) * chunk).min(blocks);
            let mask = (start..end)
                .filter(|block| local.bits.get(*block))
                .fold(0, |mask, block| mask | 1 << (block - start));
            self.resync.cursor = end;
            return Some((start, mask, false));
        }
        let verify = self.resync.verify.as_mut()?;
        let start = verify.cursor;
        if start >= blocks {
            if self.resync.chunks.is_empty() {
                self.end_verify();
            }
            return None;
        }
        let end = (start + chunk).min(blocks);
        verify.cursor = end;
        Some((start, u64::MAX >> (64 - (end - start)), true))
    }

    fn end_verify(&mut self) {
        self.resync.verify = None;
        let found = self.resync.found.unwrap_or(0);
        self.note(
            found > 0,
            format!("verification has ended: {found} bytes differ"),
        );
    }

    fn begin_chunk(&mut self, start: u64, mask: u64, verify: bool) {
        let count = 64 - mask.leading_zeros();
        let buffer = self.new_buffer();
        let extent = u32::try_from(start / EXTENT_BLOCKS).unwrap_or(u32::MAX);
        let doubtful = self
            .local()
            .is_some_and(|local| local.doubtful.all || local.doubtful.extents.contains(&extent));
        let chunk = Chunk {
            start,
            count,
            mask,
            zeros: 0,
            compare: doubtful || verify,
            verify,
            step: Step::Locked,
            buffer,
            left: 0,
            dead: false,
            moved: 0,
        };
        let at = chunk.at();
        let key = self.resync.chunks.insert(chunk);
        let bytes = u64::from(count) * BLOCK;
        if let Some(rate) = self.resync.rate {
            let us = u64::try_from(u128::from(bytes) * 1_000_000 / u128::from(rate)).unwrap_or(0);
            let from = self.resync.next.0.max(self.now.0.saturating_sub(100_000));
            self.resync.next = Moment(from.saturating_add(us));
        }
        if planted(Fault::ResyncUnlocked) || self.locks.acquire(Owner::Chunk(key), at, false) {
            self.start_chunk(key);
        }
    }

    /// No write is under way in it.
    pub(super) fn start_chunk(&mut self, key: Key) {
        let Some(chunk) = self.resync.chunks.get_mut(key) else {
            return;
        };
        if !matches!(self.place, Place::Attached(_)) {
            return self.drop_chunk(key);
        }
        chunk.step = Step::Reading;
        let token = Token(self.ops.insert(Op::Chunk(key)));
        self.out.push(Effect::Read {
            token,
            at: chunk.at(),
            to: chunk.part(0, chunk.count),
        });
    }

    pub(super) fn on_chunk_done(&mut self, key: Key, result: Result<Outcome, IoError>) {
        let Some(chunk) = self.resync.chunks.get_mut(key) else {
            return;
        };
        if chunk.dead {
            return self.drop_chunk(key);
        }
        match (chunk.step, result) {
            (Step::Reading, Ok(_)) if chunk.compare => {
                chunk.step = Step::Hashing;
                let of = chunk.part(0, chunk.count);
                let token = Token(self.ops.insert(Op::Chunk(key)));
                self.out.push(Effect::Hash { token, of });
            }
            (Step::Reading, Ok(_)) => self.send_chunk(key),
            (Step::Hashing, Ok(Outcome::Hashes(hashes))) => {
                chunk.step = Step::Comparing;
                for (n, hash) in hashes.iter().enumerate().take(CHUNK_BLOCKS) {
                    chunk.zeros |= u64::from(*hash == BlockHash::ZERO) << n;
                }
                let at = chunk.at();
                self.ask(Awaited::Chunk(key), Body::Compare { at, hashes }, None);
            }
            (_, result) => {
                self.drop_chunk(key);
                if let Err(error) = result {
                    self.fail_local(format!("reading failed: {}", super::attach::words(error)));
                }
            }
        }
    }

    /// The peer has compared.
    pub(super) fn on_differ(&mut self, key: Key, blocks: u64, result: Result<(), IoError>) {
        let Some(chunk) = self.resync.chunks.get_mut(key) else {
            return;
        };
        if result.is_err() {
            // Its disk failed: it says so in a message of its own.
            return self.drop_chunk(key);
        }
        let differ = chunk.mask & blocks;
        if !chunk.verify {
            let (start, equal) = (chunk.start, chunk.mask & !blocks);
            chunk.mask = differ;
            let equal_blocks = u64::from(equal.count_ones());
            self.resync.done += equal_blocks * BLOCK;
            self.resynced(start, equal);
            return self.send_chunk(key);
        }
        let start = chunk.start;
        self.resync.done += u64::from(chunk.mask.count_ones()) * BLOCK;
        chunk.mask = differ;
        let found = u64::from(differ.count_ones()) * BLOCK;
        *self.resync.found.get_or_insert(0) += found;
        for (first, _) in runs(differ) {
            if self.resync.places.len() < PLACES {
                self.resync.places.push((start + u64::from(first)) * BLOCK);
            }
        }
        if self
            .resync
            .verify
            .as_ref()
            .is_some_and(|verify| verify.repair)
        {
            self.send_chunk(key);
        } else {
            self.end_chunk(key);
        }
    }

    fn send_chunk(&mut self, key: Key) {
        let Some(chunk) = self.resync.chunks.get_mut(key) else {
            return;
        };
        chunk.step = Step::Sending;
        let (start, zeros) = (chunk.start, chunk.zeros & chunk.mask);
        let data = chunk.mask & !zeros;
        let mut messages = Vec::new();
        for (first, length) in runs(data) {
            let at = stretch(start, first, length);
            // A repair goes to a copy that counts as whole.
            let body = if chunk.verify {
                Body::Data {
                    at,
                    durable: false,
                    early: false,
                }
            } else {
                Body::ResyncData { at }
            };
            messages.push((body, Some(chunk.part(first, length))));
            chunk.moved += u64::from(at.length);
        }
        for (first, length) in runs(zeros) {
            let at = stretch(start, first, length);
            let body = Body::Discard {
                at,
                zero: true,
                early: false,
                resync: true,
            };
            messages.push((body, None));
        }
        chunk.left = u32::try_from(messages.len()).unwrap_or(0);
        if messages.is_empty() {
            return self.end_chunk(key);
        }
        for (body, payload) in messages {
            self.ask(Awaited::Chunk(key), body, payload);
        }
    }

    pub(super) fn on_chunk_answer(&mut self, key: Key, result: Result<(), IoError>) {
        let Some(chunk) = self.resync.chunks.get_mut(key) else {
            return;
        };
        chunk.left = chunk.left.saturating_sub(1);
        if result.is_err() {
            return self.drop_chunk(key);
        }
        if chunk.left > 0 {
            return;
        }
        let (start, mask, verify, moved) = (chunk.start, chunk.mask, chunk.verify, chunk.moved);
        if verify {
            // The peer counts as whole: what it has not flushed must be known.
            let blocks = self.local().map_or(0, super::local::Local::blocks);
            for (first, length) in runs(mask) {
                let first = start + u64::from(first);
                self.peer.unflushed.add(first, length.into(), blocks);
            }
        } else {
            self.resync.done += u64::from(mask.count_ones()) * BLOCK;
            self.resynced(start, mask);
        }
        self.resync.moved += moved;
        self.end_chunk(key);
    }

    fn end_chunk(&mut self, key: Key) {
        self.drop_chunk(key);
        self.resync.measure(self.now);
    }

    /// The peer has these blocks; their bits are cleared when it has flushed them.
    fn resynced(&mut self, start: u64, mask: u64) {
        for (first, length) in runs(mask) {
            let (first, length) = (start + u64::from(first), u64::from(length));
            if planted(Fault::ClearBeforeFlush) {
                if let Some(local) = self.local_mut() {
                    local.clear(first, length);
                }
            } else {
                self.flushes.resynced.push((first, length));
            }
        }
        if self.flushes.resynced.len() >= FLUSH_AFTER {
            self.flushes.want = true;
        }
    }

    /// The peer has got a write of the block device: blocks that it covers are not missing any more.
    pub(super) fn overwritten(&mut self, at: Transfer) {
        if self.peer.phase != Phase::Resync {
            return;
        }
        let (start, length) = covered(at);
        let lacking = self.local().is_some_and(|local| {
            let next = local.bits.next(start);
            next.is_some_and(|block| block < start + length)
        });
        if length > 0 && lacking {
            self.flushes.resynced.push((start, length));
        }
    }

    /// When [`Self::settle_resync`] has something to do.
    pub(super) fn resync_deadline(&self) -> Option<Moment> {
        if !self.resync.works() || self.resync.paused || !self.is_open() {
            return None;
        }
        let busy = self.resync.chunks.len() >= self.window();
        if busy {
            // A wider window when the application is quiet.
            let quiet = self.requests.last.plus(QUIET);
            return (self.window() < WINDOW).then_some(quiet);
        }
        (self.resync.next > self.now).then_some(self.resync.next)
    }
}

fn stretch(start: u64, first: u32, length: u32) -> Transfer {
    Transfer {
        offset: (start + u64::from(first)) * BLOCK,
        length: length * 4096,
    }
}

impl Chunk {
    fn at(&self) -> Transfer {
        stretch(self.start, 0, self.count)
    }

    fn part(&self, first: u32, length: u32) -> Part {
        Part {
            buffer: self.buffer,
            offset: first * 4096,
            length: length * 4096,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn runs_are_the_stretches_of_set_bits() {
        assert_eq!(runs(0).count(), 0);
        assert_eq!(
            runs(0b0110_1101).collect::<Vec<_>>(),
            [(0, 1), (2, 2), (5, 2)]
        );
        assert_eq!(runs(u64::MAX).collect::<Vec<_>>(), [(0, 64)]);
        assert_eq!(runs(1 << 63).collect::<Vec<_>>(), [(63, 1)]);
    }
}
