//! Clients of all kinds for as long as `CORELANE_TEST_SECONDS` says: they connect to any core or
//! none in particular, send pipelines of mixed sizes, and leave in every way there is. Some are
//! processes that are stopped for a while, or killed. Each knows what its keys hold, and checks
//! every reply; in the end the node has nothing left of any of them.

use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use corelane_protocol::{Request, Status};
use rustix::process::{Pid, Signal};

use crate::process::{Io, Node};
use crate::wire::{End, What, Wire, frame, get, set};

on_both!(clients_of_all_kinds_get_what_they_are_owed);

/// How long it takes, on each kernel interface, where the environment does not say.
const SECONDS: u64 = 4;
/// What a child is told: where the node is, and the number of its first worker.
const CHILD: &str = "CORELANE_TEST_SOAK";
/// Workers of one process.
const WORKERS: u64 = 3;
/// Keys of one worker.
const KEYS: u64 = 48;
/// Bytes of values in one burst: what a client writes, and asks for, before it reads.
const BURST_BYTES: usize = 200_000;

pub(crate) fn seconds() -> u64 {
    let text = std::env::var("CORELANE_TEST_SECONDS").ok();
    text.map_or(SECONDS, |text| text.parse().expect("CORELANE_TEST_SECONDS is a number"))
}

/// Knuth's MMIX generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// One of `choices`.
    pub(crate) fn choose(&mut self, choices: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % choices
    }
}

fn key(worker: u64, number: u64) -> Vec<u8> {
    format!("soak {worker} {number}").into_bytes()
}

fn delete(key: &[u8]) -> Request<'_> {
    Request::Delete { key, condition: corelane_protocol::DeleteCondition::Always }
}

/// A client, and what it knows to be in the node.
struct Worker {
    number: u64,
    random: Random,
    /// Lengths and first bytes of the values that its keys have.
    held: BTreeMap<u64, (usize, u8)>,
    replies: u64,
}

impl Worker {
    fn new(number: u64) -> Worker {
        let random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Worker { number, random, held: BTreeMap::new(), replies: 0 }
    }

    /// Mostly short, sometimes long, seldom longer than a receive buffer and a page.
    fn length(&mut self) -> usize {
        let most = [50, 500, 500, 5_000, 20_000, 150_000][self.random.choose(6) as usize];
        self.random.choose(most) as usize
    }

    /// One burst of requests: their bytes, and the reply that each is owed.
    fn burst(&mut self) -> (Vec<u8>, Vec<What>) {
        let (mut bytes, mut owed, mut volume) = (Vec::new(), Vec::new(), 0);
        for id in 0..=self.random.choose(64) as u32 {
            let number = self.random.choose(KEYS);
            let name = key(self.number, number);
            let there = self.held.get(&number).copied();
            match self.random.choose(8) {
                0 => {
                    bytes.extend(frame(id, &delete(&name)));
                    self.held.remove(&number);
                    owed.push(there.map_or(What::Failed(Status::NotFound), |_| What::Done));
                }
                1..4 => {
                    let value = (self.length(), self.random.choose(256) as u8);
                    volume += value.0;
                    bytes.extend(frame(id, &set(&name, &filled(value))));
                    self.held.insert(number, value);
                    owed.push(What::Done);
                }
                _ => {
                    volume += there.map_or(0, |(length, _)| length);
                    bytes.extend(frame(id, &get(&name)));
                    owed.push(match there {
                        Some(value) => What::Value(filled(value)),
                        None => What::Failed(Status::NotFound),
                    });
                }
            }
            if volume > BURST_BYTES {
                break;
            }
        }
        (bytes, owed)
    }

    /// Connects, works, and leaves in one of the ways there are.
    fn session(&mut self, address: &str) {
        let mut wire = match self.random.choose(3) {
            2 => Wire::connect(address),
            core => Wire::on_core(address, core as u16),
        };
        for _ in 0..self.random.choose(30) {
            let (bytes, owed) = self.burst();
            if self.random.choose(4) == 0 {
                // In two pieces, so that a frame is cut somewhere.
                let cut = self.random.choose(bytes.len() as u64) as usize;
                wire.send(&bytes[..cut]);
                thread::yield_now();
                wire.send(&bytes[cut..]);
            } else {
                wire.send(&bytes);
            }
            self.take(&mut wire, owed);
        }
        match self.random.choose(4) {
            0 => drop(wire),
            1 => {
                wire.finish();
                assert_eq!(wire.rest(), (vec![], End::Finished));
            }
            // What is cut off has changed nothing: half a write, and reads.
            2 => {
                let whole = frame(0, &set(&key(self.number, 0), &[7; 30_000]));
                wire.send(&whole[..self.random.choose(whole.len() as u64) as usize]);
                drop(wire);
            }
            _ => {
                let numbers = self.held.keys().map(|number| key(self.number, *number));
                wire.send(&numbers.flat_map(|key| frame(0, &get(&key))).collect::<Vec<_>>());
                wire.vanish();
            }
        }
    }

    /// Takes what was owed, in whatever order it comes.
    fn take(&mut self, wire: &mut Wire, owed: Vec<What>) {
        let mut owed: Vec<Option<What>> = owed.into_iter().map(Some).collect();
        for _ in 0..owed.len() {
            let got = wire.next();
            let expected = owed.get_mut(got.id as usize).and_then(Option::take);
            if expected.as_ref() != Some(&got.what) {
                let brief = |what: &What| match what {
                    What::Value(bytes) => format!("{} × {:?}", bytes.len(), bytes.first()),
                    other => format!("{other:?}"),
                };
                let owed = expected.as_ref().map(brief);
                let number = self.number;
                panic!(
                    "worker {number}, request {}: {owed:?} is owed, not {}",
                    got.id,
                    brief(&got.what)
                );
            }
            self.replies += 1;
        }
    }

