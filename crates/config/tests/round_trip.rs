//! Any checked cluster, shown, reads back as itself; no text makes the check panic.

use hotpair_config::{any_error, check, render, show};
use hotpair_core::config::*;
use hotpair_core::ids::{ClusterId, GroupId, MemberId, ResourceId};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9_.-]{0,12}"
}

fn time(low_ms: u64, high_ms: u64) -> impl Strategy<Value = Duration> {
    (low_ms..=high_ms).prop_map(Duration::from_millis)
}

/// Any text without a zero character.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

fn command() -> impl Strategy<Value = Vec<String>> {
    ("/[a-z]{1,8}", vec(text(), 0..3)).prop_map(|(program, mut words)| {
        words.insert(0, program);
        words
    })
}

fn environment() -> impl Strategy<Value = Environment> {
    (
        option::of("[a-z][a-z0-9-]{0,8}"),
        option::of(text().prop_map(|path| format!("/{path}"))),
        btree_map("[^=\0]{1,8}", text(), 0..3),
    )
        .prop_map(|(user, directory, variables)| Environment {
            user,
            directory,
            variables,
        })
}

fn looks() -> impl Strategy<Value = Check> {
    let program = || option::of(text());
    prop_oneof![
        (option::of(any::<IpAddr>()), 1u16.., program()).prop_map(|(address, port, program)| {
            Check::Tcp {
                address,
                port,
                program,
            }
        }),
        (1u16.., program()).prop_map(|(port, program)| Check::Udp { port, program }),
        (
            "https?://[a-z0-9.]{1,9}(:80)?/[!-~]{0,9}",
            vec(100u16..600, 1..4),
            program()
        )
            .prop_map(|(url, statuses, contains)| Check::Url {
                url,
                statuses,
                contains,
            }),
        text().prop_filter_map("not empty", |name| (!name.is_empty())
            .then_some(Check::Process { name })),
        (command(), environment()).prop_map(|(command, environment)| Check::Script {
            command,
            environment,
        }),
        sql(),
        any::<[u8; 3]>().prop_map(|[a, b, c]| Check::Ping {
            address: IpAddr::V4(Ipv4Addr::new(10, a, b, c)),
        }),
        ("/[a-z]{1,8}", any::<u64>(), any::<bool>()).prop_map(|(path, free, write)| Check::Disk {
            path,
            write: write || free == 0,
            free,
        }),
        (1u64..).prop_map(|available| Check::Memory { available }),
        (1u32..=10_000_000).prop_map(|most_hundredths| Check::Load { most_hundredths }),
        (command(), environment()).prop_map(|(command, environment)| Check::Monitor {
            command,
            environment,
        }),
    ]
}

fn sql() -> impl Strategy<Value = Check> {
    let engine = prop_oneof![Just(SqlEngine::PostgreSql), Just(SqlEngine::MySql)];
    let word = || option::of("[a-z/][a-z/.-]{0,8}");
    (
        (engine, word(), option::of(1u16..), word(), word()),
        option::of("/[a-z]{1,8}"),
        "[a-zA-Z] ?[!-~]{0,9}",
        option::of("[a-z0-9] ?[!-~]{0,5}"),
        option::of("[a-z][a-z0-9-]{0,8}"),
    )
        .prop_map(
            |((engine, host, port, database, login), password_file, query, answer, user)| {
                Check::Sql(Sql {
                    engine,
                    host,
                    port,
                    database,
                    login,
                    password_file,
                    query,
                    answer,
                    user,
                })
            },
        )
}

fn detector() -> impl Strategy<Value = Detector> {
    let three = Just(Duration::from_secs(3));
    let interval = prop_oneof![time(50, 9_999), Just(Duration::from_secs(5)), three];
    let timeout = prop_oneof![time(10, 9_999), three];
    (looks(), interval, timeout, 1u32..1000, any::<bool>()).prop_map(
        |(check, interval, timeout, tries, of_node)| {
            // A monitor program is always one of the node.
            let of_node = of_node && !matches!(check, Check::Monitor { .. });
            Detector {
                check,
                interval,
                timeout,
                tries,
                of_node,
            }
        },
    )
}

