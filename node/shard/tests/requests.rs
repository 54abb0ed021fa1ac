//! What an engine allocates at once while it executes requests on large values. The test is here
//! because an allocator that counts needs `unsafe`, which the engine may not have.

mod counting;

use corelane_engine::{Answered, DefaultTtl, Engine, EngineConfig, JitterMode};
use corelane_protocol::wire::{ReplyDecoded, between_cores};
use corelane_protocol::{
    Absent, Arithmetic, Count, DeleteCondition, Direction, ExpireCondition, Jitter, MonotonicUs,
    OldValue, Replace, Reply, Request, RequestHead, Set, SetCondition, Side, Space, Status, Ttl,
    WalkCursor, WithValue,
};
use corelane_ring::slot_of;
use corelane_shard::ShardConfig;

use counting::allocations;

const VALUE_BYTES: usize = 1 << 20;

/// The most that may be allocated at once.
const ALLOCATION_BYTES_MAX: usize = 128 << 10;

const NOW: MonotonicUs = MonotonicUs(1_000_000);

const TTL: Ttl = Ttl::After { ms: 60_000, jitter: Jitter::Exact };

fn engine() -> Engine {
    Engine::new(EngineConfig {
        core: 0,
        cores: 1,
        node_name: String::new(),
        cluster: None,
        shard: ShardConfig::new(64 << 20, |key| slot_of(key).number()),
        value_bytes_max: 4 * VALUE_BYTES,
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
        now: NOW,
        unix_ms: 0,
        dialects: Default::default(),
        about: Default::default(),
    })
    .expect("memory")
}

/// What a request does: its status, and the bytes and number of its reply.
#[derive(Debug, PartialEq)]
struct Done {
    status: Status,
    value: Option<Vec<u8>>,
    number: Option<u64>,
}

/// Asks for one thing, and looks at the largest allocation meanwhile.
#[track_caller]
fn ask(engine: &mut Engine, request: &Request<'_>) -> Done {
    let mut frame = Vec::new();
    between_cores::encode_request(&RequestHead::default(), request, &mut frame).expect("it fits");
    let mut answered = None;
    let (_, largest) = allocations(|| answered = Some(engine.ask(frame, NOW)));
    assert!(largest <= ALLOCATION_BYTES_MAX, "{largest} bytes at once");
    let Answered { packets, rest } = answered.expect("it was asked");
    assert!(rest.is_empty());
    let reply: Vec<u8> =
        packets.iter().flat_map(|packet| packet.pieces()).flatten().copied().collect();
    let ReplyDecoded::Complete { frame, consumed } = between_cores::decode_reply(&reply) else {
        panic!("a whole reply");
    };
    assert_eq!(consumed, reply.len());
    let done = |value, number| Done { status: Status::Ok, value, number };
    match frame.reply {
        Reply::Value(value) => done(Some(value.bytes.to_vec()), None),
        Reply::Described { value, .. } => done(value.map(<[u8]>::to_vec), None),
        Reply::Number { number, .. } => done(None, Some(number)),
        Reply::Failed { status, .. } => Done { status, value: None, number: None },
        _ => done(None, None),
    }
}

const DONE: Done = Done { status: Status::Ok, value: None, number: None };

fn failed(status: Status) -> Done {
    Done { status, ..DONE }
}

fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Set<'a> {
    let (ttl, condition, old) = (Ttl::Never, SetCondition::Always, OldValue::Omit);
    Set { key, value, user_flags: 7, ttl, condition, old }
}

