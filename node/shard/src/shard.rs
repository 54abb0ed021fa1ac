//! One core's store.

use std::collections::BTreeMap;

use crate::config::{Policy, ShardConfig};
use crate::hash::KeyedHash;
use crate::stats::ShardStats;
use crate::types::*;

#[derive(Clone)]
struct Item {
    slot: u16,
    value: Vec<u8>,
    user_flags: u32,
    expiry: Expiry,
    version: Option<EntryVersion>,
}

impl Item {
    fn entry(&self) -> Entry<'_> {
        Entry {
            value: match self.value.len() {
                0..=16_384 => Value(ValueBytes::Whole(&self.value)),
                _ => Value(ValueBytes::Chunked(crate::large::Chunks(&self.value))),
            },
            user_flags: self.user_flags,
            expiry: self.expiry,
            version: self.version,
        }
    }
}

/// One core's store. See the crate's documentation.
pub struct Shard {
    config: ShardConfig,
    hash: KeyedHash,
    items: BTreeMap<(u16, u64, u8, Vec<u8>), Item>,
    bytes: u64,
    version: u64,
    stats: ShardStats,
}

const ITEM_BYTES: u64 = 32;

impl Shard {
    /// A shard with nothing in it.
    ///
    /// # Errors
    /// The budget is impossible, or the address space cannot be had.
    pub fn new(config: ShardConfig) -> Result<Self, ShardError> {
        Ok(Self {
            hash: KeyedHash::new(config.hash),
            version: config.version_seed,
            items: BTreeMap::new(),
            bytes: 0,
            stats: ShardStats::default(),
            config,
        })
    }

