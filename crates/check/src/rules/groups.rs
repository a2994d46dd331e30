//! What the groups need: programs, users, directories, disks, ports.

use super::{CLUSTER, Given, Out, spread};
use crate::wanted::wanted;
use hotpair_api::facts::{Host, Path};
use hotpair_core::config::{Check, Cluster, Group, Mirror, Mount, ResourceKind};
use hotpair_core::ids::MemberId;
use hotpair_volume::store::disk_for;

/// Programs, and the units that Debian, Red Hat and SUSE start them by.
const UNITS: [(&str, &[&str]); 10] = [
    ("postgres", &["postgresql"]),
    ("pg_ctl", &["postgresql"]),
    ("mariadbd", &["mariadb", "mysql", "mysqld"]),
    ("mysqld", &["mysql", "mysqld", "mariadb"]),
    ("nginx", &["nginx"]),
    ("apache2", &["apache2"]),
    ("httpd", &["httpd"]),
    ("redis-server", &["redis-server", "redis"]),
    ("smbd", &["smbd", "smb"]),
    ("named", &["named", "bind9"]),
];

pub(super) fn judge(given: &Given<'_>, out: &mut Out) {
    let Some(cluster) = given.cluster else { return };
    for (member, node) in &cluster.nodes {
        let Some(host) = given.host(&node.name) else {
            continue;
        };
        let here = Here {
            cluster,
            member: *member,
            name: &node.name,
            host,
        };
        here.programs(out);
        here.users(out);
        here.ports(out);
        for (id, group) in &cluster.groups {
            if group.nodes.contains(member) {
                here.group(&id.0, group, out);
            }
        }
    }
    builds(given, out);
    accounts(given, out);
}

/// One node.
struct Here<'a> {
    cluster: &'a Cluster,
    member: MemberId,
    name: &'a str,
    host: &'a Host,
}

