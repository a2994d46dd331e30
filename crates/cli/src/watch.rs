//! Waiting for a group to get where it was sent, with its steps shown as they happen.

use crate::failure::{Code, Failure};
use crate::output::plain;
use crate::session::Session;
use hotpair_api::status::{GroupView, StatusView};
use std::thread::sleep;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);
/// The daemon may be away for this long while it is waited for.
const AWAY: Duration = Duration::from_secs(10);
/// A group that has failed may still go back or on; when it stays failed for this long, it has.
const SETTLED: Duration = Duration::from_secs(3);

/// Where a group was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Runs, on this node if one was named.
    Runs {
        on: Option<String>,
    },
    Stopped,
    /// Runs on another node than `from`, on `to` if one was named.
    Moved {
        from: Option<String>,
        to: Option<String>,
        epoch: u64,
    },
    /// This resource of it runs, or is stopped.
    Resource {
        name: String,
        runs: bool,
    },
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    There,
    OnTheWay,
    /// Failed, unless it goes on by itself.
    Failed(String),
    /// Came back to where it was.
    WentBack(String),
}

impl Goal {
    pub fn progress(&self, group: &GroupView) -> Progress {
        let runs = matches!(group.state.as_str(), "running" | "degraded");
        let here = match group.active_on.as_slice() {
            [one] if runs && group.holder.as_ref().is_none_or(|holder| holder == one) => Some(one),
            _ => None,
        };
        match (self, here) {
            (Self::Resource { name, runs }, _) if resource_is(group, name, *runs) => {
                Progress::There
            }
            (Self::Stopped, _) if group.state == "stopped" && group.active_on.is_empty() => {
                Progress::There
            }
            (Self::Runs { on }, Some(here)) if on.as_ref().is_none_or(|on| on == here) => {
                Progress::There
            }
            (Self::Moved { to: Some(to), .. }, Some(here)) if to == here => Progress::There,
            (Self::Moved { from, to: None, .. }, Some(here)) if from.as_ref() != Some(here) => {
                Progress::There
            }
            (Self::Moved { from, epoch, .. }, Some(here))
                if from.as_ref() == Some(here) && group.epoch > *epoch =>
            {
                Progress::WentBack(plain(&group.reason))
            }
            _ if matches!(group.state.as_str(), "failed" | "cannot run") => {
                Progress::Failed(format!("{}: {}", group.state, plain(&group.verdict)))
            }
            _ => Progress::OnTheWay,
        }
    }
}

/// What is in a group that does not run is stopped already, and starts with it.
fn resource_is(group: &GroupView, name: &str, runs: bool) -> bool {
    let view = group.resources.iter().find(|view| view.name == name);
    match (view, runs) {
        _ if group.active_on.is_empty() && group.state == "stopped" => true,
        (Some(view), true) => {
            view.state == "running"
                && !view.restart_due
                && matches!(group.state.as_str(), "running" | "degraded")
        }
        (Some(view), false) => view.state == "stopped",
        (None, _) => false,
    }
}

/// Waits until `group` is where it was sent, at most `limit`, and prints each step.
pub fn wait(session: &Session, group: &str, goal: &Goal, limit: Duration) -> Result<(), Failure> {
    let end = Instant::now() + limit;
    let mut shown = String::new();
    let mut failed_since: Option<Instant> = None;
    let mut heard = Instant::now();
    while Instant::now() < end {
        let status = match session.status() {
            Ok(status) => status,
            Err(failure) if heard.elapsed() > AWAY => return Err(failure),
            Err(_) => {
                sleep(EVERY);
                continue;
            }
        };
        heard = Instant::now();
        let Some(view) = status.groups.iter().find(|view| view.name == group) else {
            return Err(unfinished(format!(
                "group {group} is not in the configuration any more"
            )));
        };
        let step = step(&status, view);
        if step != shown && !session.json {
            eprintln!("  {step}");
        }
        shown = step;
        match goal.progress(view) {
            Progress::There => return Ok(()),
            Progress::OnTheWay => failed_since = None,
            Progress::WentBack(why) => {
                return Err(
                    unfinished(format!("group {group} went back to where it was: {why}"))
                        .hint(format!("`hotpair explain {group}` shows what was tried")),
                );
            }
            Progress::Failed(why) => {
                let since = *failed_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= SETTLED {
                    return Err(unfinished(format!("group {group} {why}"))
                        .hint(format!("`hotpair group clear {group}` lets it be tried again once the cause is gone")));
                }
            }
        }
        sleep(EVERY);
    }
    Err(unfinished(format!(
        "group {group} is not there after {} s, last: {shown}",
        limit.as_secs()
    ))
    .hint("it goes on without this command; `hotpair status --watch` shows it"))
}

