//! Deletes that may not have reached their node. Before the node is trusted again they are
//! made once more, so that no key comes back that somebody was told is gone.
//!
//! They are bounded. A slot whose keys find no room is remembered instead of them: all that
//! the node holds of it is dropped when it is back.

use std::collections::HashSet;

use corelane_ring::{Slot, slot_of};

use crate::limits::{DELETES_BYTES_MAX, DELETES_MAX};

/// What a node is owed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owed {
    /// That this key is removed.
    Key(Box<[u8]>),
    /// That everything of this slot is.
    Slot(Slot),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Deletes {
    keys: HashSet<Box<[u8]>>,
    bytes: usize,
    slots: HashSet<Slot>,
}

impl Deletes {
    /// Remembers a key, or its slot.
    pub(crate) fn remember(&mut self, key: &[u8]) {
        let slot = slot_of(key);
        if self.slots.contains(&slot) || self.keys.contains(key) {
            return;
        }
        if self.keys.len() < DELETES_MAX && self.bytes + key.len() <= DELETES_BYTES_MAX {
            self.bytes += key.len();
            self.keys.insert(key.into());
        } else {
            self.slots.insert(slot);
        }
    }

    /// Whether nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.slots.is_empty()
    }

    /// How many keys and slots there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len() + self.slots.len()
    }

    /// Some of what is owed. It stays owed until [`Deletes::paid`].
    pub(crate) fn some(&self, count: usize) -> Vec<Owed> {
        let keys = self.keys.iter().cloned().map(Owed::Key);
        keys.chain(self.slots.iter().copied().map(Owed::Slot)).take(count).collect()
    }

    /// It is done.
    pub(crate) fn paid(&mut self, owed: &Owed) {
        match owed {
            Owed::Key(key) => {
                if self.keys.remove(key) {
                    self.bytes -= key.len();
                }
            }
            Owed::Slot(slot) => {
                self.slots.remove(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_remembered_once_and_paid_once() {
        let mut deletes = Deletes::default();
        for key in [b"a", b"b", b"a"] {
            deletes.remember(key);
        }
        assert_eq!((deletes.len(), deletes.bytes), (2, 2));
        while let Some(owed) = deletes.some(1).pop() {
            deletes.paid(&owed);
            deletes.paid(&owed);
        }
        assert!(deletes.is_empty());
        assert_eq!(deletes.bytes, 0);
    }

    #[test]
    fn what_finds_no_room_is_remembered_by_slot() {
        let mut deletes = Deletes::default();
        let keys: Vec<String> = (0..DELETES_MAX + 100).map(|key| format!("key {key}")).collect();
        for key in &keys {
            deletes.remember(key.as_bytes());
        }
        let owed: HashSet<Owed> = deletes.some(usize::MAX).into_iter().collect();
        for key in &keys {
            let slot = Owed::Slot(slot_of(key.as_bytes()));
            let key = Owed::Key(key.as_bytes().into());
            assert!(owed.contains(&key) || owed.contains(&slot), "{key:?}");
        }
        assert_eq!(deletes.keys.len(), DELETES_MAX);

        let mut long = Deletes::default();
        let key = vec![b'x'; 16_384];
        for byte in 0..=255u8 {
            for more in 0..=1 {
                long.remember(&[key.as_slice(), &[byte, more]].concat());
            }
        }
        assert!(long.bytes <= DELETES_BYTES_MAX);
        assert_ne!(long.slots.len(), 0);
    }
}
