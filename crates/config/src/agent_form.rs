//! The form of an OCF resource agent: what it says in its meta-data about its parameters and actions.
//!
//! Agents are programs of others; their meta-data is read totally: whatever it holds, the result is a
//! form or one error. Format: <https://github.com/ClusterLabs/OCF-spec>, `ra-api-1.dtd` and the newer
//! `ocf-1.1` schema.

use roxmltree::{Document, Node, ParsingOptions};
use serde::Serialize;
use std::time::Duration;

/// Longest meta-data that is read, in bytes. The longest of Debian's agents is 13 KiB.
pub const MAX_META_DATA: usize = 256 << 10;

/// Most XML nodes, parameters and actions that are read.
const MAX_NODES: u32 = 50_000;
const MAX_PARAMETERS: usize = 500;
const MAX_ACTIONS: usize = 100;

/// Longest name of a parameter, in characters.
const MAX_NAME: usize = 63;

/// Limits of the times an agent may ask for by default, whatever it says.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(3600);

/// What an agent takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentForm {
    /// As the agent calls itself.
    pub name: String,
    pub version: String,
    /// One line.
    pub title: String,
    pub description: String,
    pub parameters: Vec<AgentParameter>,
    pub actions: Vec<AgentAction>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentParameter {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: AgentType,
    pub default: Option<String>,
    pub required: bool,
    /// No two resources of this agent may have the same value.
    pub unique: bool,
    /// The agent wants it to be used no more.
    pub deprecated: bool,
    pub title: String,
    pub description: String,
}

/// What a value must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentType {
    /// Any text; types that the standard does not tell the form of are texts too.
    String,
    Integer,
    Boolean,
    /// One of these.
    Select(Vec<String>),
}

/// Something the agent can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentAction {
    /// `start`, `stop`, `monitor`, …
    pub name: String,
    /// What the agent advises at least.
    pub timeout_s: Option<u64>,
    pub interval_s: Option<u64>,
    /// `OCF_CHECK_LEVEL` that this monitor is for.
    pub depth: Option<u32>,
}

/// Why there is no form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentFormError {
    #[error("its meta-data has more than {MAX_META_DATA} bytes")]
    TooLong,
    #[error("it printed no meta-data{}", of(.0))]
    Nothing(String),
    #[error("its meta-data is not XML: {0}")]
    NotXml(String),
    #[error("its meta-data has no action `{0}`, so it is no resource agent that hotpair can use")]
    NoAction(&'static str),
    #[error("its meta-data names {0} {1}, which is more than {2}")]
    TooMany(usize, &'static str, usize),
    #[error("its meta-data names a parameter {0:?}, which no parameter can be called")]
    Name(String),
}

fn of(line: &str) -> String {
    if line.is_empty() {
        String::new()
    } else {
        format!(", but: {line}")
    }
}

impl AgentForm {
    /// Reads what an agent printed when asked for `meta-data`. Lines of its logging around the XML are
    /// left out. Of texts in several languages those in `language` (`zh`, `en`) are taken, else English.
    ///
    /// # Errors
    /// It is no meta-data of an agent that can be started, stopped and monitored, or beyond the limits.
    pub fn read(printed: &str, language: &str) -> Result<Self, AgentFormError> {
        if printed.len() > MAX_META_DATA {
            return Err(AgentFormError::TooLong);
        }
        let xml = xml_of(printed).ok_or_else(|| AgentFormError::Nothing(last_line(printed)))?;
        let options = ParsingOptions {
            allow_dtd: true,
            nodes_limit: MAX_NODES,
            ..ParsingOptions::default()
        };
        let document = Document::parse_with_options(xml, options)
            .map_err(|error| AgentFormError::NotXml(error.to_string()))?;
        let root = document.root_element();
        if !root.has_tag_name("resource-agent") {
            let name = root.tag_name().name().chars().take(MAX_NAME);
            let said = format!("a document <{}>", name.collect::<String>());
            return Err(AgentFormError::Nothing(said));
        }
        let form = Self {
            name: attribute(root, "name").unwrap_or_default(),
            version: attribute(root, "version").unwrap_or_default(),
            title: one_line(&text(root, "shortdesc", language)),
            description: text(root, "longdesc", language),
            parameters: parameters(root, language)?,
            actions: actions(root)?,
        };
        for wanted in ["start", "stop", "monitor"] {
            if !form.actions.iter().any(|action| action.name == wanted) {
                return Err(AgentFormError::NoAction(wanted));
            }
        }
        Ok(form)
    }

    /// Time the agent advises for an action, within 5 s and one hour; of several monitors the first
    /// that is for `depth`.
    #[must_use]
    pub fn timeout(&self, action: &str, depth: u32) -> Option<Duration> {
        let named = || self.actions.iter().filter(|one| one.name == action);
        let meant = named().find(|one| one.depth.unwrap_or(0) == depth);
        let timeout = meant.or_else(|| named().next())?.timeout_s?;
        Some(Duration::from_secs(timeout).clamp(SHORTEST, LONGEST))
    }

    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&AgentParameter> {
        self.parameters.iter().find(|one| one.name == name)
    }
}

impl AgentType {
    /// Why `value` cannot be a value of this type.
    #[must_use]
    pub fn refuses(&self, value: &str) -> Option<String> {
        match self {
            Self::String => None,
            Self::Integer => {
                let good = value.trim().parse::<i64>().is_ok();
                (!good).then(|| "a whole number".to_owned())
            }
            Self::Boolean => {
                // What `ocf_is_true` of resource-agents takes for true, and what means the opposite.
                let word = value.to_ascii_lowercase();
                let good = [
                    "yes", "true", "1", "ja", "on", "no", "false", "0", "nein", "off",
                ];
                (!good.contains(&word.as_str())).then(|| "true or false".to_owned())
            }
            Self::Select(choices) => {
                let shown = choices.iter().take(20).cloned().collect::<Vec<_>>();
                (!choices.iter().any(|choice| choice == value))
                    .then(|| format!("one of {}", shown.join(", ")))
            }
        }
    }

    /// For people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Select(_) => "select",
        }
    }
}

