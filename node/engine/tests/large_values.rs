//! Large values: piece by piece into the shard and out of it, on this core and on another.

mod harness;

use corelane_dialect::Dialects;
use corelane_engine::limits::{INPUT_BYTES_SMALL, UPLOADS_SHARE};
use corelane_engine::{EngineConfig, ReceiveEnd, Tuning};
use corelane_protocol::Status;
use corelane_ring::slot_of;
use corelane_shard::{Policy, ShardConfig};
use harness::{Node, Wire, config, get, hello, set, statuses};

const VALUE_BYTES: usize = 1 << 20;

fn value(seed: u8) -> Vec<u8> {
    (0..VALUE_BYTES).map(|at| (at % 253) as u8 ^ seed).collect()
}

/// Lets the bytes arrive in pieces; whether the node reads on to the last.
fn receive_pieces(node: &mut Node, wire: Wire, bytes: &[u8], piece_bytes: usize) -> bool {
    for piece in bytes.chunks(piece_bytes) {
        node.receive(wire, piece);
        node.work();
        if node.seen(wire).paused {
            return false;
        }
    }
    true
}

fn promised(node: &mut Node, core: usize) -> u64 {
    node.engines[core].counters().upload_bytes_promised
}

fn held(node: &mut Node, core: usize) -> u64 {
    node.engines[core].counters().input_bytes_held
}

#[test]
fn a_large_value_is_never_collected() {
    let mut node = Node::new(2, config());
    let (wire, reader) = (node.connect(0), node.connect(0));
    node.ask(wire, &hello(1, None, b""));
    for (core, piece_bytes) in [(0, 5_000), (0, 100_000), (1, 5_000), (1, 100_000)] {
        let key = node.key_of(core, piece_bytes);
        let value = value(core as u8);
        let frame = set(2, &key, &value);
        for (number, piece) in frame.chunks(piece_bytes).enumerate() {
            assert!(!node.seen(wire).paused, "piece {number}");
            node.receive(wire, piece);
            let held = held(&mut node, 0);
            assert!(held <= INPUT_BYTES_SMALL.max(piece_bytes) as u64, "{held} bytes");
            node.work();
        }
        assert_eq!(statuses(&node.answers(wire)), [(2, Status::Ok)]);
        assert_eq!(node.ask(reader, &get(3, &key))[0].value.as_ref(), Some(&value));
        assert_eq!((promised(&mut node, 0), promised(&mut node, 1)), (0, 0));
    }
    let uploads = [0, 1].map(|core| node.engines[core].counters().uploads);
    assert_eq!(uploads, [2, 2]);
}

#[test]
fn a_client_that_goes_takes_its_half_value_along() {
    let mut node = Node::new(2, config());
    for core in [0, 1] {
        for end in [ReceiveEnd::Broken, ReceiveEnd::PeerFinished] {
            let wire = node.connect(0);
            let key = node.key_of(core, 1);
            // A whole one first, and the front of the second.
            let mut bytes = set(1, &key, b"old");
            bytes.extend_from_slice(&set(2, &key, &value(1)));
            assert!(receive_pieces(&mut node, wire, &bytes[..VALUE_BYTES / 2], 10_000));
            assert_eq!(promised(&mut node, core), VALUE_BYTES as u64);
            node.receive_ended(wire, end);
            node.work();
            assert_eq!(promised(&mut node, core), 0, "{end:?}");
            node.closed(wire);
            node.work();
            assert_eq!(node.engines[0].mail_under_way(), 0);
            let reader = node.connect(0);
            assert_eq!(node.ask(reader, &get(3, &key))[0].value.as_deref(), Some(&b"old"[..]));
            node.engines[core].invariants();
        }
    }
}

#[test]
fn a_value_over_its_share_is_refused_at_its_front_and_the_rest_skipped() {
    let shard = ShardConfig::new(4 << 20, |key| slot_of(key).number());
    let mut node = Node::new(2, EngineConfig { shard, ..config() });
    for core in [0, 1] {
        let wire = node.connect(0);
        let key = node.key_of(core, 1);
        let mut bytes = set(1, &key, &value(1));
        bytes.extend_from_slice(&set(2, &key, b"small"));
        node.receive(wire, &bytes[..10_000]);
        node.work();
        assert_eq!(statuses(&node.answers(wire)), [(1, Status::ValueTooLarge)]);
        assert!(receive_pieces(&mut node, wire, &bytes[10_000..], 10_000));
        assert_eq!(statuses(&node.answers(wire)), [(2, Status::Ok)]);
    }
}

