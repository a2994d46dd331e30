//! The slots of all members on the disk, read and written by the thread of [`super::Quorum`].

use super::Place;
use hotpair_core::disk::{Asked, Slot};
use hotpair_core::document::Document;
use hotpair_core::ids::{MemberId, Term, Version};
use hotpair_core::message::Beat;
use hotpair_host::shared_disk::{Purpose, SharedDisk};
use hotpair_wire::ClusterId;
use hotpair_wire::codec;
use hotpair_wire::disk::{self, BodyAt, Head, Label, Reader, SlotWriter, Table};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A disk that could not be opened is tried again this often.
const RETRY: Duration = Duration::from_millis(500);
/// Reads of the table until none of its blocks is under way. Each node writes one block in a round.
const READS: usize = 32;
/// Tables read until no body was written over meanwhile.
const TABLES: usize = 8;

/// A slot but for its member and number, which the head names, and its document, which is the body.
#[derive(Serialize, Deserialize)]
struct Content {
    claim: Term,
    beat: Option<Beat>,
    asked: Option<Asked>,
    longest: Duration,
    /// Of the document in the body.
    version: Version,
}

/// The disk as one member reads and writes it.
pub struct SlotFile {
    place: Place,
    label: Label,
    /// Held to the end of the thread, so that no other process of this node writes before.
    lock: Option<Lock>,
    disk: Option<SharedDisk>,
    tried: Option<(Instant, String)>,
    /// How the next write is made; `None` until it is known what the own slot holds.
    writer: Option<SlotWriter>,
    /// Version of the document in the own slot.
    written: Version,
    /// Documents as last read, and where.
    documents: BTreeMap<MemberId, (BodyAt, Arc<Document>)>,
}

impl SlotFile {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(place: Place) -> Self {
        let label = Label {
            cluster: ClusterId(place.cluster),
            disk: place.setup.number,
        };
        Self {
            place,
            label,
            lock: None,
            disk: None,
            tried: None,
            writer: None,
            written: Version::ZERO,
            documents: BTreeMap::new(),
        }
    }

    /// Every slot that was ever written.
    pub fn read(&mut self) -> Result<Vec<Slot>, String> {
        let result = self.read_slots();
        self.keep(result)
    }

    /// Makes `slot` the own one; it is durable when this returns.
    pub fn write(&mut self, slot: &Slot) -> Result<(), String> {
        let result = self.write_slot(slot);
        self.keep(result)
    }

    /// A disk that failed is opened anew: it may have been attached again, or be another one now. And a write
    /// that failed was made or not. So the label and the own slot are looked at before the next write.
    fn keep<T>(&mut self, result: Result<T, String>) -> Result<T, String> {
        if result.is_err() {
            self.disk = None;
            self.writer = None;
        }
        result
    }

    fn open(&mut self) -> Result<&SharedDisk, String> {
        if self.disk.is_none() {
            if let Some((at, problem)) = &self.tried
                && at.elapsed() < RETRY
            {
                return Err(problem.clone());
            }
            self.disk = Some(self.try_open().inspect_err(|problem| {
                self.tried = Some((Instant::now(), problem.clone()));
            })?);
        }
        self.disk
            .as_ref()
            .ok_or_else(|| "it is not open".to_owned())
    }

    fn try_open(&mut self) -> Result<SharedDisk, String> {
        if self.lock.is_none() {
            self.lock = Some(Lock::take(&self.place.lock)?);
        }
        let opened = SharedDisk::open(&self.place.setup.path, disk::SIZE as u64, Purpose::Write);
        let opened = opened.map_err(|error| error.to_string())?;
        let unfinished = self.lock.as_ref().is_some_and(|lock| lock.unfinished);
        if unfinished && opened.writes_outlive_their_thread() {
            return Err("an earlier guard of this node was killed while it wrote to the share, and the write may still arrive: until this host is restarted nothing is written".into());
        }
        Ok(opened)
    }

    fn table(&mut self) -> Result<Table, String> {
        let mut reader = Reader::new(self.label);
        for _ in 0..READS {
            let bytes = self.open()?.read(0, disk::TABLE);
            let bytes = bytes.map_err(|error| said("read", &error))?;
            if let Some(table) = reader.take(bytes).map_err(|error| error.to_string())? {
                return Ok(table);
            }
        }
        Err(
            "its blocks change faster than they can be read: does something else write to it?"
                .into(),
        )
    }

    fn read_slots(&mut self) -> Result<Vec<Slot>, String> {
        for _ in 0..TABLES {
            let table = self.table()?;
            self.know_own(&table)?;
            if let Some(slots) = self.slots(&table)? {
                return Ok(slots);
            }
        }
        Err("the document in a slot is not the one its head names: it is damaged, or something else writes to the disk".into())
    }

