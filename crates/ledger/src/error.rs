//! What can go wrong in a scene.

use std::path::PathBuf;

/// Why a scene cannot go on, or what it has found.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Lab(#[from] hotpair_lab::LabError),
    #[error("{what}: {said}")]
    Command { what: String, said: String },
    #[error("{what} does not happen within {limit_s} s: {last}")]
    Late {
        what: String,
        limit_s: u64,
        last: String,
    },
    #[error("{what}: {source}")]
    File {
        what: String,
        source: std::io::Error,
    },
    /// A promise of the product is broken.
    #[error("{0}")]
    Broken(String),
    #[error("{problem}; the evidence is in {}", at.display())]
    Kept {
        problem: Box<LedgerError>,
        at: PathBuf,
    },
}

pub type Result<T> = std::result::Result<T, LedgerError>;
