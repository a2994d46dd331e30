//! Power cuts at every point of a sequence of metadata updates, and garbage.

use super::*;
use hotpair_core::ids::{Epoch, HostBoot, MemberId};
use hotpair_core::mirror::Generation;
use proptest::prelude::*;
use std::collections::BTreeSet;

const SECTOR: usize = 512;
const MIRROR: u64 = 77;

fn superblock(sequence: u64) -> Superblock {
    Superblock {
        sequence,
        mirror: MIRROR,
        node: MemberId(2),
        size: 64 << 20,
        generation: Generation(100 + sequence),
        ancestors: (0..sequence.min(16)).map(Generation).collect(),
        consistent: sequence.is_multiple_of(2),
        open: sequence.is_multiple_of(3),
        written: sequence.is_multiple_of(5),
        solo: (sequence.is_multiple_of(7)).then_some(Generation(sequence + 1)),
        base: Generation(3),
        resync_base: Generation(4),
        boot: HostBoot(5),
        epoch: Epoch(6),
        layout: layout(64 << 20, 65 << 20, false).unwrap(),
    }
}

/// Disk contents of the metadata area only.
#[derive(Clone)]
struct Area {
    bytes: Vec<u8>,
    start: u64,
}

impl Area {
    fn new(layout: &Layout) -> Self {
        let start = layout.bitmap;
        let length = layout.superblock(1) + BLOCK - start;
        Self {
            bytes: vec![0; usize::try_from(length).unwrap()],
            start,
        }
    }

