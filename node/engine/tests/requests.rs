//! What single requests mean where the simulator's reference would be no proof.

mod harness;

use corelane_protocol::{Jitter, Request, Status, Ttl};
use harness::*;

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
