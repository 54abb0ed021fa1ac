//! `floors`: what the kernel alone costs, by the runtime that asks it.
//!
//! The same two services ([`service`]) on each I/O runtime: fixed replies, and a small
//! cache. Every server is a thread of this process, pinned to one CPU; the generator is on
//! another. For each pipeline the servers take turns of one short slice each, and CPU time
//! of the server's thread for each operation is compared within a turn.

pub mod epoll;
#[cfg(feature = "glommio")]
pub mod glommio;
pub mod service;
mod table;
pub mod uring;

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use crate::cli::FloorsOptions;
use crate::codec::Codec;
use crate::codec::fixed::Fixed;
use crate::codec::native::Native;
use crate::generator::{Address, Drive, DriveError, Outcome, Plan, Task};
use crate::measure::cpu::{self, ServerThreads};
use crate::measure::paired::{Samples, Spread};
use crate::progress::Progress;
use crate::workload::{Distribution, Steer, Workload};

use service::{FixedReplies, Service, SmallCache};

/// Load before each slice, so that connections and caches are warm.
const WARMUP: Duration = Duration::from_millis(200);

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum FloorsError {
    /// A server could not start.
    #[error("the {runtime} server did not start: {error}")]
    Server {
        /// Which.
        runtime: Runtime,
        /// Why.
        error: io::Error,
    },
    /// The load could not start.
    #[error("{runtime}: {error}")]
    Drive {
        /// Under which server.
        runtime: Runtime,
        /// Why.
        error: DriveError,
    },
    /// A server answered wrongly, or not at all.
    #[error("the {runtime} server failed: {reason}")]
    Faulty {
        /// Which.
        runtime: Runtime,
        /// How.
        reason: String,
    },
}

/// What brings bytes to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Raw io_uring.
    Uring,
    /// Readiness.
    Epoll,
    /// The glommio executor.
    #[cfg(feature = "glommio")]
    Glommio,
}

impl Runtime {
    /// Those that were built, the first being what the others are compared with.
    pub const ALL: &[Runtime] = &[
        Runtime::Uring,
        Runtime::Epoll,
        #[cfg(feature = "glommio")]
        Runtime::Glommio,
    ];

    fn serve(self, listener: TcpListener, post: &Post, service: impl Service) -> io::Result<()> {
        match self {
            Runtime::Uring => uring::serve(listener, post, service),
            Runtime::Epoll => epoll::serve(listener, post, service),
            #[cfg(feature = "glommio")]
            Runtime::Glommio => glommio::serve(listener, post, service),
        }
    }
}

impl std::fmt::Display for Runtime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Runtime::Uring => "io_uring",
            Runtime::Epoll => "epoll",
            #[cfg(feature = "glommio")]
            Runtime::Glommio => "glommio",
        })
    }
}

/// What a server does with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Fixed replies.
    Fixed,
    /// A small cache.
    Cache,
}

impl Work {
    const ALL: [Work; 2] = [Work::Fixed, Work::Cache];
}

/// What a server's thread has to do with whoever started it.
#[derive(Debug)]
pub struct Post {
    /// Set when it shall end.
    stop: Arc<AtomicBool>,
    /// Told the thread's id once clients can connect.
    started: mpsc::Sender<Option<i32>>,
}

impl Post {
    /// Says that clients can connect from now on.
    pub fn ready(&self) {
        // Whoever started the thread waits for this.
        let _ = self.started.send(cpu::this_thread());
    }

    /// Whether to end.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A running floor server.
#[derive(Debug)]
pub struct Server {
    address: Address,
    threads: ServerThreads,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Starts one on loopback, pinned to a CPU where one is given.
    ///
    /// # Errors
    /// It could not listen, or its thread not start.
    pub fn start(
        runtime: Runtime,
        service: impl Service,
        cpu: Option<usize>,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = Address::Tcp(listener.local_addr()?.to_string());
        let stop = Arc::new(AtomicBool::new(false));
        let (started, thread_id) = mpsc::channel();
        let post = Post { stop: stop.clone(), started };
        let name = format!("floor-{runtime}");
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            if let Some(id) = cpu {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            runtime.serve(listener, &post, service)
        })?;
        match thread_id.recv() {
            Ok(id) => {
                let threads = id.map_or(ServerThreads::Unknown, |id| ServerThreads::Here(vec![id]));
                Ok(Server { address, threads, stop, thread: Some(thread) })
            }
            Err(mpsc::RecvError) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(io::Error::other("its thread ended at once")),
            },
        }
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Its thread.
    pub fn threads(&self) -> &ServerThreads {
        &self.threads
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A server that failed was noticed by the load, which says more of it.
            let _ = thread.join();
        }
    }
}

/// One server at one pipeline.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it does.
    pub work: Work,
    /// On what.
    pub runtime: Runtime,
    /// Requests under way on each connection.
    pub pipeline: usize,
    /// CPU time of its thread, µs an operation.
    pub cpu_us_per_op: Spread,
    /// The same as a ratio to io_uring's of the same turn.
    pub ratio_to_uring: Spread,
    /// Operations a second.
    pub ops_per_s: Spread,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The generator's version.
    pub version: &'static str,
    /// The whole configuration.
    pub config: FloorsOptions,
    /// The results.
    pub rows: Vec<Row>,
}

