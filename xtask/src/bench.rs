//! `cargo xtask bench`: what a client outside sees when something fails, measured in the lab; what a mirror costs.

mod bed;
mod guests;
mod idle;
mod mirror;
mod peers;
mod postgres;
mod row;
mod soak;
mod table;

use anyhow::{Context, Result, bail};
use bed::Bed;
use clap::{Args, Subcommand, ValueEnum};
use guests::GuestBed;
use hotpair_guest::Parts;
use hotpair_lab::{Profile, Program};
use peers::Peer;
use row::{ROWS, Row, Sample};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use table::{Figures, Machine, Report};

/// Measure failovers, idle cost and endurance in practice clusters. Needs root.
#[derive(Args)]
pub struct Bench {
    /// This `hotpair` instead of a release build of the present source.
    #[arg(long, global = true, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Also write the figures as JSON.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Inject each fault again and again: minimum, median and maximum of the outage.
    Failover(Failover),
    /// Memory and processor time of a cluster in which nothing happens, over 20 s.
    Idle,
    /// Load the machine heavily and see that nothing moves.
    Soak(Soak),
    /// What a mirror costs, against the raw disk. Needs fio; no cluster is made.
    Mirror(mirror::Bench),
    /// Cut the power under PostgreSQL on a mirror: time to the first commit; none may be lost.
    Postgres(postgres::Bench),
}

#[derive(Args)]
struct Failover {
    /// Runs of each row, 1 to 1000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Timing profile.
    #[arg(long, value_enum, default_value = "standard")]
    profile: Profiles,
    /// Only these rows, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    rows: Vec<String>,
    /// Compare with other software in the rows that all have, separated by commas; once before:
    /// scripts/setup-peers.
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "rows")]
    peer: Vec<Peer>,
}

#[derive(Args)]
struct Soak {
    /// For how long, 0.1 to 1440.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Timing profile.
    #[arg(long, value_enum, default_value = "standard")]
    profile: Profiles,
    /// Programs that only compute, 0 to 64.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=64))]
    busy: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Profiles {
    Standard,
    Fast,
    Both,
}

impl Profiles {
    fn all(self) -> &'static [Profile] {
        match self {
            Self::Standard => &[Profile::Standard],
            Self::Fast => &[Profile::Fast],
            Self::Both => &[Profile::Standard, Profile::Fast],
        }
    }
}

impl Bench {
    /// Exit code 1 if a figure misses its target, or two nodes ever answered.
    pub fn run(&self) -> Result<ExitCode> {
        hotpair_lab::require_root()?;
        if let What::Mirror(bench) = &self.what {
            let machine = Machine::start();
            let mut report = Report {
                mirrors: bench.run()?,
                ..Report::default()
            };
            report.machine = machine.end();
            return self.end(&report);
        }
        let program = Program(match &self.binary {
            Some(path) => path
                .canonicalize()
                .with_context(|| format!("no program {}", path.display()))?,
            None => build()?,
        });
        let report = match &self.what {
            What::Failover(failover) => failover.run(&program)?,
            What::Idle => idle::run(&program)?,
            What::Soak(soak) => soak.run(&program)?,
            What::Postgres(bench) => {
                let machine = Machine::start();
                Report {
                    cuts: vec![bench.run(&program)?],
                    machine: machine.end(),
                    ..Report::default()
                }
            }
            What::Mirror(_) => Report::default(),
        };
        self.end(&report)
    }

