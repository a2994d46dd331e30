//! One message to bytes and back, in postcard's format.
//!
//! Integers are varints, enums are a varint variant and its fields, sequences a
//! varint length and their elements: <https://postcard.jamesmunns.com/wire-format>.
//!
//! Two duties rest on the message types, because the format cannot enforce
//! them: no sequence of zero-sized elements (a length alone would cost time)
//! and no type that contains itself (depth would cost stack).

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message that is decoded: 1 MiB, as a TCP frame.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than any message has.
    #[error("a message of {len} bytes is too long, the limit is {max}")]
    TooLong {
        /// Length in bytes.
        len: usize,
        /// Longest allowed length in bytes.
        max: usize,
    },
    /// The bytes end early or break the format.
    #[error("message is damaged or of another release: {0}")]
    Malformed(postcard::Error),
    /// The message ended before the bytes did.
    #[error("message has {extra} bytes too many, its sender may run another release")]
    Trailing {
        /// Bytes left over.
        extra: usize,
    },
}

/// The bytes of a message.
///
/// # Panics
/// Only for a type that postcard cannot write at all (a sequence that does not
/// know its length), which the first test with that type shows.
pub fn encode<T: Serialize + ?Sized>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("message types know the length of their sequences")
}

/// The message in `bytes`, at most [`MAX_MESSAGE`] of them.
///
/// # Errors
/// See [`DecodeError`]; any bytes give an answer, and memory grows with the
/// bytes there are, not with the lengths they claim.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_up_to(MAX_MESSAGE, bytes)
}

/// As [`decode`] with its own limit in bytes.
///
/// # Errors
/// As [`decode`].
pub fn decode_up_to<T: DeserializeOwned>(max: usize, bytes: &[u8]) -> Result<T, DecodeError> {
    let len = bytes.len();
    if len > max {
        return Err(DecodeError::TooLong { len, max });
    }
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(DecodeError::Malformed)?;
    if rest.is_empty() {
        return Ok(message);
    }
    let extra = rest.len();
    Err(DecodeError::Trailing { extra })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Message {
        Idle,
        Beat { boot: u64, shown: (u64, u64) },
        Document(Vec<u8>),
        Names(BTreeMap<u8, String>),
        Maybe(Option<Box<[u32]>>, i64, bool),
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            Just(Message::Idle),
            any::<(u64, (u64, u64))>().prop_map(|(boot, shown)| Message::Beat { boot, shown }),
            any::<Vec<u8>>().prop_map(Message::Document),
            any::<BTreeMap<u8, String>>().prop_map(Message::Names),
            any::<(Option<Vec<u32>>, i64, bool)>().prop_map(|(a, b, c)| Message::Maybe(
                a.map(Into::into),
                b,
                c
            )),
        ]
    }

    proptest! {
        #[test]
        fn gives_back_what_was_encoded(message in message()) {
            prop_assert_eq!(decode(&encode(&message)), Ok(message));
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = decode::<Message>(&bytes);
        }

        #[test]
        fn refuses_every_truncation(message in message(), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&message);
            let cut = cut.index(bytes.len());
            prop_assert!(matches!(decode::<Message>(&bytes[..cut]), Err(DecodeError::Malformed(_))));
        }

        #[test]
        fn a_flipped_bit_never_panics(message in message(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = encode(&message);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            let _ = decode::<Message>(&bytes);
        }

        #[test]
        fn refuses_trailing_bytes(message in message(), tail in prop::collection::vec(any::<u8>(), 1..20)) {
            let mut bytes = encode(&message);
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(
                decode::<Message>(&bytes),
                Err(DecodeError::Trailing { extra: tail.len() })
            );
        }
    }

    #[test]
    fn refuses_a_length_of_two_to_the_sixtieth_in_ten_bytes() {
        let bytes = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 0];
        assert_eq!(decode::<u64>(&bytes[..9]), Ok(1 << 60));
        assert!(matches!(
            decode::<Vec<u8>>(&bytes),
            Err(DecodeError::Malformed(_))
        ));
        assert!(matches!(
            decode::<String>(&bytes),
            Err(DecodeError::Malformed(_))
        ));
        assert!(matches!(
            decode::<Vec<[u64; 32]>>(&bytes),
            Err(DecodeError::Malformed(_))
        ));
        assert!(matches!(
            decode::<BTreeMap<u64, String>>(&bytes),
            Err(DecodeError::Malformed(_))
        ));
    }

    #[test]
    fn refuses_a_document_of_ten_megabytes() {
        let bytes = encode(&vec![1u8; 10_000_000]);
        let len = bytes.len();
        assert_eq!(
            decode::<Vec<u8>>(&bytes),
            Err(DecodeError::TooLong {
                len,
                max: MAX_MESSAGE
            })
        );
    }
}
