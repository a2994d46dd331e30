//! The application, and what is checked when it is answered.

use super::*;

impl World {
    pub(super) fn app(&mut self) {
        if self.quiet_until > self.now || self.quiet_end {
            return;
        }
        for node in 0..2 {
            let host = &self.nodes[node];
            let Some(epoch) = host.open else {
                continue;
            };
            let leaving = host.kept.as_ref().is_some_and(|kept| kept.leaving);
            let under = self.ios.values().filter(|io| io.node == node).count();
            if host.gate != Some(epoch) || leaving || under >= self.plan.depth {
                continue;
            }
            self.ask(node, epoch);
        }
    }

    pub(super) fn place(&mut self) -> (usize, usize) {
        let spot = self.rng.below(self.spots.len() as u64);
        let block = self.spots[usize::try_from(spot).unwrap_or(0)];
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

    pub(super) fn ask(&mut self, node: usize, epoch: Epoch) {
        self.next_io += 1;
        let io = IoId(self.next_io);
        let (start, count) = self.place();
        let at = Transfer {
            offset: start as u64 * SECTOR,
            length: u32::try_from(count * 512).unwrap_or(512),
        };
        let dice = self.rng.below(100);
        let plan = &self.plan;
        let (reads, flushes, discards) = (plan.reads, plan.flushes, plan.discards);
        let (asked, event) = if dice < reads {
            let buffer = self.nodes[node].new_buffer(vec![u64::MAX; count]);
            let floors = self.ledger.begin_read(start, count);
            let exempt = self.exempt(node, epoch);
            (
                Asked::Read {
                    floors,
                    buffer,
                    exempt,
                },
                Event::Read { io, at, buffer },
            )
        } else if dice < reads + flushes {
            (Asked::Flush { since: self.now }, Event::Flush { io })
        } else if dice < reads + flushes + discards {
            let order = self.ledger.submit(self.now, start, count, true);
            let zero = self.rng.percent(50);
            (
                Asked::Write { order, fua: false },
                Event::Discard { io, at, zero },
            )
        } else {
            let order = self.ledger.submit(self.now, start, count, false);
            let buffer = self.nodes[node].new_buffer(vec![order; count]);
            let chance = self.plan.fua;
            let fua = self.rng.percent(chance);
            (
                Asked::Write { order, fua },
                Event::Write {
                    io,
                    at,
                    buffer,
                    fua,
                },
            )
        };
        self.ios.insert(
            io,
            Io {
                node,
                epoch,
                asked,
                begun: self.now,
            },
        );
        self.step(node, event);
    }

    /// Somebody else holds the mirror already, and nothing but the gate would stop this side's reads.
    pub(super) fn exempt(&self, node: usize, epoch: Epoch) -> bool {
        let newer = self.opens.last().is_some_and(|(newest, _)| *newest > epoch);
        newer || self.nodes[node].solo_since.is_some() && self.leader.document.epoch > epoch
    }

    pub(super) fn completed(&mut self, node: usize, id: IoId, result: Result<(), IoError>) {
        let Some(io) = self.ios.remove(&id) else {
            return self.violate("Completion", format!("{id:?} was completed twice"));
        };
        let gated = self.nodes[node].gate != Some(io.epoch);
        self.trace(|| {
            let what = match &io.asked {
                Asked::Write { order, .. } => self.ledger.describe(*order),
                Asked::Flush { since } => format!("flush since {since}"),
                Asked::Read { .. } => "read".into(),
            };
            format!("{node} completed {what}: {result:?} gated {gated}")
        });
        if result.is_err() || gated {
            self.stats.failed += 1;
            return;
        }
        let weak = self.nodes[node].solo_since.is_some()
            || matches!(self.plan.mode, MirrorMode::Asynchronous { .. });
        let solo = weak && self.exempt(node, io.epoch);
        if let Asked::Write { order, .. } = io.asked {
            self.check_acknowledged(node, order, io.begun);
        }
        match io.asked {
            Asked::Write { order, fua } => {
                self.stats.writes += 1;
                if !solo {
                    self.ledger.acknowledge(order, self.now, fua);
                }
            }
            Asked::Flush { since } => {
                self.stats.flushes += 1;
                if !solo {
                    self.ledger.flushed(since);
                }
            }
            Asked::Read {
                floors,
                buffer,
                exempt,
            } => {
                self.stats.reads += 1;
                let tags = self.nodes[node]
                    .buffers
                    .get(&buffer)
                    .cloned()
                    .unwrap_or_default();
                if exempt || self.exempt(node, io.epoch) {
                    return;
                }
                if let Err(what) = self.ledger.end_read(&floors, &tags, self.now) {
                    self.violate("Read", format!("on {node} in {}: {what}", io.epoch));
                }
            }
        }
    }

    /// Rule R2, looked at from outside: an acknowledged write is on every copy that counts as up to date for
    /// the side that acknowledged it, or that side's disk bears a mark that says otherwise.
    pub(super) fn check_acknowledged(&mut self, node: usize, order: u64, begun: u64) {
        let Some(committed) = &self.nodes[node].committed else {
            return self.violate("Acknowledge", "nothing is known to be committed");
        };
        let data = committed.data.clone();
        let mark = self.nodes[node].disk.mark(&self.nodes[node].found);
        let solo = mark.as_ref().is_some_and(|mark| mark.solo.is_some());
        let attached = self.nodes[node].attached;
        if data.alone == Some(committed.epoch)
            && data.is_up_to_date(member(node))
            && !data.is_up_to_date(member(1 - node))
            && attached
            && !solo
            && !matches!(self.plan.mode, MirrorMode::Asynchronous { .. })
        {
            let generation = mark.map(|mark| mark.generation);
            let joined = self.nodes[node]
                .report
                .as_ref()
                .is_some_and(|report| !report.connected.is_empty());
            let there = self.ledger.holds(order, &self.nodes[1 - node].disk.visible);
            if generation != Some(data.generation) && !joined && !there {
                let what = format!("{node} is alone, and its disk bears {generation:?}");
                self.violate("Mark", what);
            }
        }
        if self.plan.mode != MirrorMode::Synchronous || solo {
            return;
        }
        for copy in 0..2 {
            let host = &self.nodes[copy];
            let crashed = host.crashed_at.is_some_and(|at| at + ON_THE_WAY >= begun);
            let lost = copy == node && !host.attached || host.disk.broken || crashed;
            if data.is_up_to_date(member(copy))
                && !lost
                && !self.ledger.holds(order, &host.disk.visible)
            {
                let what = self.ledger.describe(order);
                self.violate(
                    "Acknowledge",
                    format!("{what} is not on {copy}, which is up to date"),
                );
            }
        }
    }

    /// A superblock is written.
    pub(super) fn check_mark(&mut self, node: usize, bytes: &[u8]) {
        let Ok(next) = Superblock::decode(bytes) else {
            return;
        };
        let host = &mut self.nodes[node];
        let before = host.disk.mark(&host.found);
        if next.consistent {
            host.snapshot &= before.is_some_and(|before| before.consistent);
            return;
        }
        let known = host.committed.as_ref();
        let given_up = known.is_some_and(|known| {
            let copy = known.data.copies.get(&member(node));
            matches!(copy, Some(Copy::GivenUp { .. }))
        });
        let own =
            before.is_some_and(|before| before.consistent && (before.solo.is_some() || given_up));
        if own && !host.snapshot {
            self.violate(
                "Diverged",
                format!("writes of {node} alone are overwritten without a snapshot"),
            );
        }
    }
}
