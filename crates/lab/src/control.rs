//! Requests to the keeper and its answers: one JSON object a line over `control.sock`.

use crate::error::{LabError, Result};
use crate::fault::Fault;
use crate::init::Boot;
use crate::paths::Paths;
use crate::plan::{HostPlan, Service};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Longest request or answer, in bytes; a status of 18 hosts has about 20,000.
pub const MAX_LINE: u64 = 1 << 20;

/// What a client asks the keeper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum Request {
    /// Everything about the lab; answered with [`Answer::Status`].
    Status,
    /// A fault at a host; answered with [`Answer::Injected`].
    Fault {
        /// Where.
        host: String,
        /// What.
        fault: Fault,
    },
    /// Undo all faults.
    Heal,
    /// Adds a service to a host's boot, and starts it.
    Start {
        /// The service.
        service: Service,
    },
    /// End the lab.
    Down,
}

/// What the keeper answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// The lab as it is.
    Status(Status),
    /// When the fault happened.
    Injected(Injection),
    /// Done, nothing to tell.
    Done,
    /// Not done.
    Error {
        /// What is wrong and what to do.
        message: String,
    },
}

/// When a fault happened, in microseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Injection {
    /// Right before the first system call of the fault: it did not happen earlier.
    pub at_mono_us: u64,
    /// Right after the last one: it is complete since then at the latest.
    pub done_mono_us: u64,
    /// What was hit, for people.
    pub detail: String,
}

/// A lab as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The keeper's process id.
    pub keeper_pid: u32,
    /// The program that the keeper, process 1 of each host and `hotpair` in the hosts are.
    pub program: PathBuf,
    /// All hosts.
    pub hosts: Vec<HostStatus>,
}

/// A host as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its description.
    #[serde(flatten)]
    pub plan: HostPlan,
    /// `on`, `off` or `paused`.
    pub state: HostState,
    /// Process 1 as seen from outside, if the host is on.
    pub init_pid: Option<i32>,
    /// What it booted with, if it is on.
    pub boot: Option<Boot>,
    /// The host's cgroup.
    pub cgroup: PathBuf,
    /// Its services.
    pub services: Vec<Service>,
    /// Faults at work.
    pub faults: Vec<String>,
}

/// Whether a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// It runs.
    On,
    /// It has no power.
    Off,
    /// It stands still.
    Paused,
}

/// Asks the keeper and waits for its answer, at most 30 s.
pub fn ask(paths: &Paths, request: &Request) -> Result<Answer> {
    let not_running = |_| LabError::NotRunning(paths.name().to_owned());
    let mut stream = UnixStream::connect(paths.control()).map_err(not_running)?;
    let talk = |e| LabError::system("talk to the keeper of the lab", e);
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .map_err(talk)?;
    send(&mut stream, request).map_err(talk)?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE))
        .read_line(&mut line)
        .map_err(talk)?;
    match serde_json::from_str(&line).map_err(|e| LabError::BadAnswer(e.to_string()))? {
        Answer::Error { message } => Err(LabError::Keeper(message)),
        answer => Ok(answer),
    }
}

/// Writes one message and the end of the line.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}
