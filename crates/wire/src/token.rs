//! The one-time token with which a node or a witness joins a cluster.
//!
//! Text: `hp1-` and groups of five characters, Crockford's base32 (no i, l, o,
//! u; case does not matter; i and l read as 1, o as 0). The groups hold:
//!
//! ```text
//! offset size field
//!      0    1 kind: 1 node, 2 witness
//!      1    8 cluster id, most significant byte first
//!      9   16 first half of the SHA-256 of the CA certificate
//!     25    8 token id
//!     33   16 secret
//!     49    1 number of addresses, 1 to 8
//!     50    … each: 1 byte family (4 or 6), 4 or 16 bytes address,
//!             2 bytes TCP port, most significant byte first
//!      …    4 checksum: first bytes of the SHA-256 of "hp1" and all before
//! ```
//!
//! The token binds both ways: the joining side accepts only a server under the
//! CA it names, so nobody in between learns the secret; the cluster accepts
//! only who knows the secret, once. The cluster stores the secret's hash alone.
//! The checksum tells a mistyped token from a used or foreign one before
//! anything is sent. A token does not expire by the wall clock: it ends with its
//! use or when it is withdrawn.

mod stored;
mod text;

pub use stored::{Refusal, StoredToken, Ticket, TokenId};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::ClusterId;
use crate::pki::{Member, PkiError};

const PREFIX: &str = "hp1";
const CHECKSUM_LEN: usize = 4;
/// Most addresses in one token.
pub const MAX_ADDRESSES: usize = 8;
/// Bytes of the secret, 128 bits: beyond guessing.
pub const SECRET_LEN: usize = 16;
/// Longer texts are not looked at; the longest token has 399 characters.
const MAX_TEXT: usize = 1024;

/// What a token lets its holder become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A node.
    Node,
    /// A witness.
    Witness,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Witness => "witness",
        })
    }
}

/// Why a text is not a usable token, or a token cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not start like a token.
    #[error(
        "not a token: a token starts with {PREFIX}-, make one with `hotpair token` on a node of the cluster"
    )]
    NotAToken,
    /// It is of another release.
    #[error(
        "the token has format {found}, this release reads {PREFIX}: install the release of hotpair that made it"
    )]
    OtherFormat {
        /// The prefix found.
        found: String,
    },
    /// It holds a character that tokens do not use.
    #[error(
        "the token has {character:?} as its character {position}, which tokens do not use: copy it again"
    )]
    Character {
        /// The character.
        character: char,
        /// Its position, from 1.
        position: usize,
    },
    /// It is shorter than any token.
    #[error("the token is cut off after {len} characters: copy it again, to its end")]
    Cut {
        /// Characters there are.
        len: usize,
    },
    /// It is longer than any token.
    #[error("the text of {len} bytes is too long for a token: copy the token alone")]
    TooLong {
        /// Bytes there are.
        len: usize,
    },
    /// The checksum does not fit.
    #[error(
        "the token is mistyped or cut off, its checksum does not fit: copy it again (it has not been used up)"
    )]
    Mistyped,
    /// The checksum fits but not the content.
    #[error(
        "the token holds what this release cannot read: install the release of hotpair that made it"
    )]
    Unreadable,
    /// A token needs addresses to contact.
    #[error("a token names 1 to {MAX_ADDRESSES} addresses to contact, not {found}")]
    Addresses {
        /// How many there are.
        found: usize,
    },
    /// The random source failed.
    #[error("the system's random source failed")]
    Random,
}

/// A one-time permission to join one cluster; whoever reads it may use it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    kind: Kind,
    cluster: ClusterId,
    ca_pin: [u8; 16],
    id: TokenId,
    secret: [u8; SECRET_LEN],
    addresses: Vec<SocketAddr>,
}

