//! The same seeded commands go to Debian's redis-server and to a Corelane node; the replies
//! are equal byte for byte, but for what [`differences`] says: what is compared otherwise, and what
//! differs on purpose, which the streams leave out and a test of its own tries out.
//!
//! `CORELANE_TEST_SEED=n` runs one stream again, `CORELANE_DIFFERENTIAL_OPS=n` makes all of
//! them together that long.

mod commands;
mod compare;
mod wire;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use corelane_tests::differences;
use corelane_tests::embedded::start_node;
use corelane_tests::peer::Peer;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use commands::{Command, command, in_slot, tagged_key};
use compare::agree;
use wire::{Connection, Reply, encode};

/// Streams of commands, each from a connection of its own.
const STREAMS: u64 = 24;
/// Commands of all streams together, unless it is told otherwise.
const COMMANDS: u64 = 120_000;
/// How long a server may take to answer: one that does not answer at all fails the test.
const REPLY_MAX: Duration = Duration::from_secs(30);
/// Most commands that are sent before the first reply is read.
const PIPELINE_MAX: usize = 40;

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

type Side = Connection<Box<dyn Stream>>;

/// Both servers, and a second connection to each that changes keys behind the first one's
/// back.
struct Pair {
    redis: Side,
    corelane: Side,
    redis_other: Side,
    corelane_other: Side,
}

impl Pair {
    fn connect(redis: &Peer, corelane: SocketAddr) -> Pair {
        let redis = || -> Side {
            let stream = redis.connect();
            stream.set_read_timeout(Some(REPLY_MAX)).expect("an option of every socket");
            Connection::new(Box::new(stream))
        };
        let corelane = || -> Side {
            let stream = TcpStream::connect(corelane).expect("the node listens");
            stream.set_nodelay(true).expect("an option of every socket");
            stream.set_read_timeout(Some(REPLY_MAX)).expect("an option of every socket");
            Connection::new(Box::new(stream))
        };
        Pair {
            redis: redis(),
            corelane: corelane(),
            redis_other: redis(),
            corelane_other: corelane(),
        }
    }

    /// Sends commands in one piece to both, and compares what they answer. Each comes with
    /// the commands that it answers as one, if it is an `EXEC`.
    fn run(&mut self, commands: &[(Command, Vec<Command>)]) -> Result<(), String> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|(command, _)| encode(command, &mut bytes));
        self.redis.send(&bytes);
        self.corelane.send(&bytes);
        for (command, inner) in commands {
            let expected = self.redis.reply();
            let found = self.corelane.reply();
            check(command, inner, expected, found)?;
        }
        Ok(())
    }

    /// The same on the other connections.
    fn run_other(&mut self, command: &Command) -> Result<(), String> {
        let mut bytes = Vec::new();
        encode(command, &mut bytes);
        self.redis_other.send(&bytes);
        self.corelane_other.send(&bytes);
        check(command, &[], self.redis_other.reply(), self.corelane_other.reply())
    }
}

fn shown(command: &Command) -> String {
    let word = |word: &Vec<u8>| {
        let shown = word[..word.len().min(60)].escape_ascii();
        if word.len() > 60 {
            format!("{shown}… ({} bytes)", word.len())
        } else {
            shown.to_string()
        }
    };
    command.iter().map(word).collect::<Vec<_>>().join(" | ")
}

fn check(
    command: &Command,
    inner: &[Command],
    expected: Option<Reply>,
    found: Option<Reply>,
) -> Result<(), String> {
    match (&expected, &found) {
        (Some(a), Some(b)) if agree(command, inner, a, b) => Ok(()),
        (None, None) => Ok(()),
        _ => {
            let text = |reply: Option<Reply>| match reply {
                Some(reply) => reply.to_string(),
                None => "nothing, or the end of the connection".to_owned(),
            };
            let (expected, found) = (text(expected), text(found));
            Err(format!("{}\n  redis:    {expected}\n  corelane: {found}", shown(command)))
        }
    }
}

/// A transaction: perhaps watched keys that somebody may change, commands, and an end.
fn transaction(random: &mut StdRng, pair: &mut Pair) -> Result<u64, String> {
    let word =
        |text: &str| -> Command { text.split(' ').map(|word| word.as_bytes().to_vec()).collect() };
    let mut sent = 0;
    if random.random_range(0..2) == 0 {
        let mut watch = word("watch");
        for _ in 0..random.random_range(1..3) {
            watch.push(tagged_key(random));
        }
        pair.run(&[(watch, Vec::new())])?;
        sent += 1;
        for _ in 0..random.random_range(0..3) {
            let names = [
                "set {tag}1 other",
                "del {tag}1",
                "append {tag}2 x",
                "incr {tag}3",
                "expire {tag}1 100",
                "expireat {tag}2 4000000000",
                "expire {tag}2 0",
                "persist {tag}1",
                "getex {tag}2 persist",
                "get {tag}1",
                "touch {tag}2",
                "rename {tag}1 {tag}2",
                "copy {tag}2 {tag}1",
                "flushdb",
            ];
            pair.run_other(&word(names[random.random_range(0..names.len())]))?;
            sent += 1;
        }
    }
    let mut commands = vec![(word("MULTI"), Vec::new())];
    let mut inner: Vec<Command> = Vec::new();
    for _ in 0..random.random_range(0..6) {
        let command = match random.random_range(0..20) {
            0 => word("nosuch command"),
            1 => word("get"),
            2 => word("watch a"),
            3 => word("multi"),
            4 => word("ping inside"),
            5 => word("select 0"),
            _ => in_slot(random),
        };
        let is_queued = !matches!(command[0].as_slice(), b"nosuch" | b"watch" | b"multi")
            && command.len() > usize::from(command[0] == b"get");
        commands.push((command.clone(), Vec::new()));
        if is_queued {
            inner.push(command);
        }
    }
    let end = if random.random_range(0..6) == 0 { "discard" } else { "exec" };
    commands.push((word(end), inner));
    sent += commands.len() as u64;
    pair.run(&commands)?;
    Ok(sent)
}

