//! Bytes of a connection to requests, and each request to the core that executes it.

use corelane_protocol::wire::{self, DecodeLimits, Decoded, Refusal, RequestFrame};
use corelane_protocol::{
    Answer, Hello, MonotonicUs, Reply, ReplyHead, Request, RequestHead, Status, WantVersion,
    Welcome, limits::KEY_BYTES_MAX, limits::VERSION,
};
use corelane_ring::{Core, CoreMap, slot_of};
use corelane_shard::{Key, Millis, ShardError};
use subtle::ConstantTimeEq;

use crate::batch::GetBatch;
use crate::config::EngineConfig;
use crate::connection::{Connection, Session};
use crate::execute::{Executor, millis, reply_head, write_failure};
use crate::limits::{MAIL_REPLY_BYTES_MAX, OUTPUT_BYTES_SCARCE, UNAUTHORIZED_BYTES_MAX};
use crate::timers::{Timer, Timers};

/// Everything of a core but its connections.
pub(crate) struct Dispatcher {
    pub(crate) executor: Executor,
    pub(crate) cores: CoreMap,
    pub(crate) timers: Timers,
    /// Reply bytes of all connections, waiting or being sent.
    pub(crate) pending_bytes: usize,
    limits: DecodeLimits,
    /// The core map as a welcome carries it.
    core_ranges: Vec<u8>,
}

/// Whether a frame was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was; the next one may follow.
    Whole,
    /// It was not, or only in part: it stays at the front of the connection's input.
    Not,
}

/// How far [`Dispatcher::dispatch`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that were dealt with.
    pub(crate) consumed: usize,
    /// Length of the frame that is only partly there, where that is why it stopped.
    pub(crate) incomplete: Option<usize>,
}

impl Dispatcher {
    pub(crate) fn new(config: EngineConfig) -> Result<Dispatcher, ShardError> {
        let cores = CoreMap::even(config.cores).expect("a node has between 1 and 16384 cores");
        let mut core_ranges = Vec::new();
        Welcome::encode_ranges(cores.ranges(), &mut core_ranges);
        Ok(Dispatcher {
            limits: DecodeLimits::agreed(KEY_BYTES_MAX, config.value_bytes_max),
            executor: Executor::new(config)?,
            cores,
            timers: Timers::default(),
            pending_bytes: 0,
            core_ranges,
        })
    }

    /// The length of a connection's output at which its next request waits.
    pub(crate) fn output_room(&self, connection: &Connection) -> usize {
        let cap = if self.pending_bytes < self.executor.config.output_bytes_total_max {
            self.executor.config.output_bytes_max
        } else {
            OUTPUT_BYTES_SCARCE
        };
        cap.saturating_sub(connection.pending() - connection.output.len())
    }

    /// Whether the next request of a connection may be taken.
    pub(crate) fn has_room(&self, connection: &Connection) -> bool {
        matches!(connection.session, Session::Fresh | Session::Open)
            && connection.output.len() + self.executor.leases.bytes() < self.output_room(connection)
            && !connection.remote.as_ref().is_some_and(|remote| remote.is_full())
    }

    /// Takes whole frames from the front of `bytes` for as long as there is room for
    /// their effects.
    pub(crate) fn dispatch(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        now: MonotonicUs,
    ) -> Progress {
        let at = millis(now);
        let mut batch = GetBatch::new(self.executor.key(b""));
        let mut consumed = 0;
        let mut incomplete = None;
        while self.has_room(connection) {
            let limits = self.limits_of(connection);
            match wire::decode_request(&bytes[consumed..], &limits) {
                Decoded::Complete { frame, consumed: length } => {
                    if let Some(key) = self.plain_get(connection, &frame, now) {
                        batch.push(key, reply_head(&frame.head), consumed);
                        consumed += length;
                        if batch.is_full()
                            && let Some(mark) = self.flush(&mut batch, connection, at)
                        {
                            consumed = mark;
                            break;
                        }
                        continue;
                    }
                    if let Some(mark) = self.flush(&mut batch, connection, at) {
                        consumed = mark;
                        break;
                    }
                    let raw = &bytes[consumed..consumed + length];
                    match self.request(connection, &frame, raw, now) {
                        Taken::Whole => consumed += length,
                        Taken::Not => break,
                    }
                }
                Decoded::Incomplete { needed } => {
                    incomplete = Some(needed);
                    break;
                }
                Decoded::Rejected { head, refusal, frame_bytes } => {
                    if let Some(mark) = self.flush(&mut batch, connection, at) {
                        consumed = mark;
                        break;
                    }
                    let here = frame_bytes.min(bytes.len() - consumed);
                    connection.skip = frame_bytes - here;
                    consumed += here;
                    self.reject(connection, &head, refusal);
                    if connection.skip > 0 {
                        break;
                    }
                }
                Decoded::Fatal { id, refusal } => {
                    if let Some(mark) = self.flush(&mut batch, connection, at) {
                        consumed = mark;
                        break;
                    }
                    self.executor.counters.garbled += 1;
                    let head = ReplyHead { id, ..ReplyHead::default() };
                    connection.refuse(head, refusal.status(), refusal.message());
                }
            }
        }
        if let Some(mark) = self.flush(&mut batch, connection, at) {
            return Progress { consumed: mark, incomplete: None };
        }
        Progress { consumed, incomplete }
    }

