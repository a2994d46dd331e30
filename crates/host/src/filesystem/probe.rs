//! What a block device holds: nothing at all, a filesystem, or something else.

use super::within;
use crate::cgroup::Cgroup;
use crate::process::{Outcome, Program, run};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Parts of a device that must be zero for it to hold nothing: where filesystems, partition tables,
/// volume managers and databases keep their heads, and their copies.
const HEAD: u64 = 1 << 20;
const TAIL: u64 = 64 << 10;

/// What is on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing known, and zeros at both ends.
    Blank,
    /// A filesystem of this type.
    Filesystem(String),
    /// Something else, in words.
    Other(String),
}

/// Why it is not known what a device holds.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("cannot read {}: {source}", device.display())]
    Read { device: PathBuf, source: io::Error },
    #[error("{} does not answer within {:.1} s", device.display(), limit.as_secs_f64())]
    Stuck { device: PathBuf, limit: Duration },
    #[error("cannot find out what {} holds: blkid: {said}; is util-linux installed?", device.display())]
    Blkid { device: PathBuf, said: String },
}

/// Asks blkid(8), which knows some hundred formats, and looks itself before it calls a device blank.
///
/// # Errors
/// See [`ProbeError`]; within `limit` in any case.
pub fn probe(
    device: &Path,
    cgroup: Option<Cgroup>,
    limit: Duration,
) -> Result<Content, ProbeError> {
    let begin = Instant::now();
    let mut program = Program::new(["blkid", "-p", "-o", "export"]);
    program.argv.push(device.display().to_string());
    program.cgroup = cgroup;
    let run = run(&program, limit, 16 << 10);
    let text = run.text();
    match run.outcome {
        Outcome::Exit(0) => Ok(found(&text)),
        Outcome::Exit(2) => ends(device, limit.saturating_sub(begin.elapsed())),
        Outcome::Exit(8) => Ok(Content::Other("several formats at once".into())),
        Outcome::TimedOut => Err(ProbeError::Stuck {
            device: device.to_owned(),
            limit,
        }),
        outcome => Err(ProbeError::Blkid {
            device: device.to_owned(),
            said: format!("{outcome} {}", text.trim()).trim().to_owned(),
        }),
    }
}

/// What blkid says of a device, `KEY=value` on each line.
fn found(text: &str) -> Content {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    match (value("TYPE"), value("USAGE"), value("PTTYPE")) {
        (Some(name), Some("filesystem"), _) => Content::Filesystem(name.to_owned()),
        (Some(name), ..) => Content::Other(name.to_owned()),
        (None, _, Some(table)) => Content::Other(format!("a partition table ({table})")),
        _ => Content::Other("something that blkid does not name".into()),
    }
}

fn ends(device: &Path, limit: Duration) -> Result<Content, ProbeError> {
    let path = device.to_owned();
    let zero = within(limit, move || {
        let mut file = File::open(path)?;
        let size = file.seek(SeekFrom::End(0))?;
        if !is_zero(&mut file, 0, HEAD)? {
            return Ok(false);
        }
        is_zero(&mut file, size.saturating_sub(TAIL), TAIL)
    });
    match zero {
        Some(Ok(true)) => Ok(Content::Blank),
        Some(Ok(false)) => Ok(Content::Other("data of an unknown format".into())),
        Some(Err(source)) => Err(ProbeError::Read {
            device: device.to_owned(),
            source,
        }),
        None => Err(ProbeError::Stuck {
            device: device.to_owned(),
            limit,
        }),
    }
}

fn is_zero(file: &mut File, from: u64, length: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(from))?;
    let mut part = file.take(length);
    let mut bytes = vec![0; 64 << 10];
    loop {
        match part.read(&mut bytes)? {
            0 => return Ok(true),
            count
                if bytes
                    .get(..count)
                    .is_some_and(|b| b.iter().all(|&b| b == 0)) => {}
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_blkid_says() {
        let ext4 = "DEVNAME=/dev/x\nUUID=1\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\n";
        assert_eq!(found(ext4), Content::Filesystem("ext4".into()));
        let lvm = "TYPE=LVM2_member\nUSAGE=raid\n";
        assert_eq!(found(lvm), Content::Other("LVM2_member".into()));
        assert_eq!(
            found("PTTYPE=dos\n"),
            Content::Other("a partition table (dos)".into())
        );
        assert!(matches!(found(""), Content::Other(_)));
    }
}
