//! One model of requests and replies, borrowed from the bytes they arrived in.
//!
//! It is wider than wire version 1 where other dialects need it. Semantics that
//! differ between dialects are data here (see [`Arithmetic`]), so that the one
//! `match` that executes never asks which dialect is speaking.

mod lists;
mod wide;

pub use lists::{KeyList, KeyListIter, Pairs, PairsIter, Watch, Watches, WatchesIter};
pub use wide::{
    Absent, Atomic, ClientErrand, Description, ExpireCondition, KeyPage, OldValue, Replace,
    SetMany, Space, WalkCursor, WithValue,
};

/// A point on the serving node's monotonic clock, in microseconds. The node tells its
/// clock in the replies to hello and ping; clients map theirs by the fastest round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicUs(pub u64);

/// A version of an entry: the shard's own counter, or the caller's where an entry
/// was set from its source of truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// The low 16 bits of a topology's epoch, as every frame carries them. 0 is "none known".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShortEpoch(pub u16);

/// What a client calls its request; the reply carries the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestId(pub u32);

/// Whether a request wants to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Every outcome is answered.
    #[default]
    Always,
    /// Nothing is answered, not even an error (writes only).
    Never,
}

/// Whether a reply should carry the entry's version (which makes the entry keep one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantVersion {
    /// No version in the reply.
    #[default]
    No,
    /// The reply carries the version; an entry without one is given one.
    Yes,
}

/// Whether a request is made of a node in place of the one that owns the key's slot, since that
/// is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StandIn {
    /// It is made of the owner.
    #[default]
    No,
    /// The node may execute it though the slot is another's. What it writes lives for
    /// [`crate::limits::STAND_IN_TTL_MS_MAX`] at the most.
    Yes,
}

/// What accompanies every request, whatever it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// The client's number for the request.
    pub id: RequestId,
    /// The topology that the client routed by.
    pub epoch: ShortEpoch,
    /// Whether to answer.
    pub answer: Answer,
    /// Whether the reply carries the version.
    pub want_version: WantVersion,
    /// The space of the keys. Native clients have the first one.
    pub space: Space,
    /// After this moment the request must not be executed: it is answered "too late".
    pub deadline: Option<MonotonicUs>,
    /// This request is the part of a multi-get with this index: its reply is framed as that part.
    pub part: Option<u16>,
    /// Whether the node stands in for another.
    pub stand_in: StandIn,
}

/// When an entry that is being written shall expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// The node's configured default.
    #[default]
    Default,
    /// Never, whatever the node's default.
    Never,
    /// As the entry had it; as [`Ttl::Default`] where there was none.
    Keep,
    /// After this many milliseconds. 0 expires at once.
    After {
        /// Milliseconds from the execution of the request.
        ms: u64,
        /// Whether the node may spread it at random by its configured percentage.
        jitter: Jitter,
    },
}

/// Whether a time to live is exact or may be spread by the node, so that entries
/// written together do not expire together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// As given.
    #[default]
    Exact,
    /// Moved by up to the node's configured percentage either way.
    Spread,
}

/// Under which condition a set takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCondition<'a> {
    /// Always.
    #[default]
    Always,
    /// Only if there is no such entry.
    Absent,
    /// Only if there is one.
    Present,
    /// Only if the entry's version is this one (compare-and-set).
    VersionIs(Version),
    /// Only if the entry's caller-given version is lower than this one, which is then
    /// stored. An entry without a caller's version counts as oldest.
    NewerThan(Version),
    /// Only if the entry's value equals these bytes.
    ValueIs(&'a [u8]),
    /// Only if there is no such entry, and there was neither a write nor a delete of the key since
    /// its slot came to the node, which was a short time ago: what the node has that the slot came
    /// from is then the last that was written.
    Untouched,
}

/// Under which condition a delete takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeleteCondition<'a> {
    /// Always.
    #[default]
    Always,
    /// Only if the entry's version is this one.
    VersionIs(Version),
    /// Only if the entry's value equals these bytes.
    ValueIs(&'a [u8]),
}

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Add.
    Increment,
    /// Subtract.
    Decrement,
}

