//! From a key's slot and hash to its word, in slot order.
//!
//! ```text
//! roots[slot] ─► leaf                                      (up to about 460 entries)
//!            └─► node: 8–64 references by hash bits ─► leaf
//!                                                  └─► node ─► …
//! ```
//!
//! Every slot has a table of its own, which begins as one [`leaf`], grows by lines of eight
//! words and splits by one more bit of the hash when it has 64 lines. A node entry that a leaf
//! shares with its neighbours is repeated; how many words the leaf holds is right in the first
//! of them only. So a slot is a contiguous run, a place in the walk over the shard is (slot,
//! hash), and neither moving nor counting a slot looks at another.
//!
//! Why not `hashbrown`, one table or many: docs/decisions/0004-index.md.

pub(crate) mod group;
pub(crate) mod leaf;
pub(crate) mod reference;
pub(crate) mod resize;
pub(crate) mod word;

use std::io;

use self::leaf::group_at;
use self::reference::Reference;
use self::word::Word;
use crate::heap::{Handle, Heap};
use crate::reserve::{Table, prefetch};
use crate::types::SLOTS;

/// Leading hash bits that tell leaves apart; a leaf as deep as this does not split.
pub(crate) const DEPTH_MAX: u32 = 34;

/// Leading hash bits in a [`Mark`].
const MARK_HASH_BITS: u32 = 18;

/// A short name of an entry that stays right when the entry moves: its slot and the first 18
/// bits of its hash. Others may have the same, so whoever follows it looks closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) u32);

impl Mark {
    #[inline]
    pub(crate) fn new(slot: u16, hash: u64) -> Self {
        Self(u32::from(slot) << MARK_HASH_BITS | (hash >> (64 - MARK_HASH_BITS)) as u32)
    }

    #[inline]
    pub(crate) fn slot(self) -> u16 {
        (self.0 >> MARK_HASH_BITS) as u16
    }

    /// The lowest hash that it stands for.
    #[inline]
    pub(crate) fn hash(self) -> u64 {
        u64::from(self.0) << (64 - MARK_HASH_BITS)
    }
}

/// A leaf that was walked to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) reference: Reference,
    pub(crate) slot: u16,
    /// The hash bits that its words share, at the top of a word.
    pub(crate) prefix: u64,
    /// Where the first entry that refers to it is: in the arena, or in the slot's root.
    place: Place,
    /// The node that it is in and where that node is referred to.
    parent: Option<(Reference, Place)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Root,
    /// A word of the arena, in units of eight bytes.
    Entry(u64),
}

impl Leaf {
    /// The position after all hashes of this leaf; `None` at the end of its slot.
    fn end(&self) -> Option<u64> {
        match self.reference.depth() {
            0 => None,
            depth => self.prefix.checked_add(1 << (64 - depth)),
        }
    }

    /// The leading hash bits of a word of it that are known, the others zero.
    pub(crate) fn known_hash(&self, word: Word) -> u64 {
        self.reference.window().known(self.prefix, word.stored())
    }

    /// The short name of a word of it.
    pub(crate) fn mark(&self, word: Word) -> Mark {
        Mark::new(self.slot, self.known_hash(word))
    }
}

/// A word that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) leaf: Leaf,
    /// Which word of the leaf.
    pub(crate) place: usize,
    pub(crate) word: Word,
}

/// Where a word that was not found would be, until the index changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absent {
    leaf: Leaf,
    /// Which word of the leaf, where there is a free one.
    place: Option<usize>,
}

/// A place in the walk over all leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) slot: u16,
    pub(crate) hash: u64,
}

/// See the module.
///
/// Invariants:
/// - COUNTED: a slot's count is the number of words in its leaves; `items` is their sum.
/// - OCCUPIED: a slot has its bit in `occupied` exactly when its count is not zero.
pub(crate) struct Index {
    /// [`Reference`]s.
    roots: Table<u64>,
    counts: Table<u32>,
    occupied: Box<[u64; SLOTS / 64]>,
    items: u64,
    /// Lines of leaves written anew.
    rebuilt_lines: u64,
}

