//! Lines of the text protocol: where they end, the words on them, numbers among the words.

const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);

/// The highest bit of each byte that is zero. Above the lowest of them it may be wrong, but
/// only the lowest is asked for.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Where a byte first stands.
///
/// Eight bytes at a time, by the test for a zero byte in a word (Warren, "Hacker's Delight",
/// 6-1); lines are too short for the set-up of a vectored search to pay.
pub(super) fn find(wanted: u8, bytes: &[u8]) -> Option<usize> {
    let pattern = ONES * u64::from(wanted);
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = zeros(u64::from_le_bytes(*word) ^ pattern);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let position = rest.iter().position(|byte| *byte == wanted)?;
    Some(words.len() * 8 + position)
}

/// Where the first of two bytes stands; see [`find`].
pub(super) fn find_either(one: u8, other: u8, bytes: &[u8]) -> Option<usize> {
    let (patterns, mut start) = ([ONES * u64::from(one), ONES * u64::from(other)], 0);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ patterns[0]) | zeros(word ^ patterns[1]);
        if found != 0 {
            return Some(start + found.trailing_zeros() as usize / 8);
        }
        start += 8;
    }
    Some(start + rest.iter().position(|byte| *byte == one || *byte == other)?)
}

/// A line without what ended it: LF, or CR and LF. A line of CR alone keeps it, as
/// memcached has it.
pub(super) fn without_return(line: &[u8]) -> &[u8] {
    match line {
        [] | [b'\r'] => line,
        [start @ .., b'\r'] => start,
        _ => line,
    }
}

/// The words of a line: what stands between spaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a [u8]) -> Words<'a> {
        Words { rest: line }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return None;
        }
        let end = find(b' ', self.rest).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(word)
    }
}

/// The words of a line by their place, as many as a command may have and one more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<'a, const N: usize> {
    words: [&'a [u8]; N],
    count: usize,
}

impl<'a, const N: usize> Arguments<'a, N> {
    /// Takes up to `N` words.
    pub(super) fn of(words: Words<'a>) -> Arguments<'a, N> {
        let mut arguments = Arguments { words: [b"".as_slice(); N], count: 0 };
        for (place, word) in arguments.words.iter_mut().zip(words) {
            *place = word;
            arguments.count += 1;
        }
        arguments
    }

    pub(super) fn as_slice(&self) -> &[&'a [u8]] {
        &self.words[..self.count]
    }
}

/// A decimal number, with or without a plus sign.
pub(super) fn unsigned(word: &[u8]) -> Option<u64> {
    let digits = word.strip_prefix(b"+").unwrap_or(word);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A decimal number of 32 bits, with or without a sign.
pub(super) fn signed(word: &[u8]) -> Option<i32> {
    match word {
        [b'-', digits @ ..] if !digits.starts_with(b"+") => {
            i32::try_from(-i64::try_from(unsigned(digits)?).ok()?).ok()
        }
        _ => i32::try_from(unsigned(word)?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_where_a_slow_search_finds_it() {
        let bytes: Vec<u8> = (0..200u32).map(|n| (n * n % 251) as u8).collect();
        for start in 0..40 {
            for end in start..bytes.len() {
                for wanted in [0, 1, b' ', b'\n', 127, 128, 200, 255] {
                    let slow = bytes[start..end].iter().position(|byte| *byte == wanted);
                    assert_eq!(find(wanted, &bytes[start..end]), slow, "{wanted} {start}..{end}");
                }
            }
        }
        assert_eq!(find(1, &[0, 0, 0, 1, 0, 1, 1, 1]), Some(3));
        for end in 0..bytes.len() {
            for (one, other) in [(1, 2), (b' ', b'\n'), (0, 128), (255, 4)] {
                let slow = bytes[..end].iter().position(|byte| [one, other].contains(byte));
                assert_eq!(find_either(one, other, &bytes[..end]), slow, "{one} {other} ..{end}");
            }
        }
    }

    #[test]
    fn words_stand_between_any_number_of_spaces() {
        let words = |line: &'static str| -> Vec<_> { Words::of(line.as_bytes()).collect() };
        assert_eq!(words("get  key "), [b"get".as_slice(), b"key"]);
        assert_eq!(words(" a\tb"), [b"a\tb".as_slice()]);
        assert!(words("   ").is_empty());
        let arguments = Arguments::<2>::of(Words::of(b"a b c"));
        assert_eq!(arguments.as_slice(), [b"a", b"b"]);
    }

    #[test]
    fn numbers_are_decimal_and_in_range() {
        let check = |word: &str, u: Option<u64>, s: Option<i32>| {
            assert_eq!(unsigned(word.as_bytes()), u, "{word}");
            assert_eq!(signed(word.as_bytes()), s, "{word}");
        };
        check("0", Some(0), Some(0));
        check("+7", Some(7), Some(7));
        check("007", Some(7), Some(7));
        check("-1", None, Some(-1));
        check("2147483648", Some(1 << 31), None);
        check("-2147483648", None, Some(i32::MIN));
        check("18446744073709551615", Some(u64::MAX), None);
        check("18446744073709551616", None, None);
        for wrong in ["", "+", "-", "-+1", "++1", "1x", " 1", "0x1"] {
            check(wrong, None, None);
        }
    }
}
