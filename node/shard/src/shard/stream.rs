//! Large values piece by piece: in as they arrive, out without a copy.

use super::{Shard, hold, report};
use crate::class::Class;
use crate::entry::{Placement, Stored};
use crate::heap::Handle;
use crate::large::{Chain, Chunks};
use crate::types::{Cause, Changes, Key, Millis, Write, WriteError};

/// A value that is being received. It holds memory of the shard, which counts like any other,
/// until it is given to [`Shard::finish_upload`] or [`Shard::abandon_upload`].
#[derive(Debug)]
#[must_use = "memory of an upload comes back only when it is finished or abandoned"]
pub struct Upload {
    chain: Chain,
    length: usize,
}

impl Upload {
    /// Bytes that are still to come.
    pub fn bytes_left(&self) -> usize {
        self.chain.bytes_left()
    }
}

/// A large value that is being sent. Its bytes stay where they are and as they are until the
/// lease is given to [`Shard::release`], whatever happens to the entry.
#[derive(Debug)]
#[must_use = "leased memory comes back only when the lease is released"]
pub struct Lease {
    first: Handle,
    length: usize,
}

impl Lease {
    /// Bytes of the value.
    #[allow(clippy::len_without_is_empty)] // No leased value is empty.
    pub fn len(&self) -> usize {
        self.length
    }
}

impl Shard {
    /// Starts to receive a value of `length` bytes, which is above zero. It is stored in
    /// chunks, however short.
    ///
    /// # Errors
    /// [`WriteError::ValueTooLarge`].
    pub fn begin_upload(&mut self, key: &Key<'_>, length: usize) -> Result<Upload, WriteError> {
        assert!(length > 0, "an empty value needs no upload");
        self.shape(key, &Write::value(&[]), length)?;
        Ok(Upload { chain: Chain::new(length), length })
    }

    /// Stores the next bytes of an upload, as many as there is room for, and returns how many.
    /// Fewer than were given means that room is being made: offer the rest again after other
    /// work. One call makes room for at most one chunk, in bounded steps; given up to 64 KiB
    /// at a time, it stays within tens of microseconds.
    ///
    /// # Errors
    /// [`WriteError::OutOfMemory`]: nothing may be evicted. The upload should be abandoned.
    pub fn upload(
        &mut self,
        upload: &mut Upload,
        bytes: &[u8],
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<usize, WriteError> {
        assert!(bytes.len() <= upload.bytes_left(), "more bytes than were announced");
        let mut written = 0;
        while written < bytes.len() {
            if upload.chain.wants().is_some() {
                if !self.make_room_in_slices(now, changes)? {
                    break;
                }
                upload.chain.add_chunk(&mut self.heap);
            }
            written += upload.chain.write(&mut self.heap, &bytes[written..]);
        }
        Ok(written)
    }

    /// Makes a received value an entry, like [`Shard::set`]. `write.value` is not looked at.
    ///
    /// # Errors
    /// See [`WriteError`]; the upload is abandoned then.
    pub fn finish_upload(
        &mut self,
        upload: Upload,
        key: &Key<'_>,
        write: Write<'_>,
        now: Millis,
        changes: &mut impl Changes,
    ) -> Result<(), WriteError> {
        assert_eq!(upload.bytes_left(), 0, "the value has not wholly arrived");
        let room = self.shape(key, &write, upload.length).and_then(|shape| {
            let shape = crate::entry::Shape { placement: Placement::Chunks, ..shape };
            self.make_room(Class::of_entry(shape.bytes()), now, changes)?;
            Ok(shape)
        });
        let shape = match room {
            Ok(shape) => shape,
            Err(error) => {
                self.abandon_upload(upload);
                return Err(error);
            }
        };
        let first = upload.chain.first().expect("an upload has bytes");
        self.put(key, &shape, super::write::Source::Chain(first), now, changes)?;
        report(changes, key, Cause::Set);
        Ok(())
    }

    /// Gives back what was received.
    pub fn abandon_upload(&mut self, upload: Upload) {
        self.abandon(&upload.chain);
    }

    /// Leases the value of an entry that is stored in chunks. `None` where there is no entry,
    /// or its value is short and better copied.
    pub fn lease(&mut self, key: &Key<'_>, now: Millis) -> Option<Lease> {
        let found = self.find(key)?;
        let stored = Stored::read(self.heap.rest_of_page(found.word.handle()));
        if stored.expiry().is_due(now) || stored.placement() == Placement::Inline {
            return None;
        }
        let lease = Lease { first: stored.first_chunk(), length: stored.value_length() };
        hold(&mut self.heap, lease.first);
        Some(lease)
    }

    /// The bytes of a leased value, piece by piece. Their addresses do not change while the
    /// lease lasts.
    pub fn leased(&self, lease: &Lease) -> impl Iterator<Item = &[u8]> {
        Chunks::new(&self.heap, lease.first, lease.length)
    }

    /// Ends a lease.
    pub fn release(&mut self, lease: Lease) {
        self.discarded.let_go(&mut self.heap, lease.first);
    }
}
