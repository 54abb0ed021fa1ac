//! The requests of one connection that are under way, and who waits for them: a slab whose
//! places are the low bits of the request ids. No I/O, no clock.
//!
//! A place passes through these states:
//!
//! ```text
//! vacant ─ insert ─► waiting ─ last reply, or connection lost ──► finished ─ collect, forget ─► vacant
//!                       ├─ deadline ─► timed out ─ last reply ──────┘
//!                       │                  └─ collect, forget ─┐
//!                       └─ forget (the future was dropped) ────┴─► forgotten ─ last reply ─► vacant
//! ```
//!
//! A place, and with it the id, is free for another request only after the last reply has
//! arrived (or the connection is gone): a reply can never reach a caller who asked for
//! something else, whatever was dropped meanwhile.

use std::task::{Poll, Waker};
use std::time::Duration;

use corelane_protocol::limits::NOTICE_ID;
use corelane_protocol::{MonotonicUs, RequestId};

use crate::clock::LocalTime;
use crate::error::{Disconnect, Error, Executed, ProtocolError};
use crate::limits::{PLACE_BITS, PLACES_MAX};
use crate::reply::OwnedReply;

/// The id of requests that nobody answers. No place has it.
pub(crate) const UNANSWERED_ID: RequestId = RequestId(PLACES_MAX);
const _: () = assert!(NOTICE_ID & PLACE_MASK > PLACES_MAX);

const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;
/// Ends the list of vacant places.
const NONE: u32 = u32::MAX;

/// Which replies a request can have. A failure fits every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Done,
    Value,
    Number,
    Remaining,
    Pong,
    /// A pong that nobody waits for: the connection's own measurement of the clock.
    Probe,
    /// One value a key, then an end.
    Values {
        keys: u16,
    },
    /// One text a core, for however many, then an end.
    Stats,
    /// A table, or done where there is none that is newer.
    Topology,
}

impl Expected {
    /// Whether this is the kind of reply (of a part, for a series) that was asked for.
    fn fits(self, reply: &OwnedReply) -> bool {
        match reply {
            OwnedReply::Busy { .. } | OwnedReply::Failed { .. } => true,
            OwnedReply::Done { .. } => matches!(self, Expected::Done | Expected::Topology),
            OwnedReply::Topology { .. } => self == Expected::Topology,
            OwnedReply::Value(_) => matches!(self, Expected::Value | Expected::Values { .. }),
            OwnedReply::Number { .. } => self == Expected::Number,
            OwnedReply::Remaining(_) => self == Expected::Remaining,
            OwnedReply::Stats { .. } => self == Expected::Stats,
            OwnedReply::Pong { .. } => matches!(self, Expected::Pong | Expected::Probe),
            OwnedReply::Welcome | OwnedReply::End => false,
        }
    }

    fn is_series(self) -> bool {
        matches!(self, Expected::Values { .. } | Expected::Stats)
    }
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// With one reply, or none.
    One(Result<OwnedReply, Error>),
    /// With these parts, by index, and an end that says why others are missing.
    Series { parts: Vec<Option<OwnedReply>>, end: Result<(), Error> },
}

impl Outcome {
    fn lost(expected: Expected, parts: Vec<Option<OwnedReply>>, error: Error) -> Outcome {
        if expected.is_series() {
            Outcome::Series { parts, end: Err(error) }
        } else {
            Outcome::One(Err(error))
        }
    }
}

/// What a reply did to its request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More parts are to come.
    Part,
    /// The request is no longer owed anything.
    Finished,
    /// So is the connection's own measurement: asked then, answered with this clock (or not).
    Probed { asked: LocalTime, clock: Option<MonotonicUs> },
}

/// What a request that was forgotten leaves behind: its waker, its reply.
#[derive(Debug)]
#[must_use = "it is to be dropped without a lock"]
pub(crate) struct Leftover(#[expect(dead_code, reason = "only kept to be dropped")] State);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pending {
    entries: Vec<Entry>,
    first_vacant: u32,
    /// Distinguishes requests that had the same place one after the other, so that a reply
    /// that comes twice is noticed.
    generation: u8,
    /// Requests that are owed a reply.
    owed: u32,
    /// Places that are not vacant.
    taken: u32,
    /// Not later than the moment at which any entry is due.
    earliest_due: LocalTime,
    /// How long after its deadline a reply may still come.
    overdue: Duration,
}

