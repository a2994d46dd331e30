//! Mirrors and mounts: what the check says, and where.

use hotpair_config::{Finding, Severity, check, diff, render, show};
use hotpair_core::config::{Cluster, Mirror, MirrorMode, Mount, ResourceKind};
use hotpair_core::ids::{GroupId, ResourceId};
use std::time::Duration;

/// A sound configuration with a mirror and a mount, to be spoilt.
const SOUND: &str = r#"[cluster]
name = "c"

[[node]]
name = "n1"

[[node]]
name = "n2"

[[node]]
name = "n3"

[[link]]
name = "lan"
addresses = { n1 = "10.0.0.1", n2 = "10.0.0.2", n3 = "10.0.0.3" }

[[link]]
name = "direct"
addresses = { n1 = "10.0.1.1", n2 = "10.0.1.2", n3 = "10.0.1.3" }

[group.g]
nodes = ["n2", "n1"]

[group.g.mirror.data]
size = "10GiB"
device = { n1 = "/dev/vg/data", n2 = "/dev/sdb1" }

[group.g.mount.files]
mirror = "data"
path = "/srv/data"
options = ["noatime"]

[group.g.service.s]
command = ["/bin/s"]
requires = ["files"]

[[group.g.service.s.detector]]
script = ["/usr/local/bin/look"]
"#;

/// A second group, to clash with.
const OTHER: &str = r#"
[group.h]
nodes = ["n1", "n2"]

[group.h.mirror.more]
size = "1MiB"
device = "/dev/vg/more"

[group.h.mount.more-files]
mirror = "more"
path = "/srv/more"
"#;

fn findings(text: &str) -> Vec<Finding> {
    match check("test.toml", text, None) {
        Ok(checked) => checked.warnings,
        Err(findings) => findings,
    }
}

