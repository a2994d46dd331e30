//! Encoding and decoding of netlink messages and attributes.
//!
//! ```text
//! message    length u32 | type u16 | flags u16 | sequence u32 | port u32 | payload
//! attribute  length u16 | type u16 | payload, padded to 4 bytes
//! ```
//! Integers are in host order unless a family says otherwise. Decoding stops
//! at the first length that does not fit; it never panics.

/// Bytes of a message header.
const HEADER: usize = 16;
/// Bytes of an attribute header.
const ATTRIBUTE_HEADER: usize = 4;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are not flags.
const TYPE_MASK: u16 = 0x3fff;

/// One or more netlink messages under construction.
#[derive(Debug, Default)]
pub(in crate::net) struct Builder {
    bytes: Vec<u8>,
    message_start: usize,
}

/// The place of an open nested attribute.
#[must_use]
pub(in crate::net) struct Nest(usize);

impl Builder {
    /// Starts a message; an earlier one in the same builder is closed.
    pub fn message(&mut self, kind: u16, flags: u16, sequence: u32) -> &mut Self {
        self.message_start = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.close()
    }

    /// Appends the family's fixed header.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self.close()
    }

    /// Appends an attribute.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let length = u16::try_from(ATTRIBUTE_HEADER + payload.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
        self.close()
    }

    /// Appends a string attribute with its closing zero byte.
    pub fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        let mut payload = text.as_bytes().to_vec();
        payload.push(0);
        self.attribute(kind, &payload)
    }

    /// Opens a nested attribute; close it with [`Builder::end`].
    pub fn nest(&mut self, kind: u16) -> Nest {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        Nest(start)
    }

    /// Closes a nested attribute.
    pub fn end(&mut self, nest: Nest) -> &mut Self {
        let length = u16::try_from(self.bytes.len() - nest.0).unwrap_or(u16::MAX);
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&length.to_ne_bytes());
        self.close()
    }

    /// The bytes of all messages.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn close(&mut self) -> &mut Self {
        let length = u32::try_from(self.bytes.len() - self.message_start).unwrap_or(u32::MAX);
        let start = self.message_start;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// One received message.
#[derive(Debug, Clone, Copy)]
pub(in crate::net) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// Walks over the messages of a datagram.
pub(in crate::net) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let whole = bytes.get(..length).filter(|m| m.len() >= HEADER)?;
        let message = Message {
            kind: u16_at(whole, 4)?,
            flags: u16_at(whole, 6)?,
            sequence: u32_at(whole, 8)?,
            payload: &whole[HEADER..],
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

/// Walks over attributes: type without flags, payload.
pub(in crate::net) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let whole = bytes
            .get(..length)
            .filter(|a| a.len() >= ATTRIBUTE_HEADER)?;
        let kind = u16_at(whole, 2)? & TYPE_MASK;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, &whole[ATTRIBUTE_HEADER..]))
    })
}

/// The attribute of a type, if there is one.
pub(in crate::net) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, p)| p)
}

pub(in crate::net) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let slice = bytes.get(offset..offset.checked_add(2)?)?;
    slice.try_into().ok().map(u16::from_ne_bytes)
}

pub(in crate::net) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let slice = bytes.get(offset..offset.checked_add(4)?)?;
    slice.try_into().ok().map(u32::from_ne_bytes)
}

/// A string without its closing zero byte.
pub(in crate::net) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_builds() {
        let mut builder = Builder::default();
        builder.message(7, 3, 9).raw(&[1, 2, 3, 4]);
        let nest = builder.nest(5);
        builder.text(1, "abc").end(nest);
        builder.message(8, 0, 10).attribute(2, &[9]);

        let read: Vec<_> = messages(builder.bytes()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (7, 3, 9));
        let inner = attribute(&read[0].payload[4..], 5).unwrap();
        assert_eq!(text(attribute(inner, 1).unwrap()), "abc");
        assert_eq!(attribute(read[1].payload, 2), Some(&[9u8][..]));
    }

    #[test]
    fn stops_at_lengths_that_do_not_fit() {
        for length in [0u32, 3, 15, 17, 4096, u32::MAX] {
            let mut bytes = vec![0u8; 16];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(messages(&bytes).count(), 0, "length {length}");
        }
        for length in [0u16, 3, 9, u16::MAX] {
            let mut bytes = vec![0u8; 8];
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(attributes(&bytes).count(), 0, "length {length}");
        }
    }
}
