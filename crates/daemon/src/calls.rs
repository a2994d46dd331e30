//! Answers to the API's calls.

use crate::agents::Installed;
use crate::daemon::Daemon;
use crate::guard::process::now;
use crate::looks;
use crate::mirror_view;
use crate::mirrors::Key;
use crate::quorum_label;
use crate::server::{Answer, Asked};
use crate::view;
use hotpair_api::{Call, Reply, RevisionView};
use hotpair_core::ids::{GroupId, ResourceId};
use hotpair_core::plan::{Fault, what_if};
use hotpair_core::request::Request;
use hotpair_volume::protocol::Work;
use std::time::Duration;
use tokio::sync::oneshot;

/// Answers at once, or passes the caller's end on to whoever will.
pub(crate) fn answer(daemon: &mut Daemon, asked: Asked) {
    let Asked { call, reply } = asked;
    let answer: Answer = match call {
        Call::Operate { request, dry_run } => return daemon.operate(*request, dry_run, reply),
        Call::ConfigApply {
            file,
            text,
            apply,
            dry_run,
        } => {
            return config_apply(daemon, &file, &text, apply, dry_run, reply);
        }
        Call::ConfigRollback { revision, dry_run } => {
            return roll_back(daemon, revision, dry_run, reply);
        }
        Call::Events {
            since,
            last,
            follow,
        } => Answer {
            reply: Reply::Events(daemon.events.since(since, last)),
            follow: follow.then(|| daemon.events.follow()),
        },
        Call::Status => status(daemon).into(),
        Call::Explain { group } => explain(daemon, &group).into(),
        Call::Simulate { fail } => simulate(daemon, &fail).into(),
        Call::ConfigShow { revision } => config_show(daemon, revision).into(),
        Call::ConfigHistory => history(daemon).into(),
        Call::Token {
            witness,
            valid_for_s,
        } => token(daemon, witness, valid_for_s).into(),
        Call::Recording => recording(daemon).into(),
        Call::Facts { wanted } => {
            let state = daemon.paths.state();
            // Disks and name services may take their time.
            tokio::task::spawn_blocking(move || {
                let host = hotpair_check::gather(&wanted, env!("CARGO_PKG_VERSION"), &state);
                let _ = reply.send(Reply::Facts(Box::new(host)).into());
            });
            return;
        }
        Call::Fences { test } => {
            let Some(document) = daemon.node.document().cloned() else {
                let _ = reply.send(Reply::Refused(NO_DOCUMENT.into()).into());
                return;
            };
            // Devices may take their time.
            tokio::task::spawn_blocking(move || {
                let views = crate::fence::views(&document.config, test);
                let _ = reply.send(Reply::Fences(views).into());
            });
            return;
        }
        Call::On { node, call } => return daemon.pass_on(&node, *call, reply),
        Call::Mirrors => mirrors(daemon).into(),
        Call::MirrorWork {
            group,
            mirror,
            work,
        } => return mirror_work(daemon, (GroupId(group), ResourceId(mirror)), work, reply),
        Call::MirrorPlace {
            device,
            size,
            beside,
        } => {
            // A device may take its time.
            tokio::task::spawn_blocking(move || {
                let problem = place_problem(&device, size, beside);
                let _ = reply.send(Reply::MirrorPlace { problem }.into());
            });
            return;
        }
        Call::QuorumLook { device } => {
            // As long as the disk takes, or for ever: on a thread that nobody waits for.
            std::thread::spawn(move || {
                let answer = match quorum_label::look(std::path::Path::new(&device)) {
                    Ok(label) => Reply::QuorumLook {
                        cluster: label.cluster.to_string(),
                        number: format!("{:016x}", label.disk),
                    },
                    Err(error) => Reply::Refused(error.to_string()),
                };
                let _ = reply.send(answer.into());
            });
            return;
        }
        Call::MirrorFiles {
            group,
            mirror,
            page,
        } => match page {
            Some(page) => daemon.looks.page(page).into(),
            None => return mirror_files(daemon, (GroupId(group), ResourceId(mirror)), reply),
        },
        Call::Shutdown {
            leave_services: true,
            ..
        } => daemon.leave_services().into(),
        Call::Shutdown { force, .. } => return daemon.shut_down(force, Some(reply)),
    };
    let _ = reply.send(answer);
}

/// Why a copy could not be there.
fn place_problem(device: &str, size: u64, beside: bool) -> Option<String> {
    let wanted = if beside {
        Ok(size)
    } else {
        hotpair_volume::store::disk_for(size)
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(error) => return Some(error.to_string()),
    };
    let checked = hotpair_volume::place::check(std::path::Path::new(device), wanted);
    checked.err().map(|error| error.to_string())
}

/// May another node's daemon ask for it on its operator's behalf?
pub(crate) fn may_be_passed(call: &Call) -> bool {
    matches!(
        call,
        Call::Mirrors
            | Call::MirrorWork { .. }
            | Call::MirrorPlace { .. }
            | Call::MirrorFiles { .. }
            | Call::QuorumLook { .. }
            | Call::Facts { .. }
            | Call::Fences { .. }
    )
}

