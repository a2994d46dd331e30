//! Who a member is, and what it proves it with.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::{NAME_SUFFIX, PkiError, fingerprint, member, provider, split_name, verify};
use crate::ClusterId;

/// A member of a cluster: a node or a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member's number in it.
    pub id: u8,
}

impl Member {
    /// The DNS name in the member's certificate.
    pub fn name(&self) -> String {
        format!("m{}.c{}{NAME_SUFFIX}", self.id, self.cluster)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        let (label, cluster) = split_name(name)?;
        let id = label.strip_prefix('m')?.parse().ok()?;
        let member = Self { cluster, id };
        (member.name() == name).then_some(member)
    }
}

/// A member's certificate with its key and the CA certificate.
#[derive(Clone)]
pub struct Identity {
    member: Member,
    ca: CertificateDer<'static>,
    key: Arc<PrivatePkcs8KeyDer<'static>>,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// The identity in these parts, all DER, the key as PKCS #8.
    ///
    /// # Errors
    /// When they do not belong together.
    pub fn from_der(
        certificate: CertificateDer<'static>,
        ca: CertificateDer<'static>,
        key: &[u8],
    ) -> Result<Self, PkiError> {
        let member = member(&certificate).ok_or(PkiError::Foreign)?;
        verify::chain(&ca)?.check(&certificate)?;
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let signer = provider()
            .key_provider
            .load_private_key(PrivateKeyDer::Pkcs8(key.clone_key()))?;
        let certified = CertifiedKey::new(vec![certificate, ca.clone()], signer);
        certified.keys_match().map_err(|_| PkiError::KeyMismatch)?;
        Ok(Self {
            member,
            ca,
            key: Arc::new(key),
            certified: Arc::new(certified),
        })
    }

    /// The identity in a PEM text of the member's certificate followed by the
    /// CA's, and a PEM text of the key (PKCS #8).
    ///
    /// # Errors
    /// When something is missing or the parts do not belong together.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, PkiError> {
        let what = "certificate of a member followed by that of its CA";
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificates.as_bytes()).collect();
        let Ok([certificate, ca]) = <[_; 2]>::try_from(chain.unwrap_or_default()) else {
            return Err(PkiError::Pem { what });
        };
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|_| PkiError::Pem {
                what: "private key (PKCS #8)",
            })?;
        Self::from_der(certificate, ca, key.secret_pkcs8_der())
    }

    /// Who this is.
    pub fn member(&self) -> Member {
        self.member
    }

    /// The member's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certified.cert[0]
    }

    /// The certificate of the cluster CA.
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// SHA-256 of the CA certificate.
    pub fn ca_fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.ca)
    }

    /// Both certificates as [`from_pem`](Self::from_pem) takes them.
    pub fn certificates_pem(&self) -> String {
        let own = to_pem("CERTIFICATE", self.certificate());
        own + &to_pem("CERTIFICATE", &self.ca)
    }

    /// The private key, PKCS #8 in PEM: keep it readable by root only.
    pub fn key_pem(&self) -> String {
        to_pem("PRIVATE KEY", self.key.secret_pkcs8_der())
    }

    /// The private key, PKCS #8 in DER: keep it readable by root only.
    pub fn key_der(&self) -> &[u8] {
        self.key.secret_pkcs8_der()
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    pub(super) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.member.name())
    }
}

/// RFC 7468: base64 in lines of 64 characters between two markers.
pub(super) fn to_pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for bytes in line.chunks(3) {
            let group = (0..3).fold(0, |group, i| {
                group << 8 | u32::from(bytes.get(i).copied().unwrap_or(0))
            });
            for i in 0..4 {
                let index = (group >> (18 - 6 * i) & 63) as usize;
                let used = i <= bytes.len();
                text.push(if used {
                    char::from(ALPHABET[index])
                } else {
                    '='
                });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
