//! Large values as they arrive, piece by piece. They leave by [`Lease`](crate::Lease).

use super::{Shard, report};
use crate::class::Class;
use crate::large::Chain;
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

/// Chunks that one call begins.
const CHUNKS_MAX: usize = 1;

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
    /// work. One call begins at most one chunk, of up to 64 KiB, and makes room for it in a
    /// bounded step, so it stays within tens of microseconds however much is given.
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
        let mut chunks_left = CHUNKS_MAX;
        while written < bytes.len() {
            if upload.chain.wants().is_some() {
                if chunks_left == 0 || !self.make_room_in_slices(now, changes)? {
                    break;
                }
                chunks_left -= 1;
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
            let shape = shape.in_chunks();
            self.make_room(Class::of_entry(shape.bytes), now, changes)?;
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
        let source = super::write::Source::Chain(first);
        self.put(key, &shape, source, now, changes)?;
        report(changes, key, Cause::Set);
        Ok(())
    }

    /// Gives back what was received.
    pub fn abandon_upload(&mut self, upload: Upload) {
        self.abandon(&upload.chain);
    }
}
