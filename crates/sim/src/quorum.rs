//! A quorum disk in place of the witness: what nodes do with it, how long that takes, and what is wrong with it.
//!
//! A write takes effect at some moment between its beginning and its end, wholly or not at all: that a torn one
//! leaves the slot as it was is the format's matter (`hotpair_wire::disk`).

use crate::cluster::{host_of, member};
use crate::fault::Fault;
use crate::world::{Event, World, note};
use hotpair_core::disk::{DiskAction, DiskInput, DiskVoter, Slot};
use hotpair_core::guard::GuardInput;
use hotpair_core::ids::{MemberId, Version};
use hotpair_core::message::Datagram;
use hotpair_core::node::Input;
use std::collections::{BTreeMap, VecDeque};

/// Values of a slot that an old sector may show.
const HISTORY: usize = 8;

/// Way of a message to the voter and back on one host, in microseconds.
const LOCAL_US: u64 = 40;

/// The disk, and each host's way to it.
pub struct Quorum {
    pub member: MemberId,
    /// Shortest and longest write or read, in microseconds.
    took_us: (u64, u64),
    /// Newest last.
    slots: BTreeMap<MemberId, VecDeque<Slot>>,
    pub sides: Vec<Side>,
}

/// One host's way to the disk.
#[derive(Default)]
pub struct Side {
    voter: Option<DiskVoter>,
    io: Option<Io>,
    /// Counts what was begun.
    begun: u64,
    /// Newest number of each slot that this voter was given.
    given: BTreeMap<MemberId, u64>,
    pub lost_until: u64,
    /// What is begun while it is lost fails, instead of waiting for the disk's return.
    pub lost_fails: bool,
    pub slow_until: u64,
    pub slow_times: u64,
    /// Sectors are older than they were.
    pub old_until: u64,
    /// Added to each write, which then lands at its end.
    pub late_writes_us: u64,
}

struct Io {
    number: u64,
    what: IoKind,
}

enum IoKind {
    /// `None`: it is on the disk.
    Write(Option<Box<Slot>>),
    /// What was read, if that is done.
    Read(Option<Vec<Slot>>),
}

impl Quorum {
    #[must_use]
    pub fn new(member: MemberId, took_us: (u64, u64), hosts: usize) -> Self {
        Self {
            member,
            took_us,
            slots: BTreeMap::new(),
            sides: (0..hosts).map(|_| Side::default()).collect(),
        }
    }

    /// The newest version on the disk.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let newest = self.slots.values().filter_map(VecDeque::back);
        newest.map(Slot::version).max()
    }

    fn read(&mut self, host: usize, old: bool) -> Vec<Slot> {
        let side = &mut self.sides[host];
        let mut found = Vec::new();
        for (&owner, values) in &self.slots {
            let given = side.given.entry(owner).or_default();
            let older = values.iter().rev().find(|slot| slot.number < *given);
            let slot = match (old && owner != member(host), older) {
                (true, Some(older)) => Some(older),
                _ => values.back(),
            };
            if let Some(slot) = slot {
                *given = slot.number.max(*given);
                found.push(slot.clone());
            }
        }
        found
    }
}

impl World {
    /// Is `host` no machine, but the disk?
    #[must_use]
    pub fn is_disk(&self, host: usize) -> bool {
        let quorum = self.quorum.as_ref();
        quorum.is_some_and(|quorum| host_of(quorum.member) == host)
    }

    /// A guard starts, and its voter with it.
    pub(crate) fn begin_voter(&mut self, host: usize) {
        let now = self.hosts[host].now(self.now_us);
        let boot = self.hosts[host].boot;
        if let Some(quorum) = &mut self.quorum {
            let voter = DiskVoter::new(member(host), quorum.member, boot, now);
            let side = &mut quorum.sides[host];
            side.voter = Some(voter);
            side.given.clear();
        }
    }

    /// A guard has ended; a write under way lands now or never.
    pub(crate) fn end_voter(&mut self, host: usize) {
        if self.quorum.is_none() {
            return;
        }
        if self.rng.percent(50) {
            self.do_io(host);
        }
        if let Some(quorum) = &mut self.quorum {
            quorum.sides[host].voter = None;
            quorum.sides[host].io = None;
        }
    }

