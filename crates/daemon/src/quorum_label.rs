//! Labels of quorum disks: what a disk is, and how one becomes a quorum disk.

use crate::store;
use hotpair_host::filesystem::{self, Content};
use hotpair_host::shared_disk::{OpenError, Purpose, SharedDisk};
use hotpair_wire::ClusterId;
use hotpair_wire::disk::{self, BLOCK, DiskError, Label};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a disk may take to say what it holds.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// Why a disk is no quorum disk, or could not become one.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is no quorum disk: {source}", path.display())]
    Label { path: PathBuf, source: DiskError },
    #[error(transparent)]
    Probe(#[from] filesystem::ProbeError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(
        "{} gave back something else than was written to it: it is no disk for a quorum (a read cache?)",
        .0.display()
    )]
    Forgets(PathBuf),
}

/// What a disk holds that is to become a quorum disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    Nothing,
    /// It is a quorum disk already.
    Label {
        cluster: u64,
        number: u64,
    },
    /// A filesystem, or something else, in words.
    Other(String),
}

/// Whose quorum disk it is. Takes as long as the disk does.
///
/// # Errors
/// It is none, or cannot be read.
pub fn look(path: &Path) -> Result<Label, LabelError> {
    let file = SharedDisk::open(path, disk::SIZE as u64, Purpose::Read)?;
    let bytes = read(&file, path)?;
    disk::read_label(&bytes).map_err(|source| LabelError::Label {
        path: path.to_owned(),
        source,
    })
}

/// What would be lost if it became a quorum disk. It is large enough, can be written and is used by nobody on
/// this host.
///
/// # Errors
/// It is not fit, or its content is not known.
pub fn holds(path: &Path) -> Result<Holds, LabelError> {
    let file = SharedDisk::open(path, disk::SIZE as u64, Purpose::Alone)?;
    let bytes = read(&file, path)?;
    match disk::read_label(&bytes) {
        Ok(label) => {
            return Ok(Holds::Label {
                cluster: label.cluster.0,
                number: label.disk,
            });
        }
        Err(DiskError::Format(_)) => {
            return Ok(Holds::Other("a quorum disk of another release".into()));
        }
        Err(_) => {}
    }
    drop(file);
    Ok(match filesystem::probe(path, None, LOOK_LIMIT)? {
        Content::Blank => Holds::Nothing,
        Content::Filesystem(name) => Holds::Other(format!("a filesystem ({name})")),
        Content::Other(what) => Holds::Other(what),
    })
}

/// Makes it an empty quorum disk of the cluster; returns the number drawn for it.
///
/// # Errors
/// It cannot be written, or does not keep what is written.
pub fn make(path: &Path, cluster: u64) -> Result<u64, LabelError> {
    let number = store::random_u64()?.max(1);
    let label = Label {
        cluster: ClusterId(cluster),
        disk: number,
    };
    let file = SharedDisk::open(path, disk::SIZE as u64, Purpose::Alone)?;
    for step in disk::label(label) {
        let written = file.write(step.offset, &step.bytes);
        written.map_err(|source| LabelError::Write {
            path: path.to_owned(),
            source,
        })?;
    }
    drop(file);
    match look(path) {
        Ok(found) if found == label => Ok(number),
        Ok(_) | Err(LabelError::Label { .. }) => Err(LabelError::Forgets(path.to_owned())),
        Err(error) => Err(error),
    }
}

fn read(file: &SharedDisk, path: &Path) -> Result<Vec<u8>, LabelError> {
    file.read(0, 2 * BLOCK).map_err(|source| LabelError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_disk_becomes_a_quorum_disk_and_says_whose() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = directory.path().join("disk");
        std::fs::File::create(&path)
            .unwrap()
            .set_len(16 << 20)
            .unwrap();
        assert!(matches!(
            look(&path),
            Err(LabelError::Label {
                source: DiskError::NoLabel,
                ..
            })
        ));
        assert_eq!(holds(&path).unwrap(), Holds::Nothing);
        let number = make(&path, 7).unwrap();
        let label = look(&path).unwrap();
        assert_eq!((label.cluster.0, label.disk), (7, number));
        assert_eq!(holds(&path).unwrap(), Holds::Label { cluster: 7, number });
        assert_ne!(make(&path, 7).unwrap(), number);
    }

    #[test]
    fn what_is_on_a_disk_is_told() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = directory.path().join("disk");
        let mut bytes = vec![0; 16 << 20];
        // The magic number of ext4's superblock alone is not enough for blkid; data of any kind is.
        bytes[1000] = 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(holds(&path), Ok(Holds::Other(_))));
    }
}