    fn at(&self, offset: u64) -> usize {
        usize::try_from(offset - self.start).unwrap()
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let at = self.at(offset);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Only these sectors of it arrive.
    fn tear(&mut self, offset: u64, bytes: &[u8], sectors: u32) {
        for (n, part) in bytes.chunks(SECTOR).enumerate() {
            if sectors >> n & 1 == 1 {
                self.write(offset + (n * SECTOR) as u64, part);
            }
        }
    }

    fn block(&self, offset: u64) -> &[u8] {
        let at = self.at(offset);
        &self.bytes[at..at + BLOCK_LEN]
    }
}

/// What recovery makes of an area.
struct Recovered {
    superblock: Result<Superblock, Flaw>,
    log: Option<LogTable>,
    bits: Bits,
}

fn recover(area: &Area, layout: &Layout, blocks: u64) -> Recovered {
    let both = |place: &dyn Fn(u64) -> u64| [area.block(place(0)), area.block(place(1))];
    let mut bits = Bits::new(blocks);
    for index in 0..bits.pages() {
        bits.load(index, decode_page(index, area.block(layout.page(index))));
    }
    Recovered {
        superblock: newest(both(&|copy| layout.superblock(copy))),
        log: newest_log(both(&|copy| layout.log(copy)), MIRROR),
        bits,
    }
}

/// One round of updates as the engine orders them: writes of a round are under way together, a round
/// begins when everything of the one before is durable.
struct Round {
    writes: Vec<(u64, Vec<u8>)>,
    /// What acknowledged writes rest on from before the round on: each of these extents is in the log, or
    /// its dirty blocks are set in the bitmap.
    rests_on: BTreeSet<u32>,
    /// Blocks that the other copy lacks, by acknowledged writes, at that time.
    lacking: BTreeSet<u64>,
}

/// A history: superblock updates, and the log turning over while pages of evicted extents are written
/// first (rule R9).
fn history(layout: &Layout, blocks: u64) -> Vec<Round> {
    let mut rounds = Vec::new();
    let mut bits = Bits::new(blocks);
    let mut log: Vec<u32> = Vec::new();
    let mut lacking = BTreeSet::new();
    let last = u32::try_from(blocks / EXTENT_BLOCKS).unwrap();
    for step in 1u64..14 {
        let extent = u32::try_from(step * 5).unwrap() % last;
        let evicted = (log.len() >= 3).then(|| log[0]);
        let before: BTreeSet<u32> = log.iter().copied().collect();
        if let Some(evicted) = evicted {
            let page = Bits::page_of(u64::from(evicted) * EXTENT_BLOCKS);
            rounds.push(Round {
                writes: vec![(layout.page(page), encode_page(page, bits.page(page)))],
                rests_on: before.clone(),
                lacking: lacking.clone(),
            });
            log.remove(0);
        }
        if !log.contains(&extent) {
            log.push(extent);
        }
        let table = LogTable {
            sequence: step,
            mirror: MIRROR,
            extents: log.clone(),
        };
        // A superblock is written at the same time.
        rounds.push(Round {
            writes: vec![
                (layout.log(step), table.encode()),
                (layout.superblock(step), superblock(step).encode()),
            ],
            rests_on: before
                .iter()
                .copied()
                .filter(|extent| Some(*extent) != evicted)
                .collect(),
            lacking: lacking.clone(),
        });
        // Now it is durable, blocks of the extent are written and acknowledged without the peer.
        let block = u64::from(extent) * EXTENT_BLOCKS + step;
        bits.set(block, 2);
        lacking.extend([block, block + 1]);
    }
    rounds
}

fn check(recovered: &Recovered, round: &Round, step: usize) {
    let logged: BTreeSet<u32> = match &recovered.log {
        Some(table) => table.extents.iter().copied().collect(),
        // Nothing was ever logged, or everything counts as logged.
        None => (0..16).collect(),
    };
    for extent in &round.rests_on {
        let block = u64::from(*extent) * EXTENT_BLOCKS;
        let lacking = round.lacking.range(block..block + EXTENT_BLOCKS);
        let set = lacking.clone().all(|block| recovered.bits.get(*block));
        assert!(
            logged.contains(extent) || lacking.count() > 0 && set,
            "round {step}: extent {extent} is lost"
        );
    }
    for block in &round.lacking {
        let extent = u32::try_from(block / EXTENT_BLOCKS).unwrap();
        assert!(
            recovered.bits.get(*block) || logged.contains(&extent),
            "round {step}: block {block} is lost"
        );
    }
}

#[test]
fn a_power_cut_at_any_point_leaves_old_or_new_and_loses_no_extent_and_no_dirty_block() {
    let layout = layout(64 << 20, 65 << 20, false).unwrap();
    let blocks = (64u64 << 20) / BLOCK;
    let mut area = Area::new(&layout);
    for page in 0..layout.pages {
        area.write(layout.page(page), &encode_page(page, &Page::Clear));
    }
    area.write(layout.superblock(0), &superblock(0).encode());
    let mut cuts = 0;
    for (step, round) in history(&layout, blocks).iter().enumerate() {
        let old = recover(&area, &layout, blocks);
        let mut done = area.clone();
        for (offset, bytes) in &round.writes {
            done.write(*offset, bytes);
        }
        let new = recover(&done, &layout, blocks);
        // Every subset of the eight sectors of each write, the other writes whole, torn alike or not there.
        for torn in 0u32..256 {
            for which in 0..round.writes.len() {
                for others in [0u32, torn, 255] {
                    let mut cut = area.clone();
                    for (n, (offset, bytes)) in round.writes.iter().enumerate() {
                        cut.tear(*offset, bytes, if n == which { torn } else { others });
                    }
                    let found = recover(&cut, &layout, blocks);
                    assert!(
                        found.superblock == old.superblock || found.superblock == new.superblock
                    );
                    assert!(found.log == old.log || found.log == new.log);
                    check(&found, round, step);
                    cuts += 1;
                }
            }
        }
        area = done;
    }
    assert!(cuts > 10_000, "{cuts}");
}

#[test]
fn one_damaged_superblock_is_made_up_for_by_the_other() {
    let old = superblock(4).encode();
    let new = superblock(5).encode();
    assert_eq!(newest([&old, &new]).unwrap().sequence, 5);
    let mut damaged = new.clone();
    damaged[200] ^= 4;
    assert_eq!(newest([&old, &damaged]).unwrap().sequence, 4);
    assert_eq!(newest([&damaged, &damaged]), Err(Flaw::Damaged));
    assert_eq!(newest([&[7; 4096], &[0; 4096]]), Err(Flaw::Foreign));
    assert_eq!(newest([&[], &damaged[..100]]), Err(Flaw::Damaged));
}

#[test]
fn another_version_is_not_taken_for_damage_and_hides_no_older_copy() {
    let mut later = superblock(6).encode();
    later[12..16].copy_from_slice(&2u32.to_le_bytes());
    later[8..12].fill(0);
    let sum = crc32fast::hash(&later);
    later[8..12].copy_from_slice(&sum.to_le_bytes());
    let ours = superblock(5).encode();
    assert_eq!(newest([&later, &ours]), Err(Flaw::Version(2)));
    assert_eq!(newest([&ours, &later]), Err(Flaw::Version(2)));
}

#[test]
fn a_log_of_another_mirror_does_not_count() {
    let table = LogTable {
        sequence: 9,
        mirror: 1,
        extents: vec![1, 2, 3],
    };
    let bytes = table.encode();
    assert_eq!(newest_log([&bytes, &bytes], 2), None);
    assert_eq!(newest_log([&[], &bytes], 1), Some(table));
}

proptest! {
    #[test]
    fn superblocks_come_back_as_they_were(sequence in 0u64..1000) {
        let block = superblock(sequence);
        prop_assert_eq!(Superblock::decode(&block.encode()), Ok(block));
    }

    #[test]
    fn logs_come_back_as_they_were(extents in prop::collection::vec(any::<u32>(), 0..=LOG_EXTENTS)) {
        let table = LogTable { sequence: 1, mirror: 2, extents };
        prop_assert_eq!(LogTable::decode(&table.encode(), 2), Some(table));
    }

    #[test]
    fn garbage_is_refused_and_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        at in 12usize..4096,
        change in 1u8..,
        sealed in any::<bool>(),
    ) {
        for magic in [b"hpmirror", b"hplogtab", b"hpbm\0\0\0\0"] {
            let mut block = bytes.clone();
            block.splice(0..0, *magic);
            let _ = Superblock::decode(&block);
            prop_assert!(LogTable::decode(&block, 0).is_none());
            prop_assert!(decode_page(0, &block).is_none());
        }
        let mut block = superblock(9).encode();
        block[at] ^= change;
        if sealed {
            block[8..12].fill(0);
            let sum = crc32fast::hash(&block);
            block[8..12].copy_from_slice(&sum.to_le_bytes());
            let _ = Superblock::decode(&block);
        } else {
            prop_assert!(Superblock::decode(&block).is_err());
        }
    }
}
