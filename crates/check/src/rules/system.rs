//! What of the system stands in the way: packet filters, security modules, other cluster software.

use super::{Given, Out};
use hotpair_api::facts::Host;
use hotpair_core::config::{Cluster, ResourceKind};
use std::collections::BTreeSet;

/// Oldest kernel that gates, cgroups (`cgroup.kill`) and pidfds all work on.
const OLDEST_KERNEL: (u32, u32) = (5, 14);

pub(super) fn judge(given: &Given<'_>, out: &mut Out) {
    let mirrors = given.cluster.is_some_and(has_mirrors);
    let ports = given.cluster.map(ports).unwrap_or_default();
    for (name, host) in given.heard() {
        filters(name, host, &ports, out);
        security(name, host, out);
        kernel(name, host, mirrors, out);
        for other in crate::gather::CLUSTERS {
            if host.running.iter().any(|known| known == other) {
                out.error(
                    "other-cluster-software",
                    name,
                    format!("`{other}` is running: two programs would fight for the same services"),
                    format!(
                        "`systemctl disable --now {}`, once its groups are hotpair's",
                        unit_of(other)
                    ),
                );
            }
        }
        if given.cluster.is_some()
            && host.system.systemd
            && !host.boot_units.iter().any(|unit| unit == "hotpair")
        {
            out.warning(
                "not-started-at-boot",
                name,
                "hotpair is not started at boot: after a reboot the node does not come back"
                    .to_owned(),
                "`systemctl enable hotpair`",
            );
        }
    }
}

fn unit_of(process: &str) -> &str {
    match process {
        "pacemakerd" => "pacemaker",
        other => other,
    }
}

fn has_mirrors(cluster: &Cluster) -> bool {
    let resources = cluster
        .groups
        .values()
        .flat_map(|group| group.resources.values());
    resources
        .into_iter()
        .any(|resource| matches!(resource.kind, ResourceKind::Mirror(_)))
}

/// Ports that other nodes call: `14338/udp` and the like.
fn ports(cluster: &Cluster) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for address in cluster
        .links
        .iter()
        .flat_map(|link| link.addresses.values())
    {
        out.insert(format!("{}/udp", address.port()));
        out.insert(format!("{}/tcp", address.port()));
    }
    for group in cluster.groups.values() {
        for resource in group.resources.values() {
            if let ResourceKind::Mirror(mirror) = &resource.kind {
                out.insert(format!("{}/tcp", mirror.port));
            }
        }
    }
    out
}

fn filters(name: &str, host: &Host, ports: &BTreeSet<String>, out: &mut Out) {
    let list = ports
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let what = if list.is_empty() {
        "the ports of hotpair (14338/udp and 14338/tcp unless set otherwise)".to_owned()
    } else {
        list
    };
    let each = |command: &str| {
        let commands: Vec<_> = ports
            .iter()
            .map(|port| command.replace("PORT", port))
            .collect();
        if commands.is_empty() {
            command.replace("PORT", "14338/udp")
        } else {
            commands.join(" && ")
        }
    };
    if host.firewall.firewalld {
        out.warning(
            "firewalld",
            name,
            format!("firewalld is running: it must let {what} through"),
            format!(
                "`{} && firewall-cmd --reload`",
                each("firewall-cmd --permanent --add-port=PORT")
            ),
        );
    }
    if host.firewall.ufw {
        out.warning(
            "ufw",
            name,
            format!("ufw is on: it must let {what} through"),
            format!("`{}`", each("ufw allow PORT")),
        );
    }
    // Those two have chains of their own, named above.
    let known = host.firewall.firewalld || host.firewall.ufw;
    for chain in host.firewall.dropping_chains.iter().filter(|_| !known) {
        let (table, chain_name) = chain.split_once('/').unwrap_or((chain, ""));
        let rule = |port: &String| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "udp"));
            format!("nft add rule inet {table} {chain_name} {protocol} dport {number} accept")
        };
        let rules: Vec<_> = ports.iter().map(rule).collect();
        out.warning(
            "nftables-drop",
            name,
            format!(
                "chain `{chain}` of nftables drops what no rule lets in: it must let {what} through"
            ),
            if rules.is_empty() {
                "add rules for them".to_owned()
            } else {
                format!(
                    "`{}`, and write it to /etc/nftables.conf",
                    rules.join(" && ")
                )
            },
        );
    }
}

fn security(name: &str, host: &Host, out: &mut Out) {
    let on = |module: &str| host.system.security.iter().any(|known| known == module);
    if on("selinux") {
        out.advice(
            "selinux",
            name,
            "SELinux is enforcing: directories on a mirror need the labels the service expects".to_owned(),
            "after the first mount: `restorecon -R PATH`; denials are in `ausearch -m avc -ts recent`",
        );
    }
    if on("kysec") {
        out.warning(
            "kysec",
            name,
            "KYSEC is on: it forbids programs it does not know".to_owned(),
            "allow hotpair: `kysec_set -n exectl -v trusted /usr/bin/hotpair`",
        );
    }
    for program in host.programs.values().flatten() {
        let profile = program.path.trim_start_matches('/').replace('/', ".");
        if on("apparmor") && host.system.apparmor_profiles.contains(&profile) {
            out.warning(
                "apparmor",
                name,
                format!("AppArmor has a profile for {}: it may not read directories outside those it knows", program.path),
                format!("add the data directory to /etc/apparmor.d/local/{profile} and `systemctl reload apparmor`"),
            );
        }
    }
}

fn kernel(name: &str, host: &Host, mirrors: bool, out: &mut Out) {
    let mut numbers = host
        .kernel
        .release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    let version = (
        numbers.next().unwrap_or(u32::MAX),
        numbers.next().unwrap_or(0),
    );
    if version < OLDEST_KERNEL {
        out.error(
            "kernel-too-old",
            name,
            format!(
                "Linux {} is too old: hotpair needs {}.{}",
                host.kernel.release, OLDEST_KERNEL.0, OLDEST_KERNEL.1
            ),
            "install a newer kernel",
        );
    }
    if !host.kernel.cgroup2 {
        out.error(
            "no-cgroup2",
            name,
            "cgroup v2 is mounted nowhere: services could not be killed as a whole".to_owned(),
            "`mount -t cgroup2 none /sys/fs/cgroup/unified`, or start the kernel with systemd.unified_cgroup_hierarchy=1",
        );
    }
    if mirrors {
        let missing = [
            (host.kernel.fuse, "fuse", "modprobe fuse"),
            (host.kernel.loop_devices, "loop", "modprobe loop"),
        ];
        for (_, module, command) in missing.into_iter().filter(|(there, ..)| !there) {
            out.error(
                "no-kernel-module",
                name,
                format!("the kernel has no `{module}`: a mirror cannot be used here"),
                format!("`{command}`, and write `{module}` to /etc/modules-load.d/hotpair.conf"),
            );
        }
        if !host.kernel.io_uring {
            out.error(
                "no-io-uring",
                name,
                "io_uring is forbidden or missing: a mirror cannot be used here".to_owned(),
                "`sysctl kernel.io_uring_disabled=0`, and write it to /etc/sysctl.d/hotpair.conf",
            );
        }
    }
    if !host.kernel.watchdog {
        out.advice(
            "no-watchdog",
            name,
            "there is no /dev/watchdog: a kernel that hangs stays as it is until somebody comes"
                .to_owned(),
            "`modprobe softdog`, or the module of the machine's own watchdog",
        );
    }
}
