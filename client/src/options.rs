//! How operations may be varied, and what they come to.

use corelane_protocol::{Arithmetic, SetCondition, Ttl, Version, WantVersion};

/// How a get may be varied.
///
/// ```
/// use corelane_client::{GetOptions, Version};
/// let options = GetOptions::new().least_version(Version(17)).want_version();
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetOptions {
    /// The oldest caller-given version that is acceptable; an older entry is a miss.
    pub least_version: Option<Version>,
    /// Whether the value comes with its version.
    pub want_version: WantVersion,
}

impl GetOptions {
    /// A plain get.
    pub fn new() -> GetOptions {
        GetOptions::default()
    }

    /// Sets [`GetOptions::least_version`].
    pub fn least_version(self, version: Version) -> GetOptions {
        GetOptions { least_version: Some(version), ..self }
    }

    /// Asks for the version.
    pub fn want_version(self) -> GetOptions {
        GetOptions { want_version: WantVersion::Yes, ..self }
    }
}

/// How a set may be varied.
///
/// ```
/// use corelane_client::{Jitter, SetCondition, SetOptions, Ttl};
/// let options = SetOptions::new()
///     .ttl(Ttl::After { ms: 60_000, jitter: Jitter::Spread })
///     .condition(SetCondition::Absent)
///     .user_flags(7);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetOptions {
    /// When the entry expires; by default as the node is configured.
    pub ttl: Ttl,
    /// When the set takes effect; by default always.
    pub condition: SetCondition<'static>,
    /// Opaque bits that come back with the value.
    pub user_flags: u32,
    /// Whether the outcome says the new version.
    pub want_version: WantVersion,
}

impl SetOptions {
    /// A plain set.
    pub fn new() -> SetOptions {
        SetOptions::default()
    }

    /// Sets [`SetOptions::ttl`].
    pub fn ttl(self, ttl: Ttl) -> SetOptions {
        SetOptions { ttl, ..self }
    }

    /// Sets [`SetOptions::condition`].
    pub fn condition(self, condition: SetCondition<'static>) -> SetOptions {
        SetOptions { condition, ..self }
    }

    /// Sets [`SetOptions::user_flags`].
    pub fn user_flags(self, user_flags: u32) -> SetOptions {
        SetOptions { user_flags, ..self }
    }

    /// Asks for the new version.
    pub fn want_version(self) -> SetOptions {
        SetOptions { want_version: WantVersion::Yes, ..self }
    }
}

/// How counting may be varied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CountOptions {
    /// What numbers are, and what happens at their ends; by default signed, where passing
    /// an end is refused.
    pub arithmetic: Arithmetic,
    /// The number that an absent entry is created with; without it, that is a miss. Two's
    /// complement where numbers are signed.
    pub initial: Option<u64>,
    /// Expiry of the entry that is created; an existing one keeps its own.
    pub ttl: Ttl,
    /// Whether the outcome says the new version.
    pub want_version: WantVersion,
}

impl CountOptions {
    /// Plain counting.
    pub fn new() -> CountOptions {
        CountOptions::default()
    }

    /// Sets [`CountOptions::arithmetic`].
    pub fn arithmetic(self, arithmetic: Arithmetic) -> CountOptions {
        CountOptions { arithmetic, ..self }
    }

    /// Sets [`CountOptions::initial`].
    pub fn initial(self, initial: u64) -> CountOptions {
        CountOptions { initial: Some(initial), ..self }
    }

    /// Sets [`CountOptions::ttl`].
    pub fn ttl(self, ttl: Ttl) -> CountOptions {
        CountOptions { ttl, ..self }
    }

    /// Asks for the new version.
    pub fn want_version(self) -> CountOptions {
        CountOptions { want_version: WantVersion::Yes, ..self }
    }
}

/// What a set came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// The value is stored.
    Stored {
        /// Its version, where it was asked for.
        version: Option<Version>,
    },
    /// The condition did not hold; nothing changed.
    ConditionFailed,
    /// The condition needs an entry, and there is none; nothing changed.
    NotFound,
}

/// What a delete came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The entry is gone.
    Deleted,
    /// There was none.
    NotFound,
    /// The condition did not hold; the entry is still there.
    ConditionFailed,
}

/// What adding to one end of a value came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendOutcome {
    /// The value is longer now.
    Extended,
    /// There is no entry; none was made.
    NotFound,
}

/// What a new expiry came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchOutcome {
    /// The entry has it.
    Touched,
    /// There is no entry.
    NotFound,
}

/// A number after counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    bits: u64,
    /// The new version, where it was asked for.
    pub version: Option<Version>,
}

impl Counted {
    pub(crate) fn new(bits: u64, version: Option<Version>) -> Counted {
        Counted { bits, version }
    }

    /// The number, where numbers are signed ([`Arithmetic::Signed`]).
    pub fn signed(&self) -> i64 {
        self.bits.cast_signed()
    }

    /// The number, where numbers are unsigned ([`Arithmetic::Unsigned64`]).
    pub fn unsigned(&self) -> u64 {
        self.bits
    }
}

/// One core's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreStats {
    /// The core.
    pub core: u16,
    /// Its counters, one to a line, as `name value`.
    pub text: String,
}

impl CoreStats {
    /// The counters' names and values, in the order the node gives them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.split_once(' '))
    }
}
