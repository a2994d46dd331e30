//! `hotpair mirror`: volumes that two nodes keep the same.

mod directory;
mod edit;
mod files;
mod show;

use crate::args::Change;
use crate::confirm::Confirmation;
use crate::failure::Failure;
use crate::session::{self, Outcome, Session, unexpected};
use crate::words;
use clap::{Args, Subcommand};
use hotpair_api::mirror::CopyView;
use hotpair_api::{Call, MirrorView, MirrorWork, Reply, StatusView};
use hotpair_core::ids::{GroupId, MemberId, ResourceId};
use hotpair_core::request::Request;
use std::time::Duration;

pub use edit::{CreateArgs, GrowArgs, RemoveArgs};
pub use show::ShowArgs;

/// How long a mirror process may take to begin what it is asked for.
const WORK: Duration = Duration::from_secs(70);

/// Mirrors: make, look at, verify, snapshot, mend.
#[derive(Debug, Subcommand)]
pub enum MirrorCommand {
    /// List the mirrors with the state of their copies.
    List,
    Show(ShowArgs),
    Create(CreateArgs),
    Grow(GrowArgs),
    Remove(RemoveArgs),
    Renew(RenewArgs),
    Verify(VerifyArgs),
    /// Stop resynchronisation and verification until resumed; new writes are still mirrored.
    Pause(NameArgs),
    /// Go on with resynchronisation and verification.
    Resume(NameArgs),
    Rate(RateArgs),
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    #[command(subcommand)]
    SplitBrain(SplitBrainCommand),
    #[command(subcommand)]
    Directory(directory::DirectoryCommand),
}

#[derive(Debug, Args)]
pub struct NameArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    #[command(flatten)]
    change: Change,
}

/// Make a node's copy anew: its disk was replaced, or what is on it may be lost.
#[derive(Debug, Args)]
pub struct RenewArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    /// The node whose copy is made.
    #[arg(long, value_name = "NODE")]
    on: String,
    /// What the disk holds now may be lost.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    change: Change,
}

/// Compare both copies block by block, beside running services.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    /// Send the blocks that differ from the active side.
    #[arg(long)]
    repair: bool,
    /// Return when it has begun instead of showing the progress; Ctrl-C leaves it running, too.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    change: Change,
}

/// Limit resynchronisation and verification until the mirror process starts anew; for ever:
/// `resync_rate` in the configuration.
#[derive(Debug, Args)]
pub struct RateArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    /// Bytes a second, as 100MiB; `none`: as fast as it goes.
    limit: String,
    #[command(flatten)]
    change: Change,
}

/// Snapshots of the copy of one node.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Keep what the copy holds now.
    Create(SnapshotArgs),
    /// List the snapshots on every node.
    List {
        /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
        mirror: String,
    },
    Remove(SnapshotArgs),
    /// Give the kernel a read-only device of a snapshot.
    Expose(ExposeArgs),
    /// End a device made by `expose`.
    Conceal(ConcealArgs),
}

#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    /// Name of the snapshot.
    name: String,
    /// The node whose copy it is of; this node by default.
    #[arg(long, value_name = "NODE")]
    on: Option<String>,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct ExposeArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    /// Name of the snapshot; without one, the copy itself as it is (while it is not in use).
    #[arg(long)]
    name: Option<String>,
    /// Where the link to the device shall be.
    #[arg(long, value_name = "PATH")]
    at: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub struct ConcealArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    /// Where the link to the device is.
    #[arg(long, value_name = "PATH")]
    at: String,
    #[command(flatten)]
    change: Change,
}

/// Both copies have writes that the other lacks.
#[derive(Debug, Subcommand)]
pub enum SplitBrainCommand {
    /// Compare both sides: how much was written, when last, and which files differ.
    Show {
        /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
        mirror: String,
        /// Do not look at the files.
        #[arg(long)]
        no_files: bool,
    },
    Resolve(ResolveArgs),
}

/// Keep one node's copy. What the other has beyond it is snapshotted, then overwritten.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// GROUP/MIRROR; the mirror's name alone if it is the only one of that name.
    mirror: String,
    /// The node whose copy is kept.
    #[arg(long, value_name = "NODE")]
    keep: String,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    change: Change,
}

