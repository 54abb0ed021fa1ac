//! Keys: a number and the bytes that stand for it, made by arithmetic so that asking for a
//! random key costs the generator no cache miss.

use std::ops::Range;

/// The number of a key, from 0 to one less than the workload has keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyNumber(pub u64);

/// What keys begin with where there is room for it.
const PREFIX: &[u8] = b"key:";

/// Decimal digits of every two-digit number, in order.
const DIGIT_PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Why keys cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    /// The number of keys does not fit into their length.
    #[error("{keys} keys need at least {needed} bytes each; the key size is {given}")]
    TooShort {
        /// Keys of the workload.
        keys: u64,
        /// Bytes that their digits take.
        needed: usize,
        /// Bytes asked for.
        given: usize,
    },
    /// No keys.
    #[error("a workload has at least one key")]
    None,
}

/// How numbers become keys: a prefix, then decimal digits with leading zeros, always of one
/// length. A value of this type fits its number of keys.
#[derive(Clone, Debug)]
pub struct KeyFormat {
    /// A key whose digits are zeros.
    template: Vec<u8>,
    /// Where the digits that change are.
    digits: Range<usize>,
}

impl KeyFormat {
    /// Keys of `key_bytes` bytes for the numbers below `keys`.
    ///
    /// # Errors
    /// The largest number has more digits than a key has bytes, or there are no keys.
    pub fn new(keys: u64, key_bytes: usize) -> Result<KeyFormat, KeyFormatError> {
        let largest = keys.checked_sub(1).ok_or(KeyFormatError::None)?;
        let needed = largest.checked_ilog10().map_or(1, |power| power as usize + 1);
        if needed > key_bytes {
            return Err(KeyFormatError::TooShort { keys, needed, given: key_bytes });
        }
        let mut template = vec![b'0'; key_bytes];
        if key_bytes >= PREFIX.len() + needed {
            template[..PREFIX.len()].copy_from_slice(PREFIX);
        }
        Ok(KeyFormat { template, digits: key_bytes - needed..key_bytes })
    }

    /// Bytes of every key.
    pub fn key_bytes(&self) -> usize {
        self.template.len()
    }

    /// A buffer that [`KeyFormat::write`] can fill.
    pub fn buffer(&self) -> KeyBuffer {
        KeyBuffer { bytes: self.template.clone() }
    }

    /// Makes the buffer the key of a number, and returns its bytes.
    pub fn write<'b>(&self, number: KeyNumber, buffer: &'b mut KeyBuffer) -> &'b [u8] {
        let mut rest = number.0;
        let mut end = self.digits.end;
        while end >= self.digits.start + 2 {
            let pair = &DIGIT_PAIRS[(rest % 100) as usize];
            buffer.bytes[end - 2..end].copy_from_slice(pair);
            rest /= 100;
            end -= 2;
        }
        if end > self.digits.start {
            buffer.bytes[end - 1] = b'0' + (rest % 10) as u8;
        }
        &buffer.bytes
    }
}

/// The bytes of one key at a time; see [`KeyFormat::buffer`].
#[derive(Clone, Debug)]
pub struct KeyBuffer {
    bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: u64, key_bytes: usize, number: u64, expected: &str) {
        let format = KeyFormat::new(keys, key_bytes).unwrap();
        let mut buffer = format.buffer();
        format.write(KeyNumber(keys - 1), &mut buffer);
        let key = format.write(KeyNumber(number), &mut buffer);
        assert_eq!(std::str::from_utf8(key).unwrap(), expected);
    }

    #[test]
    fn keys_have_one_length_and_leading_zeros() {
        check(1_000_000, 16, 12_345, "key:000000012345");
        check(1_000_000, 16, 999_999, "key:000000999999");
        check(1_000_000, 10, 7, "key:000007");
        check(1_000_000, 9, 7, "000000007");
        check(1_000_000, 6, 123_456, "123456");
        check(10_000_000, 7, 1_234_567, "1234567");
        check(1, 1, 0, "0");
    }

    #[test]
    fn every_number_has_its_own_key() {
        let format = KeyFormat::new(12_345, 8).unwrap();
        let mut buffer = format.buffer();
        let mut last = Vec::new();
        for number in 0..12_345 {
            let key = format.write(KeyNumber(number), &mut buffer).to_vec();
            assert!(last < key);
            last = key;
        }
    }

    #[test]
    fn keys_too_short_for_their_number_are_refused() {
        assert_eq!(
            KeyFormat::new(1_000_001, 6).unwrap_err(),
            KeyFormatError::TooShort { keys: 1_000_001, needed: 7, given: 6 }
        );
        assert_eq!(KeyFormat::new(0, 6).unwrap_err(), KeyFormatError::None);
    }
}
