//! What a core's own work for a request costs, without the kernel: frames go into an engine as
//! they would arrive, replies come out and are handed back.
//!
//! `cargo bench -p corelane-engine --bench requests` prints the time of an operation (the
//! thread's own on its CPU, least and median over rounds) for 50 connections that take turns,
//! 95 % gets and 5 % sets of random keys that are all there. `CORELANE_BENCH_ITEMS` sets their
//! number (1 million by default), `CORELANE_BENCH_PIPELINES`, `CORELANE_BENCH_VALUES` and
//! `CORELANE_BENCH_PROTOCOLS` (of `native`, `resp` and `memcached`) are lists,
//! `CORELANE_BENCH_SETS` is the percentage of sets, and `CORELANE_BENCH_HUGE_PAGES` asks for
//! huge pages. Where the machine is noisy, count instructions: with few items and
//! `CORELANE_BENCH_ROUNDS=1`, which is not timed (valgrind hides the clock), under
//! `valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*Load*round*'`.

use std::str::FromStr;

use corelane_engine::{
    Closing, ConnectionId, DefaultTtl, Engine, EngineConfig, JitterMode, Mail, Output, Packet,
    SendEnd,
};
use corelane_protocol::{
    Hello, MonotonicUs, OldValue, Request, RequestHead, RequestId, Set, SetCondition, Ttl, wire,
};
use corelane_ring::{Core, slot_of};
use corelane_shard::{HugePages, ShardConfig};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 50;
const OPERATIONS_A_ROUND: usize = 25_600;
const NOW: MonotonicUs = MonotonicUs(1_000_000);

/// Sends are done as soon as the engine has handed all of them out.
#[derive(Default)]
struct Sends(Vec<(ConnectionId, Packet)>);

impl Output for Sends {
    fn send(&mut self, connection: ConnectionId, packet: Packet) {
        self.0.push((connection, packet));
    }

    fn taken_by_peer(&mut self, _: ConnectionId) -> Option<u64> {
        None
    }

    fn pause(&mut self, _: ConnectionId) {
        unreachable!("replies are taken at once");
    }

    fn resume(&mut self, _: ConnectionId) {}

    fn close(&mut self, _: ConnectionId, _: Closing) {
        unreachable!("no request is wrong");
    }

    fn detach(&mut self, _: ConnectionId) {}

    fn mail(&mut self, _: Core, _: Mail) {
        unreachable!("there is one core");
    }
}

fn list<T: FromStr>(name: &str, default: &str) -> Vec<T> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let item = |item: &str| item.trim().parse().ok().unwrap_or_else(|| panic!("{name}: {item}"));
    text.split(',').map(item).collect()
}

/// What the connections speak.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Native,
    Resp,
    Memcached,
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(name: &str) -> Result<Protocol, ()> {
        match name {
            "native" => Ok(Protocol::Native),
            "resp" => Ok(Protocol::Resp),
            "memcached" => Ok(Protocol::Memcached),
            _ => Err(()),
        }
    }
}

impl Protocol {
    /// What a connection begins with.
    fn open(self, out: &mut Vec<u8>) {
        match self {
            Protocol::Native => {
                let hello = Hello { version: 1, core: None, token: b"" };
                encode(0, &Request::Hello(hello), out);
            }
            Protocol::Resp => out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"),
            Protocol::Memcached => out.extend_from_slice(b"version\r\n"),
        }
    }

    fn get(self, id: usize, key: &[u8], out: &mut Vec<u8>) {
        match self {
            Protocol::Native => encode(id, &Request::Get { key, least_version: None }, out),
            Protocol::Resp => array(&[b"GET", key], out),
            Protocol::Memcached => {
                for piece in [b"get ", key, b"\r\n"] {
                    out.extend_from_slice(piece);
                }
            }
        }
    }

    fn set(self, id: usize, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        match self {
            Protocol::Native => {
                let (ttl, condition, old) = (Ttl::Default, SetCondition::Always, OldValue::Omit);
                let set = Set { key, value, user_flags: 0, ttl, condition, old };
                encode(id, &Request::Set(set), out);
            }
            Protocol::Resp => array(&[b"SET", key, value], out),
            Protocol::Memcached => {
                let numbers = format!(" 0 0 {}\r\n", value.len());
                for piece in [b"set ", key, numbers.as_bytes(), value, b"\r\n"] {
                    out.extend_from_slice(piece);
                }
            }
        }
    }
}

