//! Requests on a shard with room for everything, against a map that does the obvious.

use std::collections::BTreeMap;

use corelane_protocol::wire::{ReplyDecoded, between_cores};
use corelane_protocol::{
    Atomic, DeleteCondition, Jitter, KeyList, KeyPage, Pairs, Replace, SetMany, Value, WalkCursor,
    Watch, Watches,
};
use corelane_ring::slot_of;
use corelane_shard::{Policy, ShardConfig};
use rand::rngs::StdRng;

use super::*;
use crate::config::JitterMode;

fn executor() -> Executor {
    Executor::new(EngineConfig {
        core: 0,
        cores: 1,
        value_bytes_max: 1_000,
        seed: 3,
        node_name: String::new(),
        cluster: None,
        shard: ShardConfig::new(64 << 20, |key| slot_of(key).number()),
        default_ttl: DefaultTtl::Never,
        jitter: JitterMode::Off,
        jitter_percent: 0,
        token: None,
        idle_ms_max: 1_000,
        drain_ms_max: 1_000,
        output_bytes_max: 1 << 20,
        output_bytes_total_max: 1 << 20,
        backlog_bytes_total_max: 4 << 20,
        input_bytes_total_max: 4 << 20,
        now: MonotonicUs(0),
        unix_ms: 0,
        dialects: Default::default(),
        about: Default::default(),
    })
    .expect("memory")
}

/// Executes one request and gives its reply frames.
fn execute(executor: &mut Executor, space: Space, request: &Request<'_>, at: u64) -> Vec<u8> {
    let head = RequestHead { space, ..RequestHead::default() };
    let mut out = Vec::new();
    executor.execute(&head, request, MonotonicUs(at * 1_000), &mut out);
    out
}

#[derive(Clone, Debug, PartialEq)]
struct Item {
    value: Vec<u8>,
    user_flags: u32,
    expires_at: Option<u64>,
}

#[derive(Default)]
struct Model {
    items: BTreeMap<(Space, Vec<u8>), Item>,
    at: u64,
}

impl Model {
    fn live(&self, space: Space, key: &[u8]) -> Option<&Item> {
        let item = self.items.get(&(space, key.to_vec()))?;
        item.expires_at.is_none_or(|expires| expires > self.at).then_some(item)
    }

    fn put(&mut self, space: Space, key: &[u8], item: Item) {
        self.items.insert((space, key.to_vec()), item);
    }

    fn remove(&mut self, space: Space, key: &[u8]) {
        self.items.remove(&(space, key.to_vec()));
    }

    fn expiry(&self, ttl: Ttl, old: Option<u64>) -> Option<u64> {
        match ttl {
            Ttl::Default | Ttl::Never => None,
            Ttl::Keep => old,
            Ttl::After { ms, .. } => Some(self.at + ms),
        }
    }

    fn failed(status: Status) -> Vec<u8> {
        let mut out = Vec::new();
        write_failure(&mut out, ReplyHead::default(), status, words(status));
        out
    }

    fn answer(reply: &Reply<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        wire::encode_reply(&ReplyHead::default(), reply, &mut out);
        out
    }

    fn value(bytes: &[u8], user_flags: u32) -> Vec<u8> {
        Model::answer(&Reply::Value(Value { bytes, user_flags, version: None }))
    }

    fn number(number: usize) -> Vec<u8> {
        Model::answer(&Reply::Number { number: number as u64, version: None })
    }

    fn done() -> Vec<u8> {
        Model::answer(&Reply::Done { version: None })
    }

