//! Faults as the keeper carries them out, and their undoing.

use crate::clock::now_us;
use crate::control::Injection;
use crate::error::{LabError, Result};
use crate::fault::{Direction, Fault, Target};
use crate::host::Host;
use crate::keeper::Keeper;
use crate::plan::Network;
use crate::rtnl_hold::Hold;
use crate::switch::Filter;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;

impl Keeper {
    /// Carries out a fault at a host.
    pub fn inject(&mut self, name: &str, fault: Fault) -> Result<Injection> {
        self.host(name)?;
        match fault {
            Fault::PowerCut => self.cut_power(name),
            Fault::Reboot => {
                let injection = self.cut_power(name)?;
                self.boot(name)?;
                Ok(Injection {
                    detail: format!("{name} booted again"),
                    ..injection
                })
            }
            Fault::Boot => {
                let host = self.host(name)?;
                if host.powered.is_some() {
                    return Err(host.state_error("runs already"));
                }
                timed(format!("{name} booted"), || self.boot(name))
            }
            Fault::CutLinks => self.cut_links(name, &Network::ALL),
            Fault::CutLink(network) => self.cut_links(name, &[network]),
            Fault::OneWayCut(Direction::In) => self.filter(name, |f| f.cut_in = true),
            Fault::OneWayCut(Direction::Out) => self.filter(name, |f| f.cut_out = true),
            Fault::CutPeers => self.filter(name, |f| f.cut_peers = true),
            Fault::Loss(percent) => self.filter(name, |f| f.loss_percent = percent),
            Fault::Pause => pause(self.host(name)?, true),
            Fault::Resume => pause(self.host(name)?, false),
            Fault::Kill(target) => signal(self.host(name)?, target, Signal::SIGKILL),
            Fault::Freeze(target) => signal(self.host(name)?, target, Signal::SIGSTOP),
            Fault::NicDown(index) => nic_down(self.host(name)?, index),
            Fault::RtnlHold(ms) => {
                let hold = Hold::prepare(Duration::from_millis(u64::from(ms)))?;
                timed(format!("rtnl lock busy for {ms} ms"), || hold.start())
            }
        }
    }

    /// Undoes all network faults, lets everything go on that stands still, boots what is off.
    pub fn heal(&mut self) -> Result<()> {
        self.filters.clear();
        let nodes = self.nodes();
        self.switch.apply(&self.filters, &nodes)?;
        let names: Vec<_> = self.hosts.iter().map(|h| h.plan.name.clone()).collect();
        for name in &names {
            let switch_ports = {
                let host = self.host(name)?;
                host.links_cut.clear();
                host.powered.is_some().then(|| host.plan.ports())
            };
            let Some(ports) = switch_ports else {
                self.boot(name)?;
                continue;
            };
            self.switch.set_ports(&ports, true)?;
            let host = self.host(name)?;
            if host.paused {
                pause(host, false)?;
            }
            let living = host.cgroup.processes();
            for pid in host.stopped.drain(..).filter(|pid| living.contains(pid)) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            }
            host.restore_network()?;
            host.start_services()?;
        }
        Ok(())
    }

    fn cut_links(&mut self, name: &str, networks: &[Network]) -> Result<Injection> {
        let host = self.host(name)?;
        let had: Vec<Network> = host
            .plan
            .nics
            .iter()
            .map(|nic| nic.network)
            .filter(|n| networks.contains(n))
            .collect();
        if had.is_empty() {
            return Err(host.state_error("has no such link: witness and client are on lan only"));
        }
        if host.powered.is_none() {
            return Err(host.state_error("has no power, and so no links to cut"));
        }
        host.links_cut.retain(|network| !had.contains(network));
        host.links_cut.extend(&had);
        let ports = host.plan.ports_on(&had);
        timed(format!("{} have no carrier", ports.join(", ")), || {
            self.switch.set_ports(&ports, false)
        })
    }

    fn filter(&mut self, name: &str, change: impl FnOnce(&mut Filter)) -> Result<Injection> {
        change(self.filters.entry(name.to_owned()).or_default());
        let nodes = self.nodes();
        timed(format!("the switch filters frames of {name}"), || {
            self.switch.apply(&self.filters, &nodes)
        })
    }
}

fn timed(detail: String, action: impl FnOnce() -> Result<()>) -> Result<Injection> {
    let at_mono_us = now_us();
    action()?;
    Ok(Injection {
        at_mono_us,
        done_mono_us: now_us(),
        detail,
    })
}

fn pause(host: &mut Host, on: bool) -> Result<Injection> {
    let name = host.plan.name.clone();
    if host.powered.is_none() {
        return Err(host.state_error("has no power: start it with `hotpair lab fault boot`"));
    }
    if host.paused == on {
        return Err(host.state_error(if on {
            "is paused already"
        } else {
            "is not paused"
        }));
    }
    let at_mono_us = now_us();
    host.cgroup
        .freeze(on)
        .map_err(|e| LabError::system(format!("freeze or thaw {name}"), e))?;
    host.paused = on;
    let reached = host.cgroup.wait_frozen(on);
    let word = if on { "paused" } else { "resumed" };
    let detail = format!(
        "{name} {word}{}",
        if reached {
            ""
        } else {
            ", though not all of it within 1 s"
        }
    );
    Ok(Injection {
        at_mono_us,
        done_mono_us: now_us(),
        detail,
    })
}

fn signal(host: &mut Host, target: Target, signal: Signal) -> Result<Injection> {
    let hit: Vec<i32> = host
        .cgroup
        .processes()
        .into_iter()
        .filter(|pid| is_target(*pid, target))
        .collect();
    if hit.is_empty() {
        let what = match target {
            Target::Daemon => "no process `hotpair daemon` or `hotpair witness`",
            Target::Guard => "no process `hotpair guard`",
            Target::App => "no process of a group, and no sample application",
        };
        return Err(host.state_error(&format!("runs {what}")));
    }
    let at_mono_us = now_us();
    for pid in &hit {
        let _ = kill(Pid::from_raw(*pid), signal);
    }
    let done_mono_us = now_us();
    if signal == Signal::SIGSTOP {
        host.stopped.extend(&hit);
    }
    Ok(Injection {
        at_mono_us,
        done_mono_us,
        detail: format!("{signal} to {} processes of {}", hit.len(), host.plan.name),
    })
}

fn is_target(pid: i32, target: Target) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line
        .split(|b| *b == 0)
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect();
    let program = words
        .first()
        .and_then(|w| w.rsplit('/').next())
        .unwrap_or("");
    let hotpair = program.starts_with("hotpair");
    // Options may stand before the subcommand's name.
    let has = |name: &str| hotpair && words.iter().skip(1).take(4).any(|w| w == name);
    let in_group = || {
        fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .is_ok_and(|text| text.contains("/groups/"))
    };
    match target {
        Target::Daemon => has("daemon") || has("witness"),
        Target::Guard => has("guard"),
        Target::App => has("sample-app") || in_group(),
    }
}

fn nic_down(host: &mut Host, index: u8) -> Result<Injection> {
    let name = format!("eth{index}");
    if !host.plan.nics.iter().any(|nic| nic.name == name) {
        return Err(host.state_error(&format!(
            "has no interface {name}: witness and client have eth0 only"
        )));
    }
    let Some(powered) = &host.powered else {
        return Err(host.state_error("has no power"));
    };
    let what = format!("set {name} of {} down", host.plan.name);
    timed(format!("{name} of {} is down", host.plan.name), || {
        powered
            .rtnl
            .set_links(&[name], false)
            .map_err(|e| LabError::system(what, e))
    })
}
