//! Checks of certificate chains as of a fixed time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::{ClientAuth, Identity, Member, PkiError, fingerprint, member, provider, server_name};
use crate::ClusterId;

/// 2070-01-01, the middle of the validity of all certificates.
const AS_OF: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(3_155_760_000));

/// Tells TLS that it is always [`AS_OF`].
#[derive(Debug)]
pub(super) struct FixedTime;

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(AS_OF)
    }
}

/// One CA to check members against.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    server: Arc<WebPkiServerVerifier>,
    client: Arc<dyn ClientCertVerifier>,
}

/// The checks against the CA certificate `ca`.
pub(super) fn chain(ca: &CertificateDer<'_>) -> Result<Chain, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone().into_owned())?;
    let roots = Arc::new(roots);
    let unusable = |_| PkiError::Foreign;
    Ok(Chain {
        server: WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(unusable)?,
        client: WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(unusable)?,
    })
}

impl Chain {
    /// The member in a certificate that this CA has issued.
    pub(super) fn check(&self, certificate: &CertificateDer<'_>) -> Result<Member, Error> {
        let member = member(certificate).ok_or_else(foreign)?;
        let name = server_name(member).map_err(|_| foreign())?;
        self.server
            .verify_server_cert(certificate, &[], &name, &[], AS_OF)?;
        self.client.verify_client_cert(certificate, &[], AS_OF)?;
        Ok(member)
    }
}

fn foreign() -> Error {
    CertificateError::ApplicationVerificationFailure.into()
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// Implements the signature checks of a handshake, which need no trust anchor.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &algorithms())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            algorithms().supported_schemes()
        }
    };
}

/// Accepts one member of one cluster as server.
#[derive(Debug)]
pub(super) struct ExpectedServer {
    pub(super) chain: Chain,
    pub(super) expected: Member,
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.chain.check(end_entity)? != self.expected {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

/// Accepts any member whose CA the server shows and whose fingerprint is known.
#[derive(Debug)]
pub(super) struct PinnedCa {
    pub(super) cluster: ClusterId,
    /// First bytes of the CA's fingerprint.
    pub(super) pin: [u8; 16],
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = intermediates
            .iter()
            .find(|ca| fingerprint(ca).starts_with(&self.pin))
            .ok_or(CertificateError::UnknownIssuer)?;
        let chain = chain(ca).map_err(|_| foreign())?;
        if chain.check(end_entity)?.cluster != self.cluster {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

/// Accepts the members of some clusters as clients, each by its own CA.
#[derive(Debug)]
pub(super) struct Members {
    chains: BTreeMap<ClusterId, Chain>,
    hints: Vec<DistinguishedName>,
    auth: ClientAuth,
}

impl Members {
    pub(super) fn of<'a>(
        identities: impl IntoIterator<Item = &'a Identity>,
        auth: ClientAuth,
    ) -> Result<Self, PkiError> {
        let mut chains = BTreeMap::new();
        for identity in identities {
            chains.insert(identity.member().cluster, chain(identity.ca())?);
        }
        Ok(Self {
            chains,
            hints: Vec::new(),
            auth,
        })
    }
}

impl ClientCertVerifier for Members {
    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let claimed = member(end_entity).ok_or_else(foreign)?;
        let chain = self
            .chains
            .get(&claimed.cluster)
            .ok_or(CertificateError::UnknownIssuer)?;
        chain.check(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures!();
}
