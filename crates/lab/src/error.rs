//! What can go wrong in the lab, in words a user can act on.

use std::io;
use std::path::PathBuf;

/// Every error of the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The lab makes namespaces, cgroups and interfaces, which takes root.
    #[error(
        "the lab makes namespaces, network interfaces and cgroups and therefore needs root: \
         run it as root, for example with sudo"
    )]
    NotRoot,
    /// A name that cannot be part of paths and interface names.
    #[error(
        "{0:?} cannot be the name of a lab: use 1 to 20 of the characters a-z, 0-9 and '-', starting with a letter or digit"
    )]
    BadName(String),
    /// A number of nodes outside 1 to 16.
    #[error("{0} nodes are not possible: use 1 to 16")]
    BadNodes(usize),
    /// No keeper answers for this lab.
    #[error("lab {0:?} is not running: start it with `hotpair lab up --name {0}`")]
    NotRunning(String),
    /// A keeper already runs under this name.
    #[error(
        "lab {0:?} is already running: look at it with `hotpair lab status --name {0}`, or end it with `hotpair lab down --name {0}`"
    )]
    AlreadyRunning(String),
    /// A host the plan does not have.
    #[error("lab has no host {host:?}: it has {known}")]
    UnknownHost {
        /// The name asked for.
        host: String,
        /// The hosts there are, separated by commas.
        known: String,
    },
    /// A fault that does not exist.
    #[error("there is no fault {fault:?}{suggestion}: known faults are {known}")]
    UnknownFault {
        /// The name asked for.
        fault: String,
        /// `, did you mean …` or nothing.
        suggestion: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A fault got a wrong argument, or none.
    #[error("fault {fault}: {problem}")]
    BadFaultArgument {
        /// The fault's name.
        fault: &'static str,
        /// What is wrong with the argument and what would be right.
        problem: String,
    },
    /// The host is not in a state in which this can be done.
    #[error("host {host} {problem}")]
    HostState {
        /// The host.
        host: String,
        /// What it is and what to do, read after the host's name.
        problem: String,
    },
    /// No unified cgroup hierarchy is mounted.
    #[error(
        "no cgroup2 file system is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup`, or boot with the unified hierarchy"
    )]
    NoCgroup2,
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// A verb: `write`, `read`, `create`.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// A program that the lab ran ended with an error.
    #[error("{program} failed: {output}")]
    Program {
        /// Program and what it was for.
        program: String,
        /// What it printed.
        output: String,
    },
    /// A step of the plan's setup failed on a host.
    #[error("setup on {host}: `{command}` {problem}")]
    Setup {
        /// Where it ran.
        host: String,
        /// The command line.
        command: String,
        /// How it failed.
        problem: String,
    },
    /// The plan contradicts itself.
    #[error("the plan is wrong: {0}")]
    BadPlan(String),
    /// The keeper reported an error of its own.
    #[error("{0}")]
    Keeper(String),
    /// The keeper's answer could not be read.
    #[error(
        "the keeper of the lab sent an answer that cannot be read ({0}): end the lab with `hotpair lab down` and start it again"
    )]
    BadAnswer(String),
}

/// Short for results of the lab.
pub type Result<T> = std::result::Result<T, LabError>;

impl LabError {
    /// A failed system call or library call, with what was tried.
    pub fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            what: what.into(),
            source: source.into(),
        }
    }

    /// A failed file operation, for `map_err`.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
