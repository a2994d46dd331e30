//! One connection to the peer: TLS over a socket that never blocks, messages in, messages out.
//!
//! The TLS library works on buffers of ours: ciphertext is received and sent in long stretches, and small
//! messages are put together into one record.

use crate::link::{self, HEADER, Header, Message};
use crate::memory::{Buffer, Pool};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, ServerConfig};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// Ciphertext received at a time, and made ahead of the socket.
const STRETCH: usize = 512 * 1024;
/// Room that a socket is read into at least: two records.
const ROOM: usize = 40 * 1024;
/// Bytes of a record.
const RECORD: usize = 16 * 1024;
/// Bytes encrypted at a time, and what that may add to them.
const PIECE: usize = 4 * RECORD;
const OVERHEAD: usize = 1024;
/// Bytes taken from a socket before others have their turn.
const TURN: usize = 4 * 1024 * 1024;

pub(super) struct Connection {
    stream: TcpStream,
    tls: Tls,
    /// Ciphertext that came and was not looked at.
    incoming: Stretch,
    /// Ciphertext that was not sent.
    outgoing: Stretch,
    inbound: Inbound,
    queue: Queue,
    /// The socket takes no more for now.
    pub blocked: bool,
    /// There is more to read, but it was others' turn.
    pub more: bool,
    closing: bool,
}

pub(super) enum Tls {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// Bytes from `start` to `end` count.
struct Stretch {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Stretch {
    fn new() -> Self {
        Self {
            bytes: vec![0; STRETCH].into(),
            start: 0,
            end: 0,
        }
    }

    fn filled(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The first `length` bytes are done with.
    fn discard(&mut self, length: usize) {
        self.start += length;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Where more can be put: at least `least` bytes, unless so many are filled.
    fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < least && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }
}

/// Messages that wait to be encrypted.
#[derive(Default)]
struct Queue {
    parts: VecDeque<Out>,
    /// Of the first part, taken.
    begun: usize,
    length: usize,
    /// Small parts, put together.
    together: Vec<u8>,
}

enum Out {
    Bytes(Vec<u8>),
    Payload(Buffer),
}

impl Out {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Payload(buffer) => buffer.bytes(),
        }
    }
}

impl Queue {
    fn push(&mut self, part: Out) {
        self.length += part.bytes().len();
        self.parts.push_back(part);
    }

    /// What is encrypted next: a long part as it is, or small ones together.
    fn next(&mut self) -> Option<&[u8]> {
        let first = self.parts.front()?.bytes().len() - self.begun;
        if first >= RECORD || (self.parts.len() == 1) {
            let bytes = self.parts.front()?.bytes();
            return Some(&bytes[self.begun..bytes.len().min(self.begun + PIECE)]);
        }
        self.together.clear();
        let mut begun = self.begun;
        for part in &self.parts {
            let bytes = &part.bytes()[begun..];
            let length = bytes.len().min(RECORD - self.together.len());
            self.together.extend_from_slice(&bytes[..length]);
            begun = 0;
            if self.together.len() == RECORD {
                break;
            }
        }
        Some(&self.together)
    }

    /// So many bytes of it are encrypted.
    fn taken(&mut self, mut length: usize) {
        self.length -= length;
        while length > 0 {
            let Some(first) = self.parts.front() else {
                return;
            };
            let left = first.bytes().len() - self.begun;
            if length < left {
                self.begun += length;
                return;
            }
            length -= left;
            self.begun = 0;
            self.parts.pop_front();
        }
    }
}

/// What has come of the next message.
enum Inbound {
    Header {
        bytes: [u8; HEADER],
        have: usize,
    },
    Body {
        header: Header,
        bytes: Vec<u8>,
        have: usize,
    },
    Payload {
        message: Box<Message>,
        buffer: Buffer,
        have: usize,
    },
}

impl Inbound {
    const START: Self = Self::Header {
        bytes: [0; HEADER],
        have: 0,
    };

