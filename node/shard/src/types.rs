//! The words of the crate's interface: time, keys, entries, writes and the reasons why
//! entries change.

use crate::large::{Chunks, Lease};

/// Milliseconds on the node's monotonic clock, counted from the shard's epoch (the start of
/// the process). Passed in by the caller, never read from the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// A key as the shard takes it: its bytes, the routing slot, the key space and the keyed hash
/// of the index. Made by [`Shard::key`](crate::Shard::key).
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) hash: u64,
    pub(crate) slot: u16,
    pub(crate) space: u8,
}

impl<'a> Key<'a> {
    /// The key's bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The routing slot, below [`SLOTS`].
    pub fn slot(&self) -> u16 {
        self.slot
    }

    /// The key space (`SELECT`), below [`SPACES`].
    pub fn space(&self) -> u8 {
        self.space
    }

    /// All of it but its bytes.
    #[inline]
    pub fn hash(&self) -> KeyHash {
        KeyHash { hash: self.hash, slot: self.slot, space: self.space }
    }
}

/// What the shard made of a key, to be kept while nothing borrows the key's bytes. See
/// [`Shard::key_of`](crate::Shard::key_of).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyHash {
    pub(crate) hash: u64,
    pub(crate) slot: u16,
    pub(crate) space: u8,
}

/// Routing slots of a cluster; a key's slot is below it.
pub const SLOTS: usize = 16_384;

/// Key spaces of a shard; a key's space is below it.
pub const SPACES: u8 = 16;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 16_384;

/// When an entry ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// It stays until it is removed or evicted.
    #[default]
    Never,
    /// From this moment on it is gone: a read at exactly this millisecond misses.
    At(Millis),
}

impl Expiry {
    /// Whether an entry with this expiry is gone at `now`.
    pub fn is_due(self, now: Millis) -> bool {
        match self {
            Self::Never => false,
            Self::At(at) => at <= now,
        }
    }
}

/// What an entry's version counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryVersion {
    /// From the shard's own counter; see [`Shard::ensure_version`](crate::Shard::ensure_version).
    Shard(u64),
    /// Brought by the caller from its source of truth.
    Caller(u64),
}

/// An entry as it is read. It borrows the shard.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'s> {
    /// The value's bytes.
    pub value: Value<'s>,
    /// Opaque to the shard.
    pub user_flags: u32,
    /// When it ends.
    pub expiry: Expiry,
    /// Its version, where it has one.
    pub version: Option<EntryVersion>,
}

/// A stored value: one run of bytes, or several where it is large.
#[derive(Clone, Copy, Debug)]
pub struct Value<'s>(pub(crate) ValueBytes<'s>);

#[derive(Clone, Copy, Debug)]
pub(crate) enum ValueBytes<'s> {
    Whole(&'s [u8]),
    Chunked(Chunks<'s>),
}

impl<'s> Value<'s> {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self.0 {
            ValueBytes::Whole(bytes) => bytes.len(),
            ValueBytes::Chunked(chunks) => chunks.bytes_left(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes in order, piece by piece. An empty value has no piece or one empty piece.
    pub fn chunks(&self) -> impl Iterator<Item = &'s [u8]> + use<'s> {
        let (whole, chunks) = match self.0 {
            ValueBytes::Whole(bytes) => (Some(bytes), None),
            ValueBytes::Chunked(chunks) => (None, Some(chunks)),
        };
        whole.into_iter().chain(chunks.into_iter().flatten())
    }

    /// All of it, where it is stored in one piece.
    pub fn as_slice(&self) -> Option<&'s [u8]> {
        match self.0 {
            ValueBytes::Whole(bytes) => Some(bytes),
            ValueBytes::Chunked(_) => None,
        }
    }

    /// A lease on it, where it is stored in chunks; others are short and better copied.
    pub fn lease(&self) -> Option<Lease> {
        match self.0 {
            ValueBytes::Whole(_) => None,
            ValueBytes::Chunked(chunks) => chunks.lease(),
        }
    }

    /// A copy in memory of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.len());
        for piece in self.chunks() {
            copy.extend_from_slice(piece);
        }
        copy
    }
}

/// What an entry costs and how it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Details {
    /// Bytes of its record, its word in the index, and its chunks where it is large.
    pub memory_bytes: u64,
    /// How often it was read, as far as the policy counts and has not forgotten it.
    pub uses: u8,
}

