//! The task of one connection: moves bytes between its socket and its [`Machine`] in a fixed
//! order (receive, send, timers), with bounded work each turn. It decides nothing itself.
//!
//! [`Machine`]: crate::machine::Machine

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use corelane_protocol::ReplyHead;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Sleep;

use crate::clock::LocalTime;
use crate::codec::ReplyReader;
use crate::connection::{Connection, DriverState};
use crate::error::{Disconnect, ProtocolError};
use crate::limits::{READS_PER_TURN, REPLIES_AT_ONCE, WRITE_BYTES_KEPT};
use crate::machine::Freed;
use crate::reply::OwnedReply;

/// Serves a connection until it ends. However this future ends, also when the runtime drops
/// it, everybody who waits on the connection is told.
pub(crate) async fn drive<S>(stream: S, reader: ReplyReader, connection: Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ending = Ending { connection, reason: Disconnect::Stopped };
    let mut driver = Driver {
        stream,
        reader,
        connection: Arc::clone(&ending.connection),
        sending: Vec::new(),
        sent: 0,
        weight: 0,
        replies: Vec::new(),
        wakes: Vec::new(),
        sleep: None,
    };
    ending.reason = std::future::poll_fn(|context| driver.turn(context)).await;
}

/// Tells the callers when it is dropped.
struct Ending {
    connection: Arc<Connection>,
    reason: Disconnect,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.connection.lose(&self.reason);
    }
}

struct Driver<S> {
    stream: S,
    reader: ReplyReader,
    connection: Arc<Connection>,
    /// Being written; what was queued meanwhile waits in the machine.
    sending: Vec<u8>,
    /// How much of it the kernel took.
    sent: usize,
    /// What it counts against the room for bytes.
    weight: usize,
    /// Decoded in this turn, kept for its memory.
    replies: Vec<(ReplyHead, OwnedReply)>,
    wakes: Vec<Waker>,
    /// The timer, once one was needed. It may be set too early, never too late.
    sleep: Option<(LocalTime, Pin<Box<Sleep>>)>,
}

/// What became of one step of a turn.
enum Step {
    /// There may be more to do.
    More,
    /// Nothing more until the socket says so, whose waker is registered.
    Blocked,
}

/// Whether whole replies are left to decode.
enum Decoded {
    Some,
    All,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<Disconnect> {
        match self.turn_or_end(context) {
            Ok(Step::More) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(Step::Blocked) => Poll::Pending,
            Err(reason) => Poll::Ready(reason),
        }
    }

    fn turn_or_end(&mut self, context: &mut Context<'_>) -> Result<Step, Disconnect> {
        let received = self.receive(context)?;
        if let Err(reason) = self.send(context) {
            // Replies that arrived before the connection broke are worth having.
            self.receive(context)?;
            return Err(reason);
        }
        let rested = self.rest(context)?;
        match (received, rested) {
            (Step::Blocked, Step::Blocked) => Ok(Step::Blocked),
            _ => Ok(Step::More),
        }
    }

    fn receive(&mut self, context: &mut Context<'_>) -> Result<Step, Disconnect> {
        for _ in 0..READS_PER_TURN {
            let read = pin!(self.stream.read_buf(self.reader.buffer())).poll(context);
            match read {
                Poll::Pending => return Ok(Step::Blocked),
                Poll::Ready(Ok(0)) => return Err(Disconnect::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
            self.reader.adapt_room();
            self.take_replies()?;
        }
        Ok(Step::More)
    }

    /// Hands everything that has arrived whole to the machine, some replies at a time. Good
    /// replies in front of nonsense are still delivered.
    fn take_replies(&mut self) -> Result<(), ProtocolError> {
        loop {
            let decoded = self.decode_some();
            if !self.replies.is_empty() {
                self.deliver()?;
            }
            match decoded? {
                Decoded::Some => {}
                Decoded::All => return Ok(()),
            }
        }
    }

    fn decode_some(&mut self) -> Result<Decoded, ProtocolError> {
        while self.replies.len() < REPLIES_AT_ONCE {
            match self.reader.next()? {
                Some(reply) => self.replies.push(reply),
                None => return Ok(Decoded::All),
            }
        }
        Ok(Decoded::Some)
    }

    fn deliver(&mut self) -> Result<(), ProtocolError> {
        let now = self.connection.clock.now();
        let mut freed = Freed::default();
        let mut guarded = self.connection.lock();
        let result = self.replies.drain(..).try_for_each(|(head, reply)| {
            guarded.machine.receive(head, reply, now, &mut freed, &mut self.wakes)
        });
        drop(guarded);
        self.connection.add_room(freed.requests, 0);
        self.wakes.drain(..).for_each(Waker::wake);
        result
    }

    /// Writes all there is, as far as the socket takes it.
    fn send(&mut self, context: &mut Context<'_>) -> Result<(), Disconnect> {
        loop {
            if self.sent == self.sending.len() {
                self.connection.add_room(0, std::mem::take(&mut self.weight));
                self.sending.clear();
                self.sent = 0;
                self.weight = self.connection.lock().machine.exchange(&mut self.sending);
                if self.sending.is_empty() {
                    return Ok(());
                }
            }
            let rest = &self.sending[self.sent..];
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(Disconnect::Closed),
                Poll::Ready(Ok(bytes)) => {
                    self.sent += bytes;
                    self.connection.lock().machine.wrote(bytes);
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Fires timers, and says what the callers must wake this task for.
    fn rest(&mut self, context: &mut Context<'_>) -> Result<Step, Disconnect> {
        let now = self.connection.clock.now();
        let mut guarded = self.connection.lock();
        let ticked = guarded.machine.tick(now, &mut self.wakes);
        let until = guarded.machine.timer();
        let blocked = !self.sending.is_empty();
        let step = if ticked.is_ok() && !blocked && guarded.machine.has_outgoing() {
            guarded.driver = DriverState::Awake;
            Step::More
        } else {
            // The timer is only set forward when it fires, so that requests which are
            // answered long before their deadline never touch it.
            let until = self.sleep.as_ref().map_or(until, |(set, _)| (*set).min(until));
            let waker = context.waker().clone();
            guarded.driver = if blocked {
                DriverState::Writing { waker, until }
            } else {
                DriverState::Asleep { waker }
            };
            Step::Blocked
        };
        drop(guarded);
        self.wakes.drain(..).for_each(Waker::wake);
        ticked?;
        if self.poll_timer(until, context).is_ready() {
            self.release();
            return Ok(Step::More);
        }
        Ok(step)
    }

    /// Ready when the timer fired, which does not mean that something is due.
    fn poll_timer(&mut self, until: LocalTime, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.connection.clock;
        let (set, sleep) = match &mut self.sleep {
            None if until == LocalTime::NEVER => return Poll::Pending,
            None => {
                let sleep = Box::pin(tokio::time::sleep_until(clock.instant(until)));
                self.sleep.insert((until, sleep))
            }
            Some(timer) => timer,
        };
        if until < *set {
            sleep.as_mut().reset(clock.instant(until));
            *set = until;
        }
        ready!(sleep.as_mut().poll(context));
        self.sleep = None;
        Poll::Ready(())
    }

    /// A timer fires some time after traffic ended, which is when memory is given back.
    fn release(&mut self) {
        let mut guarded = self.connection.lock();
        if !guarded.machine.is_idle() || !self.sending.is_empty() {
            return;
        }
        guarded.machine.release();
        drop(guarded);
        self.reader.release();
        self.replies = Vec::new();
        self.wakes = Vec::new();
        if self.sending.capacity() <= WRITE_BYTES_KEPT {
            self.sending = Vec::new();
        }
    }
}
