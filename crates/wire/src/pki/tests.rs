use super::*;
use crate::token::{Kind, Token};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

/// Passes bytes between both ends until neither has more, at most 20 rounds.
fn handshake(
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let mut client = ClientConnection::new(client, name)?;
    let mut server = ServerConnection::new(server)?;
    for _ in 0..20 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn ca() -> ClusterCa {
    ClusterCa::generate("office").unwrap()
}

fn node(ca: &ClusterCa, id: u8) -> Identity {
    ca.issue(&format!("node{id}"), id, &[]).unwrap()
}

fn token(ca: &ClusterCa) -> Token {
    let addresses = ["192.0.2.1:14339".parse().unwrap()];
    let rng = SystemRandom::new();
    Token::generate(
        &rng,
        Kind::Node,
        ca.cluster(),
        &ca.fingerprint(),
        &addresses,
    )
    .unwrap()
}

fn connect(
    from: &Identity,
    expected: u8,
    to: &Identity,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = server_name(Member {
        cluster: from.member().cluster,
        id: expected,
    });
    handshake(
        client_config(from, expected).unwrap(),
        name.unwrap(),
        server_config(to, ClientAuth::Required).unwrap(),
    )
}

#[test]
fn members_of_one_cluster_connect_and_know_each_other() {
    let ca = ca();
    let (client, server) = connect(&node(&ca, 1), 2, &node(&ca, 2)).unwrap();
    let peer = |certs: Option<&[CertificateDer<'_>]>| member_id(&certs.unwrap()[0]);
    assert_eq!(peer(client.peer_certificates()), Some(2));
    assert_eq!(peer(server.peer_certificates()), Some(1));
    let version = Some(rustls::ProtocolVersion::TLSv1_3);
    assert_eq!(client.protocol_version(), version);
}

#[test]
fn refuses_another_member_than_expected() {
    let ca = ca();
    assert!(connect(&node(&ca, 1), 2, &node(&ca, 3)).is_err());
}

#[test]
fn refuses_members_of_another_cluster_in_both_directions() {
    let (here, there) = (ca(), ca());
    assert!(connect(&node(&here, 1), 2, &node(&there, 2)).is_err());
    let stranger = node(&there, 1);
    let to = node(&here, 2);
    let client = join_config(&token(&here)).unwrap();
    let mut with_certificate = ClientConfig::clone(&client);
    with_certificate.client_auth_cert_resolver = client_config(&stranger, 2)
        .unwrap()
        .client_auth_cert_resolver
        .clone();
    let server = server_config(&to, ClientAuth::Optional).unwrap();
    let name = server_name(to.member()).unwrap();
    assert!(handshake(with_certificate.into(), name, server).is_err());
}

#[test]
fn refuses_members_of_a_ca_that_copies_name_and_cluster_id() {
    let true_ca = ca();
    let copy = ClusterCa::generate_for(true_ca.name(), true_ca.cluster()).unwrap();
    let (honest, impostor) = (node(&true_ca, 1), node(&copy, 1));
    assert_eq!(honest.member(), impostor.member());
    assert!(connect(&node(&true_ca, 2), 1, &impostor).is_err());
    let members = verify::Members::of([&honest], ClientAuth::Optional).unwrap();
    let verify = |client: &Identity| {
        rustls::server::danger::ClientCertVerifier::verify_client_cert(
            &members,
            client.certificate(),
            std::slice::from_ref(client.ca()),
            rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::ZERO),
        )
    };
    assert!(verify(&honest).is_ok());
    assert!(verify(&impostor).is_err());
}

#[test]
fn refuses_a_client_without_certificate_unless_it_may_join() {
    let ca = ca();
    let to = node(&ca, 2);
    let attempt = |auth| {
        let token = token(&ca);
        handshake(
            join_config(&token).unwrap(),
            token.server_name().unwrap(),
            server_config(&to, auth).unwrap(),
        )
    };
    assert!(attempt(ClientAuth::Required).is_err());
    let (client, server) = attempt(ClientAuth::Optional).unwrap();
    assert!(server.peer_certificates().is_none());
    let shown = client.peer_certificates().unwrap();
    assert_eq!(fingerprint(&shown[1]), ca.fingerprint());
}

#[test]
fn a_token_refuses_a_server_under_another_ca() {
    let trusted = ca();
    let token = token(&trusted);
    let own = ClusterCa::generate_for("office", trusted.cluster()).unwrap();
    let impostor = node(&own, 1);
    let server = server_config(&impostor, ClientAuth::Optional).unwrap();
    let name = token.server_name().unwrap();
    assert!(handshake(join_config(&token).unwrap(), name, server).is_err());
}

/// A server that shows the true CA's certificate behind a leaf from its own.
#[test]
fn a_token_refuses_a_borrowed_ca_certificate() {
    let trusted = ca();
    let own = ClusterCa::generate_for("office", trusted.cluster()).unwrap();
    let impostor = node(&own, 1);
    let verifier = verify::PinnedCa {
        cluster: trusted.cluster(),
        pin: *token(&trusted).ca_pin(),
    };
    let verify = |leaf: &Identity| {
        rustls::client::danger::ServerCertVerifier::verify_server_cert(
            &verifier,
            leaf.certificate(),
            std::slice::from_ref(trusted.certificate()),
            &server_name(leaf.member()).unwrap(),
            &[],
            rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::ZERO),
        )
    };
    assert!(verify(&node(&trusted, 1)).is_ok());
    assert!(verify(&impostor).is_err());
}

