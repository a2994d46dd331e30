//! Disturbances.

use super::*;

impl World {
    pub(super) fn power_on(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        if host.on {
            return;
        }
        host.on = true;
        host.boot += 1;
        host.committed = None;
        self.start(node);
    }

    pub(super) fn end_process(&mut self, node: usize) {
        self.nodes[node].end();
        self.ios.retain(|_, io| io.node != node);
    }

    pub(super) fn power_off(&mut self, node: usize) {
        if !self.nodes[node].on {
            return;
        }
        self.stats.crashes += 1;
        self.end_process(node);
        let host = &mut self.nodes[node];
        host.on = false;
        host.power += 1;
        host.works.clear();
        host.gate = None;
        host.gate_told = true;
        host.crashed_at = Some(self.now);
        host.disk.crash(&mut self.rng);
        if let Some(sector) = self.options.watch {
            let tag = self.nodes[node].disk.visible[sector];
            self.trace(|| format!("{node} after the crash sector {sector} is {tag:x}"));
        }
        self.link.alive = false;
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::PowerCut { node, back } => {
                self.power_off(node);
                self.after(back, Ev::PowerOn { node });
            }
            Trouble::BothCut { back } => {
                for (node, back) in back.into_iter().enumerate() {
                    self.power_off(node);
                    self.after(back, Ev::PowerOn { node });
                }
            }
            Trouble::Kill { node } => {
                if self.nodes[node].engine.is_some() {
                    let conn = self.link.conn;
                    self.end_process(node);
                    self.nodes[node].killed_at = Some(self.now);
                    self.nodes[node].gate_told = true;
                    self.close_conn(conn);
                    let power = self.nodes[node].power;
                    let delay = self.rng.range(500, 30_000);
                    self.after(delay, Ev::Restart { node, power });
                }
            }
            Trouble::Pause { node, length } => {
                self.nodes[node].paused_until = self.now + length;
                self.after(length, Ev::Resume { node });
            }
            Trouble::Break { length } => {
                self.link.broken_until = self.now + length;
                let conn = self.link.conn;
                self.close_conn(conn);
            }
            Trouble::Stall { from, length } => {
                self.link.stalled_until[from] = self.now + length;
            }
            Trouble::StallBoth { length } => {
                self.link.stalled_until = [self.now + length; 2];
            }
            Trouble::Cut { node, length } => self.cut_until[node] = self.now + length,
            Trouble::Isolate { node, length } => {
                self.cut_until[node] = self.now + length;
                self.link.stalled_until = [self.now + length; 2];
            }
            Trouble::BadDisk { node, length } => {
                self.nodes[node].disk.broken = true;
                self.after(length, Ev::Heal(trouble));
            }
            Trouble::FullDisk { node, length } => {
                self.nodes[node].disk.full = true;
                self.after(length, Ev::Heal(trouble));
            }
            Trouble::SlowDisk { node, length } => {
                self.nodes[node].slow_until = self.now + length;
            }
            Trouble::AtComplete { length } => self.at_complete = Some(length),
            Trouble::Quiet { length } => self.quiet_until = self.now + length,
            _ => self.operate(trouble),
        }
    }

    pub(super) fn heal(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::BadDisk { node, .. } => self.nodes[node].disk.broken = false,
            Trouble::FullDisk { node, .. } => {
                self.nodes[node].disk.full = false;
                let failed = self.nodes[node]
                    .report
                    .as_ref()
                    .is_some_and(|report| matches!(report.disk, DiskReport::Failed(_)));
                if failed {
                    self.nodes[node].attached = false;
                }
            }
            _ => {}
        }
    }

    /// What the cluster or its operator does.
    pub(super) fn operate(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::NoLeader { length } => self.leader_until = self.now + length,
            Trouble::Save { node } => {
                let mut copy = self.nodes[node].disk.clone();
                copy.crash(&mut self.rng);
                self.nodes[node].saved = Some(Box::new(copy));
            }
            Trouble::Restore { node } => self.restore(node),
            Trouble::Verify => {
                for node in 0..2 {
                    if self.nodes[node].open.is_some() {
                        let repair = self.rng.percent(50);
                        self.step(node, Event::Command(Command::Verify { repair }));
                    }
                }
            }
            _ if self.proposed || self.leader.document.holder.is_none() => {
                let delay = self.rng.range(500, 3000);
                if self.now < self.ends {
                    self.after(delay, Ev::Trouble(trouble));
                }
            }
            Trouble::Switch => {
                let mut document = self.leader.document.clone();
                document.leaving = true;
                document.version.index += 1;
                self.propose(document);
            }
            Trouble::Pin { pinned } => {
                let mut document = self.leader.document.clone();
                let solo = self.nodes.iter().any(|host| host.solo_since.is_some());
                if pinned || !solo {
                    document.pinned = pinned;
                    document.version.index += 1;
                    self.propose(document);
                }
            }
            Trouble::Abandoned { node } => self.abandon(node),
            Trouble::Force => self.force(),
            Trouble::Grow => self.grow(),
            Trouble::Keep => self.keep_other(),
            _ => {}
        }
    }

    /// A document that one node keeps, and that is never committed: the next leader did not have it.
    pub(super) fn abandon(&mut self, node: usize) {
        let to = if self.rng.percent(70) { 1 - node } else { node };
        let lost = self.leader.pass_on(Some(member(to)), false);
        if self.online(node) {
            self.keep(node, lost);
        }
        let mut next = self.leader.document.clone();
        next.version = Version::new(next.version.term.0 + 1, next.version.index + 1);
        self.propose(next);
    }

    /// The operator says that the holder is down; if it is not, there is split-brain.
    pub(super) fn force(&mut self) {
        let Some(holder) = self.leader.document.holder.map(index) else {
            return;
        };
        let other = 1 - holder;
        if self.online(other) && !self.online(holder) && self.leader.fit(member(other)) {
            let mut document = self.leader.pass_on(Some(member(other)), false);
            document.pinned = false;
            self.told = None;
            self.propose(document);
        }
    }

    /// The holder has said that the peer's copy is complete; nothing more of it is heard.
    pub(super) fn cut_at_complete(&mut self, node: usize, report: &MirrorReport) {
        let data = &self.leader.document.data;
        let new = (report.complete.iter()).any(|copy| !data.is_up_to_date(*copy));
        if !new || report.serial != data.serial {
            return;
        }
        let Some(length) = self.at_complete.take() else {
            return;
        };
        let known = Known {
            report: report.clone(),
        };
        self.leader.known.insert(member(node), known);
        self.cut_until[node] = self.now + length;
        self.link.broken_until = self.now + length;
        let conn = self.link.conn;
        self.close_conn(conn);
    }

    pub(super) fn keep_other(&mut self) {
        let Some(holder) = self.leader.document.holder.map(index) else {
            return;
        };
        let other = 1 - holder;
        if self.nodes[holder].on || !self.online(other) || self.leader.fit(member(other)) {
            return;
        }
        if let Some(document) = self.leader.keep(member(other)) {
            self.told = None;
            self.given_up = true;
            self.propose(document);
        }
    }

    /// An older state that its generation gives away, while the other copy is good.
    pub(super) fn restore(&mut self, node: usize) {
        let data = &self.leader.document.data;
        let Some(saved) = self.nodes[node].saved.take() else {
            return;
        };
        let mark = |host: &Node| host.disk.mark(&host.found);
        let other = &self.nodes[1 - node];
        let (Some(theirs), Some(ours)) = (mark(other), saved.mark(&self.nodes[node].found)) else {
            return;
        };
        let known = [
            data.generation,
            theirs.generation,
            theirs.base,
            theirs.resync_base,
        ];
        let told = known.contains(&ours.generation)
            || known.contains(&ours.resync_base)
            || data.ancestors.last() == Some(&ours.generation);
        let good = data.copies.values().all(|copy| *copy == Copy::UpToDate);
        if told || !good || !other.on || ours.size != theirs.size {
            return;
        }
        self.power_off(node);
        self.nodes[node].disk = *saved;
        self.after(20_000, Ev::PowerOn { node });
    }

    pub(super) fn grow(&mut self) {
        if self.grown >= 2
            || !matches!(
                self.leader.document.data.copies.get(&member(0)),
                Some(Copy::UpToDate)
            )
        {
            return;
        }
        self.grown += 1;
        let mut document = self.leader.document.clone();
        let more = self.rng.range(64, 1024) * 4096;
        document.size += more;
        document.version.index += 1;
        let sectors = usize::try_from(document.size / SECTOR).unwrap_or(0);
        self.ledger.grow(sectors);
        for node in 0..2 {
            let host = &mut self.nodes[node];
            let was = host.found.size;
            host.found.earlier.insert(0, was);
            host.found.size = was + more + 1024 * 1024;
            host.disk.grow(sectors, |n| GARBAGE | n as u64);
            let found = host.found.clone();
            if host.attached {
                self.step(node, Event::Disk(found));
            }
        }
        self.propose(document);
    }
}
