//! The keyed hash of the index. Its secret never leaves the process, so that clients cannot
//! choose keys that fall together.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use siphasher::sip::SipHasher13;

use crate::config::TableHash;

/// A hash with its secret.
#[derive(Clone)]
pub(crate) enum KeyedHash {
    Rapid(RapidSecrets),
    Sip(SipHasher13),
}

impl KeyedHash {
    pub(crate) fn new(config: TableHash) -> Self {
        match config {
            TableHash::Rapid { seed } => Self::Rapid(RapidSecrets::seed(seed)),
            TableHash::SipHash13 { key } => Self::Sip(SipHasher13::new_with_key(&key)),
        }
    }

    /// The hash of a key of one key space. Spaces are told apart by an odd multiple: the same
    /// bytes in two spaces land apart, and two keys equal in one space's hash by chance are
    /// no worse off in another.
    #[inline]
    pub(crate) fn hash(&self, space: u8, bytes: &[u8]) -> u64 {
        let hash = match self {
            Self::Rapid(secrets) => rapidhash_v3_seeded(bytes, secrets),
            Self::Sip(hasher) => hasher.hash(bytes),
        };
        hash ^ u64::from(space).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_spaces_change_the_hash() {
        for (one, other) in [
            (TableHash::Rapid { seed: 1 }, TableHash::Rapid { seed: 2 }),
            (TableHash::SipHash13 { key: [1; 16] }, TableHash::SipHash13 { key: [2; 16] }),
        ] {
            let (one, other) = (KeyedHash::new(one), KeyedHash::new(other));
            assert_ne!(one.hash(0, b"key"), other.hash(0, b"key"));
            assert_ne!(one.hash(0, b"key"), one.hash(1, b"key"));
            assert_eq!(one.hash(3, b"key"), one.hash(3, b"key"));
        }
    }
}
