//! Message to bytes.

use super::header::Header;
use super::message::{Body, DiskState, Hello, Message, Stamp};
use super::{HEADER, decode::kind};
use crate::engine::{IoError, Transfer};
use hotpair_core::mirror::Generation;

/// What stands in the header beside the parts every message has.
#[derive(Default)]
struct Fields {
    kind: u8,
    flags: u32,
    offset: u64,
    length: u32,
}

impl Fields {
    fn of(kind: u8) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    fn at(mut self, at: Transfer) -> Self {
        self.offset = at.offset;
        self.length = at.length;
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.offset = number;
        self
    }

    fn flag(mut self, bit: u32, set: bool) -> Self {
        self.flags |= u32::from(set) << bit;
        self
    }

    fn result(mut self, result: Result<(), IoError>) -> Self {
        self.flags |= match result {
            Ok(()) => 0,
            Err(IoError::Failed) => 1,
            Err(IoError::NoSpace) => 2,
            Err(IoError::Closed) => 3,
            Err(IoError::Invalid) => 4,
        } << 8;
        self
    }
}

/// Header and body of `message`, appended to `out`; the payload, of [`Body::payload`] bytes, follows.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEADER, 0);
    let fields = write_body(&message.body, out);
    let body = out.len() - start - HEADER;
    let mut header = Vec::with_capacity(HEADER);
    Header {
        kind: fields.kind,
        flags: fields.flags,
        epoch: message.epoch.0,
        serial: message.serial,
        tag: message.tag,
        offset: fields.offset,
        length: fields.length,
        body: u32::try_from(body).unwrap_or(u32::MAX),
        payload: message.body.payload(),
    }
    .write(&mut header);
    out[start..start + HEADER].copy_from_slice(&header);
}

fn write_body(body: &Body, out: &mut Vec<u8>) -> Fields {
    match body {
        Body::Hello(hello) => {
            write_hello(hello, out);
            Fields::of(kind::HELLO)
        }
        Body::Refused(refusal) => {
            Fields::of(kind::REFUSED).number(super::decode::refusal_number(*refusal))
        }
        Body::Ping => Fields::of(kind::PING),
        Body::Pong => Fields::of(kind::PONG),
        Body::Data { at, durable, early } => Fields::of(kind::DATA)
            .at(*at)
            .flag(0, *durable)
            .flag(1, *early),
        Body::ResyncData { at } => Fields::of(kind::RESYNC_DATA).at(*at),
        Body::Discard {
            at,
            zero,
            early,
            resync,
        } => Fields::of(kind::DISCARD)
            .at(*at)
            .flag(0, *zero)
            .flag(1, *early)
            .flag(2, *resync),
        Body::Flush { all, barrier } => Fields::of(kind::FLUSH).flag(0, *all).flag(1, *barrier),
        Body::Ack { result } => Fields::of(kind::ACK).result(*result),
        Body::Read { at } => Fields::of(kind::READ).at(*at),
        Body::Bytes { at, result } => Fields::of(kind::BYTES).at(*at).result(*result),
        Body::ResyncBegin { basis, snapshot } => Fields::of(kind::RESYNC_BEGIN)
            .number(basis.0)
            .flag(0, *snapshot),
        Body::Extents(extents) => {
            for extent in extents {
                out.extend_from_slice(&extent.to_le_bytes());
            }
            Fields::of(kind::EXTENTS)
        }
        Body::Page { index, bits } => {
            out.extend_from_slice(bits);
            Fields::of(kind::PAGE).number(u64::from(*index))
        }
        Body::ResyncReady => Fields::of(kind::RESYNC_READY),
        Body::Compare { at, hashes } => {
            for hash in hashes {
                out.extend_from_slice(&hash.0);
            }
            Fields::of(kind::COMPARE).at(*at)
        }
        Body::Differ { blocks, result } => Fields::of(kind::DIFFER).number(*blocks).result(*result),
        Body::Stamp(stamp) => {
            write_stamp(stamp, out);
            Fields::of(kind::STAMP).flag(0, stamp.only_copy)
        }
        Body::Stamped { generation } => Fields::of(kind::STAMPED).number(generation.0),
        Body::DiskFailed => Fields::of(kind::DISK_FAILED),
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn write_hello(hello: &Hello, out: &mut Vec<u8>) {
    put(out, hello.mirror);
    put(out, hello.boot.0);
    put(out, hello.run);
    put(out, hello.version.term.0);
    put(out, hello.version.index);
    put(out, hello.epoch.0);
    out.extend_from_slice(&hello.failures.to_le_bytes());
    let holder = hello.holder.map_or(0, |holder| holder.0);
    let flags = u8::from(hello.active) | u8::from(hello.disk.is_some()) << 1;
    out.extend_from_slice(&[hello.member.0, holder, flags, 0]);
    if let Some(disk) = &hello.disk {
        write_disk(disk, out);
    }
}

fn write_disk(disk: &DiskState, out: &mut Vec<u8>) {
    put(out, disk.size);
    put(out, disk.generation.0);
    put(out, disk.solo.map_or(0, |solo| solo.0));
    put(out, disk.base.0);
    put(out, disk.resync_base.0);
    put(
        out,
        u64::from(disk.consistent) | u64::from(disk.unclean) << 1,
    );
    write_generations(&disk.ancestors, out);
}

fn write_stamp(stamp: &Stamp, out: &mut Vec<u8>) {
    put(out, stamp.generation.0);
    write_generations(&stamp.ancestors, out);
}

fn write_generations(generations: &[Generation], out: &mut Vec<u8>) {
    let excess = generations
        .len()
        .saturating_sub(hotpair_core::mirror::ANCESTORS);
    for generation in &generations[excess..] {
        put(out, generation.0);
    }
}
