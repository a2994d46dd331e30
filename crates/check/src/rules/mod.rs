//! What the facts of all hosts together say.

mod groups;
mod hosts;
mod network;
mod system;

use hotpair_api::facts::Host;
use hotpair_core::config::Cluster;
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something will not work, or one fault stops everything.
    Error,
    /// It works, but costs safety or availability.
    Warning,
    /// Worth knowing.
    Advice,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// Name of the rule, the same in every version.
    pub id: &'static str,
    /// A node, several of them, or `cluster`.
    pub at: String,
    /// What is wrong.
    pub message: String,
    /// What to do, with the command where there is one.
    pub help: String,
}

/// A host that was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Name of the node; without a cluster the host's own.
    pub name: String,
    /// What it said, or why nothing was heard of it.
    pub host: Result<Host, String>,
    /// How far its clock is ahead of the asking host's, in microseconds, and how much of that may be the way.
    pub clock_ahead_us: Option<(i64, i64)>,
}

/// A heartbeat link to a node, as the asking node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSeen {
    pub node: String,
    pub link: String,
    pub up: bool,
}

/// Everything the rules look at.
#[derive(Clone, Debug, Default)]
pub struct Given<'a> {
    pub cluster: Option<&'a Cluster>,
    pub hosts: Vec<Asked>,
    pub links: Vec<LinkSeen>,
    /// Whether the witness answers; `None`: not asked, or there is none.
    pub witness_online: Option<bool>,
}

/// What was found, worst first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Names of the hosts that were asked.
    pub hosts: Vec<String>,
    pub errors: usize,
    pub warnings: usize,
    pub findings: Vec<Finding>,
}

/// Judges. The same facts give the same findings in the same order.
#[must_use]
pub fn findings(given: &Given<'_>) -> Report {
    let mut out = Out::default();
    hosts::judge(given, &mut out);
    network::judge(given, &mut out);
    system::judge(given, &mut out);
    groups::judge(given, &mut out);
    let mut findings = out.0;
    findings.sort_by(|a, b| (a.severity, &a.at, a.id).cmp(&(b.severity, &b.at, b.id)));
    findings.dedup();
    let count = |severity| {
        findings
            .iter()
            .filter(|one| one.severity == severity)
            .count()
    };
    Report {
        hosts: given.hosts.iter().map(|asked| asked.name.clone()).collect(),
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        findings,
    }
}

/// Findings while they are collected.
#[derive(Default)]
struct Out(Vec<Finding>);

impl Out {
    fn error(&mut self, id: &'static str, at: &str, message: String, help: impl Into<String>) {
        self.add(Severity::Error, id, at, message, help.into());
    }

    fn warning(&mut self, id: &'static str, at: &str, message: String, help: impl Into<String>) {
        self.add(Severity::Warning, id, at, message, help.into());
    }

    fn advice(&mut self, id: &'static str, at: &str, message: String, help: impl Into<String>) {
        self.add(Severity::Advice, id, at, message, help.into());
    }

    fn add(
        &mut self,
        severity: Severity,
        id: &'static str,
        at: &str,
        message: String,
        help: String,
    ) {
        self.0.push(Finding {
            severity,
            id,
            at: at.to_owned(),
            message,
            help,
        });
    }
}

/// Where findings about no single node are.
const CLUSTER: &str = "cluster";

impl Given<'_> {
    /// Hosts that were heard.
    fn heard(&self) -> impl Iterator<Item = (&str, &Host)> {
        self.hosts
            .iter()
            .filter_map(|asked| Some((asked.name.as_str(), asked.host.as_ref().ok()?)))
    }

    fn host(&self, name: &str) -> Option<&Host> {
        self.heard()
            .find(|(known, _)| *known == name)
            .map(|(_, host)| host)
    }

    /// All values of something, each with the hosts that have it; more than one value is a difference.
    fn by_value<T: Ord>(&self, value: impl Fn(&Host) -> Option<T>) -> Vec<(T, Vec<&str>)> {
        let mut out = std::collections::BTreeMap::<T, Vec<&str>>::new();
        for (name, host) in self.heard() {
            if let Some(value) = value(host) {
                out.entry(value).or_default().push(name);
            }
        }
        out.into_iter().collect()
    }
}

/// `a on node1, b on node2 and node3`.
fn spread<T: std::fmt::Display>(values: &[(T, Vec<&str>)]) -> String {
    let parts: Vec<_> = values
        .iter()
        .map(|(value, hosts)| format!("{value} on {}", hosts.join(" and ")))
        .collect();
    parts.join(", ")
}
