//! What the check says, and where.

use hotpair_config::{Finding, Severity, any_error, check, render};

/// A sound configuration of two nodes, two links, a witness and one group, to be spoilt.
const SOUND: &str = r#"[cluster]
name = "c"

[timing]
warn_after = 2

[[node]]
name = "n1"

[[node]]
name = "n2"

[[link]]
name = "lan"
addresses = { n1 = "10.0.0.1", n2 = "10.0.0.2" }

[[link]]
name = "direct"
addresses = { n1 = "10.0.1.1", n2 = "10.0.1.2" }

[witness]
name = "w"
addresses = ["10.0.0.9"]

[group.g]
nodes = ["n1", "n2"]

[group.g.address.ip]
address = "10.0.0.100/24"
nics = ["eth0"]

[group.g.service.s]
command = ["/bin/s"]
requires = ["ip"]

[[group.g.service.s.detector]]
tcp = 80
"#;

fn findings(text: &str) -> Vec<Finding> {
    match check("test.toml", text, None) {
        Ok(checked) => checked.warnings,
        Err(findings) => findings,
    }
}

/// Replaces `from` (once in SOUND) by `to`, and expects a finding `message` at `line:column`.
#[track_caller]
fn expect(severity: Severity, from: &str, to: &str, line: usize, column: usize, message: &str) {
    assert_eq!(SOUND.matches(from).count(), 1, "{from}");
    let text = SOUND.replace(from, to);
    let found = findings(&text);
    let all = render(&found, "test.toml", &text, false);
    let it = found.iter().find(|f| f.message.contains(message));
    let it = it.unwrap_or_else(|| panic!("no finding says `{message}`:\n{all}"));
    assert_eq!(
        (it.severity, it.line, it.column),
        (severity, line, column),
        "{all}"
    );
    let errors = found
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .count();
    assert_eq!(errors, usize::from(severity == Severity::Error), "{all}");
}

macro_rules! cases {
    ($($name:ident: $severity:ident $from:literal => $to:literal, $line:literal:$column:literal $message:literal;)*) => {$(
        #[test]
        fn $name() {
            expect(Severity::$severity, $from, $to, $line, $column, $message);
        }
    )*};
}