    fn end(&self, report: &Report) -> Result<ExitCode> {
        println!("{}", report.machine);
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(report)?;
            std::fs::write(path, text + "\n")
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(match report.good() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

impl Failover {
    fn run(&self, program: &Program) -> Result<Report> {
        let rows = self.chosen()?;
        let machine = Machine::start();
        let mut report = Report::default();
        for &profile in self.profile.all() {
            println!("{}", table::header(profile, self.runs));
            let mut beds = Beds::default();
            for row in &rows {
                let figures = self.measure(program, profile, row, &mut beds);
                println!("{}", table::line(&figures));
                report.rows.push(figures);
            }
        }
        for variant in self.peer.iter().flat_map(|peer| peer.variants()) {
            println!("\n{}", variant.stated);
            report
                .peers
                .extend(peers::measure(program, variant, self.runs));
        }
        if !self.peer.is_empty() {
            println!("{}", peers::table(&report.rows, &report.peers));
        }
        report.machine = machine.end();
        Ok(report)
    }

    fn chosen(&self) -> Result<Vec<&'static Row>> {
        if !self.peer.is_empty() {
            let shared = ROWS.iter().filter(|row| peers::ROWS.contains(&row.name));
            return Ok(shared.collect());
        }
        if self.rows.is_empty() {
            let guests = Parts::find();
            if let Err(error) = &guests {
                eprintln!("without the rows of guests: {error}");
            }
            let all = ROWS.iter();
            return Ok(all
                .filter(|row| guests.is_ok() || row.guests().is_none())
                .collect());
        }
        let mut chosen = Vec::new();
        for name in &self.rows {
            let Some(row) = ROWS.iter().find(|row| row.name == name) else {
                let known: Vec<_> = ROWS.iter().map(|row| row.name).collect();
                bail!("there is no row {name:?}: known are {}", known.join(", "));
            };
            chosen.push(row);
        }
        Ok(chosen)
    }

    /// All runs of a row. A run that cannot be judged is counted and told; the next one gets a new
    /// cluster, and after three such the row is given up.
    fn measure(
        &self,
        program: &Program,
        profile: Profile,
        row: &'static Row,
        beds: &mut Beds,
    ) -> Figures {
        let mut figures = Figures::new(profile, row);
        for run in 0..self.runs {
            let measured = beds.run(program, profile, row, run);
            match measured {
                Ok(sample) => figures.samples.push(sample),
                Err(error) => {
                    eprintln!("{}: run {}: {error:#}", row.name, run + 1);
                    figures.failed.push(format!("{error:#}"));
                    *beds = Beds::default();
                    if figures.failed.len() == 3 {
                        break;
                    }
                }
            }
        }
        figures
    }
}

impl Soak {
    fn run(&self, program: &Program) -> Result<Report> {
        if !(0.1..=1440.0).contains(&self.minutes) {
            bail!("--minutes must be 0.1 to 1440");
        }
        let machine = Machine::start();
        let mut report = Report::default();
        for &profile in self.profile.all() {
            report
                .soaks
                .push(soak::run(program, profile, self.minutes, self.busy)?);
        }
        report.machine = machine.end();
        Ok(report)
    }
}

/// The running clusters, one of each kind at most, and only one at a time.
#[derive(Default)]
struct Beds {
    lab: Option<Bed>,
    guests: Option<GuestBed>,
}

impl Beds {
    /// One run of a row, on the cluster that runs or on a new one.
    fn run(&mut self, program: &Program, profile: Profile, row: &Row, run: u32) -> Result<Sample> {
        let Some(trouble) = row.guests() else {
            self.guests = None;
            let present = match self.lab.take() {
                Some(bed) => bed,
                None => Bed::up(program, profile)?,
            };
            return row.run(self.lab.insert(present), run);
        };
        self.lab = None;
        let present = match self.guests.take() {
            Some(bed) => bed,
            None => GuestBed::up(program, profile)?,
        };
        Row::run_on_guests(self.guests.insert(present), trouble, run)
    }
}

/// Builds the release `hotpair` where cargo puts it.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(cargo)
        .args(["build", "--release", "--package", "hotpair"])
        .current_dir(&root)
        .status()
        .context("cannot start cargo")?;
    if !built.success() {
        bail!("hotpair does not build");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let path = root.join(target).join("release/hotpair");
    path.canonicalize()
        .with_context(|| format!("no program {}", path.display()))
}

/// For processes that a benchmark starts: serves, and never returns.
pub fn serve_if_child() {
    mirror::serve_if_child();
}
