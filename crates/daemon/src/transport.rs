//! Messages between members: mutual-TLS TCP over every link at once.
//!
//! Of two nodes the one with the smaller number connects, on every link; nodes connect to the
//! witness, never the other way. A message goes out over every connection to its receiver: all of
//! them may be lost or repeated, which [`hotpair_core::node::Node`] expects.

use hotpair_core::ids::MemberId;
use hotpair_core::message::Message;
use hotpair_wire::codec;
use hotpair_wire::frame::{self, Decoder};
use hotpair_wire::pki::{self, ClientAuth, Identity, PkiError};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::join::{JoinReply, JoinRequest};

/// Frame kinds on these connections.
pub const MESSAGE: u8 = 1;
pub const JOIN: u8 = 2;
pub const JOIN_REPLY: u8 = 3;
/// A call of the API, passed on from one node's daemon to another's, and its answer: [`Passed`].
pub const CALL: u8 = 4;
pub const CALL_REPLY: u8 = 5;

/// Longest frame: a document of 64 KiB and what goes with it, several times over.
pub const FRAME_LIMIT: usize = 512 * 1024;
/// Frames waiting on one connection; a connection that takes no more is passed over.
const WAITING: usize = 256;
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(200);
/// A connection whose peer does not acknowledge is given up after this.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// What comes in.
#[derive(Debug)]
pub enum Net {
    Message {
        cluster: u64,
        from: MemberId,
        message: Box<Message>,
    },
    Join {
        from: SocketAddr,
        request: Box<JoinRequest>,
        reply: oneshot::Sender<JoinReply>,
    },
    /// Another node's daemon passes a call on (`answer`: answers one), over every connection.
    Passed {
        cluster: u64,
        from: MemberId,
        answer: bool,
        passed: Passed,
    },
    /// For the log.
    Problem(String),
}

/// A call or an answer of the API on its way between two daemons.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Passed {
    /// The asking daemon's own number; the answer carries the same.
    pub number: u64,
    /// JSON of `hotpair_api::Call` or `hotpair_api::Reply`.
    pub text: String,
}

/// A member to connect to, over one way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub member: MemberId,
    pub address: SocketAddr,
    /// Bound to, so that the connection takes its link.
    pub local: Option<SocketAddr>,
}

type Key = (u64, MemberId);
type Outgoing = mpsc::Sender<Arc<[u8]>>;

#[derive(Default)]
struct Connections {
    next: u64,
    open: BTreeMap<Key, BTreeMap<u64, Outgoing>>,
}

/// All connections of a member.
#[derive(Clone)]
pub struct Transport {
    connections: Arc<Mutex<Connections>>,
    news: mpsc::UnboundedSender<Net>,
}

/// Connections one identity keeps up; they end when it is dropped.
pub struct Dialer {
    identity: Identity,
    transport: Transport,
    tasks: BTreeMap<Target, JoinHandle<()>>,
}

/// Sockets others connect to; they close when it is dropped.
pub struct Listeners {
    transport: Transport,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    tasks: BTreeMap<SocketAddr, JoinHandle<()>>,
}

impl Transport {
    #[must_use]
    pub fn new(news: mpsc::UnboundedSender<Net>) -> Self {
        Self {
            connections: Arc::default(),
            news,
        }
    }

    /// Sends over every open connection to the member; without one the message is lost.
    pub fn send(&self, cluster: u64, to: MemberId, message: &Message) {
        self.send_frame(cluster, to, MESSAGE, &codec::encode(message));
    }

    /// Passes a call, or the answer to one, on; without a connection it is lost.
    pub fn pass(&self, cluster: u64, to: MemberId, answer: bool, passed: &Passed) {
        let kind = if answer { CALL_REPLY } else { CALL };
        self.send_frame(cluster, to, kind, &codec::encode(passed));
    }

    /// Is there a connection to the member?
    pub fn reaches(&self, cluster: u64, to: MemberId) -> bool {
        let connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let open = connections.open.get(&(cluster, to));
        open.is_some_and(|open| !open.is_empty())
    }

    fn send_frame(&self, cluster: u64, to: MemberId, kind: u8, payload: &[u8]) {
        let connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(open) = connections.open.get(&(cluster, to)) else {
            return;
        };
        let Ok(bytes) = frame::encode(kind, payload, FRAME_LIMIT) else {
            return;
        };
        let bytes: Arc<[u8]> = bytes.into();
        for outgoing in open.values() {
            let _ = outgoing.try_send(Arc::clone(&bytes));
        }
    }