cases! {
    names_an_unknown_key: Error "warn_after = 2" => "warn_aftr = 2", 5:1 "unknown key `warn_aftr` in `timing`";
    names_an_unknown_section: Error "[timing]\nwarn_after = 2" => "[timng]", 4:2 "unknown key `timng` at the top";
    refuses_a_wrong_type: Error "warn_after = 2" => "warn_after = \"2\"", 5:14 "must be a whole number, this is a string";
    refuses_a_number_out_of_range: Error "warn_after = 2" => "heartbeat_ms = 4", 5:16 "`heartbeat_ms` is 4, which is out of range";
    refuses_broken_toml: Error "warn_after = 2" => "warn_after = = 2", 5:14 "not TOML: extra `=`";
    refuses_a_key_twice: Error "warn_after = 2" => "warn_after = 2\nwarn_after = 2", 6:1 "duplicate key";
    refuses_two_nodes_of_one_name: Error "name = \"n2\"" => "name = \"n2\"\n[[node]]\nname = \"n1\"", 13:8 "two nodes named `n1`";
    refuses_two_links_of_one_name: Error "name = \"direct\"" => "name = \"lan\"", 18:8 "two links named `lan`";
    refuses_two_resources_of_one_name: Error "[group.g.service.s]" => "[group.g.service.ip]\ncommand = [\"/bin/t\"]\n[group.g.service.s]", 32:18 "two resources named `ip`";
    refuses_a_name_with_a_slash: Error "name = \"c\"" => "name = \"a/b\"", 2:8 "cannot be the name of a cluster";
    names_a_cycle: Error "nics = [\"eth0\"]" => "nics = [\"eth0\"]\nrequires = [\"s\"]", 31:12 "`ip` requires `s` requires `ip`";
    refuses_to_require_an_unknown_resource: Error "requires = [\"ip\"]" => "requires = [\"pi\"]", 34:13 "no resource `pi` to require";
    refuses_to_require_itself: Error "requires = [\"ip\"]" => "requires = [\"ip\", \"s\"]", 34:19 "`s` requires itself";
    refuses_a_relation_to_an_unknown_group: Error "[group.g]" => "[group.h]\nnodes = [\"n1\", \"n2\"]\nwith = [\"gg\"]\n[group.g]", 27:8 "there is no group `gg`";
    refuses_a_relation_to_itself: Error "[group.g]" => "[group.h]\nnodes = [\"n1\", \"n2\"]\napart = [\"h\"]\n[group.g]", 27:9 "names the group itself";
    refuses_a_relation_twice: Error "[group.g]" => "[group.h]\nnodes = [\"n1\", \"n2\"]\nwith = [\"g\"]\nprefer_apart = [\"g\"]\n[group.g]", 28:16 "names `g` both in `with` and in `prefer_apart`";
    refuses_companions_without_a_common_node: Error "[group.g]" => "[group.h]\nnodes = [\"n1\"]\nwith = [\"g\"]\n[group.i]\nnodes = [\"n2\"]\nwith = [\"h\"]\n[group.g]", 27:8 "no node is in the lists of all of";
    refuses_to_run_apart_and_together: Error "[group.g]" => "[group.h]\nnodes = [\"n1\", \"n2\"]\napart = [\"i\"]\nwith = [\"g\"]\n[group.i]\nnodes = [\"n1\", \"n2\"]\nwith = [\"g\"]\n[group.g]", 27:9 "must run apart, and together";
    refuses_to_follow_two_groups: Error "[group.g]" => "[group.h]\nnodes = [\"n1\", \"n2\"]\nwith = [\"g\", \"i\"]\n[group.i]\nnodes = [\"n1\", \"n2\"]\n[group.g]", 27:8 "must run with more than one group";
    refuses_groups_that_wait_for_each_other: Error "[group.g]" => "[group.h]\nnodes = [\"n1\", \"n2\"]\nwith = [\"i\"]\n[group.i]\nnodes = [\"n1\", \"n2\"]\nprefer_after = [\"h\"]\n[group.g]", 27:8 "groups wait for each other: `h` with `i` after `h`";
    warns_of_groups_apart_on_one_node: Warning "[group.g]" => "[group.h]\nnodes = [\"n1\"]\napart = [\"i\"]\n[group.i]\nnodes = [\"n1\"]\n[group.g]", 27:9 "both have one and the same node";
    refuses_an_unknown_node: Error "nodes = [\"n1\", \"n2\"]" => "nodes = [\"n1\", \"n3\"]", 26:16 "there is no node `n3`";
    refuses_a_group_without_nodes: Error "nodes = [\"n1\", \"n2\"]" => "nodes = []", 26:9 "no node may run this group";
    refuses_an_address_outside_every_subnet: Error "10.0.0.100/24" => "10.9.0.100/24", 29:11 "outside every subnet";
    warns_of_a_foreign_subnet_with_nics_of_each_node: Warning "10.0.0.100/24\"\nnics = [\"eth0\"]" => "10.9.0.100/24\"\nnics = { n1 = [\"a\"], n2 = [\"b\"] }", 29:11 "outside every subnet";
    refuses_a_single_host_prefix: Error "10.0.0.100/24" => "10.0.0.100/32", 29:11 "outside every subnet";
    refuses_an_address_without_prefix: Error "10.0.0.100/24" => "10.0.0.100", 29:11 "has no prefix";
    refuses_the_address_of_a_network: Error "10.0.0.100/24" => "10.0.0.0/24", 29:11 "10.0.0.0 cannot be a virtual address";
    refuses_a_broadcast_address: Error "10.0.0.100/24" => "10.0.0.255/24", 29:11 "10.0.0.255 cannot be a virtual address";
    warns_of_a_foreign_gateway: Warning "nics = [\"eth0\"]" => "nics = [\"eth0\"]\ngateway = \"10.1.0.1\"", 31:11 "not in the network of 10.0.0.100/24";
    refuses_a_gateway_of_another_family: Error "nics = [\"eth0\"]" => "nics = [\"eth0\"]\ngateway = \"fd00::1\"", 31:11 "not of the family";
    refuses_nics_that_leave_a_node_out: Error "nics = [\"eth0\"]" => "nics = { n1 = [\"eth0\"] }", 30:8 "no NIC is given for node `n2`";
    refuses_a_nodes_own_address: Error "10.0.0.100/24" => "10.0.0.2/24", 29:11 "own address of node `n2`";
    refuses_a_link_without_an_address_for_a_node: Error ", n2 = \"10.0.1.2\"" => "", 19:13 "no address for node `n2`";
    refuses_an_address_twice: Error "n2 = \"10.0.1.2\"" => "n2 = \"10.0.0.2\"", 19:37 "10.0.0.2:14338 is the address of";
    refuses_port_zero: Error "n2 = \"10.0.1.2\"" => "n2 = \"10.0.1.2:0\"", 19:37 "cannot be the address of one machine";
    refuses_a_host_name_for_an_address: Error "n2 = \"10.0.1.2\"" => "n2 = \"host\"", 19:37 "`host` is not an address";
    refuses_a_link_of_two_families: Error "n2 = \"10.0.1.2\"" => "n2 = \"fd00::2\"", 19:13 "mixes IPv4 and IPv6";
    refuses_a_lease_below_three_heartbeats: Error "warn_after = 2" => "lease_ms = 299", 5:12 "shorter than three heartbeats";
    advises_down_before_the_lease: Advice "warn_after = 2" => "down_after = 6", 5:14 "not before its lease";
    warns_of_a_late_warning: Warning "warn_after = 2" => "warn_after = 9", 5:14 "comes after the peer is down";
    warns_of_one_link: Warning "[[link]]\nname = \"direct\"\naddresses = { n1 = \"10.0.1.1\", n2 = \"10.0.1.2\" }\n" => "", 13:1 "only heartbeat link";
    warns_of_no_witness: Warning "[witness]\nname = \"w\"\naddresses = [\"10.0.0.9\"]\n" => "", 1:1 "2 nodes and no witness";
    refuses_two_third_votes: Error "addresses = [\"10.0.0.9\"]" => "addresses = [\"10.0.0.9\"]\n[quorum]\nname = \"d\"\ndisk = \"/dev/disk/by-id/d\"\nnumber = \"00000000000000d1\"", 24:1 "[witness] and [quorum] are both given";
    refuses_a_quorum_disk_without_path: Error "[witness]\nname = \"w\"\naddresses = [\"10.0.0.9\"]" => "[quorum]\nname = \"d\"\nnumber = \"00000000000000d1\"", 21:1 "`disk` is missing";
    refuses_a_relative_quorum_disk: Error "[witness]\nname = \"w\"\naddresses = [\"10.0.0.9\"]" => "[quorum]\nname = \"d\"\ndisk = \"sdb\"\nnumber = \"00000000000000d1\"", 23:8 "`sdb` is not the path of a disk";
    refuses_a_number_of_a_quorum_disk: Error "[witness]\nname = \"w\"\naddresses = [\"10.0.0.9\"]" => "[quorum]\nname = \"d\"\ndisk = \"/dev/mapper/q\"\nnumber = \"d1\"", 24:10 "`d1` is not the number of a quorum disk";
    warns_of_a_disk_name_that_changes: Warning "[witness]\nname = \"w\"\naddresses = [\"10.0.0.9\"]" => "[quorum]\nname = \"d\"\ndisk = \"/dev/sdb\"\nnumber = \"00000000000000d1\"", 23:8 "`/dev/sdb` may be another disk after a restart";
    warns_of_a_short_lease_with_a_quorum_disk: Warning "[witness]\nname = \"w\"\naddresses = [\"10.0.0.9\"]" => "[quorum]\nname = \"d\"\ndisk = \"/dev/mapper/q\"\nnumber = \"00000000000000d1\"", 4:1 "the lease of 600 ms is short for a quorum disk";
    warns_of_a_witness_on_a_node: Warning "10.0.0.9" => "10.0.0.1:9", 23:13 "on the machine of node `n1`";
    refuses_an_empty_command: Error "[\"/bin/s\"]" => "[]", 33:11 "empty command";
    refuses_an_open_quote: Error "[\"/bin/s\"]" => "\"/bin/s 'x\"", 33:11 "not closed";
    warns_of_a_program_without_a_path: Warning "[\"/bin/s\"]" => "\"s\"", 33:11 "without a full path";
    refuses_a_hook_of_no_moment: Error "[[group.g.service.s.detector]]" => "[[group.g.service.s.hook]]\ncommand = [\"/bin/h\"]\n[[group.g.service.s.detector]]", 36:1 "`when` is missing";
    refuses_a_hook_of_an_unknown_moment: Error "[[group.g.service.s.detector]]" => "[[group.g.service.s.hook]]\nwhen = \"on_start\"\ncommand = [\"/bin/h\"]\n[[group.g.service.s.detector]]", 37:8 "`when` cannot be \"on_start\"";
    refuses_a_hook_without_a_command: Error "[[group.g.service.s.detector]]" => "[[group.g.service.s.hook]]\nwhen = \"after_stop\"\n[[group.g.service.s.detector]]", 36:1 "`command` is missing";
    refuses_a_hook_with_a_detectors_key: Error "[[group.g.service.s.detector]]" => "[[group.g.service.s.hook]]\nwhen = \"after_stop\"\ncommand = [\"/bin/h\"]\ninterval_s = 1\n[[group.g.service.s.detector]]", 39:1 "interval_s";
    refuses_a_detector_of_somebody_else: Error "tcp = 80" => "tcp = 80\nof = \"peer\"", 38:6 "`of` cannot be \"peer\"";
    refuses_a_monitor_of_the_node: Error "tcp = 80" => "monitor = [\"/bin/m\"]\nof = \"node\"", 38:6 "runs beside the resource";
    refuses_a_detector_of_nothing: Error "tcp = 80" => "tries = 2", 36:1 "looks at nothing";
    refuses_a_detector_of_two_kinds: Error "tcp = 80" => "tcp = 80\nprocess = \"s\"", 38:11 "both `tcp` and `process`";
    refuses_a_key_of_another_detector: Error "tcp = 80" => "tcp = 80\ncontains = \"s\"", 38:12 "does not apply to a `tcp` detector";
    refuses_a_port_out_of_range: Error "tcp = 80" => "tcp = 70000", 37:7 "a port from 1 to 65535";
    refuses_an_unknown_database: Error "tcp = 80" => "sql = \"postgres\"", 37:7 "`sql` cannot be \"postgres\"";
    refuses_a_host_that_is_an_option: Error "tcp = 80" => "sql = \"mysql\"\nhost = \"-x\"", 38:8 "`host` is `-x`";
    refuses_an_answer_of_two_lines: Error "tcp = 80" => "sql = \"mysql\"\nanswer = \"1\\n2\"", 38:10 "must be one line";
    refuses_an_empty_query: Error "tcp = 80" => "sql = \"mysql\"\nquery = \" \"", 38:9 "`query` is empty";
    refuses_a_password_file_without_full_path: Error "tcp = 80" => "sql = \"mysql\"\npassword_file = \"pw\"", 38:17 "not the full path of a file";
    refuses_to_ask_itself: Error "tcp = 80" => "ping = \"127.0.0.1\"", 37:8 "127.0.0.1 tells nothing";
    refuses_a_relative_disk: Error "tcp = 80" => "disk = \"srv\"", 37:8 "not the full path of a directory";
    refuses_a_disk_that_is_not_looked_at: Error "tcp = 80" => "disk = \"/srv\"\nwrite = false", 37:8 "looks at nothing of the disk";
    refuses_a_size_without_unit: Error "tcp = 80" => "disk = \"/srv\"\nfree = \"10\"", 38:8 "`10` has no unit";
    refuses_no_memory: Error "tcp = 80" => "memory = \"0MiB\"", 37:10 "`memory` is nothing";
    refuses_a_load_that_is_no_number: Error "tcp = 80" => "load = nan", 37:8 "`load` must be a number";
    refuses_a_key_of_a_disk_elsewhere: Error "tcp = 80" => "memory = \"1GiB\"\nfree = \"1GiB\"", 38:8 "does not apply to a `memory` detector";
    warns_of_a_program_with_conditions_alone: Warning "[group.g.service.s]\ncommand = [\"/bin/s\"]\nrequires = [\"ip\"]\n\n[[group.g.service.s.detector]]\ntcp = 80" => "[group.g.program.s]\nstart = [\"/bin/s\"]\nstop = [\"/bin/t\"]\n[[group.g.program.s.detector]]\nload = 8", 33:9 "nothing looks whether `s` runs";
    advises_a_timeout_below_the_interval: Advice "tcp = 80" => "tcp = 80\ninterval_s = 1\ntimeout_s = 2.5", 39:13 "a check may take 2.5s";
    refuses_no_time_at_all: Error "tcp = 80" => "tcp = 80\ninterval_s = 0", 38:14 "`interval_s` is 0 s";
    refuses_an_endless_time: Error "tcp = 80" => "tcp = 80\ninterval_s = inf", 38:14 "`interval_s` is inf s";
    refuses_a_time_that_is_no_number: Error "tcp = 80" => "tcp = 80\ninterval_s = nan", 38:14 "`interval_s` is NaN s";
    refuses_a_confirmation_of_a_word: Error "nodes = [\"n1\", \"n2\"]" => "nodes = [\"n1\", \"n2\"]\nconfirm_takeover = \"yes\"", 27:20 "`confirm_takeover` must be true, false or { within_s = SECONDS }";
    refuses_a_confirmation_without_limit: Error "nodes = [\"n1\", \"n2\"]" => "nodes = [\"n1\", \"n2\"]\nconfirm_takeover = {}", 27:20 "`within_s` is missing";
    refuses_a_wrong_word: Error "nodes = [\"n1\", \"n2\"]" => "nodes = [\"n1\", \"n2\"]\ntakeover = \"nevr\"", 27:12 "`takeover` cannot be \"nevr\"";
    refuses_a_zero_character: Error "[\"/bin/s\"]" => "[\"/bin/s\", \"\\u0000\"]", 33:22 "zero character";
    counts_columns_in_characters: Error "addresses = { n1 = \"10.0.1.1\", n2 = \"10.0.1.2\" }" => "addresses = { \"主\" = \"10.0.1.1\", n1 = \"10.0.1.1\", n2 = \"10.0.1.2\" }", 19:15 "no node `主`";
    refuses_to_rely_on_a_fence_device_that_is_not_there: Error "name = \"c\"" => "name = \"c\"\nwithout_witness = \"fence\"", 3:19 "no fence device for n1, n2";
    refuses_a_group_that_relies_on_a_fence_device_of_one_node_only: Error "tcp = 80\n" => "tcp = 80\n[fence.d]\nnode = \"n1\"\nagent = \"fence_dummy\"\n[group.h]\nnodes = [\"n1\", \"n2\"]\nfence = true\n", 43:9 "relies on fencing, but no fence device is described for n2";
    refuses_a_fence_device_of_an_unknown_node: Error "tcp = 80" => "tcp = 80\n[fence.d]\nnode = \"n9\"\nagent = \"fence_dummy\"", 39:8 "there is no node `n9`";
    refuses_a_fence_agent_that_is_no_name: Error "tcp = 80" => "tcp = 80\n[fence.d]\nnode = \"n1\"\nagent = \"../x\"", 40:9 "`../x` does not name a fence agent";
    refuses_the_action_among_the_parameters: Error "tcp = 80" => "tcp = 80\n[fence.d]\nnode = \"n1\"\nagent = \"fence_dummy\"\nparameters = { action = \"on\" }", 41:14 "`action` is given to the agent by hotpair";
    warns_of_a_password_in_the_configuration: Warning "tcp = 80" => "tcp = 80\n[fence.d]\nnode = \"n1\"\nagent = \"fence_dummy\"\nparameters = { passwd = \"x\" }", 41:14 "`passwd` stands in the configuration";
    refuses_secrets_without_full_path: Error "tcp = 80" => "tcp = 80\n[fence.d]\nnode = \"n1\"\nagent = \"fence_dummy\"\nsecrets = \"x\"", 41:11 "`x` is no full path";
    refuses_an_address_in_two_groups: Error "tcp = 80\n" => "tcp = 80\n[group.h]\nnodes = [\"n2\"]\n[group.h.address.ip]\naddress = \"10.0.0.100/24\"\nnics = [\"eth0\"]\n", 41:11 "belongs to `ip` of group `g` already";
    refuses_a_resource_in_two_groups: Error "tcp = 80\n" => "tcp = 80\n[group.h]\nnodes = [\"n2\"]\n[group.h.service.s]\ncommand = [\"/bin/s\"]\n", 41:11 "two groups share a resource";
}

