//! Identifiers and counters. Each is its own type, so that one cannot be taken for another.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A member of the cluster: a node, or a witness host.
///
/// Numbered from 1; given out by the leader when the member joins and never used again for another
/// machine in the life of the cluster. Zero is never a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId(pub u8);

/// Identity of a cluster: a random number made by `init`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct ClusterId(pub u64);

/// A group, by its name (unique in the cluster).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct GroupId(pub String);

/// A resource, by its name (unique in its group).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct ResourceId(pub String);

/// Counter of leaderships, as in Raft: at most one leader per term.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct Term(pub u64);

/// Version of the cluster document: the term of the leader that wrote it, and its number.
///
/// Ordered by term, then index. A version names one document only. Of two versions the newer
/// includes the older one **if the older one was committed**; two uncommitted ones need not
/// include each other.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct Version {
    pub term: Term,
    pub index: u64,
}

/// Counter of holders of one group: each time a group is given to a node, the epoch rises.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct Epoch(pub u64);

/// One boot of a host: durable counter in the upper 32 bits, random number in the lower 32.
///
/// Only the end of a host boot ends promises and leases; a restarted daemon has the same one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct HostBoot(pub u64);

/// One run of the daemon (or guard) on a host boot; later runs have greater numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash)]
pub struct Incarnation(pub u64);

impl Version {
    /// Older than every document.
    pub const ZERO: Self = Self {
        term: Term(0),
        index: 0,
    };

    /// Version `index` of `term`.
    #[must_use]
    pub const fn new(term: u64, index: u64) -> Self {
        Self {
            term: Term(term),
            index,
        }
    }
}

impl HostBoot {
    /// No boot: the durable counter of a host starts at 1.
    pub const UNHEARD: Self = Self(0);
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl From<&str> for GroupId {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<&str> for ResourceId {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

macro_rules! shown {
    ($($type:ident $prefix:literal),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )*};
}
shown!(MemberId "m", GroupId "", ResourceId "", Term "t", Epoch "e", Incarnation "i");

macro_rules! shown_in_hex {
    ($($type:ident),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
    )*};
}
shown_in_hex!(ClusterId, HostBoot);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term.0, self.index)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{self}")
    }
}