/// Replaces `from` (once in the text) by `to`, and expects a finding `message` at `line:column` that
/// comes with a help, and no other error.
#[track_caller]
fn expect(severity: Severity, from: &str, to: &str, line: usize, column: usize, message: &str) {
    let sound = format!("{SOUND}{OTHER}");
    assert_eq!(sound.matches(from).count(), 1, "{from}");
    let text = sound.replace(from, to);
    let found = findings(&text);
    let all = render(&found, "test.toml", &text, false);
    let it = found.iter().find(|f| f.message.contains(message));
    let it = it.unwrap_or_else(|| panic!("no finding says `{message}`:\n{all}"));
    assert_eq!(
        (it.severity, it.line, it.column),
        (severity, line, column),
        "{all}"
    );
    assert!(it.help.is_some() || message.contains("must be"), "{all}");
    let errors = found.iter().filter(|f| f.severity == Severity::Error);
    assert_eq!(
        errors.count(),
        usize::from(severity == Severity::Error),
        "{all}"
    );
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
    refuses_an_unknown_node_of_a_device: Error "n1 = \"/dev/vg/data\", n2 = \"/dev/sdb1\"" => "n1 = \"/dev/a\", n2 = \"/dev/b\", n9 = \"/dev/c\"", 26:42 "there is no node `n9`";
    refuses_a_node_outside_the_group: Error "n1 = \"/dev/vg/data\", n2 = \"/dev/sdb1\"" => "n1 = \"/dev/a\", n2 = \"/dev/b\", n3 = \"/dev/c\"", 26:42 "node `n3` does not run this group";
    refuses_one_copy: Error "{ n1 = \"/dev/vg/data\", n2 = \"/dev/sdb1\" }" => "{ n1 = \"/dev/vg/data\" }", 26:10 "two copies, here there is one";
    refuses_three_copies: Error "nodes = [\"n1\", \"n2\"]" => "nodes = [\"n1\", \"n2\", \"n3\"]", 45:10 "two copies, here there are 3";
    refuses_no_device: Error "device = \"/dev/vg/more\"\n" => "", 43:17 "`device` is missing";
    refuses_no_size: Error "size = \"1MiB\"\n" => "", 43:17 "`size` is missing";
    refuses_a_relative_device: Error "n2 = \"/dev/sdb1\"" => "n2 = \"sdb1\"", 26:38 "`sdb1` is not a full path";
    refuses_a_device_written_with_dots: Error "n2 = \"/dev/sdb1\"" => "n2 = \"/dev/../dev/sdb1\"", 26:38 "is not a full path";
    refuses_the_root_as_a_device: Error "n2 = \"/dev/sdb1\"" => "n2 = \"/\"", 26:38 "neither a device nor an image file";
    refuses_a_device_of_another_type: Error "device = \"/dev/vg/more\"" => "device = 7", 45:10 "`device` must be a path";
    refuses_one_device_in_two_mirrors: Error "device = \"/dev/vg/more\"" => "device = { n1 = \"/dev/vg/data\", n2 = \"/dev/vg/more\" }", 45:17 "takes the data of mirror `data` of group `g` already";
    refuses_metadata_on_anothers_device: Error "device = \"/dev/vg/more\"" => "device = \"/dev/vg/more\"\nmetadata = { n2 = \"/dev/sdb1\" }", 46:19 "takes the data of mirror `data`";
    refuses_metadata_without_a_device: Error "n1 = \"/dev/vg/data\", n2 = \"/dev/sdb1\" }" => "n1 = \"/dev/a\", n2 = \"/dev/b\" }\nmetadata = { n9 = \"/x\" }", 27:14 "there is no node `n9`";
    refuses_a_copy_on_a_mount: Error "device = \"/dev/vg/more\"" => "device = \"/srv/data/more.img\"", 45:10 "lies on mount `files` of group `g`";
    refuses_a_small_size: Error "size = \"1MiB\"" => "size = \"1020KiB\"", 44:8 "too small";
    refuses_an_unaligned_size: Error "size = \"1MiB\"" => "size = \"10MB\"", 44:8 "10000000 bytes are not a multiple of 4096";
    refuses_a_size_without_unit: Error "size = \"1MiB\"" => "size = \"10\"", 44:8 "has no unit";
    refuses_a_size_of_unknown_unit: Error "size = \"1MiB\"" => "size = \"10gb\"", 44:8 "has an unknown unit";
    refuses_a_size_beyond_everything: Error "size = \"1MiB\"" => "size = \"99999999PiB\"", 44:8 "is too large";
    refuses_the_port_of_another_mirror: Error "size = \"1MiB\"" => "size = \"1MiB\"\nport = 15000\ndevice = \"/dev/y\"\n[group.h.mirror.third]\nsize = \"1MiB\"\nport = 15000", 49:8 "port 15000 belongs to mirror `more` of group `h` already";
    refuses_the_heartbeats_port: Error "size = \"1MiB\"" => "size = \"1MiB\"\nport = 14338", 45:8 "port 14338 is that of the heartbeats";
    refuses_port_zero: Error "size = \"1MiB\"" => "size = \"1MiB\"\nport = 0", 45:8 "`port` is 0";
    refuses_an_unknown_link: Error "size = \"1MiB\"" => "size = \"1MiB\"\nlinks = [\"lan\", \"direkt\"]", 45:17 "there is no link `direkt`";
    refuses_a_link_twice: Error "size = \"1MiB\"" => "size = \"1MiB\"\nlinks = [\"lan\", \"lan\"]", 45:17 "stands in this list twice";
    refuses_an_unknown_mode: Error "size = \"1MiB\"" => "size = \"1MiB\"\nmode = \"synchronus\"", 45:8 "`mode` cannot be";
    refuses_a_lag_without_asynchronous_mode: Error "size = \"1MiB\"" => "size = \"1MiB\"\nlag_s = 3", 45:9 "`lag_s` applies to mode \"asynchronous\" only";
    refuses_a_rate_of_zero: Error "size = \"1MiB\"" => "size = \"1MiB\"\nresync_rate = \"0B/s\"", 45:15 "at a rate of 0";
    refuses_a_source_without_a_copy: Error "size = \"1MiB\"" => "size = \"1MiB\"\nsource = \"n3\"", 45:10 "node `n3` keeps no copy";
    refuses_an_unknown_key: Error "size = \"1MiB\"" => "size = \"1MiB\"\ndevise = \"/dev/x\"", 45:1 "unknown key `devise`";
    warns_of_a_node_without_a_copy: Warning "nodes = [\"n2\", \"n1\"]" => "nodes = [\"n2\", \"n1\", \"n3\"]", 26:10 "node `n3` keeps no copy of `data`";
    refuses_the_mirror_of_another_group: Error "mirror = \"more\"" => "mirror = \"data\"", 48:10 "mirror `data` belongs to group `g`";
    refuses_an_unknown_mirror: Error "mirror = \"more\"" => "mirror = \"mor\"", 48:10 "this group has no mirror `mor`";
    refuses_a_mirror_that_is_none: Error "mirror = \"data\"" => "mirror = \"s\"", 29:10 "`s` is not a mirror";
    refuses_no_mirror: Error "mirror = \"more\"\n" => "", 47:16 "`mirror` is missing";
    refuses_a_mirror_mounted_twice: Error "path = \"/srv/more\"" => "path = \"/srv/more\"\n[group.h.mount.z]\nmirror = \"more\"\npath = \"/srv/z\"", 51:10 "mirror `more` is mounted by `more-files` already";
    refuses_a_relative_path: Error "path = \"/srv/more\"" => "path = \"srv/more\"", 49:8 "which is not a full path";
    refuses_a_path_with_a_slash_at_its_end: Error "path = \"/srv/more\"" => "path = \"/srv/more/\"", 49:8 "which is not a full path";
    refuses_the_root: Error "path = \"/srv/more\"" => "path = \"/\"", 49:8 "hotpair's own";
    refuses_hotpairs_own_directory: Error "path = \"/srv/more\"" => "path = \"/var/lib/hotpair/x\"", 49:8 "hotpair's own /var/lib/hotpair";
    refuses_to_hide_hotpairs_own_directory: Error "path = \"/srv/more\"" => "path = \"/var/lib\"", 49:8 "hotpair's own /var/lib/hotpair";
    refuses_a_directory_of_the_system: Error "path = \"/srv/more\"" => "path = \"/usr\"", 49:8 "the system's /usr";
    refuses_a_directory_of_the_kernel: Error "path = \"/srv/more\"" => "path = \"/dev/data\"", 49:8 "the system's /dev";
    refuses_one_path_in_two_groups: Error "path = \"/srv/more\"" => "path = \"/srv/data\"", 49:8 "overlaps `/srv/data`, where `files` of group `g` is mounted";
    refuses_a_path_inside_another_groups: Error "path = \"/srv/more\"" => "path = \"/srv/data/in\"", 49:8 "overlaps `/srv/data`";
    refuses_to_mount_below_without_requiring: Error "path = \"/srv/more\"" => "path = \"/srv/more\"\n[group.h.mirror.in]\nsize = \"1MiB\"\ndevice = \"/dev/in\"\n[group.h.mount.in-files]\nmirror = \"in\"\npath = \"/srv/more/in\"", 55:8 "is mounted below `more-files` (/srv/more) and does not require it";
    refuses_a_wrong_filesystem_name: Error "path = \"/srv/more\"" => "path = \"/srv/more\"\nfilesystem = \"Ext 4\"", 50:14 "cannot be the name of a filesystem";
    refuses_a_filesystem_without_device: Error "path = \"/srv/more\"" => "path = \"/srv/more\"\nfilesystem = \"nfs4\"", 50:14 "`nfs4` is not on a block device";
    warns_of_an_unknown_filesystem: Warning "path = \"/srv/more\"" => "path = \"/srv/more\"\nfilesystem = \"etx4\"", 50:14 "does not know the filesystem `etx4`";
    warns_of_noauto: Warning "[\"noatime\"]" => "[\"noatime\", \"noauto\"]", 31:23 "option `noauto` is for /etc/fstab";
    warns_of_nofail: Warning "[\"noatime\"]" => "[\"nofail\"]", 31:12 "option `nofail` is for /etc/fstab";
    warns_of_systemd_options: Warning "[\"noatime\"]" => "[\"x-systemd.automount\"]", 31:12 "is for /etc/fstab";
    warns_of_a_read_only_mount: Warning "[\"noatime\"]" => "[\"ro\"]", 31:12 "mounted read-only";
    warns_of_no_barriers: Warning "[\"noatime\"]" => "[\"nobarrier\"]", 31:12 "without write barriers";
    refuses_a_bind_mount: Error "[\"noatime\"]" => "[\"bind\"]", 31:12 "would mount something else";
    refuses_several_options_in_one: Error "[\"noatime\"]" => "[\"noatime,nodev\"]", 31:12 "is not one mount option";
    refuses_an_option_twice: Error "[\"noatime\"]" => "[\"noatime\", \"noatime\"]", 31:23 "twice";
    refuses_a_detector_on_the_groups_mount: Error "script = [\"/usr/local/bin/look\"]" => "script = [\"/srv/data/look\"]", 38:10 "on the group's own mount `files`";
    refuses_an_interpreted_detector_on_the_groups_mount: Error "script = [\"/usr/local/bin/look\"]" => "script = [\"/bin/sh\", \"-e\", \"/srv/data/look\"]", 38:10 "on the group's own mount `files`";
    refuses_a_status_program_on_the_groups_mount: Error "script = [\"/usr/local/bin/look\"]\n" => "tcp = 1\n[group.g.program.p]\nstart = [\"/bin/a\"]\nstop = [\"/bin/b\"]\nstatus = [\"/srv/data/s\"]\n", 42:10 "on the group's own mount `files`";
}

