//! A client: it pipelines requests, hears replies in any order, and has each one judged.

use std::collections::HashMap;

use corelane_protocol::limits::NOTICE_ID;
use corelane_protocol::wire::{self, FRAME_BYTES_MAX, ReplyDecoded, ReplyFrame};
use corelane_protocol::{Reply, Request, RequestHead, RequestId, Status};

use crate::sim::keys::{Context, Moment, TrackedKey};
use crate::sim::ledger::{Ledger, number_of_shared};
use crate::sim::link::ClientEnd;
use crate::sim::model::Observed;
use crate::sim::shared::Seen;
use crate::sim::world::World;

/// Which key a request is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One of the client's own, and the request's number there.
    Own {
        /// Which.
        key: usize,
        /// See [`TrackedKey::sent`].
        number: u64,
    },
    /// One that all clients use.
    Shared(usize),
    /// One that all clients add to.
    Counter(usize),
}

/// What replies a request gets.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// One, on a key.
    OfKey(Target),
    /// One a key, and an end.
    OfKeys {
        /// The keys.
        targets: Vec<Target>,
        /// Which were answered.
        seen: Vec<bool>,
    },
    /// The node's clock.
    Pong,
    /// One a core, and an end.
    Stats {
        /// Which cores have answered.
        seen: Vec<bool>,
    },
    /// That it is done; which flush.
    Flush(usize),
    /// Welcome to a core (`None`: any), or a refusal after which the connection ends.
    Hello(Result<Option<u16>, Status>),
    /// This refusal.
    Refused(Status),
}

/// A request under way.
#[derive(Debug)]
struct Flight {
    sent: Moment,
    /// Length of all that the client had sent, this request included.
    ends_at: u64,
    awaited: Awaited,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It sends.
    Sending,
    /// It has shut its side down and waits for the last replies.
    Finished,
    /// It has sent what ends the connection, and expects to be told so.
    Misbehaved {
        /// The status of the last reply.
        status: Status,
        /// That reply came.
        told: bool,
        /// Requests up to this byte are answered nevertheless.
        owed_until: u64,
    },
    /// It vanished.
    Vanished,
    /// It has seen the end.
    Over,
}

/// See the module.
pub(crate) struct Client {
    /// No other client has this number.
    pub(crate) number: usize,
    /// Its connection.
    pub(crate) link: usize,
    /// Keys that nobody else uses.
    pub(crate) keys: Vec<TrackedKey>,
    /// How far it has come.
    pub(crate) life: Life,
    /// Requests that it may have under way.
    pub(crate) window: usize,
    /// The node has said that it is going away.
    pub(crate) told_to_leave: bool,
    outgoing: Vec<u8>,
    sent_bytes: u64,
    next_id: u32,
    flights: HashMap<u32, Flight>,
    inbox: Vec<u8>,
}

impl Client {
    /// A client on a new connection.
    pub(crate) fn new(number: usize, link: usize, keys: Vec<TrackedKey>, window: usize) -> Client {
        Client {
            number,
            link,
            keys,
            life: Life::Sending,
            window,
            told_to_leave: false,
            outgoing: Vec::new(),
            sent_bytes: 0,
            // Ids may be any numbers; let them wrap around now and then.
            next_id: (number as u32).wrapping_mul(0x3FFF_FFF1),
            flights: HashMap::new(),
            inbox: Vec::new(),
        }
    }

    /// How many requests are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// The turn in which the oldest request under way was sent.
    pub(crate) fn oldest_turn(&self) -> Option<u64> {
        self.flights.values().map(|flight| flight.sent.turn).min()
    }