    /// The daemon tells the voter something.
    pub(crate) fn tell_voter(&mut self, host: usize, input: DiskInput) {
        let life = self.hosts[host].guard.life;
        self.queue
            .push(self.now_us + LOCAL_US, Event::ToVoter { host, life, input });
    }

    /// It reaches the voter: at once, or when that goes on.
    pub(crate) fn hand_to_voter(&mut self, host: usize, life: u64, input: DiskInput) {
        let it = &self.hosts[host];
        if it.guard.life != life || it.guard.it.is_none() {
            return;
        }
        if it.guard_stuck(self.now_us) {
            let at = it.paused_until.max(it.guard.frozen_until) + LOCAL_US;
            self.queue.push(at, Event::ToVoter { host, life, input });
            return;
        }
        self.step_voter(host, input, 0);
    }

    /// One step of the voter, whose host is busy for `busy_us` before it gets to the disk.
    pub(crate) fn step_voter(&mut self, host: usize, input: DiskInput, busy_us: u64) {
        let now = self.hosts[host].now(self.now_us);
        let Some(quorum) = &mut self.quorum else {
            return;
        };
        let disk = quorum.member;
        let Some(voter) = &mut quorum.sides[host].voter else {
            return;
        };
        for action in voter.step(now, input) {
            match action {
                DiskAction::Write(slot) => self.begin_io(host, IoKind::Write(Some(slot)), busy_us),
                DiskAction::Read => self.begin_io(host, IoKind::Read(None), busy_us),
                DiskAction::Ack(ack) => {
                    let datagram = Box::new(Datagram::Ack(ack));
                    self.tell_guard(host, GuardInput::Datagram(datagram));
                }
                DiskAction::Say(message) => {
                    let from = disk;
                    self.tell_node(host, Input::Message { from, message });
                }
                DiskAction::Trouble(trouble) => {
                    note!(self, "m{} does not believe the disk: {trouble:?}", host + 1);
                }
            }
        }
    }

    fn begin_io(&mut self, host: usize, what: IoKind, busy_us: u64) {
        let now = self.now_us;
        let Some(quorum) = &mut self.quorum else {
            return;
        };
        let (low, high) = quorum.took_us;
        let side = &mut quorum.sides[host];
        let mut takes = self.rng.range(low, high);
        if side.slow_until > now {
            takes *= side.slow_times.max(1);
        }
        let late = match what {
            IoKind::Write(_) => side.late_writes_us,
            IoKind::Read(_) => 0,
        };
        takes += late;
        side.begun += 1;
        let number = side.begun;
        side.io = Some(Io { number, what });
        let lost = side.lost_until > now;
        if lost && side.lost_fails {
            let at = now + busy_us + takes;
            self.queue.push(at, Event::DiskFails { host, number });
            return;
        }
        let begins = (now + busy_us).max(side.lost_until);
        let done = begins + late + self.rng.range(0, takes - late);
        self.queue.push(done, Event::DiskDoes { host, number });
        self.queue
            .push(begins + takes, Event::DiskEnds { host, number });
    }

    fn under_way(&self, host: usize, number: u64) -> bool {
        let io = self
            .quorum
            .as_ref()
            .and_then(|quorum| quorum.sides[host].io.as_ref());
        io.is_some_and(|io| io.number == number)
    }

    pub(crate) fn disk_does(&mut self, host: usize, number: u64) {
        if self.under_way(host, number) {
            self.do_io(host);
        }
    }

    pub(crate) fn disk_ends(&mut self, host: usize, number: u64) {
        if !self.under_way(host, number) {
            return;
        }
        self.do_io(host);
        let Some(quorum) = &mut self.quorum else {
            return;
        };
        let ended = match quorum.sides[host].io.take().map(|io| io.what) {
            Some(IoKind::Read(read)) => DiskInput::Read(read.unwrap_or_default()),
            _ => DiskInput::Wrote,
        };
        let life = self.hosts[host].guard.life;
        self.hand_to_voter(host, life, ended);
    }