pub(crate) const NO_DOCUMENT: &str =
    "this node has no cluster document yet: it waits for a member to give it one";

fn status(daemon: &Daemon) -> Reply {
    let status = daemon.node.status(now());
    view::status(&status, &daemon.sights, daemon.quorum.as_ref()).map_or_else(
        || Reply::Refused(NO_DOCUMENT.into()),
        |v| Reply::Status(Box::new(v)),
    )
}

fn mirrors(daemon: &Daemon) -> Reply {
    let status = daemon.node.status(now());
    mirror_view::all(&status, &daemon.mirrors)
        .map_or_else(|| Reply::Refused(NO_DOCUMENT.into()), Reply::Mirrors)
}

/// How long a mirror process may take to begin what it is asked for.
const MIRROR_WORK: Duration = Duration::from_secs(60);

fn mirror_work(
    daemon: &Daemon,
    key: Key,
    work: hotpair_api::MirrorWork,
    reply: oneshot::Sender<Answer>,
) {
    let waiting = match daemon
        .mirrors
        .begin(&key, Work::Command(mirror_view::command(work)))
    {
        Ok(waiting) => waiting,
        Err(problem) => {
            let text = format!("{}/{}: {problem}", key.0, key.1);
            let _ = reply.send(Reply::Refused(text).into());
            return;
        }
    };
    // The daemon's task does not wait for it.
    std::thread::spawn(move || {
        let answer = match waiting.recv_timeout(MIRROR_WORK) {
            Ok(Ok(())) => Reply::Done(format!("{}/{}: done", key.0, key.1)),
            Ok(Err(problem)) => Reply::Refused(format!("{}/{}: {problem}", key.0, key.1)),
            Err(_) => Reply::Undecided("the mirror process did not answer in time".into()),
        };
        let _ = reply.send(answer.into());
    });
}

fn mirror_files(daemon: &Daemon, key: Key, reply: oneshot::Sender<Answer>) {
    let Some(document) = daemon.document() else {
        let _ = reply.send(Reply::Refused(NO_DOCUMENT.into()).into());
        return;
    };
    let group = document.config.groups.get(&key.0);
    let copy_here = group
        .and_then(|group| group.mirror(&key.1))
        .is_some_and(|mirror| mirror.copies.contains_key(&daemon.keys().member));
    let mount = group.and_then(|group| looks::mount_of(group, &key.1));
    match mount {
        Some(mount) if copy_here => {
            let answer = move |answer: Reply| {
                let _ = reply.send(answer.into());
            };
            daemon.looks.begin(daemon.device(&key), key, mount, answer);
        }
        mount => {
            let text = match mount {
                Some(_) => "this node keeps no copy of it",
                None => "no mount of the group uses it, so that its filesystem is not known",
            };
            let text = format!("{}/{}: {text}", key.0, key.1);
            let _ = reply.send(Reply::Refused(text).into());
        }
    }
}

fn explain(daemon: &Daemon, group: &str) -> Reply {
    let status = daemon.node.status(now());
    view::explain(&status, &GroupId(group.to_owned())).map_or_else(
        || no_such_group(daemon, group),
        |view| Reply::Explain(Box::new(view)),
    )
}

fn no_such_group(daemon: &Daemon, group: &str) -> Reply {
    let known = daemon.document().map(|document| {
        document
            .config
            .groups
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    });
    match known {
        Some(known) if known.is_empty() => Reply::Refused(
            "the cluster has no groups yet: `hotpair config apply FILE` adds some".into(),
        ),
        Some(known) => Reply::Refused(format!("there is no group `{group}`; there are: {known}")),
        None => Reply::Refused(NO_DOCUMENT.into()),
    }
}

fn simulate(daemon: &Daemon, fail: &str) -> Reply {
    let Some(document) = daemon.document() else {
        return Reply::Refused(NO_DOCUMENT.into());
    };
    let config = &document.config;
    let fault = if let Some(node) = config.node_named(fail) {
        Fault::Node(node)
    } else if fail == "witness"
        || config
            .witness
            .as_ref()
            .is_some_and(|witness| witness.name == fail)
    {
        Fault::Witness
    } else if config.links.iter().any(|link| link.name == fail) {
        Fault::Link(fail.to_owned())
    } else if let Some((group, resource)) = fail.split_once('/') {
        Fault::Resource(GroupId::from(group), ResourceId::from(resource))
    } else {
        return Reply::Refused(format!(
            "`{fail}` is no node, link or resource of this cluster: name a node, `witness`, a link, or `group/resource`"
        ));
    };
    daemon
        .node
        .with_view(now(), |view| Reply::Simulate(what_if(view, &fault)))
        .unwrap_or_else(|| Reply::Refused(NO_DOCUMENT.into()))
}

fn revision_text(daemon: &Daemon, revision: u64) -> Result<String, Reply> {
    let path = daemon.revisions().join(format!("{revision:08}.toml"));
    std::fs::read_to_string(&path).map_err(|error| {
        Reply::Refused(format!("revision {revision} is not kept on this node ({error}): `hotpair config history` lists those that are"))
    })
}

