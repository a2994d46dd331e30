//! Writes wait here until what they overwrite is kept for the snapshots.

use super::effects::{Act, Step};
use super::snapshot::{CHUNK, LIMIT, PAGE, Snapshot};
use super::{Decide, Driver, disk};
use crate::engine::{Effect, IoError, Token};
use crate::memory::Buffer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// Chunks that are being kept at a time.
const AT_ONCE: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Cow {
    pub snapshots: Vec<Snapshot>,
    held: Vec<Held>,
    /// Chunks to be kept, in the order in which they were needed.
    wanted: VecDeque<u64>,
    going: BTreeMap<u64, Going>,
}

/// A chunk that is being kept.
#[derive(Clone, Copy, Debug)]
struct Going {
    /// Snapshots in which it is not yet.
    left: usize,
    result: Result<(), i32>,
}

/// An effect that waits for these chunks.
#[derive(Debug)]
struct Held {
    effect: Effect,
    bytes: Option<Buffer>,
    chunks: BTreeSet<u64>,
}

impl Going {
    fn in_so_many(left: usize) -> Self {
        Self {
            left,
            result: Ok(()),
        }
    }
}

impl Cow {
    /// Nothing is being kept.
    pub(super) fn is_idle(&self) -> bool {
        self.going.is_empty()
    }

    fn lacking(&self, offset: u64, length: u64) -> BTreeSet<u64> {
        if self.snapshots.is_empty() || length == 0 {
            return BTreeSet::new();
        }
        let last = self.snapshots.iter().map(Snapshot::size).max().unwrap_or(0);
        let end = offset.saturating_add(length).min(last);
        (offset / CHUNK..end.div_ceil(CHUNK))
            .filter(|chunk| self.snapshots.iter().any(|snapshot| snapshot.lacks(*chunk)))
            .collect()
    }
}

impl<E: Decide> Driver<E> {
    /// The snapshots of the disk that was opened just now.
    pub(super) fn find_snapshots(&mut self) {
        if let Some(setup) = &self.setup {
            self.cow.snapshots = Snapshot::all(&setup.directory.join("snapshots"));
        }
    }

    /// Carries the effect out, or holds it until what it overwrites is kept. `bytes`: of a write; the engine
    /// may let go of their buffer before the write begins.
    pub(super) fn overwrite(&mut self, effect: Effect, bytes: Option<Buffer>) -> io::Result<()> {
        let (offset, length) = match &effect {
            Effect::Write { at, .. } | Effect::Discard { at, .. } => {
                (at.offset, u64::from(at.length))
            }
            Effect::Zero { offset, length, .. } => (*offset, *length),
            _ => (0, 0),
        };
        let chunks = self.cow.lacking(offset, length);
        if chunks.is_empty() {
            return self.carry_on(effect, bytes);
        }
        for &chunk in &chunks {
            if !self.cow.going.contains_key(&chunk) && !self.cow.wanted.contains(&chunk) {
                self.cow.wanted.push_back(chunk);
            }
        }
        self.cow.held.push(Held {
            effect,
            bytes,
            chunks,
        });
        self.keep_more()
    }

    fn keep_more(&mut self) -> io::Result<()> {
        while self.cow.going.len() < AT_ONCE {
            let Some(chunk) = self.cow.wanted.pop_front() else {
                return Ok(());
            };
            let lacking = self.cow.snapshots.iter().filter(|one| one.lacks(chunk));
            let (count, length) = lacking.fold((0, 0), |(count, length), one| {
                (count + 1, one.length(chunk).max(length))
            });
            let length = usize::try_from(length).unwrap_or(0);
            if count == 0 {
                self.chunk_done(chunk, Ok(()))?;
                continue;
            }
            let Some(fd) = self.begin() else {
                self.chunk_done(chunk, Err(libc::EIO))?;
                continue;
            };
            self.cow.going.insert(chunk, Going::in_so_many(count));
            let bytes = self.pool.extra(length)?;
            let step = Step::Keep(Act::Read {
                chunk,
                bytes: bytes.clone(),
            });
            let who = self.pending.put(Token(0), step);
            self.ring.read(who, fd, chunk * CHUNK, bytes)?;
        }
        Ok(())
    }

