//! How a cluster begins (`init`) and grows (`join`): keys, numbers, addresses, the first document.
//!
//! A joining member knows the fingerprint of the cluster's authority from its token, so it talks to
//! the right cluster; the token's secret, sent inside that connection, is good for one member. It
//! first looks (which links are there?), then joins with an address for each link.

use crate::paths::Paths;
use crate::store::{self, Keys, StoreError};
use crate::transport::{FRAME_LIMIT, JOIN, JOIN_REPLY, read_frame};
use hotpair_core::config::{Cluster, Node, Witness};
use hotpair_core::document::Document;
use hotpair_core::ids::{ClusterId, MemberId};
use hotpair_core::node::Durable;
use hotpair_wire::codec;
use hotpair_wire::frame;
use hotpair_wire::pki::{self, ClusterCa, PkiError};
use hotpair_wire::seal::SealKey;
use hotpair_wire::token::{Ticket, Token, TokenError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The first witness's member number; nodes count from 1.
pub const FIRST_WITNESS: u8 = 200;
const LIMIT: Duration = Duration::from_secs(20);
const KEY_ID: u8 = 1;

/// From a machine that has a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    pub ticket: Ticket,
    pub step: JoinStep,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum JoinStep {
    /// What is there to join? Does not use the token up.
    Look,
    Node {
        name: String,
        description: String,
        addresses: BTreeMap<String, SocketAddr>,
        /// Name of a node that is down for good, whose place it takes.
        replaces: Option<String>,
    },
    Witness {
        name: String,
        addresses: Vec<SocketAddr>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum JoinReply {
    Cluster {
        name: String,
        links: Vec<LinkOffer>,
    },
    Welcome {
        keys: Box<Keys>,
        state: Box<Durable>,
    },
    Refused(String),
}

/// A link, and where its nodes are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkOffer {
    pub name: String,
    pub nodes: BTreeMap<String, SocketAddr>,
}

/// Why a member could not begin or join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("keys: {0}")]
    Keys(#[from] PkiError),
    #[error(
        "no node of the cluster could be reached at {addresses} ({last}): does its daemon run, and does a firewall let TCP port 14338 pass?"
    )]
    Unreachable { addresses: String, last: String },
    #[error("{0}")]
    Refused(String),
    #[error("the node at {0} closed the connection before it answered: look at its log")]
    Silent(SocketAddr),
    #[error(
        "this machine has no address in the network of link `{link}` (nodes there: {nodes}): give one with `--address {link}=IP`"
    )]
    NoAddress { link: String, nodes: String },
    #[error("the cluster has no link `{link}`; its links are: {links}")]
    NoSuchLink { link: String, links: String },
    #[error("no random numbers are to be had from the kernel")]
    Random,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Makes this machine the first node of a cluster. `config` has exactly one node, number 1.
///
/// # Errors
/// The machine belongs to a cluster already, or its files cannot be written.
pub fn init(paths: &Paths, mut config: Cluster) -> Result<Document, JoinError> {
    paths.make()?;
    let authority = ClusterCa::generate(&config.name)?;
    config.id = ClusterId(authority.cluster().0);
    let document = Document::first(config);
    let me = MemberId(1);
    let random = ring::rand::SystemRandom::new();
    let heartbeat_key = SealKey::generate(&random).map_err(|_| JoinError::Random)?;
    let keys = issue(&authority, &document, me, (KEY_ID, heartbeat_key), true)?;
    store::enrol(paths, &keys, &first_state(&document))?;
    Ok(document)
}

/// What a new member starts with: the document that names it, and no vote.
#[must_use]
pub fn first_state(document: &Document) -> Durable {
    Durable {
        term: document.version.term,
        vote: None,
        longest_lease: document.config.timing.lease,
        document: Some(Arc::new(document.clone())),
        floors: BTreeMap::new(),
    }
}

/// Keys for `member` of the document.
///
/// # Errors
/// The authority's key is damaged.
pub fn issue(
    authority: &ClusterCa,
    document: &Document,
    member: MemberId,
    heartbeat: (u8, SealKey),
    with_authority: bool,
) -> Result<Keys, PkiError> {
    let name = document.config.name_of(member);
    let identity = authority.issue(&name, member.0, &[])?;
    Ok(Keys {
        member,
        certificates: identity.certificates_pem(),
        key: identity.key_pem(),
        authority: with_authority.then(|| (authority.certificate_pem(), authority.key_pem())),
        heartbeat_key_id: heartbeat.0,
        heartbeat_key: heartbeat.1,
    })
}

