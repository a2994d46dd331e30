//! A cgroup v2 subtree: which processes belong to a program, and how to end all of them at once.
//!
//! No controller is needed. Works on a pure cgroup v2 host (`/sys/fs/cgroup`) and on a hybrid one
//! (`/sys/fs/cgroup/unified`); the caller names the root directory, or asks [`find_root`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Access, Mode, OFlags};
use rustix::process::{Pid, Signal};

/// Rounds of "list and kill" tried on kernels without `cgroup.kill` (before 5.14).
const KILL_ROUNDS: u32 = 200;

/// How long a freeze is waited for before killing on kernels without `cgroup.kill`.
const FREEZE_WAIT: Duration = Duration::from_millis(500);

/// What went wrong with a cgroup, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no cgroup2 mount that may be written to.
    #[error(
        "no writable cgroup2 mount ({found}); run as root, and if there is no mount make one with \
         `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )]
    NoRoot {
        /// The mounts that were looked at, and why each was refused.
        found: String,
    },
    /// A name that cannot be a cgroup directory.
    #[error(
        "`{0}` cannot name a cgroup; use 1 to 200 letters, digits, `-`, `_` or `.`, not starting with `.` or `cgroup.`"
    )]
    Name(String),
    /// The directory is no cgroup v2 directory.
    #[error("{} is not a cgroup v2 directory; give one below a cgroup2 mount", .0.display())]
    Foreign(PathBuf),
    /// Processes were still there after killing.
    #[error("cgroup {} still holds {left} processes after being killed; look for tasks in state D with `ps -eo pid,stat,wchan,comm`", path.display())]
    Survivors {
        /// The cgroup.
        path: PathBuf,
        /// How many processes are left.
        left: usize,
    },
    /// The system refused an operation.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { what, path, source }
}

/// One cgroup v2 directory with everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup `name` below `root`; one that is already there is taken as it is.
    pub fn create(root: &Path, name: &str) -> Result<Self, CgroupError> {
        if !valid_name(name) {
            return Err(CgroupError::Name(name.to_owned()));
        }
        let path = root.join(name);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create cgroup", &path)(error)),
        }
        let opened = Self::open(&path);
        if opened.is_err() {
            // An ordinary directory: removing it fails harmlessly unless it is empty.
            let _ = fs::remove_dir(&path);
        }
        opened
    }

    /// Takes an existing cgroup directory.
    pub fn open(path: &Path) -> Result<Self, CgroupError> {
        match fs::metadata(path.join("cgroup.procs")) {
            Ok(_) => Ok(Self {
                path: path.to_owned(),
            }),
            Err(_) if path.is_dir() => Err(CgroupError::Foreign(path.to_owned())),
            Err(error) => Err(io_error("open cgroup", path)(error)),
        }
    }

    /// The directory of this cgroup.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory opened for `CLONE_INTO_CGROUP`.
    pub fn dir(&self) -> Result<OwnedFd, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty())
            .map_err(|error| io_error("open cgroup", &self.path)(error.into()))
    }

    /// `cgroup.procs` opened for writing: a process that writes `0` to it moves in.
    pub fn entry(&self) -> Result<File, CgroupError> {
        let path = self.path.join("cgroup.procs");
        OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(io_error("open for writing", &path))
    }

    /// The processes in this cgroup and below it, without those outside our PID namespace.
    pub fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        let mut all = Vec::new();
        for dir in self.subtree() {
            let path = dir.join("cgroup.procs");
            match fs::read_to_string(&path) {
                Ok(text) => all.extend(
                    text.lines()
                        .filter_map(|line| line.parse::<i32>().ok())
                        .filter(|pid| *pid > 0),
                ),
                Err(error) if gone(&error) && dir != self.path => {}
                Err(error) => return Err(io_error("read", &path)(error)),
            }
        }
        Ok(all)
    }

    /// Whether no live process is in this cgroup or below it.
    pub fn is_empty(&self) -> Result<bool, CgroupError> {
        self.events()?.is_empty()
    }

    /// The event file of this cgroup, pollable for the change to "empty" and back.
    pub fn events(&self) -> Result<Events, CgroupError> {
        let path = self.path.join("cgroup.events");
        let file = File::open(&path).map_err(io_error("open", &path))?;
        Ok(Events { file, path })
    }

    /// Waits until no process is left; `false` when some are after `limit`.
    pub fn wait_empty(&self, limit: Duration) -> Result<bool, CgroupError> {
        let mut events = self.events()?;
        let end = Instant::now() + limit;
        loop {
            if events.is_empty()? {
                return Ok(true);
            }
            if !events.wait_change(end.saturating_duration_since(Instant::now()))? {
                return events.is_empty();
            }
        }
    }

    /// Kills every process in this cgroup and below it.
    ///
    /// When it returns no program code runs any more, but large processes may take seconds to
    /// vanish: see [`Cgroup::wait_empty`]. On kernels before 5.14 it freezes the cgroup and kills
    /// what it lists until nothing new appears.
    pub fn kill(&self) -> Result<(), CgroupError> {
        match self.write("cgroup.kill", "1") {
            Err(CgroupError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && self.path.exists() =>
            {
                self.kill_by_signal()
            }
            other => other,
        }
    }

    fn kill_by_signal(&self) -> Result<(), CgroupError> {
        let frozen = self.freeze().and_then(|()| self.wait_frozen(FREEZE_WAIT));
        let killed = self.signal_until_empty();
        if frozen.is_ok() {
            self.thaw()?;
        }
        killed
    }

    fn signal_until_empty(&self) -> Result<(), CgroupError> {
        let mut events = self.events()?;
        for _ in 0..KILL_ROUNDS {
            for pid in self.procs()? {
                if let Some(pid) = Pid::from_raw(pid) {
                    // A process that is gone already is what is wanted.
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            if events.is_empty()? {
                return Ok(());
            }
            events.wait_change(Duration::from_millis(10))?;
        }
        Err(CgroupError::Survivors {
            path: self.path.clone(),
            left: self.procs()?.len(),
        })
    }

    /// Asks the kernel to stop every process in this cgroup and below it.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", "1")
    }

    /// Lets frozen processes run again.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", "0")
    }

    /// Waits until the kernel reports the cgroup frozen; `false` when it does not within `limit`.
    pub fn wait_frozen(&self, limit: Duration) -> Result<bool, CgroupError> {
        let mut events = self.events()?;
        let end = Instant::now() + limit;
        loop {
            if events.value("frozen")? == Some(1) {
                return Ok(true);
            }
            if !events.wait_change(end.saturating_duration_since(Instant::now()))? {
                return Ok(events.value("frozen")? == Some(1));
            }
        }
    }

    /// Removes this cgroup with all below it; refused by the kernel while processes are in it.
    ///
    /// A cgroup that is not there any more counts as removed.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for dir in self.subtree().iter().rev() {
            match fs::remove_dir(dir) {
                Ok(()) => {}
                Err(error) if gone(&error) => {}
                Err(error) => return Err(io_error("remove cgroup", dir)(error)),
            }
        }
        Ok(())
    }

    /// This directory and all below it, parents first.
    fn subtree(&self) -> Vec<PathBuf> {
        let mut dirs = vec![self.path.clone()];
        let mut next = 0;
        while let Some(dir) = dirs.get(next) {
            let children: Vec<PathBuf> = fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
            dirs.extend(children);
            next += 1;
        }
        dirs
    }

    fn write(&self, file: &str, text: &str) -> Result<(), CgroupError> {
        let path = self.path.join(file);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut open| open.write_all(text.as_bytes()))
            .map_err(io_error("write to", &path))
    }
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.starts_with("cgroup.")
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':'))
}

