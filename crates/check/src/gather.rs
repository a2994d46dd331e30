//! Looks at the host. Bounded: no list and no file is read without a limit, no program is waited for for ever.

use crate::wanted::bounded;
use hotpair_api::facts::Wanted;
use hotpair_api::facts::{
    ArmedFirewall, Clock, Disk, Host, Kernel, Listener, MountLine, Nic, NicAddress, Path as At,
    Program, System, User,
};
use hotpair_host::filesystem::{self, block_device};
use hotpair_host::net::netlink::Netlink;
use hotpair_host::net::port::{Transport, waiting};
use hotpair_host::process::{self, Account};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Of a file, and of what `nft` prints.
const READ_LIMIT: u64 = 1 << 20;
/// Of every list.
const LIST_LIMIT: usize = 1000;
const NFT_LIMIT: Duration = Duration::from_secs(3);

/// Where programs named without a path are looked for besides `PATH`: not every service has `sbin` in it.
const PATHS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Processes that matter: cluster software that wants the same services, and keepers of the clock.
pub(crate) const CLUSTERS: [&str; 7] = [
    "pacemakerd",
    "corosync",
    "keepalived",
    "heartbeat",
    "cmcld",
    "rosemonitor",
    "lkcheck",
];
pub(crate) const CLOCK_KEEPERS: [&str; 5] =
    ["chronyd", "ntpd", "systemd-timesyn", "openntpd", "ptp4l"];

/// Looks at this host. `version` is that of hotpair, `state` the directory it keeps its state in.
#[must_use]
pub fn gather(wanted: &Wanted, version: &str, state: &Path) -> Host {
    let wanted = bounded(wanted);
    let running = running();
    let named = |names: &[&str]| -> Vec<String> {
        let known = running.iter().filter(|name| names.contains(&name.as_str()));
        known.cloned().collect()
    };
    Host {
        hotpair: version.to_owned(),
        system: system(state),
        kernel: kernel(),
        nics: nics(),
        default_routes: default_routes(),
        firewall: ArmedFirewall {
            firewalld: running.iter().any(|name| name == "firewalld"),
            ufw: text("/etc/ufw/ufw.conf").is_some_and(|conf| {
                conf.lines()
                    .any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes"))
            }),
            dropping_chains: dropping_chains(),
        },
        listeners: listeners(),
        fstab: fstab(),
        mounted: mounted(),
        programs: with(&wanted.programs, program),
        users: with(&wanted.users, user),
        directories: with(&wanted.directories, directory),
        disks: with(&wanted.disks, disk),
        running: [named(&CLUSTERS), named(&CLOCK_KEEPERS)].concat(),
        boot_units: boot_units(),
        // Last: the rest takes time, and the caller compares it with its own clock on the answer.
        clock: clock(),
    }
}

fn with<'a, T>(
    names: impl IntoIterator<Item = &'a String>,
    look: impl Fn(&str) -> T,
) -> BTreeMap<String, T> {
    let names = names.into_iter();
    names.map(|name| (name.clone(), look(name))).collect()
}

/// A file's text, bounded.
fn text(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(READ_LIMIT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn line(path: &str) -> Option<String> {
    let text = text(path)?;
    Some(text.lines().next()?.trim().to_owned()).filter(|line| !line.is_empty())
}

/// Names in a directory, sorted.
fn names(path: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.take(LIST_LIMIT).collect();
    names.sort();
    names
}

fn system(state: &Path) -> System {
    let release = text("/etc/os-release").or_else(|| text("/usr/lib/os-release"));
    let release = release.unwrap_or_default();
    let field = |key: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(key))?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    };
    let uname = rustix::system::uname();
    let first = process::stat(1).map(|stat| stat.comm);
    System {
        id: field("ID="),
        version: field("VERSION_ID="),
        architecture: uname.machine().to_string_lossy().into_owned(),
        host_name: uname.nodename().to_string_lossy().into_owned(),
        machine_id: line("/etc/machine-id"),
        time_zone: fs::read_link("/etc/localtime")
            .ok()
            .map(|to| to.to_string_lossy().into_owned())
            .map(|to| to.rsplit("zoneinfo/").next().unwrap_or_default().to_owned()),
        systemd: first.is_ok_and(|name| name == "systemd"),
        state_free: free(state),
        security: security(),
        apparmor_profiles: names("/etc/apparmor.d"),
    }
}

