//! Mounts: a filesystem on the device of a mirror, which is at
//! `<run_dir>/devices/<group>/<mirror>` while the mirror is open.
//!
//! ```text
//!  start: record -> device -> what it holds -> make | check -> mount -> record its number
//!  stop:  unmount; busy: name the users, or (kill_users) TERM, KILL, unmount
//!  kill:  KILL the users, unmount, at last lazily
//! ```
//! The mount table is the truth; the record says which device was mounted by our hand. What somebody
//! else has mounted at the path is never touched, but when it lies over ours at a kill.

use super::home::Home;
use super::slot::{Completion, Key, Slot, lock};
use super::{KILL_LIMIT, Shared, record::Record};
use hotpair_core::config::{FilesystemCheck, Mount, Resource, ResourceKind};
use hotpair_core::group::ResourceAction;
use hotpair_core::ids::ResourceId;
use hotpair_host::detect::Detected;
use hotpair_host::filesystem::{
    self, Content, MountCheck, Mounted, Options, Policy, UnmountError, Users, resolved, visible,
};
use rustix::process::Signal;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Interval and limit of the look whether it is still mounted and writable.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(5);
pub(super) const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a stop waits for programs that are about to end, before it calls the mount busy.
const BUSY_GRACE: Duration = Duration::from_secs(1);
/// Time between two tries.
const BUSY_ROUND: Duration = Duration::from_millis(50);
/// How long users have after SIGTERM, at most.
const TERM_WAIT: Duration = Duration::from_secs(5);
/// How long users are looked for.
const USERS_LIMIT: Duration = Duration::from_secs(2);
/// How long a filesystem may take to grow.
const FIT_LIMIT: Duration = Duration::from_secs(600);
/// How long a kill tries to unmount in good order.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// Mounts on top of each other that a kill takes away.
const STACKED: usize = 16;

/// Major and minor number of a block device.
type Number = (u32, u32);

/// The device of an open mirror.
struct Device {
    path: PathBuf,
    number: Number,
}

/// What a mount is, as it was started; what may change while it runs, as it is configured.
struct Place {
    path: PathBuf,
    /// The filesystem that was mounted, or the device that would be.
    device: Option<Number>,
}

impl Place {
    fn is_ours(&self, mounted: &Mounted) -> bool {
        self.device.is_some_and(|device| mounted.is_of(device))
    }

    /// The topmost at the path, if ours is there at all.
    fn top<'a>(&self, mounts: &'a [Mounted]) -> Option<&'a Mounted> {
        mounts
            .iter()
            .any(|m| m.point == self.path && self.is_ours(m))
            .then(|| visible(mounts, &self.path))
            .flatten()
    }
}