    fn execute(&mut self, space: Space, request: &Request<'_>) -> Vec<u8> {
        match *request {
            Request::Set(set) => self.set(space, &set),
            Request::GetAndDelete { key } => {
                let Some(item) = self.live(space, key).cloned() else {
                    return Model::failed(Status::NotFound);
                };
                self.remove(space, key);
                Model::value(&item.value, item.user_flags)
            }
            Request::GetRange { key, start, end } => {
                let Some(item) = self.live(space, key) else {
                    return Model::failed(Status::NotFound);
                };
                // One byte at a time, each asked whether it is meant.
                let length = item.value.len() as i64;
                let place = |p: i64| if p < 0 { (p.saturating_add(length)).max(0) } else { p };
                let backwards = start < 0 && end < 0 && start > end;
                let bytes: Vec<u8> = (0..length)
                    .filter(|at| !backwards && place(start) <= *at && *at <= place(end))
                    .map(|at| item.value[at as usize])
                    .collect();
                Model::value(&bytes, item.user_flags)
            }
            Request::SetRange { key, offset, value } => {
                let old = self.live(space, key).cloned();
                if value.is_empty() {
                    return Model::number(old.map_or(0, |item| item.value.len()));
                }
                let mut item =
                    old.unwrap_or(Item { value: vec![], user_flags: 0, expires_at: None });
                let end = offset.saturating_add(value.len() as u64);
                if end > 1_000 {
                    return Model::failed(Status::ValueTooLarge);
                }
                while (item.value.len() as u64) < end {
                    item.value.push(0);
                }
                for (at, byte) in value.iter().enumerate() {
                    item.value[offset as usize + at] = *byte;
                }
                let length = item.value.len();
                self.put(space, key, item);
                Model::number(length)
            }
            Request::Length { key } => match self.live(space, key) {
                Some(item) => Model::number(item.value.len()),
                None => Model::failed(Status::NotFound),
            },
            Request::Extend { key, value, side, absent: Absent::Create { ttl } } => {
                let expires_at = self.expiry(ttl, None);
                let old = self.live(space, key).cloned();
                let mut item = old.unwrap_or(Item { value: vec![], user_flags: 0, expires_at });
                let at = if side == Side::Append { item.value.len() } else { 0 };
                item.value.splice(at..at, value.iter().copied());
                let length = item.value.len();
                self.put(space, key, item);
                Model::number(length)
            }
            Request::Touch { key, ttl, condition } => {
                let Some(item) = self.live(space, key).cloned() else {
                    return Model::failed(Status::NotFound);
                };
                let new = self.expiry(ttl, item.expires_at);
                let rank = |expiry: Option<u64>| expiry.unwrap_or(u64::MAX);
                let holds = match condition {
                    ExpireCondition::Always => true,
                    ExpireCondition::IfNone => item.expires_at.is_none(),
                    ExpireCondition::IfSome => item.expires_at.is_some(),
                    ExpireCondition::IfLater => rank(new) > rank(item.expires_at),
                    ExpireCondition::IfEarlier => rank(new) < rank(item.expires_at),
                    ExpireCondition::IfSomeAndEarlier => {
                        item.expires_at.is_some() && rank(new) < rank(item.expires_at)
                    }
                };
                if !holds {
                    return Model::failed(Status::ConditionFailed);
                }
                self.put(space, key, Item { expires_at: new, ..item });
                Model::done()
            }
            Request::Copy { from, to, to_space, replace } => {
                let Some(item) = self.live(space, from).cloned() else {
                    return Model::failed(Status::NotFound);
                };
                if replace == Replace::No && self.live(to_space, to).is_some() {
                    return Model::failed(Status::ConditionFailed);
                }
                self.put(to_space, to, item);
                Model::done()
            }
            Request::Rename { from, to, replace } => {
                let Some(item) = self.live(space, from).cloned() else {
                    return Model::failed(Status::NotFound);
                };
                if replace == Replace::No && self.live(space, to).is_some() {
                    return Model::failed(Status::ConditionFailed);
                }
                self.remove(space, from);
                self.put(space, to, item);
                Model::done()
            }
            Request::SetMany(many) => {
                let taken = many.pairs.iter().any(|(key, _)| self.live(space, key).is_some());
                if many.replace == Replace::No && taken {
                    return Model::failed(Status::ConditionFailed);
                }
                for (key, value) in many.pairs {
                    let expires_at = self.expiry(many.ttl, None);
                    self.put(space, key, Item { value: value.into(), user_flags: 0, expires_at });
                }
                Model::done()
            }
            Request::Delete { key, condition: DeleteCondition::Always } => {
                match self.live(space, key).is_some() {
                    true => {
                        self.remove(space, key);
                        Model::done()
                    }
                    false => Model::failed(Status::NotFound),
                }
            }
            Request::FlushSpace { .. } => {
                self.items.retain(|(of, _), _| *of != space);
                let page = KeyPage { next: WalkCursor::default(), keys: KeyList::default() };
                Model::answer(&Reply::Keys(page))
            }
            ref other => unreachable!("{other:?} is not drawn"),
        }
    }

