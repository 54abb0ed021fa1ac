//! Words in and out, and what follows from it: leaves grow and shrink by lines, split and
//! merge. Each step touches one leaf, at most 64 lines, and one or two nodes.

use super::group::GROUP;
use super::leaf::{self, Window};
use super::reference::Reference;
use super::word::Word;
use super::{Absent, DEPTH_MAX, Found, Index, Leaf, Place};
use crate::class::{Class, LEAF_LINES_MAX, LINE_BYTES};
use crate::heap::{Handle, Heap};

/// Bits of a new node and of the largest.
const NODE_BITS_MIN: u32 = 3;
const NODE_BITS_MAX: u32 = 6;

/// Words at which two neighbouring leaves become one.
const MERGE_WORDS: usize = LEAF_LINES_MAX * GROUP / 4;

/// A full leaf grows by one line in so many. Each rebuild costs about 2 ns a word, so an insert
/// pays 16 ns for it; finer steps save half a byte an entry and cost twice that.
const GROWTH_SHARE: usize = 8;

/// Pages that must be left for a leaf that shrinks to begin one: entries that are evicted in
/// numbers, to free a page, would take others for the leaves that they leave behind.
const SHRINK_PAGES: i64 = 10;

/// Words that a leaf of so many lines takes before it grows. Beyond 29/32, searches for what
/// is not there get long; one or two lines may as well be filled.
fn words_max(lines: usize) -> usize {
    match lines {
        0..=2 => lines * GROUP,
        _ => lines * GROUP * 29 / 32,
    }
}

/// The lines of the smallest leaf class for so many words.
fn lines_for(words: usize) -> usize {
    let mut lines = words.div_ceil(GROUP).max(1);
    while words_max(lines) < words {
        lines += 1;
    }
    Class::of_leaf(lines).slot_bytes() / LINE_BYTES
}

/// Computes a stored entry's hash again from its key.
pub(crate) trait Rehash {
    fn hash(&self, heap: &Heap, handle: Handle) -> u64;
}

/// A leaf cannot take another word: more than four hundred keys have 34 leading bits of their
/// hash in common, which no keyed hash does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeafFull;

