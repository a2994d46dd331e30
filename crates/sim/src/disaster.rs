//! Faults happen: power, processes, pauses, clocks, disks, links.

use crate::cluster::host_of;
use crate::fault::{Fault, Spoil};
use crate::host::{PartState, Spoiled};
use crate::world::{Event, Lane, Storm, World, note};
use hotpair_core::guard::GuardInput;
use hotpair_core::ids::{HostBoot, MemberId};
use hotpair_core::node::Input;

/// The hardware watchdog of a host with ungated groups: it is reset when its guard did nothing for
/// so long. Shorter than the shortest `ungated_margin` drawn.
const WATCHDOG_US: u64 = 1_500_000;

impl World {
    pub(crate) fn inflict(&mut self, fault: Fault) {
        note!(self, "FAULT {fault:?}");
        let now = self.now_us;
        if self.befalls_disk(&fault) {
            return;
        }
        match fault {
            Fault::OneWayCut { from, to, for_us } => self.cut_off(from, to, for_us),
            Fault::Cut { a, b, for_us } => {
                self.cut_off(a, b, for_us);
                self.cut_off(b, a, for_us);
            }
            Fault::Isolate {
                host,
                inward,
                outward,
                for_us,
            } => {
                for other in (0..self.hosts.len()).filter(|&other| other != host) {
                    if inward {
                        self.cut_off(other, host, for_us);
                    }
                    if outward {
                        self.cut_off(host, other, for_us);
                    }
                }
            }
            Fault::Storm {
                loss_ppm,
                late_ppm,
                for_us,
            } => {
                self.storm = Storm {
                    until: now + for_us,
                    loss_ppm,
                    late_ppm,
                };
            }
            Fault::PowerCut { host, for_us } => self.power_cut(host, for_us),
            Fault::Blackout { for_us } => {
                for host in 0..self.hosts.len() {
                    let more = self.rng.below(for_us + 1);
                    self.power_cut(host, for_us + more);
                }
            }
            Fault::KillDaemon { host, for_us } => self.kill_daemon(host, for_us),
            Fault::KillGuard { host, for_us } => self.kill_guard(host, for_us),
            Fault::FreezeDaemon { host, for_us } => {
                let frozen = &mut self.hosts[host].node.frozen_until;
                *frozen = (*frozen).max(now + for_us);
                self.queue.push(now + for_us, Event::Thaw { host });
            }
            Fault::FreezeGuard { host, for_us } => {
                let frozen = &mut self.hosts[host].guard.frozen_until;
                *frozen = (*frozen).max(now + for_us);
                self.queue.push(now + for_us, Event::Thaw { host });
                self.set_watchdog(host);
            }
            Fault::Pause { host, for_us } => self.pause(host, for_us, false),
            Fault::StopClocks { host, for_us } => self.pause(host, for_us, true),
            Fault::Slew { host, ppm, for_us } => {
                self.slew(host, ppm);
                self.queue.push(now + for_us, Event::EndSlew { host });
            }
            Fault::StuckDisk { host, for_us } => self.hosts[host].disk.stuck_until = now + for_us,
            Fault::SlowDisk {
                host,
                times,
                for_us,
            } => {
                self.hosts[host].disk.slow_until = now + for_us;
                self.hosts[host].disk.slow_times = times;
            }
            Fault::Die { group, resource } => self.die(group, resource),
            Fault::Spoil {
                host,
                group,
                resource,
                how,
                for_us,
            } => {
                self.spoil(host, group, resource, how, for_us);
            }
            Fault::Mirror(fault) => self.inflict_on_mirror(&fault),
            Fault::Operator { at, what } => self.operate(at, what),
            Fault::After {
                trigger,
                delay_us,
                fault,
            } => {
                self.waiting.push((trigger, delay_us, *fault));
            }
        }
    }

    fn cut_off(&mut self, from: usize, to: usize, for_us: u64) {
        let until = &mut self.cut_until[from][to];
        *until = (*until).max(self.now_us + for_us);
    }

