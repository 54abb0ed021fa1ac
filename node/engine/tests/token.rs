//! A node with a token answers nothing but hello until the token was proved.

mod harness;

use corelane_engine::{Closing, EngineConfig};
use corelane_protocol::limits::NOTICE_ID;
use corelane_protocol::{Request, Status};
use harness::*;

const TOKEN: &[u8] = b"the token";

fn guarded(cores: u16) -> Node {
    Node::new(cores, EngineConfig { token: Some(TOKEN.to_vec()), ..config() })
}

/// The connection is told once that it is not authorized, in at most 1 KiB, and closed;
/// what it sent has no effect.
fn check_refused(frames: &[u8], expected: (u32, Status)) {
    let mut node = guarded(1);
    let wire = node.connect(0);
    node.receive(wire, frames);
    node.settle();
    assert!(node.seen(wire).sent.len() <= 1_024);
    assert_eq!(statuses(&node.answers(wire)), [expected]);
    assert_eq!(node.seen(wire).closing, [Closing::Drained]);
    let other = node.connect(0);
    let answers = node.ask(other, &[hello(1, None, TOKEN), get(2, b"key")].concat());
    assert_eq!(statuses(&answers), [(1, Status::Ok), (2, Status::NotFound)]);
}

#[test]
fn the_token_opens() {
    let mut node = guarded(1);
    let wire = node.connect(0);
    let frames = [hello(1, None, TOKEN), set(2, b"key", b"v"), get(3, b"key")].concat();
    let answers = node.ask(wire, &frames);
    assert_eq!(statuses(&answers), [(1, Status::Ok), (2, Status::Ok), (3, Status::Ok)]);
}

#[test]
fn nothing_is_executed_or_answered_without_the_token() {
    let write = set(5, b"key", b"v");
    check_refused(&write, (5, Status::Unauthorized));
    check_refused(&frame(5, &Request::Ping), (5, Status::Unauthorized));
    check_refused(&frame(5, &Request::Stats), (5, Status::Unauthorized));
    check_refused(&[write.clone(), hello(6, None, TOKEN)].concat(), (5, Status::Unauthorized));
    let many: Vec<u8> = (5..50).flat_map(|id| set(id, b"key", b"v")).collect();
    check_refused(&many, (5, Status::Unauthorized));
}

#[test]
fn wrong_tokens_are_refused() {
    for token in [b"".as_slice(), b"the toke", b"the tokem", b"the token!", &[0; 1_024]] {
        let frames = [hello(5, None, token), set(6, b"key", b"v")].concat();
        check_refused(&frames, (5, Status::Unauthorized));
    }
}

#[test]
fn refused_frames_say_no_more_than_that() {
    let mut unknown = get(5, b"key");
    unknown[1] = 0x7E;
    check_refused(&unknown, (5, Status::Unauthorized));
    // Silent writes are told too: there is nothing that they could have written.
    let mut silent = set(5, b"key", b"v");
    silent[2] = 1;
    check_refused(&silent, (5, Status::Unauthorized));
}

#[test]
fn no_more_than_16_kib_are_taken_before_the_token() {
    check_refused(&set(5, b"key", &[b'v'; 16 << 10]), (5, Status::FrameTooLong));
    check_refused(&set(5, b"key", &[b'v'; 1 << 20])[..4_096], (5, Status::FrameTooLong));
    check_refused(b"GET / HTTP/1.1\r\n\r\n", (NOTICE_ID, Status::Garbled));
}

#[test]
fn the_token_is_proved_at_the_core_that_was_reached() {
    let mut node = guarded(2);
    let wire = node.connect(0);
    let answers = node.ask(wire, &hello(1, Some(1), b"guess"));
    assert_eq!(statuses(&answers), [(1, Status::Unauthorized)]);
    assert!(!node.seen(wire).detaching);

    let wire = node.connect(0);
    node.ask(wire, &hello(1, Some(1), TOKEN));
    assert!(node.seen(wire).detaching);
}

#[test]
fn who_proves_nothing_is_closed_at_the_idle_limit() {
    let mut node = guarded(1);
    let (silent, slow, open) = (node.connect(0), node.connect(0), node.connect(0));
    node.ask(open, &hello(1, None, TOKEN));
    let greeting = hello(1, None, TOKEN);
    for byte in &greeting[..11] {
        node.receive(slow, &[*byte]);
        node.advance_ms(1_000);
    }
    node.settle();
    for wire in [silent, slow] {
        assert_eq!(statuses(&node.answers(wire)), [(NOTICE_ID, Status::IdleTooLong)]);
        assert_eq!(node.seen(wire).closing, [Closing::Drained]);
    }
    assert!(node.seen(open).closing.is_empty());
}