/// A mirror whose nodes, devices and port are set later.
fn mirror() -> impl Strategy<Value = ResourceKind> {
    let device = || ("/[a-z]{1,8}", option::of("/[a-z]{1,8}"));
    let any_mode = prop_oneof![
        Just(MirrorMode::Synchronous),
        Just(MirrorMode::Memory),
        (time(100, 86_400_000), any::<u64>())
            .prop_map(|(lag, bytes)| MirrorMode::Asynchronous { lag, bytes }),
    ];
    (
        256u64..1 << 50,
        any_mode,
        (device(), device(), any::<bool>(), any::<bool>()),
        any::<bool>(),
        option::of(1u64..),
        any::<bool>(),
        0usize..5,
        0usize..4,
    )
        .prop_map(|m| {
            let copies = [m.2.0, m.2.1].into_iter().zip(1..);
            let split_brain = [
                OnSplitBrain::ByHand,
                OnSplitBrain::Younger,
                OnSplitBrain::Older,
                OnSplitBrain::WithChanges,
            ];
            let exports = [Export::Auto, Export::Fuse];
            let copies: BTreeMap<_, _> = copies
                .map(|((device, metadata), node)| (MemberId(node), CopyPlace { device, metadata }))
                .collect();
            ResourceKind::Mirror(Mirror {
                size: m.0 * 4096,
                mode: m.1,
                copies,
                port: 0,
                links: if m.3 {
                    vec!["?".to_owned()]
                } else {
                    Vec::new()
                },
                resync_rate: m.4,
                on_disk_failure: if m.5 {
                    OnDiskFailure::GoOn
                } else {
                    OnDiskFailure::FailOver
                },
                on_split_brain: split_brain[m.6 % split_brain.len()],
                export: exports[m.7 % exports.len()],
                // Which of the two.
                source: MemberId(u8::from(m.2.2)),
            })
        })
}

/// A mount whose mirror is set later.
fn mount() -> impl Strategy<Value = ResourceKind> {
    (
        prop_oneof![Just("ext4".to_owned()), "[a-z][a-z0-9]{0,5}z"],
        btree_set("[a-z_]{1,6}(=[!-+--~]{0,4})?q", 0..3),
        0usize..3,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(filesystem, options, check, make, kill_users)| {
            let checks = [
                FilesystemCheck::Never,
                FilesystemCheck::Safe,
                FilesystemCheck::Full,
            ];
            ResourceKind::Mount(Mount {
                mirror: ResourceId(String::new()),
                path: String::new(),
                filesystem,
                options: options.into_iter().collect(),
                check: checks[check],
                make,
                kill_users,
            })
        })
}

fn ocf() -> impl Strategy<Value = ResourceKind> {
    (
        (
            "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,9}",
            "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,9}",
        ),
        btree_map("[a-z0-9_.-]{1,8}", text(), 0..4),
        prop_oneof![Just(Duration::from_secs(10)), time(1_000, 86_400_000)],
        prop_oneof![Just(Duration::from_secs(20)), time(100, 86_400_000)],
        0u32..=100,
    )
        .prop_map(
            |(name, parameters, interval, monitor_timeout, check_level)| {
                ResourceKind::Ocf(Ocf {
                    provider: name.0,
                    agent: name.1,
                    parameters,
                    interval,
                    monitor_timeout,
                    check_level,
                })
            },
        )
}

/// Kinds without addresses; addresses are set by number, so that none stands twice.
fn kind() -> impl Strategy<Value = Option<ResourceKind>> {
    prop_oneof![
        Just(None),
        mirror().prop_map(Some),
        mount().prop_map(Some),
        ocf().prop_map(Some),
        (command(), command(), option::of(command()), environment()).prop_map(
            |(start, stop, status, environment)| Some(ResourceKind::Program(Program {
                start,
                stop,
                status,
                environment,
            }))
        ),
        (command(), environment()).prop_map(|(command, environment)| Some(ResourceKind::Service(
            Service {
                command,
                environment,
            }
        ))),
    ]
}

fn resource() -> impl Strategy<Value = (Option<ResourceKind>, Resource)> {
    let default = ResourceKind::Service(Service {
        command: vec!["/x".to_owned()],
        environment: Environment::default(),
    });
    (
        kind(),
        vec(detector(), 0..3),
        vec(hook(), 0..3),
        time(100, 200_000),
        prop_oneof![Just(Duration::from_secs(60)), time(100, 200_000)],
        time(100, 200_000),
    )
        .prop_map(
            move |(kind, detectors, hooks, start_timeout, stop_timeout, running_within)| {
                let resource = Resource {
                    kind: default.clone(),
                    requires: BTreeSet::new(),
                    detectors,
                    hooks,
                    start_timeout,
                    stop_timeout,
                    running_within,
                };
                (kind, resource)
            },
        )
}

