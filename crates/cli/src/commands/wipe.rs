//! `hotpair wipe`: removes every trace of hotpair from this node.

use crate::args::Change;
use crate::confirm::Confirmation;
use crate::failure::Failure;
use crate::output::print;
use crate::session::{Outcome, Session};
use crate::words;
use clap::Args;
use hotpair_daemon::store;
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};

/// Remove every trace of hotpair from this node: keys, state, configuration, logs.
#[derive(Debug, Args)]
pub struct WipeArgs {
    #[command(flatten)]
    sure: Confirmation,
    #[command(flatten)]
    change: Change,
}

pub fn run(session: &Session, args: &WipeArgs) -> Outcome {
    let paths = &session.paths;
    let running = [
        (
            paths.api_socket(),
            "daemon",
            "stop it first: `hotpair stop`",
        ),
        (
            paths.guard_socket(),
            "guard",
            "end the process `hotpair guard` of this node",
        ),
    ];
    for (socket, what, hint) in running {
        if UnixStream::connect(&socket).is_ok() {
            let message = format!("the {what} runs on this node; nothing was removed");
            return Err(Failure::refused(message).hint(hint));
        }
    }
    if let Some(socket) = mirror_socket(&paths.run) {
        let message = format!(
            "a mirror process runs on this node ({}); nothing was removed",
            socket.display()
        );
        let hint =
            "start the daemon and stop it in good order: `hotpair start`, then `hotpair stop`";
        return Err(Failure::refused(message).hint(hint));
    }
    let places = [&paths.lib, &paths.run, &paths.log, &paths.etc];
    let places: Vec<_> = places.into_iter().filter(|place| place.exists()).collect();
    if let Some(wide) = places.iter().find(|place| !narrow(place)) {
        return Err(Failure::refused(format!(
            "{} is not removed: it is not hotpair's alone",
            wide.display()
        )));
    }
    if places.is_empty() {
        return session.say("nothing of hotpair is on this node", args.change.dry_run);
    }
    let list: Vec<_> = places
        .iter()
        .map(|place| format!("  {}", place.display()))
        .collect();
    let list = list.join("\n");
    if args.change.dry_run {
        return session.say(&format!("removed:\n{list}"), true);
    }
    let name = name_of_node(session);
    args.sure.require(
        &name,
        &format!("These are removed for good from {name}:\n{list}"),
    )?;
    for place in places {
        remove(place).map_err(|error| {
            Failure::refused(format!("cannot remove {}: {error}", place.display()))
        })?;
    }
    if !session.json {
        print("hotpair is removed from this node; its packages are not\n");
        return Ok(std::process::ExitCode::SUCCESS);
    }
    session.say("removed", false)
}

/// Of a mirror process that answers: its device may be mounted.
fn mirror_socket(run: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(run.join("mirrors")).ok()?;
    let mut sockets = entries.filter_map(Result::ok).map(|entry| entry.path());
    sockets.find(|socket| UnixStream::connect(socket).is_ok())
}

/// Everything in it, and the directory itself unless something is mounted there.
fn remove(place: &Path) -> std::io::Result<()> {
    if !place.exists() {
        // It lay in one that was removed before.
        return Ok(());
    }
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    match std::fs::remove_dir(place) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Ok(()),
        result => result,
    }
}

/// A directory deep enough to be hotpair's own: `/var/lib/hotpair`, not `/var`.
fn narrow(place: &Path) -> bool {
    let plain = place
        .components()
        .all(|part| !matches!(part, Component::ParentDir));
    plain
        && place
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .count()
            >= 2
}

/// What the node is called in its cluster; the host's name if that cannot be read.
fn name_of_node(session: &Session) -> String {
    let member = store::read_keys(&session.paths)
        .ok()
        .map(|keys| keys.member);
    let state = store::read_state(&session.paths.state()).ok().flatten();
    let name = member.zip(state).and_then(|(member, state)| {
        let document = state.document?;
        Some(document.config.nodes.get(&member)?.name.clone())
    });
    name.unwrap_or_else(words::host_name)
}