/// The key of an entry met while walking the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryKey<'s> {
    /// Routing slot.
    pub slot: u16,
    /// Key space.
    pub space: u8,
    /// The key's bytes.
    pub bytes: &'s [u8],
}

/// All that a plain write stores. Whatever the key had before is replaced.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The value.
    pub value: &'a [u8],
    /// Opaque to the shard; zero takes no room.
    pub user_flags: u32,
    /// When the entry ends. One in the past is stored and already gone.
    pub expiry: Expiry,
    /// A version to store with it.
    pub version: Option<EntryVersion>,
}

impl<'a> Write<'a> {
    /// A value with no flags, expiry or version.
    pub fn value(value: &'a [u8]) -> Self {
        Self { value, user_flags: 0, expiry: Expiry::Never, version: None }
    }
}

/// Which side [`Shard::extend`](crate::Shard::extend) adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After the value.
    Append,
    /// Before the value.
    Prepend,
}

/// Why a write was refused. The entry that was there before is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The budget is used up and the policy finds nothing that it may evict.
    #[error("out of memory: the shard's budget is used up and nothing may be evicted")]
    OutOfMemory,
    /// The value is over the limit for one value or over the largest share of the shard that
    /// one value may take.
    #[error("the value is larger than one value may be in this shard")]
    ValueTooLarge,
}

/// Why a shard could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The budget cannot hold a shard.
    #[error("a shard needs at least {least} bytes, {given} were given")]
    BudgetTooSmall {
        /// The configured bytes.
        given: u64,
        /// The smallest budget.
        least: u64,
    },
    /// The largest budget is beyond what a handle can name.
    #[error("a shard holds at most {most} bytes, {given} were given")]
    BudgetTooLarge {
        /// The configured bytes.
        given: u64,
        /// The largest budget.
        most: u64,
    },
    /// The address space could not be reserved.
    #[error("cannot reserve {bytes} bytes of address space")]
    AddressSpace {
        /// How much was asked for.
        bytes: u64,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// Why an entry changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Written, new or over another.
    Set,
    /// Its value was added to.
    Extended,
    /// Its expiry was changed.
    ExpirySet,
    /// It was given a version.
    VersionSet,
    /// Removed by a caller.
    Delete,
    /// Its time was over.
    Expired,
    /// It made room.
    Evicted,
    /// Removed with all of its slot; a flush of the whole shard is reported by
    /// [`Changes::flushed`] instead.
    Flushed,
}

/// One change to one entry. For causes that leave an entry behind, it can be read as soon as
/// the call that changed it has returned.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Routing slot.
    pub slot: u16,
    /// Key space.
    pub space: u8,
    /// The key's bytes.
    pub key: &'a [u8],
    /// Why it changed.
    pub cause: Cause,
}

/// Every change to data passes here: replication, the journal and invalidation listen. `()`
/// listens to nothing.
pub trait Changes {
    /// One entry changed.
    fn changed(&mut self, change: &Change<'_>);

    /// Everything that the shard held is gone.
    fn flushed(&mut self) {}
}

impl Changes for () {
    #[inline]
    fn changed(&mut self, _change: &Change<'_>) {}
}

impl<C: Changes> Changes for &mut C {
    #[inline]
    fn changed(&mut self, change: &Change<'_>) {
        (**self).changed(change);
    }

    fn flushed(&mut self) {
        (**self).flushed();
    }
}

/// Whether a slice of work finished what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "work that is due and not done piles up"]
pub enum TickOutcome {
    /// Nothing more is due now.
    Idle,
    /// Call again soon; requests may go first.
    More,
}

/// A place in the walk over a shard, in 48 bits. It stays right while the index grows,
/// shrinks and evicts: an entry present from the start of a walk to its end is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub(crate) u64);

impl Cursor {
    /// Before everything.
    pub const START: Self = Self(0);

    pub(crate) const HASH_BITS: u32 = 34;

    /// Before everything in a slot.
    pub fn at_slot(slot: u16) -> Self {
        Self(u64::from(slot) << Self::HASH_BITS)
    }

    /// The slot that the walk has come to.
    pub fn slot(self) -> u16 {
        (self.0 >> Self::HASH_BITS) as u16
    }

    /// The cursor as a number below 2^48, for a client to hold.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The cursor that a client brings back; `None` for a number that is none.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits < (SLOTS as u64) << Self::HASH_BITS).then_some(Self(bits))
    }
}
