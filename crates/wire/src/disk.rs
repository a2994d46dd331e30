//! What is on a quorum disk: a label, and a slot for each member. Pure: plans writes, judges reads.
//!
//! ```text
//!  block  0      1      2 .. 129                      130 .. 2177
//!       +------+------+-----------------------------+------------------------------+
//!       | label, twice | heads: two for each member  | bodies: two for each member  |
//!       +------+------+-----------------------------+------------------------------+
//!        \___________ the table: 520 KiB, read whole ____/
//! ```
//!
//! A head says what the slot holds and where its body (the document) is. Heads are written in turn, bodies too,
//! and neither is ever written over while it is the newest sound one: a torn write leaves the slot as it was.
//! The bytes are laid out in `docs/internals/wire.md`.

use crate::ids::ClusterId;

/// Unit of everything on the disk, in bytes: the largest sector of disks in use.
pub const BLOCK: usize = 4096;
/// Members that can have a slot: numbers 1 to 64.
pub const SLOTS: u8 = 64;
/// Longest body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Longest content of a head, in bytes.
pub const MAX_HEAD: usize = BLOCK - FIELDS - 4;

/// Bytes of the table, from the beginning of the disk.
pub const TABLE: usize = (2 + 2 * SLOTS as usize) * BLOCK;
/// Bytes of all.
pub const SIZE: usize = TABLE + 2 * SLOTS as usize * MAX_BODY;

const MAGIC: [u8; 8] = *b"hpquorum";
const VERSION: u16 = 1;
/// Bytes before the content of a block.
const FIELDS: usize = 56;

const KIND_LABEL: u8 = 1;
const KIND_HEAD: u8 = 2;

/// Whose disk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    pub cluster: ClusterId,
    /// Random, drawn when the disk was labelled.
    pub disk: u64,
}

/// What is wrong with a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    #[error("it ends before {TABLE} bytes")]
    Short,
    #[error("it has no label of hotpair: it was never made a quorum disk, or was overwritten")]
    NoLabel,
    #[error("it is of format {0}, this release knows {VERSION}")]
    Format(u16),
    #[error("it is of cluster {cluster} and has number {disk:016x}, not the one expected")]
    OfAnother { cluster: ClusterId, disk: u64 },
    #[error("a slot of it is of cluster {cluster}, disk {disk:016x}: two write to it")]
    Shared { cluster: ClusterId, disk: u64 },
    #[error("the slot of member {0} is damaged beyond what a torn write does: label the disk anew")]
    Damaged(u8),
    #[error("member number {0} has no slot: 1 to {SLOTS} have")]
    NoSlot(u8),
    #[error("{len} bytes are too many for a slot")]
    TooLong { len: usize },
}

/// Bytes to be written at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub offset: u64,
    /// Whole blocks.
    pub bytes: Vec<u8>,
}

/// Where a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyAt {
    /// 0 or 1.
    pub copy: u8,
    /// Zero: there is none.
    pub len: u32,
    pub crc: u32,
}

/// The newest sound head of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub member: u8,
    /// Rises with each write of the slot; from 1.
    pub number: u64,
    pub body: BodyAt,
    pub content: Vec<u8>,
    /// Which of the two blocks it is in.
    copy: u8,
}

/// A table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The newest sound head of each slot that was ever written.
    pub heads: Vec<Head>,
    /// A block is neither sound nor empty: it is being written, or its write was torn. Read again, and believe
    /// it when two reads are equal.
    pub unsound: bool,
    /// Neither head of this member's slot is sound: it is written quicker than it was read, or is lost.
    pub damaged: Option<u8>,
}

/// The writes that make a disk a quorum disk: all slots are empty.
#[must_use]
pub fn label(label: Label) -> Vec<Write> {
    let mut bytes = vec![0; TABLE];
    let block = seal(label, KIND_LABEL, 0, 0, BodyAt::default(), &[]);
    bytes[..BLOCK].copy_from_slice(&block);
    bytes[BLOCK..2 * BLOCK].copy_from_slice(&block);
    vec![Write { offset: 0, bytes }]
}

/// Whose disk these first bytes (two blocks or more) belong to.
///
/// # Errors
/// When they are not the beginning of a quorum disk.
pub fn read_label(bytes: &[u8]) -> Result<Label, DiskError> {
    let first = block(bytes, 0).ok_or(DiskError::Short)?;
    let second = block(bytes, 1).ok_or(DiskError::Short)?;
    let mut format = None;
    for one in [first, second] {
        match open(one) {
            Opened::Sound(sound) if sound.kind == KIND_LABEL => return Ok(sound.label),
            Opened::Format(version) => format = Some(version),
            _ => {}
        }
    }
    Err(format.map_or(DiskError::NoLabel, DiskError::Format))
}