/// Bytes free for an ordinary program in the filesystem of the path or of the nearest directory above it.
fn free(path: &Path) -> Option<u64> {
    let stat = path
        .ancestors()
        .find_map(|at| rustix::fs::statvfs(at).ok())?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn security() -> Vec<String> {
    let mut found = Vec::new();
    if line("/sys/fs/selinux/enforce").as_deref() == Some("1") {
        found.push("selinux".to_owned());
    }
    if line("/sys/module/apparmor/parameters/enabled").as_deref() == Some("Y") {
        found.push("apparmor".to_owned());
    }
    // Kylin's own, which forbids programs it does not know.
    if Path::new("/sys/kernel/security/kysec").exists() || Path::new("/etc/kysec").exists() {
        found.push("kysec".to_owned());
    }
    found
}

fn kernel() -> Kernel {
    // https://docs.kernel.org/admin-guide/sysctl/kernel.html#io-uring-disabled: 2 is for everybody.
    let forbidden = line("/proc/sys/kernel/io_uring_disabled").as_deref() == Some("2");
    Kernel {
        release: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        fuse: filesystems().iter().any(|name| name == "fuse") || Path::new("/dev/fuse").exists(),
        loop_devices: Path::new("/dev/loop-control").exists(),
        io_uring: !forbidden && release_at_least(5, 11),
        cgroup2: filesystem::mounts()
            .unwrap_or_default()
            .iter()
            .any(|mount| mount.filesystem == "cgroup2"),
        watchdog: Path::new("/dev/watchdog").exists(),
    }
}

fn release_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

fn filesystems() -> Vec<String> {
    let text = text("/proc/filesystems").unwrap_or_default();
    let last = text
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    last.map(str::to_owned).collect()
}

fn clock() -> Clock {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let hardware: Option<i64> =
        line("/sys/class/rtc/rtc0/since_epoch").and_then(|text| text.parse().ok());
    Clock {
        wall_us: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
        hardware_ahead_s: hardware.map(|at| at - i64::try_from(now.as_secs()).unwrap_or(i64::MAX)),
    }
}

fn nics() -> Vec<Nic> {
    let found =
        Netlink::open().and_then(|mut netlink| Ok((netlink.links()?, netlink.addresses()?)));
    let Ok((links, addresses)) = found else {
        return Vec::new();
    };
    let nic = |link: hotpair_host::net::netlink::Link| Nic {
        addresses: addresses
            .iter()
            .filter(|address| address.ifindex == link.index)
            .map(|address| NicAddress {
                address: address.address,
                prefix: address.prefix,
                permanent: address.valid_seconds.is_none(),
            })
            .collect(),
        name: link.name,
        mac: link.mac.map(|mac| mac.to_string()),
        up: link.up,
        carrier: link.carrier,
        loopback: link.loopback,
    };
    links.into_iter().take(LIST_LIMIT).map(nic).collect()
}

/// `/proc/net/route`: destination and mask 0; `/proc/net/ipv6_route`: `::/0` that is no reject route on `lo`.
fn default_routes() -> Vec<String> {
    let v4 = text("/proc/thread-self/net/route").unwrap_or_default();
    let v4 = v4.lines().skip(1).filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let all_zero = *columns.get(1)? == "00000000" && *columns.get(7)? == "00000000";
        all_zero.then(|| columns[0].to_owned())
    });
    let v6 = text("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let v6 = v6.lines().filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let all_zero = columns.first()?.bytes().all(|byte| byte == b'0') && columns[1] == "00";
        let name = *columns.get(9)?;
        (all_zero && name != "lo").then(|| name.to_owned())
    });
    let mut found: Vec<_> = v4.chain(v6).take(LIST_LIMIT).collect();
    found.sort();
    found.dedup();
    found
}

