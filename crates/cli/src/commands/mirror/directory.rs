//! `hotpair mirror create --directory`: an existing directory moves onto a new mirror.
//!
//! ```text
//!  check -> mirror into the configuration -> its device -> filesystem -> copy, compare, switch
//!        -> mount into the configuration -> running.   confirm: the old directory goes
//! ```
//! The move itself keeps a journal, so what was begun can be finished or undone after any crash.

use super::edit::{self, CreateArgs};
use super::{find, show};
use crate::args::Change;
use crate::commands::config::present;
use crate::confirm::Confirmation;
use crate::failure::{Code, Failure};
use crate::output::{plain, print};
use crate::session::{Outcome, Session};
use crate::words::shown_bytes;
use clap::{Args, Subcommand};
use hotpair_api::status::GroupView;
use hotpair_daemon::directory_move::{Move, Plan, Progress, Stage};
use hotpair_daemon::mirrors::device;
use hotpair_host::filesystem;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the mirror's device may take to appear, and the group to run.
const DEVICE_LIMIT: Duration = Duration::from_secs(90);
const MAKE_LIMIT: Duration = Duration::from_secs(600);
/// Between two looks at the group that shall bring the device.
const LOOK_GAP: Duration = Duration::from_secs(2);
/// A group may stand still for so long on its way from one state to another.
const STILL: Duration = Duration::from_secs(8);
const EVERY: Duration = Duration::from_millis(100);
/// Room that a filesystem takes for itself, in parts of a hundred, and at least.
const OVERHEAD_PERCENT: u64 = 10;
const OVERHEAD: u64 = 16 << 20;

/// A directory that was moved onto a mirror.
#[derive(Debug, Subcommand)]
pub enum DirectoryCommand {
    /// Remove the old directory, which is kept beside the new one.
    Confirm(SureArgs),
    /// Go on with a move that was interrupted.
    Finish(MoveArgs),
    /// Bring the old directory back, as it was when it was moved.
    Undo(SureArgs),
}

#[derive(Debug, Args)]
pub struct MoveArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct SureArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    change: Change,
}

type Key = (hotpair_core::ids::GroupId, hotpair_core::ids::ResourceId);

/// The mirror's files on this node.
struct Place {
    key: Key,
    journal: PathBuf,
    aside: PathBuf,
    device: PathBuf,
}

