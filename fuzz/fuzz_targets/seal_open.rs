//! Opens any bytes as a datagram, as they are and behind a valid header.
#![no_main]

use hotpair_wire::ClusterId;
use hotpair_wire::seal::{
    HEADER_LEN, Keyring, OpenError, Opener, SealKey, Sealer, StartSalt, peek,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
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
});