    /// Takes its keys away, of which each must be as it left it.
    fn clear(&mut self, address: &str) {
        let mut wire = Wire::connect(address);
        for number in 0..KEYS {
            let expected = self.held.remove(&number).map(filled);
            let name = key(self.number, number);
            let found = match wire.ask(&get(&name)) {
                What::Value(value) => Some(value),
                other => {
                    assert_eq!(other, What::Failed(Status::NotFound));
                    None
                }
            };
            assert!(found == expected, "worker {}: key {number}", self.number);
            wire.ask(&delete(&name));
        }
    }
}

fn filled((length, byte): (usize, u8)) -> Vec<u8> {
    let block: Vec<u8> = (0..251).map(|place| byte.wrapping_add(place)).collect();
    let mut bytes = block.repeat(length.div_ceil(block.len()));
    bytes.truncate(length);
    bytes
}

/// So many workers until the time is up; how many replies they took.
fn work(address: &str, first: u64, until: Instant) -> u64 {
    let worker = |number| {
        let address = address.to_owned();
        thread::spawn(move || {
            let mut worker = Worker::new(number);
            while Instant::now() < until {
                worker.session(&address);
            }
            worker.clear(&address);
            worker.replies
        })
    };
    let workers: Vec<_> = (first..first + WORKERS).map(worker).collect();
    workers.into_iter().map(|worker| worker.join().expect("a worker that is content")).sum()
}

/// Deletes all keys of these workers.
fn delete_all(address: &str, workers: std::ops::Range<u64>) {
    let mut wire = Wire::connect(address);
    for worker in workers {
        let keys: Vec<_> = (0..KEYS).map(|number| key(worker, number)).collect();
        wire.send(&keys.iter().flat_map(|key| frame(0, &delete(key))).collect::<Vec<_>>());
        keys.iter().for_each(|_| drop(wire.next()));
    }
}

/// Starts this test as a process of its own that only works; its first worker has this number.
fn child(io: Io, address: &str, first: u64) -> Child {
    let test = format!("soak::clients_of_all_kinds_get_what_they_are_owed::on_{}", io.name());
    Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", "--nocapture", &test])
        .env(CHILD, format!("{address} {first}"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it starts")
}

fn clients_of_all_kinds_get_what_they_are_owed(io: Io) {
    let until = Instant::now() + Duration::from_secs(seconds());
    if let Ok(told) = std::env::var(CHILD) {
        let (address, first) = told.split_once(' ').expect("address and number");
        work(address, first.parse().expect("a number"), until);
        return;
    }
    let node = Node::start(io, &["--cores", "2", "--memory", "256MiB", "--connections-max", "200"]);
    let address = node.address().to_owned();
    node.assert_serves();
    node.until_counter("connections_open", |open| open == 0);
    let (files, before) = (node.open_files(), node.resident_bytes());

    let own = thread::spawn({
        let address = address.clone();
        move || work(&address, 0, until)
    });
    let mut stopped = child(io, &address, 1_000);
    let stopped_id = Pid::from_child(&stopped);
    let mut random = Random(seconds());
    let mut killed = 0;
    while Instant::now() < until {
        let mut victim = child(io, &address, 2_000 + WORKERS * killed);
        killed += 1;
        for _ in 0..4 {
            // Long enough for the node to fill the sockets of one that does not read.
            thread::sleep(Duration::from_millis(random.choose(100)));
            // One that has ended is a zombie until it is waited for, so this cannot fail.
            rustix::process::kill_process(stopped_id, Signal::STOP).expect("our child");
            thread::sleep(Duration::from_millis(random.choose(100)));
            rustix::process::kill_process(stopped_id, Signal::CONT).expect("our child");
        }
        victim.kill().expect("our child");
        victim.wait().expect("our child");
        // What it had is of no use to anyone, and would fill the node.
        delete_all(&address, 2_000 + WORKERS * (killed - 1)..2_000 + WORKERS * killed);
    }
    let replies = own.join().expect("workers that are content");
    assert!(stopped.wait().expect("our child").success(), "the stopped process lost something");

    // What the killed ones had under way may have been done after their keys were deleted.
    delete_all(&address, 2_000..2_000 + WORKERS * killed);
    assert_eq!(node.connect().ask(&delete(b"served")), What::Done);

    node.until_counter("connections_open", |open| open == 0);
    for gauge in ["output_bytes_pending", "connections_paused", "items"] {
        node.until_counter(gauge, |left| left == 0);
    }
    crate::process::eventually("all descriptors are back", || node.open_files() <= files);
    let sum = |name| node.counter(name).iter().sum::<u64>();
    assert_eq!(
        sum("connections_opened"),
        sum("connections_closed") + sum("connections_handed_over")
    );
    // Requests of a connection that is gone before they leave for another core are dropped.
    assert!(sum("forwarded_in") <= sum("forwarded_out"));
    assert_eq!(sum("mail_sent"), sum("mail_received"));
    assert_eq!((sum("evictions"), sum("idle_closed"), sum("garbled")), (0, 0, 0));
    let resident = node.resident_bytes();
    eprintln!(
        "soak on {}: {} connections, {replies} replies to the clients of this process, {killed} \
         processes killed; {} MiB resident, {} MiB before",
        io.name(),
        sum("connections_opened"),
        resident >> 20,
        before >> 20,
    );
    assert!(resident <= 256 << 20, "{resident} bytes resident, more than --memory");
    node.assert_serves();
}
