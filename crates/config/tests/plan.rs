//! What a change changes, and a template from facts.

use hotpair_config::{HostFacts, Listening, NicFacts, check, diff, render, template};
use hotpair_core::config::Cluster;

const EXAMPLE: &str = include_str!("../../../examples/hot-standby.toml");

fn cluster(text: &str, base: Option<&Cluster>) -> Cluster {
    match check("test", text, base) {
        Ok(checked) => checked.cluster,
        Err(findings) => panic!("{}", render(&findings, "test", text, false)),
    }
}

/// Changes of the example when `from` is replaced by `to`, in words.
fn changes(from: &str, to: &str) -> Vec<String> {
    assert!(EXAMPLE.contains(from), "{from}");
    let old = cluster(EXAMPLE, None);
    let new = cluster(&EXAMPLE.replace(from, to), Some(&old));
    diff(&old, &new).iter().map(ToString::to_string).collect()
}

#[test]
fn sees_no_change_where_there_is_none() {
    assert_eq!(
        changes("name = \"ward3\"", "name = \"ward3\" # the same"),
        [""; 0]
    );
}

#[test]
fn a_changed_command_restarts_the_service() {
    let said = changes("\"8080\"]", "\"8081\"]");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("group.web.service.site: command: ["),
        "{said:?}"
    );
    assert!(said[0].ends_with(" (restarts web/site)"), "{said:?}");
}

#[test]
fn a_changed_address_restarts_what_requires_it() {
    assert_eq!(
        changes("10.77.1.100/24", "10.77.1.101/24"),
        [
            "group.web.address.ip: address: \"10.77.1.100/24\" -> \"10.77.1.101/24\" (restarts web/ip, web/site)"
        ]
    );
}

#[test]
fn a_changed_timing_touches_nothing() {
    assert_eq!(
        changes("profile = \"standard\"", "profile = \"fast\""),
        ["cluster: profile: default -> \"fast\""]
    );
}

#[test]
fn a_changed_detector_touches_nothing() {
    assert_eq!(
        changes("url = \"http://10.77.1.100:8080/\"", "tcp = 8080"),
        [
            "group.web.service.site.detector 1: tcp: default -> 8080",
            "group.web.service.site.detector 1: url: \"http://10.77.1.100:8080/\" -> default"
        ]
    );
}

#[test]
fn a_removed_group_stops_its_resources() {
    let old = cluster(EXAMPLE, None);
    let text = EXAMPLE.split("[group.web]").next().unwrap();
    let new = cluster(text, Some(&old));
    let said: Vec<_> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "group.web: removed",
            "group.web.address.ip: removed (stops web/ip)",
            "group.web.service.site: removed (stops web/site)",
            "group.web.service.site.detector 1: removed"
        ]
    );
}

#[test]
fn a_node_taken_from_a_group_moves_it() {
    let said = changes("nodes = [\"node1\", \"node2\"]", "nodes = [\"node2\"]");
    assert_eq!(
        said,
        ["group.web: nodes: [\"node1\", \"node2\"] -> [\"node2\"] (restarts web/ip, web/site)"]
    );
}

fn host(name: &str, number: u8) -> HostFacts {
    HostFacts {
        hostname: name.to_owned(),
        nics: vec![
            NicFacts {
                name: "lo".to_owned(),
                addresses: vec![("127.0.0.1".parse().unwrap(), 8)],
                carrier: true,
            },
            NicFacts {
                name: "eth0".to_owned(),
                addresses: vec![
                    (format!("10.0.0.{number}").parse().unwrap(), 24),
                    (format!("fe80::{number}").parse().unwrap(), 64),
                ],
                carrier: true,
            },
        ],
        listening: vec![Listening {
            program: "evil\n[x]\u{1b}".to_owned(),
            udp: false,
            address: None,
            port: 80,
        }],
    }
}

#[test]
fn a_template_is_accepted_as_it_is() {
    let strange = HostFacts {
        hostname: "Ünïcode Host\n".to_owned(),
        ..HostFacts::default()
    };
    for hosts in [
        vec![],
        vec![host("Web-1.example.org", 1)],
        vec![host("a", 1), host("a", 2), host("b", 3)],
        vec![host("a", 1), strange],
        vec![host("a", 1); 100],
    ] {
        let text = template(&hosts);
        if let Err(found) = check("template", &text, None) {
            panic!("{}{text}", render(&found, "template", &text, false));
        }
    }
}

#[test]
fn the_mirror_that_a_template_suggests_is_accepted() {
    let text = template(&[host("a", 1), host("b", 2)]);
    let (_, from) = text.split_once("# [group.web.mirror.data]").unwrap();
    let (mirror, _) = from.split_once("make = true").unwrap();
    let mirror = mirror.replace("\n# ", "\n").replace("\n#\n", "\n");
    let text = format!(
        "{text}\n[group.web]\nnodes = [\"a\", \"b\"]\n[group.web.mirror.data]{mirror}make = true\n"
    );
    if let Err(found) = check("template", &text, None) {
        panic!("{}{text}", render(&found, "template", &text, false));
    }
}

#[test]
fn a_template_names_what_was_found() {
    let text = template(&[host("Web-1.example.org", 1), host("web2", 2)]);
    assert!(text.contains("name = \"web-1\""), "{text}");
    assert!(
        text.contains("addresses = { web-1 = \"10.0.0.1\", web2 = \"10.0.0.2\" }"),
        "{text}"
    );
    assert!(text.contains("# tcp = 80"), "{text}");
    assert!(!text.contains("fe80::1\""), "{text}");
}
