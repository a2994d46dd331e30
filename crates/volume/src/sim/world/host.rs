//! The processes, and the drivers around them.

use super::*;

impl World {
    pub(super) fn start(&mut self, node: usize) {
        if !self.nodes[node].disk.idle() {
            // What the earlier process has begun ends first.
            let power = self.nodes[node].power;
            self.after(500, Ev::Restart { node, power });
            return;
        }
        let (through, log) = (self.plan.through_peer, self.plan.log_extents);
        self.nodes[node].start(through, log);
        self.orders(node);
        self.tell_disk(node);
    }

    pub(super) fn tell_disk(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        if host.engine.is_some() && !host.attached && host.works.is_empty() && !host.disk.broken {
            host.attached = true;
            let found = host.found.clone();
            self.step(node, Event::Disk(found));
        }
    }

    pub(super) fn step(&mut self, node: usize, event: Event) {
        let now = self.now;
        let host = &mut self.nodes[node];
        let Some(engine) = &mut host.engine else {
            return;
        };
        if host.paused_until > now {
            host.pending.push_back(event);
            return;
        }
        if self.options.trace {
            match &event {
                Event::Done { .. } | Event::Tick => {}
                Event::Received { message, .. } => {
                    eprintln!("{now:>9} {node} <- {:?}", message.body);
                }
                Event::Orders(orders) => eprintln!(
                    "{now:>9} {node} <- orders {} {:?} {} committed {:?}",
                    orders.version,
                    orders.holder,
                    orders.epoch,
                    orders.committed.as_ref().map(|c| (c.epoch, &c.data))
                ),
                other => eprintln!("{now:>9} {node} <- {other:?}"),
            }
        }
        let mut effects = Vec::new();
        engine.step(Moment(now), event, &mut effects);
        for effect in &effects {
            // Whether it goes on under its own mark matters to what it completes.
            if let Effect::Report(report) = effect {
                self.mark_solo(node, &report.disk);
            }
        }
        for effect in effects {
            self.carry_out(node, effect);
        }
        self.set_timer(node);
    }

    pub(super) fn set_timer(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        let Some(due) = host.engine.as_ref().and_then(|engine| engine.deadline()) else {
            return;
        };
        let at = due.0.max(self.now);
        if host.timer.is_some_and(|timer| timer <= at) {
            return;
        }
        host.timer = Some(at);
        let life = host.life;
        let delay = at - self.now;
        self.after(delay, Ev::Timer { node, life });
    }

    pub(super) fn tick(&mut self, node: usize) {
        if self.nodes[node].paused_until > self.now {
            let life = self.nodes[node].life;
            let delay = self.nodes[node].paused_until - self.now;
            self.nodes[node].timer = Some(self.now + delay);
            self.after(delay, Ev::Timer { node, life });
            return;
        }
        let due = |host: &Node| host.engine.as_ref().and_then(|engine| engine.deadline());
        if due(&self.nodes[node]).is_some_and(|due| due.0 <= self.now) {
            if self.at_same.0 == self.now {
                self.at_same.1 += 1;
                if self.at_same.1 > 50 {
                    self.violate("Bounded", "the engine asks for a tick without end");
                }
            } else {
                self.at_same = (self.now, 0);
            }
            self.step(node, Event::Tick);
        }
        self.set_timer(node);
    }

    pub(super) fn resume(&mut self, node: usize) {
        if self.nodes[node].paused_until > self.now {
            return;
        }
        while let Some(event) = self.nodes[node].pending.pop_front() {
            self.step(node, event);
        }
    }

