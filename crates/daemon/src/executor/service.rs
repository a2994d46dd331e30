//! Programs in the foreground: started in their own cgroup, watched, stopped, found again.

use super::home::{Home, program};
use super::record::Record;
use super::slot::{Completion, Key, Lane, Out, Slot, lock};
use super::{KILL_LIMIT, Shared};
use hotpair_core::config::{Resource, Service};
use hotpair_core::group::{ResourceAction, ResourceFact};
use hotpair_core::ids::Epoch;
use hotpair_host::process::{Exit, Identity, LogFile, Program, Supervised, WatchId};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Size at which the output file is moved to `NAME.1`, in bytes.
const LOG_CAP: u64 = 4 << 20;

/// How far back the last line of output is looked for, in bytes.
const LAST_LINE: u64 = 4 << 10;

/// How long leftovers of an earlier run are waited for before a start.
const LEFTOVER_WAIT: Duration = Duration::from_secs(5);

/// A service that was started, whether it still runs or not.
pub(super) struct Running {
    watched: Arc<Watched>,
    watch: WatchId,
    log: Mutex<LogFile>,
}

struct Watched {
    supervised: Mutex<Supervised>,
    told: Mutex<Told>,
    log_path: PathBuf,
}

struct Told {
    epoch: Epoch,
    /// It is being stopped, or its end was told: its end is no news.
    quiet: bool,
}

impl Running {
    /// Watches a process; its end is told once, unless it is asked for.
    fn watch(
        shared: &Shared,
        key: &Key,
        epoch: Epoch,
        supervised: Supervised,
        log: LogFile,
        log_path: PathBuf,
    ) -> io::Result<Self> {
        let watched = Arc::new(Watched {
            supervised: Mutex::new(supervised),
            told: Mutex::new(Told {
                epoch,
                quiet: false,
            }),
            log_path,
        });
        let (of_watch, out, key) = (Arc::clone(&watched), shared.out.clone(), key.clone());
        let supervised = lock(&watched.supervised);
        let watch = shared
            .watch
            .watch(supervised.as_fd(), move || of_watch.ended(&out, &key))?;
        drop(supervised);
        Ok(Self {
            watched,
            watch,
            log: Mutex::new(log),
        })
    }

    /// Does the main process run?
    fn is_alive(&self) -> bool {
        lock(&self.watched.supervised).exit().is_none()
    }

    /// From now on its end is no news.
    fn hush(&self, shared: &Shared) {
        lock(&self.watched.told).quiet = true;
        shared.watch.unwatch(self.watch);
    }

    /// Moves the output away once there is much of it.
    pub(super) fn rotate_log(&self, out: &Out, key: &Key) {
        if let Err(error) = lock(&self.log).rotate(LOG_CAP) {
            out.log(key, format_args!("cannot rotate its output: {error}"));
        }
    }
}

impl Watched {
    fn ended(&self, out: &Out, key: &Key) {
        let mut told = lock(&self.told);
        if std::mem::replace(&mut told.quiet, true) {
            return;
        }
        let exit = lock(&self.supervised).exit().unwrap_or(Exit::Unknown);
        let mut detail = exit.to_string();
        if let Some(line) = last_line(&self.log_path) {
            detail = format!("{detail}; last line: {line}");
        }
        let epoch = told.epoch;
        out.fact(key, ResourceFact::Exited { epoch, detail });
    }
}

pub(super) fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LAST_LINE)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(LAST_LINE).read_to_end(&mut bytes).ok()?;
    last_line_of(&String::from_utf8_lossy(&bytes))
}

/// The last line that is not blank, at most 200 characters of it.
pub(super) fn last_line_of(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(200).collect())
}

