//! Who is there: what was heard of each member, and for how long.

use crate::document::Document;
use crate::ids::{GroupId, HostBoot, MemberId};
use crate::message::{Beat, Seen};
use crate::plan::{MemberView, Presence};
use crate::report::Report;
use crate::time::{Moment, micros};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Everything heard of the other members in this run of the daemon.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Peers {
    members: BTreeMap<MemberId, Peer>,
}

#[derive(Clone, Debug, Hash)]
struct Peer {
    boot: HostBoot,
    /// Last sign of a member that can do its part: a beat that asks for a lease with a deciding
    /// daemon behind it; a witness's answer.
    heard: Moment,
    online_since: Moment,
    counted_down: bool,
    failures: VecDeque<Moment>,
    report: Option<Report>,
    fit_since: BTreeMap<GroupId, Moment>,
}

/// What a beat or an answer tells that was not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum News {
    Nothing,
    Up,
    Rebooted,
}

impl Peers {
    pub fn heard(&mut self, now: Moment, beat: &Beat) -> News {
        // An idle node can run nothing: it counts as silent, but its boot is known.
        let able = beat.deciding && !beat.idle;
        self.sign(now, beat.from, beat.boot, able)
    }

    pub fn voter_heard(&mut self, now: Moment, voter: MemberId, boot: HostBoot) -> News {
        self.sign(now, voter, boot, true)
    }

    /// Members a voter sees: one that only this member cannot hear is not down.
    pub fn seen_by_voter(&mut self, now: Moment, sees: &[Seen]) {
        for seen in sees {
            if let Some(peer) = self.members.get_mut(&seen.member)
                && peer.boot == seen.boot
                && !peer.counted_down
            {
                let at = Moment(now.0.saturating_sub(micros(seen.age)));
                peer.heard = peer.heard.max(at);
            }
        }
    }

    fn sign(&mut self, now: Moment, from: MemberId, boot: HostBoot, able: bool) -> News {
        let Some(peer) = self.members.get_mut(&from) else {
            if able {
                self.members.insert(from, Peer::new(now, boot));
                return News::Up;
            }
            return News::Nothing;
        };
        if boot < peer.boot {
            return News::Nothing;
        }
        let rebooted = boot > peer.boot;
        if rebooted {
            if !peer.counted_down {
                peer.failures.push_back(now);
            }
            *peer = Peer {
                failures: std::mem::take(&mut peer.failures),
                ..Peer::new(now, boot)
            };
            return News::Rebooted;
        }
        let back = able && peer.counted_down;
        if back {
            peer.counted_down = false;
            peer.online_since = now;
        }
        if able {
            peer.heard = now;
        }
        if back { News::Up } else { News::Nothing }
    }

    /// Takes in a report unless it is older than the one known. True if anything in it is new.
    pub fn reported(&mut self, now: Moment, report: Report) -> bool {
        let Some(peer) = self.members.get_mut(&report.from) else {
            return false;
        };
        let order = |r: &Report| (r.boot, r.incarnation, r.number);
        let older = peer
            .report
            .as_ref()
            .is_some_and(|known| order(known) >= order(&report));
        if report.boot != peer.boot || older {
            return false;
        }
        peer.fit_since
            .retain(|group, _| report.groups.get(group).is_some_and(|g| g.unfit.is_empty()));
        for (group, _) in report.groups.iter().filter(|(_, g)| g.unfit.is_empty()) {
            peer.fit_since.entry(group.clone()).or_insert(now);
        }
        let changed = peer
            .report
            .as_ref()
            .is_none_or(|known| known.groups != report.groups || known.version != report.version);
        peer.report = Some(report);
        changed
    }

    /// Members that have just been silent for too long; each is named once.
    pub fn newly_down(
        &mut self,
        now: Moment,
        down: Duration,
        left: impl Fn(MemberId) -> bool,
    ) -> Vec<(MemberId, Duration)> {
        let mut found = Vec::new();
        for (&member, peer) in &mut self.members {
            let silent = now.since(peer.heard);
            if silent >= down && !peer.counted_down {
                peer.counted_down = true;
                peer.report = None;
                peer.fit_since.clear();
                if !left(member) {
                    peer.failures.push_back(now);
                }
                found.push((member, silent));
            }
        }
        found
    }

    /// Forgets failures that are older than `window`.
    pub fn calm(&mut self, now: Moment, window: Duration) {
        for peer in self.members.values_mut() {
            while peer
                .failures
                .front()
                .is_some_and(|&at| now.since(at) >= window)
            {
                peer.failures.pop_front();
            }
        }
    }

    pub fn next_down(&self, down: Duration) -> Option<Moment> {
        self.members
            .values()
            .filter(|peer| !peer.counted_down)
            .map(|peer| peer.heard.plus(down))
            .min()
    }

    pub fn present(&self, member: MemberId) -> bool {
        self.members
            .get(&member)
            .is_some_and(|peer| !peer.counted_down)
    }

    /// The boot of a member that was heard in this run and is down now, and for how long it has been silent.
    pub fn silence(&self, now: Moment, member: MemberId) -> Option<(HostBoot, Duration)> {
        let peer = self.members.get(&member)?;
        peer.counted_down
            .then(|| (peer.boot, now.since(peer.heard)))
    }

    pub fn boot(&self, member: MemberId) -> Option<HostBoot> {
        self.members.get(&member).map(|peer| peer.boot)
    }

    pub fn known(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    /// The planner's view of `member`.
    pub fn view(&self, now: Moment, member: MemberId, document: &Document) -> MemberView {
        let timing = &document.config.timing;
        let Some(peer) = self.members.get(&member) else {
            return MemberView {
                presence: Presence::NeverHeard,
                report: None,
                online_for: Duration::ZERO,
                fit_for: BTreeMap::new(),
                failures: 0,
            };
        };
        let silent = now.since(peer.heard);
        let boot = peer.boot;
        let presence = if peer.counted_down || silent >= timing.down() {
            Presence::Down { boot, silent }
        } else if silent >= timing.heartbeat * timing.warn_after.max(1) {
            Presence::Silent { boot, silent }
        } else {
            Presence::Online { boot }
        };
        MemberView {
            presence,
            report: peer.report.clone(),
            online_for: now.since(peer.online_since),
            fit_for: peer
                .fit_since
                .iter()
                .map(|(group, &at)| (group.clone(), now.since(at)))
                .collect(),
            failures: u32::try_from(peer.failures.len()).unwrap_or(u32::MAX),
        }
    }
}

impl Peer {
    fn new(now: Moment, boot: HostBoot) -> Self {
        Self {
            boot,
            heard: now,
            online_since: now,
            counted_down: false,
            failures: VecDeque::new(),
            report: None,
            fit_since: BTreeMap::new(),
        }
    }
}
