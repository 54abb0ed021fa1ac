//! What single requests mean where the simulator's reference would be no proof.

mod harness;

use corelane_protocol::limits::KEY_BYTES_MAX;
use corelane_protocol::{Arithmetic, Count, Direction, Jitter, Request, Status, Ttl};
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
