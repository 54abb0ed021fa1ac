//! The engine: inputs from the world, effects to an [`Output`].

use std::sync::Arc;

use corelane_dialect::Addresses;
use corelane_protocol::{
    MonotonicUs, Reply, ReplyHead, RequestId, ShortEpoch, Status, limits::NOTICE_ID, wire,
};
use corelane_ring::Core;
use corelane_shard::{Millis, Prefaulter, ShardError, TickOutcome};

use crate::config::{EngineConfig, Tuning};
use crate::connection::{
    Background, Connection, ConnectionId, Connections, Handover, Kept, Reading, Session, Wait,
};
use crate::counters::Counters;
use crate::dispatch::Dispatcher;
use crate::execute::{millis, uploads_bytes_max, write_failure};
use crate::forward::Credits;
use crate::front::WallClock;
use crate::inbound::{Batch, Inbound};
use crate::limits::{
    DRAIN_QUIET_MS, INPUT_BYTES_SMALL, LINGER_MS_MAX, REPLIES_HELD_BYTES, SWEEP_CONNECTIONS,
    SWEEP_INTERVAL_MS, UPLOAD_PROGRESS_BYTES,
};
use crate::output::{Closing, Output};
use crate::packet::Leases;
use crate::spare::Spare;
use crate::timers::Timer;
use crate::{Asker, ClusterView, Mail, Packet, Wish};

/// How receiving on a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveEnd {
    /// The peer shut its side down; what it sent before is still answered.
    PeerFinished,
    /// The connection is broken.
    Broken,
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendEnd {
    /// All of it went out.
    Whole,
    /// The connection is broken.
    Failed,
}

/// What [`Engine::ask`] gives back.
#[derive(Debug)]
pub struct Answered {
    /// Whole reply frames, in the order of the requests, over all packets.
    pub packets: Vec<Packet>,
    /// The requests from the end that were not executed, because the replies before them are
    /// long enough, or the shard makes room first: to be asked again, after a turn.
    pub rest: Vec<u8>,
}

/// When [`Engine::tick`] wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agenda {
    /// In the next turn: work was left for want of time.
    Now,
    /// At this moment.
    At(MonotonicUs),
}

/// One core. See the crate's documentation for how to call it.
pub struct Engine {
    pub(crate) connections: Connections,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) credits: Credits,
    /// Batches of other cores that are not done.
    pub(crate) inbound: Inbound,
    /// Connections for whose large values, or next requests, the shard makes room.
    pub(crate) wanting_room: Vec<ConnectionId>,
    /// Connections that have had their share of the turn.
    pub(crate) wanting_turn: Vec<ConnectionId>,
    /// Other cores that have begun with a large value whose rest will not come, and whose it is.
    pub(crate) abandoned: Vec<(u16, ConnectionId)>,
    /// Connections with something to hand out at the next flush.
    listed: Vec<ConnectionId>,
    /// Where the next sweep goes on.
    sweep_at: u32,
    /// Set once the node is shutting down: since when.
    draining: Option<Millis>,
    /// Connections whose walk over the keys goes on in the next turn.
    walkers: Vec<ConnectionId>,
    /// See [`Engine::awaits_sends`].
    awaits_sends: bool,
}

impl Engine {
    /// # Errors
    /// The shard cannot be made: the budget is too small, or memory cannot be reserved.
    ///
    /// # Panics
    /// The configuration has no cores, or more than there are slots.
    pub fn new(config: EngineConfig) -> Result<Engine, ShardError> {
        let credits = Credits::new(config.cores);
        let start = millis(config.now);
        let mut dispatcher = Dispatcher::new(config)?;
        dispatcher.timers.arm(Timer::Sweep, Millis(start.0 + SWEEP_INTERVAL_MS));
        Ok(Engine {
            connections: Connections::default(),
            dispatcher,
            credits,
            inbound: Inbound::default(),
            wanting_room: Vec::new(),
            wanting_turn: Vec::new(),
            abandoned: Vec::new(),
            listed: Vec::new(),
            sweep_at: 0,
            draining: None,
            walkers: Vec::new(),
            awaits_sends: false,
        })
    }

    /// Makes room in the tables for so many connections at once. More are taken as well, but
    /// tables that grow stall a turn.
    pub fn reserve_connections(&mut self, count: usize) {
        self.connections.reserve(count);
    }

    /// A turn begins: inputs follow, all of them of this moment. They may have waited since
    /// `queued_since`: the beginning of the last turn, or now if there was nothing to do.
    pub fn begin_turn(&mut self, now: MonotonicUs, queued_since: MonotonicUs) {
        let executed = self.dispatcher.executor.counters.executed();
        self.dispatcher.load.begin_turn(now, queued_since, executed);
        self.dispatcher.turn = self.dispatcher.turn.wrapping_add(1);
        self.dispatcher.ahead.forget();
    }

