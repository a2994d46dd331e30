use super::*;
use std::process::Command;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn an_image_file_is_made_sparse_and_taken_once() {
    let directory = directory();
    let path = directory.path().join("below/image");
    let size = 64 * 1024 * 1024;
    let opened = open(&path, Some(size)).unwrap();
    assert_eq!((opened.size, opened.kind), (size, Kind::File));
    assert_eq!(opened.holds, None);
    assert!(std::fs::metadata(&path).unwrap().blocks() < 100);
    assert!(matches!(open(&path, None), Err(PlaceError::Locked { .. })));
    drop(opened);
    assert_eq!(open(&path, None).unwrap().size, size);
}

#[test]
fn a_missing_file_is_not_made_without_a_size_nor_without_room() {
    let directory = directory();
    let path = directory.path().join("image");
    assert!(matches!(open(&path, None), Err(PlaceError::Missing { .. })));
    let error = open(&path, Some(1 << 60)).unwrap_err();
    assert!(matches!(error, PlaceError::Space { .. }), "{error}");
    assert!(!path.exists());
    assert!(matches!(
        open(directory.path(), None),
        Err(PlaceError::Kind { .. })
    ));
}

#[test]
fn the_disk_of_the_root_filesystem_is_refused() {
    let number = std::fs::metadata("/").unwrap().dev();
    let error = refuse_system(Path::new("/dev/root"), number).unwrap_err();
    assert!(error.to_string().contains("the root filesystem"), "{error}");
}

#[test]
fn what_is_on_a_file_is_told() {
    let directory = directory();
    let path = directory.path().join("image");
    let tell = || open(&path, Some(16 << 20)).unwrap().holds;
    assert_eq!(tell(), None);
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program)
            .args(arguments)
            .arg(&path)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output()
            .unwrap()
            .status;
        assert!(status.success(), "{program}");
    };
    run("mkfs.ext4", &["-q", "-F"]);
    assert_eq!(tell().unwrap(), "a filesystem (ext4)");
    run("wipefs", &["-a", "-q"]);
    assert_eq!(tell().unwrap(), "data of an unknown kind");
    run("mkswap", &["-f"]);
    assert_eq!(tell().unwrap(), "swap space");
}
