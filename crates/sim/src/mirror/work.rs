//! What the executor asks of a mirror process: open, close, end at once.

use crate::host::PartState;
use crate::world::{World, note};
use hotpair_core::group::{ActionId, Work};
use hotpair_core::ids::Epoch;
use hotpair_volume::engine::{Event, Ticket};
use std::time::Duration;

/// How long work waits for a process that is being started.
const PROCESS_LIMIT_US: u64 = 3_000_000;

/// Work of a process that is not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The executor's part as it was then.
    change: u64,
    what: What,
    /// `None`: the process was not there yet.
    ticket: Option<u64>,
    since: u64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Open(Epoch),
    Close,
}

impl World {
    /// The executor begins to start or stop the mirror.
    pub(crate) fn begin_mirror_work(
        &mut self,
        host: usize,
        id: ActionId,
        work: Work,
        epoch: Epoch,
        limits: (Duration, Duration),
    ) {
        let Some(mirror) = &self.mirror else { return };
        let Some(side) = mirror.side_of(host) else {
            self.done_in(host, 300, id, Err("there is no copy on this node".into()));
            return;
        };
        let name = mirror.part();
        let now = self.now_us;
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        match work {
            Work::Start => {
                if !self.hosts[host].passes(&name.0, now) {
                    let why = "the guard has not permitted this group";
                    self.done_in(host, 300, id, Err(why.into()));
                    return;
                }
                if let Some(part) = self.hosts[host].parts.get_mut(&name) {
                    part.epoch = epoch;
                }
                let limit = micros(limits.0);
                self.enter(
                    host,
                    &name,
                    PartState::Starting,
                    Some((id, work)),
                    limit,
                    false,
                );
                self.mirror_asked(side, What::Open(epoch));
            }
            Work::Stop => {
                let limit = micros(limits.1);
                self.enter(
                    host,
                    &name,
                    PartState::Stopping,
                    Some((id, work)),
                    limit,
                    false,
                );
                self.mirror_asked(side, What::Close);
            }
            Work::Kill => {
                self.enter(
                    host,
                    &name,
                    PartState::Stopping,
                    Some((id, work)),
                    3_000,
                    true,
                );
                self.abort_mirror(side);
            }
            Work::Check => {}
        }
    }

