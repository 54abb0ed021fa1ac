//! The control thread: ordinary async Rust beside the data cores. It serves health and
//! metrics over HTTP, the cache itself for those who have nothing but HTTP, and turns signals
//! into a drain.
//!
//! It knows the node by two things only: [`NodeControl`], by which it asks for the phase, for
//! entries and for the end, and [`CoreSnapshots`], the numbers that the cores publish.
//! Neither makes a core wait, so the thread may stall or die without stopping one; after a
//! panic it is started again.

mod access;
pub(crate) mod cache;
mod configuration;
mod connections;
mod http;
mod metrics;
mod process;
mod signals;
mod topology;

pub(crate) use process::resident_bytes;
use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corelane_engine::counters::CATALOGUE;
use corelane_engine::{Answered, Asker, ClusterView};
use corelane_ring::Topology;
use tokio::sync::{oneshot, watch};

use crate::config::{Config, Token};
use crate::live_config::ChangeError;
use crate::topology::keeper::{RefusedTopology, Taken};

/// How many numbers a core publishes.
pub const NUMBERS: usize = CATALOGUE.len();
/// Pause before the thread's work is started again after a panic.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not yet serving.
    Starting,
    /// Serving.
    Ready,
    /// Answering what was received, taking nothing new.
    Draining,
    /// All cores have ended.
    Stopped,
}

impl Phase {
    /// The word that `/readyz` answers.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        }
    }
}

/// Requests for one core, and where their replies go.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Whole frames, as the cores of a node exchange them; their keys belong to the core.
    pub(crate) frames: Vec<u8>,
    /// Sending never waits.
    pub(crate) answer: oneshot::Sender<Answered>,
}

/// What the control thread asks of the node. No call waits for a core.
pub trait NodeControl: Send + Sync + 'static {
    /// Where the node is in its life.
    fn phase(&self) -> Phase;
    /// Begins to drain; more calls change nothing.
    fn drain(&self);
    /// Ends without waiting for clients.
    fn stop_now(&self);
    /// What the cores publish.
    fn snapshots(&self) -> &CoreSnapshots;
    /// The cluster as the node sees it, if it is in one.
    fn topology(&self) -> Option<Arc<ClusterView>>;
    /// Puts a later topology in force. May write a small file.
    ///
    /// # Errors
    /// It is not taken, and the one before stays.
    fn offer_topology(&self, topology: Topology) -> Result<Taken, RefusedTopology>;
    /// The configuration as it is now.
    fn config(&self) -> Config;
    /// Changes settings, each by name and text: all of them or none.
    ///
    /// # Errors
    /// The first that cannot be changed so.
    fn change(&self, settings: &[(String, String)]) -> Result<(), ChangeError>;
    /// Brings the cores' shares of the memory a step closer to the slots that each has.
    fn divide_memory(&self);
    /// Answers a client that asked for a change.
    fn grant(&self, asker: Asker, outcome: Result<(), String>);
    /// The core that owns a key.
    fn core_of(&self, key: &[u8]) -> u16;
    /// Has a core execute request frames of its keys, encoded as the cores of a node exchange
    /// them. Nothing comes where the core ends before. Whoever calls bounds how many are
    /// under way.
    fn ask(&self, core: u16, frames: Vec<u8>) -> oneshot::Receiver<Answered>;
}

/// The numbers that each core publishes.
#[derive(Clone, Debug)]
pub struct CoreSnapshots {
    cores: Vec<Arc<CoreSnapshot>>,
}

impl CoreSnapshots {
    /// Snapshots of so many cores, all numbers zero.
    pub fn new(cores: usize) -> CoreSnapshots {
        CoreSnapshots { cores: (0..cores).map(|_| Arc::default()).collect() }
    }

    /// In the order of the cores. Each core holds its own to publish into.
    pub fn cores(&self) -> &[Arc<CoreSnapshot>] {
        &self.cores
    }

    /// One number, by its name in [`CATALOGUE`], over all cores.
    pub fn sum(&self, name: &str) -> Option<u64> {
        let index = CATALOGUE.iter().position(|info| info.name == name)?;
        Some(self.cores.iter().map(|core| core.read()[index]).sum())
    }

