//! Five nodes as one cache under eight client processes, while nodes are killed, stopped and
//! started again, for as long as `CORELANE_TEST_SECONDS` says.
//!
//! What must hold whatever happens: no value that was never written to its key, hence no reply to
//! the wrong caller; no request without an answer or an error by its deadline; nothing read that
//! is older than what was acknowledged, and nothing after an acknowledged delete. What clients send
//! again stays a tenth of what they are asked for, and no write is among it. A node that
//! dies takes its share of the keys with it and no other.
//!
//! ```text
//! the test ─ signals ─► nodes ◄─ unix sockets ─ client processes: this test again, each with
//!          ◄─ exit codes, a line each ──────────┘                 keys that it alone writes
//! ```

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use corelane_client::{Client, DeleteOutcome, Error, SetOptions, Value};
use rustix::process::Signal;

use crate::frames::{Counting, Sent};
use crate::process::{Io, Node, WAIT_MAX};
use crate::soak::{Random, seconds};

/// What a client process is told: its number, and the nodes.
const CHILD: &str = "CORELANE_TEST_FLEET";
const NODES: usize = 5;
const PROCESSES: u64 = 8;
/// Concurrent workers of one process, and the keys that each of them writes.
const WORKERS: u64 = 4;
const KEYS: usize = 40;
/// Keys of the test itself, to see what dies with a node.
const OWN_KEYS: usize = 1_000;
/// What clients may send again, in percent of the requests, and what they may save up.
const RETRY_PERCENT: u64 = 10;
/// See [`RETRY_PERCENT`].
const RETRIES_SAVED_MAX: u64 = 100;
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_millis(400);
/// The longest pause of a node, in milliseconds: some requests outlive it, others do not.
const PAUSE_MS_MAX: u64 = 1_500;

fn name(node: usize) -> String {
    format!("cache-{node}")
}

fn socket(directory: &Path, node: usize) -> String {
    format!("unix:{}", directory.join(name(node)).display())
}

fn start(io: Io, directory: &Path, node: usize) -> Node {
    let topology = directory.join("topology.toml");
    let (name, socket) = (name(node), socket(directory, node));
    let topology = topology.to_str().expect("text");
    Node::start(io, &["--listen", &socket, "--node-name", &name, "--topology", topology])
}

async fn connect(nodes: &[String]) -> (Client, Arc<Sent>) {
    let counting = Counting::default();
    let sent = Arc::clone(&counting.sent);
    let builder = Client::builder().nodes(nodes.to_vec()).timeout(TIMEOUT);
    let client = builder.connector(Arc::new(counting)).connect().await.expect("nodes are up");
    (client, sent)
}

/// The number that stands in a value of a key.
///
/// # Panics
/// It is not a value of this key.
fn number_of(key: &str, value: &Value) -> u64 {
    let text = std::str::from_utf8(&value.bytes).expect("values are text");
    let (of, number) = text.split_once('=').expect("values are a key and a number");
    assert_eq!(of, key, "a value that was never written to its key");
    number.trim_end_matches('.').parse().expect("a number")
}

/// Some are long, so that they are not sent in one piece.
fn value_of(key: &str, number: u64) -> String {
    let length = if number.is_multiple_of(16) { 40_000 } else { 40 };
    format!("{:.<length$}", format!("{key}={number}"))
}

/// What a worker knows of one of its keys.
struct Known {
    key: String,
    /// The highest number that it has tried to write.
    tried: u64,
    /// The least that may be read.
    least: u64,
    /// The least that would be fresh, failed deletes taken for done.
    fresh: u64,
}

/// What a worker has seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    requests: u64,
    /// Gets and sets asked of the client, those of several keys at once left out of the gets.
    gets: u64,
    sets: u64,
    hits: u64,
    misses: u64,
    failed: u64,
    /// Values read after a delete that failed: the node was not reached.
    stale: u64,
}

impl Seen {
    fn read(&mut self, known: &Known, result: Result<Option<Value>, Error>) {
        match result {
            Ok(Some(value)) => {
                self.hits += 1;
                let number = number_of(&known.key, &value);
                let Known { key, tried, least, fresh } = known;
                assert!(number <= *tried, "{key} holds {number}, and {tried} was the last written");
                assert!(number >= *least, "{key} holds {number}, older than {least}");
                self.stale += u64::from(number < *fresh);
            }
            Ok(None) => self.misses += 1,
            Err(error) => self.fail(&error),
        }
    }