impl Place {
    fn of(session: &Session, group: &str, name: &str) -> Self {
        let key: Key = (group.into(), name.into());
        let own = session.paths.mirror_directory(&key);
        Self {
            journal: own.join("move"),
            aside: own.join("aside"),
            device: device(&session.paths.run, &key),
            key,
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::refused(error.to_string())
}

/// Moves `directory` onto the mirror that `args` describes.
pub fn create(session: &Session, args: &CreateArgs, directory: &Path) -> Outcome {
    let (group, name) = args.parts()?;
    let place = Place::of(session, group, name);
    let plan = Plan {
        directory: directory.to_owned(),
        device: place.device.clone(),
        filesystem: args.filesystem().to_owned(),
        options: Vec::new(),
        aside: place.aside.clone(),
    };
    let ran = preconditions(session, args, group, &plan)?;
    let mut cluster = present(session)?.0;
    edit::add_mirror(&mut cluster, args, group, name)?;
    edit::check_places(session, args)?;
    if args.dry_run() {
        let text = format!(
            "{} moves onto the mirror {group}/{name}; the old one is kept as {}",
            directory.display(),
            plan.old().display()
        );
        return session.say(&text, true);
    }
    std::fs::create_dir_all(place.journal.parent().unwrap_or(Path::new("/")))?;
    edit::apply(session, |cluster| {
        edit::add_mirror(cluster, args, group, name)
    })?;
    let moved = fill(session, &place, &plan).and_then(|()| {
        edit::apply(session, |cluster| {
            edit::add_mount(cluster, group, name, directory, args.filesystem())
        })
    });
    if let Err(failure) = moved {
        return Err(not_moved(session, &place, failure, ran));
    }
    let kept = format!(
        "{} is on the mirror now; the old one is kept as {} until `hotpair mirror directory confirm {group}/{name}`",
        directory.display(),
        plan.old().display()
    );
    if session.json || args.no_wait() {
        return session.say(&plain(&kept), false);
    }
    eprintln!("{}", plain(&kept));
    show::wait(session, &format!("{group}/{name}"))
}

/// Undoes what was begun, if it is known that it must be.
fn not_moved(session: &Session, place: &Place, failure: Failure, ran: bool) -> Failure {
    let (group, name) = &place.key;
    if failure.code == Code::Undecided {
        // It may be decided yet: then the mount would lie over a directory that was put back.
        return failure.hint(format!(
            "the data is moved, and whether its mount is in the configuration is not known: once `hotpair \
             status` shows a leader, `hotpair mirror directory finish {group}/{name}`"
        ));
    }
    undone(session, place, failure, ran)
}

/// Everything that can be known before anything is changed. Was the group running?
fn preconditions(
    session: &Session,
    args: &CreateArgs,
    group: &str,
    plan: &Plan,
) -> Result<bool, Failure> {
    let status = session.status()?;
    let view = status.groups.iter().find(|view| view.name == group);
    let holder = view.and_then(|view| view.holder.clone());
    if let Some(holder) = holder.as_ref().filter(|holder| **holder != status.node) {
        return Err(Failure::refused(format!(
            "{group} is on {holder}, and the directory is on {}",
            status.node
        ))
        .hint(format!(
            "move it here first: hotpair group switch {group} --to {}",
            status.node
        )));
    }
    if let Some(view) = view.filter(|view| stands_still(view)) {
        return Err(no_device(view));
    }
    if args.first_node() != status.node {
        return Err(Failure::refused(format!(
            "the mirror's first copy would be on {}, but the directory is on {}",
            args.first_node(),
            status.node
        ))
        .hint(format!("name this node first: --on {}=PATH …", status.node)));
    }
    let count = plan.check().map_err(failed)?;
    let needed = count.bytes + (count.bytes * OVERHEAD_PERCENT / 100).max(OVERHEAD);
    if args.size() < needed {
        return Err(Failure::refused(format!(
            "{} holds {}: a mirror of {} is too small for it",
            plan.directory.display(),
            shown_bytes(count.bytes),
            shown_bytes(args.size())
        ))
        .hint(format!(
            "give it --size {}MiB or more",
            needed.div_ceil(1 << 20)
        )));
    }
    Ok(holder.is_some())
}

/// The group runs nowhere, and does not go there by itself.
fn stands_still(view: &GroupView) -> bool {
    matches!(view.state.as_str(), "stopped" | "failed" | "cannot run")
        && view.holder.is_none()
        && view.active_on.is_empty()
}

/// A mirror's device is there only while its group runs.
fn no_device(view: &GroupView) -> Failure {
    let name = &view.name;
    let failure = Failure::refused(format!(
        "{name} is {}, and the device of a mirror is there only while its group runs: {}",
        view.state,
        plain(&view.verdict)
    ));
    failure.hint(match view.state.as_str() {
        "stopped" => format!(
            "`hotpair group start {name}` first, with what uses the directory stopped by itself: \
             `hotpair group stop {name} --resource NAME`"
        ),
        _ => format!("`hotpair explain {name}` says why; then `hotpair group clear {name}`"),
    })
}

/// Why the device will not come; `None`: it may.
fn given_up(session: &Session, group: &str) -> Option<Failure> {
    let status = session.status().ok()?;
    let view = status.groups.into_iter().find(|view| view.name == group)?;
    stands_still(&view).then(|| no_device(&view))
}

/// Filesystem, copy, switch.
fn fill(session: &Session, place: &Place, plan: &Plan) -> Result<(), Failure> {
    let begun = Instant::now();
    let (group, name) = &place.key;
    let mut still: Option<Instant> = None;
    let mut next = LOOK_GAP;
    while !place.device.exists() {
        if begun.elapsed() >= next {
            if next == LOOK_GAP && !session.json {
                eprintln!("waiting for the device of {group}/{name} …");
            }
            next = begun.elapsed() + LOOK_GAP;
            let why = given_up(session, &group.0);
            let since = why.as_ref().map(|_| still.unwrap_or_else(Instant::now));
            match why.filter(|_| since.is_some_and(|since| since.elapsed() >= STILL)) {
                Some(why) => return Err(why),
                None => still = since,
            }
        }
        if begun.elapsed() >= DEVICE_LIMIT {
            return Err(Failure::refused(format!(
                "the device of {group}/{name} has not appeared within {} s",
                DEVICE_LIMIT.as_secs()
            ))
            .hint("`hotpair mirror show` and `hotpair explain` say why"));
        }
        std::thread::sleep(EVERY);
    }
    let held = filesystem::probe(&plan.device, None, DEVICE_LIMIT).map_err(failed)?;
    let what = match held {
        filesystem::Content::Blank => None,
        filesystem::Content::Filesystem(kind) => Some(format!("an {kind} filesystem")),
        filesystem::Content::Other(what) => Some(what),
    };
    if let Some(what) = what {
        return Err(Failure::refused(format!(
            "the mirror's volume holds {what}, so the directory is not moved onto it"
        )));
    }
    filesystem::make(&plan.filesystem, &plan.device, None, MAKE_LIMIT).map_err(failed)?;
    let mut shown = Shown::new(session);
    let mut moved =
        Move::begin(plan.clone(), &place.journal, &mut |at| shown.progress(at)).map_err(failed)?;
    shown.end();
    moved.switch().map_err(failed)
}

/// Brings the directory back, and says what else is left.
fn undone(session: &Session, place: &Place, failure: Failure, ran: bool) -> Failure {
    let (group, name) = &place.key;
    let undone = match Move::load(&place.journal) {
        Ok(Some(begun)) => begun.undo().map_err(|error| error.to_string()),
        Ok(None) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = undone {
        return Failure::new(
            Code::Unfinished,
            format!("{}; and it could not be undone: {why}", failure.message),
        )
        .hint(format!(
            "`hotpair mirror directory undo {group}/{name}` tries again; nothing is lost"
        ));
    }
    let removed = !ran && edit::forget(session, group, name).is_ok();
    let left = if removed {
        "the directory is as it was".to_owned()
    } else {
        format!(
            "the directory is as it was; the empty mirror is still configured: stop {group}, then \
             `hotpair mirror remove {group}/{name}`"
        )
    };
    Failure::refused(failure.message).hint(match failure.hint {
        Some(hint) => format!("{hint}; {left}"),
        None => left,
    })
}

/// The progress of a copy, on a terminal.
struct Shown {
    on: bool,
    any: bool,
}

impl Shown {
    fn new(session: &Session) -> Self {
        Self {
            on: !session.json && std::io::stdout().is_terminal(),
            any: false,
        }
    }

    fn progress(&mut self, at: Progress) -> bool {
        if self.on {
            self.any = true;
            let all = at.all_bytes.max(1);
            print(&format!(
                "\rcopied {} of {} ({} %)   ",
                shown_bytes(at.done_bytes),
                shown_bytes(at.all_bytes),
                at.done_bytes.min(all) * 100 / all
            ));
        }
        true
    }

    fn end(&self) {
        if self.any {
            print("\n");
        }
    }
}

pub fn run(session: &Session, command: DirectoryCommand) -> Outcome {
    match command {
        DirectoryCommand::Confirm(args) => confirm(session, &args),
        DirectoryCommand::Finish(args) => finish(session, &args),
        DirectoryCommand::Undo(args) => undo(session, &args),
    }
}

fn begun(session: &Session, mirror: &str) -> Result<(Place, Move), Failure> {
    let (group, name) = match mirror.split_once('/') {
        Some((group, name)) => (group.to_owned(), name.to_owned()),
        None => {
            let view = find(session, mirror)?;
            (view.group, view.name)
        }
    };
    let place = Place::of(session, &group, &name);
    match Move::load(&place.journal).map_err(failed)? {
        Some(begun) => Ok((place, begun)),
        None => Err(Failure::refused(format!(
            "no directory is being moved onto {group}/{name} on this node"
        ))),
    }
}

fn confirm(session: &Session, args: &SureArgs) -> Outcome {
    let (_, moved) = begun(session, &args.mirror)?;
    let old = moved.plan().old();
    let text = format!("{} is removed", old.display());
    if args.change.dry_run {
        return session.say(&text, true);
    }
    let danger = format!("{} and everything in it will be removed.", old.display());
    let name = old.file_name().unwrap_or_default().to_string_lossy();
    args.confirmation.require(&name, &danger)?;
    moved.confirm().map_err(failed)?;
    session.say(&plain(&text), false)
}

fn finish(session: &Session, args: &MoveArgs) -> Outcome {
    let (place, moved) = begun(session, &args.mirror)?;
    let directory = moved.plan().directory.clone();
    let filesystem = moved.plan().filesystem.clone();
    let text = format!("{} is on the mirror", directory.display());
    if args.change.dry_run {
        return session.say(&text, true);
    }
    let mut shown = Shown::new(session);
    moved.finish(&mut |at| shown.progress(at)).map_err(failed)?;
    shown.end();
    let (group, name) = &place.key;
    edit::apply(session, |cluster| {
        edit::add_mount(cluster, &group.0, &name.0, &directory, &filesystem)
    })?;
    session.say(&plain(&text), false)
}

fn undo(session: &Session, args: &SureArgs) -> Outcome {
    let (place, moved) = begun(session, &args.mirror)?;
    let (group, name) = place.key;
    let directory = moved.plan().directory.clone();
    let text = format!("{} is as it was before the move", directory.display());
    if args.change.dry_run {
        return session.say(&text, true);
    }
    let switched = moved.stage() == Stage::Switched;
    if switched && edit::has_mount(session, &group.0, &name.0)? {
        return Err(Failure::refused(format!(
            "{group} mounts it: take the mirror out of the configuration first"
        ))
        .hint(format!(
            "hotpair group stop {group}; hotpair mirror remove {group}/{name}"
        )));
    }
    if switched {
        let danger = "What was written since the move stays on the mirror and is not copied back.";
        args.confirmation.require(&name.0, danger)?;
    }
    moved.undo().map_err(failed)?;
    session.say(&text, false)
}
