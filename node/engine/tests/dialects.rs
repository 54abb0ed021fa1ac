//! Dialects over several cores: whatever is under way where, and however the bytes are cut,
//! each client gets the answers that a plain map would give, in the order of its commands.

mod harness;

use std::collections::BTreeMap;

use std::net::SocketAddr;

use corelane_dialect::{Addresses, Dialects, Settings};
use corelane_engine::limits::{INPUT_BYTES_SMALL, TURN_BYTES};
use corelane_engine::{EngineConfig, SendEnd, Wish};
use harness::{Node, Wire, config};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn node(cores: u16) -> Node {
    Node::new(cores, EngineConfig { dialects: Dialects::ALL, ..config() })
}

type Map = BTreeMap<(usize, String), Vec<u8>>;

/// A client with spaces of its own, the bytes that it sends and those that it expects.
struct Client {
    wire: Wire,
    spaces: [usize; 2],
    space: usize,
    input: Vec<u8>,
    sent: usize,
    expected: Vec<u8>,
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    words.iter().for_each(|word| bytes.extend(bulk(Some(word))));
    bytes
}

fn bulk(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        None => b"$-1\r\n".to_vec(),
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
    }
}

/// A value, one in twelve long enough to be handed over in pieces.
fn drawn_value(random: &mut StdRng) -> Vec<u8> {
    let length = match random.random_range(0..12) {
        0 => random.random_range(INPUT_BYTES_SMALL - 2..3 * INPUT_BYTES_SMALL),
        _ => random.random_range(0..40),
    };
    vec![b'a' + random.random_range(0..26); length]
}

impl Client {
    /// Draws one command of memcached; what it answers follows from the map.
    fn draw_memcached(&mut self, map: &mut Map, random: &mut StdRng) {
        let space = self.space;
        let key = |random: &mut StdRng| format!("{space}-{}", random.random_range(0..12));
        let (one, two) = (key(random), key(random));
        let value = drawn_value(random);
        let length = value.len();
        let is_silent = random.random_range(0..3) == 0;
        let noreply = if is_silent { " noreply" } else { "" };
        let place = (space, one.clone());
        let is_there = map.contains_key(&place);
        let when = |is_so: bool, yes: &str, no: &str| if is_so { yes.into() } else { no.into() };
        let (line, carried, answer): (String, bool, Vec<u8>) = match random.random_range(0..12) {
            0..3 => {
                map.insert(place, value.clone());
                (format!("set {one} 0 0 {length}{noreply}"), true, b"STORED".into())
            }
            3 => {
                if !is_there {
                    map.insert(place, value.clone());
                }
                let answer = when(!is_there, "STORED", "NOT_STORED");
                (format!("add {one} 0 0 {length}{noreply}"), true, String::into_bytes(answer))
            }
            4 => {
                if let Some(old) = map.get_mut(&place) {
                    old.extend_from_slice(&value);
                }
                let answer = when(is_there, "STORED", "NOT_STORED");
                (format!("append {one} 0 0 {length}{noreply}"), true, String::into_bytes(answer))
            }
            5 => {
                map.remove(&place);
                let answer = when(is_there, "DELETED", "NOT_FOUND");
                (format!("delete {one}{noreply}"), false, String::into_bytes(answer))
            }
            6 => {
                let answer = when(is_there, "TOUCHED", "NOT_FOUND");
                (format!("touch {one} 1000{noreply}"), false, String::into_bytes(answer))
            }
            7 => {
                map.insert(place, value.clone());
                self.input.extend(format!("ms {one} {length} k\r\n").bytes());
                self.input.extend([&value[..], b"\r\n"].concat());
                self.expected.extend(format!("HD k{one}\r\n").bytes());
                return;
            }
            8 => {
                self.input.extend(format!("mg {one} v k\r\nmn\r\n").bytes());
                match map.get(&place) {
                    Some(value) => {
                        let head = format!("VA {} k{one}\r\n", value.len());
                        self.expected.extend([head.as_bytes(), value, b"\r\n"].concat());
                    }
                    None => self.expected.extend(format!("EN k{one}\r\n").bytes()),
                }
                self.expected.extend(b"MN\r\n");
                return;
            }
            _ => {
                self.input.extend(format!("get {one} {two}\r\n").bytes());
                for key in [one, two] {
                    if let Some(value) = map.get(&(space, key.clone())) {
                        let head = format!("VALUE {key} 0 {}\r\n", value.len());
                        self.expected.extend([head.as_bytes(), value, b"\r\n"].concat());
                    }
                }
                self.expected.extend(b"END\r\n");
                return;
            }
        };
        self.input.extend([line.as_bytes(), b"\r\n"].concat());
        if carried {
            self.input.extend([&value[..], b"\r\n"].concat());
        }
        if !is_silent {
            self.expected.extend([&answer[..], b"\r\n"].concat());
        }
    }

