//! Who uses a mount or a directory: processes by what they have open there, and what else holds it.

use super::table::{Mounted, mounts, mounts_of, visible};
use crate::process::{pids, stat};
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most users that are named.
const NAMED: usize = 8;
/// Most mount namespaces that are looked at.
const NAMESPACES: usize = 256;

/// A process that keeps a mount busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessUser {
    pub pid: i32,
    /// Start in clock ticks since boot; with the number it names the process for good.
    pub start_time: u64,
    pub name: String,
    /// In words: `works in it`, `3 open files`, …
    pub how: Vec<String>,
}

/// Everything that was found to use a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    pub processes: Vec<ProcessUser>,
    /// What is no process: mounts below, loop devices, swap, other mount namespaces; in words.
    pub others: Vec<String>,
    /// Time was up before everything was looked at.
    pub incomplete: bool,
}

impl Users {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.others.is_empty()
    }

    /// Sends `signal` to the processes, but to this one and process 1; says whom it was sent to.
    pub fn signal(&self, signal: Signal) -> Vec<&ProcessUser> {
        let own = std::process::id();
        let others = self.processes.iter();
        others
            .filter(|user| user.pid > 1 && u32::try_from(user.pid) != Ok(own))
            .filter(|user| user.signal(signal))
            .collect()
    }
}

impl ProcessUser {
    fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return false;
        };
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return false;
        };
        // The descriptor was opened before, so it is of the process looked at now.
        stat(self.pid).is_ok_and(|stat| stat.start_time == self.start_time)
            && rustix::process::pidfd_send_signal(&pidfd, signal).is_ok()
    }
}

impl fmt::Display for ProcessUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (process {}: {})",
            self.name,
            self.pid,
            self.how.join(", ")
        )
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processes = self.processes.iter().map(ToString::to_string);
        let all: Vec<String> = processes.chain(self.others.iter().cloned()).collect();
        if all.is_empty() {
            return f.write_str(if self.incomplete {
                "nobody found in the time there was"
            } else {
                "nobody that can be seen"
            });
        }
        f.write_str(&all[..all.len().min(NAMED)].join(", "))?;
        if all.len() > NAMED {
            write!(f, " and {} more", all.len() - NAMED)?;
        }
        Ok(())
    }
}

/// What is looked for.
#[derive(Clone)]
struct Target {
    path: PathBuf,
    /// What is mounted there; a directory is looked for by its path alone.
    mount: Option<TargetMount>,
}

#[derive(Clone, Copy)]
struct TargetMount {
    device: (u32, u32),
    id: u64,
}

/// Who uses what is mounted at `path` (as the mount table has it); what was found when `limit` is up.
#[must_use]
pub fn users(path: &Path, limit: Duration) -> Users {
    match target(path) {
        Some(target) => found(target, limit),
        None => Users::default(),
    }
}

/// Who uses what is in the directory `path` (without symbolic links); what was found when `limit` is up.
#[must_use]
pub fn users_of_directory(path: &Path, limit: Duration) -> Users {
    let target = Target {
        path: path.to_owned(),
        mount: None,
    };
    found(target, limit)
}

fn found(target: Target, limit: Duration) -> Users {
    let found: Arc<Mutex<Users>> = Arc::default();
    let (of_thread, end) = (Arc::clone(&found), Instant::now() + limit);
    let done = super::within(limit, move || look(&target, end, &of_thread));
    let mut users = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    users.incomplete = done != Some(true);
    users
}

fn target(path: &Path) -> Option<Target> {
    let mounts = mounts().ok()?;
    let mounted = visible(&mounts, path)?;
    Some(Target {
        path: path.to_owned(),
        mount: Some(TargetMount {
            device: mounted.device,
            id: mounted.id,
        }),
    })
}

