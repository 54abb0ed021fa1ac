//! Size classes. A page holds slots of one class, and the class says what they are for.
//!
//! | ids | slots | sizes |
//! | --- | --- | --- |
//! | 0..109 | entries | 8-byte steps to 256 B, then sixteenths of a power of two to 4 KiB, then page/15 … page/3 |
//! | 109..141 | leaves of the index | 1–16 lines by 1, 18–32 by 2, 36–64 by 4, of 64 B |
//! | 141..145 | nodes of the index | 64, 128, 256, 512 B |
//! | 145 | blocks of the timer wheel | 128 B |
//! | 146..152 | chunks of large values | 4, 8, 16 KiB, page/3, page/2, page |
//! | 152 | pages of the policy (probation queue, ghost) | page |

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = 64 << 10;

/// Bytes of a line of the index: one group of eight words, one cache line.
pub(crate) const LINE_BYTES: usize = 64;

/// The largest entry that is stored in one slot, in bytes.
pub(crate) const ENTRY_BYTES_MAX: usize = (PAGE_BYTES / 3) & !7;

/// Entries beyond this size keep their value in chunks, if it is what makes them large.
pub(crate) const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;

/// The most lines of a leaf.
pub(crate) const LEAF_LINES_MAX: usize = 64;

/// A class is near another if it is larger by one in so many bytes at most.
const NEAR_SHARE: usize = 8;

/// How many times as large a slot may be as what lies in it.
const FAR_TIMES: usize = 4;

/// What a page's slots hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Entry,
    Leaf,
    Node,
    Wheel,
    Chunk,
    Policy,
}

pub(crate) const KINDS: usize = 6;

/// A size class by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u8);

const ENTRY_CLASSES: usize = 109;
const LEAF_FIRST: usize = ENTRY_CLASSES;
const LEAF_CLASSES: usize = 32;
const NODE_FIRST: usize = LEAF_FIRST + LEAF_CLASSES;
const WHEEL: usize = NODE_FIRST + 4;
const CHUNK_FIRST: usize = WHEEL + 1;
const CHUNK_CLASSES: usize = 6;
const POLICY: usize = CHUNK_FIRST + CHUNK_CLASSES;

/// How many classes there are.
pub(crate) const CLASSES: usize = POLICY + 1;

const CHUNK_BYTES: [u32; CHUNK_CLASSES] = [4096, 8192, 16_384, 21_840, 32_768, 65_536];

/// Bytes of a slot, by class.
const SLOT_BYTES: [u32; CLASSES] = slot_bytes();

/// Slots of a page, by class.
const SLOTS: [u16; CLASSES] = {
    let mut slots = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        slots[class] = (PAGE_BYTES / SLOT_BYTES[class] as usize) as u16;
        class += 1;
    }
    slots
};

const fn slot_bytes() -> [u32; CLASSES] {
    let mut sizes = [0; CLASSES];
    let mut class = 0;
    let mut size: u32 = 0;
    while size < 4096 {
        size += if size < 256 {
            8
        } else {
            // A sixteenth of the power of two at or below.
            (1 << (31 - size.leading_zeros())) / 16
        };
        sizes[class] = size;
        class += 1;
    }
    let mut parts = 15;
    while parts >= 3 {
        sizes[class] = (PAGE_BYTES as u32 / parts) & !7;
        class += 1;
        parts -= 1;
    }
    assert!(class == ENTRY_CLASSES);
    let mut lines = 0;
    while lines < LEAF_LINES_MAX as u32 {
        lines += match lines {
            0..16 => 1,
            16..32 => 2,
            _ => 4,
        };
        sizes[class] = lines * LINE_BYTES as u32;
        class += 1;
    }
    assert!(class == NODE_FIRST);
    while class < WHEEL {
        sizes[class] = 64 << (class - NODE_FIRST);
        class += 1;
    }
    sizes[WHEEL] = 128;
    let mut chunk = 0;
    while chunk < CHUNK_CLASSES {
        sizes[CHUNK_FIRST + chunk] = CHUNK_BYTES[chunk];
        chunk += 1;
    }
    sizes[POLICY] = PAGE_BYTES as u32;
    sizes
}

impl Class {
    /// Blocks of the timer wheel.
    pub(crate) const WHEEL: Self = Self(WHEEL as u8);
    /// Whole pages for the policy.
    pub(crate) const POLICY: Self = Self(POLICY as u8);

    pub(crate) fn from_id(id: u8) -> Self {
        assert!((id as usize) < CLASSES);
        Self(id)
    }

    #[inline]
    pub(crate) fn id(self) -> usize {
        self.0 as usize
    }

    /// The smallest class for an entry of so many bytes, at most [`ENTRY_BYTES_MAX`].
    #[inline]
    pub(crate) fn of_entry(bytes: usize) -> Self {
        debug_assert!(bytes > 0 && bytes <= ENTRY_BYTES_MAX);
        let class = if bytes <= 256 {
            bytes.div_ceil(8) - 1
        } else if bytes <= 4096 {
            // Sixteenths: four bits below the leading one of `bytes - 1`.
            let log2 = (usize::BITS - 1 - (bytes - 1).leading_zeros()) as usize;
            let sixteenth = ((bytes - 1) >> (log2 - 4)) & 15;
            32 + (log2 - 8) * 16 + sixteenth
        } else {
            // page/parts with the most parts that still hold it; rounding down to eight bytes
            // may make the first guess one too many.
            let parts = (PAGE_BYTES / bytes).min(15);
            let class = 96 + (15 - parts);
            class + usize::from((SLOT_BYTES[class] as usize) < bytes)
        };
        Self(class as u8)
    }

