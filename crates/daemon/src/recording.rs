//! What the deciding core heard and did since the daemon started, for `hotpair replay`.

use crate::paths::Paths;
use hotpair_core::node::{Action, Durable, Identity, Input};
use hotpair_core::time::Now;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;

/// The file ends at this size: a recording has a beginning, so the newest is left out, not the oldest.
/// It must fit in one answer of the API.
const LIMIT: usize = 3 * 1024 * 1024;

/// A recording under way, in the run directory.
pub struct Recording {
    path: PathBuf,
    file: File,
    head: Value,
    written: usize,
}

impl Recording {
    /// Begins one if the environment asks for it by `HOTPAIR_RECORD=1`.
    pub fn wanted(
        paths: &Paths,
        identity: &Identity,
        durable: Option<&Durable>,
        started: Now,
    ) -> Option<Self> {
        std::env::var_os("HOTPAIR_RECORD").filter(|value| value == "1")?;
        let path = paths.run.join("recording.jsonl");
        let file = File::create(&path).ok()?;
        let head = json!({ "identity": identity, "durable": durable, "started": started });
        Some(Self {
            path,
            file,
            head,
            written: 0,
        })
    }

    /// Adds what was heard and what was done.
    pub fn add(&mut self, now: Now, input: &Input, actions: &[Action]) {
        if self.written >= LIMIT {
            return;
        }
        let Ok(mut line) =
            serde_json::to_vec(&json!({ "now": now, "input": input, "actions": actions }))
        else {
            return;
        };
        line.push(b'\n');
        self.written += line.len();
        if self.written < LIMIT && self.file.write_all(&line).is_err() {
            self.written = LIMIT;
        }
    }

    /// The whole recording.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> io::Result<Value> {
        let mut entries = Vec::new();
        for line in BufReader::new(File::open(&self.path)?).lines() {
            entries.push(serde_json::from_str::<Value>(&line?)?);
        }
        let mut whole = self.head.clone();
        if let Some(whole) = whole.as_object_mut() {
            whole.insert("entries".into(), Value::Array(entries));
        }
        Ok(whole)
    }
}
