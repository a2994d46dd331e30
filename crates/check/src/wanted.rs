//! What a configuration needs of a host, to be looked for there.

use hotpair_api::facts::Wanted;
use hotpair_core::config::{Check, Cluster, Environment, FilesystemCheck, Group, ResourceKind};
use hotpair_core::ids::MemberId;
use std::collections::BTreeSet;

/// Of each list at most so many are looked for.
const MAX_WANTED: usize = 1000;

/// What `member` must have for every group it may run, and to fence others. With `None`: what every node must have.
#[must_use]
pub fn wanted(cluster: Option<&Cluster>, member: Option<MemberId>) -> Wanted {
    let mut out = Wanted::default();
    out.programs.insert("nft".to_owned());
    let devices = cluster
        .iter()
        .flat_map(|cluster| cluster.fencing.devices.values());
    out.programs
        .extend(devices.flatten().map(|device| device.agent.clone()));
    for group in cluster.iter().flat_map(|cluster| cluster.groups.values()) {
        if member.is_none_or(|member| group.nodes.contains(&member)) {
            of_group(&mut out, group, member);
        }
    }
    out
}

fn of_group(out: &mut Wanted, group: &Group, member: Option<MemberId>) {
    for resource in group.resources.values() {
        match &resource.kind {
            // Whether an agent is there is a verdict of the node: `hotpair status` shows it.
            ResourceKind::Address(_) | ResourceKind::Ocf(_) => {}
            ResourceKind::Program(program) => {
                let status = program.status.iter();
                for argv in [&program.start, &program.stop].into_iter().chain(status) {
                    command(out, argv, &program.environment);
                }
            }
            ResourceKind::Service(service) => command(out, &service.command, &service.environment),
            ResourceKind::Mirror(mirror) => {
                let place = member.and_then(|member| mirror.copies.get(&member));
                out.disks.extend(place.map(|place| place.device.clone()));
            }
            ResourceKind::Mount(mount) => {
                out.directories.insert(mount.path.clone());
                if mount.make {
                    let maker = hotpair_host::filesystem::maker(&mount.filesystem);
                    out.programs.insert(maker);
                }
                let checker = hotpair_host::filesystem::checker(
                    &mount.filesystem,
                    hotpair_host::filesystem::Policy::Safe,
                );
                if mount.check != FilesystemCheck::Never {
                    out.programs.extend(checker.map(str::to_owned));
                }
            }
        }
        for detector in &resource.detectors {
            if let Check::Script {
                command: argv,
                environment,
            }
            | Check::Monitor {
                command: argv,
                environment,
            } = &detector.check
            {
                command(out, argv, environment);
            }
        }
    }
}

/// A program and what it needs to start.
fn command(out: &mut Wanted, command: &[String], environment: &Environment) {
    out.programs.extend(command.first().cloned());
    out.users.extend(environment.user.clone());
    out.directories.extend(environment.directory.clone());
}

/// No more than [`MAX_WANTED`] of each.
pub(crate) fn bounded(wanted: &Wanted) -> Wanted {
    let first = |set: &BTreeSet<String>| set.iter().take(MAX_WANTED).cloned().collect();
    Wanted {
        programs: first(&wanted.programs),
        users: first(&wanted.users),
        directories: first(&wanted.directories),
        disks: first(&wanted.disks),
    }
}
