//! What installed agents say about a configuration: their times become defaults, and their parameters
//! are checked. This crate runs nothing: who knows the agents of a node passes them in.

use crate::agent_form::{AgentForm, AgentParameter};
use crate::finding::Findings;
use crate::section::Places;
use crate::words::{nearest, shown};
use hotpair_core::config::{Cluster, Ocf, Resource, ResourceKind};
use std::sync::Arc;
use std::time::Duration;

/// The agents of the node where a text is checked.
pub trait Agents {
    /// What is known of agent `ocf:provider:agent`.
    fn ask(&self, provider: &str, agent: &str) -> AgentAnswer;
}

/// What is known of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentAnswer {
    /// Nobody has looked.
    NotAsked,
    /// It is not on this node; the text says what to do.
    Missing(String),
    /// It is there, and says nothing that can be used; the text says why and what to do.
    Broken(String),
    Form(Arc<AgentForm>),
}

/// No agent is known, and nothing is said about it.
pub struct NoAgents;

impl Agents for NoAgents {
    fn ask(&self, _: &str, _: &str) -> AgentAnswer {
        AgentAnswer::NotAsked
    }
}

/// Times that an agent's meta-data advises, for what the text leaves out.
struct Default<'a> {
    key: &'a str,
    advised: Option<Duration>,
    value: &'a mut Duration,
}

/// Checks every resource of an agent, and fills in the agents' own times.
pub(crate) fn apply(
    cluster: &mut Cluster,
    agents: &dyn Agents,
    places: &Places,
    findings: &Findings,
) {
    for (group_id, group) in &mut cluster.groups {
        for (id, resource) in &mut group.resources {
            let Resource {
                kind: ResourceKind::Ocf(ocf),
                start_timeout,
                stop_timeout,
                ..
            } = resource
            else {
                continue;
            };
            if findings.full() {
                return;
            }
            let path = format!("group/{group_id}/ocf/{id}");
            let at = places.of(&format!("{path}/agent"));
            let name = ocf.name();
            let form = match agents.ask(&ocf.provider, &ocf.agent) {
                AgentAnswer::NotAsked => continue,
                AgentAnswer::Missing(help) => {
                    let message =
                        format!("{name} is not on this node, so its parameters are not checked");
                    findings.warning(at, message, &help);
                    continue;
                }
                AgentAnswer::Broken(why) => {
                    let message =
                        format!("{name} does not tell its parameters, so they are not checked");
                    findings.warning(at, message, &why);
                    continue;
                }
                AgentAnswer::Form(form) => form,
            };
            parameters(ocf, &form, &path, places, findings);
            let defaults = [
                Default {
                    key: "start_timeout_s",
                    advised: form.timeout("start", 0),
                    value: start_timeout,
                },
                Default {
                    key: "stop_timeout_s",
                    advised: form.timeout("stop", 0),
                    value: stop_timeout,
                },
                Default {
                    key: "monitor_timeout_s",
                    advised: form.timeout("monitor", ocf.check_level),
                    value: &mut ocf.monitor_timeout,
                },
            ];
            for default in defaults {
                time(default, &name, &path, places, findings);
            }
        }
    }
}

/// An agent that gets less time than it asks for is killed in the middle of its work.
fn time(default: Default<'_>, name: &str, path: &str, places: &Places, findings: &Findings) {
    let Some(advised) = default.advised else {
        return;
    };
    let place = format!("{path}/{}", default.key);
    if !places.has(&place) {
        *default.value = advised;
    } else if *default.value < advised {
        let message = format!(
            "`{}` is shorter than the {advised:?} that {name} asks for",
            default.key
        );
        let help = "an agent that is killed in the middle of its work counts as failed; leave the key out to give it what it asks for";
        findings.advice(places.of(&place), message, help);
    }
}

fn parameters(ocf: &Ocf, form: &AgentForm, path: &str, places: &Places, findings: &Findings) {
    let name = ocf.name();
    for (key, value) in &ocf.parameters {
        let place = format!("{path}/parameters/{key}");
        let Some(parameter) = form.parameter(key) else {
            let known = form.parameters.iter().map(|one| one.name.as_str());
            let help = match nearest(key, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("`hotpair agents show {name}` lists those it has"),
            };
            let message = format!("{name} has no parameter `{}`", shown(key));
            findings.error(places.of(&format!("{place}/key")), message, &help);
            continue;
        };
        if let Some(wanted) = parameter.kind.refuses(value) {
            let message = format!(
                "`{}` of {name} must be {wanted}, this is `{}`",
                shown(key),
                shown(value)
            );
            findings.error(places.of(&place), message, &told(parameter));
        } else if parameter.required && value.is_empty() {
            let message = format!("`{}` of {name} is required and empty", shown(key));
            findings.error(places.of(&place), message, &told(parameter));
        } else if parameter.deprecated {
            let message = format!("`{}` of {name} is deprecated", shown(key));
            findings.advice(
                places.of(&format!("{place}/key")),
                message,
                &told(parameter),
            );
        }
    }
    let given = |parameter: &&AgentParameter| ocf.parameters.contains_key(&parameter.name);
    let has_default = |parameter: &&AgentParameter| {
        parameter
            .default
            .as_ref()
            .is_some_and(|text| !text.is_empty())
    };
    for parameter in &form.parameters {
        if parameter.required && !given(&parameter) && !has_default(&parameter) {
            let message = format!("{name} requires the parameter `{}`", shown(&parameter.name));
            findings.error(
                places.of(&format!("{path}/parameters")),
                message,
                &told(parameter),
            );
        }
    }
}

/// What the agent itself says about a parameter.
fn told(parameter: &AgentParameter) -> String {
    let title: String = parameter.title.chars().take(200).collect();
    if title.is_empty() {
        String::new()
    } else {
        format!("{}: {title}", parameter.name)
    }
}
