//! A client with one request under way at a time: it goes by its table, follows redirects,
//! and fetches a topology when a reply tells of another epoch.

use std::collections::BTreeMap;

use corelane_protocol::wire::{self, FRAME_BYTES_MAX, ReplyDecoded};
use corelane_protocol::{
    DeleteCondition, MonotonicUs, OldValue, Reply, Request, RequestHead, RequestId, Set,
    SetCondition, ShortEpoch, Status, Ttl,
};
use corelane_ring::{NodeName, Topology, slot_of};

/// How long a request may take, in microseconds.
pub(super) const TIMEOUT_US: u64 = 30_000;
/// How far the client's idea of a node's clock may be off, and a core behind: the longest delay
/// of bytes and what clocks drift apart in a run.
pub(super) const CLOCK_ERROR_US: u64 = 20_000;

/// What the client knows of one of its keys.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) key: String,
    pub(super) tried: u64,
    /// The least number that may be read.
    least: u64,
    /// Writes of unknown outcome, and until when they may take effect.
    uncertain: Vec<(u64, u64)>,
    /// Those that may have taken effect after what was acknowledged last.
    late: Vec<u64>,
}

impl Known {
    pub(super) fn new(key: String) -> Known {
        Known { key, tried: 0, least: 0, uncertain: Vec::new(), late: Vec::new() }
    }

    fn acknowledged(&mut self, least: u64, now_us: u64) {
        self.least = least;
        self.uncertain.retain(|(_, until)| *until > now_us);
        self.late = self.uncertain.iter().map(|(number, _)| *number).collect();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Get,
    Set,
    Delete,
}

/// Who else is to do what for a request.
#[derive(Debug)]
pub(super) enum Wish {
    /// Bytes for the connection to a node, which is opened if there is none.
    Send(NodeName, Vec<u8>),
    /// Nothing more: the request is over.
    Over,
}

#[derive(Debug)]
struct Asked {
    what: What,
    key: usize,
    number: u64,
    deadline_us: u64,
    attempts: u32,
    id: u32,
    /// Whether a node may have the request.
    sent: bool,
    /// Whether every node had the newest topology when it was made.
    settled: bool,
}

/// A node's clock, as a ping told it, and when that was by the world's.
#[derive(Clone, Copy, Debug)]
struct NodeClock {
    at_us: u64,
    clock: MonotonicUs,
}

/// What a run counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests made.
    pub requests: u64,
    /// Reads that found a value.
    pub hits: u64,
    /// Requests answered with a redirect.
    pub redirects: u64,
    /// Topologies taken over from nodes.
    pub topologies: u64,
    /// Requests without an answer in time.
    pub timeouts: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    table: Topology,
    clocks: BTreeMap<NodeName, NodeClock>,
    asked: Option<Asked>,
    next_id: u32,
    /// A topology that is fetched beside requests.
    fetching: Option<u32>,
    pub(super) keys: Vec<Known>,
    pub(super) counts: Counts,
}

impl Client {
    pub(super) fn new(table: Topology, keys: Vec<Known>) -> Client {
        let (clocks, counts) = Default::default();
        Client { table, clocks, asked: None, next_id: 0, fetching: None, keys, counts }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_none()
    }

    /// Makes a request.
    pub(super) fn ask(&mut self, what: What, key: usize, settled: bool, now_us: u64) -> Wish {
        self.counts.requests += 1;
        let known = &mut self.keys[key];
        known.tried += u64::from(what == What::Set);
        let (number, deadline_us) = (known.tried, now_us + TIMEOUT_US);
        let (attempts, id, sent) = (0, 0, false);
        self.asked = Some(Asked { what, key, number, deadline_us, attempts, id, sent, settled });
        self.attempt(now_us)
    }

    fn owner(&self, key: usize) -> NodeName {
        let slot = slot_of(self.keys[key].key.as_bytes());
        self.table.node(self.table.owner(slot)).name.clone()
    }

    /// Sends the request to the owner of its key, or asks for its clock first.
    fn attempt(&mut self, now_us: u64) -> Wish {
        let Some(asked) = &self.asked else { return Wish::Over };
        let node = self.owner(asked.key);
        let Some(clock) = self.clocks.get(&node).copied() else {
            return Wish::Send(node, self.frame(&Request::Ping, None));
        };
        let asked = self.asked.as_mut().expect("it was just there");
        asked.attempts += 1;
        asked.sent = true;
        let left = asked.deadline_us.saturating_sub(now_us);
        let deadline = MonotonicUs(clock.clock.0 + (now_us - clock.at_us) + left);
        let (what, number, key) = (asked.what, asked.number, self.keys[asked.key].key.clone());
        let value = format!("{key}={number}");
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let request = match what {
            What::Get => Request::Get { key, least_version: None },
            What::Delete => Request::Delete { key, condition: DeleteCondition::Always },
            What::Set => Request::Set(Set {
                key,
                value,
                user_flags: 0,
                ttl: Ttl::Never,
                condition: SetCondition::Always,
                old: OldValue::Omit,
            }),
        };
        let frame = self.frame(&request, Some(deadline));
        Wish::Send(node, frame)
    }

