//! Large values on their way in: piece by piece into the shard instead of collected frame by
//! frame, and counted while they are on their way.
//!
//! ```text
//! half a frame ─► a set of UPLOAD_BYTES_MIN or more?
//!                  ├─ key of this core ──► Admission ─► Intake ─► shard, piece by piece ─► execute
//!                  ├─ key of another ────► the connection's route, as raw bytes (see `forward`)
//!                  └─ no ────────────────► Admission ─► the connection's input
//! ```
//!
//! Whoever is not admitted is not read until others are done. An intake stops where the shard
//! makes room, which it does a bounded step a call, and goes on in the next turn.

use std::collections::VecDeque;

use corelane_protocol::wire::{DecodeLimits, Opcode, Refusal, SetFront, decode_set_front};
use corelane_protocol::{
    Answer, MonotonicUs, OldValue, Request, RequestHead, Set, SetCondition, Status, Ttl, Version,
};
use corelane_ring::slot_of;
use corelane_shard::{Upload, WriteError};

use crate::ConnectionId;
use crate::ahead::Owner;
use crate::dispatch::Dispatcher;
use crate::execute::{Executor, millis, refused, reply_head, words, write_failure};
use crate::limits::{INPUT_BYTES_SMALL, UPLOAD_BYTES_A_TURN, UPLOAD_BYTES_MIN};

/// Bytes that were promised to those who are in the middle of sending much, and who waits for
/// such a promise.
#[derive(Debug)]
pub(crate) struct Admission {
    promised: usize,
    bytes_max: usize,
    waiting: VecDeque<(ConnectionId, usize)>,
    /// Bytes came back, or the limit moved, since somebody looked whether others may go on.
    pub(crate) eased: bool,
}

impl Admission {
    pub(crate) fn new(bytes_max: usize) -> Admission {
        Admission { promised: 0, bytes_max, waiting: VecDeque::new(), eased: false }
    }

    /// Promises so much from now on; what was promised stays promised.
    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.eased = true;
    }

    /// Bytes promised.
    pub(crate) fn promised(&self) -> usize {
        self.promised
    }

    /// Promises so many bytes, if there are as many. The first of all gets what it wants, so
    /// that somebody always goes on.
    pub(crate) fn admit(&mut self, bytes: usize) -> bool {
        let admitted = self.may_admit(bytes);
        if admitted {
            self.promised += bytes;
        }
        admitted
    }

    /// Whether so many bytes would be promised.
    pub(crate) fn may_admit(&self, bytes: usize) -> bool {
        self.promised == 0 || self.promised + bytes <= self.bytes_max
    }

    /// Changes what one was promised, whether or not there are as many.
    pub(crate) fn change(&mut self, before: usize, now: usize) {
        self.promised = self.promised - before + now;
        self.eased |= now < before;
    }

    /// Takes a promise back.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.change(bytes, 0);
    }

    /// Puts a connection in line for a promise.
    pub(crate) fn wait(&mut self, id: ConnectionId, bytes: usize) {
        self.waiting.push_back((id, bytes));
    }

    /// Takes those out of the line that do not wait any more, before it is longer than
    /// `waiting_max`.
    pub(crate) fn shorten(
        &mut self,
        waiting_max: usize,
        mut waits: impl FnMut(ConnectionId) -> bool,
    ) {
        if self.waiting.len() >= waiting_max {
            self.waiting.retain(|(id, _)| waits(*id));
        }
    }

    /// The next in line, if there is what it waits for.
    pub(crate) fn next(&mut self) -> Option<ConnectionId> {
        let (id, bytes) = *self.waiting.front()?;
        self.may_admit(bytes).then(|| self.waiting.pop_front().map(|_| id))?
    }
}

/// The rest of one large set that this core takes.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Bytes of the value that were not taken yet.
    left: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Receiving(Box<Receiving>),
    /// The set was refused and answered; its bytes are dropped as they come.
    Refused,
}

/// A set without its value, which is on its way.
#[derive(Debug)]
struct Receiving {
    head: RequestHead,
    key: Vec<u8>,
    user_flags: u32,
    ttl: Ttl,
    condition: Condition,
    value_bytes: usize,
    upload: Upload,
}

/// What [`SetCondition`] has, without borrowing a value to compare with.
#[derive(Clone, Copy, Debug)]
enum Condition {
    Always,
    Absent,
    Present,
    VersionIs(Version),
    NewerThan(Version),
    Untouched,
}

