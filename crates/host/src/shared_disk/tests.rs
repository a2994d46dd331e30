use super::*;
use std::os::unix::fs::PermissionsExt;

const SIZE: u64 = 64 << 10;

/// A directory where files can be opened with O_DIRECT.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

fn file(directory: &tempfile::TempDir, size: u64) -> PathBuf {
    let path = directory.path().join("disk");
    File::create(&path).unwrap().set_len(size).unwrap();
    path
}

#[test]
fn what_one_writes_another_one_reads() {
    let directory = directory();
    let path = file(&directory, SIZE);
    let one = SharedDisk::open(&path, SIZE, Purpose::Write).unwrap();
    let other = SharedDisk::open(&path, SIZE, Purpose::Read).unwrap();
    for turn in 1..=3u8 {
        one.write(8192, &[turn; 2 * BLOCK]).unwrap();
        assert_eq!(other.read(8192, 2 * BLOCK).unwrap(), [turn; 2 * BLOCK]);
        assert_eq!(other.read(0, BLOCK).unwrap(), [0; BLOCK]);
    }
    assert!(other.write(0, &[1; BLOCK]).is_err());
    let beyond = one.read(SIZE, BLOCK).unwrap_err();
    assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn disk_that_is_not_fit_is_refused_with_a_reason() {
    let directory = directory();
    let path = file(&directory, SIZE);
    let refused = |path: &Path, size, purpose| {
        SharedDisk::open(path, size, purpose)
            .unwrap_err()
            .to_string()
    };
    let text = refused(&path, SIZE + 1, Purpose::Write);
    assert!(text.contains("65537 are needed"), "{text}");
    let text = refused(directory.path(), SIZE, Purpose::Write);
    assert!(text.contains("neither a block device nor"), "{text}");
    let text = refused(&directory.path().join("none"), SIZE, Purpose::Write);
    assert!(text.contains("truncate"), "{text}");
    let text = refused(Path::new("/proc/self/status"), 0, Purpose::Read);
    assert!(text.contains("type proc"), "{text}");
    // Root may write to any file; others see the permission.
    let read_only = std::fs::Permissions::from_mode(0o400);
    std::fs::set_permissions(&path, read_only).unwrap();
    assert!(SharedDisk::open(&path, SIZE, Purpose::Read).is_ok());
}

#[test]
fn shares_are_told_by_what_becomes_of_their_writes() {
    let mounted = |point: &str, filesystem: &str, options: &str| {
        let mut mount = filesystem::mounts().unwrap().remove(0);
        mount.point = point.into();
        mount.filesystem = filesystem.into();
        mount.super_options = options.into();
        mount
    };
    let mounts = [
        mounted("/", "ext4", "rw"),
        mounted("/hard", "nfs4", "rw,vers=4.2,hard"),
        mounted("/fuse", "fuse.x", "rw"),
        mounted("/soft", "nfs", "rw,soft,timeo=600"),
    ];
    let found = |path: &str| share(&mounts, Path::new(path));
    assert_eq!(found("/soft/disk"), Err(Problem::Soft("soft".into())));
    assert_eq!(found("/hard/disk"), Ok(true));
    assert_eq!(found("/other/disk"), Ok(false));
    assert_eq!(found("/fuse/disk"), Err(Problem::Unknown("fuse.x".into())));
}
