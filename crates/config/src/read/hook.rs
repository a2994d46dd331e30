//! Reads the hooks of a resource.

use super::resource::environment;
use crate::section::Section;
use hotpair_core::config::{Hook, HookMoment};
use std::time::Duration;

/// Hooks of one resource.
const MAX_HOOKS: usize = 32;

/// Limit of a hook, by default.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

const MOMENTS: [(&str, HookMoment); 5] = [
    ("before_start", HookMoment::BeforeStart),
    ("after_start", HookMoment::AfterStart),
    ("before_stop", HookMoment::BeforeStop),
    ("after_stop", HookMoment::AfterStop),
    ("stop_failed", HookMoment::StopFailed),
];

pub(super) fn hooks(resource: &Section<'_>) -> Vec<Hook> {
    let sections = resource.sections("hook");
    if let Some(section) = sections.get(MAX_HOOKS) {
        let message = format!("{} hooks are too many for one resource", sections.len());
        let help = format!("give at most {MAX_HOOKS}; a script can do several things");
        section.error(section.span.clone(), message, &help);
    }
    let read = sections.iter().take(MAX_HOOKS).filter_map(hook);
    read.collect()
}

fn hook(section: &Section<'_>) -> Option<Hook> {
    if !section.has("when") {
        let words = MOMENTS.map(|(word, _)| format!("\"{word}\"")).join(", ");
        section.missing("when", &format!("say when it is run: one of {words}"));
    }
    if !section.has("command") {
        let help = "give the program that is run: command = [\"/path\", \"argument\"]";
        section.missing("command", help);
    }
    let when = section.choice("when", &MOMENTS);
    let command = section.command("command");
    let environment = environment(section);
    let timeout = section.seconds("timeout_s", 10..=86_400_000);
    section.finish();
    Some(Hook {
        when: when?,
        command: command?,
        environment,
        timeout: timeout.unwrap_or(TIMEOUT),
    })
}
