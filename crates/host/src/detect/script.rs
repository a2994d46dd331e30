//! A script says whether the application runs.

use std::time::Duration;

use super::Detected;
use crate::process::{Outcome, Program, run};

/// How much of a script's output is kept for the reason, in bytes.
const OUTPUT_LIMIT: usize = 4 << 10;

/// Runs a program: exit code 0 means running, any other not running.
///
/// Its cgroup is killed when it hangs: it must not be that of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptCheck {
    /// The program.
    pub program: Program,
    /// Limit for the whole check.
    pub timeout: Duration,
}

impl ScriptCheck {
    /// Does the check.
    pub fn check(&self) -> Detected {
        let run = run(&self.program, self.timeout, OUTPUT_LIMIT);
        let text = run.text();
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        let said = last.map_or(String::new(), |line| format!(", it said: {}", line.trim()));
        let name = self.program.argv.first().map_or("", String::as_str);
        match run.outcome {
            Outcome::Exit(0) => Detected::Running,
            Outcome::Exit(code) => {
                Detected::NotRunning(format!("{name} ended with exit code {code}{said}"))
            }
            Outcome::TimedOut => Detected::Failed(format!(
                "{name} did not end within {} ms{said}",
                self.timeout.as_millis()
            )),
            Outcome::Signal(signal) => {
                Detected::Failed(format!("{name} was killed by signal {signal}{said}"))
            }
            Outcome::Failed(reason) => Detected::Failed(reason),
        }
    }
}
