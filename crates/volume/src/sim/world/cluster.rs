//! The cluster around the two: documents and how they spread, leases, gates, the executor.

use super::*;

impl World {
    pub(super) fn online(&self, node: usize) -> bool {
        self.nodes[node].on && self.cut_until[node] <= self.now
    }

    pub(super) fn lead(&mut self) {
        for node in 0..2 {
            if !self.online(node) {
                continue;
            }
            self.nodes[node].lease_until = self.now + LEASE;
            if self.rng.percent(70)
                && let Some(report) = &self.nodes[node].report
            {
                let known = Known {
                    report: report.clone(),
                };
                self.leader.known.insert(member(node), known);
            }
            if self.rng.percent(70) {
                self.bring_up_to_date(node);
            }
        }
        if self.proposed || self.leader_until > self.now || (0..2).all(|node| !self.online(node)) {
            return;
        }
        if let Some(document) = self.next_document() {
            self.propose(document);
        }
    }

    /// The leader repeats what a node does not have.
    pub(super) fn bring_up_to_date(&mut self, node: usize) {
        let newest = self.leader.document.clone();
        let version = |document: &Option<Document>| document.as_ref().map(|d| d.version);
        if version(&self.nodes[node].kept) < Some(newest.version) {
            let delay = self.rng.range(50, 1500);
            let document = Box::new(newest);
            self.after(delay, Ev::Keep { node, document });
        } else if version(&self.nodes[node].committed) < Some(newest.version) {
            let delay = self.rng.range(50, 1500);
            let document = Box::new(newest);
            self.after(delay, Ev::Learn { node, document });
        }
    }

    pub(super) fn next_document(&mut self) -> Option<Document> {
        let document = &self.leader.document;
        let fit: Vec<usize> = (0..2)
            .filter(|node| self.online(*node) && self.leader.fit(member(*node)))
            .collect();
        let Some(holder) = document.holder else {
            let change = self.leader.plan();
            return change.or_else(|| {
                let to = fit.first()?;
                Some(self.leader.pass_on(Some(member(*to)), true))
            });
        };
        let holder = index(holder);
        if document.leaving
            && let Some(told) = self.told
            && self.leader.closed(told)
        {
            let other = fit.iter().find(|node| **node != holder);
            let to = other.or(fit.first()).map(|node| member(*node));
            self.told = None;
            return Some(self.leader.pass_on(to, true));
        }
        // Its disk failed, and it goes on through the other one: the group moves there.
        let through = document.data.copies.get(&member(holder)) == Some(&Copy::Lost);
        if through && !document.leaving && self.online(holder) && fit.contains(&(1 - holder)) {
            let mut next = document.clone();
            next.leaving = true;
            next.version.index += 1;
            return Some(next);
        }
        let host = &self.nodes[holder];
        let gone =
            host.lease_until + 5000 < self.now || !self.online(holder) && host.gate.is_none();
        let pinned = document.pinned;
        if gone
            && !pinned
            && let Some(to) = fit.iter().find(|node| **node != holder)
        {
            self.told = None;
            return Some(self.leader.pass_on(Some(member(*to)), false));
        }
        // It has lost its host or its lease since it opened: another epoch, sometimes.
        let known = self.leader.known.get(&member(holder));
        let lapsed = known
            .is_some_and(|known| known.report.opened != Some(document.epoch) || !known.report.open);
        if self.online(holder) && lapsed && self.rng.percent(3) {
            let to = if fit.contains(&holder) {
                Some(member(holder))
            } else {
                None
            };
            let to = to.or(fit.first().map(|node| member(*node)));
            self.told = None;
            return Some(self.leader.pass_on(to, false));
        }
        self.leader.plan()
    }

    pub(super) fn propose(&mut self, document: Document) {
        self.proposed = true;
        self.stats.documents += 1;
        let mut first = u64::MAX;
        for node in 0..2 {
            if self.online(node) {
                let delay = self.rng.range(100, 3000);
                first = first.min(delay);
                let document = Box::new(document.clone());
                self.after(delay, Ev::Keep { node, document });
            }
        }
        let delay = first.min(10_000) + self.rng.range(50, 500);
        let document = Box::new(document);
        self.after(delay, Ev::Commit { document });
    }

    pub(super) fn commit(&mut self, document: Document) {
        self.proposed = false;
        if document.version.term < self.leader.document.version.term {
            return;
        }
        self.trace(|| {
            format!(
                "commit {} holder {:?} {} leaving {} pinned {} {:?}",
                document.version,
                document.holder,
                document.epoch,
                document.leaving,
                document.pinned,
                document.data
            )
        });
        self.check_complete(&document);
        if document.leaving && self.told.is_none() {
            self.told = Some(document.version);
        }
        self.leader.document = document.clone();
        for node in 0..2 {
            if self.online(node) {
                let delay = self.rng.range(50, 3000);
                let document = Box::new(document.clone());
                self.after(delay, Ev::Learn { node, document });
            }
        }
    }