/// What `nft -j list chains` says, if there is `nft`.
fn dropping_chains() -> Vec<String> {
    let run = process::run(
        &process::Program::new(["nft", "-j", "list", "chains"]),
        NFT_LIMIT,
        usize::try_from(READ_LIMIT).unwrap_or(usize::MAX),
    );
    match run.outcome {
        process::Outcome::Exit(0) => chains_in(&run.output),
        _ => Vec::new(),
    }
}

fn chains_in(json: &[u8]) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    let all = value["nftables"].as_array().into_iter().flatten();
    all.filter_map(|entry| entry.get("chain"))
        .filter(|chain| chain["hook"] == "input" && chain["policy"] == "drop")
        .filter_map(|chain| Some((chain["table"].as_str()?, chain["name"].as_str()?)))
        .filter(|(table, _)| !table.starts_with("hotpair"))
        .map(|(table, chain)| format!("{table}/{chain}"))
        .take(LIST_LIMIT)
        .collect()
}

fn listeners() -> Vec<Listener> {
    let found = waiting().into_iter().take(LIST_LIMIT);
    found
        .map(|socket| Listener {
            udp: socket.transport == Transport::Udp,
            address: socket.address,
            port: socket.port,
            program: socket.program,
        })
        .collect()
}

fn fstab() -> Vec<MountLine> {
    lines_of(&text("/etc/fstab").unwrap_or_default())
}

fn lines_of(fstab: &str) -> Vec<MountLine> {
    fstab
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            Some(MountLine {
                source: (*fields.first()?).to_owned(),
                point: (*fields.get(1)?).replace("\\040", " "),
                manual: fields
                    .get(3)
                    .is_some_and(|options| options.split(',').any(|option| option == "noauto")),
            })
        })
        .take(LIST_LIMIT)
        .collect()
}

fn mounted() -> Vec<MountLine> {
    let mounts = filesystem::mounts().unwrap_or_default().into_iter();
    mounts
        .take(LIST_LIMIT)
        .map(|mount| MountLine {
            source: mount.source.to_string_lossy().into_owned(),
            point: mount.point.to_string_lossy().into_owned(),
            manual: false,
        })
        .collect()
}

fn program(name: &str) -> Option<Program> {
    let found = if name.contains('/') {
        PathBuf::from(name)
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain(PATHS.iter().map(PathBuf::from));
        let mut files = places.map(|place| place.join(name));
        files.find(|file| file.is_file())?
    };
    let data = fs::metadata(&found).ok().filter(fs::Metadata::is_file)?;
    Some(Program {
        path: found.to_string_lossy().into_owned(),
        size: data.len(),
        executable: data.permissions().mode() & 0o111 != 0,
    })
}

fn user(name: &str) -> Option<User> {
    let account = Account::find(name).ok()?;
    Some(User {
        uid: account.uid,
        gid: account.gid,
    })
}

fn directory(path: &str) -> At {
    match fs::metadata(path) {
        Ok(data) if data.is_dir() => At::Directory,
        Ok(_) => At::Other,
        Err(_) => At::Missing,
    }
}

fn disk(path: &str) -> Option<Disk> {
    let resolved = filesystem::resolved(Path::new(path));
    let (size, is_block) = match block_device(Path::new(path)) {
        Some((major, minor)) => {
            // In sectors of 512 bytes, whatever the disk's own are.
            let sectors: u64 = line(&format!("/sys/dev/block/{major}:{minor}/size"))?
                .parse()
                .ok()?;
            (sectors.saturating_mul(512), true)
        }
        None => (
            fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len(),
            false,
        ),
    };
    Some(Disk {
        size,
        block_device: is_block,
        resolved: resolved.to_string_lossy().into_owned(),
    })
}