    /// Everything in memory is gone; of the write under way all or nothing is on the disk.
    pub fn power_cut(&mut self, host: usize, for_us: u64) {
        let done = self.rng.percent(50);
        let it = &mut self.hosts[host];
        if !it.on {
            return;
        }
        note!(self, "m{} POWER CUT for {} ms", host + 1, for_us / 1000);
        let it = &mut self.hosts[host];
        it.on = false;
        it.power += 1;
        it.guard.end();
        self.end_voter(host);
        let it = &mut self.hosts[host];
        it.node.end();
        it.wanted = None;
        it.promises = None;
        it.gates.clear();
        it.parts.clear();
        it.paused_until = 0;
        it.excused_until = 0;
        if it.clocks.stopped() {
            it.clocks.stop(self.now_us, false);
        }
        self.end_writes(host, done);
        self.mirror_power_cut(host);
        self.queue
            .push(self.now_us + for_us, Event::PowerOn { host });
    }

    /// The device works by a network of its own. Once asked it does its work, whatever becomes of who asked.
    pub(crate) fn use_fence_device(&mut self, by: usize, node: MemberId, boot: HostBoot) {
        let takes = self.rng.range(50_000, 6_000_000);
        let ok = self.rng.percent(85);
        let life = self.hosts[by].node.life;
        note!(self, "m{} fences {node} ({boot})", by + 1);
        self.fences_under_way += 1;
        self.queue.push(
            self.now_us + takes,
            Event::Fenced {
                by,
                life,
                node,
                boot,
                ok,
            },
        );
    }

    pub(crate) fn fenced(
        &mut self,
        by: usize,
        life: u64,
        node: MemberId,
        boot: HostBoot,
        ok: bool,
    ) {
        self.fences_under_way -= 1;
        let result = if ok {
            // Whatever boot it is in by now.
            let off = self.rng.range(500_000, 5_000_000);
            self.power_cut(host_of(node), off);
            Ok(())
        } else {
            Err("the device does not answer".to_owned())
        };
        if self.hosts[by].node.life == life {
            self.tell_node(by, Input::Fenced { node, boot, result });
        }
    }

    fn end_writes(&mut self, host: usize, done: bool) {
        let disk = &mut self.hosts[host].disk;
        if let Some((_, state)) = disk.writing.take()
            && done
        {
            disk.kept = Some(*state);
        }
        disk.waiting = None;
    }

    /// `kill -9`; it is started again after `for_us`. Groups go on.
    pub fn kill_daemon(&mut self, host: usize, for_us: u64) {
        if self.hosts[host].node.it.is_none() {
            return;
        }
        note!(self, "m{} daemon is killed", host + 1);
        let done = self.rng.percent(50);
        self.hosts[host].node.end();
        self.end_writes(host, done);
        self.tell_guard(host, GuardInput::DaemonGone);
        let power = self.hosts[host].power;
        self.queue
            .push(self.now_us + for_us, Event::StartDaemon { host, power });
    }

    /// `kill -9` of the guard; gates stay as they are until the kernel closes them.
    pub fn kill_guard(&mut self, host: usize, for_us: u64) {
        if self.hosts[host].guard.it.is_none() {
            return;
        }
        note!(self, "m{} guard is killed", host + 1);
        self.hosts[host].guard.end();
        self.end_voter(host);
        self.set_watchdog(host);
        let power = self.hosts[host].power;
        self.queue
            .push(self.now_us + for_us, Event::StartGuard { host, power });
    }

    /// The operator (or a policy) ends hotpair on this host in good order.
    pub(crate) fn stop_hotpair(&mut self, host: usize, for_us: u64) {
        note!(self, "m{} stops hotpair", host + 1);
        self.end_mirror(host, for_us);
        for group in self.groups.clone() {
            self.cut(host, &group);
            self.hosts[host].parts.retain(|(of, _), _| *of != group);
        }
        self.kill_daemon(host, for_us);
        self.kill_guard(host, for_us);
    }

    fn pause(&mut self, host: usize, for_us: u64, clocks: bool) {
        let now = self.now_us;
        let it = &mut self.hosts[host];
        if !it.on {
            return;
        }
        it.paused_until = it.paused_until.max(now + for_us);
        if clocks {
            it.clocks.stop(now, true);
        }
        let until = it.paused_until;
        self.touched = true;
        self.queue.push(until, Event::Thaw { host });
    }

