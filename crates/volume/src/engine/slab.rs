//! A table whose entries keep their number, and whose numbers are used again with another stamp.

/// Entries by key. A key of an entry that was removed finds nothing, even if its place is used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Option<(u32, T)>>,
    free: Vec<u32>,
    stamp: u32,
    count: usize,
}

/// Place in the lower half, stamp in the upper.
pub(super) type Key = u64;

fn place(key: Key) -> usize {
    (key & 0xffff_ffff) as usize
}

fn stamp(key: Key) -> u32 {
    u32::try_from(key >> 32).unwrap_or(0)
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            stamp: 0,
            count: 0,
        }
    }

    pub(super) fn insert(&mut self, entry: T) -> Key {
        // Stamps begin at 1: no key is 0.
        self.stamp = self.stamp.wrapping_add(1).max(1);
        self.count += 1;
        let filled = Some((self.stamp, entry));
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = filled;
                at
            }
            None => {
                self.entries.push(filled);
                u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
            }
        };
        Key::from(at) | Key::from(self.stamp) << 32
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        match self.entries.get(place(key)) {
            Some(Some((found, entry))) if *found == stamp(key) => Some(entry),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(place(key)) {
            Some(Some((found, entry))) if *found == stamp(key) => Some(entry),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.entries.get_mut(place(key))?;
        if slot.as_ref()?.0 != stamp(key) {
            return None;
        }
        self.free.push(u32::try_from(place(key)).unwrap_or(0));
        self.count -= 1;
        slot.take().map(|(_, entry)| entry)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().enumerate().filter_map(|(at, slot)| {
            let (stamp, entry) = slot.as_ref()?;
            Some((at as Key | Key::from(*stamp) << 32, entry))
        })
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// Removes all.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let keys = self.keys();
        keys.into_iter()
            .filter_map(|key| self.remove(key))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_entry_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(place(first), place(second));
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&'b'));
        assert_eq!(slab.len(), 1);
    }
}