/// The document within what was printed.
fn xml_of(printed: &str) -> Option<&str> {
    let starts = ["<?xml", "<!DOCTYPE", "<resource-agent"];
    let start = starts.iter().filter_map(|mark| printed.find(mark)).min()?;
    let from = &printed[start..];
    let end = "</resource-agent>";
    Some(match from.rfind(end) {
        Some(at) => &from[..at + end.len()],
        None => from,
    })
}

fn last_line(printed: &str) -> String {
    let line = printed.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default().trim().chars().take(200).collect()
}

fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.attribute(name).map(str::to_owned)
}

fn yes(node: Node<'_, '_>, name: &str) -> bool {
    let value = node.attribute(name).unwrap_or_default();
    ["1", "true", "yes"].contains(&value.trim().to_ascii_lowercase().as_str())
}

/// The child element's text in the best language there is, without the white space around lines.
fn text(node: Node<'_, '_>, tag: &str, language: &str) -> String {
    let all = || node.children().filter(|child| child.has_tag_name(tag));
    let speaks = |child: &Node<'_, '_>, wanted: &str| {
        let lang = child.attributes().find(|one| one.name() == "lang");
        lang.is_some_and(|lang| !wanted.is_empty() && lang.value().starts_with(wanted))
    };
    let best = all()
        .find(|child| speaks(child, language))
        .or_else(|| all().find(|child| speaks(child, "en")))
        .or_else(|| all().next());
    let Some(best) = best else {
        return String::new();
    };
    let words: String = best
        .descendants()
        .filter_map(|inner| inner.is_text().then(|| inner.text()).flatten())
        .collect();
    let lines: Vec<_> = words.trim().lines().map(str::trim).collect();
    lines.join("\n")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The elements `tag` inside the elements `list` of the root.
fn listed<'a>(
    root: Node<'a, 'a>,
    list: &'static str,
    tag: &'static str,
) -> impl Iterator<Item = Node<'a, 'a>> {
    root.children()
        .filter(move |child| child.has_tag_name(list))
        .flat_map(|list| list.children())
        .filter(move |child| child.has_tag_name(tag))
}

