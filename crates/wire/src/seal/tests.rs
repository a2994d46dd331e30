use super::*;
use proptest::prelude::*;

const CLUSTER: ClusterId = ClusterId(0x0102_0304_0506_0708);

fn key(byte: u8) -> SealKey {
    SealKey::from_bytes([byte; 32])
}

fn keyring() -> Keyring {
    Keyring::new(CLUSTER, 1, key(7))
}

fn sealer() -> Sealer {
    Sealer::new(&keyring(), 2, StartSalt([9; 6]))
}

fn sealed(plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer().seal(3, plaintext, &mut out).unwrap();
    out
}

fn open(datagram: &[u8]) -> Result<Opened, OpenError> {
    Opener::new(keyring()).open(datagram)
}

proptest! {
    #[test]
    fn opens_what_was_sealed(plaintext in prop::collection::vec(any::<u8>(), 0..=MAX_PLAINTEXT)) {
        let opened = Opened { sender: 2, path: 3, plaintext: plaintext.clone() };
        prop_assert_eq!(open(&sealed(&plaintext)), Ok(opened));
    }

    #[test]
    fn any_bytes_are_refused(bytes in any::<Vec<u8>>()) {
        prop_assert!(open(&bytes).is_err());
        let _ = peek(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_valid_header_are_forged(
        tail in prop::collection::vec(any::<u8>(), TAG_LEN..100),
    ) {
        let mut datagram = sealed(b"")[..HEADER_LEN].to_vec();
        datagram.extend_from_slice(&tail);
        prop_assert_eq!(open(&datagram), Err(OpenError::Forged));
    }

    #[test]
    fn every_flipped_bit_is_refused(
        plaintext in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let mut datagram = sealed(&plaintext);
        let at = at.index(datagram.len());
        datagram[at] ^= 1u8 << bit;
        prop_assert!(open(&datagram).is_err());
    }

    #[test]
    fn every_truncation_is_refused(plaintext in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
        let datagram = sealed(&plaintext);
        prop_assert!(open(&datagram[..cut.index(datagram.len())]).is_err());
    }
}

#[test]
fn lays_out_the_header_as_documented() {
    let mut sealer = sealer();
    let mut out = Vec::new();
    sealer.seal(3, b"first", &mut out).unwrap();
    sealer.seal(3, b"second", &mut out).unwrap();
    let header = [
        b'h', b'p', 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 1,
    ];
    assert_eq!(out[..HEADER_LEN], header);
    assert_eq!(out.len(), HEADER_LEN + 6 + TAG_LEN);
}

#[test]
fn seals_the_same_message_differently_each_time_and_for_each_sender() {
    let mut one = sealer();
    let mut other = Sealer::new(&keyring(), 4, StartSalt([9; 6]));
    let mut outs = [Vec::new(), Vec::new(), Vec::new()];
    one.seal(3, b"same message", &mut outs[0]).unwrap();
    other.seal(3, b"same message", &mut outs[1]).unwrap();
    one.seal(3, b"same message", &mut outs[2]).unwrap();
    let [a, b, c] = outs.map(|out| out[HEADER_LEN..out.len() - TAG_LEN].to_vec());
    assert!(a != b && b != c && a != c);
}

#[test]
fn the_counter_runs_on_over_a_key_change() {
    let mut keyring = keyring();
    let mut sealer = sealer();
    let mut out = Vec::new();
    sealer.seal(3, b"x", &mut out).unwrap();
    keyring.accept(2, key(8)).unwrap();
    keyring.seal_with(2).unwrap();
    sealer.use_keyring(&keyring);
    sealer.seal(3, b"x", &mut out).unwrap();
    assert_eq!((out[3], out[25]), (2, 1));
}

#[test]
fn stops_sealing_when_the_nonces_are_used_up() {
    let mut sealer = sealer();
    let mut out = Vec::new();
    sealer.counter = COUNTER_END - 1;
    assert_eq!(sealer.seal(3, b"x", &mut out), Ok(()));
    assert_eq!(out[20..26], [0xff; 6]);
    assert_eq!(sealer.seal(3, b"x", &mut out), Err(SealError::NoncesUsedUp));
    assert!(out.is_empty());
}

#[test]
fn refuses_a_plaintext_over_the_limit() {
    let len = MAX_PLAINTEXT + 1;
    let error = SealError::TooLong { len };
    assert_eq!(sealer().seal(3, &vec![0; len], &mut Vec::new()), Err(error));
    assert_eq!(sealed(&[0; MAX_PLAINTEXT]).len(), MAX_DATAGRAM);
}

#[test]
fn says_why_a_datagram_is_refused() {
    let good = sealed(b"beat");
    let with = |at: usize, byte: u8| {
        let mut datagram = good.clone();
        datagram[at] = byte;
        open(&datagram)
    };
    assert_eq!(open(b"hp"), Err(OpenError::TooShort { len: 2 }));
    assert_eq!(open(&good[..41]), Err(OpenError::TooShort { len: 41 }));
    let len = MAX_DATAGRAM + 1;
    let mut long = good.clone();
    long.resize(len, 0);
    assert_eq!(open(&long), Err(OpenError::TooLong { len }));
    assert_eq!(with(0, b'H'), Err(OpenError::ForeignMagic));
    assert_eq!(with(2, 2), Err(OpenError::OtherVersion { theirs: 2 }));
    assert_eq!(with(3, 9), Err(OpenError::UnknownKey { id: 9 }));
    let theirs = ClusterId(0x0102_0304_0506_0709);
    assert_eq!(with(11, 9), Err(OpenError::OtherCluster { theirs }));
    for (at, byte) in good.iter().enumerate().skip(12) {
        assert_eq!(with(at, byte ^ 1), Err(OpenError::Forged), "byte {at}");
    }
}

#[test]
fn tells_another_version_even_in_a_short_datagram() {
    assert_eq!(
        open(b"hp\x02\x00"),
        Err(OpenError::OtherVersion { theirs: 2 })
    );
}

#[test]
fn the_wrong_key_is_forged() {
    let other = Opener::new(Keyring::new(CLUSTER, 1, key(8)));
    assert_eq!(other.open(&sealed(b"beat")), Err(OpenError::Forged));
}

#[test]
fn peek_finds_cluster_and_sender() {
    let found = peek(&sealed(b"beat"));
    let peek = Peek {
        cluster: CLUSTER,
        sender: 2,
        key_id: 1,
        path: 3,
    };
    assert_eq!(found, Ok(peek));
}

#[test]
fn a_rotation_loses_no_heartbeat() {
    let (mut a, mut b) = (keyring(), keyring());
    let hears = |from: &Keyring, to: &Keyring| {
        let mut out = Vec::new();
        Sealer::new(from, 2, StartSalt([1; 6]))
            .seal(0, b"x", &mut out)
            .unwrap();
        Opener::new(to.clone()).open(&out).is_ok()
    };
    let check = |a: &Keyring, b: &Keyring| assert!(hears(a, b) && hears(b, a));
    a.accept(2, key(8)).unwrap();
    check(&a, &b);
    b.accept(2, key(8)).unwrap();
    a.seal_with(2).unwrap();
    check(&a, &b);
    b.seal_with(2).unwrap();
    a.drop_key(1).unwrap();
    check(&a, &b);
    b.drop_key(1).unwrap();
    check(&a, &b);
    assert!(!hears(&keyring(), &a));
}

#[test]
fn the_keyring_refuses_changes_that_would_cut_the_node_off() {
    let mut keyring = keyring();
    assert_eq!(keyring.seal_with(2), Err(KeyringError::Unknown(2)));
    assert_eq!(keyring.drop_key(1), Err(KeyringError::InUse(1)));
    assert_eq!(keyring.drop_key(2), Err(KeyringError::Unknown(2)));
    assert_eq!(keyring.accept(1, key(8)), Err(KeyringError::Taken(1)));
    assert_eq!(keyring.accept(1, key(7)), Ok(()));
}

#[test]
fn a_key_does_not_show_its_bytes() {
    assert_eq!(format!("{:?}", key(7)), "SealKey(secret)");
}