    /// A step of keeping has ended.
    pub(super) fn kept(&mut self, act: Act, result: Result<(), i32>) -> io::Result<()> {
        match act {
            Act::Read { chunk, bytes } => {
                if let Some(disk) = &mut self.disk {
                    disk.under_way -= 1;
                }
                match result {
                    Ok(()) => self.store(chunk, &bytes),
                    Err(errno) => {
                        if let Some(disk) = &mut self.disk {
                            disk.failed = true;
                        }
                        self.cow.going.remove(&chunk);
                        self.chunk_done(chunk, Err(errno))
                    }
                }
            }
            Act::Stored { name, chunk } => match result {
                Ok(()) => {
                    let snapshot = self.cow.snapshots.iter_mut().find(|one| one.name == name);
                    match snapshot.map(|one| (one.map_fd(), one.kept(chunk))) {
                        Some((fd, Some((page, bytes)))) => self.write_map(name, fd, page, &bytes),
                        Some((_, None)) => Ok(()),
                        None => self.one_less(chunk, Ok(())),
                    }
                }
                Err(errno) => {
                    let result = self.spoil(&name, errno)?;
                    self.one_less(chunk, result)
                }
            },
            Act::Mapped { name, page } => self.mapped(name, page, result),
        }
    }

    fn store(&mut self, chunk: u64, bytes: &Buffer) -> io::Result<()> {
        let lacking: Vec<_> = self
            .cow
            .snapshots
            .iter()
            .filter(|one| one.lacks(chunk))
            .map(|one| (one.name.clone(), one.data_fd(), one.length(chunk)))
            .collect();
        self.cow
            .going
            .insert(chunk, Going::in_so_many(lacking.len().max(1)));
        if lacking.is_empty() {
            return self.one_less(chunk, Ok(()));
        }
        for (name, fd, length) in lacking {
            let length = usize::try_from(length).unwrap_or(0);
            let Some(part) = bytes.part(0, length) else {
                continue;
            };
            let step = Step::Keep(Act::Stored { name, chunk });
            let who = self.pending.put(Token(0), step);
            self.ring.write(who, fd, chunk * CHUNK, part, true)?;
        }
        Ok(())
    }

    fn write_map(&mut self, name: String, fd: i32, page: u64, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = self.pool.extra(bytes.len())?;
        buffer.write(0, bytes);
        let step = Step::Keep(Act::Mapped { name, page });
        let who = self.pending.put(Token(0), step);
        self.ring.write(who, fd, page * PAGE as u64, buffer, true)
    }

    fn mapped(&mut self, name: String, page: u64, result: Result<(), i32>) -> io::Result<()> {
        let snapshot = self.cow.snapshots.iter_mut().find(|one| one.name == name);
        let Some((fd, (chunks, again))) =
            snapshot.map(|one| (one.map_fd(), one.mapped(page, result.is_ok())))
        else {
            return Ok(());
        };
        let there = result.is_ok();
        let result = match result {
            Ok(()) => Ok(()),
            Err(errno) => self.spoil(&name, errno)?,
        };
        if let Some(bytes) = again
            && (there || result.is_err())
        {
            self.write_map(name, fd, page, &bytes)?;
        }
        for chunk in chunks {
            self.one_less(chunk, result)?;
        }
        Ok(())
    }

    fn one_less(&mut self, chunk: u64, result: Result<(), i32>) -> io::Result<()> {
        let Some(going) = self.cow.going.get_mut(&chunk) else {
            return Ok(());
        };
        going.left -= 1;
        going.result = going.result.and(result);
        let Going { left, result } = *going;
        if left > 0 {
            return Ok(());
        }
        self.cow.going.remove(&chunk);
        self.chunk_done(chunk, result)
    }

