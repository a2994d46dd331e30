//! Block devices made of a program: the kernel asks, [`Export`] hands the requests over, one by one.
//!
//! | Kind | Kernel | How |
//! |---|---|---|
//! | [`fuse`] | 5.2 | a FUSE file that nobody can see, under a loop device with direct I/O |
//! | [`nbd`] | 5.14 | the kernel's nbd client, over a pair of sockets |
//!
//! Nothing here waits for the device: whoever opens, binds or closes it blocks until this very process
//! has answered, so that is done by [`job`]s, children that hold none of our descriptors.

pub mod fuse;
pub mod job;
pub mod loop_device;
pub mod nbd;
mod raw;

use crate::engine::{IoError, Transfer};
use crate::memory::{Buffer, Pool};
use hotpair_core::config;
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
    /// What it is called in the configuration.
    fn kind(&self) -> &'static str;

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

/// Of a flush.
const NOWHERE: Transfer = Transfer {
    offset: 0,
    length: 0,
};

/// The transfer, if it lies within the volume and is made of whole blocks.
fn within(shape: &Shape, offset: u64, length: u64) -> Option<Transfer> {
    let block = u64::from(shape.block);
    let end = offset.checked_add(length)?;
    let whole = offset.is_multiple_of(block) && length.is_multiple_of(block);
    let length = u32::try_from(length).ok()?;
    (whole && end <= shape.size && length > 0).then_some(Transfer { offset, length })
}

/// Makes the kind that is wanted; of itself FUSE, and nbd where the kernel has no FUSE.
///
/// # Errors
/// The kernel has none of them, or this is not root.
pub fn make(wanted: config::Export, name: &str, shape: Shape) -> io::Result<Box<dyn Export>> {
    let fuse =
        |shape| io::Result::Ok(Box::new(fuse::Session::new(name, shape)?) as Box<dyn Export>);
    let nbd = |shape| io::Result::Ok(Box::new(nbd::Session::new(name, shape)?) as Box<dyn Export>);
    match wanted {
        config::Export::Fuse => fuse(shape),
        config::Export::Nbd => nbd(shape),
        config::Export::Auto => fuse(shape.clone()).or_else(|error| nbd(shape).map_err(|_| error)),
    }
}

/// Begins to let go of devices of either kind that an earlier process of this volume left behind; `all`:
/// those whose names have an `@` after this one, too.
///
/// # Errors
/// No child can be started.
pub fn release_left_over(name: &str, all: bool) -> io::Result<job::Job> {
    let mark = loop_device::mark(name);
    // A longer one is cut, and has no such end.
    let like = (all && name.len() < 37).then(|| loop_device::mark(&format!("{name}@")));
    let (loops, connected) = (loop_device::bound(), nbd::connected());
    job::Job::start(&[], |_| {
        let mut count = loop_device::release_left_over(&loops, &mark, like.as_ref());
        if !connected.is_empty() {
            count += nbd::release_left_over(&connected, &mark, like.as_ref());
        }
        job::Outcome::Done(count)
    })
}

/// What failed in a job, in words, and what to do.
#[must_use]
pub fn describe(step: u32, errno: i32) -> String {
    match step {
        nbd::FIRST_STEP.. => nbd::describe(step, errno),
        _ => loop_device::describe(step, errno),
    }
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