/// What a token's bearer may see before it joins.
#[must_use]
pub fn offer(config: &Cluster) -> JoinReply {
    let links = config.links.iter().map(|link| LinkOffer {
        name: link.name.clone(),
        nodes: link
            .addresses
            .iter()
            .map(|(&node, &address)| (config.name_of(node), address))
            .collect(),
    });
    JoinReply::Cluster {
        name: config.name.clone(),
        links: links.collect(),
    }
}

fn next_number(used: &BTreeSet<MemberId>, range: RangeInclusive<u8>) -> Option<MemberId> {
    let mut taken = used.range(MemberId(*range.start())..=MemberId(*range.end()));
    let next = match taken.next_back() {
        Some(last) => last.0.checked_add(1)?,
        None => *range.start(),
    };
    range.contains(&next).then_some(MemberId(next))
}

/// The configuration with the new member, and its number, which no member ever had.
///
/// # Errors
/// The text says why it cannot join like this, and what to do.
pub fn admit(document: &Document, step: &JoinStep) -> Result<(Cluster, MemberId), String> {
    let Document {
        config, numbers, ..
    } = document;
    let mut next = config.clone();
    match step {
        JoinStep::Look => Err("nothing was asked for".into()),
        JoinStep::Node {
            name,
            description,
            addresses,
            replaces,
        } => {
            let old = match replaces {
                None => None,
                Some(old) => Some(config.node_named(old).ok_or_else(|| {
                    format!("there is no node `{old}` whose place could be taken")
                })?),
            };
            let same = config.node_named(name);
            if same.is_some() && same != old {
                return Err(format!(
                    "a node named `{name}` is in the cluster already: choose another with `--name`, or take its place with `--replace {name}`"
                ));
            }
            let id = next_number(numbers, 1..=FIRST_WITNESS - 1)
                .ok_or("the cluster has used up its node numbers")?;
            let node = Node {
                name: name.clone(),
                description: description.clone(),
            };
            match old {
                Some(old) => next.replace_node(old, id, node),
                None => {
                    next.nodes.insert(id, node);
                }
            }
            for link in &mut next.links {
                let address = addresses
                    .get(&link.name)
                    .ok_or_else(|| format!("no address for link `{}`", link.name))?;
                if let Some((taken, _)) = link
                    .addresses
                    .iter()
                    .find(|(_, used)| used.ip() == address.ip())
                {
                    return Err(format!(
                        "{} on link `{}` belongs to {}",
                        address.ip(),
                        link.name,
                        config.name_of(*taken)
                    ));
                }
                link.addresses.insert(id, *address);
            }
            Ok((next, id))
        }
        JoinStep::Witness { name, addresses } => {
            if let Some(old) = &config.witness {
                return Err(format!(
                    "the cluster has a witness already, {}: take it out of the configuration first",
                    old.name
                ));
            }
            let id = next_number(numbers, FIRST_WITNESS..=u8::MAX)
                .ok_or("the cluster has used up its witness numbers")?;
            next.witness = Some(Witness {
                id,
                name: name.clone(),
                addresses: addresses.clone(),
                disk: None,
            });
            Ok((next, id))
        }
    }
}

/// A connection that a token opened.
pub struct Joining {
    token: Token,
}

impl Joining {
    /// # Errors
    /// The token is mistyped or cut off.
    pub fn with(token: &str) -> Result<Self, JoinError> {
        Ok(Self {
            token: Token::parse(token)?,
        })
    }

    /// Is it a token for a witness?
    #[must_use]
    pub fn is_for_witness(&self) -> bool {
        self.token.kind() == hotpair_wire::token::Kind::Witness
    }

    /// Asks a node of the cluster, trying each address of the token.
    ///
    /// # Errors
    /// No node could be reached, or it refused.
    pub async fn ask(&self, step: JoinStep) -> Result<JoinReply, JoinError> {
        let mut last = String::new();
        for &address in self.token.addresses() {
            match tokio::time::timeout(LIMIT, self.ask_at(address, step.clone())).await {
                Ok(Ok(JoinReply::Refused(text))) => return Err(JoinError::Refused(text)),
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "no answer within 20 s".into(),
            }
        }
        let addresses = self
            .token
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        Err(JoinError::Unreachable { addresses, last })
    }

