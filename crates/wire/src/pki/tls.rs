//! TLS settings of the connections between members.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, WantsVerifier};

use super::verify::{ExpectedServer, FixedTime, Members, PinnedCa, chain};
use super::{Identity, Member, PkiError, provider, split_name};
use crate::ClusterId;
use crate::token::Token;

/// Whether a server talks to clients without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No: every client is a member.
    Required,
    /// Yes, as those that join have none yet; a certificate that is shown must be valid.
    Optional,
}

/// The settings to serve one cluster as `identity`.
///
/// # Errors
/// When the identity cannot be used for TLS.
pub fn server_config(identity: &Identity, auth: ClientAuth) -> Result<Arc<ServerConfig>, PkiError> {
    server_config_for_many(std::slice::from_ref(identity), auth)
}

/// The settings to serve many clusters at one port, as a witness does.
///
/// The client names the cluster by SNI and gets that cluster's certificate; it
/// may be a member of any of them, so go by [`member`](super::member) of its
/// certificate. With a single identity the name does not matter.
///
/// # Errors
/// When there is no identity, or one cannot be used for TLS.
pub fn server_config_for_many(
    identities: &[Identity],
    auth: ClientAuth,
) -> Result<Arc<ServerConfig>, PkiError> {
    if identities.is_empty() {
        return Err(PkiError::NoIdentity);
    }
    let by_cluster = identities
        .iter()
        .map(|identity| (identity.member().cluster, identity.certified()))
        .collect();
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(FixedTime))
        .with_protocol_versions(&[&TLS13])?;
    let mut config = builder
        .with_client_cert_verifier(Arc::new(Members::of(identities, auth)?))
        .with_cert_resolver(Arc::new(ByCluster(by_cluster)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The settings to connect as `identity` to member `expected` of its cluster.
///
/// Connect with the name [`server_name`](super::server_name) of that member.
///
/// # Errors
/// When the identity cannot be used for TLS.
pub fn client_config(identity: &Identity, expected: u8) -> Result<Arc<ClientConfig>, PkiError> {
    let cluster = identity.member().cluster;
    let verifier = ExpectedServer {
        chain: chain(identity.ca())?,
        expected: Member {
            cluster,
            id: expected,
        },
    };
    let certificates = identity.certified().cert.clone();
    let mut config = verified_by(Arc::new(verifier))?
        .with_client_auth_cert(certificates, identity.private_key())?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The settings to connect with a token, without a certificate of one's own.
///
/// Accepts any member of the token's cluster whose CA has the fingerprint in
/// the token. Connect with the name [`Token::server_name`].
///
/// # Errors
/// When the TLS library refuses its own settings.
pub fn join_config(token: &Token) -> Result<Arc<ClientConfig>, PkiError> {
    let verifier = PinnedCa {
        cluster: token.cluster(),
        pin: *token.ca_pin(),
    };
    let mut config = verified_by(Arc::new(verifier))?.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

type WantsClientCert = ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn verified_by(verifier: Arc<dyn ServerCertVerifier>) -> Result<WantsClientCert, PkiError> {
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
        ClientConfig::builder_with_details(provider(), Arc::new(FixedTime))
            .with_protocol_versions(&[&TLS13])?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

/// Picks the certificate by the cluster in the name the client asks for.
#[derive(Debug)]
struct ByCluster(BTreeMap<ClusterId, Arc<CertifiedKey>>);

impl ResolvesServerCert for ByCluster {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = client_hello.server_name().and_then(split_name);
        match asked {
            Some((_, cluster)) if self.0.len() > 1 => self.0.get(&cluster).cloned(),
            _ if self.0.len() == 1 => self.0.values().next().cloned(),
            _ => None,
        }
    }
}