    /// A connection came in, or over from another core; what that one had received comes
    /// next, as [`Engine::received`].
    pub fn opened(&mut self, now: MonotonicUs) -> ConnectionId {
        let id = self.admit(now);
        if self.draining.is_some() {
            self.say_goodbye(id);
        }
        id
    }

    /// Where a connection comes from, for clients that ask.
    pub fn set_addresses(&mut self, id: ConnectionId, addresses: Addresses) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.background.addresses = addresses;
        }
    }

    fn admit(&mut self, now: MonotonicUs) -> ConnectionId {
        let config = &self.dispatcher.executor.config;
        let (core, cores) = (u64::from(config.core), u64::from(config.cores));
        let counters = self.counters_mut();
        counters.connections_opened += 1;
        counters.connections_open += 1;
        let number = counters.connections_opened * cores + core;
        let addresses = Addresses::Unknown;
        self.connections.insert(Background {
            number,
            since: millis(now),
            addresses,
            taken_by_peer: 0,
        })
    }

    /// A connection came in for which there is no room: it is told so, and closed once it has
    /// heard.
    pub fn refused(&mut self, now: MonotonicUs) -> ConnectionId {
        let id = self.admit(now);
        self.counters_mut().connections_refused += 1;
        let connection = self.connections.get_mut(id).expect("it was just inserted");
        connection.refuse(NOTICE, Status::TooManyConnections, FULL);
        self.list(id);
        id
    }

    /// The wall clock, in milliseconds since 1970; told at times, since it may be set.
    pub fn set_wall_clock(&mut self, now: MonotonicUs, unix_ms: u64) {
        self.dispatcher.desk.wall_clock = WallClock::new(now, unix_ms);
    }

    /// What clients have asked of the node since the last call.
    pub fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.dispatcher.desk.wishes)
    }

    /// Answers a command that waits for what was asked of the node: whether it was done, or why
    /// not.
    pub fn granted(
        &mut self,
        asker: Asker,
        outcome: Result<(), &str>,
        now: MonotonicUs,
        output: &mut impl Output,
    ) {
        let id = asker.connection;
        let Some(connection) = self.connections.get_mut(id).filter(|it| !it.is_closing()) else {
            return;
        };
        let head = ReplyHead { id: RequestId(asker.serial), ..ReplyHead::default() };
        let mut frame = Vec::new();
        match outcome {
            Ok(()) => wire::encode_reply(&head, &Reply::Done { version: None }, &mut frame),
            Err(why) => write_failure(&mut frame, head, Status::Invalid, why),
        }
        self.dispatcher.landed(connection, frame, &mut Leases::default(), now);
        self.pump(id, &[], now);
        self.list(id);
        self.settle(id, now, output);
    }

    /// The next calls of [`Engine::received`], in this turn and this order, will bring these
    /// pieces: what they ask for is fetched into the processor's cache meanwhile. To be called
    /// before each of these calls, with all pieces that are left: it looks at as many as it
    /// has use for.
    #[inline]
    pub fn foresee<'a>(
        &mut self,
        arrivals: impl Iterator<Item = (ConnectionId, &'a [u8])>,
        now: MonotonicUs,
    ) {
        if !self.dispatcher.ahead.is_short() {
            return;
        }
        let connections = &mut self.connections;
        let pieces = arrivals.map(|(id, bytes)| {
            let expected = connections.get_mut(id)?.expected()?;
            Some((expected, bytes))
        });
        self.dispatcher.foresee(pieces, now);
    }

    /// Bytes arrived.
    pub fn received(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        now: MonotonicUs,
        output: &mut impl Output,
    ) {
        self.counters_mut().bytes_received += bytes.len() as u64;
        self.deal_with(id, bytes, now, output);
        self.dispatcher.ahead.end_piece();
    }

    fn deal_with(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        now: MonotonicUs,
        output: &mut impl Output,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.input_over {
            return;
        }
        connection.received_at = millis(now);
        let skipped = connection.skip.min(bytes.len());
        connection.skip -= skipped;
        if skipped > 0 {
            connection.input_since = millis(now);
        }
        self.pump(id, &bytes[skipped..], now);
        self.settle(id, now, output);
    }

    /// Nothing more will arrive.
    pub fn receive_ended(
        &mut self,
        id: ConnectionId,
        end: ReceiveEnd,
        now: MonotonicUs,
        output: &mut impl Output,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if matches!(connection.session, Session::HandingOver { .. }) {
            // The core that it moves to will find out.
            return;
        }
        match end {
            ReceiveEnd::PeerFinished => {
                connection.input_over = true;
                self.pump(id, &[], now);
            }
            ReceiveEnd::Broken => self.close(id, Closing::Now, output),
        }
        self.settle(id, now, output);
    }

    /// A send ended; its packet comes back.
    pub fn sent(
        &mut self,
        id: ConnectionId,
        packet: Packet,
        end: SendEnd,
        now: MonotonicUs,
        output: &mut impl Output,
    ) {
        self.dispatcher.spare.keep(packet.into_bytes());
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.sending = 0;
        account(connection, &mut self.dispatcher);
        match end {
            SendEnd::Whole => {
                self.pump(id, &[], now);
                self.list(id);
            }
            SendEnd::Failed => self.close(id, Closing::Now, output),
        }
        self.settle(id, now, output);
    }

    /// A connection is gone.
    pub fn closed(&mut self, id: ConnectionId) {
        if let Some(mut connection) = self.connections.remove(id) {
            self.forget(id, &mut connection);
            let counters = self.counters_mut();
            counters.connections_closed += 1;
            counters.connections_open -= 1;
        }
    }

    /// A connection that is to move to another core has stopped receiving.
    pub fn detached(&mut self, id: ConnectionId) -> Option<Handover> {
        let mut connection = self.connections.remove(id)?;
        self.counters_mut().connections_open -= 1;
        let Session::HandingOver { to } = connection.session else {
            unreachable!("only a connection being handed over is detached");
        };
        let received = std::mem::take(&mut connection.input);
        self.forget(id, &mut connection);
        self.counters_mut().connections_handed_over += 1;
        Some(Handover { to, received })
    }

    /// Executes requests that came over no connection. `frames` are of the form that the
    /// cores of a node exchange ([`corelane_protocol::wire::between_cores`]); their keys
    /// belong to this core.
    pub fn ask(&mut self, mut frames: Vec<u8>, now: MonotonicUs) -> Answered {
        let mut replies = Vec::new();
        let clients = &mut self.connections;
        let executed = self.dispatcher.execute_mail(&frames, now, clients, &mut replies);
        frames.drain(..executed);
        let mut packets = Vec::new();
        let mut leases = std::mem::take(&mut self.dispatcher.executor.leases);
        while !replies.is_empty() || leases.bytes() > 0 {
            packets.push(leases.packet(&mut replies));
        }
        Answered { packets, rest: frames }
    }

    /// The next calls of [`Engine::mail`], in this turn and this order, will bring these mails;
    /// see [`Engine::foresee`].
    #[inline]
    pub fn foresee_mails<'a>(&mut self, mails: impl Iterator<Item = &'a Mail>) {
        if !self.dispatcher.ahead.is_short() {
            return;
        }
        self.dispatcher.foresee_mails(mails.map(|mail| match mail {
            Mail::Execute { frames, .. } => Some(&frames[..]),
            _ => None,
        }));
    }

    /// Mail from another core.
    pub fn mail(&mut self, from: Core, mail: Mail, now: MonotonicUs, output: &mut impl Output) {
        self.counters_mut().mail_received += 1;
        self.open(from, mail, now, output);
        self.dispatcher.ahead.end_piece();
    }

    fn open(&mut self, from: Core, mail: Mail, now: MonotonicUs, output: &mut impl Output) {
        match mail {
            Mail::Execute { connection, frames } => {
                let replies = self.dispatcher.spare.take();
                let batch = Batch::new((from.0, connection), frames, replies);
                if let Some(batch) =
                    self.inbound.execute(batch, &mut self.dispatcher, &mut self.connections, now)
                {
                    self.answer(batch, output);
                }
            }
            Mail::Abandon { connection } => {
                let sender = (from.0, connection);
                if let Some(batch) = self.inbound.abandon(sender, &mut self.dispatcher) {
                    self.answer(batch, output);
                }
                self.counters_mut().mail_sent += 1;
                output.mail(from, Mail::Abandoned);
            }
            Mail::Abandoned => self.credits.give_back(from.0),
            Mail::Executed { connection: id, replies, leases, rest } => {
                let asker = self.connections.get_mut(id);
                if let Some(connection) = asker.filter(|c| !c.is_closing()) {
                    let mut leases = leases.map_or_else(Leases::default, |leases| leases.0);
                    if connection.dialect.is_some() {
                        let buffer = self.dispatcher.landed(connection, replies, &mut leases, now);
                        self.dispatcher.spare.keep(buffer);
                        if std::mem::take(&mut connection.walks) {
                            self.walkers.push(id);
                        }
                    } else {
                        connection.add_leases(connection.output.len(), &mut leases);
                        append(&mut connection.output, replies, &mut self.dispatcher.spare);
                    }
                    let remote = connection.remote.as_mut().expect("it sent the batch");
                    remote.landed(from.0, rest, &mut connection.output);
                    self.pump(id, &[], now);
                    self.list(id);
                    self.settle(id, now, output);
                }
                self.credits.give_back(from.0);
            }
        }
    }

    /// Housekeeping: expiry, eviction and compaction in slices, timers, draining.
    pub fn tick(&mut self, now: MonotonicUs, output: &mut impl Output) -> Agenda {
        let at = millis(now);
        while let Some(timer) = self.dispatcher.timers.due(at) {
            match timer {
                Timer::Flush => self.dispatcher.executor.flush(now),
                Timer::WarmUp => self.dispatcher.end_warm_up(),
                Timer::Sweep => {
                    self.sweep(now, output);
                    let interval = if self.draining.is_some() {
                        DRAIN_QUIET_MS / 4
                    } else {
                        SWEEP_INTERVAL_MS
                    };
                    self.dispatcher.timers.arm(Timer::Sweep, Millis(at.0 + interval));
                }
            }
        }
        self.walk_on(now, output);
        let leaving = self.dispatcher.slots.drop_leaving(&mut self.dispatcher.executor, now);
        let more = self.let_go_on(now, output);
        match self.dispatcher.executor.tick(now) {
            _ if leaving == TickOutcome::More || !self.walkers.is_empty() => Agenda::Now,
            TickOutcome::More => Agenda::Now,
            TickOutcome::Idle if more => Agenda::Now,
            TickOutcome::Idle => {
                let timer = self.dispatcher.timers.next();
                let expiry = self.dispatcher.executor.shard.next_expiry();
                let next = timer.into_iter().chain(expiry).min().expect("the sweep is armed");
                Agenda::At(MonotonicUs(next.0 * 1_000))
            }
        }
    }

    /// Hands replies and forwarded requests out; call it once after a batch of inputs.
    pub fn flush_output(&mut self, now: MonotonicUs, output: &mut impl Output) {
        if !self.abandoned.is_empty() {
            self.tell_abandoned(output);
        }
        self.awaits_sends = false;
        loop {
            self.call_waiting();
            if self.listed.is_empty() {
                return;
            }
            let mut listed = std::mem::take(&mut self.listed);
            for id in listed.drain(..) {
                self.hand_out(id, now, output);
            }
            // Settling lists nobody, so the emptied list can be used again.
            debug_assert!(self.listed.is_empty());
            self.listed = listed;
        }
    }

    /// Whether something goes on as soon as a send of the last flush is over: a connection
    /// that is full or about to close. Otherwise the world may tell of sends with whatever
    /// happens next, and need not be woken for them.
    pub fn awaits_sends(&self) -> bool {
        self.awaits_sends
    }

    /// Puts a later topology in force. What other nodes own from here on is answered with
    /// redirects at once, and dropped in slices by [`Engine::tick`], now or when its new owner has
    /// had the time to be warmed from here.
    pub fn set_cluster(&mut self, view: Arc<ClusterView>, now: MonotonicUs) {
        self.dispatcher.set_cluster(view, now);
    }

    /// Starts to shut down: tells every client, answers what has arrived, and closes each
    /// connection once nothing more comes from it, all within the configured time.
    pub fn drain(&mut self, now: MonotonicUs) {
        if self.draining.is_some() {
            return;
        }
        self.draining = Some(millis(now));
        self.dispatcher.timers.arm(Timer::Sweep, millis(now));
        for index in 0..self.connections.places() {
            if let Some(id) = self.connections.at(index) {
                self.say_goodbye(id);
            }
        }
    }

    /// Changes settings. A shard that holds more than it may from now on gets there in slices.
    pub fn retune(&mut self, tuning: Tuning) {
        let executor = &mut self.dispatcher.executor;
        executor.shard.set_policy(tuning.policy);
        executor.shard.set_budget(tuning.shard_bytes);
        executor.config.output_bytes_total_max = tuning.output_bytes_total_max;
        executor.config.backlog_bytes_total_max = tuning.backlog_bytes_total_max;
        executor.config.input_bytes_total_max = tuning.input_bytes_total_max;
        executor.uploads.set_bytes_max(uploads_bytes_max(tuning.shard_bytes));
        self.dispatcher.inputs.set_bytes_max(tuning.input_bytes_total_max);
    }

    /// What faults this core's memory in from another thread.
    pub fn prefaulter(&self) -> Prefaulter {
        self.dispatcher.executor.shard.prefaulter()
    }

    /// Whether no connection is left.
    pub fn is_empty(&self) -> bool {
        self.connections.count() == 0
    }

    /// The core's numbers, gauges brought up to date.
    pub fn counters(&mut self) -> &Counters {
        let executor = &mut self.dispatcher.executor;
        executor.refresh_gauges();
        let counters = &mut executor.counters;
        counters.output_bytes_pending = self.dispatcher.pending_bytes as u64;
        counters.queue_delay_us = self.dispatcher.load.queued_us();
        counters.upload_bytes_promised = executor.uploads.promised() as u64;
        counters.input_bytes_promised = self.dispatcher.inputs.promised() as u64;
        counters.connections_deferred = self.wanting_turn.len() as u64;
        counters.input_bytes_held = self.dispatcher.half_bytes as u64;
        counters.backlog_bytes = self.dispatcher.backlog_bytes as u64;
        self.dispatcher.slots.count(counters);
        counters
    }

    /// The same, for what the world around the engine counts.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.dispatcher.executor.counters
    }

    /// Batches of requests at other cores that have not come back, and notices to them that
    /// have not left.
    pub fn mail_under_way(&self) -> usize {
        self.credits.in_use() + self.abandoned.len()
    }

    /// Walks the shard and panics where one of its invariants is broken; for tests.
    pub fn invariants(&self) {
        self.dispatcher.executor.shard.invariants();
        for index in 0..self.connections.places() {
            assert!(self.connections.at(index).is_none_or(|id| id.index == index));
        }
    }

    /// Lists the connections whose wait for a credit is over, before all others. One that
    /// cannot use it (it is closing, or its output is full) leaves it to the next.
    fn call_waiting(&mut self) {
        let listed_before = self.listed.len();
        self.credits.call(|core, id| {
            let Some(connection) = self.connections.get_mut(id) else { return };
            let remote = connection.remote.as_mut().expect("it waited for a credit");
            remote.credit_returned(core);
            if !connection.listed {
                connection.listed = true;
                self.listed.push(id);
            }
        });
        self.listed.rotate_left(listed_before);
    }

    /// Hands out what one connection has: its replies, its requests to other cores.
    fn hand_out(&mut self, id: ConnectionId, now: MonotonicUs, output: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.listed = false;
        if connection.is_closing() {
            return;
        }
        let room = self.dispatcher.output_room(connection);
        if let Some(remote) = &mut connection.remote
            && connection.output.len() < room
        {
            let counters = &mut self.dispatcher.executor.counters;
            remote.launch(id, &mut self.credits, |to, frames| {
                counters.mail_sent += 1;
                output.mail(Core(to), Mail::Execute { connection: id, frames });
            });
        }
        let held = connection.sending == 0
            && connection.waiting() < REPLIES_HELD_BYTES
            && connection.is_served()
            && connection.remote.as_mut().is_some_and(|remote| remote.holds_replies());
        if connection.sending == 0 && connection.waiting() > 0 && !held {
            let packet = connection.packet();
            connection.sending = packet.len();
            connection.sending_since = millis(now);
            let counters = &mut self.dispatcher.executor.counters;
            counters.bytes_sent += packet.len() as u64;
            // While one is paused, the room that is waited for may be any other's.
            self.awaits_sends |= counters.connections_paused > 0
                || connection.waiting() > 0
                || connection.input_over
                || !connection.is_served();
            output.send(id, packet);
        }
        self.settle(id, now, output);
    }

    /// Takes requests from what has arrived, `bytes` being the newest of it.
    pub(crate) fn pump(&mut self, id: ConnectionId, bytes: &[u8], now: MonotonicUs) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.session {
            Session::Fresh | Session::Open => {}
            Session::HandingOver { .. } => {
                connection.input.extend_from_slice(bytes);
                return;
            }
            Session::Finishing | Session::Closing(_) => return,
        }
        if bytes.is_empty() && connection.input.is_empty() && !connection.input_over {
            return;
        }
        if connection.wait != Wait::No {
            connection.input.extend_from_slice(bytes);
            self.dispatcher.account_input(connection, None);
            return;
        }
        if connection.output.capacity() == 0 {
            connection.output = self.dispatcher.spare.take();
        }
        let large_left = connection.large_left();
        let progress = if connection.input.is_empty() {
            let progress = self.dispatcher.take(connection, bytes, now);
            let rest = &bytes[progress.consumed..];
            if connection.keeps_input() && !rest.is_empty() {
                connection.input.extend_from_slice(rest);
            }
            progress
        } else {
            connection.input.extend_from_slice(bytes);
            let mut input = std::mem::take(&mut connection.input);
            let progress = self.dispatcher.take(connection, &input, now);
            if connection.keeps_input() && progress.consumed < input.len() {
                input.drain(..progress.consumed);
                connection.input = input;
            } else {
                self.dispatcher.spare.keep(input);
            }
            progress
        };
        connection.add_leases(0, &mut self.dispatcher.executor.leases);
        if !self.dispatcher.desk.errands.is_empty() {
            self.run_errands(id, now);
        }
        if let Some((settings, serial)) = self.dispatcher.desk.settings.take() {
            let core = self.dispatcher.executor.config.core;
            let asker = Asker { core, connection: id, serial };
            self.dispatcher.desk.wishes.push(Wish::Configure { settings, asker });
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if std::mem::take(&mut connection.walks) {
            self.walkers.push(id);
        }
        connection.backlog = progress.incomplete.is_none() && !connection.input.is_empty();
        self.dispatcher.account_input(connection, progress.incomplete);
        if let Some(frame) = progress.incomplete
            && !connection.input.is_empty()
            && (frame <= INPUT_BYTES_SMALL || connection.kept == Kept::Promised(frame))
        {
            // Room for the whole frame at once.
            connection.input.reserve_exact(frame.saturating_sub(connection.input.len()));
        }
        let progressed = match (large_left, connection.large_left()) {
            // In the middle of a large value only so much at a time counts.
            (before @ 1.., now @ 1..) => {
                before / UPLOAD_PROGRESS_BYTES != now / UPLOAD_PROGRESS_BYTES
            }
            _ => progress.consumed > 0 || connection.input.len() == bytes.len(),
        };
        if progressed {
            connection.input_since = millis(now);
        }
        if !self.dispatcher.may_hold_on(connection) {
            self.dispatcher.executor.counters.inputs_refused += 1;
            connection.end(NOTICE, Status::Busy, CROWDED);
        }
        let wait = connection.wait;
        if connection.output.is_empty() {
            self.dispatcher.spare.keep(std::mem::take(&mut connection.output));
        }
        if connection.input_over && self.dispatcher.wants_input(connection) {
            // It was not want of room that stopped: what is left, if anything, is half a
            // frame that will never be whole.
            connection.finish();
        }
        self.enqueue(id, wait);
        self.list(id);
    }

    /// Carries out what a connection's command asks about the connections of this core.
    fn run_errands(&mut self, id: ConnectionId, now: MonotonicUs) {
        let frames = std::mem::take(&mut self.dispatcher.desk.errands);
        let mut replies = Vec::new();
        let executed =
            self.dispatcher.execute_mail(&frames, now, &mut self.connections, &mut replies);
        debug_assert_eq!(executed, frames.len());
        let Some(connection) = self.connections.get_mut(id) else { return };
        self.dispatcher.landed(connection, replies, &mut Leases::default(), now);
        // What waited for these answers goes on in the next turn.
        connection.walks = true;
    }

    /// Takes the next step of every walk that waits for one.
    fn walk_on(&mut self, now: MonotonicUs, output: &mut impl Output) {
        for id in std::mem::take(&mut self.walkers) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.is_closing() {
                continue;
            }
            self.dispatcher.walk_on(connection, now);
            if std::mem::take(&mut connection.walks) {
                self.walkers.push(id);
            } else {
                self.pump(id, &[], now);
            }
            self.list(id);
            self.settle(id, now, output);
        }
    }

    /// Brings reading and closing in line with the connection's state.
    pub(crate) fn settle(&mut self, id: ConnectionId, now: MonotonicUs, output: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        account(connection, &mut self.dispatcher);
        if !connection.keeps_input() && connection.holds_input() {
            let told = self.dispatcher.drop_input(connection);
            self.abandoned.extend(told.map(|to| (to, id)));
        }
        match (connection.session, connection.reading) {
            (Session::Fresh | Session::Open, Reading::On)
                if !self.dispatcher.wants_input(connection) && !connection.input_over =>
            {
                connection.reading = Reading::Paused;
                self.dispatcher.executor.counters.connections_paused += 1;
                output.pause(id);
            }
            (Session::Fresh | Session::Open, Reading::Paused)
                if self.dispatcher.wants_input(connection) =>
            {
                connection.reading = Reading::On;
                self.dispatcher.executor.counters.connections_paused -= 1;
                output.resume(id);
            }
            (Session::HandingOver { .. }, Reading::On | Reading::Paused)
                if connection.is_quiet() =>
            {
                if connection.reading == Reading::Paused {
                    self.dispatcher.executor.counters.connections_paused -= 1;
                }
                connection.reading = Reading::Detaching;
                output.detach(id);
            }
            (Session::Finishing, _) if connection.is_quiet() => {
                connection.sending_since = millis(now);
                self.close(id, Closing::Drained, output);
            }
            _ => {}
        }
    }

    /// Closes a connection whatever is under way, or hurries one that is closing.
    fn close(&mut self, id: ConnectionId, how: Closing, output: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.session == Session::Closing(Closing::Now) {
            return;
        }
        connection.finish();
        connection.session = Session::Closing(how);
        connection.drop_output();
        account(connection, &mut self.dispatcher);
        let told = self.dispatcher.drop_input(connection);
        self.abandoned.extend(told.map(|to| (to, id)));
        if let Some(remote) = &connection.remote {
            // What waits for these cores is dropped with the connection.
            self.abandoned.extend(remote.in_large_sets().map(|to| (to, id)));
        }
        output.close(id, how);
    }

    /// Takes a connection that is gone out of the sums.
    fn forget(&mut self, id: ConnectionId, connection: &mut Connection) {
        let told = self.dispatcher.drop_input(connection);
        self.abandoned.extend(told.map(|to| (to, id)));
        self.dispatcher.pending_bytes -= connection.accounted;
        if connection.reading == Reading::Paused {
            self.counters_mut().connections_paused -= 1;
        }
    }

    /// Puts a connection on the list for the next flush of outputs.
    fn list(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.listed && connection.has_outgoing() {
            connection.listed = true;
            self.listed.push(id);
        }
    }

    fn say_goodbye(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        // Nothing is said to those who have yet to prove the token.
        let unproven =
            connection.session == Session::Fresh && self.dispatcher.executor.config.token.is_some();
        if connection.is_served() && connection.dialect.is_none() && !unproven {
            write_failure(&mut connection.output, NOTICE, Status::GoingAway, "shutting down");
            self.list(id);
        }
    }

    /// Looks at the next slice of the connections for those whose time is up.
    fn sweep(&mut self, now: MonotonicUs, output: &mut impl Output) {
        let places = self.connections.places();
        let slice = match self.draining {
            Some(_) => places,
            None => places.min(SWEEP_CONNECTIONS.max(places / 8)),
        };
        for _ in 0..slice {
            if self.sweep_at >= places {
                self.sweep_at = 0;
            }
            if let Some(id) = self.connections.at(self.sweep_at) {
                self.look_at(id, now, output);
            }
            self.sweep_at += 1;
        }
    }

    fn look_at(&mut self, id: ConnectionId, now: MonotonicUs, output: &mut impl Output) {
        let at = millis(now);
        let age = |since: Millis| at.0.saturating_sub(since.0);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.session == Session::Closing(Closing::Now) {
            return;
        }
        let config = &self.dispatcher.executor.config;
        let idle_ms_max = config.idle_ms_max;
        if let Some(since) = self.draining
            && connection.reading != Reading::Detaching
        {
            let quiet = connection.is_quiet()
                && !connection.is_mid_frame()
                && age(connection.received_at).min(age(since)) >= DRAIN_QUIET_MS;
            if age(since) >= config.drain_ms_max {
                return self.close(id, Closing::Now, output);
            }
            if connection.is_served() && quiet {
                connection.finish();
            }
            // One that never falls quiet is listened to for half of the time, and has the
            // other half to take what it asked for.
            if !connection.input_over && age(since) >= config.drain_ms_max / 2 {
                connection.input_over = true;
                self.pump(id, &[], now);
                return self.settle(id, now, output);
            }
        }
        let stuck_output = connection.sending > 0 && age(connection.sending_since) >= idle_ms_max;
        let lingers = connection.is_closing()
            && connection.sending == 0
            && age(connection.sending_since) >= LINGER_MS_MAX;
        if stuck_output
            && let Some(taken) = output.taken_by_peer(id)
            && taken != connection.background.taken_by_peer
        {
            // It is slow, and not gone.
            connection.background.taken_by_peer = taken;
            connection.sending_since = at;
            return self.settle(id, now, output);
        }
        if stuck_output || lingers {
            self.dispatcher.executor.counters.idle_closed += 1;
            return self.close(id, Closing::Now, output);
        }
        let half_a_frame = connection.is_mid_frame()
            && self.dispatcher.wants_input(connection)
            && age(connection.input_since) >= idle_ms_max;
        let unproven = connection.session == Session::Fresh
            && self.dispatcher.executor.config.token.is_some()
            && age(connection.received_at) >= idle_ms_max;
        // Others have taken all there is for those who send much, and keep it.
        let crowded_out = matches!(connection.wait, Wait::ForUploads(_) | Wait::ForInput(_))
            && age(connection.input_since) >= idle_ms_max;
        if crowded_out && connection.is_served() {
            self.dispatcher.executor.counters.inputs_refused += 1;
            connection.end(NOTICE, Status::Busy, CROWDED);
            self.list(id);
        } else if half_a_frame || unproven {
            self.dispatcher.executor.counters.idle_closed += 1;
            connection.end(NOTICE, Status::IdleTooLong, "waited too long for a whole request");
            self.list(id);
        }
        self.settle(id, now, output);
    }
}

