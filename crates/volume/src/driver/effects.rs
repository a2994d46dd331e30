//! Effects of the engine carried out, and what becomes of transfers.

use super::expose::Shown;
use super::{Decide, Driver, disk};
use crate::engine::{
    BlockHash, BufferId, Effect, Event, IoError, IoId, Outcome, Part, Token, Transfer,
};
use crate::memory::{ALIGN, Buffer};
use std::io;

/// Zeros written at a time where the disk makes none by itself.
const ZEROS: usize = 1024 * 1024;
const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
const HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE | KEEP;

/// What is under way on the disk, by the number it has in the ring.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<Option<Pending>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Pending {
    token: Token,
    step: Step,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Its end is the end of the effect.
    Last,
    /// Bytes of metadata, and how many are wanted: what the file does not have is zeros.
    Metadata { bytes: Buffer, want: usize },
    /// A way to be rid of bytes, and what is left to be tried.
    Clear(Clear),
    /// For a snapshot; no effect of the engine.
    Keep(Act),
    /// For a read-only device; no effect of the engine.
    Show(Shown),
}

/// A step of keeping a chunk for snapshots.
#[derive(Debug)]
pub(super) enum Act {
    Read { chunk: u64, bytes: Buffer },
    Stored { name: String, chunk: u64 },
    Mapped { name: String, page: u64 },
}

#[derive(Clone, Debug)]
pub(super) struct Clear {
    offset: u64,
    end: u64,
    /// Must read as zeros afterwards.
    zero: bool,
    /// Must be on stable storage.
    durable: bool,
    by: Means,
}

#[derive(Clone, Debug)]
enum Means {
    Hole,
    Range,
    /// One piece after the other; it ends at `offset`.
    Writing(Buffer),
}

impl Table {
    pub(super) fn put(&mut self, token: Token, step: Step) -> u64 {
        let pending = Some(Pending { token, step });
        match self.free.pop() {
            Some(place) => {
                self.entries[place] = pending;
                place as u64
            }
            None => {
                self.entries.push(pending);
                self.entries.len() as u64 - 1
            }
        }
    }

    fn take(&mut self, who: u64) -> Option<Pending> {
        let place = usize::try_from(who).ok()?;
        let pending = self.entries.get_mut(place)?.take();
        if pending.is_some() {
            self.free.push(place);
        }
        pending
    }
}

impl<E: Decide> Driver<E> {
    pub(super) fn carry_out(&mut self, effect: Effect) -> io::Result<()> {
        match effect {
            Effect::Read { token, at, to } => self.read(token, at, to),
            Effect::Write { token, from, .. } => match self.part(from) {
                Some(bytes) => self.overwrite(effect, Some(bytes)),
                None => {
                    self.not_done(token, IoError::Failed);
                    Ok(())
                }
            },
            Effect::Discard { .. } | Effect::Zero { .. } => self.overwrite(effect, None),
            Effect::Flush { token } => self.flush(token),
            Effect::MetaRead {
                token,
                offset,
                length,
            } => self.metadata_read(token, offset, length),
            Effect::MetaWrite {
                token,
                offset,
                bytes,
            } => self.metadata_write(token, offset, &bytes),
            Effect::Hash { token, of } => {
                let result = self.hashes(of).map(Outcome::Hashes);
                self.events.push_back(Event::Done { token, result });
                Ok(())
            }
            Effect::Copy { from, to } => self.copy(from, to),
            Effect::Snapshot { token } => {
                let result = self.take_automatic().map(|()| Outcome::Done);
                self.events.push_back(Event::Done { token, result });
                Ok(())
            }
            Effect::Send {
                session,
                message,
                payload,
            } => {
                let payload = payload.and_then(|part| self.part(part));
                if let Some(link) = &mut self.link {
                    link.send(session, &message, payload);
                }
                Ok(())
            }
            Effect::Drop { session, why } => {
                if let Some(link) = &mut self.link {
                    link.drop_session(session, &why);
                }
                Ok(())
            }
            Effect::Complete { io, result } => {
                self.complete(io, result);
                Ok(())
            }
            Effect::Release { buffer } => {
                self.buffers.remove(&buffer);
                Ok(())
            }
            Effect::Opened { ticket, result } => self.opened(ticket, result),
            Effect::Closed { ticket, result } => self.closed(ticket, result),
            Effect::Ended { why } => {
                let text = format!("the device is taken away: {why}");
                self.control.note(true, text);
                self.take_away()
            }
            Effect::Resized { size } => self.resized(size),
            Effect::Report(report) => {
                self.remember_size(&report);
                self.control
                    .say(&crate::protocol::FromMirror::Report(report.clone()));
                self.report = Some(*report);
                // Who reads of it looks at the numbers next.
                self.say_status();
                self.status.wind();
                Ok(())
            }
            Effect::Note { error, text } => {
                self.control.note(error, text);
                Ok(())
            }
        }
    }

