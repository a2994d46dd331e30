//! What this side says: the report for the deciding half, and the status for people.

use super::local::Local;
use super::peer::Phase;
use super::{Effect, Engine, Role, Status};
use crate::store::BLOCK;
use hotpair_core::ids::Version;
use hotpair_core::mirror::MirrorReport;
use hotpair_core::time::Moment;
use std::collections::BTreeSet;

impl Engine {
    /// From when on the peer is to be recorded as lacking something; `None`: it is not.
    fn lacks_due(&self) -> Option<Moment> {
        if self.unclean_opening() {
            return Some(self.now);
        }
        if !self.is_active() || self.alone || self.local().is_none() {
            return None;
        }
        let waits = self.requests.missing_there() || self.flushes.holds();
        if self.peer.unfit {
            return Some(self.now);
        }
        if !waits {
            return None;
        }
        let outdated = self
            .other()
            .is_none_or(|other| self.data().is_none_or(|data| !data.is_up_to_date(other)));
        if outdated {
            return Some(self.now);
        }
        let timeout = self.peer_timeout();
        let held = self.requests.held_since.or(self.flushes.held_since);
        let since = held.unwrap_or(self.peer.heard);
        Some(self.peer.heard.plus(timeout).min(since.plus(timeout * 2)))
    }

    /// Rule R7: nobody answers, and nobody takes the group over.
    pub(super) fn solo_due(&self) -> bool {
        self.solo_moment().is_some_and(|due| self.now >= due)
    }

    fn solo_moment(&self) -> Option<Moment> {
        let after = self.committed()?.solo_after?;
        let since = self.peer.lacks_since?;
        (self.is_active() && !self.alone && !self.peer.refused).then(|| since.plus(after))
    }

    /// When something is due by itself.
    fn earliest(&self) -> Option<Moment> {
        let opening = match self.role {
            Role::Opening { since, .. } => Some(since.plus(super::OPEN_LIMIT)),
            _ => None,
        };
        let lacks = self.lacks_due().filter(|_| self.peer.lacks_since.is_none());
        let held = self.requests.held_since.or(self.flushes.held_since);
        let leaving = held
            .filter(|_| self.may_not_wait())
            .map(|since| since.plus(self.peer_timeout() * 2));
        let detached = self.is_active() && self.local().is_none();
        let lost = detached.then(|| match held {
            Some(since) => since.plus(self.peer_timeout() * 4),
            None => self.peer.heard.plus(self.peer_timeout()),
        });
        [
            opening,
            leaving,
            lacks,
            self.solo_moment().filter(|_| !self.has_solo()),
            lost.filter(|at| *at > self.now),
            self.peer_deadline(),
            self.resync_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn has_solo(&self) -> bool {
        self.local()
            .is_some_and(|local| local.wanted.solo.is_some())
    }

    /// When [`super::Event::Tick`] is due, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.earliest()
    }

    pub(super) fn settle_report(&mut self) {
        let due = self.lacks_due().is_some_and(|due| self.now >= due);
        if due {
            self.peer.lacks_since.get_or_insert(self.now);
        } else {
            self.peer.lacks_since = None;
        }
        let report = self.report(due);
        if self.reported.as_ref() == Some(&report) {
            return;
        }
        if !report.complete.is_empty() {
            self.floor = self.floor.max(report.serial);
            // Before anything else is acknowledged.
            self.judge_alone();
        }
        self.reported = Some(report.clone());
        self.out.push(Effect::Report(Box::new(report)));
    }

    fn report(&self, lacking: bool) -> MirrorReport {
        let me = self.setup.me;
        let mut lacks = BTreeSet::new();
        if lacking {
            lacks.extend(self.other());
        }
        let failed = self.is_active() && self.local().is_none() && self.peer.is_joined();
        let good = |node| self.data().is_some_and(|data| data.is_up_to_date(node));
        if failed && good(me) && self.other().is_some_and(good) && self.setup.through_peer {
            lacks = BTreeSet::from([me]);
        }
        let mut complete = BTreeSet::new();
        if self.is_active() && self.is_complete() {
            complete.extend(self.peer.id);
        }
        let replicates = if self.is_active() {
            self.peer.sends()
        } else {
            self.standby.joined
        };
        MirrorReport {
            under: self
                .orders
                .as_ref()
                .map_or(Version::ZERO, |orders| orders.version),
            id: self.data().map_or(0, |data| data.id),
            serial: self.data().map_or(0, |data| data.serial),
            opened: self.opened,
            open: self.is_open(),
            clean: self.clean,
            disk: self.disk_report(),
            lacks,
            complete,
            connected: self.peer.id.filter(|_| replicates).into_iter().collect(),
        }
    }

    /// How things stand; for people.
    #[must_use]
    pub fn status(&self, now: Moment) -> Status {
        let (resync, verify) = self.resync.progress();
        let counts = &self.requests.counts;
        let lag = &self.requests.lag;
        let active = self.is_active();
        Status {
            size: self.volume_blocks() * BLOCK,
            out_of_sync: self
                .local()
                .map_or(0, |local: &Local| local.bits.count() * BLOCK),
            apart_since: self
                .peer
                .apart_since
                .filter(|_| active && !matches!(self.peer.phase, Phase::Joined | Phase::Resync)),
            resync,
            verify,
            verify_found: self.resync.found,
            verify_places: self.resync.places.clone(),
            paused: self.resync.paused,
            lag_bytes: lag.bytes + lag.missed,
            lag: self
                .requests
                .lag_since()
                .map_or_else(Default::default, |at| now.since(at)),
            reads: counts.reads,
            writes: counts.writes,
            read_bytes: counts.read_bytes,
            write_bytes: counts.write_bytes,
            longest_stall: counts.longest,
            last_write: counts.last_write,
        }
    }
}
