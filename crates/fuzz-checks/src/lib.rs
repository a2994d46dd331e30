//! What must hold for any bytes whatever, one function for each fuzz target.
//!
//! `cargo xtask fuzz` drives them with coverage from `fuzz/`; the tests here replay the corpora kept
//! there, and mutations of them.
#![forbid(unsafe_code)]

use hotpair_core::guard::{GuardEvent, Promises, Wanted};
use hotpair_core::message::{self, Datagram};
use hotpair_core::node::{Durable, Input};
use hotpair_wire::ClusterId;
use hotpair_wire::codec::{decode, encode};
use hotpair_wire::frame::{Decoder, Frame, FrameError};
use hotpair_wire::seal::{
    HEADER_LEN, Keyring, OpenError, Opener, SealKey, Sealer, StartSalt, peek,
};
use hotpair_wire::token::{Refusal, StoredToken, Ticket, Token};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A target's name and what it checks.
pub type Target = (&'static str, fn(&[u8]));

/// All targets; each has a program of its name in `fuzz/fuzz_targets`.
pub const TARGETS: [Target; 8] = [
    ("api_call", api_call),
    ("codec_message", codec_message),
    ("config_check", config_check),
    ("frame_decode", frame_decode),
    ("mirror_link", mirror_link),
    ("mirror_metadata", mirror_metadata),
    ("seal_open", seal_open),
    ("token_parse", token_parse),
];

/// A line at the daemon's socket: what is read must be written and read as the same.
pub fn api_call(data: &[u8]) {
    let Ok(envelope) = serde_json::from_slice::<hotpair_api::Envelope>(data) else {
        return;
    };
    let written = serde_json::to_vec(&envelope).expect("what was read can be written");
    let again: hotpair_api::Envelope =
        serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(
        serde_json::to_value(&again).ok(),
        serde_json::to_value(&envelope).ok()
    );
}

/// A message of the replication protocol: what is read must be written and read as the same.
pub fn mirror_link(data: &[u8]) {
    is_link_message(data);
}

/// Checks `data` as [`mirror_link`] does. Was it a message?
///
/// # Panics
/// It is not written as it was read.
pub fn is_link_message(data: &[u8]) -> bool {
    use hotpair_volume::link::{HEADER, Header, decode, encode};
    let Some((head, rest)) = data.split_first_chunk::<HEADER>() else {
        return false;
    };
    let Ok(header) = Header::parse(head) else {
        return false;
    };
    let body = &rest[..rest.len().min(header.body as usize)];
    let Ok(message) = decode(&header, body) else {
        return false;
    };
    let mut written = Vec::new();
    encode(&message, &mut written);
    let (head, body) = written.split_first_chunk::<HEADER>().expect("a header");
    let header = Header::parse(head).expect("what was written can be read");
    assert_eq!(decode(&header, body), Ok(message));
    true
}

/// A block of a mirror's metadata with the right checksum: what is read must be written and read as the
/// same.
pub fn mirror_metadata(data: &[u8]) {
    is_metadata(data);
}

/// Checks `data` as [`mirror_metadata`] does. Was it a block of metadata?
///
/// # Panics
/// It is not written as it was read.
pub fn is_metadata(data: &[u8]) -> bool {
    use hotpair_volume::store::{BLOCK_LEN, LogTable, Superblock, decode_page, encode_page};
    let mut block = vec![0; BLOCK_LEN];
    let length = data.len().min(BLOCK_LEN);
    block[..length].copy_from_slice(&data[..length]);
    let mut page = block.clone();
    let index = u32::from_le_bytes(page[8..12].try_into().expect("four bytes"));
    // The checksum of a page, as `decode_page` has it.
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page[..4]);
    hasher.update(&page[8..]);
    page[4..8].copy_from_slice(&hasher.finalize().to_le_bytes());
    let bits = decode_page(index, &page);
    if let Some(bits) = &bits {
        let again = decode_page(index, &encode_page(index, bits));
        assert_eq!(again.as_ref(), Some(bits));
    }
    // That of all others.
    block[8..12].fill(0);
    let sum = crc32fast::hash(&block);
    block[8..12].copy_from_slice(&sum.to_le_bytes());
    let superblock = Superblock::decode(&block).ok();
    if let Some(superblock) = &superblock {
        let again = Superblock::decode(&superblock.encode());
        assert_eq!(again.as_ref(), Ok(superblock));
    }
    let mirror = u64::from_le_bytes(block[24..32].try_into().expect("eight bytes"));
    let table = LogTable::decode(&block, mirror);
    if let Some(table) = &table {
        let again = LogTable::decode(&table.encode(), mirror);
        assert_eq!(again.as_ref(), Some(table));
    }
    bits.is_some() || superblock.is_some() || table.is_some()
}

