//! `hotpair check`: are the hosts fit for what the cluster asks of them?

use crate::failure::{Code, Failure};
use crate::output::{Colour, Ink, plain, print};
use crate::session::{Outcome, Session, unexpected};
use clap::Args;
use hotpair_api::facts::{Host, Wanted};
use hotpair_api::{Call, Reply};
use hotpair_check::{Asked, Given, LinkSeen, Report, Severity, findings, html, wanted};
use hotpair_core::config::Cluster;
use hotpair_core::ids::MemberId;
use hotpair_daemon::agents::Installed;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a host may take to look at itself.
const LOOK: Duration = Duration::from_secs(20);

/// Check all hosts of the cluster: clocks, networks, packet filters, programs, users, disks, split-brain risks.
///
/// Without a daemon on this node, this host alone is checked.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Check the hosts against this configuration instead of the one in force; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the report to this file too, as a page for a browser.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(session: &Session, args: &CheckArgs) -> Outcome {
    let report = match session.status() {
        Ok(status) => of_cluster(session, args, &status),
        Err(failure) if failure.code == Code::NotRunning => of_this_host(session, args, failure),
        Err(failure) => Err(failure),
    }?;
    let (title, report) = report;
    if let Some(path) = &args.html {
        let page = html(&report, &title, &jiff::Timestamp::now().to_string());
        std::fs::write(path, page).map_err(|error| {
            Failure::refused(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    if session.json {
        session.print_json(&report)?;
    } else {
        print(&text(&report, session.ink));
    }
    Ok(if report.errors > 0 {
        ExitCode::from(Code::Findings as u8)
    } else {
        ExitCode::SUCCESS
    })
}

/// The configuration to check against: the file's, or `base`.
fn configuration(args: &CheckArgs, base: Option<Cluster>) -> Result<Option<Cluster>, Failure> {
    let Some(path) = &args.config else {
        return Ok(base);
    };
    let (file, text) = (path.display().to_string(), super::config::read(path)?);
    let checked = super::config::checked(&file, &text, &Installed::asking())?;
    Ok(Some(checked.cluster))
}

fn of_cluster(
    session: &Session,
    args: &CheckArgs,
    status: &hotpair_api::StatusView,
) -> Result<(String, Report), Failure> {
    let (present, _) = super::config::present(session)?;
    let cluster = configuration(args, Some(present))?;
    // Of nodes that are not members yet there is nothing to be heard.
    let members = |member: &MemberId, name: &str| {
        let known = status.nodes.iter();
        known
            .into_iter()
            .any(|node| node.name == name)
            .then_some(*member)
    };
    let mut hosts = Vec::new();
    std::thread::scope(|scope| {
        let nodes = cluster.iter().flat_map(|cluster| &cluster.nodes);
        let asked: Vec<_> = nodes
            .filter_map(|(member, node)| Some((members(member, &node.name)?, &node.name)))
            .map(|(member, name)| {
                let wanted = wanted(cluster.as_ref(), Some(member));
                scope.spawn(move || ask(session, name, wanted))
            })
            .collect();
        hosts = asked
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect();
    });
    let links = status.nodes.iter().flat_map(|node| {
        let seen = node.links.iter().filter(|link| link.state != "own");
        seen.map(|link| LinkSeen {
            node: node.name.clone(),
            link: link.name.clone(),
            up: link.state != "down",
        })
    });
    let witness = status.witness.as_ref();
    let report = findings(&Given {
        cluster: cluster.as_ref(),
        hosts,
        links: links.collect(),
        witness_online: witness.map(|witness| witness.state == "online"),
    });
    Ok((status.cluster.name.clone(), report))
}

fn ask(session: &Session, name: &str, wanted: Wanted) -> Asked {
    let call = Call::On {
        node: name.to_owned(),
        call: Box::new(Call::Facts {
            wanted: Box::new(wanted),
        }),
    };
    let before = wall_us();
    let answer = session.call(call, LOOK);
    let after = wall_us();
    let host = match answer {
        Ok(Reply::Facts(host)) => Ok(*host),
        Ok(other) => Err(unexpected(&other).message),
        Err(failure) => Err(failure.message),
    };
    // It reads its clock last, so the time of the answer is the closer one.
    let ahead = host
        .as_ref()
        .ok()
        .map(|host: &Host| host.clock.wall_us - after);
    Asked {
        name: name.to_owned(),
        host,
        clock_ahead_us: ahead.map(|ahead| (ahead, after - before)),
    }
}

fn wall_us() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Before there is a cluster, or while the daemon is down.
fn of_this_host(
    session: &Session,
    args: &CheckArgs,
    failure: Failure,
) -> Result<(String, Report), Failure> {
    let cluster = configuration(args, None)?;
    if !session.json {
        eprintln!("note: {}; only this host is checked", failure.message);
    }
    let look = |wanted: &Wanted| {
        let version = env!("CARGO_PKG_VERSION");
        hotpair_check::gather(wanted, version, &session.paths.state())
    };
    let first = look(&wanted(None, None));
    let me = cluster.as_ref().and_then(|cluster| member(cluster, &first));
    if let (Some(_), None) = (&cluster, me) {
        return Err(Failure::refused(format!(
            "this host is no node of the configuration: it has none of their addresses, and its name is `{}`",
            first.system.host_name
        ))
        .hint("correct the addresses of the links, or check on one of the nodes"));
    }
    let name = match (&cluster, me) {
        (Some(cluster), Some(me)) => cluster.nodes[&me].name.clone(),
        _ => first.system.host_name.clone(),
    };
    let report = findings(&Given {
        cluster: cluster.as_ref(),
        hosts: vec![Asked {
            name: name.clone(),
            host: Ok(look(&wanted(cluster.as_ref(), me))),
            clock_ahead_us: None,
        }],
        ..Given::default()
    });
    Ok((name, report))
}

/// Which node of the configuration a host is: by its addresses, or else by its name.
fn member(cluster: &Cluster, host: &Host) -> Option<MemberId> {
    let own: Vec<_> = host
        .nics
        .iter()
        .flat_map(|nic| &nic.addresses)
        .map(|one| one.address)
        .collect();
    let by_address = cluster.links.iter().find_map(|link| {
        let mut addresses = link.addresses.iter();
        addresses.find(|(_, address)| !address.ip().is_loopback() && own.contains(&address.ip()))
    });
    by_address
        .map(|(member, _)| *member)
        .or_else(|| cluster.node_named(&host.system.host_name))
}

fn text(report: &Report, ink: Ink) -> String {
    let mut out = String::new();
    for finding in &report.findings {
        let (word, colour) = match finding.severity {
            Severity::Error => ("error", Colour::Red),
            Severity::Warning => ("warning", Colour::Yellow),
            Severity::Advice => ("advice", Colour::Grey),
        };
        out.push_str(&format!(
            "{} {}: {} [{}]\n    {}\n",
            ink.paint(colour, word),
            ink.paint(Colour::Bold, &finding.at),
            plain(&finding.message),
            finding.id,
            plain(&finding.help)
        ));
    }
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    let advice = report.findings.len() - report.errors - report.warnings;
    out.push_str(&format!(
        "checked {}: {}, {}, {advice} advice\n",
        report.hosts.join(", "),
        count(report.errors, "error"),
        count(report.warnings, "warning"),
    ));
    out
}
