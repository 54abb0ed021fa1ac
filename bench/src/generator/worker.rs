//! One thread of the generator: its loop over sessions and sockets.
//!
//! Each turn sends what is due (open loop), waits for replies, and for every connection at
//! which replies arrived checks them and, in a closed loop, sends its next batch at once.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::codec::Codec;
use crate::measure::cpu;

use super::connect::Connected;
use super::pacer::{Pacer, Rate};
use super::session::{Formats, Session, SessionError};
use super::source::Source;
use super::tally::{Tally, Window};
use super::transport::Sockets;

/// Longest wait for replies, so that the end of a run is noticed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Waits shorter than this are spun, since a readiness wait counts in milliseconds.
const SPIN_BELOW: Duration = Duration::from_millis(2);

/// What all threads of a run go by.
#[derive(Debug)]
pub struct Orders {
    /// The run's clock.
    pub clock: Clock,
    /// What is measured.
    pub window: Window,
    /// When requests stop being sent; [`Nanos::NEVER`] to go on until there are no more.
    pub stop_at: Nanos,
    /// Requests per second of each thread in an open loop; a closed loop has none.
    pub rate: Option<Rate>,
    /// How long no reply may come while requests are under way.
    pub stall_limit: Duration,
    /// Replies so far, of all threads.
    pub replies: AtomicU64,
    /// Set by a thread that failed: the others stop too.
    pub stop: AtomicBool,
}

/// Why a thread ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No reply for too long.
    #[error(
        "the server stalled: no reply for {:.1} s with {under_way} requests under way", waited.as_secs_f64()
    )]
    Stalled {
        /// Requests without reply.
        under_way: usize,
        /// Since when.
        waited: Duration,
    },
    /// The connection broke.
    #[error("connection {connection}: {}", broken(error))]
    Broken {
        /// Which, among the thread's.
        connection: usize,
        /// How.
        error: io::Error,
    },
    /// The server sent what fits no request.
    #[error("connection {connection}: {error}")]
    Session {
        /// Which, among the thread's.
        connection: usize,
        /// What.
        error: SessionError,
    },
    /// Waiting for replies failed.
    #[error("waiting for replies: {0}")]
    Wait(io::Error),
}

fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "closed by the server".to_owned(),
        _ => error.to_string(),
    }
}

/// What a thread brings home.
#[derive(Debug)]
pub struct Report {
    /// Its counts.
    pub tally: Tally,
    /// Its CPU time within the window, in nanoseconds, where the system tells.
    pub cpu_ns: Option<u64>,
    /// Why it ended early, if it did.
    pub failure: Option<Failure>,
}

/// See the module.
pub struct Worker<'o, C, S> {
    orders: &'o Orders,
    sessions: Vec<Session<C>>,
    sockets: Sockets,
    source: S,
    formats: Formats,
    tally: Tally,
    /// Requests without reply on all connections.
    under_way: usize,
    /// The last reply, or the first request after a time without any.
    last_progress: Nanos,
}

