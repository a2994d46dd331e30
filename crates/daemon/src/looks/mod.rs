//! Which files are on the local copy of a mirror?
//!
//! ```text
//!  mounted here:  walk the mount
//!  otherwise:     snapshot -> device with scratch -> mount read-only -> walk -> undo it all
//! ```
//! The scratch takes what the filesystem's journal holds and its blocks do not yet: without that the
//! newest changes would be missing, which matter most here. The copy itself is never written.
//!
//! What a look has made is in `<run>/looks/GROUP/MIRROR`, so that it can be undone by the next daemon, too.

mod walk;

#[cfg(test)]
mod tests;

use crate::mirrors::{Key, Mirrors};
use hotpair_api::Reply;
use hotpair_api::files::{FilesView, PAGE_LIMIT, Page};
use hotpair_core::config::{Group, Mount, ResourceKind};
use hotpair_core::ids::{GroupId, ResourceId};
use hotpair_host::filesystem::{self, Options, resolved, visible};
use hotpair_volume::protocol::{Command, LOOK_PREFIX, Work};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use walk::{Limits, List};

const LIMITS: Limits = Limits {
    entries: 200_000,
    bytes: 16 << 20,
    time: Duration::from_secs(20),
};
/// A list is kept for its further pages.
const KEEP: Duration = Duration::from_secs(60);
/// Of one step of the mirror process, and of mounting.
const STEP: Duration = Duration::from_secs(10);
/// How long it is tried to unmount in good order.
const UNMOUNT: Duration = Duration::from_secs(5);
/// Mounts on top of each other that are taken away.
const STACKED: usize = 4;
/// How often, and after which time again, what an earlier daemon left is undone.
const CLEAN_TRIES: u32 = 3;
const CLEAN_GAP: Duration = Duration::from_secs(1);
/// A device that was in use a moment ago is tried again.
const CONCEAL_GAP: Duration = Duration::from_millis(100);

/// Looks at the files of mirrors, one at a time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Looks {
    run: PathBuf,
    mirrors: Mirrors,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    busy: bool,
    last: u64,
    kept: Option<Arc<Kept>>,
}

struct Kept {
    number: u64,
    source: String,
    list: List,
}

/// The mirror's process.
trait Process {
    fn work(&self, command: Command) -> Result<(), String>;
    /// `None`: it is not there to say.
    fn has_snapshot(&self, name: &str) -> Option<bool>;
}

struct Real<'a> {
    mirrors: &'a Mirrors,
    key: &'a Key,
}

impl Process for Real<'_> {
    fn work(&self, command: Command) -> Result<(), String> {
        self.mirrors.work(self.key, Work::Command(command), STEP)
    }

    fn has_snapshot(&self, name: &str) -> Option<bool> {
        let status = self.mirrors.status(self.key)?;
        Some(status.snapshots.iter().any(|one| one.name == name))
    }
}

/// The filesystem on a mirror, if the group mounts one.
pub(crate) fn mount_of(group: &Group, mirror: &ResourceId) -> Option<Mount> {
    group
        .resources
        .values()
        .find_map(|resource| match &resource.kind {
            ResourceKind::Mount(mount) if mount.mirror == *mirror => Some(mount.clone()),
            _ => None,
        })
}

