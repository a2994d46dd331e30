//! QEMU's control socket (QMP): one JSON object a line, each way.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longest wait for an answer: QEMU's main loop may be busy with a disk.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection in which commands may be given.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Greets QEMU.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut monitor = Self {
            stream: BufReader::new(stream),
        };
        monitor.read()?;
        monitor.ask(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    /// Gives a command without arguments.
    pub fn execute(&mut self, command: &str) -> io::Result<()> {
        self.ask(&json!({ "execute": command })).map(|_| ())
    }

    /// Gives a command and returns what came of it, passing over events.
    pub fn ask(&mut self, request: &Value) -> io::Result<Value> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        // Events are few; a monitor that sends nothing else is broken.
        for _ in 0..1000 {
            let answer = self.read()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(error.to_string()));
            }
        }
        Err(io::Error::other("only events, and no answer"))
    }

    fn read(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}
