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
    ]
}

fn detector() -> impl Strategy<Value = Detector> {
    let three = Just(Duration::from_secs(3));
    let interval = prop_oneof![time(50, 9_999), Just(Duration::from_secs(5)), three];
    let timeout = prop_oneof![time(10, 9_999), three];
    (looks(), interval, timeout, 1u32..1000).prop_map(|(check, interval, timeout, tries)| {
        Detector {
            check,
            interval,
            timeout,
            tries,
        }
    })
}

/// Kinds without addresses; addresses are set by number, so that none stands twice.
fn kind() -> impl Strategy<Value = Option<ResourceKind>> {
    prop_oneof![
        Just(None),
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
        time(100, 200_000),
        prop_oneof![Just(Duration::from_secs(60)), time(100, 200_000)],
        time(100, 200_000),
    )
        .prop_map(
            move |(kind, detectors, start_timeout, stop_timeout, running_within)| {
                let resource = Resource {
                    kind: default.clone(),
                    requires: BTreeSet::new(),
                    detectors,
                    start_timeout,
                    stop_timeout,
                    running_within,
                };
                (kind, resource)
            },
        )
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
        any::<bool>(),
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
            ungated: p.9,
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
        witness in option::of(name()),
        port in prop_oneof![Just(14338u16), 1u16..],
        groups in btree_map(name(), (policies(), btree_map(name(), resource(), 0..4), any::<prop::sample::Index>()), 0..4),
        flapping in (1u32..100, time(1_000, 900_000)),
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
        let links = links.into_iter().enumerate().map(|(number, name)| Link {
            name,
            addresses: nodes.keys().map(|&id| (id, SocketAddr::new(ip(number, id.0), port))).collect(),
        }).collect();
        let mut host = 70;
        let groups = groups.into_iter().map(|(name, (policies, resources, first))| {
            let mut ids: Vec<_> = nodes.keys().copied().collect();
            let turn = first.index(ids.len());
            ids.rotate_left(turn);
            let resources = dressed(resources, &ids, || { host += 1; ip(0, host) });
            (GroupId(name), Group { resources, nodes: ids, ..policies })
        }).collect();
        Cluster {
            name: cluster_name,
            id: ClusterId(id),
            timing,
            witness: witness.map(|name| Witness {
                id: MemberId(200),
                name,
                addresses: vec![SocketAddr::new(ip(0, 250), port), SocketAddr::new(ip(1, 250), 9)],
            }),
            nodes,
            without_witness: WithoutWitness::Wait,
            links,
            groups,
            flapping: Flapping { times: flapping.0, window: flapping.1 },
        }
    }
}

/// Gives each address an address of its own, and lets each resource require the ones before it.
fn dressed(
    resources: Resources,
    nodes: &[MemberId],
    mut next: impl FnMut() -> IpAddr,
) -> BTreeMap<ResourceId, Resource> {
    let mut before = BTreeSet::new();
    let mut all = BTreeMap::new();
    for (number, (name, (kind, mut resource))) in resources.into_iter().enumerate() {
        let own = nodes
            .iter()
            .take(number)
            .map(|&id| (id, vec!["ens3".to_owned()]));
        resource.kind = kind.unwrap_or_else(|| {
            let address = next();
            ResourceKind::Address(Address {
                address,
                prefix: if address.is_ipv4() { 24 } else { 64 },
                nics: vec!["eth0".to_owned(), "eth1".to_owned()],
                nics_on: own.collect(),
                gateway: None,
            })
        });
        let id = ResourceId(name);
        resource.requires = before.clone();
        before.insert(id.clone());
        all.insert(id, resource);
    }
    all
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

const EXAMPLES: [&str; 3] = [
    include_str!("../../../examples/hot-standby.toml"),
    include_str!("../../../examples/mutual-standby.toml"),
    include_str!("../../../examples/three-nodes.toml"),
];
