//! What is kept in the run directory: which resources run, and the last runs of their programs.
//!
//! ```text
//! <run_dir>/resources/<group>/<resource>.json   one [`Record`], written before a start
//! <run_dir>/runs/<group>/<resource>.json        the last 20 [`ProgramRun`]s, oldest first
//! ```
//! The directory is lost at a reboot, so nothing is flushed; a file is whole or absent, since it
//! is renamed into place.

use super::slot::Key;
use hotpair_core::config::Resource;
use hotpair_core::ids::{Epoch, HostBoot};
use hotpair_host::process::Run;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Runs kept for each resource.
const RUNS_KEPT: usize = 20;

/// A resource that was started and not stopped since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The boot it was started in; of another boot nothing can be left.
    pub host_boot: HostBoot,
    pub epoch: Epoch,
    /// As it was configured when it was started.
    pub resource: Resource,
    /// Main process of a service: number, and start in clock ticks since boot.
    pub process: Option<(i32, u64)>,
    /// Where the address was set.
    pub nic: Option<String>,
    /// Major and minor number of the device that was mounted.
    #[serde(default)]
    pub device: Option<(u32, u32)>,
}

/// One run of a start or stop program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRun {
    /// `start` or `stop`.
    pub work: String,
    /// Milliseconds since 1970 at its start.
    pub started_ms: u64,
    pub took_ms: u64,
    /// `exit code 0`, `timed out`, …
    pub outcome: String,
    /// The last 16 KiB of its output.
    pub output: String,
    /// Earlier bytes of output that were not kept.
    pub dropped: u64,
}

impl ProgramRun {
    pub(super) fn of(work: &str, run: &Run) -> Self {
        let since = run.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            work: work.to_owned(),
            started_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            took_ms: u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX),
            outcome: run.outcome.to_string(),
            output: run.text(),
            dropped: run.dropped,
        }
    }
}

/// The run directory.
#[derive(Clone, Debug)]
pub(super) struct Records {
    run_dir: PathBuf,
}

impl Records {
    /// Makes the directories.
    pub(super) fn open(run_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(run_dir.join("resources"))?;
        fs::create_dir_all(run_dir.join("runs"))?;
        Ok(Self {
            run_dir: run_dir.to_owned(),
        })
    }

    pub(super) fn write(&self, key: &Key, record: &Record) -> io::Result<()> {
        replace(&self.path("resources", key), record)
    }

    /// The record of a resource; `None` also for one that cannot be read, which is moved away.
    pub(super) fn read(&self, key: &Key) -> Option<Record> {
        read(&self.path("resources", key))
    }

    pub(super) fn remove(&self, key: &Key) -> io::Result<()> {
        match fs::remove_file(self.path("resources", key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Everything recorded.
    pub(super) fn all(&self) -> Vec<(Key, Record)> {
        let mut all = Vec::new();
        for group in names(&self.run_dir.join("resources")) {
            for file in names(&self.run_dir.join("resources").join(&group)) {
                let Some(resource) = file.strip_suffix(".json") else {
                    continue;
                };
                let key: Key = (group.as_str().into(), resource.into());
                if let Some(record) = self.read(&key) {
                    all.push((key, record));
                }
            }
        }
        all
    }

    /// Adds a run and forgets those before the last 20.
    pub(super) fn add_run(&self, key: &Key, run: ProgramRun) -> io::Result<()> {
        let mut runs = self.runs(key);
        runs.push(run);
        let excess = runs.len().saturating_sub(RUNS_KEPT);
        runs.drain(..excess);
        replace(&self.path("runs", key), &runs)
    }

    pub(super) fn runs(&self, key: &Key) -> Vec<ProgramRun> {
        read(&self.path("runs", key)).unwrap_or_default()
    }

    fn path(&self, kind: &str, (group, resource): &Key) -> PathBuf {
        let file = format!("{resource}.json");
        self.run_dir.join(kind).join(&group.0).join(file)
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    let value = serde_json::from_slice(&bytes).ok();
    if value.is_none() {
        // What is not understood must not be met again at every start.
        let _ = fs::rename(path, path.with_extension("damaged"));
    }
    value
}

fn replace<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.tmp"));
    match fs::write(&temporary, &bytes) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(dir)?;
            fs::write(&temporary, &bytes)?;
        }
        other => other?,
    }
    fs::rename(&temporary, path)
}
