//! What the application does on the device, and what is checked when it is answered.

use super::{Happening, Mirrored};
use crate::check::Rule;
use crate::cluster::member;
use crate::host::PartState;
use crate::world::World;
use hotpair_core::ids::Epoch;
use hotpair_core::mirror::Copy;
use hotpair_volume::engine::{BufferId, Event, IoError, IoId, Transfer};
use hotpair_volume::sim::disk::SECTOR;
use hotpair_volume::sim::ledger::Floors;
use hotpair_volume::store::Superblock;

/// A host that lost its power so shortly after may not have what it answered for.
const ON_THE_WAY_US: u64 = 2_100_000;

pub(super) struct Io {
    pub side: usize,
    epoch: Epoch,
    asked: Asked,
    begun: u64,
}

enum Asked {
    Read { floors: Floors, buffer: BufferId },
    Write { order: u64, fua: bool },
    Flush { since: u64 },
}

impl Mirrored {
    fn place(&mut self) -> (usize, usize) {
        let block = self.spots[self.rng.index(self.spots.len())];
        let (start, count) = if self.rng.percent(60) {
            (block * 8, 8 * self.rng.range(1, 3))
        } else {
            (block * 8 + self.rng.below(8), self.rng.range(1, 20))
        };
        let start = start.min(self.sectors - 1);
        let count = count.min(self.sectors - start);
        (
            usize::try_from(start).unwrap_or(0),
            usize::try_from(count).unwrap_or(1),
        )
    }

    /// Somebody else has opened the mirror since.
    fn newer(&self, epoch: Epoch) -> bool {
        self.opens.last().is_some_and(|(newest, _)| *newest > epoch)
    }
}

impl World {
    pub(super) fn mirror_application(&mut self) {
        let now = self.now_us;
        for side in 0..2 {
            self.look_at_gate(side);
            let up = self.mirror_part_state(side) == PartState::Up;
            let Some(mirror) = &self.mirror else { return };
            let it = &mirror.sides[side];
            let under = mirror.ios.values().filter(|io| io.side == side).count();
            let host = &self.hosts[it.host];
            let may = up && !it.shut && !it.closing && host.paused_until <= now;
            if let Some(epoch) = it.node.open
                && may
                && under < mirror.load.depth
                && mirror.quiet_until <= now
            {
                self.mirror_request(side, epoch);
            }
        }
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let gap = mirror.rng.range(500, mirror.load.gap_us);
        self.mirror_in(gap, Happening::Application);
    }