    pub(super) fn carry_out(&mut self, node: usize, effect: Effect) {
        match &effect {
            Effect::MetaWrite { bytes, .. } => {
                self.check_mark(node, bytes);
                self.stats.marks += 1;
            }
            Effect::Snapshot { .. } => self.nodes[node].snapshot = true,
            _ => {}
        }
        if let Some((work, takes)) = self.nodes[node].begin(&effect) {
            let number = self.stats.marks;
            if let Some((write, sectors)) = self.options.cut
                && matches!(effect, Effect::MetaWrite { .. })
                && number == write
            {
                let power = self.nodes[node].power;
                self.nodes[node].disk.tear(work, sectors);
                self.after(1, Ev::Cut { node, power });
            }
            if self.options.trace {
                match &effect {
                    Effect::Write { at, .. } | Effect::Discard { at, .. } => {
                        let watched = self.options.watch.is_some_and(|sector| {
                            let byte = sector as u64 * SECTOR;
                            at.offset <= byte && byte < at.end()
                        });
                        let mark = if watched { "WATCHED" } else { "" };
                        eprintln!("{:>9} {node} disk write {at:?} {mark}", self.now);
                    }
                    Effect::MetaWrite { offset, .. } => {
                        eprintln!("{:>9} {node} meta write {offset}", self.now);
                    }
                    _ => {}
                }
            }
            let slow = if self.nodes[node].slow_until > self.now {
                30
            } else if self.rng.percent(3) {
                10
            } else {
                1
            };
            let takes = self.rng.range(takes / 2, takes * 2) * slow;
            let (power, life) = (self.nodes[node].power, self.nodes[node].life);
            self.after(
                takes,
                Ev::Finish {
                    node,
                    power,
                    life,
                    work,
                },
            );
            return;
        }
        match effect {
            Effect::Copy { from, to } => {
                let tags = self.nodes[node].part(from);
                if let Some(buffer) = self.nodes[node].buffers.get_mut(&to) {
                    let count = tags.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&tags[..count]);
                }
            }
            Effect::Send {
                session,
                message,
                payload,
            } => self.send(node, session.0, message, payload),
            Effect::Drop { session, why } => {
                self.trace(|| format!("{node} drops the session: {why}"));
                self.close_conn(session.0);
            }
            Effect::Complete { io, result } => self.completed(node, io, result),
            Effect::Release { buffer } => {
                let there = self.nodes[node].buffers.remove(&buffer).is_some();
                if !there {
                    self.violate("Buffers", format!("{buffer:?} is released, but not there"));
                }
            }
            Effect::Opened { ticket, result } => self.opened(node, ticket, result),
            Effect::Closed { ticket, result } => {
                self.trace(|| format!("{node} closed: {result:?}"));
                if self.nodes[node].ticket != Some(ticket.0) {
                    return self.violate("Tickets", "a close was answered that nobody waits for");
                }
                self.nodes[node].ticket = None;
                self.nodes[node].open = None;
            }
            Effect::Ended { why } => {
                self.trace(|| format!("{node} ended: {why}"));
                self.nodes[node].open = None;
                self.nodes[node].wait_until = self.now + 2000;
            }
            Effect::Resized { size } => {
                self.trace(|| format!("{node} resized to {size}"));
                self.sectors = size / SECTOR;
            }
            Effect::Report(report) => {
                self.trace(|| format!("{node} reports {report:?}"));
                self.cut_at_complete(node, &report);
                self.nodes[node].report = Some(*report);
            }
            Effect::Note { error, text } => {
                self.trace(|| format!("{node} note {error}: {text}"));
                if text.starts_with("resynchronisation begins") {
                    self.stats.resyncs += 1;
                }
                if text.starts_with("the local disk of the mirror failed") {
                    self.stats.detached += 1;
                    // What was in its memory is lost, as with the process.
                    self.nodes[node].killed_at = Some(self.now);
                }
                if text.starts_with("verification has ended") {
                    self.stats.verifications += 1;
                    if error && !matches!(self.plan.mode, MirrorMode::Asynchronous { .. }) {
                        self.violate("Verify", text);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn mark_solo(&mut self, node: usize, disk: &DiskReport) {
        let solo = matches!(disk, DiskReport::Attached { solo: Some(_), .. });
        let host = &mut self.nodes[node];
        if solo {
            if host.solo_since.is_none() {
                self.stats.solos += 1;
                host.solo_since = Some(self.now);
            }
        } else if matches!(disk, DiskReport::Attached { .. }) {
            host.solo_since = None;
        }
    }

    pub(super) fn opened(&mut self, node: usize, ticket: Ticket, result: Result<u64, String>) {
        self.trace(|| format!("{node} opened: {result:?}"));
        if self.nodes[node].ticket != Some(ticket.0) {
            return self.violate("Tickets", "an open was answered that nobody waits for");
        }
        self.nodes[node].ticket = None;
        if result.is_err() {
            self.nodes[node].wait_until = self.now + 5000;
            return;
        }
        let epoch = self.nodes[node].opening;
        self.stats.opens += 1;
        let newest = self.opens.last().map(|(epoch, _)| *epoch);
        let gate = self.nodes[node].gate == Some(epoch);
        if newest.is_some_and(|newest| newest > epoch) && gate && !self.plan.gate_broken {
            return self.violate(
                "Epoch",
                format!("{node} opened in {epoch} after {newest:?}"),
            );
        }
        self.check_open(node, epoch);
        if !gate {
            // Closed meanwhile: the engine will be told, and nothing passes until then.
            return;
        }
        self.nodes[node].open = Some(epoch);
        if std::mem::take(&mut self.given_up) {
            self.ledger.forgive(0);
        }
        let other = self.opens.last().is_some_and(|(_, last)| *last != node);
        let host = &self.nodes[node];
        let crash = match self.plan.mode {
            MirrorMode::Memory => host.crashed_at.max(host.killed_at),
            _ => host.crashed_at,
        };
        if other && let Some(since) = self.nodes[1 - node].solo_since {
            self.ledger.forgive(since);
        }
        if other && matches!(self.plan.mode, MirrorMode::Asynchronous { .. }) {
            self.ledger.forgive(0);
        }
        self.ledger.reopen(crash);
        self.opens.push((epoch, node));
        let _ = result.map(|size| self.sectors = size / SECTOR);
    }

    /// Never opened on a copy that is not up to date.
    pub(super) fn check_open(&mut self, node: usize, epoch: Epoch) {
        let document = &self.leader.document;
        let present = document.epoch == epoch && document.holder == Some(member(node));
        if present && !document.data.is_up_to_date(member(node)) {
            self.violate(
                "UpToDate",
                format!(
                    "{node} opened in {epoch} with {:?}",
                    self.leader.document.data
                ),
            );
        }
    }
}
