//! What clients ask for, drawn by lot: every request of the protocol, with every option,
//! and now and then something that is none.

use corelane_protocol::wire;
use corelane_protocol::{
    Absent, Answer, Arithmetic, Count, DeleteCondition, Direction, ExpireCondition, Hello, Jitter,
    Keys, MonotonicUs, OldValue, Request, RequestHead, Set, SetCondition, Side, Status, Ttl,
    Version, WantVersion,
};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::sim::client::{Awaited, Client, Target};
use crate::sim::keys::{Moment, TrackedKey, delete_if_value, is_read};
use crate::sim::ledger::{Ledger, SHARED_COUNTERS, shared_value, value_of};
use crate::sim::model::{DeleteIf, KeyHead, KeyRequest};
use crate::sim::scenario::{Scenario, ValueSizes};
use crate::sim::world::World;

/// Keys of a client's own: of all lengths, some with hash tags.
pub(crate) fn own_keys(
    client: usize,
    count: usize,
    ledger: &Ledger,
    random: &mut SmallRng,
    now: Moment,
) -> Vec<TrackedKey> {
    (0..count)
        .map(|at| {
            let mut bytes = match random.random_range(0..40) {
                0 => format!("{{c{client}}}/{at}").into_bytes(),
                1 => format!("c{client}:{at}:{}", "long".repeat(300)).into_bytes(),
                _ => format!("c{client}:{at}").into_bytes(),
            };
            if at == 0 && client.is_multiple_of(7) {
                bytes.resize(corelane_protocol::limits::KEY_BYTES_MAX, b'x');
            }
            let core = ledger.core_of(&bytes);
            TrackedKey::new(bytes, core, now)
        })
        .collect()
}

/// Draws requests for one client.
pub(crate) struct Workload<'a> {
    /// The run.
    pub(crate) scenario: &'a Scenario,
    /// What is drawn from.
    pub(crate) random: &'a mut SmallRng,
    /// What all clients know.
    pub(crate) ledger: &'a mut Ledger,
    /// For moments.
    pub(crate) world: &'a mut World,
}