fn parameters(root: Node<'_, '_>, language: &str) -> Result<Vec<AgentParameter>, AgentFormError> {
    let mut parameters: Vec<AgentParameter> = Vec::new();
    let count = listed(root, "parameters", "parameter").count();
    if count > MAX_PARAMETERS {
        return Err(AgentFormError::TooMany(count, "parameters", MAX_PARAMETERS));
    }
    for node in listed(root, "parameters", "parameter") {
        let name = attribute(node, "name").unwrap_or_default();
        if !is_parameter(&name) {
            let shown = name.chars().take(MAX_NAME).collect();
            return Err(AgentFormError::Name(shown));
        }
        if parameters.iter().any(|other| other.name == name) {
            continue;
        }
        let content = node.children().find(|child| child.has_tag_name("content"));
        parameters.push(AgentParameter {
            name,
            kind: content.map_or(AgentType::String, kind),
            default: content.and_then(|content| attribute(content, "default")),
            required: yes(node, "required"),
            unique: yes(node, "unique") || node.has_attribute("unique-group"),
            deprecated: node
                .children()
                .any(|child| child.has_tag_name("deprecated")),
            title: one_line(&text(node, "shortdesc", language)),
            description: text(node, "longdesc", language),
        });
    }
    Ok(parameters)
}

/// Can a parameter have this name? It becomes part of the name of a variable.
pub(crate) fn is_parameter(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(good)
}

fn kind(content: Node<'_, '_>) -> AgentType {
    match content.attribute("type").unwrap_or_default() {
        "integer" => AgentType::Integer,
        "boolean" => AgentType::Boolean,
        "select" => {
            let options = content
                .children()
                .filter(|child| child.has_tag_name("option"));
            let choices: Vec<_> = options.filter_map(|one| attribute(one, "value")).collect();
            if choices.is_empty() {
                AgentType::String
            } else {
                AgentType::Select(choices)
            }
        }
        _ => AgentType::String,
    }
}

fn actions(root: Node<'_, '_>) -> Result<Vec<AgentAction>, AgentFormError> {
    let count = listed(root, "actions", "action").count();
    if count > MAX_ACTIONS {
        return Err(AgentFormError::TooMany(count, "actions", MAX_ACTIONS));
    }
    let all = listed(root, "actions", "action").map(|node| AgentAction {
        name: attribute(node, "name").unwrap_or_default(),
        timeout_s: node.attribute("timeout").and_then(seconds),
        interval_s: node.attribute("interval").and_then(seconds),
        depth: node
            .attribute("depth")
            .or_else(|| node.attribute("OCF_CHECK_LEVEL"))
            .and_then(|depth| depth.trim().parse().ok()),
    });
    Ok(all.collect())
}

/// `20`, `20s`, `500ms`, `2m`, `1h` in seconds, rounded up.
fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "" | "s" | "sec" => Some(number),
        "ms" | "msec" => Some(number.div_ceil(1000)),
        "us" | "usec" => Some(number.div_ceil(1_000_000)),
        "m" | "min" => number.checked_mul(60),
        "h" | "hr" => number.checked_mul(3600),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="Plain" version="1.0">
<shortdesc lang="zh">简单</shortdesc>
<shortdesc lang="en">A  plain
 agent</shortdesc>
<longdesc lang="en">
 one
   two
