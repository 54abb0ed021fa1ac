//! Requests at other cores while there are more of them than a core takes.

mod harness;

use corelane_engine::limits::MAIL_CREDITS;
use corelane_engine::{ReceiveEnd, SendEnd};
use corelane_protocol::Status;
use harness::*;

/// A node of two cores, and connections at core 0 that have each sent a get for core 1:
/// as many batches are under way as may be, the other connections wait.
fn crowded(connections: usize) -> (Node, Vec<Wire>) {
    let mut node = Node::new(2, config());
    let key = node.key_of(1, 0);
    let wires: Vec<_> = (0..connections).map(|_| node.connect(0)).collect();
    for wire in &wires {
        node.receive(*wire, &get(1, &key));
    }
    node.flush(0);
    assert_eq!(node.outputs[0].mail.len(), connections.min(MAIL_CREDITS));
    (node, wires)
}

#[test]
fn those_who_wait_for_credit_get_their_turn() {
    let (mut node, wires) = crowded(5 * MAIL_CREDITS);
    node.settle();
    for wire in wires {
        assert_eq!(statuses(&node.answers(wire)), [(1, Status::NotFound)]);
    }
}

#[test]
fn closing_connections_do_not_keep_the_credit_that_they_waited_for() {
    let (mut node, wires) = crowded(3 * MAIL_CREDITS);
    // Those next in the queue are broken, and the world has not closed them yet.
    for wire in &wires[MAIL_CREDITS..2 * MAIL_CREDITS] {
        node.receive_ended(*wire, ReceiveEnd::Broken);
    }
    node.settle();
    for wire in &wires[2 * MAIL_CREDITS..] {
        assert_eq!(statuses(&node.answers(*wire)), [(1, Status::NotFound)]);
    }
}

#[test]
fn slow_readers_do_not_keep_the_credit_that_they_waited_for() {
    let mut node = Node::new(2, config());
    let (here, there) = (node.key_of(0, 0), node.key_of(1, 0));
    let setter = node.connect(0);
    node.ask(setter, &set(1, &here, &[b'v'; 100_000]));
    let wires: Vec<_> = (0..3 * MAIL_CREDITS).map(|_| node.connect(0)).collect();
    for wire in &wires {
        node.receive(*wire, &get(1, &there));
    }
    node.flush(0);
    // Those next in the queue ask for more than they take.
    let slow = &wires[MAIL_CREDITS..2 * MAIL_CREDITS];
    for wire in slow {
        node.receive(*wire, &get(2, &here));
    }
    node.settle_mail();
    for wire in &wires[2 * MAIL_CREDITS..] {
        assert!(node.end_send(*wire, SendEnd::Whole), "it was not answered");
        assert_eq!(statuses(&node.answers(*wire)), [(1, Status::NotFound)]);
    }
}