impl Workload<'_> {
    /// The client's first request: a hello that may be wrong, or none.
    pub(crate) fn greet(&mut self, client: &mut Client) {
        let at = self.world.moment();
        let core = match self.random.random_range(0..4) {
            0 => None,
            _ => Some(self.random.random_range(0..self.scenario.cores)),
        };
        let token = self.scenario.token.as_deref().unwrap_or(b"");
        let hello = Hello { version: 1, core, token };
        let (hello, outcome) = match self.random.random_range(0..60) {
            0 => (Hello { version: 0, ..hello }, Err(Status::UnsupportedVersion)),
            1 => {
                let core = self.random.random_range(self.scenario.cores..u16::MAX);
                (Hello { core: Some(core), ..hello }, Err(Status::NoSuchCore))
            }
            2..5 if self.scenario.token.is_some() => {
                (Hello { token: b"an open secre", ..hello }, Err(Status::Unauthorized))
            }
            5..8 if self.scenario.token.is_some() => {
                let mut frame = Vec::new();
                let head = RequestHead { id: client.fresh_id(), ..RequestHead::default() };
                wire::encode_request(&head, &Request::Ping, &mut frame).expect("a ping");
                return client.misbehave(&frame, Status::Unauthorized);
            }
            8..20 if self.scenario.token.is_none() => return,
            20..24 => (Hello { version: self.random.random_range(2..100), ..hello }, Ok(core)),
            _ => (hello, Ok(core)),
        };
        let head = RequestHead { id: client.fresh_id(), ..RequestHead::default() };
        let request = Request::Hello(hello);
        match outcome {
            Ok(_) => client.request(&head, &request, at, Some(Awaited::Hello(outcome))),
            Err(status) => {
                let mut frame = Vec::new();
                wire::encode_request(&head, &request, &mut frame).expect("a hello");
                client.misbehave(&frame, status);
            }
        }
    }

    /// One request.
    pub(crate) fn send_one(&mut self, client: &mut Client) {
        let at = self.world.moment();
        self.ledger.operations += 1;
        match self.random.random_range(0..1_000) {
            0..730 => {
                let key = self.skewed(client.keys.len());
                self.own_request(client, key, at);
            }
            730..870 => self.shared_request(client, at),
            870..900 => self.addition(client, at),
            900..950 => self.multi_get(client, at),
            950..965 => self.ping(client, at),
            965..990 => self.refused(client, at),
            990..992 => self.stats(client, at),
            _ => {
                if self.random.random_range(0..800) < self.scenario.flushes_in_100k {
                    self.flush(client, at);
                }
            }
        }
    }

    /// A plain get, as caches mostly see them: with many of these in a row.
    pub(crate) fn read_one(&mut self, client: &mut Client) {
        let at = self.world.moment();
        self.ledger.operations += 1;
        let key = self.skewed(client.keys.len());
        let request = KeyRequest::Get { least_version: None };
        let head = RequestHead { id: client.fresh_id(), ..RequestHead::default() };
        let mut frame = Vec::new();
        wire::encode_request(&head, &on_key(&client.keys[key].bytes, &request), &mut frame)
            .expect("clients send sense");
        let number = client.keys[key].sent(request, KeyHead::default(), true, at);
        client.raw(head.id, &frame, at, Some(Awaited::OfKey(Target::Own { key, number })));
    }

    /// Something after which the node closes the connection.
    pub(crate) fn misdeed(&mut self, client: &mut Client) {
        let mut frame = self.encoded(client, &Request::Ping);
        let status = match self.random.random_range(0..3) {
            0 => {
                frame[0] = b'*';
                Status::Garbled
            }
            1 => {
                frame[8..12].fill(0xFF);
                Status::FrameTooLong
            }
            _ => {
                frame[4..8].fill(0xFF);
                Status::Invalid
            }
        };
        let junk = self.random.random_range(0..200);
        frame.extend((0..junk).map(|_| self.random.random::<u8>()));
        client.misbehave(&frame, status);
    }

    fn skewed(&mut self, count: usize) -> usize {
        let random = &mut self.random;
        random.random_range(0..count).min(random.random_range(0..count))
    }

    fn own_request(&mut self, client: &mut Client, key: usize, at: Moment) {
        let request = self.key_request(&client.keys[key]);
        let wants_version = self.random.random_bool(0.15);
        let deadline_us = match self.random.random_range(0..40) {
            0 => Some(at.us.saturating_sub(self.random.random_range(0..1_000))),
            1 => Some(at.us + self.random.random_range(0..1_000)),
            2 => Some(at.us + 1_000_000_000_000),
            _ => None,
        };
        let is_silent = !is_read(&request)
            && !matches!(request, KeyRequest::GetAndTouch { .. })
            && self.random.random_bool(0.1);
        let head = RequestHead {
            id: client.fresh_id(),
            answer: if is_silent { Answer::Never } else { Answer::Always },
            want_version: if wants_version { WantVersion::Yes } else { WantVersion::No },
            deadline: deadline_us.map(MonotonicUs),
            ..RequestHead::default()
        };
        let key_head = KeyHead { wants_version, deadline_us };
        let mut frame = Vec::new();
        wire::encode_request(&head, &on_key(&client.keys[key].bytes, &request), &mut frame)
            .expect("clients send sense");
        let number = client.keys[key].sent(request, key_head, !is_silent, at);
        let awaited = (!is_silent).then_some(Awaited::OfKey(Target::Own { key, number }));
        client.raw(head.id, &frame, at, awaited);
    }

    fn key_request(&mut self, key: &TrackedKey) -> KeyRequest {
        match self.random.random_range(0..100) {
            0..34 => {
                let least_version =
                    self.random.random_bool(0.1).then(|| self.random.random_range(0..50));
                KeyRequest::Get { least_version }
            }
            34..38 => KeyRequest::GetAndTouch { ttl: self.ttl() },
            38..64 => {
                let condition = match self.random.random_range(0..20) {
                    0..2 => SetCondition::Absent,
                    2..4 => SetCondition::Present,
                    4..6 => SetCondition::VersionIs(self.version_of(key)),
                    6..8 => SetCondition::NewerThan(Version(self.random.random_range(0..50))),
                    _ => SetCondition::Always,
                };
                let user_flags =
                    if self.random.random_bool(0.3) { self.random.random() } else { 0 };
                KeyRequest::Set { value: self.value(), user_flags, ttl: self.ttl(), condition }
            }
            64..74 => KeyRequest::Delete {
                condition: match self.random.random_range(0..10) {
                    0..2 => DeleteIf::VersionIs(self.version_of(key).0),
                    2..5 => delete_if_value(key),
                    _ => DeleteIf::Always,
                },
            },
            74..79 => KeyRequest::Touch { ttl: self.ttl() },
            79..88 => KeyRequest::Count {
                delta: match self.random.random_range(0..8) {
                    0 => self.random.random(),
                    _ => self.random.random_range(0..1_000),
                },
                direction: [Direction::Increment, Direction::Decrement]
                    [self.random.random_range(0..2)],
                arithmetic: [Arithmetic::Signed, Arithmetic::Unsigned64]
                    [self.random.random_range(0..2)],
                initial: match self.random.random_range(0..10) {
                    0 => Some(self.random.random()),
                    1..7 => Some(self.random.random_range(0..1_000)),
                    _ => None,
                },
                ttl: self.ttl(),
            },
            88..93 => KeyRequest::Extend {
                value: self.value(),
                side: [Side::Append, Side::Prepend][self.random.random_range(0..2)],
            },
            93..96 => KeyRequest::Exists,
            _ => KeyRequest::TtlOf,
        }
    }

    fn ttl(&mut self) -> Ttl {
        let jitter = [Jitter::Exact, Jitter::Spread][self.random.random_range(0..2)];
        let ms = match self.random.random_range(0..20) {
            0..6 => return Ttl::Default,
            6..8 => return Ttl::Never,
            8..10 => return Ttl::Keep,
            10 => 0,
            11 => self.random.random_range(1..=3),
            12..17 => self.random.random_range(1..=2_000),
            17..19 => self.random.random_range(1..=60_000),
            _ => self.random.random_range(1..=wire::TTL_MS_MAX),
        };
        Ttl::After { ms, jitter }
    }

    fn version_of(&mut self, key: &TrackedKey) -> Version {
        match key.last_version {
            Some(version) if self.random.random_bool(0.8) => Version(version),
            _ => Version(self.random.random_range(0..50)),
        }
    }

    fn value(&mut self) -> std::rc::Rc<[u8]> {
        let number = self.ledger.next_value();
        let limit = self.scenario.value_bytes_max;
        let length = match (self.random.random_range(0..100), self.scenario.value_sizes) {
            (0..15, _) => return number.to_string().into_bytes().into(),
            (15..18, _) => 0,
            (18..22, _) => self.random.random_range(0..=limit.min(20_000)),
            (22.., ValueSizes::Medium) => self.random.random_range(0..=20_000),
            (22..24, ValueSizes::Giant) => self.random.random_range(0..=limit),
            (24, ValueSizes::Giant) => limit,
            _ => self.random.random_range(0..=120),
        };
        value_of(number, length)
    }

    fn shared_request(&mut self, client: &mut Client, at: Moment) {
        let key = self.skewed(self.ledger.shared.len());
        let bytes = self.ledger.shared[key].bytes.clone();
        let head = RequestHead { id: client.fresh_id(), ..RequestHead::default() };
        let awaited = Some(Awaited::OfKey(Target::Shared(key)));
        match self.random.random_range(0..20) {
            0..8 => {
                let number = self.ledger.next_value();
                self.ledger.shared[key].write_sent(number, client.number, at.turn);
                let set = Set {
                    key: &bytes,
                    value: &shared_value(number),
                    user_flags: 0,
                    ttl: Ttl::Never,
                    condition: SetCondition::Always,
                    old: OldValue::Omit,
                };
                client.request(&head, &Request::Set(set), at, awaited);
            }
            8..9 => {
                self.ledger.shared[key].remove_sent(client.number, at.turn);
                let condition = DeleteCondition::Always;
                client.request(&head, &Request::Delete { key: &bytes, condition }, at, awaited);
            }
            _ => {
                let get = Request::Get { key: &bytes, least_version: None };
                client.request(&head, &get, at, awaited);
            }
        }
    }

    fn addition(&mut self, client: &mut Client, at: Moment) {
        let counter = self.random.random_range(0..SHARED_COUNTERS);
        self.ledger.counters.sent(counter);
        let key = format!("counter-{counter}");
        let count = Count {
            key: key.as_bytes(),
            delta: 1,
            direction: Direction::Increment,
            arithmetic: Arithmetic::Unsigned64,
            initial: Some(1),
            ttl: Ttl::Never,
        };
        let head = RequestHead { id: client.fresh_id(), ..RequestHead::default() };
        let awaited = Some(Awaited::OfKey(Target::Counter(counter)));
        client.request(&head, &Request::Count(count), at, awaited);
    }

    fn multi_get(&mut self, client: &mut Client, at: Moment) {
        let most = self.scenario.multi_get_keys_max;
        let count = self.random.random_range(1..=most).min(self.random.random_range(1..=most));
        let wants_version = self.random.random_bool(0.1);
        let deadline_us =
            self.random.random_bool(0.05).then(|| at.us + self.random.random_range(0..200));
        let head = RequestHead {
            id: client.fresh_id(),
            want_version: if wants_version { WantVersion::Yes } else { WantVersion::No },
            deadline: deadline_us.map(MonotonicUs),
            ..RequestHead::default()
        };
        let mut keys = Vec::with_capacity(count);
        let mut targets = Vec::with_capacity(count);
        let mut bytes_left = corelane_protocol::limits::MULTI_GET_BYTES_MAX;
        for _ in 0..count {
            let is_own = wants_version || deadline_us.is_some() || self.random.random_bool(0.8);
            let (bytes, target) = if is_own {
                let key = self.skewed(client.keys.len());
                (client.keys[key].bytes.clone(), Target::Own { key, number: 0 })
            } else {
                let key = self.skewed(self.ledger.shared.len());
                (self.ledger.shared[key].bytes.clone(), Target::Shared(key))
            };
            if bytes.len() + 2 > bytes_left {
                break;
            }
            bytes_left -= bytes.len() + 2;
            keys.push(bytes);
            targets.push(match target {
                Target::Own { key, .. } => {
                    let get = KeyRequest::Get { least_version: None };
                    let key_head = KeyHead { wants_version, deadline_us };
                    let number = client.keys[key].sent(get, key_head, true, at);
                    Target::Own { key, number }
                }
                other => other,
            });
        }
        self.ledger.operations += keys.len() as u64 - 1;
        let mut encoded = Vec::new();
        let keys = Keys::encode(keys.iter().map(Vec::as_slice), &mut encoded).expect("in limits");
        let seen = vec![false; targets.len()];
        let awaited = Some(Awaited::OfKeys { targets, seen });
        client.request(&head, &Request::MultiGet(keys), at, awaited);
    }

    fn ping(&mut self, client: &mut Client, at: Moment) {
        let head = RequestHead { id: client.fresh_id(), ..RequestHead::default() };
        client.request(&head, &Request::Ping, at, Some(Awaited::Pong));
    }

    fn stats(&mut self, client: &mut Client, at: Moment) {
        let head = RequestHead { id: client.fresh_id(), ..RequestHead::default() };
        let seen = vec![false; usize::from(self.scenario.cores)];
        client.request(&head, &Request::Stats, at, Some(Awaited::Stats { seen }));
    }

    fn flush(&mut self, client: &mut Client, at: Moment) {
        let delay_ms = match self.random.random_range(0..3) {
            0 => self.random.random_range(1..5_000),
            _ => 0,
        };
        let flush = self.ledger.flush_sent(client.number, at, delay_ms);
        let is_silent = self.random.random_bool(0.1);
        let head = RequestHead {
            id: client.fresh_id(),
            answer: if is_silent { Answer::Never } else { Answer::Always },
            ..RequestHead::default()
        };
        let awaited = (!is_silent).then_some(Awaited::Flush(flush));
        client.request(&head, &Request::Flush { delay_ms }, at, awaited);
    }

    /// A request that is refused, on a connection that goes on.
    fn refused(&mut self, client: &mut Client, at: Moment) {
        let get = Request::Get { key: b"refused", least_version: None };
        let (frame, status) = match self.random.random_range(0..8) {
            0 => (patched(self.encoded(client, &get), 1, 0x7F), Status::UnknownRequest),
            1 => (patched(self.encoded(client, &get), 2, 0x80), Status::Invalid),
            2 => (patched(self.encoded(client, &get), 2, 0x01), Status::Invalid),
            3 => (patched(self.encoded(client, &get), 3, 200), Status::Invalid),
            4 => {
                let mut frame = self.encoded(client, &Request::Ping);
                let key_bytes = corelane_protocol::limits::KEY_BYTES_MAX + 1;
                frame[1] = wire::Opcode::Get as u8;
                frame[8..12].copy_from_slice(&(key_bytes as u32).to_le_bytes());
                frame[12..14].copy_from_slice(&(key_bytes as u16).to_le_bytes());
                frame.resize(frame.len() + key_bytes, b'k');
                (frame, Status::KeyTooLong)
            }
            5 => {
                let over = self.random.random_range(1..100_000);
                let value = vec![b'v'; self.scenario.value_bytes_max + over];
                let set = Set {
                    key: b"refused",
                    value: &value,
                    user_flags: 1,
                    ttl: Ttl::Never,
                    condition: SetCondition::Always,
                    old: OldValue::Omit,
                };
                (self.encoded(client, &Request::Set(set)), Status::ValueTooLarge)
            }
            6 => {
                let hello = Hello { version: 1, core: None, token: b"" };
                // As the first request it would be a greeting.
                let ping = self.encoded(client, &Request::Ping);
                client.raw(id_of(&ping), &ping, at, Some(Awaited::Pong));
                (self.encoded(client, &Request::Hello(hello)), Status::Invalid)
            }
            _ => {
                let mut frame = self.encoded(client, &Request::Ping);
                frame[1] = wire::Opcode::MultiGet as u8;
                (frame, Status::Invalid)
            }
        };
        client.raw(id_of(&frame), &frame, at, Some(Awaited::Refused(status)));
    }

    fn encoded(&mut self, client: &mut Client, request: &Request<'_>) -> Vec<u8> {
        let head = RequestHead { id: client.fresh_id(), ..RequestHead::default() };
        let mut frame = Vec::new();
        wire::encode_request(&head, request, &mut frame).expect("clients send sense");
        frame
    }
}

