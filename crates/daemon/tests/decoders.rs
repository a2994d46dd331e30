//! Bytes from outside never panic: every type that is decoded from a datagram, a frame or a file, fed
//! with arbitrary bytes, and with valid ones cut short or with a bit flipped.

use hotpair_core::config::{Cluster, Flapping, Link, Node, Timing, WithoutWitness};
use hotpair_core::document::Document;
use hotpair_core::guard::Promises;
use hotpair_core::ids::{ClusterId, HostBoot, Incarnation, MemberId, Term, Version};
use hotpair_core::message::{Beat, Datagram, Message};
use hotpair_core::node::Durable;
use hotpair_daemon::guard::protocol::{FromGuard, ToGuard};
use hotpair_daemon::join::{JoinReply, JoinRequest, first_state};
use hotpair_wire::codec::{decode, encode};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Decodes `bytes` as everything they could be taken for; errors are fine, panics are not.
fn decode_as_anything(bytes: &[u8]) {
    let _ = decode::<Datagram>(bytes);
    let _ = decode::<Message>(bytes);
    let _ = decode::<ToGuard>(bytes);
    let _ = decode::<FromGuard>(bytes);
    let _ = decode::<JoinRequest>(bytes);
    let _ = decode::<JoinReply>(bytes);
    let _ = decode::<Durable>(bytes);
    let _ = decode::<(HostBoot, Promises)>(bytes);
}

fn document() -> Document {
    let node = |name: &str| Node {
        name: name.into(),
        description: String::new(),
    };
    let at = |text: &str| text.parse().expect("an address");
    Document::first(Cluster {
        name: "test".into(),
        id: ClusterId(7),
        timing: Timing::standard(),
        nodes: BTreeMap::from([(MemberId(1), node("node1")), (MemberId(2), node("node2"))]),
        witness: None,
        without_witness: WithoutWitness::Wait,
        links: vec![Link {
            name: "lan".into(),
            addresses: BTreeMap::from([
                (MemberId(1), at("10.0.0.1:14338")),
                (MemberId(2), at("10.0.0.2:14338")),
            ]),
        }],
        groups: BTreeMap::new(),
        fencing: Default::default(),
        flapping: Flapping::default(),
    })
}

fn beat() -> Beat {
    Beat {
        from: MemberId(1),
        boot: HostBoot(1),
        run: Incarnation(1),
        seq: 9,
        idle: false,
        deciding: true,
        shown: Version::new(1, 1),
        held: Version::new(1, 1),
        committed: Version::new(1, 1),
        lease: Timing::standard().lease,
        term: Term(1),
        leads: true,
    }
}

fn valid() -> Vec<Vec<u8>> {
    let document = document();
    let offer = Message::Offer {
        term: Term(3),
        document: Arc::new(document.clone()),
        committed: Version::new(1, 1),
    };
    vec![
        encode(&Datagram::Beat(beat())),
        encode(&offer),
        encode(&first_state(&document)),
    ]
}

#[test]
fn what_was_encoded_is_decoded() {
    assert_eq!(
        decode::<Datagram>(&valid()[0]).expect("a beat"),
        Datagram::Beat(beat())
    );
    assert_eq!(
        decode::<Durable>(&valid()[2]).expect("a state"),
        first_state(&document())
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        decode_as_anything(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(which in 0..3usize, at in any::<prop::sample::Index>(), bit in 0..8u8, cut in any::<bool>()) {
        let mut bytes = valid().swap_remove(which);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        decode_as_anything(&bytes);
    }
}