#[test]
fn a_clock_years_off_changes_nothing() {
    let ca = ca();
    let (from, to) = (node(&ca, 1), node(&ca, 2));
    for seconds in [0, 1 << 31, 1 << 40] {
        let off =
            rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let verifier = verify::ExpectedServer {
            chain: verify::chain(ca.certificate()).unwrap(),
            expected: to.member(),
        };
        let server = rustls::client::danger::ServerCertVerifier::verify_server_cert(
            &verifier,
            to.certificate(),
            &[],
            &server_name(to.member()).unwrap(),
            &[],
            off,
        );
        assert!(server.is_ok());
        let members = verify::Members::of([&to], ClientAuth::Required).unwrap();
        let client = rustls::server::danger::ClientCertVerifier::verify_client_cert(
            &members,
            from.certificate(),
            &[],
            off,
        );
        assert!(client.is_ok());
    }
}

#[test]
fn a_witness_serves_many_clusters_at_one_port() {
    let (one, two, third) = (ca(), ca(), ca());
    let server =
        server_config_for_many(&[node(&one, 9), node(&two, 7)], ClientAuth::Required).unwrap();
    let attempt = |ca: &ClusterCa, witness| {
        let from = node(ca, 1);
        let name = server_name(Member {
            cluster: ca.cluster(),
            id: witness,
        });
        let client = client_config(&from, witness).unwrap();
        let (_, server) = handshake(client, name.unwrap(), Arc::clone(&server))?;
        Ok::<_, rustls::Error>(member(&server.peer_certificates().unwrap()[0]).unwrap())
    };
    assert_eq!(attempt(&one, 9).unwrap(), node(&one, 1).member());
    assert_eq!(attempt(&two, 7).unwrap(), node(&two, 1).member());
    assert!(attempt(&third, 9).is_err());
}

/// A cluster's CA names a member of another cluster in a certificate.
#[test]
fn a_ca_cannot_speak_for_another_cluster() {
    let (victim, attacker) = (ca(), ca());
    let names = vec![node(&victim, 1).member().name()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let mut ca_params = rcgen::CertificateParams::default();
    ca_params.distinguished_name = rcgen::DistinguishedName::new();
    ca_params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "office");
    let ca_key = rcgen::KeyPair::try_from(attacker.key_der()).unwrap();
    let issuer = rcgen::Issuer::from_params(&ca_params, &ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let forged = params.signed_by(&key, &issuer).unwrap();
    assert_eq!(member(forged.der()), Some(node(&victim, 1).member()));
    let both = [node(&victim, 9), node(&attacker, 9)];
    let members = verify::Members::of(&both, ClientAuth::Required).unwrap();
    let result = rustls::server::danger::ClientCertVerifier::verify_client_cert(
        &members,
        forged.der(),
        &[],
        rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::ZERO),
    );
    assert!(result.is_err());
}

