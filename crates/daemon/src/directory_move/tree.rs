//! Trees of files, counted and compared.

use super::NOFOLLOW;
use rustix::fs::{CWD, FileType, IFlags, Mode, OFlags, Stat, XattrFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Longest list of attributes, and longest value: the kernel's limits (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR: usize = 64 << 10;

/// What a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// On a filesystem with blocks of 4 KiB, without the holes of sparse files.
    pub bytes: u64,
    pub inodes: u64,
}

/// Why two trees are not the same, or cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("cannot look at {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} differs: {what}", path.display())]
    Different { path: PathBuf, what: String },
    #[error("{} is {what}, which a copy does not keep: take that away with chattr first", path.display())]
    Flagged { path: PathBuf, what: &'static str },
}

/// How closely two trees are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Everything but what is in files: enough to see that nothing was written since.
    Attributes,
    Content,
}

fn io_error<'a>(path: &'a Path) -> impl Fn(rustix::io::Errno) -> TreeError + 'a {
    move |errno| TreeError::Io {
        path: path.to_owned(),
        source: errno.into(),
    }
}

fn stat(path: &Path) -> Result<Stat, TreeError> {
    rustix::fs::statat(CWD, path, NOFOLLOW).map_err(io_error(path))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn names(path: &Path) -> Result<BTreeSet<OsString>, TreeError> {
    let failed = |source| TreeError::Io {
        path: path.to_owned(),
        source,
    };
    let entries = fs::read_dir(path).map_err(failed)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    names.collect::<io::Result<_>>().map_err(failed)
}

/// Everything below `root`, itself first, as paths below it.
struct Walk<'a> {
    root: &'a Path,
    left: Vec<PathBuf>,
}

impl<'a> Walk<'a> {
    fn of(root: &'a Path) -> Self {
        Self {
            root,
            left: vec![PathBuf::new()],
        }
    }

    fn next(&mut self) -> Option<Result<(PathBuf, Stat), TreeError>> {
        let below = self.left.pop()?;
        Some(self.look(below))
    }

    fn look(&mut self, below: PathBuf) -> Result<(PathBuf, Stat), TreeError> {
        let path = at(self.root, &below);
        let stat = stat(&path)?;
        if kind(&stat) == FileType::Directory {
            let names = names(&path)?;
            self.left
                .extend(names.into_iter().map(|name| below.join(name)));
        }
        Ok((below, stat))
    }
}

/// Joins without the slash that an empty path would bring.
fn at(root: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() {
        root.to_owned()
    } else {
        root.join(below)
    }
}

/// Counts what is in a directory, itself included.
///
/// # Errors
/// Something cannot be looked at, or has a flag that a copy does not keep.
pub fn count(root: &Path) -> Result<Count, TreeError> {
    let mut count = Count::default();
    let mut linked = BTreeSet::new();
    let mut walk = Walk::of(root);
    while let Some(found) = walk.next() {
        let (below, stat) = found?;
        if stat.st_nlink > 1
            && kind(&stat) != FileType::Directory
            && !linked.insert((stat.st_dev, stat.st_ino))
        {
            continue;
        }
        flags(&at(root, &below), &stat)?;
        count.inodes += 1;
        let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        count.bytes += bytes.next_multiple_of(4096);
    }
    Ok(count)
}

/// Refuses what cannot be changed, or only appended to.
fn flags(path: &Path, stat: &Stat) -> Result<(), TreeError> {
    if !matches!(kind(stat), FileType::RegularFile | FileType::Directory) {
        return Ok(());
    }
    let options = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, options, Mode::empty()).map_err(io_error(path))?;
    // Filesystems without flags have none set.
    let flags = rustix::fs::ioctl_getflags(&file).unwrap_or(IFlags::empty());
    for (flag, what) in [
        (IFlags::IMMUTABLE, "immutable (chattr +i)"),
        (IFlags::APPEND, "append-only (chattr +a)"),
    ] {
        if flags.contains(flag) {
            return Err(TreeError::Flagged {
                path: path.to_owned(),
                what,
            });
        }
    }
    Ok(())
}