</longdesc>
<parameters>
<parameter name="port" unique="0" required="1"><content type="integer" default="80"/></parameter>
<parameter name="tls"><shortdesc lang="en">TLS</shortdesc><content type="boolean"/></parameter>
<parameter name="mode"><content type="select"><option value="a"/><option value="b"/></content></parameter>
<parameter name="path" unique="1"/>
</parameters>
<actions>
<action name="start" timeout="20s"/><action name="stop" timeout="2m"/>
<action name="monitor" timeout="30" interval="10s" depth="0"/>
<action name="monitor" timeout="7200" depth="10"/>
</actions>
</resource-agent>
"#;

    #[test]
    fn reads_parameters_and_times() {
        let form = AgentForm::read(PLAIN, "en").unwrap();
        assert_eq!(
            (form.title.as_str(), form.description.as_str()),
            ("A plain agent", "one\ntwo")
        );
        let kinds: Vec<_> = form.parameters.iter().map(|one| one.kind.name()).collect();
        assert_eq!(kinds, ["integer", "boolean", "select", "string"]);
        let port = form.parameter("port").unwrap();
        assert!(port.required && !port.unique && port.default.as_deref() == Some("80"));
        assert!(form.parameter("path").unwrap().unique);
        let time = |action, depth| form.timeout(action, depth).map(|time| time.as_secs());
        assert_eq!(time("start", 0), Some(20));
        assert_eq!(time("stop", 0), Some(120));
        assert_eq!(time("monitor", 0), Some(30));
        assert_eq!(time("monitor", 10), Some(3600), "bounded");
        assert_eq!(
            time("monitor", 20),
            Some(30),
            "the first where none is meant"
        );
        assert_eq!(time("promote", 0), None);
    }

    #[test]
    fn speaks_the_language_that_was_asked_for() {
        assert_eq!(AgentForm::read(PLAIN, "zh").unwrap().title, "简单");
        assert_eq!(AgentForm::read(PLAIN, "fr").unwrap().title, "A plain agent");
    }

    #[test]
    fn logging_around_the_document_is_left_out() {
        let noisy = format!("./agent: line 2: redis-cli: not found\n{PLAIN}\nbye\n");
        assert_eq!(AgentForm::read(&noisy, "en"), AgentForm::read(PLAIN, "en"));
    }

    #[test]
    fn types_refuse_what_does_not_fit() {
        let form = AgentForm::read(PLAIN, "en").unwrap();
        let refuses = |name: &str, value: &str| form.parameter(name).unwrap().kind.refuses(value);
        for (name, value) in [
            ("port", "80"),
            ("port", "-1"),
            ("tls", "Yes"),
            ("tls", "0"),
            ("mode", "b"),
            ("path", ""),
        ] {
            assert_eq!(refuses(name, value), None, "{name}={value}");
        }
        assert_eq!(refuses("port", "http").as_deref(), Some("a whole number"));
        assert_eq!(refuses("tls", "maybe").as_deref(), Some("true or false"));
        assert_eq!(refuses("mode", "c").as_deref(), Some("one of a, b"));
    }

    #[test]
    fn broken_meta_data_is_an_error_that_says_what_is_wrong() {
        let says = |text: &str, what: &str| {
            let error = AgentForm::read(text, "en").unwrap_err().to_string();
            assert!(error.contains(what), "{error} does not contain {what}");
        };
        says("", "printed no meta-data");
        says("usage: agent {start|stop}\n", "but: usage: agent");
        says(&PLAIN[..400], "not XML");
        says(&PLAIN.replace("</parameters>", ""), "not XML");
        says(
            &PLAIN.replace("resource-agent", "html"),
            "printed no meta-data",
        );
        says("<?xml version=\"1.0\"?><html/>", "a document <html>");
        says(
            &PLAIN.replace("name=\"stop\"", "name=\"halt\""),
            "no action `stop`",
        );
        says(
            &PLAIN.replace("name=\"tls\"", "name=\"a=b\""),
            "a parameter \"a=b\"",
        );
        says(&PLAIN.replace("name=\"tls\"", ""), "a parameter \"\"");
        says(
            &format!("{PLAIN}{}", " ".repeat(MAX_META_DATA)),
            "more than",
        );
        let many = "<parameter name=\"x\"/>".repeat(MAX_PARAMETERS + 1);
        says(
            &PLAIN.replace("<parameters>", &format!("<parameters>{many}")),
            "505 parameters",
        );
    }

    #[test]
    fn entities_that_grow_without_end_are_refused() {
        let mut dtd = String::from("<!DOCTYPE resource-agent [<!ENTITY e0 \"ha\">");
        for level in 1..30 {
            let below = format!("&e{};", level - 1).repeat(10);
            dtd += &format!("<!ENTITY e{level} \"{below}\">");
        }
        let text = format!("{dtd}]><resource-agent><shortdesc>&e29;</shortdesc></resource-agent>");
        let error = AgentForm::read(&text, "en").unwrap_err();
        assert!(matches!(error, AgentFormError::NotXml(_)), "{error}");
    }

    #[test]
    fn cut_anywhere_it_is_an_error_or_a_form_and_never_a_panic() {
        for end in (0..PLAIN.len()).filter(|end| PLAIN.is_char_boundary(*end)) {
            let _ = AgentForm::read(&PLAIN[..end], "en");
            let _ = AgentForm::read(&PLAIN[end..], "en");
        }
    }
}
