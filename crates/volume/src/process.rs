//! The process of one mirror: `hotpair volume`, started by the daemon, outlives it.

use crate::driver::{Driver, Options};
use crate::engine::Engine;
use crate::protocol::pid_file;
use hotpair_host::rt::{RealTime, enter};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, setpriority_process};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Before ordinary programs, behind the guard.
const NICE: i32 = -15;
/// Linux 5.6, `include/uapi/linux/prctl.h`.
const PR_SET_IO_FLUSHER: i32 = 57;

/// Serves the mirror until the daemon ends the process.
///
/// # Errors
/// Another process serves it, the socket cannot be made, or the kernel has no io_uring.
pub fn run(options: Options) -> io::Result<()> {
    let _lock = lock(&options.socket)?;
    for warning in protect(&options.name) {
        eprintln!("volume {}: {warning}", options.name);
    }
    Driver::new(options, Engine::new)?.run()
}

/// Says in the file beside the socket who serves it, for as long as it is open.
fn lock(socket: &Path) -> io::Result<File> {
    let path = pid_file(socket);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let text = format!("another process serves this mirror, see {}", path.display());
        io::Error::new(io::ErrorKind::AlreadyExists, text)
    })?;
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Applications wait for this process, memory that is to be freed too: it must not wait for them.
/// One warning for each thing the system refused.
#[must_use]
pub fn protect(name: &str) -> Vec<String> {
    let mut warnings = enter(RealTime {
        priority: None,
        lock_memory: true,
        on_fault: true,
        spare_from_oom: true,
    });
    if let Err(error) = setpriority_process(None::<Pid>, NICE) {
        warnings.push(format!("cannot raise its priority: {error}"));
    }
    // Memory it asks for is not got by writing back to the device it serves itself.
    // SAFETY: takes numbers only.
    if unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) } != 0 {
        warnings.push(format!(
            "cannot be marked as a server of block I/O: {}",
            io::Error::last_os_error()
        ));
    }
    let short: Vec<u8> = format!("hp:{name}")
        .bytes()
        .filter(|byte| *byte != 0)
        .take(15)
        .chain([0])
        .collect();
    // SAFETY: a string that ends with zero and lives for the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, short.as_ptr(), 0, 0, 0) };
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_and_the_first_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("data.sock");
        let lock_of_first = lock(&socket).unwrap();
        assert_eq!(
            lock(&socket).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        let text = std::fs::read_to_string(pid_file(&socket)).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
        // Let go for all copies of the descriptor: a program that another test starts just now holds one.
        lock_of_first.unlock().unwrap();
        lock(&socket).unwrap();
    }
}
