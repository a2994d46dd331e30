//! Power cuts under PostgreSQL on a mirror: the time to the first commit, and that none is lost.

use super::table::Spread;
use anyhow::{Context, Result};
use clap::Args;
use hotpair_lab::{Profile, Program};
use hotpair_ledger::{Cut, Database, Options, Outcome, Parts, Scene};
use serde::Serialize;
use std::time::Duration;

/// Longest median from the cut to the first commit, at `standard`.
const TARGET_MS: f64 = 3000.0;

/// Cut the power of the node that runs PostgreSQL on a mirror, again and again.
#[derive(Args)]
pub struct Bench {
    /// Power cuts, 1 to 10000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10000))]
    rounds: u32,
    /// Timing profile.
    #[arg(long, value_enum, default_value = "standard")]
    profile: Profile,
    /// Clients outside that insert rows and keep the ledger, 1 to 64.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// Clients of pgbench beside them, together 100 transactions a second; 0: none.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    load: u32,
    /// After so many cuts the database is looked through with pg_amcheck, and at the end.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    check_every: u32,
}

/// What all rounds showed.
#[derive(Serialize)]
pub struct Cuts {
    pub profile: &'static str,
    pub load: u32,
    pub rounds: Vec<Outcome>,
    /// What was broken, and where the evidence is.
    pub broken: Option<String>,
}

impl Cuts {
    /// Nothing lost, nothing corrupted, and the other node serves soon enough.
    pub fn good(&self) -> bool {
        let median = self.first_commits().map(|spread| spread.median());
        let timely = self.profile != Profile::Standard.name()
            || median.is_none_or(|median| median <= TARGET_MS);
        self.broken.is_none() && timely
    }

    /// Where one node was cut and the other one took over.
    fn takeovers(&self) -> impl Iterator<Item = &Outcome> {
        let rounds = self.rounds.iter();
        rounds.filter(|round| matches!(round.cut, Cut::Active | Cut::Resync))
    }

    fn first_commits(&self) -> Option<Spread> {
        Spread::of(self.takeovers().map(|round| round.first_commit_ms))
    }
}

impl Bench {
    pub fn run(&self, program: &Program) -> Result<Cuts> {
        let database = Database::postgresql()
            .context("PostgreSQL is not installed: `scripts/setup tests` installs it")?;
        let name = format!("bench-{}", std::process::id());
        let options = Options {
            ledger: std::env::temp_dir().join(format!("hotpair-{name}.ledger")),
            name,
            profile: self.profile,
            database,
            connections: usize::try_from(self.clients)?,
            load: usize::try_from(self.load)?,
            size_mib: 2048,
        };
        let ledger = options.ledger.clone();
        let mut scene = Scene::up(program, options)?;
        println!("{}", self.header());
        let mut cuts = Cuts {
            profile: self.profile.name(),
            load: self.load,
            rounds: Vec::new(),
            broken: None,
        };
        let judged = self.all(&mut scene, &mut cuts);
        drop(scene);
        match judged {
            Ok(()) => {
                let _ = std::fs::remove_file(&ledger);
            }
            Err(error) => cuts.broken = Some(error.to_string()),
        }
        println!("{}", summary(&cuts));
        Ok(cuts)
    }

    fn all(&self, scene: &mut Scene, cuts: &mut Cuts) -> hotpair_ledger::Result<()> {
        for number in 0..self.rounds {
            // The cut comes at another phase of heartbeats, checkpoints and commits each time.
            let phase = Duration::from_millis(300 + u64::from(number) * 137 % 1500);
            let check = (number + 1) % self.check_every == 0 || number + 1 == self.rounds;
            let outcome = scene.round(Cut::of_round(number), phase, check)?;
            println!("{}", line(number + 1, &outcome, check));
            cuts.rounds.push(outcome);
        }
        scene.verify()
    }

    fn header(&self) -> String {
        format!(
            "\nPostgreSQL on a mirror, profile {}, {} clients with a ledger, {} of pgbench; ms after the cut\n\n\
             | | cut | decided | lease over | device | mounted | server | recovering | ready | first commit | both copies | acknowledged | lost | |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
            self.profile.name(),
            self.clients,
            self.load
        )
    }
}

/// The moments of a takeover in their order.
fn moments(parts: &Parts) -> [Option<f64>; 7] {
    [
        parts.decided_ms,
        parts.starting_ms,
        parts.device_ms,
        parts.mounted_ms,
        parts.server_ms,
        parts.recovering_ms,
        parts.ready_ms,
    ]
}

fn line(number: u32, outcome: &Outcome, checked: bool) -> String {
    let shown =
        |moment: Option<f64>| moment.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
    let cut = match outcome.cut {
        Cut::Active => outcome.from.clone(),
        Cut::Resync => format!("{}, then {} while synchronised", outcome.from, outcome.to),
        Cut::BothActiveFirst => "both, active back first".to_owned(),
        Cut::BothStandbyFirst => "both, standby back first".to_owned(),
    };
    let word = if checked { "amcheck clean" } else { "" };
    format!(
        "| {number} | {cut} | {} | {:.0} | {:.0} | {} | 0 | {word} |",
        moments(&outcome.parts).map(shown).join(" | "),
        outcome.first_commit_ms,
        outcome.whole_ms,
        outcome.acknowledged
    )
}

fn summary(cuts: &Cuts) -> String {
    let part = |index: usize| {
        let all = cuts
            .takeovers()
            .filter_map(|round| moments(&round.parts)[index]);
        Spread::of(all).map_or_else(|| "-".to_owned(), |spread| spread.to_string())
    };
    let parts: Vec<_> = (0..7).map(part).collect();
    let commit = cuts
        .first_commits()
        .map_or_else(|| "-".to_owned(), |s| s.to_string());
    let last = cuts.rounds.last();
    let verdict = match &cuts.broken {
        None => format!(
            "{} power cuts, {} acknowledged commits, 0 lost, {} rows whose acknowledgement was lost; \
             pg_amcheck clean, both copies equal",
            cuts.rounds.len(),
            last.map_or(0, |round| round.acknowledged),
            last.map_or(0, |round| round.unacknowledged)
        ),
        Some(broken) => format!("after {} power cuts: {broken}", cuts.rounds.len()),
    };
    format!(
        "| | takeovers: min / median / max | {} | {commit} | | | | |\n\n{verdict}",
        parts.join(" | ")
    )
}
