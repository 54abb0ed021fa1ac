//! Bytes of a connection to requests, and each request to the core that executes it.

use std::sync::Arc;

use corelane_protocol::wire::{self, DecodeLimits, Decoded, Refusal, RequestFrame};
use corelane_protocol::{
    Answer, Hello, MonotonicUs, Reply, ReplyHead, Request, RequestHead, Space, StandIn, Status,
    Welcome, limits::HEADER_BYTES, limits::KEY_BYTES_MAX, limits::STAND_IN_TTL_MS_MAX,
    limits::VERSION,
};
use corelane_ring::{Core, Slot, slot_of};
use corelane_shard::{Millis, ShardError};
use subtle::ConstantTimeEq;

use crate::ahead::{Coming, Known, Lookahead, Owner, Place, Plain, owner_at, owner_of};
use crate::cluster::ClusterView;
use crate::config::EngineConfig;
use crate::connection::{Connection, Expected, Session, Wait};
use crate::execute::{Executor, millis, reply_head, takes_memory, write_failure};
use crate::forward::Remote;
use crate::front::{Clients, Desk, Greeting, WallClock, commands_ahead};
use crate::intake::Admission;
use crate::limits::{MAIL_REPLY_BYTES_MAX, OUTPUT_BYTES_SCARCE, UNAUTHORIZED_BYTES_MAX};
use crate::load::Load;
use crate::new_slots::NewSlots;
use crate::slots::{Left, Slots};
use crate::spare::Spare;
use crate::timers::{Timer, Timers};

/// Everything of a core but its connections.
pub(crate) struct Dispatcher {
    pub(crate) executor: Executor,
    pub(crate) timers: Timers,
    pub(crate) slots: Slots,
    /// Reply bytes of all connections, waiting or being sent.
    pub(crate) pending_bytes: usize,
    pub(crate) load: Load,
    /// Counts turns.
    pub(crate) turn: u32,
    /// Half frames that connections are in the middle of.
    pub(crate) inputs: Admission,
    /// Bytes of half frames on connections that were promised less.
    pub(crate) half_bytes: usize,
    /// Bytes of requests that wait for room for their replies, or for their turn.
    pub(crate) backlog_bytes: usize,
    pub(crate) limits: DecodeLimits,
    pub(crate) ahead: Lookahead,
    pub(crate) spare: Spare,
    /// What connections that speak a dialect share.
    pub(crate) desk: Desk,
}

/// Whether a frame was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was; the next one may follow.
    Whole,
    /// It was not, or only in part: it stays at the front of the connection's input.
    Not,
}

/// By which topology a request was routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    /// By the one in force here.
    AsHere,
    /// By another, or none.
    Otherwise,
}

