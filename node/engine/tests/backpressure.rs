//! Clients that take less than they ask for, and requests that wait for other cores.

mod harness;

use corelane_engine::limits::{
    FORWARD_BYTES_MAX, MAIL_REPLY_BYTES_MAX, OUTPUT_BYTES_SCARCE, SERIES_MAX,
};
use corelane_engine::{EngineConfig, SendEnd};
use corelane_protocol::{Answer as Answered, Keys, Request, RequestHead, RequestId, Status};
use harness::*;

const VALUE_BYTES: usize = 10_000;

/// Two cores, each with a value of [`VALUE_BYTES`].
fn stocked(config: EngineConfig) -> (Node, [Vec<u8>; 2]) {
    let mut node = Node::new(2, config);
    let keys = [node.key_of(0, 0), node.key_of(1, 0)];
    let wire = node.connect(0);
    for (id, key) in (1..).zip(&keys) {
        let answers = node.ask(wire, &set(id, key, &[b'v'; VALUE_BYTES]));
        assert_eq!(statuses(&answers), [(id, Status::Ok)]);
    }
    (node, keys)
}

fn gets(count: u32, key: &[u8]) -> Vec<u8> {
    (0..count).flat_map(|id| get(id, key)).collect()
}

fn multi_get(id: u32, keys: &[&[u8]]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let keys = Keys::encode(keys.iter().copied(), &mut encoded).unwrap();
    frame(id, &Request::MultiGet(keys))
}

/// Reads of all cores.
fn reads(node: &mut Node) -> u64 {
    node.engines.iter_mut().map(|engine| engine.counters().requests_get).sum()
}

/// What had been received when reading was to pause is kept, as long as there is room for it.
#[test]
fn requests_behind_replies_that_nobody_reads_are_bounded_together() {
    const TOTAL: usize = 2 << 20;
    let (mut node, keys) = stocked(EngineConfig { backlog_bytes_total_max: TOTAL, ..config() });
    let pipeline = gets(10_000, &keys[0]);
    let other = node.connect(0);
    let mut wires = Vec::new();
    for _ in 0..40 {
        let wire = node.connect(0);
        for piece in pipeline.chunks(16 << 10) {
            node.receive(wire, piece);
        }
        node.flush(0);
        wires.push(wire);
        let behind = node.engines[0].counters().backlog_bytes as usize;
        assert!(behind <= TOTAL + TOTAL / wires.len() + (16 << 10), "{behind} bytes");
    }
    let refused = node.engines[0].counters().inputs_refused as usize;
    assert!((1..40).contains(&refused), "{refused} of 40");
    // One that is behind with little stays, and one that reads.
    let modest = node.connect(0);
    node.receive(modest, &gets(100, &keys[0]));
    assert!(node.ask(other, &get(1, &keys[0]))[0].value.is_some());
    assert_eq!(node.engines[0].counters().inputs_refused as usize, refused);
    node.settle();
    assert_eq!(node.answers(wires[0]).len(), 10_000, "whoever was not refused gets all replies");
    let refusals = wires[1..].iter().filter(|wire| {
        let answers = node.answers(**wire);
        statuses(&answers).last() == Some(&(u32::MAX, Status::Busy))
    });
    assert_eq!(refusals.count(), refused);
    assert_eq!(node.engines[0].counters().backlog_bytes, 0);
}

#[test]
fn a_client_that_never_reads_stays_within_its_cap() {
    for owner in [0, 1] {
        let (mut node, keys) = stocked(config());
        let wire = node.connect(0);
        let mut delivered = 0;
        // What arrives after a pause was under way already: here one piece of it.
        while !node.seen(wire).paused || delivered < 1_000 {
            node.receive(wire, &gets(100, &keys[owner]));
            delivered += 100;
            node.settle_mail();
            assert!(delivered <= 10_000, "it is never paused");
        }
        let most = config().output_bytes_max + owner * MAIL_REPLY_BYTES_MAX;
        let executed = reads(&mut node) as usize * VALUE_BYTES;
        assert!(executed <= 2 * (most + 2 * VALUE_BYTES), "{executed} bytes of replies");

        // Once it reads, it gets everything, and is read again.
        node.settle();
        let answers = node.answers(wire);
        assert_eq!(answers.len(), delivered);
        assert!(answers.iter().all(|answer| answer.value.is_some()));
        assert!(!node.seen(wire).paused);
        assert_eq!(node.engines[0].counters().output_bytes_pending, 0);
    }
}

#[test]
fn a_multi_get_over_the_cap_goes_on_where_it_stopped() {
    let (mut node, [here, there]) = stocked(config());
    let wire = node.connect(0);
    let keys: Vec<&[u8]> =
        (0..600).map(|at| if at % 3 == 0 { &there[..] } else { &here[..] }).collect();
    node.receive(wire, &[multi_get(7, &keys), get(8, b"absent")].concat());
    node.settle_mail();
    assert!(node.seen(wire).paused);
    node.settle();
    let mut answers = node.answers(wire);
    let end = answers.iter().position(|answer| answer.status == Status::End);
    assert_eq!(answers.len(), 602);
    let after_end: Vec<_> = answers.drain(end.unwrap()..).collect();
    assert!(after_end.iter().all(|answer| answer.part.is_none()), "a part after the end");
    answers.retain(|answer| answer.id == 7);
    let mut parts: Vec<_> = answers.iter().map(|answer| answer.part.unwrap()).collect();
    parts.sort_unstable();
    assert_eq!(parts, (0..600).collect::<Vec<u16>>());
    assert!(answers.iter().all(|answer| answer.value.is_some()));
}

