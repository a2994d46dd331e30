//! Devices of a snapshot, or of the copy itself while it is not open. They are read-only, or what is written
//! to them is kept in memory and forgotten with them: enough for a filesystem's journal to be replayed.

use super::effects::Step;
use super::snapshot::CHUNK;
use super::{Decide, Driver, watched};
use crate::engine::{IoError, Token};
use crate::export::job::{Job, Outcome};
use crate::export::{self, Export, Request, Shape, Taken, What};
use crate::memory::Buffer;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Devices of this kind at a time.
const LIMIT: usize = 8;
/// Bytes that may be written to one of them.
const SCRATCH: usize = 64 << 20;

pub(super) struct Exposed {
    snapshot: Option<String>,
    at: PathBuf,
    export: Box<dyn Export>,
    /// Name in the ring; that of its job is the next one.
    who: u64,
    device: Option<u64>,
    job: Option<Job>,
    ticket: u64,
    leaving: bool,
    scratch: Option<Scratch>,
}

/// What was written to a device: it lies over what is shown.
#[derive(Debug)]
struct Scratch {
    block: usize,
    limit: usize,
    /// By their numbers.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Scratch {
    fn new(block: u32, limit: usize) -> Self {
        Self {
            block: usize::try_from(block).unwrap_or(usize::MAX).max(1),
            limit,
            blocks: BTreeMap::new(),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let block = self.block as u64;
        if !offset.is_multiple_of(block) || !bytes.len().is_multiple_of(self.block) {
            return Err(IoError::Invalid);
        }
        for (number, part) in (offset / block..).zip(bytes.chunks(self.block)) {
            let full = (self.blocks.len() + 1) * self.block > self.limit;
            match self.blocks.get_mut(&number) {
                Some(kept) => kept.copy_from_slice(part),
                None if full => return Err(IoError::NoSpace),
                None => {
                    self.blocks.insert(number, part.into());
                }
            }
        }
        Ok(())
    }

    /// Every kept block within these bytes, and where it begins in them.
    fn within(&self, offset: u64, length: usize) -> impl Iterator<Item = (usize, &[u8])> {
        let block = self.block as u64;
        let (first, end) = (offset / block, (offset + length as u64).div_ceil(block));
        self.blocks
            .range(first..end)
            .filter_map(move |(number, bytes)| {
                let at = usize::try_from((number * block).checked_sub(offset)?).ok()?;
                (at + bytes.len() <= length).then_some((at, &bytes[..]))
            })
    }
}

/// A part of a request: pieces are read one after the other.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    who: u64,
    tag: u64,
    offset: u64,
    into: Buffer,
    done: usize,
    /// Of the piece that is being read.
    length: usize,
    from_disk: bool,
}

impl<E: Decide> Driver<E> {
    pub(super) fn is_exposed(&self, name: &str) -> bool {
        self.exposed
            .iter()
            .any(|one| one.snapshot.as_deref() == Some(name))
    }

    /// `scratch`: it can be written to.
    pub(super) fn expose(
        &mut self,
        ticket: u64,
        snapshot: Option<String>,
        at: PathBuf,
        scratch: bool,
    ) {
        let begun = self.begin_exposing(ticket, snapshot, at, scratch);
        if let Err(text) = begun {
            self.control.done(ticket, Err(text));
        }
    }

    fn begin_exposing(
        &mut self,
        ticket: u64,
        snapshot: Option<String>,
        at: PathBuf,
        scratch: bool,
    ) -> Result<(), String> {
        if self.exposed.len() >= LIMIT {
            return Err(format!(
                "{LIMIT} devices are there already: end one of them"
            ));
        }
        if self.exposed.iter().any(|one| one.at == at) {
            return Err(format!("{} is a device already", at.display()));
        }
        if std::fs::symlink_metadata(&at).is_ok_and(|found| !found.is_symlink()) {
            return Err(format!(
                "{} is there already: name a path where nothing is",
                at.display()
            ));
        }
        let engine = self.engine.as_ref().ok_or("it was not set up yet")?;
        let size = match &snapshot {
            Some(name) => {
                let found = self.cow.snapshots.iter().find(|one| one.name == *name);
                found.ok_or(format!("there is no snapshot {name}"))?.size()
            }
            None if self.device.is_absent() => engine.status(super::moment()).size,
            None => return Err("the mirror is open: use its device, or a snapshot".into()),
        };
        let Some(disk) = self.disk.as_ref().filter(|_| size > 0) else {
            return Err("the local copy is not attached".into());
        };
        let block = disk.block();
        let shape = Shape {
            size,
            block,
            zeroing: false,
            read_only: !scratch,
        };
        let name = format!("{}@{}", self.device.name(), at.display());
        let wanted = self.setup.as_ref().map(|setup| setup.export);
        let wanted = wanted.unwrap_or_default();
        self.next_exposed += 2;
        let who = watched::EXPOSED + self.next_exposed;
        let begin = |ring: &mut crate::ring::Ring| -> io::Result<Exposed> {
            let mut export = export::make(wanted, &name, shape)?;
            ring.watch(who, export.descriptor().as_raw_fd(), libc::POLLIN)?;
            let job = export.attach()?;
            ring.watch(who + 1, job.descriptor().as_raw_fd(), libc::POLLIN)?;
            Ok(Exposed {
                snapshot: snapshot.clone(),
                at: at.clone(),
                export,
                who,
                device: None,
                job: Some(job),
                ticket,
                leaving: false,
                scratch: scratch.then(|| Scratch::new(block, SCRATCH)),
            })
        };
        let exposed = begin(&mut self.ring).map_err(|error| {
            // A watch would keep its file open.
            let _ = self.ring.forget(who);
            error.to_string()
        })?;
        self.exposed.push(exposed);
        Ok(())
    }

