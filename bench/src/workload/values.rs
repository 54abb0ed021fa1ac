//! Values that follow from their keys, so that every reply can be checked in full without
//! remembering what was written: a run of 8-byte words, each a fixed step from the one
//! before, from a start that is a hash of the key's number. A value of another key, of
//! another length, with bytes moved or changed, or cut short, is told from the right one.

use super::keys::KeyNumber;

/// From one word to the next: odd, and with its bits spread, so that no two words of a
/// value are alike. (2^64 divided by the golden ratio.)
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The shape of the workload's values.
#[derive(Clone, Copy, Debug)]
pub struct ValueFormat {
    value_bytes: usize,
    seed: u64,
}

impl ValueFormat {
    /// Values of one length; other seeds give other values to the same keys.
    pub fn new(value_bytes: usize, seed: u64) -> ValueFormat {
        ValueFormat { value_bytes, seed }
    }

    /// Bytes of every value.
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Replaces what `buffer` holds by the value of a key.
    pub fn write(&self, number: KeyNumber, buffer: &mut Vec<u8>) {
        buffer.resize(self.value_bytes, 0);
        let mut word = self.first_word(number);
        let mut chunks = buffer.chunks_exact_mut(8);
        for chunk in &mut chunks {
            chunk.copy_from_slice(&word.to_le_bytes());
            word = word.wrapping_add(STEP);
        }
        let rest = chunks.into_remainder();
        let length = rest.len();
        rest.copy_from_slice(&word.to_le_bytes()[..length]);
    }

    /// Whether these bytes are the value of that key.
    pub fn check(&self, number: KeyNumber, value: &[u8]) -> bool {
        if value.len() != self.value_bytes {
            return false;
        }
        let mut word = self.first_word(number);
        let mut difference = 0u64;
        let (chunks, rest) = value.as_chunks::<8>();
        for chunk in chunks {
            difference |= u64::from_le_bytes(*chunk) ^ word;
            word = word.wrapping_add(STEP);
        }
        difference == 0 && rest == &word.to_le_bytes()[..rest.len()]
    }

    /// The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit of the number moves
    /// every bit of the word.
    fn first_word(&self, number: KeyNumber) -> u64 {
        let mut word = (number.0 ^ self.seed).wrapping_add(STEP);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_own_and_no_other_keys() {
        for length in [1, 7, 8, 9, 63, 64, 65, 1024, 4097] {
            let format = ValueFormat::new(length, 1);
            let mut value = Vec::new();
            for number in 0..50 {
                format.write(KeyNumber(number), &mut value);
                assert_eq!(value.len(), length);
                assert!(format.check(KeyNumber(number), &value));
                if length >= 7 {
                    assert!(!format.check(KeyNumber(number + 1), &value));
                    assert!(!ValueFormat::new(length, 2).check(KeyNumber(number), &value));
                }
            }
        }
    }

    #[test]
    fn every_corruption_of_a_value_is_noticed() {
        for length in [8, 64, 67] {
            let format = ValueFormat::new(length, 1);
            let mut right = Vec::new();
            format.write(KeyNumber(42), &mut right);
            for position in 0..length {
                for bit in 0..8 {
                    let mut wrong = right.clone();
                    wrong[position] ^= 1 << bit;
                    assert!(!format.check(KeyNumber(42), &wrong), "bit {bit} of {position}");
                }
            }
            assert!(!format.check(KeyNumber(42), &right[..length - 1]));
            let mut longer = right.clone();
            longer.push(0);
            assert!(!format.check(KeyNumber(42), &longer));
            if length > 16 {
                let mut swapped = right.clone();
                swapped.copy_within(8..16, 0);
                swapped[8..16].copy_from_slice(&right[..8]);
                assert!(!format.check(KeyNumber(42), &swapped));
            }
        }
    }

    #[test]
    fn an_empty_value_is_right_when_it_is_empty() {
        let format = ValueFormat::new(0, 1);
        assert!(format.check(KeyNumber(1), b""));
        assert!(!format.check(KeyNumber(1), b"x"));
    }
}
