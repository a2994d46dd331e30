//! Group templates: a group's text with parameters, as data files. Format: `docs/templates.md`.

use crate::show::{bare, string};
use crate::words::{nearest, shown};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Those that come with hotpair, by name: the files of `templates/`.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Longest file that is read.
pub const MAX_TEMPLATE: usize = 64 * 1024;

/// Parameters that every template has.
const ALWAYS: [&str; 2] = ["group", "nodes"];

/// A group that is written in one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupTemplate {
    pub name: String,
    pub title: String,
    /// What must be there on the nodes.
    pub needs: String,
    /// What is left to do.
    pub after: String,
    pub parameters: Vec<Parameter>,
    #[serde(skip)]
    text: String,
}

/// A value to be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    pub name: String,
    pub help: String,
    #[serde(default)]
    pub kind: Kind,
    /// It must be given if there is none.
    pub default: Option<String>,
}

/// How a value is written into the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Inside a string.
    #[default]
    Text,
    /// Inside the quotes of a list: `["{{nics}}"]`; given as `a,b`.
    List,
    /// A whole number.
    Number,
    /// A path, or paths by node; given as `/path` or `node1:/path,node2:/path`.
    Device,
}

/// Why a template is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("template {name}: {said}")]
    Broken { name: String, said: String },
    #[error("template {template} has no parameter `{name}`{near}")]
    Unknown {
        template: String,
        name: String,
        near: String,
    },
    #[error("give {}", .0.join(", "))]
    Missing(Vec<String>),
    #[error("`{name}` cannot be `{value}`: {why}")]
    Value {
        name: String,
        value: String,
        why: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    title: String,
    #[serde(default)]
    needs: String,
    #[serde(default)]
    after: String,
    #[serde(default, rename = "parameter")]
    parameters: Vec<Parameter>,
    template: RawText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawText {
    group: String,
}

/// The templates that come with hotpair.
#[must_use]
pub fn built_in_templates() -> Vec<GroupTemplate> {
    // A test reads every one.
    let read = |(name, text): &(&str, &str)| GroupTemplate::read(name, text).ok();
    BUILT_IN.iter().filter_map(read).collect()
}

impl GroupTemplate {
    /// Reads a template file.
    ///
    /// # Errors
    /// Not a template; the text says what is wrong with it.
    pub fn read(name: &str, text: &str) -> Result<Self, TemplateError> {
        let broken = |said: String| TemplateError::Broken {
            name: name.to_owned(),
            said,
        };
        if text.len() > MAX_TEMPLATE {
            return Err(broken(format!("longer than {MAX_TEMPLATE} bytes")));
        }
        let raw: Raw = toml::from_str(text).map_err(|error| broken(error.to_string()))?;
        let template = Self {
            name: name.to_owned(),
            title: raw.title,
            needs: raw.needs,
            after: raw.after,
            parameters: raw.parameters,
            text: raw.template.group,
        };
        template.sound().map_err(broken)?;
        Ok(template)
    }

    /// Every name in the text and in the defaults is known, and none stands twice.
    fn sound(&self) -> Result<(), String> {
        let mut known: BTreeSet<&str> = ALWAYS.into();
        for parameter in &self.parameters {
            for name in holes(parameter.default.as_deref().unwrap_or_default())? {
                if !known.contains(name.name) || name.filter.is_some() {
                    return Err(format!(
                        "the default of `{}` names `{}`, which does not stand before it",
                        parameter.name, name.name
                    ));
                }
            }
            if !known.insert(&parameter.name) {
                return Err(format!("parameter `{}` stands there twice", parameter.name));
            }
        }
        for hole in holes(&self.text)? {
            if !known.contains(hole.name) {
                return Err(format!(
                    "the text names `{}`, which is no parameter",
                    hole.name
                ));
            }
            if hole.filter.is_some_and(|filter| filter != "ip") {
                return Err(format!("`{}` has an unknown filter", hole.name));
            }
        }
        Ok(())
    }

    /// The text of a group of this name, on `nodes`; what else it takes is in `given`.
    ///
    /// The text is not checked: that is what [`crate::check`] is for.
    ///
    /// # Errors
    /// A value is missing, unknown or cannot be written.
    pub fn fill(
        &self,
        group: &str,
        nodes: &[String],
        given: &BTreeMap<String, String>,
    ) -> Result<String, TemplateError> {
        self.known(given)?;
        let mut values: BTreeMap<String, Value> = BTreeMap::new();
        let nodes = given.get("nodes").cloned().unwrap_or(nodes.join(","));
        values.insert("group".into(), Value::of("group", Kind::Text, group)?);
        values.insert("nodes".into(), Value::of("nodes", Kind::List, &nodes)?);
        let mut missing = Vec::new();
        for parameter in &self.parameters {
            let default = parameter.default.as_ref();
            let text = match (given.get(&parameter.name), default) {
                (Some(text), _) => text.clone(),
                (None, Some(default)) => replaced(default, &values, |value| value.plain.clone()),
                (None, None) => {
                    missing.push(format!("{}=… ({})", parameter.name, parameter.help));
                    continue;
                }
            };
            let value = Value::of(&parameter.name, parameter.kind, &text)?;
            values.insert(parameter.name.clone(), value);
        }
        if !missing.is_empty() {
            return Err(TemplateError::Missing(missing));
        }
        Ok(replaced(&self.text, &values, |value| value.written.clone()))
    }

    fn known(&self, given: &BTreeMap<String, String>) -> Result<(), TemplateError> {
        let mut known: Vec<&str> = self.parameters.iter().map(|p| p.name.as_str()).collect();
        known.push("nodes");
        let unknown = given.keys().find(|name| !known.contains(&name.as_str()));
        unknown.map_or(Ok(()), |name| {
            let near = match nearest(name, known.iter().copied()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => format!("; it has: {}", known.join(", ")),
            };
            Err(TemplateError::Unknown {
                template: self.name.clone(),
                name: shown(name),
                near,
            })
        })
    }
}

/// A value as it was given, and as it is written.
struct Value {
    plain: String,
    written: String,
}

impl Value {
    fn of(name: &str, kind: Kind, text: &str) -> Result<Self, TemplateError> {
        let wrong = |why| TemplateError::Value {
            name: name.to_owned(),
            value: shown(text),
            why,
        };
        if text.chars().any(char::is_control) {
            return Err(wrong("it has a control character"));
        }
        let items = || text.split(',').map(str::trim);
        let written = match kind {
            Kind::Text => inside(text),
            Kind::Number => match text.parse::<i64>() {
                Ok(number) => number.to_string(),
                Err(_) => return Err(wrong("give a whole number")),
            },
            Kind::List if items().any(str::is_empty) => {
                return Err(wrong("give names with commas between them"));
            }
            Kind::List => items().map(inside).collect::<Vec<_>>().join("\", \""),
            Kind::Device if text.starts_with('/') => string(text),
            Kind::Device => {
                let place = |item: &str| {
                    let (node, path) = item.split_once(':')?;
                    (!node.is_empty()).then(|| format!("{} = {}", bare(node), string(path)))
                };
                let places: Option<Vec<_>> = items().map(place).collect();
                let places = places.ok_or(wrong("give /path, or node1:/path,node2:/path"))?;
                format!("{{ {} }}", places.join(", "))
            }
        };
        Ok(Self {
            plain: text.to_owned(),
            written,
        })
    }
}

/// As it stands inside a basic string of TOML.
fn inside(text: &str) -> String {
    let quoted = string(text);
    quoted[1..quoted.len() - 1].to_owned()
}

/// `{{name}}` or `{{name|filter}}` in a text.
struct Hole<'a> {
    name: &'a str,
    filter: Option<&'a str>,
}

