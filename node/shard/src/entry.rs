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
use crate::types::{EntryVersion, Expiry, Millis};

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

/// Bytes that stand for a large value in its entry.
pub(crate) const LARGE_BYTES: usize = 8;

/// All that decides an entry's size, and the fields before its key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) expiry: Expiry,
    pub(crate) version: Option<EntryVersion>,
    pub(crate) user_flags: u32,
    pub(crate) space: u8,
    pub(crate) key_length: usize,
    /// The value's own length.
    pub(crate) value_length: usize,
    /// Whether the value is stored in chunks.
    pub(crate) placement: Placement,
}

/// Where a value's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Inline,
    Chunks,
}

impl Shape {
    fn header(&self) -> u32 {
        let mut header = TYPE_BYTES;
        header |= match self.expiry {
            Expiry::Never => 0,
            Expiry::At(Millis(at)) if u32::try_from(at).is_ok() => EXPIRY_SHORT,
            Expiry::At(_) => EXPIRY_LONG,
        };
        header |= match self.version {
            None => 0,
            Some(EntryVersion::Shard(_)) => VERSION_SHARD,
            Some(EntryVersion::Caller(_)) => VERSION_CALLER,
        };
        if self.user_flags != 0 {
            header |= USER_FLAGS;
        }
        if self.space != 0 {
            header |= SPACE;
        }
        if self.placement == Placement::Chunks {
            header |= LARGE;
        }
        header |= (self.key_length as u32).min(KEY_ESCAPE) << KEY_SHIFT;
        header |= (self.value_length.min(VALUE_ESCAPE as usize) as u32) << VALUE_SHIFT;
        header
    }

    /// Bytes of the whole entry.
    pub(crate) fn bytes(&self) -> usize {
        let stored = match self.placement {
            Placement::Inline => self.value_length,
            Placement::Chunks => LARGE_BYTES,
        };
        key_offset(self.header()) + self.key_length + stored
    }

    /// Writes everything but the value and returns where that goes.
    pub(crate) fn write(&self, key: &[u8], bytes: &mut [u8]) -> usize {
        debug_assert_eq!(key.len(), self.key_length);
        let header = self.header();
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&header.to_le_bytes());
        if let Expiry::At(Millis(expiry)) = self.expiry {
            match u32::try_from(expiry) {
                Ok(short) => put(&short.to_le_bytes()),
                Err(_) => put(&expiry.to_le_bytes()),
            }
        }
        if let Some(EntryVersion::Shard(version) | EntryVersion::Caller(version)) = self.version {
            put(&version.to_le_bytes());
        }
        if self.user_flags != 0 {
            put(&self.user_flags.to_le_bytes());
        }
        if self.space != 0 {
            put(&[self.space]);
        }
        if header >> KEY_SHIFT & KEY_ESCAPE == KEY_ESCAPE {
            put(&(self.key_length as u16).to_le_bytes());
        }
        if header >> VALUE_SHIFT == VALUE_ESCAPE {
            put(&(self.value_length as u32).to_le_bytes());
        }
        put(key);
        at
    }
}

/// Bytes before the key.
#[inline]
fn key_offset(header: u32) -> usize {
    let mut at = 4;
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
        Shape {
            expiry: self.expiry(),
            version: self.version(),
            user_flags: self.user_flags(),
            space: self.space(),
            key_length: self.key_length,
            value_length: self.value_length,
            placement: self.placement(),
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
                                let shape = Shape {
                                    expiry,
                                    version,
                                    user_flags,
                                    space,
                                    key_length,
                                    value_length,
                                    placement: Placement::Inline,
                                };
                                check(&shape, &mut bytes);
                                plain.get_or_insert(shape.bytes());
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(plain, Some(4), "no optional field takes room");
    }

    fn check(shape: &Shape, bytes: &mut [u8]) {
        let key = vec![3; shape.key_length];
        let value_at = shape.write(&key, bytes);
        bytes[value_at..value_at + shape.value_length].fill(9);
        let stored = Stored::read(bytes);
        assert!(stored.is(shape.space, &key));
        assert_eq!(stored.expiry(), shape.expiry);
        assert_eq!(stored.version(), shape.version);
        assert_eq!(stored.user_flags(), shape.user_flags);
        assert_eq!(stored.space(), shape.space);
        assert_eq!(stored.length(), shape.bytes());
        assert_eq!(stored.inline_value().len(), shape.value_length);
        assert!(stored.inline_value().iter().all(|byte| *byte == 9));
        assert_eq!(stored.shape().bytes(), shape.bytes());
    }

    #[test]
    fn a_large_value_is_a_name() {
        let shape = Shape {
            expiry: Expiry::Never,
            version: None,
            user_flags: 0,
            space: 0,
            key_length: 3,
            value_length: 10 << 20,
            placement: Placement::Chunks,
        };
        let mut bytes = [0; 64];
        let at = shape.write(b"key", &mut bytes);
        bytes[at..at + 8].copy_from_slice(&77_u64.to_le_bytes());
        let stored = Stored::read(&bytes);
        assert_eq!(stored.value_length(), 10 << 20);
        assert_eq!(stored.first_chunk(), Handle::new(77));
        assert_eq!(stored.length(), 4 + 4 + 3 + 8);
    }
}
