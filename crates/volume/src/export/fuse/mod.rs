//! A FUSE file under a loop device with direct I/O.
//!
//! ```text
//!   filesystem -> /dev/loopN -> kernel thread of loop -> FUSE file -> /dev/fuse -> this process
//! ```
//!
//! The file is the root of its filesystem, which is mounted nowhere: only the loop device has it open.
//! Requests are read by a vectored read, so that a write's bytes land on a page of their own and go to
//! the disk as they are. Loop ends a write with FUA as a write and a sync of the file, and tells flushes
//! as syncs, so nothing that must be durable is lost on this way. A request is at most [`LARGEST`]
//! long: longer ones are split by the kernel, which lets disk and network begin sooner.
//!
//! When this process ends, however it does, the kernel closes `/dev/fuse` and every request that
//! waits fails with an I/O error. The loop device is left over then, failing everything; it is let
//! go of at the next start by its mark, see [`super::release_left_over`].

pub mod protocol;

use super::job::Job;
use super::{Export, NOWHERE, Request, Shape, Taken, What, errno, loop_device, within};
use crate::engine::IoError;
use crate::memory::{Buffer, Pool};
use protocol::{ARGUMENTS, Call, HEADER, Operation};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Longest read or write the kernel may ask for.
pub const LARGEST: u32 = 512 * 1024;
/// Requests the kernel may have under way: four times the depth of a loop device.
const BACKGROUND: u16 = 512;
/// Where [`Job::start`] puts the only descriptor it is given.
const MOUNT_IN_CHILD: &CStr = c"/proc/self/fd/4";
const PUNCH_HOLE: u32 = libc::FALLOC_FL_PUNCH_HOLE.cast_unsigned();
const ZERO_RANGE: u32 = libc::FALLOC_FL_ZERO_RANGE.cast_unsigned();

/// One volume's FUSE connection.
#[derive(Debug)]
pub struct Session {
    device: OwnedFd,
    mount: OwnedFd,
    shape: Shape,
    mark: loop_device::Mark,
    /// Lengths of writes under way, which their answers repeat.
    writes: BTreeMap<u64, u32>,
}

impl Session {
    /// Makes the file; nothing is asked before [`Export::attach`].
    ///
    /// # Errors
    /// The kernel has no FUSE, or this is not root.
    pub fn new(name: &str, shape: Shape) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = rustix::fs::open("/dev/fuse", flags, Mode::empty())?;
        let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let option = |key: &str, value: &str| fsconfig_set_string(context.as_fd(), key, value);
        option("source", "hotpair")?;
        option("fd", &device.as_raw_fd().to_string())?;
        option("rootmode", &format!("{:o}", protocol::MODE))?;
        option("user_id", "0")?;
        option("group_id", "0")?;
        option("max_read", &LARGEST.to_string())?;
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Self {
            device,
            mount,
            shape,
            mark: loop_device::mark(name),
            writes: BTreeMap::new(),
        })
    }

    fn handle(&mut self, call: Call, landing: Buffer, length: usize, pool: &mut Pool) -> Taken {
        let unique = call.unique;
        let (at, what) = match call.operation {
            Operation::Read { offset, size } => {
                let into = pool.keep(landing, size.min(LARGEST) as usize);
                let at = within(&self.shape, offset, size.into());
                (at.filter(|_| size <= LARGEST), What::Read { into })
            }
            Operation::Write { offset, size } => {
                let come = length.saturating_sub(HEADER + ARGUMENTS);
                let from = pool.keep(landing, come.min(LARGEST as usize));
                let whole = from.len() == size as usize;
                self.writes.insert(unique, size);
                let at = within(&self.shape, offset, size.into()).filter(|_| whole);
                (at, What::Write { from, fua: false })
            }
            Operation::Sync => (Some(NOWHERE), What::Flush),
            Operation::Allocate {
                offset,
                length,
                mode,
            } => {
                if !self.shape.zeroing || mode & (PUNCH_HOLE | ZERO_RANGE) == 0 {
                    self.reply(unique, libc::EOPNOTSUPP, &[]);
                    return Taken::Handled;
                }
                // Loop has one call for "not needed" and for "zeros, as holes": it must be zeros.
                (
                    within(&self.shape, offset, length),
                    What::Discard { zero: true },
                )
            }
            other => {
                self.answer_at_once(unique, other);
                return Taken::Handled;
            }
        };
        match at {
            Some(at) => Taken::Request(Request {
                tag: unique,
                at,
                what,
            }),
            None => {
                self.answer(unique, Err(IoError::Invalid), None);
                Taken::Handled
            }
        }
    }

    fn answer_at_once(&mut self, unique: u64, operation: Operation) {
        match operation {
            Operation::Init { minor, flags } => {
                match protocol::init(minor, flags, LARGEST, BACKGROUND) {
                    Some(bytes) => self.reply(unique, 0, &bytes),
                    None => self.reply(unique, libc::EPROTO, &[]),
                }
            }
            Operation::Attributes => {
                self.reply(unique, 0, &protocol::attributes(self.shape.size));
            }
            Operation::Open => self.reply(unique, 0, &protocol::opened()),
            Operation::Statistics => {
                self.reply(unique, 0, &protocol::statistics(self.shape.size));
            }
            Operation::Plain => self.reply(unique, 0, &[]),
            Operation::Silent => {}
            _ => self.reply(unique, libc::ENOSYS, &[]),
        }
    }

    /// Makes the kernel ask for the attributes again.
    fn invalidate(&self) {
        let (header, body) = protocol::invalidate();
        let parts = [IoSlice::new(&header), IoSlice::new(&body)];
        let _ = rustix::io::writev(&self.device, &parts);
    }

    fn reply(&self, unique: u64, errno: i32, body: &[u8]) {
        let header = protocol::answer_header(unique, errno, body.len());
        let parts = [IoSlice::new(&header), IoSlice::new(body)];
        // It fails if the request was given up, or the connection is gone: nobody waits then.
        let _ = rustix::io::writev(&self.device, &parts);
    }
}

