//! `hotpair events`: the event log, and what is added to it.

use crate::output::{Ink, plain, print};
use crate::session::{Outcome, Session, unexpected};
use clap::Args;
use hotpair_api::{Call, EventView, Reply};
use std::process::ExitCode;

/// Show the event log, oldest first.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on showing what is added, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// Only the newest N.
    #[arg(long, value_name = "N", conflicts_with = "all")]
    last: Option<usize>,
    /// All that are kept, instead of the newest 50.
    #[arg(long)]
    all: bool,
}

const USUAL: usize = 50;

pub fn run(session: &Session, args: &EventsArgs) -> Outcome {
    let last = (!args.all).then(|| args.last.unwrap_or(USUAL));
    let call = Call::Events {
        since: 0,
        last,
        follow: args.follow,
    };
    if !args.follow {
        return match session.ask(call)? {
            Reply::Events(events) => session.show(&events, || text(&events, session.ink)),
            other => Err(unexpected(&other)),
        };
    }
    let mut client = session.connect()?;
    let mut reply = client.call(call, None)?;
    loop {
        match reply {
            Reply::Events(events) if session.json => {
                for event in &events {
                    print(&format!("{}\n", serde_json::to_string(event)?));
                }
            }
            Reply::Events(events) => print(&text(&events, session.ink)),
            Reply::Refused(text) => return Err(crate::failure::Failure::refused(text)),
            other => return Err(unexpected(&other)),
        }
        reply = match client.next_reply() {
            Ok(next) => next,
            Err(hotpair_api::client::CallError::Closed) => {
                eprintln!("the daemon has ended");
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        };
    }
}

fn text(events: &[EventView], ink: Ink) -> String {
    let mut out = String::new();
    for event in events {
        let about: Vec<_> = [&event.group, &event.node]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let about = if about.is_empty() {
            String::new()
        } else {
            format!("{}: ", about.join(" on "))
        };
        let level = ink.padded(&event.level, 7);
        out.push_str(&format!(
            "{}  {level}  [{}] {about}{}\n",
            event.time,
            event.by,
            plain(&event.text)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_without_control_characters() {
        let event = EventView {
            number: 7,
            time: "2026-01-02T03:04:05Z".into(),
            level: "warning".into(),
            by: "node1".into(),
            node: Some("node2".into()),
            group: Some("web".into()),
            text: "said \u{1b}[31mred".into(),
        };
        let line = "2026-01-02T03:04:05Z  warning  [node1] web on node2: said \u{fffd}[31mred\n";
        assert_eq!(text(&[event], Ink::default()), line);
    }
}
