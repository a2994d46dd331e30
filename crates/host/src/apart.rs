//! A thread whose open files are its own, for work that may hang in the kernel for ever.
//!
//! Threads of a process share one table of open files, and it lives until the last of them has ended. If one
//! hangs, all files of a process that was killed stay open: sockets on which nobody answers, locks that nobody
//! holds. A thread that is apart keeps its own files open, and nothing else.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Does `work` on a thread of its own, with a table of open files that has standard input, output, error and
/// `keep`. `work` must not bring open files with it: here they are closed. It hears if the system refuses, and
/// should end then: its files are the process's.
///
/// # Errors
/// No thread can be started.
pub fn spawn(
    name: &str,
    keep: &'static OwnedFd,
    work: impl FnOnce(io::Result<()>) + Send + 'static,
) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(512 << 10)
        .spawn(move || work(part(keep)))?;
    Ok(())
}

fn part(keep: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes no pointer. From here on this thread has its own copy of the table; the others keep theirs.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let kept = u32::try_from(keep.as_raw_fd()).unwrap_or(u32::MAX);
    close(3, kept.saturating_sub(1))?;
    close(kept.saturating_add(1), u32::MAX)
}

fn close(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: takes no pointer. It closes files in this thread's table only, which nothing in this thread owns:
    // the thread was made just now, and its work brings none.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn files_of_a_thread_apart_are_its_own() {
        let keep: &'static OwnedFd =
            Box::leak(Box::new(std::fs::File::open("/dev/null").unwrap().into()));
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let (sender, receiver) = mpsc::channel();
        let kept = keep.as_raw_fd();
        spawn("apart", keep, move |parted| {
            let open = std::fs::read_link(format!("/proc/thread-self/fd/{kept}"));
            let _ = sender.send((parted.is_ok(), open.is_ok()));
            // As if it hung in the kernel.
            let _ = wait.recv_timeout(Duration::from_secs(20));
        })
        .unwrap();
        assert_eq!(receiver.recv().unwrap(), (true, true));
        // It holds no copy of the stream's other end open.
        drop(theirs);
        ours.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        drop(go);
    }
}
