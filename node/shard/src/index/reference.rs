//! What a slot's root and the entries of nodes hold: a leaf or a node, in eight bytes.
//!
//! | bits | leaf | node |
//! | --- | --- | --- |
//! | 0–32 | its first line in the arena | the same |
//! | 33–39 | lines, 0 where it is empty and has no memory | log2 of its entries |
//! | 40–49 | words taken | |
//! | 50–55 | depth: leading hash bits that its words share | depth of its first bit |
//! | 56 | 0 | 1 |

use super::group::GROUP;
use super::leaf::Window;
use crate::class::LINE_BYTES;
use crate::heap::Handle;

const LINES_SHIFT: u32 = 33;
const TAKEN_SHIFT: u32 = 40;
const DEPTH_SHIFT: u32 = 50;
const NODE: u64 = 1 << 56;

const UNITS_PER_LINE: u64 = LINE_BYTES as u64 / 8;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference(pub(crate) u64);

impl Reference {
    /// A leaf without memory.
    pub(crate) fn empty(depth: u32) -> Self {
        Self(u64::from(depth) << DEPTH_SHIFT)
    }

    pub(crate) fn leaf(handle: Handle, lines: usize, taken: usize, depth: u32) -> Self {
        debug_assert!(handle.units().is_multiple_of(UNITS_PER_LINE));
        Self(
            (handle.units() / UNITS_PER_LINE)
                | ((lines as u64) << LINES_SHIFT)
                | (taken as u64) << TAKEN_SHIFT
                | u64::from(depth) << DEPTH_SHIFT,
        )
    }

    pub(crate) fn node(handle: Handle, bits: u32, depth: u32) -> Self {
        Self(Self::leaf(handle, bits as usize, 0, depth).0 | NODE)
    }

    #[inline]
    pub(crate) fn is_node(self) -> bool {
        self.0 & NODE != 0
    }

    /// Whether it is a leaf without memory.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        !self.is_node() && self.lines() == 0
    }

    /// Where the leaf's words or the node's entries begin.
    #[inline]
    pub(crate) fn units(self) -> u64 {
        (self.0 & ((1 << LINES_SHIFT) - 1)) * UNITS_PER_LINE
    }

    /// The memory; not of an empty leaf.
    #[inline]
    pub(crate) fn handle(self) -> Handle {
        Handle::new(self.units())
    }

    /// Lines of a leaf.
    #[inline]
    pub(crate) fn lines(self) -> usize {
        (self.0 >> LINES_SHIFT & 0x7F) as usize
    }

    /// Words that a leaf has room for.
    #[inline]
    pub(crate) fn words(self) -> usize {
        self.lines() * GROUP
    }

    /// Words taken in a leaf.
    #[inline]
    pub(crate) fn taken(self) -> usize {
        (self.0 >> TAKEN_SHIFT & 0x3FF) as usize
    }

    #[inline]
    #[must_use]
    pub(crate) fn with_taken(self, taken: usize) -> Self {
        Self(self.0 & !(0x3FF << TAKEN_SHIFT) | (taken as u64) << TAKEN_SHIFT)
    }

    #[inline]
    pub(crate) fn depth(self) -> u32 {
        (self.0 >> DEPTH_SHIFT & 0x3F) as u32
    }

    /// How the words of a leaf see their hash.
    #[inline]
    pub(crate) fn window(self) -> Window {
        Window::at(self.depth())
    }

    /// Log2 of a node's entries.
    #[inline]
    pub(crate) fn node_bits(self) -> u32 {
        self.lines() as u32
    }

    /// Which entry of a node leads on to a hash.
    #[inline]
    pub(crate) fn entry_of(self, hash: u64) -> u64 {
        hash << self.depth() >> (64 - self.node_bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch() {
        let last = Handle::new((1 << Handle::BITS) - UNITS_PER_LINE);
        let leaf = Reference::leaf(last, 64, 512, 63);
        assert_eq!(leaf.handle(), last);
        assert_eq!((leaf.lines(), leaf.taken(), leaf.depth()), (64, 512, 63));
        assert!(!leaf.is_node() && !leaf.is_empty());
        let less = leaf.with_taken(3);
        assert_eq!((less.taken(), less.lines()), (3, 64));
        let node = Reference::node(last, 6, 9);
        assert!(node.is_node() && !node.is_empty());
        assert_eq!((node.node_bits(), node.depth()), (6, 9));
        assert_eq!(node.entry_of(u64::MAX >> 9), 63);
        assert_eq!(node.entry_of(!(u64::MAX >> 9)), 0);
        assert!(Reference::empty(5).is_empty());
        assert_eq!(Reference::empty(5).depth(), 5);
    }
}