/// Appends an array of strings, as RESP has it.
fn array(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn name(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let digits = format!("{number:012}");
    key[4..].copy_from_slice(digits.as_bytes());
    key
}

fn encode(id: usize, request: &Request<'_>, out: &mut Vec<u8>) {
    let head = RequestHead { id: RequestId(id as u32), ..RequestHead::default() };
    wire::encode_request(&head, request, out).expect("a request within the limits");
}

struct Load {
    engine: Engine,
    connections: Vec<ConnectionId>,
    sends: Sends,
    sent_bytes: usize,
}

impl Load {
    fn new(protocol: Protocol, items: u64, value_bytes: usize) -> Load {
        let budget = items * (value_bytes as u64 + 140) + (64 << 20);
        let mut shard = ShardConfig::new(budget, |key| slot_of(key).number());
        if std::env::var_os("CORELANE_BENCH_HUGE_PAGES").is_some() {
            shard.huge_pages = HugePages::Advise;
        }
        let mut engine = Engine::new(EngineConfig {
            core: 0,
            cores: 1,
            node_name: "bench".to_owned(),
            cluster: None,
            shard,
            value_bytes_max: 1 << 20,
            default_ttl: DefaultTtl::Never,
            jitter: JitterMode::Off,
            jitter_percent: 0,
            token: None,
            idle_ms_max: 10_000,
            drain_ms_max: 10_000,
            output_bytes_max: 1 << 20,
            output_bytes_total_max: 64 << 20,
            backlog_bytes_total_max: 64 << 20,
            input_bytes_total_max: 64 << 20,
            seed: 1,
            now: NOW,
            unix_ms: 1_700_000_000_000,
            dialects: Default::default(),
            about: Default::default(),
        })
        .expect("an engine");
        let connections = (0..CONNECTIONS).map(|_| engine.opened(NOW)).collect();
        let mut load = Load { engine, connections, sends: Sends::default(), sent_bytes: 0 };
        let mut frames = Vec::new();
        protocol.open(&mut frames);
        for connection in 0..CONNECTIONS {
            load.receive(connection, &frames);
        }
        load.turn();
        let value = vec![b'v'; value_bytes];
        for number in 0..items {
            frames.clear();
            protocol.set(1, &name(number), &value, &mut frames);
            load.receive(0, &frames);
            load.turn();
        }
        load
    }

    fn receive(&mut self, connection: usize, frames: &[u8]) {
        self.engine.received(self.connections[connection], frames, NOW, &mut self.sends);
    }

    fn turn(&mut self) {
        let _ = self.engine.tick(NOW, &mut self.sends);
        self.engine.flush_output(NOW, &mut self.sends);
        let mut sends = std::mem::take(&mut self.sends.0);
        for (connection, packet) in sends.drain(..) {
            self.sent_bytes += packet.len();
            self.engine.sent(connection, packet, SendEnd::Whole, NOW, &mut self.sends);
        }
        assert!(self.sends.0.is_empty(), "nothing is left to send");
        self.sends.0 = sends;
        self.engine.begin_turn(NOW, NOW);
    }

    /// One round, under a name of its own for profilers.
    #[inline(never)]
    fn round(&mut self, pieces: &[Vec<u8>]) {
        for turn in pieces.chunks(CONNECTIONS) {
            for (connection, frames) in turn.iter().enumerate() {
                let coming = self.connections.iter().zip(turn).skip(connection);
                self.engine.foresee(coming.map(|(id, frames)| (*id, &frames[..])), NOW);
                self.receive(connection, frames);
            }
            self.turn();
        }
    }
}

/// What arrives in one round, in pieces of as many frames as a connection has under way.
fn pieces(mix: &Mix, pipeline: usize, value: &[u8], random: &mut SmallRng) -> Vec<Vec<u8>> {
    let piece = || {
        let mut frames = Vec::new();
        for id in 1..=pipeline {
            let key = name(random.random_range(0..mix.items));
            if random.random_range(0..100) < mix.sets_percent {
                mix.protocol.set(id, &key, value, &mut frames);
            } else {
                mix.protocol.get(id, &key, &mut frames);
            }
        }
        frames
    };
    std::iter::repeat_with(piece).take(OPERATIONS_A_ROUND / pipeline).collect()
}

/// What is asked for.
struct Mix {
    protocol: Protocol,
    items: u64,
    sets_percent: u32,
}

/// Nanoseconds that this thread has run.
fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn main() {
    let items = list("CORELANE_BENCH_ITEMS", "1000000")[0];
    let sets_percent = list("CORELANE_BENCH_SETS", "5")[0];
    let rounds: usize = list("CORELANE_BENCH_ROUNDS", "101")[0];
    let pipelines: Vec<usize> = list("CORELANE_BENCH_PIPELINES", "1,16,64");
    let mut random = SmallRng::seed_from_u64(1);
    for protocol in list("CORELANE_BENCH_PROTOCOLS", "native,resp,memcached") {
        let mix = Mix { protocol, items, sets_percent };
        for value_bytes in list("CORELANE_BENCH_VALUES", "64,1024") {
            let value = vec![b'w'; value_bytes];
            let mut load = Load::new(protocol, items, value_bytes);
            for &pipeline in &pipelines {
                let mut times: Vec<f64> = (0..rounds)
                    .map(|_| {
                        let pieces = pieces(&mix, pipeline, &value, &mut random);
                        let clock = || if rounds > 1 { thread_ns() } else { 0 };
                        let start = clock();
                        load.round(&pieces);
                        (clock() - start) as f64 / OPERATIONS_A_ROUND as f64
                    })
                    .collect();
                times.sort_by(f64::total_cmp);
                println!(
                    "{protocol:?}, {value_bytes:5} B, pipeline {pipeline:3}: {:7.1} ns/op median, \
                     {:7.1} least",
                    times[times.len() / 2],
                    times[0]
                );
            }
            let counters = load.engine.counters();
            assert_eq!(counters.misses, 0, "every key is there");
            assert!(load.sent_bytes > 0);
        }
    }
}
