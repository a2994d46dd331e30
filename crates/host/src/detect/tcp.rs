//! A TCP port accepts, and if wished answers.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Detected, contains};

/// Most bytes of an answer that are looked at.
const ANSWER_LIMIT: usize = 64 << 10;

/// Connects to a port.
///
/// Without a question a program that stands still counts as running: the kernel accepts for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpCheck {
    /// Address and port.
    pub addr: SocketAddr,
    /// Limit for the whole check.
    pub timeout: Duration,
    /// What to say and hear once connected.
    pub question: Option<Question>,
}

/// A short exchange that only a living program can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Sent after connecting; empty when the server speaks first.
    pub send: Vec<u8>,
    /// Must occur in the first 64 KiB of the answer; empty when any byte will do.
    pub expect: Vec<u8>,
}

impl TcpCheck {
    /// Does the check.
    pub fn check(&self) -> Detected {
        let end = Instant::now() + self.timeout;
        if self.timeout.is_zero() {
            return Detected::Failed("the time limit is 0".into());
        }
        match TcpStream::connect_timeout(&self.addr, self.timeout) {
            Ok(stream) => match &self.question {
                None => Detected::Running,
                Some(question) => self.ask(stream, question, end),
            },
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Detected::NotRunning(format!("nothing listens on {}", self.addr))
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => self.late("did not accept"),
            Err(error) => Detected::Failed(format!("cannot connect to {}: {error}", self.addr)),
        }
    }

    fn late(&self, what: &str) -> Detected {
        Detected::Failed(format!(
            "{} {what} within {} ms",
            self.addr,
            self.timeout.as_millis()
        ))
    }

    fn ask(&self, mut stream: TcpStream, question: &Question, end: Instant) -> Detected {
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        let mut sent = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.late("accepted but did not answer as expected");
            }
            let limited = stream
                .set_read_timeout(Some(left))
                .and(stream.set_write_timeout(Some(left)));
            let step = match question.send.get(sent..) {
                Some(rest) if !rest.is_empty() => limited
                    .and_then(|()| stream.write(rest))
                    .map(|count| (count, 0)),
                _ => limited
                    .and_then(|()| stream.read(&mut buffer))
                    .map(|count| (0, count)),
            };
            match step {
                Ok((0, 0)) => {
                    return Detected::Failed(format!(
                        "{} closed without the expected answer",
                        self.addr
                    ));
                }
                Ok((written, count)) => {
                    sent += written;
                    answer.extend_from_slice(&buffer[..count]);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Detected::Failed(format!("{} broke off: {error}", self.addr)),
            }
            if !answer.is_empty() && contains(&answer, &question.expect) {
                return Detected::Running;
            }
            if answer.len() > ANSWER_LIMIT {
                return Detected::Failed(format!(
                    "{} answered 64 KiB without what is expected",
                    self.addr
                ));
            }
        }
    }
}
