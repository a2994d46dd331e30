//! Resource agents of the Open Cluster Framework: where they are, how they are called, what their exit
//! codes mean.
//!
//! An agent is a program `<root>/resource.d/<provider>/<name>`. It is called with an action as its only
//! argument and parameters in its environment. Standard: <https://github.com/ClusterLabs/OCF-spec>; the
//! variables beyond it are those that Debian's `resource-agents` 4.12 read.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::Cgroup;
use crate::process::{Outcome, Program, run};

/// Where the standard has the agents.
pub const ROOT: &str = "/usr/lib/ocf";

/// Where agents keep their state while the host is up. Packages have it made at boot; the agents fail
/// without it.
const STATE: &str = "/run/resource-agents";

/// How long an agent may take to print its meta-data. The standard advises 5 s.
const META_DATA_LIMIT: Duration = Duration::from_secs(10);

/// Most providers, and agents of one, that are listed.
const MAX_LISTED: usize = 10_000;

/// Marks the line in which an agent says why it failed.
const REASON: &str = "ocf-exit-reason:";

/// An agent by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Agent {
    pub provider: String,
    pub name: String,
}

/// What an agent is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start,
    Stop,
    Monitor {
        /// Zero: a probe, whether it runs although nobody has started it.
        interval: Duration,
        check_level: u32,
    },
}

/// Everything an agent is told beside the action.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub agent: &'a Agent,
    pub action: Action,
    /// Name of the resource, for the agent's files and messages.
    pub instance: &'a str,
    /// Name of this node.
    pub node: &'a str,
    pub parameters: Vec<(&'a str, &'a str)>,
    pub timeout: Duration,
}

/// Why an agent does not say what it takes.
#[derive(Debug, thiserror::Error)]
pub enum OcfError {
    #[error("{} is not on this node", path.display())]
    Missing { path: PathBuf },
    #[error("{} is not an executable file", path.display())]
    NotExecutable { path: PathBuf },
    #[error("{} did not print its meta-data within {} s", path.display(), META_DATA_LIMIT.as_secs())]
    Slow { path: PathBuf },
    #[error("{} printed {bytes} bytes of meta-data, of which at most {limit} are read", path.display())]
    TooLong {
        path: PathBuf,
        bytes: u64,
        limit: usize,
    },
    #[error("{} ended with {outcome} when it was asked for its meta-data", path.display())]
    Failed { path: PathBuf, outcome: Outcome },
}

impl OcfError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Missing { .. } => {
                "install the package that has it (resource-agents, for ocf:heartbeat), or correct its name; `hotpair agents list` shows those of this node".into()
            }
            Self::NotExecutable { path } => format!("run chmod +x {}", path.display()),
            Self::Slow { path } | Self::TooLong { path, .. } | Self::Failed { path, .. } => {
                format!("run `OCF_ROOT={ROOT} {} meta-data` by hand; reinstall or mend the agent", path.display())
            }
        }
    }
}

impl Agent {
    /// The agent's file below `root`.
    #[must_use]
    pub fn path(&self, root: &Path) -> PathBuf {
        root.join("resource.d")
            .join(&self.provider)
            .join(&self.name)
    }

    /// Can it be called?
    ///
    /// # Errors
    /// [`OcfError::Missing`] or [`OcfError::NotExecutable`].
    pub fn find(&self, root: &Path) -> Result<PathBuf, OcfError> {
        let path = self.path(root);
        match path.metadata() {
            Ok(data) if data.is_file() && data.permissions().mode() & 0o111 != 0 => Ok(path),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(OcfError::Missing { path }),
            _ => Err(OcfError::NotExecutable { path }),
        }
    }

    /// What it prints when asked for its meta-data, `limit` bytes at most; its logging is left out.
    /// Takes up to 10 s; an agent that hangs is killed.
    ///
    /// # Errors
    /// It is not there, fails, hangs or prints without end.
    pub fn meta_data(&self, root: &Path, limit: usize) -> Result<String, OcfError> {
        let path = self.find(root)?;
        // The shell is for the standard error alone, which must not get between the lines of the XML.
        let mut program = Program::new(["/bin/sh", "-c", "exec \"$0\" meta-data 2>/dev/null"]);
        program.argv.push(path.to_string_lossy().into_owned());
        program.env = self.variables(root);
        let run = run(&program, META_DATA_LIMIT, limit);
        match run.outcome {
            Outcome::Exit(0) if run.dropped > 0 => Err(OcfError::TooLong {
                path,
                bytes: run.dropped.saturating_add(run.output.len() as u64),
                limit,
            }),
            Outcome::Exit(0) => Ok(run.text()),
            Outcome::TimedOut => Err(OcfError::Slow { path }),
            outcome => Err(OcfError::Failed { path, outcome }),
        }
    }

