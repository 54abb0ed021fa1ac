//! One connection as its users see it: queue a request, wait for its answer.
//!
//! ```text
//! caller ─ room? ─► Machine (behind a lock) ◄─ driver task ─► socket
//!    ▲                 │ place in the slab
//!    └──── Ticket ◄────┘
//! ```
//!
//! Room is two counts of permits, of requests in flight and of bytes queued; callers who find
//! none wait in line until their deadline. A request's permit comes back with its last reply,
//! the bytes' with the write that took them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use corelane_protocol::wire::EncodeError;
use corelane_protocol::{Answer, RequestId, ShortEpoch};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use crate::clock::{Clock, LocalTime};
use crate::epoch::ToldEpoch;
use crate::error::{Disconnect, Error, Executed};
use crate::machine::{Call, Machine, QueueError};
use crate::pending::Outcome;

/// How much of a connection may be in use at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Requests whose reply has not arrived.
    pub(crate) requests: u32,
    /// Bytes of requests that the kernel has not taken.
    pub(crate) bytes: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    guarded: Mutex<Guarded>,
    room: Room,
    requests: Semaphore,
    bytes: Semaphore,
    pub(crate) clock: Clock,
    told: Arc<ToldEpoch>,
}

/// What the callers and the driver share.
#[derive(Debug)]
pub(crate) struct Guarded {
    pub(crate) machine: Machine,
    /// The driver's task.
    pub(crate) driver: DriverState,
}

/// Whether the driver's task must be woken for what a caller did.
#[derive(Debug)]
pub(crate) enum DriverState {
    /// It will look by itself.
    Awake,
    /// It waits for requests, replies, or its timer.
    Asleep { waker: Waker },
    /// It waits for the socket to take more, for replies, or this moment: new requests
    /// alone are no reason to wake it.
    Writing { waker: Waker, until: LocalTime },
}

impl Guarded {
    /// The driver's waker, if it has to be woken because requests were queued.
    fn wake_for_requests(&mut self) -> Option<Waker> {
        let timer = self.machine.timer();
        match &self.driver {
            DriverState::Awake => return None,
            DriverState::Writing { until, .. } if timer >= *until => return None,
            DriverState::Writing { .. } | DriverState::Asleep { .. } => {}
        }
        self.wake()
    }

    fn wake(&mut self) -> Option<Waker> {
        match std::mem::replace(&mut self.driver, DriverState::Awake) {
            DriverState::Awake => None,
            DriverState::Asleep { waker } | DriverState::Writing { waker, .. } => Some(waker),
        }
    }
}

/// Why a request was not sent.
#[derive(Debug)]
pub(crate) enum SubmitError {
    /// This connection takes no requests (any more); another one may.
    NotOpen,
    /// It cannot be sent at all.
    Failed(Error),
}

impl Connection {
    pub(crate) fn new(
        machine: Machine,
        room: Room,
        clock: Clock,
        told: Arc<ToldEpoch>,
    ) -> Connection {
        Connection {
            guarded: Mutex::new(Guarded { machine, driver: DriverState::Awake }),
            room,
            requests: Semaphore::new(room.requests as usize),
            bytes: Semaphore::new(room.bytes as usize),
            clock,
            told,
        }
    }

