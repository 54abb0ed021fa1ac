//! The bytes of an entry.
//!
//! | bytes | field | present when |
//! | --- | --- | --- |
//! | 4 | header | always |
//! | 4 or 8 | expiry, milliseconds since the shard's epoch | header bits 3–4: 1 or 2 |
//! | 8 | version | header bits 5–6: 1 the shard's, 2 the caller's |
//! | 4 | user flags | header bit 7 (they are not zero) |
//! | 1 | key space | header bit 8 (it is not zero) |
//! | 2 | key length | header bits 10–17 are all ones |
//! | 4 | value length | header bits 18–31 are all ones |
//! | … | key | |
//! | … | value; for a large one 8 bytes that name its first chunk | header bit 9: large |
//!
//! Header bits 0–2 are the type: 0 is a free slot, 1 bytes; the others are kept for
//! containers. Everything is little-endian and unaligned.

use crate::heap::Handle;
use crate::types::{EntryVersion, Expiry, Millis, Write};

/// Header bits 0–2: a value of bytes.
const TYPE_BYTES: u32 = 1;
const TYPE_MASK: u32 = 7;
const EXPIRY_SHIFT: u32 = 3;
const EXPIRY_SHORT: u32 = 1 << EXPIRY_SHIFT;
const EXPIRY_LONG: u32 = 2 << EXPIRY_SHIFT;
const VERSION_SHIFT: u32 = 5;
const VERSION_SHARD: u32 = 1 << VERSION_SHIFT;
const VERSION_CALLER: u32 = 2 << VERSION_SHIFT;
const USER_FLAGS: u32 = 1 << 7;
const SPACE: u32 = 1 << 8;
const LARGE: u32 = 1 << 9;
const KEY_SHIFT: u32 = 10;
const KEY_ESCAPE: u32 = 0xFF;
const VALUE_SHIFT: u32 = 18;
const VALUE_ESCAPE: u32 = 0x3FFF;
/// None of these bits is set in most entries: no field between header and key, no chunks.
const OPTIONAL: u32 = 0x3F8;

const HEADER_BYTES: usize = 4;

/// Bytes that stand for a large value in its entry.
pub(crate) const LARGE_BYTES: usize = 8;

/// What an entry is to look like: its header and the fields before its key, and so its size.
///
/// Plain numbers, each written by itself: a copy of an enum reads bytes together that were
/// written apart, and then the processor waits for all writes before them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    header: u32,
    user_flags: u32,
    expiry: u64,
    version: u64,
    space: u8,
    key_at: usize,
    pub(crate) key_length: usize,
    /// The value's own length.
    pub(crate) value_length: usize,
    /// Bytes of the whole entry.
    pub(crate) bytes: usize,
}

/// Where a value's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Inline,
    Chunks,
}

impl Shape {
    /// Of an entry that holds its value, with the fields of a write.
    #[inline(always)]
    pub(crate) fn new(
        space: u8,
        key_length: usize,
        value_length: usize,
        write: &Write<'_>,
    ) -> Self {
        let mut shape = Self {
            header: TYPE_BYTES,
            user_flags: write.user_flags,
            expiry: 0,
            version: 0,
            space,
            key_at: 0,
            key_length,
            value_length,
            bytes: 0,
        };
        if write.user_flags != 0 {
            shape.header |= USER_FLAGS;
        }
        if space != 0 {
            shape.header |= SPACE;
        }
        shape.header |= (key_length as u32).min(KEY_ESCAPE) << KEY_SHIFT;
        shape.header |= (value_length.min(VALUE_ESCAPE as usize) as u32) << VALUE_SHIFT;
        if let Expiry::At(Millis(at)) = write.expiry {
            shape.header |= expiry_bits(at);
            shape.expiry = at;
        }
        if let Some(version) = &write.version {
            (shape.header, shape.version) = versioned(shape.header, version);
        }
        shape.settled()
    }