fn id_of(frame: &[u8]) -> corelane_protocol::RequestId {
    let id = frame[4..8].try_into().expect("four bytes");
    corelane_protocol::RequestId(u32::from_le_bytes(id))
}

fn patched(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

fn on_key<'k>(key: &'k [u8], request: &'k KeyRequest) -> Request<'k> {
    match request {
        KeyRequest::Get { least_version } => {
            Request::Get { key, least_version: least_version.map(Version) }
        }
        KeyRequest::GetAndTouch { ttl } => Request::GetAndTouch { key, ttl: *ttl },
        KeyRequest::Set { value, user_flags, ttl, condition } => Request::Set(Set {
            key,
            value,
            user_flags: *user_flags,
            ttl: *ttl,
            condition: *condition,
            old: OldValue::Omit,
        }),
        KeyRequest::Delete { condition } => Request::Delete {
            key,
            condition: match condition {
                DeleteIf::Always => DeleteCondition::Always,
                DeleteIf::VersionIs(version) => DeleteCondition::VersionIs(Version(*version)),
                DeleteIf::ValueIs(value) => DeleteCondition::ValueIs(value),
            },
        },
        KeyRequest::Touch { ttl } => {
            Request::Touch { key, ttl: *ttl, condition: ExpireCondition::Always }
        }
        KeyRequest::Count { delta, direction, arithmetic, initial, ttl } => Request::Count(Count {
            key,
            delta: *delta,
            direction: *direction,
            arithmetic: *arithmetic,
            initial: *initial,
            ttl: *ttl,
        }),
        KeyRequest::Extend { value, side } => {
            Request::Extend { key, value, side: *side, absent: Absent::Miss }
        }
        KeyRequest::Exists => Request::Exists { key },
        KeyRequest::TtlOf => Request::TtlOf { key },
    }
}
