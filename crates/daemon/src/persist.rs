//! Durable writes on a thread of their own, so that a slow disk does not hold up decisions.

use crate::store;
use hotpair_core::node::{Durable, PersistId};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::sync::mpsc;

/// A write that failed is tried again this often; until then nothing that rests on it is said.
const RETRY: Duration = Duration::from_millis(500);

/// What the thread has to say.
#[derive(Debug)]
pub enum Written {
    /// This write and all before it are on disk.
    UpTo(PersistId),
    /// The disk refuses; it will be tried again.
    Failing(String),
}

/// Writes the agreement's state to `path` in the order asked for; of several waiting writes only
/// the newest is made, since each holds everything.
#[must_use]
pub fn start(
    path: PathBuf,
    told: mpsc::UnboundedSender<Written>,
) -> Sender<(PersistId, Box<Durable>)> {
    let (sender, receiver) = channel();
    // Without this thread nothing would ever become durable, so nothing would be decided.
    let _ = std::thread::Builder::new()
        .name("persist".into())
        .spawn(move || write_for_ever(&path, &receiver, &told));
    sender
}

fn write_for_ever(
    path: &std::path::Path,
    receiver: &Receiver<(PersistId, Box<Durable>)>,
    told: &mpsc::UnboundedSender<Written>,
) {
    while let Ok(mut newest) = receiver.recv() {
        newest = receiver.try_iter().last().unwrap_or(newest);
        let mut failing = false;
        while let Err(error) = store::write_state(path, &newest.1) {
            if !failing {
                failing = true;
                let _ = told.send(Written::Failing(error.to_string()));
            }
            std::thread::sleep(RETRY);
            newest = receiver.try_iter().last().unwrap_or(newest);
        }
        if told.send(Written::UpTo(newest.0)).is_err() {
            return;
        }
    }
}
