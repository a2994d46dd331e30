//! Elements of the gate's sets, changed and read over netfilter's netlink.
//!
//! A change is one batch, which the kernel commits as a whole:
//! ```text
//! BATCH_BEGIN | one message per step and set … | BATCH_END
//! message: family u8, version u8, resource u16 | table | set | elements
//! element: key | timeout u64 in ms
//! ```
//! Integers inside attributes are in network order. Numbers are those of
//! Linux's `nfnetlink.h` and `nf_tables.h`.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::Permission;
use crate::net::netlink::connection::{ACK, CREATE, Connection, DUMP, REQUEST};
use crate::net::netlink::message::{Builder, attribute, attributes};

pub(super) const INET: u8 = 1;
pub(super) const ARP: u8 = 3;
pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 16;
pub(super) const BATCH_END: u16 = 17;
const NEW_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
const GET_ELEMENT: u16 = SUBSYSTEM << 8 | 13;
const DELETE_ELEMENT: u16 = SUBSYSTEM << 8 | 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ITEM: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
const DATA_VALUE: u16 = 1;
/// Elements per message, so that their list stays below 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 512;

/// How long a permission lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    For(Duration),
    Forever,
}

impl Lifetime {
    /// Whole milliseconds, from 1: the kernel takes 0 for "never ends".
    fn milliseconds(self) -> Option<u64> {
        match self {
            Self::For(time) => Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
            Self::Forever => None,
        }
    }
}

/// A set of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set {
    family: u8,
    name: &'static str,
    version: u8,
}

const fn set(family: u8, name: &'static str, version: u8) -> Set {
    Set {
        family,
        name,
        version,
    }
}

const MANAGED: [Set; 3] = [
    set(INET, "managed4", 4),
    set(INET, "managed6", 6),
    set(ARP, "managed4", 4),
];
const PERMITTED: [Set; 3] = [
    set(INET, "permitted4", 4),
    set(INET, "permitted6", 6),
    set(ARP, "permitted4", 4),
];

impl Set {
    fn takes(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self.version == 4)
    }
}

#[derive(Debug)]
struct Step {
    kind: u16,
    set: Set,
    elements: Vec<(IpAddr, Lifetime)>,
}

/// Changes that take effect together.
///
/// A step names an address once at most: deleting it twice is an error.
#[derive(Debug)]
pub(super) struct Batch {
    table: String,
    steps: Vec<Step>,
}

impl Batch {
    pub fn new(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            steps: Vec::new(),
        }
    }

    /// Empties the managed sets and fills them anew.
    pub fn replace_managed(&mut self, addresses: &[IpAddr]) {
        let lasting: Vec<_> = addresses.iter().map(|a| (*a, Lifetime::Forever)).collect();
        for set in MANAGED {
            self.steps.push(Step {
                kind: DELETE_ELEMENT,
                set,
                elements: Vec::new(),
            });
            self.step(NEW_ELEMENT, set, &lasting);
        }
    }

    /// Adds, deletes and adds again: kernels before 6.12 do not change the
    /// timeout of an element that exists.
    pub fn permit(&mut self, addresses: &[(IpAddr, Lifetime)]) {
        for set in PERMITTED {
            for kind in [NEW_ELEMENT, DELETE_ELEMENT, NEW_ELEMENT] {
                self.step(kind, set, addresses);
            }
        }
    }

    /// Adds before it deletes, as deleting what is not there is an error.
    pub fn revoke(&mut self, addresses: &[IpAddr]) {
        let lasting: Vec<_> = addresses.iter().map(|a| (*a, Lifetime::Forever)).collect();
        for set in PERMITTED {
            for kind in [NEW_ELEMENT, DELETE_ELEMENT] {
                self.step(kind, set, &lasting);
            }
        }
    }

    fn step(&mut self, kind: u16, set: Set, addresses: &[(IpAddr, Lifetime)]) {
        let fitting: Vec<_> = addresses.iter().filter(|(a, _)| set.takes(*a)).collect();
        for chunk in fitting.chunks(ELEMENTS_PER_MESSAGE) {
            self.steps.push(Step {
                kind,
                set,
                elements: chunk.iter().map(|entry| **entry).collect(),
            });
        }
    }

    /// Has the kernel commit the batch; a batch without steps does nothing.
    pub fn send(&self, connection: &mut Connection) -> io::Result<()> {
        let Ok(count @ 1..) = u32::try_from(self.steps.len()) else {
            return Ok(());
        };
        let numbers = connection.sequences(count + 2);
        let (begin, end) = (*numbers.start(), *numbers.end());
        let mut builder = Builder::default();
        builder
            .message(BATCH_BEGIN, REQUEST, begin)
            .raw(&family_header(0, SUBSYSTEM));
        for (step, number) in self.steps.iter().zip(begin + 1..end) {
            let last = if number + 1 == end { ACK } else { 0 };
            self.encode(step, REQUEST | CREATE | last, number, &mut builder);
        }
        builder
            .message(BATCH_END, REQUEST, end)
            .raw(&family_header(0, SUBSYSTEM));
        connection.exchange(builder.bytes(), begin..=end - 1, |_| {})
    }

    fn encode(&self, step: &Step, flags: u16, number: u32, builder: &mut Builder) {
        builder
            .message(step.kind, flags, number)
            .raw(&family_header(step.set.family, 0))
            .text(LIST_TABLE, &self.table)
            .text(LIST_SET, step.set.name);
        if step.elements.is_empty() {
            return;
        }
        let list = builder.nest(LIST_ELEMENTS);
        for (address, lifetime) in &step.elements {
            let item = builder.nest(LIST_ITEM);
            let key = builder.nest(ELEMENT_KEY);
            match address {
                IpAddr::V4(v4) => builder.attribute(DATA_VALUE, &v4.octets()),
                IpAddr::V6(v6) => builder.attribute(DATA_VALUE, &v6.octets()),
            };
            builder.end(key);
            if let (NEW_ELEMENT, Some(time)) = (step.kind, lifetime.milliseconds()) {
                builder.attribute(ELEMENT_TIMEOUT, &time.to_be_bytes());
            }
            builder.end(item);
        }
        builder.end(list);
    }
}

