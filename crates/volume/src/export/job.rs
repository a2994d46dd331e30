//! Work on a device that this process serves, in a child: it blocks until we answer.
//!
//! Were it a thread of ours, a `kill -9` would hang for ever: the thread waits for an answer that only
//! the closing of our descriptors would replace by an error, and they close when the last thread ends.
//! The child is made by fork alone, keeps the descriptors it is given and closes all others first, and
//! calls nothing but the system: it allocates no memory, so that it may be made beside other threads.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;

/// Descriptors a child may keep; they become 3, 4, … in it.
const KEPT: usize = 4;
const FIRST: RawFd = 3;
const LENGTH: usize = 16;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a value: the number of a device.
    Done(u64),
    /// The step, counted by who wrote it, and the system's answer.
    Failed { step: u32, errno: i32 },
}

/// A child at work.
#[derive(Debug)]
pub struct Job {
    child: libc::pid_t,
    reading: OwnedFd,
}

impl Job {
    /// Runs `work` in a child with copies of `keep`, at 3 and upwards.
    ///
    /// `work` must allocate nothing, and panic nowhere.
    ///
    /// # Errors
    /// The system has no room for another process.
    pub fn start(
        keep: &[BorrowedFd<'_>],
        work: impl FnOnce(&[RawFd]) -> Outcome,
    ) -> io::Result<Self> {
        assert!(keep.len() < KEPT);
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut raw = [writing.as_raw_fd(); KEPT];
        for (place, fd) in raw[1..].iter_mut().zip(keep) {
            *place = fd.as_raw_fd();
        }
        let raw = &raw[..=keep.len()];
        // SAFETY: the child only calls what is safe after fork in a program with several threads:
        // `inherit` and `work` use system calls alone, by their contracts, and `_exit`.
        let child = unsafe { libc::fork() };
        match child {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let outcome = match inherit(raw) {
                    Ok(places) => work(&places[1..raw.len()]),
                    Err(errno) => Outcome::Failed { step: 0, errno },
                };
                report(outcome);
                // SAFETY: ends this child at once.
                unsafe { libc::_exit(0) }
            }
            child => Ok(Self { child, reading }),
        }
    }

    /// Readable when it has ended.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.reading.as_fd()
    }

    /// What came of it; `None`: it is still at work. Not asked again after it has said so.
    pub fn outcome(&mut self) -> Option<Outcome> {
        let mut bytes = [0; LENGTH];
        let outcome = match rustix::io::read(&self.reading, &mut bytes) {
            Ok(LENGTH) => decode(bytes),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return None,
            // It was killed.
            _ => Outcome::Failed {
                step: 0,
                errno: libc::ESRCH,
            },
        };
        self.reap();
        Some(outcome)
    }

    fn reap(&mut self) {
        if self.child > 0 {
            // SAFETY: our own child, not waited for before; no status is asked for.
            unsafe { libc::waitpid(self.child, std::ptr::null_mut(), 0) };
            self.child = 0;
        }
    }
}

impl Drop for Job {
    /// It may be blocked in a request that is not answered any more: it ends by itself then.
    fn drop(&mut self) {
        if self.child > 0 {
            // SAFETY: our own child, not waited for yet, so the number is still its own.
            unsafe {
                libc::kill(self.child, libc::SIGKILL);
                libc::waitpid(self.child, std::ptr::null_mut(), libc::WNOHANG);
            }
        }
    }
}

/// Leaves open: the standard three, and `raw` at [`FIRST`] and upwards. In the child only.
fn inherit(raw: &[RawFd]) -> Result<[RawFd; KEPT], i32> {
    let mut high = [-1; KEPT];
    for (place, fd) in high.iter_mut().zip(raw) {
        // SAFETY: copies a descriptor to a number above those it is to have.
        *place = unsafe { libc::fcntl(*fd, libc::F_DUPFD, FIRST + 8) };
        if *place < 0 {
            return Err(last_errno());
        }
    }
    let mut places = [-1; KEPT];
    let mut next = FIRST;
    for (place, fd) in places.iter_mut().zip(&high[..raw.len()]) {
        // SAFETY: both are numbers of this child alone; what it closes is not used by it any more.
        if unsafe { libc::dup2(*fd, next) } < 0 {
            return Err(last_errno());
        }
        *place = next;
        next += 1;
    }
    // SAFETY: closes what this child has no use for; nothing of it runs that owns a descriptor.
    unsafe { libc::syscall(libc::SYS_close_range, next, libc::c_uint::MAX, 0) };
    Ok(places)
}

pub(super) fn last_errno() -> i32 {
    // SAFETY: the address of this thread's own errno.
    unsafe { *libc::__errno_location() }
}

fn report(outcome: Outcome) {
    let bytes = encode(outcome);
    // SAFETY: writes a buffer that lives; a pipe takes so few bytes whole. Its end is FIRST, or, if
    // nothing could be inherited, nobody hears it and the child counts as killed.
    unsafe { libc::write(FIRST, bytes.as_ptr().cast(), bytes.len()) };
}

fn encode(outcome: Outcome) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    match outcome {
        Outcome::Done(value) => bytes[8..].copy_from_slice(&value.to_ne_bytes()),
        Outcome::Failed { step, errno } => {
            bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
            bytes[4..8].copy_from_slice(&step.to_ne_bytes());
            bytes[8..12].copy_from_slice(&errno.to_ne_bytes());
        }
    }
    bytes
}

fn decode(bytes: [u8; LENGTH]) -> Outcome {
    let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    match u32::from_ne_bytes(word(0)) {
        0 => {
            let mut value = [0; 8];
            value.copy_from_slice(&bytes[8..]);
            Outcome::Done(u64::from_ne_bytes(value))
        }
        _ => Outcome::Failed {
            step: u32::from_ne_bytes(word(4)),
            errno: i32::from_ne_bytes(word(8)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn wait(mut job: Job) -> Outcome {
        for _ in 0..500 {
            if let Some(outcome) = job.outcome() {
                return outcome;
            }
            let mut waits = [rustix::event::PollFd::new(
                &job.reading,
                rustix::event::PollFlags::IN,
            )];
            let limit = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 10_000_000,
            };
            let _ = rustix::event::poll(&mut waits, Some(&limit));
        }
        panic!("the child does not end");
    }

    #[test]
    fn a_child_has_what_it_was_given_and_nothing_else() {
        let kept = tempfile::tempfile().unwrap();
        let other = tempfile::tempfile().unwrap();
        let number = other.as_raw_fd();
        let is_open = |fd| {
            // SAFETY: asks for flags only.
            unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
        };
        let job = Job::start(&[kept.as_fd()], |fds| match fds {
            [first] if is_open(*first) && (number <= *first || !is_open(number)) => {
                Outcome::Done(7)
            }
            _ => Outcome::Failed { step: 1, errno: 2 },
        });
        assert_eq!(wait(job.unwrap()), Outcome::Done(7));
    }

    #[test]
    fn a_failure_names_its_step() {
        let failed = Outcome::Failed { step: 3, errno: 5 };
        assert_eq!(wait(Job::start(&[], |_| failed).unwrap()), failed);
    }

    #[test]
    fn a_killed_child_is_a_failure() {
        let job = Job::start(&[], |_| {
            // SAFETY: ends the child.
            unsafe { libc::_exit(1) }
        });
        let outcome = wait(job.unwrap());
        assert!(matches!(outcome, Outcome::Failed { step: 0, .. }));
    }
}
