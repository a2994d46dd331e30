//! Mirrors in the words of the API.

use crate::mirrors::{Key, Mirrors};
use hotpair_api::mirror::{
    CopyView, HereView, LagLimit, MirrorView, MirrorWork, ProgressView, SnapshotView,
};
use hotpair_core::config::{Mirror, MirrorMode, OnSplitBrain};
use hotpair_core::document::Document;
use hotpair_core::ids::{GroupId, MemberId};
use hotpair_core::mirror::{Copy, Data, Disk, MirrorReport};
use hotpair_core::node::Status;
use hotpair_core::plan::Presence;
use hotpair_volume::protocol::{Command, MirrorStatus, Progress};
use std::path::PathBuf;

/// Every mirror of the cluster; `None` before this node has a document.
pub(crate) fn all(status: &Status, mirrors: &Mirrors) -> Option<Vec<MirrorView>> {
    let document = status.document.as_deref()?;
    let mut views = Vec::new();
    for (group, config) in &document.config.groups {
        for (resource, mirror) in config.mirrors() {
            let key = (group.clone(), resource.clone());
            let data = document
                .groups
                .get(group)
                .and_then(|placement| placement.mirrors.get(resource));
            if let Some(data) = data {
                let here = mirrors.status(&key);
                views.push(view(status, document, &key, mirror, data, here));
            }
        }
    }
    Some(views)
}

fn view(
    status: &Status,
    document: &Document,
    key: &Key,
    mirror: &Mirror,
    data: &Data,
    here: Option<MirrorStatus>,
) -> MirrorView {
    let config = &document.config;
    let report = |node: MemberId| report(status, node, key);
    let open = |node: &&MemberId| report(**node).is_some_and(|report| report.open);
    let copies = data.copies.iter().map(|(&node, &copy)| {
        let report = report(node);
        CopyView {
            node: config.name_of(node),
            number: node.0,
            state: copy.name().into(),
            place: mirror
                .copies
                .get(&node)
                .map(|place| place.device.clone())
                .unwrap_or_default(),
            disk: disk(status, node, report),
            first: matches!(copy, Copy::New { .. }) && is_first(mirror, data, node),
            connected: report.is_some_and(|report| !report.connected.is_empty()),
            open: report.is_some_and(|report| report.open),
        }
    });
    MirrorView {
        group: key.0.to_string(),
        name: key.1.to_string(),
        size: mirror.size,
        mode: mode(mirror.mode).into(),
        lag_limit: lag_limit(mirror.mode),
        generation: data.generation.to_string(),
        active_on: data
            .copies
            .keys()
            .find(open)
            .map(|&node| config.name_of(node)),
        alone: data.alone.is_some(),
        copies: copies.collect(),
        attention: attention(status, document, key, mirror, data),
        here: here.map(numbers),
    }
}

fn report<'a>(status: &'a Status, node: MemberId, key: &Key) -> Option<&'a MirrorReport> {
    let member = status.members.get(&node)?;
    let groups = &member.report.as_ref()?.groups;
    groups.get(&key.0)?.mirrors.get(&key.1)
}

fn mode(mode: MirrorMode) -> &'static str {
    match mode {
        MirrorMode::Synchronous => "synchronous",
        MirrorMode::Memory => "memory",
        MirrorMode::Asynchronous { .. } => "asynchronous",
    }
}

fn lag_limit(mode: MirrorMode) -> Option<LagLimit> {
    match mode {
        MirrorMode::Asynchronous { lag, bytes } => Some(LagLimit {
            bytes,
            ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
        }),
        MirrorMode::Synchronous | MirrorMode::Memory => None,
    }
}

fn disk(status: &Status, node: MemberId, report: Option<&MirrorReport>) -> String {
    let online = matches!(
        status.members.get(&node).map(|member| member.presence),
        Some(Presence::Online { .. })
    );
    match report.map(|report| &report.disk) {
        _ if !online => "its node is not online".into(),
        None => "its mirror process has not reported".into(),
        Some(Disk::Unknown) => "not looked at yet".into(),
        Some(Disk::Blank { holds: None }) => "no copy on it".into(),
        Some(Disk::Blank { holds: Some(what) }) => format!("holds {what}"),
        Some(Disk::Failed(problem)) => problem.clone(),
        Some(Disk::Attached { .. }) => String::new(),
    }
}

/// What the disk of `node` holds becomes the data: it is the first copy of a mirror that never had any.
fn is_first(mirror: &Mirror, data: &Data, node: MemberId) -> bool {
    data.is_unborn() && mirror.source == node
}