impl Here<'_> {
    fn fences_with(&self, agent: &str) -> bool {
        let mut devices = self.cluster.fencing.devices.values().flatten();
        devices.any(|device| device.agent == agent)
    }

    fn programs(&self, out: &mut Out) {
        // What is on a group's own volume is there on the active node only.
        let on_volume = |path: &str| self.mounts().any(|(_, mount)| below(path, &mount.path));
        for name in wanted(Some(self.cluster), Some(self.member)).programs {
            match self.host.programs.get(&name) {
                _ if on_volume(&name) => {}
                Some(None) if name == "nft" => {}
                Some(None) if self.fences_with(&name) => out.error(
                    "fence-agent-missing",
                    self.name,
                    format!("`{name}` is not installed: this node cannot fence another one"),
                    "install the package that has it, such as `apt install fence-agents`; then `hotpair fence test`",
                ),
                Some(None) => out.error(
                    "program-missing",
                    self.name,
                    format!("`{name}` is not installed: a group that needs it cannot run here"),
                    "install the package that has it, the same version as on the other nodes",
                ),
                Some(Some(found)) if !found.executable => out.error(
                    "program-not-executable",
                    self.name,
                    format!("{} cannot be run", found.path),
                    format!("`chmod +x {}`", found.path),
                ),
                _ => {}
            }
            let base = name.rsplit('/').next().unwrap_or(&name);
            let units = UNITS.iter().find(|(program, _)| *program == base);
            for unit in units.into_iter().flat_map(|(_, units)| *units) {
                if self.host.boot_units.iter().any(|known| known == unit) {
                    out.error(
                        "started-at-boot",
                        self.name,
                        format!("`{unit}` is started at boot: it would run beside the group, or on both nodes"),
                        format!("`systemctl disable --now {unit}`: hotpair starts it"),
                    );
                }
            }
        }
    }

    fn users(&self, out: &mut Out) {
        for name in wanted(Some(self.cluster), Some(self.member)).users {
            if self.host.users.get(&name) == Some(&None) {
                out.error(
                    "user-missing",
                    self.name,
                    format!("there is no user `{name}`"),
                    format!("create it with the number it has on the other nodes: `useradd --system --uid NUMBER {name}`"),
                );
            }
        }
    }

    fn mounts(&self) -> impl Iterator<Item = (&Group, &Mount)> {
        self.cluster.groups.values().flat_map(|group| {
            group
                .resources
                .values()
                .filter_map(move |resource| match &resource.kind {
                    ResourceKind::Mount(mount) => Some((group, mount)),
                    _ => None,
                })
        })
    }

    fn group(&self, id: &str, group: &Group, out: &mut Out) {
        for (name, resource) in &group.resources {
            let resource_name = format!("{id}/{name}");
            let environment = match &resource.kind {
                ResourceKind::Mirror(mirror) => {
                    self.mirror(&resource_name, mirror, out);
                    None
                }
                ResourceKind::Mount(mount) => {
                    self.mount(&resource_name, mount, out);
                    None
                }
                ResourceKind::Program(program) => Some(&program.environment),
                ResourceKind::Service(service) => Some(&service.environment),
                ResourceKind::Address(_) | ResourceKind::Ocf(_) => None,
            };
            if let Some(directory) = environment.and_then(|of| of.directory.as_deref())
                && !self
                    .mounts()
                    .any(|(_, mount)| below(directory, &mount.path))
                && matches!(
                    self.host.directories.get(directory),
                    Some(Path::Missing | Path::Other)
                )
            {
                out.error(
                    "directory-missing",
                    self.name,
                    format!("{resource_name}: {directory} is no directory here"),
                    format!("`mkdir -p {directory}`, with the owner it has on the other nodes"),
                );
            }
            for detector in &resource.detectors {
                self.own_address(&resource_name, &detector.check, out);
            }
        }
    }

    fn mirror(&self, resource: &str, mirror: &Mirror, out: &mut Out) {
        let Some(place) = mirror.copies.get(&self.member) else {
            return;
        };
        let device = &place.device;
        match self.host.disks.get(device) {
            Some(None) if device.starts_with("/dev/") => out.error(
                "disk-missing",
                self.name,
                format!("{resource}: there is no {device}"),
                "attach the disk, or correct the copy's `device`; `lsblk` shows what there is",
            ),
            Some(Some(disk)) if disk.block_device => {
                let wanted = if place.metadata.is_some() {
                    Ok(mirror.size)
                } else {
                    disk_for(mirror.size)
                };
                if let Ok(wanted) = wanted
                    && disk.size < wanted
                {
                    out.error(
                        "disk-too-small",
                        self.name,
                        format!(
                            "{resource}: {device} has {} bytes, the mirror needs {wanted}",
                            disk.size
                        ),
                        "take a larger one, or give the metadata a file of its own",
                    );
                }
                if renamed_at_will(device) {
                    out.warning(
                        "disk-name-unstable",
                        self.name,
                        format!("{resource}: {device} may be another disk after a reboot"),
                        "name it by identity: `ls -l /dev/disk/by-id`",
                    );
                }
                for mount in &self.host.mounted {
                    if mount.source == disk.resolved || mount.source == *device {
                        out.error(
                            "disk-mounted",
                            self.name,
                            format!("{resource}: {device} is mounted at {} past the mirror: its changes are lost to the other copy", mount.point),
                            format!("`umount {}`", mount.point),
                        );
                    }
                }
            }
            _ => {}
        }
        for line in self.host.fstab.iter().filter(|line| !line.manual) {
            if line.source == *device {
                out.error(
                    "disk-in-fstab",
                    self.name,
                    format!(
                        "{resource}: /etc/fstab mounts {device} at {} past the mirror",
                        line.point
                    ),
                    "take the line out",
                );
            }
        }
    }

    fn mount(&self, resource: &str, mount: &Mount, out: &mut Out) {
        for line in self.host.fstab.iter().filter(|line| !line.manual) {
            if line.point.trim_end_matches('/') == mount.path.trim_end_matches('/') {
                out.error(
                    "mount-in-fstab",
                    self.name,
                    format!(
                        "{resource}: /etc/fstab mounts {} there at boot",
                        line.source
                    ),
                    "take the line out: hotpair mounts it where the group runs",
                );
            }
        }
        if self.host.directories.get(&mount.path) == Some(&Path::Other) {
            out.error(
                "mount-point-no-directory",
                self.name,
                format!("{resource}: {} is no directory", mount.path),
                "move away what is there",
            );
        }
    }

    /// Ports that hotpair's own processes take.
    fn ports(&self, out: &mut Out) {
        let mut ports = Vec::new();
        for link in &self.cluster.links {
            let of_link = link
                .addresses
                .get(&self.member)
                .map(std::net::SocketAddr::port);
            let what = format!("link `{}`", link.name);
            ports.extend(of_link.map(|port| (port, true, what.clone())));
            ports.extend(of_link.map(|port| (port, false, what)));
        }
        for (id, group) in &self.cluster.groups {
            for (name, resource) in &group.resources {
                if let ResourceKind::Mirror(mirror) = &resource.kind
                    && mirror.copies.contains_key(&self.member)
                {
                    ports.push((
                        mirror.port,
                        false,
                        format!("the replication of {id}/{name}"),
                    ));
                }
            }
        }
        for (port, udp, what) in ports {
            let taken = self.host.listeners.iter().find(|one| {
                let ours = one
                    .program
                    .as_deref()
                    .is_none_or(|name| name.starts_with("hotpair") || name.starts_with("hp:"));
                one.port == port && one.udp == udp && !ours
            });
            if let Some(listener) = taken {
                let program = listener.program.as_deref().unwrap_or("somebody");
                let protocol = if udp { "UDP" } else { "TCP" };
                out.error(
                    "port-taken",
                    self.name,
                    format!("{protocol} port {port}, of {what}, is `{program}`'s"),
                    format!("stop `{program}` or give one of them another port"),
                );
            }
        }
    }

    /// A service that listens on the node's own address is not reached by the virtual one.
    fn own_address(&self, resource: &str, check: &Check, out: &mut Out) {
        let (port, udp) = match check {
            Check::Tcp { port, .. } => (*port, false),
            Check::Udp { port, .. } => (*port, true),
            _ => return,
        };
        let fixed = |address| {
            self.host
                .nics
                .iter()
                .filter(|nic| !nic.loopback)
                .flat_map(|nic| &nic.addresses)
                .any(|one| one.address == address && one.permanent)
        };
        let listeners = || {
            let all = self.host.listeners.iter();
            all.filter(|one| one.port == port && one.udp == udp)
        };
        if listeners().next().is_some() && listeners().all(|one| fixed(one.address)) {
            let address = listeners().next().map(|one| one.address.to_string());
            out.warning(
                "listens-on-own-address",
                self.name,
                format!(
                    "{resource}: port {port} is open on {} only, this node's own address: clients of the virtual one do not reach it",
                    address.unwrap_or_default()
                ),
                "let the application listen on all addresses, or on the virtual one",
            );
        }
    }
}

