//! The way to the peer: over one of several links, in order of preference.
//!
//! The node with the smaller number connects, over one link at a time. Whoever is connected to keeps the
//! newest connection. A link that broke or stalled is passed over for a while; while a less preferred
//! one is in use the better ones are tried again now and then, and taken when they work.
//!
//! Whether a silent connection is dead is the engine's matter (it pings and ends the session); a
//! socket whose bytes are not acknowledged for as long ends by itself.

use super::tls::{self, Connection};
use super::watched;
use crate::engine::Session;
use crate::link::Message;
use crate::memory::{Buffer, Pool};
use crate::protocol::{MirrorLink, Setup};
use crate::ring::Ring;
use hotpair_core::ids::MemberId;
use hotpair_host::clock;
use hotpair_host::net::port::{Transport, port_owner};
use hotpair_wire::pki::{self, ClientAuth, Identity, Member, PkiError};
use rustls::{ClientConfig, ServerConfig};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// Until a connection is made and both sides have shown who they are.
const ATTEMPT: u64 = 3_000_000;
/// Between two attempts over the same link.
const RETRY: u64 = 300_000;
/// How long a link that broke is passed over while there are others; and one that did not come up.
const PASSED_OVER: u64 = 10_000_000;
const NOT_UP: u64 = 1_000_000;
/// How often better links are tried while another one is in use.
const BETTER: u64 = 5_000_000;
/// A connection over which nothing came for so long is probed by the kernel.
const QUIET: Duration = Duration::from_secs(2);
/// Until a connection that is to be closed has sent what it has.
const LAST_WORDS: u64 = 1_000_000;
/// Sent messages that wait, in bytes: a peer that takes nothing is given up.
const BACKLOG: usize = 256 * 1024 * 1024;
/// Connections that have not shown who they are.
const STRANGERS: usize = 32;

pub(super) enum News {
    Connected {
        session: Session,
        peer: MemberId,
    },
    Lost {
        session: Session,
    },
    Received {
        session: Session,
        message: Box<Message>,
        payload: Option<Buffer>,
    },
    Note {
        error: bool,
        text: String,
    },
}

pub(super) struct Link {
    me: MemberId,
    identity: Identity,
    server: Arc<ServerConfig>,
    ways: Vec<Way>,
    connections: BTreeMap<u64, Talk>,
    /// The one that counts.
    current: Option<u64>,
    next: u64,
    patience: Duration,
    pub news: VecDeque<News>,
}

/// A link, and what is done about it.
struct Way {
    link: MirrorLink,
    client: Option<Arc<ClientConfig>>,
    listener: Option<(u64, TcpListener)>,
    next_try: u64,
    passed_over: u64,
    told: bool,
}

/// A connection, and what it is for.
struct Talk {
    connection: Connection,
    way: usize,
    dialled: bool,
    /// Not yet: TLS goes on.
    session: Option<Session>,
    /// When it is given up, unless it has got further.
    until: Option<u64>,
}

impl Link {
    pub(super) fn new(setup: &Setup) -> Result<Self, PkiError> {
        let identity = Identity::from_pem(&setup.certificates, &setup.key)?;
        let server = pki::server_config(&identity, ClientAuth::Required)?;
        Ok(Self {
            me: setup.me,
            identity,
            server,
            ways: Vec::new(),
            connections: BTreeMap::new(),
            current: None,
            next: watched::LINK,
            patience: Duration::from_secs(3),
            news: VecDeque::new(),
        })
    }

    /// A peer that acknowledges nothing for so long is gone.
    pub(super) fn patience(&mut self, patience: Duration) {
        self.patience = patience.max(Duration::from_millis(100));
    }

    /// Uses exactly these links; connections over others end.
    pub(super) fn change(&mut self, links: &[MirrorLink], ring: &mut Ring) -> io::Result<()> {
        if self.ways.iter().map(|way| &way.link).eq(links) {
            return Ok(());
        }
        for way in std::mem::take(&mut self.ways) {
            if let Some((who, _)) = way.listener {
                ring.forget(who)?;
            }
        }
        let all: Vec<u64> = self.connections.keys().copied().collect();
        for who in all {
            self.end(who, ring)?;
        }
        for link in links {
            let client = match self.me < link.peer {
                true => pki::client_config(&self.identity, link.peer.0)
                    .map_err(|error| self.note(true, error.to_string()))
                    .ok(),
                false => None,
            };
            self.ways.push(Way {
                link: link.clone(),
                client,
                listener: None,
                next_try: 0,
                passed_over: 0,
                told: false,
            });
        }
        Ok(())
    }