/// Compares, and prints.
///
/// # Errors
/// See [`FloorsError`].
pub fn run(options: &FloorsOptions) -> Result<ExitCode, FloorsError> {
    let comparison = compare(options)?;
    if options.json {
        let json = serde_json::to_string_pretty(&comparison);
        println!("{}", json.expect("a comparison has only plain fields"));
    } else {
        print!("{}", table::draw(&comparison));
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts all servers, and has them take turns.
///
/// # Errors
/// See [`FloorsError`].
pub fn compare(options: &FloorsOptions) -> Result<Comparison, FloorsError> {
    let options = &with_cpus(options.clone());
    let mut rows = Vec::new();
    for work in Work::ALL {
        let mut servers = Vec::new();
        for &runtime in Runtime::ALL {
            let cpu = options.server_cpu;
            let server = match work {
                Work::Fixed => Server::start(runtime, FixedReplies, cpu),
                Work::Cache => Server::start(runtime, SmallCache::default(), cpu),
            };
            let server = server.map_err(|error| FloorsError::Server { runtime, error })?;
            if work == Work::Cache {
                slice(options, runtime, work, &server, Task::Fill)?;
            }
            servers.push((runtime, server));
        }
        for &pipeline in &options.pipelines {
            rows.extend(rotate(options, work, pipeline, &servers)?);
        }
    }
    Ok(Comparison { version: env!("CARGO_PKG_VERSION"), config: options.clone(), rows })
}

/// Puts servers and generator on the first two CPUs that are theirs to use, where nobody
/// chose and there are two.
fn with_cpus(mut options: FloorsOptions) -> FloorsOptions {
    if options.server_cpu.is_none() && options.cpu.is_none() {
        let cpus = core_affinity::get_core_ids().unwrap_or_default();
        if let [first, second, ..] = cpus[..] {
            options.server_cpu = Some(first.id);
            options.cpu = Some(second.id);
        }
    }
    options
}

/// One pipeline: turns of a slice for every server, each turn begun by another of them.
fn rotate(
    options: &FloorsOptions,
    work: Work,
    pipeline: usize,
    servers: &[(Runtime, Server)],
) -> Result<Vec<Row>, FloorsError> {
    let mut costs = vec![Samples::default(); servers.len()];
    let mut rates = vec![Samples::default(); servers.len()];
    for turn in 0..options.reps {
        for step in 0..servers.len() {
            let index = (turn + step) % servers.len();
            let (runtime, server) = &servers[index];
            let task =
                Task::Timed { pipeline, warmup: WARMUP, duration: options.slice, rate: None };
            let outcome = slice(options, *runtime, work, server, task)?;
            let ops = outcome.tally.ops as f64;
            let cpu_us = outcome.server_cpu_ns.unwrap_or(0) as f64 / 1e3;
            costs[index].push(cpu_us / ops);
            rates[index].push(ops / outcome.elapsed.as_secs_f64());
        }
        eprintln!("{work:?} at pipeline {pipeline}: turn {} of {}", turn + 1, options.reps);
    }
    let rows = servers.iter().enumerate().map(|(index, (runtime, _))| {
        Some(Row {
            work,
            runtime: *runtime,
            pipeline,
            cpu_us_per_op: costs[index].spread()?,
            ratio_to_uring: costs[index].ratio_to(&costs[0])?,
            ops_per_s: rates[index].spread()?,
        })
    });
    Ok(rows.flatten().collect())
}

fn slice(
    options: &FloorsOptions,
    runtime: Runtime,
    work: Work,
    server: &Server,
    task: Task,
) -> Result<Outcome, FloorsError> {
    let plan = Plan {
        address: server.address(),
        token: Vec::new(),
        connections: options.connections,
        threads: 1,
        cpus: options.cpu.into_iter().collect(),
        steer: Steer::Any,
        workload: Workload {
            keys: options.keys,
            key_bytes: 16,
            value_bytes: options.value_size,
            get_share: 0.95,
            distribution: Distribution::Uniform,
            seed: 1,
        },
        stall_limit: Duration::from_secs(5),
    };
    let outcome = match work {
        Work::Fixed => {
            let value_bytes = options.value_size;
            drive(&plan, &server.threads, || Fixed { value_bytes }, task)
        }
        Work::Cache => drive(&plan, &server.threads, || Native, task),
    };
    let outcome = outcome.map_err(|error| FloorsError::Drive { runtime, error })?;
    let reason = match outcome.failures.first() {
        Some(failure) => failure.to_string(),
        None if outcome.tally.is_clean() => return Ok(outcome),
        None => format!(
            "{} errors, {} wrong values, {} lost",
            outcome.tally.errors, outcome.tally.wrong_values, outcome.tally.lost
        ),
    };
    Err(FloorsError::Faulty { runtime, reason })
}

fn drive<C: Codec>(
    plan: &Plan,
    server: &ServerThreads,
    make_codec: impl Fn() -> C,
    task: Task,
) -> Result<Outcome, DriveError> {
    Drive::new(plan, server, make_codec)?.run(task, &Progress::hidden())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every server answers every request rightly.
    #[test]
    fn every_floor_serves() {
        let options = FloorsOptions {
            pipelines: vec![1, 16],
            reps: 1,
            slice: Duration::from_millis(30),
            connections: 4,
            keys: 1_000,
            value_size: 64,
            server_cpu: None,
            cpu: None,
            json: false,
        };
        let comparison = compare(&options).unwrap();
        assert_eq!(comparison.rows.len(), 2 * Runtime::ALL.len() * 2);
        for row in &comparison.rows {
            assert!(row.ops_per_s.median > 0.0, "{row:?}");
        }
        let text = table::draw(&comparison);
        for runtime in Runtime::ALL {
            assert!(text.contains(&runtime.to_string()), "{text}");
        }
    }
}
