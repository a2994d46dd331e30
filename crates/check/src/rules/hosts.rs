//! Hosts beside each other: are they alike, and are they two?

use super::{CLUSTER, Given, Out, spread};

/// Clocks further apart than this: logs of both nodes cannot be read together.
const CLOCK_WARN_US: i64 = 1_000_000;
/// Certificates, Kerberos and databases begin to fail.
const CLOCK_ERROR_US: i64 = 60_000_000;
/// Free bytes below which state and logs are in danger.
const STATE_FREE: u64 = 100 << 20;
/// The hardware clock has whole seconds, and drifts.
const HARDWARE_WARN_S: i64 = 10;
/// Time zones are multiples of a quarter of an hour.
const ZONE_STEP_S: i64 = 900;

pub(super) fn judge(given: &Given<'_>, out: &mut Out) {
    reached(given, out);
    alike(given, out);
    distinct(given, out);
    clocks(given, out);
    for (name, host) in given.heard() {
        if matches!(host.system.host_name.as_str(), "localhost" | "" | "(none)") {
            out.warning(
                "host-name-unset",
                name,
                "the host has no name of its own".to_owned(),
                "give it one: `hostnamectl set-hostname NAME`",
            );
        }
        if let Some(free) = host.system.state_free.filter(|free| *free < STATE_FREE) {
            out.error(
                "state-disk-full",
                name,
                format!(
                    "only {} MiB are free where hotpair keeps its state: nothing can be agreed once it is full",
                    free >> 20
                ),
                "free some space: `du -xh / | sort -h | tail` shows what takes it",
            );
        }
    }
}

fn reached(given: &Given<'_>, out: &mut Out) {
    for asked in &given.hosts {
        if let Err(why) = &asked.host {
            out.error(
                "node-not-reached",
                &asked.name,
                format!("nothing was heard of it: {why}"),
                "see with `hotpair status` which links are up, start hotpair there, and check again",
            );
        }
    }
}

fn alike(given: &Given<'_>, out: &mut Out) {
    let versions = given.by_value(|host| Some(host.hotpair.clone()));
    if versions.len() > 1 {
        out.warning(
            "hotpair-differs",
            CLUSTER,
            format!("hotpair is {}", spread(&versions)),
            "upgrade the older ones, one node after the other",
        );
    }
    let architectures = given.by_value(|host| Some(host.system.architecture.clone()));
    if architectures.len() > 1 {
        out.error(
            "architecture-differs",
            CLUSTER,
            format!("the machine is {}", spread(&architectures)),
            "databases on one kind of machine cannot read the files of another: use the same for all nodes",
        );
    }
    let systems = given.by_value(|host| {
        let id = host.system.id.clone()?;
        Some(match &host.system.version {
            Some(version) => format!("{id} {version}"),
            None => id,
        })
    });
    if systems.len() > 1 {
        out.warning(
            "system-differs",
            CLUSTER,
            format!("the system is {}", spread(&systems)),
            "install the same system on all nodes: the same service may behave differently after a failover",
        );
    }
    let zones = given.by_value(|host| host.system.time_zone.clone());
    if zones.len() > 1 {
        out.advice(
            "time-zone-differs",
            CLUSTER,
            format!("the time zone is {}", spread(&zones)),
            "`timedatectl set-timezone ZONE` on the one that is wrong: logs and applications use it",
        );
    }
}

fn distinct(given: &Given<'_>, out: &mut Out) {
    for (host_name, nodes) in given.by_value(|host| Some(host.system.host_name.clone())) {
        if nodes.len() > 1 {
            out.error(
                "host-name-same",
                &nodes.join(" and "),
                format!("all have the host name `{host_name}`"),
                "give each its own: `hostnamectl set-hostname NAME`",
            );
        }
    }
    for (_, nodes) in given.by_value(|host| host.system.machine_id.clone()) {
        if nodes.len() > 1 {
            out.warning(
                "machine-id-same",
                &nodes.join(" and "),
                "all have the same machine id: they were cloned".to_owned(),
                "on all but one: `rm /etc/machine-id && systemd-machine-id-setup`, then reboot",
            );
        }
    }
    let mut macs = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for (name, host) in given.heard() {
        for mac in host
            .nics
            .iter()
            .filter(|nic| !nic.loopback)
            .filter_map(|nic| nic.mac.as_deref())
        {
            let nodes = macs.entry(mac).or_default();
            if nodes.last() != Some(&name) {
                nodes.push(name);
            }
        }
    }
    for (mac, nodes) in macs {
        if nodes.len() > 1 && mac != "00:00:00:00:00:00" {
            out.error(
                "mac-same",
                &nodes.join(" and "),
                format!("all have an interface with the hardware address {mac}"),
                "give the virtual machine a hardware address of its own: in one network both lose packets",
            );
        }
    }
}

fn clocks(given: &Given<'_>, out: &mut Out) {
    for asked in &given.hosts {
        let Some((ahead, doubt)) = asked.clock_ahead_us else {
            continue;
        };
        // Only what cannot be the time the question took.
        let sure = ahead.saturating_abs().saturating_sub(doubt);
        let way = if ahead < 0 { "behind" } else { "ahead of" };
        let message = format!(
            "its clock is {:.1} s {way} this node's",
            ahead.unsigned_abs() as f64 / 1e6
        );
        let help = "synchronise all nodes with the same source: `apt install chrony` or your system's like, then `chronyc tracking`";
        if sure > CLOCK_ERROR_US {
            out.error("clock-differs", &asked.name, message, help);
        } else if sure > CLOCK_WARN_US {
            out.warning("clock-differs", &asked.name, message, help);
        }
    }
    for (name, host) in given.heard() {
        if let Some(ahead) = host.clock.hardware_ahead_s
            && ahead.abs() > HARDWARE_WARN_S
        {
            let local_time = (ahead.abs() + 2) % ZONE_STEP_S <= 4;
            let message = if local_time {
                "the hardware clock keeps local time: after a reboot the clock is wrong for a while"
                    .to_owned()
            } else {
                format!(
                    "the hardware clock is {} s away from the system's: after a reboot the clock is wrong",
                    ahead.abs()
                )
            };
            out.warning(
                "hardware-clock",
                name,
                message,
                if local_time {
                    "`timedatectl set-local-rtc 0`"
                } else {
                    "write the clock to the hardware: `hwclock --systohc --utc`"
                },
            );
        }
        let keepers = crate::gather::CLOCK_KEEPERS;
        if !host
            .running
            .iter()
            .any(|known| keepers.contains(&known.as_str()))
        {
            out.advice(
                "clock-not-kept",
                name,
                "nothing that synchronises the clock is running".to_owned(),
                "install chrony, or `timedatectl set-ntp true`; hotpair itself never decides by the clock",
            );
        }
    }
}
