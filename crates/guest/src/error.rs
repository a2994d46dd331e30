//! What can go wrong with a guest, in words a user can act on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Every error of a guest.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The guests' kernel and programs are not there.
    #[error("test guests are not set up, {0} is missing: run scripts/setup-guests as root")]
    NotSetUp(PathBuf),
    /// A program that a guest was to have.
    #[error("there is no program {0}: install it, or run scripts/setup-guests as root")]
    NoProgram(String),
    /// A module that a guest was to load.
    #[error("the guests' kernel has no module {0:?}")]
    NoModule(String),
    /// A name that would break QEMU's command line or the guest's file names.
    #[error("{0:?} cannot be used for a guest: {1}")]
    BadSpec(String, &'static str),
    /// QEMU could not be started, or ended.
    #[error("guest {guest} {problem}{console}")]
    Ended {
        /// Which one.
        guest: String,
        /// What happened, read after the name.
        problem: String,
        /// The end of the kernel's console, if it said anything.
        console: String,
    },
    /// No answer in time: the guest is paused, has hung, or the machine is overloaded.
    #[error("guest {guest}: no answer to `{command}` within {limit:?}{console}")]
    NoAnswer {
        /// Which one.
        guest: String,
        /// What was asked.
        command: String,
        /// How long was waited.
        limit: Duration,
        /// The end of the kernel's console, if it said anything.
        console: String,
    },
    /// A command in a guest ended badly.
    #[error("guest {guest}: `{command}` ended with {code}: {said}")]
    Command {
        /// Which one.
        guest: String,
        /// What was run.
        command: String,
        /// Its exit code; 137 if its time was up.
        code: i32,
        /// The end of what it printed.
        said: String,
    },
    /// QEMU refused a request.
    #[error("guest {guest}: QEMU refused {request}: {answer}")]
    Refused {
        /// Which one.
        guest: String,
        /// The QMP command.
        request: String,
        /// What it said.
        answer: String,
    },
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
    /// A system call or a program of this machine failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// The lab that a guest is part of.
    #[error(transparent)]
    Lab(#[from] hotpair_lab::LabError),
    /// What a program in a guest printed makes no sense.
    #[error("{program} printed what cannot be read: {problem}")]
    BadOutput {
        /// The program.
        program: &'static str,
        /// Why not.
        problem: String,
    },
}

/// Short for results of this crate.
pub type Result<T> = std::result::Result<T, GuestError>;

impl GuestError {
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
