//! Moves a directory onto a filesystem of its own, such as one on a new mirror, without a moment at which
//! neither of them is whole.
//!
//! ```text
//!  begin:   space, users -> journal: copying -> mount aside -> copy -> compare -> journal: copied
//!  switch:  users, compare again -> journal: switching
//!           -> exchange DIR with an empty DIR.hotpair-new -> rename that to DIR.hotpair-old
//!           -> mount at DIR -> journal: switched
//!  confirm: remove DIR.hotpair-old -> no journal
//!  undo:    from everywhere before that: DIR as it was -> no journal
//! ```
//! The journal is durable before each stage begins, so that whoever loads it after a crash can undo or
//! finish what was begun. Which of the three names the old directory has is seen from its inode number.
//!
//! Nothing may use the directory meanwhile: its application is stopped. What still does is named.

mod copy;
mod tree;

#[cfg(test)]
mod tests;

pub use copy::Progress;
pub use tree::{Count, TreeError, count};

use hotpair_host::durable::{FileError, write_atomic};
use hotpair_host::filesystem::{self, MountError, Options, OptionsError, UnmountError, Users};
use rustix::fs::{AtFlags, CWD, RenameFlags};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest journal that is read.
const MAX_JOURNAL: u64 = 64 << 10;
/// How long users are looked for.
const USERS_LIMIT: Duration = Duration::from_secs(30);
/// Limits of mounting and unmounting; the latter writes what is left of the copy.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);
const UNMOUNT_LIMIT: Duration = Duration::from_secs(600);

/// How often, and after which time again, it is tried to unmount what a killed program used.
const RELEASE_TRIES: u32 = 10;
const RELEASE_ROUND: Duration = Duration::from_millis(100);
/// How often it is looked again whether a directory or filesystem is in use: many programs hold a file for a moment
/// only, and a program just being started holds those of the one that starts it. As long as `RELEASE_ROUND` apart.
const BUSY_TRIES: u32 = 10;

/// Of the room that must be free, this many parts of a hundred stay free.
const RESERVE_PERCENT: u64 = 5;

/// What is moved, and onto what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Full path, without symbolic links.
    pub directory: PathBuf,
    /// A block device with an empty filesystem.
    pub device: PathBuf,
    pub filesystem: String,
    /// Mount options.
    pub options: Vec<String>,
    /// Where it is mounted while it is filled; made, and removed at the end.
    pub aside: PathBuf,
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Copying,
    /// Everything is in both places, and compared.
    Copied,
    Switching,
    /// The filesystem is in its place; the old directory is kept beside it.
    Switched,
    Undoing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    plan: Plan,
    stage: Stage,
    /// Inode number of the directory that is moved.
    inode: u64,
}

/// A move that was begun and not ended.
#[derive(Debug)]
pub struct Move {
    journal: PathBuf,
    state: State,
    /// For tests: after so many more steps it breaks off as a crash would.
    #[cfg(test)]
    crash_after: std::cell::Cell<Option<u32>>,
}

/// Why a move cannot go on. What was begun stays as the journal says, to be undone or finished.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error("{} cannot be moved: {why}", directory.display())]
    Unfit { directory: PathBuf, why: String },
    #[error("{} is in use: {users}; stop the application first", directory.display())]
    Busy { directory: PathBuf, users: Users },
    #[error("{} needs {needed} {what}, and {} has {free}: make it larger", directory.display(), device.display())]
    Space {
        directory: PathBuf,
        device: PathBuf,
        what: &'static str,
        needed: u64,
        free: u64,
    },
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("copying failed: {0}")]
    Copy(String),
    #[error("{} has changed since it was copied ({difference}): stop what writes into it", directory.display())]
    Changed {
        directory: PathBuf,
        difference: String,
    },
    #[error("given up")]
    GivenUp,
    #[error("a move was begun already: {} says how far it has come; finish or undo it", .0.display())]
    Begun(PathBuf),
    #[error("{} is not the journal of a move: {said}", path.display())]
    Journal { path: PathBuf, said: String },
    #[error("{what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Unmount(#[from] UnmountError),
    #[error("{} has gone: none of its names has the inode it had ({inode})", directory.display())]
    Lost { directory: PathBuf, inode: u64 },
    #[cfg(test)]
    #[error("crashed, as a test wanted")]
    Crashed,
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> MoveError + 'a {
    move |source| MoveError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

