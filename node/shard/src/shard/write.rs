//! Writing and removing one entry.

use super::parts::Part;
use super::{Shard, StoredHash, give_entry, report};
use crate::class::{Class, INLINE_BYTES_MAX};
use crate::entry::{LARGE_BYTES, Placement, Shape, Stored};
use crate::heap::Handle;
use crate::index::word::Word;
use crate::index::{Absent, Found, Mark};
use crate::types::{
    Cause, Changes, EntryVersion, Expiry, KEY_BYTES_MAX, Key, Millis, Write, WriteError,
};

/// Where the bytes of a value that is to be stored are.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// Here.
    Bytes(&'a [u8]),
    /// In a chain already.
    Chain(Handle),
}

impl Shard {
    /// Writes an entry, new or over the one that is there.
    ///
    /// The work of a value up to 16 KiB is bounded, unless the shard is short of pages
    /// ([`Shard::is_short`]). A longer one makes room for all of itself in this call, which took
    /// 8 ms for 1 MiB, and is better written piece by piece; see [`Shard::begin_upload`].
    ///
    /// # Errors
    /// See [`WriteError`]; nothing was changed then, but others may have been evicted.
    pub fn set(
        &mut self,
        key: &Key<'_>,
        write: Write<'_>,
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        let shape = self.shape(key, &write, write.value.len())?;
        if self.is_tight() {
            // These arrive while room is made.
            self.prefetch_index(&key.hash());
            self.evictor.prefetch(&self.heap, key.hash);
        }
        let source = match shape.placement() {
            Placement::Inline => {
                self.make_room(Class::of_entry(shape.bytes), now, changes)?;
                Source::Bytes(write.value)
            }
            Placement::Chunks => {
                let parts = &mut [Part::Bytes(write.value)];
                Source::Chain(self.store_parts(&shape, parts, now, changes)?)
            }
        };
        self.put(key, &shape, source, now, changes)?;
        report(changes, key, Cause::Set);
        Ok(())
    }

    /// Removes an entry. Returns whether there was one.
    pub fn remove(&mut self, key: &Key<'_>, now: Millis, changes: &mut impl Changes) -> bool {
        let Some(found) = self.find(key) else {
            return false;
        };
        if self.is_due(&found, now) {
            self.expire_on_access(&found, changes);
            return false;
        }
        self.remove_found(&found, Cause::Delete, changes);
        true
    }

    /// Changes when an entry ends; value, flags and version stay. Returns whether there was
    /// one.
    ///
    /// An entry that had no expiry may need more memory for it. That is taken even where the
    /// policy refuses writes, so there the budget may be passed by what the expiries take.
    pub fn set_expiry(
        &mut self,
        key: &Key<'_>,
        expiry: Expiry,
        now: Millis,
        changes: &mut impl Changes,
    ) -> bool {
        let reshaped = |shard: &Self| {
            let found = shard.find(key)?;
            let stored = Stored::read(shard.heap.rest_of_page(found.word.handle()));
            let shape = stored.shape().with_expiry(expiry);
            (!stored.expiry().is_due(now)).then_some((found, shape))
        };
        let Some((_, shape)) = reshaped(self) else {
            return false;
        };
        // Refused only where nothing may be evicted.
        let _ = self.make_room(Class::of_entry(shape.bytes), now, changes);
        // Making room may have moved or taken the entry itself.
        let Some((found, shape)) = reshaped(self) else {
            return false;
        };
        self.reshape(key, &found, &shape, now);
        report(changes, key, Cause::ExpirySet);
        true
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
        let Some(entry) = self.peek(key, now) else {
            return Ok(None);
        };
        if entry.version.is_some() {
            return Ok(entry.version);
        }
        let found = self.find(key).expect("an entry that was just read");
        let version = EntryVersion::Shard(self.next_version());
        let stored = Stored::read(self.heap.rest_of_page(found.word.handle()));
        let shape = stored.shape().with_version(version);
        // Eight bytes more need no room made: the reserve is there for this, and the next
        // write fills it up again.
        if self.heap.pages_left() <= 0
            && self.heap.near_slot(Class::of_entry(shape.bytes)).is_none()
        {
            self.counts.refused += 1;
            return Err(WriteError::OutOfMemory);
        }
        self.reshape(key, &found, &shape, now);
        Ok(Some(version))
    }

    /// What an entry will look like.
    #[inline]
    pub(super) fn shape(
        &mut self,
        key: &Key<'_>,
        write: &Write<'_>,
        value_length: usize,
    ) -> Result<Shape, WriteError> {
        debug_assert!(key.bytes.len() <= KEY_BYTES_MAX);
        if value_length as u64 > self.value_bytes_max {
            self.counts.refused += 1;
            return Err(WriteError::ValueTooLarge);
        }
        let shape = Shape::new(key.space, key.bytes.len(), value_length, write);
        if shape.bytes > INLINE_BYTES_MAX && value_length > LARGE_BYTES {
            return Ok(shape.in_chunks());
        }
        Ok(shape)
    }

    /// Stores an entry for which room was made, over the one that is there if there is one.
    pub(super) fn put(
        &mut self,
        key: &Key<'_>,
        shape: &Shape,
        source: Source<'_>,
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        let payload = (shape.key_length + shape.value_length) as u64;
        // Looked at where it is: see `Shape` on copies.
        let word = match &self.search(key) {
            Ok(found) if self.is_due(found, now) => {
                self.expire_on_access(found, changes);
                let absent = self.search(key).expect_err("it was removed");
                self.insert(key, &absent, shape, source, now)?
            }
            Ok(found) => self.overwrite(key, found, shape, source, now),
            Err(absent) => self.insert(key, absent, shape, source, now)?,
        };
        self.payload_bytes += payload;
        if shape.placement() == Placement::Chunks {
            self.large_payload_bytes += payload;
        }
        self.expiring += u64::from(word.expires());
        self.space_items[usize::from(key.space)] += 1;
        self.counts.written_bytes += payload;
        self.sweep_if_littered(now);
        Ok(())
    }

