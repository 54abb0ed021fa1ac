//! One connection as a state machine: bytes that go out, requests under way, the node's
//! clock, and whether it still takes requests. It opens no socket and reads no clock; the
//! task that does ([`crate::driver`]) calls it like this:
//!
//! - [`Machine::queue`] whenever somebody asks for something;
//! - [`Machine::exchange`] to fetch the bytes to write, and [`Machine::wrote`] for each
//!   write the kernel took;
//! - [`Machine::receive`] for each decoded reply, in order;
//! - [`Machine::tick`] not later than [`Machine::timer`], and as often as it likes;
//! - [`Machine::lose`] once, when the connection has ended, whatever ended it.
//!
//! Wakers of futures that have something to see are appended to a list, for the caller to
//! wake after it has let go of the lock.

use std::task::{Poll, Waker};
use std::time::Duration;

use corelane_protocol::limits::NOTICE_ID;
use corelane_protocol::wire::{EncodeError, encode_request};
use corelane_protocol::{
    Answer, ReplyHead, Request, RequestHead, RequestId, ShortEpoch, StandIn, Status, WantVersion,
};

use crate::clock::{LocalTime, NodeClock};
use crate::error::{Disconnect, ProtocolError};
use crate::limits::WRITE_BYTES_KEPT;
use crate::pending::{Expected, Leftover, Outcome, Pending, Step, UNANSWERED_ID};
use crate::reply::OwnedReply;

/// A request to queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) expected: Expected,
    pub(crate) answer: Answer,
    pub(crate) want_version: WantVersion,
    /// The topology that it was routed by.
    pub(crate) epoch: ShortEpoch,
    pub(crate) stand_in: StandIn,
    pub(crate) deadline: LocalTime,
    /// What it counts against the bytes that may be queued.
    pub(crate) weight: u32,
}

/// Why a request was not queued. Nothing of it will be sent.
#[derive(Clone, Debug)]
pub(crate) enum QueueError {
    /// The connection takes no requests (any more).
    NotOpen,
    /// There is no encoding.
    Encode(EncodeError),
    /// All ids are taken.
    Full,
}

/// What the node is told and asked while the connection lives.
#[derive(Clone, Debug)]
enum Phase {
    Open,
    /// No new requests; when the last reply is there, the connection ends for this reason.
    Draining(Disconnect),
    Lost,
}

/// What taking replies in freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    /// Requests that are not owed anything any more.
    pub(crate) requests: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    pending: Pending,
    phase: Phase,
    outgoing: Outgoing,
    /// Bytes that the kernel took, of all that were ever queued.
    written: u64,
    clock: NodeClock,
    probe: Probe,
    /// How long the connection's own requests may take.
    probe_timeout: Duration,
}

/// Requests encoded and not yet fetched.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    weight: usize,
    /// Where they end in the stream of bytes.
    end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Idle,
    UnderWay,
}

impl Machine {
    /// A connection whose hello was answered.
    pub(crate) fn new(clock: NodeClock, overdue: Duration, probe_timeout: Duration) -> Machine {
        Machine {
            pending: Pending::new(overdue),
            phase: Phase::Open,
            outgoing: Outgoing::default(),
            written: 0,
            clock,
            probe: Probe::Idle,
            probe_timeout,
        }
    }

    /// Encodes a request. The id is for [`Machine::collect`] or [`Machine::forget`], one of
    /// which must be called; there is none where no answer was asked for.
    pub(crate) fn queue(
        &mut self,
        call: &Call<'_>,
        now: LocalTime,
    ) -> Result<Option<RequestId>, QueueError> {
        if !matches!(self.phase, Phase::Open) {
            return Err(QueueError::NotOpen);
        }
        let id = match call.answer {
            Answer::Never => UNANSWERED_ID,
            Answer::Always => self.pending.next_id().ok_or(QueueError::Full)?,
        };
        self.encode(call, id)?;
        self.outgoing.weight += call.weight as usize;
        let id = match call.answer {
            Answer::Never => None,
            Answer::Always => {
                let end = self.outgoing.end;
                Some(self.pending.insert(call.expected, now, call.deadline, end))
            }
        };
        if self.probe == Probe::Idle && self.clock.is_stale(now) {
            self.queue_probe(now);
        }
        Ok(id)
    }

    /// A ping of our own behind the request that showed that the connection is in use.
    fn queue_probe(&mut self, now: LocalTime) {
        let call = Call {
            request: Request::Ping,
            expected: Expected::Probe,
            answer: Answer::Always,
            want_version: WantVersion::No,
            epoch: ShortEpoch::default(),
            stand_in: StandIn::No,
            deadline: now.plus(self.probe_timeout),
            weight: 0,
        };
        let Some(id) = self.pending.next_id() else { return };
        if self.encode(&call, id).is_ok() {
            self.pending.insert(Expected::Probe, now, call.deadline, self.outgoing.end);
            self.probe = Probe::UnderWay;
        }
    }

