//! The cluster CA, the certificates of its members, and TLS without a wall clock.
//!
//! `init` makes one CA per cluster. Every member (node or witness) holds a
//! certificate from it whose DNS name says who it is:
//!
//! ```text
//! m2.c0123456789abcdef.hotpair.internal      member 2 of cluster 0123456789abcdef
//! ca.c0123456789abcdef.hotpair.internal      its CA
//! ```
//!
//! Addresses are not part of the identity, so they may change. Both sides of a
//! connection show a certificate (TLS 1.3 only, ECDSA P-256). Chains are checked
//! as of 2070, the middle of the 100 years all certificates are valid: a node
//! with its clock years off joins and works as any other. Sessions are never
//! resumed, so each connection proves its identity anew.
//!
//! A certificate is not revoked when its member leaves. Who accepts a
//! connection compares [`member_id`] with the members of the document, and
//! [`fingerprint`] with the one recorded there if numbers are given out again.

mod authority;
mod identity;
mod tls;
mod verify;

pub use authority::ClusterCa;
pub use identity::{Identity, Member};
pub use tls::{ClientAuth, client_config, join_config, server_config, server_config_for_many};

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::ClusterId;

/// What all names in certificates end with; `.internal` is never a public name.
const NAME_SUFFIX: &str = ".hotpair.internal";

/// A certificate or key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The certificate library refused.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The TLS library refused.
    #[error("cannot use the certificate for TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The PEM text does not hold what it should.
    #[error("no {what} in the PEM text, restore the file from a backup or join again")]
    Pem {
        /// What was looked for.
        what: &'static str,
    },
    /// Not a certificate that hotpair made.
    #[error("the certificate was not made by hotpair, check which file is configured")]
    Foreign,
    /// Key and certificate do not belong together.
    #[error("the private key does not fit the certificate, restore both from the same backup")]
    KeyMismatch,
    /// The name of a cluster or member cannot be written into a certificate.
    #[error("the name {name:?} is not 1 to 64 bytes without control characters, choose another")]
    Name {
        /// The refused name.
        name: String,
    },
    /// An extra name would pose as a member.
    #[error("the extra name {name:?} ends with {NAME_SUFFIX}, which is kept for members")]
    ReservedName {
        /// The refused name.
        name: String,
    },
    /// The random source failed.
    #[error("the system's random source failed")]
    Random,
    /// A TLS server without any identity.
    #[error("no certificate to serve with, give at least one identity")]
    NoIdentity,
}

/// SHA-256 of a certificate in DER, as tokens and the document name it.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
    bytes
}

/// Who a certificate names; believe it only when TLS has checked the chain.
///
/// `None` unless it names exactly one member.
pub fn member(certificate: &CertificateDer<'_>) -> Option<Member> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut members = parsed.valid_dns_names().filter_map(Member::from_name);
    let member = members.next()?;
    members.next().is_none().then_some(member)
}

/// The member number a certificate names; see [`member`].
pub fn member_id(certificate: &CertificateDer<'_>) -> Option<u8> {
    Some(member(certificate)?.id)
}

/// The name to connect to a member by, also sent as SNI.
///
/// # Errors
/// Never in practice: the name is always a valid DNS name.
pub fn server_name(member: Member) -> Result<ServerName<'static>, PkiError> {
    ServerName::try_from(member.name()).map_err(|_| PkiError::Foreign)
}

/// The cluster in `<label>.c<cluster id>.hotpair.internal`, and the label.
fn split_name(name: &str) -> Option<(&str, ClusterId)> {
    let (label, cluster) = name.strip_suffix(NAME_SUFFIX)?.split_once('.')?;
    Some((label, cluster.strip_prefix('c')?.parse().ok()?))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