/// Is the path the directory, or inside of it?
fn below(path: &str, directory: &str) -> bool {
    std::path::Path::new(path).starts_with(directory)
}

/// Names that the kernel gives in the order it finds disks.
fn renamed_at_will(device: &str) -> bool {
    let name = device.strip_prefix("/dev/").unwrap_or_default();
    let letters = ["sd", "vd", "hd", "xvd"];
    letters.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    }) || name.starts_with("nvme")
        || name.starts_with("dm-")
}

fn builds(given: &Given<'_>, out: &mut Out) {
    let Some(cluster) = given.cluster else { return };
    for name in wanted(Some(cluster), None).programs {
        let sizes = given.by_value(|host| Some(host.programs.get(&name)?.as_ref()?.size));
        if sizes.len() > 1 && name != "nft" {
            let sizes: Vec<_> = sizes
                .into_iter()
                .map(|(size, hosts)| (format!("{size} bytes"), hosts))
                .collect();
            out.warning(
                "program-differs",
                CLUSTER,
                format!(
                    "`{name}` is not the same program everywhere: {}",
                    spread(&sizes)
                ),
                "install the same version on all nodes: a database may refuse the files of another",
            );
        }
    }
}

fn accounts(given: &Given<'_>, out: &mut Out) {
    let Some(cluster) = given.cluster else { return };
    for name in wanted(Some(cluster), None).users {
        let numbers = given.by_value(|host| {
            let user = (*host.users.get(&name)?)?;
            Some(format!("{}:{}", user.uid, user.gid))
        });
        if numbers.len() > 1 {
            out.error(
                "user-differs",
                CLUSTER,
                format!("user `{name}` has other numbers: {}", spread(&numbers)),
                format!("make them the same before there is data: `usermod --uid NUMBER {name}` and `groupmod --gid NUMBER {name}`; files belong to numbers"),
            );
        }
    }
}
