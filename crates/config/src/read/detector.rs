//! Reads detectors: what to look at, how often, how long, how many times.

use super::resource::environment;
use crate::section::{Section, integer};
use crate::words::{parse_size, plain_path, shown};
use hotpair_core::config::{Check, Detector, Sql, SqlEngine};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use toml::de::DeValue;

pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);
pub(crate) const STATUS: u16 = 200;

const KINDS: [&str; 11] = [
    "tcp", "udp", "url", "process", "script", "sql", "ping", "disk", "memory", "load", "monitor",
];

/// What an SQL detector asks if nothing else is given.
pub(crate) const QUERY: &str = "SELECT 1";

pub(crate) const ENGINES: [(&str, SqlEngine); 2] = [
    ("postgresql", SqlEngine::PostgreSql),
    ("mysql", SqlEngine::MySql),
];

/// Keys that belong to some kinds of detector, and those kinds.
const KEYS: [(&str, &[&str]); 15] = [
    ("program", &["tcp", "udp"]),
    ("contains", &["url"]),
    ("status", &["url"]),
    ("user", &["script", "sql", "monitor"]),
    ("directory", &["script", "monitor"]),
    ("environment", &["script", "monitor"]),
    ("host", &["sql"]),
    ("port", &["sql"]),
    ("database", &["sql"]),
    ("login", &["sql"]),
    ("password_file", &["sql"]),
    ("query", &["sql"]),
    ("answer", &["sql"]),
    ("free", &["disk"]),
    ("write", &["disk"]),
];

/// What a detector tells of: is it the node?
pub(crate) const OF: [(&str, bool); 2] = [("resource", false), ("node", true)];

pub(super) fn detector(section: &Section<'_>) -> Option<Detector> {
    let check = one_kind(section).and_then(|kind| check(section, kind));
    let interval = section.seconds("interval_s", 50..=86_400_000);
    let timeout = section.seconds("timeout_s", 10..=86_400_000);
    let tries = section.number("tries", 1..=1_000);
    let of_node = section.choice("of", &OF).unwrap_or_default();
    if of_node && section.has("monitor") {
        let message = "a `monitor` runs beside the resource, and is not asked elsewhere".to_owned();
        let help = "remove `of`, or write a `script` that looks once";
        section.error(section.place("of"), message, help);
    }
    // Known, whatever the kind: what does not apply has its own error.
    for key in KINDS {
        section.value(key);
    }
    for (key, _) in KEYS {
        section.value(key);
    }
    section.finish();
    let interval = interval.unwrap_or(INTERVAL);
    let timeout = timeout.unwrap_or(TIMEOUT.min(interval));
    if timeout > interval {
        section.findings.advice(
            section.place("timeout_s"),
            format!("a check may take {timeout:?}, longer than the {interval:?} between two checks"),
            "a hung service is noticed only after interval and timeout together; shorten the timeout",
        );
    }
    Some(Detector {
        check: check?,
        interval,
        timeout,
        tries: tries.unwrap_or(1),
        of_node,
    })
}

fn one_kind(section: &Section<'_>) -> Option<&'static str> {
    let given: Vec<_> = KINDS.into_iter().filter(|kind| section.has(kind)).collect();
    match given.as_slice() {
        [kind] => Some(kind),
        [] => {
            let message = "this detector looks at nothing".to_owned();
            let help = format!("give one of {}", KINDS.join(", "));
            section.error(section.span.clone(), message, &help);
            None
        }
        [first, others @ ..] => {
            let message = format!(
                "this detector is both `{first}` and `{}`",
                others.join("`, `")
            );
            let help = "write one [[….detector]] for each; all of them must agree";
            section.error(section.place(others[0]), message, help);
            None
        }
    }
}

fn check(section: &Section<'_>, kind: &'static str) -> Option<Check> {
    for (key, kinds) in KEYS {
        if section.has(key) && !kinds.contains(&kind) {
            let message = format!("`{key}` does not apply to a `{kind}` detector");
            let help = format!("it belongs to: {}", kinds.join(", "));
            section.error(section.place(key), message, &help);
        }
    }
    match kind {
        "tcp" => tcp(section),
        "udp" => Some(Check::Udp {
            port: section
                .number("udp", 1..=65_535)
                .and_then(|port: i64| u16::try_from(port).ok())?,
            program: section.string("program").map(|(text, _)| text),
        }),
        "url" => url(section),
        "process" => {
            let (name, span) = section.string("process")?;
            if name.is_empty() {
                let message = "`process` is empty and would match every process".to_owned();
                section.error(span, message, "give a part of its name or command line");
            }
            Some(Check::Process { name })
        }
        "sql" => sql(section),
        "ping" => ping(section),
        "disk" => disk(section),
        "memory" => Some(Check::Memory {
            available: size(section, "memory")?,
        }),
        "load" => load(section),
        "monitor" => Some(Check::Monitor {
            command: section.command("monitor")?,
            environment: environment(section),
        }),
        _ => Some(Check::Script {
            command: section.command("script")?,
            environment: environment(section),
        }),
    }
}

fn sql(section: &Section<'_>) -> Option<Check> {
    let engine = section.choice("sql", &ENGINES);
    // A value that begins with a dash would be an option of the client.
    let word = |key| {
        let (text, span) = section.string(key)?;
        if text.is_empty() || text.starts_with('-') {
            let message = format!("`{key}` is `{}`", shown(&text));
            section.error(
                span,
                message,
                "give a name that does not begin with `-`, or leave it out",
            );
            return None;
        }
        Some(text)
    };
    let (host, database, login) = (word("host"), word("database"), word("login"));
    let password_file = section.string("password_file").map(|(path, span)| {
        if let Err(help) = plain_path(&path) {
            let message = format!("`{}` is not the full path of a file", shown(&path));
            section.error(span, message, &help);
        }
        path
    });
    let query = section.string("query").map(|(text, span)| {
        if text.trim().is_empty() {
            section.error(
                span,
                "`query` is empty".to_owned(),
                "leave it out to ask `SELECT 1`",
            );
        }
        text
    });
    let answer = section.string("answer").map(|(text, span)| {
        if text.trim().is_empty() || text.contains('\n') {
            let message = "`answer` must be one line of the answer".to_owned();
            section.error(span, message, "leave it out where any answer is good");
        }
        text
    });
    Some(Check::Sql(Sql {
        engine: engine?,
        host,
        port: section
            .number("port", 1..=65_535)
            .and_then(|port: i64| u16::try_from(port).ok()),
        database,
        login,
        password_file,
        query: query.unwrap_or_else(|| QUERY.to_owned()),
        answer,
        user: environment(section).user,
    }))
}

fn ping(section: &Section<'_>) -> Option<Check> {
    let (address, span) = section.parsed::<IpAddr>("ping", "an IP address")?;
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        let message = format!("{address} tells nothing");
        let help = "give the address of a router, or of a host that the service needs";
        section.error(span, message, help);
    }
    Some(Check::Ping { address })
}