impl Plan {
    /// Could the directory be moved now? Changes nothing. What it needs, if so.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check(&self) -> Result<Count, MoveError> {
        self.fit()?;
        self.unused()?;
        Ok(count(&self.directory)?)
    }

    fn unfit(&self, why: impl Into<String>) -> MoveError {
        MoveError::Unfit {
            directory: self.directory.clone(),
            why: why.into(),
        }
    }

    fn fit(&self) -> Result<(), MoveError> {
        let directory = &self.directory;
        let data =
            fs::symlink_metadata(directory).map_err(io_error("cannot look at", directory))?;
        let real = directory
            .canonicalize()
            .map_err(io_error("cannot look at", directory))?;
        if data.is_symlink() || real != *directory {
            return Err(self.unfit(format!("it leads to {}: name that", real.display())));
        }
        if !data.is_dir() {
            return Err(self.unfit("it is not a directory"));
        }
        if directory.parent().is_none() {
            return Err(self.unfit("it is the root of everything"));
        }
        let mounts = filesystem::mounts().map_err(io_error("cannot read", Path::new("/proc")))?;
        let inside = mounts.iter().find(|m| m.point.starts_with(directory));
        if let Some(mounted) = inside {
            let point = mounted.point.display();
            return Err(self.unfit(format!("something is mounted at {point}: unmount it")));
        }
        for path in [self.old(), self.new_empty()] {
            if fs::symlink_metadata(&path).is_ok() {
                let path = path.display();
                return Err(self.unfit(format!("{path} is there from an earlier move: remove it")));
            }
        }
        Ok(())
    }

    /// Nobody uses the directory.
    fn unused(&self) -> Result<(), MoveError> {
        patiently(|| {
            let users = filesystem::users_of_directory(&self.directory, USERS_LIMIT);
            if users.is_empty() && !users.incomplete {
                return Ok(());
            }
            Err(MoveError::Busy {
                directory: self.directory.clone(),
                users,
            })
        })
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.directory.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// Where the old directory is kept until the move is confirmed.
    #[must_use]
    pub fn old(&self) -> PathBuf {
        self.beside(".hotpair-old")
    }

    fn new_empty(&self) -> PathBuf {
        self.beside(".hotpair-new")
    }

    /// Is it at `path` that the device is mounted?
    fn is_mounted_at(&self, path: &Path) -> Result<bool, MoveError> {
        let mounts = filesystem::mounts().map_err(io_error("cannot read", Path::new("/proc")))?;
        let Some(mounted) = filesystem::visible(&mounts, &filesystem::resolved(path)) else {
            return Ok(false);
        };
        let device = filesystem::block_device(&self.device);
        Ok(device.is_some_and(|device| mounted.is_of(device)))
    }

    fn mount(&self, path: &Path) -> Result<(), MoveError> {
        if self.is_mounted_at(path)? {
            return Ok(());
        }
        let options = Options::parse(&self.options)?;
        filesystem::mount(
            &self.device,
            path,
            &self.filesystem,
            &options,
            MOUNT_LIMIT,
            &|| false,
        )?;
        Ok(())
    }

    fn unmount(&self, path: &Path) -> Result<(), MoveError> {
        if self.is_mounted_at(path)? {
            patiently(|| Ok(filesystem::unmount(path, false, UNMOUNT_LIMIT, &|| false)?))?;
        }
        Ok(())
    }

    /// Room for the directory, with something to spare.
    fn space(&self, needs: Count) -> Result<(), MoveError> {
        let free = rustix::fs::statvfs(&self.aside)
            .map_err(|error| io_error("cannot look at", &self.aside)(error.into()))?;
        let short = |what, needed: u64, free: u64| {
            let needed = needed + needed * RESERVE_PERCENT / 100;
            if needed <= free {
                return Ok(());
            }
            Err(MoveError::Space {
                directory: self.directory.clone(),
                device: self.device.clone(),
                what,
                needed,
                free,
            })
        };
        short(
            "bytes",
            needs.bytes,
            free.f_bavail.saturating_mul(free.f_frsize),
        )?;
        // Filesystems without a fixed number of inodes say 0.
        if free.f_files > 0 {
            short("inodes", needs.inodes, free.f_ffree)?;
        }
        Ok(())
    }
}

