//! What a cluster costs in which nothing happens.

use super::bed::Bed;
use super::table::{Machine, Report};
use anyhow::{Result, bail};
use hotpair_lab::{Profile, Program};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Measured over this time.
const SPAN: Duration = Duration::from_secs(20);

/// Target at `standard`: 20 MB resident for daemon and guard together.
const MOST_KIB: u64 = 20_000;

/// Target at `standard`: 1 % of one core.
const MOST_PERCENT: f64 = 1.0;

/// Clock ticks in a second of `/proc/PID/stat`: 100 on every Linux.
const TICKS: f64 = 100.0;

/// Daemon and guard (or the witness daemon) of one host.
#[derive(Serialize)]
pub struct Cost {
    pub host: String,
    pub profile: &'static str,
    /// Resident memory of all its processes, in KiB: what they share, the program above all, counts
    /// for each of them (RSS).
    pub resident_kib: u64,
    /// The same, but what is shared counts once: memory of their own, and the files of the one that has
    /// most of them mapped.
    pub once_kib: u64,
    /// Of one core.
    pub cpu_percent: f64,
}

impl Cost {
    pub fn good(&self) -> bool {
        let asked = self.profile == Profile::Standard.name();
        !asked || (self.resident_kib <= MOST_KIB && self.cpu_percent <= MOST_PERCENT)
    }
}

/// Measures all hosts at both profiles.
pub fn run(program: &Program) -> Result<Report> {
    let machine = Machine::start();
    let mut report = Report::default();
    println!(
        "\n| Idle | profile | resident MB | shared counted once, MB | % of one core |\n|---|---|---|---|---|"
    );
    for profile in [Profile::Standard, Profile::Fast] {
        let bed = Bed::up(program, profile)?;
        for cost in measure(&bed)? {
            #[allow(clippy::cast_precision_loss)]
            let mb = |kib: u64| kib as f64 * 1024.0 / 1e6;
            println!(
                "| {} | {} | {:.1} | {:.1} | {:.2} |",
                cost.host,
                cost.profile,
                mb(cost.resident_kib),
                mb(cost.once_kib),
                cost.cpu_percent
            );
            report.idle.push(cost);
        }
    }
    report.machine = machine.end();
    Ok(report)
}

fn measure(bed: &Bed) -> Result<Vec<Cost>> {
    let mut hosts = Vec::new();
    for host in bed.lab.status()?.hosts {
        let pids = ours(&host.cgroup);
        if !pids.is_empty() {
            let then = ticks(&pids);
            hosts.push((host.plan.name, pids, then));
        }
    }
    if hosts.is_empty() {
        bail!("no process of hotpair runs in the lab");
    }
    let began = Instant::now();
    std::thread::sleep(SPAN);
    let passed = began.elapsed().as_secs_f64();
    Ok(hosts
        .into_iter()
        .map(|(host, pids, then)| Cost {
            host,
            profile: bed.profile.name(),
            resident_kib: pids.iter().map(|&pid| memory(pid, "VmRSS:")).sum(),
            once_kib: pids.iter().map(|&pid| memory(pid, "RssAnon:")).sum::<u64>()
                + pids
                    .iter()
                    .map(|&pid| memory(pid, "RssFile:"))
                    .max()
                    .unwrap_or(0),
            cpu_percent: (ticks(&pids) - then) / TICKS / passed * 100.0,
        })
        .collect())
}

/// Daemons, guards and witness daemons in a cgroup and those below.
fn ours(cgroup: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut left = vec![cgroup.to_owned()];
    while let Some(dir) = left.pop() {
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        let below = fs::read_dir(&dir).into_iter().flatten().flatten();
        left.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    found.retain(|&pid| is_ours(pid));
    found
}

fn is_ours(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let word = line.split(|b| *b == 0).nth(1).unwrap_or_default();
    [&b"daemon"[..], b"guard", b"witness"].contains(&word)
}

fn ticks(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name in brackets: user time is the 12th field from there, system time next.
        let fields = text.rsplit(") ").next().unwrap_or("").split(' ');
        let times = fields
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse::<f64>().ok());
        times.sum::<f64>()
    };
    pids.iter().map(of).sum()
}

/// A field of `/proc/PID/status`, in KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}