#[test]
fn is_silent_about_a_sound_text_but_for_the_failover_time() {
    let found = findings(SOUND);
    let said: Vec<_> = found.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(
        said,
        ["after the fault of a node its groups may start elsewhere within 0.71 s"]
    );
}

#[test]
fn tells_an_open_bracket_only_once() {
    let found = findings(&SOUND.replace("warn_after = 2", "warn_after = [2"));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn helps_with_what_was_meant() {
    let found = findings(&SOUND.replace("warn_after", "warn_aftr"));
    let help = found.iter().find_map(|f| f.help.as_deref());
    assert_eq!(help, Some("did you mean `warn_after`?"));
}

#[test]
fn refuses_ten_megabytes_at_once() {
    let found = findings(&"x = 1\n".repeat(1_800_000));
    assert!(any_error(&found));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "the configuration has 10800000 bytes");
}

#[test]
fn refuses_what_does_not_fit_into_the_document() {
    let description = format!("name = \"n2\"\ndescription = \"{}\"", "x".repeat(50_000));
    let found = findings(&SOUND.replace("name = \"n2\"", &description));
    assert!(
        found.iter().any(|f| f.message.contains("too large")),
        "{found:?}"
    );
    assert!(any_error(&found));
}

#[test]
fn bounds_the_findings_of_a_hostile_text() {
    let mut text = SOUND.to_owned();
    for number in 0..20_000 {
        text += &format!("[group.g.service.x{number}]\nrequires = [\"y{number}\"]\n");
    }
    let found = findings(&text);
    assert_eq!(found.len(), hotpair_config::MAX_FINDINGS + 1);
    assert!(any_error(&found));
    let last = found.last().unwrap();
    assert!(
        last.message.contains("more findings are not shown"),
        "{last:?}"
    );
}

