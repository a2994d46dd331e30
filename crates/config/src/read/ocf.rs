//! Reads resources that OCF resource agents run. What the agents say about it is asked in `agents`.

use super::Names;
use crate::agent_form::is_parameter;
use crate::section::{Section, integer};
use crate::words::shown;
use hotpair_core::config::{Ocf, ResourceKind};
use hotpair_core::ids::MemberId;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::de::DeValue;

/// Time between two monitors, and limit of one, where the agent's meta-data is not known.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const MONITOR_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest name of a provider or an agent, in bytes.
const MAX_NAME: usize = 63;

/// Variables of the cluster's own, which no parameter may overwrite.
const RESERVED: &str = "CRM_meta_";

pub(super) fn ocf(section: &Section<'_>, _: &Names, _: &[MemberId]) -> Option<ResourceKind> {
    if !section.has("agent") {
        let help = "name the agent, such as agent = \"ocf:heartbeat:Filesystem\"; `hotpair agents list` shows those of this node";
        section.missing("agent", help);
    }
    let agent = section.string("agent").and_then(|(text, span)| {
        let named = name(&text);
        if named.is_none() {
            let message = format!("`{}` does not name an OCF agent", shown(&text));
            let help = "write ocf:PROVIDER:AGENT, such as ocf:heartbeat:Filesystem; `hotpair agents list` shows those of this node";
            section.error(span, message, help);
        }
        named
    });
    let parameters = parameters(section);
    let interval = section.seconds("interval_s", 1_000..=86_400_000);
    let monitor_timeout = section.seconds("monitor_timeout_s", 100..=86_400_000);
    let check_level = section.number("check_level", 0..=100);
    let (provider, agent) = agent?;
    Some(ResourceKind::Ocf(Ocf {
        provider,
        agent,
        parameters,
        interval: interval.unwrap_or(INTERVAL),
        monitor_timeout: monitor_timeout.unwrap_or(MONITOR_TIMEOUT),
        check_level: check_level.unwrap_or_default(),
    }))
}

/// `ocf:heartbeat:IPaddr2` in its parts; both become names of files.
fn name(text: &str) -> Option<(String, String)> {
    let (provider, agent) = text.strip_prefix("ocf:")?.split_once(':')?;
    let file = |name: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        !name.is_empty()
            && name.len() <= MAX_NAME
            && !name.starts_with('.')
            && name.chars().all(good)
    };
    (file(provider) && file(agent)).then(|| (provider.to_owned(), agent.to_owned()))
}

pub(super) fn parameters(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let Some(table) = section.section("parameters") else {
        return parameters;
    };
    for (key, value) in table.entries() {
        let name = key.get_ref();
        if !is_parameter(name) || name.starts_with(RESERVED) {
            let message = format!("`{}` cannot be the name of a parameter", shown(name));
            let help = "take a name that `hotpair agents show` lists";
            section.error(key.span(), message, help);
            continue;
        }
        let place = table.join(name);
        table.places.put(format!("{place}/key"), key.span());
        table.places.put(place, value.span());
        let text = match value.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                let message = format!("`{}` contains a zero character", shown(name));
                section.error(value.span(), message, "remove it");
                continue;
            }
            DeValue::String(text) => text.to_string(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            other => match integer(other) {
                Some(number) => number.to_string(),
                None => {
                    section.wrong_type(name, value, "a string, a number, or true or false");
                    continue;
                }
            },
        };
        parameters.insert(name.to_string(), text);
    }
    parameters
}
