//! The reference: what one key may hold, and what a request on it may answer.
//!
//! It is slow and obvious. A key's state is either nothing or an entry; where the world
//! leaves something open (when exactly a request was executed, whether a reply that nobody
//! asked for was a success, what was evicted), the model keeps every state that is still
//! possible, and each reply rules some of them out. A reply that rules out all of them is
//! a fault of the node.

use std::collections::HashSet;
use std::rc::Rc;

use corelane_engine::JitterMode;
use corelane_protocol::{
    Arithmetic, Direction, Jitter, Remaining, SetCondition, Side, Status, Ttl,
};

/// What the node was told that changes the meaning of requests.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Longest value, in bytes.
    pub(crate) value_bytes_max: usize,
    /// Values over this many bytes may be refused for their share of the memory.
    pub(crate) value_bytes_sure: usize,
    /// Expiry of entries whose writer left it to the node, in milliseconds.
    pub(crate) default_ttl_ms: Option<u64>,
    /// Which expiries the node spreads.
    pub(crate) jitter: JitterMode,
    /// By how many percent either way.
    pub(crate) jitter_percent: u8,
    /// Entries may vanish for want of memory.
    pub(crate) may_evict: bool,
    /// Writes may be refused for want of memory.
    pub(crate) may_refuse: bool,
}

/// A request on one key, without the key.
#[derive(Clone, Debug)]
pub(crate) enum KeyRequest {
    /// See [`corelane_protocol::Request::Get`].
    Get {
        /// The oldest acceptable caller's version.
        least_version: Option<u64>,
    },
    /// See [`corelane_protocol::Request::GetAndTouch`].
    GetAndTouch {
        /// The new expiry.
        ttl: Ttl,
    },
    /// See [`corelane_protocol::Set`].
    Set {
        /// The value.
        value: Rc<[u8]>,
        /// The caller's bits.
        user_flags: u32,
        /// When it expires.
        ttl: Ttl,
        /// When it takes effect.
        condition: SetCondition<'static>,
    },
    /// See [`corelane_protocol::Request::Delete`].
    Delete {
        /// When it takes effect.
        condition: DeleteIf,
    },
    /// See [`corelane_protocol::Request::Touch`].
    Touch {
        /// The new expiry.
        ttl: Ttl,
    },
    /// See [`corelane_protocol::Count`].
    Count {
        /// By how much.
        delta: u64,
        /// Which way.
        direction: Direction,
        /// What numbers are.
        arithmetic: Arithmetic,
        /// What an absent entry is created with.
        initial: Option<u64>,
        /// Expiry of the entry that is created.
        ttl: Ttl,
    },
    /// See [`corelane_protocol::Request::Extend`].
    Extend {
        /// What is added.
        value: Rc<[u8]>,
        /// Where.
        side: Side,
    },
    /// See [`corelane_protocol::Request::Exists`].
    Exists,
    /// See [`corelane_protocol::Request::TtlOf`].
    TtlOf,
}

/// [`corelane_protocol::DeleteCondition`] with a value of its own.
#[derive(Clone, Debug)]
pub(crate) enum DeleteIf {
    /// Always.
    Always,
    /// Only if the version is this one.
    VersionIs(u64),
    /// Only if the value is this one.
    ValueIs(Rc<[u8]>),
}

/// A reply on one key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Observed {
    /// [`corelane_protocol::Reply::Done`]
    Done(Option<u64>),
    /// [`corelane_protocol::Reply::Value`]
    Value {
        /// The bytes.
        bytes: Rc<[u8]>,
        /// The caller's bits.
        user_flags: u32,
        /// The version.
        version: Option<u64>,
    },
    /// [`corelane_protocol::Reply::Number`]
    Number {
        /// The number.
        number: u64,
        /// The version.
        version: Option<u64>,
    },
    /// [`corelane_protocol::Reply::Remaining`]
    Remaining(Remaining),
    /// [`corelane_protocol::Reply::Failed`]
    Failed(Status),
}

/// When a request was executed: at some moment between these two, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    /// Microseconds on the node's clock.
    pub(crate) from_us: u64,
    /// Microseconds on the node's clock.
    pub(crate) to_us: u64,
}

impl Window {
    fn first_ms(self) -> u64 {
        self.from_us / 1_000
    }

