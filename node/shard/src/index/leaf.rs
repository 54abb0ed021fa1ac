//! A leaf of the index: up to 64 groups of words, an open-addressed table of its own.
//!
//! A word's home group is its hash scaled to the number of groups, so groups are in hash
//! order. A word whose home is full goes to the next group with a free place, around the end.
//!
//! Invariant PATH: every group between a word's home and the group before its own is full.
//! So a search ends at the first group that is not, and there are no tombstones: taking a word
//! out of a full group pulls back one that had to pass it.
//!
//! Functions here work on a slice of whole groups and know no arena.

use super::group::{self, GROUP};
use super::word::{STORED_BITS, Word};

/// How the words of a leaf see their hash: which bits they keep, and which of these tell
/// leaves apart rather than groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    depth: u32,
}

/// Hash bits after which words keep later bits; see [`Window`].
const WINDOW_STEP: u32 = 10;

impl Window {
    /// The window of leaves that share their slot and `depth` leading bits of the hash.
    #[inline]
    pub(crate) fn at(depth: u32) -> Self {
        Self { depth }
    }

    /// The first bit that words keep, counted from the top. Ten bits later every ten levels,
    /// so that at least twelve kept bits are left to tell the words of a leaf apart.
    #[inline]
    pub(crate) fn start(self) -> u32 {
        self.depth / WINDOW_STEP * WINDOW_STEP
    }

    /// The bits that a word keeps of a hash.
    #[inline]
    pub(crate) fn stored(self, hash: u64) -> u64 {
        hash << self.start() >> (64 - STORED_BITS)
    }

    /// The home group among `groups` of kept bits.
    #[inline]
    pub(crate) fn home(self, stored: u64, groups: usize) -> usize {
        let used_up = self.depth - self.start();
        let rest = stored << used_up & ((1 << STORED_BITS) - 1);
        ((rest * groups as u64) >> STORED_BITS) as usize
    }

    /// Whether a kept hash goes to the right when a leaf of this depth is split.
    #[inline]
    pub(crate) fn goes_right(self, stored: u64) -> bool {
        stored >> (STORED_BITS - 1 - (self.depth - self.start())) & 1 == 1
    }

    /// What is known of a hash from the leaf's own leading bits (`prefix`, at the top of a
    /// word) and what a word keeps; unknown bits are zero.
    #[inline]
    pub(crate) fn known(self, prefix: u64, stored: u64) -> u64 {
        let start = self.start();
        let leading = if start == 0 { 0 } else { prefix >> (64 - start) << (64 - start) };
        leading | stored << (64 - STORED_BITS) >> start
    }

    /// How many leading bits [`Window::known`] knows.
    #[inline]
    pub(crate) fn known_bits(self) -> u32 {
        self.start() + STORED_BITS
    }
}

/// One group of a leaf.
#[inline]
pub(crate) fn group_at(words: &[u64], number: usize) -> &[u64; GROUP] {
    words[number * GROUP..][..GROUP].try_into().expect("a leaf is whole groups")
}

/// Where a word with these kept bits is for which `is` says yes.
#[inline]
pub(crate) fn find(
    words: &[u64],
    window: Window,
    stored: u64,
    is: impl FnMut(Word) -> bool,
) -> Option<usize> {
    search(words, window, stored, is).ok()
}

/// The same; where there is none, the free place that one would take, if there is one.
#[inline]
pub(crate) fn search(
    words: &[u64],
    window: Window,
    stored: u64,
    mut is: impl FnMut(Word) -> bool,
) -> Result<usize, Option<usize>> {
    let groups = words.len() / GROUP;
    let mut number = window.home(stored, groups);
    for _ in 0..groups {
        let group = group_at(words, number);
        let mut found = group::matches(group, stored);
        while found != 0 {
            let place = found.trailing_zeros() as usize;
            let word = Word(group[place]);
            if !word.is_empty() && is(word) {
                return Ok(number * GROUP + place);
            }
            found &= found - 1;
        }
        if !group::is_full(group) {
            return Err(Some(number * GROUP + group::length(group)));
        }
        number += 1;
        if number == groups {
            number = 0;
        }
    }
    Err(None)
}

/// The place that a word with these kept bits takes, where there is one.
pub(crate) fn free_place(words: &[u64], window: Window, stored: u64) -> Option<usize> {
    match search(words, window, stored, |_| false) {
        Ok(_) => unreachable!("no word is looked for"),
        Err(place) => place,
    }
}