    pub(super) fn conceal(&mut self, ticket: u64, at: &Path) -> io::Result<()> {
        let Some(one) = self.exposed.iter_mut().find(|one| one.at == at) else {
            let text = format!("{} is no device of a snapshot", at.display());
            self.control.done(ticket, Err(text));
            return Ok(());
        };
        match (one.device, &one.job) {
            (Some(device), None) => {
                let job = one.export.detach(device)?;
                self.ring
                    .watch(one.who + 1, job.descriptor().as_raw_fd(), libc::POLLIN)?;
                one.job = Some(job);
                one.ticket = ticket;
                one.leaving = true;
            }
            _ => {
                let text = "the device is being made or taken away";
                self.control.done(ticket, Err(text.into()));
            }
        }
        Ok(())
    }

    /// Its file or its job is ready.
    pub(super) fn exposed_ready(&mut self, who: u64) -> io::Result<()> {
        let Some(place) = self.exposed.iter().position(|one| one.who == who & !1) else {
            return Ok(());
        };
        match who & 1 {
            0 => self.exposed_requests(place),
            _ => self.exposed_job(place),
        }
    }

    fn exposed_job(&mut self, place: usize) -> io::Result<()> {
        let one = &mut self.exposed[place];
        let Some(outcome) = one.job.as_mut().and_then(Job::outcome) else {
            return Ok(());
        };
        self.ring.forget(one.who + 1)?;
        one.job = None;
        let ticket = one.ticket;
        let result = match (outcome, one.leaving) {
            (Outcome::Done(device), false) => {
                one.device = Some(device);
                let target = one.export.path(device);
                let linked = super::device::link(&target, &one.at)
                    .map_err(|error| format!("cannot link {}: {error}", one.at.display()));
                if linked.is_err() {
                    // Nobody would find it: away with it.
                    let job = one.export.detach(device)?;
                    self.ring
                        .watch(one.who + 1, job.descriptor().as_raw_fd(), libc::POLLIN)?;
                    one.job = Some(job);
                    one.leaving = true;
                }
                linked
            }
            (Outcome::Done(_), true) => {
                // Only what was put there: somebody may have put something else in its place.
                let target = one.device.map(|device| one.export.path(device));
                if target.is_some() && std::fs::read_link(&one.at).ok() == target {
                    let _ = std::fs::remove_file(&one.at);
                }
                self.ring.forget(one.who)?;
                self.exposed.remove(place);
                Ok(())
            }
            (Outcome::Failed { step, errno }, leaving) => {
                if leaving {
                    one.leaving = false;
                } else {
                    self.ring.forget(one.who)?;
                    self.exposed.remove(place);
                }
                Err(export::describe(step, errno))
            }
        };
        self.control.done(ticket, result);
        Ok(())
    }

    fn exposed_requests(&mut self, place: usize) -> io::Result<()> {
        loop {
            let one = &mut self.exposed[place];
            let who = one.who;
            match one.export.take(&mut self.pool)? {
                Taken::Request(Request {
                    tag,
                    at,
                    what: What::Read { into },
                }) => {
                    let shown = Shown {
                        who,
                        tag,
                        offset: at.offset,
                        into,
                        done: 0,
                        length: 0,
                        from_disk: false,
                    };
                    self.show(shown)?;
                }
                Taken::Request(Request {
                    tag,
                    what: What::Flush,
                    ..
                }) => one.export.answer(tag, Ok(()), None),
                Taken::Request(Request {
                    tag,
                    at,
                    what: What::Write { from, .. },
                }) => {
                    let result = match &mut one.scratch {
                        Some(scratch) => scratch.write(at.offset, from.bytes()),
                        None => Err(IoError::Invalid),
                    };
                    one.export.answer(tag, result, None);
                }
                Taken::Request(request) => {
                    one.export.answer(request.tag, Err(IoError::Invalid), None);
                }
                Taken::Handled => {}
                Taken::Nothing | Taken::Ended => return Ok(()),
                Taken::Full => {
                    self.exposed_full = true;
                    return Ok(());
                }
            }
        }
    }