#[test]
fn keeps_numbers_by_name() {
    let first = check("a", SOUND, None).unwrap().cluster;
    let text = SOUND
        .replace("name = \"n1\"", "name = \"n3\"")
        .replace("n1 = ", "n3 = ")
        .replace("\"n1\", ", "\"n3\", ")
        .replace("name = \"w\"", "name = \"v\"");
    let mut base = first.clone();
    base.id = hotpair_core::ids::ClusterId(7);
    let next = check("b", &text, Some(&base)).unwrap().cluster;
    assert_eq!(next.id, base.id);
    assert_eq!(next.node_named("n2"), first.node_named("n2"));
    assert_eq!(next.node_named("n3").map(|id| id.0), Some(3));
    assert_eq!(first.witness.map(|w| w.id.0), Some(200));
    assert_eq!(next.witness.map(|w| w.id.0), Some(201));
}

#[test]
fn quorum_disk_is_told_by_its_number() {
    let text = |disk: &str, number: &str| {
        let disk = format!("[quorum]\nname = \"w\"\ndisk = \"{disk}\"\nnumber = \"{number}\"");
        SOUND.replace("[witness]\nname = \"w\"\naddresses = [\"10.0.0.9\"]", &disk)
    };
    let read = |text: &str, base| check("a", text, base).unwrap().cluster;
    let host = read(SOUND, None);
    let first = read(&text("/dev/mapper/q", "00000000000000d1"), Some(&host));
    let (id, disk) = first.quorum_disk().unwrap();
    assert_eq!((id.0, disk.number), (201, 0xd1));
    let moved = read(&text("/dev/mapper/r", "00000000000000d1"), Some(&first));
    assert_eq!(moved.quorum_disk().unwrap().0.0, 201);
    let other = read(&text("/dev/mapper/q", "00000000000000d2"), Some(&first));
    assert_eq!(other.quorum_disk().unwrap().0.0, 202);
    let back = read(SOUND, Some(&first));
    assert_eq!(back.witness.unwrap().id.0, 202);
    let shown = hotpair_config::show(&first);
    assert_eq!(read(&shown, Some(&first)), first);
}