/// `struct nfgenmsg`: family, version 0, resource in network order.
pub(super) fn family_header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The permissions in the kernel.
///
/// An IPv4 address counts with the shorter time of its two sets.
pub(super) fn permitted(connection: &mut Connection, table: &str) -> io::Result<Vec<Permission>> {
    let mut found = Vec::new();
    for set in PERMITTED {
        for (address, left) in dump(connection, table, set)? {
            found.push(Permission { address, left });
        }
    }
    found.sort_by_key(|entry| (entry.address, entry.left.unwrap_or(Duration::MAX)));
    found.dedup_by_key(|entry| entry.address);
    Ok(found)
}

/// Whether the managed sets hold exactly these addresses.
pub(super) fn holds_managed(
    connection: &mut Connection,
    table: &str,
    managed: &BTreeSet<IpAddr>,
) -> io::Result<bool> {
    for set in MANAGED {
        let found: BTreeSet<IpAddr> = dump(connection, table, set)?
            .into_iter()
            .map(|(address, _)| address)
            .collect();
        let wanted = managed.iter().copied().filter(|a| set.takes(*a));
        if !found.into_iter().eq(wanted) {
            return Ok(false);
        }
    }
    Ok(true)
}

type Element = (IpAddr, Option<Duration>);

fn dump(connection: &mut Connection, table: &str, set: Set) -> io::Result<Vec<Element>> {
    let build = |sequence| {
        let mut builder = Builder::default();
        builder
            .message(GET_ELEMENT, REQUEST | DUMP | ACK, sequence)
            .raw(&family_header(set.family, 0))
            .text(LIST_TABLE, table)
            .text(LIST_SET, set.name);
        builder.bytes().to_vec()
    };
    let lists = connection.dump(build, |message| {
        let list = attribute(message.payload.get(4..)?, LIST_ELEMENTS)?;
        let items = attributes(list).filter_map(|(_, item)| read_element(item));
        Some(items.collect::<Vec<_>>())
    })?;
    Ok(lists.into_iter().flatten().collect())
}

fn read_element(item: &[u8]) -> Option<Element> {
    let value = attribute(attribute(item, ELEMENT_KEY)?, DATA_VALUE)?;
    let address = match value.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into(),
        _ => return None,
    };
    let left = attribute(item, ELEMENT_EXPIRATION)
        .and_then(|bytes| <[u8; 8]>::try_from(bytes).ok())
        .map(|bytes| Duration::from_millis(u64::from_be_bytes(bytes)));
    Some((address, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_encodes_a_time_as_zero() {
        let tiny = Lifetime::For(Duration::from_micros(1));
        assert_eq!(tiny.milliseconds(), Some(1));
        assert_eq!(Lifetime::For(Duration::ZERO).milliseconds(), Some(1));
        assert_eq!(Lifetime::Forever.milliseconds(), None);
    }

    #[test]
    fn replaces_elements_as_kernels_before_6_12_need_it() {
        let mut batch = Batch::new("t");
        batch.permit(&[("fd01::1".parse().unwrap(), Lifetime::Forever)]);
        let kinds: Vec<u16> = batch.steps.iter().map(|step| step.kind).collect();
        assert_eq!(kinds, [NEW_ELEMENT, DELETE_ELEMENT, NEW_ELEMENT]);
    }

    #[test]
    fn reads_no_element_from_garbage() {
        for length in 0..80 {
            for fill in [0u8, 1, 4, 8, 20, 0xff] {
                assert_eq!(read_element(&vec![fill; length]), None);
            }
        }
    }
}
