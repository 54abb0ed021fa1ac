//! The load: tasks that read through the cache. A read that misses writes the value, as an
//! application does that has it from its database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corelane_client::{Client, ConnectError, Error, SetOptions};
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use super::{FleetError, FleetOptions, Phase};

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);
/// Length of the steps in which hits are counted over time.
pub(super) const STEP: Duration = Duration::from_millis(250);
/// Keys of one multi-get or multi-set of the scenario itself.
const KEYS_AT_ONCE: u64 = 1_000;
/// Latencies are counted up to this, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What happened in one phase.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) latency_us: Histogram<u64>,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Reads and writes that failed, by the node being down or not.
    pub(super) errors_down: u64,
    pub(super) errors_other: u64,
    /// Values that were never written to their key.
    pub(super) wrong: u64,
    pub(super) seconds: f64,
}

impl Tally {
    fn new() -> Tally {
        Tally {
            latency_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
                .expect("constant bounds that make sense"),
            hits: 0,
            misses: 0,
            errors_down: 0,
            errors_other: 0,
            wrong: 0,
            seconds: 0.0,
        }
    }

    fn add(&mut self, other: &Tally) {
        self.latency_us.add(&other.latency_us).expect("the bounds are the same");
        self.hits += other.hits;
        self.misses += other.misses;
        self.errors_down += other.errors_down;
        self.errors_other += other.errors_other;
        self.wrong += other.wrong;
    }

    fn fail(&mut self, error: &Error) {
        match error {
            Error::NodeDown { .. } | Error::Unreachable(_) | Error::Disconnected { .. } => {
                self.errors_down += 1;
            }
            _ => self.errors_other += 1,
        }
    }
}

/// Everything that was counted.
#[derive(Clone, Debug)]
pub(super) struct Tallies {
    /// By phase.
    pub(super) phases: Vec<Tally>,
    /// Reads, and hits among them, by [`STEP`] from the start of the first phase.
    pub(super) steps: Vec<(u64, u64)>,
    /// The step in which each phase began.
    pub(super) began: Vec<usize>,
}

/// What the tasks are told.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Waiting,
    Running(usize),
    Over,
}

/// The running load.
pub(super) struct Load {
    client: Client,
    runtime: tokio::runtime::Handle,
    stage: watch::Sender<Stage>,
    keys: u64,
    value: Arc<Value>,
    began: std::cell::RefCell<Vec<Instant>>,
    thread: JoinHandle<Vec<TaskTally>>,
    /// When the first phase began, in microseconds of the load's clock; 0 before.
    origin_us: Arc<AtomicU64>,
    clock: Instant,
}

/// Which value a key has.
struct Value {
    bytes: usize,
}

impl Value {
    fn of(&self, key: u64) -> Vec<u8> {
        key.to_le_bytes().into_iter().cycle().take(self.bytes).collect()
    }
}

fn key(number: u64) -> String {
    format!("fleet:{number}")
}

struct TaskTally {
    phases: Vec<Tally>,
    steps: Vec<(u64, u64)>,
}