    pub(crate) fn slew(&mut self, host: usize, ppm: i64) {
        let now = self.now_us;
        let it = &mut self.hosts[host];
        let raw = it.raw_ppm;
        it.clocks.slew(now, raw + ppm);
    }

    fn set_watchdog(&mut self, host: usize) {
        let power = self.hosts[host].power;
        self.queue
            .push(self.now_us + WATCHDOG_US, Event::Watchdog { host, power });
    }

    pub(crate) fn watchdog(&mut self, host: usize, power: u64) {
        let it = &self.hosts[host];
        // The hardware does not wait for a paused host; only a stopped virtual machine stops its own.
        if !it.on || it.power != power || it.clocks.stopped() {
            return;
        }
        let lives = it.guard.it.is_some() && it.guard.frozen_until <= self.now_us;
        let idle = self.now_us - it.guard.stepped_at < WATCHDOG_US;
        let ungated = self
            .first
            .groups
            .iter()
            .any(|(group, config)| config.ungated && self.runs_anything(host, group));
        if ungated && !lives && !idle {
            note!(self, "m{} is reset by its watchdog", host + 1);
            self.power_cut(host, 3_000_000);
        }
    }

    fn die(&mut self, group: usize, resource: usize) {
        let Some(group) = self.groups.get(group % self.groups.len()).cloned() else {
            return;
        };
        for host in 0..self.hosts.len() {
            let up = self.hosts[host].parts.iter();
            let up = up.filter(|((of, _), part)| *of == group && part.state == PartState::Up);
            let names: Vec<_> = up.map(|(name, _)| name.clone()).collect();
            if let Some(name) = names.get(resource % names.len().max(1)) {
                if self.is_mirror(name) {
                    return self.end_mirror(host, 100_000);
                }
                self.part_died(host, name, "it ended by itself");
                return;
            }
        }
    }

    fn spoil(&mut self, host: usize, group: usize, resource: usize, how: Spoil, for_us: u64) {
        let Some(group) = self.groups.get(group % self.groups.len()).cloned() else {
            return;
        };
        let Some(config) = self.first.groups.get(&group) else {
            return;
        };
        let Some(resource) = config
            .resources
            .keys()
            .nth(resource % config.resources.len())
            .cloned()
        else {
            return;
        };
        let until = self.now_us + for_us;
        self.hosts[host].spoils.push(Spoiled {
            group,
            resource,
            how,
            until,
        });
        if how == Spoil::Unfit {
            self.tell_verdicts(host);
            self.queue.push(until, Event::EndSpoil { host });
        }
    }

    /// Everything that is wrong with the machines and the network ends.
    pub fn heal(&mut self) {
        note!(self, "HEAL");
        self.waiting.clear();
        self.storm = Storm::default();
        for row in &mut self.cut_until {
            row.fill(0);
        }
        for row in &mut self.lanes {
            row.fill(Lane::default());
        }
        self.slow_cut_us.fill(0);
        self.heal_mirror();
        self.heal_disk();
        let base = &mut self.machines.network;
        base.loss_ppm = base.loss_ppm.min(1_000);
        for host in 0..self.hosts.len() {
            self.heal_host(host);
        }
    }

    fn heal_host(&mut self, host: usize) {
        let now = self.now_us;
        let it = &mut self.hosts[host];
        it.paused_until = it.paused_until.min(now);
        it.guard.frozen_until = 0;
        it.node.frozen_until = 0;
        it.disk.stuck_until = 0;
        it.disk.slow_until = 0;
        it.spoils.clear();
        let power = it.power;
        let member = it.boots > 0 && !self.is_disk(host);
        self.slew(host, 0);
        if self.hosts[host].disk.writing.is_some() {
            self.queue.push(now + 1_000, Event::Written { host, power });
        }
        self.thaw(host);
        if member {
            self.queue.push(now + 1, Event::PowerOn { host });
            self.queue.push(now + 2, Event::StartGuard { host, power });
            self.queue.push(now + 3, Event::StartDaemon { host, power });
        }
        self.tell_verdicts(host);
    }
}
