//! `hotpair status`: the whole cluster as this node knows it.

use crate::failure::Code;
use crate::output::{Colour, Ink, columns, plain, print};
use crate::session::{Outcome, Session};
use clap::Args;
use hotpair_api::StatusView;
use hotpair_api::status::{FitView, GroupView, LinkView, NodeView, QuorumView};
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Show the cluster: nodes, links, witness, leader, groups. Exit code 4 while there is no leader.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show it again every second, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
}

pub fn run(session: &Session, args: &StatusArgs) -> Outcome {
    if args.watch {
        return watch(session);
    }
    let status = session.status()?;
    session.show(&status, || text(&status, session.ink))?;
    Ok(match status.leader {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(Code::Undecided as u8),
    })
}

/// Until Ctrl-C, also over a daemon that is down for a while.
fn watch(session: &Session) -> Outcome {
    loop {
        let shown = match session.status() {
            Ok(status) if session.json => format!("{}\n", serde_json::to_string(&status)?),
            Ok(status) => text(&status, session.ink),
            Err(failure) if failure.code == Code::NotRunning => format!("{}\n", failure.message),
            Err(failure) => return Err(failure),
        };
        let clear = if session.ink.on && !session.json {
            "\x1b[H\x1b[2J"
        } else {
            ""
        };
        print(&format!("{clear}{shown}"));
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The whole status.
pub fn text(status: &StatusView, ink: Ink) -> String {
    let mut out = head(status, ink);
    let _ = writeln!(out, "\n{}", ink.paint(Colour::Bold, "nodes"));
    out.push_str(&nodes(status, ink));
    match &status.witness {
        Some(witness) => {
            let votes = if witness.votes {
                "votes"
            } else {
                "has no vote now"
            };
            let _ = writeln!(out, "\n{}", ink.paint(Colour::Bold, "witness"));
            let _ = writeln!(
                out,
                "  {}  {}  {votes}",
                witness.name,
                ink.state(&witness.state)
            );
            if let Some(disk) = &witness.disk {
                out.push_str(&quorum(disk, ink));
            }
        }
        None => out.push_str("\nno witness\n"),
    }
    let _ = writeln!(out, "\n{}", ink.paint(Colour::Bold, "groups"));
    if status.groups.is_empty() {
        out.push_str("  none are configured: `hotpair config apply FILE`\n");
    }
    for view in &status.groups {
        out.push_str(&group(view, ink));
    }
    out
}

fn quorum(disk: &QuorumView, ink: Ink) -> String {
    let mut out = format!("    quorum disk {}", disk.path);
    if let Some(us) = disk.round_us {
        let _ = write!(out, "  {}.{:02} ms", us / 1000, us % 1000 / 10);
    }
    out.push('\n');
    if let Some(problem) = &disk.problem {
        let text = format!("does not answer this node: {}", plain(problem));
        let _ = writeln!(out, "    {}", ink.paint(Colour::Red, &text));
    }
    for warning in &disk.warnings {
        let _ = writeln!(out, "    {}", ink.paint(Colour::Yellow, &plain(warning)));
    }
    out
}

fn head(status: &StatusView, ink: Ink) -> String {
    let cluster = &status.cluster;
    let colour = if cluster.guarantee == "single-active" {
        Colour::Green
    } else {
        Colour::Yellow
    };
    let mut out = format!(
        "cluster {}, revision {}\nguarantee {}: {}\n",
        ink.paint(Colour::Bold, &cluster.name),
        cluster.revision,
        ink.paint(colour, &cluster.guarantee),
        plain(&cluster.guarantee_reason),
    );
    match &status.leader {
        Some(leader) => {
            let _ = writeln!(out, "leader {leader}, term {}", status.term);
        }
        None => {
            let text = format!(
                "no leader, term {}: nothing is decided until a majority votes",
                status.term
            );
            let _ = writeln!(out, "{}", ink.paint(Colour::Red, &text));
        }
    }
    let lease = if status.lease {
        "holds a lease"
    } else {
        "holds no lease, so it may run no group"
    };
    let _ = writeln!(
        out,
        "told by {}, which {lease}; document {}",
        status.node, status.version
    );
    if status.committed != status.version {
        let _ = writeln!(
            out,
            "newest document known to be committed: {}",
            status.committed
        );
    }
    if status.disarmed {
        let text = "disarmed: nothing is done automatically until `hotpair arm`";
        let _ = writeln!(out, "{}", ink.paint(Colour::Yellow, text));
    }
    out
}

/// Each node with its links.
pub fn nodes(status: &StatusView, ink: Ink) -> String {
    let width = status
        .nodes
        .iter()
        .map(|node| node.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for node in &status.nodes {
        let marks = marks(status, node).join(", ");
        let line = format!(
            "  {:<width$}  {}  {marks}",
            node.name,
            ink.padded(&node.state, 7)
        );
        let _ = writeln!(out, "{}", line.trim_end());
        let names = node
            .links
            .iter()
            .map(|link| link.name.chars().count())
            .max()
            .unwrap_or(0);
        for link in &node.links {
            let line = format!("    {:<names$}  {}", link.name, link_text(link, ink));
            let _ = writeln!(out, "{}", line.trim_end());
        }
    }
    out
}

fn marks<'a>(status: &StatusView, node: &'a NodeView) -> Vec<&'a str> {
    let flags = [
        (status.leader.as_ref() == Some(&node.name), "leader"),
        (status.node == node.name, "this node"),
        (!node.votes, "no vote"),
        (node.maintenance, "maintenance"),
        (node.drained, "drained"),
        (node.held_out, "held out (flapping)"),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(holds, mark)| holds.then_some(mark));
    flags.chain(node.fencing.as_deref()).collect()
}

fn link_text(link: &LinkView, ink: Ink) -> String {
    let mut out = format!("{}  {}", link.address, ink.state(&link.state));
    if link.loss_percent > 0.0 {
        let _ = write!(out, "  {:.0} % lost", link.loss_percent);
    }
    if let Some(us) = link.round_trip_us {
        let _ = write!(out, "  {}.{:02} ms", us / 1000, us % 1000 / 10);
    }
    out
}

/// One group with its resources and nodes.
pub fn group(view: &GroupView, ink: Ink) -> String {
    let on = match view.active_on.as_slice() {
        [] => String::new(),
        active => format!(" on {}", active.join(", ")),
    };
    let mut out = format!(
        "  {}  {}{on}",
        ink.paint(Colour::Bold, &view.name),
        ink.state(&view.state)
    );
    for (holds, mark) in [
        (view.maintenance, "maintenance"),
        (view.disabled, "automatic takeover disabled"),
    ] {
        if holds && view.state != mark {
            let _ = write!(out, ", {mark}");
        }
    }
    if let Some(node) = &view.pinned {
        let _ = write!(out, ", pinned to {node}");
    }
    if !view.stopped_resources.is_empty() {
        let names = view.stopped_resources.join(", ");
        let _ = write!(out, ", stopped by the operator: {names}");
    }
    out.push('\n');
    for sentence in [&view.verdict, &view.reason] {
        if !sentence.is_empty() {
            let _ = writeln!(out, "    {}", plain(sentence));
        }
    }
    if !view.relations.is_empty() {
        let _ = writeln!(out, "    {}", plain(&view.relations.join("; ")));
    }
    out.push_str(&resources(view, ink));
    out.push_str(&fits(&view.nodes, ink, "    "));
    out
}

fn resources(view: &GroupView, ink: Ink) -> String {
    let rows = view.resources.iter().map(|resource| {
        let restarts = match resource.restarts {
            0 => String::new(),
            1 => "1 restart".to_owned(),
            many => format!("{many} restarts"),
        };
        let told = [plain(&resource.detail), restarts];
        let told: Vec<_> = told.into_iter().filter(|part| !part.is_empty()).collect();
        vec![
            resource.name.clone(),
            resource.kind.clone(),
            resource.state.clone(),
            told.join(", "),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let mut out = String::new();
    for (line, resource) in columns(&rows).lines().zip(&view.resources) {
        // The state is coloured last: escape sequences have no width.
        let _ = writeln!(
            out,
            "    {}",
            line.replacen(
                &format!("  {}", resource.state),
                &format!("  {}", ink.state(&resource.state)),
                1
            )
        );
    }
    out
}

/// Could each node run the group, and why not?
pub fn fits(nodes: &[FitView], ink: Ink, indent: &str) -> String {
    let width = nodes
        .iter()
        .map(|node| node.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for node in nodes {
        let line = format!(
            "{indent}{:<width$}  {}  {}",
            node.name,
            ink.padded(&node.role, 7),
            plain(&node.reason)
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests;
