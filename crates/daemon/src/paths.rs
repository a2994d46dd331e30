//! Where everything lives. Every path can be set, so that several nodes fit on one machine.

use hotpair_core::ids::{GroupId, ResourceId};
use std::path::{Path, PathBuf};

/// Directories of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Files the administrator edits: `/etc/hotpair`.
    pub etc: PathBuf,
    /// What must survive a reboot: `/var/lib/hotpair`.
    pub lib: PathBuf,
    /// What must not: `/run/hotpair`.
    pub run: PathBuf,
    /// Logs: `/var/log/hotpair`.
    pub log: PathBuf,
    /// Where the cgroups of the groups are made; found by itself if not set.
    pub cgroup: Option<PathBuf>,
}

impl Paths {
    /// The usual directories, below `root` if given, each replaced by its environment variable:
    /// `HOTPAIR_ETC`, `HOTPAIR_LIB`, `HOTPAIR_RUN`, `HOTPAIR_LOG`, `HOTPAIR_CGROUP`.
    #[must_use]
    pub fn find(root: Option<&Path>) -> Self {
        let place = |variable: &str, usual: &str| {
            std::env::var_os(variable).map_or_else(
                || match root {
                    Some(root) => root.join(usual.trim_start_matches('/')),
                    None => PathBuf::from(usual),
                },
                PathBuf::from,
            )
        };
        Self {
            etc: place("HOTPAIR_ETC", "/etc/hotpair"),
            lib: place("HOTPAIR_LIB", "/var/lib/hotpair"),
            run: place("HOTPAIR_RUN", "/run/hotpair"),
            log: place("HOTPAIR_LOG", "/var/log/hotpair"),
            cgroup: std::env::var_os("HOTPAIR_CGROUP").map(PathBuf::from),
        }
    }

    /// Socket of the daemon's API.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// Socket of the guard.
    #[must_use]
    pub fn guard_socket(&self) -> PathBuf {
        self.run.join("guard.sock")
    }

    /// Promises of this host boot.
    #[must_use]
    pub fn promises(&self) -> PathBuf {
        self.run.join("promises")
    }

    /// Write gate of a group's mirrors, fed by the guard.
    #[must_use]
    pub fn gate(&self, group: &GroupId) -> PathBuf {
        self.run.join("gates").join(&group.0)
    }

    /// Socket of a mirror's process.
    #[must_use]
    pub fn mirror_socket(&self, (group, resource): &(GroupId, ResourceId)) -> PathBuf {
        self.run
            .join("mirrors")
            .join(format!("{group}.{resource}.sock"))
    }

    /// What a mirror's process keeps beside its disk: snapshots, image files without a place of
    /// their own.
    #[must_use]
    pub fn mirror_directory(&self, (group, resource): &(GroupId, ResourceId)) -> PathBuf {
        self.lib.join("mirrors").join(format!("{group}.{resource}"))
    }

    /// Term, vote and document.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.lib.join("state")
    }

    /// Makes the directories, readable by root only.
    ///
    /// # Errors
    /// One of them cannot be made; the text names it.
    pub fn make(&self) -> Result<(), std::io::Error> {
        use std::os::unix::fs::DirBuilderExt;
        for directory in [&self.etc, &self.lib, &self.run, &self.log] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|error| {
                    let text =
                        format!("cannot make the directory {}: {error}", directory.display());
                    std::io::Error::new(error.kind(), text)
                })?;
        }
        Ok(())
    }
}