    /// A copy that becomes up to date bears the generation, or is the first one.
    pub(super) fn check_complete(&mut self, document: &Document) {
        for node in 0..2 {
            let before = self.leader.document.data.is_up_to_date(member(node));
            if before || self.given_up || !document.data.is_up_to_date(member(node)) {
                continue;
            }
            let host = &self.nodes[node];
            let mark = host.disk.mark(&host.found);
            let sound = mark.is_some_and(|mark| {
                let first = mark.generation == Generation::NONE && node == 0;
                mark.consistent && (mark.generation == document.data.generation || first)
            });
            if !sound {
                self.violate(
                    "Complete",
                    format!("{node} counts as up to date, its disk does not"),
                );
            }
        }
    }

    pub(super) fn keep(&mut self, node: usize, document: Document) {
        if !self.online(node) {
            return;
        }
        let newer = self.nodes[node]
            .kept
            .as_ref()
            .is_none_or(|kept| kept.version < document.version);
        if newer {
            self.nodes[node].kept = Some(document);
            self.orders(node);
        }
    }

    pub(super) fn learn(&mut self, node: usize, document: Document) {
        if !self.online(node) {
            return;
        }
        self.keep(node, document.clone());
        let newer = self.nodes[node]
            .committed
            .as_ref()
            .is_none_or(|known| known.version < document.version);
        if newer {
            self.nodes[node].committed = Some(document);
            self.orders(node);
        }
    }

    pub(super) fn orders(&mut self, node: usize) {
        let Some(kept) = self.nodes[node].kept.clone() else {
            return;
        };
        let solo_after = self.plan.solo_after;
        let committed = self.nodes[node]
            .committed
            .as_ref()
            .map(|known| MirrorCommitted {
                version: known.version,
                data: known.data.clone(),
                holder: known.holder,
                epoch: known.epoch,
                solo_after: (known.pinned && kept.pinned).then_some(solo_after),
            });
        let orders = MirrorOrders {
            version: kept.version,
            holder: kept.holder,
            epoch: kept.epoch,
            committed,
            mode: self.plan.mode,
            size: kept.size,
            peer_timeout: self.plan.peer_timeout,
            leaving: kept.leaving && kept.holder == Some(member(node)),
        };
        self.step(node, Event::Orders(Box::new(orders)));
    }

    /// Gate and executor of a node.
    pub(super) fn execute(&mut self, node: usize) {
        self.tell_disk(node);
        let me = Some(member(node));
        let host = &self.nodes[node];
        if host.engine.is_none() {
            return;
        }
        let (Some(kept), Some(committed)) = (host.kept.clone(), host.committed.clone()) else {
            return;
        };
        let mine = (kept.holder, kept.epoch) == (me, committed.epoch) && committed.holder == me;
        let leased =
            host.lease_until > self.now || committed.pinned && kept.pinned || self.plan.gate_broken;
        let other = self.nodes[1 - node].gate.is_some() && !self.plan.gate_broken;
        if let Some(epoch) = host.gate {
            if !(mine && epoch == kept.epoch && leased) {
                self.close_gate(node);
            }
        } else if mine && leased && !other && host.gate_told {
            self.nodes[node].gate = Some(kept.epoch);
        }
        let host = &self.nodes[node];
        let gate = host.gate == Some(kept.epoch);
        let free = host.ticket.is_none() && host.wait_until <= self.now;
        if !free || host.paused_until > self.now {
            return;
        }
        if gate && host.open.is_none() && mine && !kept.leaving {
            let ticket = self.ticket(node);
            let epoch = kept.epoch;
            self.nodes[node].opening = epoch;
            self.step(node, Event::Open { ticket, epoch });
        } else if kept.leaving && mine && host.open.is_some() {
            let busy = self.ios.values().any(|io| io.node == node);
            if !busy {
                let ticket = self.ticket(node);
                self.step(node, Event::Close { ticket });
            }
        }
    }

    pub(super) fn ticket(&mut self, node: usize) -> Ticket {
        self.next_ticket += 1;
        self.nodes[node].ticket = Some(self.next_ticket);
        Ticket(self.next_ticket)
    }

    pub(super) fn close_gate(&mut self, node: usize) {
        self.trace(|| format!("{node} gate closed"));
        self.nodes[node].gate = None;
        self.nodes[node].gate_told = false;
        let delay = self.rng.range(0, 8000);
        let life = self.nodes[node].life;
        self.after(delay, Ev::GateClosed { node, life });
    }
}
