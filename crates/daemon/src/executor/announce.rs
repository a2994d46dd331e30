//! Announcements of an address, repeated for neighbours that missed the first one.

use super::slot::Key;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// When an announcement is repeated, after the first one.
const REPEATS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(2_000),
];

/// An announcement that is later than this is left out: this process, or the host, stood still
/// meanwhile, and the address may be somebody else's by now.
const LATE: Duration = Duration::from_millis(100);

/// How often the thread looks up when there is nothing to do.
const IDLE: Duration = Duration::from_secs(3600);

/// A thread that repeats announcements; it ends when this is dropped.
pub(super) struct Announcements(Sender<(Key, u64)>);

impl Announcements {
    /// Calls `announce` with the resource and the serial number it was placed under.
    pub(super) fn start(announce: impl Fn(&Key, u64) + Send + 'static) -> std::io::Result<Self> {
        let (sender, asked) = mpsc::channel::<(Key, u64)>();
        std::thread::Builder::new()
            .name("announce".into())
            .stack_size(256 << 10)
            .spawn(move || {
                // By the latest serial of each resource: the earlier ones are void.
                let mut due: BTreeMap<(Instant, u64), Key> = BTreeMap::new();
                loop {
                    let now = Instant::now();
                    let next = due.keys().next().map(|(at, _)| *at);
                    let wait = next.map_or(IDLE, |at| at.saturating_duration_since(now));
                    match asked.recv_timeout(wait) {
                        Ok((key, serial)) => {
                            let now = Instant::now();
                            due.extend(REPEATS.map(|after| ((now + after, serial), key.clone())));
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                    while let Some(entry) = due.first_entry()
                        && entry.key().0 <= Instant::now()
                    {
                        let ((at, serial), key) = entry.remove_entry();
                        if at.elapsed() <= LATE {
                            announce(&key, serial);
                        }
                    }
                }
            })?;
        Ok(Self(sender))
    }

    /// Announces again, 100 ms, 500 ms and 2 s from now.
    pub(super) fn repeat(&self, key: &Key, serial: u64) {
        // The thread lives as long as the sender.
        let _ = self.0.send((key.clone(), serial));
    }
}
