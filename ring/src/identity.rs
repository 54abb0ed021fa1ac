//! What nodes, cores and topologies are called.

use std::fmt;
use std::sync::Arc;

/// Longest name of a node, in bytes; the protocol's hello has room for no more.
pub const NODE_NAME_BYTES_MAX: usize = 255;

/// A core of one node, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Core(pub u16);

impl Core {
    /// To index an array of cores.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Core {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "core {}", self.0)
    }
}

/// A node's place in the node list of one [`crate::Topology`]. In another topology the same
/// number may be another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u16);

impl NodeIndex {
    /// To index the node list.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The number of a topology: a higher one replaces a lower one. 0 is no topology.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The low 16 bits, as every frame carries them. They tell that two sides disagree, not
    /// which of them is ahead.
    #[inline]
    pub const fn short(self) -> u16 {
        self.0 as u16
    }
}

/// What tells a node from all others, whatever addresses it has: 1 to
/// [`NODE_NAME_BYTES_MAX`] printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// Why a text is no name of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// It has no characters.
    #[error("a node's name is empty")]
    Empty,
    /// It is over [`NODE_NAME_BYTES_MAX`].
    #[error("a node's name is {bytes} bytes long, but at most 255 are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It has a space, a control character, or one outside ASCII.
    #[error(
        "a node's name has the character {character:?}; printable ASCII without spaces is allowed"
    )]
    Character {
        /// The first such.
        character: char,
    },
}

impl NodeName {
    /// Checks a name.
    ///
    /// # Errors
    /// It is empty, too long, or has a character that is not allowed.
    pub fn new(name: &str) -> Result<NodeName, NodeNameError> {
        if name.is_empty() {
            return Err(NodeNameError::Empty);
        }
        if name.len() > NODE_NAME_BYTES_MAX {
            return Err(NodeNameError::TooLong { bytes: name.len() });
        }
        if let Some(character) = name.chars().find(|character| !character.is_ascii_graphic()) {
            return Err(NodeNameError::Character { character });
        }
        Ok(NodeName(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(NodeName::new("cache-1.eu").unwrap().as_str(), "cache-1.eu");
        assert_eq!(NodeName::new(""), Err(NodeNameError::Empty));
        assert!(NodeName::new(&"n".repeat(255)).is_ok());
        assert_eq!(NodeName::new(&"n".repeat(256)), Err(NodeNameError::TooLong { bytes: 256 }));
        for name in ["a b", "a\n", "é"] {
            assert!(matches!(NodeName::new(name), Err(NodeNameError::Character { .. })));
        }
    }

    #[test]
    fn short_epochs_are_the_low_bits() {
        assert_eq!(Epoch(0x1_2345).short(), 0x2345);
    }
}