fn attention(
    status: &Status,
    document: &Document,
    key: &Key,
    mirror: &Mirror,
    data: &Data,
) -> Vec<String> {
    let first = |node: MemberId| is_first(mirror, data, node);
    let disk = |node: MemberId| report(status, node, key).map(|report| &report.disk);
    let place = |node: MemberId| {
        let place = mirror.copies.get(&node);
        place.map_or("its disk", |place| place.device.as_str())
    };
    let policy = mirror.on_split_brain;
    let mirror = format!("{}/{}", key.0, key.1);
    let named = (data.copies.iter()).map(|(&id, &copy)| (id, document.config.name_of(id), copy));
    named
        .filter_map(|(id, node, copy)| match copy {
            Copy::UpToDate => None,
            Copy::New { overwrite } => Some(to_be_made(
                &mirror,
                &node,
                place(id),
                first(id),
                disk(id).filter(|_| !overwrite),
            )),
            Copy::Outdated | Copy::Inconsistent => Some(format!(
                "the copy on {node} is {}: it is resynchronised once both nodes see each other",
                copy.name()
            )),
            Copy::Lost => Some(format!(
                "the copy on {node} is lost: mend or replace its disk, then `hotpair mirror renew {mirror} --on {node}`"
            )),
            Copy::Diverged { .. } => Some(format!(
                "split-brain: the copy on {node} and the other one have different writes; compare them with \
                 `hotpair mirror split-brain show {mirror}`{}",
                by_policy(policy, &node, &key.0)
            )),
            Copy::GivenUp { .. } => Some(format!(
                "the copy on {node} was given up: it is snapshotted and resynchronised once both nodes see each other"
            )),
        })
        .collect()
}

/// What will be chosen without asking, of a copy that is in split-brain with the present one.
fn by_policy(policy: OnSplitBrain, node: &str, group: &GroupId) -> String {
    match policy {
        // That one has chosen already, or cannot.
        OnSplitBrain::ByHand | OnSplitBrain::Younger => String::new(),
        OnSplitBrain::Older => {
            format!("; by `on_split_brain` the copy on {node} is kept once {group} is stopped")
        }
        OnSplitBrain::WithChanges => format!(
            "; by `on_split_brain` the copy on {node} is kept once {group} is stopped, if nothing was written to the \
             other one"
        ),
    }
}

/// Of a copy that is to be made. `disk`: what may stand against it, unless the operator has spoken.
fn to_be_made(mirror: &str, node: &str, place: &str, first: bool, disk: Option<&Disk>) -> String {
    let renew = format!("`hotpair mirror renew {mirror} --on {node} --overwrite`");
    match disk {
        Some(Disk::Blank { holds: Some(what) }) if first => format!(
            "{place} on {node} holds {what}, which becomes the data of the mirror; only the end of the disk is \
             written to. Allow that: {renew}"
        ),
        Some(Disk::Blank { holds: Some(what) }) => format!(
            "{place} on {node} holds {what}, which the mirror would overwrite; if it may be lost: {renew}"
        ),
        Some(Disk::Failed(problem)) => {
            format!("the copy on {node} is to be made, but {place} cannot be used: {problem}")
        }
        _ => format!("the copy on {node} is to be made, once its node is there"),
    }
}

fn numbers(status: MirrorStatus) -> HereView {
    HereView {
        device: status.device,
        export: status.export,
        link: status.link,
        out_of_sync: status.out_of_sync,
        resync: status.resync.map(progress),
        verify: status.verify.map(progress),
        verify_found: status.verify_found,
        paused: status.paused,
        lag_bytes: status.lag_bytes,
        lag_ms: status.lag_ms,
        reads: status.reads,
        writes: status.writes,
        read_bytes: status.read_bytes,
        write_bytes: status.write_bytes,
        longest_stall_ms: status.longest_stall_ms,
        last_write_ms: status.last_write_ms,
        apart_since_ms: status.apart_since_ms,
        snapshots: status
            .snapshots
            .into_iter()
            .map(|snapshot| SnapshotView {
                name: snapshot.name,
                taken_ms: snapshot.taken_ms,
                automatic: snapshot.automatic,
                bytes: snapshot.bytes,
            })
            .collect(),
    }
}

fn progress(progress: Progress) -> ProgressView {
    ProgressView {
        done: progress.done,
        total: progress.total,
        moved: progress.moved,
        rate: progress.rate,
        source: progress.source,
    }
}

/// The process's word for what was asked.
pub(crate) fn command(work: MirrorWork) -> Command {
    match work {
        MirrorWork::Verify { repair } => Command::Verify { repair },
        MirrorWork::Pause => Command::Pause,
        MirrorWork::Resume => Command::Resume,
        MirrorWork::Rate { limit } => Command::Rate(limit),
        MirrorWork::SnapshotTake { name } => Command::SnapshotTake { name },
        MirrorWork::SnapshotRemove { name } => Command::SnapshotRemove { name },
        MirrorWork::Expose { snapshot, at } => Command::Expose {
            snapshot,
            at: PathBuf::from(at),
            scratch: false,
        },
        MirrorWork::Conceal { at } => Command::Conceal {
            at: PathBuf::from(at),
        },
    }
}
