//! `hotpair replay`: decides a recording anew and compares.

use crate::failure::{Code, Failure};
use crate::session::{Outcome, Session};
use clap::Args;
use hotpair_core::node::{Action, Durable, Identity, Input, Node};
use hotpair_core::time::Now;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

/// Let the deciding core hear a recording again, and compare what it does.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// What `hotpair record` has written.
    file: PathBuf,
}

/// Longest recording that is read: 256 MiB.
const LIMIT: u64 = 256 * 1024 * 1024;

/// What a core started with, heard and did.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    identity: Identity,
    durable: Option<Durable>,
    /// When the core was restored; the first entry's time if missing.
    #[serde(default)]
    started: Option<Now>,
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    now: Now,
    input: Input,
    actions: Vec<Action>,
}

/// How a replay ended.
#[derive(Debug, Serialize)]
struct Replayed {
    entries: usize,
    same: bool,
    /// Number of the first entry that differs, from 0.
    differs_at: Option<usize>,
    input: Option<Input>,
    recorded: Vec<Action>,
    replayed: Vec<Action>,
    panic: Option<String>,
}

pub fn run(session: &Session, args: &ReplayArgs) -> Outcome {
    let file = args.file.display();
    let mut text = String::new();
    std::fs::File::open(&args.file)
        .and_then(|file| file.take(LIMIT).read_to_string(&mut text))
        .map_err(|error| Failure::refused(format!("cannot read {file}: {error}")))?;
    let recording: Recording = serde_json::from_str(&text).map_err(|error| {
        Failure::new(Code::Findings, format!("{file} is no recording: {error}"))
            .hint("make one with `hotpair record --output FILE`; both sides need the same version")
    })?;
    let result = replay(recording);
    let code = if result.same {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Code::Findings as u8)
    };
    session.show(&result, || text_of(&result))?;
    Ok(code)
}

fn replay(recording: Recording) -> Replayed {
    let total = recording.entries.len();
    let same = Replayed {
        entries: total,
        same: true,
        differs_at: None,
        input: None,
        recorded: Vec::new(),
        replayed: Vec::new(),
        panic: None,
    };
    let start = recording
        .started
        .or_else(|| recording.entries.first().map(|entry| entry.now));
    let Some(start) = start else { return same };
    // A recording that was edited may break the core's own assertions: told, not shown as a crash.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (identity, durable) = (recording.identity, recording.durable);
    let node = catch_unwind(AssertUnwindSafe(|| Node::restore(identity, durable, start)));
    let result = compare(node, recording.entries, same);
    std::panic::set_hook(hook);
    result
}

fn compare(node: std::thread::Result<Node>, entries: Vec<Entry>, same: Replayed) -> Replayed {
    let mut node = match node {
        Ok(node) => node,
        Err(cause) => {
            return Replayed {
                same: false,
                differs_at: Some(0),
                panic: Some(said(&*cause)),
                ..same
            };
        }
    };
    for (number, entry) in entries.into_iter().enumerate() {
        let Entry {
            now,
            input,
            actions,
        } = entry;
        let again = input.clone();
        let (replayed, panic) = match catch_unwind(AssertUnwindSafe(|| node.step(now, again))) {
            Ok(replayed) if replayed == actions => continue,
            Ok(replayed) => (replayed, None),
            Err(cause) => (Vec::new(), Some(said(&*cause))),
        };
        return Replayed {
            same: false,
            differs_at: Some(number),
            input: Some(input),
            recorded: actions,
            replayed,
            panic,
            ..same
        };
    }
    same
}

fn said(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().cloned();
    text.or_else(|| cause.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_default()
}

fn text_of(result: &Replayed) -> String {
    let Some(at) = result.differs_at else {
        return format!("{} entries, every action as recorded\n", result.entries);
    };
    let mut out = format!(
        "entry {at} of {} differs\n  input {:?}\n",
        result.entries, result.input
    );
    if let Some(panic) = &result.panic {
        out.push_str(&format!("  the core stopped: {panic}\n"));
    }
    for (title, actions, other) in [
        ("recorded", &result.recorded, &result.replayed),
        ("replayed", &result.replayed, &result.recorded),
    ] {
        for action in actions.iter().filter(|action| !other.contains(action)) {
            out.push_str(&format!("  only {title}: {action:?}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotpair_core::ids::{HostBoot, Incarnation, MemberId};

    fn recording(steps: usize) -> Recording {
        let text = "[cluster]\nname = \"c\"\n[[node]]\nname = \"a\"\n\
            [[link]]\nname = \"lan\"\naddresses = { a = \"10.0.0.1\" }\n";
        let cluster = hotpair_config::check("t", text, None)
            .expect("valid")
            .cluster;
        let document = hotpair_core::document::Document::first(cluster);
        let durable = Durable {
            longest_lease: document.config.timing.lease,
            term: document.version.term,
            document: Some(std::sync::Arc::new(document)),
            ..Durable::default()
        };
        let identity = Identity {
            me: MemberId(1),
            boot: HostBoot(1),
            incarnation: Incarnation(1),
            seed: 1,
        };
        let mut node = Node::restore(identity.clone(), Some(durable.clone()), Now::at(1));
        let entries = (0..steps).map(|number| {
            let now = Now::at(number as u64 * 100_000 + 1);
            Entry {
                now,
                input: Input::Tick,
                actions: node.step(now, Input::Tick),
            }
        });
        let entries = entries.collect();
        Recording {
            identity,
            durable: Some(durable),
            started: Some(Now::at(1)),
            entries,
        }
    }

    #[test]
    fn recording_is_decided_as_before() {
        let recording = recording(50);
        assert!(
            recording
                .entries
                .iter()
                .any(|entry| !entry.actions.is_empty())
        );
        let result = replay(recording);
        assert!(result.same, "{}", text_of(&result));
        assert_eq!(text_of(&result), "50 entries, every action as recorded\n");
    }

    #[test]
    fn first_difference_is_named() {
        let mut recording = recording(50);
        let at = recording
            .entries
            .iter()
            .position(|entry| !entry.actions.is_empty())
            .unwrap();
        recording.entries[at].actions.clear();
        let result = replay(recording);
        assert_eq!((result.same, result.differs_at), (false, Some(at)));
        assert!(text_of(&result).contains("only replayed: "));
    }

    #[test]
    fn empty_recording_is_the_same() {
        assert!(replay(recording(0)).same);
    }
}