    fn variables(&self, root: &Path) -> Vec<(String, String)> {
        [
            ("OCF_ROOT", root.to_string_lossy().into_owned()),
            ("OCF_RA_VERSION_MAJOR", "1".into()),
            ("OCF_RA_VERSION_MINOR", "1".into()),
            ("OCF_RESOURCE_PROVIDER", self.provider.clone()),
            ("OCF_RESOURCE_TYPE", self.name.clone()),
            ("OCF_EXIT_REASON_PREFIX", REASON.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

impl std::fmt::Display for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ocf:{}:{}", self.provider, self.name)
    }
}

/// Every agent below `root`, in the order of their names; none where there is no such directory.
#[must_use]
pub fn list(root: &Path) -> Vec<Agent> {
    let mut agents = Vec::new();
    for provider in names(&root.join("resource.d")) {
        for name in names(&root.join("resource.d").join(&provider)) {
            let provider = provider.clone();
            let agent = Agent { provider, name };
            if agent.find(root).is_ok() {
                agents.push(agent);
            }
        }
    }
    agents
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.take(MAX_LISTED).map(|entry| entry.file_name());
    let mut names: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// Makes the directory that agents keep their state in, as their package does at boot.
///
/// # Errors
/// It cannot be made.
pub fn make_state_directory() -> std::io::Result<()> {
    match fs::create_dir(STATE) {
        Ok(()) => fs::set_permissions(STATE, fs::Permissions::from_mode(0o1755)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

impl Call<'_> {
    /// The program that does it, in `cgroup`. `env` comes first, so that nothing of it hides what the
    /// standard prescribes.
    #[must_use]
    pub fn program(
        &self,
        root: &Path,
        mut env: Vec<(String, String)>,
        cgroup: Option<Cgroup>,
    ) -> Program {
        let path = self.agent.path(root).to_string_lossy().into_owned();
        let (action, interval, level) = match self.action {
            Action::Start => ("start", Duration::ZERO, 0),
            Action::Stop => ("stop", Duration::ZERO, 0),
            Action::Monitor {
                interval,
                check_level,
            } => ("monitor", interval, check_level),
        };
        env.extend(self.agent.variables(root));
        let mut set = |name: &str, value: String| env.push((name.to_owned(), value));
        set("OCF_RESOURCE_INSTANCE", self.instance.to_owned());
        if level > 0 {
            set("OCF_CHECK_LEVEL", level.to_string());
        }
        for (name, value) in &self.parameters {
            set(&format!("OCF_RESKEY_{name}"), (*value).to_owned());
        }
        for (name, value) in [
            ("name", action.to_owned()),
            ("interval", interval.as_millis().to_string()),
            ("timeout", self.timeout.as_millis().to_string()),
            ("on_node", self.node.to_owned()),
            ("on_node_uuid", self.node.to_owned()),
        ] {
            set(&format!("OCF_RESKEY_CRM_meta_{name}"), value);
        }
        set("OCF_RESKEY_crm_feature_set", "3.16.2".to_owned());
        Program {
            argv: vec![path, action.to_owned()],
            env,
            cgroup,
            ..Program::default()
        }
    }
}

/// What an agent's exit code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Done; of a monitor: it runs.
    Success,
    /// It does not run.
    NotRunning,
    /// It could not do it here, and trying again changes nothing.
    Unfit,
    /// It failed.
    Failed,
}

/// Meaning and words of an exit code.
#[must_use]
pub fn meaning(code: i32) -> (Meaning, &'static str) {
    match code {
        // 8: runs in the promoted role.
        0 | 8 => (Meaning::Success, "done"),
        1 => (Meaning::Failed, "failed"),
        2 => (
            Meaning::Unfit,
            "cannot work with its parameters on this node",
        ),
        3 => (Meaning::Unfit, "does not know this action"),
        4 => (Meaning::Unfit, "lacks a permission"),
        5 => (
            Meaning::Unfit,
            "lacks something that must be installed on this node",
        ),
        6 => (Meaning::Unfit, "is not configured correctly"),
        7 => (Meaning::NotRunning, "finds it not running"),
        9 => (Meaning::Failed, "finds it failed in the promoted role"),
        _ => (
            Meaning::Failed,
            "ended with a code that the standard does not know",
        ),
    }
}

/// Why an agent failed, as it said itself: its exit reason, else its last line.
#[must_use]
pub fn reason(output: &str) -> Option<String> {
    let lines = || {
        output
            .lines()
            .rev()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let marked = lines().find_map(|line| line.strip_prefix(REASON));
    let line = marked.or_else(|| lines().next())?.trim();
    (!line.is_empty()).then(|| line.chars().take(200).collect())
}

#[cfg(test)]
mod tests;
