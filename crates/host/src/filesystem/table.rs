//! What is mounted, and what /etc/fstab would mount.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A line of `/proc/PID/mountinfo`, proc(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    pub id: u64,
    /// The mount it is on; its own id, or one that is not listed, at the root.
    pub parent: u64,
    /// Major and minor number of the filesystem: those of its block device, or, where it may have
    /// several (btrfs), its own.
    pub device: (u32, u32),
    /// Which directory of the filesystem is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    pub filesystem: String,
    pub source: OsString,
    options: String,
    pub(crate) super_options: String,
}

impl Mounted {
    /// Is it the filesystem with this number, or on the block device with this number?
    #[must_use]
    pub fn is_of(&self, device: (u32, u32)) -> bool {
        // Numbers of their own have major number 0. Only device files are asked, which answer at once.
        self.device == device
            || (self.device.0 == 0
                && self.source.as_bytes().starts_with(b"/dev/")
                && block_device(Path::new(&self.source)) == Some(device))
    }

    /// Cannot be written to: mounted so, or made so by the filesystem after an error.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        // ext4 says `emergency_ro` and `shutdown` (Linux 6.17).
        let says = |options: &str, words: &[&str]| options.split(',').any(|o| words.contains(&o));
        says(&self.options, &["ro"])
            || says(&self.super_options, &["ro", "emergency_ro", "shutdown"])
    }
}

/// Everything mounted in the mount namespace of this thread.
///
/// # Errors
/// `/proc` cannot be read.
pub fn mounts() -> io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read("/proc/thread-self/mountinfo")?))
}

/// Everything mounted where process `pid` lives.
pub(super) fn mounts_of(pid: i32) -> io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read(format!("/proc/{pid}/mountinfo"))?))
}

/// What is mounted exactly at `point`; of several on top of each other the topmost.
#[must_use]
pub fn visible<'a>(mounts: &'a [Mounted], point: &Path) -> Option<&'a Mounted> {
    let at: Vec<&Mounted> = mounts.iter().filter(|m| m.point == point).collect();
    let covered = |m: &&&Mounted| {
        at.iter()
            .any(|other| other.parent == m.id && other.id != m.id)
    };
    at.iter().find(|m| !covered(m)).copied()
}

/// The path as the mount table has it: the directory it lies in without symbolic links. The path itself
/// is not touched, which may be a filesystem that does not answer.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => match parent.canonicalize() {
            Ok(parent) => parent.join(name),
            Err(_) => path.to_owned(),
        },
        _ => path.to_owned(),
    }
}

/// Lines that cannot be understood are left out.
fn parse(text: &[u8]) -> Vec<Mounted> {
    text.split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let id = text()?.parse().ok()?;
    let parent = text()?.parse().ok()?;
    let device = parse_device(text()?)?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let options = String::from_utf8_lossy(fields.next()?).into_owned();
    // Optional fields end with a lone hyphen.
    fields.by_ref().find(|field| *field == b"-")?;
    Some(Mounted {
        id,
        parent,
        device,
        root: root.into(),
        point: point.into(),
        options,
        filesystem: String::from_utf8_lossy(fields.next()?).into_owned(),
        source: unescape(fields.next()?),
        super_options: String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned(),
    })
}

/// Major and minor number of a block device by its path, symbolic links followed.
#[must_use]
pub fn block_device(path: &Path) -> Option<(u32, u32)> {
    let data = std::fs::metadata(path).ok()?;
    let number = data.rdev();
    let is_block = data.file_type().is_block_device();
    is_block.then(|| (rustix::fs::major(number), rustix::fs::minor(number)))
}

/// `8:1` as major and minor number.
#[must_use]
pub fn parse_device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Blank, tab, newline and backslash stand as `\040` and the like.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while let Some(&byte) = field.get(at) {
        let code = field
            .get(at + 1..at + 4)
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(byte));
        at += if code.is_some() { 4 } else { 1 };
    }
    OsString::from_vec(out)
}

/// Does `/etc/fstab` name this mount point, or one of these devices? The line, if it does.
///
/// Lines that are not mounted at boot (`noauto`) are none of our business.
#[must_use]
pub fn fstab(point: &Path) -> Option<String> {
    let text = std::fs::read("/etc/fstab").ok()?;
    in_fstab(&text, point)
}

fn in_fstab(text: &[u8], point: &Path) -> Option<String> {
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line
            .split(u8::is_ascii_whitespace)
            .filter(|field| !field.is_empty())
            .collect();
        let [source, at, _, options, ..] = fields.as_slice() else {
            return None;
        };
        let named = unescape(at);
        let named = Path::new(&named);
        let hit = !source.starts_with(b"#")
            && named.as_os_str().as_bytes().starts_with(b"/")
            && named.components().eq(point.components());
        let manual = options.split(|&b| b == b',').any(|o| o == b"noauto");
        (hit && !manual).then(|| {
            let line: String = String::from_utf8_lossy(line).chars().take(200).collect();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 21 7:3 / /srv/a\\040b rw,noatime - ext4 /dev/loop3 rw,emergency_ro
31 21 7:4 /sub /srv/c ro - xfs /dev/loop4 rw
32 31 0:44 / /srv/c rw master:3 propagate_from:2 - tmpfs none rw
broken line
33 x 0:44 / /srv/d rw - tmpfs none rw
34 21 0:45 / /srv/e rw shared:9 tmpfs none rw
";

    #[test]
    fn reads_what_is_mounted_and_leaves_out_what_it_does_not_understand() {
        let mounts = parse(INFO.as_bytes());
        let points: Vec<_> = mounts.iter().map(|m| m.point.to_str().unwrap()).collect();
        assert_eq!(points, ["/", "/srv/a b", "/srv/c", "/srv/c"]);
        assert_eq!(mounts[1].device, (7, 3));
        let read_only: Vec<_> = mounts.iter().map(Mounted::is_read_only).collect();
        assert_eq!(read_only, [false, true, true, false]);
        assert_eq!(mounts[2].root, Path::new("/sub"));
    }

    #[test]
    fn of_two_mounts_at_one_point_the_upper_one_is_visible() {
        let mut mounts = parse(INFO.as_bytes());
        let at = |mounts: &[Mounted]| visible(mounts, Path::new("/srv/c")).map(|m| m.id);
        assert_eq!(at(&mounts), Some(32));
        mounts.reverse();
        assert_eq!(at(&mounts), Some(32));
        assert_eq!(visible(&mounts, Path::new("/srv")), None);
    }

    #[test]
    fn finds_a_mount_point_in_fstab_unless_it_is_mounted_by_hand() {
        let fstab = b"# /dev/x /srv/a ext4 defaults 0 0\n\
            /dev/sda1 / ext4 defaults 0 1\n\
            UUID=1\t/srv/a\\040b/\text4  defaults,noatime\n\
            /dev/sdc /srv/c xfs noauto,noatime 0 0\n\
            /dev/sdd /srv/d\n\
            /dev/sde none swap sw\n";
        let line = in_fstab(fstab, Path::new("/srv/a b"));
        assert_eq!(
            line.as_deref(),
            Some("UUID=1 /srv/a\\040b/ ext4 defaults,noatime")
        );
        for point in ["/srv/a", "/srv/c", "/srv/d", "none"] {
            assert_eq!(in_fstab(fstab, Path::new(point)), None, "{point}");
        }
    }

    #[test]
    fn sees_the_root_of_this_process() {
        let mounts = mounts().unwrap();
        assert!(visible(&mounts, Path::new("/")).is_some());
    }
}