/// Looks at everything; `false` when time is up.
fn look(target: &Target, end: Instant, found: &Mutex<Users>) -> bool {
    let tell = |work: &dyn Fn(&mut Users)| {
        work(&mut found.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let others = others(target);
    tell(&|users| users.others.extend(others.iter().cloned()));
    let sockets = sockets(&target.path);
    let own = fs::read_link("/proc/thread-self/ns/mnt").unwrap_or_default();
    let mut namespaces = BTreeSet::from([own]);
    for pid in pids().unwrap_or_default() {
        if Instant::now() >= end {
            return false;
        }
        if let Some(user) = process(target, pid, &sockets, end) {
            tell(&|users| users.processes.push(user.clone()));
        }
        if let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt"))
            && namespaces.len() < NAMESPACES
            && namespaces.insert(namespace)
            && let Some(text) = elsewhere(target, pid)
        {
            tell(&|users| users.others.push(text.clone()));
        }
    }
    true
}

/// What holds it besides processes.
fn others(target: &Target) -> Vec<String> {
    let below = |path: &Path| path.starts_with(&target.path) && path != target.path;
    let mut found = Vec::new();
    for mounted in mounts().unwrap_or_default() {
        let Mounted {
            point, device, id, ..
        } = &mounted;
        if below(point) {
            found.push(format!("a mount at {}", point.display()));
        } else if target
            .mount
            .is_some_and(|m| m.device == *device && m.id != *id)
        {
            found.push(format!(
                "the same filesystem, mounted at {} too",
                point.display()
            ));
        }
    }
    for entry in fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .take(4096)
    {
        let file = fs::read(entry.path().join("loop/backing_file")).unwrap_or_default();
        let file = PathBuf::from(OsString::from_vec(file.trim_ascii_end().to_vec()));
        if below(&file) {
            let name = entry.file_name();
            found.push(format!(
                "loop device {} on {}",
                name.display(),
                file.display()
            ));
        }
    }
    for line in fs::read_to_string("/proc/swaps")
        .unwrap_or_default()
        .lines()
        .skip(1)
    {
        let file = line.split_whitespace().next().unwrap_or_default();
        if below(Path::new(file)) {
            found.push(format!("swap on {file}: run swapoff"));
        }
    }
    found
}

/// Unix sockets bound to a path there, by number.
fn sockets(path: &Path) -> BTreeSet<u64> {
    let text = fs::read("/proc/thread-self/net/unix").unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .skip(1)
        .filter_map(|line| {
            // The path may hold blanks, and is what follows the seventh field.
            let inode = line.split_whitespace().nth(6)?;
            let (_, bound) = line.split_once(&format!(" {inode} "))?;
            Path::new(bound)
                .starts_with(path)
                .then_some(inode)?
                .parse()
                .ok()
        })
        .collect()
}

/// The same filesystem in the mount namespace of `pid`, which unmounting here does not reach.
fn elsewhere(target: &Target, pid: i32) -> Option<String> {
    let device = target.mount?.device;
    let mounts = mounts_of(pid).ok()?;
    let there = mounts.iter().find(|m| m.device == device)?;
    let name = stat(pid).map(|stat| stat.comm).unwrap_or_default();
    Some(format!(
        "the mount namespace of {name} (process {pid}), where it is mounted at {}",
        there.point.display()
    ))
}

fn process(
    target: &Target,
    pid: i32,
    sockets: &BTreeSet<u64>,
    end: Instant,
) -> Option<ProcessUser> {
    let mut how = Vec::new();
    for (link, words) in [
        ("cwd", "works in it"),
        ("root", "has its root in it"),
        ("exe", "its program is on it"),
    ] {
        if is_on(target, format!("/proc/{pid}/{link}")) {
            how.push(words.to_owned());
        }
    }
    let (mut files, mut bound) = (0u32, 0u32);
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    for (number, entry) in descriptors.flatten().enumerate() {
        if number % 256 == 255 && Instant::now() >= end {
            break;
        }
        let path = entry.path();
        if is_on(target, &path) {
            files += 1;
        } else if !sockets.is_empty() && is_socket(&path, sockets) {
            bound += 1;
        }
    }
    let plural = |count: u32, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    how.extend(plural(files, "open file", "open files"));
    how.extend(plural(bound, "socket", "sockets"));
    if files == 0 && is_mapped(target, pid) {
        how.push("has a file of it in memory".to_owned());
    }
    if how.is_empty() {
        return None;
    }
    let stat = stat(pid).ok()?;
    Some(ProcessUser {
        pid,
        start_time: stat.start_time,
        name: stat.comm,
        how,
    })
}

/// Does this link of `/proc` lead to something on the mount? Nothing is asked of its filesystem.
fn is_on(target: &Target, link: impl AsRef<Path>) -> bool {
    let Some(mount) = target.mount else {
        return fs::read_link(link).is_ok_and(|path| path.starts_with(&target.path));
    };
    let flags = AtFlags::STATX_DONT_SYNC;
    let Ok(found) = statx(rustix::fs::CWD, link.as_ref(), flags, StatxFlags::MNT_ID) else {
        return false;
    };
    // By number of the mount for filesystems with devices of their own for their parts (btrfs).
    (found.stx_dev_major, found.stx_dev_minor) == mount.device
        || (StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID)
            && found.stx_mnt_id == mount.id)
}

fn is_socket(link: &Path, sockets: &BTreeSet<u64>) -> bool {
    let target = fs::read_link(link).ok();
    let inode = target.as_ref().and_then(|target| {
        let text = target.to_str()?;
        text.strip_prefix("socket:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    });
    inode.is_some_and(|inode: u64| sockets.contains(&inode))
}

/// A file that is mapped and was closed since.
fn is_mapped(target: &Target, pid: i32) -> bool {
    let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let device = target
        .mount
        .map(|m| format!("{:02x}:{:02x}", m.device.0, m.device.1));
    text.split(|&byte| byte == b'\n').any(|line| match &device {
        Some(device) => line.split(|&byte| byte == b' ').nth(3) == Some(device.as_bytes()),
        None => line
            .iter()
            .position(|&byte| byte == b'/')
            .is_some_and(|at| {
                let path = OsString::from_vec(line.get(at..).unwrap_or_default().to_vec());
                Path::new(&path).starts_with(&target.path)
            }),
    })
}