    /// Queues a request, waiting for room until its deadline if it must. The ticket is for
    /// waiting for the answer; there is none where no answer was asked for.
    pub(crate) async fn submit(
        self: &Arc<Connection>,
        call: &Call<'_>,
    ) -> Result<Option<Ticket>, SubmitError> {
        // A request that is larger than all the room there is takes it all.
        let weight = call.weight.min(self.room.bytes);
        let bytes = self.permits(&self.bytes, weight, call.deadline).await?;
        let request = match call.answer {
            Answer::Always => Some(self.permits(&self.requests, 1, call.deadline).await?),
            Answer::Never => None,
        };

        let now = self.clock.now();
        if now >= call.deadline {
            return Err(SubmitError::Failed(Error::Timeout { executed: Executed::No }));
        }
        let mut guarded = self.lock();
        let queued = guarded.machine.queue(&Call { weight, ..*call }, now);
        let id = queued.map_err(|error| match error {
            QueueError::NotOpen => SubmitError::NotOpen,
            QueueError::Encode(error) => SubmitError::Failed(refused(error)),
            QueueError::Full => SubmitError::Failed(Error::TooManyOpenRequests),
        })?;
        // Only now: a waker that was taken must be woken.
        let waker = guarded.wake_for_requests();
        drop(guarded);
        // From here on the driver gives the permits back.
        bytes.forget();
        if let Some(request) = request {
            request.forget();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(id.map(|id| Ticket { connection: Arc::clone(self), id, state: TicketState::Waiting }))
    }

    async fn permits<'s>(
        &self,
        semaphore: &'s Semaphore,
        count: u32,
        deadline: LocalTime,
    ) -> Result<SemaphorePermit<'s>, SubmitError> {
        match semaphore.try_acquire_many(count) {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(SubmitError::NotOpen),
            Err(TryAcquireError::NoPermits) => {}
        }
        let until = self.clock.instant(deadline);
        match tokio::time::timeout_at(until, semaphore.acquire_many(count)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(SubmitError::NotOpen),
            Err(_elapsed) => Err(SubmitError::Failed(Error::Timeout { executed: Executed::No })),
        }
    }

    /// A reply carried the epoch of the topology that the node knows.
    pub(crate) fn tell_epoch(&self, epoch: ShortEpoch) {
        self.told.tell(epoch);
    }

    /// Gives room back to callers who wait for it.
    pub(crate) fn add_room(&self, requests: usize, bytes: usize) {
        if requests > 0 {
            self.requests.add_permits(requests);
        }
        if bytes > 0 {
            self.bytes.add_permits(bytes);
        }
    }

    /// Takes no new requests; the connection ends when the last reply is there.
    pub(crate) fn close(&self) {
        self.requests.close();
        self.bytes.close();
        let mut guarded = self.lock();
        guarded.machine.drain(Disconnect::Stopped);
        let waker = guarded.wake();
        drop(guarded);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connection has ended: everybody who waits is told.
    pub(crate) fn lose(&self, reason: &Disconnect) {
        self.requests.close();
        self.bytes.close();
        let mut wakes = Vec::new();
        self.lock().machine.lose(reason, &mut wakes);
        wakes.into_iter().for_each(Waker::wake);
    }

    /// A panic while the lock was held would be a broken invariant of the machine, which is
    /// reported where it happened; the other callers still get to drop their tickets.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What only the encoder notices. Lengths were compared with the node's limits before.
fn refused(error: EncodeError) -> Error {
    match error {
        EncodeError::TtlTooLong => Error::TimeOutOfRange,
        EncodeError::BetweenCores => Error::Unsupported,
        EncodeError::KeyTooLong
        | EncodeError::ValueTooLarge
        | EncodeError::TokenTooLong
        | EncodeError::ReservedId
        | EncodeError::ReservedCore
        | EncodeError::NoReplyToRead => {
            unreachable!("this client makes no such request: {error}")
        }
    }
}

/// Waits for the answer to one request. Dropped before, it leaves the reply to be thrown
/// away when it comes.
#[derive(Debug)]
#[must_use = "a ticket that is dropped throws the answer away"]
pub(crate) struct Ticket {
    connection: Arc<Connection>,
    id: RequestId,
    state: TicketState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TicketState {
    Waiting,
    Collected,
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        assert_eq!(self.state, TicketState::Waiting, "polled after it was ready");
        // Dropped after the lock, like what a forgotten request leaves: dropping a waker may
        // drop a future that holds a ticket of this very connection.
        let mut replaced = None;
        let outcome =
            self.connection.lock().machine.collect(self.id, context.waker(), &mut replaced);
        if outcome.is_ready() {
            self.state = TicketState::Collected;
        }
        outcome
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.state == TicketState::Waiting {
            let leftover = self.connection.lock().machine.forget(self.id);
            drop(leftover);
        }
    }
}
