//! A cluster as configuration text: the inverse of the check, without what is default.

mod volume;

use crate::read::fence::ACTION as FENCE_ACTION;
use crate::read::group::{
    FINAL_ACTION, ON_STOP_FAILURE, ON_SWITCH_FAILURE, RELATIONS, START, TAKEOVER, has_agent,
};
use crate::read::resource::{OTHERS, RUNNING_WITHIN, START_TIMEOUT, STOP_TIMEOUT};
use crate::read::{PORT, WITHOUT_WITNESS, detector, hook, profiles};
use crate::words::size;
use hotpair_core::config::{
    Address, Check, Cluster, Confirm, Detector, Environment, Failback, FenceDevice, Fencing,
    Flapping, Group, Ocf, OnStartFailure, Resource, ResourceKind, Restart, Sql, Timing,
};
use hotpair_core::ids::{GroupId, MemberId};
use std::fmt::{Display, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// The cluster as text. [`crate::check`] with the same cluster as base gives it back.
///
/// Nodes are written in the order of their numbers. Comments of the text it was made from are lost.
#[must_use]
pub fn show(cluster: &Cluster) -> String {
    let mut out = Out(String::new());
    out.0.push_str("[cluster]\n");
    out.key("name", string(&cluster.name));
    menu(
        &mut out,
        "without_witness",
        &WITHOUT_WITNESS,
        &cluster.without_witness,
    );
    out.unless(
        cluster.fencing.delay == Fencing::DELAY,
        "fence_delay_s",
        seconds(cluster.fencing.delay),
    );
    timing(&mut out, &cluster.timing);
    for node in cluster.nodes.values() {
        out.0.push_str("\n[[node]]\n");
        out.key("name", string(&node.name));
        out.unless(
            node.description.is_empty(),
            "description",
            string(&node.description),
        );
    }
    for link in &cluster.links {
        out.0.push_str("\n[[link]]\n");
        out.key("name", string(&link.name));
        let ends = link.addresses.iter();
        let ends = ends.map(|(&id, &end)| (cluster.name_of(id), string(&socket(end))));
        out.key("addresses", table(ends));
    }
    if let Some(witness) = &cluster.witness
        && let Some(disk) = &witness.disk
    {
        out.0.push_str("\n[quorum]\n");
        out.key("name", string(&witness.name));
        out.key("disk", string(&disk.path));
        out.key("number", string(&format!("{:016x}", disk.number)));
    } else if let Some(witness) = &cluster.witness {
        out.0.push_str("\n[witness]\n");
        out.key("name", string(&witness.name));
        let addresses: Vec<_> = witness.addresses.iter().map(|&a| socket(a)).collect();
        out.key("addresses", list(&addresses));
    }
    if cluster.flapping != Flapping::default() {
        out.0.push_str("\n[flapping]\n");
        out.key("times", cluster.flapping.times);
        out.key("window_s", seconds(cluster.flapping.window));
    }
    for (&node, levels) in &cluster.fencing.devices {
        for device in levels {
            fence(&mut out, cluster, node, device);
        }
    }
    for (id, shown) in &cluster.groups {
        group(&mut out, cluster, id, shown);
    }
    out.0
}

struct Out(String);

impl Out {
    fn key(&mut self, key: &str, value: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn unless(&mut self, default: bool, key: &str, value: impl Display) {
        if !default {
            self.key(key, value);
        }
    }

    fn header(&mut self, path: &[&str]) {
        let path: Vec<_> = path.iter().map(|part| bare(part)).collect();
        let _ = writeln!(self.0, "\n[{}]", path.join("."));
    }
}

/// The profile that needs the fewest other numbers, and those.
fn timing(out: &mut Out, timing: &Timing) {
    let differences = |profile: &Timing| {
        let mut lines = Vec::new();
        let mut number = |key, own: u128, theirs: u128| {
            if own != theirs {
                lines.push((key, own));
            }
        };
        number(
            "heartbeat_ms",
            timing.heartbeat.as_millis(),
            profile.heartbeat.as_millis(),
        );
        number(
            "warn_after",
            timing.warn_after.into(),
            profile.warn_after.into(),
        );
        number(
            "down_after",
            timing.down_after.into(),
            profile.down_after.into(),
        );
        number(
            "lease_ms",
            timing.lease.as_millis(),
            profile.lease.as_millis(),
        );
        let (own, theirs) = (timing.first_start_delay, profile.first_start_delay);
        number("first_start_delay_ms", own.as_millis(), theirs.as_millis());
        let (own, theirs) = (timing.ungated_margin, profile.ungated_margin);
        number("ungated_margin_ms", own.as_millis(), theirs.as_millis());
        lines
    };
    let all = profiles().map(|(name, profile)| (name, differences(&profile)));
    let nearest = all.iter().min_by_key(|(_, lines)| lines.len());
    let Some((name, lines)) = nearest else { return };
    out.unless(*name == "standard", "profile", string(name));
    if !lines.is_empty() {
        out.0.push_str("\n[timing]\n");
    }
    for (key, value) in lines {
        out.key(key, value);
    }
}

fn fence(out: &mut Out, cluster: &Cluster, node: MemberId, device: &FenceDevice) {
    out.header(&["fence", &device.name]);
    out.key("node", string(&cluster.name_of(node)));
    out.key("agent", string(&device.agent));
    let parameters = device.parameters.iter();
    let parameters = parameters.map(|(name, value)| (name.clone(), string(value)));
    out.unless(
        device.parameters.is_empty(),
        "parameters",
        table(parameters),
    );
    if let Some(secrets) = &device.secrets {
        out.key("secrets", string(secrets));
    }
    menu(out, "action", &FENCE_ACTION, &device.action);
    let timeout = device.timeout;
    out.unless(
        timeout == FenceDevice::TIMEOUT,
        "timeout_s",
        seconds(timeout),
    );
    out.unless(device.level == 1, "level", device.level);
}

fn group(out: &mut Out, cluster: &Cluster, id: &GroupId, group: &Group) {
    out.header(&["group", &id.0]);
    let nodes: Vec<_> = group.nodes.iter().map(|&n| cluster.name_of(n)).collect();
    out.key("nodes", list(&nodes));
    let by_default = has_agent(&group.resources);
    out.unless(group.ungated == by_default, "ungated", group.ungated);
    out.unless(!group.fence, "fence", group.fence);
    out.unless(group.priority == 0, "priority", group.priority);
    for (key, kind, strength) in RELATIONS {
        let such = group.relations.iter();
        let such = such.filter(|relation| relation.kind == kind && relation.strength == strength);
        let names: Vec<_> = such.map(|relation| relation.group.0.clone()).collect();
        out.unless(names.is_empty(), key, list(&names));
    }
    menu(out, "start", &START, &group.start);
    menu(out, "takeover", &TAKEOVER, &group.takeover);
    match group.confirm {
        Confirm::No => {}
        Confirm::Always => out.key("confirm_takeover", true),
        Confirm::Within(limit) => out.key(
            "confirm_takeover",
            format!("{{ within_s = {} }}", seconds(limit)),
        ),
    }
    if let Failback::Return { delay } = group.failback {
        out.key("failback", format!("{{ delay_s = {} }}", seconds(delay)));
    }
    let default = Restart::default();
    out.unless(
        group.restart.max == default.max,
        "restarts",
        group.restart.max,
    );
    let window = group.restart.window;
    out.unless(
        window == default.window,
        "restart_window_s",
        seconds(window),
    );
    match group.on_start_failure {
        OnStartFailure::NextNode => {}
        OnStartFailure::Retry(times) => {
            out.key("on_start_failure", format!("{{ retry = {times} }}"))
        }
        OnStartFailure::Wait => out.key("on_start_failure", "\"wait\""),
    }
    menu(
        out,
        "on_stop_failure",
        &ON_STOP_FAILURE,
        &group.on_stop_failure,
    );
    menu(out, "final_action", &FINAL_ACTION, &group.final_action);
    menu(
        out,
        "on_switch_failure",
        &ON_SWITCH_FAILURE,
        &group.on_switch_failure,
    );
    for (name, shown) in &group.resources {
        resource(out, cluster, (id, group), &name.0, shown);
    }
}

/// A word of a menu whose first entry is the default.
fn menu<T: PartialEq>(out: &mut Out, key: &str, menu: &[(&str, T)], value: &T) {
    let word = menu.iter().skip(1).find(|(_, choice)| choice == value);
    if let Some((word, _)) = word {
        out.key(key, string(word));
    }
}

fn resource(
    out: &mut Out,
    cluster: &Cluster,
    (group, of_group): (&GroupId, &Group),
    name: &str,
    resource: &Resource,
) {
    let kind = crate::rules::kind_name(resource);
    let path = ["group", &group.0, kind, name];
    out.header(&path);
    match &resource.kind {
        ResourceKind::Address(shown) => address(out, cluster, shown),
        ResourceKind::Program(program) => {
            out.key("start", list(&program.start));
            out.key("stop", list(&program.stop));
            if let Some(status) = &program.status {
                out.key("status", list(status));
            }
            environment(out, &program.environment);
        }
        ResourceKind::Service(service) => {
            out.key("command", list(&service.command));
            environment(out, &service.environment);
        }
        ResourceKind::Mirror(shown) => volume::mirror(out, cluster, of_group, shown),
        ResourceKind::Mount(shown) => volume::mount(out, shown),
        ResourceKind::Ocf(shown) => ocf(out, shown),
    }
    // A mount requires its mirror without being told.
    let implied = match &resource.kind {
        ResourceKind::Mount(mount) => Some(&mount.mirror),
        _ => None,
    };
    let requires = resource.requires.iter().filter(|id| Some(*id) != implied);
    let requires: Vec<_> = requires.map(|id| id.0.clone()).collect();
    out.unless(requires.is_empty(), "requires", list(&requires));
    let from_agent = matches!(resource.kind, ResourceKind::Ocf(_));
    for (key, value, default) in [
        ("start_timeout_s", resource.start_timeout, START_TIMEOUT),
        ("stop_timeout_s", resource.stop_timeout, STOP_TIMEOUT),
        ("running_within_s", resource.running_within, RUNNING_WITHIN),
    ] {
        // An agent's own times are its defaults, and are not known wherever the text is read.
        let default = (!from_agent).then_some(default);
        out.unless(Some(value) == default, key, seconds(value));
    }
    for shown in &resource.detectors {
        let path = path.map(bare).join(".");
        let _ = writeln!(out.0, "\n[[{path}.detector]]");
        detector_table(out, shown);
    }
    for shown in &resource.hooks {
        let path = path.map(bare).join(".");
        let _ = writeln!(out.0, "\n[[{path}.hook]]");
        out.key("when", string(shown.when.name()));
        out.key("command", list(&shown.command));
        environment(out, &shown.environment);
        let timeout = shown.timeout;
        out.unless(timeout == hook::TIMEOUT, "timeout_s", seconds(timeout));
    }
}

fn address(out: &mut Out, cluster: &Cluster, address: &Address) {
    out.key(
        "address",
        string(&format!("{}/{}", address.address, address.prefix)),
    );
    if address.nics_on.is_empty() {
        out.key("nics", list(&address.nics));
    } else {
        let others = (!address.nics.is_empty()).then(|| (OTHERS.to_owned(), list(&address.nics)));
        let on = address.nics_on.iter();
        let on = on.map(|(&node, nics)| (cluster.name_of(node), list(nics)));
        out.key("nics", table(on.chain(others)));
    }
    if let Some(gateway) = address.gateway {
        out.key("gateway", string(&gateway.to_string()));
    }
}

fn ocf(out: &mut Out, ocf: &Ocf) {
    out.key("agent", string(&ocf.name()));
    let parameters = ocf.parameters.iter();
    let parameters = parameters.map(|(name, value)| (name.clone(), string(value)));
    out.unless(ocf.parameters.is_empty(), "parameters", table(parameters));
    out.key("interval_s", seconds(ocf.interval));
    out.key("monitor_timeout_s", seconds(ocf.monitor_timeout));
    out.unless(ocf.check_level == 0, "check_level", ocf.check_level);
}

fn environment(out: &mut Out, environment: &Environment) {
    if let Some(user) = &environment.user {
        out.key("user", string(user));
    }
    if let Some(directory) = &environment.directory {
        out.key("directory", string(directory));
    }
    let variables = environment.variables.iter();
    let variables = variables.map(|(name, value)| (name.clone(), string(value)));
    out.unless(
        environment.variables.is_empty(),
        "environment",
        table(variables),
    );
}

fn detector_table(out: &mut Out, shown: &Detector) {
    match &shown.check {
        Check::Tcp {
            address,
            port,
            program,
        } => {
            match address {
                Some(ip) => out.key("tcp", string(&SocketAddr::new(*ip, *port).to_string())),
                None => out.key("tcp", port),
            }
            optional(out, "program", program.as_ref());
        }
        Check::Udp { port, program } => {
            out.key("udp", port);
            optional(out, "program", program.as_ref());
        }
        Check::Url {
            url,
            statuses,
            contains,
        } => {
            out.key("url", string(url));
            out.unless(
                statuses == &[detector::STATUS],
                "status",
                format!("{statuses:?}"),
            );
            optional(out, "contains", contains.as_ref());
        }
        Check::Process { name } => out.key("process", string(name)),
        Check::Script {
            command,
            environment: e,
        } => {
            out.key("script", list(command));
            environment(out, e);
        }
        Check::Sql(asked) => sql(out, asked),
        Check::Ping { address } => out.key("ping", string(&address.to_string())),
        Check::Disk { path, free, write } => {
            out.key("disk", string(path));
            out.unless(*free == 0, "free", string(&size(*free)));
            out.unless(*write, "write", write);
        }
        Check::Memory { available } => out.key("memory", string(&size(*available))),
        Check::Load { most_hundredths } => {
            let (whole, part) = (most_hundredths / 100, most_hundredths % 100);
            out.key("load", format!("{whole}.{part:02}"));
        }
        Check::Monitor {
            command,
            environment: e,
        } => {
            out.key("monitor", list(command));
            environment(out, e);
        }
    }
    let (interval, timeout) = (shown.interval, shown.timeout);
    out.unless(
        interval == detector::INTERVAL,
        "interval_s",
        seconds(interval),
    );
    let default = detector::TIMEOUT.min(interval);
    out.unless(timeout == default, "timeout_s", seconds(timeout));
    out.unless(shown.tries == 1, "tries", shown.tries);
    menu(out, "of", &detector::OF, &shown.of_node);
}

fn sql(out: &mut Out, sql: &Sql) {
    let engine = detector::ENGINES
        .iter()
        .find(|(_, engine)| *engine == sql.engine);
    out.key("sql", string(engine.map_or("", |(name, _)| name)));
    optional(out, "host", sql.host.as_ref());
    if let Some(port) = sql.port {
        out.key("port", port);
    }
    optional(out, "database", sql.database.as_ref());
    optional(out, "login", sql.login.as_ref());
    optional(out, "password_file", sql.password_file.as_ref());
    out.unless(sql.query == detector::QUERY, "query", string(&sql.query));
    optional(out, "answer", sql.answer.as_ref());
    optional(out, "user", sql.user.as_ref());
}

fn optional(out: &mut Out, key: &str, value: Option<&String>) {
    if let Some(value) = value {
        out.key(key, string(value));
    }
}

/// An address, without the port where it is the usual one.
fn socket(address: SocketAddr) -> String {
    if address.port() == PORT {
        address.ip().to_string()
    } else {
        address.to_string()
    }
}

/// Seconds, with as many decimals as needed, to the millisecond.
fn seconds(time: Duration) -> String {
    match time.subsec_millis() {
        0 => time.as_secs().to_string(),
        millis => {
            let text = format!("{}.{millis:03}", time.as_secs());
            text.trim_end_matches('0').to_owned()
        }
    }
}

/// A TOML basic string.
pub(crate) fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| string(item)).collect();
    format!("[{}]", items.join(", "))
}

/// An inline table of values that are written already.
fn table(entries: impl Iterator<Item = (String, String)>) -> String {
    let entries: Vec<_> = entries
        .map(|(key, value)| format!("{} = {value}", bare(&key)))
        .collect();
    format!("{{ {} }}", entries.join(", "))
}

/// A key, quoted where it must be.
pub(crate) fn bare(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(plain) {
        key.to_owned()
    } else {
        string(key)
    }
}
