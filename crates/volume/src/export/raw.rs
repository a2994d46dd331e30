//! For children made by fork: system calls alone, no memory.

use super::job::{Outcome, last_errno};
use std::ffi::CStr;
use std::os::fd::RawFd;

/// A path, being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    bytes: [u8; 64],
    length: usize,
}

impl Path {
    pub(super) fn new(start: &str) -> Self {
        let empty = Self {
            bytes: [0; 64],
            length: 0,
        };
        empty.then(start)
    }

    /// What does not fit is cut off: then nothing is found there.
    pub(super) fn then(mut self, part: &str) -> Self {
        let room = self.bytes.len() - 1 - self.length;
        let part = &part.as_bytes()[..part.len().min(room)];
        self.bytes[self.length..self.length + part.len()].copy_from_slice(part);
        self.length += part.len();
        self
    }

    pub(super) fn number(mut self, mut rest: u32) -> Self {
        let (mut digits, mut count) = ([0u8; 10], 0);
        loop {
            digits[count] = b'0' + (rest % 10) as u8;
            count += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        for digit in digits[..count].iter().rev() {
            if self.length < self.bytes.len() - 1 {
                self.bytes[self.length] = *digit;
                self.length += 1;
            }
        }
        self
    }

    pub(super) fn open(&self, flags: i32) -> Result<RawFd, ()> {
        CStr::from_bytes_until_nul(&self.bytes)
            .map_err(|_| ())
            .and_then(|path| open(path, flags))
    }
}

pub(super) fn open(path: &CStr, flags: i32) -> Result<RawFd, ()> {
    // SAFETY: a path that ends with zero and lives for the call.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) };
    if fd < 0 { Err(()) } else { Ok(fd) }
}

pub(super) fn close(fd: RawFd) {
    // SAFETY: opened by who calls, and not used after.
    unsafe { libc::close(fd) };
}

/// 10 ms.
pub(super) fn pause() {
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };
    // SAFETY: a time that lives for the call; what is left of it is not asked for.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}

pub(super) fn failed(step: u32) -> Outcome {
    Outcome::Failed {
        step,
        errno: last_errno(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_of_parts_and_numbers_and_never_too_long() {
        let path = Path::new("/sys/block/nbd").number(4_294_967_295).then("/x");
        assert_eq!(&path.bytes[..path.length], b"/sys/block/nbd4294967295/x");
        let zero = Path::new("a").number(0);
        assert_eq!(&zero.bytes[..3], b"a0\0");
        let long = Path::new(&"y".repeat(200)).number(12);
        assert_eq!((long.length, long.bytes[63]), (63, 0));
    }
}
