//! The mirror's metadata on disk (`docs/internals/mirror-formats.md`).
//!
//! ```text
//!   [ superblock 0 | superblock 1 | log 0 | log 1 | bitmap page 0 | page 1 | ... ]   blocks of 4096 bytes
//! ```
//!
//! Written alternately, the newest intact one of two counts, so that a write torn by a power cut leaves
//! the state before it. A damaged bitmap page counts as all set. Encoding and judging only: what is
//! written when is the engine's matter.

mod bits;
mod block;
mod layout;
mod log;
mod page;
mod superblock;
#[cfg(test)]
mod tests;

pub use bits::Bits;
pub use layout::{Layout, LayoutError, disk_for, layout};
pub use log::{LOG_EXTENTS, LogTable, newest_log};
pub use page::{PAGE_BITS, Page, decode_page, encode_page};
pub use superblock::{Flaw, Superblock, newest};

/// Unit of the bitmap, and of everything in the metadata.
pub const BLOCK: u64 = 4096;
/// The same, as a length in memory.
pub const BLOCK_LEN: usize = 4096;
/// Unit of the activity log.
pub const EXTENT: u64 = 4 * 1024 * 1024;
/// Blocks of an extent.
pub const EXTENT_BLOCKS: u64 = EXTENT / BLOCK;