    async fn ask_at(&self, address: SocketAddr, step: JoinStep) -> Result<JoinReply, JoinError> {
        let connector = TlsConnector::from(pki::join_config(&self.token)?);
        let stream = tokio::time::timeout(Duration::from_secs(3), TcpStream::connect(address))
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let mut stream = connector.connect(self.token.server_name()?, stream).await?;
        let request = JoinRequest {
            ticket: self.token.ticket(),
            step,
        };
        let bytes = frame::encode(JOIN, &codec::encode(&request), FRAME_LIMIT)
            .map_err(std::io::Error::other)?;
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        let answer = read_frame(&mut stream)
            .await
            .filter(|frame| frame.kind == JOIN_REPLY);
        let answer = answer.ok_or(JoinError::Silent(address))?;
        codec::decode(&answer.payload).map_err(|_| JoinError::Silent(address))
    }
}

/// Joins this machine to the token's cluster as a node.
///
/// # Errors
/// The machine is a member already, no node answers, a link has no address here, or the cluster
/// refuses; nothing is left behind then.
pub async fn join_node(
    paths: &Paths,
    token: &str,
    name: &str,
    given: &BTreeMap<String, SocketAddr>,
    replaces: Option<&str>,
) -> Result<String, JoinError> {
    if store::enrolled(paths) {
        return Err(StoreError::Joined(paths.lib.join("keys")).into());
    }
    paths.make()?;
    let joining = Joining::with(token)?;
    let JoinReply::Cluster {
        name: cluster,
        links,
    } = joining.ask(JoinStep::Look).await?
    else {
        return Err(JoinError::Refused(
            "the cluster answered something else than was asked".into(),
        ));
    };
    let addresses = pair_links(&links, given, &own_addresses()?)?;
    let step = JoinStep::Node {
        name: name.to_owned(),
        description: String::new(),
        addresses,
        replaces: replaces.map(str::to_owned),
    };
    enrol(paths, joining.ask(step).await?)?;
    Ok(cluster)
}

/// Writes what a welcome brought.
///
/// # Errors
/// The files cannot be written.
pub fn enrol(paths: &Paths, reply: JoinReply) -> Result<(), JoinError> {
    let JoinReply::Welcome { keys, state } = reply else {
        return Err(JoinError::Refused(
            "the cluster answered something else than was asked".into(),
        ));
    };
    Ok(store::enrol(paths, &keys, &state)?)
}

fn own_addresses() -> Result<Vec<(IpAddr, u8)>, JoinError> {
    let mut netlink = hotpair_host::net::netlink::Netlink::open().map_err(std::io::Error::other)?;
    let found = netlink.addresses().map_err(std::io::Error::other)?;
    Ok(found
        .into_iter()
        .filter(|a| !a.address.is_loopback())
        .map(|a| (a.address, a.prefix))
        .collect())
}

