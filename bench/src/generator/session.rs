//! One connection's requests and replies, without I/O: writes requests into `output`, and
//! from received bytes finds, for every reply, the request, checks it, and counts.
//!
//! A request id is the number of a place in a table and how often the place was used, so
//! that a reply that comes twice, or for nothing, is noticed.

use std::collections::VecDeque;

use crate::clock::Nanos;
use crate::codec::{Answer, Codec, CodecError, Reply, ReplyOrder};
use crate::workload::keys::KeyBuffer;
use crate::workload::{KeyFormat, KeyNumber, Operation, ValueFormat};

use super::tally::{Tally, Window};

/// Most requests under way on one connection: places are numbered by the lower half of a
/// request id, and the id of all ones is the protocol's own.
pub const PIPELINE_MAX: usize = 32_768;

/// What keys and values look like, once for all connections of a thread.
#[derive(Clone, Debug)]
pub struct Formats {
    keys: KeyFormat,
    values: ValueFormat,
    key: KeyBuffer,
    value: Vec<u8>,
}

impl Formats {
    /// Buffers for these formats.
    pub fn new(keys: KeyFormat, values: ValueFormat) -> Formats {
        let key = keys.buffer();
        Formats { keys, values, key, value: Vec::new() }
    }
}

/// A reply that fits no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Not the protocol.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Nothing with this id is under way, or nothing at all.
    #[error("the server answered a request that is not under way (id {id:?})")]
    Unasked {
        /// The reply's id.
        id: Option<u32>,
    },
    /// A reply of another kind than the request's.
    #[error("the server answered a {operation:?} with something else")]
    Mismatched {
        /// What was asked.
        operation: Operation,
    },
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: KeyNumber,
    /// Its latency runs from here.
    since: Nanos,
    /// Its id; the upper half grows each time the place is used.
    id: u32,
    operation: Operation,
    state: PlaceState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlaceState {
    Free,
    UnderWay,
}

/// See the module.
#[derive(Debug)]
pub struct Session<C> {
    codec: C,
    places: Vec<Place>,
    free: Vec<u16>,
    /// Places in the order of their requests; only where replies come in that order.
    order: VecDeque<u16>,
    /// The beginning of a reply whose end has not arrived.
    partial: Vec<u8>,
    /// Requests that were written and not yet handed to the kernel.
    pub output: Vec<u8>,
}

