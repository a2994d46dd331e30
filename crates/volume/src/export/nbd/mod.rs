//! The kernel's nbd client, fed over a pair of sockets.
//!
//! ```text
//!   filesystem -> /dev/nbdN -> kernel -> socket pair -> this process
//! ```
//!
//! Connected over netlink: no thread waits in the kernel. The bytes of a write go from the socket to a
//! page of their own, and to the disk from there. A request is at most 512 KiB long; FUA and flushes
//! come as such, discards and zeros where the disk makes zeros by itself.
//!
//! When this process ends, however it does, a child that waits for that disconnects the device, and every
//! request that waits fails with an I/O error. Is that child killed with it, requests that come later fail at
//! once, and those that wait when the device is disconnected by the next process of this volume
//! ([`super::release_left_over`]), or after two minutes.

mod device;
mod netlink;
mod protocol;

pub(super) use device::{FIRST_STEP, connected, describe, release_left_over};

use super::job::Job;
use super::{Export, NOWHERE, Request, Shape, Taken, What, errno, loop_device, within};
use crate::engine::{IoError, Transfer};
use crate::memory::{Buffer, Pool};
use hotpair_host::clock;
use protocol::{Call, Command, REPLY, REQUEST};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size_force};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};

/// Longest read or write that is taken, should somebody have allowed longer ones than [`device`] does.
const ACCEPTED: u32 = 1024 * 1024;
/// Bytes that may wait in a socket, each way: some requests of the greatest length.
const WAITING: usize = 4 * 1024 * 1024;
/// Read from the socket beyond what is needed.
const INPUT: usize = 16 * 1024;

/// One volume's connection.
#[derive(Debug)]
pub struct Session {
    ours: OwnedFd,
    /// The kernel's end, until it has it.
    theirs: Option<OwnedFd>,
    /// Readable when there is something to be done with `ours`.
    ready: OwnedFd,
    input: Input,
    arriving: Option<Arriving>,
    /// Bytes of a request that is refused, which are not there yet.
    unwanted: usize,
    replies: VecDeque<Reply>,
    shape: Shape,
    backend: device::Backend,
    /// Who disconnects the device when the pipe closes.
    watcher: Option<(Job, OwnedFd)>,
}

/// Bytes that have come and were not looked at.
#[derive(Debug)]
struct Input {
    bytes: Box<[u8; INPUT]>,
    start: usize,
    end: usize,
}

impl Input {
    fn new() -> Self {
        Self {
            bytes: Box::new([0; INPUT]),
            start: 0,
            end: 0,
        }
    }

    fn waiting(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn used(&mut self, length: usize) {
        self.start += length;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room at the end, for a header at least.
    fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }
}

/// A write whose bytes are not all there.
#[derive(Debug)]
struct Arriving {
    call: Call,
    into: Buffer,
    filled: usize,
}

/// What the kernel has not taken yet.
#[derive(Debug)]
struct Reply {
    header: [u8; REPLY],
    data: Option<Buffer>,
    sent: usize,
}

impl Reply {
    fn length(&self) -> usize {
        REPLY + self.data.as_ref().map_or(0, Buffer::len)
    }
}

enum Came {
    Some,
    /// There is no more just now.
    None,
    End,
}

/// Has the kernel an nbd client? Its module is loaded if it can be.
fn present() -> bool {
    let loaded = || Path::new("/sys/module/nbd").exists();
    loaded()
        || Program::new("modprobe")
            .args(["-q", "nbd"])
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
            && loaded()
}

impl Session {
    /// Makes the connection; nothing is asked before [`Export::attach`].
    ///
    /// # Errors
    /// The kernel has no nbd.
    pub fn new(name: &str, shape: Shape) -> io::Result<Self> {
        match present() {
            true => Self::connection(name, shape),
            false => Err(io::Error::other("the kernel has no nbd (`modprobe nbd`)")),
        }
    }

