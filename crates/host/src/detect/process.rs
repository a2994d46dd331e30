//! A process is there.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use super::listen::is_program;
use super::{Detected, bounded, contains};
use crate::process::{pids, stat};

/// How a process is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By its name, or its executable (path or last part).
    Name(String),
    /// By a piece of its command line, words joined by spaces; our own process does not count.
    CommandLine(String),
    /// By the number in a file, and if given also by its name or executable, so that a number left
    /// behind by a crash and given to another process is not taken for it.
    PidFile {
        /// The file.
        path: PathBuf,
        /// Name or executable.
        name: Option<String>,
    },
}

/// Looks for a live process; one stopped by SIGSTOP has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessCheck {
    /// Which process.
    pub target: Target,
    /// Limit for the whole check.
    pub timeout: Duration,
}

impl ProcessCheck {
    /// Does the check.
    pub fn check(&self) -> Detected {
        let target = self.target.clone();
        bounded(self.timeout, move || match &target {
            Target::PidFile { path, name } => by_file(path, name.as_deref()),
            Target::Name(name) => by_scan(&format!("named {name}"), |pid| is_program(pid, name)),
            Target::CommandLine(piece) => {
                by_scan(&format!("with `{piece}` in its command line"), |pid| {
                    has_words(pid, piece)
                })
            }
        })
    }
}

fn by_file(path: &std::path::Path, name: Option<&str>) -> Detected {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Detected::NotRunning(format!("there is no {}", path.display()));
        }
        Err(error) => return Detected::Failed(format!("cannot read {}: {error}", path.display())),
    };
    let Some(pid) = text.trim().parse::<i32>().ok().filter(|pid| *pid > 0) else {
        return Detected::Failed(format!("{} holds no process number", path.display()));
    };
    match state(pid) {
        Some(_) if name.is_some_and(|name| !is_program(pid, name)) => {
            Detected::NotRunning(format!(
                "process {pid} named in {} is not {}",
                path.display(),
                name.unwrap_or_default()
            ))
        }
        Some('T' | 't') => Detected::Failed(format!("process {pid} is stopped by a signal")),
        Some(_) => Detected::Running,
        None => Detected::NotRunning(format!(
            "process {pid} named in {} has ended",
            path.display()
        )),
    }
}

fn by_scan(what: &str, wanted: impl Fn(i32) -> bool) -> Detected {
    let all = match pids() {
        Ok(all) => all,
        Err(error) => return Detected::Failed(format!("cannot list processes: {error}")),
    };
    let mut stopped = None;
    for pid in all.into_iter().filter(|pid| wanted(*pid)) {
        match state(pid) {
            Some('T' | 't') => stopped = Some(pid),
            Some(_) => return Detected::Running,
            None => {}
        }
    }
    match stopped {
        Some(pid) => Detected::Failed(format!("process {pid} {what} is stopped by a signal")),
        None => Detected::NotRunning(format!("there is no process {what}")),
    }
}

/// The state letter of a live process.
fn state(pid: i32) -> Option<char> {
    stat(pid)
        .ok()
        .filter(|stat| !stat.is_dead())
        .map(|stat| stat.state)
}

fn has_words(pid: i32, piece: &str) -> bool {
    if u32::try_from(pid).is_ok_and(|pid| pid == std::process::id()) {
        return false;
    }
    let Ok(mut line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    for byte in &mut line {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    !line.is_empty() && contains(&line, piece.as_bytes())
}