impl<C: Codec> Session<C> {
    /// A session with up to `pipeline` requests under way.
    ///
    /// # Panics
    /// The pipeline is empty or over [`PIPELINE_MAX`].
    pub fn new(codec: C, pipeline: usize) -> Session<C> {
        assert!((1..=PIPELINE_MAX).contains(&pipeline), "a pipeline of {pipeline}");
        let place = |place: usize| Place {
            number: KeyNumber(0),
            since: Nanos(0),
            id: place as u32,
            operation: Operation::Get,
            state: PlaceState::Free,
        };
        Session {
            codec,
            places: (0..pipeline).map(place).collect(),
            free: (0..pipeline).rev().map(|place| place as u16).collect(),
            order: VecDeque::new(),
            partial: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Requests sent or written, and not answered.
    pub fn under_way(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether another request may be written.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Writes a request, whose latency runs from `since`.
    ///
    /// # Panics
    /// There is no room.
    pub fn ask(
        &mut self,
        operation: Operation,
        number: KeyNumber,
        since: Nanos,
        formats: &mut Formats,
    ) {
        let index = self.free.pop().expect("the caller asked whether there is room");
        let place = &mut self.places[usize::from(index)];
        place.number = number;
        place.since = since;
        place.id = place.id.wrapping_add(1 << 16);
        place.operation = operation;
        place.state = PlaceState::UnderWay;
        let key = formats.keys.write(number, &mut formats.key);
        match operation {
            Operation::Get => self.codec.get(place.id, key, &mut self.output),
            Operation::Set => {
                formats.values.write(number, &mut formats.value);
                self.codec.set(place.id, key, &formats.value, &mut self.output);
            }
        }
        if C::ORDER == ReplyOrder::AsSent {
            self.order.push_back(index);
        }
    }

    /// Takes received bytes, and counts the replies that end in them as having come `now`.
    /// Returns how many.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: Nanos,
        window: &Window,
        formats: &Formats,
        tally: &mut Tally,
    ) -> Result<u64, SessionError> {
        let mut counting = Counting {
            window_open: window.contains(now),
            now,
            same_since: Nanos(0),
            same_count: 0,
            replies: 0,
            tally,
        };
        let result = if self.partial.is_empty() {
            self.take_replies(bytes, formats, &mut counting).map(|used| {
                self.partial.extend_from_slice(&bytes[used..]);
            })
        } else {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(bytes);
            self.take_replies(&all, formats, &mut counting).map(|used| {
                all.drain(..used);
                self.partial = all;
            })
        };
        counting.record_run();
        let replies = counting.replies;
        result.map(|()| replies)
    }

    /// Takes whole replies from the front, and returns how many bytes they were.
    fn take_replies(
        &mut self,
        bytes: &[u8],
        formats: &Formats,
        counting: &mut Counting<'_>,
    ) -> Result<usize, SessionError> {
        let mut used = 0;
        while used < bytes.len() {
            let Some(reply) = self.codec.reply(&bytes[used..])? else { break };
            used += reply.length;
            let index = find(&self.places, &mut self.order, C::ORDER, &reply)?;
            let place = &mut self.places[usize::from(index)];
            counting.count(place, &reply.answer, formats)?;
            place.state = PlaceState::Free;
            self.free.push(index);
        }
        Ok(used)
    }
}

/// The place of the request that a reply answers.
fn find(
    places: &[Place],
    order: &mut VecDeque<u16>,
    reply_order: ReplyOrder,
    reply: &Reply<'_>,
) -> Result<u16, SessionError> {
    let unasked = SessionError::Unasked { id: reply.id };
    match (reply_order, reply.id) {
        (ReplyOrder::AsSent, _) => order.pop_front().ok_or(unasked),
        (ReplyOrder::ById, Some(id)) => {
            let index = id as u16;
            places
                .get(usize::from(index))
                .filter(|place| place.id == id && place.state == PlaceState::UnderWay)
                .map(|_| index)
                .ok_or(unasked)
        }
        (ReplyOrder::ById, None) => Err(unasked),
    }
}

/// Counts the replies of one receive. Requests of one batch have one starting time, so
/// their latencies are recorded together.
struct Counting<'t> {
    tally: &'t mut Tally,
    window_open: bool,
    now: Nanos,
    same_since: Nanos,
    same_count: u64,
    replies: u64,
}

impl Counting<'_> {
    fn count(
        &mut self,
        place: &Place,
        answer: &Answer<'_>,
        formats: &Formats,
    ) -> Result<(), SessionError> {
        self.replies += 1;
        let inside = u64::from(self.window_open);
        match (place.operation, answer) {
            (Operation::Get, Answer::Value(value)) => {
                if formats.values.check(place.number, value) {
                    self.tally.hits += inside;
                } else {
                    self.tally.wrong_values += 1;
                }
            }
            (Operation::Get, Answer::Missing) => self.tally.misses += inside,
            (Operation::Get, Answer::Unchecked) => self.tally.hits += inside,
            (Operation::Set, Answer::Stored | Answer::Unchecked) => self.tally.stored += inside,
            (_, Answer::Refused(words)) => self.tally.complain(words),
            (operation, _) => return Err(SessionError::Mismatched { operation }),
        }
        if self.window_open {
            self.tally.ops += 1;
            if place.since != self.same_since {
                self.record_run();
                self.same_since = place.since;
            }
            self.same_count += 1;
        }
        Ok(())
    }

    fn record_run(&mut self) {
        if self.same_count > 0 {
            self.tally.record_latency(self.now.since(self.same_since), self.same_count);
            self.same_count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Greeting, Opening};

    /// A protocol for tests: replies are an id, a kind, a length, and that many bytes.
    #[derive(Debug, Default)]
    struct Plain<const BY_ID: bool>;

    impl<const BY_ID: bool> Codec for Plain<BY_ID> {
        const ORDER: ReplyOrder = if BY_ID { ReplyOrder::ById } else { ReplyOrder::AsSent };

        fn open(&mut self, _: Opening<'_>, _: &mut Vec<u8>) {}

        fn opened(&mut self, _: &[u8]) -> Result<Option<(Greeting, usize)>, CodecError> {
            Ok(None)
        }

        fn get(&mut self, id: u32, _: &[u8], output: &mut Vec<u8>) {
            output.extend_from_slice(&id.to_le_bytes());
        }

        fn set(&mut self, id: u32, _: &[u8], _: &[u8], output: &mut Vec<u8>) {
            output.extend_from_slice(&id.to_le_bytes());
        }

        fn reply<'i>(&mut self, input: &'i [u8]) -> Result<Option<Reply<'i>>, CodecError> {
            let Some((head, rest)) = input.split_first_chunk::<6>() else { return Ok(None) };
            let length = usize::from(head[5]);
            let Some(body) = rest.get(..length) else { return Ok(None) };
            let answer = match head[4] {
                b'v' => Answer::Value(body),
                b'm' => Answer::Missing,
                b's' => Answer::Stored,
                _ => Answer::Refused(String::from_utf8_lossy(body)),
            };
            let id = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            Ok(Some(Reply { id: BY_ID.then_some(id), answer, length: 6 + length }))
        }
    }

    fn reply(id: u32, kind: u8, body: &[u8]) -> Vec<u8> {
        [&id.to_le_bytes(), &[kind, body.len() as u8][..], body].concat()
    }

    fn value(number: u64) -> Vec<u8> {
        let mut value = Vec::new();
        ValueFormat::new(64, 1).write(KeyNumber(number), &mut value);
        value
    }

    struct Fixture<const BY_ID: bool> {
        session: Session<Plain<BY_ID>>,
        formats: Formats,
        tally: Tally,
    }