    fn connection(name: &str, shape: Shape) -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        for end in [&ours, &theirs] {
            // With the system's own limits it works, too.
            let _ = set_socket_send_buffer_size_force(end, WAITING);
            let _ = set_socket_recv_buffer_size(end, WAITING);
        }
        rustix::io::ioctl_fionbio(&ours, true)?;
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &ready,
            &ours,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )?;
        Ok(Self {
            ours,
            theirs: Some(theirs),
            ready,
            input: Input::new(),
            arriving: None,
            unwanted: 0,
            replies: VecDeque::new(),
            shape,
            backend: device::backend(&loop_device::mark(name), clock::boottime_us()),
            watcher: None,
        })
    }

    /// Reads to the rest of what arrives, and what comes behind it.
    fn receive(&mut self) -> Came {
        let (rest, length) = match &self.arriving {
            Some(Arriving { into, filled, .. }) => (into.pointer(), into.len() - filled),
            None => (std::ptr::NonNull::dangling().as_ptr(), 0),
        };
        let offset = self.arriving.as_ref().map_or(0, |one| one.filled);
        // SAFETY: what is left of a buffer that nobody else has a reference to and that nothing under way
        // uses; or nothing, at an address that is not null.
        let rest = unsafe { std::slice::from_raw_parts_mut(rest.add(offset), length) };
        let read = {
            let mut parts = [IoSliceMut::new(rest), IoSliceMut::new(self.input.room())];
            rustix::io::readv(&self.ours, &mut parts)
        };
        match read {
            Ok(0) => Came::End,
            Ok(came) => {
                let here = came.min(length);
                if let Some(arriving) = &mut self.arriving {
                    arriving.filled += here;
                }
                self.input.end += came - here;
                Came::Some
            }
            Err(Errno::AGAIN | Errno::INTR) => Came::None,
            Err(_) => Came::End,
        }
    }

    /// The request at the front, if it is there and there is memory for it.
    fn next(&mut self, pool: &mut Pool) -> Option<Taken> {
        if self.unwanted > 0 {
            let length = self.unwanted.min(self.input.waiting().len());
            self.input.used(length);
            self.unwanted -= length;
        }
        if let Some(taken) = self.arrived() {
            return Some(taken);
        }
        if self.arriving.is_some() || self.unwanted > 0 {
            return None;
        }
        let Some(call) = protocol::decode(self.input.waiting().first_chunk()?) else {
            return Some(Taken::Ended);
        };
        let taken = self.called(call, pool);
        if !matches!(taken, Some(Taken::Full)) {
            self.input.used(REQUEST);
        }
        match taken {
            // A write: perhaps everything is there already.
            None => self.fill().or(Some(Taken::Handled)),
            taken => taken,
        }
    }

    /// `None`: a write whose bytes follow.
    fn called(&mut self, call: Call, pool: &mut Pool) -> Option<Taken> {
        let bytes = call.length as usize;
        let at = match call.command {
            Command::Flush => Some(NOWHERE),
            _ => within(&self.shape, call.offset, call.length.into()),
        };
        let fits = at.is_some() && call.length <= ACCEPTED;
        let what = match call.command {
            Command::Write if fits => {
                let Some(into) = pool.buffer(bytes) else {
                    return Some(Taken::Full);
                };
                self.arriving = Some(Arriving {
                    call,
                    into,
                    filled: 0,
                });
                return None;
            }
            Command::Write => {
                self.unwanted = bytes;
                self.answer(call.tag, Err(IoError::Invalid), None);
                return Some(Taken::Handled);
            }
            Command::Read if fits => match pool.buffer(bytes) {
                Some(into) => What::Read { into },
                None => return Some(Taken::Full),
            },
            Command::Flush => What::Flush,
            Command::Trim | Command::WriteZeroes if self.shape.zeroing => {
                What::Discard { zero: true }
            }
            Command::Disconnect => return Some(Taken::Ended),
            Command::Read | Command::Trim | Command::WriteZeroes | Command::Other(_) => {
                self.answer(call.tag, Err(IoError::Invalid), None);
                return Some(Taken::Handled);
            }
        };
        Some(self.request(call, at, what))
    }

    fn request(&mut self, call: Call, at: Option<Transfer>, what: What) -> Taken {
        match at {
            Some(at) => Taken::Request(Request {
                tag: call.tag,
                at,
                what,
            }),
            None => {
                self.answer(call.tag, Err(IoError::Invalid), None);
                Taken::Handled
            }
        }
    }

    /// Copies what has come with the header.
    fn fill(&mut self) -> Option<Taken> {
        let arriving = self.arriving.as_mut()?;
        let waiting = self.input.waiting();
        let length = waiting.len().min(arriving.into.len());
        arriving.into.write(0, &waiting[..length]);
        arriving.filled = length;
        self.input.used(length);
        self.arrived()
    }

    /// The write whose bytes are all there.
    fn arrived(&mut self) -> Option<Taken> {
        let Arriving { call, into, .. } = self
            .arriving
            .take_if(|arriving| arriving.filled == arriving.into.len())?;
        let at = within(&self.shape, call.offset, call.length.into());
        let what = What::Write {
            from: into,
            fua: call.fua,
        };
        Some(self.request(call, at, what))
    }

    /// Sends what could not be sent before.
    fn send(&mut self) {
        let many = !self.replies.is_empty();
        while let Some(reply) = self.replies.front_mut() {
            let header = &reply.header[reply.sent.min(REPLY)..];
            let data = reply.data.as_ref().map_or(&[][..], Buffer::bytes);
            let data = &data[reply.sent.saturating_sub(REPLY)..];
            let parts = [IoSlice::new(header), IoSlice::new(data)];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = sendmsg(
                &self.ours,
                &parts,
                &mut SendAncillaryBuffer::default(),
                flags,
            );
            match sent {
                Ok(length) => reply.sent += length,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // Nobody waits for it any more; that it is so shows when requests are read.
                Err(_) => reply.sent = reply.length(),
            }
            if reply.sent == reply.length() {
                self.replies.pop_front();
            }
        }
        if many && self.replies.is_empty() {
            self.wait_for(epoll::EventFlags::IN);
        }
    }

    fn wait_for(&self, what: epoll::EventFlags) {
        // It can only fail for want of memory; then it goes on when the next request comes.
        let _ = epoll::modify(&self.ready, &self.ours, epoll::EventData::new_u64(0), what);
    }

    fn number(device: u64) -> io::Result<u32> {
        u32::try_from(device).map_err(|_| io::ErrorKind::InvalidInput.into())
    }
}

