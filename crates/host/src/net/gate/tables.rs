//! Who owns the gate's tables.
//!
//! ```text
//!              NEW_TABLE persist          NEW_TABLE owner, persist
//!   no table ───────────────────> orphan ─────────────────────────> owned
//!                                   ^                                 │
//!                                   └──── the owner's socket closes ──┘
//! ```
//! An owned table can be changed through its owner's socket only, and a `flush ruleset` of others passes
//! it over. `persist` (Linux 6.9) keeps it, without an owner, when that socket is closed: the flag
//! `owner` alone (5.12) would have the kernel delete the gate with the guard. An orphan can be filled by
//! `nft` and adopted by the next guard, and also be flushed away by anybody.

use std::io;

use super::elements::{ARP, BATCH_BEGIN, BATCH_END, INET, SUBSYSTEM, family_header};
use crate::net::netlink::connection::{ACK, CREATE, Connection, REQUEST};
use crate::net::netlink::message::Builder;

const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const OWNER: u32 = 2;
const PERSIST: u32 = 4;

/// Makes both tables, or finds them as orphans: ready to be filled and adopted.
///
/// `EOPNOTSUPP`: the kernel is too old, or somebody made the tables otherwise. `EPERM`: another socket
/// owns them.
pub(super) fn make_orphans(connection: &mut Connection, name: &str) -> io::Result<()> {
    both(connection, NEW_TABLE, name, Some(PERSIST))
}

/// Takes both orphans over.
pub(super) fn adopt(connection: &mut Connection, name: &str) -> io::Result<()> {
    both(connection, NEW_TABLE, name, Some(OWNER | PERSIST))
}

/// Deletes both tables of the name.
pub(super) fn delete(connection: &mut Connection, name: &str) -> io::Result<()> {
    both(connection, DELETE_TABLE, name, None)
}

/// One message for each family, in one transaction.
fn both(connection: &mut Connection, kind: u16, name: &str, flags: Option<u32>) -> io::Result<()> {
    let numbers = connection.sequences(4);
    let (begin, end) = (*numbers.start(), *numbers.end());
    let mut builder = Builder::default();
    builder
        .message(BATCH_BEGIN, REQUEST, begin)
        .raw(&family_header(0, SUBSYSTEM));
    for (family, number) in [INET, ARP].into_iter().zip(begin + 1..end) {
        let create = if kind == NEW_TABLE { CREATE } else { 0 };
        let last = if number + 1 == end { ACK } else { 0 };
        builder
            .message(kind, REQUEST | create | last, number)
            .raw(&family_header(family, 0))
            .text(TABLE_NAME, name);
        if let Some(flags) = flags {
            builder.attribute(TABLE_FLAGS, &flags.to_be_bytes());
        }
    }
    builder
        .message(BATCH_END, REQUEST, end)
        .raw(&family_header(0, SUBSYSTEM));
    connection.exchange(builder.bytes(), begin..=end - 1, |_| {})
}
