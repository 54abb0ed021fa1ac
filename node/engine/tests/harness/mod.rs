//! A node of a few engines under full control: nothing happens unless a test says so.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::collections::{BTreeMap, VecDeque};

use corelane_dialect::Dialects;
use corelane_engine::{
    Agenda, Closing, ConnectionId, DefaultTtl, Engine, EngineConfig, JitterMode, Mail, Output,
    Packet, ReceiveEnd, SendEnd,
};
use corelane_protocol::wire::{self, FRAME_BYTES_MAX, ReplyDecoded};
use corelane_protocol::{
    Absent, Hello, MonotonicUs, OldValue, Reply, Request, RequestHead, RequestId, Set,
    SetCondition, Side, Status, Ttl,
};
use corelane_ring::{Core, CoreMap, slot_of};
use corelane_shard::ShardConfig;

/// A connection and the core that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wire {
    pub(crate) core: usize,
    pub(crate) id: ConnectionId,
}

/// What an engine has asked for on one connection.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The packet being sent.
    pub(crate) sending: Option<Packet>,
    /// Everything that was sent.
    pub(crate) sent: Vec<u8>,
    pub(crate) paused: bool,
    pub(crate) closing: Vec<Closing>,
    pub(crate) detaching: bool,
    /// What the world says of the peer's progress.
    pub(crate) taken_by_peer: Option<u64>,
}

/// Records what one engine asks for.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) seen: BTreeMap<ConnectionId, Seen>,
    pub(crate) mail: VecDeque<(Core, Mail)>,
    /// Changes of how connections are read and closed that were asked for.
    requests: usize,
}

impl Recorder {
    fn of(&mut self, id: ConnectionId) -> &mut Seen {
        self.seen.entry(id).or_default()
    }
}

impl Output for Recorder {
    fn send(&mut self, connection: ConnectionId, packet: Packet) {
        let seen = self.of(connection);
        assert!(seen.sending.is_none(), "two sends under way");
        assert!(!packet.is_empty());
        seen.sending = Some(packet);
    }

    fn taken_by_peer(&mut self, connection: ConnectionId) -> Option<u64> {
        self.of(connection).taken_by_peer
    }

    fn pause(&mut self, connection: ConnectionId) {
        self.requests += 1;
        assert!(!std::mem::replace(&mut self.of(connection).paused, true));
    }

    fn resume(&mut self, connection: ConnectionId) {
        self.requests += 1;
        assert!(std::mem::replace(&mut self.of(connection).paused, false));
    }

    fn close(&mut self, connection: ConnectionId, how: Closing) {
        self.requests += 1;
        self.of(connection).closing.push(how);
    }

    fn detach(&mut self, connection: ConnectionId) {
        self.requests += 1;
        self.of(connection).detaching = true;
    }

    fn mail(&mut self, to: Core, mail: Mail) {
        self.mail.push_back((to, mail));
    }
}

/// One reply, as far as these tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: u32,
    pub(crate) part: Option<u16>,
    pub(crate) status: Status,
    pub(crate) value: Option<Vec<u8>>,
}

pub(crate) struct Node {
    pub(crate) engines: Vec<Engine>,
    pub(crate) outputs: Vec<Recorder>,
    pub(crate) now: MonotonicUs,
    /// By core: whether all sends under way are of the last flush, which awaited none of
    /// them, and nothing but ends of sends happened since.
    patient: Vec<bool>,
    map: CoreMap,
    /// Mails that have arrived.
    carried: u64,
}

/// A configuration with nothing unusual about it.
pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        core: 0,
        cores: 1,
        node_name: "node".to_owned(),
        cluster: None,
        shard: ShardConfig::new(64 << 20, |key| slot_of(key).number()),
        value_bytes_max: 1 << 20,
        default_ttl: DefaultTtl::Never,
        jitter: JitterMode::Asked,
        jitter_percent: 10,
        token: None,
        idle_ms_max: 10_000,
        drain_ms_max: 8_000,
        output_bytes_max: 64 << 10,
        output_bytes_total_max: 64 << 20,
        backlog_bytes_total_max: 16 << 20,
        input_bytes_total_max: 16 << 20,
        seed: 1,
        now: MonotonicUs(0),
        unix_ms: 1_700_000_000_000,
        dialects: NATIVE_ONLY,
        about: Default::default(),
    }
}

