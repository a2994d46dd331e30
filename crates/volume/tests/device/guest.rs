//! Tests of this program again, over nbd, in a guest whose kernel has it. Needs root and what
//! `scripts/setup-guests` fetches; says so and passes without it.

use hotpair_guest::{Disk, Guest, Parts, Spec};
use std::path::PathBuf;
use std::time::Duration;

/// What a device of FUSE and loop lives through on this machine.
const TESTS: [&str; 5] = [
    "a_filesystem_lives_through_a_restart_of_the_daemon",
    "a_closed_gate_fails_requests_at_once_and_for_ever",
    "nothing_hangs_when_the_process_is_killed_and_the_next_one_clears_up",
    "discards_become_holes_that_read_as_zeros",
    "pair::a_device_grows_and_has_every_synced_file_after_its_side_was_killed",
];
/// Of all of them: an emulated processor on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn nbd_lives_through_what_fuse_and_loop_live_through() {
    if let Err(problem) = Parts::find() {
        eprintln!("skipped: {problem}");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let name = program.file_name().unwrap().to_str().unwrap().to_owned();
    let tools = ["mkfs.ext4", "e2fsck", "blkdiscard", "blkid", "losetup"].map(PathBuf::from);
    let guest = Guest::boot(Spec {
        name: "nbd".to_owned(),
        memory_mib: 512,
        modules: ["nbd", "loop", "fuse", "ext4"].map(str::to_owned).to_vec(),
        programs: [program].into_iter().chain(tools).collect(),
        disks: vec![Disk::Scratch(1 << 30)],
        ..Spec::default()
    })
    .unwrap();
    let script = format!(
        "set -e\nmkfs.ext4 -q -F -E lazy_itable_init=1 /dev/vda\nmount /dev/vda /tmp\n\
         export HOTPAIR_TEST_EXPORT=nbd\n\
         /usr/bin/{name} --test-threads=1 --nocapture --exact {} 2>&1\n\
         ls /sys/block/nbd*/backend 2>/dev/null && exit 7 || true",
        TESTS.join(" ")
    );
    let output = guest.try_run(&script, LIMIT).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.code, 0, "{text}");
    let all = format!("{} passed", TESTS.len());
    assert!(text.contains(&all), "{text}");
}
