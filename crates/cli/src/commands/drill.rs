//! `hotpair drill`: moves a group away and back, and measures how long its clients were without it.

use super::probe::{self, OutageView, Probe, ProbeView, Target};
use crate::confirm::Confirmation;
use crate::failure::{Code, Failure};
use crate::session::{self, Outcome, Session};
use clap::Args;
use hotpair_api::status::GroupView;
use hotpair_api::{Call, Reply};
use hotpair_core::config::{Check, Group, ResourceKind};
use hotpair_core::request::Request;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Practise a switchover: move a group to another node and back, and measure the outage.
///
/// The service is asked all the while from this node. For a client's own view run `hotpair probe` on its machine
/// meanwhile; for a fault of your own (the plug, a cable) run that alone.
#[derive(Debug, Args)]
pub struct DrillArgs {
    group: String,
    /// Where to; the node that would take it over by default.
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// What to ask: `10.0.0.100:5432` or `http://10.0.0.100/`; found in the group's detectors by default.
    #[arg(long, value_parser = probe::target)]
    target: Option<Target>,
    /// Leave it there instead of moving it back.
    #[arg(long)]
    stay: bool,
    /// Write the report to this file too, as a page with a chart.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    sure: Confirmation,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// Time from one question to the next.
const INTERVAL: Duration = Duration::from_millis(10);
/// Answers before the first move, and after each.
const CALM: Duration = Duration::from_secs(2);
/// How long a move may take.
const MOVE: Duration = Duration::from_secs(300);

#[derive(Debug, Serialize)]
struct DrillView {
    group: String,
    from: String,
    to: String,
    moves: Vec<MoveView>,
    /// As asked from this node.
    probe: ProbeView,
}

#[derive(Debug, Serialize)]
struct MoveView {
    to: String,
    /// Milliseconds since the beginning: asked for, and running there.
    asked_ms: f64,
    running_ms: f64,
    /// Outages between that and the next move, added up.
    outage_ms: f64,
}

pub fn run(session: &Session, args: DrillArgs) -> Outcome {
    let status = session.status()?;
    let group = session::group(&status, &args.group)?;
    let view = status.groups.iter().find(|view| view.name == group.0);
    let Some((view, from)) = view.and_then(|view| Some((view, view.active_on.first()?.clone())))
    else {
        return Err(
            Failure::refused(format!("group `{}` does not run", group.0))
                .hint("start it first: `hotpair group start`"),
        );
    };
    let to = match &args.to {
        Some(to) => to.clone(),
        None => standby(view)?,
    };
    session::node(&status, &to)?;
    let (cluster, _) = super::config::present(session)?;
    let target = match &args.target {
        Some(target) => target.clone(),
        None => cluster
            .groups
            .get(&group)
            .and_then(service)
            .ok_or_else(|| {
                Failure::refused(format!(
                    "group `{}` has no address with a TCP or URL detector to be asked",
                    group.0
                ))
                .hint("say what its clients use: `--target 10.0.0.100:5432`")
            })?,
    };
    let switch = |node: &str| -> Result<Request, Failure> {
        Ok(Request::GroupSwitch {
            group: group.clone(),
            to: Some(session::node(&status, node)?),
        })
    };
    // Refused here if the node could not run it.
    let text = session.operate(switch(&to)?, true)?;
    let back = if args.stay {
        String::new()
    } else {
        format!(", then back to {from}")
    };
    if args.dry_run {
        return session.say(
            &format!("{}{back}; {target} is asked all the while", text.trim_end()),
            true,
        );
    }
    args.sure.require(
        &group.0,
        &format!("Group {} moves from {from} to {to}{back}: its clients are without it for a moment each time.", group.0),
    )?;

    let probe = Probe::start(target.clone(), INTERVAL);
    std::thread::sleep(CALM);
    if !probe.answered() {
        let seen = probe.finish(&target);
        return Err(Failure::refused(format!(
            "{target} does not answer here: nothing was moved ({} questions)",
            seen.questions
        ))
        .hint("say what its clients use: `--target 10.0.0.100:5432`"));
    }
    let mut moves = Vec::new();
    for node in [Some(&to), Some(&from).filter(|_| !args.stay)]
        .into_iter()
        .flatten()
    {
        let asked_ms = probe.now().as_secs_f64() * 1000.0;
        if !session.json {
            eprintln!("moving {} to {node}", group.0);
        }
        session.operate(switch(node)?, false)?;
        wait(session, &group.0, node, &probe)?;
        moves.push(MoveView {
            to: node.clone(),
            asked_ms,
            running_ms: probe.now().as_secs_f64() * 1000.0,
            outage_ms: 0.0,
        });
        std::thread::sleep(CALM);
    }
    let seen = probe.finish(&target);
    add_up(&mut moves, &seen.outages, seen.seconds * 1000.0);
    let report = DrillView {
        group: group.0,
        from,
        to,
        moves,
        probe: seen,
    };
    if let Some(path) = &args.html {
        let marks: Vec<_> = report
            .moves
            .iter()
            .map(|one| (one.asked_ms, format!("to {}", one.to)))
            .collect();
        let title = format!("drill of {}", report.group);
        probe::write_page(
            path,
            &probe::page(&title, &text_of(&report), &report.probe, &marks),
        )?;
    }
    session.show(&report, || text_of(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// The node that would take the group over.
fn standby(view: &GroupView) -> Result<String, Failure> {
    let fit = view
        .nodes
        .iter()
        .find(|node| node.fit && node.role == "standby");
    fit.map(|node| node.name.clone()).ok_or_else(|| {
        let why: Vec<_> = view
            .nodes
            .iter()
            .filter(|node| !node.fit)
            .map(|node| format!("{}: {}", node.name, node.reason))
            .collect();
        Failure::refused(format!(
            "no other node could run group `{}`: {}",
            view.name,
            why.join("; ")
        ))
        .hint("mend that first: this is what a drill is for")
    })
}

/// What clients of the group ask: what a detector asks on one of its addresses.
fn service(group: &Group) -> Option<Target> {
    let addresses: Vec<_> = group
        .resources
        .values()
        .filter_map(|resource| match &resource.kind {
            ResourceKind::Address(address) => Some(address.address),
            _ => None,
        })
        .collect();
    let detectors = group
        .resources
        .values()
        .flat_map(|resource| &resource.detectors);
    detectors
        .into_iter()
        .find_map(|detector| match &detector.check {
            Check::Tcp { address, port, .. } => {
                let address = address
                    .filter(|known| addresses.contains(known))
                    .or(addresses.first().copied())?;
                Some(Target::Tcp((address, *port).into()))
            }
            Check::Url { url, .. } => {
                let on_ours = addresses
                    .iter()
                    .any(|address| url.contains(&address.to_string()));
                on_ours.then(|| Target::Url(url.clone()))
            }
            _ => None,
        })
}

/// Until the group runs on the node and answers.
fn wait(session: &Session, group: &str, node: &str, probe: &Probe) -> Result<(), Failure> {
    let end = Instant::now() + MOVE;
    while Instant::now() < end {
        // While votes change a moment may pass without an answer.
        if let Ok(Reply::Status(status)) = session.ask(Call::Status) {
            let view = status.groups.iter().find(|view| view.name == group);
            let there = view
                .is_some_and(|view| view.state == "running" && view.active_on == [node.to_owned()]);
            if there && probe.answered() {
                return Ok(());
            }
            if let Some(view) = view.filter(|view| view.state == "failed") {
                return Err(Failure::new(
                    Code::Unfinished,
                    format!("group `{group}` failed: {}", view.verdict),
                )
                .hint(format!("`hotpair explain {group}` says why")));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Failure::new(
        Code::Unfinished,
        format!(
            "group `{group}` does not run on {node} after {} s",
            MOVE.as_secs()
        ),
    )
    .hint(format!("`hotpair explain {group}` says why")))
}

/// Each outage belongs to the last move asked for before its end.
fn add_up(moves: &mut [MoveView], outages: &[OutageView], end_ms: f64) {
    for outage in outages {
        let length = outage.length_ms.unwrap_or(end_ms - outage.from_ms);
        let end = outage.from_ms + length;
        if let Some(of) = moves.iter_mut().rev().find(|one| one.asked_ms <= end) {
            of.outage_ms += length;
        }
    }
}

fn text_of(view: &DrillView) -> String {
    let mut out = String::new();
    for one in &view.moves {
        let _ = writeln!(
            out,
            "{} to {}: without an answer for {:.0} ms; running there {:.1} s after it was asked for",
            view.group,
            one.to,
            one.outage_ms,
            (one.running_ms - one.asked_ms) / 1000.0
        );
    }
    out + &probe::text(&view.probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_belong_to_the_move_that_was_asked_for_before() {
        let at = |asked_ms| MoveView {
            to: String::new(),
            asked_ms,
            running_ms: asked_ms + 500.0,
            outage_ms: 0.0,
        };
        let mut moves = [at(2000.0), at(5000.0)];
        let outage = |from_ms, length_ms| OutageView { from_ms, length_ms };
        let outages = [
            outage(1999.0, Some(300.0)),
            outage(2400.0, Some(50.0)),
            outage(5100.0, None),
        ];
        add_up(&mut moves, &outages, 7100.0);
        assert_eq!(moves.map(|one| one.outage_ms), [350.0, 2000.0]);
    }
}
