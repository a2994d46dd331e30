//! The way into a guest: commands over a virtio port, run by the guest's agent (`agent.sh`).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a command printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// 0 to 255; 137 if its time was up.
    pub code: i32,
    /// Standard output, at most 4 MiB.
    pub stdout: Vec<u8>,
    /// Standard error, at most 4 MiB.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without white space at the ends.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

type Waiting = Arc<Mutex<BTreeMap<u64, Sender<Output>>>>;

/// A connection to the agent; commands of several threads run beside each other.
#[derive(Debug)]
pub struct Console {
    stream: Mutex<UnixStream>,
    next: AtomicU64,
    waiting: Waiting,
    ready: Mutex<mpsc::Receiver<()>>,
}

/// Why there is no output.
#[derive(Debug)]
pub enum Silence {
    /// The time was up.
    Late,
    /// QEMU closed the connection.
    Closed,
}

impl Console {
    /// Takes a connection over; a thread reads it until it ends.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let waiting = Waiting::default();
        let (ready_now, ready) = mpsc::channel();
        let (reading, shared) = (stream.try_clone()?, Arc::clone(&waiting));
        std::thread::Builder::new()
            .name("guest-console".into())
            .spawn(move || {
                read(reading, &shared, &ready_now);
                // Whoever waits learns that there will be no answer.
                lock(&shared).clear();
            })?;
        Ok(Self {
            stream: Mutex::new(stream),
            next: AtomicU64::new(1),
            waiting,
            ready: Mutex::new(ready),
        })
    }

    /// Waits until the agent has said that it is there.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), Silence> {
        match lock(&self.ready).recv_timeout(limit) {
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err(Silence::Late),
            Err(RecvTimeoutError::Disconnected) => Err(Silence::Closed),
        }
    }

    /// Runs a shell script, which is killed after `limit`; waits `grace` longer for its answer.
    pub fn run(&self, script: &str, limit: Duration, grace: Duration) -> Result<Output, Silence> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = mpsc::channel();
        lock(&self.waiting).insert(number, answer);
        let seconds = limit.as_secs_f64().ceil().max(1.0);
        let line = format!("{number} {seconds} {}\n", BASE64_STANDARD.encode(script));
        let sent = lock(&self.stream).write_all(line.as_bytes());
        let output = match sent {
            Ok(()) => answered.recv_timeout(limit + grace).map_err(|e| match e {
                RecvTimeoutError::Timeout => Silence::Late,
                RecvTimeoutError::Disconnected => Silence::Closed,
            }),
            Err(_) => Err(Silence::Closed),
        };
        lock(&self.waiting).remove(&number);
        output
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(stream: UnixStream, waiting: &Waiting, ready: &Sender<()>) {
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line);
        if line.trim() == "ready" {
            let _ = ready.send(());
        } else if let Some((number, output)) = parse(&line)
            && let Some(answer) = lock(waiting).remove(&number)
        {
            let _ = answer.send(output);
        }
    }
}

/// Reads `NUMBER EXITCODE BASE64 BASE64`; nothing if it is anything else.
fn parse(line: &str) -> Option<(u64, Output)> {
    let mut words = line.trim_end_matches(['\r', '\n']).split(' ');
    let number = words.next()?.parse().ok()?;
    let code = words.next()?.parse().ok()?;
    let stdout = BASE64_STANDARD.decode(words.next()?).ok()?;
    let stderr = BASE64_STANDARD.decode(words.next()?).ok()?;
    Some((
        number,
        Output {
            code,
            stdout,
            stderr,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_answer_without_output_and_ignores_noise() {
        let (number, output) = parse("7 1  ZXJyCg==").expect("an answer");
        assert_eq!((number, output.code), (7, 1));
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (b"".as_slice(), b"err\n".as_slice())
        );
        for noise in ["", "ready", "x 1  ", "1", "1 0 !!! ", "1 0"] {
            assert!(parse(noise).is_none(), "{noise:?} was taken");
        }
    }
}