fn hook() -> impl Strategy<Value = Hook> {
    let moment = prop_oneof![
        Just(HookMoment::BeforeStart),
        Just(HookMoment::AfterStart),
        Just(HookMoment::BeforeStop),
        Just(HookMoment::AfterStop),
        Just(HookMoment::StopFailed),
    ];
    let time = prop_oneof![Just(Duration::from_secs(10)), time(10, 200_000)];
    (moment, command(), environment(), time).prop_map(|(when, command, environment, timeout)| {
        Hook {
            when,
            command,
            environment,
            timeout,
        }
    })
}

fn confirm() -> impl Strategy<Value = Confirm> {
    prop_oneof![
        Just(Confirm::No),
        Just(Confirm::Always),
        time(1_000, 86_400_000).prop_map(Confirm::Within)
    ]
}

fn policies() -> impl Strategy<Value = Group> {
    (
        prop_oneof![Just(StartMode::Automatic), Just(StartMode::Manual)],
        prop_oneof![
            Just(Takeover::ByPriority),
            Just(Takeover::HighestOnly),
            Just(Takeover::Never)
        ],
        prop_oneof![
            Just(Failback::Stay),
            time(0, 86_400_000).prop_map(|delay| Failback::Return { delay })
        ],
        (0u32..1000, time(1_000, 86_400_000)),
        prop_oneof![
            Just(OnStartFailure::NextNode),
            Just(OnStartFailure::Wait),
            (1u32..1000).prop_map(OnStartFailure::Retry)
        ],
        prop_oneof![Just(OnStopFailure::Wait), Just(OnStopFailure::Kill)],
        prop_oneof![
            Just(FinalAction::Nothing),
            Just(FinalAction::StopGroup),
            Just(FinalAction::StopHotpair),
            Just(FinalAction::Reboot)
        ],
        prop_oneof![Just(OnSwitchFailure::GoBack), Just(OnSwitchFailure::Wait)],
        -1000i32..1000,
        (any::<bool>(), confirm()),
    )
        .prop_map(|p| Group {
            resources: BTreeMap::new(),
            nodes: Vec::new(),
            start: p.0,
            takeover: p.1,
            failback: p.2,
            restart: Restart {
                max: p.3.0,
                window: p.3.1,
            },
            on_start_failure: p.4,
            on_stop_failure: p.5,
            final_action: p.6,
            on_switch_failure: p.7,
            priority: p.8,
            ungated: p.9.0,
            fence: false,
            confirm: p.9.1,
            relations: Vec::new(),
        })
}

fn timing() -> impl Strategy<Value = Timing> {
    let any_numbers = (
        5u64..=5_000,
        1u32..1000,
        1u32..1000,
        3u64..50,
        0u64..9999,
        0u64..9999,
    )
        .prop_map(
            |(heartbeat, warn_after, down_after, leases, first, margin)| Timing {
                heartbeat: Duration::from_millis(heartbeat),
                warn_after,
                down_after,
                lease: Duration::from_millis(heartbeat * leases),
                first_start_delay: Duration::from_millis(first),
                ungated_margin: Duration::from_millis(margin),
            },
        );
    prop_oneof![
        Just(Timing::standard()),
        Just(Timing::fast()),
        Just(Timing::wan()),
        Just(Timing::classic()),
        any_numbers,
    ]
}

type Resources = BTreeMap<String, (Option<ResourceKind>, Resource)>;

