//! Frames: messages cut out of a TCP stream.
//!
//! ```text
//! offset size field
//!      0    4 length of all that follows, least significant byte first, 2 or more
//!      4    1 protocol version, 1
//!      5    1 kind of message
//!      6    n payload, n = length - 2
//! ```
//!
//! There is no checksum: TLS carries every stream and guards each byte.

/// The only protocol version this program speaks.
pub const VERSION: u8 = 1;
/// Longest payload a decoder takes unless told otherwise: 1 MiB.
pub const DEFAULT_MAX_PAYLOAD: usize = 1024 * 1024;
/// Bytes before the payload.
pub const HEADER_LEN: usize = 6;

const LENGTH_LEN: usize = 4;
const KIND_LEN: usize = HEADER_LEN - LENGTH_LEN;

/// One message of a stream, still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which message the payload holds.
    pub kind: u8,
    /// The encoded message.
    pub payload: Vec<u8>,
}

/// Why a stream cannot go on; close the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length that leaves no room for version and kind.
    #[error(
        "a frame of length {len} is too short, the other side does not speak hotpair's protocol"
    )]
    TooShort {
        /// The length given in the frame.
        len: usize,
    },
    /// A payload over the limit.
    #[error("a payload of {len} bytes is too long, the limit is {max}")]
    TooLong {
        /// Length of the payload in bytes.
        len: usize,
        /// Longest allowed payload in bytes.
        max: usize,
    },
    /// The other side speaks another protocol version.
    #[error(
        "the other side speaks protocol version {theirs}, this one {VERSION}: run the same release of hotpair on all nodes"
    )]
    OtherVersion {
        /// Version the other side speaks.
        theirs: u8,
    },
    /// The stream ended inside a frame.
    #[error("the connection ended inside a frame, after {have} bytes of it")]
    Cut {
        /// Bytes of the unfinished frame.
        have: usize,
    },
}

/// The bytes of one frame.
///
/// # Errors
/// When the payload is longer than `max_payload` bytes (or than 4 GiB).
pub fn encode(kind: u8, payload: &[u8], max_payload: usize) -> Result<Vec<u8>, FrameError> {
    let too_long = FrameError::TooLong {
        len: payload.len(),
        max: max_payload,
    };
    if payload.len() > max_payload {
        return Err(too_long);
    }
    let Ok(len) = u32::try_from(KIND_LEN + payload.len()) else {
        return Err(too_long);
    };
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&[VERSION, kind]);
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Cuts frames out of a stream that arrives in arbitrary chunks.
///
/// Holds at most one unfinished frame. Its memory grows with the bytes that
/// have arrived, not with the length a frame announces. After an error every
/// further call gives the same error.
#[derive(Debug)]
pub struct Decoder {
    max_payload: usize,
    header: [u8; HEADER_LEN],
    have: usize,
    payload: Vec<u8>,
    failed: Option<FrameError>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_PAYLOAD)
    }
}

impl Decoder {
    /// A decoder at the start of a stream that takes payloads up to `max_payload` bytes.
    pub fn new(max_payload: usize) -> Self {
        Self {
            max_payload,
            header: [0; HEADER_LEN],
            have: 0,
            payload: Vec::new(),
            failed: None,
        }
    }