impl<'o, C: Codec, S: Source> Worker<'o, C, S> {
    /// A worker over these connections, each with up to `pipeline` requests under way.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn new(
        orders: &'o Orders,
        connections: Vec<Connected<C>>,
        pipeline: usize,
        source: S,
        formats: Formats,
    ) -> io::Result<Worker<'o, C, S>> {
        let (streams, sessions) = connections
            .into_iter()
            .map(|connected| (connected.stream, Session::new(connected.codec, pipeline)))
            .unzip();
        Ok(Worker {
            orders,
            sessions,
            sockets: Sockets::new(streams)?,
            source,
            formats,
            tally: Tally::default(),
            under_way: 0,
            last_progress: Nanos(0),
        })
    }

    /// Runs to the end.
    pub fn run(mut self) -> Report {
        let mut meter = Meter::new(&self.orders.window);
        let failure = self.turns(&mut meter).err();
        if failure.is_some() {
            self.orders.stop.store(true, Ordering::Relaxed);
        }
        self.tally.lost += self.under_way as u64;
        Report { tally: self.tally, cpu_ns: meter.finish(), failure }
    }

    fn turns(&mut self, meter: &mut Meter) -> Result<(), Failure> {
        let orders = self.orders;
        let mut now = orders.clock.now();
        self.last_progress = now;
        let mut pacer = orders.rate.map(|rate| Pacer::new(rate, now));
        if pacer.is_none() {
            for index in 0..self.sessions.len() {
                self.send_batch(index, now)?;
            }
        }
        let mut arrived = Vec::new();
        let mut next_connection = 0;
        let mut sending = true;
        loop {
            now = orders.clock.now();
            meter.watch(now);
            if sending && (now >= orders.stop_at || orders.stop.load(Ordering::Relaxed)) {
                sending = false;
                if let Some(pacer) = &pacer {
                    self.tally.not_sent = pacer.behind(orders.stop_at);
                }
            }
            if sending && let Some(pacer) = &mut pacer {
                self.send_due(pacer, now, &mut next_connection)?;
            }
            let idle_for_good = match &pacer {
                Some(_) => !sending,
                None => true,
            };
            if self.under_way == 0 && idle_for_good {
                return Ok(());
            }
            let waited = now.duration_since(self.last_progress);
            if self.under_way > 0 && waited > orders.stall_limit {
                return Err(Failure::Stalled { under_way: self.under_way, waited });
            }
            let timeout = match &pacer {
                Some(pacer) if sending => patience(pacer.next_due().duration_since(now)),
                _ => WAIT_MAX,
            };
            arrived.clear();
            self.sockets.wait(timeout, &mut arrived).map_err(Failure::Wait)?;
            for index in arrived.drain(..) {
                now = self.take_replies(index)?;
                if sending && pacer.is_none() && self.sessions[index].under_way() == 0 {
                    if now >= orders.stop_at {
                        sending = false;
                    } else {
                        self.send_batch(index, now)?;
                    }
                }
            }
        }
    }

    /// Takes what arrived at a connection. Returns the time at which it did.
    fn take_replies(&mut self, index: usize) -> Result<Nanos, Failure> {
        let mut now = Nanos(0);
        let mut replies = 0;
        loop {
            let bytes = match self.sockets.receive(index) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => return Err(Failure::Broken { connection: index, error }),
            };
            now = self.orders.clock.now();
            let window = &self.orders.window;
            let session = &mut self.sessions[index];
            let before = session.under_way();
            let received = session.receive(bytes, now, window, &self.formats, &mut self.tally);
            self.under_way -= before - session.under_way();
            replies += received.map_err(|error| Failure::Session { connection: index, error })?;
        }
        if replies > 0 {
            self.last_progress = now;
            self.orders.replies.fetch_add(replies, Ordering::Relaxed);
        }
        Ok(now)
    }

    /// Sends a connection's whole pipeline, or what the source has left.
    fn send_batch(&mut self, index: usize, now: Nanos) -> Result<(), Failure> {
        let session = &mut self.sessions[index];
        while session.has_room() {
            let Some((operation, number)) = self.source.next(index) else { break };
            session.ask(operation, number, now, &mut self.formats);
            self.under_way += 1;
        }
        self.hand_over(index)
    }

    /// Sends all requests that are due, as far as the connections have room, each to the
    /// next connection.
    fn send_due(
        &mut self,
        pacer: &mut Pacer,
        now: Nanos,
        next_connection: &mut usize,
    ) -> Result<(), Failure> {
        let connections = self.sessions.len();
        if self.under_way == 0 {
            self.last_progress = now;
        }
        while pacer.next_due() <= now {
            let candidates = (0..connections).map(|step| (*next_connection + step) % connections);
            let with_room = candidates.into_iter().find(|index| self.sessions[*index].has_room());
            let Some(index) = with_room else { break };
            let Some((operation, number)) = self.source.next(index) else { break };
            let Some(due) = pacer.take(now) else { break };
            self.sessions[index].ask(operation, number, due, &mut self.formats);
            self.under_way += 1;
            *next_connection = (index + 1) % connections;
        }
        for index in 0..connections {
            self.hand_over(index)?;
        }
        Ok(())
    }

    fn hand_over(&mut self, index: usize) -> Result<(), Failure> {
        let output = &mut self.sessions[index].output;
        if output.is_empty() {
            return Ok(());
        }
        self.sockets
            .send(index, output)
            .map_err(|error| Failure::Broken { connection: index, error })
    }
}

/// How long to wait for replies when the next request is due after a while.
fn patience(until_due: Duration) -> Duration {
    if until_due < SPIN_BELOW { Duration::ZERO } else { (until_due - SPIN_BELOW / 2).min(WAIT_MAX) }
}

/// The thread's CPU time within the window.
#[derive(Debug)]
struct Meter {
    window: Window,
    at_start: Option<u64>,
    at_end: Option<u64>,
}

impl Meter {
    fn new(window: &Window) -> Meter {
        Meter { window: *window, at_start: None, at_end: None }
    }

    /// Reads the CPU time when an edge of the window is passed.
    fn watch(&mut self, now: Nanos) {
        if self.at_start.is_none() && now >= self.window.from {
            self.at_start = cpu::of_this_thread();
        }
        if self.at_end.is_none() && now >= self.window.to {
            self.at_end = cpu::of_this_thread();
        }
    }

    fn finish(self) -> Option<u64> {
        let end = self.at_end.or_else(cpu::of_this_thread)?;
        Some(end.saturating_sub(self.at_start?))
    }
}