    fn set(&mut self, space: Space, set: &Set<'_>) -> Vec<u8> {
        let old = self.live(space, set.key).cloned();
        let holds = match set.condition {
            SetCondition::Always => true,
            SetCondition::Absent => old.is_none(),
            SetCondition::Present => old.is_some(),
            // No slot came from anywhere.
            SetCondition::Untouched => false,
            SetCondition::ValueIs(value) => old.as_ref().is_some_and(|item| item.value == value),
            SetCondition::VersionIs(_) | SetCondition::NewerThan(_) => unreachable!("not drawn"),
        };
        if holds {
            let expires_at = self.expiry(set.ttl, old.as_ref().and_then(|item| item.expires_at));
            let item = Item { value: set.value.into(), user_flags: set.user_flags, expires_at };
            self.put(space, set.key, item);
        }
        match (set.old, old) {
            (OldValue::Return, Some(item)) => Model::value(&item.value, item.user_flags),
            (OldValue::Return, None) => Model::failed(Status::NotFound),
            (OldValue::Omit, _) if holds => Model::done(),
            (OldValue::Omit, _) => Model::failed(Status::ConditionFailed),
        }
    }
}

/// Draws requests on six keys of one slot, in two spaces.
struct Draw {
    random: StdRng,
    keys: [[u8; 4]; 6],
    value: Vec<u8>,
    expected: Vec<u8>,
    pairs: Vec<u8>,
}

impl Draw {
    fn ttl(&mut self) -> Ttl {
        match self.random.random_range(0..6) {
            0 => Ttl::Default,
            1 => Ttl::Never,
            2 => Ttl::Keep,
            _ => Ttl::After { ms: self.random.random_range(0..30), jitter: Jitter::Exact },
        }
    }

    fn request(&mut self) -> Request<'_> {
        let length = self.random.random_range(0..20);
        self.value = (0..length).map(|_| self.random.random_range(b'a'..=b'c')).collect();
        let length = self.random.random_range(0..3);
        self.expected = (0..length).map(|_| self.random.random_range(b'a'..=b'c')).collect();
        let ttl = self.ttl();
        let replace = [Replace::No, Replace::Yes][self.random.random_range(0..2)];
        let to_space = Space::new(self.random.random_range(0..2)).expect("a space");
        let (one, other) = (self.random.random_range(0..6), self.random.random_range(0..6));
        let kind = self.random.random_range(0..16);
        let condition = match self.random.random_range(0..5) {
            0 => SetCondition::Absent,
            1 => SetCondition::Present,
            2 => SetCondition::ValueIs(&self.expected),
            _ => SetCondition::Always,
        };
        let expire = match self.random.random_range(0..6) {
            0 => ExpireCondition::Always,
            1 => ExpireCondition::IfNone,
            2 => ExpireCondition::IfSome,
            3 => ExpireCondition::IfLater,
            4 => ExpireCondition::IfEarlier,
            _ => ExpireCondition::IfSomeAndEarlier,
        };
        let (start, end) = match self.random.random_range(0..8) {
            0 => (i64::MIN, i64::MAX),
            _ => (self.random.random_range(-25..25), self.random.random_range(-25..25)),
        };
        let offset = match self.random.random_range(0..10) {
            0 => u64::MAX,
            1 => self.random.random_range(970..1_010),
            _ => self.random.random_range(0..40),
        };
        let old = [OldValue::Omit, OldValue::Return][self.random.random_range(0..2)];
        let side = [Side::Append, Side::Prepend][self.random.random_range(0..2)];
        let user_flags = [0, 5][self.random.random_range(0..2)];
        let (key, to, value) = (&self.keys[one][..], &self.keys[other][..], &self.value[..]);
        match kind {
            0..4 => Request::Set(Set { key, value, user_flags, ttl, condition, old }),
            4 => Request::GetAndDelete { key },
            5 | 6 => Request::GetRange { key, start, end },
            7 => Request::SetRange { key, offset, value },
            8 => Request::Length { key },
            9 => Request::Extend { key, value, side, absent: Absent::Create { ttl: Ttl::Never } },
            10 | 11 => Request::Touch { key, ttl, condition: expire },
            12 => Request::Copy { from: key, to, to_space, replace },
            13 => Request::Rename { from: key, to, replace },
            14 if value.len() == 3 => Request::FlushSpace { cursor: WalkCursor::default() },
            14 => {
                self.pairs.clear();
                Pairs::push(&mut self.pairs, key, value);
                Pairs::push(&mut self.pairs, to, &self.expected);
                let pairs = Pairs::from_encoded(&self.pairs);
                Request::SetMany(SetMany { pairs, ttl: Ttl::Never, replace })
            }
            _ => Request::Delete { key, condition: DeleteCondition::Always },
        }
    }
}