impl Condition {
    fn of(condition: SetCondition<'_>) -> Option<Condition> {
        Some(match condition {
            SetCondition::Always => Condition::Always,
            SetCondition::Absent => Condition::Absent,
            SetCondition::Present => Condition::Present,
            SetCondition::VersionIs(version) => Condition::VersionIs(version),
            SetCondition::NewerThan(version) => Condition::NewerThan(version),
            SetCondition::Untouched => Condition::Untouched,
            SetCondition::ValueIs(_) => return None,
        })
    }

    fn get(self) -> SetCondition<'static> {
        match self {
            Condition::Always => SetCondition::Always,
            Condition::Absent => SetCondition::Absent,
            Condition::Present => SetCondition::Present,
            Condition::VersionIs(version) => SetCondition::VersionIs(version),
            Condition::NewerThan(version) => SetCondition::NewerThan(version),
            Condition::Untouched => SetCondition::Untouched,
        }
    }
}

/// How an intake begins.
pub(crate) enum Begun {
    /// The front of its frame is dealt with; the value follows.
    Yes(Intake),
    /// So many bytes are not to be had at the moment.
    NotAdmitted(usize),
}

impl Intake {
    /// Bytes of the value that were not taken yet.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// An intake that drops what comes.
    pub(crate) fn refused(left: usize) -> Intake {
        Intake { left, state: State::Refused }
    }
}

/// Whether a half frame of which so many bytes are needed may be worth an intake.
pub(crate) fn is_large(needed: usize) -> bool {
    needed >= UPLOAD_BYTES_MIN
}

/// Bytes of a half frame of which so many are needed in all that must be there before it can
/// be dealt with: the front of a large set, or all of any other.
pub(crate) fn worth_waiting_for(bytes: &[u8], needed: usize) -> usize {
    let is_set = bytes.get(1) == Some(&(Opcode::Set as u8));
    if is_set && is_large(needed) && bytes.len() < INPUT_BYTES_SMALL {
        INPUT_BYTES_SMALL
    } else {
        needed
    }
}

/// Whether a set can be carried out though its value is not in one piece.
pub(crate) fn may_come_in_pieces(set: &Set<'_>) -> bool {
    set.old == OldValue::Omit && Condition::of(set.condition).is_some()
}

/// The front of a set that is taken piece by piece, where `bytes` begin with one.
pub(crate) fn front_of<'b>(
    bytes: &'b [u8],
    limits: &DecodeLimits,
) -> Option<Result<SetFront<'b>, (RequestHead, Refusal)>> {
    let front = decode_set_front(bytes, limits)?;
    match &front {
        Ok(front) if front.value_bytes == 0 => None,
        Ok(SetFront { set, .. }) if !may_come_in_pieces(set) => None,
        _ => Some(front),
    }
}

impl Dispatcher {
    /// Begins to take a set of this core, or refuses it in `out`.
    pub(crate) fn begin_intake(
        &mut self,
        front: &SetFront<'_>,
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) -> Begun {
        let SetFront { mut head, set, value_bytes, .. } = *front;
        let stale = self.slots.put_epoch(&mut head);
        self.executor.counters.stale_epochs += u64::from(stale);
        if self.is_turned_away(&head, &Request::Set(set), out) {
            return Begun::Yes(Intake::refused(value_bytes));
        }
        let executor = &mut self.executor;
        if head.deadline.is_some_and(|deadline| deadline < now) {
            executor.counters.too_late += 1;
            answer_failure(&head, Status::TooLate, out);
            return Begun::Yes(Intake::refused(value_bytes));
        }
        if head.deadline.is_some() && self.is_head_refused(&head, out) {
            return Begun::Yes(Intake::refused(value_bytes));
        }
        let executor = &mut self.executor;
        let slot = slot_of(set.key);
        let key = executor.shard.key(slot.number(), head.space.number(), set.key);
        let upload = match executor.shard.begin_upload(&key, value_bytes) {
            Ok(upload) => upload,
            Err(error) => {
                executor.counters.failures += 1;
                answer_failure(&head, refused(error), out);
                return Begun::Yes(Intake::refused(value_bytes));
            }
        };
        if !executor.uploads.admit(value_bytes) {
            executor.shard.abandon_upload(upload);
            return Begun::NotAdmitted(value_bytes);
        }
        executor.counters.uploads += 1;
        let receiving = Receiving {
            head,
            key: set.key.to_vec(),
            user_flags: set.user_flags,
            ttl: set.ttl,
            condition: Condition::of(set.condition).expect("looked at by `front_of`"),
            value_bytes,
            upload,
        };
        Begun::Yes(Intake { left: value_bytes, state: State::Receiving(Box::new(receiving)) })
    }