    fn last_ms(self) -> u64 {
        self.to_us / 1_000
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Expiry {
    Never,
    /// At some millisecond between these two, both included.
    Between {
        least_ms: u64,
        most_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum KnownVersion {
    None,
    Shard(u64),
    /// The shard gave one, and nobody has seen it.
    ShardUnseen,
    Caller(u64),
}

/// An entry as the model has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    value: Rc<[u8]>,
    user_flags: u32,
    expiry: Expiry,
    version: KnownVersion,
}

/// What a key may hold.
pub(crate) type State = Option<Entry>;

/// What accompanies a request on a key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct KeyHead {
    /// A reply is to carry the version.
    pub(crate) wants_version: bool,
    /// Not to be executed after this moment, in microseconds.
    pub(crate) deadline_us: Option<u64>,
}

/// A version that a reply should carry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Nothing,
    Exactly(u64),
    /// One from the shard's counter that nobody knows yet.
    Fresh,
}

enum Expected<'e> {
    Done(Told),
    Value(&'e Entry, Told),
    Number(u64, Told),
    Failed(Status),
}

/// What may be true after entries had the chance to vanish for a reason of their own before
/// a request in `window`.
pub(crate) fn lapse(states: Vec<State>, window: Window, may_vanish: bool) -> Vec<State> {
    let mut next = Vec::with_capacity(states.len() + 1);
    for state in states {
        let Some(mut entry) = state else {
            push(&mut next, None);
            continue;
        };
        if may_vanish {
            push(&mut next, None);
        }
        if let Expiry::Between { least_ms, most_ms } = &mut entry.expiry {
            if *least_ms <= window.last_ms() {
                push(&mut next, None);
            }
            if *most_ms <= window.first_ms() {
                continue;
            }
            *least_ms = (*least_ms).max(window.first_ms() + 1);
        }
        push(&mut next, Some(entry));
    }
    next
}

/// The states that are possible after a request, given what it answered (`None`: nobody
/// heard). None at all: the answer is wrong.
pub(crate) fn step(
    states: &[State],
    request: &KeyRequest,
    head: KeyHead,
    window: Window,
    rules: &Rules,
    observed: Option<&Observed>,
) -> Vec<State> {
    let mut step = Step { head, window, rules, observed, next: Vec::new() };
    for state in states {
        step.take(state, request);
    }
    step.next
}

/// Shard versions that were given out, by core: none may come twice.
#[derive(Debug, Default)]
pub(crate) struct VersionsSeen(HashSet<(u16, u64)>);

impl VersionsSeen {
    /// Notes a version that a write has just been given.
    ///
    /// # Panics
    /// It was given to another write before.
    pub(crate) fn given(&mut self, core: u16, version: u64) {
        assert!(self.0.insert((core, version)), "version {version} of core {core} came twice");
    }
}

struct Step<'a> {
    head: KeyHead,
    window: Window,
    rules: &'a Rules,
    observed: Option<&'a Observed>,
    next: Vec<State>,
}