impl Node {
    pub(crate) fn new(cores: u16, config: EngineConfig) -> Node {
        let engines = (0..cores)
            .map(|core| Engine::new(EngineConfig { core, cores, ..config.clone() }).unwrap())
            .collect();
        Node {
            engines,
            outputs: (0..cores).map(|_| Recorder::default()).collect(),
            now: config.now,
            patient: vec![false; usize::from(cores)],
            map: CoreMap::even(cores).unwrap(),
            carried: 0,
        }
    }

    /// A key that belongs to a core.
    pub(crate) fn key_of(&self, core: usize, number: usize) -> Vec<u8> {
        let keys = (0..).map(|n| format!("{number}-{n}").into_bytes());
        keys.into_iter().find(|key| self.map.core_of(slot_of(key)).index() == core).unwrap()
    }

    pub(crate) fn connect(&mut self, core: usize) -> Wire {
        let id = self.engines[core].opened(self.now);
        Wire { core, id }
    }

    /// Bytes arrive; nothing else happens. Pieces of even length are announced before, so that
    /// tests meet both ways.
    pub(crate) fn receive(&mut self, wire: Wire, bytes: &[u8]) {
        let output = &mut self.outputs[wire.core];
        self.patient[wire.core] = false;
        if bytes.len().is_multiple_of(2) {
            self.engines[wire.core].foresee(std::iter::once((wire.id, bytes)), self.now);
        }
        self.engines[wire.core].received(wire.id, bytes, self.now, output);
    }

    pub(crate) fn receive_ended(&mut self, wire: Wire, end: ReceiveEnd) {
        let output = &mut self.outputs[wire.core];
        self.patient[wire.core] = false;
        self.engines[wire.core].receive_ended(wire.id, end, self.now, output);
    }

    pub(crate) fn flush(&mut self, core: usize) {
        let earlier = self.outputs[core].seen.values().any(|seen| seen.sending.is_some());
        self.engines[core].flush_output(self.now, &mut self.outputs[core]);
        self.patient[core] = !earlier && !self.engines[core].awaits_sends();
    }

    /// The send under way ends; whether there was one.
    pub(crate) fn end_send(&mut self, wire: Wire, end: SendEnd) -> bool {
        let output = &mut self.outputs[wire.core];
        let Some(packet) = output.of(wire.id).sending.take() else { return false };
        if end == SendEnd::Whole {
            packet.pieces().for_each(|p| output.of(wire.id).sent.extend_from_slice(p));
        }
        let before = output.requests;
        self.engines[wire.core].sent(wire.id, packet, end, self.now, output);
        if self.patient[wire.core] && end == SendEnd::Whole {
            assert_eq!(output.requests, before, "something waited for the end of a send");
        }
        true
    }

    /// The oldest mail that a core has sent arrives; whether there was one.
    pub(crate) fn carry_mail(&mut self, from: usize) -> bool {
        let Some((to, mail)) = self.outputs[from].mail.pop_front() else { return false };
        self.carried += 1;
        let output = &mut self.outputs[to.index()];
        self.patient[to.index()] = false;
        self.engines[to.index()].mail(Core(from as u16), mail, self.now, output);
        true
    }

    /// Carries all mail and flushes, but ends no send.
    pub(crate) fn settle_mail(&mut self) {
        loop {
            let mut any = false;
            for core in 0..self.engines.len() {
                // Other housekeeping than this waits until a test lets time pass.
                if self.engines[core].counters().connections_deferred > 0 {
                    any |= self.turn(core);
                }
            }
            (0..self.engines.len()).for_each(|core| self.flush(core));
            any |= (0..self.engines.len()).fold(false, |any, core| any | self.carry_mail(core));
            if !any {
                return;
            }
        }
    }