    /// Takes the next bytes of a value, and executes the set once it has all; how many it
    /// took. Fewer than there are, while the value has more to come, means that the shard is
    /// making room: offer them again in the next turn.
    pub(crate) fn feed(
        &mut self,
        intake: &mut Intake,
        bytes: &[u8],
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) -> usize {
        let bytes = &bytes[..bytes.len().min(intake.left)];
        let taken = match &mut intake.state {
            State::Refused => bytes.len(),
            State::Receiving(receiving) => match self.executor.store(receiving, bytes, now) {
                Ok(taken) => taken,
                Err(error) => {
                    self.executor.counters.failures += 1;
                    answer_failure(&receiving.head, refused(error), out);
                    let refused = Intake::refused(intake.left);
                    self.executor.abandon(std::mem::replace(intake, refused));
                    bytes.len()
                }
            },
        };
        intake.left -= taken;
        if intake.left == 0
            && let State::Receiving(receiving) =
                std::mem::replace(&mut intake.state, State::Refused)
        {
            self.finish(*receiving, now, out);
        }
        taken
    }

    fn finish(&mut self, receiving: Receiving, now: MonotonicUs, out: &mut Vec<u8>) {
        let Receiving { mut head, key, user_flags, ttl, condition, value_bytes, upload } =
            receiving;
        self.executor.uploads.release(value_bytes);
        self.executor.uploaded = Some(upload);
        self.slots.put_epoch(&mut head);
        let set = Request::Set(Set {
            key: &key,
            value: &[],
            user_flags,
            ttl,
            condition: condition.get(),
            old: OldValue::Omit,
        });
        // The slot may have left while the value came.
        if !self.is_turned_away(&head, &set, out) {
            let set = self.in_place(&head, set);
            self.executor.execute(&head, &set, now, out);
        }
        if let Some(upload) = self.executor.uploaded.take() {
            self.executor.shard.abandon_upload(upload);
        }
    }

    /// Whether a request with a key is not for this core to execute, which is answered.
    fn is_turned_away(
        &mut self,
        head: &RequestHead,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let key = request.key().expect("a set has a key");
        let ours = matches!(self.or_in_place(head, request, self.owner_of(key)), Owner::Here(_));
        if !ours {
            self.turn_away(head, slot_of(key), out);
        }
        !ours
    }
}

impl Executor {
    /// Gives back what an intake holds.
    pub(crate) fn abandon(&mut self, intake: Intake) {
        if let State::Receiving(receiving) = intake.state {
            self.uploads.release(receiving.value_bytes);
            self.shard.abandon_upload(receiving.upload);
        }
    }

    fn store(
        &mut self,
        receiving: &mut Receiving,
        bytes: &[u8],
        now: MonotonicUs,
    ) -> Result<usize, WriteError> {
        let bytes = &bytes[..bytes.len().min(UPLOAD_BYTES_A_TURN)];
        let mut stored = 0;
        while stored < bytes.len() {
            // One call begins at most one chunk of the shard.
            let taken = self.upload(&mut receiving.upload, &bytes[stored..], millis(now))?;
            if taken == 0 {
                break;
            }
            stored += taken;
        }
        Ok(stored)
    }
}

fn answer_failure(head: &RequestHead, status: Status, out: &mut Vec<u8>) {
    if head.answer == Answer::Always {
        write_failure(out, reply_head(head), status, words(status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> ConnectionId {
        ConnectionId { index, generation: 0 }
    }

    #[test]
    fn the_first_is_always_admitted_and_the_others_in_line() {
        let mut admission = Admission::new(100);
        assert!(admission.admit(150));
        assert!(!admission.admit(1));
        admission.wait(id(1), 60);
        admission.wait(id(2), 10);
        assert_eq!(admission.next(), None);
        admission.release(100);
        assert!(admission.eased);
        assert_eq!(admission.next(), None, "the first in line is waited for");
        admission.release(10);
        assert_eq!(admission.next(), Some(id(1)));
        assert!(admission.admit(60));
        assert_eq!(admission.next(), None);
        admission.release(100);
        assert_eq!(admission.next(), Some(id(2)));
        assert_eq!((admission.next(), admission.promised()), (None, 0));
    }
}
