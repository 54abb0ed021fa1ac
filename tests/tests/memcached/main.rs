//! The same seeded commands go to Debian's memcached and to a Corelane node; the replies are
//! equal byte for byte, but for versions and what `transcript` takes as equal, and for the
//! intended differences, which docs/compatibility.md lists and the streams leave out; those of
//! [`differences`] a test of its own tries out.
//!
//! `CORELANE_TEST_SEED=n` runs one stream again, `CORELANE_TEST_OPS=n` makes all of them
//! together that long.

mod commands;
mod transcript;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use corelane_tests::differences;
use corelane_tests::embedded::start_node;
use corelane_tests::peer::Peer;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use commands::{Command, command};
use transcript::{Line, lines};

/// Streams of commands, each from a connection of its own.
const STREAMS: u64 = 24;
/// Commands of all streams together, unless it is told otherwise.
const COMMANDS: u64 = 120_000;
/// Most commands that are sent before the first reply is read.
const PIPELINE_MAX: usize = 40;
/// What ends a batch: its answer is nothing that any other command gives.
const END: (&[u8], &[u8]) = (b"mg end-of-batch k\r\n", b"EN kend-of-batch\r\n");
/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A connection to one of the two.
struct Side {
    stream: Box<dyn Stream>,
    /// The last version that was told of each key.
    versions: HashMap<Vec<u8>, Vec<u8>>,
}

impl Side {
    fn new(stream: impl Stream + 'static) -> Side {
        Side { stream: Box::new(stream), versions: HashMap::new() }
    }

    /// Sends commands in one piece and reads everything that they answer.
    fn run(&mut self, commands: &[Command]) -> Vec<Line> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| command.write(&self.versions, &mut bytes));
        bytes.extend_from_slice(END.0);
        self.stream.write_all(&bytes).expect("the server reads");
        let mut answer = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            let length = self.stream.read(&mut buffer).expect("the server answers");
            answer.extend_from_slice(&buffer[..length]);
            if answer.ends_with(END.1) || length == 0 {
                break;
            }
        }
        lines(&answer, &mut self.versions)
    }
}

/// One stream; how many commands it had.
fn stream(seed: u64, length: u64, peer: &Peer, corelane: SocketAddr) -> Result<u64, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let theirs = peer.connect();
    theirs.set_read_timeout(Some(ANSWER_MAX)).expect("an option of every socket");
    let ours = TcpStream::connect(corelane).expect("the node listens");
    ours.set_read_timeout(Some(ANSWER_MAX)).expect("an option of every socket");
    ours.set_nodelay(true).expect("an option of every socket");
    let (mut theirs, mut ours) = (Side::new(theirs), Side::new(ours));
    let mut sent = 0;
    let mut batch = vec![Command::plain("flush_all\r\n")];
    while sent < length {
        let (expected, found) = (theirs.run(&batch), ours.run(&batch));
        let differs = expected.iter().zip(&found).position(|(theirs, ours)| theirs != ours);
        if differs.is_some() || expected.len() != found.len() {
            let at = differs.unwrap_or(expected.len().min(found.len()));
            let shown = |lines: &[Line]| -> String {
                let around = lines.iter().take(at + 2).skip(at.saturating_sub(1));
                around.map(|line| format!("\n    {line}")).collect()
            };
            let commands: Vec<String> = batch.iter().map(Command::to_string).collect();
            return Err(format!(
                "{}\n  around line {at} of the answers:\n  memcached:{}\n  corelane:{}",
                commands.join("\n"),
                shown(&expected),
                shown(&found),
            ));
        }
        sent += batch.len() as u64;
        let count = match random.random_range(0..3) {
            0 => 1,
            1 => random.random_range(1..4),
            _ => random.random_range(1..PIPELINE_MAX),
        };
        batch = (0..count).map(|_| command(&mut random)).collect();
    }
    Ok(sent)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn memcached_and_corelane_answer_alike() {
    let peer = Peer::memcached();
    let (node, address) = start_node(512 << 20);
    let length = number("CORELANE_TEST_OPS").unwrap_or(COMMANDS).div_ceil(STREAMS);
    let seeds = number("CORELANE_TEST_SEED").map_or(0..STREAMS, |seed| seed..seed + 1);
    let mut sent = 0;
    for seed in seeds {
        match stream(seed, length, &peer, address) {
            Ok(commands) => sent += commands,
            Err(difference) => panic!(
                "stream {seed} (CORELANE_TEST_SEED={seed} runs it again) differs at\n{difference}"
            ),
        }
    }
    println!("{sent} commands answered alike");
    node.stop().expect("no core panicked");
}

#[test]
fn what_differs_on_purpose_differs_as_listed() {
    let memcached = Peer::memcached();
    let (node, address) = start_node(256 << 20);
    for difference in &differences::MEMCACHED {
        let (theirs, ours) =
            (memcached.connect(), TcpStream::connect(address).expect("it listens"));
        theirs.set_read_timeout(Some(ANSWER_MAX)).expect("an option of every socket");
        ours.set_read_timeout(Some(ANSWER_MAX)).expect("an option of every socket");
        differences::check(difference, theirs, ours);
    }
    node.stop().expect("no core panicked");
}
