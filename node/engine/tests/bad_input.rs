//! Every kind of bad input has a defined answer, and none touches other connections.

mod harness;

use corelane_engine::{Closing, ReceiveEnd};
use corelane_protocol::limits::{KEY_BYTES_MAX, NOTICE_ID};
use corelane_protocol::wire::{FRAME_BYTES_MAX, Opcode};
use corelane_protocol::{Request, Status};
use harness::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// What an open connection answers to `bytes`, the gets around them included, and whether it
/// goes on; a second connection must not notice.
fn check(bytes: &[u8], expected: &[(u32, Status)], goes_on: bool) {
    let mut node = Node::new(1, config());
    let (wire, other) = (node.connect(0), node.connect(0));
    node.receive(other, &get(50, b"half")[..18]);
    let before = get(1, b"k");
    let after = get(9, b"k");
    let answers = node.ask(wire, &[&before, bytes, &after].concat());
    let mut all = vec![(1, Status::NotFound)];
    all.extend_from_slice(expected);
    if goes_on {
        all.push((9, Status::NotFound));
    }
    assert_eq!(statuses(&answers), all, "all at once");
    assert_eq!(node.seen(wire).closing.is_empty(), goes_on);

    // The same byte by byte, as far as that is not too slow.
    if bytes.len() < 1_000 {
        let wire = node.connect(0);
        for byte in [&before, bytes, &after].concat() {
            node.receive(wire, &[byte]);
        }
        node.settle();
        assert_eq!(statuses(&node.answers(wire)), all, "byte by byte");
        assert_eq!(node.seen(wire).closing.is_empty(), goes_on);
    }
    let answers = node.ask(other, &get(50, b"half")[18..]);
    assert_eq!(statuses(&answers), [(50, Status::NotFound)]);
}

fn patched(request: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut request = request;
    request[at..at + bytes.len()].copy_from_slice(bytes);
    request
}

#[test]
fn bytes_that_are_no_frame_end_the_connection() {
    check(b"*1\r\n$4\r\nPING\r\n", &[(NOTICE_ID, Status::Garbled)], false);
    check(&[0x16, 3, 1], &[(NOTICE_ID, Status::Garbled)], false);
    check(&[0], &[(NOTICE_ID, Status::Garbled)], false);
}

#[test]
fn frames_over_the_protocols_limit_end_the_connection() {
    let body_bytes = (FRAME_BYTES_MAX as u32).to_le_bytes();
    check(&patched(get(2, b"k"), 8, &body_bytes), &[(2, Status::FrameTooLong)], false);
    check(&patched(get(2, b"k"), 8, &[0xFF; 4]), &[(2, Status::FrameTooLong)], false);
}

#[test]
fn the_id_of_notices_ends_the_connection() {
    check(&patched(get(2, b"k"), 4, &[0xFF; 4]), &[(NOTICE_ID, Status::Invalid)], false);
}

#[test]
fn unknown_requests_are_answered_and_skipped() {
    check(&patched(get(2, b"key"), 1, &[0x7E]), &[(2, Status::UnknownRequest)], true);
    // Nobody knows whether it may be silent, so it may.
    check(&patched(get(2, b"key"), 1, &[0x7E, 0x01]), &[], true);
}

#[test]
fn impossible_frames_are_answered_and_skipped() {
    let unknown_flag = patched(get(2, b"key"), 2, &[0x40]);
    check(&unknown_flag, &[(2, Status::Invalid)], true);
    let silent_read = patched(get(2, b"key"), 2, &[0x01]);
    check(&silent_read, &[(2, Status::Invalid)], true);
    let options_over_the_body = patched(get(2, b"key"), 3, &[9]);
    check(&options_over_the_body, &[(2, Status::Invalid)], true);
    let key_where_none_belongs = patched(get(2, b"key"), 1, &[Opcode::Ping as u8]);
    check(&key_where_none_belongs, &[(2, Status::Invalid)], true);
    let no_keys = patched(frame(2, &Request::Ping), 1, &[Opcode::MultiGet as u8]);
    check(&no_keys, &[(2, Status::Invalid)], true);
    let value_of_a_get = [&patched(get(2, b"key"), 8, &4u32.to_le_bytes())[..], b"v"].concat();
    check(&value_of_a_get, &[(2, Status::Invalid)], true);
}