/// Takes the word at a place out.
pub(crate) fn remove(words: &mut [u64], window: Window, place: usize) {
    let groups = words.len() / GROUP;
    let mut hole = place / GROUP;
    let mut full = take_from_group(words, place);
    // PATH: while the group with the new hole was full, words further on may have passed it.
    while full {
        let mut number = hole;
        let pulled = loop {
            number += 1;
            if number == groups {
                number = 0;
            }
            if number == hole {
                return;
            }
            if let Some(found) = passed(words, window, hole, number) {
                break found;
            }
            if !group::is_full(group_at(words, number)) {
                return;
            }
        };
        let word = words[pulled];
        full = take_from_group(words, pulled);
        words[hole * GROUP + GROUP - 1] = word;
        hole = pulled / GROUP;
    }
}

/// Takes a word out of its group and says whether the group was full.
fn take_from_group(words: &mut [u64], place: usize) -> bool {
    let group = &mut words[place / GROUP * GROUP..][..GROUP];
    let whole: &[u64; GROUP] = (&*group).try_into().expect("a leaf is whole groups");
    let full = group::is_full(whole);
    let last = group::length(whole) - 1;
    group[place % GROUP] = group[last];
    group[last] = 0;
    full
}

/// A place in group `number` whose word may as well be in group `hole` before it.
fn passed(words: &[u64], window: Window, hole: usize, number: usize) -> Option<usize> {
    let groups = words.len() / GROUP;
    let behind = |home: usize| (number + groups - home) % groups;
    group_at(words, number)
        .iter()
        .take_while(|word| !Word(**word).is_empty())
        .position(|word| behind(window.home(Word(*word).stored(), groups)) >= behind(hole))
        .map(|place| number * GROUP + place)
}

/// All words that are taken, with their places.
pub(crate) fn taken(words: &[u64]) -> impl Iterator<Item = (usize, Word)> + '_ {
    words
        .iter()
        .enumerate()
        .map(|(place, word)| (place, Word(*word)))
        .filter(|(_, word)| !word.is_empty())
}

/// Checks PATH and that groups fill from the front; returns how many words are taken.
pub(crate) fn invariants(words: &[u64], window: Window) -> usize {
    let groups = words.len() / GROUP;
    let mut count = 0;
    for (place, word) in taken(words) {
        count += 1;
        let own = place / GROUP;
        assert!(place % GROUP < group::length(group_at(words, own)));
        let mut number = window.home(word.stored(), groups);
        while number != own {
            assert!(group::is_full(group_at(words, number)), "PATH");
            number = (number + 1) % groups;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::heap::Handle;

    /// Random words in and out of leaves of every size, checked against a list.
    #[test]
    fn leaves_keep_what_they_are_given() {
        let mut random = StdRng::seed_from_u64(2);
        for groups in [1, 2, 3, 7, 17, 64] {
            for depth in [0, 3, 9, 10, 13] {
                let window = Window::at(depth);
                let mut words = vec![0; groups * GROUP];
                let mut held: Vec<Word> = Vec::new();
                let mut next = 1;
                for _ in 0..4_000 {
                    let grow = random.random_range(0..100) < 55;
                    if grow && held.len() < words.len() {
                        // Few hashes now and then, so that runs wrap around the end.
                        let hash = match random.random_range(0..3) {
                            0 => u64::MAX,
                            1 => random.random::<u64>() & 3 << 50,
                            _ => random.random(),
                        };
                        let word = Word::new(window.stored(hash), Handle::new(next));
                        next += 1;
                        let place = free_place(&words, window, word.stored());
                        words[place.expect("it is not full")] = word.0;
                        held.push(word);
                    } else if !held.is_empty() {
                        let word = held.swap_remove(random.random_range(0..held.len()));
                        let place = find(&words, window, word.stored(), |found| found == word)
                            .expect("a word that was put in");
                        remove(&mut words, window, place);
                        assert_eq!(
                            find(&words, window, word.stored(), |found| found == word),
                            None
                        );
                    }
                    if random.random_range(0..50) == 0 {
                        assert_eq!(invariants(&words, window), held.len());
                        for word in &held {
                            assert!(
                                find(&words, window, word.stored(), |found| found == *word)
                                    .is_some()
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn windows_know_what_words_and_leaves_keep() {
        let mut random = StdRng::seed_from_u64(3);
        for depth in 0..34 {
            let window = Window::at(depth);
            for _ in 0..100 {
                let hash: u64 = random.random();
                let prefix = if depth == 0 { 0 } else { hash >> (64 - depth) << (64 - depth) };
                let known = window.known(prefix, window.stored(hash));
                let unknown = 64 - window.known_bits();
                assert_eq!(known >> unknown, hash >> unknown);
                assert_eq!(known << window.known_bits(), 0);
                let right = hash >> (63 - depth) & 1 == 1;
                assert_eq!(window.goes_right(window.stored(hash)), right);
            }
        }
    }
}
