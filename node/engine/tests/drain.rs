//! Shutting down: everything that had arrived is answered, then each connection is closed.

mod harness;

use corelane_engine::{Closing, ReceiveEnd, SendEnd};
use corelane_protocol::limits::NOTICE_ID;
use corelane_protocol::{Keys, Request, Status};
use harness::*;

const NOTICE: (u32, Status) = (NOTICE_ID, Status::GoingAway);

fn drain(node: &mut Node) {
    let now = node.now;
    node.engines.iter_mut().for_each(|engine| engine.drain(now));
}

#[test]
fn idle_connections_are_told_and_closed() {
    let mut node = Node::new(1, config());
    let (used, fresh) = (node.connect(0), node.connect(0));
    node.ask(used, &get(1, b"k"));
    drain(&mut node);
    for wire in [used, fresh] {
        node.settle();
        assert_eq!(statuses(&node.answers(wire)), [NOTICE]);
    }
    node.advance_ms(200);
    for wire in [used, fresh] {
        assert_eq!(node.seen(wire).closing, [Closing::Drained]);
        assert!(!node.engines[0].is_empty());
        node.closed(wire);
    }
    assert!(node.engines[0].is_empty());
}

#[test]
fn requests_that_had_arrived_are_answered_before_the_end() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let (here, there) = (node.key_of(0, 0), node.key_of(1, 0));
    // One is at the other core, one waits for it, one is answered and not sent.
    node.receive(wire, &get(1, &there));
    node.flush(0);
    node.receive(wire, &[get(2, &there), get(3, &here)].concat());
    drain(&mut node);
    node.advance_ms(500);
    assert!(node.seen(wire).closing.is_empty());
    node.settle();
    let mut answered = statuses(&node.answers(wire));
    answered.sort_unstable_by_key(|(id, _)| *id);
    let miss = Status::NotFound;
    assert_eq!(answered, [(1, miss), (2, miss), (3, miss), NOTICE]);
    node.advance_ms(200);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
}

#[test]
fn requests_on_their_way_when_it_began_are_answered_too() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let there = node.key_of(1, 0);
    drain(&mut node);
    node.advance_ms(50);
    node.settle();
    node.receive(wire, &[get(1, b"k"), get(2, &there)].concat()[..20]);
    node.advance_ms(150);
    assert!(node.seen(wire).closing.is_empty(), "half a request is there");
    node.receive(wire, &[get(1, b"k"), get(2, &there)].concat()[20..]);
    node.settle();
    assert_eq!(node.answers(wire).len(), 3);
    node.advance_ms(200);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
}

#[test]
fn connections_that_come_late_are_told() {
    let mut node = Node::new(1, config());
    drain(&mut node);
    let wire = node.connect(0);
    let answers = node.ask(wire, &[hello(1, None, b""), get(2, b"k")].concat());
    assert_eq!(statuses(&answers), [NOTICE, (1, Status::Ok), (2, Status::NotFound)]);
    node.advance_ms(200);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
}

#[test]
fn a_connection_being_handed_over_is_drained_where_it_goes() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    node.receive(wire, &hello(1, Some(1), b""));
    drain(&mut node);
    node.settle();
    assert!(node.seen(wire).detaching);
    let handover = node.engines[0].detached(wire.id).unwrap();
    let there = node.connect(1);
    let answers = node.ask(there, &handover.received);
    assert_eq!(statuses(&answers), [NOTICE, (1, Status::Ok)]);
    node.advance_ms(200);
    assert_eq!(node.seen(there).closing, [Closing::Drained]);
}

#[test]
fn one_that_never_falls_quiet_is_served_for_half_of_the_time() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    drain(&mut node);
    let mut answered = 0;
    for id in 0..200 {
        node.receive(wire, &get(id, b"k"));
        node.settle();
        answered += node.answers(wire).iter().filter(|answer| answer.id == id).count();
        node.advance_ms(50);
        if !node.seen(wire).closing.is_empty() {
            break;
        }
    }
    assert!((75..=85).contains(&answered), "{answered} requests in four seconds");
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
}

#[test]
fn a_slow_reader_gets_what_it_had_asked_for() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let (here, there) = (node.key_of(0, 0), node.key_of(1, 0));
    node.ask(wire, &set(1, &here, &[b'v'; 50_000]));
    // Far more than its output may hold: the multi-get stops half way, and what follows
    // it waits.
    let keys: Vec<&[u8]> = (0..100).flat_map(|_| [&there[..], &here[..]]).collect();
    let mut encoded = Vec::new();
    let keys = Keys::encode(keys, &mut encoded).unwrap();
    let frames = [frame(2, &Request::MultiGet(keys)), get(3, &there), get(4, &here)].concat();
    node.receive(wire, &frames);
    drain(&mut node);
    // It takes nothing until more than half of the time is over.
    node.settle_mail();
    node.advance_ms(5_000);
    node.settle();
    let answers = node.answers(wire);
    let of = |id: u32| answers.iter().filter(move |answer| answer.id == id);
    assert_eq!(of(2).count(), 201);
    assert_eq!((of(3).count(), of(4).count()), (1, 1));
    node.advance_ms(200);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
}

#[test]
fn a_connection_that_takes_nothing_ends_with_the_time() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    drain(&mut node);
    node.flush(0);
    node.advance_ms(7_900);
    assert!(node.seen(wire).closing.is_empty());
    node.advance_ms(200);
    assert_eq!(node.seen(wire).closing, [Closing::Now]);
    node.end_send(wire, SendEnd::Failed);
    node.closed(wire);
    assert!(node.engines[0].is_empty());
}

#[test]
fn half_closed_connections_end_at_once() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    drain(&mut node);
    node.receive(wire, &get(1, b"k"));
    node.receive_ended(wire, ReceiveEnd::PeerFinished);
    node.settle();
    assert_eq!(statuses(&node.answers(wire)), [NOTICE, (1, Status::NotFound)]);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
}
