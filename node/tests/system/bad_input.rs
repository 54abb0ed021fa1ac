//! Bytes that are not what they should be. Each has its answer, and leaves other connections
//! alone.

use std::io::{Read, Write};
use std::net::TcpStream;

use corelane_protocol::{Hello, Request, Status};

use crate::process::{Io, Node, WAIT_MAX};
use crate::wire::{Got, What, frame, frame_without_answer, get, hello, hello_frame, set};

/// The header of a request, field by field.
#[derive(Clone, Copy)]
struct Header {
    magic: u8,
    opcode: u8,
    flags: u8,
    options: u8,
    id: u32,
    body: u32,
    key: u16,
}

const GET: u8 = 0x10;
const SET: u8 = 0x20;
/// A ping that is as it should be.
const PING: Header =
    Header { magic: 0xC7, opcode: 1, flags: 0, options: 0, id: 5, body: 0, key: 0 };

impl Header {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![self.magic, self.opcode, self.flags, self.options];
        bytes.extend(self.id.to_le_bytes());
        bytes.extend(self.body.to_le_bytes());
        bytes.extend(self.key.to_le_bytes());
        bytes.extend([0, 0]);
        bytes
    }

    /// With a body of zeros, or the beginning of one that is too long to send.
    fn with_body(self) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.resize(bytes.len() + self.body.min(8 << 20) as usize, 0);
        bytes
    }
}

/// Small numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // Xorshift, as in Marsaglia, "Xorshift RNGs" (2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

on_both!(
    what_is_no_frame_ends_its_connection,
    what_is_refused_leaves_its_connection_open,
    hellos_that_cannot_be_served,
    a_frame_that_is_cut_short_is_dropped,
    frames_may_come_byte_by_byte,
    random_bytes_do_no_harm,
);

fn what_is_no_frame_ends_its_connection(io: Io) {
    let node = Node::start(io, &["--dialects", "native"]);
    let mut other = node.connect();
    let check = |bytes: &[u8], last: Got| {
        // Alone, and behind a request that is served.
        let mut wire = node.connect();
        wire.send(bytes);
        wire.assert_ends_with(std::slice::from_ref(&last));
        let mut wire = node.connect();
        wire.send(&[&PING.bytes()[..], bytes].concat());
        wire.assert_ends_with(&[Got { id: 5, part: None, what: What::Pong }, last]);
    };
    let garbled = Got::notice(Status::Garbled);
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: corelane\r\n\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n",
        b"get key\r\n",
        &[0x80; 24],
        &[0x16, 3, 1, 0, 200],
        &[0],
        &[0xC8; 16],
    ] {
        check(bytes, garbled.clone());
        other.assert_served();
    }
    let invalid = Header { id: u32::MAX, ..PING };
    check(&invalid.bytes(), Got::notice(Status::Invalid));
    for body in [(64 << 20) + 16_384 + 256, u32::MAX] {
        let long = Header { opcode: SET, body, key: 3, id: 77, ..PING };
        let got = Got { id: 77, part: None, what: What::Failed(Status::FrameTooLong) };
        check(&long.bytes(), got.clone());
        check(&long.with_body()[..1 << 20], got);
        other.assert_served();
    }
    node.until_counter("garbled", |garbled| garbled >= 14);
    other.assert_served();
}