    fn written(&mut self, known: &mut Known, number: u64, result: Result<(), Error>) {
        match result {
            Ok(()) => (known.least, known.fresh) = (number, number),
            Err(error) => self.fail(&error),
        }
    }

    /// Failing is allowed, but not in every way.
    fn fail(&mut self, error: &Error) {
        self.failed += 1;
        let expected = matches!(
            error,
            Error::Timeout { .. }
                | Error::Busy { .. }
                | Error::Disconnected { .. }
                | Error::Unreachable(_)
                | Error::NodeDown { .. }
        );
        assert!(expected, "{error:?}");
    }
}

/// Gives up on a request that nothing ends.
async fn ended<T>(request: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, request).await.expect("every request ends by its deadline")
}

async fn work(client: Client, process: u64, worker: u64, until: Instant) -> Seen {
    let mut random = Random(process * WORKERS + worker);
    let key = |process: u64, worker: u64, key: usize| format!("fleet {process} {worker} {key}");
    let mut all: Vec<Known> = (0..KEYS)
        .map(|number| Known { key: key(process, worker, number), tried: 0, least: 0, fresh: 0 })
        .collect();
    let mut seen = Seen::default();
    while Instant::now() < until {
        seen.requests += 1;
        let at = random.choose(KEYS as u64) as usize;
        let known = &mut all[at];
        match random.choose(20) {
            0..=6 => {
                seen.gets += 1;
                let result = ended(client.get(&known.key)).await;
                seen.read(known, result);
            }
            7..=12 => {
                seen.sets += 1;
                known.tried += 1;
                let number = known.tried;
                let result = ended(client.set(&known.key, value_of(&known.key, number))).await;
                seen.written(known, number, result);
            }
            13..=15 => match ended(client.delete(&known.key)).await {
                Ok(DeleteOutcome::Deleted | DeleteOutcome::NotFound) => {
                    (known.least, known.fresh) = (known.tried + 1, known.tried + 1);
                }
                Ok(DeleteOutcome::ConditionFailed) => panic!("there was no condition"),
                Err(error) => {
                    known.fresh = known.tried + 1;
                    seen.fail(&error);
                }
            },
            16 => {
                let keys: Vec<&str> = all.iter().map(|known| known.key.as_str()).collect();
                let results = ended(client.get_many(&keys)).await;
                all.iter().zip(results).for_each(|(known, result)| seen.read(known, result));
            }
            17 => {
                let some = &mut all[at..(at + 8).min(KEYS)];
                seen.sets += some.len() as u64;
                some.iter_mut().for_each(|known| known.tried += 1);
                let entries: Vec<(String, String)> = some
                    .iter()
                    .map(|known| (known.key.clone(), value_of(&known.key, known.tried)))
                    .collect();
                let results = ended(client.set_many(&entries, &SetOptions::new())).await;
                for (known, result) in some.iter_mut().zip(results) {
                    seen.written(known, known.tried, result.map(drop));
                }
            }
            _ => {
                // Another's key, of which only the form is known.
                seen.gets += 1;
                let worker = random.choose(WORKERS);
                let key = key(random.choose(PROCESSES), worker, at);
                match ended(client.get(&key)).await {
                    Ok(Some(value)) => drop(number_of(&key, &value)),
                    Ok(None) => {}
                    Err(error) => seen.fail(&error),
                }
            }
        }
    }
    seen
}

/// A client process.
fn child(told: &str) {
    let mut words = told.split(' ');
    let process: u64 = words.next().expect("a number").parse().expect("a number");
    let nodes: Vec<String> = words.map(str::to_owned).collect();
    let until = Instant::now() + Duration::from_secs(seconds());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (seen, sent) = runtime.expect("a runtime").block_on(async {
        let (client, sent) = connect(&nodes).await;
        let mut workers = Vec::new();
        for worker in 0..WORKERS {
            workers.push(tokio::spawn(work(client.clone(), process, worker, until)));
        }
        let mut seen = Seen::default();
        for worker in workers {
            // A worker that panics has said why, and ends the process with it.
            let part = worker.await.expect("the worker found nothing wrong");
            seen.requests += part.requests;
            seen.gets += part.gets;
            seen.sets += part.sets;
            seen.hits += part.hits;
            seen.misses += part.misses;
            seen.failed += part.failed;
            seen.stale += part.stale;
        }
        (seen, sent)
    });
    let [gets, sets] = [&sent.gets, &sent.sets].map(|sent| sent.load(Ordering::Relaxed));
    // In one piece: the others write at the same time.
    let line = format!("clients {process}: {seen:?}, {gets} gets and {sets} sets were sent\n");
    eprint!("{line}");
    let gets_max = seen.gets + seen.gets * RETRY_PERCENT / 100 + RETRIES_SAVED_MAX;
    assert!(gets <= gets_max, "{gets} gets were sent for {}", seen.gets);
    assert!(sets <= seen.sets, "{sets} sets were sent for {}: writes are not repeated", seen.sets);
    assert!(seen.hits > 0, "the nodes were of no use");
}

