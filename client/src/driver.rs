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
/// it before it was ever polled, everybody who waits on the connection is told.
pub(crate) fn drive<S>(
    stream: S,
    reader: ReplyReader,
    connection: Arc<Connection>,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ending = Ending { connection: Arc::clone(&connection), reason: Disconnect::Stopped };
    let mut driver = Driver {
        stream,
        reader,
        connection,
        sending: Vec::new(),
        sent: 0,
        weight: 0,
        replies: Vec::new(),
        wakes: Vec::new(),
        sleep: None,
    };
    async move {
        let reason = std::future::poll_fn(|context| driver.turn(context)).await;
        ending.because(reason);
    }
}

/// Tells the callers when it is dropped.
struct Ending {
    connection: Arc<Connection>,
    reason: Disconnect,
}

impl Ending {
    fn because(mut self, reason: Disconnect) {
        self.reason = reason;
    }
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
            self.connection.tell_epoch(head.epoch);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, NodeClock};
    use crate::connection::{Room, SubmitError, Ticket};
    use crate::error::{Error, Executed};
    use crate::machine::{Call, Machine};
    use crate::pending::{Expected, Outcome};
    use bytes::BytesMut;
    use corelane_protocol::wire::{DecodeLimits, Decoded, decode_request, encode_reply};
    use corelane_protocol::{
        Answer, MonotonicUs, OldValue, Reply, Request, RequestId, Set, SetCondition, ShortEpoch,
        StandIn, Ttl, Value, WantVersion,
    };
    use std::time::Duration;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    const TIMEOUT: Duration = Duration::from_secs(1);
    const OVERDUE: Duration = Duration::from_secs(5);
    const ROOM: Room = Room { requests: 4, bytes: 1_000 };

    /// The node's end of a connection.
    struct Node {
        stream: DuplexStream,
        input: BytesMut,
    }

    impl Node {
        /// The id and key of the next request.
        async fn request(&mut self) -> (RequestId, Vec<u8>) {
            loop {
                let limits = DecodeLimits::default();
                if let Decoded::Complete { frame, consumed } = decode_request(&self.input, &limits)
                {
                    let request = (frame.head.id, frame.request.key().unwrap().to_vec());
                    bytes::Buf::advance(&mut self.input, consumed);
                    return request;
                }
                let read = self.stream.read_buf(&mut self.input).await.unwrap();
                assert_ne!(read, 0, "the client closed the connection");
            }
        }

        async fn reply(&mut self, id: RequestId, value: &[u8]) {
            let mut frame = Vec::new();
            let head = ReplyHead { id, ..ReplyHead::default() };
            let value = Value { bytes: value, user_flags: 0, version: None };
            encode_reply(&head, &Reply::Value(value), &mut frame);
            self.stream.write_all(&frame).await.unwrap();
        }
    }

    /// A connection through a pipe that holds so many bytes each way.
    fn connect(pipe_bytes: usize) -> (Arc<Connection>, Node, JoinHandle<()>) {
        let (near, far) = duplex(pipe_bytes);
        let clock = Clock::start();
        let node_clock = NodeClock::new(clock.now(), clock.now(), MonotonicUs(0));
        let machine = Machine::new(node_clock, OVERDUE, TIMEOUT);
        let connection = Arc::new(Connection::new(machine, ROOM, clock, Arc::default()));
        let reader = ReplyReader::new(BytesMut::new(), 1 << 20);
        let task = tokio::spawn(drive(near, reader, Arc::clone(&connection)));
        (connection, Node { stream: far, input: BytesMut::new() }, task)
    }

    fn call<'a>(connection: &Connection, request: Request<'a>, weight: u32) -> Call<'a> {
        Call {
            request,
            expected: Expected::Value,
            answer: Answer::Always,
            want_version: WantVersion::No,
            epoch: ShortEpoch::default(),
            stand_in: StandIn::No,
            deadline: connection.clock.now().plus(TIMEOUT),
            weight,
        }
    }

    async fn submit(connection: &Arc<Connection>, key: &str) -> Result<Ticket, SubmitError> {
        let request = Request::Get { key: key.as_bytes(), least_version: None };
        let call = call(connection, request, 100);
        connection.submit(&call).await.map(|ticket| ticket.unwrap())
    }

    async fn get(connection: &Arc<Connection>, key: &str) -> Result<Vec<u8>, Error> {
        match submit(connection, key).await {
            Ok(ticket) => match ticket.await {
                Outcome::One(Ok(OwnedReply::Value(value))) => Ok(value.bytes.to_vec()),
                Outcome::One(Err(error)) => Err(error),
                other => panic!("unexpected {other:?}"),
            },
            Err(SubmitError::Failed(error)) => Err(error),
            Err(SubmitError::NotOpen) => panic!("the connection is not open"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_survive_a_pipe_of_one_byte() {
        let (connection, mut node, _task) = connect(1);
        for round in 0..20 {
            let key = format!("key {round}");
            let answering = async {
                let (id, key) = node.request().await;
                node.reply(id, &[key.as_slice(), b" is here"].concat()).await;
            };
            let (value, ()) = tokio::join!(get(&connection, &key), answering);
            assert_eq!(value.unwrap(), format!("{key} is here").as_bytes());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_times_out_when_its_time_is_over_and_not_before() {
        let (connection, mut node, _task) = connect(1_024);
        let started = tokio::time::Instant::now();
        let error = get(&connection, "key").await.unwrap_err();
        assert!(matches!(error, Error::Timeout { executed: Executed::Maybe }), "{error}");
        let took = started.elapsed();
        assert!(took >= TIMEOUT && took < TIMEOUT + Duration::from_millis(2), "{took:?}");

        // The late reply is thrown away, and the next caller gets its own.
        let (late, _) = node.request().await;
        let answering = async {
            let (id, _) = node.request().await;
            node.reply(late, b"late").await;
            node.reply(id, b"mine").await;
        };
        let (value, ()) = tokio::join!(get(&connection, "other"), answering);
        assert_eq!(value.unwrap(), b"mine");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_deadline_is_kept_behind_a_longer_one() {
        let (connection, _node, _task) = connect(1_024);
        let long = submit(&connection, "long").await.unwrap();
        let started = tokio::time::Instant::now();
        let request = Request::Get { key: b"short", least_version: None };
        let limit = Duration::from_millis(20);
        let short = Call {
            deadline: connection.clock.now().plus(limit),
            ..call(&connection, request, 100)
        };
        // Let the driver fall asleep with the longer timer first.
        tokio::task::yield_now().await;
        let short = connection.submit(&short).await.unwrap().unwrap();
        assert!(matches!(short.await, Outcome::One(Err(Error::Timeout { .. }))));
        assert!(started.elapsed() < limit + Duration::from_millis(2));
        assert!(matches!(long.await, Outcome::One(Err(Error::Timeout { .. }))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_node_is_given_up() {
        let (connection, _node, task) = connect(1_024);
        let started = tokio::time::Instant::now();
        drop(submit(&connection, "key").await.unwrap());
        task.await.unwrap();
        let took = started.elapsed();
        assert!(took >= TIMEOUT + OVERDUE && took < TIMEOUT + OVERDUE + Duration::from_millis(2));
        assert!(matches!(submit(&connection, "key").await, Err(SubmitError::NotOpen)));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_wait_for_room_until_their_deadline() {
        let (connection, mut node, _task) = connect(1_024);
        let mut tickets = Vec::new();
        for _ in 0..ROOM.requests {
            tickets.push(submit(&connection, "taken").await.unwrap());
        }
        // Nothing is answered: the next caller's request is never sent.
        let error = get(&connection, "waits").await.unwrap_err();
        assert!(matches!(error, Error::Timeout { executed: Executed::No }), "{error}");
        // Dropping the futures frees nothing, replies do.
        drop(tickets);
        let answering = async {
            for _ in 0..ROOM.requests {
                let (id, key) = node.request().await;
                assert_eq!(key, b"taken");
                node.reply(id, b"").await;
            }
            let (id, key) = node.request().await;
            node.reply(id, &key).await;
        };
        let (value, ()) = tokio::join!(get(&connection, "gets in"), answering);
        assert_eq!(value.unwrap(), b"gets in");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_wait_for_the_kernel_to_take_them() {
        // The pipe takes 64 bytes and nobody reads.
        let (connection, mut node, _task) = connect(64);
        let value = vec![b'v'; 2_000];
        let set = |key| {
            let (ttl, condition) = (Ttl::Default, SetCondition::Always);
            Request::Set(Set {
                key,
                value: &value,
                user_flags: 0,
                ttl,
                condition,
                old: OldValue::Omit,
            })
        };
        // Larger than all the room, it may go alone, and takes it all.
        let first = call(&connection, set(b"first"), 2_080);
        let first = connection.submit(&first).await.unwrap().unwrap();
        let second = call(&connection, set(b"second"), 2_080);
        let second = connection.submit(&second).await.unwrap_err();
        let SubmitError::Failed(Error::Timeout { executed: Executed::No }) = second else {
            panic!("unexpected {second:?}")
        };
        assert!(matches!(first.await, Outcome::One(Err(Error::Timeout { .. }))));
        assert_eq!(node.request().await.1, b"first");
        let third = call(&connection, set(b"third"), 2_080);
        drop(connection.submit(&third).await.unwrap());
        assert_eq!(node.request().await.1, b"third");
    }

    #[tokio::test(start_paused = true)]
    async fn good_replies_before_nonsense_are_delivered() {
        let (connection, mut node, task) = connect(1_024);
        let (first, second) =
            (submit(&connection, "a").await.unwrap(), submit(&connection, "b").await.unwrap());
        let (id, _) = node.request().await;
        node.reply(id, b"good").await;
        node.stream.write_all(b"nonsense").await.unwrap();
        assert!(matches!(first.await, Outcome::One(Ok(OwnedReply::Value(_)))));
        let Outcome::One(Err(Error::Disconnected { reason, executed })) = second.await else {
            panic!("the second request has a result")
        };
        assert!(matches!(reason, Disconnect::Protocol(ProtocolError::Garbled(_))));
        assert_eq!(executed, Executed::Maybe);
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_connection_ends_when_the_last_reply_is_there() {
        let (connection, mut node, task) = connect(1_024);
        let ticket = submit(&connection, "key").await.unwrap();
        connection.close();
        assert!(matches!(submit(&connection, "late").await, Err(SubmitError::NotOpen)));
        let (id, _) = node.request().await;
        node.reply(id, b"value").await;
        assert!(matches!(ticket.await, Outcome::One(Ok(OwnedReply::Value(_)))));
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_aborted_leaves_nobody_waiting() {
        let (connection, _node, task) = connect(1_024);
        let ticket = submit(&connection, "key").await.unwrap();
        task.abort();
        let Outcome::One(Err(Error::Disconnected { reason: Disconnect::Stopped, .. })) =
            ticket.await
        else {
            panic!("the request has a result")
        };
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_gives_its_memory_back() {
        let (connection, mut node, _task) = connect(1 << 20);
        for _ in 0..8 {
            let answering = async {
                let (id, _) = node.request().await;
                node.reply(id, &[0; 10_000]).await;
            };
            let (value, ()) = tokio::join!(get(&connection, "key"), answering);
            assert_eq!(value.unwrap().len(), 10_000);
        }
        tokio::time::sleep(TIMEOUT * 2).await;
        let guarded = connection.lock();
        assert!(guarded.machine.is_idle());
        assert_eq!(guarded.machine.timer(), LocalTime::NEVER);
        assert_eq!(guarded.machine.buffer_bytes(), 0);
    }
}
