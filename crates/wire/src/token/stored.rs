//! The cluster's side of a token: redeemed once, by who knows the secret.

use std::fmt;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{Kind, SECRET_LEN};

/// Names a token without giving its secret away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub u64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What the joining side sends, inside TLS to a server under the token's CA.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    kind: Kind,
    id: TokenId,
    secret: [u8; SECRET_LEN],
}

impl Ticket {
    pub(super) fn new(kind: Kind, id: TokenId, secret: [u8; SECRET_LEN]) -> Self {
        Self { kind, id, secret }
    }

    /// What the sender wants to become.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Which token it holds, to find the [`StoredToken`] by.
    pub fn id(&self) -> TokenId {
        self.id
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({} {}, secret)", self.kind, self.id)
    }
}

/// Why a ticket was not taken; sent back to the joining side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The cluster never made this token, or has withdrawn it.
    #[error(
        "the cluster does not know this token or has withdrawn it: make a new one with `hotpair token`"
    )]
    Unknown,
    /// Somebody has joined with it already.
    #[error(
        "this token has been used already, each works once: make a new one with `hotpair token`"
    )]
    Used,
    /// It is for something else.
    #[error("this token is for a {made_for}: make one for the right kind with `hotpair token`")]
    OtherKind {
        /// What the token was made for.
        made_for: Kind,
    },
}

/// A token as the cluster keeps it: the hash of its secret, and whether it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredToken {
    kind: Kind,
    id: TokenId,
    secret_hash: [u8; 32],
    used: bool,
}

impl StoredToken {
    pub(super) fn new(kind: Kind, id: TokenId, secret: &[u8; SECRET_LEN]) -> Self {
        Self {
            kind,
            id,
            secret_hash: hash(secret),
            used: false,
        }
    }

    /// What the token was made for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Which token this is.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// Whether somebody has joined with it.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Uses the token up; store the result before answering the joining side.
    ///
    /// # Errors
    /// See [`Refusal`]; a refused ticket changes nothing. A wrong secret gives
    /// the same answer as an unknown token.
    pub fn redeem(&mut self, ticket: &Ticket) -> Result<(), Refusal> {
        if ticket.id != self.id || !self.is_secret(&ticket.secret) {
            return Err(Refusal::Unknown);
        }
        if ticket.kind != self.kind {
            let made_for = self.kind;
            return Err(Refusal::OtherKind { made_for });
        }
        if self.used {
            return Err(Refusal::Used);
        }
        self.used = true;
        Ok(())
    }

    /// Compares hashes, so the time taken tells nothing about the secret.
    fn is_secret(&self, secret: &[u8; SECRET_LEN]) -> bool {
        hash(secret) == self.secret_hash
    }
}

fn hash(secret: &[u8; SECRET_LEN]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
    bytes
}
