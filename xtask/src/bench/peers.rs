//! Other software in the same lab: the same hosts, networks, application, faults, client, referee.
//!
//! Debian's packages, which `scripts/setup-peers` installs; each runs in the namespaces of the lab's
//! hosts only, with its own `/etc`, `/run` and `/var/lib`.

mod keepalived;
mod pacemaker;

use super::row::{Sample, sample};
use super::table::{Figures, Spread};
use anyhow::{Result, bail};
use clap::ValueEnum;
use hotpair_lab::plan::{Service, VIRTUAL_IP};
use hotpair_lab::probe::ProbeOptions;
use hotpair_lab::{Fault, Lab, Plan, Program, Shape, Target, Witness, clock};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Other software.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Keepalived,
    Pacemaker,
}

/// A way to configure it.
pub struct Variant {
    pub name: &'static str,
    /// The configuration in words.
    pub stated: &'static str,
    /// Not as it comes, but as quick as is reasonable.
    quick: bool,
    peer: Peer,
}

const VARIANTS: &[Variant] = &[
    Variant {
        name: "keepalived",
        stated: keepalived::STATED,
        quick: false,
        peer: Peer::Keepalived,
    },
    Variant {
        name: "keepalived 0.1 s",
        stated: keepalived::STATED_QUICK,
        quick: true,
        peer: Peer::Keepalived,
    },
    Variant {
        name: "Pacemaker",
        stated: pacemaker::STATED,
        quick: false,
        peer: Peer::Pacemaker,
    },
    Variant {
        name: "Pacemaker 300 ms",
        stated: pacemaker::STATED_QUICK,
        quick: true,
        peer: Peer::Pacemaker,
    },
];

impl Peer {
    /// Its configurations.
    pub fn variants(self) -> impl Iterator<Item = &'static Variant> {
        VARIANTS.iter().filter(move |variant| variant.peer == self)
    }
}

/// The rows that make sense for everybody; hotpair's have the same names.
pub const ROWS: [&str; 5] = ["power-cut", "cut-links", "pause", "kill-app", "switch"];

/// All runs of one row with one configuration.
#[derive(Serialize)]
pub struct PeerFigures {
    pub software: &'static str,
    pub row: &'static str,
    pub samples: Vec<Sample>,
    /// Runs that could not be judged, and why.
    pub failed: Vec<String>,
}

/// Measures one configuration in all rows. After three runs of a row that cannot be judged the row
/// is given up; each gets a new lab.
pub fn measure(program: &Program, variant: &'static Variant, runs: u32) -> Vec<PeerFigures> {
    let mut bed = None;
    let mut all = Vec::new();
    for row in ROWS {
        let mut figures = PeerFigures {
            software: variant.name,
            row,
            samples: Vec::new(),
            failed: Vec::new(),
        };
        for run in 0..runs {
            let ready = match bed.take() {
                Some(bed) => Ok(bed),
                None => Bed::up(program, variant),
            };
            match ready.and_then(|ready| bed.insert(ready).run(row, run)) {
                Ok(sample) => figures.samples.push(sample),
                Err(error) => {
                    eprintln!("{}: {row}: run {}: {error:#}", variant.name, run + 1);
                    figures.failed.push(format!("{error:#}"));
                    bed = None;
                    if figures.failed.len() == 3 {
                        break;
                    }
                }
            }
        }
        println!("{}", line(&figures));
        all.push(figures);
    }
    all
}

fn line(figures: &PeerFigures) -> String {
    format!(
        "{}, {}: {}",
        figures.software,
        figures.row,
        cell(&figures.samples, &figures.failed)
    )
}

/// One table of hotpair's rows and the others'.
pub fn table(ours: &[Figures], theirs: &[PeerFigures]) -> String {
    let mut columns: Vec<String> = Vec::new();
    let names = ours.iter().map(|f| format!("hotpair `{}`", f.profile));
    for name in names.chain(theirs.iter().map(|f| f.software.to_owned())) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let mut text = format!(
        "\n| Fault | {} |\n|---|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
    for row in ROWS {
        let _ = write!(text, "| `{row}` |");
        for column in &columns {
            let our = ours
                .iter()
                .find(|f| f.row == row && format!("hotpair `{}`", f.profile) == *column);
            let their = theirs.iter().find(|f| f.row == row && f.software == column);
            let shown = our
                .map(|f| cell(&f.samples, &f.failed))
                .or(their.map(|f| cell(&f.samples, &f.failed)));
            let _ = write!(text, " {} |", shown.unwrap_or_else(|| "-".to_owned()));
        }
        text.push('\n');
    }
    text
}

/// `minimum / median / maximum`, and what must not be.
fn cell(samples: &[Sample], failed: &[String]) -> String {
    let Some(spread) = Spread::of(samples.iter().map(|s| s.outage_ms)) else {
        return format!("{} runs failed", failed.len());
    };
    let mut text = spread.to_string();
    let double = samples
        .iter()
        .map(|s| s.double_answer_ms)
        .max()
        .unwrap_or(0);
    if double > 0 {
        let _ = write!(text, "; double answer up to {double}");
    }
    if !failed.is_empty() {
        let _ = write!(text, "; {} runs failed", failed.len());
    }
    text
}

/// A lab whose two nodes run a peer; ended when dropped.
struct Bed {
    lab: Lab,
    variant: &'static Variant,
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.lab.down();
    }
}

const NODES: [&str; 2] = ["node1", "node2"];