#[test]
fn keys_over_the_limit_are_skipped() {
    let key_bytes = KEY_BYTES_MAX + 1;
    let mut request = get(2, b"");
    request[8..12].copy_from_slice(&(key_bytes as u32).to_le_bytes());
    request[12..14].copy_from_slice(&(key_bytes as u16).to_le_bytes());
    request.resize(request.len() + key_bytes, b'k');
    check(&request, &[(2, Status::KeyTooLong)], true);
}

#[test]
fn values_over_the_limit_are_skipped() {
    let value = vec![b'v'; config().value_bytes_max + 1];
    check(&set(2, b"key", &value), &[(2, Status::ValueTooLarge)], true);
    let silent = patched(set(2, b"key", &value), 2, &[0x01]);
    check(&silent, &[], true);
}

#[test]
fn what_is_skipped_may_look_like_requests_and_come_in_pieces() {
    let decoy = get(66, b"decoy");
    let value: Vec<u8> =
        decoy.iter().copied().cycle().take(config().value_bytes_max + decoy.len()).collect();
    let frames = [set(1, b"key", &value), get(2, b"key")].concat();
    let mut random = SmallRng::seed_from_u64(3);
    for _ in 0..4 {
        let mut node = Node::new(1, config());
        let wire = node.connect(0);
        let mut rest = frames.as_slice();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(random.random_range(1..=rest.len().min(300_000)));
            node.receive(wire, piece);
            node.settle();
            rest = tail;
        }
        let answers = node.answers(wire);
        assert_eq!(statuses(&answers), [(1, Status::ValueTooLarge), (2, Status::NotFound)]);
    }
}

#[test]
fn skipping_that_stops_half_way_ends_at_the_idle_limit() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    let request = set(1, b"key", &vec![b'v'; config().value_bytes_max + 1]);
    node.receive(wire, &request[..1_000]);
    node.settle();
    assert_eq!(statuses(&node.answers(wire)), [(1, Status::ValueTooLarge)]);
    node.advance_ms(11_000);
    node.settle();
    assert_eq!(statuses(&node.answers(wire)), [(NOTICE_ID, Status::IdleTooLong)]);
}

#[test]
fn the_longest_key_and_value_are_taken() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let key = vec![b'k'; KEY_BYTES_MAX];
    let value = vec![b'v'; config().value_bytes_max];
    let frames = [set(1, &key, &value), get(2, &key), set(3, b"", b""), get(4, b"")].concat();
    let mut answers = node.ask(wire, &frames);
    answers.sort_by_key(|answer| answer.id);
    assert!(answers.iter().all(|answer| answer.status == Status::Ok), "{answers:?}");
    assert_eq!(answers[1].value.as_ref(), Some(&value));
    assert_eq!(answers[3].value.as_deref(), Some(&[][..]));
}

#[test]
fn a_frame_that_grows_byte_by_byte_is_answered_at_its_last() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    let request = set(1, b"key", b"value");
    for (at, byte) in request.iter().enumerate() {
        node.receive(wire, &[*byte]);
        node.settle();
        let answered = !node.answers(wire).is_empty();
        assert_eq!(answered, at + 1 == request.len());
    }
}

#[test]
fn random_bytes_never_disturb_others() {
    let mut random = SmallRng::seed_from_u64(4);
    let mut node = Node::new(2, config());
    let good = node.connect(0);
    for round in 0..3_000u32 {
        let wire = node.connect(0);
        // Mostly valid frames with a few bytes changed, else they rarely get far.
        let mut bytes: Vec<u8> = (0..random.random_range(1..6))
            .flat_map(|id| match random.random_range(0..4) {
                0 => set(id, b"good", b"spoilt?"),
                1 => frame(id, &Request::Stats),
                2 => (0..random.random_range(0..40)).map(|_| random.random()).collect(),
                _ => get(id, b"other"),
            })
            .collect();
        bytes.retain(|_| random.random_bool(0.99));
        for _ in 0..random.random_range(0..4) {
            if !bytes.is_empty() {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
        }
        node.receive(wire, &bytes);
        if random.random_bool(0.5) {
            node.receive_ended(wire, ReceiveEnd::PeerFinished);
        }
        let answers = node.ask(good, &get(round, b"never written"));
        assert_eq!(statuses(&answers), [(round, Status::NotFound)]);
        let closing = node.seen(wire).closing.clone();
        assert!(closing.is_empty() || closing == [Closing::Drained], "{closing:?}");
        node.closed(wire);
    }
    assert_eq!(node.engines[0].counters().connections_open, 1);
    node.engines[0].invariants();
}