impl Step<'_> {
    fn take(&mut self, state: &State, request: &KeyRequest) {
        if let Some(deadline_us) = self.head.deadline_us {
            if self.window.to_us > deadline_us {
                self.failed(Status::TooLate, state);
            }
            if self.window.from_us > deadline_us {
                return;
            }
        }
        if self.rules.may_refuse && self.may_need_memory(request) {
            self.failed(Status::OutOfMemory, state);
        }
        let Some(entry) = state else { return self.take_absent(request) };
        match request {
            KeyRequest::Get { least_version } => {
                let (after, told) = self.ensured(entry);
                let new_enough = least_version.is_none_or(|least| {
                    matches!(entry.version, KnownVersion::Caller(version) if version >= least)
                });
                if new_enough {
                    self.offer(Expected::Value(entry, told), Some(after));
                } else {
                    self.failed(Status::NotFound, &Some(after));
                }
            }
            KeyRequest::GetAndTouch { ttl } => {
                let (mut after, told) = self.ensured(entry);
                after.expiry = self.expiry(*ttl, Some(&entry.expiry));
                self.offer(Expected::Value(entry, told), Some(after));
            }
            KeyRequest::Set { value, user_flags, ttl, condition } => {
                let holds = match condition {
                    SetCondition::Always | SetCondition::Present => vec![true],
                    // Nor do slots ever come to this node.
                    SetCondition::Absent | SetCondition::Untouched => vec![false],
                    SetCondition::VersionIs(version) => entry.version.may_be(version.0),
                    SetCondition::NewerThan(version) => vec![
                        !matches!(entry.version, KnownVersion::Caller(old) if old >= version.0),
                    ],
                    SetCondition::ValueIs(_) => unreachable!("not in the native protocol"),
                };
                for holds in holds {
                    if holds {
                        let kept = Some(&entry.expiry);
                        self.set(state, value, *user_flags, *ttl, *condition, kept);
                    } else {
                        self.failed(Status::ConditionFailed, state);
                    }
                }
            }
            KeyRequest::Delete { condition } => {
                let holds = match condition {
                    DeleteIf::Always => vec![true],
                    DeleteIf::VersionIs(version) => entry.version.may_be(*version),
                    DeleteIf::ValueIs(value) => vec![*value == entry.value],
                };
                for holds in holds {
                    if holds {
                        self.offer(Expected::Done(Told::Nothing), None);
                    } else {
                        self.failed(Status::ConditionFailed, state);
                    }
                }
            }
            KeyRequest::Touch { ttl } => {
                let gone_at_once = matches!(ttl, Ttl::After { ms: 0, .. });
                let (mut after, told) = match gone_at_once {
                    true => (entry.clone(), Told::Nothing),
                    false => self.ensured(entry),
                };
                after.expiry = self.expiry(*ttl, Some(&entry.expiry));
                self.offer(Expected::Done(told), Some(after));
            }
            KeyRequest::Count { delta, direction, arithmetic, .. } => {
                let Some(old) = parse(&entry.value, *arithmetic) else {
                    return self.failed(Status::NotANumber, state);
                };
                let Some(new) = add(old, *delta, *direction, *arithmetic) else {
                    return self.failed(Status::OutOfRange, state);
                };
                let (version, told) = self.written_version();
                let value = text(new, *arithmetic).into_bytes().into();
                let after = Entry { value, version, ..entry.clone() };
                self.offer(Expected::Number(new, told), Some(after));
            }
            KeyRequest::Extend { value, side } => {
                let joined = match side {
                    Side::Append => [&entry.value[..], &value[..]].concat(),
                    Side::Prepend => [&value[..], &entry.value[..]].concat(),
                };
                if joined.len() > self.rules.value_bytes_sure {
                    self.failed(Status::ValueTooLarge, state);
                }
                if joined.len() > self.rules.value_bytes_max {
                    return;
                }
                let (version, told) = self.written_version();
                let after = Entry { value: joined.into(), version, ..entry.clone() };
                if self.rules.may_refuse && self.head.wants_version {
                    // The bytes found room and the version did not.
                    let bare = Entry { version: KnownVersion::None, ..after.clone() };
                    self.failed(Status::OutOfMemory, &Some(bare));
                }
                self.offer(Expected::Done(told), Some(after));
            }
            KeyRequest::Exists => self.offer(Expected::Done(Told::Nothing), state.clone()),
            KeyRequest::TtlOf => self.ttl_of(entry),
        }
    }

    fn take_absent(&mut self, request: &KeyRequest) {
        match request {
            KeyRequest::Set { value, user_flags, ttl, condition } => match condition {
                SetCondition::Present | SetCondition::Untouched => {
                    self.failed(Status::ConditionFailed, &None);
                }
                SetCondition::VersionIs(_) => self.failed(Status::NotFound, &None),
                SetCondition::Always | SetCondition::Absent | SetCondition::NewerThan(_) => {
                    self.set(&None, value, *user_flags, *ttl, *condition, None);
                }
                SetCondition::ValueIs(_) => unreachable!("not in the native protocol"),
            },
            KeyRequest::Count { initial: Some(initial), arithmetic, ttl, .. } => {
                let (version, told) = self.written_version();
                let after = Entry {
                    value: text(*initial, *arithmetic).into_bytes().into(),
                    user_flags: 0,
                    expiry: self.expiry(*ttl, None),
                    version,
                };
                self.offer(Expected::Number(*initial, told), Some(after));
            }
            _ => self.failed(Status::NotFound, &None),
        }
    }

    fn set(
        &mut self,
        before: &State,
        value: &Rc<[u8]>,
        user_flags: u32,
        ttl: Ttl,
        condition: SetCondition<'static>,
        kept: Option<&Expiry>,
    ) {
        if value.len() > self.rules.value_bytes_sure {
            self.failed(Status::ValueTooLarge, before);
        }
        let (version, told) = match condition {
            SetCondition::NewerThan(version) => {
                let told = match self.head.wants_version {
                    true => Told::Exactly(version.0),
                    false => Told::Nothing,
                };
                (KnownVersion::Caller(version.0), told)
            }
            _ => self.written_version(),
        };
        let expiry = self.expiry(ttl, kept);
        let after = Entry { value: value.clone(), user_flags, expiry, version };
        self.offer(Expected::Done(told), Some(after));
    }

    fn may_need_memory(&self, request: &KeyRequest) -> bool {
        match request {
            KeyRequest::Set { .. } | KeyRequest::Count { .. } | KeyRequest::Extend { .. } => true,
            KeyRequest::Get { .. } | KeyRequest::GetAndTouch { .. } | KeyRequest::Touch { .. } => {
                self.head.wants_version
            }
            KeyRequest::Delete { .. } | KeyRequest::Exists | KeyRequest::TtlOf => false,
        }
    }

    /// The version of a value just written, and what the reply says of it.
    fn written_version(&self) -> (KnownVersion, Told) {
        match self.head.wants_version {
            true => (KnownVersion::ShardUnseen, Told::Fresh),
            false => (KnownVersion::None, Told::Nothing),
        }
    }

    /// The entry with a version, if one is wanted.
    fn ensured(&self, entry: &Entry) -> (Entry, Told) {
        let mut entry = entry.clone();
        if !self.head.wants_version {
            return (entry, Told::Nothing);
        }
        let told = match entry.version {
            KnownVersion::Shard(version) | KnownVersion::Caller(version) => Told::Exactly(version),
            KnownVersion::None | KnownVersion::ShardUnseen => {
                entry.version = KnownVersion::ShardUnseen;
                Told::Fresh
            }
        };
        (entry, told)
    }

    fn expiry(&self, ttl: Ttl, kept: Option<&Expiry>) -> Expiry {
        let (ms, asked) = match (ttl, kept) {
            (Ttl::Never, _) => return Expiry::Never,
            (Ttl::Keep, Some(kept)) => return kept.clone(),
            (Ttl::After { ms, jitter }, _) => (ms, jitter == Jitter::Spread),
            (Ttl::Keep | Ttl::Default, _) => match self.rules.default_ttl_ms {
                None => return Expiry::Never,
                Some(ms) => (ms, false),
            },
        };
        let spread = match self.rules.jitter {
            JitterMode::Off => false,
            JitterMode::Asked => asked,
            JitterMode::Always => true,
        };
        let percent = if spread { u128::from(self.rules.jitter_percent) } else { 0 };
        let reach = (u128::from(ms) * percent / 100) as u64;
        Expiry::Between {
            least_ms: self.window.first_ms().saturating_add(ms - reach),
            most_ms: self.window.last_ms().saturating_add(ms).saturating_add(reach),
        }
    }

    fn ttl_of(&mut self, entry: &Entry) {
        let mut after = entry.clone();
        match (self.observed, &mut after.expiry) {
            (None, _) | (Some(Observed::Remaining(Remaining::Never)), Expiry::Never) => {}
            (
                Some(Observed::Remaining(Remaining::Ms(ms))),
                Expiry::Between { least_ms, most_ms },
            ) if *ms > 0 => {
                *least_ms = (*least_ms).max(self.window.first_ms().saturating_add(*ms));
                *most_ms = (*most_ms).min(self.window.last_ms().saturating_add(*ms));
                if least_ms > most_ms {
                    return;
                }
            }
            _ => return,
        }
        push(&mut self.next, Some(after));
    }

    fn failed(&mut self, status: Status, state: &State) {
        self.offer(Expected::Failed(status), state.clone());
    }

    /// Keeps a state if the answer that goes with it is the one that came.
    fn offer(&mut self, expected: Expected<'_>, mut state: State) {
        let told = match (self.observed, expected) {
            (None, _) => None,
            (Some(Observed::Done(version)), Expected::Done(told)) => Some((*version, told)),
            (
                Some(Observed::Value { bytes, user_flags, version }),
                Expected::Value(entry, told),
            ) if *bytes == entry.value && *user_flags == entry.user_flags => Some((*version, told)),
            (
                Some(Observed::Number { number, version }),
                Expected::Number(expected_number, told),
            ) if *number == expected_number => Some((*version, told)),
            (Some(Observed::Failed(status)), Expected::Failed(expected_status))
                if *status == expected_status =>
            {
                Some((None, Told::Nothing))
            }
            _ => return,
        };
        match told {
            None | Some((None, Told::Nothing)) => {}
            Some((Some(version), Told::Exactly(expected))) if version == expected => {}
            Some((Some(version), Told::Fresh)) => {
                let entry = state.as_mut().expect("only an entry has a version");
                entry.version = KnownVersion::Shard(version);
            }
            _ => return,
        }
        push(&mut self.next, state);
    }
}