fn what_is_refused_leaves_its_connection_open(io: Io) {
    let node = Node::start(io, &[]);
    let mut wire = node.connect();
    let mut check = |name: &str, bytes: &[u8], status: Status| {
        wire.send(&[bytes, &PING.bytes()].concat());
        let got = wire.next();
        assert_eq!((got.id, got.what), (9, What::Failed(status)), "{name}");
        let pong = wire.next();
        assert_eq!((pong.id, pong.what), (PING.id, What::Pong), "{name}");
    };
    let nine = Header { id: 9, ..PING };
    let unknown = Header { opcode: 0xEE, body: 100_000, key: 7, ..nine };
    check("an unknown opcode", &unknown.with_body(), Status::UnknownRequest);
    let long_key = Header { opcode: GET, body: 16_385, key: 16_385, ..nine };
    check("a long key", &long_key.with_body(), Status::KeyTooLong);
    let large = Header { opcode: SET, body: 3 + (1 << 20) + 1, key: 3, ..nine };
    check("a value over the limit", &large.with_body(), Status::ValueTooLarge);
    let larger = Header { opcode: SET, body: 8 << 20, key: 3, ..nine };
    check("a value far over the limit", &larger.with_body(), Status::ValueTooLarge);
    let flags = Header { flags: 0x80, ..nine };
    check("an unknown flag", &flags.bytes(), Status::Invalid);
    let silent_get = Header { opcode: GET, flags: 1, body: 3, key: 3, ..nine };
    check("a read without a reply", &silent_get.with_body(), Status::Invalid);
    let keyed_ping = Header { body: 3, key: 3, ..nine };
    check("a key where there is none", &keyed_ping.with_body(), Status::Invalid);
    let contradiction = Header { opcode: GET, body: 3, key: 4, ..nine };
    check("a key longer than the body", &contradiction.with_body(), Status::Invalid);
    let options = Header { opcode: GET, body: 3, key: 3, options: 9, ..nine };
    check("options longer than the body", &options.with_body(), Status::Invalid);
    let short_option = Header { opcode: GET, body: 4, key: 0, options: 4, ..nine };
    let bytes = [&short_option.bytes()[..], &[0x01, 8, 0, 0]].concat();
    check("an option that is cut short", &bytes, Status::Invalid);
    let twice = Header { opcode: SET, body: 13, key: 1, options: 12, ..nine };
    let bytes = [&twice.bytes()[..], &[3, 4, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0], b"k"].concat();
    check("an option that comes twice", &bytes, Status::Invalid);
    check("a hello that is not first", &frame(9, &Request::Hello(hello())), Status::Invalid);
    let no_keys = Header { opcode: 0x11, ..nine };
    check("a multi-get of nothing", &no_keys.bytes(), Status::Invalid);

    // An unknown option is skipped by its length.
    let skipped = Header { opcode: GET, body: 6 + 3, key: 3, options: 6, ..nine };
    wire.send(&[&skipped.bytes()[..], &[0xFE, 4, 1, 2, 3, 4], b"key"].concat());
    assert_eq!(wire.next().what, What::Failed(Status::NotFound));
    // A refused write that wants no answer gets none.
    let value = vec![0; (1 << 20) + 1];
    wire.send(&frame_without_answer(9, &set(b"key", &value)));
    wire.assert_served();
    assert_eq!(wire.ask(&get(b"key")), What::Failed(Status::NotFound));
}

fn hellos_that_cannot_be_served(io: Io) {
    let node = Node::start(io, &["--node-name", "cache-7"]);
    let check = |hello: Hello<'_>, status: Status| {
        let mut wire = node.connect();
        // Whatever follows is not served.
        wire.send(&[hello_frame(&hello), frame(1, &set(b"key", b"value"))].concat());
        wire.assert_ends_with(&[Got { id: 0, part: None, what: What::Failed(status) }]);
        node.assert_serves();
    };
    check(Hello { version: 0, ..hello() }, Status::UnsupportedVersion);
    check(Hello { core: Some(1), ..hello() }, Status::NoSuchCore);
    check(Hello { core: Some(0xFFFE), ..hello() }, Status::NoSuchCore);
    assert_eq!(node.connect().ask(&get(b"key")), What::Failed(Status::NotFound));

    // A client of a later version is answered in this one.
    let mut wire = node.connect();
    wire.send(&hello_frame(&Hello { version: u16::MAX, ..hello() }));
    let welcome =
        What::Welcome { core: 0, cores: 1, name: "cache-7".to_owned(), value_bytes_max: 1 << 20 };
    assert_eq!(wire.next().what, welcome);
    wire.assert_served();
}