/// An address of this machine for every link: the given one, or the one in the same network.
fn pair_links(
    links: &[LinkOffer],
    given: &BTreeMap<String, SocketAddr>,
    own: &[(IpAddr, u8)],
) -> Result<BTreeMap<String, SocketAddr>, JoinError> {
    if let Some(link) = given
        .keys()
        .find(|name| !links.iter().any(|link| link.name == **name))
    {
        let links = links
            .iter()
            .map(|link| link.name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        return Err(JoinError::NoSuchLink {
            link: link.clone(),
            links,
        });
    }
    let mut paired = BTreeMap::new();
    for link in links {
        let found = given.get(&link.name).copied().or_else(|| {
            let peer = link.nodes.values().next()?;
            let near = own
                .iter()
                .find(|(address, prefix)| same_network(*address, peer.ip(), *prefix))?;
            Some(SocketAddr::new(near.0, peer.port()))
        });
        let nodes = || {
            link.nodes
                .iter()
                .map(|(name, at)| format!("{name} {}", at.ip()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let address = found.ok_or_else(|| JoinError::NoAddress {
            link: link.name.clone(),
            nodes: nodes(),
        })?;
        paired.insert(link.name.clone(), address);
    }
    Ok(paired)
}

fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let same_family = a.is_ipv4() == b.is_ipv4();
    same_family && (prefix == 0 || (bits(a) ^ bits(b)).leading_zeros() >= u32::from(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str, peer: &str) -> LinkOffer {
        let peer = peer.parse().expect("an address");
        LinkOffer {
            name: name.into(),
            nodes: BTreeMap::from([("node1".to_owned(), peer)]),
        }
    }

    fn cluster() -> Document {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let node = |name: &str| Node {
            name: name.into(),
            description: String::new(),
        };
        Document::first(Cluster {
            name: "shop".into(),
            id: ClusterId(7),
            timing: hotpair_core::config::Timing::standard(),
            nodes: BTreeMap::from([(MemberId(1), node("node1")), (MemberId(2), node("node2"))]),
            witness: None,
            without_witness: hotpair_core::config::WithoutWitness::Wait,
            links: vec![hotpair_core::config::Link {
                name: "lan".into(),
                addresses: BTreeMap::from([
                    (MemberId(1), address("10.1.1.11:14338")),
                    (MemberId(2), address("10.1.1.12:14338")),
                ]),
            }],
            groups: BTreeMap::new(),
            fencing: Default::default(),
            flapping: hotpair_core::config::Flapping::default(),
        })
    }

    fn joins(name: &str, at: &str, replaces: Option<&str>) -> JoinStep {
        JoinStep::Node {
            name: name.into(),
            description: String::new(),
            addresses: BTreeMap::from([("lan".to_owned(), at.parse().expect("an address"))]),
            replaces: replaces.map(str::to_owned),
        }
    }

    #[test]
    fn a_machine_takes_a_place_with_its_name_and_address_but_a_number_of_its_own() {
        let document = cluster();
        let step = joins("node2", "10.1.1.12:14338", Some("node2"));
        let (next, id) = admit(&document, &step).expect("the place is free");
        assert_eq!(id, MemberId(3));
        assert_eq!(next.name_of(id), "node2");
        assert_eq!(next.nodes.len(), 2);
        assert!(next.links[0].addresses.contains_key(&id));
        assert!(!next.links[0].addresses.contains_key(&MemberId(2)));
    }

    #[test]
    fn numbers_and_names_of_others_are_not_given_again() {
        let mut document = cluster();
        let taken = joins("node1", "10.1.1.13:14338", None);
        assert!(admit(&document, &taken).is_err());
        let address = joins("node3", "10.1.1.11:14338", None);
        assert!(admit(&document, &address).is_err());
        let nobody = joins("node3", "10.1.1.13:14338", Some("node9"));
        assert!(admit(&document, &nobody).is_err());
        hotpair_core::plan::Change::Remove { node: MemberId(2) }.apply(&mut document);
        let fresh = joins("node3", "10.1.1.13:14338", None);
        assert_eq!(
            admit(&document, &fresh).expect("it may join").1,
            MemberId(3)
        );
    }

    #[test]
    fn pairs_each_link_with_the_own_address_in_its_network() {
        let links = [
            offer("lan", "10.1.1.11:14338"),
            offer("hb", "10.1.2.11:14339"),
        ];
        let own = [
            ("10.1.2.12".parse().expect("ip"), 24),
            ("10.1.1.12".parse().expect("ip"), 24),
        ];
        let paired = pair_links(&links, &BTreeMap::new(), &own).expect("both are near");
        assert_eq!(
            paired["lan"],
            "10.1.1.12:14338".parse().expect("an address")
        );
        assert_eq!(paired["hb"], "10.1.2.12:14339".parse().expect("an address"));
    }

    #[test]
    fn numbers_of_members_that_were_removed_are_not_given_again() {
        let numbers = |list: &[u8]| list.iter().copied().map(MemberId).collect::<BTreeSet<_>>();
        let node = |used: &[u8]| next_number(&numbers(used), 1..=FIRST_WITNESS - 1);
        let witness = |used: &[u8]| next_number(&numbers(used), FIRST_WITNESS..=u8::MAX);
        assert_eq!(node(&[]), Some(MemberId(1)));
        assert_eq!(node(&[1, 3, 200]), Some(MemberId(4)));
        assert_eq!(node(&[1, 199]), None);
        assert_eq!(witness(&[1, 2]), Some(MemberId(200)));
        assert_eq!(witness(&[1, 200]), Some(MemberId(201)));
        assert_eq!(witness(&[255]), None);
    }

    #[test]
    fn a_link_without_an_address_here_is_named() {
        let error = pair_links(&[offer("lan", "10.1.1.11:14338")], &BTreeMap::new(), &[])
            .expect_err("none is near");
        assert!(error.to_string().contains("--address lan=IP"), "{error}");
    }

    #[test]
    fn networks_are_compared_by_prefix_and_family() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("ip");
        assert!(same_network(ip("10.1.1.12"), ip("10.1.1.250"), 24));
        assert!(!same_network(ip("10.1.1.12"), ip("10.1.2.12"), 24));
        assert!(!same_network(ip("10.1.1.12"), ip("fd00::1"), 0));
        assert!(same_network(ip("fd00::1"), ip("fd00::2"), 64));
    }
}