    fn opened(&self, key: Key) -> (u64, mpsc::Receiver<Arc<[u8]>>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.next += 1;
        let number = connections.next;
        connections
            .open
            .entry(key)
            .or_default()
            .insert(number, sender);
        (number, receiver)
    }

    fn closed(&self, key: Key, number: u64) {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = connections.open.get_mut(&key) {
            open.remove(&number);
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite>(&self, key: Key, stream: S) {
        let (number, mut outgoing) = self.opened(key);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let writing = async {
            while let Some(bytes) = outgoing.recv().await {
                if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                    break;
                }
            }
        };
        let reading = self.read(key, &mut reader);
        tokio::select! {
            () = writing => {}
            () = reading => {}
        }
        self.closed(key, number);
    }

    async fn read<R: AsyncRead + Unpin>(&self, (cluster, from): Key, reader: &mut R) {
        let mut decoder = Decoder::new(FRAME_LIMIT);
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length) = reader.read(&mut buffer).await {
            let mut chunk = &buffer[..length];
            if length == 0 {
                return;
            }
            loop {
                match decoder.advance(&mut chunk) {
                    Ok(Some(frame)) if frame.kind == MESSAGE => match codec::decode(&frame.payload)
                    {
                        Ok(message) => {
                            let _ = self.news.send(Net::Message {
                                cluster,
                                from,
                                message: Box::new(message),
                            });
                        }
                        Err(error) => {
                            return self.problem(format!(
                                "{from} sent a message that cannot be read: {error}"
                            ));
                        }
                    },
                    Ok(Some(frame)) if matches!(frame.kind, CALL | CALL_REPLY) => {
                        if let Ok(passed) = codec::decode(&frame.payload) {
                            let _ = self.news.send(Net::Passed {
                                cluster,
                                from,
                                answer: frame.kind == CALL_REPLY,
                                passed,
                            });
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        return self.problem(format!("{from} sent what is no frame: {error}"));
                    }
                }
            }
        }
    }

    fn problem(&self, text: String) {
        let _ = self.news.send(Net::Problem(text));
    }
}

impl Dialer {
    #[must_use]
    pub fn new(identity: Identity, transport: Transport) -> Self {
        Self {
            identity,
            transport,
            tasks: BTreeMap::new(),
        }
    }

