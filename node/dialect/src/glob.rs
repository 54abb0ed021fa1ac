//! Glob patterns as Redis has them: `*`, `?`, `[a-z]`, `[^a]` and `\` before any of them.
//!
//! Redis matches by recursion (`util.c`, `stringmatchlen`), and its time grows with every
//! star. Here a mismatch goes back to the latest star alone, which finds the same matches:
//! an earlier star could only take bytes that the latest one can take too. What is left is
//! at most the pattern's length times the text's, and a budget bounds even that.

use crate::limits::GLOB_STEPS_MAX;

/// Whether letters match in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// They must be the same.
    Exact,
    /// Either case will do.
    Ignored,
}

/// Whether a pattern matches the whole text. A match that takes more than
/// [`GLOB_STEPS_MAX`] steps is none.
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    // The latest star: what follows it in the pattern, and how much of the text it has.
    let mut star: Option<(usize, usize)> = None;
    for _ in 0..GLOB_STEPS_MAX {
        if let Some(&byte) = text.get(at_text) {
            if pattern.get(at_pattern) == Some(&b'*') {
                at_pattern += 1;
                star = Some((at_pattern, at_text));
                continue;
            }
            if let Some(length) = one(&pattern[at_pattern..], byte, case) {
                at_pattern += length;
                at_text += 1;
                continue;
            }
        } else if pattern[at_pattern..].iter().all(|&byte| byte == b'*') {
            return true;
        }
        // The latest star takes one byte more.
        let Some((after, taken)) = star else { return false };
        if taken == text.len() {
            return false;
        }
        star = Some((after, taken + 1));
        (at_pattern, at_text) = (after, taken + 1);
    }
    false
}

/// The length of the pattern's first element, if it matches the byte.
fn one(pattern: &[u8], byte: u8, case: Case) -> Option<usize> {
    let fold = |byte: u8| if case == Case::Ignored { byte.to_ascii_lowercase() } else { byte };
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref class @ ..] => one_of(class, byte, fold).map(|length| length + 1),
        [b'\\', escaped, ..] => (fold(escaped) == fold(byte)).then_some(2),
        [literal, ..] => (fold(literal) == fold(byte)).then_some(1),
    }
}

/// The length of a class, closing bracket included, if it has the byte. A class that does
/// not end is one up to the pattern's end.
fn one_of(class: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut has = false;
    let end = loop {
        match class[at..] {
            [] => break at,
            [b']', ..] => break at + 1,
            [b'\\', escaped, ..] => {
                has |= escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                let (low, high) = (fold(low.min(high)), fold(low.max(high)));
                has |= (low..=high).contains(&fold(byte));
                at += 3;
            }
            [literal, ..] => {
                has |= fold(literal) == fold(byte);
                at += 1;
            }
        }
    };
    (has != negated).then_some(end)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        let found = matches(pattern.as_bytes(), text.as_bytes(), Case::Exact);
        assert_eq!(found, expected, "{pattern:?} on {text:?}");
    }

    #[test]
    fn every_element_matches_what_it_says() {
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("a*", "abc", true);
        check("*c", "abc", true);
        check("a*b*c", "aXXbXbc", true);
        check("a*b*c", "aXXbXbd", false);
        check("h?llo", "hello", true);
        check("h?llo", "hllo", false);
        check("h[ae]llo", "hallo", true);
        check("h[^e]llo", "hello", false);
        check("h[^e]llo", "hbllo", true);
        check("h[a-c]llo", "hbllo", true);
        check("h[c-a]llo", "hbllo", true);
        check("[]]", "]", false);
        check("[abc", "b", true);
        check("[", "[", false);
        check("[^", "x", true);
        check("[\\]]", "]", true);
        check("\\*", "*", true);
        check("\\*", "a", false);
        check("\\", "\\", true);
        check("Key", "key", false);
        assert!(matches(b"KEY[A-C]", b"keyb", Case::Ignored));
    }

    #[test]
    fn many_stars_come_to_an_end() {
        let pattern = "a*".repeat(1_000) + "b";
        let text = "a".repeat(16_000);
        assert!(!matches(pattern.as_bytes(), text.as_bytes(), Case::Exact));
    }

    /// Obvious and slow: a star matches nothing, or one byte and then as before.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => {
                reference(rest, text) || (!text.is_empty() && reference(pattern, &text[1..]))
            }
            (_, []) => false,
            (_, [byte, tail @ ..]) => one(pattern, *byte, Case::Exact)
                .is_some_and(|length| reference(&pattern[length..], tail)),
        }
    }

    #[test]
    fn going_back_to_the_latest_star_is_enough() {
        for seed in 0..50_000 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut pick = |from: &[u8], most: usize| -> Vec<u8> {
                let length = random.random_range(0..=most);
                (0..length).map(|_| from[random.random_range(0..from.len())]).collect()
            };
            let pattern = pick(b"ab*?[]^-\\*", 8);
            let text = pick(b"ab]", 8);
            let expected = reference(&pattern, &text);
            let found = matches(&pattern, &text, Case::Exact);
            assert_eq!(found, expected, "seed {seed}: {pattern:?} on {text:?}");
        }
    }
}
