//! A volume that becomes larger: each side zeroes the new area of its own copy, durably, before its
//! superblock bears the new size; the device becomes larger when every copy that is written to has.

use super::event::{Effect, IoError, Outcome, Token};
use super::{Engine, Op, Place};
use crate::store::{
    BLOCK, BLOCK_LEN, Layout, LayoutError, LogTable, Page, Superblock, encode_page, layout,
};

/// Bytes of the bitmap written at once.
const PIECE_PAGES: u32 = 256;

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// Metadata moves to the new end of a disk that has grown. It is held still meanwhile.
    Quiet,
    MovePages(u32),
    MoveLogs,
    MoveMarks(u8),
    Zero,
    Pages,
    Mark,
}

#[derive(Debug, Default)]
pub(super) struct Grow {
    step: Step,
    target: Option<(u64, Layout)>,
    /// Why it does not go on; said once.
    refused: Option<String>,
}

impl Grow {
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.step, Step::Idle)
    }

    /// Nothing else may write metadata now.
    pub(super) fn holds_metadata(&self) -> bool {
        matches!(
            self.step,
            Step::Quiet | Step::MovePages(_) | Step::MoveLogs | Step::MoveMarks(_)
        )
    }

    pub(super) fn stop(&mut self) {
        self.step = Step::Idle;
        self.target = None;
    }
}

impl Engine {
    pub(super) fn settle_grow(&mut self) {
        self.grow_device();
        let size = self.orders.as_ref().map_or(0, |orders| orders.size);
        let Place::Attached(local) = &mut self.place else {
            return;
        };
        match self.grow.step {
            Step::Idle if size > local.durable.size => {}
            Step::Quiet if local.quiet() => {
                self.grow.step = Step::MovePages(0);
                return self.move_metadata();
            }
            Step::Mark if local.marked() => {
                let blocks = local.durable.size / BLOCK;
                local.grow(blocks);
                self.grow.stop();
                self.changed = true;
                return;
            }
            _ => return,
        }
        match layout(size, local.found.size, local.found.beside) {
            Ok(target) => self.begin_growing(size, target),
            Err(error) => self.refuse_growth(error.to_string()),
        }
    }

    fn refuse_growth(&mut self, why: String) {
        if self.grow.refused.as_ref() != Some(&why) {
            self.grow.refused = Some(why.clone());
            self.note(false, format!("the copy waits to grow: {why}"));
        }
    }

    fn begin_growing(&mut self, size: u64, target: Layout) {
        let Place::Attached(local) = &self.place else {
            return;
        };
        let old = local.durable.layout;
        let moves = !old.beside && target.superblocks != old.superblocks;
        if moves && target.bitmap < old.superblock(1) + BLOCK {
            let error = LayoutError::TooSmall {
                disk: local.found.size,
                size,
                needed: old.superblock(1) + BLOCK + u64::from(target.pages + 4) * BLOCK,
            };
            return self.refuse_growth(error.to_string());
        }
        self.grow.target = Some((size, target));
        self.changed = true;
        if moves {
            self.grow.step = Step::Quiet;
        } else {
            self.zero_new();
        }
    }

    fn grow_write(&mut self, offset: u64, bytes: Vec<u8>) {
        let token = Token(self.ops.insert(Op::Grow));
        self.out.push(Effect::MetaWrite {
            token,
            offset,
            bytes,
        });
    }

    /// The next write of moving: superblocks last.
    fn move_metadata(&mut self) {
        let (Some((_, target)), Place::Attached(local)) = (self.grow.target, &mut self.place)
        else {
            return;
        };
        match self.grow.step {
            Step::MovePages(from) if from < target.pages => {
                let upto = (from + PIECE_PAGES).min(target.pages);
                self.grow.step = Step::MovePages(upto);
                let bits = &local.bits;
                let page = |index: u32| {
                    if index < bits.pages() {
                        encode_page(index, bits.page(index))
                    } else {
                        encode_page(index, &Page::Clear)
                    }
                };
                let bytes = (from..upto).flat_map(page).collect();
                self.grow_write(target.page(from), bytes);
            }
            Step::MovePages(_) => {
                self.grow.step = Step::MoveLogs;
                // Both places: the table as it is.
                local.log.sequence += 1;
                let mut bytes = vec![0; 2 * BLOCK_LEN];
                for sequence in [local.log.sequence - 1, local.log.sequence] {
                    let table = LogTable {
                        sequence,
                        mirror: local.durable.mirror,
                        extents: local.log.extents(),
                    };
                    let at = usize::from(sequence & 1 == 1) * BLOCK_LEN;
                    bytes[at..at + BLOCK_LEN].copy_from_slice(&table.encode());
                }
                self.grow_write(target.log(0), bytes);
            }
            Step::MoveLogs | Step::MoveMarks(0) => {
                let first = matches!(self.grow.step, Step::MoveLogs);
                self.grow.step = Step::MoveMarks(u8::from(!first));
                let mark = Superblock {
                    sequence: local.durable.sequence + 1,
                    layout: target,
                    ..local.durable.clone()
                };
                local.durable = mark.clone();
                local.wanted.layout = target;
                self.grow_write(target.superblock(mark.sequence), mark.encode());
            }
            _ => self.zero_new(),
        }
    }

    fn zero_new(&mut self) {
        let (Some((size, _)), Place::Attached(local)) = (self.grow.target, &self.place) else {
            return;
        };
        self.grow.step = Step::Zero;
        let token = Token(self.ops.insert(Op::Grow));
        let offset = local.durable.size;
        self.out.push(Effect::Zero {
            token,
            offset,
            length: size - offset,
        });
    }

    pub(super) fn on_grow_done(&mut self, result: Result<Outcome, IoError>) {
        self.changed = true;
        let (Some((size, target)), Place::Attached(local)) = (self.grow.target, &mut self.place)
        else {
            return;
        };
        if let Err(error) = result {
            let why = super::attach::words(error);
            return self.fail_local(format!("growing the copy failed: {why}"));
        }
        match self.grow.step {
            Step::Zero => {
                self.grow.step = Step::Pages;
                let pages = local.durable.layout.pages;
                if target.pages > pages {
                    let bytes = (pages..target.pages)
                        .flat_map(|index| encode_page(index, &Page::Clear))
                        .collect();
                    self.grow_write(target.page(pages), bytes);
                } else {
                    self.mark_size(size, target);
                }
            }
            Step::Pages => self.mark_size(size, target),
            _ => self.move_metadata(),
        }
    }

    fn mark_size(&mut self, size: u64, target: Layout) {
        if let Place::Attached(local) = &mut self.place {
            self.grow.step = Step::Mark;
            local.wanted.size = size;
            local.wanted.layout = target;
        }
    }

    /// The device follows when every copy that is written to has grown.
    fn grow_device(&mut self) {
        if !matches!(self.role, super::Role::Open { .. }) || self.grow.is_busy() {
            return;
        }
        let Some(size) = self.local().map(|local| local.durable.size) else {
            return;
        };
        if size <= self.requests.size {
            return;
        }
        let theirs = self
            .peer
            .hello
            .as_ref()
            .and_then(|hello| hello.disk.as_ref());
        let ready = theirs.is_some_and(|disk| disk.size >= size);
        let matters = self.peer.phase != super::peer::Phase::Apart
            || self
                .other()
                .is_some_and(|other| self.data().is_some_and(|data| data.is_up_to_date(other)));
        if ready || !matters {
            self.requests.size = size;
            self.changed = true;
            self.out.push(Effect::Resized { size });
        }
    }
}