    /// An id that no request under way has.
    pub(crate) fn fresh_id(&mut self) -> RequestId {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if self.next_id != NOTICE_ID && !self.flights.contains_key(&self.next_id) {
                return RequestId(self.next_id);
            }
        }
    }

    /// Sends a request; `awaited` is what it will be answered with, if it is.
    pub(crate) fn request(
        &mut self,
        head: &RequestHead,
        request: &Request<'_>,
        sent: Moment,
        awaited: Option<Awaited>,
    ) {
        wire::encode_request(head, request, &mut self.outgoing).expect("clients send sense");
        self.sent(head.id, sent, awaited);
    }

    /// Sends bytes that the encoder would not give.
    pub(crate) fn raw(
        &mut self,
        id: RequestId,
        frame: &[u8],
        sent: Moment,
        awaited: Option<Awaited>,
    ) {
        self.outgoing.extend_from_slice(frame);
        self.sent(id, sent, awaited);
    }

    fn sent(&mut self, id: RequestId, sent: Moment, awaited: Option<Awaited>) {
        if let Some(awaited) = awaited {
            let ends_at = self.sent_bytes + self.outgoing.len() as u64;
            let flight = Flight { sent, ends_at, awaited };
            assert!(self.flights.insert(id.0, flight).is_none(), "an id used twice");
        }
    }

    /// From here on nothing is answered but once with this status.
    pub(crate) fn misbehave(&mut self, bytes: &[u8], status: Status) {
        let owed_until = self.sent_bytes + self.outgoing.len() as u64;
        self.life = Life::Misbehaved { status, told: false, owed_until };
        self.outgoing.extend_from_slice(bytes);
    }

    /// Hands what was written to the network.
    pub(crate) fn push(&mut self, world: &mut World) {
        if !self.outgoing.is_empty() {
            self.sent_bytes += self.outgoing.len() as u64;
            world.links[self.link].send(&self.outgoing);
            self.outgoing.clear();
        }
    }

    /// The same, for one that may have shut its side down meanwhile.
    pub(crate) fn push_if_open(&mut self, world: &mut World) {
        if world.links[self.link].client_end == ClientEnd::Open {
            self.push(world);
        }
    }

    /// Shuts the writing side down.
    pub(crate) fn finish(&mut self, world: &mut World) {
        self.push(world);
        world.links[self.link].client_end = ClientEnd::Finished;
        if self.life == Life::Sending {
            self.life = Life::Finished;
        }
    }

    /// Vanishes, with whatever is on its way.
    pub(crate) fn vanish(&mut self, world: &mut World) {
        self.push(world);
        world.links[self.link].client_end = ClientEnd::Broken;
        self.life = Life::Vanished;
        self.flights.clear();
    }

    /// Hears what has arrived.
    ///
    /// # Panics
    /// What the node says is wrong.
    pub(crate) fn hear(&mut self, world: &mut World, ledger: &mut Ledger) {
        if self.life == Life::Vanished || self.life == Life::Over {
            world.links[self.link].to_client.clear();
            return;
        }
        if self.inbox.is_empty() {
            std::mem::swap(&mut self.inbox, &mut world.links[self.link].to_client);
        } else {
            self.inbox.append(&mut world.links[self.link].to_client);
        }
        let inbox = std::mem::take(&mut self.inbox);
        let mut read = 0;
        loop {
            match wire::decode_reply(&inbox[read..], FRAME_BYTES_MAX) {
                ReplyDecoded::Complete { frame, consumed } => {
                    let at = world.moment();
                    self.reply(&frame, at, ledger);
                    ledger.judged += 1;
                    read += consumed;
                }
                ReplyDecoded::Incomplete { .. } => break,
                ReplyDecoded::Fatal(error) => panic!("the node sent no reply: {error}"),
            }
        }
        self.inbox = inbox;
        self.inbox.drain(..read);
        if world.links[self.link].server_finished && world.links[self.link].sending.is_none() {
            self.end(world);
        }
    }

    /// The node has closed its side.
    fn end(&mut self, world: &mut World) {
        let link = &mut world.links[self.link];
        assert!(self.inbox.is_empty(), "the node closed in the middle of a reply");
        let unanswered_until = match self.life {
            Life::Finished => u64::MAX,
            Life::Misbehaved { status, told, owed_until } => {
                let draining = link.delivered_at_drain.is_some();
                assert!(told || draining, "closed without saying {status:?}");
                owed_until
            }
            _ => link.delivered_at_drain.expect("the node closed without a reason"),
        };
        // A node that drains owes replies to what had reached it, and to nothing else.
        let owed = link.delivered_at_drain.map_or(unanswered_until, |at| at.min(unanswered_until));
        let lost = self.flights.iter().find(|(_, flight)| flight.ends_at <= owed);
        assert!(lost.is_none(), "closed with a reply outstanding: {lost:?}");
        if link.client_end == ClientEnd::Open {
            link.client_end = ClientEnd::Finished;
        }
        self.life = Life::Over;
    }

    fn reply(&mut self, frame: &ReplyFrame<'_>, at: Moment, ledger: &mut Ledger) {
        let ReplyFrame { head, reply } = frame;
        if let Life::Misbehaved { status, told, .. } = &mut self.life
            && let Reply::Failed { status: said, .. } = reply
            && said == status
            && (head.id.0 == NOTICE_ID || !self.flights.contains_key(&head.id.0))
        {
            assert!(!*told, "told twice");
            *told = true;
            return;
        }
        if head.id.0 == NOTICE_ID {
            let Reply::Failed { status: Status::GoingAway, .. } = reply else {
                panic!("an unexpected notice: {reply:?}");
            };
            self.told_to_leave = true;
            return;
        }
        let Some(flight) = self.flights.get_mut(&head.id.0) else {
            panic!("a reply to nothing: {frame:?}");
        };
        if let Life::Misbehaved { owed_until, .. } = self.life {
            assert!(flight.ends_at <= owed_until, "answered after a misdeed: {frame:?}");
        }
        let sent = flight.sent;
        let target = match &mut flight.awaited {
            Awaited::OfKeys { targets, seen } => match (head.part, reply) {
                (Some(part), _) => {
                    let part = usize::from(part);
                    assert!(!std::mem::replace(&mut seen[part], true), "part {part} came twice");
                    let target = targets[part];
                    return self.key_reply(target, reply, sent, at, ledger);
                }
                (None, Reply::End) => {
                    assert!(seen.iter().all(|seen| *seen), "the end came before all parts");
                    None
                }
                _ => panic!("no part of a multi-get: {frame:?}"),
            },
            Awaited::Stats { seen } => match reply {
                Reply::Stats { core, text } => {
                    assert_eq!(head.part, Some(*core));
                    let core = usize::from(*core);
                    assert!(!std::mem::replace(&mut seen[core], true), "core {core} came twice");
                    assert!(text.starts_with(b"connections_opened "));
                    return;
                }
                Reply::End => {
                    assert!(seen.iter().all(|seen| *seen), "the end came before all cores");
                    None
                }
                _ => panic!("no part of stats: {frame:?}"),
            },
            Awaited::OfKey(target) => Some(*target),
            Awaited::Pong => {
                let Reply::Pong { clock } = reply else { panic!("no pong: {frame:?}") };
                assert!((sent.us..=at.us).contains(&clock.0), "the clock is wrong");
                None
            }
            Awaited::Flush(flush) => {
                assert_eq!(*reply, Reply::Done { version: None });
                ledger.flush_done(*flush, at);
                None
            }
            Awaited::Hello(Ok(core)) => {
                let Reply::Welcome(welcome) = reply else { panic!("no welcome: {frame:?}") };
                assert!(core.is_none_or(|core| core == welcome.core), "on the wrong core");
                assert_eq!(welcome.node_name, b"simulated");
                assert_eq!(welcome.version, 1);
                None
            }
            Awaited::Hello(Err(expected)) | Awaited::Refused(expected) => {
                let Reply::Failed { status, .. } = reply else { panic!("accepted: {frame:?}") };
                assert_eq!(status, expected);
                None
            }
        };
        assert_eq!(head.part, None, "a part of nothing: {frame:?}");
        self.flights.remove(&head.id.0);
        if let Some(target) = target {
            self.key_reply(target, reply, sent, at, ledger);
        }
    }

    fn key_reply(
        &mut self,
        target: Target,
        reply: &Reply<'_>,
        sent: Moment,
        at: Moment,
        ledger: &mut Ledger,
    ) {
        match target {
            Target::Own { key, number } => {
                let mut context = Context {
                    connection: self.number,
                    rules: &ledger.rules,
                    flushes: &ledger.flushes,
                    versions: &mut ledger.versions,
                };
                self.keys[key].replied(number, observed(reply), at, &mut context);
            }
            Target::Shared(key) => {
                let may_vanish = ledger.rules.may_evict;
                let shared = &mut ledger.shared[key];
                let mut read =
                    |seen| shared.read(seen, self.number, sent.turn, at.turn, may_vanish);
                match reply {
                    Reply::Value(value) => read(Seen::Value(number_of_shared(value.bytes))),
                    // A delete that found nothing is here too; its miss says as much.
                    Reply::Failed { status: Status::NotFound, .. } => {
                        read(Seen::Nothing);
                        shared.done(sent.turn, at.turn);
                    }
                    Reply::Done { .. } => shared.done(sent.turn, at.turn),
                    Reply::Failed { status: Status::OutOfMemory, .. }
                        if ledger.rules.may_refuse =>
                    {
                        shared.refused(sent.turn);
                    }
                    _ => panic!("an unexpected reply on a shared key: {reply:?}"),
                }
            }
            Target::Counter(counter) => match reply {
                Reply::Number { number, .. } if ledger.counters_last => {
                    ledger.counters.answered(counter, *number);
                }
                Reply::Number { .. } => {}
                Reply::Failed { status: Status::OutOfMemory, .. } if ledger.rules.may_refuse => {}
                _ => panic!("an unexpected reply of a counter: {reply:?}"),
            },
        }
    }
}

fn observed(reply: &Reply<'_>) -> Observed {
    let number = |version: &Option<corelane_protocol::Version>| version.map(|version| version.0);
    match reply {
        Reply::Done { version } => Observed::Done(number(version)),
        Reply::Value(value) => Observed::Value {
            bytes: value.bytes.into(),
            user_flags: value.user_flags,
            version: number(&value.version),
        },
        Reply::Number { number: count, version } => {
            Observed::Number { number: *count, version: number(version) }
        }
        Reply::Remaining(remaining) => Observed::Remaining(*remaining),
        Reply::Failed { status, .. } => Observed::Failed(*status),
        _ => panic!("no reply on a key: {reply:?}"),
    }
}