/// What numbers are, and what happens at their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// 64-bit signed; passing an end is an error (Redis).
    #[default]
    Signed,
    /// 64-bit unsigned; increments wrap, decrements stop at 0. Zeros before a number and
    /// spaces around it are passed over (memcached).
    Unsigned64,
}

/// Which end of a value is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// After its last byte.
    Append,
    /// Before its first byte.
    Prepend,
}

/// A request to write a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Opaque bits of the caller, returned with the value.
    pub user_flags: u32,
    /// When it expires.
    pub ttl: Ttl,
    /// When it takes effect.
    pub condition: SetCondition<'a>,
    /// Whether the answer is what was there before.
    pub old: OldValue,
}

/// A request to change a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<'a> {
    /// The key.
    pub key: &'a [u8],
    /// By how much.
    pub delta: u64,
    /// Which way.
    pub direction: Direction,
    /// What numbers are.
    pub arithmetic: Arithmetic,
    /// The number that an absent entry is created with, instead of a miss. Two's complement
    /// where numbers are signed.
    pub initial: Option<u64>,
    /// Expiry of the entry that is created; an existing one keeps its own.
    pub ttl: Ttl,
}

/// The first frame of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The highest protocol version that the client speaks.
    pub version: u16,
    /// The core that the client wants to talk to; none leaves the connection where it landed.
    pub core: Option<u16>,
    /// The access token; empty where none is needed.
    pub token: &'a [u8],
}

