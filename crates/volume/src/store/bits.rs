//! A set of blocks in memory, in pages as on the disk; pages without or with all bits take no room.

use super::page::{PAGE_BITS, Page};

/// Blocks of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    pages: Vec<Page>,
    /// Blocks of the volume: those behind are never set.
    blocks: u64,
    count: u64,
}

impl Bits {
    /// None of `blocks`.
    #[must_use]
    pub fn new(blocks: u64) -> Self {
        let pages = usize::try_from(blocks.div_ceil(PAGE_BITS)).unwrap_or(0);
        Self {
            pages: vec![Page::Clear; pages],
            blocks,
            count: 0,
        }
    }

    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// How many are set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[must_use]
    pub fn pages(&self) -> u32 {
        u32::try_from(self.pages.len()).unwrap_or(u32::MAX)
    }

    #[must_use]
    pub fn page(&self, index: u32) -> &Page {
        &self.pages[index as usize]
    }

    /// Number of the page that `block` is in.
    #[must_use]
    pub fn page_of(block: u64) -> u32 {
        u32::try_from(block / PAGE_BITS).unwrap_or(u32::MAX)
    }

    /// More blocks, none of the new ones set.
    pub fn grow(&mut self, blocks: u64) {
        if blocks <= self.blocks {
            return;
        }
        // A full last page covers only the blocks there were.
        if let Some(last) = self.pages.last_mut() {
            let start = (self.blocks - 1) / PAGE_BITS * PAGE_BITS;
            if *last == Page::Full {
                let used = self.blocks - start;
                let words = last.words();
                for bit in used..PAGE_BITS {
                    words[(bit / 64) as usize] &= !(1 << (bit % 64));
                }
            }
        }
        let pages = usize::try_from(blocks.div_ceil(PAGE_BITS)).unwrap_or(self.pages.len());
        self.pages.resize(pages, Page::Clear);
        self.blocks = blocks;
    }

    /// Takes a page as it was found on the disk; `None`: damaged, all its blocks are set.
    pub fn load(&mut self, index: u32, page: Option<Page>) {
        self.clear_page(index);
        self.merge(index, &page.unwrap_or(Page::Full));
    }

    /// Sets what `page` has set.
    pub fn merge(&mut self, index: u32, page: &Page) {
        let start = u64::from(index) * PAGE_BITS;
        if start >= self.blocks {
            return;
        }
        match page {
            Page::Clear => {}
            Page::Full => {
                self.set(start, PAGE_BITS);
            }
            Page::Mixed(words) => {
                for (n, word) in words.iter().enumerate() {
                    let mut word = *word;
                    while word != 0 {
                        let bit = u64::from(word.trailing_zeros());
                        self.set(start + n as u64 * 64 + bit, 1);
                        word &= word - 1;
                    }
                }
            }
        }
    }

    fn clear_page(&mut self, index: u32) {
        let start = u64::from(index) * PAGE_BITS;
        self.clear(start, PAGE_BITS);
        if let Some(page) = self.pages.get_mut(index as usize) {
            *page = Page::Clear;
        }
    }

    /// Sets `length` blocks from `start`; whether any was not set before.
    pub fn set(&mut self, start: u64, length: u64) -> bool {
        self.change(start, length, true)
    }

    /// Clears them; whether any was set.
    pub fn clear(&mut self, start: u64, length: u64) -> bool {
        self.change(start, length, false)
    }

    pub fn clear_all(&mut self) {
        self.pages.fill(Page::Clear);
        self.count = 0;
    }

    pub fn set_all(&mut self) {
        self.pages.fill(Page::Full);
        self.count = self.blocks;
    }

    fn change(&mut self, start: u64, length: u64, set: bool) -> bool {
        let end = start.saturating_add(length).min(self.blocks);
        let before = self.count;
        let mut at = start;
        while at < end {
            let index = at / PAGE_BITS;
            let first = index * PAGE_BITS;
            let limit = (first + PAGE_BITS).min(self.blocks);
            let upto = end.min(limit);
            self.change_page(index, at - first..upto - first, limit - first, set);
            at = upto;
        }
        self.count != before
    }

