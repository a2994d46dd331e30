//! io_uring: reads and writes of disks, readiness of descriptors, and one wait for all of them.
//!
//! Whole or failed: a transfer that was cut short is carried on until it is complete. A buffer is kept
//! until the kernel is done with it, whatever becomes of who asked.

use crate::memory::Buffer;
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

const ENTRIES: u32 = 512;
/// Bits of `user_data` that are not the place in the table: what tells a poll from a transfer.
const POLL: u64 = 1 << 63;
/// Ended transfers taken at a time.
const BATCH: usize = 256;
const RWF_DSYNC: i32 = libc::RWF_DSYNC;

/// What ended. `who` is what was given with the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Transfer {
        who: u64,
        result: Result<(), i32>,
    },
    /// A watched descriptor is ready; it goes on being watched.
    Ready {
        who: u64,
    },
}

/// The ring, with everything that is under way.
pub struct Ring {
    ring: IoUring,
    under_way: Vec<Option<UnderWay>>,
    free: Vec<u32>,
    watched: Vec<Watched>,
    count: usize,
    /// Ended while others were handed over.
    early: Vec<Ended>,
}

struct UnderWay {
    who: u64,
    work: Work,
}

enum Work {
    Transfer(Transfer),
    Other,
}

/// A read or write, and how much of it is done.
struct Transfer {
    fd: RawFd,
    offset: u64,
    buffer: Buffer,
    done: usize,
    way: Way,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write { durable: bool },
}

struct Watched {
    who: u64,
    fd: RawFd,
    events: u32,
    /// Forgotten when it was ready.
    once: bool,
}

