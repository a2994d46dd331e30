//! The outside client: numbered requests at a fixed pace, answers noted as they come.

use super::LAST_ANSWERS;
use crate::clock::{now_us, sleep_until_us};
use crate::error::{LabError, Result};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// One answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which request it answers.
    pub sequence: u64,
    /// When it was received, in microseconds of CLOCK_MONOTONIC.
    pub received_us: u64,
    /// Who answered.
    pub node: Arc<str>,
}

/// The receiving side.
#[derive(Debug)]
pub struct Requests {
    socket: UdpSocket,
    address: Ipv4Addr,
    port: u16,
}

/// The sending side.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    address: Ipv4Addr,
    port: u16,
}

impl Requests {
    /// Opens the client's socket in the calling thread's namespace.
    pub fn open(address: Ipv4Addr, port: u16) -> Result<Self> {
        let fail = |e| LabError::system("open the client's socket", e);
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(fail)?;
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .map_err(fail)?;
        Ok(Self {
            socket,
            address,
            port,
        })
    }

    /// The sending side of the same socket.
    pub fn sender(&self) -> Result<Sender> {
        let socket = self
            .socket
            .try_clone()
            .map_err(|e| LabError::system("copy a socket", e))?;
        Ok(Sender {
            socket,
            address: self.address,
            port: self.port,
        })
    }

    /// Notes answers until told to stop, then for [`LAST_ANSWERS`] more; counts them in `count` meanwhile.
    pub fn receive(self, stop: &AtomicBool, count: &AtomicU64) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(16 * 1024);
        let mut nodes: Vec<Arc<str>> = Vec::new();
        let mut buffer = [0u8; 512];
        let mut end_us = None;
        while end_us.is_none_or(|end| now_us() < end) {
            if end_us.is_none() && stop.load(Ordering::Relaxed) {
                end_us = Some(now_us() + u64::try_from(LAST_ANSWERS.as_micros()).unwrap_or(0));
            }
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else {
                continue;
            };
            let received_us = now_us();
            let Some((sequence, node)) = parse(&buffer[..length]) else {
                continue;
            };
            if from.ip() != self.address {
                continue;
            }
            let node = nodes
                .iter()
                .find(|known| &***known == node)
                .cloned()
                .unwrap_or_else(|| {
                    let new: Arc<str> = node.into();
                    nodes.push(Arc::clone(&new));
                    new
                });
            answers.push(Answer {
                sequence,
                received_us,
                node,
            });
            count.fetch_add(1, Ordering::Relaxed);
        }
        answers
    }
}

impl Sender {
    /// Sends a request at each interval until told to stop; gives each one's sending time.
    ///
    /// An error to send (no route, no neighbour) counts as a request that nobody answers. After a
    /// stall of this machine the requests that are due are not made up for.
    pub fn run(self, interval: Duration, stop: &AtomicBool) -> Vec<u64> {
        let interval_us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX / 4);
        let mut sent = Vec::with_capacity(16 * 1024);
        let mut due_us = now_us();
        while !stop.load(Ordering::Relaxed) {
            let request = format!("hotpair {}", sent.len());
            sent.push(now_us());
            let _ = self
                .socket
                .send_to(request.as_bytes(), (self.address, self.port));
            due_us = (due_us + interval_us).max(now_us());
            sleep_until_us(due_us);
        }
        sent
    }
}

/// Reads `hotpair SEQUENCE NODE COUNTER`.
fn parse(bytes: &[u8]) -> Option<(u64, &str)> {
    let mut words = std::str::from_utf8(bytes).ok()?.split_ascii_whitespace();
    (words.next()? == "hotpair").then_some(())?;
    Some((words.next()?.parse().ok()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_answers_and_ignores_anything_else() {
        assert_eq!(parse(b"hotpair 7 node1 42"), Some((7, "node1")));
        for bytes in [
            b"hotpair x node1".as_slice(),
            b"other 7 node1",
            b"hotpair 7",
            b"\xff",
            b"",
        ] {
            assert_eq!(parse(bytes), None);
        }
    }
}
