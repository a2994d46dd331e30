//! The clients outside, and their ledger of acknowledged commits.

use crate::error::{LedgerError, Result};
use hotpair_lab::{Netns, clock::now_us};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two tries of a connection to get to a server.
const AGAIN: Duration = Duration::from_millis(50);
/// Between two commits of a connection.
const PACE: Duration = Duration::from_millis(5);

/// A commit that was acknowledged; times in microseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    pub n: u64,
    /// The host whose server acknowledged it, by its own account.
    pub node: Arc<str>,
    pub sent_us: u64,
    pub acknowledged_us: u64,
}

/// A connection to a server.
pub(crate) trait Session {
    /// The host it runs on.
    fn node(&self) -> &Arc<str>;
    /// Inserts row `n` and commits. After an error nobody knows whether the row is there.
    fn commit(&mut self, n: u64) -> std::result::Result<(), String>;
}

/// How to reach a server; called on threads inside the client host's network.
pub(crate) trait Server: Send + Sync {
    fn connect(&self) -> std::result::Result<Box<dyn Session>, String>;
}

/// Clients at work; they stop when this is dropped.
#[derive(Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
    path: PathBuf,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// The number of the next row; each is tried once.
    next: AtomicU64,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    file: File,
    acks: Vec<Ack>,
    last_error: String,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Ledger {
    /// Starts `connections` clients in the network of the process `client`; the ledger is kept at `path`.
    pub(crate) fn start(
        server: Arc<dyn Server>,
        client: i32,
        connections: usize,
        path: &Path,
    ) -> Result<Self> {
        let file = File::create(path).map_err(|source| LedgerError::File {
            what: format!("create {}", path.display()),
            source,
        })?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            next: AtomicU64::new(1),
            book: Mutex::new(Book {
                file,
                acks: Vec::new(),
                last_error: String::new(),
            }),
        });
        let namespace = Arc::new(Netns::of_process(client)?);
        let threads = (0..connections).map(|_| {
            let (shared, server) = (Arc::clone(&shared), Arc::clone(&server));
            let namespace = Arc::clone(&namespace);
            std::thread::spawn(move || match namespace.enter() {
                Ok(()) => shared.work(&*server),
                Err(error) => shared.book().last_error = error.to_string(),
            })
        });
        Ok(Self {
            threads: threads.collect(),
            path: path.to_owned(),
            shared,
        })
    }

    /// Where it is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of acknowledged commits.
    pub fn count(&self) -> usize {
        self.shared.book().acks.len()
    }

    /// Those from the `first`-th on, in the order of their acknowledgement.
    pub fn since(&self, first: usize) -> Vec<Ack> {
        self.shared
            .book()
            .acks
            .get(first..)
            .unwrap_or_default()
            .to_vec()
    }

    /// Rows with greater numbers were never sent.
    pub fn tried(&self) -> u64 {
        self.shared.next.load(Ordering::SeqCst) - 1
    }

    /// What last kept a client from committing.
    pub fn last_error(&self) -> String {
        self.shared.book().last_error.clone()
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn work(&self, server: &dyn Server) {
        while !self.stopped() {
            let ended = match server.connect() {
                Ok(mut session) => self.serve(&mut *session),
                Err(error) => error,
            };
            self.book().last_error = ended;
            std::thread::sleep(AGAIN);
        }
    }

    /// Commits until the session breaks, and tells how.
    fn serve(&self, session: &mut dyn Session) -> String {
        while !self.stopped() {
            let n = self.next.fetch_add(1, Ordering::SeqCst);
            let sent_us = now_us();
            if let Err(error) = session.commit(n) {
                return error;
            }
            let ack = Ack {
                n,
                node: Arc::clone(session.node()),
                sent_us,
                acknowledged_us: now_us(),
            };
            let mut book = self.book();
            let line = format!("{n} {} {} {}\n", ack.node, ack.sent_us, ack.acknowledged_us);
            if let Err(error) = book.file.write_all(line.as_bytes()) {
                return format!("the ledger cannot be written: {error}");
            }
            book.acks.push(ack);
            drop(book);
            std::thread::sleep(PACE);
        }
        "stopped".to_owned()
    }
}
