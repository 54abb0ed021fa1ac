//! A whole run: opens the connections, starts the threads, watches them, and adds up what
//! they counted.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use corelane_ring::CoreMap;

use crate::clock::{Clock, Nanos};
use crate::codec::{Codec, Opening};
use crate::measure::cpu::{CpuTimes, ServerThreads};
use crate::progress::Progress;
use crate::workload::keys::KeyFormatError;
use crate::workload::steering::Owners;
use crate::workload::{Chooser, KeyFormat, Mix, Sampler, Steer, Target, ValueFormat, Workload};

use super::connect::{Address, ConnectError, Connected, connect};
use super::pacer::Rate;
use super::session::Formats;
use super::source::{Draws, Fill, Source, shares};
use super::tally::{Tally, Window};
use super::worker::{Failure, Orders, Report, Worker};

/// Deepest pipeline while filling; as deep as pays off.
const FILL_PIPELINE: usize = 64;
/// Most bytes under way on a connection while filling.
const FILL_BYTES: usize = 1 << 20;
/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What a run is made of, whatever its task.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: Address,
    /// The access token; empty where none is needed.
    pub token: Vec<u8>,
    /// Connections of all threads together.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// The CPUs that threads are pinned to, in turn; none are where this is empty.
    pub cpus: Vec<usize>,
    /// Which core each connection talks to.
    pub steer: Steer,
    /// What is asked.
    pub workload: Workload,
    /// How long no reply may come while requests are under way.
    pub stall_limit: Duration,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    /// Writes every key once.
    Fill,
    /// Draws from the workload for a time.
    Timed {
        /// Requests under way on each connection.
        pipeline: usize,
        /// Time before the measured window.
        warmup: Duration,
        /// The measured window.
        duration: Duration,
        /// Requests per second of all threads in an open loop; a closed loop has none.
        rate: Option<Rate>,
    },
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// A connection could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The keys do not fit.
    #[error(transparent)]
    Keys(#[from] KeyFormatError),
    /// Steering needs to know who owns what.
    #[error("the server does not tell which core owns which keys: use --steer any")]
    NoMap,
    /// There are no wrong cores.
    #[error("--steer wrong needs a node of at least two cores")]
    OneCore,
    /// The server would refuse the values.
    #[error("values of {value_bytes} bytes are over the server's limit of {limit}")]
    ValueTooLong {
        /// Bytes of the workload's values.
        value_bytes: usize,
        /// Bytes that the server takes.
        limit: usize,
    },
    /// The system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The sockets could not be watched.
    #[error("cannot watch the connections: {0}")]
    Sockets(io::Error),
}

/// What a run measured.
#[derive(Debug)]
pub struct Outcome {
    /// All threads' counts.
    pub tally: Tally,
    /// The length of the measured window.
    pub elapsed: Duration,
    /// CPU time of the server's threads within the window, in nanoseconds.
    pub server_cpu_ns: Option<u64>,
    /// CPU time of the generator's threads within the window, in nanoseconds.
    pub generator_cpu_ns: Option<u64>,
    /// How many cores the server has, where it tells.
    pub server_cores: Option<u16>,
    /// Why threads ended early, if any did.
    pub failures: Vec<Failure>,
}

/// Runs tasks of one plan; see the module.
pub struct Drive<'p, C, F: Fn() -> C> {
    plan: &'p Plan,
    make_codec: F,
    server: &'p ServerThreads,
    keys: KeyFormat,
    values: ValueFormat,
    map: Option<Arc<CoreMap>>,
}

