//! How connections begin and end: hello, hand-over, half-closing, breaking, idling.

mod harness;

use corelane_engine::{Closing, Handover, ReceiveEnd, SendEnd};
use corelane_protocol::limits::NOTICE_ID;
use corelane_protocol::{Hello, Request, Status};
use harness::*;

const SECOND_MS: u64 = 1_000;

#[test]
fn a_hello_of_a_version_that_is_none_is_refused() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    let hello = Hello { version: 0, core: None, token: b"" };
    let frames = [frame(7, &Request::Hello(hello)), get(8, b"k")].concat();
    assert_eq!(statuses(&node.ask(wire, &frames)), [(7, Status::UnsupportedVersion)]);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
}

#[test]
fn a_hello_of_a_later_version_is_answered_with_ours() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    let hello = Hello { version: 9, core: None, token: b"" };
    let answers = node.ask(wire, &frame(7, &Request::Hello(hello)));
    assert_eq!(statuses(&answers), [(7, Status::Ok)]);
    assert!(node.seen(wire).closing.is_empty());
}

#[test]
fn a_core_that_does_not_exist_is_refused() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let frames = [hello(1, Some(2), b""), get(2, b"k")].concat();
    assert_eq!(statuses(&node.ask(wire, &frames)), [(1, Status::NoSuchCore)]);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
}

#[test]
fn a_second_hello_is_refused_and_changes_nothing() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let frames = [hello(1, Some(0), b""), hello(2, Some(1), b""), get(3, b"k")].concat();
    let answers = node.ask(wire, &frames);
    assert_eq!(answers.len(), 3);
    assert!(statuses(&answers).contains(&(2, Status::Invalid)));
    assert!(statuses(&answers).contains(&(3, Status::NotFound)));
}

#[test]
fn a_connection_moves_to_the_core_that_it_names_with_all_that_it_sent() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let frames = [hello(1, Some(1), b""), get(2, b"k"), get(3, b"k")].concat();
    let (first, rest) = frames.split_at(frames.len() - 20);
    node.receive(wire, first);
    node.settle();
    assert!(node.seen(wire).detaching);
    assert!(node.answers(wire).is_empty(), "the other core answers");
    // On its way while reading stops.
    node.receive(wire, rest);
    node.receive_ended(wire, ReceiveEnd::PeerFinished);
    let handover = node.engines[0].detached(wire.id);
    assert_eq!(handover, Some(Handover { to: 1, received: frames.clone() }));
    assert!(node.engines[0].is_empty());

    let there = node.connect(1);
    let answers = node.ask(there, &frames);
    assert_eq!(statuses(&answers), [(1, Status::Ok), (2, Status::NotFound), (3, Status::NotFound)]);
}

#[test]
fn a_half_closed_connection_gets_all_replies_and_is_closed() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let (here, there) = (node.key_of(0, 0), node.key_of(1, 0));
    node.receive(wire, &[get(1, &there), get(2, &here)].concat());
    node.receive_ended(wire, ReceiveEnd::PeerFinished);
    node.flush(0);
    assert!(node.end_send(wire, SendEnd::Whole));
    assert!(node.seen(wire).closing.is_empty(), "a request is at the other core");
    node.settle();
    let answers = node.answers(wire);
    assert_eq!(statuses(&answers), [(2, Status::NotFound), (1, Status::NotFound)]);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
    node.closed(wire);
    assert!(node.engines[0].is_empty());
}

#[test]
fn half_a_frame_before_the_end_is_not_waited_for() {
    let request = get(1, b"key");
    for length in 0..request.len() {
        let mut node = Node::new(1, config());
        let wire = node.connect(0);
        node.receive(wire, &request[..length]);
        node.receive_ended(wire, ReceiveEnd::PeerFinished);
        node.settle();
        assert!(node.answers(wire).is_empty());
        assert_eq!(node.seen(wire).closing, [Closing::Drained], "after {length} bytes");
    }
}

#[test]
fn a_half_closed_reader_of_much_gets_everything() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    node.ask(wire, &set(1, b"k", &[b'v'; 50_000]));
    let frames: Vec<u8> = (2..102).flat_map(|id| get(id, b"k")).collect();
    node.receive(wire, &frames);
    node.receive_ended(wire, ReceiveEnd::PeerFinished);
    node.settle();
    assert_eq!(node.answers(wire).len(), 100);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
}

#[test]
fn a_broken_connection_is_closed_once() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    node.receive(wire, &get(1, b"k"));
    node.flush(0);
    node.receive_ended(wire, ReceiveEnd::Broken);
    assert!(node.end_send(wire, SendEnd::Failed));
    node.advance_ms(60 * SECOND_MS);
    assert_eq!(node.seen(wire).closing, [Closing::Now]);
    assert_eq!(node.engines[0].counters().idle_closed, 0);
}

#[test]
fn replies_for_a_connection_that_is_gone_are_dropped() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let there = node.key_of(1, 0);
    node.receive(wire, &get(1, &there));
    node.flush(0);
    node.receive_ended(wire, ReceiveEnd::Broken);
    node.closed(wire);
    // The place is taken again before the reply comes.
    let next = node.connect(0);
    assert_eq!(next.id.index, wire.id.index);
    node.settle();
    assert!(node.answers(next).is_empty());
    assert_eq!(node.engines[0].mail_under_way(), 0);
}

#[test]
fn half_a_frame_is_waited_for_until_the_idle_limit() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    let other = node.connect(0);
    node.ask(wire, &get(1, b"k"));
    node.receive(wire, &get(2, b"key")[..17]);
    node.advance_ms(9 * SECOND_MS);
    node.receive(wire, b"e");
    assert!(node.seen(wire).closing.is_empty());
    // A byte now and then does not help: the frame's first one counts.
    node.advance_ms(2 * SECOND_MS);
    node.settle();
    assert_eq!(statuses(&node.answers(wire)), [(NOTICE_ID, Status::IdleTooLong)]);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
    assert!(node.seen(other).closing.is_empty(), "one that sent nothing may wait for ever");
    assert_eq!(node.engines[0].counters().idle_closed, 1);
}

#[test]
fn a_reader_that_takes_nothing_is_closed_at_the_idle_limit() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    node.receive(wire, &get(1, b"k"));
    node.flush(0);
    node.advance_ms(9 * SECOND_MS);
    assert!(node.seen(wire).closing.is_empty());
    node.advance_ms(2 * SECOND_MS);
    assert_eq!(node.seen(wire).closing, [Closing::Now]);
}

#[test]
fn a_peer_that_never_closes_its_side_is_closed_after_lingering() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    node.advance_ms(60 * SECOND_MS);
    node.ask(wire, b"garbage");
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
    node.advance_ms(4 * SECOND_MS);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
    node.advance_ms(2 * SECOND_MS);
    assert_eq!(node.seen(wire).closing, [Closing::Drained, Closing::Now]);
}
