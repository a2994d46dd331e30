use super::*;
use proptest::prelude::*;

fn token() -> Token {
    Token {
        kind: Kind::Node,
        cluster: ClusterId(0x0123_4567_89ab_cdef),
        ca_pin: [0xaa; 16],
        id: TokenId(42),
        secret: [0x55; SECRET_LEN],
        addresses: vec![
            "192.0.2.1:14339".parse().unwrap(),
            "[2001:db8::1]:14339".parse().unwrap(),
        ],
    }
}

fn tokens() -> impl Strategy<Value = Token> {
    let addresses = prop::collection::vec(any::<SocketAddr>(), 1..=MAX_ADDRESSES);
    let numbers = any::<(bool, u64, [u8; 16], u64, [u8; SECRET_LEN])>();
    (numbers, addresses).prop_map(|((node, cluster, ca_pin, id, secret), addresses)| Token {
        kind: if node { Kind::Node } else { Kind::Witness },
        cluster: ClusterId(cluster),
        ca_pin,
        id: TokenId(id),
        secret,
        addresses: addresses
            .iter()
            .map(|a| SocketAddr::new(a.ip(), a.port()))
            .collect(),
    })
}

proptest! {
    #[test]
    fn reads_back_every_token(token in tokens()) {
        let text = token.to_string();
        prop_assert!(text.len() <= 399, "{}", text.len());
        prop_assert_eq!(Token::parse(&text), Ok(token.clone()));
        let typed = format!(" {}\n", text.to_uppercase().replace('-', " ").replace('0', "O").replace('1', "l"));
        prop_assert_eq!(Token::parse(&typed), Ok(token));
    }

    #[test]
    fn any_text_is_refused_with_a_reason(text in any::<String>()) {
        prop_assert!(Token::parse(&text).is_err());
        let text = format!("hp1-{text}");
        prop_assert!(Token::parse(&text).is_err());
    }

    #[test]
    fn any_bytes_with_a_valid_checksum_give_an_answer(mut bytes in any::<Vec<u8>>()) {
        bytes.extend_from_slice(&checksum(&bytes));
        let _ = Token::parse(&text::encode(&bytes));
    }

    #[test]
    fn text_gives_back_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(text::decode(&text::encode(&bytes)), Ok(bytes));
    }

    #[test]
    fn every_truncation_is_refused(token in tokens(), cut in any::<prop::sample::Index>()) {
        let text = token.to_string();
        let cut = &text[..cut.index(text.len())];
        let whole = cut.trim_end_matches('-').len() == text.len();
        prop_assert!(whole || Token::parse(cut).is_err());
    }

    #[test]
    fn every_mistyped_character_is_told(
        token in tokens(), at in any::<prop::sample::Index>(), typed in "[0-9a-z]",
    ) {
        let mut text = token.to_string().into_bytes();
        let at = 4 + at.index(text.len() - 4);
        text[at] = typed.as_bytes()[0];
        let result = Token::parse(&String::from_utf8(text).unwrap());
        let told = matches!(result, Err(TokenError::Mistyped | TokenError::Character { .. }));
        prop_assert!(told || result == Ok(token));
    }
}

/// Computed from the documented layout by other means (Python's base64 and hashlib).
#[test]
fn keeps_the_documented_form() {
    let expected = "hp1-040j6-hb7h6-nwvvx-anana-nanan-anana-nanan-anana-00000-00000-02mna-nanan-\
        anana-nanan-anana-nan82-0k000-0g170-1gc80-11pw0-00000-00000-00000-0009r-0ffan-vt2";
    assert_eq!(token().to_string(), expected);
}

#[test]
fn refuses_a_second_way_to_write_the_same_bytes() {
    assert_eq!(text::decode("hp1-00"), Ok(vec![0]));
    assert_eq!(text::decode("hp1-01"), Err(TokenError::Mistyped));
    assert_eq!(text::decode("hp1-000"), Err(TokenError::Mistyped));
}

#[test]
fn says_what_is_wrong_with_a_text() {
    let text = token().to_string();
    assert_eq!(Token::parse(""), Err(TokenError::NotAToken));
    assert_eq!(Token::parse("hpx-00000"), Err(TokenError::NotAToken));
    let found = "hp2".to_owned();
    let other = text.replacen("hp1", "HP2", 1);
    assert_eq!(Token::parse(&other), Err(TokenError::OtherFormat { found }));
    assert_eq!(Token::parse("hp1-0000"), Err(TokenError::Cut { len: 8 }));
    let error = TokenError::Character {
        character: '!',
        position: 5,
    };
    assert_eq!(Token::parse("hp1-!"), Err(error));
    assert_eq!(
        Token::parse(&text[..text.len() - 3]),
        Err(TokenError::Mistyped)
    );
    let len = 2000;
    assert_eq!(
        Token::parse(&"h".repeat(len)),
        Err(TokenError::TooLong { len })
    );
    let mut foreign = token().to_bytes();
    foreign[0] = 9;
    foreign.extend_from_slice(&checksum(&foreign));
    assert_eq!(
        Token::parse(&text::encode(&foreign)),
        Err(TokenError::Unreadable)
    );
}

#[test]
fn refuses_to_make_a_token_without_an_address() {
    let rng = ring::rand::SystemRandom::new();
    let make = |addresses: &[SocketAddr]| {
        Token::generate(&rng, Kind::Node, ClusterId(1), &[0; 32], addresses).map(drop)
    };
    let address = "192.0.2.1:1".parse().unwrap();
    assert_eq!(make(&[]), Err(TokenError::Addresses { found: 0 }));
    assert_eq!(make(&[address; 9]), Err(TokenError::Addresses { found: 9 }));
    assert_eq!(make(&[address; 8]), Ok(()));
}

#[test]
fn a_token_works_once() {
    let token = token();
    let mut stored = token.stored();
    assert_eq!(stored.redeem(&token.ticket()), Ok(()));
    assert!(stored.is_used());
    assert_eq!(stored.redeem(&token.ticket()), Err(Refusal::Used));
}

#[test]
fn a_wrong_secret_or_kind_is_refused_and_leaves_the_token_usable() {
    let token = token();
    let mut stored = token.stored();
    let guess = Ticket::new(Kind::Node, token.id(), [0; SECRET_LEN]);
    assert_eq!(stored.redeem(&guess), Err(Refusal::Unknown));
    let other = Ticket::new(Kind::Node, TokenId(43), token.secret);
    assert_eq!(stored.redeem(&other), Err(Refusal::Unknown));
    let witness = Ticket::new(Kind::Witness, token.id(), token.secret);
    let made_for = Kind::Node;
    assert_eq!(
        stored.redeem(&witness),
        Err(Refusal::OtherKind { made_for })
    );
    assert_eq!(stored.redeem(&token.ticket()), Ok(()));
}

#[test]
fn what_the_cluster_stores_does_not_hold_the_secret() {
    let token = token();
    let bytes = crate::codec::encode(&token.stored());
    assert!(!bytes.windows(SECRET_LEN).any(|w| w == token.secret));
    assert_eq!(crate::codec::decode(&bytes), Ok(token.stored()));
    assert!(format!("{token:?} {:?}", token.ticket()).contains("secret"));
    assert!(!format!("{token:?}").contains("85"));
}