/// Of the third vote as it was encoded before there were disks: states of nodes on their disks are such.
#[test]
fn cluster_without_a_disk_has_the_bytes_it_always_had() {
    let bytes = |cluster: &hotpair_core::config::Cluster| postcard::to_allocvec(cluster).unwrap();
    let with_host = check("a", SOUND, None).unwrap().cluster;
    let mut alone = with_host.clone();
    alone.witness = None;
    let witness = with_host.witness.as_ref().unwrap();
    let before = Some((witness.id, witness.name.clone(), witness.addresses.clone()));
    let before = postcard::to_allocvec(&before).unwrap();
    let (with_host, alone) = (bytes(&with_host), bytes(&alone));
    let at = with_host.len() - alone.len() + 1;
    assert_eq!(before.len(), at);
    let found = with_host.windows(at).position(|window| window == before);
    let found = found.expect("it stands as it was");
    assert_eq!(alone[..found], with_host[..found]);
    assert_eq!(alone[found], 0);
    assert_eq!(alone[found + 1..], with_host[found + at..]);
}

/// All findings of one text at once. `UPDATE=1` rewrites the expected text.
#[test]
fn shows_every_finding_of_a_broken_text_at_once() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let text = std::fs::read_to_string(folder.join("many.toml")).unwrap();
    let found = check("many.toml", &text, None).unwrap_err();
    let shown = render(&found, "many.toml", &text, false);
    let expected = folder.join("many.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&expected, &shown).unwrap();
    }
    assert_eq!(shown, std::fs::read_to_string(&expected).unwrap());
}

#[test]
fn findings_are_plain_json() {
    let found = findings(&SOUND.replace("warn_after = 2", "lease_ms = 1.5"));
    let json = serde_json::to_value(&found[0]).unwrap();
    assert_eq!(json["severity"], "error");
    assert_eq!(json["file"], "test.toml");
    assert_eq!(json["line"], 5);
}