#[test]
fn values_wait_for_others_to_arrive_and_none_is_lost() {
    let shard = ShardConfig::new(16 << 20, |key| slot_of(key).number());
    let at_a_time = (16 << 20) / UPLOADS_SHARE / VALUE_BYTES as u64;
    let mut node = Node::new(2, EngineConfig { shard, ..config() });
    for core in [0, 1] {
        let wires: Vec<Wire> = (0..12).map(|_| node.connect(0)).collect();
        let frames: Vec<Vec<u8>> = (0..12)
            .map(|number| set(number, &node.key_of(core, number as usize), &value(number as u8)))
            .collect();
        let mut sent = [0; 12];
        while (0..12).any(|at| sent[at] < frames[at].len()) {
            let mut any = false;
            for at in 0..12 {
                let end = frames[at].len().min(sent[at] + 20_000);
                if end > sent[at] && !node.seen(wires[at]).paused {
                    node.receive(wires[at], &frames[at][sent[at]..end]);
                    (sent[at], any) = (end, true);
                }
            }
            assert!(any, "somebody is always read");
            let promised = promised(&mut node, core);
            assert!(promised <= at_a_time * VALUE_BYTES as u64, "{promised}");
            node.work();
        }
        for (at, wire) in wires.into_iter().enumerate() {
            assert_eq!(statuses(&node.answers(wire)), [(at as u32, Status::Ok)]);
        }
        assert_eq!(promised(&mut node, core), 0);
        node.engines[core].invariants();
    }
}