    /// A write that fails may have been made.
    pub(crate) fn disk_fails(&mut self, host: usize, number: u64) {
        if !self.under_way(host, number) {
            return;
        }
        if self.rng.percent(50) {
            self.do_io(host);
        }
        if let Some(quorum) = &mut self.quorum {
            quorum.sides[host].io = None;
        }
        let life = self.hosts[host].guard.life;
        self.hand_to_voter(host, life, DiskInput::Failed);
    }

    fn do_io(&mut self, host: usize) {
        let now = self.now_us;
        let Some(quorum) = &mut self.quorum else {
            return;
        };
        let Some(Io { number, what }) = quorum.sides[host].io.take() else {
            return;
        };
        let what = match what {
            IoKind::Write(Some(slot)) => {
                let values = quorum.slots.entry(slot.member).or_default();
                values.push_back(*slot);
                if values.len() > HISTORY {
                    values.pop_front();
                }
                IoKind::Write(None)
            }
            IoKind::Read(None) => {
                let old = quorum.sides[host].old_until > now;
                IoKind::Read(Some(quorum.read(host, old)))
            }
            done => done,
        };
        quorum.sides[host].io = Some(Io { number, what });
    }

    /// What would befall a witness host befalls the disk instead. False: the fault does not concern it.
    pub(crate) fn befalls_disk(&mut self, fault: &Fault) -> bool {
        let Some(disk) = self.quorum.as_ref().map(|quorum| host_of(quorum.member)) else {
            return false;
        };
        let now = self.now_us;
        let fails = now.is_multiple_of(2);
        let until = move |for_us: u64| now + for_us;
        let all = |_: usize| true;
        match *fault {
            Fault::PowerCut { host, for_us } | Fault::Isolate { host, for_us, .. }
                if host == disk =>
            {
                self.for_sides(all, |side| {
                    side.lost_until = until(for_us);
                    side.lost_fails = fails;
                });
            }
            Fault::OneWayCut {
                from: one,
                to: other,
                for_us,
            }
            | Fault::Cut {
                a: one,
                b: other,
                for_us,
            } if one == disk || other == disk => {
                let host = if one == disk { other } else { one };
                self.for_sides(
                    |it| it == host,
                    |side| {
                        side.lost_until = until(for_us);
                        side.lost_fails = fails;
                    },
                );
            }
            Fault::SlowDisk {
                host,
                times,
                for_us,
            } if host == disk => {
                self.for_sides(all, |side| {
                    side.slow_until = until(for_us);
                    side.slow_times = times;
                });
            }
            Fault::StuckDisk { host, for_us } | Fault::Pause { host, for_us } if host == disk => {
                self.for_sides(all, |side| {
                    side.lost_until = until(for_us);
                    side.lost_fails = false;
                });
            }
            Fault::KillDaemon { host, for_us }
            | Fault::KillGuard { host, for_us }
            | Fault::FreezeDaemon { host, for_us }
            | Fault::FreezeGuard { host, for_us }
                if host == disk =>
            {
                let one = usize::from(fails);
                self.for_sides(|it| it == one, |side| side.old_until = until(for_us));
            }
            Fault::StopClocks { host, .. } | Fault::Slew { host, .. } if host == disk => {}
            _ => return false,
        }
        true
    }

    fn for_sides(&mut self, which: impl Fn(usize) -> bool, change: impl Fn(&mut Side)) {
        if let Some(quorum) = &mut self.quorum {
            let sides = quorum.sides.iter_mut().enumerate();
            sides
                .filter(|(host, _)| which(*host))
                .for_each(|(_, side)| change(side));
        }
    }

    pub(crate) fn heal_disk(&mut self) {
        let now = self.now_us;
        self.for_sides(
            |_| true,
            |side| {
                side.lost_until = side.lost_until.min(now);
                side.slow_until = 0;
                side.old_until = 0;
                side.late_writes_us = 0;
            },
        );
        // What waits for the disk's return need not wait any more.
        let Some(quorum) = &self.quorum else { return };
        let waiting: Vec<(usize, u64)> = quorum
            .sides
            .iter()
            .enumerate()
            .filter_map(|(host, side)| Some((host, side.io.as_ref()?.number)))
            .collect();
        for (host, number) in waiting {
            self.queue
                .push(now + 1_000, Event::DiskEnds { host, number });
        }
    }
}