/// The slots in the first [`TABLE`] bytes of a disk that should be `expected`.
///
/// # Errors
/// When it is another disk, or something else writes to it. What is not sound is no error yet: see [`Reader`].
pub fn read_table(bytes: &[u8], expected: Label) -> Result<Table, DiskError> {
    if bytes.len() < TABLE {
        return Err(DiskError::Short);
    }
    let found = read_label(bytes)?;
    if found != expected {
        let Label { cluster, disk } = found;
        return Err(DiskError::OfAnother { cluster, disk });
    }
    let mut table = Table {
        heads: Vec::new(),
        unsound: false,
        damaged: None,
    };
    for member in 1..=SLOTS {
        let mut newest: Option<Head> = None;
        let mut unsound = 0;
        for copy in [0, 1] {
            let Some(bytes) = block(bytes, head_block(member, copy)) else {
                return Err(DiskError::Short);
            };
            let sound = match open(bytes) {
                Opened::Empty => continue,
                Opened::Sound(sound) if sound.kind == KIND_HEAD && sound.member == member => sound,
                _ => {
                    unsound += 1;
                    continue;
                }
            };
            if sound.label != expected {
                let Label { cluster, disk } = sound.label;
                return Err(DiskError::Shared { cluster, disk });
            }
            if newest.as_ref().is_none_or(|it| it.number < sound.number) {
                newest = Some(Head {
                    member,
                    number: sound.number,
                    body: sound.body,
                    content: sound.content.to_vec(),
                    copy,
                });
            }
        }
        if unsound == 2 {
            table.damaged.get_or_insert(member);
        }
        table.unsound |= unsound > 0;
        table.heads.extend(newest);
    }
    Ok(table)
}

/// Reads the table of one disk until it can be believed.
///
/// A block that is not sound may be under way: whoever took the other copy of the slot then could get an older
/// one than was there when the read began. If it is still the same in the next read, nothing was under way.
#[derive(Clone, Debug)]
pub struct Reader {
    expected: Label,
    before: Option<Vec<u8>>,
}

impl Reader {
    /// Of the disk `expected`.
    #[must_use]
    pub fn new(expected: Label) -> Self {
        Self {
            expected,
            before: None,
        }
    }

    /// Takes what was read in order of the blocks. `None`: read again.
    ///
    /// # Errors
    /// As [`read_table`]; and when a slot is lost.
    pub fn take(&mut self, bytes: Vec<u8>) -> Result<Option<Table>, DiskError> {
        let table = read_table(&bytes, self.expected)?;
        if !table.unsound || self.before.as_ref() == Some(&bytes) {
            self.before = None;
            return match table.damaged {
                Some(member) => Err(DiskError::Damaged(member)),
                None => Ok(Some(table)),
            };
        }
        self.before = Some(bytes);
        Ok(None)
    }
}

/// Where the body of `head` is: offset and length in bytes, in whole blocks. `None`: it has none.
#[must_use]
pub fn body_at(head: &Head) -> Option<(u64, usize)> {
    let len = usize::try_from(head.body.len).ok().filter(|&len| len > 0)?;
    let offset = body_offset(head.member, head.body.copy);
    Some((offset, len.div_ceil(BLOCK) * BLOCK))
}

/// The body of `head` in what was read there. `None`: it has been written over since the head was read.
#[must_use]
pub fn read_body<'b>(head: &Head, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let len = usize::try_from(head.body.len).ok()?;
    let body = bytes.get(..len)?;
    (crc32fast::hash(body) == head.body.crc).then_some(body)
}

/// Writes of one member's slot, in turn. Made from what was found there, and told what became of each write.
#[derive(Clone, Debug)]
pub struct SlotWriter {
    label: Label,
    member: u8,
    /// Of the newest sound head: never written over.
    copy: Option<u8>,
    body: BodyAt,
}

/// A slot's next writes: each to be durable before the next is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub steps: Vec<Write>,
    copy: u8,
    body: BodyAt,
}

impl SlotWriter {
    /// Of `member`, on top of `found`.
    ///
    /// # Errors
    /// When the member has no slot.
    pub fn new(label: Label, member: u8, found: Option<&Head>) -> Result<Self, DiskError> {
        if member == 0 || member > SLOTS {
            return Err(DiskError::NoSlot(member));
        }
        Ok(Self {
            label,
            member,
            copy: found.map(|head| head.copy),
            body: found.map(|head| head.body).unwrap_or_default(),
        })
    }

