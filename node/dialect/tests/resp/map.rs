//! The slow, obvious execution of what RESP's commands ask for, at one moment of time.

use std::collections::BTreeMap;

use corelane_dialect::resp::Gathering;
use corelane_dialect::{Gather, Moment, Part, Shape, Step, Taken, fuzz::Node, resp::Session};
use corelane_protocol::*;

pub(crate) const MOMENT: Moment = Moment { now: MonotonicUs(0), unix_ms: 1_700_000_000_000 };
pub(crate) const VALUE_BYTES_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    value: Vec<u8>,
    version: u64,
    remaining: Remaining,
}

type Place = (Space, Vec<u8>);
type Answered = Result<Said, Status>;

/// A reply that owns what it tells.
enum Said {
    Done,
    Value(Vec<u8>),
    Number(i64),
    Remaining(Remaining),
    Described(Description),
    Keys(Vec<u8>),
    Stamp(u64),
}

#[derive(Default)]
pub(crate) struct Map {
    entries: BTreeMap<Place, Entry>,
    version: u64,
    /// How often something has happened to each key.
    changes: BTreeMap<Place, u64>,
}

impl Map {
    fn answer(&mut self, head: &RequestHead, request: &Request<'_>, each: impl FnOnce(&Reply<'_>)) {
        let before = self.entries.clone();
        let said = self.perform(head, request);
        let places: Vec<Place> = before.keys().chain(self.entries.keys()).cloned().collect();
        for place in places {
            if before.get(&place) != self.entries.get(&place) {
                *self.changes.entry(place).or_default() += 1;
            }
        }
        self.entries.retain(|_, entry| entry.remaining != Remaining::Ms(0));
        match &said {
            Ok(Said::Done) => each(&Reply::Done { version: None }),
            Ok(Said::Value(bytes)) => {
                each(&Reply::Value(Value { bytes, user_flags: 0, version: None }));
            }
            Ok(Said::Number(number)) => {
                each(&Reply::Number { number: *number as u64, version: None });
            }
            Ok(Said::Remaining(remaining)) => each(&Reply::Remaining(*remaining)),
            Ok(Said::Described(description)) => {
                each(&Reply::Described { description: *description, value: None });
            }
            Ok(Said::Stamp(stamp)) => each(&Reply::Done { version: Some(Version(*stamp)) }),
            Ok(Said::Keys(keys)) => {
                let keys = KeyList::from_encoded(keys);
                each(&Reply::Keys(KeyPage { next: WalkCursor(0), keys }));
            }
            Err(status) => each(&Reply::Failed { status: *status, message: "" }),
        }
    }

    fn render(&mut self, part: &Part<'_>, out: &mut Vec<u8>) {
        let shape: Shape = part.shape;
        self.answer(&part.head, &part.request, |reply| {
            shape.render(part.echo, reply, MOMENT, out);
        });
    }

    fn stamp(&self, space: Space, key: &[u8]) -> u64 {
        self.changes.get(&(space, key.to_vec())).copied().unwrap_or(0)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<&Entry, Status> {
        self.entries.get(&(space, key.to_vec())).ok_or(Status::NotFound)
    }

    fn put(&mut self, space: Space, key: &[u8], value: Vec<u8>, remaining: Remaining) {
        self.version += 1;
        let entry = Entry { value, version: self.version, remaining };
        self.entries.insert((space, key.to_vec()), entry);
    }

    fn perform(&mut self, head: &RequestHead, request: &Request<'_>) -> Answered {
        let space = head.space;
        match *request {
            Request::Get { key, .. } => Ok(Said::Value(self.get(space, key)?.value.clone())),
            Request::GetAndDelete { key } => {
                let place = (space, key.to_vec());
                self.entries
                    .remove(&place)
                    .map(|entry| Said::Value(entry.value))
                    .ok_or(Status::NotFound)
            }
            Request::GetAndTouch { key, ttl } => {
                let Entry { value, remaining, .. } = self.get(space, key)?.clone();
                let ttl = expiry(ttl, remaining);
                self.entries.get_mut(&(space, key.to_vec())).expect("found").remaining = ttl;
                Ok(Said::Value(value))
            }
            Request::Set(set) => self.set(space, &set),
            Request::Delete { key, condition } => {
                let entry = self.get(space, key)?;
                if let DeleteCondition::ValueIs(value) = condition
                    && entry.value != value
                {
                    return Err(Status::ConditionFailed);
                }
                self.entries.remove(&(space, key.to_vec()));
                Ok(Said::Done)
            }
            Request::Touch { key, ttl, condition } => {
                let old = self.get(space, key)?.remaining;
                let new = expiry(ttl, old);
                let later = |a: Remaining, b: Remaining| match (a, b) {
                    (Remaining::Ms(a), Remaining::Ms(b)) => a > b,
                    (a, b) => a == Remaining::Never && b != Remaining::Never,
                };
                let holds = match condition {
                    ExpireCondition::Always => true,
                    ExpireCondition::IfNone => old == Remaining::Never,
                    ExpireCondition::IfSome => old != Remaining::Never,
                    ExpireCondition::IfLater => later(new, old),
                    ExpireCondition::IfEarlier => later(old, new),
                    ExpireCondition::IfSomeAndEarlier => old != Remaining::Never && later(old, new),
                };
                if !holds {
                    return Err(Status::ConditionFailed);
                }
                self.entries.get_mut(&(space, key.to_vec())).expect("found").remaining = new;
                Ok(Said::Done)
            }
            Request::Count(count) => {
                let Ok(old) = self.get(space, count.key).cloned() else {
                    let number = count.initial.expect("Redis creates numbers") as i64;
                    let text = number.to_string().into_bytes();
                    self.put(space, count.key, text, Remaining::Never);
                    return Ok(Said::Number(number));
                };
                let text = String::from_utf8(old.value).map_err(|_| Status::NotANumber)?;
                let number: i64 = text.parse().map_err(|_| Status::NotANumber)?;
                if number.to_string() != text {
                    return Err(Status::NotANumber);
                }
                let number = match count.direction {
                    Direction::Increment => number.checked_add_unsigned(count.delta),
                    Direction::Decrement => number.checked_sub_unsigned(count.delta),
                };
                let number = number.ok_or(Status::OutOfRange)?;
                self.put(space, count.key, number.to_string().into_bytes(), old.remaining);
                Ok(Said::Number(number))
            }
            Request::CountFloat { key, delta } => {
                let number = |text: &[u8]| {
                    let text = str::from_utf8(text).map_err(|_| Status::NotANumber)?;
                    let number = text.parse::<f64>().map_err(|_| Status::NotANumber)?;
                    if number.is_nan() { Err(Status::NotANumber) } else { Ok(number) }
                };
                let old = self.get(space, key).cloned();
                let (text, remaining) = match &old {
                    Ok(entry) => (&entry.value[..], entry.remaining),
                    Err(_) => (&b"0"[..], Remaining::Never),
                };
                let sum = number(text)? + number(delta)?;
                if !sum.is_finite() {
                    return Err(Status::OutOfRange);
                }
                let text = sum.to_string().into_bytes();
                self.put(space, key, text.clone(), remaining);
                Ok(Said::Value(text))
            }
            Request::Extend { key, value, .. } => {
                let old = self.get(space, key).cloned();
                let (mut whole, remaining) =
                    old.map_or((Vec::new(), Remaining::Never), |it| (it.value, it.remaining));
                whole.extend_from_slice(value);
                let length = whole.len() as i64;
                self.put(space, key, whole, remaining);
                Ok(Said::Number(length))
            }
            Request::GetRange { key, start, end } => {
                let value = &self.get(space, key)?.value;
                let length = value.len() as i64;
                let from = |at: i64| if at < 0 { (at + length).max(0) } else { at };
                let (start, end) = (from(start), from(end).min(length - 1));
                let range =
                    if start > end { &[][..] } else { &value[start as usize..=end as usize] };
                Ok(Said::Value(range.to_vec()))
            }
            Request::SetRange { key, offset, value } => {
                let old = self.get(space, key).cloned();
                let (mut whole, remaining) =
                    old.map_or((Vec::new(), Remaining::Never), |it| (it.value, it.remaining));
                if !value.is_empty() {
                    let end = offset as usize + value.len();
                    if end > VALUE_BYTES_MAX {
                        return Err(Status::ValueTooLarge);
                    }
                    whole.resize(whole.len().max(end), 0);
                    whole[offset as usize..end].copy_from_slice(value);
                    self.put(space, key, whole.clone(), remaining);
                }
                Ok(Said::Number(whole.len() as i64))
            }
            Request::Length { key } => Ok(Said::Number(self.get(space, key)?.value.len() as i64)),
            Request::Exists { key } => self.get(space, key).map(|_| Said::Done),
            Request::TtlOf { key } => Ok(Said::Remaining(self.get(space, key)?.remaining)),
            Request::Describe { key, .. } => {
                let entry = self.get(space, key)?;
                Ok(Said::Described(Description {
                    value_bytes: entry.value.len() as u64,
                    memory_bytes: 48,
                    user_flags: 0,
                    remaining: entry.remaining,
                    version: Some(Version(entry.version)),
                    uses: 5,
                    is_integer: false,
                }))
            }
            Request::Watch { key } => Ok(Said::Stamp(self.stamp(space, key))),
            Request::Rename { from, to, replace } => {
                let entry = self.get(space, from)?.clone();
                if replace == Replace::No && self.get(space, to).is_ok() {
                    return Err(Status::ConditionFailed);
                }
                self.entries.remove(&(space, from.to_vec()));
                self.put(space, to, entry.value, entry.remaining);
                Ok(Said::Done)
            }
            Request::Copy { from, to, to_space, replace } => {
                let entry = self.get(space, from)?.clone();
                if replace == Replace::No && self.get(to_space, to).is_ok() {
                    return Err(Status::ConditionFailed);
                }
                self.put(to_space, to, entry.value, entry.remaining);
                Ok(Said::Done)
            }
            Request::SetMany(many) => {
                if many.pairs.iter().any(|(key, _)| self.get(space, key).is_ok()) {
                    return Err(Status::ConditionFailed);
                }
                for (key, value) in many.pairs {
                    self.put(space, key, value.to_vec(), Remaining::Never);
                }
                Ok(Said::Done)
            }
            Request::Scan { pattern, .. } => {
                let pattern = pattern.unwrap_or(b"*");
                let mut keys = Vec::new();
                for (_, key) in self.entries.keys().filter(|(it, _)| *it == space) {
                    if corelane_dialect::glob::matches(
                        pattern,
                        key,
                        corelane_dialect::glob::Case::Exact,
                    ) {
                        KeyList::push(&mut keys, key);
                    }
                }
                Ok(Said::Keys(keys))
            }
            Request::CountKeys { slot: None } => {
                Ok(Said::Number(self.entries.keys().filter(|(it, _)| *it == space).count() as i64))
            }
            Request::RandomKey => {
                let mut all = self.entries.keys().filter(|(it, _)| *it == space);
                all.next().map(|(_, key)| Said::Value(key.clone())).ok_or(Status::NotFound)
            }
            Request::FlushSpace { .. } => {
                self.entries.retain(|(it, _), _| *it != space);
                Ok(Said::Done)
            }
            Request::Flush { .. } => {
                self.entries.clear();
                Ok(Said::Done)
            }
            _ => unreachable!("RESP does not ask for {request:?}"),
        }
    }

    fn set(&mut self, space: Space, set: &Set<'_>) -> Answered {
        let old = self.get(space, set.key).cloned();
        let holds = match set.condition {
            SetCondition::Absent => old.is_err(),
            SetCondition::Present => old.is_ok(),
            SetCondition::ValueIs(value) => old.as_ref().is_ok_and(|entry| entry.value == value),
            _ => true,
        };
        if holds {
            let kept = old.as_ref().map_or(Remaining::Never, |entry| entry.remaining);
            self.put(space, set.key, set.value.to_vec(), expiry(set.ttl, kept));
        }
        match set.old {
            OldValue::Return => old.map(|entry| Said::Value(entry.value)),
            OldValue::Omit if holds => Ok(Said::Done),
            OldValue::Omit => Err(Status::ConditionFailed),
        }
    }

    /// Carries a step out; whether the connection goes on.
    fn carry_out(&mut self, step: Step<'_>, node: &Node, out: &mut Vec<u8>) -> Next {
        match step {
            Step::Answered => {}
            Step::One(part) => self.render(&part, out),
            Step::Several { parts, gather: Gather::InOrder { end } } => {
                parts.for_each(|part| self.render(&part, out));
                out.extend_from_slice(end);
            }
            Step::Several { parts, gather: Gather::Resp(gather) } => {
                let mut gathering = Gathering::new(gather);
                let mut watched = Vec::new();
                for part in parts {
                    self.answer(&part.head, &part.request, |reply| {
                        gathering.add(reply, MOMENT);
                        if let Reply::Done { version } = reply {
                            watched.push(*version);
                        }
                    });
                }
                gathering.finish(node, MOMENT, out);
                if gather.kind == corelane_dialect::resp::GatherKind::Watch {
                    return Next::Watched(watched);
                }
            }
            Step::Everywhere { head, request, gather: Gather::Resp(gather) } => {
                let mut gathering = Gathering::new(gather);
                self.answer(&head, &request, |reply| match reply {
                    Reply::Value(value) => {
                        gathering.add(&Reply::Key { key: value.bytes, among: 1 }, MOMENT);
                    }
                    reply => gathering.add(reply, MOMENT),
                });
                gathering.finish(node, MOMENT, out);
            }
            Step::Transaction { shape } => return Next::Transaction(shape),
            Step::Control { .. } => out.extend_from_slice(b"<control>"),
            Step::Close => return Next::Close,
            step => panic!("{step:?}"),
        }
        Next::Command
    }
}