    /// Carries all mail and ends all sends, until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        loop {
            self.settle_mail();
            let mut any = false;
            for core in 0..self.engines.len() {
                let ids: Vec<_> = self.outputs[core].seen.keys().copied().collect();
                for id in ids {
                    any |= self.end_send(Wire { core, id }, SendEnd::Whole);
                }
            }
            if !any {
                return;
            }
        }
    }

    /// A turn of a core begins, and what is left from earlier ones goes on; whether more is.
    pub(crate) fn turn(&mut self, core: usize) -> bool {
        self.patient[core] = false;
        self.engines[core].begin_turn(self.now, self.now);
        self.engines[core].tick(self.now, &mut self.outputs[core]) == Agenda::Now
    }

    /// Takes turns until nothing is left to do.
    pub(crate) fn work(&mut self) {
        loop {
            let again = (0..self.engines.len()).fold(false, |any, core| any | self.turn(core));
            let carried = self.carried;
            self.settle();
            if !again && carried == self.carried {
                return;
            }
        }
    }

    /// Time passes, with all housekeeping that is due.
    pub(crate) fn advance_ms(&mut self, ms: u64) {
        let until = self.now.0 + ms * 1_000;
        while self.now.0 < until {
            self.now.0 = until.min(self.now.0 + 50_000);
            for core in 0..self.engines.len() {
                while self.turn(core) {}
                self.flush(core);
            }
        }
    }

    /// What the engine has asked for on a connection.
    pub(crate) fn seen(&mut self, wire: Wire) -> &mut Seen {
        self.outputs[wire.core].of(wire.id)
    }

    /// The connection is gone.
    pub(crate) fn closed(&mut self, wire: Wire) {
        self.engines[wire.core].closed(wire.id);
        self.outputs[wire.core].seen.remove(&wire.id);
    }

    /// All replies that were sent since the last call.
    pub(crate) fn answers(&mut self, wire: Wire) -> Vec<Answer> {
        let sent = std::mem::take(&mut self.seen(wire).sent);
        answers(&sent)
    }

    /// Sends frames, lets everything happen, and says what was answered.
    pub(crate) fn ask(&mut self, wire: Wire, frames: &[u8]) -> Vec<Answer> {
        self.receive(wire, frames);
        self.settle();
        self.answers(wire)
    }
}

/// Decodes whole replies.
pub(crate) fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let ReplyDecoded::Complete { frame, consumed } = wire::decode_reply(bytes, FRAME_BYTES_MAX)
        else {
            panic!("half a reply was sent");
        };
        let (status, value) = match frame.reply {
            Reply::Failed { status, .. } => (status, None),
            Reply::End => (Status::End, None),
            Reply::Value(value) => (Status::Ok, Some(value.bytes.to_vec())),
            _ => (Status::Ok, None),
        };
        answers.push(Answer { id: frame.head.id.0, part: frame.head.part, status, value });
        bytes = &bytes[consumed..];
    }
    answers
}

/// One frame.
pub(crate) fn frame(id: u32, request: &Request<'_>) -> Vec<u8> {
    frame_with(RequestHead { id: RequestId(id), ..RequestHead::default() }, request)
}

pub(crate) fn frame_with(head: RequestHead, request: &Request<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::encode_request(&head, request, &mut frame).unwrap();
    frame
}

pub(crate) fn get(id: u32, key: &[u8]) -> Vec<u8> {
    frame(id, &Request::Get { key, least_version: None })
}

pub(crate) fn set(id: u32, key: &[u8], value: &[u8]) -> Vec<u8> {
    let condition = SetCondition::Always;
    frame(
        id,
        &Request::Set(Set {
            key,
            value,
            user_flags: 0,
            ttl: Ttl::Never,
            condition,
            old: OldValue::Omit,
        }),
    )
}

pub(crate) fn append(id: u32, key: &[u8], value: &[u8]) -> Vec<u8> {
    frame(id, &Request::Extend { key, value, side: Side::Append, absent: Absent::Miss })
}

pub(crate) fn hello(id: u32, core: Option<u16>, token: &[u8]) -> Vec<u8> {
    frame(id, &Request::Hello(Hello { version: 1, core, token }))
}

/// The statuses of answers, for those that need no more.
pub(crate) fn statuses(answers: &[Answer]) -> Vec<(u32, Status)> {
    answers.iter().map(|answer| (answer.id, answer.status)).collect()
}

/// What tests of the native protocol speak: nothing else, so that other bytes are garbage.
const NATIVE_ONLY: Dialects = Dialects { native: true, resp: false, memcached: false };