    /// An effect that overwrites, once what it overwrites is kept. `bytes`: of a write.
    pub(super) fn carry_on(&mut self, effect: Effect, bytes: Option<Buffer>) -> io::Result<()> {
        match effect {
            Effect::Write {
                token, at, durable, ..
            } => match bytes {
                Some(bytes) => self.write(token, at, bytes, durable),
                None => Ok(()),
            },
            Effect::Discard { token, at, zero } => {
                self.clear(token, at.offset, at.end(), zero, false)
            }
            Effect::Zero {
                token,
                offset,
                length,
            } => self.clear(token, offset, offset.saturating_add(length), true, true),
            _ => Ok(()),
        }
    }

    fn complete(&mut self, io: IoId, result: Result<(), IoError>) {
        let Some(held) = self.requests.remove(&io.0) else {
            return;
        };
        self.status.wind();
        self.device
            .answer(held.request.tag, result, held.into.as_ref());
    }

    fn read(&mut self, token: Token, at: Transfer, to: Part) -> io::Result<()> {
        if !self.buffers.contains_key(&to.buffer) {
            let buffer = self.pool.extra(to.length as usize)?;
            self.buffers.insert(to.buffer, buffer);
        }
        let Some(into) = self.part(to) else {
            self.not_done(token, IoError::Failed);
            return Ok(());
        };
        let Some(fd) = self.begin() else {
            self.not_done(token, IoError::Failed);
            return Ok(());
        };
        let who = self.pending.put(token, Step::Last);
        self.ring.read(who, fd, at.offset, into)
    }

    fn write(
        &mut self,
        token: Token,
        at: Transfer,
        bytes: Buffer,
        durable: bool,
    ) -> io::Result<()> {
        let Some(fd) = self.begin() else {
            self.not_done(token, IoError::Failed);
            return Ok(());
        };
        let who = self.pending.put(token, Step::Last);
        self.ring.write(who, fd, at.offset, bytes, durable)
    }

    fn flush(&mut self, token: Token) -> io::Result<()> {
        let Some(fd) = self.begin() else {
            self.not_done(token, IoError::Failed);
            return Ok(());
        };
        let who = self.pending.put(token, Step::Last);
        self.ring.flush(who, fd)
    }

    fn metadata_read(&mut self, token: Token, offset: u64, length: u32) -> io::Result<()> {
        let Some(disk) = &mut self.disk else {
            self.not_done(token, IoError::Failed);
            return Ok(());
        };
        let want = length as usize;
        let there = disk.metadata_there(offset, length) as usize;
        if there == 0 {
            let result = Ok(Outcome::Bytes(vec![0; want]));
            self.events.push_back(Event::Done { token, result });
            return Ok(());
        }
        disk.under_way += 1;
        let fd = disk.metadata_fd();
        let bytes = self.pool.extra(there)?;
        let step = Step::Metadata {
            bytes: bytes.clone(),
            want,
        };
        let who = self.pending.put(token, step);
        self.ring.read(who, fd, offset, bytes)
    }

    fn metadata_write(&mut self, token: Token, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(disk) = &mut self.disk else {
            self.not_done(token, IoError::Failed);
            return Ok(());
        };
        disk.under_way += 1;
        disk.metadata_grows(offset + bytes.len() as u64);
        let fd = disk.metadata_fd();
        let mut buffer = self.pool.extra(bytes.len())?;
        buffer.write(0, bytes);
        let who = self.pending.put(token, Step::Last);
        self.ring.write(who, fd, offset, buffer, true)
    }

    fn clear(
        &mut self,
        token: Token,
        offset: u64,
        end: u64,
        zero: bool,
        durable: bool,
    ) -> io::Result<()> {
        let clear = Clear {
            offset,
            end,
            zero,
            durable,
            by: Means::Hole,
        };
        match self.begin() {
            Some(_) => self.clear_on(token, clear),
            None => {
                self.not_done(token, IoError::Failed);
                Ok(())
            }
        }
    }