    /// How `content` and, if it has changed, a new `body` are written under `number`.
    ///
    /// # Errors
    /// When one of them is too long.
    pub fn plan(
        &self,
        number: u64,
        content: &[u8],
        body: Option<&[u8]>,
    ) -> Result<Planned, DiskError> {
        let long = content.len() > MAX_HEAD || body.is_some_and(|body| body.len() > MAX_BODY);
        let len = content.len().max(body.map_or(0, <[u8]>::len));
        if long {
            return Err(DiskError::TooLong { len });
        }
        let mut steps = Vec::new();
        let mut at = self.body;
        if let Some(body) = body {
            at = BodyAt {
                copy: if self.body.len > 0 {
                    1 - self.body.copy
                } else {
                    0
                },
                len: u32::try_from(body.len()).map_err(|_| DiskError::TooLong { len })?,
                crc: crc32fast::hash(body),
            };
            let mut bytes = body.to_vec();
            bytes.resize(body.len().div_ceil(BLOCK) * BLOCK, 0);
            let offset = body_offset(self.member, at.copy);
            steps.push(Write { offset, bytes });
        }
        let copy = self.copy.map_or(0, |copy| 1 - copy);
        let offset = (head_block(self.member, copy) * BLOCK) as u64;
        let bytes = seal(self.label, KIND_HEAD, self.member, number, at, content);
        steps.push(Write { offset, bytes });
        let body = at;
        Ok(Planned { steps, copy, body })
    }

    /// All steps of `planned` are durable. While that is not known, the next writes go to the same places.
    pub fn done(&mut self, planned: &Planned) {
        self.copy = Some(planned.copy);
        self.body = planned.body;
    }
}

fn head_block(member: u8, copy: u8) -> usize {
    2 * usize::from(member) + usize::from(copy)
}

fn body_offset(member: u8, copy: u8) -> u64 {
    let index = 2 * (usize::from(member).saturating_sub(1)) + usize::from(copy & 1);
    (TABLE + index * MAX_BODY) as u64
}

fn block(bytes: &[u8], index: usize) -> Option<&[u8; BLOCK]> {
    bytes.get(index * BLOCK..)?.first_chunk()
}

enum Opened<'b> {
    Empty,
    Unsound,
    Format(u16),
    Sound(Sound<'b>),
}

struct Sound<'b> {
    kind: u8,
    member: u8,
    label: Label,
    number: u64,
    body: BodyAt,
    content: &'b [u8],
}

fn seal(label: Label, kind: u8, member: u8, number: u64, body: BodyAt, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        block[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&MAGIC);
    put(&VERSION.to_le_bytes());
    put(&[kind, member]);
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    put(&length.to_le_bytes());
    put(&[body.copy, 0]);
    put(&label.cluster.0.to_le_bytes());
    put(&label.disk.to_le_bytes());
    put(&number.to_le_bytes());
    put(&body.len.to_le_bytes());
    put(&body.crc.to_le_bytes());
    put(&[0; 8]);
    put(content);
    let sum = crc32fast::hash(&block[..BLOCK - 4]);
    block[BLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
    block
}

fn open(block: &[u8; BLOCK]) -> Opened<'_> {
    if block.iter().all(|&byte| byte == 0) {
        return Opened::Empty;
    }
    let (rest, sum) = block.split_at(BLOCK - 4);
    if rest[..8] != MAGIC || crc32fast::hash(rest).to_le_bytes() != *sum {
        return Opened::Unsound;
    }
    let u16_at = |at: usize| u16::from_le_bytes([rest[at], rest[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| rest[at + i]));
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| rest[at + i]));
    if u16_at(8) != VERSION {
        return Opened::Format(u16_at(8));
    }
    let body = BodyAt {
        copy: rest[14],
        len: u32_at(40),
        crc: u32_at(44),
    };
    let Some(content) = rest.get(FIELDS..FIELDS + usize::from(u16_at(12))) else {
        return Opened::Unsound;
    };
    if body.copy > 1 || body.len as usize > MAX_BODY {
        return Opened::Unsound;
    }
    Opened::Sound(Sound {
        kind: rest[10],
        member: rest[11],
        label: Label {
            cluster: ClusterId(u64_at(16)),
            disk: u64_at(24),
        },
        number: u64_at(32),
        body,
        content,
    })
}

#[cfg(test)]
mod tests;
