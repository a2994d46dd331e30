//! Memory of payloads: page-aligned, counted references, reused while it is warm in the cache.
//!
//! A chunk is cut from its front. It is used again when nothing refers to it any more. What does not
//! know its length yet (a request of the kernel) gets a landing place for the greatest length, of
//! which only the part that was filled is kept.
//!
//! The kernel writes into buffers while reads are under way. The rule that keeps this sound: who
//! hands a buffer to the kernel to be filled looks at its bytes only after that has ended. Nothing is
//! shared between threads.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

/// Lengths are rounded up to this within a chunk: what O_DIRECT asks for on any disk.
pub const ALIGN: usize = 4096;
const CHUNK: usize = 4 * 1024 * 1024;

/// Where payloads are kept, up to a limit.
#[derive(Debug)]
pub struct Pool {
    chunks: Vec<Rc<Chunk>>,
    /// Of `chunks`, the one being cut, and how much of it is used.
    current: usize,
    used: usize,
    limit: usize,
}

/// Some bytes of a chunk. A clone refers to the same ones.
#[derive(Clone, Debug)]
pub struct Buffer {
    chunk: Rc<Chunk>,
    offset: usize,
    length: usize,
}

#[derive(Debug)]
struct Chunk {
    start: NonNull<u8>,
    length: usize,
}

impl Pool {
    /// Up to `limit` bytes, in chunks that are made when they are needed.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(limit: usize) -> io::Result<Self> {
        Ok(Self {
            chunks: vec![Rc::new(Chunk::new(CHUNK)?)],
            current: 0,
            used: 0,
            limit: (limit / CHUNK).max(2),
        })
    }

    /// A place for up to `length` bytes, at most 4 MiB; `None`: all memory is in use, try again later.
    pub fn landing(&mut self, length: usize) -> Option<Buffer> {
        if length > CHUNK {
            return None;
        }
        if self.used + length > CHUNK && !self.turn() {
            return None;
        }
        let chunk = Rc::clone(&self.chunks[self.current]);
        let offset = self.used;
        Some(Buffer {
            chunk,
            offset,
            length,
        })
    }

    /// Keeps the first `length` bytes of the landing that was given out last.
    #[must_use]
    pub fn keep(&mut self, mut landing: Buffer, length: usize) -> Buffer {
        assert!(Rc::ptr_eq(&landing.chunk, &self.chunks[self.current]));
        assert!(landing.offset == self.used && length <= landing.length);
        self.used += length.next_multiple_of(ALIGN);
        landing.length = length;
        landing
    }

    /// A buffer of this length; `None` as in [`landing`](Self::landing).
    pub fn buffer(&mut self, length: usize) -> Option<Buffer> {
        let landing = self.landing(length)?;
        Some(self.keep(landing, length))
    }

    /// A buffer of this length beyond the limit, if need be: for those who cannot wait, and of whom
    /// there are few.
    ///
    /// # Errors
    /// There is no memory.
    pub fn extra(&mut self, length: usize) -> io::Result<Buffer> {
        if let Some(buffer) = self.buffer(length) {
            return Ok(buffer);
        }
        let chunk = Chunk::new(length.max(1).next_multiple_of(ALIGN))?;
        Ok(Buffer {
            chunk: Rc::new(chunk),
            offset: 0,
            length,
        })
    }

    /// To the first chunk that is free: the one used most lately, if any is.
    fn turn(&mut self) -> bool {
        let free = self
            .chunks
            .iter()
            .position(|chunk| Rc::strong_count(chunk) == 1);
        let next = match free {
            Some(index) => index,
            None if self.chunks.len() < self.limit => match Chunk::new(CHUNK) {
                Ok(chunk) => {
                    self.chunks.push(Rc::new(chunk));
                    self.chunks.len() - 1
                }
                Err(_) => return false,
            },
            None => return false,
        };
        self.current = next;
        self.used = 0;
        true
    }
}

impl Buffer {
    pub fn len(&self) -> usize {
        self.length
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes. Only when nothing is under way that fills them.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: within the chunk, which lives as long as `self`; initialised, since anonymous
        // memory begins as zeros; nobody fills it now, by the rule of this module.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.length) }
    }

    /// Copies `bytes` to `offset`. Only when nothing is under way that uses them.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length);
        // SAFETY: within the chunk by the assertion; `bytes` is no part of it, as nobody but the
        // owner of this buffer has a reference into it now.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.pointer().add(offset), bytes.len());
        }
    }

    /// A part of it. `None` if it is not within.
    #[must_use]
    pub fn part(&self, offset: usize, length: usize) -> Option<Self> {
        if offset.checked_add(length)? > self.length {
            return None;
        }
        Some(Self {
            chunk: Rc::clone(&self.chunk),
            offset: self.offset + offset,
            length,
        })
    }

    pub fn pointer(&self) -> *mut u8 {
        // SAFETY: `offset` is within the chunk.
        unsafe { self.chunk.start.as_ptr().add(self.offset) }
    }
}

impl Chunk {
    fn new(length: usize) -> io::Result<Self> {
        // SAFETY: new memory at an address the kernel chooses.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        // Great pages are fewer to pin; a child made by fork must not share pages a disk writes to.
        for advice in [Advice::LinuxHugepage, Advice::LinuxDontFork] {
            // SAFETY: the range was mapped just now; both are hints on how it is kept.
            let _ = unsafe { madvise(start, length, advice) };
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; every buffer of it holds a count of it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_apart_and_keep_their_bytes() {
        let mut pool = Pool::new(16 * CHUNK).unwrap();
        let mut kept = Vec::new();
        for fill in 1..200u8 {
            let mut buffer = pool.buffer(usize::from(fill) * 700).unwrap();
            let bytes = vec![fill; buffer.len()];
            buffer.write(0, &bytes);
            assert_eq!(buffer.pointer() as usize % ALIGN, 0);
            kept.push((buffer, bytes));
        }
        for (buffer, bytes) in &kept {
            assert_eq!(buffer.bytes(), bytes);
        }
    }

    #[test]
    fn only_what_is_kept_of_a_landing_is_used() {
        let mut pool = Pool::new(0).unwrap();
        let mut kept = Vec::new();
        while let Some(landing) = pool.landing(1024 * 1024) {
            kept.push(pool.keep(landing, 512));
        }
        // Two chunks, each with a last landing of 1 MiB.
        assert!(kept.len() > 2 * 3 * 256);
    }

    #[test]
    fn the_limit_holds_until_something_is_given_back() {
        let mut pool = Pool::new(0).unwrap();
        let mut kept = Vec::new();
        while let Some(buffer) = pool.buffer(1024 * 1024) {
            kept.push(buffer);
        }
        assert_eq!(kept.len(), 8);
        assert!(pool.extra(1024 * 1024).is_ok());
        kept.truncate(7);
        assert!(
            pool.buffer(1024 * 1024).is_none(),
            "a chunk is whole or not"
        );
        kept.truncate(4);
        assert!(pool.buffer(1024 * 1024).is_some());
    }

    #[test]
    fn a_part_refers_to_the_same_bytes_and_stays_within() {
        let mut pool = Pool::new(0).unwrap();
        let mut buffer = pool.buffer(8192).unwrap();
        buffer.write(4096, b"hello");
        let part = buffer.part(4096, 5).unwrap();
        assert_eq!(part.bytes(), b"hello");
        assert!(buffer.part(8192, 1).is_none());
        assert!(buffer.part(usize::MAX, 2).is_none());
        drop(buffer);
        assert_eq!(part.bytes(), b"hello");
    }
}