    fn encode(&mut self, call: &Call<'_>, id: RequestId) -> Result<(), QueueError> {
        let head = RequestHead {
            id,
            answer: call.answer,
            want_version: call.want_version,
            epoch: call.epoch,
            stand_in: call.stand_in,
            deadline: Some(self.clock.at(call.deadline)),
            ..RequestHead::default()
        };
        let before = self.outgoing.bytes.len();
        encode_request(&head, &call.request, &mut self.outgoing.bytes)
            .map_err(QueueError::Encode)?;
        self.outgoing.end += (self.outgoing.bytes.len() - before) as u64;
        Ok(())
    }

    /// Hands out what is to be written, in exchange for an empty buffer to fill meanwhile,
    /// and says what it weighs. Nothing may be queued: then both stay empty.
    pub(crate) fn exchange(&mut self, buffer: &mut Vec<u8>) -> usize {
        debug_assert!(buffer.is_empty());
        if buffer.capacity() > WRITE_BYTES_KEPT {
            *buffer = Vec::new();
        }
        std::mem::swap(&mut self.outgoing.bytes, buffer);
        std::mem::take(&mut self.outgoing.weight)
    }

    /// The kernel took so many bytes of what was handed out.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Takes a reply in.
    ///
    /// # Errors
    /// The node violates the protocol; the connection is to be ended.
    pub(crate) fn receive(
        &mut self,
        head: ReplyHead,
        reply: OwnedReply,
        now: LocalTime,
        freed: &mut Freed,
        wakes: &mut Vec<Waker>,
    ) -> Result<(), ProtocolError> {
        if let OwnedReply::Failed { status: Status::GoingAway, .. } = reply {
            self.drain(Disconnect::GoingAway);
        }
        if head.id.0 == NOTICE_ID {
            // Whatever it says, replies to earlier requests may still come.
            return match reply {
                OwnedReply::Failed { status: Status::GoingAway, .. } => Ok(()),
                OwnedReply::Failed { status, message } => {
                    self.drain(Disconnect::Refused { status, message: message.into() });
                    Ok(())
                }
                _ => Err(ProtocolError::UnknownNotice),
            };
        }
        match self.pending.answer(head.id, head.part, reply, wakes)? {
            Step::Part => {}
            Step::Finished => freed.requests += 1,
            Step::Probed { asked, clock } => {
                self.probe = Probe::Idle;
                if let Some(clock) = clock {
                    self.clock.observe(asked, now, clock);
                }
            }
        }
        Ok(())
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// The connection is to be ended: the node is silent, or all that was owed when the
    /// connection stopped taking requests has arrived.
    pub(crate) fn tick(
        &mut self,
        now: LocalTime,
        wakes: &mut Vec<Waker>,
    ) -> Result<(), Disconnect> {
        self.pending.expire(now, wakes)?;
        match &self.phase {
            Phase::Draining(reason)
                if self.pending.owed() == 0 && self.written == self.outgoing.end =>
            {
                Err(reason.clone())
            }
            Phase::Open | Phase::Draining(_) | Phase::Lost => Ok(()),
        }
    }

    /// When [`Machine::tick`] is to be called at the latest.
    pub(crate) fn timer(&self) -> LocalTime {
        self.pending.earliest_due()
    }

    /// Whether there is something to write.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.bytes.is_empty()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.owed() == 0 && self.outgoing.bytes.is_empty()
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn release(&mut self) {
        self.pending.release();
        self.outgoing.bytes.shrink_to_fit();
    }

    /// Memory that is held for bytes that go out.
    #[cfg(test)]
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.outgoing.bytes.capacity()
    }

    /// Takes no new requests from here on.
    pub(crate) fn drain(&mut self, reason: Disconnect) {
        if let Phase::Open = self.phase {
            self.phase = Phase::Draining(reason);
        }
    }

    /// The connection has ended. Further calls than the first do nothing.
    pub(crate) fn lose(&mut self, reason: &Disconnect, wakes: &mut Vec<Waker>) {
        if let Phase::Lost = self.phase {
            return;
        }
        self.phase = Phase::Lost;
        self.pending.lose_all(self.written, reason, wakes);
        self.outgoing.bytes = Vec::new();
    }

    /// See [`Pending::collect`].
    pub(crate) fn collect(
        &mut self,
        id: RequestId,
        waiter: &Waker,
        replaced: &mut Option<Waker>,
    ) -> Poll<Outcome> {
        self.pending.collect(id, waiter, replaced)
    }