    /// Executes frames that another core sent, until the replies are long enough; how many
    /// bytes of them were executed. Their keys belong to this core.
    pub(crate) fn execute_mail(
        &mut self,
        frames: &[u8],
        now: MonotonicUs,
        replies: &mut Vec<u8>,
    ) -> usize {
        let at = millis(now);
        let mut batch = GetBatch::new(self.executor.key(b""));
        let mut executed = 0;
        while executed < frames.len()
            && replies.len() + self.executor.leases.bytes() < MAIL_REPLY_BYTES_MAX
        {
            let Decoded::Complete { frame, consumed } =
                wire::decode_request(&frames[executed..], &self.limits)
            else {
                unreachable!("cores send each other whole frames that one of them decoded");
            };
            let plain = match frame.request {
                Request::Get { key, least_version: None } if is_plain(&frame.head, now) => {
                    Some(key)
                }
                _ => None,
            };
            if let Some(key) = plain {
                batch.push(self.executor.key(key), reply_head(&frame.head), executed);
            }
            if (batch.is_full() || plain.is_none())
                && let Some(mark) = self.flush_mail(&mut batch, at, replies)
            {
                return mark;
            }
            if plain.is_none() {
                self.executor.counters.forwarded_in += 1;
                self.execute_here(&frame.head, &frame.request, now, replies);
            }
            executed += consumed;
        }
        self.flush_mail(&mut batch, at, replies).unwrap_or(executed)
    }

    /// Gets that are put back are not counted: they come again.
    fn flush_mail(
        &mut self,
        batch: &mut GetBatch<'_>,
        at: Millis,
        replies: &mut Vec<u8>,
    ) -> Option<usize> {
        let reads_before = self.executor.counters.requests_get;
        let put_back = batch.flush(&mut self.executor, at, replies, MAIL_REPLY_BYTES_MAX);
        let counters = &mut self.executor.counters;
        counters.forwarded_in += counters.requests_get - reads_before;
        put_back
    }

    /// Executes on this core what concerns the whole of it, or one of its keys.
    pub(crate) fn execute_here(
        &mut self,
        head: &RequestHead,
        request: &Request<'_>,
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) {
        match *request {
            Request::Flush { delay_ms } if delay_ms > 0 => {
                let due = Millis(millis(now).0 + u64::from(delay_ms));
                self.timers.arm(Timer::Flush, due);
                if head.answer == Answer::Always {
                    wire::encode_reply(&reply_head(head), &Reply::Done { version: None }, out);
                }
            }
            _ => {
                if let Request::Flush { .. } = request {
                    // Each flush replaces the one that is waiting.
                    self.timers.disarm(Timer::Flush);
                }
                self.executor.execute(head, request, now, out);
            }
        }
    }

    fn here(&self) -> u16 {
        self.executor.config.core
    }

    fn limits_of(&self, connection: &Connection) -> DecodeLimits {
        if connection.session == Session::Fresh && self.executor.config.token.is_some() {
            DecodeLimits { frame_bytes_max: UNAUTHORIZED_BYTES_MAX, ..DecodeLimits::BEFORE_HELLO }
        } else {
            self.limits
        }
    }

    fn flush(
        &mut self,
        batch: &mut GetBatch<'_>,
        connection: &mut Connection,
        at: Millis,
    ) -> Option<usize> {
        let room = self.output_room(connection);
        batch.flush(&mut self.executor, at, &mut connection.output, room)
    }