#[derive(Debug)]
struct Entry {
    generation: u8,
    expected: Expected,
    asked: LocalTime,
    /// While somebody waits, the deadline. After that, when the connection counts as broken.
    due: LocalTime,
    /// Where the request ends in the stream of bytes to the node.
    end: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Vacant { next: u32 },
    Waiting { waker: Option<Waker>, parts: Vec<Option<OwnedReply>> },
    TimedOut { parts: Vec<Option<OwnedReply>> },
    Forgotten,
    Finished(Outcome),
}

impl Pending {
    /// `overdue` is how long after its deadline a reply may come before the connection
    /// counts as broken.
    pub(crate) fn new(overdue: Duration) -> Pending {
        Pending {
            entries: Vec::new(),
            first_vacant: NONE,
            generation: 0,
            owed: 0,
            taken: 0,
            earliest_due: LocalTime::NEVER,
            overdue,
        }
    }

    /// How many requests are owed a reply.
    pub(crate) fn owed(&self) -> u32 {
        self.owed
    }

    /// The id that [`Pending::insert`] will give next; none while every place is taken.
    pub(crate) fn next_id(&self) -> Option<RequestId> {
        let place = match self.first_vacant {
            NONE if self.entries.len() as u32 >= PLACES_MAX => return None,
            NONE => self.entries.len() as u32,
            vacant => vacant,
        };
        Some(RequestId(place | u32::from(self.generation) << PLACE_BITS))
    }

    /// Takes a request in that ends at `end` in the stream of bytes.
    ///
    /// # Panics
    /// Where [`Pending::next_id`] has none.
    pub(crate) fn insert(
        &mut self,
        expected: Expected,
        asked: LocalTime,
        deadline: LocalTime,
        end: u64,
    ) -> RequestId {
        let id = self.next_id().expect("the caller asked for the id first");
        let state = match expected {
            Expected::Probe => State::Forgotten,
            Expected::Values { keys } => {
                let mut parts = Vec::new();
                parts.resize_with(usize::from(keys), || None);
                State::Waiting { waker: None, parts }
            }
            _ => State::Waiting { waker: None, parts: Vec::new() },
        };
        let due = match state {
            State::Forgotten => deadline.plus(self.overdue),
            _ => deadline,
        };
        let entry = Entry { generation: self.generation, expected, asked, due, end, state };
        match self.entries.get_mut(place_of(id)) {
            Some(vacant) => {
                let State::Vacant { next } = vacant.state else {
                    unreachable!("the list of vacant places holds place {}", place_of(id))
                };
                self.first_vacant = next;
                *vacant = entry;
            }
            None => self.entries.push(entry),
        }
        self.generation = self.generation.wrapping_add(1);
        self.owed += 1;
        self.taken += 1;
        self.earliest_due = self.earliest_due.min(due);
        id
    }

