//! Deletes that may not have reached their node. Before the node is trusted again they are
//! made once more, so that no key comes back that somebody was told is gone.
//!
//! They are bounded. Where one finds no room, nothing that the node holds can be trusted any
//! more: it is emptied when it is back.

use std::collections::BTreeSet;

use crate::limits::{DELETES_BYTES_MAX, DELETES_MAX};

/// What a node is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// That this key is removed.
    Key(Box<[u8]>),
    /// That everything is.
    Everything,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Deletes {
    keys: BTreeSet<Box<[u8]>>,
    bytes: usize,
    everything: bool,
}

impl Deletes {
    /// Remembers a key, or that there was no room for it.
    pub(crate) fn remember(&mut self, key: &[u8]) {
        if self.everything || self.keys.contains(key) {
            return;
        }
        if self.keys.len() < DELETES_MAX && self.bytes + key.len() <= DELETES_BYTES_MAX {
            self.bytes += key.len();
            self.keys.insert(key.into());
        } else {
            *self = Deletes { everything: true, ..Deletes::default() };
        }
    }

    /// Whether nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.everything
    }

    /// How many deletes there are; all that the node holds counts as one.
    pub(crate) fn len(&self) -> usize {
        self.keys.len() + usize::from(self.everything)
    }

    /// Some of what is owed. It stays owed until [`Deletes::paid`].
    pub(crate) fn some(&self, count: usize) -> Vec<Owed> {
        let keys = self.keys.iter().cloned().map(Owed::Key);
        keys.chain(self.everything.then_some(Owed::Everything)).take(count).collect()
    }

    /// It is done.
    pub(crate) fn paid(&mut self, owed: &Owed) {
        match owed {
            Owed::Key(key) => {
                if self.keys.remove(key) {
                    self.bytes -= key.len();
                }
            }
            Owed::Everything => self.everything = false,
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

    fn check(keys: impl Iterator<Item = Vec<u8>>) {
        let mut deletes = Deletes::default();
        for key in keys {
            deletes.remember(&key);
        }
        assert_eq!(deletes.some(10), [Owed::Everything]);
        assert_eq!((deletes.len(), deletes.bytes), (1, 0));
        deletes.paid(&Owed::Everything);
        assert!(deletes.is_empty());
        deletes.remember(b"again");
        assert_eq!(deletes.some(10), [Owed::Key(b"again".as_slice().into())]);
    }

    #[test]
    fn where_there_is_no_room_everything_is_owed() {
        check((0..=DELETES_MAX).map(|key| key.to_string().into_bytes()));
        let long = vec![b'x'; 16_000];
        check((0..1_000u32).map(|key| [&long[..], &key.to_le_bytes()].concat()));
    }
}