impl Export for Session {
    fn kind(&self) -> &'static str {
        "fuse"
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    fn take(&mut self, pool: &mut Pool) -> io::Result<Taken> {
        let Some(landing) = pool.landing(LARGEST as usize) else {
            return Ok(Taken::Full);
        };
        let mut head = [0; HEADER + ARGUMENTS];
        let read = {
            // SAFETY: nobody else has a reference to the landing, and no operation on it is under way.
            let body = unsafe { std::slice::from_raw_parts_mut(landing.pointer(), landing.len()) };
            let mut parts = [IoSliceMut::new(&mut head), IoSliceMut::new(body)];
            rustix::io::readv(&self.device, &mut parts)
        };
        match read {
            Ok(length) => {
                let known = length.min(head.len());
                match protocol::decode(&head[..known.max(HEADER)]) {
                    Some(call) => Ok(self.handle(call, landing, length, pool)),
                    None => Ok(Taken::Handled),
                }
            }
            Err(Errno::AGAIN) => Ok(Taken::Nothing),
            // Given up by who asked, before it was read.
            Err(Errno::NOENT | Errno::INTR) => Ok(Taken::Handled),
            Err(Errno::NODEV | Errno::CONNABORTED) => Ok(Taken::Ended),
            Err(error) => Err(error.into()),
        }
    }

    fn answer(&mut self, tag: u64, result: Result<(), IoError>, data: Option<&Buffer>) {
        let written = self.writes.remove(&tag);
        match (result, written, data) {
            (Err(error), _, _) => self.reply(tag, errno(error), &[]),
            (Ok(()), Some(size), _) => self.reply(tag, 0, &protocol::written(size)),
            (Ok(()), None, Some(data)) => self.reply(tag, 0, data.bytes()),
            (Ok(()), None, None) => self.reply(tag, 0, &[]),
        }
    }

    fn attach(&mut self) -> io::Result<Job> {
        let (block, read_only, mark) = (self.shape.block, self.shape.read_only, self.mark);
        Job::start(&[self.mount.as_fd()], |_| {
            loop_device::bind(MOUNT_IN_CHILD, block, read_only, &mark)
        })
    }

    fn detach(&mut self, device: u64) -> io::Result<Job> {
        let mark = self.mark;
        let number = u32::try_from(device).map_err(|_| io::ErrorKind::InvalidInput)?;
        Job::start(&[], |_| loop_device::release(number, &mark))
    }

    fn resize(&mut self, device: u64, size: u64) -> io::Result<Job> {
        self.shape.size = size;
        self.invalidate();
        let mark = self.mark;
        let number = u32::try_from(device).map_err(|_| io::ErrorKind::InvalidInput)?;
        Job::start(&[self.mount.as_fd()], |_| {
            loop_device::resize(MOUNT_IN_CHILD, number, &mark)
        })
    }

    fn path(&self, device: u64) -> PathBuf {
        format!("/dev/loop{device}").into()
    }
}
