//! Files on one copy of a mirror, to be compared with those on the other.

use serde::{Deserialize, Serialize};

/// Longest page, as JSON: it goes from node to node in one frame.
pub const PAGE_LIMIT: usize = 256 * 1024;

/// A part of a list that the daemon keeps for a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub list: u64,
    /// Of its first entry.
    pub from: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FilesView {
    /// In words: the mounted filesystem, or a snapshot of the copy.
    pub source: String,
    /// Each directory before what is in it, names in the order of their bytes: as paths are compared part
    /// by part.
    pub entries: Vec<FileView>,
    /// `None`: this was the last page.
    pub next: Option<Page>,
    /// Why the list ends before everything was looked at: nothing is known of what comes after its last
    /// entry.
    pub cut: Option<String>,
    /// Directories that could not be read.
    pub unreadable: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// Below the root of the filesystem; bytes that are no text as `\\xNN`.
    pub path: String,
    pub kind: FileKind,
    /// In bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970 by the writing node's clock.
    pub modified_ns: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    File,
    Directory,
    Link,
    /// Sockets, pipes, devices.
    Other,
}