    /// Keeps connections up to exactly these.
    ///
    /// # Errors
    /// The identity cannot be used for TLS.
    pub fn targets(&mut self, wanted: &BTreeSet<Target>) -> Result<(), PkiError> {
        self.tasks.retain(|target, task| {
            let keep = wanted.contains(target);
            if !keep {
                task.abort();
            }
            keep
        });
        for target in wanted {
            if !self.tasks.contains_key(target) {
                let config = pki::client_config(&self.identity, target.member.0)?;
                let cluster = self.identity.member().cluster;
                let name = pki::server_name(pki::Member {
                    cluster,
                    id: target.member.0,
                })?;
                let task = dial_for_ever(
                    self.transport.clone(),
                    cluster.0,
                    target.clone(),
                    TlsConnector::from(config),
                    name,
                );
                self.tasks.insert(target.clone(), tokio::spawn(task));
            }
        }
        Ok(())
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

async fn dial_for_ever(
    transport: Transport,
    cluster: u64,
    target: Target,
    connector: TlsConnector,
    name: ServerName<'static>,
) {
    loop {
        if let Ok(stream) = dial(&target).await
            && let Ok(Ok(stream)) =
                tokio::time::timeout(HANDSHAKE_LIMIT, connector.connect(name.clone(), stream)).await
        {
            transport.converse((cluster, target.member), stream).await;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn dial(target: &Target) -> io::Result<TcpStream> {
    let socket = if target.address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(local) = target.local {
        socket.bind(SocketAddr::new(local.ip(), 0))?;
    }
    let connecting = tokio::time::timeout(CONNECT_LIMIT, socket.connect(target.address));
    let stream = connecting
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    tune(&stream)?;
    Ok(stream)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(UNACKNOWLEDGED)
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

impl Listeners {
    /// Serves as these identities; members without a certificate may only join.
    ///
    /// # Errors
    /// An identity cannot be used for TLS.
    pub fn new(identities: &[Identity], transport: Transport) -> Result<Self, PkiError> {
        let config = pki::server_config_for_many(identities, ClientAuth::Optional)?;
        let acceptor = Arc::new(Mutex::new(TlsAcceptor::from(config)));
        Ok(Self {
            transport,
            acceptor,
            tasks: BTreeMap::new(),
        })
    }

    /// Serves as these identities from now on.
    ///
    /// # Errors
    /// An identity cannot be used for TLS.
    pub fn serve_as(&mut self, identities: &[Identity]) -> Result<(), PkiError> {
        let config = pki::server_config_for_many(identities, ClientAuth::Optional)?;
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = TlsAcceptor::from(config);
        Ok(())
    }

    /// Listens on exactly these addresses. One that is not there (yet) is tried again.
    pub fn listen(&mut self, wanted: &BTreeSet<SocketAddr>) {
        self.tasks.retain(|address, task| {
            let keep = wanted.contains(address);
            if !keep {
                task.abort();
            }
            keep
        });
        for &address in wanted {
            let task = || {
                tokio::spawn(serve_for_ever(
                    self.transport.clone(),
                    address,
                    Arc::clone(&self.acceptor),
                ))
            };
            self.tasks.entry(address).or_insert_with(task);
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

async fn serve_for_ever(
    transport: Transport,
    address: SocketAddr,
    acceptor: Arc<Mutex<TlsAcceptor>>,
) {
    let mut told = false;
    loop {
        match bind(address) {
            Ok(listener) => {
                told = false;
                while let Ok((stream, from)) = listener.accept().await {
                    let acceptor = acceptor
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clone();
                    tokio::spawn(serve(transport.clone(), acceptor, stream, from));
                }
            }
            Err(error) if !told => {
                told = true;
                transport.problem(format!(
                    "cannot listen on {address} (TCP): {}",
                    taken(&error, address)
                ));
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY * 5).await;
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

fn taken(error: &io::Error, address: SocketAddr) -> String {
    use hotpair_host::net::port::{Transport as Protocol, port_owner};
    if error.kind() != io::ErrorKind::AddrInUse {
        return error.to_string();
    }
    let owner = port_owner(Protocol::Tcp, address.ip(), address.port());
    format!(
        "the port is taken by {}",
        owner.unwrap_or_else(|| "an unknown process".into())
    )
}

async fn serve(transport: Transport, acceptor: TlsAcceptor, stream: TcpStream, from: SocketAddr) {
    if tune(&stream).is_err() {
        return;
    }
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await
    else {
        return;
    };
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    match certificate.map(pki::member) {
        Some(Some(member)) => {
            transport
                .converse((member.cluster.0, MemberId(member.id)), stream)
                .await
        }
        Some(None) => transport.problem(format!("{from} showed a certificate of no member")),
        None => {
            serve_join(&transport, stream, from).await;
        }
    }
}

async fn serve_join<S: AsyncRead + AsyncWrite + Unpin>(
    transport: &Transport,
    mut stream: S,
    from: SocketAddr,
) {
    let Ok(Some(frame)) = tokio::time::timeout(HANDSHAKE_LIMIT, read_frame(&mut stream)).await
    else {
        return;
    };
    if frame.kind != JOIN {
        return;
    }
    let Ok(request) = codec::decode::<JoinRequest>(&frame.payload) else {
        return transport.problem(format!("{from} asked to join in a way that cannot be read"));
    };
    let (reply, answer) = oneshot::channel();
    let request = Box::new(request);
    if transport
        .news
        .send(Net::Join {
            from,
            request,
            reply,
        })
        .is_err()
    {
        return;
    }
    let Ok(answer) = answer.await else { return };
    if let Ok(bytes) = frame::encode(JOIN_REPLY, &codec::encode(&answer), FRAME_LIMIT) {
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let _ = stream.shutdown().await;
    }
}

/// Reads one frame; `None` if the stream ends or carries none.
pub async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R) -> Option<frame::Frame> {
    let mut decoder = Decoder::new(FRAME_LIMIT);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = reader
            .read(&mut buffer)
            .await
            .ok()
            .filter(|&length| length > 0)?;
        if let Some(frame) = decoder.advance(&mut &buffer[..length]).ok()? {
            return Some(frame);
        }
    }
}