impl Move {
    /// Copies everything and compares it. `progress` is told now and then, and says whether to go on.
    ///
    /// # Errors
    /// See [`MoveError`]. After the journal was written (there is one at `journal`) the move stays
    /// begun: [`Move::load`] it, and finish or undo it.
    pub fn begin(
        plan: Plan,
        journal: &Path,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Self, MoveError> {
        let begun = Self::prepare(plan, journal)?;
        begun.fill(progress)
    }

    fn prepare(plan: Plan, journal: &Path) -> Result<Self, MoveError> {
        if fs::symlink_metadata(journal).is_ok() {
            return Err(MoveError::Begun(journal.to_owned()));
        }
        plan.check()?;
        let data = fs::symlink_metadata(&plan.directory)
            .map_err(io_error("cannot look at", &plan.directory))?;
        let begun = Self::of(
            journal,
            State {
                inode: data.ino(),
                stage: Stage::Copying,
                plan,
            },
        );
        begun.write()?;
        Ok(begun)
    }

    fn of(journal: &Path, state: State) -> Self {
        Self {
            journal: journal.to_owned(),
            state,
            #[cfg(test)]
            crash_after: std::cell::Cell::new(None),
        }
    }

    /// What an earlier run has begun; `None` if nothing.
    ///
    /// # Errors
    /// There is a journal that cannot be read.
    pub fn load(journal: &Path) -> Result<Option<Self>, MoveError> {
        let broken = |said: String| MoveError::Journal {
            path: journal.to_owned(),
            said,
        };
        let size = match fs::metadata(journal) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| broken(error.to_string()))?.len(),
        };
        if size > MAX_JOURNAL {
            return Err(broken(format!("it has {size} bytes")));
        }
        let bytes = fs::read(journal).map_err(|error| broken(error.to_string()))?;
        let state = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        Ok(Some(Self::of(journal, state)))
    }

    #[must_use]
    pub fn stage(&self) -> Stage {
        self.state.stage
    }

    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.state.plan
    }

    fn write(&self) -> Result<(), MoveError> {
        let bytes = serde_json::to_vec_pretty(&self.state).map_err(|error| MoveError::Journal {
            path: self.journal.clone(),
            said: error.to_string(),
        })?;
        Ok(write_atomic(&self.journal, &bytes)?)
    }

    fn enter(&mut self, stage: Stage) -> Result<(), MoveError> {
        self.state.stage = stage;
        self.write()?;
        self.step()
    }

    /// Between two steps anything may happen.
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)]
    fn step(&self) -> Result<(), MoveError> {
        #[cfg(test)]
        if let Some(left) = self.crash_after.get() {
            if left == 0 {
                return Err(MoveError::Crashed);
            }
            self.crash_after.set(Some(left - 1));
        }
        Ok(())
    }

    /// Fills the filesystem, from the beginning.
    fn fill(mut self, progress: &mut dyn FnMut(Progress) -> bool) -> Result<Self, MoveError> {
        self.step()?;
        let plan = self.state.plan.clone();
        let aside = &plan.aside;
        match fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(aside)
        {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(io_error("cannot make", aside)(error));
            }
            _ => {}
        }
        self.release(&plan, aside)?;
        plan.mount(aside)?;
        self.step()?;
        copy::empty(aside).map_err(io_error("cannot empty", aside))?;
        let needs = count(&plan.directory)?;
        plan.space(needs)?;
        copy::copy(&plan.directory, aside, needs, progress)?;
        self.step()?;
        tree::mend_attributes(&plan.directory, aside)?;
        rustix::fs::syncfs(fs::File::open(aside).map_err(io_error("cannot open", aside))?)
            .map_err(|error| io_error("cannot write", aside)(error.into()))?;
        tree::compare(&plan.directory, aside, tree::Depth::Content)?;
        self.step()?;
        self.enter(Stage::Copied)?;
        Ok(self)
    }

    /// Puts the filesystem in the place of the directory.
    ///
    /// # Errors
    /// See [`MoveError`]. If nothing was switched yet it is as before; otherwise finish or undo it.
    pub fn switch(&mut self) -> Result<(), MoveError> {
        let plan = self.state.plan.clone();
        if self.state.stage == Stage::Copied {
            plan.unused()?;
            plan.mount(&plan.aside)?;
            let compared = tree::compare(&plan.directory, &plan.aside, tree::Depth::Attributes);
            if let Err(TreeError::Different { path, what }) = compared {
                return Err(MoveError::Changed {
                    directory: plan.directory,
                    difference: format!("{}: {what}", path.display()),
                });
            }
            compared?;
            self.enter(Stage::Switching)?;
        }
        if self.state.stage == Stage::Switching {
            self.exchange(&plan)?;
            plan.unmount(&plan.aside)?;
            self.step()?;
            plan.mount(&plan.directory)?;
            self.step()?;
            self.enter(Stage::Switched)?;
        }
        // After a reboot it is not.
        plan.mount(&plan.directory)?;
        remove_empty(&plan.aside)?;
        Ok(())
    }

    /// The old directory gets its new name, and an empty one its own.
    fn exchange(&self, plan: &Plan) -> Result<(), MoveError> {
        let (directory, old, new) = (&plan.directory, plan.old(), plan.new_empty());
        match self.whereabouts()? {
            Name::Own => {
                make_empty(&new)?;
                self.step()?;
                swap(&new, directory)?;
                self.step()?;
                rename(&new, &old)?;
                self.step()
            }
            Name::New => {
                rename(&new, &old)?;
                self.step()
            }
            Name::Old => Ok(()),
        }
    }

    /// Which name the old directory has now.
    fn whereabouts(&self) -> Result<Name, MoveError> {
        let plan = &self.state.plan;
        let is_it = |path: &Path| {
            fs::symlink_metadata(path).is_ok_and(|d| d.is_dir() && d.ino() == self.state.inode)
        };
        if is_it(&plan.old()) {
            Ok(Name::Old)
        } else if is_it(&plan.new_empty()) {
            Ok(Name::New)
        } else if !plan.is_mounted_at(&plan.directory)? && is_it(&plan.directory) {
            Ok(Name::Own)
        } else {
            Err(MoveError::Lost {
                directory: plan.directory.clone(),
                inode: self.state.inode,
            })
        }
    }

    /// Goes on with what an earlier run has begun, until it is switched.
    ///
    /// # Errors
    /// See [`MoveError`].
    pub fn finish(mut self, progress: &mut dyn FnMut(Progress) -> bool) -> Result<Self, MoveError> {
        match self.state.stage {
            Stage::Undoing => {
                let why = "its move is being undone: end that first";
                return Err(self.state.plan.unfit(why));
            }
            Stage::Copying => self = self.fill(progress)?,
            Stage::Copied | Stage::Switching | Stage::Switched => {}
        }
        match self.switch() {
            Err(MoveError::Changed { .. }) => {
                self.enter(Stage::Copying)?;
                self = self.fill(progress)?;
                self.switch()?;
            }
            other => other?,
        }
        Ok(self)
    }

    /// Removes the old directory. There is no way back after it.
    ///
    /// # Errors
    /// It was not switched yet, or it cannot be removed.
    pub fn confirm(self) -> Result<(), MoveError> {
        let plan = &self.state.plan;
        if self.state.stage != Stage::Switched {
            return Err(plan.unfit("it is not moved yet"));
        }
        let old = plan.old();
        match fs::remove_dir_all(&old) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(io_error("cannot remove", &old)(error))
            }
            _ => self.end(),
        }
    }

    /// Brings the old directory back, whatever was done so far. What was written to the filesystem
    /// since the switch stays there and is not copied back.
    ///
    /// # Errors
    /// See [`MoveError`]; it can be tried again.
    pub fn undo(mut self) -> Result<(), MoveError> {
        if self.state.stage != Stage::Undoing {
            self.enter(Stage::Undoing)?;
        }
        let plan = self.state.plan.clone();
        for path in [&plan.aside, &plan.directory] {
            self.release(&plan, path)?;
        }
        self.step()?;
        let (directory, old, new) = (&plan.directory, plan.old(), plan.new_empty());
        if self.whereabouts()? == Name::Old {
            rename(&old, &new)?;
            self.step()?;
        }
        if self.whereabouts()? == Name::New {
            if fs::symlink_metadata(directory).is_ok() {
                swap(&new, directory)?;
            } else {
                rename(&new, directory)?;
            }
            self.step()?;
        }
        remove_empty(&new)?;
        remove_empty(&plan.aside)?;
        self.step()?;
        self.end()
    }

    /// Unmounts it at `path`. Aside, the copying program of a run that crashed may still be at work.
    fn release(&self, plan: &Plan, path: &Path) -> Result<(), MoveError> {
        for _ in 0..RELEASE_TRIES {
            match plan.unmount(path) {
                Err(MoveError::Unmount(UnmountError::Busy(_))) => {}
                other => return other,
            }
            let users = filesystem::users(&filesystem::resolved(path), USERS_LIMIT);
            if *path != plan.aside {
                return Err(MoveError::Busy {
                    directory: path.to_owned(),
                    users,
                });
            }
            users.signal(rustix::process::Signal::KILL);
            std::thread::sleep(RELEASE_ROUND);
        }
        plan.unmount(path)
    }

    fn end(&self) -> Result<(), MoveError> {
        fs::remove_file(&self.journal).map_err(io_error("cannot remove", &self.journal))
    }
}

