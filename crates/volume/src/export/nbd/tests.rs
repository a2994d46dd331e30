//! This process is the kernel: it has the other end of the connection.

use super::protocol::tests::encode;
use super::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const READ: u16 = 0;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const ZEROES: u16 = 6;

fn session(zeroing: bool) -> (Session, UnixStream, Pool) {
    let shape = Shape {
        size: 8 << 20,
        block: 4096,
        zeroing,
        read_only: false,
    };
    let mut session = Session::connection("test", shape).unwrap();
    let kernel = UnixStream::from(session.theirs.take().unwrap());
    (session, kernel, Pool::new(0).unwrap())
}

fn request(session: &mut Session, pool: &mut Pool) -> Request {
    loop {
        match session.take(pool).unwrap() {
            Taken::Request(request) => return request,
            Taken::Handled => {}
            other => panic!("{other:?}"),
        }
    }
}

fn idle(session: &mut Session, pool: &mut Pool) {
    loop {
        match session.take(pool).unwrap() {
            Taken::Nothing => return,
            Taken::Handled => {}
            other => panic!("{other:?}"),
        }
    }
}

fn replied(kernel: &mut UnixStream) -> (u64, u32) {
    let mut bytes = [0; REPLY];
    kernel.read_exact(&mut bytes).unwrap();
    let errno = u32::from_be_bytes(*bytes[4..].first_chunk().unwrap());
    (
        u64::from_be_bytes(*bytes[8..].first_chunk().unwrap()),
        errno,
    )
}