impl Routed {
    #[inline]
    fn by(head: &RequestHead, slots: &Slots) -> Routed {
        match head.epoch == slots.epoch() {
            true => Routed::AsHere,
            false => Routed::Otherwise,
        }
    }
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
        Ok(Dispatcher {
            load: Load::new(config.now),
            turn: 0,
            half_bytes: 0,
            backlog_bytes: 0,
            inputs: Admission::new(config.input_bytes_total_max),
            limits: DecodeLimits::agreed(KEY_BYTES_MAX, config.value_bytes_max),
            slots: Slots::new(&config),
            desk: Desk::new(WallClock::new(config.now, config.unix_ms)),
            executor: Executor::new(config)?,
            timers: Timers::default(),
            pending_bytes: 0,
            ahead: Lookahead::default(),
            spare: Spare::default(),
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
        let held_bytes_max = self.executor.config.output_bytes_max;
        connection.dialect.as_ref().is_none_or(|dialect| dialect.has_room(held_bytes_max))
            && self.has_room_within(connection, self.output_room(connection))
    }

    /// The same for a given length of output, but for replies that a dialect's connection
    /// waits for.
    #[inline]
    pub(crate) fn has_room_within(&self, connection: &Connection, room: usize) -> bool {
        matches!(connection.session, Session::Fresh | Session::Open)
            && connection.output.len() + self.executor.leases.bytes() < room
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
        if connection.session == Session::Fresh
            && connection.dialect.is_none()
            && self.greet(connection, bytes, now) == Greeting::More
        {
            // One more byte may tell.
            return Progress { consumed: 0, incomplete: Some(bytes.len() + 1) };
        }
        if connection.dialect.is_some() {
            return self.dispatch_dialect(connection, bytes, now);
        }
        let mut consumed = 0;
        let mut incomplete = None;
        // Nothing that the requests of one connection do changes it meanwhile.
        let room = self.output_room(connection);
        self.ahead.enter(bytes, Space::default());
        while self.has_room_within(connection, room) {
            let limits = self.limits_of(connection);
            if connection.session == Session::Open {
                self.look_ahead(&bytes[consumed..]);
            }
            let mut answered = self.answer_gets(bytes, consumed, &mut connection.output, room, now);
            answered = self.forward_gets(bytes, answered, &mut connection.remote);
            if answered > consumed {
                consumed = answered;
                continue;
            }
            let owner = self.ahead.take(&bytes[consumed..], &self.executor.shard);
            match wire::decode_request(&bytes[consumed..], &limits) {
                Decoded::Complete { mut frame, consumed: length } => {
                    if self.awaits_room(&frame.request, owner) {
                        connection.wait = Wait::ForRoom;
                        break;
                    }
                    let routed = Routed::by(&frame.head, &self.slots);
                    let stale = self.slots.put_epoch(&mut frame.head);
                    self.executor.counters.stale_epochs += u64::from(stale);
                    if frame.head.deadline.is_some()
                        && self.is_refused(&frame, &mut connection.output)
                    {
                        consumed += length;
                        continue;
                    }
                    let raw = &bytes[consumed..consumed + length];
                    match self.request(connection, &frame, (owner, routed), raw, now) {
                        Taken::Whole => consumed += length,
                        Taken::Not => break,
                    }
                }
                Decoded::Incomplete { needed } => {
                    incomplete = Some(needed);
                    break;
                }
                Decoded::Rejected { head, refusal, frame_bytes } => {
                    let here = frame_bytes.min(bytes.len() - consumed);
                    connection.skip = frame_bytes - here;
                    consumed += here;
                    self.reject(connection, &head, refusal);
                    if connection.skip > 0 {
                        break;
                    }
                }
                Decoded::Fatal { id, refusal } => {
                    self.executor.counters.garbled += 1;
                    let head = ReplyHead { id, ..ReplyHead::default() };
                    connection.refuse(head, refusal.status(), refusal.message());
                }
            }
        }
        self.ahead.leave();
        Progress { consumed, incomplete }
    }

    /// Executes frames that another core sent, until the replies are long enough; how many
    /// bytes of them were executed. Their keys belong to this core, unless the topology changed
    /// on their way.
    pub(crate) fn execute_mail(
        &mut self,
        frames: &[u8],
        now: MonotonicUs,
        clients: &mut impl Clients,
        replies: &mut Vec<u8>,
    ) -> usize {
        let mut executed = 0;
        self.ahead.enter(frames, Space::default());
        while executed < frames.len()
            && replies.len() + self.executor.leases.bytes() < MAIL_REPLY_BYTES_MAX
        {
            self.look_ahead(&frames[executed..]);
            let reads_before = self.executor.counters.requests_get;
            executed = self.answer_gets(frames, executed, replies, MAIL_REPLY_BYTES_MAX, now);
            let counters = &mut self.executor.counters;
            counters.forwarded_in += counters.requests_get - reads_before;
            if counters.requests_get > reads_before {
                continue;
            }
            let owner = self.ahead.take(&frames[executed..], &self.executor.shard);
            let Decoded::Complete { mut frame, consumed } =
                wire::decode_request(&frames[executed..], &DecodeLimits::BETWEEN_CORES)
            else {
                // The front of a large set.
                break;
            };
            if self.awaits_room(&frame.request, owner) {
                break;
            }
            let routed = Routed::by(&frame.head, &self.slots);
            self.slots.put_epoch(&mut frame.head);
            self.executor.counters.forwarded_in += 1;
            if let Request::Clients { errand, filter } = frame.request {
                clients.run(&frame.head, errand, filter, now, replies);
                executed += consumed;
                continue;
            }
            if frame.head.deadline.is_some() && self.is_refused(&frame, replies) {
                executed += consumed;
                continue;
            }
            let mut owner = owner.or_else(|| self.owner(&frame.request));
            owner = owner.map(|owner| self.or_in_place(&frame.head, &frame.request, owner));
            match (owner, frame.request) {
                (None | Some(Owner::Here(_)), _) => self.execute_own(&frame, owner, now, replies),
                (Some(Owner::Elsewhere(_)), Request::GetLeft { key }) => {
                    if self.get_left(&frame.head, key, routed, now, replies).is_some() {
                        // The sender has yet to hear of the last topology, or this core has.
                        write_failure(replies, reply_head(&frame.head), Status::Loading, "");
                    }
                }
                // The sender has another topology than this core, or had when it sent.
                (Some(Owner::Core(_) | Owner::Elsewhere(_)), _) => {
                    let slot = frame.request.key().map(slot_of).expect("it has an owner");
                    self.turn_away(&frame.head, slot, replies);
                }
            }
            executed += consumed;
        }
        self.ahead.leave();
        executed
    }

    /// Looks ahead at the requests in pieces that are about to be dealt with, in their order,
    /// the next one first.
    #[inline]
    pub(crate) fn foresee<'a>(
        &mut self,
        pieces: impl Iterator<Item = Option<(Expected, &'a [u8])>>,
        now: MonotonicUs,
    ) {
        let moment = self.moment(now);
        let Dispatcher { ahead, executor, slots, limits, .. } = self;
        ahead.look_at_pieces(pieces, |ahead, piece| {
            let Some((expected, bytes)) = piece else { return };
            let bytes = ahead.unwalked(bytes);
            match expected {
                Expected::Frame => {
                    ahead.look(executor, &slots.cores, frames_ahead(bytes, limits));
                }
                Expected::Command(manner) => {
                    let commands = commands_ahead(bytes, &manner, moment);
                    ahead.look(executor, &slots.cores, commands);
                }
            }
        });
    }

    /// The same for the frames of batches from other cores.
    #[inline]
    pub(crate) fn foresee_mails<'a>(&mut self, batches: impl Iterator<Item = Option<&'a [u8]>>) {
        let Dispatcher { ahead, executor, slots, .. } = self;
        ahead.look_at_pieces(batches, |ahead, batch| {
            let Some(frames) = batch else { return };
            let frames = frames_ahead(ahead.unwalked(frames), &DecodeLimits::BETWEEN_CORES);
            ahead.look(executor, &slots.cores, frames);
        });
    }

