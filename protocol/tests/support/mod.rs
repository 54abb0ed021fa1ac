//! Random requests and replies: raw material drawn by proptest, from which a message that
//! borrows is put together.

use corelane_protocol::*;
use proptest::prelude::*;

/// Raw material of one message of either direction.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) form: u8,
    pub(crate) choices: [u8; 4],
    pub(crate) numbers: [u64; 3],
    pub(crate) small: [u16; 4],
    pub(crate) id: u32,
    pub(crate) deadline: Option<u64>,
    pub(crate) part: Option<u16>,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) text: String,
}

pub(crate) fn parts() -> impl Strategy<Value = Parts> {
    // Numbers near the ends of their range are drawn as often as any others.
    let number = || prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX - 2), any::<u64>()];
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    (
        (any::<u8>(), any::<[u8; 4]>(), [number(), number(), number()], any::<[u16; 4]>()),
        (0..u32::MAX, any::<Option<u64>>(), any::<Option<u16>>()),
        (bytes(40), bytes(200), proptest::collection::vec(bytes(12), 1..6), ".{0,20}"),
    )
        .prop_map(
            |((form, choices, numbers, small), (id, deadline, part), (key, value, keys, text))| {
                Parts { form, choices, numbers, small, id, deadline, part, key, value, keys, text }
            },
        )
}

impl Parts {
    pub(crate) fn request_head(&self, request: &Request<'_>) -> RequestHead {
        let write = matches!(
            request,
            Request::Set(_)
                | Request::Delete { .. }
                | Request::Touch { .. }
                | Request::Count(_)
                | Request::Extend { .. }
                | Request::Flush { .. }
        );
        RequestHead {
            id: RequestId(self.id),
            epoch: ShortEpoch(self.small[0]),
            answer: if write && self.choices[0] & 1 != 0 { Answer::Never } else { Answer::Always },
            want_version: if self.choices[0] & 2 != 0 { WantVersion::Yes } else { WantVersion::No },
            deadline: self.deadline.map(MonotonicUs),
            part: self.part,
            stand_in: if self.choices[0] & 4 != 0 { StandIn::Yes } else { StandIn::No },
            space: Space::default(),
        }
    }

    pub(crate) fn ttl(&self) -> Ttl {
        let ms = self.numbers[0].min(wire::TTL_MS_MAX);
        match self.choices[1] % 5 {
            0 => Ttl::Default,
            1 => Ttl::Never,
            2 => Ttl::Keep,
            3 => Ttl::After { ms, jitter: Jitter::Exact },
            _ => Ttl::After { ms, jitter: Jitter::Spread },
        }
    }

    /// A request of any form; `buffer` holds the keys of a multi-get.
    pub(crate) fn request<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Request<'a> {
        let (key, value) = (&self.key[..], &self.value[..]);
        let version = Version(self.numbers[1]);
        let side = if self.choices[2] & 1 == 0 { Side::Append } else { Side::Prepend };
        match self.form % 18 {
            0 => Request::Hello(Hello {
                version: self.small[1],
                core: (self.small[2] != u16::MAX && self.choices[2] & 1 != 0)
                    .then_some(self.small[2]),
                token: value,
            }),
            1 => Request::Ping,
            2 => Request::Get { key, least_version: (self.choices[2] & 1 != 0).then_some(version) },
            3 => Request::MultiGet(
                Keys::encode(self.keys.iter().map(Vec::as_slice), buffer).unwrap(),
            ),
            4 => Request::GetAndTouch { key, ttl: self.ttl() },
            5 => Request::Set(Set {
                key,
                value,
                user_flags: self.numbers[2] as u32,
                ttl: self.ttl(),
                condition: match self.choices[2] % 6 {
                    0 => SetCondition::Always,
                    1 => SetCondition::Absent,
                    2 => SetCondition::Present,
                    3 => SetCondition::VersionIs(version),
                    4 => SetCondition::Untouched,
                    _ => SetCondition::NewerThan(version),
                },
                old: OldValue::Omit,
            }),
            6 => Request::Delete {
                key,
                condition: match self.choices[2] % 3 {
                    0 => DeleteCondition::Always,
                    1 => DeleteCondition::VersionIs(version),
                    _ => DeleteCondition::ValueIs(value),
                },
            },
            7 => Request::Touch { key, ttl: self.ttl(), condition: ExpireCondition::Always },
            8 => Request::Count(Count {
                key,
                delta: self.numbers[2],
                direction: match self.choices[2] & 1 {
                    0 => Direction::Increment,
                    _ => Direction::Decrement,
                },
                arithmetic: match self.choices[2] & 2 {
                    0 => Arithmetic::Signed,
                    _ => Arithmetic::Unsigned64,
                },
                initial: (self.choices[3] & 1 != 0).then_some(self.numbers[1]),
                ttl: self.ttl(),
            }),
            9 => Request::Extend { key, value, side, absent: Absent::Miss },
            10 => Request::Exists { key },
            11 => Request::TtlOf { key },
            12 => Request::Flush { delay_ms: self.numbers[2] as u32 },
            13 => Request::Topology { held_epoch: self.numbers[0] },
            14 => Request::GetOrAsk { key },
            15 => Request::GetLeft { key },
            16 => Request::FlushSlot { key },
            _ => Request::Stats,
        }
    }

    pub(crate) fn reply_head(&self) -> ReplyHead {
        ReplyHead { id: RequestId(self.id), epoch: ShortEpoch(self.small[0]), part: self.part }
    }

    /// A reply of any kind; `buffer` holds the core ranges of a welcome.
    pub(crate) fn reply<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Reply<'a> {
        let version = (self.choices[1] & 1 != 0).then_some(Version(self.numbers[0]));
        match self.form % 12 {
            0 => Reply::Done { version },
            1 => Reply::Value(Value {
                bytes: &self.value,
                user_flags: if self.choices[2] & 1 == 0 { 0 } else { self.numbers[1] as u32 },
                version,
            }),
            2 => Reply::Number { number: self.numbers[1], version },
            3 if self.choices[2] & 1 == 0 => Reply::Remaining(Remaining::Never),
            3 => Reply::Remaining(Remaining::Ms(self.numbers[1])),
            4 => Reply::Stats { core: self.small[1], text: &self.value },
            5 => Reply::Pong { clock: MonotonicUs(self.numbers[1]) },
            6 => {
                let ranges = self.value.as_chunks::<4>().0.iter();
                Welcome::encode_ranges(
                    ranges.map(|[a, b, c, d]| {
                        (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]))
                    }),
                    buffer,
                );
                Reply::Welcome(Welcome {
                    version: self.small[1],
                    core: self.small[2],
                    cores: self.small[3],
                    key_bytes_max: self.numbers[0] as u16,
                    value_bytes_max: self.numbers[1] as u32,
                    clock: MonotonicUs(self.numbers[2]),
                    node_name: &self.key,
                    core_ranges: buffer,
                })
            }
            7 => Reply::End,
            8 => Reply::Busy { retry_after_us: self.numbers[1] as u32 },
            9 => Reply::Topology { table: &self.value },
            10 => Reply::Redirect(Redirect {
                redirection: match self.choices[2] & 1 {
                    0 => Redirection::Moved,
                    _ => Redirection::Ask,
                },
                slot: self.small[1],
                epoch: self.numbers[0],
                address: &self.text,
            }),
            _ => Reply::Failed {
                status: Status::ALL[1 + usize::from(self.choices[2]) % (Status::ALL.len() - 1)],
                message: &self.text,
            },
        }
    }
}
