//! The end of a run: everything is healed, and must come to rest.

use super::*;

impl World {
    /// Everything is healed; both copies are to be up to date and equal.
    pub(super) fn finished(&mut self) -> bool {
        if !self.settling {
            self.settling = true;
            self.quiet_until = 0;
            self.cut_until = [0; 2];
            self.leader_until = 0;
            self.at_complete = None;
            self.link.broken_until = 0;
            self.link.stalled_until = [0; 2];
            self.trace(|| "healing".into());
            for node in 0..2 {
                self.nodes[node].disk.broken = false;
                if self.nodes[node].disk.full {
                    self.heal(Trouble::FullDisk { node, length: 0 });
                }
                self.nodes[node].slow_until = 0;
                self.nodes[node].paused_until = self.now;
                self.resume(node);
                self.after(1000, Ev::PowerOn { node });
            }
        }
        if self.now > self.ends + HEAL {
            let what = self.state();
            let ios = format!("{:?}", self.ios);
            self.violate("Liveness", format!("under way: {ios}; {what}"));
            return true;
        }
        let data = &self.leader.document.data;
        let whole = data.copies.values().all(|copy| *copy == Copy::UpToDate);
        let open = self.nodes.iter().filter(|host| host.open.is_some()).count() == 1;
        // The size agreed upon is reached.
        let size = self.sectors * SECTOR == self.leader.document.size;
        if !whole || !open || !size || self.leader.document.leaving {
            self.quiet_end = false;
            return false;
        }
        if self.now < self.ends + 200_000 {
            return false;
        }
        self.quiet_end = true;
        let idle = self.ios.is_empty()
            && self
                .nodes
                .iter()
                .all(|host| host.works.is_empty() && host.buffers.is_empty())
            && self
                .queue
                .values()
                .all(|ev| !matches!(ev, Ev::Deliver { .. }));
        let late = self.now > self.ends + HEAL - 1_000_000;
        if !idle && !late {
            return false;
        }
        if !idle {
            let buffers: Vec<usize> = self.nodes.iter().map(|host| host.buffers.len()).collect();
            let ios = self.ios.len();
            self.violate(
                "Completion",
                format!("{ios} requests and {buffers:?} buffers are left"),
            );
            return true;
        }
        self.compare();
        true
    }

    pub(super) fn compare(&mut self) {
        let sectors = usize::try_from(self.sectors).unwrap_or(0);
        let [one, two] = &self.nodes;
        let (one, two) = (&one.disk.visible[..sectors], &two.disk.visible[..sectors]);
        if let Some(place) = (0..sectors).find(|place| one[*place] != two[*place]) {
            let what = format!(
                "sector {place} (block {}) is {:x} on 0 and {:x} on 1",
                place / 8,
                one[place],
                two[place]
            );
            return self.violate("Equal", what);
        }
        let tags = one.to_vec();
        if let Err(what) = self.ledger.check_all(&tags) {
            self.violate("Lost", what);
        }
    }

    pub(super) fn state(&self) -> String {
        let reports: Vec<_> = self.nodes.iter().map(|host| &host.report).collect();
        format!("{:?} {reports:?}", self.leader.document)
    }
}