fn config_show(daemon: &Daemon, revision: Option<u64>) -> Reply {
    let Some(document) = daemon.document() else {
        return Reply::Refused(NO_DOCUMENT.into());
    };
    match revision {
        None => Reply::Config {
            revision: document.revision,
            text: hotpair_config::show(&document.config),
        },
        Some(revision) => match revision_text(daemon, revision) {
            Ok(text) => Reply::Config { revision, text },
            Err(refusal) => refusal,
        },
    }
}

fn history(daemon: &Daemon) -> Reply {
    let mut revisions = Vec::new();
    if let Ok(entries) = std::fs::read_dir(daemon.revisions()) {
        for entry in entries.flatten() {
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(".toml"))
                .and_then(|n| n.parse().ok());
            let Some(revision) = number else { continue };
            let changed = entry.metadata().and_then(|data| data.modified()).ok();
            let time = changed
                .and_then(|at| jiff::Timestamp::try_from(at).ok())
                .map(|at| at.to_string());
            revisions.push(RevisionView {
                revision,
                time: time.unwrap_or_default(),
                summary: String::new(),
            });
        }
    }
    revisions.sort_by_key(|view| std::cmp::Reverse(view.revision));
    for at in 0..revisions.len().saturating_sub(1) {
        revisions[at].summary = summary(daemon, revisions[at + 1].revision, revisions[at].revision);
    }
    Reply::ConfigHistory(revisions)
}

fn summary(daemon: &Daemon, before: u64, after: u64) -> String {
    let Some(document) = daemon.document() else {
        return String::new();
    };
    let read = |revision| {
        let text = revision_text(daemon, revision).ok()?;
        hotpair_config::check("", &text, Some(&document.config))
            .ok()
            .map(|checked| checked.cluster)
    };
    match (read(before), read(after)) {
        (Some(before), Some(after)) => {
            let parts: Vec<String> = hotpair_config::diff(&before, &after)
                .into_iter()
                .map(|change| change.to_string())
                .collect();
            parts.join("; ")
        }
        _ => String::new(),
    }
}

fn config_apply(
    daemon: &mut Daemon,
    file: &str,
    text: &str,
    apply: bool,
    dry_run: bool,
    reply: oneshot::Sender<Answer>,
) {
    let Some(document) = daemon.document() else {
        let _ = reply.send(Reply::Refused(NO_DOCUMENT.into()).into());
        return;
    };
    let agents = Installed::known();
    let checked = match hotpair_config::check_with(file, text, Some(&document.config), &agents) {
        Ok(checked) => checked,
        Err(findings) => {
            let rendered = hotpair_config::render(&findings, file, text, false);
            let _ = reply.send(
                Reply::ConfigChecked {
                    ok: false,
                    rendered,
                    changes: Vec::new(),
                }
                .into(),
            );
            return;
        }
    };
    if apply {
        let request = Request::Configure {
            config: Box::new(checked.cluster),
            made_from: document.revision,
        };
        return daemon.operate(request, dry_run, reply);
    }
    let rendered = hotpair_config::render(&checked.warnings, file, text, false);
    let changes = hotpair_config::diff(&document.config, &checked.cluster)
        .iter()
        .map(ToString::to_string)
        .collect();
    let _ = reply.send(
        Reply::ConfigChecked {
            ok: true,
            rendered,
            changes,
        }
        .into(),
    );
}

fn roll_back(daemon: &mut Daemon, revision: u64, dry_run: bool, reply: oneshot::Sender<Answer>) {
    match revision_text(daemon, revision) {
        Ok(text) => config_apply(
            daemon,
            &format!("revision {revision}"),
            &text,
            true,
            dry_run,
            reply,
        ),
        Err(refusal) => {
            let _ = reply.send(refusal.into());
        }
    }
}

fn recording(daemon: &Daemon) -> Reply {
    let Some(recording) = &daemon.recording else {
        return Reply::Refused(
            "nothing is recorded: start the daemon with HOTPAIR_RECORD=1 in its environment, and ask again".into(),
        );
    };
    match recording.read() {
        Ok(value) => Reply::Recording(value),
        Err(error) => Reply::Refused(format!("the recording cannot be read: {error}")),
    }
}

fn token(daemon: &mut Daemon, witness: bool, valid_for_s: u64) -> Reply {
    let Some(document) = daemon.document() else {
        return Reply::Refused(NO_DOCUMENT.into());
    };
    let fingerprint = match daemon.keys().identity() {
        Ok(identity) => identity.ca_fingerprint(),
        Err(error) => return Reply::Refused(format!("keys of this node: {error}")),
    };
    let valid_for_s = valid_for_s.clamp(60, 7 * 24 * 3600);
    let me = daemon.keys().member;
    match daemon.tokens.give(
        &document.config,
        me,
        &fingerprint,
        witness,
        Duration::from_secs(valid_for_s),
    ) {
        Ok(text) => Reply::Token { text, valid_for_s },
        Err(text) => Reply::Refused(text),
    }
}