    fn mirror_request(&mut self, side: usize, epoch: Epoch) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        mirror.next_io += 1;
        let io = IoId(mirror.next_io);
        let (start, count) = mirror.place();
        let at = Transfer {
            offset: start as u64 * SECTOR,
            length: u32::try_from(count * 512).unwrap_or(512),
        };
        let dice = mirror.rng.below(100);
        let load = mirror.load;
        let (asked, event) = if dice < load.reads {
            let buffer = mirror.sides[side].node.new_buffer(vec![u64::MAX; count]);
            let floors = mirror.ledger.begin_read(start, count);
            let asked = Asked::Read { floors, buffer };
            (asked, Event::Read { io, at, buffer })
        } else if dice < load.reads + load.flushes {
            (Asked::Flush { since: now }, Event::Flush { io })
        } else if dice < load.reads + load.flushes + load.discards {
            let order = mirror.ledger.submit(now, start, count, true);
            let zero = mirror.rng.percent(50);
            let asked = Asked::Write { order, fua: false };
            (asked, Event::Discard { io, at, zero })
        } else {
            let order = mirror.ledger.submit(now, start, count, false);
            let buffer = mirror.sides[side].node.new_buffer(vec![order; count]);
            let fua = mirror.rng.percent(load.fua);
            let event = Event::Write {
                io,
                at,
                buffer,
                fua,
            };
            (Asked::Write { order, fua }, event)
        };
        let begun = now;
        let request = Io {
            side,
            epoch,
            asked,
            begun,
        };
        mirror.ios.insert(io, request);
        self.step_mirror(side, event);
    }

    pub(super) fn mirror_completed(&mut self, side: usize, id: IoId, result: Result<(), IoError>) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let Some(io) = mirror.ios.remove(&id) else {
            return self.violated(Rule::ActionsEnd, format!("{id:?} was completed twice"));
        };
        let it = &mirror.sides[side];
        let passes = self.hosts[it.host].passes(&mirror.group, now) && !it.shut;
        if result.is_err() || !passes {
            return;
        }
        if let Asked::Write { order, .. } = io.asked {
            self.check_acknowledged(side, order, io.begun);
        }
        let excused = self.excused(side);
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        match io.asked {
            Asked::Write { order, fua } => {
                mirror.counts.writes += 1;
                mirror.ledger.acknowledge(order, now, fua);
            }
            Asked::Flush { since } => mirror.ledger.flushed(since),
            Asked::Read { floors, buffer } => {
                mirror.counts.reads += 1;
                let tags = mirror.sides[side].node.buffers.get(&buffer).cloned();
                // Only the gate would stop the reads of a side that was deposed; not while clocks stand.
                if mirror.newer(io.epoch) && excused {
                    return;
                }
                let read = mirror
                    .ledger
                    .end_read(&floors, &tags.unwrap_or_default(), now);
                if let Err(what) = read {
                    let host = mirror.sides[side].host;
                    let text = format!("m{} in epoch {}: {what}", host + 1, io.epoch);
                    self.violated(Rule::MirrorData, text);
                }
            }
        }
    }

    /// Its clocks stood still: its gate may be open for too long.
    fn excused(&self, side: usize) -> bool {
        let Some(mirror) = &self.mirror else {
            return false;
        };
        let host = &self.hosts[mirror.sides[side].host];
        host.excused_until > self.now_us || host.clocks.stopped()
    }

    /// Rule R2, looked at from outside: an acknowledged write is on every copy that counts as up to date for
    /// the side that acknowledged it, unless it goes on under its own mark.
    fn check_acknowledged(&mut self, side: usize, order: u64, begun: u64) {
        let Some(mirror) = &self.mirror else { return };
        let it = &mirror.sides[side];
        let committed = it.orders.as_ref().and_then(|it| it.committed.as_ref());
        let Some(committed) = committed else {
            let text = "a write is acknowledged while nothing is known to be committed";
            return self.violated(Rule::MirrorRecorded, text.into());
        };
        if it.node.solo_since.is_some() {
            return;
        }
        for (index, copy) in mirror.sides.iter().enumerate() {
            let node = &copy.node;
            let crashed = node
                .crashed_at
                .is_some_and(|at| at + ON_THE_WAY_US >= begun);
            let lost = index == side && !node.attached || node.disk.broken || crashed;
            if committed.data.is_up_to_date(member(copy.host))
                && !lost
                && !mirror.ledger.holds(order, &node.disk.visible)
            {
                let what = mirror.ledger.describe(order);
                let text = format!("{what} is not on m{}, which is up to date", copy.host + 1);
                return self.violated(Rule::MirrorRecorded, text);
            }
        }
    }

    /// The device was opened: what may have been lost since, and by whose word.
    pub(super) fn opened_by(&mut self, side: usize) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mirror.sides[side];
        let epoch = it.node.opening;
        mirror.counts.opens += 1;
        if let Some((newest, other)) = mirror.opens.last().copied()
            && (newest > epoch || newest == epoch && other != side)
        {
            let text = format!(
                "m{} opened in epoch {epoch}, after m{} in epoch {newest}",
                it.host + 1,
                mirror.sides[other].host + 1
            );
            return self.violated(Rule::MirrorPromoted, text);
        }
        if std::mem::take(&mut mirror.given_up) {
            mirror.counts.given_up += 1;
            mirror.ledger.forgive(0);
        }
        let other = &mirror.sides[1 - side];
        let last = mirror.opens.last().is_some_and(|(_, last)| *last != side);
        if last
            && let Some(since) = other.node.solo_since
            && other.given_up_at.is_some_and(|at| at >= since)
        {
            mirror.counts.given_up += 1;
            mirror.ledger.forgive(since);
        }
        mirror.ledger.reopen(mirror.sides[side].node.crashed_at);
        mirror.opens.push((epoch, side));
    }

    /// Writes of its own are not overwritten before they are kept.
    pub(super) fn check_mark(&mut self, side: usize, bytes: &[u8]) {
        let Ok(next) = Superblock::decode(bytes) else {
            return;
        };
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        let me = it.member();
        let before = it.node.disk.mark(&it.node.found);
        if next.consistent {
            it.node.snapshot &= before.is_some_and(|before| before.consistent);
            return;
        }
        let known = it.orders.as_ref().and_then(|it| it.committed.as_ref());
        let given_up = known
            .is_some_and(|known| matches!(known.data.copies.get(&me), Some(Copy::GivenUp { .. })));
        let own = before.is_some_and(|before| {
            before.consistent && (before.solo.is_some() && before.written || given_up)
        });
        if own && !it.node.snapshot {
            let text = format!(
                "writes of m{} alone are overwritten without a snapshot",
                it.host + 1
            );
            self.violated(Rule::MirrorKept, text);
        }
    }

    /// A copy is overwritten out of order only once its disk says that it is inconsistent.
    pub(super) fn check_overwritten(&mut self, side: usize) {
        let Some(mirror) = &self.mirror else { return };
        let it = &mirror.sides[side];
        let mark = it.node.disk.mark(&it.node.found);
        if mark.is_some_and(|mark| mark.consistent) {
            let text = format!("m{} is overwritten without a mark", it.host + 1);
            self.violated(Rule::MirrorKept, text);
        }
    }

    /// Nothing is asked of the device any more.
    pub(crate) fn quieten_mirror(&mut self) {
        if let Some(mirror) = &mut self.mirror {
            mirror.quiet_until = u64::MAX;
        }
    }

    /// Everything asked has been answered and has come to the disks.
    #[must_use]
    pub(crate) fn mirror_is_idle(&self) -> bool {
        self.mirror.as_ref().is_none_or(|mirror| {
            mirror.ios.is_empty() && mirror.sides.iter().all(|side| side.node.works.is_empty())
        })
    }

    /// Both copies that are up to date are equal, and have everything.
    pub(crate) fn compare_mirror(&mut self) {
        let Some(mirror) = &self.mirror else { return };
        let Some(data) = self.mirror_data() else {
            return;
        };
        let sectors = usize::try_from(mirror.sectors).unwrap_or(0);
        let good: Vec<usize> = (0..2)
            .filter(|&side| data.is_up_to_date(mirror.sides[side].member()))
            .collect();
        // Of a copy that was kept, and not opened since, nothing is known.
        for &side in good.iter().filter(|_| !mirror.given_up) {
            let it = &mirror.sides[side];
            if let Err(what) = mirror.ledger.check_all(&it.node.disk.visible[..sectors]) {
                let text = format!("at the end on m{}: {what}", it.host + 1);
                return self.violated(Rule::MirrorData, text);
            }
        }
        let [one, two] = [0, 1].map(|side| &mirror.sides[side].node.disk.visible);
        if good.len() == 2
            && let Some(place) = (0..sectors).find(|&place| one[place] != two[place])
        {
            let text = format!(
                "at the end sector {place} is {:x} on one copy and {:x} on the other",
                one[place], two[place]
            );
            self.violated(Rule::MirrorData, text);
        }
    }
}
