//! Loop devices: bound, found again by their mark, and let go.
//!
//! The steps are for children ([`super::job`]): system calls alone, no memory.

use super::job::{Outcome, last_errno};
use super::raw::{Path, close, failed, open, pause};
use std::ffi::CStr;
use std::os::fd::RawFd;

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_SET_CAPACITY: libc::Ioctl = 0x4C07;
const BLKROSET: libc::Ioctl = 0x125D;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// Tries to find a device that nobody else takes between the two calls.
const TRIES: usize = 16;
/// How often, 10 ms apart, it is tried to claim a device.
const CLAIMS: usize = 50;
/// How often, 10 ms apart, a device is looked at until it is let go of.
const LOOKS: usize = 200;

/// What a loop device is called that hotpair made: at most 63 bytes, ended by zeros.
pub type Mark = [u8; 64];

/// `loop_info64` of the kernel.
#[repr(C)]
struct Status {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: Mark,
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `loop_config` of the kernel.
#[repr(C)]
struct Configuration {
    fd: u32,
    block_size: u32,
    info: Status,
    reserved: [u64; 8],
}

/// Steps of these jobs, for [`describe`].
const OPEN: u32 = 1;
const FREE: u32 = 2;
const DEVICE: u32 = 3;
const CONFIGURE: u32 = 4;
const CLAIM: u32 = 5;
const CLEAR: u32 = 6;
const GONE: u32 = 7;

/// What failed, in words, and what to do.
#[must_use]
pub(super) fn describe(step: u32, errno: i32) -> String {
    let what = match step {
        OPEN => "the file under the device cannot be opened",
        FREE => "there is no free loop device (is the module `loop` there?)",
        DEVICE => "the loop device cannot be opened",
        CONFIGURE => "the loop device cannot be bound",
        CLAIM if errno == libc::EBUSY => {
            return "the device is in use: unmount it, or end what holds it (see `lsof`)".into();
        }
        CLAIM => "the loop device cannot be looked at",
        CLEAR => "the loop device cannot be let go",
        GONE => return "the device is still held by somebody (see `lsof`)".into(),
        _ => "the work on the loop device ended too soon",
    };
    format!("{what}: {}", std::io::Error::from_raw_os_error(errno))
}

/// The mark of the volume `name`.
#[must_use]
pub fn mark(name: &str) -> Mark {
    let mut mark = [0; 64];
    let text = format!("hotpair:{name}");
    let bytes = text.as_bytes();
    if bytes.len() < mark.len() {
        mark[..bytes.len()].copy_from_slice(bytes);
    } else {
        let hash = blake3::hash(bytes).to_hex();
        mark[..46].copy_from_slice(&bytes[..46]);
        mark[46..62].copy_from_slice(&hash.as_bytes()[..16]);
    }
    mark
}

/// Binds a free loop device to the file that the path `file` leads to.
pub(super) fn bind(file: &CStr, block: u32, read_only: bool, mark: &Mark) -> Outcome {
    let (access, flags) = match read_only {
        true => (libc::O_RDONLY, LO_FLAGS_DIRECT_IO | LO_FLAGS_READ_ONLY),
        false => (libc::O_RDWR, LO_FLAGS_DIRECT_IO),
    };
    let Ok(file) = open(file, access | libc::O_DIRECT) else {
        return failed(OPEN);
    };
    let Ok(control) = open(c"/dev/loop-control", libc::O_RDWR) else {
        return failed(FREE);
    };
    for _ in 0..TRIES {
        // SAFETY: takes no argument.
        let number = unsafe { libc::ioctl(control, LOOP_CTL_GET_FREE) };
        let Ok(number) = u32::try_from(number) else {
            return failed(FREE);
        };
        let Ok(device) = open_device(number, libc::O_RDWR) else {
            return failed(DEVICE);
        };
        let configuration = Configuration {
            fd: file.cast_unsigned(),
            block_size: block,
            info: Status {
                flags,
                file_name: *mark,
                ..EMPTY
            },
            reserved: [0; 8],
        };
        // SAFETY: a `loop_config` that lives for the call, naming a descriptor that is open.
        if unsafe { libc::ioctl(device, LOOP_CONFIGURE, &raw const configuration) } == 0 {
            if !read_only {
                // It may have been made read-only when it was somebody else's (`blockdev --setro`): that
                // outlives the binding. Where it is not, this does nothing.
                let no: libc::c_int = 0;
                // SAFETY: a number that lives for the call.
                unsafe { libc::ioctl(device, BLKROSET, &raw const no) };
            }
            return Outcome::Done(u64::from(number));
        }
        if last_errno() != libc::EBUSY {
            return failed(CONFIGURE);
        }
        close(device);
    }
    failed(CONFIGURE)
}

/// Lets go of a device that nobody uses, and waits until it is free.
pub(super) fn release(number: u32, mark: &Mark) -> Outcome {
    // Only a device that can be claimed whole is not mounted, and part of nothing.
    // Somebody may just be looking at it (udev).
    let mut device = open_device(number, libc::O_RDONLY | libc::O_EXCL);
    for _ in 0..CLAIMS {
        if device.is_ok() || last_errno() != libc::EBUSY {
            break;
        }
        pause();
        device = open_device(number, libc::O_RDONLY | libc::O_EXCL);
    }
    let device = match device {
        Ok(device) => device,
        Err(()) if last_errno() == libc::ENXIO => return Outcome::Done(0),
        Err(()) => return failed(CLAIM),
    };
    if !bears(device, mark) {
        return Outcome::Done(0);
    }
    // SAFETY: takes no argument.
    if unsafe { libc::ioctl(device, LOOP_CLR_FD, 0) } != 0 && last_errno() != libc::ENXIO {
        return failed(CLEAR);
    }
    close(device);
    for _ in 0..LOOKS {
        let Ok(device) = open_device(number, libc::O_RDONLY) else {
            return Outcome::Done(0);
        };
        let bound = bears(device, mark);
        close(device);
        if !bound {
            return Outcome::Done(0);
        }
        pause();
    }
    Outcome::Failed {
        step: GONE,
        errno: libc::EBUSY,
    }
}

/// Lets go of every device among `numbers` that bears the mark, or one that begins like this, in use or
/// not: whoever uses it keeps getting errors, and it is free when the last one closes it. How many there
/// were.
pub(super) fn release_left_over(numbers: &[u32], mark: &Mark, like: Option<&Mark>) -> u64 {
    let mut count = 0;
    for &number in numbers {
        let Ok(device) = open_device(number, libc::O_RDONLY) else {
            continue;
        };
        if bears(device, mark) || like.is_some_and(|like| begins(device, like)) {
            // SAFETY: takes no argument.
            unsafe { libc::ioctl(device, LOOP_CLR_FD, 0) };
            count += 1;
        }
        close(device);
    }
    count
}

/// Tells the device that its file, which the path `file` leads to, has another size.
pub(super) fn resize(file: &CStr, number: u32, mark: &Mark) -> Outcome {
    let Ok(file) = open(file, libc::O_RDONLY) else {
        return failed(OPEN);
    };
    // Older kernels go by the size the file had when it was last looked at.
    // SAFETY: `stat` is plain numbers, and lives for the call.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        libc::fstat(file, &raw mut status);
    }
    let Ok(device) = open_device(number, libc::O_RDWR) else {
        return failed(DEVICE);
    };
    // SAFETY: takes no argument.
    if !bears(device, mark) || unsafe { libc::ioctl(device, LOOP_SET_CAPACITY, 0) } != 0 {
        return failed(CONFIGURE);
    }
    Outcome::Done(0)
}

