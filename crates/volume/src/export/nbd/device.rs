//! The kernel's nbd devices: connected, found again by their mark, resized, and let go.
//!
//! The steps are for children ([`super::super::job`]): system calls alone, no memory.

use super::super::job::Outcome;
use super::super::loop_device::Mark;
use super::super::raw::{Path, close, failed, pause};
use super::netlink::{self, Netlink};
use super::protocol;
use crate::export::Shape;
use std::os::fd::RawFd;

/// A request that is not answered for so many seconds fails, and the device with it: for the day on which
/// nobody is left to tell the kernel that this process has ended.
const TIMEOUT: u64 = 120;
/// Numbers of devices that are looked at by who has no memory to list them.
const NUMBERS: u32 = 1024;
/// How often, 10 ms apart, it is tried to claim a device.
const CLAIMS: usize = 50;
/// How often, 10 ms apart, a device is looked at until it is let go of.
const LOOKS: usize = 200;

/// Steps of these jobs, for [`describe`]: not those of loop devices.
pub(in super::super) const FIRST_STEP: u32 = 100;
const FAMILY: u32 = 100;
const CONNECT: u32 = 101;
const BACKEND: u32 = 102;
const LARGEST: u32 = 103;
const CLAIM: u32 = 104;
const RECONFIGURE: u32 = 105;
const GONE: u32 = 106;

/// What a device is called in the kernel: the mark, `#`, and a number for the connection, ended by zeros.
/// By the number a child that is late leaves the next connection of the same volume alone.
pub(super) type Backend = [u8; 96];

/// The name of a connection; `run` is not used again for this mark.
pub(super) fn backend(mark: &Mark, run: u64) -> Backend {
    let mut backend = [0; 96];
    let length = mark.iter().position(|byte| *byte == 0).unwrap_or(0);
    let end = format!("#{run:016x}");
    backend[..length].copy_from_slice(&mark[..length]);
    backend[length..length + end.len()].copy_from_slice(end.as_bytes());
    backend
}

/// What failed, in words, and what to do.
pub(in super::super) fn describe(step: u32, errno: i32) -> String {
    let what = match step {
        FAMILY if errno == libc::ENOENT => {
            return "the kernel has no nbd (`modprobe nbd`), or this is a container".into();
        }
        FAMILY => "the kernel's nbd cannot be asked",
        CONNECT => "the nbd device cannot be connected",
        BACKEND => {
            return "the kernel's nbd keeps no marks (Linux before 5.14): use FUSE instead".into();
        }
        LARGEST => "the nbd device takes no limit of requests",
        CLAIM if errno == libc::EBUSY => {
            return "the device is in use: unmount it, or end what holds it (see `lsof`)".into();
        }
        CLAIM => "the nbd device cannot be looked at",
        RECONFIGURE => "the nbd device cannot be changed",
        GONE => return "the device is still held by somebody (see `lsof`)".into(),
        _ => "the work on the nbd device ended too soon",
    };
    format!("{what}: {}", std::io::Error::from_raw_os_error(errno))
}

/// Connects a free device to the kernel's end of a connection.
pub(super) fn connect(socket: RawFd, shape: &Shape, backend: &Backend) -> Outcome {
    let netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(errno) => return at(FAMILY, errno),
    };
    let message = netlink
        .message(netlink::CONNECT)
        .with_long(netlink::SIZE_BYTES, shape.size)
        .with_long(netlink::BLOCK_SIZE_BYTES, shape.block.into())
        .with_long(netlink::TIMEOUT, TIMEOUT)
        .with_long(netlink::SERVER_FLAGS, flags(shape))
        .with(netlink::BACKEND, with_zero(backend))
        .with_socket(socket);
    let number = match netlink.ask(message, netlink::INDEX) {
        Ok(number) => number,
        Err(errno) => return at(CONNECT, errno),
    };
    let ready = match bears(number, backend) {
        true => limit(number),
        false => Err(at(BACKEND, libc::ENOSYS)),
    };
    match ready {
        Ok(()) => Outcome::Done(number.into()),
        Err(outcome) => {
            disconnect(&netlink, number);
            outcome
        }
    }
}