    /// Takes decrypted bytes in. There is always memory for them: how much can be under way is bounded by
    /// the peer's own.
    fn take(
        &mut self,
        mut plain: &[u8],
        pool: &mut Pool,
        arrived: &mut Vec<Arrived>,
    ) -> io::Result<()> {
        while !plain.is_empty() {
            match self {
                Self::Header { bytes, have } => {
                    *have += fill(&mut bytes[*have..], &mut plain);
                    if *have == HEADER {
                        let header = Header::parse(bytes).map_err(invalid)?;
                        let bytes = vec![0; header.body as usize];
                        *self = Self::Body {
                            header,
                            bytes,
                            have: 0,
                        };
                        self.body_complete(pool, arrived)?;
                    }
                }
                Self::Body { bytes, have, .. } => {
                    *have += fill(&mut bytes[*have..], &mut plain);
                    self.body_complete(pool, arrived)?;
                }
                Self::Payload { buffer, have, .. } => {
                    let now = plain.len().min(buffer.len() - *have);
                    buffer.write(*have, &plain[..now]);
                    plain = &plain[now..];
                    *have += now;
                    if *have == buffer.len()
                        && let Self::Payload {
                            message, buffer, ..
                        } = std::mem::replace(self, Self::START)
                    {
                        arrived.push((message, Some(buffer)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes on to the payload, or to the next message, if the body is complete.
    fn body_complete(&mut self, pool: &mut Pool, arrived: &mut Vec<Arrived>) -> io::Result<()> {
        let Self::Body {
            header,
            bytes,
            have,
        } = self
        else {
            return Ok(());
        };
        if *have < bytes.len() {
            return Ok(());
        }
        let message = Box::new(link::decode(header, bytes).map_err(invalid)?);
        let length = header.payload as usize;
        *self = match length {
            0 => {
                arrived.push((message, None));
                Self::START
            }
            _ => Self::Payload {
                message,
                buffer: pool.extra(length)?,
                have: 0,
            },
        };
        Ok(())
    }
}

/// Moves as many bytes as fit.
fn fill(into: &mut [u8], from: &mut &[u8]) -> usize {
    let length = into.len().min(from.len());
    into[..length].copy_from_slice(&from[..length]);
    *from = &from[length..];
    length
}

/// A message, with its payload if it has one.
pub(super) type Arrived = (Box<Message>, Option<Buffer>);

/// What a step of TLS left to be done.
enum Next {
    Again,
    /// Nothing, before more comes in or goes out.
    Wait,
    Ended,
}

/// What a step may use.
struct Hands<'a> {
    outgoing: &'a mut Stretch,
    queue: &'a mut Queue,
    inbound: Option<(&'a mut Inbound, &'a mut Pool, &'a mut Vec<Arrived>)>,
}

/// One step of TLS; how much of what came in is done with.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    hands: Hands<'_>,
) -> (usize, io::Result<Next>) {
    let UnbufferedStatus {
        mut discard, state, ..
    } = status;
    let next = match state {
        Err(error) => Err(io::Error::new(ErrorKind::InvalidData, error)),
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let encoded = data.encode(hands.outgoing.room(ROOM));
            match encoded {
                Ok(length) => {
                    hands.outgoing.end += length;
                    Ok(Next::Again)
                }
                // Wait until some of it is sent.
                Err(EncodeError::InsufficientSize(_)) => Ok(Next::Wait),
                Err(error) => Err(io::Error::other(error)),
            }
        }
        // It is sent with what comes after it.
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut result = Ok(Next::Again);
            let mut inbound = hands.inbound;
            while let Some(record) = traffic.next_record() {
                let taken = match (record, &mut inbound) {
                    (Ok(record), Some((inbound, pool, arrived))) => {
                        discard += record.discard;
                        inbound.take(record.payload, pool, arrived)
                    }
                    (Err(error), _) => Err(io::Error::new(ErrorKind::InvalidData, error)),
                    (Ok(_), None) => Err(ErrorKind::InvalidData.into()),
                };
                if let Err(error) = taken {
                    result = Err(error);
                }
            }
            result
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            let mut result = Ok(Next::Wait);
            while let Some(bytes) = hands.queue.next() {
                let length = bytes.len();
                let room = hands.outgoing.room(PIECE + OVERHEAD);
                if room.len() < length + OVERHEAD {
                    break;
                }
                match traffic.encrypt(bytes, room) {
                    Ok(made) => {
                        hands.outgoing.end += made;
                        hands.queue.taken(length);
                    }
                    Err(error) => {
                        result = Err(io::Error::other(error));
                        break;
                    }
                }
            }
            result
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::Wait),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Next::Ended),
        Ok(_) => Err(ErrorKind::InvalidData.into()),
    };
    (discard, next)
}

impl Connection {
    pub(super) fn new(stream: TcpStream, tls: Tls) -> Self {
        Self {
            stream,
            tls,
            incoming: Stretch::new(),
            outgoing: Stretch::new(),
            inbound: Inbound::START,
            queue: Queue::default(),
            blocked: false,
            more: false,
            closing: false,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match &self.tls {
            Tls::Client(tls) => tls.is_handshaking(),
            Tls::Server(tls) => tls.is_handshaking(),
        }
    }

    pub(super) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        let certificates = match &self.tls {
            Tls::Client(tls) => tls.peer_certificates(),
            Tls::Server(tls) => tls.peer_certificates(),
        };
        certificates?.first()
    }

    /// Bytes that wait to be sent.
    pub(super) fn queued(&self) -> usize {
        self.queue.length
    }

    pub(super) fn push(&mut self, message: &Message, payload: Option<Buffer>) {
        let mut bytes = Vec::with_capacity(2 * HEADER);
        link::encode(message, &mut bytes);
        self.queue.push(Out::Bytes(bytes));
        if let Some(payload) = payload.filter(|payload| !payload.is_empty()) {
            self.queue.push(Out::Payload(payload));
        }
    }

    /// Closes once all is sent.
    pub(super) fn finish(&mut self) {
        self.closing = true;
    }

    /// `true`: all that was to be sent before closing is sent.
    pub(super) fn is_finished(&self) -> bool {
        self.closing && self.queue.parts.is_empty() && self.outgoing.is_empty()
    }

    /// Reads what has come.
    ///
    /// # Errors
    /// The connection has ended, or what came is no message.
    pub(super) fn read(&mut self, pool: &mut Pool, arrived: &mut Vec<Arrived>) -> io::Result<()> {
        let mut taken = 0;
        self.more = false;
        loop {
            self.advance(Some((&mut *pool, &mut *arrived)))?;
            if taken >= TURN {
                self.more = true;
                return Ok(());
            }
            let room = self.incoming.room(ROOM);
            match self.stream.read(room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.incoming.end += length;
                    taken += length;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Decrypts what has come, if there is who takes it, and encrypts what is to go, as far as there is room.
    fn advance(&mut self, mut taker: Option<(&mut Pool, &mut Vec<Arrived>)>) -> io::Result<()> {
        loop {
            let incoming = match taker {
                Some(_) => self.incoming.filled(),
                None => &mut [],
            };
            let inbound = &mut self.inbound;
            let hands = Hands {
                outgoing: &mut self.outgoing,
                queue: &mut self.queue,
                inbound: taker
                    .as_mut()
                    .map(|(pool, arrived)| (inbound, &mut **pool, &mut **arrived)),
            };
            let (discard, next) = match &mut self.tls {
                Tls::Client(tls) => step(tls.process_tls_records(incoming), hands),
                Tls::Server(tls) => step(tls.process_tls_records(incoming), hands),
            };
            self.incoming.discard(discard);
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Wait) => return Ok(()),
                Ok(Next::Ended) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) => {
                    self.last_words();
                    return Err(error);
                }
            }
        }
    }

    /// Tells the peer why, as far as it goes: an alert that waits to be sent.
    fn last_words(&mut self) {
        let hands = Hands {
            outgoing: &mut self.outgoing,
            queue: &mut Queue::default(),
            inbound: None,
        };
        let _ = match &mut self.tls {
            Tls::Client(tls) => step(tls.process_tls_records(&mut []), hands),
            Tls::Server(tls) => step(tls.process_tls_records(&mut []), hands),
        };
        let _ = self.stream.write(self.outgoing.filled());
    }

    /// Encrypts and sends as much as the socket takes.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.blocked = false;
        loop {
            if !self.queue.parts.is_empty() && !self.is_handshaking() {
                self.advance(None)?;
            }
            if self.outgoing.is_empty() {
                return Ok(());
            }
            match self.stream.write(self.outgoing.filled()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => self.outgoing.discard(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn invalid(error: link::DecodeError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

pub(super) fn client(
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Tls, rustls::Error> {
    let tls = UnbufferedClientConnection::new(config.clone(), name)?;
    Ok(Tls::Client(Box::new(tls)))
}

pub(super) fn server(config: &Arc<ServerConfig>) -> Result<Tls, rustls::Error> {
    let tls = UnbufferedServerConnection::new(config.clone())?;
    Ok(Tls::Server(Box::new(tls)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Transfer;
    use crate::link::Body;
    use hotpair_core::ids::Epoch;
    use hotpair_wire::pki::{self, ClientAuth, ClusterCa};
    use std::net::TcpListener;

    /// Both ends of a connection whose sockets hold little.
    fn ends() -> (Connection, Connection) {
        let ca = ClusterCa::generate("test").unwrap();
        let identities = [1, 2].map(|id| ca.issue("node", id, &[]).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        for stream in [&near, &far] {
            stream.set_nonblocking(true).unwrap();
            let socket = socket2::SockRef::from(stream);
            socket.set_tcp_nodelay(true).unwrap();
            socket.set_send_buffer_size(64 * 1024).unwrap();
        }
        let config = pki::client_config(&identities[0], 2).unwrap();
        let name = pki::server_name(identities[1].member()).unwrap();
        let server_config = pki::server_config(&identities[1], ClientAuth::Required).unwrap();
        (
            Connection::new(near, client(&config, name).unwrap()),
            Connection::new(far, server(&server_config).unwrap()),
        )
    }

    /// Until one of them can be read, 10 ms at most.
    fn wait(near: &Connection, far: &Connection) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut waits = [near, far].map(|end| PollFd::new(&end.stream, PollFlags::IN));
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        let _ = poll(&mut waits, Some(&limit));
    }

    fn data(tag: u64, length: u32) -> Message {
        Message {
            epoch: Epoch(1),
            serial: 1,
            tag,
            body: Body::Data {
                at: Transfer { offset: 0, length },
                durable: false,
                early: false,
            },
        }
    }

    /// Lengths around those of records and pieces.
    fn length(tag: u64) -> usize {
        const SPANS: [usize; 8] = [512, 4096, 16384, 16896, 65536, 66048, 131_072, 1 << 20];
        SPANS[usize::try_from(tag).unwrap() % SPANS.len()]
    }

    fn mark(tag: u64) -> u8 {
        u8::try_from(tag % 251).unwrap()
    }

    #[test]
    fn messages_of_all_lengths_arrive_in_order_in_both_directions() {
        const COUNT: u64 = 16;
        let mut pool = Pool::new(0).unwrap();
        let (mut near, mut far) = ends();
        for tag in 0..COUNT {
            for end in [&mut near, &mut far] {
                let mut payload = pool.extra(length(tag)).unwrap();
                payload.write(0, &vec![mark(tag); length(tag)]);
                let size = u32::try_from(length(tag)).unwrap();
                end.push(&data(tag, size), Some(payload));
                end.push(
                    &Message {
                        tag,
                        body: Body::Ping,
                        ..data(0, 512)
                    },
                    None,
                );
            }
        }
        let (mut at_near, mut at_far) = (Vec::new(), Vec::new());
        let mut turns = 0;
        while at_near.len().min(at_far.len()) < 2 * usize::try_from(COUNT).unwrap() {
            turns += 1;
            assert!(turns < 10_000, "{} and {}", at_near.len(), at_far.len());
            wait(&near, &far);
            near.read(&mut pool, &mut at_near).unwrap();
            near.write().unwrap();
            far.read(&mut pool, &mut at_far).unwrap();
            far.write().unwrap();
        }
        for arrived in [at_near, at_far] {
            for (place, (message, payload)) in arrived.iter().enumerate() {
                let tag = u64::try_from(place / 2).unwrap();
                assert_eq!(message.tag, tag);
                assert_eq!(payload.is_some(), place % 2 == 0);
                if let Some(payload) = payload {
                    assert_eq!(payload.len(), length(tag));
                    assert!(payload.bytes().iter().all(|byte| *byte == mark(tag)));
                }
            }
        }
        assert_eq!(near.queued(), 0);
        assert!(near.certificate().is_some() && far.certificate().is_some());
    }

    #[test]
    fn what_is_no_tls_ends_the_connection() {
        let mut pool = Pool::new(0).unwrap();
        let (near, mut far) = ends();
        (&near.stream).write_all(&[7; 600]).unwrap();
        let mut arrived = Vec::new();
        let mut result = Ok(());
        for _ in 0..100 {
            wait(&near, &far);
            result = far.read(&mut pool, &mut arrived);
            if result.is_err() {
                break;
            }
        }
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(arrived.is_empty());
    }
}