    /// Looks ahead at frames of what is left of a piece, if it is time.
    #[inline]
    fn look_ahead(&mut self, rest: &[u8]) {
        if let Some(bytes) = self.ahead.wants_more(rest) {
            let frames = frames_ahead(bytes, &self.limits);
            self.ahead.look(&self.executor, &self.slots.cores, frames);
        }
    }

    /// Answers the gets of nothing but the value that are next, by what looking ahead found out,
    /// until `out` is `room` long. Returns where the next request begins.
    fn answer_gets(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        out: &mut Vec<u8>,
        room: usize,
        now: MonotonicUs,
    ) -> usize {
        let Dispatcher { executor, ahead, slots, .. } = self;
        let time = millis(now);
        while out.len() + executor.leases.bytes() < room
            && let Some(known) = ahead.next(&bytes[at..])
            && let Known { plain: Plain::Get(get), owner: Owner::Here(key), .. } = known
        {
            let frame = &bytes[at..at + known.bytes];
            let mut head = RequestHead { id: get.id, epoch: get.epoch, ..RequestHead::default() };
            executor.counters.stale_epochs += u64::from(slots.put_epoch(&mut head));
            executor.get_plain(&reply_head(&head), &frame[HEADER_BYTES..], key, time, out);
            at += frame.len();
            ahead.advance(&executor.shard);
        }
        at
    }

