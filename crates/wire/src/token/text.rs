//! Bytes as readable groups of characters.

use super::{MAX_TEXT, PREFIX, TokenError};

/// Crockford's base32, <https://www.crockford.com/base32.html>.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const GROUP: usize = 5;

/// The prefix and `bytes` in groups.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::from(PREFIX);
    let (mut bits, mut held, mut count) = (0u32, 0, 0);
    let total = (bytes.len() * 8).div_ceil(5);
    for byte in bytes.iter().copied().chain([0]) {
        bits = bits << 8 | u32::from(byte);
        held += 8;
        while held >= 5 && count < total {
            held -= 5;
            if count % GROUP == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[(bits >> held & 31) as usize]));
            count += 1;
        }
        bits &= 0xff;
    }
    text
}

/// The bytes in a text with prefix.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    if text.len() > MAX_TEXT {
        return Err(TokenError::TooLong { len: text.len() });
    }
    let mut characters = (1..)
        .zip(text.chars())
        .filter(|(_, c)| *c != '-' && !c.is_whitespace());
    check_prefix(
        characters
            .by_ref()
            .take(PREFIX.len())
            .map(|(_, c)| c)
            .collect(),
    )?;
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for (position, character) in characters {
        let value = value(character).ok_or(TokenError::Character {
            character,
            position,
        })?;
        bits = (bits << 5 | value) & 0xfff;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff).to_le_bytes()[0]);
        }
    }
    let padding = bits & ((1 << held) - 1);
    if held >= 5 || padding != 0 {
        return Err(TokenError::Mistyped);
    }
    Ok(bytes)
}

fn check_prefix(found: String) -> Result<(), TokenError> {
    let found = found.to_ascii_lowercase().replace(['i', 'l'], "1");
    if found == PREFIX {
        return Ok(());
    }
    match found.strip_prefix("hp").map(str::as_bytes) {
        Some([b'0'..=b'9']) => Err(TokenError::OtherFormat { found }),
        _ => Err(TokenError::NotAToken),
    }
}

fn value(character: char) -> Option<u32> {
    let lower = match character.to_ascii_lowercase() {
        'i' | 'l' => '1',
        'o' => '0',
        other => other,
    };
    let index = ALPHABET.iter().position(|c| char::from(*c) == lower)?;
    u32::try_from(index).ok()
}