/// Compares two trees.
///
/// # Errors
/// The first difference.
pub(super) fn compare(source: &Path, target: &Path, depth: Depth) -> Result<(), TreeError> {
    // Files with several names: the first of each, there and here.
    let mut linked: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    let mut walk = Walk::of(source);
    while let Some(found) = walk.next() {
        let (below, there) = found?;
        let (from, to) = (at(source, &below), at(target, &below));
        let different = |what: String| TreeError::Different {
            path: from.clone(),
            what,
        };
        let here = match stat(&to) {
            Err(TreeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(different("it is missing in the copy".to_owned()));
            }
            other => other?,
        };
        attributes(&there, &here).map_err(different)?;
        if there.st_nlink > 1 && kind(&there) != FileType::Directory {
            let same = linked
                .entry((there.st_dev, there.st_ino))
                .or_insert((here.st_dev, here.st_ino));
            if *same != (here.st_dev, here.st_ino) {
                return Err(different(
                    "its hard links are not linked in the copy".to_owned(),
                ));
            }
        }
        if xattrs(&from)? != xattrs(&to)? {
            return Err(different("its extended attributes".to_owned()));
        }
        match kind(&there) {
            FileType::Directory if names(&from)? != names(&to)? => {
                return Err(different("what is in it".to_owned()));
            }
            FileType::Symlink => {
                let link = |path: &Path| {
                    rustix::fs::readlinkat(CWD, path, Vec::new()).map_err(io_error(path))
                };
                if link(&from)? != link(&to)? {
                    return Err(different("where it leads".to_owned()));
                }
            }
            FileType::RegularFile if depth == Depth::Content && !same_content(&from, &to)? => {
                return Err(different("what is in it".to_owned()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn attributes(there: &Stat, here: &Stat) -> Result<(), String> {
    if there.st_mode != here.st_mode {
        return Err(format!(
            "type or mode, {:o} and {:o}",
            there.st_mode, here.st_mode
        ));
    }
    if (there.st_uid, there.st_gid) != (here.st_uid, here.st_gid) {
        return Err("its owner".to_owned());
    }
    if (there.st_mtime, there.st_mtime_nsec) != (here.st_mtime, here.st_mtime_nsec) {
        return Err("when it was changed".to_owned());
    }
    match kind(there) {
        FileType::RegularFile if there.st_size != here.st_size => {
            Err(format!("its size, {} and {}", there.st_size, here.st_size))
        }
        FileType::CharacterDevice | FileType::BlockDevice if there.st_rdev != here.st_rdev => {
            Err("its device number".to_owned())
        }
        _ => Ok(()),
    }
}

type Xattrs = BTreeMap<OsString, Vec<u8>>;

fn xattrs(path: &Path) -> Result<Xattrs, TreeError> {
    let mut list = vec![0u8; XATTR];
    let length = match rustix::fs::llistxattr(path, &mut list[..]) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM) => 0,
        other => other.map_err(io_error(path))?,
    };
    let mut found = Xattrs::new();
    for name in list[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0u8; XATTR];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).map_err(io_error(path))?;
        value.truncate(length);
        found.insert(OsString::from_vec(name.as_bytes().to_vec()), value);
    }
    Ok(found)
}

/// Sets the extended attributes that cp leaves out: labels of a security module that is not at work.
pub(super) fn mend_attributes(source: &Path, target: &Path) -> Result<(), TreeError> {
    let mut walk = Walk::of(source);
    while let Some(found) = walk.next() {
        let (below, _) = found?;
        let (from, to) = (at(source, &below), at(target, &below));
        let (wanted, there) = (xattrs(&from)?, xattrs(&to)?);
        for (name, value) in wanted
            .iter()
            .filter(|(name, value)| there.get(*name) != Some(value))
        {
            rustix::fs::lsetxattr(&to, name.as_os_str(), value, XattrFlags::empty())
                .map_err(io_error(&to))?;
        }
        for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
            rustix::fs::lremovexattr(&to, name.as_os_str()).map_err(io_error(&to))?;
        }
    }
    Ok(())
}

fn same_content(one: &Path, other: &Path) -> Result<bool, TreeError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TreeError::Io { path, source }
    };
    let mut one_file = File::open(one).map_err(failed(one))?;
    let mut other_file = File::open(other).map_err(failed(other))?;
    let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    loop {
        let length = one_file.read(&mut left).map_err(failed(one))?;
        if length == 0 {
            return Ok(other_file.read(&mut right[..1]).map_err(failed(other))? == 0);
        }
        let part = &mut right[..length];
        match other_file.read_exact(part) {
            Ok(()) if part == &left[..length] => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(failed(other)(error));
            }
            _ => return Ok(false),
        }
    }
}
