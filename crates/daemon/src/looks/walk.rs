//! Every file of a filesystem, within bounds.

use hotpair_api::files::{FileKind, FileView};
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How far it is looked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub entries: usize,
    /// Of all paths together.
    pub bytes: usize,
    pub time: Duration,
}

/// Each directory before what is in it, names in the order of their bytes.
#[derive(Debug, Default)]
pub(super) struct List {
    pub entries: Vec<FileView>,
    /// Why it ends early: of what comes after the last entry nothing is known.
    pub cut: Option<String>,
    pub unreadable: u64,
}

/// Found and not yet looked at, or the reason to stop.
type Found = Result<Vec<(PathBuf, String)>, String>;

/// Looks at everything below `root` on its own filesystem.
///
/// # Errors
/// The root itself cannot be read.
pub(super) fn walk(root: &Path, limits: Limits) -> io::Result<List> {
    let end = Instant::now() + limits.time;
    let device = std::fs::symlink_metadata(root)?.dev();
    std::fs::read_dir(root)?;
    let mut list = List::default();
    let mut bytes = 0;
    let mut left = vec![(root.to_owned(), String::new())];
    while let Some((path, text)) = left.pop() {
        if Instant::now() >= end {
            list.cut = Some(too_long(limits));
            break;
        }
        let data = match std::fs::symlink_metadata(&path) {
            Ok(data) => data,
            // Removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => {
                list.unreadable += 1;
                continue;
            }
        };
        let is_directory = data.is_dir() && data.dev() == device;
        if !text.is_empty() {
            bytes += text.len();
            list.entries.push(view(text.clone(), &data));
        }
        if bytes > limits.bytes {
            list.cut = Some(format!("its paths are longer than {} bytes", limits.bytes));
            break;
        }
        if is_directory {
            let room = limits
                .entries
                .saturating_sub(list.entries.len() + left.len());
            match children(&path, &text, room, end, limits) {
                Ok(Ok(found)) => left.extend(found),
                Ok(Err(why)) => {
                    list.cut = Some(why);
                    break;
                }
                Err(_) => list.unreadable += 1,
            }
        }
    }
    Ok(list)
}

/// What is in a directory, last name first.
fn children(
    path: &Path,
    text: &str,
    room: usize,
    end: Instant,
    limits: Limits,
) -> io::Result<Found> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        if found.len() >= room {
            return Ok(Err(format!("it has more than {} files", limits.entries)));
        }
        if Instant::now() >= end {
            return Ok(Err(too_long(limits)));
        }
        let shown = readable(name.as_bytes());
        let text = match text {
            "" => shown,
            text => format!("{text}/{shown}"),
        };
        found.push((path.join(name), text));
    }
    found.sort_by(|a, b| b.1.cmp(&a.1));
    Ok(Ok(found))
}

fn too_long(limits: Limits) -> String {
    format!("it takes longer than {} s", limits.time.as_secs())
}

/// Bytes that are no text as `\xNN`.
fn readable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn view(path: String, data: &Metadata) -> FileView {
    let kind = data.file_type();
    FileView {
        path,
        kind: if kind.is_dir() {
            FileKind::Directory
        } else if kind.is_file() {
            FileKind::File
        } else if kind.is_symlink() {
            FileKind::Link
        } else {
            FileKind::Other
        },
        size: data.len(),
        modified_ns: data
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(data.mtime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::fs;

    const WIDE: Limits = Limits {
        entries: 100,
        bytes: 10_000,
        time: Duration::from_secs(60),
    };

    fn tree() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("a/deep")).unwrap();
        for (name, text) in [("a/deep/x", "1"), ("a/y", "22"), ("a.b", "333"), ("z", "")] {
            fs::write(root.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
        fs::write(root.join(OsStr::from_bytes(b"odd\xff")), "").unwrap();
        directory
    }

    fn paths(list: &List) -> Vec<&str> {
        list.entries.iter().map(|one| one.path.as_str()).collect()
    }

    #[test]
    fn everything_is_listed_in_the_order_of_its_parts() {
        let directory = tree();
        let list = walk(directory.path(), WIDE).unwrap();
        let all = [
            "a", "a/deep", "a/deep/x", "a/y", "a.b", "link", "odd\\xff", "z",
        ];
        assert_eq!(paths(&list), all);
        assert!(all.is_sorted_by(|a, b| Path::new(a) < Path::new(b)));
        assert!(list.cut.is_none() && list.unreadable == 0);
        let of = |path: &str| list.entries.iter().find(|one| one.path == path).unwrap();
        assert_eq!((of("a.b").kind, of("a.b").size), (FileKind::File, 3));
        assert_eq!(of("link").kind, FileKind::Link);
        assert!(of("z").modified_ns > 1_600_000_000_000_000_000);
    }

    #[test]
    fn a_list_that_is_cut_has_everything_before_its_last_entry() {
        let directory = tree();
        let all = walk(directory.path(), WIDE).unwrap();
        for entries in 0..8 {
            let list = walk(directory.path(), Limits { entries, ..WIDE }).unwrap();
            assert!(list.cut.is_some() && list.entries.len() <= entries);
            assert_eq!(list.entries, all.entries[..list.entries.len()]);
        }
        let few = walk(directory.path(), Limits { bytes: 3, ..WIDE }).unwrap();
        assert!(few.cut.is_some());
        let time = Duration::ZERO;
        let none = walk(directory.path(), Limits { time, ..WIDE }).unwrap();
        assert!(none.cut.is_some() && none.entries.is_empty());
    }

    #[test]
    fn a_root_that_is_not_there_is_an_error() {
        assert!(walk(Path::new("/nowhere/at/all"), WIDE).is_err());
    }
}