    impl<const BY_ID: bool> Fixture<BY_ID> {
        fn new(pipeline: usize) -> Self {
            Fixture {
                session: Session::new(Plain, pipeline),
                formats: Formats::new(KeyFormat::new(100, 16).unwrap(), ValueFormat::new(64, 1)),
                tally: Tally::default(),
            }
        }

        /// Asks, and returns the request's id.
        fn ask(&mut self, operation: Operation, number: u64, since: u64) -> u32 {
            self.session.ask(operation, KeyNumber(number), Nanos(since), &mut self.formats);
            let output = std::mem::take(&mut self.session.output);
            u32::from_le_bytes(output.try_into().unwrap())
        }

        fn receive(&mut self, bytes: &[u8], now: u64) -> Result<u64, SessionError> {
            let window = Window { from: Nanos(1_000), to: Nanos(1_000_000) };
            self.session.receive(bytes, Nanos(now), &window, &self.formats, &mut self.tally)
        }
    }

    #[test]
    fn replies_in_any_order_and_in_pieces_find_their_requests() {
        let mut fixture = Fixture::<true>::new(4);
        let a = fixture.ask(Operation::Get, 7, 1_000);
        let b = fixture.ask(Operation::Set, 8, 2_000);
        let c = fixture.ask(Operation::Get, 9, 3_000);
        let d = fixture.ask(Operation::Get, 10, 3_000);
        assert!(!fixture.session.has_room());
        let bytes = [
            reply(c, b'v', &value(9)),
            reply(b, b's', b""),
            reply(d, b'm', b""),
            reply(a, b'v', &value(7)),
        ]
        .concat();
        let mut replies = 0;
        for piece in bytes.chunks(5) {
            replies += fixture.receive(piece, 10_000).unwrap();
        }
        assert_eq!(replies, 4);
        assert_eq!(fixture.session.under_way(), 0);
        let tally = &fixture.tally;
        assert_eq!((tally.ops, tally.hits, tally.misses, tally.stored), (4, 2, 1, 1));
        assert_eq!(tally.latency.len(), 4);
        assert!(tally.latency.equivalent(tally.latency.min(), 7_000));
        assert!(tally.latency.equivalent(tally.latency.max(), 9_000));
        assert!(tally.is_clean());
    }

    #[test]
    fn replies_without_ids_are_taken_in_order() {
        let mut fixture = Fixture::<false>::new(2);
        fixture.ask(Operation::Get, 7, 1_000);
        fixture.ask(Operation::Get, 8, 1_000);
        let bytes = [reply(0, b'v', &value(7)), reply(0, b'v', &value(8))].concat();
        assert_eq!(fixture.receive(&bytes, 2_000), Ok(2));
        assert_eq!(fixture.tally.wrong_values, 0);
        assert_eq!(
            fixture.receive(&reply(0, b'm', b""), 2_000),
            Err(SessionError::Unasked { id: None })
        );
    }

    #[test]
    fn another_keys_value_is_wrong() {
        let mut fixture = Fixture::<true>::new(1);
        let id = fixture.ask(Operation::Get, 7, 1_000);
        fixture.receive(&reply(id, b'v', &value(8)), 2_000).unwrap();
        assert_eq!((fixture.tally.wrong_values, fixture.tally.hits), (1, 0));
        assert!(!fixture.tally.is_clean());
    }

    #[test]
    fn a_reply_that_comes_twice_is_noticed() {
        let mut fixture = Fixture::<true>::new(1);
        let first = fixture.ask(Operation::Get, 7, 1_000);
        fixture.receive(&reply(first, b'm', b""), 2_000).unwrap();
        let unasked = Err(SessionError::Unasked { id: Some(first) });
        assert_eq!(fixture.receive(&reply(first, b'm', b""), 2_000), unasked);
        fixture.ask(Operation::Get, 7, 1_000);
        assert_eq!(fixture.receive(&reply(first, b'm', b""), 2_000), unasked);
    }

    #[test]
    fn only_the_window_is_measured_but_errors_always_count() {
        let mut fixture = Fixture::<true>::new(1);
        for (now, ops) in [(999, 0), (1_000, 1), (999_999, 2), (1_000_000, 2)] {
            let id = fixture.ask(Operation::Get, 7, 500);
            fixture.receive(&reply(id, b'm', b""), now).unwrap();
            assert_eq!(fixture.tally.ops, ops);
        }
        let id = fixture.ask(Operation::Set, 7, 500);
        fixture.receive(&reply(id, b'x', b"no memory"), 1).unwrap();
        assert_eq!((fixture.tally.errors, fixture.tally.ops), (1, 2));
        assert_eq!(fixture.tally.complaints, ["no memory"]);
    }

    #[test]
    fn a_reply_of_another_kind_ends_the_connection() {
        let mut fixture = Fixture::<true>::new(1);
        let id = fixture.ask(Operation::Set, 7, 1_000);
        assert_eq!(
            fixture.receive(&reply(id, b'v', &value(7)), 2_000),
            Err(SessionError::Mismatched { operation: Operation::Set })
        );
    }
}
