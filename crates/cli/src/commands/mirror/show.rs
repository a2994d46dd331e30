//! What mirrors look like: lists, progress, both sides of a split-brain.

use super::files::Files;
use super::{all, comparing, find, full, pick};
use crate::failure::{Code, Failure};
use crate::output::{Ink, columns, plain, print};
use crate::session::{Outcome, Session};
use crate::words::{shown_bytes, shown_duration, shown_time};
use clap::Args;
use hotpair_api::MirrorView;
use hotpair_api::mirror::{HereView, ProgressView};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes that are marked as changed at a time.
const BLOCK: u64 = hotpair_volume::store::BLOCK;
const EVERY: Duration = Duration::from_millis(500);
/// The daemon or the peer may be away for this long while progress is watched.
const AWAY: Duration = Duration::from_secs(30);

/// Show one mirror: its copies, progress, numbers.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    /// Show the progress until every copy is up to date; Ctrl-C ends the showing only.
    #[arg(long)]
    wait: bool,
}

/// A mirror with the numbers of every node that could be asked.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    view: MirrorView,
    /// By the node's name.
    nodes: BTreeMap<String, HereView>,
}

impl Whole {
    fn of(session: &Session, view: MirrorView) -> Self {
        let mut nodes = BTreeMap::new();
        for copy in &view.copies {
            let there = all(session, Some(&copy.node)).ok();
            let there = there.and_then(|views| pick(views, &full(&view)).ok());
            if let Some(here) = there.and_then(|view| view.here) {
                nodes.insert(copy.node.clone(), here);
            }
        }
        Self { view, nodes }
    }

    fn text(&self, ink: Ink) -> String {
        let view = &self.view;
        let mut out = format!(
            "{}  {}, {}, {}\n",
            full(view),
            shown_bytes(view.size),
            mode(view),
            match &view.active_on {
                Some(node) => format!("active on {node}"),
                None => "not open on any node".into(),
            }
        );
        let device = self.nodes.values().find_map(|here| {
            let device = here.device.as_ref()?;
            Some((device, here.export.as_deref().unwrap_or("")))
        });
        if let Some((device, export)) = device {
            let _ = writeln!(out, "  device {} ({export})", plain(device));
        }
        let rows: Vec<Vec<String>> = view
            .copies
            .iter()
            .map(|copy| {
                let link = self
                    .nodes
                    .get(&copy.node)
                    .and_then(|here| here.link.clone());
                vec![
                    format!("  {}", copy.node),
                    ink.state(&copy.state),
                    plain(&copy.place),
                    match (copy.connected, link) {
                        (true, Some(link)) => format!("connected over {link}"),
                        (true, None) => "connected".into(),
                        (false, _) => "not connected".into(),
                    },
                    plain(&copy.disk),
                ]
            })
            .collect();
        out.push_str(&columns(&rows));
        for line in self.progress() {
            let _ = writeln!(out, "  {line}");
        }
        for (node, here) in &self.nodes {
            let _ = writeln!(out, "  {node}: {}", numbers(here));
        }
        for sentence in &view.attention {
            let _ = writeln!(out, "  ! {}", plain(sentence));
        }
        out
    }

    /// Of the side that sends, or else of the one that receives.
    fn progress(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, get) in [
            (
                "resynchronisation",
                resync as fn(&HereView) -> Option<ProgressView>,
            ),
            ("verification", verify),
        ] {
            let all: Vec<ProgressView> = self.nodes.values().filter_map(get).collect();
            let source = all.iter().find(|progress| progress.source).or(all.first());
            if let Some(progress) = source {
                lines.push(format!("{what} {}", bar(progress)));
            }
        }
        if self.nodes.values().any(|here| here.paused) {
            lines.push("paused by the operator: `hotpair mirror resume` goes on".into());
        }
        lines
    }

    fn in_sync(&self) -> bool {
        self.view
            .copies
            .iter()
            .all(|copy| copy.state == "up to date")
    }
}

/// With the bounds of the lag, if it has some.
fn mode(view: &MirrorView) -> String {
    match view.lag_limit {
        Some(limit) => format!(
            "{} (at most {} or {} behind)",
            view.mode,
            shown_bytes(limit.bytes),
            shown_ms(limit.ms)
        ),
        None => view.mode.clone(),
    }
}

fn shown_ms(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => shown_duration(ms / 1000),
    }
}

/// Of the active side.
fn lag(here: &HereView) -> Option<String> {
    (here.lag_bytes > 0).then(|| {
        format!(
            "the other copy lags by {} ({} ms)",
            shown_bytes(here.lag_bytes),
            here.lag_ms
        )
    })
}

fn resync(here: &HereView) -> Option<ProgressView> {
    here.resync
}

fn verify(here: &HereView) -> Option<ProgressView> {
    here.verify
}