impl Token {
    /// Draws a token for the cluster whose CA has `ca_fingerprint`.
    ///
    /// `addresses` are TCP addresses of members, best first; scope and flow of
    /// IPv6 addresses are left out.
    ///
    /// # Errors
    /// When there are no or too many addresses, or the random source fails.
    pub fn generate(
        rng: &dyn SecureRandom,
        kind: Kind,
        cluster: ClusterId,
        ca_fingerprint: &[u8; 32],
        addresses: &[SocketAddr],
    ) -> Result<Self, TokenError> {
        let found = addresses.len();
        if !(1..=MAX_ADDRESSES).contains(&found) {
            return Err(TokenError::Addresses { found });
        }
        let (mut id, mut secret, mut ca_pin) = ([0; 8], [0; SECRET_LEN], [0; 16]);
        rng.fill(&mut id).map_err(|_| TokenError::Random)?;
        rng.fill(&mut secret).map_err(|_| TokenError::Random)?;
        ca_pin.copy_from_slice(&ca_fingerprint[..16]);
        let plain = |a: &SocketAddr| SocketAddr::new(a.ip(), a.port());
        Ok(Self {
            kind,
            cluster,
            ca_pin,
            id: TokenId(u64::from_be_bytes(id)),
            secret,
            addresses: addresses.iter().map(plain).collect(),
        })
    }

    /// The token in a text; white space and hyphens within it do not matter.
    ///
    /// # Errors
    /// See [`TokenError`], which says what to do; any text gives an answer.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let bytes = text::decode(text)?;
        let Some((content, sum)) = bytes.split_last_chunk::<CHECKSUM_LEN>() else {
            return Err(TokenError::Cut { len: text.len() });
        };
        if checksum(content) != *sum {
            return Err(TokenError::Mistyped);
        }
        Self::from_bytes(content).ok_or(TokenError::Unreadable)
    }

    /// What the holder may become.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The cluster to join.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// First 16 bytes of the CA's fingerprint.
    pub fn ca_pin(&self) -> &[u8; 16] {
        &self.ca_pin
    }

    /// Which token this is; not a secret.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// TCP addresses of members to contact, best first.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The name to connect by, with [`join_config`](crate::pki::join_config).
    ///
    /// # Errors
    /// Never in practice: the name is always a valid DNS name.
    pub fn server_name(&self) -> Result<ServerName<'static>, PkiError> {
        let cluster = self.cluster;
        crate::pki::server_name(Member { cluster, id: 0 })
    }

    /// What the joining side sends inside TLS.
    pub fn ticket(&self) -> Ticket {
        Ticket::new(self.kind, self.id, self.secret)
    }

    /// What the cluster keeps.
    pub fn stored(&self) -> StoredToken {
        StoredToken::new(self.kind, self.id, &self.secret)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Node => 1,
            Kind::Witness => 2,
        };
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&self.cluster.0.to_be_bytes());
        bytes.extend_from_slice(&self.ca_pin);
        bytes.extend_from_slice(&self.id.0.to_be_bytes());
        bytes.extend_from_slice(&self.secret);
        bytes.push(u8::try_from(self.addresses.len()).unwrap_or(u8::MAX));
        for address in &self.addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let kind = match take::<1>(bytes)? {
            [1] => Kind::Node,
            [2] => Kind::Witness,
            _ => return None,
        };
        let cluster = ClusterId(u64::from_be_bytes(take(bytes)?));
        let ca_pin = take(bytes)?;
        let id = TokenId(u64::from_be_bytes(take(bytes)?));
        let secret = take(bytes)?;
        let [count] = take(bytes)?;
        if !(1..=MAX_ADDRESSES).contains(&usize::from(count)) {
            return None;
        }
        let addresses: Option<_> = (0..count).map(|_| take_address(bytes)).collect();
        let token = Self {
            kind,
            cluster,
            ca_pin,
            id,
            secret,
            addresses: addresses?,
        };
        bytes.is_empty().then_some(token)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn take_address(bytes: &mut &[u8]) -> Option<SocketAddr> {
    let ip = match take(bytes)? {
        [4] => IpAddr::from(Ipv4Addr::from(take::<4>(bytes)?)),
        [6] => IpAddr::from(Ipv6Addr::from(take::<16>(bytes)?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(take(bytes)?)))
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = digest(&SHA256, &[PREFIX.as_bytes(), content].concat());
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&hash.as_ref()[..CHECKSUM_LEN]);
    sum
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.to_bytes();
        bytes.extend_from_slice(&checksum(&bytes));
        f.write_str(&text::encode(&bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} {}, secret)", self.kind, self.id)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        Self::parse(text)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

#[cfg(test)]
mod tests;