/// Numbers of the loop devices that are bound to something.
#[must_use]
pub fn bound() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("loop").is_dir())
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("loop")?.parse().ok()
        })
        .take(4096)
        .collect()
}

const EMPTY: Status = Status {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

fn bears(device: RawFd, mark: &Mark) -> bool {
    mark_of(device) == Some(*mark)
}

/// Does its mark begin like this one, up to the zeros at its end?
fn begins(device: RawFd, like: &Mark) -> bool {
    let length = like.iter().position(|byte| *byte == 0).unwrap_or(0);
    mark_of(device).is_some_and(|mark| length > 0 && mark[..length] == like[..length])
}

fn mark_of(device: RawFd) -> Option<Mark> {
    let mut status = EMPTY;
    // SAFETY: a `loop_info64` that lives for the call.
    let found = unsafe { libc::ioctl(device, LOOP_GET_STATUS64, &raw mut status) } == 0;
    found.then_some(status.file_name)
}

fn open_device(number: u32, flags: i32) -> Result<RawFd, ()> {
    Path::new("/dev/loop").number(number).open(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_structures_have_the_kernels_size() {
        assert_eq!(size_of::<Status>(), 232);
        assert_eq!(size_of::<Configuration>(), 304);
    }

    #[test]
    fn marks_of_long_names_differ_and_end_with_zero() {
        let long = "x".repeat(80);
        let marks = [
            mark("a"),
            mark(&format!("{long}1")),
            mark(&format!("{long}2")),
        ];
        assert_eq!(&marks[0][..10], b"hotpair:a\0");
        assert_ne!(marks[1], marks[2]);
        assert!(marks.iter().all(|mark| mark[63] == 0));
    }
}
