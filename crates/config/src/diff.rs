//! What a change of the configuration changes, in words, and which services it touches.

use crate::show::show;
use hotpair_core::config::{Cluster, Group, Resource, ResourceKind};
use hotpair_core::ids::{GroupId, ResourceId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One difference between two configurations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    /// Which part, as it is written in the text: `group.web.service.site`, `link lan`.
    pub part: String,
    /// What about it: `command: ["/a"] -> ["/b"]`, `added`, `removed`.
    pub text: String,
    /// Running resources that are stopped or restarted by it; empty: services go on untouched.
    pub touched: Vec<Touched>,
}

/// A resource whose service is interrupted where it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Touched {
    pub group: GroupId,
    pub resource: ResourceId,
    pub how: Touch,
}

/// What happens to a running resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Touch {
    /// Stopped and started again, here or on another node.
    Restarted,
    /// Stopped for good.
    Stopped,
}

/// Keys that say how something is started: a change means a restart of what runs. Others (times,
/// detectors, stop and status programs, gateway, a mirror's size, mode, links and rate) are used from
/// the next moment on.
const RESTART_KEYS: [&str; 17] = [
    "agent",
    "parameters",
    "address",
    "nics",
    "start",
    "command",
    "user",
    "directory",
    "environment",
    "device",
    "metadata",
    "port",
    "export",
    "mirror",
    "path",
    "filesystem",
    "options",
];

/// Every difference, in the order of the parts' names.
#[must_use]
pub fn diff(old: &Cluster, new: &Cluster) -> Vec<ConfigChange> {
    let (before, after) = (parts(&show(old)), parts(&show(new)));
    let empty = Part::default();
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let (was, is) = (before.get(name), after.get(name));
        // Sections that only hold values beside defaults come and go without meaning of their own.
        let plain = matches!(name.as_str(), "timing" | "flapping" | "cluster");
        match (was, is) {
            (None, Some(_)) if !plain => changes.push(change(name, "added".to_owned())),
            (Some(part), None) if !plain => {
                let touched = stopped(old, new, &part.path);
                let change = change(name, "removed".to_owned());
                changes.push(ConfigChange { touched, ..change });
            }
            _ => {
                let (was, is) = (was.unwrap_or(&empty), is.unwrap_or(&empty));
                changes.extend(differences(name, was, is, old, new));
            }
        }
    }
    changes
}

fn change(part: &str, text: String) -> ConfigChange {
    ConfigChange {
        part: part.to_owned(),
        text,
        touched: Vec::new(),
    }
}

/// A section of a shown text.
#[derive(Default)]
struct Part {
    /// `group`, its name, kind, name of the resource; only as long as it is known.
    path: Vec<String>,
    values: BTreeMap<String, String>,
}

/// Cuts a shown text into its sections. In a shown text every value is on one line.
fn parts(text: &str) -> BTreeMap<String, Part> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for section in text.split("\n\n") {
        let mut lines = section.trim_start().lines();
        let Some(header) = lines.next() else { continue };
        let values: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(" = "))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let inner = header.trim_matches(['[', ']']);
        let own = values.get("name").map(|name| name.trim_matches('"'));
        let name = match (inner, own) {
            ("node" | "link", Some(own)) => format!("{inner} {own}"),
            _ if header.starts_with("[[") => (1..)
                .map(|number| format!("{inner} {number}"))
                .find(|name| !parts.contains_key(name))
                .unwrap_or_default(),
            _ => inner.to_owned(),
        };
        let path = if header.starts_with("[[") {
            Vec::new()
        } else {
            split_path(inner)
        };
        parts.insert(name, Part { path, values });
    }
    parts
}

/// `group."a.b".service.site` in its parts. Names need no escapes inside quotes.
fn split_path(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in path.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    parts
}

fn differences(
    name: &str,
    was: &Part,
    is: &Part,
    old: &Cluster,
    new: &Cluster,
) -> Vec<ConfigChange> {
    let keys: BTreeSet<_> = was.values.keys().chain(is.values.keys()).collect();
    let mut changes = Vec::new();
    for key in keys {
        let (before, after) = (was.values.get(key), is.values.get(key));
        if before == after {
            continue;
        }
        let word = |value: Option<&String>| value.map_or("default".to_owned(), Clone::clone);
        let text = format!("{key}: {} -> {}", word(before), word(after));
        let path: Vec<_> = is.path.iter().map(String::as_str).collect();
        let touched = match path.as_slice() {
            ["group", group, _, resource] if RESTART_KEYS.contains(&key.as_str()) => {
                restarted(new, group, resource)
            }
            ["group", group] if key == "nodes" => moved(old, new, group),
            _ => Vec::new(),
        };
        changes.push(ConfigChange {
            touched,
            ..change(name, text)
        });
    }
    changes
}

fn groups<'a>(old: &'a Cluster, new: &'a Cluster, group: &str) -> Option<(&'a Group, &'a Group)> {
    let id = GroupId::from(group);
    Some((old.groups.get(&id)?, new.groups.get(&id)?))
}

fn touched(group: &str, ids: impl IntoIterator<Item = ResourceId>, how: Touch) -> Vec<Touched> {
    let touched = |resource| Touched {
        group: GroupId::from(group),
        resource,
        how,
    };
    ids.into_iter().map(touched).collect()
}

/// A resource that is started anew, and all that requires it.
fn restarted(cluster: &Cluster, group: &str, resource: &str) -> Vec<Touched> {
    let mut ids = BTreeSet::from([ResourceId::from(resource)]);
    if let Some(group) = cluster.groups.get(&GroupId::from(group)) {
        while let Some(next) = group
            .resources
            .iter()
            .find(|&(id, r)| !ids.contains(id) && !r.requires.is_disjoint(&ids))
        {
            ids.insert(next.0.clone());
        }
    }
    touched(group, ids, Touch::Restarted)
}

/// A group that a node may no longer run moves if it runs there.
fn moved(old: &Cluster, new: &Cluster, group: &str) -> Vec<Touched> {
    let Some((was, is)) = groups(old, new, group) else {
        return Vec::new();
    };
    if was.nodes.iter().all(|node| is.nodes.contains(node)) {
        return Vec::new();
    }
    let both = was
        .resources
        .keys()
        .filter(|id| is.resources.contains_key(*id));
    touched(group, both.cloned(), Touch::Restarted)
}

/// What is removed with the section `path`.
fn stopped(old: &Cluster, new: &Cluster, path: &[String]) -> Vec<Touched> {
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    let ["group", group, _, resource] = path.as_slice() else {
        return Vec::new();
    };
    let id = ResourceId::from(*resource);
    let before = groups(old, new, group).and_then(|(was, _)| was.resources.get(&id));
    let after = groups(old, new, group).and_then(|(_, is)| is.resources.get(&id));
    match (before.map(sort), after.map(sort)) {
        // Its kind has changed: it goes, and comes back as another.
        (Some(was), Some(is)) if was != is => restarted(new, group, resource),
        _ => touched(group, [id], Touch::Stopped),
    }
}

fn sort(resource: &Resource) -> std::mem::Discriminant<ResourceKind> {
    std::mem::discriminant(&resource.kind)
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.text)?;
        for (how, word) in [(Touch::Restarted, "restarts"), (Touch::Stopped, "stops")] {
            let names: Vec<_> = self
                .touched
                .iter()
                .filter(|touched| touched.how == how)
                .map(|touched| format!("{}/{}", touched.group, touched.resource))
                .collect();
            if !names.is_empty() {
                write!(f, " ({word} {})", names.join(", "))?;
            }
        }
        Ok(())
    }
}
