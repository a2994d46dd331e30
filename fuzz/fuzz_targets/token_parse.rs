//! Parses any text as a token; what parses must print and parse to itself.
#![no_main]

use hotpair_wire::token::Token;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(token) = Token::parse(text) {
        assert_eq!(Token::parse(&token.to_string()), Ok(token));
    }
});