impl Ring {
    /// # Errors
    /// The kernel has no io_uring (before 5.13), or it is switched off (`kernel.io_uring_disabled`).
    pub fn new() -> io::Result<Self> {
        let modern = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES);
        let ring = match modern {
            Ok(ring) => ring,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(ENTRIES)?,
            Err(error) => return Err(error),
        };
        Ok(Self {
            ring,
            under_way: Vec::new(),
            free: Vec::new(),
            watched: Vec::new(),
            count: 0,
            early: Vec::new(),
        })
    }

    /// Transfers that have not ended.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.count
    }

    /// # Errors
    /// The kernel refuses to take more.
    pub fn read(&mut self, who: u64, fd: RawFd, offset: u64, buffer: Buffer) -> io::Result<()> {
        self.transfer(who, fd, offset, buffer, Way::Read)
    }

    /// `durable`: ends when it is on stable storage.
    ///
    /// # Errors
    /// The kernel refuses to take more.
    pub fn write(
        &mut self,
        who: u64,
        fd: RawFd,
        offset: u64,
        buffer: Buffer,
        durable: bool,
    ) -> io::Result<()> {
        self.transfer(who, fd, offset, buffer, Way::Write { durable })
    }

    /// # Errors
    /// The kernel refuses to take more.
    pub fn flush(&mut self, who: u64, fd: RawFd) -> io::Result<()> {
        let place = self.place(UnderWay {
            who,
            work: Work::Other,
        });
        let entry = opcode::Fsync::new(Fd(fd))
            .flags(FsyncFlags::DATASYNC)
            .build();
        self.push(&entry.user_data(place))
    }

    /// # Errors
    /// The kernel refuses to take more.
    pub fn allocate(
        &mut self,
        who: u64,
        fd: RawFd,
        offset: u64,
        length: u64,
        mode: i32,
    ) -> io::Result<()> {
        let place = self.place(UnderWay {
            who,
            work: Work::Other,
        });
        let entry = opcode::Fallocate::new(Fd(fd), length)
            .offset(offset)
            .mode(mode)
            .build();
        self.push(&entry.user_data(place))
    }

    /// Tells [`Ended::Ready`] whenever the descriptor becomes ready for `events` (`POLLIN`, …): read it
    /// until it has no more. Changes what it was watched for before.
    ///
    /// # Errors
    /// The kernel refuses to take more.
    pub fn watch(&mut self, who: u64, fd: RawFd, events: i16) -> io::Result<()> {
        let events = u32::from(events.unsigned_abs());
        match self.watched.iter_mut().find(|watched| watched.who == who) {
            Some(watched) if watched.fd == fd && watched.events == events => {
                return Ok(());
            }
            Some(_) => self.forget(who)?,
            None => {}
        }
        self.watched.push(Watched {
            who,
            fd,
            events,
            once: false,
        });
        self.arm(who, fd, events, false)
    }

    /// Tells [`Ended::Ready`] when the descriptor is ready for `events`, a single time.
    ///
    /// # Errors
    /// The kernel refuses to take more.
    pub fn watch_once(&mut self, who: u64, fd: RawFd, events: i16) -> io::Result<()> {
        if self.watched.iter().any(|watched| watched.who == who) {
            return Ok(());
        }
        let events = u32::from(events.unsigned_abs());
        self.watched.push(Watched {
            who,
            fd,
            events,
            once: true,
        });
        self.arm(who, fd, events, true)
    }

    /// Hands over what was asked for: afterwards its descriptors may be closed.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn submit(&mut self) -> io::Result<()> {
        self.ring.submit().map(|_| ())
    }

    /// Watches it no more: before the descriptor is closed, or its file stays open.
    ///
    /// # Errors
    /// The kernel refuses to take more.
    pub fn forget(&mut self, who: u64) -> io::Result<()> {
        let before = self.watched.len();
        self.watched.retain(|watched| watched.who != who);
        if self.watched.len() == before {
            return Ok(());
        }
        self.ring.submit()?;
        match self
            .ring
            .submitter()
            .register_sync_cancel(None, CancelBuilder::user_data(POLL | who))
        {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            // Kernels before 6.0: the poll is removed when it fires next.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hands over what was asked for and waits until something ends, at most for `limit`
    /// (zero: does not wait). What ended is added to `ended`.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn wait(&mut self, limit: Duration, ended: &mut Vec<Ended>) -> io::Result<()> {
        let time = Timespec::new()
            .sec(limit.as_secs())
            .nsec(limit.subsec_nanos());
        let want = usize::from(!limit.is_zero() && self.early.is_empty());
        ended.append(&mut self.early);
        let arguments = SubmitArgs::new().timespec(&time);
        match self.ring.submitter().submit_with_args(want, &arguments) {
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        self.collect(ended)
    }

    fn collect(&mut self, ended: &mut Vec<Ended>) -> io::Result<()> {
        let mut entries = [const { None }; BATCH];
        loop {
            let mut count = 0;
            for entry in self.ring.completion().take(BATCH) {
                entries[count] = Some((entry.user_data(), entry.result(), entry.flags()));
                count += 1;
            }
            for (data, result, flags) in entries[..count].iter().flatten() {
                self.end(*data, *result, *flags, ended)?;
            }
            if count < BATCH {
                return Ok(());
            }
        }
    }

    fn end(
        &mut self,
        data: u64,
        result: i32,
        flags: u32,
        ended: &mut Vec<Ended>,
    ) -> io::Result<()> {
        if data & POLL != 0 {
            return self.ready(data & !POLL, result, flags, ended);
        }
        let place = usize::try_from(data).unwrap_or(usize::MAX);
        let Some(under_way) = self.under_way.get_mut(place).and_then(Option::take) else {
            return Ok(());
        };
        let who = under_way.who;
        let result = match under_way.work {
            Work::Transfer(transfer) => match transfer.carried_on(result) {
                Progress::Ended(result) => result,
                Progress::Rest(transfer) => {
                    let entry = transfer.entry();
                    self.under_way[place] = Some(UnderWay {
                        who,
                        work: Work::Transfer(transfer),
                    });
                    return self.push(&entry.user_data(data));
                }
            },
            Work::Other if result < 0 => Err(-result),
            Work::Other => Ok(()),
        };
        self.free.extend(u32::try_from(place));
        self.count -= 1;
        ended.push(Ended::Transfer { who, result });
        Ok(())
    }

    fn ready(
        &mut self,
        who: u64,
        result: i32,
        flags: u32,
        ended: &mut Vec<Ended>,
    ) -> io::Result<()> {
        let Some(place) = self.watched.iter().position(|watched| watched.who == who) else {
            return Ok(());
        };
        if self.watched[place].once {
            self.watched.swap_remove(place);
        } else if !cqueue::more(flags) && result != -libc::ECANCELED {
            let (fd, events) = (self.watched[place].fd, self.watched[place].events);
            self.arm(who, fd, events, false)?;
        }
        if result != -libc::ECANCELED {
            ended.push(Ended::Ready { who });
        }
        Ok(())
    }

    fn arm(&mut self, who: u64, fd: RawFd, events: u32, once: bool) -> io::Result<()> {
        assert!(who & POLL == 0);
        let entry = opcode::PollAdd::new(Fd(fd), events).multi(!once).build();
        self.push(&entry.user_data(POLL | who))
    }

    fn transfer(
        &mut self,
        who: u64,
        fd: RawFd,
        offset: u64,
        buffer: Buffer,
        way: Way,
    ) -> io::Result<()> {
        let transfer = Transfer {
            fd,
            offset,
            buffer,
            done: 0,
            way,
        };
        let entry = transfer.entry();
        let place = self.place(UnderWay {
            who,
            work: Work::Transfer(transfer),
        });
        self.push(&entry.user_data(place))
    }

    fn place(&mut self, work: UnderWay) -> u64 {
        self.count += 1;
        match self.free.pop() {
            Some(place) => {
                self.under_way[place as usize] = Some(work);
                u64::from(place)
            }
            None => {
                self.under_way.push(Some(work));
                self.under_way.len() as u64 - 1
            }
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entry points to is a buffer in `under_way`, kept until it has ended, and a
        // descriptor that the caller keeps open.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            match self.ring.submit() {
                Ok(_) => {}
                // What has ended must be taken first: it is handed out at the next wait.
                Err(error) if is_passing(&error) => {
                    let mut early = std::mem::take(&mut self.early);
                    let collected = self.collect(&mut early);
                    self.early = early;
                    collected?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Nothing is wrong with the ring: it had no time, or no room for what ends.
fn is_passing(error: &io::Error) -> bool {
    let passing = [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN];
    error
        .raw_os_error()
        .is_some_and(|errno| passing.contains(&errno))
}

enum Progress {
    Ended(Result<(), i32>),
    Rest(Transfer),
}

impl Transfer {
    fn entry(&self) -> squeue::Entry {
        let offset = self.offset + self.done as u64;
        // SAFETY: `done` is at most the length of the buffer.
        let pointer = unsafe { self.buffer.pointer().add(self.done) };
        let length = u32::try_from(self.buffer.len() - self.done).unwrap_or(!4095);
        match self.way {
            Way::Read => opcode::Read::new(Fd(self.fd), pointer, length)
                .offset(offset)
                .build(),
            Way::Write { durable } => opcode::Write::new(Fd(self.fd), pointer, length)
                .offset(offset)
                .rw_flags(if durable { RWF_DSYNC } else { 0 })
                .build(),
        }
    }

    fn carried_on(mut self, result: i32) -> Progress {
        let moved = match usize::try_from(result) {
            Ok(moved) => moved,
            Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) => {
                return Progress::Rest(self);
            }
            Err(_) => return Progress::Ended(Err(-result)),
        };
        self.done += moved.min(self.buffer.len() - self.done);
        if self.done == self.buffer.len() {
            return Progress::Ended(Ok(()));
        }
        match moved {
            // The end of the file, where there should be none.
            0 => Progress::Ended(Err(libc::EIO)),
            _ => Progress::Rest(self),
        }
    }
}

impl Drop for Ring {
    /// What is under way must end before its buffers go, or they are left to the kernel.
    fn drop(&mut self) {
        let mut ended = Vec::new();
        for _ in 0..50 {
            if self.count == 0 {
                return;
            }
            if self.wait(Duration::from_millis(100), &mut ended).is_err() {
                break;
            }
        }
        std::mem::forget(std::mem::take(&mut self.under_way));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Pool;
    use std::os::fd::AsRawFd;

    fn wait_for(ring: &mut Ring, count: usize) -> Vec<Ended> {
        let mut ended = Vec::new();
        for _ in 0..100 {
            if ended.len() >= count {
                break;
            }
            ring.wait(Duration::from_millis(100), &mut ended).unwrap();
        }
        assert_eq!(ended.len(), count);
        ended
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut pool = Pool::new(0).unwrap();
        let mut ring = Ring::new().unwrap();
        let file = tempfile::tempfile().unwrap();
        let fd = file.as_raw_fd();
        let mut bytes = pool.buffer(8192).unwrap();
        bytes.write(100, b"hello");
        ring.write(1, fd, 4096, bytes.clone(), true).unwrap();
        ring.flush(2, fd).unwrap();
        let ok = |who| Ended::Transfer {
            who,
            result: Ok(()),
        };
        let mut ended = wait_for(&mut ring, 2);
        ended.sort_by_key(|ended| *ended != ok(1));
        assert_eq!(ended, [ok(1), ok(2)]);
        let back = pool.buffer(8192).unwrap();
        ring.read(3, fd, 4096, back.clone()).unwrap();
        assert_eq!(wait_for(&mut ring, 1), [ok(3)]);
        assert_eq!(back.bytes(), bytes.bytes());
        assert_eq!(ring.under_way(), 0);
    }

    #[test]
    fn a_read_beyond_the_end_fails() {
        let mut pool = Pool::new(0).unwrap();
        let mut ring = Ring::new().unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let buffer = pool.buffer(8192).unwrap();
        ring.read(1, file.as_raw_fd(), 0, buffer).unwrap();
        let result = Err(libc::EIO);
        assert_eq!(wait_for(&mut ring, 1), [Ended::Transfer { who: 1, result }]);
    }

    #[test]
    fn a_descriptor_is_ready_again_and_again_until_forgotten() {
        use std::io::{Read, Write};
        let (mut near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut ring = Ring::new().unwrap();
        ring.watch(5, near.as_raw_fd(), libc::POLLIN).unwrap();
        for _ in 0..3 {
            far.write_all(b"x").unwrap();
            assert_eq!(wait_for(&mut ring, 1), [Ended::Ready { who: 5 }]);
            let mut byte = [0; 1];
            near.read_exact(&mut byte).unwrap();
        }
        ring.forget(5).unwrap();
        far.write_all(b"x").unwrap();
        let mut ended = Vec::new();
        ring.wait(Duration::from_millis(50), &mut ended).unwrap();
        assert_eq!(ended, []);
    }
}
