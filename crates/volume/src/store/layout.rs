//! Where the areas of the metadata are.

use super::{BLOCK, PAGE_BITS};
use thiserror::Error;

/// Smallest volume: 1 MiB.
const SMALLEST: u64 = 1024 * 1024;
/// Largest volume: what the numbers of extents and of pages reach, 2^53 bytes (8 PiB) by far.
const LARGEST: u64 = 1 << 53;

/// Places of the areas, in bytes from the start of what holds the metadata: the disk itself, or the file
/// beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The metadata is in a file of its own.
    pub beside: bool,
    /// Of two blocks.
    pub superblocks: u64,
    /// Of two blocks.
    pub logs: u64,
    /// Of `pages` blocks.
    pub bitmap: u64,
    pub pages: u32,
}

/// Why a disk cannot take a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    #[error("a volume of {0} bytes: it must be a multiple of 4096, from 1 MiB to 8 PiB")]
    Size(u64),
    #[error(
        "the disk has {disk} bytes, and the volume of {size} needs {needed}: make the disk larger, or \
         put the metadata into a file beside it"
    )]
    TooSmall { disk: u64, size: u64, needed: u64 },
}

impl Layout {
    /// Of superblock copy 0 or 1.
    #[must_use]
    pub fn superblock(&self, copy: u64) -> u64 {
        self.superblocks + (copy & 1) * BLOCK
    }

    /// Of log copy 0 or 1.
    #[must_use]
    pub fn log(&self, copy: u64) -> u64 {
        self.logs + (copy & 1) * BLOCK
    }

    #[must_use]
    pub fn page(&self, index: u32) -> u64 {
        self.bitmap + u64::from(index) * BLOCK
    }

    /// Where the superblocks of a disk of `disk` bytes are looked for.
    #[must_use]
    pub fn superblocks_of(disk: u64, beside: bool) -> Option<u64> {
        if beside {
            return Some(0);
        }
        (disk / BLOCK).checked_sub(2).map(|block| block * BLOCK)
    }
}

/// Pages of the bitmap of a volume of `size` bytes.
fn pages(size: u64) -> u64 {
    (size / BLOCK).div_ceil(PAGE_BITS)
}

/// Places for a volume of `size` bytes on a disk of `disk` bytes. In a file beside the disk they begin
/// with the superblocks and end with the bitmap, which grows with the volume. On the disk itself the
/// superblocks are its last two blocks, where they are found whatever the volume's size is, and the
/// bitmap is before the logs before them, with room for the largest volume that the disk could take.
///
/// # Errors
/// The disk is too small, or the size cannot be a volume's.
pub fn layout(size: u64, disk: u64, beside: bool) -> Result<Layout, LayoutError> {
    if !size.is_multiple_of(BLOCK) || !(SMALLEST..=LARGEST).contains(&size) {
        return Err(LayoutError::Size(size));
    }
    let end = disk / BLOCK * BLOCK;
    let pages = pages(if beside { size } else { end });
    let count = u32::try_from(pages).map_err(|_| LayoutError::Size(size))?;
    let needed = if beside {
        size
    } else {
        size + (pages + 4) * BLOCK
    };
    if end < needed {
        return Err(LayoutError::TooSmall { disk, size, needed });
    }
    if beside {
        return Ok(Layout {
            beside,
            superblocks: 0,
            logs: 2 * BLOCK,
            bitmap: 4 * BLOCK,
            pages: count,
        });
    }
    Ok(Layout {
        beside,
        superblocks: end - 2 * BLOCK,
        logs: end - 4 * BLOCK,
        bitmap: end - (4 + pages) * BLOCK,
        pages: count,
    })
}

/// Bytes of the smallest disk that takes a volume of `size` bytes and its metadata.
///
/// # Errors
/// The size cannot be a volume's.
pub fn disk_for(size: u64) -> Result<u64, LayoutError> {
    let mut disk = size;
    loop {
        // The bitmap is that of the disk, so what is added may want a page more.
        match layout(size, disk, false) {
            Ok(_) => return Ok(disk),
            Err(LayoutError::TooSmall { needed, .. }) => disk = needed,
            Err(error) => return Err(error),
        }
    }
}

/// Could these be the places of a volume of `size` bytes? They are aligned, apart from each other, and
/// on the disk itself behind the volume.
pub(super) fn places_fit(layout: &Layout, size: u64) -> bool {
    let start = if layout.beside { 0 } else { size };
    let areas = [
        (layout.superblocks, 2),
        (layout.logs, 2),
        (layout.bitmap, u64::from(layout.pages)),
    ];
    let sound = areas
        .iter()
        .all(|(offset, _)| offset.is_multiple_of(BLOCK) && *offset >= start && *offset <= 1 << 60);
    let apart = areas.iter().enumerate().all(|(n, one)| {
        areas[n + 1..]
            .iter()
            .all(|other| one.0 + one.1 * BLOCK <= other.0 || other.0 + other.1 * BLOCK <= one.0)
    });
    size.is_multiple_of(BLOCK)
        && (SMALLEST..=LARGEST).contains(&size)
        && u64::from(layout.pages) >= pages(size)
        && sound
        && apart
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIB: u64 = 1 << 40;

    #[test]
    fn metadata_of_a_tebibyte_takes_less_than_40_mebibytes() {
        let layout = layout(TIB, TIB, true).unwrap();
        let end = layout.page(layout.pages);
        assert!(end < 40 << 20, "{end}");
    }

    #[test]
    fn areas_are_apart_and_within_the_disk() {
        for size in [1 << 20, 100 << 20, 130_560 << 10, TIB, TIB + 4096] {
            let disk = size + size / 1000 + (1 << 20) + 1234;
            for beside in [false, true] {
                let layout = layout(size, disk, beside).unwrap();
                assert!(places_fit(&layout, size), "{layout:?}");
                if !beside {
                    assert_eq!(
                        Layout::superblocks_of(disk, false),
                        Some(layout.superblocks)
                    );
                    assert!(layout.superblock(1) + BLOCK <= disk);
                }
            }
        }
    }

    #[test]
    fn a_disk_made_for_a_volume_takes_it_and_is_no_larger_than_it_must_be() {
        let mebibytes = [1, 127, 255, 510, 1020, 95 << 10, 255 << 10, 4 << 20];
        for size in mebibytes.map(|size: u64| size << 20) {
            let disk = disk_for(size).unwrap();
            assert!(layout(size, disk, false).is_ok(), "{size}");
            assert!(layout(size, disk - BLOCK, false).is_err(), "{size}");
        }
        assert!(disk_for(12345).is_err());
    }

    #[test]
    fn a_disk_that_is_too_small_is_told_what_is_needed() {
        let error = layout(1 << 30, 1 << 30, false).unwrap_err();
        assert!(matches!(error, LayoutError::TooSmall { needed, .. } if needed > 1 << 30));
        assert!(error.to_string().contains("beside it"), "{error}");
        assert!(layout(1 << 30, 1 << 30, true).is_ok());
        assert_eq!(layout(12345, TIB, true), Err(LayoutError::Size(12345)));
    }
}
