//! Reads groups: their nodes and policies. Resources are read in `resource`.

use super::{Names, check_name, resource};
use crate::section::Section;
use crate::words::shown;
use hotpair_core::config::{
    Confirm, Failback, FinalAction, Group, OnStartFailure, OnStopFailure, OnSwitchFailure,
    Relation, RelationKind, Resource, ResourceKind, Restart, StartMode, Strength, Takeover,
};
use hotpair_core::ids::{GroupId, MemberId, ResourceId};
use std::collections::BTreeMap;

pub(crate) const START: [(&str, StartMode); 2] = [
    ("automatic", StartMode::Automatic),
    ("manual", StartMode::Manual),
];
pub(crate) const TAKEOVER: [(&str, Takeover); 3] = [
    ("by-priority", Takeover::ByPriority),
    ("highest-only", Takeover::HighestOnly),
    ("never", Takeover::Never),
];
pub(crate) const ON_STOP_FAILURE: [(&str, OnStopFailure); 3] = [
    ("wait", OnStopFailure::Wait),
    ("kill", OnStopFailure::Kill),
    ("fence", OnStopFailure::Fence),
];
pub(crate) const FINAL_ACTION: [(&str, FinalAction); 4] = [
    ("stop-group", FinalAction::StopGroup),
    ("nothing", FinalAction::Nothing),
    ("stop-hotpair", FinalAction::StopHotpair),
    ("reboot", FinalAction::Reboot),
];
pub(crate) const ON_SWITCH_FAILURE: [(&str, OnSwitchFailure); 2] = [
    ("go-back", OnSwitchFailure::GoBack),
    ("wait", OnSwitchFailure::Wait),
];

pub(super) fn groups(root: &Section<'_>, names: &Names) -> BTreeMap<GroupId, Group> {
    let mut groups = BTreeMap::new();
    for (name, place, section) in root.named("group") {
        check_name(&section, "group", &name, place);
        groups.insert(GroupId(name), group(&section, names));
    }
    groups
}

fn group(section: &Section<'_>, names: &Names) -> Group {
    let nodes = nodes(section, names);
    let resources = resource::resources(section, names, &nodes);
    // What an agent does beside starting processes, such as an address or a mount, no gate stops.
    let by_default = has_agent(&resources);
    let group = Group {
        resources,
        nodes,
        start: section.choice("start", &START).unwrap_or_default(),
        takeover: section.choice("takeover", &TAKEOVER).unwrap_or_default(),
        failback: failback(section).unwrap_or_default(),
        restart: restart(section),
        on_start_failure: on_start_failure(section).unwrap_or_default(),
        on_stop_failure: section
            .choice("on_stop_failure", &ON_STOP_FAILURE)
            .unwrap_or_default(),
        final_action: section
            .choice("final_action", &FINAL_ACTION)
            .unwrap_or_default(),
        on_switch_failure: section
            .choice("on_switch_failure", &ON_SWITCH_FAILURE)
            .unwrap_or_default(),
        priority: section
            .number("priority", -1_000_000..=1_000_000)
            .unwrap_or_default(),
        ungated: section.boolean("ungated").unwrap_or(by_default),
        fence: section.boolean("fence").unwrap_or_default(),
        confirm: confirm(section).unwrap_or_default(),
        relations: relations(section),
    };
    section.finish();
    group
}

/// Every key that names other groups, with what it says about them.
pub(crate) const RELATIONS: [(&str, RelationKind, Strength); 6] = [
    ("with", RelationKind::With, Strength::Hard),
    ("prefer_with", RelationKind::With, Strength::Preferred),
    ("apart", RelationKind::Apart, Strength::Hard),
    ("prefer_apart", RelationKind::Apart, Strength::Preferred),
    ("after", RelationKind::After, Strength::Hard),
    ("prefer_after", RelationKind::After, Strength::Preferred),
];

/// The key that says `relation`.
pub(crate) fn relation_key(relation: &Relation) -> &'static str {
    let same = |&&(_, kind, strength): &&(&str, RelationKind, Strength)| {
        kind == relation.kind && strength == relation.strength
    };
    RELATIONS.iter().find(same).map_or("with", |(key, ..)| key)
}

