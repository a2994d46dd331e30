//! The blocking client the command line uses.

use crate::{Call, Envelope, MAX_LINE, Reply, VERSION};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a call had no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(
        "hotpair's daemon does not run on this node ({socket}: {source}): start it with `hotpair daemon` or `systemctl start hotpair`"
    )]
    NotRunning { socket: PathBuf, source: io::Error },
    #[error("{socket} may be opened by root only: run the command as root")]
    NotRoot { socket: PathBuf },
    #[error("the daemon closed the connection before it answered: look at its log")]
    Closed,
    #[error("the daemon did not answer: {0}")]
    Broken(#[from] io::Error),
    #[error("the daemon's answer could not be read, it may have another version: {0}")]
    Foreign(#[from] serde_json::Error),
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// The daemon does not run, or the caller is not root.
    pub fn connect(socket: &Path) -> Result<Self, CallError> {
        let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => CallError::NotRoot {
                socket: socket.to_owned(),
            },
            _ => CallError::NotRunning {
                socket: socket.to_owned(),
                source,
            },
        })?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks, and waits at most `limit` for the answer (`None`: for ever).
    ///
    /// # Errors
    /// No answer, or one that cannot be read.
    pub fn call(&mut self, call: Call, limit: Option<Duration>) -> Result<Reply, CallError> {
        self.send(call)?;
        self.stream.get_ref().set_read_timeout(limit)?;
        self.next_reply()
    }

    fn send(&mut self, call: Call) -> Result<(), CallError> {
        let mut line = serde_json::to_vec(&Envelope {
            version: VERSION,
            call,
        })?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        Ok(())
    }

    /// Waits for the next line of a call that goes on.
    ///
    /// # Errors
    /// The daemon hung up, or its line cannot be read.
    pub fn next_reply(&mut self) -> Result<Reply, CallError> {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = self
            .stream
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Err(CallError::Closed);
        }
        Ok(serde_json::from_slice(&line)?)
    }
}