    /// The smallest leaf class of at least so many lines.
    #[inline]
    pub(crate) fn of_leaf(lines: usize) -> Self {
        debug_assert!((1..=LEAF_LINES_MAX).contains(&lines));
        let step = match lines {
            0..=16 => lines - 1,
            17..=32 => 16 + (lines - 17) / 2,
            _ => 24 + (lines - 33) / 4,
        };
        Self((LEAF_FIRST + step) as u8)
    }

    /// The class of an index node with `1 << bits` entries of eight bytes, `bits` from 3 to 6.
    #[inline]
    pub(crate) fn of_node(bits: u32) -> Self {
        debug_assert!((3..=6).contains(&bits));
        Self((NODE_FIRST + bits as usize - 3) as u8)
    }

    /// This class and those a little larger, by an eighth or a step of eight bytes, whose slots
    /// may serve for its entries where pages are short.
    pub(crate) fn near(self) -> impl Iterator<Item = Self> {
        self.up_to(self.slot_bytes() + (self.slot_bytes() / NEAR_SHARE).max(8))
    }

    /// This class and those up to four times as large, whose slots serve for its entries where
    /// there is no page.
    pub(crate) fn far(self) -> impl Iterator<Item = Self> {
        self.up_to(self.slot_bytes() * FAR_TIMES)
    }

    fn up_to(self, most: usize) -> impl Iterator<Item = Self> {
        (self.id()..ENTRY_CLASSES.max(self.id() + 1))
            .map(|id| Self(id as u8))
            .take_while(move |class| class.slot_bytes() <= most)
    }

    /// Chunk classes from the smallest to the largest.
    pub(crate) fn chunks() -> impl DoubleEndedIterator<Item = Self> {
        (CHUNK_FIRST..CHUNK_FIRST + CHUNK_CLASSES).map(|id| Self(id as u8))
    }

    /// The classes of a kind.
    pub(crate) fn of_kind(kind: Kind) -> impl Iterator<Item = Self> {
        let (first, end) = match kind {
            Kind::Entry => (0, LEAF_FIRST),
            Kind::Leaf => (LEAF_FIRST, NODE_FIRST),
            Kind::Node => (NODE_FIRST, WHEEL),
            Kind::Wheel => (WHEEL, CHUNK_FIRST),
            Kind::Chunk => (CHUNK_FIRST, POLICY),
            Kind::Policy => (POLICY, CLASSES),
        };
        (first..end).map(|id| Self(id as u8))
    }

    /// Bytes of a slot.
    #[inline]
    pub(crate) fn slot_bytes(self) -> usize {
        SLOT_BYTES[self.id()] as usize
    }

    /// Slots of a page.
    #[inline]
    pub(crate) fn slots(self) -> usize {
        SLOTS[self.id()] as usize
    }

    /// Bytes of all slots of a page.
    pub(crate) fn page_slot_bytes(self) -> u64 {
        (self.slots() * self.slot_bytes()) as u64
    }

    #[inline]
    pub(crate) fn kind(self) -> Kind {
        match self.id() {
            ..LEAF_FIRST => Kind::Entry,
            LEAF_FIRST..NODE_FIRST => Kind::Leaf,
            NODE_FIRST..WHEEL => Kind::Node,
            WHEEL => Kind::Wheel,
            CHUNK_FIRST..POLICY => Kind::Chunk,
            _ => Kind::Policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for bytes in 1..=ENTRY_BYTES_MAX {
            let class = Class::of_entry(bytes);
            assert!(class.slot_bytes() >= bytes, "{bytes}");
            if class.id() > 0 {
                assert!((SLOT_BYTES[class.id() - 1] as usize) < bytes, "{bytes}");
            }
            assert_eq!(class.kind(), Kind::Entry);
        }
        for lines in 1..=LEAF_LINES_MAX {
            let class = Class::of_leaf(lines);
            assert_eq!(class.kind(), Kind::Leaf);
            assert!(class.slot_bytes() >= lines * LINE_BYTES);
            assert!(lines == 1 || class.slot_bytes() - lines * LINE_BYTES < lines * LINE_BYTES / 8);
        }
    }

    #[test]
    fn slots_are_whole_words_and_leaves_whole_lines() {
        for kind in [Kind::Entry, Kind::Leaf, Kind::Node, Kind::Wheel, Kind::Chunk, Kind::Policy] {
            for class in Class::of_kind(kind) {
                assert_eq!(class.kind(), kind);
                assert_eq!(class.slot_bytes() % 8, 0);
                assert!(class.slots() * class.slot_bytes() <= PAGE_BYTES);
                if matches!(kind, Kind::Leaf | Kind::Node) {
                    assert_eq!(class.slot_bytes() % LINE_BYTES, 0);
                }
            }
        }
    }
}