    /// The same entry with another end.
    pub(crate) fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.header &= !(EXPIRY_SHORT | EXPIRY_LONG);
        if let Expiry::At(Millis(at)) = expiry {
            self.header |= expiry_bits(at);
            self.expiry = at;
        }
        self.settled()
    }

    /// The same entry with a version, or another.
    pub(crate) fn with_version(mut self, version: EntryVersion) -> Self {
        (self.header, self.version) = versioned(self.header, &version);
        self.settled()
    }

    /// The same entry with its value in chunks.
    pub(crate) fn in_chunks(mut self) -> Self {
        self.header |= LARGE;
        self.settled()
    }

    /// With its size as its header says.
    #[inline(always)]
    fn settled(mut self) -> Self {
        self.key_at = key_offset(self.header);
        let stored = match self.placement() {
            Placement::Inline => self.value_length,
            Placement::Chunks => LARGE_BYTES,
        };
        self.bytes = self.key_at + self.key_length + stored;
        self
    }

    #[inline]
    pub(crate) fn placement(&self) -> Placement {
        if self.header & LARGE == 0 { Placement::Inline } else { Placement::Chunks }
    }

    #[inline]
    pub(crate) fn expiry(&self) -> Expiry {
        match self.header & (EXPIRY_SHORT | EXPIRY_LONG) {
            0 => Expiry::Never,
            _ => Expiry::At(Millis(self.expiry)),
        }
    }

    /// Writes everything but the value and returns where that goes.
    #[inline]
    pub(crate) fn write(&self, key: &[u8], bytes: &mut [u8]) -> usize {
        debug_assert_eq!(key.len(), self.key_length);
        bytes[..HEADER_BYTES].copy_from_slice(&self.header.to_le_bytes());
        if self.key_at > HEADER_BYTES {
            self.write_optional(&mut bytes[HEADER_BYTES..self.key_at]);
        }
        let value_at = self.key_at + key.len();
        bytes[self.key_at..value_at].copy_from_slice(key);
        value_at
    }

    /// Writes the fields between header and key.
    fn write_optional(&self, bytes: &mut [u8]) {
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        if self.header & EXPIRY_SHORT != 0 {
            put(&(self.expiry as u32).to_le_bytes());
        }
        if self.header & EXPIRY_LONG != 0 {
            put(&self.expiry.to_le_bytes());
        }
        if self.header & (VERSION_SHARD | VERSION_CALLER) != 0 {
            put(&self.version.to_le_bytes());
        }
        if self.header & USER_FLAGS != 0 {
            put(&self.user_flags.to_le_bytes());
        }
        if self.header & SPACE != 0 {
            put(&[self.space]);
        }
        if self.header >> KEY_SHIFT & KEY_ESCAPE == KEY_ESCAPE {
            put(&(self.key_length as u16).to_le_bytes());
        }
        if self.header >> VALUE_SHIFT == VALUE_ESCAPE {
            put(&(self.value_length as u32).to_le_bytes());
        }
    }
}

/// The header bits that say how an expiry is kept.
fn expiry_bits(at: u64) -> u32 {
    if u32::try_from(at).is_ok() { EXPIRY_SHORT } else { EXPIRY_LONG }
}

/// A header that says what a version counts, and the version.
fn versioned(header: u32, version: &EntryVersion) -> (u32, u64) {
    let header = header & !(VERSION_SHARD | VERSION_CALLER);
    match *version {
        EntryVersion::Shard(version) => (header | VERSION_SHARD, version),
        EntryVersion::Caller(version) => (header | VERSION_CALLER, version),
    }
}

/// Bytes before the key.
#[inline]
fn key_offset(header: u32) -> usize {
    let mut at = HEADER_BYTES;
    if header & OPTIONAL != 0 {
        at += (header >> EXPIRY_SHIFT & 3) as usize * 4;
        at += usize::from(header >> VERSION_SHIFT & 3 != 0) * 8;
        at += usize::from(header & USER_FLAGS != 0) * 4;
        at += usize::from(header & SPACE != 0);
    }
    if header >> KEY_SHIFT & KEY_ESCAPE == KEY_ESCAPE {
        at += 2;
    }
    if header >> VALUE_SHIFT == VALUE_ESCAPE {
        at += 4;
    }
    at
}

/// About how long the entry at the start of `bytes` is, going by its first four bytes alone.
#[inline]
pub(crate) fn estimated_bytes(bytes: &[u8]) -> usize {
    let header = u32_at(bytes, 0);
    4 + (header >> KEY_SHIFT & KEY_ESCAPE) as usize + (header >> VALUE_SHIFT) as usize
}

/// An entry that is being read. The slice may go on behind the entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'s> {
    bytes: &'s [u8],
    header: u32,
    key_at: usize,
    key_length: usize,
    value_length: usize,
}

/// See [`Stored::fields`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields(Stored<'static>);

impl Fields {
    /// The entry again. `bytes` must be as they were when it was read.
    #[inline]
    pub(crate) fn with(self, bytes: &[u8]) -> Stored<'_> {
        Stored { bytes, ..self.0 }
    }
}