/// An open `cgroup.events`; `poll` for `POLLPRI` on it reports every change.
#[derive(Debug)]
pub struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// Whether no live process is left; re-arms the poll.
    pub fn is_empty(&mut self) -> Result<bool, CgroupError> {
        Ok(self.value("populated")? == Some(0))
    }

    /// Waits for a change; `false` when there was none within `limit`.
    pub fn wait_change(&self, limit: Duration) -> Result<bool, CgroupError> {
        let mut fds = [PollFd::new(&self.file, PollFlags::PRI)];
        crate::process::poll(&mut fds, limit).map_err(io_error("wait on", &self.path))
    }

    fn value(&mut self, key: &str) -> Result<Option<u64>, CgroupError> {
        let mut text = String::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_string(&mut text))
            .map_err(io_error("read", &self.path))?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(name, _)| *name == key)
            .and_then(|(_, value)| value.trim().parse().ok()))
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Finds a cgroup2 mount this process may make directories in.
pub fn find_root() -> Result<PathBuf, CgroupError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    root_among(&text, |mount| {
        rustix::fs::access(mount, Access::WRITE_OK).map_err(Into::into)
    })
}

fn root_among(
    mountinfo: &str,
    writable: impl Fn(&Path) -> io::Result<()>,
) -> Result<PathBuf, CgroupError> {
    let mut refused = Vec::new();
    for mount in cgroup2_mounts(mountinfo) {
        match writable(&mount) {
            Ok(()) => return Ok(mount),
            Err(error) => refused.push(format!("{}: {error}", mount.display())),
        }
    }
    let found = if refused.is_empty() {
        "none is mounted".to_owned()
    } else {
        refused.join(", ")
    };
    Err(CgroupError::NoRoot { found })
}

/// Mount points of type cgroup2, in the order of `mountinfo` (proc(5)).
fn cgroup2_mounts(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = before.split(' ').nth(4)?;
            (after.split(' ').next()? == "cgroup2").then(|| PathBuf::from(unescape(point)))
        })
        .collect()
}

/// Undoes the octal escapes of `mountinfo` (`\040` for a space).
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests;