    /// `used`: blocks of the volume in this page.
    fn change_page(&mut self, index: u64, range: std::ops::Range<u64>, used: u64, set: bool) {
        let Some(page) = usize::try_from(index)
            .ok()
            .and_then(|index| self.pages.get_mut(index))
        else {
            return;
        };
        let already = match page {
            Page::Clear => !set,
            Page::Full => set,
            Page::Mixed(_) => false,
        };
        if already {
            return;
        }
        if range == (0..used) {
            let had = match page {
                Page::Clear => 0,
                Page::Full => used,
                Page::Mixed(words) => words.iter().map(|word| u64::from(word.count_ones())).sum(),
            };
            *page = if set { Page::Full } else { Page::Clear };
            self.count = self.count - had + if set { used } else { 0 };
            return;
        }
        let full = *page == Page::Full;
        let words = page.words();
        // Bits behind the volume's end are not counted: they must not be there.
        if full {
            for bit in used..PAGE_BITS {
                words[(bit / 64) as usize] &= !(1 << (bit % 64));
            }
        }
        let mut at = range.start;
        while at < range.end {
            let word = &mut words[(at / 64) as usize];
            let upto = range.end.min((at / 64 + 1) * 64);
            let width = upto - at;
            let mask = (u64::MAX >> (64 - width)) << (at % 64);
            let had = u64::from((*word & mask).count_ones());
            if set {
                *word |= mask;
                self.count += width - had;
            } else {
                *word &= !mask;
                self.count -= had;
            }
            at = upto;
        }
    }

    #[must_use]
    pub fn get(&self, block: u64) -> bool {
        if block >= self.blocks {
            return false;
        }
        match &self.pages[(block / PAGE_BITS) as usize] {
            Page::Clear => false,
            Page::Full => true,
            Page::Mixed(words) => {
                let bit = block % PAGE_BITS;
                words[(bit / 64) as usize] >> (bit % 64) & 1 == 1
            }
        }
    }

    /// The first set block at or behind `from`.
    #[must_use]
    pub fn next(&self, from: u64) -> Option<u64> {
        let mut at = from;
        while at < self.blocks {
            let first = at / PAGE_BITS * PAGE_BITS;
            match &self.pages[(at / PAGE_BITS) as usize] {
                Page::Clear => {}
                Page::Full => return Some(at),
                Page::Mixed(words) => {
                    let bit = at - first;
                    let start = (bit / 64) as usize;
                    for (n, word) in words.iter().enumerate().skip(start) {
                        let word = if n == start {
                            *word & (u64::MAX << (bit % 64))
                        } else {
                            *word
                        };
                        if word != 0 {
                            let found = first + n as u64 * 64 + u64::from(word.trailing_zeros());
                            return (found < self.blocks).then_some(found);
                        }
                    }
                }
            }
            at = first + PAGE_BITS;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, u64),
        Clear(u64, u64),
        SetAll,
        ClearAll,
        Reload,
        Grow(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..3 * PAGE_BITS;
        let length = prop_oneof![0u64..200, 0..2 * PAGE_BITS];
        prop_oneof![
            6 => (at.clone(), length.clone()).prop_map(|(at, length)| Step::Set(at, length)),
            6 => (at, length).prop_map(|(at, length)| Step::Clear(at, length)),
            1 => Just(Step::SetAll),
            1 => Just(Step::ClearAll),
            1 => Just(Step::Reload),
            1 => (1u64..1000).prop_map(Step::Grow),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn bits_are_a_set_of_blocks(
            blocks in 1..2 * PAGE_BITS + 77,
            steps in prop::collection::vec(step(), 1..12),
        ) {
            let mut blocks = blocks;
            let mut bits = Bits::new(blocks);
            let mut model: BTreeSet<u64> = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Set(at, length) => {
                        bits.set(at, length);
                        model.extend((at..at + length).filter(|block| *block < blocks));
                    }
                    Step::Clear(at, length) => {
                        bits.clear(at, length);
                        model.retain(|block| !(at..at + length).contains(block));
                    }
                    Step::SetAll => {
                        bits.set_all();
                        model = (0..blocks).collect();
                    }
                    Step::ClearAll => {
                        bits.clear_all();
                        model.clear();
                    }
                    Step::Reload => {
                        let mut read = Bits::new(blocks);
                        for index in 0..bits.pages() {
                            let bytes = super::super::encode_page(index, bits.page(index));
                            read.load(index, super::super::decode_page(index, &bytes));
                        }
                        bits = read;
                    }
                    Step::Grow(by) => {
                        blocks += by;
                        bits.grow(blocks);
                    }
                }
                prop_assert_eq!(bits.count(), model.len() as u64);
                let mut at = 0;
                let mut seen = 0;
                while let Some(block) = bits.next(at) {
                    prop_assert!(model.contains(&block) && bits.get(block));
                    seen += 1;
                    at = block + 1;
                }
                prop_assert_eq!(seen, model.len());
            }
        }
    }

    #[test]
    fn a_damaged_page_counts_as_all_set() {
        let mut bits = Bits::new(PAGE_BITS + 10);
        let mut bytes = super::super::encode_page(1, bits.page(1));
        bytes[100] ^= 1;
        bits.load(1, super::super::decode_page(1, &bytes));
        assert_eq!(bits.count(), 10);
        assert_eq!(bits.next(0), Some(PAGE_BITS));
    }
}