fn a_frame_that_is_cut_short_is_dropped(io: Io) {
    let node = Node::start(io, &["--cores", "2"]);
    let mut other = node.connect();
    let value = vec![b'v'; 100_000];
    let whole = frame(3, &set(b"cut", &value));
    for length in [1, 8, 15, 16, 17, 20, 60_000, whole.len() - 1] {
        let mut wire = node.connect();
        wire.send(&[&PING.bytes()[..], &whole[..length]].concat());
        wire.finish();
        wire.assert_ends_with(&[Got { id: 5, part: None, what: What::Pong }]);
        let mut wire = node.connect();
        wire.send(&whole[..length]);
        wire.vanish();
        other.assert_served();
    }
    assert_eq!(other.ask(&get(b"cut")), What::Failed(Status::NotFound));
    node.until_counter("connections_open", |open| open == 1);
}

fn frames_may_come_byte_by_byte(io: Io) {
    let node = Node::start(io, &["--cores", "2"]);
    let mut wire = node.connect();
    let mut bytes = hello_frame(&Hello { core: Some(1), ..hello() });
    for (id, key) in [(1, b"a"), (2, b"b")] {
        bytes.extend(frame(id, &set(key, b"value")));
        bytes.extend(frame(id, &get(key)));
    }
    for byte in bytes {
        wire.send(&[byte]);
    }
    assert!(matches!(wire.next().what, What::Welcome { core: 1, .. }));
    let mut replies: Vec<Got> = (0..4).map(|_| wire.next()).collect();
    replies.sort_by_key(|got| got.id);
    for (index, got) in replies.into_iter().enumerate() {
        let value = What::Value(b"value".to_vec());
        assert_eq!(got.what, if index % 2 == 0 { What::Done } else { value });
    }
}

fn random_bytes_do_no_harm(io: Io) {
    let node = Node::start(io, &["--cores", "2", "--dialects", "native"]);
    let mut other = node.connect();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut requests = hello_frame(&hello());
    for id in 0..40 {
        let key = format!("key {id}");
        requests.extend(frame(id, &set(key.as_bytes(), &vec![b'x'; id as usize * 20])));
        requests.extend(frame(id, &get(key.as_bytes())));
    }
    for round in 0..200 {
        let mut bytes = if round % 2 == 0 {
            (0..random.below(2_000)).map(|_| random.below(256) as u8).collect()
        } else {
            requests.clone()
        };
        for _ in 0..random.below(8) {
            if !bytes.is_empty() {
                let place = random.below(bytes.len());
                bytes[place] = random.below(256) as u8;
            }
        }
        if round % 4 == 0 && !bytes.is_empty() {
            bytes[0] = 0xC7;
        }
        let mut wire = node.connect();
        // The node may have closed before all of it is sent.
        let _ = wire.try_send(&bytes);
        match round % 3 {
            0 => wire.vanish(),
            1 => drop(wire),
            _ => {
                wire.finish_if_open();
                // Whatever it answers, it comes to an end.
                wire.rest();
            }
        }
        if round % 20 == 0 {
            other.assert_served();
        }
    }
    other.assert_served();
    node.until_counter("connections_open", |open| open == 1);
}

on_both!(a_deep_pipeline_of_large_commands_is_slowed_and_not_closed);

/// Half of the commands wait for the other core, so what was sent ahead is more than the node
/// lets one connection keep.
fn a_deep_pipeline_of_large_commands_is_slowed_and_not_closed(io: Io) {
    const COMMANDS: usize = 200;
    let node = Node::start(io, &["--cores", "2", "--memory", "128MiB"]);
    let mut receiving = TcpStream::connect(node.address()).unwrap();
    receiving.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut sending = receiving.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let value = vec![b'v'; 400_000];
        for number in 0..COMMANDS {
            let key = format!("{number:06}");
            let front = format!("*3\r\n$3\r\nSET\r\n$6\r\n{key}\r\n${}\r\n", value.len());
            sending.write_all(&[front.as_bytes(), &value, b"\r\n"].concat()).unwrap();
        }
    });
    let mut replies = vec![0; COMMANDS * b"+OK\r\n".len()];
    receiving.read_exact(&mut replies).unwrap();
    assert_eq!(replies, b"+OK\r\n".repeat(COMMANDS));
    sender.join().unwrap();
    assert_eq!(node.counter("inputs_refused"), [0, 0]);
}
