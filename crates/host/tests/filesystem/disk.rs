//! Loop devices on image files, in a mount namespace of the test's own.

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change};
use rustix::thread::UnshareFlags;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Ample time for anything that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test in a mount namespace of its own: what it mounts ends with it.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: only the mount namespace of this thread, and of those it starts, changes.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
            .expect("these tests need root");
        mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )
        .unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program that must succeed; what it printed.
pub fn sh(line: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A loop device on an image file; detached when dropped.
pub struct Disk {
    pub device: PathBuf,
    pub number: (u32, u32),
    _dir: Option<tempfile::TempDir>,
}

impl Disk {
    /// Of so many MiB, all zero.
    pub fn new(mib: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Self::at(&dir.path().join("image"), mib);
        disk._dir = Some(dir);
        disk
    }

    pub fn at(image: &Path, mib: u64) -> Self {
        std::fs::File::create(image)
            .and_then(|file| file.set_len(mib << 20))
            .unwrap();
        let image = image.display();
        // Another test may take the free one meanwhile.
        let device = sh(&format!(
            "for i in 1 2 3 4 5 6 7 8; do losetup -f --show '{image}' && exit; done; exit 1"
        ));
        // Who had it before may have left it read-only.
        sh(&format!("blockdev --setrw {device}"));
        let name = device.rsplit('/').next().unwrap();
        let number = std::fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap();
        Self {
            number: hotpair_host::filesystem::parse_device(&number).unwrap(),
            device: device.into(),
            _dir: None,
        }
    }

    pub fn with(filesystem: &str) -> Self {
        let disk = Self::new(if filesystem == "ext4" { 16 } else { 320 });
        sh(&format!("mkfs.{filesystem} -q {}", disk.device.display()));
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.device).output();
    }
}

/// Takes a mount away at the end, whatever the test did.
pub struct Point(pub PathBuf);

impl Drop for Point {
    fn drop(&mut self) {
        while rustix::mount::unmount(&self.0, UnmountFlags::DETACH).is_ok() {}
    }
}

/// Looks again and again until there is an answer.
pub fn wait<T>(look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long");
        std::thread::yield_now();
    }
}