    /// One number, by its name in [`CATALOGUE`], of each core.
    ///
    /// # Panics
    /// There is no such number.
    pub fn each(&self, name: &str) -> Vec<u64> {
        let index = CATALOGUE.iter().position(|info| info.name == name);
        let index = index.expect("a number of the catalogue");
        self.cores.iter().map(|core| core.read()[index]).collect()
    }
}

/// One core's numbers, in the order of [`CATALOGUE`]. The core writes, others read. Each
/// number is right by itself; two of them may be from different turns.
#[derive(Debug)]
pub struct CoreSnapshot {
    values: [AtomicU64; NUMBERS],
}

impl Default for CoreSnapshot {
    fn default() -> CoreSnapshot {
        CoreSnapshot { values: [const { AtomicU64::new(0) }; NUMBERS] }
    }
}

impl CoreSnapshot {
    /// Replaces all numbers.
    pub fn publish(&self, values: &[u64; NUMBERS]) {
        for (shared, value) in self.values.iter().zip(values) {
            shared.store(*value, Ordering::Relaxed);
        }
    }

    /// All numbers.
    pub fn read(&self) -> [u64; NUMBERS] {
        std::array::from_fn(|index| self.values[index].load(Ordering::Relaxed))
    }
}

/// What the node says of itself in its metrics.
#[derive(Clone, Debug)]
pub struct About {
    /// The version of the program.
    pub version: &'static str,
    /// The node's name.
    pub node_name: String,
    /// The kernel interface in use: `uring` or `epoll`.
    pub io: &'static str,
    /// What the process was given, in bytes.
    pub memory: u64,
}

/// Where signals come from.
#[derive(Debug)]
pub enum Signals {
    /// SIGTERM and SIGINT of this process.
    Process,
    /// Whoever holds the other end: each change is a signal.
    Channel(watch::Receiver<()>),
    /// None are handled.
    Ignored,
}

/// The cache over HTTP.
#[derive(Debug)]
pub struct HttpConfig {
    /// The bound listener.
    pub listener: TcpListener,
    /// Longest value, in bytes.
    pub value_bytes_max: usize,
}

impl HttpConfig {
    fn try_clone(&self) -> io::Result<HttpConfig> {
        let listener = self.listener.try_clone()?;
        Ok(HttpConfig { listener, value_bytes_max: self.value_bytes_max })
    }
}

/// What the control thread is told at start.
#[derive(Debug)]
pub struct ControlConfig {
    /// The bound admin listener, if there is to be one.
    pub listener: Option<TcpListener>,
    /// The cache over HTTP, if it is to be served.
    pub http: Option<HttpConfig>,
    /// What readers of metrics, and everybody who comes over HTTP, must prove, if anything.
    pub auth_token: Option<Token>,
    /// What the node is.
    pub about: About,
    /// Where signals come from.
    pub signals: Signals,
}

/// Why the control thread did not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// An address cannot be had.
    #[error("cannot serve the {port} port on {address}: {error}{hint}", hint = bind_hint(error))]
    Bind {
        /// What was to be served there.
        port: &'static str,
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The system refused the thread or its event queue.
    #[error("cannot start the control thread: {0}")]
    Thread(#[from] io::Error),
}

/// What to do about a failed bind, for its message.
pub fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another process listens there: stop it, or choose another)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
        _ => "",
    }
}

/// Binds the address of a port that is called so.
///
/// # Errors
/// The address cannot be had; the message names it.
pub fn bind(port: &'static str, address: SocketAddr) -> Result<TcpListener, ControlError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| ControlError::Bind { port, address, error })
}

/// What the thread's parts share; it outlives a restart of the thread's work.
struct Shared {
    node: OnceLock<Arc<dyn NodeControl>>,
    auth_token: Option<Token>,
    /// Whether only this machine reaches what is served over HTTP.
    is_local: bool,
    about: About,
    started: Instant,
    /// Whether a second signal came.
    forced: AtomicBool,
}