impl Index {
    /// Puts the word of a new entry where it was looked for. Its kept hash bits are set here.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        heap: &mut Heap,
        absent: &Absent,
        hash: u64,
        word: Word,
        rehash: &impl Rehash,
    ) -> Result<(), LeafFull> {
        let reference = absent.leaf.reference;
        match absent.place {
            Some(place) if reference.taken() < words_max(reference.lines()) => {
                self.insert_at(heap, &absent.leaf, place, hash, word);
            }
            _ => {
                let leaf = self.make_space(heap, absent.leaf.slot, hash, rehash)?;
                let window = leaf.reference.window();
                let words = self.words(heap, &leaf);
                let place = leaf::free_place(words, window, window.stored(hash));
                self.insert_at(heap, &leaf, place.expect("space was made"), hash, word);
            }
        }
        Ok(())
    }

    /// Lets the leaf of a hash grow, or splits it, so that it takes another word.
    #[inline(never)]
    fn make_space(
        &mut self,
        heap: &mut Heap,
        slot: u16,
        hash: u64,
        rehash: &impl Rehash,
    ) -> Result<Leaf, LeafFull> {
        loop {
            let leaf = self.leaf(heap, slot, hash);
            let (lines, taken) = (leaf.reference.lines(), leaf.reference.taken());
            if taken < words_max(lines) {
                return Ok(leaf);
            }
            if lines < LEAF_LINES_MAX {
                let more = (lines / GROWTH_SHARE).max(1);
                self.resize(heap, &leaf, (lines + more).min(LEAF_LINES_MAX));
            } else if leaf.reference.depth() < DEPTH_MAX {
                self.split(heap, &leaf, rehash);
            } else {
                return Err(LeafFull);
            }
        }
    }

    #[inline]
    fn insert_at(&mut self, heap: &mut Heap, leaf: &Leaf, place: usize, hash: u64, word: Word) {
        let reference = leaf.reference;
        let word = word.with_stored(reference.window().stored(hash));
        *heap.word_mut(reference.units() + place as u64) = word.0;
        self.write(heap, leaf.slot, leaf.place, reference.with_taken(reference.taken() + 1));
        self.count(leaf.slot, 1);
    }

    /// Takes out a word that was found.
    pub(crate) fn remove(&mut self, heap: &mut Heap, found: &Found, rehash: &impl Rehash) {
        let leaf = &found.leaf;
        let reference = leaf.reference;
        leaf::remove(
            heap.words_mut(reference.handle(), reference.words()),
            reference.window(),
            found.place,
        );
        self.count(leaf.slot, -1);
        let taken = reference.taken() - 1;
        if taken == 0 {
            heap.give(reference.handle());
            self.write_all(heap, leaf, Reference::empty(reference.depth()));
        } else {
            self.write(heap, leaf.slot, leaf.place, reference.with_taken(taken));
            let roomy = taken + taken / 8 + 1;
            let is_worth_it = || {
                heap.pages_left() > SHRINK_PAGES || heap.has_slot(Class::of_leaf(lines_for(roomy)))
            };
            if taken * 8 < reference.words() * 5
                && lines_for(roomy) < reference.lines()
                && is_worth_it()
            {
                let leaf = self.leaf(heap, leaf.slot, leaf.prefix);
                self.resize(heap, &leaf, lines_for(roomy));
            }
        }
        if leaf.parent.is_some()
            && (taken == 0 || (taken < MERGE_WORDS && taken.is_multiple_of(16)))
        {
            while self.merge(heap, leaf.slot, leaf.prefix, rehash) {}
        }
    }

    /// Writes a leaf's reference into all entries that it covers.
    pub(super) fn write_all(&mut self, heap: &mut Heap, leaf: &Leaf, reference: Reference) {
        match (leaf.place, leaf.parent) {
            (Place::Entry(first), Some((node, _))) => {
                let span = 1 << (node.depth() + node.node_bits() - leaf.reference.depth());
                for units in first..first + span {
                    *heap.word_mut(units) = reference.0;
                }
            }
            _ => self.write(heap, leaf.slot, leaf.place, reference),
        }
    }

    /// Gives a leaf other memory of so many lines.
    fn resize(&mut self, heap: &mut Heap, leaf: &Leaf, lines: usize) {
        let old = leaf.reference;
        let class = Class::of_leaf(lines);
        let lines = class.slot_bytes() / LINE_BYTES;
        let handle = heap.take(class);
        if old.is_empty() {
            heap.words_mut(handle, lines * GROUP).fill(0);
        } else {
            let from = (old.handle(), old.words());
            let (from, words) = heap.words_and_mut(from, (handle, lines * GROUP));
            fill(words, old.window(), leaf::taken(from).map(|(_, word)| word));
            heap.give(old.handle());
        }
        self.rebuilt_lines += lines as u64;
        let reference = Reference::leaf(handle, lines, old.taken(), old.depth());
        self.write_all(heap, leaf, reference);
    }

    /// Makes two leaves of one, by one more bit of the hash.
    fn split(&mut self, heap: &mut Heap, leaf: &Leaf, rehash: &impl Rehash) {
        let leaf = self.make_divisible(heap, leaf);
        let old = leaf.reference;
        let depth = old.depth() + 1;
        let mut sides = [[0; LEAF_LINES_MAX * GROUP]; 2];
        let mut taken = [0, 0];
        for (_, word) in leaf::taken(heap.words(old.handle(), old.words())) {
            let side = usize::from(old.window().goes_right(word.stored()));
            let word = recode(heap, word, old.window(), Window::at(depth), rehash);
            sides[side][taken[side]] = word.0;
            taken[side] += 1;
        }
        heap.give(old.handle());
        let Place::Entry(first) = leaf.place else {
            unreachable!("a divisible leaf is in a node");
        };
        let (node, _) = leaf.parent.expect("a divisible leaf is in a node");
        let half = 1 << (node.depth() + node.node_bits() - depth);
        for (side, first) in [(0, first), (1, first + half)] {
            let words = &sides[side][..taken[side]];
            let reference = self.new_leaf(heap, words, depth);
            for units in first..first + half {
                *heap.word_mut(units) = reference.0;
            }
        }
    }

    /// A leaf of these words.
    fn new_leaf(&mut self, heap: &mut Heap, words: &[u64], depth: u32) -> Reference {
        if words.is_empty() {
            return Reference::empty(depth);
        }
        let lines = lines_for((words.len() + 1).min(words_max(LEAF_LINES_MAX)));
        let handle = heap.take(Class::of_leaf(lines));
        self.rebuilt_lines += lines as u64;
        let memory = heap.words_mut(handle, lines * GROUP);
        fill(memory, Window::at(depth), words.iter().map(|word| Word(*word)));
        Reference::leaf(handle, lines, words.len(), depth)
    }

    /// Sees to it that a leaf has two entries of its node or more.
    fn make_divisible(&mut self, heap: &mut Heap, leaf: &Leaf) -> Leaf {
        let depth = leaf.reference.depth();
        match leaf.parent {
            Some((node, _)) if node.depth() + node.node_bits() > depth => return *leaf,
            Some((node, place)) if node.node_bits() < NODE_BITS_MAX => {
                let bits = node.node_bits() + 1;
                let handle = heap.take(Class::of_node(bits));
                for entry in 0..1 << bits {
                    *heap.word_mut(handle.units() + entry) = heap.word(node.units() + entry / 2);
                }
                heap.give(node.handle());
                let node = Reference::node(handle, bits, node.depth());
                self.write(heap, leaf.slot, place, node);
            }
            _ => {
                let handle = heap.take(Class::of_node(NODE_BITS_MIN));
                for entry in 0..1 << NODE_BITS_MIN {
                    *heap.word_mut(handle.units() + entry) = leaf.reference.0;
                }
                let node = Reference::node(handle, NODE_BITS_MIN, depth);
                self.write(heap, leaf.slot, leaf.place, node);
            }
        }
        self.leaf(heap, leaf.slot, leaf.prefix)
    }

    /// Makes one leaf of two small neighbours, and of a node with one leaf that leaf.
    /// Returns whether it did.
    fn merge(&mut self, heap: &mut Heap, slot: u16, prefix: u64, rehash: &impl Rehash) -> bool {
        let leaf = self.leaf(heap, slot, prefix);
        let depth = leaf.reference.depth();
        let Some((node, node_place)) = leaf.parent else {
            return false;
        };
        if depth == node.depth() {
            return false;
        }
        let other = self.leaf(heap, slot, leaf.prefix ^ 1 << (64 - depth));
        let taken = leaf.reference.taken() + other.reference.taken();
        if other.reference.depth() != depth || other.parent != leaf.parent || taken > MERGE_WORDS {
            return false;
        }
        let window = Window::at(depth - 1);
        let mut words = [0; MERGE_WORDS];
        let mut count = 0;
        for side in [&leaf, &other] {
            for (_, word) in leaf::taken(self.words(heap, side)) {
                words[count] = recode(heap, word, Window::at(depth), window, rehash).0;
                count += 1;
            }
        }
        for side in [leaf.reference, other.reference] {
            if !side.is_empty() {
                heap.give(side.handle());
            }
        }
        let merged = self.new_leaf(heap, &words[..count], depth - 1);
        if depth - 1 == node.depth() {
            heap.give(node.handle());
            self.write(heap, slot, node_place, merged);
            return true;
        }
        let (Place::Entry(one), Place::Entry(two)) = (leaf.place, other.place) else {
            unreachable!("leaves with a parent are entries of it");
        };
        let span = 1 << (node.depth() + node.node_bits() - (depth - 1));
        for units in one.min(two)..one.min(two) + span {
            *heap.word_mut(units) = merged.0;
        }
        true
    }
}

