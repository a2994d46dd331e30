//! A pair of hosts in good order has no finding; each thing that can be wrong makes its own one, and no other.

use hotpair_api::facts::{
    Clock, Disk, Host, Kernel, Listener, MountLine, Nic, NicAddress, Path, Program, System, User,
};
use hotpair_check::{Asked, Given, LinkSeen, Severity, findings, html, wanted};
use hotpair_core::config::Cluster;
use std::collections::BTreeSet;
use std::net::IpAddr;

const TEXT: &str = r#"
[cluster]
name = "hospital"

[[node]]
name = "node1"

[[node]]
name = "node2"

[[link]]
name = "lan"
addresses = { node1 = "10.77.1.11", node2 = "10.77.1.12" }

[[link]]
name = "direct"
addresses = { node1 = "10.77.2.11", node2 = "10.77.2.12" }

[witness]
name = "witness"
addresses = ["10.77.1.9"]

[fence.board1]
node = "node1"
agent = "fence_ipmilan"

[group.db]
nodes = ["node1", "node2"]

[group.db.mirror.data]
size = "1GiB"
device = "/dev/disk/by-id/disk-of-the-database"

[group.db.mount.files]
mirror = "data"
path = "/srv/db"
make = true

[group.db.address.ip]
address = "10.77.1.50/24"
nics = ["eth0"]

[group.db.service.server]
command = ["/usr/sbin/mysqld", "--datadir=/srv/db"]
user = "mysql"
directory = "/srv/db"
requires = ["files", "ip"]

[[group.db.service.server.detector]]
tcp = "10.77.1.50:3306"

[group.web]
nodes = ["node1", "node2"]

[group.web.service.server]
command = ["/usr/bin/web"]
directory = "/srv/web"
"#;

fn cluster(text: &str) -> Cluster {
    match hotpair_config::check("test", text, None) {
        Ok(checked) => checked.cluster,
        Err(findings) => panic!("{findings:?}"),
    }
}

fn nic(name: &str, address: &str, mac: u8) -> Nic {
    Nic {
        name: name.into(),
        mac: Some(format!("02:00:00:00:00:{mac:02x}")),
        up: true,
        carrier: true,
        loopback: false,
        addresses: vec![NicAddress {
            address: address.parse().unwrap(),
            prefix: 24,
            permanent: true,
        }],
    }
}

fn healthy(number: u8) -> Host {
    let program = |path: &str| {
        Some(Program {
            path: path.into(),
            size: 1000,
            executable: true,
        })
    };
    Host {
        hotpair: "0.1.0".into(),
        system: System {
            id: Some("debian".into()),
            version: Some("12".into()),
            architecture: "x86_64".into(),
            host_name: format!("host{number}"),
            machine_id: Some(format!("id{number}")),
            time_zone: Some("Asia/Shanghai".into()),
            systemd: true,
            state_free: Some(10 << 30),
            security: Vec::new(),
            apparmor_profiles: vec!["usr.sbin.mysqld".into()],
        },
        kernel: Kernel {
            release: "6.1.0-40-amd64".into(),
            fuse: true,
            loop_devices: true,
            io_uring: true,
            cgroup2: true,
            watchdog: true,
        },
        clock: Clock {
            wall_us: 1_000_000,
            hardware_ahead_s: Some(0),
        },
        nics: vec![
            nic("eth0", &format!("10.77.1.1{number}"), number),
            nic("eth1", &format!("10.77.2.1{number}"), 0x10 + number),
        ],
        default_routes: vec!["eth0".into()],
        listeners: vec![Listener {
            udp: true,
            address: "0.0.0.0".parse().unwrap(),
            port: 14338,
            program: Some("hotpair".into()),
        }],
        programs: [
            ("nft", program("/usr/sbin/nft")),
            ("fence_ipmilan", program("/usr/sbin/fence_ipmilan")),
            ("mkfs.ext4", program("/usr/sbin/mkfs.ext4")),
            ("fsck.ext4", program("/usr/sbin/fsck.ext4")),
            ("/usr/sbin/mysqld", program("/usr/sbin/mysqld")),
            ("/usr/bin/web", program("/usr/bin/web")),
        ]
        .map(|(name, program)| (name.to_owned(), program))
        .into(),
        users: [("mysql".to_owned(), Some(User { uid: 110, gid: 115 }))].into(),
        directories: [
            ("/srv/db".to_owned(), Path::Directory),
            ("/srv/web".to_owned(), Path::Directory),
        ]
        .into(),
        disks: [(
            "/dev/disk/by-id/disk-of-the-database".to_owned(),
            Some(Disk {
                size: 2 << 30,
                block_device: true,
                resolved: "/dev/sdb1".into(),
            }),
        )]
        .into(),
        running: vec!["chronyd".into()],
        boot_units: vec!["hotpair".into()],
        ..Host::default()
    }
}