/// How the node's end was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Not by a second signal: whoever was still connected was waited for.
    Drained,
    /// By a second signal.
    Forced,
}

impl Shared {
    fn phase(&self) -> Phase {
        self.node.get().map_or(Phase::Starting, |node| node.phase())
    }

    fn ending(&self) -> Ending {
        if self.forced.load(Ordering::Acquire) { Ending::Forced } else { Ending::Drained }
    }
}

/// The running control thread. Dropping it leaves the thread running.
pub struct Control {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts the thread, and returns once it handles signals. Until [`Control::attach`] the
    /// node counts as starting.
    ///
    /// # Errors
    /// The system refused the thread or what it needs.
    pub fn start(config: ControlConfig) -> Result<Control, ControlError> {
        let http = config.http.as_ref().map(|http| &http.listener);
        let mut listeners = config.listener.iter().chain(http);
        let is_local = listeners
            .all(|listener| listener.local_addr().is_ok_and(|address| address.ip().is_loopback()));
        let shared = Arc::new(Shared {
            node: OnceLock::new(),
            auth_token: config.auth_token,
            is_local,
            about: config.about,
            started: Instant::now(),
            forced: AtomicBool::new(false),
        });
        let (stop, stopped) = watch::channel(false);
        let (begun, has_begun) = mpsc::channel();
        let mut work = Work {
            shared: Arc::clone(&shared),
            listener: config.listener,
            http: config.http,
            signals: config.signals,
            stopped,
            begun: Some(begun),
        };
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || supervise(|| work.run()))?;
        has_begun.recv().expect("the thread says how it began")?;
        Ok(Control { shared, stop, thread })
    }

    /// Hands over the node once it has started.
    pub fn attach(&self, node: Arc<dyn NodeControl>) {
        // There is one node a process; a second one would be ignored.
        let _ = self.shared.node.set(node);
    }

    /// Ends the thread, waits for it, and tells how the node's end was asked for.
    pub fn stop(self) -> Ending {
        let _ = self.stop.send(true);
        let _ = self.thread.join();
        self.shared.ending()
    }
}

/// What the thread does, and does again after a panic.
struct Work {
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
    http: Option<HttpConfig>,
    signals: Signals,
    stopped: watch::Receiver<bool>,
    /// Where the thread's starter waits to be told that it runs, or why it does not.
    begun: Option<mpsc::Sender<io::Result<()>>>,
}

impl Work {
    /// Runs until the thread is told to stop, or could not even begin.
    fn run(&mut self) -> io::Result<()> {
        let result = self.serve();
        match (self.begun.take(), result) {
            (Some(begun), Err(error)) => {
                // The starter waits for it.
                let _ = begun.send(Err(error));
                Ok(())
            }
            (_, result) => result,
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut stopped = self.stopped.clone();
        runtime.block_on(async {
            let signals = signals::Source::of(&mut self.signals)?;
            let listener = self.listener.as_ref().map(TcpListener::try_clone).transpose()?;
            let http = self.http.as_ref().map(HttpConfig::try_clone).transpose()?;
            if let Some(begun) = self.begun.take() {
                // The starter waits for it.
                let _ = begun.send(Ok(()));
            }
            let signals = signals.handle(&self.shared);
            let admin = http::serve(listener, Arc::clone(&self.shared));
            let cache = cache::serve(http, Arc::clone(&self.shared));
            tokio::select! {
                () = signals => Ok(()),
                result = admin => result,
                result = cache => result,
                // An error means that the handle is gone; the thread then lives with the process.
                Ok(_) = stopped.wait_for(|stopped| *stopped) => Ok(()),
            }
        })
    }
}

/// Runs `work` until it returns; starts it again after a panic or an error.
fn supervise(mut work: impl FnMut() -> io::Result<()>) {
    loop {
        match catch_unwind(AssertUnwindSafe(&mut work)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!("the control thread failed and restarts: {error}"),
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                tracing::error!("the control thread panicked and restarts: {message}");
            }
        }
        std::thread::sleep(RESTART_PAUSE);
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