fn running() -> Vec<String> {
    let pids = process::pids().unwrap_or_default();
    let stats = pids.into_iter().filter_map(|pid| process::stat(pid).ok());
    let mut found: Vec<_> = stats
        .filter(|stat| !stat.is_dead())
        .map(|stat| stat.comm)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Services wanted by any target of `/etc/systemd/system`: what `systemctl enable` makes.
fn boot_units() -> Vec<String> {
    units_in(Path::new("/etc/systemd/system"))
}

fn units_in(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for target in names(directory) {
        if target.ends_with(".wants") || target.ends_with(".requires") {
            let units = names(directory.join(target));
            let services = units
                .iter()
                .filter_map(|unit| unit.strip_suffix(".service"));
            found.extend(services.map(str::to_owned));
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn this_host_is_seen_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        fs::write(&image, [0; 8192]).unwrap();
        let (path, image) = (
            directory.path().to_str().unwrap().to_owned(),
            image.to_str().unwrap().to_owned(),
        );
        let set = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let wanted = Wanted {
            programs: set(&["sh", "/no/such/program"]),
            users: set(&["root", "no-such-user-here"]),
            directories: set(&[&path, "/no/such/directory", &image]),
            disks: set(&[&image, "/no/such/disk"]),
        };
        let host = gather(&wanted, "1.2.3", directory.path());
        assert_eq!(host.hotpair, "1.2.3");
        assert!(host.programs["sh"].as_ref().unwrap().executable);
        assert_eq!(host.programs["/no/such/program"], None);
        assert_eq!(host.users["root"], Some(User { uid: 0, gid: 0 }));
        assert_eq!(host.users["no-such-user-here"], None);
        assert_eq!(host.directories[&path], At::Directory);
        assert_eq!(host.directories[&image], At::Other);
        assert_eq!(host.directories["/no/such/directory"], At::Missing);
        assert_eq!(host.disks[&image].as_ref().unwrap().size, 8192);
        assert_eq!(host.disks["/no/such/disk"], None);
        assert!(host.nics.iter().any(|nic| nic.loopback));
        assert!(
            host.listeners
                .iter()
                .any(|one| one.port == port && !one.udp)
        );
        assert!(host.mounted.iter().any(|mount| mount.point == "/"));
        assert!(host.system.state_free.is_some_and(|bytes| bytes > 0));
        assert!(!host.kernel.release.is_empty() && host.clock.wall_us > 0);
    }

    #[test]
    fn chains_that_drop_are_read_and_our_own_are_not() {
        let json = r#"{"nftables":[{"metainfo":{}},
            {"chain":{"family":"inet","table":"filter","name":"input","hook":"input","policy":"drop"}},
            {"chain":{"family":"inet","table":"filter","name":"output","hook":"output","policy":"drop"}},
            {"chain":{"family":"inet","table":"nat","name":"in","hook":"input","policy":"accept"}},
            {"chain":{"family":"inet","table":"hotpair_1","name":"input","hook":"input","policy":"drop"}}]}"#;
        assert_eq!(chains_in(json.as_bytes()), ["filter/input"]);
        for broken in [
            "",
            "{",
            "[]",
            r#"{"nftables":[{"chain":3},{"chain":{"hook":"input"}}]}"#,
        ] {
            assert!(chains_in(broken.as_bytes()).is_empty());
        }
    }

    #[test]
    fn lines_of_fstab_are_read_and_comments_are_not() {
        let lines = lines_of(
            "# a b c d\n/dev/sda1 /data ext4 defaults 0 2\nx\n/dev/sdb /my\\040data xfs noauto,ro 0 0",
        );
        let points: Vec<_> = lines
            .iter()
            .map(|line| (line.point.as_str(), line.manual))
            .collect();
        assert_eq!(points, [("/data", false), ("/my data", true)]);
    }

    #[test]
    fn services_started_at_boot_are_those_a_target_wants() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("multi-user.target.wants");
        fs::create_dir(&target).unwrap();
        for name in ["postgresql.service", "x.timer"] {
            fs::write(target.join(name), "").unwrap();
        }
        fs::write(directory.path().join("other.service"), "").unwrap();
        assert_eq!(units_in(directory.path()), ["postgresql"]);
    }
}