impl Bed {
    fn up(program: &Program, variant: &'static Variant) -> Result<Self> {
        let shape = Shape {
            witness: Witness::None,
            ..Shape::default()
        };
        let name = format!("bench-p-{}", std::process::id());
        let lab = Lab::up(program, &name, &Plan::bare(shape)?)?;
        let bed = Self { lab, variant };
        match variant.peer {
            Peer::Keepalived => keepalived::set_up(&bed)?,
            Peer::Pacemaker => pacemaker::set_up(&bed)?,
        }
        bed.settled()?;
        Ok(bed)
    }

    /// Runs a shell script on a host; what it prints.
    fn shell(&self, host: &str, script: &str) -> Result<String> {
        let output = self
            .lab
            .exec(host, &["timeout", "30", "sh", "-c", script])?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("on {host}: {}", said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn write(&self, host: &str, path: &str, text: &str) -> Result<()> {
        self.shell(
            host,
            &format!(
                "mkdir -p \"$(dirname {path})\"\ncat >{path} <<'END-OF-FILE'\n{text}\nEND-OF-FILE"
            ),
        )?;
        Ok(())
    }

    fn service(
        &self,
        host: &str,
        name: &str,
        script: &str,
        restart_after_ms: Option<u64>,
    ) -> Result<()> {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        Ok(self.lab.start(Service {
            name: name.to_owned(),
            host: host.to_owned(),
            argv,
            restart_after_ms,
        })?)
    }

    fn holds(&self, host: &str) -> bool {
        let ask = format!("ip -4 -o address show dev eth0 | grep -q ' {VIRTUAL_IP}/'");
        self.shell(host, &ask).is_ok()
    }

    /// Waits until both nodes are well and one holds the address, the same one for a while. Gives
    /// that one and the other.
    fn settled(&self) -> Result<(&'static str, &'static str)> {
        let calm = Duration::from_millis(if self.variant.quick { 1500 } else { 5000 });
        let end = Instant::now() + Duration::from_secs(120);
        let mut since: Option<(usize, Instant)> = None;
        while Instant::now() < end {
            let holders: Vec<usize> = (0..2).filter(|&index| self.holds(NODES[index])).collect();
            let well = match self.variant.peer {
                Peer::Keepalived => keepalived::is_well(self),
                Peer::Pacemaker => pacemaker::is_well(self),
            };
            match (&holders[..], since) {
                ([holder], Some((before, at))) if well && *holder == before => {
                    if at.elapsed() >= calm {
                        return Ok((NODES[before], NODES[1 - before]));
                    }
                }
                ([holder], _) if well => since = Some((*holder, Instant::now())),
                _ => since = None,
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        bail!("{} is not well within 120 s", self.variant.name)
    }

    /// For how long a fault is watched: longer than it costs.
    fn observation(&self, row: &str) -> Duration {
        let seconds = match (self.variant.peer, self.variant.quick, row) {
            (Peer::Keepalived, false, _) => 7,
            (Peer::Keepalived, true, _) => 4,
            (Peer::Pacemaker, false, _) => 15,
            (Peer::Pacemaker, true, _) => 6,
        };
        Duration::from_secs(seconds)
    }

    fn run(&self, row: &'static str, run: u32) -> Result<Sample> {
        let (active, standby) = self.settled()?;
        std::thread::sleep(Duration::from_millis(u64::from(run) * 370 % 1000));
        let probe = self.lab.probe(&ProbeOptions::default())?;
        std::thread::sleep(Duration::from_millis(200));
        let fault = |fault| -> Result<u64> { Ok(self.lab.fault(active, fault)?.at_mono_us) };
        let injected = match row {
            "power-cut" => fault(Fault::PowerCut),
            "cut-links" => fault(Fault::CutLinks),
            "pause" => fault(Fault::Pause),
            "kill-app" => fault(Fault::Kill(Target::App)),
            _ => {
                let at = clock::now_us();
                match self.variant.peer {
                    Peer::Keepalived => keepalived::switch(self, active),
                    Peer::Pacemaker => pacemaker::switch(self, standby),
                }
                .map(|()| at)
            }
        };
        std::thread::sleep(self.observation(row));
        let healed = clock::now_us();
        self.lab.heal()?;
        if self.variant.peer == Peer::Pacemaker {
            pacemaker::forgive(self);
        }
        let settled = self.settled();
        let report = probe.finish()?;
        let (now, _) = settled?;
        Ok(Sample {
            moved: now != active,
            ..sample(&report, injected?, healed)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_a_column_for_each_configuration_and_shows_double_answers() {
        let sample = |outage_ms, double_answer_ms| Sample {
            outage_ms,
            heal_outage_ms: 0.0,
            double_answer_ms,
            double_held_ms: 0.0,
            late_answer_ms: 0.0,
            moved: true,
        };
        let figures = |row, samples| PeerFigures {
            software: "other",
            row,
            samples,
            failed: Vec::new(),
        };
        let theirs = [
            figures(
                "power-cut",
                vec![sample(3.0, 0), sample(1.0, 0), sample(2.0, 0)],
            ),
            figures("pause", vec![sample(5.0, 7)]),
        ];
        let text = table(&[], &theirs);
        assert!(text.contains("| Fault | other |\n|---|---|\n"), "{text}");
        assert!(text.contains("| `power-cut` | 1 / 2 / 3 |\n"), "{text}");
        assert!(
            text.contains("| `pause` | 5 / 5 / 5; double answer up to 7 |\n"),
            "{text}"
        );
        assert!(text.contains("| `kill-app` | - |\n"), "{text}");
    }
}