prop_compose! {
    fn cluster()(
        cluster_name in name(),
        id in any::<u64>(),
        timing in timing(),
        nodes in btree_map(1u8..64, (name(), text()), 1..6),
        links in btree_set(name(), 1..4),
        six in any::<bool>(),
        witness in option::of((name(), option::of(1..=u64::MAX))),
        port in prop_oneof![Just(14338u16), 1u16..],
        groups in btree_map(name(), (policies(), btree_map(name(), resource(), 0..4), any::<prop::sample::Index>(), 0usize..6), 0..4),
        flapping in (1u32..100, time(1_000, 900_000)),
        fence_timeouts in prop::collection::vec((time(1_000, 600_000), 1u8..=9, any::<bool>()), 0..3),
        fence_delay in time(0, 600_000),
    ) -> Cluster {
        let mut used = BTreeSet::new();
        let nodes: BTreeMap<_, _> = nodes.into_iter()
            .filter(|(_, (name, _))| used.insert(name.clone()))
            .map(|(id, (name, description))| (MemberId(id), Node { name, description }))
            .collect();
        let ip = |link: usize, host: u8| -> IpAddr {
            let link = u8::try_from(link).unwrap();
            if six {
                Ipv6Addr::new(0xfd00, link.into(), 0, 0, 0, 0, 0, host.into()).into()
            } else {
                Ipv4Addr::new(10, 0, link, host).into()
            }
        };
        let links: Vec<_> = links.into_iter().enumerate().map(|(number, name)| Link {
            name,
            addresses: nodes.keys().map(|&id| (id, SocketAddr::new(ip(number, id.0), port))).collect(),
        }).collect();
        let devices = fences(&fence_timeouts, *nodes.keys().next().expect("a node"));
        let mut host = 70;
        let mut before = None;
        let groups = groups.into_iter().map(|(name, (policies, resources, first, relation))| {
            let mut ids: Vec<_> = nodes.keys().copied().collect();
            let turn = first.index(ids.len());
            ids.rotate_left(turn);
            let resources = dressed(resources, &ids, &links, || { host += 1; (host, ip(0, host)) });
            let id = GroupId(name);
            let relations = before.take().into_iter().flat_map(|other| related(relation, other)).collect();
            before = Some(id.clone());
            (id, Group { resources, nodes: ids, relations, ..policies })
        }).collect();
        Cluster {
            name: cluster_name,
            id: ClusterId(id),
            timing,
            witness: witness.map(|(name, disk)| Witness {
                id: MemberId(200),
                name,
                addresses: match disk {
                    None => vec![SocketAddr::new(ip(0, 250), port), SocketAddr::new(ip(1, 250), 9)],
                    Some(_) => Vec::new(),
                },
                disk: disk.map(|number| QuorumDisk {
                    path: "/dev/disk/by-id/wwn-0x5".into(),
                    number,
                }),
            }),
            nodes,
            without_witness: WithoutWitness::Wait,
            links,
            groups,
            fencing: Fencing { devices, delay: fence_delay },
            flapping: Flapping { times: flapping.0, window: flapping.1 },
        }
    }
}

/// Devices of one node, in order.
fn fences(drawn: &[(Duration, u8, bool)], node: MemberId) -> BTreeMap<MemberId, Vec<FenceDevice>> {
    let device = |(number, &(timeout, level, off)): (usize, &(Duration, u8, bool))| FenceDevice {
        name: format!("device{number}"),
        level,
        agent: if off { "fence_ipmilan" } else { "/opt/own" }.into(),
        parameters: [("ip".to_owned(), format!("10.9.0.{number}"))].into(),
        secrets: off.then(|| "/etc/hotpair/fence".into()),
        action: if off {
            FenceAction::Off
        } else {
            FenceAction::Reboot
        },
        timeout,
    };
    let mut levels: Vec<_> = drawn.iter().enumerate().map(device).collect();
    levels.sort_by_key(|device| (device.level, device.name.clone()));
    if levels.is_empty() {
        return BTreeMap::new();
    }
    [(node, levels)].into()
}

/// To the group before: one of every sort, or none.
fn related(number: usize, group: GroupId) -> Vec<Relation> {
    let relation = |kind, strength| Relation {
        kind,
        group: group.clone(),
        strength,
    };
    use RelationKind::{After, Apart, With};
    use Strength::{Hard, Preferred};
    match number % 6 {
        0 => vec![relation(With, Hard), relation(After, Hard)],
        1 => vec![relation(With, Preferred)],
        2 => vec![relation(Apart, Hard), relation(After, Preferred)],
        3 => vec![relation(Apart, Preferred)],
        4 => vec![relation(After, Hard)],
        _ => Vec::new(),
    }
}

