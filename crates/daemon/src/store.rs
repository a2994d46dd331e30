//! What a member keeps on disk: who it is, its keys, and the agreement's state.

use crate::paths::Paths;
use hotpair_core::ids::{HostBoot, MemberId};
use hotpair_core::node::Durable;
use hotpair_host::clock::{self, BootId, BootIdError};
use hotpair_host::durable::{
    FileError, Format, ReadError, read_checked, write_atomic, write_checked,
};
use hotpair_wire::codec;
use hotpair_wire::pki::{ClusterCa, Identity, PkiError};
use hotpair_wire::seal::{Keyring, SealKey};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const STATE: Format = Format {
    magic: *b"hpstate\0",
    version: 1,
};
const KEYS: Format = Format {
    magic: *b"hpkeys\0\0",
    version: 1,
};
const BOOT: Format = Format {
    magic: *b"hpboot\0\0",
    version: 1,
};
/// A document of 64 KiB and what goes with it.
const STATE_LIMIT: usize = 256 * 1024;

/// Why a member's files could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "this node has not joined a cluster yet ({0} is missing): run `hotpair init` on the first node or `hotpair join TOKEN` on another"
    )]
    NotJoined(PathBuf),
    #[error(
        "this node belongs to a cluster already ({0} exists): run `hotpair wipe` first if it shall join another"
    )]
    Joined(PathBuf),
    #[error(
        "{path} cannot be understood ({source}): it was written by another version, or damaged"
    )]
    Foreign {
        path: PathBuf,
        source: codec::DecodeError,
    },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] FileError),
    #[error("keys in {path}: {source}")]
    Keys { path: PathBuf, source: PkiError },
    #[error(transparent)]
    Boot(#[from] BootIdError),
    #[error("no random numbers are to be had from the kernel")]
    Random,
}

/// A member's secrets: its certificate, the heartbeat key, and on nodes the cluster's authority.
#[derive(Clone, Serialize, Deserialize)]
pub struct Keys {
    pub member: MemberId,
    pub certificates: String,
    pub key: String,
    /// Certificate and key of the cluster CA; a witness has none.
    pub authority: Option<(String, String)>,
    pub heartbeat_key_id: u8,
    pub heartbeat_key: SealKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({}, secret)", self.member)
    }
}

impl Keys {
    /// The identity for TLS.
    ///
    /// # Errors
    /// The stored certificate or key is damaged.
    pub fn identity(&self) -> Result<Identity, PkiError> {
        Identity::from_pem(&self.certificates, &self.key)
    }

    /// The cluster's authority, if this member keeps it.
    ///
    /// # Errors
    /// The stored certificate or key is damaged.
    pub fn authority(&self) -> Result<Option<ClusterCa>, PkiError> {
        let Some((certificate, key)) = &self.authority else {
            return Ok(None);
        };
        ClusterCa::from_pem(certificate, key).map(Some)
    }

    /// The keys heartbeats are sealed with.
    #[must_use]
    pub fn keyring(&self, cluster: hotpair_wire::ClusterId) -> Keyring {
        Keyring::new(cluster, self.heartbeat_key_id, self.heartbeat_key.clone())
    }
}

fn read<T: serde::de::DeserializeOwned>(
    path: &Path,
    format: Format,
    limit: usize,
) -> Result<Option<T>, StoreError> {
    let Some(bytes) = read_checked(path, format, limit)? else {
        return Ok(None);
    };
    codec::decode(&bytes)
        .map(Some)
        .map_err(|source| StoreError::Foreign {
            path: path.to_owned(),
            source,
        })
}

/// Reads the agreement's state; `None` before the member joined.
///
/// # Errors
/// The file is damaged or foreign.
pub fn read_state(path: &Path) -> Result<Option<Durable>, StoreError> {
    read(path, STATE, STATE_LIMIT)
}

/// Writes the agreement's state whole; the file is the old or the new one, never torn.
///
/// # Errors
/// The disk is full, read-only or failing.
pub fn write_state(path: &Path, state: &Durable) -> Result<(), StoreError> {
    Ok(write_checked(path, STATE, &codec::encode(state))?)
}

/// Reads a member's secrets.
///
/// # Errors
/// The member has not joined, or the file is damaged.
pub fn read_keys(paths: &Paths) -> Result<Keys, StoreError> {
    let path = paths.lib.join("keys");
    read(&path, KEYS, STATE_LIMIT)?.ok_or(StoreError::NotJoined(path))
}

/// Makes this node a member: secrets first, then the document it starts with.
///
/// # Errors
/// It is a member already, or the files cannot be written.
pub fn enrol(paths: &Paths, keys: &Keys, state: &Durable) -> Result<(), StoreError> {
    let path = paths.lib.join("keys");
    if path.exists() {
        return Err(StoreError::Joined(path));
    }
    write_state(&paths.state(), state)?;
    Ok(write_checked(&path, KEYS, &codec::encode(keys))?)
}

/// Has this node joined a cluster?
#[must_use]
pub fn enrolled(paths: &Paths) -> bool {
    paths.lib.join("keys").exists()
}

#[derive(Serialize, Deserialize)]
struct Boot {
    kernel: [u8; 16],
    host: HostBoot,
}

/// This boot of the host: the same for every process until the kernel starts anew, then greater.
///
/// # Errors
/// The kernel's boot id or the counter's file cannot be read or written.
pub fn host_boot(paths: &Paths) -> Result<(HostBoot, BootId), StoreError> {
    let kernel = clock::boot_id(None)?;
    let path = paths.lib.join("boot");
    let before: Option<Boot> = read(&path, BOOT, 1024)?;
    if let Some(before) = &before
        && before.kernel == kernel.0
    {
        return Ok((before.host, kernel));
    }
    let counter = before.map_or(0, |before| before.host.0 >> 32) + 1;
    let random = random_u64()? & 0xffff_ffff;
    let host = HostBoot(counter << 32 | random);
    let bytes = codec::encode(&Boot {
        kernel: kernel.0,
        host,
    });
    write_checked(&path, BOOT, &bytes)?;
    Ok((host, kernel))
}

/// A random number from the kernel.
///
/// # Errors
/// The kernel has none.
pub fn random_u64() -> Result<u64, StoreError> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 8];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StoreError::Random)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes a small text or JSON file atomically.
///
/// # Errors
/// The disk is full, read-only or failing.
pub fn write_text(path: &Path, text: &str) -> Result<(), StoreError> {
    Ok(write_atomic(path, text.as_bytes())?)
}