/// Does it again, a few times, as long as something is in use.
fn patiently(mut attempt: impl FnMut() -> Result<(), MoveError>) -> Result<(), MoveError> {
    for _ in 1..BUSY_TRIES {
        match attempt() {
            Err(MoveError::Busy { .. } | MoveError::Unmount(UnmountError::Busy(_))) => {}
            other => return other,
        }
        std::thread::sleep(RELEASE_ROUND);
    }
    attempt()
}

/// Names of the directory that is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Own,
    New,
    Old,
}

/// An empty directory for nobody but root, so that an application that is started without the mount
/// does not begin anew in it.
fn make_empty(path: &Path) -> Result<(), MoveError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(io_error("cannot make", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory if it is there; it must be empty.
fn remove_empty(path: &Path) -> Result<(), MoveError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(io_error("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Two directories take each other's name, at one moment and durably.
fn swap(one: &Path, other: &Path) -> Result<(), MoveError> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|error| io_error("cannot exchange", other)(error.into()))?;
    flush_parent(one)
}

fn rename(from: &Path, to: &Path) -> Result<(), MoveError> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .map_err(|error| io_error("cannot rename", from)(error.into()))?;
    flush_parent(from)
}

fn flush_parent(path: &Path) -> Result<(), MoveError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("cannot flush", parent))
}

/// Flags for looking at what a name is, not at what it leads to.
const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;