impl<'s> Stored<'s> {
    /// Reads the fields of the entry at the start of `bytes`.
    #[inline]
    pub(crate) fn read(bytes: &'s [u8]) -> Self {
        let header = u32_at(bytes, 0);
        debug_assert!(header & TYPE_MASK == TYPE_BYTES);
        let (key, value) = (header >> KEY_SHIFT & KEY_ESCAPE, header >> VALUE_SHIFT);
        if header & OPTIONAL == 0 && key != KEY_ESCAPE && value != VALUE_ESCAPE {
            let (key_length, value_length) = (key as usize, value as usize);
            return Self { bytes, header, key_at: 4, key_length, value_length };
        }
        Self::read_rest(bytes, header)
    }

    /// Reads the fields of an entry that has some beside the header.
    fn read_rest(bytes: &'s [u8], header: u32) -> Self {
        let key_at = key_offset(header);
        let mut before_key = key_at;
        let mut value_length = (header >> VALUE_SHIFT) as usize;
        if value_length == VALUE_ESCAPE as usize {
            before_key -= 4;
            value_length = u32_at(bytes, before_key) as usize;
        }
        let mut key_length = (header >> KEY_SHIFT & KEY_ESCAPE) as usize;
        if key_length == KEY_ESCAPE as usize {
            before_key -= 2;
            key_length =
                usize::from(u16::from_le_bytes([bytes[before_key], bytes[before_key + 1]]));
        }
        Self { bytes, header, key_at, key_length, value_length }
    }

    /// What was read of the fields, while nothing borrows the bytes.
    #[inline]
    pub(crate) fn fields(&self) -> Fields {
        Fields(Stored { bytes: &[], ..*self })
    }

    /// Whether it has nothing but its key and a value stored with it.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        self.header & OPTIONAL == 0
    }

    #[inline]
    pub(crate) fn key(&self) -> &'s [u8] {
        &self.bytes[self.key_at..self.key_at + self.key_length]
    }

    #[inline]
    pub(crate) fn space(&self) -> u8 {
        if self.header & SPACE == 0 {
            return 0;
        }
        let mut at = 4;
        at += (self.header >> EXPIRY_SHIFT & 3) as usize * 4;
        at += usize::from(self.header >> VERSION_SHIFT & 3 != 0) * 8;
        at += usize::from(self.header & USER_FLAGS != 0) * 4;
        self.bytes[at]
    }

    /// Whether it is the entry of this key.
    #[inline]
    pub(crate) fn is(&self, space: u8, key: &[u8]) -> bool {
        self.key_length == key.len() && equal(self.key(), key) && self.space() == space
    }

    #[inline]
    pub(crate) fn expiry(&self) -> Expiry {
        match self.header >> EXPIRY_SHIFT & 3 {
            0 => Expiry::Never,
            1 => Expiry::At(Millis(u64::from(u32_at(self.bytes, 4)))),
            _ => Expiry::At(Millis(u64_at(self.bytes, 4))),
        }
    }

    pub(crate) fn version(&self) -> Option<EntryVersion> {
        let at = 4 + (self.header >> EXPIRY_SHIFT & 3) as usize * 4;
        match self.header >> VERSION_SHIFT & 3 {
            0 => None,
            1 => Some(EntryVersion::Shard(u64_at(self.bytes, at))),
            _ => Some(EntryVersion::Caller(u64_at(self.bytes, at))),
        }
    }

    #[inline]
    pub(crate) fn user_flags(&self) -> u32 {
        if self.header & USER_FLAGS == 0 {
            return 0;
        }
        let mut at = 4;
        at += (self.header >> EXPIRY_SHIFT & 3) as usize * 4;
        at += usize::from(self.header >> VERSION_SHIFT & 3 != 0) * 8;
        u32_at(self.bytes, at)
    }

    /// Length of the value itself, wherever it is.
    #[inline]
    pub(crate) fn value_length(&self) -> usize {
        self.value_length
    }

    /// Where the value's bytes begin, or the name of its first chunk.
    #[inline]
    pub(crate) fn value_at(&self) -> usize {
        self.key_at + self.key_length
    }

    #[inline]
    pub(crate) fn placement(&self) -> Placement {
        if self.header & LARGE == 0 { Placement::Inline } else { Placement::Chunks }
    }

    /// The value of an entry that holds it.
    #[inline]
    pub(crate) fn inline_value(&self) -> &'s [u8] {
        debug_assert_eq!(self.placement(), Placement::Inline);
        let at = self.value_at();
        &self.bytes[at..at + self.value_length]
    }

    /// The first chunk of a large value.
    pub(crate) fn first_chunk(&self) -> Handle {
        debug_assert_eq!(self.placement(), Placement::Chunks);
        Handle::new(u64_at(self.bytes, self.value_at()))
    }

    /// Bytes of the whole entry.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.value_at()
            + match self.placement() {
                Placement::Inline => self.value_length,
                Placement::Chunks => LARGE_BYTES,
            }
    }

    /// What an entry like this one is made from.
    pub(crate) fn shape(&self) -> Shape {
        let expiry = match self.expiry() {
            Expiry::Never => 0,
            Expiry::At(Millis(at)) => at,
        };
        let version = match self.version() {
            None => 0,
            Some(EntryVersion::Shard(version) | EntryVersion::Caller(version)) => version,
        };
        Shape {
            header: self.header,
            user_flags: self.user_flags(),
            expiry,
            version,
            space: self.space(),
            key_at: self.key_at,
            key_length: self.key_length,
            value_length: self.value_length,
            bytes: self.length(),
        }
    }
}