    /// Name of the link in use.
    pub(super) fn in_use(&self) -> Option<String> {
        let way = self.connections.get(&self.current?)?.way;
        Some(self.ways.get(way)?.link.name.clone())
    }

    /// When [`tick`](Self::tick) is due.
    pub(super) fn deadline(&self) -> Option<u64> {
        let attempts = self.connections.values().filter_map(|talk| talk.until);
        let waits = self.ways.iter().enumerate().filter_map(|(index, way)| {
            let wanted = match way.client {
                Some(_) => self.wants(index) && !self.is_dialling(),
                None => way.listener.is_none(),
            };
            wanted.then(|| way.next_try.max(self.earliest(index)))
        });
        attempts.chain(waits).min()
    }

    pub(super) fn tick(&mut self, now: u64, ring: &mut Ring, pool: &mut Pool) -> io::Result<()> {
        let overdue: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, talk)| talk.until.is_some_and(|until| until <= now))
            .map(|(&who, _)| who)
            .collect();
        for who in overdue {
            self.end(who, ring)?;
        }
        for index in 0..self.ways.len() {
            let way = &self.ways[index];
            if way.client.is_none() && way.listener.is_none() && way.next_try <= now {
                self.listen(index, now, ring)?;
            }
        }
        if !self.is_dialling()
            && let Some(index) = self.next_way(now)
        {
            self.dial(index, now, ring)?;
        }
        // Those that had to wait for memory or for their turn.
        let waiting: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, talk)| talk.connection.more)
            .map(|(&who, _)| who)
            .collect();
        for who in waiting {
            self.progress(who, ring, pool)?;
        }
        Ok(())
    }

    /// Something that was watched is ready.
    pub(super) fn ready(&mut self, who: u64, ring: &mut Ring, pool: &mut Pool) -> io::Result<()> {
        // Names are even; the odd one after it watches for room to send.
        let who = who & !1;
        let listener = self
            .ways
            .iter()
            .position(|way| way.listener.as_ref().is_some_and(|(name, _)| *name == who));
        match listener {
            Some(index) => self.accept(index, ring),
            None => self.progress(who, ring, pool),
        }
    }

    /// Sends over the session, if it is still there.
    pub(super) fn send(&mut self, session: Session, message: &Message, payload: Option<Buffer>) {
        if let Some(talk) = self.talk_of(session) {
            talk.connection.push(message, payload);
        }
    }

    pub(super) fn drop_session(&mut self, session: Session, why: &str) {
        let now = clock::raw_us();
        let Some(talk) = self.talk_of(session) else {
            return;
        };
        talk.connection.finish();
        talk.until = Some(now + LAST_WORDS);
        let way = talk.way;
        self.ways[way].passed_over = now + PASSED_OVER;
        let name = self.ways[way].link.name.clone();
        self.note(false, format!("replication over link {name} ended: {why}"));
    }

    /// Hands over to the sockets what was sent.
    pub(super) fn flush(&mut self, ring: &mut Ring) -> io::Result<()> {
        let all: Vec<u64> = self.connections.keys().copied().collect();
        for who in all {
            self.push_out(who, ring)?;
        }
        Ok(())
    }

    fn push_out(&mut self, who: u64, ring: &mut Ring) -> io::Result<()> {
        let Some(talk) = self.connections.get_mut(&who) else {
            return Ok(());
        };
        if talk.connection.blocked {
            if talk.connection.queued() > BACKLOG {
                self.note(
                    true,
                    "the peer takes no more data: its connection is closed".into(),
                );
                return self.end(who, ring);
            }
            return Ok(());
        }
        match talk.connection.write() {
            Err(_) => self.end(who, ring),
            Ok(()) if talk.connection.is_finished() => self.end(who, ring),
            Ok(()) if talk.connection.blocked => {
                ring.watch_once(who | 1, talk.connection.fd(), libc::POLLOUT)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Reads and writes what can be read and written.
    fn progress(&mut self, who: u64, ring: &mut Ring, pool: &mut Pool) -> io::Result<()> {
        let Some(talk) = self.connections.get_mut(&who) else {
            return Ok(());
        };
        if talk.dialled
            && talk.connection.is_handshaking()
            && let Ok(Some(error)) = talk.connection.stream().take_error()
        {
            let _ = error;
            return self.end(who, ring);
        }
        let mut arrived = Vec::new();
        let read = talk.connection.read(pool, &mut arrived);
        let session = talk.session;
        if let Some(session) = session {
            for (message, payload) in arrived.drain(..) {
                self.news.push_back(News::Received {
                    session,
                    message,
                    payload,
                });
            }
        }
        if let Err(error) = read {
            return self.broken(who, &error, ring);
        }
        let Some(talk) = self.connections.get_mut(&who) else {
            return Ok(());
        };
        talk.connection.blocked = false;
        if talk.session.is_none() && !talk.connection.is_handshaking() {
            self.introduced(who, ring)?;
            // What came right behind the handshake.
            if let Some(session) = self.connections.get(&who).and_then(|talk| talk.session) {
                for (message, payload) in arrived {
                    self.news.push_back(News::Received {
                        session,
                        message,
                        payload,
                    });
                }
            }
        }
        self.push_out(who, ring)
    }

    fn broken(&mut self, who: u64, error: &io::Error, ring: &mut Ring) -> io::Result<()> {
        if let Some(talk) = self.connections.get(&who) {
            let name = self.ways[talk.way].link.name.clone();
            match (talk.session, error.kind()) {
                (Some(_), ErrorKind::InvalidData) => {
                    self.note(
                        true,
                        format!("what came over link {name} is nonsense: {error}"),
                    );
                }
                (None, ErrorKind::InvalidData) if !self.ways[talk.way].told => {
                    self.ways[talk.way].told = true;
                    self.note(
                        true,
                        format!("somebody who is not the peer spoke on link {name}: {error}"),
                    );
                }
                _ => {}
            }
        }
        self.end(who, ring)
    }

    /// TLS is up: who is it, and is this the connection to use?
    fn introduced(&mut self, who: u64, ring: &mut Ring) -> io::Result<()> {
        let Some(talk) = self.connections.get(&who) else {
            return Ok(());
        };
        let way = talk.way;
        let peer = self.ways[way].link.peer;
        let expected = Member {
            cluster: self.identity.member().cluster,
            id: peer.0,
        };
        if talk.connection.certificate().and_then(pki::member) != Some(expected) {
            let name = self.ways[way].link.name.clone();
            self.note(
                true,
                format!("another member than {peer} connected over link {name}: refused"),
            );
            return self.end(who, ring);
        }
        let better = match self.current_way() {
            Some(current) => !talk.dialled || way < current,
            None => true,
        };
        if !better {
            return self.end(who, ring);
        }
        let before = self.current.take();
        if let Some(before) = before {
            self.end(before, ring)?;
        }
        self.next += 2;
        let session = Session(self.next);
        if let Some(talk) = self.connections.get_mut(&who) {
            talk.session = Some(session);
            talk.until = None;
        }
        self.ways[way].told = false;
        self.current = Some(who);
        self.news.push_back(News::Connected { session, peer });
        Ok(())
    }

    /// Closes a connection, and says so if it was a session.
    fn end(&mut self, who: u64, ring: &mut Ring) -> io::Result<()> {
        let Some(talk) = self.connections.remove(&who) else {
            return Ok(());
        };
        ring.forget(who)?;
        ring.forget(who | 1)?;
        let now = clock::raw_us();
        if let Some(way) = self.ways.get_mut(talk.way) {
            way.next_try = now + RETRY;
            let over = match talk.session {
                Some(_) => PASSED_OVER,
                None => NOT_UP,
            };
            way.passed_over = way.passed_over.max(now + over);
        }
        if self.current == Some(who) {
            self.current = None;
        }
        if let Some(session) = talk.session {
            self.news.push_back(News::Lost { session });
        }
        Ok(())
    }

    fn current_way(&self) -> Option<usize> {
        Some(self.connections.get(&self.current?)?.way)
    }

    fn talk_of(&mut self, session: Session) -> Option<&mut Talk> {
        self.connections
            .values_mut()
            .find(|talk| talk.session == Some(session))
    }

    fn is_dialling(&self) -> bool {
        self.connections
            .values()
            .any(|talk| talk.dialled && talk.session.is_none())
    }

    /// Would a connection over this link be used?
    fn wants(&self, index: usize) -> bool {
        self.current_way().is_none_or(|current| index < current)
    }

    /// A better link than the one in use is tried later than one that is needed now.
    fn earliest(&self, index: usize) -> u64 {
        match self.current_way() {
            Some(_) => self.ways[index]
                .passed_over
                .max(self.ways[index].next_try + BETTER),
            None => 0,
        }
    }

    fn next_way(&self, now: u64) -> Option<usize> {
        (0..self.ways.len())
            .filter(|&index| self.ways[index].client.is_some() && self.wants(index))
            .filter(|&index| self.ways[index].next_try <= now && self.earliest(index) <= now)
            .min_by_key(|&index| (self.ways[index].passed_over > now, index))
    }

    fn dial(&mut self, index: usize, now: u64, ring: &mut Ring) -> io::Result<()> {
        let way = &mut self.ways[index];
        way.next_try = now + RETRY;
        let Some(config) = way.client.clone() else {
            return Ok(());
        };
        let member = Member {
            cluster: self.identity.member().cluster,
            id: way.link.peer.0,
        };
        let begun = begin(&way.link).and_then(|stream| {
            let name = pki::server_name(member).map_err(io::Error::other)?;
            let tls = tls::client(&config, name).map_err(io::Error::other)?;
            Ok(Connection::new(stream, tls))
        });
        match begun {
            Ok(connection) => self.talk(connection, index, true, ring),
            Err(_) => {
                way.passed_over = way.passed_over.max(now + NOT_UP);
                Ok(())
            }
        }
    }

    fn talk(
        &mut self,
        mut connection: Connection,
        way: usize,
        dialled: bool,
        ring: &mut Ring,
    ) -> io::Result<()> {
        self.next += 2;
        let who = self.next;
        ring.watch(who, connection.fd(), libc::POLLIN)?;
        if dialled {
            // Until it is connected it cannot send.
            connection.blocked = true;
            ring.watch_once(who | 1, connection.fd(), libc::POLLOUT)?;
        }
        self.tune(connection.stream());
        let talk = Talk {
            connection,
            way,
            dialled,
            session: None,
            until: Some(clock::raw_us() + ATTEMPT),
        };
        self.connections.insert(who, talk);
        Ok(())
    }

    fn tune(&self, stream: &TcpStream) {
        let socket = socket2::SockRef::from(stream);
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_user_timeout(Some(self.patience));
        // A peer that lost power and came back knows nothing of the connection, and a standby sends nothing
        // by which it would notice: without this the one that connects would keep the dead one.
        let probes = TcpKeepalive::new()
            .with_time(QUIET)
            .with_interval(QUIET / 2);
        let _ = socket.set_tcp_keepalive(&probes);
    }

    fn listen(&mut self, index: usize, now: u64, ring: &mut Ring) -> io::Result<()> {
        let address = self.ways[index].link.local;
        match bind(address) {
            Ok(listener) => {
                self.next += 2;
                let who = self.next;
                ring.watch(who, listener.as_raw_fd(), libc::POLLIN)?;
                self.ways[index].listener = Some((who, listener));
                self.ways[index].told = false;
            }
            Err(error) => {
                self.ways[index].next_try = now + 1_000_000;
                if !std::mem::replace(&mut self.ways[index].told, true) {
                    let text = taken(&error, address);
                    self.note(
                        true,
                        format!("cannot listen on {address} for replication: {text}"),
                    );
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, index: usize, ring: &mut Ring) -> io::Result<()> {
        let Some((_, listener)) = &self.ways[index].listener else {
            return Ok(());
        };
        let mut streams = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            streams.push(stream);
        }
        for stream in streams {
            let strangers = self
                .connections
                .values()
                .filter(|talk| talk.session.is_none())
                .count();
            if strangers >= STRANGERS || stream.set_nonblocking(true).is_err() {
                continue;
            }
            match tls::server(&self.server) {
                Ok(tls) => {
                    let connection = Connection::new(stream, tls);
                    self.talk(connection, index, false, ring)?;
                }
                Err(error) => self.note(true, error.to_string()),
            }
        }
        Ok(())
    }

    fn note(&mut self, error: bool, text: String) {
        self.news.push_back(News::Note { error, text });
    }
}

/// A connection that is being made.
fn begin(link: &MirrorLink) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(link.remote),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    let local = SocketAddr::new(link.local.ip(), 0);
    socket.bind(&SockAddr::from(local))?;
    match socket.connect(&SockAddr::from(link.remote)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(16)?;
    Ok(socket.into())
}

fn taken(error: &io::Error, address: SocketAddr) -> String {
    if error.kind() != ErrorKind::AddrInUse {
        return error.to_string();
    }
    let owner = port_owner(Transport::Tcp, address.ip(), address.port());
    format!(
        "the port is taken by {}",
        owner.unwrap_or_else(|| "an unknown process".into())
    )
}
