//! Endurance: a heavily loaded machine is no reason to move anything.

use super::bed::{Bed, GROUP};
use anyhow::{Context, Result};
use hotpair_lab::plan::VIRTUAL_IP;
use hotpair_lab::{Profile, Program};
use serde::Serialize;
use std::fs::File;
use std::io::{Seek, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The client's observations are taken in pieces of this length.
const PIECE: Duration = Duration::from_secs(60);

/// What happened under load.
#[derive(Serialize)]
pub struct Soaked {
    pub profile: &'static str,
    pub minutes: f64,
    pub busy: u32,
    /// How often the load reached the disk.
    pub syncs: u64,
    /// Changes of the node that answered, and of the group's epoch.
    pub failovers: u64,
    pub double_answer_ms: u64,
    pub longest_outage_ms: f64,
}

impl Soaked {
    pub fn good(&self) -> bool {
        self.failovers == 0 && self.double_answer_ms == 0
    }
}

/// Processes that only compute; ended when dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start(number: u32) -> Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..number {
            let child = Command::new("timeout")
                .args(["90000", "sh", "-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .context("cannot start a busy loop")?;
            busy.0.push(child);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // SIGTERM, which `timeout` hands on to its shell.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

/// Loads the machine for so many minutes and watches the practice group.
pub fn run(program: &Program, profile: Profile, minutes: f64, busy: u32) -> Result<Soaked> {
    let bed = Bed::up(program, profile)?;
    let epoch = || -> Result<u64> {
        let status = bed.status("node1")?;
        let found = status.groups.iter().find(|group| group.name == GROUP);
        Ok(found.map_or(0, |group| group.epoch))
    };
    let before = epoch()?;
    let mut soaked = Soaked {
        profile: profile.name(),
        minutes,
        busy,
        syncs: 0,
        failovers: 0,
        double_answer_ms: 0,
        longest_outage_ms: 0.0,
    };
    let syncs = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let load = Busy::start(busy)?;
    let writer = {
        let (syncs, over) = (Arc::clone(&syncs), Arc::clone(&over));
        std::thread::spawn(move || write(&syncs, &over))
    };
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut watched = Ok(());
    while watched.is_ok() && Instant::now() < end {
        let piece = PIECE.min(end.saturating_duration_since(Instant::now()));
        watched = watch(&bed, piece, &mut soaked);
    }
    over.store(true, Ordering::Relaxed);
    drop(load);
    let written = writer.join();
    watched?;
    if let Ok(written) = written {
        written?;
    }
    bed.settled()?;
    soaked.syncs = syncs.load(Ordering::Relaxed);
    soaked.failovers += epoch()?.abs_diff(before);
    println!(
        "\nsoak at {}: {} min, {} busy loops, {} syncs: {} failovers, {} ms with a double answer, longest outage {:.0} ms",
        soaked.profile,
        soaked.minutes,
        soaked.busy,
        soaked.syncs,
        soaked.failovers,
        soaked.double_answer_ms,
        soaked.longest_outage_ms
    );
    Ok(soaked)
}

fn watch(bed: &Bed, piece: Duration, soaked: &mut Soaked) -> Result<()> {
    let probe = bed.probe(VIRTUAL_IP)?;
    std::thread::sleep(piece);
    let report = probe.finish()?;
    soaked.failovers += report.node_changes;
    soaked.double_answer_ms += report.double_answer_ms;
    soaked.longest_outage_ms = soaked.longest_outage_ms.max(report.longest_outage_ms);
    Ok(())
}

/// Writes 64 KiB and waits for the disk, again and again.
fn write(syncs: &AtomicU64, over: &AtomicBool) -> Result<()> {
    let path = std::env::temp_dir().join(format!("hotpair-soak-{}", std::process::id()));
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    let block = [7u8; 65_536];
    while !over.load(Ordering::Relaxed) {
        file.rewind()?;
        file.write_all(&block)?;
        file.sync_all()?;
        syncs.fetch_add(1, Ordering::Relaxed);
    }
    std::fs::remove_file(&path).with_context(|| path.display().to_string())
}
