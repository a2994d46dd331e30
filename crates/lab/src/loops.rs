//! Loop devices under a host's mirrors. They belong to the machine, not to the host: a real host loses them
//! with its power, a host of the lab must be relieved of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The devices of the mirrors that are open on the host whose process 1 this is.
pub fn of(init_pid: i32) -> BTreeSet<PathBuf> {
    named_in(&PathBuf::from(format!(
        "/proc/{init_pid}/root/run/hotpair/devices"
    )))
}

/// Lets go of them. Who still holds one keeps getting errors; with the last of them it is free.
pub fn release(devices: &BTreeSet<PathBuf>) {
    let left_over = devices.iter().filter(|device| {
        // The file of a mirror's device is the root of its own filesystem. Another one took its place
        // where that is not so.
        let name = device.file_name().unwrap_or_default();
        let file = Path::new("/sys/block").join(name).join("loop/backing_file");
        fs::read_to_string(file).is_ok_and(|file| file.trim_end() == "/")
    });
    for device in left_over {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(device)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// The loop devices that symbolic links in the directories of groups in this directory lead to.
fn named_in(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    entries(directory)
        .flat_map(|group| entries(&group.path()))
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|device| {
            let number = device.to_str().and_then(|it| it.strip_prefix("/dev/loop"));
            number.is_some_and(|it| it.parse::<u32>().is_ok())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_loop_devices_are_named() {
        let directory = std::env::temp_dir().join(format!("hotpair-loops-{}", std::process::id()));
        let group = directory.join("shop");
        fs::create_dir_all(&group).unwrap();
        let links = ["/dev/loop7", "/dev/loop-control", "/dev/nbd0", "../loop8"];
        for (place, to) in links.iter().enumerate() {
            std::os::unix::fs::symlink(to, group.join(place.to_string())).unwrap();
        }
        fs::write(group.join("file"), "/dev/loop9").unwrap();
        let found = named_in(&directory);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found, BTreeSet::from([PathBuf::from("/dev/loop7")]));
        assert!(
            named_in(&directory).is_empty(),
            "a directory that is not there"
        );
    }
}
