//! Reads resources: virtual addresses, programs, services. Mirrors and mounts are read in `volume`,
//! agents in `ocf`.

use super::{Names, check_name, detector, hook, ocf, volume};
use crate::section::{Section, network};
use crate::words::shown;
use hotpair_core::config::{Address, Environment, Program, Resource, ResourceKind, Service};
use hotpair_core::ids::{MemberId, ResourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

/// Limits of a start, of a stop, and of the time until it is found running, by default.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const RUNNING_WITHIN: Duration = Duration::from_secs(120);

/// NICs of one address on one node.
const MAX_NICS: usize = 16;

/// Stands for every node that is not named in a table of NICs.
pub(crate) const OTHERS: &str = "*";

type ReadKind = fn(&Section<'_>, &Names, &[MemberId]) -> Option<ResourceKind>;

pub(super) fn resources(
    group: &Section<'_>,
    names: &Names,
    nodes: &[MemberId],
) -> BTreeMap<ResourceId, Resource> {
    let kinds: [(&'static str, ReadKind); 6] = [
        ("address", address),
        ("program", program),
        ("service", service),
        ("mirror", volume::mirror),
        ("mount", volume::mount),
        ("ocf", ocf::ocf),
    ];
    let mut all = BTreeSet::new();
    let mut read = Vec::new();
    for (kind, read_kind) in kinds {
        for (name, place, section) in group.named(kind) {
            check_name(&section, "resource", &name, place.clone());
            if !all.insert(name.clone()) {
                let message = format!("this group has two resources named `{}`", shown(&name));
                section.error(
                    place,
                    message,
                    "give each resource of a group a name of its own",
                );
            }
            let body = read_kind(&section, names, nodes);
            read.push((name, section, body));
        }
    }
    let mirrors: BTreeSet<String> = read
        .iter()
        .filter(|(_, _, body)| matches!(body, Some(ResourceKind::Mirror(_))))
        .map(|(name, ..)| name.clone())
        .collect();
    let mut resources = BTreeMap::new();
    for (name, section, body) in read {
        let mut requires = requires(&section, &name, &all);
        let rest = (
            section.seconds("start_timeout_s", 100..=86_400_000),
            section.seconds("stop_timeout_s", 100..=86_400_000),
            section.seconds("running_within_s", 100..=86_400_000),
        );
        let detectors = section.sections("detector");
        let detectors = detectors.iter().filter_map(detector::detector).collect();
        let hooks = hook::hooks(&section);
        section.finish();
        // A broken body has its errors already; the rest is kept for the rules about dependencies.
        let kind = body.unwrap_or_else(|| {
            ResourceKind::Service(Service {
                command: Vec::new(),
                environment: Environment::default(),
            })
        });
        if let ResourceKind::Mount(mount) = &kind
            && mirrors.contains(&mount.mirror.0)
        {
            requires.insert(mount.mirror.clone());
        }
        let resource = Resource {
            kind,
            requires,
            detectors,
            hooks,
            start_timeout: rest.0.unwrap_or(START_TIMEOUT),
            stop_timeout: rest.1.unwrap_or(STOP_TIMEOUT),
            running_within: rest.2.unwrap_or(RUNNING_WITHIN),
        };
        resources.entry(ResourceId(name)).or_insert(resource);
    }
    resources
}

fn requires(section: &Section<'_>, own: &str, all: &BTreeSet<String>) -> BTreeSet<ResourceId> {
    let mut requires = BTreeSet::new();
    for (name, span) in section.strings("requires").unwrap_or_default() {
        if name == own {
            let message = format!("`{}` requires itself", shown(own));
            section.error(span, message, "remove it");
        } else if !all.contains(&name) {
            let known = all.iter().map(String::as_str).take(200);
            let help = section.meant(&name, known, "name a resource of the same group");
            let message = format!("this group has no resource `{}` to require", shown(&name));
            section.error(span, message, &help);
        } else if !requires.insert(ResourceId(name.clone())) {
            let message = format!("`{}` stands in this list twice", shown(&name));
            section.error(span, message, "remove one");
        }
    }
    requires
}

fn address(section: &Section<'_>, names: &Names, nodes: &[MemberId]) -> Option<ResourceKind> {
    if !section.has("address") {
        section.missing(
            "address",
            "give the address with its prefix: address = \"10.0.0.100/24\"",
        );
    }
    let address = section
        .string("address")
        .and_then(|(text, span)| with_prefix(section, &text, span));
    let (nics, nics_on) = nics(section, names, nodes);
    let gateway = section.parsed::<IpAddr>("gateway", "an IP address");
    let (address, prefix) = address?;
    if let Some((gateway, span)) = &gateway {
        check_gateway(section, (address, prefix), *gateway, span.clone());
    }
    Some(ResourceKind::Address(Address {
        address,
        prefix,
        nics,
        nics_on,
        gateway: gateway.map(|(gateway, _)| gateway),
    }))
}

fn check_gateway(
    section: &Section<'_>,
    (address, prefix): (IpAddr, u8),
    gateway: IpAddr,
    span: Range<usize>,
) {
    if gateway.is_ipv4() != address.is_ipv4() {
        let message = format!("the gateway {gateway} is not of the family of {address}");
        section.error(span, message, "give a gateway of the same family");
    } else if gateway == address {
        let message = format!("the gateway {gateway} is the virtual address itself");
        section.error(span, message, "give the router's address");
    } else if network(gateway, prefix) != network(address, prefix) {
        let message = format!("the gateway {gateway} is not in the network of {address}/{prefix}");
        section.warning(
            span,
            message,
            "a NIC whose gateway does not answer is unfit; check both",
        );
    }
}

/// The first or, with IPv4, last address of a network, which belong to no machine.
fn names_the_network(ip: IpAddr, prefix: u8) -> bool {
    match ip {
        IpAddr::V4(v4) if prefix < 31 => {
            let host = u32::MAX >> prefix;
            [0, host].contains(&(v4.to_bits() & host))
        }
        IpAddr::V6(_) if prefix < 127 => network(ip, prefix) == ip,
        _ => false,
    }
}

fn with_prefix(section: &Section<'_>, text: &str, span: Range<usize>) -> Option<(IpAddr, u8)> {
    let Some((ip, prefix)) = text.split_once('/') else {
        let message = format!("`{}` has no prefix", shown(text));
        let help = "write the address with the prefix of its network, such as 10.0.0.100/24";
        section.error(span, message, help);
        return None;
    };
    let (Ok(ip), Ok(prefix)) = (ip.parse::<IpAddr>(), prefix.parse::<u8>()) else {
        let message = format!("`{}` is not an address with a prefix", shown(text));
        section.error(span, message, "write it like 10.0.0.100/24 or fd00::100/64");
        return None;
    };
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    if !(1..=longest).contains(&prefix) {
        let message = format!("prefix {prefix} is out of range");
        section.error(span, message, &format!("give 1 to {longest}"));
        return None;
    }
    let special = match ip {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if special
        || names_the_network(ip, prefix)
        || ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
    {
        let message = format!("{ip} cannot be a virtual address");
        section.error(
            span,
            message,
            "give a free unicast address of the clients' network",
        );
        return None;
    }
    Some((ip, prefix))
}

type Nics = (Vec<String>, BTreeMap<MemberId, Vec<String>>);

fn nics(section: &Section<'_>, names: &Names, nodes: &[MemberId]) -> Nics {
    let (mut nics, mut nics_on) = Nics::default();
    let help = "name the NICs in order of preference: nics = [\"eth0\"], or for each node nics = { node1 = [\"eth0\"], … }";
    let Some(value) = section.value("nics") else {
        section.missing("nics", help);
        return (nics, nics_on);
    };
    if value.get_ref().is_array() {
        let list = section.strings_in("nics", value).unwrap_or_default();
        return (nic_names(section, list, value.span()), nics_on);
    }
    let Some(table) = value
        .get_ref()
        .is_table()
        .then(|| section.section("nics"))
        .flatten()
    else {
        section.wrong_type(
            "nics",
            value,
            "a list of NICs, or a table of such lists by node",
        );
        return (nics, nics_on);
    };
    let mut others = false;
    for (key, value) in table.entries() {
        let list = section.strings_in(key.get_ref(), value);
        let list = list.map(|list| nic_names(section, list, value.span()));
        if key.get_ref() == OTHERS {
            others = true;
            nics = list.unwrap_or_default();
        } else if let Some(node) = names.find(section, key.get_ref(), key.span()) {
            nics_on.insert(node, list.unwrap_or_default());
        }
    }
    for &node in nodes
        .iter()
        .filter(|&node| !others && !nics_on.contains_key(node))
    {
        let name = names
            .iter()
            .find(|&(_, id)| id == node)
            .map_or("", |(name, _)| name);
        let message = format!("no NIC is given for node `{name}`, which may run the group");
        section.error(
            table.span.clone(),
            message,
            "add it, or \"*\" for all other nodes",
        );
    }
    (nics, nics_on)
}

fn nic_names(
    section: &Section<'_>,
    list: Vec<(String, Range<usize>)>,
    whole: Range<usize>,
) -> Vec<String> {
    if list.is_empty() {
        section.error(
            whole,
            "this list of NICs is empty".to_owned(),
            "name at least one NIC",
        );
    }
    if let Some((_, span)) = list.get(MAX_NICS) {
        let message = format!("{} NICs are too many", list.len());
        section.error(span.clone(), message, &format!("name 1 to {MAX_NICS}"));
    }
    let mut nics: Vec<String> = Vec::new();
    for (name, span) in list.into_iter().take(MAX_NICS) {
        // IFNAMSIZ is 16 with the closing zero; the kernel refuses these characters.
        let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if !(1..=15).contains(&name.len()) || name == "." || name == ".." || name.contains(refused)
        {
            let message = format!("`{}` cannot be the name of a NIC", shown(&name));
            section.error(span, message, "give a name that `ip link` shows");
        } else if nics.contains(&name) {
            section.error(
                span,
                format!("NIC `{name}` stands in this list twice"),
                "remove one",
            );
        } else {
            nics.push(name);
        }
    }
    nics
}

fn program(section: &Section<'_>, _: &Names, _: &[MemberId]) -> Option<ResourceKind> {
    for key in ["start", "stop"] {
        if !section.has(key) {
            section.missing(
                key,
                &format!("give the program that does it: {key} = [\"/path\", \"argument\"]"),
            );
        }
    }
    let (start, stop) = (section.command("start"), section.command("stop"));
    let status = section.command("status");
    let environment = environment(section);
    Some(ResourceKind::Program(Program {
        start: start?,
        stop: stop?,
        status,
        environment,
    }))
}

fn service(section: &Section<'_>, _: &Names, _: &[MemberId]) -> Option<ResourceKind> {
    if !section.has("command") {
        let help =
            "give the program that runs in the foreground: command = [\"/path\", \"argument\"]";
        section.missing("command", help);
    }
    let command = section.command("command");
    let environment = environment(section);
    Some(ResourceKind::Service(Service {
        command: command?,
        environment,
    }))
}

/// `user`, `directory` and `environment` of a program.
pub(super) fn environment(section: &Section<'_>) -> Environment {
    let user = section.string("user").and_then(|(user, span)| {
        let good = !user.is_empty() && user.len() <= 255 && !user.contains([':', '/', ' ', '\n']);
        if !good {
            let message = format!("`{}` cannot be the name of a user", shown(&user));
            section.error(span, message, "give a login name");
        }
        good.then_some(user)
    });
    let directory = section.string("directory").and_then(|(path, span)| {
        let good = path.starts_with('/');
        if !good {
            let message = format!(
                "`directory` is `{}`, which is not a full path",
                shown(&path)
            );
            section.error(span, message, "begin it with `/`");
        }
        good.then_some(path)
    });
    Environment {
        user,
        directory,
        variables: variables(section),
    }
}

fn variables(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let Some(table) = section.section("environment") else {
        return variables;
    };
    for (key, value) in table.entries() {
        let name = key.get_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("`{}` cannot be the name of a variable", shown(name));
            section.error(key.span(), message, "give a name without `=`");
        }
        match value.get_ref().as_str() {
            Some(text) if text.contains('\0') => {
                let message = format!("`{}` contains a zero character", shown(name));
                section.error(value.span(), message, "remove it");
            }
            Some(text) => {
                variables.insert(name.to_string(), text.to_owned());
            }
            None => section.wrong_type(name, value, "a string"),
        }
    }
    variables
}
