//! What is on a device or image file, in words: asked of `blkid`, which knows every format there is.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

/// Looked at byte by byte where nothing is recognised.
const START: usize = 1024 * 1024;
/// Of `blkid`'s answer.
const ANSWER: u64 = 16 * 1024;

/// What would be missed if it were overwritten; `None`: nothing.
#[must_use]
pub fn holds(file: &File, size: u64) -> Option<String> {
    if size == 0 {
        return None;
    }
    recognised(file).or_else(|| {
        let blank = is_blank(file, size).unwrap_or(false);
        (!blank).then(|| "data of an unknown kind".to_owned())
    })
}

fn recognised(file: &File) -> Option<String> {
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut child = Command::new("blkid")
        .args(["--probe", "--output", "export"])
        .arg(path)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut text = String::new();
    let answer = child.stdout.take()?;
    let read = answer.take(ANSWER).read_to_string(&mut text);
    let status = child.wait().ok()?;
    read.ok()?;
    // 8: several formats at once, which it does not tell apart.
    match status.code() {
        Some(0) => describe(&text),
        Some(8) => Some("signatures of several formats".to_owned()),
        _ => None,
    }
}

/// `blkid`'s words in ours.
fn describe(text: &str) -> Option<String> {
    let value = |key: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, value)| *name == key && !value.is_empty())
            .map(|(_, value)| value.to_owned())
    };
    let label = value("LABEL")
        .map(|label| format!(" labelled {label:?}"))
        .unwrap_or_default();
    if let Some(kind) = value("TYPE") {
        return Some(match (value("USAGE").as_deref(), kind.as_str()) {
            (_, "LVM2_member") => "a physical volume of LVM".to_owned(),
            (_, "swap") => format!("swap space{label}"),
            (Some("raid"), _) => format!("a member of a RAID set ({kind})"),
            (Some("crypto"), _) => format!("an encrypted volume ({kind})"),
            (Some("filesystem"), _) => format!("a filesystem ({kind}){label}"),
            _ => format!("{kind}{label}"),
        });
    }
    value("PTTYPE").map(|kind| format!("a partition table ({kind})"))
}

/// Are the first and the last mebibyte zeros?
fn is_blank(file: &File, size: u64) -> std::io::Result<bool> {
    // Whole pages, as direct I/O wants them.
    let mut memory = vec![0u8; START + 4096];
    let shift = memory.as_ptr().align_offset(4096);
    let length = START.min(usize::try_from(size & !4095).unwrap_or(START));
    let bytes = &mut memory[shift..shift + length];
    let last = (size & !4095).saturating_sub(length as u64);
    for at in [0, last] {
        let read = file.read_at(bytes, at)?;
        if bytes[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkids_words_become_ours() {
        let ext4 = "DEVNAME=/dev/x\nLABEL=data\nTYPE=ext4\nUSAGE=filesystem\n";
        assert_eq!(
            describe(ext4).unwrap(),
            "a filesystem (ext4) labelled \"data\""
        );
        let table = "DEVNAME=/dev/x\nPTUUID=1\nPTTYPE=gpt\n";
        assert_eq!(describe(table).unwrap(), "a partition table (gpt)");
        let lvm = "TYPE=LVM2_member\nUSAGE=raid\n";
        assert_eq!(describe(lvm).unwrap(), "a physical volume of LVM");
        assert_eq!(describe("nonsense"), None);
        assert_eq!(describe("TYPE=\n"), None);
    }
}
