//! The event log of this node: a file of JSON lines, the newest entries in memory, and a stream.

use crate::paths::Paths;
use hotpair_api::EventView;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use tokio::sync::broadcast;

/// Entries kept in memory for `hotpair events`.
const KEPT: usize = 2000;
/// The file is turned over at this size; one older file is kept.
const FILE_LIMIT: u64 = 8 * 1024 * 1024;

/// Everything that happened, by this node's account.
pub struct EventLog {
    path: PathBuf,
    file: Option<File>,
    written: u64,
    next: u64,
    kept: VecDeque<EventView>,
    stream: broadcast::Sender<EventView>,
    by: String,
}

impl EventLog {
    /// Opens the log of `paths`, reading what is in it. A log that cannot be written is kept in
    /// memory only.
    #[must_use]
    pub fn open(paths: &Paths, by: &str) -> Self {
        let path = paths.log.join("events.jsonl");
        let mut kept = VecDeque::new();
        if let Ok(file) = File::open(&path) {
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                kept.extend(serde_json::from_str::<EventView>(&line).ok());
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
        }
        let next = kept.back().map_or(1, |last| last.number + 1);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .ok();
        let written = file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |data| data.len());
        Self {
            path,
            file,
            written,
            next,
            kept,
            stream: broadcast::channel(1024).0,
            by: by.to_owned(),
        }
    }

    /// Appends an entry.
    pub fn add(&mut self, level: &str, node: Option<String>, group: Option<String>, text: String) {
        let event = EventView {
            number: self.next,
            time: jiff::Timestamp::now().to_string(),
            level: level.to_owned(),
            by: self.by.clone(),
            node,
            group,
            text,
        };
        self.next += 1;
        self.write(&event);
        let _ = self.stream.send(event.clone());
        self.kept.push_back(event);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }

    fn write(&mut self, event: &EventView) {
        let Ok(mut line) = serde_json::to_vec(event) else {
            return;
        };
        line.push(b'\n');
        if self.written > FILE_LIMIT {
            let _ = std::fs::rename(&self.path, self.path.with_extension("jsonl.1"));
            self.file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)
                .ok();
            self.written = 0;
        }
        if let Some(file) = &mut self.file
            && file.write_all(&line).is_ok()
        {
            self.written += line.len() as u64;
        }
    }

    /// Entries from number `since` on, the newest `last` of them if given.
    #[must_use]
    pub fn since(&self, since: u64, last: Option<usize>) -> Vec<EventView> {
        let wanted: Vec<_> = self
            .kept
            .iter()
            .filter(|event| event.number >= since)
            .cloned()
            .collect();
        let skip = last.map_or(0, |last| wanted.len().saturating_sub(last));
        wanted.into_iter().skip(skip).collect()
    }

    /// Entries as they come.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<EventView> {
        self.stream.subscribe()
    }
}
