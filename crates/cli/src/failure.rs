//! Every error of the command line: its message, its hint, its exit code.

use hotpair_api::client::CallError;
use std::io::ErrorKind;
use std::process::ExitCode;

/// The exit codes, as listed in `docs/cli.md`. 0 is success, 2 comes from the argument parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Refused = 1,
    Usage = 2,
    NotRunning = 3,
    Undecided = 4,
    Findings = 5,
    Unfinished = 6,
}

/// Why a command did not end well.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Code::Refused, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints message and hint to standard error; with `json` one object instead.
    pub fn report(&self, json: bool) -> ExitCode {
        if json {
            let object = serde_json::json!({
                "error": self.message, "hint": self.hint, "code": self.code as u8,
            });
            eprintln!("{object}");
        } else {
            eprintln!("error: {}", self.message);
            if let Some(hint) = &self.hint {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(self.code as u8)
    }
}

const LOOK: &str = "look with `hotpair status` whether it was done";

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::NotRunning { socket, source } => {
                let why = match source.kind() {
                    ErrorKind::NotFound => "no socket".to_owned(),
                    ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
                    _ => source.to_string(),
                };
                let message = format!(
                    "the daemon does not run on this node ({}: {why})",
                    socket.display()
                );
                Self::new(Code::NotRunning, message)
                    .hint("start it with `systemctl start hotpair` or `hotpair daemon`")
            }
            CallError::NotRoot { .. } => Self::refused(text),
            CallError::Closed => Self::new(Code::Undecided, text).hint(LOOK),
            CallError::Broken(source) => match source.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    Self::new(Code::Undecided, "the daemon did not answer in time").hint(LOOK)
                }
                _ => Self::new(Code::Undecided, text).hint(LOOK),
            },
            CallError::Foreign(_) => Self::refused(text),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::refused(format!("cannot be written as JSON: {error}"))
    }
}