#[test]
fn requests_that_wait_for_another_core_pause_their_connection() {
    let (mut node, [_, there]) = stocked(config());
    let wire = node.connect(0);
    let write = |id| {
        let head =
            RequestHead { id: RequestId(id), answer: Answered::Never, ..RequestHead::default() };
        let mut value = vec![0; VALUE_BYTES];
        value[..4].copy_from_slice(&id.to_le_bytes());
        let set = corelane_protocol::Set {
            key: &there,
            value: &value,
            user_flags: 0,
            ttl: corelane_protocol::Ttl::Never,
            condition: corelane_protocol::SetCondition::Always,
            old: corelane_protocol::OldValue::Omit,
        };
        frame_with(head, &Request::Set(set))
    };
    let count = 4 * FORWARD_BYTES_MAX / VALUE_BYTES;
    for id in 0..count as u32 {
        node.receive(wire, &write(id));
    }
    assert!(node.seen(wire).paused);
    assert!(node.engines[0].counters().forwarded_out < count as u64 / 2);
    let answers = node.ask(wire, &get(1, &there));
    assert!(!node.seen(wire).paused);
    let last = answers[0].value.as_ref().unwrap();
    assert_eq!(last[..4], (count as u32 - 1).to_le_bytes(), "the last write counts");
}

#[test]
fn what_another_core_puts_back_is_executed_in_order_and_counted_once() {
    let (mut node, [_, there]) = stocked(config());
    let wire = node.connect(0);
    let before: u64 = node.engines[1].counters().forwarded_in;
    // Reads that fill several batches of replies, a write in the middle of them.
    let frames: Vec<u8> = (0..200)
        .flat_map(|id| if id == 100 { set(id, &there, b"new") } else { get(id, &there) })
        .collect();
    let answers = node.ask(wire, &frames);
    assert_eq!(statuses(&answers), (0..200).map(|id| (id, Status::Ok)).collect::<Vec<_>>());
    assert!(answers[..100].iter().all(|a| a.value.as_ref().unwrap().len() == VALUE_BYTES));
    assert!(answers[101..].iter().all(|a| a.value.as_deref() == Some(b"new".as_slice())));
    let [out, back] = [node.engines[0].counters().clone(), node.engines[1].counters().clone()];
    assert_eq!(back.forwarded_in - before, 200);
    assert!(out.mail_sent > 2, "it took several batches");
}

#[test]
fn requests_of_many_cores_under_way_are_limited() {
    let (mut node, [_, there]) = stocked(config());
    let wire = node.connect(0);
    let count = 3 * SERIES_MAX as u32;
    let frames: Vec<u8> = (0..count).flat_map(|id| multi_get(id, &[b"", &there[..3]])).collect();
    node.receive(wire, &frames);
    assert!(node.seen(wire).paused);
    node.settle();
    let mut ends: Vec<_> = node
        .answers(wire)
        .iter()
        .filter(|answer| answer.status == Status::End)
        .map(|answer| answer.id)
        .collect();
    ends.sort_unstable();
    assert_eq!(ends, (0..count).collect::<Vec<_>>());
}

#[test]
fn a_long_pipeline_does_not_keep_others_waiting() {
    let (mut node, [here, _]) = stocked(config());
    let (greedy, modest) = (node.connect(0), node.connect(0));
    node.receive(greedy, &gets(10_000, &here));
    let absent = node.key_of(0, 1);
    node.receive(modest, &get(1, &absent));
    node.flush(0);
    assert!(node.end_send(modest, SendEnd::Whole), "it is answered in the same turn");
    assert!(reads(&mut node) < 100, "the greedy one has had its share");
}

#[test]
fn all_connections_together_stay_within_the_cores_total() {
    let total = 1 << 20;
    let config = EngineConfig { output_bytes_total_max: total, ..config() };
    let (mut node, [here, _]) = stocked(config);
    let wires: Vec<_> = (0..200).map(|_| node.connect(0)).collect();
    for wire in &wires {
        node.receive(*wire, &gets(100, &here));
    }
    // Nothing was flushed yet, so all that they asked for in this turn counts.
    let pending = node.engines[0].counters().output_bytes_pending as usize;
    assert!(pending >= total);
    let least = OUTPUT_BYTES_SCARCE + VALUE_BYTES + 100;
    assert!(pending <= total + 64_000 + VALUE_BYTES + wires.len() * least, "{pending} bytes");
    node.settle();
    for wire in wires {
        assert_eq!(node.answers(wire).len(), 100);
    }
    assert_eq!(node.engines[0].counters().output_bytes_pending, 0);
}