    /// Takes a reply in. Whoever waits for it is appended to `wakes` when it was the last.
    ///
    /// # Errors
    /// The reply fits no request; the connection cannot be trusted any more.
    pub(crate) fn answer(
        &mut self,
        id: RequestId,
        part: Option<u16>,
        reply: OwnedReply,
        wakes: &mut Vec<Waker>,
    ) -> Result<Step, ProtocolError> {
        let unknown = ProtocolError::UnknownId { id: id.0 };
        let entry = self
            .entries
            .get_mut(place_of(id))
            .filter(|entry| entry.generation == generation_of(id))
            .ok_or(unknown)?;
        let expected = entry.expected;
        let parts = match &mut entry.state {
            State::Vacant { .. } | State::Finished(_) => return Err(unknown),
            State::Waiting { parts, .. } | State::TimedOut { parts } => Some(parts),
            State::Forgotten => None,
        };

        if let Some(part) = part {
            if !expected.is_series() {
                return Err(ProtocolError::WrongParts { id: id.0 });
            }
            if !expected.fits(&reply) {
                return Err(ProtocolError::WrongKind { id: id.0 });
            }
            if let Some(parts) = parts {
                put_part(parts, expected, part, reply)
                    .map_err(|WrongPart| ProtocolError::WrongParts { id: id.0 })?;
            }
            return Ok(Step::Part);
        }

        let step = match (expected, &reply) {
            (Expected::Probe, OwnedReply::Pong { clock }) => {
                Step::Probed { asked: entry.asked, clock: Some(*clock) }
            }
            (Expected::Probe, _) => Step::Probed { asked: entry.asked, clock: None },
            _ => Step::Finished,
        };
        let outcome = match (expected.is_series(), reply) {
            (true, OwnedReply::End) => {
                let incomplete = |parts: &Vec<_>| parts.iter().any(Option::is_none);
                if parts.as_deref().is_some_and(incomplete) {
                    return Err(ProtocolError::WrongParts { id: id.0 });
                }
                let parts = parts.map(std::mem::take).unwrap_or_default();
                Outcome::Series { parts, end: Ok(()) }
            }
            (true, reply @ (OwnedReply::Busy { .. } | OwnedReply::Failed { .. })) => {
                let parts = parts.map(std::mem::take).unwrap_or_default();
                Outcome::Series { parts, end: Err(reply.into_error()) }
            }
            (false, reply) if expected.fits(&reply) => Outcome::One(Ok(reply)),
            _ => return Err(ProtocolError::WrongKind { id: id.0 }),
        };
        self.finish(place_of(id), outcome, wakes);
        Ok(step)
    }

    /// Ends what is due: a request whose time is over is handed back as timed out, its waiter
    /// appended to `wakes`.
    ///
    /// # Errors
    /// A reply is overdue: the connection counts as broken.
    pub(crate) fn expire(
        &mut self,
        now: LocalTime,
        wakes: &mut Vec<Waker>,
    ) -> Result<(), Disconnect> {
        if now < self.earliest_due {
            return Ok(());
        }
        let mut earliest = LocalTime::NEVER;
        for entry in &mut self.entries {
            match &mut entry.state {
                State::Vacant { .. } | State::Finished(_) => continue,
                State::Waiting { waker, parts } if entry.due <= now => {
                    wakes.extend(waker.take());
                    entry.state = State::TimedOut { parts: std::mem::take(parts) };
                    entry.due = entry.due.plus(self.overdue);
                }
                State::TimedOut { .. } | State::Forgotten if entry.due <= now => {
                    return Err(Disconnect::Silent);
                }
                State::Waiting { .. } | State::TimedOut { .. } | State::Forgotten => {}
            }
            earliest = earliest.min(entry.due);
        }
        self.earliest_due = earliest;
        Ok(())
    }

    /// When [`Pending::expire`] may have something to do; not later than that.
    pub(crate) fn earliest_due(&self) -> LocalTime {
        self.earliest_due
    }

    /// Ends every request, since the connection is gone: those that had been handed to the
    /// kernel whole, up to `written` in the stream of bytes, may have been executed.
    pub(crate) fn lose_all(&mut self, written: u64, reason: &Disconnect, wakes: &mut Vec<Waker>) {
        for place in 0..self.entries.len() {
            let entry = &mut self.entries[place];
            let outcome = match &mut entry.state {
                State::Vacant { .. } | State::Finished(_) => continue,
                State::Forgotten => Outcome::One(Ok(OwnedReply::End)),
                State::Waiting { parts, .. } => {
                    let executed =
                        if entry.end <= written { Executed::Maybe } else { Executed::No };
                    let error = Error::Disconnected { reason: reason.clone(), executed };
                    Outcome::lost(entry.expected, std::mem::take(parts), error)
                }
                State::TimedOut { parts } => {
                    let error = Error::Timeout { executed: Executed::Maybe };
                    Outcome::lost(entry.expected, std::mem::take(parts), error)
                }
            };
            self.finish(place, outcome, wakes);
        }
        self.earliest_due = LocalTime::NEVER;
    }