/// Lets go of a device that nobody uses, and waits until it is free.
pub(super) fn release(number: u32, backend: &Backend) -> Outcome {
    // Only a device that can be claimed whole is not mounted, and part of nothing.
    // Somebody may just be looking at it (udev).
    let path = Path::new("/dev/nbd").number(number);
    let mut device = path.open(libc::O_RDONLY | libc::O_EXCL);
    for _ in 0..CLAIMS {
        if device.is_ok() || super::super::job::last_errno() != libc::EBUSY {
            break;
        }
        pause();
        device = path.open(libc::O_RDONLY | libc::O_EXCL);
    }
    let Ok(device) = device else {
        return failed(CLAIM);
    };
    if !bears(number, backend) {
        return Outcome::Done(0);
    }
    let netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(errno) => return at(FAMILY, errno),
    };
    let change = |flags| {
        let message = netlink
            .message(netlink::RECONFIGURE)
            .with(netlink::INDEX, &number.to_ne_bytes())
            .with(netlink::BACKEND, with_zero(backend))
            .with_long(netlink::CLIENT_FLAGS, flags);
        netlink.ask(message, netlink::INDEX)
    };
    if let Err(errno) = change(netlink::DISCONNECT_ON_CLOSE) {
        return at(RECONFIGURE, errno);
    }
    // Who closes it last waits until everything in the cache is written, then it goes.
    close(device);
    for _ in 0..LOOKS {
        if !bears(number, backend) {
            return Outcome::Done(0);
        }
        pause();
    }
    let _ = change(0);
    at(GONE, libc::EBUSY)
}

/// Disconnects those of `numbers` that bear the mark, or `like` up to its end, in use or not: whoever
/// uses one keeps getting errors, and it is free when the last one closes it. How many there were.
pub(in super::super) fn release_left_over(
    numbers: &[u32],
    mark: &Mark,
    like: Option<&Mark>,
) -> u64 {
    let Ok(netlink) = Netlink::open() else {
        return 0;
    };
    let mut count = 0;
    for &number in numbers {
        let found = backend_of(number).and_then(|backend| mark_in(&backend));
        if found == Some(*mark) || like.is_some_and(|like| begins(found, like)) {
            disconnect(&netlink, number);
            count += 1;
        }
    }
    count
}

/// Gives the device another size.
pub(super) fn resize(number: u32, size: u64, backend: &Backend) -> Outcome {
    let netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(errno) => return at(FAMILY, errno),
    };
    let message = netlink
        .message(netlink::RECONFIGURE)
        .with(netlink::INDEX, &number.to_ne_bytes())
        .with(netlink::BACKEND, with_zero(backend))
        .with_long(netlink::SIZE_BYTES, size);
    match netlink.ask(message, netlink::INDEX) {
        Ok(_) => Outcome::Done(0),
        Err(errno) => at(RECONFIGURE, errno),
    }
}

/// Waits until the other end of the pipe `life` has closed, and then disconnects the device of this
/// connection: what waits for an answer fails at once.
pub(super) fn watch(life: RawFd, backend: &Backend) -> Outcome {
    let mut waits = libc::pollfd {
        fd: life,
        events: 0,
        revents: 0,
    };
    loop {
        // SAFETY: one entry that lives for the call.
        let ready = unsafe { libc::poll(&raw mut waits, 1, -1) };
        if ready > 0 || super::super::job::last_errno() != libc::EINTR {
            break;
        }
    }
    let Ok(netlink) = Netlink::open() else {
        return Outcome::Done(0);
    };
    for number in 0..NUMBERS {
        if bears(number, backend) {
            disconnect(&netlink, number);
        }
    }
    Outcome::Done(0)
}

/// Numbers of the devices that are connected by somebody who left a mark.
#[must_use]
pub(in super::super) fn connected() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("backend").exists())
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("nbd")?.parse().ok()
        })
        .take(4096)
        .collect()
}

fn flags(shape: &Shape) -> u64 {
    let mut flags = protocol::HAS_FLAGS | protocol::SEND_FLUSH | protocol::SEND_FUA;
    if shape.read_only {
        flags |= protocol::READ_ONLY;
    }
    if shape.zeroing && !shape.read_only {
        flags |= protocol::SEND_TRIM | protocol::SEND_WRITE_ZEROES;
    }
    flags
}