impl Looks {
    pub(crate) fn new(run: &Path, mirrors: Mirrors) -> Self {
        Self {
            run: run.join("looks"),
            mirrors,
            state: Arc::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Undoes what an earlier daemon left, on a thread of its own.
    pub(crate) fn clean(&self) {
        if left(&self.run).is_empty() {
            return;
        }
        self.state().busy = true;
        let this = self.clone();
        std::thread::spawn(move || {
            for _ in 0..CLEAN_TRIES {
                std::thread::sleep(CLEAN_GAP);
                for (key, directory) in left(&this.run) {
                    let process = Real {
                        mirrors: &this.mirrors,
                        key: &key,
                    };
                    if let Err(problem) = undo(&directory, &process) {
                        this.mirrors.note(
                            &key,
                            format!("an earlier look at its files is not undone: {problem}"),
                        );
                    }
                }
                if left(&this.run).is_empty() {
                    break;
                }
            }
            this.state().busy = false;
        });
    }

    /// Looks, on a thread of its own, and answers the first page.
    pub(crate) fn begin(
        &self,
        device: PathBuf,
        key: Key,
        mount: Mount,
        answer: impl FnOnce(Reply) + Send + 'static,
    ) {
        let mut state = self.state();
        if state.busy {
            drop(state);
            let text =
                "the files of a mirror are being looked at on this node already: try again later";
            return answer(Reply::Refused(text.into()));
        }
        state.busy = true;
        state.kept = None;
        drop(state);
        let this = self.clone();
        std::thread::spawn(move || this.look(&device, &key, &mount, answer));
    }

    fn look(&self, device: &Path, key: &Key, mount: &Mount, answer: impl FnOnce(Reply)) {
        let process = Real {
            mirrors: &self.mirrors,
            key,
        };
        let directory = self.run.join(&key.0.0).join(&key.1.0);
        let looked = match walk_mounted(device, mount) {
            Some(looked) => looked,
            None => {
                let looked = look_at_copy(&directory, &process, mount);
                if let Err(problem) = undo(&directory, &process) {
                    let text = format!("the look at its files is not undone: {problem}");
                    self.mirrors.note(key, text);
                }
                looked
            }
        };
        let mut state = self.state();
        state.busy = false;
        let (source, list) = match looked {
            Ok(found) => found,
            Err(problem) => {
                drop(state);
                return answer(Reply::Refused(format!("{}/{}: {problem}", key.0, key.1)));
            }
        };
        // A number of an earlier daemon must not be taken for ours.
        let number = hotpair_host::clock::read().boottime_us.max(state.last + 1);
        state.last = number;
        let kept = Arc::new(Kept {
            number,
            source,
            list,
        });
        let first = page(&kept, 0);
        let more = first.next.is_some();
        state.kept = more.then_some(kept);
        drop(state);
        answer(Reply::MirrorFiles(first));
        if more {
            std::thread::sleep(KEEP);
            self.forget(number);
        }
    }

    fn forget(&self, number: u64) {
        let mut state = self.state();
        if state
            .kept
            .as_ref()
            .is_some_and(|kept| kept.number == number)
        {
            state.kept = None;
        }
    }

    /// A further page.
    pub(crate) fn page(&self, wanted: Page) -> Reply {
        let kept = self.state().kept.clone();
        let Some(kept) = kept.filter(|kept| kept.number == wanted.list) else {
            return Reply::Refused("this list of files is not kept any more: ask anew".into());
        };
        let page = page(&kept, wanted.from);
        if page.next.is_none() {
            self.forget(wanted.list);
        }
        Reply::MirrorFiles(page)
    }
}

fn page(kept: &Kept, from: usize) -> FilesView {
    let mut room = PAGE_LIMIT;
    let all = kept.list.entries.get(from..).unwrap_or_default();
    let fits = |entry: &&hotpair_api::files::FileView| {
        let length = serde_json::to_string(entry).map_or(0, |text| text.len() + 1);
        let fits = length <= room;
        room = room.saturating_sub(length);
        fits
    };
    let entries: Vec<_> = all.iter().take_while(fits).cloned().collect();
    let end = from.saturating_add(entries.len());
    // One that fits on no page would be asked for without end.
    let more = !entries.is_empty() && end < kept.list.entries.len();
    FilesView {
        source: kept.source.clone(),
        entries,
        next: more.then_some(Page {
            list: kept.number,
            from: end,
        }),
        cut: kept.list.cut.clone(),
        unreadable: kept.list.unreadable,
    }
}

type Looked = Result<(String, List), String>;

/// `None`: the mirror is not mounted here.
fn walk_mounted(device: &Path, mount: &Mount) -> Option<Looked> {
    let number = filesystem::block_device(device)?;
    let path = resolved(Path::new(&mount.path));
    let mounts = filesystem::mounts().ok()?;
    visible(&mounts, &path).filter(|there| there.is_of(number))?;
    let source = format!("the filesystem mounted at {}", path.display());
    Some(walked(&path, source))
}

fn walked(path: &Path, source: String) -> Looked {
    walk::walk(path, LIMITS)
        .map(|list| (source, list))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Options to mount with: the journal is replayed; and, if there is not room enough for that, it is not.
fn options(filesystem: &str) -> Option<[Vec<&'static str>; 2]> {
    let (own, stale) = match filesystem {
        "ext2" => ("errors=continue", None),
        // What a damaged filesystem says of itself must not stop this host.
        "ext3" | "ext4" => ("errors=continue", Some("noload")),
        "xfs" => ("nouuid", Some("norecovery")),
        _ => return None,
    };
    let fresh = vec!["ro", "nosuid", "nodev", "noexec", "noatime", own];
    let stale = fresh.iter().copied().chain(stale).collect();
    Some([fresh, stale])
}

fn look_at_copy(directory: &Path, process: &impl Process, mount: &Mount) -> Looked {
    let [fresh, stale] = options(&mount.filesystem).ok_or_else(|| {
        format!(
            "{} is not looked into: mount a snapshot yourself (`hotpair mirror snapshot create`, `expose`)",
            mount.filesystem
        )
    })?;
    undo(directory, process)?;
    let files = directory.join("files");
    let made = |error: io::Error| format!("cannot make {}: {error}", files.display());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&files)
        .map_err(made)?;
    let name = format!("{LOOK_PREFIX}{}", hotpair_host::clock::read().boottime_us);
    std::fs::write(directory.join("snapshot"), &name).map_err(made)?;
    process.work(Command::SnapshotTake { name: name.clone() })?;
    let device = directory.join("device");
    let show = || {
        process.work(Command::Expose {
            snapshot: Some(name.clone()),
            at: device.clone(),
            scratch: true,
        })
    };
    let mount = |options: &[&str]| {
        let options = Options::parse(options).map_err(|error| error.to_string())?;
        let kind = &mount.filesystem;
        filesystem::mount(&device, &files, kind, &options, STEP, &|| false)
            .map_err(|error| error.to_string())
    };
    show()?;
    let mut source = "a snapshot of the copy".to_owned();
    if let Err(problem) = mount(&fresh) {
        // What was replayed halfway is worse than nothing of it.
        conceal(&device, process);
        show()?;
        mount(&stale).map_err(|_| problem)?;
        source.push_str(", without the newest changes: its journal could not be replayed");
    }
    walked(&files, source)
}

fn conceal(device: &Path, process: &impl Process) {
    let end = Instant::now() + STEP;
    while Instant::now() < end {
        if std::fs::symlink_metadata(device).is_err() {
            return;
        }
        let at = device.to_owned();
        if process.work(Command::Conceal { at }).is_ok() {
            return;
        }
        std::thread::sleep(CONCEAL_GAP);
    }
}

/// Takes away what a look has made, however far it came.
fn undo(directory: &Path, process: &impl Process) -> Result<(), String> {
    if !directory.exists() {
        return Ok(());
    }
    let files = directory.join("files");
    unmount(&resolved(&files))?;
    let device = directory.join("device");
    conceal(&device, process);
    let noted = directory.join("snapshot");
    if let Ok(name) = std::fs::read_to_string(&noted) {
        match process.has_snapshot(&name) {
            Some(false) => {}
            // It cannot be removed while its device is there: so that is known to be gone afterwards.
            Some(true) => process.work(Command::SnapshotRemove { name })?,
            None => return Err(format!("its process is not there to remove {name}")),
        }
    }
    let removed = [std::fs::remove_file(&device), std::fs::remove_dir(&files)]
        .into_iter()
        .chain([std::fs::remove_file(&noted), std::fs::remove_dir(directory)])
        .find_map(|removed| {
            removed
                .err()
                .filter(|e| e.kind() != io::ErrorKind::NotFound)
        });
    match removed {
        None => Ok(()),
        Some(error) => Err(format!("cannot remove {}: {error}", directory.display())),
    }
}

fn unmount(path: &Path) -> Result<(), String> {
    for _ in 0..STACKED {
        let mounts = filesystem::mounts().map_err(|error| error.to_string())?;
        if visible(&mounts, path).is_none() {
            return Ok(());
        }
        if filesystem::unmount(path, false, UNMOUNT, &|| false).is_err() {
            // Whether it is gone is seen in the mount table.
            let _ = filesystem::unmount(path, true, UNMOUNT, &|| false);
        }
    }
    Err(format!("{} is still mounted", path.display()))
}

/// Looks that were not undone.
fn left(looks: &Path) -> Vec<(Key, PathBuf)> {
    let below = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let named =
            entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
        named.collect::<Vec<_>>()
    };
    let groups = below(looks).into_iter();
    groups
        .flat_map(|(group, path)| {
            let of = move |(mirror, path)| ((GroupId(group.clone()), ResourceId(mirror)), path);
            below(&path).into_iter().map(of)
        })
        .collect()
}