#[test]
fn requests_on_large_values_allocate_little_at_a_time() {
    let mut engine = engine();
    let engine = &mut engine;
    let old: Vec<u8> = (0..VALUE_BYTES).map(|at| (at % 251) as u8).collect();
    let new = vec![b'n'; 100_000];
    let (key, other) = (b"{a}key".as_slice(), b"{a}other".as_slice());
    // A request on the large value, what it answers, and the value that is there after it.
    let mut check = |request: &Request<'_>, expected: &Done, after: Option<&[u8]>| {
        assert_eq!(ask(engine, &Request::Set(set(key, &old))), DONE);
        let name = format!("{request:?}");
        let name = &name[..name.len().min(60)];
        assert!(ask(engine, request) == *expected, "{name}");
        let read = ask(engine, &Request::Get { key, least_version: None });
        assert!(read.value.as_deref() == after, "after {name}");
    };
    let value = |bytes: &[u8]| Done { value: Some(bytes.to_vec()), ..DONE };
    let number = |number: usize| Done { number: Some(number as u64), ..DONE };
    let same = Some(&old[..]);
    check(&Request::Get { key, least_version: None }, &value(&old), same);
    check(&Request::GetAndTouch { key, ttl: TTL }, &value(&old), same);
    check(&Request::GetOrAsk { key }, &value(&old), same);
    check(&Request::Exists { key }, &DONE, same);
    check(&Request::Length { key }, &number(VALUE_BYTES), same);
    let condition = ExpireCondition::Always;
    check(&Request::Touch { key, ttl: TTL, condition }, &DONE, same);

    check(&Request::Set(Set { old: OldValue::Return, ..set(key, &new) }), &value(&old), Some(&new));
    let condition = SetCondition::ValueIs(&old);
    check(&Request::Set(Set { condition, ..set(key, &new) }), &DONE, Some(&new));
    // Refused when the old value is lent already.
    let huge = vec![b'h'; 9 << 20];
    let request = Request::Set(Set { old: OldValue::Return, ..set(key, &huge) });
    check(&request, &failed(Status::ValueTooLarge), same);
    check(&Request::Delete { key, condition: DeleteCondition::ValueIs(&old) }, &DONE, None);
    check(&Request::GetAndDelete { key }, &value(&old), None);

    for side in [Side::Append, Side::Prepend] {
        let longer = match side {
            Side::Append => [&old[..], &new[..]].concat(),
            Side::Prepend => [&new[..], &old[..]].concat(),
        };
        let request = Request::Extend { key, value: &new, side, absent: Absent::Miss };
        check(&request, &DONE, Some(&longer));
        let absent = Absent::Create { ttl: Ttl::Never };
        let request = Request::Extend { key, value: &new, side, absent };
        check(&request, &number(longer.len()), Some(&longer));
    }

    for (start, end) in [(0, -1), (70_000, 900_000), (5, 9), (-20_000, -2), (3, 2)] {
        let positive = |at: i64| if at < 0 { at + VALUE_BYTES as i64 } else { at } as usize;
        let range = &old[positive(start)..positive(end) + 1];
        check(&Request::GetRange { key, start, end }, &value(range), same);
    }
    for offset in [0, 300_000, VALUE_BYTES - 1, VALUE_BYTES, VALUE_BYTES + 200_000] {
        let mut after = old.clone();
        after.resize(after.len().max(offset + new.len()), 0);
        after[offset..offset + new.len()].copy_from_slice(&new);
        let request = Request::SetRange { key, offset: offset as u64, value: &new };
        check(&request, &number(after.len()), Some(&after));
    }
    let far = [&vec![0; VALUE_BYTES][..], b"far"].concat();
    let request = Request::SetRange { key: other, offset: VALUE_BYTES as u64, value: b"far" };
    check(&request, &number(far.len()), same);
    check(&Request::GetAndDelete { key: other }, &value(&far), same);

    let (direction, arithmetic) = (Direction::Increment, Arithmetic::Signed);
    let count = Count { key, delta: 1, direction, arithmetic, initial: None, ttl: Ttl::Never };
    check(&Request::Count(count), &failed(Status::NotANumber), same);
    check(&Request::CountFloat { key, delta: b"1.5" }, &failed(Status::NotANumber), same);
    let request = Request::CountAndDescribe { count, version: None, touch: None };
    check(&request, &failed(Status::NotANumber), same);
    let touch = Some(TTL);
    check(&Request::Describe { key, value: WithValue::Yes, touch }, &value(&old), same);
    check(&Request::Describe { key, value: WithValue::No, touch }, &DONE, same);
    let cursor = WalkCursor::default();
    check(&Request::Scan { cursor, count: 1_000, pattern: None }, &DONE, same);

    let (to_space, replace) = (Space::default(), Replace::Yes);
    check(&Request::Copy { from: key, to: other, to_space, replace }, &DONE, same);
    check(&Request::GetAndDelete { key: other }, &value(&old), same);
    check(&Request::Rename { from: key, to: other, replace }, &DONE, None);
    check(&Request::Rename { from: other, to: key, replace }, &DONE, same);
    engine.invariants();
}
