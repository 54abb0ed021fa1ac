//! What the pages and leaves of the shard replace: one allocation an entry behind one big
//! table.

use hashbrown::HashTable;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use crate::keys::KEY_BYTES;

/// The store. An entry is its key with its value behind.
pub(crate) struct Plain {
    table: HashTable<Box<[u8]>>,
    secrets: RapidSecrets,
}

impl Plain {
    /// With nothing in it.
    pub(crate) fn new() -> Self {
        Self { table: HashTable::new(), secrets: RapidSecrets::seed(1) }
    }

    /// The entry of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let hash = rapidhash_v3_seeded(key, &self.secrets);
        self.table.find(hash, |entry| &entry[..KEY_BYTES] == key).map(|entry| &**entry)
    }

    /// Writes an entry, new or over the one that is there.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        let entry = [key, value].concat().into_boxed_slice();
        let hash = rapidhash_v3_seeded(key, &self.secrets);
        match self.table.find_mut(hash, |entry| &entry[..KEY_BYTES] == key) {
            Some(place) => *place = entry,
            None => {
                let secrets = &self.secrets;
                self.table.insert_unique(hash, entry, |entry| {
                    rapidhash_v3_seeded(&entry[..KEY_BYTES], secrets)
                });
            }
        }
    }
}