impl Load {
    pub(super) fn start(options: &FleetOptions, nodes: Vec<String>) -> Result<Load, FleetError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(FleetError::Runtime)?;
        let handle = runtime.handle().clone();
        let (stage, stages) = watch::channel(Stage::Waiting);
        let (connected, connection) = mpsc::channel::<Result<Client, ConnectError>>();
        let value = Arc::new(Value { bytes: options.value_size });
        let origin_us = Arc::<AtomicU64>::default();
        let clock = Instant::now();
        let task = Task {
            keys: options.keys,
            value: Arc::clone(&value),
            stages,
            origin_us: Arc::clone(&origin_us),
            clock,
        };
        let (clients, seed) = (options.clients, options.seed);
        let thread = thread::spawn(move || {
            runtime.block_on(async move {
                let client =
                    Client::builder().nodes(nodes).timeout(REQUEST_TIMEOUT).connect().await;
                let all = client.as_ref().ok().cloned();
                // Nobody waits any more where the load was given up.
                let _ = connected.send(client);
                let Some(client) = all else { return Vec::new() };
                let mut tasks = Vec::new();
                for number in 0..clients as u64 {
                    let random = StdRng::seed_from_u64(seed.wrapping_mul(1 << 20) + number);
                    tasks.push(tokio::spawn(task.clone().run(client.clone(), random)));
                }
                let mut tallies = Vec::new();
                for task in tasks {
                    tallies.push(task.await.expect("a task of the load does not panic"));
                }
                tallies
            })
        });
        let client = connection.recv().expect("the load says whether it connected")?;
        let began = std::cell::RefCell::default();
        let keys = options.keys;
        Ok(Load { client, runtime: handle, stage, keys, value, began, thread, origin_us, clock })
    }

    /// Writes every key.
    pub(super) fn fill(&self) {
        for first in (0..self.keys).step_by(KEYS_AT_ONCE as usize) {
            let numbers = first..(first + KEYS_AT_ONCE).min(self.keys);
            let entries: Vec<(String, Vec<u8>)> =
                numbers.map(|number| (key(number), self.value.of(number))).collect();
            // What fails is written by the first read that misses it.
            let _ = self.runtime.block_on(self.client.set_many(&entries, &SetOptions::new()));
        }
    }

    /// Goes on to the next phase.
    pub(super) fn enter(&self, phase: Phase) {
        let mut began = self.began.borrow_mut();
        began.push(Instant::now());
        if began.len() == 1 {
            let since = self.clock.elapsed().as_micros().max(1) as u64;
            self.origin_us.store(since, Ordering::Relaxed);
        }
        let index = Phase::ALL.iter().position(|other| *other == phase);
        // The tasks hold the other end until they are told to end.
        let _ = self.stage.send(Stage::Running(index.expect("every phase is in the list")));
    }

    /// The share of all keys that cannot be read now.
    pub(super) fn missing_share(&self) -> f64 {
        let mut missing = 0;
        for first in (0..self.keys).step_by(KEYS_AT_ONCE as usize) {
            let keys: Vec<String> =
                (first..(first + KEYS_AT_ONCE).min(self.keys)).map(key).collect();
            let results = self.runtime.block_on(self.client.get_many(&keys));
            missing += results.iter().filter(|result| !matches!(result, Ok(Some(_)))).count();
        }
        missing as f64 / self.keys as f64
    }

    /// Ends the load.
    pub(super) fn finish(self) -> Tallies {
        let over = Instant::now();
        // See `enter`.
        let _ = self.stage.send(Stage::Over);
        let tasks = self.thread.join().expect("the load does not panic");
        let began = self.began.into_inner();
        let mut phases = vec![Tally::new(); began.len()];
        let mut steps: Vec<(u64, u64)> = Vec::new();
        for task in tasks {
            phases.iter_mut().zip(&task.phases).for_each(|(sum, tally)| sum.add(tally));
            steps.resize(steps.len().max(task.steps.len()), (0, 0));
            for (sum, step) in steps.iter_mut().zip(&task.steps) {
                *sum = (sum.0 + step.0, sum.1 + step.1);
            }
        }
        let ends = began.iter().skip(1).copied().chain([over]);
        for ((phase, began), end) in phases.iter_mut().zip(&began).zip(ends) {
            phase.seconds = (end - *began).as_secs_f64();
        }
        let step = |at: &Instant| ((*at - began[0]).as_micros() / STEP.as_micros()) as usize;
        Tallies { phases, steps, began: began.iter().map(step).collect() }
    }
}

#[derive(Clone)]
struct Task {
    keys: u64,
    value: Arc<Value>,
    stages: watch::Receiver<Stage>,
    origin_us: Arc<AtomicU64>,
    clock: Instant,
}

impl Task {
    async fn run(mut self, client: Client, mut random: StdRng) -> TaskTally {
        let mut tally =
            TaskTally { phases: vec![Tally::new(); Phase::ALL.len()], steps: Vec::new() };
        // An error means that nobody is left to start the load.
        let _ = self.stages.wait_for(|stage| !matches!(stage, Stage::Waiting)).await;
        loop {
            if let Stage::Over = *self.stages.borrow() {
                return tally;
            }
            let number = random.random_range(0..self.keys);
            let key = key(number);
            let started = Instant::now();
            let result = client.get(&key).await;
            // What was under way when a phase ended shows what ended it.
            let Stage::Running(phase) = *self.stages.borrow() else { return tally };
            let phase = &mut tally.phases[phase];
            let took_us = started.elapsed().as_micros().min(u128::from(LATENCY_US_MAX)) as u64;
            phase.latency_us.record(took_us.max(1)).expect("it is within the bounds");
            let since_us = (started - self.clock).as_micros() as u64;
            let step = since_us.saturating_sub(self.origin_us.load(Ordering::Relaxed))
                / STEP.as_micros() as u64;
            let step = step as usize;
            if tally.steps.len() <= step {
                tally.steps.resize(step + 1, (0, 0));
            }
            tally.steps[step].0 += 1;
            match result {
                Ok(Some(value)) => {
                    phase.hits += 1;
                    tally.steps[step].1 += 1;
                    phase.wrong += u64::from(*value.bytes != *self.value.of(number));
                }
                Ok(None) => {
                    phase.misses += 1;
                    if let Err(error) = client.set(&key, self.value.of(number)).await {
                        phase.fail(&error);
                    }
                }
                Err(error) => phase.fail(&error),
            }
            // A client that knows the node to be down answers at once: the others want a turn.
            tokio::task::yield_now().await;
        }
    }
}
