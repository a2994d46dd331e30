//! `hotpair agents`: the OCF resource agents of this node, and what they take.

use crate::failure::Failure;
use crate::output::{columns, plain};
use crate::session::{Outcome, Session};
use clap::Subcommand;
use hotpair_config::{AgentForm, AgentParameter, AgentType};
use hotpair_daemon::agents;
use hotpair_host::ocf::{Agent, ROOT, list};
use serde::Serialize;
use std::path::Path;

/// OCF resource agents of this node: which there are, and what they take.
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// List the agents.
    List,
    /// Show what an agent takes: its parameters with type and default, and its own limits.
    Show {
        /// Such as `ocf:heartbeat:IPaddr2`.
        agent: String,
    },
}

/// A form with the name that a configuration has for it.
#[derive(Serialize)]
struct Shown {
    agent: String,
    #[serde(flatten)]
    form: AgentForm,
}

pub fn run(session: &Session, command: &AgentsCommand) -> Outcome {
    let agents = list(Path::new(ROOT));
    match command {
        AgentsCommand::List => {
            let names: Vec<_> = agents.iter().map(ToString::to_string).collect();
            session.show(&names, || match names.as_slice() {
                [] => format!("no agents in {ROOT}: install the package resource-agents\n"),
                names => names.iter().map(|name| plain(name) + "\n").collect(),
            })
        }
        AgentsCommand::Show { agent } => {
            let agent = find(&agents, agent)?;
            let form = agents::form(&agent, Path::new(ROOT), &agents::language())
                .map_err(|no| Failure::refused(no.why).hint(no.advice))?;
            let shown = Shown {
                agent: agent.to_string(),
                form,
            };
            session.show(&shown, || describe(&shown))
        }
    }
}

/// The agent of this name; a name without provider is enough where it is the only one.
fn find(agents: &[Agent], name: &str) -> Result<Agent, Failure> {
    let named = |agent: &&Agent| agent.to_string() == name || agent.name == name;
    let mut found = agents.iter().filter(named);
    match (found.next(), found.next()) {
        (Some(agent), None) => Ok(agent.clone()),
        (Some(one), Some(other)) => Err(Failure::refused(format!(
            "{name} is {one} and {other}, at least"
        ))
        .hint("give the whole name")),
        (None, _) => Err(Failure::refused(format!("there is no agent {name} on this node"))
            .hint("`hotpair agents list` shows them; ocf:heartbeat agents are in the package resource-agents")),
    }
}

fn describe(shown: &Shown) -> String {
    let form = &shown.form;
    let mut out = format!("{}  {}\n", shown.agent, plain(&form.title));
    if !form.description.is_empty() {
        out += &format!("\n{}\n", lines(&form.description));
    }
    let rows: Vec<_> = form.parameters.iter().map(row).collect();
    if !rows.is_empty() {
        out += &format!("\nparameters:\n{}", columns(&rows));
    }
    let limits = ["start", "stop", "monitor"].iter().filter_map(|action| {
        let timeout = form.timeout(action, 0)?;
        Some(format!("{action} {} s", timeout.as_secs()))
    });
    let limits: Vec<_> = limits.collect();
    if !limits.is_empty() {
        out += &format!("\nits own limits: {}\n", limits.join(", "));
    }
    let example = form.parameters.iter().filter(|one| one.required);
    let example: Vec<_> = example
        .map(|one| format!("{} = \"…\"", plain(&one.name)))
        .collect();
    out += &format!(
        "\n[group.NAME.ocf.NAME]\nagent = \"{}\"\nparameters = {{ {} }}\n",
        shown.agent,
        example.join(", ")
    );
    out
}

fn row(parameter: &AgentParameter) -> Vec<String> {
    let kind = match &parameter.kind {
        AgentType::Select(choices) => plain(&choices.join("|")),
        kind => kind.name().to_owned(),
    };
    let value = match &parameter.default {
        Some(default) if !default.is_empty() => plain(default),
        _ if parameter.required => "required".to_owned(),
        _ => "-".to_owned(),
    };
    let title = if parameter.title.is_empty() {
        &parameter.description
    } else {
        &parameter.title
    };
    let mut title = plain(title.lines().next().unwrap_or_default());
    if parameter.deprecated {
        title += " (deprecated)";
    }
    vec![plain(&parameter.name), kind, value, title]
}

/// A text of several lines, each made plain.
fn lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}
