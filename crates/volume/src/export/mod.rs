//! Block devices made of a program: the kernel asks, [`Export`] hands the requests over, one by one.
//!
//! | Kind | Kernel | How |
//! |---|---|---|
//! | [`fuse`] | 5.2 | a FUSE file that nobody can see, under a loop device with direct I/O |
//!
//! Nothing here waits for the device: whoever opens, binds or closes it blocks until this very process
//! has answered, so that is done by [`job`]s, children that hold none of our descriptors.

pub mod fuse;
pub mod job;
pub mod loop_device;

use crate::engine::{IoError, Transfer};
use crate::memory::{Buffer, Pool};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// What a device is to look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// In bytes, a multiple of `block`.
    pub size: u64,
    /// 512 or 4096: the smallest thing that is read or written.
    pub block: u32,
    /// Zeros can be written without sending them: the local disk makes holes, or zeros, by itself.
    pub zeroing: bool,
    pub read_only: bool,
}

/// A request of the kernel, answered once by [`Export::answer`].
#[derive(Clone, Debug)]
pub struct Request {
    /// The export's own name for it.
    pub tag: u64,
    pub at: Transfer,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// `into`: where the bytes go; handed to [`Export::answer`].
    Read {
        into: Buffer,
    },
    Write {
        from: Buffer,
        fua: bool,
    },
    Flush,
    Discard {
        zero: bool,
    },
}

/// What [`Export::take`] found.
#[derive(Debug)]
pub enum Taken {
    Request(Request),
    /// Nothing to do for anybody else; there may be more.
    Handled,
    /// No request waits.
    Nothing,
    /// No memory for another one: try again when some is given back.
    Full,
    /// The kernel has closed it.
    Ended,
}

/// A way to give the kernel a block device.
pub trait Export {
    /// Readable when requests wait.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Takes the next request.
    ///
    /// # Errors
    /// The device is lost.
    fn take(&mut self, pool: &mut Pool) -> io::Result<Taken>;

    /// Ends a request. `data`: of a read that went well.
    fn answer(&mut self, tag: u64, result: Result<(), IoError>, data: Option<&Buffer>);

    /// Begins to make the device; its end says which one it is.
    ///
    /// # Errors
    /// No child can be started.
    fn attach(&mut self) -> io::Result<job::Job>;

    /// Begins to take the device away, unless it is in use; requests go on until that has ended.
    ///
    /// # Errors
    /// No child can be started.
    fn detach(&mut self, device: u64) -> io::Result<job::Job>;

    /// The volume has grown; begins to tell the kernel.
    ///
    /// # Errors
    /// No child can be started.
    fn resize(&mut self, device: u64, size: u64) -> io::Result<job::Job>;

    /// Path of the device.
    fn path(&self, device: u64) -> PathBuf;
}

/// Errors as the kernel is told them.
#[must_use]
pub fn errno(error: IoError) -> i32 {
    match error {
        IoError::Closed | IoError::Failed => libc::EIO,
        IoError::NoSpace => libc::ENOSPC,
        IoError::Invalid => libc::EINVAL,
    }
}
