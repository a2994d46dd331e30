//! The keys of a cluster: one to seal with, any number still accepted.

use std::collections::BTreeMap;
use std::fmt;

use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::ClusterId;

/// Sets these keys apart from all others derived with HKDF.
const SALT: &[u8] = b"hotpair sealed datagram v1";

/// A cluster key: 32 secret random bytes, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, Unspecified> {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The key with these bytes, as read from a file or handed over at join.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for SealKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(secret)")
    }
}

/// A change of the keyring that would leave the node deaf or dumb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// A key is sealed with only after it has been accepted.
    #[error("key {0} is not in the keyring, add it on all nodes before sealing with it")]
    Unknown(u8),
    /// The key in use cannot be dropped.
    #[error("key {0} is in use for sealing, change to another key before dropping it")]
    InUse(u8),
    /// The id already names another key.
    #[error("key {0} is already another key, choose the next free id")]
    Taken(u8),
}

/// The keys of one cluster by id.
///
/// Rotation in three steps, each finished on all members before the next:
/// [`accept`](Self::accept) the new key, [`seal_with`](Self::seal_with) it,
/// [`drop_key`](Self::drop_key) the old one. No heartbeat is lost on the way.
#[derive(Debug, Clone)]
pub struct Keyring {
    cluster: ClusterId,
    current: u8,
    keys: BTreeMap<u8, SealKey>,
}

impl Keyring {
    /// A keyring that seals and opens with `key` under id `key_id`.
    pub fn new(cluster: ClusterId, key_id: u8, key: SealKey) -> Self {
        Self {
            cluster,
            current: key_id,
            keys: BTreeMap::from([(key_id, key)]),
        }
    }

    /// The cluster the keys belong to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Id of the key to seal with.
    pub fn current(&self) -> u8 {
        self.current
    }

    /// All accepted key ids, ascending.
    pub fn key_ids(&self) -> impl Iterator<Item = u8> {
        self.keys.keys().copied()
    }

    /// Opens datagrams sealed with `key` from now on.
    ///
    /// # Errors
    /// When `key_id` names another key already.
    pub fn accept(&mut self, key_id: u8, key: SealKey) -> Result<(), KeyringError> {
        match self.keys.get(&key_id) {
            Some(held) if *held != key => Err(KeyringError::Taken(key_id)),
            _ => {
                self.keys.insert(key_id, key);
                Ok(())
            }
        }
    }

    /// Seals with `key_id` from now on.
    ///
    /// # Errors
    /// When the key is not in the keyring.
    pub fn seal_with(&mut self, key_id: u8) -> Result<(), KeyringError> {
        if !self.keys.contains_key(&key_id) {
            return Err(KeyringError::Unknown(key_id));
        }
        self.current = key_id;
        Ok(())
    }

    /// Refuses datagrams sealed with `key_id` from now on.
    ///
    /// # Errors
    /// When it is the key to seal with, or not in the keyring.
    pub fn drop_key(&mut self, key_id: u8) -> Result<(), KeyringError> {
        if key_id == self.current {
            return Err(KeyringError::InUse(key_id));
        }
        match self.keys.remove(&key_id) {
            Some(_) => Ok(()),
            None => Err(KeyringError::Unknown(key_id)),
        }
    }

    pub(super) fn sealing_key(&self, sender: u8) -> (u8, LessSafeKey) {
        let key = &self.keys[&self.current];
        (self.current, derive(key, self.cluster, sender))
    }

    pub(super) fn opening_key(&self, key_id: u8, sender: u8) -> Option<LessSafeKey> {
        let key = self.keys.get(&key_id)?;
        Some(derive(key, self.cluster, sender))
    }
}

/// The key of one sender, about 1 µs of hashing.
fn derive(key: &SealKey, cluster: ClusterId, sender: u8) -> LessSafeKey {
    let secret = Salt::new(HKDF_SHA256, SALT).extract(&key.0);
    let cluster = cluster.0.to_be_bytes();
    let info = [cluster.as_slice(), &[sender]];
    let okm = secret
        .expand(&info, &CHACHA20_POLY1305)
        .expect("32 bytes are within the HKDF limit of 8160");
    LessSafeKey::new(UnboundKey::from(okm))
}
