//! Names and places of a lab on the machine.

use crate::error::{LabError, Result};
use std::path::PathBuf;

/// Parent of every lab's volatile state.
pub const RUN_ROOT: &str = "/run/hotpair-lab";

/// Prefix of every lab's cgroup and of its directory on disk.
pub const PREFIX: &str = "hotpair-lab-";

/// The places a lab uses; all of them are gone after `down`.
#[derive(Debug, Clone)]
pub struct Paths {
    name: String,
}

impl Paths {
    /// Checks the name: 1 to 20 of `a-z`, `0-9`, `-`, not starting with `-`.
    pub fn new(name: &str) -> Result<Self> {
        let fits = (1..=20).contains(&name.len())
            && !name.starts_with('-')
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(Self {
                name: name.to_owned(),
            })
        } else {
            Err(LabError::BadName(name.to_owned()))
        }
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `/run/hotpair-lab/NAME`.
    pub fn run(&self) -> PathBuf {
        PathBuf::from(RUN_ROOT).join(&self.name)
    }

    /// Held locked by the keeper as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.run().join("lock")
    }

    /// The keeper's control socket.
    pub fn control(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// What the keeper itself has to say.
    pub fn keeper_log(&self) -> PathBuf {
        self.run().join("keeper.log")
    }

    /// State of one host: `init-pid`, the logs of its services and its private `/etc`.
    pub fn host(&self, host: &str) -> PathBuf {
        self.run().join("hosts").join(host)
    }

    /// Process id of the host's init, present only while the host is powered.
    pub fn init_pid(&self, host: &str) -> PathBuf {
        self.host(host).join("init-pid")
    }

    /// `/var/tmp/hotpair-lab-NAME`: on a real disk, so that a host's fsync is a real one.
    pub fn disk(&self) -> PathBuf {
        PathBuf::from("/var/tmp").join(format!("{PREFIX}{}", self.name))
    }

    /// The lab's own copy of the program.
    pub fn program(&self) -> PathBuf {
        self.disk().join("program")
    }

    /// The host's `/var/lib/hotpair`.
    pub fn host_disk(&self, host: &str) -> PathBuf {
        self.disk().join(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_names_that_leave_the_lab_directory() {
        for name in ["", "..", "a/b", "-a", "A", "abcdefghijklmnopqrstu"] {
            assert!(Paths::new(name).is_err(), "{name:?} was taken");
        }
        assert!(Paths::new("lab-2").is_ok());
    }
}
