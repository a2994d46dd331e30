//! Configuration text to a checked cluster description, with diagnostics. Pure.
//!
//! [`check`] reads TOML (reference: `docs/configuration.md`) and either returns a
//! [`Cluster`] that keeps every rule, or **all** findings at once, each with its place in the text
//! and what to do about it. Nothing half-checked leaves this crate. [`show`] is its inverse.
//!
//! ```text
//!  text -> toml tables with spans -> read (types, ranges, names) -> rules (across places) -> Cluster
//!                                       \______ findings ______________/
//! ```
//!
//! [`GroupTemplate`] fills group templates, data files of `templates/`.
//!
//! A new resource kind is read in `read/resource.rs`, checked in `rules/`, written in `show.rs`. What
//! installed resource agents say is asked through [`Agents`].
#![forbid(unsafe_code)]

mod agent_form;
mod agents;
mod diff;
mod finding;
mod group_template;
mod read;
mod rules;
mod section;
mod show;
mod template;
mod words;

pub use agent_form::{
    AgentAction, AgentForm, AgentFormError, AgentParameter, AgentType, MAX_META_DATA,
};
pub use agents::{AgentAnswer, Agents, NoAgents};
pub use diff::{ConfigChange, Touch, Touched, diff};
pub use finding::{Finding, MAX_FINDINGS, Severity, any_error, render};
pub use group_template::{
    GroupTemplate, Kind, MAX_TEMPLATE, Parameter, TemplateError, built_in_templates,
};
pub use read::{FIRST_WITNESS, MAX_LINKS, MAX_NODES, PORT};
pub use rules::expected_failover;
pub use show::show;
pub use template::{HostFacts, Listening, NicFacts, template};
pub use words::parse_size;

use finding::Findings;
use hotpair_core::config::Cluster;
use section::{Places, Section};
use toml::de::DeTable;

/// Longest text that is read: 1 MiB. What is longer is refused unread.
pub const MAX_TEXT: usize = 1024 * 1024;

/// A text without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub cluster: Cluster,
    /// Warnings and advice, in the order of the text; what concerns the whole comes last.
    pub warnings: Vec<Finding>,
}

/// Checks a configuration text and makes a cluster of it.
///
/// `file_name` is only shown. `base` is the present cluster: nodes and witness keep their numbers by name, new nodes get
/// numbers above all present ones, and the cluster keeps its id. Without it the id is 0, for
/// `init` to set.
///
/// # Errors
/// All findings, warnings and advice included, when at least one is an error.
pub fn check(file_name: &str, text: &str, base: Option<&Cluster>) -> Result<Checked, Vec<Finding>> {
    check_with(file_name, text, base, &NoAgents)
}

/// As [`check`], on a node whose resource agents are known: their times are the defaults of their
/// resources, and their parameters are checked.
///
/// # Errors
/// As [`check`].
pub fn check_with(
    file_name: &str,
    text: &str,
    base: Option<&Cluster>,
    agents: &dyn Agents,
) -> Result<Checked, Vec<Finding>> {
    let findings = Findings::default();
    let cluster = read_all(text, base, agents, &findings);
    let findings = findings.finish(file_name, text);
    match cluster {
        Some(cluster) if !any_error(&findings) => Ok(Checked {
            cluster,
            warnings: findings,
        }),
        _ => Err(findings),
    }
}

fn read_all(
    text: &str,
    base: Option<&Cluster>,
    agents: &dyn Agents,
    findings: &Findings,
) -> Option<Cluster> {
    if text.len() > MAX_TEXT {
        let message = format!("the configuration has {} bytes", text.len());
        let help = format!("at most {MAX_TEXT} bytes are read; is this the right file?");
        findings.error(None, message, &help);
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut readable = true;
    for error in errors {
        // With a key that stands twice the rest can still be read. Of other errors only the first
        // is told: most that follow an open bracket or quote are its echoes.
        let duplicate = error.message().contains("duplicate key");
        if duplicate || readable {
            let (message, help) = syntax(error.message());
            findings.error(error.span(), message, &help);
        }
        readable &= duplicate;
    }
    if !readable {
        return None;
    }
    let places = Places::default();
    let root = Section::new(findings, &places, String::new(), 0..0, table.get_ref());
    let mut cluster = read::cluster(&root, base);
    agents::apply(&mut cluster, agents, &places, findings);
    rules::check(&cluster, &places, findings);
    Some(cluster)
}

/// What the TOML reader says, as one message and a help.
fn syntax(said: &str) -> (String, String) {
    match said.split_once(", expected ") {
        Some((wrong, wanted)) => (format!("not TOML: {wrong}"), format!("expected {wanted}")),
        None => (format!("not TOML: {said}"), String::new()),
    }
}
