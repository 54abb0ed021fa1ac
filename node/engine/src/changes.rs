//! The one place through which every change to data passes: set, delete, expiry,
//! eviction, flush. Replication, the journal and invalidation will listen here; a change
//! that bypassed it would bring dead keys back on a replica. The keys that transactions depend
//! on are listened to already, and what is written to slots that came a short time ago.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use corelane_protocol::Version;
use corelane_ring::Slot;
use corelane_shard::{Cause, Change, Changes};

use crate::limits::WATCHED_KEYS_MAX;
use crate::new_slots::NewSlots;

/// Tells watched keys and new slots of their changes; nobody else listens yet.
#[derive(Debug, Default)]
pub(crate) struct ChangeStream {
    pub(crate) watched: WatchedKeys,
    /// Slots that came a short time ago.
    pub(crate) new_slots: Option<Box<NewSlots>>,
}

impl Changes for ChangeStream {
    #[inline]
    fn changed(&mut self, change: &Change<'_>) {
        if !self.watched.keys.is_empty() {
            self.watched.changed(change);
        }
        if let Some(new_slots) = &mut self.new_slots {
            changed_meanwhile(new_slots, change);
        }
    }

    fn flushed(&mut self) {
        self.watched.flushed();
        self.new_slots = None;
    }
}

#[cold]
fn changed_meanwhile(new_slots: &mut NewSlots, change: &Change<'_>) {
    match change.cause {
        Cause::Set | Cause::Extended | Cause::ExpirySet | Cause::Delete => {
            let slot = Slot::new(change.slot).expect("the shard's slots are the ring's");
            new_slots.touch(slot, change.key);
        }
        // What the shard does for itself says nothing of the key elsewhere.
        Cause::VersionSet | Cause::Expired | Cause::Evicted | Cause::Flushed => {}
    }
}

/// Keys of this core that some connection watches, and when each has changed last.
///
/// Nobody is told when a connection loses interest, so keys may be kept in vain; where there
/// are too many all are forgotten, and a key that is not known counts as changed. Keys are kept by
/// their hash: should two have the same, a change of one is a change of the other.
#[derive(Debug, Default)]
pub(crate) struct WatchedKeys {
    keys: HashMap<u64, Watched, Hasher>,
    /// Counts what happens to watched keys.
    clock: u64,
}

/// Needs no randomness: whoever finds keys with one hash makes their own transactions fail.
type Hasher = BuildHasherDefault<DefaultHasher>;

#[derive(Debug)]
struct Watched {
    /// What the clock was then, or when it was first watched.
    changed_at: u64,
    /// Whether there is an entry, as far as has been told.
    is_present: bool,
    /// Whoever watches and has not come back.
    watchers: u32,
}

impl WatchedKeys {
    /// Watches a key of which there is an entry or not. What it is like now is told by a stamp.
    pub(crate) fn watch(&mut self, space: u8, key: &[u8], is_present: bool) -> Version {
        let name = name(space, key);
        if self.keys.len() >= WATCHED_KEYS_MAX && !self.keys.contains_key(&name) {
            self.keys.clear();
        }
        let clock = &mut self.clock;
        let watched = self.keys.entry(name).or_insert_with(|| {
            *clock += 1;
            Watched { changed_at: *clock, is_present, watchers: 0 }
        });
        if watched.is_present != is_present {
            // Its time was over, of which nobody was told yet.
            *clock += 1;
            (watched.changed_at, watched.is_present) = (*clock, is_present);
        }
        watched.watchers += 1;
        Version(*clock)
    }

    /// Watches a key no more that was watched; whether it is as it was then.
    pub(crate) fn is_unchanged(
        &mut self,
        space: u8,
        key: &[u8],
        stamp: Option<Version>,
        is_present: bool,
    ) -> bool {
        let name = name(space, key);
        let Some(watched) = self.keys.get_mut(&name) else { return false };
        let Watched { changed_at, is_present: was_present, watchers } = watched;
        let unchanged = stamp.is_some_and(|stamp| *changed_at <= stamp.0);
        let unchanged = unchanged && *was_present == is_present;
        *watchers -= 1;
        if *watchers == 0 {
            self.keys.remove(&name);
        }
        unchanged
    }

    fn changed(&mut self, change: &Change<'_>) {
        let is_present = match change.cause {
            Cause::Set | Cause::Extended | Cause::ExpirySet => true,
            Cause::Delete | Cause::Expired | Cause::Evicted | Cause::Flushed => false,
            Cause::VersionSet => return,
        };
        if let Some(watched) = self.keys.get_mut(&name(change.space, change.key)) {
            self.clock += 1;
            (watched.changed_at, watched.is_present) = (self.clock, is_present);
        }
    }

    fn flushed(&mut self) {
        self.clock += 1;
        for watched in self.keys.values_mut().filter(|watched| watched.is_present) {
            (watched.changed_at, watched.is_present) = (self.clock, false);
        }
    }
}

fn name(space: u8, key: &[u8]) -> u64 {
    Hasher::default().hash_one((space, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(keys: &mut WatchedKeys, key: &[u8], cause: Cause) {
        keys.changed(&Change { slot: 0, space: 0, key, cause });
    }

    #[test]
    fn a_key_is_unchanged_until_it_changes() {
        let mut keys = WatchedKeys::default();
        for (cause, is_present, expected) in [
            (Cause::Set, true, false),
            (Cause::Extended, true, false),
            (Cause::ExpirySet, true, false),
            (Cause::VersionSet, true, true),
            (Cause::Delete, false, false),
            (Cause::Evicted, false, false),
        ] {
            let stamp = Some(keys.watch(0, b"key", true));
            change(&mut keys, b"other", Cause::Set);
            change(&mut keys, b"key", cause);
            assert_eq!(keys.is_unchanged(0, b"key", stamp, is_present), expected, "{cause:?}");
            assert!(keys.keys.is_empty(), "nobody watches any more");
        }
    }

    #[test]
    fn what_came_and_went_has_changed_and_so_has_what_expired_unseen() {
        let mut keys = WatchedKeys::default();
        let stamp = Some(keys.watch(0, b"key", false));
        change(&mut keys, b"key", Cause::Set);
        change(&mut keys, b"key", Cause::Delete);
        assert!(!keys.is_unchanged(0, b"key", stamp, false));

        let stamp = Some(keys.watch(0, b"key", true));
        let later = Some(keys.watch(0, b"key", false));
        assert!(!keys.is_unchanged(0, b"key", stamp, false));
        assert!(keys.is_unchanged(0, b"key", later, false));
        let (one, other) = (keys.watch(0, b"key", true), keys.watch(0, b"none", false));
        keys.flushed();
        assert!(!keys.is_unchanged(0, b"key", Some(one), false));
        assert!(keys.is_unchanged(0, b"none", Some(other), false));
    }

    #[test]
    fn too_many_keys_are_forgotten_and_count_as_changed() {
        let mut keys = WatchedKeys::default();
        let stamp = Some(keys.watch(0, b"key", true));
        for number in 0..WATCHED_KEYS_MAX as u64 {
            keys.watch(1, &number.to_le_bytes(), true);
            assert!(keys.keys.len() <= WATCHED_KEYS_MAX);
        }
        // Also if somebody else watches it again.
        let again = Some(keys.watch(0, b"key", true));
        keys.watch(0, b"key", true);
        assert!(!keys.is_unchanged(0, b"key", stamp, true));
        assert!(keys.is_unchanged(0, b"key", again, true));
    }
}