    /// How a request ended, if it has; its waiter is remembered otherwise. To be called once
    /// after it is ready no more. A waiter that was remembered before goes to `replaced`:
    /// dropping a waker can run anybody's code, which no lock must be held for.
    pub(crate) fn collect(
        &mut self,
        id: RequestId,
        waiter: &Waker,
        replaced: &mut Option<Waker>,
    ) -> Poll<Outcome> {
        let entry = &mut self.entries[place_of(id)];
        assert_eq!(entry.generation, generation_of(id), "the request was collected before");
        match &mut entry.state {
            State::Vacant { .. } | State::Forgotten => {
                unreachable!("nobody waits for request {id:?}")
            }
            State::Waiting { waker, .. } => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(waiter)) {
                    *replaced = waker.replace(waiter.clone());
                }
                Poll::Pending
            }
            State::TimedOut { parts } => {
                let error = Error::Timeout { executed: Executed::Maybe };
                let outcome = Outcome::lost(entry.expected, std::mem::take(parts), error);
                entry.state = State::Forgotten;
                Poll::Ready(outcome)
            }
            State::Finished(_) => {
                let State::Finished(outcome) = self.vacate(place_of(id)) else {
                    unreachable!("its state was looked at")
                };
                Poll::Ready(outcome)
            }
        }
    }

    /// Nobody waits for this request any more. What is left of it is for the caller to drop,
    /// without a lock.
    pub(crate) fn forget(&mut self, id: RequestId) -> Leftover {
        let entry = &mut self.entries[place_of(id)];
        assert_eq!(entry.generation, generation_of(id), "the request was collected before");
        Leftover(match entry.state {
            State::Vacant { .. } | State::Forgotten => {
                unreachable!("nobody waits for request {id:?}")
            }
            State::Waiting { .. } => {
                entry.due = entry.due.plus(self.overdue);
                std::mem::replace(&mut entry.state, State::Forgotten)
            }
            State::TimedOut { .. } => std::mem::replace(&mut entry.state, State::Forgotten),
            State::Finished(_) => self.vacate(place_of(id)),
        })
    }

    /// Gives the slab's memory back if it is empty.
    pub(crate) fn release(&mut self) {
        if self.taken == 0 {
            self.entries = Vec::new();
            self.first_vacant = NONE;
        }
    }

    /// The last reply to this request is there, or will never come.
    fn finish(&mut self, place: usize, outcome: Outcome, wakes: &mut Vec<Waker>) {
        self.owed -= 1;
        match std::mem::replace(&mut self.entries[place].state, State::Finished(outcome)) {
            State::Waiting { waker, .. } => wakes.extend(waker),
            State::TimedOut { .. } => {}
            State::Forgotten => {
                self.vacate(place);
            }
            State::Vacant { .. } | State::Finished(_) => {
                unreachable!("place {place} was owed nothing")
            }
        }
    }

    fn vacate(&mut self, place: usize) -> State {
        self.taken -= 1;
        let vacant = State::Vacant { next: self.first_vacant };
        self.first_vacant = place as u32;
        std::mem::replace(&mut self.entries[place].state, vacant)
    }
}

struct WrongPart;

fn put_part(
    parts: &mut Vec<Option<OwnedReply>>,
    expected: Expected,
    part: u16,
    reply: OwnedReply,
) -> Result<(), WrongPart> {
    let index = usize::from(part);
    if expected == Expected::Stats && index >= parts.len() {
        parts.resize_with(index + 1, || None);
    }
    match parts.get_mut(index) {
        Some(empty @ None) => {
            *empty = Some(reply);
            Ok(())
        }
        Some(Some(_)) | None => Err(WrongPart),
    }
}

fn place_of(id: RequestId) -> usize {
    (id.0 & PLACE_MASK) as usize
}