#[test]
fn a_command_that_is_whole_hands_its_value_over_in_pieces() {
    let config = EngineConfig { dialects: Dialects::ALL, ..config() };
    let mut node = Node::new(2, config);
    let resp = |key: &[u8], value: &[u8]| {
        let head = format!("*5\r\n$3\r\nSET\r\n${}\r\n", key.len());
        let length = format!("\r\n${}\r\n", value.len());
        let tail = b"\r\n$2\r\nEX\r\n$3\r\n100\r\n";
        [head.as_bytes(), key, length.as_bytes(), value, tail].concat()
    };
    let memcached = |key: &[u8], value: &[u8]| {
        let length = format!(" 7 0 {}\r\n", value.len());
        [b"set ", key, length.as_bytes(), value, b"\r\n"].concat()
    };
    let meta = |key: &[u8], value: &[u8]| {
        let length = format!(" {} O7 T0 MS\r\n", value.len());
        [b"ms ", key, length.as_bytes(), value, b"\r\n"].concat()
    };
    type Write<'w> = &'w dyn Fn(&[u8], &[u8]) -> Vec<u8>;
    let forms: [(Write<'_>, &[u8], &[u8]); 3] = [
        (&resp, b"+OK\r\n", b"+PONG\r\n"),
        (&memcached, b"STORED\r\n", b"MN\r\n"),
        (&meta, b"HD O7\r\n", b"MN\r\n"),
    ];
    for (form, (write, stored, after)) in forms.into_iter().enumerate() {
        let (wire, reader) = (node.connect(0), node.connect(0));
        let next: &[u8] = if form == 0 { b"PING\r\n" } else { b"mn\r\n" };
        for core in 0..2 {
            let key = node.key_of(core, form);
            let value = value(form as u8);
            let input = [&write(&key, &value)[..], next].concat();
            let uploads = node.engines[core].counters().uploads;
            let (rest, last) = input.split_at(input.len() - next.len() - 1);
            for piece in rest.chunks(10_000) {
                node.receive(wire, piece);
                node.work();
            }
            assert_eq!(node.seen(wire).sent, b"", "nothing is done before all is there");
            node.receive(wire, last);
            let left = node.engines[0].counters().backlog_bytes as usize;
            assert!(left > value.len() / 2, "one call takes a part only: {left} bytes are left");
            node.work();
            let sent = std::mem::take(&mut node.seen(wire).sent);
            assert_eq!(
                sent.escape_ascii().to_string(),
                [stored, after].concat().escape_ascii().to_string()
            );
            assert_eq!(node.engines[core].counters().uploads, uploads + 1);
            assert_eq!(node.ask(reader, &get(3, &key))[0].value.as_ref(), Some(&value));
            assert_eq!((promised(&mut node, 0), promised(&mut node, 1)), (0, 0));
        }
    }
    node.engines.iter().for_each(|engine| engine.invariants());
}

#[test]
fn a_command_whose_value_finds_no_room_is_answered_and_the_next_one_taken() {
    let config = EngineConfig {
        shard: ShardConfig { policy: Policy::NoEviction, ..config().shard },
        dialects: Dialects::ALL,
        ..config()
    };
    for core in 0..2 {
        let mut node = Node::new(2, config.clone());
        let wire = node.connect(0);
        let set = |node: &mut Node, number: usize| {
            let key = String::from_utf8(node.key_of(core, number)).expect("text");
            let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n", key.len());
            let value = format!("${VALUE_BYTES}\r\n{}\r\n", "v".repeat(VALUE_BYTES));
            node.receive(wire, format!("{head}{value}PING\r\n").as_bytes());
            node.work();
            String::from_utf8(std::mem::take(&mut node.seen(wire).sent)).expect("text")
        };
        let full =
            (0..200).map(|number| set(&mut node, number)).find(|said| !said.starts_with("+OK"));
        let refused = "-OOM command not allowed when used memory > 'maxmemory'.\r\n+PONG\r\n";
        assert_eq!(full.as_deref(), Some(refused));
        assert_eq!((promised(&mut node, 0), promised(&mut node, 1)), (0, 0));
        node.engines.iter().for_each(|engine| engine.invariants());
    }
}

#[test]
fn where_nothing_may_go_the_value_is_refused_in_the_middle() {
    let shard = ShardConfig {
        policy: Policy::NoEviction,
        ..ShardConfig::new(16 << 20, |key| slot_of(key).number())
    };
    let mut node = Node::new(2, EngineConfig { shard, ..config() });
    for core in [0, 1] {
        let wire = node.connect(0);
        let mut refused = 0;
        for number in 0..20 {
            let frame = set(number, &node.key_of(core, number as usize), &value(number as u8));
            assert!(receive_pieces(&mut node, wire, &frame, 30_000));
            match statuses(&node.answers(wire))[..] {
                [(id, Status::Ok)] if id == number => {}
                [(id, Status::OutOfMemory)] if id == number => refused += 1,
                ref other => panic!("{other:?}"),
            }
        }
        assert!((4..16).contains(&refused), "{refused}");
        assert_eq!(promised(&mut node, core), 0);
    }
}

#[test]
fn half_frames_beyond_the_limit_wait_or_are_refused() {
    // Appends are collected.
    let refused = crowd_of_halves(&harness::append(1, b"key", &value(1)));
    assert!(refused.iter().all(|sent| sent.len() > 16), "a native client is told why");
}

#[test]
fn clients_of_a_dialect_are_refused_without_a_word() {
    let bytes = value(1);
    let command = format!("*3\r\n$6\r\nAPPEND\r\n$3\r\nkey\r\n${}\r\n", bytes.len());
    let refused = crowd_of_halves(&[command.as_bytes(), &bytes, b"\r\n"].concat());
    assert!(refused.iter().all(Vec::is_empty), "as Redis closes one whose command is too long");
}

/// Many connections that send an append bit by bit, beyond what the core holds; what those are
/// sent that are refused.
fn crowd_of_halves(append: &[u8]) -> Vec<Vec<u8>> {
    let dialects = Dialects::ALL;
    let input_bytes_total_max = 4 << 20;
    let mut node = Node::new(1, EngineConfig { dialects, input_bytes_total_max, ..config() });
    let wires: Vec<Wire> = (0..400).map(|_| node.connect(0)).collect();
    let mut sent = vec![0; wires.len()];
    for _ in 0..20 {
        for (at, wire) in wires.iter().enumerate() {
            let seen = node.seen(*wire);
            let end = (sent[at] + 16_000).min(append.len() - 1);
            if !seen.paused && seen.closing.is_empty() && end > sent[at] {
                node.receive(*wire, &append[sent[at]..end]);
                sent[at] = end;
            }
        }
        let counters = node.engines[0].counters();
        assert!(counters.input_bytes_promised <= 4 << 20);
        assert!(counters.input_bytes_held <= 4 << 20);
        node.work();
    }
    let counters = node.engines[0].counters();
    assert!(counters.inputs_refused > 0);
    assert!(counters.connections_paused > 0);
    // Those that are left come to their end one after the other.
    let mut answered = 0;
    while answered < 400 - node.engines[0].counters().inputs_refused {
        let before = sent.clone();
        for (at, wire) in wires.iter().enumerate() {
            let seen = node.seen(*wire);
            if !seen.paused && seen.closing.is_empty() && sent[at] < append.len() {
                let end = (sent[at] + 100_000).min(append.len());
                node.receive(*wire, &append[sent[at]..end]);
                sent[at] = end;
                node.work();
                answered += u64::from(end == append.len());
            }
        }
        assert!(sent != before, "somebody is always read");
    }
    let counters = node.engines[0].counters();
    assert_eq!((counters.input_bytes_promised, counters.input_bytes_held), (0, 0));
    let refused = counters.inputs_refused as usize;
    let seen = wires.iter().map(|wire| std::mem::take(node.seen(*wire)));
    let closed: Vec<_> = seen.filter(|seen| !seen.closing.is_empty()).collect();
    assert_eq!(closed.len(), refused);
    closed.into_iter().map(|seen| seen.sent).collect()
}

#[test]
fn a_half_value_that_stays_away_is_dropped_at_the_idle_limit() {
    let mut node = Node::new(1, config());
    let (slow, stuck) = (node.connect(0), node.connect(0));
    let frame = set(1, b"key", &value(1));
    node.receive(slow, &frame[..100_000]);
    node.receive(stuck, &frame[..100_000]);
    for step in 1..=4 {
        node.advance_ms(9_000);
        node.receive(slow, &frame[step * 100_000..][..100_000]);
        node.receive(stuck, &frame[100_000 + step..][..1]);
    }
    assert!(node.seen(slow).closing.is_empty(), "it made progress");
    assert!(!node.seen(stuck).closing.is_empty(), "a byte now and then is none");
    assert_eq!(promised(&mut node, 0), VALUE_BYTES as u64);
}

/// The rest of the set stood in the queue for the other core, and went with the connection.
#[test]
fn a_client_that_goes_takes_a_whole_value_along_that_is_half_forwarded() {
    let mut node = Node::new(2, config());
    let wire = node.connect(0);
    let frame = set(1, &node.key_of(1, 1), &value(1));
    for piece in frame.chunks(300_000) {
        node.receive(wire, piece);
        if node.seen(wire).paused {
            break;
        }
    }
    node.flush(0);
    assert!(node.carry_mail(0));
    assert_eq!(promised(&mut node, 1), VALUE_BYTES as u64);
    for piece in frame[300_000..].chunks(300_000) {
        node.receive(wire, piece);
    }
    node.receive_ended(wire, ReceiveEnd::Broken);
    node.work();
    assert_eq!(promised(&mut node, 1), 0);
    assert_eq!(node.engines[0].mail_under_way(), 0);
}

#[test]
fn a_request_longer_than_a_share_of_a_turn_is_taken_whole() {
    let mut node = Node::new(1, config());
    let wire = node.connect(0);
    node.ask(wire, &set(1, b"key", b"v"));
    let mut frames = harness::append(2, b"key", &value(1)[..500_000]);
    frames.extend_from_slice(&get(3, b"key"));
    assert_eq!(statuses(&node.ask(wire, &frames)), [(2, Status::Ok), (3, Status::Ok)]);
}

#[test]
fn who_waits_for_others_longer_than_the_idle_limit_is_told_so() {
    let mut node = Node::new(1, config());
    let frame = set(1, b"key", &value(0));
    let share = config().shard.budget_bytes / UPLOADS_SHARE;
    let slow: Vec<Wire> = (0..share as usize / VALUE_BYTES).map(|_| node.connect(0)).collect();
    for wire in &slow {
        node.receive(*wire, &frame[..100_000]);
    }
    let crowded_out = node.connect(0);
    node.receive(crowded_out, &frame[..1_000]);
    assert!(node.seen(crowded_out).paused, "the others have all there is");
    for step in 1..=2 {
        node.settle();
        assert_eq!(statuses(&node.answers(crowded_out)), []);
        node.advance_ms(9_000);
        for wire in &slow {
            node.receive(*wire, &frame[step * 100_000..][..100_000]);
        }
    }
    node.settle();
    assert_eq!(statuses(&node.answers(crowded_out)), [(u32::MAX, Status::Busy)]);
    let counters = node.engines[0].counters();
    assert_eq!((counters.inputs_refused, counters.idle_closed), (1, 0));
    assert_eq!((counters.input_bytes_held, counters.upload_bytes_promised), (0, share));
}

#[test]
fn uploads_and_half_frames_follow_the_memory() {
    let mut node = Node::new(1, config());
    let frame = set(1, b"key", &value(0));
    let wires: Vec<Wire> = (0..20).map(|_| node.connect(0)).collect();
    for wire in &wires {
        node.receive(*wire, &frame[..1_000]);
    }
    assert_eq!(promised(&mut node, 0), 16 << 20);
    let shard_bytes = config().shard.budget_bytes_max / 2;
    node.engines[0].retune(Tuning {
        policy: config().shard.policy,
        shard_bytes,
        output_bytes_total_max: 1 << 20,
        backlog_bytes_total_max: 1 << 20,
        input_bytes_total_max: 1 << 20,
    });
    // What was promised stays promised, and nobody else is admitted.
    node.work();
    assert_eq!(promised(&mut node, 0), 16 << 20);
    for wire in &wires[..10] {
        node.closed(*wire);
    }
    node.work();
    let share = shard_bytes / UPLOADS_SHARE;
    assert_eq!(promised(&mut node, 0), share, "those that waited are admitted up to the new share");
}

/// Writes that take pages faster than a call frees any wait for slices of housekeeping, whatever
/// their client speaks and wherever their core is. Reads go on meanwhile.
#[test]
fn writes_wait_for_pages_and_reads_do_not() {
    let shard = ShardConfig::new(4 << 20, |key| slot_of(key).number());
    let config = EngineConfig { shard, dialects: Dialects::ALL, ..config() };
    let value = &value(1)[..15_000];
    let resp = |name: &str, key: &[u8], rest: &[u8]| {
        let words = if rest.is_empty() { 2 } else { 3 };
        let mut bytes = format!("*{words}\r\n${}\r\n{name}\r\n", name.len()).into_bytes();
        for word in [key, rest].iter().filter(|word| !word.is_empty()) {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    };
    let memcached =
        |name: &str, key: &[u8], rest: &[u8]| [name.as_bytes(), b" ", key, rest, b"\r\n"].concat();
    let stored = [&b" 0 0 15000\r\n"[..], value].concat();
    type Writes<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let all: [(Writes<'_>, Writes<'_>); 5] = [
        (&|key| set(1, key, value), &|key| get(2, key)),
        (&|key| harness::append(1, key, value), &|key| get(2, key)),
        (&|key| resp("SET", key, value), &|key| resp("GET", key, b"")),
        (&|key| resp("APPEND", key, value), &|key| resp("STRLEN", key, b"")),
        (&|key| memcached("set", key, &stored), &|key| memcached("get", key, b"")),
    ];
    for (number, (write, read)) in all.into_iter().enumerate() {
        for core in [0, 1] {
            let mut node = Node::new(2, config.clone());
            let (filler, writer, reader) = (node.connect(0), node.connect(0), node.connect(0));
            let keys: Vec<Vec<u8>> = (0..60_000).map(|at| node.key_of(core, at)).collect();
            for keys in keys.chunks(1_000) {
                let frames: Vec<u8> = keys.iter().flat_map(|key| set(1, key, b"tiny")).collect();
                node.receive(filler, &frames);
                node.work();
                node.seen(filler).sent.clear();
            }
            let mut writes = 0;
            let mut waited = 0;
            // What is appended to must be there.
            for key in keys.iter().rev().take(500) {
                if number == 1 {
                    node.ask(filler, &set(1, key, b""));
                }
                let (bytes, read) = (write(key), read(key));
                (0..2).for_each(|core| _ = node.turn(core));
                node.receive(writer, &bytes);
                node.settle();
                if node.seen(writer).sent.is_empty() {
                    node.receive(reader, &read);
                    node.settle();
                    assert!(!node.seen(reader).sent.is_empty(), "{number}, core {core}");
                    assert!(node.seen(writer).sent.is_empty());
                    waited += 1;
                    node.work();
                }
                assert!(!node.seen(writer).sent.is_empty(), "{number}, core {core}");
                node.seen(writer).sent.clear();
                node.seen(reader).sent.clear();
                writes += 1;
            }
            assert!(waited > 0 && waited < writes, "{waited} of {writes}: {number}, core {core}");
            node.engines[core].invariants();
        }
    }
}