impl Shared {
    pub(super) fn start_service(
        &self,
        lane: &mut Lane<'_>,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        (resource, service): (&Resource, &Service),
    ) -> Result<(), String> {
        let mut record = self.record_of(action.epoch, resource);
        if let Some(running) = lane.running.take() {
            if running.is_alive() {
                let supervised = lock(&running.watched.supervised).identity();
                lock(&running.watched.told).epoch = action.epoch;
                record.process = Some((supervised.pid, supervised.start_time));
                lane.running = Some(running);
                return self.write_record(&slot.key, &record);
            }
            running.hush(self);
        }
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        self.clear_leftovers(&home, slot)?;
        let log_path = self.log_path(&slot.key);
        let log = LogFile::open(&log_path).map_err(|error| error.to_string())?;
        let cgroup = home.create().map_err(|error| error.to_string())?;
        let variables = self.variables(&slot.key, action.epoch);
        let program = program(
            &service.command,
            &service.environment,
            variables,
            Some(cgroup),
        );
        self.write_record(&slot.key, &record)?;
        if slot.overtaken(completion.ticket) {
            return Err("killed before it was started".into());
        }
        let supervised = self.spawn(slot, &program, &log)?;
        let Identity { pid, start_time } = supervised.identity();
        record.process = Some((pid, start_time));
        self.write_record(&slot.key, &record)?;
        let running = Running::watch(self, &slot.key, action.epoch, supervised, log, log_path)
            .map_err(|error| format!("cannot watch process {pid}: {error}"))?;
        if slot.overtaken(completion.ticket) {
            running.hush(self);
            home.kill()?;
            lane.running = Some(running);
            return Err("killed while it was started".into());
        }
        lane.running = Some(running);
        Ok(())
    }

    fn spawn(&self, slot: &Slot, program: &Program, log: &LogFile) -> Result<Supervised, String> {
        Supervised::spawn(program, log).map_err(|error| {
            self.forget_record(&slot.key);
            error.to_string()
        })
    }

    /// Kills what an earlier run, or somebody else, left in the cgroup.
    pub(super) fn clear_leftovers(&self, home: &Home, slot: &Slot) -> Result<(), String> {
        if home.is_empty() {
            return Ok(());
        }
        self.out
            .log(&slot.key, "kills what an earlier run left in its cgroup");
        home.clear(LEFTOVER_WAIT)
            .map_err(|left| format!("cannot start it: leftovers of an earlier run are {left}"))
    }

    pub(super) fn stop_service(
        &self,
        lane: &mut Lane<'_>,
        slot: &Slot,
        timeout: Duration,
    ) -> Result<(), String> {
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        if let Some(running) = lane.running.take() {
            running.hush(self);
            let stopped = running.stop(&home, timeout);
            if stopped.is_err() {
                lane.running = Some(running);
            }
            if stopped? {
                let limit = timeout.as_secs_f64();
                self.out.log(
                    &slot.key,
                    format_args!("did not end within {limit} s after SIGTERM and was killed"),
                );
            }
        } else if !home.is_empty() {
            home.clear(KILL_LIMIT)?;
        }
        self.forget_record(&slot.key);
        Ok(())
    }

    /// Watches the service of a record again; `false` if it has ended.
    pub(super) fn adopt_service(&self, slot: &Slot, record: &Record) -> bool {
        let Some((pid, start_time)) = record.process else {
            return false;
        };
        let home = Home::of(&self.settings.cgroup_root, &slot.key);
        let attached = Supervised::reattach(Identity { pid, start_time }, home.existing());
        let mut supervised = match attached {
            Ok(supervised) => supervised,
            Err(error) => {
                self.out
                    .log(&slot.key, format_args!("not adopted: {error}"));
                return false;
            }
        };
        if supervised.exit().is_some() {
            return false;
        }
        let log_path = self.log_path(&slot.key);
        let watched = LogFile::open(&log_path).and_then(|log| {
            Running::watch(self, &slot.key, record.epoch, supervised, log, log_path)
        });
        match (watched, slot.enter(KILL_LIMIT)) {
            (Ok(running), Some(mut lane)) => {
                lane.running = Some(running);
                true
            }
            (Err(error), _) => {
                self.out
                    .log(&slot.key, format_args!("not adopted: {error}"));
                false
            }
            (Ok(_), None) => false,
        }
    }

    fn log_path(&self, (group, resource): &Key) -> PathBuf {
        self.settings
            .log_dir
            .join(format!("{group}.{resource}.log"))
    }
}

impl Running {
    /// Ends it with all it started; whether it had to be killed.
    fn stop(&self, home: &Home, timeout: Duration) -> Result<bool, String> {
        let mut supervised = lock(&self.watched.supervised);
        if supervised.exit().is_some() && home.is_empty() {
            return Ok(false);
        }
        let stopped = supervised
            .stop(timeout)
            .map_err(|error| error.to_string())?;
        // An empty cgroup that stays is used again at the next start.
        let _ = home.clear(Duration::ZERO);
        Ok(stopped.forced)
    }

    /// After its cgroup was killed: takes its exit code, so that no zombie stays.
    pub(super) fn bury(&self, shared: &Shared, limit: Duration) {
        self.hush(shared);
        let _ = lock(&self.watched.supervised).wait(limit);
    }
}
