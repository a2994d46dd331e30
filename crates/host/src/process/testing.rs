//! Real cgroups for tests, removed also when a test panics.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::cgroup::{Cgroup, find_root};

use super::Program;

/// Ample time for anything that is expected to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A cgroup of its own for one test.
pub(crate) struct TestCgroup(pub Cgroup);

impl TestCgroup {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "hotpair-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let root = find_root().expect("these tests need root and a cgroup2 mount");
        Self(Cgroup::create(&root, &name).expect("these tests need to make cgroups"))
    }

    /// A shell script that runs in this cgroup.
    pub(crate) fn script(&self, text: &str) -> Program {
        Program {
            cgroup: Some(self.0.clone()),
            ..Program::new(["/bin/sh", "-c", text])
        }
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = self.0.thaw();
        let _ = self.0.kill();
        let _ = self.0.wait_empty(SOON);
        let _ = self.0.remove();
    }
}