    /// The chunk is kept wherever it must be: what waited for it alone goes on.
    fn chunk_done(&mut self, chunk: u64, result: Result<(), i32>) -> io::Result<()> {
        let mut ready = Vec::new();
        self.cow.held.retain_mut(|held| {
            if held.chunks.remove(&chunk) && (held.chunks.is_empty() || result.is_err()) {
                ready.push((held.effect.clone(), held.bytes.take()));
                return false;
            }
            true
        });
        for (effect, bytes) in ready {
            match (result, token(&effect)) {
                (Err(errno), Some(token)) => self.not_done(token, disk::error_of(errno)),
                // Another snapshot may have been taken meanwhile.
                _ => self.overwrite(effect, bytes)?,
            }
        }
        self.keep_more()
    }

    /// A snapshot cannot be kept up: it is given up, or, if it is of what must not be lost, the writes fail.
    fn spoil(&mut self, name: &str, errno: i32) -> io::Result<Result<(), i32>> {
        let Some(place) = self.cow.snapshots.iter().position(|one| one.name == name) else {
            return Ok(Ok(()));
        };
        let why = io::Error::from_raw_os_error(errno);
        if self.cow.snapshots[place].automatic {
            let text = format!(
                "the snapshot {name} of what is to be overwritten cannot be kept: {why}; free some space, or \
                 remove it if it is not needed"
            );
            self.control.note(true, text);
            return Ok(Err(errno));
        }
        let text = format!("the snapshot {name} is given up, as it cannot be kept: {why}");
        self.control.note(true, text);
        if let Err(error) = self.give_up_snapshot(place) {
            // It would be taken for whole by the next process: rather nothing is overwritten.
            let text = format!("the snapshot {name} cannot be removed: {error}");
            self.control.note(true, text);
            return Ok(Err(errno));
        }
        Ok(Ok(()))
    }

    /// Takes a snapshot of what the disk holds now.
    pub(super) fn take_snapshot(&mut self, name: &str, automatic: bool) -> Result<(), String> {
        let (Some(setup), Some(engine)) = (&self.setup, &self.engine) else {
            return Err("the mirror process was not set up yet".into());
        };
        if self.disk.is_none() {
            return Err("the local disk is not there".into());
        }
        if self.cow.snapshots.len() >= LIMIT {
            return Err(format!("there are {LIMIT} snapshots already: remove one"));
        }
        let size = engine.status(super::moment()).size;
        if size == 0 {
            return Err("the local copy is not attached".into());
        }
        let all = setup.directory.join("snapshots");
        let taken = Snapshot::take(&all, name, size, automatic, now_ms())
            .map_err(|error| format!("the snapshot {name} cannot be taken: {error}"))?;
        self.cow.snapshots.push(taken);
        self.status.wind();
        Ok(())
    }

    /// For a copy that was given up, before it is overwritten.
    pub(super) fn take_automatic(&mut self) -> Result<(), IoError> {
        let name = format!("before-resync-{}", now_ms());
        self.take_snapshot(&name, true).map_err(|text| {
            self.control.note(true, text);
            IoError::NoSpace
        })
    }

    pub(super) fn remove_snapshot(&mut self, name: &str) -> Result<(), String> {
        let place = self.cow.snapshots.iter().position(|one| one.name == name);
        let Some(place) = place else {
            return Err(format!("there is no snapshot {name}"));
        };
        if self.is_exposed(name) {
            return Err(format!("the snapshot {name} is in use as a device"));
        }
        self.give_up_snapshot(place)
            .map_err(|error| format!("the snapshot {name} is not wholly removed: {error}"))
    }

    /// Takes a snapshot out, whatever is just being kept for it.
    fn give_up_snapshot(&mut self, place: usize) -> io::Result<()> {
        // What was not yet handed over names descriptors that are about to be closed.
        self.ring.submit()?;
        let snapshot = self.cow.snapshots.remove(place);
        self.status.wind();
        let unmapped = snapshot.unmapped();
        let removed = snapshot.remove();
        for chunk in unmapped {
            self.one_less(chunk, Ok(()))?;
        }
        removed
    }
}

fn token(effect: &Effect) -> Option<Token> {
    match effect {
        Effect::Write { token, .. }
        | Effect::Discard { token, .. }
        | Effect::Zero { token, .. } => Some(*token),
        _ => None,
    }
}

fn now_ms() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    wall.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}
