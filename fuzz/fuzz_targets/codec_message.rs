//! Decodes any bytes; what decodes must encode and decode to itself.
#![no_main]

use std::collections::BTreeMap;

use hotpair_core::guard::{GuardEvent, Promises, Wanted};
use hotpair_core::message::{self, Datagram};
use hotpair_core::node::Durable;
use hotpair_wire::codec::{decode, encode};
use hotpair_wire::token::{Refusal, StoredToken, Ticket};
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One of each shape that messages are made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Message {
    Unit,
    Struct { number: u64, pair: (i64, bool) },
    Bytes(Vec<u8>),
    Map(BTreeMap<u8, String>),
    Optional(Option<Vec<(u32, Option<char>)>>),
}

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
    if let Ok(value) = decode::<T>(data) {
        assert_eq!(decode::<T>(&encode(&value)), Ok(value));
    }
}

fuzz_target!(|data: &[u8]| {
    check::<Message>(data);
    check::<Datagram>(data);
    check::<message::Message>(data);
    check::<Durable>(data);
    check::<Promises>(data);
    check::<Wanted>(data);
    check::<GuardEvent>(data);
    check::<Ticket>(data);
    check::<StoredToken>(data);
    check::<Refusal>(data);
});
