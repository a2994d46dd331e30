//! Cuts any bytes into frames; how they are chunked must not matter.
#![no_main]

use hotpair_wire::frame::{Decoder, Frame, FrameError};
use libfuzzer_sys::fuzz_target;

const MAX_PAYLOAD: usize = 4096;

fn decode(data: &[u8], chunk_len: usize) -> (Vec<Frame>, Result<(), FrameError>) {
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

fuzz_target!(|data: &[u8]| {
    let whole = decode(data, data.len().max(1));
    assert_eq!(whole, decode(data, 1));
    assert_eq!(whole, decode(data, 7));
    assert!(
        whole
            .0
            .iter()
            .all(|frame| frame.payload.len() <= MAX_PAYLOAD)
    );
});