    /// Forwards the gets of nothing but the value that are next and belong to other cores, until
    /// there is no room. Returns where the next request begins.
    fn forward_gets(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        remote: &mut Option<Box<Remote>>,
    ) -> usize {
        let Dispatcher { executor, ahead, spare, .. } = self;
        while let Some(known) = ahead.next(&bytes[at..])
            && let Known { plain: Plain::Get(_), owner: Owner::Core(core), .. } = known
        {
            let remote = remote.get_or_insert_default();
            if remote.is_full() {
                break;
            }
            let frame = &bytes[at..at + known.bytes];
            remote.queue(*core, spare).extend_from_slice(frame);
            executor.counters.forwarded_out += 1;
            at += frame.len();
            ahead.advance(&executor.shard);
        }
        at
    }

    /// Whether a request of this core waits until the shard has pages for it, which it makes in the
    /// slices of its housekeeping.
    #[inline]
    fn awaits_room(&self, request: &Request<'_>, owner: Option<Owner>) -> bool {
        self.executor.shard.is_short() && takes_memory(request) && {
            let owner = owner.or_else(|| self.owner(request));
            matches!(owner, None | Some(Owner::Here(_)))
        }
    }

    /// The same for the first of some frames, if it is there as a whole.
    pub(crate) fn first_awaits_room(&self, frames: &[u8]) -> bool {
        match wire::decode_request(frames, &DecodeLimits::BETWEEN_CORES) {
            Decoded::Complete { frame, .. } => self.awaits_room(&frame.request, None),
            _ => false,
        }
    }

    /// Whether a request with a deadline is not executed because it has queued too long, which
    /// is answered.
    fn is_refused(&mut self, frame: &RequestFrame<'_>, out: &mut Vec<u8>) -> bool {
        let concerns_data =
            frame.request.key().is_some() || matches!(frame.request, Request::MultiGet(_));
        concerns_data && self.is_head_refused(&frame.head, out)
    }

    /// The same, whatever the request.
    pub(crate) fn is_head_refused(&mut self, head: &RequestHead, out: &mut Vec<u8>) -> bool {
        let counters = &mut self.executor.counters;
        let Some(retry_after_us) = self.load.refuses(counters.executed()) else { return false };
        counters.busy += 1;
        if head.answer == Answer::Always {
            wire::encode_reply(&reply_head(head), &Reply::Busy { retry_after_us }, out);
        }
        true
    }

    /// Executes a request of this core.
    #[inline]
    fn execute_own(
        &mut self,
        frame: &RequestFrame<'_>,
        owner: Option<Owner>,
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) {
        let RequestFrame { head, request } = frame;
        if head.stand_in == StandIn::Yes {
            let request = self.in_place(head, *request);
            return self.execute_here(head, &request, now, out);
        }
        if let Some(Owner::Here(known)) = &owner
            && self.executor.execute_plain(head, request, known, now, out)
        {
            return;
        }
        self.execute_here(head, request, now, out);
    }

    /// Who executes a native client's request, if it has a key.
    pub(crate) fn owner(&self, request: &Request<'_>) -> Option<Owner> {
        Some(self.owner_of(request.key()?))
    }

    /// Who executes native clients' requests for a key.
    #[inline]
    pub(crate) fn owner_of(&self, key: &[u8]) -> Owner {
        owner_of(&self.executor, &self.slots.cores, Space::default(), key)
    }

    /// Who executes a native client's request: where its slot is another node's, and it asks for
    /// that, the core that does so in the owner's place.
    #[inline]
    pub(crate) fn or_in_place(
        &self,
        head: &RequestHead,
        request: &Request<'_>,
        owner: Owner,
    ) -> Owner {
        match (owner, request) {
            (_, Request::GetLeft { .. } | Request::FlushSlot { .. }) => owner,
            (Owner::Elsewhere(slot), _) if head.stand_in == StandIn::Yes => {
                let core = self.slots.in_place(slot);
                core.zip(request.key())
                    .map_or(owner, |(core, key)| owner_at(&self.executor, core.0, head.space, key))
            }
            _ => owner,
        }
    }

