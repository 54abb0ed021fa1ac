//! Values that are put together from parts of others: appended to, written into, copied. A large
//! one is copied chunk by chunk, so however long it is, no memory but the shard's holds it.

use std::ops::Range;

use super::write::Source;
use super::{Shard, report};
use crate::class::Class;
use crate::entry::{Placement, Shape};
use crate::heap::Handle;
use crate::large::{Chain, Lease};
use crate::types::{Cause, Changes, End, EntryVersion, Key, Millis, Value, Write, WriteError};

/// Part of a value that is to be written.
#[derive(Debug)]
pub enum Part<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// So many zeros.
    Zeros(usize),
    /// Bytes of a value that is stored.
    Held(Held),
}

/// Bytes of a stored value, which stay whatever becomes of its entry: copied where they are short,
/// leased where they are not.
#[derive(Debug)]
pub struct Held(HeldBytes);

#[derive(Debug)]
enum HeldBytes {
    Copied(Vec<u8>),
    Leased(Lease),
}

impl Value<'_> {
    /// Holds a range of the value's bytes.
    ///
    /// # Panics
    /// The value is not that long.
    pub fn hold(&self, range: Range<usize>) -> Held {
        Held(match self.lease() {
            Some(lease) => HeldBytes::Leased(lease.narrow(range)),
            // One that is not in chunks is short.
            None => HeldBytes::Copied(self.as_slice().unwrap_or_default()[range].to_vec()),
        })
    }
}

impl Part<'_> {
    fn length(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Zeros(count) => *count,
            Part::Held(Held(HeldBytes::Copied(bytes))) => bytes.len(),
            Part::Held(Held(HeldBytes::Leased(lease))) => lease.bytes_left(),
        }
    }

    /// Its bytes from the front, piece by piece, for as long as `each` takes them.
    fn take<E>(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match self {
            Part::Bytes(bytes) => each(bytes),
            Part::Held(Held(HeldBytes::Copied(bytes))) => each(bytes),
            Part::Zeros(count) => {
                while *count > 0 {
                    let some = (*count).min(ZEROS.len());
                    each(&ZEROS[..some])?;
                    *count -= some;
                }
                Ok(())
            }
            Part::Held(Held(HeldBytes::Leased(lease))) => {
                while let Some(piece) = lease.take() {
                    each(piece.bytes())?;
                }
                Ok(())
            }
        }
    }
}

const ZEROS: [u8; 4096] = [0; 4096];

impl Shard {
    /// [`Shard::set`] of a value that consists of these parts, in this order; `write.value` is not
    /// looked at. It makes room for all of the value in this call, and copies it.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing was changed then, but others may have been evicted.
    pub fn set_parts(
        &mut self,
        key: &Key<'_>,
        write: Write<'_>,
        parts: &mut [Part<'_>],
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        self.put_parts(key, write, parts, now, changes)?;
        report(changes, key, Cause::Set);
        Ok(())
    }

    /// Adds to a value, keeping flags and expiry; the version that it had is dropped, since the
    /// value is another, and `version` is stored. Returns whether there was an entry.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing was changed then, but others may have been evicted.
    pub fn extend(
        &mut self,
        key: &Key<'_>,
        value: &[u8],
        end: End,
        version: Option<EntryVersion>,
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<bool, WriteError> {
        let Some(entry) = self.peek(key, now) else {
            return Ok(false);
        };
        let write = Write { value, user_flags: entry.user_flags, expiry: entry.expiry, version };
        let old = Part::Held(entry.value.hold(0..entry.value.len()));
        let mut parts = match end {
            End::Append => [old, Part::Bytes(value)],
            End::Prepend => [Part::Bytes(value), old],
        };
        self.put_parts(key, write, &mut parts, now, changes)?;
        report(changes, key, Cause::Extended);
        Ok(true)
    }

    fn put_parts(
        &mut self,
        key: &Key<'_>,
        write: Write<'_>,
        parts: &mut [Part<'_>],
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        let length = parts.iter().map(Part::length).sum();
        let shape = self.shape(key, &write, length)?;
        if shape.placement() == Placement::Chunks {
            let first = self.store_parts(&shape, parts, now, changes)?;
            return self.put(key, &shape, Source::Chain(first), now, changes);
        }
        self.make_room(Class::of_entry(shape.bytes), now, changes)?;
        // They may come from the slot that is written over.
        let mut value = Vec::with_capacity(length);
        for part in parts {
            part.take(|bytes| {
                value.extend_from_slice(bytes);
                Ok::<_, WriteError>(())
            })?;
        }
        self.put(key, &shape, Source::Bytes(&value), now, changes)
    }

    /// Stores a value in chunks, making room for each and for its entry; the first of them.
    pub(super) fn store_parts(
        &mut self,
        shape: &Shape,
        parts: &mut [Part<'_>],
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<Handle, WriteError> {
        let mut chain = Chain::new(shape.value_length);
        let stored = parts
            .iter_mut()
            .try_for_each(|part| part.take(|bytes| self.fill(&mut chain, bytes, now, changes)));
        // Making room for the chunks uses up what was there for the entry.
        let stored =
            stored.and_then(|()| self.make_room(Class::of_entry(shape.bytes), now, changes));
        if let Err(error) = stored {
            self.abandon(&chain);
            return Err(error);
        }
        Ok(chain.first().expect("a large value has bytes"))
    }

    /// Writes bytes to the end of a chain, making room for its chunks.
    fn fill(
        &mut self,
        chain: &mut Chain,
        mut bytes: &[u8],
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            if chain.wants().is_some() {
                self.make_room_for_chunk(now, changes)?;
                chain.add_chunk(&mut self.heap);
            }
            let written = chain.write(&mut self.heap, bytes);
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Gives a chain back that no entry has got.
    pub(super) fn abandon(&mut self, chain: &Chain) {
        if let Some(first) = chain.first() {
            self.discarded.let_go(&self.heap, first);
        }
    }
}