pub fn run(session: &Session, command: MirrorCommand) -> Outcome {
    match command {
        MirrorCommand::List => show::list(session),
        MirrorCommand::Show(args) => show::run(session, &args),
        MirrorCommand::Create(args) => edit::create(session, &args),
        MirrorCommand::Grow(args) => edit::grow(session, &args),
        MirrorCommand::Remove(args) => edit::remove(session, &args),
        MirrorCommand::Renew(args) => renew(session, &args),
        MirrorCommand::Verify(args) => verify(session, &args),
        MirrorCommand::Pause(args) => everywhere(session, &args, &MirrorWork::Pause),
        MirrorCommand::Resume(args) => everywhere(session, &args, &MirrorWork::Resume),
        MirrorCommand::Rate(args) => rate(session, args),
        MirrorCommand::Directory(command) => directory::run(session, command),
        MirrorCommand::Snapshot(command) => snapshot(session, command),
        MirrorCommand::SplitBrain(SplitBrainCommand::Show { mirror, no_files }) => {
            show::split_brain(session, &mirror, !no_files)
        }
        MirrorCommand::SplitBrain(SplitBrainCommand::Resolve(args)) => resolve(session, &args),
    }
}

/// Every mirror, as the daemon of this node (`on`: of another) knows it.
fn all(session: &Session, on: Option<&str>) -> Result<Vec<MirrorView>, Failure> {
    let call = on.map_or(Call::Mirrors, |node| Call::On {
        node: node.to_owned(),
        call: Box::new(Call::Mirrors),
    });
    match session.ask(call)? {
        Reply::Mirrors(views) => Ok(views),
        other => Err(unexpected(&other)),
    }
}

/// The mirror that `name` names: GROUP/MIRROR, or MIRROR alone.
fn find(session: &Session, name: &str) -> Result<MirrorView, Failure> {
    let views = all(session, None)?;
    pick(views, name)
}

fn pick(views: Vec<MirrorView>, name: &str) -> Result<MirrorView, Failure> {
    let full = |view: &MirrorView| format!("{}/{}", view.group, view.name);
    let names: Vec<String> = views.iter().map(full).collect();
    let mut found: Vec<MirrorView> = views
        .into_iter()
        .filter(|view| full(view) == name || view.name == name)
        .collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Err(session::no_such("mirror", name, &names))
        }
        _ => Err(
            Failure::refused(format!("there are several mirrors `{name}`"))
                .hint(format!("name one of: {}", names.join(", "))),
        ),
    }
}

fn full(view: &MirrorView) -> String {
    format!("{}/{}", view.group, view.name)
}

/// The member number of a node that keeps a copy.
fn copy_on(view: &MirrorView, node: &str) -> Result<MemberId, Failure> {
    let copy = view.copies.iter().find(|copy| copy.node == node);
    copy.map(|copy| MemberId(copy.number)).ok_or_else(|| {
        let names: Vec<&str> = view.copies.iter().map(|copy| copy.node.as_str()).collect();
        Failure::refused(format!("`{node}` keeps no copy of {}", full(view)))
            .hint(format!("copies are on: {}", names.join(", ")))
    })
}

/// Has the mirror process of `node` do something.
fn work(
    session: &Session,
    view: &MirrorView,
    node: &str,
    work: MirrorWork,
) -> Result<String, Failure> {
    let call = Call::On {
        node: node.to_owned(),
        call: Box::new(Call::MirrorWork {
            group: view.group.clone(),
            mirror: view.name.clone(),
            work,
        }),
    };
    match session.call(call, WORK)? {
        Reply::Done(text) => Ok(text),
        other => Err(unexpected(&other)),
    }
}

fn request(view: &MirrorView, make: impl FnOnce(GroupId, ResourceId) -> Request) -> Request {
    make(GroupId(view.group.clone()), ResourceId(view.name.clone()))
}