enum Next {
    Command,
    Watched(Vec<Option<Version>>),
    Transaction(Shape),
    Close,
}

fn expiry(ttl: Ttl, kept: Remaining) -> Remaining {
    match ttl {
        Ttl::After { ms, .. } => Remaining::Ms(ms),
        Ttl::Keep => kept,
        Ttl::Never | Ttl::Default => Remaining::Never,
    }
}

/// What a node answers to these bytes, which arrive in pieces of a length.
pub(crate) fn converse(node: &Node, input: &[u8], piece: usize) -> Vec<u8> {
    let mut session = Session::new(VALUE_BYTES_MAX, node);
    let mut map = Map::default();
    let (mut out, mut start) = (Vec::new(), 0);
    for end in (piece..input.len()).step_by(piece).chain([input.len()]) {
        loop {
            // Both ways to take a plain command must agree.
            let here = &input[start..end];
            let manner = session.manner();
            let told = manner.as_ref().and_then(|manner| manner.next(here, MOMENT));
            let taken = session.step(here, node, MOMENT, &mut out);
            let Taken::Whole { consumed, step } = taken else { break };
            if let (Some(manner), Some((length, ahead))) = (manner, told) {
                assert_eq!(consumed, length);
                if let Some(told) = manner.part(&ahead, here) {
                    let Step::One(part) = &step else { panic!("{step:?}") };
                    assert_eq!((part.head, part.request), (told.head, told.request));
                }
            }
            start += consumed;
            match map.carry_out(step, node, &mut out) {
                Next::Command => {}
                Next::Watched(replies) => {
                    for (place, version) in replies.into_iter().enumerate() {
                        session.watched(place, &Reply::Done { version });
                    }
                }
                Next::Transaction(shape) => {
                    transaction(&mut session, &mut map, shape, node, &mut out)
                }
                Next::Close => {
                    out.extend_from_slice(b"<closed>");
                    return out;
                }
            }
        }
    }
    out
}

fn transaction(session: &mut Session, map: &mut Map, shape: Shape, node: &Node, out: &mut Vec<u8>) {
    let mut watches = Vec::new();
    session.take_watches(&mut watches);
    let changed = Watches::from_encoded(&watches)
        .iter()
        .any(|watch| watch.version != Some(Version(map.stamp(watch.space, watch.key))));
    if changed {
        session.abandon_transaction(session.agreed());
        let failed = Reply::Failed { status: Status::ConditionFailed, message: "" };
        return shape.render(b"", &failed, MOMENT, out);
    }
    shape.render(b"", &Reply::Done { version: None }, MOMENT, out);
    let mut answers = Vec::new();
    while let Some(step) = session.next_queued(node, MOMENT, &mut answers) {
        let next = map.carry_out(step, node, &mut answers);
        assert!(matches!(next, Next::Command), "no step of a transaction is more than one");
        out.append(&mut answers);
    }
}