/// The head of replies that nobody asked for.
const NOTICE: ReplyHead = ReplyHead { id: RequestId(NOTICE_ID), epoch: ShortEpoch(0), part: None };

/// What one is told that there is no room for.
const FULL: &str = "the node has as many connections as it may";

/// What one is told whose half frame, or requests behind replies that it does not take, there
/// is no room for.
const CROWDED: &str = "more is held of requests that were not dealt with than may be";

/// Brings the sum of all reply bytes up to date with one connection's.
fn account(connection: &mut Connection, dispatcher: &mut Dispatcher) {
    let pending = connection.pending();
    dispatcher.pending_bytes = dispatcher.pending_bytes + pending - connection.accounted;
    connection.accounted = pending;
}

/// Appends replies, taking their buffer over where there is nothing to append to.
fn append(output: &mut Vec<u8>, mut replies: Vec<u8>, spare: &mut Spare) {
    if output.is_empty() {
        std::mem::swap(output, &mut replies);
    } else {
        output.extend_from_slice(&replies);
    }
    spare.keep(replies);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DefaultTtl, JitterMode};
    use corelane_protocol::{Answer, OldValue, Request, RequestHead, Set, SetCondition, Ttl, wire};
    use corelane_ring::slot_of;
    use corelane_shard::ShardConfig;

    /// Whatever is asked for happens at once, or never.
    struct Nowhere;

    impl Output for Nowhere {
        fn send(&mut self, _: ConnectionId, _: Packet) {}
        fn taken_by_peer(&mut self, _: ConnectionId) -> Option<u64> {
            None
        }
        fn pause(&mut self, _: ConnectionId) {}
        fn resume(&mut self, _: ConnectionId) {}
        fn close(&mut self, _: ConnectionId, _: Closing) {}
        fn detach(&mut self, _: ConnectionId) {}
        fn mail(&mut self, _: Core, _: Mail) {}
    }

    #[test]
    fn a_connection_with_nothing_under_way_owns_no_buffers() {
        let now = MonotonicUs(0);
        let mut engine = Engine::new(EngineConfig {
            core: 0,
            cores: 1,
            node_name: String::new(),
            cluster: None,
            shard: ShardConfig::new(64 << 20, |key| slot_of(key).number()),
            value_bytes_max: 1 << 20,
            default_ttl: DefaultTtl::Never,
            jitter: JitterMode::Off,
            jitter_percent: 0,
            token: None,
            idle_ms_max: 1_000,
            drain_ms_max: 1_000,
            output_bytes_max: 1 << 20,
            output_bytes_total_max: 1 << 20,
            backlog_bytes_total_max: 1 << 20,
            input_bytes_total_max: 1 << 20,
            seed: 0,
            now,
            unix_ms: 0,
            dialects: Default::default(),
            about: Default::default(),
        })
        .unwrap();
        let condition = SetCondition::Always;
        let (key, value) = (b"key".as_slice(), [b'v'; 1_000].as_slice());
        let (ttl, old) = (Ttl::Never, OldValue::Omit);
        let set = Request::Set(Set { key, value, user_flags: 0, ttl, condition, old });
        let head = RequestHead { answer: Answer::Never, ..RequestHead::default() };
        let mut frames = Vec::new();
        wire::encode_request(&head, &set, &mut frames).unwrap();
        wire::encode_request(&head, &set, &mut frames).unwrap();
        // Emptied buffers are to be had.
        engine.dispatcher.spare.keep(Vec::with_capacity(4_096));
        engine.dispatcher.spare.keep(Vec::with_capacity(4_096));
        let id = engine.opened(now);
        for piece in frames.chunks(700) {
            engine.received(id, piece, now, &mut Nowhere);
            engine.flush_output(now, &mut Nowhere);
            let connection = engine.connections.get_mut(id).unwrap();
            assert_eq!(connection.output.capacity(), 0);
        }
        let connection = engine.connections.get_mut(id).unwrap();
        assert_eq!(connection.input.capacity(), 0);
    }
}