    /// See [`Pending::forget`].
    pub(crate) fn forget(&mut self, id: RequestId) -> Leftover {
        self.pending.forget(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Executed};
    use corelane_protocol::MonotonicUs;
    use corelane_protocol::wire::{DecodeLimits, Decoded, decode_request};

    const SECOND: u64 = 1_000_000;

    /// A machine whose node's clock is 5 s ahead of ours.
    fn machine() -> Machine {
        let clock = NodeClock::new(LocalTime(0), LocalTime(0), MonotonicUs(5 * SECOND));
        Machine::new(clock, Duration::from_secs(5), Duration::from_secs(1))
    }

    fn get(key: &[u8], deadline: u64) -> Call<'_> {
        Call {
            request: Request::Get { key, least_version: None },
            expected: Expected::Value,
            answer: Answer::Always,
            want_version: WantVersion::No,
            epoch: ShortEpoch::default(),
            stand_in: StandIn::No,
            deadline: LocalTime(deadline),
            weight: 100,
        }
    }

    fn delete(key: &[u8]) -> Call<'_> {
        let condition = corelane_protocol::DeleteCondition::Always;
        Call {
            request: Request::Delete { key, condition },
            expected: Expected::Done,
            answer: Answer::Never,
            ..get(key, SECOND)
        }
    }

    fn queue(machine: &mut Machine, key: &[u8], now: u64) -> RequestId {
        machine.queue(&get(key, now + SECOND), LocalTime(now)).unwrap().unwrap()
    }

    /// The heads of everything that is to be written.
    fn written(machine: &mut Machine) -> Vec<RequestHead> {
        let mut bytes = Vec::new();
        machine.exchange(&mut bytes);
        machine.wrote(bytes.len());
        let mut heads = Vec::new();
        let mut rest = bytes.as_slice();
        while let Decoded::Complete { frame, consumed } =
            decode_request(rest, &DecodeLimits::default())
        {
            heads.push(frame.head);
            rest = &rest[consumed..];
        }
        assert!(rest.is_empty(), "a frame is cut short");
        heads
    }

    fn receive(
        machine: &mut Machine,
        id: RequestId,
        reply: OwnedReply,
        now: u64,
    ) -> Result<(), ProtocolError> {
        let head = ReplyHead { id, ..ReplyHead::default() };
        machine.receive(head, reply, LocalTime(now), &mut Freed::default(), &mut Vec::new())
    }

    fn failed(status: Status) -> OwnedReply {
        OwnedReply::Failed { status, message: "".into() }
    }

    fn tick(machine: &mut Machine, now: u64) -> Result<(), Disconnect> {
        machine.tick(LocalTime(now), &mut Vec::new())
    }

    fn error_of(machine: &mut Machine, id: RequestId) -> Error {
        match machine.collect(id, Waker::noop(), &mut None) {
            Poll::Ready(Outcome::One(Err(error))) => error,
            other => panic!("request {id:?} came to {other:?}"),
        }
    }

    #[test]
    fn deadlines_are_told_in_the_nodes_clock() {
        let mut machine = machine();
        machine.queue(&get(b"key", 250), LocalTime(100)).unwrap();
        assert_eq!(written(&mut machine)[0].deadline, Some(MonotonicUs(5 * SECOND + 250)));
    }

    #[test]
    fn everything_queued_goes_out_at_once() {
        let mut machine = machine();
        let ids: Vec<_> = (0..3).map(|_| queue(&mut machine, b"key", 0)).collect();
        let heads = written(&mut machine);
        assert_eq!(heads.iter().map(|head| head.id).collect::<Vec<_>>(), ids);
        assert!(!machine.has_outgoing());
    }

    #[test]
    fn a_request_without_answer_leaves_nothing_behind() {
        let mut machine = machine();
        assert_eq!(machine.queue(&delete(b"key"), LocalTime(0)).unwrap(), None);
        assert_eq!(written(&mut machine)[0].answer, Answer::Never);
        assert!(machine.is_idle());
        assert_eq!(machine.timer(), LocalTime::NEVER);
    }

    #[test]
    fn what_cannot_be_encoded_leaves_nothing_behind() {
        let mut machine = machine();
        let key = vec![0; 20_000];
        let error = machine.queue(&get(&key, SECOND), LocalTime(0)).unwrap_err();
        assert!(matches!(error, QueueError::Encode(EncodeError::KeyTooLong)));
        assert!(machine.is_idle());
        let mut buffer = Vec::new();
        assert_eq!(machine.exchange(&mut buffer), 0);
    }

    #[test]
    fn after_going_away_replies_come_but_nothing_new_is_taken() {
        let mut machine = machine();
        let id = queue(&mut machine, b"key", 0);
        written(&mut machine);
        receive(&mut machine, RequestId(NOTICE_ID), failed(Status::GoingAway), 10).unwrap();
        let refused = machine.queue(&get(b"other", SECOND), LocalTime(20)).unwrap_err();
        assert!(matches!(refused, QueueError::NotOpen));
        tick(&mut machine, 30).unwrap();
        receive(&mut machine, id, failed(Status::NotFound), 40).unwrap();
        assert!(matches!(tick(&mut machine, 50), Err(Disconnect::GoingAway)));
    }

    #[test]
    fn a_request_refused_for_going_away_drains_the_connection_too() {
        let mut machine = machine();
        let id = queue(&mut machine, b"key", 0);
        receive(&mut machine, id, failed(Status::GoingAway), 10).unwrap();
        assert!(matches!(
            machine.queue(&get(b"other", SECOND), LocalTime(20)),
            Err(QueueError::NotOpen)
        ));
    }

    #[test]
    fn a_draining_connection_writes_what_it_took_before_it_ends() {
        let mut machine = machine();
        machine.queue(&delete(b"key"), LocalTime(0)).unwrap();
        machine.drain(Disconnect::Stopped);
        tick(&mut machine, 10).unwrap();
        written(&mut machine);
        assert!(matches!(tick(&mut machine, 20), Err(Disconnect::Stopped)));
    }

    #[test]
    fn a_node_that_ends_the_connection_may_say_why() {
        let mut machine = machine();
        receive(&mut machine, RequestId(NOTICE_ID), failed(Status::IdleTooLong), 10).unwrap();
        let ended = tick(&mut machine, 20).unwrap_err();
        assert!(matches!(ended, Disconnect::Refused { status: Status::IdleTooLong, .. }));
        let unknown = receive(&mut machine, RequestId(NOTICE_ID), OwnedReply::End, 10);
        assert_eq!(unknown, Err(ProtocolError::UnknownNotice));
    }

    #[test]
    fn only_whole_writes_may_have_been_executed() {
        let mut machine = machine();
        let sent = queue(&mut machine, b"sent", 0);
        let mut first = Vec::new();
        machine.exchange(&mut first);
        machine.wrote(first.len());
        let cut = queue(&mut machine, b"cut", 0);
        let mut second = Vec::new();
        machine.exchange(&mut second);
        machine.wrote(second.len() - 1);
        let queued = queue(&mut machine, b"queued", 0);
        machine.lose(&Disconnect::Closed, &mut Vec::new());
        for (id, executed) in [(sent, Executed::Maybe), (cut, Executed::No), (queued, Executed::No)]
        {
            assert_eq!(error_of(&mut machine, id).executed(), executed);
        }
        assert!(matches!(
            machine.queue(&get(b"late", SECOND), LocalTime(0)),
            Err(QueueError::NotOpen)
        ));
    }

    #[test]
    fn the_clock_is_measured_again_while_there_is_traffic() {
        let mut machine = machine();
        let before = 9 * SECOND;
        let id = queue(&mut machine, b"key", before);
        assert_eq!(written(&mut machine).len(), 1);
        receive(&mut machine, id, failed(Status::NotFound), before).unwrap();

        // 11 s after the hello, a ping of our own goes out behind the request, once.
        let now = 11 * SECOND;
        queue(&mut machine, b"key", now);
        queue(&mut machine, b"key", now);
        let heads = written(&mut machine);
        assert_eq!(heads.len(), 3);
        // By now the node's clock is 200 µs further ahead than it was.
        let clock = MonotonicUs(now + 5 * SECOND + 200);
        receive(&mut machine, heads[1].id, OwnedReply::Pong { clock }, now).unwrap();
        machine.queue(&get(b"key", now), LocalTime(now)).unwrap();
        assert_eq!(written(&mut machine)[0].deadline, Some(clock));
    }

    #[test]
    fn a_node_that_refuses_the_clock_is_asked_again_later() {
        let mut machine = machine();
        let now = 11 * SECOND;
        let id = queue(&mut machine, b"key", now);
        let probe = written(&mut machine)[1].id;
        let mut freed = Freed::default();
        let head = ReplyHead { id: probe, ..ReplyHead::default() };
        let busy = OwnedReply::Busy { retry_after: Duration::ZERO };
        machine.receive(head, busy, LocalTime(now), &mut freed, &mut Vec::new()).unwrap();
        // It never took anybody's room.
        assert_eq!(freed.requests, 0);
        receive(&mut machine, id, failed(Status::NotFound), now).unwrap();
        queue(&mut machine, b"key", now);
        assert_eq!(written(&mut machine).len(), 2);
    }
}
