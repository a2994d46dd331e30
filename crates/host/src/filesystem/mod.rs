//! Filesystems on block devices: looked at, checked, made, mounted, taken away, and who uses them.
//!
//! ```text
//!  probe -> check | make -> mount ... look, users ... unmount
//! ```
//!
//! A device below may answer nothing but errors, or nothing at all. Mounting and unmounting are done
//! by a child process, and looking by a thread, each given up after its limit: neither holds the
//! caller, nor keeps this process from being ended.

mod check;
mod child;
mod look;
mod options;
mod probe;
mod table;
mod users;

pub use check::{Checked, FilesystemError, Policy, check, checker, grow, make, maker};
pub use child::{MountError, UnmountError, mount, unmount};
pub use look::{MountCheck, entries};
pub use options::{Options, OptionsError};
pub use probe::{Content, ProbeError, probe};
pub use table::{Mounted, block_device, fstab, mounts, parse_device, resolved, visible};
pub use users::{ProcessUser, Users, users, users_of_directory};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Most looks that may be stuck in the kernel at once.
const STUCK_LIMIT: usize = 32;

/// Does `work` on a thread of its own; `None` if it has not ended within `limit`, or cannot begin
/// because earlier work is stuck.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    struct Busy;
    impl Drop for Busy {
        fn drop(&mut self) {
            BUSY.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let before = BUSY.fetch_add(1, Ordering::Relaxed);
    let busy = Busy;
    if before >= STUCK_LIMIT {
        return None;
    }
    let (sender, result) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("filesystem".into())
        .stack_size(512 << 10)
        .spawn(move || {
            let _busy = busy;
            // Nobody listens any more after the limit.
            let _ = sender.send(work());
        })
        .ok()?;
    result.recv_timeout(limit).ok()
}
