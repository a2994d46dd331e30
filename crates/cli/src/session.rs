//! What every command works with: the node's paths, the daemon, and how to print.

use crate::failure::{Code, Failure};
use crate::output::{Ink, print};
use hotpair_api::client::Client;
use hotpair_api::{Call, Reply, StatusView};
use hotpair_core::ids::{GroupId, MemberId};
use hotpair_core::request::Request;
use hotpair_daemon::paths::Paths;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long a question may take.
const ASK: Duration = Duration::from_secs(10);
/// How long a change may take until it is committed.
const CHANGE: Duration = Duration::from_secs(30);

pub struct Session {
    pub paths: Paths,
    pub json: bool,
    pub ink: Ink,
}

pub type Outcome = Result<ExitCode, Failure>;

impl Session {
    pub fn new(root: Option<&Path>, json: bool) -> Self {
        Self {
            paths: Paths::find(root),
            json,
            ink: Ink::of_terminal(),
        }
    }

    pub fn connect(&self) -> Result<Client, Failure> {
        let connected = Client::connect(&self.paths.api_socket()).map_err(Failure::from);
        connected.map_err(|failure| {
            let idle = failure.code == Code::NotRunning;
            if !idle || !hotpair_daemon::witness::is_only_witness(&self.paths) {
                return failure;
            }
            Failure::new(
                Code::NotRunning,
                "this machine is a witness: it runs no groups, and no node's daemon to ask",
            )
            .hint(
                "ask on a node: `hotpair status` there also says whether the witness votes; here its own daemon runs: \
                 `systemctl status hotpair-witness`",
            )
        })
    }

    /// Asks the daemon; a refusal is a failure.
    pub fn ask(&self, call: Call) -> Result<Reply, Failure> {
        self.call(call, ASK)
    }

    pub fn call(&self, call: Call, limit: Duration) -> Result<Reply, Failure> {
        match self.connect()?.call(call, Some(limit))? {
            Reply::Refused(text) => Err(Failure::refused(text)),
            Reply::Undecided(text) => Err(Failure::new(Code::Undecided, text)
                .hint("see with `hotpair status` which members can be reached")),
            reply => Ok(reply),
        }
    }

    pub fn status(&self) -> Result<StatusView, Failure> {
        match self.ask(Call::Status)? {
            Reply::Status(view) => Ok(*view),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for a change and returns the daemon's sentence.
    pub fn operate(&self, request: Request, dry_run: bool) -> Result<String, Failure> {
        self.done(Call::Operate {
            request: Box::new(request),
            dry_run,
        })
    }

    /// A call that is answered by one sentence.
    pub fn done(&self, call: Call) -> Result<String, Failure> {
        match self.call(call, CHANGE)? {
            Reply::Done(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// A change that is done when the daemon says so.
    pub fn change(&self, request: Request, dry_run: bool) -> Outcome {
        let text = self.operate(request, dry_run)?;
        self.say(&text, dry_run)
    }

    /// One sentence, as text or JSON.
    pub fn say(&self, text: &str, dry_run: bool) -> Outcome {
        if self.json {
            return self.print_json(&serde_json::json!({ "done": text, "dry_run": dry_run }));
        }
        print(if dry_run { "would be done: " } else { "" });
        print(&format!("{}\n", text.trim_end()));
        Ok(ExitCode::SUCCESS)
    }

    pub fn print_json(&self, value: &impl Serialize) -> Outcome {
        print(&format!("{}\n", serde_json::to_string_pretty(value)?));
        Ok(ExitCode::SUCCESS)
    }

    /// JSON or the text, whichever was asked for.
    pub fn show(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Outcome {
        if self.json {
            return self.print_json(value);
        }
        print(&text());
        Ok(ExitCode::SUCCESS)
    }
}

/// The daemon answered with something else.
pub fn unexpected(reply: &Reply) -> Failure {
    let name = serde_json::to_value(reply).ok().and_then(|value| {
        let name = value.as_object()?.keys().next()?.clone();
        Some(name)
    });
    let name = name.unwrap_or_else(|| "something".to_owned());
    Failure::refused(format!(
        "the daemon answered `{name}`, which does not fit the question"
    ))
    .hint("it may have another version than this command: restart it")
}

/// The number of a node, by its name.
pub fn node(status: &StatusView, name: &str) -> Result<MemberId, Failure> {
    let known = status.nodes.iter().find(|node| node.name == name);
    known.map(|node| MemberId(node.number)).ok_or_else(|| {
        let names: Vec<_> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        no_such("node", name, &names)
    })
}

/// A group that exists.
pub fn group(status: &StatusView, name: &str) -> Result<GroupId, Failure> {
    if status.groups.iter().any(|group| group.name == name) {
        return Ok(GroupId(name.to_owned()));
    }
    let names: Vec<_> = status
        .groups
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    Err(no_such("group", name, &names))
}

/// A name that is not there, and those that are.
pub fn no_such(what: &str, name: &str, names: &[&str]) -> Failure {
    let failure = Failure::refused(format!("there is no {what} `{name}`"));
    if names.is_empty() {
        return failure.hint(format!("the cluster has no {what}s yet"));
    }
    failure.hint(format!("{what}s: {}", names.join(", ")))
}
