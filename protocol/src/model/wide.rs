//! What the model has beyond wire version 1: the words of the other dialects. Between
//! clients and nodes none of it travels in native frames; between the cores of a node all
//! of it does (see [`crate::wire::between_cores`]).

use super::{KeyList, Pairs, Remaining, Ttl, Version, Watches};

/// A key space (`SELECT`). Keys of two spaces never meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(u8);

impl Space {
    /// How many spaces there are.
    pub const COUNT: u8 = 16;

    /// The space with this number, below [`Space::COUNT`].
    pub const fn new(number: u8) -> Option<Space> {
        if number < Space::COUNT { Some(Space(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Whether a set answers what it replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldValue {
    /// It does not.
    #[default]
    Omit,
    /// It answers the value that was there before, or that there was none, whether or not the
    /// set took effect (`SET … GET`).
    Return,
}

/// Under which condition an expiry is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpireCondition {
    /// Always.
    #[default]
    Always,
    /// Only if the entry has none (`NX`).
    IfNone,
    /// Only if the entry has one (`XX`).
    IfSome,
    /// Only if the new one is later (`GT`). No expiry is the latest.
    IfLater,
    /// Only if the new one is earlier (`LT`). No expiry is the latest.
    IfEarlier,
    /// Only if the entry has one and the new one is earlier (`XX LT`).
    IfSomeAndEarlier,
}

/// What becomes of an extend where there is no entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Absent {
    /// It is a miss; else the answer is "done".
    #[default]
    Miss,
    /// An entry of what is added is created; the answer is the new length.
    Create {
        /// Expiry of the new entry.
        ttl: Ttl,
    },
}

/// What is asked about connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientErrand {
    /// A line for each; the answer is [`crate::Reply::Stats`].
    List,
    /// To close them; the answer is how many there were.
    Close,
}

/// Whether an entry that is in the way is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// It stays, and the condition fails.
    #[default]
    No,
    /// It is replaced.
    Yes,
}

/// Whether a description brings the value with it, and counts as a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithValue {
    /// It does not, and leaves no trace.
    #[default]
    No,
    /// It does not, but counts as a read.
    Counted,
    /// It does, and counts as a read.
    Yes,
}

/// Requests that take effect together, on keys of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atomic<'a> {
    /// The slot of every key in it.
    pub slot: u16,
    /// If one of these is not as it was, nothing takes effect: "condition failed".
    pub watches: Watches<'a>,
    /// The requests as whole frames between cores, one after the other. Each is answered by
    /// one reply with its place as the part; an end follows.
    pub frames: &'a [u8],
}

/// Several entries written together, of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetMany<'a> {
    /// The keys and values; a key that comes twice gets its last value.
    pub pairs: Pairs<'a>,
    /// Expiry of all of them.
    pub ttl: Ttl,
    /// Whether it takes effect though one of the entries is there.
    pub replace: Replace,
}

/// What is known of an entry beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Length of the value.
    pub value_bytes: u64,
    /// What key, value and their record take in memory.
    pub memory_bytes: u64,
    /// The caller's opaque bits.
    pub user_flags: u32,
    /// When it expires. Where the request changed that: before the change.
    pub remaining: Remaining,
    /// Its version, where it was asked for.
    pub version: Option<Version>,
    /// How often it was read lately, as far as the eviction policy remembers; before this
    /// request.
    pub uses: u8,
    /// Whether the value is a whole number of 64 bits with a sign, as one writes it.
    pub is_integer: bool,
}

/// A part of a walk over all keys of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPage<'a> {
    /// Where to go on; 0 at the end.
    pub next: WalkCursor,
    /// The keys that matched.
    pub keys: KeyList<'a>,
}

/// A place in the walk over all cores of a node: the core, and the place in its shard. A
/// walk begins and ends with 0, as SCAN's does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WalkCursor(pub u64);

impl WalkCursor {
    /// Bits of a place.
    pub const PLACE_BITS: u32 = 48;

    /// A place on a core; `place` is below 2^48.
    pub fn at(core: u16, place: u64) -> WalkCursor {
        debug_assert!(place < 1 << WalkCursor::PLACE_BITS);
        WalkCursor(u64::from(core) << WalkCursor::PLACE_BITS | place)
    }

    /// The core whose turn it is.
    pub fn core(self) -> u16 {
        (self.0 >> WalkCursor::PLACE_BITS) as u16
    }

    /// The place in that core's shard.
    pub fn place(self) -> u64 {
        self.0 & ((1 << WalkCursor::PLACE_BITS) - 1)
    }
}