fn renew(session: &Session, args: &RenewArgs) -> Outcome {
    let view = find(session, &args.mirror)?;
    let node = copy_on(&view, &args.on)?;
    if args.overwrite && !args.change.dry_run {
        let copy = view.copies.iter().find(|copy| copy.node == args.on);
        if let Some(copy) = copy {
            args.confirmation
                .require(&args.on, &overwritten(&view, copy))?;
        }
    }
    let request = request(&view, |group, resource| Request::MirrorRenew {
        group,
        resource,
        node,
        overwrite: args.overwrite,
    });
    session.change(request, args.change.dry_run)
}

/// What making a copy anew does to what its disk holds.
fn overwritten(view: &MirrorView, copy: &CopyView) -> String {
    let (place, node) = (&copy.place, &copy.node);
    if copy.first {
        return format!(
            "What {place} on {node} holds now becomes the data of {}: its first {} are kept as they are. What lies \
             behind them is overwritten by the mirror's own records: a filesystem must not reach beyond.",
            full(view),
            words::shown_bytes(view.size)
        );
    }
    format!("Everything that {place} on {node} holds now will be lost.")
}

fn resolve(session: &Session, args: &ResolveArgs) -> Outcome {
    let view = find(session, &args.mirror)?;
    let node = copy_on(&view, &args.keep)?;
    if view.copies.iter().all(|copy| copy.state == "up to date") {
        let text = format!(
            "{} has no split-brain: every copy is up to date",
            full(&view)
        );
        return Err(Failure::refused(text).hint("nothing was changed"));
    }
    if !args.change.dry_run {
        let others: Vec<&str> = view
            .copies
            .iter()
            .filter(|copy| copy.node != args.keep)
            .map(|copy| copy.node.as_str())
            .collect();
        let danger = format!(
            "The copy of {} on {} is kept. What {} has beyond it is given up; it stays readable as a snapshot \
             on that node.",
            full(&view),
            args.keep,
            others.join(" and ")
        );
        args.confirmation.require(&args.keep, &danger)?;
    }
    let request = request(&view, |group, resource| Request::MirrorKeep {
        group,
        resource,
        node,
    });
    session.change(request, args.change.dry_run)
}

fn verify(session: &Session, args: &VerifyArgs) -> Outcome {
    let view = find(session, &args.mirror)?;
    let active = comparing(&view, &session.status()?)?;
    if args.change.dry_run {
        return session.say(
            &format!("{} is read on both nodes and compared", full(&view)),
            true,
        );
    }
    let repair = args.repair;
    work(session, &view, &active, MirrorWork::Verify { repair })?;
    if args.no_wait || session.json {
        return session.say(
            &format!("the verification of {} has begun", full(&view)),
            false,
        );
    }
    show::follow_verification(session, &view, &active, args.repair)
}

/// How a node is away, in a word; `None`: it is there.
fn away<'a>(status: &'a StatusView, node: &str) -> Option<&'a str> {
    let known = status.nodes.iter().find(|known| known.name == node);
    known
        .map(|known| known.state.as_str())
        .filter(|state| *state != "online")
}

/// The node that compares both copies, or why they cannot be compared now.
fn comparing(view: &MirrorView, status: &StatusView) -> Result<String, Failure> {
    let name = full(view);
    let refused = |why: String, hint: String| {
        Err(Failure::refused(format!("{name} cannot be verified: {why}")).hint(hint))
    };
    let away = view
        .copies
        .iter()
        .find_map(|copy| Some((copy, away(status, &copy.node)?)));
    if let Some((copy, state)) = away {
        return refused(
            format!(
                "{} is {state}, and its copy ({}) is one of those to compare",
                copy.node, copy.place
            ),
            format!(
                "bring {} back; `hotpair mirror show {name} --wait` shows when its copy is up to date again",
                copy.node
            ),
        );
    }
    let Some(active) = view.active_on.clone() else {
        return refused(
            "it is not open on any node".into(),
            format!("start its group with `hotpair group start {}`", view.group),
        );
    };
    if let Some(copy) = view.copies.iter().find(|copy| copy.state != "up to date") {
        let disk = match copy.disk.as_str() {
            "" => String::new(),
            disk => format!(" ({disk})"),
        };
        return refused(
            format!("the copy on {} is {}{disk}", copy.node, copy.state),
            match view.attention.first() {
                Some(sentence) => sentence.clone(),
                None => format!("`hotpair mirror show {name}` says what to do"),
            },
        );
    }
    if let Some(copy) = view.copies.iter().find(|copy| !copy.disk.is_empty()) {
        return refused(
            format!("the disk of {} cannot be read: {}", copy.node, copy.disk),
            format!("mend {} on {}", copy.place, copy.node),
        );
    }
    if !view.copies.iter().any(|copy| copy.connected) {
        return refused(
            "its two mirror processes are not connected".into(),
            "is the mirror's TCP port open between the two nodes (`port` in `hotpair config show`)? \
             `hotpair status` shows the links"
                .into(),
        );
    }
    Ok(active)
}

