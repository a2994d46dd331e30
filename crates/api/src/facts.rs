//! What `hotpair check` looks for on a host, and what is found there.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is to be looked for on one host. Of each list the first thousand: a call of another node must not keep
/// this one busy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Programs by path, or by name as looked for in `PATH`.
    pub programs: BTreeSet<String>,
    pub users: BTreeSet<String>,
    /// Directories programs are started in, and mount points.
    pub directories: BTreeSet<String>,
    /// Block devices and image files of copies.
    pub disks: BTreeSet<String>,
}

/// Everything found on a host. What cannot be found out is `None` or missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Version of hotpair that looked.
    pub hotpair: String,
    pub system: System,
    pub kernel: Kernel,
    pub clock: Clock,
    pub nics: Vec<Nic>,
    /// Interfaces that a default route goes through.
    pub default_routes: Vec<String>,
    /// What filters packets, as far as it is in force.
    pub firewall: ArmedFirewall,
    /// Sockets that wait for callers: TCP listening, UDP bound.
    pub listeners: Vec<Listener>,
    /// Lines of `/etc/fstab`.
    pub fstab: Vec<MountLine>,
    pub mounted: Vec<MountLine>,
    pub programs: BTreeMap<String, Option<Program>>,
    pub users: BTreeMap<String, Option<User>>,
    pub directories: BTreeMap<String, Path>,
    pub disks: BTreeMap<String, Option<Disk>>,
    /// Names of running processes that were looked for: other cluster software, clock synchronisation.
    pub running: Vec<String>,
    /// systemd units started at boot, without `.service`.
    pub boot_units: Vec<String>,
}

/// The installed system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// `ID` and `VERSION_ID` of `/etc/os-release`.
    pub id: Option<String>,
    pub version: Option<String>,
    pub architecture: String,
    pub host_name: String,
    pub machine_id: Option<String>,
    /// Name of the time zone, or the target of `/etc/localtime`.
    pub time_zone: Option<String>,
    /// systemd is the first process.
    pub systemd: bool,
    /// Bytes free where hotpair keeps its state.
    pub state_free: Option<u64>,
    /// Security modules that are in force, as `selinux`, `apparmor`, `kysec`.
    pub security: Vec<String>,
    /// Profiles of AppArmor, names of the files.
    pub apparmor_profiles: Vec<String>,
}

/// What the running kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    pub fuse: bool,
    pub loop_devices: bool,
    /// Not forbidden by `kernel.io_uring_disabled`, and known to the kernel.
    pub io_uring: bool,
    /// cgroup v2 is mounted somewhere.
    pub cgroup2: bool,
    pub watchdog: bool,
}

/// The wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Microseconds since 1970 when the facts were gathered.
    pub wall_us: i64,
    /// Seconds the hardware clock is ahead of it.
    pub hardware_ahead_s: Option<i64>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    pub name: String,
    pub mac: Option<String>,
    pub up: bool,
    pub carrier: bool,
    pub loopback: bool,
    pub addresses: Vec<NicAddress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicAddress {
    pub address: IpAddr,
    pub prefix: u8,
    /// It never expires: not from DHCP, router advertisements or hotpair.
    pub permanent: bool,
}

/// Packet filters other than hotpair's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmedFirewall {
    pub firewalld: bool,
    pub ufw: bool,
    /// Chains of nftables that drop what comes in unless a rule lets it through, `TABLE/CHAIN`.
    pub dropping_chains: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub udp: bool,
    pub address: IpAddr,
    pub port: u16,
    /// Name of a process that has it.
    pub program: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountLine {
    pub source: String,
    pub point: String,
    /// `noauto` in `fstab`.
    pub manual: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub path: String,
    /// Of the file, in bytes: another size is another build.
    pub size: u64,
    pub executable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    Missing,
    Directory,
    Other,
}

/// A block device or image file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// In bytes.
    pub size: u64,
    pub block_device: bool,
    /// Where symbolic links lead.
    pub resolved: String,
}
