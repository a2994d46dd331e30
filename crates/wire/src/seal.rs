//! Sealed datagrams: heartbeats that only members of the cluster can write or read.
//!
//! ```text
//! offset size field
//!      0    2 magic, "hp"
//!      2    1 format version, 1
//!      3    1 key id
//!      4    8 cluster id, most significant byte first
//!     12    1 sender: member number of the node or witness
//!     13    1 path: which link it was sent over
//!     14    6 start salt, random, drawn once per process start
//!     20    6 counter, most significant byte first, from 0
//!     26    n ciphertext, 0 to 1200 bytes
//!   26+n   16 tag
//! ```
//!
//! ChaCha20-Poly1305 (RFC 8439); bytes 0 to 25 are authenticated as associated
//! data, bytes 14 to 25 are the nonce. Every sender seals with its own key:
//! HKDF-SHA256 (RFC 5869) of the cluster key with the cluster id and the sender
//! in the info, so members that share a cluster key never share nonces.
//!
//! # Why a nonce never repeats
//! A nonce used twice under one key would give the two plaintexts away and let
//! others forge. Within one process the counter only rises: it survives key
//! changes and sealing ends with an error after 2^48 datagrams (89,000 years at
//! 100 a second). Between two starts of one sender the 48-bit salts differ but
//! for a chance of n²/2^49 after n starts under one key: 2 in 10^9 after 1,000
//! starts. No state on disk is needed, so a lost or restored disk cannot bring
//! an old counter back. Rotating the cluster key sets n back to 0.

mod keyring;

pub use keyring::{Keyring, KeyringError, SealKey};

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use ring::error::Unspecified;
use ring::rand::SecureRandom;

use crate::ClusterId;

/// First two bytes of every sealed datagram.
pub const MAGIC: [u8; 2] = *b"hp";
/// The only format version this program speaks.
pub const VERSION: u8 = 1;
/// Bytes before the ciphertext.
pub const HEADER_LEN: usize = 26;
/// Bytes after the ciphertext.
pub const TAG_LEN: usize = 16;
/// Longest plaintext, so that a datagram fits an Ethernet frame unfragmented.
pub const MAX_PLAINTEXT: usize = 1200;
/// Longest sealed datagram.
pub const MAX_DATAGRAM: usize = HEADER_LEN + MAX_PLAINTEXT + TAG_LEN;

const NONCE_AT: usize = 14;
const COUNTER_END: u64 = 1 << 48;

/// Random bytes that tell the nonces of one process start from those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartSalt(pub [u8; 6]);

impl StartSalt {
    /// Draws a salt; do so once per process start and never store it.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, Unspecified> {
        let mut bytes = [0; 6];
        rng.fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

/// A datagram could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The plaintext does not fit a datagram.
    #[error("a heartbeat of {len} bytes does not fit a datagram, the limit is {MAX_PLAINTEXT}")]
    TooLong {
        /// Length of the plaintext in bytes.
        len: usize,
    },
    /// The counter has reached its end.
    #[error("all nonces of this process start are used up, restart hotpair")]
    NoncesUsedUp,
}

/// Why a datagram was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Fewer bytes than a header and a tag.
    #[error("a datagram of {len} bytes is too short to be a heartbeat")]
    TooShort {
        /// Length of the datagram in bytes.
        len: usize,
    },
    /// More bytes than any sealed datagram has.
    #[error("a datagram of {len} bytes is too long to be a heartbeat, the limit is {MAX_DATAGRAM}")]
    TooLong {
        /// Length of the datagram in bytes.
        len: usize,
    },
    /// It comes from some other program.
    #[error("not a hotpair datagram, another program sends to this port")]
    ForeignMagic,
    /// It comes from a hotpair that speaks another format.
    #[error(
        "heartbeat in format version {theirs}, this node speaks {VERSION}: run the same release of hotpair on all nodes"
    )]
    OtherVersion {
        /// Version the sender speaks.
        theirs: u8,
    },
    /// It belongs to another cluster on the same network.
    #[error(
        "heartbeat of another cluster, {theirs}: give the clusters different ports or networks"
    )]
    OtherCluster {
        /// The cluster the datagram names.
        theirs: ClusterId,
    },
    /// The key it was sealed with is not in the keyring.
    #[error(
        "heartbeat sealed with key {id}, which this node does not hold: it missed a key change, or it is stale"
    )]
    UnknownKey {
        /// Key id the datagram names.
        id: u8,
    },
    /// The tag does not fit: damaged, or written by somebody without the key.
    #[error("heartbeat is damaged or forged")]
    Forged,
}

/// What the unprotected header says; believe it only after [`Opener::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peek {
    /// Cluster the datagram claims to belong to.
    pub cluster: ClusterId,
    /// Member number the datagram claims to come from.
    pub sender: u8,
    /// Key it claims to be sealed with.
    pub key_id: u8,
    /// Link it claims to have been sent over.
    pub path: u8,
}

