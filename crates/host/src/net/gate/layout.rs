//! The shape of the gate in the kernel: tables, chains, rules and sets.

use std::io;

use super::elements::{ARP, INET, SUBSYSTEM, family_header};
use crate::net::netlink::connection::{ACK, Connection, DUMP, REQUEST};
use crate::net::netlink::message::{Builder, attribute, attributes, text};

const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const GET_SET: u16 = SUBSYSTEM << 8 | 10;
/// The table's name, in tables, chains, rules and sets alike.
const TABLE: u16 = 1;
/// A table's flags; a dormant table drops nothing.
const TABLE_FLAGS: u16 = 2;
const TABLE_HANDLE: u16 = 4;

/// Everything of the gate but the elements of its sets, as the kernel lists it.
///
/// Two are equal only if nothing was removed, emptied or replaced between
/// them: handles are never used twice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout(Vec<Vec<u8>>);

impl Layout {
    /// Lists the gate of a name; what is gone is simply not in the list.
    pub fn read(connection: &mut Connection, name: &str) -> io::Result<Self> {
        let mut parts = Vec::new();
        for family in [INET, ARP] {
            for kind in [GET_TABLE, GET_CHAIN, GET_RULE] {
                parts.extend(list(connection, kind, family, name)?);
            }
            let sets = list(connection, GET_SET, family, name)?;
            parts.push(sets.len().to_ne_bytes().to_vec());
        }
        Ok(Self(parts))
    }
}

fn list(
    connection: &mut Connection,
    kind: u16,
    family: u8,
    name: &str,
) -> io::Result<Vec<Vec<u8>>> {
    let build = |sequence| {
        let mut builder = Builder::default();
        builder
            .message(kind, REQUEST | DUMP | ACK, sequence)
            .raw(&family_header(family, 0));
        if [GET_RULE, GET_SET].contains(&kind) {
            builder.text(TABLE, name);
        }
        builder.bytes().to_vec()
    };
    connection.dump(build, |message| {
        let content = message.payload.get(4..)?;
        let ours = attribute(content, TABLE).is_some_and(|table| text(table) == name);
        ours.then(|| stable(kind, content))
    })
}

/// The part of an entry that changes only when somebody changes the gate.
fn stable(kind: u16, content: &[u8]) -> Vec<u8> {
    if kind != GET_TABLE {
        return content.to_vec();
    }
    attributes(content)
        .filter(|(attribute, _)| [TABLE, TABLE_FLAGS, TABLE_HANDLE].contains(attribute))
        .flat_map(|(_, payload)| payload.to_vec())
        .collect()
}