    /// Those that had to wait for memory.
    pub(super) fn exposed_again(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.exposed_full) {
            for place in 0..self.exposed.len() {
                self.exposed_requests(place)?;
            }
        }
        Ok(())
    }

    /// Reads the next piece: up to the end of a chunk, from where it is.
    fn show(&mut self, mut shown: Shown) -> io::Result<()> {
        let Some(one) = self.exposed.iter_mut().find(|one| one.who == shown.who) else {
            return Ok(());
        };
        if shown.done == shown.into.len() {
            if let Some(scratch) = &one.scratch {
                for (at, bytes) in scratch.within(shown.offset, shown.into.len()) {
                    shown.into.write(at, bytes);
                }
            }
            one.export.answer(shown.tag, Ok(()), Some(&shown.into));
            return Ok(());
        }
        let at = shown.offset + shown.done as u64;
        let chunk = at / CHUNK;
        let left = usize::try_from((chunk + 1) * CHUNK - at).unwrap_or(0);
        shown.length = left.min(shown.into.len() - shown.done);
        let snapshot = one
            .snapshot
            .as_ref()
            .map(|name| self.cow.snapshots.iter().find(|one| one.name == *name));
        let kept = match snapshot {
            // It was given up meanwhile.
            Some(None) => {
                one.export.answer(shown.tag, Err(IoError::Failed), None);
                return Ok(());
            }
            Some(Some(snapshot)) => snapshot.has(chunk).then(|| snapshot.data_fd()),
            None => None,
        };
        shown.from_disk = kept.is_none();
        let fd = match kept {
            Some(fd) => Some(fd),
            None => self.begin(),
        };
        let part = shown.into.part(shown.done, shown.length);
        let (Some(fd), Some(part)) = (fd, part) else {
            return self.shown_failed(&shown);
        };
        let who = self.pending.put(Token(0), Step::Show(shown));
        self.ring.read(who, fd, at, part)
    }

    pub(super) fn shown(&mut self, mut shown: Shown, result: Result<(), i32>) -> io::Result<()> {
        if shown.from_disk
            && let Some(disk) = &mut self.disk
        {
            disk.under_way -= 1;
        }
        if result.is_err() {
            return self.shown_failed(&shown);
        }
        // What was read from the disk may have been overwritten meanwhile: then it is kept by now.
        let chunk = (shown.offset + shown.done as u64) / CHUNK;
        let name = self
            .exposed
            .iter()
            .find(|one| one.who == shown.who)
            .and_then(|one| one.snapshot.as_ref());
        let overwritten = self
            .cow
            .snapshots
            .iter()
            .any(|one| Some(&one.name) == name && one.has(chunk));
        if !(shown.from_disk && overwritten) {
            shown.done += shown.length;
        }
        self.show(shown)
    }

    fn shown_failed(&mut self, shown: &Shown) -> io::Result<()> {
        if let Some(one) = self.exposed.iter_mut().find(|one| one.who == shown.who) {
            one.export.answer(shown.tag, Err(IoError::Failed), None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_lies_over_what_is_shown() {
        let mut scratch = Scratch::new(512, 3 * 512);
        scratch.write(1024, &[7; 1024]).unwrap();
        scratch.write(1536, &[8; 512]).unwrap();
        let mut bytes = vec![1; 2048];
        for (at, kept) in scratch.within(512, bytes.len()) {
            bytes[at..at + kept.len()].copy_from_slice(kept);
        }
        let marks: Vec<u8> = bytes.iter().step_by(512).copied().collect();
        assert_eq!(marks, [1, 7, 8, 1]);
        assert_eq!(scratch.within(2048, 4096).count(), 0);
    }

    #[test]
    fn no_more_is_kept_than_may_be_and_nothing_in_between() {
        let mut scratch = Scratch::new(512, 2 * 512);
        assert_eq!(scratch.write(100, &[1; 512]), Err(IoError::Invalid));
        assert_eq!(scratch.write(0, &[1; 100]), Err(IoError::Invalid));
        assert_eq!(scratch.write(0, &[1; 3 * 512]), Err(IoError::NoSpace));
        // What is there may be written again.
        assert_eq!(scratch.write(0, &[2; 2 * 512]), Ok(()));
    }
}