/// Whether two short runs of bytes of one length are equal: a call costs more than this.
#[inline]
fn equal(one: &[u8], other: &[u8]) -> bool {
    let (one, one_tail) = one.as_chunks::<8>();
    let (other, other_tail) = other.as_chunks::<8>();
    let differs = |(one, other): (&[u8; 8], &[u8; 8])| one != other;
    let tail_differs = |(one, other): (&u8, &u8)| one != other;
    !one.iter().zip(other).any(differs) && !one_tail.iter().zip(other_tail).any(tail_differs)
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_fields_reads_back() {
        let expiries = [
            Expiry::Never,
            Expiry::At(Millis(0)),
            Expiry::At(Millis(u64::from(u32::MAX))),
            Expiry::At(Millis(u64::from(u32::MAX) + 1)),
            Expiry::At(Millis(u64::MAX)),
        ];
        let versions = [None, Some(EntryVersion::Shard(7)), Some(EntryVersion::Caller(u64::MAX))];
        let mut bytes = vec![0; 64 << 10];
        let mut plain = None;
        for expiry in expiries {
            for version in versions {
                for user_flags in [0, 5] {
                    for space in [0, 15] {
                        for key_length in [0, 1, 254, 255, 16_384] {
                            for value_length in [0, 1, 16_382, 16_383, 20_000] {
                                let write = Write { value: &[], user_flags, expiry, version };
                                let shape = Shape::new(space, key_length, value_length, &write);
                                check(&shape, &write, space, &mut bytes);
                                plain.get_or_insert(shape.bytes);
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(plain, Some(4), "no optional field takes room");
    }

    fn check(shape: &Shape, write: &Write<'_>, space: u8, bytes: &mut [u8]) {
        let key = vec![3; shape.key_length];
        let value_at = shape.write(&key, bytes);
        bytes[value_at..value_at + shape.value_length].fill(9);
        let stored = Stored::read(bytes);
        assert!(stored.is(space, &key));
        assert_eq!(stored.expiry(), write.expiry);
        assert_eq!(stored.version(), write.version);
        assert_eq!(stored.user_flags(), write.user_flags);
        assert_eq!(stored.space(), space);
        assert_eq!(stored.length(), shape.bytes);
        assert_eq!(stored.inline_value().len(), shape.value_length);
        assert!(stored.inline_value().iter().all(|byte| *byte == 9));
        // Read back, and changed as a touch or a version does, and back.
        let read = stored.shape();
        assert_eq!((read.bytes, read.expiry()), (shape.bytes, write.expiry));
        let version = EntryVersion::Caller(3);
        let changed = read.with_expiry(Expiry::At(Millis(1))).with_version(version);
        let value_at = changed.write(&key, bytes);
        let stored = Stored::read(bytes);
        assert_eq!((stored.value_at(), stored.length()), (value_at, changed.bytes));
        assert_eq!(stored.expiry(), Expiry::At(Millis(1)));
        assert_eq!((stored.version(), stored.user_flags()), (Some(version), write.user_flags));
        assert!(stored.is(space, &key));
    }

    #[test]
    fn a_large_value_is_a_name() {
        let shape = Shape::new(0, 3, 10 << 20, &Write::value(&[])).in_chunks();
        let mut bytes = [0; 64];
        let at = shape.write(b"key", &mut bytes);
        bytes[at..at + 8].copy_from_slice(&77_u64.to_le_bytes());
        let stored = Stored::read(&bytes);
        assert_eq!(stored.value_length(), 10 << 20);
        assert_eq!(stored.first_chunk(), Handle::new(77));
        assert_eq!(stored.length(), 4 + 4 + 3 + 8);
    }
}