/// Keys that the executor holds in a space, by walking.
fn walked(executor: &mut Executor, space: Space, pattern: Option<&[u8]>, at: u64) -> Vec<Vec<u8>> {
    let (mut cursor, mut keys) = (WalkCursor::default(), Vec::new());
    loop {
        let request = Request::Scan { cursor, count: 2, pattern };
        let frames = execute(executor, space, &request, at);
        let ReplyDecoded::Complete { frame, .. } = between_cores::decode_reply(&frames) else {
            panic!("a whole reply");
        };
        let Reply::Keys(page) = frame.reply else { panic!("{:?}", frame.reply) };
        keys.extend(page.keys.iter().map(<[u8]>::to_vec));
        cursor = page.next;
        if cursor == WalkCursor::default() {
            keys.sort();
            keys.dedup();
            return keys;
        }
    }
}

#[test]
fn the_widened_model_is_a_map() {
    for seed in 0..40 {
        let mut executor = executor();
        let mut model = Model::default();
        let mut draw = Draw {
            random: StdRng::seed_from_u64(seed),
            keys: [*b"{k}0", *b"{k}1", *b"{k}2", *b"{k}3", *b"{k}4", *b"{k}5"],
            value: Vec::new(),
            expected: Vec::new(),
            pairs: Vec::new(),
        };
        for step in 0..2_000 {
            model.at += draw.random.random_range(0..4);
            let space = Space::new(draw.random.random_range(0..2)).expect("a space");
            let at = model.at;
            let request = draw.request();
            let got = execute(&mut executor, space, &request, at);
            let expected = model.execute(space, &request);
            assert_eq!(
                between_cores::decode_reply(&got),
                between_cores::decode_reply(&expected),
                "seed {seed}, step {step}, {request:?}"
            );
            assert_eq!(got, expected);
            if step % 50 == 0 {
                for space in [0, 1].map(|number| Space::new(number).expect("a space")) {
                    let held: Vec<Vec<u8>> = model
                        .items
                        .keys()
                        .filter(|(of, key)| *of == space && model.live(space, key).is_some())
                        .map(|(_, key)| key.clone())
                        .collect();
                    assert_eq!(walked(&mut executor, space, None, at), held);
                    let some: Vec<Vec<u8>> =
                        held.iter().filter(|key| key.ends_with(b"1")).cloned().collect();
                    assert_eq!(walked(&mut executor, space, Some(b"*1"), at), some);
                    check_random_key(&mut executor, space, &held, at);
                }
            }
        }
        executor.shard.invariants();
    }
}

fn check_random_key(executor: &mut Executor, space: Space, held: &[Vec<u8>], at: u64) {
    let frames = execute(executor, space, &Request::RandomKey, at);
    let ReplyDecoded::Complete { frame, .. } = between_cores::decode_reply(&frames) else {
        panic!("a whole reply");
    };
    match frame.reply {
        Reply::Key { key, .. } => assert!(held.iter().any(|one| one == key)),
        Reply::Number { number, .. } => assert!(number > 0, "there are keys, and none was met"),
        Reply::Failed { status: Status::NotFound, .. } => assert!(held.is_empty()),
        other => panic!("{other:?}"),
    }
}

