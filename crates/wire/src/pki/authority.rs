//! The certificate authority of one cluster.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use ring::rand::SystemRandom;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::{Identity, Member, NAME_SUFFIX, PkiError, fingerprint, split_name};
use crate::ClusterId;

/// Longest common name in a certificate (X.520, ub-common-name).
const MAX_NAME: usize = 64;

/// The private key and certificate that all identities of a cluster hang on.
pub struct ClusterCa {
    name: String,
    cluster: ClusterId,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl ClusterCa {
    /// Makes the CA of a new cluster, with a new random cluster id.
    ///
    /// # Errors
    /// When the name is not 1 to 64 bytes, or the random source fails.
    pub fn generate(cluster_name: &str) -> Result<Self, PkiError> {
        let cluster = ClusterId::generate(&SystemRandom::new()).map_err(|_| PkiError::Random)?;
        Self::generate_for(cluster_name, cluster)
    }

    pub(super) fn generate_for(cluster_name: &str, cluster: ClusterId) -> Result<Self, PkiError> {
        check_name(cluster_name)?;
        let key = KeyPair::generate()?;
        let certificate = ca_params(cluster_name, cluster)?.self_signed(&key)?;
        Ok(Self {
            name: cluster_name.to_owned(),
            cluster,
            certificate: certificate.der().clone(),
            key,
        })
    }

    /// The CA in certificate and key (PKCS #8), both DER.
    ///
    /// # Errors
    /// When they are not from [`generate`](Self::generate) or not of one CA.
    pub fn from_der(certificate: &[u8], key: &[u8]) -> Result<Self, PkiError> {
        let certificate = CertificateDer::from(certificate.to_vec());
        let key = KeyPair::try_from(key).map_err(|_| PkiError::Pem {
            what: "private key (PKCS #8)",
        })?;
        let parsed =
            webpki::EndEntityCert::try_from(&certificate).map_err(|_| PkiError::Foreign)?;
        let name = common_name(parsed.subject()).ok_or(PkiError::Foreign)?;
        let cluster = parsed
            .valid_dns_names()
            .filter_map(split_name)
            .find_map(|(label, cluster)| (label == "ca").then_some(cluster))
            .ok_or(PkiError::Foreign)?;
        if parsed.subject_public_key_info().as_ref() != key.subject_public_key_info() {
            return Err(PkiError::KeyMismatch);
        }
        Ok(Self {
            name: name.to_owned(),
            cluster,
            certificate: certificate.clone(),
            key,
        })
    }

    /// The CA in certificate and key, both PEM.
    ///
    /// # Errors
    /// As [`from_der`](Self::from_der).
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let certificate =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| PkiError::Pem {
                what: "certificate",
            })?;
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|_| PkiError::Pem {
                what: "private key (PKCS #8)",
            })?;
        Self::from_der(&certificate, key.secret_pkcs8_der())
    }

    /// Name of the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Id of the cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The CA certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The CA certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        super::identity::to_pem("CERTIFICATE", &self.certificate)
    }

    /// The private key, PKCS #8 in PEM: keep it readable by root only.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The private key, PKCS #8 in DER: keep it readable by root only.
    pub fn key_der(&self) -> &[u8] {
        self.key.serialized_der()
    }

    /// SHA-256 of the CA certificate, which tokens are bound to.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }

    /// Makes a key and a certificate for a member.
    ///
    /// `extra_names` (addresses or host names) are for other programs, such as a
    /// browser; hotpair itself goes by the member number alone.
    ///
    /// # Errors
    /// When a name cannot be used or the random source fails.
    pub fn issue(
        &self,
        member_name: &str,
        member_id: u8,
        extra_names: &[String],
    ) -> Result<Identity, PkiError> {
        check_name(member_name)?;
        let member = Member {
            cluster: self.cluster,
            id: member_id,
        };
        let mut params = member_params(member_name, member, extra_names)?;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let ca_params = ca_params(&self.name, self.cluster)?;
        let issuer = Issuer::from_params(&ca_params, &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        Identity::from_der(
            certificate.der().clone(),
            self.certificate.clone(),
            key.serialized_der(),
        )
    }
}

fn check_name(name: &str) -> Result<(), PkiError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let name = name.to_owned();
        return Err(PkiError::Name { name });
    }
    Ok(())
}

fn base_params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    Ok(params)
}

fn ca_params(name: &str, cluster: ClusterId) -> Result<CertificateParams, PkiError> {
    let mut params = base_params(name, vec![format!("ca.c{cluster}{NAME_SUFFIX}")])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn member_params(
    name: &str,
    member: Member,
    extra_names: &[String],
) -> Result<CertificateParams, PkiError> {
    let mut names = vec![member.name()];
    for name in extra_names {
        if name
            .to_ascii_lowercase()
            .trim_end_matches('.')
            .ends_with(NAME_SUFFIX)
        {
            let name = name.clone();
            return Err(PkiError::ReservedName { name });
        }
        names.push(name.clone());
    }
    let mut params = base_params(name, names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}

/// The common name of a subject that consists of it alone, as `ca_params` writes it.
///
/// SET { SEQUENCE { OID 2.5.4.3, UTF8String } }, all lengths below 128.
fn common_name(subject: &[u8]) -> Option<&str> {
    let set = short_value(0x31, subject)?;
    let sequence = short_value(0x30, set)?;
    let name = sequence.strip_prefix(&[0x06, 0x03, 0x55, 0x04, 0x03])?;
    std::str::from_utf8(short_value(0x0c, name)?).ok()
}

/// The value of a DER element that fills `bytes` and is shorter than 128 bytes.
fn short_value(tag: u8, bytes: &[u8]) -> Option<&[u8]> {
    let (head, value) = bytes.split_first_chunk::<2>()?;
    let fits = head[0] == tag && head[1] < 128 && usize::from(head[1]) == value.len();
    fits.then_some(value)
}