    /// A request of this core as it is to be executed, which it may be in the owner's place.
    pub(crate) fn in_place<'a>(&mut self, head: &RequestHead, request: Request<'a>) -> Request<'a> {
        if head.stand_in == StandIn::No {
            return request;
        }
        let stands_in = request.key().is_some_and(|key| self.slots.stand_in(slot_of(key)));
        self.executor.counters.stood_in += u64::from(stands_in);
        if stands_in { request.living_at_most(STAND_IN_TTL_MS_MAX) } else { request }
    }

    /// Puts a later topology in force.
    pub(crate) fn set_cluster(&mut self, view: Arc<ClusterView>, now: MonotonicUs) {
        let came = self.slots.replace(Arc::clone(&view));
        self.executor.changes.new_slots = None;
        match view.warm_up_ms() {
            Some(warm_up_ms) => {
                let due = Millis(millis(now).0.saturating_add(warm_up_ms));
                self.timers.arm(Timer::WarmUp, due);
                if !came.is_empty() {
                    let new_slots = NewSlots::new(view, came);
                    self.executor.changes.new_slots = Some(Box::new(new_slots));
                }
            }
            None => self.timers.disarm(Timer::WarmUp),
        }
    }

    /// Slots that came are like all others from now on, and those that left are emptied.
    pub(crate) fn end_warm_up(&mut self) {
        self.executor.changes.new_slots = None;
        self.slots.let_go();
    }

    /// Deals with a request for what is left of a slot, which this core does not serve. Returns the
    /// core that has it, if that is another one.
    fn get_left(
        &mut self,
        head: &RequestHead,
        key: &[u8],
        routed: Routed,
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) -> Option<Core> {
        let slot = slot_of(key);
        let too_late = head.deadline.is_some_and(|deadline| deadline < now);
        match (self.slots.left(slot), routed) {
            (Left::Core(core), _) => return Some(core),
            _ if too_late => write_failure(out, reply_head(head), Status::TooLate, ""),
            (Left::NotYet, _) | (_, Routed::Otherwise) => {
                let message = "another topology is in force here";
                write_failure(out, reply_head(head), Status::Loading, message);
            }
            (Left::Here, Routed::AsHere) => self.executor.get_left(head, slot, key, now, out),
            (Left::Gone, Routed::AsHere) => {
                write_failure(out, reply_head(head), Status::NotFound, "");
            }
        }
        None
    }

    /// Answers a request whose slot is not served here with where it belongs.
    #[cold]
    pub(crate) fn turn_away(&mut self, head: &RequestHead, slot: Slot, out: &mut Vec<u8>) {
        self.executor.counters.turned_away += 1;
        if head.answer == Answer::Never {
            return;
        }
        let is_late = head.stand_in == StandIn::Yes && self.slots.has_rest_of(slot);
        match self.slots.redirect(slot) {
            Some(_) if is_late => {
                let message = "what is left of the slot is yet to be removed";
                write_failure(out, reply_head(head), Status::Loading, message);
            }
            Some(redirect) => {
                wire::encode_reply(&reply_head(head), &Reply::Redirect(redirect), out);
            }
            None => {
                let message = "the slot is on its way to a core of this node";
                write_failure(out, reply_head(head), Status::Loading, message);
            }
        }
    }

    /// The topology in force, where it is later than the one that the client has.
    fn tell_topology(&mut self, head: &RequestHead, held_epoch: u64, out: &mut Vec<u8>) {
        self.executor.counters.requests_other += 1;
        let reply = match self.slots.table_after(held_epoch) {
            Some(table) => Reply::Topology { table },
            None => Reply::Done { version: None },
        };
        wire::encode_reply(&reply_head(head), &reply, out);
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
            Request::FlushSlot { key } if head.deadline.is_none_or(|deadline| deadline >= now) => {
                let slot = slot_of(key);
                self.executor.counters.requests_other += 1;
                if let Some(new_slots) = &mut self.executor.changes.new_slots {
                    new_slots.touch_all(slot);
                }
                self.slots.empty(slot);
                if head.answer == Answer::Always {
                    wire::encode_reply(&reply_head(head), &Reply::Done { version: None }, out);
                }
            }
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

    fn limits_of(&self, connection: &Connection) -> DecodeLimits {
        if connection.session == Session::Fresh && self.executor.config.token.is_some() {
            DecodeLimits { frame_bytes_max: UNAUTHORIZED_BYTES_MAX, ..DecodeLimits::BEFORE_HELLO }
        } else {
            self.limits
        }
    }

    fn request(
        &mut self,
        connection: &mut Connection,
        frame: &RequestFrame<'_>,
        (owner, routed): (Option<Owner>, Routed),
        raw: &[u8],
        now: MonotonicUs,
    ) -> Taken {
        if let Some(Owner::Here(_)) = owner {
            self.execute_own(frame, owner, now, &mut connection.output);
            return Taken::Whole;
        }
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
            Request::Topology { held_epoch } => {
                self.tell_topology(head, held_epoch, &mut connection.output);
            }
            Request::MultiGet(keys) => return self.multi_get(connection, head, keys, now),
            Request::Flush { .. } | Request::Stats => {
                if head.deadline.is_some_and(|deadline| deadline < now) {
                    self.executor.execute(head, request, now, &mut connection.output);
                } else {
                    self.everywhere(connection, head, request, now);
                }
            }
            _ => {
                let mut owner = owner.or_else(|| self.owner(request));
                if let (Some(Owner::Elsewhere(_)), Request::GetLeft { key }) = (owner, request) {
                    match self.get_left(head, key, routed, now, &mut connection.output) {
                        Some(core) => owner = Some(Owner::Core(core.0)),
                        None => return Taken::Whole,
                    }
                }
                match owner.map(|owner| self.or_in_place(head, request, owner)) {
                    Some(Owner::Elsewhere(slot)) => {
                        self.turn_away(head, slot, &mut connection.output);
                    }
                    Some(Owner::Core(core)) => {
                        self.executor.counters.forwarded_out += 1;
                        let remote = connection.remote.get_or_insert_default();
                        remote.queue(core, &mut self.spare).extend_from_slice(raw);
                    }
                    _ => self.execute_own(frame, owner, now, &mut connection.output),
                }
            }
        }
        Taken::Whole
    }

    pub(crate) fn reject(
        &mut self,
        connection: &mut Connection,
        head: &RequestHead,
        refusal: Refusal,
    ) {
        if connection.session == Session::Fresh && self.executor.config.token.is_some() {
            return self.refuse_unauthorized(connection, head);
        }
        self.executor.counters.failures += 1;
        if head.answer == Answer::Always {
            let output = &mut connection.output;
            let mut head = *head;
            self.slots.put_epoch(&mut head);
            write_failure(output, reply_head(&head), refusal.status(), refusal.message());
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
            Some(_) => self.executor.counters.connections_steered += 1,
            None => {}
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
            core_ranges: self.slots.core_ranges(),
        };
        let head = ReplyHead { epoch: self.slots.epoch(), ..head };
        wire::encode_reply(&head, &Reply::Welcome(welcome), &mut connection.output);
        Taken::Whole
    }
}

/// Frames of native clients, as far as they may be looked ahead at.
#[inline]
fn frames_ahead<'a>(run: &'a [u8], limits: &DecodeLimits) -> impl Iterator<Item = Coming<'a>> {
    let space = Space::default();
    wire::look_ahead(run, limits).map(move |frame| {
        let wire::FrameAhead { at, bytes, key, plain_get } = frame;
        let plain = plain_get.map_or(Plain::No, Plain::Get);
        Coming { at: Place::of(&run[at..]), bytes, space, key, plain }
    })
}