    /// Begins the present step of it.
    fn clear_on(&mut self, token: Token, clear: Clear) -> io::Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let fd = disk.fd();
        let (offset, length) = (clear.offset, clear.end - clear.offset);
        let by = clear.by.clone();
        let durable = clear.durable;
        let who = self.pending.put(token, Step::Clear(clear));
        match by {
            Means::Hole => self.ring.allocate(who, fd, offset, length, HOLE),
            Means::Range => self.ring.allocate(who, fd, offset, length, ZERO),
            Means::Writing(zeros) => {
                let now = usize::try_from(length).map_or(zeros.len(), |all| all.min(zeros.len()));
                match zeros.part(0, now) {
                    Some(piece) => self.ring.write(who, fd, offset, piece, durable),
                    None => Ok(()),
                }
            }
        }
    }

    /// What comes after a step of it; `None`: it has ended.
    fn cleared(
        &mut self,
        token: Token,
        mut clear: Clear,
        result: Result<(), i32>,
    ) -> io::Result<Option<Result<(), i32>>> {
        match (result, &clear.by) {
            (Ok(()), Means::Hole | Means::Range) if clear.durable => {
                if let Some(disk) = &self.disk {
                    let fd = disk.fd();
                    let who = self.pending.put(token, Step::Last);
                    self.ring.flush(who, fd)?;
                }
                return Ok(None);
            }
            (Ok(()), Means::Hole | Means::Range) => return Ok(Some(Ok(()))),
            (Ok(()), Means::Writing(zeros)) => {
                clear.offset = clear
                    .end
                    .min(clear.offset.saturating_add(zeros.len() as u64));
                if clear.offset == clear.end {
                    return Ok(Some(Ok(())));
                }
            }
            (Err(libc::EOPNOTSUPP | libc::EINVAL), Means::Hole) if !clear.zero => {
                return Ok(Some(Ok(())));
            }
            (Err(libc::EOPNOTSUPP | libc::EINVAL), Means::Hole) => clear.by = Means::Range,
            (Err(libc::EOPNOTSUPP | libc::EINVAL), Means::Range) => {
                let length = clear.end - clear.offset;
                let piece = usize::try_from(length).map_or(ZEROS, |all| all.clamp(512, ZEROS));
                let mut zeros = self.pool.extra(piece)?;
                zeros.write(0, &vec![0; piece]);
                clear.by = Means::Writing(zeros);
            }
            (Err(errno), _) => return Ok(Some(Err(errno))),
        }
        self.clear_on(token, clear)?;
        Ok(None)
    }

    pub(super) fn transfer_ended(&mut self, who: u64, result: Result<(), i32>) -> io::Result<()> {
        let Some(Pending { token, step }) = self.pending.take(who) else {
            return Ok(());
        };
        let (result, outcome) = match step {
            Step::Keep(act) => return self.kept(act, result),
            Step::Show(shown) => return self.shown(shown, result),
            Step::Last => (result, Outcome::Done),
            Step::Metadata { bytes, want } => {
                let mut read = match result {
                    Ok(()) => bytes.bytes().to_vec(),
                    Err(_) => Vec::new(),
                };
                read.resize(want, 0);
                (result, Outcome::Bytes(read))
            }
            Step::Clear(clear) => match self.cleared(token, clear, result)? {
                Some(result) => (result, Outcome::Done),
                None => return Ok(()),
            },
        };
        if let Some(disk) = &mut self.disk {
            disk.under_way -= 1;
        }
        let result = result.map(|()| outcome).map_err(|errno| {
            let error = disk::error_of(errno);
            if let (IoError::Failed, Some(disk)) = (error, &mut self.disk) {
                disk.failed = true;
            }
            error
        });
        self.events.push_back(Event::Done { token, result });
        Ok(())
    }

    /// Counts a transfer that begins, and says where.
    pub(super) fn begin(&mut self) -> Option<i32> {
        let disk = self.disk.as_mut()?;
        disk.under_way += 1;
        Some(disk.fd())
    }

    pub(super) fn not_done(&mut self, token: Token, error: IoError) {
        let result = Err(error);
        self.events.push_back(Event::Done { token, result });
    }

    fn part(&self, part: Part) -> Option<Buffer> {
        let buffer = self.buffers.get(&part.buffer)?;
        buffer.part(part.offset as usize, part.length as usize)
    }

    fn copy(&mut self, from: Part, to: BufferId) -> io::Result<()> {
        let Some(source) = self.part(from) else {
            return Ok(());
        };
        if !self.buffers.contains_key(&to) {
            let buffer = self.pool.extra(source.len())?;
            self.buffers.insert(to, buffer);
        }
        if let Some(buffer) = self.buffers.get_mut(&to) {
            let length = source.len().min(buffer.len());
            buffer.write(0, &source.bytes()[..length]);
        }
        Ok(())
    }

    fn hashes(&self, of: Part) -> Result<Vec<BlockHash>, IoError> {
        let bytes = self.part(of).ok_or(IoError::Invalid)?;
        Ok(bytes.bytes().chunks(ALIGN).map(block_hash).collect())
    }
}

fn block_hash(block: &[u8]) -> BlockHash {
    if block.iter().all(|byte| *byte == 0) {
        return BlockHash::ZERO;
    }
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(block).as_bytes()[..16]);
    BlockHash(short)
}
