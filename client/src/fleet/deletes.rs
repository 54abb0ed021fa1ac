//! Deletes that may not have reached their node. Before the node is trusted again they are
//! made once more, so that no key comes back that somebody was told is gone.
//!
//! Where a slot is another node's from some time on, so is what is owed of it: what the first one has
//! may be copied to the second.
//!
//! They are bounded. Where one finds no room, what the node holds of its slot cannot be trusted any
//! more: the slot is emptied when the node is back.

use std::collections::{BTreeMap, BTreeSet};

use corelane_ring::{Slot, slot_of};

use crate::limits::{DELETES_BYTES_MAX, DELETES_MAX};

/// What a node is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// That this key is removed.
    Key(Box<[u8]>),
    /// That everything of this slot is.
    Slot(Slot),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Deletes {
    /// None of a slot that is owed as a whole.
    keys: BTreeMap<Slot, BTreeSet<Box<[u8]>>>,
    count: usize,
    bytes: usize,
    slots: BTreeSet<Slot>,
}

impl Owed {
    pub(crate) fn slot(&self) -> Slot {
        match self {
            Owed::Key(key) => slot_of(key),
            Owed::Slot(slot) => *slot,
        }
    }
}

impl Deletes {
    /// Remembers what another node was owed.
    pub(crate) fn take_over(&mut self, owed: &Owed) {
        match owed {
            Owed::Key(key) => self.remember(key),
            Owed::Slot(slot) => self.remember_slot(*slot),
        }
    }

    /// Remembers a key, or where there is no room for it its slot.
    pub(crate) fn remember(&mut self, key: &[u8]) {
        let slot = slot_of(key);
        let is_owed = |keys: &BTreeSet<Box<[u8]>>| keys.contains(key);
        if self.slots.contains(&slot) || self.keys.get(&slot).is_some_and(is_owed) {
            return;
        }
        if self.count < DELETES_MAX && self.bytes + key.len() <= DELETES_BYTES_MAX {
            self.count += 1;
            self.bytes += key.len();
            self.keys.entry(slot).or_default().insert(key.into());
            return;
        }
        self.remember_slot(slot);
    }

    fn remember_slot(&mut self, slot: Slot) {
        self.slots.insert(slot);
        for key in self.keys.remove(&slot).unwrap_or_default() {
            self.count -= 1;
            self.bytes -= key.len();
        }
    }

    /// Whether nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.slots.is_empty()
    }

    /// How many deletes there are; all that the node holds of a slot counts as one.
    pub(crate) fn len(&self) -> usize {
        self.count + self.slots.len()
    }

    /// Some of what is owed. It stays owed until [`Deletes::paid`].
    pub(crate) fn some(&self, count: usize) -> Vec<Owed> {
        let keys = self.keys.values().flatten().cloned().map(Owed::Key);
        let slots = self.slots.iter().copied().map(Owed::Slot);
        slots.chain(keys).take(count).collect()
    }

    /// It is done.
    pub(crate) fn paid(&mut self, owed: &Owed) {
        match owed {
            Owed::Key(key) => {
                let slot = slot_of(key);
                let Some(keys) = self.keys.get_mut(&slot) else { return };
                if keys.remove(key) {
                    self.count -= 1;
                    self.bytes -= key.len();
                }
                if keys.is_empty() {
                    self.keys.remove(&slot);
                }
            }
            Owed::Slot(slot) => {
                self.slots.remove(slot);
            }
        }
    }
}

/// A key of a slot, whatever it is: one in 16,384 is.
pub(crate) fn key_of(slot: Slot) -> Vec<u8> {
    let mut keys = (0u64..).map(|number| number.to_string().into_bytes());
    keys.find(|key| slot_of(key) == slot).expect("numbers are spread over all slots")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pay_all(deletes: &mut Deletes) {
        while let Some(owed) = deletes.some(1).pop() {
            deletes.paid(&owed);
            deletes.paid(&owed);
        }
        assert!(deletes.is_empty());
        assert_eq!((deletes.len(), deletes.bytes), (0, 0));
    }

    #[test]
    fn keys_are_remembered_once_and_paid_once() {
        let mut deletes = Deletes::default();
        for key in [b"a", b"b", b"a"] {
            deletes.remember(key);
        }
        assert_eq!((deletes.len(), deletes.bytes), (2, 2));
        pay_all(&mut deletes);
    }

    fn check(keys: impl Iterator<Item = Vec<u8>>, room: usize) {
        let mut deletes = Deletes::default();
        let keys: Vec<Vec<u8>> = keys.collect();
        keys.iter().for_each(|key| deletes.remember(key));
        assert!(deletes.bytes <= DELETES_BYTES_MAX && deletes.count <= room);
        assert!((1..=keys.len() - room).contains(&deletes.slots.len()));
        let owed: Vec<Owed> = deletes.some(usize::MAX);
        assert_eq!(owed.len(), deletes.len());
        let alone: BTreeSet<&[u8]> = owed
            .iter()
            .filter_map(|owed| match owed {
                Owed::Key(key) => Some(&key[..]),
                Owed::Slot(_) => None,
            })
            .collect();
        for key in &keys {
            let with_slot = deletes.slots.contains(&slot_of(key));
            assert_ne!(alone.contains(&key[..]), with_slot, "each is owed in one way");
        }
        pay_all(&mut deletes);
    }

    #[test]
    fn where_there_is_no_room_the_slot_is_owed() {
        let number = |key: usize| key.to_string().into_bytes();
        check((0..DELETES_MAX + 3).map(number), DELETES_MAX);
        let long = vec![b'x'; 16_000];
        let number = |key: u32| [&long[..], &key.to_le_bytes()].concat();
        check((0..264u32).map(number), DELETES_BYTES_MAX / 16_004);
    }

    #[test]
    fn every_slot_has_a_key() {
        for slot in [Slot::LAST, Slot::new(0).unwrap(), Slot::new(7_777).unwrap()] {
            assert_eq!(slot_of(&key_of(slot)), slot);
        }
    }
}