fn mounts() -> Result<Vec<Mounted>, String> {
    filesystem::mounts().map_err(|error| format!("cannot read the mount table: {error}"))
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

impl Shared {
    /// Where the mirror puts its device, as a symbolic link.
    fn device_link(&self, key: &Key, mirror: &ResourceId) -> PathBuf {
        let devices = self.settings.run_dir.join("devices");
        devices.join(&key.0.0).join(&mirror.0)
    }

    fn device(&self, key: &Key, mirror: &ResourceId) -> Result<Device, String> {
        let link = self.device_link(key, mirror);
        let shown = link.display();
        let path = link.canonicalize().map_err(|error| {
            format!("mirror {mirror} has no device on this node ({shown}: {error}): it must be open before it is mounted")
        })?;
        match filesystem::block_device(&path) {
            Some(number) => Ok(Device { path, number }),
            None => Err(format!(
                "{shown}, the device of mirror {mirror}, is not a block device"
            )),
        }
    }

    /// Where it is mounted, or would be.
    fn place(&self, key: &Key, configured: &Mount) -> Place {
        let record = self.records.read(key);
        let started = record
            .as_ref()
            .and_then(|record| match &record.resource.kind {
                ResourceKind::Mount(mount) => Some(mount),
                _ => None,
            });
        let mount = started.unwrap_or(configured);
        let recorded = record.as_ref().and_then(|record| record.device);
        Place {
            path: resolved(Path::new(&mount.path)),
            device: recorded.or_else(|| {
                let device = self.device(key, &mount.mirror).ok()?;
                Some(device.number)
            }),
        }
    }

    pub(super) fn start_mount(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (resource, mount): (&Resource, &Mount),
    ) -> Result<(), String> {
        let end = Instant::now() + resource.start_timeout;
        let mut record = self.record_of(action.epoch, resource);
        self.moved_away(slot, mount)?;
        record.device = self
            .records
            .read(&slot.key)
            .and_then(|before| before.device);
        self.write_record(&slot.key, &record)?;
        let device = self.device(&slot.key, &mount.mirror)?;
        let path = resolved(Path::new(&mount.path));
        if self.is_free(&device, &path, mount)? {
            self.prepare_directory(&slot.key, &path)?;
            self.prepare_filesystem(slot, completion, &device, mount, end)?;
            self.mount(slot, completion, (&device, &path, mount), end)?;
        }
        record.device = visible(&mounts()?, &path).map(|mounted| mounted.device);
        self.write_record(&slot.key, &record)?;
        if slot.overtaken(completion.ticket) {
            return Err("killed while it was mounted".into());
        }
        Ok(())
    }

    /// A record of another path: it is mounted there still, and must be stopped first.
    fn moved_away(&self, slot: &Slot, mount: &Mount) -> Result<(), String> {
        let place = self.place(&slot.key, mount);
        let elsewhere = place.path != resolved(Path::new(&mount.path));
        if elsewhere && place.top(&mounts()?).is_some() {
            return Err(format!(
                "it is still mounted at {}: stop it first",
                place.path.display()
            ));
        }
        Ok(())
    }

    /// May the device be mounted there? `false`: it is already.
    fn is_free(&self, device: &Device, path: &Path, mount: &Mount) -> Result<bool, String> {
        let mounts = mounts()?;
        if let Some(there) = visible(&mounts, path) {
            if there.is_of(device.number) && there.filesystem == mount.filesystem {
                return Ok(false);
            }
            return Err(format!(
                "{} is mounted at {} already: unmount it, and see that nothing mounts it again",
                there.source.to_string_lossy(),
                mount.path
            ));
        }
        match mounts.iter().find(|m| m.is_of(device.number)) {
            Some(other) => Err(format!(
                "{} is mounted at {} already: unmount it there; hotpair alone mounts it",
                device.path.display(),
                other.point.display()
            )),
            None => Ok(true),
        }
    }

    fn prepare_directory(&self, key: &Key, path: &Path) -> Result<(), String> {
        if let Some(problem) = directory_problem(path) {
            return Err(problem);
        }
        if path.is_dir() {
            if let Some(note) = hidden_by_mount(path) {
                self.out.log(key, note);
            }
            return Ok(());
        }
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(path)
            .map_err(|error| format!("cannot make the directory {}: {error}", path.display()))
    }

    /// Makes or checks the filesystem, as allowed.
    fn prepare_filesystem(
        &self,
        slot: &Slot,
        completion: &Completion,
        device: &Device,
        mount: &Mount,
        end: Instant,
    ) -> Result<(), String> {
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        self.clear_leftovers(&home, slot)?;
        let cgroup = home.create().map_err(|error| error.to_string())?;
        let shown = device.path.display();
        let found = filesystem::probe(&device.path, Some(cgroup.clone()), left(end));
        if slot.overtaken(completion.ticket) {
            return Err("killed before it was mounted".into());
        }
        let wanted = mount.filesystem.as_str();
        match found.map_err(|error| error.to_string())? {
            Content::Filesystem(name) if name == wanted => {}
            Content::Filesystem(name) => {
                return Err(format!(
                    "the filesystem on {shown} is {name}, not {wanted}: correct `filesystem`"
                ));
            }
            Content::Blank if mount.make => {
                self.out
                    .log(&slot.key, format_args!("makes {wanted} on {shown}"));
                return filesystem::make(wanted, &device.path, Some(cgroup), left(end))
                    .map_err(|error| error.to_string());
            }
            Content::Blank => {
                return Err(format!(
                    "{shown} holds nothing: run `mkfs.{wanted} {shown}` once, or set make = true"
                ));
            }
            Content::Other(what) => {
                return Err(format!(
                    "{shown} holds {what}, no filesystem: look at it; nothing is made over it unasked (by hand: `wipefs -a {shown}; mkfs.{wanted} {shown}`)"
                ));
            }
        }
        let Some(policy) = policy(mount.check) else {
            return Ok(());
        };
        let checked = filesystem::check(wanted, policy, &device.path, Some(cgroup), left(end));
        if let Some(note) = checked.map_err(|error| error.to_string())?.note {
            self.out.log(&slot.key, note);
        }
        Ok(())
    }

    fn mount(
        &self,
        slot: &Slot,
        completion: &Completion,
        (device, path, mount): (&Device, &Path, &Mount),
        end: Instant,
    ) -> Result<(), String> {
        let options = Options::parse(&mount.options).map_err(|error| error.to_string())?;
        let overtaken = || slot.overtaken(completion.ticket);
        if overtaken() {
            return Err("killed before it was mounted".into());
        }
        let mounted = filesystem::mount(
            &device.path,
            path,
            &mount.filesystem,
            &options,
            left(end),
            &overtaken,
        );
        if mounted.is_err() && visible(&mounts()?, path).is_some_and(|m| m.is_of(device.number)) {
            // It was about to end when it was given up.
            let _ = filesystem::unmount(path, true, KILL_GRACE, &|| false);
        }
        mounted.map_err(|error| error.to_string())
    }

    pub(super) fn stop_mount(
        &self,
        slot: &Slot,
        completion: &Completion,
        (resource, mount): (&Resource, &Mount),
    ) -> Result<(), String> {
        let end = Instant::now() + resource.stop_timeout;
        let place = self.place(&slot.key, mount);
        let overtaken = || slot.overtaken(completion.ticket);
        if let Some(top) = place.top(&mounts()?) {
            if !place.is_ours(top) {
                return Err(format!(
                    "{} is mounted over {}: unmount it first",
                    top.source.to_string_lossy(),
                    place.path.display()
                ));
            }
            self.unmount(slot, &place.path, mount.kill_users, end, &overtaken)?;
        }
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        let _ = home.clear(Duration::ZERO);
        self.forget_record(&slot.key);
        Ok(())
    }

    /// Unmounts in good order.
    fn unmount(
        &self,
        slot: &Slot,
        path: &Path,
        kill_users: bool,
        end: Instant,
        give_up: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        let mut grace = Instant::now() + BUSY_GRACE;
        let signals: &[Signal] = if kill_users {
            &[Signal::TERM, Signal::KILL]
        } else {
            &[]
        };
        let mut signals = signals.iter();
        loop {
            match until_free(path, grace.min(end), end, give_up) {
                Ok(()) => return Ok(()),
                Err(UnmountError::Busy(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
            let users = filesystem::users(path, USERS_LIMIT);
            let Some(&signal) = signals.next() else {
                return Err(busy(path, &users, kill_users));
            };
            let asked = users.signal(signal);
            if asked.is_empty() {
                return Err(busy(path, &users, kill_users));
            }
            let names: Vec<String> = asked.iter().take(8).map(ToString::to_string).collect();
            let word = if signal == Signal::KILL {
                "kills"
            } else {
                "ends"
            };
            self.out.log(
                &slot.key,
                format_args!(
                    "{word} what keeps {} busy: {}",
                    path.display(),
                    names.join(", ")
                ),
            );
            // The second half of the time is for those that do not listen.
            let wait = if signal == Signal::KILL {
                left(end)
            } else {
                TERM_WAIT.min(left(end) / 2)
            };
            grace = Instant::now() + wait;
        }
    }

    /// Unmounts whatever holds it; overtakes a start or stop that is under way.
    pub(super) fn kill_mount(&self, slot: &Slot, configured: &Mount) -> Result<(), String> {
        let end = Instant::now() + KILL_LIMIT;
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        let _lane = self.overtake(slot, &home, end)?;
        home.clear(left(end))?;
        let place = self.place(&slot.key, configured);
        for _ in 0..STACKED {
            let mounts = mounts()?;
            if place.top(&mounts).is_none() {
                self.forget_record(&slot.key);
                return Ok(());
            }
            self.tear_down(slot, &place.path, end);
        }
        Err(format!(
            "{} is still mounted: see `findmnt {0}`",
            place.path.display()
        ))
    }

    /// Kills the users and takes the topmost mount away.
    fn tear_down(&self, slot: &Slot, path: &Path, end: Instant) {
        let shown = path.display();
        let users = filesystem::users(path, USERS_LIMIT.min(left(end)));
        let killed = users.signal(Signal::KILL).len();
        if killed > 0 {
            self.out.log(
                &slot.key,
                format_args!("kills what keeps {shown} busy: {users}"),
            );
        }
        let grace = Instant::now() + KILL_GRACE.min(left(end) / 2);
        let unmounted = until_free(path, grace, grace, &|| false);
        if let Err(error) = unmounted
            && filesystem::mounts().is_ok_and(|mounts| visible(&mounts, path).is_some())
        {
            self.out
                .log(&slot.key, format_args!("{error}: unmounts it lazily"));
            let limit = left(end).max(BUSY_GRACE);
            // Whether it is gone is seen in the mount table.
            let _ = filesystem::unmount(path, true, limit, &|| false);
        }
    }

    /// Is it still mounted as an earlier run of the daemon left it?
    pub(super) fn adopt_mount(&self, key: &Key, record: &Record, mount: &Mount) -> bool {
        let place = self.place(key, mount);
        let there = mounts().is_ok_and(|mounts| place.top(&mounts).is_some());
        if there && record.device.is_none() {
            // It was mounted, and the daemon ended before it had noted that.
            let mut record = record.clone();
            record.device = place.device;
            if let Err(error) = self.write_record(key, &record) {
                self.out.log(key, error);
            }
        }
        there
    }

    /// The built-in detector. `Err`: not mounted, or not as it should be, and why.
    pub(super) fn look_at_mount(
        &self,
        key: &Key,
        mount: &Mount,
        timeout: Duration,
    ) -> Result<(), String> {
        let place = self.place(key, mount);
        let found = MountCheck {
            path: place.path,
            device: place.device,
            writable: !mount.options.iter().any(|option| option == "ro"),
            timeout,
        };
        let (path, device) = (found.path.clone(), found.device);
        match found.check() {
            Detected::Running => {
                if let (Some(device), true) = (device, found.writable) {
                    self.fit(key, mount, &path, device);
                }
                Ok(())
            }
            Detected::NotRunning(why) | Detected::Failed(why) => Err(why),
        }
    }

    /// Has the filesystem take all of its device, if that is larger than when it was last looked at.
    fn fit(&self, key: &Key, mount: &Mount, path: &Path, device: Number) {
        let sectors = format!("/sys/dev/block/{}:{}/size", device.0, device.1);
        let sectors = std::fs::read_to_string(sectors).ok();
        let Some(sectors) = sectors.and_then(|text| text.trim().parse::<u64>().ok()) else {
            return;
        };
        let fitted = (device.0, device.1, sectors);
        if lock(&self.verdicts.fitted).insert(key.clone(), fitted) == Some(fitted) {
            return;
        }
        let Ok(device) = self.device(key, &mount.mirror) else {
            return;
        };
        // It may take long, and whoever looks is waited for.
        let (out, key, path) = (self.out.clone(), key.clone(), path.to_owned());
        let kind = mount.filesystem.clone();
        std::thread::spawn(move || {
            let size = |path: &Path| rustix::fs::statvfs(path).map_or(0, |found| found.f_blocks);
            let before = size(&path);
            match filesystem::grow(&kind, &device.path, &path, FIT_LIMIT) {
                Ok(_) if size(&path) > before => {
                    let shown = path.display();
                    out.log(
                        &key,
                        format_args!("the filesystem at {shown} takes all of its device now"),
                    );
                }
                Ok(_) => {}
                Err(error) => out.log(
                    &key,
                    format_args!("the filesystem was not made larger: {error}"),
                ),
            }
        });
    }

    /// Why it could not be mounted here.
    pub(super) fn mount_problems(&self, key: &Key, mount: &Mount) -> Vec<String> {
        let mut problems = programs(mount);
        let shown = &mount.path;
        if let Some(line) = filesystem::fstab(Path::new(shown)) {
            problems.push(format!(
                "/etc/fstab mounts something at {shown} (`{line}`): remove that line, or write noauto in it"
            ));
        }
        let path = resolved(Path::new(shown));
        let place = self.place(key, mount);
        let there = mounts().ok().and_then(|mounts| {
            let there = visible(&mounts, &path)?;
            let source = there.source.to_string_lossy().into_owned();
            Some((place.is_ours(there), source))
        });
        let note = match there {
            Some((true, _)) => None,
            Some((false, source)) => {
                problems.push(format!("{source} is mounted at {shown}: unmount it"));
                None
            }
            None => {
                problems.extend(directory_problem(&path));
                hidden_by_mount(&path)
            }
        };
        self.note(key, note);
        problems
    }

    /// Logs what is no problem, once.
    fn note(&self, key: &Key, note: Option<String>) {
        let mut notes = lock(&self.verdicts.notes);
        if notes.get(key) == note.as_ref() {
            return;
        }
        match note {
            Some(note) => {
                self.out.log(key, &note);
                notes.insert(key.clone(), note);
            }
            None => {
                notes.remove(key);
            }
        }
    }
}

/// Tries to unmount until `grace`, as long as it is just busy; a try has until `end`.
fn until_free(
    path: &Path,
    grace: Instant,
    end: Instant,
    give_up: &dyn Fn() -> bool,
) -> Result<(), UnmountError> {
    loop {
        let limit = left(end).max(BUSY_ROUND);
        match filesystem::unmount(path, false, limit, give_up) {
            Err(UnmountError::Busy(_)) if Instant::now() < grace && !give_up() => {
                std::thread::sleep(BUSY_ROUND);
            }
            other => return other,
        }
    }
}

fn busy(path: &Path, users: &Users, kill_users: bool) -> String {
    let help = if kill_users {
        "they did not go"
    } else {
        "end them, or set kill_users = true"
    };
    format!("{} is in use: {users}; {help}", path.display())
}

fn policy(check: FilesystemCheck) -> Option<Policy> {
    match check {
        FilesystemCheck::Never => None,
        FilesystemCheck::Safe => Some(Policy::Safe),
        FilesystemCheck::Full => Some(Policy::Full),
    }
}

/// Programs that a start needs and this node lacks.
fn programs(mount: &Mount) -> Vec<String> {
    let filesystem = mount.filesystem.as_str();
    let checker = policy(mount.check).and_then(|policy| filesystem::checker(filesystem, policy));
    let maker = mount.make.then(|| filesystem::maker(filesystem));
    ["blkid"]
        .into_iter()
        .chain(checker)
        .chain(maker.as_deref())
        .filter_map(|name| super::verdict::command_problem(name, &Default::default()))
        .collect()
}

/// Why nothing can be mounted at a path where nothing is.
fn directory_problem(path: &Path) -> Option<String> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => None,
        Ok(data) if data.is_symlink() => Some(format!(
            "{shown} is a symbolic link: name the directory itself in `path`"
        )),
        Ok(_) => Some(format!(
            "{shown} is not a directory: move it away, or correct `path`"
        )),
        Err(_) => {
            let parent = path.parent().unwrap_or(path);
            (!parent.is_dir()).then(|| {
                format!(
                    "directory {} does not exist on this node: create it, or correct `path`",
                    parent.display()
                )
            })
        }
    }
}

/// What the mount would hide.
fn hidden_by_mount(path: &Path) -> Option<String> {
    match filesystem::entries(path, LOOK_TIMEOUT) {
        None | Some(0) => None,
        Some(count) => {
            let count = if count < 100 {
                count.to_string()
            } else {
                "100 or more".to_owned()
            };
            Some(format!(
                "{} is not empty where nothing is mounted: the mount hides what is there ({count} entries)",
                path.display()
            ))
        }
    }
}
