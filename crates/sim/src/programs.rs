//! Simulated resources: they start and stop in their time, fail, hang, die, and are looked at.

use crate::fault::{Spoil, Trigger};
use crate::host::{Part, PartState};
use crate::world::{Event, World, note};
use hotpair_core::config::{Resource, ResourceKind};
use hotpair_core::group::{ActionId, ResourceAction, ResourceFact, Work};
use hotpair_core::ids::{GroupId, ResourceId};
use hotpair_core::node::Input;
use std::time::Duration;

type Name = (GroupId, ResourceId);

fn us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl World {
    fn resource(&self, host: usize, name: &Name) -> Option<Resource> {
        let document = self.hosts[host].document.as_ref();
        let config = document.map_or(&self.first, |document| &document.config);
        config.groups.get(&name.0)?.resources.get(&name.1).cloned()
    }

    /// The executor takes up work on a resource. Whatever happens, it will say how it ended, once.
    pub(crate) fn begin_work(&mut self, host: usize, action: ResourceAction) {
        let name = (action.group, action.resource);
        note!(
            self,
            "m{} {:?} {}/{} {}",
            host + 1,
            action.work,
            name.0,
            name.1,
            action.epoch
        );
        if action.work == Work::Stop {
            self.fire(Trigger::Stop);
        }
        if action.work == Work::Check {
            self.look(host, &name);
            self.done_in(host, 5_000, action.id, Ok(()));
            return;
        }
        let Some(resource) = self.resource(host, &name) else {
            self.hosts[host].parts.remove(&name);
            self.touched = true;
            self.done_in(host, 500, action.id, Ok(()));
            return;
        };
        // A mirror's process is the daemon's, not the group's.
        let process = !matches!(
            resource.kind,
            ResourceKind::Address(_) | ResourceKind::Mirror(_)
        );
        let part = self.hosts[host].parts.entry(name.clone()).or_insert(Part {
            state: PartState::Down,
            epoch: action.epoch,
            process,
            work: None,
            change: 0,
        });
        if let Some((earlier, _, _)) = part.work.take() {
            part.change += 1;
            self.done_in(host, 100, earlier, Err("replaced by another order".into()));
        }
        let part_is_down = self.hosts[host]
            .parts
            .get(&name)
            .is_some_and(|part| part.state == PartState::Down);
        if self.is_mirror(&name) {
            let (id, work, epoch) = (action.id, action.work, action.epoch);
            let limits = (resource.start_timeout, resource.stop_timeout);
            if part_is_down && work != Work::Start {
                self.done_in(host, 300, id, Ok(()));
            } else {
                self.begin_mirror_work(host, id, work, epoch, limits);
            }
            return;
        }
        match action.work {
            Work::Start => self.begin_start(host, &name, &resource, action.id, action.epoch),
            Work::Stop => self.begin_stop(host, &name, &resource, action.id),
            Work::Kill if part_is_down => self.done_in(host, 300, action.id, Ok(())),
            Work::Kill => self.enter(
                host,
                &name,
                PartState::Stopping,
                Some((action.id, Work::Kill)),
                3_000,
                true,
            ),
            Work::Check => {}
        }
    }

    fn begin_start(
        &mut self,
        host: usize,
        name: &Name,
        resource: &Resource,
        id: ActionId,
        epoch: hotpair_core::ids::Epoch,
    ) {
        if !self.hosts[host].passes(&name.0, self.now_us) {
            self.done_in(
                host,
                300,
                id,
                Err("the guard has not permitted this group".into()),
            );
            return;
        }
        let Some(part) = self.hosts[host].parts.get_mut(name) else {
            return;
        };
        part.epoch = epoch;
        if part.state == PartState::Up {
            self.done_in(host, 300, id, Ok(()));
            return;
        }
        let now = self.now_us;
        let spoiled = |how| self.hosts[host].spoiled(&name.0, &name.1, how, now);
        let (hangs, fails) = (spoiled(Spoil::StartHangs), spoiled(Spoil::StartFails));
        let takes = if hangs {
            us(resource.start_timeout)
        } else {
            self.takes(resource)
        };
        self.enter(
            host,
            name,
            PartState::Starting,
            Some((id, Work::Start)),
            takes,
            !hangs && !fails,
        );
    }

    fn begin_stop(&mut self, host: usize, name: &Name, resource: &Resource, id: ActionId) {
        let state = self.hosts[host].parts.get(name).map(|part| part.state);
        if state == Some(PartState::Down) {
            self.done_in(host, 300, id, Ok(()));
            return;
        }
        let now = self.now_us;
        let spoiled = |how| self.hosts[host].spoiled(&name.0, &name.1, how, now);
        let (hangs, fails) = (spoiled(Spoil::StopHangs), spoiled(Spoil::StopFails));
        let takes = if hangs {
            us(resource.stop_timeout)
        } else {
            self.takes(resource)
        };
        self.enter(
            host,
            name,
            PartState::Stopping,
            Some((id, Work::Stop)),
            takes,
            !hangs && !fails,
        );
    }

    fn takes(&mut self, resource: &Resource) -> u64 {
        let (low, high) = self.machines.program_us;
        match resource.kind {
            ResourceKind::Address(_) => self.rng.range(300, 2_000),
            _ => self.rng.range(low, high).min(us(resource.start_timeout)),
        }
    }

    pub(crate) fn enter(
        &mut self,
        host: usize,
        name: &Name,
        state: PartState,
        work: Option<(ActionId, Work)>,
        takes: u64,
        ok: bool,
    ) {
        let life = self.hosts[host].node.life;
        let power = self.hosts[host].power;
        let Some(part) = self.hosts[host].parts.get_mut(name) else {
            return;
        };
        part.state = state;
        part.change += 1;
        part.work = work.map(|(id, work)| (id, work, life));
        let change = part.change;
        self.touched = true;
        let event = Event::Worked {
            host,
            power,
            part: name.clone(),
            change,
            ok,
        };
        self.queue.push(self.now_us + takes, event);
    }

    pub(crate) fn worked(&mut self, host: usize, power: u64, name: Name, change: u64, ok: bool) {
        let residue = self.rng.percent(50);
        let it = &mut self.hosts[host];
        if it.power != power {
            return;
        }
        if it.paused_until > self.now_us {
            let at = it.paused_until + 500;
            self.queue.push(
                at,
                Event::Worked {
                    host,
                    power,
                    part: name,
                    change,
                    ok,
                },
            );
            return;
        }
        if it.parts.get(&name).is_none_or(|part| part.change != change) {
            return;
        }
        if self.mirror.is_some() && self.is_mirror(&name) {
            return self.mirror_worked(host, ok);
        }
        let Some(part) = self.hosts[host].parts.get_mut(&name) else {
            return;
        };
        part.state = match (part.state, ok) {
            (PartState::Starting, true) => PartState::Up,
            // What a failed start left behind may go on running.
            (PartState::Starting, false) if residue => PartState::Up,
            (PartState::Stopping, false) => PartState::Up,
            _ => PartState::Down,
        };
        part.change += 1;
        let state = part.state;
        let work = part.work.take();
        self.touched = true;
        note!(
            self,
            "m{} {}/{} is {state:?} (ok {ok})",
            host + 1,
            name.0,
            name.1
        );
        if let Some((id, kind, life)) = work
            && life == self.hosts[host].node.life
        {
            let result = if ok {
                Ok(())
            } else {
                Err(format!("{kind:?} failed as the simulation wants it"))
            };
            self.done_in(host, 60, id, result);
            if kind == Work::Start && ok {
                self.look(host, &name);
            }
        }
    }

    pub(crate) fn done_in(
        &mut self,
        host: usize,
        delay_us: u64,
        id: ActionId,
        result: Result<(), String>,
    ) {
        self.tell_node_in(host, delay_us, Input::Done { id, result });
    }

    /// The guard closes the gate and kills what runs; an address stays on its NIC, without packets.
    pub(crate) fn cut(&mut self, host: usize, group: &GroupId) {
        if self.hosts[host].gates.remove(group).is_some() {
            note!(self, "m{} cuts {group}", host + 1);
        }
        self.touched = true;
        let parts = self.hosts[host].parts.iter();
        let running = parts
            .filter(|((of, _), part)| of == group && part.state != PartState::Down && part.process);
        let names: Vec<Name> = running.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.part_died(host, &name, "killed by the guard");
        }
    }

    /// Its processes are gone.
    pub(crate) fn part_died(&mut self, host: usize, name: &Name, why: &str) {
        let Some(part) = self.hosts[host].parts.get_mut(name) else {
            return;
        };
        let was = part.state;
        part.state = PartState::Down;
        part.change += 1;
        let (process, epoch, work) = (part.process, part.epoch, part.work.take());
        self.touched = true;
        note!(self, "m{} {}/{} died: {why}", host + 1, name.0, name.1);
        if let Some((id, kind, _)) = work {
            let result = if kind == Work::Start {
                Err(why.to_owned())
            } else {
                Ok(())
            };
            self.done_in(host, 400, id, result);
        } else if process && was == PartState::Up {
            let (group, resource) = name.clone();
            let fact = ResourceFact::Exited {
                epoch,
                detail: why.to_owned(),
            };
            self.tell_node_in(
                host,
                400,
                Input::Fact {
                    group,
                    resource,
                    fact,
                },
            );
        } else if was == PartState::Up {
            // The host watches its addresses: one that somebody removed is seen at once.
            let (group, resource) = name.clone();
            let fact = ResourceFact::Detected {
                running: false,
                detail: why.to_owned(),
            };
            self.tell_node_in(
                host,
                400,
                Input::Fact {
                    group,
                    resource,
                    fact,
                },
            );
        }
    }

    /// A daemon that has just started finds what an earlier one left.
    pub(crate) fn adopt(&mut self, host: usize) {
        let parts = self.hosts[host].parts.iter();
        // Of a mirror only what is open counts.
        let found = parts.filter(|(name, part)| match part.state {
            PartState::Down => false,
            PartState::Up => true,
            PartState::Starting | PartState::Stopping => !self.is_mirror(name),
        });
        let found: Vec<_> = found
            .map(|(name, part)| (name.clone(), part.epoch))
            .collect();
        for ((group, resource), epoch) in found {
            let fact = ResourceFact::Adopted { epoch };
            self.to_node(
                host,
                Input::Fact {
                    group,
                    resource,
                    fact,
                },
            );
        }
    }

    /// The detectors of every group of this host's document run.
    pub(crate) fn detect(&mut self, host: usize, life: u64) {
        if self.hosts[host].node.life != life || self.hosts[host].node.it.is_none() {
            return;
        }
        if self.hosts[host].paused_until <= self.now_us {
            for name in self.resources_of(host) {
                self.look(host, &name);
            }
            self.tell_verdicts(host);
        }
        self.queue
            .push(self.now_us + 5_000_000, Event::Detect { host, life });
    }

    fn resources_of(&self, host: usize) -> Vec<Name> {
        let me = crate::cluster::member(host);
        let Some(document) = &self.hosts[host].document else {
            return Vec::new();
        };
        let mine = document
            .config
            .groups
            .iter()
            .filter(|(_, group)| group.nodes.contains(&me));
        mine.flat_map(|(group, config)| {
            config
                .resources
                .keys()
                .map(|resource| (group.clone(), resource.clone()))
        })
        .collect()
    }

    fn look(&mut self, host: usize, name: &Name) {
        // An agent is its own detector.
        let detected = self.resource(host, name).is_some_and(|config| {
            !config.detectors.is_empty() || matches!(config.kind, ResourceKind::Ocf(_))
        });
        let state = self.hosts[host]
            .parts
            .get(name)
            .map_or(PartState::Down, |part| part.state);
        if !detected || matches!(state, PartState::Starting | PartState::Stopping) {
            return;
        }
        let lie = self.hosts[host].spoiled(&name.0, &name.1, Spoil::Lie, self.now_us);
        let running = (state == PartState::Up) != lie;
        let (group, resource) = name.clone();
        let detail = String::from(if running {
            "it runs"
        } else {
            "no such process"
        });
        let fact = ResourceFact::Detected { running, detail };
        self.tell_node_in(
            host,
            2_000,
            Input::Fact {
                group,
                resource,
                fact,
            },
        );
    }

    /// Could this host run each resource?
    pub(crate) fn tell_verdicts(&mut self, host: usize) {
        for (group, resource) in self.resources_of(host) {
            let unfit = self.hosts[host].spoiled(&group, &resource, Spoil::Unfit, self.now_us);
            let problems = if unfit {
                vec!["the NIC has no carrier".to_owned()]
            } else {
                Vec::new()
            };
            let fact = ResourceFact::Verdict { problems };
            self.tell_node_in(
                host,
                100,
                Input::Fact {
                    group,
                    resource,
                    fact,
                },
            );
        }
    }
}