    fn mirror_asked(&mut self, side: usize, what: What) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let name = mirror.part();
        let it = &mut mirror.sides[side];
        let part = self.hosts[it.host].parts.get(&name);
        it.asked = Some(Asked {
            change: part.map_or(0, |part| part.change),
            what,
            ticket: None,
            since: now,
        });
        self.go_on_opening(side);
    }

    /// Hands work to the process once it is there.
    pub(super) fn go_on_opening(&mut self, side: usize) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let group = mirror.group.clone();
        let it = &mut mirror.sides[side];
        let host = it.host;
        let Some(asked) = it.asked.filter(|asked| asked.ticket.is_none()) else {
            return;
        };
        if it.node.engine.is_none() || it.daemon.is_none() {
            if asked.since + PROCESS_LIMIT_US < now {
                it.asked = None;
                let why = "the mirror process is not running";
                self.mirror_work_ended(side, asked, Err(why.into()));
            }
            return;
        }
        if self.hosts[host].paused_until > now {
            return;
        }
        mirror.next_ticket += 1;
        let ticket = mirror.next_ticket;
        it.asked = Some(Asked {
            ticket: Some(ticket),
            ..asked
        });
        match asked.what {
            What::Open(_) if it.node.open.is_some() => {
                it.asked = None;
                let why = "the device is open already";
                self.mirror_work_ended(side, asked, Err(why.into()));
            }
            What::Open(epoch) => {
                if !self.hosts[host].passes(&group, now) {
                    it.asked = None;
                    let why = "the write gate is closed";
                    self.mirror_work_ended(side, asked, Err(why.into()));
                    return;
                }
                it.shut = false;
                it.closing = false;
                it.node.opening = epoch;
                let ticket = Ticket(ticket);
                self.step_mirror(side, Event::Open { ticket, epoch });
            }
            What::Close => {
                it.closing = true;
                let ticket = Ticket(ticket);
                self.step_mirror(side, Event::Close { ticket });
            }
        }
    }

    /// The executor hears how it ended, if it still waits.
    fn mirror_work_ended(&mut self, side: usize, asked: Asked, result: Result<(), String>) {
        let Some(mirror) = &self.mirror else { return };
        let host = mirror.sides[side].host;
        let name = mirror.part();
        let failed_open = result.is_err() && matches!(asked.what, What::Open(_));
        let Some(part) = self.hosts[host]
            .parts
            .get_mut(&name)
            .filter(|part| part.change == asked.change)
        else {
            return;
        };
        part.state = match (asked.what, &result) {
            (What::Open(_), Ok(())) => PartState::Up,
            (What::Close, Err(_)) => PartState::Up,
            _ => PartState::Down,
        };
        part.change += 1;
        let state = part.state;
        let work = part.work.take();
        self.touched = true;
        note!(self, "m{} mirror is {state:?}: {result:?}", host + 1);
        if failed_open {
            // Half an opening must not be left.
            self.abort_mirror_soon(side);
        }
        if let Some((id, _, life)) = work
            && life == self.hosts[host].node.life
        {
            self.done_in(host, 60, id, result);
        }
    }

    /// The time of the work under way is over, or a kill has ended.
    pub(crate) fn mirror_worked(&mut self, host: usize, ok: bool) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let Some(side) = mirror.side_of(host) else {
            return;
        };
        let name = mirror.part();
        mirror.sides[side].asked = None;
        let Some(part) = self.hosts[host].parts.get_mut(&name) else {
            return;
        };
        let opening = part.state == PartState::Starting;
        part.state = match (part.state, ok) {
            (PartState::Stopping, false) => PartState::Up,
            _ => PartState::Down,
        };
        part.change += 1;
        let work = part.work.take();
        self.touched = true;
        if opening {
            self.abort_mirror(side);
        }
        if let Some((id, _, life)) = work
            && life == self.hosts[host].node.life
        {
            let why = "the mirror process has not ended it in time";
            let result = if ok { Ok(()) } else { Err(why.into()) };
            self.done_in(host, 60, id, result);
        }
    }

    /// The device is taken away at once.
    pub(super) fn abort_mirror(&mut self, side: usize) {
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        it.asked = None;
        it.shut = true;
        it.node.open = None;
        self.step_mirror(side, Event::GateClosed);
    }

    /// Within a step of the engine: it is told at the next look.
    fn abort_mirror_soon(&mut self, side: usize) {
        if let Some(mirror) = &mut self.mirror {
            mirror.sides[side].shut = true;
        }
    }

    /// The driver looks whether requests may pass.
    pub(super) fn look_at_gate(&mut self, side: usize) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mirror.sides[side];
        let host = &self.hosts[it.host];
        if it.node.open.is_some()
            && host.paused_until <= now
            && (it.shut || !host.passes(&mirror.group, now))
        {
            note!(self, "m{} write gate is found closed", it.host + 1);
            self.abort_mirror(side);
        }
    }

    pub(super) fn mirror_opened(
        &mut self,
        side: usize,
        ticket: Ticket,
        result: Result<u64, String>,
    ) {
        let now = self.now_us;
        self.mirror_note(side, || format!("opened: {result:?}"));
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        let asked = it.asked.filter(|asked| asked.ticket == Some(ticket.0));
        if let Ok(size) = result {
            let passes = self.hosts[it.host].passes(&mirror.group, now);
            it.node.open = Some(it.node.opening);
            it.shut = !passes || asked.is_none();
            mirror.sectors = size / 512;
            self.opened_by(side);
        }
        if let Some(asked) = asked {
            if let Some(mirror) = &mut self.mirror {
                mirror.sides[side].asked = None;
            }
            self.mirror_work_ended(side, asked, result.map(|_| ()));
        }
    }

    pub(super) fn mirror_close_ended(
        &mut self,
        side: usize,
        ticket: Ticket,
        result: Result<(), String>,
    ) {
        self.mirror_note(side, || format!("closed: {result:?}"));
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        it.node.open = None;
        if let Some(asked) = it.asked.filter(|asked| asked.ticket == Some(ticket.0)) {
            it.asked = None;
            self.mirror_work_ended(side, asked, result);
        }
    }

    /// The device is gone, and nobody asked for that.
    pub(super) fn mirror_ended(&mut self, side: usize, why: &str) {
        self.mirror_note(side, || format!("ended: {why}"));
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let name = mirror.part();
        let it = &mut mirror.sides[side];
        let host = it.host;
        it.node.open = None;
        if let Some(part) = self.hosts[host].parts.get_mut(&name)
            && part.state == PartState::Up
        {
            part.state = PartState::Down;
            part.change += 1;
            self.touched = true;
        }
    }

    /// The process is gone with everything it did; started again in `back_us`, if the daemon lives.
    pub(crate) fn kill_mirror(&mut self, side: usize, back_us: u64) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let it = &mut mirror.sides[side];
        if it.node.engine.is_none() {
            return;
        }
        let conn = it.node.session;
        let killed = format!("process {} is killed", it.node.life);
        let (host, asked) = (it.host, it.asked.take());
        it.node.end();
        it.node.killed_at = Some(now);
        it.node.report = None;
        it.start_at = now + back_us;
        it.daemon = None;
        mirror.ios.retain(|_, io| io.side != side);
        let name = mirror.part();
        self.mirror_note(side, || killed);
        if let Some(conn) = conn {
            self.close_wire(side, conn);
        }
        self.mirror_tell_daemon(side, super::News::Lost);
        if let Some(asked) = asked {
            self.mirror_work_ended(side, asked, Err("the mirror process has ended".into()));
        }
        if let Some(part) = self.hosts[host].parts.get_mut(&name)
            && part.state != PartState::Down
        {
            part.state = PartState::Down;
            part.change += 1;
            let work = part.work.take();
            self.touched = true;
            if let Some((id, kind, _)) = work {
                let result = match kind {
                    Work::Start => Err("the mirror process has ended".into()),
                    _ => Ok(()),
                };
                self.done_in(host, 400, id, result);
            }
        }
    }

    /// The process on this host ends.
    pub(crate) fn end_mirror(&mut self, host: usize, back_us: u64) {
        if let Some(side) = self.mirror.as_ref().and_then(|it| it.side_of(host)) {
            self.kill_mirror(side, back_us);
        }
    }

    /// With the host's power.
    pub(crate) fn mirror_power_cut(&mut self, host: usize) {
        let now = self.now_us;
        let Some(mirror) = &mut self.mirror else {
            return;
        };
        let Some(side) = mirror.side_of(host) else {
            return;
        };
        let it = &mut mirror.sides[side];
        it.node.end();
        it.node.works.clear();
        it.node.on = false;
        it.node.power += 1;
        it.node.report = None;
        it.node.crashed_at = Some(now);
        it.node.disk.crash(&mut mirror.chance);
        it.asked = None;
        it.daemon = None;
        it.known_open = None;
        it.start_at = 0;
        mirror.wire.alive = false;
        mirror.ios.retain(|_, io| io.side != side);
    }
}