fn disk(section: &Section<'_>) -> Option<Check> {
    let (path, span) = section.string("disk")?;
    if let Err(help) = plain_path(&path) {
        let message = format!("`{}` is not the full path of a directory", shown(&path));
        section.error(span.clone(), message, &help);
    }
    let free = section.has("free").then(|| size(section, "free"));
    let write = section.boolean("write").unwrap_or(true);
    if free.is_none() && !write {
        let message = "this detector looks at nothing of the disk".to_owned();
        section.error(
            span,
            message,
            "give `free = \"1GiB\"`, or leave `write` out",
        );
    }
    Some(Check::Disk {
        path,
        free: free.flatten().unwrap_or(0),
        write,
    })
}

fn load(section: &Section<'_>) -> Option<Check> {
    let value = section.value("load")?;
    let most = match value.get_ref() {
        DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
        #[allow(clippy::cast_precision_loss)]
        other => integer(other).map(|number| number as f64),
    };
    // Not a number is in no range.
    let Some(most) = most.filter(|most| (0.01..=100_000.0).contains(most)) else {
        let message = "`load` must be a number from 0.01 to 100000".to_owned();
        let help = "give the greatest load of the last minute that is good, such as twice the number of processors";
        section.error(value.span(), message, help);
        return None;
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let most_hundredths = (most * 100.0).round() as u32;
    Some(Check::Load { most_hundredths })
}

/// A size that is not nothing.
fn size(section: &Section<'_>, key: &'static str) -> Option<u64> {
    let (text, span) = section.string(key)?;
    let help = "give a whole number and a unit, such as 512MiB";
    match parse_size(&text) {
        Ok(0) => section.error(span, format!("`{key}` is nothing"), help),
        Ok(bytes) => return Some(bytes),
        Err(why) => section.error(span, format!("`{}` {why}", shown(&text)), help),
    }
    None
}

fn tcp(section: &Section<'_>) -> Option<Check> {
    let value = section.value("tcp")?;
    let program = section.string("program").map(|(text, _)| text);
    let target: Option<(Option<IpAddr>, u16)> = match value.get_ref() {
        DeValue::String(text) => text
            .parse::<SocketAddr>()
            .ok()
            .filter(|address| address.port() > 0)
            .map(|address| (Some(address.ip()), address.port())),
        other => integer(other)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|&port| port > 0)
            .map(|port| (None, port)),
    };
    let Some((address, port)) = target else {
        let message = "`tcp` must be a port from 1 to 65535, or an address with a port".to_owned();
        section.error(
            value.span(),
            message,
            "write tcp = 8080 or tcp = \"10.0.0.1:8080\"",
        );
        return None;
    };
    Some(Check::Tcp {
        address,
        port,
        program,
    })
}

fn url(section: &Section<'_>) -> Option<Check> {
    let (url, span) = section.string("url")?;
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    if host.is_none_or(str::is_empty) || url.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        let message = format!("`{}` is not a URL that can be asked", shown(&url));
        section.error(span, message, "write it like http://10.0.0.100:8080/health");
    }
    let contains = section.string("contains").map(|(text, _)| text);
    Some(Check::Url {
        url,
        statuses: statuses(section).unwrap_or_else(|| vec![STATUS]),
        contains,
    })
}

fn statuses(section: &Section<'_>) -> Option<Vec<u16>> {
    let value = section.value("status")?;
    let help = "list the HTTP status codes that mean it runs, each 100 to 599: status = [200, 204]";
    let Some(array) = value.get_ref().as_array() else {
        section.wrong_type("status", value, "a list of HTTP status codes");
        return None;
    };
    if array.is_empty() {
        section.error(
            value.span(),
            "no status code would be good".to_owned(),
            help,
        );
    }
    let mut statuses = Vec::new();
    for item in array {
        let code = integer(item.get_ref()).and_then(|code| u16::try_from(code).ok());
        match code.filter(|code| (100..=599).contains(code)) {
            Some(code) => statuses.push(code),
            None => section.error(item.span(), "this is no HTTP status code".to_owned(), help),
        }
    }
    Some(statuses)
}