/// On every node with a copy that can be reached.
fn everywhere(session: &Session, args: &NameArgs, what: &MirrorWork) -> Outcome {
    let view = find(session, &args.mirror)?;
    let word = match what {
        MirrorWork::Pause => "paused",
        MirrorWork::Resume => "resumed",
        MirrorWork::Rate { limit: None } => "no longer limited",
        _ => "limited",
    };
    let text = format!(
        "resynchronisation and verification of {} are {word}",
        full(&view)
    );
    if args.change.dry_run {
        return session.say(&text, true);
    }
    on_all(session, &view, what)?;
    session.say(&text, false)
}

fn on_all(session: &Session, view: &MirrorView, what: &MirrorWork) -> Result<(), Failure> {
    let mut done = 0;
    let mut failed = None;
    for copy in &view.copies {
        match work(session, view, &copy.node, what.clone()) {
            Ok(_) => done += 1,
            Err(failure) => failed = Some(failure),
        }
    }
    match failed {
        Some(failure) if done == 0 => Err(failure),
        _ => Ok(()),
    }
}

fn rate(session: &Session, args: RateArgs) -> Outcome {
    let limit = match args.limit.as_str() {
        "none" => None,
        text => Some(words::bytes(text).map_err(|why| {
            Failure::refused(why)
                .hint("`none` takes the limit away; `hotpair mirror pause` stops it")
        })?),
    };
    let args = NameArgs {
        mirror: args.mirror,
        change: args.change,
    };
    everywhere(session, &args, &MirrorWork::Rate { limit })
}

fn snapshot(session: &Session, command: SnapshotCommand) -> Outcome {
    match command {
        SnapshotCommand::List { mirror } => show::snapshots(session, &mirror),
        SnapshotCommand::Create(args) => {
            let name = args.name.clone();
            on_one(
                session,
                &args,
                MirrorWork::SnapshotTake { name },
                "is taken",
            )
        }
        SnapshotCommand::Remove(args) => {
            let name = args.name.clone();
            on_one(
                session,
                &args,
                MirrorWork::SnapshotRemove { name },
                "is removed",
            )
        }
        SnapshotCommand::Expose(args) => {
            let what = MirrorWork::Expose {
                snapshot: args.name.clone(),
                at: args.at.clone(),
            };
            let done = "a read-only device is there now";
            here(session, &args.mirror, &args.at, args.change, what, done)
        }
        SnapshotCommand::Conceal(args) => {
            let what = MirrorWork::Conceal {
                at: args.at.clone(),
            };
            let done = "the device is gone";
            here(session, &args.mirror, &args.at, args.change, what, done)
        }
    }
}

fn on_one(session: &Session, args: &SnapshotArgs, what: MirrorWork, done: &str) -> Outcome {
    let view = find(session, &args.mirror)?;
    let node = match &args.on {
        Some(node) => node.clone(),
        None => session.status()?.node,
    };
    copy_on(&view, &node)?;
    let text = format!(
        "the snapshot `{}` of {} on {node} {done}",
        args.name,
        full(&view)
    );
    if !args.change.dry_run {
        work(session, &view, &node, what)?;
    }
    session.say(&text, args.change.dry_run)
}

fn here(
    session: &Session,
    mirror: &str,
    at: &str,
    change: Change,
    what: MirrorWork,
    done: &str,
) -> Outcome {
    let view = find(session, mirror)?;
    let node = session.status()?.node;
    copy_on(&view, &node)?;
    if !change.dry_run {
        work(session, &view, &node, what)?;
    }
    session.say(&format!("{at}: {done}"), change.dry_run)
}

#[cfg(test)]
mod tests;