fn unfinished(message: String) -> Failure {
    Failure::new(Code::Unfinished, message)
}

/// What a person reads of one moment: `web stopping on node1 (ip stopped, site stopping)`.
fn step(status: &StatusView, group: &GroupView) -> String {
    let on = match group.active_on.as_slice() {
        [] => group
            .holder
            .as_ref()
            .map_or_else(String::new, |holder| format!(" for {holder}")),
        active => format!(" on {}", active.join(", ")),
    };
    let parts: Vec<_> = group
        .resources
        .iter()
        .map(|r| format!("{} {}", r.name, r.state))
        .collect();
    let parts = if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    };
    let leader = if status.leader.is_none() {
        ", no leader at the moment"
    } else {
        ""
    };
    format!("{} {}{on}{parts}{leader}", group.name, group.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(state: &str, active_on: &[&str], holder: &str, epoch: u64) -> GroupView {
        GroupView {
            name: "web".into(),
            state: state.into(),
            active_on: active_on.iter().map(|&name| name.into()).collect(),
            holder: Some(holder.into()),
            epoch,
            pinned: None,
            maintenance: false,
            disabled: false,
            stopped_resources: Vec::new(),
            relations: Vec::new(),
            reason: "could not be started".into(),
            verdict: "stays".into(),
            resources: Vec::new(),
            nodes: Vec::new(),
        }
    }

    fn moved(to: Option<&str>) -> Goal {
        Goal::Moved {
            from: Some("node1".into()),
            to: to.map(Into::into),
            epoch: 4,
        }
    }

    #[test]
    fn switchover_is_not_done_while_the_old_node_still_runs_it() {
        assert_eq!(
            moved(None).progress(&group("running", &["node1"], "node1", 4)),
            Progress::OnTheWay
        );
        assert_eq!(
            moved(None).progress(&group("stopping", &["node1"], "node2", 5)),
            Progress::OnTheWay
        );
        assert_eq!(
            moved(None).progress(&group("starting", &["node2"], "node2", 5)),
            Progress::OnTheWay
        );
    }

    #[test]
    fn switchover_is_done_when_the_new_node_runs_it() {
        for to in [None, Some("node2")] {
            assert_eq!(
                moved(to).progress(&group("running", &["node2"], "node2", 5)),
                Progress::There
            );
        }
        assert_eq!(
            moved(Some("node3")).progress(&group("running", &["node2"], "node2", 5)),
            Progress::OnTheWay
        );
    }

    #[test]
    fn switchover_that_returns_has_failed() {
        let back = moved(Some("node2")).progress(&group("running", &["node1"], "node1", 6));
        assert_eq!(back, Progress::WentBack("could not be started".into()));
    }

    #[test]
    fn stop_waits_until_nobody_is_active() {
        assert_eq!(
            Goal::Stopped.progress(&group("stopped", &["node1"], "node1", 4)),
            Progress::OnTheWay
        );
        assert_eq!(
            Goal::Stopped.progress(&group("stopped", &[], "node1", 4)),
            Progress::There
        );
    }

    #[test]
    fn failed_start_is_told() {
        let goal = Goal::Runs { on: None };
        assert_eq!(
            goal.progress(&group("failed", &[], "node1", 4)),
            Progress::Failed("failed: stays".into())
        );
        assert_eq!(
            goal.progress(&group("running", &["node2"], "node2", 4)),
            Progress::There
        );
    }
}
