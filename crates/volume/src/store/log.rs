//! The activity log: which extents may differ between the copies after a crash of the active side.

use super::block::{Reader, Writer};

const MAGIC: &[u8; 8] = b"hplogtab";

/// Extents that the table holds at most: what fits one block.
pub const LOG_EXTENTS: usize = 1014;

/// The whole table, as one of the two places has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTable {
    /// Rises with each write; its lowest bit tells the place.
    pub sequence: u64,
    /// [`hotpair_core::mirror::Data::id`]: a table left by an earlier mirror does not count.
    pub mirror: u64,
    /// Numbers of extents.
    pub extents: Vec<u32>,
}

impl LogTable {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.extents.len() <= LOG_EXTENTS, "the log is too long");
        let mut out = Writer::new(MAGIC);
        out.u32(u32::try_from(self.extents.len()).unwrap_or(0));
        out.u64(self.sequence);
        out.u64(self.mirror);
        for extent in &self.extents {
            out.u32(*extent);
        }
        out.seal()
    }

    /// `None`: damaged, or not a table of this mirror.
    #[must_use]
    pub fn decode(bytes: &[u8], mirror: u64) -> Option<Self> {
        let mut reader = Reader::open(bytes, MAGIC).ok()?;
        let count = reader.u32() as usize;
        let sequence = reader.u64();
        let of = reader.u64();
        (count <= LOG_EXTENTS && of == mirror).then(|| Self {
            sequence,
            mirror,
            extents: (0..count).map(|_| reader.u32()).collect(),
        })
    }
}

/// Which of the two places counts: the newest intact one. `None`: neither is; after an open that did
/// not end in good order every extent counts as logged then.
#[must_use]
pub fn newest_log(places: [&[u8]; 2], mirror: u64) -> Option<LogTable> {
    places
        .into_iter()
        .filter_map(|place| LogTable::decode(place, mirror))
        .max_by_key(|table| table.sequence)
}