/// What a connection asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Agree on version and limits, prove the token, name a core.
    Hello(Hello<'a>),
    /// Nothing but an answer, with the node's clock.
    Ping,
    /// The value of a key. With a least version, an entry whose caller-given version is
    /// lower (or that has none) is a miss.
    Get {
        /// The key.
        key: &'a [u8],
        /// The oldest acceptable caller-given version.
        least_version: Option<Version>,
    },
    /// The values of several keys: one reply a key that is present or not, then an end.
    MultiGet(Keys<'a>),
    /// The value of a key, and a new expiry.
    GetAndTouch {
        /// The key.
        key: &'a [u8],
        /// The new expiry.
        ttl: Ttl,
    },
    /// Write a value.
    Set(Set<'a>),
    /// Remove an entry.
    Delete {
        /// The key.
        key: &'a [u8],
        /// When it takes effect.
        condition: DeleteCondition<'a>,
    },
    /// A new expiry.
    Touch {
        /// The key.
        key: &'a [u8],
        /// The new expiry.
        ttl: Ttl,
        /// When it takes effect.
        condition: ExpireCondition,
    },
    /// Add to or subtract from a number.
    Count(Count<'a>),
    /// Lengthen a value.
    Extend {
        /// The key.
        key: &'a [u8],
        /// What is added.
        value: &'a [u8],
        /// Where it is added.
        side: Side,
        /// What becomes of it where there is no entry.
        absent: Absent,
    },
    /// Whether an entry is there.
    Exists {
        /// The key.
        key: &'a [u8],
    },
    /// When an entry expires.
    TtlOf {
        /// The key.
        key: &'a [u8],
    },
    /// The value of a key; where there is none, and the slot came to this node a short time ago
    /// (see [`SetCondition::Untouched`]), which node it came from.
    GetOrAsk {
        /// The key.
        key: &'a [u8],
    },
    /// What the node still has of a key whose slot has left it with the last topology: the answer
    /// is a value of which the first eight bytes say how long the entry lives, in milliseconds.
    GetLeft {
        /// The key.
        key: &'a [u8],
    },
    /// Remove every entry of the key's slot.
    FlushSlot {
        /// Any key of the slot.
        key: &'a [u8],
    },
    /// Remove everything, now or after a delay.
    Flush {
        /// Milliseconds to wait.
        delay_ms: u32,
    },
    /// Counters as text, one reply a core, then an end.
    Stats,
    /// The table of the cluster, where it is newer than the one that the client has.
    Topology {
        /// The epoch of that one; 0: none.
        held_epoch: u64,
    },

    /// The value of a key, which is then removed.
    GetAndDelete {
        /// The key.
        key: &'a [u8],
    },
    /// Some of a value's bytes; positions below 0 count from the end. What is out of range is
    /// left out.
    GetRange {
        /// The key.
        key: &'a [u8],
        /// The first byte.
        start: i64,
        /// The last byte.
        end: i64,
    },
    /// Write into a value, which is lengthened with zeros where it is too short; an absent
    /// entry counts as an empty value. The answer is the new length. With nothing to write
    /// nothing changes, or is created.
    SetRange {
        /// The key.
        key: &'a [u8],
        /// Where to write.
        offset: u64,
        /// What to write.
        value: &'a [u8],
    },
    /// Length of a value.
    Length {
        /// The key.
        key: &'a [u8],
    },
    /// Add to a decimal number with a fraction, which an absent entry has as 0. The answer is
    /// the new number as a value.
    CountFloat {
        /// The key.
        key: &'a [u8],
        /// By how much, in decimal.
        delta: &'a [u8],
    },
    /// Count, and tell more of the entry: the answer is its description, with the new number
    /// in decimal as its value.
    CountAndDescribe {
        /// What to count.
        count: Count<'a>,
        /// Only if the entry's version is this one, or there is no entry.
        version: Option<Version>,
        /// A new expiry, if it is to get one.
        touch: Option<Ttl>,
    },
    /// Lengthen a value, if the entry's version is the one given.
    ExtendIf {
        /// The key.
        key: &'a [u8],
        /// What is added.
        value: &'a [u8],
        /// Where it is added.
        side: Side,
        /// The version.
        version: Version,
    },
    /// What is known of an entry beside its value, or with it.
    Describe {
        /// The key.
        key: &'a [u8],
        /// Whether the value comes with it.
        value: WithValue,
        /// A new expiry, if it is to get one.
        touch: Option<Ttl>,
    },
    /// The next keys of a walk over the head's space.
    Scan {
        /// Where to go on.
        cursor: WalkCursor,
        /// About how many entries to look at.
        count: u32,
        /// A glob pattern that keys must match to be in the answer.
        pattern: Option<&'a [u8]>,
    },
    /// Some key of the head's space that this core holds.
    RandomKey,
    /// How many keys this core holds: in the head's space, or in a slot whatever their space.
    CountKeys {
        /// The slot.
        slot: Option<u16>,
    },
    /// Some of a slot's keys in the head's space.
    KeysInSlot {
        /// The slot.
        slot: u16,
        /// At most so many.
        count: u32,
    },
    /// A second entry with the value, flags and expiry of the first. Both keys are of one slot.
    Copy {
        /// The key that there is.
        from: &'a [u8],
        /// The key that there will be.
        to: &'a [u8],
        /// The space of the second; the head's is the first's.
        to_space: Space,
        /// Whether it may be there.
        replace: Replace,
    },
    /// Another key for an entry. Both are of one slot.
    Rename {
        /// The key that it has.
        from: &'a [u8],
        /// The key that it will have.
        to: &'a [u8],
        /// Whether there may be an entry with the second already.
        replace: Replace,
    },
    /// Several entries at once.
    SetMany(SetMany<'a>),
    /// Several requests at once.
    Atomic(Atomic<'a>),
    /// Remove the entries of the head's space, as many as one step may. The answer is a page
    /// without keys, which says where to go on.
    FlushSpace {
        /// Where to go on.
        cursor: WalkCursor,
    },
    /// To tell by a version, later, whether anything has happened to a key from now on, its
    /// expiry and its absence included ([`Watch`]). The version is not that of the entry, if there
    /// is one at all.
    Watch {
        /// The key.
        key: &'a [u8],
    },
    /// What a dialect's client asks about the connections of this core.
    Clients {
        /// What is asked.
        errand: ClientErrand,
        /// Which connections are meant, in a form of the dialect's own.
        filter: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// The same request, where what it writes lives for at most so many milliseconds: exactly so
    /// many, or as many as it asks for, since spreading them could go beyond. One that changes no
    /// expiry is as it was.
    pub fn living_at_most(self, ms_max: u64) -> Request<'a> {
        let shorten = |ttl| match ttl {
            Ttl::After { ms, .. } => Ttl::After { ms: ms.min(ms_max), jitter: Jitter::Exact },
            Ttl::Default | Ttl::Never | Ttl::Keep => {
                Ttl::After { ms: ms_max, jitter: Jitter::Exact }
            }
        };
        match self {
            Request::Set(set) => Request::Set(Set { ttl: shorten(set.ttl), ..set }),
            Request::Count(count) => Request::Count(Count { ttl: shorten(count.ttl), ..count }),
            Request::GetAndTouch { key, ttl } => Request::GetAndTouch { key, ttl: shorten(ttl) },
            Request::Touch { key, ttl, condition } => {
                Request::Touch { key, ttl: shorten(ttl), condition }
            }
            other => other,
        }
    }

    /// The key that decides which core executes the request, if a key does. Further keys of
    /// the request must be of the same slot.
    pub fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Request::Get { key, .. }
            | Request::GetAndTouch { key, .. }
            | Request::Delete { key, .. }
            | Request::Touch { key, .. }
            | Request::Extend { key, .. }
            | Request::Exists { key }
            | Request::TtlOf { key }
            | Request::GetOrAsk { key }
            | Request::GetLeft { key }
            | Request::FlushSlot { key }
            | Request::GetAndDelete { key }
            | Request::GetRange { key, .. }
            | Request::SetRange { key, .. }
            | Request::Length { key }
            | Request::CountFloat { key, .. }
            | Request::Describe { key, .. }
            | Request::Watch { key }
            | Request::ExtendIf { key, .. }
            | Request::CountAndDescribe { count: Count { key, .. }, .. }
            | Request::Copy { from: key, .. }
            | Request::Rename { from: key, .. } => Some(key),
            Request::Set(Set { key, .. }) | Request::Count(Count { key, .. }) => Some(key),
            Request::SetMany(many) => many.pairs.iter().next().map(|(key, _)| key),
            Request::Hello(_)
            | Request::Ping
            | Request::MultiGet(_)
            | Request::Flush { .. }
            | Request::Stats
            | Request::Topology { .. }
            | Request::Scan { .. }
            | Request::RandomKey
            | Request::CountKeys { .. }
            | Request::KeysInSlot { .. }
            | Request::Atomic(_)
            | Request::FlushSpace { .. }
            | Request::Clients { .. } => None,
        }
    }
}

/// The keys of a multi-get, still encoded: each a 16-bit little-endian length and its
/// bytes. Made only from bytes that were checked, or by [`Keys::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    encoded: &'a [u8],
    count: u16,
}

/// Why bytes are not the keys of a multi-get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum KeysError {
    /// The last key ends after the bytes do.
    #[error("the key list is cut short")]
    Truncated,
    /// More than [`crate::limits::MULTI_GET_KEYS_MAX`] keys, or none.
    #[error("a multi-get takes 1 to 1024 keys")]
    Count,
    /// A key over [`crate::limits::KEY_BYTES_MAX`].
    #[error("a key is longer than 16384 bytes")]
    KeyTooLong,
    /// More than [`crate::limits::MULTI_GET_BYTES_MAX`] together.
    #[error("the key list is longer than 1 MiB")]
    TooLong,
}

impl<'a> Keys<'a> {
    /// Checks an encoded list. Nothing is allocated.
    pub fn parse(encoded: &'a [u8]) -> Result<Keys<'a>, KeysError> {
        if encoded.len() > crate::limits::MULTI_GET_BYTES_MAX {
            return Err(KeysError::TooLong);
        }
        let mut rest = encoded;
        let mut count = 0usize;
        while !rest.is_empty() {
            let (length, tail) = rest.split_first_chunk::<2>().ok_or(KeysError::Truncated)?;
            let length = usize::from(u16::from_le_bytes(*length));
            if length > crate::limits::KEY_BYTES_MAX {
                return Err(KeysError::KeyTooLong);
            }
            rest = tail.get(length..).ok_or(KeysError::Truncated)?;
            count += 1;
        }
        if count == 0 || count > crate::limits::MULTI_GET_KEYS_MAX {
            return Err(KeysError::Count);
        }
        Ok(Keys { encoded, count: count as u16 })
    }

    /// Encodes keys into `buffer`, which is cleared first, and borrows them from there.
    pub fn encode<'k>(
        keys: impl IntoIterator<Item = &'k [u8]>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Keys<'a>, KeysError> {
        buffer.clear();
        for key in keys {
            let length = u16::try_from(key.len()).map_err(|_| KeysError::KeyTooLong)?;
            buffer.extend_from_slice(&length.to_le_bytes());
            buffer.extend_from_slice(key);
        }
        Keys::parse(buffer)
    }

    /// How many keys there are.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The encoded list.
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// The keys in order.
    pub fn iter(&self) -> KeysIter<'a> {
        KeysIter { rest: self.encoded }
    }
}

impl<'a> IntoIterator for Keys<'a> {
    type Item = &'a [u8];
    type IntoIter = KeysIter<'a>;
    fn into_iter(self) -> KeysIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Keys`].
#[derive(Clone, Debug)]
pub struct KeysIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for KeysIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, tail) = self.rest.split_first_chunk::<2>()?;
        let (key, rest) = tail.split_at(usize::from(u16::from_le_bytes(*length)));
        self.rest = rest;
        Some(key)
    }
}

/// How a request ended. The numbers are the wire's; they never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Done; or the value follows.
    Ok = 0x00,
    /// There is no such entry.
    NotFound = 0x01,
    /// A condition did not hold (absent, present, version, value). State was not touched.
    ConditionFailed = 0x02,
    /// The end of the replies to a multi-get or stats.
    End = 0x03,

    /// Another node owns the slot; where, follows. State was not touched.
    Moved = 0x10,
    /// Another node answers for this one request. State was not touched.
    Ask = 0x11,
    /// Overloaded; retry after the time that follows. State was not touched.
    Busy = 0x12,
    /// The deadline passed before execution. State was not touched.
    TooLate = 0x13,
    /// The node is loading its data.
    Loading = 0x14,
    /// The node is shutting down: no new requests on this connection.
    GoingAway = 0x15,

    /// The entry is of another type.
    WrongType = 0x20,
    /// No memory, and nothing may be evicted. State was not touched.
    OutOfMemory = 0x21,
    /// The key is over the limit.
    KeyTooLong = 0x22,
    /// The value is, or would become, larger than allowed. State was not touched.
    ValueTooLarge = 0x23,
    /// The entry's value is not a number of the kind asked for.
    NotANumber = 0x24,
    /// The number would pass its range. State was not touched.
    OutOfRange = 0x25,
    /// Keys of different slots in a request that must be atomic.
    CrossSlot = 0x26,

    /// The frame is well delimited, but what it says is impossible.
    Invalid = 0x30,
    /// The opcode is unknown to this node.
    UnknownRequest = 0x31,
    /// The hello's version is not spoken here.
    UnsupportedVersion = 0x32,
    /// No or a wrong token.
    Unauthorized = 0x33,
    /// The node has as many connections as it may.
    TooManyConnections = 0x34,
    /// The core named in the hello does not exist.
    NoSuchCore = 0x35,
    /// The bytes are not a frame; the connection is closed after this reply.
    Garbled = 0x36,
    /// The frame is longer than agreed; the connection is closed after this reply.
    FrameTooLong = 0x37,
    /// The peer sent nothing, or half a frame, for longer than the node waits.
    IdleTooLong = 0x38,
}

impl Status {
    /// Every status, in the order of their numbers.
    pub const ALL: [Status; 26] = [
        Status::Ok,
        Status::NotFound,
        Status::ConditionFailed,
        Status::End,
        Status::Moved,
        Status::Ask,
        Status::Busy,
        Status::TooLate,
        Status::Loading,
        Status::GoingAway,
        Status::WrongType,
        Status::OutOfMemory,
        Status::KeyTooLong,
        Status::ValueTooLarge,
        Status::NotANumber,
        Status::OutOfRange,
        Status::CrossSlot,
        Status::Invalid,
        Status::UnknownRequest,
        Status::UnsupportedVersion,
        Status::Unauthorized,
        Status::TooManyConnections,
        Status::NoSuchCore,
        Status::Garbled,
        Status::FrameTooLong,
        Status::IdleTooLong,
    ];
}

/// A number that no status has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0:#04x} is no status")]
pub struct UnknownStatus(pub u8);

impl TryFrom<u8> for Status {
    type Error = UnknownStatus;

    fn try_from(byte: u8) -> Result<Status, UnknownStatus> {
        Ok(match byte {
            0x00 => Status::Ok,
            0x01 => Status::NotFound,
            0x02 => Status::ConditionFailed,
            0x03 => Status::End,
            0x10 => Status::Moved,
            0x11 => Status::Ask,
            0x12 => Status::Busy,
            0x13 => Status::TooLate,
            0x14 => Status::Loading,
            0x15 => Status::GoingAway,
            0x20 => Status::WrongType,
            0x21 => Status::OutOfMemory,
            0x22 => Status::KeyTooLong,
            0x23 => Status::ValueTooLarge,
            0x24 => Status::NotANumber,
            0x25 => Status::OutOfRange,
            0x26 => Status::CrossSlot,
            0x30 => Status::Invalid,
            0x31 => Status::UnknownRequest,
            0x32 => Status::UnsupportedVersion,
            0x33 => Status::Unauthorized,
            0x34 => Status::TooManyConnections,
            0x35 => Status::NoSuchCore,
            0x36 => Status::Garbled,
            0x37 => Status::FrameTooLong,
            0x38 => Status::IdleTooLong,
            _ => return Err(UnknownStatus(byte)),
        })
    }
}

/// An entry's value and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// The caller's opaque bits.
    pub user_flags: u32,
    /// The version, where it was asked for.
    pub version: Option<Version>,
}

/// When an entry expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// It never does.
    Never,
    /// After this many milliseconds.
    Ms(u64),
}

/// What a node says of itself in reply to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The version that both sides speak from here on.
    pub version: u16,
    /// The core that this connection is on.
    pub core: u16,
    /// How many cores the node has.
    pub cores: u16,
    /// Longest key, in bytes.
    pub key_bytes_max: u16,
    /// Longest value, in bytes.
    pub value_bytes_max: u32,
    /// The node's monotonic clock.
    pub clock: MonotonicUs,
    /// The node's name.
    pub node_name: &'a [u8],
    /// Which core owns which slots: ranges in slot order, each the first slot and the core
    /// (both 16-bit little-endian); a range ends where the next begins. Core 0xFFFF stands
    /// for slots that the node does not own.
    pub core_ranges: &'a [u8],
}

impl<'a> Welcome<'a> {
    /// [`Welcome::core_ranges`] as pairs of first slot and core.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (u16, u16)> + 'a {
        let (ranges, _) = self.core_ranges.as_chunks::<4>();
        ranges
            .iter()
            .map(|&[s0, s1, c0, c1]| (u16::from_le_bytes([s0, s1]), u16::from_le_bytes([c0, c1])))
    }

    /// Appends ranges in the form of [`Welcome::core_ranges`].
    pub fn encode_ranges(ranges: impl IntoIterator<Item = (u16, u16)>, out: &mut Vec<u8>) {
        for (first_slot, core) in ranges {
            out.extend_from_slice(&first_slot.to_le_bytes());
            out.extend_from_slice(&core.to_le_bytes());
        }
    }
}

/// For how long a redirect holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// From now on: [`Status::Moved`].
    Moved,
    /// For this one request: [`Status::Ask`].
    Ask,
}

impl Redirection {
    /// The status that says so.
    pub fn status(self) -> Status {
        match self {
            Redirection::Moved => Status::Moved,
            Redirection::Ask => Status::Ask,
        }
    }
}

/// Where a request belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect<'a> {
    /// For how long.
    pub redirection: Redirection,
    /// The slot of the request's key.
    pub slot: u16,
    /// The epoch of the topology that says so.
    pub epoch: u64,
    /// The preferred address of the slot's owner.
    pub address: &'a str,
}

/// What a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Done, and nothing more to say; or with the version that the entry now has.
    Done {
        /// The new version, where it was asked for.
        version: Option<Version>,
    },
    /// A value.
    Value(Value<'a>),
    /// A number after counting (two's complement where signed).
    Number {
        /// The number.
        number: u64,
        /// The new version, where it was asked for.
        version: Option<Version>,
    },
    /// When an entry expires.
    Remaining(Remaining),
    /// One core's counters, as lines of `name value`.
    Stats {
        /// The core.
        core: u16,
        /// The lines.
        text: &'a [u8],
    },
    /// The answer to ping.
    Pong {
        /// The node's monotonic clock.
        clock: MonotonicUs,
    },
    /// The answer to hello.
    Welcome(Welcome<'a>),
    /// The end of a series of replies.
    End,
    /// The request belongs elsewhere. State was not touched.
    Redirect(Redirect<'a>),
    /// The table of the cluster.
    Topology {
        /// It, in the form that SPEC.md gives ("Topology").
        table: &'a [u8],
    },
    /// What is known of an entry, with its value where that was asked for.
    Described {
        /// What is known.
        description: Description,
        /// The value.
        value: Option<&'a [u8]>,
    },
    /// A part of a walk.
    Keys(KeyPage<'a>),
    /// Some key, and out of how many it was chosen.
    Key {
        /// The key.
        key: &'a [u8],
        /// Keys of the space that this core holds.
        among: u64,
    },
    /// Overloaded.
    Busy {
        /// Microseconds after which to try again.
        retry_after_us: u32,
    },
    /// Anything else: a status, and words for a person (may be empty).
    Failed {
        /// Which.
        status: Status,
        /// Why, in English.
        message: &'a str,
    },
}

/// What accompanies every reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyHead {
    /// The request's number.
    pub id: RequestId,
    /// The epoch of the topology in force at the node.
    pub epoch: ShortEpoch,
    /// This reply is one of several to the same request: the part with this index.
    /// The last of them is [`Reply::End`].
    pub part: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_number_and_no_other() {
        let mut known = Vec::new();
        for byte in 0..=u8::MAX {
            match Status::try_from(byte) {
                Ok(status) => {
                    assert_eq!(status as u8, byte);
                    known.push(status);
                }
                Err(error) => assert_eq!(error, UnknownStatus(byte)),
            }
        }
        assert_eq!(known, Status::ALL);
    }

    #[test]
    fn key_lists_are_checked_when_they_are_made() {
        let mut buffer = Vec::new();
        let keys = [b"a".as_slice(), b"", b"key"];
        let list = Keys::encode(keys, &mut buffer).unwrap();
        assert_eq!(list.count(), 3);
        assert!(list.iter().eq(keys));

        assert_eq!(Keys::parse(&[]), Err(KeysError::Count));
        assert_eq!(Keys::parse(&[1]), Err(KeysError::Truncated));
        assert_eq!(Keys::parse(&[2, 0, b'a']), Err(KeysError::Truncated));
        assert_eq!(Keys::parse(&[0; 2 * 1_024]).map(|keys| keys.count()), Ok(1_024));
        assert_eq!(Keys::parse(&[0; 2 * 1_025]), Err(KeysError::Count));
        let long = vec![0; crate::limits::KEY_BYTES_MAX + 1];
        assert_eq!(Keys::encode([&long[..]], &mut buffer), Err(KeysError::KeyTooLong));
        let many = std::iter::repeat_n(&long[1..], 64);
        assert_eq!(Keys::encode(many, &mut buffer), Err(KeysError::TooLong));
    }

    #[test]
    fn core_ranges_are_pairs() {
        let mut bytes = Vec::new();
        let ranges = [(0, 1), (100, 0xFFFF), (16_383, 0)];
        Welcome::encode_ranges(ranges, &mut bytes);
        let welcome = Welcome {
            version: 1,
            core: 0,
            cores: 2,
            key_bytes_max: 1,
            value_bytes_max: 1,
            clock: MonotonicUs(0),
            node_name: b"n",
            core_ranges: &bytes,
        };
        assert!(welcome.ranges().eq(ranges));
    }
}
