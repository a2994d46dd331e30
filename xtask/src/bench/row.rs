//! The rows of the table: what happens, and how much a client may notice.

use super::bed::{Bed, GROUP};
use super::guests::{GuestBed, Trouble};
use anyhow::{Result, bail};
use hotpair_lab::plan::{Network, VIRTUAL_IP};
use hotpair_lab::probe::ProbeReport;
use hotpair_lab::{Fault, Profile, Target, clock};
use serde::Serialize;
use std::net::Ipv4Addr;
use std::time::Duration;

/// One kind of fault.
pub struct Row {
    pub name: &'static str,
    pub title: &'static str,
    /// Longest median outage in ms at `standard` and at `fast`; 0: nobody outside may notice.
    target_ms: [f64; 2],
    /// Longest double answer in ms that is allowed at `standard` and at `fast`.
    double_ms: [u64; 2],
    happens: Happens,
}

/// What is done, to which host.
#[derive(Clone, Copy)]
enum Happens {
    Active(&'static [Fault]),
    Standby(&'static [Fault]),
    Witness(&'static [Fault]),
    Switch,
    MutualCutPeers,
    SurvivorDaemonKill,
    ChangeThenPowerCut,
    /// The active node is a guest with a kernel of its own.
    Guests(Trouble),
}

/// What a client outside saw in one run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// Longest outage from the fault on until it was healed.
    pub outage_ms: f64,
    /// Longest outage from healing on until everybody was well again.
    pub heal_outage_ms: f64,
    /// Milliseconds in which two nodes answered, from the fault until everybody was well again.
    pub double_answer_ms: u64,
    /// Milliseconds in which two hosts held the address, paused ones included; harmless while
    /// gates keep all but one silent.
    pub double_held_ms: f64,
    /// A guest that stood still gave its last answer to what it had been asked before that so many
    /// milliseconds after it went on. No double answer, by sending time of the requests.
    pub late_answer_ms: f64,
    /// Another node runs the group afterwards.
    pub moved: bool,
}

const HANDOVER: [f64; 2] = [1000.0, 250.0];
/// Two leases and 0.3 s.
const LEASES: [f64; 2] = [1500.0, 660.0];
const UNNOTICED: [f64; 2] = [0.0, 0.0];

const fn row(
    name: &'static str,
    title: &'static str,
    target_ms: [f64; 2],
    happens: Happens,
) -> Row {
    Row {
        name,
        title,
        target_ms,
        double_ms: [0, 0],
        happens,
    }
}

/// A row whose active node is a guest; `double_ms` as in [`Row`].
const fn guests(
    name: &'static str,
    title: &'static str,
    target_ms: [f64; 2],
    double_ms: [u64; 2],
    trouble: Trouble,
) -> Row {
    Row {
        double_ms,
        ..row(name, title, target_ms, Happens::Guests(trouble))
    }
}

/// A heartbeat and a round trip, for which an emulated node takes up to 50 ms.
const HEARTBEAT: [u64; 2] = [150, 70];

use Fault::{CutLink, CutLinks, Freeze, Kill, Pause, PowerCut, RtnlHold};
use Happens::{Active, Standby, Witness};

/// All rows in the order of the table.
pub const ROWS: &[Row] = &[
    row(
        "power-cut",
        "power cut of the active node",
        HANDOVER,
        Active(&[PowerCut]),
    ),
    row(
        "cut-links",
        "all links of the active node cut",
        HANDOVER,
        Active(&[CutLinks]),
    ),
    row(
        "pause",
        "whole host paused, later resumed",
        HANDOVER,
        Active(&[Pause]),
    ),
    // 100 ms and the sample application's own start.
    row(
        "kill-app",
        "application killed",
        [120.0, 120.0],
        Active(&[Kill(Target::App)]),
    ),
    // Detector interval 1 s, timeout 1 s, and 200 ms.
    row(
        "freeze-app",
        "application frozen",
        [2200.0, 2200.0],
        Active(&[Freeze(Target::App)]),
    ),
    row(
        "kill-daemon",
        "daemon killed",
        UNNOTICED,
        Active(&[Kill(Target::Daemon)]),
    ),
    row(
        "freeze-daemon",
        "daemon frozen",
        LEASES,
        Active(&[Freeze(Target::Daemon)]),
    ),
    row(
        "switch",
        "planned switchover",
        [80.0, 80.0],
        Happens::Switch,
    ),
    row(
        "witness-kill",
        "power cut of the witness",
        UNNOTICED,
        Witness(&[PowerCut]),
    ),
    row(
        "witness-restart",
        "witness killed and restarted",
        UNNOTICED,
        Witness(&[Kill(Target::Daemon)]),
    ),
    row(
        "cut-one-link",
        "one of two links cut",
        UNNOTICED,
        Active(&[CutLink(Network::Hb)]),
    ),
    row(
        "standby-power-cut",
        "power cut of the standby",
        UNNOTICED,
        Standby(&[PowerCut]),
    ),
    row(
        "mutual-cut-peers",
        "mutual standby, node-to-node links cut",
        UNNOTICED,
        Happens::MutualCutPeers,
    ),
    row(
        "survivor-daemon-kill",
        "survivor and witness only: daemon killed",
        UNNOTICED,
        Happens::SurvivorDaemonKill,
    ),
    row(
        "change-then-power-cut",
        "power cut right after a change",
        HANDOVER,
        Happens::ChangeThenPowerCut,
    ),
    row(
        "guard-kill",
        "guard killed",
        LEASES,
        Active(&[Kill(Target::Guard)]),
    ),
    row(
        "guard+daemon-freeze",
        "guard and daemon frozen",
        LEASES,
        Active(&[Freeze(Target::Guard), Freeze(Target::Daemon)]),
    ),
    row(
        "rtnl-hold",
        "daemon frozen, rtnl lock held for 2 s",
        LEASES,
        Active(&[RtnlHold(2000), Freeze(Target::Daemon)]),
    ),
    guests(
        "guest-pause",
        "QEMU guest stopped for 5 s and continued",
        HANDOVER,
        HEARTBEAT,
        Trouble::Pause,
    ),
    guests(
        "guest-rtnl-hold",
        "QEMU guest: daemon frozen, its own rtnl lock busy for 3 s",
        LEASES,
        [0, 0],
        Trouble::RtnlHold,
    ),
];

impl Row {
    /// Longest median outage in ms.
    pub fn target_ms(&self, profile: Profile) -> f64 {
        self.target_ms[usize::from(profile == Profile::Fast)]
    }

    /// Longest double answer in ms that is allowed.
    pub fn double_ms(&self, profile: Profile) -> u64 {
        self.double_ms[usize::from(profile == Profile::Fast)]
    }

    /// What happens, if the active node is a guest.
    pub fn guests(&self) -> Option<Trouble> {
        match self.happens {
            Happens::Guests(trouble) => Some(trouble),
            _ => None,
        }
    }

    /// One run with a guest.
    pub fn run_on_guests(bed: &GuestBed, trouble: Trouble, run: u32) -> Result<Sample> {
        let seen = bed.run_trouble(trouble, run)?;
        let watched = sample(&seen.report, seen.injected_us, seen.healed_us)?;
        // Part of a millisecond counts as one.
        let stale_ms = micros(seen.stale_ms).div_ceil(1000);
        Ok(Sample {
            double_answer_ms: watched.double_answer_ms.max(stale_ms),
            late_answer_ms: seen.late_ms,
            moved: seen.moved,
            ..watched
        })
    }

    /// One run, from everybody well to everybody well again.
    pub fn run(&self, bed: &Bed, run: u32) -> Result<Sample> {
        let (active, standby) = bed.settled()?;
        // Spread over the phases of heartbeats and detectors.
        std::thread::sleep(Duration::from_millis(u64::from(run) * 37 % 100));
        let seen = match self.happens {
            Active(faults) => self.watched(bed, VIRTUAL_IP, || hit(bed, active, faults))?,
            Standby(faults) => self.watched(bed, VIRTUAL_IP, || hit(bed, standby, faults))?,
            Witness(faults) => self.watched(bed, VIRTUAL_IP, || hit(bed, "witness", faults))?,
            Happens::Switch => self.watched(bed, VIRTUAL_IP, || switch(bed, active, standby))?,
            Happens::MutualCutPeers => self.mutual(bed, active, standby)?,
            Happens::SurvivorDaemonKill => {
                bed.fault(standby, PowerCut)?;
                std::thread::sleep(bed.lease() * 3);
                self.watched(bed, VIRTUAL_IP, || {
                    hit(bed, active, &[Kill(Target::Daemon)])
                })?
            }
            Happens::Guests(_) => bail!("{} needs guests", self.name),
            Happens::ChangeThenPowerCut => {
                let changed = described(bed, active, run)?;
                self.watched(bed, VIRTUAL_IP, || {
                    bed.apply(active, &changed)?;
                    hit(bed, active, &[PowerCut])
                })?
            }
        };
        let (now, _) = bed.settled()?;
        Ok(Sample {
            moved: now != active,
            ..seen
        })
    }

    /// Watches an address over the fault, the time it has to be dealt with, and the healing.
    fn watched(
        &self,
        bed: &Bed,
        address: Ipv4Addr,
        fault: impl FnOnce() -> Result<u64>,
    ) -> Result<Sample> {
        let probe = bed.probe(address)?;
        let injected = fault();
        std::thread::sleep(self.observation(bed));
        let healed = clock::now_us();
        bed.lab.heal()?;
        let settled = bed.settled();
        let report = probe.finish()?;
        settled?;
        sample(&report, injected?, healed)
    }

    /// Mutual standby: a second group on the other node, its address watched too.
    fn mutual(&self, bed: &Bed, active: &str, standby: &str) -> Result<Sample> {
        let before = bed.hotpair(active, &["config", "show"])?;
        bed.apply(active, &(before.clone() + &second(standby, active)))?;
        bed.settled()?;
        let other = bed.probe(SECOND)?;
        let at = clock::now_us();
        let first = self.watched(bed, VIRTUAL_IP, || hit(bed, active, &[Fault::CutPeers]));
        let other = sample(&other.finish()?, at, u64::MAX)?;
        bed.hotpair(active, &["group", "stop", "second"])?;
        bed.apply(active, &before)?;
        let first = first?;
        Ok(Sample {
            outage_ms: first.outage_ms.max(other.outage_ms),
            double_answer_ms: first.double_answer_ms.max(other.double_answer_ms),
            double_held_ms: first.double_held_ms.max(other.double_held_ms),
            ..first
        })
    }

    /// Long enough for what must happen, and for what must not.
    fn observation(&self, bed: &Bed) -> Duration {
        let target = Duration::from_secs_f64(self.target_ms(bed.profile) / 1000.0);
        let least = match self.happens {
            // Witness silence pins groups after 10 s, which is another matter; leases end before.
            Witness(_) | Standby(_) => bed.lease() * 4,
            _ => bed.lease() * 3,
        };
        (target * 2).max(least)
    }
}

/// The second group's address.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 51);

fn second(first: &str, then: &str) -> String {
    format!(
        r#"
[group.second]
nodes = ["{first}", "{then}"]

[group.second.address.second-ip]
address = "{SECOND}/24"
nics = ["eth0"]

[group.second.service.second-app]
command = ["/run/bin/hotpair", "lab", "sample-app", "--listen", "{SECOND}:8077"]
requires = ["second-ip"]
"#
    )
}

fn hit(bed: &Bed, host: &str, faults: &[Fault]) -> Result<u64> {
    let mut at = None;
    for &fault in faults {
        let now = bed.fault(host, fault)?;
        at.get_or_insert(now);
    }
    Ok(at.unwrap_or_else(clock::now_us))
}

fn switch(bed: &Bed, active: &str, standby: &str) -> Result<u64> {
    let at = clock::now_us();
    bed.hotpair(active, &["group", "switch", GROUP, "--to", standby])?;
    Ok(at)
}

/// The present configuration with another description of a node, which touches nothing.
fn described(bed: &Bed, host: &str, run: u32) -> Result<String> {
    let text = bed.hotpair(host, &["config", "show"])?;
    let kept = text
        .lines()
        .filter(|line| !line.starts_with("description = "));
    let mut changed = String::new();
    for line in kept {
        changed.push_str(line);
        changed.push('\n');
        if line == "name = \"node1\"" {
            changed.push_str(&format!(
                "description = \"run {run}, {}\"\n",
                clock::now_us()
            ));
        }
    }
    if changed == text {
        bail!("node1 is not in the configuration");
    }
    Ok(changed)
}

/// Reads a probe's report: the outage of the fault, and that of its healing.
pub(super) fn sample(report: &ProbeReport, injected: u64, healed: u64) -> Result<Sample> {
    if report.answers == 0 {
        bail!("nobody answered before the fault");
    }
    let longest = |from: u64, to: u64| {
        let within = report.outages.iter().filter(|o| {
            let end = o.start_mono_us.saturating_add(micros(o.length_ms));
            // An outage that goes on when the fault is healed counts to the fault.
            end > from && o.start_mono_us < to && o.start_mono_us + 20_000 > from
        });
        within.map(|o| o.length_ms).fold(0.0, f64::max)
    };
    Ok(Sample {
        outage_ms: longest(injected, healed),
        heal_outage_ms: longest(healed, u64::MAX),
        double_answer_ms: report.double_answer_ms,
        double_held_ms: report.double_held_with_paused_ms,
        late_answer_ms: 0.0,
        moved: false,
    })
}

fn micros(ms: f64) -> u64 {
    Duration::from_secs_f64(ms.max(0.0) / 1000.0)
        .as_micros()
        .try_into()
        .unwrap_or(u64::MAX)
}