/// Gives each address an address of its own, each mirror devices and a port, each mount a mirror before
/// it, and lets each resource require the ones before it.
fn dressed(
    resources: Resources,
    nodes: &[MemberId],
    links: &[Link],
    mut next: impl FnMut() -> (u8, IpAddr),
) -> BTreeMap<ResourceId, Resource> {
    let mut before = BTreeSet::new();
    let mut all = BTreeMap::new();
    let mut free = Vec::new();
    for (number, (name, (kind, mut resource))) in resources.into_iter().enumerate() {
        let id = ResourceId(name);
        let own = nodes
            .iter()
            .take(number)
            .map(|&id| (id, vec!["ens3".to_owned()]));
        match kind {
            None => {
                let (_, address) = next();
                resource.kind = ResourceKind::Address(Address {
                    address,
                    prefix: if address.is_ipv4() { 24 } else { 64 },
                    nics: vec!["eth0".to_owned(), "eth1".to_owned()],
                    nics_on: own.collect(),
                    gateway: None,
                });
            }
            Some(ResourceKind::Mirror(mirror)) => {
                if let [one, two, ..] = *nodes {
                    resource.kind = placed(mirror, [one, two], links, next().0);
                    free.push(id.clone());
                }
            }
            Some(ResourceKind::Mount(mut mount)) => {
                if let Some(mirror) = free.pop() {
                    mount.mirror = mirror;
                    mount.path = format!("/srv/{}", next().0);
                    resource.kind = ResourceKind::Mount(mount);
                }
            }
            Some(other) => resource.kind = other,
        }
        resource.requires = before.clone();
        before.insert(id.clone());
        all.insert(id, resource);
    }
    all
}

fn placed(mut mirror: Mirror, nodes: [MemberId; 2], links: &[Link], number: u8) -> ResourceKind {
    let used = links
        .first()
        .and_then(|link| link.addresses.values().next());
    let free = (20_000 + u16::from(number)..).step_by(100);
    mirror.port = free
        .into_iter()
        .find(|port| Some(*port) != used.map(SocketAddr::port))
        .unwrap();
    mirror.source = nodes[usize::from(mirror.source.0).min(1)];
    let copies = std::mem::take(&mut mirror.copies).into_values();
    let own = |path: String| format!("/d{number}{path}");
    mirror.copies = nodes
        .into_iter()
        .zip(copies)
        .map(|(node, copy)| {
            let metadata = copy.metadata.map(|path| own(format!("/m{path}")));
            (
                node,
                CopyPlace {
                    device: own(copy.device),
                    metadata,
                },
            )
        })
        .collect();
    if !mirror.links.is_empty() {
        mirror.links = links.iter().rev().map(|link| link.name.clone()).collect();
    }
    ResourceKind::Mirror(mirror)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn shown_reads_back_as_the_same_cluster(cluster in cluster()) {
        let shown = show(&cluster);
        match check("shown", &shown, Some(&cluster)) {
            Ok(checked) => prop_assert_eq!(checked.cluster, cluster, "{}", shown),
            Err(findings) => {
                // The only rule a made-up cluster may break: one command in two groups.
                let other = findings.iter().find(|f| {
                    f.severity == hotpair_config::Severity::Error
                        && !f.message.contains("share a resource")
                });
                prop_assert!(other.is_none(), "{}{shown}", render(&findings, "shown", &shown, false));
            }
        }
    }

    #[test]
    fn survives_any_text(text in any::<String>()) {
        if let Err(findings) = check("any", &text, None) {
            prop_assert!(any_error(&findings));
            let _ = render(&findings, "any", &text, true);
        }
    }

    #[test]
    fn survives_a_damaged_configuration(
        which in 0..EXAMPLES.len(),
        cuts in vec((any::<prop::sample::Index>(), 0usize..30, "[\\[\\]{}=\".,0-9a-z\n/ üé-]{0,6}"), 1..6),
    ) {
        let mut text: Vec<char> = EXAMPLES[which].chars().collect();
        for (at, length, put) in cuts {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        match check("damaged", &text, None) {
            Ok(checked) => {
                let shown = show(&checked.cluster);
                let again = check("shown", &shown, None);
                prop_assert_eq!(again.map(|c| c.cluster), Ok(checked.cluster));
            }
            Err(findings) => {
                prop_assert!(any_error(&findings));
                let _ = render(&findings, "damaged", &text, false);
            }
        }
    }
}

const EXAMPLES: [&str; 5] = [
    include_str!("../../../examples/hot-standby.toml"),
    include_str!("../../../examples/mutual-standby.toml"),
    include_str!("../../../examples/three-nodes.toml"),
    include_str!("../../../examples/postgresql-on-mirror.toml"),
    include_str!("../../../examples/directory-mirror.toml"),
];
