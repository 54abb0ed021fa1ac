//! Lists inside requests and replies that only the cores of a node exchange, still encoded
//! and borrowed from the bytes they arrived in. They are made by one core and read by
//! another of the same build, so a list that is malformed simply ends early.

use super::{Space, Version};

/// Keys of any number: each a 16-bit length and its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyList<'a> {
    encoded: &'a [u8],
}

impl<'a> KeyList<'a> {
    /// Borrows a list that [`KeyList::push`] wrote.
    pub fn from_encoded(encoded: &'a [u8]) -> KeyList<'a> {
        KeyList { encoded }
    }

    /// Appends a key to a list.
    ///
    /// # Panics
    /// The key is longer than [`crate::limits::KEY_BYTES_MAX`].
    pub fn push(list: &mut Vec<u8>, key: &[u8]) {
        push_key(list, key);
    }

    /// The encoded list.
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// The keys in order.
    pub fn iter(&self) -> KeyListIter<'a> {
        KeyListIter { rest: self.encoded }
    }
}

impl<'a> IntoIterator for KeyList<'a> {
    type Item = &'a [u8];
    type IntoIter = KeyListIter<'a>;

    fn into_iter(self) -> KeyListIter<'a> {
        self.iter()
    }
}

/// Iterates over a [`KeyList`].
#[derive(Clone, Debug)]
pub struct KeyListIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for KeyListIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        take_key(&mut self.rest)
    }
}

/// Keys with their values: a 16-bit length and the key, a 32-bit length and the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairs<'a> {
    encoded: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// Borrows a list that [`Pairs::push`] wrote.
    pub fn from_encoded(encoded: &'a [u8]) -> Pairs<'a> {
        Pairs { encoded }
    }

    /// Appends a pair to a list.
    ///
    /// # Panics
    /// The key or the value is longer than the protocol's limit.
    pub fn push(list: &mut Vec<u8>, key: &[u8], value: &[u8]) {
        push_key(list, key);
        assert!(value.len() <= crate::limits::VALUE_BYTES_MAX, "checked by whoever read it");
        list.extend_from_slice(&(value.len() as u32).to_le_bytes());
        list.extend_from_slice(value);
    }

    /// The encoded list.
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// The pairs in order.
    pub fn iter(&self) -> PairsIter<'a> {
        PairsIter { rest: self.encoded }
    }
}

impl<'a> IntoIterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = PairsIter<'a>;

    fn into_iter(self) -> PairsIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Pairs`].
#[derive(Clone, Debug)]
pub struct PairsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for PairsIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let key = take_key(&mut self.rest)?;
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some((key, value))
    }
}

/// What a transaction depends on: a key as it was when it was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch<'a> {
    /// The key's space.
    pub space: Space,
    /// The key.
    pub key: &'a [u8],
    /// What [`super::Request::Watch`] was answered; none where it was refused.
    pub version: Option<Version>,
}

/// Watches: space (1), whether there is a version (1), the version (8), the key with its
/// 16-bit length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watches<'a> {
    encoded: &'a [u8],
}

impl<'a> Watches<'a> {
    /// Borrows a list that [`Watches::push`] wrote.
    pub fn from_encoded(encoded: &'a [u8]) -> Watches<'a> {
        Watches { encoded }
    }

    /// Appends a watch to a list.
    ///
    /// # Panics
    /// The key is longer than [`crate::limits::KEY_BYTES_MAX`].
    pub fn push(list: &mut Vec<u8>, watch: &Watch<'_>) {
        list.extend_from_slice(&[watch.space.number(), u8::from(watch.version.is_some())]);
        list.extend_from_slice(&watch.version.map_or(0, |version| version.0).to_le_bytes());
        push_key(list, watch.key);
    }

    /// The encoded list.
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The watches in order.
    pub fn iter(&self) -> WatchesIter<'a> {
        WatchesIter { rest: self.encoded }
    }
}

impl<'a> IntoIterator for Watches<'a> {
    type Item = Watch<'a>;
    type IntoIter = WatchesIter<'a>;

    fn into_iter(self) -> WatchesIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Watches`].
#[derive(Clone, Debug)]
pub struct WatchesIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for WatchesIter<'a> {
    type Item = Watch<'a>;

    fn next(&mut self) -> Option<Watch<'a>> {
        let (&[space, present, version @ ..], rest) = self.rest.split_first_chunk::<10>()?;
        self.rest = rest;
        let key = take_key(&mut self.rest)?;
        let version = (present != 0).then_some(Version(u64::from_le_bytes(version)));
        Some(Watch { space: Space::new(space)?, key, version })
    }
}

fn push_key(list: &mut Vec<u8>, key: &[u8]) {
    assert!(key.len() <= crate::limits::KEY_BYTES_MAX, "checked by whoever read it");
    list.extend_from_slice(&(key.len() as u16).to_le_bytes());
    list.extend_from_slice(key);
}

fn take_key<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<2>()?;
    let (key, tail) = tail.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *rest = tail;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_give_back_what_was_pushed() {
        let keys = [b"a".as_slice(), b"", b"key"];
        let mut list = Vec::new();
        keys.iter().for_each(|key| KeyList::push(&mut list, key));
        assert!(KeyList::from_encoded(&list).iter().eq(keys));

        let pairs = [(b"k".as_slice(), b"".as_slice()), (b"", b"value")];
        let mut list = Vec::new();
        pairs.iter().for_each(|(key, value)| Pairs::push(&mut list, key, value));
        assert!(Pairs::from_encoded(&list).iter().eq(pairs));

        let space = Space::new(3).unwrap();
        let watches = [
            Watch { space, key: b"k", version: Some(Version(7)) },
            Watch { space: Space::default(), key: b"", version: None },
        ];
        let mut list = Vec::new();
        watches.iter().for_each(|watch| Watches::push(&mut list, watch));
        assert!(Watches::from_encoded(&list).iter().eq(watches));
    }

    #[test]
    fn a_list_cut_short_ends_early() {
        let mut list = Vec::new();
        Pairs::push(&mut list, b"key", b"value");
        Pairs::push(&mut list, b"key", b"value");
        let whole = list.len() / 2;
        for cut in 0..list.len() {
            assert_eq!(Pairs::from_encoded(&list[..cut]).iter().count(), cut / whole);
        }
    }
}