/// Fills fresh memory with words.
fn fill(memory: &mut [u64], window: Window, words: impl Iterator<Item = Word>) {
    memory.fill(0);
    let groups = memory.len() / GROUP;
    // As `leaf::insert` does one by one, without counting in the groups themselves.
    let mut taken = [0_u8; LEAF_LINES_MAX];
    for word in words {
        let mut number = window.home(word.stored(), groups);
        while usize::from(taken[number]) == GROUP {
            number = if number + 1 == groups { 0 } else { number + 1 };
        }
        memory[number * GROUP + usize::from(taken[number])] = word.0;
        taken[number] += 1;
    }
}

/// A word for a leaf of another depth.
fn recode(heap: &Heap, word: Word, from: Window, to: Window, rehash: &impl Rehash) -> Word {
    if from.start() == to.start() {
        word
    } else {
        word.with_stored(to.stored(rehash.hash(heap, word.handle())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_enough_and_not_many_more() {
        for words in 1..=words_max(LEAF_LINES_MAX) {
            let lines = lines_for(words);
            assert!(words_max(lines) >= words);
            assert_eq!(Class::of_leaf(lines).slot_bytes(), lines * LINE_BYTES);
            assert!(lines <= words / 6 + 1, "{words} words in {lines} lines");
        }
    }
}