impl<'p, C: Codec, F: Fn() -> C> Drive<'p, C, F> {
    /// Greets the server once, to learn its cores and limits.
    ///
    /// # Errors
    /// It cannot be reached, or the plan does not fit it.
    pub fn new(
        plan: &'p Plan,
        server: &'p ServerThreads,
        make_codec: F,
    ) -> Result<Drive<'p, C, F>, DriveError> {
        let workload = &plan.workload;
        let keys = KeyFormat::new(workload.keys, workload.key_bytes)?;
        let values = ValueFormat::new(workload.value_bytes, workload.seed);
        let opening = Opening { core: None, token: &plan.token };
        let greeting = connect(&plan.address, make_codec(), opening)?.greeting;
        if let Some(limit) = greeting.value_bytes_max.filter(|max| *max < workload.value_bytes) {
            return Err(DriveError::ValueTooLong { value_bytes: workload.value_bytes, limit });
        }
        match (plan.steer, &greeting.map) {
            (Steer::Owner | Steer::Thread | Steer::Wrong, None) => return Err(DriveError::NoMap),
            (Steer::Wrong, Some(map)) if map.cores() < 2 => return Err(DriveError::OneCore),
            _ => {}
        }
        let map = greeting.map.map(Arc::new);
        Ok(Drive { plan, make_codec, server, keys, values, map })
    }

    /// Runs one task, showing its progress.
    ///
    /// # Errors
    /// It could not start. What goes wrong later is in the outcome.
    pub fn run(&self, task: Task, progress: &Progress) -> Result<Outcome, DriveError> {
        let plan = self.plan;
        let targets: Vec<Target> = (0..plan.connections).map(|index| self.target(index)).collect();
        let mut connections = Vec::with_capacity(targets.len());
        for target in &targets {
            let core = match *target {
                Target::Any => None,
                Target::Of(core) | Target::NotOf(core) => Some(core),
            };
            let opening = Opening { core, token: &plan.token };
            connections.push(connect(&plan.address, (self.make_codec)(), opening)?);
        }
        match task {
            Task::Fill => {
                let all = shares(&targets);
                let pipeline =
                    (FILL_BYTES / plan.workload.value_bytes.max(1)).clamp(1, FILL_PIPELINE);
                let window = |_: Nanos| (Window::ALWAYS, Nanos::NEVER);
                self.run_threads(connections, pipeline, None, window, progress, |range, _| Fill {
                    shares: all[range].to_vec(),
                    keys: plan.workload.keys,
                    owners: self.owners(),
                })
            }
            Task::Timed { pipeline, warmup, duration, rate } => {
                let window = |now: Nanos| {
                    let from = now.plus(warmup);
                    let to = from.plus(duration);
                    (Window { from, to }, to)
                };
                let rate = rate.map(|rate| rate.divided(plan.threads));
                self.run_threads(connections, pipeline, rate, window, progress, |range, seed| {
                    let workload = &plan.workload;
                    let sampler = Sampler::new(workload.distribution, workload.keys);
                    Draws {
                        targets: targets[range].to_vec(),
                        mix: Mix::new(workload.get_share, seed),
                        chooser: Chooser::new(sampler, self.owners(), !seed),
                    }
                })
            }
        }
    }

    fn owners(&self) -> Owners {
        Owners::new(self.map.clone(), self.keys.clone())
    }

    fn target(&self, connection: usize) -> Target {
        let cores = self.map.as_ref().map_or(1, |map| usize::from(map.cores()));
        let core = (connection % cores) as u16;
        match self.plan.steer {
            Steer::Any => Target::Any,
            Steer::Owner => Target::Of(core),
            // The connections of a thread follow each other.
            Steer::Thread => Target::Of((connection * cores / self.plan.connections) as u16),
            Steer::Wrong => Target::NotOf(core),
        }
    }

    /// Runs a worker a thread, each with a part of the connections and a source of its own
    /// (made from its range of connections and its seed).
    fn run_threads<S: Source + Send>(
        &self,
        connections: Vec<Connected<C>>,
        pipeline: usize,
        rate: Option<Rate>,
        window: impl Fn(Nanos) -> (Window, Nanos),
        progress: &Progress,
        source: impl Fn(Range<usize>, u64) -> S,
    ) -> Result<Outcome, DriveError> {
        let plan = self.plan;
        let clock = Clock::start();
        let start = clock.now();
        let (window, stop_at) = window(start);
        let orders = Orders {
            clock,
            window,
            stop_at,
            rate,
            stall_limit: plan.stall_limit,
            replies: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        let total = connections.len();
        let mut connections = connections.into_iter();
        let mut workers = Vec::with_capacity(plan.threads);
        for thread in 0..plan.threads {
            let range = part(total, plan.threads, thread);
            let mine = connections.by_ref().take(range.len()).collect();
            // Any two threads draw differently, and the same ones each time.
            let seed = plan.workload.seed.wrapping_add(thread as u64 + 1);
            let formats = Formats::new(self.keys.clone(), self.values);
            let worker = Worker::new(&orders, mine, pipeline, source(range, seed), formats)
                .map_err(DriveError::Sockets)?;
            workers.push(worker);
        }
        let (done, reports) = mpsc::channel::<Report>();
        let watched = std::thread::scope(|scope| {
            for (thread, worker) in workers.into_iter().enumerate() {
                let done = done.clone();
                let cpu = (!plan.cpus.is_empty()).then(|| plan.cpus[thread % plan.cpus.len()]);
                let named = std::thread::Builder::new().name(format!("load-{thread}"));
                let spawned = named.spawn_scoped(scope, move || {
                    if let Some(id) = cpu {
                        core_affinity::set_for_current(core_affinity::CoreId { id });
                    }
                    // The receiver lives until all reports are in.
                    let _ = done.send(worker.run());
                });
                if let Err(error) = spawned {
                    orders.stop.store(true, Ordering::Relaxed);
                    return Err(DriveError::Thread(error));
                }
            }
            drop(done);
            Ok(self.watch(&orders, &reports, progress))
        })?;
        Ok(self.outcome(&orders, watched))
    }

    /// Waits for the threads, and meanwhile shows progress and reads the server's CPU time
    /// at both edges of the window.
    fn watch(
        &self,
        orders: &Orders,
        reports: &mpsc::Receiver<Report>,
        progress: &Progress,
    ) -> Watched {
        let mut watched = Watched::default();
        let Window { from, to } = orders.window;
        loop {
            let now = orders.clock.now();
            if watched.server_from.is_none() && now >= from {
                watched.server_from = Some((now, self.server.sample()));
            }
            if watched.server_to.is_none() && now >= to {
                watched.server_to = Some((now, self.server.sample()));
            }
            progress.show(now, orders.replies.load(Ordering::Relaxed));
            let edge = [from, to].into_iter().find(|edge| *edge > now).unwrap_or(Nanos::NEVER);
            match reports.recv_timeout(PROGRESS_EVERY.min(edge.duration_since(now))) {
                Ok(report) => watched.reports.push(report),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        watched.ended = orders.clock.now();
        watched.server_to.get_or_insert_with(|| (watched.ended, self.server.sample()));
        watched
    }

    fn outcome(&self, orders: &Orders, mut watched: Watched) -> Outcome {
        let mut tally = Tally::default();
        let mut generator_cpu_ns = Some(0);
        let mut failures = Vec::new();
        for report in watched.reports.drain(..) {
            tally.add(&report.tally);
            generator_cpu_ns =
                generator_cpu_ns.zip(report.cpu_ns).map(|(sum, own): (u64, u64)| sum + own);
            failures.extend(report.failure);
        }
        // A run that ended early, or when it had no more to send, measured until it did.
        let window_end = orders.window.to.min(watched.ended);
        let elapsed = window_end.duration_since(orders.window.from);
        Outcome {
            tally,
            elapsed,
            server_cpu_ns: watched.server_cpu_ns(elapsed),
            generator_cpu_ns,
            server_cores: self.map.as_ref().map(|map| map.cores()),
            failures,
        }
    }
}

/// What [`Drive::watch`] saw.
#[derive(Default)]
struct Watched {
    reports: Vec<Report>,
    server_from: Option<(Nanos, CpuTimes)>,
    server_to: Option<(Nanos, CpuTimes)>,
    /// When the last thread was done.
    ended: Nanos,
}

impl Watched {
    /// The server's CPU time in a window of this length. On a busy machine the edges are
    /// read late, and not equally so; the time between the readings is scaled to the window.
    fn server_cpu_ns(&self, window: Duration) -> Option<u64> {
        let ((from, before), (to, after)) = (self.server_from.as_ref()?, self.server_to.as_ref()?);
        let used = after.since(before)?;
        let between = to.duration_since(*from);
        (!between.is_zero())
            .then(|| (used as f64 * window.as_secs_f64() / between.as_secs_f64()) as u64)
    }
}

/// One of `parts` nearly equal parts of the numbers below `total`.
fn part(total: usize, parts: usize, index: usize) -> Range<usize> {
    total * index / parts..total * (index + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for (total, parts) in [(50, 1), (50, 3), (2, 2), (7, 7)] {
            let covered: Vec<usize> = (0..parts).flat_map(|i| part(total, parts, i)).collect();
            assert_eq!(covered, (0..total).collect::<Vec<_>>());
        }
    }
}