fn spawn(process: u64, nodes: &[String]) -> Child {
    Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", "--nocapture", "fleet::nodes_come_and_go_under_their_clients"])
        .env(CHILD, format!("{process} {}", nodes.join(" ")))
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// Kills one node: what it had is gone, and nothing else.
#[tokio::main(flavor = "current_thread")]
async fn a_death_takes_its_share(specs: &[String], kill: impl FnOnce()) {
    let client = connect(specs).await.0.with_timeout(WAIT_MAX);
    let keys: Vec<String> = (0..OWN_KEYS).map(|number| format!("own {number}")).collect();
    for key in &keys {
        client.set(key, value_of(key, 1)).await.expect("all nodes are up");
    }
    kill();
    let mut lost = 0;
    for key in &keys {
        let is_lost = client.node_of(key) == name(0);
        lost += u32::from(is_lost);
        match client.get(key).await {
            Ok(Some(value)) => assert!(!is_lost && number_of(key, &value) == 1, "{key}"),
            Ok(None) => assert!(is_lost, "{key} is gone without its node"),
            Err(error) => assert!(is_lost, "{key}: {error}"),
        }
    }
    assert!((100..300).contains(&lost), "the share of one of five nodes was {lost} of {OWN_KEYS}");
}

#[test]
fn nodes_come_and_go_under_their_clients() {
    if let Ok(told) = std::env::var(CHILD) {
        return child(&told);
    }
    let io = if Io::Uring.is_here() { Io::Uring } else { Io::Epoll };
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let node = |node| {
        format!(
            "[[nodes]]\nname = \"{}\"\naddresses = [\"{}\"]\n",
            name(node),
            socket(directory, node)
        )
    };
    let topology: String = (0..NODES).map(node).collect();
    fs::write(directory.join("topology.toml"), format!("epoch = 1\n{topology}")).expect("written");
    let specs: Vec<String> =
        (0..NODES).map(|node| format!("{}={}", name(node), socket(directory, node))).collect();
    let mut nodes: Vec<Option<Node>> =
        (0..NODES).map(|node| Some(start(io, directory, node))).collect();

    let victim = nodes[0].take().expect("it runs");
    a_death_takes_its_share(&specs, || {
        victim.signal(Signal::KILL);
        assert_eq!(victim.ended().signal(), Some(Signal::KILL.as_raw()));
    });
    nodes[0] = Some(start(io, directory, 0));

    let children: Vec<Child> = (0..PROCESSES).map(|process| spawn(process, &specs)).collect();
    let until = Instant::now() + Duration::from_secs(seconds());
    let mut random = Random(NODES as u64);
    let (mut killed, mut stopped) = (0, 0);
    while Instant::now() < until {
        let at = random.choose(NODES as u64) as usize;
        let pause = Duration::from_millis(1 + random.choose(PAUSE_MS_MAX));
        if random.choose(2) == 0 {
            let node = nodes[at].take().expect("it runs");
            node.signal(Signal::KILL);
            assert_eq!(node.ended().signal(), Some(Signal::KILL.as_raw()));
            thread::sleep(pause);
            nodes[at] = Some(start(io, directory, at));
            killed += 1;
        } else {
            let node = nodes[at].as_ref().expect("it runs");
            node.signal(Signal::STOP);
            thread::sleep(pause);
            node.signal(Signal::CONT);
            stopped += 1;
        }
        thread::sleep(Duration::from_millis(random.choose(PAUSE_MS_MAX)));
    }
    eprintln!("{killed} nodes were killed and {stopped} stopped");
    for mut child in children {
        assert!(child.wait().expect("our child").success(), "a client process found a fault");
    }
    // All are there again, and answer.
    nodes.iter().flatten().for_each(|node| drop(node.counter("slots_owned")));
}