    /// Stores an entry over another; the counts are left without either.
    fn overwrite(
        &mut self,
        key: &Key<'_>,
        found: &Found,
        shape: &Shape,
        source: Source<'_>,
        now: Millis,
    ) -> Word {
        let class = Class::of_entry(shape.bytes);
        let old = found.word.handle();
        self.discount(found.word);
        let stored = Stored::read(self.heap.rest_of_page(old));
        let old_expiry = stored.expiry();
        let in_place =
            self.fits(class, self.heap.class_of(old)) && stored.placement() == Placement::Inline;
        let handle = if in_place { old } else { self.heap.take(self.class_for(class)) };
        self.write_entry(handle, key, shape, source);
        if !in_place {
            give_entry(&mut self.heap, &mut self.discarded, old);
        }
        let word = found.word.with_handle(handle);
        let word = self.evictor.used(word).unwrap_or(word);
        let word = self.set_timer(key, word, old_expiry, shape.expiry(), now);
        self.index.replace(&mut self.heap, found, word);
        word
    }

    /// Stores an entry that was not there.
    fn insert(
        &mut self,
        key: &Key<'_>,
        absent: &Absent,
        shape: &Shape,
        source: Source<'_>,
        now: Millis,
    ) -> Result<Word, WriteError> {
        if self.index.items() >= self.config.items_max {
            if let Source::Chain(first) = source {
                self.discarded.let_go(&self.heap, first);
            }
            self.counts.refused += 1;
            return Err(WriteError::OutOfMemory);
        }
        let handle = self.heap.take(self.class_for(Class::of_entry(shape.bytes)));
        self.write_entry(handle, key, shape, source);
        let word = Word::new(0, handle);
        let word = self.set_timer(key, word, Expiry::Never, shape.expiry(), now);
        let word = self.evictor.insert(&mut self.heap, key.hash, word);
        let inserted =
            self.index.insert(&mut self.heap, absent, key.hash, word, &StoredHash(&self.hash));
        if inserted.is_err() {
            give_entry(&mut self.heap, &mut self.discarded, handle);
            self.counts.refused += 1;
            return Err(WriteError::OutOfMemory);
        }
        self.evictor.inserted(&mut self.heap, key.slot, key.hash, word, now);
        Ok(word)
    }

    #[inline]
    fn write_entry(&mut self, handle: Handle, key: &Key<'_>, shape: &Shape, source: Source<'_>) {
        let bytes = self.heap.bytes_mut(handle, shape.bytes);
        let at = shape.write(key.bytes, bytes);
        let rest = &mut bytes[at..];
        match source {
            Source::Bytes(bytes) => rest.copy_from_slice(bytes),
            Source::Chain(first) => {
                rest.copy_from_slice(&first.units().to_le_bytes());
                self.heap.mark_large(handle);
            }
        }
    }

    /// Gives an entry other fields before its key; its key, value and counts stay.
    fn reshape(&mut self, key: &Key<'_>, found: &Found, shape: &Shape, now: Millis) {
        let old = found.word.handle();
        let stored = Stored::read(self.heap.rest_of_page(old));
        let old_expiry = stored.expiry();
        let (old_at, old_length) = (stored.value_at(), stored.length());
        let class = Class::of_entry(shape.bytes);
        let slot_class = self.heap.class_of(old);
        let handle = if self.fits(class, slot_class) {
            // The value moves within the slot.
            let value_at = shape.bytes - (old_length - old_at);
            let slot = self.heap.bytes_mut(old, slot_class.slot_bytes());
            slot.copy_within(old_at..old_length, value_at);
            old
        } else {
            let handle = self.heap.take(self.class_for(class));
            let value_at = shape.bytes - (old_length - old_at);
            self.heap.copy_bytes(old, old_at..old_length, handle, value_at);
            self.heap.give(old);
            if shape.placement() == Placement::Chunks {
                self.heap.mark_large(handle);
            }
            handle
        };
        shape.write(key.bytes, self.heap.bytes_mut(handle, shape.bytes));
        let word =
            self.set_timer(key, found.word.with_handle(handle), old_expiry, shape.expiry(), now);
        self.expiring += u64::from(word.expires());
        self.expiring -= u64::from(found.word.expires());
        self.index.replace(&mut self.heap, found, word);
        self.sweep_if_littered(now);
    }

    /// Sees to it that a timer fires for a new expiry; `word` is as the old one left it.
    fn set_timer(
        &mut self,
        key: &Key<'_>,
        word: Word,
        old: Expiry,
        new: Expiry,
        now: Millis,
    ) -> Word {
        let Expiry::At(at) = new else {
            return word.with_expires(false).with_early_timer(false);
        };
        match old {
            // The old timer fires in time to be set again.
            Expiry::At(old) if word.expires() && at >= old => {
                word.with_early_timer(word.timer_is_early() || at > old)
            }
            _ => {
                let mark = Mark::new(key.slot, key.hash);
                let early = self.wheel.set(&mut self.heap, mark, at, now);
                word.with_expires(true).with_early_timer(early)
            }
        }
    }

    #[inline]
    pub(super) fn is_due(&self, found: &Found, now: Millis) -> bool {
        found.word.expires()
            && Stored::read(self.heap.rest_of_page(found.word.handle())).expiry().is_due(now)
    }

    pub(super) fn expire_on_access(&mut self, found: &Found, changes: &mut impl Changes) {
        self.counts.expired_on_access += 1;
        self.remove_found(found, Cause::Expired, changes);
    }
}
