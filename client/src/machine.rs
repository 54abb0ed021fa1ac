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
    Answer, ReplyHead, Request, RequestHead, RequestId, ShortEpoch, Status, WantVersion,
};

use crate::clock::{LocalTime, NodeClock};
use crate::error::{Disconnect, ProtocolError};
use crate::limits::WRITE_BYTES_KEPT;
use crate::pending::{Expected, Outcome, Pending, Step, UNANSWERED_ID};
use crate::reply::OwnedReply;

/// A request to queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) expected: Expected,
    pub(crate) answer: Answer,
    pub(crate) want_version: WantVersion,
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
            epoch: ShortEpoch::default(),
            answer: call.answer,
            want_version: call.want_version,
            deadline: Some(self.clock.at(call.deadline)),
            part: None,
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

    /// How a request ended, if it has.
    pub(crate) fn collect(&mut self, id: RequestId, waiter: &Waker) -> Poll<Outcome> {
        self.pending.collect(id, waiter)
    }

    /// Nobody waits for this request any more.
    pub(crate) fn forget(&mut self, id: RequestId) {
        self.pending.forget(id);
    }
}