    /// Takes bytes off the front of `chunk` until a frame is complete or the chunk is empty.
    ///
    /// `None` means all of the chunk is taken and more is needed:
    ///
    /// ```
    /// # use hotpair_wire::frame::{encode, Decoder, FrameError};
    /// # let received = encode(7, b"hello", 100)?;
    /// # let mut decoder = Decoder::default();
    /// let mut chunk = received.as_slice();
    /// while let Some(frame) = decoder.advance(&mut chunk)? {
    ///     assert_eq!(frame.kind, 7);
    /// }
    /// # Ok::<(), FrameError>(())
    /// ```
    ///
    /// # Errors
    /// See [`FrameError`]; any bytes give an answer.
    pub fn advance(&mut self, chunk: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.take(chunk);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.payload = Vec::new();
        }
        result
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// When it would cut a frame in two, or has failed before.
    pub fn finish(&self) -> Result<(), FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.have + self.payload.len() {
            0 => Ok(()),
            have => Err(FrameError::Cut { have }),
        }
    }

    fn take(&mut self, chunk: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        while self.have < HEADER_LEN {
            let Some((first, rest)) = chunk.split_first() else {
                return Ok(None);
            };
            self.header[self.have] = *first;
            self.have += 1;
            *chunk = rest;
            self.check_header()?;
        }
        let wanted = self.payload_len() - self.payload.len();
        let (now, rest) = chunk.split_at(wanted.min(chunk.len()));
        self.payload.extend_from_slice(now);
        *chunk = rest;
        if now.len() < wanted {
            return Ok(None);
        }
        self.have = 0;
        Ok(Some(Frame {
            kind: self.header[5],
            payload: std::mem::take(&mut self.payload),
        }))
    }

    fn check_header(&self) -> Result<(), FrameError> {
        let theirs = self.header[4];
        match self.have {
            LENGTH_LEN => self.check_length(),
            5 if theirs != VERSION => Err(FrameError::OtherVersion { theirs }),
            _ => Ok(()),
        }
    }

    fn check_length(&self) -> Result<(), FrameError> {
        let len = self.length();
        let max = self.max_payload;
        if len < KIND_LEN {
            return Err(FrameError::TooShort { len });
        }
        let len = len - KIND_LEN;
        if len > max {
            return Err(FrameError::TooLong { len, max });
        }
        Ok(())
    }

    fn length(&self) -> usize {
        let [a, b, c, d, ..] = self.header;
        usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX)
    }

    /// Only after `check_length`.
    fn payload_len(&self) -> usize {
        self.length() - KIND_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `bytes` in chunks of the given sizes, over and over.
    fn decode_all(bytes: &[u8], sizes: &[usize], max: usize) -> Result<Vec<Frame>, FrameError> {
        let mut decoder = Decoder::new(max);
        let (mut frames, mut rest) = (Vec::new(), bytes);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (mut chunk, tail) = rest.split_at((*size).min(rest.len()));
            rest = tail;
            while let Some(frame) = decoder.advance(&mut chunk)? {
                frames.push(frame);
            }
            assert!(chunk.is_empty());
        }
        decoder.finish()?;
        Ok(frames)
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let frame = any::<(u8, Vec<u8>)>().prop_map(|(kind, payload)| Frame { kind, payload });
        prop::collection::vec(frame, 1..6)
    }

    fn stream(frames: &[Frame]) -> Vec<u8> {
        let encoded = frames
            .iter()
            .map(|f| encode(f.kind, &f.payload, 1000).unwrap());
        encoded.collect::<Vec<_>>().concat()
    }

    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(1usize..50, 1..10)
    }

    proptest! {
        #[test]
        fn gives_back_every_frame_however_it_is_chunked(frames in frames(), sizes in sizes()) {
            prop_assert_eq!(decode_all(&stream(&frames), &sizes, 1000), Ok(frames));
        }

        #[test]
        fn any_bytes_give_frames_or_an_error(bytes in any::<Vec<u8>>(), sizes in sizes()) {
            let _ = decode_all(&bytes, &sizes, 64);
        }

        #[test]
        fn a_flipped_bit_never_panics(
            frames in frames(), sizes in sizes(), at in any::<prop::sample::Index>(), bit in 0..8,
        ) {
            let mut bytes = stream(&frames);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            let _ = decode_all(&bytes, &sizes, 1000);
        }

        #[test]
        fn tells_a_stream_cut_inside_a_frame(payload in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let bytes = encode(1, &payload, 1000).unwrap();
            let have = 1 + cut.index(bytes.len() - 1);
            prop_assert_eq!(decode_all(&bytes[..have], &[7], 1000), Err(FrameError::Cut { have }));
        }
    }

    #[test]
    fn refuses_an_announced_length_over_the_limit_before_the_payload() {
        let mut decoder = Decoder::default();
        let error = FrameError::TooLong {
            len: 0xffff_fffd,
            max: DEFAULT_MAX_PAYLOAD,
        };
        assert_eq!(
            decoder.advance(&mut [0xff; 4].as_slice()),
            Err(error.clone())
        );
        let valid = encode(1, b"x", 10).unwrap();
        assert_eq!(decoder.advance(&mut valid.as_slice()), Err(error));
    }

    #[test]
    fn takes_memory_for_what_arrived_not_for_what_is_announced() {
        let mut decoder = Decoder::default();
        let bytes = encode(1, &vec![0; DEFAULT_MAX_PAYLOAD], DEFAULT_MAX_PAYLOAD).unwrap();
        assert_eq!(decoder.advance(&mut &bytes[..100]), Ok(None));
        assert!(decoder.payload.capacity() < 1000);
    }

    #[test]
    fn takes_the_longest_payload_and_refuses_one_byte_more() {
        let longest = encode(1, &[0; 11], 11).unwrap();
        assert_eq!(decode_all(&longest, &[5], 11).map(|f| f.len()), Ok(1));
        let error = FrameError::TooLong { len: 11, max: 10 };
        assert_eq!(encode(1, &[0; 11], 10), Err(error.clone()));
        assert_eq!(decode_all(&longest, &[5], 10), Err(error));
    }

    #[test]
    fn tells_which_version_the_other_side_speaks() {
        let bytes = [2, 0, 0, 0, 9, 1];
        let error = FrameError::OtherVersion { theirs: 9 };
        assert_eq!(decode_all(&bytes, &[6], 10), Err(error));
    }

    #[test]
    fn refuses_a_length_without_room_for_the_kind() {
        let error = FrameError::TooShort { len: 1 };
        assert_eq!(decode_all(&[1, 0, 0, 0, 1], &[5], 10), Err(error));
    }
}