#[test]
fn writes_arrive_whole_however_their_bytes_come() {
    let (mut session, mut kernel, mut pool) = session(false);
    let data: Vec<u8> = (0..40_960u32).map(|at| (at % 251) as u8).collect();
    let mut bytes = encode(7, WRITE, 1, 8192, 40_960).to_vec();
    bytes.extend(&data);
    bytes.extend(encode(8, FLUSH, 0, 0, 0));
    let mut taken = Vec::new();
    for piece in bytes.chunks(9_001) {
        for part in [&piece[..1], &piece[1..]] {
            kernel.write_all(part).unwrap();
            loop {
                match session.take(&mut pool).unwrap() {
                    Taken::Request(request) => taken.push(request),
                    Taken::Handled => {}
                    Taken::Nothing => break,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    let [write, flush] = &taken[..] else {
        panic!("{taken:?}")
    };
    let What::Write { from, fua: true } = &write.what else {
        panic!("{write:?}")
    };
    assert_eq!(
        (write.tag, write.at.offset, write.at.length),
        (7, 8192, 40_960)
    );
    assert!(from.bytes() == data);
    assert!(matches!(flush.what, What::Flush) && flush.tag == 8);
}

#[test]
fn many_requests_in_one_go_are_taken_one_by_one() {
    let (mut session, mut kernel, mut pool) = session(false);
    let mut bytes = Vec::new();
    for tag in 0..20u8 {
        bytes.extend(encode(tag.into(), WRITE, 0, 4096 * u64::from(tag), 4096));
        bytes.extend([tag; 4096]);
    }
    kernel.write_all(&bytes).unwrap();
    for tag in 0..20u8 {
        let one = request(&mut session, &mut pool);
        let What::Write { from, fua: false } = one.what else {
            panic!("{one:?}")
        };
        assert_eq!((one.tag, from.bytes()), (tag.into(), &[tag; 4096][..]));
        session.answer(one.tag, Ok(()), None);
    }
    idle(&mut session, &mut pool);
    for tag in 0..20 {
        assert_eq!(replied(&mut kernel), (tag, 0));
    }
}

#[test]
fn what_the_kernel_does_not_take_at_once_is_sent_later_and_in_order() {
    let (mut session, mut kernel, mut pool) = session(false);
    // More than the socket holds.
    let count: u64 = 40;
    let mut data = pool.extra(512 * 1024).unwrap();
    data.write(0, &vec![5; 512 * 1024]);
    for tag in 0..count {
        session.answer(tag, Ok(()), Some(&data));
    }
    assert!(!session.replies.is_empty());
    let reading = std::thread::spawn(move || {
        let mut bytes = vec![0; 512 * 1024];
        for tag in 0..count {
            assert_eq!(replied(&mut kernel), (tag, 0));
            kernel.read_exact(&mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 5));
        }
    });
    while !session.replies.is_empty() {
        let mut waits = [rustix::event::PollFd::new(
            &session.ready,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut waits, None).unwrap();
        let taken = session.take(&mut pool).unwrap();
        assert!(matches!(taken, Taken::Nothing | Taken::Ended));
    }
    reading.join().unwrap();
}

#[test]
fn requests_beyond_the_volume_or_too_long_are_refused_and_the_next_one_is_understood() {
    let (mut session, mut kernel, mut pool) = session(false);
    let refused = [
        (1, READ, 8 << 20, 4096),
        (2, READ, 100, 4096),
        (3, READ, 0, 0),
        (4, READ, 0, 2 << 20),
        (5, READ, u64::MAX - 4095, 4096),
        (6, WRITE, 8 << 20, 20_480),
        (7, TRIM, 0, 4096),
        (8, ZEROES, 0, 4096),
        (9, 5, 0, 4096),
    ];
    for (tag, command, offset, length) in refused {
        kernel
            .write_all(&encode(tag, command, 0, offset, length))
            .unwrap();
        if command == WRITE {
            kernel.write_all(&vec![0xaa; length as usize]).unwrap();
        }
        idle(&mut session, &mut pool);
        assert_eq!(replied(&mut kernel), (tag, libc::EINVAL as u32));
    }
    kernel.write_all(&encode(10, READ, 0, 4096, 8192)).unwrap();
    let read = request(&mut session, &mut pool);
    assert!(matches!(&read.what, What::Read { into } if into.len() == 8192));
    session.answer(read.tag, Err(IoError::Failed), None);
    assert_eq!(replied(&mut kernel), (10, libc::EIO as u32));
}

#[test]
fn zeros_are_made_where_the_disk_makes_them() {
    let (mut session, mut kernel, mut pool) = session(true);
    for command in [TRIM, ZEROES] {
        kernel
            .write_all(&encode(1, command, 0, 0, 4 << 20))
            .unwrap();
        let one = request(&mut session, &mut pool);
        assert!(matches!(one.what, What::Discard { zero: true }));
        assert_eq!(one.at.length, 4 << 20);
    }
}

#[test]
fn a_request_waits_for_memory_and_is_not_lost() {
    let (mut session, mut kernel, mut pool) = session(false);
    let mut kept = Vec::new();
    kept.extend(std::iter::from_fn(|| pool.buffer(1 << 20)));
    kernel.write_all(&encode(1, WRITE, 0, 0, 4096)).unwrap();
    kernel.write_all(&[3; 4096]).unwrap();
    assert!(matches!(session.take(&mut pool).unwrap(), Taken::Full));
    assert!(matches!(session.take(&mut pool).unwrap(), Taken::Full));
    kept.clear();
    let write = request(&mut session, &mut pool);
    assert!(matches!(&write.what, What::Write { from, .. } if from.bytes() == [3; 4096]));
}

#[test]
fn a_connection_that_closes_or_says_nonsense_has_ended() {
    let (mut session, kernel, mut pool) = session(false);
    drop(kernel);
    assert!(matches!(session.take(&mut pool).unwrap(), Taken::Ended));
    let (mut session, mut kernel, mut pool) = self::session(false);
    kernel.write_all(&[9; 100]).unwrap();
    assert!(matches!(session.take(&mut pool).unwrap(), Taken::Ended));
    let (mut session, mut kernel, mut pool) = self::session(false);
    kernel.write_all(&encode(0, 2, 0, 0, 0)).unwrap();
    assert!(matches!(session.take(&mut pool).unwrap(), Taken::Ended));
}