    /// Draws one command of RESP; what it answers follows from the map.
    fn draw(&mut self, map: &mut Map, random: &mut StdRng) {
        let key = |random: &mut StdRng| format!("key {}", random.random_range(0..12));
        let tagged = |random: &mut StdRng| format!("{{t}}{}", random.random_range(0..3));
        let (one, two, three) = (key(random), key(random), key(random));
        let value = drawn_value(random);
        let space = self.space;
        let get = |map: &Map, key: &String| map.get(&(space, key.clone())).cloned();
        let (words, answer): (Vec<Vec<u8>>, Vec<u8>) = match random.random_range(0..16) {
            0..3 => {
                map.insert((space, one.clone()), value.clone());
                let mut words = vec![b"SET".into(), one.into(), value];
                if random.random_range(0..3) == 0 {
                    words.extend([b"EX".to_vec(), b"10000".to_vec()]);
                }
                (words, b"+OK\r\n".into())
            }
            3..6 => {
                let answer = bulk(get(map, &one).as_deref());
                (vec![b"GET".into(), one.into()], answer)
            }
            6 => {
                let keys = [one, two, three];
                let answers = keys.iter().map(|key| bulk(get(map, key).as_deref()));
                let answer = [b"*3\r\n".to_vec(), answers.collect::<Vec<_>>().concat()].concat();
                let words = keys.map(String::into_bytes);
                ([vec![b"MGET".to_vec()], words.to_vec()].concat(), answer)
            }
            7 => {
                let removed = [&one, &two].map(|key| map.remove(&(space, key.clone())).is_some());
                let count = removed.iter().filter(|removed| **removed).count();
                let words = vec![b"DEL".into(), one.into(), two.into()];
                (words, format!(":{count}\r\n").into())
            }
            8 => {
                map.insert((space, one.clone()), value.clone());
                map.insert((space, two.clone()), b"2".into());
                let words = vec![b"MSET".into(), one.into(), value, two.into(), b"2".into()];
                (words, b"+OK\r\n".into())
            }
            9 => {
                let entry = map.entry((space, one.clone())).or_default();
                entry.extend_from_slice(&value);
                let length = entry.len();
                (vec![b"APPEND".into(), one.into(), value], format!(":{length}\r\n").into())
            }
            10 => (vec![b"ECHO".into(), value.clone()], bulk(Some(&value))),
            11 => {
                self.space = self.spaces[random.random_range(0..2)];
                let words = vec![b"SELECT".into(), self.space.to_string().into_bytes()];
                (words, b"+OK\r\n".into())
            }
            12 => {
                let count = map.keys().filter(|(of, _)| *of == space).count();
                (vec![b"DBSIZE".into()], format!(":{count}\r\n").into())
            }
            13 => {
                map.retain(|(of, _), _| *of != space);
                (vec![b"FLUSHDB".into()], b"+OK\r\n".into())
            }
            14 => {
                let (one, two) = (tagged(random), tagged(random));
                let set = command(&[b"SET", one.as_bytes(), &value]);
                let get_two = command(&[b"GET", two.as_bytes()]);
                map.insert((space, one.clone()), value);
                let found = bulk(get(map, &two).as_deref());
                self.input.extend(command(&[b"WATCH", one.as_bytes()]));
                self.input.extend([command(&[b"MULTI"]), set, get_two].concat());
                self.expected.extend(b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n");
                let answer = [b"*2\r\n+OK\r\n".to_vec(), found].concat();
                (vec![b"EXEC".into()], answer)
            }
            _ => {
                // Keys of two slots: nothing of it takes effect.
                self.input.extend(command(&[b"MULTI"]));
                self.input.extend(command(&[b"SET", b"a", &value]));
                self.input.extend(command(&[b"SET", b"b", &value]));
                self.expected.extend(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n");
                let answer = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n";
                (vec![b"EXEC".into()], answer.into())
            }
        };
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.input.extend(command(&words));
        self.expected.extend(answer);
    }

    /// Sends some of what it has to send.
    fn send(&mut self, node: &mut Node, random: &mut StdRng) {
        let left = self.input.len() - self.sent;
        let most = if random.random_range(0..4) == 0 { 30_000 } else { 300 };
        let some = random.random_range(0..=left.min(most));
        if some > 0 && !node.seen(self.wire).paused {
            node.receive(self.wire, &self.input[self.sent..self.sent + some]);
            self.sent += some;
        }
    }
}

/// How a client begins, and what it does then.
type Script = fn(&mut Client, &mut Map, &mut StdRng);

fn answers_are_those_of_a_map(script: Script) {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let cores = random.random_range(1..5);
        let mut node = node(cores);
        let mut map = Map::new();
        let mut clients: Vec<Client> = (0..3)
            .map(|number| {
                let wire = node.connect(random.random_range(0..usize::from(cores)));
                let spaces = [2 * number, 2 * number + 1];
                let (input, expected) = (Vec::new(), Vec::new());
                Client { wire, spaces, space: spaces[0], input, sent: 0, expected }
            })
            .collect();
        clients.iter_mut().for_each(|client| script(client, &mut map, &mut random));
        while clients.iter().any(|client| client.sent < client.input.len()) {
            for client in &mut clients {
                client.send(&mut node, &mut random);
                match random.random_range(0..4) {
                    0 => node.flush(client.wire.core),
                    1 => {
                        node.carry_mail(random.random_range(0..usize::from(cores)));
                    }
                    2 => {
                        node.end_send(client.wire, SendEnd::Whole);
                    }
                    _ => node.work(),
                }
            }
        }
        node.work();
        for client in &clients {
            let sent = std::mem::take(&mut node.seen(client.wire).sent);
            assert_eq!(
                sent.escape_ascii().to_string(),
                client.expected.escape_ascii().to_string(),
                "seed {seed}"
            );
        }
        node.engines.iter().for_each(|engine| engine.invariants());
    }
}

#[test]
fn resp_answers_are_those_of_a_map() {
    answers_are_those_of_a_map(|client, map, random| {
        client.input.extend(command(&[b"SELECT", client.space.to_string().as_bytes()]));
        client.expected.extend(b"+OK\r\n");
        (0..150).for_each(|_| client.draw(map, random));
    });
}

#[test]
fn memcached_answers_are_those_of_a_map() {
    answers_are_those_of_a_map(|client, map, random| {
        (0..150).for_each(|_| client.draw_memcached(map, random));
    });
}

/// Sends text and gives the answer to it once everything has happened.
fn say(node: &mut Node, wire: Wire, text: &str) -> String {
    node.receive(wire, text.as_bytes());
    node.work();
    String::from_utf8(std::mem::take(&mut node.seen(wire).sent)).expect("text")
}

#[test]
fn memcached_is_answered_in_order_over_cores() {
    let mut node = node(4);
    let wire = node.connect(0);
    let (mut text, mut expected) = (String::new(), String::new());
    for number in 0..40 {
        text += &format!("set key{number} {number} 0 2 noreply\r\n{:02}\r\n", number);
        text += &format!("get key{number} nothing\r\n");
        expected += &format!("VALUE key{number} {number} 2\r\n{number:02}\r\nEND\r\n");
    }
    text += "incr key7 5\r\ndelete key7\r\nget key7\r\nmn\r\n";
    expected += "12\r\nDELETED\r\nEND\r\nMN\r\n";
    assert_eq!(say(&mut node, wire, &text), expected);
}

#[test]
fn every_key_is_met_by_a_walk_over_the_cores() {
    let mut node = node(3);
    let wire = node.connect(1);
    let sets: String = (0..3_000).map(|number| format!("SET k{number} v\r\n")).collect();
    assert_eq!(say(&mut node, wire, &sets), "+OK\r\n".repeat(3_000));
    let all = say(&mut node, wire, "KEYS k1*\r\n");
    let expected = (0..3_000).filter(|number: &u32| number.to_string().starts_with('1')).count();
    let mut keys: Vec<&str> = all.split("\r\n").filter(|line| line.starts_with('k')).collect();
    keys.sort_unstable();
    let twice: Vec<_> = keys.windows(2).filter(|two| two[0] == two[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(all.starts_with(&format!("*{expected}\r\n")), "{}", &all[..all.len().min(20)]);
    // One step at a time, until the cursor is 0 again.
    let (mut cursor, mut met) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let page = say(&mut node, wire, &format!("SCAN {cursor} COUNT 100\r\n"));
        let mut lines = page.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
        cursor = lines.next().expect("a cursor").to_owned();
        met.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(met.len(), 3_000);
    assert_eq!(say(&mut node, wire, "SCAN 999999999999999999\r\n"), "*2\r\n$1\r\n0\r\n*0\r\n");
    assert_eq!(say(&mut node, wire, "FLUSHDB\r\nDBSIZE\r\n"), "+OK\r\n:0\r\n");
}

#[test]
fn some_key_is_met_however_few_there_are() {
    for cores in [1, 3] {
        let mut node = node(cores);
        let wire = node.connect(0);
        let sets: String = (0..6_000).map(|number| format!("SET k{number} v\r\n")).collect();
        assert_eq!(say(&mut node, wire, &sets), "+OK\r\n".repeat(6_000));
        assert_eq!(say(&mut node, wire, "SELECT 1\r\nRANDOMKEY\r\n"), "+OK\r\n$-1\r\n");
        for key in ["one", "two", "three"] {
            let text = format!("SET {key} v\r\nRANDOMKEY\r\nPING\r\nDEL {key}\r\n");
            let answer = format!("+OK\r\n${}\r\n{key}\r\n+PONG\r\n:1\r\n", key.len());
            assert_eq!(say(&mut node, wire, &text), answer);
        }
        // Which one of several it is depends on the time.
        assert_eq!(say(&mut node, wire, "MSET a 1 b 2 c 3\r\n"), "+OK\r\n");
        let mut met = std::collections::BTreeSet::new();
        for _ in 0..200 {
            node.now.0 += 1_000;
            met.insert(say(&mut node, wire, "RANDOMKEY\r\n"));
        }
        assert_eq!(met.len(), 3, "{met:?}");
    }
}

/// Whether it is memcached is not told by the first bytes of a word; more are read meanwhile.
#[test]
fn a_first_word_in_pieces_is_waited_for() {
    let mut node = node(1);
    for word in ["set k 0 0 1\r\nv\r\n", "get none\r\n", "mn\r\n"] {
        let wire = node.connect(0);
        let (last, first) = word.as_bytes().split_last().expect("a command");
        for byte in first {
            node.receive(wire, &[*byte]);
            assert!(!node.seen(wire).paused, "{word}");
        }
        assert!(!say(&mut node, wire, &char::from(*last).to_string()).is_empty(), "{word}");
    }
}

#[test]
fn connections_of_all_cores_are_listed_and_closed() {
    let mut node = node(2);
    let (one, other) = (node.connect(0), node.connect(1));
    let native = node.connect(1);
    assert_eq!(node.ask(native, &harness::hello(0, None, b"")).len(), 1);
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let inet = Addresses::Inet { remote: address(50_000), local: address(7_400) };
    node.engines[1].set_addresses(other.id, inet);
    node.engines[1].set_addresses(native.id, Addresses::Unix("/run/node".into()));
    assert_eq!(say(&mut node, other, "CLIENT SETNAME other\r\n"), "+OK\r\n");
    let list = say(&mut node, one, "CLIENT LIST\r\n");
    assert_eq!(list.matches("id=").count(), 3, "{list}");
    let line = |part: &str| {
        let found = list.lines().find(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no {part} in {list}"))
    };
    let told = line("addr=127.0.0.1:50000 laddr=127.0.0.1:7400");
    assert!(told.contains("name=other") && told.contains("dialect=resp"), "{told}");
    assert!(line("addr=/run/node:0 laddr=/run/node:0").contains("dialect=native"), "{list}");

    assert_eq!(say(&mut node, one, "CLIENT KILL LADDR /run/node:0 ID 99\r\n"), ":0\r\n");
    assert_eq!(say(&mut node, one, "CLIENT KILL ADDR /run/node:0 TYPE normal\r\n"), ":1\r\n");
    let id = say(&mut node, other, "CLIENT ID\r\n");
    let id = id.trim().trim_start_matches(':').to_owned();
    assert_eq!(say(&mut node, one, &format!("CLIENT KILL ID {id}\r\n")), ":1\r\n");
    node.advance_ms(1_000);
    assert_eq!(node.seen(other).closing.len(), 1);
    assert!(node.seen(one).closing.is_empty());
}

#[test]
fn a_changed_setting_is_answered_once_it_is_in_force() {
    let mut node = node(1);
    let wire = node.connect(0);
    for (outcome, expected) in [
        (Ok(()), "+OK\r\n+PONG\r\n"),
        (Err("too much"), "-ERR CONFIG SET failed - too much\r\n+PONG\r\n"),
    ] {
        let command = "CONFIG SET maxmemory 1gb maxmemory-policy noeviction\r\nPING\r\n";
        assert_eq!(say(&mut node, wire, command), "");
        let [Wish::Configure { settings, asker }] = node.engines[0].wishes()[..] else {
            panic!("nothing was asked for");
        };
        let (memory_bytes, policy) = (Some(1 << 30), Some("noeviction"));
        assert_eq!(settings, Settings { memory_bytes, policy });
        assert_eq!(say(&mut node, wire, ""), "");
        let (now, output) = (node.now, &mut node.outputs[0]);
        node.engines[0].granted(asker, outcome, now, output);
        assert_eq!(say(&mut node, wire, ""), expected);
    }
}

#[test]
fn a_piece_that_was_announced_may_find_its_share_of_the_turn_used_up() {
    let mut node = node(1);
    let native = node.connect(0);
    let key = b"0123456789";
    let get = harness::get(1, key);
    assert_eq!(node.ask(native, &harness::hello(0, None, b"")).len(), 1);
    let resp = node.connect(0);
    assert_eq!(say(&mut node, resp, "PING\r\n"), "+PONG\r\n");
    for (wire, command) in [(native, get), (resp, command(&[b"GET", key]))] {
        node.turn(0);
        let sent_before = node.seen(wire).sent.len();
        let before = TURN_BYTES / command.len();
        assert_ne!(TURN_BYTES % command.len(), 0, "a part of the second piece has room");
        let pieces = [command.repeat(before), command.clone()];
        for piece in &pieces {
            let announced = std::iter::once((wire.id, piece.as_slice()));
            node.engines[0].foresee(announced, node.now);
            node.receive(wire, piece);
        }
        node.work();
        let answers = node.seen(wire).sent.len() - sent_before;
        assert_eq!((answers % (before + 1), answers > before), (0, true));
    }
}
