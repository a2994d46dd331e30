//! For tests: loop devices on image files, and mount namespaces of a test's own.

use rustix::thread::UnshareFlags;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a test in a mount namespace, and others that `flags` name, of its own: what it mounts ends with it.
pub fn in_namespace(flags: UnshareFlags, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // Only this thread, and those it starts, change, and they have no other use.
        #[allow(deprecated)]
        rustix::thread::unshare(flags | UnshareFlags::NEWNS).expect("these tests need root");
        sh("mount --make-rprivate /");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a line of shell that must succeed; what it printed.
pub fn sh(line: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A loop device; taken away, with what is mounted from it, at the end.
pub struct Disk {
    pub device: String,
    pub image: PathBuf,
}

impl Disk {
    /// Of so many MiB, all zero.
    pub fn new(image: &Path, mib: u64) -> Self {
        fs::File::create(image)
            .and_then(|file| file.set_len(mib << 20))
            .unwrap();
        let shown = image.display();
        // Another test may take the free one meanwhile.
        let device = sh(&format!(
            "for i in 1 2 3 4 5 6 7 8; do losetup -f --show '{shown}' && exit; done; exit 1"
        ));
        // Who had it before may have left it read-only.
        sh(&format!("blockdev --setrw {device}"));
        Self {
            device,
            image: image.to_owned(),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let line = format!(
            "umount -lA {0}; blockdev --setrw {0}; losetup -d {0}",
            self.device
        );
        let _ = Command::new("/bin/sh").args(["-c", &line]).output();
        let _ = fs::remove_file(&self.image);
    }
}
