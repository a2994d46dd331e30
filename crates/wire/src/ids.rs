//! The identifier of a cluster, as it travels on the wire.

use std::fmt;
use std::str::FromStr;

use ring::error::Unspecified;
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};

/// Which cluster a datagram, a certificate or a token belongs to.
///
/// 64 random bits drawn at `init`; not a secret. Written as 16 hexadecimal
/// digits, on the wire as 8 bytes, most significant first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// The text is not 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id is 16 hexadecimal digits (0-9, a-f)")]
pub struct ParseClusterIdError;

impl ClusterId {
    /// Draws a new id.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, Unspecified> {
        let mut bytes = [0; 8];
        rng.fill(&mut bytes)?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = ParseClusterIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(ParseClusterIdError);
        }
        u64::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| ParseClusterIdError)
    }
}
