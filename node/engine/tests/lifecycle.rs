//! How connections begin and end: hello, hand-over, half-closing, breaking, idling.

mod harness;

use corelane_engine::{Closing, ReceiveEnd, SendEnd};
use harness::*;

#[test]
fn a_broken_connection_is_closed_once() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    node.receive(wire, &get(1, b"k"));
    node.flush(0);
    node.receive_ended(wire, ReceiveEnd::Broken);
    assert!(node.end_send(wire, SendEnd::Failed));
    node.advance_ms(60_000);
    assert_eq!(node.seen(wire).closing, [Closing::Now]);
    assert_eq!(node.engines[0].counters().idle_closed, 0);
}