/// All that is judged, and can be spoilt.
struct Scene {
    text: String,
    hosts: [Result<Host, String>; 2],
    ahead_us: i64,
    links: Vec<LinkSeen>,
    witness: Option<bool>,
}

impl Scene {
    fn healthy() -> Self {
        Self {
            text: TEXT.to_owned(),
            hosts: [Ok(healthy(1)), Ok(healthy(2))],
            ahead_us: 0,
            links: vec![LinkSeen {
                node: "node2".into(),
                link: "lan".into(),
                up: true,
            }],
            witness: Some(true),
        }
    }

    fn host(&mut self) -> &mut Host {
        self.hosts[1].as_mut().unwrap()
    }

    fn report(&self) -> hotpair_check::Report {
        let cluster = cluster(&self.text);
        let asked = |(name, host, ahead): (&str, &Result<Host, String>, i64)| Asked {
            name: name.into(),
            host: host.clone(),
            clock_ahead_us: Some((ahead, 1000)),
        };
        findings(&Given {
            cluster: Some(&cluster),
            hosts: vec![
                asked(("node1", &self.hosts[0], 0)),
                asked(("node2", &self.hosts[1], self.ahead_us)),
            ],
            links: self.links.clone(),
            witness_online: self.witness,
        })
    }
}

#[test]
fn hosts_in_good_order_have_no_finding() {
    let report = Scene::healthy().report();
    assert_eq!(report.findings, []);
    assert_eq!((report.errors, report.warnings), (0, 0));
    assert_eq!(report.hosts, ["node1", "node2"]);
}

#[test]
fn what_is_looked_for_is_what_the_groups_need() {
    let cluster = cluster(TEXT);
    let member = cluster.node_named("node2").unwrap();
    let wanted = wanted(Some(&cluster), Some(member));
    let host = healthy(2);
    assert!(wanted.programs.iter().eq(host.programs.keys()));
    assert!(wanted.users.iter().eq(host.users.keys()));
    assert!(wanted.directories.iter().eq(host.directories.keys()));
    assert!(wanted.disks.iter().eq(host.disks.keys()));
}

type Spoil = fn(&mut Scene);

/// Both links over `eth0` of both nodes; `with` and a digit more are the addresses of the second.
fn second_link_on_eth0(scene: &mut Scene, with: &str) {
    for (number, host) in ["1", "2"].into_iter().zip(scene.hosts.iter_mut().flatten()) {
        let address = format!("{with}{number}");
        scene.text = scene.text.replace(&format!("10.77.2.1{number}"), &address);
        host.nics[1].addresses.clear();
        let moved = nic("", &address, 0).addresses;
        host.nics[0].addresses.extend(moved);
        host.default_routes.clear();
    }
}

const DISK: &str = "/dev/disk/by-id/disk-of-the-database";