/// One of each shape that messages are made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shapes {
    Unit,
    Struct { number: u64, pair: (i64, bool) },
    Bytes(Vec<u8>),
    Map(BTreeMap<u8, String>),
    Optional(Option<Vec<(u32, Option<char>)>>),
}

fn decodes_to_itself<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
    if let Ok(value) = decode::<T>(data) {
        assert_eq!(decode::<T>(&encode(&value)), Ok(value));
    }
}

/// Everything that members, guard and disk say: what decodes must encode and decode to itself.
pub fn codec_message(data: &[u8]) {
    decodes_to_itself::<Shapes>(data);
    decodes_to_itself::<Datagram>(data);
    decodes_to_itself::<message::Message>(data);
    decodes_to_itself::<Durable>(data);
    decodes_to_itself::<Input>(data);
    decodes_to_itself::<Promises>(data);
    decodes_to_itself::<Wanted>(data);
    decodes_to_itself::<GuardEvent>(data);
    decodes_to_itself::<Ticket>(data);
    decodes_to_itself::<StoredToken>(data);
    decodes_to_itself::<Refusal>(data);
}

/// A configuration: all findings have a place in the text, and what is sound is written back so that
/// it reads as the same.
pub fn config_check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match hotpair_config::check("fuzz.toml", text, None) {
        Ok(checked) => {
            let shown = hotpair_config::show(&checked.cluster);
            let again = hotpair_config::check("shown.toml", &shown, Some(&checked.cluster));
            let again = again.map(|checked| checked.cluster);
            assert_eq!(again.as_ref().ok(), Some(&checked.cluster), "{shown}");
        }
        Err(findings) => {
            assert!(!findings.is_empty());
            let rendered = hotpair_config::render(&findings, "fuzz.toml", text, false);
            assert!(!rendered.is_empty());
        }
    }
}

const MAX_PAYLOAD: usize = 4096;

fn frames(data: &[u8], chunk_len: usize) -> (Vec<Frame>, Result<(), FrameError>) {
    let (mut decoder, mut frames) = (Decoder::new(MAX_PAYLOAD), Vec::new());
    for mut chunk in data.chunks(chunk_len) {
        loop {
            match decoder.advance(&mut chunk) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, decoder.finish())
}

/// A stream of frames: how it is cut into chunks does not matter, and no frame is too long.
pub fn frame_decode(data: &[u8]) {
    let whole = frames(data, data.len().max(1));
    assert_eq!(whole, frames(data, 1));
    assert_eq!(whole, frames(data, 7));
    assert!(
        whole
            .0
            .iter()
            .all(|frame| frame.payload.len() <= MAX_PAYLOAD)
    );
}

/// A datagram: nothing is opened that nobody sealed, as it is or behind a valid header.
pub fn seal_open(data: &[u8]) {
    let keyring = Keyring::new(ClusterId(1), 1, SealKey::from_bytes([7; 32]));
    let opener = Opener::new(keyring.clone());
    let _ = peek(data);
    assert!(opener.open(data).is_err(), "opened what nobody sealed");

    let mut sealed = Vec::new();
    let mut sealer = Sealer::new(&keyring, 2, StartSalt([3; 6]));
    if sealer.seal(0, data, &mut sealed).is_ok() {
        assert_eq!(opener.open(&sealed).map(|o| o.plaintext), Ok(data.to_vec()));
        sealed.truncate(HEADER_LEN);
        sealed.extend_from_slice(data);
        assert!(matches!(
            opener.open(&sealed),
            Err(OpenError::Forged | OpenError::TooShort { .. })
        ));
    }
}

/// A token as it is typed: what parses must print and parse to itself.
pub fn token_parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(token) = Token::parse(text) {
        assert_eq!(Token::parse(&token.to_string()), Ok(token));
    }
}