#[test]
fn a_ca_read_back_from_pem_issues_for_the_same_cluster() {
    let first = ClusterCa::generate("Büro 中文").unwrap();
    let again = ClusterCa::from_pem(&first.certificate_pem(), &first.key_pem()).unwrap();
    assert_eq!(again.name(), "Büro 中文");
    assert_eq!(again.cluster(), first.cluster());
    assert_eq!(again.fingerprint(), first.fingerprint());
    assert!(connect(&node(&first, 1), 2, &node(&again, 2)).is_ok());
}

#[test]
fn refuses_the_key_of_another_ca() {
    let (one, other) = (ca(), ca());
    let result = ClusterCa::from_pem(&one.certificate_pem(), &other.key_pem());
    assert!(matches!(result, Err(PkiError::KeyMismatch)));
    let (one, other) = (node(&one, 1), node(&one, 2));
    let result = Identity::from_pem(&one.certificates_pem(), &other.key_pem());
    assert!(matches!(result, Err(PkiError::KeyMismatch)));
}

#[test]
fn an_identity_survives_pem() {
    let identity = node(&ca(), 200);
    let again = Identity::from_pem(&identity.certificates_pem(), &identity.key_pem()).unwrap();
    assert_eq!(again.member(), identity.member());
    assert_eq!(again.certificate(), identity.certificate());
    assert_eq!(again.key_der(), identity.key_der());
}

#[test]
fn refuses_names_that_pose_as_members_or_do_not_fit() {
    let ca = ca();
    let issue = |name: &str, extra: &str| ca.issue(name, 1, &[extra.to_owned()]).map(drop);
    let posing = format!("M2.c{}.HOTPAIR.internal.", ca.cluster());
    assert!(matches!(
        issue("a", &posing),
        Err(PkiError::ReservedName { .. })
    ));
    assert!(matches!(issue("", "x.example"), Err(PkiError::Name { .. })));
    assert!(matches!(
        issue(&"x".repeat(65), "x.example"),
        Err(PkiError::Name { .. })
    ));
    assert!(issue(&"x".repeat(64), "192.0.2.7").is_ok());
    let longest = ClusterCa::generate(&"x".repeat(64)).unwrap();
    assert!(ClusterCa::from_pem(&longest.certificate_pem(), &longest.key_pem()).is_ok());
}

#[test]
fn reads_only_the_one_way_to_write_a_member_name() {
    let name = Member {
        cluster: ClusterId(0xab),
        id: 7,
    }
    .name();
    assert_eq!(name, "m7.c00000000000000ab.hotpair.internal");
    assert_eq!(Member::from_name(&name).map(|m| m.id), Some(7));
    for other in [
        "m07.c00000000000000ab.hotpair.internal",
        "m+7.c00000000000000ab.hotpair.internal",
        "m256.c00000000000000ab.hotpair.internal",
        "m7.c00000000000000AB.hotpair.internal",
        "m7.cab.hotpair.internal",
        "x.m7.c00000000000000ab.hotpair.internal",
        "m7.c00000000000000ab.hotpair.example",
        "",
    ] {
        assert_eq!(Member::from_name(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_no_certificate(bytes in any::<Vec<u8>>(), text in any::<String>()) {
        prop_assert_eq!(member_id(&CertificateDer::from(bytes.clone())), None);
        prop_assert!(ClusterCa::from_der(&bytes, &bytes).is_err());
        prop_assert!(ClusterCa::from_pem(&text, &text).is_err());
        prop_assert!(Identity::from_pem(&text, &text).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_certificate_is_refused(at in any::<prop::sample::Index>(), bit in 0..8) {
        let identity = node(&ca(), 1);
        let mut bytes = identity.certificate().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let damaged = CertificateDer::from(bytes);
        let chain = verify::chain(identity.ca()).unwrap();
        prop_assert!(chain.check(&damaged).is_err());
    }
}