    /// The first look says how the own slot is written over.
    fn know_own(&mut self, table: &Table) -> Result<(), String> {
        if self.writer.is_some() {
            return Ok(());
        }
        let me = self.place.me;
        let own = table.heads.iter().find(|head| head.member == me.0);
        self.written = match own {
            Some(head) => content(head)?.version,
            None => Version::ZERO,
        };
        let writer = SlotWriter::new(self.label, me.0, own);
        self.writer = Some(writer.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// `None`: a document was written over since the table was read.
    fn slots(&mut self, table: &Table) -> Result<Option<Vec<Slot>>, String> {
        let mut slots = Vec::new();
        for head in &table.heads {
            let member = MemberId(head.member);
            let Content {
                claim,
                beat,
                asked,
                longest,
                version,
            } = content(head)?;
            let document = match self.document(head, version)? {
                Found::None => None,
                Found::Document(document) => Some(document),
                Found::WrittenOver => return Ok(None),
            };
            slots.push(Slot {
                member,
                number: head.number,
                claim,
                beat,
                asked,
                longest,
                document,
            });
        }
        Ok(Some(slots))
    }

    fn document(&mut self, head: &Head, version: Version) -> Result<Found, String> {
        let Some((offset, length)) = disk::body_at(head) else {
            return Ok(Found::None);
        };
        let member = MemberId(head.member);
        if let Some((at, document)) = self.documents.get(&member)
            && *at == head.body
            && document.version == version
        {
            return Ok(Found::Document(Arc::clone(document)));
        }
        let bytes = self.open()?.read(offset, length);
        let bytes = bytes.map_err(|error| said("read", &error))?;
        let Some(body) = disk::read_body(head, &bytes) else {
            return Ok(Found::WrittenOver);
        };
        let document: Arc<Document> = codec::decode(body).map_err(|error| {
            format!("the document in the slot of {member} cannot be read: {error}")
        })?;
        if document.version != version {
            return Err(format!(
                "the slot of {member} names document {version} and holds {}",
                document.version
            ));
        }
        self.documents
            .insert(member, (head.body, Arc::clone(&document)));
        Ok(Found::Document(document))
    }

    fn write_slot(&mut self, slot: &Slot) -> Result<(), String> {
        if self.writer.is_none() {
            let table = self.table()?;
            self.know_own(&table)?;
        }
        let content = codec::encode(&Content {
            claim: slot.claim,
            beat: slot.beat.clone(),
            asked: slot.asked,
            longest: slot.longest,
            version: slot.version(),
        });
        let body = match &slot.document {
            Some(document) if document.version != self.written => Some(codec::encode(document)),
            _ => None,
        };
        let Some(writer) = &self.writer else {
            return Err("what this node's slot holds is not known".into());
        };
        let planned = writer
            .plan(slot.number, &content, body.as_deref())
            .map_err(|error| error.to_string())?;
        self.open()?;
        let (Some(disk), Some(lock)) = (&self.disk, &mut self.lock) else {
            return Err("it is not open".into());
        };
        lock.writes(true)?;
        let written = planned
            .steps
            .iter()
            .try_for_each(|step| disk.write(step.offset, &step.bytes));
        lock.writes(false)?;
        written.map_err(|error| said("written", &error))?;
        if let Some(writer) = &mut self.writer {
            writer.done(&planned);
        }
        self.written = slot.version();
        Ok(())
    }
}

enum Found {
    None,
    Document(Arc<Document>),
    WrittenOver,
}

fn content(head: &Head) -> Result<Content, String> {
    codec::decode(&head.content)
        .map_err(|error| format!("the slot of member {} cannot be read: {error}", head.member))
}

fn said(what: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it has become shorter than a quorum disk is".into(),
        _ => format!("it cannot be {what}: {error}"),
    }
}

/// Who writes to the disk on this node. It goes with the table of open files it is in: that of this thread
/// alone. The first byte says whether a write is under way.
struct Lock {
    file: File,
    path: PathBuf,
    /// The thread that held it before ended in the middle of a write.
    unfinished: bool,
}

impl Lock {
    fn take(path: &Path) -> Result<Self, String> {
        let open = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path);
        let file = open.map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err("a read or a write of an earlier guard of this node has not ended yet: until it has, nothing is written".into());
            }
            Err(error) => return Err(format!("{} cannot be locked: {error}", path.display())),
        }
        let mut mark = [0];
        let read = file.read_at(&mut mark, 0);
        read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            unfinished: mark == [WRITING],
        })
    }

    fn writes(&mut self, on: bool) -> Result<(), String> {
        let mark = [if on { WRITING } else { b'-' }];
        let written = self.file.write_all_at(&mark, 0);
        written.map_err(|error| format!("{} cannot be written: {error}", self.path.display()))
    }
}

const WRITING: u8 = b'w';

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn lock_tells_of_a_write_that_was_not_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mut lock = Lock::take(&path).unwrap();
        assert!(!lock.unfinished);
        lock.writes(true).unwrap();
        assert!(Lock::take(&path).is_err());
        // As if its thread was killed.
        drop(lock);
        let mut lock = Lock::take(&path).unwrap();
        assert!(lock.unfinished);
        lock.writes(false).unwrap();
        drop(lock);
        assert!(!Lock::take(&path).unwrap().unfinished);
    }
}
