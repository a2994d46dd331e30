//! One thread that tells of the end of any number of processes.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

type Callback = Box<dyn FnOnce() + Send>;

/// A registration with [`ProcessWatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

/// A thread polling many pidfds, or other descriptors that become readable once.
///
/// Dropping it ends the thread; callbacks that have not been called are dropped.
pub struct ProcessWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    wake: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    closing: bool,
    watched: BTreeMap<u64, (Arc<OwnedFd>, Callback)>,
}

impl ProcessWatch {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            wake,
            state: Mutex::default(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("process-watch".into())
            .stack_size(256 << 10)
            .spawn(move || of_thread.poll_until_closed())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Calls `on_exit` once, on the watching thread, when the process behind `pidfd` has ended;
    /// at once when it has already. `on_exit` must be short: send a message, set a flag.
    pub fn watch(
        &self,
        pidfd: BorrowedFd<'_>,
        on_exit: impl FnOnce() + Send + 'static,
    ) -> io::Result<WatchId> {
        let pidfd = Arc::new(pidfd.try_clone_to_owned()?);
        let id = {
            let mut state = self.shared.lock();
            state.next += 1;
            let id = state.next;
            state.watched.insert(id, (pidfd, Box::new(on_exit)));
            id
        };
        self.shared.wake();
        Ok(WatchId(id))
    }

    /// Takes a registration back; `false` when its callback has been called or is being called.
    pub fn unwatch(&self, id: WatchId) -> bool {
        let removed = self.shared.lock().watched.remove(&id.0).is_some();
        self.shared.wake();
        removed
    }
}

impl Drop for ProcessWatch {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a callback that panicked has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Full means that a wake-up is pending already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn poll_until_closed(&self) {
        loop {
            let watched: Vec<(u64, Arc<OwnedFd>)> = {
                let state = self.lock();
                if state.closing {
                    return;
                }
                state
                    .watched
                    .iter()
                    .map(|(id, (fd, _))| (*id, Arc::clone(fd)))
                    .collect()
            };
            for id in self.ended(&watched) {
                let entry = self.lock().watched.remove(&id);
                if let Some((_, on_exit)) = entry {
                    // A panicking callback must not end the watch of the others.
                    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(on_exit));
                }
            }
        }
    }

    /// Waits for an exit or a change of the list; returns those that ended.
    fn ended(&self, watched: &[(u64, Arc<OwnedFd>)]) -> Vec<u64> {
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(
            watched
                .iter()
                .map(|(_, fd)| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)),
        );
        if rustix::event::poll(&mut fds, None).is_err() {
            return Vec::new();
        }
        // Empty when only a process ended.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        let ready = fds.iter().skip(1).map(|fd| !fd.revents().is_empty());
        watched
            .iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .map(|((id, _), _)| *id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn sleeper() -> (Child, OwnedFd) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        (child, pidfd)
    }

    #[test]
    fn tells_of_each_exit_once_and_of_no_other() {
        let watch = ProcessWatch::start().unwrap();
        let (sender, exits) = mpsc::channel();
        let mut children: Vec<(Child, OwnedFd)> = (0..20).map(|_| sleeper()).collect();
        for (i, (_, pidfd)) in children.iter().enumerate() {
            let sender = sender.clone();
            watch
                .watch(pidfd.as_fd(), move || sender.send(i).unwrap())
                .unwrap();
        }
        for (i, (child, _)) in children.iter_mut().enumerate() {
            child.kill().unwrap();
            assert_eq!(exits.recv_timeout(SOON).unwrap(), i);
            child.wait().unwrap();
        }
        assert!(exits.try_recv().is_err());
    }

    #[test]
    fn tells_at_once_of_a_process_that_has_ended_before() {
        let watch = ProcessWatch::start().unwrap();
        let (mut child, pidfd) = sleeper();
        child.kill().unwrap();
        child.wait().unwrap();
        let (sender, exits) = mpsc::channel();
        watch
            .watch(pidfd.as_fd(), move || sender.send(()).unwrap())
            .unwrap();
        exits.recv_timeout(SOON).unwrap();
    }

    #[test]
    fn tells_nothing_after_unwatch_and_survives_a_panicking_callback() {
        let watch = ProcessWatch::start().unwrap();
        let (sender, exits) = mpsc::channel();
        let (mut first, first_fd) = sleeper();
        let quiet = sender.clone();
        let id = watch
            .watch(first_fd.as_fd(), move || quiet.send("unwatched").unwrap())
            .unwrap();
        watch.watch(first_fd.as_fd(), || panic!("planted")).unwrap();
        assert!(watch.unwatch(id));
        assert!(!watch.unwatch(id));
        first.kill().unwrap();
        first.wait().unwrap();
        let (mut second, second_fd) = sleeper();
        watch
            .watch(second_fd.as_fd(), move || sender.send("second").unwrap())
            .unwrap();
        second.kill().unwrap();
        second.wait().unwrap();
        assert_eq!(exits.recv_timeout(SOON).unwrap(), "second");
    }
}