    /// The key of a get that needs nothing but a lookup on this core.
    fn plain_get<'b>(
        &self,
        connection: &Connection,
        frame: &RequestFrame<'b>,
        now: MonotonicUs,
    ) -> Option<Key<'b>> {
        let Request::Get { key, least_version: None } = frame.request else { return None };
        if connection.session != Session::Open || !is_plain(&frame.head, now) {
            return None;
        }
        let slot = slot_of(key);
        (self.cores.core_of(slot).0 == self.here()).then(|| self.executor.key_in(slot, key))
    }

    fn request(
        &mut self,
        connection: &mut Connection,
        frame: &RequestFrame<'_>,
        raw: &[u8],
        now: MonotonicUs,
    ) -> Taken {
        let RequestFrame { head, request } = frame;
        if let Request::Hello(hello) = request {
            return self.hello(connection, head, hello, now);
        }
        if connection.session == Session::Fresh {
            if self.executor.config.token.is_some() {
                self.refuse_unauthorized(connection, head);
                return Taken::Whole;
            }
            connection.session = Session::Open;
        }
        match *request {
            Request::MultiGet(keys) => return self.multi_get(connection, head, keys, now),
            Request::Flush { .. } | Request::Stats => {
                if head.deadline.is_some_and(|deadline| deadline < now) {
                    self.executor.execute(head, request, now, &mut connection.output);
                } else {
                    self.everywhere(connection, head, request, now);
                }
            }
            _ => match request.key().map(|key| self.cores.core_of(slot_of(key))) {
                Some(Core(owner)) if owner != self.here() => {
                    self.executor.counters.forwarded_out += 1;
                    let remote = connection.remote.get_or_insert_default();
                    remote.queue(owner).extend_from_slice(raw);
                }
                _ => self.execute_here(head, request, now, &mut connection.output),
            },
        }
        Taken::Whole
    }

    fn reject(&mut self, connection: &mut Connection, head: &RequestHead, refusal: Refusal) {
        if connection.session == Session::Fresh && self.executor.config.token.is_some() {
            return self.refuse_unauthorized(connection, head);
        }
        self.executor.counters.failures += 1;
        if head.answer == Answer::Always {
            let output = &mut connection.output;
            write_failure(output, reply_head(head), refusal.status(), refusal.message());
        }
    }

    fn refuse_unauthorized(&mut self, connection: &mut Connection, head: &RequestHead) {
        self.executor.counters.unauthorized += 1;
        let head = ReplyHead { id: head.id, ..ReplyHead::default() };
        connection.refuse(head, Status::Unauthorized, "this node wants a token in the hello");
    }

    fn hello(
        &mut self,
        connection: &mut Connection,
        head: &RequestHead,
        hello: &Hello<'_>,
        now: MonotonicUs,
    ) -> Taken {
        let config = &self.executor.config;
        let head = ReplyHead { id: head.id, ..ReplyHead::default() };
        if connection.session != Session::Fresh {
            self.executor.counters.failures += 1;
            let message = "hello must be the first request of a connection";
            write_failure(&mut connection.output, head, Status::Invalid, message);
            return Taken::Whole;
        }
        let authorized =
            config.token.as_ref().is_none_or(|token| bool::from(token.ct_eq(hello.token)));
        if !authorized {
            self.executor.counters.unauthorized += 1;
            connection.refuse(head, Status::Unauthorized, "wrong token");
            return Taken::Whole;
        }
        if hello.version == 0 {
            let message = "this node speaks version 1";
            connection.refuse(head, Status::UnsupportedVersion, message);
            return Taken::Whole;
        }
        match hello.core {
            Some(core) if core >= config.cores => {
                connection.refuse(head, Status::NoSuchCore, "the node has fewer cores");
                return Taken::Whole;
            }
            Some(core) if core != config.core => {
                // The hello stays in the input and is answered over there.
                connection.session = Session::HandingOver { to: core };
                return Taken::Not;
            }
            _ => {}
        }
        connection.session = Session::Open;
        let welcome = Welcome {
            version: hello.version.min(VERSION),
            core: config.core,
            cores: config.cores,
            key_bytes_max: KEY_BYTES_MAX as u16,
            value_bytes_max: config.value_bytes_max as u32,
            clock: now,
            node_name: config.node_name.as_bytes(),
            core_ranges: &self.core_ranges,
        };
        wire::encode_reply(&head, &Reply::Welcome(welcome), &mut connection.output);
        Taken::Whole
    }
}

/// Whether a get needs nothing but a lookup and its value.
pub(crate) fn is_plain(head: &RequestHead, now: MonotonicUs) -> bool {
    head.want_version == WantVersion::No && head.deadline.is_none_or(|deadline| deadline >= now)
}
