//! The cgroups of resources and checks, and programs ready to be started in them.
//!
//! ```text
//! <cgroup_root>/groups/<group>/<resource>        what the resource runs
//! <cgroup_root>/groups/<group>/<resource>/stop   its stop program
//! <cgroup_root>/groups/<group>/<resource>/hook   its hooks, one at a time
//! <cgroup_root>/checks/<group>.<resource>.<n>    its script detectors
//! ```

use super::slot::Key;
use hotpair_core::config::Environment;
use hotpair_core::ids::GroupId;
use hotpair_host::cgroup::{Cgroup, CgroupError};
use hotpair_host::process::{Program, stat};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The cgroup with everything that runs of a group, for the guard to kill.
#[must_use]
pub fn group_cgroup(cgroup_root: &Path, group: &GroupId) -> PathBuf {
    cgroup_root.join("groups").join(&group.0)
}

/// The cgroup of one resource, there or not.
#[derive(Clone, Debug)]
pub(super) struct Home {
    root: PathBuf,
    key: Key,
}

impl Home {
    pub(super) fn of(root: &Path, key: &Key) -> Self {
        Self {
            root: root.to_owned(),
            key: key.clone(),
        }
    }

    /// Makes the cgroup, or takes the one that is there.
    pub(super) fn create(&self) -> Result<Cgroup, CgroupError> {
        let groups = Cgroup::create(&self.root, "groups")?;
        let group = Cgroup::create(groups.path(), &self.key.0.0)?;
        Cgroup::create(group.path(), &self.key.1.0)
    }

    /// The cgroup if it is there.
    pub(super) fn existing(&self) -> Option<Cgroup> {
        let path = group_cgroup(&self.root, &self.key.0).join(&self.key.1.0);
        Cgroup::open(&path).ok()
    }

    /// Does nothing of the resource run any more?
    pub(super) fn is_empty(&self) -> bool {
        self.existing()
            .is_none_or(|cgroup| cgroup.is_empty().unwrap_or(!cgroup.path().exists()))
    }

    /// Kills what is there, without waiting.
    pub(super) fn kill(&self) -> Result<(), String> {
        match self.existing() {
            Some(cgroup) if !cgroup.is_empty().unwrap_or(false) => {
                cgroup.kill().map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Kills what is there, waits for it and removes the cgroup.
    ///
    /// # Errors
    /// Names the processes that are left after `limit`.
    pub(super) fn clear(&self, limit: Duration) -> Result<(), String> {
        clear(self.existing(), limit)
    }

    /// What is left, for people.
    pub(super) fn left(&self, limit: Duration) -> String {
        left(self.existing().as_ref(), limit)
    }

    /// The cgroup the stop program gets, so that its time-out does not kill the resource.
    pub(super) fn for_stop(&self) -> Result<Cgroup, CgroupError> {
        Cgroup::create(self.create()?.path(), "stop")
    }

    /// The cgroup of a hook.
    pub(super) fn for_hook(&self) -> Result<Cgroup, CgroupError> {
        Cgroup::create(self.create()?.path(), "hook")
    }

    fn hook(&self) -> Option<Cgroup> {
        let path = group_cgroup(&self.root, &self.key.0).join(&self.key.1.0);
        Cgroup::open(&path.join("hook")).ok()
    }

    /// Kills a hook that runs, without waiting.
    pub(super) fn kill_hook(&self) {
        if let Some(cgroup) = self.hook() {
            // One that is gone meanwhile needs no kill.
            let _ = cgroup.kill();
        }
    }

    /// Kills what runs of a hook, waits for it and removes its cgroup.
    ///
    /// # Errors
    /// Names the processes that are left after `limit`.
    pub(super) fn clear_hook(&self, limit: Duration) -> Result<(), String> {
        clear(self.hook(), limit)
    }

    /// The cgroup of detector `index`.
    pub(super) fn for_check(&self, index: usize) -> Result<Cgroup, CgroupError> {
        let checks = Cgroup::create(&self.root, "checks")?;
        let name = format!("{}.{}.{index}", self.key.0, self.key.1);
        Cgroup::create(checks.path(), &name)
    }
}

fn clear(cgroup: Option<Cgroup>, limit: Duration) -> Result<(), String> {
    let Some(cgroup) = cgroup else {
        return Ok(());
    };
    if !cgroup.is_empty().unwrap_or(false) {
        let killed = cgroup.kill().and_then(|()| cgroup.wait_empty(limit));
        match killed {
            Ok(true) => {}
            Ok(false) => return Err(left(Some(&cgroup), limit)),
            Err(_) if !cgroup.path().exists() => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
    // An empty cgroup that stays is used again at the next start.
    let _ = cgroup.remove();
    Ok(())
}

fn left(cgroup: Option<&Cgroup>, limit: Duration) -> String {
    let pids = cgroup.and_then(|cgroup| cgroup.procs().ok());
    let named: Vec<String> = pids
        .unwrap_or_default()
        .into_iter()
        .take(5)
        .map(|pid| match stat(pid) {
            Ok(stat) => format!("{} (process {pid}, state {})", stat.comm, stat.state),
            Err(_) => format!("process {pid}"),
        })
        .collect();
    format!(
        "still there {:.1} s after being killed: {}; a process in state D waits for a disk or \
         network file system",
        limit.as_secs_f64(),
        named.join(", ")
    )
}

/// A program in its surroundings.
pub(super) fn program(
    argv: &[String],
    environment: &Environment,
    variables: Vec<(String, String)>,
    cgroup: Option<Cgroup>,
) -> Program {
    let mut env = variables;
    env.extend(environment.variables.clone());
    Program {
        argv: argv.to_vec(),
        env,
        cwd: environment.directory.as_ref().map(PathBuf::from),
        user: environment.user.clone(),
        cgroup,
        input: Vec::new(),
    }
}