/// In an order of their own, so that the order in the text means nothing.
fn relations(section: &Section<'_>) -> Vec<Relation> {
    let mut relations = Vec::new();
    for (key, kind, strength) in RELATIONS {
        for (name, _) in section.strings(key).unwrap_or_default() {
            relations.push(Relation {
                kind,
                group: GroupId(name),
                strength,
            });
        }
    }
    relations.sort();
    relations
}

/// Does anything in it come from a resource agent?
pub(crate) fn has_agent(resources: &BTreeMap<ResourceId, Resource>) -> bool {
    let mut all = resources.values();
    all.any(|resource| matches!(resource.kind, ResourceKind::Ocf(_)))
}

fn nodes(section: &Section<'_>, names: &Names) -> Vec<MemberId> {
    if !section.has("nodes") {
        let help =
            "list the nodes that may run it, the preferred one first: nodes = [\"…\", \"…\"]";
        section.missing("nodes", help);
    }
    let written = section.strings("nodes").unwrap_or_default();
    if written.is_empty() && section.has("nodes") {
        let message = "no node may run this group".to_owned();
        section.error(section.place("nodes"), message, "list at least one node");
    }
    let mut nodes = Vec::new();
    for (name, span) in written {
        let Some(node) = names.find(section, &name, span.clone()) else {
            continue;
        };
        if nodes.contains(&node) {
            let message = format!("node `{}` stands in this list twice", shown(&name));
            section.error(span, message, "remove one");
        } else {
            nodes.push(node);
        }
    }
    nodes
}

fn restart(section: &Section<'_>) -> Restart {
    let default = Restart::default();
    Restart {
        max: section.number("restarts", 0..=1_000).unwrap_or(default.max),
        window: section
            .seconds("restart_window_s", 1_000..=86_400_000)
            .unwrap_or(default.window),
    }
}

fn confirm(section: &Section<'_>) -> Option<Confirm> {
    let value = section.value("confirm_takeover")?;
    if value.get_ref().is_table() {
        let table = section.section("confirm_takeover")?;
        if !table.has("within_s") {
            table.missing("within_s", "write confirm_takeover = { within_s = 300 }");
        }
        let limit = table.seconds("within_s", 1_000..=86_400_000);
        table.finish();
        return Some(Confirm::Within(limit?));
    }
    let Some(confirm) = value.get_ref().as_bool() else {
        let wanted = "true, false or { within_s = SECONDS }";
        section.wrong_type("confirm_takeover", value, wanted);
        return None;
    };
    Some(match confirm {
        true => Confirm::Always,
        false => Confirm::No,
    })
}

fn failback(section: &Section<'_>) -> Option<Failback> {
    let value = section.value("failback")?;
    if value.get_ref().is_table() {
        let table = section.section("failback")?;
        if !table.has("delay_s") {
            table.missing("delay_s", "write failback = { delay_s = 60 }");
        }
        let delay = table.seconds("delay_s", 0..=86_400_000);
        table.finish();
        return Some(Failback::Return { delay: delay? });
    }
    let Some(word) = value.get_ref().as_str() else {
        section.wrong_type("failback", value, "\"stay\" or { delay_s = SECONDS }");
        return None;
    };
    section.pick("failback", word, value.span(), &[("stay", Failback::Stay)])
}

fn on_start_failure(section: &Section<'_>) -> Option<OnStartFailure> {
    let key = "on_start_failure";
    let value = section.value(key)?;
    if value.get_ref().is_table() {
        let table = section.section(key)?;
        if !table.has("retry") {
            table.missing("retry", "write on_start_failure = { retry = 2 }");
        }
        let times = table.number("retry", 1..=1_000);
        table.finish();
        return Some(OnStartFailure::Retry(times?));
    }
    let Some(word) = value.get_ref().as_str() else {
        section.wrong_type(key, value, "\"next-node\", \"wait\" or { retry = TIMES }");
        return None;
    };
    let menu = [
        ("next-node", OnStartFailure::NextNode),
        ("wait", OnStartFailure::Wait),
    ];
    section.pick(key, word, value.span(), &menu)
}