/// `[#####-----] 52 %  5.2 of 10.0 GiB, 110 MiB/s, about 45 s left`
fn bar(progress: &ProgressView) -> String {
    const WIDTH: u64 = 24;
    let total = progress.total.max(1);
    let done = progress.done.min(total);
    let filled = done * WIDTH / total;
    let mut line = String::from("[");
    for at in 0..WIDTH {
        line.push(if at < filled { '#' } else { '-' });
    }
    let _ = write!(
        line,
        "] {} %  {} of {}",
        done * 100 / total,
        shown_bytes(done),
        shown_bytes(progress.total)
    );
    if let Some(left) = (total - done).checked_div(progress.rate) {
        let _ = write!(
            line,
            ", {}/s, about {} left",
            shown_bytes(progress.rate),
            shown_duration(left)
        );
    }
    line
}

fn numbers(here: &HereView) -> String {
    let mut parts = Vec::new();
    if here.reads + here.writes > 0 {
        parts.push(format!(
            "{} reads ({}), {} writes ({})",
            here.reads,
            shown_bytes(here.read_bytes),
            here.writes,
            shown_bytes(here.write_bytes)
        ));
    }
    if here.out_of_sync > 0 {
        parts.push(format!(
            "the other copy lacks {}",
            shown_bytes(here.out_of_sync)
        ));
    }
    parts.extend(lag(here));
    if here.longest_stall_ms > 0 {
        parts.push(format!(
            "longest stall of a write {} ms",
            here.longest_stall_ms
        ));
    }
    if let Some(found) = here.verify_found {
        parts.push(match found {
            0 => "last verification: both copies are equal".into(),
            found => format!("last verification: {} differ", shown_bytes(found)),
        });
    }
    if parts.is_empty() {
        parts.push("nothing read or written since its process started".into());
    }
    parts.join("; ")
}

pub fn list(session: &Session) -> Outcome {
    let views = all(session, None)?;
    // The active side knows the lag.
    let mut asked = BTreeMap::new();
    let lags: Vec<Option<String>> = views
        .iter()
        .map(|view| {
            let node = view
                .active_on
                .clone()
                .filter(|_| view.lag_limit.is_some())?;
            let there = asked
                .entry(node.clone())
                .or_insert_with(|| all(session, Some(&node)).unwrap_or_default());
            let same = |other: &&MirrorView| full(other) == full(view);
            lag(there.iter().find(same)?.here.as_ref()?)
        })
        .collect();
    session.show(&views, || {
        let rows: Vec<Vec<String>> = views
            .iter()
            .zip(&lags)
            .map(|(view, lag)| {
                let mut row = vec![
                    full(view),
                    shown_bytes(view.size),
                    view.mode.clone(),
                    view.active_on.clone().unwrap_or_else(|| "-".into()),
                ];
                row.extend(
                    view.copies
                        .iter()
                        .map(|copy| format!("{}: {}", copy.node, copy.state)),
                );
                row.extend(lag.clone());
                row
            })
            .collect();
        if rows.is_empty() {
            "no mirrors are configured: `hotpair mirror create` makes one\n".into()
        } else {
            columns(&rows)
        }
    })
}

pub fn run(session: &Session, args: &ShowArgs) -> Outcome {
    let whole = Whole::of(session, find(session, &args.mirror)?);
    if !args.wait {
        return session.show(&whole, || whole.text(session.ink));
    }
    wait(session, &full(&whole.view))
}

/// Shows the progress until every copy is up to date.
pub fn wait(session: &Session, name: &str) -> Outcome {
    let mut shown = String::new();
    let mut seen = Instant::now();
    loop {
        match find(session, name) {
            Ok(view) => {
                seen = Instant::now();
                let whole = Whole::of(session, view);
                if whole.in_sync() {
                    end_line(&shown);
                    return session.show(&whole, || whole.text(session.ink));
                }
                let line = match whole.progress().into_iter().next() {
                    Some(line) => line,
                    None => whole.view.attention.first().cloned().unwrap_or_default(),
                };
                line_of_progress(session, &mut shown, &line);
            }
            Err(failure) if seen.elapsed() >= AWAY => {
                end_line(&shown);
                return Err(failure);
            }
            Err(_) => {}
        }
        sleep(EVERY);
    }
}

/// Shows the progress of a verification until it has ended, and its result.
pub fn follow_verification(
    session: &Session,
    view: &MirrorView,
    active: &str,
    repair: bool,
) -> Outcome {
    let mut shown = String::new();
    let mut seen = Instant::now();
    loop {
        sleep(EVERY);
        let there = all(session, Some(active)).and_then(|views| pick(views, &full(view)));
        let here = match there {
            Ok(view) => view.here,
            Err(failure) if seen.elapsed() >= AWAY => {
                end_line(&shown);
                return Err(failure);
            }
            Err(_) => continue,
        };
        seen = Instant::now();
        let Some(here) = here else { continue };
        match (here.verify, here.verify_found) {
            (Some(progress), _) => {
                line_of_progress(
                    session,
                    &mut shown,
                    &format!("verification {}", bar(&progress)),
                );
            }
            (None, Some(0)) => {
                end_line(&shown);
                print("both copies are equal\n");
                return Ok(ExitCode::SUCCESS);
            }
            (None, Some(found)) => {
                end_line(&shown);
                let found = shown_bytes(found);
                if repair {
                    print(&format!("{found} differed and were sent again\n"));
                    return Ok(ExitCode::SUCCESS);
                }
                return Err(
                    Failure::new(Code::Findings, format!("{found} differ")).hint(
                        "`hotpair mirror verify --repair` sends them again from the active side",
                    ),
                );
            }
            (None, None) => {
                end_line(&shown);
                return Err(broken_off(session, view));
            }
        }
    }
}

