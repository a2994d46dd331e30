//! Reads fence devices: `[fence.NAME]`.

use super::{Names, check_name, ocf::parameters};
use crate::section::Section;
use crate::words::shown;
use hotpair_core::config::{FenceAction, FenceDevice, Fencing};
use hotpair_core::ids::MemberId;
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) const ACTION: [(&str, FenceAction); 2] =
    [("reboot", FenceAction::Reboot), ("off", FenceAction::Off)];

/// Given to an agent by hotpair itself.
const OURS: [&str; 2] = ["action", "option"];

pub(super) fn fencing(root: &Section<'_>, names: &Names, delay: Duration) -> Fencing {
    let mut devices: BTreeMap<MemberId, Vec<FenceDevice>> = BTreeMap::new();
    for (name, place, section) in root.named("fence") {
        check_name(&section, "fence device", &name, place);
        if !section.has("node") {
            section.missing("node", "name the node it fences: node = \"…\"");
        }
        let node = section
            .string("node")
            .and_then(|(node, span)| names.find(&section, &node, span));
        let device = device(&section, name);
        section.finish();
        if let (Some(node), Some(device)) = (node, device) {
            devices.entry(node).or_default().push(device);
        }
    }
    for levels in devices.values_mut() {
        levels.sort_by(|a, b| (a.level, &a.name).cmp(&(b.level, &b.name)));
    }
    Fencing { devices, delay }
}

fn device(section: &Section<'_>, name: String) -> Option<FenceDevice> {
    if !section.has("agent") {
        let help = "name the agent of the fence-agents package: agent = \"fence_ipmilan\"";
        section.missing("agent", help);
    }
    let agent = section.string("agent").filter(|(agent, span)| {
        let good = is_agent(agent);
        if !good {
            let message = format!("`{}` does not name a fence agent", shown(agent));
            let help = "write its name, such as fence_ipmilan, or the full path of a program";
            section.error(span.clone(), message, help);
        }
        good
    });
    let parameters = parameters(section);
    for ours in OURS.iter().filter(|ours| parameters.contains_key(**ours)) {
        let message = format!("`{ours}` is given to the agent by hotpair");
        let help =
            "remove it; choose what is done with action = \"reboot\" or \"off\" of the device";
        section.error(section.place("parameters"), message, help);
    }
    let secrets = section.string("secrets").map(|(path, span)| {
        if !path.starts_with('/') {
            let message = format!("`{}` is no full path", shown(&path));
            section.error(
                span,
                message,
                "write the full path of the file with the secrets",
            );
        }
        path
    });
    for word in ["passwd", "password", "snmp_priv_passwd"] {
        if parameters.contains_key(word) {
            let message =
                format!("`{word}` stands in the configuration, which every member keeps and shows");
            let help = "put the line into a file that only root can read, on every node, and name it with secrets = \"…\"";
            section.warning(section.place("parameters"), message, help);
        }
    }
    let action = section.choice("action", &ACTION).unwrap_or_default();
    let timeout = section.seconds("timeout_s", 1_000..=600_000);
    let level = section.number("level", 1..=9);
    Some(FenceDevice {
        name,
        level: level.map_or(1, |level| u8::try_from(level).unwrap_or(1)),
        agent: agent?.0,
        parameters,
        secrets,
        action,
        timeout: timeout.unwrap_or(FenceDevice::TIMEOUT),
    })
}

fn is_agent(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match name.strip_prefix('/') {
        Some(rest) => !rest.is_empty() && !name.contains('\0'),
        None => {
            !name.is_empty() && name.len() <= 63 && !name.starts_with('.') && name.chars().all(good)
        }
    }
}