impl KnownVersion {
    /// Whether it is this one: the answers that are possible.
    fn may_be(self, version: u64) -> Vec<bool> {
        match self {
            KnownVersion::None => vec![false],
            KnownVersion::Shard(own) | KnownVersion::Caller(own) => vec![own == version],
            KnownVersion::ShardUnseen => vec![true, false],
        }
    }
}

fn push(states: &mut Vec<State>, state: State) {
    if !states.contains(&state) {
        states.push(state);
    }
}

fn parse(value: &[u8], arithmetic: Arithmetic) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let number = match arithmetic {
        Arithmetic::Signed => text.parse::<i64>().ok()? as u64,
        Arithmetic::Unsigned64 => text.parse::<u64>().ok()?,
    };
    (self::text(number, arithmetic) == text).then_some(number)
}

fn text(number: u64, arithmetic: Arithmetic) -> String {
    match arithmetic {
        Arithmetic::Signed => (number as i64).to_string(),
        Arithmetic::Unsigned64 => number.to_string(),
    }
}

fn add(old: u64, delta: u64, direction: Direction, arithmetic: Arithmetic) -> Option<u64> {
    let (wide, delta) = (i128::from(old as i64), i128::from(delta));
    match (arithmetic, direction) {
        (Arithmetic::Signed, Direction::Increment) => i64::try_from(wide + delta).ok(),
        (Arithmetic::Signed, Direction::Decrement) => i64::try_from(wide - delta).ok(),
        (Arithmetic::Unsigned64, Direction::Increment) => {
            return Some((u128::from(old) + delta as u128) as u64);
        }
        (Arithmetic::Unsigned64, Direction::Decrement) => {
            return Some(u128::from(old).saturating_sub(delta as u128) as u64);
        }
    }
    .map(|number| number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        value_bytes_max: 100,
        value_bytes_sure: 100,
        default_ttl_ms: None,
        jitter: JitterMode::Off,
        jitter_percent: 0,
        may_evict: false,
        may_refuse: false,
    };

    fn set(ttl_ms: u64) -> KeyRequest {
        KeyRequest::Set {
            value: b"v".as_slice().into(),
            user_flags: 7,
            ttl: Ttl::After { ms: ttl_ms, jitter: Jitter::Exact },
            condition: SetCondition::Always,
        }
    }

    #[test]
    fn only_the_edge_of_an_expiry_is_open() {
        let at =
            |from_ms: u64, to_ms: u64| Window { from_us: from_ms * 1_000, to_us: to_ms * 1_000 };
        let head = KeyHead::default();
        let done = Observed::Done(None);
        let states = step(&[None], &set(10), head, at(100, 102), &RULES, Some(&done));
        assert_eq!(states.len(), 1);
        let miss = Observed::Failed(Status::NotFound);
        let get = KeyRequest::Get { least_version: None };
        let check = |window: Window, hit_allowed: bool, miss_allowed: bool| {
            let states = lapse(states.clone(), window, false);
            let hit =
                Observed::Value { bytes: b"v".as_slice().into(), user_flags: 7, version: None };
            let hits = step(&states, &get, head, window, &RULES, Some(&hit));
            let misses = step(&states, &get, head, window, &RULES, Some(&miss));
            assert_eq!((!hits.is_empty(), !misses.is_empty()), (hit_allowed, miss_allowed));
        };
        check(at(103, 109), true, false);
        check(at(103, 110), true, true);
        check(at(111, 111), true, true);
        check(at(112, 120), false, true);
    }

    #[test]
    fn a_wrong_value_or_version_is_refused() {
        let window = Window { from_us: 0, to_us: 0 };
        let head = KeyHead { wants_version: true, deadline_us: None };
        let states = step(&[None], &set(9), head, window, &RULES, Some(&Observed::Done(Some(5))));
        assert_eq!(states.len(), 1);
        let get = KeyRequest::Get { least_version: None };
        let accepts = |bytes: &[u8], version: Option<u64>| {
            let observed = Observed::Value { bytes: bytes.into(), user_flags: 7, version };
            !step(&states, &get, head, window, &RULES, Some(&observed)).is_empty()
        };
        assert!(accepts(b"v", Some(5)));
        assert!(!accepts(b"w", Some(5)));
        assert!(!accepts(b"v", Some(6)));
        assert!(!accepts(b"v", None));
    }
}
