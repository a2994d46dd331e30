use super::*;

const FORMAT: Format = Format {
    magic: *b"hp-test\0",
    version: 3,
};

fn fixture() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    (dir, path)
}

#[test]
fn what_was_written_is_read_and_a_missing_file_is_none() {
    let (dir, path) = fixture();
    assert_eq!(read_checked(&path, FORMAT, 100).unwrap(), None);
    for payload in [&b""[..], b"one", &[0xff; 100]] {
        write_checked(&path, FORMAT, payload).unwrap();
        assert_eq!(
            read_checked(&path, FORMAT, 100).unwrap().as_deref(),
            Some(payload)
        );
    }
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left behind"
    );
}

#[test]
fn a_crash_at_any_byte_of_a_write_leaves_the_old_content() {
    let (dir, path) = fixture();
    write_checked(&path, FORMAT, b"new content").unwrap();
    let new = fs::read(&path).unwrap();
    write_checked(&path, FORMAT, b"old").unwrap();
    for cut in 0..=new.len() {
        fs::write(dir.path().join(".state.tmp"), &new[..cut]).unwrap();
        assert_eq!(
            read_checked(&path, FORMAT, 100).unwrap().as_deref(),
            Some(&b"old"[..])
        );
    }
    write_checked(&path, FORMAT, b"next").unwrap();
    assert_eq!(
        read_checked(&path, FORMAT, 100).unwrap().as_deref(),
        Some(&b"next"[..])
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_truncated_file_is_an_error_at_every_length() {
    let (_dir, path) = fixture();
    write_checked(&path, FORMAT, b"some payload").unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = read_checked(&path, FORMAT, 100).unwrap_err();
        assert!(
            matches!(error, ReadError::Damaged { .. }),
            "{length}: {error}"
        );
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(
        read_checked(&path, FORMAT, 100),
        Err(ReadError::Damaged { .. })
    ));
}

#[test]
fn a_bad_byte_is_an_error_at_every_place() {
    let (_dir, path) = fixture();
    write_checked(&path, FORMAT, b"some payload").unwrap();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = whole.clone();
            bad[at] ^= flip;
            fs::write(&path, bad).unwrap();
            let error = read_checked(&path, FORMAT, 100).unwrap_err();
            let foreign = matches!(error, ReadError::Foreign { .. });
            assert!(
                foreign == (at < 8) && (foreign || matches!(error, ReadError::Damaged { .. })),
                "{at}: {error}"
            );
        }
    }
}

#[test]
fn other_kinds_versions_and_sizes_are_told_apart() {
    let (_dir, path) = fixture();
    write_checked(
        &path,
        Format {
            version: 4,
            ..FORMAT
        },
        b"later",
    )
    .unwrap();
    assert!(matches!(
        read_checked(&path, FORMAT, 100),
        Err(ReadError::Version {
            found: 4,
            wanted: 3,
            ..
        })
    ));
    fs::write(&path, "#!/bin/sh\necho this is somebody else's file\n").unwrap();
    assert!(matches!(
        read_checked(&path, FORMAT, 100),
        Err(ReadError::Foreign { .. })
    ));
    write_checked(&path, FORMAT, &[0; 101]).unwrap();
    assert!(matches!(
        read_checked(&path, FORMAT, 100),
        Err(ReadError::Damaged { .. })
    ));
}

#[test]
fn errors_name_the_path_and_the_remedy() {
    let (dir, _) = fixture();
    let text = write_atomic(&dir.path().join("none/state"), b"")
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("none/.state.tmp") && text.contains("make its directory"),
        "{text}"
    );
    assert!(
        write_atomic(Path::new("/"), b"")
            .unwrap_err()
            .to_string()
            .contains("names no file")
    );
    let text = read_checked(dir.path(), FORMAT, 100)
        .unwrap_err()
        .to_string();
    assert!(text.contains(&*dir.path().to_string_lossy()), "{text}");
}

/// Runs `test` in a mount namespace of its own with a tmpfs of one page on `dir`.
fn on_tiny_tmpfs(dir: &Path, test: impl FnOnce() + Send) {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    let in_namespace = || {
        // SAFETY: takes no pointer; concerns only this thread, which ends after the test.
        assert_eq!(
            unsafe { libc::unshare(libc::CLONE_NEWNS) },
            0,
            "this test needs root"
        );
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .unwrap();
        mount("none", dir, "tmpfs", MountFlags::empty(), Some(c"size=4k")).unwrap();
        test();
    };
    std::thread::scope(|scope| scope.spawn(in_namespace).join().unwrap());
}

#[test]
fn a_full_disk_leaves_the_old_content_and_says_so() {
    let (dir, path) = fixture();
    on_tiny_tmpfs(dir.path(), || {
        // Every file takes one page at least, so the next one finds no room.
        write_checked(&path, FORMAT, b"old").unwrap();
        let text = write_checked(&path, FORMAT, b"new")
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("No space left") && text.contains("df"),
            "{text}"
        );
        assert_eq!(
            read_checked(&path, FORMAT, 100).unwrap().as_deref(),
            Some(&b"old"[..])
        );
        assert!(!dir.path().join(".state.tmp").exists());
        let remount = rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount_remount(dir.path(), remount, c"").unwrap();
        let text = write_checked(&path, FORMAT, b"new")
            .unwrap_err()
            .to_string();
        assert!(text.contains("read-only"), "{text}");
    });
}