/// One stream; how many commands it had.
fn stream(seed: u64, length: u64, redis: &Peer, corelane: SocketAddr) -> Result<u64, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut pair = Pair::connect(redis, corelane);
    let words =
        |text: &str| -> Command { text.split(' ').map(|word| word.as_bytes().to_vec()).collect() };
    pair.run(&[(words("flushall"), Vec::new())])?;
    let mut sent = 0;
    while sent < length {
        match random.random_range(0..10) {
            0 => sent += transaction(&mut random, &mut pair)?,
            1 => walk(&mut pair)?,
            _ => {
                let count = match random.random_range(0..3) {
                    0 => 1,
                    1 => random.random_range(1..4),
                    _ => random.random_range(1..PIPELINE_MAX),
                };
                let commands: Vec<_> =
                    (0..count).map(|_| (command(&mut random), Vec::new())).collect();
                sent += count as u64;
                pair.run(&commands)?;
            }
        }
    }
    ending(&mut random, &mut pair)?;
    Ok(sent)
}

/// Walks over all keys of both: `SCAN` gives every key that is there all the while, and may
/// give one twice.
fn walk(pair: &mut Pair) -> Result<(), String> {
    let walk = |side: &mut Side| {
        let (mut cursor, mut keys) = (b"0".to_vec(), Vec::new());
        loop {
            let mut bytes = Vec::new();
            encode(&[b"scan".to_vec(), cursor], &mut bytes);
            side.send(&bytes);
            let reply = side.reply().expect("the connection is open");
            let [next, page] = &reply.elements[..] else { panic!("{reply}") };
            keys.extend(page.elements.iter().map(|key| key.text.clone()));
            cursor = next.text.clone();
            if cursor == b"0" {
                keys.sort();
                keys.dedup();
                return keys;
            }
        }
    };
    let (expected, found) = (walk(&mut pair.redis), walk(&mut pair.corelane));
    if expected != found {
        return Err(format!("scan\n  redis:    {expected:?}\n  corelane: {found:?}"));
    }
    Ok(())
}

/// What makes a server close the connection, and inline commands before it.
fn ending(random: &mut StdRng, pair: &mut Pair) -> Result<(), String> {
    let endings: [&[u8]; 14] = [
        b"PING\r\nQUIT\r\nPING\r\n",
        b"ping \"a b\" \r\n\r\nset inline 'it\\'s' \r\nget inline\r\nquit\r\n",
        b"*1\r\n$4\r\nQUIT\r\n",
        b"*x\r\n",
        b"*01\r\n",
        b"*1\r\n+4\r\nPING\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$x\r\n",
        b"*1\r\n$99999999999\r\n",
        b"*0\r\n*-1\r\nPING \"unbalanced\r\n",
        b"GET \"a\"b\r\n",
        b"POST / HTTP/1.1\r\n",
        b"host: somewhere\r\n",
        b"*2\r\n$4\r\necho\r\n$2\r\nab\r\n*1\r\nPING\r\n",
    ];
    let bytes = endings[random.random_range(0..endings.len())];
    pair.redis.send(bytes);
    pair.corelane.send(bytes);
    let (expected, found) = (pair.redis.rest(), pair.corelane.rest());
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.escape_ascii(), found.escape_ascii());
    Err(format!("{}\n  redis:    {expected}\n  corelane: {found}", bytes.escape_ascii()))
}

#[test]
fn a_node_answers_as_redis_does() {
    let redis = Peer::redis();
    let (node, address) = start_node(256 << 20);
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let commands: u64 = number("CORELANE_DIFFERENTIAL_OPS").unwrap_or(COMMANDS);
    let length = commands.div_ceil(STREAMS);
    let seeds: Vec<u64> =
        number("CORELANE_TEST_SEED").map_or((0..STREAMS).collect(), |seed| vec![seed]);
    let mut sent = 0;
    for &seed in &seeds {
        match stream(seed, length, &redis, address) {
            Ok(count) => sent += count,
            Err(difference) => panic!("seed {seed} (CORELANE_TEST_SEED={seed}):\n{difference}"),
        }
    }
    assert!(sent >= length * seeds.len() as u64, "{sent} commands");
    node.stop().expect("no core panicked");
}

#[test]
fn what_differs_on_purpose_differs_as_listed() {
    let redis = Peer::redis();
    let (node, address) = start_node(256 << 20);
    for difference in &differences::RESP {
        let (theirs, ours) = (redis.connect(), TcpStream::connect(address).expect("it listens"));
        theirs.set_read_timeout(Some(REPLY_MAX)).expect("an option of every socket");
        ours.set_read_timeout(Some(REPLY_MAX)).expect("an option of every socket");
        differences::check(difference, theirs, ours);
    }
    node.stop().expect("no core panicked");
}
