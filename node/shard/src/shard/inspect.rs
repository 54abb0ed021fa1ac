//! The walk over everything that must hold between two calls.

use std::collections::{HashMap, HashSet};

use super::Shard;
use crate::class::Kind;
use crate::entry::{Placement, Stored};
use crate::types::{Expiry, Millis, SPACES};

impl Shard {
    /// Checks everything that must hold between two calls. It takes time and memory in
    /// proportion to all that the shard holds; for tests.
    ///
    /// # Panics
    /// Something does not hold.
    pub fn invariants(&self) {
        self.heap.invariants();
        let mut timers: HashMap<u32, Vec<Millis>> = HashMap::new();
        self.wheel.invariants(&self.heap, |mark, fires| {
            timers.entry(mark.0).or_default().push(fires);
        });
        let mut handles = HashSet::new();
        let mut space_items = [0; SPACES as usize];
        let (mut slot_bytes, mut payload, mut large, mut expiring) = (0, 0, 0, 0);
        self.index.invariants(&self.heap, |leaf, word| {
            let handle = word.handle();
            assert!(handles.insert(handle), "LIVE: one word an entry");
            assert!(self.heap.is_live(handle), "LIVE");
            let class = self.heap.class_of(handle);
            assert_eq!(class.kind(), Kind::Entry, "LIVE");
            slot_bytes += class.slot_bytes() as u64;
            let stored = Stored::read(self.heap.rest_of_page(handle));
            assert!(stored.length() <= class.slot_bytes());
            assert_eq!((self.config.slot_of)(stored.key()), leaf.slot, "LIVE");
            let hash = self.hash.hash(stored.space(), stored.key());
            let unknown = 64 - leaf.reference.window().known_bits();
            assert_eq!(leaf.known_hash(word) >> unknown, hash >> unknown, "LIVE");
            let bytes = (stored.key().len() + stored.value_length()) as u64;
            payload += bytes;
            space_items[usize::from(stored.space())] += 1;
            if stored.placement() == Placement::Chunks {
                large += bytes;
            }
            match stored.expiry() {
                Expiry::Never => assert!(!word.expires(), "TIMED"),
                Expiry::At(at) => {
                    expiring += 1;
                    assert!(word.expires(), "TIMED");
                    let fires = timers.get(&leaf.mark(word).0).expect("TIMED: a timer");
                    assert!(
                        fires.iter().any(|fires| word.timer_is_early() || *fires >= at),
                        "TIMED: a timer in time"
                    );
                }
            }
        });
        assert_eq!(slot_bytes, self.heap.slot_bytes_of(Kind::Entry), "COUNTED");
        assert_eq!(payload, self.payload_bytes, "COUNTED");
        assert_eq!(large, self.large_payload_bytes, "COUNTED");
        assert_eq!(expiring, self.expiring, "COUNTED");
        assert_eq!(space_items, self.space_items, "COUNTED");
    }
}