impl Index {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            roots: Table::new(SLOTS)?,
            counts: Table::new(SLOTS)?,
            occupied: Box::new([0; SLOTS / 64]),
            items: 0,
            rebuilt_lines: 0,
        })
    }

    /// Bytes of the tables that are as long as the number of slots.
    pub(crate) const FIXED_BYTES: u64 = (SLOTS * (8 + 4) + SLOTS / 8) as u64;

    pub(crate) fn items(&self) -> u64 {
        self.items
    }

    /// Lines of leaves that were written anew since the index was made.
    pub(crate) fn rebuilt_lines(&self) -> u64 {
        self.rebuilt_lines
    }

    pub(crate) fn slot_items(&self, slot: u16) -> u64 {
        u64::from(self.counts[slot as usize])
    }

    /// Forgets everything. The heap drops the memory.
    pub(crate) fn flush(&mut self) {
        self.roots.fill(0);
        self.counts.fill(0);
        self.occupied.fill(0);
        self.items = 0;
    }

    #[inline]
    fn root(&self, slot: u16) -> Reference {
        Reference(self.roots[slot as usize])
    }

    /// The leaf that a hash belongs to.
    #[inline(always)]
    pub(crate) fn leaf(&self, heap: &Heap, slot: u16, hash: u64) -> Leaf {
        let mut reference = self.root(slot);
        let mut place = Place::Root;
        let mut parent = None;
        while reference.is_node() {
            parent = Some((reference, place));
            let entry = reference.entry_of(hash);
            let units = reference.units() + entry;
            let next = Reference(heap.word(units));
            if next.is_node() {
                place = Place::Entry(units);
                reference = next;
            } else {
                let span = 1 << (reference.depth() + reference.node_bits() - next.depth());
                let first = reference.units() + (entry & !(span - 1));
                place = Place::Entry(first);
                // The count is right in the first entry only.
                reference = Reference(heap.word(first));
            }
        }
        let depth = reference.depth();
        Leaf {
            reference,
            slot,
            prefix: match depth {
                0 => 0,
                depth => hash >> (64 - depth) << (64 - depth),
            },
            place,
            parent,
        }
    }

    /// The words of a leaf.
    #[inline]
    pub(crate) fn words<'h>(&self, heap: &'h Heap, leaf: &Leaf) -> &'h [u64] {
        let reference = leaf.reference;
        if reference.lines() == 0 {
            return &[];
        }
        heap.words(reference.handle(), reference.words())
    }

    /// The word with this hash for which `is` says yes.
    #[inline]
    pub(crate) fn find(
        &self,
        heap: &Heap,
        slot: u16,
        hash: u64,
        is: impl FnMut(Word) -> bool,
    ) -> Option<Found> {
        self.search(heap, slot, hash, is).ok()
    }

    /// The same; where there is none, where it would be.
    #[inline]
    pub(crate) fn search(
        &self,
        heap: &Heap,
        slot: u16,
        hash: u64,
        is: impl FnMut(Word) -> bool,
    ) -> Result<Found, Absent> {
        let leaf = self.leaf(heap, slot, hash);
        let words = self.words(heap, &leaf);
        let window = leaf.reference.window();
        match leaf::search(words, window, window.stored(hash), is) {
            Ok(place) => Ok(Found { leaf, place, word: Word(words[place]) }),
            Err(place) => Err(Absent { leaf, place }),
        }
    }

    /// The word with this hash for which `is` says yes, and where in the arena it is, in units
    /// of eight bytes: [`Index::find`] for those who change no more than the word.
    #[inline]
    pub(crate) fn find_word(
        &self,
        heap: &Heap,
        slot: u16,
        hash: u64,
        is: impl FnMut(Word) -> bool,
    ) -> Option<(u64, Word)> {
        let reference = self.reference(heap, slot, hash);
        if reference.lines() == 0 {
            return None;
        }
        let words = heap.words(reference.handle(), reference.words());
        let window = reference.window();
        let place = leaf::find(words, window, window.stored(hash), is)?;
        Some((reference.units() + place as u64, Word(words[place])))
    }

    /// Asks for the root of a slot.
    #[inline]
    pub(crate) fn prefetch_root(&self, slot: u16) {
        if let Some(root) = self.roots.get(slot as usize) {
            prefetch(root);
        }
    }

    /// The reference to the leaf of a hash, for reading: its count may be out of date.
    #[inline]
    pub(crate) fn reference(&self, heap: &Heap, slot: u16, hash: u64) -> Reference {
        let mut reference = self.root(slot);
        while reference.is_node() {
            reference = Reference(heap.word(reference.units() + reference.entry_of(hash)));
        }
        reference
    }

    /// Asks for the line that a search for a hash in this leaf begins with.
    #[inline]
    pub(crate) fn prefetch_home(heap: &Heap, reference: Reference, hash: u64) {
        if reference.lines() > 0 {
            let window = reference.window();
            let home = window.home(window.stored(hash), reference.lines());
            let words = heap.words(reference.handle(), reference.words());
            prefetch(group_at(words, home));
        }
    }

    /// Asks for the line that following a short name begins with.
    pub(crate) fn prefetch_marked(&self, heap: &Heap, mark: Mark) {
        let reference = self.reference(heap, mark.slot(), mark.hash());
        Self::prefetch_home(heap, reference, mark.hash());
    }

    /// Replaces a word that was found by one of the same hash.
    #[inline]
    pub(crate) fn replace(&mut self, heap: &mut Heap, found: &Found, word: Word) {
        debug_assert_eq!(found.word.stored(), word.stored());
        *heap.word_mut(found.leaf.reference.units() + found.place as u64) = word.0;
    }

    /// Calls `each` for the words that a short name stands for.
    pub(crate) fn each_marked(&self, heap: &Heap, mark: Mark, mut each: impl FnMut(&Leaf, Word)) {
        let (first, last) = (mark.hash(), mark.hash() | u64::MAX >> MARK_HASH_BITS);
        let mut hash = first;
        loop {
            let leaf = self.leaf(heap, mark.slot(), hash);
            if !leaf.reference.is_empty() {
                self.each_between(heap, &leaf, first, last, |word| each(&leaf, word));
            }
            match leaf.end() {
                Some(next) if next <= last => hash = next,
                _ => return,
            }
        }
    }

    /// Calls `each` for the words of a leaf whose hash may be in a range.
    fn each_between(
        &self,
        heap: &Heap,
        leaf: &Leaf,
        first: u64,
        last: u64,
        mut each: impl FnMut(Word),
    ) {
        let words = self.words(heap, leaf);
        let window = leaf.reference.window();
        let groups = leaf.reference.lines();
        // Homes are in hash order, so the range is a run of groups and what overflowed it.
        let (mut number, mut sure) = if leaf.reference.depth() >= MARK_HASH_BITS {
            (0, groups - 1)
        } else {
            let home = |hash| window.home(window.stored(hash), groups);
            (home(first), home(last) - home(first))
        };
        let unknown = u64::MAX.checked_shr(window.known_bits()).unwrap_or(0);
        for _ in 0..groups {
            let group = group_at(words, number);
            for word in group.iter().map(|word| Word(*word)) {
                if word.is_empty() {
                    break;
                }
                let known = leaf.known_hash(word);
                if known | unknown >= first && known <= last {
                    each(word);
                }
            }
            if sure == 0 && !group::is_full(group) {
                return;
            }
            sure = sure.saturating_sub(1);
            number = if number + 1 == groups { 0 } else { number + 1 };
        }
    }

    /// The first leaf with words at or after a position.
    pub(crate) fn leaf_from(&self, heap: &Heap, position: Position) -> Option<Leaf> {
        let mut slot = self.occupied_from(position.slot)?;
        let mut hash = if slot == position.slot { position.hash } else { 0 };
        loop {
            let leaf = self.leaf(heap, slot, hash);
            if !leaf.reference.is_empty() {
                return Some(leaf);
            }
            match leaf.end() {
                Some(next) => hash = next,
                None => {
                    slot = self.occupied_from(slot + 1)?;
                    hash = 0;
                }
            }
        }
    }

    /// The position after a leaf; `None` at the end of the shard.
    pub(crate) fn after(leaf: &Leaf) -> Option<Position> {
        match leaf.end() {
            Some(hash) => Some(Position { slot: leaf.slot, hash }),
            None if leaf.slot as usize + 1 < SLOTS => {
                Some(Position { slot: leaf.slot + 1, hash: 0 })
            }
            None => None,
        }
    }

    /// The first slot with entries at or after one.
    fn occupied_from(&self, slot: u16) -> Option<u16> {
        let mut number = slot as usize / 64;
        if number >= self.occupied.len() {
            return None;
        }
        let mut bits = self.occupied[number] & u64::MAX << (slot % 64);
        while bits == 0 {
            number += 1;
            bits = *self.occupied.get(number)?;
        }
        Some((number * 64) as u16 + bits.trailing_zeros() as u16)
    }

    fn count(&mut self, slot: u16, change: i32) {
        let count = &mut self.counts[slot as usize];
        *count = count.wrapping_add_signed(change);
        self.items = self.items.wrapping_add_signed(i64::from(change));
        let bit = 1 << (slot % 64);
        let occupied = &mut self.occupied[slot as usize / 64];
        if *count == 0 {
            *occupied &= !bit;
        } else {
            *occupied |= bit;
        }
    }

    fn write(&mut self, heap: &mut Heap, slot: u16, place: Place, reference: Reference) {
        match place {
            Place::Root => {
                self.roots[slot as usize] = reference.0;
            }
            Place::Entry(units) => *heap.word_mut(units) = reference.0,
        }
    }

    /// Finds the leaf whose memory this is, by the hash of one of its words.
    pub(crate) fn move_leaf(&mut self, heap: &mut Heap, from: Handle, slot: u16, hash: u64) {
        let leaf = self.leaf(heap, slot, hash);
        let old = leaf.reference;
        assert_eq!(old.handle(), from, "a leaf is where its words lead");
        let to = heap.take(heap.class_of(from));
        heap.copy(from, to, old.words() * 8);
        heap.give(from);
        let reference = Reference::leaf(to, old.lines(), old.taken(), old.depth());
        self.write_all(heap, &leaf, reference);
    }

    /// Checks the counts and every leaf; calls `each` for every word.
    pub(crate) fn invariants(&self, heap: &Heap, mut each: impl FnMut(&Leaf, Word)) {
        let mut items = 0;
        for slot in 0..SLOTS as u16 {
            let mut count = 0;
            let mut hash = Some(0);
            while let Some(here) = hash {
                let leaf = self.leaf(heap, slot, here);
                assert_eq!(leaf.prefix, here);
                if !leaf.reference.is_empty() {
                    let words = self.words(heap, &leaf);
                    let taken = leaf::invariants(words, leaf.reference.window());
                    assert_eq!(taken, leaf.reference.taken());
                    assert!(taken > 0, "an empty leaf has no memory");
                    count += taken as u64;
                    for (_, word) in leaf::taken(words) {
                        each(&leaf, word);
                    }
                }
                hash = leaf.end();
            }
            assert_eq!(count, self.slot_items(slot), "COUNTED");
            let occupied = self.occupied[slot as usize / 64] >> (slot % 64) & 1 == 1;
            assert_eq!(occupied, count > 0, "OCCUPIED");
            items += count;
        }
        assert_eq!(items, self.items, "COUNTED");
    }
}
