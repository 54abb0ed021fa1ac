//! What the generator does when a server is at fault: it notices, and it ends.

use std::time::Duration;

use corelane_bench::codec::CodecError;
use corelane_bench::codec::native::Native;
use corelane_bench::floors::service::{Service, SmallCache};
use corelane_bench::floors::{Runtime, Server};
use corelane_bench::generator::pacer::Rate;
use corelane_bench::generator::worker::Failure;
use corelane_bench::generator::{Drive, Outcome, Plan, Task};
use corelane_bench::progress::Progress;
use corelane_bench::workload::{Distribution, Steer, Workload};

const KEYS: u64 = 100;
const CONNECTIONS: usize = 3;

/// A cache that spoils its replies once the keys are written.
struct Spoiled<F> {
    cache: SmallCache,
    /// Requests served so far.
    served: u64,
    spoil: F,
}

/// Sees the replies of one call after `served` requests, and may change them.
trait Spoil: FnMut(u64, &mut [u8]) -> Result<(), CodecError> + Send + 'static {}
impl<F: FnMut(u64, &mut [u8]) -> Result<(), CodecError> + Send + 'static> Spoil for F {}

impl<F: Spoil> Service for Spoiled<F> {
    fn serve(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, CodecError> {
        let start = output.len();
        let used = self.cache.serve(input, output)?;
        self.served += 1;
        (self.spoil)(self.served, &mut output[start..])?;
        Ok(used)
    }
}

fn start(spoil: impl Spoil) -> Server {
    let service = Spoiled { cache: SmallCache::default(), served: 0, spoil };
    Server::start(Runtime::Epoll, service, None).unwrap()
}

fn plan(server: &Server) -> Plan {
    Plan {
        address: server.address(),
        token: Vec::new(),
        connections: CONNECTIONS,
        threads: 2,
        cpus: Vec::new(),
        steer: Steer::Owner,
        workload: Workload {
            keys: KEYS,
            key_bytes: 16,
            value_bytes: 100,
            get_share: 1.0,
            distribution: Distribution::Zipf { exponent: 0.99 },
            seed: 1,
        },
        stall_limit: Duration::from_millis(300),
    }
}

/// Fills, and loads for a moment.
fn load(server: &Server, rate: Option<f64>) -> (Outcome, Outcome) {
    let plan = plan(server);
    let drive = Drive::new(&plan, server.threads(), || Native).unwrap();
    let filled = drive.run(Task::Fill, &Progress::hidden()).unwrap();
    let task = Task::Timed {
        pipeline: 4,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(100),
        rate: rate.and_then(Rate::new),
    };
    (filled, drive.run(task, &Progress::hidden()).unwrap())
}

#[test]
fn a_right_server_has_no_faults() {
    for rate in [None, Some(20_000.0)] {
        let (filled, loaded) = load(&start(|_, _| Ok(())), rate);
        assert_eq!(filled.tally.stored, KEYS);
        assert!(filled.failures.is_empty() && loaded.failures.is_empty());
        assert!(loaded.tally.ops > 0);
        assert_eq!(loaded.tally.hits, loaded.tally.ops);
        assert!(loaded.tally.is_clean());
    }
}

#[test]
fn a_changed_byte_is_a_wrong_value() {
    let (_, loaded) = load(
        &start(|_, replies| {
            // The last byte of a value; other replies are too short to have one.
            if replies.len() > 100 {
                replies[replies.len() - 1] ^= 1;
            }
            Ok(())
        }),
        None,
    );
    assert!(loaded.tally.wrong_values > 0);
    assert!(!loaded.tally.is_clean());
}

#[test]
fn a_server_that_stops_answering_ends_the_run() {
    // The greetings of both tasks are answered, and nothing after the first few reads.
    struct Silent(SmallCache, u64);
    impl Service for Silent {
        fn serve(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, CodecError> {
            let start = output.len();
            let used = self.0.serve(input, output)?;
            // Values have over a hundred bytes, greetings and writes fewer.
            if output.len() - start > 100 {
                self.1 += 1;
                if self.1 > 5 {
                    output.truncate(start);
                }
            }
            Ok(used)
        }
    }
    let server = Server::start(Runtime::Epoll, Silent(SmallCache::default(), 0), None).unwrap();
    for rate in [None, Some(20_000.0)] {
        let (_, loaded) = load(&server, rate);
        assert!(
            loaded.failures.iter().any(|failure| matches!(failure, Failure::Stalled { .. })),
            "{:?}",
            loaded.failures
        );
        assert!(loaded.tally.lost > 0);
    }
}

#[test]
fn a_server_that_closes_ends_the_run() {
    let (_, loaded) = load(
        &start(|served, replies| match replies.len() > 100 && served > 20 {
            true => Err(CodecError { protocol: "test", reason: "enough".to_owned() }),
            false => Ok(()),
        }),
        None,
    );
    assert!(
        loaded.failures.iter().any(|failure| matches!(failure, Failure::Broken { .. })),
        "{:?}",
        loaded.failures
    );
    assert!(loaded.tally.lost > 0);
}

#[test]
fn nobody_listening_is_said_so() {
    let server = start(|_, _| Ok(()));
    let plan = plan(&server);
    let threads = server.threads().clone();
    drop(server);
    let error = Drive::new(&plan, &threads, || Native).err().unwrap().to_string();
    assert!(error.contains("cannot connect to 127.0.0.1:"), "{error}");
}
