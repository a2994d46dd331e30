use super::decode::decode_all;
use super::*;
use crate::engine::{BlockHash, IoError, Transfer};
use hotpair_core::ids::{Epoch, HostBoot, MemberId, Version};
use hotpair_core::mirror::Generation;
use proptest::prelude::*;

fn generation() -> impl Strategy<Value = Generation> {
    any::<u64>().prop_map(Generation)
}

fn outcome() -> impl Strategy<Value = Result<(), IoError>> {
    prop_oneof![
        Just(Ok(())),
        Just(Err(IoError::Failed)),
        Just(Err(IoError::NoSpace)),
        Just(Err(IoError::Closed)),
        Just(Err(IoError::Invalid)),
    ]
}

fn sectors() -> impl Strategy<Value = Transfer> {
    (0u64..1 << 50, 1u32..=PAYLOAD_LIMIT / 512).prop_map(|(offset, length)| Transfer {
        offset: offset * 512,
        length: length * 512,
    })
}

fn chunk() -> impl Strategy<Value = Transfer> {
    (0u64..1 << 40, 1u32..=64).prop_map(|(offset, length)| Transfer {
        offset: offset * 4096,
        length: length * 4096,
    })
}

fn disk() -> impl Strategy<Value = DiskState> {
    let numbers = (any::<u64>(), generation(), 0u64..3, generation());
    let rest = (generation(), any::<bool>(), any::<bool>());
    (numbers, rest, prop::collection::vec(generation(), 0..=16)).prop_map(
        |((size, generation, solo, base), (resync_base, consistent, unclean), ancestors)| {
            DiskState {
                size,
                generation,
                solo: (solo != 0).then_some(Generation(solo)),
                consistent,
                unclean,
                base,
                resync_base,
                ancestors,
            }
        },
    )
}

fn hello() -> impl Strategy<Value = Body> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>());
    let place = (any::<u64>(), any::<u64>(), any::<u64>());
    let who = (1u8..9, 0u8..9, any::<bool>());
    (numbers, place, who, prop::option::of(disk())).prop_map(
        |((mirror, boot, run, failures), (term, index, epoch), (member, holder, active), disk)| {
            Body::Hello(Box::new(Hello {
                mirror,
                member: MemberId(member),
                boot: HostBoot(boot),
                run,
                failures,
                version: Version::new(term, index),
                holder: (holder != 0).then_some(MemberId(holder)),
                epoch: Epoch(epoch),
                active,
                disk,
            }))
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let flags = || (any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        hello(),
        prop_oneof![
            Just(Refusal::NotHolder),
            Just(Refusal::OtherMirror),
            Just(Refusal::Diverged),
            Just(Refusal::NoDisk),
            Just(Refusal::Protocol),
            Just(Refusal::Stale),
        ]
        .prop_map(Body::Refused),
        Just(Body::Ping),
        Just(Body::Pong),
        (sectors(), flags()).prop_map(|(at, (durable, early, _))| Body::Data {
            at,
            durable,
            early
        }),
        chunk().prop_map(|at| Body::ResyncData { at }),
        (sectors(), flags()).prop_map(|(at, (zero, early, resync))| Body::Discard {
            at,
            zero,
            early,
            resync
        }),
        flags().prop_map(|(all, barrier, _)| Body::Flush { all, barrier }),
        outcome().prop_map(|result| Body::Ack { result }),
        sectors().prop_map(|at| Body::Read { at }),
        (sectors(), outcome()).prop_map(|(at, result)| Body::Bytes { at, result }),
        (generation(), any::<bool>())
            .prop_map(|(basis, snapshot)| Body::ResyncBegin { basis, snapshot }),
        prop::collection::vec(any::<u32>(), 0..1016).prop_map(Body::Extents),
        (any::<u32>(), any::<u8>()).prop_map(|(index, fill)| Body::Page {
            index,
            bits: vec![fill; PAGE_BYTES].into(),
        }),
        Just(Body::ResyncReady),
        chunk().prop_flat_map(|at| {
            let hashes = prop::collection::vec(any::<[u8; 16]>(), at.length as usize / 4096);
            hashes.prop_map(move |hashes| Body::Compare {
                at,
                hashes: hashes.into_iter().map(BlockHash).collect(),
            })
        }),
        (any::<u64>(), outcome()).prop_map(|(blocks, result)| Body::Differ { blocks, result }),
        (
            generation(),
            prop::collection::vec(generation(), 0..=16),
            any::<bool>()
        )
            .prop_map(
                |(generation, ancestors, only_copy)| Body::Stamp(Box::new(Stamp {
                    generation,
                    ancestors,
                    only_copy
                }))
            ),
        generation().prop_map(|generation| Body::Stamped { generation }),
        Just(Body::DiskFailed),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u64>(), any::<u64>(), any::<u64>(), body()).prop_map(|(epoch, serial, tag, body)| {
        Message {
            epoch: Epoch(epoch),
            serial,
            tag,
            body,
        }
    })
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_was(message in message()) {
        let mut bytes = Vec::new();
        encode(&message, &mut bytes);
        prop_assert_eq!(decode_all(&bytes), Ok(message));
    }

    #[test]
    fn bytes_that_were_changed_are_refused_or_read_but_never_panic(
        message in message(),
        at in any::<prop::sample::Index>(),
        change in 1u8..,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        encode(&message, &mut bytes);
        let shorter = decode_all(&bytes[..cut.index(bytes.len())]);
        prop_assert!(shorter.is_err());
        let place = at.index(bytes.len());
        bytes[place] ^= change;
        if let Ok(read) = decode_all(&bytes) {
            prop_assert!(read.body.payload() <= PAYLOAD_LIMIT);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0u8..30) {
        let _ = decode_all(&bytes);
        let mut with_head = vec![b'h', b'v', VERSION, kind];
        with_head.extend(bytes);
        let _ = decode_all(&with_head);
    }
}

#[test]
fn another_version_is_named() {
    let mut bytes = Vec::new();
    let ping = Message {
        epoch: Epoch(1),
        serial: 1,
        tag: 0,
        body: Body::Ping,
    };
    encode(&ping, &mut bytes);
    bytes[2] = 9;
    let error = decode_all(&bytes).unwrap_err();
    assert_eq!(error, DecodeError::Version(9));
    assert!(error.to_string().contains("version 9"));
}