/// A verification ended before it was through.
fn broken_off(session: &Session, view: &MirrorView) -> Failure {
    let text = "the verification ended without a result";
    let now = find(session, &full(view)).and_then(|now| comparing(&now, &session.status()?));
    match now {
        Err(why) => {
            let failure = Failure::new(Code::Unfinished, format!("{text}: {}", why.message));
            match why.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        Ok(_) => Failure::new(
            Code::Unfinished,
            format!("{text}: the other copy was lost for a moment, or the mirror was closed"),
        )
        .hint(format!(
            "begin again: `hotpair mirror verify {}`",
            full(view)
        )),
    }
}

/// On a terminal the line is drawn over; elsewhere each new one is printed.
fn line_of_progress(session: &Session, shown: &mut String, line: &str) {
    if session.json || *shown == line {
        return;
    }
    if std::io::stdout().is_terminal() {
        let blanks = shown.chars().count().saturating_sub(line.chars().count());
        print(&format!("\r{}{}", plain(line), " ".repeat(blanks)));
    } else {
        print(&format!("{}\n", plain(line)));
    }
    line.clone_into(shown);
}

fn end_line(shown: &str) {
    if !shown.is_empty() && std::io::stdout().is_terminal() {
        print("\n");
    }
}

pub fn snapshots(session: &Session, name: &str) -> Outcome {
    let whole = Whole::of(session, find(session, name)?);
    let listed: BTreeMap<_, _> = whole
        .nodes
        .iter()
        .map(|(node, here)| (node.clone(), here.snapshots.clone()))
        .collect();
    session.show(&listed, || {
        let mut rows = Vec::new();
        for (node, snapshots) in &listed {
            for snapshot in snapshots {
                rows.push(vec![
                    node.clone(),
                    plain(&snapshot.name),
                    shown_time(snapshot.taken_ms),
                    shown_bytes(snapshot.bytes),
                    if snapshot.automatic {
                        "before a resynchronisation".into()
                    } else {
                        String::new()
                    },
                ]);
            }
        }
        if rows.is_empty() {
            "no snapshots\n".into()
        } else {
            columns(&rows)
        }
    })
}

/// Blocks and bytes. A side that does not know it any more takes all of its volume to have changed.
fn changed(bytes: u64, size: u64) -> String {
    if bytes >= size {
        return "not known any more".into();
    }
    format!(
        "{} blocks of {} ({})",
        bytes.div_ceil(BLOCK),
        shown_bytes(BLOCK),
        shown_bytes(bytes)
    )
}

/// Both sides of a mirror.
#[derive(Serialize)]
struct Sides {
    #[serde(flatten)]
    whole: Whole,
    /// `None`: not looked at.
    files: Option<Files>,
}

/// Both sides, as far as each can say.
pub fn split_brain(session: &Session, name: &str, with_files: bool) -> Outcome {
    let view = find(session, name)?;
    let files = with_files.then(|| Files::of(session, &view)).flatten();
    // Afterwards: a process that has just started has said its numbers by then.
    let whole = Whole::of(session, view);
    let sides = Sides { whole, files };
    let whole = &sides.whole;
    let split: Vec<&str> = whole
        .view
        .copies
        .iter()
        .filter(|copy| copy.state == "split-brain")
        .map(|copy| copy.node.as_str())
        .collect();
    session.show(&sides, || {
        let mut out = if split.is_empty() {
            format!("{} has no split-brain\n", full(&whole.view))
        } else {
            format!(
                "split-brain: the copy of {} on {} has writes that the other lacks\n",
                full(&whole.view),
                split.join(" and ")
            )
        };
        for copy in &whole.view.copies {
            let _ = writeln!(out, "{}: {}", copy.node, session.ink.state(&copy.state));
            match whole.nodes.get(&copy.node) {
                Some(here) => {
                    let _ = writeln!(
                        out,
                        "  changed since they parted: {}",
                        changed(here.out_of_sync, whole.view.size)
                    );
                    if let Some(since) = here.apart_since_ms {
                        let since = shown_time(since);
                        let _ = writeln!(out, "  without the other copy since: {since}");
                    }
                    let last = here.last_write_ms.map_or("unknown".into(), shown_time);
                    let _ = writeln!(out, "  last write: {last}");
                }
                None => out.push_str("  its node could not be asked\n"),
            }
        }
        if let Some(files) = &sides.files {
            out.push_str(&files.text());
        }
        if !split.is_empty() {
            let _ = writeln!(
                out,
                "keep one with `hotpair mirror split-brain resolve {} --keep NODE`; what the other has beyond it \
                 stays readable as a snapshot",
                full(&whole.view)
            );
        }
        out
    })
}