    fn frame(&mut self, request: &Request<'_>, deadline: Option<MonotonicUs>) -> Vec<u8> {
        self.next_id += 1;
        if let Some(asked) = &mut self.asked {
            asked.id = self.next_id;
        }
        let head = RequestHead {
            id: RequestId(self.next_id),
            epoch: ShortEpoch(self.table.epoch().short()),
            deadline,
            ..RequestHead::default()
        };
        let mut frame = Vec::new();
        wire::encode_request(&head, request, &mut frame).expect("a small request");
        frame
    }

    /// Bytes of whole replies arrived from a node; `settled` says whether every node has the
    /// newest topology, and had since the request was made.
    pub(super) fn received(
        &mut self,
        from: &NodeName,
        mut bytes: &[u8],
        settled: bool,
        now_us: u64,
    ) -> Option<Wish> {
        let mut wish = None;
        while !bytes.is_empty() {
            let ReplyDecoded::Complete { frame, consumed } =
                wire::decode_reply(bytes, FRAME_BYTES_MAX)
            else {
                panic!("a node sends whole replies at once");
            };
            bytes = &bytes[consumed..];
            if self.fetching == Some(frame.head.id.0) {
                self.fetching = None;
                self.take_over(&frame.reply);
            }
            // Others are to requests that were given up.
            if self.asked.as_ref().is_some_and(|asked| asked.id == frame.head.id.0) {
                let told = frame.head.epoch;
                wish = Some(self.answered(from, told, &frame.reply, settled, now_us));
            }
        }
        wish
    }

    fn answered(
        &mut self,
        from: &NodeName,
        told: ShortEpoch,
        reply: &Reply<'_>,
        settled: bool,
        now_us: u64,
    ) -> Wish {
        match *reply {
            Reply::Pong { clock } => {
                self.clocks.insert(from.clone(), NodeClock { at_us: now_us, clock });
                return self.attempt(now_us);
            }
            Reply::Topology { .. } => {
                self.take_over(reply);
                return self.attempt(now_us);
            }
            Reply::Redirect(redirect) => {
                self.counts.redirects += 1;
                let asked = self.asked.as_mut().expect("it was answered");
                asked.sent = false;
                if asked.attempts < 4 && redirect.epoch > self.table.epoch().0 {
                    let held_epoch = self.table.epoch().0;
                    let frame = self.frame(&Request::Topology { held_epoch }, None);
                    return Wish::Send(from.clone(), frame);
                }
            }
            _ => self.judge(reply, settled, now_us),
        }
        self.asked = None;
        // A reply that tells of another epoch has the table fetched before the next request.
        if told.0 != self.table.epoch().short() && told != ShortEpoch::default() {
            let held_epoch = self.table.epoch().0;
            let fetch = self.frame(&Request::Topology { held_epoch }, None);
            self.fetching = Some(self.next_id);
            return Wish::Send(from.clone(), fetch);
        }
        Wish::Over
    }

    fn take_over(&mut self, reply: &Reply<'_>) {
        // Done says that the node has none that is later.
        let Reply::Topology { table } = reply else { return };
        let table = Topology::decode(table).expect("a node sends a topology");
        if table.epoch() > self.table.epoch() {
            self.table = table;
            self.counts.topologies += 1;
        }
    }

    fn judge(&mut self, reply: &Reply<'_>, settled: bool, now_us: u64) {
        let asked = self.asked.as_ref().expect("it was answered");
        let known = &mut self.keys[asked.key];
        match (asked.what, reply) {
            (What::Get, Reply::Value(value)) => {
                self.counts.hits += 1;
                let text = std::str::from_utf8(value.bytes).expect("values are text");
                let (key, number) = text.split_once('=').expect("a key and a number");
                assert_eq!(key, known.key, "a value that was never written to its key");
                let number: u64 = number.parse().expect("a number");
                assert!(number <= known.tried, "{key} holds {number}, which was never written");
                let fresh = number >= known.least || known.late.contains(&number);
                assert!(
                    fresh || !(settled && asked.settled),
                    "{key} holds {number}, older than {}",
                    known.least
                );
            }
            (What::Set, Reply::Done { .. }) => known.acknowledged(asked.number, now_us),
            (What::Delete, Reply::Done { .. } | Reply::Failed { status: Status::NotFound, .. }) => {
                known.acknowledged(known.tried + 1, now_us);
            }
            (What::Get, Reply::Failed { status: Status::NotFound, .. }) => {}
            (_, Reply::Failed { status: Status::TooLate | Status::Loading, .. }) => {}
            (what, reply) => panic!("{what:?} was answered with {reply:?}"),
        }
    }

    /// Gives the request up when its time is over, or its connection is.
    pub(super) fn give_up(&mut self, lost: Option<&NodeName>, now_us: u64) {
        if let Some(node) = lost {
            self.clocks.remove(node);
        }
        let Some(asked) = &self.asked else { return };
        let is_lost = lost.is_some_and(|node| self.owner(asked.key) == *node);
        if !is_lost && now_us < asked.deadline_us {
            return;
        }
        self.counts.timeouts += 1;
        if asked.sent && asked.what == What::Set {
            let until = asked.deadline_us + CLOCK_ERROR_US;
            self.keys[asked.key].uncertain.push((asked.number, until));
        }
        self.asked = None;
    }
}
