//! What single requests mean where the simulator's reference would be no proof.

mod harness;

use corelane_engine::{DefaultTtl, EngineConfig};
use corelane_protocol::limits::KEY_BYTES_MAX;
use corelane_protocol::wire::{self, FRAME_BYTES_MAX, ReplyDecoded};
use corelane_protocol::{
    Arithmetic, Count, Direction, Jitter, MonotonicUs, OldValue, Remaining, Reply, Request,
    RequestHead, RequestId, Set, SetCondition, Status, Ttl,
};
use harness::*;

#[test]
fn numbers_count_under_the_longest_keys() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    for key_bytes in [0, 1, 1_000, 5_000, 12_000, KEY_BYTES_MAX] {
        let key = vec![b'k'; key_bytes];
        let count = frame(
            2,
            &Request::Count(Count {
                key: &key,
                delta: 1,
                direction: Direction::Decrement,
                arithmetic: Arithmetic::Signed,
                initial: None,
                ttl: Ttl::Never,
            }),
        );
        let lowest = (i64::MIN + 1).to_string();
        let frames = [set(1, &key, lowest.as_bytes()), count, get(3, &key)].concat();
        let answers = node.ask(wire, &frames);
        assert_eq!(statuses(&answers), [(1, Status::Ok), (2, Status::Ok), (3, Status::Ok)]);
        let expected = i64::MIN.to_string();
        assert_eq!(answers[2].value.as_deref(), Some(expected.as_bytes()), "{key_bytes}");
    }
}

#[test]
fn a_value_is_read_before_it_is_touched_to_death() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    let ttl = Ttl::After { ms: 0, jitter: Jitter::Exact };
    let touch = frame(2, &Request::GetAndTouch { key: b"k", ttl });
    let answers = node.ask(wire, &[set(1, b"k", b"value"), touch, get(3, b"k")].concat());
    assert_eq!(statuses(&answers), [(1, Status::Ok), (2, Status::Ok), (3, Status::NotFound)]);
    assert_eq!(answers[1].value.as_deref(), Some(b"value".as_slice()));
}

fn set_for(id: u32, key: &[u8], ttl: Ttl) -> Vec<u8> {
    let condition = SetCondition::Always;
    frame(
        id,
        &Request::Set(Set { key, value: b"v", user_flags: 0, ttl, condition, old: OldValue::Omit }),
    )
}

/// What a node says of the time that a key has left.
fn remaining(node: &mut Node, wire: Wire, key: &[u8]) -> Option<Remaining> {
    node.receive(wire, &frame(9, &Request::TtlOf { key }));
    node.settle();
    let sent = std::mem::take(&mut node.seen(wire).sent);
    match wire::decode_reply(&sent, FRAME_BYTES_MAX) {
        ReplyDecoded::Complete { frame, .. } => match frame.reply {
            Reply::Remaining(remaining) => Some(remaining),
            _ => None,
        },
        other => panic!("no reply: {other:?}"),
    }
}

#[test]
fn expiry_is_exact_to_the_millisecond() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    node.now = MonotonicUs(1_000_999);
    node.ask(wire, &set_for(1, b"k", Ttl::After { ms: 10, jitter: Jitter::Exact }));
    assert_eq!(remaining(&mut node, wire, b"k"), Some(Remaining::Ms(10)));
    node.now = MonotonicUs(1_009_999);
    assert_eq!(remaining(&mut node, wire, b"k"), Some(Remaining::Ms(1)));
    assert_eq!(statuses(&node.ask(wire, &get(2, b"k"))), [(2, Status::Ok)]);
    node.now = MonotonicUs(1_010_000);
    assert_eq!(statuses(&node.ask(wire, &get(2, b"k"))), [(2, Status::NotFound)]);
    assert_eq!(remaining(&mut node, wire, b"k"), None);
}

#[test]
fn the_default_expiry_is_for_those_who_ask_for_none() {
    let mut node = Node::new(1, EngineConfig { default_ttl: DefaultTtl::AfterMs(70), ..config() });
    let wire = node.connect(0);
    let keep_of_nothing = set_for(2, b"b", Ttl::Keep);
    let never = set_for(3, b"c", Ttl::Never);
    node.ask(wire, &[set_for(1, b"a", Ttl::Default), keep_of_nothing, never].concat());
    assert_eq!(remaining(&mut node, wire, b"a"), Some(Remaining::Ms(70)));
    assert_eq!(remaining(&mut node, wire, b"b"), Some(Remaining::Ms(70)));
    assert_eq!(remaining(&mut node, wire, b"c"), Some(Remaining::Never));
}

#[test]
fn expiries_are_spread_both_ways_where_asked() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    let spread: Vec<u64> = (0..500)
        .map(|_| {
            node.ask(wire, &set_for(1, b"k", Ttl::After { ms: 1_000, jitter: Jitter::Spread }));
            match remaining(&mut node, wire, b"k") {
                Some(Remaining::Ms(ms)) => ms,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert!(spread.iter().all(|ms| (900..=1_100).contains(ms)));
    assert!(spread.iter().any(|ms| *ms < 910) && spread.iter().any(|ms| *ms > 1_090));
}

#[test]
fn a_deadline_is_the_last_moment() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    node.now = MonotonicUs(5_000);
    for owner in [0, 1] {
        let key = node.key_of(owner, 0);
        let by = |deadline: u64| {
            let head = RequestHead {
                id: RequestId(1),
                deadline: Some(MonotonicUs(deadline)),
                ..RequestHead::default()
            };
            frame_with(head, &Request::Get { key: &key, least_version: None })
        };
        assert_eq!(statuses(&node.ask(wire, &by(5_000))), [(1, Status::NotFound)]);
        assert_eq!(statuses(&node.ask(wire, &by(4_999))), [(1, Status::TooLate)]);
    }
}

#[test]
fn a_delayed_flush_takes_all_cores_and_a_later_one_replaces_it() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let keys = [node.key_of(0, 0), node.key_of(1, 0)];
    let frames = [
        set(1, &keys[0], b"v"),
        set(2, &keys[1], b"v"),
        frame(3, &Request::Flush { delay_ms: 100 }),
        frame(4, &Request::Flush { delay_ms: 300 }),
    ]
    .concat();
    assert_eq!(node.ask(wire, &frames).len(), 4);
    let both = [get(5, &keys[0]), get(5, &keys[1])].concat();
    node.advance_ms(299);
    assert_eq!(statuses(&node.ask(wire, &both)), [(5, Status::Ok); 2]);
    node.advance_ms(1);
    assert_eq!(statuses(&node.ask(wire, &both)), [(5, Status::NotFound); 2]);
}
