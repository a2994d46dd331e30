//! Figures and how they are printed.

use super::idle::Cost;
use super::mirror::Ratio;
use super::peers::PeerFigures;
use super::postgres::Cuts;
use super::row::{Row, Sample};
use super::soak::Soaked;
use hotpair_lab::Profile;
use serde::Serialize;
use std::fmt;

/// Where nothing may be noticed: a client that shares two loaded cores with everybody else misses
/// answers for so long now and then, with nothing failing.
const NOISE_MS: f64 = 50.0;

/// Everything one `cargo xtask bench` found.
#[derive(Default, Serialize)]
pub struct Report {
    pub machine: Seen,
    pub rows: Vec<Figures>,
    /// Other software in the same rows, for comparison.
    pub peers: Vec<PeerFigures>,
    pub idle: Vec<Cost>,
    pub soaks: Vec<Soaked>,
    pub mirrors: Vec<Ratio>,
    pub cuts: Vec<Cuts>,
}

impl Report {
    /// Nothing failed, nothing missed its target, never did two nodes answer.
    pub fn good(&self) -> bool {
        self.rows.iter().all(Figures::good)
            && self.idle.iter().all(Cost::good)
            && self.soaks.iter().all(Soaked::good)
            && self.mirrors.iter().all(Ratio::good)
            && self.cuts.iter().all(Cuts::good)
    }
}

/// All runs of one row at one profile.
#[derive(Serialize)]
pub struct Figures {
    pub row: &'static str,
    pub title: &'static str,
    pub profile: &'static str,
    /// Longest median outage; 0: none at all, and nothing moved.
    pub target_ms: f64,
    /// Longest double answer that is allowed.
    pub target_double_ms: u64,
    pub samples: Vec<Sample>,
    /// Runs that could not be judged, and why.
    pub failed: Vec<String>,
}

impl Figures {
    pub fn new(profile: Profile, row: &Row) -> Self {
        Self {
            row: row.name,
            title: row.title,
            profile: profile.name(),
            target_ms: row.target_ms(profile),
            target_double_ms: row.double_ms(profile),
            samples: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn outages(&self) -> Vec<f64> {
        let mut all: Vec<_> = self.samples.iter().map(|s| s.outage_ms).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    fn good(&self) -> bool {
        let unanimous = self
            .samples
            .iter()
            .all(|s| s.double_answer_ms <= self.target_double_ms);
        let outages = self.outages();
        let reached = if self.target_ms == 0.0 {
            outages.last().is_some_and(|&longest| longest <= NOISE_MS)
                && self.samples.iter().all(|s| !s.moved)
        } else {
            median(&outages).is_some_and(|median| median <= self.target_ms)
        };
        unanimous && reached && self.failed.is_empty()
    }
}

/// Least, middle and most of some figures.
pub struct Spread(f64, f64, f64);

impl Spread {
    /// Nothing of nothing.
    pub fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut all: Vec<_> = figures.collect();
        all.sort_by(f64::total_cmp);
        Some(Self(*all.first()?, median(&all)?, *all.last()?))
    }

    pub fn median(&self) -> f64 {
        self.1
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} / {:.0} / {:.0}", self.0, self.1, self.2)
    }
}

/// The one in the middle, of two the mean.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    match sorted.len() % 2 {
        0 => Some((sorted[middle - 1] + upper) / 2.0),
        _ => Some(upper),
    }
}

/// Title of a profile's table.
pub fn header(profile: Profile, runs: u32) -> String {
    format!(
        "\nProfile {}, {runs} runs a row; outage as a client outside sees it, asking every 1 ms; in ms\n\n\
         | Fault | min | median | max | target | after healing | double answer | held twice | |\n\
         |---|---|---|---|---|---|---|---|---|",
        profile.name()
    )
}

/// A row of the table.
pub fn line(figures: &Figures) -> String {
    let outages = figures.outages();
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.0}"));
    let most = |of: &dyn Fn(&Sample) -> f64| figures.samples.iter().map(of).reduce(f64::max);
    let target = match figures.target_ms {
        0.0 => "no outage".to_owned(),
        ms => format!("{ms:.0}"),
    };
    let word = match (figures.good(), figures.failed.len()) {
        (true, _) => "reached".to_owned(),
        (false, 0) => "missed".to_owned(),
        (false, failed) => format!("{failed} runs failed"),
    };
    let late = most(&|s| s.late_answer_ms).filter(|&ms| ms > 0.0);
    let late = late.map_or_else(String::new, |ms| format!(", late answers until {ms:.0} ms"));
    #[allow(clippy::cast_precision_loss)]
    let double = most(&|s| s.double_answer_ms as f64);
    format!(
        "| {} (`{}`) | {} | {} | {} | {target} | {} | {} | {} | {word}{late} |",
        figures.title,
        figures.row,
        shown(outages.first().copied()),
        shown(median(&outages)),
        shown(outages.last().copied()),
        shown(most(&|s| s.heal_outage_ms)),
        shown(double),
        shown(most(&|s| s.double_held_ms)),
    )
}

/// The machine while it was measured.
#[derive(Default, Serialize)]
pub struct Seen {
    pub cores: usize,
    pub kernel: String,
    /// Percent of processor time that was not idle.
    pub busy_percent: f64,
    /// Percent of processor time that the machine's own host gave to others.
    pub steal_percent: f64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\n{} cores, Linux {}, {:.0} % busy, {:.1} % stolen",
            self.cores, self.kernel, self.busy_percent, self.steal_percent
        )
    }
}

/// Counters of `/proc/stat` when measuring began.
pub struct Machine(Vec<f64>);

impl Machine {
    pub fn start() -> Self {
        Self(counters())
    }

    pub fn end(self) -> Seen {
        let now = counters();
        let passed: Vec<_> = now
            .iter()
            .zip(&self.0)
            .map(|(now, then)| now - then)
            .collect();
        // Guest time (from the ninth on) is part of user time.
        let total = passed.iter().take(8).sum::<f64>().max(1.0);
        let share = |index: usize| passed.get(index).copied().unwrap_or(0.0) / total * 100.0;
        Seen {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            busy_percent: 100.0 - share(3) - share(4),
            steal_percent: share(7),
        }
    }
}

fn counters() -> Vec<f64> {
    let text = read("/proc/stat");
    let first = text.lines().next().unwrap_or("");
    first
        .split_whitespace()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_number_is_the_mean_of_the_middle_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }

    #[test]
    fn one_double_answer_or_failed_run_spoils_a_row() {
        let row = &super::super::row::ROWS[0];
        let sample = Sample {
            outage_ms: 1.0,
            heal_outage_ms: 0.0,
            double_answer_ms: 0,
            double_held_ms: 0.0,
            late_answer_ms: 0.0,
            moved: true,
        };
        let mut figures = Figures::new(Profile::Standard, row);
        assert!(!figures.good(), "no run at all");
        figures.samples = vec![sample; 3];
        assert!(figures.good());
        figures.samples[1].double_answer_ms = 1;
        assert!(!figures.good());
        figures.samples[1].double_answer_ms = 0;
        figures.failed.push("lost".into());
        assert!(!figures.good());
    }
}