fn watched(executor: &mut Executor, key: &[u8]) -> Option<Version> {
    let frames = execute(executor, Space::default(), &Request::Watch { key }, 0);
    match between_cores::decode_reply(&frames) {
        ReplyDecoded::Complete { frame, .. } => match frame.reply {
            Reply::Done { version } => version,
            _ => None,
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transaction_needs_what_it_watched() {
    let set = |value| {
        let condition = SetCondition::Always;
        let (key, ttl, old) = (b"k".as_slice(), Ttl::Never, OldValue::Omit);
        Request::Set(Set { key, value, user_flags: 0, ttl, condition, old })
    };
    let delete = Request::Delete { key: b"k", condition: DeleteCondition::Always };
    let space = Space::default();
    let check = |before: &[Request<'_>], between: &[Request<'_>], expected: bool| {
        let mut executor = executor();
        for request in before {
            execute(&mut executor, space, request, 0);
        }
        let version = watched(&mut executor, b"k");
        for request in between {
            execute(&mut executor, space, request, 0);
        }
        let (mut watches, mut frames) = (Vec::new(), Vec::new());
        Watches::push(&mut watches, &Watch { space, key: b"k", version });
        let head = RequestHead::default();
        between_cores::encode_request(&head, &set(b"mine"), &mut frames).expect("an encoding");
        let get = Request::GetRange { key: b"k", start: 0, end: 1 };
        between_cores::encode_request(&head, &get, &mut frames).expect("an encoding");
        let request = Request::Atomic(Atomic {
            slot: slot_of(b"k").number(),
            watches: Watches::from_encoded(&watches),
            frames: &frames,
        });
        let got = execute(&mut executor, space, &request, 0);
        let mut expected_frames = Vec::new();
        if expected {
            let part = |part| ReplyHead { part: Some(part), ..ReplyHead::default() };
            let done = Reply::Done { version: None };
            wire::encode_reply(&part(0), &done, &mut expected_frames);
            let value = Reply::Value(Value { bytes: b"mi", user_flags: 0, version: None });
            wire::encode_reply(&part(1), &value, &mut expected_frames);
            wire::encode_reply(&ReplyHead::default(), &Reply::End, &mut expected_frames);
        } else {
            expected_frames = Model::failed(Status::ConditionFailed);
        }
        assert_eq!(got, expected_frames);
    };
    check(&[], &[], true);
    check(&[set(b"v")], &[], true);
    check(&[set(b"v")], &[set(b"v")], false);
    check(&[set(b"v")], &[delete], false);
    check(&[], &[set(b"v")], false);
    check(&[set(b"v")], &[delete, set(b"v")], false);
    check(&[], &[set(b"v"), delete], false);
    let touch = |ttl| Request::Touch { key: b"k", ttl, condition: ExpireCondition::Always };
    let later = Ttl::After { ms: 1_000, jitter: Jitter::Exact };
    check(&[set(b"v")], &[touch(later)], false);
    check(&[set(b"v"), touch(later)], &[touch(later)], false);
    check(&[set(b"v"), touch(later)], &[touch(Ttl::Never)], false);
    check(&[set(b"v")], &[touch(Ttl::Never)], true);
    check(&[set(b"v")], &[Request::Get { key: b"k", least_version: None }], true);
    check(&[set(b"v")], &[Request::Flush { delay_ms: 0 }], false);
    check(&[], &[Request::Flush { delay_ms: 0 }], true);
}

#[test]
fn keys_of_two_slots_are_refused_together() {
    let mut executor = executor();
    let space = Space::default();
    let cross = Model::failed(Status::CrossSlot);
    let rename = Request::Rename { from: b"a", to: b"b", replace: Replace::Yes };
    assert_eq!(execute(&mut executor, space, &rename, 0), cross);
    let mut pairs = Vec::new();
    Pairs::push(&mut pairs, b"a", b"1");
    Pairs::push(&mut pairs, b"b", b"2");
    let pairs = Pairs::from_encoded(&pairs);
    let many = Request::SetMany(SetMany { pairs, ttl: Ttl::Never, replace: Replace::Yes });
    assert_eq!(execute(&mut executor, space, &many, 0), cross);
    assert!(executor.shard.is_empty());
}

#[test]
fn entries_that_find_no_room_together_are_not_written_apart() {
    let mut executor = executor();
    executor.shard.set_policy(Policy::NoEviction);
    executor.shard.set_budget(16 << 20);
    let space = Space::default();
    let value = [7; 1_000];
    let mut set_many = |numbers: std::ops::Range<u32>| {
        let mut pairs = Vec::new();
        let keys: Vec<String> = numbers.map(|number| format!("{{slot}}{number}")).collect();
        keys.iter().for_each(|key| Pairs::push(&mut pairs, key.as_bytes(), &value));
        let pairs = Pairs::from_encoded(&pairs);
        let many = Request::SetMany(SetMany { pairs, ttl: Ttl::Never, replace: Replace::No });
        let reply = execute(&mut executor, space, &many, 0);
        (reply == Model::failed(Status::OutOfMemory), executor.shard.len())
    };
    for first in (0..).step_by(100) {
        let (is_refused, entries) = set_many(first..first + 100);
        if is_refused {
            assert_eq!(entries, u64::from(first));
            return;
        }
        assert_eq!(entries, u64::from(first) + 100);
    }
}