/// A text cut at its holes: each with what stands before it, and the rest.
type Cut<'a> = (Vec<(&'a str, Hole<'a>)>, &'a str);

fn cut(text: &str) -> Result<Cut<'_>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (hole, after) = after
            .split_once("}}")
            .ok_or("there is a `{{` without its `}}`")?;
        let (name, filter) = match hole.split_once('|') {
            Some((name, filter)) => (name, Some(filter)),
            None => (hole, None),
        };
        parts.push((before, Hole { name, filter }));
        rest = after;
    }
    Ok((parts, rest))
}

fn holes(text: &str) -> Result<Vec<Hole<'_>>, String> {
    let (parts, _) = cut(text)?;
    Ok(parts.into_iter().map(|(_, hole)| hole).collect())
}

/// The text with its holes filled. It is sound.
fn replaced(
    text: &str,
    values: &BTreeMap<String, Value>,
    write: impl Fn(&Value) -> String,
) -> String {
    let Ok((parts, rest)) = cut(text) else {
        return text.to_owned();
    };
    let mut out = String::new();
    for (before, hole) in parts {
        out.push_str(before);
        let value = values.get(hole.name).map(&write).unwrap_or_default();
        match hole.filter {
            // An address without its prefix.
            Some(_) => out.push_str(value.split('/').next().unwrap_or_default()),
            None => out.push_str(&value),
        }
    }
    out + rest
}