/// Reads the header of a datagram without checking its seal.
///
/// A witness that serves many clusters finds the keyring with it.
///
/// # Errors
/// All of [`OpenError`] that need no keyring: length, magic, version.
pub fn peek(datagram: &[u8]) -> Result<Peek, OpenError> {
    let len = datagram.len();
    let [m0, m1, version, key_id, rest @ ..] = datagram else {
        return Err(OpenError::TooShort { len });
    };
    if [*m0, *m1] != MAGIC {
        return Err(OpenError::ForeignMagic);
    }
    if *version != VERSION {
        return Err(OpenError::OtherVersion { theirs: *version });
    }
    if len < HEADER_LEN + TAG_LEN {
        return Err(OpenError::TooShort { len });
    }
    if len > MAX_DATAGRAM {
        return Err(OpenError::TooLong { len });
    }
    let Some((cluster, [sender, path, ..])) = rest.split_first_chunk::<8>() else {
        return Err(OpenError::TooShort { len });
    };
    Ok(Peek {
        cluster: ClusterId(u64::from_be_bytes(*cluster)),
        sender: *sender,
        key_id: *key_id,
        path: *path,
    })
}

/// Seals the datagrams of one member; one per process start.
pub struct Sealer {
    cluster: ClusterId,
    sender: u8,
    salt: StartSalt,
    counter: u64,
    key_id: u8,
    key: LessSafeKey,
}

impl Sealer {
    /// Seals as member `sender` with the current key of `keyring`.
    ///
    /// Give every sealer its own freshly drawn `salt`.
    pub fn new(keyring: &Keyring, sender: u8, salt: StartSalt) -> Self {
        let (key_id, key) = keyring.sealing_key(sender);
        Self {
            cluster: keyring.cluster(),
            sender,
            salt,
            counter: 0,
            key_id,
            key,
        }
    }

    /// Goes on with the current key of `keyring`; the counter runs on.
    pub fn use_keyring(&mut self, keyring: &Keyring) {
        (self.key_id, self.key) = keyring.sealing_key(self.sender);
        self.cluster = keyring.cluster();
    }

    /// Id of the key datagrams are sealed with now.
    pub fn key_id(&self) -> u8 {
        self.key_id
    }

    /// Replaces the content of `out` by the sealed datagram for link `path`.
    ///
    /// # Errors
    /// When the plaintext is too long or all nonces are used; `out` is empty then.
    pub fn seal(&mut self, path: u8, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        out.clear();
        if plaintext.len() > MAX_PLAINTEXT {
            let len = plaintext.len();
            return Err(SealError::TooLong { len });
        }
        if self.counter >= COUNTER_END {
            return Err(SealError::NoncesUsedUp);
        }
        let header = self.header(path);
        self.counter += 1;
        out.extend_from_slice(&header);
        out.extend_from_slice(plaintext);
        let tag = self.key.seal_in_place_separate_tag(
            nonce(&header),
            Aad::from(header),
            &mut out[HEADER_LEN..],
        );
        match tag {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            Err(Unspecified) => {
                let len = plaintext.len();
                out.clear();
                return Err(SealError::TooLong { len });
            }
        }
        Ok(())
    }

    fn header(&self, path: u8) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..2].copy_from_slice(&MAGIC);
        header[2] = VERSION;
        header[3] = self.key_id;
        header[4..12].copy_from_slice(&self.cluster.0.to_be_bytes());
        header[12] = self.sender;
        header[13] = path;
        header[14..20].copy_from_slice(&self.salt.0);
        header[20..26].copy_from_slice(&self.counter.to_be_bytes()[2..]);
        header
    }
}

/// A datagram whose seal is intact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Member number of the sender.
    pub sender: u8,
    /// Link it was sent over.
    pub path: u8,
    /// The message.
    pub plaintext: Vec<u8>,
}

/// Opens the datagrams of one cluster.
///
/// An intact seal says who wrote a datagram, not when: pass the message through
/// a [`ReplayWindow`](crate::replay::ReplayWindow) before believing it.
pub struct Opener {
    keyring: Keyring,
}

impl Opener {
    /// Opens with any key of `keyring`.
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring }
    }

    /// Goes on with another keyring.
    pub fn use_keyring(&mut self, keyring: Keyring) {
        self.keyring = keyring;
    }

    /// Checks the seal and decrypts.
    ///
    /// # Errors
    /// See [`OpenError`]; any bytes give an answer.
    pub fn open(&self, datagram: &[u8]) -> Result<Opened, OpenError> {
        let peek = peek(datagram)?;
        if peek.cluster != self.keyring.cluster() {
            let theirs = peek.cluster;
            return Err(OpenError::OtherCluster { theirs });
        }
        let Some(key) = self.keyring.opening_key(peek.key_id, peek.sender) else {
            return Err(OpenError::UnknownKey { id: peek.key_id });
        };
        let Some((header, sealed)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            let len = datagram.len();
            return Err(OpenError::TooShort { len });
        };
        let mut plaintext = sealed.to_vec();
        let len = key
            .open_in_place(nonce(header), Aad::from(header), &mut plaintext)
            .map_err(|Unspecified| OpenError::Forged)?
            .len();
        plaintext.truncate(len);
        Ok(Opened {
            sender: peek.sender,
            path: peek.path,
            plaintext,
        })
    }
}

fn nonce(header: &[u8; HEADER_LEN]) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes.copy_from_slice(&header[NONCE_AT..]);
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests;