fn mount(source: &str, point: &str) -> MountLine {
    MountLine {
        source: source.into(),
        point: point.into(),
        manual: false,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Every rule, and what makes it speak.
const CASES: &[(&str, Severity, Spoil)] = &[
    ("node-not-reached", Severity::Error, |s| {
        s.hosts[1] = Err("no answer within 10 s".into());
    }),
    ("host-name-unset", Severity::Warning, |s| {
        s.host().system.host_name = "localhost".into()
    }),
    ("state-disk-full", Severity::Error, |s| {
        s.host().system.state_free = Some(1 << 20)
    }),
    ("hotpair-differs", Severity::Warning, |s| {
        s.host().hotpair = "0.0.9".into()
    }),
    ("architecture-differs", Severity::Error, |s| {
        s.host().system.architecture = "aarch64".into()
    }),
    ("system-differs", Severity::Warning, |s| {
        s.host().system.version = Some("13".into())
    }),
    ("time-zone-differs", Severity::Advice, |s| {
        s.host().system.time_zone = Some("Etc/UTC".into())
    }),
    ("host-name-same", Severity::Error, |s| {
        s.host().system.host_name = "host1".into()
    }),
    ("machine-id-same", Severity::Warning, |s| {
        s.host().system.machine_id = Some("id1".into())
    }),
    ("mac-same", Severity::Error, |s| {
        s.host().nics[1].mac = Some("02:00:00:00:00:01".into());
    }),
    ("clock-differs", Severity::Warning, |s| {
        s.ahead_us = -5_000_000
    }),
    ("clock-differs", Severity::Error, |s| {
        s.ahead_us = 3_600_000_000
    }),
    ("hardware-clock", Severity::Warning, |s| {
        s.host().clock.hardware_ahead_s = Some(28_800)
    }),
    ("hardware-clock", Severity::Warning, |s| {
        s.host().clock.hardware_ahead_s = Some(-77)
    }),
    ("clock-not-kept", Severity::Advice, |s| {
        s.host().running.clear()
    }),
    ("nics-in-one-subnet", Severity::Warning, |s| {
        s.host().nics.push(nic("eth2", "10.77.2.99", 0x22));
    }),
    ("link-down", Severity::Error, |s| s.links[0].up = false),
    ("link-address-missing", Severity::Error, |s| {
        s.host().nics[1].addresses[0].address = ip("10.77.2.77");
    }),
    ("address-not-static", Severity::Warning, |s| {
        s.host().nics[1].addresses[0].permanent = false
    }),
    ("link-no-carrier", Severity::Error, |s| {
        s.host().nics[1].carrier = false
    }),
    ("link-routed", Severity::Advice, |s| {
        s.text = TEXT.replace("10.77.2.12", "10.77.3.12");
        s.host().nics[1].addresses[0].address = ip("10.77.3.12");
    }),
    ("links-in-one-subnet", Severity::Warning, |s| {
        second_link_on_eth0(s, "10.77.1.21");
    }),
    ("links-on-one-nic", Severity::Warning, |s| {
        second_link_on_eth0(s, "10.77.2.1");
    }),
    ("nic-missing", Severity::Error, |s| {
        s.text = TEXT.replace("[\"eth0\"]", "[\"eth0\", \"eth7\"]")
    }),
    ("nic-no-carrier", Severity::Warning, |s| {
        // Its subnet has the virtual address in it, but is not the one of `eth0`.
        let mut other = nic("eth2", "10.77.1.66", 0x22);
        other.addresses[0].prefix = 25;
        other.carrier = false;
        s.host().nics.push(other);
        s.text = TEXT.replace(
            "nics = [\"eth0\"]",
            "nics = { node1 = [\"eth0\"], node2 = [\"eth2\"] }",
        );
    }),
    ("address-outside-subnet", Severity::Warning, |s| {
        s.text = TEXT.replace(
            "nics = [\"eth0\"]",
            "nics = { node1 = [\"eth0\"], node2 = [\"eth1\"] }",
        );
    }),
    ("address-set-by-hand", Severity::Error, |s| {
        s.host().nics[0].addresses.push(NicAddress {
            address: ip("10.77.1.50"),
            prefix: 24,
            permanent: true,
        });
    }),
    ("one-link", Severity::Warning, |s| {
        let at = TEXT.find("[[link]]\nname = \"direct\"").unwrap();
        let end = TEXT.find("[witness]").unwrap();
        s.text.replace_range(at..end, "");
        s.hosts
            .iter_mut()
            .flatten()
            .for_each(|host| host.default_routes.clear());
    }),
    ("no-private-link", Severity::Warning, |s| {
        s.host().default_routes.push("eth1".into())
    }),
    ("no-witness", Severity::Warning, |s| {
        s.text = TEXT.replace(
            "[witness]\nname = \"witness\"\naddresses = [\"10.77.1.9\"]\n",
            "",
        );
        s.witness = None;
    }),
    ("witness-not-reached", Severity::Error, |s| {
        s.witness = Some(false)
    }),
    ("witness-on-a-node", Severity::Error, |s| {
        s.host().nics[0].addresses.push(NicAddress {
            address: ip("10.77.1.9"),
            prefix: 24,
            permanent: true,
        });
    }),
    ("firewalld", Severity::Warning, |s| {
        s.host().firewall.firewalld = true
    }),
    ("ufw", Severity::Warning, |s| s.host().firewall.ufw = true),
    ("nftables-drop", Severity::Warning, |s| {
        s.host()
            .firewall
            .dropping_chains
            .push("filter/input".into());
    }),
    ("selinux", Severity::Advice, |s| {
        s.host().system.security.push("selinux".into())
    }),
    ("kysec", Severity::Warning, |s| {
        s.host().system.security.push("kysec".into())
    }),
    ("apparmor", Severity::Warning, |s| {
        s.host().system.security.push("apparmor".into())
    }),
    ("other-cluster-software", Severity::Error, |s| {
        s.host().running.push("keepalived".into())
    }),
    ("not-started-at-boot", Severity::Warning, |s| {
        s.host().boot_units.clear()
    }),
    ("kernel-too-old", Severity::Error, |s| {
        s.host().kernel.release = "4.19.90-52.ky10".into()
    }),
    ("no-cgroup2", Severity::Error, |s| {
        s.host().kernel.cgroup2 = false
    }),
    ("no-kernel-module", Severity::Error, |s| {
        s.host().kernel.fuse = false
    }),
    ("no-kernel-module", Severity::Error, |s| {
        s.host().kernel.loop_devices = false
    }),
    ("no-io-uring", Severity::Error, |s| {
        s.host().kernel.io_uring = false
    }),
    ("no-watchdog", Severity::Advice, |s| {
        s.host().kernel.watchdog = false
    }),
    ("program-missing", Severity::Error, |s| {
        s.host().programs.insert("/usr/bin/web".into(), None);
    }),
    ("fence-agent-missing", Severity::Error, |s| {
        s.host().programs.insert("fence_ipmilan".into(), None);
    }),
    ("program-not-executable", Severity::Error, |s| {
        let program = s.host().programs.get_mut("/usr/bin/web").unwrap();
        program.as_mut().unwrap().executable = false;
    }),
    ("program-differs", Severity::Warning, |s| {
        let program = s.host().programs.get_mut("/usr/sbin/mysqld").unwrap();
        program.as_mut().unwrap().size = 1001;
    }),
    ("started-at-boot", Severity::Error, |s| {
        s.host().boot_units.push("mariadb".into())
    }),
    ("user-missing", Severity::Error, |s| {
        s.host().users.insert("mysql".into(), None);
    }),
    ("user-differs", Severity::Error, |s| {
        s.host()
            .users
            .insert("mysql".into(), Some(User { uid: 111, gid: 115 }));
    }),
    ("directory-missing", Severity::Error, |s| {
        s.host()
            .directories
            .insert("/srv/web".into(), Path::Missing);
    }),
    ("mount-point-no-directory", Severity::Error, |s| {
        s.host().directories.insert("/srv/db".into(), Path::Other);
    }),
    ("disk-missing", Severity::Error, |s| {
        s.host().disks.insert(DISK.into(), None);
    }),
    ("disk-too-small", Severity::Error, |s| {
        s.host().disks.get_mut(DISK).unwrap().as_mut().unwrap().size = 1 << 30;
    }),
    ("disk-name-unstable", Severity::Warning, |s| {
        s.text = TEXT.replace(DISK, "/dev/sdb1");
        for host in s.hosts.iter_mut().flatten() {
            let disk = host.disks.remove(DISK).unwrap();
            host.disks.insert("/dev/sdb1".into(), disk);
        }
    }),
    ("disk-mounted", Severity::Error, |s| {
        s.host().mounted.push(mount("/dev/sdb1", "/mnt"))
    }),
    ("disk-in-fstab", Severity::Error, |s| {
        s.host().fstab.push(mount(DISK, "/mnt"))
    }),
    ("mount-in-fstab", Severity::Error, |s| {
        s.host().fstab.push(mount("UUID=1", "/srv/db/"))
    }),
    ("port-taken", Severity::Error, |s| {
        s.host().listeners[0].program = Some("other".into())
    }),
    ("listens-on-own-address", Severity::Warning, |s| {
        s.host().listeners.push(Listener {
            udp: false,
            address: ip("10.77.1.12"),
            port: 3306,
            program: Some("mysqld".into()),
        });
    }),
];

#[test]
fn each_fault_makes_its_own_finding_and_no_other() {
    for (id, severity, spoil) in CASES {
        let mut scene = Scene::healthy();
        spoil(&mut scene);
        let report = scene.report();
        let ids: BTreeSet<_> = report.findings.iter().map(|one| one.id).collect();
        assert_eq!(ids, [*id].into(), "{id}: {:#?}", report.findings);
        let found = report.findings.iter().find(|one| one.id == *id).unwrap();
        assert_eq!(found.severity, *severity, "{found:?}");
        assert!(
            found.message.len() > 15 && found.help.len() > 5,
            "{found:?}"
        );
    }
}

#[test]
fn every_rule_has_a_case_and_stands_in_the_documentation() {
    let cases: BTreeSet<&str> = CASES.iter().map(|(id, ..)| *id).collect();
    let text = include_str!("../../../docs/check.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<&str> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(documented, cases);
    let rules = [
        include_str!("../src/rules/hosts.rs"),
        include_str!("../src/rules/network.rs"),
        include_str!("../src/rules/system.rs"),
        include_str!("../src/rules/groups.rs"),
    ];
    // A rule's name is the first thing in the call that makes its finding.
    let calls = rules
        .into_iter()
        .flat_map(|text| text.split("out.").skip(1));
    let made: BTreeSet<&str> = calls
        .filter(|call| {
            ["error(", "warning(", "advice("]
                .iter()
                .any(|kind| call.starts_with(kind))
        })
        .filter_map(|call| call.split('"').nth(1))
        .collect();
    assert_eq!(made, cases);
}

#[test]
fn what_cannot_be_found_out_is_no_finding() {
    let mut scene = Scene::healthy();
    for host in scene.hosts.iter_mut().flatten() {
        *host = Host {
            nics: host.nics.clone(),
            system: System {
                architecture: "x86_64".into(),
                host_name: host.system.host_name.clone(),
                ..System::default()
            },
            kernel: host.kernel.clone(),
            running: vec!["chronyd".into()],
            ..Host::default()
        };
        host.kernel.release = "unknown".into();
    }
    assert_eq!(scene.report().findings, []);
}

#[test]
fn without_a_cluster_the_host_alone_is_judged() {
    let mut host = healthy(1);
    host.boot_units.clear();
    let given = |host| Given {
        hosts: vec![Asked {
            name: "here".into(),
            host: Ok(host),
            clock_ahead_us: None,
        }],
        ..Given::default()
    };
    assert_eq!(findings(&given(host.clone())).findings, []);
    host.kernel.cgroup2 = false;
    let report = findings(&given(host));
    assert_eq!(report.findings[0].id, "no-cgroup2");
}

#[test]
fn errors_come_first_and_the_page_holds_no_foreign_markup() {
    let mut scene = Scene::healthy();
    scene.host().kernel.watchdog = false;
    scene.host().system.host_name = "localhost".into();
    scene.hosts[0] = Err("<script>alert(1)</script> & \"more\"".into());
    let report = scene.report();
    let severities: Vec<_> = report.findings.iter().map(|one| one.severity).collect();
    assert!(severities.is_sorted(), "{severities:?}");
    let page = html(&report, "<b>", "2026-11-26");
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script"));
    assert!(page.contains("hotpair check: &lt;b&gt;"));
    for finding in &report.findings {
        assert!(page.contains(finding.id));
    }
}
