//! The cluster that is measured: two nodes, a witness, the practice group.

use anyhow::{Context, Result, bail};
use hotpair_api::StatusView;
use hotpair_lab::probe::{ProbeHandle, ProbeOptions};
use hotpair_lab::{Fault, Lab, Plan, Profile, Program, Shape};
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The measured group.
pub const GROUP: &str = "practice";

/// After a fault is healed, everybody is well again within this time, or the run has failed.
const SETTLE: Duration = Duration::from_secs(30);

/// A practice cluster; ended when dropped.
pub struct Bed {
    pub lab: Lab,
    pub profile: Profile,
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.lab.down();
    }
}

impl Bed {
    /// Starts it and lets it fail as often as there are runs: what holds a node out that fails
    /// too often in earnest is set high.
    pub fn up(program: &Program, profile: Profile) -> Result<Self> {
        let shape = Shape {
            profile,
            ..Shape::default()
        };
        let name = format!("bench-{}", std::process::id());
        let lab = Lab::up(program, &name, &Plan::cluster(shape)?)?;
        let bed = Self { lab, profile };
        bed.settled()?;
        bed.reconfigure("node1", |text| {
            text.replace(
                "[group.practice]\n",
                "[flapping]\ntimes = 1000\n\n[group.practice]\nrestarts = 1000\n",
            )
        })?;
        bed.settled()?;
        Ok(bed)
    }

    pub fn fault(&self, host: &str, fault: Fault) -> Result<u64> {
        Ok(self.lab.fault(host, fault)?.at_mono_us)
    }

    /// Runs `hotpair` on a host; what it prints.
    pub fn hotpair(&self, host: &str, words: &[&str]) -> Result<String> {
        let argv = [&["timeout", "30", "hotpair"], words].concat();
        let output = self.lab.exec(host, &argv)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("hotpair {} on {host}: {}", words.join(" "), said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies the present configuration, changed.
    pub fn reconfigure(&self, host: &str, change: impl FnOnce(String) -> String) -> Result<()> {
        self.apply(host, &change(self.hotpair(host, &["config", "show"])?))
    }

    /// Applies a configuration.
    pub fn apply(&self, host: &str, text: &str) -> Result<()> {
        let argv = ["hotpair", "config", "apply", "-"].map(str::to_owned);
        let mut child = self
            .lab
            .command(host, &argv)?
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(text.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("config apply: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    pub fn status(&self, host: &str) -> Result<StatusView> {
        let text = self.hotpair(host, &["status", "--json"])?;
        serde_json::from_str(&text).context("a status that cannot be read")
    }

    /// Waits until every host is there, every group runs, and every node could run it. Gives the
    /// node that runs the measured group, and the other one.
    pub fn settled(&self) -> Result<(&'static str, &'static str)> {
        let end = Instant::now() + SETTLE;
        loop {
            let status = self.status("node1");
            if let Ok(status) = &status
                && well(status)
            {
                let active = status.groups.iter().find(|g| g.name == GROUP);
                let first = active.is_some_and(|g| g.active_on == ["node1"]);
                // A little longer than what a voter whose host restarted keeps silent.
                std::thread::sleep(self.lease() * 2);
                return Ok(if first {
                    ("node1", "node2")
                } else {
                    ("node2", "node1")
                });
            }
            if Instant::now() > end {
                bail!(
                    "the cluster is not well after {} s: {status:?}",
                    SETTLE.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Length of a node lease.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(match self.profile {
            Profile::Fast => 180,
            Profile::Standard => 600,
            Profile::Wan => 6500,
            Profile::Classic => 9600,
        })
    }

    /// Starts the client outside and waits until it is at work.
    pub fn probe(&self, address: Ipv4Addr) -> Result<ProbeHandle> {
        let options = ProbeOptions {
            address,
            ..ProbeOptions::default()
        };
        let probe = self.lab.probe(&options)?;
        std::thread::sleep(Duration::from_millis(200));
        Ok(probe)
    }
}

pub(super) fn well(status: &StatusView) -> bool {
    let running = |g: &hotpair_api::status::GroupView| {
        let here = g.state == "running" && g.active_on.len() == 1;
        here && g.pinned.is_none() && g.nodes.iter().all(|n| n.fit)
    };
    status.leader.is_some()
        && !status.cluster.guarantee_reason.contains("being changed")
        && status.nodes.iter().all(|n| n.state == "online")
        && status.witness.iter().all(|w| w.state == "online")
        && status.groups.iter().all(running)
}