fn generation_of(id: RequestId) -> u8 {
    (id.0 >> PLACE_BITS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Value;
    use bytes::Bytes;
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{RngExt, SeedableRng};
    use std::collections::HashMap;

    const OVERDUE: Duration = Duration::from_micros(500);

    fn pending() -> Pending {
        Pending::new(OVERDUE)
    }

    fn insert(pending: &mut Pending, expected: Expected, deadline: u64) -> RequestId {
        pending.insert(expected, LocalTime(0), LocalTime(deadline), 0)
    }

    fn value(text: &str) -> OwnedReply {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        OwnedReply::Value(Value { bytes, user_flags: 0, version: None })
    }

    fn answer(pending: &mut Pending, id: RequestId, text: &str) -> Result<Step, ProtocolError> {
        pending.answer(id, None, value(text), &mut Vec::new())
    }

    fn part(pending: &mut Pending, id: RequestId, index: u16) -> Result<Step, ProtocolError> {
        pending.answer(id, Some(index), value("part"), &mut Vec::new())
    }

    fn end(pending: &mut Pending, id: RequestId) -> Result<Step, ProtocolError> {
        pending.answer(id, None, OwnedReply::End, &mut Vec::new())
    }

    fn collect(pending: &mut Pending, id: RequestId) -> Poll<Outcome> {
        pending.collect(id, Waker::noop(), &mut None)
    }

    fn expire(pending: &mut Pending, now: u64) -> Result<(), Disconnect> {
        pending.expire(LocalTime(now), &mut Vec::new())
    }

    /// What a single request came to, in few words.
    fn in_words(outcome: &Outcome) -> String {
        match outcome {
            Outcome::One(Ok(OwnedReply::Value(value))) => {
                String::from_utf8_lossy(&value.bytes).into_owned()
            }
            Outcome::One(Err(Error::Timeout { executed })) => format!("timeout {executed:?}"),
            Outcome::One(Err(Error::Disconnected { executed, .. })) => format!("lost {executed:?}"),
            Outcome::Series { parts, end } => {
                let there = parts.iter().flatten().count();
                format!("{there} of {} parts, {}", parts.len(), end.is_ok())
            }
            other => format!("{other:?}"),
        }
    }

    #[track_caller]
    fn assert_collects(pending: &mut Pending, id: RequestId, expected: &str) {
        match collect(pending, id) {
            Poll::Ready(outcome) => assert_eq!(in_words(&outcome), expected),
            Poll::Pending => panic!("request {id:?} has not ended"),
        }
    }

    #[test]
    fn replies_reach_their_requests_in_any_order() {
        let mut pending = pending();
        let ids: Vec<_> = (0..4).map(|_| insert(&mut pending, Expected::Value, 100)).collect();
        for index in [2, 0, 3, 1] {
            answer(&mut pending, ids[index], &format!("value {index}")).unwrap();
        }
        for (index, id) in ids.iter().enumerate() {
            assert_collects(&mut pending, *id, &format!("value {index}"));
        }
        assert_eq!((pending.owed, pending.taken), (0, 0));
    }

    #[test]
    fn an_id_is_not_given_again_before_its_reply() {
        let mut pending = pending();
        let dropped = insert(&mut pending, Expected::Value, 100);
        drop(pending.forget(dropped));
        let next = insert(&mut pending, Expected::Value, 100);
        assert_ne!(place_of(dropped), place_of(next));

        answer(&mut pending, dropped, "late").unwrap();
        let reuses = insert(&mut pending, Expected::Value, 100);
        assert_eq!(place_of(dropped), place_of(reuses));
        assert_ne!(dropped, reuses);
        // The same reply once more is for nobody.
        let again = answer(&mut pending, dropped, "late").unwrap_err();
        assert_eq!(again, ProtocolError::UnknownId { id: dropped.0 });
        assert!(collect(&mut pending, reuses).is_pending());
    }

    #[test]
    fn a_reply_between_timeout_and_collection_still_counts() {
        let mut pending = pending();
        let id = insert(&mut pending, Expected::Value, 100);
        expire(&mut pending, 100).unwrap();
        answer(&mut pending, id, "just in time").unwrap();
        assert_collects(&mut pending, id, "just in time");
    }

    #[test]
    fn a_timed_out_request_keeps_its_place_until_the_reply() {
        let mut pending = pending();
        let id = insert(&mut pending, Expected::Value, 100);
        expire(&mut pending, 99).unwrap();
        assert!(collect(&mut pending, id).is_pending());
        expire(&mut pending, 100).unwrap();
        assert_collects(&mut pending, id, "timeout Maybe");
        assert_eq!((pending.owed, pending.taken), (1, 1));
        answer(&mut pending, id, "late").unwrap();
        assert_eq!((pending.owed, pending.taken), (0, 0));
    }

    #[test]
    fn a_reply_that_is_long_overdue_ends_the_connection() {
        // Whether somebody waited to the end, or dropped the future before.
        for forgets in [false, true] {
            let mut pending = pending();
            let id = insert(&mut pending, Expected::Value, 100);
            if forgets {
                drop(pending.forget(id));
            }
            expire(&mut pending, 100).unwrap();
            expire(&mut pending, 599).unwrap();
            assert!(matches!(expire(&mut pending, 600), Err(Disconnect::Silent)));
        }
    }

    #[test]
    fn timers_are_told_not_later_than_they_are_due() {
        let mut pending = pending();
        assert_eq!(pending.earliest_due(), LocalTime::NEVER);
        insert(&mut pending, Expected::Value, 300);
        let first = insert(&mut pending, Expected::Value, 100);
        assert_eq!(pending.earliest_due(), LocalTime(100));
        answer(&mut pending, first, "").unwrap();
        expire(&mut pending, 100).unwrap();
        assert_eq!(pending.earliest_due(), LocalTime(300));
    }

    #[test]
    fn parts_are_collected_by_index_and_must_be_complete() {
        let mut pending = pending();
        let series = Expected::Values { keys: 3 };
        let id = insert(&mut pending, series, 100);
        for index in [1, 0, 2] {
            assert_eq!(part(&mut pending, id, index).unwrap(), Step::Part);
        }
        assert_eq!(end(&mut pending, id).unwrap(), Step::Finished);
        assert_collects(&mut pending, id, "3 of 3 parts, true");

        let id = insert(&mut pending, series, 100);
        let wrong = ProtocolError::WrongParts { id: id.0 };
        part(&mut pending, id, 1).unwrap();
        assert_eq!(part(&mut pending, id, 1).unwrap_err(), wrong);
        assert_eq!(part(&mut pending, id, 3).unwrap_err(), wrong);
        assert_eq!(end(&mut pending, id).unwrap_err(), wrong);
        pending.lose_all(0, &Disconnect::Closed, &mut Vec::new());
        assert_collects(&mut pending, id, "1 of 3 parts, false");
    }

    #[test]
    fn a_series_that_times_out_keeps_the_parts_that_came() {
        let mut pending = pending();
        let id = insert(&mut pending, Expected::Values { keys: 2 }, 100);
        part(&mut pending, id, 1).unwrap();
        expire(&mut pending, 100).unwrap();
        assert_collects(&mut pending, id, "1 of 2 parts, false");
        // The rest still belongs to nobody else.
        part(&mut pending, id, 0).unwrap();
        assert_eq!((pending.owed, pending.taken), (1, 1));
        end(&mut pending, id).unwrap();
        assert_eq!((pending.owed, pending.taken), (0, 0));
    }

    #[test]
    fn a_series_may_be_refused_whole() {
        let mut pending = pending();
        let id = insert(&mut pending, Expected::Values { keys: 2 }, 100);
        let busy = OwnedReply::Busy { retry_after: Duration::from_millis(1) };
        pending.answer(id, None, busy, &mut Vec::new()).unwrap();
        let Poll::Ready(Outcome::Series { end: Err(Error::Busy { .. }), .. }) =
            collect(&mut pending, id)
        else {
            panic!("the refusal is lost")
        };
    }

    #[test]
    fn replies_of_another_kind_are_refused() {
        let number = || OwnedReply::Number { number: 1, version: None };
        let mut pending = pending();
        let id = insert(&mut pending, Expected::Value, 100);
        for (part, reply, expected) in [
            (None, number(), ProtocolError::WrongKind { id: id.0 }),
            (None, OwnedReply::End, ProtocolError::WrongKind { id: id.0 }),
            (Some(0), value(""), ProtocolError::WrongParts { id: id.0 }),
        ] {
            let error = pending.answer(id, part, reply, &mut Vec::new()).unwrap_err();
            assert_eq!(error, expected);
        }
        let series = insert(&mut pending, Expected::Values { keys: 1 }, 100);
        let error = pending.answer(series, Some(0), number(), &mut Vec::new()).unwrap_err();
        assert_eq!(error, ProtocolError::WrongKind { id: series.0 });
        let error = pending.answer(series, None, value(""), &mut Vec::new()).unwrap_err();
        assert_eq!(error, ProtocolError::WrongKind { id: series.0 });
    }

    #[test]
    fn a_lost_connection_says_what_may_have_been_executed() {
        let mut pending = pending();
        let written = pending.insert(Expected::Value, LocalTime(0), LocalTime(100), 40);
        let cut = pending.insert(Expected::Value, LocalTime(0), LocalTime(100), 80);
        pending.lose_all(79, &Disconnect::Closed, &mut Vec::new());
        assert_collects(&mut pending, written, "lost Maybe");
        assert_collects(&mut pending, cut, "lost No");
    }

    #[test]
    fn memory_is_given_back_only_when_nothing_is_open() {
        let mut pending = pending();
        let id = insert(&mut pending, Expected::Value, 100);
        drop(pending.forget(id));
        pending.release();
        assert_eq!(pending.entries.len(), 1);
        answer(&mut pending, id, "").unwrap();
        pending.release();
        assert_eq!(pending.entries.capacity(), 0);
        insert(&mut pending, Expected::Value, 100);
    }

    /// The slow reference: what each id ever given stands for, and what its caller must see.
    #[derive(Default)]
    struct Model {
        /// Text that the reply will carry, by id; removed when the reply was given.
        owed: HashMap<u32, String>,
        /// Ids whose caller waits, and what they have to be told if it is decided already.
        waiting: HashMap<u32, Option<String>>,
        deadlines: HashMap<u32, u64>,
    }

    fn random_history(seed: u64, steps: u32) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut pending = Pending::new(Duration::from_secs(3_600));
        let mut model = Model::default();
        let mut now = 0;
        for step in 0..steps {
            let mut waiting: Vec<u32> = model.waiting.keys().copied().collect();
            waiting.sort_unstable();
            let mut owed: Vec<u32> = model.owed.keys().copied().collect();
            owed.sort_unstable();
            match random.random_range(0..100) {
                0..35 => {
                    let deadline = now + random.random_range(1..200);
                    let id = insert(&mut pending, Expected::Value, deadline);
                    let text = format!("reply {step}");
                    assert_eq!(model.owed.insert(id.0, text), None, "seed {seed}: id in use");
                    model.waiting.insert(id.0, None);
                    model.deadlines.insert(id.0, deadline);
                }
                35..65 => {
                    let Some(id) = owed.choose(&mut random) else { continue };
                    let text = model.owed.remove(id).unwrap();
                    answer(&mut pending, RequestId(*id), &text).unwrap();
                    if let Some(told) = model.waiting.get_mut(id) {
                        *told = Some(text);
                    }
                }
                65..80 => {
                    let Some(id) = waiting.choose(&mut random) else { continue };
                    model.waiting.remove(id);
                    drop(pending.forget(RequestId(*id)));
                }
                80..97 => {
                    let Some(id) = waiting.choose(&mut random) else { continue };
                    match (collect(&mut pending, RequestId(*id)), model.waiting[id].clone()) {
                        (Poll::Pending, None) => {}
                        (Poll::Ready(outcome), Some(told)) => {
                            assert_eq!(in_words(&outcome), told, "seed {seed} step {step}");
                            model.waiting.remove(id);
                        }
                        (got, told) => panic!("seed {seed} step {step}: {got:?}, not {told:?}"),
                    }
                }
                _ => {
                    now += random.random_range(0..50);
                    expire(&mut pending, now).unwrap();
                    for (id, told) in &mut model.waiting {
                        if told.is_none() && model.deadlines[id] <= now {
                            *told = Some("timeout Maybe".into());
                        }
                    }
                }
            }
            assert_eq!(pending.owed as usize, model.owed.len(), "seed {seed} step {step}");
        }
        pending.lose_all(0, &Disconnect::Closed, &mut Vec::new());
        for (id, told) in model.waiting {
            let expected = told.unwrap_or_else(|| "lost Maybe".into());
            assert_collects(&mut pending, RequestId(id), &expected);
        }
        assert_eq!((pending.owed, pending.taken), (0, 0), "seed {seed}");
    }

    #[test]
    fn random_histories_match_the_reference() {
        for seed in 0..40 {
            random_history(seed, 1_500);
        }
    }
}