fn cluster(text: &str, base: Option<&Cluster>) -> Cluster {
    match check("test", text, base) {
        Ok(checked) => checked.cluster,
        Err(findings) => panic!("{}", render(&findings, "test", text, false)),
    }
}

fn mirror<'a>(cluster: &'a Cluster, group: &str, name: &str) -> &'a Mirror {
    cluster.groups[&GroupId::from(group)]
        .mirror(&ResourceId::from(name))
        .unwrap()
}

fn mount<'a>(cluster: &'a Cluster, group: &str, name: &str) -> &'a Mount {
    let resource = &cluster.groups[&GroupId::from(group)].resources[&ResourceId::from(name)];
    match &resource.kind {
        ResourceKind::Mount(mount) => mount,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_wrong_with_the_sound_text() {
    let text = format!("{SOUND}{OTHER}");
    let found = findings(&text);
    assert!(
        found.iter().all(|f| f.severity == Severity::Advice),
        "{}",
        render(&found, "t", &text, false)
    );
}

#[test]
fn what_is_left_out_has_its_default() {
    let cluster = cluster(&format!("{SOUND}{OTHER}"), None);
    let (data, more) = (mirror(&cluster, "g", "data"), mirror(&cluster, "h", "more"));
    assert_eq!(data.size, 10 << 30);
    assert_eq!(data.mode, MirrorMode::Synchronous);
    assert_eq!((data.port, more.port), (14400, 14401));
    assert_eq!(
        Some(data.source),
        cluster.node_named("n2"),
        "the group's first"
    );
    assert_eq!(more.copies.len(), 2);
    assert!(data.links.is_empty() && data.resync_rate.is_none());
    let files = mount(&cluster, "g", "files");
    assert_eq!(files.filesystem, "ext4");
    assert!(!files.make && !files.kill_users);
    let group = &cluster.groups[&GroupId::from("g")];
    let requires = &group.resources[&ResourceId::from("files")].requires;
    assert_eq!(requires.len(), 1, "its mirror: {requires:?}");
    let shown = show(&cluster);
    assert!(!shown.contains("requires = [\"data\"]"), "{shown}");
}

#[test]
fn every_key_is_read() {
    let keys = "size = \"1MiB\"\nmode = \"asynchronous\"\nlag_s = 2.5\nlag_bytes = \"1GiB\"\nport = 15000\n\
        links = [\"direct\"]\nresync_rate = \"100MiB/s\"\non_disk_failure = \"go-on\"\n\
        on_split_brain = \"with-changes\"\nexport = \"fuse\"\nsource = \"n2\"\nmetadata = { n2 = \"/var/m\" }";
    let text = format!("{SOUND}{OTHER}").replace("size = \"1MiB\"", keys);
    let cluster = cluster(&text, None);
    let more = mirror(&cluster, "h", "more");
    let lag = MirrorMode::Asynchronous {
        lag: Duration::from_millis(2_500),
        bytes: 1 << 30,
    };
    assert_eq!(more.mode, lag);
    assert_eq!(more.resync_rate, Some(100 << 20));
    assert_eq!(more.links, ["direct"]);
    assert_eq!(more.port, 15_000);
    let metadata: Vec<_> = more
        .copies
        .values()
        .map(|copy| copy.metadata.clone())
        .collect();
    assert_eq!(metadata, [None, Some("/var/m".to_owned())]);
}

#[test]
fn a_mirror_keeps_its_port_when_others_come_before_it() {
    let before = cluster(SOUND, None);
    let text = format!(
        "{SOUND}[group.a]\nnodes = [\"n1\", \"n2\"]\n[group.a.mirror.first]\nsize = \"1MiB\"\ndevice = \"/dev/first\"\n"
    );
    let after = cluster(&text, Some(&before));
    assert_eq!(mirror(&after, "g", "data").port, 14400);
    assert_eq!(mirror(&after, "a", "first").port, 14401);
    assert_eq!(mirror(&cluster(&text, None), "a", "first").port, 14400);
}

#[test]
fn a_mirror_is_never_made_smaller() {
    let before = cluster(SOUND, None);
    let text = SOUND.replace("10GiB", "9GiB");
    let findings = check("t", &text, Some(&before)).unwrap_err();
    let refused = findings
        .iter()
        .find(|f| f.message == "this mirror has 10GiB now and cannot be made smaller");
    assert_eq!(refused.map(|f| (f.line, f.column)), Some((25, 8)));
    cluster(&SOUND.replace("10GiB", "11GiB"), Some(&before));
}

#[test]
fn a_plan_says_which_services_a_change_touches() {
    let old = cluster(SOUND, None);
    let said = |from: &str, to: &str| -> Vec<String> {
        assert_eq!(SOUND.matches(from).count(), 1, "{from}");
        let new = cluster(&SOUND.replace(from, to), Some(&old));
        diff(&old, &new).iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        said("\"10GiB\"", "\"11GiB\""),
        ["group.g.mirror.data: size: \"10GiB\" -> \"11GiB\""]
    );
    assert_eq!(
        said("size = \"10GiB\"", "size = \"10GiB\"\nmode = \"memory\""),
        ["group.g.mirror.data: mode: default -> \"memory\""]
    );
    assert_eq!(
        said("/srv/data", "/srv/other"),
        ["group.g.mount.files: path: \"/srv/data\" -> \"/srv/other\" (restarts g/files, g/s)"]
    );
    assert_eq!(
        said("/dev/sdb1", "/dev/sdc1"),
        [
            "group.g.mirror.data: device: { n1 = \"/dev/vg/data\", n2 = \"/dev/sdb1\" } -> { n1 = \"/dev/vg/data\", n2 = \"/dev/sdc1\" } (restarts g/data, g/files, g/s)"
        ]
    );
    assert_eq!(
        said(
            "options = [\"noatime\"]",
            "options = [\"noatime\"]\nkill_users = true"
        ),
        ["group.g.mount.files: kill_users: default -> true"]
    );
}