    /// Names an entry. `slot` must be what [`ShardConfig::slot_of`] gives for `bytes`.
    pub fn key<'a>(&self, slot: u16, space: u8, bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: self.hash.hash(space, bytes), slot, space }
    }

    fn place(key: &Key<'_>) -> (u16, u64, u8, Vec<u8>) {
        (key.slot, key.hash, key.space, key.bytes.to_vec())
    }

    fn take(&mut self, key: &Key<'_>) -> Option<Item> {
        let item = self.items.remove(&Self::place(key))?;
        self.bytes -= (key.bytes.len() + item.value.len()) as u64 + ITEM_BYTES;
        Some(item)
    }

    /// Reads an entry and notes that it was used. One whose time is over is `None`.
    pub fn get(&mut self, key: &Key<'_>, now: Millis) -> Option<Entry<'_>> {
        self.peek(key, now)
    }

    /// Reads an entry and leaves no trace.
    pub fn peek(&self, key: &Key<'_>, now: Millis) -> Option<Entry<'_>> {
        let item = self.items.get(&Self::place(key))?;
        (!item.expiry.is_due(now)).then(|| item.entry())
    }

    /// [`Shard::get`] for many keys at once: `each` is called in their order, with the index of
    /// the key and its entry.
    pub fn get_batch(
        &mut self,
        keys: &[Key<'_>],
        now: Millis,
        mut each: impl FnMut(usize, Option<Entry<'_>>),
    ) {
        for (index, key) in keys.iter().enumerate() {
            each(index, self.peek(key, now));
        }
    }

    /// Writes an entry, new or over the one that is there.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing was changed then.
    pub fn set(
        &mut self,
        key: &Key<'_>,
        write: Write<'_>,
        _now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        let length = write.value.len() as u64;
        if length > self.config.value_bytes_max
            || length > self.config.budget_bytes / self.config.value_share_max
        {
            return Err(WriteError::ValueTooLarge);
        }
        let bytes = key.bytes.len() as u64 + length + ITEM_BYTES;
        while self.bytes + bytes > self.config.budget_bytes {
            if self.config.policy == Policy::NoEviction {
                self.stats.refused += 1;
                return Err(WriteError::OutOfMemory);
            }
            let Some((place, item)) = self.items.pop_first() else {
                break;
            };
            self.bytes -= (place.3.len() + item.value.len()) as u64 + ITEM_BYTES;
            self.stats.evicted += 1;
            self.stats.evicted_bytes += (place.3.len() + item.value.len()) as u64;
            changes.changed(&Change {
                slot: place.0,
                space: place.2,
                key: &place.3,
                cause: Cause::Evicted,
            });
        }
        self.take(key);
        self.items.insert(
            Self::place(key),
            Item {
                slot: key.slot,
                value: write.value.to_vec(),
                user_flags: write.user_flags,
                expiry: write.expiry,
                version: write.version,
            },
        );
        self.bytes += bytes;
        report(changes, key, Cause::Set);
        Ok(())
    }

    /// Adds to a value, keeping flags and expiry; a version is dropped, since the value is
    /// another. Returns whether there was an entry.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing was changed then.
    pub fn extend(
        &mut self,
        key: &Key<'_>,
        value: &[u8],
        end: End,
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<bool, WriteError> {
        let Some(entry) = self.peek(key, now) else {
            return Ok(false);
        };
        let (user_flags, expiry) = (entry.user_flags, entry.expiry);
        let old = entry.value.to_vec();
        let joined = match end {
            End::Append => [&old, value].concat(),
            End::Prepend => [value, &old].concat(),
        };
        let write = Write { value: &joined, user_flags, expiry, version: None };
        self.set(key, write, now, &mut ())?;
        report(changes, key, Cause::Extended);
        Ok(true)
    }

    /// Removes an entry. Returns whether there was one.
    pub fn remove(&mut self, key: &Key<'_>, now: Millis, changes: &mut impl Changes) -> bool {
        match self.take(key) {
            Some(item) if !item.expiry.is_due(now) => {
                report(changes, key, Cause::Delete);
                true
            }
            Some(_) => {
                self.stats.expired_on_access += 1;
                report(changes, key, Cause::Expired);
                false
            }
            None => false,
        }
    }

    /// Changes when an entry ends; value, flags and version stay. Returns whether there was one.
    pub fn set_expiry(
        &mut self,
        key: &Key<'_>,
        expiry: Expiry,
        now: Millis,
        changes: &mut impl Changes,
    ) -> bool {
        match self.items.get_mut(&Self::place(key)) {
            Some(item) if !item.expiry.is_due(now) => {
                item.expiry = expiry;
                report(changes, key, Cause::ExpirySet);
                true
            }
            _ => false,
        }
    }

    /// The entry's version, giving it one from the shard's counter if it has none. It is stored
    /// from then on until a plain write. `None` where there is no entry.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing was changed then.
    pub fn ensure_version(
        &mut self,
        key: &Key<'_>,
        now: Millis,
    ) -> Result<Option<EntryVersion>, WriteError> {
        let next = self.version + 1;
        match self.items.get_mut(&Self::place(key)) {
            Some(item) if !item.expiry.is_due(now) => {
                if item.version.is_none() {
                    item.version = Some(EntryVersion::Shard(next));
                    self.version = next;
                }
                Ok(item.version)
            }
            _ => Ok(None),
        }
    }

    /// The next number of a counter that never repeats.
    pub fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Drops everything: readers see nothing of it from now on. Its memory returns in the
    /// slices of [`Shard::tick`].
    pub fn flush(&mut self, _now: Millis, changes: &mut impl Changes) {
        self.items.clear();
        self.bytes = 0;
        changes.flushed();
    }

    /// Housekeeping, in a bounded slice.
    pub fn tick(&mut self, now: Millis, changes: &mut impl Changes) -> TickOutcome {
        let due = self
            .items
            .iter()
            .filter(|(_, item)| item.expiry.is_due(now))
            .map(|(place, _)| place.clone())
            .take(30)
            .collect::<Vec<_>>();
        for place in &due {
            let item = self.items.remove(place).expect("just found");
            self.bytes -= (place.3.len() + item.value.len()) as u64 + ITEM_BYTES;
            self.stats.expired_by_wheel += 1;
            changes.changed(&Change {
                slot: place.0,
                space: place.2,
                key: &place.3,
                cause: Cause::Expired,
            });
        }
        if due.len() == 30 { TickOutcome::More } else { TickOutcome::Idle }
    }

    /// No later than the earliest moment at which [`Shard::tick`] has expiry work.
    pub fn next_expiry(&self) -> Option<Millis> {
        let soonest = self.items.values().filter_map(|item| match item.expiry {
            Expiry::At(at) => Some(at),
            Expiry::Never => None,
        });
        soonest.min()
    }

    /// Entries, those included whose time is over and which are not reclaimed yet.
    pub fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// [`Shard::len`] of one slot.
    pub fn slot_len(&self, slot: u16) -> u64 {
        self.items.values().filter(|item| item.slot == slot).count() as u64
    }

    /// Raises or lowers the budget, in bytes, up to the configured largest. What is over a
    /// lower one is evicted in slices.
    pub fn set_budget(&mut self, bytes: u64) {
        self.config.budget_bytes = bytes.min(self.config.budget_bytes_max);
    }

    /// Changes the policy.
    pub fn set_policy(&mut self, policy: Policy) {
        self.config.policy = policy;
    }

    /// Figures for the operator.
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            items: self.len(),
            budget_bytes: self.config.budget_bytes,
            used_bytes: self.bytes,
            ..self.stats
        }
    }

    /// Walks on from `cursor`, calling `each` for about `limit` entries, and returns where to
    /// go on; `None` at the end.
    pub fn scan(
        &self,
        cursor: Cursor,
        limit: usize,
        now: Millis,
        mut each: impl FnMut(&EntryKey<'_>, Entry<'_>),
    ) -> Option<Cursor> {
        let from = (cursor.slot(), cursor.0 << (64 - Cursor::HASH_BITS), 0, Vec::new());
        let mut last = None;
        for (seen, ((slot, hash, space, bytes), item)) in self.items.range(from..).enumerate() {
            let here = u64::from(*slot) << Cursor::HASH_BITS | hash >> (64 - Cursor::HASH_BITS);
            if seen >= limit && last != Some(here) {
                return Some(Cursor(here));
            }
            last = Some(here);
            if !item.expiry.is_due(now) {
                let key = EntryKey { slot: *slot, space: *space, bytes };
                each(&key, item.entry());
            }
        }
        None
    }

    /// Checks everything that must hold between two calls.
    ///
    /// # Panics
    /// Something does not hold.
    pub fn invariants(&self) {
        assert!(self.bytes <= self.config.budget_bytes_max);
    }
}

fn report(changes: &mut impl Changes, key: &Key<'_>, cause: Cause) {
    changes.changed(&Change { slot: key.slot, space: key.space, key: key.bytes, cause });
}