impl Export for Session {
    fn kind(&self) -> &'static str {
        "nbd"
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    fn take(&mut self, pool: &mut Pool) -> io::Result<Taken> {
        if !self.replies.is_empty() {
            self.send();
        }
        loop {
            if let Some(taken) = self.next(pool) {
                return Ok(taken);
            }
            match self.receive() {
                Came::Some => {}
                Came::None => return Ok(Taken::Nothing),
                Came::End => return Ok(Taken::Ended),
            }
        }
    }

    fn answer(&mut self, tag: u64, result: Result<(), IoError>, data: Option<&Buffer>) {
        let (errno, data) = match result {
            Ok(()) => (0, data.cloned()),
            Err(error) => (errno(error), None),
        };
        let first = self.replies.is_empty();
        self.replies.push_back(Reply {
            header: protocol::reply(tag, errno),
            data,
            sent: 0,
        });
        if first {
            self.send();
            if !self.replies.is_empty() {
                self.wait_for(epoll::EventFlags::IN | epoll::EventFlags::OUT);
            }
        }
    }

    fn attach(&mut self) -> io::Result<Job> {
        let theirs = self.theirs.take().ok_or(io::ErrorKind::NotConnected)?;
        let backend = self.backend;
        let (end, life) = pipe_with(PipeFlags::CLOEXEC)?;
        let watcher = Job::start(&[end.as_fd()], |fds| device::watch(fds[0], &backend))?;
        self.watcher = Some((watcher, life));
        let shape = self.shape.clone();
        Job::start(&[theirs.as_fd()], |fds| {
            device::connect(fds[0], &shape, &backend)
        })
    }

    fn detach(&mut self, device: u64) -> io::Result<Job> {
        let (number, backend) = (Self::number(device)?, self.backend);
        Job::start(&[], |_| device::release(number, &backend))
    }

    fn resize(&mut self, device: u64, size: u64) -> io::Result<Job> {
        self.shape.size = size;
        let (number, backend) = (Self::number(device)?, self.backend);
        Job::start(&[], |_| device::resize(number, size, &backend))
    }

    fn path(&self, device: u64) -> PathBuf {
        format!("/dev/nbd{device}").into()
    }
}

#[cfg(test)]
mod tests;
