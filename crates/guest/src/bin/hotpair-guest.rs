//! Guests by hand: `hotpair-guest run --module drbd -- uname -a`.

use clap::{Args, Parser, Subcommand};
use hotpair_guest::fio::{self, Figures};
use hotpair_guest::{Disk, Guest, GuestError, Pair, PairSpec, Spec, drbd};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Small QEMU guests with Debian's kernel. Needs root, and once before: scripts/setup-guests.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Boot a guest, run a command in it, and end it.
    Run(Run),
    /// Measure DRBD 8.4, protocol C, between two guests, and a disk alone; prints JSON.
    Drbd(Drbd),
}

#[derive(Debug, Args)]
struct Run {
    /// Its name.
    #[arg(long, default_value = "guest")]
    name: String,
    /// Memory in MiB.
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// Load this module; may be given several times, with parameters in quotes.
    #[arg(long = "module", value_name = "MODULE")]
    modules: Vec<String>,
    /// Take this program along; may be given several times.
    #[arg(long = "program", value_name = "PROGRAM")]
    programs: Vec<PathBuf>,
    /// An empty disk of so many MiB; may be given several times.
    #[arg(long = "disk", value_name = "MIB")]
    disks: Vec<u64>,
    /// For how long the command may run, in seconds.
    #[arg(long, default_value_t = 60.0)]
    limit: f64,
    /// What to run, by a shell.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct Drbd {
    /// Runs of each load, 1 to 100.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Seconds of each run, 1 to 600.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

/// Practice clusters that guests can be part of.
#[derive(Debug, Parser)]
struct Practice {
    #[command(flatten)]
    lab: hotpair_lab::cli::LabArgs,
}

fn main() -> ExitCode {
    // Processes of a lab start each other with `PROGRAM lab …`, as in `hotpair`.
    let mut words: Vec<_> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "lab") {
        words.remove(1);
        return hotpair_lab::cli::run(Practice::parse_from(words).lab);
    }
    let ended = match Arguments::parse_from(words).what {
        What::Run(run) => run.run(),
        What::Drbd(drbd) => drbd.run(),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hotpair-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Run {
    fn run(self) -> Result<ExitCode, GuestError> {
        let guest = Guest::boot(Spec {
            name: self.name,
            memory_mib: self.memory,
            modules: self.modules,
            programs: self.programs,
            disks: self
                .disks
                .iter()
                .map(|mib| Disk::Scratch(mib << 20))
                .collect(),
            ..Spec::default()
        })?;
        eprintln!("booted in {:.1} s", guest.boot_time().as_secs_f64());
        let limit = Duration::from_secs_f64(self.limit.clamp(1.0, 86_400.0));
        let output = guest.try_run(&self.command.join(" "), limit)?;
        // Whoever closed our output wants no more of it.
        let _ = std::io::stdout().write_all(&output.stdout);
        let _ = std::io::stderr().write_all(&output.stderr);
        guest.power_off()?;
        Ok(ExitCode::from(u8::try_from(output.code).unwrap_or(1)))
    }
}

/// All runs on one device.
#[derive(Debug, Default, Serialize)]
struct Measured {
    disk: Vec<Figures>,
    drbd: Vec<Figures>,
}

impl Drbd {
    fn run(&self) -> Result<ExitCode, GuestError> {
        let pair = Pair::boot(&PairSpec::default())?;
        let mut measured = Measured::default();
        // Both devices in turn, so that a busy moment of the machine hits both.
        for _ in 0..self.runs {
            measured.disk.extend(self.loads(&pair, Pair::DISK)?);
            drbd::set_up(&pair)?;
            measured.drbd.extend(self.loads(&pair, drbd::DEVICE)?);
            drbd::take_down(&pair)?;
        }
        let text = serde_json::to_string_pretty(&measured).unwrap_or_default();
        let _ = writeln!(std::io::stdout(), "{text}");
        Ok(ExitCode::SUCCESS)
    }

    fn loads(&self, pair: &Pair, device: &str) -> Result<Vec<Figures>, GuestError> {
        let run = |load| fio::run(&pair.guests[0], device, load, self.seconds);
        fio::LOADS.into_iter().map(run).collect()
    }
}