/// Sets how long requests may be.
fn limit(number: u32) -> Result<(), Outcome> {
    let path = Path::new("/sys/block/nbd")
        .number(number)
        .then("/queue/max_sectors_kb");
    let Ok(file) = path.open(libc::O_WRONLY) else {
        return Err(failed(LARGEST));
    };
    const TEXT: &[u8] = b"512";
    // SAFETY: bytes that live for the call, and their length.
    let written = unsafe { libc::write(file, TEXT.as_ptr().cast(), TEXT.len()) };
    let outcome = failed(LARGEST);
    close(file);
    match written {
        0.. => Ok(()),
        _ => Err(outcome),
    }
}

fn disconnect(netlink: &Netlink, number: u32) {
    let message = netlink
        .message(netlink::DISCONNECT)
        .with(netlink::INDEX, &number.to_ne_bytes());
    let _ = netlink.ask(message, netlink::INDEX);
}

fn bears(number: u32, backend: &Backend) -> bool {
    backend_of(number) == Some(*backend)
}

/// Does the mark begin like this one, up to the zeros at its end?
fn begins(found: Option<Mark>, like: &Mark) -> bool {
    let length = like.iter().position(|byte| *byte == 0).unwrap_or(0);
    found.is_some_and(|mark| length > 0 && mark[..length] == like[..length])
}

fn backend_of(number: u32) -> Option<Backend> {
    let path = Path::new("/sys/block/nbd").number(number).then("/backend");
    let file = path.open(libc::O_RDONLY).ok()?;
    let mut text = [0u8; 128];
    // SAFETY: a buffer that lives for the call, and its length.
    let length = unsafe { libc::read(file, text.as_mut_ptr().cast(), text.len()) };
    close(file);
    let text = text.get(..usize::try_from(length).ok()?)?;
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut backend = [0; 96];
    backend.get_mut(..text.len())?.copy_from_slice(text);
    (backend[95] == 0).then_some(backend)
}

/// Without the connection.
fn mark_in(backend: &Backend) -> Option<Mark> {
    let length = backend.iter().rposition(|byte| *byte == b'#')?;
    let mut mark = [0; 64];
    mark.get_mut(..length)?.copy_from_slice(&backend[..length]);
    (mark[63] == 0).then_some(mark)
}

/// With one of the zeros after it.
fn with_zero(backend: &Backend) -> &[u8] {
    let length = backend.iter().position(|byte| *byte == 0);
    &backend[..length.map_or(backend.len(), |length| length + 1)]
}

fn at(step: u32, errno: i32) -> Outcome {
    Outcome::Failed { step, errno }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::loop_device;

    #[test]
    fn a_connection_is_told_by_its_number_and_a_volume_by_its_mark() {
        for name in ["a".to_owned(), "x#".repeat(100)] {
            let mark = loop_device::mark(&name);
            let [one, other] = [1, u64::MAX].map(|run| backend(&mark, run));
            assert_ne!(one, other);
            assert_eq!(mark_in(&one), Some(mark));
            assert_eq!(mark_in(&other), Some(mark));
        }
        let one = backend(&loop_device::mark("a"), 10);
        assert_eq!(with_zero(&one), b"hotpair:a#000000000000000a\0");
        assert_eq!(mark_in(&[0; 96]), None);
        assert_eq!(mark_in(&[b'#'; 96]), None);
    }

    #[test]
    fn devices_of_snapshots_begin_like_their_volumes_and_others_do_not() {
        let like = loop_device::mark("a@");
        assert!(begins(Some(loop_device::mark("a@/dev/x")), &like));
        assert!(!begins(Some(loop_device::mark("ab@/dev/x")), &like));
        assert!(!begins(None, &like));
        assert!(!begins(Some([0; 64]), &[0; 64]));
    }

    #[test]
    fn what_the_disk_cannot_do_is_not_offered() {
        let mut shape = Shape {
            size: 1 << 20,
            block: 4096,
            zeroing: false,
            read_only: false,
        };
        let zeros = protocol::SEND_TRIM | protocol::SEND_WRITE_ZEROES;
        assert_eq!(flags(&shape) & (zeros | protocol::READ_ONLY), 0);
        shape.zeroing = true;
        assert_eq!(flags(&shape) & zeros, zeros);
        shape.read_only = true;
        assert_eq!(flags(&shape) & zeros, 0);
        assert_ne!(flags(&shape) & protocol::READ_ONLY, 0);
    }
}
